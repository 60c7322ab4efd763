"""`PUT /models/{id}`: what may change, in which form, and what a change may not do."""

import uuid
from typing import Any

import pytest

from tests.conftest import ARCHIVE
from tests.e2e.strict_stack import Api, unique

COMPLETED = '{"status":"completed"}'
NOTHING = (
    '{"status":"error","message":"Invalid request. Check the request body and ensure at least 1 supported field is '
    'provided."}'
)


def put(api: Api, model_id: str, as_multipart: bool = False, **fields: Any) -> Any:
    body = {"files": {name: (None, value) for name, value in fields.items()}} if as_multipart else {"data": fields}
    return api.put(f"/models/{model_id}", **body)


@pytest.mark.parametrize("as_multipart", [False, True])
def test_every_field_but_id_and_file_can_change(api: Api, as_multipart: bool):
    model_id = api.register()
    texts = {
        "name": unique("Straße 🦆"),
        "version": "v2",
        "project_id": "p",
        "project_name": "P",
        "format": "ONNX",
        "target_device": "NPU",
        "target_device_type": "edge",
        "category": "c",
        "architecture": "a",
        "origin": "o",
        "created_date": "2024-02-28 15:39:07.054000 UTC",
        "description": "d+d & d=d",
    }
    sent = {"score": "0.5", "precision": "INT8", "overview": '{"a":1}', "labels": "['x']", "tags": '{"k":"v"}'}
    sent["optimization_capabilities"] = '{"b":[2]}'

    answer = put(api, model_id, as_multipart, **texts, **sent)

    assert (answer.status_code, answer.text) == (200, COMPLETED)
    model = api.model(model_id)
    assert {name: model[name] for name in texts} == texts
    assert (model["score"], model["precision"], model["overview"]) == (0.5, ["int8"], {"a": 1})
    assert (model["labels"], model["tags"], model["optimization_capabilities"]) == (["x"], {"k": "v"}, {"b": [2]})
    assert model["revision"] == 2


def test_only_the_fields_that_are_sent_change(api: Api):
    model_id = api.register(category="c", score="0.5")
    before = api.model(model_id)

    put(api, model_id, architecture="a")

    after = api.model(model_id)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"architecture", "last_updated_date", "revision"}


@pytest.mark.parametrize("as_multipart", [False, True])
def test_falsy_values_are_values(api: Api, as_multipart: bool):
    model_id = api.register(score="0.9", overview='{"a":1}', labels='["x"]', tags='{"k":"v"}')

    answer = put(api, model_id, as_multipart, score="0", overview="{}", labels="[]", tags="{}")

    assert answer.status_code == 200
    model = api.model(model_id)
    assert (model["score"], model["overview"], model["labels"], model["tags"]) == (0.0, {}, [], {})


@pytest.mark.parametrize("as_multipart", [False, True])
def test_an_empty_value_clears_an_optional_field(api: Api, as_multipart: bool):
    fields = {"category": "c", "score": "0.9", "overview": '{"a":1}', "labels": '["x"]', "project_id": "p"}
    model_id = api.register(**fields)

    put(api, model_id, as_multipart, **dict.fromkeys(fields, ""))

    model = api.model(model_id)
    assert {name: model[name] for name in fields} == dict.fromkeys(fields)


def test_a_change_that_changes_nothing_is_completed_without_a_new_revision(api: Api):
    model_id = api.register(category="c")

    answer = put(api, model_id, category="c")

    assert (answer.status_code, answer.text, answer.headers["ETag"]) == (200, COMPLETED, '"1"')
    assert api.model(model_id)["revision"] == 1


@pytest.mark.parametrize("fields", [{}, {"colour": "red"}, {"id": "a" * 20}, {"file": "x"}])
def test_a_change_without_a_supported_field_is_refused(api: Api, fields: dict[str, str]):
    answer = put(api, api.register(), **fields)

    assert (answer.status_code, answer.text) == (400, NOTHING)


def test_id_and_file_cannot_change(api: Api):
    model_id = api.register()

    answer = put(api, model_id, id="b" * 20, score="1", colour="red")

    assert (answer.status_code, answer.text) == (422, "Unsupported key(s) found: id, colour\n")
    assert api.model(model_id)["revision"] == 1


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"name": ""}, 422),
        ({"name": "  "}, 422),
        ({"version": ""}, 422),
        ({"name": "a" * 257}, 422),
        ({"category": "a\nb"}, 422),
        ({"score": "nan"}, 422),
        ({"score": "high"}, 422),
        ({"overview": "[]"}, 422),
        ({"labels": "cat"}, 422),
        ({"tags": '{"a":1}'}, 422),
        ({"description": "x" * 66_000}, 422),
        ({"precision": "fp99"}, 400),
    ],
)
def test_every_rule_of_registration_holds(api: Api, fields: dict[str, str], status: int):
    model_id = api.register()

    answer = put(api, model_id, **fields)

    assert answer.status_code == status
    assert api.model(model_id)["revision"] == 1


def test_fields_too_large_only_together_are_refused(api: Api):
    model_id = api.register(description="x" * 40_000)

    assert put(api, model_id, overview=f'{{"a":"{"x" * 30_000}"}}').status_code == 422


@pytest.mark.parametrize("content_type", ["application/json", "text/plain"])
def test_a_body_that_is_no_form_is_refused(api: Api, content_type: str):
    answer = api.put(f"/models/{api.register()}", data=b'{"score":1}', headers={"Content-Type": content_type})

    assert answer.status_code == 415


@pytest.mark.parametrize(("if_match", "status"), [('"1"', 412), ('"2"', 200), ('"3"', 412), ("*", 200), ("2", 422)])
def test_a_stale_revision_is_refused_when_asked(api: Api, if_match: str, status: int):
    model_id = api.register()
    put(api, model_id, score="1")

    answer = api.put(f"/models/{model_id}", data={"score": "2"}, headers={"If-Match": if_match})

    assert answer.status_code == status
    assert api.model(model_id)["score"] == (2.0 if status == 200 else 1.0)


def test_a_change_onto_a_taken_name_names_its_holder(api: Api):
    name = unique("detector")
    holder = api.register(name=name)
    for other in ({"name": name, "version": "v2"}, {"name": unique("other")}, {"name": name, "precision": "int8"}):
        mover = api.register(**other)

        answer = put(api, mover, name=name, version="v1", precision="fp32")

        assert answer.status_code == 409
        assert answer.text.endswith(f"conflict with model '{holder}'.")
        assert api.model(mover)["revision"] == 1


def test_a_new_version_label_frees_the_old_one(api: Api):
    name = unique("detector")
    moved = api.register(name=name)

    put(api, moved, version="v2")

    successor = api.model(api.register(name=name, version="v1"))
    assert (successor["number"], api.model(moved)["number"]) == (2, 1)


@pytest.mark.parametrize("field", ["name", "project_id", "project_name"])
def test_a_model_moves_to_another_name_or_project(api: Api, field: str):
    name = unique("detector")
    model_id = api.register(name=name)
    before = api.model(model_id)
    target = unique("elsewhere")

    answer = put(api, model_id, **{field: target})

    assert answer.status_code == 200
    after = api.model(model_id)
    assert (after[field], after["number"]) == (target, 1)
    assert after["registered_model_id"] != before["registered_model_id"]
    assert api.post_model({"name": name}).status_code == 201
    assert api.post_model({"name": name, field: target}).status_code == 409


def test_a_model_that_moves_to_a_used_name_gets_its_next_number(api: Api):
    used = unique("detector")
    api.register(name=used, version="v1")
    mover = api.register(version="v2")

    put(api, mover, name=used)

    assert api.model(mover)["number"] == 2
    assert [model["version"] for model in api.found(name=used)] == ["v2", "v1"]


def test_a_change_is_seen_by_the_next_search_and_keeps_the_place_in_lists(api: Api):
    name, category = unique("detector"), uuid.uuid4().hex
    first, second = (api.register(name=name, version=version) for version in ("v1", "v2"))

    put(api, first, category=category)

    assert [model["id"] for model in api.found(category=category)] == [first]
    assert [model["id"] for model in api.found(name=name)] == [second, first]


def test_a_change_leaves_the_artifact_alone(api: Api):
    model_id = api.register()

    put(api, model_id, name=unique("renamed"))

    assert api.get(f"/models/{model_id}/files", allow_redirects=True).content == ARCHIVE
