"""Blobs on S3. Keys are written once: every PUT carries `If-None-Match: *` and the digest that S3 checks."""

import base64
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import quote

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as NotConnected

from chalicelib.registry.errors import Unavailable
from chalicelib.registry.models import File

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

THROTTLED = ("SlowDown", "RequestTimeout", "ThrottlingException")


class S3Blobs:
    """Blobs (registry/ports.py) in one bucket.

    Clients are made on first use: the one that signs may know S3 under another address than the one that calls.
    """

    def __init__(
        self,
        bucket: str,
        client: "Callable[[], S3Client]",
        signer: "Callable[[], S3Client]",
        url_seconds: int,
        report: Callable[[str, str], None],
    ) -> None:
        self.bucket = bucket
        self._client = client
        self._signer = signer
        self._url_seconds = url_seconds
        self._report = report

    def ping(self) -> None:
        try:
            self._client().head_bucket(Bucket=self.bucket)
        except (BotoCoreError, ClientError) as exc:
            raise Unavailable("The bucket does not answer.") from exc

    def put(self, key: str, body: BinaryIO, size: int, sha256: str, media_type: str) -> str:
        try:
            answer = self._client().put_object(
                Bucket=self.bucket,
                Key=key,
                Body=body,
                ContentLength=size,
                ContentType=media_type,
                ChecksumSHA256=base64.b64encode(bytes.fromhex(sha256)).decode(),
                IfNoneMatch="*",
            )
        except (BotoCoreError, ClientError) as exc:
            if not _is_transient(exc):
                raise
            raise Unavailable("The artifact could not be stored: nothing was registered, try again.") from exc
        return answer["VersionId"]

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
        return self._signer().generate_presigned_url(
            "get_object",
            Params={
                "Bucket": self.bucket,
                "Key": file.key,
                "ResponseContentType": file.media_type,
                "ResponseContentDisposition": content_disposition(file.file_name),
            },
            ExpiresIn=self._url_seconds,
        )


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
