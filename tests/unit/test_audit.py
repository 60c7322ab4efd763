"""The digest chain: whatever is done to it afterwards shows, at the place where it was done."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.registry.access import Actor
from chalicelib.registry.audit import Action, BrokenChain, Change, Event, as_text, differences, verify_chain
from chalicelib.registry.models import Head
from tests.unit.test_models import version

ALICE = Actor(name="alice", source_ip="192.0.2.1", user_agent="curl/8")


def chain(length: int) -> list[Event]:
    events: list[Event] = []
    for number in range(length):
        change = Change(
            event_id=f"{number:026}",
            at=datetime(2026, 1, 1, tzinfo=UTC),
            actor=ALICE,
            action=Action.VERSION_UPDATED,
            changes=as_text({"score": (number, number + 1)}),
        )
        events.append(change.after("MODEL#m", events[-1].head if events else Head()))
    return events


def test_a_whole_chain_verifies() -> None:
    events = chain(5)

    verify_chain(events, events[-1].head)
    verify_chain([], Head())


@given(st.integers(0, 4), st.sampled_from(["event_id", "at", "changes", "subject"]))
def test_an_edited_event_is_found(at: int, field: str) -> None:
    events = chain(5)
    head = events[-1].head
    events[at] = events[at].model_copy(update={field: "forged"})

    with pytest.raises(BrokenChain):
        verify_chain(events, head)


def test_an_edited_actor_is_found() -> None:
    events = chain(2)
    head = events[-1].head
    events[0] = events[0].model_copy(update={"actor": Actor(name="mallory")})

    with pytest.raises(BrokenChain, match="event 2 does not follow event 1"):
        verify_chain(events, head)


@given(st.integers(0, 4))
def test_a_dropped_event_is_found(at: int) -> None:
    events = chain(5)
    head = events[-1].head
    del events[at]

    with pytest.raises(BrokenChain):
        verify_chain(events, head)


@given(st.permutations(range(4)).filter(lambda order: order != [0, 1, 2, 3]))
def test_reordered_events_are_found(order: list[int]) -> None:
    events = chain(4)

    with pytest.raises(BrokenChain):
        verify_chain([events[number] for number in order], events[-1].head)


def test_a_truncated_chain_is_found_by_its_head() -> None:
    events = chain(3)

    with pytest.raises(BrokenChain, match="the chain ends at event 2"):
        verify_chain(events[:2], events[-1].head)


def test_the_digest_of_an_event_stays_what_it_is() -> None:
    """Stored chains must verify for ever: this value may change only with a migration."""
    assert chain(1)[0].digest == "25e83fe0fa13dc58897564e69857381f7068d7429d29fa16e1248d29f7b6abc3"


def test_numbers_beyond_what_json_interchanges_do_not_stop_an_event() -> None:
    before, after = version(overview={"x": 1}), version(overview={"x": 2**80})
    change = Change(
        event_id="1",
        at=datetime(2026, 1, 1, tzinfo=UTC),
        actor=ALICE,
        action=Action.VERSION_UPDATED,
        changes=as_text(differences(before, after)),
    )

    assert str(2**80) in change.after("MODEL#m", Head()).changes


def test_differences_name_changed_fields_only() -> None:
    changed = differences(version(score=0.5, category="a"), version(score=0.7, category="a", origin="here"))

    assert changed == {"score": (0.5, 0.7), "origin": (None, "here")}


def test_few_tags_are_kept_as_they_are() -> None:
    before, after = version(tags={"a": "1", "b": "2"}), version(tags={"a": "1", "b": "3"})

    assert differences(before, after) == {"tags": ({"a": "1", "b": "2"}, {"a": "1", "b": "3"})}


def test_of_many_tags_those_are_kept_that_changed() -> None:
    same = {f"same {number}": "x" * 50_000 for number in range(3)}
    before = version(tags={**same, "changed": "x" * 90_000, "gone": "y"})
    after = version(tags={**same, "changed": "x" * 90_001, "new": "z"})

    had, has = differences(before, after)["tags"]

    assert list(had) == ["changed", "gone"]
    assert list(has) == ["changed", "new"]
    assert had["changed"] != has["changed"]
    assert had["changed"].startswith("x" * 100 + "... (90000 characters, SHA-256 ")
    assert list(differences(None, after)["tags"][1]) == ["changed", "new", *same]
    assert differences(None, after)["tags"][0] is None
    assert differences(after, after) == {}


def test_an_event_is_small_however_many_tags_changed() -> None:
    after = version(tags={f"k{number}": "" for number in range(100_000)})

    text = as_text(differences(version(), after))

    assert len(text) < 150_000
    assert '"...":"and ' in text
