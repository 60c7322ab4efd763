"""The life of registered models on the two tables: made, renamed, deleted, and what is left to do."""

from collections.abc import Callable
from typing import Any

import pytest

from chalicelib.registry import curating as curating_module
from chalicelib.registry.access import Access, Actor, Project, Role
from chalicelib.registry.curating import Curating
from chalicelib.registry.errands import Errand, ErrandKind
from chalicelib.registry.errors import AlreadyExists, Forbidden, InvalidInput, NotFound
from chalicelib.registry.models import External, Lineage
from chalicelib.registry.numbering import NewVersion, Numbering
from chalicelib.registry.registered_models import PROMPT_TAG, RegisteredModel
from chalicelib.registry.tidying import Tidying
from tests.conftest import ALICE
from tests.store.conftest import Bench
from tests.store.faults import Crash, nothing, watched_calls
from tests.store.test_numbered import crowd, ids

ELSEWHERE = External(uri="s3://another-bucket/model")
VISION = Project(name="vision")
LIMITED = Actor(kind="token", name="limited", access=Access(role=Role.ADMIN, projects=(VISION,)))


class Desk:
    """Curating and Numbering on the stores of a bench, with a queue that nobody works on."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        catalog, blobs, clock = bench.catalog, bench.blobs, bench.clock
        self.tidying = Tidying(catalog, blobs, lambda: bench.errands, clock, bench.announced)
        new_ulid = bench.catalog._new_ulid
        self.curating = Curating(
            *(bench.registry, self.tidying, lambda: bench.errands), *(clock, new_ulid, bench.announced)
        )
        self.numbering = Numbering(catalog, blobs, clock, ids(), bench.announced)

    def create(self, name: str = "cat", by: Actor = ALICE, **tags: str) -> RegisteredModel:
        return self.curating.create(name, tags, None, by)

    def fill(self, count: int, name: str = "cat") -> None:
        model = self.curating.resolve(name, ALICE)
        for _ in range(count):
            self.numbering.create(model, NewVersion(Lineage(source=ELSEWHERE.uri), ELSEWHERE), ALICE)

    def names(self) -> list[str]:
        return sorted(version.name for version in self.bench.check())


@pytest.fixture
def desk(bench: Bench) -> Desk:
    return Desk(bench)


def test_a_registered_model_is_there_without_versions(desk: Desk) -> None:
    made = desk.create(team="vision")

    assert desk.curating.resolve("cat", ALICE) == made
    assert (made.tags, made.highest_number) == ({"team": "vision"}, 0)
    with pytest.raises(AlreadyExists, match="'cat'"):
        desk.create()
    desk.bench.check()


def test_its_first_version_is_number_1_in_every_api(desk: Desk) -> None:
    made = desk.create()

    assert desk.bench.register("cat", "v1").number == 1
    desk.fill(1)

    assert desk.curating.resolve("cat", ALICE).highest_number == 2
    assert desk.curating.resolve("cat", ALICE).rm_id == made.rm_id
    desk.bench.check()


def test_who_sees_one_project_only_may_leave_its_name_away(desk: Desk) -> None:
    made = desk.create("cat", LIMITED)

    assert (made.exposed_name, made.project_name, made.name) == ("vision.cat", "vision", "cat")
    assert desk.curating.resolve("cat", LIMITED) == desk.curating.resolve("vision.cat", LIMITED) == made
    with pytest.raises(NotFound):
        desk.curating.resolve("cat", ALICE)
    with pytest.raises(AlreadyExists):
        desk.create("vision.cat", LIMITED)
    desk.bench.check()


def test_others_state_a_project_as_a_tag(desk: Desk) -> None:
    made = desk.curating.create("cat", {"registry.project": "audio"}, None, ALICE)

    assert (made.exposed_name, made.project_name) == ("audio.cat", "audio")
    with pytest.raises(Forbidden):
        desk.curating.create("dog", {"registry.project": "audio"}, None, LIMITED)
    with pytest.raises(NotFound):
        desk.curating.resolve("audio.cat", LIMITED)


@pytest.mark.parametrize("name", ["", " ", "a\x00", "x" * 257])
def test_a_name_is_what_names_are(desk: Desk, name: str) -> None:
    with pytest.raises(InvalidInput):
        desk.create(name)


def test_a_prompt_is_in_no_list(desk: Desk) -> None:
    desk.create("greeting", **{PROMPT_TAG: "true"})

    assert desk.bench.catalog.registered_models.page(10) == ([], None)
    assert desk.curating.resolve("greeting", ALICE).is_prompt
    desk.bench.check()


@pytest.mark.parametrize("count", [0, 3, 8, 9, 30])
def test_a_renamed_one_keeps_its_versions_aliases_and_tags(desk: Desk, count: int) -> None:
    made = desk.create(team="vision")
    desk.fill(count)
    if count:
        desk.curating.set_alias("cat", "best", 1, ALICE)

    renamed = desk.curating.rename("cat", "lion", ALICE)

    assert (renamed.rm_id, renamed.name, renamed.tags) == (made.rm_id, "lion", {"team": "vision"})
    assert renamed.aliases == ({"best": 1} if count else {})
    assert desk.names() == ["lion"] * count
    with pytest.raises(NotFound):
        desk.curating.resolve("cat", ALICE)
    assert desk.create().rm_id != made.rm_id
    assert desk.bench.catalog.registered_models.pending() == []


def test_renaming_to_itself_changes_nothing(desk: Desk) -> None:
    made = desk.create()

    assert desk.curating.rename("cat", "cat", ALICE) == made


def test_a_taken_name_is_not_taken_away(desk: Desk) -> None:
    desk.create("cat")
    desk.create("dog")

    with pytest.raises(AlreadyExists):
        desk.curating.rename("cat", "dog", ALICE)

    desk.bench.check()


@pytest.mark.parametrize("count", [0, 3, 60])
def test_a_deleted_one_leaves_its_name_free_and_its_trail(desk: Desk, count: int) -> None:
    made = desk.create(team="vision")
    desk.fill(count)

    desk.curating.delete("cat", ALICE)

    assert desk.names() == []
    events, head = desk.bench.catalog.events(f"RM#{made.rm_id}")
    assert (events[-1].action, events[-1].head) == ("registered_model.deleted", head)
    again = desk.create()
    desk.fill(1)
    assert again.rm_id != made.rm_id
    assert desk.curating.resolve("cat", ALICE).highest_number == 1
    assert desk.bench.catalog.registered_models.pending() == []


def test_what_takes_longer_is_left_to_errands_and_asked_for_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curating_module, "SECONDS_AT_ONCE", 0)
    made = desk.create()
    desk.fill(120)

    desk.curating.delete("cat", ALICE)

    errand = Errand(kind=ErrandKind.REMOVE_VERSIONS, subject=made.rm_id)
    assert desk.bench.errands.queued == [errand]
    # The message is lost; the sweep asks once more, and that comes twice.
    desk.bench.errands.queued.clear()
    desk.bench.sweeper.sweep(lambda: True)
    assert desk.bench.errands.queued == [errand]
    desk.tidying.run(errand, lambda: False)
    desk.tidying.run(errand, lambda: True)
    desk.tidying.run(errand, lambda: True)
    assert desk.bench.catalog.registered_models.pending() == []
    assert desk.names() == []


def test_an_upload_goes_with_its_renamed_registered_model(desk: Desk) -> None:
    desk.bench.register("cat", "v1")
    upload = desk.bench.open("cat", "v2")

    desk.curating.rename("cat", "lion", ALICE)
    desk.bench.put(upload)
    desk.bench.complete(upload)

    assert desk.names() == ["lion", "lion"]


def test_of_a_crowd_that_makes_one_name_one_gets_it(desk: Desk) -> None:
    outcomes = crowd(16, lambda _: desk.create())

    assert [type(one).__name__ for one in outcomes].count("RegisteredModel") == 1
    assert [type(one).__name__ for one in outcomes].count("AlreadyExists") == 15
    desk.bench.check()


def test_versions_of_a_crowd_and_a_deletion_leave_a_whole_state(desk: Desk) -> None:
    desk.create()
    model = desk.curating.resolve("cat", ALICE)
    made = NewVersion(Lineage(source=ELSEWHERE.uri), ELSEWHERE)

    def act(number: int) -> Any:
        if number == 5:
            return desk.curating.delete("cat", ALICE)
        return desk.numbering.create(model, made, ALICE)

    crowd(12, act)
    desk.tidying.run(Errand(kind=ErrandKind.REMOVE_VERSIONS, subject=model.rm_id), lambda: True)

    assert desk.names() == []


def _rename(desk: Desk) -> None:
    desk.curating.rename("cat", "lion", ALICE)


def _delete(desk: Desk) -> None:
    desk.curating.delete("cat", ALICE)


def _create(desk: Desk) -> None:
    desk.create("bird", team="vision")


@pytest.mark.parametrize("is_done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("operation", [_create, _rename, _delete], ids=["create", "rename", "delete"])
def test_a_crash_at_any_call_can_be_made_up_for(desk: Desk, operation: Callable[[Desk], None], is_done: bool) -> None:
    desk.create(team="vision")
    desk.fill(2)
    for call in range(30):
        if _crashes(desk, operation, call, is_done):
            # Whatever happened is whole once what was left for later is done.
            for errand in desk.bench.catalog.registered_models.pending():
                desk.tidying.run(errand, lambda: True)
            desk.bench.check()
            _restore(desk)
        else:
            return
    pytest.fail("it never came to its end")


def _crashes(desk: Desk, operation: Callable[[Desk], None], call: int, is_done: bool) -> bool:
    def crash(_: str, number: int) -> None:
        if number == call:
            raise Crash

    with watched_calls(nothing if is_done else crash, crash if is_done else nothing):
        try:
            operation(desk)
        except Crash:
            return True
    return False


def _restore(desk: Desk) -> None:
    """`cat` with two versions again, and no other."""
    for name in ("bird", "lion", "cat"):
        try:
            desk.curating.delete(name, ALICE)
        except NotFound:
            continue
    desk.create(team="vision")
    desk.fill(2)
