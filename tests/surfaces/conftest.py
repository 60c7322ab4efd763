"""The service as Chalice runs it, without a gateway, on AWS in memory. Every answer is held to the OpenAPI document."""

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
from chalicelib.settings import settings
from chalicelib.surfaces.documentation import documentation
from chalicelib.wiring import registry, s3_client, s3_signer
from tests.conftest import ARCHIVE

Json = dict[str, Any]
ID = "model-detector-v1"


@pytest.fixture
def document() -> Json:
    return document_of(documentation.surfaces, "https://registry.example/api")


class Service:
    """The service without a gateway. Every answer must be one that the document tells of."""

    def __init__(self, client: Client, document: Json) -> None:
        self._client = client
        self._document = document

    def request(self, method: str, path: str, headers: dict[str, str] | None = None, **form: Any) -> HTTPResponse:
        sent = requests.Request(method, f"http://x{path}", headers, **form).prepare()
        body = sent.body or b""
        answer = self._client.http.request(
            method, path, headers=dict(sent.headers), body=body.encode() if isinstance(body, str) else body
        )
        self._check(self._operation(method, path.partition("?")[0]), answer)
        return answer

    def register(self, file_type: str = "application/zip", archive: bytes = ARCHIVE, **fields: Any) -> HTTPResponse:
        fields = {"id": ID, "name": "detector", "version": "v1", **fields}
        return self.request("POST", "/models", data=fields, files={"file": ("m.zip", archive, file_type)})

    def _operation(self, method: str, path: str) -> Json:
        for template, methods in self._document["paths"].items():
            if re.fullmatch(re.sub(r"{\w+}", "[^/]+", template), path):
                return methods[method.lower()]
        raise AssertionError(f"{path} is not documented")

    def _check(self, operation: Json, answer: HTTPResponse) -> None:
        told = operation["responses"][str(answer.status_code)]
        body = answer.body.decode()
        for name in told.get("headers", {}):
            # A page without a next one has no Link; a list has no revision.
            assert name in answer.headers or name == "Link" or (name == "ETag" and answer.body.startswith(b"["))
        if "content" not in told:
            assert not body
            return
        schema = told["content"][answer.headers["Content-Type"].partition(";")[0]]["schema"]
        is_json = "json" in answer.headers["Content-Type"]
        validator(self._document, schema).validate(json.loads(body) if is_json else body)


def validator(document: Json, schema: Json) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator({**schema, "components": document["components"]})


@pytest.fixture
def service(aws: None, monkeypatch: pytest.MonkeyPatch, document: Json) -> Iterator[Service]:
    for name, value in {
        "REGISTRY_TABLE": "RegistryTable",
        "EVENTS_TABLE": "EventsTable",
        "ARTIFACT_BUCKET": "artifacts",
        "POWERTOOLS_TRACE_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    made_once = (settings, registry, s3_client, s3_signer)
    for maker in made_once:
        maker.cache_clear()
    with Client(app) as client:
        yield Service(client, document)
    for maker in made_once:
        maker.cache_clear()
    for text in ("document", "text", "page"):
        documentation.__dict__.pop(text, None)
