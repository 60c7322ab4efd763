"""Sockets and threads of the server: HTTP/1.1 that keeps connections, TLS, and every way to break off an answer."""

import contextlib
import select
import socket
import socketserver
import ssl
import struct
import sys
import threading
import time
import traceback
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from tests.simulators.geti.answers import Answer
from tests.simulators.geti.certificates import Certificate
from tests.simulators.geti.faults import Asked, Fault
from tests.simulators.geti.zips import Package

if TYPE_CHECKING:
    from tests.simulators.geti.server import GetiServer

TOKEN_HEADER = "x-api-key"
SECRETS = {TOKEN_HEADER, "authorization", "cookie"}
IDLE_SECONDS = 60
LOOK_SECONDS = 0.02
PIECE_BYTES = 1024
LINGER = struct.pack("ii", 1, 0)  # closing resets


class Listener:
    """Listens on the loopback between `start` and `stop`; after that nothing of it is left."""

    def __init__(self, geti: "GetiServer", tls: Certificate | None, port: int) -> None:
        self.geti = geti
        self.errors: list[str] = []
        self.stopping = threading.Event()
        self._tls = tls
        self._port = port
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Without a slash at the end. Stays the same after the end."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}"

    def start(self) -> None:
        context = self._tls.server_context() if self._tls else None
        self.stopping.clear()
        self._server = _Server(("127.0.0.1", self._port), self, context)
        self._port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), name="geti", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        assert self._server
        assert self._thread
        self.stopping.set()
        self._server.shutdown()
        self._thread.join()
        self._server.hang_up()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # server_close waits for them
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], listener: Listener, context: ssl.SSLContext | None) -> None:
        self.listener = listener
        self._context = context
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._count = 0
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        # Not that of HTTPServer, which looks its own name up.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "localhost", self.server_address[1]

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        connection.settimeout(IDLE_SECONDS)
        if self._context:
            # The handshake is for the thread of the connection.
            connection = self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        with self._lock:
            self._open.add(connection)
        return connection, address

    def next_number(self) -> int:
        with self._lock:
            self._count += 1
            return self._count

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.discard(request)
        if request.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, len(LINGER)) == LINGER:
            request.close()  # at once: shutting it down before would end it in good order
        else:
            super().shutdown_request(request)

    def hang_up(self) -> None:
        """End all connections: their threads see the end of what they read."""
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    # Of the socket below TLS, whose state belongs to the other thread.
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def handle_error(self, _request: Any, _client_address: Any) -> None:
        # Clients may leave at any time, or not trust us.
        if not isinstance(sys.exception(), OSError):
            self.listener.errors.append(traceback.format_exc())


class _Ended(Exception):
    """This connection has had its last byte."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server
    _headers_buffer: list[bytes]

    def setup(self) -> None:
        if isinstance(self.request, ssl.SSLSocket):
            self.request.do_handshake()
        self.number = self.server.next_number()
        self.listener = self.server.listener
        super().setup()

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (_Ended, OSError):
            self.close_connection = True

    def finish(self) -> None:
        with contextlib.suppress(OSError):
            super().finish()

    def __getattr__(self, name: str) -> object:
        # http.server looks for do_GET, do_POST and so on.
        if name.startswith("do_"):
            return self._handle
        raise AttributeError(name)

    def _handle(self) -> None:
        asked = self._asked()
        try:
            self._answer(asked)
        finally:
            self.listener.geti.answered(asked)

    def _answer(self, asked: Asked) -> None:
        answer, fault = self.listener.geti.answer(asked, self.headers.get(TOKEN_HEADER))
        if fault and fault.cut == "late":
            self._wait(fault.seconds)
        if fault and fault.cut == "drop":
            raise _Ended
        if answer.package:
            self._send_package(asked, answer, answer.package, fault)
        else:
            self._send(asked, answer, self._cut([answer.body], fault), len(answer.body))

    def _asked(self) -> Asked:
        parts = urlsplit(self.path)
        return Asked(
            method=self.command,
            target=self.path,
            path=parts.path,
            query=dict(parse_qsl(parts.query, keep_blank_values=True)),
            headers={name.lower(): value for name, value in self.headers.items() if name.lower() not in SECRETS},
            has_token=TOKEN_HEADER in self.headers,
            connection=self.number,
            body=self.rfile.read(int(self.headers.get("Content-Length") or 0)),
        )

    def _send_package(self, asked: Asked, answer: Answer, package: Package, fault: Fault | None) -> None:
        geti = self.listener.geti
        download = geti.begin_download(asked, package)
        if isinstance(download, Answer):
            self._send(asked, download, [download.body], len(download.body))
            return

        def counted() -> Iterable[bytes]:
            # Counted before it is sent: whoever has read all of it finds it complete, and may ask for the next.
            for piece in self._cut(package.chunks(), fault):
                download.sent += len(piece)
                if download.is_complete:
                    geti.end_download(download)
                yield piece

        try:
            self._send(asked, answer, counted(), None if geti.is_chunked else package.size)
        finally:
            geti.end_download(download)

    def _send(self, asked: Asked, answer: Answer, pieces: Iterable[bytes], size: int | None) -> None:
        """size None: in chunks, each with its length before it."""
        asked.status = answer.status
        self.send_response_only(answer.status)
        for name, value in answer.headers:
            self.send_header(name, value)
        if size is None:
            self.send_header("Transfer-Encoding", "chunked")
        elif answer.status != 204:
            self.send_header("Content-Length", str(size))
        # Goes with the first of the body, in one packet.
        head = b"".join([*self._headers_buffer, b"\r\n"])
        self._headers_buffer.clear()
        for piece in pieces if self.command != "HEAD" else ():
            framed = b"%x\r\n%b\r\n" % (len(piece), piece) if size is None and piece else piece
            self.wfile.write(head + framed)
            head = b""
        self.wfile.write(head + (b"0\r\n\r\n" if size is None else b""))

    def _cut(self, body: Iterable[bytes], fault: Fault | None) -> Iterable[bytes]:
        """The body until the fault strikes, and what comes of it."""
        if fault is None or fault.cut in (None, "late"):
            yield from body
            return
        left = fault.after_bytes
        has_struck = False
        for chunk in body:
            if not has_struck and len(chunk) >= left:
                yield chunk[:left]
                chunk, has_struck = chunk[left:], True
                self._strike(fault)
            left -= len(chunk)
            if has_struck and fault.cut == "slow":
                yield from self._slowly(chunk, fault.seconds or LOOK_SECONDS)
            else:
                yield chunk
        if not has_struck:
            self._strike(fault)

    def _strike(self, fault: Fault) -> None:
        if fault.cut == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
        if fault.cut in ("reset", "short"):
            raise _Ended
        if fault.cut == "stall":
            self._wait(fault.seconds)

    def _slowly(self, chunk: bytes, seconds: float) -> Iterable[bytes]:
        for at in range(0, len(chunk), PIECE_BYTES):
            self._wait(seconds)
            yield chunk[at : at + PIECE_BYTES]

    def _wait(self, seconds: float | None) -> None:
        """So long, or for ever; not longer than the client or the server stays."""
        until = None if seconds is None else time.monotonic() + seconds
        while until is None or time.monotonic() < until:
            left = LOOK_SECONDS if until is None else min(LOOK_SECONDS, max(until - time.monotonic(), 0))
            if self.listener.stopping.wait(left) or self._is_alone():
                raise _Ended

    def _is_alone(self) -> bool:
        """Whether the client has closed its side."""
        readable = select.select([self.connection], [], [], 0)[0]
        # Below TLS: all that is asked is whether there is an end.
        return bool(readable) and socket.socket.recv(self.connection, 1, socket.MSG_PEEK) == b""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Quiet."""
