"""What is remembered of a Geti server, in memory: the ports of chalicelib/geti/ports.py, for tests of the sync and the
import. They pass the same contract suite as the store (tests/contract).

    imports = ImportsInMemory()
    store = SyncInMemory(clock, imports)  # the requests that wait for outcomes are told by settle
    work = WorkInMemory()  # work.orders: [(order, delay)], work.runs: ids of runs to be worked on

`is_down` makes each fail as a store that is away does. `store.kept` are the items as they are, by project and model;
`store.finished` the runs that were finished, in order.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from chalicelib.geti.ports import LeaseLost, SyncRunning
from chalicelib.geti.states import (
    MAX_TOLD,
    Import,
    ImportedModel,
    Item,
    ItemState,
    Lease,
    Memory,
    Order,
    ProjectState,
    Run,
    RunStatus,
    Told,
)
from chalicelib.registry.errors import NotFound, Unavailable

K = TypeVar("K")
GIVEN_UP_AFTER = timedelta(minutes=40)
LOST_AFTER = timedelta(hours=6)


@dataclass
class Current:
    """The current run, or the last one."""

    run: Run
    fence: int
    heard_at: datetime
    last: Run | None = None
    leased_until: datetime | None = None
    waiting: int = 0
    imported: int = 0
    failed: int = 0
    failures: dict[str, str] = field(default_factory=dict)

    def is_leased(self, at: datetime) -> bool:
        return self.leased_until is not None and self.leased_until >= at

    def status(self, at: datetime) -> RunStatus:
        if self.run.finished_at:
            return RunStatus(run=self.run, is_leased=False)
        failures = [Told(id=model_id, why=why) for model_id, why in sorted(self.failures.items())]
        return RunStatus(
            run=self.run,
            is_leased=self.is_leased(at),
            outstanding=self.waiting,
            imported=self.imported,
            failed=self.failed,
            failures=tuple(failures[:MAX_TOLD]),
        )


@dataclass
class Hold:
    holder: str
    until: datetime


class InMemory:
    """One at a time, and nobody if the store is away."""

    def __init__(self) -> None:
        self.is_down = False
        self._lock = threading.RLock()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with self._lock:
            if self.is_down:
                raise Unavailable("The table does not answer.")
            yield


class ImportsInMemory(InMemory):
    """Imports: what is forgotten at its time is there for ever here."""

    def __init__(self) -> None:
        super().__init__()
        self._imports: dict[str, Import] = {}

    def add(self, asked: Import, ttl: datetime) -> None:
        with self._alone():
            self._imports[asked.id] = asked

    def get(self, import_id: str) -> Import:
        with self._alone():
            if import_id not in self._imports:
                raise NotFound("There is no such import.")
            return self._imports[import_id]

    def settle(self, import_id: str, outcome: ImportedModel) -> None:
        with self._alone():
            asked = self._imports.get(import_id)
            if asked is None:
                return
            models = tuple(
                outcome if (model.id, model.outcome) == (outcome.id, "pending") else model for model in asked.models
            )
            self._imports[import_id] = asked.model_copy(update={"models": models})


class SyncInMemory(InMemory):
    """SyncStore of one server."""

    def __init__(
        self,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        imports: ImportsInMemory | None = None,
        server_id: str = "geti.test",
    ) -> None:
        super().__init__()
        self.kept: dict[tuple[str, str], Item] = {}
        self.finished: list[Run] = []
        self.memory = Memory()
        self._clock = clock
        self._imports = imports or ImportsInMemory()
        self._server_id = server_id
        self._current: Current | None = None
        self._projects: dict[str, ProjectState] = {}
        self._holds: dict[tuple[str, str], Hold] = {}
        self._slots: dict[int, Hold] = {}
        self._names: dict[tuple[str, str], str] = {}

    # Runs

    def begin(self, run: Run, at: datetime) -> Run:
        with self._alone():
            now = self._current
            if now and now.run.id == run.id:
                return now.run
            if now and now.run.finished_at is None:
                if now.is_leased(at):
                    raise SyncRunning("A sync is going on: wait for its end.")
                if not now.run.has_looked:
                    return now.run
                if now.waiting and now.heard_at >= at - GIVEN_UP_AFTER:
                    raise SyncRunning("The imports of a sync are going on: wait for their end.")
                self._finish(now, at)
            if now and now.run.finished_at:
                run = run.model_copy(update={"started_at": max(run.started_at, now.run.finished_at)})
            self._current = Current(run, now.fence + 1 if now else 1, at, now.run if now else None)
            return run

    def give_up(self, at: datetime) -> Run | None:
        with self._alone():
            now = self._current
            if now is None or now.run.finished_at or not now.run.has_looked:
                return None
            is_silent = now.heard_at < at - GIVEN_UP_AFTER and not now.is_leased(at)
            return self._finish(now, at) if is_silent or not now.waiting else None

    def lease(self, run_id: str, at: datetime, until: datetime) -> tuple[Lease, Run, Memory]:
        with self._alone():
            now = self._current
            if now is None or now.run.id != run_id or now.run.finished_at or now.is_leased(at):
                raise SyncRunning("Another sync is going on, or this one has ended.")
            now.fence, now.leased_until = now.fence + 1, until
            return Lease(server_id=self._server_id, run_id=run_id, fence=now.fence), now.run, self.memory

    def save(self, lease: Lease, run: Run, memory: Memory) -> None:
        with self._acting(lease) as now:
            now.run, self.memory = run, memory

    def release(self, lease: Lease, run: Run, memory: Memory) -> None:
        with self._acting(lease) as now:
            now.run, self.memory, now.leased_until, now.heard_at = run, memory, None, self._clock()

    def finish(self, at: datetime) -> Run | None:
        with self._alone():
            now = self._current
            if now is None or now.run.finished_at or not now.run.has_looked or now.waiting:
                return None
            return self._finish(now, at)

    def status(self, at: datetime) -> RunStatus | None:
        with self._alone():
            return self._current.status(at) if self._current else None

    def _finish(self, now: Current, at: datetime) -> Run:
        now.run, now.leased_until = now.status(at).finished(at), None
        self.finished.append(now.run)
        return now.run

    @contextmanager
    def _acting(self, lease: Lease) -> Iterator[Current]:
        with self._alone():
            now = self._current
            if now is None or now.fence != lease.fence or now.leased_until is None or now.run.finished_at:
                raise LeaseLost
            yield now

    # Projects and items

    def projects(self) -> Mapping[str, ProjectState]:
        with self._alone():
            return dict(self._projects)

    def save_project(self, lease: Lease, project: ProjectState) -> None:
        with self._acting(lease):
            self._projects[project.id] = project

    def items(self, project_id: str) -> Sequence[Item]:
        with self._alone():
            return [item for key, item in sorted(self.kept.items()) if item.project_id == project_id]

    def item(self, project_id: str, model_id: str) -> Item | None:
        with self._alone():
            return self.kept.get((project_id, model_id))

    def queue(self, lease: Lease, item: Item) -> None:
        with self._acting(lease) as now:
            key = item.project_id, item.model_id
            stored = self.kept.get(key)
            now.heard_at = self._clock()
            if stored and stored.run_id == lease.run_id:
                self.kept[key] = stored.model_copy(update={"due_at": item.due_at})
                return
            now.waiting += 1
            origin = {"origin_state": stored.origin_state, "misses": stored.misses} if stored else {}
            update = {"state": ItemState.QUEUED, "run_id": lease.run_id, **origin}
            self.kept[key] = item.model_copy(update=update)

    def mark(self, lease: Lease, item: Item) -> None:
        with self._acting(lease):
            key = item.project_id, item.model_id
            update = {"origin_state": item.origin_state, "misses": item.misses}
            if key in self.kept:
                self.kept[key] = self.kept[key].model_copy(update=update)

    def due(self, at: datetime, limit: int) -> Sequence[Item]:
        with self._alone():
            due = [(item.due_at, key) for key, item in self.kept.items() if item.due_at and item.due_at <= at]
            return [self.kept[key] for _, key in sorted(due)[:limit]]

    # Imports

    def claim(self, order: Order, base_model_id: str, holder: str, at: datetime, until: datetime) -> Item | None:
        with self._alone():
            key = order.project_id, order.model_id
            if not self._hold(self._holds, key, holder, at, until):
                return None
            if key not in self.kept:
                where = order.model_dump(include={"project_id", "group_id", "model_id"})
                self.kept[key] = Item(**where, base_model_id=base_model_id, due_at=at + LOST_AFTER)
            if (waiting := self._waiting(self.kept[key])) is not None:
                waiting.heard_at = at
            return self.kept[key]

    def settle(self, item: Item, holder: str, order: Order, outcome: ImportedModel) -> None:
        with self._alone():
            key = item.project_id, item.model_id
            if not self._holds_it(key, holder):
                return
            if (waiting := self._waiting(self.kept[key])) is not None:
                waiting.waiting -= 1
                waiting.heard_at = self._clock()
                if outcome.outcome in ("registered", "exists"):
                    waiting.imported += 1
                else:
                    waiting.failed += 1
                    waiting.failures[item.model_id] = outcome.why or outcome.outcome
            if order.import_id:
                self._imports.settle(order.import_id, outcome)
            update = {"state": item.state, "attempts": item.attempts, "why": item.why, "due_at": item.due_at}
            self.kept[key] = self.kept[key].model_copy(update={**update, "run_id": None})
            del self._holds[key]

    def let_go(self, item: Item, holder: str) -> None:
        with self._alone():
            if self._holds_it((item.project_id, item.model_id), holder):
                del self._holds[item.project_id, item.model_id]

    def take_slot(self, slots: int, holder: str, at: datetime, until: datetime) -> int | None:
        with self._alone():
            mine = [slot for slot in range(slots) if slot in self._slots and self._slots[slot].holder == holder]
            for slot in [*mine, *range(slots)]:
                if self._hold(self._slots, slot, holder, at, until):
                    return slot
            return None

    def free_slot(self, slot: int, holder: str) -> None:
        with self._lock:
            if slot in self._slots and self._slots[slot].holder == holder and not self.is_down:
                del self._slots[slot]

    def owner_of_name(self, project_id: str, name: str, group_id: str) -> str:
        with self._alone():
            return self._names.setdefault((project_id, name), group_id)

    def _waiting(self, item: Item) -> Current | None:
        """The run that waits for an item."""
        now = self._current
        return now if now and now.run.id == item.run_id and now.run.finished_at is None else None

    def _holds_it(self, key: tuple[str, str], holder: str) -> bool:
        return key in self._holds and self._holds[key].holder == holder

    @staticmethod
    def _hold(holds: dict[K, Hold], key: K, holder: str, at: datetime, until: datetime) -> bool:
        """Whether it is this holder's now."""
        other = holds.get(key)
        if other and other.holder != holder and other.until >= at:
            return False
        holds[key] = Hold(holder, until)
        return True


@dataclass
class WorkInMemory:
    """Work, as it was asked for."""

    is_down: bool = False
    orders: list[tuple[Order, int]] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)

    def queue(self, order: Order, delay_seconds: int = 0) -> None:
        self._require_up()
        self.orders.append((order, delay_seconds))

    def start_sync(self, run_id: str) -> None:
        self._require_up()
        self.runs.append(run_id)

    def _require_up(self) -> None:
        if self.is_down:
            raise Unavailable("The queue does not answer.")
