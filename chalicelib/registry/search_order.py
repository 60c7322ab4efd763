"""The orders in which MLflow's clients ask for what they search: parts as they state them, and places in them. Pure."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeVar

from chalicelib.registry.errors import InvalidInput, shown
from chalicelib.registry.models import ModelVersion, milliseconds
from chalicelib.registry.registered_models import RegisteredModel, shown_name

MAX_PARTS = 10
Field = Literal["name", "version", "created", "changed"]
Value = str | int
Position = tuple[Value, ...]
T = TypeVar("T", RegisteredModel, ModelVersion)


class By(NamedTuple):
    """One part of an order."""

    field: Field
    is_ascending: bool = True


class Orders(NamedTuple):
    """What may be ordered by, by what clients call it, and what tells equals apart in the end."""

    fields: Mapping[str, Field]
    last: tuple[By, ...]
    what: str
    named: tuple[str, ...]
    prefix: str

    def unknown(self, key: str) -> InvalidInput:
        valid = "{" + ", ".join(f"'{name}'" for name in self.named) + "}"
        return InvalidInput("order_by", f"Invalid {self.what} '{shown(key)}' specified. Valid keys are '{valid}'")


MODEL_ORDERS = Orders(
    fields={"name": "name", "timestamp": "changed", "last_updated_timestamp": "changed"},
    last=(By("name"),),
    what="order by key",
    named=("name", "timestamp"),
    prefix="",
)
VERSION_ORDERS = Orders(
    fields={
        "creation_timestamp": "created",
        "last_updated_timestamp": "changed",
        "name": "name",
        "version_number": "version",
    },
    last=(By("name"), By("version", is_ascending=False)),
    what="attribute key",
    named=("creation_timestamp", "last_updated_timestamp", "name", "version_number"),
    prefix=r"attributes?\.",
)
NEWEST_FIRST = (By("changed", is_ascending=False), *VERSION_ORDERS.last)


def order_of(order_by: Sequence[str], orders: Orders) -> tuple[By, ...]:
    """An order as it was stated, and what tells equals apart. Raises InvalidInput."""
    if len(order_by) > MAX_PARTS:
        raise InvalidInput("order_by", f"An order has at most {MAX_PARTS} parts.")
    stated = [_part_of(clause, orders) for clause in order_by]
    if len({part.field for part in stated}) < len(stated):
        raise InvalidInput("order_by", f"`order_by` contains duplicate fields: {shown(str(list(order_by)))}")
    known = {part.field for part in stated}
    return (*stated, *(part for part in orders.last if part.field not in known))


def _part_of(clause: str, orders: Orders) -> By:
    words = clause.split()
    if not 1 <= len(words) <= 2:
        raise InvalidInput("order_by", f"Invalid order_by clause '{shown(clause)}'. Could not be parsed.")
    direction = words[1].strip('`"').lower() if len(words) == 2 else "asc"
    if direction not in ("asc", "desc"):
        raise InvalidInput("order_by", f"Invalid ordering key in order_by clause '{shown(clause)}'.")
    key = re.sub(f"^{orders.prefix}", "", words[0])
    field = orders.fields.get(key[1:-1] if re.fullmatch(r'`\w+`|"\w+"', key) else key)
    if field is None:
        raise orders.unknown(key)
    return By(field, direction == "asc")


def place_of(found: RegisteredModel | ModelVersion, order: Sequence[By]) -> Position:
    """Where it stands in an order."""
    values: dict[Field, Value] = {"changed": milliseconds(found.last_changed_at)}
    if isinstance(found, RegisteredModel):
        values |= {"name": found.exposed_name}
    else:
        created = milliseconds(found.published_at)
        values |= {"name": shown_name(found), "version": found.number, "created": created}
    return place_among(values, order)


def place_among(values: Mapping[Field, Value], order: Sequence[By]) -> Position:
    return tuple(values[part.field] for part in order)


def is_behind(place: Position, other: Position, order: Sequence[By]) -> bool:
    """Whether a place comes after another one."""
    for part, value, than in zip(order, place, other, strict=True):
        if value != than:
            return (value > than) == part.is_ascending  # type: ignore[operator] # of one field
    return False


def in_order(found: Sequence[T], order: Sequence[By]) -> list[T]:
    """All of these, sorted."""
    places = {id(one): place_of(one, order) for one in found}
    return sorted_by(found, lambda one: places[id(one)], order)


def sorted_by(found: Sequence[Any], place: Any, order: Sequence[By]) -> list[Any]:
    """All of these, sorted by the places that they have in an order."""
    result = list(found)
    for at, part in reversed(list(enumerate(order))):
        result.sort(key=lambda one, at=at: place(one)[at], reverse=not part.is_ascending)  # type: ignore[misc]
    return result
