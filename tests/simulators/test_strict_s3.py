"""The strict S3 refuses what S3 refuses, and nothing else."""

import socket
from collections.abc import Iterator

import pytest
import requests

from tests.simulators.proxy import Proxy, Reply, Request
from tests.simulators.strict_s3 import MIN_PART_BYTES, StrictS3

PRESIGNED = "X-Amz-Signature=00&X-Amz-SignedHeaders=host;x-amz-checksum-sha256"
CREATED = b"<InitiateMultipartUploadResult><UploadId>u1</UploadId></InitiateMultipartUploadResult>"


class Lenient(Proxy):
    """An S3 that accepts everything and begins every upload as `u1`."""

    def answer(self, request: Request) -> Reply:
        return Reply(200, [("ETag", '"e"')], CREATED if "uploads" in request.query else b"<Ok/>")


@pytest.fixture
def lenient() -> Iterator[Lenient]:
    with Lenient("http://nobody").serving() as proxy:
        yield proxy


@pytest.fixture
def s3(lenient: Lenient) -> Iterator[StrictS3]:
    with StrictS3(lenient.address).serving() as proxy:
        yield proxy


def code(answer: requests.Response) -> str:
    """The error code of S3's XML."""
    assert answer.headers["Content-Type"] == "application/xml"
    return answer.text.partition("<Code>")[2].partition("</Code>")[0]


def send(s3: StrictS3, method: str, target: str, **arguments: object) -> requests.Response:
    return requests.request(method, f"{s3.address}/bucket/key?{target}", timeout=10, **arguments)


def complete(s3: StrictS3, *numbers: int) -> requests.Response:
    parts = "".join(f"<Part><PartNumber>{number}</PartNumber><ETag>e</ETag></Part>" for number in numbers)
    return send(s3, "POST", "uploadId=u1", data=f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>")


def test_requests_pass_unchanged_with_their_host(s3: StrictS3, lenient: Lenient):
    answer = send(s3, "PUT", "a=%2F+b", data=b"\x00\xff", headers={"X-Own": "1"})

    assert (answer.status_code, answer.headers["ETag"]) == (200, '"e"')
    passed = lenient.seen[0]
    assert (passed.method, passed.target, passed.body) == ("PUT", "/bucket/key?a=%2F+b", b"\x00\xff")
    assert (passed.header("host"), passed.header("x-own")) == (f"127.0.0.1:{s3.port}", "1")


def test_a_presigned_request_with_authorization_is_refused(s3: StrictS3, lenient: Lenient):
    answer = send(s3, "GET", PRESIGNED, headers={"Authorization": "Basic dTpw"})

    assert (answer.status_code, code(answer)) == (400, "InvalidArgument")
    assert lenient.seen == []


@pytest.mark.parametrize(
    ("query", "headers"), [(PRESIGNED, {}), ("", {"Authorization": "AWS4-HMAC-SHA256 .."}), ("", {"x-amz-date": "0"})]
)
def test_one_kind_of_credentials_is_accepted(s3: StrictS3, query: str, headers: dict[str, str]):
    assert send(s3, "GET", query, headers=headers).status_code == 200


def test_an_amazon_header_that_the_signature_does_not_cover_is_refused(s3: StrictS3):
    answer = send(s3, "PUT", PRESIGNED, headers={"X-Amz-Meta-Owner": "me"})

    assert (answer.status_code, code(answer)) == (403, "AccessDenied")
    assert "<HeadersNotSigned>x-amz-meta-owner</HeadersNotSigned>" in answer.text


def test_an_amazon_header_that_the_signature_covers_is_accepted(s3: StrictS3):
    assert send(s3, "PUT", PRESIGNED, headers={"x-amz-checksum-sha256": "AA=="}).status_code == 200


def test_a_small_part_that_is_not_the_last_is_refused_at_completion(s3: StrictS3):
    send(s3, "PUT", "uploadId=u1&partNumber=1", data=bytes(MIN_PART_BYTES - 1))
    send(s3, "PUT", "uploadId=u1&partNumber=2", data=b"end")

    answer = complete(s3, 1, 2)

    assert (answer.status_code, code(answer)) == (400, "EntityTooSmall")


def test_only_the_last_part_may_be_small(s3: StrictS3):
    send(s3, "PUT", "uploadId=u1&partNumber=1", data=bytes(MIN_PART_BYTES))
    send(s3, "PUT", "uploadId=u1&partNumber=2", data=b"end")

    assert complete(s3, 1, 2).status_code == 200


def test_a_part_without_the_digest_that_its_upload_asks_for_is_refused(s3: StrictS3):
    send(s3, "POST", "uploads", headers={"x-amz-checksum-algorithm": "SHA256"})

    without = send(s3, "PUT", "uploadId=u1&partNumber=1", data=b"x")
    with_digest = send(s3, "PUT", "uploadId=u1&partNumber=1", data=b"x", headers={"x-amz-checksum-sha256": "AA=="})

    assert (without.status_code, code(without), with_digest.status_code) == (400, "InvalidRequest", 200)


def test_a_part_of_an_upload_that_asks_for_no_digest_needs_none(s3: StrictS3):
    send(s3, "POST", "uploads")

    assert send(s3, "PUT", "uploadId=u1&partNumber=1", data=b"x").status_code == 200


def test_a_fault_answers_instead_of_s3(s3: StrictS3, lenient: Lenient):
    s3.fault = lambda request: Reply(503) if request.method == "PUT" else None

    assert send(s3, "PUT", "").status_code == 503
    assert send(s3, "GET", "").status_code == 200
    assert [request.method for request in lenient.seen] == ["GET"]


def test_nothing_listens_any_more_at_the_end(lenient: Lenient):
    with StrictS3(lenient.address).serving() as s3:
        address = ("127.0.0.1", s3.port)

    with pytest.raises(ConnectionRefusedError), socket.create_connection(address, timeout=1):
        pass
