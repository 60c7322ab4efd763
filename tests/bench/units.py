"""What DynamoDB charges, computed from the sizes of items. Pure: emulators report units flat, or wrong.

Rules from the Amazon DynamoDB Developer Guide: "DynamoDB item sizes and formats", "DynamoDB read and write
operations", "Using global secondary indexes" and "Transactions: how it works" (capacity management).
"""

import math
from collections.abc import Mapping
from typing import Any

READ_UNIT_BYTES = 4096
WRITE_UNIT_BYTES = 1024
# A transaction writes each item twice: to prepare, and to commit. What follows in an index is written once.
TRANSACTIONAL = 2

Item = Mapping[str, Mapping[str, Any]]


def read_units(size_bytes: int, *, is_consistent: bool) -> float:
    """Of one item, present or not, or of all that one Query has read, before its filter and projection."""
    return max(1, math.ceil(size_bytes / READ_UNIT_BYTES)) * (1 if is_consistent else 0.5)


def write_units(size_bytes: int) -> int:
    """Of one item, which counts as large as it was or is, whichever is larger."""
    return max(1, math.ceil(size_bytes / WRITE_UNIT_BYTES))


def item_size(item: Item) -> int:
    """Bytes of an item as DynamoDB sends it: names and values; 0 for none."""
    return sum(len(name.encode()) + _value_size(value) for name, value in item.items())


def _value_size(value: Mapping[str, Any]) -> int:
    [(kind, content)] = value.items()
    match kind:
        case "S":
            return len(content.encode())
        case "N":
            return _number_size(content)
        case "B":
            return len(content)
        case "BOOL" | "NULL":
            return 1
        case "SS" | "NS" | "BS":
            return sum(_value_size({kind[0]: one}) for one in content)
        case "L":
            return 3 + sum(1 + _value_size(one) for one in content)
        case "M":
            return 3 + sum(1 + len(name.encode()) + _value_size(one) for name, one in content.items())
    raise ValueError(f"DynamoDB has no type {kind}")


def _number_size(text: str) -> int:
    digits = text.lower().partition("e")[0].replace("-", "").replace(".", "").strip("0")
    return 1 + math.ceil(len(digits) / 2)
