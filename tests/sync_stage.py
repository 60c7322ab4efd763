"""What happens to what is remembered of a Geti server: runs, models, requests; on any implementation of the ports."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from chalicelib.geti.ports import Imports, SyncStore
from chalicelib.geti.states import (
    Import,
    ImportedModel,
    Item,
    ItemState,
    Lease,
    Memory,
    Order,
    Run,
    RunStatus,
)
from tests.conftest import Clock

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


@dataclass
class Place:
    """A store for one server, the requests beside it, and what happens there."""

    store: SyncStore
    imports: Imports
    clock: Clock
    server_id: str

    def run(self, name: str = "run1", **fields: Any) -> Run:
        return Run(id=name, started_at=self.clock.now, **fields)

    def begun(self, name: str = "run1", **fields: Any) -> tuple[Lease, Run]:
        """A run that is worked on."""
        now = self.clock()
        self.store.begin(self.run(name, **fields), now)
        lease, run, _ = self.store.lease(name, now, now + 20 * MINUTE)
        return lease, run

    def looked(self, *models: str, name: str = "run1") -> Run:
        """A run that has looked, and has queued these."""
        lease, run = self.begun(name)
        for model in models:
            self.store.queue(lease, self.item(model))
        run = run.model_copy(update={"has_looked": True})
        self.store.release(lease, run, Memory())
        return run

    def item(self, model: str = "m1", **fields: Any) -> Item:
        where = {"project_id": "p1", "group_id": "g1", "base_model_id": f"base-{model}", "model_id": model}
        return Item(**{**where, "due_at": self.clock.now + 6 * HOUR, **fields})

    def order(self, model: str = "m1", **fields: Any) -> Order:
        return Order(server_id=self.server_id, project_id="p1", group_id="g1", model_id=model, **fields)

    def claimed(self, model: str = "m1", holder: str = "worker1") -> Item:
        now = self.clock()
        item = self.store.claim(self.order(model), f"base-{model}", holder, now, now + 15 * MINUTE)
        assert item
        return item

    def settled(
        self, model: str = "m1", outcome: str = "registered", holder: str = "worker1", import_id: str | None = None
    ) -> None:
        """A model that was imported, or failed and is due again in an hour."""
        item = self.claimed(model, holder)
        if outcome == "failed":
            later = {"state": ItemState.FAILED, "attempts": item.attempts + 1, "due_at": self.clock.now + HOUR}
            item = item.model_copy(update={**later, "why": "Geti is full"})
        else:
            item = item.model_copy(update={"state": ItemState.IMPORTED, "due_at": None, "why": None})
        became = ImportedModel.model_validate({"id": model, "outcome": outcome, "why": item.why})
        self.store.settle(item, holder, self.order(model, import_id=import_id), became)

    def known(self, model: str = "m1", project: str = "p1") -> Item:
        item = self.store.item(project, model)
        assert item
        return item

    def finished(self) -> Run:
        run = self.store.finish(self.clock.now)
        assert run
        return run

    def report(self) -> RunStatus:
        status = self.store.status(self.clock.now)
        assert status
        return status

    def counts(self) -> tuple[int, int, int]:
        """What the run waits for, has imported, and what failed."""
        status = self.report()
        return status.outstanding, status.imported, status.failed

    def asked(self, import_id: str, *models: str) -> Import:
        """A request for these models, stored."""
        request = Import(
            id=import_id,
            project_id="p1",
            project_name="Project One",
            asked_at=self.clock.now,
            models=tuple(ImportedModel(id=model) for model in models),
        )
        self.imports.add(request, self.clock.now + 24 * HOUR)
        return request

    def passes(self, time: timedelta) -> datetime:
        self.clock.now += time
        return self.clock.now
