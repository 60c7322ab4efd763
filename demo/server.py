"""The registry that the demo talks to: one that runs already, or one of its own for as long as it needs it."""

import contextlib
import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import requests

ROOT = Path(__file__).resolve().parent.parent
# What `make run` serves unless told otherwise.
USUAL_URL = "http://localhost:4566/restapis/registry/api/_user_request_"
_STOP_SECONDS = 120
_HEALTH_SECONDS = 30


class NoRegistryError(Exception):
    """There is no registry to talk to; the text says what to do."""


@contextlib.contextmanager
def running_registry(url: str | None, python: str) -> Iterator[str]:
    """The base URL of a registry that answers.

    Without a URL it is the one that `make run` serves or, if nothing answers there, one started for the occasion by
    `python`, on a free port, whose data is gone at the end. Raises NoRegistryError.
    """
    if url or _answers(USUAL_URL):
        yield given_registry(url or USUAL_URL)
    else:
        print("No registry runs here (`make run`); starting one for the demo.", flush=True)
        with started_registry(python) as started:
            yield started


def given_registry(url: str) -> str:
    """The base URL of a registry that is there. Raises NoRegistryError."""
    wanted = url.rstrip("/")
    if not _answers(wanted):
        raise NoRegistryError(
            f"No healthy registry answers at {wanted}/health: URL is what `make run` prints as READY."
        )
    print(f"The registry at {wanted} answers.", flush=True)
    return wanted


def _answers(url: str) -> bool:
    try:
        answer = requests.get(f"{url}/health", params={"deep": "true"}, timeout=_HEALTH_SECONDS)
        return bool(answer.json() == {"status": "ok"})
    except (requests.RequestException, ValueError):
        return False


@contextlib.contextmanager
def started_registry(python: str, **settings: str) -> Iterator[str]:
    """The base URL of what `make run` runs, by `python`, on a free port, with these settings and data of its own.

    Raises NoRegistryError.
    """
    with tempfile.TemporaryDirectory(prefix="model-registry-demo-") as data_dir:
        # What is set for another registry is not meant for this one.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("GETI_", "ACCESS"))}
        environment = {**inherited, **settings, "PORT": str(_free_port()), "DATA_DIR": data_dir}
        runner = subprocess.Popen(  # noqa: S603 - our own runner
            [python, "-m", "infra.local"], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
        )
        try:
            yield _ready_url(runner)
        finally:
            runner.terminate()
            runner.communicate(timeout=_STOP_SECONDS)


def _ready_url(runner: subprocess.Popen[str]) -> str:
    """The base URL, when the runner says that it is ready. Its progress is on standard error."""
    line = runner.stdout.readline() if runner.stdout else ""
    if not line.startswith("READY "):
        raise NoRegistryError("The registry did not start; the lines above say why.")
    return line.removeprefix("READY ").strip()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
