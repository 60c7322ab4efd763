"""Warm CPU and cold start of the registry beside those of a bare function, interleaved in one run."""

import contextlib
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.containers import BARE, REGISTRY, TRACED, Container, Kind, Took, stub_dynamodb, unpack
from tests.bench.operations import get_event

KINDS = (BARE, REGISTRY, TRACED)
WARM_UP = 50
Sample = dict[Kind, list[Took]]


@dataclass(frozen=True)
class Spread:
    """A median in seconds, with the quartiles around it."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, seconds: list[float]) -> "Spread":
        return cls(*statistics.quantiles(seconds, n=4, method="inclusive"))


@dataclass(frozen=True)
class Comparison:
    """What one kind of function took beside the bare one, in one measure; `budget` is the ratio it may have."""

    measure: str
    kind: Kind
    bare: Spread
    registry: Spread
    budget: float

    @property
    def ratio(self) -> float:
        return self.registry.median / self.bare.median


@dataclass(frozen=True)
class Repetitions:
    """How often each kind of function is asked."""

    warm: int = 300
    cold: int = 21


def compare(package: Path, item: Mapping[str, Any], repetitions: Repetitions) -> list[Comparison]:
    """Warm `GET /models/{id}` of this item, and the same as the first request to a new container."""
    with tempfile.TemporaryDirectory() as directory, stub_dynamodb(item) as endpoint:
        unpack(package, Path(directory))

        def new_container(kind: Kind) -> Container:
            return Container(kind, Path(directory), endpoint)

        warm = _warm(new_container, repetitions.warm)
        cold = _cold(new_container, repetitions.cold)
    return [
        *_compared("warm request, CPU", warm, lambda took: took.cpu, 1.5),
        *_compared("cold start, elapsed", cold, lambda took: took.elapsed, 1.3),
        *_compared("cold start, CPU", cold, lambda took: took.cpu, 1.3),
    ]


def _warm(new_container: Callable[[Kind], Container], repetitions: int) -> Sample:
    with contextlib.ExitStack() as stack:
        containers = {kind: stack.enter_context(contextlib.closing(new_container(kind))) for kind in KINDS}
        for container in containers.values():
            for _ in range(WARM_UP):
                container.invoke(get_event())
        return _interleaved(repetitions, lambda kind: containers[kind].invoke(get_event()))


def _cold(new_container: Callable[[Kind], Container], repetitions: int) -> Sample:
    def first_request(kind: Kind) -> Took:
        with contextlib.closing(new_container(kind)) as container:
            return container.invoke(get_event())

    for kind in KINDS:
        first_request(kind)  # reads the files from the disk, once
    return _interleaved(repetitions, first_request)


def _interleaved(repetitions: int, measure: Callable[[Kind], Took]) -> Sample:
    """Every kind in turn, so that whatever else the machine does falls on all of them."""
    rounds = [{kind: measure(kind) for kind in KINDS} for _ in range(repetitions)]
    return {kind: [one[kind] for one in rounds] for kind in KINDS}


def _compared(measure: str, sample: Sample, pick: Callable[[Took], float], budget: float) -> Iterator[Comparison]:
    spreads = {kind: Spread.of([pick(took) for took in sample[kind]]) for kind in KINDS}
    for kind in (REGISTRY, TRACED):
        yield Comparison(measure, kind, spreads[BARE], spreads[kind], budget)
