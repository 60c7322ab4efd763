"""`/tokens` over HTTP: shown once, listed without what would let somebody use them, ended, explained."""

import json
from typing import Any

import pytest

from chalicelib.registry.access import Access, Actor, Project, Role
from chalicelib.registry.tokens import id_in
from chalicelib.wiring import authentication, granting, registry
from tests.conftest import ARCHIVE
from tests.surfaces.conftest import ID, Service

ZIP = {"file": ("m.zip", ARCHIVE, "application/zip")}
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def access() -> str:
    return "token"


class Caller:
    """Somebody with a token."""

    def __init__(self, service: Service, access: Access, name: str = "caller") -> None:
        self._service = service
        token, text = granting().create(name, access, None, Actor())
        self.id, self.headers = token.id, {"Authorization": f"Bearer {text}"}

    def __call__(self, method: str, path: str, headers: dict[str, str] | None = None, **sent: Any) -> Any:
        return self._service.request(method, path, {**self.headers, **(headers or {})}, **sent)

    def create(self, headers: dict[str, str] | None = None, **body: Any) -> Any:
        return self("POST", "/tokens", {**JSON, **(headers or {})}, data=json.dumps(body))


@pytest.fixture
def admin(service: Service) -> Caller:
    return Caller(service, Access(), "root")


def test_a_token_is_shown_once_and_works(service: Service, admin: Caller) -> None:
    answer = admin.create(name="line 3", role="viewer", expires_at="2100-01-01T00:00:00+01:00")

    made = answer.json_body
    assert answer.status_code == 201
    assert answer.headers["Location"] == f"tokens/{made['id']}"
    assert id_in(made["token"]) == made["id"]
    assert made["expires_at"] == "2099-12-31T23:00:00.000000Z"
    again = admin("GET", f"/tokens/{made['id']}")
    assert again.json_body == {name: value for name, value in made.items() if name != "token"}
    assert service.request("GET", "/models", {"Authorization": f"Bearer {made['token']}"}).status_code == 200


def test_a_list_tells_who_what_for_and_whether_it_works(admin: Caller) -> None:
    made = admin.create(
        name="line 3", role="publisher", projects=[{"id": "65dc", "name": "vision"}], name_prefixes=["edge-"]
    ).json_body
    admin("DELETE", f"/tokens/{made['id']}")

    root, line = admin("GET", "/tokens").json_body

    assert (root["name"], root["state"], root["projects"]) == ("root", "active", None)
    assert (line["name"], line["state"], line["role"]) == ("line 3", "revoked", "publisher")
    assert (line["projects"], line["name_prefixes"]) == ([{"id": "65dc", "name": "vision"}], ["edge-"])
    assert (line["created_by"], line["last_used_at"]) == ("root", None)


def test_a_long_list_comes_in_pages(admin: Caller) -> None:
    for number in range(4):
        admin.create(name=f"token {number}", role="viewer")

    first = admin("GET", "/tokens?limit=3")
    rest = admin("GET", "/tokens?" + first.headers["Link"].partition("?")[2].partition(">")[0])

    assert [token["name"] for token in first.json_body + rest.json_body] == ["root", *(f"token {n}" for n in range(4))]
    assert "Link" not in rest.headers


def test_a_revoked_token_is_refused_when_it_is_forgotten(service: Service, admin: Caller) -> None:
    other = Caller(service, Access(role=Role.VIEWER))
    assert other("GET", "/models").status_code == 200

    assert admin("DELETE", f"/tokens/{other.id}").status_code == 204
    assert admin("DELETE", f"/tokens/{other.id}").status_code == 204
    authentication()._remembered.clear()

    refused = other("GET", "/models")
    assert refused.status_code == 401
    assert refused.json_body["detail"] == f"The token {other.id} is revoked: ask an admin for a new one."


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"role": "viewer"}, "name"),
        ({"name": " ", "role": "viewer"}, "name"),
        ({"name": "x", "role": "root"}, "role"),
        ({"name": "x", "role": "viewer", "projects": []}, "projects"),
        ({"name": "x", "role": "viewer", "projects": [{}]}, "projects"),
        ({"name": "x", "role": "viewer", "projects": ["vision"]}, "projects"),
        ({"name": "x", "role": "viewer", "name_prefixes": []}, "name_prefixes"),
        ({"name": "x", "role": "viewer", "name_prefixes": [""]}, "name_prefixes"),
        ({"name": "x", "role": "viewer", "expires_at": "tomorrow"}, "expires_at"),
        ({"name": "x", "role": "viewer", "expires_at": "2100-01-01T00:00:00"}, "expires_at"),
        ({"name": "x", "role": "viewer", "expires_at": "9999-12-31T23:59:59-01:00"}, "expires_at"),
        ({"name": "x", "role": "viewer", "expires_at": 4102444800}, "expires_at"),
        ({"name": "x", "role": "viewer", "expires_at": "4102444800"}, "expires_at"),
        ({"name": "x", "role": "viewer", "expires_at": "2000-01-01T00:00:00Z"}, "expires_at"),
        ({"name": "x", "role": "viewer", "limits": "none"}, "limits"),
    ],
)
def test_what_cannot_be_is_refused_by_its_field(admin: Caller, body: dict[str, Any], field: str) -> None:
    answer = admin.create(**body)

    assert answer.status_code == 422
    assert field in answer.body.decode()
    assert len(admin("GET", "/tokens").json_body) == 1


def test_a_token_is_not_made_under_an_idempotency_key(admin: Caller) -> None:
    answer = admin.create({"Idempotency-Key": "k1"}, name="x", role="viewer")

    assert answer.status_code == 422
    assert "takes no Idempotency-Key" in answer.json_body["detail"]


@pytest.mark.parametrize("token_id", ["0" * 26, "x", "ü", "mr_x"])
def test_an_unknown_token_is_not_found(admin: Caller, token_id: str) -> None:
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/access?action=read")):
        assert admin(method, f"/tokens/{token_id}{path}").status_code == 404


@pytest.mark.parametrize(
    ("query", "allowed", "status", "rule"),
    [
        ("action=read&name=edge-cat&project_name=vision", True, 200, "within its limits"),
        ("action=register&name=edge-cat", True, 200, "within its limits"),
        ("action=update&name=cat&project_name=vision", False, 404, "does not see this model"),
        ("action=register&name=cat", False, 403, 'begins with "edge-"'),
        ("action=delete&name=edge-cat&project_name=vision", False, 403, "role admin"),
        (f"action=read&model_id={ID}", False, 404, "does not see this model"),
        ("action=read&model_id=no-such-model-at-all", False, 404, "Model not found"),
        ("action=tokens", False, 403, "role admin"),
    ],
)
def test_the_deciding_rule_is_explained(
    service: Service, admin: Caller, query: str, allowed: bool, status: int, rule: str
) -> None:
    admin("POST", "/models", data={"id": ID, "name": "cat", "version": "v1"}, files=ZIP)
    limits = Access(role=Role.PUBLISHER, projects=(Project(name="vision"),), name_prefixes=("edge-",))
    asked = Caller(service, limits)

    decision = admin("GET", f"/tokens/{asked.id}/access?{query}").json_body

    assert (decision["allowed"], decision["status"]) == (allowed, status)
    assert rule in decision["rule"]


def test_a_token_that_has_ended_may_nothing(service: Service, admin: Caller) -> None:
    asked = Caller(service, Access())
    admin("DELETE", f"/tokens/{asked.id}")

    decision = admin("GET", f"/tokens/{asked.id}/access?action=read").json_body

    assert decision == {"allowed": False, "status": 401, "rule": "The token is revoked."}


@pytest.mark.parametrize(
    "query", ["", "action=destroy", "action=read&model_id=x", "action=read&project_name=vision", "action=read&who=me"]
)
def test_a_question_that_cannot_be_answered_is_refused(admin: Caller, query: str) -> None:
    assert admin("GET", f"/tokens/{admin.id}/access?{query}").status_code == 422


def test_a_limited_publisher_registers_in_its_project_without_saying_so(service: Service) -> None:
    publisher = Caller(service, Access(role=Role.PUBLISHER, projects=(Project(id="65dc", name="vision"),)))

    publisher("POST", "/models", data={"id": ID, "name": "cat", "version": "v1"}, files=ZIP)

    model = publisher("GET", f"/models/{ID}").json_body
    assert (model["project_id"], model["project_name"]) == ("65dc", "vision")


def test_a_limited_publisher_moves_nothing_out(service: Service) -> None:
    publisher = Caller(service, Access(role=Role.PUBLISHER, projects=(Project(name="vision"),)))
    publisher("POST", "/models", data={"id": ID, "name": "cat", "version": "v1"}, files=ZIP)

    answer = publisher("PUT", f"/models/{ID}", data={"project_name": "audio"})

    assert answer.status_code == 403
    assert answer.json_body == {"detail": "Your token is limited: state project_name=vision and no project_id."}
    assert publisher("GET", f"/models/{ID}").json_body["revision"] == 1


def test_events_say_which_token_in_which_role_did_it(service: Service) -> None:
    publisher = Caller(service, Access(role=Role.PUBLISHER), "line 3")
    publisher("POST", "/models", data={"id": ID, "name": "cat", "version": "v1"}, files=ZIP)

    [event], _ = registry().catalog.events(f"MODEL#{ID}")

    assert (event.actor.kind, event.actor.name) == ("token", "line 3")
    assert (event.actor.token_id, event.actor.role) == (publisher.id, Role.PUBLISHER)


def test_denials_are_in_the_log_but_not_in_the_trail(service: Service) -> None:
    viewer = Caller(service, Access(role=Role.VIEWER), "line 3")

    viewer("DELETE", f"/models/{ID}")

    [line] = [line for line in service.lines if line.get("message") == "request"]
    assert (line["outcome"], line["actor"], line["token_id"]) == ("forbidden", "line 3", viewer.id)
    assert "role admin" in line["reason"]
