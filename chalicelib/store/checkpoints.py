"""Checkpoints in a bucket with S3 Object Lock: what is stored there stays, whoever asks for its removal.

What a list tells of a checkpoint stands in the metadata of its object. Keys begin with the time that is covered, so a
month is listed at once, and nothing is read but the months that are asked for.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, BinaryIO

from botocore.exceptions import ClientError
from pydantic import ValidationError

from chalicelib.registry.checkpoints import PREFIX, Checkpoint, key_of
from chalicelib.registry.models import time_text
from chalicelib.registry.trail import BEGINNING
from chalicelib.store.blobs import in_base64, unavailable_if_transient

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

KEY = re.compile(rf"{PREFIX}\d{{4}}-\d\d-\d\dT\d{{4}}Z\.jsonl")
MEDIA_TYPE = "application/jsonl"
TAKEN = ("PreconditionFailed", "ConditionalRequestConflict")
CHUNK_BYTES = 1024**2


class S3Checkpoints:
    """Checkpoints (registry/ports.py) in one bucket. Clients are made on first use."""

    def __init__(
        self, bucket: str, client: "Callable[[], S3Client]", signer: "Callable[[], S3Client]", url_seconds: int
    ) -> None:
        self._bucket = bucket
        self._client = client
        self._signer = signer
        self._url_seconds = url_seconds

    def add(self, checkpoint: Checkpoint, content: BinaryIO) -> bool:
        with unavailable_if_transient("The checkpoint could not be stored: try again."):
            try:
                self._client().put_object(
                    Bucket=self._bucket,
                    Key=checkpoint.key,
                    Body=content,
                    ContentType=MEDIA_TYPE,
                    # S3 takes nothing that will be locked unless it is told that the bytes are checked, and by what.
                    ChecksumAlgorithm="SHA256",
                    ChecksumSHA256=in_base64(checkpoint.sha256),
                    IfNoneMatch="*",
                    Metadata=_metadata_of(checkpoint),
                )
            except ClientError as exc:
                if exc.response["Error"]["Code"] in TAKEN:
                    return False
                raise
        return True

    def newest(self, until: datetime) -> Checkpoint | None:
        return next(self._newest_first(until, None), None)

    def page(self, at: datetime, limit: int, after: str | None = None) -> Sequence[Checkpoint]:
        found = self._newest_first(at, after)
        return [checkpoint for checkpoint, _ in zip(found, range(limit), strict=False)]

    def lines(self, key: str) -> Iterator[bytes]:
        with unavailable_if_transient("The checkpoint could not be read: try again."):
            body = self._client().get_object(Bucket=self._bucket, Key=key)["Body"]
            yield from body.iter_lines(CHUNK_BYTES, keepends=True)

    def download_url(self, key: str) -> str:
        return self._signer().generate_presigned_url(
            "get_object",
            Params={
                "Bucket": self._bucket,
                "Key": key,
                "ResponseContentDisposition": f'attachment; filename="{key.removeprefix(PREFIX)}"',
            },
            ExpiresIn=self._url_seconds,
        )

    def _newest_first(self, until: datetime, after: str | None) -> Iterator[Checkpoint]:
        last = key_of(until)
        for month in _months_back(until):
            for key in reversed(self._keys(f"{PREFIX}{month}")):
                is_asked_for = key <= last and (after is None or key < after)
                if is_asked_for and (checkpoint := self._checkpoint(key)):
                    yield checkpoint

    def _keys(self, prefix: str) -> list[str]:
        with unavailable_if_transient("The bucket of the checkpoints does not answer: try again."):
            pages = self._client().get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
            return [entry["Key"] for page in pages for entry in page.get("Contents", []) if KEY.fullmatch(entry["Key"])]

    def _checkpoint(self, key: str) -> Checkpoint | None:
        """What an object says of itself; None for one that this service did not write, or that is gone."""
        with unavailable_if_transient("The bucket of the checkpoints does not answer: try again."):
            try:
                answer = self._client().head_object(Bucket=self._bucket, Key=key)
            except ClientError as exc:
                if exc.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                    return None
                raise
        told = {name.replace("-", "_"): value for name, value in answer["Metadata"].items()}
        try:
            return Checkpoint.model_validate(
                {**told, "key": key, "retained_until": answer.get("ObjectLockRetainUntilDate")}
            )
        except ValidationError:
            return None


def _metadata_of(checkpoint: Checkpoint) -> dict[str, str]:
    return {
        "until": time_text(checkpoint.until),
        "written-at": time_text(checkpoint.written_at),
        "subjects": str(checkpoint.subjects),
        "sha256": checkpoint.sha256,
    }


def _months_back(until: datetime) -> Iterator[str]:
    """From the month of this time back to the first."""
    at = until
    while at >= BEGINNING:
        yield f"{at:%Y-%m}"
        at = at.replace(day=1, hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
