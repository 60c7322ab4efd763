"""What requests cost as the catalogue grows, through the app, with AWS in memory.

Latency is beside a function in the same process that makes the same calls with boto3: the store in memory reads a whole
partition for each Query, as DynamoDB does not, and takes as much of the time of both.
"""

import json
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch
from urllib.parse import quote

import boto3

from chalicelib.store import search
from tests.bench.aws_calls import Call, Recorder
from tests.bench.exchanges import Exchange, recording
from tests.bench.operations import METADATA, TABLES, Operation, answered, api_event, aws_in_memory, registration
from tests.bench.seeding import seed_models, seed_versions, seeded_id, seeded_name
from tests.conftest import forget_what_was_made, template_resource
from tests.quick_moto import have_quick_queries

SIZES = (100, 1_000, 10_000)
VERSIONS = (10, 5_000)
ROUNDS, FEWEST_ROUNDS, LONGEST_SECONDS = 31, 5, 5


@dataclass(frozen=True)
class Scaled:
    """An operation at a size: its calls, and the seconds of each round, ours and those of a bare function."""

    title: str
    size: int
    calls: Sequence[Call]
    seconds: Sequence[float]
    bare_seconds: Sequence[float]

    @property
    def read_units(self) -> float:
        return sum(call.read_units for call in self.calls)

    @property
    def summary(self) -> dict[str, Any]:
        return {
            "title": self.title,
            "size": self.size,
            "calls": len(self.calls),
            "read units": self.read_units,
            "milliseconds": round(1000 * self.median, 2),
            "ratio to boto3": round(self.ratio, 2),
        }

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def ratio(self) -> float:
        """To the bare function, round by round."""
        return statistics.median(ours / bare for ours, bare in zip(self.seconds, self.bare_seconds, strict=True))


def measure_scale(say: Callable[[str], None]) -> Iterator[Scaled]:
    """Every operation at every size; then the versions of one name, few and many."""
    with aws_in_memory(), have_quick_queries(), patch.object(search, "MAX_SECONDS", math.inf):
        answered(Operation("preparation", registration("dog", "v1"), 201, 3))
        for before, size in zip((0, *SIZES), SIZES, strict=False):
            say(f"Filling the catalogue up to {size:,} models ...")
            seed_models(_pattern(), range(before, size))
            for operation in _operations(size):
                yield _measured(operation, size)
                say(f"  {operation.title}")
        for before, size in zip((1, *VERSIONS), VERSIONS, strict=False):
            say(f"Filling one name up to {size:,} versions ...")
            seed_versions(_pattern(), range(before + 1, size + 1))
            yield _measured(OF_A_NAME, size)


def _pattern() -> Any:
    from chalicelib.wiring import registry

    return registry().catalog.version(seeded_id("dog", "v1"))


def _operations(size: int) -> list[Operation]:
    middle = seeded_id(seeded_name(size // 2), "v1")
    return [
        Operation("get", api_event("GET", "/models/{model_id}", f"/models/{middle}"), 200, 1),
        _read("list, page of 100", "/models?limit=100"),
        _read("search: part of a name", f"/models?name={seeded_name(size // 2)[3:]}&limit=100"),
        _read("search: three filters", "/models?name=-00005&category=detect&precision=fp16&limit=100"),
        _read("search: no hit", "/models?name=nothing-like-it&limit=100", 404),
        _read("events, page of 100", "/events?limit=100"),
        Operation(
            "events of a model", api_event("GET", "/models/{model_id}/events", f"/models/{middle}/events"), 200, 1
        ),
    ]


def _read(title: str, target: str, status: int = 200) -> Operation:
    return Operation(title, api_event("GET", target.partition("?")[0], target), status, 0)


OF_A_NAME = _read("versions of a name, page of 100", f"/registered-models?name={quote(METADATA['project_name'])}.dog")


def _measured(operation: Operation, size: int) -> Scaled:
    calls, exchanges = _counted(operation)
    forget_what_was_made()
    boto3.setup_default_session()
    bare = bare_function(exchanges)
    answered(operation)
    bare()
    seconds: list[float] = []
    bare_seconds: list[float] = []
    deadline = time.perf_counter() + LONGEST_SECONDS
    while len(seconds) < ROUNDS and (len(seconds) < FEWEST_ROUNDS or time.perf_counter() < deadline):
        bare_seconds.append(_seconds(bare))
        seconds.append(_seconds(lambda: answered(operation)))
    return Scaled(operation.title, size, calls, seconds, bare_seconds)


def _counted(operation: Operation) -> tuple[list[Call], list[Exchange]]:
    recorder = Recorder({name: len(template_resource(name).get("GlobalSecondaryIndexes", [])) for name in TABLES})
    with recorder.installed(), recording() as exchanges:
        forget_what_was_made()
        calls = recorder.during(lambda: answered(operation))
    return calls, exchanges


def bare_function(exchanges: Sequence[Exchange]) -> Callable[[], str]:
    """Makes the same calls with boto3, one after another, and answers with all that it is told, as JSON."""
    clients: dict[str, Any] = {one.service: boto3.client(one.service) for one in exchanges}

    def function() -> str:
        answers = [getattr(clients[one.service], one.method)(**one.arguments) for one in exchanges]
        return json.dumps(answers, default=str)

    return function


def _seconds(action: Callable[[], Any]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started
