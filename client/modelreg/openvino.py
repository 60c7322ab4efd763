"""What a folder with an OpenVINO IR says about itself, read before anything is sent.

The server reads archives too, by the same rules; but a precision is part of what makes a version unique, so a push
should name the right one from the start. The XML may be hostile: it is read as a stream, never as a whole, and one
with a DTD is left alone. What cannot be read is no error.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# What bandit warns of, entities that grow, needs a DTD: the handlers below refuse every one.
from xml.parsers.expat import ExpatError, ParserCreate  # nosec B407

FORMAT = "OpenVINO"
MAX_XML_BYTES = 32 * 1024**2  # of a larger one only the root is looked at, as the server does
ROOT_BYTES = 64 * 1024
PIECE_BYTES = 64 * 1024
MAX_ELEMENTS = 1_000_000
MAX_DEPTH = 256
MAX_SILENT_BYTES = 1024**2  # a tag or a text: the parser holds it whole
MAX_LABELS_BYTES = 32 * 1024
MAX_CATEGORY_CHARACTERS = 256
READ_FILES = 8  # more pairs are not looked at

EMPTY_LABEL = "otx_empty_lbl"
PRECISION_OF_ELEMENT = {
    "f32": "fp32",
    "f16": "fp16",
    "bf16": "bf16",
    "i8": "int8",
    "u8": "int8",
    "i4": "int4",
    "u4": "int4",
}
PRECISION_SHARE = 0.8  # of the weights' bytes; below it, one name would mislead

_LABELS, _LABEL_INFO = ("model_info", "labels"), ("model_info", "label_info")
_TASK_TYPE, _TASK = ("model_info", "task_type"), ("model_info", "task")
_PRECISION = ("model_info", "precision")
_QUANTIZED, _COMPRESSED = ("nncf", "quantization"), ("nncf", "weight_compression", "mode")
_LOOKED_FOR = {_LABELS, _LABEL_INFO, _TASK_TYPE, _TASK, _PRECISION, _QUANTIZED, _COMPRESSED}


def read_folder(folder: Path) -> dict[str, Any]:
    """Metadata of the main IR in the folder, by the API's field names; empty if there is none."""
    for xml in _pairs(folder)[:READ_FILES]:
        if (found := _read_ir(xml)) is not None:
            return {"format": FORMAT, **found}
    return {}


def _pairs(folder: Path) -> list[Path]:
    """Each .xml that has a .bin of the same stem beside it; the one with the most weights first."""
    sizes = {}
    for place, _folders, names in os.walk(folder):
        weights = {name[:-4]: Path(place, name) for name in names if name.lower().endswith(".bin")}
        for name in sorted(names):
            if name.lower().endswith(".xml") and name[:-4] in weights:
                sizes[Path(place, name)] = _size_bytes(weights[name[:-4]])
    return sorted(sizes, key=lambda xml: (-sizes[xml], xml))


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _read_ir(xml: Path) -> dict[str, Any] | None:
    """What the XML says, or None if it is no IR or cannot be read."""
    reader = _Reader()
    try:
        root_only = _size_bytes(xml) > MAX_XML_BYTES
        for piece in _pieces(xml):
            if not reader.feed(piece, root_only=root_only):
                return {} if reader.is_net else None
        reader.close()
    except (ExpatError, ValueError, LookupError, OSError):
        return None
    return reader.found() if reader.is_net else None


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            yield piece


class _Reader:
    """Follows the elements and keeps only what is looked for. Raises ValueError for what no IR has."""

    def __init__(self) -> None:
        self.is_net = False
        self._path: list[str] = []
        self._element_count = 0
        self._silent_bytes = 0
        self._in_constant = False
        self._weight_bytes: Counter[str] = Counter()
        self._values: dict[tuple[str, ...], str] = {}
        self._parser = ParserCreate()
        self._parser.StartDoctypeDeclHandler = self._refuse
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end

    def feed(self, piece: bytes, *, root_only: bool) -> bool:
        """Whether more is wanted."""
        self._parser.Parse(piece, False)
        self._silent_bytes += len(piece)
        if not self._element_count:
            return self._silent_bytes <= ROOT_BYTES
        if self._silent_bytes > MAX_SILENT_BYTES:
            raise ValueError
        return self.is_net and not root_only and self._element_count <= MAX_ELEMENTS

    def close(self) -> None:
        self._parser.Parse(b"", True)

    def found(self) -> dict[str, Any]:
        values = self._values
        answers = {
            "precision": _precision(values, self._weight_bytes),
            "labels": _labels(values.get(_LABELS, ""), values.get(_LABEL_INFO, "")),
            "category": _category(values.get(_TASK_TYPE) or values.get(_TASK, "")),
        }
        return {name: answer for name, answer in answers.items() if answer is not None}

    def _refuse(self, *_declaration: object) -> None:
        self.is_net = False
        raise ValueError

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._silent_bytes = 0
        self._element_count += 1
        path = self._path
        path.append(tag)
        if len(path) == 1:
            self.is_net = tag == "net"
        elif len(path) > MAX_DEPTH:
            raise ValueError
        elif path[1] == "rt_info":
            if (place := tuple(path[2:])) in _LOOKED_FOR:
                self._values.setdefault(place, attributes.get("value", "").strip())
        elif tag == "layer" and len(path) == 3:
            self._in_constant = attributes.get("type") == "Const"
        elif tag == "data" and len(path) == 4 and self._in_constant:
            self._weigh(attributes.get("element_type", ""), attributes.get("size", ""))

    def _end(self, _tag: str) -> None:
        self._silent_bytes = 0
        self._path.pop()

    def _weigh(self, element_type: str, size: str) -> None:
        precision = PRECISION_OF_ELEMENT.get(element_type)
        if precision and size.isdecimal() and len(size) < 20:
            self._weight_bytes[precision] += int(size)


def _labels(joined: str, label_info: str) -> list[str] | None:
    """The names, with their blanks where label_info has them."""
    labels = joined.split()
    names = _label_names(label_info)
    if [name.replace(" ", "_") for name in names] == labels or not labels:
        labels = names
    if labels[:1] == [EMPTY_LABEL]:
        labels = labels[1:]
    if not labels or not all(label.isprintable() for label in labels):
        return None
    return labels if sum(len(label.encode()) + 4 for label in labels) <= MAX_LABELS_BYTES else None


def _label_names(label_info: str) -> list[str]:
    try:
        names = json.loads(label_info).get("label_names")
    except (ValueError, AttributeError, RecursionError):
        return []
    if isinstance(names, list) and all(isinstance(name, str) and name.isprintable() for name in names):
        return names
    return []


def _category(task: str) -> str | None:
    return task if 0 < len(task) <= MAX_CATEGORY_CHARACTERS and task.isprintable() else None


def _precision(values: dict[tuple[str, ...], str], weight_bytes: Counter[str]) -> list[str] | None:
    """What is stated, then what NNCF did, then what nearly all bytes of the weights are."""
    mode = values.get(_COMPRESSED, "").lower()
    for stated in (values.get(_PRECISION, "").lower(), mode.partition("_")[0]):
        if stated in PRECISION_OF_ELEMENT.values():
            return [stated]
    if mode:
        return None
    if _QUANTIZED in values:
        return ["int8"]
    if weight_bytes and max(weight_bytes.values()) >= PRECISION_SHARE * weight_bytes.total() > 0:
        return [weight_bytes.most_common(1)[0][0]]
    return None
