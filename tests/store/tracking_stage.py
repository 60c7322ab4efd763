"""Tracking on DynamoDB in memory, with a clock that can be set and ids that count."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import boto3

from chalicelib.registry.access import EVERYWHERE, Access, Actor
from chalicelib.registry.experiments import Experiments
from chalicelib.registry.logging_models import Tracking
from chalicelib.registry.tracked_things import TrackedThings
from chalicelib.registry.tracking import LoggedModel, Metric, Run
from chalicelib.registry.tracking_lists import TrackedLists, Wanted
from chalicelib.store.catalog import DynamoCatalog
from chalicelib.store.tracking import DynamoTracking
from chalicelib.store.transactions import Retry
from tests.conftest import ALICE, Announced, Clock, ulids


@dataclass
class TrackingStage:
    """The services, and short ways to what tests ask for."""

    clock: Clock = field(default_factory=Clock)
    announced: Announced = field(default_factory=Announced)

    def __post_init__(self) -> None:
        new_ulid, numbers = ulids(), itertools.count(1)
        # Nobody waits in tests, and no jitter makes two runs differ.
        retry = Retry(sleep=lambda _: None, jitter=lambda low, high: 0)
        self.catalog = DynamoCatalog("RegistryTable", "EventsTable", new_ulid, retry)
        self.store = DynamoTracking(new_ulid, retry)
        things = TrackedThings(self.store, self.clock, self.announced)
        self.experiments = Experiments(things, lambda: str(10**17 + next(numbers)))
        self.tracking = Tracking(things, self.experiments, lambda: f"{next(numbers):032x}")
        self.lists = TrackedLists(self.store)

    def run(self, experiment_id: str = "0", by: Actor = ALICE, start_ms: int = 0, name: str = "", **tags: str) -> Run:
        return self.tracking.create_run(experiment_id, name, "ann", start_ms, tags, by)[0]

    def logged(self, experiment_id: str = "0", by: Actor = ALICE, name: str = "", **params: str) -> LoggedModel:
        return self.tracking.create_logged_model(experiment_id, name, "", "", list(params.items()), {}, by)[0]

    def names(self, by: Actor = ALICE, *experiment_ids: str, **wanted: Any) -> list[str]:
        """Of the runs on one page."""
        page, _ = self.lists.runs(experiment_ids or ("0",), Wanted(**wanted), by)
        return [run.name for run, _ in page]

    def pages(self, by: Actor = ALICE, limit: int = 2, **wanted: Any) -> list[list[str]]:
        """Of the runs in Default, page by page."""
        pages: list[list[str]] = []
        before: str | None = None
        while not pages or before:
            page, before = self.lists.runs(("0",), Wanted(limit=limit, before=before, **wanted), by)
            pages.append([run.name for run, _ in page])
            assert len(pages) < 50
        return pages

    def actions(self, subject: str) -> list[str]:
        return [event.action.value for event in self.catalog.events(subject)[0]]


def limited(project: str | None = None, prefixes: Sequence[str] = ()) -> Actor:
    """A publisher with limits."""
    limits: dict[str, Any] = {"projects": [{"name": project}]} if project else {}
    limits |= {"name_prefixes": prefixes} if prefixes else {}
    return Actor(name=str(limits), access=Access.model_validate({"role": "publisher", **limits}))


def metric(value: float, step: int = 0, timestamp: int = 1, key: str = "loss", **more: Any) -> Metric:
    return Metric(key=key, value=value, step=step, timestamp=timestamp, **more)


def items(prefix: str = "") -> list[dict[str, Any]]:
    """What the registry table holds, of keys that begin so."""
    found = boto3.client("dynamodb").scan(TableName="RegistryTable", ConsistentRead=True)["Items"]
    return [item for item in found if item["pk"]["S"].startswith(prefix)]


EVERYBODY = Actor(access=EVERYWHERE)
