"""What the log says: one line for each request, one for each change, metrics beside them, and never a secret.

Every line of ours is held to docs/log-lines.schema.json, here as the emulator's CloudWatch Logs keeps it.
"""

import base64
import json
import re
import time
import uuid

import pytest
import requests

from tests.conftest import zip_of
from tests.e2e.strict_stack import Api, unique
from tests.log_lines import Line, checked

GROUP = "/aws/lambda/model-registry-{}"
APPEARS_WITHIN_SECONDS = 10
# Of Lambda itself.
FOREIGN = re.compile(r"(START|END|REPORT|INIT_START|XRAY) ")


def messages(api: Api, since: float, function: str = "api") -> list[str]:
    """All that a function has logged since then."""
    pages = api.stack.aws("logs").get_paginator("filter_log_events")
    found = pages.paginate(logGroupName=GROUP.format(function), startTime=int(since * 1000) - 1000)
    return [event["message"].strip() for page in found for event in page["events"]]


def structured(logged: list[str]) -> list[Line]:
    """The lines of ours, each as the schema says."""
    return [checked(message) for message in logged if not FOREIGN.match(message)]


def lines_of(api: Api, answer: requests.Response, since: float) -> list[Line]:
    """The structured lines of one request, when its request line is there."""
    deadline = time.monotonic() + APPEARS_WITHIN_SECONDS
    request_id = answer.headers["X-Request-Id"]
    while time.monotonic() < deadline:
        lines = [line for line in structured(messages(api, since)) if line.get("request_id") == request_id]
        if any(line["message"] == "request" for line in lines):
            return lines
        time.sleep(0.1)
    pytest.fail(f"The request {request_id} is not in the log.")


def the(message: str, lines: list[Line]) -> Line:
    """The one line with this message."""
    (line,) = [line for line in lines if line["message"] == message]
    return line


@pytest.mark.parametrize(
    ("method", "path", "operation", "outcome", "status"),
    [
        ("GET", "/health", "get_health", "ok", 200),
        ("GET", "/models?limit=1", "list_models", "ok", 200),
        ("GET", "/models?foo=1", "list_models", "unsupported_keys", 422),
        ("GET", "/models/no-such-model-0000", "get_model", "not_found", 404),
        ("GET", "/models/short", "get_model", "invalid_id", 400),
        ("GET", "/models/no-such-model-0000/files", "download_model", "not_found", 404),
        ("POST", "/models", "register_model", "unprocessable", 422),
        ("PUT", "/models/no-such-model-0000", "update_model", "nothing_to_change", 400),
        ("DELETE", "/models/no-such-model-0000", "delete_model", "not_found", 404),
        ("GET", "/projects", "list_projects", "not_configured", 503),
    ],
)
def test_every_request_has_one_line(api: Api, method: str, path: str, operation: str, outcome: str, status: int):
    since = time.time()

    line = the("request", lines_of(api, api.request(method, path), since))

    assert {"source_ip", "request_id", "user_agent"} <= line.keys()
    assert (line["operation"], line["method"], line["outcome"], line["status"]) == (operation, method, outcome, status)
    assert (line["level"], line["actor"], line["service"]) == ("INFO", "anonymous", "model-registry")
    assert 0 <= line["latency_ms"] < 30_000


@pytest.mark.parametrize(("method", "path", "status"), [("PATCH", "/models", 405), ("GET", "/nothing/here", 404)])
def test_requests_for_what_is_not_there_have_a_line_too(api: Api, method: str, path: str, status: int):
    since = time.time()

    assert the("request", lines_of(api, api.request(method, path), since))["status"] == status


def test_the_line_names_the_model_that_was_asked_for(api: Api):
    model_id, since = api.register(), time.time()

    for answer in (api.get(f"/models/{model_id}"), api.get(f"/models/{model_id}/files")):
        assert the("request", lines_of(api, answer, since))["subject"] == model_id


def test_every_request_is_counted_and_timed_by_operation_and_outcome(api: Api):
    since = time.time()
    line = the("request", lines_of(api, api.get("/models/no-such-model-0000"), since))

    logged = structured(messages(api, since))

    metric = logged[logged.index(line) + 1]
    assert (metric["operation"], metric["outcome"], metric["Requests"]) == ("get_model", "not_found", [1.0])
    assert metric["Latency"] == [pytest.approx(line["latency_ms"], abs=0.1)]
    (directive,) = metric["_aws"]["CloudWatchMetrics"]
    assert directive["Namespace"] == "ModelRegistry"
    assert set(directive["Dimensions"][0]) == {"operation", "outcome", "service"}
    assert directive["Metrics"] == [
        {"Name": "Requests", "Unit": "Count"},
        {"Name": "Latency", "Unit": "Milliseconds"},
    ]


HOSTILE = 'x"}{"message":"audit","actor":"root"}[2J'


def test_what_a_client_says_of_itself_cannot_make_a_line(api: Api):
    since = time.time()
    headers = {"User-Agent": HOSTILE + "\u00e9" * 3 + "x" * 5000, "X-Forwarded-For": HOSTILE}

    answer = api.get("/models/%7D%0A%7B%22message%22%3A%22audit%22%7D%1B%5B2J%E2%80%AE", headers=headers)
    named = api.post_model({"name": unique('}\u2028{"message": "audit"}')})

    line = the("request", lines_of(api, answer, since))
    assert (line["status"], line["subject"]) == (400, '}\n{"message":"audit"}\x1b[2J\u202e')
    assert line["user_agent"].startswith(HOSTILE)
    assert len(line["user_agent"]) == 256
    assert {line["message"] for line in lines_of(api, named, since)} == {"request", "audit"}


def test_every_change_has_one_audit_line_that_says_what_changed(api: Api):
    since = time.time()
    name = unique("detector")
    registered = api.post_model({"name": name, "category": "c"})
    model_id = registered.text
    updated = api.put(f"/models/{model_id}", data={"category": "d", "score": "0.5"})
    deleted = api.delete(f"/models/{model_id}")

    lines = [the("audit", lines_of(api, answer, since)) for answer in (registered, updated, deleted)]

    assert [line["action"] for line in lines] == ["version.registered", "version.updated", "version.deleted"]
    assert all({"source_ip", "request_id", "user_agent"} <= line.keys() for line in lines)
    assert {(line["subject"], line["actor"]) for line in lines} == {(model_id, "anonymous")}
    assert lines[0]["changes"]["name"] == [None, name]
    assert (lines[1]["changes"]["category"], lines[1]["changes"]["score"]) == (["c", "d"], [0.0, 0.5])
    assert set(lines[1]["changes"]) == {"category", "score", "revision", "updated_at", "changed_at"}
    assert lines[2]["changes"]["category"] == ["d", None]


def test_what_changes_nothing_has_no_audit_line(api: Api):
    model_id, since = api.register(category="c"), time.time()

    answers = [
        api.get(f"/models/{model_id}"),
        api.put(f"/models/{model_id}", data={"category": "c"}),
        api.put(f"/models/{model_id}", data={"category": "d"}, headers={"If-Match": '"9"'}),
        api.put(f"/models/{model_id}", data={"score": "high"}),
        api.post_model({"id": model_id}),
        api.delete("/models/no-such-model-0000"),
    ]

    for answer in answers:
        assert {line["message"] for line in lines_of(api, answer, since)} == {"request"}


def has_metrics(lines: list[Line]) -> bool:
    return any("_aws" in line for line in lines)


SCHEDULED = {"source": "aws.events", "version": "0", "id": "1", "account": "1", "time": "2026-01-01T00:00:00Z"}
SCHEDULED |= {"region": "us-east-1", "resources": [], "detail": {}, "detail-type": "Scheduled Event"}  # type: ignore[dict-item]


@pytest.mark.parametrize("function", ["sweep", "checkpoint"])
def test_what_runs_by_itself_has_one_line_a_run_and_its_metrics(api: Api, function: str):
    since, functions = time.time(), api.stack.aws("lambda")

    answer = functions.invoke(FunctionName=api.stack.function(function.title()), Payload=json.dumps(SCHEDULED).encode())

    with answer["Payload"] as body:
        counts = json.loads(body.read())
    deadline = time.monotonic() + APPEARS_WITHIN_SECONDS
    while not has_metrics(lines := structured(messages(api, since, function))):
        assert time.monotonic() < deadline, "its metrics are not in the log"
        time.sleep(0.1)
    line = the(function, [line for line in lines if "message" in line])
    assert counts.items() <= line.items()
    assert line["service"] == "model-registry"
    assert [entry["operation"] for entry in lines if "_aws" in entry] == [function]


def test_no_secret_gets_into_the_log(api: Api):
    since = time.time()
    secret = uuid.uuid4().hex
    credentials = base64.b64encode(f"user:{secret}".encode()).decode()
    archive = zip_of(weights__txt=f"weights {secret}")
    model_id = api.register(archive)

    urls = [api.get(f"/models/{model_id}/files").headers["Location"] for _ in range(2)]
    api.get(f"/models/{model_id}", headers={"Authorization": f"Basic {credentials}", "X-Api-Key": secret})
    api.get("/models", params={"name": secret}, headers={"Cookie": f"session={secret}"})
    api.get(f"/models?token={secret}&page_token={secret}")
    api.post_model({"overview": secret, "sha256": secret, "name": ""})
    api.post_model({"description": secret}, archive=b"not a ZIP")
    api.put(f"/models/{model_id}", data=secret, headers={"Content-Type": "text/plain", "If-Match": secret})
    last = api.get("/models/short", params={"token": secret})
    lines_of(api, last, since)

    logged = "\n".join(messages(api, since))
    signatures = {re.search("X-Amz-Signature=([0-9a-f]+)", url)[1] for url in urls}  # type: ignore[index]
    sessions = {re.search("X-Amz-Security-Token=([^&]+)", url)[1] for url in urls}  # type: ignore[index]
    assert model_id in logged
    for unwanted in (secret, credentials, *signatures, *sessions, "X-Amz-", "Authorization", "PK\x03\x04"):
        assert unwanted not in logged
