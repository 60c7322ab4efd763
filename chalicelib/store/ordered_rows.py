"""Rows of a search in order: those of several partitions as one list, read as they are taken, within bounds."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pynamodb.expressions.condition import Condition

from chalicelib.registry.access import Access
from chalicelib.store.keys import project_digest
from chalicelib.store.schema import RegistryItem
from chalicelib.store.transactions import RawItem, Retry, transient_errors_as_busy

MAX_QUERIES, MAX_SECONDS = 64, 15.0


class Bounds:
    """What one request may read: so many Queries of 1 MB, so many seconds."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._queries, self._deadline = MAX_QUERIES, monotonic() + MAX_SECONDS

    @property
    def is_late(self) -> bool:
        return self._monotonic() > self._deadline

    def may_read(self, count: int) -> bool:
        """Whether there may be so many Queries more, which then count."""
        self._queries -= count
        return self._queries >= 0 and not self.is_late


@dataclass(frozen=True)
class Reading:
    """What is read, and how: `between` limits sort keys, `condition` leaves rows out that have been read.

    `limit` is how many are wanted first: more are read 1 MB at a time. It is no help with a condition, which does not
    count what it leaves out.
    """

    kind: type[RegistryItem]
    partitions: Sequence[str]
    is_ascending: bool = True
    between: Condition | None = None
    condition: Condition | None = None
    limit: int | None = None
    attributes: Sequence[str] | None = None


class Part:
    """One partition. Every row up to `frontier` has been read; None: none has."""

    def __init__(self, pk: str, reading: Reading) -> None:
        self.rows: deque[RawItem] = deque()
        self.frontier: str | None = None
        self.is_exhausted = False
        self._pk = pk
        self._reading = reading

    @property
    def is_open(self) -> bool:
        """There may be more than `rows` has, which have run out."""
        return not self.rows and not self.is_exhausted

    def read_on(self) -> None:
        reading, behind = self._reading, self.frontier
        wants_few = reading.limit and reading.condition is None and behind is None
        with transient_errors_as_busy():
            answer = reading.kind._get_connection().query(
                self._pk,
                range_key_condition=reading.between,
                filter_condition=reading.condition,
                attributes_to_get=list(reading.attributes) if reading.attributes else None,
                consistent_read=True,
                scan_index_forward=reading.is_ascending,
                exclusive_start_key=_start(self._pk, behind) if behind is not None else None,
                limit=reading.limit if wants_few else None,
            )
        self.rows.extend(answer["Items"])
        last = answer.get("LastEvaluatedKey")
        self.is_exhausted = not last
        if last:
            self.frontier = last["sk"]["S"]


class OrderedRows:
    """Gives out the rows. If the bounds end that, `edge` is how far it came: all rows up to it, and none behind it.

    What was never read is read whatever the bounds are, so that each request gets on.
    """

    def __init__(self, reading: Reading, bounds: Bounds, retry: Retry, threads: ThreadPoolExecutor) -> None:
        self.edge: str | None = None
        self._is_ascending = reading.is_ascending
        self._bounds = bounds
        self._retry = retry
        self._threads = threads
        self._parts = [Part(pk, reading) for pk in reading.partitions]

    @property
    def is_exhausted(self) -> bool:
        """There is no row behind those that were given out."""
        return all(part.is_exhausted and not part.rows for part in self._parts)

    def __iter__(self) -> Iterator[RawItem]:
        return self

    def __next__(self) -> RawItem:
        while self.edge is None:
            first = self._first()
            blocking = [part for part in self._parts if part.is_open and self._is_before(part, first)]
            if not blocking:
                if first is None:
                    break
                return first.rows.popleft()
            self._read_on(blocking)
        raise StopIteration

    def _first(self) -> Part | None:
        """The part whose row is next of those that were read."""
        parts = [part for part in self._parts if part.rows]
        choose = min if self._is_ascending else max
        return choose(parts, key=lambda part: _key(part.rows[0]), default=None)

    def _is_before(self, part: Part, first: Part | None) -> bool:
        """Whether an open part may have rows before that one."""
        if part.frontier is None or first is None:
            return True
        row = _key(first.rows[0])
        return bool(part.frontier < row) if self._is_ascending else bool(part.frontier > row)

    def _read_on(self, parts: Sequence[Part]) -> None:
        may_go_on = self._bounds.may_read(len(parts))
        frontiers = [part.frontier for part in parts if part.frontier is not None]
        if not may_go_on and len(frontiers) == len(parts):
            self.edge = min(frontiers) if self._is_ascending else max(frontiers)
        elif len(parts) == 1:
            self._retry(lambda _: parts[0].read_on())
        else:
            list(self._threads.map(lambda part: self._retry(lambda _: part.read_on()), parts))


class Stream:
    """Rows of a search, so many at a time, each crowd of them arranged: those whose keys `crowd_of` says are one.

    A crowd that the bounds may have cut is left out, unless `is_exact`: then only keys that were too long are crowds.
    If not `splits`, a crowd comes as a whole.
    """

    def __init__(
        self,
        rows: OrderedRows,
        crowd_of: Callable[[str], str],
        arranged: Callable[[list[RawItem]], list[RawItem]] = list,
        is_exact: bool = False,
        splits: bool = True,
    ) -> None:
        self._rows = rows
        self._crowd_of = crowd_of
        self._arranged = arranged
        self._is_exact = is_exact
        self._splits = splits
        self._ready: deque[RawItem] = deque()
        self._ahead: RawItem | None = next(rows, None)

    @property
    def is_done(self) -> bool:
        """There are no more."""
        return not self._ready and self._ahead is None and self._rows.is_exhausted

    @property
    def edge(self) -> str | None:
        """How far rows were read, if the bounds ended that and all of them were taken."""
        return None if self._ready else self._rows.edge

    def take(self, count: int) -> list[RawItem]:
        """So many rows, or more to have crowds as wholes; fewer at the end, or where the bounds ended it."""
        while len(self._ready) < count and (crowd := self._crowd()):
            self._ready.extend(self._arranged(crowd))
        taken = min(count, len(self._ready)) if self._splits else len(self._ready)
        return [self._ready.popleft() for _ in range(taken)]

    def _crowd(self) -> list[RawItem]:
        """The next one; none at the end, or where the bounds ended it."""
        if self._ahead is None:
            return []
        crowd, name = [self._ahead], self._crowd_of(_key(self._ahead))
        self._ahead = next(self._rows, None)
        while self._ahead is not None and self._crowd_of(_key(self._ahead)) == name:
            crowd.append(self._ahead)
            self._ahead = next(self._rows, None)
        edge = self._rows.edge
        is_cut = edge is not None and not self._is_exact and self._ahead is None and self._crowd_of(edge) == name
        return [] if is_cut else crowd


class Given:
    """As a Stream, of rows that are all there are, in order."""

    edge: str | None = None

    def __init__(self, rows: Sequence[RawItem]) -> None:
        self._ready = deque(rows)

    @property
    def is_done(self) -> bool:
        return not self._ready

    def take(self, count: int) -> list[RawItem]:
        return [self._ready.popleft() for _ in range(min(count, len(self._ready)))]


def _start(pk: str, behind: str) -> RawItem:
    return {"pk": {"S": pk}, "sk": {"S": behind}}


def _key(row: RawItem) -> str:
    return str(row["sk"]["S"])


def partitions(rows: str, within: Access) -> list[str]:
    """Where rows are: only those of these projects, where access is limited to some."""
    if within.projects is None:
        return [rows]
    digests = (project_digest(project.id, project.name) for project in within.projects)
    return [f"{rows}#{digest}" for digest in dict.fromkeys(digests) if digest]
