"""Read a ZIP strictly: its directory, and what its entries hold.

Works on any seekable reader, in few and large reads: the end, the directory, then only what is asked for. Everything
in the file may lie. An archive that two extractors could read differently is refused, so what is checked here is what
every client sees: one directory, that ends where the end record begins, with nothing before the first entry and
nothing after the end; entries that do not overlap; local headers that agree with the directory.

The standard zipfile is not used to read, only as the judge in the tests: it trusts the directory's size before it
counts anything, looks past bytes put in front, inflates what was never declared, and differs between Python versions.

Layout from PKWARE's APPNOTE 6.3.10, sections 4.3 to 4.5; the extra fields 0x7075 and 0x756e from Info-ZIP.
"""

import os
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct, unpack_from
from typing import BinaryIO, NamedTuple

from chalicelib.registry.errors import InvalidArchive

MAX_ENTRIES = 10_000
MAX_DIRECTORY_BYTES = 16 * 1024**2  # 1,600 bytes for each of MAX_ENTRIES; real ones take about 100
WHOLE_BYTES = 8 * 1024**2  # up to here one read gets everything, so everything can be checked
CHUNK_BYTES = 256 * 1024
READ_AHEAD_BYTES = 64 * 1024  # a header and the first bytes behind it come with one read
HEAD_BYTES = 16 * 1024

STORED, DEFLATED = 0, 8
ENCRYPTED_FLAGS = 1 | 1 << 6 | 1 << 13  # encrypted, strongly encrypted, local headers masked
PATCHED_FLAG, SIZES_FOLLOW_FLAG, UTF8_FLAG = 1 << 5, 1 << 3, 1 << 11
DESCRIPTOR_BYTES = (12, 16, 20, 24)  # CRC-32 and sizes behind the data; with or without signature and Zip64

_END = Struct("<4s4H2LH")
_END64 = Struct("<4sQ2H2L4Q")
_LOCATOR64 = Struct("<4sLQL")
_RECORD = Struct("<4s6H3L5H2L")
_LOCAL = Struct("<4s5H3L2H")
_END_SIGNATURE, _END64_SIGNATURE, _LOCATOR64_SIGNATURE = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
_RECORD_SIGNATURE, _LOCAL_SIGNATURE = b"PK\x01\x02", b"PK\x03\x04"
_MAX_COMMENT_BYTES = 0xFFFF
_IN_ZIP64 = 0xFFFF_FFFF


@dataclass(frozen=True, slots=True)
class Entry:
    """What the directory says of one file or folder."""

    path: str
    raw_name: bytes
    size_bytes: int
    packed_bytes: int
    crc32: int
    method: int
    flags: int
    modes: tuple[int, ...]  # Unix modes, from the attributes and from extra fields
    offset: int
    needs_version: int  # times ten

    @property
    def is_folder(self) -> bool:
        return self.path.endswith("/")

    @property
    def least_end(self) -> int:
        """Where the entry's bytes end at the earliest: the local header may be longer."""
        return self.offset + _LOCAL.size + len(self.raw_name) + self.packed_bytes


class Directory(NamedTuple):
    """The entries, in the order in which they are listed, and where in the file the list begins."""

    entries: list[Entry]
    offset: int

    def in_file_order(self) -> list[tuple[Entry, int]]:
        """Each entry and where the next one, or the directory, begins."""
        placed = sorted(self.entries, key=lambda entry: entry.offset)
        ends = [*(entry.offset for entry in placed[1:]), self.offset]
        return list(zip(placed, ends, strict=False))


class RangeReader:
    """Positional reads of a seekable file; keeps the tail and the last block, so that neighbours cost no read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size_bytes = file.seek(0, os.SEEK_END)
        self.is_whole = self.size_bytes <= WHOLE_BYTES
        tail_bytes = self.size_bytes if self.is_whole else 2 * READ_AHEAD_BYTES
        self._tail = self._load(self.size_bytes - tail_bytes, tail_bytes)
        self._last = self._tail
        self.read_count = 1

    def at(self, start: int, count: int) -> bytes:
        """The bytes from start on, fewer than count only where the file ends."""
        count = max(0, min(count, self.size_bytes - start))
        for block_start, block in (self._tail, self._last):
            if block_start <= start and start + count <= block_start + len(block):
                return block[start - block_start : start - block_start + count]
        self._last = self._load(start, min(max(count, READ_AHEAD_BYTES), self.size_bytes - start))
        self.read_count += 1
        return self._last[1][:count]

    def _load(self, start: int, count: int) -> tuple[int, bytes]:
        self._file.seek(start)
        pieces: list[bytes] = []
        while count > 0 and (piece := self._file.read(count)):
            pieces.append(piece)
            count -= len(piece)
        return start, b"".join(pieces)


class _End(NamedTuple):
    entry_count: int
    directory_bytes: int
    directory_offset: int
    starts_at: int  # where the directory must end


def quoted(name: str) -> str:
    """A name from outside, safe and short enough for an error text."""
    return repr(name if len(name) <= 120 else name[:117] + "...")


def read_directory(reader: RangeReader) -> Directory:
    """Every entry, in the order of the directory.

    Raises InvalidArchive where extractors could disagree about what the archive holds.
    """
    end = _find_end(reader)
    if end.entry_count > MAX_ENTRIES:
        raise InvalidArchive(f"The archive has {end.entry_count:,} entries; at most {MAX_ENTRIES:,} are accepted.")
    if end.directory_bytes > MAX_DIRECTORY_BYTES:
        raise InvalidArchive(f"The archive's directory takes {end.directory_bytes:,} bytes, far more than it may need.")
    _check_directory_place(end)
    records = reader.at(end.directory_offset, end.directory_bytes)
    directory = Directory(list(_records(records, end.entry_count)), end.directory_offset)
    _check_layout(directory)
    return directory


def _find_end(reader: RangeReader) -> _End:
    tail_bytes = min(reader.size_bytes, _END.size + _MAX_COMMENT_BYTES)
    tail_start = reader.size_bytes - tail_bytes
    tail = reader.at(tail_start, tail_bytes)
    found = [m.start() for m in re.finditer(re.escape(_END_SIGNATURE), tail)]
    if not found:
        raise InvalidArchive("The file is not a whole ZIP archive: it has no directory at its end. Was it cut short?")
    last = [at for at in found if _ends_the_file(tail, at)]
    if last != found[-1:]:
        raise InvalidArchive("The archive's end record is damaged, ambiguous or followed by bytes that do not belong.")
    _, disk, directory_disk, here, count, size, offset, _ = _END.unpack_from(tail, last[0])
    classic = _End(count, size, offset, tail_start + last[0])
    if disk or directory_disk or here != count:
        raise InvalidArchive("The archive is split into several volumes; send it as a single ZIP file.")
    return _find_end64(reader, classic)


def _ends_the_file(tail: bytes, at: int) -> bool:
    """Whether a whole end record begins here, whose comment reaches to the end of the file, neither less nor more."""
    if at + _END.size > len(tail):
        return False
    comment_bytes: int = _END.unpack_from(tail, at)[-1]
    return at + _END.size + comment_bytes == len(tail)


def _find_end64(reader: RangeReader, classic: _End) -> _End:
    """The Zip64 end record where there is one; it must not contradict the classic one."""
    locator_at = classic.starts_at - _LOCATOR64.size
    record_at = locator_at - _END64.size
    data = reader.at(record_at, _END64.size + _LOCATOR64.size) if record_at >= 0 else b""
    if data[_END64.size : _END64.size + 4] != _LOCATOR64_SIGNATURE:
        return classic
    _, disk, offset64, disks = _LOCATOR64.unpack_from(data, _END64.size)
    signature, follow_bytes, _, _, *disks64, here, count, size, offset = _END64.unpack_from(data)
    in_place = signature == _END64_SIGNATURE and offset64 == record_at and follow_bytes == _END64.size - 12
    if not in_place or (disk, disks, *disks64) != (0, 1, 0, 0):
        raise InvalidArchive("The archive's Zip64 end record is damaged or not where its locator says.")
    end = _End(count, size, offset, record_at)
    unsaid = (0xFFFF, _IN_ZIP64, _IN_ZIP64)
    if here != count or any(c not in (e, u) for c, e, u in zip(classic, end, unsaid, strict=False)):
        raise InvalidArchive("The archive's two end records contradict each other.")
    return end


def _check_directory_place(end: _End) -> None:
    surplus = end.starts_at - end.directory_bytes - end.directory_offset
    if surplus:
        side = "after" if surplus > 0 else "before"
        raise InvalidArchive(
            f"The archive's directory is {abs(surplus):,} bytes {side} the place its end record gives:"
            " bytes were put in front (a self-extracting program?) or cut out. Send the plain ZIP."
        )


def _records(directory: bytes, entry_count: int) -> Iterator[Entry]:
    at = 0
    for number in range(1, entry_count + 1):
        if directory[at : at + 4] != _RECORD_SIGNATURE or at + _RECORD.size > len(directory):
            raise InvalidArchive(f"The archive's directory is damaged at entry {number} of {entry_count}.")
        entry, at = _record(directory, at)
        yield entry
    if at != len(directory):
        raise InvalidArchive(f"The archive's directory does not end after entry {entry_count}, the last one counted.")


def _record(directory: bytes, at: int) -> tuple[Entry, int]:
    """The entry whose record is at this place, and the place behind the record."""
    (_, _, needed, flags, method, _, _, crc32, packed, size, *lengths, disk, _, attributes, offset) = (
        _RECORD.unpack_from(directory, at)
    )
    name_at = at + _RECORD.size
    extra_at = name_at + lengths[0]
    end = extra_at + lengths[1] + lengths[2]
    raw_name = directory[name_at:extra_at]
    path = decoded_name(raw_name, flags)
    if end > len(directory):
        raise InvalidArchive(f"The archive's directory is cut short at entry {quoted(path)}.")
    if disk:
        raise InvalidArchive(f"Entry {quoted(path)} is in another volume; send the archive as a single ZIP file.")
    extras = _extra_fields(directory[extra_at : extra_at + lengths[1]], path)
    _check_unicode_path(extras, path)
    size, packed, offset = _in_zip64(extras.get(0x0001, b""), path, size, packed, offset)
    modes = (attributes >> 16, *_asi_mode(extras))
    return Entry(path, raw_name, size, packed, crc32, method, flags, modes, offset, needed & 0xFF), end


def decoded_name(raw_name: bytes, flags: int) -> str:
    """The name as extractors show it. Without the UTF-8 flag it still is UTF-8 where it can be: so `zip` writes it."""
    try:
        return raw_name.decode("utf-8")
    except UnicodeDecodeError as exc:
        if flags & UTF8_FLAG:
            raise InvalidArchive(f"Entry {quoted(repr(raw_name))} has a name that is not valid UTF-8.") from exc
        return raw_name.decode("cp437")


def _extra_fields(extra: bytes, path: str) -> dict[int, bytes]:
    fields: dict[int, bytes] = {}
    at = 0
    while at + 4 <= len(extra):
        kind, length = unpack_from("<HH", extra, at)
        if at + 4 + length > len(extra):
            raise InvalidArchive(f"Entry {quoted(path)} has a damaged extra field.")
        if kind in fields and kind in (0x0001, 0x7075, 0x756E):
            raise InvalidArchive(f"Entry {quoted(path)} has the extra field {kind:#06x} twice.")
        fields[kind] = extra[at + 4 : at + 4 + length]
        at += 4 + length
    return fields


def _check_unicode_path(extras: dict[int, bytes], path: str) -> None:
    # Some extractors take the name from this field (version, CRC-32 of the other name, UTF-8), others ignore it.
    if 0x7075 in extras and extras[0x7075][5:] != path.encode():
        raise InvalidArchive(f"Entry {quoted(path)} has a second, different name in an extra field.")


def _asi_mode(extras: dict[int, bytes]) -> tuple[int, ...]:
    asi = extras.get(0x756E, b"")
    return unpack_from("<H", asi, 4) if len(asi) >= 6 else ()


def _in_zip64(field: bytes, path: str, *values: int) -> list[int]:
    """The values, those that are only announced taken from the Zip64 field, in its order."""
    if len(field) < 8 * values.count(_IN_ZIP64):
        raise InvalidArchive(f"Entry {quoted(path)} lacks the Zip64 sizes it announces.")
    wide = iter(unpack_from(f"<{values.count(_IN_ZIP64)}Q", field))
    return [next(wide) if value == _IN_ZIP64 else value for value in values]


def _check_layout(directory: Directory) -> None:
    """No entry shares bytes with another (so no byte is inflated twice), and the first begins the file."""
    placed = directory.in_file_order()
    if placed and placed[0][0].offset:
        raise InvalidArchive(
            f"The archive has {placed[0][0].offset:,} bytes before its first entry (a self-extracting program?)."
            " Send the plain ZIP."
        )
    for entry, end in placed:
        if entry.least_end > end:
            raise InvalidArchive(f"Entry {quoted(entry.path)} overlaps what follows it in the file.")


def check_local_headers(reader: RangeReader, directory: Directory, max_reads: int) -> None:
    """Raises InvalidArchive if an entry's own header contradicts the directory, or bytes belong to no entry.

    Extractors that read the archive as a stream believe these headers, not the directory. In file order, as far as
    max_reads go.
    """
    reads_end = reader.read_count + max_reads
    for entry, end in directory.in_file_order():
        if reader.read_count >= reads_end:
            return
        surplus = end - _data_offset(reader, entry) - entry.packed_bytes
        if surplus < 0:
            raise InvalidArchive(f"Entry {quoted(entry.path)} overlaps what follows it in the file.")
        if surplus and not (entry.flags & SIZES_FOLLOW_FLAG and surplus in DESCRIPTOR_BYTES):
            raise InvalidArchive(
                f"Entry {quoted(entry.path)} is followed by bytes that belong to no entry ({surplus:,})."
            )


def _data_offset(reader: RangeReader, entry: Entry) -> int:
    """Where the entry's packed bytes begin, behind its own header, which must agree with the directory."""
    header = reader.at(entry.offset, _LOCAL.size + len(entry.raw_name))
    if header[:4] != _LOCAL_SIGNATURE or len(header) < _LOCAL.size + len(entry.raw_name):
        raise InvalidArchive(f"Entry {quoted(entry.path)} does not begin where the archive's directory says.")
    _, _, flags, method, _, _, crc32, packed, size, name_bytes, extra_bytes = _LOCAL.unpack_from(header)
    same_name = header[_LOCAL.size :] == entry.raw_name and name_bytes == len(entry.raw_name)
    if not same_name or ((flags ^ entry.flags) & UTF8_FLAG and not entry.raw_name.isascii()):
        raise InvalidArchive(f"Entry {quoted(entry.path)} has another name in its own header.")
    if method != entry.method or (flags ^ entry.flags) & (ENCRYPTED_FLAGS | SIZES_FOLLOW_FLAG):
        raise InvalidArchive(f"Entry {quoted(entry.path)} is packed otherwise than the archive's directory says.")
    extra_at = entry.offset + len(header)
    extras = _extra_fields(reader.at(extra_at, extra_bytes), entry.path)
    _check_unicode_path(extras, entry.path)
    _check_local_sizes(entry, extras, crc32, packed, size)
    return extra_at + int(extra_bytes)


def _check_local_sizes(entry: Entry, extras: dict[int, bytes], *stated: int) -> None:
    """The stated CRC-32, packed and inflated size; all may be 0 where the true ones follow the data."""
    crc32, packed, size = stated
    if entry.flags & SIZES_FOLLOW_FLAG and not crc32 and {packed, size} <= {0, _IN_ZIP64}:
        return
    size, packed = _in_zip64(extras.get(0x0001, b""), entry.path, size, packed)
    if (crc32, packed, size) != (entry.crc32, entry.packed_bytes, entry.size_bytes):
        raise InvalidArchive(f"Entry {quoted(entry.path)} has another size or checksum in its own header.")


def content(reader: RangeReader, entry: Entry, chunk_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
    """What the entry holds, in pieces of at most chunk_bytes.

    Read to the end, its size and CRC-32 are checked; never more is inflated than the entry declares.
    """
    size_bytes, crc32 = 0, 0
    for piece in _unpacked(reader, entry, chunk_bytes):
        size_bytes += len(piece)
        if size_bytes > entry.size_bytes:
            raise InvalidArchive(
                f"Entry {quoted(entry.path)} holds more than the {entry.size_bytes:,} bytes it declares."
            )
        crc32 = zlib.crc32(piece, crc32)
        yield piece
    if size_bytes != entry.size_bytes:
        raise InvalidArchive(
            f"Entry {quoted(entry.path)} holds {size_bytes:,} bytes, not the {entry.size_bytes:,} it declares."
        )
    if crc32 != entry.crc32:
        raise InvalidArchive(f"Entry {quoted(entry.path)} is damaged: its CRC-32 does not match.")


def head(reader: RangeReader, entry: Entry, count: int) -> bytes:
    """The first bytes the entry holds, at most count, from one read; fewer if they are packed in an odd way."""
    start = _data_offset(reader, entry)
    packed = reader.at(start, min(entry.packed_bytes, max(count, HEAD_BYTES)))
    if entry.method == STORED:
        return packed[:count]
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, count)
    except zlib.error as exc:
        raise InvalidArchive(f"Entry {quoted(entry.path)} is damaged: it cannot be inflated.") from exc


def _unpacked(reader: RangeReader, entry: Entry, chunk_bytes: int) -> Iterator[bytes]:
    packed = packed_content(reader, entry, chunk_bytes)
    if entry.method == STORED or not entry.packed_bytes:
        yield from packed
        return
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        for piece in packed:
            yield from _inflated(inflater, piece, chunk_bytes)
            if inflater.eof:
                break
        yield from _inflated(inflater, b"", chunk_bytes)
    except zlib.error as exc:
        raise InvalidArchive(f"Entry {quoted(entry.path)} is damaged: it cannot be inflated.") from exc
    if not inflater.eof or inflater.unused_data or next(packed, None):
        raise InvalidArchive(f"Entry {quoted(entry.path)} is damaged: its packed bytes do not end where they should.")


def _inflated(inflater: "zlib._Decompress", packed: bytes, chunk_bytes: int) -> Iterator[bytes]:
    while piece := inflater.decompress(packed, chunk_bytes):
        yield piece
        packed = inflater.unconsumed_tail


def packed_content(reader: RangeReader, entry: Entry, chunk_bytes: int) -> Iterator[bytes]:
    """The entry's bytes as they are in the file, in pieces of at most chunk_bytes."""
    start = _data_offset(reader, entry)
    end = start + entry.packed_bytes
    while start < end:
        piece = reader.at(start, min(chunk_bytes, end - start))
        if not piece:
            return
        start += len(piece)
        yield piece
