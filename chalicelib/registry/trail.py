"""The audit trail as it is read: what is asked for, who sees which event, and where a page goes on. Pure.

An event is read as it is stored (`Entry`), not as this release would write it: what another release wrote, or somebody
changed, has to be shown as it is. Only whoever sees every name that an event is about sees the event.
"""

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

from pydantic import TypeAdapter, ValidationError

from chalicelib.registry.access import Access
from chalicelib.registry.models import Frozen, QualifiedName

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)  # before the first release: no event is older
FIRST = "~"  # sorts behind every id and number, so that all are older than it
_ULID = re.compile(r"[0-9A-Z]{26}")
_STORED = re.compile(r"[A-Z]{1,16}#[a-zA-Z0-9._:-]{1,128}")
TIME_CHARACTERS, NUMBER_CHARACTERS = 10, 12  # of a ULID its time; of a number all
_LEAST_CHARACTERS = 5  # which tell the time to nine hours


class TrailFilters(Frozen):
    """Which events: from `since` on, before `until`; by a token's id or an actor's name, exact; of one action."""

    since: datetime | None = None
    until: datetime | None = None
    actor: str | None = None
    action: str | None = None


class Entry(Frozen):
    """An event as it is stored; actor, changes and about are its JSON texts, `digest` what was stored beside it."""

    subject: str
    seq: int
    prev: str
    event_id: str
    at: str
    action: str
    actor: str
    changes: str
    about: str | None
    digest: str

    def is_seen_by(self, access: Access) -> bool:
        """Whether the caller sees every name that it is about; without any, only an admin without limits does."""
        if access.is_unlimited_admin:
            return True
        names = self._names()
        return bool(names) and all(access.sees(name) for name in names)

    def _names(self) -> Sequence[QualifiedName]:
        try:
            return TypeAdapter(tuple[QualifiedName, ...]).validate_json(self.about or "[]")
        except ValidationError:
            return ()


class TrailPage(Frozen):
    """A part of the trail, newest first. `after` is the position to go on from; None means that was all."""

    entries: tuple[Entry, ...]
    after: str | None


def subjects_of(text: str) -> Sequence[str]:
    """The subjects that this may mean: a stored form, or a bare id of a registered model, a token or a model.

    In this order, for the id of a model is its publisher's choice: nobody can hide another subject behind one.
    """
    if _STORED.fullmatch(text):
        return [text]
    kinds = ("RM", "TOKEN", "MODEL") if _ULID.fullmatch(text) else ("MODEL",)
    return [f"{kind}#{text}" for kind in kinds]


def days_back(first: datetime, last: datetime) -> Sequence[str]:
    """Every day between these times, in UTC, the last one first."""
    start, end = _date(first), _date(last)
    return [(end - timedelta(days=count)).isoformat() for count in range((end - start).days + 1)]


def mark_before(frontier: str, last: str, characters: int) -> str:
    """A mark from which to go on behind `last`, at `frontier` or a little newer.

    `frontier` may be an event that the caller does not see, so no more of it is told than is needed to get on, and
    never more than its first characters: its time, rounded up. As long as a request reads two events, it gets on.
    """
    marks = (f"{frontier[:count]}{FIRST}" for count in range(_LEAST_CHARACTERS, characters + 1))
    return next((mark for mark in marks if mark < last), last)


def _date(at: datetime) -> date:
    return at.astimezone(UTC).date()
