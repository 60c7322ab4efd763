"""What Geti says when something is wrong, to the letter, by name; and what any answer is made of."""

import json
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any

from tests.simulators.geti.zips import Package

PAGE = b"<!doctype html><html><head><title>Geti</title></head><body><div id='root'></div></body></html>"


@dataclass(frozen=True)
class Answer:
    """A status, headers, and a body or a package."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    package: Package | None = None

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


class Refusal(Exception):
    """Ends the work on a request: with this answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


def json_answer(content: Any, status: int = 200) -> Answer:
    headers = [("Content-Type", "application/json"), *[("Cache-Control", "no-cache")] * (status >= 400)]
    return Answer(status, json.dumps(content, ensure_ascii=False).encode(), tuple(headers))


def text_answer(text: str, status: int, *headers: tuple[str, str]) -> Answer:
    return Answer(status, text.encode(), (("Content-Type", "text/plain"), *headers))


def html_answer() -> Answer:
    """The page of the web application."""
    return Answer(200, PAGE, (("Content-Type", "text/html; charset=utf-8"),))


def file_answer(package: Package) -> Answer:
    """A package as an attachment; its name as the header can say it."""
    name = package.file_name.encode("ascii", "replace").decode().replace('"', "_").replace("\\", "_")
    headers = (("Content-Type", "application/zip"), ("Content-Disposition", f'attachment; filename="{name}"'))
    return Answer(200, headers=headers, package=package)


def coded(code: str, message: Any, status: int) -> Answer:
    """The error of Geti 2."""
    return json_answer({"error_code": code, "message": message, "http_status": status}, status)


def detail(message: Any, status: int) -> Answer:
    """The error of FastAPI."""
    return json_answer({"detail": message}, status)


def missing(code: str, message: str = "") -> Answer:
    """A typed 404 of Geti 2."""
    thing = code.removesuffix("_not_found").replace("_", " ")
    return coded(code, message or f"The requested {thing} could not be found.", 404)


def no_endpoint(url: str) -> Answer:
    return json_answer({"endpoint_not_found_response": f"Endpoint {url} is not found"}, 404)


def bad_request(message: Any) -> Answer:
    return coded("bad_request", message, 400)


ANSWERS = {
    "bad_token": text_answer("Bad request", 400),
    "unauthorized": text_answer("Invalid authorization token", 401),
    "expired": text_answer("Access token is expired", 401),
    "forbidden": text_answer("RBAC: access denied", 403),
    **{
        code: missing(code)
        for code in (
            "organization_not_found",
            "workspace_not_found",
            "project_not_found",
            "model_storage_not_found",
            "model_not_found",
            "code_deployment_not_found",
            "exportable_code_not_found",
        )
    },
    "no_route": no_endpoint("/api/v1/somewhere"),
    "not_found": detail("Not found", 404),  # Geti 3
    "bad_request": bad_request("limit must not exceed 100"),
    "bad_request_fields": bad_request({"limit": ["Must be greater than or equal to 1 and less than or equal to 100."]}),
    "incompatible_model_format": coded(
        "incompatible_model_format", "Only OpenVINO models can be part of a deployment.", 400
    ),
    "model_purging_not_possible": coded("model_purging_not_possible", "The model has been purged.", 422),
    "validation": detail("Missing package_type in the body of the request.", 422),
    "no_content": Answer(204),
    "throttled": Answer(429, headers=(("x-local-rate-limit", "true"),)),
    "throttled_text": text_answer("local_rate_limited", 429, ("x-local-rate-limit", "true")),
    "server_error": json_answer({"internal_server_error": "An internal server error occurred."}, 500),
    "code_deployment_corrupt": coded("code_deployment_corrupt", "The code deployment is corrupt.", 500),
    "bad_gateway": text_answer("upstream connect error or disconnect/reset before headers", 502),
    "not_ready": coded("code_deployment_download_not_ready", "The code deployment is not ready.", 503),
    "unavailable": text_answer("no healthy upstream", 503),
    "no_space": coded("not_enough_space", "There is not enough space left on the server.", 507),
    "html": html_answer(),
    "not_json": Answer(200, b'{"projects": [', (("Content-Type", "application/json"),)),
    "empty": Answer(200, b"", (("Content-Type", "application/json"),)),
}
# What a status alone stands for.
BY_STATUS = {
    204: "no_content",
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "project_not_found",
    422: "validation",
    429: "throttled",
    500: "server_error",
    502: "bad_gateway",
    503: "unavailable",
    507: "no_space",
}


def answer_of(what: int | str, major: int = 2) -> Answer:
    """The answer of this name, or of this status, by this major version of Geti."""
    if isinstance(what, str):
        return ANSWERS[what]
    if major == 3 and what >= 400:
        return detail(HTTPStatus(what).phrase, what)
    return ANSWERS[BY_STATUS[what]] if what in BY_STATUS else text_answer("", what)


def with_headers(answer: Answer, headers: dict[str, str]) -> Answer:
    """The answer with these headers, which replace those of the same name."""
    replaced = {name.lower() for name in headers}
    kept = tuple((name, value) for name, value in answer.headers if name.lower() not in replaced)
    return replace(answer, headers=kept + tuple(headers.items()))
