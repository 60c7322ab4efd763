"""Pages of a search: what has room on one, and the position to go on from."""

import json
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from chalicelib.registry.access import Access
from chalicelib.registry.errors import InvalidInput
from chalicelib.registry.models import ModelVersion
from chalicelib.registry.registered_models import RegisteredModel
from chalicelib.registry.search_order import Position, Value, in_order, is_behind, place_of
from chalicelib.registry.searching import MAX_NUMBER, Query
from chalicelib.store.keys import NAME_END
from chalicelib.store.listing import TOLD_CHARACTERS, no_more_than_needed
from chalicelib.store.search_conditions import LAST
from chalicelib.store.transactions import RawItem

MAX_PAGE_BYTES = 4_000_000
EXTRA_BYTES, EXTRA_BYTES_OF_A_TAG = 600, 40  # what an answer says of each besides
T = TypeVar("T", RegisteredModel, ModelVersion)


class Taken(Generic[T]):
    """What comes on a page: each once, as much as there is room for. `is_over`: something had no room."""

    def __init__(self, query: Query) -> None:
        self.is_over = False
        self._query = query
        self._found: dict[str, tuple[T, int]] = {}

    @property
    def is_full(self) -> bool:
        return self.is_over or len(self._found) >= self._query.limit

    @property
    def found(self) -> list[T]:
        return in_order([one for one, _ in self._found.values()], self._query.order)

    def add(self, more: Sequence[T]) -> None:
        """What comes next in the order, or of all the order only the first: `more` is in any."""
        self._found |= {_id(one): (one, _size_bytes(one)) for one in more if _id(one) not in self._found}
        size_bytes = 0
        kept: dict[str, tuple[T, int]] = {}
        for one in self.found:
            size_bytes += self._found[_id(one)][1]
            if len(kept) == self._query.limit or (kept and size_bytes > MAX_PAGE_BYTES):
                self.is_over = True
                break
            kept[_id(one)] = self._found[_id(one)]
        self._found = kept


def wanted(query: Query, found: Sequence[T], within: Access) -> list[T]:
    """Those that are found, may be seen and stand behind the position."""
    seen = [one for one in found if within.sees(one.qualified_name) and query.finds(one)]
    after = query.after
    if after is None:
        return seen
    return [one for one in seen if is_behind(place_of(one, query.order), after, query.order)]


def name_of(sk: str) -> str:
    return sk.rpartition(NAME_END)[0]


def crowd_of(sk: str) -> str:
    return sk.partition("#")[0]


def time_of(sk: str) -> int:
    return int(crowd_of(sk))


# Positions to go on from


def told_name(edge: str, found: Sequence[RegisteredModel], after: Position | None, is_ascending: bool) -> Position:
    """A place at the edge that tells little of whose name is there, since it may be hidden from the caller."""
    name = name_of(edge)
    told = found[-1].exposed_name if found else str(after[0]) if after else None
    if is_ascending:
        return (no_more_than_needed(name, told or ""),)
    little = (f"{name[:count]}{LAST}" for count in TOLD_CHARACTERS)
    return (next((one for one in little if one > name and (told is None or one < told)), name),)


def behind_change(query: Query, row: RawItem) -> Position:
    """Behind the crowd of this row."""
    return (time_of(row["sk"]["S"]), *_ends(query, is_last=True))


def before_change(query: Query, edge: str, _: Sequence[Any]) -> Position:
    """Before the crowd of which some may not have been read. Raises InvalidInput if it alone is too large."""
    at = time_of(edge)
    if query.after is not None and query.after[0] == at:
        raise too_many()
    return (at, *_ends(query, is_last=False))


def _ends(query: Query, is_last: bool) -> list[Value]:
    """The first or the last place among those of one change."""
    return [
        (LAST if part.is_ascending == is_last else "")
        if part.field == "name"
        else (MAX_NUMBER if part.is_ascending == is_last else -1)
        for part in query.order[1:]
    ]


def _id(found: RegisteredModel | ModelVersion) -> str:
    return found.rm_id if isinstance(found, RegisteredModel) else found.id


def _size_bytes(found: RegisteredModel | ModelVersion) -> int:
    """At least what an answer has of it, which stands as JSON inside JSON."""
    return len(json.dumps(found.model_dump_json())) + EXTRA_BYTES + EXTRA_BYTES_OF_A_TAG * len(found.tags)


def too_many() -> InvalidInput:
    return InvalidInput(
        "order_by",
        "There are too many versions to sort in this order. Filter them by the name of a registered model, or leave"
        " order_by out: then they come by their last change, in pages.",
    )
