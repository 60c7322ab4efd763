"""How a transfer tells its caller where it stands.

A transfer calls `start` once (again if all has to be moved anew), then `advance` and `note` from several threads at
once, then `finish`, also when it fails. What the caller hands in must not raise: a transfer does not
fail because a progress bar does.
"""

from typing import Protocol


class Progress(Protocol):
    """Where a transfer reports to."""

    def start(self, label: str, total_bytes: int, done_bytes: int) -> None:
        """done_bytes: what an earlier, interrupted run had already moved."""

    def advance(self, count_bytes: int) -> None:
        """So many more bytes have arrived."""

    def note(self, text: str) -> None:
        """Something a person may want to know, such as that a part is sent again."""

    def finish(self) -> None:
        """No more calls follow."""


class Silence:
    """Progress that nobody watches."""

    def start(self, label: str, total_bytes: int, done_bytes: int) -> None:
        pass

    def advance(self, count_bytes: int) -> None:
        pass

    def note(self, text: str) -> None:
        pass

    def finish(self) -> None:
        pass
