"""When to try again, how long to wait before, and when to give up.

Waits grow exponentially with full jitter, so that many clients do not come back at once. Clock, wait and jitter are
arguments: whoever tests does not wait. A wait ends at once when its `stop` event is set.
"""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime

from modelreg.errors import RegistryError, Unavailable

MAX_RETRY_AFTER_SECONDS = 120.0
TRANSIENT_STATUSES = frozenset({408, 429, 500, 502, 503, 504})


class Stopped(Exception):
    """Another part of the same transfer failed, or the user broke off: this one is of no use any more."""


def _wait(stop: threading.Event, seconds: float) -> None:
    stop.wait(seconds)


@dataclass(frozen=True)
class Patience:
    """How often and how long to try.

    attempts: of one part of a transfer, in a row. call_attempts: of a call that a person waits for.
    stall_seconds: as long as nothing at all may get through. join_seconds: as long as S3 may take to join the parts.
    running_seconds: as long as the registry may say that the same request is being worked on; it gives one 29 seconds.
    packing_seconds: as long as it may pack the files of a model as one archive.
    """

    attempts: int = 10
    call_attempts: int = 5
    base_seconds: float = 0.2
    cap_seconds: float = 20.0
    stall_seconds: float = 300.0
    join_seconds: float = 600.0
    running_seconds: float = 40.0
    packing_seconds: float = 1800.0
    clock: Callable[[], float] = time.monotonic
    wait: Callable[[threading.Event, float], None] = _wait
    jitter: Callable[[], float] = random.random

    def pause_seconds(self, failures: int, retry_after: float | None = None) -> float:
        """How long to wait after so many failures in a row; at least what the server asked for."""
        longest = min(self.cap_seconds, self.base_seconds * 2.0 ** min(failures - 1, 30))
        return max(longest * self.jitter(), min(retry_after or 0.0, MAX_RETRY_AFTER_SECONDS))


class Pulse:
    """Whether anything gets through, for all threads of a transfer. Time without a failure does not count."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._failing_since: float | None = None

    def beat(self) -> None:
        """Something got through."""
        self._failing_since = None

    def missed(self) -> bool:
        """Notes a failure; whether there was nothing but failures for too long."""
        now = self._patience.clock()
        if self._failing_since is None:
            self._failing_since = now
        return now - self._failing_since > self._patience.stall_seconds


@dataclass
class Attempts:
    """The failures in a row of one operation. `deadline_seconds` replaces the count where it is given."""

    patience: Patience
    most: int
    stop: threading.Event = field(default_factory=threading.Event)
    pulse: Pulse | None = None
    deadline_seconds: float | None = None
    failures: int = 0

    def __post_init__(self) -> None:
        self._began = self.patience.clock()

    def failed(self, error: RegistryError, retry_after: float | None = None) -> None:
        """Waits until the next attempt is due. Raises the error if there shall be none, Stopped if told to stop."""
        self.failures += 1
        has_stalled = self.pulse is not None and self.pulse.missed()
        if has_stalled or self._is_last():
            raise error
        if retry_after is None and isinstance(error, Unavailable):
            retry_after = error.retry_after_seconds
        self.patience.wait(self.stop, self.patience.pause_seconds(self.failures, retry_after))
        if self.stop.is_set():
            raise Stopped

    def moved(self) -> None:
        """Something got through: failures count from none again."""
        self.failures = 0
        if self.pulse:
            self.pulse.beat()

    def _is_last(self) -> bool:
        if self.deadline_seconds is not None:
            return self.patience.clock() - self._began > self.deadline_seconds
        return self.failures >= self.most


def retry_after_seconds(header: str | None, now: Callable[[], float] = time.time) -> float | None:
    """What a Retry-After header asks for, in either of its forms; None if it asks for nothing that can be read."""
    if not header:
        return None
    if header.isascii() and header.strip().isdigit():
        return float(header)
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - now())
    except (ValueError, OverflowError):
        return None
