"""What every command that talks to the registry begins with: settings, the two streams, and a Registry.

`open_registry` is the one place that makes a Registry: tests put another one there. The library is imported here, when
a command runs, so that help and completion do not wait for it. Where a secret lies open, this says so.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from modelreg.config import config_file, has_credentials, settings
from modelreg.errors import Forbidden, Unauthorized
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
    output = Output(as_json=as_json, quiet=quiet)
    chosen = settings(url, os.environ)
    warn_of_history(url, output)
    file = config_file(os.environ)
    if chosen.token_source == str(file.path) and not file.is_private():
        output.say(f"others can read your token in {file.path}; type `chmod 600` with this path")
    with open_registry(chosen.needed_url(), chosen.token) as registry:
        yield registry, output


def warn_of_history(url: str | None, output: Output) -> None:
    """Says that a secret in an argument does not stay one."""
    if has_credentials(url):
        output.say(
            "the URL has a token or password in it: others can see it among the processes, and the shell keeps it in"
            " its history. Use `modelreg login`, or MODELREG_TOKEN"
        )


def try_token(url: str, token: str) -> None:
    """Returns if the registry at the URL lets this token in. Raises what a person is to know if not.

    The token is not sent before a registry has answered there.
    """
    with open_registry(url, None) as registry:
        registry.health()
    with open_registry(url, token) as registry:
        try:
            next(iter(registry.list(limit=1)), None)
        except Unauthorized as exc:
            hint = (
                "Nothing was stored. Ask an admin for a new token, or check the URL: each registry has its own tokens."
            )
            raise Unauthorized(str(exc), code=exc.code, hint=hint) from None
        except Forbidden as exc:
            hint = (
                "Nothing was stored. The registry answers, but lets in neither this token, nor anybody from this place."
            )
            raise Forbidden(str(exc), code=exc.code, hint=hint) from None


@contextmanager
def resumable() -> Iterator[None]:
    """Around a transfer: an interruption says that nothing is lost."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted("Type the same command again: it goes on where it stopped.") from None
