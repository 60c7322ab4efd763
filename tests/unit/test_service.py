"""The rules of the service, on ports in memory."""

import hashlib
import io

import pytest

from chalicelib.registry.access import Access, Actor, Project
from chalicelib.registry.archives import ArchiveReport, inspect_archive
from chalicelib.registry.audit import Action
from chalicelib.registry.errors import (
    Conflict,
    InvalidArchive,
    InvalidInput,
    NotFound,
    OutcomeUnknown,
    RegistryError,
    Unavailable,
)
from chalicelib.registry.models import Draft, File, ModelVersion, Placement
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


def poured(registry: Registry, content: bytes = IR) -> tuple[File, str, ArchiveReport]:
    """An archive that is stored and inspected, but of no record yet."""
    key = registry.new_key("caps.zip")
    stored = registry.blobs.pour(key, [content], "application/zip", draft().id)
    file = File(
        key=key,
        file_name="caps.zip",
        media_type="application/zip",
        size=stored.size,
        sha256=stored.sha256,
        sha256_checked_by="registry",
    )
    return file, stored.version_id, inspect_archive(io.BytesIO(content))


def test_what_is_stored_already_is_registered_as_it_is(registry: Registering, announced: Announced) -> None:
    file, version_id, report = poured(registry)

    version = registry.register_stored(draft(), file, version_id, report, ALICE)

    assert version == registry.catalog.version(draft().id)
    assert (version.artifact, version.labels, version.category) == (file, ("cat", "dog"), "detection")
    assert registry.blobs.objects == {file.key: IR}
    assert [(line[0], line[2]) for line in announced.lines] == [(Action.VERSION_REGISTERED, version)]


@pytest.mark.parametrize(
    ("error", "kept"), [(Unavailable("busy"), 0), (Conflict("another-model-00"), 0), (OutcomeUnknown("lost"), 1)]
)
def test_of_what_is_stored_already_the_same_is_discarded(announced: Announced, error: RegistryError, kept: int) -> None:
    catalog = Failing(ulids())
    catalog.error = error
    registry = Registering(catalog, MemoryBlobs(), Clock(), ulids(), announced)

    with pytest.raises(type(error)):
        registry.register_stored(draft(), *poured(registry), ALICE)

    assert len(registry.blobs.objects) == kept


LIMITED = ALICE.model_copy(update={"access": Access(projects=(Project(name="Caps"),))})


def test_what_is_stored_already_goes_into_the_project_that_access_is_limited_to(registry: Registering) -> None:
    version = registry.register_stored(draft(), *poured(registry), LIMITED)

    assert version.project_name == "Caps"


@pytest.mark.parametrize(
    ("refused", "by"),
    [
        (draft("taken"), ALICE),
        (draft(project_name="Corks"), LIMITED),
        (draft(description="x" * 70_000), ALICE),
    ],
    ids=["a claim that is taken", "a project out of limits", "too much"],
)
def test_what_is_refused_before_its_record_is_written_is_discarded_too(
    registry: Registering, refused: Draft, by: Actor
) -> None:
    other = registry.register(draft("taken", id="another-model-00"), parcel(), ALICE)

    with pytest.raises(RegistryError):
        registry.register_stored(refused, *poured(registry), by)

    assert list(registry.blobs.objects) == [other.artifact.key]


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
