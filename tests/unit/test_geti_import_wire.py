"""The import beside a simulated Geti of each version, over HTTP: its layouts, and what breaks on the way."""

import io
import zipfile
from collections.abc import Iterator

import pytest

from chalicelib.geti.connecting import connect
from chalicelib.geti.states import ItemState, Order
from chalicelib.geti.transport import Transport
from chalicelib.registry.models import ModelVersion
from tests.geti_importing import ImportStage
from tests.simulators.geti import DAMAGES, GetiServer, Model, World

PROFILES = ("2.10", "2.13", "3")
# Of two graphs either may be meant: that is no damage to who reads it.
SOUND = ("two_models",)


@pytest.fixture(params=PROFILES)
def profile(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def geti(profile: str) -> Iterator[GetiServer]:
    with GetiServer(World("3" if profile == "3" else "2.13"), profile=profile) as server:
        yield server


@pytest.fixture
def model(geti: GetiServer) -> Model:
    return geti.world.project("Bottle caps", labels=["cap", "no cap"]).group("YOLOX-S").train(score=0.81)


class WireStage(ImportStage):
    def __init__(self, transport: Transport, *, strips: bool) -> None:
        super().__init__(strips_sample_image=strips)
        self.geti = connect(transport, None, None, allow_legacy=False)  # type: ignore[assignment]

    def asked_for(self, model: Model, kind: str = "FP16") -> Order:
        """Of Geti 3, each model is a group of one."""
        project = self.geti.projects()[0]
        [group] = self.geti.groups(project)
        order = self.asked(model[kind].id, group_id=group.id)
        return order.model_copy(update={"project_id": project.id})


@pytest.fixture
def strips() -> bool:
    """Tests that want it otherwise say so."""
    return False


@pytest.fixture
def stage(geti: GetiServer, strips: bool) -> Iterator[WireStage]:
    transport = Transport(geti.url, lambda _: geti.token, sleep=lambda _: None)
    yield WireStage(transport, strips=strips)
    transport.close()


def content_of(stage: ImportStage, version: ModelVersion) -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO(stage.blobs.objects[version.artifact.key]))


@pytest.mark.parametrize("strips", [False, True], ids=["as it is", "repacked"])
def test_a_model_is_imported_from_every_version_of_geti(
    geti: GetiServer, stage: WireStage, model: Model, strips: bool
) -> None:
    order = stage.asked_for(model)

    outcome = stage.run(order)

    assert outcome
    assert (outcome.imported, outcome.bytes) == (1, geti.downloads[-1].size)
    version = stage.version(model["FP16"].id)
    assert (version.project_name, version.format, version.origin) == ("Bottle caps", "OpenVINO", "Geti")
    assert (version.labels, version.category, version.precision) == (("cap", "no cap"), "detection", ("fp16",))
    assert version.score == 0.81
    with content_of(stage, version) as archive:
        assert archive.testzip() is None
        names = [name.rpartition("/")[2] for name in archive.namelist()]
    assert {"model.xml", "model.bin"} <= set(names)
    assert any(name in ("sample_image.jpg", "image.jpg") for name in names) == (not strips)
    assert ("geti.repacked" in version.tags) == strips


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_package_leaves_nothing(stage: WireStage, model: Model, damage: str) -> None:
    model["FP16"].pack(damage=damage)
    order = stage.asked_for(model)

    stage.run(order)

    if damage in SOUND:
        assert list(stage.versions) == [model["FP16"].id]
        return
    assert (stage.versions, stage.blobs.objects) == ({}, {})
    item = stage.store.item(order.project_id, order.model_id)
    assert item
    assert item.state == ItemState.PARKED
    assert (item.why or "").startswith("Geti sent a package that may not be stored: ")


def test_a_package_that_breaks_off_is_fetched_again(
    geti: GetiServer, stage: WireStage, model: Model, profile: str
) -> None:
    geti.fail("binary" if profile == "3" else "deployment_package", "reset", after_bytes=1000, times=1)
    order = stage.asked_for(model)
    stage.run(order)
    assert stage.blobs.objects == {}

    assert stage.work_off() == [30]

    assert list(stage.versions) == [model["FP16"].id]
    assert len(stage.blobs.objects) == 1
