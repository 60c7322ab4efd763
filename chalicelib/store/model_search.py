"""MLflow's searches on DynamoDB: candidates from the rows of search_rows.py, then what their records say.

| search of registered models | reads |
|---|---|
| names, exactly (`=`, `IN`) | a BatchGet of claims and one of records for each 100 names |
| a tag, exactly or by its beginning, that at most 1,000 have | a Query, and a BatchGet for each 100 |
| in order of names, all or those with a beginning | a Query and a BatchGet for a page of 100 |
| in order of changes | the same |
| anything else | the same, but the Queries read 1 MB each until the page is full |

| search of versions | reads |
|---|---|
| of names, exactly | as above, a Query of the numbers of each, and a BatchGet for each 100 versions |
| in order of changes, as by default | a Query and a BatchGet for a page of 100; with a filter Queries of 1 MB |
| in another order | Queries of 1 MB for all rows that there are, and the records of the page |

A request makes at most 64 of these Queries, takes at most 15 seconds, and answers at most 4 MB: then a page ends, and
the next goes on. Only in an order that is not that of the rows, all have to be read at once; that is refused if there
are too many. Nothing reads the table as a whole, and all reads are consistent: a Query of 1 MB costs 256 units.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import NamedTuple, TypeVar

from pynamodb.exceptions import DoesNotExist

from chalicelib.registry.access import Access
from chalicelib.registry.filters import fixed_beginning
from chalicelib.registry.models import ModelVersion, milliseconds
from chalicelib.registry.registered_models import RegisteredModel
from chalicelib.registry.search_order import (
    Field,
    Position,
    Value,
    is_behind,
    place_among,
    place_of,
    sorted_by,
)
from chalicelib.registry.searching import Query
from chalicelib.store.batches import MAX_BATCH_KEYS, Batches
from chalicelib.store.keys import (
    HINTED_CHARACTERS,
    META,
    NAME_END,
    TAG_SEPARATOR,
    exposed_name_key,
    registered_model_key,
    searched_key,
)
from chalicelib.store.model_records import model_of
from chalicelib.store.ordered_rows import Bounds, Given, OrderedRows, Reading, Stream, partitions
from chalicelib.store.schema import NameItem
from chalicelib.store.search_conditions import (
    PROMPT_HINT,
    changes_between,
    models_like,
    names_between,
    versions_like,
    within_limits,
)
from chalicelib.store.search_pages import (
    Taken,
    before_change,
    behind_change,
    crowd_of,
    name_of,
    time_of,
    told_name,
    too_many,
    wanted,
)
from chalicelib.store.search_rows import (
    MODELS_BY_CHANGE,
    MODELS_BY_NAME,
    VERSIONS_BY_CHANGE,
    ChangeRow,
    ModelRow,
    TagRow,
    VersionRow,
)
from chalicelib.store.transactions import RawItem, Retry, transient_errors_as_busy

MAX_TAGGED = 1_000  # of one tag: what more have tells little
MAX_NAMES = 500  # that are looked up one by one
MAX_OWNERS = 20  # registered models whose versions are looked up by number
MAX_MEMBERS = 5_000  # versions of those
THREADS = 8
WAVE = 4 * MAX_BATCH_KEYS
ORDERING = ("sk", "name", "number", "created")  # what orders rows of versions
T = TypeVar("T", RegisteredModel, ModelVersion)


class Ref(NamedTuple):
    """Where a registered model is said to be; its rm_id tells, if it has moved since."""

    rm_id: str
    target: str | None


class DynamoModelSearch:
    """ModelSearch (registry/searching.py)."""

    def __init__(
        self,
        numbers: Callable[[str, int], Sequence[tuple[int, str]]],
        versions: Callable[[Sequence[str]], Sequence[ModelVersion]],
        retry: Retry | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._numbers = numbers
        self._versions = versions
        self._retry = retry or Retry()
        self._monotonic = monotonic
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="search")
        self._batches = Batches(self._retry, self._threads)

    # Registered models

    def models(self, query: Query, within: Access) -> tuple[Sequence[RegisteredModel], Position | None]:
        if (refs := self._named(query)) is not None or (refs := self._tagged(query, within)) is not None:
            return self._best(query, within, [list(self._models(refs).values())])
        bounds = Bounds(self._monotonic)
        return (self._by_name if query.order[0].field == "name" else self._by_change)(query, within, bounds)

    def _named(self, query: Query) -> Sequence[Ref] | None:
        """Those whose names are stated exactly; None if no clause does."""
        names = _exact_names(query)
        if names is None:
            return None
        claims = self._batches([(exposed_name_key(name), META) for name in names])
        # An older claim does not say where its holder is.
        return [Ref(claim["holder"]["S"], claim.get("target", {}).get("S")) for claim in claims.values()]

    def _tagged(self, query: Query, within: Access) -> Sequence[Ref] | None:
        """Those that have a tag as it is asked for; None if no tag tells, or too many do.

        Rows by tag are those of all projects: who is limited to some does not wait for those of others.
        """
        if within.projects is not None:
            return None
        for clause in query.tag_clauses:
            beginning = fixed_beginning(clause)[:HINTED_CHARACTERS]
            if clause.comparator == "=":
                beginning = f"{beginning}{TAG_SEPARATOR}"
            if beginning:
                return self._refs_of_a_tag(f"TAGGED#{searched_key(clause.key)}", beginning)
        return None

    def _refs_of_a_tag(self, pk: str, beginning: str) -> Sequence[Ref] | None:
        reading = Reading(TagRow, [pk], between=TagRow.sk.startswith(beginning), limit=MAX_TAGGED + 1)
        rows = self._rows(reading, Bounds(self._monotonic))
        refs = [_ref(row, TAG_SEPARATOR) for row in islice(rows, MAX_TAGGED + 1)]
        return None if len(refs) > MAX_TAGGED or rows.edge is not None else refs

    def _by_name(
        self, query: Query, within: Access, bounds: Bounds
    ) -> tuple[Sequence[RegisteredModel], Position | None]:
        is_ascending = query.order[0].is_ascending
        reading = Reading(
            ModelRow,
            partitions(MODELS_BY_NAME, within),
            is_ascending,
            names_between(query),
            models_like(query, within),
            query.limit + 1,
        )

        def read(rows: Sequence[RawItem]) -> Sequence[RegisteredModel]:
            asked = [row for row in rows if query.wants_prompts or PROMPT_HINT not in _tags_of(row)]
            names = {ref.rm_id: (row["name"]["S"],) for row in asked for ref in [_ref(row, NAME_END)]}
            models = self._models([_ref(row, NAME_END) for row in asked])
            # What was renamed meanwhile, to a name behind its row, is met there.
            return [
                one
                for rm_id, one in models.items()
                if not is_behind((one.exposed_name,), names[rm_id], query.order[:1])
            ]

        def behind(row: RawItem) -> Position:
            return (row["name"]["S"],)

        arranged = partial(sorted_by, place=behind, order=query.order[:1])
        stream = Stream(self._rows(reading, bounds), name_of, arranged, is_exact=True)
        at_edge = partial(told_name, after=query.after, is_ascending=is_ascending)
        return self._filled(query, within, stream, read, behind, at_edge, bounds)

    def _by_change(
        self, query: Query, within: Access, bounds: Bounds
    ) -> tuple[Sequence[RegisteredModel], Position | None]:
        is_ascending = query.order[0].is_ascending
        reading = Reading(
            ChangeRow,
            partitions(MODELS_BY_CHANGE, within),
            is_ascending,
            changes_between(ChangeRow, query),
            within_limits(ChangeRow, within),
            query.limit + 1,
        )

        def read(rows: Sequence[RawItem]) -> Sequence[RegisteredModel]:
            refs = {ref.rm_id: (ref, time_of(row["sk"]["S"])) for row in rows for ref in [_ref(row, "#")]}
            models = self._models([ref for ref, _ in refs.values()])
            # A row may be left over from an earlier change, or be of one that did not happen.
            return [
                one
                for rm_id, one in models.items()
                if not is_behind((milliseconds(one.last_changed_at),), (refs[rm_id][1],), query.order[:1])
            ]

        stream = Stream(self._rows(reading, bounds), crowd_of, splits=False)
        return self._filled(
            query, within, stream, read, partial(behind_change, query), partial(before_change, query), bounds
        )

    # Versions

    def versions(self, query: Query, within: Access) -> tuple[Sequence[ModelVersion], Position | None]:
        members = self._members(query, within)
        if members is not None:
            waves = (self._versions(members[at : at + WAVE]) for at in range(0, len(members), WAVE))
            return self._best(query, within, waves)
        bounds = Bounds(self._monotonic)
        is_by_change = query.order[0].field == "changed"
        reading = Reading(
            VersionRow,
            partitions(VERSIONS_BY_CHANGE, within),
            query.order[0].is_ascending if is_by_change else True,
            changes_between(VersionRow, query) if is_by_change else None,
            versions_like(query, within, is_without_prompts=not is_by_change),
            query.limit + 1 if is_by_change else None,
            None if is_by_change else ORDERING,
        )
        place = partial(_place_of_row, query)

        def arranged(rows: Sequence[RawItem]) -> list[RawItem]:
            after = query.after
            left = [row for row in rows if after is None or is_behind(place(row), after, query.order)]
            return sorted_by(left, place, query.order)

        rows = self._rows(reading, bounds)
        stream = Stream(rows, crowd_of, arranged) if is_by_change else Given(arranged(_all_of(rows)))
        read = partial(self._versions_at, query)
        return self._filled(query, within, stream, read, place, partial(before_change, query), bounds)

    def _members(self, query: Query, within: Access) -> Sequence[str] | None:
        """Ids of all versions of the registered models that are named exactly; None if none are, or too many."""
        refs = self._named(query)
        if refs is None or len(refs) > MAX_OWNERS:
            return None
        seen = [one for one in self._models(refs).values() if within.sees(one.qualified_name)]
        numbers = list(self._threads.map(lambda model: self._numbers(model.rm_id, MAX_MEMBERS + 1), seen))
        ids = [id_ for found in numbers for _, id_ in found]
        return ids if len(ids) <= MAX_MEMBERS else None

    def _versions_at(self, query: Query, rows: Sequence[RawItem]) -> Sequence[ModelVersion]:
        """Those of these rows, but for what has changed meanwhile to be behind its row: there it is met."""
        places = {row["sk"]["S"].partition("#")[2]: _place_of_row(query, row) for row in rows}
        asked = [row for row in rows if query.wants_prompts or PROMPT_HINT not in _tags_of(row)]
        versions = self._versions([row["sk"]["S"].partition("#")[2] for row in asked])
        return [one for one in versions if not is_behind(place_of(one, query.order), places[one.id], query.order)]

    # Pages

    def _filled(
        self,
        query: Query,
        within: Access,
        stream: Stream | Given,
        read: Callable[[Sequence[RawItem]], Sequence[T]],
        behind: Callable[[RawItem], Position],
        at_edge: Callable[[str, Sequence[T]], Position],
        bounds: Bounds,
    ) -> tuple[Sequence[T], Position | None]:
        """A page of what comes in order. `behind` is the place of a row, `at_edge` that where rows ended early."""
        taken: Taken[T] = Taken(query)
        last: RawItem | None = None
        wave = query.limit
        while not taken.is_full and not (last and bounds.is_late):
            rows = stream.take(min(wave, WAVE))
            if not rows:
                break
            taken.add(wanted(query, read(rows), within))
            last, wave = rows[-1], max(MAX_BATCH_KEYS, 2 * wave)
        found = taken.found
        if taken.is_over or (taken.is_full and not stream.is_done):
            return found, place_of(found[-1], query.order)
        if stream.edge is not None:
            return found, at_edge(stream.edge, found)
        return found, None if stream.is_done or last is None else behind(last)

    def _best(
        self, query: Query, within: Access, waves: Sequence[Sequence[T]] | Iterator[Sequence[T]]
    ) -> tuple[Sequence[T], Position | None]:
        """A page of candidates that are all there are, in any order."""
        taken: Taken[T] = Taken(query)
        for wave in waves:
            taken.add(wanted(query, wave, within))
        found = taken.found
        return found, place_of(found[-1], query.order) if taken.is_over else None

    # Reads

    def _rows(self, reading: Reading, bounds: Bounds) -> OrderedRows:
        return OrderedRows(reading, bounds, self._retry, self._threads)

    def _models(self, refs: Sequence[Ref]) -> Mapping[str, RegisteredModel]:
        """Those that there are, by rm_id. One that is not where it was said to be is looked for by its id."""
        found = self._items([(ref.rm_id, ref.target) for ref in refs if ref.target])
        lost = [ref.rm_id for ref in refs if ref.rm_id not in found]
        if lost:
            pointers = self._batches([(registered_model_key(rm_id), "NAME") for rm_id in lost])
            keys = {pk: row["target"]["S"] for (pk, _), row in pointers.items() if "target" in row}
            moved = [(rm_id, keys[key]) for rm_id in lost if (key := registered_model_key(rm_id)) in keys]
            found |= self._items(moved)
        has_calls = any(item.tag_pieces for item in found.values())
        models = self._threads.map(self._model, found.values()) if has_calls else map(self._model, found.values())
        return {model.rm_id: model for model in models if model}

    def _items(self, places: Sequence[tuple[str, str]]) -> dict[str, NameItem]:
        items = self._batches([(key, META) for _, key in places])
        there = [(rm_id, items[key, META]) for rm_id, key in places if (key, META) in items]
        return {rm_id: NameItem.from_raw_data(raw) for rm_id, raw in there if raw["rm_id"]["S"] == rm_id}

    def _model(self, item: NameItem) -> RegisteredModel | None:
        """The registered model of an item; None if it has gone. With tags beside it that costs a call."""

        def read(number: int) -> RegisteredModel | None:
            with transient_errors_as_busy():
                try:
                    now = NameItem.get(item.pk, META, consistent_read=True) if number else item
                except DoesNotExist:
                    return None
            return model_of(now) if now.rm_id == item.rm_id else None

        return self._retry(read)


def _exact_names(query: Query) -> tuple[str, ...] | None:
    """The names that alone are asked for, if so."""
    for clause in query.of_attribute("name"):
        if clause.comparator in ("=", "IN") and len(clause.values) <= MAX_NAMES:
            return tuple(str(value) for value in clause.values)
    return None


def _all_of(rows: OrderedRows) -> list[RawItem]:
    """Every row. Raises InvalidInput if there are too many."""
    found = list(rows)
    if rows.edge is not None:
        raise too_many()
    return found


# Rows


def _ref(row: RawItem, separator: str) -> Ref:
    """What a row points at; the rm_id is at the end of its key."""
    return Ref(row["sk"]["S"].rpartition(separator)[2], row["target"]["S"])


def _tags_of(row: RawItem) -> Sequence[str]:
    tags: Sequence[str] = row.get("tags", {}).get("SS", ())
    return tags


def _place_of_row(query: Query, row: RawItem) -> Position:
    values: dict[Field, Value] = {
        "changed": time_of(row["sk"]["S"]),
        "name": str(row["name"]["S"]),
        "version": int(row["number"]["N"]),
        "created": int(row["created"]["N"]),
    }
    return place_among(values, query.order)
