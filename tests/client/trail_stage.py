"""A trail as the API tells it, made up; and ways to tamper with it."""

import copy
import hashlib
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from modelreg.chains import BEFORE_THE_FIRST, digest_of

Event = dict[str, Any]
BEGAN = datetime(2026, 3, 1, 12, tzinfo=UTC)
CAT, DOG = "MODEL#0000000000000cat", "MODEL#0000000000000dog"


def text(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%S.%fZ}"


def happened(subjects: Sequence[str], **fields: Any) -> list[Event]:
    """An event of each of these subjects, one an hour, newest first, as an export has them."""
    heads: dict[str, tuple[int, str]] = {}
    events: list[Event] = []
    for number, subject in enumerate(subjects):
        seq, prev = heads.get(subject, (0, BEFORE_THE_FIRST))
        event = {
            "id": f"01{number:024d}",
            "time": text(BEGAN + timedelta(hours=number)),
            "action": "version.updated",
            "subject": subject,
            "seq": seq + 1,
            "actor": {
                "kind": "token", "name": "ci", "request_id": "r-1", "source_ip": None, "user_agent": "curl/8",
                "token_id": "01K9ZZB2M3N4P5Q6R7S8T9V0WX", "role": "publisher", "idempotency": None,
            },
            "changes": {"score": [0.5, number / 7], "tags": [{}, {"team": "vision"}]},
            "about": [{"project_id": None, "project_name": "vision", "name": "cat"}],
            "prev": prev,
            **copy.deepcopy(fields),
        }  # fmt: skip
        event["digest"] = digest_of(event)
        heads[subject] = event["seq"], event["digest"]
        events.append(event)
    return events[::-1]


def of(events: Sequence[Event], subject: str) -> list[Event]:
    """Those of a subject, oldest first; the very objects."""
    return sorted((event for event in events if event["subject"] == subject), key=lambda event: event["seq"])


def rewritten(events: Sequence[Event]) -> None:
    """Give these events of one subject digests that are right, whatever they say by now."""
    prev = BEFORE_THE_FIRST
    for event in events:
        event["prev"] = prev
        event["digest"] = prev = digest_of(event)


def export_of(
    events: Sequence[Event],
    since: datetime | None = None,
    until: datetime | None = None,
    read_at: datetime | None = None,
) -> list[str]:
    """The lines of an export; read long after all that happened, unless said otherwise."""
    read_at = read_at or BEGAN + timedelta(days=30)
    told = {"format": "model-registry-export/1", "registry": "https://registry.example.org"}
    told |= {"since": since and text(since), "until": until and text(until), "read_at": text(read_at)}
    return [json.dumps({"export": told}), *map(json.dumps, events), json.dumps({"end": {"events": len(events)}})]


def checkpoint_of(
    events: Sequence[Event], until: datetime | None = None, previous: tuple[str, str] | None = None
) -> list[bytes]:
    """The lines of a checkpoint that was written after these events."""
    until = until or BEGAN + timedelta(days=20)
    named = {"key": previous[0], "sha256": previous[1]} if previous else None
    header = {
        "format": "model-registry-checkpoint/1",
        "until": text(until),
        "written_at": text(until),
        "previous": named,
    }
    heads: dict[str, Event] = {}
    for event in events:
        if event["time"] < text(until) and event["seq"] > heads.get(event["subject"], {"seq": 0})["seq"]:
            heads[event["subject"]] = event
    lines = [[subject, heads[subject]["seq"], heads[subject]["digest"]] for subject in sorted(heads)]
    return [json.dumps(line).encode() + b"\n" for line in (header, *lines, {"subjects": len(lines)})]


def sha256_of(lines: Sequence[bytes]) -> str:
    return hashlib.sha256(b"".join(lines)).hexdigest()


# Whoever tampers with one event, and leaves the digests as they are.
EDITS: dict[str, Callable[[Event], object]] = {
    "id": lambda event: event.update(id="01" + "9" * 24),
    "time": lambda event: event.update(time="2026-03-01T12:00:00.000001Z"),
    "time in another form": lambda event: event.update(time=event["time"].replace("Z", "+00:00")),
    "action": lambda event: event.update(action="version.deleted"),
    "actor's kind": lambda event: event["actor"].update(kind="anonymous"),
    "actor's name": lambda event: event["actor"].update(name="mallory"),
    "actor's request": lambda event: event["actor"].update(request_id=None),
    "actor's address": lambda event: event["actor"].update(source_ip="192.0.2.9"),
    "actor's user agent": lambda event: event["actor"].update(user_agent=""),
    "actor's token": lambda event: event["actor"].update(token_id=None),
    "actor's role": lambda event: event["actor"].update(role="admin"),
    "actor's key": lambda event: event["actor"].update(idempotency="0" * 16),
    "something new in the actor": lambda event: event["actor"].update(more="x"),
    "a change": lambda event: event["changes"].update(score=[0.5, 1.0]),
    "a number by an equal one": lambda event: (
        event["changes"].update(tags=[{}, 1]) or event["changes"].update(score=[0, 0.0])
    ),
    "a change less": lambda event: event["changes"].pop("tags"),
    "a change more": lambda event: event["changes"].update(stage=[None, "x"]),
    "before and after": lambda event: event["changes"]["score"].reverse(),
    "a name": lambda event: event["about"][0].update(name="dog"),
    "a project": lambda event: event["about"][0].update(project_name=None),
    "no names": lambda event: event.update(about=[]),
    "prev": lambda event: event.update(prev="f" * 64),
    "digest": lambda event: event.update(digest="f" * 64),
}
