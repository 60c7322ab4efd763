"""`modelreg login` and `config`: where the registry is, and who may see the token."""

import json
import stat
from pathlib import Path

import pytest
from modelreg import ConnectionFailed, InvalidInput
from modelreg.config import checked_token, checked_url, without_secrets

from tests.client.command_stage import TOKEN, URL, Stage, stage

OTHER = "https://other.example.org/base"


@pytest.fixture
def modelreg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    ready = stage(tmp_path, monkeypatch)
    ready.environment["MODELREG_URL"] = None
    return ready


@pytest.fixture
def logged_in(modelreg: Stage) -> Stage:
    assert modelreg("login", "--url", URL, "--token-stdin", stdin=f"{TOKEN}\n").exit_code == 0
    modelreg.registry.opened.clear()
    return modelreg


def test_without_a_url_every_command_says_what_to_type(modelreg):
    ran = modelreg("ls")

    assert (ran.exit_code, ran.stdout) == (2, "")
    assert "modelreg config set url" in ran.stderr


def test_the_option_wins_over_the_variable_and_that_over_the_file(modelreg):
    modelreg("config", "set", "url", "https://file.example.org/")
    modelreg("ls")
    modelreg.environment["MODELREG_URL"] = "https://variable.example.org"
    modelreg("ls")
    modelreg("ls", "--url", "https://option.example.org")

    assert [url for url, _ in modelreg.registry.opened] == [
        "https://file.example.org",
        "https://variable.example.org",
        "https://option.example.org",
    ]


def test_login_stores_url_and_token_for_the_owner_only(logged_in):
    assert json.loads(logged_in.config.read_text()) == {"url": URL, "token": TOKEN}
    assert stat.S_IMODE(logged_in.config.stat().st_mode) == 0o600
    assert stat.S_IMODE(logged_in.config.parent.stat().st_mode) == 0o700
    assert [path.name for path in logged_in.config.parent.iterdir()] == ["config.json"]


def test_login_asks_for_the_token_where_somebody_can_be_asked(modelreg):
    modelreg.show_terminal()

    ran = modelreg("login", "--url", URL, stdin=f"{TOKEN}\n")

    assert ran.exit_code == 0
    assert json.loads(modelreg.config.read_text())["token"] == TOKEN
    assert TOKEN not in ran.stdout + ran.stderr


def test_login_without_a_terminal_needs_the_option(modelreg):
    ran = modelreg("login", "--url", URL, stdin=f"{TOKEN}\n")

    assert (ran.exit_code, modelreg.config.exists()) == (2, False)
    assert "--token-stdin" in ran.stderr


def test_login_saves_nothing_if_the_server_does_not_answer(modelreg):
    modelreg.fail("health", ConnectionFailed("Nobody answers."))

    ran = modelreg("login", "--url", URL, "--token-stdin", stdin=TOKEN)

    assert (ran.exit_code, modelreg.config.exists()) == (7, False)


def test_the_stored_token_is_sent_to_its_own_url_only(logged_in):
    logged_in("ls")
    logged_in("ls", "--url", "HTTPS://Registry.example.org/")
    logged_in("ls", "--url", OTHER)
    logged_in.environment["MODELREG_URL"] = OTHER
    logged_in("ls")

    assert [token for _, token in logged_in.registry.opened] == [TOKEN, TOKEN, None, None]


def test_the_variable_for_the_token_holds_for_every_url(logged_in):
    logged_in.environment["MODELREG_TOKEN"] = "mine"

    logged_in("ls", "--url", OTHER)

    assert logged_in.registry.opened == [(OTHER, "mine")]


def test_config_shows_where_settings_come_from_but_no_secret(logged_in):
    logged_in.environment["MODELREG_URL"] = "https://user:hunter2@registry.example.org"

    ran = logged_in("config", "--json")

    assert ran.document == {
        "url": {"value": URL, "source": "MODELREG_URL"},
        "token": {"value": "set", "source": str(logged_in.config)},
    }
    assert "hunter2" not in logged_in("config").stdout + ran.stdout


def test_config_without_settings_says_that_nothing_is_set(modelreg):
    assert modelreg("config").lines == ["url\tnot set\t", "token\tnot set\t"]


def test_another_url_drops_the_token_of_the_former(logged_in):
    ran = logged_in("config", "set", "url", OTHER)

    assert json.loads(logged_in.config.read_text()) == {"url": OTHER}
    assert "modelreg login" in ran.stderr


def test_the_same_url_keeps_the_token(logged_in):
    logged_in("config", "set", "url", f"{URL}/")

    assert json.loads(logged_in.config.read_text())["token"] == TOKEN


def test_a_token_is_never_an_argument(logged_in):
    ran = logged_in("config", "set", "token", "argued")

    assert ran.exit_code == 2
    assert "argued" not in ran.stderr + logged_in.config.read_text()


def test_unset_forgets_the_token_or_both(logged_in):
    logged_in("config", "unset", "token")
    assert json.loads(logged_in.config.read_text()) == {"url": URL}

    logged_in("config", "unset", "url")
    assert json.loads(logged_in.config.read_text()) == {}


def test_keys_that_are_not_known_are_kept(modelreg):
    modelreg.config.parent.mkdir(parents=True)
    modelreg.config.write_text('{"later": 1}')

    modelreg("config", "set", "url", URL)

    assert json.loads(modelreg.config.read_text()) == {"later": 1, "url": URL}


@pytest.mark.parametrize("content", ["{", "[]", '{"url": 1}', "\udcff"])
def test_a_damaged_config_file_is_named(modelreg, content):
    modelreg.config.parent.mkdir(parents=True)
    modelreg.config.write_bytes(content.encode("utf-8", "surrogateescape"))

    ran = modelreg("ls")

    assert ran.exit_code == 8
    assert str(modelreg.config) in ran.stderr


def test_the_file_is_where_xdg_says(modelreg, tmp_path):
    modelreg.environment["XDG_CONFIG_HOME"] = str(tmp_path / "xdg")
    assert modelreg("config", "path").lines == [str(tmp_path / "xdg/modelreg/config.json")]

    modelreg.environment["XDG_CONFIG_HOME"] = "relative"
    assert modelreg("config", "path").lines == [str(modelreg.config)]


@pytest.mark.parametrize(
    "url", ["registry", "ftp://x", "https://", "https://x/?a=1", "https://x/#f", "https://x y", "https://x:port"]
)
def test_what_is_no_url_is_refused_and_not_repeated(modelreg, url):
    ran = modelreg("config", "set", "url", url)

    assert (ran.exit_code, modelreg.config.exists()) == (5, False)


@pytest.mark.parametrize("token", ["", "  ", "two words", "line\nbreak", "ümlaut", "\x1b"])
def test_what_cannot_stand_in_a_header_is_no_token(token):
    with pytest.raises(InvalidInput):
        checked_token(token)


def test_a_url_is_shown_without_its_credentials():
    assert without_secrets("HTTPS://user:hunter2@Host:8443/Base/") == "https://host:8443/Base"
    assert checked_url(" http://localhost:4566/a/b/ ") == "http://localhost:4566/a/b"
