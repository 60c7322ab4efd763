"""The sync on a simulated Geti: what it asks, what it queues, what it concludes and what it does not."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from chalicelib.geti.ports import SyncRunning
from chalicelib.geti.records import OriginState
from chalicelib.geti.selection import Selection
from chalicelib.geti.states import Counts, Outcome
from chalicelib.registry.errors import NotConfigured, Unavailable
from chalicelib.registry.models import Changes
from tests.conftest import ALICE
from tests.geti_sync import ALL, SyncStage
from tests.simulators.geti import GetiServer, World, token_of

CONNECTING = {"product_info": 1, "token_organization": 1, "workspaces": 1}


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def geti(world: World) -> Iterator[GetiServer]:
    with GetiServer(world, profile="2.13") as server:
        yield server


@pytest.fixture
def sync(geti: GetiServer) -> SyncStage:
    return SyncStage(geti)


def asked(geti: GetiServer) -> Counter[str]:
    """What was asked since the last time, finding out what answers left out."""
    counts = Counter(geti.counts) - Counter(CONNECTING)
    geti.requests.clear()
    return counts


# What is taken


def test_what_is_new_is_queued_and_ends_the_run_with_its_report(world: World, sync: SyncStage) -> None:
    model = world.project().group().train()

    sync.run()
    sync.work_off()

    wanted = {model[spec].id for spec in ("FP16+XAI", "FP32", "FP16")}
    assert set(sync.registered) == wanted
    [run] = sync.finished
    assert run.counts == Counts(seen=4, new=3, imported=3, skipped=1)
    assert run.outcome == Outcome.OK
    assert [(told.id, told.why) for told in run.skipped] == [(model["ONNX FP32"].id, "it is not in OpenVINO format")]


def test_a_run_goes_on_until_its_imports_have_ended(world: World, sync: SyncStage) -> None:
    world.project().group().train()

    sync.run()
    status = sync.syncing.status()

    assert sync.finished == []
    assert status
    assert (status.run.has_looked, status.outstanding) == (True, 3)
    with pytest.raises(SyncRunning):
        sync.syncing.ask(ALICE, is_dry=False, is_full=False)


def test_nothing_new_costs_two_lists_and_the_jobs(world: World, geti: GetiServer, sync: SyncStage) -> None:
    world.populate(projects=7, groups=2, versions=2)
    sync.run()
    sync.work_off()
    asked(geti)

    sync.pass_by(minutes=15)
    sync.run()

    assert asked(geti) == {"projects": 1, "jobs": 1, "model_groups": 7}
    assert sync.finished[-1].counts == Counts(seen=7 * 4 * 4)
    assert geti.downloads == []


def test_a_new_version_costs_one_request_more(world: World, geti: GetiServer, sync: SyncStage) -> None:
    projects = world.populate(projects=3, groups=1, versions=3)
    sync.run()
    sync.work_off()
    asked(geti)
    model = projects[1].groups[0].train()

    sync.pass_by(minutes=15)
    sync.run()

    # The job of its training makes the others of the project be looked at again too.
    assert asked(geti) == {"projects": 1, "jobs": 1, "model_groups": 3, "model": 4}
    assert {order.model_id for order, _ in sync.work.orders} == {model[s].id for s in ("FP16+XAI", "FP32", "FP16")}


def test_a_model_under_an_unchanged_listing_is_found_by_its_job(world: World, sync: SyncStage) -> None:
    model = world.project().group().train()
    sync.run()
    sync.work_off()

    int8 = model.optimize("INT8")
    sync.pass_by(minutes=15)
    sync.run()

    assert [order.model_id for order, _ in sync.work.orders] == [int8.id]


def test_a_job_is_news_only_once(world: World, geti: GetiServer, sync: SyncStage) -> None:
    model = world.project().group().train()
    sync.run()
    model.optimize("INT8")
    for _ in range(2):
        sync.work_off()
        sync.pass_by(minutes=15)
        sync.run()
        geti.requests.clear()

    sync.pass_by(minutes=15)
    sync.run()

    assert asked(geti) == {"projects": 1, "jobs": 1, "model_groups": 1}


def test_without_jobs_the_daily_look_at_everything_finds_it(world: World, geti: GetiServer, sync: SyncStage) -> None:
    geti.fail("jobs", "no_route")
    model = world.project().group().train()
    sync.run()
    sync.work_off()
    int8 = model.optimize("INT8")

    sync.pass_by(minutes=15)
    sync.run()
    at_once = list(sync.work.orders)
    sync.pass_by(hours=24)
    sync.run()

    assert at_once == []
    assert [order.model_id for order, _ in sync.work.orders] == [int8.id]


def test_what_geti_is_not_done_with_is_looked_at_again(world: World, geti: GetiServer, sync: SyncStage) -> None:
    geti.fail("jobs", "no_route")
    model = world.project().group().train(optimized=["FP16"])
    late = model.optimize("INT8", status="NOT_READY")
    sync.run()
    sync.work_off()

    late.status = "SUCCESS"
    sync.pass_by(minutes=15)
    sync.run()

    assert [order.model_id for order, _ in sync.work.orders] == [late.id]


def test_other_rules_have_everything_looked_at_again(world: World, sync: SyncStage) -> None:
    model = world.project().group().train()
    sync.selection = Selection(models="all", precisions=("FP16",), xai="exclude")
    sync.run()
    sync.work_off()

    sync.selection = ALL
    sync.pass_by(minutes=15)
    sync.run()

    assert {order.model_id for order, _ in sync.work.orders} == {model["FP32"].id, model["FP16+XAI"].id}


def test_a_project_that_is_not_selected_is_not_asked_about(world: World, geti: GetiServer, sync: SyncStage) -> None:
    world.project("Bottle caps").group().train()
    other = world.project("Secret")
    other.group().train()
    sync.selection = Selection(excluded_projects=("secret",))

    sync.run()

    assert asked(geti)["model_groups"] == 1
    assert other.id not in {order.project_id for order, _ in sync.work.orders}


def test_what_was_deleted_in_the_registry_is_not_brought_back(world: World, sync: SyncStage) -> None:
    model = world.project().group().train(optimized=["FP16"])
    sync.run()
    sync.work_off()
    sync.registry.delete(model["FP16"].id, ALICE)

    sync.pass_by(minutes=15)
    sync.run(is_full=True)

    assert sync.work.orders == []
    assert sync.finished[-1].counts.new == 0


def test_geti_3_needs_no_details(sync: SyncStage) -> None:
    world = World("3")
    first = world.project().group().train()
    with GetiServer(world, profile="3") as geti:
        sync.geti = geti

        sync.run()

        assert [order.model_id for order, _ in sync.work.orders] == [first["FP16"].id]
        assert "model" not in geti.counts


# Dry and interrupted


def test_a_dry_run_tells_what_it_would_do_and_changes_nothing(world: World, sync: SyncStage) -> None:
    world.project().group().train()

    sync.run(is_dry=True)

    [run] = sync.finished
    assert (run.is_dry, run.counts) == (True, Counts(seen=4, new=3, skipped=1))
    assert (sync.work.orders, sync.store.kept, sync.store.projects()) == ([], {}, {})


def test_a_run_stops_in_time_and_the_next_one_goes_on_there(world: World, geti: GetiServer, sync: SyncStage) -> None:
    world.populate(projects=6)
    looks = iter([True, True, True, False])

    stopped = sync.run(lambda: next(looks))
    queued = len(sync.work.orders)
    asked(geti)
    sync.run()
    sync.work_off()

    assert stopped
    assert not stopped.has_looked
    assert 0 < queued < 18
    assert asked(geti)["model_groups"] == 6 - queued // 3
    [run] = sync.finished
    assert run.id == stopped.id
    assert run.counts == Counts(seen=24, new=18, imported=18, skipped=6)


def test_a_dry_run_does_not_go_on_with_one_that_is_not(world: World, sync: SyncStage) -> None:
    world.populate(projects=3)
    sync.run(lambda: False)

    with pytest.raises(SyncRunning, match="interrupted"):
        sync.run(is_dry=True)

    assert (sync.work.orders, sync.work.runs) == ([], [])


def test_only_one_run_looks_at_a_time(world: World, sync: SyncStage) -> None:
    world.project().group().train()
    inner: list[object] = []

    def begin_another() -> bool:
        inner.append(sync.syncing.run(None, lambda: True))
        return True

    sync.run(begin_another)

    assert inner
    assert set(inner) == {None}


def test_a_run_that_lost_its_lease_writes_nothing_more(world: World, sync: SyncStage) -> None:
    world.populate(projects=3)
    states: list[object] = []

    def be_late() -> bool:
        if not states:
            sync.pass_by(minutes=21)
            sync.syncing.run(None, lambda: True)
            states.append(dict(sync.store.kept))
        return True

    lost = sync.run(be_late)

    assert lost is None
    assert states == [sync.store.kept]


def test_an_order_that_the_queue_did_not_take_is_sent_by_the_next_run(world: World, sync: SyncStage) -> None:
    world.project().group().train()
    sync.work.is_down = True
    with pytest.raises(Unavailable):
        sync.run()

    sync.work.is_down = False
    sync.pass_by(minutes=21)
    sync.run()
    sync.work_off()

    [run] = sync.finished
    assert run.counts == Counts(seen=4, new=3, imported=3, skipped=1)


def test_an_order_that_the_queue_lost_is_sent_again(world: World, sync: SyncStage) -> None:
    model = world.project().group().train(optimized=["FP16"])
    sync.run()
    sync.work.orders.clear()

    sync.pass_by(hours=7)
    sync.run()
    sync.work_off()

    assert set(sync.registered) == {model["FP16"].id}
    assert [run.outcome for run in sync.store.finished] == [Outcome.PARTIAL, Outcome.OK]


def test_what_failed_is_tried_again_when_it_is_time(world: World, sync: SyncStage) -> None:
    model = world.project().group().train(optimized=["FP16"])
    sync.run()
    sync.work_off(fails={model["FP16"].id: "Geti was busy."})

    sync.pass_by(minutes=15)
    sync.run()
    too_early = list(sync.work.orders)
    sync.pass_by(minutes=60)
    sync.run()
    sync.work_off()

    assert too_early == []
    assert set(sync.registered) == {model["FP16"].id}
    assert [run.outcome for run in sync.finished] == [Outcome.PARTIAL, Outcome.OK, Outcome.OK]
    assert [(told.id, told.why) for told in sync.finished[0].failed] == [(model["FP16"].id, "Geti was busy.")]


# What goes wrong


def test_a_refused_token_ends_the_run_and_is_left_alone_for_an_hour(
    world: World, geti: GetiServer, sync: SyncStage
) -> None:
    world.populate(projects=5)
    geti.fail("model_groups", "expired", after=2)
    sync.run()
    asked(geti)

    sync.work_off()
    sync.pass_by(minutes=15)
    sync.run()
    not_asked = asked(geti)
    sync.pass_by(minutes=50)
    sync.run()

    first = sync.finished[0]
    assert (first.outcome, first.is_refused, first.counts.failed) == (Outcome.FAILED, True, 1)
    assert not_asked == {}
    assert asked(geti)["projects"] == 1


def test_another_token_is_tried_at_once(world: World, geti: GetiServer, sync: SyncStage) -> None:
    world.project().group().train()
    geti.fail("projects", "expired", times=1)
    sync.run()

    geti.token = token_of(bytes(32))
    sync.pass_by(minutes=15)
    sync.run()
    sync.work_off()

    assert len(sync.registered) == 3


def test_a_run_tells_who_asked_for_it(sync: SyncStage) -> None:
    sync.run(is_dry=True)
    sync.run()

    assert [run.by.name for run in sync.finished] == ["alice", "geti-sync"]


def test_who_asks_is_not_kept_waiting_by_an_earlier_refusal(world: World, geti: GetiServer, sync: SyncStage) -> None:
    world.project().group().train()
    geti.fail("projects", "expired", times=1)
    sync.run()

    sync.run(is_full=False)
    sync.work_off()

    assert len(sync.registered) == 3


def test_a_forbidden_project_is_told_and_the_others_are_synced(world: World, geti: GetiServer, sync: SyncStage) -> None:
    first, second = world.populate(projects=2)
    geti.fail("model_groups", "forbidden", project=first.id)

    sync.run()
    sync.work_off()

    [run] = sync.finished
    assert run.outcome == Outcome.PARTIAL
    assert [told.id for told in run.failed] == [first.id]
    assert len(sync.registered) == 3
    assert {item.project_id for item in sync.store.kept.values()} == {second.id}


def test_a_geti_that_is_down_is_left_alone_after_three_projects(
    world: World, geti: GetiServer, sync: SyncStage
) -> None:
    world.populate(projects=9)
    geti.fail("model_groups", "server_error")

    sync.run()

    [run] = sync.finished
    assert run.outcome == Outcome.PARTIAL
    assert run.counts.failed == 4
    assert "does not answer any more" in run.failed[-1].why


def test_what_is_no_geti_fails_the_run(world: World, geti: GetiServer, sync: SyncStage) -> None:
    world.project().group().train()
    geti.fail("projects", "html")

    sync.run()

    [run] = sync.finished
    assert run.outcome == Outcome.FAILED
    assert run.counts == Counts(failed=1)


def test_a_list_that_is_not_complete_concludes_nothing(world: World, geti: GetiServer, sync: SyncStage) -> None:
    world.populate(projects=2)
    sync.run()
    sync.work_off()
    geti.fail("projects", "server_error")

    for _ in range(3):
        sync.pass_by(minutes=15)
        sync.run()

    assert all(item.misses == 0 for item in sync.store.kept.values())


# What is gone


def origins(sync: SyncStage) -> set[OriginState]:
    return {item.origin_state for item in sync.store.kept.values()}


def marks(sync: SyncStage) -> set[str | None]:
    return {version.tags.get("geti.origin_state") for version in sync.registered.values()}


@pytest.mark.parametrize("what", ["project", "group", "model"])
def test_what_is_missing_twice_and_is_not_there_is_marked_and_stays(
    world: World, geti: GetiServer, sync: SyncStage, what: str
) -> None:
    model = world.project().group().train()
    sync.run()
    sync.work_off()
    {"project": model.group.project, "group": model.group, "model": model}[what].delete()

    states = []
    for _ in range(3):
        sync.pass_by(minutes=15)
        sync.run()
        states.append(marks(sync))

    assert states == [{None}, {"deleted"}, {"deleted"}]
    assert len(sync.registered) == 3
    assert all(version.tags["mine"] == "kept" for version in sync.registered.values())
    assert [run.counts.marked for run in sync.finished] == [0, 0, 3, 0]


def test_one_optimized_model_that_is_gone_is_marked_alone(world: World, sync: SyncStage) -> None:
    model = world.project().group().train()
    sync.run()
    sync.work_off()
    gone = model["FP32"]
    model.optimized.remove(gone)

    for _ in range(2):
        sync.pass_by(hours=25)
        sync.run()

    marked = {model_id for model_id, version in sync.registered.items() if "geti.origin_state" in version.tags}
    assert marked == {gone.id}


def test_a_project_that_the_user_may_not_see_any_more_is_unreachable(
    world: World, geti: GetiServer, sync: SyncStage
) -> None:
    project = world.project()
    project.group().train()
    sync.run()
    sync.work_off()
    project.is_hidden = True
    geti.fail("model", "forbidden")

    for _ in range(2):
        sync.pass_by(minutes=15)
        sync.run()

    assert marks(sync) == {"unreachable"}
    assert origins(sync) == {OriginState.UNREACHABLE}


def test_what_is_there_again_loses_its_mark(world: World, geti: GetiServer, sync: SyncStage) -> None:
    project = world.project()
    project.group().train()
    sync.run()
    sync.work_off()
    project.is_hidden = True
    geti.fail("model", "forbidden")
    for _ in range(2):
        sync.pass_by(minutes=15)
        sync.run()

    project.is_hidden = False
    geti.heal()
    sync.pass_by(minutes=15)
    sync.run()

    assert marks(sync) == {None}
    assert origins(sync) == {OriginState.PRESENT}
    assert len(sync.registered) == 3


def test_missing_once_is_no_reason(world: World, sync: SyncStage) -> None:
    project = world.project()
    project.group().train()
    sync.run()
    sync.work_off()

    for is_hidden in (True, False, True, False):
        project.is_hidden = is_hidden
        sync.pass_by(minutes=15)
        sync.run()

    assert marks(sync) == {None}


def test_what_is_not_listed_but_there_is_not_marked(world: World, geti: GetiServer, sync: SyncStage) -> None:
    project = world.project()
    project.group().train(optimized=["FP16"])
    sync.run()
    sync.work_off()
    project.is_hidden = True
    geti.on("model", lambda: setattr(project, "is_hidden", False))
    asked(geti)

    for _ in range(2):
        sync.pass_by(minutes=15)
        sync.run()

    assert asked(geti)["model"] == 1
    assert (marks(sync), origins(sync)) == ({None}, {OriginState.PRESENT})


def test_a_busy_geti_leaves_the_question_open(world: World, geti: GetiServer, sync: SyncStage) -> None:
    model = world.project().group().train()
    sync.run()
    sync.work_off()
    model.delete()
    geti.fail("model", "server_error")
    for _ in range(3):
        sync.pass_by(minutes=15)
        sync.run()
    before = marks(sync)

    geti.heal()
    sync.pass_by(minutes=15)
    sync.run()

    assert (before, marks(sync)) == ({None}, {"deleted"})


# What must not wedge it


def test_a_failing_registry_lets_go_of_the_run_for_whoever_tries_again(world: World, sync: SyncStage) -> None:
    world.project().group().train(optimized=["FP16"])
    sync.work.is_down = True
    with pytest.raises(Unavailable):
        sync.run()

    sync.work.is_down = False
    sync.run()
    sync.work_off()

    [run] = sync.finished
    assert (run.outcome, run.counts.imported) == (Outcome.OK, 1)


def test_a_token_that_cannot_be_read_ends_the_run_with_the_reason(sync: SyncStage, monkeypatch: Any) -> None:
    def unreadable(*_: object) -> str:
        raise NotConfigured("GETI_TOKEN_PARAMETER names /geti, which is not there.")

    monkeypatch.setattr("tests.geti_sync.SyncStage.token", unreadable)

    sync.run()

    [run] = sync.finished
    assert (run.outcome, run.failed[0].why) == (Outcome.FAILED, "GETI_TOKEN_PARAMETER names /geti, which is not there.")


def test_a_run_that_is_given_up_is_told_of(world: World, sync: SyncStage) -> None:
    world.project().group().train(optimized=["FP16"])
    sync.run()

    sync.pass_by(minutes=50)
    sync.run()

    assert [(run.outcome, run.counts.failed) for run in sync.finished] == [(Outcome.PARTIAL, 1)]


def test_a_version_without_room_for_a_mark_does_not_stop_the_others(world: World, sync: SyncStage) -> None:
    first, second = (world.project().group().train(optimized=["FP16"]) for _ in range(2))
    sync.run()
    sync.work_off()
    full = sync.registered[first["FP16"].id]
    filled = Changes(tags={**full.tags, "long": "x" * (64_000 - len(full.model_dump_json()))})
    sync.registry.update(full.id, Changes(description="x" * 1000, tags=filled.tags), ALICE)
    first.group.project.delete()
    second.group.project.delete()

    for _ in range(2):
        sync.pass_by(minutes=15)
        sync.run()

    assert origins(sync) == {OriginState.DELETED}
    assert sync.registered[second["FP16"].id].tags["geti.origin_state"] == "deleted"


def test_a_bug_at_one_project_is_reported_and_the_others_are_synced(
    world: World, sync: SyncStage, monkeypatch: Any
) -> None:
    first, second = world.populate(projects=2)
    takes = Selection.takes_project

    def failing(selection: Selection, project: Any) -> bool:
        if project.id == first.id:
            raise KeyError("a bug")
        return takes(selection, project)

    monkeypatch.setattr(Selection, "takes_project", failing)

    sync.run()
    sync.work_off()

    assert {item.project_id for item in sync.store.kept.values()} == {second.id}
    assert ([told.id for told in sync.finished[0].failed], len(sync.bugs)) == ([first.id], 1)


@pytest.mark.parametrize("how", ["server_error", "unavailable", "bad_request", "html"])
def test_the_list_of_jobs_is_only_a_hint(world: World, geti: GetiServer, sync: SyncStage, how: str) -> None:
    world.project().group().train(optimized=["FP16"])
    geti.fail("jobs", how)

    sync.run()
    sync.work_off()

    assert (sync.finished[0].outcome, len(sync.registered)) == (Outcome.OK, 1)


@pytest.mark.parametrize("how", ["server_error", "html"])
def test_projects_that_fail_come_last_the_next_time(world: World, geti: GetiServer, sync: SyncStage, how: str) -> None:
    projects = world.populate(projects=8)
    for project in projects[:4]:
        geti.fail("model_groups", how, project=project.id)
    sync.run()
    sync.work_off()

    sync.pass_by(minutes=15)
    sync.run()
    sync.work_off()

    assert {item.project_id for item in sync.store.kept.values()} == {project.id for project in projects[4:]}
    geti.heal()
    sync.pass_by(minutes=15)
    sync.run()
    sync.work_off()
    assert len(sync.registered) == 24
    assert sync.store.memory.owed == ()


def test_a_project_that_failed_when_its_job_was_told_is_looked_at_later(
    world: World, geti: GetiServer, sync: SyncStage
) -> None:
    model = world.project().group().train(optimized=["FP16"])
    sync.run()
    sync.work_off()
    int8 = model.optimize("INT8")
    geti.fail("model_groups", "server_error")
    sync.pass_by(minutes=15)
    sync.run()

    geti.heal()
    sync.pass_by(minutes=15)
    sync.run()

    assert [order.model_id for order, _ in sync.work.orders] == [int8.id]


def test_a_run_stops_in_time_within_a_project_too(world: World, geti: GetiServer, sync: SyncStage) -> None:
    group = world.project().group()
    for _ in range(9):
        group.train(optimized=["FP16"])
    runs = 0

    while not sync.finished and runs < 9:
        looks = iter([True] * 5)
        sync.run(lambda looks=looks: next(looks, False))  # type: ignore[misc]
        sync.work_off()
        runs += 1

    assert 1 < runs < 9
    assert asked(geti)["model"] == 9
    [run] = sync.finished
    assert run.counts == Counts(seen=9, new=9, imported=9)


# Another workspace


def test_what_is_in_another_workspace_is_not_missed(sync: SyncStage) -> None:
    world = World(workspaces=("One", "Two"))
    one, two = world.workspaces
    world.project("Caps", workspace_id=one).group().train(optimized=["FP16"])
    with GetiServer(world, profile="2.13") as geti:
        sync.geti = geti
        sync.workspace_id = one
        sync.run()
        sync.work_off()

        sync.workspace_id = two
        for _ in range(3):
            sync.pass_by(minutes=15)
            sync.run(is_full=True)

    assert [run.outcome for run in sync.finished] == [Outcome.OK] * 4
    assert (marks(sync), origins(sync)) == ({None}, {OriginState.PRESENT})


def test_a_variant_that_a_list_lacks_is_no_deletion(sync: SyncStage) -> None:
    world = World("3")
    model = world.project().group().train(optimized=["FP16"])
    with GetiServer(world, profile="3") as geti:
        sync.geti = geti
        sync.run()
        sync.work_off()
        model.optimized.clear()

        for _ in range(3):
            sync.pass_by(minutes=15)
            sync.run(is_full=True)

    assert (marks(sync), origins(sync)) == ({None}, {OriginState.PRESENT})


@pytest.mark.parametrize(("first", "then"), [({}, {"is_full": True}), ({"is_dry": True}, {"is_full": False})])
def test_who_asks_for_another_kind_of_run_is_told_to_wait(
    world: World, sync: SyncStage, first: dict[str, bool], then: dict[str, bool]
) -> None:
    world.populate(projects=2)
    sync.run()
    sync.work_off()
    sync.pass_by(minutes=15)
    sync.run(lambda: False, **first)

    with pytest.raises(SyncRunning, match="interrupted"):
        sync.run(**then)


# The scale of the contract


def test_250_projects_are_looked_at_with_few_requests(world: World, geti: GetiServer, sync: SyncStage) -> None:
    world.populate(projects=250, groups=3, versions=4)
    sync.pass_by(days=3)  # until all of that has happened
    sync.run()
    first = asked(geti)
    sync.work_off()

    sync.pass_by(minutes=15)
    sync.run()
    second = asked(geti)

    assert first == {"projects": 3, "jobs": 1, "model_groups": 250, "model": 3000}
    assert second["projects"] + second["model_groups"] + second["model"] == 3 + 250
    assert set(second) == {"projects", "jobs", "model_groups"}
    assert [run.counts.imported for run in sync.finished] == [9000, 0]
