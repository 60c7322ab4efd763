"""What is remembered of a Geti server, on DynamoDB: calls, lost answers, races, and the trail of the sync."""

import copy
import hashlib
import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import boto3
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
    Memory,
    Outcome,
    ProjectState,
    Run,
    Told,
)
from chalicelib.registry.access import Access, Role
from chalicelib.registry.audit import verify_chain
from chalicelib.registry.errors import NotFound, RegistryError, Unavailable
from chalicelib.registry.trail import TrailFilters, subjects_of
from chalicelib.store.catalog import DynamoCatalog
from chalicelib.store.geti import DynamoSync
from chalicelib.store.imports import DynamoImports
from chalicelib.store.transactions import Retry
from tests.conftest import Clock, create_tables
from tests.invariants import check_invariants
from tests.store.faults import (
    conflicting,
    connection_lost,
    internal_error,
    not_connected,
    nothing,
    one_call_at_a_time,
    throttled,
    timed_out,
    watched_calls,
)
from tests.sync_stage import HOUR, MINUTE, Place

SERVER = "geti.example.com:443"
SUBJECT = f"GETI#{SERVER}"


class StillClock(Clock):
    """Time that does not pass by itself, so that what is done twice is the same."""

    def __call__(self) -> Any:
        return self.now


@dataclass
class Bench(Place):
    """A store on moto, in which nobody waits, and the catalog beside it."""

    store: DynamoSync
    catalog: DynamoCatalog
    dynamodb: Any

    @property
    def tables(self) -> list[dict[str, Any]]:
        """Everything that is stored, but for who took a lease: that is another one each time."""
        tables = ("RegistryTable", "EventsTable")
        items = [item for table in tables for item in self.dynamodb.scan(TableName=table)["Items"]]
        return sorted(
            ({name: value for name, value in item.items() if name != "lessee"} for item in items),
            key=lambda item: (item["pk"]["S"], item["sk"]["S"]),
        )

    def rows(self, prefix: str) -> list[str]:
        """Sort keys in the partition of the server."""
        keys = [item["sk"]["S"] for item in self.tables if item["pk"]["S"] == SUBJECT]
        return [key for key in keys if key.startswith(prefix)]


class Workshop:
    """Makes benches. Clients are made once, for that takes long, and tables are laid again by copying."""

    def __init__(self) -> None:
        self._moto = get_backend("dynamodb")[DEFAULT_ACCOUNT_ID]["us-east-1"]
        self._dynamodb = boto3.client("dynamodb")
        self._catalog = DynamoCatalog("RegistryTable", "EventsTable", ulids(), quick())
        self._empty = copy.deepcopy(self._moto.tables)
        self._prepared: dict[str, tuple[Any, Any, Any]] = {}

    def bench(self, retry: Retry | None = None) -> Bench:
        self._moto.tables = copy.deepcopy(self._empty)
        return self._bench(retry or quick(), ulids())

    def prepared(self, name: str) -> tuple[Bench, Any]:
        """A bench as an operation finds it, with what was made for it."""
        if name not in self._prepared:
            there = self.bench()
            made = OPERATIONS[name].prepare(there)
            self._prepared[name] = copy.deepcopy(self._moto.tables), made, there.clock.now
        tables, made, now = self._prepared[name]
        self._moto.tables = copy.deepcopy(tables)
        there = self._bench(quick(), ulids(1_000))
        there.clock.now = now
        return there, made

    def _bench(self, retry: Retry, new_ulid: Callable[[], str]) -> Bench:
        clock = StillClock()
        store = DynamoSync(SERVER, new_ulid, retry, clock)
        return Bench(store, DynamoImports(retry), clock, SERVER, self._catalog, self._dynamodb)


def quick() -> Retry:
    """Nobody waits in tests."""
    return Retry(sleep=lambda _: None, jitter=lambda low, high: 0)


def ulids(first: int = 1) -> Callable[[], str]:
    numbers = itertools.count(first)
    return lambda: f"01{next(numbers):024d}"


@pytest.fixture(scope="module")
def workshop(moto: None) -> Workshop:
    get_backend("dynamodb").reset()
    create_tables()
    return Workshop()


@pytest.fixture
def there(workshop: Workshop, credentials: None) -> Bench:
    return workshop.bench()


# --- What each operation calls, and what becomes of it when answers are lost


@dataclass(frozen=True)
class Operation:
    """What is done in a state that was made before, with so many AWS calls."""

    calls: int
    do: Callable[[Bench, Any], Any]
    prepare: Callable[[Bench], Any] = lambda there: None


def finished(there: Bench, *models: str) -> None:
    there.looked(*models)
    for model in models:
        there.settled(model)
    there.finished()


def ended(there: Bench) -> None:
    """A run all imports of which have ended; one of them failed."""
    there.looked("m1", "m2")
    there.settled("m1")
    there.settled("m2", "failed")


def given_up(there: Bench) -> None:
    there.looked("m1")
    there.passes(41 * MINUTE)


def begun(there: Bench) -> tuple[Lease, Run]:
    there.passes(MINUTE)
    return there.begun()


def queued(there: Bench) -> tuple[Lease, Run]:
    lease, run = begun(there)
    there.store.queue(lease, there.item("m1"))
    return lease, run


def held(there: Bench) -> Any:
    """An item that a run and a request wait for."""
    there.asked("i1", "m1")
    there.looked("m1")
    return there.claimed("m1")


def became(outcome: str) -> ImportedModel:
    return ImportedModel.model_validate({"id": "m1", "outcome": outcome, "why": "so" if outcome == "failed" else None})


def settle(outcome: str, **fields: Any) -> Callable[[Bench, Any], None]:
    def do(there: Bench, item: Any) -> None:
        after = item.model_copy(update=fields)
        there.store.settle(after, "worker1", there.order("m1", import_id="i1"), became(outcome))

    return do


DONE: dict[str, Any] = {"has_looked": True}
NOW = Clock().now
OPERATIONS: dict[str, Operation] = {
    "begin the first": Operation(2, lambda there, _: there.store.begin(there.run("run1"), NOW)),
    "begin the next": Operation(2, lambda there, _: there.store.begin(there.run("run2"), NOW), finished),
    "begin behind one that nobody finished": Operation(
        6, lambda there, _: there.store.begin(there.run("run2"), there.clock.now), ended
    ),
    "begin behind one that was given up": Operation(
        5, lambda there, _: there.store.begin(there.run("run2"), there.clock.now), given_up
    ),
    "go on": Operation(
        1, lambda there, _: there.store.begin(there.run("run2"), NOW), lambda there: there.store.begin(there.run(), NOW)
    ),
    "lease": Operation(
        1,
        lambda there, _: there.store.lease("run1", NOW, NOW + HOUR),
        lambda there: there.store.begin(there.run(), NOW),
    ),
    "save": Operation(1, lambda there, own: there.store.save(own[0], own[1], Memory(jobs_seen=("j",))), begun),
    "release": Operation(
        1, lambda there, own: there.store.release(own[0], own[1].model_copy(update=DONE), Memory()), begun
    ),
    "finish": Operation(3, lambda there, _: there.store.finish(there.clock.now), ended),
    "finish what goes on": Operation(1, lambda there, _: there.store.finish(there.clock.now), queued),
    "status": Operation(2, lambda there, _: there.store.status(there.clock.now), ended),
    "projects": Operation(1, lambda there, _: there.store.projects(), begun),
    "save_project": Operation(
        1, lambda there, own: there.store.save_project(own[0], ProjectState(id="p1", name="One")), begun
    ),
    "items": Operation(1, lambda there, _: there.store.items("p1"), queued),
    "item": Operation(1, lambda there, _: there.store.item("p1", "m1"), queued),
    "queue": Operation(1, lambda there, own: there.store.queue(own[0], there.item("m1")), begun),
    "queue again": Operation(
        2, lambda there, own: there.store.queue(own[0], there.item("m1", due_at=NOW + 9 * HOUR)), queued
    ),
    "mark": Operation(
        1,
        lambda there, own: there.store.mark(
            own[0], there.item("m1", origin_state=OriginState.DELETED, misses=2, run_id="run1")
        ),
        queued,
    ),
    "due": Operation(2, lambda there, _: there.store.due(there.clock.now + 7 * HOUR, 100), queued),
    "due, and drop": Operation(
        3, lambda there, _: there.store.due(there.clock.now + 7 * HOUR, 100), lambda there: finished(there, "m1", "m2")
    ),
    "nothing due": Operation(1, lambda there, _: there.store.due(there.clock.now, 100), queued),
    "claim what a run waits for": Operation(2, lambda there, _: there.claimed("m1"), queued),
    "claim what nobody knew": Operation(3, lambda there, _: there.claimed("m1")),
    "claim what is held": Operation(
        2,
        lambda there, _: there.store.claim(there.order("m1"), "b", "worker2", there.clock.now, there.clock.now + HOUR),
        held,
    ),
    "settle as registered": Operation(1, settle("registered", state=ItemState.IMPORTED, due_at=None), held),
    "settle as failed": Operation(
        1, settle("failed", state=ItemState.FAILED, attempts=1, why="so", due_at=NOW + HOUR), held
    ),
    "let go": Operation(1, lambda there, item: there.store.let_go(item, "worker1"), held),
    "take a slot": Operation(2, lambda there, _: there.store.take_slot(2, "worker1", NOW, NOW + HOUR)),
    "free a slot": Operation(
        1,
        lambda there, _: there.store.free_slot(0, "worker1"),
        lambda there: there.store.take_slot(2, "worker1", NOW, NOW + HOUR),
    ),
    "own a name": Operation(2, lambda there, _: there.store.owner_of_name("p1", "Detection", "g1")),
    "who owns a name": Operation(
        1,
        lambda there, _: there.store.owner_of_name("p1", "Detection", "g2"),
        lambda there: there.store.owner_of_name("p1", "Detection", "g1"),
    ),
    "ask": Operation(1, lambda there, _: there.asked("i1", "m1", "m2")),
    "look at a request": Operation(1, lambda there, _: there.imports.get("i1"), held),
    "settle a request": Operation(1, lambda there, _: there.imports.settle("i1", became("failed")), held),
}


@dataclass(frozen=True)
class Undisturbed:
    """What an operation answers, and leaves, when nothing is in the way."""

    answer: Any
    tables: list[dict[str, Any]]
    calls: list[str]


@pytest.fixture(scope="module")
def undisturbed(workshop: Workshop) -> Callable[[str], Undisturbed]:
    known: dict[str, Undisturbed] = {}

    def of(name: str) -> Undisturbed:
        if name not in known:
            there, prepared = workshop.prepared(name)
            with watched_calls(nothing, nothing) as calls:
                answer = OPERATIONS[name].do(there, prepared)
            known[name] = Undisturbed(answer, there.tables, calls)
        return known[name]

    return of


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_stays_within_its_budget_of_calls(
    undisturbed: Callable[[str], Undisturbed], credentials: None, name: str
) -> None:
    assert len(undisturbed(name).calls) == OPERATIONS[name].calls, undisturbed(name).calls


@pytest.mark.parametrize("trouble", ["throttled", "lost before it was done", "lost after it was done"])
@pytest.mark.parametrize(("name", "number"), [(n, c) for n, one in OPERATIONS.items() for c in range(one.calls)])
def test_an_answer_that_is_lost_changes_nothing(
    workshop: Workshop,
    undisturbed: Callable[[str], Undisturbed],
    credentials: None,
    name: str,
    number: int,
    trouble: str,
) -> None:
    expected = undisturbed(name)
    there, prepared = workshop.prepared(name)

    def fail(called: str, at: int) -> None:
        if at == number:
            raise throttled(called) if trouble == "throttled" else timed_out(called)

    is_done = trouble == "lost after it was done"
    with watched_calls(nothing if is_done else fail, fail if is_done else nothing):
        answer = OPERATIONS[name].do(there, prepared)

    assert (answer, there.tables) == (expected.answer, expected.tables)


@pytest.mark.parametrize("error", [throttled, conflicting, internal_error, not_connected, connection_lost])
@pytest.mark.parametrize("name", ["save", "queue", "settle as failed", "finish", "begin the first", "take a slot"])
def test_a_passing_trouble_is_waited_out(
    workshop: Workshop,
    undisturbed: Callable[[str], Undisturbed],
    credentials: None,
    name: str,
    error: Callable[[str], Exception],
) -> None:
    expected = undisturbed(name)
    there, prepared = workshop.prepared(name)
    writes = [called for called in expected.calls if called in ("TransactWriteItems", "UpdateItem")]
    failures = iter([True] * 3)

    def fail(called: str, _: int) -> None:
        is_meant = called == writes[-1] and (error is not conflicting or called == "TransactWriteItems")
        if is_meant and next(failures, False):
            raise error(called)

    with watched_calls(fail, nothing):
        answer = OPERATIONS[name].do(there, prepared)

    assert (answer, there.tables) == (expected.answer, expected.tables)


@pytest.fixture
def hurried(workshop: Workshop, credentials: None) -> Bench:
    """A store that gives up soon."""
    ticks = itertools.count()
    return workshop.bench(Retry(5, lambda: float(next(ticks)), lambda _: None, lambda low, high: 0))


def out_of_order(called: str, _: int) -> None:
    raise throttled(called)


def test_lasting_trouble_is_told_and_changes_nothing(hurried: Bench) -> None:
    lease, _ = hurried.begun()
    item = hurried.claimed("m1")
    before = hurried.tables

    with watched_calls(out_of_order, nothing):
        for act in (
            lambda: hurried.store.queue(lease, hurried.item("m1")),
            lambda: hurried.store.settle(item, "worker1", hurried.order("m1"), became("registered")),
            lambda: hurried.store.finish(hurried.clock.now),
            lambda: hurried.store.due(hurried.clock.now, 10),
        ):
            with pytest.raises(Unavailable):
                act()

    assert hurried.tables == before


def test_a_slot_that_cannot_be_given_back_is_nobodys_trouble(hurried: Bench) -> None:
    slot = hurried.store.take_slot(1, "worker1", NOW, NOW + MINUTE)
    assert slot == 0

    with watched_calls(out_of_order, nothing):
        hurried.store.free_slot(slot, "worker1")

    assert hurried.store.take_slot(1, "worker2", NOW + 2 * MINUTE, NOW + HOUR) == 0


def test_a_worker_that_nothing_can_be_heard_of_works_all_the_same(there: Bench) -> None:
    there.looked("m1")

    def fail(called: str, number: int) -> None:
        if number == 1:
            raise throttled(called)

    with watched_calls(fail, nothing):
        item = there.claimed("m1")

    assert item.run_id == "run1"


# --- Others acting meanwhile


def test_an_outcome_whose_answer_is_lost_is_not_counted_again_when_others_go_on(there: Bench) -> None:
    item = held(there)
    interferences = iter([lambda: there.settled("m1", holder="worker2")])

    def lose(called: str, _: int) -> None:
        if called == "TransactWriteItems" and (act := next(interferences, None)):
            act()
            raise timed_out(called)

    with watched_calls(nothing, lose):
        settle("registered", state=ItemState.IMPORTED, due_at=None)(there, item)

    assert there.counts() == (0, 1, 0)
    assert there.known("m1").state == ItemState.IMPORTED


def test_a_finish_whose_answer_is_lost_is_told_once_when_others_go_on(there: Bench) -> None:
    ended(there)
    seconds: list[Any] = []

    def lose(called: str, _: int) -> None:
        if called == "TransactWriteItems" and not seconds:
            seconds.append(there.store.finish(there.clock.now))
            there.store.begin(there.run("run2"), there.clock.now)
            raise timed_out(called)

    with watched_calls(nothing, lose):
        done = there.store.finish(there.clock.now)

    assert done
    assert (done.id, seconds) == ("run1", [None])
    assert [event.action.value for event in there.catalog.events(SUBJECT)[0]] == ["sync.finished"]


def test_a_release_whose_answer_is_lost_is_done_although_the_run_was_finished(there: Bench) -> None:
    lease, run = there.begun()
    looked = run.model_copy(update=DONE)
    finishers = iter([there.store.finish])

    def lose(called: str, _: int) -> None:
        if called == "UpdateItem" and (finish := next(finishers, None)):
            finish(there.clock.now)
            raise timed_out(called)

    with watched_calls(nothing, lose):
        there.store.release(lease, looked, Memory())

    assert there.report().run.outcome == Outcome.OK


def test_a_lease_that_was_taken_while_an_answer_was_lost_is_lost(there: Bench) -> None:
    lease, run = there.begun()
    takers = iter([lambda at: there.store.lease("run1", at, at + HOUR)])

    def lose(called: str, _: int) -> None:
        if called == "UpdateItem" and (take := next(takers, None)):
            take(there.clock.now + 21 * MINUTE)
            raise timed_out(called)

    with watched_calls(lose, nothing), pytest.raises(LeaseLost):
        there.store.release(lease, run.model_copy(update=DONE), Memory())

    assert there.report().run == run


def test_an_item_that_is_settled_while_it_is_queued_again_is_waited_for(there: Bench) -> None:
    """The run waited for it when this began, and does not any more when it is to be due later."""
    lease, _ = queued(there)
    settlers = iter([lambda: there.settled("m1")])

    def interfere(called: str, number: int) -> None:
        if number == 1 and (act := next(settlers, None)):
            act()

    with watched_calls(interfere, nothing):
        there.store.queue(lease, there.item("m1"))

    assert there.counts() == (1, 1, 0)
    there.settled("m1", "exists")
    assert there.counts() == (0, 2, 0)


def test_what_waits_for_an_outcome_may_all_have_changed(there: Bench) -> None:
    """Another run waits than the one that did at the claim, then none; and the request was told otherwise."""
    there.asked("i1", "m1")
    item = there.claimed("m1")
    lease, run = there.begun("run1")
    there.store.queue(lease, there.item("m1"))
    there.imports.settle("i1", became("failed"))
    there.store.release(lease, run.model_copy(update=DONE), Memory())
    there.store.begin(there.run("run2"), there.passes(41 * MINUTE))

    settle("registered", state=ItemState.IMPORTED, due_at=None)(there, item)

    assert there.counts() == (0, 0, 0)
    assert there.known("m1").state == ItemState.IMPORTED
    assert there.known("m1").run_id is None
    assert there.imports.get("i1").models == (became("failed"),)


# --- At once


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


def test_of_runs_begun_at_once_there_is_one(there: Bench) -> None:
    begun = crowd(8, lambda number: there.store.begin(there.run(f"run{number}"), there.clock.now))

    assert len({run.id for run in begun}) == 1
    assert there.report().run == begun[0]


def test_of_runs_begun_at_once_behind_one_that_was_given_up_there_is_one(there: Bench) -> None:
    given_up(there)

    begun = crowd(8, lambda number: there.store.begin(there.run(f"next{number}"), there.clock.now))

    assert len({run.id for run in begun}) == 1
    events, head = there.catalog.events(SUBJECT)
    verify_chain(events, head)
    assert head.seq == 1


def test_one_of_a_crowd_gets_the_lease(there: Bench) -> None:
    there.store.begin(there.run(), NOW)

    leases = crowd(8, lambda _: there.store.lease("run1", NOW, NOW + HOUR))

    assert [type(one) for one in leases].count(SyncRunning) == 7


def test_a_run_is_finished_once_by_a_crowd(there: Bench) -> None:
    ended(there)

    done = crowd(8, lambda _: there.store.finish(there.clock.now))

    assert [type(one) for one in done].count(Run) == 1
    assert there.catalog.events(SUBJECT)[1].seq == 1
    check_invariants(objects={})


def test_outcomes_at_once_are_all_counted(there: Bench) -> None:
    models = [f"m{number}" for number in range(8)]
    lease, run = there.begun()
    for model in models:
        there.store.queue(lease, there.item(model))
    there.store.release(lease, run.model_copy(update=DONE), Memory())

    def work(number: int) -> Run | None:
        there.settled(models[number], "failed" if number % 4 == 0 else "registered", f"worker{number}")
        return there.store.finish(there.clock.now)

    done = [run for run in crowd(8, work) if run]

    assert [run.counts for run in done] == [Counts(imported=6, failed=2)]


def test_an_item_and_a_slot_are_held_by_one_of_a_crowd(there: Bench) -> None:
    items = crowd(8, lambda number: there.store.claim(there.order("m1"), "b", f"w{number}", NOW, NOW + HOUR))
    slots = crowd(8, lambda number: there.store.take_slot(3, f"w{number}", NOW, NOW + HOUR))

    assert len([item for item in items if item]) == 1
    assert sorted(slot for slot in slots if slot is not None) == [0, 1, 2]


def test_a_name_has_one_owner_in_a_crowd(there: Bench) -> None:
    owners = crowd(8, lambda number: there.store.owner_of_name("p1", "Detection", f"g{number}"))

    assert len(set(owners)) == 1


# --- The trail of the sync


def test_the_end_of_each_run_is_on_the_trail_of_the_server(there: Bench) -> None:
    for number in range(3):
        lease, run = there.begun(f"run{number}")
        there.store.queue(lease, there.item("m1"))
        told = {"failed": (Told(id="p9", why="no answer"),) * 90, "counts": Counts(seen=2, failed=90), "requests": 5}
        there.store.release(lease, run.model_copy(update={**DONE, **told, "position": "p9"}), Memory())
        there.settled("m1")
        there.finished()
        there.passes(15 * MINUTE)

    events, head = there.catalog.events(SUBJECT)

    verify_chain(events, head)
    assert [(event.seq, event.action.value, event.actor.name, event.about) for event in events] == [
        (number, "sync.finished", "geti-sync", ()) for number in (1, 2, 3)
    ]
    changes = there.catalog.trail.of_subject(SUBJECT, TrailFilters(), 1).entries[0].changes
    assert '"counts":[null,{"failed":90,"imported":1,"marked":0,"new":0,"seen":2,"skipped":0}]' in changes
    assert '"outcome":[null,"partial"]' in changes
    assert changes.count("no answer") == 20
    assert "position" not in changes
    check_invariants(objects={})


def test_a_server_has_no_trail_before_its_first_run_has_ended(there: Bench) -> None:
    with pytest.raises(NotFound):
        there.catalog.events(SUBJECT)
    there.begun()

    with pytest.raises(NotFound):
        there.catalog.events(SUBJECT)
    check_invariants(objects={})


@pytest.mark.parametrize(
    ("access", "is_seen"),
    [
        (Access(), True),
        (Access(role=Role.VIEWER), False),
        (Access.model_validate({"name_prefixes": ["a"]}), False),
        (Access.model_validate({"projects": [{"id": "p1", "name": "Project One"}]}), False),
    ],
    ids=["admin", "viewer", "by name", "by project"],
)
def test_only_an_admin_without_limits_sees_what_the_sync_did(there: Bench, access: Access, is_seen: bool) -> None:
    finished(there, "m1")
    trail, at = there.catalog.trail, there.clock.now + HOUR

    pages = [
        trail.of_subject(SUBJECT, TrailFilters(), 10, within=access),
        trail.across(TrailFilters(action="sync.finished"), at, 10, within=access),
    ]

    assert [len(page.entries) for page in pages] == [int(is_seen)] * 2
    assert [link.subject for link in trail.links(f"{there.clock.now:%Y-%m-%d}")] == [SUBJECT]


def test_a_server_is_a_subject_as_it_is_stated() -> None:
    assert subjects_of(SUBJECT) == [SUBJECT]


# --- Keys and rows


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("a#b", "c"), ("a", "b#c")),
        (("a%23b", "c"), ("a#b", "c")),
        (("a", "b/c"), ("a/b", "c")),
        (("a", "b"), ("ä", "b")),
    ],
)
def test_foreign_text_in_keys_does_not_collide(there: Bench, one: tuple[str, str], other: tuple[str, str]) -> None:
    lease, _ = there.begun()
    for project, model in (one, other):
        there.store.queue(lease, there.item(model, project_id=project))
        there.store.save_project(lease, ProjectState(id=project, name=model))

    assert there.counts() == (2, 0, 0)
    assert {key: [item.model_id for item in there.store.items(key)] for key in (one[0], other[0])} == {
        one[0]: [one[1]],
        other[0]: [other[1]],
    }
    assert there.store.projects().keys() == {one[0], other[0]}
    assert len(there.store.due(there.clock.now + 7 * HOUR, 10)) == 2


def test_rows_that_came_up_for_nothing_are_dropped(there: Bench) -> None:
    lease, _ = there.begun()
    for number in range(26):
        there.store.queue(lease, there.item(f"m{number:02}"))
    for number in range(0, 26, 2):
        there.settled(f"m{number:02}")

    due = there.store.due(there.clock.now + 6 * HOUR, 20)

    assert [item.model_id for item in due] == [f"m{number:02}" for number in range(1, 26, 2)]
    assert len(there.rows("DUE#")) == 13


def test_what_failed_in_a_run_is_forgotten_after_30_days(there: Bench) -> None:
    ended(there)

    (row,) = [item for item in there.tables if item["sk"]["S"].startswith("FAILED#")]

    assert row["sk"]["S"] == "FAILED#run1#m2"
    assert int(row["ttl"]["N"]) == int((there.clock.now + timedelta(days=30)).timestamp())


def test_all_rows_of_a_request_are_forgotten_at_its_time(there: Bench) -> None:
    there.asked("i1", "m1", "m2")

    rows = [item for item in there.tables if item["pk"]["S"] == "IMPORT#i1"]

    assert {row["ttl"]["N"] for row in rows} == {str(int((there.clock.now + 24 * HOUR).timestamp()))}
    assert len(rows) == 3


def test_a_project_with_very_many_versions_can_be_kept(there: Bench) -> None:
    """DynamoDB takes 400 KB for an item: ids and digests have only half as much in them as they are long."""
    lease, _ = there.begun()
    looked = {
        hashlib.md5(b"%d" % number).hexdigest()[:24]: {
            "digest": hashlib.md5(b"x%d" % number).hexdigest()[:16],
            "models": 7,
        }
        for number in range(10_000)
    }
    project = ProjectState.model_validate({"id": "p1", "name": "One", "looked": looked})

    there.store.save_project(lease, project)

    (row,) = [item for item in there.tables if item["sk"]["S"] == "P#p1"]
    assert len(row["record"]["B"]) < 390_000
    assert there.store.projects() == {"p1": project}
