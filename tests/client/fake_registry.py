"""A registry and its S3 in memory, behind httpx.MockTransport: what the client sees of them, no more.

It keeps the promises the client relies on (digests, part sizes, states, idempotence) and can be told to fail: each
fault is asked once per request, before it is answered, and may answer or raise in its place.
"""

import base64
import hashlib
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import httpx
from modelreg.tokens import minted

BASE = "https://registry.test/prod/api"
S3 = "https://s3.test"
Fault = Callable[[httpx.Request], httpx.Response | None]
MODEL_FIELDS = {
    "description": None, "project_id": None, "project_name": None, "precision": ["fp32"], "tags": {}, "aliases": [],
    "revision": 1, "number": 1, "status": "READY",
}  # fmt: skip
TOKEN_FIELDS = {
    "name": "ci", "role": "viewer", "projects": None, "name_prefixes": None, "state": "active",
    "created_at": "2026-01-02T03:04:05.000000Z", "created_by": "admin", "expires_at": None, "revoked_at": None,
    "last_used_at": None,
}  # fmt: skip
ACTOR = {
    "kind": "token", "name": "ci", "request_id": "r-1", "source_ip": None, "user_agent": None, "token_id": None,
    "role": "publisher", "idempotency": None,
}  # fmt: skip
PAGE = 2  # of tokens and events


def problem(status: int, code: str, **extras: Any) -> httpx.Response:
    body = {"title": code, "status": status, "detail": extras.pop("detail", f"refused: {code}"), "code": code, **extras}
    return httpx.Response(status, content=json.dumps(body), headers={"Content-Type": "application/problem+json"})


def sha256_base64(content: bytes) -> str:
    return base64.b64encode(hashlib.sha256(content).digest()).decode()


@dataclass
class FakeUpload:
    id: str
    announced: dict[str, Any]
    method: str
    part_size: int
    state: str = "OPEN"
    parts: dict[int, bytes] = field(default_factory=dict)
    content: bytes | None = None

    @property
    def part_count(self) -> int:
        return -(-self.announced["size"] // self.part_size)


class FakeRegistry:
    """Uploads of up to single_limit bytes are one PUT; larger ones have parts of part_size."""

    def __init__(self, *, single_limit: int = 0, part_size: int = 1000) -> None:
        self.single_limit = single_limit
        self.part_size = part_size
        self.uploads: dict[str, FakeUpload] = {}
        self.models: dict[str, dict[str, Any]] = {}
        self.contents: dict[str, bytes] = {}
        self.tokens: dict[str, dict[str, Any]] = {}
        self.events: list[dict[str, Any]] = []
        self.checkpoints: list[str] = []
        self.knows_keys = True  # or is older than Idempotency-Key
        self.outcomes: dict[str, tuple[dict[str, Any], httpx.Response]] = {}
        self.faults: list[Fault] = []
        self.requests: list[httpx.Request] = []
        self.valid_signature = 1
        self._lock = threading.RLock()
        self.transport = httpx.MockTransport(self._answer)

    def calls(self, method: str, ending: str) -> list[httpx.Request]:
        """The requests so far of this method whose path ends like that."""
        return [request for request in self.requests if request.method == method and request.url.path.endswith(ending)]

    def fail(self, method: str, ending: str, *faults: httpx.Response | BaseException | None) -> None:
        """The next such requests get these answers in turn; None lets one pass."""
        left = list(faults)

        def fault(request: httpx.Request) -> httpx.Response | None:
            if not left or request.method != method or not request.url.path.endswith(ending):
                return None
            outcome = left.pop(0)
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome

        self.faults.append(fault)

    def lose_answer(self, method: str, ending: str) -> None:
        """The next such request is acted on, but its answer is lost."""
        left = [1]

        def fault(request: httpx.Request) -> httpx.Response | None:
            if left and request.method == method and request.url.path.endswith(ending):
                left.clear()
                self._dispatch(request)
                raise httpx.ReadError("connection reset")
            return None

        self.faults.append(fault)

    def add_model(self, content: bytes, **fields: Any) -> dict[str, Any]:
        model_id = fields.pop("id", f"model-{len(self.models):012d}")
        key = fields.pop("file_name", "model.zip")
        model = {
            **MODEL_FIELDS, "id": model_id, "name": "detector", "version": "v1", "size": len(content),
            "sha256": hashlib.sha256(content).hexdigest(), "file_url": f"s3://bucket/artifacts/01/{key}", **fields,
        }  # fmt: skip
        self.models[model_id] = model
        self.contents[model_id] = content
        return model

    def add_token(self, **fields: Any) -> dict[str, Any]:
        token_id = minted(clock=lambda: float(len(self.tokens))).id
        self.tokens[token_id] = {"id": token_id, **TOKEN_FIELDS, **fields}
        return self.tokens[token_id]

    def add_event(self, **fields: Any) -> dict[str, Any]:
        number = len(self.events) + 1
        event = {
            "id": f"01{number:024d}", "time": f"2026-01-02T03:04:{number:02d}.000000Z", "action": "version.updated",
            "subject": "MODEL#model-000000000001", "seq": number, "actor": ACTOR, "changes": {}, "about": [],
            "prev": "0" * 64, "digest": "d" * 64, **fields,
        }  # fmt: skip
        self.events.insert(0, event)
        return event

    def add_checkpoint(self, content: bytes, day: int = 1) -> str:
        key = f"2026-03-{day:02d}T0207Z.jsonl"
        self.checkpoints.insert(0, key)
        self.contents[key] = content
        return f"checkpoints/{key}"

    def _checkpoints(self) -> list[dict[str, Any]]:
        known = {"written_at": "2026-03-01T02:17:00.000000Z", "until": "2026-03-01T02:07:00.000000Z", "subjects": 1}
        return [
            {
                **known, "key": f"checkpoints/{key}", "sha256": hashlib.sha256(self.contents[key]).hexdigest(),
                "retained_until": None, "url": self._signed(f"/objects/{key}"),
            }
            for key in self.checkpoints
        ]  # fmt: skip

    def _answer(self, request: httpx.Request) -> httpx.Response:
        request.read()
        with self._lock:
            self.requests.append(request)
            for fault in self.faults:
                response = fault(request)
                if response is not None:
                    return response
            return self._dispatch(request)

    def _dispatch(self, request: httpx.Request) -> httpx.Response:
        if request.url.host == "s3.test":
            return self._s3(request)
        path = request.url.path.removeprefix("/prod/api").split("/")[1:]
        body = json.loads(request.content) if request.content and request.method == "POST" else {}
        match request.method, path:
            case "POST", ["uploads"]:
                return self._announce_once(request, body)
            case "GET", ["uploads", upload_id]:
                return self._status(upload_id)
            case "DELETE", ["uploads", upload_id]:
                self.uploads[upload_id].state = "ABORTED"
                return httpx.Response(204)
            case "POST", ["uploads", upload_id, "parts"]:
                return self._targets(self.uploads[upload_id], body["digests"])
            case "POST", ["uploads", upload_id, "complete"]:
                return self._complete(self.uploads[upload_id], body)
            case "GET", ["models", model_id] if model_id in self.models:
                return httpx.Response(200, json=self.models[model_id])
            case "GET", ["models", model_id, "files"] if model_id in self.models:
                return httpx.Response(307, text="follow", headers={"Location": self._signed(f"/objects/{model_id}")})
            case _, ["tokens", *rest]:
                return self._tokens(request, rest, body)
            case "GET", ["events"]:
                return self._page(request, self.events)
            case "GET", ["checkpoints"]:
                return self._page(request, self._checkpoints())
            case "GET", ["models", model_id, "events"]:
                return self._page(request, [one for one in self.events if one["subject"] == f"MODEL#{model_id}"])
        return httpx.Response(404, text="Model not found.\n")

    def _tokens(self, request: httpx.Request, rest: list[str], body: dict[str, Any]) -> httpx.Response:
        if request.method == "POST":
            token = self.add_token(**body)
            text = minted(clock=lambda: float(len(self.tokens) - 1)).text
            return httpx.Response(201, json={"token": text, **token})
        if not rest:
            return self._page(request, list(self.tokens.values()))
        token = self.tokens.get(rest[0], {})
        if not token:
            return problem(404, "not_found")
        if request.method == "DELETE":
            token["state"] = "revoked"
            return httpx.Response(204)
        if rest[1:] == ["access"]:
            return httpx.Response(200, json={"allowed": True, "status": 200, "rule": "Role publisher covers update."})
        return httpx.Response(200, json=token)

    def _page(self, request: httpx.Request, items: list[dict[str, Any]]) -> httpx.Response:
        asked = parse_qs(request.url.query.decode())
        first = int(asked.get("page_token", ["0"])[0])
        end = first + min(PAGE, int(asked.get("limit", [PAGE])[0]))
        headers = {"Link": f'<?page_token={end}>; rel="next"'} if end < len(items) else {}
        return httpx.Response(200, json=items[first:end], headers=headers)

    def _announce_once(self, request: httpx.Request, body: dict[str, Any]) -> httpx.Response:
        key = request.headers.get("idempotency-key", "") if self.knows_keys else ""
        if key not in self.outcomes:
            answer = self._announce(body)
            if key and answer.status_code in (201, 409):
                self.outcomes[key] = (body, answer)
            return answer
        content, first = self.outcomes[key]
        if content != body:
            return problem(422, "idempotency_key_reused")
        return httpx.Response(first.status_code, content=first.content, headers=first.headers)

    def _announce(self, body: dict[str, Any]) -> httpx.Response:
        for upload in self.uploads.values():
            announced = upload.announced
            is_taken = announced["id"] == body["id"] or all(announced[key] == body[key] for key in ("name", "version"))
            if is_taken and upload.state == "OPEN":
                return problem(409, "conflict", holder=announced["id"], upload_id=upload.id)
        method = "PUT" if body["size"] <= self.single_limit else "MULTIPART"
        if method == "PUT" and "sha256" not in body:
            return problem(422, "invalid_input", field="sha256")
        upload = FakeUpload(f"upload-{len(self.uploads)}", body, method, self.part_size)
        self.uploads[upload.id] = upload
        return httpx.Response(201, json={"model_id": body["id"], **self._place(upload), "expires_at": "later"})

    def _place(self, upload: FakeUpload) -> dict[str, Any]:
        common = {"upload_id": upload.id, "method": upload.method}
        if upload.method == "PUT":
            digest = base64.b64encode(bytes.fromhex(upload.announced["sha256"])).decode()
            headers = {"x-amz-checksum-sha256": digest, "If-None-Match": "*"}
            return {**common, "url": self._signed(f"/whole/{upload.id}"), "headers": headers}
        return {**common, "part_size": upload.part_size, "part_count": upload.part_count}

    def _status(self, upload_id: str) -> httpx.Response:
        upload = self.uploads.get(upload_id)
        if not upload:
            return problem(404, "not_found")
        parts = [
            {"number": number, "size": len(part), "etag": _etag(part), "digest": sha256_base64(part)}
            for number, part in sorted(upload.parts.items())
        ]
        told = {
            "model_id": upload.announced["id"], "state": upload.state, "size": upload.announced["size"],
            "stored": upload.content is not None, "parts": parts, "reason": None, "url": None, "headers": None,
        }  # fmt: skip
        return httpx.Response(200, json={**told, **self._place(upload)})

    def _targets(self, upload: FakeUpload, digests: dict[str, str]) -> httpx.Response:
        if upload.state != "OPEN":
            return problem(409, "upload_closed", state=upload.state)
        parts = [
            {
                "number": int(number),
                "url": self._signed(f"/part/{upload.id}/{number}"),
                "headers": {"x-amz-checksum-sha256": digest},
            }
            for number, digest in digests.items()
        ]
        return httpx.Response(200, json={"parts": parts, "expires_at": "later"})

    def _complete(self, upload: FakeUpload, body: dict[str, Any]) -> httpx.Response:
        model_id = upload.announced["id"]
        if upload.state == "COMPLETED":
            return httpx.Response(200, json=self.models[model_id])
        if upload.method == "MULTIPART" and upload.content is None:
            named = {part["number"]: part for part in body["parts"]}
            missing = [
                number
                for number in range(1, upload.part_count + 1)
                if number not in upload.parts
                or number not in named
                or named[number]["digest"] != sha256_base64(upload.parts[number])
            ]
            if missing:
                return problem(422, "upload_incomplete", parts=missing)
            upload.content = b"".join(part for _, part in sorted(upload.parts.items()))
        if upload.content is None:
            return problem(422, "upload_incomplete", parts=[])
        upload.state = "COMPLETED"
        fields = {key: upload.announced[key] for key in ("name", "version", "file_name")}
        return httpx.Response(200, json=self.add_model(upload.content, id=model_id, **fields))

    def _signed(self, path: str) -> str:
        return f"{S3}{path}?X-Amz-Signature=secret-{self.valid_signature}"

    def _s3(self, request: httpx.Request) -> httpx.Response:
        assert "authorization" not in request.headers
        path, _, query = request.url.raw_path.decode().partition("?")
        if parse_qs(query).get("X-Amz-Signature") != [f"secret-{self.valid_signature}"]:
            return s3_error(403, "AccessDenied")
        if request.method == "GET":
            return self._object(request, self.contents[path.split("/")[-1]])
        if sha256_base64(request.content) != request.headers["x-amz-checksum-sha256"]:
            return s3_error(400, "BadDigest")
        _, kind, upload_id, *number = path.split("/")
        upload = self.uploads[upload_id]
        if kind == "whole":
            if upload.content is not None:
                return s3_error(412, "PreconditionFailed")
            upload.content = request.content
        else:
            upload.parts[int(number[0])] = request.content
        return httpx.Response(200, headers={"ETag": _etag(request.content)})

    def _object(self, request: httpx.Request, content: bytes) -> httpx.Response:
        first, last = map(int, request.headers["range"].removeprefix("bytes=").split("-"))
        piece = content[first : last + 1]
        headers = {"Content-Range": f"bytes {first}-{first + len(piece) - 1}/{len(content)}"}
        return httpx.Response(206, content=piece, headers=headers)


def s3_error(status: int, code: str, **headers: str) -> httpx.Response:
    return httpx.Response(status, text=f"<Error><Code>{code}</Code></Error>", headers=headers)


def _etag(content: bytes) -> str:
    return f'"{hashlib.md5(content).hexdigest()}"'
