"""What every answer tells browsers and caches, whatever was asked for and however it ended (docs/security.md)."""

import pytest

from chalicelib.surface import PROTECTION
from tests.surfaces.conftest import ID

ANYTHING = [
    ("GET", "/health", 200),
    ("GET", "/models", 200),
    ("GET", f"/models/{ID}", 200),
    ("GET", f"/models/{ID}/files", 307),
    ("GET", f"/models/{ID}/manifest", 200),
    ("GET", "/models/short", 400),
    ("GET", "/models/no-such-model-0000", 404),
    ("GET", "/models?limit=0", 422),
    ("PUT", f"/models/{ID}", 400),
    ("GET", "/registered-models", 200),
    ("GET", "/projects", 503),
    ("DELETE", f"/models/{ID}", 204),
]


@pytest.mark.parametrize(("method", "path", "status"), ANYTHING)
def test_every_answer_is_neither_kept_nor_guessed_nor_framed_nor_passed_on(service, method, path, status):
    service.register()

    answer = service.request(method, path)

    assert answer.status_code == status
    assert {name: answer.headers[name] for name in PROTECTION} == PROTECTION


@pytest.mark.parametrize("path", ["/docs", "/openapi.json"])
def test_what_is_the_same_for_everyone_may_be_kept_for_a_while(service, path):
    first = service.request("GET", path)
    second = service.request("GET", path, headers={"If-None-Match": first.headers["ETag"]})

    for answer, status in ((first, 200), (second, 304)):
        assert answer.status_code == status
        assert answer.headers["Cache-Control"] == "public, max-age=300"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"


def test_the_page_may_load_and_run_nothing_and_stand_in_no_frame(service):
    policy = service.request("GET", "/docs").headers["Content-Security-Policy"].split("; ")

    assert {"default-src 'none'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"} <= set(policy)
    assert not any(rule.startswith("script-src") for rule in policy)


def test_an_unexpected_error_is_protected_too(service, monkeypatch):
    monkeypatch.setattr("chalicelib.surfaces.health.what_is_down", lambda: 1 / 0)

    answer = service.request("GET", "/health?deep=true")

    assert answer.status_code == 500
    assert {name: answer.headers[name] for name in PROTECTION} == PROTECTION
