"""Archives of trees, and trees of archives: made once, whoever asks, whoever crashes."""

import io
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from chalicelib.registry.errands import Errand, ErrandKind
from chalicelib.registry.errors import NotHere, Unavailable
from chalicelib.registry.models import File, ModelVersion, Tree
from chalicelib.registry.service import Registry
from chalicelib.registry.trees import Entry, VersionPlace
from chalicelib.registry.unpacking import unpacked_tree_id
from tests.conftest import ALICE, Clock, draft, parcel, zip_of
from tests.store.faults import Crash, not_connected, nothing, one_call_at_a_time, watched_calls
from tests.store.tree_stage import TREE, TreeStage

CONTENTS = {"MLmodel": b"flavors: {}", "data/w.bin": b"weights", "empty": b""}
NESTED = zip_of(**{"model/": "", "model/MLmodel": "flavors: {}", "model/data/w.bin": "weights", "model/empty": ""})


@pytest.fixture
def stage(registry: Registry, clock: Clock) -> TreeStage:
    return TreeStage(registry, clock)


def time_left() -> int:
    return 900_000


@pytest.fixture
def tree_version(stage: TreeStage, monkeypatch: pytest.MonkeyPatch) -> ModelVersion:
    """A version whose artifact is a tree."""
    for path, content in CONTENTS.items():
        stage.write(path, content)
    version = stage.registry.register(draft(), parcel(), ALICE)
    as_tree = version.model_copy(update={"artifact": stage.seal()})
    original = stage.registry.catalog.version
    monkeypatch.setattr(
        stage.registry.catalog, "version", lambda model_id: as_tree if model_id == version.id else original(model_id)
    )
    return as_tree


def tree_of(version: ModelVersion) -> Tree:
    assert isinstance(version.artifact, Tree)
    return version.artifact


def unzipped(stage: TreeStage, file: File) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(stage.blobs.opened(file.key, file.size).read())) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def do_errands(stage: TreeStage) -> None:
    while stage.queue.errands:
        errand = stage.queue.errands.pop(0)
        doing = stage.packing.pack if errand.kind == ErrandKind.PACK else stage.unpacking.unpack
        doing(errand.subject, time_left)


# --- Packing -------------------------------------------------------------------------------------------------------


def test_a_tree_is_packed_while_who_asks_for_it_waits(stage: TreeStage, tree_version: ModelVersion) -> None:
    stage.meanwhile = lambda: do_errands(stage)

    file = stage.packing.archive(tree_version.id, tree_of(tree_version))

    assert file
    assert unzipped(stage, file) == {"model/": b"", **{f"model/{name}": text for name, text in CONTENTS.items()}}
    assert (file.media_type, file.sha256_checked_by) == ("application/zip", "registry")


def test_who_asks_does_not_wait_for_ever(stage: TreeStage, tree_version: ModelVersion) -> None:
    assert stage.packing.archive(tree_version.id, tree_of(tree_version)) is None

    assert 10 < stage.waited <= 15
    assert stage.queue.errands == [Errand(kind=ErrandKind.PACK, subject=tree_version.id)]


def test_who_asks_again_at_once_queues_nothing_more_and_a_minute_later_does(
    stage: TreeStage, tree_version: ModelVersion
) -> None:
    for _ in range(3):
        stage.packing.archive(tree_version.id, tree_of(tree_version))
    assert len(stage.queue.errands) == 1

    stage.pass_by(seconds=61)
    stage.packing.archive(tree_version.id, tree_of(tree_version))
    assert len(stage.queue.errands) == 2


def test_it_is_packed_once_for_all_who_ask(stage: TreeStage, tree_version: ModelVersion) -> None:
    stage.packing.pack(tree_version.id, time_left)
    before = stage.objects()

    stage.packing.pack(tree_version.id, time_left)
    file = stage.packing.archive(tree_version.id, tree_of(tree_version))

    assert stage.objects() == before
    assert stage.queue.errands == []
    assert file
    assert file.key in before
    assert stage.keeping.keeps(file.key, stage.blobs.stored(file.key).model_id)


def test_of_two_at_once_one_packs_it(stage: TreeStage, tree_version: ModelVersion) -> None:
    before = stage.objects()

    with one_call_at_a_time(), ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: stage.packing.pack(tree_version.id, time_left), range(2)))

    assert len(stage.objects()) == len(before) + 1


def test_packing_that_failed_is_begun_anew_by_the_next_who_asks(stage: TreeStage, tree_version: ModelVersion) -> None:
    def fail(operation: str, _: int) -> None:
        if operation == "PutObject":
            raise not_connected(operation)

    with watched_calls(fail, nothing), pytest.raises(Unavailable):
        stage.packing.pack(tree_version.id, time_left)
    stage.meanwhile = lambda: do_errands(stage)

    assert stage.packing.archive(tree_version.id, tree_of(tree_version))


@pytest.mark.parametrize("number", range(12))
def test_who_crashes_while_packing_is_succeeded_when_the_lease_is_over(
    stage: TreeStage, tree_version: ModelVersion, number: int
) -> None:
    def crash(_: str, at: int) -> None:
        if at == number:
            raise Crash

    with watched_calls(nothing, crash), suppress(Crash):
        stage.packing.pack(tree_version.id, time_left)
    stage.pass_by(minutes=16)
    stage.meanwhile = lambda: do_errands(stage)

    file = stage.packing.archive(tree_version.id, tree_of(tree_version))

    assert file
    assert unzipped(stage, file)["model/data/w.bin"] == b"weights"


def test_an_archive_that_somebody_removed_is_packed_again(stage: TreeStage, tree_version: ModelVersion) -> None:
    stage.packing.pack(tree_version.id, time_left)
    first = stage.packing.archive(tree_version.id, tree_of(tree_version))
    assert first
    stage.blobs.remove(first.key)
    stage.meanwhile = lambda: do_errands(stage)

    second = stage.packing.archive(tree_version.id, tree_of(tree_version))

    assert second
    assert second.key != first.key
    assert second.sha256 == first.sha256


def test_an_archive_of_a_lost_lease_is_nobodys(stage: TreeStage, tree_version: ModelVersion) -> None:
    before = set(stage.objects())

    def lose_it(operation: str, _: int) -> None:
        if operation == "PutObject":
            stage.pass_by(minutes=16)
            assert stage.makings.take(
                ErrandKind.PACK, tree_of(tree_version).digest, "other", stage.clock(), stage.clock()
            )

    with watched_calls(nothing, lose_it):
        stage.packing.pack(tree_version.id, time_left)

    [orphan] = set(stage.objects()) - before
    assert not stage.keeping.keeps(orphan, stage.blobs.stored(orphan).model_id)


@pytest.mark.parametrize("pack", [True, False])
def test_an_errand_for_what_has_gone_or_is_otherwise_does_nothing(stage: TreeStage, pack: bool) -> None:
    doing: Callable[..., None] = stage.packing.pack if pack else stage.unpacking.unpack
    doing("model-of-nobody-1", time_left)

    if pack:
        version = stage.registry.register(draft(), parcel(), ALICE)
        stage.packing.pack(version.id, time_left)
        assert list(stage.objects()) == [version.artifact.key]  # type: ignore[union-attr]


# --- Unpacking -----------------------------------------------------------------------------------------------------


@pytest.fixture
def version(stage: TreeStage) -> ModelVersion:
    """A version whose artifact is an archive, all in one folder."""
    return stage.registry.register(draft(), parcel(NESTED), ALICE)


def root_of(version: ModelVersion) -> VersionPlace:
    return VersionPlace(version.id, "")


def test_the_files_of_an_archive_are_there_once_it_is_unpacked(stage: TreeStage, version: ModelVersion) -> None:
    stage.meanwhile = lambda: do_errands(stage)

    assert stage.planting.entries(root_of(version), ALICE) == [
        Entry(name="MLmodel", size=11),
        Entry(name="data"),
        Entry(name="empty", size=0),
    ]
    file = stage.planting.file(VersionPlace(version.id, "data/w.bin"), ALICE)
    assert stage.content_of(file) == b"weights"


def test_until_then_one_shall_come_again(stage: TreeStage, version: ModelVersion) -> None:
    with pytest.raises(Unavailable, match="being unpacked") as raised:
        stage.planting.entries(root_of(version), ALICE)

    assert raised.value.retry_after_seconds == 5
    assert stage.queue.errands == [Errand(kind=ErrandKind.UNPACK, subject=version.id)]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"a/MLmodel": "", "b/x": "x"}, ["a", "b"]),
        ({"a/MLmodel__yaml": "", "a/x": "x"}, ["a"]),
        ({"a/b/MLmodel": "", "a/b/x": "x"}, ["a"]),
        ({"MLmodel": "m", "x": "x"}, ["MLmodel", "x"]),
        ({"a/MLmodel": "m", "a/a/MLmodel": "n"}, ["MLmodel", "a"]),
    ],
)
def test_only_the_folder_that_is_the_model_is_left_away(
    stage: TreeStage, files: dict[str, str], expected: list[str]
) -> None:
    version = stage.registry.register(draft(), parcel(zip_of(**files)), ALICE)
    stage.meanwhile = lambda: do_errands(stage)

    assert [entry.name for entry in stage.planting.entries(root_of(version), ALICE)] == expected


def test_what_there_was_no_time_for_the_next_errand_goes_on_with(stage: TreeStage, version: ModelVersion) -> None:
    left = iter([900_000, 900_000, 10_000])

    stage.unpacking.unpack(version.id, lambda: next(left, 10_000))

    tree_id = unpacked_tree_id(version.artifact.key)  # type: ignore[union-attr]
    first = list(stage.trees.files(tree_id))
    assert 0 < len(first) < 3
    assert stage.queue.errands == [Errand(kind=ErrandKind.UNPACK, subject=version.id)]
    do_errands(stage)
    assert len(list(stage.trees.files(tree_id))) == 3
    assert set(first) < set(stage.trees.files(tree_id))
    assert stage.trees.root(tree_id).is_sealed("MLmodel")


@pytest.mark.parametrize("number", range(0, 18, 2))
def test_who_crashes_while_unpacking_is_succeeded(stage: TreeStage, version: ModelVersion, number: int) -> None:
    def crash(_: str, at: int) -> None:
        if at == number:
            raise Crash

    with watched_calls(nothing, crash), suppress(Crash):
        stage.unpacking.unpack(version.id, time_left)
    stage.pass_by(minutes=16)
    stage.meanwhile = lambda: do_errands(stage)

    assert len(stage.planting.entries(root_of(version), ALICE)) == 3


def test_a_damaged_archive_is_told_and_not_tried_for_ever(
    stage: TreeStage, version: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = NESTED.replace(b"PK\x05\x06", b"PK\x00\x00")
    monkeypatch.setattr(stage.blobs, "opened", lambda key, size: io.BytesIO(damaged))
    stage.meanwhile = lambda: do_errands(stage)

    for _ in range(2):
        with pytest.raises(NotHere, match="cannot be unpacked"):
            stage.planting.entries(root_of(version), ALICE)
    assert stage.queue.errands == []


def test_paths_that_no_tree_may_have_are_told(stage: TreeStage) -> None:
    version = stage.registry.register(draft(), parcel(zip_of(**{"a#b": "x"})), ALICE)
    stage.meanwhile = lambda: do_errands(stage)

    with pytest.raises(NotHere, match="cannot be unpacked: Invalid path"):
        stage.planting.entries(root_of(version), ALICE)


def test_a_file_that_is_no_archive_is_a_tree_of_it_alone(stage: TreeStage, version: ModelVersion) -> None:
    bare = version.artifact.model_copy(update={"file_name": "m.onnx", "media_type": "application/octet-stream"})
    onnx = version.model_copy(update={"artifact": bare})
    stage.registry.catalog.version = lambda _: onnx  # type: ignore[method-assign]

    assert stage.planting.entries(root_of(version), ALICE) == [Entry(name="m.onnx", size=len(NESTED))]
    assert stage.planting.file(VersionPlace(version.id, "m.onnx"), ALICE).key == bare.key
    assert stage.planting.entries(VersionPlace(version.id, "m.onnx"), ALICE) == []
    assert stage.queue.errands == []


def test_what_was_unpacked_goes_when_its_archive_has_gone(stage: TreeStage, version: ModelVersion) -> None:
    stage.unpacking.unpack(version.id, time_left)
    tree_id = unpacked_tree_id(version.artifact.key)  # type: ignore[union-attr]
    files = {file.key: stage.blobs.stored(file.key).model_id for file in stage.trees.files(tree_id)}
    assert all(stage.keeping.keeps(key, mark) for key, mark in files.items())

    stage.registry.delete(version.id, ALICE)

    assert not any(stage.keeping.keeps(key, mark) for key, mark in files.items())
    assert list(stage.trees.files(tree_id)) == []
    assert not stage.makings.made(ErrandKind.UNPACK, tree_id).is_done


def test_a_file_of_a_version_that_is_a_tree_is_read_where_the_tree_has_it(
    stage: TreeStage, tree_version: ModelVersion
) -> None:
    file = stage.planting.file(VersionPlace(tree_version.id, "data/w.bin"), ALICE)

    assert file == stage.trees.file(TREE, "data/w.bin")
