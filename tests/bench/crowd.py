"""Many clients at once, of what `make run` serves: nothing fails, nothing is lost, and uploads do not starve reads."""

import hashlib
import io
import os
import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import requests
from modelreg import Registry

from tests.conftest import zip_of
from tests.stack import Stack

CLIENTS, UPLOADERS = 64, 16
ALONE_SECONDS, BESIDE_SECONDS = 60, 40
WRITES = 0.1
NAMES = 50
UPLOAD_BYTES = 8 * 1024**2


@dataclass
class Served:
    """What the clients of one phase were answered: seconds of each request, by kind, and what went wrong."""

    title: str
    elapsed: float = 0
    reads: list[float] = field(default_factory=list)
    writes: list[float] = field(default_factory=list)
    uploads: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    written: dict[str, str] = field(default_factory=dict)  # digest by id, of what was acknowledged
    lost: list[str] = field(default_factory=list)


def measure_crowd(stack: Stack, say: Callable[[str], None]) -> list[Served]:
    """The clients alone, and then with uploads beside them."""
    say(f"{NAMES} models to read ...")
    known = Served("preparation")
    for number in range(NAMES):
        _register(requests.Session(), stack.url, known, f"known-{number}", "v1")
    if known.errors:
        raise RuntimeError(known.errors[0])
    found = []
    for title, uploaders, seconds in (
        (f"{CLIENTS} clients", 0, ALONE_SECONDS),
        (f"{CLIENTS} clients, {UPLOADERS} uploads beside", UPLOADERS, BESIDE_SECONDS),
    ):
        say(f"{title}, for {seconds} seconds ...")
        served = _serve(stack, Served(title), list(known.written), uploaders, seconds)
        say(f"Looking for all {len(served.written):,} that were registered ...")
        served.lost = _lost(stack, served.written)
        found.append(served)
    return found


def _serve(stack: Stack, served: Served, known: list[str], uploaders: int, seconds: float) -> Served:
    started = time.perf_counter()
    ends = started + seconds
    with ThreadPoolExecutor(CLIENTS + uploaders) as threads:
        work = [threads.submit(_client, stack.url, served, known, number, ends) for number in range(CLIENTS)]
        work += [threads.submit(_uploader, stack.url, served, number, ends) for number in range(uploaders)]
        for one in work:
            one.result()
    served.elapsed = time.perf_counter() - started
    return served


def _client(url: str, served: Served, known: list[str], number: int, ends: float) -> None:
    chance, session = random.Random(number), requests.Session()
    for count in _until(ends):
        if chance.random() < WRITES:
            _register(session, url, served, f"{served.title} {number}", f"v{count}")
            continue
        model_id, name = chance.choice(known), f"known-{chance.randrange(NAMES)}"
        path: str = chance.choice(
            [f"models/{model_id}", f"models/{model_id}", f"models?name={name}", f"registered-models?name={name}"]
        )
        with _watched(served, served.reads):
            session.get(f"{url}/{path}", timeout=60).raise_for_status()


def _register(session: requests.Session, url: str, served: Served, name: str, version: str) -> None:
    archive = zip_of(model__txt=f"{name} {version}")
    with _watched(served, served.writes):
        answer = session.post(
            f"{url}/models",
            data={"name": name, "version": version},
            files={"file": ("model.zip", io.BytesIO(archive), "application/zip")},
            timeout=60,
        )
        answer.raise_for_status()
        served.written[answer.text] = hashlib.sha256(archive).hexdigest()


def _uploader(url: str, served: Served, number: int, ends: float) -> None:
    with tempfile.TemporaryDirectory() as folder, Registry(url) as client:
        path = Path(folder, "weights.bin")
        path.write_bytes(os.urandom(UPLOAD_BYTES))
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        for count in _until(ends):
            with _watched(served, served.uploads):
                version = client.register(path, name=f"upload {number}", version=f"v{count}")
                served.written[version.id] = digest


def _lost(stack: Stack, written: dict[str, str]) -> list[str]:
    """Ids that were acknowledged, and are not there, or not as they were sent."""
    local = threading.local()

    def is_there(model_id: str) -> bool:
        if not hasattr(local, "session"):
            local.session = requests.Session()
        answer = local.session.get(f"{stack.url}/models/{model_id}", timeout=60)
        return bool(answer.status_code == 200 and answer.json()["sha256"] == written[model_id])

    with ThreadPoolExecutor(8) as threads:
        return [id_ for id_, there in zip(written, threads.map(is_there, written), strict=True) if not there]


def _until(ends: float) -> Iterator[int]:
    count = 0
    while time.perf_counter() < ends:
        yield count
        count += 1


@contextmanager
def _watched(served: Served, times: list[float]) -> Iterator[None]:
    started = time.perf_counter()
    try:
        yield
    except Exception as exc:
        served.errors.append(repr(exc)[:200])
    else:
        times.append(time.perf_counter() - started)
