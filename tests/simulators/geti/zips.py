"""ZIP archives as streams: any size in little memory, the same bytes each time, their length known beforehand."""

import random
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

BLOCK_BYTES = 1024**2
LIMIT = 0xFFFF_FFFF  # from here on the sizes and offsets of Zip64
UTF8 = 1 << 11
DATE = 0x21  # 1980-01-01


@dataclass(frozen=True)
class Content:
    """Bytes that nothing makes smaller: a random block, over and over if need be. The same for the same seed."""

    seed: str
    size: int

    def chunks(self) -> Iterator[bytes]:
        block = _block(self.seed, min(self.size, BLOCK_BYTES))
        for _ in range(self.size // BLOCK_BYTES if self.size > BLOCK_BYTES else 0):
            yield block
        if rest := self.size % BLOCK_BYTES if self.size > BLOCK_BYTES else self.size:
            yield block[:rest]


@dataclass(frozen=True)
class Entry:
    """A file in an archive, stored."""

    path: str
    content: Content | bytes

    @property
    def size(self) -> int:
        return self.content.size if isinstance(self.content, Content) else len(self.content)

    def chunks(self) -> Iterator[bytes]:
        yield from self.content.chunks() if isinstance(self.content, Content) else (self.content,)

    def read(self) -> bytes:
        return b"".join(self.chunks())


@dataclass(frozen=True)
class Package:
    """What is sent as a file: either entries of a ZIP or, in `raw`, any bytes at all."""

    file_name: str
    entries: Sequence[Entry] = ()
    raw: bytes | None = None

    @property
    def size(self) -> int:
        if self.raw is not None:
            return len(self.raw)
        heads = [_head(entry, 0) for entry in self.entries]
        return (
            sum(map(len, heads)) + sum(entry.size for entry in self.entries) + len(self._directory(crcs_matter=False))
        )

    def chunks(self) -> Iterator[bytes]:
        if self.raw is not None:
            yield self.raw
            return
        for entry in self.entries:
            yield _head(entry, _crc32(entry.content))
            yield from entry.chunks()
        yield self._directory()

    def read(self) -> bytes:
        """All of it: not for large ones."""
        return b"".join(self.chunks())

    def _directory(self, *, crcs_matter: bool = True) -> bytes:
        records, at = b"", 0
        for entry in self.entries:
            records += _record(entry, _crc32(entry.content) if crcs_matter else 0, at)
            at += len(_head(entry, 0)) + entry.size
        count, tail = len(self.entries), b""
        if at >= LIMIT:
            tail = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, len(records), at)
            tail += struct.pack("<4sLQL", b"PK\6\7", 0, at + len(records), 1)
        end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, len(records), min(at, LIMIT), 0)
        return records + tail + end


def _head(entry: Entry, crc32: int) -> bytes:
    name, size = entry.path.encode(), min(entry.size, LIMIT)
    extra = struct.pack("<HHQQ", 1, 16, entry.size, entry.size) if size == LIMIT else b""
    numbers = (_version(extra), UTF8, 0, 0, DATE, crc32, size, size, len(name), len(extra))
    return struct.pack("<4s5H3L2H", b"PK\3\4", *numbers) + name + extra


def _record(entry: Entry, crc32: int, offset: int) -> bytes:
    name, size = entry.path.encode(), min(entry.size, LIMIT)
    wide = [entry.size] * 2 * (size == LIMIT) + [offset] * (offset >= LIMIT)
    extra = struct.pack(f"<HH{len(wide)}Q", 1, 8 * len(wide), *wide) if wide else b""
    numbers = (3 << 8 | 45, _version(extra), UTF8, 0, 0, DATE, crc32, size, size, len(name), len(extra), 0, 0, 0)
    mode = 0o100644 << 16
    return struct.pack("<4s6H3L5H2L", b"PK\1\2", *numbers, mode, min(offset, LIMIT)) + name + extra


def _version(extra: bytes) -> int:
    return 45 if extra else 20


@lru_cache(maxsize=16)
def _block(seed: str, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


@lru_cache(maxsize=4096)
def _crc32(content: Content | bytes) -> int:
    crc32 = 0
    for chunk in content.chunks() if isinstance(content, Content) else (content,):
        crc32 = zlib.crc32(chunk, crc32)
    return crc32
