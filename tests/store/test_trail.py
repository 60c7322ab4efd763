"""Reading the trail: order, filters, who sees what, and that a request reads only so much."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moto.backends import get_backend

from chalicelib.registry.access import EVERYWHERE, Access, Actor, Project, Role
from chalicelib.registry.audit import Action
from chalicelib.registry.trail import TrailFilters, TrailPage
from chalicelib.store import trail as module
from chalicelib.store.trail import DynamoTrail
from tests.conftest import ALICE, BOB, create_tables
from tests.store.faults import nothing, throttled, watched_calls
from tests.store.trail_stage import DAY_ONE, NOW, Past, named, overwrite, quick

VISION = Access(role=Role.VIEWER, projects=(Project(name="vision"),))
BOTH = Access(role=Role.VIEWER, projects=(Project(name="vision"), Project(name="audio")))
CATS = Access(role=Role.VIEWER, name_prefixes=("cat",))
MODEL = "MODEL#0123456789abcdef"


@pytest.fixture
def past(aws: None) -> Past:
    return Past(DynamoTrail(quick(), monotonic=lambda: 0))


def pages(read: Callable[[str | None], TrailPage]) -> list[TrailPage]:
    """Every page; the position of each is behind the one before."""
    found, after = [], None
    while True:
        found.append(read(after))
        if found[-1].after is None:
            return found
        assert found[-1].after < (after or "~"), "no headway"
        after = found[-1].after


def across(past: Past, limit: int = 1000, within: Access = EVERYWHERE, **filters: Any) -> list[TrailPage]:
    asked = TrailFilters(**filters)
    return pages(lambda after: past.trail.across(asked, NOW, limit, after, within))


def of_subject(
    past: Past, subject: str = MODEL, limit: int = 1000, within: Access = EVERYWHERE, **filters: Any
) -> list[TrailPage]:
    asked = TrailFilters(**filters)
    return pages(lambda after: past.trail.of_subject(subject, asked, limit, after, within))


def ids(found: list[TrailPage]) -> list[str]:
    return [entry.event_id for page in found for entry in page.entries]


def busy_days(past: Past, count: int = 12, project: str | None = None, name: str = "cat") -> None:
    """Events of several subjects, on days that follow each other and days that do not."""
    for number in range(count):
        at = DAY_ONE + timedelta(days=number // 3 * 2, minutes=number % 3)
        past.happen(f"MODEL#{number % 4:016d}", at, named(name, project))


# --- Order and pages ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 2, 5, 12, 1000])
def test_the_trail_is_read_newest_first_in_pages_of_any_size(past, limit):
    busy_days(past)

    found = across(past, limit)

    assert ids(found) == past.newest_first
    assert all(len(page.entries) == limit for page in found[:-1])
    assert found[-1].entries


@pytest.mark.parametrize("limit", [1, 3, 1000])
def test_the_events_of_a_subject_are_read_newest_first_in_pages_of_any_size(past, limit):
    numbered = [past.happen(MODEL, DAY_ONE + timedelta(days=number), named("cat")) for number in range(7)]
    past.happen("MODEL#somebody-elses-1", DAY_ONE, named("cat"))

    found = of_subject(past, limit=limit)

    assert ids(found) == [event.event_id for event in reversed(numbered)]


def test_an_event_is_read_as_it_is_stored(past):
    event = past.happen(MODEL, DAY_ONE, named("cat", "vision"), by=BOB)

    [page] = of_subject(past)

    entry = page.entries[0]
    assert (entry.subject, entry.seq, entry.prev, entry.digest) == (MODEL, 1, "0" * 64, event.digest)
    assert (entry.at, entry.action, entry.changes) == (event.at, "version.updated", event.changes)
    assert json.loads(entry.actor)["name"] == "bob"
    assert json.loads(entry.about) == [{"project_id": None, "project_name": "vision", "name": "cat"}]


def test_a_subject_is_read_consistently_and_an_index_as_it_can_be(past, monkeypatch):
    asked: list[dict[str, Any]] = []
    connection = module.EventItem._get_connection().connection
    dispatch = connection.dispatch
    monkeypatch.setattr(connection, "dispatch", lambda name, given: asked.append(given) or dispatch(name, given))

    of_subject(past)
    past.trail.across(TrailFilters(), DAY_ONE, 10)

    assert (asked[0]["ConsistentRead"], "IndexName" in asked[0]) == (True, False)
    assert {(one["IndexName"], one.get("ConsistentRead")) for one in asked[1:]} == {("by_day", None)}


def test_what_happens_while_pages_are_read_neither_repeats_nor_hides_anything(past):
    busy_days(past)
    before = past.newest_first

    found, after = [], None
    while not found or after:
        page = past.trail.across(TrailFilters(), NOW, 2, after)
        found += [entry.event_id for entry in page.entries]
        after = page.after
        past.happen("MODEL#meanwhile-000001", NOW, named("cat"))

    assert [one for one in found if one in before] == before


def test_the_very_last_page_is_full_and_ends_the_trail(past):
    busy_days(past, 4)

    assert [len(page.entries) for page in across(past, limit=2)] == [2, 2]


def test_no_page_is_larger_than_an_answer_may_be(past, monkeypatch):
    monkeypatch.setattr(module, "MAX_PAGE_BYTES", 12_000)
    for number in range(6):
        past.happen(MODEL, DAY_ONE + timedelta(minutes=number), named("cat"), changes=json.dumps({"d": ["x" * 4_000]}))
    past.happen(MODEL, DAY_ONE - timedelta(minutes=1), named("cat"), changes=json.dumps({"d": ["y" * 40_000]}))

    for found in (across(past), of_subject(past)):
        assert ids(found) in (past.newest_first, [event.event_id for event in reversed(past.events)])
        assert sorted(len(page.entries) for page in found) == [1, 2, 2, 2]


# --- Filters -----------------------------------------------------------------------------------------------------


def test_since_is_part_of_the_time_and_until_is_not(past):
    times = [DAY_ONE + timedelta(microseconds=number) for number in range(4)]
    events = [past.happen(MODEL, at, named("cat")) for at in times]

    for read in (across, of_subject):
        found = read(past, since=times[1], until=times[3])

        assert set(ids(found)) == {events[1].event_id, events[2].event_id}


def test_a_time_in_another_zone_means_the_same(past):
    event = past.happen(MODEL, datetime(2026, 1, 11, 0, 30, tzinfo=UTC), named("cat"))
    before = datetime.fromisoformat("2026-01-10T23:30:00-01:00")

    assert ids(across(past, since=before)) == [event.event_id]
    assert ids(across(past, until=before)) == []


def test_days_outside_of_the_time_are_not_asked_for(past):
    busy_days(past)

    with watched_calls(nothing, nothing) as calls:
        across(past, since=DAY_ONE, until=DAY_ONE + timedelta(days=2))

    assert len(calls) == 3


@pytest.mark.parametrize("name", ["alice", 'q"uote', "back\\slash", "Jürgen 語", 'x","name":"alice'])
def test_an_actor_is_found_by_its_exact_name(past, name):
    past.happen(MODEL, DAY_ONE, named("cat"), by=Actor(name=f"{name}s", user_agent=f'"name":"{name}"'))
    wanted = past.happen(MODEL, DAY_ONE, named("cat"), by=Actor(name=name))
    past.happen(MODEL, DAY_ONE, named("cat"), by=Actor(name="somebody", request_id=name))

    for read in (across, of_subject):
        assert ids(read(past, actor=name)) == [wanted.event_id]


def test_an_actor_is_found_by_the_id_of_its_token(past):
    token = Actor(kind="token", name="ci", token_id="01K9ZZB2M3N4P5Q6R7S8T9V0WX", role=Role.PUBLISHER)
    wanted = past.happen(MODEL, DAY_ONE, named("cat"), by=token)
    past.happen(MODEL, DAY_ONE, named("cat"))

    assert ids(across(past, actor=token.token_id)) == ids(across(past, actor="ci")) == [wanted.event_id]


def test_an_action_is_found_and_all_filters_must_hold(past):
    deleted = past.happen(MODEL, DAY_ONE, named("cat"), action=Action.VERSION_DELETED)
    past.happen(MODEL, DAY_ONE, named("cat"), by=BOB, action=Action.VERSION_DELETED)
    past.happen(MODEL, DAY_ONE, named("cat"))

    assert len(ids(across(past, action="version.deleted"))) == 2
    for read in (across, of_subject):
        assert ids(read(past, action="version.deleted", actor=ALICE.name)) == [deleted.event_id]


# --- Who sees what -----------------------------------------------------------------------------------------------


def test_who_is_limited_to_projects_sees_what_is_about_them_alone(past):
    inside = past.happen(MODEL, DAY_ONE, named("cat", "vision"))
    past.happen("MODEL#without-a-project", DAY_ONE, named("cat"))
    past.happen("MODEL#of-another-project", DAY_ONE, named("cat", "audio"))
    past.happen("MODEL#moved-away-0000001", DAY_ONE, named("cat", "vision"), named("cat", "audio"))
    past.happen("TOKEN#01K9ZZB2M3N4P5Q6R7S8T9V0WX", DAY_ONE)

    assert ids(across(past, within=VISION)) == [inside.event_id]


def test_who_sees_both_projects_sees_a_move_between_them_under_the_id(past):
    past.happen(MODEL, DAY_ONE, named("cat", "vision"))
    past.happen(MODEL, DAY_ONE, named("cat", "vision"), named("cat", "audio"))
    past.happen(MODEL, DAY_ONE, named("cat", "audio"))

    seen = {name: [e.seq for page in of_subject(past, within=name) for e in page.entries] for name in (VISION, BOTH)}

    assert seen == {VISION: [1], BOTH: [3, 2, 1]}
    assert len(ids(across(past, within=BOTH))) == 2


def test_an_id_that_another_project_used_before_shows_only_what_is_seen(past):
    for project in ("audio", "audio", "vision", "vision", "audio"):
        past.happen(MODEL, DAY_ONE, named("cat", project))

    found = [entry.seq for page in of_subject(past, within=VISION, limit=1) for entry in page.entries]

    assert found == [4, 3]


def test_who_is_limited_to_names_sees_events_all_of_whose_names_begin_so(past):
    seen = past.happen(MODEL, DAY_ONE, named("catalog"), named("cat", "vision"))
    past.happen(MODEL, DAY_ONE, named("cat"), named("dog"))
    past.happen(MODEL, DAY_ONE, named("a cat"))
    past.happen(MODEL, DAY_ONE)

    assert ids(across(past, within=CATS)) == ids(of_subject(past, within=CATS)) == [seen.event_id]


def test_prefixes_count_within_projects_too(past):
    seen = past.happen(MODEL, DAY_ONE, named("cat", "vision"))
    past.happen(MODEL, DAY_ONE, named("dog", "vision"))

    assert ids(across(past, within=VISION.model_copy(update={"name_prefixes": ("cat",)}))) == [seen.event_id]


@pytest.mark.parametrize("about", ["no JSON", "[]", '[{"name": 5}]', None])
def test_names_that_cannot_be_read_are_seen_by_nobody_with_limits(past, about):
    event = past.happen(MODEL, DAY_ONE, named("cat", "vision"))
    overwrite(event, about=about)

    assert ids(across(past, within=VISION)) == ids(of_subject(past, within=VISION)) == []
    assert ids(across(past)) == [event.event_id]


def test_nothing_of_another_project_has_a_part_in_answers_pages_or_the_number_of_calls(past):
    busy_days(past, 9, "vision")
    busy_days(past, 5, "audio")

    def told() -> tuple[list[TrailPage], list[TrailPage], int]:
        with watched_calls(nothing, nothing) as calls:
            found = across(past, limit=2, within=VISION)
            narrowed = across(past, limit=2, within=VISION, actor="alice")
        return found, narrowed, len(calls)

    before = told()
    busy_days(past, 30, "secret")
    busy_days(past, 30)
    past.happen("MODEL#moved-away-0000001", DAY_ONE, named("cat", "vision"), named("cat", "secret"))

    assert told() == before


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    projects=st.lists(st.sampled_from(["vision", "audio", "secret", None]), max_size=16),
    limit=st.integers(1, 6),
    within=st.sampled_from([EVERYWHERE, VISION, BOTH]),
)
def test_pages_hold_what_is_seen_each_once_in_order(aws, projects, limit, within):
    get_backend("dynamodb").reset()
    create_tables()
    past = Past(DynamoTrail(quick(), monotonic=lambda: 0))
    for number, project in enumerate(projects):
        past.happen(f"MODEL#{number % 3:016d}", DAY_ONE + timedelta(hours=number * 7), named("cat", project))
    seen = {event.event_id for event in past.events if all(within.sees(name) for name in event.about)}

    found = ids(across(past, limit, within, since=DAY_ONE, until=DAY_ONE + timedelta(days=9)))

    assert found == [one for one in past.newest_first if one in seen]


# --- Bounds ------------------------------------------------------------------------------------------------------


def small_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """DynamoDB reads 1 MB at once; here it is little more than one event."""
    monkeypatch.setattr("moto.dynamodb.models.table.RESULT_SIZE_LIMIT", 1_000)


def test_a_request_asks_only_so_often_and_says_where_to_go_on(past, monkeypatch):
    monkeypatch.setattr(module, "MAX_QUERIES", 5)
    busy_days(past)

    with watched_calls(nothing, nothing) as calls:
        page = past.trail.across(TrailFilters(action="token.revoked"), NOW, 10)

    assert (page.entries, page.after) == ((), "2026-01-29#~")
    assert len(calls) <= 5
    assert ids(across(past, action="version.updated")) == past.newest_first


def test_a_request_ends_when_its_time_is_up(past, monkeypatch):
    seconds = iter([0.0, *[5.0] * 3, *[20.0] * 100])
    past.trail = DynamoTrail(quick(), monotonic=lambda: next(seconds))

    page = past.trail.across(TrailFilters(), NOW, 10)

    assert (page.entries, page.after) == ((), "2026-01-25#~")


@pytest.mark.parametrize(("within", "queries"), [(EVERYWHERE, 1), (EVERYWHERE, 7), (CATS, 2), (CATS, 3), (CATS, 9)])
def test_whoever_follows_the_pages_gets_everything_however_little_a_request_reads(past, monkeypatch, within, queries):
    small_answers(monkeypatch)
    for number in range(30):
        past.happen(MODEL, DAY_ONE + timedelta(minutes=number), named("cat" if number % 10 == 3 else "dog"))
    monkeypatch.setattr(module, "MAX_QUERIES", queries)
    seen = [event.event_id for event in reversed(past.events) if all(within.sees(name) for name in event.about)]

    since = DAY_ONE - timedelta(days=1)
    assert ids(across(past, within=within, since=since)) == seen
    assert ids(of_subject(past, within=within)) == seen


@pytest.mark.parametrize("queries", [2, 5])
def test_no_position_tells_of_an_event_that_is_not_seen(past, monkeypatch, queries):
    small_answers(monkeypatch)
    monkeypatch.setattr(module, "MAX_QUERIES", queries)
    for number in range(40):
        past.happen(MODEL, DAY_ONE + timedelta(minutes=number), named("cat" if number == 20 else "dog"))
    hidden = {event.event_id for event in past.events if event.about[0].name == "dog"}

    found = across(past, within=CATS, since=DAY_ONE - timedelta(days=1))

    positions = [page.after.partition("#")[2] for page in found if page.after]
    assert positions
    for position in positions:
        # Never more than the time in it, and mostly less.
        assert not any(one.startswith(position.rstrip("~")) for one in hidden if len(position.rstrip("~")) > 10)
        assert re.fullmatch(r"[0-9A-Z]{26}|[0-9A-Z]{0,10}~", position)
    told = [page.after for page in of_subject(past, within=CATS) if page.after]
    assert all(re.fullmatch(r"0{9}021|\d{5,12}~", one) for one in told)


def test_a_query_that_is_throttled_is_repeated(past):
    busy_days(past)
    failed: list[str] = []

    def throttle_twice(operation: str, number: int) -> None:
        if len(failed) < 2:
            failed.append(operation)
            raise throttled(operation)

    with watched_calls(throttle_twice, nothing):
        assert ids(across(past)) == past.newest_first


# --- For checkpoints ---------------------------------------------------------------------------------------------


def test_the_links_of_a_day_are_those_of_all_subjects_oldest_first(past, monkeypatch):
    small_answers(monkeypatch)
    busy_days(past)

    found = list(past.trail.links("2026-01-10"))

    today = [event for event in past.events if event.at.startswith("2026-01-10")]
    assert [(link.subject, link.seq, link.prev, link.digest, link.at) for link in found] == [
        (event.subject, event.seq, event.prev, event.digest, event.at) for event in today
    ]


def test_the_links_of_a_subject_begin_where_one_says(past):
    events = [past.happen(MODEL, DAY_ONE, named("cat")) for _ in range(4)]

    assert [link.digest for link in past.trail.links_of(MODEL, 3)] == [event.digest for event in events[2:]]
    assert len(past.trail.links_of(MODEL, 1)) == 4
