"""What the versions of one name share, over HTTP."""

from typing import Any

import pytest
import requests

from tests.e2e.strict_stack import Api, unique
from tests.e2e.test_uploads import problem


def named(api: Api, name: str, **narrowed: Any) -> dict[str, Any]:
    answer = api.get("/registered-models", params={"name": name, **narrowed})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def patched(api: Api, name: str, headers: dict[str, str] | None = None, **changes: Any) -> requests.Response:
    return api.request("PATCH", "/registered-models", json={"name": name, **changes}, headers=headers)


def numbers(found: dict[str, Any]) -> list[int]:
    return [version["number"] for version in found["versions"]]


@pytest.fixture
def name(api: Api) -> str:
    """A registered model with three versions, one of them in two precisions."""
    name = unique("shared")
    for version, precision in (("v1", "fp32"), ("v2", "fp16"), ("v2", "int8")):
        api.register(name=name, version=version, precision=precision)
    return name


def test_by_name_it_has_its_versions_the_newest_first(api: Api, name: str):
    found = named(api, name)

    assert numbers(found) == [3, 2, 1]
    assert found["latest"] == found["versions"][0] == api.model(found["latest"]["id"])
    assert (found["aliases"], found["tags"], found["description"], found["revision"]) == ({}, {}, None, 1)
    assert (found["name"], found["model_name"], found["project_name"]) == (name, name, None)


def test_inside_a_project_the_projects_name_stands_in_front(api: Api):
    project, name = unique("line"), unique("shared")
    api.register(name=name, project_name=project)
    api.register(name=name)

    assert named(api, f"{project}.{name}")["project_name"] == project
    assert named(api, name)["project_name"] is None


def test_two_of_the_same_shown_name_are_told_apart(api: Api):
    name = unique("c")
    api.register(name=f"b.{name}", project_name="a")
    second = api.model(api.register(name=name, project_name="a.b"))

    first = named(api, f"a.b.{name}")
    other = named(api, f"a.b.{name}~{second['registered_model_id'][-8:]}")

    assert (first["project_name"], other["project_name"]) == ("a", "a.b")


def test_versions_can_be_narrowed(api: Api, name: str):
    patched(api, name, aliases={"champion": 2})

    assert numbers(named(api, name, alias="champion")) == [2]
    assert numbers(named(api, name, number=1)) == [1]
    assert numbers(named(api, name, version="v2")) == [3, 2]
    assert numbers(named(api, name, version="v")) == []
    assert numbers(named(api, name, alias="nobody")) == numbers(named(api, name, number=9)) == []
    problem(api.get("/registered-models", params={"alias": "champion"}), 422, "unprocessable")
    problem(api.get("/registered-models", params={"name": name, "number": 1, "alias": "x"}), 422, "unprocessable")


def test_versions_come_in_pages(api: Api, name: str):
    answer = api.get("/registered-models", params={"name": name, "limit": 2})
    assert numbers(answer.json()) == [3, 2]
    rest = requests.get(answer.links["next"]["url"], timeout=60)

    assert numbers(rest.json()) == [1]
    assert "next" not in rest.links


def test_all_are_listed_by_name_in_pages(api: Api, name: str):
    shown, url = [], f"{api.url}/registered-models?limit=3"
    while url:
        answer = requests.get(url, timeout=60)
        shown += [model["name"] for model in answer.json()]
        url = answer.links.get("next", {}).get("url", "")

    assert name in shown
    assert shown == sorted(set(shown), key=str.casefold)


def test_an_alias_moves_and_goes(api: Api, name: str):
    assert patched(api, name, aliases={"champion": 1, "old": 1}).json()["aliases"] == {"champion": 1, "old": 1}

    changed = patched(api, name, aliases={"champion": 3, "old": None}).json()

    assert (changed["aliases"], changed["revision"]) == ({"champion": 3}, 3)
    versions = {version["number"]: version for version in named(api, name)["versions"]}
    assert {number: version["aliases"] for number, version in versions.items()} == {1: [], 2: [], 3: ["champion"]}
    assert api.model(versions[3]["id"])["aliases"] == ["champion"]


def test_what_is_deleted_or_moved_away_loses_its_aliases(api: Api, name: str):
    patched(api, name, aliases={"champion": 1, "next": 2})
    by_number = {version["number"]: version["id"] for version in named(api, name)["versions"]}

    assert api.delete(f"/models/{by_number[1]}").status_code == 204
    assert api.put(f"/models/{by_number[2]}", data={"name": unique("moved")}).status_code == 200

    assert named(api, name)["aliases"] == {}
    assert api.model(by_number[2])["aliases"] == []


def test_tags_and_description_change_and_what_is_left_out_stays(api: Api, name: str):
    patched(api, name, description="For the line", tags={"team": "vision", "stage": "trial"}, aliases={"champion": 1})

    changed = patched(api, name, tags={"stage": None, "cost": "low"}).json()

    assert (changed["description"], changed["tags"]) == ("For the line", {"team": "vision", "cost": "low"})
    assert changed["aliases"] == {"champion": 1}
    assert patched(api, name, description=None).json()["description"] is None


def test_a_change_can_be_made_on_a_revision_only(api: Api, name: str):
    tag = api.get("/registered-models", params={"name": name}).headers["ETag"]

    assert patched(api, name, {"If-Match": tag}, tags={"a": "b"}).status_code == 200
    problem(patched(api, name, {"If-Match": tag}, tags={"a": "c"}), 412, "stale_revision")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"aliases": {"latest": 1}}, "unprocessable"),
        ({"aliases": {"V2": 1}}, "unprocessable"),
        ({"aliases": {"with space": 1}}, "unprocessable"),
        ({"aliases": {"": 1}}, "unprocessable"),
        ({"aliases": {"a" * 256: 1}}, "unprocessable"),
        ({"aliases": {"champion": 0}}, "unprocessable"),
        ({"aliases": {"champion": 10**2000}}, "unprocessable"),
        ({"aliases": {f"a{number}": 1 for number in range(21)}}, "unprocessable"),
        ({"aliases": {"champion": 99}}, "invalid_input"),
        ({"tags": {"k": 1}}, "unprocessable"),
        ({"tags": {"k": "x" * 100_001}}, "invalid_input"),
        ({"nonsense": 1}, "unprocessable"),
    ],
)
def test_a_change_that_breaks_a_rule_changes_nothing(api: Api, name: str, changes, code):
    problem(patched(api, name, **changes), 422, code)

    assert named(api, name)["revision"] == 1


def test_names_and_aliases_may_be_of_any_script(api: Api):
    name = unique("検出器 é'%_<")
    api.register(name=name)

    assert patched(api, name, aliases={"été_最新": 1}).status_code == 200
    assert numbers(named(api, name, alias="été_最新")) == [1]


def test_an_unknown_name_is_not_found(api: Api):
    problem(api.get("/registered-models", params={"name": unique("nobody")}), 404, "not_found")
    problem(patched(api, unique("nobody"), tags={"a": "b"}), 404, "not_found")
