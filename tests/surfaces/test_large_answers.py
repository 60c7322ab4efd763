"""Answers stay below the 6 MB that a Lambda function may answer, in which they stand as JSON inside JSON."""

import io
import json
import zipfile

import pytest

from chalicelib.registry.models import ModelVersion
from chalicelib.registry.registered_models import RegisteredModelChanges
from chalicelib.wiring import registry
from tests.conftest import ALICE, draft, parcel
from tests.surfaces.conftest import ID, Service

MAX_BYTES = 6 * 1024**2


def envelope_bytes(answer) -> int:
    assert answer.status_code == 200, answer.body
    body = answer.body.decode()
    return len(
        json.dumps({"statusCode": 200, "headers": dict(answer.headers), "body": body}, ensure_ascii=False).encode()
    )


def next_path(answer) -> str | None:
    link = answer.headers.get("Link")
    return link and link.partition("<")[2].partition(">")[0]


@pytest.mark.parametrize(
    "fields",
    [{"description": "語" * 21_000}, {"description": '"' * 30_000}, {"tags": {str(key): '"' for key in range(4_000)}}],
    ids=["wide characters", "quotes", "many tags"],
)
def test_versions_of_a_name(service: Service, fields, monkeypatch):
    service.register()
    version = registry().catalog.version(ID).model_copy(update=fields)
    versions = [version.model_copy(update={"number": number}) for number in range(101, 0, -1)]
    monkeypatch.setattr(type(registry().catalog), "versions", lambda _, ids: pretended(versions, ids))
    numbers = [(one.number, str(one.number)) for one in versions]
    monkeypatch.setattr(
        type(registry().catalog.registered_models),
        "numbers",
        lambda _, rm_id, limit, below=None: [one for one in numbers if one[0] < (below or 999)][:limit],
    )

    seen, path = [], "/registered-models?name=detector"
    while path:
        answer = service.request("GET", path)
        assert envelope_bytes(answer) < MAX_BYTES
        seen += [one["number"] for one in json.loads(answer.body)["versions"]]
        link = next_path(answer)
        path = link and f"/registered-models{link}"

    assert seen == list(range(101, 0, -1))


def pretended(versions: list[ModelVersion], ids: list[str]) -> list[ModelVersion]:
    return [version for version in versions if str(version.number) in ids]


def test_registered_models(service: Service):
    changes = RegisteredModelChanges(description="x" * 64_000)
    for number in range(100):
        registry().register(draft(f"n{number:03}"), parcel(), ALICE)
        registry().change_registered_model(f"n{number:03}", changes, ALICE)

    seen, path = [], "/registered-models?limit=1000"
    while path:
        answer = service.request("GET", path)
        assert envelope_bytes(answer) < MAX_BYTES
        seen += [one["name"] for one in json.loads(answer.body)]
        link = next_path(answer)
        path = link and f"/registered-models{link}"

    assert seen == [f"n{number:03}" for number in range(100)]


def test_a_manifest(service: Service):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in range(5_000):
            archive.writestr(zipfile.ZipInfo('"' * 250 + f"/{number:05}"), b"")
        archive.writestr("weights", b"w")
    assert service.register(archive=buffer.getvalue()).status_code == 201

    seen, path = 0, f"/models/{ID}/manifest"
    while path:
        answer = service.request("GET", path)
        assert envelope_bytes(answer) < MAX_BYTES
        seen += len(json.loads(answer.body)["files"])
        link = next_path(answer)
        path = link and f"/models/{ID}/manifest{link}"

    assert seen == 5_001


def test_a_manifest_tells_what_the_artifact_is_whatever_was_said_since(service: Service):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("model.onnx", b"onnx")
    service.register(archive=buffer.getvalue())
    service.request("PUT", f"/models/{ID}", data={"format": "OpenVINO"})

    assert json.loads(service.request("GET", f"/models/{ID}/manifest").body)["format"] == "ONNX"
