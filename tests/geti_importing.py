"""The import of models with all it works with in memory, and whoever orders it: the sync, or a request.

stage = ImportStage()
stage.geti.add("p1", "Bottle caps", group("g1", "YOLOX-S", trained("b1", openvino(M1))))
stage.run(stage.synced(M1))       # the first message of a run of the sync that waits for it
stage.run(stage.asked(M1))        # a request's
stage.work_off()                  # what waits in the queue, each when its delay is over
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from chalicelib.geti.importing import Imported, Importing, Options
from chalicelib.geti.states import Import, ImportedModel, Item, Order, Run
from chalicelib.registry.access import Actor
from chalicelib.registry.models import ModelVersion
from chalicelib.registry.service import Registry
from tests.conftest import Announced, Clock, ulids
from tests.geti_memory import ImportsInMemory, SyncInMemory, WorkInMemory
from tests.geti_stage import GetiStage, group, model_id, openvino, trained
from tests.memory import MemoryBlobs, MemoryCatalog

M1, M2, M3 = model_id(1), model_id(2), model_id(3)
SERVER = "geti.test"
ALICE = Actor(kind="token", name="alice", request_id="r-1", token_id="01ALICE")
LEASED_FOR = timedelta(minutes=20)
ENOUGH_SECONDS = 900.0


class ImportStage:
    """Bottle caps with one trained version of three models; more can be added."""

    def __init__(self, *, is_flat: bool = False, **options: Any) -> None:
        self.geti = GetiStage(is_flat)
        self.geti.add("p1", "Bottle caps", self.usual_group())
        self.clock = Clock()
        self.new_ulid = ulids()
        self.imports = ImportsInMemory()
        self.store = SyncInMemory(self.clock, self.imports, SERVER)
        self.work = WorkInMemory()
        self.catalog = MemoryCatalog(self.new_ulid)
        self.blobs = MemoryBlobs()
        self.announced = Announced()
        self.options = Options(server_id=SERVER, **options)
        self.finished: list[Run] = []
        self.bugs: list[Exception] = []

    @staticmethod
    def usual_group() -> Any:
        models = [openvino(one, f"YOLOX-S {number}") for number, one in enumerate((M1, M2, M3), 1)]
        return group("g1-c0ffee", "YOLOX-S", trained("b1", *models))

    @property
    def registry(self) -> Registry:
        return Registry(self.catalog, self.blobs, self.clock, self.new_ulid, self.announced)  # type: ignore[arg-type]

    @property
    def importing(self) -> Importing:
        """As a new container makes it."""
        return Importing(
            self.geti,
            self.store,
            self.imports,
            self.work,
            self.registry,
            self.options,
            self.clock,
            self.new_ulid,
            self.finished.append,
            self.bugs.append,
        )

    # Whoever orders

    def synced(self, *model_ids: str, group_id: str = "g1-c0ffee", base: str = "b1") -> Order:
        """A run of the sync queues these, and has looked through everything; the order of the first."""
        at = self.clock()
        run = self.store.begin(Run(id=self.new_ulid(), started_at=at), at)
        lease, run, memory = self.store.lease(run.id, at, at + LEASED_FOR)
        for one in model_ids:
            known = self.store.item("p1", one)
            item = known or Item(project_id="p1", group_id=group_id, base_model_id=base, model_id=one)
            self.store.queue(lease, item.model_copy(update={"due_at": at + LEASED_FOR}))
        self.store.release(lease, run.model_copy(update={"has_looked": True}), memory)
        return self.order(model_ids[0], group_id=group_id)

    def asked(self, *model_ids: str, by: Actor = ALICE, group_id: str = "g1-c0ffee") -> Order:
        """A request; the order of its first model."""
        models = tuple(ImportedModel(id=one) for one in model_ids)
        at = self.clock()
        asked = Import(id=self.new_ulid(), project_id="p1", project_name="Bottle caps", asked_at=at, models=models)
        self.imports.add(asked, at + timedelta(days=7))
        return self.order(model_ids[0], import_id=asked.id, by=by, group_id=group_id)

    def order(self, one: str, **fields: Any) -> Order:
        """As it comes out of the queue."""
        where = {"server_id": SERVER, "project_id": "p1", "group_id": "g1-c0ffee", "model_id": one}
        return Order.model_validate_json(Order(**{**where, **fields}).model_dump_json())

    # Work

    def run(self, order: Order, remaining: Callable[[], float] = lambda: ENOUGH_SECONDS) -> Imported | None:
        return self.importing.run(order, remaining)

    def work_off(self, limit: int = 100) -> list[int]:
        """All orders that wait, each after its delay; the delays."""
        delays = []
        while self.work.orders:
            order, delay = self.work.orders.pop(0)
            self.pass_by(seconds=delay)
            delays.append(delay)
            assert len(delays) <= limit
            self.run(Order.model_validate_json(order.model_dump_json()))
        return delays

    def pass_by(self, **time: float) -> None:
        self.clock.now += timedelta(**time)

    # What there is

    @property
    def versions(self) -> dict[str, ModelVersion]:
        return dict(self.catalog._versions)

    def version(self, one: str = M1) -> ModelVersion:
        return self.catalog.version(one)

    def item(self, one: str = M1) -> Item:
        return self.store.kept["p1", one]

    def outcome(self, order: Order) -> ImportedModel:
        """What the request of this order was told of its model."""
        assert order.import_id
        return next(one for one in self.imports.get(order.import_id).models if one.id == order.model_id)

    def due_in(self, at: datetime, one: str = M1) -> timedelta:
        due_at = self.item(one).due_at
        assert due_at
        return due_at - at

    @property
    def is_idle(self) -> bool:
        """Whether nobody holds a model or a slot, or has a package open."""
        return not (self.store._holds or self.store._slots or self.geti.open_packages)
