"""`/sync` and `/imports`: a run is begun, watched and told of; what is in the way of Geti is named."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from chalice.test import HTTPResponse

from chalicelib.geti.errors import GetiUnauthorized
from chalicelib.geti.states import MAX_TOLD, Counts, ImportedModel, Item, Lease, Memory, Order, Run, Told
from chalicelib.registry.access import Access, Actor, Project
from chalicelib.wiring import granting
from chalicelib.wiring_geti import sync_store
from tests.surfaces.conftest import Json, Service
from tests.surfaces.geti import GETI_TOKEN, VISION, GetiStage

KEY = "8e03978e-40d5-43dd-bc93-6894a57f9324"
NOT_CONFIGURED = "Geti is not configured: set GETI_HOST and GETI_TOKEN."
SHORTLY = timedelta(minutes=5)


def start(service: Service, key: str | None = None, **body: Any) -> HTTPResponse:
    headers = {"Content-Type": "application/json"} | ({"Idempotency-Key": key} if key else {})
    return service.request("POST", "/sync", headers, data=json.dumps(body))


def status(service: Service) -> Json:
    answer = service.request("GET", "/sync")
    assert answer.status_code == 200
    return dict(answer.json_body)


def leased(run_id: str) -> tuple[Lease, Run, Memory]:
    now = datetime.now(UTC)
    return sync_store().lease(run_id, now, now + SHORTLY)


def looked(run_id: str, change: Callable[[Run], Run] = lambda run: run, *items: Item) -> None:
    """As the function that syncs does it: the run has looked through Geti, and queued these."""
    lease, run, memory = leased(run_id)
    for item in items:
        sync_store().queue(lease, item)
    sync_store().release(lease, change(run.model_copy(update={"has_looked": True})), memory)


def test_a_run_is_begun_elsewhere_and_told_of(geti: GetiStage, service: Service) -> None:
    answer = start(service, dry_run=True, full=True)

    run_id = answer.json_body["run_id"]
    assert (answer.status_code, answer.headers["Location"]) == (202, "sync")
    assert geti.work.runs == [run_id]
    told = status(service)
    assert (told["state"], told["last_run"]) == ("running", None)
    assert {name: told["run"][name] for name in ("run_id", "dry_run", "full", "finished_at", "outcome")} == {
        "run_id": run_id,
        "dry_run": True,
        "full": True,
        "finished_at": None,
        "outcome": None,
    }


def test_before_the_first_run_there_is_none(geti: GetiStage, service: Service) -> None:
    assert status(service) == {"state": "idle", "last_run": None, "run": None}


def test_while_a_run_goes_on_there_is_no_other(geti: GetiStage, service: Service) -> None:
    leased(start(service).json_body["run_id"])

    answer = start(service)

    assert (answer.status_code, answer.json_body["code"]) == (409, "sync_running")
    assert "wait for its end" in answer.json_body["detail"]
    assert len(geti.work.runs) == 1


def test_a_run_that_has_ended_is_told_as_the_last_one(geti: GetiStage, service: Service) -> None:
    run_id = start(service).json_body["run_id"]
    counts = Counts(seen=9, new=1, skipped=7, failed=1, marked=2)
    told = {"counts": counts, "skipped": (Told(id="m-1", why="old"),), "failed": (Told(id="m-2", why="no"),)}
    looked(run_id, lambda run: run.model_copy(update={**told, "requests": 12}))
    sync_store().finish(datetime.now(UTC))

    answer = status(service)

    run = answer["last_run"]
    assert (answer["state"], answer["run"]) == ("idle", None)
    assert run.pop("started_at") <= run.pop("finished_at")
    assert run == {
        "run_id": run_id,
        "outcome": "partial",
        "dry_run": False,
        "full": False,
        "counts": {"seen": 9, "new": 1, "imported": 0, "skipped": 7, "failed": 1, "marked": 2},
        "outstanding": 0,
        "requests": 12,
        "skipped": [{"id": "m-1", "why": "old"}],
        "failed": [{"id": "m-2", "why": "no"}],
    }


def test_a_run_whose_imports_go_on_is_told_with_its_counts_so_far(geti: GetiStage, service: Service) -> None:
    run_id = start(service).json_body["run_id"]
    items = [Item(project_id="p", group_id="g", base_model_id="b", model_id=f"model-{one}") for one in range(3)]
    looked(run_id, lambda run: run.model_copy(update={"counts": Counts(seen=3, new=3)}), *items)
    for item, outcome in zip(items, ("registered", "failed"), strict=False):
        order = Order(server_id="geti.test", project_id="p", group_id="g", model_id=item.model_id)
        now = datetime.now(UTC)
        held = sync_store().claim(order, "b", "worker", now, now + SHORTLY)
        assert held
        done = ImportedModel(id=item.model_id, outcome=outcome, why="no" if outcome == "failed" else None)
        sync_store().settle(held, "worker", order, done)

    run = status(service)["run"]

    assert (run["counts"]["imported"], run["counts"]["failed"], run["outstanding"]) == (1, 1, 1)
    assert run["failed"] == [{"id": "model-1", "why": "no"}]


def test_while_a_run_goes_on_the_one_before_it_is_told_too(geti: GetiStage, service: Service) -> None:
    first = start(service).json_body["run_id"]
    looked(first, lambda run: run.model_copy(update={"counts": Counts(seen=3)}))
    sync_store().finish(datetime.now(UTC))

    second = start(service).json_body["run_id"]

    told = status(service)
    assert (told["state"], told["run"]["run_id"], told["last_run"]["run_id"]) == ("running", second, first)
    assert (told["last_run"]["outcome"], told["last_run"]["counts"]["seen"]) == ("ok", 3)


def test_no_more_than_a_hundred_are_named(geti: GetiStage, service: Service) -> None:
    run_id = start(service).json_body["run_id"]
    many = tuple(Told(id=f"m-{number}", why="old") for number in range(MAX_TOLD))
    looked(run_id, lambda run: run.model_copy(update={"counts": Counts(skipped=500), "skipped": many}))

    run = status(service)["run"]

    assert (run["counts"]["skipped"], len(run["skipped"])) == (500, 100)


def test_a_run_that_is_asked_for_with_a_key_is_begun_once(geti: GetiStage, service: Service) -> None:
    first = start(service, KEY)
    looked(first.json_body["run_id"])
    sync_store().finish(datetime.now(UTC))

    again, other = start(service, KEY), start(service, KEY, full=True)

    assert (again.status_code, again.json_body) == (202, first.json_body)
    assert (other.status_code, other.json_body["code"]) == (422, "idempotency_key_reused")
    assert len(geti.work.runs) == 1


@pytest.mark.parametrize("body", [{"dry_run": "yes"}, {"full": 1}, {"dry": True}])
def test_what_is_no_wish_is_refused(geti: GetiStage, service: Service, body: Json) -> None:
    answer = start(service, **body)

    assert (answer.status_code, answer.json_body["code"]) == (422, "unprocessable")
    assert geti.work.runs == []


def test_a_function_that_cannot_be_started_is_said(geti: GetiStage, service: Service) -> None:
    geti.work.is_down = True

    answer = start(service)

    assert (answer.status_code, answer.json_body["code"]) == (503, "unavailable")
    assert int(answer.headers["Retry-After"]) > 0


def test_without_a_server_it_is_said_what_to_set(service: Service) -> None:
    for answer in (start(service), service.request("GET", "/sync")):
        assert (answer.status_code, answer.json_body["code"]) == (503, "not_configured")
        assert answer.json_body["detail"] == NOT_CONFIGURED


@pytest.mark.parametrize("access", ["token"])
def test_limits_shut_out_from_the_sync(geti: GetiStage, service: Service) -> None:
    limits = Access(projects=(Project(id=VISION, name="vision"),))
    headers = {"Authorization": f"Bearer {granting().create('limited', limits, None, Actor())[1]}"}

    answers = [service.request("GET", path, headers) for path in ("/sync", "/sync/checks")]
    answers.append(service.request("POST", "/sync", {**headers, "Content-Type": "application/json"}, data="{}"))

    assert [answer.status_code for answer in answers] == [403] * 3
    assert all("without limits" in answer.json_body["detail"] for answer in answers)


def checks(service: Service) -> list[tuple[str, bool]]:
    answer = service.request("GET", "/sync/checks")
    assert answer.status_code == 200
    assert GETI_TOKEN not in answer.body.decode()
    return [(check["check"], check["ok"]) for check in answer.json_body]


def test_the_way_to_geti_is_checked(geti: GetiStage, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("queue", "settings", "token", "reach", "server", "workspace", "projects", "rights", "selection")

    found = checks(service)

    assert found == [(name, name != "queue") for name in names]


def test_what_is_in_the_way_ends_the_checks(geti: GetiStage, service: Service) -> None:
    geti.server.failures["projects",] = GetiUnauthorized("401")

    found = service.request("GET", "/sync/checks").json_body

    assert [check["check"] for check in found][-1] == "projects"
    assert found[-1]["ok"] is False
    assert "personal access token" in found[-1]["fix"]


def test_without_a_server_the_checks_say_what_to_set(service: Service) -> None:
    assert checks(service) == [("queue", False), ("settings", False)]


@pytest.mark.parametrize("import_id", ["other", "x" * 129, "%2e%2e", "a%20b"])
def test_an_import_that_is_not_there_is_said(service: Service, import_id: str) -> None:
    answer = service.request("GET", f"/imports/{import_id}")

    assert (answer.status_code, answer.json_body["code"]) == (404, "not_found")
    assert answer.json_body["detail"] == "There is no such import; it is forgotten after 7 days."
