"""The rules of the service, on ports in memory."""

import hashlib

import pytest

from chalicelib.registry.access import Actor
from chalicelib.registry.errors import (
    Conflict,
    InvalidArchive,
    InvalidInput,
    NotFound,
    OutcomeUnknown,
    RegistryError,
    Unavailable,
)
from chalicelib.registry.models import ModelVersion, Placement
from chalicelib.registry.service import Parcel, Registry, base_name
from tests.conftest import ALICE, ARCHIVE, Announced, Clock, draft, parcel, ulids, zip_of
from tests.memory import MemoryBlobs, MemoryCatalog

IR = zip_of(
    model__xml="""<net name="m" version="11"><layers/><rt_info><model_info>
        <labels value="cat dog"/><task_type value="detection"/></model_info></rt_info></net>""",
    model__bin=b"\0" * 8,
)


class Registering(Registry):
    """A registry whose ports can be looked at."""

    catalog: MemoryCatalog
    blobs: MemoryBlobs


@pytest.fixture
def registry(announced: Announced) -> Registering:
    new_ulid = ulids()
    return Registering(MemoryCatalog(new_ulid), MemoryBlobs(), Clock(), new_ulid, announced)


def test_the_stored_bytes_are_the_given_ones(registry: Registering) -> None:
    version = registry.register(draft(), parcel(), ALICE)

    assert registry.blobs.objects == {version.artifact.key: ARCHIVE}
    assert version.artifact.sha256 == hashlib.sha256(ARCHIVE).hexdigest()
    assert version.artifact.size == len(ARCHIVE)
    assert version.artifact.sha256_checked_by == "registry"


def test_what_the_archive_says_fills_in_what_the_publisher_left_open(registry: Registering) -> None:
    version = registry.register(draft(), parcel(IR), ALICE)

    assert (version.format, version.labels, version.category) == ("OpenVINO", ("cat", "dog"), "detection")


def test_what_the_publisher_says_stays(registry: Registering) -> None:
    stated = draft(format="openvino", labels=("one",), category="mine", precision=("int8",))

    version = registry.register(stated, parcel(IR), ALICE)

    assert (version.format, version.labels, version.category) == ("openvino", ("one",), "mine")
    assert version.precision == ("int8",)


@pytest.mark.parametrize("content", [b"", b"no zip", ARCHIVE[:-5]])
def test_no_sound_archive_no_model(registry: Registering, content: bytes) -> None:
    with pytest.raises(InvalidArchive):
        registry.register(draft(), parcel(content), ALICE)

    assert registry.blobs.objects == {}


def test_a_digest_that_differs_is_refused_before_anything_is_stored(registry: Registering) -> None:
    wrong = Parcel(parcel().body, "model.zip", stated_sha256="0" * 64)

    with pytest.raises(InvalidInput, match=hashlib.sha256(ARCHIVE).hexdigest()):
        registry.register(draft(), wrong, ALICE)

    assert registry.blobs.objects == {}


def test_a_conflict_is_told_before_bytes_are_stored(registry: Registering) -> None:
    registry.register(draft(), parcel(), ALICE)
    registry.blobs.is_down = True

    with pytest.raises(Conflict):
        registry.register(draft(), parcel(), ALICE)


def test_a_failing_bucket_leaves_no_record(registry: Registering) -> None:
    registry.blobs.is_down = True

    with pytest.raises(Unavailable):
        registry.register(draft(), parcel(), ALICE)

    with pytest.raises(NotFound):
        registry.catalog.version(draft().id)


class Failing(MemoryCatalog):
    """Stores nothing, and says why."""

    error: RegistryError

    def add(self, version: ModelVersion, placement: Placement, by: Actor) -> ModelVersion:
        raise self.error


@pytest.mark.parametrize(
    ("error", "kept"), [(Unavailable("busy"), 0), (Conflict("another-model-00"), 0), (OutcomeUnknown("lost"), 1)]
)
def test_bytes_are_discarded_only_if_no_record_can_name_them(
    announced: Announced, error: RegistryError, kept: int
) -> None:
    blobs, catalog = MemoryBlobs(), Failing(ulids())
    catalog.error = error

    with pytest.raises(type(error)):
        Registry(catalog, blobs, Clock(), ulids(), announced).register(draft(), parcel(), ALICE)

    assert len(blobs.objects) == kept


def test_labels_of_an_archive_that_would_be_too_much_are_left_out(registry: Registering) -> None:
    archive = zip_of(
        model__xml=f"""<net name="m" version="11"><layers/><rt_info><model_info>
            <labels value="{" ".join(f"label-{number:04}" for number in range(2500))}"/>
            </model_info></rt_info></net>""",
        model__bin=b"\0" * 8,
    )

    version = registry.register(draft(description="x" * 60_000), parcel(archive), ALICE)

    assert (version.format, version.labels) == ("OpenVINO", None)


def test_deleting_removes_record_and_bytes(registry: Registering) -> None:
    version = registry.register(draft(), parcel(), ALICE)

    assert registry.delete(version.id, ALICE) == version

    assert registry.blobs.objects == {}


@pytest.mark.parametrize(
    ("stated", "kept"),
    [
        ("model.zip", "model.zip"),
        ("/etc/passwd", "passwd"),
        ("..\\..\\evil.zip", "evil.zip"),
        ("a/b/", "model.zip"),
        ("..", "model.zip"),
        ("", "model.zip"),
        ("näme 界.zip", "näme 界.zip"),
        ("a\r\nb.zip", "ab.zip"),
        ("x" * 300 + ".zip", "x" * 251 + ".zip"),
        ("界" * 100 + ".zip", "界" * 83 + ".zip"),
        ("x" * 300, "x" * 255),
    ],
)
def test_only_a_safe_base_name_of_a_file_is_kept(stated: str, kept: str) -> None:
    assert base_name(stated) == kept
