"""Geti 2.10 and 2.13 behind the port Server, against a simulated server on the loopback."""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chalicelib.geti.connecting import connect
from chalicelib.geti.errors import GetiBusy, GetiForbidden, GetiGone, GetiRefused, GetiUnauthorized, NotGeti
from chalicelib.geti.ports import Server
from chalicelib.geti.records import BaseModel, OptimizedModel
from chalicelib.geti.records import Project as Seen
from chalicelib.geti.transport import Transport
from tests.geti_client import Time, transport_to
from tests.simulators.geti import GetiServer, Model, Project, World

DAY = timedelta(days=1)


@pytest.fixture(params=["2.10", "2.13"])
def geti(request: pytest.FixtureRequest) -> Iterator[GetiServer]:
    with GetiServer(World(), profile=request.param) as server:
        yield server


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def transport(geti: GetiServer, time: Time) -> Iterator[Transport]:
    with closing(transport_to(geti, time)) as made:
        yield made


@pytest.fixture
def server(transport: Transport) -> Server:
    return connect(transport, None, None, allow_legacy=False)


@pytest.fixture
def project(geti: GetiServer) -> Project:
    return geti.world.project()


def seen(project: Project) -> Seen:
    return Seen(id=project.id, name=project.name)


def listed(server: Server, model: Model) -> BaseModel:
    """A trained version as its group's listing has it."""
    for group in server.groups(seen(model.group.project)):
        for one in group.models:
            if one.id == model.id:
                return one
    raise AssertionError("it is not listed")


def optimized(server: Server, model: Model) -> dict[str, OptimizedModel]:
    """Its optimized models by their specification."""
    details = server.details(seen(model.group.project), model.group.id, model.id)
    found = {one.id: one for one in details.optimized}
    return {one.spec: found[one.id] for one in model.optimized}


# Projects.


@pytest.mark.parametrize(("count", "pages"), [(0, 1), (1, 1), (100, 1), (101, 2), (250, 3)])
def test_all_projects_come_once_the_oldest_first(server: Server, geti: GetiServer, count: int, pages: int) -> None:
    made = geti.world.populate(projects=count)

    projects = server.projects()

    assert [one.id for one in projects] == [one.id for one in made]
    assert geti.counts["projects"] == pages
    assert server.requests == len(geti.requests) == pages + 3


def test_a_project_tells_its_name_its_time_and_the_tasks_that_are_trained(server: Server, geti: GetiServer) -> None:
    name = "a/../b 🍾 " + "x" * 190
    made = geti.world.project(name, tasks=["detection", "classification"])
    twin = geti.world.project(name)

    first, second = server.projects()

    assert (first.id, first.name, second.id, second.name) == (made.id, name, twin.id, name)
    assert first.created_at == "2026-01-01T09:01:00.000000+00:00"
    assert [(task.id, task.kind, task.title) for task in first.tasks] == [
        (made.tasks[0].id, "detection", "Detection"),
        (made.tasks[1].id, "classification", "Classification"),
    ]
    assert server.project(made.id) == first


def test_a_project_that_is_not_there_is_gone(server: Server, project: Project) -> None:
    project.delete()

    with pytest.raises(GetiGone) as raised:
        server.project(project.id)

    assert raised.value.geti_code == "project_not_found"


def test_projects_that_move_while_they_are_read_are_read_again(server: Server, geti: GetiServer) -> None:
    made = geti.world.populate(projects=150)
    geti.on("projects", made[5].delete, after=1)

    projects = server.projects()

    assert [one.id for one in projects] == [one.id for one in made if one is not made[5]]
    assert geti.counts["projects"] == 4


def test_projects_that_are_added_while_they_are_read_do_no_harm(server: Server, geti: GetiServer) -> None:
    geti.world.populate(projects=150)
    geti.on("projects", geti.world.project, after=1)

    assert len(server.projects()) == 151
    assert geti.counts["projects"] == 2


def test_projects_that_do_not_keep_still_are_an_error_and_no_short_list(server: Server, geti: GetiServer) -> None:
    made = geti.world.populate(projects=210)
    geti.on("projects", lambda: made.pop(0).delete(), times=None)

    with pytest.raises(GetiBusy, match="changes while it is read"):
        server.projects()


def test_a_list_that_stays_shorter_than_its_count_is_an_error(server: Server, geti: GetiServer) -> None:
    geti.fail("projects", status=200, body={"projects": [], "project_counts": 3, "next_page": ""})

    with pytest.raises(GetiBusy, match="has 3, but 0 came, twice"):
        server.projects()


def test_a_list_that_never_ends_is_given_up(server: Server, geti: GetiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chalicelib.geti.server2.MAX_PAGES", 5)
    page = {"projects": [{"id": "p1", "pipeline": {"tasks": []}}], "project_counts": 10**9}
    geti.fail("projects", status=200, body=page)

    with pytest.raises(GetiRefused, match="does not end after 5 pages"):
        server.projects()


# Groups and trained versions.


def test_a_group_lists_its_trained_versions(server: Server, project: Project) -> None:
    group = project.group("YOLOX-S")
    first, second, third = (group.train(purged=number == 0, active=number == 1) for number in range(3))

    (told,) = server.groups(seen(project))

    assert (told.id, told.name, told.task_id) == (group.id, "YOLOX-S", project.tasks[0].id)
    assert [(one.id, one.version) for one in told.models] == [(first.id, 1), (second.id, 2), (third.id, 3)]
    assert [one.is_purged for one in told.models] == [True, False, False]
    assert [one.is_active for one in told.models] == [False, True, False]
    assert told.models[0].created_at == first.created
    assert told.models[0].optimized is None
    assert told.newest == told.models[2]


def test_visual_prompting_cannot_be_imported(server: Server, project: Project) -> None:
    project.group("SAM", learning_approach="one_shot").train()
    project.group("YOLOX-S").train()

    assert [group.is_importable for group in server.groups(seen(project))] == [False, True]


def test_a_project_without_trained_versions_has_no_groups(server: Server, project: Project) -> None:
    project.group()

    assert server.groups(seen(project)) == ()


def test_groups_of_a_project_that_is_gone_or_forbidden_are_an_error(
    server: Server, geti: GetiServer, project: Project
) -> None:
    geti.fail("model_groups", 403, times=1)

    with pytest.raises(GetiForbidden):
        server.groups(seen(project))

    project.delete()
    with pytest.raises(GetiGone):
        server.groups(seen(project))


@pytest.mark.parametrize("change", ["activate", "purge", "label"])
def test_the_summary_changes_with_what_the_listing_says(server: Server, project: Project, change: str) -> None:
    model = project.group().train()
    before = listed(server, model).summary

    {"activate": model.activate, "purge": model.purge, "label": lambda: project.add_label("bottle")}[change]()

    assert listed(server, model).summary != before


def test_the_summary_stays_when_nothing_changes_or_a_model_is_optimized(
    server: Server, geti: GetiServer, project: Project
) -> None:
    model = project.group().train()
    before = listed(server, model).summary

    model.optimize("INT8")
    geti.noise = False

    assert listed(server, model).summary == before


# Details.


def test_details_of_a_trained_version_have_all_its_optimized_models(server: Server, project: Project) -> None:
    group = project.group("YOLOX-S")
    group.train()
    model = group.train(score=0.9)

    details = server.details(seen(project), group.id, model.id)

    assert details.base_model_id == model.id
    assert (details.name, details.architecture, details.version) == ("YOLOX-S", "YOLOX-S", 2)
    assert details.training_framework == "otx 2.4.1"
    assert details.labels == ("cap",)
    assert not details.is_purged
    assert [one.id for one in details.optimized] == [one.id for one in model.optimized]
    assert {one.base_model_id for one in details.optimized} == {model.id}


def test_an_optimized_model_tells_what_it_is(server: Server, project: Project) -> None:
    model = project.group("YOLOX-S").train(score=0.9)

    told = optimized(server, model)["FP16+XAI"]

    assert told == OptimizedModel(
        id=model["FP16+XAI"].id,
        name="YOLOX-S OpenVINO FP16 with XAI head",
        version=1,
        base_model_id=model.id,
        group_id=model.group.id,
        created_at=model["FP16+XAI"].created,
        format="OpenVINO",
        precision=("FP16",),
        optimization_type="MO",
        has_xai_head=True,
        status="SUCCESS",
        score=0.9,
        size=10_300_000,
        target_device="CPU",
    )
    assert not optimized(server, model)["ONNX FP32"].is_openvino


def test_details_by_an_optimized_model_lead_to_the_version_it_was_made_of(server: Server, project: Project) -> None:
    group = project.group()
    group.train()
    model = group.train()

    by_optimized = server.details(seen(project), group.id, model["FP32"].id)

    assert by_optimized == server.details(seen(project), group.id, model.id)


def test_an_optimized_model_that_comes_later_is_there_then(server: Server, project: Project) -> None:
    model = project.group().train()
    late = model.optimize("INT8", status="NOT_READY")

    unfinished = optimized(server, model)["INT8"]
    late.finish()
    finished = optimized(server, model)["INT8"]

    assert (unfinished.precision, unfinished.is_unfinished) == ((), True)
    assert (finished.precision, finished.is_unfinished, finished.optimization_type) == (("INT8",), False, "POT")


def test_models_that_are_listed_twice_count_once(server: Server, project: Project) -> None:
    model = project.group().train(duplicates=True)

    details = server.details(seen(project), model.group.id, model.id)

    assert [one.id for one in details.optimized] == [one.id for one in model.optimized]


def test_a_purged_version_has_no_files(server: Server, project: Project) -> None:
    model = project.group().train(purged=True)

    details = server.details(seen(project), model.group.id, model.id)

    assert details.is_purged
    assert all(one.files_deleted for one in details.optimized)


@pytest.mark.parametrize(
    ("performance", "score"),
    [
        ({"score": 0.81}, 0.81),
        ({"score": 0}, 0.0),
        ({"score": None}, None),
        ({"local_score": None, "global_score": 0.7}, 0.7),
        ({"score": None, "global_score": 0.6}, 0.6),
        ({"score": float("nan")}, None),
        ({"score": "high"}, None),
        ({"score": True}, None),
        ({}, None),
    ],
)
def test_a_score_that_is_not_known_is_not_zero(
    server: Server, project: Project, performance: dict[str, Any], score: float | None
) -> None:
    model = project.group().train(performance=performance)

    assert optimized(server, model)["FP16"].score == score


def test_a_model_that_is_gone_is_told_by_its_code(server: Server, project: Project) -> None:
    model = project.group().train()
    model.delete()

    with pytest.raises(GetiGone) as raised:
        server.details(seen(project), model.group.id, model.id)

    assert raised.value.geti_code == "model_not_found"


# Jobs.


def test_finished_jobs_come_page_by_page(server: Server, geti: GetiServer, project: Project) -> None:
    start = datetime(2026, 2, 1, tzinfo=UTC)
    geti.world.job(project, created=start - DAY)
    geti.world.job(project, created=start, state="running")
    made = [geti.world.job(project, "optimize_pot", created=start + timedelta(seconds=n)) for n in range(150)]

    jobs = server.finished_jobs(start)

    assert [one.id for one in jobs] == [one.id for one in made]
    assert (jobs[0].kind, jobs[0].project_id, jobs[0].ended_at) == ("optimize_pot", project.id, made[0].ended)
    assert geti.counts["jobs"] == 2


@pytest.mark.parametrize("how", [403, 404, "no_route", "html"])
def test_a_geti_that_does_not_tell_of_jobs_has_none(server: Server, geti: GetiServer, how: int | str) -> None:
    geti.fail("jobs", how)

    assert server.finished_jobs(datetime(2026, 1, 1, tzinfo=UTC)) == ()


def test_a_geti_that_cannot_tell_of_jobs_now_is_an_error(server: Server, geti: GetiServer) -> None:
    geti.fail("jobs", 503)

    with pytest.raises(GetiBusy):
        server.finished_jobs(datetime(2026, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize("counts", [{}, {"n_finished_jobs": "many"}, {"n_finished_jobs": 99}])
def test_jobs_end_without_a_count_too(server: Server, geti: GetiServer, counts: dict[str, Any]) -> None:
    job = {"id": "j1", "type": "train", "end_time": "2026-01-02T00:00:00", "metadata": {}}
    geti.fail("jobs", status=200, body={"jobs": [job], "jobs_count": counts}, times=1)
    geti.fail("jobs", status=200, body={"jobs": [], "jobs_count": counts})

    (told,) = server.finished_jobs(datetime(2026, 1, 1, tzinfo=UTC))

    assert (told.project_id, told.ended_at) == (None, datetime(2026, 1, 2, tzinfo=UTC))


# What is not as it should be.

MODEL: dict[str, Any] = {"id": "m1", "version": 1}
GROUP: dict[str, Any] = {"id": "g1", "models": [MODEL]}
PROJECT: dict[str, Any] = {"id": "p1", "pipeline": {"tasks": []}}


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ([], "all of it is not an object"),
        ({}, "model_groups is not a list"),
        ({"model_groups": None}, "model_groups is not a list"),
        ({"model_groups": [7]}, r"model_groups\[0\] is not an object"),
        ({"model_groups": [GROUP, {"models": []}]}, r"model_groups\[1\].id in the answer to GET .* is None, which is"),
        ({"model_groups": [{"id": "g1"}]}, r"model_groups\[0\].models is not a list"),
        ({"model_groups": [GROUP | {"models": [{"id": "m1"}]}]}, r"models\[0\].version is not a whole number"),
        ({"model_groups": [GROUP | {"models": [MODEL | {"version": "2"}]}]}, r"models\[0\].version is not a whole"),
        ({"model_groups": [GROUP | {"models": [MODEL | {"version": 10**30}]}]}, r"models\[0\].version is not"),
        ({"model_groups": [GROUP | {"id": "../../x"}]}, "'../../x', which is no id of Geti's"),
        ({"model_groups": [GROUP | {"id": "a" * 129}]}, "which is no id of Geti's"),
        ({"model_groups": [GROUP | {"id": "a\n"}]}, "which is no id of Geti's"),
    ],
)
def test_a_listing_that_is_not_as_it_should_be_is_an_error_that_says_where(
    server: Server, geti: GetiServer, body: Any, place: str
) -> None:
    geti.fail("model_groups", status=200, body=body)

    with pytest.raises(GetiRefused, match=place):
        server.groups(Seen(id="p1", name="p1"))


def test_what_may_be_missing_may_be_missing(server: Server, geti: GetiServer) -> None:
    geti.fail("model_groups", status=200, body={"model_groups": [GROUP]})
    details = {"id": "m1", "version": 1, "optimized_models": [{"id": "o1", "version": 1}]}
    geti.fail("model", status=200, body=details)
    geti.fail("projects", status=200, body={"projects": [PROJECT], "project_counts": 1})

    (project,) = server.projects()
    (group,) = server.groups(project)
    model = server.details(project, group.id, group.models[0].id)

    assert (project.name, group.name, group.models[0].name) == ("p1", "g1", "g1")
    assert (model.name, model.labels, model.training_framework) == ("m1", (), None)
    assert model.optimized[0].precision == ()
    assert not model.optimized[0].is_openvino


def test_halves_of_characters_do_not_spoil_a_name(server: Server, geti: GetiServer) -> None:
    body = b'{"projects": [{"id": "p1", "name": "a\\ud83db", "pipeline": {"tasks": []}}], "project_counts": 1}'
    geti.fail("projects", status=200, body=body, headers={"Content-Type": "application/json"})

    assert server.projects()[0].name == "a?b"


@pytest.mark.parametrize("text", ["../x", "a/b", "", "a b", "é", "a" * 129, "%2e%2e"])
def test_no_path_is_made_of_an_id_that_is_none(server: Server, geti: GetiServer, text: str) -> None:
    server.projects()
    geti.forget()
    strange = Seen(id=text, name="x")

    with pytest.raises(GetiRefused, match="no id of Geti's"):
        server.project(text)
    with pytest.raises(GetiRefused, match="The id of the project"):
        server.groups(strange)
    with pytest.raises(GetiRefused, match="The id of the model"):
        server.details(Seen(id="p1", name="x"), "g1", text)

    assert not geti.requests


def test_an_error_in_the_middle_is_an_error_and_no_short_list(server: Server, geti: GetiServer) -> None:
    geti.world.populate(projects=150)
    server.projects()
    geti.fail("projects", 401, after=1)

    with pytest.raises(GetiUnauthorized):
        server.projects()


def test_a_login_page_in_the_middle_is_no_list(server: Server, geti: GetiServer) -> None:
    server.projects()
    geti.fail("projects", "html")

    with pytest.raises(NotGeti):
        server.projects()
