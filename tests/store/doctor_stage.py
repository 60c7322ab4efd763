"""A registry with something of everything, what damages its items, and the doctor who goes through it."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import boto3
from moto.backends import get_backend
from moto.core import DEFAULT_ACCOUNT_ID

from chalicelib.registry.access import Access
from chalicelib.registry.doctor import Finding, Kind, Order, Report
from chalicelib.registry.granting import Granting
from chalicelib.registry.models import Changes, ModelVersion
from chalicelib.registry.registered_models import RegisteredModelChanges
from chalicelib.registry.tokens import Token
from chalicelib.registry.uploads import Upload
from chalicelib.store.doctor.steps import Doctor, Limits
from chalicelib.store.transactions import Retry
from tests.conftest import ALICE, ulids
from tests.store.conftest import Bench

ONE_BY_ONE = Limits(items=1, subjects=1, chain_events=1, threads=1)
OF_VERSIONS = ("MODEL#", "HELD#", "CATALOG#", "PROJECT#", "EXTERNAL", "SEARCH-VERSIONS")
Item = dict[str, Any]


@dataclass
class Visit:
    """What the doctor said in all steps from the beginning to the end."""

    reports: list[Report] = field(default_factory=list)

    @property
    def findings(self) -> list[Finding]:
        return [finding for report in self.reports for finding in report.findings]

    @property
    def of_versions(self) -> list[tuple[Kind, str]]:
        """Kinds and subjects of what was found of versions and of what belongs to them."""
        return [(one.kind, one.subject) for one in self.findings if one.subject.startswith(OF_VERSIONS)]

    @property
    def kinds(self) -> list[Kind]:
        return [finding.kind for finding in self.findings]

    def count(self, what: str) -> int:
        return sum(report.counts.get(what, 0) for report in self.reports)


class Stage:
    """Services, tables and doctor on one set of stores. `cat` has three versions, two of them in another state."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.unexpected: list[Exception] = []
        self._dynamodb = boto3.client("dynamodb")
        new_ulid = ulids()
        self.granting = Granting(bench.catalog, bench.clock, lambda: f"T{new_ulid()[1:]}", bench.announced)

    def stock(self) -> "Stage":
        bench = self.bench
        self.first: ModelVersion = bench.register("cat", "v1")
        self.second = bench.register("cat", "v2", tags={"a": "1", "b": "2"}, precision=("fp16", "int8"))
        self.alias("cat", champion=2, stable=1)
        self.placed = bench.register("dog", "v1", project_id="p1", project_name="Project One")
        bench.registry.update(self.placed.id, Changes(version="v1.1", score=0.5), ALICE)
        self.sent = bench.publish("cat", "v3")
        self.gone = bench.register("owl", "v1")
        bench.registry.delete(self.gone.id, ALICE)
        bench.uploading.abort(bench.open("owl", "v2").id, ALICE)
        self.small: Upload = bench.open("cat", "v4", project_id="p1")
        self.large = bench.open_large("dog", "v9")
        self.token: Token = self.granting.create("ci", Access(), None, ALICE)[0]
        self.revoked = self.granting.create("old", Access(), None, ALICE)[0]
        self.granting.revoke(self.revoked.id, ALICE)
        bench.sweep()
        self.refresh()
        return self

    def keep(self) -> Callable[[], "Stage"]:
        """What brings everything back as it is now, in much less time than making it anew takes."""
        blobs, clock = self.bench.blobs, self.bench.clock
        dynamodb = get_backend("dynamodb")[DEFAULT_ACCOUNT_ID]["us-east-1"]
        kept = copy.deepcopy(
            (dynamodb.tables, blobs.objects, blobs.owners, blobs.composites, blobs.in_parts, clock.now)
        )

        def bring_back() -> Stage:
            tables, blobs.objects, blobs.owners, blobs.composites, blobs.in_parts, clock.now = copy.deepcopy(kept)
            dynamodb.tables = tables
            self.unexpected.clear()
            self.refresh()
            return self

        return bring_back

    def refresh(self) -> None:
        catalog = self.bench.catalog
        self.first, self.second = catalog.version(self.first.id), catalog.version(self.second.id)
        self.placed, self.sent = catalog.version(self.placed.id), catalog.version(self.sent.id)

    def alias(self, name: str, **aliases: int | None) -> None:
        self.bench.registry.change_registered_model(name, RegisteredModelChanges(aliases=aliases), ALICE)

    # The doctor

    def visit(self, repair: bool = False, limits: Limits | None = None, every_chunk: bool = False) -> Visit:
        """All steps; with `every_chunk` each ends as soon as it can."""
        visit = Visit()
        after: str | None = None
        while not visit.reports or after is not None:
            order = Order.model_validate({"repair": repair, "after": after})
            report = self.doctor(limits).step(order, lambda: not every_chunk)
            visit.reports.append(report)
            assert report.after != after or after is None
            after = report.after
            assert len(visit.reports) < 1_000
        return visit

    def doctor(self, limits: Limits | None = None) -> Doctor:
        retry = Retry(sleep=lambda _: None, jitter=lambda low, high: 0)
        # One thread: moto copies its tables in a transaction.
        limits = limits or Limits(threads=1)
        return Doctor(self.bench.blobs, self.unexpected.append, retry, limits, monotonic=lambda: 0.0)

    # What damages items

    def item(self, pk: str, sk: str = "META", table: str = "RegistryTable") -> Item:
        found: Item = self._dynamodb.get_item(TableName=table, Key=_key(pk, sk), ConsistentRead=True)["Item"]
        return found

    def items(self, table: str = "RegistryTable") -> list[Item]:
        pages = self._dynamodb.get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
        return [item for page in pages for item in page["Items"]]

    def rows(self, prefix: str) -> Iterator[tuple[str, str]]:
        for item in self.items():
            if item["pk"]["S"].startswith(prefix):
                yield item["pk"]["S"], item["sk"]["S"]

    def put(self, item: Item, table: str = "RegistryTable") -> None:
        self._dynamodb.put_item(TableName=table, Item=item)

    def pointer(self, pk: str, sk: str, target: str) -> None:
        self.put({**_key(pk, sk), "target": {"S": target}})

    def remove(self, pk: str, sk: str = "META", table: str = "RegistryTable") -> Item:
        """An item, as it was."""
        removed: Item = self._dynamodb.delete_item(TableName=table, Key=_key(pk, sk), ReturnValues="ALL_OLD")
        return removed["Attributes"]  # type: ignore[no-any-return]

    def set(self, pk: str, sk: str = "META", table: str = "RegistryTable", **attributes: Any) -> None:
        """Replace attributes; None takes one away."""
        item = self.item(pk, sk, table)
        kept = {name: value for name, value in item.items() if name not in attributes}
        self.put({**kept, **{name: value for name, value in attributes.items() if value is not None}}, table)


def _key(pk: str, sk: str) -> Item:
    return {"pk": {"S": pk}, "sk": {"S": sk}}
