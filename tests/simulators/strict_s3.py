"""S3 as strict as on AWS, in front of an emulator that forgives.

Refuses presigned requests that bring Authorization or `x-amz-*` headers the signature does not cover, parts that are
too small, and parts without the digest that their upload asks for. Sources: S3 API Reference, "Authenticating
Requests: Using Query Parameters", "CompleteMultipartUpload" and "UploadPart".
"""

import re
import threading
from collections.abc import Callable
from xml.sax.saxutils import escape

from tests.simulators.proxy import Proxy, Reply, Request

MIN_PART_BYTES = 5 * 1024**2  # every part but the last

Upload = tuple[str, str]  # path, upload id


class StrictS3(Proxy):
    """`fault`, while set, may answer instead of S3: return a Reply, or None to let the request through."""

    fault: Callable[[Request], Reply | None] | None = None

    def __init__(self, upstream: str, timeout_seconds: float = 60) -> None:
        super().__init__(upstream, timeout_seconds)
        self._lock = threading.Lock()
        self._part_sizes: dict[Upload, dict[int, int]] = {}
        self._digests: dict[Upload, str] = {}

    def answer(self, request: Request) -> Reply:
        injected = self.fault(request) if self.fault else None
        refusal = injected or self._refusal(request)
        if refusal:
            return refusal
        reply = self.forward(request)
        self._remember(request, reply)
        return reply

    def _refusal(self, request: Request) -> Reply | None:
        return _ambiguous_credentials(request) or _unsigned_headers(request) or self._bad_multipart(request)

    def _bad_multipart(self, request: Request) -> Reply | None:
        upload = _upload(request)
        if upload and request.method == "PUT":
            return self._part_without_digest(request, upload)
        if upload and request.method == "POST":
            return self._small_parts(request, upload)
        return None

    def _part_without_digest(self, request: Request, upload: Upload) -> Reply | None:
        algorithm = self._digests.get(upload)
        wanted = f"x-amz-checksum-{algorithm}"
        if not algorithm or request.header(wanted) or wanted in {name.lower() for name in request.query}:
            return None
        return s3_error(
            400,
            "InvalidRequest",
            f"Checksum Type mismatch occurred, expected checksum Type: {algorithm}, actual checksum Type: null",
        )

    def _small_parts(self, request: Request, upload: Upload) -> Reply | None:
        sizes = self._part_sizes.get(upload, {})
        numbers = sorted(int(number) for number in re.findall(rb"<PartNumber>\s*(\d+)\s*</PartNumber>", request.body))
        for number in numbers[:-1]:
            if sizes.get(number, MIN_PART_BYTES) < MIN_PART_BYTES:
                return s3_error(
                    400,
                    "EntityTooSmall",
                    "Your proposed upload is smaller than the minimum allowed size",
                    ProposedSize=sizes[number],
                    MinSizeAllowed=MIN_PART_BYTES,
                    PartNumber=number,
                )
        return None

    def _remember(self, request: Request, reply: Reply) -> None:
        if reply.status != 200:
            return
        upload = _upload(request)
        with self._lock:
            if upload and request.method == "PUT":
                parts = self._part_sizes.setdefault(upload, {})
                parts[int(request.query.get("partNumber", 0))] = len(request.body)
            elif request.method == "POST" and "uploads" in request.query:
                algorithm = request.header("x-amz-checksum-algorithm")
                created = re.search(rb"<UploadId>(.*?)</UploadId>", reply.body)
                if algorithm and created:
                    self._digests[request.path, created[1].decode()] = algorithm.lower()


def _ambiguous_credentials(request: Request) -> Reply | None:
    if _is_presigned(request) and request.header("authorization"):
        return s3_error(
            400,
            "InvalidArgument",
            "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string "
            "parameter or the Authorization header should be specified",
            ArgumentName="Authorization",
        )
    return None


def _unsigned_headers(request: Request) -> Reply | None:
    if not _is_presigned(request):
        return None
    signed = request.query.get("X-Amz-SignedHeaders", "").split(";")
    amazon = {name.lower() for name, _ in request.headers if name.lower().startswith("x-amz-")}
    unsigned = sorted(amazon.difference(signed))
    if unsigned:
        return s3_error(
            403,
            "AccessDenied",
            "There were headers present in the request which were not signed",
            HeadersNotSigned=", ".join(unsigned),
        )
    return None


def _is_presigned(request: Request) -> bool:
    return "X-Amz-Signature" in request.query


def _upload(request: Request) -> Upload | None:
    upload_id = request.query.get("uploadId")
    return (request.path, upload_id) if upload_id else None


def s3_error(status: int, code: str, message: str, **details: object) -> Reply:
    """An error as S3 says it."""
    fields = {"Code": code, "Message": message, **details, "RequestId": "0000000000000000"}
    inner = "".join(f"<{name}>{escape(str(value))}</{name}>" for name, value in fields.items())
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>{inner}</Error>'
    return Reply(status, [("Content-Type", "application/xml")], body.encode())
