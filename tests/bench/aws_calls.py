"""Counts AWS calls by botocore's own events, with the units each costs.

Sizes are read from the tables beside the counted calls: an answer may show less of an item than was read, and a
write costs by what stood there before. That takes a store in memory (moto).
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import boto3
from botocore.handlers import BUILTIN_HANDLERS

from tests.bench.units import TRANSACTIONAL, item_size, read_units, write_units

_NOTE = "model-registry-bench"  # where the hook before a call leaves what the one after it needs
Arguments = Mapping[str, Any]


@dataclass(frozen=True)
class Call:
    """One call to AWS."""

    name: str
    read_units: float = 0
    write_units: float = 0


class Recorder:
    """What every client calls that is made while it is installed. `index_counts` are those of each table."""

    def __init__(self, index_counts: Mapping[str, int]) -> None:
        self._calls: list[Call] | None = None
        self._index_counts = index_counts
        # Made before the hooks are installed, so its own calls are not counted.
        self._dynamodb = boto3.Session().client("dynamodb")

    @contextmanager
    def installed(self) -> Iterator[None]:
        """While this lasts. botocore gives its built-in handlers to each new session."""
        hooks: list[Any] = [
            ("before-parameter-build.dynamodb", self._before),
            ("after-call.dynamodb", self._after),
            ("after-call.s3", self._after_s3),
        ]
        BUILTIN_HANDLERS.extend(hooks)
        boto3.setup_default_session()
        try:
            yield
        finally:
            for hook in hooks:
                BUILTIN_HANDLERS.remove(hook)

    def during(self, action: Callable[[], None]) -> list[Call]:
        """The calls of an action, sorted by name."""
        self._calls = calls = []
        try:
            action()
        finally:
            self._calls = None
        return sorted(calls, key=lambda call: call.name)

    def _before(self, params: Arguments, model: Any, context: dict[str, Any], **_: Any) -> None:
        sizes = [self._size(*place) for place in _written(params)] if model.name == "TransactWriteItems" else []
        context[_NOTE] = (dict(params), sizes)

    def _after(self, model: Any, parsed: Mapping[str, Any], context: dict[str, Any], **_: Any) -> None:
        if self._calls is not None:
            arguments, sizes_before = context[_NOTE]
            self._calls.append(self._call(model.name, arguments, sizes_before, parsed))

    def _after_s3(self, model: Any, **_: Any) -> None:
        if self._calls is not None:
            self._calls.append(Call(model.name))

    def _call(self, name: str, arguments: Arguments, sizes_before: list[int], answer: Mapping[str, Any]) -> Call:
        match name:
            case "GetItem":
                units = self._units_of_gets(arguments["TableName"], [arguments["Key"]], arguments)
                return Call(name, read_units=units)
            case "BatchGetItem":
                wanted = arguments["RequestItems"].items()
                units = sum(self._units_of_gets(table, request["Keys"], request) for table, request in wanted)
                return Call(name, read_units=units)
            case "Query":
                size = self._size_read(arguments, answer["ScannedCount"])
                return Call(name, read_units=read_units(size, is_consistent=arguments.get("ConsistentRead", False)))
            case "TransactWriteItems":
                return Call(name, write_units=self._units_of_transaction(arguments, sizes_before))
            case "PutItem":
                # A condition that refuses it costs as much, of what stands there.
                key = {name: arguments["Item"][name] for name in ("pk", "sk")}
                return Call(name, write_units=write_units(self._size(arguments["TableName"], key)))
            case "UpdateItem":
                # The item keeps its size but for what was set, which is as long as what it replaced.
                return Call(name, write_units=write_units(self._size(arguments["TableName"], arguments["Key"])))
        raise ValueError(f"No rule says here what {name} costs.")

    def _units_of_gets(self, table: str, keys: list[Any], request: Arguments) -> float:
        answer = self._dynamodb.batch_get_item(RequestItems={table: {"Keys": keys, "ConsistentRead": True}})
        sizes = [item_size(item) for item in answer["Responses"].get(table, [])]
        sizes += [0] * (len(keys) - len(sizes))  # asking for what is not there costs too
        return sum(read_units(size, is_consistent=request.get("ConsistentRead", False)) for size in sizes)

    def _units_of_transaction(self, arguments: Arguments, sizes_before: list[int]) -> float:
        units = 0
        for (table, key), before in zip(_written(arguments), sizes_before, strict=True):
            now = self._size(table, key)
            units += TRANSACTIONAL * write_units(max(before, now))
            # All attributes stand in our indexes, and no indexed item ever changes: each index is written once.
            units += self._index_counts[table] * write_units(now)
        return units

    def _size(self, table: str, key: Any) -> int:
        answer = self._dynamodb.get_item(TableName=table, Key=key, ConsistentRead=True)
        return item_size(answer.get("Item", {}))

    def _size_read(self, arguments: Arguments, count: int) -> int:
        """Bytes of all items that a Query has read: the same one, without filter and projection."""
        if not count:
            return 0
        condition = arguments["KeyConditionExpression"]
        kept = {
            name: arguments[name]
            for name in ("TableName", "IndexName", "ScanIndexForward", "ExclusiveStartKey")
            if name in arguments
        }
        for name in ("ExpressionAttributeNames", "ExpressionAttributeValues"):
            kept[name] = {
                token: value for token, value in arguments[name].items() if re.search(rf"{token}\b", condition)
            }
        answer = self._dynamodb.query(**kept, KeyConditionExpression=condition, Limit=count)
        return sum(item_size(item) for item in answer["Items"])


def _written(arguments: Arguments) -> list[tuple[str, Any]]:
    """Table and key of each item that a transaction writes, or checks, which costs the same."""
    places = []
    for [write] in (entry.values() for entry in arguments["TransactItems"]):
        key = write.get("Key") or {name: write["Item"][name] for name in ("pk", "sk")}
        places.append((write["TableName"], key))
    return places
