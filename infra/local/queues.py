"""The emulator's queues over a stop and the next start, and not before the functions are what they should be.

Rests on private parts of the emulator, which is pinned: `_queues`, whose messages are dictionaries; `DEFAULT_PORT`,
which stands in the address under which it keeps a queue; `_poll_sqs`, through which messages come to functions.
"""

import threading
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

# Whatever port is listened on: a queue made on one port would not be found on another. SDKs call their endpoint.
_PORT_IN_ADDRESSES = "4566"


class LastingQueues:
    """The emulator's SQS module, and what brings its messages to functions, once `install` was called."""

    def __init__(self, sqs: ModuleType, functions: ModuleType) -> None:
        self._sqs: Any = sqs
        self._functions: Any = functions
        self._is_open = threading.Event()

    def install(self) -> None:
        """To be called before the emulator reads what it saved."""
        self._sqs.DEFAULT_PORT = _PORT_IN_ADDRESSES
        self._sqs._CANONICAL_NETLOC = f"{self._sqs.DEFAULT_HOST}:{_PORT_IN_ADDRESSES}"
        self._sqs.load_persisted_state = self._returning(self._sqs.load_persisted_state)
        self._functions._poll_sqs = self._held(self._functions._poll_sqs)

    def open(self) -> None:
        """Let messages come to functions: none that works on one is replaced by a deployment from now on."""
        self._is_open.set()

    def _returning(self, load: Callable[[Any], None]) -> Callable[[Any], None]:
        def loaded(data: Any) -> None:
            load(data)
            for queue in self._sqs._queues.all_values():
                for message in queue["messages"]:
                    return_message(message, time.time())

        return loaded

    def _held(self, poll: Callable[[], bool]) -> Callable[[], bool]:
        return lambda: self._is_open.is_set() and poll()


def return_message(message: dict[str, Any], now: float) -> None:
    """Let a message be received again that was being worked on; by functions that are gone now, so it was no try.

    One that is only delayed was never received, and keeps its delay.
    """
    if message["receive_count"] and message["visible_at"] > now:
        message["visible_at"] = now
        message["receive_count"] -= 1
