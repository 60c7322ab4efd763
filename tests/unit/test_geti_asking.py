"""What callers ask of Geti: complete lists, narrowed to what they see, and imports that are checked before."""

import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest

from chalicelib.geti.asking import (
    AlreadyRegistered,
    Asking,
    NotImportable,
    Wanted,
    seen_import,
    told_to,
    watch,
)
from chalicelib.geti.errors import GetiBusy, GetiError, GetiForbidden, GetiGone, GetiUnauthorized
from chalicelib.geti.states import Import, ImportedModel, Order
from chalicelib.registry.access import Access, Actor, Project, Role
from chalicelib.registry.errors import NotFound, Unavailable
from tests.conftest import ALICE, Clock, ulids
from tests.geti_memory import ImportsInMemory, WorkInMemory
from tests.geti_server import GetiServer, group, openvino, trained

CAPS, LIDS = Project(id="caps", name="Bottle caps"), Project(id="lids", name="Lids")
BASE = "YOLOX-S OpenVINO "


class Catalog:
    """Which ids are registered."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    def versions(self, model_ids: Sequence[str]) -> list[Any]:
        return [type("Version", (), {"id": one}) for one in model_ids if one in self.ids]


class Stage:
    def __init__(self, is_flat: bool, seconds: float = 5) -> None:
        self.server = GetiServer(is_flat)
        fp16, int8 = openvino("caps-fp16"), openvino("caps-int8", f"{BASE}INT8", precision=("INT8",))
        onnx = openvino("caps-onnx", "YOLOX-S ONNX FP32", format="ONNX")
        training = openvino("caps-next", f"{BASE}INT8", precision=(), status="NOT_READY")
        self.server.add(
            "caps",
            "Bottle caps",
            group(
                "caps-yolox",
                "YOLOX-S",
                trained("caps-v1", openvino("caps-old"), is_purged=True),
                trained("caps-v2", fp16, int8, onnx, training, version=2),
            ),
            group("caps-prompt", "SAM", trained("caps-sam", name="SAM"), is_importable=False),
        )
        self.server.add(
            "lids",
            "Lids",
            group("lids-atss", "ATSS", trained("lids-v1", openvino("lids-fp16", "ATSS OpenVINO FP16"), name="ATSS")),
        )
        self.server.add("none", "Nothing yet")
        self.catalog, self.imports, self.work = Catalog(), ImportsInMemory(), WorkInMemory()
        self.asking = Asking(
            self.server,
            "geti.test",
            self.catalog,  # type: ignore[arg-type]
            self.imports,
            self.work,
            Clock(),
            ulids(),
            seconds,
        )

    def ask(self, *model_ids: str, by: Actor = ALICE, project: str = "caps", **more: str) -> Import:
        return self.asking.ask(project, [Wanted(one, "caps-yolox") for one in model_ids], by, **more)


@pytest.fixture(params=[False, True], ids=["geti 2", "geti 3"])
def stage(request: pytest.FixtureRequest) -> Stage:
    return Stage(request.param)


def limited(*projects: Project, prefixes: tuple[str, ...] | None = None) -> Actor:
    return Actor(name="limited", access=Access(role=Role.PUBLISHER, projects=projects or None, name_prefixes=prefixes))


def models_of(listed: Any) -> list[str]:
    return [
        model.id for one in listed.model_groups for version in one.model_versions for model in version.openvino_models
    ]


def test_all_projects_are_listed_with_what_can_be_imported(stage: Stage) -> None:
    found = stage.asking.projects(ALICE)

    assert [(one.id, one.name, models_of(one)) for one in found] == [
        ("caps", "Bottle caps", ["caps-fp16", "caps-int8"]),
        ("lids", "Lids", ["lids-fp16"]),
        ("none", "Nothing yet", []),
    ]
    yolox, sam = found[0].model_groups
    assert [(one.id, one.version, len(one.openvino_models)) for one in yolox.model_versions] == [
        ("caps-v1", 1, 0),
        ("caps-v2", 2, 2),
    ]
    assert [one.id for one in sam.model_versions] == ["caps-sam"]


def test_geti_2_is_asked_for_the_groups_of_each_project_and_for_what_can_have_models() -> None:
    stage = Stage(is_flat=False)

    stage.asking.projects(ALICE)

    groups = [("groups", one) for one in ("caps", "lids", "none")]
    details = [("details", one) for one in ("caps-v2", "lids-v1")]
    assert sorted(stage.server.asked) == [*details, *groups, ("projects",)]


def test_geti_3_is_asked_for_the_groups_of_each_project_only() -> None:
    stage = Stage(is_flat=True)

    stage.asking.projects(ALICE)

    assert sorted(stage.server.asked) == [("groups", "caps"), ("groups", "lids"), ("groups", "none"), ("projects",)]


def test_one_project_is_told_as_in_the_list(stage: Stage) -> None:
    assert stage.asking.project("caps", ALICE) == stage.asking.projects(ALICE)[0]


def test_a_project_that_is_not_there_is_not_found(stage: Stage) -> None:
    with pytest.raises(NotFound, match="Project not found"):
        stage.asking.project("other", ALICE)


def test_a_caller_of_a_project_sees_that_one_and_no_other_is_asked_about(stage: Stage) -> None:
    by = limited(CAPS)

    found = stage.asking.projects(by)
    with pytest.raises(NotFound, match=r"^Project not found$"):
        stage.asking.project("lids", by)

    assert [one.id for one in found] == ["caps"]
    assert not [what for what in stage.server.asked if "lids" in what or "lids-v1" in what]


@pytest.mark.parametrize("limit", [Project(id="caps", name="Lids"), Project(name="Bottle caps"), Project(id="caps")])
def test_a_limit_is_the_id_and_the_name_of_a_project_together(stage: Stage, limit: Project) -> None:
    assert list(stage.asking.projects(limited(limit))) == []
    with pytest.raises(NotFound):
        stage.asking.project("caps", limited(limit))


def test_a_caller_of_names_sees_only_what_holds_such_a_model(stage: Stage) -> None:
    by = limited(prefixes=(f"{BASE}INT",))

    [found] = stage.asking.projects(by)

    assert (found.id, models_of(found)) == ("caps", ["caps-int8"])
    assert [[one.id for one in group.model_versions] for group in found.model_groups] == [["caps-v2"]]
    for project_id in ("lids", "none", "other"):
        with pytest.raises(NotFound, match=r"^Project not found$"):
            stage.asking.project(project_id, by)


@pytest.mark.parametrize("failure", [GetiGone("gone", "project_not_found"), GetiForbidden("no")])
def test_a_project_that_geti_lists_and_does_not_show_is_left_out(stage: Stage, failure: GetiError) -> None:
    stage.server.failures["groups", "lids"] = failure

    assert [one.id for one in stage.asking.projects(ALICE)] == ["caps", "none"]


def test_a_version_that_goes_away_meanwhile_is_left_out() -> None:
    stage = Stage(is_flat=False)
    stage.server.failures["details", "caps-v2"] = GetiGone("gone", "model_not_found")

    found = stage.asking.project("caps", ALICE)

    assert [one.id for one in found.model_groups[0].model_versions] == ["caps-v1"]


@pytest.mark.parametrize("failure", [GetiUnauthorized("401"), GetiBusy("503")])
@pytest.mark.parametrize("what", [("projects",), ("groups", "lids"), ("details", "lids-v1")])
def test_a_list_that_cannot_be_complete_is_an_error(what: tuple[str, ...], failure: GetiError) -> None:
    stage = Stage(is_flat=False)
    stage.server.failures[what] = failure

    with pytest.raises(type(failure)):
        stage.asking.projects(ALICE)


def test_a_list_that_takes_too_long_is_an_error_that_says_to_ask_for_one_project() -> None:
    stage, let_go = Stage(is_flat=False, seconds=0.05), threading.Event()
    stage.server.groups = lambda project: let_go.wait(5) and ()  # type: ignore[method-assign, assignment]

    with pytest.raises(GetiBusy, match="Ask for one project"):
        stage.asking.projects(ALICE)
    let_go.set()


def test_models_are_queued_for_who_asked_and_the_request_is_kept(stage: Stage) -> None:
    asked = stage.ask("caps-fp16", "caps-int8")

    assert stage.imports.get(asked.id) == asked
    assert (asked.project_id, asked.project_name, asked.is_done) == ("caps", "Bottle caps", False)
    assert stage.work.orders == [
        (
            Order(
                server_id="geti.test",
                project_id="caps",
                group_id="caps-yolox",
                model_id=model_id,
                import_id=asked.id,
                by=ALICE,
            ),
            0,
        )
        for model_id in ("caps-fp16", "caps-int8")
    ]


@pytest.mark.parametrize(
    ("project", "wanted"),
    [
        ("other", Wanted("caps-fp16", "caps-yolox")),
        ("caps", Wanted("other", "caps-yolox")),
        ("caps", Wanted("caps-fp16", "other")),
        ("caps", Wanted("caps-fp16", "caps-prompt")),
        ("caps", Wanted("lids-fp16", "lids-atss")),
    ],
    ids=["no such project", "no such model", "no such group", "another group", "another project"],
)
def test_of_what_is_not_there_nothing_is_imported(stage: Stage, project: str, wanted: Wanted) -> None:
    with pytest.raises(NotFound, match=r"^Project or model id not found. No model\(s\) registered\.$"):
        stage.asking.ask(project, [Wanted("caps-int8", "caps-yolox"), wanted], ALICE)

    assert stage.work.orders == []


def test_what_cannot_be_imported_is_named_with_why(stage: Stage) -> None:
    with pytest.raises(NotImportable) as refused:
        stage.ask("caps-fp16", "caps-onnx", "caps-old", "caps-next", "caps-v2")

    assert refused.value.whys == {
        "caps-onnx": "it is not in OpenVINO format",
        "caps-old": "its files were deleted in Geti",
        "caps-next": "Geti is not done with it; it is looked at again",
        "caps-v2": "it is a trained version: name one of its OpenVINO models",
    }
    assert stage.work.orders == []


def test_what_is_registered_already_is_named(stage: Stage) -> None:
    stage.catalog.ids = ["caps-int8"]

    with pytest.raises(AlreadyRegistered) as refused:
        stage.ask("caps-fp16", "caps-int8")

    assert refused.value.ids == ["caps-int8"]
    assert stage.work.orders == []


def test_a_caller_of_another_project_is_told_what_one_that_is_not_there_is(stage: Stage) -> None:
    with pytest.raises(NotFound) as hidden:
        stage.ask("caps-fp16", by=limited(LIDS))
    with pytest.raises(NotFound) as absent:
        stage.ask("caps-fp16", by=limited(LIDS), project="other")

    assert str(hidden.value) == str(absent.value)
    assert stage.server.asked == []


@pytest.mark.parametrize("model_id", ["caps-fp16", "caps-onnx", "caps-old", "caps-v2", "other"])
def test_a_caller_of_names_is_told_of_no_other(stage: Stage, model_id: str) -> None:
    stage.catalog.ids = ["caps-fp16"]
    by = limited(prefixes=(f"{BASE}INT",))

    with pytest.raises(NotFound, match=r"^Project or model id not found"):
        stage.ask(model_id, by=by)
    stage.ask("caps-int8", by=by)

    assert [order.model_id for order, _ in stage.work.orders] == ["caps-int8"]


def test_a_request_that_is_repeated_is_the_same_one_and_what_waits_is_queued_again(stage: Stage) -> None:
    first = stage.ask("caps-fp16", "caps-int8", import_id="the-import")
    stage.imports.settle(first.id, ImportedModel(id="caps-fp16", outcome="registered"))
    stage.catalog.ids = ["caps-fp16"]

    again = stage.ask("caps-fp16", "caps-int8", import_id="the-import")

    assert (first.id, again.id) == ("the-import", "the-import")
    assert [order.model_id for order, _ in stage.work.orders] == ["caps-fp16", "caps-int8", "caps-int8"]


def test_if_nothing_can_be_queued_it_is_said(stage: Stage) -> None:
    stage.work.is_down = True

    with pytest.raises(Unavailable, match="queue"):
        stage.ask("caps-fp16", "caps-int8")


def test_what_could_not_be_queued_beside_others_has_failed(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = stage.work.queue

    def queue_one(order: Order, delay_seconds: int = 0) -> None:
        queue(order, delay_seconds)
        stage.work.is_down = True

    monkeypatch.setattr(stage.work, "queue", queue_one)

    asked = stage.ask("caps-fp16", "caps-int8")

    outcomes = {model.id: (model.outcome, model.why) for model in stage.imports.get(asked.id).models}
    assert outcomes == {
        "caps-fp16": ("pending", None),
        "caps-int8": ("failed", "it could not be put into the queue; ask for it again"),
    }


@pytest.fixture
def ticks() -> Iterator[float]:
    return (float(second) for second in count())


def test_a_watch_ends_when_all_have_an_outcome(stage: Stage, ticks: Iterator[float]) -> None:
    asked, slept = stage.ask("caps-fp16"), []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            stage.imports.settle(asked.id, ImportedModel(id="caps-fp16", outcome="registered"))

    seen = watch(stage.imports, asked.id, 20, sleep, lambda: next(ticks))

    assert (seen.is_done, len(slept)) == (True, 3)


@pytest.mark.parametrize(("seconds", "looks"), [(3, 3), (0, 1), (-5, 1)])
def test_a_watch_ends_when_its_time_is_over(stage: Stage, ticks: Iterator[float], seconds: float, looks: int) -> None:
    asked, slept = stage.ask("caps-fp16"), []

    seen = watch(stage.imports, asked.id, seconds, slept.append, lambda: next(ticks))

    assert (seen.is_done, len(slept)) == (False, looks - 1)


def test_an_import_is_seen_by_who_sees_its_project(stage: Stage) -> None:
    asked = stage.ask("caps-fp16")

    assert seen_import(asked, limited(CAPS)) == seen_import(asked, ALICE) == asked
    with pytest.raises(NotFound, match="no such import"):
        seen_import(asked, limited(LIDS))


def test_limits_are_of_the_names_that_models_get_here() -> None:
    stage = Stage(is_flat=False)
    stage.server.add("odd", "\x07Odd\n", group("g", "G", trained("b", openvino("odd-1", "A\x1bB"))))
    by = limited(Project(id="odd", name="Odd"), prefixes=("AB",))

    asked = stage.asking.ask("odd", [Wanted("odd-1", "g")], by)

    assert models_of(stage.asking.project("odd", by)) == ["odd-1"]
    assert seen_import(asked, by) == asked


def test_a_project_that_geti_does_not_let_its_user_read_is_not_said_to_be_missing(stage: Stage) -> None:
    stage.server.failures["groups", "caps"] = GetiForbidden("no")

    with pytest.raises(GetiForbidden):
        stage.asking.project("caps", ALICE)


FAILED = Import(
    id="i",
    project_id="caps",
    project_name="Bottle caps",
    asked_at=datetime(2026, 1, 2, tzinfo=UTC),
    models=(
        ImportedModel(id="m1", outcome="failed", why="There are several workspaces: Secret customer"),
        ImportedModel(id="m2"),
        ImportedModel(id="m3", outcome="registered"),
    ),
)


def test_who_is_limited_is_not_told_why_an_import_failed_in_geti() -> None:
    limited = Actor(access=Access(role=Role.VIEWER, projects=(CAPS,)))

    told = told_to(FAILED, limited, FAILED.asked_at)

    assert "Secret" not in told.model_dump_json()
    assert [model.outcome for model in told.models] == ["failed", "pending", "registered"]
    assert told_to(FAILED, ALICE, FAILED.asked_at) == FAILED


def test_what_nothing_was_heard_of_for_a_day_has_failed() -> None:
    told = told_to(FAILED, ALICE, FAILED.asked_at + timedelta(hours=25))

    assert [model.outcome for model in told.models] == ["failed", "failed", "registered"]
    assert "nothing was heard" in (told.models[1].why or "")
