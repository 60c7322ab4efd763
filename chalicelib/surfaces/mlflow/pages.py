"""Pages of lists that are in one order only. Their tokens are positions, which grant nothing."""

import base64
import binascii
import re
from collections.abc import Collection, Sequence

from chalicelib.registry.tracking import Lifecycle
from chalicelib.surfaces.mlflow.protocol import Asked, InvalidParameter, NotImplementedHere

MAX_TOKEN = 400
# Of a list, newest first, and of the values of a metric.
LISTED = re.compile(r"[0-9][0-9A-Za-z:.#~-]{0,110}", re.ASCII)
MEASURED = re.compile(r"[0-9]{20}#[0-9]{20}#[0-9]{1,20}", re.ASCII)
VIEWS = {
    **dict.fromkeys(("ACTIVE_ONLY", 1), (Lifecycle.ACTIVE,)),
    **dict.fromkeys(("DELETED_ONLY", 2), (Lifecycle.DELETED,)),
    **dict.fromkeys(("ALL", 3), tuple(Lifecycle)),
}


class PageAsked(Asked):
    page_token: str = ""


def page(position: str | None) -> str | None:
    """The token of a position."""
    return base64.urlsafe_b64encode(position.encode()).decode() if position else None


def position(asked: PageAsked, form: re.Pattern[str] = LISTED) -> str | None:
    """Where to go on. Raises InvalidParameter."""
    if not asked.page_token:
        return None
    try:
        if len(asked.page_token) > MAX_TOKEN:
            raise ValueError("too long")
        text = base64.b64decode(asked.page_token, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError) as exc:
        raise InvalidParameter("Invalid page token, could not base64-decode") from exc
    if not form.fullmatch(text):
        raise InvalidParameter("Invalid page token, it is not one of this list")
    return text


def check_count(count: int, most: int) -> int:
    """How many results are asked for. Raises InvalidParameter, as MLflow does."""
    if count <= 0:
        raise InvalidParameter(
            f"Invalid value {count} for parameter 'max_results' supplied. It must be a positive integer"
        )
    if count > most:
        raise InvalidParameter(f"Invalid value {count} for parameter 'max_results' supplied. It must be at most {most}")
    return count


def check_order(stated: Collection[str], known: Collection[str]) -> None:
    """Raises NotImplementedHere for another order than the one there is."""
    for order in stated:
        if " ".join(order.split()).lower() not in {one.lower() for one in known}:
            raise NotImplementedHere(f"These are listed newest first: order_by can be {' or '.join(known)} only.")


def viewed(view: str | int) -> Sequence[Lifecycle]:
    """What a view shows: of what is active, of what is deleted, or of all."""
    return VIEWS.get(view, tuple(Lifecycle))
