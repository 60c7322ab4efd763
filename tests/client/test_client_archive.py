"""The ZIP made on the way: its size is known beforehand, its bytes are decided, and everybody reads it."""

import io
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from modelreg.archive import Archive, Entry, ShortRead
from modelreg.errors import InvalidInput
from modelreg.source import check_clashes, check_name

from chalicelib.registry.archives import inspect_archive

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\\", exclude_categories=("Cc", "Cs")), min_size=1).map(
    lambda text: f"{text.strip(' ./')[:20]}x"
)
FILES = st.dictionaries(NAMES.map(str.casefold), st.binary(max_size=300), min_size=1, max_size=6)


def produced(files: dict[str, bytes], *, buffer_bytes: int = 1 << 16, zip64_from: int = 0xFFFF_FFFF) -> bytes:
    """The archive of these files, read in pieces of buffer_bytes."""

    @contextmanager
    def open_file(entry: Entry) -> Iterator[io.BytesIO]:
        yield io.BytesIO(files[entry.path.decode()])

    entries = [Entry(name.encode(), len(content)) for name, content in files.items()]
    archive = Archive(entries, zip64_from=zip64_from)
    stream = archive.stream(open_file)
    pieces, buffer = [], bytearray(buffer_bytes)
    while count := stream.readinto(memoryview(buffer)):
        pieces.append(bytes(buffer[:count]))
    content = b"".join(pieces)
    assert len(content) == archive.size_bytes
    return content


def contents(archive: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        assert opened.testzip() is None
        return {info.filename: opened.read(info) for info in opened.infolist()}


@given(FILES, st.integers(1, 400), st.sampled_from([1, 40, 200, 0xFFFF_FFFF]))
def test_its_size_is_known_and_it_holds_the_files_however_it_is_read(
    files: dict[str, bytes], buffer_bytes: int, zip64_from: int
) -> None:
    archive = produced(files, buffer_bytes=buffer_bytes, zip64_from=zip64_from)

    assert contents(archive) == files


def is_accepted_here(names: Iterable[str]) -> bool:
    """Whether a directory of these files may exist, and may be registered."""
    try:
        for name in names:
            check_name(name)
        check_clashes(list(names))
    except InvalidInput:
        return False
    return all(part not in ("", ".", "..") for name in names for part in name.split("/"))


@given(FILES, st.sampled_from([1, 100, 0xFFFF_FFFF]))
def test_what_is_accepted_here_the_registry_accepts_too(files: dict[str, bytes], zip64_from: int) -> None:
    assume(is_accepted_here(files))

    report = inspect_archive(io.BytesIO(produced(files, zip64_from=zip64_from)))

    assert {entry.path: entry.size_bytes for entry in report.entries} == {
        name: len(content) for name, content in files.items()
    }


def test_the_same_files_give_the_same_bytes_in_whatever_order_they_come() -> None:
    files = {"b": b"2", "a/z": b"1", "a.b": b"3", "é": b"4"}

    one = produced(files)
    other = produced(dict(reversed(files.items())))

    assert one == other
    assert list(contents(one)) == ["a.b", "a/z", "b", "é"]


def test_entries_are_stored_with_one_time_and_one_mode() -> None:
    archive = produced({"a": b"1", "b": b""})

    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        for info in opened.infolist():
            assert info.compress_type == zipfile.ZIP_STORED
            assert info.date_time == (1980, 1, 1, 0, 0, 0)
            assert info.external_attr >> 16 == 0o100644
            assert info.flag_bits == 0x808


def test_classic_archives_have_no_zip64_records() -> None:
    archive = produced({"a": b"1"})

    assert b"PK\x06\x06" not in archive


def test_zip64_appears_only_in_the_entries_that_need_it() -> None:
    archive = produced({"a": b"1", "b": b"2" * 500, "c": b"3"}, zip64_from=500)

    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        assert [info.extract_version for info in opened.infolist()] == [20, 45, 45]
    assert b"PK\x06\x06" in archive


def test_a_file_shorter_than_announced_is_noticed() -> None:
    @contextmanager
    def open_file(_: Entry) -> Iterator[io.BytesIO]:
        yield io.BytesIO(b"12")

    stream = Archive([Entry(b"a", 3)]).stream(open_file)

    with pytest.raises(ShortRead):
        stream.readinto(memoryview(bytearray(100)))


# unzip judges where it is installed; Python's own reader judges everywhere.
JUDGES = [[sys.executable, "-m", "zipfile", "-t"], *([["unzip", "-tq"]] if shutil.which("unzip") else [])]


@pytest.mark.parametrize("judge", JUDGES, ids=lambda judge: judge[0].rpartition("/")[2])
@pytest.mark.parametrize("zip64_from", [10, 0xFFFF_FFFF])
def test_other_tools_read_it(tmp_path: Path, zip64_from: int, judge: list[str]) -> None:
    files = {"model.xml": b"<net/>", "data/model.bin": b"\0" * 5000, "leer": b"", "größe.txt": b"1"}
    path = tmp_path / "model.zip"
    path.write_bytes(produced(files, zip64_from=zip64_from))

    checked = subprocess.run([*judge, path], capture_output=True, text=True)

    assert checked.returncode == 0, checked.stdout + checked.stderr
