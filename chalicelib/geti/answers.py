"""What an answer of a Geti server means: data, or which error. Pure.

Errors come as JSON whose message is a text or an object, as plain text, as the page of a proxy, or without any word.
"""

import json
import re
from dataclasses import dataclass
from email.message import Message

from pydantic import JsonValue

from chalicelib.geti.errors import (
    GetiBusy,
    GetiError,
    GetiForbidden,
    GetiGone,
    GetiMisconfigured,
    GetiNoSuchRoute,
    GetiRefused,
    GetiUnauthorized,
    NotGeti,
)
from chalicelib.geti.tokens import PREFIX, WHERE
from chalicelib.registry.errors import shown
from chalicelib.registry.service import base_name

HTML = "text/html"
JSON = "application/json"
NOT_ENOUGH_SPACE = 507
# Where the known errors have what they say, in this order.
MESSAGES = ("message", "detail", "endpoint_not_found_response", "internal_server_error")
IS_IT_GETI = "Is GETI_HOST the address of Geti itself, and no proxy or login page before it?"
IT_IS_TRIED_AGAIN = "It is tried again later."


@dataclass(frozen=True)
class Answer:
    """An answer: to what, and as much of its body as is needed. `retry_after_seconds`: what it asks to wait."""

    request: str
    status: int
    media_type: str = ""
    body: bytes = b""
    retry_after_seconds: float | None = None

    @property
    def json(self) -> JsonValue:
        """Its body as data, None if it is none."""
        try:
            parsed: JsonValue = json.loads(self.body)
        except (ValueError, RecursionError):
            return None
        return parsed

    def field(self, name: str) -> JsonValue:
        """A field of the object that it is, None if it is none."""
        parsed = self.json
        return parsed.get(name) if isinstance(parsed, dict) else None

    def __str__(self) -> str:
        """What happened, for an operator."""
        code, said = self.field("error_code"), self._said
        named = f" ({shown(code)})" if isinstance(code, str) else ""
        return f"{self.request} was answered with {self.status}{named}{f': {said}' if said else ''}."

    @property
    def _said(self) -> str:
        if self.media_type == HTML:
            return "an HTML page"
        said = next((value for name in MESSAGES if (value := self.field(name))), None)
        if said is None:
            said = self.body.decode(errors="replace").strip()
        text = said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)
        # A token that it repeats is not repeated.
        return shown(re.sub(rf"{PREFIX}\w*", f"{PREFIX}...", text).rstrip("."))


def data_of(answer: Answer) -> JsonValue:
    """The data in an answer that is no error. Raises NotGeti if there is none."""
    if answer.media_type == HTML:
        raise NotGeti(f"{answer.request} was answered with an HTML page, where JSON is expected. {IS_IT_GETI}")
    if answer.media_type != JSON and not answer.media_type.endswith("+json"):
        kind = shown(answer.media_type) or "no type"
        raise NotGeti(f"{answer.request} was answered with {kind}, where JSON is expected. {IS_IT_GETI}")
    parsed = answer.json
    if parsed is None:
        raise NotGeti(f"{answer.request} was answered with JSON that cannot be read. {IS_IT_GETI}")
    return parsed


def file_name_of(disposition: str) -> str | None:
    """The file name in a header Content-Disposition, made safe; None if there is none."""
    header = Message()
    # HTTP headers come in as Latin-1, and some servers write UTF-8 into them.
    header["Content-Disposition"] = disposition.encode("latin-1", "replace").decode("utf-8", "replace")
    name = header.get_filename()
    return base_name(name) if name else None


def error_of(answer: Answer) -> GetiError:
    """What an answer says that is an error or a redirect."""
    status = answer.status
    if status < 400:
        return NotGeti(f"{answer} Redirects are not followed. {IS_IT_GETI}")
    if status == 401:
        return GetiUnauthorized(
            f"{answer} Make a new personal access token in Geti and set {WHERE}."
            " If GETI_ORGANIZATION_ID is set, the token must be of that organization."
        )
    if status == 403:
        return GetiForbidden(f"{answer} In Geti, let the user of the token see the project.")
    if status in (404, 405):
        return _missing(answer)
    if status in (408, 425, 429) or status >= 500:
        wait = answer.retry_after_seconds
        return GetiBusy(f"{answer} {_advice(status)}", wait, is_lasting=status == NOT_ENOUGH_SPACE)
    if answer.body.strip().lower() == b"bad request":
        return GetiMisconfigured(f"{answer} Geti says so of a token that has not the form of one: set {WHERE}.")
    return NotGeti(f"{answer} {IS_IT_GETI}") if answer.media_type == HTML else GetiRefused(str(answer))


def _missing(answer: Answer) -> GetiError:
    """Gone is only what Geti itself says so of: what a proxy does not find may be there."""
    code, detail = answer.field("error_code"), answer.field("detail")
    if isinstance(code, str):
        return GetiGone(str(answer), code)
    # Geti 3 is made with FastAPI, which says just this of a route that it does not have.
    has_no_route = detail in ("Not Found", "Method Not Allowed")
    if has_no_route or answer.field("endpoint_not_found_response") is not None:
        return GetiNoSuchRoute(f"{answer} This version of Geti does not have it.")
    if isinstance(detail, str) and answer.status == 404:
        return GetiGone(str(answer), "not_found")
    return NotGeti(f"{answer} Geti would say what it does not find. {IS_IT_GETI}")


def _advice(status: int) -> str:
    if status == 429:
        return f"Geti throttles. {IT_IS_TRIED_AGAIN}"
    if status == NOT_ENOUGH_SPACE:
        return "Its disk is full: make room on the server of Geti."
    return IT_IS_TRIED_AGAIN
