"""The fields of a model at the border: as forms state them, and as answers tell them.

In a form every field is text, some of it JSON. What a field may be is said by the models of the domain; what it means
by `ModelOut`, once for forms and answers.
"""

import ast
import hashlib
import io
import json
import re
import warnings
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pydantic_core
from pydantic import ConfigDict, Field

from chalicelib.forms import MAX_FORM_BYTES, Form, Unprocessable, problem
from chalicelib.registry.errors import InvalidInput, RegistryError, shown
from chalicelib.registry.models import (
    Artifact,
    Changes,
    External,
    File,
    JsonObject,
    Metadata,
    ModelId,
    ModelVersion,
    Stage,
    normal_precisions,
)
from chalicelib.registry.service import Parcel
from chalicelib.settings import settings
from chalicelib.surface import Shape, UnsupportedKeys

ZIP_TYPES = (
    "application/zip",
    "application/x-zip",
    "application/x-zip-compressed",
    "application/zip-compressed",
    "multipart/x-zip",
)


# Of a version: what ModelOut says in other words, or not at all.
TOLD_OTHERWISE = {
    *("rm_id", "artifact", "published_at", "updated_at", "changed_at", "aliases", "lineage", "exposed_name"),
}


class UnsupportedFileType(RegistryError):
    code = "unsupported_file_type"


class ModelOut(Shape):
    """A model version as clients see it; what is unknown is null. Dates are UTC."""

    id: str = Field(
        description="Identifies this version of the model: 16 to 128 letters, digits, `-`, `_`; a UUID4 if not chosen."
    )
    name: str = Field(description="Versions of one name in one project belong together.")
    version: str = Field(description="The publisher's own label.")
    number: int = Field(description="1, 2, 3, ... among the versions of the registered model; never reused.")
    status: str = Field(description="READY: the record and all bytes are stored.")
    target_device: str | None = Field(description="What it was made to run on, as CPU.")
    precision: list[str] = Field(description="fp32, fp16, bf16, int8 or int4, one or several; accepted in any case.")
    size: int = Field(description="Bytes of the archive, or of all files; 0 if they are not kept here.")
    format: str | None = Field(
        description="Read from the archive if not stated; a statement it contradicts is refused."
    )
    origin: str | None = Field(description="Where it comes from.")
    file_url: str | None = Field(
        description="Where the archive is kept; not a download link. Null for a directory of files; where the bytes are"
        " said to be, if they are not kept here."
    )
    project_id: str | None
    project_name: str | None
    category: str | None = Field(description="Its task, as Detection.")
    target_device_type: str | None
    score: float | None = Field(description="How well it did in the publisher's own measure.")
    overview: JsonObject | None = Field(description="Anything about the model.")
    optimization_capabilities: JsonObject | None
    labels: list[str | JsonObject] | None = Field(description="What it tells apart.")
    architecture: str | None
    created_date: str | None = Field(
        description="When the model was made, in the publisher's words; now if not stated."
    )
    last_updated_date: str
    description: str | None
    tags: dict[str, str] = Field(description="Any keys and values; lists can be filtered by them.")
    aliases: list[str]
    registered_model_id: str = Field(description="Shared by all versions of the model.")
    revision: int = Field(description="Grows with each change; the ETag.")
    sha256: str | None = Field(
        description="Of the archive, in hexadecimal; null if the publisher of an upload in parts did not state it, and"
        " for what is no archive."
    )
    sha256_checked_by: str | None = Field(
        description="Who computed sha256 over all bytes: registry, s3, or publisher, of whose parts S3 checked each."
    )
    stage: Stage | None = Field(description="Staging, Production or Archived, as set by a client of MLflow.")
    source: str | None = Field(description="Where it comes from, as stated by a client of MLflow.")

    @classmethod
    def of(cls, version: ModelVersion) -> "ModelOut":
        file = version.file
        return cls(
            **version.model_dump(exclude=TOLD_OTHERWISE),
            size=version.size,
            file_url=_url_of(version.artifact),
            sha256=file.sha256 if file else None,
            sha256_checked_by=file.sha256_checked_by if file else None,
            source=version.lineage.source if version.lineage else None,
            last_updated_date=as_date(version.updated_at),
            registered_model_id=version.rm_id,
            aliases=list(version.aliases),
        )


def _url_of(artifact: Artifact) -> str | None:
    match artifact:
        case File():
            return f"s3://{settings().artifact_bucket}/{artifact.key}"
        case External():
            return artifact.uri
    return None


ANY_CASE = "([Ff][Pp](32|16)|[Bb][Ff]16|[Ii][Nn][Tt][48])"


def described(schema: dict[str, Any]) -> None:
    """A field of a form means what it means in an answer."""
    for name, field in ModelOut.model_fields.items():
        if field.description and name in schema["properties"]:
            schema["properties"][name].setdefault("description", field.description)


def _as_registered(schema: dict[str, Any]) -> None:
    described(schema)
    schema["properties"]["precision"]["items"]["pattern"] = f"^{ANY_CASE}?$"


def _as_changed(schema: dict[str, Any]) -> None:
    """What is not sent stays as it is, so there are no defaults."""
    described(schema)
    schema["minProperties"] = 1
    schema["properties"]["precision"]["items"]["pattern"] = f"^{ANY_CASE}$"
    for field in schema["properties"].values():
        field.pop("default", None)


class RegistrationForm(Metadata):
    """A model and its archive. An empty field counts as not sent."""

    model_config = ConfigDict(json_schema_extra=_as_registered)

    id: ModelId | None = None
    file: bytes = Field(
        description=f"The ZIP archive. The whole form may have {MAX_FORM_BYTES:,} bytes.",
        json_schema_extra={"x-content-types": list(ZIP_TYPES)},
    )
    sha256: str | None = Field(
        None,
        pattern="^[0-9a-fA-F]{64}$",
        description="Of the archive, 64 hexadecimal digits; an archive with another is refused.",
    )


class ChangeForm(Changes):
    """The fields to change. An empty field clears what is not required."""

    model_config = ConfigDict(json_schema_extra=_as_changed)


def require_known_keys(form: Form, known: set[str]) -> None:
    unknown = [key for key in {**form.fields, **form.files} if key not in known]
    if unknown:
        raise UnsupportedKeys("Unsupported key(s) found", unknown)
    text_files = [name for name in form.files if name != "file"]
    if text_files:
        raise Unprocessable(
            [problem(["body", name], "expected a text field, not a file", "text") for name in text_files]
        )


def stated_fields(form: Form) -> dict[str, Any]:
    """The text fields, parsed; None where the value is empty. name and version stay as they are."""
    fields: dict[str, Any] = {}
    for name in form.fields:
        if name == "precision":
            fields[name] = stated_precisions(form.fields[name])
        elif name != "sha256" and name != "file":
            text = form.single(name) or ""
            fields[name] = text if name in ("name", "version") else parsed_field(name, text)
    return fields


def parsed_field(name: str, text: str) -> Any:
    """One field that may be cleared: JSON where it is JSON."""
    if name == "tags":
        return parsed_json_object(name, text or "{}")
    if not text:
        return None
    if name in ("overview", "optimization_capabilities"):
        return parsed_json_object(name, text)
    return parsed_labels(text) if name == "labels" else text


def stated_precisions(values: list[str]) -> tuple[str, ...] | None:
    """Given once or more, each one precision or several with commas or as a list. Raises UnsupportedPrecision."""
    stated = [part.strip(" \t'\"") for value in values for part in value.strip().strip("[]").split(",")]
    return normal_precisions([part for part in stated if part]) or None


def parsed_json_object(name: str, text: str) -> dict[str, Any]:
    try:
        value = json_value(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise InvalidInput(name, f"{name} is not a valid JSON object.")
    return value


def parsed_labels(text: str) -> list[Any]:
    """A JSON list or a Python list literal of strings or objects. It is read as data, never evaluated."""
    try:
        value = json_value(text)
    except ValueError:
        value = python_literal(text)
    if not isinstance(value, list) or not all(isinstance(label, str | dict) for label in value):
        raise InvalidInput("labels", "labels is not a valid list.")
    return value


def json_value(text: str) -> Any:
    """The value of a JSON text. Raises ValueError, also for a number beyond all floats, which would become infinite."""
    value = pydantic_core.from_json(text, allow_inf_nan=False)
    json.dumps(value, allow_nan=False)
    return value


def python_literal(text: str) -> Any:
    """The value of a Python literal that can be sent as JSON in UTF-8, None if it is none."""
    try:
        with warnings.catch_warnings(action="ignore"):
            value = ast.literal_eval(text)
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        text.encode()
        # Tuples and keys that are no text would be stored as something else than what was sent.
        return value if json.loads(text) == value else None
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None


def parcel_of(form: Form) -> Parcel:
    """The uploaded file. Raises UnsupportedFileType and InvalidInput."""
    part, sha256 = form.files["file"], form.single("sha256")
    media_type = part.content_type.partition(";")[0].strip().lower()
    if media_type not in ZIP_TYPES:
        raise UnsupportedFileType(f"Unsupported file type found: {shown(media_type)}")
    if sha256 and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise InvalidInput("sha256", "sha256 is not 64 hexadecimal digits.")
    return Parcel(io.BytesIO(part.raw), part.filename, stated_sha256=sha256 or None)


def content_of(form: Form, stated: Mapping[str, Any]) -> dict[str, Any]:
    """What a form asks for, however it was sent: its fields, parsed, and the names and digests of its files."""
    files = {name: [part.filename, hashlib.sha256(part.raw).hexdigest()] for name, part in form.files.items()}
    return {"fields": dict(stated), "sha256": form.single("sha256"), "files": files}


def as_date(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S.%f} UTC"
