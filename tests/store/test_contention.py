"""Throttling, conflicts and lost answers, injected into botocore; crowds of writers, in threads."""

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from chalicelib.registry.audit import Action
from chalicelib.registry.errors import Conflict, RegistryError, Unavailable
from chalicelib.registry.models import Changes, Filters
from chalicelib.registry.service import Registry
from chalicelib.store.catalog import DynamoCatalog
from chalicelib.store.transactions import Retry
from tests.conftest import ALICE, Announced, draft, parcel
from tests.invariants import check_invariants
from tests.store.faults import conflicting, nothing, one_call_at_a_time, throttled, timed_out, watched_calls


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
    assert isinstance(registry.catalog, DynamoCatalog)
    registry.catalog._retry = Retry(monotonic=fake, sleep=fake.sleep, jitter=lambda _, most: most)
    return fake


def failing(operation: str, error: Callable[[str], Exception], times: int = 10**9) -> Callable[[str, int], None]:
    """A hook that raises at the first `times` calls of this operation."""
    left = [times]

    def fail(called: str, _: int) -> None:
        if called == operation and left[0] > 0:
            left[0] -= 1
            raise error(called)

    return fail


@pytest.mark.parametrize(
    ("operation", "error"),
    [
        ("BatchGetItem", throttled),
        ("BatchGetItem", timed_out),
        ("TransactWriteItems", throttled),
        ("TransactWriteItems", timed_out),
        ("TransactWriteItems", conflicting),
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


@pytest.mark.parametrize("error", [throttled, conflicting, timed_out])
def test_lasting_trouble_is_given_up_after_ten_seconds_with_nothing_left_behind(
    registry: Registry, fake_time: FakeTime, announced: Announced, error: Callable[[str], Exception]
) -> None:
    with watched_calls(failing("TransactWriteItems", error), nothing), pytest.raises(Unavailable) as caught:
        registry.register(draft(), parcel(), ALICE)

    assert caught.value.retry_after_seconds > 0
    assert 9 < fake_time.seconds <= 10
    assert check_invariants() == []
    assert announced.lines == []


@pytest.mark.parametrize("change", ["register", "update", "delete"])
def test_a_change_whose_answer_was_lost_is_done_once(registry: Registry, fake_time: FakeTime, change: str) -> None:
    registry.register(draft("cat"), parcel(), ALICE)
    steps: dict[str, Callable[[], Any]] = {
        "register": lambda: registry.register(draft("cat", "v2"), parcel(), ALICE),
        "update": lambda: registry.update("model-cat-v10000", Changes(score=0.5), ALICE),
        "delete": lambda: registry.delete("model-cat-v10000", ALICE),
    }

    with watched_calls(nothing, failing("TransactWriteItems", timed_out, times=1)):
        steps[change]()

    versions = check_invariants()
    assert len(versions) == {"register": 2, "update": 1, "delete": 0}[change]
    subject = f"MODEL#model-cat-v{2 if change == 'register' else 1}0000"
    events, _ = registry.catalog.events(subject)
    assert len(events) == (1 if change == "register" else 2)


def test_bytes_are_kept_when_nobody_knows_whether_their_record_was_stored(
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

    with watched_calls(darkness, fall_dark), pytest.raises(Unavailable):
        registry.register(draft(), parcel(), ALICE)

    assert len(check_invariants()) == 1


def test_a_failing_bucket_registers_nothing(registry: Registry) -> None:
    with watched_calls(failing("PutObject", throttled), nothing), pytest.raises(Unavailable):
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
