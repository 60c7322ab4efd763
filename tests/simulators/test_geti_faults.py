"""The simulated Geti fails as it is told, and leaves nothing behind."""

import threading
from pathlib import Path

import pytest
import urllib3

from tests.simulators.asking_geti import Client, zip_of
from tests.simulators.geti import (
    GetiServer,
    Model,
    World,
    make_certificate,
)


@pytest.mark.parametrize(
    ("how", "status", "body", "header"),
    [
        (401, 401, b"Invalid authorization token", ("Content-Type", "text/plain")),
        (403, 403, b"RBAC: access denied", ("Content-Type", "text/plain")),
        (429, 429, b"", ("x-local-rate-limit", "true")),
        (500, 500, b'{"internal_server_error": "An internal server error occurred."}', ("Cache-Control", "no-cache")),
        ("not_ready", 503, b'"code_deployment_download_not_ready"', ("Cache-Control", "no-cache")),
        (507, 507, b'"not_enough_space"', ("Content-Type", "application/json")),
        ("html", 200, b"<html>", ("Content-Type", "text/html; charset=utf-8")),
    ],
)
def test_a_fault_answers_as_geti_does(
    client: Client, geti: GetiServer, how: int | str, status: int, body: bytes, header: tuple[str, str]
):
    geti.fail("projects", how)

    answer = client.ask("GET", client.path("projects"))

    assert answer.status == status
    assert body in answer.data
    assert answer.headers[header[0]] == header[1]
    assert "Retry-After" not in answer.headers


def test_a_fault_lets_some_pass_then_strikes_some_times(client: Client, geti: GetiServer):
    fault = geti.fail(route="projects", status=429, after=1, times=2)

    statuses = [client.ask("GET", client.path("projects")).status for _ in range(4)]

    assert statuses == [200, 429, 429, 200]
    assert (fault.hits, geti.counts) == (2, {"projects": 4})
    assert [asked.status for asked in geti.requests] == statuses


def test_a_fault_concerns_one_project_or_one_model(world: World, client: Client, geti: GetiServer):
    models = [world.project().group().train() for _ in range(2)]
    geti.fail(status=403, project=models[0].group.project.id)
    geti.fail("deployment_package", "no_space", model=models[1]["FP32"].id)

    groups = [client.ask("GET", client.path(f"projects/{one.group.project.id}/model_groups")) for one in models]
    packed = [client.deploy(models[1][spec]) for spec in ("FP16", "FP32")]

    assert [answer.status for answer in groups] == [403, 200]
    assert [answer.status for answer in packed] == [200, 507]
    geti.heal()
    assert client.deploy(models[1]["FP32"]).status == 200


def test_a_fault_may_say_anything(client: Client, geti: GetiServer):
    geti.fail("projects", status=302, headers={"Location": "https://elsewhere.test/"}, times=1)
    geti.fail("projects", body={"projects": None}, times=1)

    moved = client.ask("GET", client.path("projects"), redirect=False)
    odd = client.ask("GET", client.path("projects"))

    assert (moved.status, moved.headers["Location"]) == (302, "https://elsewhere.test/")
    assert (odd.status, odd.json()) == (200, {"projects": None})


@pytest.mark.parametrize(
    ("cut", "is_chunked", "reason"),
    [
        ("reset", False, "reset by peer"),
        ("reset", True, "reset by peer"),
        ("truncated", False, "IncompleteRead"),
        ("truncated", True, "ended prematurely"),
        ("stall", False, "timed out"),
    ],
)
def test_a_download_breaks_off(model: Model, client: Client, geti: GetiServer, cut: str, is_chunked: bool, reason: str):
    geti.is_chunked = is_chunked
    geti.fail("deployment_package", cut, after_bytes=1000, times=1)

    answer = client.deploy(model["FP16"], preload_content=False, timeout=0.1)
    got: list[bytes] = []
    with pytest.raises(urllib3.exceptions.HTTPError, match=reason):
        got.extend(answer.stream(100))

    assert len(b"".join(got)) <= 1000
    assert (geti.downloads[0].sent, geti.downloads[0].is_complete) == (1000, False)
    zip_of(client.deploy(model["FP16"]))


def test_an_answer_comes_late_or_slowly_or_never(client: Client, geti: GetiServer):
    geti.fail("product_info", "late", seconds=0.2, times=1)
    geti.fail("product_info", "drop", times=1)
    geti.fail("product_info", "slow", after_bytes=10, seconds=0.01, times=1)

    with pytest.raises(urllib3.exceptions.ReadTimeoutError):
        client.ask("GET", "/api/v1/product_info", timeout=0.05)
    with pytest.raises(urllib3.exceptions.ProtocolError):
        client.ask("GET", "/api/v1/product_info")
    assert "product-version" in client.get("/api/v1/product_info")


def test_who_stalls_for_ever_does_not_outlive_the_server(world: World):
    before = threading.active_count()
    with GetiServer(world) as geti:
        client = Client(geti)
        geti.fail("product_info", "stall")
        answer = client.ask("GET", "/api/v1/product_info", preload_content=False)

    with pytest.raises(urllib3.exceptions.ProtocolError):
        answer.read()
    client.pool.clear()
    assert threading.active_count() == before


def test_connections_are_kept_and_can_be_told_apart(client: Client, geti: GetiServer):
    for _ in range(3):
        client.get("projects")
    client.pool.clear()
    client.get("projects")

    assert [asked.connection for asked in geti.requests] == [1, 1, 1, 2]


def test_https_is_spoken_with_a_certificate_of_our_own(world: World, tmp_path: Path):
    certificate = make_certificate(tmp_path)
    model = world.project().group().train()
    with GetiServer(world, tls=certificate) as geti:
        trusting = Client(geti, ca_certs=str(certificate.authority))
        trusting.get("projects")
        zip_of(trusting.deploy(model["FP16"]))
        trusting.pool.clear()
        geti.fail("projects", "reset", times=1)
        with pytest.raises(urllib3.exceptions.ProtocolError):
            trusting.get("projects")
        stranger = Client(geti)
        with pytest.raises(urllib3.exceptions.SSLError, match="certificate verify failed"):
            stranger.get("projects")

    assert geti.url.startswith("https://127.0.0.1:")
