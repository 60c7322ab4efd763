"""The OpenAPI document and its page: complete, valid, and true to what the service answers."""

import json
import re
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import jsonschema_rs
import pytest
from schemathesis.specs.openapi.definitions import OPENAPI_31

from app import app
from chalicelib import __version__
from chalicelib.openapi import document_of
from chalicelib.registry.models import Changes, Draft
from chalicelib.settings import settings
from chalicelib.surface import METHODS
from tests.conftest import ROOT
from tests.surfaces.conftest import ID, Json, validator

LONG = "x" * 300


def test_every_route_is_documented_and_every_documented_route_exists(document):
    refused = "method_not_allowed"
    routes = {
        (method, path)
        for path, methods in app.routes.items()
        for method, entry in methods.items()
        # What is behind them is MLflow's protocol, or nothing.
        if entry.view_name.split()[0] != refused and not path.endswith("/{proxy+}")
    }

    documented = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}

    assert documented == routes
    assert all(set(methods) == set(METHODS) for methods in app.routes.values())


def test_the_document_is_valid_openapi(document):
    # The schema of the OpenAPI Initiative, which leaves the schemas within to JSON Schema's own.
    assert [str(error) for error in jsonschema_rs.validator_for(OPENAPI_31).iter_errors(document)] == []
    for schema in document["components"]["schemas"].values():
        jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})


def test_every_reference_leads_somewhere(document):
    for reference in set(re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(document))):
        target = document
        for step in reference.split("/"):
            target = target[step]


def test_the_document_bears_the_version_of_the_project(document):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert document["info"]["version"] == __version__ == project["version"]


def test_the_server_is_the_public_url_or_where_the_document_was_read():
    assert document_of([], "https://registry.example/api")["servers"] == [{"url": "https://registry.example/api"}]
    assert document_of([], None)["servers"] == [{"url": "."}]


def test_the_form_of_a_registration_has_the_fields_that_are_accepted(document):
    form = document["components"]["schemas"]["RegistrationForm"]

    assert set(form["properties"]) == {*Draft.model_fields, "file", "sha256"}
    assert set(form["required"]) == {"name", "version", "file"}
    assert form["properties"]["file"]["format"] == "binary"


def test_the_form_of_a_change_has_the_fields_that_can_be_changed_and_requires_none(document):
    form = document["components"]["schemas"]["ChangeForm"]

    assert set(form["properties"]) == set(Changes.model_fields)
    assert "required" not in form
    assert not [name for name, field in form["properties"].items() if "default" in field]


@pytest.mark.parametrize("name", ["overview", "optimization_capabilities", "labels", "tags"])
def test_a_form_carries_objects_and_labels_as_json_text(document, name):
    for form in ("RegistrationForm", "ChangeForm"):
        field = document["components"]["schemas"][form]["properties"][name]

        assert field["type"] == "string"
        assert field["contentMediaType"] == "application/json"


def test_every_field_of_a_form_is_accepted_by_the_service(service, document):
    values = {"score": "0.5", "precision": ["FP16", "int8"], "overview": "{}", "optimization_capabilities": "{}"}
    values |= {"labels": '["cat"]', "tags": '{"team": "vision"}', "id": ID, "sha256": ""}
    fields = {
        name: values.get(name, "x") for name in document["components"]["schemas"]["RegistrationForm"]["properties"]
    }
    del fields["file"]

    assert service.register(**fields).status_code == 201
    changes = {name: value for name, value in fields.items() if name not in ("id", "sha256")}
    assert service.request("PUT", f"/models/{ID}", data=changes).status_code == 200


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", " "),
        ("name", LONG),
        ("name", "a\x00b"),
        ("version", ""),
        ("project_id", LONG),
        ("category", "\x85"),
        ("precision", "bf99"),
        ("score", "x"),
        ("id", "short"),
        ("sha256", "x"),
    ],
)
def test_what_a_form_may_not_hold_is_refused_by_the_document_and_by_the_service(service, document, field, value):
    schema = document["components"]["schemas"]["RegistrationForm"]["properties"][field]
    sent = [value] if schema.get("type") == "array" else value

    assert not validator(document, schema).is_valid(sent)
    assert service.register(**{field: value}).status_code in (400, 422)


FORM_TOO_LARGE = {"data": {"description": "x" * 4_600_000}}
SCORE = {"data": {"score": "1"}}
# In this order: a model is there until it is deleted.
ANSWERS: list[tuple[int, str, str, dict[str, Any]]] = [
    (422, "POST", "/models", {}),
    (415, "POST", "/models", {"json": {}}),
    (413, "POST", "/models", FORM_TOO_LARGE),
    (200, "GET", "/models", {}),
    (200, "GET", "/models?name=ector", {}),
    (200, "GET", "/models?limit=1", {}),
    (404, "GET", "/models?name=z", {}),
    (422, "GET", "/models?unknown=b", {}),
    (422, "GET", "/models?limit=0", {}),
    (422, "GET", "/models?name=", {}),
    (200, "GET", f"/models/{ID}", {}),
    (307, "GET", f"/models/{ID}/files", {}),
    (200, "PUT", f"/models/{ID}", SCORE),
    (412, "PUT", f"/models/{ID}", {**SCORE, "headers": {"If-Match": '"99"'}}),
    (422, "PUT", f"/models/{ID}", {**SCORE, "headers": {"If-Match": "99"}}),
    (400, "PUT", f"/models/{ID}", {}),
    (400, "PUT", f"/models/{ID}", {"data": {"precision": "bf99"}}),
    (422, "PUT", f"/models/{ID}", {"data": {"score": "x"}}),
    (422, "PUT", f"/models/{ID}", {"data": {"name": "a", "id": "b"}}),
    (415, "PUT", f"/models/{ID}", {"json": {}}),
    (413, "PUT", f"/models/{ID}", FORM_TOO_LARGE),
    (204, "DELETE", f"/models/{ID}", {}),
    (404, "GET", f"/models/{ID}", {}),
    (404, "GET", f"/models/{ID}/files", {}),
    (404, "PUT", f"/models/{ID}", SCORE),
    (404, "DELETE", f"/models/{ID}", {}),
    (400, "GET", "/models/short", {}),
    (400, "GET", "/models/short/files", {}),
    (400, "PUT", "/models/short", SCORE),
    (400, "DELETE", "/models/short", {}),
    (503, "GET", "/projects", {}),
    (503, "GET", "/projects/1", {}),
    (503, "POST", "/projects/1/geti-models/download", {"json": {"models": [{"id": "a", "group_id": "b"}]}}),
    (422, "POST", "/projects/1/geti-models/download", {"json": {}}),
    (415, "POST", "/projects/1/geti-models/download", {"data": {"models": "a"}}),
    (413, "POST", "/projects/1/geti-models/download", {"json": {"models": "x" * 1_100_000}}),
    (503, "POST", "/sync", {"json": {}}),
    (503, "GET", "/sync", {}),
    (200, "GET", "/sync/checks", {}),
    (404, "GET", "/imports/1", {}),
    (200, "GET", "/health", {}),
    (200, "GET", "/health?deep=true", {}),
    (422, "GET", "/health?deep=x", {}),
    (200, "GET", "/openapi.json", {}),
    (200, "GET", "/docs", {}),
]


def test_what_the_service_answers_is_as_documented(service):
    service.register()

    answered = [service.request(method, path, **form).status_code for _, method, path, form in ANSWERS]

    assert answered == [status for status, *_ in ANSWERS]


def test_what_a_registration_answers_is_as_documented(service):
    assert service.register().status_code == 201
    assert service.register().status_code == 409
    assert service.register(file_type="text/plain").status_code == 422
    assert service.register(archive=b"no archive").status_code == 422
    assert service.register(labels="cat").status_code == 422
    assert service.register(precision="bf99").status_code == 400


def test_a_missing_bucket_is_answered_as_documented(service, monkeypatch):
    monkeypatch.setenv("ARTIFACT_BUCKET", "elsewhere")
    settings.cache_clear()

    assert service.request("GET", "/health?deep=true").status_code == 503


@pytest.mark.parametrize("path", ["/openapi.json", "/docs"])
def test_who_has_the_document_already_is_not_sent_it_again(service, path):
    first = service.request("GET", path)

    again = service.request("GET", path, {"If-None-Match": f'"other", W/{first.headers["ETag"]}'})

    assert (again.status_code, again.body) == (304, b"")
    assert first.headers["Cache-Control"] == again.headers["Cache-Control"] == "public, max-age=300"


def test_the_examples_are_as_documented(document):
    for methods in document["paths"].values():
        for operation in methods.values():
            assert operation["x-codeSamples"][0]["source"].startswith("curl ")
            for answer in operation["responses"].values():
                for content in answer.get("content", {}).values():
                    if "example" in content:
                        validator(document, content["schema"]).validate(content["example"])


def test_every_recorded_example_belongs_to_an_operation(document):
    recorded = json.loads((ROOT / "chalicelib/examples.json").read_text())

    assert set(recorded) <= {op["operationId"] for methods in document["paths"].values() for op in methods.values()}


class Page(HTMLParser):
    """What a page holds that matters here."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag != "meta":
            self.open.append(tag)
        for name, value in attributes:
            if name == "id":
                self.ids.append(value or "")
            elif name == "href":
                self.links.append(value or "")
            elif name in ("src", "srcset", "action", "style") or name.startswith("on"):
                self.fetched.append(f"{tag} {name}={value}")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def page(service) -> Page:
    return Page(service.request("GET", "/docs").body.decode())


def test_the_page_tells_of_every_operation(service, page, document):
    text = service.request("GET", "/docs").body.decode()

    for path, methods in document["paths"].items():
        assert path in text
        for operation in methods.values():
            assert operation["operationId"] in page.ids
            assert operation["summary"] in text


def test_the_page_fetches_nothing_and_runs_nothing(service, page):
    answer = service.request("GET", "/docs")

    assert page.tags.isdisjoint({"script", "link", "img", "iframe", "object", "embed", "base", "form"})
    assert page.fetched == []
    assert "url(" not in answer.body.decode()
    assert "@import" not in answer.body.decode()
    assert [link for link in page.links if not link.startswith("#")] == ["openapi.json"]
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'unsafe-inline'")


def test_every_link_of_the_page_leads_to_one_place_on_it(page):
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert page.open == []


def test_text_in_the_document_is_escaped_on_the_page(document):
    from chalicelib.docs_page import page_of

    hostile = '<script>alert("x")</script>'
    text = json.dumps(document).replace("Get one model", json.dumps(hostile)[1:-1])

    page = page_of(json.loads(text))

    assert "<script" not in page
    assert "&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;" in page


def test_whoever_makes_values_from_the_document_makes_only_keys_that_are_allowed(document):
    """One object is told in one place: generators do not join `propertyNames` beside a union with what is within."""

    def objects(part: Any) -> Iterator[Json]:
        if isinstance(part, dict):
            yield part
        for within in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
            yield from objects(within)

    for schema in objects(document["components"]["schemas"]):
        if "patternProperties" in schema:
            assert schema.get("additionalProperties") is False or "pattern" in schema["propertyNames"]
        assert not ("propertyNames" in schema and "anyOf" in schema)
