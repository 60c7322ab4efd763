"""Requests that nobody sends by mistake are refused in words, and reach neither the table nor the log as errors."""

import base64
import hashlib
import json

import pytest

from chalicelib.registry.models import Filters


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
