"""AWS calls as they were answered once, and a server that answers them so again.

What a function asks of AWS is recorded with AWS in memory, and replayed to processes: the registry, and a bare function
that makes the same calls. So only their own work differs.
"""

import base64
import contextlib
import itertools
import json
import threading
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3
from botocore import xform_name
from botocore.handlers import BUILTIN_HANDLERS

_NOTE = "model-registry-exchange"  # where the hook before a call leaves what was asked


@dataclass(frozen=True)
class Exchange:
    """One call: the service, the method of boto3's client, what it was given, and the answer of AWS."""

    service: str
    method: str
    arguments: Mapping[str, Any]
    status: int
    headers: Mapping[str, str]
    body: bytes

    def as_json(self) -> list[Any]:
        """Service, method and arguments, as tests/bench/function.py reads them."""
        return [self.service, self.method, {name: _as_json(value) for name, value in self.arguments.items()}]


def _as_json(value: Any) -> Any:
    if not hasattr(value, "read"):
        return value
    value.seek(0)
    return {"base64": base64.b64encode(value.read()).decode()}


@contextlib.contextmanager
def recording() -> Iterator[list[Exchange]]:
    """What is asked of DynamoDB and S3 while this lasts, by clients that are made while it lasts."""
    found: list[Exchange] = []

    def before(params: Mapping[str, Any], model: Any, context: dict[str, Any], **_: Any) -> None:
        context[_NOTE] = (model, dict(params))

    def after(response_dict: Mapping[str, Any], context: dict[str, Any], **_: Any) -> None:
        model, arguments = context[_NOTE]
        found.append(
            Exchange(
                model.service_model.service_name,
                xform_name(model.name),
                arguments,
                response_dict["status_code"],
                dict(response_dict["headers"]),
                response_dict["body"] if isinstance(response_dict["body"], bytes) else b"",
            )
        )

    hooks: list[Any] = [(f"before-parameter-build.{service}", before) for service in ("dynamodb", "s3")]
    hooks += [(f"response-received.{service}", after) for service in ("dynamodb", "s3")]
    BUILTIN_HANDLERS.extend(hooks)
    boto3.setup_default_session()
    try:
        yield found
    finally:
        for hook in hooks:
            BUILTIN_HANDLERS.remove(hook)


@contextlib.contextmanager
def replayed(exchanges: Sequence[Exchange]) -> Iterator[str]:
    """The endpoint of an AWS that knows only these answers: to the same question, or, by turns, to the same call."""
    same = {(one.method, _canonical(one.arguments)): one for one in exchanges if one.service == "dynamodb"}
    calls: dict[str, Iterator[Exchange]] = {}
    by_method = defaultdict(list)
    for one in exchanges:
        by_method[one.method].append(one)
    for method, answers in by_method.items():
        calls[method] = itertools.cycle(answers)

    class Answering(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # connections are kept, as by AWS
        disable_nagle_algorithm = True
        wbufsize = -1  # headers and body in one packet

        def do_POST(self) -> None:
            asked = self.rfile.read(int(self.headers["Content-Length"]))
            method = xform_name(self.headers["X-Amz-Target"].partition(".")[2])
            known = same.get((method, _canonical(json.loads(asked)))) or next(calls[method])
            kept = {"Content-Type": "application/x-amz-json-1.0", "x-amz-crc32": str(zlib.crc32(known.body))}
            self._answer(known, kept)

        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            known = next(calls["put_object"])
            kept = ("etag", "x-amz-version-id", "x-amz-checksum-sha256")
            self._answer(known, {name: value for name, value in known.headers.items() if name.lower() in kept})

        def handle_expect_100(self) -> bool:
            proceed = super().handle_expect_100()
            self.wfile.flush()  # or the client waits for a second
            return proceed

        def _answer(self, known: Exchange, headers: Mapping[str, str]) -> None:
            self.send_response(known.status)
            for name, value in {**headers, "Content-Length": str(len(known.body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(known.body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def _canonical(arguments: Mapping[str, Any]) -> str:
    return json.dumps(arguments, sort_keys=True, default=str)
