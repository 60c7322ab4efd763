"""Trees on DynamoDB and S3 in memory: files that come, change, and cannot change any more; races and crashes."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from chalicelib.registry.access import Access, Actor, Project
from chalicelib.registry.errors import InvalidInput, NotFound, TooLarge, Unavailable, UploadIncomplete
from chalicelib.registry.planting import StatedPart
from chalicelib.registry.service import Registry
from chalicelib.registry.trees import Entry, TreeFile, TreePlace, VersionPlace
from chalicelib.store.transactions import Refused, Retry
from tests.conftest import ALICE, BOB, Clock, draft, parcel
from tests.store.faults import (
    Crash,
    conflicting,
    connection_lost,
    internal_error,
    not_connected,
    nothing,
    one_call_at_a_time,
    throttled,
    watched_calls,
)
from tests.store.tree_stage import TREE, TreeStage

LARGE_PART = b"p" * 5 * 1024**2


@pytest.fixture
def stage(registry: Registry, clock: Clock) -> TreeStage:
    return TreeStage(registry, clock)


def paths(stage: TreeStage, prefix: str = "") -> list[str]:
    return [file.path for file in stage.trees.files(TREE, prefix)]


# --- Files ---------------------------------------------------------------------------------------------------------


def test_a_file_in_parts_is_there_when_it_is_complete_and_not_before(stage: TreeStage) -> None:
    upload_id, parts = stage.begin("a/weights.bin", LARGE_PART, b"rest")
    assert paths(stage) == []

    stage.complete("a/weights.bin", upload_id, parts)

    assert stage.content("a/weights.bin") == LARGE_PART + b"rest"
    assert stage.trees.root(TREE).changes == 1


def test_an_empty_file_is_a_file(stage: TreeStage) -> None:
    stage.complete("empty", *stage.begin("empty"))
    stage.write("empty too", b"")

    assert [(file.path, file.size) for file in stage.trees.files(TREE)] == [("empty", 0), ("empty too", 0)]


def test_a_key_has_nothing_of_a_path_but_a_harmless_name(stage: TreeStage) -> None:
    stage.write("a/b/...hidden")

    [key] = stage.objects()
    assert key.startswith("artifacts/")
    assert key.endswith("/hidden")


def test_a_file_that_is_written_again_points_at_another_object_and_the_first_stays_until_it_is_swept(
    stage: TreeStage,
) -> None:
    stage.write("x", b"one")
    first = stage.trees.file(TREE, "x")
    stage.write("x", b"two")
    second = stage.trees.file(TREE, "x")

    assert first
    assert second
    assert (stage.content("x"), stage.content_of(first)) == (b"two", b"one")
    marks = {key: stage.blobs.stored(key).model_id for key in stage.objects()}
    assert [stage.keeping.keeps(file.key, marks[file.key]) for file in (first, second)] == [False, True]


def test_a_tree_that_is_made_twice_is_one(stage: TreeStage) -> None:
    stage.write("x")
    stage.trees.created(TREE, "other", "other")

    assert stage.trees.root(TREE).changes == 1
    assert stage.trees.root(TREE).project_id is None


def test_there_is_no_file_in_a_tree_that_is_not_there(stage: TreeStage) -> None:
    with pytest.raises(NotFound):
        stage.planting.put(TreePlace("m-nobody", "x"), b"", ALICE)
    with pytest.raises(NotFound):
        stage.trees.put("m-nobody", TreeFile(path="x", key="k", size=1))
    assert stage.objects() == {}


# --- Directories ---------------------------------------------------------------------------------------------------


def test_a_directory_lists_what_is_in_it_and_nothing_deeper(stage: TreeStage) -> None:
    for path in ("a", "a.b", "a/x", "a/y/z", "a0", "ä/x", "b/1/2/3"):
        stage.trees.put(TREE, TreeFile(path=path, key="k", size=7))

    root = [Entry(name="a"), Entry(name="a.b", size=7), Entry(name="a0", size=7), Entry(name="b"), Entry(name="ä")]
    assert stage.trees.entries(TREE, "", 100) == root
    assert stage.trees.entries(TREE, "a", 100) == [Entry(name="x", size=7), Entry(name="y")]
    assert stage.trees.entries(TREE, "a/x", 100) == []
    assert stage.trees.entries(TREE, "nothing", 100) == []


def test_a_large_directory_is_passed_over_in_one_read(stage: TreeStage) -> None:
    for number in range(130):
        stage.trees.put(TREE, TreeFile(path=f"large/{number:04d}", key="k", size=1))
    stage.trees.put(TREE, TreeFile(path="large0", key="k", size=1))
    stage.trees.put(TREE, TreeFile(path="last", key="k", size=1))

    with watched_calls(nothing, nothing) as calls:
        found = stage.trees.entries(TREE, "", 100)

    assert [entry.name for entry in found] == ["large", "large0", "last"]
    assert calls == ["Query", "Query"]
    assert len(stage.trees.entries(TREE, "large", 1000)) == 130


def test_a_directory_of_too_many_files_is_no_short_list(stage: TreeStage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chalicelib.registry.planting.MAX_LISTED", 2)
    for name in "abc":
        stage.trees.put(TREE, TreeFile(path=name, key="k", size=1))

    with pytest.raises(TooLarge, match="cannot be listed"):
        stage.planting.entries(TreePlace(TREE, ""), ALICE)


def test_files_come_in_order_over_several_pages(stage: TreeStage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chalicelib.store.trees.PAGE", 2)
    names = ["a", "a b", "a/b", "a/b/c", "a0", "日本"]
    for name in names:
        stage.trees.put(TREE, TreeFile(path=name, key="k", size=1))

    assert paths(stage) == names
    assert paths(stage, "a") == ["a", "a/b", "a/b/c"]


# --- Sealing -------------------------------------------------------------------------------------------------------


def test_nothing_below_a_sealed_path_changes_and_all_else_does(stage: TreeStage) -> None:
    stage.write("model/x")
    stage.write("other/x")
    stage.seal("model")

    for path in ("model/x", "model/y/z", "model"):
        with pytest.raises(InvalidInput, match="never changes"):
            stage.write(path)
    with pytest.raises(InvalidInput, match="never changes"):
        stage.planting.remove(TreePlace(TREE, "model/x"), ALICE)
    with pytest.raises(InvalidInput, match="never changes"):
        stage.planting.remove(TreePlace(TREE, ""), ALICE)
    stage.write("models/x")
    assert stage.planting.remove(TreePlace(TREE, "other"), ALICE) == 1


def test_a_file_that_is_complete_after_its_path_was_sealed_is_refused_and_leaves_nothing(stage: TreeStage) -> None:
    stage.write("x", b"one")
    upload_id, parts = stage.begin("x", b"two")
    stage.seal()
    before = stage.objects()

    with pytest.raises(InvalidInput, match="never changes"):
        stage.complete("x", upload_id, parts)

    assert stage.content("x") == b"one"
    assert stage.objects() == before
    assert stage.uploads_in_s3() == 0


def test_a_file_whose_path_is_sealed_while_its_parts_are_joined_is_refused_and_leaves_nothing(stage: TreeStage) -> None:
    stage.write("x", b"one")
    upload_id, parts = stage.begin("x", b"two")
    before = stage.objects()

    def seal_now(operation: str, _: int) -> None:
        if operation == "CompleteMultipartUpload":
            stage.seal()

    with watched_calls(nothing, seal_now), pytest.raises(InvalidInput, match="never changes"):
        stage.complete("x", upload_id, parts)

    assert stage.content("x") == b"one"
    assert stage.objects() == before


def test_what_was_listed_before_a_write_cannot_be_sealed_after_it(stage: TreeStage) -> None:
    stage.write("x")
    found = stage.trees.listed(TREE, "")
    stage.write("y")

    assert found
    with pytest.raises(Refused):
        stage.commit_seal(*found)


def test_a_write_while_files_are_listed_is_missed_by_no_registration(stage: TreeStage) -> None:
    stage.write("x")
    once = iter([True])

    def write_in_between(operation: str, _: int) -> None:
        if operation == "Query" and next(once, False):
            stage.write("a")

    with watched_calls(write_in_between, nothing):
        found = stage.trees.listed(TREE, "")

    assert found
    with pytest.raises(Refused):
        stage.commit_seal(*found)


def test_a_removal_that_meets_a_seal_is_refused(stage: TreeStage) -> None:
    stage.write("a/x")
    once = iter([True])

    def seal_now(operation: str, _: int) -> None:
        if operation == "TransactWriteItems" and next(once, False):
            stage.seal("a")

    with watched_calls(seal_now, nothing), pytest.raises(InvalidInput, match="never changes"):
        stage.planting.remove(TreePlace(TREE, "a"), ALICE)

    assert paths(stage) == ["a/x"]


def test_a_file_alone_can_be_an_artifact(stage: TreeStage) -> None:
    stage.write("model.pkl", b"abc")
    stage.write("model.pkl.old")

    tree = stage.seal("model.pkl")

    assert (tree.file_count, tree.size) == (1, 3)
    with pytest.raises(InvalidInput):
        stage.write("model.pkl")
    stage.write("model.pkl.old")


def test_a_path_without_files_is_no_artifact(stage: TreeStage) -> None:
    assert stage.trees.listed(TREE, "") is None
    with pytest.raises(NotFound):
        stage.trees.listed("m-nobody", "")


# --- Removing ------------------------------------------------------------------------------------------------------


def test_a_directory_goes_with_all_that_is_in_it(stage: TreeStage) -> None:
    for number in range(150):
        stage.trees.put(TREE, TreeFile(path=f"a/{number}", key="k", size=1))
    stage.trees.put(TREE, TreeFile(path="ab", key="k", size=1))

    assert stage.planting.remove(TreePlace(TREE, "a"), ALICE) == 150

    assert paths(stage) == ["ab"]
    assert stage.planting.remove(TreePlace(TREE, "a"), ALICE) == 0


# --- Uploads in parts ----------------------------------------------------------------------------------------------


def test_what_is_complete_stays_complete_when_the_client_says_it_again(stage: TreeStage) -> None:
    upload_id, parts = stage.begin("x", b"one")
    stage.complete("x", upload_id, parts)
    stage.complete("x", upload_id, parts)
    stage.planting.abort(TreePlace(TREE, "x"), upload_id, ALICE)

    assert stage.content("x") == b"one"
    assert stage.trees.root(TREE).changes == 1


def test_what_was_aborted_leaves_nothing_and_cannot_be_completed(stage: TreeStage) -> None:
    upload_id, parts = stage.begin("x", b"one")
    stage.planting.abort(TreePlace(TREE, "x"), upload_id, ALICE)
    stage.planting.abort(TreePlace(TREE, "x"), upload_id, ALICE)

    with pytest.raises(NotFound, match="upload it again"):
        stage.complete("x", upload_id, parts)
    assert (stage.objects(), stage.uploads_in_s3()) == ({}, 0)


@pytest.mark.parametrize(
    "stated",
    [
        [],
        [StatedPart(number=1, etag='"0"')],
        [StatedPart(number=1, etag="")],
        [StatedPart(number=2, etag='"0"')],
        [StatedPart(number=-1, etag='"0"')],
    ],
)
def test_parts_that_are_not_as_stated_make_no_file(stage: TreeStage, stated: list[StatedPart]) -> None:
    upload_id, _ = stage.begin("x", b"one")

    with pytest.raises(UploadIncomplete, match="upload the file again"):
        stage.complete("x", upload_id, stated)

    assert paths(stage) == []


def test_a_part_that_was_not_sent_makes_no_file_although_it_is_not_stated_either(stage: TreeStage) -> None:
    upload, _ = stage.planting.begin(TreePlace(TREE, "x"), 2, ALICE)

    with pytest.raises(UploadIncomplete):
        stage.complete("x", upload.id, [])


def test_a_part_more_than_announced_makes_no_file(stage: TreeStage) -> None:
    upload_id, parts = stage.begin("x", b"one")

    with pytest.raises(UploadIncomplete):
        stage.complete("x", upload_id, [*parts, StatedPart(number=2, etag='"0"')])


def test_an_upload_is_of_its_own_path_alone(stage: TreeStage) -> None:
    upload_id, parts = stage.begin("x", b"one")

    with pytest.raises(NotFound):
        stage.complete("y", upload_id, parts)
    stage.planting.abort(TreePlace(TREE, "y"), upload_id, ALICE)
    stage.complete("x", upload_id, parts)
    assert paths(stage) == ["x"]


@pytest.mark.parametrize("upload_id", ["", "nobody", "x" * 64, "../META", "#"])
def test_an_upload_that_never_was_is_not_there(stage: TreeStage, upload_id: str) -> None:
    with pytest.raises(NotFound):
        stage.complete("x", upload_id, [])
    stage.planting.abort(TreePlace(TREE, "x"), upload_id, ALICE)


def test_an_upload_is_forgotten_after_a_day(stage: TreeStage) -> None:
    upload_id, parts = stage.begin("x", b"one")
    stage.pass_by(hours=24)

    with pytest.raises(NotFound):
        stage.complete("x", upload_id, parts)


@pytest.mark.parametrize("count", [0, -1, 10_001])
def test_a_count_of_parts_that_cannot_be_is_refused_and_it_is_said_what_to_set(stage: TreeStage, count: int) -> None:
    with pytest.raises(InvalidInput, match="MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE"):
        stage.planting.begin(TreePlace(TREE, "x"), count, ALICE)
    assert stage.uploads_in_s3() == 0


def test_more_urls_than_an_answer_holds_are_refused(stage: TreeStage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chalicelib.registry.planting.MAX_URLS_BYTES", 10_000)

    with pytest.raises(TooLarge, match="MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE"):
        stage.planting.begin(TreePlace(TREE, "x"), 100, ALICE)
    assert stage.uploads_in_s3() == 0


def test_as_many_parts_as_s3_knows_get_urls(stage: TreeStage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage.blobs, "part_url", lambda key, upload, number: f"https://s3/{number}")

    _, urls = stage.planting.begin(TreePlace(TREE, "x"), 10_000, ALICE)

    assert (len(urls), urls[-1]) == (10_000, "https://s3/10000")


# --- Who may ---------------------------------------------------------------------------------------------------------


def limited(project: str) -> Actor:
    return BOB.model_copy(update={"access": Access(projects=(Project(name=project),))})


def test_a_tree_is_there_only_for_who_sees_its_project(stage: TreeStage) -> None:
    stage.trees.created("m-of-cats", None, "cats")
    place = TreePlace("m-of-cats", "x")
    stage.planting.put(place, b"secret", limited("cats"))
    upload, _ = stage.planting.begin(place, 1, limited("cats"))

    other = limited("dogs")
    for act in (
        lambda: stage.planting.entries(place, other),
        lambda: stage.planting.file(place, other),
        lambda: stage.planting.put(place, b"", other),
        lambda: stage.planting.begin(place, 1, other),
        lambda: stage.planting.complete(place, upload.id, [], other),
        lambda: stage.planting.abort(place, upload.id, other),
        lambda: stage.planting.remove(place, other),
    ):
        with pytest.raises(NotFound, match=r"^No such artifact: 'x'$"):
            act()
    with pytest.raises(NotFound, match=r"^No such artifact: 'x'$"):
        stage.planting.file(TreePlace("m-nobody", "x"), other)
    assert stage.planting.file(place, limited("cats")).size == 6


def test_files_of_a_version_are_there_only_for_who_sees_the_version(stage: TreeStage) -> None:
    version = stage.registry.register(draft(project_name="cats"), parcel(), ALICE)
    place = VersionPlace(version.id, "model.txt")

    with pytest.raises(NotFound, match=r"^No such artifact: 'model.txt'$"):
        stage.planting.file(place, limited("dogs"))
    with pytest.raises(InvalidInput, match="never changes"):
        stage.planting.put(place, b"", ALICE)


# --- Crowds and crashes ----------------------------------------------------------------------------------------------


def test_of_many_who_write_to_one_tree_at_once_none_is_lost(stage: TreeStage) -> None:
    def write(number: int) -> None:
        stage.trees.put(TREE, TreeFile(path=f"d/{number}", key=f"k{number}", size=1))

    with one_call_at_a_time(), ThreadPoolExecutor(16) as pool:
        list(pool.map(write, range(64)))

    assert len(paths(stage)) == 64
    assert stage.trees.root(TREE).changes == 64


def test_of_many_who_complete_one_upload_at_once_all_are_told_that_it_is_complete(stage: TreeStage) -> None:
    upload_id, parts = stage.begin("x", b"one")

    with one_call_at_a_time(), ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: stage.complete("x", upload_id, parts), range(8)))

    assert stage.content("x") == b"one"
    assert stage.trees.root(TREE).changes == 1


@pytest.mark.parametrize("error", [throttled, conflicting, internal_error, not_connected, connection_lost])
def test_what_dynamodb_does_not_do_now_it_does_the_next_time(stage: TreeStage, error: object) -> None:
    upload_id, parts = stage.begin("x", b"one")
    times = {"TransactWriteItems": 3, "GetItem": 0 if error is conflicting else 1}

    def fail(operation: str, _: int) -> None:
        if times.get(operation, 0):
            times[operation] -= 1
            raise error(operation)  # type: ignore[operator]

    with watched_calls(fail, nothing):
        stage.complete("x", upload_id, parts)

    assert stage.trees.root(TREE).changes == 1


@pytest.mark.parametrize("error", [connection_lost, internal_error])
def test_a_write_whose_answer_was_lost_is_done_once(stage: TreeStage, error: object) -> None:
    upload_id, parts = stage.begin("x", b"one")
    lost = iter([True])

    def lose(operation: str, _: int) -> None:
        if operation == "TransactWriteItems" and next(lost, False):
            raise error(operation)  # type: ignore[operator]

    with watched_calls(nothing, lose):
        stage.complete("x", upload_id, parts)

    assert stage.content("x") == b"one"
    assert stage.trees.root(TREE).changes == 1


@pytest.mark.parametrize("number", range(7))
@pytest.mark.parametrize("is_after", [False, True])
def test_who_crashes_anywhere_on_the_way_can_complete_it_again(
    stage: TreeStage, number: int, is_after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A thread of its own would not take this one with it.
    monkeypatch.setattr("chalicelib.store.blobs._within", lambda _, action: action())
    upload_id, parts = stage.begin("x", b"one")

    def crash(_: str, at: int) -> None:
        if at == number:
            raise Crash

    with watched_calls(nothing if is_after else crash, crash if is_after else nothing), suppress(Crash):
        stage.complete("x", upload_id, parts)
    stage.complete("x", upload_id, parts)

    assert stage.content("x") == b"one"
    assert (stage.trees.root(TREE).changes, len(stage.objects())) == (1, 1)


@pytest.mark.parametrize("number", range(4))
def test_who_crashes_while_putting_a_small_file_leaves_an_orphan_at_most(stage: TreeStage, number: int) -> None:
    def crash(_: str, at: int) -> None:
        if at == number:
            raise Crash

    with watched_calls(nothing, crash), suppress(Crash):
        stage.write("x", b"one")
    orphans = set(stage.objects()) - {file.key for file in stage.trees.files(TREE)}
    stage.write("x", b"two")

    assert stage.content("x") == b"two"
    assert all(not stage.keeping.keeps(key, stage.blobs.stored(key).model_id) for key in orphans)


def test_who_cannot_remember_an_upload_leaves_no_parts(stage: TreeStage) -> None:
    def fail(operation: str, _: int) -> None:
        if operation == "PutItem":
            raise throttled(operation)

    with watched_calls(fail, nothing), pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage.trees, "_retry", Retry(seconds=0))
        with pytest.raises(Unavailable):
            stage.planting.begin(TreePlace(TREE, "x"), 1, ALICE)

    assert stage.uploads_in_s3() == 0
