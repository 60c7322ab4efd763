"""The import of one model, as a message of the queue orders it: once, however often the message comes.

A worker takes one of the slots that Geti's server has, then the model, which nobody else touches while it has it. What
came of it is kept last, in one transaction with whoever waits for it. So a worker may die at any step: the next one
finds the model registered, or not, and comes to the same end. What is the worker's to do again it puts into the queue
itself; it raises only if that cannot be reached either.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from chalicelib.geti.errors import GetiError
from chalicelib.geti.fetching import Fetching, Transfer
from chalicelib.geti.packages import Found, is_of
from chalicelib.geti.ports import Imports, Server, SyncStore, Work
from chalicelib.geti.states import ImportedModel, Item, ItemState, Order, Run
from chalicelib.geti.trying import HOURLY, Unfit, failed, soon, why
from chalicelib.registry.errors import Conflict, NotFound, RegistryError, Unavailable
from chalicelib.registry.models import Frozen
from chalicelib.registry.service import Registry

HELD_FOR = timedelta(seconds=1000)  # longer than the function may run
# What is waited for a slot, for another worker, for the tables; the longer, the more often it was in vain.
SLOT_SECONDS, HELD_SECONDS, AWAY_SECONDS, MAX_WAIT_SECONDS = 5, 15, 120, 300
MAX_WAITS = 500
OTHER_SERVER = "The registry is connected to another Geti server now: ask for the model there."
NO_TURN = "Its turn did not come, for others were at it all the time: have it imported again."
OTHER_MODEL = (
    "Another model is registered under its id, one that did not come from this place in Geti (by its tag geti.key):"
    " delete that one, then have this one imported again."
)


class Imported(Frozen):
    """What came of an order: models that were imported, were there already, or failed; and bytes that Geti sent."""

    imported: int = 0
    failed: int = 0
    existing: int = 0
    bytes: int = 0


class Options(Frozen):
    """`slots`: how many packages this server is asked for at once; of Geti 3, which makes them in memory, only one."""

    server_id: str
    slots: int = 2
    strips_sample_image: bool = False


@dataclass(frozen=True)
class _Turn:
    """An order that is worked on, in the name of a holder."""

    order: Order
    holder: str
    at: datetime
    transfer: Transfer

    @property
    def until(self) -> datetime:
        return self.at + HELD_FOR


class Importing:
    """Carries out orders.

    `finished` is told of a run that ended with its last import, `report` of errors that are bugs.
    """

    def __init__(
        self,
        server: Server,
        store: SyncStore,
        imports: Imports,
        work: Work,
        registry: Registry,
        options: Options,
        clock: Callable[[], datetime],
        new_ulid: Callable[[], str],
        finished: Callable[[Run], None],
        report: Callable[[Exception], None],
    ) -> None:
        self._server = server
        self._store = store
        self._imports = imports
        self._work = work
        self._registry = registry
        self._options = options
        self._clock = clock
        self._new_ulid = new_ulid
        self._finished = finished
        self._report = report
        self._fetching = Fetching(
            server, options.server_id, store, registry, clock, strips_sample_image=options.strips_sample_image
        )

    def run(self, order: Order, remaining: Callable[[], float]) -> Imported | None:
        """What came of an order; None if that shows later, or was settled before. `remaining`: seconds to work.

        Raises Unavailable if nobody was told, and the order is not in the queue again: then it has to come back.
        """
        turn = _Turn(order, self._new_ulid(), self._clock(), Transfer(remaining))
        try:
            if order.server_id != self._options.server_id:
                return self._told(order, OTHER_SERVER)
            return self._at_a_slot(turn)
        except Unavailable:
            return self._wait(turn, AWAY_SECONDS)

    def _at_a_slot(self, turn: _Turn) -> Imported | None:
        slot = self._store.take_slot(self._slots(), turn.holder, turn.at, turn.until)
        if slot is None:
            return self._wait(turn, SLOT_SECONDS)
        try:
            return self._at_item(turn)
        finally:
            self._store.free_slot(slot, turn.holder)

    def _slots(self) -> int:
        with suppress(GetiError, Unavailable):
            if self._server.info.major == 3:
                return 1
        # If it does not even say what it is, it will not send anything.
        return self._options.slots

    def _at_item(self, turn: _Turn) -> Imported | None:
        order, found = turn.order, None
        if known := self._store.item(order.project_id, order.model_id):
            base_model_id = known.base_model_id
        else:
            try:
                found = self._fetching.found(order)
            except Exception as exc:
                return self._not_found(turn, exc)
            base_model_id = found.base.id
        item = self._store.claim(order, base_model_id, turn.holder, turn.at, turn.until)
        if item is None:
            return self._wait(turn, HELD_SECONDS)
        try:
            return self._with_item(turn, item, found)
        except Unavailable:
            self._let_go(turn, item)
            raise

    def _with_item(self, turn: _Turn, item: Item, found: Found | None) -> Imported | None:
        if self._is_settled(turn.order, item):
            self._let_go(turn, item)
            self._finish()
            return None
        try:
            outcome = self._registered(turn.order, item) or self._fetched(turn, item, found)
        except Exception as exc:
            return self._failed(turn, item, exc)
        done = {"state": ItemState.IMPORTED, "attempts": 0, "why": None, "due_at": None}
        self._settle(turn, item.model_copy(update=done), ImportedModel(id=item.model_id, outcome=outcome))
        is_new = outcome == "registered"
        return Imported(imported=int(is_new), existing=int(not is_new), bytes=turn.transfer.bytes)

    def _is_settled(self, order: Order, item: Item) -> bool:
        """Whether this order was carried out before, and its message came again.

        What the sync queues is QUEUED until it is settled; so a model that was deleted here is not fetched again.
        """
        if order.import_id is None:
            return item.state != ItemState.QUEUED
        with suppress(NotFound):
            asked = self._imports.get(order.import_id)
            return any(model.id == order.model_id and model.outcome != "pending" for model in asked.models)
        return False

    def _registered(self, order: Order, item: Item) -> Literal["registered", "exists"] | None:
        """What its being registered already means to whoever waits; None if it is not."""
        try:
            version = self._registry.catalog.version(order.model_id)
        except NotFound:
            return None
        if not is_of(version.tags, self._options.server_id, order.project_id, order.model_id):
            raise Unfit(OTHER_MODEL)
        if item.state != ItemState.IMPORTED:
            return "registered"  # by an attempt that died before it could say so
        begun_by = self._registry.catalog.begun_by(order.model_id)
        is_own = begun_by and begun_by.request_id and begun_by.request_id == order.by.request_id
        return "registered" if is_own else "exists"

    def _fetched(self, turn: _Turn, item: Item, found: Found | None) -> Literal["registered", "exists"]:
        try:
            self._fetching.fetch(found or self._fetching.found(turn.order), turn.transfer, turn.order.by)
        except Conflict as exc:
            there = self._registered(turn.order, item) if exc.holder == item.model_id and not exc.upload_id else None
            if there is None:
                raise
            return there
        return "registered"

    # What does not end well

    def _failed(self, turn: _Turn, item: Item, exc: Exception) -> Imported:
        """Have it tried again soon, or settle it as failed."""
        if self._is_tried_soon(turn.order, exc):
            self._let_go(turn, item)
        else:
            after = failed(item, exc, self._clock())
            self._settle(turn, after, ImportedModel(id=item.model_id, outcome="failed", why=after.why))
        return Imported(failed=1, bytes=turn.transfer.bytes)

    def _not_found(self, turn: _Turn, exc: Exception) -> Imported:
        """A model of which nothing is known here: only who asked for it waits."""
        if self._is_tried_soon(turn.order, exc):
            return Imported(failed=1)
        return self._told(turn.order, why(exc))

    def _is_tried_soon(self, order: Order, exc: Exception) -> bool:
        if not isinstance(exc, GetiError | RegistryError):
            # A bug: whoever waits is told all the same.
            self._report(exc)
        delay = soon(order, exc)
        if delay is None:
            return False
        try:
            self._work.queue(order.model_copy(update={"tries": order.tries + 1}), delay)
        except Unavailable:
            return False
        return True

    def _wait(self, turn: _Turn, seconds: int) -> Imported | None:
        """Put the order into the queue again, unless it has waited too often."""
        order = turn.order
        if order.waits >= MAX_WAITS:
            return self._given_up(turn)
        delay = max(seconds, min(seconds * (1 + order.waits) // 2, MAX_WAIT_SECONDS))
        self._work.queue(order.model_copy(update={"waits": order.waits + 1}), delay)
        return None

    def _given_up(self, turn: _Turn) -> Imported | None:
        order = turn.order
        known = self._store.item(order.project_id, order.model_id)
        item = known and self._store.claim(order, known.base_model_id, turn.holder, turn.at, turn.until)
        if item is None:
            return self._told(order, NO_TURN)
        if self._is_settled(order, item):
            self._let_go(turn, item)
            return None
        if item.state == ItemState.QUEUED:
            later = {"state": ItemState.FAILED, "why": NO_TURN, "due_at": self._clock() + HOURLY}
            item = item.model_copy(update=later)
        self._settle(turn, item, ImportedModel(id=item.model_id, outcome="failed", why=NO_TURN))
        return Imported(failed=1)

    # Who is told

    def _settle(self, turn: _Turn, item: Item, outcome: ImportedModel) -> None:
        self._store.settle(item, turn.holder, turn.order, outcome)
        self._finish()

    def _finish(self) -> None:
        if done := self._store.finish(self._clock()):
            self._finished(done)

    def _told(self, order: Order, reason: str) -> Imported:
        """Tell the request that waits, if one does, that it failed."""
        if order.import_id:
            self._imports.settle(order.import_id, ImportedModel(id=order.model_id, outcome="failed", why=reason))
        return Imported(failed=1)

    def _let_go(self, turn: _Turn, item: Item) -> None:
        """Let others have the item; if that cannot be kept, they wait until its time is over."""
        with suppress(Unavailable):
            self._store.let_go(item, turn.holder)
