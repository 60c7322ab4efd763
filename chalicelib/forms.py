"""Forms as browsers and curl send them: read whole, within limits, and never trusted."""

import io
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from multipart import MultipartError, MultipartParser, MultipartPart, parse_options_header

from chalicelib.registry.errors import InvalidInput, RegistryError, TooLarge, shown
from chalicelib.registry.models import MAX_METADATA_BYTES

# A Lambda event holds 6 MB, a third more than these bytes as base64, beside the headers.
MAX_FORM_BYTES = 4_500_000
MAX_FIELDS = 256
MAX_PROBLEMS = 20
MULTIPART, URLENCODED = FORM_TYPES = ["multipart/form-data", "application/x-www-form-urlencoded"]
# What gateways hand on byte for byte: forms, which carry archives, and what older clients of MLflow call small files.
# All else, and every answer, is text.
BINARY_TYPES = (
    *FORM_TYPES,
    *("application/octet-stream", "application/zip", "application/gzip", "application/x-tar", "application/x-bzip2"),
    *("application/pdf", "application/x-hdf", "application/x-hdf5", "application/vnd.apache.parquet"),
    *("image/png", "image/jpeg", "image/gif", "image/webp", "image/bmp", "image/tiff"),
)


class Unprocessable(RegistryError):
    """Fields of a request are missing or of the wrong type: one entry each, as FastAPI spells them."""

    code = "unprocessable"

    def __init__(self, details: list[dict[str, Any]]) -> None:
        super().__init__("Fields are missing or of the wrong type.")
        self.details = details[:MAX_PROBLEMS]


class UnsupportedMediaType(RegistryError):
    code = "unsupported_media_type"


@dataclass
class Form:
    """A submitted form: every value of every text field, and the file parts."""

    fields: dict[str, list[str]] = field(default_factory=dict)
    files: dict[str, MultipartPart] = field(default_factory=dict)

    def add(self, name: str, value: bytes) -> None:
        """Add a value of a text field. Raises InvalidInput if it is no text, or longer than any may be."""
        if len(value) > MAX_METADATA_BYTES:
            raise InvalidInput(name, f"{shown(name)} may have {MAX_METADATA_BYTES} bytes, this has {len(value)}.")
        try:
            self.fields.setdefault(name, []).append(value.decode())
        except UnicodeDecodeError as exc:
            raise InvalidInput(name, f"{shown(name)} is not text in UTF-8.") from exc

    def single(self, name: str) -> str | None:
        """The one value of a field. Raises Unprocessable if it was given more than once."""
        values = self.fields.get(name, [])
        if len(values) > 1:
            raise Unprocessable([problem(["body", name], f"given {len(values)} times, expected once", "repeated")])
        return values[0] if values else None


def form_of(body: bytes, content_type: str) -> Form:
    """The form in a body; empty if the body is. Raises TooLarge, UnsupportedMediaType, Unprocessable, InvalidInput."""
    if len(body) > MAX_FORM_BYTES:
        raise TooLarge(
            f"A form may have {MAX_FORM_BYTES} bytes, this one has {len(body)}; send larger files with POST /uploads."
        )
    media_type, options = parse_options_header(content_type)
    if not body:
        return Form()
    if media_type not in FORM_TYPES:
        raise UnsupportedMediaType(
            f"The body is {shown(media_type) or 'of no stated type'}; send a form: {FORM_TYPES[0]}."
        )
    try:
        if media_type == "multipart/form-data":
            return _multipart_form(body, options.get("boundary", ""))
        return _urlencoded_form(body)
    except (MultipartError, ValueError) as exc:
        raise InvalidInput("body", f"The form cannot be read: {shown(str(exc.args[0]))}") from exc


def problem(location: list[str], message: str, kind: str) -> dict[str, Any]:
    """One entry of Unprocessable."""
    return {"loc": location, "msg": message, "type": kind}


def _multipart_form(body: bytes, boundary: str) -> Form:
    if not boundary:
        raise InvalidInput("body", "The Content-Type has no boundary; let the client set the header of the form.")
    form = Form()
    parser = MultipartParser(
        io.BytesIO(body),
        boundary,
        strict=True,
        part_limit=MAX_FIELDS,
        spool_limit=MAX_FORM_BYTES,
        memory_limit=MAX_FORM_BYTES,
    )
    for part in parser:
        if part.filename is None:
            form.add(part.name, part.raw)
        elif part.name in form.files:
            raise Unprocessable([problem(["body", part.name], "expected one file, got several", "repeated")])
        else:
            form.files[part.name] = part
    return form


def _urlencoded_form(body: bytes) -> Form:
    form = Form()
    # Bytes that are no UTF-8 survive as lone surrogates, so that `add` can tell which field they are in.
    text = body.decode(errors="surrogateescape")
    for name, value in parse_qsl(text, keep_blank_values=True, errors="surrogateescape", max_num_fields=MAX_FIELDS):
        form.add(name, value.encode(errors="surrogateescape"))
    return form
