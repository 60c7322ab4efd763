"""The plan of an upload: which bytes are in which part, how long it lives, and what its digests say."""

import base64
import hashlib
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.registry.errors import InvalidInput, UploadIncomplete
from chalicelib.registry.uploads import (
    MAX_OBJECT_BYTES,
    MAX_PART_BYTES,
    MAX_PARTS,
    MAX_SINGLE_BYTES,
    MIN_PART_BYTES,
    Part,
    Upload,
    composite_digest,
    expiry,
    part_count,
    part_range,
    planned_part_size,
)
from tests.conftest import draft

NOW = datetime(2026, 1, 2, tzinfo=UTC)
SIZES = st.integers(MAX_SINGLE_BYTES + 1, MAX_OBJECT_BYTES) | st.sampled_from(
    [MAX_SINGLE_BYTES + 1, MAX_OBJECT_BYTES - 1, MAX_OBJECT_BYTES, 16 * 1024**2 * MAX_PARTS + 1]
)


@given(SIZES)
def test_the_parts_cover_every_byte_exactly_once(size):
    part_size = planned_part_size(size)
    assert part_size
    count = part_count(size, part_size)

    ranges = [part_range(size, part_size, number) for number in (1, 2, count // 2 or 1, count - 1 or 1, count)]
    first, last = ranges[0], ranges[-1]
    assert first.start == 0
    assert last.stop == size
    assert all(len(one) == part_size for one in ranges if one.stop < size)
    assert all(one.start == (number - 1) * part_size for number, one in enumerate(ranges[:2], start=1))
    assert (count - 1) * part_size + len(last) == size


@given(SIZES)
def test_the_parts_are_within_the_limits_of_s3(size):
    part_size = planned_part_size(size)
    assert part_size

    assert MIN_PART_BYTES <= part_size <= MAX_PART_BYTES
    assert part_count(size, part_size) <= MAX_PARTS
    assert part_range(size, part_size, part_count(size, part_size))


@given(st.integers(1, 40), st.integers(1, 400))
def test_consecutive_parts_leave_no_gap(part_size, size):
    covered = [at for number in range(1, part_count(size, part_size) + 1) for at in part_range(size, part_size, number)]

    assert covered == list(range(size))


@pytest.mark.parametrize("size", [1, MAX_SINGLE_BYTES])
def test_a_small_file_goes_in_one_put(size):
    assert planned_part_size(size) is None


@pytest.mark.parametrize("size", [-1, 0, MAX_OBJECT_BYTES + 1])
def test_what_s3_cannot_store_is_refused(size):
    with pytest.raises(InvalidInput, match="5 TiB"):
        planned_part_size(size)


@pytest.mark.parametrize(
    ("active_after", "lives"),
    [
        (timedelta(0), timedelta(hours=24)),
        (timedelta(days=3), timedelta(days=4)),
        (timedelta(days=6, hours=1), timedelta(days=7)),
        (timedelta(days=7), timedelta(days=7)),
    ],
)
def test_an_upload_lives_a_day_after_its_last_activity_and_a_week_at_most(active_after, lives):
    assert expiry(NOW, NOW + active_after) == NOW + lives


def test_the_composite_digest_is_the_one_that_s3_computes():
    digests = [hashlib.sha256(content).digest() for content in (b"one", b"two")]
    parts = [
        Part(number=number, etag="", digest=base64.b64encode(digest).decode())
        for number, digest in reversed(list(enumerate(digests, start=1)))
    ]

    assert composite_digest(parts) == f"{base64.b64encode(hashlib.sha256(b''.join(digests)).digest()).decode()}-2"


def part(number, *, size=10, digest="d", etag='"e"'):
    return Part(number=number, size=size, etag=etag, digest=digest)


UPLOAD = Upload(
    id="01",
    draft=draft(),
    rm_id="01",
    key="artifacts/01/m.zip",
    file_name="m.zip",
    media_type="application/zip",
    size=25,
    part_size=10,
    opened_at=NOW,
    expires_at=NOW,
)
STORED = [part(1), part(2), part(3, size=5)]


def test_parts_that_are_there_as_stated_pass():
    UPLOAD.checked_parts([part(3), part(1, etag="e"), part(2)], STORED)


@pytest.mark.parametrize(
    ("stated", "stored", "again"),
    [
        ([part(1), part(3)], STORED, [2]),
        ([part(1), part(2), part(3)], STORED[:1], [2, 3]),
        ([part(1), part(2, digest="other"), part(3)], STORED, [2]),
        ([part(1), part(2), part(3, etag="other")], STORED, [3]),
        ([part(1), part(2), part(3)], [part(1, size=9), part(2), part(3, size=5)], [1]),
        ([part(1), part(2), part(3), part(4)], STORED, []),
        ([part(1), part(2), part(3), part(3)], STORED, []),
        ([], STORED, [1, 2, 3]),
    ],
    ids=["missing", "not sent", "other bytes", "other etag", "of another size", "foreign", "twice", "none"],
)
def test_parts_that_are_not_as_stated_are_named(stated, stored, again):
    with pytest.raises(UploadIncomplete) as refused:
        UPLOAD.checked_parts(stated, stored)

    assert refused.value.parts == again


def test_what_a_publisher_did_not_state_stays_unstated_in_the_record():
    again = Upload.model_validate_json(UPLOAD.model_dump_json())

    assert again == UPLOAD
    assert again.draft.model_fields_set == UPLOAD.draft.model_fields_set == {"id", "name", "version"}
