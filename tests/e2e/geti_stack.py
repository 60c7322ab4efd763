"""A stack of its own that is connected to a simulated Geti, and what is asked of both over HTTP.

Clients meet it, and its functions S3, as on AWS: behind the two strict proxies.
"""

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import requests

from tests.e2e.strict_stack import lead_through, proxies_of
from tests.simulators.geti import Download, GetiServer, Optimized, World
from tests.simulators.strict_gateway import StrictGateway
from tests.simulators.strict_s3 import StrictS3
from tests.stack import Stack

TIMEOUT_SECONDS = 60
POLL_SECONDS = 0.1
# By itself the sync does not come while it is tested.
SELDOM = "rate(7 days)"
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
T = TypeVar("T")


@dataclass
class Connected:
    """A registry, and the Geti that its models come from."""

    stack: Stack
    geti: GetiServer
    gateway: StrictGateway
    s3: StrictS3
    settings: dict[str, str] = field(default_factory=dict)

    def start(self) -> None:
        connection = {"GETI_HOST": self.geti.url, "GETI_TOKEN": self.geti.token, "GETI_SYNC_SCHEDULE": SELDOM}
        self.stack.start(**connection, **self.settings)
        # After a kill, too: the functions are then as they were deployed. Changing one ends whatever it works on, so
        # there should be nothing in the queue.
        lead_through(self.stack, self.gateway, self.s3, "ImportModel")

    def request(self, method: str, path: str, **arguments: Any) -> requests.Response:
        return requests.request(method, f"{self.gateway.url}{path}", timeout=TIMEOUT_SECONDS, **arguments)

    def found(self, path: str) -> Any:
        """What is there; None for 404."""
        answer = self.request("GET", path)
        assert answer.status_code in (200, 404), answer.text
        return answer.json() if answer.status_code == 200 else None

    # Imports that are asked for

    def ask_for(self, *models: Optimized) -> requests.Response:
        """Have models of one project imported."""
        body = {"models": [{"id": one.id, "group_id": one.model.group.id} for one in models]}
        project_id = models[0].model.group.project.id
        return self.request("POST", f"/projects/{project_id}/geti-models/download", json=body)

    def outcomes(self, answer: requests.Response) -> dict[str, str]:
        """What became of each model of an import, once it has ended."""
        assert answer.status_code in (201, 202), answer.text

        def ended() -> dict[str, str] | None:
            told = requests.get(answer.headers["Location"], timeout=TIMEOUT_SECONDS).json()
            return {one["id"]: one["outcome"] for one in told["models"]} if told["state"] == "done" else None

        return until(ended)

    # The sync

    def sync(self) -> dict[str, Any]:
        """A run that is asked for, as it has ended."""
        answer = self.request("POST", "/sync", json={})
        assert answer.status_code == 202, answer.text
        return self.ended(answer.json()["run_id"])

    def ended(self, run_id: str) -> dict[str, Any]:
        def run() -> dict[str, Any] | None:
            status = self.found("/sync")
            return status["last_run"] if status["state"] == "idle" else None

        found = until(run)
        assert found["run_id"] == run_id
        return found

    def scheduled_sync(self) -> dict[str, Any]:
        """A run as the schedule begins it, as it has ended."""
        event = {"version": "0", "id": "1", "detail-type": "Scheduled Event", "source": "aws.events", "detail": {}}
        event |= {"account": "000000000000", "time": "2026-01-02T03:04:05Z", "region": "us-east-1", "resources": []}
        answer = self.stack.aws("lambda").invoke(
            FunctionName=self.stack.function("Sync"), Payload=json.dumps(event).encode()
        )
        with answer["Payload"] as body:
            outcome = json.loads(body.read())
        assert "FunctionError" not in answer, outcome
        return self.ended(outcome["id"])

    def settle(self) -> None:
        """Have everything imported that Geti has, so that what follows is all that is new."""
        assert self.sync()["counts"]["failed"] == 0
        self.geti.forget()

    def rows(self, prefix: str) -> list[dict[str, Any]]:
        """What stands in the registry's table under keys that begin so."""
        pages = self.stack.aws("dynamodb").get_paginator("scan").paginate(TableName=self.stack.table)
        return [item for page in pages for item in page["Items"] if item["pk"]["S"].startswith(prefix)]

    def let_pass(self, passed: timedelta) -> None:
        """Everything that is remembered of Geti was so much longer ago."""
        dynamodb, table = self.stack.aws("dynamodb"), self.stack.table
        for item in self.rows(f"GETI#{self.geti.url.removeprefix('http://')}"):
            older = {name: _older(value, passed) for name, value in item.items()}
            dynamodb.delete_item(TableName=table, Key={"pk": item["pk"], "sk": item["sk"]})
            dynamodb.put_item(TableName=table, Item=older)

    # What Geti sent

    def downloads(self, model: Optimized) -> list[Download]:
        return [download for download in self.geti.downloads if model.id in download.ids]

    def new(self, **trained: Any) -> Optimized:
        """A model in OpenVINO format with 16 bits, alone in a new project; `trained` as Group.train has it."""
        project = self.geti.world.project(f"Project {len(self.geti.world.projects) + 1}", "detection", ["cap"])
        return project.group("YOLOX-S").train(optimized=["FP16"], **trained)["FP16"]


@contextmanager
def connected(stack: Stack, **settings: str) -> Iterator[Connected]:
    """The stack, started with a Geti that is empty yet. Geti is there until the end; who made the stack ends it."""
    gateway, s3 = proxies_of(stack)
    with GetiServer(new_world()) as geti, gateway.serving(), s3.serving():
        served = Connected(stack, geti, gateway, s3, settings)
        served.start()
        yield served


def new_world() -> World:
    """One whose jobs ended lately, as the sync looks for them."""
    return World(clock=lambda: datetime.now(UTC))


def until(ask: Callable[[], T | None], seconds: float = TIMEOUT_SECONDS) -> T:
    """What there is, as soon as there is something."""
    deadline = time.monotonic() + seconds
    while (found := ask()) is None:
        assert time.monotonic() < deadline, "It did not happen."
        time.sleep(POLL_SECONDS)
    return found


def _older(value: dict[str, Any], passed: timedelta) -> dict[str, Any]:
    if "S" not in value:
        return value
    return {"S": TIME.sub(lambda at: f"{datetime.fromisoformat(at[0]) - passed:%Y-%m-%dT%H:%M:%S.%fZ}", value["S"])}
