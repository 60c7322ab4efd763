"""A list of registered models in order of their names, in pages: bounded work for each request."""

from collections.abc import Sequence
from functools import reduce
from operator import or_

from pynamodb.expressions.condition import Condition

from chalicelib.registry.access import Access
from chalicelib.store.keys import NAMES, project_digest, project_names_key
from chalicelib.store.schema import ListedItem
from chalicelib.store.transactions import Retry, transient_errors_as_busy

MAX_QUERIES = 64  # of a list, for a request
TOLD_CHARACTERS = (8, 16, 32, 64, 128, 256, 512)


class Listing:
    """The next rows of a list behind a position, of all that `within` sees; a bounded part of them for each request.

    `go_on` is the position to go on from once they are read; None if these are all.
    """

    def __init__(self, retry: Retry, after: str, limit: int, within: Access) -> None:
        self.go_on: str | None = None
        self._retry = retry
        self._after = after
        self._limit = limit
        self._partitions = names_keys(within)
        self._condition = _named_like(within.name_prefixes)
        self._queries = max(1, MAX_QUERIES // len(self._partitions))

    def rows(self) -> list[tuple[str, str]]:
        """Sort keys and targets, in order, at most `limit`."""
        parts = [self._part(pk) for pk in self._partitions]
        # Behind the first place where a part was left, rows of it may be missing.
        edge = min((left for _, left in parts if left is not None), default=None)
        found = sorted(row for rows, _ in parts for row in rows if edge is None or row[0] <= edge)
        if len(found) > self._limit:
            self.go_on = found[self._limit - 1][0]
        elif edge is not None:
            last = found[-1][0] if found else self._after
            self.go_on = last if last == edge else no_more_than_needed(edge, last)
        return found[: self._limit]

    def _part(self, pk: str) -> tuple[list[tuple[str, str]], str | None]:
        """Rows of a partition, one more than are wanted, and how far it was read, if not to its end."""
        rows: list[tuple[str, str]] = []
        at: str | None = self._after
        for _ in range(self._queries):
            if at is None or len(rows) > self._limit:
                break
            more, at = self._retry(lambda _, behind=at: self._read(pk, behind))  # type: ignore[misc]
            rows += more
        return rows, at

    def _read(self, pk: str, behind: str) -> tuple[list[tuple[str, str]], str | None]:
        """One Query: at most 1 MB. Filtered rows are counted before the filter, so then no number can be wanted."""
        with transient_errors_as_busy():
            answer = ListedItem._get_connection().query(
                pk,
                range_key_condition=ListedItem.sk > behind if behind else None,
                filter_condition=self._condition,
                consistent_read=True,
                limit=self._limit + 1 if self._condition is None else None,
            )
        last = answer.get("LastEvaluatedKey")
        rows = [(row["sk"]["S"], row["target"]["S"]) for row in answer["Items"]]
        return rows, last["sk"]["S"] if last else None


def no_more_than_needed(edge: str, after: str) -> str:
    """A position between these two that tells little of the first, which may be the name of what is hidden.

    What is between it and the first is read again.
    """
    return next((edge[:count] for count in TOLD_CHARACTERS if edge[:count] > after), edge)


def _named_like(prefixes: Sequence[str] | None) -> Condition | None:
    if prefixes is None:
        return None
    return reduce(or_, (ListedItem.exact_name.startswith(prefix) for prefix in prefixes))


def names_keys(within: Access) -> list[str]:
    """What has to be read of the list: only the rows of these projects, where access is limited to some."""
    if within.projects is None:
        return [NAMES]
    digests = (project_digest(project.id, project.name) for project in within.projects)
    return [project_names_key(digest) for digest in dict.fromkeys(digests) if digest]
