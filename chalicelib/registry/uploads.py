"""What an upload is: its states, how its bytes are cut into parts, how long it lives, what its digests say. Pure.

`store/` keeps uploads and carries the plan out; `uploading.py` holds the rules of their life. The limits are those of
the S3 User Guide, "Amazon S3 multipart upload limits"; the composite digest is that of "Checking object integrity".
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Literal, Self

from pydantic import Field, field_serializer

from chalicelib.registry.access import Actor
from chalicelib.registry.errors import InvalidInput, UploadIncomplete
from chalicelib.registry.models import ZIP, Draft, Frozen, QualifiedName

MAX_OBJECT_BYTES = 5 * 1024**4
MAX_PARTS = 10_000
MIN_PART_BYTES = 5 * 1024**2  # every part but the last
MAX_PART_BYTES = 5 * 1024**3
PART_BYTES = 16 * 1024**2  # a client holds a few of them in memory
MAX_SINGLE_BYTES = 64 * 1024**2  # up to here one PUT carries everything
IDLE = timedelta(hours=24)
MAX_AGE = timedelta(days=7)
EXPIRY = Actor(kind="system", name="expiry")


class UploadState(StrEnum):
    """OPEN becomes one of the others, once."""

    OPEN = "OPEN"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    ABORTED = "ABORTED"
    EXPIRED = "EXPIRED"


class Part(Frozen):
    """A part as S3 has it. digest is the SHA-256 of its bytes in base64; size is None where only a client says so."""

    number: int = Field(ge=1, le=MAX_PARTS)
    etag: str = Field(max_length=128)
    digest: str = Field(max_length=64)
    size: int | None = None


class StatedFile(Frozen):
    """What a publisher is about to send. sha256 is in hexadecimal."""

    file_name: str
    size: int
    sha256: str | None = None
    media_type: str = ZIP


class StoredObject(Frozen):
    """An object as S3 has it. digest is its SHA-256 in base64, of parts their composite; model_id who it is for."""

    size: int
    digest: str | None
    version_id: str
    model_id: str | None


class Upload(Frozen):
    """A model version on its way in. While OPEN it holds the id and the claim of its draft.

    part_size and multipart_id are None where one PUT carries everything. sha256 is in hexadecimal.
    """

    id: str
    draft: Draft
    rm_id: str
    key: str
    file_name: str
    media_type: str
    size: int
    sha256: str | None = None
    part_size: int | None = None
    multipart_id: str | None = None
    state: UploadState = UploadState.OPEN
    reason: str | None = None
    opened_at: datetime
    expires_at: datetime

    @field_serializer("draft")
    def _stated_fields(self, draft: Draft) -> dict[str, Any]:
        # What the publisher did not state, the archive may still say.
        return draft.model_dump(mode="json", exclude_unset=True)

    @property
    def subject(self) -> str:
        """Whose trail it belongs to."""
        return self.draft.id

    @property
    def qualified_name(self) -> QualifiedName:
        return self.draft.qualified_name

    @property
    def method(self) -> Literal["PUT", "MULTIPART"]:
        return "MULTIPART" if self.part_size else "PUT"

    @property
    def part_count(self) -> int:
        return part_count(self.size, self.part_size) if self.part_size else 1

    def has_expired(self, at: datetime) -> bool:
        return self.state == UploadState.OPEN and self.expires_at < at

    def renewed(self, at: datetime) -> Self:
        """With the life that activity at this time gives it."""
        return self.model_copy(update={"expires_at": expiry(self.opened_at, at)})

    def ended(self, state: UploadState, reason: str | None = None) -> Self:
        return self.model_copy(update={"state": state, "reason": reason})

    def checked_parts(self, stated: Sequence[Part], stored: Sequence[Part]) -> None:
        """Raises UploadIncomplete, with the numbers to send again, unless all parts are there, as planned."""
        self.checked_numbers(stated)
        there = {part.number: part for part in stored}
        wrong = [
            part.number
            for part in sorted(stated, key=lambda part: part.number)
            if part.number not in there or not self._is_as_meant(part, there[part.number])
        ]
        if wrong:
            raise UploadIncomplete(f"{len(wrong)} of {self.part_count} parts are not there as they are stated.", wrong)

    def checked_numbers(self, stated: Sequence[Part]) -> None:
        """Raises UploadIncomplete unless each part is stated once."""
        numbers, planned = [part.number for part in stated], set(range(1, self.part_count + 1))
        if foreign := sorted(set(numbers) - planned):
            raise UploadIncomplete(f"There is no part {foreign[0]}: this upload has {self.part_count}.", [])
        if missing := sorted(planned - set(numbers)):
            raise UploadIncomplete(f"{len(missing)} of {self.part_count} parts are not stated.", missing)
        if len(numbers) != len(planned):
            raise UploadIncomplete("State each part once.", [])

    def _is_as_meant(self, meant: Part, there: Part) -> bool:
        planned = part_range(self.size, self.part_size or self.size, there.number)
        is_same = meant.digest == there.digest and meant.etag.strip('"') == there.etag.strip('"')
        return is_same and there.size == len(planned)


def planned_part_size(size_bytes: int) -> int | None:
    """Bytes of every part but the last; None where one PUT carries everything.

    Whole MiB, grown from PART_BYTES so that MAX_PARTS are enough. Raises InvalidInput for a size that cannot be stored.
    """
    if not 0 < size_bytes <= MAX_OBJECT_BYTES:
        raise InvalidInput("size", f"size is {size_bytes}; from 1 to {MAX_OBJECT_BYTES} bytes (5 TiB) can be stored.")
    if size_bytes <= MAX_SINGLE_BYTES:
        return None
    mebibyte = 1024**2
    return max(PART_BYTES, -(-size_bytes // (MAX_PARTS * mebibyte)) * mebibyte)


def part_count(size_bytes: int, part_size: int) -> int:
    return -(-size_bytes // part_size)


def part_range(size_bytes: int, part_size: int, number: int) -> range:
    """The bytes of a part, which are counted from 1."""
    return range((number - 1) * part_size, min(number * part_size, size_bytes))


def expiry(opened_at: datetime, at: datetime) -> datetime:
    """When an upload that was active at this time ends: a day later, and a week after its beginning at most."""
    return min(at + IDLE, opened_at + MAX_AGE)


def composite_digest(parts: Sequence[Part]) -> str:
    """The digest that S3 gives an object of these parts: SHA-256 over their digests, and how many they are."""
    digests = b"".join(base64.b64decode(part.digest) for part in sorted(parts, key=lambda part: part.number))
    return f"{base64.b64encode(hashlib.sha256(digests).digest()).decode()}-{len(parts)}"


def checked_digests(upload: Upload, digests: Mapping[int, str]) -> None:
    """Raises InvalidInput unless these are SHA-256 digests in base64 of parts that the upload has."""
    for number, digest in digests.items():
        if not 1 <= number <= upload.part_count:
            raise InvalidInput("digests", f"There is no part {number}: this upload has {upload.part_count}.")
        try:
            is_digest = len(base64.b64decode(digest, validate=True)) == hashlib.sha256().digest_size
        except ValueError:
            is_digest = False
        if not is_digest:
            raise InvalidInput("digests", f"The digest of part {number} is not a SHA-256 in base64 (44 characters).")
