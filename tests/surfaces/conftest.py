"""The service as Chalice runs it, without a gateway, on AWS in memory.

Every answer is held to the OpenAPI document, every line of the log to docs/log-lines.schema.json.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
import requests
from chalice.test import Client, HTTPResponse

from app import app
from chalicelib.openapi import document_of
from chalicelib.routing import surfaces
from chalicelib.surfaces.documentation import documentation
from tests.conftest import ARCHIVE, forget_what_was_made
from tests.log_lines import Line, captured
from tests.surfaces.geti import GetiStage, geti

__all__ = ["GetiStage", "geti"]

Json = dict[str, Any]
ID = "model-detector-v1"
VALIDATORS: dict[str, jsonschema_rs.Draft202012Validator] = {}  # of the one document, by schema


@pytest.fixture(scope="session")
def document() -> Json:
    """Made once, for it takes longer than most tests; nobody changes it."""
    return document_of(surfaces(), "https://registry.example/api")


class Service:
    """The service without a gateway. Every answer must be one that the document tells of.

    `lines` is what the last request logged.
    """

    lines: list[Line]

    def __init__(self, client: Client, document: Json) -> None:
        self._client = client
        self._document = document

    def request(self, method: str, path: str, headers: dict[str, str] | None = None, **form: Any) -> HTTPResponse:
        sent = requests.Request(method, f"http://x{path}", headers, **form).prepare()
        body = sent.body or b""
        with captured() as self.lines:
            answer = self._client.http.request(
                method, path, headers=dict(sent.headers), body=body.encode() if isinstance(body, str) else body
            )
        assert [line["status"] for line in self.lines if line.get("message") == "request"] == [answer.status_code]
        self._check(self._operation(method, path.partition("?")[0]), answer)
        return answer

    def register(self, file_type: str = "application/zip", archive: bytes = ARCHIVE, **fields: Any) -> HTTPResponse:
        fields = {"id": ID, "name": "detector", "version": "v1", **fields}
        return self.request("POST", "/models", data=fields, files={"file": ("m.zip", archive, file_type)})

    def _outcome(self) -> Any:
        """What the log says that the last request came to."""
        return next(line["outcome"] for line in self.lines if line.get("message") == "request")

    def _operation(self, method: str, path: str) -> Json:
        for template, methods in self._document["paths"].items():
            if re.fullmatch(re.sub(r"{\w+}", "[^/]+", template), path):
                return methods[method.lower()]
        raise AssertionError(f"{path} is not documented")

    def _check(self, operation: Json, answer: HTTPResponse) -> None:
        told = operation["responses"][str(answer.status_code)]
        if "$ref" in told:
            told = self._document["components"]["responses"][told["$ref"].rpartition("/")[2]]
        body = answer.body.decode()
        for name in told.get("headers", {}):
            # A page without a next one has no Link; a list has no revision; of all 409, only what runs ends.
            may_lack = name == "Link" or (name == "ETag" and answer.body.startswith(b"["))
            may_lack |= (name, answer.status_code) == ("Retry-After", 409)
            # What is not set up does not mend itself.
            may_lack |= (name, answer.status_code) == ("Retry-After", 503) and self._outcome() == "not_configured"
            assert name in answer.headers or may_lack
        if "content" not in told:
            assert not body
            return
        schema = told["content"][answer.headers["Content-Type"].partition(";")[0]]["schema"]
        is_json = "json" in answer.headers["Content-Type"]
        key = json.dumps(schema)
        if key not in VALIDATORS:
            VALIDATORS[key] = validator(self._document, schema)
        VALIDATORS[key].validate(json.loads(body) if is_json else body)


def validator(document: Json, schema: Json) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator({**schema, "components": document["components"]})


@pytest.fixture
def access() -> str:
    """Who may call; modules about tokens say otherwise."""
    return "open"


@pytest.fixture
def service(access: str, aws: None, monkeypatch: pytest.MonkeyPatch, document: Json) -> Iterator[Service]:
    for name, value in {
        "REGISTRY_TABLE": "RegistryTable",
        "EVENTS_TABLE": "EventsTable",
        "ARTIFACT_BUCKET": "artifacts",
        "AUDIT_BUCKET": "audit",
        "ACCESS": access,
        "POWERTOOLS_TRACE_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    forget_what_was_made()
    with Client(app) as client:
        yield Service(client, document)
    forget_what_was_made()
    for text in ("document", "text", "page"):
        documentation.__dict__.pop(text, None)
