"""The two tables: who is found where.

**registry** (pk, sk)

| question | answered by |
|---|---|
| a version by its id | `MODEL#{id}` / `META`; after its deletion a tombstone there keeps the head of its events |
| a registered model by project and name: id, counter, event head | `NAME#{sha256}` / `META` |
| where a registered model's name is | `RM#{rm_id}` / `NAME` |
| the versions of a registered model by number | `RM#{rm_id}` / `V#{number:010d}` |
| all versions, newest first, and searches | `CATALOG#{0..3}` / `{published_at}#{id}`: what search reads, casefolded |
| is this name, version and precision taken, by whom | `CLAIM#{sha256}` / `META` |

**registry-events** (pk subject, sk number of the event): append-only; index `by_day` over all subjects.

A version's record is kept as the JSON text of the domain model, so that a read costs one parse; whatever a condition
or a filter has to see is an attribute beside it.
"""

import hashlib
import json
import zlib
from typing import Self

from pynamodb.attributes import (
    BooleanAttribute,
    NumberAttribute,
    UnicodeAttribute,
    UnicodeSetAttribute,
)
from pynamodb.models import Model

from chalicelib.registry.audit import Action, Event
from chalicelib.registry.models import Actor, Head, Metadata, ModelVersion

CATALOG_SHARDS = 4
META = "META"
TAG_SEPARATOR = "\x1f"


def model_key(model_id: str) -> str:
    return f"MODEL#{model_id}"


def name_key(metadata: Metadata) -> str:
    """Where the registered model of this project and name is kept."""
    return f"NAME#{_digest(metadata.project_id, metadata.project_name, metadata.name)}"


def claim_key(rm_id: str, metadata: Metadata) -> str:
    """What only one version of a registered model may hold: its version label with its precisions."""
    return f"CLAIM#{_digest(rm_id, metadata.version, *metadata.precision)}"


def registered_model_key(rm_id: str) -> str:
    return f"RM#{rm_id}"


def number_key(number: int) -> str:
    return f"V#{number:010d}"


def event_key(seq: int) -> str:
    return f"{seq:012d}"


def shard_key(shard: int) -> str:
    return f"CATALOG#{shard}"


def shard_of(model_id: str) -> int:
    return zlib.crc32(model_id.encode()) % CATALOG_SHARDS


def _digest(*parts: str | None) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


class Connected:
    """How DynamoDB is called: once, and quick to give up, since `Retry` repeats operations with a deadline."""

    table_name: str | None = None
    connect_timeout_seconds = 2
    read_timeout_seconds = 5
    max_retry_attempts = 0
    max_pool_connections = 16


class RegistryItem(Model):
    """Any item of the registry table; the connection is shared by all kinds."""

    class Meta(Connected):
        pass

    pk = UnicodeAttribute(hash_key=True)
    sk = UnicodeAttribute(range_key=True)


class VersionItem(RegistryItem):
    """A version, or the tombstone of a deleted one (`deleted`, without a record).

    `seq` counts the events of the id over all its lives, so a change conditioned on it cannot meet another state.
    """

    record = UnicodeAttribute(null=True)
    deleted = BooleanAttribute(null=True)
    seq = NumberAttribute()
    digest = UnicodeAttribute()
    event_id = UnicodeAttribute()

    @classmethod
    def of(cls, version: ModelVersion, event: Event) -> Self:
        return cls(
            model_key(version.id),
            META,
            # Nulls too: a field that was cleared must not come back as its default.
            record=version.model_dump_json(),
            seq=event.seq,
            digest=event.digest,
            event_id=event.event_id,
        )

    @classmethod
    def tombstone(cls, model_id: str, event: Event) -> Self:
        return cls(
            model_key(model_id),
            META,
            deleted=True,
            seq=event.seq,
            digest=event.digest,
            event_id=event.event_id,
        )

    def version(self) -> ModelVersion:
        return ModelVersion.model_validate_json(self.record or "")

    @property
    def head(self) -> Head:
        return Head(seq=int(self.seq), digest=self.digest)


class NameItem(RegistryItem):
    """A registered model, under its project and name. `counter` is the highest number given out."""

    rm_id = UnicodeAttribute()
    name = UnicodeAttribute()
    project_id = UnicodeAttribute(null=True)
    project_name = UnicodeAttribute(null=True)
    counter = NumberAttribute()
    seq = NumberAttribute()
    digest = UnicodeAttribute()

    @classmethod
    def of(cls, metadata: Metadata, rm_id: str, event: Event) -> Self:
        return cls(
            name_key(metadata),
            META,
            rm_id=rm_id,
            name=metadata.name,
            project_id=metadata.project_id,
            project_name=metadata.project_name,
            counter=1,
            seq=event.seq,
            digest=event.digest,
        )


class PointerItem(RegistryItem):
    """From a registered model to one of its versions (`V#..`) or to its NameItem (`NAME`)."""

    target = UnicodeAttribute()


class ClaimItem(RegistryItem):
    holder = UnicodeAttribute()


class CatalogItem(RegistryItem):
    """What search reads of a version. Texts that are searched in any case are casefolded."""

    name = UnicodeAttribute()
    version = UnicodeAttribute()
    project_name = UnicodeAttribute(null=True)
    category = UnicodeAttribute(null=True)
    architecture = UnicodeAttribute(null=True)
    origin = UnicodeAttribute(null=True)
    format = UnicodeAttribute(null=True)
    precisions = UnicodeSetAttribute(null=True)
    tags = UnicodeSetAttribute(null=True)

    @classmethod
    def of(cls, version: ModelVersion) -> Self:
        return cls(
            shard_key(shard_of(version.id)),
            version.position,
            name=version.name.casefold(),
            version=version.version,
            project_name=_folded(version.project_name),
            category=_folded(version.category),
            architecture=_folded(version.architecture),
            origin=_folded(version.origin),
            format=_folded(version.format),
            precisions=set(version.precision) or None,
            tags={tag_text(key, value) for key, value in version.tags.items()} or None,
        )


def tag_text(key: str, value: str) -> str:
    """A tag as one text; unambiguous, since a key has no control characters."""
    return f"{key}{TAG_SEPARATOR}{value}"


def _folded(text: str | None) -> str | None:
    return text.casefold() if text else None


class EventItem(Model):
    """One event; never changed, never deleted."""

    class Meta(Connected):
        pass

    pk = UnicodeAttribute(hash_key=True)
    sk = UnicodeAttribute(range_key=True)
    day = UnicodeAttribute()
    event_id = UnicodeAttribute()
    at = UnicodeAttribute()
    action = UnicodeAttribute()
    actor = UnicodeAttribute()
    changes = UnicodeAttribute()
    prev = UnicodeAttribute()
    digest = UnicodeAttribute()

    @classmethod
    def of(cls, event: Event) -> Self:
        return cls(
            event.subject,
            event_key(event.seq),
            day=event.at[:10],
            event_id=event.event_id,
            at=event.at,
            action=event.action.value,
            actor=event.actor.model_dump_json(),
            changes=event.changes,
            prev=event.prev,
            digest=event.digest,
        )

    def event(self) -> Event:
        return Event(
            subject=self.pk,
            seq=int(self.sk),
            prev=self.prev,
            event_id=self.event_id,
            at=self.at,
            action=Action(self.action),
            actor=Actor.model_validate_json(self.actor),
            changes=self.changes,
        )


def bind(registry_table: str, events_table: str) -> None:
    """Connect the item classes to their tables; this makes no call. PynamoDB keeps connections on the classes."""
    for item, table in ((RegistryItem, registry_table), (EventItem, events_table)):
        item.Meta.table_name = table
        item._connection = None
        item._get_connection()
