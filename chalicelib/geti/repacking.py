"""A package without the image that Geti puts into it as a sample: it is one of the images that the model learned from.

The other entries stay as they are packed, in their order, under the same names; dates are fixed, and what else an
archive may hold beside its entries is left out. So the same package always gives the same bytes, in little memory.

Layout from PKWARE's APPNOTE 6.3.10, sections 4.3 to 4.5.
"""

from collections.abc import Iterable, Iterator
from struct import Struct, pack
from typing import BinaryIO

from chalicelib.registry.zip_reader import UTF8_FLAG, Entry, RangeReader, packed_content, read_directory

CHUNK_BYTES = 8 * 1024**2  # of one read: from S3 each costs some 30 ms
MODEL_SUFFIXES = (".xml", ".bin")  # whatever it is called, this is no image
WIDE_FROM = 0xFFFF_FFFF  # from here on sizes and offsets stand in a field of Zip64
IN_ZIP64 = 0xFFFF_FFFF  # what stands in their place
DATE = 0x21  # 1980-01-01, the first day that there is
MADE_BY_UNIX, PLAIN_VERSION, WIDE_VERSION = 3 << 8, 20, 45
FILE_MODE, FOLDER_MODE = 0o100644, 0o040755

_LOCAL = Struct("<4s5H3L2H")
_RECORD = Struct("<4s6H3L5H2L")
_END64 = Struct("<4sQ2H2L4Q")
_LOCATOR64 = Struct("<4sLQL")
_END = Struct("<4s4H2LH")


def has_sample_image(paths: Iterable[str]) -> bool:
    return any(map(is_sample_image, paths))


def is_sample_image(path: str) -> bool:
    """Whether this is Geti 2's sample image, or that of Geti 3, which lies at the top."""
    folder, _, name = path.rpartition("/")
    is_named_so = name.startswith("sample_image.") or (not folder and name.startswith("image."))
    return is_named_so and not name.lower().endswith(MODEL_SUFFIXES)


def repacked(file: BinaryIO) -> Iterator[bytes]:
    """An archive that was inspected, without the sample image, in chunks. It is read in large pieces, in its order."""
    reader = RangeReader(file)
    entries = [entry for entry in read_directory(reader).entries if not is_sample_image(entry.path)]
    records, at = b"", 0
    for entry in entries:
        head = _head(entry)
        yield head
        yield from packed_content(reader, entry, CHUNK_BYTES)
        records += _record(entry, at)
        at += len(head) + entry.packed_bytes
    yield records
    yield _end(len(entries), len(records), at)


def _head(entry: Entry) -> bytes:
    """What stands before an entry. The sizes are there even if they followed its bytes before."""
    wide, sizes = _sizes(entry, [])
    numbers = _facts(entry, wide, sizes)
    name = entry.path.encode()
    return _LOCAL.pack(b"PK\3\4", *numbers, len(name), len(wide)) + name + wide


def _record(entry: Entry, at: int) -> bytes:
    """What the directory says of an entry that begins there."""
    wide, sizes = _sizes(entry, [at])
    numbers = _facts(entry, wide, sizes)
    mode = entry.modes[0] or (FOLDER_MODE if entry.is_folder else FILE_MODE)
    name = entry.path.encode()
    lengths = (len(name), len(wide), 0, 0, 0)
    place = (mode << 16, IN_ZIP64 if wide else at)
    return _RECORD.pack(b"PK\1\2", MADE_BY_UNIX | numbers[0], *numbers, *lengths, *place) + name + wide


def _sizes(entry: Entry, offset: list[int]) -> tuple[bytes, tuple[int, int]]:
    """The field of Zip64, empty if none is needed, and the sizes beside it: packed, and as they are."""
    numbers = [entry.size_bytes, entry.packed_bytes, *offset]
    if max(numbers) < WIDE_FROM:
        return b"", (entry.packed_bytes, entry.size_bytes)
    return pack(f"<2H{len(numbers)}Q", 1, 8 * len(numbers), *numbers), (IN_ZIP64, IN_ZIP64)


def _facts(entry: Entry, wide: bytes, sizes: tuple[int, int]) -> tuple[int, ...]:
    version = WIDE_VERSION if wide else PLAIN_VERSION
    return version, UTF8_FLAG, entry.method, 0, DATE, entry.crc32, *sizes


def _end(count: int, directory_bytes: int, at: int) -> bytes:
    wide = b""
    if at >= WIDE_FROM:
        versions = (WIDE_VERSION, WIDE_VERSION)
        wide = _END64.pack(
            b"PK\6\6", _END64.size - 12, *versions, 0, 0, count, count, directory_bytes, at
        ) + _LOCATOR64.pack(b"PK\6\7", 0, at + directory_bytes, 1)
    return wide + _END.pack(b"PK\5\6", 0, 0, count, count, directory_bytes, IN_ZIP64 if wide else at, 0)
