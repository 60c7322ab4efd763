"""The Catalog on DynamoDB: each change is one transaction of the record, what finds it, and its event.

Rules are conditions on those writes. Who loses a race reads again (`Retry`); who meets a taken id or claim gets
Conflict with its holder. `search` is in search.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING

from pynamodb.exceptions import DoesNotExist, PynamoDBException

from chalicelib.registry import audit
from chalicelib.registry.access import EVERYWHERE
from chalicelib.registry.audit import Action, Change
from chalicelib.registry.errors import NO_SUCH_MODEL, NotFound, StaleRevision, Unavailable
from chalicelib.registry.registered_models import exposed_name, renamed_as, shown_as
from chalicelib.store.commits import Commits, Prepared
from chalicelib.store.held_items import held, let_go
from chalicelib.store.keys import META, claim_key, event_key, model_key, name_key
from chalicelib.store.model_records import item_of, touch
from chalicelib.store.placing import Placing
from chalicelib.store.registered_models import DynamoRegisteredModels
from chalicelib.store.schema import (
    ClaimItem,
    EventItem,
    GoneItem,
    NameItem,
    PointerItem,
    RegistryItem,
    VersionItem,
    bind,
    is_at,
    is_unused,
)
from chalicelib.store.search import Search
from chalicelib.store.tokens import DynamoTokens
from chalicelib.store.transactions import (
    Busy,
    Retry,
    Transaction,
    transient_errors_as_busy,
)
from chalicelib.store.uploads import DynamoUploads
from chalicelib.store.version_records import bury_version, put_version, version_of
from chalicelib.store.version_rows import delist, enlist

if TYPE_CHECKING:
    from pynamodb.connection.base import Connection

    from chalicelib.registry.access import Access, Actor
    from chalicelib.registry.audit import Event
    from chalicelib.registry.models import Draft, Filters, Head, ModelVersion, Page, Placement
    from chalicelib.store.numbered import DynamoNumbered
    from chalicelib.store.trail import DynamoTrail

EVENTS_READ = 20  # at once, from the newest on


class DynamoCatalog:
    """Catalog (registry/ports.py) on the two tables of schema.py, with the Uploads and RegisteredModels beside it."""

    def __init__(
        self,
        registry_table: str,
        events_table: str,
        new_ulid: Callable[[], str],
        retry: Retry | None = None,
    ) -> None:
        bind(registry_table, events_table)
        self._connection: Connection = RegistryItem._get_connection().connection
        self._new_ulid = new_ulid
        self._retry = retry or Retry()
        self._commits = Commits(self._retry)
        self._search = Search(self._retry)
        self._placing = Placing(self._connection, new_ulid, lambda upload_id, at: self._uploads.expire(upload_id, at))
        self._uploads = DynamoUploads(self._connection, self._placing, self._commits, self._retry, new_ulid)
        self._registered_models = DynamoRegisteredModels(self._connection, self._commits, self._retry, new_ulid)
        self._tokens = DynamoTokens(self._connection, self._commits, self._retry, new_ulid)

    @property
    def uploads(self) -> DynamoUploads:
        return self._uploads

    @property
    def registered_models(self) -> DynamoRegisteredModels:
        return self._registered_models

    @cached_property
    def numbered(self) -> DynamoNumbered:
        # Imported here, as the trail below: the first read of a container does not wait for what it has no use for.
        from chalicelib.store.numbered import DynamoNumbered

        return DynamoNumbered(
            self._connection, self._placing, self._registered_models, self._commits, self._retry, self._new_ulid
        )

    @property
    def tokens(self) -> DynamoTokens:
        return self._tokens

    @cached_property
    def trail(self) -> DynamoTrail:
        from chalicelib.store.trail import DynamoTrail

        return DynamoTrail(self._retry)

    def ping(self) -> None:
        try:
            self._stored("ping")
        except (Busy, PynamoDBException) as exc:
            raise Unavailable("The table does not answer.") from exc

    def version(self, model_id: str) -> ModelVersion:
        return self._retry(lambda _: version_of(self._version_item(model_id)))

    def versions(self, model_ids: Sequence[str]) -> Sequence[ModelVersion]:
        return self._search.versions(model_ids)

    def search(self, filters: Filters, limit: int, after: str | None = None, within: Access = EVERYWHERE) -> Page:
        return self._search(filters, limit, after, within)

    def place(self, draft: Draft, at: datetime) -> Placement:
        return self._retry(lambda _: self._placing.place(draft, at))

    def add(self, version: ModelVersion, placement: Placement, by: Actor) -> ModelVersion:
        event_id = self._new_ulid()

        def attempt(number: int) -> Prepared[ModelVersion]:
            if number == 0:
                return self._adding(version, placement, by, event_id, is_reserved=False)
            again = self._placing.place_again(version, version.published_at)
            is_reserved = not again.is_new_registered_model
            if is_reserved:
                # At once, so that crowds do not lose for ever.
                again = again.model_copy(update={"number": self._placing.reserve(version, again.rm_id)})
            return self._adding(version.placed(again), again, by, event_id, is_reserved)

        return self._commits.once(model_key(version.id), event_id, attempt)

    def change(
        self,
        model_id: str,
        edit: Callable[[ModelVersion], ModelVersion],
        by: Actor,
        at: datetime,
        if_revision: int | None = None,
    ) -> tuple[ModelVersion, ModelVersion]:
        event_id = self._new_ulid()

        def attempt(number: int) -> Prepared[tuple[ModelVersion, ModelVersion]]:
            item = self._version_item(model_id)
            before = version_of(item)
            by.access.require_seen(before.qualified_name)
            if if_revision not in (None, before.revision):
                raise StaleRevision(before.revision)
            after = edit(before)
            if after is before:
                return Prepared((before, before))
            return self._changing(item, before, after, by, event_id, is_contended=number > 0)

        return self._commits.once(model_key(model_id), event_id, attempt)

    def remove(self, model_id: str, by: Actor, at: datetime, of: str | None = None) -> tuple[ModelVersion, str | None]:
        event_id = self._new_ulid()

        def attempt(number: int) -> Prepared[tuple[ModelVersion, str | None]]:
            item = self._version_item(model_id)
            version = version_of(item)
            by.access.require_seen(version.qualified_name)
            if of not in (None, version.rm_id):
                raise NotFound(NO_SUCH_MODEL)
            return self._removing(item, version, by, at, event_id, is_contended=number > 0)

        return self._commits.once(model_key(model_id), event_id, attempt)

    def key_named_by(self, model_id: str) -> str | None:
        item = self._retry(lambda _: self._stored(model_id))
        if item is None or item.deleted:
            return None
        if item.upload_key:
            return item.upload_key
        file = item.inline_version().file
        return file.key if file else None

    def is_held(self, key: str) -> bool:
        return self._retry(lambda _: held(key)) is not None

    def begun_by(self, model_id: str) -> Actor | None:
        return self._retry(lambda _: self._begun_by(model_key(model_id)))

    def events(self, subject: str) -> tuple[Sequence[Event], Head]:
        return self._retry(lambda _: self._events(subject))

    def _events(self, subject: str) -> tuple[Sequence[Event], Head]:
        # The head first: what happens meanwhile has events behind it, which are left out.
        with transient_errors_as_busy():
            try:
                head = self._head(subject)
            except DoesNotExist as exc:
                raise NotFound("Nothing has happened to this subject.") from exc
            upto = EventItem.sk <= event_key(head.seq)
            return [item.event() for item in EventItem.query(subject, upto, consistent_read=True)], head

    def _begun_by(self, subject: str) -> Actor | None:
        with transient_errors_as_busy():
            newest = EventItem.query(subject, scan_index_forward=False, consistent_read=True, page_size=EVENTS_READ)
            return audit.begun_by(item.event() for item in newest)

    def _head(self, subject: str) -> Head:
        if not subject.startswith("RM#"):
            item = VersionItem.get(subject, META, consistent_read=True)
            if item.seq is None:
                raise DoesNotExist  # a Geti server before the end of its first sync
            return item.head
        pointer = PointerItem.get(subject, "NAME", consistent_read=True)
        if pointer.target is None:
            return GoneItem.get(subject, "NAME", consistent_read=True).head
        return NameItem.get(pointer.target, META, consistent_read=True).head

    # Reads

    def _stored(self, model_id: str) -> VersionItem | None:
        """The version, the hold of an upload or a tombstone."""
        with transient_errors_as_busy():
            try:
                return VersionItem.get(model_key(model_id), META, consistent_read=True)
            except DoesNotExist:
                return None

    def _version_item(self, model_id: str) -> VersionItem:
        item = self._stored(model_id)
        if item is None or not item.record:
            raise NotFound(NO_SUCH_MODEL)
        return item

    # Writes

    def _adding(
        self, version: ModelVersion, placement: Placement, by: Actor, event_id: str, is_reserved: bool
    ) -> Prepared[ModelVersion]:
        version = shown_as(version, placement.exposed_name or exposed_name(version))
        change = Change.between(Action.VERSION_REGISTERED, None, version, by, version.published_at, event_id)
        event = change.after(model_key(version.id), placement.head)
        tx = Transaction(self._connection)
        put_version(tx, "id", version, event, is_unused(placement.head))
        enlist(tx, version)
        self._placing.enter(tx, version, placement, by, version.published_at, is_reserved)
        return Prepared(version, tx, event.seq)

    def _changing(
        self,
        item: VersionItem,
        before: ModelVersion,
        after: ModelVersion,
        by: Actor,
        event_id: str,
        is_contended: bool,
    ) -> Prepared[tuple[ModelVersion, ModelVersion]]:
        tx, at = Transaction(self._connection), after.updated_at
        if name_key(before) != name_key(after):
            placement = self._placing.target(after, at, is_contended)
            # Aliases and stages are of a registered model: they stay with it.
            where = {"rm_id": placement.rm_id, "number": placement.number, "aliases": (), "stage": None}
            after = shown_as(after.model_copy(update=where), placement.exposed_name or exposed_name(after))
            self._leave(tx, before, by, at, is_contended)
            self._placing.enter(tx, after, placement, by, at, is_contended)
        elif claim_key(before.rm_id, before) != claim_key(after.rm_id, after):
            self._swap_claims(tx, before, after, at, is_contended)
        change = Change.between(Action.VERSION_UPDATED, before, after, by, at, event_id)
        event = change.after(model_key(after.id), item.head)
        put_version(tx, "record", after, event, is_at(item.head), (item, before))
        enlist(tx, after, before)
        return Prepared((before, after), tx, event.seq)

    def _removing(
        self, item: VersionItem, version: ModelVersion, by: Actor, at: datetime, event_id: str, is_contended: bool
    ) -> Prepared[tuple[ModelVersion, str | None]]:
        at = max(at, version.updated_at)
        change = Change.between(Action.VERSION_DELETED, version, None, by, at, event_id)
        event = change.after(model_key(version.id), item.head)
        tx = Transaction(self._connection)
        self._leave(tx, version, by, at, is_contended)
        delist(tx, version)
        is_last = let_go(tx, version.file, is_contended) if version.file else False
        bury_version(tx, "record", version.id, event, is_at(item.head), item)
        return Prepared((version, version.file.key if version.file and is_last else None), tx, event.seq)

    def _swap_claims(
        self, tx: Transaction, before: ModelVersion, after: ModelVersion, at: datetime, is_contended: bool
    ) -> None:
        wanted = claim_key(after.rm_id, after)
        if is_contended:
            self._placing.require_free(wanted, at, unless_holder=after.id)
        self._placing.release_claim(tx, before.rm_id, before)
        tx.put("claim", ClaimItem(wanted, META, holder=after.id), condition=ClaimItem.pk.does_not_exist())

    def _leave(self, tx: Transaction, version: ModelVersion, by: Actor, at: datetime, is_contended: bool) -> None:
        """Take a version out of its registered model, its aliases and its stage included, which changes that."""
        self._placing.leave(tx, version)
        if version.aliases or version.stage:
            self._registered_models.drop(tx, version, by, at)
        elif not is_contended:
            touch(tx, version, version.rm_id, at)
        else:
            # It may have another name by now, or be deleted.
            with suppress(NotFound):
                name = item_of(version.rm_id, version).inline_model()
                touch(tx, renamed_as(version, name), version.rm_id, at)
