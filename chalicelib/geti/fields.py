"""JSON of Geti's, read field by field: lenient in what may be missing, strict in what must be there. Pure.

Unknown fields are not looked at; what is optional and not as expected counts as missing. What must be there and is not,
raises GetiRefused that names it.
"""

import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Protocol, TypeVar

from pydantic import JsonValue

from chalicelib.geti.errors import GetiRefused
from chalicelib.registry.errors import shown

ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
MAX_NUMBER = 2**63  # no number of Geti's comes near it; NaN and infinity are not below it


def checked_id(text: JsonValue, what: str) -> str:
    """An id that may stand in a path. Raises GetiRefused for anything else."""
    if not isinstance(text, str) or not ID.fullmatch(text):
        raise GetiRefused(f"{what} is {shown(repr(text))}, which is no id of Geti's.")
    return text


class Fields:
    """An object. `source` is the request that it answers, `place` where in the answer it is."""

    def __init__(self, value: JsonValue, source: object, place: str = "") -> None:
        self._source, self._place = source, place
        if not isinstance(value, dict):
            raise _unexpected(source, place or "all of it", "an object")
        self._values = value

    def id(self, name: str = "id") -> str:
        """An id, which must be there."""
        return checked_id(self._values.get(name), f"{self._at(name)} in the answer to {self._source}")

    def integer(self, name: str) -> int:
        """A whole number, which must be there."""
        value = self.count(name)
        if value is None:
            raise self.unexpected(name, "a whole number")
        return value

    def objects(self, name: str) -> list["Fields"]:
        """The objects of a list, which must be there."""
        return objects(self._values.get(name), self._source, self._at(name))

    def count(self, name: str) -> int | None:
        value = self._values.get(name)
        is_count = isinstance(value, int) and not isinstance(value, bool) and abs(value) < MAX_NUMBER
        return value if is_count else None  # type: ignore[return-value]

    def number(self, name: str) -> float | None:
        value = self._values.get(name)
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < MAX_NUMBER
        return float(value) if is_number else None  # type: ignore[arg-type]

    def text(self, name: str) -> str | None:
        """A text that says something, None if there is none."""
        value = self._values.get(name)
        return _encodable(value) if isinstance(value, str) and value else None

    def texts(self, name: str) -> tuple[str, ...]:
        value = self._values.get(name)
        return tuple(_encodable(text) for text in value if isinstance(text, str)) if isinstance(value, list) else ()

    def flag(self, name: str) -> bool:
        """Whether it is true; what is missing is not."""
        return self._values.get(name) is True

    def time(self, name: str) -> datetime | None:
        """A time; without a zone it is UTC."""
        try:
            at = datetime.fromisoformat(self.text(name) or "")
            return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
        except (ValueError, OverflowError):
            return None

    def within(self, name: str) -> "Fields":
        """An object in it; an empty one if there is none."""
        value = self._values.get(name)
        return Fields(value if isinstance(value, dict) else {}, self._source, self._at(name))

    def objects_if_any(self, name: str) -> list["Fields"]:
        """The objects of a list, none if there is no list."""
        return self.objects(name) if self._values.get(name) is not None else []

    def excerpt(self, names: Iterable[str]) -> str:
        """These fields as canonical JSON: equal if they are. A dot leads into an object: `performance.score`."""
        return json.dumps({name: self._found(name) for name in names}, sort_keys=True, separators=(",", ":"))

    def _found(self, name: str) -> JsonValue:
        first, _, rest = name.partition(".")
        return self.within(first)._found(rest) if rest else self._values.get(first)

    def _at(self, name: str) -> str:
        return f"{self._place}.{name}" if self._place else name

    def unexpected(self, name: str, expected: str) -> GetiRefused:
        """The error that says that a field is not what it should be."""
        return _unexpected(self._source, self._at(name), expected)


def objects(value: JsonValue, source: object, place: str) -> list[Fields]:
    """The objects of a list. Raises GetiRefused if it is none."""
    if not isinstance(value, list):
        raise _unexpected(source, place, "a list")
    return [Fields(item, source, f"{place}[{index}]") for index, item in enumerate(value)]


def _unexpected(source: object, place: str, expected: str) -> GetiRefused:
    return GetiRefused(
        f"In the answer to {source}, {place} is not {expected}: this Geti answers otherwise than is known."
    )


class _Identified(Protocol):
    @property
    def id(self) -> str: ...


Noun = TypeVar("Noun", bound=_Identified)


def each_once(nouns: Iterable[Noun]) -> tuple[Noun, ...]:
    """In their order, the first of each id."""
    first: dict[str, Noun] = {}
    for noun in nouns:
        first.setdefault(noun.id, noun)
    return tuple(first.values())


def _encodable(text: str) -> str:
    """JSON can hold halves of characters, which no other text may."""
    return text.encode(errors="replace").decode()
