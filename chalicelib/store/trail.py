"""The audit trail, read newest first, in bounded pages: of one subject, of all, or of a caller's projects.

One subject is read from the table itself, consistently. Across subjects there are two indexes, read day by day: one
over everything, and one in which each project has a partition of its own. Who sees only some projects is answered from
theirs alone, so that neither answers nor pages nor their time depend on anything else. Indexes follow the table within
a second or so, not at once.
"""

from __future__ import annotations

import json
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import islice
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import pydantic_core

from chalicelib.registry.access import EVERYWHERE
from chalicelib.registry.checkpoints import Link
from chalicelib.registry.models import time_text
from chalicelib.registry.trail import (
    BEGINNING,
    FIRST,
    NUMBER_CHARACTERS,
    TIME_CHARACTERS,
    Entry,
    TrailPage,
    days_back,
    mark_before,
)
from chalicelib.store.keys import event_key, project_day_key, project_digest
from chalicelib.store.schema import EventItem
from chalicelib.store.transactions import transient_errors_as_busy

if TYPE_CHECKING:
    from chalicelib.registry.access import Access
    from chalicelib.registry.trail import (
        TrailFilters,
    )
    from chalicelib.store.transactions import RawItem, Retry

MAX_QUERIES = 200  # each reads 1 MB at most; of most days there is next to nothing to read
MAX_SECONDS = 15
THREADS = 8
# A Lambda function may answer 6 MB, in which the page stands as JSON inside JSON.
MAX_PAGE_BYTES = 5_000_000
EXTRA_BYTES_PER_EVENT = 1_024
LAST = " "  # sorts before every id; a key is never empty
LINK = ("pk", "sk", "prev", "digest", "at")


class Spent(Exception):
    """No more may be read for this request. Everything newer than `frontier` was read."""

    def __init__(self, frontier: str) -> None:
        super().__init__(frontier)
        self.frontier = frontier


class Source(NamedTuple):
    """A partition, of the table or of an index, and what its rows are sorted by."""

    partition: str
    key: str
    sort: str
    index_name: str | None = None


class Stage(NamedTuple):
    """Sources that are read together, from a mark on; `prefix` makes a position of a mark.

    `characters`: so much of a mark may be told of an event that the caller does not see.
    """

    sources: Sequence[Source]
    characters: int
    began: str = FIRST
    prefix: str = ""


class Condition(NamedTuple):
    """What DynamoDB is to compare, with the values it names; `#name` stands for the attribute of that name."""

    text: str = ""
    values: Mapping[str, str] = MappingProxyType({})

    def also(self, other: Condition) -> Condition:
        text = " AND ".join(part for part in (self.text, other.text) if part)
        return Condition(text, {**self.values, **other.values})


ANY = Condition()


class Partition:
    """One source, read newest first. Every row newer than `frontier` was read; those not yet taken are `rows`."""

    def __init__(self, source: Source, frontier: str, wanted: Condition) -> None:
        self.frontier = frontier
        self.is_exhausted = False
        self.rows: deque[tuple[str, Entry]] = deque()
        self._source = source
        self._wanted = wanted

    @property
    def is_open(self) -> bool:
        """There may be more than `rows` holds, and `rows` has run out."""
        return not self.rows and not self.is_exhausted

    @property
    def newest(self) -> str:
        """The mark of the newest row that was not taken; empty without any."""
        return self.rows[0][0] if self.rows else ""

    def read_on(self, limit: int | None) -> None:
        """One Query: at most 1 MB or `limit` rows, of which those that are wanted are kept."""
        sort = self._source.sort
        older = Condition(f"#{sort} < :frontier", {":frontier": self.frontier})
        answer = query(self._source, older, self._wanted, Limit=limit, ScanIndexForward=False)
        self.rows.extend((item[sort]["S"], entry_of(item)) for item in answer["Items"])
        last = answer.get("LastEvaluatedKey")
        self.is_exhausted = not last
        self.frontier = last[sort]["S"] if last else ""


class Gathered:
    """What a page holds so far."""

    def __init__(self, limit: int) -> None:
        self._entries: list[Entry] = []
        self._limit = limit
        self._size_bytes = 0

    @property
    def missing(self) -> int:
        """How many more rows decide that the page is full."""
        return self._limit + 1 - len(self._entries)

    def takes(self, entry: Entry) -> bool:
        """Whether the page had room for it; for one there always is."""
        self._size_bytes += len(json.dumps(entry.changes)) + len(json.dumps(entry.about)) + EXTRA_BYTES_PER_EVENT
        is_full = len(self._entries) >= self._limit or (self._size_bytes > MAX_PAGE_BYTES and bool(self._entries))
        if not is_full:
            self._entries.append(entry)
        return not is_full

    def page(self, after: str | None) -> TrailPage:
        return TrailPage(entries=tuple(self._entries), after=after)


class Budget:
    """How much may still be read for a request."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._deadline = monotonic() + MAX_SECONDS
        self._queries = MAX_QUERIES

    def covers(self, queries: int) -> bool:
        self._queries -= queries
        return self._queries >= 0 and self._monotonic() <= self._deadline


class Reading:
    """What one request reads of its partitions, within its budget."""

    def __init__(self, retry: Retry, threads: ThreadPoolExecutor, budget: Budget, wanted: Condition) -> None:
        self.counted: Gathered | None = None
        self._retry = retry
        self._threads = threads
        self._budget = budget
        self._wanted = wanted

    def prepared(self, stages: Iterable[Stage]) -> Iterator[tuple[Stage, Sequence[Partition]]]:
        """Each stage with its partitions. While there is little in them, more and more are read ahead, at once."""
        remaining, width = iter(stages), 1
        while wave := list(islice(remaining, width)):
            prepared = [
                (stage, [Partition(source, stage.began, self._wanted) for source in stage.sources]) for stage in wave
            ]
            first = [partition for _, partitions in prepared for partition in partitions]
            if self._budget.covers(len(first)):
                self._read_on(first)
            yield from prepared
            is_sparse = all(partition.is_exhausted for partition in first)
            width = min(2 * width, max(1, THREADS // max(1, len(wave[0].sources)))) if is_sparse else 1

    def newest_first(self, partitions: Sequence[Partition]) -> Iterator[tuple[str, Entry]]:
        """The rows of all, each with its mark; a row comes when none can still hold a newer one. Raises Spent."""
        while True:
            newest = max((partition.newest for partition in partitions), default="")
            blocking = [one for one in partitions if one.is_open and one.frontier > newest]
            if blocking:
                if not self._budget.covers(len(blocking)):
                    raise Spent(max(one.frontier for one in blocking))
                self._read_on(blocking)
            elif newest:
                yield next(one for one in partitions if one.newest == newest).rows.popleft()
            else:
                return

    def _read_on(self, partitions: Sequence[Partition]) -> None:
        limit = self.counted.missing if self.counted else None
        list(self._threads.map(lambda one: self._retry(lambda _: one.read_on(limit)), partitions))


class DynamoTrail:
    """Trail (registry/ports.py). Keeps a few threads, for the partitions of a day are read at once."""

    def __init__(self, retry: Retry, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._retry = retry
        self._monotonic = monotonic
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="trail")

    def of_subject(
        self, subject: str, asked: TrailFilters, limit: int, after: str | None = None, within: Access = EVERYWHERE
    ) -> TrailPage:
        stage = Stage([Source("pk", subject, "sk")], NUMBER_CHARACTERS, after or FIRST)
        return self._page([stage], asked, limit, within, is_all_seen=within.is_unlimited_admin)

    def across(
        self, asked: TrailFilters, at: datetime, limit: int, after: str | None = None, within: Access = EVERYWHERE
    ) -> TrailPage:
        days = days_back(max(asked.since or BEGINNING, BEGINNING), min(asked.until or at, at))
        began_day, _, began = (after or f"{FIRST}#{FIRST}").partition("#")
        stages = (
            Stage(sources_of(day, within), TIME_CHARACTERS, began if day == began_day else FIRST, f"{day}#")
            for day in days
            if day <= began_day
        )
        # What is in the partition of a project is about nothing else.
        is_all_seen = within.is_unlimited_admin or (within.projects is not None and within.name_prefixes is None)
        return self._page(stages, asked, limit, within, is_all_seen)

    def links(self, day: str) -> Iterator[Link]:
        return self._links(Source("day", day, "event_id", "by_day"), LAST)

    def links_of(self, subject: str, first: int) -> Sequence[Link]:
        return list(self._links(Source("pk", subject, "sk"), event_key(first - 1)))

    def _page(
        self, stages: Iterable[Stage], asked: TrailFilters, limit: int, within: Access, is_all_seen: bool
    ) -> TrailPage:
        """A page of what is seen. Where it ends among what is not, its position tells no more than it must."""
        gathered, wanted = Gathered(limit), condition_of(asked)
        reading = Reading(self._retry, self._threads, Budget(self._monotonic), wanted)
        # Where every row counts for the page, no more have to be read than it misses.
        reading.counted = gathered if is_all_seen and not wanted.text else None
        after = None
        for stage, partitions in reading.prepared(stages):
            last = stage.began
            try:
                for mark, entry in reading.newest_first(partitions):
                    if not entry.is_seen_by(within):
                        continue
                    if not gathered.takes(entry):
                        return gathered.page(after)
                    last, after = mark, f"{stage.prefix}{mark}"
            except Spent as spent:
                mark = spent.frontier if is_all_seen else mark_before(spent.frontier, last, stage.characters)
                return gathered.page(f"{stage.prefix}{mark}")
        return gathered.page(None)

    def _links(self, source: Source, after: str) -> Iterator[Link]:
        """All links, oldest first."""
        go_on = True
        while go_on:
            newer = Condition(f"#{source.sort} > :after", {":after": after})
            answer = self._retry(lambda _, newer=newer: query(source, newer, attributes=LINK))  # type: ignore[misc]
            yield from map(link_of, answer["Items"])
            last = answer.get("LastEvaluatedKey")
            go_on = bool(last)
            after = last[source.sort]["S"] if last else after


def sources_of(day: str, within: Access) -> Sequence[Source]:
    """What has to be read of a day: only what is about these projects, where access is limited to some."""
    if within.projects is None:
        return [Source("day", day, "event_id", "by_day")]
    digests = dict.fromkeys(project_digest(project.id, project.name) for project in within.projects)
    return [Source("project_day", project_day_key(one, day), "event_id", "by_project") for one in digests if one]


def condition_of(asked: TrailFilters) -> Condition:
    """The filters. Values are literal."""
    condition = ANY
    if asked.since:
        condition = condition.also(Condition("#at >= :since", {":since": time_text(asked.since.astimezone(UTC))}))
    if asked.until:
        condition = condition.also(Condition("#at < :until", {":until": time_text(asked.until.astimezone(UTC))}))
    if asked.action:
        condition = condition.also(Condition("#action = :action", {":action": asked.action}))
    if asked.actor:
        # The actor is JSON text, in which quotes within a value are escaped: these can only be the two fields.
        text = pydantic_core.to_json(asked.actor).decode()
        values = {":name": f'"name":{text}', ":token": f'"token_id":{text}'}
        condition = condition.also(Condition("(contains(#actor, :name) OR contains(#actor, :token))", values))
    return condition


def query(
    source: Source, bound: Condition, wanted: Condition = ANY, attributes: Sequence[str] = (), **options: Any
) -> dict[str, Any]:
    """One Query; of the table itself it reads consistently. An option of None is left out."""
    table = EventItem._get_connection()
    key = Condition(f"#{source.partition} = :partition", {":partition": source.key}).also(bound)
    whole, projection = key.also(wanted), ", ".join(f"#{name}" for name in attributes)
    arguments = {
        "TableName": table.table_name,
        "IndexName": source.index_name,
        "ConsistentRead": True if source.index_name is None else None,
        "KeyConditionExpression": key.text,
        "FilterExpression": wanted.text or None,
        "ProjectionExpression": projection or None,
        "ExpressionAttributeNames": {f"#{name}": name for name in re.findall(r"#(\w+)", f"{whole.text} {projection}")},
        "ExpressionAttributeValues": {name: {"S": value} for name, value in whole.values.items()},
        **options,
    }
    with transient_errors_as_busy():
        answer: dict[str, Any] = table.connection.dispatch(
            "Query", {name: value for name, value in arguments.items() if value is not None}
        )
    return answer


def entry_of(item: RawItem) -> Entry:
    return Entry(
        subject=_text(item, "pk"),
        seq=int(_text(item, "sk")),
        about=_text(item, "about") or None,
        **{name: _text(item, name) for name in ("prev", "event_id", "at", "action", "actor", "changes", "digest")},
    )


def link_of(item: RawItem) -> Link:
    texts = {name: _text(item, name) for name in ("prev", "digest", "at")}
    return Link(subject=_text(item, "pk"), seq=int(_text(item, "sk")), **texts)


def _text(item: RawItem, name: str) -> str:
    """An attribute as it is; empty if somebody took it away."""
    return str(item.get(name, {}).get("S", ""))
