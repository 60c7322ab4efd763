"""Which model formats an archive holds, and whether a declared one is among them.

Bytes are looked at to tell OpenVINO (an XML whose root is `<net>` beside a .bin of the same stem), TFLite, GGUF,
SafeTensors and PyTorch. MLflow, ONNX and TensorFlow SavedModel are told by file name alone: protobuf has no magic
number. A TorchScript or torch.save file is itself a ZIP, so the archive may be one.
"""

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from chalicelib.registry.errors import InvalidArchive
from chalicelib.registry.openvino import MAX_XML_BYTES, ROOT_BYTES, IrInfo, read_ir
from chalicelib.registry.zip_reader import Entry, RangeReader, content, head, quoted

SNIFFED_FILES = 8  # of one format; more are not looked at
MAGIC_BYTES = 16
MAX_SAFETENSORS_HEADER_BYTES = 100_000_000  # of the reference implementation

MLFLOW, OPENVINO, PYTORCH = "MLflow", "OpenVINO", "PyTorch"


class Format(NamedTuple):
    """A format, how a file of it is named, and how it begins (None: cannot be told)."""

    name: str
    file_name: str | None  # pattern of a whole base name, any case; None: told by more than one name
    begins: Callable[[bytes, int], bool] | None
    also: frozenset[str] = frozenset()  # what people write for it, in letters and digits


def _begins_safetensors(start: bytes, size_bytes: int) -> bool:
    header_bytes = int.from_bytes(start[:8], "little")
    return header_bytes <= min(size_bytes - 8, MAX_SAFETENSORS_HEADER_BYTES) and start[8:9] == b"{"


def _begins_pytorch(start: bytes, _size_bytes: int) -> bool:
    """A ZIP, or the pickle (protocol 2 to 5) that torch.save wrote before 1.6."""
    return start[:4] == b"PK\x03\x04" or (start[:1] == b"\x80" and start[1:2] in (b"\2", b"\3", b"\4", b"\5"))


# In order of precedence when the publisher declares none: MLflow wraps the others; OpenVINO is what the devices run,
# beside the source it was converted from; then whole graphs; last what needs code or another file to run.
FORMATS = (
    Format(MLFLOW, "mlmodel", None),
    Format(OPENVINO, None, None, frozenset({"openvinoir", "ir", "openvinointermediaterepresentation"})),
    Format(
        "TensorFlow SavedModel",
        r"saved_model\.pb(txt)?",
        None,
        frozenset({"savedmodel", "tfsavedmodel", "tensorflow", "tf"}),
    ),
    Format("ONNX", r".+\.onnx", None),
    Format(
        "TFLite",
        r".+\.tflite",
        lambda start, _: start[4:8] == b"TFL3",
        frozenset({"tensorflowlite", "litert", "tensorflow", "tf"}),
    ),
    Format("GGUF", r".+\.gguf", lambda start, _: start[:4] == b"GGUF"),
    Format("SafeTensors", r".+\.safetensors", _begins_safetensors, frozenset({"safetensor"})),
    Format(
        PYTORCH,
        r".+\.(pt|pth|ckpt)|pytorch_model.*\.bin",
        _begins_pytorch,
        frozenset({"torch", "pt", "pth", "torchscript"}),
    ),
)


class Detected(NamedTuple):
    """Per format whether the content bears out what the file names promise; and what the main IR says."""

    borne_out: dict[str, bool]
    ir: IrInfo | None


def detect_formats(reader: RangeReader, files: list[Entry]) -> Detected:
    """Every format that a file name promises. Raises InvalidArchive if a file that must be read is damaged."""
    borne_out = {}
    for known in FORMATS:
        named = [file for file in files if file.size_bytes and _is_named(file, known)]
        if named:
            borne_out[known.name] = any(_bears_out(reader, file, known) for file in named[:SNIFFED_FILES])
    if _is_torch_zip(files):
        borne_out[PYTORCH] = True
    ir = None
    if pairs := _ir_pairs(files):
        ir = next((info for xml in pairs[:SNIFFED_FILES] if (info := _read_ir(reader, xml))), None)
        borne_out[OPENVINO] = ir is not None
    return Detected(borne_out, ir)


def format_of_file(name: str, start: bytes, size_bytes: int) -> dict[str, bool]:
    """Per format that the name of a bare file promises, whether its first bytes bear it out."""
    named = [known for known in FORMATS if known.file_name and re.fullmatch(known.file_name, name, re.IGNORECASE)]
    return {known.name: known.begins is None or known.begins(start, size_bytes) for known in named}


def choose_format(borne_out: dict[str, bool], declared: str | None, holder: str = "the archive") -> str | None:
    """The declared format if the archive holds it, else the first it holds; None if nothing is recognised.

    Raises InvalidArchive if the declared format is one of FORMATS, and the archive holds others or a false one.
    """
    found = [known.name for known in FORMATS if borne_out.get(known.name)]
    meant = [known.name for known in FORMATS if _letters(declared or "") in {_letters(known.name), *known.also}]
    for name in meant:
        if name in found:
            return name
    if meant and (found or any(name in borne_out for name in meant)):
        held = " and ".join(found) or f"a file that is named like {meant[0]} but does not begin like it"
        raise InvalidArchive(
            f"The format is declared as {quoted(declared or '')}, but {holder} holds {held}."
            " Correct or omit the format."
        )
    return found[0] if found else None


def _letters(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.lower())


def _is_named(file: Entry, known: Format) -> bool:
    name = file.path.rpartition("/")[2]
    return known.file_name is not None and re.fullmatch(known.file_name, name, re.IGNORECASE) is not None


def _bears_out(reader: RangeReader, file: Entry, known: Format) -> bool:
    return known.begins is None or known.begins(head(reader, file, MAGIC_BYTES), file.size_bytes)


def _is_torch_zip(files: list[Entry]) -> bool:
    """`{any}/data.pkl` beside `{any}/version`, as in every file of torch.save and torch.jit.save."""
    paths = {file.path for file in files}
    return any(
        f"{pickle[1]}/version" in paths for path in paths if (pickle := re.fullmatch(r"([^/]+)/data\.pkl", path))
    )


def _ir_pairs(files: list[Entry]) -> list[Entry]:
    """Each .xml that has a .bin of the same stem beside it; the one with the most weights first.

    So of a language model beside its tokenizers the language model is described.
    """
    weights = {stem: file.size_bytes for stem, file in _with_suffix(files, ".bin")}
    pairs = [(weights[stem], file) for stem, file in _with_suffix(files, ".xml") if stem in weights]
    return [file for _, file in sorted(pairs, key=lambda pair: pair[0], reverse=True)]


def _with_suffix(files: list[Entry], suffix: str) -> Iterator[tuple[str, Entry]]:
    """The files with this suffix, in any case, each behind its path without it."""
    return ((f.path[: -len(suffix)], f) for f in files if f.path[-len(suffix) :].lower() == suffix)


def _read_ir(reader: RangeReader, xml: Entry) -> IrInfo | None:
    if xml.size_bytes > MAX_XML_BYTES:
        return read_ir(xml.path, [head(reader, xml, ROOT_BYTES)], root_only=True)
    return read_ir(xml.path, content(reader, xml))
