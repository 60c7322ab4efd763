"""What is read from a folder with an OpenVINO IR: the same as the server reads from the archive."""

from pathlib import Path

import pytest
from modelreg import openvino
from modelreg.openvino import read_folder

from chalicelib.registry.openvino import read_ir

NET = '<net name="n" version="11">{}</net>'
CONSTANT = '<layer id="0" type="Const"><data element_type="{}" size="{}"/></layer>'


def constants(*weights: tuple[str, int]) -> str:
    return NET.format("<layers>" + "".join(CONSTANT.format(*weight) for weight in weights) + "</layers>")


def told(**values: str) -> str:
    elements = "".join(f"<{name} value='{value}'/>" for name, value in values.items())
    return NET.format(f"<rt_info><model_info>{elements}</model_info></rt_info>")


def folder_of(folder: Path, **texts: str) -> Path:
    for name, text in texts.items():
        (folder / f"{name}.xml").write_text(text)
        (folder / f"{name}.bin").write_bytes(b"weights")
    return folder


DOCUMENTS = {
    "nothing": NET.format(""),
    "half": constants(("f16", 80), ("i64", 8)),
    "mixed": constants(("f16", 50), ("f32", 50)),
    "mostly int8": constants(("i8", 60), ("u8", 30), ("f32", 10)),
    "no weights": constants(("f32", 0)),
    "a size that is none": constants(("f32", "9" * 30)),  # type: ignore[arg-type]
    "stated": told(precision="FP16", labels="cat dog", task_type="detection"),
    "task of anomalib": told(task="anomaly"),
    "blanks in labels": told(labels="big_cat dog", label_info='{"label_names": ["big cat", "dog"]}'),
    "other names": told(labels="a b", label_info='{"label_names": ["x"]}'),
    "empty label": told(labels="otx_empty_lbl cat"),
    "label info that is none": told(labels="cat", label_info="[1]"),
    "quantized": NET.format("<rt_info><nncf><quantization/></nncf></rt_info>"),
    "compressed": NET.format(
        "<rt_info><nncf><weight_compression><mode value='int4_sym'/></weight_compression></nncf></rt_info>"
    ),
    "compressed otherwise": NET.format(
        "<rt_info><nncf><weight_compression><mode value='nf4'/></weight_compression></nncf></rt_info>"
    ),
    "category too long": told(task_type="x" * 257),
}


@pytest.mark.parametrize("xml", DOCUMENTS.values(), ids=DOCUMENTS)
def test_the_command_reads_what_the_server_reads(xml, tmp_path):
    server = read_ir("model.xml", [xml.encode()])
    assert server is not None
    expected = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in server._asdict().items()
        if value is not None
    }

    assert read_folder(folder_of(tmp_path, model=xml)) == {"format": "OpenVINO", **expected}


@pytest.mark.parametrize(
    "xml",
    [
        "<config/>",
        "no xml",
        "",
        "<net",
        '<!DOCTYPE net [<!ENTITY a "aaaa">]>' + NET.format("&a;"),
        '<!DOCTYPE net SYSTEM "file:///etc/passwd"><net/>',
        "<net>" + "<a>" * 300,
        '<?xml version="1.0" encoding="nonsense"?><net/>',
    ],
)
def test_what_is_no_ir_or_is_hostile_is_left_alone(xml, tmp_path):
    assert read_folder(folder_of(tmp_path, model=xml)) == {}


def test_a_folder_without_weights_beside_the_xml_has_no_ir(tmp_path):
    (tmp_path / "model.xml").write_text(DOCUMENTS["half"])

    assert read_folder(tmp_path) == {}


def test_the_one_with_the_most_weights_is_described(tmp_path):
    folder = folder_of(tmp_path, tokenizer=told(task_type="tokenizer"), model=told(task_type="text"))
    (folder / "model.bin").write_bytes(bytes(1000))

    assert read_folder(folder)["category"] == "text"


def test_an_ir_deep_in_the_folder_is_found(tmp_path):
    deep = tmp_path / "deployment/model"
    deep.mkdir(parents=True)
    folder_of(deep, model=DOCUMENTS["half"])

    assert read_folder(tmp_path)["precision"] == ["fp16"]


def test_of_a_huge_xml_only_the_root_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(openvino, "MAX_XML_BYTES", 10)

    assert read_folder(folder_of(tmp_path, model=DOCUMENTS["stated"])) == {"format": "OpenVINO"}


def test_a_text_without_end_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(openvino, "MAX_SILENT_BYTES", 100_000)

    assert read_folder(folder_of(tmp_path, model=NET.format("x" * 300_000))) == {}


def test_an_xml_that_cannot_be_opened_is_no_error(tmp_path):
    folder = folder_of(tmp_path, model="")
    (folder / "model.xml").unlink()
    (folder / "model.xml").symlink_to("nowhere")

    assert read_folder(folder) == {}
