"""Archives that the registry must refuse, each with a phrase of the reason it must give.

HOSTILE is for every suite: the unit tests inspect each, the end-to-end tests may send each to the running API. None
takes over 1.5 MB, so each fits in a form. `raw_zip` writes any lie into a ZIP that zipfile would refuse to write.
"""

import io
import lzma
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

REGULAR = stat.S_IFREG | 0o644
UTF8 = 1 << 11


@dataclass
class Raw:
    """An entry: what is true is worked out from name and data, what is given instead is written as it is."""

    name: bytes = b"model.bin"
    data: bytes = b"weights"
    method: int = zipfile.ZIP_STORED
    flags: int = UTF8
    mode: int = REGULAR
    extra: bytes = b""
    packed: bytes | None = None
    size: int | None = None
    packed_size: int | None = None
    crc32: int | None = None
    offset: int | None = None
    local: dict[str, int | bytes] = field(default_factory=dict)  # what the local header says instead
    version: int = 20  # needed, times ten
    hidden: bool = False  # no local header and no data: the record points elsewhere
    unlisted: bool = False  # no record

    def __post_init__(self) -> None:
        if self.packed is None:
            deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
            deflated = deflater.compress(self.data) + deflater.flush()
            self.packed = deflated if self.method == zipfile.ZIP_DEFLATED else self.data
        self.size = len(self.data) if self.size is None else self.size
        self.packed_size = len(self.packed) if self.packed_size is None else self.packed_size
        self.crc32 = zlib.crc32(self.data) if self.crc32 is None else self.crc32


def raw_zip(
    *entries: Raw,
    prefix: bytes = b"",
    shift: int = 0,
    comment: bytes = b"",
    comment_bytes: int | None = None,
    trailer: bytes = b"",
    zip64: dict[str, int] | None = None,
    disk: int = 0,
    **end: int,
) -> bytes:
    """The bytes of a ZIP. `end` and `zip64` replace count, size or offset in the end records; shift moves offsets."""
    body, records = bytearray(prefix), bytearray()
    for entry in entries:
        offset = len(body) + shift if entry.offset is None else entry.offset
        if not entry.hidden:
            body += _local_header(entry) + (entry.packed or b"")
        if not entry.unlisted:
            records += _record(entry, offset)
    true = {"count": sum(not entry.unlisted for entry in entries), "size": len(records), "offset": len(body) + shift}
    tail = b""
    if zip64 is not None:
        wide = true | zip64
        at = wide.get("at", len(body) + len(records) + shift)
        tail = struct.pack(
            "<4sQ2H2L4Q",
            b"PK\6\6",
            wide.get("follow", 44),
            45,
            45,
            0,
            0,
            wide["count"],
            wide["count"],
            wide["size"],
            wide["offset"],
        ) + struct.pack("<4sLQL", b"PK\6\7", 0, at, 1)
    said = true | end
    length = len(comment) if comment_bytes is None else comment_bytes
    tail += struct.pack(
        "<4s4H2LH", b"PK\5\6", disk, disk, said["count"], said["count"], said["size"], said["offset"], length
    )
    return bytes(body + records + tail + comment + trailer)


def _local_header(entry: Raw) -> bytes:
    said = {"name": entry.name, "flags": entry.flags, "method": entry.method, "crc32": entry.crc32, "extra": b""}
    said |= {"packed_size": entry.packed_size, "size": entry.size} | entry.local
    wide = [said[key] for key in ("size", "packed_size") if said[key] >= 0xFFFF_FFFF]
    extra = said["extra"] or (struct.pack(f"<HH{len(wide)}Q", 1, 8 * len(wide), *wide) if wide else b"")
    sizes = [min(said[key], 0xFFFF_FFFF) for key in ("packed_size", "size")]
    numbers = (20, said["flags"], said["method"], 0, 0x21, said["crc32"], *sizes, len(said["name"]), len(extra))
    return struct.pack("<4s5H3L2H", b"PK\3\4", *numbers) + said["name"] + extra


def _record(entry: Raw, offset: int) -> bytes:
    wide = [value for value in (entry.size, entry.packed_size, offset) if value >= 0xFFFF_FFFF]
    extra = entry.extra + (struct.pack(f"<HH{len(wide)}Q", 1, 8 * len(wide), *wide) if wide else b"")
    size, packed_size, offset = (min(value, 0xFFFF_FFFF) for value in (entry.size, entry.packed_size, offset))
    lengths = (len(entry.name), len(extra), 0)
    numbers = (
        3 << 8 | 20,
        entry.version,
        entry.flags,
        entry.method,
        0,
        0x21,
        entry.crc32,
        packed_size,
        size,
        *lengths,
        0,
        0,
    )
    return struct.pack("<4s6H3L5H2L", b"PK\1\2", *numbers, entry.mode << 16, offset) + entry.name + extra


class Hostile(NamedTuple):
    name: str
    reason: str  # a phrase of the text of the refusal
    build: Callable[[], bytes]

    def __str__(self) -> str:
        return self.name


def _named(name: bytes, flags: int = UTF8) -> Callable[[], bytes]:
    return lambda: raw_zip(Raw(name, flags=flags))


def _of(*entries: Raw, **end: int) -> Callable[[], bytes]:
    return lambda: raw_zip(*entries, **end)


def _names(*names: str) -> Callable[[], bytes]:
    return lambda: raw_zip(*(Raw(name.encode()) for name in names))


def _extra(kind: int, value: bytes) -> bytes:
    return struct.pack("<HH", kind, len(value)) + value


def _unicode_path(name: bytes, other: bytes) -> bytes:
    return _extra(0x7075, struct.pack("<BL", 1, zlib.crc32(name)) + other)


def _asi_symlink(target: bytes) -> bytes:
    value = struct.pack("<HLHH", stat.S_IFLNK | 0o777, len(target), 0, 0) + target
    return _extra(0x756E, struct.pack("<L", zlib.crc32(value)) + value)


def _packed_with(method: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("model.bin", b"weights" * 100)
    return file.getvalue()


def _kernel_bomb() -> bytes:
    """One packed kernel under many names (David Fifield, "A better zip bomb", full overlap)."""
    kernel = Raw(b"0", bytes(190_000), zipfile.ZIP_DEFLATED)
    others = [Raw(b"%d" % n, kernel.data, kernel.method, offset=0, hidden=True) for n in range(1, 200)]
    return raw_zip(kernel, *others)


def _quoting_bomb() -> bytes:
    """Each file begins with the local header of the next, quoted in a stored deflate block (same source)."""
    inner = Raw(b"b", b"kernel" * 100)
    quoted = _local_header(inner) + inner.data
    outer = Raw(b"a", quoted)
    return raw_zip(outer, Raw(b"b", inner.data, offset=31, hidden=True))


def _ir(xml: str, **bin_entry: bytes) -> Callable[[], bytes]:
    return lambda: raw_zip(Raw(b"model.xml", xml.encode()), Raw(b"model.bin", **bin_entry))


def _comment_with_an_end() -> bytes:
    """Two directories: a reader that looks for the first end record sees another archive."""
    inner = raw_zip(Raw(b"inner.bin"))
    return raw_zip(Raw(b"outer.bin"), comment=inner)


_LOCAL_ZIP64 = {"size": 0xFFFF_FFFF, "extra": _extra(1, struct.pack("<Q", 8))}
PROGRAM = b"MZ" + bytes(62)
LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
BOMB = bytes(1_000_000)

HOSTILE: tuple[Hostile, ...] = (
    # Not a ZIP, or not a whole one.
    Hostile("text", "not a whole ZIP", lambda: b"weights, but not packed"),
    Hostile("one-byte", "not a whole ZIP", lambda: b"P"),
    Hostile("gzip", "not a whole ZIP", lambda: b"\x1f\x8b\x08" + bytes(100)),
    Hostile("xz", "not a whole ZIP", lambda: lzma.compress(b"weights")),
    Hostile("cut-in-the-middle", "not a whole ZIP", lambda: raw_zip(Raw())[:60]),
    Hostile("cut-by-one-byte", "end record is damaged", lambda: raw_zip(Raw())[:-1]),
    Hostile("only-an-end-signature", "end record is damaged", lambda: b"PK\5\6"),
    Hostile("start-cut-off", "before the place", lambda: raw_zip(Raw())[10:]),
    Hostile("damaged-record", "damaged at entry 1", lambda: raw_zip(Raw()).replace(b"PK\1\2", b"PK\1\3")),
    Hostile("record-cut-short", "directory is", _of(Raw(), size=40)),
    Hostile("no-entries", "holds no file", lambda: raw_zip()),
    Hostile("only-folders", "holds no file", _of(Raw(b"a/", b""), Raw(b"b/", b""))),
    # Other bytes around the archive.
    Hostile("self-extracting", "put in front", lambda: raw_zip(Raw(), prefix=PROGRAM, shift=-len(PROGRAM))),
    Hostile("self-extracting-adjusted", "before its first entry", lambda: raw_zip(Raw(), prefix=PROGRAM)),
    Hostile("bytes-behind", "followed by bytes that do not belong", lambda: raw_zip(Raw(), trailer=b"<script>")),
    Hostile("two-archives-in-a-row", "put in front", lambda: raw_zip(Raw(b"a")) + raw_zip(Raw(b"b"))),
    Hostile("archive-in-the-comment", "ambiguous", _comment_with_an_end),
    Hostile("end-signature-in-the-comment", "ambiguous", lambda: raw_zip(Raw(), comment=b"PK\5\6 is magic")),
    Hostile("comment-cut-short", "end record is damaged", lambda: raw_zip(Raw(), comment=b"x", comment_bytes=9)),
    Hostile("split-volume", "several volumes", _of(Raw(), disk=1)),
    # A directory that lies about itself.
    Hostile("10001-entries", "10,001 entries", lambda: raw_zip(*(Raw(b"%d" % n, b"x") for n in range(10_001)))),
    Hostile("count-too-low", "does not end after", lambda: raw_zip(*(Raw(b"%d" % n) for n in range(9)), count=1)),
    Hostile("count-too-high", "damaged at entry 2", _of(Raw(), count=2)),
    Hostile("count-65535", "65,535 entries", _of(Raw(), count=0xFFFF)),
    Hostile("directory-of-4-gib", "directory takes", _of(Raw(), size=0xFFFF_FFFE)),
    Hostile("directory-elsewhere", "place its end record gives", _of(Raw(), offset=3)),
    Hostile(
        "zip64-count-of-2-to-40",
        "1,099,511,627,776 entries",
        lambda: raw_zip(Raw(), zip64={"count": 1 << 40}, count=0xFFFF),
    ),
    Hostile("zip64-contradicts", "contradict each other", lambda: raw_zip(Raw(), zip64={}, count=2)),
    Hostile("zip64-elsewhere", "Zip64 end record is damaged", lambda: raw_zip(Raw(), zip64={"at": 1})),
    Hostile(
        "zip64-sizes-missing",
        "lacks the Zip64 sizes",
        lambda: raw_zip(Raw(size=0xFFFF_FFFE)).replace(b"\xfe\xff\xff\xff", b"\xff" * 4),
    ),
    Hostile("damaged-extra-field", "damaged extra field", _of(Raw(extra=b"\1\2\xff\xff"))),
    # Paths that lead elsewhere, or that devices cannot write.
    Hostile("absolute", "is absolute", _named(b"/etc/passwd")),
    Hostile("parent", "has '..'", _named(b"../../etc/passwd")),
    Hostile("parent-inside", "has '..'", _named(b"a/../../b")),
    Hostile("parent-at-the-end", "has '..'", _named(b"a/..")),
    Hostile("drive", "is absolute", _named(b"C:/Windows/win.ini")),
    Hostile("drive-relative", "is absolute", _named(b"c:win.ini")),
    Hostile("backslash", "has a backslash", _named(rb"..\..\win.ini")),
    Hostile("unc", "has a backslash", _named(rb"\\host\share\file")),
    Hostile("nul", "control character", _named(b"model.xml\0.png")),
    Hostile("line-break", "control character", _named(b"model\nfake: header.bin")),
    Hostile("escape-sequence", "control character", _named(b"\x1b[2Jmodel.bin")),
    Hostile("c1-control", "control character", _named("a\x85b".encode())),
    Hostile("no-name", "is empty", _named(b"")),
    Hostile("path-of-1025-bytes", "too long", _named(b"/".join([b"a" * 40] * 25) + b"b")),
    Hostile("name-of-256-bytes", "too long", _named("é".encode() * 128)),
    Hostile("path-of-65535-bytes", "too long", _named(b"a" * 0xFFFF)),
    Hostile("not-utf-8", "not valid UTF-8", _named(b"\xff\xfe.bin")),
    Hostile("second-name", "second, different name", _of(Raw(extra=_unicode_path(b"model.bin", b"../evil.bin")))),
    # Entries that are not plain files.
    Hostile("symlink", "symbolic link", _of(Raw(b"link", b"/etc/passwd", mode=stat.S_IFLNK | 0o777))),
    Hostile("symlink-in-an-extra-field", "symbolic link", _of(Raw(b"link", extra=_asi_symlink(b"/etc")))),
    Hostile("symlinked-folder", "symbolic link", _of(Raw(b"link/", b"", mode=stat.S_IFLNK | 0o777), Raw(b"link/x"))),
    Hostile("pipe", "special file", _of(Raw(mode=stat.S_IFIFO | 0o644))),
    Hostile("device", "special file", _of(Raw(mode=stat.S_IFBLK | 0o644))),
    Hostile("folder-without-slash", "special file", _of(Raw(mode=stat.S_IFDIR | 0o755))),
    Hostile("folder-with-data", "is a folder but holds data", _of(Raw(b"folder/"), Raw())),
    # Two names for one file.
    Hostile("named-twice", "in the archive twice", _names("model.bin", "model.bin")),
    Hostile("named-twice-by-dot", "one file on some devices", _names("model.bin", "./model.bin")),
    Hostile("named-twice-by-slashes", "one file on some devices", _names("a/model.bin", "a//model.bin")),
    Hostile("named-twice-by-ends", "one file on some devices", _names("a/model.bin", "a./model.bin .")),
    Hostile("named-twice-by-case", "one file on some devices", _names("Model.bin", "model.bin")),
    Hostile("named-twice-by-unicode", "one file on some devices", _names("caf\u00e9", "cafe\u0301")),
    Hostile("file-and-folder", "needs it to be a folder", _names("a", "a/b")),
    Hostile("file-and-folder-apart", "needs it to be a folder", _names("a", "a-b", "a.b", "a/b/c")),
    # Encryption and methods that devices cannot unpack.
    Hostile("encrypted", "is encrypted", _of(Raw(flags=UTF8 | 1))),
    Hostile("strongly-encrypted", "is encrypted", _of(Raw(flags=UTF8 | 1 << 6))),
    Hostile("masked-headers", "is encrypted", _of(Raw(flags=UTF8 | 1 << 13))),
    Hostile("aes", "is encrypted", _of(Raw(method=99))),
    Hostile("bzip2", "packed with bzip2", lambda: _packed_with(zipfile.ZIP_BZIP2)),
    Hostile("lzma", "packed with LZMA", lambda: _packed_with(zipfile.ZIP_LZMA)),
    Hostile("deflate64", "packed with Deflate64", _of(Raw(method=9))),
    Hostile("unknown-method", "packed with method 250", _of(Raw(method=250))),
    Hostile("newer-zip", "needs version 6.3", _of(Raw(version=63))),
    Hostile("patch", "a patch of another file", _of(Raw(flags=UTF8 | 1 << 5))),
    # Bombs.
    Hostile("deflate-bomb", "decompression bomb", lambda: raw_zip(Raw(b"zeros", BOMB, zipfile.ZIP_DEFLATED))),
    Hostile("declares-100-gib", "100 GiB", lambda: raw_zip(Raw(method=8, size=(100 << 30) + 1))),
    Hostile("declares-16-eib", "100 GiB", lambda: raw_zip(Raw(method=8, size=(1 << 64) - 1))),
    Hostile(
        "declares-less-than-it-holds",
        "holds more than the 2,000 bytes",
        lambda: raw_zip(Raw(b"zeros", BOMB, 8, size=2000)),
    ),
    Hostile("overlapping-fully", "overlaps what follows", _kernel_bomb),
    Hostile("overlapping-by-quoting", "overlaps what follows", _quoting_bomb),
    Hostile("entry-over-the-directory", "overlaps what follows", _of(Raw(packed_size=1000, size=1000))),
    Hostile(
        "padded-with-empty-blocks",
        "far more bytes packed",
        _of(Raw(method=8, packed=b"\0\0\0\xff\xff" * 1000 + b"\3\0", data=b"")),
    ),
    # Headers that disagree with the directory.
    Hostile("other-local-name", "another name in its own header", _of(Raw(local={"name": b"../../evl"}))),
    Hostile(
        "other-local-name-length",
        "another name in its own header",
        _of(Raw(local={"name": b"model.bin.exe"}), Raw(b"z")),
    ),
    Hostile("other-local-encoding", "another name in its own header", _of(Raw("é".encode(), local={"flags": 0}))),
    Hostile("other-local-method", "packed otherwise", _of(Raw(local={"method": 8}))),
    Hostile("other-local-size", "another size or checksum", _of(Raw(local={"size": 6}))),
    Hostile("other-local-checksum", "another size or checksum", _of(Raw(local={"crc32": 1}))),
    Hostile("other-local-zip64-size", "another size or checksum", _of(Raw(local=_LOCAL_ZIP64))),
    Hostile(
        "other-local-second-name",
        "second, different name",
        _of(Raw(local={"extra": _unicode_path(b"model.bin", b"x")})),
    ),
    Hostile("damaged-local-extra-field", "damaged extra field", _of(Raw(local={"extra": b"\1\2\xff\xff"}))),
    Hostile("local-sizes-follow", "packed otherwise", _of(Raw(local={"flags": UTF8 | 8}))),
    Hostile("unlisted-entry", "belong to no entry", _of(Raw(), Raw(b"../evil", unlisted=True), Raw(b"b"))),
    Hostile("unlisted-last-entry", "belong to no entry", _of(Raw(), Raw(b"../evil", unlisted=True))),
    Hostile(
        "overlapping-by-a-long-extra-field",
        "overlaps what follows",
        _of(Raw(local={"extra": _extra(9, b"")}, packed=b"abc", packed_size=7), Raw(b"b")),
    ),
    Hostile("locally-encrypted", "packed otherwise", _of(Raw(local={"flags": UTF8 | 1}))),
    Hostile("no-local-header", "does not begin where", lambda: raw_zip(Raw()).replace(b"PK\3\4", b"PK\3\5")),
    # Contents that are not what they are said to be.
    Hostile("wrong-checksum", "CRC-32 does not match", _of(Raw(crc32=1))),
    Hostile("stored-in-another-size", "two sizes differ", _of(Raw(size=3))),
    Hostile("not-deflated", "cannot be inflated", _of(Raw(method=8, packed=b"\xff" * 7))),
    Hostile(
        "deflated-without-end", "do not end where", lambda: raw_zip(Raw(method=8, packed=Raw(method=8).packed[:-1]))
    ),
    Hostile(
        "bytes-behind-the-deflated",
        "do not end where",
        lambda: raw_zip(Raw(method=8, packed=Raw(method=8).packed + b"x")),
    ),
    Hostile("declares-more-than-it-holds", "holds 7 bytes, not the 70", _of(Raw(method=8, size=70))),
    # XML.
    Hostile("xml-dtd", "declares a DTD", _ir('<!DOCTYPE net SYSTEM "http://127.0.0.1/x"><net/>')),
    Hostile(
        "xml-dtd-in-utf-16",
        "declares a DTD",
        lambda: raw_zip(Raw(b"m.xml", "<!DOCTYPE net><net/>".encode("utf-16")), Raw(b"m.bin")),
    ),
    Hostile("xml-laughs", "declares a DTD", _ir(f'<!DOCTYPE net [<!ENTITY l0 "ha">{LAUGHS}]><net>&l9;</net>')),
    Hostile(
        "xml-external-entity",
        "declares a DTD",
        _ir('<!DOCTYPE net [<!ENTITY x SYSTEM "file:///etc/passwd">]><net>&x;</net>'),
    ),
    Hostile("xml-undeclared-entity", "not well-formed", _ir("<net>&secret;</net>")),
    Hostile("xml-cut-short", "not well-formed", _ir("<net><layers>")),
    Hostile("xml-too-deep", "nests its elements", _ir("<net>" + "<a>" * 5000 + "</a>" * 5000 + "</net>")),
    Hostile("xml-giant-attribute", "a tag or a text of over", _ir(f'<net><a b="{"x" * 1_400_000}"/></net>')),
    Hostile("xml-giant-text", "a tag or a text of over", _ir(f"<net>{'x' * 1_400_000}</net>")),
)
