"""What is made of an artifact when somebody first asks for it: a ZIP of a tree, a tree of a ZIP. Made once, kept.

It takes longer than a request may: an errand makes it, and who asked waits a little, then is told to come again. One
makes it at a time, under a lease that ends with the time of its function, so that one who crashed stands in nobody's
way. What cannot be made, is told; what failed for a reason that may pass, is begun anew by the next who asks.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from chalicelib.registry.errands import Errand
from chalicelib.registry.errors import NotHere
from chalicelib.registry.models import Frozen

if TYPE_CHECKING:
    from chalicelib.registry.errands import ErrandKind, Errands

ASKED_AGAIN_AFTER = timedelta(seconds=60)  # an errand that was queued, and that nobody has begun
GRACE = timedelta(seconds=30)  # a lease ends behind the time of its function
LOOK_SECONDS = 0.4


class Made(Frozen):
    """How far it is. `key`, `size` and `sha256` are of the object, where it is one; `why` it cannot be made."""

    is_done: bool = False
    why: str | None = None
    key: str | None = None
    size: int = 0
    sha256: str | None = None


class Makings(Protocol):
    """What is remembered of it, by what is made and of what. Raises Unavailable."""

    def made(self, kind: ErrandKind, subject: str) -> Made:
        """How far it is."""

    def ask(self, kind: ErrandKind, subject: str, at: datetime, again_after: timedelta) -> bool:
        """Note that it is asked for; whether it has to be queued: nobody is at it, or has asked just before."""

    def take(self, kind: ErrandKind, subject: str, holder: str, at: datetime, until: datetime) -> bool:
        """Take the lease; False if another one has it, or it is done."""

    def finish(self, kind: ErrandKind, subject: str, holder: str, made: Made) -> bool:
        """Keep what came of it and end the lease; False if that was lost meanwhile."""

    def let_go(self, kind: ErrandKind, subject: str, holder: str) -> None:
        """End the lease without anything; the next who asks begins anew."""

    def undo(self, kind: ErrandKind, subject: str, made: Made) -> None:
        """Forget what was made, for it has gone."""


class Making:
    """Asks for it, and waits. `sleep` and `monotonic` are arguments so that tests need no waiting."""

    def __init__(
        self,
        makings: Makings,
        errands: Callable[[], Errands],
        clock: Callable[[], datetime],
        monotonic: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self.makings = makings
        self._errands = errands
        self._clock = clock
        self._monotonic = monotonic
        self._sleep = sleep

    def wanted(self, kind: ErrandKind, subject: str, model_id: str, wait_seconds: float) -> Made | None:
        """What is made of this, for the version that has it; None if it takes longer than one waits here.

        Raises NotHere if it cannot be made, Unavailable and NotConfigured.
        """
        deadline = self._monotonic() + wait_seconds
        made = self._looked(kind, subject)
        if made:
            return made
        if self.makings.ask(kind, subject, self._clock(), ASKED_AGAIN_AFTER):
            self._errands().queue(Errand(kind=kind, subject=model_id))
        while self._monotonic() + LOOK_SECONDS < deadline:
            self._sleep(LOOK_SECONDS)
            if made := self._looked(kind, subject):
                return made
        return None

    def _looked(self, kind: ErrandKind, subject: str) -> Made | None:
        made = self.makings.made(kind, subject)
        if made.why:
            raise NotHere(made.why)
        return made if made.is_done else None
