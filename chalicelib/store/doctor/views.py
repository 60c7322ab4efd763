"""What is looked at, what is seen in it, and what is to be done about it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from pynamodb.models import Model

from chalicelib.registry.doctor import Kind, in_words
from chalicelib.store.keys import META, event_key
from chalicelib.store.transactions import RawItem

MAX_PK_BYTES, MAX_SK_BYTES = 2_048, 1_024
SETS = ("SS", "NS", "BS")


class Key(NamedTuple):
    """Where an item stands."""

    table: Literal["registry", "events"]
    pk: str
    sk: str

    @property
    def can_be(self) -> bool:
        """Whether DynamoDB takes it; it may be made of what an item happened to hold."""
        return 0 < len(self.pk.encode()) <= MAX_PK_BYTES and 0 < len(self.sk.encode()) <= MAX_SK_BYTES

    def __str__(self) -> str:
        return in_words(self.pk if self.sk == META else f"{self.pk} / {self.sk}")


def in_registry(pk: str, sk: str = META) -> Key:
    return Key("registry", pk, sk)


def in_events(subject: str, seq: int) -> Key:
    return Key("events", subject, event_key(seq))


class View:
    """Items as they were at one moment. Who asks for another one sees none, and it is noted as wanted.

    So a judge says by itself what it has to see: it is asked again with more until it wants nothing, and only then
    counts what it says.
    """

    def __init__(self, items: Mapping[Key, RawItem | None]) -> None:
        self._items = items
        self.wanted: set[Key] = set()

    def item(self, key: Key) -> RawItem | None:
        if key in self._items:
            return self._items[key]
        if key.can_be:
            self.wanted.add(key)
        return None

    def seen(self, key: Key) -> RawItem | None:
        """An item of those that were read, and no other."""
        return self._items[key]


@dataclass(frozen=True)
class Repair:
    """One write, made only while the item at `key` and all that is assumed are as they were seen.

    `put` replaces the item, `change` some attributes of it; with neither it is removed.
    """

    key: Key
    put: RawItem | None = None
    change: RawItem | None = None
    assuming: tuple[Key, ...] = ()


@dataclass(frozen=True)
class Diagnosis:
    """Something that is wrong. Without a repair it is for people."""

    kind: Kind
    subject: str
    what: str
    repair: Repair | None = None


def raw_of(item: Model) -> RawItem:
    """An item as DynamoDB has it."""
    raw: RawItem = item.serialize()
    return raw


def is_same(one: RawItem | None, other: RawItem) -> bool:
    """Whether two items hold the same; sets have no order."""
    return one is not None and _comparable(one) == _comparable(other)


def _comparable(raw: RawItem) -> dict[str, object]:
    return {
        name: {kind: sorted(part) if kind in SETS else part for kind, part in value.items()}
        for name, value in raw.items()
    }
