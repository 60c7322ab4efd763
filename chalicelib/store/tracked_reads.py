"""What is tracked, as it is read from DynamoDB: one thing with what is known of it, and lists, newest first."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import cast

from pynamodb.exceptions import DoesNotExist

from chalicelib.registry.access import Project
from chalicelib.registry.errors import TooLarge
from chalicelib.registry.tracking import Data, Experiment, Tracked, Whole, position_of
from chalicelib.store.keys import META, searched_key
from chalicelib.store.schema import PointerItem, RegistryItem
from chalicelib.store.tracking_items import (
    DATASETS,
    EXPERIMENT_NAME,
    FIRST_KNOWN,
    IN_MODELS,
    IN_RUNS,
    INPUTS,
    LATEST,
    OUTPUTS,
    PARAMS,
    TAGS,
    DatasetItem,
    MetricItem,
    TrackedItem,
    contents_keys,
    experiments_keys,
    kind_of,
)
from chalicelib.store.transactions import RawItem, Retry, transient_errors_as_busy

MAX_QUERIES = 3  # of 1 MB each: an answer has 6 MB, as JSON
FIRST, END = " ", "~"  # sort before, and behind, all that is in keys of lists


class TrackedReads:
    """The part of DynamoTracking (tracking.py) that reads. The threads are those of whoever reads."""

    def __init__(self, retry: Retry, threads: ThreadPoolExecutor) -> None:
        self._retry = retry
        self._threads = threads

    def find(self, subject: str) -> Tracked | None:
        def read(_: int) -> Tracked | None:
            with transient_errors_as_busy():
                try:
                    return TrackedItem.get(subject, META, consistent_read=True).tracked()
                except DoesNotExist:
                    return None

        return self._retry(read)

    def whole(self, subject: str) -> Whole | None:
        items = self._known(subject, FIRST_KNOWN[kind_of(subject)])
        meta = next((item for item in items if item["sk"]["S"] == META), None)
        if meta is None:
            return None
        tracked = TrackedItem.from_raw_data(meta).tracked()
        return Whole(tracked, _data(items), position_of(tracked), sum(map(_size, items)))

    def tags(self, subject: str) -> Mapping[str, str]:
        return _data(self._known(subject, TAGS)).tags

    def experiment_named(self, name: str) -> Experiment | None:
        def read(_: int) -> Experiment | None:
            with transient_errors_as_busy():
                try:
                    row = PointerItem.get(f"{EXPERIMENT_NAME}{searched_key(name)}", META, consistent_read=True)
                    found = cast(Experiment, TrackedItem.get(row.target, META, consistent_read=True).tracked())
                except DoesNotExist:
                    return None
            # It may have been renamed between the two reads.
            return found if found.name == name else None

        return self._retry(read)

    def experiments(self, projects: Sequence[Project] | None, before: str | None, limit: int) -> Sequence[Whole]:
        return self._listed(experiments_keys(projects), "", before, limit)

    def runs(
        self, experiment_ids: Sequence[str], projects: Sequence[Project] | None, before: str | None, limit: int
    ) -> Sequence[Whole]:
        return self._listed(contents_keys(experiment_ids, projects), IN_RUNS, before, limit)

    def logged_models(
        self, experiment_ids: Sequence[str], projects: Sequence[Project] | None, before: str | None, limit: int
    ) -> Sequence[Whole]:
        return self._listed(contents_keys(experiment_ids, projects), IN_MODELS, before, limit)

    def _listed(self, partitions: Sequence[str], prefix: str, before: str | None, limit: int) -> Sequence[Whole]:
        """What rows of these partitions lead to, as one list. Each row has what it leads to: nothing is removed."""

        def rows_of(pk: str) -> list[tuple[str, str]]:
            return self._retry(lambda _: _rows(pk, prefix, before, limit))

        rows = [row for found in self._threads.map(rows_of, partitions) for row in found]
        rows.sort(reverse=True)
        return [one for one in self._threads.map(self.whole, [target for _, target in rows[:limit]]) if one]

    def _known(self, subject: str, first: str) -> list[RawItem]:
        """Items from a key on. Raises TooLarge."""
        items: list[RawItem] = []
        start: RawItem | None = None
        for _ in range(MAX_QUERIES):

            def query(_: int, start: RawItem | None = start) -> dict[str, object]:
                with transient_errors_as_busy():
                    return RegistryItem._get_connection().query(
                        subject,
                        range_key_condition=RegistryItem.sk >= first,
                        consistent_read=True,
                        exclusive_start_key=start,
                    )

            answer = self._retry(query)
            items += cast(list[RawItem], answer["Items"])
            start = cast(RawItem | None, answer.get("LastEvaluatedKey"))
            if not start:
                return items
        raise TooLarge(f"More was logged for {subject.partition('#')[2]} than an answer can tell of.")


def _rows(pk: str, prefix: str, before: str | None, limit: int) -> list[tuple[str, str]]:
    """Positions, and what stands there, newest first."""
    within = PointerItem.sk.between(prefix or FIRST, f"{prefix}{before or END}")
    with transient_errors_as_busy():
        found = PointerItem.query(pk, within, scan_index_forward=False, limit=limit + 1, consistent_read=True)
        rows = [(row.sk.removeprefix(prefix), row.target) for row in found]
    return [(position, target) for position, target in rows if position != before][:limit]


def _data(items: Sequence[RawItem]) -> Data:
    def values(prefix: str) -> dict[str, str]:
        return {
            item["sk"]["S"].removeprefix(prefix): item["value"]["S"]
            for item in items
            if item["sk"]["S"].startswith(prefix)
        }

    def those(prefix: str) -> list[RawItem]:
        return [item for item in items if item["sk"]["S"].startswith(prefix)]

    return Data(
        params=values(PARAMS),
        tags=values(TAGS),
        metrics=[MetricItem.from_raw_data(item).metric() for item in those(LATEST)],
        datasets=[DatasetItem.from_raw_data(item).dataset() for item in those(DATASETS)],
        inputs=list(values(INPUTS)),
        outputs={model_id: int(step) for model_id, step in values(OUTPUTS).items()},
    )


def _size(item: RawItem) -> int:
    """About as many bytes as it has in an answer."""
    return sum(len(value) for attribute in item.values() for value in attribute.values() if hasattr(value, "__len__"))
