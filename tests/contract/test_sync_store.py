"""What SyncStore and Imports promise, in memory and on DynamoDB."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from moto.backends import get_backend
from moto.core import DEFAULT_ACCOUNT_ID

from chalicelib.geti.ports import LeaseLost, SyncRunning
from chalicelib.geti.records import OriginState
from chalicelib.geti.states import (
    Counts,
    ImportedModel,
    ItemState,
    Lease,
    Looked,
    Memory,
    Outcome,
    ProjectState,
    Run,
    RunStatus,
    Told,
)
from chalicelib.registry.errors import NotFound
from chalicelib.store.geti import DynamoSync
from chalicelib.store.imports import DynamoImports
from chalicelib.store.schema import EventItem, RegistryItem, bind
from chalicelib.wiring import new_ulid
from tests.conftest import Clock
from tests.geti_memory import ImportsInMemory, SyncInMemory
from tests.sync_stage import HOUR, MINUTE, Place


@pytest.fixture(scope="module")
def connections() -> dict[tuple[str, str, str], Any]:
    return {}


def bound(place: tuple[str, str, str], connections: dict[tuple[str, str, str], Any]) -> None:
    """Connect to these tables, once for all tests: it takes longer than most of them."""
    bind(*place[:2])
    if place in connections:
        RegistryItem._connection, EventItem._connection = connections[place]
    connections[place] = RegistryItem._connection, EventItem._connection


@pytest.fixture
def here(
    request: pytest.FixtureRequest,
    place: tuple[str, str, str] | None,
    connections: dict[tuple[str, str, str], Any],
    unique: str,
) -> Place:
    clock, server_id = Clock(), f"{unique}.geti.test:443"
    if place is None:
        imports = ImportsInMemory()
        return Place(SyncInMemory(clock, imports, server_id), imports, clock, server_id)
    bound(place, connections)
    if request.node.callspec.params["place"] == "moto":
        # It copies its tables in each transaction: what other tests left costs time.
        for table in get_backend("dynamodb")[DEFAULT_ACCOUNT_ID]["us-east-1"].tables.values():
            table.items.clear()
    return Place(DynamoSync(server_id, new_ulid, clock=clock), DynamoImports(), clock, server_id)


# --- How runs begin and end


def test_before_the_first_run_there_is_no_status(here: Place) -> None:
    assert here.store.status(here.clock.now) is None
    assert here.store.finish(here.clock.now) is None


def test_a_run_that_was_begun_is_the_one_to_be_worked_on(here: Place) -> None:
    run = here.run(is_full=True, is_asked_for=True)

    assert here.store.begin(run, here.clock.now) == run
    assert here.report() == RunStatus(run=run, is_leased=False)


def test_a_run_that_nobody_works_on_is_gone_on_with_by_whoever_begins_the_next(here: Place) -> None:
    lease, run = here.begun("run1")
    run = run.model_copy(update={"position": "p7", "requests": 12})
    here.store.save(lease, run, Memory(jobs_seen=("j1",)))

    at = here.passes(21 * MINUTE)

    assert here.store.begin(here.run("run2"), at) == run
    assert here.store.lease("run1", at, at + MINUTE)[1:] == (run, Memory(jobs_seen=("j1",)))


def test_no_run_is_begun_while_somebody_works_on_one(here: Place) -> None:
    here.begun("run1")

    with pytest.raises(SyncRunning):
        here.store.begin(here.run("run2"), here.clock.now)


def test_a_run_that_is_begun_again_is_the_same(here: Place) -> None:
    _, run = here.begun("run1")

    assert here.store.begin(here.run("run1"), here.clock.now) == run


def test_a_lease_ends_at_its_time_and_not_before(here: Place) -> None:
    at = here.clock.now
    here.store.begin(here.run(), at)
    first, _, _ = here.store.lease("run1", at, at + MINUTE)

    with pytest.raises(SyncRunning):
        here.store.lease("run1", at + MINUTE, at + HOUR)
    second, _, _ = here.store.lease("run1", at + MINUTE + timedelta(microseconds=1), at + HOUR)

    assert second.fence > first.fence


@pytest.mark.parametrize("run_id", ["run2", ""])
def test_only_the_current_run_can_be_leased(here: Place, run_id: str) -> None:
    at = here.clock.now
    with pytest.raises(SyncRunning):
        here.store.lease("run1", at, at + MINUTE)
    here.store.begin(here.run("run1"), at)

    with pytest.raises(SyncRunning):
        here.store.lease(run_id, at, at + MINUTE)


def test_a_run_that_has_ended_cannot_be_leased(here: Place) -> None:
    here.looked()
    here.store.finish(here.clock.now)

    with pytest.raises(SyncRunning):
        here.store.lease("run1", here.clock.now, here.clock.now + MINUTE)


def test_a_run_without_imports_ends_when_it_has_looked(here: Place) -> None:
    lease, run = here.begun()
    assert here.store.finish(here.clock.now) is None
    run = run.model_copy(update={"has_looked": True, "counts": Counts(seen=7, skipped=2)})
    here.store.release(lease, run, Memory(full_at=here.clock.now))

    at = here.passes(MINUTE)
    done = here.finished()

    assert done == run.model_copy(update={"finished_at": at, "outcome": Outcome.OK})
    assert here.store.finish(at) is None
    assert here.report() == RunStatus(run=done, is_leased=False)


def test_the_next_run_gets_what_the_last_one_remembered(here: Place) -> None:
    memory = Memory(full_at=here.clock.now, jobs_until=here.clock.now, jobs_seen=("j1", "j2"), refused_token="abc")
    lease, run = here.begun("run1")
    here.store.release(lease, run.model_copy(update={"has_looked": True}), memory)
    here.store.finish(here.clock.now)

    at = here.passes(MINUTE)
    assert here.store.begin(here.run("run2"), at).id == "run2"

    assert here.store.lease("run2", at, at + MINUTE)[2] == memory


def test_a_run_that_has_looked_is_finished_by_the_next_one_if_nobody_did(here: Place) -> None:
    here.looked("m1")
    here.settled("m1")

    assert here.store.begin(here.run("run2"), here.clock.now).id == "run2"

    assert here.counts() == (0, 0, 0)


@pytest.mark.parametrize(
    ("said", "failed", "outcome"),
    [
        (None, 0, Outcome.OK),
        (None, 1, Outcome.PARTIAL),
        (Outcome.PARTIAL, 0, Outcome.PARTIAL),
        (Outcome.FAILED, 0, Outcome.FAILED),
        (Outcome.FAILED, 1, Outcome.FAILED),
    ],
)
def test_an_outcome_is_what_the_run_says_or_what_became_of_it(
    here: Place, said: Outcome | None, failed: int, outcome: Outcome
) -> None:
    lease, run = here.begun()
    run = run.model_copy(update={"has_looked": True, "outcome": said, "counts": Counts(failed=failed)})
    here.store.release(lease, run, Memory())

    assert here.finished().outcome == outcome


def test_the_clock_of_another_function_takes_no_run_back_in_time(here: Place) -> None:
    here.looked()
    here.clock.now -= HOUR

    done = here.finished()
    begun = here.store.begin(here.run("run2"), here.clock.now)

    assert done.finished_at == done.started_at
    assert begun.started_at == done.finished_at


# --- What a run waits for


def test_a_run_ends_when_its_imports_have(here: Place) -> None:
    lease, run = here.begun()
    here.store.queue(lease, here.item("m1"))
    here.store.queue(lease, here.item("m2"))
    here.store.queue(lease, here.item("m3"))
    told = (Told(id="p9", why="Geti is full"),)
    run = run.model_copy(update={"has_looked": True, "counts": Counts(seen=3, new=3, failed=1), "failed": told})
    here.store.release(lease, run, Memory())
    assert here.counts() == (3, 0, 0)

    here.settled("m1", "registered")
    here.settled("m2", "exists")
    assert here.store.finish(here.clock.now) is None
    with pytest.raises(SyncRunning):
        here.store.begin(here.run("run2"), here.clock.now)
    here.settled("m3", "failed")
    assert here.counts() == (0, 2, 1)
    assert here.report().failures == (Told(id="m3", why="Geti is full"),)
    done = here.finished()

    assert done.counts == Counts(seen=3, new=3, imported=2, failed=2)
    assert done.outcome == Outcome.PARTIAL
    assert done.failed == (*told, Told(id="m3", why="Geti is full"))
    assert here.counts() == (0, 0, 0), "they are among the counts now"


def test_an_item_that_the_run_waits_for_is_waited_for_once(here: Place) -> None:
    lease, _ = here.begun()
    here.store.queue(lease, here.item("m1"))

    later = here.item("m1", due_at=here.clock.now + 9 * HOUR)
    here.store.queue(lease, later)

    assert here.counts() == (1, 0, 0)
    assert here.known("m1").due_at == later.due_at
    here.settled("m1")
    assert here.counts() == (0, 1, 0)


def test_an_item_is_queued_again_by_a_later_run_which_then_waits_for_it(here: Place) -> None:
    here.looked("m1", name="run1")
    here.settled("m1", "failed")
    here.store.finish(here.clock.now)
    lease, _ = here.begun("run2")
    item = here.known("m1")
    assert (item.state, item.run_id, item.attempts) == (ItemState.FAILED, None, 1)

    here.store.queue(lease, item)

    again = here.known("m1")
    assert (again.state, again.run_id, again.attempts) == (ItemState.QUEUED, "run2", 1)
    here.settled("m1")
    assert here.counts() == (0, 1, 0)


def test_a_run_that_nothing_was_heard_of_for_long_gives_way(here: Place) -> None:
    here.looked("m1", "m2", "m3", name="run1")
    here.settled("m1")
    heard = here.clock.now
    with pytest.raises(SyncRunning):
        here.store.begin(here.run("run2"), heard + 39 * MINUTE)

    assert here.store.begin(here.run("run2"), here.passes(41 * MINUTE)).id == "run2"

    here.settled("m2")
    here.settled("m3", "failed")
    assert here.counts() == (0, 0, 0), "the new run does not count what it does not wait for"


@pytest.mark.parametrize("sign_of_life", ["its look ends", "claim", "settle"])
def test_a_run_is_heard_of_as_long_as_something_happens_to_it(here: Place, sign_of_life: str) -> None:
    lease, run = here.begun("run1")
    here.store.queue(lease, here.item("m1"))
    here.store.queue(lease, here.item("m2"))
    item = here.claimed("m1")
    looked = run.model_copy(update={"has_looked": True})
    if sign_of_life != "its look ends":
        here.store.release(lease, looked, Memory())

    here.passes(39 * MINUTE)
    if sign_of_life == "its look ends":
        here.store.release(lease, looked, Memory())
    elif sign_of_life == "claim":
        here.claimed("m2", "worker2")
    else:
        here.store.settle(item, "worker1", here.order("m1"), ImportedModel(id="m1", outcome="registered"))

    with pytest.raises(SyncRunning):
        here.store.begin(here.run("run2"), here.passes(39 * MINUTE))


# --- Who acts for a run


ACTS: dict[str, Callable[[Place, Lease, Run], object]] = {
    "save": lambda here, lease, run: here.store.save(lease, run, Memory(jobs_seen=("x",))),
    "release": lambda here, lease, run: here.store.release(lease, run, Memory(jobs_seen=("x",))),
    "save_project": lambda here, lease, _: here.store.save_project(lease, ProjectState(id="p1", name="late")),
    "queue": lambda here, lease, _: here.store.queue(lease, here.item("m9")),
    "queue again": lambda here, lease, _: here.store.queue(lease, here.item("m1", due_at=None)),
    "mark": lambda here, lease, _: here.store.mark(lease, here.item("m1", misses=2)),
}


def taken_over(here: Place) -> None:
    at = here.passes(21 * MINUTE)
    here.store.lease("run1", at, at + MINUTE)


def replaced(here: Place) -> None:
    at = here.passes(21 * MINUTE)
    lease, run, memory = here.store.lease("run1", at, at + MINUTE)
    here.store.release(lease, run.model_copy(update={"has_looked": True}), memory)
    here.store.begin(here.run("run2"), here.passes(41 * MINUTE))


def let_go_of(here: Place) -> None:
    at = here.passes(21 * MINUTE)
    lease, run, memory = here.store.lease("run1", at, at + MINUTE)
    here.store.release(lease, run, memory)


@pytest.mark.parametrize("lose", [taken_over, let_go_of, replaced], ids=lambda lose: lose.__name__)
@pytest.mark.parametrize("act", ACTS)
def test_whoever_lost_the_lease_writes_nothing_more(here: Place, act: str, lose: Callable[[Place], None]) -> None:
    lease, run = here.begun()
    here.store.queue(lease, here.item("m1"))
    lose(here)
    before = here.store.status(here.clock.now), here.store.projects(), here.store.items("p1")

    with pytest.raises(LeaseLost):
        ACTS[act](here, lease, run.model_copy(update={"position": "late"}))

    assert (here.store.status(here.clock.now), here.store.projects(), here.store.items("p1")) == before


@pytest.mark.parametrize("act", ACTS)
def test_whoever_let_go_of_the_run_does_not_act_for_it_any_more(here: Place, act: str) -> None:
    lease, run = here.begun()
    here.store.release(lease, run, Memory())

    with pytest.raises(LeaseLost):
        ACTS[act](here, lease, run)


# --- Projects and items


def test_projects_are_kept_as_they_were_seen(here: Place) -> None:
    lease, _ = here.begun()
    looked = {f"base{number}": Looked(digest=f"{number:016x}", models=number) for number in range(300)}
    first = ProjectState(id="p1", name="Füße", looked=looked, missing=("b1",))
    here.store.save_project(lease, first)
    here.store.save_project(lease, ProjectState(id="p-2", name="other"))
    assert here.store.projects() == {"p1": first, "p-2": ProjectState(id="p-2", name="other")}

    here.store.save_project(lease, ProjectState(id="p-2", name="renamed"))

    assert here.store.projects()["p-2"].name == "renamed"


def test_the_items_of_a_project_are_not_those_of_another(here: Place) -> None:
    lease, _ = here.begun()
    for project, model in (("p1", "m1"), ("p1", "m2"), ("p10", "m3"), ("p", "m4")):
        here.store.queue(lease, here.item(model, project_id=project))

    assert [item.model_id for item in here.store.items("p1")] == ["m1", "m2"]
    assert here.store.items("p2") == []
    assert here.store.item("p1", "m3") is None
    known = here.known("m3", "p10")
    assert known == here.item("m3", project_id="p10", run_id="run1", due_at=known.due_at)


def test_a_mark_changes_nothing_else(here: Place) -> None:
    here.looked("m1")
    here.settled("m1")
    here.store.finish(here.clock.now)
    lease, _ = here.begun("run2")
    item = here.known("m1")

    seen = item.model_copy(update={"origin_state": OriginState.DELETED, "misses": 2})
    here.store.mark(lease, seen.model_copy(update={"state": ItemState.PARKED, "attempts": 4}))

    assert here.store.item("p1", "m1") == seen


def test_a_mark_outlasts_what_an_import_makes_of_the_item_meanwhile(here: Place) -> None:
    lease, _ = here.begun()
    here.store.queue(lease, here.item("m1"))
    claimed = here.claimed("m1")
    here.store.mark(lease, here.item("m1", misses=1))

    here.store.settle(claimed, "worker1", here.order("m1"), ImportedModel(id="m1", outcome="exists"))

    assert here.known("m1").misses == 1


def test_nothing_is_marked_of_what_is_not_known(here: Place) -> None:
    lease, _ = here.begun()

    here.store.mark(lease, here.item("m1", misses=1))

    assert here.store.items("p1") == []


# --- What is due


def test_what_is_due_longest_comes_first(here: Place) -> None:
    lease, _ = here.begun()
    at = here.clock.now
    for model, hours in (("m1", 3), ("m2", 1), ("m3", 2), ("m4", 9)):
        here.store.queue(lease, here.item(model, due_at=at + hours * HOUR))

    assert [item.model_id for item in here.store.due(at + 3 * HOUR, 100)] == ["m2", "m3", "m1"]
    assert [item.model_id for item in here.store.due(at + 3 * HOUR, 2)] == ["m2", "m3"]
    assert here.store.due(at, 100) == []
    assert [item.model_id for item in here.store.due(at + 9 * HOUR, 4)] == ["m2", "m3", "m1", "m4"], "and again"


def test_what_has_ended_or_is_due_later_is_not_due(here: Place) -> None:
    lease, _ = here.begun()
    at = here.clock.now
    for number in range(8):
        here.store.queue(lease, here.item(f"m{number}", due_at=at + MINUTE))
    for number in range(5):
        here.settled(f"m{number}")
    here.store.queue(lease, here.item("m5", due_at=at + 9 * HOUR))

    assert [item.model_id for item in here.store.due(at + HOUR, 2)] == ["m6", "m7"]
    assert [item.model_id for item in here.store.due(at + HOUR, 100)] == ["m6", "m7"]
    assert [item.model_id for item in here.store.due(at + 9 * HOUR, 100)] == ["m6", "m7", "m5"]


def test_what_failed_is_due_when_it_says(here: Place) -> None:
    here.looked("m1")

    here.settled("m1", "failed")

    (item,) = here.store.due(here.clock.now + HOUR, 100)
    assert (item.model_id, item.state, item.attempts, item.why) == ("m1", ItemState.FAILED, 1, "Geti is full")


# --- Imports


def test_an_order_makes_an_item_that_was_not_known(here: Place) -> None:
    item = here.claimed("m1")

    assert item == here.store.item("p1", "m1")
    expected = here.item("m1", due_at=item.due_at)
    assert item == expected
    assert item.due_at
    assert item.due_at > here.clock.now
    assert here.store.due(item.due_at, 1) == [item], "in case that nothing comes of it"


def test_an_order_gets_the_item_as_it_is(here: Place) -> None:
    here.looked("m1")

    assert here.claimed("m1") == here.item("m1", run_id="run1", due_at=here.store.items("p1")[0].due_at)


def test_one_holder_at_a_time_has_an_item(here: Place) -> None:
    at, order = here.clock.now, here.order("m1")
    assert here.store.claim(order, "b", "worker1", at, at + MINUTE)

    assert here.store.claim(order, "b", "worker2", at + MINUTE, at + HOUR) is None
    assert here.store.claim(order, "b", "worker1", at, at + 2 * MINUTE), "it is the holder's"
    assert here.store.claim(order, "b", "worker2", at + 2 * MINUTE, at + HOUR) is None
    assert here.store.claim(order, "b", "worker2", at + 3 * MINUTE, at + HOUR), "the time is over"


def test_who_lets_go_of_an_item_leaves_it_to_others(here: Place) -> None:
    here.looked("m1")
    item = here.claimed("m1", "worker1")

    here.store.let_go(item, "worker2")
    assert here.store.claim(here.order("m1"), "b", "worker2", here.clock.now, here.clock.now + HOUR) is None
    here.store.let_go(item, "worker1")

    assert here.claimed("m1", "worker2") == item
    assert here.counts() == (1, 0, 0), "it is still waited for"


def test_who_does_not_hold_an_item_any_more_settles_nothing(here: Place) -> None:
    here.asked("i1", "m1")
    here.looked("m1")
    late = here.claimed("m1", "worker1")
    here.passes(16 * MINUTE)
    item = here.claimed("m1", "worker2")

    here.store.settle(
        late.model_copy(update={"state": ItemState.PARKED}),
        "worker1",
        here.order("m1", import_id="i1"),
        ImportedModel(id="m1", outcome="failed", why="late"),
    )

    assert here.store.item("p1", "m1") == item
    assert here.counts() == (1, 0, 0)
    assert here.imports.get("i1").models == (ImportedModel(id="m1"),)
    assert here.store.claim(here.order("m1"), "b", "worker3", here.clock.now, here.clock.now + HOUR) is None


def test_nothing_is_settled_twice(here: Place) -> None:
    here.looked("m1", "m2")
    item = here.claimed("m1")
    done = ImportedModel(id="m1", outcome="registered")

    here.store.settle(item, "worker1", here.order("m1"), done)
    here.store.settle(item, "worker1", here.order("m1"), done)

    assert here.counts() == (1, 1, 0)


def test_what_no_run_waits_for_is_counted_by_none(here: Place) -> None:
    here.looked("m1")

    here.settled("m2")
    here.settled("m3", "failed")

    assert here.counts() == (1, 0, 0)


def test_the_run_that_waits_now_counts_not_the_one_that_waited_at_the_claim(here: Place) -> None:
    here.claimed("m1")
    item = here.known("m1")
    assert item.run_id is None
    lease, _ = here.begun("run1")
    here.store.queue(lease, here.item("m1"))

    here.store.settle(item, "worker1", here.order("m1"), ImportedModel(id="m1", outcome="registered"))

    assert here.counts() == (0, 1, 0)


def test_slots_are_held_by_one_each(here: Place) -> None:
    at = here.clock.now
    first = here.store.take_slot(2, "worker1", at, at + MINUTE)
    second = here.store.take_slot(2, "worker2", at, at + 2 * MINUTE)
    assert {first, second} == {0, 1}

    assert here.store.take_slot(2, "worker3", at + MINUTE, at + HOUR) is None
    assert here.store.take_slot(2, "worker2", at, at + 2 * MINUTE) == second, "who has one keeps it"
    assert here.store.take_slot(2, "worker3", at + MINUTE + timedelta(microseconds=1), at + HOUR) == first


def test_a_slot_is_given_back_by_who_holds_it(here: Place) -> None:
    at = here.clock.now
    slot = here.store.take_slot(1, "worker1", at, at + HOUR)
    assert slot == 0

    here.store.free_slot(slot, "worker2")
    assert here.store.take_slot(1, "worker2", at, at + HOUR) is None
    here.store.free_slot(slot, "worker1")

    assert here.store.take_slot(1, "worker2", at, at + HOUR) == 0


def test_a_slot_above_the_number_of_slots_is_not_given(here: Place) -> None:
    at = here.clock.now
    for number in range(3):
        here.store.take_slot(3, f"worker{number}", at, at + MINUTE)

    assert here.store.take_slot(1, "worker2", at, at + HOUR) is None
    assert here.store.take_slot(1, "worker4", at + HOUR, at + 2 * HOUR) == 0


def test_a_name_is_that_of_the_group_that_asked_first(here: Place) -> None:
    assert here.store.owner_of_name("p1", "Detection", "g1") == "g1"

    assert here.store.owner_of_name("p1", "Detection", "g2") == "g1"
    assert here.store.owner_of_name("p1", "Detection", "g1") == "g1"
    assert here.store.owner_of_name("p1", "detection", "g2") == "g2"
    assert here.store.owner_of_name("p2", "Detection", "g3") == "g3"


# --- Requests


def test_a_request_is_there_as_it_was_asked(here: Place, unique: str) -> None:
    with pytest.raises(NotFound):
        here.imports.get(unique)

    request = here.asked(unique, "m3", "m1", "m2")

    assert here.imports.get(unique) == request


def test_a_request_may_ask_for_many_models(here: Place, unique: str) -> None:
    request = here.asked(unique, *(f"m{number}" for number in range(130)))

    assert here.imports.get(unique) == request


def test_the_first_outcome_of_a_model_stays(here: Place, unique: str) -> None:
    here.asked(unique, "m1", "m2", "m3")
    here.imports.settle(unique, ImportedModel(id="m2", outcome="failed", why="it could not be queued"))
    here.looked("m1", "m2")

    here.settled("m1", "exists", import_id=unique)
    here.settled("m2", "registered", import_id=unique)
    here.imports.settle(unique, ImportedModel(id="m1", outcome="failed", why="late"))

    assert here.imports.get(unique).models == (
        ImportedModel(id="m1", outcome="exists"),
        ImportedModel(id="m2", outcome="failed", why="it could not be queued"),
        ImportedModel(id="m3"),
    )
    assert here.counts() == (0, 2, 0), "the run counts them all the same"


def test_what_nobody_asked_for_is_told_to_nobody(here: Place, unique: str) -> None:
    here.asked(unique, "m1")
    here.looked("m1", "m2")

    here.settled("m1", import_id=f"{unique}-forgotten")
    here.settled("m2", import_id=unique)
    here.imports.settle(f"{unique}-forgotten", ImportedModel(id="m1", outcome="exists"))

    assert here.imports.get(unique).models == (ImportedModel(id="m1"),)
    assert here.counts() == (0, 2, 0)
