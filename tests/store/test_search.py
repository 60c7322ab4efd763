"""Lists and searches over many versions: whole, in order, and bounded."""

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import botocore.session
import pytest
from pynamodb.connection.table import TableConnection

from chalicelib.registry.access import EVERYWHERE
from chalicelib.registry.models import Filters, ModelVersion, Page
from chalicelib.registry.service import Registry
from chalicelib.registry.trail import TrailFilters
from chalicelib.store import search
from chalicelib.store.catalog import DynamoCatalog
from chalicelib.store.schema import VersionItem
from chalicelib.store.transactions import Retry
from chalicelib.store.version_rows import CatalogItem
from tests.conftest import ALICE, draft, parcel, ulids
from tests.store.faults import nothing, watched_calls
from tests.unit.test_models import version

START = datetime(2026, 1, 1, tzinfo=UTC)


def seed(count: int, **fields: object) -> list[ModelVersion]:
    """Versions put straight into the table, with what a list reads; oldest first."""
    versions = [
        version(**{"id": f"seeded-{number:010}", "version": f"v{number}"} | fields).model_copy(
            update={"published_at": START + timedelta(seconds=number // 3), "number": number}
        )
        for number in range(count)
    ]
    with VersionItem.batch_write() as batch:
        for one in versions:
            item = VersionItem(f"MODEL#{one.id}", "META", seq=1, digest="0" * 64, event_id="0")
            item.record = one.model_dump_json(exclude_none=True)
            batch.save(item)
    with CatalogItem.batch_write() as batch:
        for one in versions:
            for row in CatalogItem.rows_of(one):
                batch.save(row)
    return sorted(versions, key=lambda one: one.position)


def pages(registry: Registry, filters: Filters, limit: int) -> Iterator[Page]:
    after = None
    while True:
        page = registry.catalog.search(filters, limit, after)
        yield page
        if page.after is None:
            return
        after = page.after


def test_a_new_container_makes_one_client_whatever_it_is_asked_first(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    create_client = botocore.session.Session.create_client

    def counted(self: botocore.session.Session, *arguments: Any, **named: Any) -> Any:
        made.append(arguments)
        return create_client(self, *arguments, **named)

    monkeypatch.setattr(botocore.session.Session, "create_client", counted)
    catalog = DynamoCatalog("RegistryTable", "EventsTable", ulids())
    catalog.search(Filters(), 100, None)
    catalog.trail.across(TrailFilters(), START, 10)

    assert len(made) == 1


@pytest.mark.parametrize("limit", [1, 7, 100, 1000])
def test_pages_hold_every_version_once_newest_first(registry: Registry, limit: int) -> None:
    versions = seed(60 if limit < 100 else 250)

    found = [one.id for page in pages(registry, Filters(), limit) for one in page.versions]

    assert found == [one.id for one in reversed(versions)]


def test_what_stays_is_listed_once_while_others_come_and_go(registry: Registry) -> None:
    stayed = {one.id for one in seed(120)}
    dice = random.Random(3)

    listed: list[str] = []
    for number, page in enumerate(pages(registry, Filters(), 20)):
        listed += [one.id for one in page.versions]
        added = registry.register(draft("new", f"v{number}"), parcel(), ALICE)
        if dice.random() < 0.5:
            registry.delete(added.id, ALICE)

    assert [id_ for id_ in listed if id_ in stayed] == sorted(stayed, reverse=True)


def test_a_page_token_still_works_when_its_version_is_gone(registry: Registry) -> None:
    for number in range(4):
        registry.register(draft("cat", f"v{number}"), parcel(), ALICE)
    first = registry.catalog.search(Filters(), 2)

    registry.delete(first.versions[-1].id, ALICE)

    assert [one.version for one in registry.catalog.search(Filters(), 2, first.after).versions] == ["v1", "v0"]


@pytest.mark.parametrize(("limit", "batches"), [(10, 1), (100, 1), (101, 2), (1000, 3)])
def test_a_page_costs_one_query_a_shard_and_one_read_for_100_versions(
    registry: Registry, limit: int, batches: int
) -> None:
    seed(250)

    with watched_calls(nothing, nothing) as calls:
        registry.catalog.search(Filters(), limit)

    assert sorted(calls) == ["BatchGetItem"] * batches + ["Query"] * 4


def test_a_page_ends_before_its_answer_gets_too_large_for_lambda(registry: Registry) -> None:
    """60 KiB of text that is six times as long in the ASCII JSON of Lambda's answer."""
    seed(40, description="\x00é" * 20_000)

    sizes = [
        len(json.dumps("".join(one.model_dump_json() for one in page.versions)))
        for page in pages(registry, Filters(), 1000)
    ]

    assert len(sizes) > 1
    assert all(size < 6_000_000 for size in sizes)


def test_a_search_that_finds_little_stops_at_its_bound_and_says_where_to_go_on(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = seed(200)
    rows_of_a_query = 5
    original = search.Shard.read_on
    monkeypatch.setattr(
        search.Shard, "read_on", lambda self, condition, limit: original(self, condition, rows_of_a_query)
    )
    monkeypatch.setattr(search, "MAX_QUERIES", 8)

    with watched_calls(nothing, nothing) as calls:
        first = registry.catalog.search(Filters(version="v3"), 10)
    found = [one for page in pages(registry, Filters(version="v3"), 10) for one in page.versions]

    assert calls.count("Query") <= 8
    assert first.after is not None
    assert first.versions == ()
    assert [one.id for one in found] == [one.id for one in versions if one.version == "v3"]


def test_a_search_stops_when_its_time_is_up(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    seed(100)
    original = search.Shard.read_on
    monkeypatch.setattr(search.Shard, "read_on", lambda self, condition, limit: original(self, condition, 1))
    ticks = iter(range(10**6))
    slow = search.Search(Retry(), monotonic=lambda: next(ticks) * 10.0)

    page = slow(Filters(version="v0"), 10, None, EVERYWHERE)

    assert page.versions == ()
    assert page.after is not None


def test_versions_that_dynamodb_leaves_out_of_an_answer_are_asked_for_again(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = seed(10)
    original = TableConnection.batch_get_item

    def sparing(self: TableConnection, keys: list[dict[str, str]], **options: object) -> dict[str, object]:
        answer = original(self, keys[:4], **options)
        left_out = [{name: {"S": value} for name, value in key.items()} for key in keys[4:]]
        return answer | ({"UnprocessedKeys": {self.table_name: {"Keys": left_out}}} if left_out else {})

    monkeypatch.setattr(TableConnection, "batch_get_item", sparing)
    page = registry.catalog.search(Filters(), 100)

    assert [one.id for one in page.versions] == [one.id for one in reversed(versions)]


def test_no_operation_scans(registry: Registry) -> None:
    seed(30)

    with watched_calls(nothing, nothing) as calls:
        registry.catalog.search(Filters(name="no such name", tags={"a": "b"}), 1000)
        stored = registry.register(draft(), parcel(), ALICE)
        registry.catalog.version(stored.id)
        registry.delete(stored.id, ALICE)

    assert "Scan" not in calls
