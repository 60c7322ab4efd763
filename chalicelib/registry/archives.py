"""What an archive may be, and what an accepted one holds.

inspect_archive promises that an accepted archive extracts to the same files everywhere, inside the folder it is
extracted into, and to a size its own size bears out. It reads any seekable file, never the whole of a large one:

    always           directory, paths, kinds, sizes, overlaps; local headers, as far as LOCAL_HEADER_READS go
    up to 8 MiB      also every content against its size and CRC-32, up to VERIFIED_BYTES inflated. Of larger ones S3
                     checked the digest of each part; inflating them would take longer than a request may.
"""

import io
import re
import stat
import unicodedata
from collections import deque
from itertools import pairwise
from typing import BinaryIO

from pydantic import BaseModel, ConfigDict

from chalicelib.registry.errors import InvalidArchive
from chalicelib.registry.formats import (
    MAGIC_BYTES,
    MLFLOW,
    OPENVINO,
    choose_format,
    detect_formats,
    format_of_file,
)
from chalicelib.registry.openvino import IrInfo
from chalicelib.registry.zip_reader import (
    DEFLATED,
    ENCRYPTED_FLAGS,
    PATCHED_FLAG,
    STORED,
    Entry,
    RangeReader,
    check_local_headers,
    content,
    quoted,
    read_directory,
)

MAX_INFLATED_BYTES = 100 * 1024**3
MAX_RATIO = 200
MAX_PATH_BYTES = 1024
MAX_NAME_BYTES = 255  # of ext4, APFS, NTFS
VERIFIED_BYTES = 64 * 1024**2  # about a second in Lambda
LOCAL_HEADER_READS = 128  # neighbours share a read; 30 ms each from S3
AES_METHOD = 99
METHOD_NAMES = {9: "Deflate64", 12: "bzip2", 14: "LZMA", 93: "Zstandard", 95: "XZ"}
ZIP64_VERSION = 45  # what Deflate and Zip64 need at most; `unzip` takes no more
FOLDER_KINDS = {stat.S_IFDIR, 0xF000}  # the latter is the mode -1, of Maven's archiver

# Patterns, not loops over the names: a path may have 512 of them, an archive 10,000 paths.
_CONTROL = re.compile("[\0-\x1f\x7f-\x9f]")
_ABSOLUTE = re.compile("/|[A-Za-z]:")
_PARENT = re.compile(r"(^|/)\.\.(/|$)")
_LONG_NAME = re.compile(b"[^/]{%d}" % (MAX_NAME_BYTES + 1))
_ENDS_OF_NAMES = re.compile(r"(?<![ .])[ .]*/(?:[ .]*/)*")  # with `.`, empty names, and what Windows drops


class ArchiveEntry(BaseModel):
    """A file in the archive."""

    model_config = ConfigDict(frozen=True)

    path: str
    size_bytes: int
    packed_bytes: int
    crc32: int | None  # None for a bare file


class ArchiveReport(BaseModel):
    """What an accepted archive holds. labels, category and precision are None unless an OpenVINO IR gives them."""

    model_config = ConfigDict(frozen=True)

    entries: tuple[ArchiveEntry, ...]
    size_bytes: int  # inflated, in all
    format: str | None = None
    labels: tuple[str, ...] | None = None
    category: str | None = None
    precision: tuple[str, ...] | None = None


def inspect_archive(file: BinaryIO, *, declared_format: str | None = None) -> ArchiveReport:
    """What the archive holds.

    format is the declared one if the archive holds it, else the first found in the order of formats.FORMATS. A
    declared format stands, though format is None or another, when nothing is recognised or nobody knows its name:
    nothing contradicts it. file may stand anywhere, and is left anywhere.
    Raises InvalidArchive, whose text says what is wrong and what would be right.
    """
    reader = RangeReader(file)
    directory = read_directory(reader)
    entries = directory.entries
    for entry in entries:
        _check_path(entry.path)
        _check_kind(entry)
        _check_packing(entry)
    _check_clashes(entries)
    _check_totals(entries)
    check_local_headers(reader, directory, LOCAL_HEADER_READS)
    _verify_contents(reader, entries)
    return _report(reader, entries, declared_format)


def describe_archive(file: BinaryIO) -> ArchiveReport:
    """What an archive holds that was inspected before, in few reads."""
    reader = RangeReader(file)
    return _report(reader, read_directory(reader).entries, None)


def inspect_file(file: BinaryIO, name: str, *, declared_format: str | None = None) -> ArchiveReport:
    """What a bare file is, by its name and how it begins. Raises InvalidArchive if it is not of its declared format."""
    size_bytes = file.seek(0, io.SEEK_END)
    file.seek(0)
    chosen = choose_format(format_of_file(name, file.read(MAGIC_BYTES), size_bytes), declared_format, "the file")
    entry = ArchiveEntry(path=name, size_bytes=size_bytes, packed_bytes=size_bytes, crc32=None)
    return ArchiveReport(entries=(entry,), size_bytes=size_bytes, format=chosen)


def _report(reader: RangeReader, entries: list[Entry], declared_format: str | None) -> ArchiveReport:
    files = [entry for entry in entries if not entry.is_folder]
    detected = detect_formats(reader, files)
    chosen = choose_format(detected.borne_out, declared_format)
    info = detected.ir if detected.ir and chosen in (MLFLOW, OPENVINO) else IrInfo()
    return ArchiveReport(
        entries=tuple(_reported(entry) for entry in files),
        size_bytes=sum(entry.size_bytes for entry in files),
        format=chosen,
        labels=info.labels,
        category=info.category,
        precision=info.precision,
    )


def _reported(entry: Entry) -> ArchiveEntry:
    return ArchiveEntry(
        path=entry.path, size_bytes=entry.size_bytes, packed_bytes=entry.packed_bytes, crc32=entry.crc32
    )


def _check_path(path: str) -> None:
    """Relative, downwards, and a name that every file system takes."""
    wrong = None
    if _CONTROL.search(path):
        wrong = "has a NUL or another control character"
    elif "\\" in path:
        wrong = "has a backslash; folders are separated by '/'"
    elif _ABSOLUTE.match(path):
        wrong = "is absolute or names a drive; paths must be relative"
    elif _PARENT.search(path):
        wrong = "has '..', so it may leave the folder it is extracted into"
    elif len(raw := path.encode()) > MAX_PATH_BYTES or _LONG_NAME.search(raw):
        wrong = f"is too long; at most {MAX_PATH_BYTES} bytes, {MAX_NAME_BYTES} for each name, can be extracted"
    elif not path:
        wrong = "is empty"
    if wrong:
        raise InvalidArchive(f"The path of entry {quoted(path)} {wrong}.")


def _check_kind(entry: Entry) -> None:
    """A plain file or an empty folder."""
    kinds = {stat.S_IFMT(mode) for mode in entry.modes} - {0, stat.S_IFREG}
    if stat.S_IFLNK in kinds:
        raise InvalidArchive(f"Entry {quoted(entry.path)} is a symbolic link; send the file it points at.")
    if kinds - (FOLDER_KINDS if entry.is_folder else set()):
        raise InvalidArchive(f"Entry {quoted(entry.path)} is a special file; only files and folders are accepted.")
    if entry.is_folder and entry.size_bytes:
        raise InvalidArchive(f"Entry {quoted(entry.path)} is a folder but holds data.")


def _check_packing(entry: Entry) -> None:
    """Stored or deflated, which every extractor in the field can unpack, and in sizes that can be true."""
    if entry.flags & ENCRYPTED_FLAGS or entry.method == AES_METHOD:
        raise InvalidArchive(f"Entry {quoted(entry.path)} is encrypted; send the archive without a password.")
    if entry.flags & PATCHED_FLAG:
        raise InvalidArchive(f"Entry {quoted(entry.path)} is a patch of another file; send the whole file.")
    if entry.method not in (STORED, DEFLATED):
        method = METHOD_NAMES.get(entry.method, f"method {entry.method}")
        raise InvalidArchive(
            f"Entry {quoted(entry.path)} is packed with {method};"
            " pack it with Deflate or store it, so that every device can unpack it."
        )
    if entry.needs_version > ZIP64_VERSION:
        raise InvalidArchive(
            f"Entry {quoted(entry.path)} needs version {entry.needs_version / 10} of ZIP; at most 4.5 is accepted."
        )
    if entry.method == STORED and entry.packed_bytes != entry.size_bytes:
        raise InvalidArchive(f"Entry {quoted(entry.path)} is stored, but its two sizes differ.")
    if entry.packed_bytes > 2 * entry.size_bytes + 1024:
        raise InvalidArchive(f"Entry {quoted(entry.path)} takes far more bytes packed than it holds.")


def _check_clashes(entries: list[Entry]) -> None:
    """No two entries extract onto the same file on any device.

    Windows and macOS take names that differ only in case, or only in Unicode form, for the same; Windows drops dots
    and blanks at the end of a name.
    """
    keys = sorted((_extracted_to(entry.path), entry.path, entry.is_folder) for entry in entries)
    for (one_key, one, one_is_folder), (other_key, other, _) in pairwise(keys):
        if one_key == other_key:
            twice = "is in the archive twice" if one == other else f"and {quoted(other)} are one file on some devices"
            raise InvalidArchive(f"Entry {quoted(one)} {twice}; every entry needs a name of its own.")
        if other_key.startswith(one_key + "\0") and not one_is_folder:
            raise InvalidArchive(f"Entry {quoted(one)} is a file, but {quoted(other)} needs it to be a folder.")


def _extracted_to(path: str) -> str:
    # NUL sorts first and is in no path, so a folder's entries follow it at once.
    key = _ENDS_OF_NAMES.sub("/", f"/{path}/").strip("/").replace("/", "\0")
    return key.lower() if key.isascii() else unicodedata.normalize("NFC", unicodedata.normalize("NFC", key).casefold())


def _check_totals(entries: list[Entry]) -> None:
    size_bytes = sum(entry.size_bytes for entry in entries)
    packed_bytes = sum(entry.packed_bytes for entry in entries)
    if all(entry.is_folder for entry in entries):
        raise InvalidArchive("The archive holds no file.")
    if size_bytes > MAX_INFLATED_BYTES:
        raise InvalidArchive(
            f"The archive inflates to {size_bytes:,} bytes; at most {MAX_INFLATED_BYTES:,} (100 GiB) are accepted."
        )
    if size_bytes > MAX_RATIO * packed_bytes:
        raise InvalidArchive(
            f"The archive inflates to {size_bytes:,} bytes, over {MAX_RATIO} times the {packed_bytes:,} it takes"
            " packed: it looks like a decompression bomb. If it is genuine, store the entries without compression."
        )


def _verify_contents(reader: RangeReader, entries: list[Entry]) -> None:
    """Of a small archive, every content against its size and CRC-32, as far as VERIFIED_BYTES go."""
    left_bytes = VERIFIED_BYTES if reader.is_whole else -1
    for entry in entries:
        if entry.size_bytes <= left_bytes:
            left_bytes -= entry.size_bytes
            deque(content(reader, entry), maxlen=0)
