"""Projects, imports and the sync of a Geti server in the SDK."""

import json
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from modelreg import (
    Conflict,
    Forbidden,
    GetiProject,
    Import,
    ImportedModel,
    InvalidInput,
    NotARegistry,
    NotFound,
    Registry,
    SyncRun,
    Unavailable,
)

from tests.client.conftest import Waits
from tests.client.fake_registry import FakeRegistry, problem

NOTE = "Note: Only OpenVINO optimized active models are supported at this time.\n"
MODELS = [{"id": "m1", "name": "YOLOX-S OpenVINO FP16"}, {"id": "m2", "name": "YOLOX-S OpenVINO INT8"}]
PROJECT = {
    "id": "p1",
    "name": "Bottle caps",
    "creation_time": "2026-01-01T09:00:00.000000+00:00",
    "model_groups": [
        {
            "id": "g1",
            "name": "YOLOX-S",
            "model_versions": [
                {"id": "b1", "name": "YOLOX-S", "version": 1, "openvino_models": []},
                {"id": "b2", "name": "YOLOX-S", "version": 2, "openvino_models": MODELS},
            ],
        }
    ],
}
DOWNLOAD = "/projects/p1/geti-models/download"
RUN: dict[str, Any] = {
    "run_id": "r1",
    "started_at": "2026-01-02T03:04:05.000000Z",
    "finished_at": None,
    "outcome": None,
    "dry_run": False,
    "full": False,
    "counts": {"seen": 3, "new": 1, "imported": 0, "skipped": 2, "failed": 0, "marked": 0},
    "outstanding": 1,
    "requests": 7,
    "skipped": [{"id": "m3", "why": "it is not in OpenVINO format"}],
    "failed": [],
}


def text(status: int, body: str, **headers: str) -> httpx.Response:
    return httpx.Response(status, text=body, headers=headers)


def an_import(state: str = "done", **outcomes: str) -> httpx.Response:
    models = [
        {"id": one, "outcome": outcome, "why": "no" if outcome == "failed" else None}
        for one, outcome in outcomes.items()
    ]
    return httpx.Response(200, json={"state": state, "models": models})


def imported(fake: FakeRegistry, *statuses: httpx.Response, status: int = 201) -> None:
    """The registry begins an import, whose state is then this in turn."""
    fake.fail("POST", DOWNLOAD, text(status, "Model(s): m1 registered.\n", Location="../../../imports/i1"))
    fake.fail("GET", "/imports/i1", *statuses)


def sent(fake: FakeRegistry) -> list[Any]:
    return [json.loads(request.content) for request in fake.calls("POST", DOWNLOAD)]


def test_projects_are_listed_with_what_can_be_imported(registry: Registry, fake: FakeRegistry) -> None:
    fake.fail("GET", "/projects", httpx.Response(200, json=[PROJECT]))

    [project] = registry.projects()

    assert (project.id, project.name) == ("p1", "Bottle caps")
    assert [(one.id, one.version, one.group_id, one.group_name) for one in project.importable()] == [
        ("m1", 2, "g1", "YOLOX-S"),
        ("m2", 2, "g1", "YOLOX-S"),
    ]


def test_one_project_is_asked_for_by_its_id(registry: Registry, fake: FakeRegistry) -> None:
    fake.fail("GET", "/projects/p1", httpx.Response(200, json=PROJECT))

    assert registry.project("p1").model_groups[0].model_versions[1].openvino_models[0].id == "m1"


def test_models_are_imported_with_their_groups(registry: Registry, fake: FakeRegistry) -> None:
    imported(fake, an_import(m1="registered"))

    done = registry.import_models("p1", [("m1", "g1")])

    assert done == Import(id="i1", state="done", models=[ImportedModel(id="m1", outcome="registered")])
    assert sent(fake) == [{"models": [{"id": "m1", "group_id": "g1"}]}]
    assert fake.calls("GET", "/projects/p1") == []


def test_a_group_that_is_not_said_is_looked_up(registry: Registry, fake: FakeRegistry) -> None:
    fake.fail("GET", "/projects/p1", httpx.Response(200, json=PROJECT))
    imported(fake, an_import(m2="registered", x="registered"))

    registry.import_models("p1", ["m2", ("x", "g2")])

    assert sent(fake) == [{"models": [{"id": "m2", "group_id": "g1"}, {"id": "x", "group_id": "g2"}]}]


def test_a_project_that_is_known_is_not_asked_for_again(registry: Registry, fake: FakeRegistry) -> None:
    imported(fake, an_import(m1="registered"))

    registry.import_models(GetiProject(**PROJECT), ["m1"])

    assert sent(fake) == [{"models": [{"id": "m1", "group_id": "g1"}]}]
    assert fake.calls("GET", "/projects/p1") == []


def test_a_model_that_is_not_listed_is_not_found(registry: Registry) -> None:
    with pytest.raises(NotFound, match="m9, m8 cannot be imported from this project"):
        registry.import_models(GetiProject(**PROJECT), ["m1", "m9", "m8"])


def test_an_import_is_waited_for(registry: Registry, fake: FakeRegistry, waits: Waits) -> None:
    imported(fake, an_import("running", m1="pending"), an_import("running", m1="pending"), an_import(m1="failed"))

    done = registry.import_models("p1", [("m1", "g1")])

    assert [(one.id, one.why) for one in done.failed] == [("m1", "no")]
    assert waits.seconds == [2, 2]


def test_an_import_is_not_waited_for_if_that_is_not_wanted(registry: Registry, fake: FakeRegistry) -> None:
    imported(fake, an_import("running", m1="pending"), status=202)

    begun = registry.import_models("p1", [("m1", "g1")], wait=False)

    assert (begun.id, begun.state) == ("i1", "running")


def test_an_import_whose_answer_is_lost_is_repeated_as_the_same(
    registry: Registry, fake: FakeRegistry, waits: Waits
) -> None:
    fake.fail("POST", DOWNLOAD, httpx.ReadError("connection reset"), None)
    fake.fail("POST", DOWNLOAD, text(201, "Model(s): m1 registered.\n", Location="https://registry.test/imports/i1"))
    fake.fail("GET", "/imports/i1", an_import(m1="registered"))

    registry.import_models("p1", [("m1", "g1")])

    keys = [request.headers["Idempotency-Key"] for request in fake.calls("POST", DOWNLOAD)]
    assert (len(keys), len(set(keys))) == (2, 1)


def test_what_cannot_be_registered_is_a_value_that_breaks_a_rule(registry: Registry, fake: FakeRegistry) -> None:
    said = f"Model(s): m1 can not be registered.\n{NOTE}m1: it is not in OpenVINO format.\n"
    fake.fail("POST", DOWNLOAD, text(403, said))

    with pytest.raises(InvalidInput, match="m1: it is not in OpenVINO format") as refused:
        registry.import_models("p1", [("m1", "g1")])

    assert refused.value.code == "not_importable"
    assert "geti show" in refused.value.hint


def test_a_role_that_is_too_low_stays_what_it_is(registry: Registry, fake: FakeRegistry) -> None:
    fake.fail("POST", DOWNLOAD, httpx.Response(403, json={"detail": "This needs a token of role publisher."}))

    with pytest.raises(Forbidden, match="role publisher"):
        registry.import_models("p1", [("m1", "g1")])


def test_what_is_registered_already_is_a_conflict(registry: Registry, fake: FakeRegistry) -> None:
    fake.fail("POST", DOWNLOAD, text(409, "Model(s): m1, m2 is already registered. No model(s) registered.\nTip: x\n"))

    with pytest.raises(Conflict) as refused:
        registry.import_models("p1", [("m1", "g1"), ("m2", "g1")])

    assert (refused.value.code, refused.value.holder) == ("already_registered", "m1")


def test_a_project_that_is_not_there_is_not_found(registry: Registry, fake: FakeRegistry) -> None:
    fake.fail("POST", DOWNLOAD, text(404, "Project or model id not found. No model(s) registered.\n"))

    with pytest.raises(NotFound, match="Project or model id not found") as refused:
        registry.import_models("p1", [("m1", "g1")])

    assert "lists what can be imported" in refused.value.hint


def test_an_answer_that_leads_nowhere_is_no_registrys(registry: Registry, fake: FakeRegistry) -> None:
    fake.fail("POST", DOWNLOAD, text(201, "Model(s): m1 registered.\n"))

    with pytest.raises(NotARegistry):
        registry.import_models("p1", [("m1", "g1")])


@pytest.mark.parametrize(("status", "code"), [(502, "geti_unauthorized"), (502, "not_geti"), (503, "not_configured")])
def test_what_does_not_mend_itself_is_asked_once(
    registry: Registry, fake: FakeRegistry, status: int, code: str
) -> None:
    fake.fail("GET", "/projects", httpx.Response(status, json={"detail": "said by the registry", "code": code}))

    with pytest.raises(Unavailable, match="said by the registry") as refused:
        registry.projects()

    assert refused.value.code == code
    assert "does not help" in refused.value.hint
    assert len(fake.calls("GET", "/projects")) == 1


def test_a_geti_that_is_busy_is_asked_again(registry: Registry, fake: FakeRegistry, waits: Waits) -> None:
    busy = httpx.Response(503, json={"detail": "busy", "code": "unavailable"}, headers={"Retry-After": "10"})
    fake.fail("GET", "/projects", busy, httpx.Response(200, json=[]))

    assert registry.projects() == []
    assert waits.seconds == [10]


def test_a_sync_is_started(registry: Registry, fake: FakeRegistry) -> None:
    fake.fail("POST", "/sync", httpx.Response(202, json={"run_id": "r1"}, headers={"Location": "sync"}))

    assert registry.start_sync(dry_run=True) == "r1"
    [request] = fake.calls("POST", "/sync")
    assert json.loads(request.content) == {"dry_run": True, "full": False}
    assert request.headers["Idempotency-Key"]


def test_a_sync_that_goes_on_is_a_conflict(registry: Registry, fake: FakeRegistry) -> None:
    fake.fail("POST", "/sync", problem(409, "sync_running", detail="A sync is going on: wait for its end."))

    with pytest.raises(Conflict, match="wait for its end") as refused:
        registry.start_sync()

    assert (refused.value.code, refused.value.holder) == ("sync_running", None)
    assert "geti status" in refused.value.hint


def test_a_run_is_told_with_its_counts_and_times(registry: Registry, fake: FakeRegistry) -> None:
    fake.fail("GET", "/sync", httpx.Response(200, json={"state": "running", "last_run": None, "run": RUN}))

    status = registry.sync_status()

    assert status.run is not None
    assert status.run.started_at == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert (status.run.counts.seen, status.run.outstanding) == (3, 1)
    assert status.run.skipped[0].why == "it is not in OpenVINO format"


def test_a_run_is_waited_for(registry: Registry, fake: FakeRegistry, waits: Waits) -> None:
    done = {**RUN, "outcome": "ok", "finished_at": "2026-01-02T03:05:05.000000Z", "outstanding": 0}
    running = httpx.Response(200, json={"state": "running", "last_run": None, "run": RUN})
    idle = httpx.Response(200, json={"state": "idle", "last_run": done, "run": None})
    fake.fail("GET", "/sync", running, idle)

    run = registry.wait_for_sync("r1")

    assert isinstance(run, SyncRun)
    assert (run.outcome, waits.seconds) == ("ok", [2])


@pytest.mark.parametrize("run", [None, {**RUN, "run_id": "r2"}])
def test_a_run_that_another_one_has_followed_is_not_found(
    registry: Registry, fake: FakeRegistry, run: dict[str, Any] | None
) -> None:
    fake.fail("GET", "/sync", httpx.Response(200, json={"state": "idle", "last_run": run, "run": None}))

    with pytest.raises(NotFound, match="another one has followed"):
        registry.wait_for_sync("r1")


def test_checks_are_told_with_what_to_do(registry: Registry, fake: FakeRegistry) -> None:
    told = [
        {"check": "queue", "ok": True, "found": "There is one.", "fix": None},
        {"check": "reach", "ok": False, "found": "No route.", "fix": "Check GETI_HOST."},
    ]
    fake.fail("GET", "/sync/checks", httpx.Response(200, json=told))

    queue, reach = registry.geti_checks()

    assert (queue.ok, queue.fix) == (True, None)
    assert (reach.check, reach.ok, reach.fix) == ("reach", False, "Check GETI_HOST.")
