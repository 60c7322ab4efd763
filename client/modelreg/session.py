"""What every command that talks to the registry begins with: settings, the two streams, and a Registry.

`open_registry` is the one place that makes a Registry: tests put another one there. The library is imported here, when
a command runs, so that help and completion do not wait for it.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from modelreg.config import settings
from modelreg.exits import Interrupted
from modelreg.output import Output

if TYPE_CHECKING:
    from modelreg.registry import Registry


def open_registry(url: str, token: str | None) -> "Registry":
    """A registry at the URL; nothing is asked of it yet."""
    from modelreg.registry import Registry

    return Registry(url, token)


@contextmanager
def session(url: str | None, as_json: bool, quiet: bool) -> "Iterator[tuple[Registry, Output]]":
    """The registry and the streams of one command. Raises InvalidInput if it is not said where the registry is."""
    chosen = settings(url, os.environ)
    with open_registry(chosen.needed_url(), chosen.token) as registry:
        yield registry, Output(as_json=as_json, quiet=quiet)


@contextmanager
def resumable() -> Iterator[None]:
    """Around a transfer: an interruption says that nothing is lost."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted("Type the same command again: it goes on where it stopped.") from None
