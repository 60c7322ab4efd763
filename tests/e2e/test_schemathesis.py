"""The document against the running service: what it allows is answered as it says, what it forbids is refused.

schemathesis makes the requests from the served document, the same ones every time, through the strict gateway. They
are independent of each other: no request uses what another was answered.
"""

import itertools
import time
from collections.abc import Callable
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from chalicelib.routing import surfaces
from tests.conftest import ARCHIVE
from tests.e2e.strict_stack import Api

MAX_SECONDS = 40
MAX_EXAMPLES = 15
CONFORMANCE = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
# What a form holds as text; a string that is no JSON would end every request there.
JSON_TEXTS = {
    "overview": '{"layers": 12}',
    "optimization_capabilities": "{}",
    "labels": '["cat", {"name": "dog"}]',
    "tags": '{"team": "vision"}',
}
NUMBERS = itertools.count()
ACCEPTED = {200, 201, 204, 307}
# What the state forbids, not the document.
REFUSED_BY_STATE = {404, 409, 412}
# 503 until a Geti server is configured.
NEED_GETI = ("/projects", "/projects/{project_id}", "/projects/{project_id}/geti-models/download", "/sync")


@pytest.fixture(scope="session")
def deadline() -> float:
    """When the requests end, whatever was not asked by then."""
    return time.monotonic() + MAX_SECONDS


@pytest.fixture(scope="session")
def model_id(api: Api) -> str:
    return api.register()


@pytest.fixture(scope="session")
def served_document(api: Api) -> Any:
    return schemathesis.openapi.from_url(f"{api.url}/openapi.json")


OPERATIONS = [operation for surface in surfaces() for operation in surface.operations]
CAN_BE_WRONG = [
    operation for operation in OPERATIONS if operation.query or operation.body or "{model_id}" in operation.path
]


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.view)
def test_what_the_document_allows_is_answered_as_it_says(served_document, operation, model_id, deadline):
    def ask(case: Any) -> None:
        make_real(case, model_id)
        answer = case.call(timeout=30)
        case.validate_response(answer, checks=CONFORMANCE)
        if operation.path not in NEED_GETI:
            assert answer.status_code in ACCEPTED | REFUSED_BY_STATE, answer.text

    ask_all(served_document[operation.path][operation.method], GenerationMode.POSITIVE, ask, deadline)


@pytest.mark.parametrize("operation", CAN_BE_WRONG, ids=lambda operation: operation.view)
def test_what_the_document_forbids_is_refused_as_it_says(served_document, operation, deadline):
    # In a form a value of another type is text like any other, and may be accepted.
    checks = CONFORMANCE if operation.body else [*CONFORMANCE, negative_data_rejection]
    checks = checks if operation.path in NEED_GETI else [*checks, not_a_server_error]

    def ask(case: Any) -> None:
        if isinstance(case.body, bytes) and not is_utf8(case.body):
            return  # no JSON, and the strict gateway refuses what the real one would mangle
        case.validate_response(case.call(timeout=30), checks=checks)

    ask_all(served_document[operation.path][operation.method], GenerationMode.NEGATIVE, ask, deadline)


def ask_all(operation: Any, mode: GenerationMode, ask: Callable[[Any], None], deadline: float) -> None:
    """Ask with every case that schemathesis makes, until the deadline."""

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=MAX_EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        # No shrinking: a failure names its request, and a minute is soon over.
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def ask_each(case: Any) -> None:
        if time.monotonic() < deadline:
            ask(case)

    ask_each()


def is_utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def make_real(case: Any, model_id: str) -> None:
    """Put in what no schema can tell: the id of a model, an archive, JSON as text; no page token, no digest."""
    if "model_id" in case.path_parameters and case.method.upper() != "DELETE":
        case.path_parameters["model_id"] = model_id
    case.query.pop("page_token", None)
    if "since" in case.query:
        case.query.pop("until", None)  # which would have to be later
    if key := (case.headers or {}).get("Idempotency-Key"):
        # One that no other request has: with another content it would be refused.
        case.headers["Idempotency-Key"] = f"{key[:200]}{next(NUMBERS)}"
    narrowed = [name for name in ("alias", "number") if name in case.query]
    for name in narrowed[1 if "name" in case.query and "version" not in case.query else 0 :]:
        del case.query[name]
    if "version" in case.query and case.operation.path == "/registered-models" and "name" not in case.query:
        del case.query["version"]
    if case.operation.path == "/tokens/{token_id}/access":
        make_question_real(case.query)
    if isinstance(case.body, dict) and "json" in (case.media_type or ""):
        make_json_real(case.body)
    elif isinstance(case.body, dict):
        case.body.pop("sha256", None)
        case.body.update({name: text for name, text in JSON_TEXTS.items() if name in case.body})
        if "file" in case.body:
            case.body["file"] = ARCHIVE


def make_question_real(query: dict[str, Any]) -> None:
    """About a model by its id, or by its name and project."""
    if "model_id" in query or "name" not in query:
        for name in ("name", "project_id", "project_name"):
            query.pop(name, None)


def make_json_real(body: dict[str, Any]) -> None:
    """A small file needs its digest; a number needs a version; a token lives, and a project is one."""
    if "file_name" in body:
        body.update(sha256="0" * 64, media_type="application/zip")
    if "aliases" in body:
        body["aliases"] = {"old": None}
    if "role" in body:
        body.pop("expires_at", None)
        body["projects"] = [{"name": "vision"}]
