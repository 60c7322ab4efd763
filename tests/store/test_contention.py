"""Throttling, conflicts and lost answers, injected into botocore; crowds of writers, in threads."""

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from botocore.exceptions import ClientError

from chalicelib.registry.audit import Action
from chalicelib.registry.errors import Conflict, NotFound, OutcomeUnknown, RegistryError, Unavailable
from chalicelib.registry.models import Changes, Filters
from chalicelib.registry.service import Registry
from chalicelib.store.catalog import DynamoCatalog
from chalicelib.store.transactions import Retry
from tests.conftest import ALICE, BOB, Announced, draft, parcel
from tests.invariants import check_invariants
from tests.store.faults import (
    conflicting,
    connection_lost,
    internal_error,
    not_connected,
    not_connected_in_time,
    nothing,
    one_call_at_a_time,
    slow_down,
    throttled,
    timed_out,
    watched_calls,
)


class FakeTime:
    """A clock that sleeping moves."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.naps = 0

    def __call__(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        self.naps += 1


@pytest.fixture
def fake_time(registry: Registry) -> FakeTime:
    """The registry's retries wait in a time of their own, always as long as they may."""
    fake = FakeTime()
    retry = Retry(monotonic=fake, sleep=fake.sleep, jitter=lambda _, most: most)
    registry.catalog = DynamoCatalog("RegistryTable", "EventsTable", registry._new_ulid, retry)
    return fake


def failing(operation: str, error: Callable[[str], Exception], times: int = 10**9) -> Callable[[str, int], None]:
    """A hook that raises at the first `times` calls of this operation."""
    left = [times]

    def fail(called: str, _: int) -> None:
        if called == operation and left[0] > 0:
            left[0] -= 1
            raise error(called)

    return fail


# What says that nothing was done, and what leaves it open.
REFUSED = [throttled, conflicting, not_connected, not_connected_in_time]
UNANSWERED = [timed_out, connection_lost, internal_error]


@pytest.mark.parametrize(
    ("operation", "error"),
    [
        *(("BatchGetItem", error) for error in [throttled, *UNANSWERED, not_connected]),
        *(("TransactWriteItems", error) for error in [*REFUSED, *UNANSWERED]),
    ],
)
def test_a_passing_trouble_is_waited_out(
    registry: Registry, fake_time: FakeTime, operation: str, error: Callable[[str], Exception]
) -> None:
    with watched_calls(failing(operation, error, times=3), nothing):
        version = registry.register(draft(), parcel(), ALICE)

    assert fake_time.naps == 3
    assert registry.catalog.version(version.id) == version
    check_invariants()


@pytest.mark.parametrize("error", REFUSED)
def test_lasting_trouble_is_given_up_after_ten_seconds_with_nothing_left_behind(
    registry: Registry, fake_time: FakeTime, announced: Announced, error: Callable[[str], Exception]
) -> None:
    with watched_calls(failing("TransactWriteItems", error), nothing), pytest.raises(Unavailable) as caught:
        registry.register(draft(), parcel(), ALICE)

    assert not isinstance(caught.value, OutcomeUnknown)
    assert caught.value.retry_after_seconds > 0
    assert 9 < fake_time.seconds <= 10
    assert check_invariants() == []
    assert announced.lines == []


@pytest.mark.parametrize("error", UNANSWERED)
def test_bytes_stay_while_their_record_may_still_come(
    registry: Registry, fake_time: FakeTime, error: Callable[[str], Exception]
) -> None:
    with watched_calls(failing("TransactWriteItems", error), nothing), pytest.raises(OutcomeUnknown):
        registry.register(draft(), parcel(), ALICE)

    assert check_invariants(orphans=1) == []


def test_bytes_stay_when_nobody_can_tell_whether_their_record_was_stored(
    registry: Registry, fake_time: FakeTime
) -> None:
    """The record was stored, but neither that answer nor any read came through: removing the bytes would lose them."""
    is_dark = threading.Event()

    def darkness(called: str, _: int) -> None:
        if is_dark.is_set() and called != "DeleteObject":
            raise timed_out(called)

    def fall_dark(called: str, number: int) -> None:
        if called == "TransactWriteItems":
            is_dark.set()
        darkness(called, number)

    with watched_calls(darkness, fall_dark), pytest.raises(OutcomeUnknown):
        registry.register(draft(), parcel(), ALICE)

    assert len(check_invariants()) == 1


MINE = "model-cat-v10000"
OPERATIONS: dict[str, Callable[[Registry], Any]] = {
    "register": lambda registry: registry.register(draft("cat"), parcel(), ALICE),
    "update": lambda registry: registry.update(MINE, Changes(score=0.5), ALICE),
    "update if unchanged": lambda registry: registry.update(MINE, Changes(score=0.5), ALICE, if_revision=1),
    "move": lambda registry: registry.update(MINE, Changes(name="dog"), ALICE),
    "delete": lambda registry: registry.delete(MINE, ALICE),
}
INTERFERENCES: dict[str, list[Callable[[Registry], Any]]] = {
    "nobody": [],
    "update": [lambda registry: registry.update(MINE, Changes(score=0.9), BOB)],
    "delete": [lambda registry: registry.delete(MINE, BOB)],
    "register": [lambda registry: registry.register(draft("cat"), parcel(), BOB)],
    "delete and register": [
        lambda registry: registry.delete(MINE, BOB),
        lambda registry: registry.register(draft("owl", id=MINE), parcel(), BOB),
    ],
}


@pytest.mark.parametrize("is_done", [True, False], ids=["done", "not done"])
@pytest.mark.parametrize("interference", INTERFERENCES)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_lost_answer_and_others_acting_meanwhile_lose_nothing(
    registry: Registry, fake_time: FakeTime, operation: str, interference: str, is_done: bool
) -> None:
    """The transaction is done or not, its answer is lost, others act, and only then the operation goes on."""
    if operation != "register":
        registry.register(draft("cat"), parcel(), ALICE)
    is_lost = threading.Event()

    def lose(called: str, _: int) -> None:
        if called == "TransactWriteItems" and not is_lost.is_set():
            is_lost.set()
            for act in INTERFERENCES[interference]:
                with suppress(Conflict, NotFound):
                    act(registry)
            raise timed_out(called)

    outcome: Any = None
    with watched_calls(nothing if is_done else lose, lose if is_done else nothing):
        try:
            outcome = OPERATIONS[operation](registry)
        except RegistryError as exc:
            outcome = exc

    versions = {version.id: version for version in check_invariants(orphans=1)}
    if is_done:
        assert not isinstance(outcome, RegistryError)
    events = [event for event in registry.catalog.events(f"MODEL#{MINE}")[0] if event.actor == ALICE]
    mine = len(events) - (operation != "register")
    assert mine == (0 if isinstance(outcome, RegistryError) else 1), "what was answered is not what was done"
    if interference == "delete and register" and is_done:
        assert versions[MINE].name == "owl" or operation == "delete"


@pytest.mark.parametrize("error", [slow_down, internal_error, timed_out, not_connected])
def test_a_failing_bucket_registers_nothing(registry: Registry, error: Callable[[str], Exception]) -> None:
    with watched_calls(failing("PutObject", error), nothing), pytest.raises(Unavailable):
        registry.register(draft(), parcel(), ALICE)

    assert check_invariants() == []


def test_what_the_bucket_refuses_for_good_is_not_called_busy(registry: Registry) -> None:
    def denied(operation: str) -> ClientError:
        refusal = {"Error": {"Code": "AccessDenied"}, "ResponseMetadata": {"HTTPStatusCode": 403}}
        return ClientError(refusal, operation)

    with watched_calls(failing("PutObject", denied), nothing), pytest.raises(ClientError):
        registry.register(draft(), parcel(), ALICE)

    assert check_invariants() == []


def test_a_model_is_deleted_even_if_its_object_cannot_be(registry: Registry) -> None:
    registry.register(draft(), parcel(), ALICE)

    with watched_calls(failing("DeleteObject", throttled), nothing):
        registry.delete(draft().id, ALICE)

    assert check_invariants(orphans=1) == []


def crowd(size: int, step: Callable[[int], Any]) -> list[Any]:
    """What `size` threads got that did this at once: results and refusals."""
    start = threading.Barrier(size)

    def one(number: int) -> Any:
        start.wait()
        try:
            return step(number)
        except RegistryError as exc:
            return exc

    with one_call_at_a_time(), ThreadPoolExecutor(size) as threads:
        return list(threads.map(one, range(size)))


def test_of_32_registrations_of_one_model_one_wins(registry: Registry) -> None:
    outcomes = crowd(
        32, lambda number: registry.register(draft("cat", id=f"model-of-client-{number:02}"), parcel(), ALICE)
    )

    refused = [outcome for outcome in outcomes if isinstance(outcome, Conflict)]
    (winner,) = (outcome for outcome in outcomes if not isinstance(outcome, RegistryError))
    assert len(refused) == 31
    assert {refusal.holder for refusal in refused} == {winner.id}
    assert [version.id for version in check_invariants()] == [winner.id]


def test_16_versions_registered_at_once_get_16_numbers(registry: Registry) -> None:
    outcomes = crowd(16, lambda number: registry.register(draft("cat", f"v{number:02}"), parcel(), ALICE))

    assert len({version.number for version in outcomes}) == 16
    assert len({version.rm_id for version in outcomes}) == 1
    check_invariants()


def test_updates_at_once_are_all_kept(registry: Registry) -> None:
    version = registry.register(draft(), parcel(), ALICE)
    fields = ["category", "architecture", "origin", "format", "target_device", "description", "created_date", "score"]

    crowd(
        8,
        lambda number: registry.update(
            version.id, Changes.model_validate({fields[number]: 1 if number == 7 else "changed"}), ALICE
        ),
    )

    (after,) = check_invariants()
    assert after.revision == 9
    assert [getattr(after, field) for field in fields] == ["changed"] * 7 + [1.0]


def test_a_crowd_on_one_model_keeps_the_state_whole(registry: Registry) -> None:
    """Registrations, moves and deletions of few ids and names, in any order."""
    dice = random.Random(7)
    plans = [(dice.choice("rmd"), dice.choice("ab"), dice.choice("xy")) for _ in range(24)]

    def step(number: int) -> None:
        what, id_, name = plans[number]
        model_id = f"model-in-a-crowd-{id_}"
        if what == "r":
            registry.register(draft(name, f"v-{id_}", id=model_id), parcel(), ALICE)
        elif what == "m":
            registry.update(model_id, Changes(name=name), ALICE)
        else:
            registry.delete(model_id, ALICE)

    crowd(len(plans), step)

    listed = registry.catalog.search(Filters(), 100).versions
    assert {version.id for version in check_invariants()} == {version.id for version in listed}


def test_what_is_announced_is_what_happened(registry: Registry, announced: Announced) -> None:
    version = registry.register(draft(), parcel(), ALICE)
    changed = registry.update(version.id, Changes(score=0.5), ALICE)
    registry.update(version.id, Changes(score=0.5), ALICE)
    registry.delete(version.id, ALICE)

    assert announced.lines == [
        (Action.VERSION_REGISTERED, None, version, ALICE),
        (Action.VERSION_UPDATED, version, changed, ALICE),
        (Action.VERSION_DELETED, changed, None, ALICE),
    ]
