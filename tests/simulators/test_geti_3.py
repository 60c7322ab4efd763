"""The simulated Geti 3."""

from collections.abc import Iterator

import pytest

from tests.simulators.asking_geti import Client, zip_of
from tests.simulators.geti import (
    GetiServer,
    Project,
    World,
)


@pytest.fixture
def world3() -> World:
    return World("3")


@pytest.fixture
def geti3(world3: World) -> Iterator[GetiServer]:
    with GetiServer(world3) as server:
        yield server


@pytest.fixture
def client3(geti3: GetiServer) -> Iterator[Client]:
    client = Client(geti3)
    yield client
    client.pool.clear()


@pytest.fixture
def project3(world3: World) -> Project:
    return world3.project("Bottle caps", "detection", ["cap"])


def test_geti_3_is_told_by_its_description_and_answers_the_unknown_with_a_page(client3: Client):
    page = client3.ask("GET", "/api/v1/product_info")

    assert (page.status, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert client3.get("/api/openapi.json")["info"]["version"] == "3.2.0"
    assert client3.get("/health")["status"] == "ok"


def test_geti_3_lists_in_arrays(project3: Project, client3: Client):
    group = project3.group("YOLOX-S")
    trained = [group.train(score=0.5), group.train(score=0.62, active=True)]
    group.train(status="NOT_READY")
    group.train(status="FAILED")

    (project,) = client3.get("/api/projects")
    models = client3.get(f"/api/projects/{project3.id}/models")
    pipeline = client3.get(f"/api/projects/{project3.id}/pipeline")

    assert (project["id"], project["active_pipeline"], project["task"]["task_type"]) == (project3.id, True, "detection")
    statuses = [one["training_info"]["status"] for one in models]
    assert statuses == ["successful", "successful", "in_progress", "failed"]
    assert models[1]["training_info"]["end_time"] == "2026-01-01T09:03:00Z"
    assert models[1]["name"] == f"YOLOX-S ({trained[1].id[:8]})"
    assert [(one["format"], one["precision"]) for one in models[1]["variants"]] == [
        ("openvino", "fp16"),
        ("onnx", "fp32"),
        ("pytorch", "fp32"),
    ]
    assert models[1]["variants"][0]["evaluations"][0]["metrics"][0]["value"] == 0.62
    assert (pipeline["status"], pipeline["model"]["id"]) == ("running", trained[1].id)


def test_the_pipeline_of_geti_3_may_name_its_model_otherwise(project3: Project, client3: Client, geti3: GetiServer):
    path = f"/api/projects/{project3.id}/pipeline"
    idle = client3.get(path)
    model = project3.group().train(active=True)
    geti3.pipeline_form = "model_id"

    assert (idle["status"], idle["model"]) == ("idle", None)
    assert client3.get(path)["model_id"] == model.id


def test_geti_3_sends_a_flat_archive_until_the_files_are_deleted(project3: Project, client3: Client):
    model = project3.group().train()
    path = f"/api/projects/{project3.id}/models/{model.id}/variants/{model['FP16'].id}/binary"

    answer = client3.ask("GET", path)
    model.purge()
    purged = client3.ask("GET", path)

    assert {"model.xml", "model.bin", "demo.py", "image.jpg"} < set(zip_of(answer).namelist())
    assert f"model-{model.id[:8]}-openvino-fp16.zip" in answer.headers["Content-Disposition"]
    assert (purged.status, list(purged.json())) == (404, ["detail"])
    assert client3.get(f"/api/projects/{project3.id}/models/{model.id}")["files_deleted"]


def test_geti_3_tells_what_is_malformed_from_what_is_not_there(project3: Project, client3: Client):
    paths = ["/api/projects/1", "/api/projects/00000000-0000-4000-8000-000000000000"]

    assert [client3.ask("GET", path).status for path in paths] == [400, 404]


def test_geti_3_may_send_one_package_at_a_time(project3: Project, client3: Client, geti3: GetiServer):
    model = project3.group().train()
    path = f"/api/projects/{project3.id}/models/{model.id}/variants/{model['FP16'].id}/binary"
    geti3.busy_status = 503
    geti3.fail("binary", "stall", after_bytes=10, times=1)

    first = client3.ask("GET", path, preload_content=False)
    second = client3.ask("GET", path)
    first.close()

    assert (second.status, list(second.json())) == (503, ["detail"])
    assert geti3.most_downloads_at_once == 1


def test_a_world_is_of_one_major_version(world: World):
    with pytest.raises(ValueError, match="World\\('3'\\)"):
        GetiServer(world, "3")
