"""The Python client's tokens, decisions and events against the service itself: both sides mean the same."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import httpx
import pytest
from modelreg import Forbidden, InvalidInput, NewToken, NotFound, Registry, Unauthorized, session
from modelreg.cli import app as command
from modelreg.errors import Sent
from modelreg.models import Bootstrapped
from modelreg.retry import Patience
from modelreg.tokens import minted
from typer.testing import CliRunner

from chalicelib.registry.audit import Action
from chalicelib.wiring import bootstrapped
from tests.conftest import ARCHIVE
from tests.surfaces.conftest import ID, Service

Opened = Callable[[str | None], Registry]


@pytest.fixture
def access() -> str:
    return "token"


@pytest.fixture
def opened(service: Service) -> Opened:
    """A client of the service with this token."""

    def answer(request: httpx.Request) -> httpx.Response:
        path, headers = request.url.raw_path.decode(), dict(request.headers)
        told = service.request(request.method, path, headers=headers, data=request.read())
        return httpx.Response(told.status_code, headers=told.headers, content=told.body)

    def build(token: str | None) -> Registry:
        patience = Patience(wait=lambda stop, seconds: None)
        return Registry("http://registry.test", token, transport=httpx.MockTransport(answer), patience=patience)

    return build


@pytest.fixture
def root() -> str:
    """The first admin's token, by its digest."""
    token = minted()
    assert bootstrapped({"id": token.id, "name": "root", "digest": token.digest})["outcome"] == "created"
    return token.text


@pytest.fixture
def admin(opened: Opened, root: str) -> Iterator[Registry]:
    with opened(root) as registry:
        yield registry


@pytest.fixture
def detector(service: Service, root: str) -> str:
    """A model in the project vision."""
    form = {"id": ID, "name": "detector", "version": "v1", "project_name": "vision"}
    archive = {"file": ("m.zip", ARCHIVE, "application/zip")}
    answer = service.request("POST", "/models", {"Authorization": f"Bearer {root}"}, data=form, files=archive)
    assert answer.status_code == 201
    return ID


def limited(admin: Registry) -> NewToken:
    end = datetime.now(UTC) + timedelta(days=1)
    return admin.create_token("ci", "publisher", projects=[{"name": "vision"}], name_prefixes=["det"], expires_at=end)


def test_a_token_that_the_client_bootstrapped_opens_the_service(admin: Registry, opened: Opened) -> None:
    assert [(token.name, token.role, token.state) for token in admin.tokens()] == [("root", "admin", "active")]
    with pytest.raises(Unauthorized) as caught:
        list(opened(None).list())
    assert (caught.value.sent, caught.value.code) == (Sent.NOTHING, "unauthenticated")


def test_a_token_is_created_shown_and_revoked(admin: Registry, opened: Opened) -> None:
    made = limited(admin)
    assert list(opened(made.token).list()) == []

    shown = admin.token(made.token)
    admin.revoke_token(made.id)
    admin.revoke_token(made.id)

    assert (shown.projects, shown.name_prefixes, shown.expires_at) == (made.projects, ["det"], made.expires_at)
    assert admin.token(made.id).state == "revoked"
    assert admin.token(made.id).revoked_at is not None


def test_many_tokens_are_listed_by_pages(admin: Registry) -> None:
    ids = [admin.create_token(f"t{number}", "viewer").id for number in range(4)]

    assert {token.id for token in admin.tokens()} >= set(ids)
    assert len(list(admin.tokens(limit=2))) == 2


def test_what_the_service_refuses_is_an_error_of_the_client(admin: Registry, opened: Opened, detector: str) -> None:
    viewer = opened(admin.create_token("eye", "viewer", projects=[{"name": "vision"}]).token)

    assert viewer.get(detector).project_name == "vision"
    with pytest.raises(Forbidden, match="role"):
        viewer.update(detector, score=1)
    with pytest.raises(Forbidden):
        list(viewer.tokens())
    with pytest.raises(InvalidInput, match="future"):
        admin.create_token("late", "viewer", expires_at=datetime(2001, 1, 1, tzinfo=UTC))
    with pytest.raises(InvalidInput):
        admin.create_token("ci", "owner")
    with pytest.raises(NotFound):
        admin.token(minted().id)


@pytest.mark.parametrize("damage", [lambda token: token[:-1], lambda token: minted().text])
def test_a_token_that_is_damaged_or_unknown_is_told_apart(
    opened: Opened, root: str, damage: Callable[[str], str]
) -> None:
    token = damage(root)

    with pytest.raises(Unauthorized) as caught:
        list(opened(token).list())

    assert caught.value.sent is (Sent.DAMAGED if token == root[:-1] else Sent.WHOLE)
    assert token[-20:] not in f"{caught.value} {caught.value.hint}"


def test_a_decision_is_told_with_its_rule(admin: Registry, detector: str) -> None:
    made = limited(admin)

    update = admin.can(made.id, "update", detector)
    delete = admin.can(made.token, "delete", detector)
    elsewhere = admin.can(made.id, "register", name="other", project_name="vision")

    assert (update.allowed, update.status) == (True, 200)
    assert (delete.allowed, delete.status) == (False, 403)
    assert not elsewhere.allowed
    assert all(decision.rule for decision in (update, delete, elsewhere))


@pytest.mark.parametrize("action", ["read", "register", "update", "alias", "delete", "tokens", "sync"])
def test_every_action_of_the_command_is_one_of_the_service(
    admin: Registry, root: str, detector: str, action: str
) -> None:
    assert admin.can(root, action, detector if action not in ("tokens", "sync", "register") else None, **(
        {"name": "detector"} if action == "register" else {}
    )).allowed  # fmt: skip


def test_events_tell_who_did_what(admin: Registry, root: str, detector: str) -> None:
    admin.update(detector, score=0.5)
    made = limited(admin)

    of_the_model = list(admin.events(detector))
    of_all = list(admin.events(limit=100))

    assert [event.action for event in of_the_model] == ["version.updated", "version.registered"]
    assert of_the_model[0].changes["score"] == (0.0, 0.5)
    assert (of_the_model[0].actor.name, of_the_model[0].about[0].project_name) == ("root", "vision")
    assert of_the_model[0].prev == of_the_model[1].digest
    assert all(event.time.tzinfo is UTC for event in of_all)
    assert all(newer.id > older.id for newer, older in pairwise(of_all))
    assert [event.action for event in admin.events(subject=made.token)] == ["token.created"]


def test_events_are_narrowed_as_the_client_says(admin: Registry, detector: str) -> None:
    admin.update(detector, score=0.5)
    now = datetime.now(UTC)

    updated = list(admin.events(detector, action="version.updated", since=now - timedelta(hours=1)))

    assert [event.subject for event in updated] == [f"MODEL#{detector}"]
    assert list(admin.events(detector, until=now - timedelta(hours=1))) == []
    assert list(admin.events(actor="nobody")) == []
    assert all(list(admin.events(action=action)) is not None for action in Action)
    with pytest.raises(InvalidInput):
        list(admin.events(action="version.forgotten"))


def test_events_in_json_give_the_digest_that_they_have(
    admin: Registry, detector: str, service: Service, root: str
) -> None:
    told = service.request("GET", f"/models/{detector}/events", {"Authorization": f"Bearer {root}"}).json_body

    assert [event.model_dump(mode="json") for event in admin.events(detector)] == told


def test_a_deleted_model_keeps_its_events(admin: Registry, detector: str) -> None:
    admin.delete(detector)

    assert next(admin.events(detector)).action == "version.deleted"
    with pytest.raises(NotFound):
        list(admin.events("model-that-never-was"))


def test_the_second_admin_is_not_bootstrapped(admin: Registry) -> None:
    token = minted()

    refusal = Bootstrapped.model_validate(bootstrapped({"id": token.id, "name": "root", "digest": token.digest}))

    assert refusal.outcome == "refused"
    assert refusal.reason


def test_the_command_speaks_with_the_service(
    opened: Opened, admin: Registry, root: str, detector: str, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.setattr(session, "open_registry", lambda url, token: opened(token))
    environment = {"HOME": str(tmp_path), "MODELREG_URL": "http://registry.test", "MODELREG_TOKEN": None}

    def modelreg(*arguments: str, stdin: str | None = None) -> tuple[int, str]:
        ran = CliRunner().invoke(command, list(arguments), input=stdin, env=environment)
        return ran.exit_code, ran.stdout.strip()

    assert modelreg("ls")[0] == 6
    assert modelreg("login", "--token-stdin", stdin=root) == (0, "")
    code, token = modelreg("token", "create", "eye", "--role", "viewer", "--project", "vision", "--expires", "1d")
    assert (code, modelreg("can", token, "delete", detector)[0]) == (0, 10)
    assert modelreg("can", token, "read", detector)[0] == 0
    assert "token.created" in modelreg("events", "--since", "1h", "--subject", token)[1]
    assert modelreg("events", "detector@champion")[0] == 3
    assert modelreg("token", "revoke", token, "--yes")[0] == 0
    assert "revoked" in modelreg("token", "show", token)[1]
