"""Pages of a list: tokens that say where to go on, and the Link header that carries them.

A token is a position, bound to what was asked for. It carries nothing else and grants nothing.
"""

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from urllib.parse import urlencode

from pydantic import BaseModel

from chalicelib.forms import Unprocessable, problem
from chalicelib.settings import settings

MAX_POSITION_BYTES = 1_000  # a sort key may have 1,024
MAX_ANSWER_BYTES = 5_000_000  # of the 6 MB that Lambda sends, as JSON inside JSON
EXTRA_BYTES = 1_024  # what an answer says of each besides its record
MAX_LINK_BYTES = 8_000  # API Gateway answers 10,240 bytes of headers


def next_link(path: str, query: dict[str, str]) -> str:
    """The Link header to the next page; relative to the request without a public URL. Raises Unprocessable."""
    base = f"{settings().public_url}{path}" if settings().public_url else ""
    link = f'<{base}?{urlencode(query)}>; rel="next"'
    if len(link) > MAX_LINK_BYTES:
        raise Unprocessable([problem(["query"], "is too long to be answered in pages", "too_long")])
    return link


def fitting(records: Sequence[BaseModel]) -> int:
    """How many of these an answer may hold, one at least."""
    size_bytes = 0
    for count, record in enumerate(records):
        size_bytes += len(json.dumps(record.model_dump_json())) + EXTRA_BYTES
        if size_bytes > MAX_ANSWER_BYTES and count:
            return count
    return len(records)


def page_token(position: str, asked: BaseModel) -> str:
    """A position, bound to what was asked for."""
    content = json.dumps([position, _fingerprint(asked)])
    return base64.urlsafe_b64encode(content.encode()).decode().rstrip("=")


def position_of(token: str, asked: BaseModel, form: re.Pattern[str]) -> str:
    """What `page_token` was made of, which has this form. Raises Unprocessable."""
    try:
        position, fingerprint = json.loads(base64.b64decode(token + "=" * (-len(token) % 4), "-_", validate=True))
        is_whole = bool(form.fullmatch(position)) and len(position.encode()) <= MAX_POSITION_BYTES
        is_whole = is_whole and fingerprint == _fingerprint(asked)
    except (ValueError, TypeError, RecursionError):
        is_whole = False
    if not is_whole:
        message = "is not a page token of this search; follow the Link header as it is"
        raise Unprocessable([problem(["query", "page_token"], message, "value_error")])
    return str(position)


def _fingerprint(asked: BaseModel) -> str:
    return hashlib.sha256(asked.model_dump_json().encode()).hexdigest()[:16]
