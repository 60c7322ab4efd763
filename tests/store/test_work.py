"""Orders in SQS, calls of the function that syncs, and the token where an operator keeps it."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from chalice.app import CloudWatchEvent
from moto.backends import get_backend

from chalicelib.geti.states import SYNC, Order
from chalicelib.registry.errors import NotConfigured, Unavailable
from chalicelib.store.secrets import read_parameter, read_secret
from chalicelib.store.work import SqsWork
from tests.conftest import ALICE, Clock, ulids
from tests.store.faults import not_connected, nothing, slow_down, throttled, watched_calls

FUNCTION = "arn:aws:lambda:eu-north-1:123456789012:function:registry-Sync"
ORDER = Order(server_id="geti.test", project_id="p1", group_id="g1", model_id="m1", import_id="i1", by=ALICE, waits=3)
TOKEN = "geti-token-1234567890"


@pytest.fixture(scope="module")
def sqs(moto: None) -> Any:
    return boto3.client("sqs")


@pytest.fixture(scope="module")
def secrets(moto: None) -> Any:
    return boto3.client("secretsmanager")


@pytest.fixture(scope="module")
def parameters(moto: None) -> Any:
    return boto3.client("ssm")


@pytest.fixture(autouse=True)
def _nothing_kept(moto: None, credentials: None) -> None:
    for service in ("sqs", "secretsmanager", "ssm"):
        get_backend(service).reset()


@pytest.fixture
def functions(moto: None) -> Iterator[Any]:
    """Lambda, which takes every call: `sent` are the requests."""
    client = boto3.client("lambda", region_name="eu-north-1")
    client.sent = []

    def answer(request: Any, **_: Any) -> AWSResponse:
        client.sent.append(request)
        return AWSResponse(request.url, 202, {}, _Body())

    client.meta.events.register_first("before-send.lambda.Invoke", answer)
    yield client
    client.close()


class _Body:
    def stream(self, **_: Any) -> Iterator[bytes]:
        return iter(())


def work_of(sqs: Any, functions: Any, queue_url: str | None, function: str | None = FUNCTION) -> SqsWork:
    return SqsWork(queue_url, function, lambda: sqs, lambda: functions, Clock(), ulids())


@pytest.mark.parametrize("order", [ORDER, ORDER.model_copy(update={"by": SYNC, "import_id": None})])
def test_an_order_comes_out_of_the_queue_as_it_was_put(sqs: Any, order: Order) -> None:
    url = sqs.create_queue(QueueName="imports")["QueueUrl"]

    work_of(sqs, None, url).queue(order)

    (message,) = sqs.receive_message(QueueUrl=url)["Messages"]
    assert Order.model_validate_json(message["Body"]) == order


@pytest.mark.parametrize(("asked", "given"), [(0, 0), (120, 120), (7200, 900)])
def test_an_order_waits_as_long_as_sqs_allows(sqs: Any, asked: int, given: int) -> None:
    url = sqs.create_queue(QueueName="imports")["QueueUrl"]
    sent: list[Any] = []
    sqs.meta.events.register("before-parameter-build.sqs.SendMessage", lambda params, **_: sent.append(params))

    work_of(sqs, None, url).queue(ORDER, asked)

    assert sent[-1]["DelaySeconds"] == given


def test_a_sync_is_started_by_an_event_as_the_schedule_sends_them(functions: Any) -> None:
    work_of(None, functions, None).start_sync("run1")

    (request,) = functions.sent
    assert request.headers["X-Amz-Invocation-Type"] == b"Event"
    assert "registry-Sync/invocations" in request.url
    event = CloudWatchEvent(json.loads(request.body), context=None)
    assert event.detail == {"run_id": "run1"}
    assert (event.source, event.detail_type) == ("model-registry", "Sync asked for")
    assert (event.account, event.region, event.resources) == ("123456789012", "eu-north-1", [])
    assert event.time == "2026-01-02T03:04:05.001000Z"


def test_a_function_may_be_named_without_its_arn(functions: Any) -> None:
    work_of(None, functions, None, "Sync").start_sync("run1")

    assert json.loads(functions.sent[0].body)["account"] == ""


@pytest.mark.parametrize(
    ("ask", "setting"),
    [(lambda work: work.queue(ORDER), "IMPORT_QUEUE_URL"), (lambda work: work.start_sync("run1"), "SYNC_FUNCTION")],
)
def test_what_is_not_set_is_missed_when_it_is_needed(ask: Callable[[SqsWork], None], setting: str) -> None:
    with pytest.raises(NotConfigured, match=setting):
        ask(work_of(None, None, None, None))


@pytest.mark.parametrize("error", [slow_down, not_connected])
def test_what_could_not_be_asked_for_is_told(sqs: Any, functions: Any, error: Callable[[str], Exception]) -> None:
    url = sqs.create_queue(QueueName="imports")["QueueUrl"]
    work = work_of(sqs, functions, url)

    def fail(called: str, _: int) -> None:
        raise error(called)

    with watched_calls(fail, nothing):
        with pytest.raises(Unavailable, match="could not be queued"):
            work.queue(ORDER)
        with pytest.raises(Unavailable, match="could not be started"):
            work.start_sync("run1")


def test_a_queue_that_is_not_there_is_told(sqs: Any) -> None:
    with pytest.raises(Unavailable):
        work_of(sqs, None, "https://sqs.us-east-1.amazonaws.com/123456789012/gone").queue(ORDER)


# --- The token


@pytest.mark.parametrize(
    "text",
    [
        TOKEN,
        f"{TOKEN}\n",
        json.dumps({"token": TOKEN}),
        json.dumps({"anything": TOKEN}),
        json.dumps({"user": "geti", "GETI_TOKEN": TOKEN}),
        json.dumps({"user": "geti", "token": TOKEN, "GETI_TOKEN": "other"}),
    ],
)
def test_a_token_is_read_from_a_secret(secrets: Any, text: str) -> None:
    secrets.create_secret(Name="geti", SecretString=text)

    assert read_secret(secrets, "geti") == TOKEN


@pytest.mark.parametrize("text", ["123456", "null", "[1]", '"quoted"'])
def test_what_is_no_object_is_the_token_itself(secrets: Any, text: str) -> None:
    secrets.create_secret(Name="geti", SecretString=text)

    assert read_secret(secrets, "geti") == text


@pytest.mark.parametrize(
    "kept",
    [
        {"SecretString": json.dumps({"one": TOKEN, "other": TOKEN})},
        {"SecretString": json.dumps({"token": {"nested": TOKEN}})},
        {"SecretString": json.dumps({"token": ""})},
        {"SecretString": "{}"},
        {"SecretString": " "},
        {"SecretBinary": TOKEN.encode()},
    ],
)
def test_a_secret_without_a_token_says_where_to_look_and_shows_nothing(secrets: Any, kept: dict[str, Any]) -> None:
    secrets.create_secret(Name="geti", **kept)

    with pytest.raises(NotConfigured, match="GETI_TOKEN_SECRET") as caught:
        read_secret(secrets, "geti")

    assert TOKEN not in everything_told(caught.value)


def test_a_token_is_read_from_an_encrypted_parameter(parameters: Any) -> None:
    parameters.put_parameter(Name="/geti/token", Value=f" {TOKEN} ", Type="SecureString")

    assert read_parameter(parameters, "/geti/token") == TOKEN


def test_what_is_not_there_is_for_the_operator_to_set(secrets: Any, parameters: Any) -> None:
    with pytest.raises(NotConfigured, match=r"GETI_TOKEN_SECRET .*\(ResourceNotFoundException\)"):
        read_secret(secrets, "geti")
    with pytest.raises(NotConfigured, match=r"GETI_TOKEN_PARAMETER .*\(ParameterNotFound\)"):
        read_parameter(parameters, "/geti/token")


@pytest.mark.parametrize("error", [throttled, slow_down, not_connected])
def test_what_cannot_be_read_now_can_be_read_later(
    secrets: Any, parameters: Any, error: Callable[[str], Exception]
) -> None:
    def fail(called: str, _: int) -> None:
        raise error(called)

    with watched_calls(fail, nothing):
        for read in (lambda: read_secret(secrets, "geti"), lambda: read_parameter(parameters, "/geti/token")):
            with pytest.raises(Unavailable, match="try again") as caught:
                read()
            assert not isinstance(caught.value, NotConfigured)


def everything_told(exc: BaseException | None) -> str:
    """The texts of an error and of all that led to it."""
    return f"{exc!r}{everything_told(exc.__cause__)}{everything_told(exc.__context__)}" if exc else ""
