"""Makes transactions of moto's quicker, which would take half of the time of all tests that have a store.

For each transaction, moto copies every table, value by value, to go back if it fails. Here the copy has the same items,
and an item that is to be updated is first replaced by a copy of its own.
"""

import copy
from collections import defaultdict
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

import pytest
from moto.dynamodb.models import DynamoDBBackend
from moto.dynamodb.models.dynamo_type import DynamoType, Item
from moto.dynamodb.models.table import Table

_update = DynamoDBBackend.update_item
_query = Table.query
_INDEX_NAME = 6  # its place among the arguments behind the hash key


def have_quick_transactions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Table, "__deepcopy__", _copied, raising=False)
    monkeypatch.setattr(DynamoDBBackend, "update_item", _update_a_copy)


def have_quick_queries() -> AbstractContextManager[object]:
    """While this lasts, a Query of a table looks through one partition, and not through the whole table for it."""
    return patch.object(Table, "query", _query_a_partition)


def _query_a_partition(table: Table, hash_key: DynamoType, *arguments: Any, **options: Any) -> Any:
    if arguments[_INDEX_NAME] is None:
        table = copy.copy(table)
        table.items = defaultdict(dict, {hash_key: table.items.get(hash_key, {})})
    return _query(table, hash_key, *arguments, **options)


def _copied(table: Table, _: object) -> Table:
    found = copy.copy(table)
    found.items = defaultdict(dict, {hash_value: dict(items) for hash_value, items in table.items.items()})
    return found


def _update_a_copy(
    backend: DynamoDBBackend, table_name: str, key: Mapping[str, Any], *args: Any, **options: Any
) -> Item:
    items = backend.get_table(table_name).items.get(DynamoType(key["pk"]), {})
    place = DynamoType(key["sk"])
    if place in items:
        items[place] = copy.deepcopy(items[place])
    return _update(backend, table_name, key, *args, **options)
