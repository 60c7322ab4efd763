"""Verification of the trail, without a registry: what is right is accepted, what is tampered with is named."""

import copy
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelreg.chains import Finding, digest_of
from modelreg.verification import Report, Verification
from pydantic import TypeAdapter

from chalicelib.registry.access import Actor, Role
from chalicelib.registry.audit import Action, Change, as_text
from chalicelib.registry.models import Head, QualifiedName
from chalicelib.registry.trail import Entry
from chalicelib.surfaces.events import EventOut
from tests.client.trail_stage import (
    BEGAN,
    CAT,
    DOG,
    EDITS,
    Event,
    checkpoint_of,
    export_of,
    happened,
    of,
    rewritten,
    sha256_of,
)

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=8)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda within: st.lists(within, max_size=3) | st.dictionaries(TEXT, within, max_size=3),
    max_leaves=6,
)
NAMES = st.builds(QualifiedName, project_id=st.none() | TEXT, project_name=st.none() | TEXT, name=TEXT)
ACTORS = st.builds(
    Actor,
    kind=st.sampled_from(["anonymous", "system", "token"]),
    name=TEXT,
    request_id=st.none() | TEXT,
    source_ip=st.none() | TEXT,
    user_agent=st.none() | TEXT,
    token_id=st.none() | TEXT,
    role=st.none() | st.sampled_from(list(Role)),
    idempotency=st.none() | TEXT,
)


def verified(
    events: list[Event], *checkpoints: list[bytes], since: datetime | None = None, until: datetime | None = None
) -> Report:
    verification = Verification()
    verification.read_export("trail.jsonl", export_of(events, since, until))
    for number, lines in enumerate(checkpoints, 1):
        verification.compare(f"c{number}", lines)
    return verification.report()


def found(events: list[Event], *checkpoints: list[bytes], **time: datetime) -> list[tuple[str, int, str]]:
    """Where, which event, and what shows it."""
    return [(one.subject, one.seq, one.by) for one in verified(events, *checkpoints, **time).findings]


@pytest.fixture
def events() -> list[Event]:
    return happened([CAT, DOG, CAT, CAT, DOG, CAT])


@pytest.fixture
def checkpoint(events: list[Event]) -> list[bytes]:
    return checkpoint_of(events)


# --- The digest --------------------------------------------------------------------------------------------------


@given(
    changes=st.dictionaries(TEXT, st.tuples(JSON_VALUES, JSON_VALUES), max_size=3),
    actor=ACTORS,
    about=st.lists(NAMES, max_size=2),
    at=st.datetimes(datetime(2026, 1, 1), datetime(2100, 1, 1)),
    action=st.sampled_from(list(Action)),
)
def test_a_digest_is_made_again_as_the_registry_makes_it(changes, actor, about, at, action):
    change = Change(
        event_id="01K9ZZB2M3N4P5Q6R7S8T9V0WX",
        at=at.replace(tzinfo=UTC),
        actor=actor,
        action=action,
        changes=as_text(changes),
        about=tuple(about),
    )
    event = change.after(CAT, Head(seq=4, digest="a" * 64))
    stored = Entry(
        subject=event.subject,
        seq=event.seq,
        prev=event.prev,
        event_id=event.event_id,
        at=event.at,
        action=event.action.value,
        actor=event.actor.model_dump_json(),
        changes=event.changes,
        about=json.dumps([name.model_dump() for name in about], ensure_ascii=False) if about else None,
        digest=event.digest,
    )
    sent = json.dumps([EventOut.of(stored).model_dump(mode="json")], ensure_ascii=False)

    # Once as the client reads an answer, and once as it reads a file.
    [answered] = TypeAdapter(list[dict[str, Any]]).validate_json(sent)
    assert digest_of(answered) == digest_of(json.loads(sent)[0]) == event.digest == answered["digest"]


# --- What is right -----------------------------------------------------------------------------------------------


def test_a_whole_trail_is_accepted(events, checkpoint):
    report = verified(events, checkpoint)

    assert report.findings == []
    assert (report.events, report.subjects, report.is_from_start) == (6, 2, True)
    assert (report.heads_compared, report.heads_not_covered, report.checkpoints) == (2, 0, ["c1"])


@given(
    subjects=st.lists(st.sampled_from(["a", "b", "c"]), max_size=12), first=st.integers(0, 12), until=st.integers(0, 13)
)
def test_any_part_of_the_time_is_accepted_with_checkpoints_of_any_time(subjects, first, until):
    events = happened([f"MODEL#{name}" for name in subjects])
    times = [BEGAN + timedelta(hours=hours, minutes=-1) for hours in range(14)]
    since, end = times[first], times[until]
    part = [one for one in events if f"{since:%Y-%m-%dT%H:%M}" <= one["time"] < f"{end:%Y-%m-%dT%H:%M}"]
    checkpoints = [checkpoint_of(events, at) for at in times]

    report = verified(part, *checkpoints, since=since, until=end)

    assert report.findings == []
    assert not report.is_from_start


def test_the_export_of_a_time_begins_in_the_middle_of_chains(events, checkpoint):
    part = events[:3]

    report = verified(part, checkpoint, since=BEGAN + timedelta(hours=3))

    assert [(event["subject"], event["seq"]) for event in part] == [(CAT, 4), (DOG, 2), (CAT, 3)]
    assert (report.findings, report.heads_compared) == ([], 2)


def test_a_checkpoint_from_before_the_time_is_followed_where_events_come_next(events):
    before = checkpoint_of(events, BEGAN + timedelta(hours=2, minutes=30))  # CAT 2, DOG 1
    part = events[:3]

    assert verified(part, before, since=BEGAN + timedelta(hours=3)).heads_compared == 2
    rewritten(of(part, DOG))
    assert found(part, before, since=BEGAN + timedelta(hours=3)) == [(DOG, 2, "checkpoint")]


def test_a_checkpoint_from_after_the_export_is_compared_as_far_as_the_export_goes(events):
    older = events[2:]
    late = checkpoint_of(events, BEGAN + timedelta(days=40))

    report = verified(older, late)

    assert (report.findings, report.heads_not_covered) == ([], 2)


def test_exports_that_adjoin_are_verified_together(events, checkpoint):
    middle = BEGAN + timedelta(hours=3)
    verification = Verification()
    verification.read_export("old", export_of(events[3:], None, middle))
    verification.read_export("new", export_of(events[:3], middle))
    verification.compare("c", checkpoint)

    report = verification.report()

    assert (report.findings, report.is_from_start, report.heads_compared) == ([], True, 2)


def test_the_same_event_in_two_files_is_no_repetition(events):
    verification = Verification()
    for name in ("one", "two"):
        verification.read_export(name, export_of(events))

    assert verification.report().findings == []


def test_what_the_api_answers_for_a_model_is_taken_as_it_is(events, checkpoint):
    verification = Verification()
    verification.read_export("answer.json", [json.dumps(of(events, CAT)[::-1])])
    verification.compare("c", checkpoint)

    report = verification.report()

    assert (report.findings, report.events, report.heads_compared, report.heads_not_covered) == ([], 4, 1, 1)


def test_events_whose_ids_lost_a_race_are_in_order_all_the_same():
    # Two changes at once: the one whose id is older was done later.
    first, second = happened([CAT, CAT])[::-1]
    first["id"], second["id"] = second["id"], first["id"]
    rewritten([first, second])

    assert found([first, second]) == []


def test_a_registry_is_verified_as_a_file_is(events, checkpoint):
    verification = Verification()
    verification.read_events(iter(events))
    verification.compare("c", checkpoint, sha256=sha256_of(checkpoint))

    report = verification.report()

    assert (report.findings, report.until, report.is_from_start) == ([], None, True)


# --- Tampering ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
@pytest.mark.parametrize("seq", [1, 3, 4])
def test_an_edited_event_is_found_by_its_chain_and_named(events, checkpoint, edit, seq):
    edit(of(events, CAT)[seq - 1])

    # Also if the checkpoint is not there, and whatever else is not.
    assert (CAT, seq, "chain") in found(events)
    assert (CAT, seq, "chain") in found(events, checkpoint)


@given(data=st.data(), seq=st.integers(1, 4))
def test_no_value_of_an_event_can_be_replaced_by_another(data, seq):
    events = happened([CAT] * 4)
    event = events[4 - seq]
    places = [[name] for name in event if name not in ("subject", "seq", "actor", "changes", "about")]
    places += [["actor", name] for name in event["actor"]]
    places += [["changes", "score", 0], ["changes", "tags", 1, "team"], ["about", 0, "name"]]
    *path, last = data.draw(st.sampled_from(places))
    within: Any = event
    for step in path:
        within = within[step]
    before = json.dumps(within[last])
    within[last] = data.draw(JSON_VALUES.filter(lambda value: json.dumps(value) != before))

    assert [one.subject for one in verified(events).findings]


@pytest.mark.parametrize("edit", [EDITS["actor's name"], EDITS["a change"], EDITS["no names"]])
@pytest.mark.parametrize("seq", [1, 2, 3])
def test_an_edited_event_with_a_right_digest_is_found_by_the_next_one(events, edit, seq):
    event = of(events, CAT)[seq - 1]
    edit(event)
    event["digest"] = digest_of(event)

    assert found(events) == [(CAT, seq + 1, "chain")]


def test_the_newest_event_edited_with_a_right_digest_is_found_by_a_checkpoint_only(events, checkpoint):
    event = of(events, CAT)[-1]
    EDITS["a change"](event)
    event["digest"] = digest_of(event)

    assert found(events) == []
    assert found(events, checkpoint) == [(CAT, 4, "checkpoint")]


@pytest.mark.parametrize("seq", [1, 2, 3])
def test_an_event_that_was_dropped_is_found_by_its_chain(events, seq):
    events.remove(of(events, CAT)[seq - 1])

    report = verified(events)

    assert [(one.seq, one.what) for one in report.findings] == [
        (seq, f"event {seq} is missing, event {seq + 1} follows")
    ]


def test_several_events_that_were_dropped_are_named(events):
    for event in of(events, CAT)[1:3]:
        events.remove(event)

    assert verified(events).findings == [Finding(CAT, 2, "events 2 to 3 are missing, event 4 follows", "chain")]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_chain_that_was_cut_off_is_found_by_a_checkpoint_only(events, checkpoint, count):
    for event in of(events, CAT)[-count:]:
        events.remove(event)

    assert found(events) == []
    report = verified(events, checkpoint)
    what = f"the events end with {4 - count}, checkpoint c1 says 4"
    assert report.findings == [Finding(CAT, 5 - count, what, "checkpoint")]


def test_a_subject_that_was_dropped_altogether_is_found_by_a_checkpoint_only(events, checkpoint):
    events = of(events, CAT)[::-1]

    assert found(events) == []
    assert verified(events, checkpoint).findings == [
        Finding(DOG, 1, "there is no event, checkpoint c1 says 2", "checkpoint")
    ]


def test_the_first_event_of_a_time_that_was_dropped_is_found_by_a_checkpoint_from_before_only_if_it_came_next(events):
    since = BEGAN + timedelta(hours=2)  # from CAT 2 on
    part = [event for event in events if event["seq"] != 2 or event["subject"] != CAT][:3]

    assert found(part, since=since) == []


@pytest.mark.parametrize("fields", [("id", "time"), ("changes",), ("actor", "id", "time", "changes", "action")])
def test_events_that_changed_places_are_found_by_their_chain(events, fields):
    one, other = of(events, CAT)[1:3]
    one["changes"] = {"x": [1, 2]}
    rewritten(of(events, CAT))
    for field in fields:
        one[field], other[field] = other[field], one[field]

    assert (CAT, 2, "chain") in found(events) or (CAT, 2, "file") in found(events)


def test_events_that_changed_numbers_are_found_by_their_chain(events):
    one, other = of(events, CAT)[1:3]
    one["seq"], other["seq"] = other["seq"], one["seq"]

    assert (CAT, 2, "chain") in found(events)


def test_lines_that_changed_places_are_found_by_the_order_of_the_file(events):
    events[1], events[3] = events[3], events[1]

    [finding] = verified(events).findings
    assert (finding.by, finding.subject, finding.seq) == ("file", CAT, 3)
    assert "line 4 of trail.jsonl is not older than the line before" in finding.what


@pytest.mark.parametrize("place", [0, 3, 5])
def test_a_line_that_is_there_twice_is_found(events, place):
    events.insert(place, copy.deepcopy(events[2]))

    assert (events[place]["subject"], events[place]["seq"], "chain") in found(events)


def test_two_versions_of_an_event_are_found(events):
    forged = copy.deepcopy(of(events, CAT)[1])
    forged["changes"] = {}
    forged["digest"] = digest_of(forged)
    verification = Verification()
    verification.read_export("one", export_of(events))
    verification.read_export("two", export_of([forged]))

    assert verification.report().findings == [Finding(CAT, 2, "event 2 is there in two versions", "chain")]


def test_a_chain_that_was_written_anew_is_found_by_a_checkpoint_only(events, checkpoint):
    chain = of(events, CAT)
    EDITS["actor's name"](chain[1])
    rewritten(chain)

    assert found(events) == []
    assert verified(events, checkpoint).findings == [
        Finding(CAT, 4, "event 4 is another one than checkpoint c1 says", "checkpoint")
    ]


def test_a_chain_that_was_written_anew_and_goes_on_is_found_by_an_old_checkpoint(events):
    old = checkpoint_of(events, BEGAN + timedelta(hours=2, minutes=30))
    EDITS["actor's name"](of(events, CAT)[0])
    rewritten(of(events, CAT))

    assert found(events, checkpoint_of(events)) == []
    assert found(events, old, checkpoint_of(events)) == [(CAT, 2, "checkpoint")]


def test_a_first_event_that_continues_something_is_found(events):
    first = of(events, DOG)[0]
    first["prev"] = "e" * 64
    first["digest"] = digest_of(first)

    assert verified(events).findings[0] == Finding(DOG, 1, "event 1 does not begin a chain", "chain")


def test_of_each_subject_the_first_wrong_event_is_named(events, checkpoint):
    for event in (*of(events, CAT)[1:], of(events, DOG)[1]):
        EDITS["actor's name"](event)

    assert found(events, checkpoint) == [(CAT, 2, "chain"), (DOG, 2, "chain")]


# --- Files -------------------------------------------------------------------------------------------------------

Damage = Callable[[list[str]], list[str]]
DAMAGED: dict[str, tuple[Damage, str]] = {
    "cut off": (lambda lines: lines[:-1], "has no end"),
    "cut off within a line": (lambda lines: [*lines[:-2], lines[-2][:40]], "cannot be read"),
    "an event less": (lambda lines: [*lines[:2], *lines[3:]], "says that it has 6 events, and has 5"),
    "another end": (lambda lines: [*lines[:-1], '{"end":{"events":7}}'], "says that it has 7 events, and has 6"),
    "more behind the end": (lambda lines: [*lines, lines[1]], "stands behind the end"),
    "two ends": (lambda lines: [*lines, lines[-1]], "is no event, or stands behind the end"),
    "another format": (lambda lines: [lines[0].replace("/1", "/2"), *lines[1:]], "line 1 cannot be read"),
    "no JSON": (lambda lines: [*lines[:3], "nothing", *lines[3:]], "line 4 cannot be read"),
    "no event": (lambda lines: [*lines[:3], '"x"', *lines[3:]], "line 4 is no event"),
    "half an event": (lambda lines: [*lines[:-1], '{"subject": "x"}', lines[-1]], "cannot be understood"),
    "not UTF-8": (lambda lines: [*lines[:3], b"\xff\xfe", *lines[3:]], "line 4 cannot be read"),  # type: ignore[list-item]
    "half a character": (
        lambda lines: [*lines[:2], lines[2].replace('"ci"', '"\\ud800"'), *lines[3:]],
        "cannot be understood",
    ),
    "no number": (lambda lines: [*lines[:2], lines[2].replace("0.5,", "NaN,"), *lines[3:]], "cannot be understood"),
}


@pytest.mark.parametrize(("damage", "what"), DAMAGED.values(), ids=DAMAGED)
def test_a_file_that_is_not_whole_says_so(events, damage, what):
    verification = Verification()

    verification.read_export("trail.jsonl", damage(export_of(events)))

    assert any(what in finding.what for finding in verification.report().findings)


def test_an_empty_export_is_whole(checkpoint):
    assert verified([]).findings == []
    assert [finding.by for finding in verified([], checkpoint).findings] == ["checkpoint"] * 2


# --- Checkpoints -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    [
        lambda lines: lines[:-1],
        lambda lines: [lines[0], *lines[2:]],
        lambda lines: lines[1:],
        lambda lines: [],
        lambda lines: [*lines, lines[1]],
        lambda lines: [lines[0].replace(b"/1", b"/2"), *lines[1:]],
        lambda lines: [lines[0], b'["MODEL#x", "3", "x"]\n', *lines[1:]],
        lambda lines: [b"\xff\n", *lines[1:]],
    ],
)
def test_a_checkpoint_that_is_not_whole_says_so(events, checkpoint, damage):
    [finding] = verified(events, damage(checkpoint)).findings

    assert (finding.subject, finding.by) == ("c1", "checkpoint")
    assert "is no whole checkpoint" in finding.what


def test_a_checkpoint_that_is_not_the_one_that_was_announced_says_so(events, checkpoint):
    verification = Verification()
    verification.read_events(events)
    verification.compare("c", checkpoint, sha256="0" * 64)

    assert [finding.what for finding in verification.report().findings] == ["is another file than the registry says"]


def test_checkpoints_are_a_chain_themselves(events):
    old = checkpoint_of(events, datetime(2026, 3, 2, 2, 7, tzinfo=UTC))
    key = "checkpoints/2026-03-02T0207Z.jsonl"
    new = checkpoint_of(events, previous=(key, sha256_of(old)))
    forged = checkpoint_of(of(events, CAT), datetime(2026, 3, 2, 2, 7, tzinfo=UTC))

    assert verified(events, old, new).findings == []
    assert [one for one in verified(events, forged, new).findings if one.subject == "c1"] == [
        Finding("c1", 0, "is another file than checkpoint c2 says, which was written after it", "checkpoint")
    ]
