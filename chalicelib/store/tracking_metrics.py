"""Metrics on DynamoDB: every value of a run, once, and the latest of each key.

Values may come in any order, from several clients at once: the latest is put under the condition that it is later than
what stands there, so nothing is read before.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from chalicelib.registry.tracking import Metric
from chalicelib.store.schema import RegistryItem
from chalicelib.store.tracking_items import MetricItem, history_key
from chalicelib.store.transactions import RawItem, Retry, transient_errors_as_busy, updated

MAX_QUERIES = 4  # of 1 MB each: an answer has 6 MB, as JSON
END = "~"  # sorts behind all that is in keys of metrics


Put = Callable[[Sequence[RegistryItem]], None]


class Metrics:
    """The part of DynamoTracking (tracking.py) that keeps metrics."""

    def __init__(self, retry: Retry, put: Put, threads: ThreadPoolExecutor) -> None:
        self._retry = retry
        self._put = put
        self._threads = threads

    def log(self, subject: str, metrics: Sequence[Metric]) -> None:
        self._put([MetricItem.of_history(subject, metric) for metric in metrics])
        self.log_of_model(subject, metrics)

    def log_of_model(self, subject: str, metrics: Sequence[Metric]) -> None:
        latest: dict[str, MetricItem] = {}
        for metric in metrics:
            item = MetricItem.latest(subject, metric)
            if item.sk not in latest or latest[item.sk].place < item.place:
                latest[item.sk] = item
        if len(latest) > 1:
            list(self._threads.map(self._advance, latest.values()))
        else:
            for item in latest.values():
                self._advance(item)

    def history(self, subject: str, key: str, limit: int, after: str | None) -> tuple[Sequence[Metric], str | None]:
        prefix = history_key(key)
        begin, is_more = f"{prefix}{after or ''}", True
        rows: list[RawItem] = []
        for _ in range(MAX_QUERIES):
            page, is_more = self._page(subject, begin, prefix, limit + 2 - len(rows))
            rows += [row for row in page if row["sk"]["S"] != begin]
            if not is_more or len(rows) > limit:
                break
            begin = page[-1]["sk"]["S"]
        go_on = rows[:limit][-1]["sk"]["S"].removeprefix(prefix) if is_more or len(rows) > limit else None
        return [MetricItem.from_raw_data(row).metric() for row in rows[:limit]], go_on

    def _page(self, pk: str, begin: str, prefix: str, limit: int) -> tuple[list[RawItem], bool]:
        """One query of what is from `begin` on; whether there is more."""

        def query(_: int) -> tuple[list[RawItem], bool]:
            with transient_errors_as_busy():
                answer = MetricItem._get_connection().query(
                    pk,
                    range_key_condition=MetricItem.sk.between(begin, f"{prefix}{END}"),
                    consistent_read=True,
                    limit=limit,
                )
            return answer["Items"], "LastEvaluatedKey" in answer

        return self._retry(query)

    def _advance(self, item: MetricItem) -> None:
        """Have this value be the latest, unless a later one is."""
        is_later = MetricItem.pk.does_not_exist() | (MetricItem.place < item.place)
        actions = [MetricItem.record.set(item.record), MetricItem.place.set(item.place)]
        self._retry(lambda _: updated(MetricItem(item.pk, item.sk), actions, is_later))
