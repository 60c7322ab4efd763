"""Moments: as people type them, as the API writes them, as a table shows them. Pure; without a zone, UTC is meant."""

import re
from datetime import UTC, datetime, timedelta

from modelreg.errors import InvalidInput

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
FORMS = "30m, 2h, 7d or 4w, or a date or time such as 2027-01-31 or 2027-01-31T15:00:00Z"
_LENGTH = re.compile(r"([0-9]{1,9})([smhdw])")


def length_of(text: str) -> timedelta | None:
    """How long `2h` or `7d` is; None for what is no length of time."""
    found = _LENGTH.fullmatch(text.strip())
    return timedelta(**{UNITS[found[2]]: int(found[1])}) if found else None


def moment_of(text: str, now: datetime, *, sign: int) -> datetime:
    """The moment that is meant: so long before (sign -1) or after (1) now, or a date or time. Raises InvalidInput."""
    try:
        length = length_of(text)
        moment = now + sign * length if length is not None else datetime.fromisoformat(text.strip())
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidInput(f"{text!r} is no time.", field="time", hint=f"Times are {FORMS}.") from None


def rfc3339(moment: datetime) -> str:
    """As the API writes it, to the microsecond."""
    # Not by strftime, which does not fill up the years before 1000 everywhere.
    return f"{moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


def sent_moment(field: str, moment: datetime) -> str:
    """A moment as it is sent. Raises InvalidInput for one without a zone: it could be any of two dozen."""
    if moment.tzinfo is None:
        raise InvalidInput(
            f"{field} has no time zone.",
            field=field,
            hint="Take an aware datetime, such as datetime.now(timezone.utc).",
        )
    try:
        return rfc3339(moment)
    except OverflowError:
        raise InvalidInput(f"{field} is too far away.", field=field) from None


def shown_moment(moment: datetime | None) -> str:
    """For people: to the second, in UTC."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}" if moment else ""
