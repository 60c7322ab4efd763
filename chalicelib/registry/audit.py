"""What happened: the event vocabulary, the Event record and its digest chain. Pure.

Each event carries the digest of the event before it on the same subject, so that a changed, dropped or reordered
event breaks the chain at a place that `verify_chain` names. The digest is SHA-256 over the canonical JSON (RFC 8785)
of every field, `prev` and `seq` included.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from itertools import accumulate, islice
from typing import Any, Protocol, Self

import rfc8785
from pydantic import Field

from chalicelib.registry.access import Actor
from chalicelib.registry.models import Frozen, Head, QualifiedName, tags_size, time_text

MAX_TAGS_BYTES = 64 * 1024  # of the tags before, and after, in an event
MAX_VALUE_CHARACTERS = 100


class Action(StrEnum):
    """All that can happen to a subject."""

    VERSION_REGISTERED = "version.registered"
    VERSION_UPDATED = "version.updated"
    VERSION_DELETED = "version.deleted"
    UPLOAD_OPENED = "upload.opened"
    UPLOAD_FAILED = "upload.failed"
    UPLOAD_ABORTED = "upload.aborted"
    UPLOAD_EXPIRED = "upload.expired"
    REGISTERED_MODEL_CREATED = "registered_model.created"
    REGISTERED_MODEL_UPDATED = "registered_model.updated"
    REGISTERED_MODEL_DELETED = "registered_model.deleted"
    EXPERIMENT_CREATED = "experiment.created"
    EXPERIMENT_UPDATED = "experiment.updated"
    RUN_CREATED = "run.created"
    RUN_UPDATED = "run.updated"
    LOGGED_MODEL_CREATED = "logged_model.created"
    LOGGED_MODEL_UPDATED = "logged_model.updated"
    TOKEN_CREATED = "token.created"  # noqa: S105 - an action, no password
    TOKEN_REVOKED = "token.revoked"  # noqa: S105
    SYNC_FINISHED = "sync.finished"


class Recorded(Protocol):
    """What has a trail. `qualified_name` says who may see it; None: only an admin without limits."""

    @property
    def qualified_name(self) -> QualifiedName | None: ...

    def model_dump(self, *, mode: str, exclude_none: bool) -> dict[str, Any]: ...


class Event(Frozen):
    """One change of one subject. `changes` is JSON text: {field: [before, after]}, changed fields only.

    `about` are the names of the subject before and after, each once: who may not see all of them does not see the
    event. It is left out where there is none, so that the digests of older events stay.
    """

    subject: str
    seq: int
    prev: str
    event_id: str
    at: str
    action: Action
    actor: Actor
    changes: str
    about: tuple[QualifiedName, ...] = Field((), exclude_if=lambda value: not value)

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON of this event, in hexadecimal."""
        return hashlib.sha256(rfc8785.dumps(self.model_dump(mode="json"))).hexdigest()

    @property
    def head(self) -> Head:
        """What the subject's next event has to follow."""
        return Head(seq=self.seq, digest=self.digest)


class Change(Frozen):
    """An event before it has a place in its chain."""

    event_id: str
    at: datetime
    actor: Actor
    action: Action
    changes: str
    about: tuple[QualifiedName, ...] = ()

    @classmethod
    def between(
        cls, action: Action, before: Recorded | None, after: Recorded | None, by: Actor, at: datetime, event_id: str
    ) -> Self:
        """What happened, from two states of a subject; None where there was or is none."""
        names = [state.qualified_name for state in (before, after) if state is not None]
        return cls(
            event_id=event_id,
            at=at,
            actor=by,
            action=action,
            changes=as_text(differences(before, after)),
            about=tuple(dict.fromkeys(name for name in names if name is not None)),
        )

    def after(self, subject: str, head: Head) -> Event:
        """The event that follows `head` on this subject."""
        return Event(
            subject=subject,
            seq=head.seq + 1,
            prev=head.digest,
            event_id=self.event_id,
            at=time_text(self.at),
            action=self.action,
            actor=self.actor,
            changes=self.changes,
            about=self.about,
        )


def begun_by(newest_first: Iterable[Event]) -> Actor | None:
    """Who began the life of a model id that goes on; None if it has ended. Reads no further than it has to."""
    for event in newest_first:
        if event.action in (Action.VERSION_REGISTERED, Action.UPLOAD_OPENED):
            return event.actor
        if event.action != Action.VERSION_UPDATED:
            return None
    return None


class BrokenChain(Exception):
    """The events of a subject are not the ones that were written; the text names the first wrong one."""


def verify_chain(events: Iterable[Event], head: Head) -> None:
    """Check all events of one subject, in order, against its head. Raises BrokenChain."""
    last = followed(events, Head())
    if last != head:
        raise BrokenChain(f"the chain ends at event {last.seq}, its head says {head.seq} or another content")


def followed(events: Iterable[Event], last: Head) -> Head:
    """What the next event has to follow, if these follow `last`. Raises BrokenChain."""
    for event in events:
        if event.seq != last.seq + 1:
            raise BrokenChain(f"{event.subject}: event {last.seq + 1} is missing, event {event.seq} follows")
        if event.prev != last.digest:
            raise BrokenChain(f"{event.subject}: event {event.seq} does not follow event {last.seq} as written")
        last = event.head
    return last


def differences(before: Recorded | None, after: Recorded | None) -> Mapping[str, tuple[Any, Any]]:
    """What changed between two states of a subject: field -> (before, after), JSON values."""
    old = before.model_dump(mode="json", exclude_none=True) if before else {}
    new = after.model_dump(mode="json", exclude_none=True) if after else {}
    if "tags" in old or "tags" in new:
        had, has = abbreviated(old.get("tags") or {}, new.get("tags") or {})
        old, new = old | ({"tags": had} if "tags" in old else {}), new | ({"tags": has} if "tags" in new else {})
    return {
        name: (old.get(name), new.get(name))
        for name in sorted(old.keys() | new.keys())
        if json.dumps(old.get(name)) != json.dumps(new.get(name))
    }


def abbreviated(had: Mapping[str, str], has: Mapping[str, str]) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Tags before and after as an event keeps them: all, or of too many those that changed, shortened.

    Of long values the beginning, length and SHA-256 are told; of too many changes the first, and how many more.
    """
    if tags_size(had) + tags_size(has) <= MAX_TAGS_BYTES:
        return had, has
    changed = sorted(key for key in had.keys() | has.keys() if had.get(key) != has.get(key))
    return _shortened(had, changed), _shortened(has, changed)


def _shortened(tags: Mapping[str, str], keys: Iterable[str]) -> Mapping[str, str]:
    kept = {key: _beginning(tags[key]) for key in keys if key in tags}
    sizes = accumulate(tags_size({key: value}) for key, value in kept.items())
    count = sum(size <= MAX_TAGS_BYTES for size in sizes)
    more = {"...": f"and {len(kept) - count} more"} if count < len(kept) else {}
    return dict(islice(kept.items(), count)) | more


def _beginning(value: str) -> str:
    if len(value) <= MAX_VALUE_CHARACTERS:
        return value
    digest = hashlib.sha256(value.encode()).hexdigest()
    return f"{value[:MAX_VALUE_CHARACTERS]}... ({len(value)} characters, SHA-256 {digest})"


def as_text(changes: Mapping[str, tuple[Any, Any]]) -> str:
    """Changes as the JSON text that an event keeps."""
    return json.dumps(changes, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
