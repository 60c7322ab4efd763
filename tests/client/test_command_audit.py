"""`modelreg audit verify` and `export`, and what the SDK reads for them."""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest
from modelreg import Checkpoint, ConnectionFailed, InvalidInput, Registry, Unavailable
from modelreg.commands import audit

from tests.client.command_stage import URL, Stage, stage
from tests.client.fake_registry import FakeRegistry, s3_error
from tests.client.trail_stage import BEGAN, CAT, DOG, EDITS, Event, checkpoint_of, export_of, happened, of, rewritten

NOW = BEGAN + timedelta(days=30)


@pytest.fixture
def modelreg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    class Clock(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:
            return NOW

    monkeypatch.setattr(audit, "datetime", Clock)
    return stage(tmp_path, monkeypatch)


@pytest.fixture
def events(modelreg: Stage) -> list[Event]:
    modelreg.registry.documents = happened([CAT, DOG, CAT, CAT])
    return modelreg.registry.documents


@pytest.fixture
def checkpoint(events: list[Event], tmp_path: Path) -> Path:
    path = tmp_path / "2026-03-21T1200Z.jsonl"
    path.write_bytes(b"".join(checkpoint_of(events)))
    return path


def keep(modelreg: Stage, *files: bytes) -> None:
    """Have the registry keep these checkpoints, the newest first."""
    for number, content in enumerate(files):
        known = Checkpoint(
            key=f"checkpoints/{number}",
            written_at=NOW,
            until=NOW,
            subjects=1,
            sha256=hashlib.sha256(content).hexdigest(),
            url="https://s3.test/secret",
        )
        modelreg.registry.stored_checkpoints.append((known, content))


# --- export ------------------------------------------------------------------------------------------------------


def test_an_export_is_json_lines_with_a_beginning_and_an_end(modelreg, events):
    ran = modelreg("audit", "export")

    first, *lines, last = map(json.loads, ran.lines)
    assert first == {
        "export": {
            "format": "model-registry-export/1", "registry": URL, "since": None, "until": None,
            "read_at": "2026-03-31T12:00:00.000000Z",
        }
    }  # fmt: skip
    assert lines == events
    assert last == {"end": {"events": 4}}
    assert (ran.exit_code, ran.stderr) == (0, "4 events\n")


def test_an_export_goes_to_a_new_file_of_ones_own(modelreg, events, tmp_path):
    target = tmp_path / "trail.jsonl"

    ran = modelreg("audit", "export", "-o", target)

    assert (ran.exit_code, ran.stdout, ran.stderr) == (0, "", f"4 events in {target}\n")
    assert len(target.read_text().splitlines()) == 6
    assert target.stat().st_mode & 0o077 == 0
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["trail.jsonl"]


def test_an_export_is_never_replaced(modelreg, events, tmp_path):
    target = tmp_path / "trail.jsonl"
    target.write_text("evidence")

    ran = modelreg("audit", "export", "-o", target)

    assert (ran.exit_code, target.read_text()) == (8, "evidence")


def test_an_export_that_breaks_off_leaves_no_file(modelreg, events, tmp_path):
    def broken() -> Any:
        yield events[0]
        raise Unavailable("The registry is busy.")

    modelreg.registry.documents = broken()

    ran = modelreg("audit", "export", "-o", tmp_path / "trail.jsonl")

    assert (ran.exit_code, [path for path in tmp_path.iterdir() if path.is_file()]) == (7, [])


def test_an_export_without_a_place_says_so(modelreg, events, tmp_path):
    ran = modelreg("audit", "export", "-o", tmp_path / "nowhere" / "trail.jsonl")

    assert ran.exit_code == 8
    assert "cannot be written" in ran.stderr


def test_an_export_of_a_time_asks_for_it_and_says_so(modelreg, events):
    ran = modelreg("audit", "export", "--since", "7d", "--until", "2026-03-30", "--quiet")

    since, until = NOW - timedelta(days=7), datetime(2026, 3, 30, tzinfo=UTC)
    assert modelreg.arguments_of("event_documents") == {"since": since, "until": until}
    told = json.loads(ran.lines[0])["export"]
    assert (told["since"], told["until"]) == ("2026-03-24T12:00:00.000000Z", "2026-03-30T00:00:00.000000Z")
    assert ran.stderr == ""


def test_a_time_that_is_none_is_refused(modelreg, events):
    assert modelreg("audit", "export", "--since", "soon").exit_code == 5


# --- verify ------------------------------------------------------------------------------------------------------


def test_what_was_exported_verifies(modelreg, events, checkpoint, tmp_path):
    target = tmp_path / "trail.jsonl"
    modelreg("audit", "export", "-o", target)
    modelreg.environment["MODELREG_URL"] = None

    ran = modelreg("audit", "verify", target, "--checkpoint", checkpoint)

    assert (ran.exit_code, ran.stdout) == (0, "")
    assert ran.stderr == "4 events of 2 subjects: as they were written; 2 heads of 1 checkpoint compared\n"


def test_a_registry_verifies_itself_and_says_what_that_does_not_show(modelreg, events):
    ran = modelreg("audit", "verify")

    assert ran.exit_code == 0
    assert "compared with no checkpoint, so an end that was cut off would not show" in ran.stderr
    assert modelreg.arguments_of("event_documents") == {}


def test_a_registry_is_compared_with_the_checkpoints_that_it_keeps(modelreg, events, checkpoint):
    keep(modelreg, checkpoint.read_bytes(), checkpoint.read_bytes())

    one, two = modelreg("audit", "verify", "--online"), modelreg("audit", "verify", "--online", "--newest", "2")

    assert "2 heads of 1 checkpoint compared" in one.stderr
    assert "4 heads of 2 checkpoints compared" in two.stderr
    # What a checkpoint knows of has to be there when the events are read.
    assert [method for method, _ in modelreg.registry.calls][-4:] == [
        *("checkpoints", "read_checkpoint", "read_checkpoint", "event_documents"),
    ]


def test_a_file_is_compared_with_the_checkpoints_of_the_registry(modelreg, events, checkpoint, tmp_path):
    keep(modelreg, checkpoint.read_bytes())
    file = tmp_path / "trail.jsonl"
    file.write_text("\n".join(export_of(of(events, CAT)[::-1])))

    ran = modelreg("audit", "verify", file, "--online")

    assert ran.exit_code == 11
    assert ran.lines == [f"{DOG}\t1\tcheckpoint\tthere is no event, checkpoint checkpoints/0 says 1"]


def test_a_registry_without_a_checkpoint_says_so(modelreg, events):
    ran = modelreg("audit", "verify", "--online")

    assert ran.exit_code == 8
    assert "no checkpoint yet" in ran.stderr


def test_the_first_wrong_event_of_each_subject_is_named_and_the_first_of_all_said(modelreg, events):
    for event in (*of(events, CAT)[1:], *of(events, DOG)):
        EDITS["actor's name"](event)

    ran = modelreg("audit", "verify")

    what = "is not what it was: its content and its digest differ"
    assert ran.exit_code == 11
    assert ran.lines == [f"{CAT}\t2\tchain\tevent 2 {what}", f"{DOG}\t1\tchain\tevent 1 {what}"]
    assert ran.stderr.splitlines()[0] == f"modelreg: {CAT}: event 2 {what} (and 1 more)."
    assert ran.stderr.splitlines()[1].startswith("hint: ")


def test_in_json_there_is_one_document(modelreg, events, checkpoint):
    whole = modelreg("audit", "verify", "--checkpoint", checkpoint, "--json").document
    rewritten(of(events, CAT)[1:])
    broken = modelreg("audit", "verify", "--checkpoint", checkpoint, "--json")

    assert whole == {
        "events": 4, "subjects": 2, "since": None, "until": None, "is_from_start": True,
        "checkpoints": [checkpoint.name], "heads_compared": 2, "heads_not_covered": 0, "broken": [],
    }  # fmt: skip
    assert broken.exit_code == 11
    assert broken.document["broken"] == [
        {"subject": CAT, "seq": 2, "what": "event 2 does not follow event 1 as it was written", "by": "chain"}
    ]
    assert json.loads(broken.stderr)["error"]["code"] == "broken_trail"


def test_what_a_file_says_never_reaches_a_terminal_raw(modelreg, events):
    events[0]["subject"] = "\x1b[2J\u202e"

    ran = modelreg("audit", "verify")

    assert ran.exit_code == 11
    assert not set(ran.stdout + ran.stderr) & set("\x1b\u202e")


def test_a_file_that_is_not_there_is_a_problem_here(modelreg, events, tmp_path):
    missing = tmp_path / "missing.jsonl"

    assert modelreg("audit", "verify", missing).exit_code == 8
    assert modelreg("audit", "verify", "--checkpoint", missing).exit_code == 8


def test_a_number_of_checkpoints_needs_the_registry(modelreg, events):
    assert modelreg("audit", "verify", "--newest", "3").exit_code == 2


# --- the SDK -----------------------------------------------------------------------------------------------------


def test_event_documents_come_as_they_are_over_all_pages(fake: FakeRegistry, registry: Registry):
    for number in range(5):
        fake.add_event(changes={"score": [number, 1.0]}, something_new={"x": None})

    found = list(registry.event_documents(since=NOW - timedelta(days=1), until=NOW))

    assert found == fake.events
    asked = parse_qs(fake.requests[0].url.query.decode())
    assert asked["limit"] == ["1000"]
    assert (asked["since"], asked["until"]) == (["2026-03-30T12:00:00.000000Z"], ["2026-03-31T12:00:00.000000Z"])


def test_a_time_without_a_zone_is_refused(registry: Registry):
    with pytest.raises(InvalidInput):
        registry.event_documents(since=datetime(2026, 1, 1))


def test_checkpoints_are_listed_and_read(fake: FakeRegistry, registry: Registry):
    keys = [fake.add_checkpoint(f"content {day}".encode(), day) for day in (1, 2, 3)]

    found = list(registry.checkpoints())

    assert [known.key for known in found] == keys[::-1]
    assert [known.key for known in registry.checkpoints(limit=1)] == keys[-1:]
    assert [registry.read_checkpoint(known) for known in found] == [b"content 3", b"content 2", b"content 1"]


def test_where_a_checkpoint_is_fetched_is_told_nowhere(fake: FakeRegistry, registry: Registry):
    fake.add_checkpoint(b"x")

    [known] = registry.checkpoints()

    assert "secret" in known.url
    assert "secret" not in repr(known) + known.model_dump_json() + str(known)


def test_a_store_that_is_busy_is_asked_again(fake: FakeRegistry, registry: Registry):
    key = fake.add_checkpoint(b"x")
    [known] = registry.checkpoints()
    fake.fail("GET", key.rpartition("/")[2], s3_error(503, "SlowDown"), httpx.ReadError("lost"))

    assert registry.read_checkpoint(known) == b"x"


@pytest.mark.parametrize("answer", [s3_error(403, "AccessDenied"), s3_error(404, "NoSuchKey")])
def test_a_store_that_refuses_is_an_error_without_the_address(fake: FakeRegistry, registry: Registry, answer):
    key = fake.add_checkpoint(b"x")
    [known] = registry.checkpoints()
    fake.fail("GET", key.rpartition("/")[2], answer)

    with pytest.raises(ConnectionFailed) as caught:
        registry.read_checkpoint(known)

    assert key in str(caught.value)
    assert "secret" not in str(caught.value)
