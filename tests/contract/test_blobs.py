"""What every Blobs does: the one in memory, on moto, and on the running emulator."""

import hashlib
import io
import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime

import pytest
import requests
from botocore.exceptions import ClientError

from chalicelib.geti.errors import GetiBusy
from chalicelib.registry.errors import Unavailable, UploadIncomplete
from chalicelib.registry.ports import Blobs, Poured, SignedRequest
from chalicelib.registry.uploads import PART_BYTES, Upload, composite_digest
from chalicelib.store.blobs import S3Blobs
from tests.conftest import draft
from tests.memory import MemoryBlobs, digest_of, parts_of

CONTENT = b"bytes" * 100
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def put(blobs: Blobs, key: str, content: bytes = CONTENT) -> str:
    digest = hashlib.sha256(content).hexdigest()
    return blobs.put(key, io.BytesIO(content), len(content), digest, "application/zip", "model-of-the-test")


def test_it_answers(blobs: Blobs) -> None:
    blobs.ping()


def test_a_key_is_written_once(blobs: Blobs, unique: str) -> None:
    put(blobs, f"artifacts/{unique}/m.zip")

    with pytest.raises(Unavailable):
        put(blobs, f"artifacts/{unique}/m.zip", b"other bytes")


def test_a_discarded_object_leaves_its_key_free(blobs: Blobs, unique: str) -> None:
    version_id = put(blobs, f"artifacts/{unique}/m.zip")

    blobs.discard(f"artifacts/{unique}/m.zip", version_id)

    put(blobs, f"artifacts/{unique}/m.zip")


def test_removing_what_is_not_there_is_no_error(blobs: Blobs, unique: str) -> None:
    blobs.remove(f"artifacts/{unique}/m.zip")
    blobs.discard(f"artifacts/{unique}/m.zip", "null")


# What comes as a stream.

PART = bytes(range(256)) * (PART_BYTES // 256)


def pour(blobs: Blobs, key: str, chunks: Iterable[bytes]) -> Poured:
    return blobs.pour(key, chunks, "application/zip", "model-of-the-test")


@pytest.mark.parametrize(
    "chunks",
    [[], [b"by", b"", b"tes"], [PART], [PART[:5], PART, b"tail"], [PART + PART + b"tail"]],
    ids=["nothing", "little", "one part", "more than a part", "one chunk of several parts"],
)
def test_what_is_poured_is_stored_whole(blobs: Blobs, unique: str, chunks: list[bytes]) -> None:
    whole, key = b"".join(chunks), f"artifacts/{unique}/m.zip"

    poured = pour(blobs, key, iter(chunks))

    digest = composite_digest(parts_of(whole)) if len(whole) > PART_BYTES else None
    assert (poured.size, poured.sha256) == (len(whole), hashlib.sha256(whole).hexdigest())
    assert poured.s3_digest == digest
    stored = blobs.stored(key)
    assert stored
    assert (stored.size, stored.version_id, stored.model_id) == (len(whole), poured.version_id, "model-of-the-test")
    if digest:
        # moto leaves out how many parts there are, and keeps no other digests.
        assert stored.digest in (digest, digest.partition("-")[0])
    with blobs.opened(key, len(whole)) as file:
        file.seek(max(0, len(whole) - 300))
        assert file.read(300) == whole[-300:]
    blobs.discard(key, poured.version_id)
    assert blobs.stored(key) is None


@pytest.mark.parametrize("begun", [[], [b"bytes"], [PART, PART]], ids=["nothing", "little", "two parts"])
def test_what_breaks_off_is_not_there(blobs: Blobs, unique: str, begun: list[bytes]) -> None:
    def breaking_off() -> Iterator[bytes]:
        yield from begun
        raise GetiBusy("It broke off.")

    with pytest.raises(GetiBusy, match="broke off"):
        pour(blobs, f"artifacts/{unique}/m.zip", breaking_off())

    assert blobs.stored(f"artifacts/{unique}/m.zip") is None
    pour(blobs, f"artifacts/{unique}/m.zip", [b"bytes"])


@pytest.mark.parametrize("chunks", [[b"other bytes"], [PART, b"tail"]], ids=["little", "more than a part"])
def test_a_key_is_poured_to_once(place: object, blobs: Blobs, unique: str, chunks: list[bytes]) -> None:
    if len(chunks) > 1 and isinstance(place, tuple) and place[2] == "artifacts":
        pytest.skip("moto joins parts over what is there")
    key = f"artifacts/{unique}/m.zip"
    put(blobs, key)

    with pytest.raises(Unavailable):
        pour(blobs, key, chunks)

    stored = blobs.stored(key)
    assert stored
    assert stored.size == len(CONTENT)


# Uploads. moto keeps no digests of objects, so it cannot stand for S3 here.

LARGE = b"".join(number.to_bytes(4, "big") for number in range(6 * 1024**2 // 4))
PIECES = {1: LARGE[: 5 * 1024**2], 2: LARGE[5 * 1024**2 :]}
Send = Callable[[SignedRequest, bytes], int]


@pytest.fixture
def send(blobs: Blobs) -> Send:
    """What brings bytes with a signed request; the status that S3 answers."""
    if isinstance(blobs, MemoryBlobs):
        return blobs.send
    return lambda signed, content: requests.put(signed.url, content, headers=signed.headers, timeout=60).status_code


def upload_of(unique: str, content: bytes, part_size: int | None = None) -> Upload:
    now = datetime(2026, 1, 2, tzinfo=UTC)
    return Upload(
        id="01",
        draft=draft(),
        rm_id="01",
        key=f"artifacts/{unique}/m.zip",
        file_name="m.zip",
        media_type="application/zip",
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        part_size=part_size,
        opened_at=now,
        expires_at=now,
    )


def in_parts(blobs: Blobs, unique: str) -> Upload:
    upload = upload_of(unique, LARGE, 5 * 1024**2)
    return upload.model_copy(update={"multipart_id": blobs.start_parts(upload)})


with_digests = pytest.mark.parametrize("place", ["memory", "emulator"], indirect=True)


@with_digests
def test_one_put_stores_the_stated_bytes_once(blobs: Blobs, send: Send, unique: str) -> None:
    upload = upload_of(unique, CONTENT)
    assert blobs.stored(upload.key) is None
    signed = blobs.put_request(upload)

    assert send(signed, CONTENT[::-1]) == 400
    assert send(signed, CONTENT) == 200
    assert send(signed, CONTENT) == 412

    stored = blobs.stored(upload.key)
    assert stored
    assert (stored.size, stored.digest, stored.model_id) == (len(CONTENT), digest_of(CONTENT), upload.draft.id)
    blobs.discard(upload.key, stored.version_id)
    assert blobs.stored(upload.key) is None


@with_digests
def test_parts_are_listed_and_joined(blobs: Blobs, send: Send, unique: str) -> None:
    upload = in_parts(blobs, unique)
    assert blobs.parts(upload) == []
    assert send(blobs.part_request(upload, 2, digest_of(PIECES[2])), PIECES[1]) == 400
    for number, piece in reversed(PIECES.items()):
        assert send(blobs.part_request(upload, number, digest_of(piece)), piece) == 200
    parts = blobs.parts(upload)
    assert parts
    assert [(part.number, part.size, part.digest) for part in parts] == [
        (number, len(piece), digest_of(piece)) for number, piece in PIECES.items()
    ]

    blobs.join(upload, parts)
    blobs.join(upload, parts)

    assert blobs.parts(upload) is None
    stored = blobs.stored(upload.key)
    assert stored
    assert (stored.size, stored.digest, stored.model_id) == (len(LARGE), composite_digest(parts), upload.draft.id)
    with blobs.opened(upload.key, len(LARGE)) as file:
        file.seek(-8, io.SEEK_END)
        assert file.read(100) == LARGE[-8:]
        file.seek(5)
        assert file.read(7) == LARGE[5:12]


@with_digests
def test_dropped_parts_are_gone(blobs: Blobs, send: Send, unique: str) -> None:
    upload = in_parts(blobs, unique)
    signed = blobs.part_request(upload, 1, digest_of(PIECES[1]))

    blobs.drop_parts(upload)
    blobs.drop_parts(upload)

    assert blobs.parts(upload) is None
    assert send(signed, PIECES[1]) == 404
    blobs.join(upload, [])
    assert blobs.stored(upload.key) is None


@with_digests
def test_objects_are_walked_through_in_order_of_their_keys(blobs: Blobs, unique: str) -> None:
    keys = [f"artifacts/{unique}/{number}.zip" for number in range(3)]
    for key in keys:
        put(blobs, key)
    long_after, long_before = datetime(2100, 1, 1, tzinfo=UTC), datetime(2020, 1, 1, tzinfo=UTC)

    first, go_on = blobs.written_before(long_after, 2, f"artifacts/{unique}/")

    assert (first, go_on) == (keys[:2], keys[1])
    assert go_on
    assert blobs.written_before(long_after, 2, go_on)[0][0] == keys[2]
    assert blobs.written_before(long_before, 2, f"artifacts/{unique}/")[0] == []


@with_digests
def test_an_object_that_has_gone_cannot_be_read(blobs: Blobs, unique: str) -> None:
    with pytest.raises(Unavailable), blobs.opened(f"artifacts/{unique}/nothing.zip", 10) as file:
        file.read(10)


def test_nobody_waits_for_s3_for_ever() -> None:
    """S3 keeps the connection alive while it joins, for minutes: no timeout of the connection ends that."""
    released = threading.Event()

    class Joining:
        def complete_multipart_upload(self, **_: object) -> None:
            released.wait(60)

    blobs = S3Blobs("artifacts", Joining, Joining, 60, lambda *_: None, Joining, join_seconds=0.01)
    with pytest.raises(Unavailable, match="still joining") as refused:
        blobs.join(upload_of("x", LARGE, 5 * 1024**2), [])
    released.set()

    assert refused.value.retry_after_seconds == 10


@pytest.mark.parametrize("status", [400, 500])
@pytest.mark.parametrize("code", ["InvalidPart", "InvalidPartOrder", "EntityTooSmall"])
def test_parts_that_s3_refuses_to_join_have_to_be_sent_again(code: str, status: int) -> None:
    """Also where the error comes in an answer that began with 200, which botocore tells as 500."""

    class Refusing:
        def complete_multipart_upload(self, **_: object) -> None:
            answer = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
            raise ClientError(answer, "CompleteMultipartUpload")

    blobs = S3Blobs("artifacts", Refusing, Refusing, 60, lambda *_: None)
    with pytest.raises(UploadIncomplete):
        blobs.join(upload_of("x", LARGE, 5 * 1024**2), [])
