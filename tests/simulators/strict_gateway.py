"""API Gateway and Lambda as strict as on AWS, in front of an emulator that forgives.

`{address}/api/...` is sent on to the API's base URL upstream. Limits from the API Gateway and Lambda developer
guides, "Quotas"; texts from the gateway responses of the deployed template.
"""

import base64
import json
import threading
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from tests.simulators.proxy import Headers, Proxy, Reply, Request

STAGE = "/api"
MAX_REQUEST_BYTES = 10 * 1024**2
MAX_EVENT_BYTES = MAX_ANSWER_BYTES = 6_291_556
TIMEOUT_SECONDS = 29
# requestContext, resource, stage variables and punctuation of a proxy event; measured ones have 1.2 to 1.9 kB.
ENVELOPE_BYTES = 2048
REMAPPED = {"www-authenticate": "x-amzn-Remapped-WWW-Authenticate"}


class StrictGateway(Proxy):
    """`gateway_responses` are those of the template; `lanes` is how many requests Lambda serves at once.

    Requests beyond the lanes wait for their turn: on AWS Lambda would start more environments, for which a
    test machine has no room.
    """

    def __init__(
        self,
        upstream: str,
        binary_types: Iterable[str],
        gateway_responses: Mapping[str, Any],
        timeout_seconds: float = TIMEOUT_SECONDS,
        lanes: int = 6,
    ) -> None:
        super().__init__(upstream, timeout_seconds)
        self._binary_types = set(binary_types)
        self._responses = gateway_responses
        self.lanes = lanes
        self._free_lanes = threading.BoundedSemaphore(lanes)

    @property
    def url(self) -> str:
        """Base URL of the API."""
        return f"http://localhost:{self.port}{STAGE}"

    def answer(self, request: Request) -> Reply:
        reply = self._checked(request)
        headers = [(REMAPPED.get(name.lower(), name), value) for name, value in reply.headers]
        if not reply.header("x-amzn-requestid"):
            headers.append(("x-amzn-requestid", str(uuid.uuid4())))
        return replace(reply, headers=headers)

    def _checked(self, request: Request) -> Reply:
        if not request.path.startswith(f"{STAGE}/"):
            return self._own("MISSING_AUTHENTICATION_TOKEN", 403)
        if len(request.body) > MAX_REQUEST_BYTES or self._event_bytes(request) > MAX_EVENT_BYTES:
            return self._own("REQUEST_TOO_LARGE", 413)
        if self._would_be_mangled(request):
            media_type = request.header("content-type")
            return Reply(500, body=f"{media_type} is not binary here: the gateway would mangle this body.".encode())
        base = urlsplit(self.upstream.geturl()).path
        try:
            with self._free_lanes:
                reply = self.forward(replace(request, target=base + request.target.removeprefix(STAGE)))
        except TimeoutError:
            return self._own("INTEGRATION_TIMEOUT", 504)
        if _answer_bytes(reply) > MAX_ANSWER_BYTES:
            return self._own("INTEGRATION_FAILURE", 502)
        return reply

    def _is_binary(self, request: Request) -> bool:
        media_type = (request.header("content-type") or "").partition(";")[0].strip().lower()
        return media_type in self._binary_types

    def _would_be_mangled(self, request: Request) -> bool:
        if self._is_binary(request):
            return False
        try:
            request.body.decode("utf-8")
        except UnicodeDecodeError:
            return True
        return False

    def _event_bytes(self, request: Request) -> int:
        """The size of the event as Lambda is handed it."""
        if self._is_binary(request):
            body = len(base64.b64encode(request.body))
        else:
            body = len(json.dumps(request.body.decode("utf-8", "replace")))
        return body + 2 * _headers_bytes(request.headers) + 2 * len(request.target) + ENVELOPE_BYTES

    def _own(self, name: str, default_status: int) -> Reply:
        """What the gateway says by itself."""
        response = self._responses.get(name, {})
        template = response.get("ResponseTemplates", {}).get("application/json", '{"message":"..."}')
        headers = [("Content-Type", "application/json"), ("x-amzn-ErrorType", name)]
        return Reply(int(response.get("StatusCode", default_status)), headers, template.encode())


def _headers_bytes(headers: Headers) -> int:
    """As they stand in JSON. An event has them twice: as single values and as lists."""
    return len(json.dumps(dict(headers)))


def _answer_bytes(reply: Reply) -> int:
    """The size of what Lambda answers: the body as text in JSON, where some runtimes escape all but ASCII."""
    return len(json.dumps({"statusCode": reply.status, "headers": dict(reply.headers), "body": reply.body.decode()}))
