"""Blobs on S3. Keys are written once: every PUT carries `If-None-Match: *` and the digest that S3 checks.

Clients send large objects themselves, with requests that are signed here: a signature covers the digest, so it stores
these bytes or none. Each object is marked with the id of the model it is for.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from queue import Empty, Queue
from threading import Thread
from typing import TYPE_CHECKING, Any, BinaryIO, cast
from urllib.parse import quote

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as NotConnected

from chalicelib.registry.errors import Unavailable, UploadIncomplete
from chalicelib.registry.ports import SignedRequest
from chalicelib.registry.uploads import Part, StoredObject

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from chalicelib.registry.models import File
    from chalicelib.registry.ports import Poured
    from chalicelib.registry.uploads import Upload

THROTTLED = ("SlowDown", "RequestTimeout", "ThrottlingException")
PREFIX = "artifacts/"
PART_URL_SECONDS = 3600  # as MLflow's own servers have it
OWNER = "model-id"
STILL_JOINING = "S3 is still joining the parts: complete the upload again in a moment."


class S3Blobs:
    """Blobs (registry/ports.py) in one bucket.

    Clients are made on first use: the one that signs may know S3 under another address than the one that calls, and
    the patient one waits while S3 joins thousands of parts.
    """

    def __init__(
        self,
        bucket: str,
        client: Callable[[], S3Client],
        signer: Callable[[], S3Client],
        url_seconds: int,
        report: Callable[[str, str], None],
        patient: Callable[[], S3Client] | None = None,
        join_seconds: float = 18,
    ) -> None:
        self.bucket = bucket
        self._client = client
        self._signer = signer
        self._patient = patient or client
        self._join_seconds = join_seconds
        self._url_seconds = url_seconds
        self._report = report

    def ping(self) -> None:
        try:
            self._client().head_bucket(Bucket=self.bucket)
        except (BotoCoreError, ClientError) as exc:
            raise Unavailable("The bucket does not answer.") from exc

    def put(self, key: str, body: BinaryIO, size: int, sha256: str, media_type: str, model_id: str) -> str:
        with unavailable_if_transient("The artifact could not be stored: nothing was registered, try again."):
            answer = self._client().put_object(
                Bucket=self.bucket,
                Key=key,
                Body=body,
                ContentLength=size,
                ContentType=media_type,
                ChecksumSHA256=in_base64(sha256),
                IfNoneMatch="*",
                Metadata={OWNER: model_id},
            )
        return answer["VersionId"]

    def pour(self, key: str, chunks: Iterable[bytes], media_type: str, model_id: str) -> Poured:
        # Imported here: only the import from Geti needs it.
        from chalicelib.store.pouring import Pouring

        self._client()  # now, for boto3 makes none safely in several threads at once
        return Pouring(self, key, media_type, model_id, self._report).poured(chunks)

    def discard(self, key: str, version_id: str) -> None:
        try:
            self._client().delete_object(Bucket=self.bucket, Key=key, VersionId=version_id)
        except (BotoCoreError, ClientError) as exc:
            self._report("object_left_behind", f"{key}: {type(exc).__name__}")

    def remove(self, key: str) -> None:
        try:
            self._client().delete_object(Bucket=self.bucket, Key=key)
        except (BotoCoreError, ClientError) as exc:
            self._report("object_left_behind", f"{key}: {type(exc).__name__}")

    def download_url(self, file: File) -> str:
        return self.url_of(file.key, file.file_name, file.media_type)

    def url_of(self, key: str, file_name: str, media_type: str) -> str:
        return self._signer().generate_presigned_url(
            "get_object",
            Params={
                "Bucket": self.bucket,
                "Key": key,
                "ResponseContentType": media_type,
                "ResponseContentDisposition": content_disposition(file_name),
            },
            ExpiresIn=self._url_seconds,
        )

    # Uploads

    def put_request(self, upload: Upload) -> SignedRequest:
        digest = in_base64(upload.sha256 or "")
        parameters = {
            "Key": upload.key,
            "ContentType": upload.media_type,
            "ContentLength": upload.size,
            "ChecksumSHA256": digest,
            "IfNoneMatch": "*",
            "Metadata": {OWNER: upload.draft.id},
        }
        headers = {
            "Content-Type": upload.media_type,
            "x-amz-checksum-sha256": digest,
            "If-None-Match": "*",
            f"x-amz-meta-{OWNER}": upload.draft.id,
        }
        return self._signed("put_object", parameters, headers)

    def part_request(self, upload: Upload, number: int, digest: str) -> SignedRequest:
        parameters = {
            "Key": upload.key,
            "UploadId": upload.multipart_id,
            "PartNumber": number,
            "ChecksumSHA256": digest,
        }
        return self._signed("upload_part", parameters, {"x-amz-checksum-sha256": digest})

    def _signed(self, operation: str, parameters: dict[str, Any], headers: dict[str, str]) -> SignedRequest:
        url = self._signer().generate_presigned_url(
            operation, Params={"Bucket": self.bucket, **parameters}, ExpiresIn=self._url_seconds
        )
        return SignedRequest(url, headers)

    def start_parts(self, upload: Upload) -> str:
        return self.begin(upload.key, upload.media_type, upload.draft.id)

    def parts(self, upload: Upload) -> Sequence[Part] | None:
        return self.sent(upload.key, upload.multipart_id or "")

    def sent(self, key: str, multipart_id: str) -> Sequence[Part] | None:
        pages = self._client().get_paginator("list_parts")
        where: Any = {"Bucket": self.bucket, "Key": key, "UploadId": multipart_id}
        with unavailable_if_transient("S3 does not say which parts it has: try again."):
            try:
                found = [part for page in pages.paginate(**where) for part in page.get("Parts", [])]
            except ClientError as exc:
                if exc.response["Error"]["Code"] == "NoSuchUpload":
                    return None
                raise
        return [
            Part(number=part["PartNumber"], size=part["Size"], etag=part["ETag"], digest=part.get("ChecksumSHA256", ""))
            for part in found
        ]

    def join(self, upload: Upload, parts: Sequence[Part]) -> None:
        self.join_parts(upload.key, upload.multipart_id or "", parts)

    def drop_parts(self, upload: Upload) -> None:
        self.drop(upload.key, upload.multipart_id or "")

    # Objects of several parts, whoever sends these

    def begin(self, key: str, media_type: str, model_id: str, is_checked: bool = True) -> str:
        """Begin one, marked with its model; what S3 calls it. Raises Unavailable.

        is_checked: each part comes with its SHA-256, or S3 refuses it.
        """
        checks: Any = {"ChecksumAlgorithm": "SHA256", "ChecksumType": "COMPOSITE"} if is_checked else {}
        with unavailable_if_transient("The upload could not be started: try again."):
            answer = self._client().create_multipart_upload(
                Bucket=self.bucket, Key=key, ContentType=media_type, Metadata={OWNER: model_id}, **checks
            )
        return answer["UploadId"]

    def part_url(self, key: str, multipart_id: str, number: int) -> str:
        """Where to send a part whose digest nobody states. It is a secret."""
        return self._signer().generate_presigned_url(
            "upload_part",
            Params={"Bucket": self.bucket, "Key": key, "UploadId": multipart_id, "PartNumber": number},
            ExpiresIn=PART_URL_SECONDS,
        )

    def send_part(self, key: str, multipart_id: str, number: int, piece: bytes) -> Part:
        """Send a part. Raises Unavailable."""
        digest = base64.b64encode(hashlib.sha256(piece).digest()).decode()
        with unavailable_if_transient("A part could not be stored: try again."):
            try:
                answer = self._client().upload_part(
                    Bucket=self.bucket,
                    Key=key,
                    UploadId=multipart_id,
                    PartNumber=number,
                    Body=piece,
                    ChecksumSHA256=digest,
                )
            except ClientError as exc:
                if exc.response["Error"]["Code"] == "NoSuchUpload":
                    raise Unavailable("The parts were dropped meanwhile: try again.") from exc
                raise
        return Part(number=number, size=len(piece), etag=answer["ETag"], digest=digest)

    def join_parts(self, key: str, multipart_id: str, parts: Sequence[Part]) -> None:
        """Make the object, unless the parts are gone: the object tells. Raises UploadIncomplete and Unavailable."""
        named: list[Any] = [
            {"PartNumber": part.number, "ETag": part.etag, **({"ChecksumSHA256": part.digest} if part.digest else {})}
            for part in sorted(parts, key=lambda part: part.number)
        ]
        checks: Any = {"ChecksumType": "COMPOSITE"} if all(part.digest for part in parts) else {}
        client = self._patient()

        def join() -> None:
            client.complete_multipart_upload(
                Bucket=self.bucket,
                Key=key,
                UploadId=multipart_id,
                MultipartUpload={"Parts": named},
                IfNoneMatch="*",
                **checks,
            )

        with unavailable_if_transient(STILL_JOINING):
            try:
                _within(self._join_seconds, join)
            except ClientError as exc:
                code = exc.response["Error"]["Code"]
                if code in ("InvalidPart", "InvalidPartOrder", "EntityTooSmall"):
                    numbers = [part.number for part in parts]
                    raise UploadIncomplete("S3 has other parts by now: send them again.", numbers) from exc
                # Joined before, or by somebody else just now.
                if code not in ("NoSuchUpload", "PreconditionFailed"):
                    raise

    def drop(self, key: str, multipart_id: str) -> None:
        """Forget what was sent, if anything. Raises Unavailable."""
        with unavailable_if_transient("The parts could not be dropped."):
            try:
                self._client().abort_multipart_upload(Bucket=self.bucket, Key=key, UploadId=multipart_id)
            except ClientError as exc:
                if exc.response["Error"]["Code"] != "NoSuchUpload":
                    raise

    def stored(self, key: str) -> StoredObject | None:
        with unavailable_if_transient("S3 does not say whether it has the object: try again."):
            try:
                answer = self._client().head_object(Bucket=self.bucket, Key=key, ChecksumMode="ENABLED")
            except ClientError as exc:
                if exc.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                    return None
                raise
        return StoredObject(
            size=answer["ContentLength"],
            digest=answer.get("ChecksumSHA256"),
            version_id=answer.get("VersionId", "null"),
            model_id=answer["Metadata"].get(OWNER),
        )

    def opened(self, key: str, size: int) -> BinaryIO:
        return cast("BinaryIO", StoredFile(self._client(), self.bucket, key, size))

    def written_before(self, at: datetime, limit: int, after: str) -> tuple[Sequence[str], str | None]:
        with unavailable_if_transient("The bucket does not answer."):
            answer = self._client().list_objects_v2(Bucket=self.bucket, Prefix=PREFIX, StartAfter=after, MaxKeys=limit)
        entries = answer.get("Contents", [])
        old = [entry["Key"] for entry in entries if entry["LastModified"] < at]
        return old, entries[-1]["Key"] if answer["IsTruncated"] else None


class StoredFile(io.RawIOBase):
    """An object in S3 as a file that can be sought: each read is one ranged GET."""

    def __init__(self, client: S3Client, bucket: str, key: str, size: int) -> None:
        self._client = client
        self._where: Any = {"Bucket": bucket, "Key": key}
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        count = min(len(buffer), self._size - self._at)
        if count <= 0:
            return 0
        with unavailable_if_transient("The stored object could not be read: try again."):
            wanted = f"bytes={self._at}-{self._at + count - 1}"
            try:
                content = self._client.get_object(**self._where, Range=wanted)["Body"].read()
            except ClientError as exc:
                if exc.response["Error"]["Code"] == "NoSuchKey":
                    raise Unavailable("The object has gone meanwhile: try again, and learn why.") from exc
                raise
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)


def _within(seconds: float, action: Callable[[], None]) -> None:
    """Do it, or raise Unavailable when it takes longer; it goes on then, and whoever asks again meets its result.

    No timeout of a connection does this: S3 sends a blank now and then while it joins, for minutes if need be.
    """
    outcome: Queue[Exception | None] = Queue()

    def act() -> None:
        try:
            action()
        except Exception as exc:
            outcome.put(exc)
        else:
            outcome.put(None)

    Thread(target=act, daemon=True).start()
    try:
        failure = outcome.get(timeout=seconds)
    except Empty:
        raise Unavailable(STILL_JOINING, retry_after_seconds=10) from None
    if failure:
        raise failure


@contextmanager
def unavailable_if_transient(message: str) -> Iterator[None]:
    """What may work the next time becomes Unavailable; everything else goes on as it is."""
    try:
        yield
    except (BotoCoreError, ClientError) as exc:
        if not _is_transient(exc):
            raise
        raise Unavailable(message) from exc


def in_base64(digest: str) -> str:
    """A digest in hexadecimal as S3 writes it."""
    return base64.b64encode(bytes.fromhex(digest)).decode()


def _is_transient(exc: BotoCoreError | ClientError) -> bool:
    """Whether trying again may help: the key is new each time, and S3 may answer the next time."""
    if isinstance(exc, ClientError):
        status = exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
        return status >= 500 or status in (409, 412, 429) or exc.response.get("Error", {}).get("Code") in THROTTLED
    return isinstance(exc, HTTPClientError | NotConnected)


def content_disposition(file_name: str) -> str:
    """An attachment under this name, for old clients in ASCII too (RFC 6266)."""
    plain = re.sub(r'[^\x20-\x7e]|["\\%]', "_", file_name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(file_name, safe='')}"
