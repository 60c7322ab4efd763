"""When an import that failed is tried again: within minutes, by a later run of the sync, or when somebody asks. Pure.

soon      Geti or the registry did not answer, which may be over in a minute; three tries, then it is later
later     after 1, 2, 4 and 8 hours, by the sync; then it is parked
hourly    an operator has to do something first; it does not count as an attempt
parked    trying again would end the same: a full sync that is asked for, or a request, tries again
"""

from datetime import datetime, timedelta

from chalicelib.geti.errors import GetiBusy, GetiError, GetiGone, GetiMisconfigured, GetiRefused, GetiUnauthorized
from chalicelib.geti.states import Item, ItemState, Order
from chalicelib.registry.errors import Conflict, NotConfigured, RegistryError, Unavailable

SOON_SECONDS = (30, 120)
MAX_SOON_SECONDS = 900  # the most that SQS waits
LATER = tuple(timedelta(hours=hours) for hours in (1, 2, 4, 8))
HOURLY = timedelta(hours=1)
OPERATORS = (GetiUnauthorized, GetiMisconfigured, NotConfigured)
MAX_WHY_CHARACTERS = 1000


class Unfit(RegistryError):
    """This model cannot be imported as it is; the text says why."""

    code = "unfit"


class Unready(RegistryError):
    """Geti is not done with this model."""

    code = "unready"


def soon(order: Order, exc: Exception) -> int | None:
    """Seconds until to try again; None if that is not soon."""
    if not isinstance(exc, GetiBusy | Unavailable) or isinstance(exc, NotConfigured):
        return None
    if order.tries >= len(SOON_SECONDS) or (isinstance(exc, GetiBusy) and exc.is_lasting):
        return None
    asked = exc.retry_after_seconds or 0
    return max(SOON_SECONDS[order.tries], min(round(asked), MAX_SOON_SECONDS))


def failed(item: Item, exc: Exception, at: datetime) -> Item:
    """The item after a failure that is not tried again soon."""
    told: dict[str, object] = {"why": why(exc)}
    if isinstance(exc, OPERATORS):
        return item.model_copy(update={**told, "state": ItemState.FAILED, "due_at": at + HOURLY})
    attempts = item.attempts + 1
    told["attempts"] = attempts
    if is_final(exc) or attempts > len(LATER):
        return item.model_copy(update={**told, "state": ItemState.PARKED, "due_at": None})
    return item.model_copy(update={**told, "state": ItemState.FAILED, "due_at": at + LATER[attempts - 1]})


def is_final(exc: Exception) -> bool:
    """Whether trying again would end the same."""
    if isinstance(exc, Conflict):
        return exc.upload_id is None  # An upload ends.
    if isinstance(exc, Unavailable | Unready):
        return False
    return isinstance(exc, GetiGone | GetiRefused | RegistryError)


def why(exc: Exception) -> str:
    """What happened, for people."""
    if isinstance(exc, Conflict) and exc.upload_id:
        return "An upload that is not complete yet holds its id, or its name, version and precision, until it ends."
    if isinstance(exc, Conflict):
        return (
            f"A model with this id, or with this name, version and precision, is there already: {exc.holder}."
            " Delete or change that one, then have this one imported again."
        )
    if isinstance(exc, RegistryError | GetiError):
        return str(exc)[:MAX_WHY_CHARACTERS]
    return f"The registry failed at it by an error of its own ({type(exc).__name__}); its log says more."
