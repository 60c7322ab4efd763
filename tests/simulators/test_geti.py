"""The simulated Geti 2 lists what it holds, to whom it may, as the contract with Geti says."""

import re
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from tests.simulators.asking_geti import Client, zip_of
from tests.simulators.geti import (
    VALID_TOKEN,
    GetiServer,
    Model,
    World,
    is_well_formed,
    packages,
    token_of,
)

ROOT = Path(__file__).parent.parent.parent
AWKWARD_NAMES = ["a/b", "..", "Kork 🍾", "x" * 200, 'quote " and \\', "twice", "twice"]


def test_the_token_of_the_contract_has_the_form_and_the_checksum():
    assert token_of(bytes(range(32))) == VALID_TOKEN
    assert re.fullmatch("geti_pat_[0-9a-zA-Z]{43}_[0-9a-zA-Z]{6}", VALID_TOKEN)
    assert is_well_formed(VALID_TOKEN)
    assert not is_well_formed(VALID_TOKEN[:-1] + "W")
    assert not is_well_formed(VALID_TOKEN.replace("_pat_0", "_pat_1"))


@pytest.mark.parametrize(
    ("token", "status", "text"),
    [
        ("secret", 400, "Bad request"),
        (VALID_TOKEN[:-1] + "W", 401, "Invalid authorization token"),
        (token_of(bytes(32)), 401, "Invalid authorization token"),
    ],
)
def test_a_wrong_token_is_refused_in_words(client: Client, token: str, status: int, text: str):
    answer = client.ask("GET", "/api/v1/product_info", headers={"x-api-key": token})

    assert (answer.status, answer.data.decode()) == (status, text)
    assert "json" not in answer.headers["Content-Type"]


def test_tokens_expire_are_rotated_and_belong_to_an_organization(client: Client, geti: GetiServer):
    elsewhere = client.ask("GET", "/api/v1/organizations/another/workspaces")
    geti.is_token_expired = True
    expired = client.ask("GET", "/api/v1/product_info")
    geti.is_token_expired, geti.token = False, token_of(b"2" * 32)
    rotated = client.ask("GET", "/api/v1/product_info")

    assert (elsewhere.status, elsewhere.data) == (401, b"Invalid authorization token")
    assert (expired.status, expired.data) == (401, b"Access token is expired")
    assert rotated.status == 200


def test_no_token_is_kept(client: Client, geti: GetiServer):
    client.get("/api/v1/product_info")

    assert geti.requests[0].has_token
    assert geti.token not in repr(vars(geti.requests[0]))


def test_it_tells_its_version_its_organization_and_its_workspaces():
    world = World(workspaces=("Default Workspace", "Second"))
    with GetiServer(world, noise=False) as geti:
        client = Client(geti)
        info = client.get("/api/v1/product_info")
        single = client.get("/api/v1/personal_access_tokens/organization")
        geti.organization_form = "list"
        several = client.get("/api/v1/personal_access_tokens/organization")["organizations"]
        listed = client.get(f"/api/v1/organizations/{world.organization_id}/workspaces")["workspaces"]
        client.pool.clear()

    assert info["product-version"] == "2.13.1"
    assert re.fullmatch(r"\d+\.\d+\.\d+-release-\d+", info["build-version"])
    assert single == {"organizationId": world.organization_id}
    assert min(several, key=lambda one: one["organizationCreatedAt"])["organizationId"] == world.organization_id
    assert {one["id"]: one["name"] for one in listed} == world.workspaces


@pytest.mark.parametrize(("count", "pages"), [(0, [0]), (1, [1, 0]), (100, [100, 0]), (101, [100, 1, 0])])
def test_every_page_with_projects_names_a_next_one(world: World, client: Client, count: int, pages: list[int]):
    world.populate(count)

    path, seen = client.path("projects?limit=100&sort_direction=asc"), []
    while path:
        page = client.ask("GET", path).json()
        assert (page["project_counts"], page["project_page_count"]) == (count, len(page["projects"]))
        seen.append([project["id"] for project in page["projects"]])
        path = page["next_page"]

    assert [len(ids) for ids in seen] == pages
    assert [project_id for page in seen for project_id in page] == [project.id for project in world.projects]


def test_projects_are_sorted_filtered_and_ten_by_default(world: World, client: Client):
    world.populate(12)
    world.projects[3].is_hidden = True

    newest = [project["name"] for project in client.get("projects")["projects"]]
    named = [project["name"] for project in client.get("projects", name="00", sort_by="name")["projects"]]

    assert newest == [f"Project {number:03d}" for number in range(12, 1, -1) if number != 4]
    assert named == [f"Project {number:03d}" for number in (9, 8, 7, 6, 5, 3, 2, 1)]


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "limit=many", "skip=-1", "sort_direction=desc", "sort_by=id"]
)
def test_a_wrong_query_is_a_bad_request_with_its_field(client: Client, query: str):
    answer = client.ask("GET", client.path(f"projects?{query}"))

    assert answer.status == 400
    assert answer.json()["error_code"] == "bad_request"
    assert list(answer.json()["message"]) == [query.partition("=")[0]]


def test_projects_may_have_any_name_and_the_same(world: World, client: Client):
    models = [world.project(name).group().train() for name in AWKWARD_NAMES]

    names = [project["name"] for project in client.get("projects", limit=100, sort_direction="asc")["projects"]]

    assert names == AWKWARD_NAMES
    for model in models:
        zip_of(client.deploy(model["FP16"]))


def test_a_chain_has_its_tasks_in_a_row(world: World, client: Client):
    project = world.project(tasks=["detection", "classification"], labels=["cap", "bottle"])

    pipeline = client.get(f"projects/{project.id}")["pipeline"]

    assert [task["task_type"] for task in pipeline["tasks"]] == ["dataset", "detection", "crop", "classification"]
    assert [label["name"] for label in pipeline["tasks"][1]["labels"]] == ["cap", "bottle", "No object"]
    ids = [task["id"] for task in pipeline["tasks"]]
    assert [(one["from"], one["to"]) for one in pipeline["connections"]] == list(pairwise(ids))


def test_a_group_tells_of_what_is_purged_active_and_out_of_sync(world: World, client: Client):
    project = world.project()
    group = project.group()
    for active in (False, True, True):
        group.train(active=active)
    group.models[0].purge()
    project.add_label("bottle")
    group.train(status="FAILED")
    project.group("Empty")

    (listed,) = client.get(f"projects/{project.id}/model_groups", unknown="x")["model_groups"]

    assert [one["version"] for one in listed["models"]] == [1, 2, 3]
    assert [one["purge_info"]["is_purged"] for one in listed["models"]] == [True, False, False]
    assert [one["active_model"] for one in listed["models"]] == [False, False, True]
    assert {one["label_schema_in_sync"] for one in listed["models"]} == {False}
    assert re.fullmatch(r"2026-01-01T09:\d\d:00\.000000\+00:00", listed["models"][0]["creation_date"])


def test_an_optimized_model_comes_later_under_an_unchanged_listing(world: World, model: Model, client: Client):
    path = f"projects/{model.group.project.id}/model_groups"
    before = client.get(path)

    late = model.optimize("INT8", status="NOT_READY")

    view = client.details(model)["optimized_models"][-1]
    assert client.get(path) == before
    assert (view["id"], view["precision"], view["model_status"]) == (late.id, [], "NOT_READY")
    late.finish()
    view = client.details(model)["optimized_models"][-1]
    assert (view["precision"], view["model_status"], view["optimization_type"]) == (["INT8"], "SUCCESS", "POT")
    jobs = client.get("jobs", state="finished", sort_direction="asc")["jobs"]
    assert [job["type"] for job in jobs] == ["train", "optimize_pot", "optimize_pot"]


def test_details_list_the_optimized_models_for_each_of_their_ids(model: Model, client: Client):
    base, optimized = client.details(model), client.details(model, model["FP16"].id)

    assert [one["name"] for one in base["optimized_models"]] == [
        "YOLOX-S OpenVINO FP16 with XAI head",
        "YOLOX-S OpenVINO FP32",
        "YOLOX-S OpenVINO FP16",
        "YOLOX-S ONNX FP32",
    ]
    assert optimized["optimized_models"] == base["optimized_models"]
    assert (optimized["id"], optimized["name"], optimized["precision"]) == (model["FP16"].id, "YOLOX-S", ["FP16"])
    assert not optimized.keys() & {"model_format", "has_xai_head", "optimization_type", "model_status"}


def test_ids_may_come_twice_and_performances_without_a_score(world: World, client: Client):
    group = world.project(task="anomaly").group("PADIM")
    twice = group.train(duplicates=True, performance={"local_score": None, "global_score": 0.9})
    unknown = group.train(score=None)

    details = client.details(twice)

    ids = [one["id"] for one in details["optimized_models"]]
    assert len(ids) == 2 * len(set(ids)) == 8
    assert details["performance"]["global_score"] == 0.9
    assert "score" not in details["performance"]
    assert client.details(unknown)["performance"]["score"] is None


def test_jobs_are_those_since_a_time(world: World, model: Model, client: Client):
    since = model.optimize("INT8").created.isoformat()
    other = world.project("Other")
    world.job(other, state="running")
    world.job(other, state="failed")

    answer = client.get("jobs", state="finished", creation_time_from=since, limit=100)
    of_other = client.get("jobs", project_id=other.id)

    assert [job["metadata"]["project"]["id"] for job in answer["jobs"]] == [model.group.project.id]
    assert answer["jobs_count"]["n_finished_jobs"] == 1
    assert [(job["state"], job["end_time"] is None) for job in of_other["jobs"]] == [
        ("failed", False),
        ("running", True),
    ]
    assert client.ask("GET", client.path("jobs?creation_time_from=yesterday")).status == 400


def test_unknown_fields_are_everywhere_unless_they_are_not_wanted(model: Model, client: Client, geti: GetiServer):
    noisy = client.details(model)
    geti.noise = False
    plain = client.details(model)

    assert noisy["optimized_models"][0].keys() - plain["optimized_models"][0].keys()
    assert noisy["performance"].keys() - plain["performance"].keys()


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("projects/{other}", "project_not_found"),
        ("projects/{project}/model_groups/{other}/models/{model}", "model_storage_not_found"),
        ("projects/{project}/model_groups/{group}/models/{other}", "model_not_found"),
        ("/api/v1/organizations/{org}/workspaces/{other}/projects", "workspace_not_found"),
    ],
)
def test_what_is_not_there_is_a_typed_404(model: Model, client: Client, path: str, code: str):
    group = model.group
    ids = {"project": group.project.id, "group": group.id, "model": model.id, "org": group.world.organization_id}

    answer = client.ask("GET", client.path(path.format(other="f" * 24, **ids)))

    assert (answer.status, answer.json()["error_code"], answer.json()["http_status"]) == (404, code, 404)
    assert answer.json().keys() == {"error_code", "message", "http_status"}


def test_routes_that_it_does_not_have_are_told_apart_from_the_web_application(client: Client, geti: GetiServer):
    url = f"{geti.url}/api/openapi.json"

    assert client.ask("GET", "/api/openapi.json").json() == {
        "endpoint_not_found_response": f"Endpoint {url} is not found"
    }
    assert client.ask("GET", "/projects").headers["Content-Type"].startswith("text/html")


def test_the_same_calls_make_the_same_world():
    one, other = World(seed=7), World(seed=7)
    for world in (one, other):
        world.populate(2, groups=2, versions=2)

    packed = [[packages.deployment(p, [p.models[0]["FP16"]]).read() for p in w.projects] for w in (one, other)]

    assert packed[0] == packed[1]
    assert packed[0][0] != packed[0][1]
    assert World(seed=8).project().id != one.projects[0].id


def test_geti_sdk_finds_its_balance_and_the_algorithm_of_every_group(world: World, client: Client):
    project = world.project()
    groups = [project.group(name) for name in ("YOLOX-S", "SSD")]

    algorithms = client.get(f"projects/{project.id}/supported_algorithms")["supported_algorithms"]
    balance = client.get(f"/api/v1/organizations/{world.organization_id}/balance")

    assert {one["model_manifest_id"] for one in algorithms} == {group.template for group in groups}
    assert {balance[key] for key in ("incoming", "available", "blocked")} == {0}


# By hand


def test_it_runs_by_hand_and_trains_models(tmp_path: Path):
    command = [sys.executable, "-m", "tests.simulators.geti", "--port", "0", "--every", "0.01", "--tls", str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        said = [process.stdout.readline().split() for _ in range(3)]
        trained = process.stderr.readline()
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=10)[1]

    assert [line[0] for line in said] == ["GETI", "TOKEN", "CA"]
    assert said[0][1].startswith("https://127.0.0.1:")
    assert trained == "trained Bottle caps, version 2\n"
    assert rest.endswith("0 requests, 0 downloads.\n")
    assert process.returncode == 0
