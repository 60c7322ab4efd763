"""Tags that are too many for their record: whole to whoever reads, at the price of a call."""

import json
import random
import string
from typing import Any

import boto3
import pytest

from chalicelib.registry.doctor import Kind
from chalicelib.registry.errors import InvalidInput
from chalicelib.registry.models import Changes, Filters
from chalicelib.registry.registered_models import RegisteredModelChanges
from chalicelib.store.keys import MORE_TAGS
from chalicelib.store.spilling import PIECE_BYTES
from tests.conftest import ALICE
from tests.store.conftest import Bench
from tests.store.doctor_stage import Stage
from tests.store.faults import nothing, timed_out, watched_calls


def noise(characters: int, seed: int = 1) -> str:
    """What no compression makes smaller by much."""
    return "".join(random.Random(seed).choices(string.ascii_letters + string.digits, k=characters))


MANY: dict[str, dict[str, str]] = {
    "noise": {f"tag {number}": noise(99_000, number) for number in range(10)},
    "of control characters": {f"tag {number}": "\x00" * 99_000 for number in range(10)},
    "quotes": {f"tag {number}": '"\\' * 49_000 for number in range(10)},
    "of four bytes": {f"tag {number}": "\U0001f600" * 24_000 for number in range(10)},
    "short": {f"k{number}": "" for number in range(100_000)},
    "just too many": {"k": noise(16 * 1024)},
}


def size_of(item: dict[str, dict[str, Any]]) -> int:
    """As DynamoDB counts."""
    parts = [part for value in item.values() for one in value.values() for part in (one if "SS" in value else [one])]
    return sum(map(len, item)) + sum(len(part if isinstance(part, bytes) else str(part).encode()) for part in parts)


def pieces(bench: Bench) -> list[str]:
    stage = Stage(bench)
    return sorted(sk for pk, sk in stage.rows("MODEL#") if sk.startswith("TAGS#"))


@pytest.mark.parametrize("which", MANY)
def test_a_version_has_as_many_tags_as_it_may(bench: Bench, which: str) -> None:
    tags = MANY[which]

    version = bench.register(tags=tags)

    assert version.tags == tags
    assert bench.catalog.version(version.id) == version
    assert bench.catalog.search(Filters(), 10).versions == (version,)
    assert list(bench.catalog.versions([version.id])) == [version]
    assert pieces(bench)
    bench.check()
    assert Stage(bench).visit().of_versions == []
    bench.registry.delete(version.id, ALICE)
    assert pieces(bench) == []
    bench.check()


def test_tags_are_read_with_one_call_more_only_where_they_are_many(bench: Bench) -> None:
    few, many = bench.register("few", tags={"k": "x" * 15_000}), bench.register("many", tags=MANY["noise"])

    with watched_calls(nothing, nothing) as calls:
        bench.catalog.version(few.id)
    assert calls == ["GetItem"]
    with watched_calls(nothing, nothing) as calls:
        bench.catalog.version(many.id)
    assert calls == ["GetItem", "Query"]


def test_tags_may_become_fewer_and_more(bench: Bench) -> None:
    version = bench.register(tags={"k": "v"})
    for tags, count in ((MANY["noise"], 3), (MANY["just too many"], 1), ({}, 0), (MANY["noise"], 3), ({"a": "b"}, 0)):
        version = bench.registry.update(version.id, Changes(tags=tags), ALICE)

        assert bench.catalog.version(version.id) == version
        assert len(pieces(bench)) == count
        bench.check()


def test_what_does_not_change_tags_leaves_them_as_they_are(bench: Bench) -> None:
    version = bench.register(tags=MANY["noise"])

    bench.registry.update(version.id, Changes(score=0.1), ALICE)
    bench.registry.change_registered_model("cat", RegisteredModelChanges(aliases={"best": 1}), ALICE)
    moved = bench.registry.update(version.id, Changes(name="dog"), ALICE)

    assert moved.tags == version.tags
    assert bench.catalog.version(version.id).tags == version.tags
    bench.check()


def test_tags_that_change_while_they_are_read_are_read_again(bench: Bench) -> None:
    version = bench.register(tags=MANY["noise"])
    other = {"k": noise(20_000)}
    is_changed = []

    def change(operation: str, _: int) -> None:
        if operation == "Query" and not is_changed:
            is_changed.append(True)
            bench.registry.update(version.id, Changes(tags=other), ALICE)

    with watched_calls(change, nothing):
        assert bench.catalog.version(version.id).tags == other

    is_changed.clear()
    with watched_calls(change, nothing):
        assert [one.tags for one in bench.catalog.versions([version.id])] == [other]


def test_a_version_that_goes_while_its_tags_are_read_is_left_out(bench: Bench) -> None:
    version = bench.register(tags=MANY["noise"])

    def delete(operation: str, number: int) -> None:
        if operation == "BatchGetItem":
            bench.registry.delete(version.id, ALICE)

    with watched_calls(nothing, delete):
        assert list(bench.catalog.versions([version.id])) == []


def test_a_lost_answer_does_not_mix_tags(bench: Bench) -> None:
    version = bench.register(tags=MANY["noise"])
    is_lost = []

    def lose(operation: str, _: int) -> None:
        if operation == "TransactWriteItems" and not is_lost:
            is_lost.append(True)
            raise timed_out(operation)

    with watched_calls(nothing, lose):
        after = bench.registry.update(version.id, Changes(tags={"k": noise(30_000)}), ALICE)

    assert bench.catalog.version(version.id) == after
    bench.check()


@pytest.mark.parametrize("which", MANY)
def test_tags_are_searched_whatever_their_number_and_length(bench: Bench, which: str) -> None:
    tags = MANY[which]
    version = bench.register(tags=tags)
    key, value = list(tags.items())[-1]

    def found(**asked: str) -> list[str]:
        return [one.id for one in bench.catalog.search(Filters(tags=asked), 10).versions]

    assert found(**{key: value}) == [version.id]
    assert found(**{key: value + "!"}) == []
    assert found(**{key: MORE_TAGS}) == []
    assert found(absent="") == []


def test_rows_and_events_are_small_whatever_tags_there_are(bench: Bench) -> None:
    for number, tags in enumerate(MANY.values()):
        version = bench.register("cat", f"v{number}", tags=tags)
        bench.registry.update(version.id, Changes(tags={**tags, next(iter(tags)): "changed"}), ALICE)
    dynamodb = boto3.client("dynamodb")
    for table, most in (("RegistryTable", PIECE_BYTES + 1_000), ("EventsTable", 200_000)):
        pages = dynamodb.get_paginator("scan").paginate(TableName=table)
        assert max(size_of(item) for page in pages for item in page["Items"]) < most


def test_an_event_tells_which_of_many_tags_changed(bench: Bench) -> None:
    version = bench.register(tags=MANY["noise"])
    bench.registry.update(version.id, Changes(tags={**version.tags, "tag 3": "new"}), ALICE)

    event = bench.catalog.events(f"MODEL#{version.id}")[0][-1]

    before, after = json.loads(event.changes)["tags"]
    assert list(before) == list(after) == ["tag 3"]
    assert after["tag 3"] == "new"
    assert before["tag 3"].startswith(version.tags["tag 3"][:100] + "... (99000 characters, SHA-256 ")


@pytest.mark.parametrize(
    "tags", [{"k": "x" * 100_001}, {str(number): "x" * 100_000 for number in range(11)}], ids=["long", "many"]
)
def test_more_is_refused(bench: Bench, tags: dict[str, str]) -> None:
    version = bench.register()

    with pytest.raises(InvalidInput):
        bench.registry.update(version.id, Changes(tags=tags), ALICE)


def test_an_upload_has_fewer_tags(bench: Bench) -> None:
    bench.publish("cat", "v1", tags={"k": "x" * 60_000})

    with pytest.raises(InvalidInput, match="go with an upload"):
        bench.open("cat", "v2", tags={"k": "x" * 70_000})


def damaged(stage: Stage, version_id: str, damage: dict[str, Any]) -> None:
    for pk, sk in list(stage.rows(f"MODEL#{version_id}")):
        if sk == "TAGS#1":
            stage.set(pk, sk, **damage)


@pytest.mark.parametrize(
    "damage", [{"seq": {"N": "7"}}, {"content": {"B": b"nonsense"}}, {"content": None}, {"content": {"S": "x"}}]
)
def test_the_doctor_finds_tags_that_are_not_those_of_their_record(bench: Bench, damage: dict[str, Any]) -> None:
    stage = Stage(bench)
    version = bench.register(tags=MANY["noise"])
    damaged(stage, version.id, damage)

    assert (Kind.UNREADABLE, f"MODEL#{version.id}") in [
        (one.kind, one.subject) for one in stage.visit(repair=True).findings
    ]


def test_the_doctor_removes_a_piece_that_nobody_names(bench: Bench) -> None:
    stage = Stage(bench)
    version = bench.register(tags=MANY["noise"])
    piece = stage.item(f"MODEL#{version.id}", "TAGS#1")
    stage.put({**piece, "sk": {"S": "TAGS#9"}})

    assert stage.visit(repair=True).of_versions == [(Kind.STRAY_TAGS, f"MODEL#{version.id} / TAGS#9")]
    assert stage.visit().of_versions == []
    assert bench.catalog.version(version.id) == version
