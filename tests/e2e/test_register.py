"""`POST /models`: what a form may say, what is refused, and that nothing refused leaves a trace."""

import hashlib
import io
import json
import os
import re
import uuid
import zipfile
from typing import Any

import pytest
import requests

from chalicelib.forms import MAX_FORM_BYTES
from tests.conftest import ARCHIVE, zip_of
from tests.e2e.strict_stack import Api, unique
from tests.hostile_archives import HOSTILE, Hostile
from tests.simulators.proxy import Reply
from tests.simulators.strict_s3 import s3_error

DATE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6} UTC")


def refused(api: Api, status: int = 422, **fields: Any) -> requests.Response:
    """The answer to a form that must be refused."""
    answer = api.post_model(fields)
    assert answer.status_code == status, answer.text
    return answer


def locations(answer: requests.Response) -> list[list[str]]:
    """Where the problems of a 422 are; each says what and of which type."""
    assert all(set(problem) == {"loc", "msg", "type"} for problem in answer.json()["detail"])
    return [problem["loc"] for problem in answer.json()["detail"]]


# What is accepted


def test_the_answer_is_the_id_as_plain_text(api: Api):
    answer = api.post_model()

    assert answer.status_code == 201
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert str(uuid.UUID(answer.text, version=4)) == answer.text


def test_what_a_form_leaves_open_gets_the_documented_defaults(api: Api):
    model = api.model(api.register())

    assert (model["target_device"], model["score"], model["precision"]) == ("CPU", 0.0, ["fp32"])
    assert model["size"] == len(ARCHIVE)
    assert DATE.fullmatch(model["created_date"])
    assert DATE.fullmatch(model["last_updated_date"])


def test_every_field_is_kept_as_stated(api: Api):
    texts = {
        "id": f"MY_id-{uuid.uuid4()}",
        "name": unique("Straße 🦆"),
        "version": "v 1.0/β",
        "project_id": "p-1",
        "project_name": "Linie 7",
        "target_device": "GPU",
        "target_device_type": "client",
        "category": "Detection",
        "architecture": "YOLOX",
        "origin": "Geti",
        "created_date": "2024-02-28 15:39:07.054000 UTC",
        "description": "two\nlines",
    }
    data = {
        "score": 0.25,
        "precision": ["int8"],
        "overview": {"a": [1, None, {"b": "ü"}]},
        "optimization_capabilities": {"is_pot": True},
        "labels": ["cat", {"name": "dog"}],
        "tags": {"line": "7"},
    }
    sent = {
        "score": "0.25",
        "precision": "INT8",
        "overview": '{"a":[1,null,{"b":"ü"}]}',
        "optimization_capabilities": '{"is_pot":true}',
        "labels": '["cat",{"name":"dog"}]',
        "tags": '{"line":"7"}',
    }

    model = api.model(api.register(**texts, **sent))

    assert {name: model[name] for name in {**texts, **data}} == {**texts, **data}


@pytest.mark.parametrize(
    ("stated", "kept"),
    [
        ("FP32", ["fp32"]),
        ("bf16", ["bf16"]),
        ("Int4", ["int4"]),
        ("fp16,INT8", ["fp16", "int8"]),
        ('["FP16"]', ["fp16"]),
        ("['int8', 'fp16']", ["fp16", "int8"]),
        (["int8", "fp32", "FP32"], ["fp32", "int8"]),
        ("", ["fp32"]),
    ],
)
def test_precisions_may_be_spelled_in_any_usual_way(api: Api, stated: Any, kept: list[str]):
    assert api.model(api.register(precision=stated))["precision"] == kept


@pytest.mark.parametrize(
    ("stated", "kept"),
    [
        ('["cat", "dog"]', ["cat", "dog"]),
        ("['cat', 'dog']", ["cat", "dog"]),
        ("[{'name': 'cat', 'color': None, 'ok': True}]", [{"name": "cat", "color": None, "ok": True}]),
        ("[]", []),
        ("", None),
    ],
)
def test_labels_may_be_json_or_a_python_literal(api: Api, stated: str, kept: Any):
    assert api.model(api.register(labels=stated))["labels"] == kept


@pytest.mark.parametrize("field", ["category", "project_name", "overview", "tags", "score", "id", "created_date"])
def test_an_empty_optional_field_counts_as_left_out(api: Api, field: str):
    default = api.model(api.register())[field]
    model = api.model(api.register(**{field: ""}))

    assert model[field] if field in ("id", "created_date") else model[field] == default


@pytest.mark.parametrize("score", ["0", "-1.5", "1e-3"])
def test_falsy_and_odd_scores_are_scores(api: Api, score: str):
    assert api.model(api.register(score=score))["score"] == float(score)


@pytest.mark.parametrize(
    "media_type",
    [
        "application/zip",
        "application/x-zip",
        "application/x-zip-compressed",
        "application/zip-compressed",
        "multipart/x-zip",
        "Application/ZIP; charset=binary",
    ],
)
def test_the_known_zip_types_are_accepted(api: Api, media_type: str):
    assert api.post_model(media_type=media_type).status_code == 201


@pytest.mark.parametrize("spelled", [str.lower, str.upper])
def test_a_stated_sha256_is_checked(api: Api, spelled: Any):
    digest = hashlib.sha256(ARCHIVE).hexdigest()

    assert api.post_model({"sha256": spelled(digest)}).status_code == 201


# What is refused


def test_missing_fields_are_all_named_at_once(api: Api):
    answer = api.request("POST", "/models", files={"score": (None, "1")})

    assert answer.status_code == 422
    assert sorted(locations(answer)) == [["body", "file"], ["body", "name"], ["body", "version"]]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "  \t"),
        ("version", ""),
        ("version", " "),
        ("name", "a" * 257),
        ("name", "line\nbreak"),
        ("version", "v\x00"),
        ("project_id", "p" * 257),
        ("category", "\x85"),
        ("score", "high"),
        ("score", "nan"),
        ("score", "inf"),
        ("score", "-Infinity"),
        ("id", "short"),
        ("id", "a" * 129),
        ("id", "with blanks in it 0"),
        ("id", "../../../etc/passwd"),
        ("id", "мойидентификатор0"),
        ("id", "a" * 20 + "\n"),
    ],
)
def test_a_field_that_breaks_a_rule_is_named(api: Api, field: str, value: str):
    assert locations(refused(api, **{field: value})) == [["body", field]]


@pytest.mark.parametrize("field", ["overview", "optimization_capabilities"])
@pytest.mark.parametrize(
    "value", ["{", "[1]", "1", "null", "{'a': 1}", '{"a": NaN}', '{"a":' * 5000, '{"a":"\\ud800"}', '{"a":Infinity}']
)
def test_what_is_no_json_object_is_refused(api: Api, field: str, value: str):
    answer = refused(api, **{field: value})

    assert answer.text == f'{{"detail":"{field} is not a valid JSON object."}}'


@pytest.mark.parametrize(
    "value",
    [
        "cat",
        "{}",
        "[1]",
        "[b'cat']",
        "[None]",
        "('cat',)",
        "__import__('os').system('true')",
        "[__import__('os').getcwd()]",
        "[f'{1}']",
        "['a' * 10]",
        "[" * 5000,
        "['cat'",
    ],
)
def test_what_is_no_list_of_labels_is_refused_and_never_evaluated(api: Api, value: str):
    assert refused(api, labels=value).text == '{"detail":"labels is not a valid list."}'


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("labels", "[{1: 2}]"),
        ("labels", "[{'a': {1, 2}}]"),
        ("labels", "[{'a': b'x'}]"),
        ("labels", "[{'a': 1j}]"),
        ("labels", "['\\ud800']"),
        ("labels", "[{'a': 1e999}]"),
        ("tags", '{"a": 1}'),
        ("tags", '{"a": null}'),
        ("tags", '{"": "x"}'),
        ("tags", '{"a\\u001fb": "x"}'),
        ("tags", "[]"),
    ],
)
def test_labels_and_tags_that_are_no_json_texts_are_refused(api: Api, field: str, value: str):
    refused(api, **{field: value})


@pytest.mark.parametrize("number", ["9" * 400, "-9007199254740993", "0.1234567890123456789", "1e-400"])
def test_numbers_of_any_length_are_numbers(api: Api, number: str):
    model = api.model(api.register(overview=f'{{"n": {number}}}'))

    assert model["overview"] == json.loads(f'{{"n": {number}}}')


@pytest.mark.parametrize("number", ["1e400", "-1e400", "9" * 5000])
def test_numbers_that_nobody_can_read_back_are_refused(api: Api, number: str):
    refused(api, overview=f'{{"n": {number}}}')
    refused(api, labels=f'[{{"n": {number}}}]')


@pytest.mark.parametrize("field", ["overview", "description", "labels"])
def test_metadata_over_64_kib_is_refused(api: Api, field: str):
    value = {
        "overview": f'{{"a":"{"x" * 66_000}"}}',
        "description": "ü" * 33_000,
        "labels": f'[{{"a":"{"x" * 66_000}"}}]',
    }

    assert "65536 bytes" in refused(api, **{field: value[field]}).text


def test_an_unknown_precision_is_named_as_it_was_spelled(api: Api):
    assert refused(api, 400, precision="bf99").text == "bf99 is not a supported precision.\n"
    assert refused(api, 400, precision=["fp32", "FP99"]).text == "FP99 is not a supported precision.\n"


def test_unsupported_keys_are_named(api: Api):
    assert refused(api, colour="red", number="7").text == "Unsupported key(s) found: colour, number\n"


@pytest.mark.parametrize("media_type", ["text/plain", "application/octet-stream", "application/gzip"])
def test_an_unsupported_file_type_is_named(api: Api, media_type: str):
    answer = api.post_model(media_type=media_type)

    assert (answer.status_code, answer.text) == (422, f"Unsupported file type found: {media_type}\n")


@pytest.mark.parametrize("field", ["name", "version", "score", "overview", "sha256", "id"])
def test_a_field_given_twice_is_refused(api: Api, field: str):
    assert locations(refused(api, **{field: ["a" * 64, "b" * 64]})) == [["body", field]]


def test_two_files_are_refused(api: Api):
    files = [("file", ("a.zip", ARCHIVE, "application/zip")), ("file", ("b.zip", ARCHIVE, "application/zip"))]
    answer = api.request("POST", "/models", data={"name": unique("twins"), "version": "v1"}, files=files)

    assert answer.status_code == 422
    assert locations(answer) == [["body", "file"]]


def test_a_file_that_is_a_text_field_is_missing(api: Api):
    files = {"name": (None, unique("text")), "version": (None, "v1"), "file": (None, "PK")}

    assert locations(api.request("POST", "/models", files=files)) == [["body", "file"]]


@pytest.mark.parametrize("stated", ["0" * 64, "not a digest", "00"])
def test_a_wrong_sha256_is_refused_and_nothing_stored(api: Api, stated: str):
    before = api.stored()

    assert "SHA-256" in refused(api, sha256=stated).text or "sha256" in refused(api, sha256=stated).text
    assert api.stored() == before


def test_an_empty_file_is_refused(api: Api):
    answer = api.post_model(archive=b"")

    assert answer.status_code == 422
    assert "empty" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"", "multipart/form-data; boundary=x", 422),
        (b"not a form", "multipart/form-data; boundary=x", 422),
        (b"--x\r\nContent-Disposition: form-data", "multipart/form-data; boundary=x", 422),
        (b"--x--\r\n", "multipart/form-data", 422),
        (b"name=a&version=b", "application/x-www-form-urlencoded", 422),
        (b"name=%ff&version=b", "application/x-www-form-urlencoded", 422),
        (b'{"name": "a"}', "application/json", 415),
        (b"name", "text/plain", 415),
    ],
)
def test_a_body_that_is_no_whole_form_is_refused(api: Api, body: bytes, content_type: str, status: int):
    answer = api.request("POST", "/models", data=body, headers={"Content-Type": content_type})

    assert answer.status_code == status
    assert answer.json()["detail"]


@pytest.mark.parametrize("hostile", HOSTILE, ids=str)
def test_a_hostile_archive_is_refused_and_nothing_stored(api: Api, hostile: Hostile):
    before = api.stored()

    answer = api.post_model(archive=hostile.build())

    assert answer.status_code == 422
    assert hostile.reason in answer.json()["detail"]
    assert api.stored() == before


def test_a_declared_format_that_the_content_contradicts_is_refused(api: Api):
    onnx = zip_of(model__gguf=b"GGUF" + bytes(100))

    answer = api.post_model({"format": "onnx"}, archive=onnx)

    assert answer.status_code == 422
    assert "gguf" in answer.json()["detail"].lower()


# What is taken


def test_a_taken_id_is_told_and_its_object_stays_as_it_is(api: Api):
    model_id = api.register()
    other = zip_of(other__txt="other weights")
    before = api.stored()

    answer = api.post_model({"id": model_id}, archive=other)

    assert (answer.status_code, answer.text) == (409, conflict_with(model_id))
    assert api.stored() == before
    assert api.get(f"/models/{model_id}/files", allow_redirects=True).content == ARCHIVE


@pytest.mark.parametrize("project", [{}, {"project_id": "p-1", "project_name": "Line 7"}])
def test_a_taken_name_version_and_precision_names_its_holder(api: Api, project: dict[str, str]):
    claim = {"name": unique("detector"), "precision": "fp16", **project}
    holder = api.register(**claim)
    before = api.stored()

    answer = api.post_model(claim)

    assert (answer.status_code, answer.text) == (409, conflict_with(holder))
    assert api.stored() == before


@pytest.mark.parametrize(
    "other", [{"version": "v2"}, {"precision": "int8"}, {"project_id": "p"}, {"project_name": "p"}]
)
def test_another_version_precision_or_project_is_free(api: Api, other: dict[str, str]):
    name = unique("detector")
    api.register(name=name)

    assert api.post_model({"name": name, **other}).status_code == 201


# Sizes


def form_of(size_bytes: int) -> tuple[bytes, str]:
    """A form of exactly this size with an archive that does not shrink, and its content type."""
    fields = {"name": unique("large"), "version": "v1"}

    def built(padding: int) -> tuple[bytes, str]:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("model.bin", os.urandom(padding))
        form = requests.Request(
            "POST", "http://x", data=fields, files={"file": ("m.zip", file.getvalue(), "application/zip")}
        ).prepare()
        assert isinstance(form.body, bytes)
        return form.body, form.headers["Content-Type"]

    around = len(built(0)[0])
    body, content_type = built(size_bytes - around)
    assert len(body) == size_bytes
    return body, content_type


def post_form(api: Api, size_bytes: int) -> requests.Response:
    body, content_type = form_of(size_bytes)
    return api.request("POST", "/models", data=body, headers={"Content-Type": content_type})


def test_a_form_of_exactly_the_limit_is_accepted_byte_for_byte(api: Api):
    body, content_type = form_of(MAX_FORM_BYTES)
    answer = api.request("POST", "/models", data=body, headers={"Content-Type": content_type})

    assert (answer.status_code, MAX_FORM_BYTES) == (201, 4_500_000)
    assert api.get(f"/models/{answer.text}/files", allow_redirects=True).content in body


@pytest.mark.parametrize("size_bytes", [4_500_001, 4_700_000, 4_800_000, 10_000_000, 11_000_000])
def test_a_larger_form_is_refused_with_the_limit_whoever_refuses_it(api: Api, size_bytes: int):
    answer = post_form(api, size_bytes)

    assert answer.status_code == 413
    assert "4500000 bytes" in answer.json()["detail"]


# What fails half-way


@pytest.mark.parametrize("code", ["InternalError", "SlowDown"])
def test_a_failing_bucket_is_told_honestly_and_leaves_no_record(api: Api, code: str):
    def failing_puts(request: Any) -> Reply | None:
        return s3_error(503, code, "Try again.") if request.method == "PUT" else None

    before = api.stored()
    api.s3.fault = failing_puts
    try:
        answer = api.post_model()
    finally:
        api.s3.fault = None

    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert "nothing was registered" in answer.json()["detail"]
    assert api.stored() == before


def test_a_bucket_that_is_down_is_named_by_the_deep_health_check(api: Api):
    api.s3.fault = lambda _: s3_error(500, "InternalError", "Down.")
    try:
        answer = api.get("/health?deep=true")
    finally:
        api.s3.fault = None

    assert (answer.status_code, answer.json()) == (503, {"status": "unavailable", "down": ["bucket"]})


def test_a_bucket_that_cannot_delete_does_not_keep_the_record(api: Api):
    model_id = api.register()
    key = api.model(model_id)["file_url"].split("/", 3)[3]
    api.s3.fault = lambda request: s3_error(503, "SlowDown", "Later.") if request.method == "DELETE" else None
    try:
        answer = api.delete(f"/models/{model_id}")
    finally:
        api.s3.fault = None

    assert answer.status_code == 204
    assert api.get(f"/models/{model_id}").status_code == 404
    # The orphan is swept later; here by hand, so that no other test meets it.
    assert api.stack.aws("s3").head_object(Bucket=api.stack.bucket, Key=key)
    api.stack.aws("s3").delete_object(Bucket=api.stack.bucket, Key=key)


def conflict_with(model_id: str) -> str:
    return f"The requested action could not be completed due to a conflict with model '{model_id}'."
