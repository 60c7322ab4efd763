"""The rows by which a version is found: in the catalogue, by its last change, by its number.

They hold exactly what its record says, so they are written in the transaction that changes it, whichever way it is
changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from pynamodb.attributes import UnicodeAttribute, UnicodeSetAttribute

from chalicelib.store.keys import catalog_keys, number_key, registered_model_key, tag_texts
from chalicelib.store.schema import NumberItem, RegistryItem
from chalicelib.store.search_rows import VersionRow

if TYPE_CHECKING:
    from chalicelib.registry.models import ModelVersion
    from chalicelib.store.transactions import Transaction


class CatalogItem(RegistryItem):
    """What search reads of a version. Texts that are searched in any case are casefolded; `exact_name` is as it is."""

    name = UnicodeAttribute()
    exact_name = UnicodeAttribute(null=True)
    version = UnicodeAttribute()
    project_name = UnicodeAttribute(null=True)
    category = UnicodeAttribute(null=True)
    architecture = UnicodeAttribute(null=True)
    origin = UnicodeAttribute(null=True)
    format = UnicodeAttribute(null=True)
    precisions = UnicodeSetAttribute(null=True)
    tags = UnicodeSetAttribute(null=True)

    @classmethod
    def rows_of(cls, version: ModelVersion) -> list[Self]:
        """Among all versions, and among those of its project if it has one."""
        return [cls._in(key, version) for key in catalog_keys(version)]

    @classmethod
    def _in(cls, key: str, version: ModelVersion) -> Self:
        return cls(
            key,
            version.position,
            name=version.name.casefold(),
            exact_name=version.name,
            version=version.version,
            project_name=_folded(version.project_name),
            category=_folded(version.category),
            architecture=_folded(version.architecture),
            origin=_folded(version.origin),
            format=_folded(version.format),
            precisions=set(version.precision) or None,
            tags=tag_texts(version.tags) or None,
        )


def listed_rows(version: ModelVersion) -> list[RegistryItem]:
    """Where it is listed: in the catalogue, and by its last change; among all, and among those of its project."""
    return [*CatalogItem.rows_of(version), *VersionRow.rows_of(version)]


def number_row(version: ModelVersion) -> NumberItem:
    """Where it is found by its number."""
    key = registered_model_key(version.rm_id)
    return NumberItem(key, number_key(version.number), target=version.id, stage=version.stage)


def enlist(tx: Transaction, version: ModelVersion, before: ModelVersion | None = None) -> None:
    """Have a version listed where it belongs, and nowhere else."""
    rows = listed_rows(version)
    kept = {(row.pk, row.sk) for row in rows}
    for row in listed_rows(before) if before else ():
        if (row.pk, row.sk) not in kept:
            tx.delete("old row", type(row)(row.pk, row.sk))
    for row in rows:
        tx.put("row", row)


def delist(tx: Transaction, version: ModelVersion) -> None:
    for row in listed_rows(version):
        tx.delete("old row", type(row)(row.pk, row.sk))


def _folded(text: str | None) -> str | None:
    return text.casefold() if text else None
