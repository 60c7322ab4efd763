"""Searches as MLflow's clients send them: what was changed is found at once, in MLflow's words, in answers that fit."""

import json
from typing import Any

import pytest

from chalicelib.registry.access import Access, Project, Role
from chalicelib.wiring import granting, registry
from tests.conftest import ALICE
from tests.mlflow_calls import Answer, call
from tests.store.faults import nothing, watched_calls
from tests.store.search_stage import registered_model, shelve, version_of
from tests.surfaces.conftest import Service

ROOT = "/api/2.0/mlflow"
MAX_BYTES = 6 * 1024**2


@pytest.fixture(autouse=True)
def connected(service: Service) -> None:
    """To the tables, into which some tests put things themselves."""
    registry()


def models(**asked: Any) -> Answer:
    return call("GET", f"{ROOT}/registered-models/search", **asked)


def versions(**asked: Any) -> Answer:
    return call("GET", f"{ROOT}/model-versions/search", **asked)


def names(filter_: str = "", **asked: Any) -> list[str]:
    answer = models(filter=filter_, **asked)
    assert answer.status == 200, answer.body
    return [one["name"] for one in answer.body.get("registered_models", [])]


def numbers(filter_: str = "", **asked: Any) -> list[tuple[str, str]]:
    answer = versions(filter=filter_, **asked)
    assert answer.status == 200, answer.body
    return [(one["name"], one["version"]) for one in answer.body.get("model_versions", [])]


def done(method: str, path: str, **body: Any) -> Any:
    answer = call(method, f"{ROOT}/{path}", body)
    assert answer.status == 200, answer.body
    return answer.body


def created(name: str, **tags: str) -> None:
    done("POST", "registered-models/create", name=name, tags=[{"key": k, "value": v} for k, v in tags.items()])


def version_created(name: str, source: str = "s3://elsewhere/model", **fields: Any) -> None:
    done("POST", "model-versions/create", name=name, source=source, **fields)


def test_what_was_changed_is_found_at_once(service: Service) -> None:
    created("cat", team="vision")
    created("dog")
    assert names("tags.team = 'vision'") == ["cat"]

    done("POST", "registered-models/set-tag", name="dog", key="team", value="vision")
    assert names("tags.team LIKE 'v%'") == ["cat", "dog"]
    done("POST", "registered-models/set-tag", name="cat", key="team", value="audio")
    assert names("tags.team = 'vision'") == ["dog"]
    done("DELETE", "registered-models/delete-tag", name="dog", key="team")
    assert names("tags.team LIKE '%'") == ["cat"]

    done("PATCH", "registered-models/update", name="dog", description="changed")
    assert names(order_by="timestamp DESC") == ["dog", "cat"]
    done("POST", "registered-models/rename", name="cat", new_name="lynx")
    assert names() == ["dog", "lynx"]
    assert names("tags.team = 'audio'") == ["lynx"]
    assert names("name = 'cat'") == []
    assert names(order_by="timestamp DESC") == ["lynx", "dog"]

    done("DELETE", "registered-models/delete", name="lynx")
    assert names() == ["dog"]
    assert names(order_by="timestamp") == ["dog"]
    assert names("tags.team = 'audio'") == []


def test_versions_are_found_at_once_wherever_they_are(service: Service) -> None:
    created("cat")
    created("dog")
    version_created("cat", run_id="r1", tags=[{"key": "a", "value": "b"}])
    version_created("dog", "s3://elsewhere/dog")
    version_created("cat")
    assert numbers() == [("cat", "2"), ("dog", "1"), ("cat", "1")]
    assert numbers("run_id = 'r1'") == [("cat", "1")]
    assert numbers("tags.a = 'b'") == [("cat", "1")]
    assert numbers("source_path LIKE '%dog'") == [("dog", "1")]
    assert numbers("name = 'cat'", order_by="version_number ASC") == [("cat", "1"), ("cat", "2")]
    assert numbers(order_by=["version_number DESC", "name ASC"]) == [("cat", "2"), ("cat", "1"), ("dog", "1")]

    move = {"stage": "Production", "archive_existing_versions": False}
    done("POST", "model-versions/transition-stage", name="cat", version="1", **move)
    assert numbers() == [("cat", "1"), ("cat", "2"), ("dog", "1")]
    assert names(order_by="last_updated_timestamp DESC") == ["cat", "dog"]
    done("POST", "registered-models/rename", name="cat", new_name="lynx")
    assert numbers("name = 'lynx' AND run_id = 'r1'") == [("lynx", "1")]
    assert numbers("name LIKE 'l%'") == [("lynx", "2"), ("lynx", "1")]

    done("DELETE", "model-versions/delete", name="lynx", version="1")
    assert numbers() == [("lynx", "2"), ("dog", "1")]
    assert numbers("run_id = 'r1'") == []


def test_models_of_uploads_are_found_too(service: Service) -> None:
    service.register(name="detector", project_name="vision", tags=json.dumps({"a": "b"}))

    (found,) = versions(filter="tags.a = 'b'").body["model_versions"]

    assert found["name"] == "vision.detector"
    assert names("name = 'vision.detector'") == ["vision.detector"]
    assert numbers(f"source_path = '{found['source']}'") == [("vision.detector", "1")]


def test_prompts_are_hidden_unless_they_are_asked_for(service: Service) -> None:
    created("asks", **{"mlflow.prompt.is_prompt": "true"})
    version_created("asks", "dummy-source", tags=[{"key": "mlflow.prompt.is_prompt", "value": "true"}])
    created("cat")
    version_created("cat")
    are, are_not = "tags.`mlflow.prompt.is_prompt` = 'true'", "tags.`mlflow.prompt.is_prompt` != 'true'"

    assert (names(), names(are_not), names(are)) == (["cat"], ["cat"], ["asks"])
    assert (numbers(), numbers(are_not), numbers(are)) == ([("cat", "1")], [("cat", "1")], [("asks", "1")])


def test_pages_go_on_by_their_tokens(service: Service) -> None:
    shelve([registered_model(f"model {n:02}") for n in range(25)])
    found, token = [], ""

    for _ in range(3):
        answer = models(max_results=10, **({"page_token": token} if token else {}))
        found += [one["name"] for one in answer.body["registered_models"]]
        token = answer.body.get("next_page_token", "")

    assert found == [f"model {n:02}" for n in range(25)]
    assert token == ""


def test_nothing_is_found_as_an_empty_message(service: Service) -> None:
    assert models().body == {}
    assert versions(filter="name = 'x'").body == {}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"filter": "name = 'a' OR name = 'b'"}, "Invalid clause(s) in filter string: OR"),
        ({"filter": "nam = 'a'"}, "Invalid attribute key 'nam' specified. Valid keys are '{'name'}'"),
        ({"filter": "name = '\ud800'"}, "A filter is a text of Unicode; this one has halves of characters."),
        ({"order_by": "version"}, "Invalid order by key 'version' specified. Valid keys are '{'name', 'timestamp'}'"),
        ({"page_token": "x"}, "Invalid page token, could not base64-decode"),
        ({"max_results": 0}, "Invalid value for max_results. It must be a positive integer, but got 0"),
    ],
    ids=lambda part: next(iter(part)) if isinstance(part, dict) else "",
)
def test_what_is_wrong_is_said_as_mlflow_says_it(service: Service, asked: dict[str, Any], message: str) -> None:
    answer = models(**asked)

    assert (answer.status, answer.body) == (400, {"error_code": "INVALID_PARAMETER_VALUE", "message": message})


def shelve_with_versions(count: int) -> None:
    new = [registered_model(f"model {n:03}") for n in range(count)]
    shelve(new, [version_of(model, number) for model in new for number in (1, 2)])


def test_a_list_of_a_hundred_with_their_latest_versions_costs_four_calls(service: Service) -> None:
    shelve_with_versions(120)

    with watched_calls(nothing, nothing) as calls:
        answer = models(filter="tag.`mlflow.prompt.is_prompt` != 'true'", max_results=100)

    found = answer.body["registered_models"]
    assert len(found) == 100
    assert {one["latest_versions"][0]["version"] for one in found} == {"2"}
    assert calls == ["Query", "BatchGetItem", "BatchGetItem", "BatchGetItem"]


@pytest.mark.parametrize("text", ["語", '"', "\x01", "a"])
def test_an_answer_with_large_latest_versions_fits_what_lambda_sends(service: Service, text: str) -> None:
    new = [registered_model(f"model {n:03}") for n in range(30)]
    shelve(new, [version_of(model, 1, tags={"a": text * 90_000}) for model in new])
    found, token, count = [], "", 0

    while count == 0 or token:
        answer = models(**({"page_token": token} if token else {}))
        body = json.dumps(answer.body, ensure_ascii=False, separators=(",", ":"))
        assert len(json.dumps({"statusCode": 200, "body": body})) < MAX_BYTES
        found += [one["name"] for one in answer.body["registered_models"]]
        token, count = answer.body.get("next_page_token", ""), count + 1

    assert found == [one.name for one in new]


@pytest.mark.parametrize("access", ["token"])
def test_who_is_limited_finds_what_is_seen(service: Service) -> None:
    vision = Access(role=Role.PUBLISHER, projects=(Project(name="vision"),))
    _, secret = granting().create("edge", vision, None, ALICE)
    shelve([registered_model("cat", project_name="vision"), registered_model("cat"), registered_model("dog")])

    def found(filter_: str = "") -> list[str]:
        answer = call("GET", f"{ROOT}/registered-models/search", token=secret, filter=filter_)
        return [one["name"] for one in answer.body.get("registered_models", [])]

    assert found() == ["vision.cat"]
    assert found("name = 'cat'") == ["vision.cat"]
    assert found("name = 'dog'") == []
