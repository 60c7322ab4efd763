"""A small HTTP proxy that may refuse: what the strict simulators have in common.

A subclass says what it answers; `forward` sends a request on as it came, Host header included, so that signatures
hold. Bodies are held in memory. Each server has a port of its own, on the loopback only.
"""

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import parse_qsl, urlsplit

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "proxy-connection"}
MAX_REMEMBERED_BYTES = 1024**2
Headers = list[tuple[str, str]]


def header(headers: Headers, name: str) -> str | None:
    """The value of a header, None if it is not there."""
    return next((value for key, value in headers if key.lower() == name.lower()), None)


@dataclass(frozen=True)
class Request:
    method: str
    target: str  # path and query, as sent
    headers: Headers = field(default_factory=list)
    body: bytes = b""

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))

    def header(self, name: str) -> str | None:
        return header(self.headers, name)


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Headers = field(default_factory=list)
    body: bytes = b""

    def header(self, name: str) -> str | None:
        return header(self.headers, name)


class Proxy:
    """Answers each request with `answer`. `seen` holds every request that came, without its body if that was large."""

    def __init__(self, upstream: str, timeout_seconds: float = 60) -> None:
        self.upstream = urlsplit(upstream)
        self.timeout_seconds = timeout_seconds
        self.seen: list[Request] = []

    def answer(self, request: Request) -> Reply:
        return self.forward(request)

    def forward(self, request: Request) -> Reply:
        """What upstream answers. Raises TimeoutError when that takes too long."""
        connection = http.client.HTTPConnection(self.upstream.netloc, timeout=self.timeout_seconds)
        try:
            connection.putrequest(request.method, request.target, skip_host=True, skip_accept_encoding=True)
            for name, value in request.headers:
                if name.lower() not in HOP_BY_HOP | {"expect"}:
                    connection.putheader(name, value.encode("latin-1"))
            connection.endheaders(request.body)
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        kept = [(name, value) for name, value in answer.getheaders() if name.lower() not in HOP_BY_HOP]
        return Reply(answer.status, kept, body)

    @contextmanager
    def serving(self) -> Iterator[Self]:
        """Serve while the context lasts, at `address`."""
        proxy = self

        class Handler(_Handler):
            def answer(self, request: Request) -> Reply:
                is_small = len(request.body) <= MAX_REMEMBERED_BYTES
                proxy.seen.append(request if is_small else replace(request, body=b""))
                return proxy.answer(request)

        with _Server(("127.0.0.1", 0), Handler) as server:
            self.port = server.server_address[1]
            thread = threading.Thread(target=server.serve_forever, args=(0.05,))
            thread.start()
            try:
                yield self
            finally:
                server.shutdown()
                thread.join()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class _Server(ThreadingHTTPServer):
    # Clients keep connections open; the end of a test run does not wait for them.
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # A connection that is kept open without a request gives its thread back.
    timeout = 30

    def answer(self, request: Request) -> Reply:
        raise NotImplementedError

    def handle_one_request(self) -> None:
        # Clients may leave in the middle of an answer; that is their right, and nothing to print.
        try:
            super().handle_one_request()
        except ConnectionError:
            self.close_connection = True

    def __getattr__(self, name: str) -> object:
        # http.server looks for do_GET, do_PUT and so on.
        if name.startswith("do_"):
            return self._handle
        raise AttributeError(name)

    def _handle(self) -> None:
        if self.headers.get("Transfer-Encoding"):
            # None of our clients sends it, and S3 refuses it in plain requests.
            self.close_connection = True
            reply = Reply(501, body=b"This simulator wants a Content-Length.")
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            reply = self.answer(Request(self.command, self.path, list(self.headers.items()), body))
        self._send(reply)

    def _send(self, reply: Reply) -> None:
        self.send_response_only(reply.status)
        for name, value in reply.headers:
            if name.lower() != "content-length":
                self.send_header(name, value)
        # The answer to HEAD says how long the body would be.
        length = reply.header("content-length") if self.command == "HEAD" else None
        if reply.status != 204:
            self.send_header("Content-Length", length or str(len(reply.body)))
        self.end_headers()
        self.wfile.write(reply.body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Quiet."""
