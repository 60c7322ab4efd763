"""What an OpenVINO IR says about itself: labels, task and precision, read from its XML in one pass.

The XML is hostile: it is parsed as a stream, nothing is kept but what is looked for, and DTDs and entities are
refused. `rt_info/model_info` is written by Geti, OpenVINO Training Extensions, Model API, anomalib and Ultralytics:
    labels       names separated by blanks, blanks inside a name replaced by `_`
    label_info   JSON, whose `label_names` are the same names unchanged
    task_type    such as `detection`; anomalib writes `task`
`rt_info/nncf` is written by NNCF: `quantization`, or `weight_compression/mode` such as `int4_sym`.
"""

import json
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from chalicelib.registry.errors import InvalidArchive
from chalicelib.registry.zip_reader import quoted

MAX_XML_BYTES = 32 * 1024**2  # with MAX_ELEMENTS bounds the time to some seconds in Lambda
MAX_ELEMENTS = 1_000_000
MAX_DEPTH = 256
MAX_TOKEN_BYTES = 1024**2  # a tag or a text: the parser must hold it whole
ROOT_BYTES = 64 * 1024  # the root element begins within
MAX_LABELS_BYTES = 32 * 1024  # half of what a version's metadata may take in all
MAX_CATEGORY_CHARACTERS = 256

EMPTY_LABEL = "otx_empty_lbl"  # a placeholder that instance segmentation puts first
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


class IrInfo(NamedTuple):
    """What was found; None where the IR does not say."""

    labels: tuple[str, ...] | None = None
    category: str | None = None
    precision: tuple[str, ...] | None = None


def read_ir(path: str, pieces: Iterable[bytes], *, root_only: bool = False) -> IrInfo | None:
    """What the XML says of its model, or None if it is not an IR (its root is not `<net>`).

    root_only: the pieces are but its beginning. An XML of over MAX_ELEMENTS is not read further either.
    Raises InvalidArchive if it has a DTD or an entity, or begins as an IR and cannot be read on.
    """
    # Imported here: only archives with an IR pay the 30 ms.
    from xml.parsers.expat import ExpatError

    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import DefusedXMLParser

    seen = _Seen(quoted(path), root_only=root_only)
    # Our handlers sit on the parser below the tree builder: no tree is built, and it is three times as fast.
    expat = DefusedXMLParser(forbid_dtd=True).parser
    expat.DefaultHandlerExpand = expat.CharacterDataHandler = None
    expat.ordered_attributes = False
    expat.StartElementHandler, expat.EndElementHandler = seen.start, seen.end
    try:
        for piece in pieces:
            expat.Parse(piece, False)
            seen.fed(len(piece))
            if seen.enough:
                return IrInfo() if seen.is_net else None
        expat.Parse(b"", True)
    except DefusedXmlException as exc:
        raise InvalidArchive(f"{quoted(path)} declares a DTD or an entity; the XML of a model has neither.") from exc
    except (ExpatError, ValueError, LookupError) as exc:  # the latter two: an encoding that cannot be read
        if not seen.is_net:
            return None
        raise InvalidArchive(f"{quoted(path)} begins as an OpenVINO IR but is not well-formed: {exc}.") from exc
    return seen.info() if seen.is_net else None


class _Seen:
    """Follows the elements and keeps only what is looked for."""

    def __init__(self, name: str, *, root_only: bool) -> None:
        self.is_net = False
        self._name = name
        self._root_only = root_only
        self._path: list[str] = []
        self._element_count = 0
        self._silent_bytes = 0  # fed since the last element began or ended
        self._in_constant = False
        self._weight_bytes: Counter[str] = Counter()
        self._values: dict[tuple[str, ...], str] = {}

    @property
    def enough(self) -> bool:
        if not self._element_count:
            return self._silent_bytes > ROOT_BYTES
        return not self.is_net or self._root_only or self._element_count > MAX_ELEMENTS

    def fed(self, byte_count: int) -> None:
        self._silent_bytes += byte_count
        if self.is_net and self._silent_bytes > MAX_TOKEN_BYTES:
            raise InvalidArchive(f"{self._name} holds a tag or a text of over {MAX_TOKEN_BYTES:,} bytes; no IR does.")

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._silent_bytes = 0
        self._element_count += 1
        path = self._path
        path.append(tag)
        if len(path) == 1:
            self.is_net = tag == "net"
        elif len(path) > MAX_DEPTH:
            raise InvalidArchive(f"{self._name} nests its elements over {MAX_DEPTH} deep; no IR does.")
        elif path[1] == "rt_info":
            if (place := tuple(path[2:])) in _LOOKED_FOR:
                self._values.setdefault(place, attributes.get("value", "").strip())
        elif tag == "layer" and len(path) == 3:
            self._in_constant = attributes.get("type") == "Const"
        elif tag == "data" and len(path) == 4 and self._in_constant:
            self._weigh(attributes.get("element_type", ""), attributes.get("size", ""))

    def end(self, _tag: str) -> None:
        self._silent_bytes = 0
        self._path.pop()

    def _weigh(self, element_type: str, size: str) -> None:
        precision = PRECISION_OF_ELEMENT.get(element_type)
        if precision and size.isdecimal() and len(size) < 20:
            self._weight_bytes[precision] += int(size)

    def info(self) -> IrInfo:
        values = self._values
        return IrInfo(
            labels=_labels(values.get(_LABELS, ""), values.get(_LABEL_INFO, "")),
            category=_category(values.get(_TASK_TYPE) or values.get(_TASK, "")),
            precision=_precision(values, self._weight_bytes),
        )


_LABELS, _LABEL_INFO = ("model_info", "labels"), ("model_info", "label_info")
_TASK_TYPE, _TASK = ("model_info", "task_type"), ("model_info", "task")
_PRECISION = ("model_info", "precision")
_QUANTIZED, _COMPRESSED = ("nncf", "quantization"), ("nncf", "weight_compression", "mode")
_LOOKED_FOR = {_LABELS, _LABEL_INFO, _TASK_TYPE, _TASK, _PRECISION, _QUANTIZED, _COMPRESSED}


def _labels(joined: str, label_info: str) -> tuple[str, ...] | None:
    """The names, with their blanks where label_info has them; None if there are none, or they cannot be stored."""
    labels = joined.split()
    names = _label_names(label_info)
    if [name.replace(" ", "_") for name in names] == labels or not labels:
        labels = names
    if labels[:1] == [EMPTY_LABEL]:
        labels = labels[1:]
    if not labels or not all(label.isprintable() for label in labels):
        return None
    return tuple(labels) if sum(len(label.encode()) + 4 for label in labels) <= MAX_LABELS_BYTES else None


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


def _precision(values: dict[tuple[str, ...], str], weight_bytes: Counter[str]) -> tuple[str, ...] | None:
    """What is stated, then what NNCF did, then what nearly all bytes of the weights are."""
    mode = values.get(_COMPRESSED, "").lower()
    for stated in (values.get(_PRECISION, "").lower(), mode.partition("_")[0]):
        if stated in PRECISION_OF_ELEMENT.values():
            return (stated,)
    if mode:  # a compression without a name here, such as nf4
        return None
    if _QUANTIZED in values:
        return ("int8",)
    if weight_bytes and max(weight_bytes.values()) >= PRECISION_SHARE * weight_bytes.total() > 0:
        return (weight_bytes.most_common(1)[0][0],)
    return None
