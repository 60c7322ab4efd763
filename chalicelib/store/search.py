"""All versions, newest first, through filters, in pages: bounded work for each request.

The catalogue is spread over shards, each sorted by time of publication. A page merges them: a row is given out when
no shard can still hold a newer one. The position to go on from is one sort key for all shards, so that what was
added or deleted meanwhile neither repeats nor hides anything else.
"""

import json
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from operator import and_, or_

from pynamodb.expressions.condition import Condition

from chalicelib.registry.access import Access
from chalicelib.registry.models import PRECISIONS, Filters, ModelVersion, Page
from chalicelib.store.batches import MAX_BATCH_KEYS, Batches
from chalicelib.store.keys import (
    CATALOG_SHARDS,
    META,
    MORE_TAGS,
    model_key,
    project_digest,
    project_key,
    shard_key,
    tag_text,
)
from chalicelib.store.schema import VersionItem
from chalicelib.store.transactions import RawItem, Retry, transient_errors_as_busy
from chalicelib.store.version_records import version_of
from chalicelib.store.version_rows import CatalogItem

MAX_QUERIES = 64
MAX_SECONDS = 15
# A Lambda function may answer 6 MB, in which the page stands as JSON inside JSON.
MAX_PAGE_BYTES = 5_000_000
EXTRA_BYTES_PER_VERSION = 1_024
NEWEST = "~"  # sorts behind every position


class Shard:
    """One shard, read newest first. Every row newer than `frontier` has been seen."""

    def __init__(self, pk: str, after: str) -> None:
        self.frontier = after
        self.is_exhausted = False
        self.rows: deque[str] = deque()
        self._pk = pk

    def read_on(self, condition: Condition | None, limit: int | None) -> None:
        """One Query: at most 1 MB or `limit` rows of the shard, of which those that hold the condition are kept."""
        with transient_errors_as_busy():
            answer = CatalogItem._get_connection().query(
                self._pk,
                range_key_condition=CatalogItem.sk < self.frontier,
                filter_condition=condition,
                consistent_read=True,
                scan_index_forward=False,
                limit=limit,
                attributes_to_get=["sk"],
            )
        self.rows.extend(row["sk"]["S"] for row in answer["Items"])
        last = answer.get("LastEvaluatedKey")
        self.is_exhausted = not last
        self.frontier = last["sk"]["S"] if last else ""

    @property
    def is_open(self) -> bool:
        """There may be more than `rows` holds, and `rows` has run out."""
        return not self.rows and not self.is_exhausted


class Search:
    """Answers Catalog.search. Keeps a few threads, for the shards are asked at once."""

    def __init__(self, retry: Retry, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._retry = retry
        self._threads = ThreadPoolExecutor(CATALOG_SHARDS, thread_name_prefix="shard")
        self._batches = Batches(retry, self._threads)
        self._monotonic = monotonic

    def __call__(self, filters: Filters, limit: int, after: str | None, within: Access) -> Page:
        if not precisions_like(filters.precision):
            return Page(versions=(), after=None)
        condition = condition_of(filters, within.name_prefixes)
        positions, go_on = self._positions(partitions_of(within, filters.is_hidden), condition, limit, after or NEWEST)
        versions, cut_at = self._versions(positions)
        # A version may have moved since its row was read, and a row may not have all of its tags.
        seen = tuple(
            version
            for version in versions
            if within.sees(version.qualified_name) and filters.tags.items() <= version.tags.items()
        )
        return Page(versions=seen, after=cut_at or go_on)

    def versions(self, model_ids: Sequence[str]) -> Sequence[ModelVersion]:
        """Those that there are, in this order."""
        records = self._records(model_ids)
        raw = [records[id_] for id_ in model_ids if id_ in records]
        has_calls = any("tag_pieces" in one for one in raw)
        found = self._threads.map(self._version, raw) if has_calls else map(self._version, raw)
        return [version for version in found if version]

    def _positions(
        self, partitions: Sequence[str], condition: Condition | None, limit: int, after: str
    ) -> tuple[list[str], str | None]:
        """The next positions, newest first, and where to go on; None when the partitions are exhausted."""
        shards = [Shard(pk, after) for pk in partitions]
        found: list[str] = []
        queries, deadline = 0, self._monotonic() + MAX_SECONDS
        while len(found) < limit:
            newest = max((shard.rows[0] for shard in shards if shard.rows), default="")
            blocking = [shard for shard in shards if shard.is_open and shard.frontier > newest]
            if blocking:
                if queries + len(blocking) > MAX_QUERIES or self._monotonic() > deadline:
                    return found, _behind(found, max(shard.frontier for shard in blocking))
                queries += len(blocking)
                self._read_on(blocking, condition, limit)
            elif newest:
                found.append(newest)
                next(shard for shard in shards if shard.rows and shard.rows[0] == newest).rows.popleft()
            else:
                return found, None
        is_all = all(shard.is_exhausted and not shard.rows for shard in shards)
        return found, None if is_all else found[-1]

    def _read_on(self, shards: Sequence[Shard], condition: Condition | None, limit: int) -> None:
        # Filtered rows are counted before the filter, so only an unfiltered Query can be told how many are wanted.
        rows = limit if condition is None else None
        list(self._threads.map(lambda shard: self._retry(lambda _: shard.read_on(condition, rows)), shards))

    def _versions(self, positions: Sequence[str]) -> tuple[list[ModelVersion], str | None]:
        """The versions that are still at these positions, and where the page was cut if it got too large for all.

        An id that was registered again meanwhile is at another position now: this one is left out.
        """
        size_bytes = 0
        versions: list[ModelVersion] = []
        wave = MAX_BATCH_KEYS * CATALOG_SHARDS
        for start in range(0, len(positions), wave):
            ids = {position: position.partition("#")[2] for position in positions[start : start + wave]}
            records = self._records(list(ids.values()))
            for position, record in ((position, records[id_]) for position, id_ in ids.items() if id_ in records):
                version = self._version(record)
                if version is None or version.position != position:
                    continue
                told = version.model_dump_json() if "tag_pieces" in record else record["record"]["S"]
                size_bytes += len(json.dumps(told)) + EXTRA_BYTES_PER_VERSION
                if size_bytes > MAX_PAGE_BYTES and versions:
                    return versions, versions[-1].position
                versions.append(version)
        return versions, None

    def _version(self, raw: RawItem) -> ModelVersion | None:
        """The version of an item; None if it has gone. With tags beside it that costs a call, more if they change."""
        if "tag_pieces" not in raw:
            return ModelVersion.model_validate_json(raw["record"]["S"])

        def read(number: int) -> ModelVersion | None:
            with transient_errors_as_busy():
                pk = raw["pk"]["S"]
                item = VersionItem.get(pk, META, consistent_read=True) if number else VersionItem.from_raw_data(raw)
            return version_of(item) if item.record else None

        return self._retry(read)

    def _records(self, ids: Sequence[str]) -> dict[str, RawItem]:
        """The items of these versions, but for tombstones."""
        items = self._batches([(model_key(id_), META) for id_ in ids])
        return {pk.partition("#")[2]: item for (pk, _), item in items.items() if "record" in item}


def partitions_of(within: Access, is_hidden: bool = False) -> list[str]:
    """What has to be read of the catalogue: only the rows of these projects, where access is limited to some."""
    if within.projects is None:
        return [shard_key(number, is_hidden) for number in range(CATALOG_SHARDS)]
    digests = (project_digest(project.id, project.name) for project in within.projects)
    return [project_key(digest, is_hidden) for digest in dict.fromkeys(digests) if digest]


def _behind(found: Sequence[str], frontier: str) -> str:
    """A position to go on from that names no row but a found one: others may not be for the caller to know."""
    published_at = frontier.partition("#")[0]
    if found and found[-1].partition("#")[0] == published_at:
        return found[-1]
    return f"{published_at}#{NEWEST}"


def condition_of(filters: Filters, name_prefixes: Sequence[str] | None = None) -> Condition | None:
    """The filters as a condition on catalogue rows; None without filters. Values are literal."""
    conditions: list[Condition] = (
        []
        if name_prefixes is None
        else [reduce(or_, (CatalogItem.exact_name.startswith(prefix) for prefix in name_prefixes))]
    )
    conditions += [
        getattr(CatalogItem, field).contains(value.casefold())
        for field in ("name", "project_name", "category", "architecture")
        if (value := getattr(filters, field)) is not None
    ]
    conditions += [
        getattr(CatalogItem, field) == value.casefold()
        for field in ("origin", "format")
        if (value := getattr(filters, field)) is not None
    ]
    if filters.version is not None:
        conditions.append(CatalogItem.version == filters.version)
    if filters.precision is not None:
        stated = precisions_like(filters.precision)
        conditions.append(reduce(or_, (CatalogItem.precisions.contains(precision) for precision in stated)))
    conditions += [
        CatalogItem.tags.contains(tag_text(key, value)) | CatalogItem.tags.contains(MORE_TAGS)
        for key, value in filters.tags.items()
    ]
    return reduce(and_, conditions) if conditions else None


def precisions_like(part: str | None) -> list[str]:
    """The precisions that have this in their name, any case."""
    return [precision for precision in PRECISIONS if (part or "").casefold() in precision]
