"""Requests that nobody sends by mistake are refused in words, and reach neither the table nor the log as errors."""

import base64
import hashlib
import json

import pytest

from chalicelib.registry.models import Filters
from tests.surfaces.conftest import ID


@pytest.mark.parametrize("length", [129, 2049, 5000])
@pytest.mark.parametrize(("method", "suffix"), [("GET", ""), ("GET", "/files"), ("PUT", ""), ("DELETE", "")])
def test_an_id_longer_than_any_is_not_found(service, method, suffix, length):
    form = {"data": {"score": "1"}} if method == "PUT" else {}

    answer = service.request(method, f"/models/{'a' * length}{suffix}", **form)

    assert (answer.status_code, answer.body) == (404, b"Model not found.\n")


@pytest.mark.parametrize("position", ["x" * 1025, "\ud800", 7, None, ["a"]])
def test_a_page_token_that_we_did_not_make_is_refused(service, position):
    fingerprint = hashlib.sha256(Filters().model_dump_json().encode()).hexdigest()[:16]
    token = base64.urlsafe_b64encode(json.dumps([position, fingerprint]).encode()).decode().rstrip("=")

    assert service.request("GET", f"/models?page_token={token}").status_code == 422


@pytest.mark.parametrize(
    "position", ["", "x", "~", "2026-01-01T00:00:00.000000Z#" + "x" * 500, "2026#0123456789abcdef"]
)
def test_a_page_token_with_another_position_is_refused(service, position):
    token = base64.urlsafe_b64encode(json.dumps([position, fingerprint()]).encode()).decode().rstrip("=")

    assert service.request("GET", f"/models?page_token={token}").status_code == 422


def test_a_forged_position_of_the_right_form_is_only_a_place_to_start(service):
    position = "2026-01-01T00:00:00.000000Z#0123456789abcdef"
    token = base64.urlsafe_b64encode(json.dumps([position, fingerprint()]).encode()).decode().rstrip("=")

    assert service.request("GET", f"/models?page_token={token}").json_body == []


@pytest.mark.parametrize("token", ["!!!", "W10", "bnVsbA", "%C3%A9", "W" * 1000, "W" * 5000])
def test_what_is_no_page_token_is_refused(service, token):
    assert service.request("GET", f"/models?page_token={token}").status_code == 422


def test_20_tags_can_be_asked_for_and_not_more(service):
    asked = "&".join(f"tag.{number}=x" for number in range(20))

    assert service.request("GET", f"/models?{asked}").status_code == 404
    assert service.request("GET", f"/models?{asked}&tag.20=x").status_code == 422


def test_a_tag_key_cannot_reach_into_a_value(service):
    service.register(tags='{"a": "b\\u001fc"}')

    assert service.request("GET", "/models?tag.a=b%1Fc").status_code == 200
    assert service.request("GET", "/models?tag.a%1Fb=c").status_code == 422


def test_a_link_that_the_gateway_could_not_answer_is_refused(service, monkeypatch):
    value = "(" * 1000
    for number in range(2):
        tags = json.dumps(dict.fromkeys("abc", value))
        assert service.register(id=f"model-number-{number:05}", version=str(number), tags=tags).status_code == 201

    asked = "&".join(f"tag.{key}={value}" for key in "abc")

    assert service.request("GET", f"/models?{asked}&limit=1").status_code == 422
    assert service.request("GET", f"/models?{asked}").status_code == 200


def nested(depth, kind):
    value = '"leaf"'
    for _ in range(depth):
        value = f'{{"a": {value}}}' if kind == "object" else f"[{value}]"
    return value


@pytest.mark.parametrize("depth", [1, 31, 32, 33, 150, 198, 199, 200, 201, 1000, 5000])
@pytest.mark.parametrize("field", ["overview", "optimization_capabilities", "labels"])
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_what_is_stored_can_be_read_back_however_deep(service, method, field, depth):
    value = nested(depth, "object") if field != "labels" else f"[{nested(max(depth - 1, 1), 'object')}]"
    if method == "POST":
        status = service.register(**{field: value}).status_code
    else:
        assert service.register().status_code == 201
        status = service.request("PUT", f"/models/{ID}", data={field: value}).status_code

    assert status == ({"POST": 201, "PUT": 200}[method] if depth <= 32 else 422)
    if status != 422 or method == "PUT":
        assert service.request("GET", f"/models/{ID}").status_code == 200
        assert service.request("DELETE", f"/models/{ID}").status_code == 204
    assert service.request("GET", "/models").json_body == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("labels", f"[{'1,' * 2_000_000}'']"),
        ("labels", f"[{'{},' * 1_000_000}'']"),
        ("labels", f"[{'1,' * 30_000}'']"),
        ("tags", json.dumps({str(number): number for number in range(300_000)})),
        ("tags", json.dumps({str(number): number for number in range(6_000)})),
        ("precision", "\x01" * 4_000_000),
        ("precision", "\x01" * 60_000),
        ("x" * 60_000, "y"),
        ("overview", "[" * 60_000),
    ],
    ids=lambda value: value[:12],
)
def test_a_large_field_gets_a_small_answer(service, field, value):
    answer = service.request("PUT", f"/models/{ID}", data={field: value, "score": "1"})

    assert answer.status_code in (400, 413, 422)
    assert len(json.dumps(answer.body.decode())) < 5_000


def test_a_text_that_is_no_utf_8_is_named(service):
    answer = service.request("PUT", f"/models/{ID}", data={"description": b"\xff\xfe", "score": "1"})

    assert (answer.status_code, answer.json_body) == (422, {"detail": "description is not text in UTF-8."})


def test_a_precision_cannot_be_cleared(service):
    service.register()

    answer = service.request("PUT", f"/models/{ID}", data={"precision": ""})

    assert answer.json_body == {"detail": "precision must name at least one of fp32, fp16, bf16, int8, int4."}


@pytest.mark.parametrize("name", ["\u200b", "\u202e ", "\u00a0"])
def test_a_name_that_nobody_can_see_is_blank(service, name):
    assert service.register(name=name).json_body["detail"][0]["msg"] == "must not be blank"


@pytest.mark.parametrize("label", ["{1: 2}", "('a', 'b')", "{'a': (1, {2: 3})}"])
def test_labels_as_python_are_stored_as_json_or_refused_in_words(service, label):
    answer = service.register(labels=f"[{label}]")

    assert answer.status_code == 201 or answer.json_body == {"detail": "labels is not a valid list."}


def fingerprint():
    return hashlib.sha256(Filters().model_dump_json().encode()).hexdigest()[:16]
