"""Whatever the bytes, inspect_archive reports or refuses; and what it accepts, zipfile reads the same way.

zipfile is the judge because the clients in the field unzip with it.
"""

import contextlib
import io
import re
import zipfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chalicelib.registry.archives import ArchiveReport, inspect_archive
from chalicelib.registry.errors import InvalidArchive
from chalicelib.registry.openvino import read_ir
from tests.hostile_archives import HOSTILE, Raw, raw_zip

XML = (
    b'<?xml version="1.0"?><net name="n" version="11"><layers><layer id="1" type="Const"><data element_type="f16"'
    b' size="9"/></layer></layers><rt_info><model_info><labels value="cat dog"/><task_type value="detection"/>'
    b'<label_info value="{&quot;label_names&quot;: [&quot;cat&quot;]}"/></model_info><nncf><quantization/></nncf>'
    b"</rt_info></net>"
)


def valid(**writing: object) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **writing) as archive:  # type: ignore[arg-type]
        archive.writestr("deployment/", b"")
        archive.writestr("deployment/model.xml", XML)
        archive.writestr("deployment/model.bin", bytes(range(256)))
        archive.writestr("modèle.safetensors", (2).to_bytes(8, "little") + b"{}")
        with archive.open("weights.gguf", "w", force_zip64=True) as entry:
            entry.write(b"GGUF" * 9)
        archive.comment = b"trained on Tuesday"
    return file.getvalue()


SEEDS = [
    valid(),
    valid(compression=zipfile.ZIP_DEFLATED),
    raw_zip(Raw(), Raw(b"m.tflite", b"\0\0\0\0TFL3", 8), zip64={}),
    *(archive for hostile in HOSTILE if len(archive := hostile.build()) < 10_000),
]
INTERESTING = [
    *(bytes([n]) for n in (0, 1, 0x7F, 0x80, 0xFF)),
    *(n.to_bytes(size, "little") for size in (2, 4, 8) for n in (0, 1, 22, 46, 1 << 8 * size - 1)),
    *(b"\xff" * size for size in (2, 4, 8)),
    *(b"PK" + kind for kind in (b"\1\2", b"\3\4", b"\5\6", b"\6\6", b"\6\7", b"\7\x08")),
    *(b"../", b"/", b"\\", b"\0", b"model.bin"),
    *(b"<!DOCTYPE x [", b"&x;", b"</net>", b"<net>", b"]]>"),
]  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """A seed after a few cuts, overwritings, insertions and transplants."""
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(1, 4))):
        # Half of the time near the end: there are the directory and the end records.
        at = draw(st.integers(0, len(data)) | st.integers(max(0, len(data) - 150), len(data)))
        piece = draw(st.sampled_from(INTERESTING) | st.binary(min_size=1, max_size=8))
        match draw(st.sampled_from(["overwrite", "overwrite", "insert", "cut", "truncate", "flip", "transplant"])):
            case "overwrite":
                data = data[:at] + piece + data[at + len(piece) :]
            case "insert":
                data = data[:at] + piece + data[at:]
            case "cut":
                data = data[:at] + data[at + draw(st.integers(1, 60)) :]
            case "truncate":
                data = data[:at]
            case "flip":
                data = data[:at] + bytes(b ^ 1 << draw(st.integers(0, 7)) for b in data[at : at + 1]) + data[at + 1 :]
            case "transplant":
                other = draw(st.sampled_from(seeds))
                start = draw(st.integers(0, len(other)))
                data = data[:at] + other[start : start + draw(st.integers(1, 200))] + data[at:]
    return data


def inspected(data: bytes) -> ArchiveReport | str:
    """The report, or the reason for which it is refused; any other exception fails the test."""
    try:
        return inspect_archive(io.BytesIO(data))
    except InvalidArchive as refusal:
        return str(refusal)


def as_zipfile_sees(data: bytes) -> list[tuple[bytes, int, int]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        return [(_raw_name(e), e.file_size, e.CRC) for e in archive.infolist() if not e.is_dir()]


def _raw_name(entry: zipfile.ZipInfo) -> bytes:
    return entry.orig_filename.encode("utf-8" if entry.flag_bits & 1 << 11 else "cp437")


def _in_bytes(report: ArchiveReport, raw_names: list[bytes]) -> list[tuple[bytes, int, int]]:
    """The report with names in bytes: those that are no UTF-8 were read as code page 437."""
    return [
        (e.path.encode("utf-8" if e.path.encode() == raw else "cp437"), e.size_bytes, e.crc32)
        for e, raw in zip(report.entries, raw_names, strict=True)
    ]


NAME = st.characters(exclude_categories=["Cs"], exclude_characters="\0")  # zipfile cuts a name at NUL
fuzzing = settings(deadline=None, max_examples=1000, suppress_health_check=list(HealthCheck))


@fuzzing
@given(st.binary(max_size=400))
def test_random_bytes_are_refused(data):
    assert isinstance(inspected(data), str)


@fuzzing
@given(mutated(SEEDS))
def test_a_mutated_archive_is_refused_or_read_as_zipfile_reads_it(data):
    outcome = inspected(data)

    if isinstance(outcome, ArchiveReport):
        judged = as_zipfile_sees(data)
        assert _in_bytes(outcome, [raw for raw, *_ in judged]) == judged
    else:
        assert outcome.isprintable()


@pytest.mark.parametrize("archive", SEEDS[:3], ids=["stored", "deflated", "zip64"])
def test_an_archive_cut_short_anywhere_is_refused(archive):
    assert all(isinstance(inspected(archive[:length]), str) for length in range(len(archive)))


@fuzzing
@given(mutated([XML, XML.decode().encode("utf-16")]), st.integers(1, 200))
def test_a_mutated_ir_is_read_or_refused(xml, piece_bytes):
    with contextlib.suppress(InvalidArchive):
        read_ir("model.xml", [xml[at : at + piece_bytes] for at in range(0, len(xml), piece_bytes)])


@fuzzing
@given(mutated([XML]))
def test_an_archive_with_a_mutated_ir_is_reported_or_refused(xml):
    outcome = inspected(raw_zip(Raw(b"model.xml", xml), Raw()))

    assert isinstance(outcome, ArchiveReport) or outcome.isprintable()


@settings(deadline=None, max_examples=300)
@given(
    st.dictionaries(st.text(NAME, min_size=1, max_size=20), st.binary(max_size=50), max_size=5), st.sampled_from([0, 8])
)
def test_whatever_zipfile_writes_is_reported_in_full_or_refused_for_its_names(files, compression):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for path, data in files.items():
            archive.writestr(path, data)

    outcome = inspected(file.getvalue())

    if isinstance(outcome, ArchiveReport):
        assert [(e.path, e.size_bytes) for e in outcome.entries] == [
            (path, len(data)) for path, data in files.items() if not path.endswith("/")
        ]
    else:
        assert re.search("path of entry|one file on|needs it to be|holds no file|holds data", outcome)
