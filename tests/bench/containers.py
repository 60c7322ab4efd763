"""Lambda containers on this machine: processes that run the package as Lambda unpacks it, and a DynamoDB for them.

DynamoDB is a stub that answers every call with one item, so only the function's own work is measured: what it does
before and after the call, and its side of the connection. The bare function imports boto3 from the same layer.
"""

import contextlib
import json
import os
import subprocess
import sys
import threading
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

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
REGISTRY = Kind("registry, tracing off", "registry", NO_XRAY)
TRACED = Kind("registry, X-Ray tracing on", "registry", XRAY)


@dataclass(frozen=True)
class Took:
    """Seconds that one request took: elapsed, and of the processor."""

    elapsed: float
    cpu: float


class Container:
    """A process that has run nothing yet."""

    def __init__(self, kind: Kind, unpacked: Path, endpoint: str) -> None:
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(map(str, (unpacked / "code", unpacked / "layer" / _LIBRARIES))),
            # Lambda's directories cannot be written to either.
            "PYTHONDONTWRITEBYTECODE": "1",
            "AWS_ENDPOINT_URL": endpoint,
        }
        self._process = subprocess.Popen(
            # Nothing of the environment this was started from, nor what stands beside the script.
            [sys.executable, "-S", "-P", str(Path(__file__).with_name("function.py")), kind.handler],
            env=environment | ENVIRONMENT | dict(kind.variables),
            cwd=unpacked / "code",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def invoke(self, event: Event) -> Took:
        """Send an event and wait. Raises RuntimeError unless the answer is 200."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(event) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline() or "{}")
        if answer.get("status") != 200:
            raise RuntimeError(f"The function answered {answer or 'nothing'}.")
        return Took(answer["elapsed"], answer["cpu"])

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


def unpack(package: Path, directory: Path) -> None:
    """Unpack both archives as Lambda does."""
    for archive, name in (("deployment.zip", "code"), ("layer-deployment.zip", "layer")):
        with zipfile.ZipFile(package / archive) as packed:
            packed.extractall(directory / name)


@contextlib.contextmanager
def stub_dynamodb(item: Mapping[str, Any]) -> Iterator[str]:
    """The endpoint of a DynamoDB that has only this item."""

    class Answering(_Stub):
        body = json.dumps({"Item": item}).encode()

    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class _Stub(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections are kept, as by DynamoDB
    disable_nagle_algorithm = True
    wbufsize = -1  # headers and body in one packet
    body: ClassVar[bytes]

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "application/x-amz-json-1.0")
        self.send_header("Content-Length", str(len(self.body)))
        self.send_header("x-amz-crc32", str(zlib.crc32(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: Any) -> None:
        pass
