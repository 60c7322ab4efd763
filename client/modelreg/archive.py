"""A set of files as a ZIP whose every byte is decided by their paths and contents.

Pure arithmetic and a stream: where the files come from is the caller's business. Promises: the exact size is known
from paths and sizes alone; the same files give the same bytes on every machine; nothing is held in memory but the
directory. So entries are stored, in the order of their paths' bytes, with one time and one mode for all, and CRC-32
and sizes follow the data (APPNOTE 4.4.4, bit 3). Zip64 records appear only where a number needs them.
"""

import zlib
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from struct import Struct
from typing import Protocol

_LOCAL = Struct("<4s5H3L2H")
_RECORD = Struct("<4s6H3L5H2L")
_END = Struct("<4s4H2LH")
_END64 = Struct("<4sQ2H2L4Q")
_LOCATOR64 = Struct("<4sLQL")
_DESCRIPTOR, _DESCRIPTOR64 = Struct("<4s3L"), Struct("<4sL2Q")

FLAGS = 1 << 3 | 1 << 11  # sizes follow the data; the name is UTF-8
STORED = 0
PLAIN_VERSION, ZIP64_VERSION = 20, 45
UNIX = 3 << 8
TIME, DATE = 0, 1 << 5 | 1  # 1980-01-01 00:00, the first that a ZIP can say
ATTRIBUTES = 0o100644 << 16
IN_ZIP64 = 0xFFFF_FFFF
IN_ZIP64_COUNT = 0xFFFF


class Readable(Protocol):
    """An open file."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """How many bytes were put into the buffer; none at the end."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file in the archive: its path there, as UTF-8, and its size."""

    path: bytes
    size_bytes: int


@dataclass(frozen=True, slots=True)
class _Placed:
    entry: Entry
    offset: int
    is_wide: bool

    @property
    def record_bytes(self) -> int:
        return _RECORD.size + len(self.entry.path)


class ShortRead(Exception):
    """A file ended before its size."""


class Archive:
    """The layout of a ZIP of these files.

    zip64_from: the smallest number that does not fit a classic field; tests lower it, for they cannot wait for 4 GiB.
    """

    def __init__(self, entries: Sequence[Entry], *, zip64_from: int = IN_ZIP64) -> None:
        self._zip64_from = zip64_from
        self._placed: list[_Placed] = []
        at = 0
        for entry in sorted(entries, key=lambda entry: entry.path):
            placed = _Placed(entry, at, entry.size_bytes >= zip64_from)
            self._placed.append(placed)
            at += len(_local_header(placed)) + entry.size_bytes + _descriptor_struct(placed).size
        self._directory_at = at
        self._directory_bytes = sum(placed.record_bytes + len(self._record_extra(placed)) for placed in self._placed)

    @property
    def size_bytes(self) -> int:
        """The size of the whole archive, exactly."""
        return self._directory_at + self._directory_bytes + len(self._ends())

    def stream(self, open_file: Callable[[Entry], AbstractContextManager[Readable]]) -> "ArchiveStream":
        """The archive's bytes. Each file is opened once, in order, and read once."""
        return ArchiveStream(self, open_file)

    def _record_extra(self, placed: _Placed) -> bytes:
        numbers = [placed.entry.size_bytes] * 2 if placed.is_wide else []
        numbers += [placed.offset] if placed.offset >= self._zip64_from else []
        return _zip64_extra(numbers)

    def _record(self, placed: _Placed, crc32: int) -> bytes:
        extra = self._record_extra(placed)
        needed = ZIP64_VERSION if extra else PLAIN_VERSION
        size = IN_ZIP64 if placed.is_wide else placed.entry.size_bytes
        offset = IN_ZIP64 if placed.offset >= self._zip64_from else placed.offset
        lengths = (len(placed.entry.path), len(extra), 0)
        head = (b"PK\x01\x02", UNIX | needed, needed, FLAGS, STORED, TIME, DATE, crc32, size, size)
        return _RECORD.pack(*head, *lengths, 0, 0, ATTRIBUTES, offset) + placed.entry.path + extra

    def _ends(self) -> bytes:
        count, size, at = len(self._placed), self._directory_bytes, self._directory_at
        short_count, short_size, short_at = (
            IN_ZIP64_COUNT if count >= min(IN_ZIP64_COUNT, self._zip64_from) else count,
            IN_ZIP64 if size >= self._zip64_from else size,
            IN_ZIP64 if at >= self._zip64_from else at,
        )
        end = _END.pack(b"PK\x05\x06", 0, 0, short_count, short_count, short_size, short_at, 0)
        if (short_count, short_size, short_at) == (count, size, at):
            return end
        version = UNIX | ZIP64_VERSION
        follow_bytes = _END64.size - 12
        end64 = _END64.pack(b"PK\x06\x06", follow_bytes, version, ZIP64_VERSION, 0, 0, count, count, size, at)
        return end64 + _LOCATOR64.pack(b"PK\x06\x07", 0, at + size, 1) + end


class ArchiveStream:
    """An archive as it is read, once, from its first byte to its last."""

    def __init__(self, archive: Archive, open_file: Callable[[Entry], AbstractContextManager[Readable]]) -> None:
        self._archive = archive
        self._open_file = open_file
        self._view = memoryview(b"")
        self._filled = 0
        self._production = self._produce()

    def readinto(self, buffer: memoryview) -> int:
        """How many bytes were put into the buffer: all it takes, fewer only at the end. Raises ShortRead."""
        self._view, self._filled = buffer, 0
        if len(buffer):
            next(self._production, None)
        return self._filled

    def close(self) -> None:
        """Closes the file that is being read, if any."""
        self._production.close()

    def _produce(self) -> Generator[None, None, None]:
        """Fills view after view; yields whenever one is full."""
        records = []
        for placed in self._archive._placed:
            yield from self._put(_local_header(placed))
            crc32 = yield from self._put_file(placed.entry)
            size = placed.entry.size_bytes
            yield from self._put(_descriptor_struct(placed).pack(b"PK\x07\x08", crc32, size, size))
            records.append(self._archive._record(placed, crc32))
        yield from self._put(b"".join(records))
        yield from self._put(self._archive._ends())

    def _put(self, data: bytes) -> Generator[None, None, None]:
        rest = memoryview(data)
        while rest:
            room = min(len(rest), len(self._view) - self._filled)
            self._view[self._filled : self._filled + room] = rest[:room]
            rest = rest[room:]
            yield from self._advance(room)

    def _put_file(self, entry: Entry) -> Generator[None, None, int]:
        crc32, left = 0, entry.size_bytes
        with self._open_file(entry) as file:
            while left:
                window = self._view[self._filled : self._filled + left]
                count = file.readinto(window)
                if not count:
                    raise ShortRead(entry.path)
                crc32 = zlib.crc32(window[:count], crc32)
                left -= count
                yield from self._advance(count)
        return crc32

    def _advance(self, count: int) -> Generator[None, None, None]:
        self._filled += count
        if self._filled == len(self._view):
            yield


def _local_header(placed: _Placed) -> bytes:
    """CRC-32 and sizes are 0 here, for they follow the data; the Zip64 field says that they are wide there."""
    extra = _zip64_extra([0, 0]) if placed.is_wide else b""
    needed = ZIP64_VERSION if placed.is_wide else PLAIN_VERSION
    size = IN_ZIP64 if placed.is_wide else 0
    head = (b"PK\x03\x04", needed, FLAGS, STORED, TIME, DATE, 0, size, size)
    return _LOCAL.pack(*head, len(placed.entry.path), len(extra)) + placed.entry.path + extra


def _descriptor_struct(placed: _Placed) -> Struct:
    return _DESCRIPTOR64 if placed.is_wide else _DESCRIPTOR


def _zip64_extra(numbers: list[int]) -> bytes:
    return Struct(f"<2H{len(numbers)}Q").pack(1, 8 * len(numbers), *numbers) if numbers else b""
