"""What the demos say, and how they ask: each step with the command that does the same, then what came of it."""

import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests

from demo.server import ROOT, NoRegistryError

_TIMEOUT_SECONDS = 60
_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class DemoFailedError(Exception):
    """Something is not as it should be; the text says what."""


def exit_code(demo: Callable[[], None]) -> int:
    """Run a demo, and say what went wrong. Whatever tells it to stop, it stops what it started first."""
    for number in _STOPS:
        signal.signal(number, _stop_once)
    try:
        demo()
    except requests.RequestException as exc:
        asked = exc.request.url if exc.request else "somebody"
        print(f"The demo failed: no answer from {asked} ({type(exc).__name__}).", file=sys.stderr)
        return 1
    except (DemoFailedError, NoRegistryError, OSError) as exc:
        print(f"The demo failed: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _stop_once(number: int, _: object) -> None:
    # A second signal would interrupt the clean stop that the first one begins.
    for each in _STOPS:
        signal.signal(each, lambda *_: None)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)


def new_directory(name: str) -> Path:
    """A directory in `build`, empty. It stays, so that the commands shown can be repeated."""
    directory = ROOT / "build" / name
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    return directory


def call(method: str, url: str, expected: int, **request: Any) -> requests.Response:
    """The answer. Raises DemoFailedError if its status is not the expected one."""
    answer = requests.request(method, url, timeout=_TIMEOUT_SECONDS, **request)
    require(
        answer.status_code == expected,
        f"{method} {url} answered {answer.status_code} instead of {expected}: {answer.text[:500]}",
    )
    return answer


def shown(path: Path) -> Path:
    """A path as somebody types it who stands where the Makefile is."""
    return path.relative_to(ROOT)


def require(is_so: bool, otherwise: str) -> None:
    if not is_so:
        raise DemoFailedError(otherwise)


def step(title: str) -> None:
    print(f"\n{title}", flush=True)


def command(text: str) -> None:
    print(f"  $ {text}", flush=True)


def tell(text: str) -> None:
    print(f"  {text}", flush=True)
