"""How a transfer shows on standard error: a bar with rate and time left on a terminal, plain lines elsewhere.

Both are called from several threads and never raise: a transfer does not fail because its display does. The clock is
an argument.
"""

import contextlib
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from modelreg.output import Output, is_terminal, safe, size_text

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

EVERY_SECONDS = 10.0
EVERY_SHARE = 0.1
NOT_WITHIN_SECONDS = 1.0  # a fast transfer needs no ten lines


class Display:
    """Shows nothing. `begun` tells whether there was anything to move at all."""

    begun = False

    def start(self, label: str, total_bytes: int, done_bytes: int) -> None:
        self.begun = True

    def advance(self, count_bytes: int) -> None:
        pass

    def note(self, text: str) -> None:
        pass

    def finish(self) -> None:
        pass


def transfer_display(output: Output, clock: Callable[[], float] = time.monotonic, label: str | None = None) -> Display:
    """The display that fits the stream; one that shows nothing if the caller wants quiet.

    label: what to show instead of the name of the file.
    """
    if output.quiet:
        return Display()
    return Bar(output, label) if is_terminal(output.talk) else Lines(output, clock, label)


class Lines(Display):
    """A line at the start, every ten seconds or tenth of the way, and at the end."""

    def __init__(self, output: Output, clock: Callable[[], float], label: str | None = None) -> None:
        self._output = output
        self._clock = clock
        self._lock = threading.Lock()
        self._label = label or ""
        self._total = self._done = self._done_before = self._done_at_line = 0
        self._begun = self._line_at = 0.0

    def start(self, label: str, total_bytes: int, done_bytes: int) -> None:
        with self._lock:
            self.begun = True
            self._label, self._total = self._label or label, total_bytes
            self._done = self._done_before = self._done_at_line = done_bytes
            self._begun = self._line_at = self._clock()
            there = f", {size_text(done_bytes)} of it there already" if done_bytes else ""
            self._say(f"{self._label}: {size_text(total_bytes)}{there}")

    def advance(self, count_bytes: int) -> None:
        with self._lock:
            self._done += count_bytes
            now = self._clock()
            passed = now - self._line_at
            tenth = self._done - self._done_at_line >= EVERY_SHARE * self._total
            if self._done < self._total and (passed >= EVERY_SECONDS or (tenth and passed >= NOT_WITHIN_SECONDS)):
                self._line_at, self._done_at_line = now, self._done
                self._say(f"{self._label}: {self._where(now)}")

    def note(self, text: str) -> None:
        with self._lock:
            self._say(text)

    def finish(self) -> None:
        with self._lock:
            if not self.begun:
                return
            now = self._clock()
            seconds = max(now - self._begun, 0)
            if self._done >= self._total:
                moved = size_text(self._done - self._done_before)
                self._say(f"{self._label}: done, {moved} in {duration_text(seconds)}{self._rate(now)}")
            else:
                self._say(f"{self._label}: stopped at {self._where(now)}")

    def _where(self, now: float) -> str:
        share = f"{100 * self._done // self._total} %" if self._total else "0 %"
        left = ""
        if (speed := self._speed(now)) and self._done < self._total:
            left = f", {duration_text((self._total - self._done) / speed)} left"
        return f"{share}, {size_text(self._done)} of {size_text(self._total)}{self._rate(now)}{left}"

    def _speed(self, now: float) -> float:
        """Bytes a second of this run: what was there before took no time now."""
        seconds = now - self._begun
        return (self._done - self._done_before) / seconds if seconds > 0 else 0

    def _rate(self, now: float) -> str:
        speed = self._speed(now)
        return f", {size_text(speed)}/s" if speed > 0 else ""

    def _say(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # nobody reads standard error any more
            self._output.say(text)


class Bar(Display):
    """A bar with bytes, rate and time left; it is gone when the transfer is done, its last state stays."""

    def __init__(self, output: Output, label: str | None = None) -> None:
        self._output = output
        self._label = label
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None

    def start(self, label: str, total_bytes: int, done_bytes: int) -> None:
        self.begun = True
        self._bar = _bar(self._output)
        self._task = self._bar.add_task(safe(self._label or label), total=total_bytes, completed=done_bytes)
        self._bar.start()

    def advance(self, count_bytes: int) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task, count_bytes)

    def note(self, text: str) -> None:
        if self._bar is None:
            self._output.say(text)
        else:
            self._bar.console.print(safe(text), markup=False, highlight=False, soft_wrap=True)

    def finish(self) -> None:
        if self._bar is not None:
            self._bar.stop()


def _bar(output: Output) -> "RichProgress":
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(file=output.talk, emoji=False),
        redirect_stdout=False,
        redirect_stderr=False,
    )


def duration_text(seconds: float) -> str:
    """A duration for people: `42 s`, `3 min 5 s`, `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
