"""What all threads of an upload or a download share, and the limits of their patience with S3."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from threading import Thread

from modelreg.http import Api
from modelreg.progress import Progress
from modelreg.retry import Patience
from modelreg.storage import Storage

MAX_RENEWALS = 3  # of one URL in a row: more of them mean that S3 refuses, whatever the age of the URL
MAX_RESENDS = 2  # of other bytes than announced, after which it is not the network that changes them
JOIN_SECONDS = 3.0  # how long a user who breaks off waits for threads that hang in the network


@dataclass(frozen=True)
class Transfer:
    """The way to the registry and to S3. parallel: how many requests to S3 at once."""

    api: Api
    storage: Storage
    patience: Patience
    parallel: int
    progress: Progress


def join_soon(threads: Iterable[Thread], clock: Callable[[], float] = time.monotonic) -> None:
    """Waits for the threads, JOIN_SECONDS for all of them; those that still hang then are left behind."""
    deadline = clock() + JOIN_SECONDS
    for thread in threads:
        thread.join(max(0.0, deadline - clock()))
