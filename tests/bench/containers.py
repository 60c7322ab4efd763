"""Lambda containers on this machine: processes that run the package as Lambda unpacks it.

The bare function imports boto3 from the same layer. AWS is a server that answers as it did once (exchanges.py).
"""

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.operations import ENVIRONMENT, Event

# Where the runtime would find the X-Ray daemon; nobody listens, and UDP does not mind.
XRAY = {
    "AWS_EXECUTION_ENV": "AWS_Lambda_python3.11",
    "AWS_XRAY_DAEMON_ADDRESS": "127.0.0.1:9",
    "LAMBDA_TASK_ROOT": "/var/task",
    "_X_AMZN_TRACE_ID": "Root=1-00000000-000000000000000000000001;Parent=0000000000000001;Sampled=1",
}
# Where Lambda looks for libraries in a layer.
_LIBRARIES = Path("python", "lib", f"python3.{sys.version_info.minor}", "site-packages")
NO_XRAY = {"POWERTOOLS_TRACE_DISABLED": "true"}


@dataclass(frozen=True, eq=False)
class Kind:
    """A function to measure: which handler, and what its environment says besides."""

    title: str
    handler: str
    variables: Mapping[str, str]


BARE = Kind("bare boto3 function", "bare", {})
LIBRARIES = Kind("bare, libraries imported", "libraries", {})
REGISTRY = Kind("registry, tracing off", "registry", NO_XRAY)
TRACED = Kind("registry, X-Ray tracing on", "registry", XRAY)


class Container:
    """A process that has run nothing yet. `calls` is a file of what a bare function asks of AWS."""

    def __init__(self, kind: Kind, unpacked: Path, endpoint: str, calls: Path, *, counting: bool = False) -> None:
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(map(str, (unpacked / "code", unpacked / "layer" / _LIBRARIES))),
            # Lambda's directories cannot be written to either.
            "PYTHONDONTWRITEBYTECODE": "1",
            "AWS_ENDPOINT_URL": endpoint,
        }
        script = str(Path(__file__).with_name("function.py"))
        self._process = subprocess.Popen(
            # Nothing of the environment this was started from, nor what stands beside the script.
            [sys.executable, "-S", "-P", script, kind.handler, str(calls), *(["count"] if counting else [])],
            env=environment | ENVIRONMENT | dict(kind.variables),
            cwd=unpacked / "code",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def invoke(self, event: Event) -> dict[str, Any]:
        """Send an event and wait: what function.py says of it. Raises RuntimeError for an error."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(event) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline() or "{}")
        if answer.get("status", 500) >= 400:
            raise RuntimeError(f"The function answered {answer or 'nothing'}.")
        return answer

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


def unpack(package: Path, directory: Path) -> None:
    """Unpack both archives as Lambda does."""
    for archive, name in (("deployment.zip", "code"), ("layer-deployment.zip", "layer")):
        with zipfile.ZipFile(package / archive) as packed:
            packed.extractall(directory / name)
