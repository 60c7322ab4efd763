"""The nouns of the registry, all frozen.

`Draft` is what a publisher states, `ModelVersion` what the registry keeps, `Changes` what an update replaces.
Whatever is built here is within the limits of the design: no caller checks them again.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
)

from chalicelib.registry.errors import InvalidInput, UnsupportedPrecision

PRECISIONS = ("fp32", "fp16", "bf16", "int8", "int4")
MAX_METADATA_BYTES = 64 * 1024
MAX_NESTING = 32  # pydantic reads back 200 levels, those of the record included
MODEL_ID = r"^[a-zA-Z0-9_-]{16,128}$"


_CONTROL = r"\u0000-\u001f\u007f-\u009f"
_INVISIBLE = r"\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff"


def _printable(text: str) -> str:
    if re.search(f"[{_CONTROL}]", text):
        raise ValueError("must not contain control characters")
    return text


def _not_blank(text: str) -> str:
    if not re.search(rf"[^\s{_INVISIBLE}]", text):
        raise ValueError("must not be blank")
    return text


# The patterns tell readers of a JSON schema what the validators check, in better words, here.
Label = Annotated[
    str,
    StringConstraints(max_length=256),
    AfterValidator(_printable),
    Field(json_schema_extra={"pattern": f"^[^{_CONTROL}]*$"}),
]
_NAME = rf"^[^{_CONTROL}]*[^\s{_CONTROL}{_INVISIBLE}][^{_CONTROL}]*$"
Name = Annotated[Label, AfterValidator(_not_blank), Field(json_schema_extra={"pattern": _NAME})]
# Of an object whose keys are names; pydantic tells only patterns that it checks itself.
NAMED: dict[str, JsonValue] = {"propertyNames": {"pattern": _NAME, "maxLength": 256}}
Tags = Annotated[dict[Name, str], Field(json_schema_extra=NAMED)]
# A project is stated or it is not: empty text is none.
ProjectLabel = Annotated[Label | None, AfterValidator(lambda text: text or None)]
ModelId = Annotated[str, StringConstraints(pattern=MODEL_ID)]
JsonObject = dict[str, JsonValue]


def time_text(at: datetime) -> str:
    """A time as text that sorts by time: UTC, to the microsecond."""
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"


class Frozen(BaseModel):
    """Never changes. Its validator is built on first use, so that a cold start pays for what it needs only."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


def normal_precisions(stated: list[str]) -> tuple[str, ...]:
    """Lower-case, sorted, each once. Raises UnsupportedPrecision with the caller's spelling."""
    for precision in stated:
        if precision.lower() not in PRECISIONS:
            raise UnsupportedPrecision(precision)
    return tuple(sorted({precision.lower() for precision in stated}))


def _is_deeper(value: object, levels: int) -> bool:
    if not isinstance(value, dict | list | tuple):
        return False
    within = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_is_deeper(part, levels - 1) for part in within)


class QualifiedName(Frozen):
    """What versions share, and what access is limited by: the name of a model and its project."""

    project_id: str | None = None
    project_name: str | None = None
    name: str


class Metadata(Frozen):
    """What people say about a model version. None means unknown."""

    name: Name
    version: Name
    project_id: ProjectLabel = None
    project_name: ProjectLabel = None
    precision: tuple[str, ...] = ("fp32",)
    format: Label | None = None
    target_device: Label | None = "CPU"
    target_device_type: Label | None = None
    category: Label | None = None
    architecture: Label | None = None
    score: Annotated[float, Field(allow_inf_nan=False)] | None = 0.0
    overview: JsonObject | None = None
    optimization_capabilities: JsonObject | None = None
    labels: tuple[str | JsonObject, ...] | None = None
    origin: Label | None = None
    created_date: Label | None = None
    description: str | None = None
    tags: Tags = {}

    @property
    def qualified_name(self) -> QualifiedName:
        return QualifiedName(project_id=self.project_id, project_name=self.project_name, name=self.name)

    def check_limits(self) -> None:
        """Raises InvalidInput if all of it together is too large, or a value too deep to be read back."""
        for field in ("overview", "optimization_capabilities", "labels"):
            if _is_deeper(getattr(self, field), MAX_NESTING):
                raise InvalidInput(field, f"{field} is nested more than {MAX_NESTING} levels deep.")
        size_bytes = len(self.model_dump_json(include=set(Metadata.model_fields)).encode())
        if size_bytes > MAX_METADATA_BYTES:
            raise InvalidInput(
                "metadata",
                f"All metadata of a model may have {MAX_METADATA_BYTES} bytes together, this has {size_bytes}.",
            )


class Draft(Metadata):
    """A model version that is about to be registered, under an id of its own."""

    id: ModelId


class Changes(Metadata):
    """What an update replaces: only the fields in `model_fields_set` count, None clears one."""

    name: Name = "unset"
    version: Name = "unset"


class File(Frozen):
    """An artifact of one file. It is complete in S3 before any record names it, and never changes.

    sha256 is in hexadecimal, None if a publisher of parts did not state it; sha256_checked_by says who computed it
    over the stored bytes. s3_digest is the composite digest of an object of several parts.
    """

    kind: Literal["file"] = "file"
    key: str
    file_name: str
    media_type: str
    size: int = Field(gt=0)
    sha256: str | None
    sha256_checked_by: Literal["registry", "s3", "publisher"] | None
    s3_digest: str | None = None


class ModelVersion(Metadata):
    """A registered version: READY, its bytes stored, its number fixed within its registered model.

    `revision` counts the changes of this id, those of deleted models that had it included: it never comes again.
    """

    id: ModelId
    rm_id: str
    number: int
    revision: int
    status: Literal["READY"] = "READY"
    published_at: datetime
    updated_at: datetime
    artifact: File
    # A copy: those of the registered model decide. Both change in one transaction.
    aliases: tuple[str, ...] = ()

    @property
    def subject(self) -> str:
        """Whose trail it belongs to."""
        return self.id

    @property
    def position(self) -> str:
        """Where it stands among all versions: text that sorts by time of publication, then id."""
        return f"{time_text(self.published_at)}#{self.id}"

    def placed(self, placement: "Placement") -> "ModelVersion":
        """This new version where it may stand."""
        where = {"rm_id": placement.rm_id, "number": placement.number, "revision": placement.head.seq + 1}
        return self.model_copy(update=where)

    def edited(self, changes: Changes, at: datetime) -> "ModelVersion":
        """This version with the changed fields, one revision on; itself if nothing differs.

        Raises InvalidInput if the result breaks a limit that no single field breaks.
        """
        replaced = {name: getattr(changes, name) for name in changes.model_fields_set}
        edited = self.model_copy(update=replaced)
        # As JSON, for Python holds 1, 1.0 and True to be equal.
        if edited.model_dump_json() == self.model_dump_json():
            return self
        edited.check_limits()
        return edited.model_copy(update={"revision": self.revision + 1, "updated_at": max(at, self.updated_at)})


class Head(Frozen):
    """The newest event of a subject: its number (from 1) and digest. No event yet is Head()."""

    seq: int = 0
    digest: str = "0" * 64


class Placement(Frozen):
    """Where a version may stand, as read a moment ago; the store checks it again when it writes.

    `head` is the newest event of an earlier model of the same id: its chain goes on. `exposed_name` is that of a new
    registered model.
    """

    rm_id: str
    number: int
    is_new_registered_model: bool
    head: Head
    exposed_name: str | None = None


class Filters(Frozen):
    """What a search asks for; all must hold.

    name, project_name, category, architecture, precision: substring, any case. origin, format: equal, any case.
    version and tags: equal.
    """

    name: str | None = None
    version: str | None = None
    project_name: str | None = None
    category: str | None = None
    architecture: str | None = None
    precision: str | None = None
    origin: str | None = None
    format: str | None = None
    tags: Mapping[str, str] = {}

    @property
    def is_empty(self) -> bool:
        return self == Filters()


class Page(Frozen):
    """A part of a search, newest first. `after` is the position to go on from; None means that was all."""

    versions: tuple[ModelVersion, ...]
    after: str | None
