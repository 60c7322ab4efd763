"""Models of Geti come to the registry, over HTTP all the way: a simulated server, the queue, the functions, S3."""

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.e2e.geti_stack import Connected, connected, new_world, until
from tests.simulators.geti import Legacy, Optimized, packages, token_of
from tests.stack import Stack

MEBIBYTE = 1024**2
PART_BYTES = 16 * MEBIBYTE
MAX_FUNCTION_BYTES = 400 * MEBIBYTE  # of 1,024 MiB
# Asked by each new process of a function, and after ten minutes again.
ON_CONNECTING = {"product_info", "token_organization", "workspaces"}
NOTE = "Note: Only OpenVINO optimized active models are supported at this time."
TIP = "Tip: Delete the previously mentioned model(s) or remove the id(s) from the request body then try again."


@pytest.fixture(scope="module")
def both(new_stack: Callable[[], Stack]) -> Iterator[Connected]:
    """A registry and its Geti. What tests leave behind can be imported; whoever counts begins with `settle`."""
    with connected(new_stack(), GETI_ALLOW_LEGACY_DEPLOYMENTS="true") as both:
        yield both


@pytest.fixture
def served(both: Connected) -> Iterator[Connected]:
    geti = both.geti
    world, token = geti.world, geti.token
    yield both
    geti.heal()
    geti.world, geti.token = world, token
    geti.profile, geti.missing_routes = "2.13", set()


def sent(model: Optimized) -> bytes:
    """What Geti deploys."""
    return packages.deployment(model.model.group.project, [model]).read()


def sha256_sent(model: Optimized) -> str:
    digest = hashlib.sha256()
    for chunk in packages.deployment(model.model.group.project, [model]).chunks():
        digest.update(chunk)
    return digest.hexdigest()


def events_of(served: Connected, model: Optimized) -> list[tuple[str, str]]:
    events = served.found(f"/models/{model.id}/events")
    return [(event["action"], event["actor"]["name"]) for event in events]


def sync_event(served: Connected) -> dict[str, Any]:
    """That of the run that ended last."""
    events: list[dict[str, Any]] = served.found("/events?action=sync.finished")
    return events[0]


def test_an_old_client_gets_a_model_registered_and_then_what_geti_sent_to_the_byte(served: Connected):
    model = served.new(score=0.87, active=True)
    project = model.model.group.project

    answer, again = served.ask_for(model), served.ask_for(model)

    assert (answer.status_code, answer.headers["Content-Type"]) == (201, "text/plain; charset=utf-8")
    assert answer.text == f"Model(s): {model.id} registered.\n{NOTE}\n"
    assert served.outcomes(answer) == {model.id: "registered"}
    assert again.status_code == 409
    assert again.text == f"Model(s): {model.id} is already registered. No model(s) registered.\n{TIP}\n"
    record = served.found(f"/models/{model.id}")
    stated = {
        "name": "YOLOX-S OpenVINO FP16",
        "version": "1",
        "project_id": project.id,
        "project_name": project.name,
        "precision": ["fp16"],
        "format": "OpenVINO",
        "origin": "Geti",
        "category": "detection",
        "labels": ["cap"],
        "score": 0.87,
        "size": len(sent(model)),
        "sha256": sha256_sent(model),
    }
    assert {name: record[name] for name in stated} == stated
    files = served.request("GET", f"/models/{model.id}/files")
    assert (files.content, files.headers["Content-Type"]) == (sent(model), "application/zip")
    assert events_of(served, model) == [("version.registered", "anonymous")]


def test_of_several_models_each_is_registered_or_said_why_not(served: Connected):
    trained = served.geti.world.project("Half of it").group("YOLOX-S").train(optimized=["FP16", "FP32"])
    whole, cut = trained["FP16"], trained["FP32"].pack(damage="truncated")

    answer = served.ask_for(whole, cut)
    half, objects = served.found(f"/models/{cut.id}"), objects_of(served, cut)
    cut.pack()
    later = served.ask_for(cut)

    assert answer.status_code == 201
    first, note, second, why = answer.text.splitlines()
    assert (first, note) == (f"Model(s): {whole.id} registered.", NOTE)
    assert second == f"Model(s): {cut.id} can not be registered."
    assert why.startswith(f"{cut.id}: Geti sent a package that may not be stored: ")
    assert served.outcomes(answer) == {whole.id: "registered", cut.id: "failed"}
    assert (half, len(objects)) == (None, 1)
    assert later.text == f"Model(s): {cut.id} registered.\n{NOTE}\n"


def test_the_projects_are_all_listed_with_what_can_be_imported(served: Connected):
    served.geti.world = world = new_world()
    group = (project := world.project("Bottle caps")).group("YOLOX-S")
    purged, trained = group.train(purged=True), group.train()
    trained.optimize("INT8", status="NOT_READY")
    others = world.populate(projects=110)  # more than Geti lists at once

    listed = served.found("/projects")

    importable = [trained[spec] for spec in ("FP16+XAI", "FP32", "FP16")]
    versions = [
        {"id": purged.id, "name": "YOLOX-S", "version": 1, "openvino_models": []},
        {
            "id": trained.id,
            "name": "YOLOX-S",
            "version": 2,
            "openvino_models": [{"id": one.id, "name": one.name} for one in importable],
        },
    ]
    whole = {
        "id": project.id,
        "name": "Bottle caps",
        "creation_time": project.created.isoformat(timespec="microseconds"),
        "model_groups": [{"id": group.id, "name": "YOLOX-S", "model_versions": versions}],
    }
    assert listed[0] == whole
    assert [one["id"] for one in listed[1:]] == [other.id for other in others]
    assert all(one["model_groups"][0]["model_versions"][0]["openvino_models"] for one in listed[1:])
    assert served.found(f"/projects/{project.id}") == whole
    assert served.found(f"/projects/{'f' * 24}") is None


def test_a_sync_brings_all_that_is_new_and_the_next_one_only_looks_at_the_lists(served: Connected):
    served.settle()
    trained = served.geti.world.project("Bottle caps").group("SSD").train(0.9, active=True)
    models = [one for one in trained.optimized if one.format == "OpenVINO"]

    run = served.sync()
    event, downloads = sync_event(served), len(served.geti.downloads)
    served.geti.forget()
    next_run = served.sync()

    assert (run["outcome"], run["counts"]["new"], run["counts"]["imported"], run["counts"]["failed"]) == ("ok", 3, 3, 0)
    assert downloads == 3
    for model in models:
        assert served.found(f"/models/{model.id}")["sha256"] == sha256_sent(model)
        assert events_of(served, model) == [("version.registered", "geti-sync")]
    assert event["changes"]["id"] == [None, run["run_id"]]
    assert event["changes"]["counts"] == [None, run["counts"]]
    assert event["actor"]["name"] == "anonymous"  # who asked for the run
    assert (next_run["outcome"], next_run["counts"]["new"], next_run["counts"]["imported"]) == ("ok", 0, 0)
    assert next_run["counts"]["seen"] == run["counts"]["seen"]
    assert served.geti.downloads == []
    assert served.geti.counts.keys() - ON_CONNECTING == {"projects", "model_groups", "jobs"}


def test_what_is_trained_comes_with_the_next_run_of_the_schedule(served: Connected):
    served.settle()
    model = served.new(active=True)

    run = served.scheduled_sync()

    assert (run["outcome"], run["counts"]["imported"]) == ("ok", 1)
    assert served.request("GET", f"/models/{model.id}/files").content == sent(model)
    assert sync_event(served)["actor"]["name"] == "geti-sync"


def test_what_is_optimized_later_comes_though_the_lists_of_models_stay_as_they_were(served: Connected):
    trained = served.new().model
    served.settle()
    model = trained.optimize("INT8")

    run = served.sync()

    assert (run["counts"]["new"], run["counts"]["imported"]) == (1, 1)
    assert served.found(f"/models/{model.id}")["precision"] == ["int8"]
    assert [download.ids for download in served.geti.downloads] == [served.downloads(model)[0].ids]


def test_a_kill_in_the_middle_of_imports_leaves_nothing_half_and_later_they_come_once(served: Connected):
    served.settle()
    synced, wanted = (served.new().pack(size=40 * MEBIBYTE) for _ in range(2))
    for model in (synced, wanted):
        served.geti.fail("deployment_package", "stall", after_bytes=36 * MEBIBYTE, model=model.id, times=1)

    with ThreadPoolExecutor(1) as client:
        cut_off = client.submit(served.ask_for, wanted)
        until(lambda: is_half_sent(served, wanted))
        assert served.request("POST", "/sync", json={}).status_code == 202
        until(lambda: is_half_sent(served, synced))
        served.stack.kill()
    served.start()
    half = [left_of(served, model) for model in (synced, wanted)]
    # Those who were killed hold what they worked on for a while, and the queue has lost its messages.
    served.let_pass(timedelta(minutes=41))
    run, answer = served.scheduled_sync(), served.ask_for(wanted)

    assert isinstance(cut_off.exception(), requests.ConnectionError)
    assert half == [(None, [], []), (None, [], [])]
    assert (run["counts"]["imported"], answer.status_code) == (1, 201)
    for model, actor in ((synced, "geti-sync"), (wanted, "anonymous")):
        record, objects, claims = left_of(served, model)
        assert record["sha256"] == sha256_sent(model)
        assert (len(objects), len(claims)) == (1, 1)
        assert events_of(served, model) == [("version.registered", actor)]
        assert [one.is_complete for one in served.downloads(model)] == [False, True]


def is_half_sent(served: Connected, model: Optimized) -> bool | None:
    return any(one.sent > 32 * MEBIBYTE for one in served.downloads(model)) or None


def left_of(served: Connected, model: Optimized) -> tuple[Any, list[str], list[str]]:
    """What there is of a model, the only one of its project: its record, objects, and claims on its name."""
    rows = served.rows("CLAIM#")
    claims = [row["pk"]["S"] for row in rows if row["holder"]["S"] == model.id]
    return served.found(f"/models/{model.id}"), objects_of(served, model), claims


def objects_of(served: Connected, model: Optimized) -> list[str]:
    """What S3 has of the models of a project."""
    name = packages.deployment(model.model.group.project, [model]).file_name.replace(" ", "_")
    pages = served.stack.aws("s3").get_paginator("list_object_versions").paginate(Bucket=served.stack.bucket)
    keys = [entry["Key"] for page in pages for entry in page.get("Versions", [])]
    return [key for key in keys if key.replace(" ", "_").endswith(f"/{name}")]


def test_a_gibibyte_is_imported_in_parts_and_in_bounded_memory(served: Connected, capsys: pytest.CaptureFixture[str]):
    model = served.new().pack(size=1024 * MEBIBYTE)
    before = len(served.s3.seen)

    outcome = served.outcomes(served.ask_for(model))

    assert outcome == {model.id: "registered"}
    record = served.found(f"/models/{model.id}")
    assert record["sha256"] == sha256_sent(model)
    puts = [request for request in served.s3.seen[before:] if request.method == "PUT"]
    assert len(puts) == -(-record["size"] // PART_BYTES)
    function = max(peak_bytes(pid) for pid in served.stack.processes if is_import(pid))
    with capsys.disabled():
        print(f"\n1 GiB from Geti: function {function / 1e6:.0f} MB at most")
    assert PART_BYTES < function <= MAX_FUNCTION_BYTES


def is_import(pid: int) -> bool:
    """Whether a process is one of the function ImportModel."""
    return b"-ImportModel-" in Path(f"/proc/{pid}/cmdline").read_bytes()


def peak_bytes(pid: int) -> int:
    """The most memory that a process has had."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def test_an_old_geti_sends_code_deployments_and_after_its_upgrade_packages(served: Connected):
    geti = served.geti
    served.settle()
    geti.profile, geti.missing_routes = "2.10", {"deployment_package", "export"}
    geti.legacy = Legacy(polls=0, redirects=True)
    before = served.new()
    first = served.sync()

    geti.profile, geti.missing_routes = "2.13", set()
    after = served.new()
    second = served.sync()

    assert (first["counts"]["imported"], second["counts"]["imported"]) == (1, 1)
    assert [one.route for one in geti.downloads] == ["fileservice", "deployment_package"]
    for model in (before, after):
        assert served.found(f"/models/{model.id}")["sha256"] == sha256_sent(model)


def test_a_token_that_geti_refuses_is_said_to_be_refused_and_left_alone_for_a_while(served: Connected):
    served.settle()
    token, served.geti.token = served.geti.token, token_of(bytes(32))

    projects, run = served.request("GET", "/projects"), served.sync()
    event, checks = sync_event(served), served.found("/sync/checks")
    served.geti.forget()
    served.scheduled_sync()
    asked_by_the_schedule = list(served.geti.requests)
    served.geti.token = token
    later = served.sync()

    assert (projects.status_code, projects.json()["code"]) == (502, "geti_unauthorized")
    assert "Geti refuses the token of the registry" in projects.json()["detail"]
    assert (run["outcome"], [told["id"] for told in run["failed"]]) == ("failed", ["geti"])
    assert event["changes"]["is_refused"] == [None, True]
    assert [check["check"] for check in checks if not check["ok"]] == ["token"]
    assert asked_by_the_schedule == []
    assert later["outcome"] == "ok"
    assert token not in projects.text + (served.stack.data_dir / "emulator.log").read_text(errors="replace")


def test_two_imports_of_a_model_at_once_end_well_and_register_it_once(served: Connected):
    model = served.new()
    served.geti.on("deployment_package", lambda: until(lambda: len(imports_of(served, model)) == 2 or None))

    with ThreadPoolExecutor(2) as threads:
        answers = list(threads.map(lambda _: served.ask_for(model), range(2)))

    outcomes = [served.outcomes(answer)[model.id] for answer in answers]
    assert sorted(outcomes) == ["exists", "registered"]
    assert len(served.downloads(model)) == 1
    assert events_of(served, model) == [("version.registered", "anonymous")]


def imports_of(served: Connected, model: Optimized) -> list[str]:
    """The requests to import a model that the registry has taken on."""
    rows = served.rows("IMPORT#")
    return [row["pk"]["S"] for row in rows if row["sk"]["S"] == "META" and model.id in row["record"]["S"]]
