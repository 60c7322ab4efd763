"""Versions by their numbers, as clients of MLflow have them, on the two tables."""

import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from chalicelib.registry.doctor import Kind
from chalicelib.registry.errors import InvalidInput, NotFound, RegistryError, Unavailable
from chalicelib.registry.models import Artifact, Changes, External, Filters, Lineage, ModelVersion, Stage, Tree
from chalicelib.registry.numbering import NewVersion, Numbering
from chalicelib.registry.registered_models import RegisteredModel, RegisteredModelChanges
from chalicelib.registry.trees import TreeFile
from chalicelib.store import numbered as numbered_module
from chalicelib.store.held_items import held_key
from chalicelib.store.trees import DynamoTrees
from tests.conftest import ALICE, BOB
from tests.store import doctor_stage
from tests.store.conftest import Bench
from tests.store.faults import Crash, conflicting, nothing, one_call_at_a_time, throttled, timed_out, watched_calls

ELSEWHERE = External(uri="s3://another-bucket/model")


def ids() -> Callable[[], str]:
    """UUID4s that count."""
    numbers = itertools.count(1)
    return lambda: f"00000000-0000-4000-8000-{next(numbers):012d}"


class Desk:
    """Numbering on the stores of a bench, and one registered model, `cat`."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.numbering = Numbering(bench.catalog, bench.blobs, bench.clock, ids(), bench.announced)
        self.trees = DynamoTrees(bench.clock)
        self.first = bench.register("cat", "first")

    @property
    def model(self) -> RegisteredModel:
        return self.bench.catalog.registered_models.named("cat")

    def create(self, artifact: Artifact = ELSEWHERE, **fields: Any) -> ModelVersion:
        fields.setdefault("lineage", Lineage(source="s3://another-bucket/model"))
        return self.numbering.create(self.model, NewVersion(artifact=artifact, **fields), ALICE)

    def copy(self, source: ModelVersion) -> ModelVersion:
        return self.create(source.artifact, copied=source, lineage=Lineage(source="models:/cat/1"))

    def tree(self, *paths: str) -> tuple[Tree, int]:
        self.trees.created("m-1", None, None)
        for path in paths:
            self.trees.put("m-1", TreeFile(path=path, key=f"artifacts/{path}", size=3))
        listed = self.trees.listed("m-1", "")
        assert listed
        return listed

    def stages(self) -> dict[int, Stage | None]:
        rows = self.bench.catalog.registered_models.numbers(self.model.rm_id, 100)
        return {number: self.bench.catalog.version(id_).stage for number, id_ in sorted(rows)}

    def transition(self, number: int, stage: Stage | None, *, archive: bool = False) -> ModelVersion:
        return self.numbering.transition(self.model, number, stage, archive, ALICE)

    def check(self, **options: Any) -> list[ModelVersion]:
        return self.bench.check(**options)


@pytest.fixture
def desk(bench: Bench) -> Desk:
    return Desk(bench)


def crowd(size: int, step: Callable[[int], Any]) -> list[Any]:
    start = threading.Barrier(size)

    def one(number: int) -> Any:
        start.wait()
        try:
            return step(number)
        except RegistryError as exc:
            return exc

    with one_call_at_a_time(), ThreadPoolExecutor(size) as threads:
        return list(threads.map(one, range(size)))


# The next number


def test_a_version_gets_the_next_number_as_its_label(desk: Desk) -> None:
    version = desk.create(tags={"a": "b"}, description="mine", lineage=Lineage(source="s3://x/y", run_id="r"))

    assert (version.number, version.version, version.rm_id) == (2, "2", desk.first.rm_id)
    assert (version.description, version.tags, version.precision) == ("mine", {"a": "b"}, ("fp32",))
    assert desk.numbering.version(desk.model, 2, ALICE) == version
    assert desk.bench.catalog.version(version.id) == version
    assert desk.bench.actions(version.id) == ["version.registered"]
    desk.check()


def test_a_version_costs_two_calls(desk: Desk) -> None:
    model = desk.model

    with watched_calls(nothing, nothing) as calls:
        desk.numbering.create(model, NewVersion(Lineage(source="s3://x/y"), ELSEWHERE), ALICE)

    assert calls == ["GetItem", "TransactWriteItems"]


@pytest.mark.parametrize("size", [16, 32])
def test_versions_created_at_once_get_every_number_once(desk: Desk, size: int) -> None:
    model = desk.model
    made = NewVersion(Lineage(source="s3://x/y"), ELSEWHERE)

    outcomes = crowd(size, lambda _: desk.numbering.create(model, made, ALICE))

    assert sorted(version.number for version in outcomes) == list(range(2, size + 2))
    desk.check()


def test_a_label_that_is_taken_is_passed_over(desk: Desk) -> None:
    desk.bench.register("cat", "3", id="model-labelled-3")

    third, fifth = desk.create(), desk.create()

    assert (third.number, third.version) == (4, "4")
    assert fifth.number == 5
    desk.bench.register("cat", "6", id="model-labelled-6")
    desk.bench.register("cat", "8", id="model-labelled-8")
    assert desk.create().version == "9"
    desk.check()


def test_a_label_of_another_precision_is_not_taken(desk: Desk) -> None:
    desk.bench.register("cat", "3", id="model-labelled-3", precision=("int8",))

    assert desk.create().version == "3"


def test_many_taken_labels_in_a_row_are_passed_over(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numbered_module, "MAX_SKIPPED", 2)
    for label in range(9, 17):
        desk.bench.register("cat", str(label), id=f"model-labelled-{label:02}")

    assert desk.create().version == "17"
    desk.check()


@pytest.mark.parametrize("error", [throttled, conflicting])
def test_a_number_that_was_reserved_is_kept_over_more_trouble(desk: Desk, error: Callable[[str], Exception]) -> None:
    left = [3]

    def fail(operation: str, _: int) -> None:
        if operation == "TransactWriteItems" and left[0]:
            left[0] -= 1
            raise error(operation)

    with watched_calls(fail, nothing):
        version = desk.create()

    assert version.number == 2
    assert desk.create().number == 3
    desk.check()


@pytest.mark.parametrize("is_done", [True, False])
def test_a_lost_answer_makes_no_second_version(desk: Desk, is_done: bool) -> None:
    is_lost = threading.Event()

    def lose(operation: str, _: int) -> None:
        if operation == "TransactWriteItems" and not is_lost.is_set():
            is_lost.set()
            raise timed_out(operation)

    with watched_calls(nothing if is_done else lose, lose if is_done else nothing):
        version = desk.create()

    assert desk.numbering.version(desk.model, version.number, ALICE) == version
    assert len(desk.check()) == 2


def test_a_registered_model_that_has_gone_gets_no_version(desk: Desk) -> None:
    gone = desk.model.model_copy(update={"rm_id": "01GONE", "name": "dog"})

    with pytest.raises(NotFound):
        desk.numbering.create(gone, NewVersion(Lineage(source="s3://x/y"), ELSEWHERE), ALICE)
    with pytest.raises(NotFound):
        desk.numbering.version(gone, 1, ALICE)


def test_the_name_that_was_asked_for_a_moment_ago_may_have_changed(desk: Desk) -> None:
    """What is known of a registered model may be old; its id is not."""
    old = desk.model.model_copy(update={"name": "another name"})

    version = desk.numbering.create(old, NewVersion(Lineage(source="s3://x/y"), ELSEWHERE), ALICE)

    assert (version.name, version.rm_id) == ("cat", desk.first.rm_id)
    desk.check()


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"tags": {"k": "x" * 100_001}}, "tags"),
        ({"tags": {str(number): "x" * 100_000 for number in range(11)}}, "tags"),
        ({"tags": {" ": "blank"}}, "tags"),
        ({"tags": {"a\nb": "control"}}, "tags"),
        ({"description": "x" * 70_000}, "metadata"),
        ({"lineage": Lineage(source="s3://" + "x" * 20_000)}, "source"),
        ({"lineage": Lineage(source="s3://x", run_id="x" * 20_000)}, "source"),
    ],
)
def test_what_is_too_large_or_no_tag_is_refused(desk: Desk, fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        desk.create(**fields)

    assert caught.value.field == field
    assert len(desk.check()) == 1


# Trees


def test_a_tree_is_sealed_with_its_version(desk: Desk) -> None:
    tree, changes = desk.tree("MLmodel", "model.pkl")

    version = desk.create(tree, changes=changes)

    assert (version.format, version.artifact, version.size) == ("MLflow", tree, 6)
    with pytest.raises(InvalidInput):
        desk.trees.put("m-1", TreeFile(path="MLmodel", key="artifacts/other", size=1))
    with pytest.raises(InvalidInput):
        desk.trees.put("m-1", TreeFile(path="another", key="artifacts/other", size=1))
    desk.check()


def test_a_tree_that_was_written_to_meanwhile_is_listed_again(desk: Desk) -> None:
    old, changes = desk.tree("MLmodel")
    now, _ = desk.tree("model.pkl")

    version = desk.create(old, changes=changes, relist=lambda: desk.trees.listed("m-1", ""))

    assert version.artifact == now
    assert version.number == 2
    assert desk.create().number == 3


def test_a_tree_that_is_written_to_all_the_time_is_given_up(desk: Desk) -> None:
    tree, changes = desk.tree("MLmodel")

    with pytest.raises(Unavailable, match="being written"):
        desk.create(tree, changes=changes - 1)
    with pytest.raises(InvalidInput, match="no files"):
        desk.create(tree, changes=changes - 1, relist=lambda: None)

    assert len(desk.check()) == 1


# Copies


def test_a_copy_has_what_its_source_says_and_the_same_object(desk: Desk) -> None:
    source = desk.bench.register("dog", "v1", precision=("int8",), labels=("a", "b"), tags={"of": "dog"}, score=0.5)

    copied = desk.copy(source)

    assert copied.artifact == source.artifact
    assert (copied.precision, copied.labels, copied.score) == (("int8",), ("a", "b"), 0.5)
    assert (copied.tags, copied.description, copied.name) == ({}, None, "cat")
    desk.check()


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_an_object_goes_with_the_last_that_has_it(desk: Desk, order: tuple[int, ...]) -> None:
    versions = [desk.first, desk.copy(desk.first), desk.copy(desk.first)]
    key = desk.first.file.key

    for at, which in enumerate(order):
        assert key in desk.bench.blobs.objects
        desk.bench.registry.delete(versions[which].id, ALICE)
        if at < 2:
            desk.check()
            desk.bench.clock.pass_by(days=3)
            desk.bench.sweep()

    assert key not in desk.bench.blobs.objects
    assert desk.check() == []


def test_a_copy_of_a_copy_counts_too(desk: Desk) -> None:
    second = desk.copy(desk.first)
    desk.bench.registry.delete(desk.first.id, ALICE)

    third = desk.copy(second)
    desk.numbering.delete(desk.model, second.number, ALICE)

    assert third.file.key in desk.bench.blobs.objects
    desk.check()


def test_deleting_what_is_not_shared_costs_no_call_more(desk: Desk) -> None:
    with watched_calls(nothing, nothing) as calls:
        desk.bench.registry.delete(desk.first.id, ALICE)

    assert calls == ["GetItem", "TransactWriteItems"]  # and the object, which is in memory here


def test_what_has_gone_is_not_copied(desk: Desk) -> None:
    desk.bench.registry.delete(desk.first.id, ALICE)

    with pytest.raises(NotFound):
        desk.copy(desk.first)

    assert desk.check() == []


def test_an_id_that_was_used_again_meanwhile_is_not_copied(desk: Desk) -> None:
    old = desk.first
    desk.bench.registry.delete(old.id, ALICE)
    desk.bench.register("owl", "v1", id=old.id)

    with pytest.raises(NotFound):
        desk.copy(old)

    desk.check()


def test_what_was_changed_meanwhile_is_copied(desk: Desk) -> None:
    old = desk.first
    desk.bench.registry.update(old.id, Changes(score=0.1), BOB)

    desk.copy(old)

    desk.check()


def test_copies_and_deletions_at_once_lose_no_bytes(desk: Desk) -> None:
    source = desk.first

    def act(number: int) -> Any:
        if number == 5:
            return desk.bench.registry.delete(source.id, ALICE)
        return desk.copy(source)

    outcomes = crowd(10, act)

    copies = [one for one in outcomes if isinstance(one, ModelVersion) and one.id != source.id]
    assert (source.file.key in desk.bench.blobs.objects) == bool(copies)
    desk.check()


# Stages


def test_a_stage_is_kept_by_the_version_its_row_and_its_registered_model(desk: Desk) -> None:
    before = desk.model

    version = desk.transition(1, "Production")

    assert version.stage == "Production"
    assert version.last_changed_at > desk.first.last_changed_at
    assert desk.model.staged == {"Production": 1}
    assert desk.model.last_changed_at > before.last_changed_at
    assert desk.bench.actions(version.id) == ["version.registered", "version.updated"]
    desk.check()


def test_the_newest_of_a_stage_is_the_highest_number_in_it(desk: Desk) -> None:
    for _ in range(3):
        desk.create()
    for number in (3, 1, 2):
        desk.transition(number, "Staging")

    assert desk.model.staged == {"Staging": 3}
    desk.transition(3, None)
    assert desk.model.staged == {"Staging": 2}
    desk.numbering.delete(desk.model, 2, ALICE)
    assert desk.model.staged == {"Staging": 1}
    desk.bench.registry.update(desk.first.id, Changes(name="dog"), ALICE)
    assert desk.model.staged == {}
    assert desk.bench.catalog.version(desk.first.id).stage is None
    desk.check()


def test_a_version_that_leaves_while_another_comes_does_not_hide_it(desk: Desk) -> None:
    desk.create()
    desk.transition(2, "Staging")

    def come(operation: str, _: int) -> None:
        if operation == "TransactWriteItems" and not has_come.is_set():
            has_come.set()
            desk.transition(1, "Staging")

    has_come = threading.Event()
    with watched_calls(come, nothing):
        desk.transition(2, None)

    assert desk.model.staged == {"Staging": 1}
    desk.check()


def test_the_newest_of_each_stage(desk: Desk) -> None:
    for _ in range(4):
        desk.create()
    desk.transition(2, "Production")
    desk.transition(1, "Production")
    desk.transition(5, "Archived")

    def latest(*stages: Stage | None) -> list[int]:
        return [version.number for version in desk.numbering.latest(desk.model, stages)]

    assert [version.number for version in desk.numbering.latest(desk.model, None)] == [4, 2, 5]
    assert latest(None) == [4]
    assert latest("Production", "Staging", "Production") == [2]
    assert latest() == []


def test_the_newest_is_found_though_the_registered_model_was_read_before(desk: Desk) -> None:
    desk.create()
    desk.transition(2, "Production")
    desk.transition(1, "Production")
    old = desk.model
    desk.transition(2, None)

    assert [version.number for version in desk.numbering.latest(old, ["Production", None])] == [1, 2]


def test_others_in_a_stage_are_archived(desk: Desk) -> None:
    for _ in range(3):
        desk.create()
    for number in (1, 2, 3):
        desk.transition(number, "Production")

    desk.transition(4, "Production", archive=True)

    assert desk.stages() == {1: "Archived", 2: "Archived", 3: "Archived", 4: "Production"}
    assert desk.model.staged == {"Production": 4, "Archived": 3}
    desk.check()


def test_archiving_moves_the_lowest_first_and_goes_on_when_it_is_repeated(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numbered_module, "MAX_ARCHIVED", 2)
    for _ in range(5):
        desk.create()
    for number in range(1, 6):
        desk.transition(number, "Production")

    def crash(operation: str, number: int) -> None:
        if operation == "TransactWriteItems":
            raise Crash

    with pytest.raises(Crash), watched_calls(nothing, crash):
        desk.transition(6, "Production", archive=True)

    assert desk.stages() == {1: "Archived", 2: "Archived", 3: "Production", 4: "Production", 5: "Production", 6: None}
    desk.check()
    desk.transition(6, "Production", archive=True)
    assert set(desk.stages().items()) == {*((number, "Archived") for number in range(1, 6)), (6, "Production")}
    desk.check()


def test_as_many_are_archived_at_once_as_a_transaction_may_have(desk: Desk) -> None:
    """In a project, with an alias each, which makes most items."""
    first = desk.bench.register("owl", "v1", project_name="night")
    model = desk.bench.catalog.registered_models.named("night.owl")
    made = NewVersion(Lineage(source="s3://x/y"), ELSEWHERE)
    for _ in range(numbered_module.MAX_ARCHIVED + 1):
        desk.numbering.create(model, made, ALICE)
    for number in range(1, numbered_module.MAX_ARCHIVED + 1):
        desk.numbering.transition(model, number, "Production", False, ALICE)
    model = desk.bench.catalog.registered_models.named("night.owl")

    with watched_calls(nothing, nothing) as calls:
        desk.numbering.transition(model, numbered_module.MAX_ARCHIVED + 1, "Production", True, ALICE)

    assert calls.count("TransactWriteItems") == 1
    assert desk.bench.catalog.version(first.id).stage == "Archived"
    desk.check()


def test_only_active_stages_are_cleared(desk: Desk) -> None:
    for stage in ("Archived", None):
        with pytest.raises(InvalidInput):
            desk.transition(1, stage, archive=True)


def test_transitions_at_once_leave_one_in_production(desk: Desk) -> None:
    for _ in range(7):
        desk.create()
    model = desk.model

    outcomes = crowd(8, lambda number: desk.numbering.transition(model, number + 1, "Production", True, ALICE))

    assert not [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    assert sorted(stage or "" for stage in desk.stages().values()) == ["Archived"] * 7 + ["Production"]
    desk.check()


# Changes


def test_tags_do_not_count_as_a_change_of_what_a_version_says(desk: Desk) -> None:
    desk.numbering.set_tag(desk.model, 1, "k", "v", ALICE)
    tagged = desk.numbering.version(desk.model, 1, ALICE)
    desk.numbering.delete_tag(desk.model, 1, "k", ALICE)
    desk.numbering.delete_tag(desk.model, 1, "k", ALICE)
    untagged = desk.numbering.version(desk.model, 1, ALICE)

    assert tagged.tags == {"k": "v"}
    assert untagged.tags == {}
    assert tagged.last_changed_at == untagged.last_changed_at == desk.first.last_changed_at
    described = desk.numbering.describe(desk.model, 1, "new", ALICE)
    assert described.last_changed_at > desk.first.last_changed_at
    assert desk.bench.actions(desk.first.id) == ["version.registered", *["version.updated"] * 3]
    desk.check()


def test_a_number_that_no_version_has_is_not_found(desk: Desk) -> None:
    model = desk.model
    for act in (
        lambda: desk.numbering.version(model, 9, ALICE),
        lambda: desk.numbering.describe(model, 9, "x", ALICE),
        lambda: desk.numbering.set_tag(model, 9, "k", "v", ALICE),
        lambda: desk.numbering.transition(model, 9, "Staging", True, ALICE),
        lambda: desk.numbering.delete(model, 9, ALICE),
        lambda: desk.numbering.version(model, 10**40, ALICE),
        lambda: desk.numbering.version(model, 0, ALICE),
        lambda: desk.numbering.version(model, -1, ALICE),
    ):
        with pytest.raises(NotFound):
            act()


def test_a_deleted_version_takes_its_aliases_along(desk: Desk) -> None:
    desk.create()
    desk.bench.registry.change_registered_model("cat", RegisteredModelChanges(aliases={"best": 2, "old": 1}), ALICE)

    desk.numbering.delete(desk.model, 2, ALICE)

    assert desk.model.aliases == {"old": 1}
    assert desk.create().number == 3
    desk.check()


# Where it is listed


def test_a_version_without_bytes_is_listed_apart(desk: Desk) -> None:
    version = desk.create()

    def listed(**filters: Any) -> list[str]:
        return [one.id for one in desk.bench.catalog.search(Filters(**filters), 10).versions]

    assert listed() == [desk.first.id]
    assert listed(artifact="external") == [version.id]
    assert listed(artifact="external", name="dog") == []


# Crash points


def operations(desk: Desk) -> Iterator[tuple[str, Callable[[], Any]]]:
    yield "create", lambda: desk.create()
    yield "copy", lambda: desk.copy(desk.first)
    yield "transition", lambda: desk.transition(2, "Production", archive=True)
    yield "delete a copy", lambda: desk.numbering.delete(desk.model, 2, ALICE)
    yield "describe", lambda: desk.numbering.describe(desk.model, 2, "x", ALICE)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("which", range(5))
@pytest.mark.parametrize("call", range(8))
def test_a_crash_between_any_two_calls_leaves_nothing_half_done(desk: Desk, which: int, call: int, when: str) -> None:
    desk.copy(desk.first)
    desk.transition(1, "Production")
    _, operation = list(operations(desk))[which]

    def crash(_: str, number: int) -> None:
        if number == call:
            raise Crash

    try:
        with watched_calls(crash if when == "before" else nothing, crash if when == "after" else nothing):
            operation()
    except Crash:
        pass

    desk.check(orphans=1)


# What the doctor says


@pytest.fixture
def stage(desk: Desk) -> doctor_stage.Stage:
    return doctor_stage.Stage(desk.bench)


def test_a_registry_with_trees_copies_and_stages_is_whole(desk: Desk, stage: doctor_stage.Stage) -> None:
    tree, changes = desk.tree("MLmodel")
    desk.create(tree, changes=changes)
    desk.create()
    desk.copy(desk.first)
    desk.transition(2, "Production")
    desk.numbering.delete(desk.model, 1, ALICE)

    assert stage.visit().of_versions == []


def test_a_tree_that_may_be_changed_and_one_that_is_gone_are_found(desk: Desk, stage: doctor_stage.Stage) -> None:
    tree, changes = desk.tree("MLmodel")
    version = desk.create(tree, changes=changes)
    for what, do in (
        ("TREE#m-1 is not sealed at its root.", lambda: stage.set("TREE#m-1", sealed=None)),
        ("TREE#m-1 is not there.", lambda: stage.remove("TREE#m-1")),
    ):
        do()

        [finding] = [one for one in stage.visit(repair=True).findings if one.subject == f"MODEL#{version.id}"]

        assert finding.kind == Kind.TREE
        assert finding.what.startswith(what)
        assert not finding.safe


@pytest.mark.parametrize(
    "damage", [{"count": {"N": "0"}}, {"count": {"S": "2"}}, {"count": None}, {"key": {"S": "artifacts/other"}}]
)
def test_a_count_of_holders_that_cannot_be_right_is_found(
    desk: Desk, stage: doctor_stage.Stage, damage: dict[str, Any]
) -> None:
    desk.copy(desk.first)
    pk = held_key(desk.first.file.key)
    stage.set(pk, **damage)

    findings = stage.visit(repair=True).findings

    assert (Kind.UNREADABLE, pk) in [(finding.kind, finding.subject) for finding in findings]


def test_a_copy_whose_object_is_not_counted_as_shared_is_found(desk: Desk, stage: doctor_stage.Stage) -> None:
    copied = desk.copy(desk.first)
    stage.remove(held_key(desk.first.file.key))

    assert stage.visit().of_versions == [(Kind.OBJECT_MARK, f"MODEL#{copied.id}")]
