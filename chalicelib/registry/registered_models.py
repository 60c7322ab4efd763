"""What all versions of one name in one project share: description, tags, and aliases that name versions by number.

Frozen, as all nouns of the registry; the store writes a change and its event together.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, TypeVar

from pydantic import AfterValidator, Field, StringConstraints

from chalicelib.registry.errors import InvalidInput
from chalicelib.registry.models import (
    MAX_METADATA_BYTES,
    NAMED,
    External,
    Frozen,
    Metadata,
    ModelVersion,
    Name,
    ProjectLabel,
    QualifiedName,
    Stage,
    check_tags,
)

MAX_ALIASES_A_CHANGE = 20  # each may touch two versions, and a transaction 100 items
PROMPT_TAG = "mlflow.prompt.is_prompt"
OWN_FILES = "mlflow-artifacts:/versions/"  # what the URIs of files begin with that were not made by MLflow
T = TypeVar("T")
MAX_NUMBER = 9_999_999_999  # ten digits in a key
# Of MLflow's server, whose clients set aliases too.
RESERVED_ALIAS = re.compile(r"latest|v\d+", re.IGNORECASE)


def _is_an_alias(alias: str) -> str:
    # Not as pydantic's pattern: its engine takes megabytes for every letter of Unicode, 255 times.
    if not re.fullmatch(r"[\w-]+", alias):
        raise ValueError("may have letters, digits, `_` and `-`")
    if RESERVED_ALIAS.fullmatch(alias):
        raise ValueError("is reserved; an alias is neither `latest` nor `v` with digits")
    return alias


Alias = Annotated[str, StringConstraints(min_length=1, max_length=255), AfterValidator(_is_an_alias)]


class RegisteredModel(Frozen):
    """A name and its project, which are unique together. `revision` counts its changes; `exposed_name` is unique too.

    `aliases` are authoritative: each version carries a copy of its own. `staged` has the highest number of each stage
    that a version is in.
    """

    rm_id: str
    name: Name
    project_id: ProjectLabel = None
    project_name: ProjectLabel = None
    exposed_name: str
    description: str | None = None
    tags: dict[Name, str] = {}
    aliases: dict[str, int] = {}
    staged: dict[Stage, int] = {}
    revision: int
    created_at: datetime
    updated_at: datetime
    # When its description, its name or its versions changed last; None: never. Tags and aliases do not count.
    changed_at: datetime | None = None
    # The highest number that was given out when it was read; kept beside it, since crowds write it.
    highest_number: int = Field(0, exclude=True, repr=False)

    @property
    def subject(self) -> str:
        """Whose trail it belongs to."""
        return self.rm_id

    @property
    def last_changed_at(self) -> datetime:
        return self.changed_at or self.created_at

    @property
    def is_prompt(self) -> bool:
        """Whether it is a prompt of MLflow's, which are kept as registered models and are none."""
        return self.tags.get(PROMPT_TAG, "").lower() == "true"

    @property
    def qualified_name(self) -> QualifiedName:
        return QualifiedName(project_id=self.project_id, project_name=self.project_name, name=self.name)

    def edited(self, changes: "RegisteredModelChanges", at: datetime) -> "RegisteredModel":
        """This one with the changes, one revision on; itself if nothing differs. Raises InvalidInput."""
        update: dict[str, object] = {
            "tags": _merged(self.tags, changes.tags),
            "aliases": _merged(self.aliases, changes.aliases),
        }
        if "description" in changes.model_fields_set:
            update["description"] = changes.description or None
        edited = self.model_copy(update=update)
        if edited == self:
            return self
        edited.check_limits()
        if edited.description != self.description:
            edited = edited.model_copy(update={"changed_at": max(at, self.last_changed_at)})
        return edited.model_copy(update={"revision": self.revision + 1, "updated_at": max(at, self.updated_at)})

    def renamed(self, name: str, at: datetime) -> "RegisteredModel":
        """This one under another name in its project, one revision on; itself if it has it."""
        if name == self.name:
            return self
        named = QualifiedName(project_id=self.project_id, project_name=self.project_name, name=name)
        return self.model_copy(
            update={
                "name": name,
                "exposed_name": exposed_name(named),
                "revision": self.revision + 1,
                "updated_at": max(at, self.updated_at),
                "changed_at": max(at, self.last_changed_at),
            }
        )

    def check_limits(self) -> None:
        """Raises InvalidInput if all of it together is too large, its tags apart."""
        check_tags(self.tags)
        size_bytes = len(self.model_copy(update={"tags": {}}).model_dump_json().encode())
        if size_bytes > MAX_METADATA_BYTES:
            raise InvalidInput(
                "tags", f"All data of a registered model may have {MAX_METADATA_BYTES} bytes, this has {size_bytes}."
            )

    def without_aliases_of(self, number: int, at: datetime) -> "RegisteredModel":
        """This one when the version of this number is gone; itself if none of its aliases named it."""
        kept = {alias: named for alias, named in self.aliases.items() if named != number}
        if kept == self.aliases:
            return self
        return self.model_copy(
            update={
                "aliases": kept,
                "revision": self.revision + 1,
                "updated_at": max(at, self.updated_at),
                "changed_at": max(at, self.last_changed_at),
            }
        )

    def restaged(self, staged: Mapping[Stage, int], at: datetime) -> "RegisteredModel":
        """This one when versions have come to stages or left them: `staged` has the highest number of each."""
        return self.model_copy(
            update={
                "staged": dict(staged),
                "revision": self.revision + 1,
                "updated_at": max(at, self.updated_at),
                "changed_at": max(at, self.last_changed_at),
            }
        )

    def aliases_of(self, number: int) -> tuple[str, ...]:
        return tuple(sorted(alias for alias, named in self.aliases.items() if named == number))


class RegisteredModelChanges(Frozen):
    """What a change states: only what is in `model_fields_set` counts, and a key of None is taken away."""

    description: str | None = None
    tags: dict[Name, str | None] = Field({}, json_schema_extra=NAMED)
    aliases: dict[Alias, Annotated[int, Field(strict=True, ge=1, le=MAX_NUMBER)] | None] = Field(
        {}, max_length=MAX_ALIASES_A_CHANGE, json_schema_extra={"propertyNames": {"pattern": r"^[\w-]{1,255}$"}}
    )


def exposed_name(metadata: Metadata | QualifiedName) -> str:
    """The name under which the versions are found as one, unless it is taken: with the project in front, if any."""
    project = metadata.project_name or metadata.project_id
    return f"{project}.{metadata.name}" if project else metadata.name


def shown_name(version: ModelVersion) -> str:
    """The name of its registered model."""
    return version.exposed_name or exposed_name(version)


def offered_at(version: ModelVersion) -> str:
    """Where MLflow's clients get its files."""
    artifact = version.artifact
    return artifact.uri if isinstance(artifact, External) else f"{OWN_FILES}{version.id}/artifacts"


def shown_source(version: ModelVersion) -> str:
    """Where MLflow's clients are told that it comes from."""
    return version.lineage.source if version.lineage else offered_at(version)


def numbered(version: ModelVersion, model: RegisteredModel, number: int) -> ModelVersion:
    """This version as one of this registered model, under a number that is its label too."""
    where = model.qualified_name.model_dump()
    placed = version.model_copy(update={**where, "rm_id": model.rm_id, "number": number, "version": str(number)})
    return shown_as(placed, model.exposed_name)


def renamed_as(version: ModelVersion, model: RegisteredModel) -> ModelVersion:
    """This version under the name that its registered model has by now."""
    renamed = version if version.name == model.name else version.model_copy(update={"name": model.name})
    return shown_as(renamed, model.exposed_name)


def shown_as(version: ModelVersion, name: str) -> ModelVersion:
    """This version with the exposed name of its registered model, which it keeps only where nothing else tells it."""
    kept = None if name == exposed_name(version) else name
    return version if kept == version.exposed_name else version.model_copy(update={"exposed_name": kept})


def _merged(now: dict[str, T], changes: Mapping[str, T | None]) -> dict[str, T]:
    kept = {key: value for key, value in now.items() if key not in changes}
    return kept | {key: value for key, value in changes.items() if value is not None}
