"""The whole service in one process: events as API Gateway makes them in, answers out, AWS in memory.

Whatever is asked, the answer has a status that the OpenAPI document tells of for the operation, and none is an error of
the service; every line that is logged is as docs/log-lines.schema.json says.
"""

import base64
import json
import re
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import app
from chalicelib.surfaces.mlflow.routes import mlflow
from tests.conftest import create_audit_bucket
from tests.fuzz.conftest import fuzzed, tally
from tests.fuzz.strategies import (
    CHANGE,
    COMPLETION,
    FIELDS,
    GOOD_TOKEN,
    KNOWN_ID,
    MLFLOW,
    PARTS,
    SYNC,
    TOKEN,
    UPLOAD,
    WANTED,
    authorizations,
    etags,
    form_bodies,
    idempotency_keys,
    ids,
    json_bodies,
    json_values,
    page_tokens,
    queries,
    texts,
)
from tests.log_lines import Line, captured
from tests.surfaces.conftest import Service

Json = dict[str, Any]
NOT_CONFIGURED = {("GET", "/projects"), ("GET", "/projects/{project_id}")}
NOT_CONFIGURED |= {("POST", "/projects/{project_id}/geti-models/download"), ("POST", "/sync"), ("GET", "/sync")}
ROUTES = sorted(
    (method, path)
    for path, methods in app.routes.items()
    for method, route in methods.items()
    if not route.view_name.startswith("method_not_allowed")
)
MLFLOW_CALLS = sorted((call.method, f"/api/{call.path}") for call in mlflow.calls)
MLFLOW_STATUSES = {200, 307, 400, 401, 403, 404, 405, 409, 413, 501}
PAGED = ["/models", "/registered-models", f"/models/{KNOWN_ID}/manifest"]
JSON_OF = {
    ("POST", "/uploads"): UPLOAD,
    ("POST", "/uploads/{upload_id}/parts"): PARTS,
    ("POST", "/uploads/{upload_id}/complete"): COMPLETION,
    ("PATCH", "/registered-models"): CHANGE,
    ("POST", "/tokens"): TOKEN,
    ("POST", "/projects/{project_id}/geti-models/download"): WANTED,
    ("POST", "/sync"): SYNC,
}


class Context:
    """As Lambda hands it over."""

    aws_request_id = "r-1"
    function_name = "api"

    def get_remaining_time_in_millis(self) -> int:
        return 29_000


@dataclass
class Asked:
    """One request, as API Gateway took it apart."""

    method: str
    path: str
    parameters: dict[str, str] = field(default_factory=dict)
    query: dict[str, list[str]] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    def event(self) -> Json:
        return {
            "requestContext": {
                "httpMethod": self.method,
                "resourcePath": self.path,
                "path": self.path,
                "requestId": "r-1",
                "identity": {"sourceIp": "192.0.2.1"},
            },
            "headers": {name.lower(): value for name, value in self.headers.items()},
            "pathParameters": self.parameters or None,
            "multiValueQueryStringParameters": self.query or None,
            "stageVariables": None,
            "body": base64.b64encode(self.body).decode(),
            "isBase64Encoded": True,
        }


class Lambda:
    """The function, and what its answers may be."""

    def __init__(self, document: Json) -> None:
        self._document = document
        self.lines: list[Line] = []

    def __call__(self, asked: Asked) -> Json:
        """The answer, checked."""
        with captured() as self.lines:
            answer: Json = app(asked.event(), Context())
        status = answer["statusCode"]
        if asked.path.startswith(("/api/", "/ajax-api/")):
            assert status in MLFLOW_STATUSES, self.lines
            assert status < 400 or json.loads(answer["body"])["error_code"]
            return self._logged(answer)
        assert status < 500 or (status == 503 and (asked.method, asked.path) in NOT_CONFIGURED), self.lines
        if asked.path != "/{proxy+}":
            told = self._document["paths"][asked.path][asked.method.lower()]["responses"]
            assert str(status) in told
        return self._logged(answer)

    def _logged(self, answer: Json) -> Json:
        told = [line["status"] for line in self.lines if line.get("message") == "request"]
        assert told == [answer["statusCode"]]
        assert all(re.fullmatch(r"[ -~]*", str(value)) for value in answer["headers"].values())
        return answer


@pytest.fixture
def ask(service: Service, document: Json) -> Lambda:
    """The service with one model in it."""
    create_audit_bucket()
    assert service.register(id=KNOWN_ID).status_code == 201
    return Lambda(document)


@st.composite
def routed(draw: st.DrawFn, routes: list[tuple[str, str]]) -> Asked:
    method, path = draw(st.sampled_from(routes))
    return Asked(method, path, {name: draw(ids) for name in re.findall(r"{(\w+)\+?}", path)})


@fuzzed(0.02)
@given(routed([("POST", "/models"), ("PUT", "/models/{model_id}")]), form_bodies)
def test_a_form_is_taken_or_refused(ask, asked, sent):
    asked.body, asked.headers = sent[0], {"Content-Type": sent[1]}

    tally("forms, served", str(ask(asked)["statusCode"]))


@pytest.mark.parametrize("route", JSON_OF, ids=" ".join)
@fuzzed(0.006)
@given(data=st.data())
def test_a_body_of_json_is_taken_or_refused(ask, route, data):
    asked = data.draw(routed([route]))
    asked.body, content_type = data.draw(json_bodies(JSON_OF[route]))
    asked.headers = {"Content-Type": content_type}

    tally("JSON", str(ask(asked)["statusCode"]))


@fuzzed(0.03)
@given(routed([route for route in ROUTES if route[0] == "GET"]), queries([*FIELDS, "limit", "number", "alias", "deep"]))
def test_a_query_is_answered_or_refused(ask, asked, query):
    asked.query = query

    tally("queries", str(ask(asked)["statusCode"]))


@fuzzed(0.02)
@given(st.sampled_from(PAGED), page_tokens(), st.sampled_from([{}, {"name": ["detector"]}]))
def test_a_page_token_is_a_place_to_go_on_or_refused(ask, path, token, query):
    template = path.replace(KNOWN_ID, "{model_id}")
    parameters = {"model_id": KNOWN_ID} if template != path else {}

    tally("pages, served", str(ask(Asked("GET", template, parameters, {**query, "page_token": [token]}))["statusCode"]))


@fuzzed(0.02)
@given(st.sampled_from(["PUT", "GET"]), etags)
def test_a_precondition_is_kept_or_refused(ask, method, etag):
    if method == "PUT":
        asked = Asked("PUT", "/models/{model_id}", {"model_id": KNOWN_ID}, headers={"If-Match": etag})
        asked.headers["Content-Type"], asked.body = "application/x-www-form-urlencoded", b"score=0.5"
    else:
        asked = Asked("GET", "/openapi.json", headers={"If-None-Match": etag})

    tally("preconditions", str(ask(asked)["statusCode"]))


@fuzzed(0.02)
@given(idempotency_keys, json_bodies(UPLOAD))
def test_a_repeated_request_is_answered_alike_or_refused(ask, key, sent):
    headers = {"Idempotency-Key": key, "Content-Type": sent[1]}

    first, second = (ask(Asked("POST", "/uploads", headers=headers, body=sent[0]))["statusCode"] for _ in range(2))

    tally("Idempotency-Key", str(first))
    assert first == second


@fuzzed(0.1)
@given(st.sampled_from(MLFLOW_CALLS), json_bodies(MLFLOW), queries(sorted(MLFLOW)), st.lists(ids | texts, min_size=1))
def test_a_call_of_mlflow_is_answered_or_refused(ask, call, sent, query, parts):
    method, path = call
    for part in parts:
        path = re.sub(r"{\w+\+?}", lambda _, part=part: part, path, count=1)
    asked = Asked(method, "/api/{proxy+}", {"proxy": path.removeprefix("/api/")})
    if method == "GET":
        asked.query = query
    else:
        asked.body, asked.headers = sent[0], {"Content-Type": sent[1]}

    tally("MLflow", str(ask(asked)["statusCode"]))


@pytest.mark.parametrize("access", ["token"])
@fuzzed(0.02)
@given(data=st.data())
def test_without_the_token_nothing_is_told(open_to_tokens, access, data):
    public = {("GET", "/health"), ("GET", "/docs"), ("GET", "/openapi.json")}
    asked = data.draw(routed([route for route in ROUTES if route not in public and route[1] != "/{proxy+}"]))
    asked.headers = {"Authorization": data.draw(authorizations)}

    status = open_to_tokens(asked)["statusCode"]

    tally("tokens, served", str(status))
    assert status == 401


@pytest.fixture
def open_to_tokens(service: Service, document: Json) -> Lambda:
    """The service when it asks for tokens; it has given none out."""
    return Lambda(document)


@fuzzed(0.02)
@given(
    routed(ROUTES),
    queries(["limit", "name", "page_token"]),
    st.dictionaries(
        st.sampled_from(
            ["Authorization", "If-Match", "Idempotency-Key", "Content-Type", "User-Agent", "Accept", "Range"]
        ),
        texts | st.sampled_from(["application/json", f"Bearer {GOOD_TOKEN}"]),
    ),
    st.binary(max_size=60) | json_values.map(str).map(lambda text: text.encode(errors="replace")),
)
def test_anything_is_answered(ask, asked, query, headers, body):
    asked.query, asked.headers, asked.body = query, headers, body

    tally("anything", str(ask(asked)["statusCode"]))
