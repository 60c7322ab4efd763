"""The registered models on DynamoDB: found by their exposed name, listed by it, changed with their aliases.

An alias is kept twice: in the registered model, which decides, and in the version it names, so that reading a version
stays one call. Both change in one transaction, each with an event of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pynamodb.exceptions import DoesNotExist

from chalicelib.registry.access import EVERYWHERE
from chalicelib.registry.audit import Action, Change
from chalicelib.registry.errands import Errand, ErrandKind
from chalicelib.registry.errors import NO_SUCH_NAME, AlreadyExists, InvalidInput, NotFound, StaleRevision, shown
from chalicelib.registry.models import Head
from chalicelib.registry.registered_models import RegisteredModel, renamed_as
from chalicelib.store.commits import Prepared
from chalicelib.store.keys import (
    META,
    PENDING,
    exposed_name_key,
    model_key,
    number_key,
    probable_name_key,
    registered_model_key,
)
from chalicelib.store.listing import Listing
from chalicelib.store.model_records import bury_model, item_at, item_of, model_of, move_model, put_model, rewrite
from chalicelib.store.schema import (
    ClaimItem,
    NameItem,
    NumberItem,
    PointerItem,
    RegistryItem,
    VersionItem,
    is_at,
)
from chalicelib.store.transactions import Busy, LostRace, Refused, Transaction, transient_errors_as_busy
from chalicelib.store.version_records import put_version, version_of
from chalicelib.store.version_rows import enlist

if TYPE_CHECKING:
    from pynamodb.connection.base import Connection

    from chalicelib.registry.access import Access, Actor
    from chalicelib.registry.audit import Event
    from chalicelib.registry.models import ModelVersion, Stage
    from chalicelib.store.commits import Commits
    from chalicelib.store.transactions import Retry

Edit = Callable[[RegisteredModel], RegisteredModel]
ABOVE_ALL_NUMBERS = "V#~"
RENAMED_AT_ONCE = 8  # in one transaction, which may have 100 items, of which each takes up to nine
STALE_READ = 100
PENDING_READ = 20


class DynamoRegisteredModels:
    """RegisteredModels (registry/ports.py) on the two tables of schema.py."""

    def __init__(self, connection: Connection, commits: Commits, retry: Retry, new_ulid: Callable[[], str]) -> None:
        self._connection = connection
        self._commits = commits
        self._retry = retry
        self._new_ulid = new_ulid

    def named(self, exposed_name: str) -> RegisteredModel:
        return self._retry(lambda _: model_of(self._item(exposed_name)))

    def page(
        self, limit: int, after: str | None = None, within: Access = EVERYWHERE
    ) -> tuple[Sequence[tuple[str, RegisteredModel]], str | None]:
        listing = Listing(self._retry, after or "", limit, within)
        rows, go_on = listing.rows(), listing.go_on
        models = self._retry(lambda _: self._named_by([target for _, target in rows]))
        seen = [(sk, models[target]) for sk, target in rows if target in models]
        return [(sk, model) for sk, model in seen if within.sees(model.qualified_name)], go_on

    def numbers(self, rm_id: str, limit: int, below: int | None = None) -> Sequence[tuple[int, str]]:
        def read(_: int) -> Sequence[tuple[int, str]]:
            upto = number_key(below - 1) if below is not None else ABOVE_ALL_NUMBERS
            within = PointerItem.sk.between(number_key(0), upto)
            with transient_errors_as_busy():
                rows = PointerItem.query(
                    registered_model_key(rm_id), within, scan_index_forward=False, limit=limit, consistent_read=True
                )
                return [(int(row.sk.partition("#")[2]), row.target) for row in rows]

        return self._retry(read)

    def numbered(self, rm_id: str, number: int) -> str | None:
        return self._retry(lambda _: self._numbered(rm_id, number))

    def change(
        self, exposed_name: str, edit: Edit, by: Actor, at: datetime, if_revision: int | None = None
    ) -> tuple[RegisteredModel, RegisteredModel]:
        event_id = self._new_ulid()
        rm_id = self.named(exposed_name).rm_id

        def attempt(_: int) -> Prepared[tuple[RegisteredModel, RegisteredModel]]:
            name = self._item(exposed_name)
            before = model_of(name)
            by.access.require_seen(before.qualified_name, NO_SUCH_NAME)
            if if_revision not in (None, before.revision):
                raise StaleRevision(before.revision)
            after = edit(before)
            if after is before:
                return Prepared((before, before))
            tx = Transaction(self._connection)
            event = self._rewrite(tx, name, before, after, by, event_id)
            for item in self._touched_versions(before, after):
                self._rewrite_version(tx, item, after, by)
            return Prepared((before, after), tx, event.seq)

        return self._commits.once(registered_model_key(rm_id), event_id, attempt)

    def add(self, model: RegisteredModel, by: Actor) -> None:
        event_id = self._new_ulid()
        subject = registered_model_key(model.rm_id)
        change = Change.between(Action.REGISTERED_MODEL_CREATED, None, model, by, model.created_at, event_id)
        event = change.after(subject, Head())

        def attempt(_: int) -> Prepared[None]:
            tx = Transaction(self._connection)
            put_model(tx, model, 0, event)
            return Prepared(None, tx, event.seq)

        self._commits.once(subject, event_id, attempt, _refused_if_taken(model.exposed_name))

    def rename(self, rm_id: str, name: str, by: Actor, at: datetime) -> tuple[RegisteredModel, RegisteredModel]:
        event_id = self._new_ulid()

        def attempt(_: int) -> Prepared[tuple[RegisteredModel, RegisteredModel]]:
            item = item_of(rm_id)
            before = model_of(item)
            by.access.require_seen(before.qualified_name, NO_SUCH_NAME)
            after = before.renamed(name, at)
            if after is before:
                return Prepared((before, before))
            return self._renaming(item, before, after, by, event_id)

        return self._commits.once(registered_model_key(rm_id), event_id, attempt, _refused_if_taken(name))

    def remove(self, rm_id: str, by: Actor, at: datetime) -> RegisteredModel:
        event_id = self._new_ulid()

        def attempt(_: int) -> Prepared[RegisteredModel]:
            item = item_of(rm_id)
            before = model_of(item)
            by.access.require_seen(before.qualified_name, NO_SUCH_NAME)
            change = Change.between(
                Action.REGISTERED_MODEL_DELETED, before, None, by, max(at, before.updated_at), event_id
            )
            event = change.after(registered_model_key(rm_id), item.head)
            tx = Transaction(self._connection)
            bury_model(tx, item, before, event)
            if item.counter:
                tx.put("pending", _pending(Errand(kind=ErrandKind.REMOVE_VERSIONS, subject=rm_id)))
            return Prepared(before, tx, event.seq)

        return self._commits.once(registered_model_key(rm_id), event_id, attempt)

    def refresh(self, rm_id: str, by: Actor, at: datetime) -> bool:
        return self._retry(lambda _: self._refresh(rm_id, by, at))

    def pending(self) -> Sequence[Errand]:
        def read(_: int) -> Sequence[Errand]:
            with transient_errors_as_busy():
                rows = list(PointerItem.query(PENDING, limit=PENDING_READ, consistent_read=True))
            found = [row.sk.partition("#") for row in rows]
            return [Errand(kind=ErrandKind(kind), subject=subject) for kind, _, subject in found]

        return self._retry(read)

    def done(self, errand: Errand) -> None:
        def forget(_: int) -> None:
            with transient_errors_as_busy():
                _pending(errand).delete()

        self._retry(forget)

    def drop(self, tx: Transaction, version: ModelVersion, by: Actor, at: datetime) -> None:
        """Take the aliases and the stage of a version that leaves out of its registered model, if that is still there.

        Whatever changes a stage rewrites the registered model, though it may say the same: so none misses another.
        """
        try:
            item = item_of(version.rm_id, version)
        except NotFound:
            return
        before = model_of(item)
        after = before.without_aliases_of(version.number, at)
        if version.stage:
            after = before.model_copy(update={"aliases": after.aliases}).restaged(
                self._staged(before, [version], []), at
            )
        if after is not before:
            self._rewrite(tx, item, before, after, by, self._new_ulid())

    def restage(
        self,
        tx: Transaction,
        item: NameItem,
        before: Sequence[ModelVersion],
        after: Sequence[ModelVersion],
        by: Actor,
        at: datetime,
        event_id: str,
    ) -> Event:
        """Have a registered model say where these versions are now, which were read after it was; its event."""
        model = model_of(item)
        restaged = model.restaged(self._staged(model, before, after), at)
        return self._rewrite(tx, item, model, restaged, by, event_id)

    def _staged(
        self, model: RegisteredModel, before: Sequence[ModelVersion], after: Sequence[ModelVersion]
    ) -> dict[Stage, int]:
        """The highest number of each stage when these versions have changed. What is in none has none."""
        moved = {version.number for version in before}
        staged: dict[Stage, int] = {}
        for stage in {*model.staged, *(version.stage for version in after if version.stage)}:
            come = max((version.number for version in after if version.stage == stage), default=0)
            stayed = model.staged.get(stage, 0)
            if stayed in moved:
                others = self.numbers_in(model.rm_id, stage, below=stayed)
                stayed = next((number for number in others if number not in moved), 0)
            if highest := max(come, stayed):
                staged[stage] = highest
        return staged

    def numbers_in(self, rm_id: str, stage: Stage | None, below: int | None = None) -> Iterator[int]:
        """Numbers of the versions in a stage, highest first; read as they are taken."""
        upto = number_key(below - 1) if below is not None else ABOVE_ALL_NUMBERS
        within = NumberItem.sk.between(number_key(0), upto)
        condition = NumberItem.stage == stage if stage else NumberItem.stage.does_not_exist()
        with transient_errors_as_busy():
            rows = NumberItem.query(
                registered_model_key(rm_id), within, condition, scan_index_forward=False, consistent_read=True
            )
            for row in rows:
                yield int(row.sk.partition("#")[2])

    # Reads

    def _named_by(self, targets: Sequence[str]) -> dict[str, RegisteredModel]:
        with transient_errors_as_busy():
            items = NameItem.batch_get([(target, META) for target in targets], consistent_read=True)
            return {item.pk: model_of(item) for item in items}

    def _item(self, exposed_name: str) -> NameItem:
        """By its claim, which is read together with what it most likely leads to."""
        claimed, probable = exposed_name_key(exposed_name), probable_name_key(exposed_name)
        keys: list[Any] = [{"pk": claimed, "sk": META}, {"pk": probable, "sk": META}]
        table = RegistryItem._get_connection()
        with transient_errors_as_busy():
            answer = table.batch_get_item(keys, consistent_read=True)
            if answer.get("UnprocessedKeys"):
                raise Busy("UnprocessedKeys")
            found = {raw["pk"]["S"]: raw for raw in answer["Responses"].get(table.table_name, [])}
            if claimed not in found:
                raise NotFound(NO_SUCH_NAME)
            claim = ClaimItem.from_raw_data(found[claimed])
            if claim.target == probable in found:
                item = NameItem.from_raw_data(found[probable])
                if item.rm_id == claim.holder:
                    return item
            return item_at(claim.target, claim.holder) or item_of(claim.holder)

    def _numbered(self, rm_id: str, number: int) -> str | None:
        with transient_errors_as_busy():
            try:
                return PointerItem.get(registered_model_key(rm_id), number_key(number), consistent_read=True).target
            except DoesNotExist:
                return None

    def _touched_versions(self, before: RegisteredModel, after: RegisteredModel) -> list[VersionItem]:
        """Every version whose aliases differ. Raises InvalidInput for a number that no version has."""
        changed = {alias for alias, _ in before.aliases.items() ^ after.aliases.items()}
        touched = {model.aliases[alias] for model in (before, after) for alias in changed if alias in model.aliases}
        return [self._version(after.rm_id, number) for number in sorted(touched)]

    def _version(self, rm_id: str, number: int) -> VersionItem:
        model_id = self._numbered(rm_id, number)
        if model_id is None:
            raise InvalidInput("aliases", f"There is no version {number} of this registered model.")
        with transient_errors_as_busy():
            item = VersionItem.get(model_key(model_id), META, consistent_read=True)
        if not item.record or item.inline_version().rm_id != rm_id:
            raise LostRace("the version has gone meanwhile")
        return item

    # Writes

    def _renaming(
        self, item: NameItem, before: RegisteredModel, after: RegisteredModel, by: Actor, event_id: str
    ) -> Prepared[tuple[RegisteredModel, RegisteredModel]]:
        change = Change.between(Action.REGISTERED_MODEL_UPDATED, before, after, by, after.updated_at, event_id)
        event = change.after(registered_model_key(after.rm_id), item.head)
        tx = Transaction(self._connection)
        move_model(tx, item, before, after, event)
        rows = self._number_rows(after.rm_id, RENAMED_AT_ONCE + 1)
        if len(rows) > RENAMED_AT_ONCE:
            tx.put("pending", _pending(Errand(kind=ErrandKind.RENAME_VERSIONS, subject=after.rm_id)))
        else:
            self._rename_versions(tx, [row.target for row in rows], after, by)
        return Prepared((before, after), tx, event.seq)

    def _refresh(self, rm_id: str, by: Actor, at: datetime) -> bool:
        try:
            item = item_of(rm_id)
        except NotFound:
            return False
        model = item.inline_model().model_copy(update={"updated_at": at})
        tx = Transaction(self._connection)
        # Another rename would have them bear another name.
        tx.check("name", NameItem, item.pk, META, condition=NameItem.rm_id == rm_id)
        some = self._stale_versions(model)
        if some:
            self._rename_versions(tx, some, model, by)
            try:
                tx.commit()
            except Refused as exc:
                raise LostRace("the registered model or a version has changed meanwhile") from exc
        return bool(some)

    def _stale_versions(self, model: RegisteredModel) -> list[str]:
        """Ids of some versions that bear another name than their registered model; what is left is at the end."""
        after: int | None = None
        while True:
            rows = self._number_rows(model.rm_id, STALE_READ, after)
            with transient_errors_as_busy():
                items = list(
                    VersionItem.batch_get([(model_key(row.target), META) for row in rows], consistent_read=True)
                )
            versions = [item.inline_version() for item in items if item.record]
            stale = [one.id for one in versions if one.rm_id == model.rm_id and renamed_as(one, model) is not one]
            if stale or len(rows) < STALE_READ:
                return stale[:RENAMED_AT_ONCE]
            after = int(rows[-1].sk.partition("#")[2])

    def _number_rows(self, rm_id: str, limit: int, after: int | None = None) -> list[PointerItem]:
        within = PointerItem.sk.between(number_key(0 if after is None else after + 1), ABOVE_ALL_NUMBERS)
        with transient_errors_as_busy():
            return list(PointerItem.query(registered_model_key(rm_id), within, limit=limit, consistent_read=True))

    def _rename_versions(self, tx: Transaction, ids: Sequence[str], model: RegisteredModel, by: Actor) -> None:
        for model_id in ids:
            with transient_errors_as_busy():
                item = VersionItem.get(model_key(model_id), META, consistent_read=True)
            if not item.record:
                raise LostRace("a version has gone meanwhile")
            before = version_of(item)
            if before.rm_id != model.rm_id:
                raise LostRace("a version has moved meanwhile")
            renamed = renamed_as(before, model)
            changed_at = max(model.last_changed_at, before.last_changed_at)
            renamed = renamed.model_copy(update={"changed_at": changed_at})
            self._put_changed(tx, item, before, renamed, model.updated_at, by)

    def _put_changed(
        self, tx: Transaction, item: VersionItem, before: ModelVersion, after: ModelVersion, at: datetime, by: Actor
    ) -> None:
        """A version as its registered model has it now, with its event and rows."""
        update = {"revision": before.revision + 1, "updated_at": max(at, before.updated_at)}
        after = after.model_copy(update=update)
        change = Change.between(Action.VERSION_UPDATED, before, after, by, after.updated_at, self._new_ulid())
        event = change.after(model_key(after.id), item.head)
        put_version(tx, f"version {after.number}", after, event, is_at(item.head), (item, before))
        enlist(tx, after, before)

    def _rewrite(
        self,
        tx: Transaction,
        item: NameItem,
        before: RegisteredModel,
        after: RegisteredModel,
        by: Actor,
        event_id: str,
    ) -> Event:
        change = Change.between(Action.REGISTERED_MODEL_UPDATED, before, after, by, after.updated_at, event_id)
        event = change.after(registered_model_key(after.rm_id), item.head)
        rewrite(tx, item, before, after, event)
        return event

    def _rewrite_version(self, tx: Transaction, item: VersionItem, model: RegisteredModel, by: Actor) -> None:
        before = version_of(item)
        after = before.model_copy(update={"aliases": model.aliases_of(before.number)})
        self._put_changed(tx, item, before, after, model.updated_at, by)


def _pending(errand: Errand) -> PointerItem:
    return PointerItem(PENDING, f"{errand.kind}#{errand.subject}", target=registered_model_key(errand.subject))


def _refused_if_taken(name: str) -> Callable[[Refused], None]:
    """What to do when the name of a registered model was refused: nothing that comes later mends that."""

    def hear(refused: Refused) -> None:
        if {"name", "exposed name"} & refused.items.keys():
            raise AlreadyExists(f"There is a registered model of the name {shown(name)!r} already.")

    return hear
