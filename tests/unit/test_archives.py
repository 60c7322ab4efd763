"""Which archives are accepted, which are refused and why, and how little of them is read."""

import io
import os
import shutil
import tracemalloc
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest

from chalicelib.registry.archives import VERIFIED_BYTES, inspect_archive
from chalicelib.registry.errors import InvalidArchive
from tests.hostile_archives import HOSTILE, Raw, raw_zip

IR = b'<net><rt_info><model_info><labels value="cat dog"/></model_info></rt_info></net>'


def zipped(files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED, into: Any = None) -> io.BytesIO:
    file = into or io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for path, data in files.items():
            archive.writestr(path, data)
    return file


class OneWay(io.BytesIO):
    """A pipe, as far as zipfile can tell: it then writes sizes behind the data."""

    def seekable(self) -> bool:
        return False

    def seek(self, *_: int) -> int:
        raise OSError

    def tell(self) -> int:
        raise OSError


class Sparse(io.RawIOBase):
    """A file of which only some spans are written, the rest zeros; counts what is read. Reads come in small bits."""

    def __init__(self, size_bytes: int, spans: dict[int, bytes], most_bytes: int = 1 << 30) -> None:
        self.size_bytes, self.spans, self.most_bytes = size_bytes, spans, most_bytes
        self.position = self.read_count = self.read_bytes = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self.position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self.position, os.SEEK_END: self.size_bytes}[whence]
        return self.position

    def read(self, size: int = -1) -> bytes:
        assert size >= 0, "an open read would fetch the whole object"
        start, end = self.position, min(self.position + min(size, self.most_bytes), self.size_bytes)
        data = bytearray(max(0, end - start))
        for at, span in self.spans.items():
            low, high = max(at, start), min(at + len(span), end)
            if low < high:
                data[low - start : high - start] = span[low - at : high - at]
        self.position = start + len(data)
        self.read_count += 1
        self.read_bytes += len(data)
        return bytes(data)


def sparse(weights_bytes: int, **reading: int) -> Sparse:
    """An archive of an IR whose stored weights are zeros that exist nowhere."""
    xml, weights = Raw(b"m.xml", IR), Raw(b"m.bin", b"", size=weights_bytes, packed_size=weights_bytes, crc32=0)
    written = raw_zip(xml, weights, zip64={}, count=0xFFFF, size=0xFFFF_FFFF, offset=0xFFFF_FFFF)
    split = written.index(b"PK\1\2")
    moved = raw_zip(
        xml, weights, count=0xFFFF, size=0xFFFF_FFFF, offset=0xFFFF_FFFF,
        zip64={"offset": split + weights_bytes, "at": len(written) - 42 - 56 + weights_bytes},
    )  # fmt: skip
    return Sparse(len(moved) + weights_bytes, {0: moved[:split], split + weights_bytes: moved[split:]}, **reading)


@pytest.mark.parametrize("hostile", HOSTILE, ids=str)
def test_a_hostile_archive_is_refused_with_its_reason(hostile):
    with pytest.raises(InvalidArchive) as refusal:
        inspect_archive(io.BytesIO(hostile.build()))

    assert hostile.reason in str(refusal.value)
    assert str(refusal.value).isprintable()
    assert len(str(refusal.value)) < 700


@pytest.mark.parametrize("hostile", HOSTILE, ids=str)
def test_a_hostile_archive_costs_little_memory(hostile):
    content = io.BytesIO(hostile.build())
    tracemalloc.start()

    with pytest.raises(InvalidArchive):
        inspect_archive(content)

    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 16 * 1024**2


def test_the_files_are_reported_with_sizes_and_checksums_but_not_the_folders():
    report = inspect_archive(zipped({"model/": b"", "model/weights.dat": b"abc" * 99, "readme.md": b"# hi"}))

    assert [(e.path, e.size_bytes, e.crc32) for e in report.entries] == [
        ("model/weights.dat", 297, zlib.crc32(b"abc" * 99)),
        ("readme.md", 4, zlib.crc32(b"# hi")),
    ]
    assert report.entries[0].packed_bytes < 20
    assert report.size_bytes == 301


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("into", [io.BytesIO, OneWay])
def test_stored_deflated_and_streamed_archives_are_accepted(compression, into):
    archive = zipped({"a.bin": b"abc" * 99, "empty": b""}, compression, into())

    assert [e.path for e in inspect_archive(io.BytesIO(archive.getvalue())).entries] == ["a.bin", "empty"]


def test_an_archive_that_announces_zip64_sizes_is_accepted():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive, archive.open("a.bin", "w", force_zip64=True) as entry:
        entry.write(b"weights")

    assert inspect_archive(file).size_bytes == 7


def test_zip64_end_records_that_agree_are_accepted():
    assert inspect_archive(io.BytesIO(raw_zip(Raw(), zip64={}))).size_bytes == 7


def test_an_archive_with_a_comment_is_accepted():
    assert inspect_archive(io.BytesIO(raw_zip(Raw(), comment=b"trained on Tuesday"))).size_bytes == 7


def test_archives_inside_the_archive_are_not_looked_into():
    inner = raw_zip(Raw(b"../../etc/passwd"))

    assert [e.path for e in inspect_archive(io.BytesIO(raw_zip(Raw(b"inner.zip", inner)))).entries] == ["inner.zip"]


def test_what_shutil_packs_is_accepted(tmp_path):
    (tmp_path / "model" / "deployment").mkdir(parents=True)
    (tmp_path / "model" / "deployment" / "weights.dat").write_bytes(b"weights")
    packed = shutil.make_archive(str(tmp_path / "model"), "zip", tmp_path / "model")

    with Path(packed).open("rb") as file:
        assert [e.path for e in inspect_archive(file).entries] == ["deployment/weights.dat"]


@pytest.mark.parametrize(
    ("raw_name", "flags", "path"),
    [
        ("modèle.bin".encode(), 1 << 11, "modèle.bin"),
        ("modèle.bin".encode(), 0, "modèle.bin"),  # as `zip` on Unix and the Finder write it
        ("modèle.bin".encode("cp437"), 0, "modèle.bin"),
        (b"a" * 255, 0, "a" * 255),
    ],
)
def test_a_name_is_read_as_utf8_where_it_can_be_and_else_as_cp437(raw_name, flags, path):
    assert inspect_archive(io.BytesIO(raw_zip(Raw(raw_name, flags=flags)))).entries[0].path == path


def test_ten_thousand_entries_are_accepted():
    archive = raw_zip(*(Raw(b"%d" % n, b"x") for n in range(10_000)))

    assert len(inspect_archive(io.BytesIO(archive)).entries) == 10_000


def test_two_hundred_times_the_packed_size_is_accepted_and_one_byte_more_is_not():
    body = {"method": 8, "packed": b"x" * 10, "crc32": 0}

    with pytest.raises(InvalidArchive, match="cannot be inflated"):  # so the sizes were let pass
        inspect_archive(io.BytesIO(raw_zip(Raw(size=2000, **body))))
    with pytest.raises(InvalidArchive, match="decompression bomb"):
        inspect_archive(io.BytesIO(raw_zip(Raw(size=2001, **body))))


def test_damage_is_found_in_every_byte_of_a_small_archive():
    archive = bytearray(zipped({"a.bin": os.urandom(64), "b.bin": b"abc" * 20}).getvalue())
    start = archive.index(b"a.bin") + 5
    for at in range(start, start + 64):
        archive[at] ^= 1
        with pytest.raises(InvalidArchive):
            inspect_archive(io.BytesIO(archive))
        archive[at] ^= 1


def test_an_entry_too_large_to_inflate_in_a_request_is_not_verified_but_the_others_are():
    large = Raw(b"large", b"", 8, size=VERIFIED_BYTES + 1, packed=os.urandom(400_000))

    assert inspect_archive(io.BytesIO(raw_zip(large, Raw(b"small")))).size_bytes == VERIFIED_BYTES + 8
    with pytest.raises(InvalidArchive, match="'small' is damaged"):
        inspect_archive(io.BytesIO(raw_zip(large, Raw(b"small", crc32=1))))


def test_of_a_five_gigabyte_archive_only_a_few_small_pieces_are_read():
    archive = sparse(5 * 1024**3)

    report = inspect_archive(archive)

    assert (report.format, report.labels, report.entries[1].size_bytes) == ("OpenVINO", ("cat", "dog"), 5 * 1024**3)
    assert archive.read_count <= 3
    assert archive.read_bytes <= 256 * 1024


def test_a_reader_that_gives_less_than_asked_for_is_asked_again():
    assert inspect_archive(sparse(5 * 1024**3, most_bytes=1000)).labels == ("cat", "dog")


def test_a_failing_reader_is_not_taken_for_a_bad_archive():
    class Failing(Sparse):
        def read(self, size: int = -1) -> bytes:
            raise OSError("S3 is down")

    with pytest.raises(OSError, match="S3 is down"):
        inspect_archive(Failing(1000, {}))


def test_reads_of_a_large_archive_of_many_entries_are_bounded():
    count, each = 1000, 1_000_000
    entries = [Raw(b"%04d" % n, b"", size=each, packed_size=each, crc32=0) for n in range(count)]
    headers = [raw_zip(entry)[: 30 + 4] for entry in entries]
    spans = {n * (each + 34): header for n, header in enumerate(headers)}
    end = raw_zip(*(Raw(e.name, b"", size=each, packed_size=each, crc32=0, offset=at, hidden=True)
                    for e, at in zip(entries, spans, strict=True)), shift=count * (each + 34))  # fmt: skip
    archive = Sparse(count * (each + 34) + len(end), spans | {count * (each + 34): end})

    assert len(inspect_archive(archive).entries) == count
    assert archive.read_count <= 1 + 128
    assert archive.read_bytes <= (128 + 2) * 64 * 1024  # the first read takes two blocks
