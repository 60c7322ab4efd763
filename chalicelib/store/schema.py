"""The two tables: who is found where.

**registry** (pk, sk)

| question | answered by |
|---|---|
| a version by its id | `MODEL#{id}` / `META`; before it an upload's hold, after it a tombstone, with the event head |
| what it has of tags beyond 16 KiB, compressed | `MODEL#{id}` / `TAGS#{0..}` |
| a registered model by project and name: data, counter, event head | `NAME#{sha256}` / `META` |
| where a registered model's name is | `RM#{rm_id}` / `NAME` |
| registered models in order of their exposed names | `NAMES` / `{exposed name, folded}, 0x1F, {rm_id}` |
| those of a project, likewise | `NAMES#{sha256}` / `{exposed name, folded}, 0x1F, {rm_id}` |
| the versions of a registered model by number, with their stages | `RM#{rm_id}` / `V#{number:010d}` |
| all versions, newest first, and searches | `CATALOG#{0..3}` / `{published_at}#{id}`: what search reads, casefolded |
| the versions of a project, likewise, for who may see only that | `PROJECT#{sha256}` / `{published_at}#{id}` |
| those whose bytes are elsewhere, of all, of a project | `EXTERNAL#{0..3}`, `EXTERNAL-PROJECT#{sha256}` / likewise |
| versions by last change, of all, of a project | `SEARCH-VERSIONS`, `SEARCH-VERSIONS#{sha256}` / `{ms}#{id}` |
| registered models by exact name, of all, of a project | `SEARCH-NAMES`, `SEARCH-NAMES#{sha256}` / `{name}..{rm_id}` |
| by last change (hints: the record decides), likewise | `SEARCH-CHANGES`, `SEARCH-CHANGES#{sha256}` / `{ms}#{rm_id}` |
| by tag (hints) | `TAGGED#{sha256 of its key}` / `{value}..{rm_id}` |
| where a deleted registered model was: the head of its trail | `RM#{rm_id}` / `NAME` |
| what is left to do for renamed and deleted ones | `PENDING` / `{kind}#{rm_id}` |
| how many versions have an object, if copies were made of one | `HELD#{sha256 of its key}` / `META` |
| is this name, version and precision taken, by whom | `CLAIM#{sha256}` / `META` |
| which registered model has this exposed name | `CLAIM#{sha256}` / `META` |
| an upload by its id; kept 30 days after its end (`ttl`) | `UPLOAD#{id}` / `META` |
| uploads that may have expired, or left something in S3 | `UPLOADS` / `{expires_at}#{id}`: it ends no earlier |
| how far the sweep of objects has come | `SWEEP` / `META` |
| an API token by its id: the digest of its text, what it allows, event head | `TOKEN#{id}` / `META` |
| API tokens in order of their ids, which is that of their creation | `TOKENS` / `{id}` |
| which token was made as the first admin's | `BOOTSTRAP` / `META` |
| a tree of files: its project, count of changes, sealed paths, the archive it is from | `TREE#{tree id}` / `META` |
| its files in order of their paths, and where each is | `TREE#{tree id}` / `F#{path}` |
| a file on its way into it in parts, for a day (`ttl`) | `TREE#{tree id}` / `U#{upload id}` |
| the archive that a tree was packed to, or who is at it | `ZIP#{digest of the tree}` / `META` |
| that an archive was unpacked into a tree, or who is at it | `FILES#{tree id}` / `META` |
| what a request with an Idempotency-Key came to, for a day (`ttl`) | `IDEMPOTENCY#{sha256}` / `META` |
| the run of a Geti server that goes on, or the last one; event head | `GETI#{server_id}` / `META` |
| its projects, as they were looked at last | `GETI#{server_id}` / `P#{project id}` |
| its models by project: how far each has come, who imports it | `GETI#{server_id}` / `M#{project id}#{model id}` |
| those that may be due | `GETI#{server_id}` / `DUE#{due_at}#{project id}#{model id}` |
| who may have it send something now | `GETI#{server_id}` / `SLOT#{00..}` |
| which group has a model name in a project | `GETI#{server_id}` / `NAME#{sha256}` |
| what failed in a run, for 30 days (`ttl`) | `GETI#{server_id}` / `FAILED#{run id}#{model id}` |
| a request to import models, as it was asked, for 7 days (`ttl`) | `IMPORT#{id}` / `META` |
| what became of each of its models (`ttl`) | `IMPORT#{id}` / `M#{model id}` |

**registry-events** (pk subject, sk number of the event): append-only; index `by_day` over all subjects, index
`by_project` (`{sha256}#{day}`) over those of one project.

A version's record is kept as the JSON text of the domain model, so that a read costs one parse; whatever a condition
or a filter has to see is an attribute beside it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Self

from pynamodb.attributes import (
    BooleanAttribute,
    NumberAttribute,
    UnicodeAttribute,
)
from pynamodb.models import Model

from chalicelib.registry.access import Actor
from chalicelib.registry.audit import Action, Event
from chalicelib.registry.models import Head, ModelVersion, tags_size, time_text
from chalicelib.registry.registered_models import RegisteredModel
from chalicelib.registry.tokens import StoredToken, Token
from chalicelib.registry.uploads import Upload, UploadState
from chalicelib.store.keys import (
    META,
    event_key,
    from_text,
    model_key,
    project_day_key,
    project_digest,
    token_key,
    upload_key,
)

if TYPE_CHECKING:
    from pynamodb.expressions.condition import Condition

INLINE_BYTES = 16 * 1024  # of tags, in a record
TAGS = "TAGS#"


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


class SpillingItem(RegistryItem):
    """A record whose tags may be beside it (spilling.py): in so many pieces, put there by the event `tags_seq`."""

    seq = NumberAttribute()
    tag_pieces = NumberAttribute(null=True)
    tags_seq = NumberAttribute(null=True)


class VersionItem(SpillingItem):
    """A version, or its id held by an `upload`, or the tombstone of a deleted one (`deleted`): those have no record.

    `seq` counts the events of the id over all its lives, so a change conditioned on it cannot meet another state.
    """

    record = UnicodeAttribute(null=True)
    deleted = BooleanAttribute(null=True)
    upload = UnicodeAttribute(null=True)
    upload_key = UnicodeAttribute(null=True)
    digest = UnicodeAttribute()
    event_id = UnicodeAttribute()

    @classmethod
    def of(cls, version: ModelVersion, event: Event) -> Self:
        return cls(
            model_key(version.id),
            META,
            # Nulls too: a field that was cleared must not come back as its default.
            record=record_of(version),
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

    @classmethod
    def hold(cls, upload: Upload, event: Event) -> Self:
        return cls(
            model_key(upload.draft.id),
            META,
            upload=upload.id,
            upload_key=upload.key,
            seq=event.seq,
            digest=event.digest,
            event_id=event.event_id,
        )

    def inline_version(self) -> ModelVersion:
        """The version without the tags that are beside its record (version_records.py has it whole)."""
        return ModelVersion.model_validate_json(self.record or "")

    @property
    def head(self) -> Head:
        return Head(seq=int(self.seq), digest=self.digest)


class NameItem(SpillingItem):
    """A registered model, under its project and name. `counter` is the highest number given out.

    `touched_at` is when a version came or went last, beside the record as the counter is: crowds write them.
    """

    rm_id = UnicodeAttribute()
    record = UnicodeAttribute()
    counter = NumberAttribute()
    touched_at = UnicodeAttribute(null=True)
    digest = UnicodeAttribute()

    @classmethod
    def of(cls, model: RegisteredModel, key: str, counter: int, event: Event) -> Self:
        return cls(
            key,
            META,
            rm_id=model.rm_id,
            record=record_of(model),
            counter=counter,
            seq=event.seq,
            digest=event.digest,
        )

    def inline_model(self) -> RegisteredModel:
        """The registered model without the tags that are beside its record (model_records.py has it whole)."""
        model = RegisteredModel.model_validate_json(self.record)
        touched = from_text(self.touched_at) if self.touched_at else model.last_changed_at
        later = {"changed_at": touched} if touched > model.last_changed_at else {}
        return model.model_copy(update={"highest_number": int(self.counter), **later})

    @property
    def head(self) -> Head:
        return Head(seq=int(self.seq), digest=self.digest)


class PointerItem(RegistryItem):
    """To a version (NumberItem), a registered model (`RM#..` / `NAME`, and `NAMES`), an upload or a token."""

    target = UnicodeAttribute()


class NumberItem(PointerItem):
    """To a version by its number; its stage, so that the newest of each stage are found without reading all."""

    stage = UnicodeAttribute(null=True)


class ListedItem(PointerItem):
    """A registered model in a list; its `exact_name` is what limits by names are compared with."""

    exact_name = UnicodeAttribute(null=True)


class GoneItem(RegistryItem):
    """`RM#..` / `NAME` of a deleted registered model: its newest event, which is its last."""

    deleted = BooleanAttribute()
    seq = NumberAttribute()
    digest = UnicodeAttribute()

    @property
    def head(self) -> Head:
        return Head(seq=int(self.seq), digest=self.digest)


class ClaimItem(RegistryItem):
    """What one holder has alone: a version (by its `upload` while that is open), or a registered model its name.

    `target` is the key of the item of that, so that it is found by its name at once.
    """

    holder = UnicodeAttribute()
    target = UnicodeAttribute(null=True)
    upload = UnicodeAttribute(null=True)


class UploadItem(RegistryItem):
    """An upload. What changes it has to see its state and expiry, so these stand beside the record, and decide."""

    record = UnicodeAttribute()
    state = UnicodeAttribute()
    expires_at = UnicodeAttribute()
    ttl = NumberAttribute(null=True)

    @classmethod
    def of(cls, upload: Upload, ttl: datetime | None = None) -> Self:
        return cls(
            upload_key(upload.id),
            META,
            record=upload.model_dump_json(),
            state=upload.state.value,
            expires_at=time_text(upload.expires_at),
            ttl=int(ttl.timestamp()) if ttl else None,
        )

    def stored_upload(self) -> Upload:
        upload = Upload.model_validate_json(self.record)
        update = {"state": UploadState(self.state), "expires_at": from_text(self.expires_at)}
        return upload.model_copy(update=update)


class TokenItem(RegistryItem):
    """An API token. `secret_digest` is the SHA-256 of its text; `seq` and `digest` are those of its newest event."""

    record = UnicodeAttribute()
    secret_digest = UnicodeAttribute()
    last_used_at = UnicodeAttribute(null=True)
    seq = NumberAttribute()
    digest = UnicodeAttribute()

    @classmethod
    def of(cls, token: Token, secret_digest: str, event: Event) -> Self:
        return cls(
            token_key(token.id),
            META,
            record=token.model_dump_json(),
            secret_digest=secret_digest,
            seq=event.seq,
            digest=event.digest,
        )

    def stored_token(self) -> StoredToken:
        token = Token.model_validate_json(self.record)
        used_at = from_text(self.last_used_at) if self.last_used_at else None
        return StoredToken(token=token, digest=self.secret_digest, last_used_at=used_at)

    @property
    def head(self) -> Head:
        return Head(seq=int(self.seq), digest=self.digest)


class SweepItem(RegistryItem):
    """The object that was looked at last."""

    after = UnicodeAttribute()


def is_inline(tags: Mapping[str, str]) -> bool:
    """Whether a record has room for these tags."""
    return tags_size(tags) <= INLINE_BYTES


def record_of(kept: ModelVersion | RegisteredModel) -> str:
    """What is kept of it in one text: all, but for tags that are too many."""
    return (kept if is_inline(kept.tags) else kept.model_copy(update={"tags": {}})).model_dump_json()


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
    about = UnicodeAttribute(null=True)
    project_day = UnicodeAttribute(null=True)

    @classmethod
    def of(cls, event: Event) -> Self:
        projects = {project_digest(name.project_id, name.project_name) for name in event.about}
        project = projects.pop() if len(projects) == 1 else None
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
            about=json.dumps([name.model_dump() for name in event.about], ensure_ascii=False) if event.about else None,
            project_day=project_day_key(project, event.at[:10]) if project else None,
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
            about=json.loads(self.about) if self.about else (),
        )


def is_unused(head: Head) -> Condition:
    """No version has the id: it never had one, or the last one was deleted by the event that `head` names."""
    if head.seq == 0:
        return VersionItem.pk.does_not_exist()
    condition: Condition = VersionItem.deleted.exists() & (VersionItem.seq == head.seq)
    return condition


def is_at(head: Head) -> Condition:
    """Nothing has happened to the version, or to the upload that holds its id, since this event."""
    condition: Condition = (VersionItem.seq == head.seq) & VersionItem.deleted.does_not_exist()
    return condition


def bind(registry_table: str, events_table: str) -> None:
    """Connect the item classes to their tables; this makes no call. PynamoDB keeps connections on the classes."""
    for item, table in ((RegistryItem, registry_table), (EventItem, events_table)):
        item.Meta.table_name = table
        item._connection = None
        item._get_connection()
    tables, events = RegistryItem._get_connection().connection, EventItem._get_connection()
    tables.add_meta_table(events.get_meta_table())
    events.connection = tables
    # One client for both, made now: threads that find none, as those of a search, make one each.
    _ = tables.client
