"""The whole service over HTTP: the stack that `make run` serves, with data of its own, and nothing left behind."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from infra.local.deploy import REGION, client, physical_names
from infra.local.overlay import Local
from infra.package import ROOT, packaged

_STOP_SECONDS = 60


class Stack:
    """The service as `make run` serves it: start, use, stop, or kill it, and start it again on the same data."""

    def __init__(self, data_dir: Path, package: Path) -> None:
        self.data_dir = data_dir
        self._package = package
        self.local = Local(free_port())
        self.url = self.local.base_url
        self.stdout = ""
        self.settings: dict[str, str] = {}  # of the last start
        self._process: subprocess.Popen[str] | None = None
        self._clients: dict[str, Any] = {}

    def start(self, **settings: str) -> None:
        """Returns when it is ready. Fails with what it said if it does not get there."""
        self.begin(**settings)
        assert self._process
        assert self._process.stdout
        self.stdout = self._process.stdout.readline()
        if not self.stdout:
            # "replace": what the emulator's functions log is not ours to decode.
            log = (self.data_dir / "emulator.log").read_text(errors="replace")[-5000:]
            pytest.fail(f"The stack did not start.\n{self.said}\n{log}")

    def begin(self, **settings: str) -> None:
        """Start it and do not wait."""
        self.settings = settings
        self._process = self.run(**settings)

    def run(self, **variables: str) -> subprocess.Popen[str]:
        """`make run` without make. What it says on standard error is in `said`."""
        environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        environment |= {"PORT": str(self.local.port), "DATA_DIR": str(self.data_dir), "PACKAGE_DIR": str(self._package)}
        with self._said_file.open("w") as said:
            return subprocess.Popen(
                [sys.executable, "-m", "infra.local"],
                cwd=ROOT,
                env=environment | variables,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
            )

    @property
    def said(self) -> str:
        return self._said_file.read_text()

    @property
    def _said_file(self) -> Path:
        return self.data_dir.with_suffix(".said")

    def stop(self, *signals: signal.Signals) -> int:
        """Ask it to stop, with SIGTERM unless told otherwise; the exit code."""
        assert self._process
        for number in signals or (signal.SIGTERM,):
            self._process.send_signal(number)
        return self._end()

    def kill(self) -> None:
        """`kill -9` of everything at once: the emulator and its functions, then the runner."""
        self.kill_emulator()
        self.kill_runner()

    def kill_emulator(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.emulator_pid, signal.SIGKILL)

    def kill_runner(self) -> None:
        assert self._process
        self._process.kill()
        self._end()

    def _end(self) -> int:
        assert self._process
        code = self._process.wait(_STOP_SECONDS)
        if self._process.stdout:
            self.stdout += self._process.stdout.read()
            self._process.stdout.close()
        return code

    def close(self) -> None:
        """Stop it if it runs, and see to it that nothing is left."""
        for open_client in self._clients.values():
            open_client.close()
        if self._process and self._process.poll() is None:
            self.stop()
        if self.processes:
            self.kill_emulator()
            pytest.fail("The stack left processes behind.")

    @property
    def emulator_pid(self) -> int:
        """Its process group too, and that of every function it started."""
        return int((self.data_dir / "lock").read_text().split()[1])

    @property
    def processes(self) -> list[int]:
        """What runs of the emulator and its functions."""
        if len((self.data_dir / "lock").read_text().split()) < 2:
            return []
        listing = subprocess.run(["ps", "-A", "-o", "pid=,pgid=,stat="], capture_output=True, text=True, check=True)
        rows = [line.split() for line in listing.stdout.splitlines()]
        return [int(pid) for pid, group, state in rows if int(group) == self.emulator_pid and state[0] != "Z"]

    def aws(self, service: str) -> Any:
        """A boto3 client of the emulator, safe to share between threads, closed with the stack."""
        if service not in self._clients:
            self._clients[service] = client(service, self.local)
        return self._clients[service]

    @cached_property
    def _names(self) -> dict[str, str]:
        return physical_names(self.local)

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which an AWS SDK calls the emulator."""
        return {
            "AWS_ENDPOINT_URL": self.local.endpoint,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
        }

    @property
    def table(self) -> str:
        return self._names["RegistryTable"]

    @property
    def events_table(self) -> str:
        return self._names["EventsTable"]

    @property
    def bucket(self) -> str:
        return self._names["ArtifactBucket"]

    def function(self, name: str) -> str:
        """What the emulator calls a function of the template."""
        return self._names[name]

    @property
    def s3_endpoint(self) -> str:
        """Where presigned URLs point; never the host of `url`."""
        return self.local.endpoint


def free_port() -> int:
    """A port that nobody else uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources packaged once, so that every stack of the session is the same while somebody edits."""
    built = packaged()
    return Path(shutil.copytree(built, tmp_path_factory.mktemp("package") / built.name))


@pytest.fixture(scope="session")
def new_stack(tmp_path_factory: pytest.TempPathFactory, package: Path) -> Iterator[Callable[[], Stack]]:
    """Makes stacks of a test's own, not started, each with its port and data; all are gone at the end."""
    with contextlib.ExitStack() as stacks:

        def make() -> Stack:
            stack = Stack(tmp_path_factory.mktemp("stack") / "data", package)
            stack.data_dir.mkdir()
            (stack.data_dir / "lock").touch()
            stacks.callback(stack.close)
            return stack

        yield make


@pytest.fixture(scope="session")
def stack(new_stack: Callable[[], Stack]) -> Stack:
    """The stack that tests share; they neither stop it nor count on what others left in it."""
    shared = new_stack()
    shared.start()
    return shared
