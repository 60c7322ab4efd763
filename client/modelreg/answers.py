"""What an HTTP answer of the registry means: the typed answer, the error, or the next page.

The registry speaks two dialects of errors: problem+json with a stable `code`, and, on its older routes, text or a
`detail` without one. Whatever is neither, as the page of a captive portal or of a wrong URL, is no registry.
"""

import json
import re
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import httpx
from pydantic import TypeAdapter, ValidationError

from modelreg.errors import (
    Conflict,
    Forbidden,
    IdempotencyKeyReused,
    InProgress,
    InvalidArchive,
    InvalidInput,
    NotARegistry,
    NotFound,
    RegistryError,
    StaleRevision,
    Throttled,
    TooLarge,
    Unauthorized,
    Unavailable,
    UploadClosed,
    UploadIncomplete,
)
from modelreg.retry import retry_after_seconds

T = TypeVar("T")
MAX_SHOWN_CHARACTERS = 2000
_HOLDER = re.compile(r"conflict with model '([^']+)'")
# With these, trying again does not help: somebody has to set something, here or in Geti.
NOT_CONFIGURED = "not_configured"
GETI_FAILED = frozenset(
    {"geti_error", "geti_unauthorized", "not_geti", "geti_forbidden", "geti_no_such_route", "geti_refused"}
)
LASTING = GETI_FAILED | {NOT_CONFIGURED}
_UNKNOWN_ROUTE = "Missing Authentication Token"  # so the gateway answers a path that it does not know


def parsed(kind: type[T], response: httpx.Response) -> T:
    """The answer, typed. Raises NotARegistry if it is something else."""
    try:
        return TypeAdapter(kind).validate_json(response.content)
    except ValidationError as exc:
        got = _media_type(response) or "an answer without a type"
        first = exc.errors(include_input=False, include_url=False)[0]
        why = f"{'.'.join(map(str, first['loc']))}: {first['msg']}" if first["loc"] else first["msg"]
        raise NotARegistry(
            f"{shown_url(response)} did not answer as a model registry does: {got} came instead ({why})."
        ) from None


def error_of(response: httpx.Response) -> RegistryError:
    """The error that a refusal means."""
    body = _json_object(response)
    status = response.status_code
    if body is None and _media_type(response) not in ("text/plain", "", "application/json"):
        return _foreign_error(response)
    if body is not None and (body.get("message") == _UNKNOWN_ROUTE or (status == 404 and set(body) == {"message"})):
        return NotARegistry(f"There is no registry at {shown_url(response)}: the gateway does not know this path.")
    message = _text(response, body)
    code = str((body or {}).get("code") or "")
    retry_after = retry_after_seconds(response.headers.get("retry-after"))
    build = _BY_CODE.get(code) or _BY_STATUS.get(status)
    if build:
        return build(message, code, body or {}, retry_after)
    if status >= 500:
        return RegistryError(message, code=code or None, hint=_log_hint(response))
    return InvalidInput(message, code=code or None) if 400 <= status < 500 else NotARegistry(message)


def next_query(response: httpx.Response) -> dict[str, str] | None:
    """The query of the next page, None after the last one.

    Only the query is taken from the link: behind a proxy the registry may know itself under another address, and a
    token is not to be sent anywhere but where the user said.
    """
    link = response.links.get("next")
    if not link or "url" not in link:
        return None
    _, _, query = link["url"].partition("?")
    return dict(parse_qsl(query.partition("#")[0], keep_blank_values=True))


def shown_url(response: httpx.Response) -> str:
    """Where the answer came from, without a query."""
    return str(response.request.url.copy_with(query=None, fragment=None, userinfo=b""))


def _media_type(response: httpx.Response) -> str:
    value: str = response.headers.get("content-type", "")
    return value.partition(";")[0].strip().lower()


def _json_object(response: httpx.Response) -> dict[str, Any] | None:
    if "json" not in _media_type(response):
        return None
    try:
        body = json.loads(response.content)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def _text(response: httpx.Response, body: dict[str, Any] | None) -> str:
    """The server's words, as one text."""
    said = response.text.strip() if body is None else _said(body)
    text = said or f"The registry answered {response.status_code} {response.reason_phrase}."
    return text if len(text) <= MAX_SHOWN_CHARACTERS else f"{text[:MAX_SHOWN_CHARACTERS]}..."


def _said(body: dict[str, Any]) -> str:
    detail = body.get("detail") or body.get("message") or body.get("Message") or body.get("title") or ""
    problems = detail if isinstance(detail, list) else _list(body.get("errors"))
    told = [_problem(problem) for problem in problems if isinstance(problem, dict)]
    return "; ".join(told) if told else str(detail)


def _problem(problem: dict[str, Any]) -> str:
    where = [str(step) for step in _list(problem.get("loc")) if step not in ("body", "query", "header")]
    return f"{'.'.join(where)}: {problem.get('msg', '')}" if where else str(problem.get("msg", ""))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _str(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _foreign_error(response: httpx.Response) -> RegistryError:
    """Something between us and the registry, or in its place, answered."""
    status = f"{response.status_code} {response.reason_phrase}".strip()
    message = f"{shown_url(response)} answered {status} ({_media_type(response)})."
    if response.status_code == 401:
        return Unauthorized(message)
    if response.status_code == 403:
        return Forbidden(message)
    if response.status_code == 413:
        return TooLarge(message)
    if response.status_code == 429:
        return Throttled(message, retry_after_seconds=retry_after_seconds(response.headers.get("retry-after")))
    if response.status_code >= 500:
        return Unavailable(message, retry_after_seconds=retry_after_seconds(response.headers.get("retry-after")))
    return NotARegistry(message)


def _log_hint(response: httpx.Response) -> str:
    request_id = response.headers.get("x-request-id") or response.headers.get("x-amzn-requestid")
    where = f" under request id {request_id}" if request_id else ""
    return f"The registry failed. Try again; if it goes on, its log says why{where}."


_Build = Callable[[str, str, dict[str, Any], float | None], RegistryError]


def _conflict(message: str, code: str, body: dict[str, Any], _: float | None) -> RegistryError:
    found = _HOLDER.search(message)
    return Conflict(
        message,
        holder=_str(body.get("holder")) or (found[1] if found else None),
        upload_id=_str(body.get("upload_id")),
        code=code,
    )


def _closed(message: str, code: str, body: dict[str, Any], _: float | None) -> RegistryError:
    return UploadClosed(message, state=_str(body.get("state")), code=code)


def _incomplete(message: str, code: str, body: dict[str, Any], _: float | None) -> RegistryError:
    numbers = [number for number in _list(body.get("parts")) if isinstance(number, int)]
    return UploadIncomplete(message, parts=numbers, code=code)


def _invalid(message: str, code: str, body: dict[str, Any], _: float | None) -> RegistryError:
    return InvalidInput(message, field=_str(body.get("field")), code=code)


def _invalid_archive(message: str, code: str, body: dict[str, Any], _: float | None) -> RegistryError:
    return InvalidArchive(message, field=_str(body.get("field")), code=code)


def _key_reused(message: str, code: str, body: dict[str, Any], _: float | None) -> RegistryError:
    return IdempotencyKeyReused(message, field=_str(body.get("field")), code=code)


def _unavailable(message: str, code: str, _: dict[str, Any], retry_after: float | None) -> RegistryError:
    return Unavailable(message, retry_after_seconds=retry_after, code=code, hint=_lasting_hint(code))


def _throttled(message: str, code: str, _: dict[str, Any], retry_after: float | None) -> RegistryError:
    return Throttled(message, retry_after_seconds=retry_after, code=code)


def _in_progress(message: str, code: str, _: dict[str, Any], retry_after: float | None) -> RegistryError:
    return InProgress(message, retry_after_seconds=retry_after, code=code)


def _plain(kind: type[RegistryError]) -> _Build:
    return lambda message, code, _body, _retry_after: kind(message, code=code)


def _sync_running(message: str, code: str, _body: dict[str, Any], _retry_after: float | None) -> RegistryError:
    hint = "`modelreg geti status`, or sync_status(), tells how far it is."
    return Conflict(message, code=code, hint=hint)


def _lasting_hint(code: str) -> str | None:
    if code == NOT_CONFIGURED:
        return "Whoever runs the registry must set what is named; trying again does not help."
    if code in GETI_FAILED:
        return "Trying again does not help; `modelreg geti doctor`, or geti_checks(), tells an admin what would."
    return None


_BY_CODE: dict[str, _Build] = {
    "conflict": _conflict,
    "upload_closed": _closed,
    "upload_incomplete": _incomplete,
    "invalid_archive": _invalid_archive,
    "idempotency_key_reused": _key_reused,
    "in_progress": _in_progress,
    "sync_running": _sync_running,
    "unavailable": _unavailable,
    "outcome_unknown": _unavailable,
    **dict.fromkeys(LASTING, _unavailable),
}
_BY_STATUS: dict[int, _Build] = {
    400: _invalid,
    401: _plain(Unauthorized),
    403: _plain(Forbidden),
    404: _plain(NotFound),
    408: _unavailable,
    409: _conflict,
    412: _plain(StaleRevision),
    413: _plain(TooLarge),
    415: _invalid,
    422: _invalid,
    429: _throttled,
    502: _unavailable,
    503: _unavailable,
    504: _unavailable,
}
