"""`modelreg token` and `can`: what is printed once, what never, and what the exit code says."""

import errno
import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from modelreg import ConnectionFailed, Decision, Forbidden, InvalidInput, Project, cli
from modelreg.commands import tokens

from tests.client.command_stage import CREATED, SECRET, TOKEN, Ran, Stage, stage, token

ESCAPE = re.compile("\x1b\\[[0-9;]*m")
REFUSAL = Decision(allowed=False, status=403, rule="This needs a token of role admin; it is of role publisher.")


@pytest.fixture
def modelreg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    return stage(tmp_path, monkeypatch)


@pytest.fixture
def ci(modelreg: Stage) -> str:
    known = token(projects=[Project(name="vision"), Project(id="p1", name="edge")], last_used_at=CREATED)
    modelreg.registry.known_tokens.append(known)
    return known.id


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[datetime]:
    """The time here, to be moved by hand."""
    now = [CREATED]

    class Clock(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:
            return now[0]

    monkeypatch.setattr(tokens, "datetime", Clock)
    return now


def broken(_self: object, _text: str, _document: object) -> None:
    raise BrokenPipeError(errno.EPIPE, "Broken pipe")


def everything(ran: Ran) -> str:
    return ran.stdout + ran.stderr


def test_a_new_token_is_all_that_standard_output_has(modelreg):
    ran = modelreg("token", "create", "ci", "--role", "publisher")

    assert (ran.exit_code, ran.stdout) == (0, f"{TOKEN}\n")
    assert TOKEN not in ran.stderr
    assert f"token {SECRET.id} of ci, publisher, does not expire" in ran.stderr


def test_with_json_a_new_token_is_one_document(modelreg):
    ran = modelreg("token", "create", "ci", "--role", "viewer", "--json", "--quiet")

    assert (ran.document["token"], ran.document["id"], ran.document["role"]) == (TOKEN, SECRET.id, "viewer")
    assert ran.stderr == ""


def test_limits_are_sent_as_they_are_given(modelreg):
    modelreg(
        "token", "create", "ci", "--role", "admin", "--project", "vision", "--project", "a=b",
        "--project-id", "p1=edge", "--project-id", "p2", "--prefix", "det", "--expires", "2027-01-31",
    )  # fmt: skip

    assert modelreg.arguments_of("create_token") == {
        "name": "ci",
        "role": "admin",
        "projects": [{"name": "vision"}, {"name": "a=b"}, {"id": "p1", "name": "edge"}, {"id": "p2"}],
        "name_prefixes": ["det"],
        "expires_at": datetime(2027, 1, 31, tzinfo=UTC),
    }


def test_a_length_of_time_counts_from_now(modelreg, clock):
    ran = modelreg("token", "create", "ci", "--role", "viewer", "--expires", "30d")

    assert modelreg.arguments_of("create_token")["expires_at"] == CREATED + timedelta(days=30)
    assert "expires 2026-02-01 03:04:05 UTC" in ran.stderr
    assert "clock" not in ran.stderr


@pytest.mark.parametrize(("hours", "words"), [(3, "3 h 0 min ahead of"), (-1, "1 h 0 min behind")])
def test_a_clock_that_is_wrong_is_told_of_where_it_counted(modelreg, clock, hours, words):
    clock[0] += timedelta(hours=hours)

    assert words in modelreg("token", "create", "ci", "--role", "viewer", "--expires", "30d").stderr
    assert "clock" not in modelreg("token", "create", "ci", "--role", "viewer", "--expires", "2027-01-31").stderr


@pytest.mark.parametrize(
    ("arguments", "exit_code"),
    [
        (["--role", "owner"], 2),
        ([], 2),
        (["--role", "viewer", "--project-id", "=edge"], 2),
        (["--role", "viewer", "--project-id", "p1="], 2),
        (["--role", "viewer", "--expires", "soon"], 5),
        (["--role", "viewer", "--expires", ""], 5),
    ],
)
def test_a_token_that_cannot_be_is_not_asked_for(modelreg, arguments, exit_code):
    ran = modelreg("token", "create", "ci", *arguments)

    assert (ran.exit_code, ran.stdout, modelreg.registry.calls) == (exit_code, "", [])


def test_a_token_that_could_not_be_printed_is_revoked(modelreg, monkeypatch):
    monkeypatch.setattr("modelreg.output.Output.line", broken)

    ran = modelreg("token", "create", "ci", "--role", "viewer")

    assert (ran.exit_code, modelreg.arguments_of("revoke_token")) == (8, {"token_id": SECRET.id})
    assert "so it was revoked" in ran.stderr
    assert TOKEN not in everything(ran)


def test_a_token_that_could_be_neither_printed_nor_revoked_is_named(modelreg, monkeypatch):
    monkeypatch.setattr("modelreg.output.Output.line", broken)
    modelreg.fail("revoke_token", ConnectionFailed("Nobody answers."))

    ran = modelreg("token", "create", "ci", "--role", "viewer")

    assert ran.exit_code == 8
    assert f"modelreg token revoke {SECRET.id}" in ran.stderr


def test_who_may_not_create_tokens_hears_why(modelreg):
    modelreg.fail("create_token", Forbidden("This needs an admin token without limits; yours is limited."))

    ran = modelreg("token", "create", "ci", "--role", "viewer")

    assert (ran.exit_code, ran.stdout) == (6, "")
    assert "without limits" in ran.stderr


def test_tokens_are_listed_in_lines_and_json(modelreg, ci):
    ran = modelreg("token", "ls")

    assert ran.lines[0].split("\t") == [
        ci, "ci", "publisher", "active", "vision, edge (p1)", "", "2026-01-02T03:04:05.000000Z", "",
        "2026-01-02T03:04:05.000000Z",
    ]  # fmt: skip
    assert modelreg("token", "ls", "--json").document[0]["created_at"] == "2026-01-02T03:04:05.000000Z"
    assert modelreg("token", "ls", "--limit", "1").exit_code == 0


def test_a_terminal_gets_tokens_with_times_for_people(modelreg, ci):
    modelreg.show_terminal()
    modelreg.environment.update(COLUMNS="180", NO_COLOR="1")

    heading, row = (ESCAPE.sub("", line) for line in modelreg("token", "ls").lines)

    assert heading.split() == ["ID", "NAME", "ROLE", "STATE", "PROJECTS", "PREFIXES", "CREATED", "EXPIRES", "USED"]
    assert "2026-01-02 03:04:05" in row


def test_a_token_is_shown_with_all_that_is_known(modelreg, ci):
    shown = dict(line.split("\t") for line in modelreg("token", "show", ci).lines)

    assert (shown["id"], shown["state"], shown["name_prefixes"]) == (ci, "active", "")


def test_a_token_that_is_not_there_says_where_they_are(modelreg):
    ran = modelreg("token", "show", SECRET.id)

    assert ran.exit_code == 3
    assert "modelreg token ls" in ran.stderr


@pytest.mark.parametrize("command", [("token", "show"), ("token", "revoke", "--yes"), ("can",)])
def test_a_whole_token_is_taken_for_its_id_and_never_repeated(modelreg, ci, command):
    words = ["read"] if command == ("can",) else []

    ran = modelreg(*command, TOKEN, *words)

    assert ran.exit_code == 0
    assert ci in ran.stderr
    assert "history" in ran.stderr
    assert TOKEN[-20:] not in everything(ran) + str(modelreg.registry.calls)


@pytest.mark.parametrize("text", ["ci", "ghp_16C7e42F292c6912E7710c838347Ae178B4a", "grün", ""])
def test_what_is_no_token_is_refused_and_not_repeated(modelreg, text):
    ran = modelreg("token", "revoke", text, "--yes")

    assert (ran.exit_code, modelreg.registry.calls) == (5, [])
    assert not text or text not in ran.stderr.replace("since", "")


def test_nothing_is_revoked_where_nobody_can_be_asked(modelreg, ci):
    ran = modelreg("token", "revoke", ci)

    assert (ran.exit_code, modelreg.registry.calls) == (2, [])
    assert "--yes" in ran.stderr


def test_yes_revokes_without_asking_and_prints_the_id(modelreg, ci):
    ran = modelreg("token", "revoke", ci, "--yes")

    assert (ran.exit_code, ran.stdout) == (0, f"{ci}\n")
    assert modelreg("token", "revoke", ci, "--yes", "--json").document == {"id": ci}


@pytest.mark.parametrize(("answer", "is_revoked"), [("y\n", True), ("n\n", False), ("\n", False)])
def test_a_person_is_asked_and_told_which_token_would_go(modelreg, ci, answer, is_revoked):
    modelreg.show_terminal()

    ran = modelreg("token", "revoke", ci, stdin=answer)

    assert ran.exit_code == 0
    assert f"ci, publisher, active, last used 2026-01-02 03:04:05 UTC, id {ci}" in ran.stderr
    assert ("revoke_token" in [method for method, _ in modelreg.registry.calls]) is is_revoked


def test_what_is_allowed_is_told_with_its_rule(modelreg):
    ran = modelreg("can", SECRET.id, "update", "model-000000000001")

    assert (ran.exit_code, ran.stdout) == (0, "allowed\tRole publisher covers update.\n")
    assert modelreg.arguments_of("can") == {
        "token_id": SECRET.id, "action": "update", "model_id": "model-000000000001",
    }  # fmt: skip


def test_what_is_refused_has_an_exit_code_of_its_own(modelreg):
    modelreg.registry.decision = REFUSAL

    ran = modelreg("can", SECRET.id, "delete", "--name", "detector", "--project", "edge", "--project-id", "p1")

    assert (ran.exit_code, ran.stdout) == (10, f"refused\t{REFUSAL.rule}\n")
    assert modelreg.arguments_of("can") == {
        "token_id": SECRET.id, "action": "delete", "model_id": None, "name": "detector", "project_name": "edge",
        "project_id": "p1",
    }  # fmt: skip


def test_a_decision_in_json(modelreg):
    modelreg.registry.decision = REFUSAL

    ran = modelreg("can", SECRET.id, "delete", "--json")

    assert (ran.exit_code, ran.document) == (10, REFUSAL.model_dump())


def test_that_the_question_is_refused_is_no_answer(modelreg):
    modelreg.fail("can", Forbidden("This needs a token of role admin; yours is of role viewer."))

    assert modelreg("can", SECRET.id, "read").exit_code == 6


def test_a_refusal_that_nobody_reads_is_one_all_the_same(modelreg, monkeypatch):
    def unread(*_: object) -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr("modelreg.output.Output.pair", unread)
    modelreg.registry.decision = REFUSAL

    assert modelreg("can", SECRET.id, "delete").exit_code == 10


@pytest.mark.parametrize(
    "arguments", [["fly"], [], ["read", "model-000000000001", "--name", "detector"], ["read", "a", "b"]]
)
def test_a_question_that_is_none_is_an_error_of_usage(modelreg, arguments):
    ran = modelreg("can", SECRET.id, *arguments)

    assert (ran.exit_code, ran.stdout, modelreg.registry.calls) == (2, "", [])


def test_a_token_among_the_arguments_of_login_is_not_repeated(modelreg):
    for arguments in (["login", TOKEN], ["login", "--token", TOKEN], ["login", f"--token={TOKEN}"], [TOKEN]):
        ran = modelreg(*arguments)

        assert (ran.exit_code, TOKEN[-20:] in everything(ran)) == (2, False), arguments


def test_a_token_among_the_arguments_of_login_is_warned_of(modelreg):
    ran = modelreg("login", TOKEN)

    assert "Revoke it" in ran.stderr
    assert "Revoke it" in json.loads(modelreg("login", TOKEN, "--json").stderr)["error"]["hint"]


def test_a_url_with_a_token_among_the_arguments_is_warned_of(modelreg):
    url = f"https://user:{TOKEN}@registry.example.org"

    for arguments in (["ls", "--url", url], ["config", "set", "url", url], ["login", "--url", url]):
        ran = modelreg(*arguments)

        assert "history" in ran.stderr
        assert TOKEN not in everything(ran)
    assert "history" not in modelreg("ls").stderr


def test_a_closed_standard_output_loses_no_token():
    """As `modelreg token create ... >&-`: Python then has no standard output at all."""
    program = (
        "import sys; sys.stdout = None\n"
        "from tests.client.command_stage import RegistryInMemory\n"
        "from modelreg import cli, session\n"
        "registry = RegistryInMemory(); session.open_registry = registry.open\n"
        "try:\n    cli.main()\n"
        "finally:\n    print([name for name, _ in registry.calls], file=sys.stderr)"
    )
    client = Path(cli.__file__).parent.parent
    ran = subprocess.run(
        [sys.executable, "-c", program, "token", "create", "ci", "--role", "viewer", "--url", "https://registry.test"],
        stderr=subprocess.PIPE, text=True, check=False, cwd=client.parent,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{client}:{client.parent}", "HOME": "/nonexistent"},
    )  # fmt: skip

    assert (ran.returncode, ran.stderr.splitlines()[-1]) == (8, "['create_token', 'revoke_token', 'token']")


def test_an_error_that_repeats_a_token_is_cut(modelreg):
    modelreg.fail("tokens", InvalidInput(f"There is no {TOKEN} here."))

    assert f"There is no mr_{SECRET.id}_... here." in modelreg("token", "ls").stderr
