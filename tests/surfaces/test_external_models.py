"""Models whose bytes are elsewhere, as the Model Registry REST API tells of them."""

import json

import pytest

from chalicelib.registry.models import External, Lineage, ModelVersion
from chalicelib.registry.numbering import NewVersion
from chalicelib.registry.registered_models import RegisteredModel
from chalicelib.wiring import registry
from chalicelib.wiring_mlflow import numbering
from tests.conftest import ALICE
from tests.surfaces.conftest import ID, Service

URI = "s3://another-bucket/models/detector"


@pytest.fixture
def elsewhere(service: Service) -> ModelVersion:
    """The second version of `detector`; the first is stored here."""
    service.register()
    made = NewVersion(Lineage(source=URI), External(uri=URI), tags={"team": "vision"})
    return numbering().create(model(), made, ALICE)


def model() -> RegisteredModel:
    return registry().catalog.registered_models.named("detector")


def test_it_is_told_where_they_are_said_to_be(service: Service, elsewhere: ModelVersion) -> None:
    answer = service.request("GET", f"/models/{elsewhere.id}")

    told = json.loads(answer.body)
    assert answer.status_code == 200
    assert {name: told[name] for name in ("file_url", "size", "sha256", "source", "stage", "version", "number")} == {
        "file_url": URI,
        "size": 0,
        "sha256": None,
        "source": URI,
        "stage": None,
        "version": "2",
        "number": 2,
    }
    assert not told.keys() & {"lineage", "artifact", "changed_at", "exposed_name", "published_at"}


def test_a_stage_is_told(service: Service, elsewhere: ModelVersion) -> None:
    numbering().transition(model(), 1, "Production", False, ALICE)

    assert json.loads(service.request("GET", f"/models/{ID}").body)["stage"] == "Production"


def test_there_is_nothing_to_download(service: Service, elsewhere: ModelVersion) -> None:
    files = service.request("GET", f"/models/{elsewhere.id}/files")
    manifest = service.request("GET", f"/models/{elsewhere.id}/manifest")

    assert (files.status_code, manifest.status_code) == (409, 409)
    assert URI in json.loads(files.body)["detail"]
    assert json.loads(manifest.body)["code"] == "not_here"


@pytest.mark.parametrize(
    ("query", "is_found"),
    [
        ("", False),
        ("?artifact=stored", False),
        ("?artifact=external", True),
        ("?artifact=external&tag.team=vision", True),
    ],
)
def test_lists_have_it_only_for_who_asks(service: Service, elsewhere: ModelVersion, query: str, is_found: bool) -> None:
    answer = service.request("GET", f"/models{query}")

    assert [one["id"] for one in json.loads(answer.body)] == [elsewhere.id if is_found else ID]


def test_nothing_else_can_be_asked_for(service: Service, elsewhere: ModelVersion) -> None:
    assert service.request("GET", "/models?artifact=all").status_code == 422
    assert service.request("GET", "/models?artifact=external&name=cat").status_code == 404


def test_it_is_changed_and_deleted_as_any_other(service: Service, elsewhere: ModelVersion) -> None:
    changed = service.request("PUT", f"/models/{elsewhere.id}", data={"score": "0.5"})
    deleted = service.request("DELETE", f"/models/{elsewhere.id}")

    assert (changed.status_code, deleted.status_code) == (200, 204)
    assert service.request("GET", "/models?artifact=external").status_code == 404
    assert service.request("GET", f"/models/{ID}/files").status_code == 307
