"""The registered models on DynamoDB: found by their exposed name, listed by it, changed with their aliases.

An alias is kept twice: in the registered model, which decides, and in the version it names, so that reading a version
stays one call. Both change in one transaction, each with an event of its own.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import reduce
from operator import or_

from pynamodb.connection.base import Connection
from pynamodb.exceptions import DoesNotExist
from pynamodb.expressions.condition import Condition

from chalicelib.registry.access import EVERYWHERE, Access, Actor
from chalicelib.registry.audit import Action, Change, Event
from chalicelib.registry.errors import NO_SUCH_NAME, InvalidInput, NotFound, StaleRevision
from chalicelib.registry.models import ModelVersion
from chalicelib.registry.registered_models import RegisteredModel
from chalicelib.store.commits import Commits, Prepared
from chalicelib.store.keys import (
    META,
    NAMES,
    exposed_name_key,
    model_key,
    name_key,
    number_key,
    project_digest,
    project_names_key,
    registered_model_key,
)
from chalicelib.store.schema import ClaimItem, EventItem, ListedItem, NameItem, PointerItem, VersionItem, is_at
from chalicelib.store.transactions import LostRace, Retry, Transaction, transient_errors_as_busy

Edit = Callable[[RegisteredModel], RegisteredModel]
ABOVE_ALL_NUMBERS = "V#~"
MAX_QUERIES = 64  # of a list, for a request
TOLD_CHARACTERS = (8, 16, 32, 64, 128, 256, 512)


class DynamoRegisteredModels:
    """RegisteredModels (registry/ports.py) on the two tables of schema.py."""

    def __init__(self, connection: Connection, commits: Commits, retry: Retry, new_ulid: Callable[[], str]) -> None:
        self._connection = connection
        self._commits = commits
        self._retry = retry
        self._new_ulid = new_ulid

    def named(self, exposed_name: str) -> RegisteredModel:
        return self._retry(lambda _: self._item(exposed_name)).registered_model()

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
            before = name.registered_model()
            by.access.require_seen(before.qualified_name, NO_SUCH_NAME)
            if if_revision not in (None, before.revision):
                raise StaleRevision(before.revision)
            after = edit(before)
            if after is before:
                return Prepared((before, before))
            tx = Transaction(self._connection)
            event = self._rewrite(tx, name, after, by, event_id)
            for item in self._touched_versions(before, after):
                self._rewrite_version(tx, item, after, by)
            return Prepared((before, after), tx, event.seq)

        return self._commits.once(registered_model_key(rm_id), event_id, attempt)

    def drop_aliases(self, tx: Transaction, version: ModelVersion, by: Actor, at: datetime) -> None:
        """Take the aliases of a version that leaves out of its registered model."""
        with transient_errors_as_busy():
            item = NameItem.get(name_key(version), META, consistent_read=True)
        before = item.registered_model()
        after = before.without_aliases_of(version.number, at)
        if after is not before:
            self._rewrite(tx, item, after, by, self._new_ulid())

    # Reads

    def _named_by(self, targets: Sequence[str]) -> dict[str, RegisteredModel]:
        with transient_errors_as_busy():
            items = NameItem.batch_get([(target, META) for target in targets], consistent_read=True)
            return {item.pk: item.registered_model() for item in items}

    def _item(self, exposed_name: str) -> NameItem:
        with transient_errors_as_busy():
            try:
                claim = ClaimItem.get(exposed_name_key(exposed_name), META, consistent_read=True)
                pointer = PointerItem.get(registered_model_key(claim.holder), "NAME", consistent_read=True)
                return NameItem.get(pointer.target, META, consistent_read=True)
            except DoesNotExist as exc:
                raise NotFound(NO_SUCH_NAME) from exc

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
        if not item.record or item.version().rm_id != rm_id:
            raise LostRace("the version has gone meanwhile")
        return item

    # Writes

    def _rewrite(self, tx: Transaction, item: NameItem, after: RegisteredModel, by: Actor, event_id: str) -> Event:
        action, before = Action.REGISTERED_MODEL_UPDATED, item.registered_model()
        change = Change.between(action, before, after, by, after.updated_at, event_id)
        event = change.after(registered_model_key(after.rm_id), item.head)
        # Not put as a whole, for the counter moves on meanwhile.
        actions = [
            NameItem.record.set(after.model_dump_json()),
            NameItem.seq.set(event.seq),
            NameItem.digest.set(event.digest),
        ]
        is_unchanged = (NameItem.rm_id == after.rm_id) & (NameItem.seq == item.head.seq)
        tx.update("registered model", NameItem(item.pk, META), actions, condition=is_unchanged)
        tx.put("rm event", EventItem.of(event), condition=EventItem.pk.does_not_exist())
        return event

    def _rewrite_version(self, tx: Transaction, item: VersionItem, model: RegisteredModel, by: Actor) -> None:
        before = item.version()
        after = before.model_copy(
            update={
                "aliases": model.aliases_of(before.number),
                "revision": before.revision + 1,
                "updated_at": max(model.updated_at, before.updated_at),
            }
        )
        change = Change.between(Action.VERSION_UPDATED, before, after, by, after.updated_at, self._new_ulid())
        event = change.after(model_key(after.id), item.head)
        tx.put(f"version {after.number}", VersionItem.of(after, event), condition=is_at(item.head))
        tx.put(f"event {after.number}", EventItem.of(event), condition=EventItem.pk.does_not_exist())


class Listing:
    """The next rows of a list behind a position, of all that `within` sees; a bounded part of them for each request.

    `go_on` is the position to go on from once they are read; None if these are all.
    """

    def __init__(self, retry: Retry, after: str, limit: int, within: Access) -> None:
        self.go_on: str | None = None
        self._retry = retry
        self._after = after
        self._limit = limit
        self._partitions = names_keys(within)
        self._condition = _named_like(within.name_prefixes)
        self._queries = max(1, MAX_QUERIES // len(self._partitions))

    def rows(self) -> list[tuple[str, str]]:
        """Sort keys and targets, in order, at most `limit`."""
        parts = [self._part(pk) for pk in self._partitions]
        # Behind the first place where a part was left, rows of it may be missing.
        edge = min((left for _, left in parts if left is not None), default=None)
        found = sorted(row for rows, _ in parts for row in rows if edge is None or row[0] <= edge)
        if len(found) > self._limit:
            self.go_on = found[self._limit - 1][0]
        elif edge is not None:
            self.go_on = found[-1][0] if found and found[-1][0] == edge else _no_more_than_needed(edge, self._after)
        return found[: self._limit]

    def _part(self, pk: str) -> tuple[list[tuple[str, str]], str | None]:
        """Rows of a partition, one more than are wanted, and how far it was read, if not to its end."""
        rows: list[tuple[str, str]] = []
        at: str | None = self._after
        for _ in range(self._queries):
            if at is None or len(rows) > self._limit:
                break
            more, at = self._retry(lambda _, behind=at: self._read(pk, behind))  # type: ignore[misc]
            rows += more
        return rows, at

    def _read(self, pk: str, behind: str) -> tuple[list[tuple[str, str]], str | None]:
        """One Query: at most 1 MB. Filtered rows are counted before the filter, so then no number can be wanted."""
        with transient_errors_as_busy():
            answer = ListedItem._get_connection().query(
                pk,
                range_key_condition=ListedItem.sk > behind if behind else None,
                filter_condition=self._condition,
                consistent_read=True,
                limit=self._limit + 1 if self._condition is None else None,
            )
        last = answer.get("LastEvaluatedKey")
        rows = [(row["sk"]["S"], row["target"]["S"]) for row in answer["Items"]]
        return rows, last["sk"]["S"] if last else None


def _no_more_than_needed(edge: str, after: str) -> str:
    """A position between these two that tells little of the first, which may be the name of what is hidden.

    What is between it and the first is read again.
    """
    return next((edge[:count] for count in TOLD_CHARACTERS if edge[:count] > after), edge)


def _named_like(prefixes: Sequence[str] | None) -> Condition | None:
    if prefixes is None:
        return None
    return reduce(or_, (ListedItem.exact_name.startswith(prefix) for prefix in prefixes))


def names_keys(within: Access) -> list[str]:
    """What has to be read of the list: only the rows of these projects, where access is limited to some."""
    if within.projects is None:
        return [NAMES]
    digests = (project_digest(project.id, project.name) for project in within.projects)
    return [project_names_key(digest) for digest in dict.fromkeys(digests) if digest]
