"""Errors as problem details (RFC 9457), with a stable `code`: the dialect of every route that the old API had not."""

import json
from typing import Any

from chalice.app import Response

from chalicelib.registry.errors import (
    Conflict,
    InvalidInput,
    KeyReused,
    RegistryError,
    UploadClosed,
    UploadIncomplete,
)
from chalicelib.surface import Answer, FieldProblem, Shape

PROBLEM_JSON = "application/problem+json"
MAX_PARTS_SHOWN = 100
# code: status and title; anything else is a rule that the content breaks.
STATUSES = {
    "unsupported_precision": (400, "Unsupported precision"),
    "invalid_id": (400, "Not the form of an id"),
    "unauthenticated": (401, "Unauthorized"),
    "forbidden": (403, "Forbidden"),
    "malformed_body": (400, "Malformed body"),
    "not_found": (404, "Not Found"),
    "method_not_allowed": (405, "Method Not Allowed"),
    "conflict": (409, "Conflict"),
    "exists": (409, "Already exists"),
    "not_here": (409, "Not kept here"),
    "upload_closed": (409, "The upload has ended"),
    "in_progress": (409, "In progress"),
    "sync_running": (409, "A sync is going on"),
    "stale_revision": (412, "Changed meanwhile"),
    "too_large": (413, "Too large"),
    "unsupported_media_type": (415, "Unsupported media type"),
    "internal": (500, "Internal Server Error"),
    "unavailable": (503, "Try again later"),
    "outcome_unknown": (503, "It is not known whether it was done"),
    "not_configured": (503, "Not configured"),
    # Geti, or the way to it, is at fault.
    **dict.fromkeys(
        ("geti_error", "geti_unauthorized", "not_geti", "geti_forbidden", "geti_no_such_route", "geti_refused"),
        (502, "Geti failed"),
    ),
}


class Problem(Shape):
    """An error: `detail` for people, `code` for programs."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    field: str | None = None
    errors: list[FieldProblem] | None = None
    holder: str | None = None
    upload_id: str | None = None
    state: str | None = None
    parts: list[int] | None = None


def answer_problem(exc: RegistryError) -> Response:
    status, title = STATUSES.get(exc.code, (422, "Unprocessable"))
    return problem_response(status, title, exc.code, _detail(exc), **_extras(exc))


def problem_response(status: int, title: str, code: str, detail: str, **extras: Any) -> Response:
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, "code": code, **extras}
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return Response(text, status_code=status, headers={"Content-Type": PROBLEM_JSON})


def problem_answer(meaning: str, *headers: str) -> Answer:
    """How an operation documents such an error."""
    return Answer(meaning, {PROBLEM_JSON: Problem}, headers)


def _detail(exc: RegistryError) -> str:
    if isinstance(exc, Conflict) and exc.upload_id:
        return f"{exc} It is being uploaded: go on with upload {exc.upload_id}, or DELETE /uploads/{exc.upload_id}."
    return str(exc)


def _extras(exc: RegistryError) -> dict[str, Any]:
    """What a program needs to act on it."""
    match exc:
        case Conflict():
            found = {"holder": exc.holder, "upload_id": exc.upload_id}
        case UploadClosed():
            found = {"state": exc.state}
        case UploadIncomplete():
            return {"parts": list(exc.parts[:MAX_PARTS_SHOWN])}
        case InvalidInput() | KeyReused():
            found = {"field": exc.field}
        case _:
            return {"errors": details} if (details := getattr(exc, "details", None)) else {}
    return {name: value for name, value in found.items() if value}
