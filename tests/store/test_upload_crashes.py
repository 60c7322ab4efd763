"""The process dies before or after any call of an upload's life, or an answer is lost: the stored state stays whole."""

from collections.abc import Callable
from contextlib import suppress

import pytest

from chalicelib.registry.errors import Conflict, RegistryError
from chalicelib.registry.registered_models import RegisteredModelChanges
from tests.conftest import ALICE
from tests.store.conftest import Bench
from tests.store.faults import Crash, connection_lost, nothing, watched_calls


def open_first(bench: Bench) -> None:
    bench.open("owl")


def open_next(bench: Bench) -> None:
    bench.open_large("cat", "v2")


def complete(bench: Bench) -> None:
    bench.complete(bench.small)


def complete_large(bench: Bench) -> None:
    bench.complete(bench.large, bench.parts)


def abort(bench: Bench) -> None:
    bench.uploading.abort(bench.large.id, ALICE)


def expire(bench: Bench) -> None:
    bench.clock.pass_by(hours=25)
    bench.register("dog", "v1", id="another-id-000000")


def set_alias(bench: Bench) -> None:
    bench.registry.change_registered_model("cat", RegisteredModelChanges(aliases={"champion": 1}), ALICE)


# The calls to DynamoDB that each makes when nobody is in the way; S3's are counted on the emulator.
OPERATIONS = {open_first: 2, open_next: 3, complete: 3, complete_large: 3, abort: 3, expire: 6, set_alias: 5}


@pytest.fixture
def stocked(bench: Bench) -> Bench:
    """A cat; a small and a large dog that wait to be completed."""
    bench.register("cat", "v1")
    bench.small, bench.large = bench.open("dog", "v1"), bench.open_large("dog", "v2")
    bench.put(bench.small)
    bench.parts = bench.send_parts(bench.large)
    return bench


@pytest.mark.parametrize(("operation", "budget"), OPERATIONS.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_an_operation_stays_within_its_budget_of_calls(stocked: Bench, operation: Callable[[Bench], None], budget: int):
    with watched_calls(nothing, nothing) as calls:
        operation(stocked)

    assert len(calls) == budget, calls


CRASHES = [(operation, call) for operation, budget in OPERATIONS.items() for call in range(budget)]


@pytest.mark.parametrize(("operation", "call"), CRASHES, ids=lambda value: getattr(value, "__name__", str(value)))
@pytest.mark.parametrize("is_done", [False, True], ids=["before", "after"])
def test_a_crash_leaves_a_whole_state_and_a_retry_ends_well(
    stocked: Bench, operation: Callable[[Bench], None], call: int, is_done: bool
):
    def crash(_: str, number: int) -> None:
        if number == call:
            raise Crash

    with watched_calls(nothing if is_done else crash, crash if is_done else nothing), pytest.raises(Crash):
        operation(stocked)

    # Two, where an upload had expired: what it left waits for the sweep.
    stocked.check(orphans=2)
    # What was done may be refused now; an upload that was opened is named then, so that its publisher can go on.
    with suppress(Conflict):
        operation(stocked)
    stocked.check(orphans=2)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_lost_answer_does_nothing_twice(stocked: Bench, operation: Callable[[Bench], None]):
    lost = []

    def lose(name: str, _: int) -> None:
        if name == "TransactWriteItems" and not lost:
            lost.append(name)
            raise connection_lost(name)

    with watched_calls(nothing, lose):
        try:
            operation(stocked)
        except RegistryError as exc:
            pytest.fail(f"{exc.code}: {exc}")

    assert lost
    stocked.check(orphans=operation is expire)
