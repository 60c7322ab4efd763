"""`modelreg login` against answers of all kinds: nothing is sent too early, shown, or stored in vain."""

import json
import stat
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from modelreg import Registry, session
from modelreg.retry import Patience

from tests.client.command_stage import SECRET, TOKEN, URL, Ran, Stage, stage
from tests.client.fake_registry import problem

HTML = httpx.Response(200, text="<html>log in</html>", headers={"Content-Type": "text/html"})
HEALTHY = httpx.Response(200, json={"status": "ok"})
EMPTY = httpx.Response(200, json=[])


class Door:
    """A registry that answers the two questions of a login, and remembers who asked."""

    def __init__(self, patience: Patience) -> None:
        self.answers = {"/health": HEALTHY, "/models": EMPTY}
        self.asked: list[tuple[str, str | None]] = []
        self._patience = patience

    def open(self, url: str, token: str | None) -> Registry:
        return Registry(url, token, transport=httpx.MockTransport(self._answer), patience=self._patience)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append((request.url.raw_path.decode(), request.headers.get("authorization")))
        return self.answers[request.url.path]


@pytest.fixture
def door(patience: Patience) -> Door:
    return Door(patience)


@pytest.fixture
def modelreg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, door: Door) -> Stage:
    ready = stage(tmp_path, monkeypatch)
    monkeypatch.setattr(session, "open_registry", door.open)
    return ready


def log_in(modelreg: Stage, text: str = TOKEN, *arguments: str) -> Ran:
    return modelreg("login", "--token-stdin", *arguments, stdin=text)


def test_a_token_is_sent_only_after_a_registry_has_answered(modelreg, door):
    ran = log_in(modelreg)

    assert ran.exit_code == 0
    assert door.asked == [("/health", None), ("/models?limit=1", f"Bearer {TOKEN}")]
    assert json.loads(modelreg.config.read_text()) == {"url": URL, "token": TOKEN}


@pytest.mark.parametrize("ending", ["\n", "\r\n", "  \n\n", ""])
def test_line_ends_around_a_token_do_not_matter(modelreg, ending):
    assert log_in(modelreg, f"{ending}{TOKEN}{ending}").exit_code == 0
    assert json.loads(modelreg.config.read_text())["token"] == TOKEN


@pytest.mark.parametrize(
    "text",
    [
        TOKEN[:-1], TOKEN[1:], f"{TOKEN}{TOKEN}", f"{TOKEN[:40]}\n{TOKEN[40:]}", f"{TOKEN} {TOKEN}", TOKEN.lower(), "",
        " \n", "mr_", "grün", f"\ufeff{TOKEN}", "\x00", "token", SECRET.id, f"Bearer {TOKEN}", "x" * 100_000,
        "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
    ],
)  # fmt: skip
@pytest.mark.parametrize("format_", [(), ("--json",)])
def test_what_is_no_whole_token_is_refused_before_anything_is_sent(modelreg, door, text, format_):
    ran = log_in(modelreg, text, *format_)

    assert (ran.exit_code, ran.stdout, door.asked, modelreg.config.exists()) == (5, "", [], False)
    assert len(text) < 10 or text not in ran.stderr
    assert TOKEN[-20:] not in ran.stderr


def test_a_damaged_token_is_called_so(modelreg):
    assert "checksum" in log_in(modelreg, TOKEN[:-1]).stderr


@pytest.mark.parametrize(
    ("path", "answer", "exit_code", "words"),
    [
        ("/models", problem(401, "unauthenticated", detail="The token X is expired."), 6, "is expired"),
        ("/models", httpx.Response(401, text="The token X is revoked: ask.\n"), 6, "is revoked"),
        ("/models", httpx.Response(403, json={"Message": "User: anonymous is not authorized"}), 6, "from this place"),
        ("/models", problem(503, "unavailable"), 7, "refused: unavailable"),
        ("/models", HTML, 7, "text/html"),
        ("/models", httpx.Response(404, text="Not here.\n"), 3, "Not here."),
        ("/health", HTML, 7, "text/html"),
        ("/health", httpx.Response(301, headers={"Location": "https://portal.test/"}), 7, "redirects"),
    ],
    ids=str,
)
def test_a_token_that_is_not_let_in_is_not_stored(modelreg, door, path, answer, exit_code, words):
    door.answers[path] = answer

    ran = log_in(modelreg)

    assert (ran.exit_code, modelreg.config.exists()) == (exit_code, False)
    assert words in ran.stderr
    assert TOKEN[-20:] not in ran.stderr
    assert path == "/models" or all(authorization is None for _, authorization in door.asked)


def test_who_is_not_let_in_is_not_told_to_log_in_again(modelreg, door):
    door.answers["/models"] = problem(401, "unauthenticated", detail="The token X is revoked: ask an admin.")

    ran = log_in(modelreg)

    assert "Nothing was stored" in ran.stderr
    assert "modelreg login" not in ran.stderr


def test_a_token_that_is_let_in_no_longer_says_to_log_in(modelreg, door):
    log_in(modelreg)
    door.answers["/models"] = problem(401, "unauthenticated", detail="The token X is expired.")

    ran = modelreg("ls")

    assert (ran.exit_code, ran.stdout) == (6, "")
    assert "The token X is expired." in ran.stderr
    assert "`modelreg login`" in ran.stderr


def test_without_a_token_one_is_asked_for(modelreg, door):
    door.answers["/models"] = problem(401, "unauthenticated", detail="This needs a token.")

    assert "No token was sent" in modelreg("ls").stderr


def test_a_variable_that_hides_the_stored_token_is_told_of(modelreg):
    modelreg.environment["MODELREG_TOKEN"] = TOKEN

    assert "MODELREG_TOKEN is set" in log_in(modelreg).stderr


def test_the_file_becomes_private_again(modelreg):
    modelreg.config.parent.mkdir(parents=True)
    modelreg.config.write_text("{}")
    modelreg.config.chmod(0o644)

    log_in(modelreg)

    assert stat.S_IMODE(modelreg.config.stat().st_mode) == 0o600


def test_a_token_that_others_can_read_is_told_of(modelreg):
    log_in(modelreg)
    assert modelreg("ls").stderr == ""
    modelreg.config.chmod(0o640)

    ran = modelreg("ls")

    assert ran.exit_code == 0
    assert f"others can read your token in {modelreg.config}" in ran.stderr


@pytest.mark.parametrize("write", [lambda text: json.dumps({"url": URL, "token": f"{text}\n"}), lambda text: text])
def test_a_line_end_in_the_token_file_does_not_show_the_token(
    modelreg: Stage, door: Door, write: Callable[[str], str]
) -> None:
    modelreg.config.parent.mkdir(parents=True)
    modelreg.config.write_text(write(TOKEN))
    modelreg.config.chmod(0o600)
    modelreg.environment["MODELREG_DEBUG"] = "1"

    ran = modelreg("ls")

    assert ran.exit_code == (0 if door.asked else 8)
    assert TOKEN not in ran.stderr


@pytest.mark.parametrize("inside", ["\n", " ", "\u00e9", "\x1b"])
def test_a_stored_token_with_a_line_end_inside_is_no_token(modelreg, door, inside):
    modelreg.config.parent.mkdir(parents=True)
    modelreg.config.write_text(json.dumps({"url": URL, "token": f"{TOKEN[:40]}{inside}{TOKEN[40:]}"}))

    ran = modelreg("ls")

    assert (ran.exit_code, door.asked) == (5, [])
    assert TOKEN[-20:] not in ran.stderr


def test_a_login_in_json_shows_no_token(modelreg):
    ran = log_in(modelreg, TOKEN, "--json")

    assert ran.document == {"url": URL, "path": str(modelreg.config)}
    assert TOKEN not in ran.stderr


def test_a_url_with_credentials_is_shown_without_them(modelreg: Stage, door: Door) -> None:
    ran = log_in(modelreg, TOKEN, "--url", "https://user:hunter2@registry.example.org")

    assert ran.exit_code == 0
    assert "hunter2" not in ran.stdout + ran.stderr
    assert door.asked[-1][1] == f"Bearer {TOKEN}"
