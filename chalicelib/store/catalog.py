"""The Catalog on DynamoDB: each change is one transaction of the record, what finds it, and its event.

Rules are conditions on those writes. Who loses a race reads again (`Retry`); who meets a taken id or claim gets
Conflict with its holder. `search` is in search.py.
"""

from collections.abc import Callable, Sequence
from datetime import datetime

from pynamodb.connection.base import Connection
from pynamodb.exceptions import DoesNotExist, PynamoDBException, UpdateError
from pynamodb.expressions.condition import Condition

from chalicelib.registry import audit
from chalicelib.registry.audit import Action, Change, Event
from chalicelib.registry.errors import (
    Conflict,
    NotFound,
    StaleRevision,
    Unavailable,
)
from chalicelib.registry.models import (
    Actor,
    Draft,
    Filters,
    Head,
    Metadata,
    ModelVersion,
    Page,
    Placement,
)
from chalicelib.store.commits import Commits, Prepared
from chalicelib.store.schema import (
    META,
    CatalogItem,
    ClaimItem,
    EventItem,
    NameItem,
    PointerItem,
    RegistryItem,
    VersionItem,
    bind,
    claim_key,
    event_key,
    model_key,
    name_key,
    number_key,
    registered_model_key,
    shard_key,
    shard_of,
)
from chalicelib.store.search import Search
from chalicelib.store.transactions import (
    Busy,
    LostRace,
    Retry,
    Transaction,
    transient_errors_as_busy,
)


class DynamoCatalog:
    """Catalog (registry/ports.py) on the two tables of schema.py."""

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

    def ping(self) -> None:
        try:
            self._stored("ping")
        except (Busy, PynamoDBException) as exc:
            raise Unavailable("The table does not answer.") from exc

    def version(self, model_id: str) -> ModelVersion:
        return self._retry(lambda _: self._version_item(model_id)).version()

    def search(self, filters: Filters, limit: int, after: str | None = None) -> Page:
        return self._search(filters, limit, after)

    def place(self, draft: Draft) -> Placement:
        return self._retry(lambda _: self._place(draft.id, draft))

    def add(self, version: ModelVersion, placement: Placement, by: Actor) -> ModelVersion:
        event_id = self._new_ulid()

        def attempt(number: int) -> Prepared[ModelVersion]:
            if number == 0:
                return self._adding(version, placement, by, event_id, is_reserved=False)
            again, is_reserved = self._place_again(version)
            return self._adding(version.placed(again), again, by, event_id, is_reserved)

        return self._commits.once(version.id, event_id, attempt)

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
            before = item.version()
            if if_revision not in (None, before.revision):
                raise StaleRevision(before.revision)
            after = edit(before)
            if after is before:
                return Prepared((before, before))
            return self._changing(before, after, item.head, by, event_id, is_contended=number > 0)

        return self._commits.once(model_id, event_id, attempt)

    def remove(self, model_id: str, by: Actor, at: datetime) -> ModelVersion:
        event_id = self._new_ulid()

        def attempt(_: int) -> Prepared[ModelVersion]:
            item = self._version_item(model_id)
            return self._removing(item.version(), item.head, by, at, event_id)

        return self._commits.once(model_id, event_id, attempt)

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

    def _head(self, subject: str) -> Head:
        if not subject.startswith("RM#"):
            return VersionItem.get(subject, META, consistent_read=True).head
        pointer = PointerItem.get(subject, "NAME", consistent_read=True)
        name = NameItem.get(pointer.target, META, consistent_read=True)
        return Head(seq=int(name.seq), digest=name.digest)

    # Reads

    def _stored(self, model_id: str) -> VersionItem | None:
        """The version or its tombstone."""
        with transient_errors_as_busy():
            try:
                return VersionItem.get(model_key(model_id), META, consistent_read=True)
            except DoesNotExist:
                return None

    def _version_item(self, model_id: str) -> VersionItem:
        item = self._stored(model_id)
        if item is None or item.deleted:
            raise NotFound("Model not found.")
        return item

    def _place(self, model_id: str, metadata: Metadata) -> Placement:
        """Two reads: the registered model with whatever has the id; then the claim."""
        keys = [(model_key(model_id), META), (name_key(metadata), META)]
        with transient_errors_as_busy():
            found = {item.pk: item for item in _read_both(keys)}
        held, name = found.get(keys[0][0]), found.get(keys[1][0])
        if isinstance(held, VersionItem) and not held.deleted:
            raise Conflict(model_id)
        head = held.head if isinstance(held, VersionItem) else Head()
        if not isinstance(name, NameItem):
            return Placement(rm_id=self._new_ulid(), number=1, is_new_registered_model=True, head=head)
        self._require_free(claim_key(name.rm_id, metadata))
        number = int(name.counter) + 1
        return Placement(rm_id=name.rm_id, number=number, is_new_registered_model=False, head=head)

    def _require_free(self, claim: str) -> None:
        with transient_errors_as_busy():
            try:
                raise Conflict(ClaimItem.get(claim, META, consistent_read=True).holder)
            except DoesNotExist:
                return

    def _place_again(self, version: ModelVersion) -> tuple[Placement, bool]:
        """A placement after a lost race. The number is reserved at once, so that crowds do not lose for ever."""
        placement = self._place(version.id, version)
        if placement.is_new_registered_model:
            return placement, False
        return placement.model_copy(update={"number": self._reserve(version, placement.rm_id)}), True

    def _reserve(self, metadata: Metadata, rm_id: str) -> int:
        """Take the next number for good; it stays a gap if it is not used."""
        name = NameItem(name_key(metadata), META)
        try:
            with transient_errors_as_busy():
                name.update([NameItem.counter.add(1)], condition=NameItem.rm_id == rm_id)
        except UpdateError as exc:
            if exc.cause_response_code == "ConditionalCheckFailedException":
                raise LostRace("the registered model is not there any more") from exc
            raise
        return int(name.counter)

    # Writes

    def _adding(
        self, version: ModelVersion, placement: Placement, by: Actor, event_id: str, is_reserved: bool
    ) -> Prepared[ModelVersion]:
        change = _change_of(Action.VERSION_REGISTERED, None, version, by, version.published_at, event_id)
        event = change.after(model_key(version.id), placement.head)
        tx = Transaction(self._connection)
        tx.put("id", VersionItem.of(version, event), condition=_is_unused(placement.head))
        tx.put("catalog", CatalogItem.of(version))
        tx.put("event", EventItem.of(event), condition=EventItem.pk.does_not_exist())
        self._enter(tx, version, placement, by, version.published_at, is_reserved)
        return Prepared(version, tx, event.seq)

    def _enter(
        self,
        tx: Transaction,
        version: ModelVersion,
        placement: Placement,
        by: Actor,
        at: datetime,
        is_reserved: bool,
    ) -> None:
        """Give a version its claim and number in a registered model, which is created if it is new."""
        claim = ClaimItem(claim_key(placement.rm_id, version), META, holder=version.id)
        tx.put("claim", claim, condition=ClaimItem.pk.does_not_exist())
        number = PointerItem(registered_model_key(placement.rm_id), number_key(placement.number), target=version.id)
        tx.put("number", number, condition=PointerItem.pk.does_not_exist())
        name = NameItem(name_key(version), META)
        if placement.is_new_registered_model:
            self._create_registered_model(tx, version, placement.rm_id, by, at)
        elif is_reserved:
            tx.check("name", NameItem, name.pk, META, condition=NameItem.rm_id == placement.rm_id)
        else:
            is_next = (NameItem.rm_id == placement.rm_id) & (NameItem.counter == placement.number - 1)
            tx.update("name", name, NameItem.counter.set(placement.number), condition=is_next)

    def _create_registered_model(
        self, tx: Transaction, version: ModelVersion, rm_id: str, by: Actor, at: datetime
    ) -> None:
        stated = {
            "name": version.name,
            "project_id": version.project_id,
            "project_name": version.project_name,
        }
        change = Change(
            event_id=self._new_ulid(),
            at=at,
            actor=by,
            action=Action.REGISTERED_MODEL_CREATED,
            changes=audit.as_text({field: (None, value) for field, value in stated.items() if value}),
        )
        event = change.after(registered_model_key(rm_id), Head())
        tx.put("name", NameItem.of(version, rm_id, event), condition=NameItem.pk.does_not_exist())
        tx.put("pointer", PointerItem(event.subject, "NAME", target=name_key(version)))
        tx.put("rm event", EventItem.of(event), condition=EventItem.pk.does_not_exist())

    def _changing(
        self,
        before: ModelVersion,
        after: ModelVersion,
        head: Head,
        by: Actor,
        event_id: str,
        is_contended: bool,
    ) -> Prepared[tuple[ModelVersion, ModelVersion]]:
        tx, at = Transaction(self._connection), after.updated_at
        if name_key(before) != name_key(after):
            placement = self._target(after, is_contended)
            after = after.model_copy(update={"rm_id": placement.rm_id, "number": placement.number})
            self._leave(tx, before)
            self._enter(tx, after, placement, by, at, is_contended)
        elif claim_key(before.rm_id, before) != claim_key(after.rm_id, after):
            self._release_claim(tx, before)
            claim = ClaimItem(claim_key(after.rm_id, after), META, holder=after.id)
            tx.put("claim", claim, condition=ClaimItem.pk.does_not_exist())
        change = _change_of(Action.VERSION_UPDATED, before, after, by, at, event_id)
        event = change.after(model_key(after.id), head)
        tx.put("record", VersionItem.of(after, event), condition=_is_at(head))
        tx.put("catalog", CatalogItem.of(after))
        tx.put("event", EventItem.of(event), condition=EventItem.pk.does_not_exist())
        return Prepared((before, after), tx, event.seq)

    def _target(self, version: ModelVersion, is_contended: bool) -> Placement:
        """Where a version moves to when its name or project changes; one read, two when contended."""
        with transient_errors_as_busy():
            try:
                name = NameItem.get(name_key(version), META, consistent_read=True)
            except DoesNotExist:
                return Placement(rm_id=self._new_ulid(), number=1, is_new_registered_model=True, head=Head())
        number = self._reserve(version, name.rm_id) if is_contended else int(name.counter) + 1
        return Placement(rm_id=name.rm_id, number=number, is_new_registered_model=False, head=Head())

    def _removing(
        self, version: ModelVersion, head: Head, by: Actor, at: datetime, event_id: str
    ) -> Prepared[ModelVersion]:
        change = _change_of(Action.VERSION_DELETED, version, None, by, max(at, version.updated_at), event_id)
        event = change.after(model_key(version.id), head)
        tx = Transaction(self._connection)
        self._leave(tx, version)
        tx.delete("catalog", CatalogItem(shard_key(shard_of(version.id)), version.position))
        tx.put("record", VersionItem.tombstone(version.id, event), condition=_is_at(head))
        tx.put("event", EventItem.of(event), condition=EventItem.pk.does_not_exist())
        return Prepared(version, tx, event.seq)

    def _leave(self, tx: Transaction, version: ModelVersion) -> None:
        """Take a version out of its registered model: its number stays used, its claim becomes free."""
        tx.delete("old number", PointerItem(registered_model_key(version.rm_id), number_key(version.number)))
        self._release_claim(tx, version)

    def _release_claim(self, tx: Transaction, version: ModelVersion) -> None:
        claim = ClaimItem(claim_key(version.rm_id, version), META)
        tx.delete("old claim", claim, condition=ClaimItem.holder == version.id)


def _read_both(keys: Sequence[tuple[str, str]]) -> list[RegistryItem]:
    """A version (or tombstone) and a registered model, as far as they exist, in one consistent read."""
    table = RegistryItem._get_connection()
    wanted = [{"pk": pk, "sk": sk} for pk, sk in keys]
    answer = table.batch_get_item(wanted, consistent_read=True)  # type: ignore[arg-type] # PynamoDB wants Sequence[str]
    items = answer["Responses"].get(table.table_name, [])
    if answer.get("UnprocessedKeys"):
        raise LostRace("a part of the read was throttled")
    return [(VersionItem if item["pk"]["S"].startswith("MODEL#") else NameItem).from_raw_data(item) for item in items]


def _is_unused(head: Head) -> Condition:
    """No version has the id: it never had one, or the last one was deleted by the event that `head` names."""
    if head.seq == 0:
        return VersionItem.pk.does_not_exist()
    condition: Condition = VersionItem.deleted.exists() & (VersionItem.seq == head.seq)
    return condition


def _is_at(head: Head) -> Condition:
    """Nothing has happened to the version since this event."""
    condition: Condition = (VersionItem.seq == head.seq) & VersionItem.deleted.does_not_exist()
    return condition


def _change_of(
    action: Action,
    before: ModelVersion | None,
    after: ModelVersion | None,
    by: Actor,
    at: datetime,
    event_id: str,
) -> Change:
    changes = audit.as_text(audit.differences(before, after))
    return Change(event_id=event_id, at=at, actor=by, action=action, changes=changes)
