"""The imports from Geti on DynamoDB: the models that are imported, who is at it, and the requests that wait for them.

A model is held by one worker at a time, and what comes of it is one transaction: the model, the run that counts it, the
request that is told. That it is due is a row in a list. The row says when to look, not that something is due: it stays
when the model becomes due at another time, or never, and is dropped when it comes up.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from pynamodb.connection.base import Connection
from pynamodb.exceptions import DoesNotExist, PynamoDBException
from pynamodb.expressions.update import Action

from chalicelib.geti.states import Import, ImportedModel, Item, Order
from chalicelib.registry.errors import NO_SUCH_IMPORT, NotFound, Unavailable
from chalicelib.registry.models import time_text
from chalicelib.store.geti_items import (
    DUE,
    SLOTS,
    DueItem,
    FailedItem,
    ImportItem,
    ModelItem,
    RunItem,
    SlotItem,
    geti_key,
    import_key,
    is_free,
    is_pending,
    is_unfinished,
    model_row_key,
    model_row_of_due_key,
    models_of_key,
    outcome_key,
    outcome_of,
    owned_name_key,
    places_of,
    slot_key,
    states_of,
)
from chalicelib.store.keys import META
from chalicelib.store.schema import ClaimItem, RegistryItem
from chalicelib.store.transactions import (
    Busy,
    LostRace,
    Refused,
    Retry,
    Transaction,
    transient_errors_as_busy,
    updated,
)

FORGOTTEN_AFTER = timedelta(hours=6)  # a model that was asked for, and of which nothing was heard, is tried again
FAILED_KEPT = timedelta(days=30)
MAX_WRITES = 100  # of one transaction
Clock = Callable[[], datetime]


class DynamoModels:
    """The models of one Geti server: of SyncStore (geti/ports.py) what those who import them use."""

    def __init__(
        self,
        server_id: str,
        new_ulid: Callable[[], str],
        retry: Retry | None = None,
        clock: Clock = lambda: datetime.now(UTC),
    ) -> None:
        self._server_id = server_id
        self._pk = geti_key(server_id)
        self._connection: Connection = RegistryItem._get_connection().connection
        self._new_ulid = new_ulid
        self._retry = retry or Retry()
        self._clock = clock

    def items(self, project_id: str) -> Sequence[Item]:
        def read(_: int) -> Sequence[Item]:
            of_project = ModelItem.sk.startswith(models_of_key(project_id))
            with transient_errors_as_busy():
                return [row.item() for row in ModelItem.query(self._pk, of_project, consistent_read=True)]

        return self._retry(read)

    def item(self, project_id: str, model_id: str) -> Item | None:
        row = self._retry(lambda _: self._model(project_id, model_id))
        return row.item() if row else None

    def due(self, at: datetime, limit: int) -> Sequence[Item]:
        found: list[Item] = []
        after = DUE
        while len(found) < limit:
            rows, due = self._retry(lambda _, after=after: self._due(after, at, limit))  # type: ignore[misc]
            found += due
            if len(rows) < limit:
                break
            after = rows[-1].sk
        return found[:limit]

    def claim(self, order: Order, base_model_id: str, holder: str, at: datetime, until: datetime) -> Item | None:
        row = ModelItem(self._pk, model_row_key(order.project_id, order.model_id))
        hold = [ModelItem.holder.set(holder), ModelItem.held_until.set(time_text(until))]

        def attempt(_: int) -> Item | None:
            if updated(row, hold, ModelItem.pk.exists() & is_free(ModelItem, holder, at)):
                return row.item()
            if self._model(order.project_id, order.model_id):
                return None
            return self._claimed_anew(order, base_model_id, hold, at)

        item = self._retry(attempt)
        if item and item.run_id:
            self._hear_of(item.run_id, at)
        return item

    def settle(self, item: Item, holder: str, order: Order, outcome: ImportedModel) -> None:
        settlement = Settlement(item.run_id, order.import_id)

        def attempt(_: int) -> None:
            tx = self._settling(item, holder, outcome, settlement)
            try:
                tx.commit()
            except Refused as exc:
                stored = self._model(item.project_id, item.model_id)
                if stored is None or stored.holder != holder:
                    # Another one's by now, or this was done before and its answer lost.
                    return
                settlement.learn(exc, stored.run_id)
                raise LostRace(str(exc)) from exc

        self._retry(attempt)

    def let_go(self, item: Item, holder: str) -> None:
        row = self._model_row(item)
        nobody = [ModelItem.holder.remove(), ModelItem.held_until.remove()]
        self._retry(lambda _: updated(row, nobody, ModelItem.holder == holder))

    def take_slot(self, slots: int, holder: str, at: datetime, until: datetime) -> int | None:
        hold = [SlotItem.holder.set(holder), SlotItem.held_until.set(time_text(until))]

        def attempt(_: int) -> int | None:
            taken = self._slots()
            free = [slot for slot in range(slots) if slot not in taken or taken[slot].held_until < time_text(at)]
            # The own one first: the answer may have been lost when it was taken.
            mine = [slot for slot in taken if slot < slots and taken[slot].holder == holder]
            for slot in [*mine, *free]:
                if updated(SlotItem(self._pk, slot_key(slot)), hold, is_free(SlotItem, holder, at)):
                    return slot
            return None

        return self._retry(attempt)

    def free_slot(self, slot: int, holder: str) -> None:
        def free(_: int) -> None:
            with transient_errors_as_busy():
                SlotItem(self._pk, slot_key(slot)).delete(condition=SlotItem.holder == holder)

        with suppress(Unavailable, PynamoDBException):
            self._retry(free)

    def owner_of_name(self, project_id: str, name: str, group_id: str) -> str:
        key = owned_name_key(project_id, name)

        def attempt(_: int) -> str:
            with suppress(DoesNotExist), transient_errors_as_busy():
                return ClaimItem.get(self._pk, key, consistent_read=True).holder
            tx = Transaction(self._connection)
            tx.put("name", ClaimItem(self._pk, key, holder=group_id), condition=ClaimItem.pk.does_not_exist())
            try:
                tx.commit()
            except Refused as exc:
                raise LostRace("the name was taken just now") from exc
            return group_id

        return self._retry(attempt)

    # Reads

    def _model(self, project_id: str, model_id: str) -> ModelItem | None:
        with transient_errors_as_busy():
            try:
                return ModelItem.get(self._pk, model_row_key(project_id, model_id), consistent_read=True)
            except DoesNotExist:
                return None

    def _due(self, after: str, at: datetime, limit: int) -> tuple[Sequence[DueItem], Sequence[Item]]:
        """The next rows up to this time, and the models among theirs that are due; the other rows are dropped."""
        # `!` sorts behind nothing, `~` behind every key of that time.
        within = DueItem.sk.between(f"{after}!", f"{DUE}{time_text(at)}~")
        with transient_errors_as_busy():
            rows = list(DueItem.query(self._pk, within, limit=limit, consistent_read=True))
            keys = [(self._pk, key) for key in dict.fromkeys(model_row_of_due_key(row.sk) for row in rows)]
            items = [row.item() for row in ModelItem.batch_get(keys, consistent_read=True)] if keys else []
        due = {DueItem.of(self._pk, item, item.due_at).sk: item for item in items if item.due_at}
        # Times only move on: nobody puts these again.
        self._drop([row for row in rows if row.sk not in due])
        return rows, [due[row.sk] for row in rows if row.sk in due]

    def _slots(self) -> dict[int, SlotItem]:
        with transient_errors_as_busy():
            rows = SlotItem.query(self._pk, SlotItem.sk.startswith(SLOTS), consistent_read=True)
            return {int(row.sk.removeprefix(SLOTS)): row for row in rows}

    # Writes

    def _drop(self, rows: Sequence[DueItem]) -> None:
        for begin in range(0, len(rows), MAX_WRITES):
            tx = Transaction(self._connection)
            for row in rows[begin : begin + MAX_WRITES]:
                tx.delete("due", row)
            tx.commit()

    def _claimed_anew(self, order: Order, base_model_id: str, hold: Sequence[Action], at: datetime) -> Item:
        """A model that was not known, held as `hold` says. It is due in case that nothing comes of it."""
        where = order.model_dump(include={"project_id", "group_id", "model_id"})
        item = Item(**where, base_model_id=base_model_id, due_at=at + FORGOTTEN_AFTER)
        tx = Transaction(self._connection)
        actions = [*places_of(item), *states_of(item), *hold]
        tx.update("model", self._model_row(item), actions, condition=ModelItem.pk.does_not_exist())
        self._put_due_row(tx, item)
        try:
            tx.commit()
        except Refused as exc:
            raise LostRace("the model is known since just now") from exc
        return item

    def _settling(self, item: Item, holder: str, outcome: ImportedModel, settlement: "Settlement") -> Transaction:
        is_waited_for = settlement.run_id is not None
        run = ModelItem.run_id == settlement.run_id if is_waited_for else ModelItem.run_id.does_not_exist()
        tx = Transaction(self._connection)
        row = self._model_row(item)
        over = [ModelItem.holder.remove(), ModelItem.held_until.remove(), ModelItem.run_id.remove()]
        tx.update("model", row, [*states_of(item), *over], condition=(ModelItem.holder == holder) & run)
        self._put_due_row(tx, item)
        if settlement.run_id and settlement.is_run_going_on:
            self._count(tx, settlement.run_id, outcome)
        if settlement.import_id:
            _tell(tx, settlement.import_id, outcome)
        return tx

    def _count(self, tx: Transaction, run_id: str, outcome: ImportedModel) -> None:
        """Have a run wait for one less."""
        is_imported = outcome.outcome in ("registered", "exists")
        counter = RunItem.imported if is_imported else RunItem.failed
        at = self._clock()
        actions = [
            RunItem.outstanding.add(-1),
            counter.add(1),
            RunItem.progress_at.set(time_text(at)),
        ]
        tx.update("run", RunItem(self._pk, META), actions, condition=is_unfinished(run_id))
        if not is_imported:
            tx.put("failed", FailedItem.of(self._server_id, run_id, outcome, at + FAILED_KEPT))

    def _hear_of(self, run_id: str, at: datetime) -> None:
        """Note that something happens to what a run waits for. If that fails, the next one notes it."""
        with suppress(PynamoDBException, Busy):
            updated(RunItem(self._pk, META), [RunItem.progress_at.set(time_text(at))], is_unfinished(run_id))

    def _put_due_row(self, tx: Transaction, item: Item) -> None:
        if item.due_at:
            tx.put("due", DueItem.of(self._pk, item, item.due_at))

    def _model_row(self, item: Item) -> ModelItem:
        return ModelItem(self._pk, model_row_key(item.project_id, item.model_id))


class Settlement:
    """What is thought to wait for the outcome of a model, until a refusal teaches better."""

    def __init__(self, run_id: str | None, import_id: str | None) -> None:
        self.run_id = run_id
        self.is_run_going_on = True
        self.import_id = import_id

    def learn(self, refusal: Refused, run_id: str | None) -> None:
        """Another run waits by now, or none; the run was given up; the request was told before, or is forgotten."""
        if run_id != self.run_id:
            self.run_id, self.is_run_going_on = run_id, True
        elif "run" in refusal.items:
            self.is_run_going_on = False
        if "import" in refusal.items:
            self.import_id = None


class DynamoImports:
    """Imports (geti/ports.py)."""

    def __init__(self, retry: Retry | None = None) -> None:
        self._connection: Connection = RegistryItem._get_connection().connection
        self._retry = retry or Retry()

    def add(self, asked: Import, ttl: datetime) -> None:
        rows = ImportItem.rows_of(asked, ttl)
        for begin in range(0, len(rows), MAX_WRITES):
            self._retry(lambda _, begin=begin: self._put(rows[begin : begin + MAX_WRITES]))  # type: ignore[misc]

    def get(self, import_id: str) -> Import:
        return self._retry(lambda _: self._import(import_id))

    def settle(self, import_id: str, outcome: ImportedModel) -> None:
        row = ImportItem(import_key(import_id), outcome_key(outcome.id))
        self._retry(lambda _: updated(row, outcome_of(outcome), is_pending()))

    def _put(self, rows: Sequence[RegistryItem]) -> None:
        tx = Transaction(self._connection)
        for row in rows:
            tx.put("row", row)
        tx.commit()

    def _import(self, import_id: str) -> Import:
        with transient_errors_as_busy():
            asked = ImportItem.asked(ImportItem.query(import_key(import_id), consistent_read=True))
        if asked is None:
            raise NotFound(NO_SUCH_IMPORT)
        return asked


def _tell(tx: Transaction, import_id: str, outcome: ImportedModel) -> None:
    """Have a request keep an outcome."""
    row = ImportItem(import_key(import_id), outcome_key(outcome.id))
    tx.update("import", row, outcome_of(outcome), condition=is_pending())
