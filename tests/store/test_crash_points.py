"""The process dies after any AWS call of any operation: the stored state is whole, and doing it again works."""

from collections.abc import Callable
from contextlib import nullcontext

import pytest

from chalicelib.registry.errors import Conflict, NotFound
from chalicelib.registry.models import Changes
from chalicelib.registry.service import Registry
from tests.conftest import ALICE, draft, parcel
from tests.invariants import check_invariants
from tests.store.faults import Crash, nothing, watched_calls


def register_first(registry: Registry) -> None:
    registry.register(draft("owl"), parcel(), ALICE)


def register_next(registry: Registry) -> None:
    registry.register(draft("cat", "v2"), parcel(), ALICE)


def register_again(registry: Registry) -> None:
    registry.register(draft("dog", "v1"), parcel(), ALICE)


def update(registry: Registry) -> None:
    registry.update("model-cat-v10000", Changes(score=0.9), ALICE)


def relabel(registry: Registry) -> None:
    registry.update("model-cat-v10000", Changes(version="v7"), ALICE)


def move_to_known(registry: Registry) -> None:
    registry.update("model-cat-v10000", Changes(name="dog"), ALICE)


def move_to_new(registry: Registry) -> None:
    registry.update("model-cat-v10000", Changes(name="owl"), ALICE)


def delete(registry: Registry) -> None:
    registry.delete("model-cat-v10000", ALICE)


# What each operation may call when nobody is in the way: the budget of the design.
OPERATIONS = {
    register_first: 3,
    register_next: 4,
    register_again: 4,
    update: 2,
    relabel: 2,
    move_to_known: 3,
    move_to_new: 3,
    delete: 3,
}


@pytest.fixture
def stocked(registry: Registry) -> Registry:
    """A cat, and a dog that was there once."""
    registry.register(draft("cat", "v1"), parcel(), ALICE)
    registry.register(draft("dog", "v1"), parcel(), ALICE)
    registry.delete("model-dog-v10000", ALICE)
    return registry


@pytest.mark.parametrize(("operation", "budget"), OPERATIONS.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_an_operation_stays_within_its_budget_of_calls(
    stocked: Registry, operation: Callable[[Registry], None], budget: int
) -> None:
    with watched_calls(nothing, nothing) as calls:
        operation(stocked)

    assert len(calls) == budget, calls


@pytest.mark.parametrize(
    ("operation", "call"),
    [(operation, call) for operation, budget in OPERATIONS.items() for call in range(budget)],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
@pytest.mark.parametrize("is_done", [False, True], ids=["before", "after"])
def test_a_crash_leaves_a_whole_state_and_a_retry_succeeds(
    stocked: Registry, operation: Callable[[Registry], None], call: int, is_done: bool
) -> None:
    def crash(_: str, number: int) -> None:
        if number == call:
            raise Crash

    with watched_calls(nothing if is_done else crash, crash if is_done else nothing), pytest.raises(Crash):
        operation(stocked)

    check_invariants(orphans=1)
    is_committed = (is_done and call == OPERATIONS[operation] - 1) or (operation is delete and call + is_done >= 2)
    # What is asked for may be done already; then the answer says so.
    refusal = {register_first: Conflict, register_next: Conflict, register_again: Conflict, delete: NotFound}
    with pytest.raises(refusal[operation]) if is_committed and operation in refusal else nullcontext():
        operation(stocked)
    versions = check_invariants(orphans=1)
    expected = {register_first: 2, register_next: 2, register_again: 2, delete: 0}.get(operation, 1)
    assert len(versions) == expected
