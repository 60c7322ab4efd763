"""`/openapi.json` and `/docs`: what this API is, for programs and for people."""

import hashlib
import json
from functools import cached_property
from typing import Any

from chalice.app import Response

from chalicelib.routing import surfaces
from chalicelib.settings import settings
from chalicelib.surface import JSON, Answer, Surface
from chalicelib.surfaces.models import answer_error

HTML = "text/html"
CACHED = ("ETag", "Cache-Control")
UNCHANGED = Answer("It is as in If-None-Match", headers=CACHED)
# The page needs nothing but its own style: no script, font or image, from here or elsewhere.
CONTENT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Documentation(Surface):
    """Tells of all surfaces of the app, itself included. Each text is made on first use, once per container."""

    @cached_property
    def document(self) -> dict[str, Any]:
        # Imported here, as below, because a cold start that only serves models should not pay for it.
        from chalicelib.openapi import document_of

        return document_of(surfaces(), settings().public_url)

    @cached_property
    def text(self) -> str:
        return json.dumps(self.document, ensure_ascii=False, separators=(",", ":"))

    @cached_property
    def page(self) -> str:
        from chalicelib.docs_page import page_of

        return page_of(self.document)


documentation = Documentation(__name__, answer_error)


@documentation.operation(
    "GET",
    "/openapi.json",
    role=None,
    responses={200: Answer("An OpenAPI 3.1 document", {JSON: dict[str, Any]}, CACHED), 304: UNCHANGED},
    curl='curl "$REGISTRY/openapi.json"',
)
def get_document() -> Response:
    """Get this API as an OpenAPI document"""
    return unless_known(documentation.text, {"Content-Type": JSON})


@documentation.operation(
    "GET",
    "/docs",
    role=None,
    responses={200: Answer("A page", {HTML: str}, CACHED), 304: UNCHANGED},
    curl='curl "$REGISTRY/docs"',
)
def get_page() -> Response:
    """Read this API as a page"""
    headers: dict[str, str | list[str]] = {
        "Content-Type": f"{HTML}; charset=utf-8",
        "Content-Security-Policy": CONTENT_POLICY,
    }
    return unless_known(documentation.page, headers)


def unless_known(body: str, headers: dict[str, str | list[str]]) -> Response:
    """The body, to be kept for five minutes; without it if the caller has it already."""
    tag = f'"{hashlib.sha256(body.encode()).hexdigest()[:16]}"'
    headers = {**headers, "ETag": tag, "Cache-Control": "public, max-age=300"}
    stated = documentation.current_request.headers.get("if-none-match") or ""
    if tag in (part.strip().removeprefix("W/") for part in stated.split(",")):
        return Response("", status_code=304, headers=headers)
    return Response(body, status_code=200, headers=headers)
