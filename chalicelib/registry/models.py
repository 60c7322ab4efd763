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

from chalicelib.registry.errors import InvalidInput, NotHere, UnsupportedPrecision, shown

ZIP = "application/zip"
PRECISIONS = ("fp32", "fp16", "bf16", "int8", "int4")
MAX_METADATA_BYTES = 64 * 1024
MAX_TAG_CHARACTERS = 100_000  # of a value, as MLflow has it
MAX_TAGS_BYTES = 1_000_000
MAX_LINEAGE_BYTES = 8 * 1024
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


def milliseconds(at: datetime) -> int:
    """Since 1970, as MLflow has times: searches are in the order of these."""
    return int(at.timestamp() * 1000)


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


def check_tags(tags: Mapping[str, str]) -> None:
    """Raises InvalidInput if a value of these tags, or all of them together, are too large."""
    for key, value in tags.items():
        if len(value) > MAX_TAG_CHARACTERS:
            what = (
                f"The value of tag {shown(key)!r} may have {MAX_TAG_CHARACTERS:,} characters, this has {len(value):,}."
            )
            raise InvalidInput("tags", what)
    size_bytes = tags_size(tags)
    if size_bytes > MAX_TAGS_BYTES:
        raise InvalidInput("tags", f"All tags may have {MAX_TAGS_BYTES:,} bytes together, these have {size_bytes:,}.")


def tags_size(tags: Mapping[str, str]) -> int:
    """Their bytes together."""
    return sum(len(key.encode()) + len(value.encode()) for key, value in tags.items())


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
        size_bytes = len(self.model_dump_json(include=set(Metadata.model_fields) - {"tags"}).encode())
        if size_bytes > MAX_METADATA_BYTES:
            raise InvalidInput(
                "metadata",
                f"All metadata of a model may have {MAX_METADATA_BYTES} bytes together, this has {size_bytes}.",
            )
        check_tags(self.tags)


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


class Tree(Frozen):
    """An artifact of many files: those of a tree whose paths begin with `prefix`, which never change from now on.

    `digest` is the SHA-256 of the list of paths and object keys: what has the same digest has the same bytes.
    """

    kind: Literal["tree"] = "tree"
    tree_id: str
    prefix: str = ""
    file_count: int
    size: int
    digest: str


class External(Frozen):
    """An artifact that is elsewhere, or nowhere. It is never fetched."""

    kind: Literal["external"] = "external"
    uri: str


Artifact = Annotated[File | Tree | External, Field(discriminator="kind")]
Stage = Literal["Staging", "Production", "Archived"]


class Lineage(Frozen):
    """What a client of MLflow says of where a version comes from. `is_resolved`: we know what its source names."""

    source: str
    run_id: str | None = None
    run_link: str | None = None
    logged_model_id: str | None = None
    is_resolved: bool = True


class ModelVersion(Metadata):
    """A registered version: READY, its bytes stored, its number fixed within its registered model.

    `revision` counts the changes of this id, those of deleted models that had it included: it never comes again.
    A version with a `lineage` was registered by a client of MLflow, under its number as its label.
    """

    id: ModelId
    rm_id: str
    number: int
    revision: int
    status: Literal["READY"] = "READY"
    published_at: datetime
    updated_at: datetime
    # When what it says changed last; None: never. Tags, aliases and the name of its registered model do not count.
    changed_at: datetime | None = None
    artifact: Artifact
    stage: Stage | None = None
    lineage: Lineage | None = None
    # That of its registered model, where it is not what project and name say.
    exposed_name: str | None = None
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

    @property
    def last_changed_at(self) -> datetime:
        return self.changed_at or self.published_at

    @property
    def is_hidden(self) -> bool:
        """Whether it has no bytes here: lists have it only for who asks for such."""
        return isinstance(self.artifact, External)

    @property
    def file(self) -> File | None:
        """The one object that its artifact is, if it is one."""
        return self.artifact if isinstance(self.artifact, File) else None

    def artifact_here(self) -> File | Tree:
        """Its artifact. Raises NotHere if that is elsewhere."""
        if isinstance(self.artifact, External):
            raise NotHere(
                f"The registry has no bytes of this model: they are at {shown(self.artifact.uri)}, if anywhere."
            )
        return self.artifact

    @property
    def size(self) -> int:
        """Bytes of the artifact, as far as they are here."""
        return 0 if isinstance(self.artifact, External) else self.artifact.size

    def check_limits(self) -> None:
        super().check_limits()
        size_bytes = len(self.lineage.model_dump_json().encode()) if self.lineage else 0
        if size_bytes > MAX_LINEAGE_BYTES:
            what = (
                f"Source, run and model of a version may have {MAX_LINEAGE_BYTES:,} bytes, these have {size_bytes:,}."
            )
            raise InvalidInput("source", what)

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
        says_the_same = edited.model_copy(update={"tags": self.tags}).model_dump_json() == self.model_dump_json()
        return edited.changed(at, is_said=not says_the_same)

    def staged(self, stage: Stage | None, at: datetime) -> "ModelVersion":
        """This version in a stage, one revision on."""
        return self.model_copy(update={"stage": stage}).changed(at, is_said=True)

    def changed(self, at: datetime, *, is_said: bool) -> "ModelVersion":
        """This version one revision on. `is_said`: it says something else than before."""
        update: dict[str, object] = {"revision": self.revision + 1, "updated_at": max(at, self.updated_at)}
        if is_said:
            update["changed_at"] = max(at, self.last_changed_at)
        return self.model_copy(update=update)


class Head(Frozen):
    """The newest event of a subject: its number (from 1) and digest. No event yet is Head()."""

    seq: int = 0
    digest: str = "0" * 64


class Placement(Frozen):
    """Where a version may stand, as read a moment ago; the store checks it again when it writes.

    `head` is the newest event of an earlier model of the same id: its chain goes on. `exposed_name` is that of the
    registered model, which is new or not.
    """

    rm_id: str
    number: int
    is_new_registered_model: bool
    head: Head
    exposed_name: str | None = None
    changed_at: datetime | None = None


class Filters(Frozen):
    """What a search asks for; all must hold.

    name, project_name, category, architecture, precision: substring, any case. origin, format: equal, any case.
    version and tags: equal. artifact: of those whose bytes are stored here, or of those whose bytes are elsewhere.
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
    # Left out where it is as ever: page tokens are bound to what was asked for, and those that are out shall stay good.
    artifact: Literal["stored", "external"] = Field("stored", exclude_if=lambda value: value == "stored")

    @property
    def is_hidden(self) -> bool:
        """Whether what lists leave out otherwise is asked for."""
        return self.artifact == "external"

    @property
    def is_empty(self) -> bool:
        return self == Filters()


class Page(Frozen):
    """A part of a search, newest first. `after` is the position to go on from; None means that was all."""

    versions: tuple[ModelVersion, ...]
    after: str | None
