"""Large transfers beside boto3's own, to and from the same S3 in the same run, and the calls that an upload costs.

Both move the same file, turn by turn, through the emulator that `make run` starts. What is compared is the whole: the
client hashes, asks for URLs and has the registry check the result; boto3 does none of it.
"""

import base64
import contextlib
import hashlib
import io
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from modelreg import Registry

from tests.bench.aws_calls import Call, Recorder
from tests.bench.operations import Event, api_event
from tests.conftest import ARCHIVE, forget_what_was_made
from tests.stack import Stack

MEBIBYTE = 1024**2
FILE_BYTES = 1024 * MEBIBYTE
UPLOAD_ROUNDS, DOWNLOAD_ROUNDS = 7, 3  # the emulator takes a minute for a download by boto3
TARGET_RATIO = 0.95
PLAIN_BUCKET = "bench"


@dataclass(frozen=True)
class Transfer:
    """One direction: seconds of each round, ours and boto3's; the ratio is that of speeds, round by round."""

    title: str
    client: list[float]
    boto3: list[float]

    @property
    def ratios(self) -> list[float]:
        return [plain / ours for ours, plain in zip(self.client, self.boto3, strict=True)]


@dataclass(frozen=True)
class Transfers:
    """What was measured. Seconds to the first byte beside those of hashing the whole file first."""

    directions: list[Transfer]
    first_byte_seconds: float
    hashing_seconds: float


@dataclass(frozen=True)
class UploadStep:
    """A request of an upload with the calls it made."""

    title: str
    calls: list[Call] = field(default_factory=list)


@contextlib.contextmanager
def running_stack(package: Path) -> Iterator[Stack]:
    """The service as `make run` serves it, on data of its own."""
    with tempfile.TemporaryDirectory() as directory:
        stack = Stack(Path(directory, "data"), package)
        stack.data_dir.mkdir()
        (stack.data_dir / "lock").touch()
        try:
            stack.start()
            yield stack
        finally:
            stack.close()


def compare_transfers(stack: Stack) -> Transfers:
    """Ours and boto3's in turn, each first in every other round."""
    s3 = stack.aws("s3")
    s3.create_bucket(Bucket=PLAIN_BUCKET)
    watches, hashing = [], []
    with tempfile.TemporaryDirectory() as directory, Registry(stack.url) as client:
        source, back = _made(Path(directory, "weights.bin")), Path(directory, "back.bin")
        published: list[str] = []

        def publish() -> None:
            watches.append(FirstByte())
            version = f"v{len(watches)}"
            published.append(client.register(source, name="bench", version=version, progress=watches[-1]).id)

        def clean() -> None:
            hashing.append(_seconds(lambda: _sha256(source)))
            if len(published) > 1:
                client.delete(published.pop(0))

        upload = _in_turn(
            "upload", UPLOAD_ROUNDS, publish, lambda: s3.upload_file(str(source), PLAIN_BUCKET, "weights"), clean
        )
        download = _in_turn(
            "download",
            DOWNLOAD_ROUNDS,
            lambda: _gone(back, lambda: client.download(published[-1], back)),
            lambda: _gone(back, lambda: s3.download_file(PLAIN_BUCKET, "weights", str(back))),
        )
    first_bytes = statistics.median(watch.seconds for watch in watches)
    return Transfers([upload, download], first_bytes, statistics.median(hashing))


def _in_turn(
    title: str,
    rounds: int,
    ours: Callable[[], Any],
    boto3s: Callable[[], Any],
    between: Callable[[], Any] = lambda: None,
) -> Transfer:
    transfer = Transfer(title, [], [])
    turns = [(transfer.client, ours), (transfer.boto3, boto3s)]
    for number in range(rounds):
        for seconds, action in turns if number % 2 == 0 else reversed(turns):
            seconds.append(_seconds(action))
        between()
    return transfer


def _gone(made: Path, action: Callable[[], Any]) -> None:
    """Do it with nothing there: what is there already would not be fetched again."""
    made.unlink(missing_ok=True)
    action()


class FirstByte:
    """Notes when the first byte left, from when it was made to start."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def start(self, label: str, total_bytes: int, done_bytes: int) -> None:
        self._started = time.perf_counter()

    def advance(self, count_bytes: int) -> None:
        self.seconds = self.seconds or time.perf_counter() - self._started

    def note(self, text: str) -> None:
        pass

    def finish(self) -> None:
        pass


def _seconds(action: Callable[[], Any]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def _made(path: Path) -> Path:
    block = os.urandom(MEBIBYTE - 8)
    with path.open("wb") as file:
        for number in range(FILE_BYTES // MEBIBYTE):
            file.write(number.to_bytes(8, "little") + block)
    return path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# The calls of one upload. They are made on the emulator, since AWS in memory keeps no digests.


def count_upload_calls(stack: Stack) -> list[UploadStep]:
    """Every request of a small and of a large upload, and of registered models, once and uncontended."""
    os.environ.update(
        stack.environment
        | {
            "REGISTRY_TABLE": stack.table,
            "EVENTS_TABLE": stack.events_table,
            "ARTIFACT_BUCKET": stack.bucket,
            "AUDIT_BUCKET": stack.function("AuditBucket"),
            "POWERTOOLS_TRACE_DISABLED": "true",
        }
    )
    forget_what_was_made()
    recorder = Recorder({stack.table: 0, stack.events_table: 1})
    with recorder.installed(), contextlib.redirect_stdout(io.StringIO()):
        return _Steps(recorder).taken()


class _Steps:
    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._steps: list[UploadStep] = []

    def taken(self) -> list[UploadStep]:
        self._open("open an upload, first of a registered model", "v1", ARCHIVE, "model.zip")
        upload = self._open("open an upload, one PUT", "v2", ARCHIVE, "model.zip")
        self._get("look at it", upload)
        _sent(upload, ARCHIVE)
        self._complete("complete it, small archive", upload, {})
        large = b"\0" * (65 * MEBIBYTE)
        upload = self._open("open an upload in 5 parts", "v3", large, "weights.bin")
        pieces = {n + 1: large[n * upload["part_size"] :][: upload["part_size"]] for n in range(upload["part_count"])}
        digests = {str(n): base64.b64encode(hashlib.sha256(piece).digest()).decode() for n, piece in pieces.items()}
        parts = self._post("get URLs for parts", f"/uploads/{upload['upload_id']}/parts", {"digests": digests})["parts"]
        etags = {one["number"]: _sent(one, pieces[one["number"]]) for one in parts}
        stated = [{"number": n, "etag": etag, "digest": digests[str(n)]} for n, etag in etags.items()]
        self._get("look at it, parts listed", upload)
        self._complete("complete it, bare file", upload, {"parts": stated})
        upload = self._open("open another", "v4", ARCHIVE, "model.zip")
        self._request("abort it", "DELETE", "/uploads/{upload_id}", f"/uploads/{upload['upload_id']}")
        self._request("registered model by name", "GET", "/registered-models", "/registered-models?name=bench-calls")
        self._request("set an alias", "PATCH", "/registered-models", "/registered-models", _ALIAS)
        return self._steps

    def _open(self, title: str, version: str, content: bytes, file_name: str) -> dict[str, Any]:
        media_type = "application/zip" if file_name.endswith(".zip") else "application/octet-stream"
        body = {"name": "bench-calls", "version": version, "file_name": file_name, "media_type": media_type}
        return self._post(
            title, "/uploads", {**body, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        )

    def _complete(self, title: str, upload: dict[str, Any], body: dict[str, Any]) -> None:
        self._post(title, f"/uploads/{upload['upload_id']}/complete", body)

    def _get(self, title: str, upload: dict[str, Any]) -> None:
        self._request(title, "GET", "/uploads/{upload_id}", f"/uploads/{upload['upload_id']}")

    def _post(self, title: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        names = path.split("/")
        route = "/".join(["", "uploads", *(["{upload_id}"] if len(names) > 2 else []), *names[3:]])
        return self._request(title, "POST", route, path, body)

    def _request(self, title: str, method: str, route: str, target: str, body: Any = None) -> dict[str, Any]:
        content = json.dumps(body).encode() if body is not None else b""
        event = api_event(method, route, target, content, "application/json" if content else "")
        answers: list[dict[str, Any]] = []
        self._steps.append(UploadStep(title, self._recorder.during(lambda: answers.append(_answered(event)))))
        return answers[0]


_ALIAS = {"name": "bench-calls", "aliases": {"champion": 1}}


def _answered(event: Event) -> dict[str, Any]:
    from app import app

    answer = app(event, None)
    if answer["statusCode"] >= 300:
        raise ValueError(f"{event['httpMethod']} {event['path']}: {answer['statusCode']} {answer['body']}")
    return dict(json.loads(answer["body"] or "{}"))


def _sent(request: dict[str, Any], content: bytes) -> str:
    answer = requests.put(request["url"], data=content, headers=request["headers"], timeout=60)
    answer.raise_for_status()
    return str(answer.headers["ETag"])
