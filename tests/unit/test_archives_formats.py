"""Which format an archive is found to hold, whether a declared one stands, and what an OpenVINO IR says."""

import io
import itertools
import json
import zipfile
from xml.sax.saxutils import quoteattr

import pytest

from chalicelib.registry.archives import ArchiveReport, inspect_archive
from chalicelib.registry.errors import InvalidArchive
from chalicelib.registry.openvino import MAX_ELEMENTS, MAX_XML_BYTES, read_ir


def zipped(files: dict[str, bytes]) -> io.BytesIO:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for path, data in files.items():
            archive.writestr(path, data)
    return file


def info(**values: str) -> str:
    """A model_info section as Geti and OpenVINO Training Extensions write it."""
    return f"<model_info>{''.join(f'<{name} value={quoteattr(text)} />' for name, text in values.items())}</model_info>"


def ir(rt_info: str = "", layers: str = "") -> bytes:
    """An IR of version 11, cut down to a layer of each kind that matters."""
    return f"""<?xml version="1.0"?>
<net name="torch_jit" version="11">
	<layers>
		<layer id="0" name="image" type="Parameter" version="opset1">
			<data shape="1,3,416,416" element_type="f32" />
			<rt_info>
				<attribute name="layout" version="0" layout="[N,C,H,W]" />
			</rt_info>
			<output>
				<port id="0" precision="FP32" names="image">
					<dim>1</dim><dim>3</dim><dim>416</dim><dim>416</dim>
				</port>
			</output>
		</layer>
		{layers}
	</layers>
	<edges>
		<edge from-layer="0" from-port="0" to-layer="1" to-port="0" />
	</edges>
	<rt_info>
		<MO_version value="2024.3.0-16041-1e3b88e4e3f-releases/2024/3" />
		<Runtime_version value="2024.3.0-16041-1e3b88e4e3f-releases/2024/3" />
		<conversion_parameters><framework value="pytorch" /></conversion_parameters>
		{rt_info}
	</rt_info>
</net>
""".encode()


def constant(element_type: str, size_bytes: int, kind: str = "Const") -> str:
    return f'<layer type="{kind}"><data element_type="{element_type}" offset="0" size="{size_bytes}" /></layer>'


def inspected(xml: bytes, declared_format: str | None = None) -> ArchiveReport:
    archive = zipped({"deployment/Detection/model/model.xml": xml, "deployment/Detection/model/model.bin": b"w" * 64})
    return inspect_archive(archive, declared_format=declared_format)


SAFETENSORS = (2).to_bytes(8, "little") + b"{}"
IR = {"m.xml": ir(), "m.bin": b"weights"}
EXAMPLES = {
    "OpenVINO": IR,
    "ONNX": {"sub/model.ONNX": b"\x08\x07"},
    "PyTorch": {"model.pt": b"PK\x03\x04..."},
    "SafeTensors": {"model.safetensors": SAFETENSORS},
    "TensorFlow SavedModel": {"1/saved_model.pb": b"\x08\x01", "1/variables/variables.index": b"."},
    "TFLite": {"model.tflite": b"\x1c\0\0\0TFL3...."},
    "GGUF": {"model.Q4_K_M.gguf": b"GGUF\3\0\0\0"},
    "MLflow": {"MLmodel": b"flavors: {}", "model.onnx": b"\x08\x07"},
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_format_is_recognised(name):
    assert inspect_archive(zipped(EXAMPLES[name])).format == name


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("PyTorch", {"model.pth": b"\x80\x02\x8a\x0al\xfc"}),
        ("PyTorch", {"last.ckpt": b"PK\x03\x04..."}),
        ("PyTorch", {"pytorch_model-00001-of-00002.bin": b"PK\x03\x04..."}),
        ("PyTorch", {"archive/data.pkl": b"\x80\x02}", "archive/version": b"3\n", "archive/data/0": b"w"}),
        ("OpenVINO", {"a/Model.XML": ir(), "a/Model.BIN": b"w"}),
    ],
)
def test_other_forms_of_a_format_are_recognised(name, files):
    assert inspect_archive(zipped(files)).format == name


@pytest.mark.parametrize(
    "files",
    [
        {"m.xml": ir()},
        {"a/m.xml": ir(), "b/m.bin": b"w"},
        {"m.xml": ir(), "n.bin": b"w"},
        {"m.xml": b"<annotation/>", "m.bin": b"w"},
        {"m.xml": b"<annotation>&broken", "m.bin": b"w"},
        {"m.xml": b"no XML", "m.bin": b"w"},
        {"m.xml": b"", "m.bin": b"w"},
        {"m.xml": b"\n" * 100_000 + ir(), "m.bin": b"w"},
        {"m.xml": b'<?xml version="1.0" encoding="utf-7"?><net/>', "m.bin": b"w"},
        {"m.xml": b'<?xml version="1.0" encoding="nonsense"?><net/>', "m.bin": b"w"},
        {"m.tflite": b"not a flat buffer"},
        {"m.gguf": b"gg"},
        {"m.onnx": b""},
        {"m.safetensors": (1 << 40).to_bytes(8, "little") + b"{}"},
        {"m.safetensors": b"{}"},
        {"m.pt": b"\x80\x7f"},
        {"readme.md": b"# weights are elsewhere"},
    ],
    ids=str,
)
def test_what_only_resembles_a_format_is_not_taken_for_it(files):
    assert inspect_archive(zipped(files)).format is None


def test_an_ir_in_utf16_is_recognised():
    assert inspected(ir().decode().encode("utf-16")).format == "OpenVINO"


ORDER = ["MLflow", "OpenVINO", "TensorFlow SavedModel", "ONNX", "TFLite", "GGUF", "SafeTensors", "PyTorch"]


@pytest.mark.parametrize(("first", "second"), list(itertools.pairwise(ORDER)))
def test_of_several_formats_the_first_in_the_documented_order_is_taken(first, second):
    assert inspect_archive(zipped(EXAMPLES[second] | EXAMPLES[first])).format == first


@pytest.mark.parametrize(
    ("declared", "name"),
    [
        *(
            (spelled, "OpenVINO")
            for spelled in ("openvino", "OpenVINO", "open_vino", "OpenVINO IR", "ir", "OPENVINO-IR")
        ),
        *((spelled, "PyTorch") for spelled in ("pytorch", "Py Torch", "torch", "pt", ".pth", "TorchScript")),
        *((spelled, "TensorFlow SavedModel") for spelled in ("saved_model", "SavedModel", "tensorflow", "TF")),
        *((spelled, "TFLite") for spelled in ("tflite", "TensorFlow Lite", "LiteRT", "tensorflow")),
        ("onnx", "ONNX"),
        ("safe-tensors", "SafeTensors"),
        ("gguf", "GGUF"),
        ("ml-flow", "MLflow"),
    ],
)
def test_a_declared_format_stands_however_it_is_spelled(declared, name):
    assert inspect_archive(zipped(EXAMPLES[name]), declared_format=declared).format == name


def test_of_several_formats_the_declared_one_is_taken():
    both = IR | {"model.onnx": b"\x08"}

    assert inspect_archive(zipped(both), declared_format="onnx").format == "ONNX"


def test_a_declared_format_that_the_content_contradicts_is_refused_with_what_was_found():
    with pytest.raises(InvalidArchive, match="declared as 'onnx', but the archive holds OpenVINO and PyTorch"):
        inspect_archive(zipped(IR | EXAMPLES["PyTorch"]), declared_format="onnx")


def test_a_file_that_is_only_named_like_the_declared_format_is_refused():
    with pytest.raises(InvalidArchive, match="named like GGUF but does not begin like it"):
        inspect_archive(zipped({"m.gguf": b"weights"}), declared_format="gguf")


@pytest.mark.parametrize("declared", ["openvino", "caffe", ""])
def test_a_declared_format_stands_when_nothing_is_recognised(declared):
    assert inspect_archive(zipped({"weights.dat": b"w"}), declared_format=declared).format is None


def test_a_format_that_nobody_knows_is_not_contradicted():
    assert inspect_archive(zipped(IR), declared_format="geti").format == "OpenVINO"


def test_labels_task_and_precision_are_read_from_a_geti_export():
    names = ["traffic light", "stop_sign", "background"]
    model_info = info(
        blur_strength="-1",
        label_ids="66d68ff612144f0f3afa513d 66d68ff612144f0f3afa513e None",
        label_info=json.dumps({"label_names": names, "label_groups": [names], "ignore_index": 255}),
        labels="traffic_light stop_sign background",
        model_type="Segmentation",
        optimization_config="{}",
        task_type="segmentation",
    )
    layers = constant("i64", 10_000) + constant("f16", 900) + constant("f32", 100) + constant("f32", 9999, "Parameter")

    report = inspected(ir(model_info, layers))

    assert report.labels == ("traffic light", "stop_sign", "background")
    assert report.category == "segmentation"
    assert report.precision == ("fp16",)


def test_labels_without_label_info_are_the_words_as_they_are():
    assert inspected(ir(info(labels=" person  traffic_light "))).labels == ("person", "traffic_light")


@pytest.mark.parametrize(
    "label_info", ["{", "[]", "null", '{"label_names": "cat"}', '{"label_names": [1]}', "[" * 9999]
)
def test_label_info_that_cannot_be_used_is_passed_over(label_info):
    assert inspected(ir(info(labels="cat dog", label_info=label_info))).labels == ("cat", "dog")


def test_label_info_that_names_other_labels_is_passed_over():
    other = json.dumps({"label_names": ["dog", "cat"]})

    assert inspected(ir(info(labels="cat dog", label_info=other))).labels == ("cat", "dog")


def test_the_placeholder_of_instance_segmentation_is_no_label():
    assert inspected(ir(info(labels="otx_empty_lbl cat dog"))).labels == ("cat", "dog")


def test_labels_that_no_one_can_read_are_left_out():
    assert inspected(ir(info(labels="cat d\u202eog"))).labels is None


def test_labels_that_would_not_fit_into_the_metadata_are_left_out():
    assert inspected(ir(info(labels=" ".join(f"label-{n}" for n in range(5000))))).labels is None


def test_the_task_of_an_anomalib_export_is_found():
    assert inspected(ir(info(task="classification"))).category == "classification"


@pytest.mark.parametrize("task", ["", "x" * 257, "a&#10;b"])
def test_a_task_that_cannot_be_a_category_is_left_out(task):
    assert inspected(ir(f'<model_info><task_type value="{task}"/></model_info>')).category is None


@pytest.mark.parametrize(
    ("rt_info", "layers", "precision"),
    [
        (info(precision="FP16"), constant("f32", 100), ("fp16",)),
        (info(precision="FP64"), constant("f32", 100), ("fp32",)),
        ('<nncf><quantization><preset value="MIXED" /></quantization></nncf>', constant("f32", 100), ("int8",)),
        (
            '<nncf><weight_compression><mode value="int4_sym" /></weight_compression></nncf>',
            constant("u8", 9),
            ("int4",),
        ),
        ('<nncf><weight_compression><mode value="int8_asym" /></weight_compression></nncf>', "", ("int8",)),
        ('<nncf><weight_compression><mode value="nf4" /></weight_compression></nncf>', constant("u8", 9), None),
        ("", constant("f32", 100), ("fp32",)),
        ("", constant("bf16", 100), ("bf16",)),
        ("", constant("i8", 90) + constant("f32", 10), ("int8",)),
        ("", constant("u4", 90) + constant("u8", 10), ("int4",)),
        ("", constant("f16", 70) + constant("f32", 30), None),
        ("", constant("i64", 100) + constant("boolean", 9), None),
        ("", constant("f32", 0), None),
        ("", '<layer type="Const"><data element_type="f32" size="-9"/><data size="9"/></layer>', None),
        ("", f'<layer type="Const"><data element_type="f32" size="{"9" * 999}"/></layer>', None),
        ("", "", None),
    ],
)
def test_the_precision_is_what_the_ir_states_or_what_nearly_all_weights_are(rt_info, layers, precision):
    assert inspected(ir(rt_info, layers)).precision == precision


def test_of_several_irs_the_one_with_the_most_weights_is_described():
    report = inspect_archive(
        zipped(
            {
                "openvino_detokenizer.xml": ir(info(task_type="detokenizer")),
                "openvino_detokenizer.bin": b"w",
                "openvino_model.xml": ir(info(task_type="text-generation")),
                "openvino_model.bin": b"w" * 99,
                "openvino_tokenizer.xml": ir(info(task_type="tokenizer")),
                "openvino_tokenizer.bin": b"w" * 9,
            }
        )
    )

    assert report.category == "text-generation"


def test_an_ir_that_is_not_the_chosen_format_describes_nothing():
    described = {"m.xml": ir(info(labels="cat dog")), "m.bin": b"w"}

    assert inspect_archive(zipped(described | {"MLmodel": b"."})).labels == ("cat", "dog")
    assert inspect_archive(zipped(described | {"m.onnx": b"."}), declared_format="onnx").labels is None


def test_model_info_elsewhere_in_the_xml_is_not_read():
    assert inspected(ir(layers=f"<layer><rt_info>{info(labels='a b')}</rt_info></layer>")).labels is None


def test_an_xml_too_large_to_parse_is_recognised_by_its_root():
    padding = b" " * 1024**2
    xml = ir(info(labels="cat dog")).replace(b"</layers>", b"</layers>" + b"<!---->".join([padding] * 33))
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("m.xml", xml)
        archive.writestr("m.bin", b"w")

    report = inspect_archive(file)

    assert len(xml) > MAX_XML_BYTES
    assert (report.format, report.labels) == ("OpenVINO", None)


def test_an_xml_of_too_many_elements_is_recognised_by_its_root():
    pieces = [b"<net>", *[b"<a/>" * 50_000] * (MAX_ELEMENTS // 50_000 + 1), b"<rt_info/></net>"]

    assert read_ir("m.xml", pieces) == (None, None, None)
