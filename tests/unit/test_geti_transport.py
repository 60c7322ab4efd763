"""HTTP to Geti, against a simulated server on the loopback: errors, what is sent again, time, connections."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

import pytest

from chalicelib.geti.errors import (
    GetiBusy,
    GetiError,
    GetiForbidden,
    GetiGone,
    GetiMisconfigured,
    GetiNoSuchRoute,
    GetiRefused,
    GetiUnauthorized,
    NotGeti,
)
from chalicelib.geti.exchange import Limits, Request
from chalicelib.geti.transport import Transport
from tests.geti_client import Time, package_of, received, transport_to
from tests.simulators.geti import VALID_TOKEN, GetiServer, World

INFO = Request("GET", "/api/v1/product_info")


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def geti() -> Iterator[GetiServer]:
    with GetiServer(World(), profile="2.10") as server:
        yield server


@pytest.fixture
def transport(geti: GetiServer, time: Time) -> Iterator[Transport]:
    with closing(transport_to(geti, time)) as made:
        yield made


def test_data_is_answered_and_requests_are_counted(transport: Transport, geti: GetiServer) -> None:
    answer = transport.json(INFO)

    assert isinstance(answer, dict)
    assert answer["product-version"] == "2.10.0"
    assert transport.requests == len(geti.requests) == 1
    assert geti.requests[0].headers["accept-encoding"] == "identity"
    assert geti.requests[0].has_token


# What is answered, what it means, what its text says, and how many requests are sent.
TABLE = [
    ("bad_token", GetiMisconfigured, "400: Bad request. Geti says so of a token .* GETI_TOKEN", 1),
    ("unauthorized", GetiUnauthorized, "401: Invalid authorization token. Make a new personal access token", 1),
    ("expired", GetiUnauthorized, "401: Access token is expired", 1),
    ("forbidden", GetiForbidden, "403: RBAC: access denied. In Geti, let the user of the token see", 1),
    ("project_not_found", GetiGone, r"404 \(project_not_found\): The requested project could not be found.", 1),
    ("exportable_code_not_found", GetiGone, "exportable_code_not_found", 1),
    ("no_route", GetiNoSuchRoute, "Endpoint /api/v1/somewhere is not found. This version", 1),
    ("not_found", GetiGone, "404: Not found", 1),
    ("bad_request", GetiRefused, r"400 \(bad_request\): limit must not exceed 100.$", 1),
    ("bad_request_fields", GetiRefused, r'400 \(bad_request\): \{"limit": \["Must be greater', 1),
    ("incompatible_model_format", GetiRefused, "incompatible_model_format", 1),
    ("model_purging_not_possible", GetiRefused, r"422 \(model_purging_not_possible\): The model has been purged.$", 1),
    ("validation", GetiRefused, "422: Missing package_type in the body of the request.$", 1),
    ("no_content", NotGeti, "no type, where JSON is expected", 1),
    ("throttled", GetiBusy, "429. Geti throttles. It is tried again later.$", 4),
    ("throttled_text", GetiBusy, "429: local_rate_limited. Geti throttles", 4),
    ("server_error", GetiBusy, "500: An internal server error occurred. It is tried again later.$", 4),
    ("code_deployment_corrupt", GetiBusy, r"500 \(code_deployment_corrupt\)", 4),
    ("bad_gateway", GetiBusy, "502: upstream connect error", 4),
    ("not_ready", GetiBusy, r"503 \(code_deployment_download_not_ready\)", 4),
    ("unavailable", GetiBusy, "503: no healthy upstream", 4),
    ("no_space", GetiBusy, r"507 \(not_enough_space\).* make room on the server of Geti", 1),
    ("html", NotGeti, "an HTML page, where JSON is expected. Is GETI_HOST", 1),
    ("not_json", NotGeti, "JSON that cannot be read", 1),
    ("empty", NotGeti, "JSON that cannot be read", 1),
]


@pytest.mark.parametrize(("answer", "error", "text", "requests"), TABLE, ids=[row[0] for row in TABLE])
def test_each_error_says_what_happened_and_what_helps(
    transport: Transport, geti: GetiServer, answer: str, error: type[GetiError], text: str, requests: int
) -> None:
    geti.fail("product_info", answer)

    with pytest.raises(error, match=text) as raised:
        transport.json(INFO)

    assert type(raised.value) is error
    assert str(raised.value).startswith("GET /api/v1/product_info was answered with ")
    assert len(geti.requests) == requests


# Answers that do not come from Geti, or not from one that is known.
STRANGE = [
    (404, b"<html>nginx</html>", "text/html", NotGeti, "404: an HTML page. Geti would say what it does not find"),
    (404, b"", "", NotGeti, "404. Geti would say"),
    (404, b'{"detail": "Not Found"}', "application/json", GetiNoSuchRoute, "This version of Geti"),
    (405, b'{"detail": "Method Not Allowed"}', "application/json", GetiNoSuchRoute, "This version of Geti"),
    (400, b"<html>", "text/html", NotGeti, "Is GETI_HOST"),
    (400, b"line\nbreak", "text/plain", GetiRefused, "400: line.break."),
    (302, b"", "", NotGeti, "302. Redirects are not followed"),
    (418, b"[]", "application/json", GetiRefused, "418"),
    (500, b"\xff\xfe" * 100_000, "text/plain", GetiBusy, "500: ...."),
    (422, b'{"message": "%s"}' % (b"x" * 5000), "application/json", GetiRefused, r"x{100}\.\.\.\.$"),
]


@pytest.mark.parametrize(("status", "body", "kind", "error", "text"), STRANGE)
def test_what_other_servers_answer_is_told_too(
    transport: Transport, geti: GetiServer, status: int, body: bytes, kind: str, error: type[GetiError], text: str
) -> None:
    geti.fail("product_info", status=status, body=body, headers={"Content-Type": kind})

    with pytest.raises(error, match=text) as raised:
        transport.json(INFO)

    assert type(raised.value) is error
    assert len(str(raised.value)) < 400


def test_gone_tells_what_geti_calls_it(transport: Transport, geti: GetiServer) -> None:
    geti.fail("product_info", "model_storage_not_found")

    with pytest.raises(GetiGone) as raised:
        transport.json(INFO)

    assert raised.value.geti_code == "model_storage_not_found"


# What is sent again.


@pytest.mark.parametrize("how", [429, 500, 502, 503, "drop", "reset", "short", "late"])
def test_a_read_is_sent_again_after_longer_and_longer_waits(geti: GetiServer, time: Time, how: int | str) -> None:
    geti.fail("product_info", how, times=3, seconds=5, after_bytes=10)
    limits = Limits(read_seconds=0.05 if how == "late" else 20)

    with closing(transport_to(geti, time, limits=limits)) as transport:
        transport.json(INFO)

    assert transport.requests == len(geti.requests) == 4
    assert time.slept == [1, 2, 4]


def test_after_the_fourth_time_it_is_given_up(transport: Transport, geti: GetiServer, time: Time) -> None:
    geti.fail("product_info", 429)

    with pytest.raises(GetiBusy):
        transport.json(INFO)

    assert len(geti.requests) == 4
    assert time.slept == [1, 2, 4]


@pytest.mark.parametrize(("asked", "waited"), [("7", 7), ("3600", 30), ("soon", 1), ("²", 1), ("0", 1)])
def test_it_waits_as_long_as_geti_asks_for_within_reason(
    transport: Transport, geti: GetiServer, time: Time, asked: str, waited: float
) -> None:
    geti.fail("product_info", 503, headers={"Retry-After": asked.encode().decode("latin-1")}, times=1)

    transport.json(INFO)

    assert time.slept == [waited]


@pytest.mark.parametrize("how", [429, 503, "drop"])
def test_what_changes_something_is_sent_once(transport: Transport, geti: GetiServer, how: int | str) -> None:
    prepare = replace(package_of(geti), is_read=False)
    geti.fail(how=how)

    with pytest.raises(GetiBusy):
        transport.json(prepare)

    assert len(geti.requests) == 1
    assert geti.requests[0].headers["x-geti-csrf-protection"] == "1"


def test_a_package_is_asked_for_again_until_it_comes(transport: Transport, geti: GetiServer, time: Time) -> None:
    package = package_of(geti)
    geti.fail("deployment_package", 503, times=2)

    assert received(transport, package) == geti.downloads[0].size

    assert time.slept == [1, 2]


def test_who_does_not_answer_is_told_so(geti: GetiServer) -> None:
    gone = GetiServer(World())
    with gone:
        url = gone.url

    with closing(transport_to(geti, url=url)) as transport:
        with pytest.raises(GetiBusy, match=f"{url} cannot be reached: .*refused.* Is GETI_HOST right"):
            transport.json(INFO)

    assert transport.requests == 4


# Time.


def test_waits_end_before_the_time_of_the_call_does(transport: Transport, geti: GetiServer, time: Time) -> None:
    geti.fail("product_info", 429)

    with pytest.raises(GetiBusy, match="429"):
        transport.json(INFO, seconds=2.5)

    assert time.slept == [1]


def test_an_answer_that_trickles_in_ends_with_the_time_of_the_call(geti: GetiServer) -> None:
    geti.world.populate(projects=30)
    geti.fail("projects", "slow", seconds=0.001)
    projects = f"/api/v1/organizations/{geti.world.organization_id}/workspaces/{geti.world.workspace_id}/projects"

    with closing(transport_to(geti, Time(step=1))) as transport:
        with pytest.raises(GetiBusy, match="took too long altogether"):
            transport.json(Request("GET", projects, {"limit": 30}), seconds=10)

    assert len(geti.requests) == 1


def test_nothing_is_sent_when_no_time_is_left(transport: Transport, geti: GetiServer, time: Time) -> None:
    def slow_token(_: bool) -> str:
        time.now += 61
        return VALID_TOKEN

    with closing(transport_to(geti, time, slow_token)) as slow:
        with pytest.raises(GetiBusy, match="took too long"):
            slow.json(INFO)

    assert not geti.requests


# Connections.


def test_connections_are_kept_and_used_again(transport: Transport, geti: GetiServer) -> None:
    package = package_of(geti)

    for _ in range(5):
        transport.json(INFO)
        received(transport, package)

    assert {asked.connection for asked in geti.requests} == {1}


def test_an_error_leaves_the_connection_as_it_was(transport: Transport, geti: GetiServer) -> None:
    geti.fail("product_info", 429, times=2)
    geti.fail("product_info", 403, times=1)

    with pytest.raises(GetiForbidden):
        transport.json(INFO)
    transport.json(INFO)

    assert {asked.connection for asked in geti.requests} == {1}


def test_many_threads_share_sixteen_connections(transport: Transport, geti: GetiServer) -> None:
    geti.fail("product_info", "late", seconds=0.01)

    with ThreadPoolExecutor(32) as threads:
        list(threads.map(transport.json, [INFO] * 64))

    assert transport.requests == len(geti.requests) == 64
    assert len({asked.connection for asked in geti.requests}) <= 16


def test_a_connection_that_geti_closed_meanwhile_is_opened_again(transport: Transport, geti: GetiServer) -> None:
    transport.json(INFO)
    geti.fail("product_info", "drop", times=1)

    transport.json(INFO)

    assert len({asked.connection for asked in geti.requests}) == 2


def test_proxies_of_the_environment_are_not_used(
    transport: Transport, geti: GetiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    transport.json(INFO)

    assert len(geti.requests) == 1
