"""The sync beside a simulated Geti, over HTTP, with all else in memory.

sync = SyncStage(world, geti)
sync.run(); sync.work_off(); sync.pass_by(minutes=15); sync.run(is_full=True)
"""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from chalicelib.geti.connecting import connect
from chalicelib.geti.ports import Server
from chalicelib.geti.selection import Selection
from chalicelib.geti.states import SYNC, ImportedModel, ItemState, Run
from chalicelib.geti.syncing import Syncing
from chalicelib.geti.transport import Transport
from chalicelib.registry.models import ModelVersion
from chalicelib.registry.service import Registry
from tests.conftest import ALICE, Announced, Clock, draft, parcel, ulids
from tests.geti_memory import ImportsInMemory, SyncInMemory, WorkInMemory
from tests.memory import MemoryBlobs, MemoryCatalog
from tests.simulators.geti import GetiServer

ALL = Selection(models="all")


class SyncStage:
    """`finished` are the runs that ended, in order. What waits in the queue is worked off by `work_off` alone."""

    def __init__(self, geti: GetiServer, selection: Selection = ALL) -> None:
        self.geti = geti
        self.clock = Clock()
        self.new_ulid = ulids()
        self.store = SyncInMemory(self.clock, ImportsInMemory())
        self.work = WorkInMemory()
        self.finished: list[Run] = []
        self.workspace_id: str | None = None
        self.bugs: list[Exception] = []
        self.selection = selection
        catalog = MemoryCatalog(self.new_ulid)
        self.registry = Registry(catalog, MemoryBlobs(), self.clock, self.new_ulid, Announced())

    @property
    def server(self) -> Server:
        """As a new container finds it. It never waits."""
        transport = Transport(self.geti.url, self.token, sleep=lambda _: None)
        return connect(transport, None, self.workspace_id, allow_legacy=False)

    def token(self, is_anew: bool) -> str:
        return self.geti.token

    @property
    def syncing(self) -> Syncing:
        return Syncing(
            self.server,
            self.store,
            self.work,
            self.registry,
            self.selection,
            lambda: self.geti.token,
            self.clock,
            self.new_ulid,
            self.finished.append,
            self.bugs.append,
        )

    def run(self, is_time_left: Callable[[], bool] = lambda: True, **asked: bool) -> Run | None:
        """One invocation of the function: by the schedule, or as somebody asked for it."""
        run_id = self.syncing.ask(ALICE, **{"is_dry": False, "is_full": False, **asked}).id if asked else None
        return self.syncing.run(run_id, is_time_left)

    def work_off(self, fails: Mapping[str, str] | None = None) -> None:
        """Every order of the queue done, badly where `fails` says why."""
        while self.work.orders:
            order, _ = self.work.orders.pop(0)
            at = self.clock()
            item = self.store.claim(order, "base", "worker", at, at + timedelta(minutes=15))
            assert item
            why = (fails or {}).get(item.model_id)
            if why:
                due = {"state": ItemState.FAILED, "why": why, "due_at": at + timedelta(hours=1)}
                item = item.model_copy(update={**due, "attempts": item.attempts + 1})
                outcome = ImportedModel(id=item.model_id, outcome="failed", why=why)
            else:
                outcome = ImportedModel(id=item.model_id, outcome=self._register(item.model_id))
                item = item.model_copy(update={"state": ItemState.IMPORTED, "due_at": None, "why": None})
            self.store.settle(item, "worker", order, outcome)
        if done := self.store.finish(self.clock()):
            self.finished.append(done)

    def _register(self, model_id: str) -> Any:
        if model_id in self.registered:
            return "exists"
        tags = {"geti.key": f"geti:{model_id}", "mine": "kept"}
        self.registry.register(draft(model_id, id=model_id, tags=tags), parcel(), SYNC)
        return "registered"

    @property
    def registered(self) -> dict[str, ModelVersion]:
        catalog: Any = self.registry.catalog
        return dict(catalog._versions)

    def pass_by(self, **time: float) -> None:
        self.clock.now += timedelta(**time)
