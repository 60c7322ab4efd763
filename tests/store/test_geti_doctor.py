"""What the doctor finds in what is kept of a Geti server, and what it repairs or leaves alone."""

import copy
from collections.abc import Callable

import pytest
from moto.backends import get_backend
from moto.core import DEFAULT_ACCOUNT_ID

from chalicelib.geti.states import Memory, ProjectState
from chalicelib.registry.doctor import Kind
from chalicelib.store.doctor.steps import Limits
from chalicelib.store.geti import DynamoSync
from chalicelib.store.geti_items import due_row_key, model_row_key
from chalicelib.store.imports import DynamoImports
from chalicelib.store.keys import event_key
from tests.conftest import create_tables, ulids
from tests.store.conftest import Bench
from tests.store.doctor_stage import ONE_BY_ONE, Stage
from tests.sync_stage import HOUR, Place

SERVER = "geti.example.com:443"
SUBJECT = f"GETI#{SERVER}"
WAITING, FAILED, DONE = (model_row_key("p1", model) for model in ("waiting", "failed", "done"))


class GetiStage(Stage):
    """A server with two runs that have ended and one that goes on; of everything that is kept there is something."""

    def fill(self) -> "GetiStage":
        clock, new_ulid = self.bench.clock, ulids()
        self.there = Place(DynamoSync(SERVER, new_ulid, clock=clock), DynamoImports(), clock, SERVER)
        there = self.there
        there.asked("i1", "done", "failed")
        for name in ("run1", "run2"):
            there.looked("done", "failed", name=name)
            there.settled("done", import_id="i1")
            there.settled("failed", "failed", import_id="i1")
            there.finished()
        lease, _ = there.begun("run3")
        there.store.queue(lease, there.item("waiting"))
        there.store.save_project(lease, ProjectState(id="p1", name="One"))
        there.store.take_slot(2, "worker1", clock.now, clock.now + HOUR)
        there.store.owner_of_name("p1", "Detection", "g1")
        return self


@pytest.fixture(scope="module")
def filled(moto: None) -> Callable[[], GetiStage]:
    get_backend("dynamodb").reset()
    create_tables()
    stage = GetiStage(Bench()).fill()
    backend = get_backend("dynamodb")[DEFAULT_ACCOUNT_ID]["us-east-1"]
    kept = copy.deepcopy(backend.tables)

    def bring_back() -> GetiStage:
        backend.tables = copy.deepcopy(kept)
        return stage

    return bring_back


@pytest.fixture
def stage(filled: Callable[[], GetiStage], credentials: None) -> GetiStage:
    return filled()


def kinds(stage: GetiStage) -> list[tuple[Kind, str, bool]]:
    """What is found without a repair; the same if everything is looked at by itself."""
    found = [(one.kind, one.subject, one.safe) for one in stage.visit().findings]
    again = [(one.kind, one.subject, one.safe) for one in stage.visit(limits=ONE_BY_ONE, every_chunk=True).findings]
    assert sorted(again) == sorted(found)
    return found


def due_row(stage: GetiStage, model: str) -> str:
    due_at = stage.there.known(model).due_at
    assert due_at
    return due_row_key(due_at, "p1", model)


def test_what_the_registry_keeps_of_geti_is_whole(stage: GetiStage) -> None:
    visit = stage.visit()

    assert visit.findings == []
    assert visit.count("chains") == 1
    assert visit.count("events") == 2
    assert visit.count("undecided") == 0
    assert stage.unexpected == []


@pytest.mark.parametrize("model", ["waiting", "failed"])
def test_a_model_that_would_not_come_up_again_is_put_into_the_list(stage: GetiStage, model: str) -> None:
    stage.remove(SUBJECT, due_row(stage, model))
    subject = f"{SUBJECT} / {model_row_key('p1', model)}"
    assert kinds(stage) == [(Kind.DUE_ROW, subject, True)]

    stage.visit(repair=True)

    assert stage.visit().findings == []
    due = stage.there.store.due(stage.there.clock.now + 9 * HOUR, 10)
    assert model in {item.model_id for item in due}


def test_a_row_of_a_model_that_is_not_there_is_removed(stage: GetiStage) -> None:
    row = due_row(stage, "failed")
    stage.remove(SUBJECT, FAILED)
    found = kinds(stage)
    assert (Kind.STRAY_DUE_ROW, f"{SUBJECT} / {row}", True) in found
    assert {kind for kind, _, _ in found} == {Kind.STRAY_DUE_ROW}, "those of earlier times too"

    stage.visit(repair=True)

    assert stage.visit().findings == []


@pytest.mark.parametrize("row", [WAITING, DONE])
@pytest.mark.parametrize(
    "damage",
    [
        {"state": {"S": "forgotten"}},
        {"due_at": {"S": "tomorrow"}},
        {"attempts": {"N": "-1"}},
        {"model_id": {"S": "another"}},
        {"group_id": None},
    ],
    ids=lambda damage: next(iter(damage)),
)
def test_a_model_that_cannot_be_read_is_told_and_left(stage: GetiStage, row: str, damage: dict[str, object]) -> None:
    stage.set(SUBJECT, row, **damage)

    assert kinds(stage) == [(Kind.UNREADABLE, f"{SUBJECT} / {row}", False)]


@pytest.mark.parametrize(
    "damage",
    [
        {"record": {"S": "{}"}},
        {"memory": None},
        {"run_id": {"S": "another"}},
        {"fence": {"S": "1"}},
        {"outstanding": {"N": "-1"}},
        {"seq": None},
        {"digest": None},
    ],
    ids=lambda damage: next(iter(damage)),
)
def test_a_run_that_cannot_be_read_is_told_and_left(stage: GetiStage, damage: dict[str, object]) -> None:
    stage.set(SUBJECT, **damage)

    assert kinds(stage) == [(Kind.UNREADABLE, SUBJECT, False)]


def test_a_server_whose_run_was_lost_is_known_by_its_events(stage: GetiStage) -> None:
    stage.remove(SUBJECT)

    assert kinds(stage) == [(Kind.EVENTS_WITHOUT_HEAD, SUBJECT, False)]


def drop_the_last(stage: GetiStage) -> None:
    stage.remove(SUBJECT, event_key(2), "EventsTable")


def drop_the_first(stage: GetiStage) -> None:
    stage.remove(SUBJECT, event_key(1), "EventsTable")


def rewrite_the_first(stage: GetiStage) -> None:
    stage.set(SUBJECT, event_key(1), "EventsTable", changes={"S": "{}"})


def append_one(stage: GetiStage) -> None:
    event = stage.item(SUBJECT, event_key(2), "EventsTable")
    stage.put({**event, "sk": {"S": event_key(3)}}, "EventsTable")


def forget_the_head(stage: GetiStage) -> None:
    stage.set(SUBJECT, seq=None, digest=None)


@pytest.mark.parametrize(
    "damage",
    [drop_the_last, drop_the_first, rewrite_the_first, append_one, forget_the_head],
    ids=lambda do: do.__name__,
)
def test_a_changed_trail_of_a_server_is_found(stage: GetiStage, damage: Callable[[GetiStage], None]) -> None:
    damage(stage)

    assert kinds(stage) == [(Kind.CHAIN_BROKEN, SUBJECT, False)]


def test_what_is_of_no_kind_is_told(stage: GetiStage) -> None:
    stage.pointer(SUBJECT, "WHAT#1", "nobody")
    stage.pointer("IMPORT#i1", "WHAT#1", "nobody")

    assert sorted(kinds(stage)) == [
        (Kind.UNKNOWN_ITEM, f"{SUBJECT} / WHAT#1", False),
        (Kind.UNKNOWN_ITEM, "IMPORT#i1 / WHAT#1", False),
    ]


def test_a_server_without_events_is_whole(stage: GetiStage) -> None:
    other = Place(DynamoSync("other", ulids()), stage.there.imports, stage.there.clock, "other")
    lease, run = other.begun()
    other.store.release(lease, run, Memory())

    assert stage.visit().findings == []
    assert other.report().run == run


def test_several_pieces_of_a_long_trail_are_followed(stage: GetiStage) -> None:
    visit = stage.visit(limits=Limits(items=1, subjects=1, chain_events=1, threads=1), every_chunk=True)

    assert visit.findings == []
    assert visit.count("chains") == 1
    assert visit.count("events") == 2
