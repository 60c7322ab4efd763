"""`Idempotency-Key` over HTTP: what is done once, what is answered again and how, and what is refused."""

import base64
import hashlib
import json
import uuid
from typing import Any

import boto3
import pytest
from chalice.test import HTTPResponse

from chalicelib.registry.access import Access, Actor
from chalicelib.routing import surfaces
from chalicelib.wiring import authentication, granting, outcomes
from tests.conftest import ARCHIVE, zip_of
from tests.store.faults import Crash, nothing, throttled, watched_calls
from tests.surfaces.conftest import Json, Service

KEY = "8e03978e-40d5-43dd-bc93-6894a57f9324"
JSON = "application/json"
PROBLEM = "application/problem+json"
POSTS = [operation for surface in surfaces() for operation in surface.operations if operation.method == "POST"]
WITHOUT_A_KEY = {"create_token"}  # which cannot be shown twice
HOSTILE_KEYS = {
    "empty": "",
    "too long": "k" * 256,
    "a space": "two words",
    "two headers, joined": "k-1, k-2",
    "a tab": "k\tk",
    "NUL": "k\0",
    "DEL": "k\x7f",
    "Latin-1": "schlüssel",
    "an emoji": "🔑",
    "half a character": "\udc80",
}


def register(
    service: Service, key: str | None = KEY, archive: bytes = ARCHIVE, file_name: str = "m.zip", **fields: Any
) -> HTTPResponse:
    """Register a model whose id the caller does not state."""
    headers = {"Idempotency-Key": key} if key is not None else {}
    data = {"name": "detector", "version": "v1", **fields}
    files = {"file": (file_name, archive, "application/zip")}
    return service.request("POST", "/models", headers, data=data, files=files)


def post(service: Service, path: str, body: Json, key: str | None = KEY, **headers: str) -> HTTPResponse:
    headers |= {"Content-Type": JSON} | ({"Idempotency-Key": key} if key is not None else {})
    return service.request("POST", path, headers, data=json.dumps(body))


def upload(**fields: Any) -> Json:
    content = {"size": len(ARCHIVE), "sha256": hashlib.sha256(ARCHIVE).hexdigest()}
    return {"name": "detector", "version": "v1", "file_name": "m.zip", **content, **fields}


def large(**fields: Any) -> Json:
    return upload(size=65 * 1024**2, sha256=None, **fields)


def digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def models_of(service: Service) -> list[Json]:
    return list(service.request("GET", "/models").json_body)


def rows() -> list[dict[str, Any]]:
    items = boto3.client("dynamodb").scan(TableName="RegistryTable")["Items"]
    return [item for item in items if item["pk"]["S"].startswith("IDEMPOTENCY#")]


def time_is_over() -> None:
    """The function that runs was killed, and its time is over."""
    for row in rows():
        item = row | {"in_progress_expiration": {"N": "0"}}
        boto3.client("dynamodb").put_item(TableName="RegistryTable", Item=item)


def kill(service: Service, request: Any, after: str) -> None:
    """Have the function killed right after this call to AWS."""

    def crash(name: str, _: int) -> None:
        if name == after:
            raise Crash

    with watched_calls(nothing, crash), pytest.raises(Crash):
        request(service)


def test_a_registration_that_is_repeated_is_answered_with_the_same_id(service: Service) -> None:
    first, second = register(service), register(service)

    assert (first.status_code, first.headers["Content-Type"]) == (201, "text/plain; charset=utf-8")
    assert (second.status_code, second.body) == (201, first.body)
    assert [model["id"] for model in models_of(service)] == [first.body.decode()]


def test_an_id_that_is_made_of_a_key_has_the_form_of_all_such_ids(service: Service) -> None:
    answer = register(service)

    assert uuid.UUID(answer.body.decode()).version == 4


def test_without_a_key_each_request_is_another_one(service: Service) -> None:
    first, second = register(service, None), register(service, None)

    assert (first.status_code, second.status_code) == (201, 409)
    assert rows() == []


def test_a_form_is_the_same_however_it_was_sent(service: Service) -> None:
    """Each has a boundary of its own; order, case of a precision and white space in JSON do not count either."""
    first = register(service, precision="FP16", labels='["a", "b"]', score="0.5")
    again = register(service, score="0.5", labels='["a","b"]', precision="fp16")

    assert (again.status_code, again.body) == (201, first.body)


@pytest.mark.parametrize(
    "other",
    [
        {"version": "v2"},
        {"description": "another"},
        {"archive": zip_of(model__txt="other weights")},
        {"file_name": "other.zip"},
        {"id": "my-own-model-0001"},
    ],
    ids=lambda other: next(iter(other)),
)
def test_a_key_with_another_form_is_refused(service: Service, other: dict[str, Any]) -> None:
    register(service)

    answer = register(service, **other)

    assert (answer.status_code, answer.headers["Content-Type"]) == (422, JSON)
    assert "another content" in answer.json_body["detail"]
    assert len(models_of(service)) == 1


def test_an_opened_upload_is_answered_again_with_a_fresh_url(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    first = post(service, "/uploads", upload()).json_body

    answer = post(service, "/uploads", upload())

    again = answer.json_body
    assert answer.status_code == 201
    assert answer.headers["Location"] == f"uploads/{first['upload_id']}"
    assert again.keys() == first.keys()
    assert {name: again[name] for name in again if name != "url"} == {
        name: first[name] for name in again if name != "url"
    }
    assert again["url"].partition("?")[0] == first["url"].partition("?")[0]
    assert "X-Amz-Signature=" in again["url"]


def test_an_opened_upload_of_parts_is_answered_again(service: Service) -> None:
    first, again = post(service, "/uploads", large()), post(service, "/uploads", large())

    assert (again.status_code, again.json_body) == (201, first.json_body)


def test_of_an_upload_that_was_opened_and_has_ended_it_is_said_how(service: Service) -> None:
    first = post(service, "/uploads", upload()).json_body
    service.request("DELETE", f"/uploads/{first['upload_id']}")

    answer = post(service, "/uploads", upload())

    assert (answer.status_code, answer.json_body["code"], answer.json_body["state"]) == (
        409,
        "upload_closed",
        "ABORTED",
    )
    assert post(service, "/uploads", upload(), "another-key").status_code == 201


def test_a_key_with_another_upload_is_refused_with_a_code(service: Service) -> None:
    post(service, "/uploads", upload())

    answer = post(service, "/uploads", upload(version="v2"))

    assert (answer.status_code, answer.headers["Content-Type"]) == (422, PROBLEM)
    assert (answer.json_body["code"], answer.json_body["field"]) == ("idempotency_key_reused", "Idempotency-Key")


def test_a_conflict_is_answered_again_though_nothing_is_in_the_way_any_more(service: Service) -> None:
    holder = register(service, None, id="their-model-00001").body.decode()
    first = register(service)
    service.request("DELETE", f"/models/{holder}")

    again = register(service)

    assert (first.status_code, again.status_code) == (409, 409)
    assert again.body == first.body
    assert holder in again.body.decode()
    assert register(service, "another-key").status_code == 201


def test_a_conflict_with_an_upload_is_answered_again_with_its_id(service: Service) -> None:
    theirs = post(service, "/uploads", upload(id="their-model-00001"), None).json_body
    first, again = post(service, "/uploads", upload()), post(service, "/uploads", upload())

    assert (first.status_code, again.status_code) == (409, 409)
    assert again.json_body == first.json_body
    assert (again.json_body["holder"], again.json_body["upload_id"]) == ("their-model-00001", theirs["upload_id"])


@pytest.mark.parametrize(
    ("wrong", "status"),
    [({"precision": "bf99"}, 400), ({"archive": b"no archive"}, 422), ({"score": "high"}, 422)],
    ids=["before anything", "on the way", "in a field"],
)
def test_a_refusal_is_judged_anew_and_its_key_is_free(service: Service, wrong: dict[str, Any], status: int) -> None:
    first, again = register(service, **wrong), register(service, **wrong)

    assert (first.status_code, again.status_code) == (status, status)
    assert first.body == again.body
    assert rows() == []
    assert register(service).status_code == 201


def test_parts_are_signed_again_and_other_parts_need_another_key(service: Service) -> None:
    path = f"/uploads/{post(service, '/uploads', large(), None).json_body['upload_id']}/parts"
    first, again = (post(service, path, {"digests": {"1": digest("one")}}) for _ in range(2))

    other = post(service, path, {"digests": {"2": digest("two")}})

    assert (first.status_code, again.status_code) == (200, 200)
    assert again.json_body["parts"][0]["number"] == 1
    assert "X-Amz-Signature=" in again.json_body["parts"][0]["url"]
    assert (other.status_code, other.json_body["code"]) == (422, "idempotency_key_reused")


def test_a_completion_that_failed_is_judged_anew(service: Service) -> None:
    path = f"/uploads/{post(service, '/uploads', upload(), None).json_body['upload_id']}/complete"

    first, again = post(service, path, {}), post(service, path, {})

    assert (first.json_body["code"], again.json_body["code"]) == ("upload_incomplete", "upload_incomplete")


def test_one_key_on_several_paths_is_several_requests(service: Service) -> None:
    opened = [
        post(service, "/uploads", large(version=version), None).json_body["upload_id"] for version in ("v1", "v2")
    ]
    body = {"digests": {"1": digest("one")}}

    answers = [post(service, f"/uploads/{upload_id}/parts", body) for upload_id in opened]
    answers.append(post(service, "/uploads", large(version="v3")))

    assert [answer.status_code for answer in answers] == [200, 200, 201]
    assert len(rows()) == 3


@pytest.mark.parametrize("access", ["token"])
def test_one_key_of_several_tokens_is_several_requests(service: Service) -> None:
    texts = [granting().create(name, Access(), None, Actor())[1] for name in ("one", "two")]
    bearers = [{"Authorization": f"Bearer {text}"} for text in texts]

    first = post(service, "/uploads", upload(), **bearers[0])
    second = post(service, "/uploads", upload(version="v2"), **bearers[1])

    assert (first.status_code, second.status_code) == (201, 201)
    assert post(service, "/uploads", upload(), **bearers[0]).json_body["upload_id"] == first.json_body["upload_id"]
    assert post(service, "/uploads", upload(), **bearers[1]).json_body["code"] == "idempotency_key_reused"


@pytest.mark.parametrize("access", ["token"])
def test_a_token_that_no_longer_works_gets_no_outcome(service: Service) -> None:
    token, text = granting().create("one", Access(), None, Actor())
    bearer = {"Authorization": f"Bearer {text}"}
    post(service, "/uploads", upload(), **bearer)
    granting().revoke(token.id, Actor())
    authentication.cache_clear()

    assert post(service, "/uploads", upload(), **bearer).status_code == 401


def test_a_registration_that_was_cut_off_is_awaited_and_then_known_as_its_own(service: Service) -> None:
    kill(service, register, after="TransactWriteItems")

    waiting = register(service)
    time_is_over()
    done = register(service)

    assert (waiting.status_code, waiting.headers["Content-Type"]) == (409, JSON)
    assert int(waiting.headers["Retry-After"]) > 0
    assert "being worked on" in waiting.json_body["detail"]
    assert done.status_code == 201
    assert [model["id"] for model in models_of(service)] == [done.body.decode()]
    assert register(service).body == done.body


def test_an_upload_whose_opening_was_cut_off_is_awaited_and_then_known_as_its_own(service: Service) -> None:
    def open_upload(service: Service) -> HTTPResponse:
        return post(service, "/uploads", upload())

    kill(service, open_upload, after="TransactWriteItems")

    waiting = open_upload(service)
    time_is_over()
    done = open_upload(service)

    assert (waiting.status_code, waiting.json_body["code"]) == (409, "in_progress")
    assert int(waiting.headers["Retry-After"]) > 0
    assert done.status_code == 201
    assert open_upload(service).json_body["upload_id"] == done.json_body["upload_id"]


def test_a_table_that_is_throttled_is_said_and_nothing_is_done(service: Service) -> None:
    outcomes()._rows._retry._seconds = 0

    def refuse(name: str, _: int) -> None:
        if name == "PutItem":
            raise throttled(name)

    with watched_calls(refuse, nothing):
        answer = post(service, "/uploads", upload())

    assert (answer.status_code, answer.json_body["code"]) == (503, "unavailable")
    assert int(answer.headers["Retry-After"]) > 0
    assert post(service, "/uploads", upload()).status_code == 201


def test_an_outcome_that_cannot_be_noted_is_answered_and_logged(service: Service) -> None:
    outcomes()._rows._retry._seconds = 0

    def refuse(name: str, _: int) -> None:
        if name == "UpdateItem":
            raise throttled(name)

    with watched_calls(refuse, nothing):
        answer = register(service)

    assert answer.status_code == 201
    [line] = [line for line in service.lines if line.get("message") == "outcome_not_remembered"]
    assert line["what"].startswith("POST /models: An error occurred (ProvisionedThroughputExceededException)")
    time_is_over()
    assert register(service).body == answer.body


@pytest.mark.parametrize("key", HOSTILE_KEYS.values(), ids=HOSTILE_KEYS)
@pytest.mark.parametrize("operation", [one for one in POSTS if one.view not in WITHOUT_A_KEY], ids=lambda one: one.view)
def test_a_key_that_is_none_is_refused_in_words(service: Service, operation: Any, key: str) -> None:
    path = operation.path.replace("{upload_id}", "01K0000000000000000000000A").replace("{project_id}", "65dc")

    if operation.view == "register_model":
        answer = register(service, key)
    else:
        bodies = {
            "open_upload": upload(),
            "sign_parts": {"digests": {"1": digest("one")}},
            "import_models": {"models": [{"id": "a", "group_id": "b"}]},
        }
        answer = post(service, path, bodies.get(operation.view, {}), key)

    assert answer.status_code == 422
    [told] = answer.json_body.get("errors") or answer.json_body["detail"]
    assert told["loc"] == ["header", "Idempotency-Key"]
    assert "1 to 255 visible ASCII characters" in told["msg"]
    assert rows() == []


@pytest.mark.parametrize("key", ["k", "k" * 255, '"8e03978e"', "~!@#$%^&*()_+-={}[]|:;<>?,./'"])
def test_any_visible_word_is_a_key(service: Service, key: str) -> None:
    first, again = register(service, key), register(service, key)

    assert (first.status_code, again.status_code) == (201, 201)
    assert first.body == again.body


@pytest.mark.parametrize("operation", POSTS, ids=lambda operation: operation.view)
def test_every_post_tells_of_the_key_and_of_its_answers(document: Json, operation: Any) -> None:
    told = document["paths"][operation.path]["post"]
    keys = [one for one in told.get("parameters", []) if one["name"] == "Idempotency-Key"]

    if operation.view in WITHOUT_A_KEY:
        assert keys == []
        return
    [key] = keys
    assert (key["in"], key["schema"]["type"], key.get("required", False)) == ("header", "string", False)
    assert "24 hours" in key["description"]
    assert "Retry-After" in told["responses"]["409"]["headers"]
    assert "Idempotency-Key" in told["responses"]["409"]["description"]
    assert "Idempotency-Key" in told["responses"]["422"]["description"]


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_other_methods_do_not_look_at_it(service: Service, method: str) -> None:
    model_id = register(service, None).body.decode()

    answer = service.request(method, f"/models/{model_id}", {"Idempotency-Key": "two words"}, data={"score": "1"})

    assert answer.status_code in (200, 204)
    assert rows() == []


def test_a_request_without_a_key_makes_no_call_more_and_one_with_it_two(service: Service) -> None:
    register(service, None)

    with watched_calls(nothing, nothing) as without:
        register(service, None, version="v2")
    with watched_calls(nothing, nothing) as with_one:
        register(service, version="v3")
    with watched_calls(nothing, nothing) as again:
        register(service, version="v3")

    assert with_one == ["PutItem", *without, "UpdateItem"]
    assert again == ["PutItem"]


def test_the_log_and_the_trail_name_the_request_by_its_digest_and_never_by_its_key(service: Service) -> None:
    model_id = register(service, "a-secret-key").body.decode()

    lines = {line["message"]: line for line in service.lines if "message" in line}
    events = boto3.client("dynamodb").scan(TableName="EventsTable")["Items"]
    [actor] = [json.loads(event["actor"]["S"]) for event in events if event["pk"]["S"] == f"MODEL#{model_id}"]

    assert lines["request"]["idempotency"] == lines["audit"]["idempotency"] == actor["idempotency"]
    assert "a-secret-key" not in json.dumps([service.lines, events, rows()], default=str)
