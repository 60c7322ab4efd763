"""`Idempotency-Key` through the gateway: repeated, twice at once, by clients that lose answers."""

import hashlib
import json
import os
import re
import subprocess
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
from modelreg import Registry
from modelreg.retry import Patience

from tests.conftest import ARCHIVE, ROOT, zip_of
from tests.e2e.strict_stack import Api, unique

CROWD = 6


@pytest.fixture
def key() -> str:
    return str(uuid.uuid4())


def register(api: Api, key: str, archive: bytes = ARCHIVE, **fields: Any) -> requests.Response:
    """Each form has a boundary of its own."""
    files = {"file": ("model.zip", archive, "application/zip")}
    return api.request("POST", "/models", headers={"Idempotency-Key": key}, data=fields, files=files)


def post(api: Api, path: str, key: str, **body: Any) -> requests.Response:
    return api.request("POST", path, headers={"Idempotency-Key": key}, json=body)


def announced(**fields: Any) -> dict[str, Any]:
    content = {"size": len(ARCHIVE), "sha256": hashlib.sha256(ARCHIVE).hexdigest()}
    return {"name": unique("upload"), "version": "v1", "file_name": "model.zip", **content, **fields}


def test_a_registration_that_is_repeated_registers_one_model(api: Api, key: str) -> None:
    fields = {"name": unique("detector"), "version": "v1"}

    first, second = register(api, key, **fields), register(api, key, **fields)
    other = register(api, key, zip_of(model__txt="other weights"), **fields)

    assert (first.status_code, second.status_code) == (201, 201)
    assert [model["id"] for model in api.found(name=fields["name"])] == [first.text] == [second.text]
    assert other.status_code == 422
    assert "another content" in other.json()["detail"]


def test_of_many_at_once_one_registers_and_all_hear_the_same_in_the_end(api: Api, key: str) -> None:
    fields = {"name": unique("detector"), "version": "v1"}

    with ThreadPoolExecutor(CROWD) as threads:
        answers = list(threads.map(lambda _: register(api, key, **fields), range(CROWD)))

    [model] = api.found(name=fields["name"])
    statuses = Counter(answer.status_code for answer in answers)
    assert statuses.keys() <= {201, 409}
    assert {answer.text for answer in answers if answer.status_code == 201} == {model["id"]}
    assert all(int(answer.headers["Retry-After"]) > 0 for answer in answers if answer.status_code == 409)
    assert register(api, key, **fields).text == model["id"]


def test_an_upload_is_opened_once_and_its_url_is_good_each_time(api: Api, key: str) -> None:
    body = announced()
    first, again = post(api, "/uploads", key, **body).json(), post(api, "/uploads", key, **body).json()
    assert again["upload_id"] == first["upload_id"]

    stored = requests.put(again["url"], data=ARCHIVE, headers=again["headers"], timeout=60)

    assert stored.status_code == 200
    path = f"/uploads/{first['upload_id']}/complete"
    models = [post(api, path, key) for _ in range(2)]
    assert [model.status_code for model in models] == [200, 200]
    assert models[0].json() == models[1].json() == api.model(first["model_id"])
    other = post(api, path, key, sha256="0" * 64)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    late = post(api, "/uploads", key, **body)
    assert (late.status_code, late.json()["code"], late.json()["state"]) == (409, "upload_closed", "COMPLETED")


@pytest.mark.parametrize("stated", ["", "k" * 256, "two words"])
def test_a_key_that_is_none_is_refused_in_words(api: Api, stated: str) -> None:
    answer = post(api, "/uploads", stated, **announced())

    assert answer.status_code == 422
    assert "1 to 255 visible ASCII characters" in answer.json()["errors"][0]["msg"]


class Forgetful(httpx.HTTPTransport):
    """Loses the first answers to an announcement of an upload, and notes their keys."""

    def __init__(self, losses: int) -> None:
        super().__init__()
        self.losses = losses
        self.keys: list[str] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = super().handle_request(request)
        if request.method == "POST" and request.url.path.endswith("/uploads"):
            self.keys.append(request.headers["idempotency-key"])
            if len(self.keys) <= self.losses:
                answer.read()
                answer.close()
                raise httpx.ReadError("connection reset")
        return answer


@pytest.fixture
def forgetful() -> Iterator[Forgetful]:
    with Forgetful(losses=2) as transport:
        yield transport


def test_a_client_that_loses_answers_opens_one_upload(api: Api, forgetful: Forgetful, tmp_path: Path) -> None:
    artifact = tmp_path / "model.zip"
    artifact.write_bytes(ARCHIVE)
    patience = Patience(wait=lambda stop, seconds: None)

    with Registry(api.url, transport=forgetful, patience=patience) as registry:
        model = registry.register(artifact, name=unique("lost"), version="v1")

    assert len(forgetful.keys) == 3
    assert len(set(forgetful.keys)) == 1
    events = [event["action"]["S"] for event in events_of(api, model.id)]
    assert events == ["upload.opened", "version.registered"]


def events_of(api: Api, model_id: str) -> list[dict[str, Any]]:
    query = {"KeyConditionExpression": "pk = :pk", "ExpressionAttributeValues": {":pk": {"S": f"MODEL#{model_id}"}}}
    return list(api.stack.aws("dynamodb").query(TableName=api.stack.events_table, **query)["Items"])


def test_the_commands_of_the_page_work_as_it_says(api: Api, tmp_path: Path) -> None:
    page = (ROOT / "docs/idempotency.md").read_text()
    [commands] = re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)

    run = subprocess.run(
        ["bash", "-euc", commands],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "REGISTRY": api.url},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    first, second, refusal = run.stdout.splitlines()
    assert first == second
    assert [model["id"] for model in api.found(name="once")] == [first]
    assert json.loads(refusal)["detail"] in page
