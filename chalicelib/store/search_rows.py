"""The rows that MLflow's searches read: registered models by name, by last change and by tag; versions by last change.

A row says where to look, never what is so: its partition is named in `pk`, and within limits of projects there is one
for each project. All but those by last change hold exactly what is; a row by last change, or of a tag, whose record
says otherwise by now is passed over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from pynamodb.attributes import BooleanAttribute, NumberAttribute, UnicodeAttribute, UnicodeSetAttribute

from chalicelib.registry.models import External, milliseconds
from chalicelib.registry.registered_models import shown_name
from chalicelib.store.keys import (
    changed_key,
    exact_name_key,
    project_digest,
    searched_key,
    tag_hints,
    tagged_key,
)
from chalicelib.store.schema import PointerItem, RegistryItem

if TYPE_CHECKING:
    from chalicelib.registry.models import ModelVersion
    from chalicelib.registry.registered_models import RegisteredModel

SOURCE_CHARACTERS = 200  # of a source in a row
MODELS_BY_NAME, MODELS_BY_CHANGE, VERSIONS_BY_CHANGE = "SEARCH-NAMES", "SEARCH-CHANGES", "SEARCH-VERSIONS"


class ModelRow(PointerItem):
    """A registered model by its exposed name, exactly; `target` is the key of its item.

    `tags` are hints (keys.tag_hint): whole where they are short. With keys.MORE_TAGS among them there are others too.
    Limits by names are compared with `exact_name`.
    """

    name = UnicodeAttribute()
    folded_name = UnicodeAttribute()
    exact_name = UnicodeAttribute()
    tags = UnicodeSetAttribute(null=True)
    is_prompt = BooleanAttribute(null=True)

    @classmethod
    def rows_of(cls, model: RegisteredModel, key: str) -> list[Self]:
        """Among all, and among those of its project if it has one. `key` is that of its item."""
        return [
            cls(
                pk,
                exact_name_key(model.exposed_name, model.rm_id),
                target=key,
                name=model.exposed_name,
                folded_name=model.exposed_name.casefold(),
                exact_name=model.name,
                tags=tag_hints(model.tags) or None,
                is_prompt=True if model.is_prompt else None,
            )
            for pk in partitions_of(MODELS_BY_NAME, model.project_id, model.project_name)
        ]


class ChangeRow(PointerItem):
    """A registered model by when it changed last. Behind a crowd of changes older rows of it may be left over."""

    exact_name = UnicodeAttribute()


class TagRow(PointerItem):
    """A registered model by one of its tags: `TAGGED#{digest of the key}` / beginning of the value, 0x1F, rm_id."""

    exact_name = UnicodeAttribute()

    @classmethod
    def row_of(cls, model: RegisteredModel, key: str, tag: str) -> Self:
        sk = tagged_key(model.tags[tag], model.rm_id)
        return cls(f"TAGGED#{searched_key(tag)}", sk, target=key, exact_name=model.name)


class VersionRow(RegistryItem):
    """A version by when it changed last: what orders it, and what a search leaves out by, without reading the version.

    `created` is in milliseconds since 1970; `tags` are as in ModelRow; of a long source there is the beginning.
    """

    rm_id = UnicodeAttribute()
    number = NumberAttribute()
    created = NumberAttribute()
    name = UnicodeAttribute()
    exact_name = UnicodeAttribute()
    run_id = UnicodeAttribute(null=True)
    source = UnicodeAttribute(null=True)
    tags = UnicodeSetAttribute(null=True)
    is_prompt = BooleanAttribute(null=True)

    @classmethod
    def rows_of(cls, version: ModelVersion) -> list[Self]:
        """Among all, and among those of its project if it has one."""
        lineage = version.lineage
        return [
            cls(
                pk,
                changed_key(version.last_changed_at, version.id),
                rm_id=version.rm_id,
                number=version.number,
                created=milliseconds(version.published_at),
                name=shown_name(version),
                exact_name=version.name,
                run_id=lineage.run_id if lineage else None,
                source=lineage.source[:SOURCE_CHARACTERS] if lineage else None,
                tags=tag_hints(version.tags) or None,
                is_prompt=True if isinstance(version.artifact, External) and version.artifact.uri == DUMMY else None,
            )
            for pk in partitions_of(VERSIONS_BY_CHANGE, version.project_id, version.project_name)
        ]


DUMMY = "dummy-source"  # of prompts


def partitions_of(rows: str, project_id: str | None, project_name: str | None) -> list[str]:
    """Where a row stands: among all, and among those of its project."""
    digest = project_digest(project_id, project_name)
    return [rows, *([f"{rows}#{digest}"] if digest else [])]
