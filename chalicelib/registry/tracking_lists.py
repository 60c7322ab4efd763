"""Lists of experiments, runs and logged models: newest first, as far as the caller sees them, within bounds. Pure.

Who sees only some projects is answered from what is listed of those alone. Limits of names, filters and views leave
things out of what was read; a request reads so many, then its page ends, though more may follow.
"""

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import NamedTuple, TypeVar, cast

from chalicelib.registry.access import Actor
from chalicelib.registry.tracking import (
    DEFAULT_ID,
    DEFAULT_NAME,
    Data,
    Experiment,
    Lifecycle,
    LoggedModel,
    Run,
    TrackingStore,
    Whole,
)
from chalicelib.registry.tracking_access import sees
from chalicelib.registry.tracking_filters import Clause, clauses_of, holds

AT_ONCE = 16
MAX_READ = 320
MAX_BYTES = 3_000_000  # an answer has 6 MB, as JSON
LAST = "0"  # where Default stands: sorts before the position of all others
FIRST = "~"  # sorts behind every position
HOUR_CHARACTERS = 13  # of a position
T = TypeVar("T", Experiment, Run, LoggedModel)
Page = tuple[Sequence[tuple[T, Data]], str | None]
Read = Callable[[str | None, int], Sequence[Whole]]


class Wanted(NamedTuple):
    """What is asked for: what the filter says, in one of these states; so many, behind a position."""

    filter: str = ""
    lifecycles: Sequence[Lifecycle] = (Lifecycle.ACTIVE,)
    limit: int = 100
    before: str | None = None


class TrackedLists:
    """Pages, each with the position to go on from; None: that was all. All raises InvalidInput and Unavailable."""

    def __init__(self, store: TrackingStore) -> None:
        self._store = store

    def experiments(self, wanted: Wanted, by: Actor) -> Page[Experiment]:
        """The last one is Default."""

        def read(before: str | None, limit: int) -> Sequence[Whole]:
            if before is not None and before <= LAST:
                return []
            found = self._store.experiments(by.access.projects, before, limit)
            return found if len(found) == limit else [*found, self._default()]

        return self._page(read, Experiment, wanted, by)

    def runs(self, experiment_ids: Sequence[str], wanted: Wanted, by: Actor) -> Page[Run]:
        """Of these experiments together; those that are not there, or not for the caller to see, have none."""
        return self._page(
            lambda before, limit: self._store.runs(experiment_ids, by.access.projects, before, limit), Run, wanted, by
        )

    def logged_models(self, experiment_ids: Sequence[str], wanted: Wanted, by: Actor) -> Page[LoggedModel]:
        """Likewise."""
        return self._page(
            lambda before, limit: self._store.logged_models(experiment_ids, by.access.projects, before, limit),
            LoggedModel,
            wanted,
            by,
        )

    def _default(self) -> Whole:
        return Whole(default_experiment(), Data(tags=self._store.tags(default_experiment().subject)), LAST)

    def _page(self, read: Read, kind: type[T], wanted: Wanted, by: Actor) -> Page[T]:
        found, go_on = self._found(read, clauses_of(wanted.filter, kind), wanted, by)
        return [(cast(T, one.tracked), one.data) for one in found], go_on

    def _found(
        self, read: Read, clauses: Sequence[Clause], wanted: Wanted, by: Actor
    ) -> tuple[Sequence[Whole], str | None]:

        def fits(one: Whole) -> bool:
            is_viewed = one.tracked.lifecycle in wanted.lifecycles and sees(by.access, one.tracked)
            return is_viewed and all(holds(clause, one) for clause in clauses)

        found: list[Whole] = []
        before, read_so_far = wanted.before, 0
        while read_so_far < MAX_READ:
            limit = min(AT_ONCE, wanted.limit + 1)
            rows = read(before, limit)
            found += [one for one in rows if fits(one)]
            if (count := _fitting(found, wanted.limit)) < len(found):
                return found[:count], found[count - 1].position
            if len(rows) < limit or rows[-1].position == LAST:
                return found, None
            before, read_so_far = rows[-1].position, read_so_far + len(rows)
        return found, _mark(before or FIRST, found[-1].position if found else wanted.before or FIRST, by)


def default_experiment() -> Experiment:
    """What is always there."""
    return Experiment(id=DEFAULT_ID, name=DEFAULT_NAME, created_ms=0, updated_ms=0)


def _fitting(found: Sequence[Whole], limit: int) -> int:
    """How many of these fit on a page: one always does."""
    sizes = accumulate(one.size_bytes for one in found)
    return min(limit, max(1, sum(size <= MAX_BYTES for size in sizes)))


def _mark(frontier: str, last: str, by: Actor) -> str:
    """From where to go on, behind `last`, at `frontier` or a little newer.

    What is at the frontier may not be for the caller to see: no more of it is told than is needed to get on, if that
    is possible the hour.
    """
    if by.access.name_prefixes is None:
        return frontier
    marks = (f"{frontier[:count]}{FIRST}" for count in range(HOUR_CHARACTERS, len(frontier) + 1))
    return next((mark for mark in marks if mark < last), frontier)
