"""Queries that would make DynamoDB refuse: answered in words, never with a 5xx."""

import base64
import json
from collections.abc import Iterator
from http import HTTPStatus
from urllib.parse import urlencode

import pytest
from chalice.test import Client

import app
from chalicelib import settings, wiring
from chalicelib.registry.models import Filters
from chalicelib.surface import _fingerprint


@pytest.fixture
def client(aws: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """The app on moto, as Chalice's own client calls it."""
    monkeypatch.setenv("REGISTRY_TABLE", "RegistryTable")
    monkeypatch.setenv("EVENTS_TABLE", "EventsTable")
    monkeypatch.setenv("ARTIFACT_BUCKET", "artifacts")
    caches = (settings.settings, wiring.registry, wiring.s3_client, wiring.s3_signer)
    for cached in caches:
        cached.cache_clear()
    with Client(app.app) as client:
        yield client
    for cached in caches:
        cached.cache_clear()


def token(position: object) -> str:
    content = json.dumps([position, _fingerprint(Filters())])
    return base64.urlsafe_b64encode(content.encode()).decode()


@pytest.mark.parametrize(
    "position", ["", "x", "~", "2026-01-01T00:00:00.000000Z#" + "x" * 2000, None, 1, ["x"], "2026#0123456789abcdef"]
)
def test_a_forged_position_is_refused(client: Client, position: object) -> None:
    answer = client.http.get("/models?" + urlencode({"page_token": token(position)}))

    assert answer.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert "follow the Link header" in answer.json_body["detail"][0]["msg"]


def test_a_forged_position_of_the_right_form_is_only_a_place_to_start(client: Client) -> None:
    answer = client.http.get(
        "/models?" + urlencode({"page_token": token("2026-01-01T00:00:00.000000Z#0123456789abcdef")})
    )

    assert (answer.status_code, answer.json_body) == (HTTPStatus.OK, [])


@pytest.mark.parametrize("raw", ["!!!", "", "W10", "bnVsbA", "é", "W" * 5000])
def test_what_is_no_token_is_refused(client: Client, raw: str) -> None:
    assert client.http.get("/models?" + urlencode({"page_token": raw})).status_code == HTTPStatus.UNPROCESSABLE_ENTITY


def test_20_tags_can_be_asked_for_and_not_more(client: Client) -> None:
    asked = urlencode({f"tag.{number}": "x" for number in range(20)})

    assert client.http.get(f"/models?{asked}").status_code == HTTPStatus.NOT_FOUND
    assert client.http.get(f"/models?{asked}&tag.20=x").status_code == HTTPStatus.UNPROCESSABLE_ENTITY


@pytest.mark.parametrize("name", ["\ud800", "a\udfffb"])
def test_text_that_is_no_utf_8_is_refused(client: Client, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Only a gateway that passes broken UTF-8 on would send this; Python keeps it as lone surrogates."""
    monkeypatch.setattr("chalice.app.MultiDict.getlist", lambda *_: [name])

    assert client.http.get("/models?name=x").status_code == HTTPStatus.UNPROCESSABLE_ENTITY
