"""What is asked of the trail, who sees an event, and what a position may tell."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ulid import ULID

from chalicelib.registry.access import EVERYWHERE, Access, Project
from chalicelib.registry.trail import FIRST, TIME_CHARACTERS, Entry, days_back, mark_before, subjects_of

TOKEN_ID = "01K9ZZB2M3N4P5Q6R7S8T9V0WX"
VISION = '{"project_id": null, "project_name": "vision", "name": "cat"}'
NOWHERE = '{"project_id": null, "project_name": null, "name": "cat"}'


def entry(about: str | None) -> Entry:
    texts = dict.fromkeys(("prev", "event_id", "at", "action", "actor", "changes", "digest"), "")
    return Entry(subject="MODEL#x", seq=1, about=about, **texts)


@pytest.mark.parametrize(
    ("text", "subjects"),
    [
        ("MODEL#x", ["MODEL#x"]),
        ("GETI#models-1", ["GETI#models-1"]),
        ("0123456789abcdef", ["MODEL#0123456789abcdef"]),
        (TOKEN_ID, [f"RM#{TOKEN_ID}", f"TOKEN#{TOKEN_ID}", f"MODEL#{TOKEN_ID}"]),
        ("model#x", ["MODEL#model#x"]),
    ],
)
def test_an_id_may_mean_several_subjects_those_first_whose_ids_nobody_chooses(text, subjects):
    assert subjects_of(text) == subjects


def test_days_are_counted_back_in_utc():
    first = datetime.fromisoformat("2026-02-27T23:30:00-01:00")

    assert days_back(first, datetime(2026, 3, 2, tzinfo=UTC)) == ["2026-03-02", "2026-03-01", "2026-02-28"]
    assert days_back(datetime(2026, 3, 3, tzinfo=UTC), datetime(2026, 3, 2, 23, tzinfo=UTC)) == []


@pytest.mark.parametrize(
    ("about", "access", "is_seen"),
    [
        (None, EVERYWHERE, True),
        ("no JSON", EVERYWHERE, True),
        (f"[{VISION}]", Access(projects=(Project(name="vision"),)), True),
        (f"[{VISION}, {NOWHERE}]", Access(projects=(Project(name="vision"),)), False),
        (f"[{VISION}, {NOWHERE}]", Access(name_prefixes=("ca",)), True),
        (f"[{VISION}, {NOWHERE}]", Access(name_prefixes=("dog",)), False),
        (None, Access(name_prefixes=("ca",)), False),
        ("[]", Access(name_prefixes=("ca",)), False),
        ("no JSON", Access(name_prefixes=("ca",)), False),
        ('[{"name": "cat", "of a later release": 1}]', Access(name_prefixes=("ca",)), False),
    ],
)
def test_an_event_is_seen_by_who_sees_all_of_its_names(about, access, is_seen):
    assert entry(about).is_seen_by(access) is is_seen


@given(
    frontier=st.datetimes(datetime(2026, 1, 1), datetime(2100, 1, 1)),
    ago=st.timedeltas(timedelta(milliseconds=1), timedelta(days=1)),
    is_first=st.booleans(),
)
def test_a_mark_is_before_the_last_one_not_behind_the_frontier_and_tells_only_of_its_time(frontier, ago, is_first):
    hidden = str(ULID.from_datetime(frontier.replace(tzinfo=UTC)))
    last = FIRST if is_first else str(ULID.from_datetime((frontier + ago).replace(tzinfo=UTC)))

    mark = mark_before(hidden, last, TIME_CHARACTERS)

    assert hidden < mark < last
    assert len(mark.rstrip(FIRST)) <= TIME_CHARACTERS
    assert len(mark_before(hidden, FIRST, TIME_CHARACTERS)) == 6  # nine hours, from the beginning of a day


def test_within_a_millisecond_the_last_mark_stays():
    first, second = f"{'0' * 10}{'A' * 16}", f"{'0' * 10}{'B' * 16}"

    assert mark_before(first, second, TIME_CHARACTERS) == second
