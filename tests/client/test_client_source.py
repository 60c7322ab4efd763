"""What may be registered, and that it is what it was when it was looked at."""

import io
import os
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from modelreg.errors import InvalidInput, LocalError, SourceChanged, TooLarge
from modelreg.source import Source, check_clashes, survey

from chalicelib.registry.archives import inspect_archive


def tree(root: Path, **files: bytes) -> Path:
    """Files under root; a double underscore in a name stands for a dot, a single one for a slash."""
    for name, content in files.items():
        path = root / name.replace("__", ".").replace("_", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def bytes_of(source: Source, buffer_bytes: int = 700) -> bytes:
    pieces, buffer = [], bytearray(buffer_bytes)
    with source.open() as stream:
        while count := stream.readinto(memoryview(buffer)):
            pieces.append(bytes(buffer[:count]))
    return b"".join(pieces)


def test_a_file_is_sent_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "weights.onnx"
    path.write_bytes(b"12345" * 500)

    source = survey(path)

    assert (source.file_name, source.media_type, source.size_bytes) == (
        "weights.onnx",
        "application/octet-stream",
        2500,
    )
    assert bytes_of(source) == b"12345" * 500


def test_a_zip_is_announced_as_one(tmp_path: Path) -> None:
    path = tmp_path / "model.ZIP"
    path.write_bytes(b"any")

    assert survey(path).media_type == "application/zip"


def test_a_directory_becomes_a_zip_that_the_registry_accepts(tmp_path: Path) -> None:
    root = tree(tmp_path / "detector", model__xml=b"<net/>", sub_model__bin=b"\0" * 3000, sub_empty=b"")

    source = survey(root)
    content = bytes_of(source)

    assert (source.file_name, source.media_type) == ("detector.zip", "application/zip")
    assert len(content) == source.size_bytes
    inspect_archive(io.BytesIO(content))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.namelist() == ["model.xml", "sub/empty", "sub/model.bin"]


def test_the_same_tree_elsewhere_and_at_another_time_gives_the_same_bytes(tmp_path: Path) -> None:
    one = tree(tmp_path / "one" / "m", b=b"2", a_c=b"1")
    other = tree(tmp_path / "other" / "m", a_c=b"1", b=b"2")
    os.utime(other / "b", (1, 1))
    (other / "b").chmod(0o600)
    (other / "hollow").mkdir()

    assert bytes_of(survey(one)) == bytes_of(survey(other))


def test_the_current_directory_goes_by_its_real_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree(tmp_path / "detector", a=b"1"))

    assert survey(".").file_name == "detector.zip"


def test_a_directory_without_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "hollow" / "deeper").mkdir(parents=True)

    with pytest.raises(InvalidInput, match="holds no file"):
        survey(tmp_path / "hollow")


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.onnx").touch()

    with pytest.raises(InvalidInput, match="is empty"):
        survey(tmp_path / "empty.onnx")


def test_an_empty_path_is_not_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree(tmp_path / "m", a=b"1"))

    with pytest.raises(InvalidInput, match="empty"):
        survey("")


def test_a_missing_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="nothing_here"):
        survey(tmp_path / "nothing_here")


@pytest.mark.parametrize("to", ["a", "/etc/hostname", "missing", "."])
def test_a_symbolic_link_is_refused_by_name(tmp_path: Path, to: str) -> None:
    root = tree(tmp_path / "m", a=b"1")
    (root / "link").symlink_to(to)

    with pytest.raises(InvalidInput, match=r"m/link is a symbolic link"):
        survey(root)


def test_a_link_that_the_caller_names_is_followed(tmp_path: Path) -> None:
    tree(tmp_path / "run-7", a=b"1")
    (tmp_path / "latest").symlink_to("run-7")

    assert survey(tmp_path / "latest").file_name == "latest.zip"


@pytest.mark.parametrize("name", ["a\nb", "a\\b", "C:b", "\x7f"])
def test_names_that_the_registry_refuses_are_refused_before_anything_is_sent(tmp_path: Path, name: str) -> None:
    root = tree(tmp_path / "m", a=b"1")
    (root / name).write_bytes(b"2")

    with pytest.raises(InvalidInput, match="The path"):
        survey(root)


@pytest.mark.parametrize("other", ["Model.BIN", "model.bin.", "model.bin "])
def test_files_that_are_one_on_some_devices_are_refused(other: str) -> None:
    with pytest.raises(InvalidInput, match="cannot both be extracted"):
        check_clashes(["model.bin", other])


def test_a_directory_is_looked_through_for_such_names(tmp_path: Path) -> None:
    root = tree(tmp_path / "m", a=b"1")
    (root / "a.").write_bytes(b"2")

    with pytest.raises(InvalidInput, match="cannot both be extracted"):
        survey(root)


@pytest.mark.parametrize("other", ["a/ /b", "a/. ./b.", " /A /B"])
def test_folders_whose_names_some_devices_drop_hide_no_clash(other: str) -> None:
    with pytest.raises(InvalidInput, match="cannot both be extracted"):
        check_clashes(["a/b", other])


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names themselves")
def test_a_name_that_is_no_utf8_is_refused(tmp_path: Path) -> None:
    root = tree(tmp_path / "m", a=b"1")
    Path(os.fsdecode(os.fsencode(root) + b"/\xff")).write_bytes(b"2")

    with pytest.raises(InvalidInput, match="UTF-8"):
        survey(root)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names themselves")
def test_a_directory_whose_own_name_is_no_utf8_is_refused(tmp_path: Path) -> None:
    root = tree(Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff")), a=b"1")

    with pytest.raises(InvalidInput, match="UTF-8"):
        survey(root)


def test_a_special_file_is_refused(tmp_path: Path) -> None:
    root = tree(tmp_path / "m", a=b"1")
    os.mkfifo(root / "pipe")

    with pytest.raises(InvalidInput, match="special file"):
        survey(root)


def test_more_files_than_an_archive_may_have_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelreg.source.MAX_ENTRIES", 2)

    with pytest.raises(InvalidInput, match="holds 3 files"):
        survey(tree(tmp_path / "m", a=b"1", b=b"1", c=b"1"))


def test_more_bytes_than_an_archive_may_hold_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelreg.source.MAX_INFLATED_BYTES", 2)

    with pytest.raises(TooLarge):
        survey(tree(tmp_path / "m", a=b"123"))


def test_what_an_interrupted_transfer_keeps_is_not_part_of_a_model(tmp_path: Path) -> None:
    root = tree(tmp_path / "m", a=b"1")
    for name in (".a.modelreg-upload.json", ".a.modelreg-upload.lock", ".a.12345678.modelreg-part"):
        (root / name).write_bytes(b"ours")

    assert [file.name for file in survey(root).files] == ["a"]


@pytest.mark.parametrize("is_directory", [True, False])
@pytest.mark.parametrize("change", ["grows", "shrinks", "is touched", "is gone"])
def test_a_file_that_changes_before_it_is_read_stops_the_reading(
    tmp_path: Path, change: str, is_directory: bool
) -> None:
    root = tree(tmp_path / "m", a=b"1", b=b"2" * 2000)
    source = survey(root if is_directory else root / "b")
    if change == "is gone":
        (root / "b").unlink()
    elif change == "is touched":
        os.utime(root / "b", ns=(1, 1))
    else:
        (root / "b").write_bytes(b"2" * (2001 if change == "grows" else 1999))

    with pytest.raises(SourceChanged):
        bytes_of(source)


def test_a_time_of_modification_that_was_set_back_does_not_hide_a_change(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    now = survey(path)
    before = replace(now, files=(replace(now.files[0], ctime_ns=1),))

    assert before.fingerprint != now.fingerprint
    with pytest.raises(SourceChanged), before.open():
        pass


@pytest.mark.parametrize("is_directory", [True, False])
def test_a_file_that_changes_while_it_is_read_stops_the_reading(tmp_path: Path, is_directory: bool) -> None:
    root = tree(tmp_path / "m", b=b"2" * 2000)
    source = survey(root if is_directory else root / "b")

    with source.open() as stream:
        stream.readinto(memoryview(bytearray(500)))
        os.utime(root / "b", ns=(1, 1))

        with pytest.raises(SourceChanged):
            stream.readinto(memoryview(bytearray(5000)))


@pytest.mark.parametrize("change", ["content", "mtime", "name", "new file"])
def test_the_fingerprint_tells_sources_apart(tmp_path: Path, change: str) -> None:
    root = tree(tmp_path / "m", a=b"1")
    before = survey(root).fingerprint
    if change == "content":
        (root / "a").write_bytes(b"12")
    elif change == "mtime":
        os.utime(root / "a", ns=(5, 5))
    elif change == "name":
        (root / "a").rename(root / "b")
    else:
        (root / "b").write_bytes(b"")

    assert survey(root).fingerprint != before
