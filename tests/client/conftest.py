"""What the client's tests share: a registry in memory, and a patience that never waits."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from modelreg import Registry
from modelreg.retry import Patience

from tests.client.fake_registry import BASE, FakeRegistry


@dataclass
class Waits:
    """Time that passes only by waiting, and the waits there were."""

    seconds: list[float] = field(default_factory=list)

    def clock(self) -> float:
        return sum(self.seconds)

    def wait(self, _stop: threading.Event, seconds: float) -> None:
        self.seconds.append(seconds)


@dataclass
class Watched:
    """Progress that remembers what it was told."""

    started: list[tuple[str, int, int]] = field(default_factory=list)
    advanced_bytes: int = 0
    notes: list[str] = field(default_factory=list)
    finished: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self, label: str, total_bytes: int, done_bytes: int) -> None:
        self.started.append((label, total_bytes, done_bytes))

    def advance(self, count_bytes: int) -> None:
        with self._lock:
            self.advanced_bytes += count_bytes

    def note(self, text: str) -> None:
        self.notes.append(text)

    def finish(self) -> None:
        self.finished += 1


@pytest.fixture(autouse=True)
def cache_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test touches the user's cache or is led elsewhere by a proxy."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    return home


@pytest.fixture
def waits() -> Waits:
    return Waits()


@pytest.fixture
def patience(waits: Waits) -> Patience:
    return Patience(clock=waits.clock, wait=waits.wait, jitter=lambda: 1.0)


@pytest.fixture
def fake() -> FakeRegistry:
    return FakeRegistry()


@pytest.fixture
def registry(fake: FakeRegistry, patience: Patience) -> Iterator[Registry]:
    with Registry(BASE, "secret-token", transport=fake.transport, patience=patience) as registry:
        yield registry


@pytest.fixture
def watched() -> Watched:
    return Watched()


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    """A file of six parts, the last one short."""
    path = tmp_path / "weights.onnx"
    path.write_bytes(bytes(range(256)) * 21)
    return path
