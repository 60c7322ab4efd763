"""MLflow's artifact service: what its clients ask, answered on AWS in memory."""

import io
import zipfile
from typing import Any

import pytest
import requests

from chalicelib.registry.errands import Errand, ErrandKind
from chalicelib.wiring import registry
from chalicelib.wiring_mlflow import packing, trees, unpacking
from tests.conftest import zip_of
from tests.mlflow_calls import Answer, call
from tests.surfaces.conftest import ID, Service

MODEL = "m-0123456789abcdef0123456789abcdef"
ROOT = f"1/models/{MODEL}/artifacts"
SERVICE = "/api/2.0/mlflow-artifacts"


@pytest.fixture
def tree(service: Service) -> str:
    trees().created(MODEL, None, None)
    return MODEL


def sent(url: str, body: bytes) -> str:
    """What a client does with the URL of a part; the ETag."""
    answer = requests.put(url, data=body, timeout=5)
    assert answer.status_code == 200
    return answer.headers["ETag"]


def create(path: str, num_parts: int = 1, root: str = ROOT) -> Answer:
    directory, _, name = f"{root}/{path}".rpartition("/")
    return call("POST", f"{SERVICE}/mpu/create/{directory}", {"path": name, "num_parts": num_parts})


def complete(path: str, upload_id: str, parts: list[dict[str, Any]]) -> Answer:
    directory, _, name = f"{ROOT}/{path}".rpartition("/")
    body = {"path": name, "upload_id": upload_id, "parts": parts}
    return call("POST", f"{SERVICE}/mpu/complete/{directory}", body)


def upload(path: str, *contents: bytes) -> Answer:
    """As MLflow's client does it."""
    begun = create(path, len(contents)).body
    parts = [
        {"part_number": one["part_number"], "etag": sent(one["url"], content), "url": one["url"]}
        for one, content in zip(begun["credentials"], contents, strict=True)
    ]
    return complete(path, begun["upload_id"], parts)


def listed(path: str = "") -> Any:
    return call("GET", f"{SERVICE}/artifacts?path={ROOT}/{path}".rstrip("/")).body


def test_a_file_that_was_sent_in_parts_is_listed_and_fetched(tree: str) -> None:
    assert upload("a/b/MLmodel", b"flavors: {}").status == 200

    assert listed() == {"files": [{"path": "a", "is_dir": True}]}
    assert listed("a/b") == {"files": [{"path": "MLmodel", "is_dir": False, "file_size": 11}]}
    fetched = call("GET", f"{SERVICE}/presigned/{ROOT}/a/b/MLmodel")
    assert (fetched.status, fetched.body["headers"], fetched.body["file_size"]) == (200, {}, 11)


def test_an_empty_file_is_a_file(tree: str) -> None:
    assert upload("empty", b"").status == 200

    assert listed() == {"files": [{"path": "empty", "is_dir": False, "file_size": 0}]}


def test_a_client_before_3_18_states_where_the_file_is_on_its_disk(tree: str) -> None:
    for stated in ("/home/ann/model/MLmodel", "C:\\Users\\ann\\MLmodel"):
        begun = call("POST", f"{SERVICE}/mpu/create/{ROOT}/a", {"path": stated, "num_parts": 1}).body
        etag = sent(begun["credentials"][0]["url"], b"x")
        parts = [{"part_number": 1, "etag": etag, "url": "u"}]
        body = {"path": stated, "upload_id": begun["upload_id"], "parts": parts}
        assert call("POST", f"{SERVICE}/mpu/complete/{ROOT}/a", body).status == 200

    assert listed("a") == {"files": [{"path": "MLmodel", "is_dir": False, "file_size": 1}]}


@pytest.mark.parametrize("path", ["", "/", "..", "a/..", ".", "a\\.."])
def test_a_name_that_is_none_is_refused(tree: str, path: str) -> None:
    answer = call("POST", f"{SERVICE}/mpu/create/{ROOT}/a", {"path": path, "num_parts": 1})

    assert (answer.status, answer.body["error_code"]) == (400, "INVALID_PARAMETER_VALUE")


def test_an_upload_that_was_aborted_cannot_be_completed(tree: str) -> None:
    begun = create("x").body
    body = {"path": "x", "upload_id": begun["upload_id"]}
    assert call("POST", f"{SERVICE}/mpu/abort/{ROOT}", body).body == {}

    answer = complete("x", begun["upload_id"], [])

    assert (answer.status, answer.body["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")


def test_a_download_is_a_redirect_to_s3(tree: str) -> None:
    upload("MLmodel", b"flavors: {}")

    answer = call("GET", f"{SERVICE}/artifacts/{ROOT}/MLmodel")

    assert answer.status == 307
    assert requests.get(answer.headers["Location"], timeout=5).content == b"flavors: {}"
    assert "Location" not in answer.body
    assert "http" not in answer.body


@pytest.mark.parametrize("body", [bytes(range(256)), b"", b"\xef\xbf\xbd", "text \u00e9", "{}", ""])
def test_a_small_file_of_an_old_client_arrives_byte_for_byte(tree: str, body: bytes | str) -> None:
    assert call("PUT", f"{SERVICE}/artifacts/{ROOT}/small", body).status == 200

    url = call("GET", f"{SERVICE}/presigned/{ROOT}/small").body["url"]
    assert requests.get(url, timeout=5).content == (body if isinstance(body, bytes) else body.encode())


def test_a_file_that_a_gateway_took_for_text_is_refused_rather_than_stored_damaged(tree: str) -> None:
    answer = call("PUT", f"{SERVICE}/artifacts/{ROOT}/small", "\ufffd\ufffd")

    assert (answer.status, answer.body["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert "application/octet-stream" in answer.body["message"]
    assert listed() == {}


def test_a_large_file_of_an_old_client_is_told_what_to_set(tree: str) -> None:
    answer = call("PUT", f"{SERVICE}/artifacts/{ROOT}/large", b"x" * 4_500_001)

    assert answer.status == 413
    assert "MLflow 3.18" in answer.body["message"]
    assert "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD" in answer.body["message"]


def test_files_are_removed_one_by_one_and_by_directories(tree: str) -> None:
    for path in ("a/x", "a/y", "b"):
        call("PUT", f"{SERVICE}/artifacts/{ROOT}/{path}", b"x")

    assert call("DELETE", f"{SERVICE}/artifacts/{ROOT}/a").body == {}
    assert listed() == {"files": [{"path": "b", "is_dir": False, "file_size": 1}]}
    assert call("DELETE", f"{SERVICE}/artifacts/{ROOT}/").status == 200
    assert listed() == {}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", f"presigned/{ROOT}/nothing"),
        ("GET", f"artifacts/{ROOT}/nothing"),
        ("GET", f"presigned/{ROOT}"),
        ("GET", "presigned/1/models/m-nobody/artifacts/x"),
        ("GET", "artifacts?path=1/models/m-nobody/artifacts"),
        ("GET", "artifacts?path="),
        ("GET", "artifacts"),
        ("GET", "presigned/versions/model-of-nobody-1/artifacts/x"),
        ("GET", "presigned/1/files-0123/artifacts/x"),
        ("PUT", "artifacts/1/models/m-nobody/artifacts/x"),
        ("DELETE", "artifacts/1/models/m-nobody/artifacts/x"),
    ],
)
def test_what_is_not_there_is_said_to_be_absent(tree: str, method: str, path: str) -> None:
    answer = call(method, f"{SERVICE}/{path}", b"" if method == "PUT" else None)

    assert (answer.status, answer.body["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")


@pytest.mark.parametrize("path", ["../x", "a/../../x", "a//b", "a\\b", "%2e%2e/x", "a\x00b", "x" * 300])
@pytest.mark.parametrize("what", ["presigned", "artifacts"])
def test_a_hostile_path_is_refused(tree: str, what: str, path: str) -> None:
    answer = call("GET", f"{SERVICE}/{what}/{ROOT}/{path}")

    assert (answer.status, answer.body["error_code"]) == (400, "INVALID_PARAMETER_VALUE")


@pytest.mark.parametrize(
    "body",
    [
        "[]",
        "{",
        "",
        '{"path": 1}',
        '{"path": "x", "num_parts": "many"}',
        '{"num_parts": 1}',
        '{"path": "x"}',
        '{"path": "x", "num_parts": 99999999999999999999}',
        '{"path": "\\ud800", "num_parts": 1}',
    ],
)
@pytest.mark.parametrize("call_name", ["create", "complete", "abort"])
def test_a_hostile_body_is_refused(tree: str, call_name: str, body: str) -> None:
    answer = call("POST", f"{SERVICE}/mpu/{call_name}/{ROOT}", body)

    # Aborting what is not there is no error.
    assert answer.status in ((400, 404) if call_name != "abort" else (200, 400))


def test_no_url_and_no_id_of_s3_is_logged(tree: str, capsys: pytest.CaptureFixture[str]) -> None:
    upload("x", b"1")
    call("GET", f"{SERVICE}/artifacts/{ROOT}/x")
    call("GET", f"{SERVICE}/presigned/{ROOT}/x")

    logged = capsys.readouterr().out
    assert '"operation":"get_presigned_download_url"' in logged
    assert "X-Amz" not in logged
    assert "uploadId" not in logged
    assert "amazonaws" not in logged


def test_the_archive_of_a_version_is_a_directory_once_it_is_unpacked(service: Service) -> None:
    service.register(archive=zip_of(**{"m/MLmodel": "flavors: {}"}))
    unpacking().unpack(ID, lambda: 900_000)

    answer = call("GET", f"{SERVICE}/artifacts?path=versions/{ID}/artifacts")

    assert answer.body == {"files": [{"path": "MLmodel", "is_dir": False, "file_size": 11}]}
    refused = call("PUT", f"{SERVICE}/artifacts/versions/{ID}/artifacts/x", b"x")
    assert (refused.status, refused.body["error_code"]) == (400, "INVALID_PARAMETER_VALUE")


def test_until_it_is_unpacked_a_client_is_to_come_again(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chalicelib.registry.unpacking.WAIT_SECONDS", 0)
    queued: list[Errand] = []
    monkeypatch.setattr("chalicelib.store.errands.SqsErrands.queue", lambda _, errand: queued.append(errand))
    service.register()

    answer = call("GET", f"{SERVICE}/artifacts?path=versions/{ID}/artifacts")

    assert (answer.status, answer.body["error_code"]) == (503, "TEMPORARILY_UNAVAILABLE")
    assert answer.headers["Retry-After"] == "5"
    assert queued == [Errand(kind=ErrandKind.UNPACK, subject=ID)]


@pytest.fixture
def tree_version(service: Service, monkeypatch: pytest.MonkeyPatch) -> str:
    """A version whose artifact is the tree."""
    trees().created(MODEL, None, None)
    for path in ("MLmodel", "data/w.bin"):
        call("PUT", f"{SERVICE}/artifacts/{ROOT}/{path}", b"weights")
    service.register()
    found = trees().listed(MODEL, "")
    assert found
    version = registry().catalog.version(ID).model_copy(update={"artifact": found[0]})
    monkeypatch.setattr(registry().catalog, "version", lambda _: version)
    return ID


def test_a_directory_is_downloaded_as_one_archive(service: Service, tree_version: str) -> None:
    packing().pack(tree_version, lambda: 900_000)

    answer = service.request("GET", f"/models/{tree_version}/files")

    assert answer.status_code == 307
    fetched = requests.get(answer.headers["Location"], timeout=5)
    assert fetched.headers["Content-Type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(fetched.content)) as archive:
        assert archive.namelist() == ["model/", "model/MLmodel", "model/data/w.bin"]


def test_until_it_is_packed_one_is_told_when_to_ask_again(
    service: Service, tree_version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chalicelib.registry.packing.WAIT_SECONDS", 0)
    monkeypatch.setattr("chalicelib.store.errands.SqsErrands.queue", lambda *_: None)

    answer = service.request("GET", f"/models/{tree_version}/files")

    assert (answer.status_code, answer.headers["Retry-After"]) == (202, "5")
    assert b"ask again" in answer.body


def test_the_manifest_of_a_directory_lists_its_files_in_pages(service: Service, tree_version: str) -> None:
    first = service.request("GET", f"/models/{tree_version}/manifest?limit=1")
    second = service.request("GET", f"/models/{tree_version}/manifest{first.headers['Link'].split('>')[0][1:]}")

    assert [one.json_body["files"] for one in (first, second)] == [
        [{"path": "MLmodel", "size": 7, "crc32": None}],
        [{"path": "data/w.bin", "size": 7, "crc32": None}],
    ]
    assert (first.json_body["file_count"], first.json_body["size"], first.json_body["file_name"]) == (2, 14, None)
    assert "Link" not in second.headers


def test_server_info_needs_no_token_and_no_aws(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_call(*_: object) -> None:
        raise AssertionError("a call of AWS")

    monkeypatch.setattr("botocore.client.BaseClient._make_api_call", no_call)

    for prefix in ("api", "ajax-api"):
        told = service.request("GET", f"/{prefix}/3.0/mlflow/server-info", headers={"Authorization": "Bearer nonsense"})
        assert told.status_code == 200
        assert told.json_body["artifacts_presigned_only"] is True
        assert told.json_body["multipart_uploads_enabled"] is True
        assert told.json_body["multipart_downloads_enabled"] is True
