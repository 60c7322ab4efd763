"""Many items at once, in batches of as many as DynamoDB takes. What it leaves out is asked for again, and put again."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from chalicelib.store.schema import RegistryItem
from chalicelib.store.transactions import Busy, RawItem, Retry, transient_errors_as_busy

MAX_BATCH_KEYS = 100
MAX_BATCH_PUTS = 25
Key = tuple[str, str]


class Batches:
    """Reads items by their keys, consistently, several batches at a time. The threads are those of whoever reads."""

    def __init__(self, retry: Retry, threads: ThreadPoolExecutor) -> None:
        self._retry = retry
        self._threads = threads

    def __call__(self, keys: Sequence[Key]) -> Mapping[Key, RawItem]:
        """The items that there are, by their keys."""
        distinct = list(dict.fromkeys(keys))
        batches = [distinct[at : at + MAX_BATCH_KEYS] for at in range(0, len(distinct), MAX_BATCH_KEYS)]
        found = self._threads.map(self._read, batches) if len(batches) > 1 else map(self._read, batches)
        return {(item["pk"]["S"], item["sk"]["S"]): item for items in found for item in items}

    def _read(self, keys: Sequence[Key]) -> list[RawItem]:
        """What DynamoDB leaves out is asked for again."""
        table = RegistryItem._get_connection()
        pending: list[Any] = [{"pk": pk, "sk": sk} for pk, sk in keys]
        items: list[RawItem] = []

        def read(_: int) -> list[RawItem]:
            nonlocal pending
            with transient_errors_as_busy():
                answer = table.batch_get_item(pending, consistent_read=True)
            items.extend(answer["Responses"].get(table.table_name, []))
            left_out = answer.get("UnprocessedKeys", {}).get(table.table_name, {}).get("Keys", [])
            pending = [{"pk": key["pk"]["S"], "sk": key["sk"]["S"]} for key in left_out]
            if pending:
                raise Busy("UnprocessedKeys")
            return items

        return self._retry(read)


def put_all(
    items: Sequence[RegistryItem], retry: Retry | None = None, threads: ThreadPoolExecutor | None = None
) -> None:
    """Put items in the place of whatever there was, with threads several batches at a time; of one key the last.

    Raises Unavailable; then some of them may be there.
    """
    distinct = list({(item.pk, item.sk): item for item in items}.values())
    batches = [distinct[at : at + MAX_BATCH_PUTS] for at in range(0, len(distinct), MAX_BATCH_PUTS)]
    put = partial(_put, retry=retry or Retry())
    for _ in threads.map(put, batches) if threads and len(batches) > 1 else map(put, batches):
        pass


def _put(items: Sequence[RegistryItem], retry: Retry) -> None:
    table = RegistryItem._get_connection()
    pending: list[Any] = [item.serialize() for item in items]

    def put(_: int) -> None:
        nonlocal pending
        with transient_errors_as_busy():
            answer = table.batch_write_item(put_items=pending)
        left_out = answer.get("UnprocessedItems", {}).get(table.table_name, [])
        pending = [one["PutRequest"]["Item"] for one in left_out]
        if pending:
            raise Busy("UnprocessedItems")

    retry(put)
