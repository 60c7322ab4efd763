"""A tree as one archive: what clients in the field make of it, and that it is the same bytes each time."""

import io
import zipfile
from collections.abc import Iterator

import pytest

from chalicelib.registry.archives import inspect_archive
from chalicelib.registry.packing import archive_of, folder_for
from chalicelib.registry.trees import TreeFile

CONTENTS = {"MLmodel": b"flavors: {}\n", "data/model.pkl": bytes(range(256)) * 99, "empty": b"", "ä ö/日本.txt": b"x"}


def packed(contents: dict[str, bytes], chunk_bytes: int = 1000) -> bytes:
    def chunks(file: TreeFile) -> Iterator[bytes]:
        content = contents[file.path]
        yield from (content[at : at + chunk_bytes] for at in range(0, len(content), chunk_bytes))

    files = [(path, TreeFile(path=path, key="k", size=len(content))) for path, content in sorted(contents.items())]
    return b"".join(archive_of(files, chunks))


def as_a_video_server_unpacks(archive: bytes) -> dict[str, bytes]:
    """Keeps paths if `deployment` is in the first entry's name, else strips that name from all others."""
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        first, *others = opened.namelist()
        assert "deployment" not in first
        return {name.replace(first, ""): opened.read(name) for name in others}


def test_a_server_that_strips_the_first_name_gets_the_files_as_they_were() -> None:
    assert as_a_video_server_unpacks(packed(CONTENTS)) == CONTENTS


def test_one_that_just_unpacks_gets_them_in_one_folder() -> None:
    with zipfile.ZipFile(io.BytesIO(packed(CONTENTS))) as opened:
        assert opened.testzip() is None
        assert {name: opened.read(name) for name in opened.namelist()} == {
            "model/": b"",
            **{f"model/{path}": content for path, content in CONTENTS.items()},
        }


@pytest.mark.parametrize("path", ["model/x", "a/model/x", "mymodel/x", "model/model-1/model-2/x"])
def test_a_file_whose_path_has_the_name_of_the_folder_keeps_it(path: str) -> None:
    assert as_a_video_server_unpacks(packed({path: b"1", "y": b"2"})) == {path: b"1", "y": b"2"}


def test_the_folder_has_a_name_that_is_in_no_path() -> None:
    assert folder_for(["a", "b/c"]) == "model/"
    assert folder_for(["model/a", "x/model-1/b"]) == "model-2/"


def test_it_is_the_same_bytes_however_they_come() -> None:
    assert packed(CONTENTS, chunk_bytes=7) == packed(CONTENTS, chunk_bytes=100_000)


def test_the_registry_takes_it_for_an_archive_of_mlflow() -> None:
    report = inspect_archive(io.BytesIO(packed(CONTENTS)))

    assert report.format == "MLflow"
    assert report.size_bytes == sum(map(len, CONTENTS.values()))


def test_sizes_of_more_than_four_gibibytes_have_eight_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 1000)

    archive = packed({"large": b"x" * 5000, "small": b"y"})

    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        assert (opened.read("model/large"), opened.read("model/small")) == (b"x" * 5000, b"y")
    assert inspect_archive(io.BytesIO(archive)).size_bytes == 5001
