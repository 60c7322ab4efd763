"""`modelreg events`: whose events are asked for, and how they are printed."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from modelreg import Unavailable
from modelreg.commands import trail

from tests.client.command_stage import SECRET, TOKEN, Stage, event, model, stage

ESCAPE = re.compile("\x1b\\[[0-9;]*m")
NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
GONE = "00000000-0000-4000-8000-000000000009"


@pytest.fixture
def modelreg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    class Clock(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:
            return NOW

    monkeypatch.setattr(trail, "datetime", Clock)
    return stage(tmp_path, monkeypatch)


@pytest.fixture
def two(modelreg: Stage) -> None:
    modelreg.registry.trail = [event(2, changes={"tags": ({}, {"a\tb": "c"})}), event(1)]


def test_events_are_lines_with_tabs_where_nobody_watches(modelreg, two):
    ran = modelreg("events")

    assert [line.split("\t") for line in ran.lines] == [
        [
            f"2026-01-02T03:04:0{number}.000000Z", "version.updated",
            "MODEL#00000000-0000-4000-8000-000000000001", "ci", SECRET.id, changes,
        ]
        for number, changes in ((2, '{"tags": [{}, {"a\\tb": "c"}]}'), (1, '{"score": [0.5, 0.9]}'))
    ]  # fmt: skip
    assert (ran.exit_code, ran.stderr) == (0, "")


def test_events_in_json_are_an_array_as_the_api_has_them(modelreg, two):
    assert modelreg("events", "--json").document == [known.model_dump(mode="json") for known in modelreg.registry.trail]


def test_a_terminal_gets_a_table_that_says_what_became_what(modelreg, two):
    modelreg.show_terminal()
    modelreg.environment.update(COLUMNS="200", NO_COLOR="1")

    heading, *rows = (ESCAPE.sub("", line) for line in modelreg("events").lines)

    assert heading.split() == ["TIME", "ACTION", "SUBJECT", "BY", "TOKEN", "CHANGES"]
    assert "2026-01-02 03:04:01" in rows[1]
    assert "score: 0.5 -> 0.9" in rows[1]


def test_long_values_are_cut_and_new_or_gone_ones_left_out_for_people():
    assert (
        trail._changes_text(event(changes={"a": ("x" * 100, None), "b": (None, 1)}))
        == f"a: {'x' * 37}... -> none; b: none -> 1"
    )
    assert trail._changes_text(event(changes={"a": (None, 1), "b": (None, 2)})) == ""
    assert trail._changes_text(event(changes={"a": (1, None)})) == ""
    assert trail._changes_text(event(changes={})) == ""


def test_filters_are_sent_as_they_are_given(modelreg):
    modelreg(
        "events", "--since", "7d", "--until", "2026-06-30", "--actor", "ci", "--action", "version.updated", "--subject",
        "01ARZ3NDEKTSV4RRFFQ69G5FAV", "--limit", "3",
    )  # fmt: skip

    assert modelreg.arguments_of("events") == {
        "model_id": None, "since": NOW - timedelta(days=7), "until": datetime(2026, 6, 30, tzinfo=UTC), "actor": "ci",
        "action": "version.updated", "subject": "01ARZ3NDEKTSV4RRFFQ69G5FAV", "limit": 3,
    }  # fmt: skip


def test_without_filters_all_events_are_asked_for(modelreg):
    ran = modelreg("events")

    assert modelreg.arguments_of("events") == {"model_id": None, "limit": None}
    assert (ran.stdout, ran.stderr) == ("", "nothing happened\n")


@pytest.mark.parametrize("target", ["detector", "detector:v1", "detector@champion"])
def test_a_model_is_named_as_show_does(modelreg, target):
    known = modelreg.registry.add(model(1))
    modelreg.registry.alias_numbers["champion"] = 1

    modelreg("events", target)

    assert modelreg.arguments_of("events")["model_id"] == known.id


def test_the_events_of_a_model_that_is_gone_are_found_by_its_id(modelreg):
    modelreg("events", GONE)
    assert modelreg.arguments_of("events")["model_id"] == GONE

    modelreg.registry.calls.clear()
    modelreg("events", GONE, "--id")
    assert [method for method, _ in modelreg.registry.calls] == ["events"]


def test_a_name_that_nobody_has_is_not_found(modelreg):
    assert modelreg("events", "detector").exit_code == 3


def test_a_model_and_a_subject_cannot_both_be_meant(modelreg):
    ran = modelreg("events", GONE, "--subject", GONE)

    assert (ran.exit_code, modelreg.registry.calls) == (2, [])


@pytest.mark.parametrize("option", ["--since", "--until"])
@pytest.mark.parametrize("text", ["yesterday", ""])
def test_what_is_no_time_is_refused_with_those_that_are(modelreg, option, text):
    ran = modelreg("events", option, text)

    assert (ran.exit_code, modelreg.registry.calls) == (5, [])
    assert "2h" in ran.stderr


def test_events_that_break_off_leave_an_array_without_end(modelreg, monkeypatch):
    def breaking(*_: object, **__: object):
        yield event(1)
        raise Unavailable("The registry is busy.")

    monkeypatch.setattr(modelreg.registry, "events", breaking)

    ran = modelreg("events", "--json")

    assert (ran.exit_code, ran.stdout.rstrip()[-1]) == (7, "}")


def test_a_name_that_would_fool_a_terminal_is_shown_by_its_escapes(modelreg):
    actor = {"kind": "token", "name": "\x1b[2Jci\u202e"}
    modelreg.registry.trail = [event(1, actor=actor, changes={"name": ("a", "\x9b")})]
    modelreg.show_terminal()

    assert not set(modelreg("events").stdout) & set("\x9b\u202e")


def test_a_whole_token_as_actor_is_not_repeated(modelreg):
    ran = modelreg("events", "--actor", TOKEN)

    assert TOKEN not in ran.stdout + ran.stderr
