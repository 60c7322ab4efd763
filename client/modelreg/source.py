"""What is about to be registered: one file as it is, or a directory as a ZIP.

survey promises: what it accepts keeps the rules for archives that the registry applies when all bytes are sent, so
that they are not sent in vain. A source is described by stat alone; reading it raises SourceChanged as soon as
anything is not as it was then.
"""

import hashlib
import json
import os
import re
import stat
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Protocol, Self

from modelreg.archive import Archive, Entry, Readable, ShortRead
from modelreg.errors import InvalidInput, LocalError, SourceChanged, TooLarge

MAX_ENTRIES = 10_000
MAX_INFLATED_BYTES = 100 * 1024**3
MAX_PATH_BYTES, MAX_NAME_BYTES = 1024, 255
ZIP_TYPE, FILE_TYPE = "application/zip", "application/octet-stream"

_CONTROL = re.compile("[\0-\x1f\x7f-\x9f]")
_DRIVE = re.compile("[A-Za-z]:")
_ENDS_OF_NAMES = re.compile(r"(?<![ .])[ .]*/(?:[ .]*/)*")  # with `.`, empty names, and what Windows drops
_OWN_FILES = re.compile(r"\..+\.modelreg-(upload|part)(\.json|\.lock)?(\.tmp)?")


class Stream(Protocol):
    """A source being read, once, from its first byte to its last."""

    def readinto(self, buffer: memoryview) -> int:
        """Fills the buffer; how much of it, which is less than all only at the end. Raises SourceChanged."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file as stat found it. name: its path in the archive, or its own name."""

    path: Path
    name: str
    size_bytes: int
    mtime_ns: int
    ctime_ns: int  # which nobody can set back

    @classmethod
    def of(cls, path: Path, name: str, found: os.stat_result) -> Self:
        return cls(path, name, found.st_size, found.st_mtime_ns, found.st_ctime_ns)

    @property
    def stamp(self) -> tuple[int, int, int]:
        """Differs when the content does, as far as stat can tell."""
        return self.size_bytes, self.mtime_ns, self.ctime_ns


@dataclass(frozen=True)
class Source:
    """What will be sent, known without reading it."""

    path: Path
    file_name: str
    media_type: str
    size_bytes: int
    files: tuple[SourceFile, ...]
    archive: Archive | None

    @property
    def fingerprint(self) -> str:
        """Differs when a path, size, time of modification or of change does."""
        told = [(file.name, *file.stamp) for file in self.files]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()

    @contextmanager
    def open(self) -> Iterator[Stream]:
        """Its bytes, size_bytes of them."""
        stream = _ArchiveSource(self.archive, self.files) if self.archive else _FileSource(self.files[0])
        try:
            yield stream
        finally:
            stream.close()


def survey(path: str | os.PathLike[str]) -> Source:
    """What registering this path would send. Raises InvalidInput, LocalError."""
    if not os.fspath(path) or "\0" in os.fspath(path):
        raise InvalidInput(
            "The path is empty, or none.", field="path", hint="Name the file or the directory; . is this one."
        )
    place = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow a link, and lose the name it has here
    try:
        found = place.stat()
        if stat.S_ISDIR(found.st_mode):
            return _directory(place)
    except OSError as exc:
        raise LocalError(f"{place} cannot be read: {exc.strerror or exc}.", hint="Check the path.") from exc
    if not stat.S_ISREG(found.st_mode):
        raise InvalidInput(f"{place} is neither a file nor a directory.", field="path")
    if not found.st_size:
        raise InvalidInput(f"{place} is empty.", field="path")
    _check_utf8(place.name)
    media_type = ZIP_TYPE if place.suffix.lower() == ".zip" else FILE_TYPE
    file = SourceFile.of(place, place.name, found)
    return Source(place, place.name, media_type, found.st_size, (file,), None)


def _directory(place: Path) -> Source:
    if not place.name:
        raise InvalidInput(f"{place} has no name to give to the archive.", field="path")
    _check_utf8(place.name)
    files = tuple(sorted(_walk(place, ""), key=lambda file: file.name.encode()))
    if not files:
        raise InvalidInput(f"{place} holds no file.", field="path")
    if len(files) > MAX_ENTRIES:
        raise InvalidInput(f"{place} holds {len(files):,} files; at most {MAX_ENTRIES:,} are accepted.", field="path")
    inflated = sum(file.size_bytes for file in files)
    if inflated > MAX_INFLATED_BYTES:
        raise TooLarge(
            f"The files in {place} have {inflated:,} bytes; at most {MAX_INFLATED_BYTES:,} are accepted in an archive."
        )
    check_clashes([file.name for file in files])
    archive = Archive([Entry(file.name.encode(), file.size_bytes) for file in files])
    return Source(place, f"{place.name}.zip", ZIP_TYPE, archive.size_bytes, files, archive)


def _walk(folder: Path, prefix: str) -> Iterator[SourceFile]:
    """Every file below, but those that an interrupted transfer of ours keeps. Raises InvalidInput for what is none."""
    with os.scandir(folder) as items:
        for item in items:
            name = f"{prefix}{item.name}"
            if item.is_symlink():
                raise InvalidInput(
                    f"{item.path} is a symbolic link, which an archive cannot hold safely.",
                    field="path",
                    hint="Put the file it points at in its place.",
                )
            check_name(name)
            if item.is_dir(follow_symlinks=False):
                yield from _walk(Path(item.path), f"{name}/")
            elif not item.is_file(follow_symlinks=False):
                raise InvalidInput(f"{item.path} is a special file; only files are accepted.", field="path")
            elif not _OWN_FILES.fullmatch(item.name):
                found = item.stat(follow_symlinks=False)
                yield SourceFile.of(Path(item.path), name, found)


def check_name(name: str) -> None:
    """Raises InvalidInput for a path that the registry refuses in an archive."""
    _check_utf8(name)
    wrong = None
    if _CONTROL.search(name):
        wrong = "has a control character"
    elif "\\" in name:
        wrong = "has a backslash"
    elif _DRIVE.match(name):
        wrong = "looks like the name of a drive"
    elif len(name.encode()) > MAX_PATH_BYTES or any(len(part.encode()) > MAX_NAME_BYTES for part in name.split("/")):
        wrong = f"is too long: at most {MAX_PATH_BYTES} bytes, {MAX_NAME_BYTES} for each name, are accepted"
    if wrong:
        raise InvalidInput(f"The path {name!r} {wrong}.", field="path", hint="Rename it.")


def _check_utf8(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise InvalidInput(f"The name {name!r} is not valid UTF-8.", field="path", hint="Rename it.") from None


def check_clashes(names: list[str]) -> None:
    """Raises InvalidInput if two files would be one on a device that does not tell their names apart."""
    keys = sorted((_extracted_to(name), name) for name in names)
    for (one_key, one), (other_key, other) in pairwise(keys):
        if one_key == other_key or other_key.startswith(one_key + "\0"):
            raise InvalidInput(
                f"{one!r} and {other!r} cannot both be extracted on devices that do not tell their names apart.",
                field="path",
                hint="Rename one of them.",
            )


def _extracted_to(name: str) -> str:
    # NUL is in no name and sorts first, so a folder's files follow it at once.
    key = _ENDS_OF_NAMES.sub("/", f"/{name}/").strip("/").replace("/", "\0")
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", key).casefold())


@contextmanager
def _opened(file: SourceFile) -> Iterator[Readable]:
    """The file, which is the same before and after it is read. Raises SourceChanged."""
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        descriptor = os.open(file.path, flags)
    except FileNotFoundError:
        raise SourceChanged(f"{file.path} is gone.") from None
    except OSError as exc:
        raise LocalError(f"{file.path} cannot be read: {exc.strerror or exc}.") from exc
    with open(descriptor, "rb", buffering=0) as opened:  # noqa: PTH123
        _check_unchanged(file, opened.fileno())
        yield opened
        _check_unchanged(file, opened.fileno())


def _check_unchanged(file: SourceFile, descriptor: int) -> None:
    now = os.fstat(descriptor)
    if not stat.S_ISREG(now.st_mode) or SourceFile.of(file.path, file.name, now).stamp != file.stamp:
        raise SourceChanged(f"{file.path} changed while it was being registered.")


class _FileSource:
    """One file, as it is."""

    def __init__(self, file: SourceFile) -> None:
        self._file = file
        self._left = file.size_bytes
        self._opening = _opened(file)
        self._opened: Readable = self._opening.__enter__()

    def readinto(self, buffer: memoryview) -> int:
        filled = 0
        while wanted := min(len(buffer) - filled, self._left):
            count = self._read(buffer[filled : filled + wanted])
            filled += count
            self._left -= count
        if not self._left:
            self._end()
        return filled

    def _read(self, window: memoryview) -> int:
        try:
            count = self._opened.readinto(window)
        except OSError as exc:
            raise LocalError(f"{self._file.path} cannot be read: {exc.strerror or exc}.") from exc
        if not count:
            raise SourceChanged(f"{self._file.path} became shorter while it was being registered.")
        return count

    def _end(self) -> None:
        """Raises SourceChanged if the file is not what it was."""
        opening, self._opening = self._opening, None  # type: ignore[assignment]
        if opening is not None:
            opening.__exit__(None, None, None)

    def close(self) -> None:
        with suppress(SourceChanged):
            self._end()


class _ArchiveSource:
    """A directory's files, as a ZIP."""

    def __init__(self, archive: Archive, files: tuple[SourceFile, ...]) -> None:
        self._by_name = {file.name.encode(): file for file in files}
        self._stream = archive.stream(lambda entry: _opened(self._by_name[entry.path]))

    def readinto(self, buffer: memoryview) -> int:
        try:
            return self._stream.readinto(buffer)
        except ShortRead as exc:
            raise SourceChanged(f"{exc.args[0].decode()} became shorter while it was being registered.") from None
        except OSError as exc:
            raise LocalError(f"A file cannot be read: {exc}.") from exc

    def close(self) -> None:
        self._stream.close()
