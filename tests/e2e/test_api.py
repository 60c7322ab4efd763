"""Reading: health, one model, lists and searches, downloads, deletion, and everything that is not there."""

import hashlib
import io
import json
import uuid
import zipfile

import pytest
import requests

from tests.conftest import ARCHIVE
from tests.e2e.strict_stack import Api, unique

# fmt: off
PUBLISHED_FIELDS = {
    "id", "name", "version", "target_device", "precision", "size", "format", "origin", "file_url", "project_id",
    "project_name", "category", "target_device_type", "score", "overview", "optimization_capabilities", "labels",
    "architecture", "created_date", "last_updated_date",
}
OUR_FIELDS = {
    "number", "status", "sha256", "revision", "tags", "aliases", "description", "registered_model_id",
    "sha256_checked_by", "stage", "source",
}
UNKNOWN_FIELDS = {
    "project_id", "project_name", "category", "target_device_type", "overview", "optimization_capabilities", "labels",
    "format", "origin", "architecture", "description", "stage", "source",
}
# fmt: on
MISSING_ID = "no-such-model-0000"


def said(answer: requests.Response) -> tuple[int, str]:
    return answer.status_code, answer.text


# Health


def test_health_says_ok(api: Api):
    assert said(api.get("/health")) == (200, '{"status":"ok"}')


def test_deep_health_says_ok_when_table_and_bucket_answer(api: Api):
    assert said(api.get("/health?deep=true")) == (200, '{"status":"ok"}')


@pytest.mark.parametrize("query", ["deep=perhaps", "depth=1", "deep=true&deep=true", "deep="])
def test_health_refuses_other_questions(api: Api, query: str):
    assert api.get(f"/health?{query}").status_code == 422


# One model


def test_a_model_has_every_field_null_when_unknown(api: Api):
    name = unique("detector")
    model_id = api.register(name=name)

    model = api.model(model_id)

    assert set(model) == PUBLISHED_FIELDS | OUR_FIELDS
    assert {field for field in model if model[field] is None} == UNKNOWN_FIELDS
    assert (model["id"], model["name"], model["version"]) == (model_id, name, "v1")


def test_a_model_has_the_documented_types(api: Api):
    model = api.model(api.register(score="0.5", precision="FP16"))

    assert (model["precision"], model["score"], model["size"]) == (["fp16"], 0.5, len(ARCHIVE))
    assert model["sha256"] == hashlib.sha256(ARCHIVE).hexdigest()
    assert model["sha256_checked_by"] == "registry"
    assert model["file_url"].startswith(f"s3://{api.stack.bucket}/artifacts/")
    assert (model["status"], model["revision"], model["number"]) == ("READY", 1, 1)


def test_the_etag_of_a_model_is_its_revision(api: Api):
    model_id = api.register()
    api.put(f"/models/{model_id}", data={"category": "detection"})

    assert api.get(f"/models/{model_id}").headers["ETag"] == '"2"'


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_a_model_that_is_not_there_is_not_found(api: Api, method: str):
    answer = api.request(method, f"/models/{MISSING_ID}", data={"score": "1"} if method == "PUT" else None)

    assert said(answer) == (404, "Model not found.\n")


def test_the_files_of_a_model_that_is_not_there_are_not_found(api: Api):
    assert said(api.get(f"/models/{MISSING_ID}/files")) == (404, "Model not found.\n")


@pytest.mark.parametrize("model_id", ["short", "with.dots.in.it.0000", "%D0%BC" * 20, "with%20blanks%20in%20it"])
@pytest.mark.parametrize(("method", "suffix"), [("GET", ""), ("PUT", ""), ("DELETE", ""), ("GET", "/files")])
def test_what_cannot_be_an_id_is_refused(api: Api, model_id: str, method: str, suffix: str):
    answer = api.request(method, f"/models/{model_id}{suffix}", data={"score": "1"} if method == "PUT" else None)

    assert said(answer) == (400, '{"detail":"Invalid format for model ID."}')


# Lists and searches


def test_a_list_is_newest_first(api: Api):
    name = unique("detector")
    ids = [api.register(name=name, version=version) for version in ("v1", "v2", "v3")]

    assert [model["id"] for model in api.found(name=name)] == ids[::-1]


@pytest.mark.parametrize(
    ("field", "stored", "asked"),
    [
        ("name", "Straße", "STRASSE"),
        ("name", "İstanbul", "i̇STANBUL"),
        ("name", "ΣΊΣΥΦΟΣ", "σίσυφος"),
        ("name", "100% o'clock <b>_", "% O'CLOCK <B>_"),
        ("project_name", "Warehouse", "HOUSE"),
        ("category", "Object Detection", "detection"),
        ("architecture", "YOLOX", "olox"),
    ],
)
def test_a_filter_finds_a_part_of_the_text_in_any_case(api: Api, field: str, stored: str, asked: str):
    marker = uuid.uuid4().hex
    model_id = api.register(**{"name": unique("any"), field: f"{stored} {marker}"})

    assert [model["id"] for model in api.found(**{field: f"{asked} {marker}".upper()})] == [model_id]
    assert [model["id"] for model in api.found(**{field: f"{asked} {marker}"})] == [model_id]


@pytest.mark.parametrize("wildcard", ["%", "_", "*", ".*", "?", "'", "<script>", "\\", '"', "%25", "+"])
def test_characters_of_other_query_languages_mean_themselves(api: Api, wildcard: str):
    marker = uuid.uuid4().hex
    plain = api.register(name=f"{marker} plain")
    special = api.register(name=f"{marker} {wildcard}")

    assert [model["id"] for model in api.found(name=f"{marker} {wildcard}")] == [special]
    assert [model["id"] for model in api.found(name=f"{marker} p")] == [plain]


@pytest.mark.parametrize(("asked", "is_found"), [("v1", True), ("V1", False), ("v", False)])
def test_the_version_filter_is_exact(api: Api, asked: str, is_found: bool):
    name = unique("detector")
    api.register(name=name, version="v1")

    assert bool(api.found(name=name, version=asked)) == is_found


@pytest.mark.parametrize(("asked", "is_found"), [("fp16", True), ("FP16", True), ("fp", True), ("int8", False)])
def test_the_precision_filter_is_a_part_in_any_case(api: Api, asked: str, is_found: bool):
    name = unique("detector")
    api.register(name=name, precision="fp16")

    assert bool(api.found(name=name, precision=asked)) == is_found


def test_origin_format_and_tag_filters_are_ours(api: Api):
    name = unique("detector")
    fields = {"name": name, "origin": "Geti", "tags": '{"line":"7","a.b":"c=d&e"}'}
    model_id = api.register(**fields)

    for filters in ({"origin": "geti"}, {"tag.line": "7"}, {"tag.a.b": "c=d&e"}):
        assert [model["id"] for model in api.found(name=name, **filters)] == [model_id]
    for filters in ({"origin": "get"}, {"tag.line": "8"}, {"tag.LINE": "7"}, {"format": "onnx"}):
        assert api.found(name=name, **filters) == []


def test_all_filters_must_hold(api: Api):
    name = unique("detector")
    api.register(name=name, version="v1", category="a", architecture="x")
    both = api.register(name=name, version="v2", category="a", architecture="y")

    found = api.found(name=name, category="a", architecture="y", precision="fp32", version="v2")

    assert [model["id"] for model in found] == [both]
    assert api.found(name=name, version="v1", architecture="y") == []


def test_a_search_that_finds_nothing_says_so(api: Api):
    assert said(api.get("/models", params={"name": unique("nothing")})) == (404, "Model(s) not found.\n")


def test_unknown_query_parameters_are_named(api: Api):
    assert said(api.get("/models?foo=1&name=x&bar=2")) == (422, "Invalid query parameter(s): foo, bar\n")


@pytest.mark.parametrize("query", ["name=a&name=b", "name=", "name", "tag.a=1&tag.a=2", "page_token="])
def test_repeated_and_empty_query_parameters_are_refused(api: Api, query: str):
    answer = api.get(f"/models?{query}")

    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["query", query.partition("=")[0]]


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=-1", "limit=ten", "limit=1e2", "page_token=abc"])
def test_limits_and_page_tokens_are_checked(api: Api, query: str):
    answer = api.get(f"/models?{query}")

    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["query", query.partition("=")[0]]


@pytest.mark.parametrize("value", ["%00", "%FF%FE", "%ED%A0%80", "q" * 5000, "%F0%9F%A6%A4"])
def test_no_filter_value_breaks_a_search(api: Api, value: str):
    assert api.get(f"/models?name={value}").status_code == 404


def test_a_page_token_of_another_search_is_refused(api: Api):
    name = unique("detector")
    for version in ("v1", "v2"):
        api.register(name=name, version=version)
    link = api.get("/models", params={"name": name, "limit": 1}).links["next"]["url"]

    stolen = link.replace("&limit=1", "&limit=1&version=v1")

    assert requests.get(stolen, timeout=60).status_code == 422


def test_the_next_page_is_announced_under_the_public_url(api: Api):
    name = unique("detector")
    oldest, newest = (api.register(name=name, version=version) for version in ("v1", "v2"))
    forged = {"Host": "evil.example", "X-Forwarded-Host": "evil.example"}

    answer = api.get("/models", params={"name": name, "limit": 1}, headers=forged)

    following = answer.links["next"]["url"]
    assert following.startswith(f"{api.url}/models?")
    assert [model["id"] for model in answer.json()] == [newest]
    last = requests.get(following, timeout=60)
    assert [model["id"] for model in last.json()] == [oldest]
    assert "Link" not in last.headers


# Downloads


def test_a_download_is_a_redirect_whose_text_does_not_tell_the_url(api: Api):
    answer = api.get(f"/models/{api.register()}/files")

    assert answer.status_code == 307
    assert answer.headers["Location"].startswith(api.s3.address)
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert "curl -L" in answer.text
    assert "http" not in answer.text
    assert "X-Amz" not in answer.text


def test_a_download_is_byte_for_byte_what_was_registered(api: Api):
    archive = odd_archive()

    answer = api.get(f"/models/{api.register(archive)}/files", allow_redirects=True)

    assert answer.content == archive
    assert answer.headers["Content-Type"] == "application/zip"


def test_a_part_of_a_download_can_be_asked_for(api: Api):
    url = api.get(f"/models/{api.register()}/files").headers["Location"]

    answer = requests.get(url, headers={"Range": "bytes=4-9"}, timeout=60)

    assert (answer.status_code, answer.content) == (206, ARCHIVE[4:10])
    assert answer.headers["Content-Range"] == f"bytes 4-9/{len(ARCHIVE)}"


def test_a_download_goes_on_where_it_broke_off(api: Api):
    answer = api.get(f"/models/{api.register()}/files", headers={"Range": "bytes=10-"}, allow_redirects=True)

    assert (answer.status_code, answer.content) == (206, ARCHIVE[10:])


@pytest.mark.parametrize(
    ("stated", "kept"),
    [
        ("model.zip", "model.zip"),
        ("../../etc/model.zip", "model.zip"),
        ("C:\\models\\model.zip", "model.zip"),
        ("модель 7.zip", "%D0%BC%D0%BE%D0%B4%D0%B5%D0%BB%D1%8C%207.zip"),
        ("it's.zip", "it%27s.zip"),
        ("..", "model.zip"),
    ],
)
def test_a_download_is_offered_under_its_base_name(api: Api, stated: str, kept: str):
    model_id = api.register(file_name=stated)

    answer = api.get(f"/models/{model_id}/files", allow_redirects=True)

    assert answer.content == ARCHIVE
    assert answer.headers["Content-Disposition"].endswith(f"filename*=UTF-8''{kept}")


@pytest.mark.parametrize("stem", ["a" * 300, "ж" * 200])
def test_a_file_name_keeps_at_most_255_bytes_and_its_suffix(api: Api, stem: str):
    model = api.model(api.register(file_name=f"{stem}.zip"))

    base = model["file_url"].rpartition("/")[2]
    assert 250 < len(base.encode()) <= 255
    assert base.endswith(".zip")
    assert api.get(f"/models/{model['id']}/files", allow_redirects=True).content == ARCHIVE


# Deletion


def test_a_deleted_model_is_gone_at_once_and_deleted_only_once(api: Api):
    name = unique("detector")
    model_id = api.register(name=name)

    first, second = api.delete(f"/models/{model_id}"), api.delete(f"/models/{model_id}")

    assert said(first) == (204, "")
    assert said(second) == (404, "Model not found.\n")
    assert api.get(f"/models/{model_id}").status_code == 404
    assert api.get(f"/models/{model_id}/files").status_code == 404
    assert api.found(name=name) == []


def test_deletion_frees_id_and_name_and_keeps_the_number_used(api: Api):
    name, model_id = unique("detector"), f"id-{uuid.uuid4()}"
    api.register(name=name, id=model_id)
    api.delete(f"/models/{model_id}")

    again = api.model(api.register(name=name, id=model_id))

    assert (again["id"], again["number"]) == (model_id, 2)


def test_a_deleted_artifact_cannot_be_downloaded_any_more(api: Api):
    model_id = api.register()
    url = api.get(f"/models/{model_id}/files").headers["Location"]

    api.delete(f"/models/{model_id}")

    assert requests.get(url, timeout=60).status_code == 404


# What is not there


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/projects"), ("GET", "/projects/p1"), ("POST", "/projects/p1/geti-models/download")],
)
def test_projects_name_the_settings_that_geti_needs(api: Api, method: str, path: str):
    wanted = {"models": [{"id": "m1", "group_id": "g1"}]}

    answer = api.request(method, path, json=wanted if method == "POST" else None)

    assert answer.status_code == 503
    assert "GETI_HOST" in answer.json()["detail"]
    assert "GETI_TOKEN" in answer.json()["detail"]


@pytest.mark.parametrize(
    "path", ["/models/aaaaaaaaaaaaaaaaaaaa/nothing", "/projects/a/b/c", "/health/x", "/models/a/b/c"]
)
def test_unknown_routes_of_the_published_api_answer_in_its_dialect(api: Api, path: str):
    assert said(api.get(path)) == (404, '{"detail":"Not Found"}')


@pytest.mark.parametrize("path", ["/api/2.0/mlflow/nothing", "/ajax-api/2.0/mlflow/x/y"])
def test_unknown_routes_of_mlflow_answer_in_its_dialect(api: Api, path: str):
    answer = api.get(path)

    assert (answer.status_code, answer.json()["error_code"]) == (404, "ENDPOINT_NOT_FOUND")


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
def test_other_unknown_routes_are_told_as_problems(api: Api, method: str):
    answer = api.request(method, "/somewhere/else")

    assert answer.status_code == 404
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] == "not_found"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PATCH", "/models", "GET, POST"),
        ("DELETE", "/models", "GET, POST"),
        ("POST", "/models/aaaaaaaaaaaaaaaaaaaa", "DELETE, GET, PUT"),
        ("DELETE", "/models/aaaaaaaaaaaaaaaaaaaa/files", "GET"),
        ("POST", "/health", "GET"),
        ("GET", "/projects/a/geti-models/download", "POST"),
    ],
)
def test_methods_that_a_path_has_not_are_told(api: Api, method: str, path: str, allowed: str):
    answer = api.request(method, path)

    assert (answer.status_code, answer.headers["Allow"]) == (405, allowed)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/health", 200),
        ("GET", "/models?limit=1", 200),
        ("GET", "/models?foo=1", 422),
        ("GET", f"/models/{MISSING_ID}", 404),
        ("GET", "/models/short", 400),
        ("DELETE", f"/models/{MISSING_ID}", 404),
        ("PUT", f"/models/{MISSING_ID}", 400),
        ("POST", "/models", 422),
        ("GET", "/projects", 503),
        ("PATCH", "/models", 405),
        ("GET", "/nothing", 404),
    ],
)
def test_every_answer_has_a_request_id_and_says_how_to_treat_it(api: Api, method: str, path: str, status: int):
    answers = [api.request(method, path) for _ in range(2)]

    ids = [answer.headers["X-Request-Id"] for answer in answers]
    assert [answer.status_code for answer in answers] == [status, status]
    assert len(set(ids)) == 2
    assert all(uuid.UUID(request_id) for request_id in ids)
    assert answers[0].headers["Cache-Control"] == "no-store"
    assert answers[0].headers["X-Content-Type-Options"] == "nosniff"


def test_errors_are_the_same_for_clients_that_want_json_or_anything(api: Api):
    for accept in ("application/json", "*/*", "application/zip", "text/html"):
        answer = api.get(f"/models/{MISSING_ID}", headers={"Accept": accept})
        assert said(answer) == (404, "Model not found.\n")


def odd_archive() -> bytes:
    """A ZIP that nobody would get byte for byte by packing its files again."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.comment = "as it is: \xff".encode("latin-1")
        archive.writestr(zipfile.ZipInfo("deployment/ü.json", (1999, 12, 31, 23, 59, 58)), json.dumps({"a": "ß"}))
        packed = zipfile.ZipInfo("deployment/model.bin")
        packed.compress_type = zipfile.ZIP_DEFLATED
        archive.writestr(packed, bytes(range(256)) * 40, compresslevel=1)
    return file.getvalue()
