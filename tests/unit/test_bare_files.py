"""Single model files: what they are, by name and signature."""

import io

import pytest

from chalicelib.registry.archives import describe_archive, inspect_archive, inspect_file
from chalicelib.registry.errors import InvalidArchive
from tests.conftest import zip_of

SAFETENSORS = (2).to_bytes(8, "little") + b"{}"


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("model.onnx", b"\x08\x07", "ONNX"),
        ("MODEL.ONNX", b"\x08\x07", "ONNX"),
        ("model.safetensors", SAFETENSORS, "SafeTensors"),
        ("model.safetensors", b"not so", None),
        ("model.gguf", b"GGUF\3\0\0\0", "GGUF"),
        ("model.tflite", b"\x1c\0\0\0TFL3", "TFLite"),
        ("model.pt", b"PK\x03\x04", "PyTorch"),
        ("weights.bin", b"anything", None),
        ("a", b"a", None),
    ],
)
def test_a_bare_file_is_told_by_name_and_signature(name, content, found):
    report = inspect_file(io.BytesIO(content), name)

    assert report.format == found
    assert [(entry.path, entry.size_bytes, entry.crc32) for entry in report.entries] == [(name, len(content), None)]


@pytest.mark.parametrize(
    ("name", "content", "declared"),
    [("model.gguf", b"GGUF", "ONNX"), ("model.safetensors", b"not so", "SafeTensors")],
)
def test_a_declared_format_that_the_file_contradicts_is_refused(name, content, declared):
    with pytest.raises(InvalidArchive, match="but the file holds"):
        inspect_file(io.BytesIO(content), name, declared_format=declared)


def test_a_format_that_nobody_knows_stands():
    assert inspect_file(io.BytesIO(b"x"), "engine.plan", declared_format="TensorRT").format is None


def test_an_archive_is_described_as_it_was_inspected():
    archive = io.BytesIO(
        zip_of(
            model__xml='<net version="11"><rt_info><model_info><labels value="a b"/></model_info></rt_info></net>',
            model__bin=b"weights",
        )
    )

    assert describe_archive(archive) == inspect_archive(archive)
