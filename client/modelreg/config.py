"""Where the registry is and with which token: an option, a variable or the config file, in this order.

The file is JSON, readable by its owner only, replaced as a whole. Its token belongs to its URL: it is sent nowhere
else, and goes when the URL changes. A `--url` of another registry therefore never sees it. Nothing is read at import.
"""

import contextlib
import json
import os
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from modelreg.errors import InvalidInput, LocalError

URL_VARIABLE, TOKEN_VARIABLE = "MODELREG_URL", "MODELREG_TOKEN"
EXAMPLE_URL = "https://registry.example.org"
NOT_SET = "not set"


class Settings(NamedTuple):
    """What holds for a command, and where each value comes from (`not set` beside None)."""

    url: str | None
    url_source: str
    token: str | None
    token_source: str

    def needed_url(self) -> str:
        """The URL. Raises InvalidInput that says what to type if there is none."""
        if self.url is None:
            raise InvalidInput(
                "It is not said where the registry is.",
                code="no_url",
                hint=f"Type `modelreg config set url {EXAMPLE_URL}`, set {URL_VARIABLE}, or use --url.",
            )
        return self.url


class ConfigFile:
    """The stored URL and token. Keys that are not known here are kept."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, Any]:
        """What is stored; empty if there is no file. Raises LocalError if it cannot be read."""
        try:
            stored = json.loads(self.path.read_text("utf-8"))
        except FileNotFoundError:
            return {}
        except OSError as exc:
            raise LocalError(f"{self.path} cannot be read: {exc.strerror}.") from exc
        except ValueError:
            raise self._damaged() from None  # the cause has the text of the file, token included
        if not isinstance(stored, dict) or not all(isinstance(stored.get(key, ""), str) for key in ("url", "token")):
            raise self._damaged()
        return stored

    def write(self, **values: str | None) -> None:
        """Store the values and drop those that are None, all or nothing. Raises LocalError."""
        changed = {**self.read(), **values}
        text = json.dumps({key: value for key, value in changed.items() if value is not None}, indent=2) + "\n"
        write_private(self.path, text)

    def is_private(self) -> bool:
        """Whether only its owner can read it; also if there is none."""
        try:
            return not stat.S_IMODE(self.path.stat().st_mode) & 0o077
        except OSError:
            return True

    def _damaged(self) -> LocalError:
        return LocalError(
            f"{self.path} is not a config file of modelreg.",
            hint="Correct it, or remove it and type `modelreg login` again.",
        )


def write_private(path: Path, text: str) -> None:
    """A file that only its owner can read, replaced as a whole. Raises LocalError."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _replace(path, text)
    except OSError as exc:
        raise LocalError(f"{path} cannot be written: {exc.strerror}.") from exc


def _replace(path: Path, text: str) -> None:
    # mkstemp makes the file 0600 from the start: at no moment can others read a token in it.
    descriptor, temporary = tempfile.mkstemp(prefix=".config.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise


def config_file(environment: Mapping[str, str]) -> ConfigFile:
    """The file of this user: under $XDG_CONFIG_HOME if that is an absolute path, else under ~/.config."""
    base = Path(environment.get("XDG_CONFIG_HOME") or "")
    if not base.is_absolute():
        base = Path(environment["HOME"] if environment.get("HOME") else Path.home()) / ".config"
    return ConfigFile(base / "modelreg" / "config.json")


def settings(url_option: str | None, environment: Mapping[str, str]) -> Settings:
    """The settings that hold. Raises InvalidInput for a URL that cannot be one, LocalError for an unreadable file."""
    file = config_file(environment)
    stored = file.read()
    url, url_source = _first(
        (url_option, "--url"), (environment.get(URL_VARIABLE), URL_VARIABLE), (stored.get("url"), str(file.path))
    )
    url = url and checked_url(url)
    # A stored token is for the stored URL only; the variable is the caller's own decision.
    own = stored.get("token") if url and _same(url, stored.get("url")) else None
    token, token_source = _first((environment.get(TOKEN_VARIABLE), TOKEN_VARIABLE), (own, str(file.path)))
    return Settings(url, url_source, token and checked_token(token), token_source)


def _first(*candidates: tuple[str | None, str]) -> tuple[str | None, str]:
    return next(((value, source) for value, source in candidates if value), (None, NOT_SET))


def _same(url: str, stored: str | None) -> bool:
    return bool(stored) and without_secrets(url) == without_secrets(checked_url(stored or ""))


def checked_url(url: str) -> str:
    """The URL as it is stored: no blanks around, no slash at the end. Raises InvalidInput."""
    url = url.strip().rstrip("/")
    try:
        parts = urlsplit(url)
        is_one = parts.scheme.lower() in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_one = False
    if not is_one or parts.query or parts.fragment or not url.isprintable() or " " in url:
        raise InvalidInput(
            "The URL of the registry is not one.",  # It may hold a password, so it is not repeated.
            field="url",
            hint=f"It begins with http:// or https:// and has neither `?` nor `#`, such as {EXAMPLE_URL}.",
        )
    return url


def checked_token(token: str) -> str:
    """The token without blanks around it. Raises InvalidInput if it is empty or cannot stand in a header."""
    token = token.strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise InvalidInput(
            "The token is empty or has characters that no token has.",
            field="token",
            hint="Copy it once more: it is one word of letters, digits and punctuation.",
        )
    return token


def has_credentials(url: str | None) -> bool:
    """Whether the URL carries a user or a password."""
    return "@" in urlsplit(url or "").netloc


def without_secrets(url: str) -> str:
    """The URL as it may be shown: without user and password, scheme and host in lower case."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2].lower()
    return urlunsplit((parts.scheme.lower(), host, parts.path.rstrip("/"), "", ""))
