"""What all versions of one name in one project share: description, tags, and aliases that name versions by number.

Frozen, as all nouns of the registry; the store writes a change and its event together.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, TypeVar

from pydantic import AfterValidator, Field, StringConstraints

from chalicelib.registry.errors import InvalidInput
from chalicelib.registry.models import MAX_METADATA_BYTES, NAMED, Frozen, Metadata, Name, ProjectLabel, QualifiedName

MAX_ALIASES_A_CHANGE = 20  # each may touch two versions, and a transaction 100 items
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

    `aliases` are authoritative: each version carries a copy of its own.
    """

    rm_id: str
    name: Name
    project_id: ProjectLabel = None
    project_name: ProjectLabel = None
    exposed_name: str
    description: str | None = None
    tags: dict[Name, str] = {}
    aliases: dict[str, int] = {}
    revision: int
    created_at: datetime
    updated_at: datetime

    @property
    def subject(self) -> str:
        """Whose trail it belongs to."""
        return self.rm_id

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
        size_bytes = len(edited.model_dump_json().encode())
        if size_bytes > MAX_METADATA_BYTES:
            raise InvalidInput(
                "tags", f"All data of a registered model may have {MAX_METADATA_BYTES} bytes, this has {size_bytes}."
            )
        return edited.model_copy(update={"revision": self.revision + 1, "updated_at": max(at, self.updated_at)})

    def without_aliases_of(self, number: int, at: datetime) -> "RegisteredModel":
        """This one when the version of this number is gone; itself if none of its aliases named it."""
        kept = {alias: named for alias, named in self.aliases.items() if named != number}
        if kept == self.aliases:
            return self
        update = {"aliases": kept, "revision": self.revision + 1, "updated_at": max(at, self.updated_at)}
        return self.model_copy(update=update)

    def aliases_of(self, number: int) -> tuple[str, ...]:
        return tuple(sorted(alias for alias, named in self.aliases.items() if named == number))


class RegisteredModelChanges(Frozen):
    """What a change states: only what is in `model_fields_set` counts, and a key of None is taken away."""

    description: str | None = None
    tags: dict[Name, str | None] = Field({}, json_schema_extra=NAMED)
    aliases: dict[Alias, Annotated[int, Field(strict=True, ge=1, le=MAX_NUMBER)] | None] = Field(
        {}, max_length=MAX_ALIASES_A_CHANGE, json_schema_extra={"propertyNames": {"pattern": r"^[\w-]{1,255}$"}}
    )


def exposed_name(metadata: Metadata) -> str:
    """The name under which the versions are found as one, unless it is taken: with the project in front, if any."""
    project = metadata.project_name or metadata.project_id
    return f"{project}.{metadata.name}" if project else metadata.name


def _merged(now: dict[str, T], changes: Mapping[str, T | None]) -> dict[str, T]:
    kept = {key: value for key, value in now.items() if key not in changes}
    return kept | {key: value for key, value in changes.items() if value is not None}
