"""A past that tests can make up: events of any time, subject, name and actor, stored as operations store them."""

import itertools
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import boto3
from ulid import ULID

from chalicelib.registry.access import Actor
from chalicelib.registry.audit import Action, Change, Event
from chalicelib.registry.models import Head, QualifiedName
from chalicelib.store.schema import EventItem, bind
from chalicelib.store.trail import DynamoTrail
from chalicelib.store.transactions import Retry
from tests.conftest import ALICE

DAY_ONE = datetime(2026, 1, 10, 12, tzinfo=UTC)
NOW = datetime(2026, 2, 1, 12, tzinfo=UTC)


def named(name: str, project: str | None = None) -> QualifiedName:
    return QualifiedName(name=name, project_name=project)


@dataclass
class Past:
    """The events of a trail, and what reads it. Ids are ULIDs of the time of their events."""

    trail: DynamoTrail
    events: list[Event] = field(default_factory=list)
    heads: dict[str, Head] = field(default_factory=lambda: defaultdict(Head))
    numbers: Any = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        bind("RegistryTable", "EventsTable")

    def happen(
        self,
        subject: str,
        at: datetime,
        *about: QualifiedName,
        by: Actor = ALICE,
        action: Action = Action.VERSION_UPDATED,
        changes: str = '{"score":[0.0,0.5]}',
    ) -> Event:
        """One more event of a subject, whose id is random but for its time."""
        milliseconds = int(at.timestamp() * 1000).to_bytes(6)
        event_id = str(ULID.from_bytes(milliseconds + (next(self.numbers) * 0x9E3779B97F4A7C15).to_bytes(16)[-10:]))
        change = Change(event_id=event_id, at=at, actor=by, action=action, changes=changes, about=about)
        event = change.after(subject, self.heads[subject])
        EventItem.of(event).save()
        self.heads[subject] = event.head
        self.events.append(event)
        return event

    @property
    def newest_first(self) -> list[str]:
        """Ids of all events, in the order of the trail."""
        ordered = sorted(self.events, key=lambda event: (event.at[:10], event.event_id), reverse=True)
        return [event.event_id for event in ordered]


def quick() -> Retry:
    """Nobody waits in tests."""
    return Retry(sleep=lambda _: None, jitter=lambda low, high: 0)


def stored(event: Event) -> dict[str, Any]:
    """The item of an event, as it is."""
    return boto3.client("dynamodb").get_item(TableName="EventsTable", Key=key_of(event))["Item"]


def key_of(event: Event) -> dict[str, Any]:
    return {"pk": {"S": event.subject}, "sk": {"S": f"{event.seq:012d}"}}


def overwrite(event: Event, **attributes: str | None) -> None:
    """Put an item over that of an event, as PutItem without a condition does; None takes an attribute away."""
    item = stored(event)
    for name, value in attributes.items():
        item.pop(name, None)
        if value is not None:
            item[name] = {"S": value}
    boto3.client("dynamodb").put_item(TableName="EventsTable", Item=item)


def drop(event: Event) -> None:
    boto3.client("dynamodb").delete_item(TableName="EventsTable", Key=key_of(event))
