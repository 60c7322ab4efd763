"""The strict gateway keeps the limits of API Gateway and Lambda, in the words of the template."""

import time
from collections.abc import Callable, Iterator
from threading import Barrier, Thread

import pytest
import requests

from tests.conftest import template_resource
from tests.simulators.proxy import Proxy, Reply, Request
from tests.simulators.strict_gateway import MAX_ANSWER_BYTES, MAX_REQUEST_BYTES, StrictGateway

FORM = "multipart/form-data"


class Service(Proxy):
    """What stands behind the gateway: answers whatever it is told to."""

    reply: Callable[[Request], Reply] = staticmethod(lambda request: Reply(200, [], b"ok"))

    def answer(self, request: Request) -> Reply:
        return self.reply(request)


@pytest.fixture
def service() -> Iterator[Service]:
    with Service("http://nobody").serving() as proxy:
        yield proxy


@pytest.fixture
def gateway(service: Service) -> Iterator[StrictGateway]:
    with gateway_of(service).serving() as proxy:
        yield proxy


def gateway_of(service: Service, timeout_seconds: float = 29, lanes: int = 6) -> StrictGateway:
    responses = template_resource("RestAPI")["GatewayResponses"]
    return StrictGateway(f"{service.address}/base", [FORM], responses, timeout_seconds, lanes)


def post(gateway: StrictGateway, body: bytes, content_type: str = f"{FORM}; boundary=x") -> requests.Response:
    return requests.post(f"{gateway.url}/models", data=body, headers={"Content-Type": content_type}, timeout=30)


def test_requests_pass_to_the_base_url_with_their_host(gateway: StrictGateway, service: Service):
    answer = requests.get(f"{gateway.url}/models?a=%2F", headers={"Host": "other.example"}, timeout=10)

    assert (answer.status_code, answer.content) == (200, b"ok")
    assert answer.headers["x-amzn-requestid"]
    assert service.seen[0].target == "/base/models?a=%2F"
    assert service.seen[0].header("host") == "other.example"


def test_a_request_outside_of_the_stage_finds_nothing(gateway: StrictGateway, service: Service):
    answer = requests.get(f"http://127.0.0.1:{gateway.port}/models", timeout=10)

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert service.seen == []


def test_a_body_that_base64_makes_larger_than_an_event_is_refused_as_the_template_says(gateway: StrictGateway):
    fits, refused = post(gateway, bytes(4_700_000)), post(gateway, bytes(4_720_000))

    assert (fits.status_code, refused.status_code) == (200, 413)
    assert refused.json()["code"] == "too_large"
    assert "4500000 bytes" in refused.json()["detail"]


def test_large_headers_count_as_well(gateway: StrictGateway):
    headers = {"Content-Type": FORM, **{f"X-Large-{number}": "x" * 7_000 for number in range(8)}}

    answer = requests.post(f"{gateway.url}/models", data=bytes(4_700_000), headers=headers, timeout=30)

    assert answer.status_code == 413


def test_a_body_over_ten_megabytes_is_refused_whatever_it_is(gateway: StrictGateway):
    assert post(gateway, b"x" * (MAX_REQUEST_BYTES + 1), "text/plain").status_code == 413


def test_an_answer_that_lambda_cannot_return_is_a_bad_gateway(gateway: StrictGateway, service: Service):
    # Some runtimes escape what is not ASCII: six bytes for two.
    service.reply = lambda request: Reply(200, [], "ü".encode() * (MAX_ANSWER_BYTES // 6))

    answer = requests.get(f"{gateway.url}/models", timeout=10)

    assert (answer.status_code, answer.json()["code"]) == (502, "bad_gateway")


def test_an_answer_within_the_limit_passes(gateway: StrictGateway, service: Service):
    service.reply = lambda request: Reply(200, [], b"x" * (MAX_ANSWER_BYTES - 1_000))

    assert requests.get(f"{gateway.url}/models", timeout=10).status_code == 200


def test_who_takes_too_long_is_not_waited_for(service: Service):
    service.reply = lambda request: (time.sleep(0.5), Reply(200))[1]

    with gateway_of(service, timeout_seconds=0.1).serving() as gateway:
        answer = requests.get(f"{gateway.url}/models", timeout=10)

    assert (answer.status_code, answer.json()["code"]) == (504, "timeout")


def test_www_authenticate_is_remapped(gateway: StrictGateway, service: Service):
    service.reply = lambda request: Reply(401, [("WWW-Authenticate", "Basic")])

    answer = requests.get(f"{gateway.url}/models", timeout=10)

    assert "WWW-Authenticate" not in answer.headers
    assert answer.headers["x-amzn-Remapped-WWW-Authenticate"] == "Basic"


def test_bytes_of_an_unlisted_type_are_refused_loudly(gateway: StrictGateway, service: Service):
    answer = post(gateway, b"\xff\xfe", "application/octet-stream")

    assert answer.status_code == 500
    assert "would mangle" in answer.text
    assert service.seen == []


def test_bytes_of_a_listed_type_and_text_of_any_type_pass(gateway: StrictGateway):
    assert post(gateway, b"\xff\xfe").status_code == 200
    assert post(gateway, "ü".encode(), "text/plain").status_code == 200


def test_only_as_many_requests_as_there_are_lanes_run_at_once(service: Service):
    both_lanes = Barrier(2, timeout=5)
    service.reply = lambda request: (both_lanes.wait(), Reply(200))[1]

    with gateway_of(service, lanes=2).serving() as gateway:
        threads = [Thread(target=requests.get, args=(f"{gateway.url}/x",), kwargs={"timeout": 10}) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert not both_lanes.broken
    assert len(service.seen) == 4
