"""What each version of Geti sends for a model: which files, where, and in a ZIP of which name.

The network is minimal but whole: its weights, converted, added to its input. They differ from model to model.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from xml.sax.saxutils import quoteattr

from tests.hostile_archives import Raw, raw_zip
from tests.simulators.geti.models import Model, Optimized
from tests.simulators.geti.views2 import optimized_view, project_view
from tests.simulators.geti.world import Project, Task
from tests.simulators.geti.zips import Content, Entry, Package

DEFAULT_WEIGHTS_BYTES = 256
ELEMENTS = {"FP32": ("f32", 4), "FP16": ("f16", 2), "INT8": ("i8", 1), "INT4": ("i8", 1)}
BOMB_BYTES = 32 * 1024**2
HUFFMAN = b"\xff\xc4\0\x14%c\1" + bytes(15) + b"%c"
PIXEL = b"".join(  # a JPEG of one white pixel
    [
        b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0",
        b"\xff\xdb\0\x43\0" + b"\x10" * 64,
        b"\xff\xc0\0\x0b\x08\0\1\0\1\1\1\x11\0",
        HUFFMAN % (0, 9) + HUFFMAN % (16, 0),
        b"\xff\xda\0\x08\1\1\0\0\x3f\0\x54\xdf\xff\xd9",
    ]
)


def network(model: Optimized) -> tuple[Entry, Entry]:
    """model.xml and model.bin."""
    if model.packing.ir:
        folder = model.packing.ir
        return tuple(Entry(name, (folder / name).read_bytes()) for name in ("model.xml", "model.bin"))  # type: ignore[return-value]
    size = DEFAULT_WEIGHTS_BYTES if model.packing.size is None else model.packing.size
    return Entry("model.xml", _xml(model, size).encode()), Entry("model.bin", Content(model.id, size))


def deployment(project: Project, models: Sequence[Optimized]) -> Package:
    """What Geti 2 deploys: a folder for each task, all that runs them, and an image of the project."""
    entries = [Entry("deployment/project.json", _json(project_view(project)))]
    for model in models:
        entries += _moved(_task_files(model), f"deployment/{_folder(model.model.group.task)}")
    entries += [
        Entry("sample_image.jpg", PIXEL),
        Entry("README.md", b"# Exportable code\n\nSee `example_code/demo.py`.\n"),
        Entry("LICENSE", b"Apache License 2.0\n"),
        Entry("requirements.txt", b"geti-sdk==2.13.1\n"),
        Entry("example_code/demo.py", b"from geti_sdk.deployment import Deployment\n"),
        Entry("example_code/demo_notebook.ipynb", b'{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'),
    ]
    return _finished(f"Deployment-{project.name}.zip", entries, models)


def ovms(project: Project, models: Sequence[Optimized]) -> Package:
    """What Geti 2 deploys for OpenVINO Model Server."""
    entries = []
    for model in models:
        folder = _folder(model.model.group.task)
        entries += _moved(network(model), f"ovms_models/{folder}/1")
    entries.append(Entry("ovms_models/models_config.json", _json({"model_config_list": []})))
    return _finished(f"Deployment-{project.name}.zip", entries, models)


def export(model: Optimized, *, model_only: bool, is_old: bool) -> Package:
    """What Geti 2 exports of an optimized model. is_old: as up to 2.11."""
    xml, weights = network(model)
    config = Entry("config.json", _json(_configuration(model)))
    name = "ONNX_model.zip" if model.format == "ONNX" else "OpenVINO_model.zip"
    if model.format == "ONNX":
        entries = [Entry("model.onnx", Content(model.id, weights.size))]
    elif is_old and model_only:
        entries = [Entry("openvino.xml", xml.content), Entry("openvino.bin", weights.content)]
    elif is_old:
        name = "OpenVINO_exportable_code.zip"
        entries = _moved([xml, weights, config], "model")
        entries += [Entry("python/demo.py", b"import model_api\n"), Entry("README.md", b"# Exportable code\n")]
    else:
        entries = [xml, weights] if model_only else [xml, weights, config]
    return _finished(name, entries, [model])


def base_export(model: Model) -> Package:
    """What Geti 2 exports of a base model: its weights of PyTorch."""
    return Package("base_model.zip", [Entry("weights.pth", Content(model.id, DEFAULT_WEIGHTS_BYTES))])


def binary(model: Optimized) -> Package:
    """What Geti 3 sends for a variant: all in one folder."""
    name = f"model-{model.model.id[:8]}-{model.format.lower()}-{model.planned_precision.lower()}.zip"
    if model.format == "OpenVINO":
        entries = list(network(model))
    else:
        entries = [Entry("model.onnx" if model.format == "ONNX" else "model.pth", Content(model.id, 256))]
    entries += [
        Entry("demo.py", b"import openvino\n"),
        Entry("demo_async.py", b"import asyncio\n"),
        Entry("utils.py", b"def draw() -> None: ...\n"),
        Entry("pyproject.toml", b'[project]\nname = "demo"\n'),
        Entry("README.md", b"# Demo\n"),
        Entry("LICENSE", b"Apache License 2.0\n"),
        Entry("image.jpg", PIXEL),
    ]
    return _finished(name, entries, [model])


def _task_files(model: Optimized) -> Iterator[Entry]:
    for entry in network(model):
        yield Entry(f"model/{entry.path}", entry.content)
    yield Entry("model/config.json", _json(_configuration(model)))
    yield Entry("model.json", _json(optimized_view(model)))
    yield Entry("python/demo.py", b"import model_api\n")
    yield Entry("python/requirements.txt", b"openvino==2025.2.0\n")
    yield Entry("LICENSE", b"Apache License 2.0\n")


def _folder(task: Task) -> str:
    return task.title.replace("/", "_")


def _moved(entries: Iterator[Entry] | Sequence[Entry], folder: str) -> list[Entry]:
    return [Entry(str(PurePosixPath(folder) / entry.path), entry.content) for entry in entries]


def _configuration(model: Optimized) -> dict[str, object]:
    labels = [label.name for label in model.model.labels]
    return {"type_of_model": "ssd", "converter_type": model.model.group.task.kind.upper(), "labels": labels}


def _json(content: object) -> bytes:
    return json.dumps(content, indent=1).encode()


def _finished(file_name: str, entries: Sequence[Entry], models: Sequence[Optimized]) -> Package:
    """The package, damaged or replaced as its first model that asks for it says."""
    package = Package(file_name, tuple(entries))
    for packing in (model.packing for model in models):
        if packing.zip is not None:
            return Package(file_name, raw=packing.zip)
        if packing.damage:
            return _damaged(package, packing.damage)
    return package


def _damaged(package: Package, damage: str) -> Package:
    entries = list(package.entries)
    lost = {"no_bin": ".bin", "no_xml": ".xml"}.get(damage)
    if lost:
        return Package(package.file_name, [entry for entry in entries if not entry.path.endswith(lost)])
    if damage == "two_models":
        twins = [entry for entry in entries if entry.path.endswith((".xml", ".bin"))]
        return Package(package.file_name, entries + _moved(twins, "other"))
    if damage == "truncated":
        return Package(package.file_name, raw=package.read()[: package.size // 2])
    if damage in ("not_zip", "empty"):
        return Package(package.file_name, raw=b"This is not a ZIP archive.\n" if damage == "not_zip" else b"")
    extra = {
        "traversal": Raw(name=b"../x", data=b"x"),
        "bomb": Raw(name=b"zeros.bin", data=bytes(BOMB_BYTES), method=8),
    }[damage]
    return Package(package.file_name, raw=raw_zip(*[Raw(e.path.encode(), e.read()) for e in entries], extra))


def _xml(model: Optimized, size: int) -> str:
    """An IR: Parameter and Const -> Convert -> Add -> Result."""
    element, element_bytes = ELEMENTS[model.planned_precision]
    count = size // element_bytes
    dims = f"<dim>1</dim><dim>{count}</dim>"
    name = quoteattr(model.model.group.name)
    precision = {"f32": "FP32", "f16": "FP16", "i8": "I8"}[element]
    return f"""<?xml version="1.0"?>
<net name={name} version="11">
	<layers>
		<layer id="0" name="image" type="Parameter" version="opset1">
			<data shape="1,{count}" element_type="f32" />
			<output><port id="0" precision="FP32" names="image">{dims}</port></output>
		</layer>
		<layer id="1" name="weights" type="Const" version="opset1">
			<data element_type="{element}" shape="1,{count}" offset="0" size="{count * element_bytes}" />
			<output><port id="0" precision="{precision}">{dims}</port></output>
		</layer>
		<layer id="2" name="weights/convert" type="Convert" version="opset1">
			<data destination_type="f32" />
			<input><port id="0" precision="{precision}">{dims}</port></input>
			<output><port id="1" precision="FP32">{dims}</port></output>
		</layer>
		<layer id="3" name="sum" type="Add" version="opset1">
			<data auto_broadcast="numpy" />
			<input><port id="0" precision="FP32">{dims}</port><port id="1" precision="FP32">{dims}</port></input>
			<output><port id="2" precision="FP32" names="sum">{dims}</port></output>
		</layer>
		<layer id="4" name="sum/result" type="Result" version="opset1">
			<input><port id="0" precision="FP32">{dims}</port></input>
		</layer>
	</layers>
	<edges>
		<edge from-layer="0" from-port="0" to-layer="3" to-port="0" />
		<edge from-layer="1" from-port="0" to-layer="2" to-port="0" />
		<edge from-layer="2" from-port="1" to-layer="3" to-port="1" />
		<edge from-layer="3" from-port="2" to-layer="4" to-port="0" />
	</edges>
	<rt_info>
		<Runtime_version value="2025.2.0-19140-c01cd93e24d-releases/2025/2" />
		{_model_info(model)}
	</rt_info>
</net>
"""


def _model_info(model: Optimized) -> str:
    labels = [label for label in model.model.labels if not label.is_empty]
    names = [label.name for label in labels]
    values = {
        "labels": " ".join(name.replace(" ", "_") for name in names),
        "label_ids": " ".join(label.id for label in labels),
        "label_info": json.dumps({"label_names": names, "label_ids": [label.id for label in labels]}),
        "model_type": "ssd",
        "task_type": model.model.group.task.kind,
        "confidence_threshold": "0.35",
        "optimization_config": "{}",
    }
    written = "".join(f"<{key} value={quoteattr(text)} />" for key, text in values.items())
    quantized = "<nncf><quantization /></nncf>" if model.planned_precision == "INT8" else ""
    return f"<model_info>{written}</model_info>{quantized}"
