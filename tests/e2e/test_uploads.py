"""Uploads over HTTP, to S3 as strict as on AWS: what a client with `requests` and these pages can do."""

import base64
import hashlib
import io
import json
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from tests.conftest import ARCHIVE, zip_of
from tests.e2e.strict_stack import Api, unique

MEBIBYTE = 1024**2
LARGE = bytes(range(256)) * (4096 * 65)  # 65 MiB
PART_BYTES = 16 * MEBIBYTE
PIECES = [LARGE[at : at + PART_BYTES] for at in range(0, len(LARGE), PART_BYTES)]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def digest(content: bytes) -> str:
    return base64.b64encode(hashlib.sha256(content).digest()).decode()


DIGESTS = [digest(piece) for piece in PIECES]


def opened(api: Api, content: bytes = ARCHIVE, **fields: Any) -> requests.Response:
    body = {"name": unique("upload"), "version": "v1", "file_name": "model.zip", "size": len(content), **fields}
    if len(content) < PART_BYTES:
        body.setdefault("sha256", sha256(content))
    return api.request("POST", "/uploads", json=body)


def opened_large(api: Api, **fields: Any) -> dict[str, Any]:
    fields = {"file_name": "weights.bin", "media_type": "application/octet-stream", **fields}
    answer = opened(api, LARGE, **fields)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def sent(request: dict[str, Any], content: bytes, **headers: str) -> requests.Response:
    return requests.put(request["url"], data=content, headers={**request["headers"], **headers}, timeout=60)


def completed(api: Api, upload: dict[str, Any], **body: Any) -> requests.Response:
    return api.request("POST", f"/uploads/{upload['upload_id']}/complete", json=body)


def wanted(api: Api, upload: dict[str, Any], numbers: list[int]) -> list[dict[str, Any]]:
    digests = {str(number): DIGESTS[number - 1] for number in numbers}
    answer = api.request("POST", f"/uploads/{upload['upload_id']}/parts", json={"digests": digests})
    assert answer.status_code == 200, answer.text
    return list(answer.json()["parts"])


def send_parts(api: Api, upload: dict[str, Any], numbers: list[int]) -> list[dict[str, Any]]:
    """The parts as they were sent."""

    def send(part: dict[str, Any]) -> dict[str, Any]:
        answer = sent(part, PIECES[part["number"] - 1])
        assert answer.status_code == 200, answer.text
        return {"number": part["number"], "etag": answer.headers["ETag"], "digest": DIGESTS[part["number"] - 1]}

    with ThreadPoolExecutor(4) as threads:
        return list(threads.map(send, wanted(api, upload, numbers)))


def problem(answer: requests.Response, status: int, code: str) -> dict[str, Any]:
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/problem+json"), answer.text
    assert answer.json()["code"] == code
    return dict(answer.json())


def test_a_small_archive_there_and_back(api: Api):
    answer = opened(api, tags={"team": "vision"}, precision="FP16", score=0.5, labels=None)
    upload = answer.json()
    assert answer.headers["Location"] == f"{api.url}/uploads/{upload['upload_id']}"
    assert upload["method"] == "PUT"
    assert upload["url"].startswith(api.s3.address)
    assert sent(upload, ARCHIVE).status_code == 200

    model = completed(api, upload).json()

    assert model == api.model(upload["model_id"])
    assert (model["status"], model["precision"], model["score"], model["tags"]) == (
        "READY",
        ["fp16"],
        0.5,
        {"team": "vision"},
    )
    assert (model["sha256"], model["sha256_checked_by"]) == (sha256(ARCHIVE), "s3")
    back = api.get(f"/models/{model['id']}/files", allow_redirects=True)
    assert (back.content, back.headers["Content-Type"]) == (ARCHIVE, "application/zip")
    assert api.found(name=model["name"]) == [model]


def test_s3_refuses_other_bytes_and_a_second_put(api: Api):
    upload = opened(api).json()

    flipped = bytes([ARCHIVE[0] ^ 1]) + ARCHIVE[1:]
    assert sent(upload, flipped).status_code == 400
    assert sent(upload, ARCHIVE).status_code == 200
    assert sent(upload, ARCHIVE).status_code == 412
    assert completed(api, upload).status_code == 200


def test_a_large_file_in_parts_there_and_back(api: Api):
    upload = opened_large(api)
    assert (upload["method"], upload["part_size"], upload["part_count"]) == ("MULTIPART", PART_BYTES, 5)
    assert upload.keys() == {"upload_id", "model_id", "method", "part_size", "part_count", "expires_at"}
    parts = send_parts(api, upload, [5, 1, 3])
    status = api.get(f"/uploads/{upload['upload_id']}").json()
    assert (status["state"], status["stored"]) == ("OPEN", False)
    assert [(part["number"], part["size"], part["digest"]) for part in status["parts"]] == [
        (number, len(PIECES[number - 1]), DIGESTS[number - 1]) for number in (1, 3, 5)
    ]
    assert problem(completed(api, upload, parts=parts), 422, "upload_incomplete")["parts"] == [2, 4]
    assert api.get(f"/models/{upload['model_id']}").status_code == 404
    parts += send_parts(api, upload, [2, 4])

    answers = [completed(api, upload, parts=parts, sha256=sha256(LARGE)) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 200], answers[0].text
    assert answers[0].json() == answers[1].json()
    model = answers[0].json()
    assert (model["size"], model["sha256"], model["sha256_checked_by"]) == (len(LARGE), sha256(LARGE), "publisher")
    assert api.get(f"/uploads/{upload['upload_id']}").json()["state"] == "COMPLETED"
    url = api.get(f"/models/{model['id']}/files").headers["Location"]
    part = requests.get(url, headers={"Range": "bytes=100-199"}, timeout=60)
    assert (part.status_code, part.content) == (206, LARGE[100:200])
    whole = requests.get(url, timeout=60)
    assert (sha256(whole.content), whole.headers["Content-Type"]) == (sha256(LARGE), "application/octet-stream")
    manifest = api.get(f"/models/{model['id']}/manifest").json()
    assert manifest["files"] == [{"path": "weights.bin", "size": len(LARGE), "crc32": None}]


def test_s3_refuses_a_part_with_a_flipped_byte(api: Api):
    upload = opened_large(api)
    [request] = wanted(api, upload, [5])

    refused = sent(request, bytes([PIECES[4][0] ^ 1]) + PIECES[4][1:])

    assert refused.status_code == 400
    assert sent(request, PIECES[4], **{"x-amz-checksum-sha256": DIGESTS[0]}).status_code == 403
    assert api.get(f"/uploads/{upload['upload_id']}").json()["parts"] == []
    assert sent(request, PIECES[4]).status_code == 200
    assert api.delete(f"/uploads/{upload['upload_id']}").status_code == 204


def test_an_aborted_upload_takes_no_part_and_frees_its_name(api: Api):
    upload = opened_large(api, name=(name := unique("aborted")))
    request = wanted(api, upload, [5])[0]
    again = problem(opened(api, name=name), 409, "conflict")
    assert (again["holder"], again["upload_id"]) == (upload["model_id"], upload["upload_id"])
    assert f"DELETE /uploads/{upload['upload_id']}" in again["detail"]
    form = api.post_model({"name": name})
    assert (form.status_code, form.text) == (
        409,
        f"The requested action could not be completed due to a conflict with model '{upload['model_id']}'.",
    )

    assert [api.delete(f"/uploads/{upload['upload_id']}").status_code for _ in range(2)] == [204, 204]

    assert sent(request, PIECES[4]).status_code == 404
    closed = problem(completed(api, upload, parts=[]), 409, "upload_closed")
    assert closed["state"] == "ABORTED"
    api.register(name=name)


def test_an_archive_that_may_not_be_stored_is_refused_and_removed(api: Api):
    evil = zip_of(**{"../evil": b"x"})
    upload = opened(api, evil).json()
    sent(upload, evil)

    refused = problem(completed(api, upload), 422, "invalid_archive")

    assert "'..'" in refused["detail"]
    status = api.get(f"/uploads/{upload['upload_id']}").json()
    assert (status["state"], "'..'" in status["reason"]) == ("FAILED", True)
    _, _, objects = api.stored()
    assert not any(upload["upload_id"] in key for key in objects)
    assert sent(upload, evil).status_code in (200, 412)  # the URL still works; what it stores is swept


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"name": None}, 422, "unprocessable"),
        ({"name": " "}, 422, "unprocessable"),
        ({"nonsense": 1}, 422, "unprocessable"),
        ({"size": 0}, 422, "unprocessable"),
        ({"size": "5"}, 422, "unprocessable"),
        ({"size": 5 * 1024**4 + 1}, 422, "unprocessable"),
        ({"size": 10**30}, 422, "unprocessable"),
        ({"size": True}, 422, "unprocessable"),
        ({"size": 1.5}, 422, "unprocessable"),
        ({"sha256": "xyz"}, 422, "unprocessable"),
        ({"sha256": None}, 422, "invalid_input"),
        ({"precision": "bf99"}, 400, "unsupported_precision"),
        ({"precision": []}, 422, "invalid_input"),
        ({"score": "high"}, 422, "unprocessable"),
        ({"media_type": "nonsense"}, 422, "unprocessable"),
        ({"media_type": "application/octet-stream"}, 422, "invalid_input"),
        ({"id": "short"}, 422, "unprocessable"),
        ({"description": "x" * 70_000}, 422, "invalid_input"),
    ],
)
def test_what_is_wrong_is_said_before_a_byte_moves(api: Api, fields, status, code):
    assert problem(opened(api, **fields), status, code)["detail"]


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"{", {"Content-Type": "application/json"}, 400, "malformed_body"),
        (b"[]", {"Content-Type": "application/json"}, 400, "malformed_body"),
        (b'{"score": 1e999}', {"Content-Type": "application/json"}, 400, "malformed_body"),
        (b'{"name": "\\ud800"}', {"Content-Type": "application/json"}, 400, "malformed_body"),
        (b"name=x", {"Content-Type": "application/x-www-form-urlencoded"}, 415, "unsupported_media_type"),
        (b"{" + b" " * 1024**2 + b"}", {"Content-Type": "application/json"}, 413, "too_large"),
        (b"[" * 100_000, {"Content-Type": "application/json"}, 400, "malformed_body"),
    ],
    ids=["cut", "a list", "infinite", "no Unicode", "a form", "large", "deep"],
)
def test_a_body_that_is_no_json_object_is_refused(api: Api, body, headers, status, code):
    problem(api.request("POST", "/uploads", data=body, headers=headers), status, code)


@pytest.mark.parametrize("upload_id", ["01M87PN8M7Q91BK2R432X3A3QS", "x", "A" * 3000])
def test_unknown_uploads_are_not_found(api: Api, upload_id: str):
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/complete"), ("POST", "/parts")):
        body = {"digests": {"1": DIGESTS[0]}} if path == "/parts" else {} if path else None
        problem(api.request(method, f"/uploads/{upload_id}{path}", json=body), 404, "not_found")


def test_sixteen_uploads_at_once(api: Api):
    def publish(number: int) -> dict[str, Any]:
        archive = zip_of(model__txt=f"weights {number}")
        upload = opened(api, archive, name=name, version=f"v{number}").json()
        assert sent(upload, archive).status_code == 200
        answer = completed(api, upload)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    name = unique("crowd")
    with ThreadPoolExecutor(16) as threads:
        models = list(threads.map(publish, range(16)))

    assert len({model["number"] for model in models}) == 16
    found = api.get("/registered-models", params={"name": name}).json()
    assert [model["number"] for model in found["versions"]] == sorted((m["number"] for m in models), reverse=True)
    assert found["latest"] == found["versions"][0]


def test_of_sixteen_that_claim_one_version_one_gets_it(api: Api):
    name = unique("contested")
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda _: opened(api, name=name), range(16)))

    [winner] = [answer.json() for answer in answers if answer.status_code == 201]
    refused = [problem(answer, 409, "conflict") for answer in answers if answer.status_code != 201]
    assert {(one["holder"], one["upload_id"]) for one in refused} == {(winner["model_id"], winner["upload_id"])}


def test_the_archive_of_a_large_upload_is_checked_without_downloading_it(api: Api):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("model.xml", '<net name="large" version="11"/>')
        archive.writestr("model.bin", LARGE)
    content = buffer.getvalue()
    pieces = {at // PART_BYTES + 1: content[at : at + PART_BYTES] for at in range(0, len(content), PART_BYTES)}
    upload = opened(api, content, file_name="large.zip", sha256=None).json()
    digests = {str(number): digest(piece) for number, piece in pieces.items()}
    requested = api.request("POST", f"/uploads/{upload['upload_id']}/parts", json={"digests": digests}).json()
    etags = {one["number"]: sent(one, pieces[one["number"]]).headers["ETag"] for one in requested["parts"]}
    parts = [{"number": n, "etag": etag, "digest": digests[str(n)]} for n, etag in etags.items()]
    before = len(api.s3.seen)

    model = completed(api, upload, parts=parts).json()

    assert (model["format"], model["status"]) == ("OpenVINO", "READY")
    calls = api.s3.seen[before:]
    reads = [call.header("range") for call in calls if call.method == "GET" and "list" not in call.target]
    ranges = [[int(at) for at in read.removeprefix("bytes=").split("-")] for read in reads if read]
    assert len(ranges) <= 3
    assert sum(last - first + 1 for first, last in ranges) <= MEBIBYTE
    assert len(calls) <= 3 + len(ranges)  # the parts, the joining, the object
    manifest = api.get(f"/models/{model['id']}/manifest").json()
    assert [(file["path"], file["size"]) for file in manifest["files"]] == [
        ("model.xml", 32),
        ("model.bin", len(LARGE)),
    ]
    assert manifest["files"][1]["crc32"] == f"{zlib.crc32(LARGE):08x}"


def test_the_sweep_runs_as_a_function_of_its_own(api: Api):
    functions, name = api.stack.aws("lambda"), api.stack.function("Sweep")
    event = dict.fromkeys(("version", "account", "region", "detail-type", "source", "time", "id"), "")

    answer = functions.invoke(FunctionName=name, Payload=json.dumps({**event, "detail": {}, "resources": []}))

    swept = json.loads(answer["Payload"].read())
    assert "FunctionError" not in answer, swept
    assert (swept["failed"], swept["is_finished"]) == (0, True)
