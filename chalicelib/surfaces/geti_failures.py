"""What a failing Geti server is answered as, in every dialect: its errors become errors that a caller may be told."""

from collections.abc import Iterator
from contextlib import contextmanager

from chalicelib.geti.errors import (
    GetiBusy,
    GetiError,
    GetiForbidden,
    GetiGone,
    GetiMisconfigured,
    GetiUnauthorized,
    NotGeti,
)
from chalicelib.registry.access import Actor
from chalicelib.registry.errors import NotConfigured, NotFound, RegistryError, Unavailable

RETRY_AFTER_SECONDS, MAX_RETRY_AFTER_SECONDS = 10, 300
BUSY = (
    "Geti is out of reach, busy, or too slow for all that was asked: try again,"
    " or ask for one project, GET /projects/{project_id}."
)
NOT_SET_UP = "The connection to Geti is not set up as it must be; `modelreg geti doctor` says what is wrong."
SAID_OF = {
    GetiUnauthorized: "Geti refuses the token of the registry: an operator must set a new one.",
    NotGeti: "What answers at GETI_HOST is no Geti server.",
    GetiForbidden: "Geti does not let the registry read this project: the user of its token needs a role in it.",
}
OTHERWISE = "Geti did not do what it was asked for."


class GetiFailed(RegistryError):
    """Geti, or the way to it, is at fault, and neither the caller nor the registry; `code` is that of a GetiError."""

    code = GetiError.code

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@contextmanager
def geti_failures(by: Actor) -> Iterator[None]:
    """What is raised within, as an error that can be answered.

    Who is limited is not told what Geti said: it may name what they do not see.
    """
    try:
        yield
    except GetiGone as exc:
        raise NotFound("It is not there in Geti.") from exc
    except GetiError as exc:
        error = _answerable(exc, "" if by.access.is_limited else f" {exc}")
        raise error from exc


def _answerable(exc: GetiError, details: str) -> RegistryError:
    if isinstance(exc, GetiBusy):
        wait = min(round(exc.retry_after_seconds or RETRY_AFTER_SECONDS), MAX_RETRY_AFTER_SECONDS)
        return Unavailable(f"{BUSY}{details}", wait)
    if isinstance(exc, GetiMisconfigured) and not isinstance(exc, NotGeti):
        return NotConfigured(f"{NOT_SET_UP}{details}")
    return GetiFailed(exc.code, f"{SAID_OF.get(type(exc), OTHERWISE)}{details}")
