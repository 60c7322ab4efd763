"""Requests to Geti side by side, all of them within one time."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TypeVar

from chalicelib.geti.errors import GetiBusy

T = TypeVar("T")
R = TypeVar("R")
AT_ONCE = 16


class AtOnce:
    """What is asked until its time is over, which begins when it is made. `advice`: what to do then."""

    def __init__(self, seconds: float, advice: str = "Try again later.") -> None:
        self._until = time.monotonic() + seconds
        self._advice = advice

    def one(self, do: Callable[[], R]) -> R:
        """What it makes. Raises what it raises, and GetiBusy when time is over."""
        return self.each(lambda _: do(), [None])[0]

    def each(self, do: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """What `do` makes of each, in their order. Raises what one of them raises, and GetiBusy when time is over."""
        if not items:
            return []
        pool = ThreadPoolExecutor(min(AT_ONCE, len(items)))
        try:
            answers = [pool.submit(do, item) for item in items]
            done, _ = wait(answers, max(0, self._until - time.monotonic()), FIRST_EXCEPTION)
            failed = next((answer for answer in answers if answer in done and answer.exception()), None)
            if failed is None and len(done) < len(answers):
                raise GetiBusy(f"Geti did not answer in time all that there was to ask. {self._advice}")
            return [answer.result() for answer in ([failed] if failed else answers)]
        finally:
            # Not waited for: a request that hangs ends by its own timeout.
            pool.shutdown(wait=False, cancel_futures=True)
