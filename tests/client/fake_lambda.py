"""Lambda's Invoke and CloudFormation's DescribeStacks on a loopback port: what `modelreg admin` sees of AWS."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote

STACK = "registry"
INVOKE = "/2015-03-31/functions/"
XMLNS = 'xmlns="http://cloudformation.amazonaws.com/doc/2010-05-15/"'


class Reply(NamedTuple):
    """An answer over HTTP; `cut` closes the connection without one."""

    status: int
    body: str
    headers: dict[str, str] = {}
    cut: bool = False


CUT = Reply(0, "", cut=True)


def failed(error_type: str, message: str) -> Reply:
    """As a function that raised is answered."""
    body = {"errorType": error_type, "errorMessage": message, "stackTrace": ["File app.py, secret-line"]}
    return Reply(200, json.dumps(body), {"X-Amz-Function-Error": "Unhandled"})


def refused(status: int, code: str, message: str = "No.") -> Reply:
    return Reply(status, json.dumps({"Message": message}), {"X-Amzn-ErrorType": code})


@dataclass
class FakeLambda:
    """functions: what each answers, from its payload. replies come first, in turn; None lets a call pass."""

    url: str = ""
    functions: dict[str, Callable[[dict[str, Any]], Any]] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    replies: list[Reply | None] = field(default_factory=list)
    invoked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)

    def answer(self, path: str, body: bytes) -> Reply:
        self.raw.append(body)
        if not path.startswith(INVOKE):
            return self._stack(parse_qs(body.decode()).get("StackName", [""])[0])
        name = unquote(path.removeprefix(INVOKE).partition("/")[0])
        payload = json.loads(body)
        self.invoked.append((name, payload))
        reply = self.replies.pop(0) if self.replies else None
        if name not in self.functions:
            return refused(404, "ResourceNotFoundException", f"Function not found: {name}")
        answer = reply or Reply(200, json.dumps(self.functions[name](payload)))
        if answer.cut:
            self.functions[name](payload)
        return answer

    def _stack(self, name: str) -> Reply:
        if name != STACK:
            error = f"<Error><Code>ValidationError</Code><Message>Stack with id {name} does not exist</Message></Error>"
            return Reply(400, f"<ErrorResponse {XMLNS}>{error}</ErrorResponse>", {"Content-Type": "text/xml"})
        members = "".join(
            f"<member><OutputKey>{key}</OutputKey><OutputValue>{value}</OutputValue></member>"
            for key, value in self.outputs.items()
        )
        stack = f"<member><StackName>{STACK}</StackName><Outputs>{members}</Outputs></member>"
        result = f"<DescribeStacksResult><Stacks>{stack}</Stacks></DescribeStacksResult>"
        return Reply(200, f"<DescribeStacksResponse {XMLNS}>{result}</DescribeStacksResponse>")


@contextmanager
def serving() -> Iterator[FakeLambda]:
    """The fake, at its `url` until the end."""
    fake = FakeLambda()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            reply = fake.answer(self.path, self.rfile.read(int(self.headers.get("Content-Length", 0))))
            if reply.cut:
                self.close_connection = True
                return
            self.send_response(reply.status)
            for name, value in {"Content-Length": str(len(reply.body.encode())), **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(reply.body.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    fake.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
