"""Follows the events of a subject from the first to the one that its record names, in pieces."""

from dataclasses import dataclass

from pydantic import ValidationError

from chalicelib.registry.audit import BrokenChain, Event, followed
from chalicelib.registry.models import Head
from chalicelib.store.doctor.tables import Tables
from chalicelib.store.doctor.views import Key
from chalicelib.store.keys import event_key
from chalicelib.store.schema import EventItem
from chalicelib.store.transactions import RawItem


@dataclass(frozen=True)
class Piece:
    """How far a chain was followed. `beyond` is an item behind the event that the head names."""

    last: Head
    event_count: int
    is_end: bool
    beyond: Key | None = None


def follow(tables: Tables, subject: str, last: Head, head: Head, limit: int) -> Piece:
    """Follow at most so many events on from `last`. Raises BrokenChain, and Unavailable."""
    # From the very beginning, so that nothing hides before the first event.
    rows = tables.events(subject, event_key(last.seq) if last.seq else None, limit)
    within = [raw for raw in rows.items if raw["sk"]["S"] <= event_key(head.seq)]
    last = followed((_event(raw) for raw in within), last)
    beyond = [raw["sk"]["S"] for raw in rows.items[len(within) :]]
    is_end = bool(beyond) or rows.after is None
    if is_end and last != head:
        raise BrokenChain(
            f"{subject}: it ends at event {last.seq}, its record names event {head.seq} or another content"
        )
    return Piece(last, len(within), is_end, Key("events", subject, beyond[0]) if beyond else None)


def _event(raw: RawItem) -> Event:
    """An event that is what it says. Raises BrokenChain."""
    place = f"{raw['pk']['S']}: event {raw['sk']['S']}"
    try:
        item = EventItem.from_raw_data(raw)
        event = item.event()
    except (ValidationError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as exc:
        raise BrokenChain(f"{place} cannot be read") from exc
    if item.sk != event_key(event.seq) or item.digest != event.digest:
        raise BrokenChain(f"{place} is not what its digest says")
    return event
