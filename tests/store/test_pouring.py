"""Objects that are stored while their bytes come: how they are cut, what is held of them, and what is left of failures.

Parts are small here; moto is told to take them.
"""

import base64
import hashlib
import threading
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import pairwise
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moto.backends import get_backend

from chalicelib.geti.errors import GetiBusy
from chalicelib.registry.errors import RegistryError, TooLarge, Unavailable
from chalicelib.registry.ports import Poured
from chalicelib.registry.uploads import PART_BYTES
from chalicelib.store.blobs import S3Blobs
from chalicelib.store.pouring import Pouring, Source
from tests.store.faults import connection_lost, internal_error, not_connected, nothing, slow_down, watched_calls

PART = 64
KEY = "artifacts/01/m.zip"
WHOLE = bytes(range(256)) * 2  # eight parts

Fault = Callable[[str], Exception]


class Bench:
    """A bucket, and what is left of what was poured into it."""

    def __init__(self) -> None:
        self.s3 = boto3.client("s3")
        self.left_behind: list[tuple[str, str]] = []
        self.blobs = S3Blobs("artifacts", lambda: self.s3, lambda: self.s3, 60, self._report)
        self.parts: list[bytes] = []
        self.s3.meta.events.register("provide-client-params.s3.UploadPart", self._note_part)

    def pour(self, chunks: Iterable[bytes], key: str = KEY, max_parts: int = 100) -> Poured:
        pouring = Pouring(self.blobs, key, "application/zip", "a-model-00000000", self._report, PART, max_parts)
        return pouring.poured(chunks)

    def content(self, key: str = KEY) -> bytes | None:
        with suppress(ClientError):
            return self.s3.get_object(Bucket="artifacts", Key=key)["Body"].read()
        return None

    @property
    def multipart_uploads(self) -> list[Any]:
        return self.s3.list_multipart_uploads(Bucket="artifacts").get("Uploads", [])

    def _note_part(self, params: dict[str, Any], **_: object) -> None:
        self.parts.append(params["Body"])
        assert params["ChecksumSHA256"] == base64.b64encode(hashlib.sha256(params["Body"]).digest()).decode()

    def _report(self, name: str, what: str) -> None:
        self.left_behind.append((name, what))


@pytest.fixture
def bench(moto: None, credentials: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr("moto.s3.models.S3_UPLOAD_PART_MIN_SIZE", 1)
    get_backend("s3").reset()
    bench = Bench()
    bench.s3.create_bucket(Bucket="artifacts")
    bench.s3.put_bucket_versioning(Bucket="artifacts", VersioningConfiguration={"Status": "Enabled"})
    yield bench
    bench.s3.close()


def in_chunks(content: bytes = WHOLE, size: int = 50) -> list[bytes]:
    return [content[at : at + size] for at in range(0, len(content), size)]


def failing(operation: str, fault: Fault, number: int = 0) -> Callable[[str, int], None]:
    """Fails the call of this operation that has this number among its own."""
    seen: list[str] = []

    def fail(called: str, _: int) -> None:
        if called == operation:
            seen.append(called)
            if len(seen) == number + 1:
                raise fault(operation)

    return fail


def refused(code: str, status: int) -> Fault:
    answer = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return lambda operation: ClientError(answer, operation)


def test_every_part_but_the_last_is_full_and_has_its_digest(bench: Bench) -> None:
    poured = bench.pour(in_chunks(WHOLE[:150]))

    assert bench.parts == [WHOLE[:64], WHOLE[64:128], WHOLE[128:150]]
    assert bench.content() == WHOLE[:150]
    digests = b"".join(hashlib.sha256(part).digest() for part in bench.parts)
    assert poured.s3_digest == f"{base64.b64encode(hashlib.sha256(digests).digest()).decode()}-3"
    assert bench.s3.head_object(Bucket="artifacts", Key=KEY)["VersionId"] == poured.version_id


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART])
def test_what_fits_into_one_part_is_one_put(bench: Bench, size: int) -> None:
    with watched_calls(nothing, nothing) as calls:
        poured = bench.pour(in_chunks(WHOLE[:size]))

    assert calls == ["PutObject"]
    assert (poured.size, poured.s3_digest, bench.content()) == (size, None, WHOLE[:size])


def test_more_costs_a_call_for_each_part_and_three(bench: Bench) -> None:
    with watched_calls(nothing, nothing) as calls:
        bench.pour(in_chunks(WHOLE[: PART + 1]))

    assert calls == ["CreateMultipartUpload", "UploadPart", "UploadPart", "CompleteMultipartUpload", "HeadObject"]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, 300), max_size=8), length=st.integers(0, 300))
def test_any_chunking_gives_the_same_object(bench: Bench, cuts: list[int], length: int) -> None:
    whole, places = WHOLE[:length], sorted({0, length, *(min(cut, length) for cut in cuts)})
    chunks = [whole[begin:end] for begin, end in pairwise(places)]
    keys = [f"artifacts/{name}/m.zip" for name in ("cut", "whole")]

    one = bench.pour([*chunks, b""], keys[0])
    other = bench.pour([whole], keys[1])

    assert bench.content(keys[0]) == bench.content(keys[1]) == whole
    assert (one.size, one.sha256, one.s3_digest) == (other.size, other.sha256, other.s3_digest)
    assert one.sha256 == hashlib.sha256(whole).hexdigest()
    for key, poured in zip(keys, (one, other), strict=True):
        bench.blobs.discard(key, poured.version_id)


@given(chunks=st.lists(st.binary(max_size=20), max_size=20), count=st.integers(1, 30))
def test_a_source_gives_every_byte_once_in_order(chunks: list[bytes], count: int) -> None:
    source, pieces = Source(chunks), []

    while not source.is_empty():
        pieces.append(source.take(count))

    whole = b"".join(chunks)
    assert b"".join(pieces) == whole
    assert all(len(piece) == count for piece in pieces[:-1])
    assert (source.size, source.sha256) == (len(whole), hashlib.sha256(whole).hexdigest())


def test_no_more_than_two_parts_have_come_and_are_not_stored_yet(bench: Bench) -> None:
    come, stored, most = 0, 0, 0

    def counted() -> Iterator[bytes]:
        nonlocal come, most
        for chunk in in_chunks(WHOLE * 4, 16):
            come += len(chunk)
            most = max(most, come - stored)
            yield chunk

    def is_stored(**_: object) -> None:
        nonlocal stored
        stored += PART

    bench.s3.meta.events.register("after-call.s3.UploadPart", is_stored)

    bench.pour(counted())

    assert most <= 2 * PART + 16


class Sink:
    """An S3 that looks at no byte, and keeps none."""

    def create_multipart_upload(self, **_: object) -> dict[str, str]:
        return {"UploadId": "u1"}

    def upload_part(self, **_: object) -> dict[str, str]:
        return {"ETag": "e"}

    def complete_multipart_upload(self, **_: object) -> None:
        pass

    def head_object(self, **_: object) -> None:
        answer = {"Error": {"Code": "404"}, "ResponseMetadata": {"HTTPStatusCode": 404}}
        raise ClientError(answer, "HeadObject")

    def abort_multipart_upload(self, **_: object) -> None:
        pass


def test_two_parts_and_little_else_are_in_memory() -> None:
    """Parts of real size."""
    blobs = S3Blobs("artifacts", Sink, Sink, 60, lambda *_: None)
    chunks = (bytes(1024**2) for _ in range(6 * PART_BYTES // 1024**2))
    tracemalloc.start()
    try:
        with pytest.raises(Unavailable):  # for the object is not there in the end
            blobs.pour(KEY, chunks, "application/zip", "a-model-00000000")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 2.5 * PART_BYTES


def test_the_next_part_comes_while_one_is_sent(bench: Bench) -> None:
    second_has_come = threading.Event()

    def chunks() -> Iterator[bytes]:
        yield WHOLE[: PART + 10]
        second_has_come.set()
        yield WHOLE[PART + 10 :]

    def wait(operation: str, _: int) -> None:
        if operation == "UploadPart":
            assert second_has_come.wait(5)

    with watched_calls(wait, nothing):
        bench.pour(chunks())

    assert bench.content() == WHOLE


@pytest.mark.parametrize("come", [0, 1, 2, 5, 11])
def test_what_the_chunks_raise_goes_on_and_nothing_stays(bench: Bench, come: int) -> None:
    threads = threading.active_count()

    def breaking_off() -> Iterator[bytes]:
        yield from in_chunks()[:come]
        raise GetiBusy("It broke off.")

    with pytest.raises(GetiBusy):
        bench.pour(breaking_off())

    assert (bench.multipart_uploads, bench.content(), bench.left_behind) == ([], None, [])
    assert threading.active_count() == threads


@pytest.mark.parametrize("fault", [slow_down, internal_error, not_connected, connection_lost])
@pytest.mark.parametrize(
    ("operation", "number"),
    [("CreateMultipartUpload", 0), ("UploadPart", 0), ("UploadPart", 4), ("UploadPart", 7), ("HeadObject", 0)],
)
def test_an_s3_that_does_not_answer_is_unavailable_and_no_part_stays(
    bench: Bench, fault: Fault, operation: str, number: int
) -> None:
    with watched_calls(failing(operation, fault, number), nothing), pytest.raises(Unavailable):
        bench.pour(in_chunks())

    assert bench.multipart_uploads == []


@pytest.mark.parametrize(
    "fault",
    [slow_down, not_connected, refused("PreconditionFailed", 412), refused("NoSuchUpload", 404)]
    + [refused(code, 400) for code in ("InvalidPart", "EntityTooSmall")],
    ids=["throttled", "away", "there before", "dropped", "other parts", "too small"],
)
def test_parts_that_cannot_be_joined_are_dropped(bench: Bench, fault: Fault) -> None:
    with watched_calls(failing("CompleteMultipartUpload", fault), nothing), pytest.raises(Unavailable):
        bench.pour(in_chunks())

    assert (bench.multipart_uploads, bench.content()) == ([], None)


def test_an_object_that_is_there_before_stays_as_it_is(bench: Bench) -> None:
    bench.s3.put_object(Bucket="artifacts", Key=KEY, Body=WHOLE[::-1], Metadata={"model-id": "a-model-00000000"})
    lost = failing("CompleteMultipartUpload", refused("PreconditionFailed", 412))

    with watched_calls(lost, nothing), pytest.raises(Unavailable):
        bench.pour(in_chunks())
    with pytest.raises(Unavailable):
        bench.pour([b"little"])

    assert (bench.multipart_uploads, bench.content()) == ([], WHOLE[::-1])


@pytest.mark.parametrize("fault", [connection_lost, refused("NoSuchUpload", 404)], ids=["at once", "asked again"])
def test_parts_that_were_joined_by_a_call_whose_answer_was_lost_are_the_object(bench: Bench, fault: Fault) -> None:
    """If botocore asks again, it hears that there are no such parts any more."""
    with watched_calls(nothing, failing("CompleteMultipartUpload", fault)):
        poured = bench.pour(in_chunks())

    assert (poured.size, bench.content(), bench.multipart_uploads) == (len(WHOLE), WHOLE, [])


def test_parts_that_somebody_drops_meanwhile_are_sent_again_another_time(bench: Bench) -> None:
    with watched_calls(failing("UploadPart", refused("NoSuchUpload", 404), 2), nothing), pytest.raises(Unavailable):
        bench.pour(in_chunks())

    assert bench.multipart_uploads == []


def test_what_trying_again_does_not_help_goes_on_as_it_is(bench: Bench) -> None:
    with watched_calls(failing("UploadPart", refused("AccessDenied", 403)), nothing), pytest.raises(ClientError):
        bench.pour(in_chunks())

    assert bench.multipart_uploads == []


def test_parts_that_cannot_be_dropped_are_told_of_and_hide_nothing(bench: Bench) -> None:
    fails = failing("AbortMultipartUpload", not_connected)

    with watched_calls(fails, nothing), pytest.raises(GetiBusy):
        bench.pour(iter_of(in_chunks(), GetiBusy("It broke off.")))

    assert bench.left_behind == [("object_left_behind", f"{KEY}: Unavailable")]


def iter_of(chunks: list[bytes], error: Exception) -> Iterator[bytes]:
    yield from chunks
    raise error


def test_more_parts_than_an_object_may_have_are_too_large(bench: Bench) -> None:
    assert bench.pour(in_chunks(WHOLE[: 3 * PART]), max_parts=3).size == 3 * PART

    with pytest.raises(TooLarge, match="192 bytes") as told:
        bench.pour(in_chunks(WHOLE[: 3 * PART + 1]), "artifacts/02/m.zip", max_parts=3)

    assert isinstance(told.value, RegistryError)
    assert bench.multipart_uploads == []
