"""Warm CPU and cold start of the registry beside those of a bare function that makes the same calls of AWS."""

import contextlib
import json
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.containers import BARE, LIBRARIES, REGISTRY, TRACED, Container, Kind, unpack
from tests.bench.exchanges import Exchange, replayed
from tests.bench.operations import COMPARED, Operation

KINDS = (BARE, LIBRARIES, REGISTRY, TRACED)
WARM_UP = 50
WARM_BUDGET, COLD_BUDGET = 1.5, 1.3
Sample = dict[Kind, list[float]]


@dataclass(frozen=True)
class Spread:
    """A median in seconds, with the quartiles around it."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Spread":
        return cls(*statistics.quantiles(seconds, n=4, method="inclusive"))


@dataclass(frozen=True)
class Comparison:
    """What each kind of function took for an operation; `budget` is the ratio to the bare one that it may have."""

    operation: Operation
    measure: str
    spreads: Mapping[Kind, Spread]
    budget: float

    def ratio(self, kind: Kind) -> float:
        return self.spreads[kind].median / self.spreads[BARE].median


@dataclass(frozen=True)
class Repetitions:
    """How often each kind of function is asked."""

    warm: int = 150
    cold: int = 9


def compare(
    package: Path, exchanges: Mapping[str, Sequence[Exchange]], repetitions: Repetitions
) -> Iterator[Comparison]:
    """Each of COMPARED, warm, and as the first request to a new container."""
    with tempfile.TemporaryDirectory() as directory:
        unpack(package, Path(directory))
        for operation in COMPARED:
            with containers(Path(directory), exchanges[operation.title]) as new_container:
                warm = _warm(new_container, operation, repetitions.warm)
                cold = _cold(new_container, operation, repetitions.cold)
            yield _compared(operation, "warm, CPU", warm, WARM_BUDGET)
            yield _compared(operation, "cold start, CPU", cold, COLD_BUDGET)


@contextlib.contextmanager
def containers(unpacked: Path, exchanges: Sequence[Exchange], **options: Any) -> Iterator[Callable[[Kind], Container]]:
    """Makes containers, for which AWS answers as in these exchanges."""
    calls = unpacked / "calls.json"
    calls.write_text(json.dumps([one.as_json() for one in exchanges]))
    with replayed(exchanges) as endpoint:
        yield lambda kind: Container(kind, unpacked, endpoint, calls, **options)


def _warm(new_container: Callable[[Kind], Container], operation: Operation, repetitions: int) -> Sample:
    with contextlib.ExitStack() as stack:
        warm = {kind: stack.enter_context(contextlib.closing(new_container(kind))) for kind in KINDS}
        for container in warm.values():
            for _ in range(WARM_UP):
                container.invoke(operation.event)
        return _interleaved(repetitions, lambda kind: warm[kind].invoke(operation.event)["cpu"])


def _cold(new_container: Callable[[Kind], Container], operation: Operation, repetitions: int) -> Sample:
    def first_request(kind: Kind) -> float:
        with contextlib.closing(new_container(kind)) as container:
            seconds: float = container.invoke(operation.event)["cpu"]
            return seconds

    for kind in KINDS:
        first_request(kind)  # reads the files from the disk, once
    return _interleaved(repetitions, first_request)


def _interleaved(repetitions: int, measure: Callable[[Kind], float]) -> Sample:
    """Every kind in turn, so that whatever else the machine does falls on all of them."""
    rounds = [{kind: measure(kind) for kind in KINDS} for _ in range(repetitions)]
    return {kind: [one[kind] for one in rounds] for kind in KINDS}


def _compared(operation: Operation, measure: str, sample: Sample, budget: float) -> Comparison:
    return Comparison(operation, measure, {kind: Spread.of(seconds) for kind, seconds in sample.items()}, budget)
