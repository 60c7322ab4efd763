"""Every route for every kind of caller, from the document: a route without a rule here has no test, and fails."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from chalicelib.geti.states import Import, ImportedModel
from chalicelib.registry.access import Access, Actor, Project, Role
from chalicelib.registry.models import Draft
from chalicelib.registry.service import Parcel
from chalicelib.registry.tokens import new_token_text
from chalicelib.registry.uploads import StatedFile
from chalicelib.routing import surfaces
from chalicelib.surface import Operation
from chalicelib.wiring import authentication, granting, registry, uploading, utc_now
from chalicelib.wiring_geti import imports
from tests.conftest import ARCHIVE, draft, parcel
from tests.surfaces.conftest import Service
from tests.surfaces.geti import FP16, YOLOX, GetiStage
from tests.surfaces.geti import VISION as VISION_ID

OPERATIONS = [operation for surface in surfaces() for operation in surface.operations]
GUARDED = [operation for operation in OPERATIONS if operation.role is not None]
VISION, AUDIO = Project(name="vision"), Project(name="audio")
JSON = {"Content-Type": "application/json"}
ROLES = {"viewer": Role.VIEWER, "publisher": Role.PUBLISHER, "admin": Role.ADMIN, "audio": Role.ADMIN}


@dataclass(frozen=True)
class Rule:
    """What who may is answered, what an admin of another project is; and what has to be sent for it."""

    allowed: int
    outside: int
    query: str = ""
    sent: Mapping[str, Any] = field(default_factory=dict)


def as_json(**body: Any) -> dict[str, Any]:
    return {"headers": JSON, "data": json.dumps(body)}


FORM = {"data": {"name": "dog", "version": "v1", "project_name": "vision"}}
UPLOAD = {
    "name": "dog",
    "version": "v1",
    "project_name": "vision",
    "file_name": "m.zip",
    "size": 10,
    "sha256": "0" * 64,
}
RULES = {
    "list_models": Rule(200, 200),
    "register_model": Rule(201, 403, sent={**FORM, "files": {"file": ("m.zip", ARCHIVE, "application/zip")}}),
    "get_model": Rule(200, 404),
    "update_model": Rule(200, 404, sent={"data": {"score": "1"}}),
    "delete_model": Rule(204, 404),
    "download_model": Rule(307, 404),
    "get_manifest": Rule(200, 404),
    "list_model_events": Rule(200, 404),
    "list_events": Rule(200, 200),
    "list_checkpoints": Rule(200, 403),
    "get_registered_models": Rule(200, 404, query="?name=vision.cat"),
    "change_registered_model": Rule(200, 404, sent=as_json(name="vision.cat", description="x")),
    "open_upload": Rule(201, 403, sent=as_json(**UPLOAD)),
    "get_upload": Rule(200, 404),
    "sign_parts": Rule(422, 404, sent=as_json(digests={"1": "A" * 43 + "="})),
    "complete_upload": Rule(422, 404, sent=as_json()),
    "abort_upload": Rule(204, 404),
    "list_projects": Rule(200, 200),
    "get_project": Rule(200, 404),
    "import_models": Rule(201, 404, sent=as_json(models=[{"id": FP16, "group_id": YOLOX}])),
    "start_sync": Rule(202, 403, sent=as_json()),
    "get_sync": Rule(200, 403),
    "check_geti": Rule(200, 403),
    "get_import": Rule(200, 404),
    "create_token": Rule(201, 403, sent=as_json(name="x", role="viewer")),
    "list_tokens": Rule(200, 403),
    "get_token": Rule(200, 403),
    "revoke_token": Rule(204, 403),
    "explain_access": Rule(200, 403, query="?action=read"),
}


@pytest.fixture
def access() -> str:
    return "token"


class Stage:
    """A model and an open upload in a project, one of Geti with an import, and a caller of each kind."""

    def __init__(self, service: Service) -> None:
        self.service = service
        everyone = Actor()
        stated: Draft = draft("cat", project_name="vision")
        registry().register(stated, Parcel(parcel().body, "m.zip"), everyone)
        file = StatedFile(file_name="m.zip", size=10, sha256="0" * 64)
        upload = uploading().open(draft("bird", project_name="vision"), file, everyone)
        access = {name: Access(role=role) for name, role in ROLES.items()} | {"audio": Access(projects=(AUDIO,))}
        made = {name: granting().create(name, granted, None, everyone) for name, granted in access.items()}
        self.tokens = {name: text for name, (_, text) in made.items()}
        spare, _ = granting().create("spare", Access(role=Role.VIEWER), None, everyone)
        asked = Import(
            id="import",
            project_id=VISION_ID,
            project_name="vision",
            asked_at=utc_now(),
            models=(ImportedModel(id=FP16),),
        )
        imports().add(asked, utc_now() + timedelta(days=1))
        self._known = {"model_id": stated.id, "upload_id": upload.id, "token_id": spare.id, "import_id": asked.id}
        self._known |= {"project_id": VISION_ID}

    def ask(self, operation: Operation, token: str | None) -> Any:
        rule = RULES[operation.view]
        path = operation.path.format(**self._known) + rule.query
        sent = dict(rule.sent)
        headers = {**sent.pop("headers", {}), **({"Authorization": f"Bearer {token}"} if token else {})}
        return self.service.request(operation.method, path, headers=headers, **sent)


@pytest.fixture
def stage(geti: GetiStage, service: Service) -> Stage:
    return Stage(service)


by_view = partial(pytest.mark.parametrize, "operation", ids=lambda operation: operation.view)


@by_view(GUARDED)
def test_every_guarded_route_has_a_rule(operation: Operation) -> None:
    assert operation.view in RULES


def test_only_what_tells_nothing_is_open() -> None:
    assert {operation.view for operation in OPERATIONS if operation.role is None} == {
        "get_health",
        "get_document",
        "get_page",
        "get_server_info",
        "get_server_info_for_pages",
    }


@by_view(GUARDED)
def test_without_a_token_that_works_nothing_is_told(stage: Stage, operation: Operation) -> None:
    expired, expired_text = granting().create("old", Access(), utc_now() + timedelta(days=1), Actor())
    revoked, revoked_text = granting().create("gone", Access(), None, Actor())
    granting().revoke(revoked.id, Actor())
    authentication()._clock = lambda: utc_now() + timedelta(days=2)

    answers = [
        stage.ask(operation, token)
        for token in (None, "mr_x", "ü", new_token_text(expired.id), revoked_text, expired_text)
    ]

    assert [answer.status_code for answer in answers] == [401] * len(answers)
    assert all(answer.headers["WWW-Authenticate"].startswith("Bearer") for answer in answers)


@by_view(GUARDED)
def test_a_role_that_is_too_low_is_told_which_one_is_needed(stage: Stage, operation: Operation) -> None:
    assert operation.role
    lower = [name for name in ("viewer", "publisher") if not ROLES[name].covers(operation.role)]

    answers = {name: stage.ask(operation, stage.tokens[name]) for name in lower}

    for name, answer in answers.items():
        assert answer.status_code == 403
        assert f"needs a token of role {operation.role}; yours is of role {name}" in answer.body.decode()


@by_view(GUARDED)
def test_the_least_role_that_is_needed_is_enough(stage: Stage, operation: Operation) -> None:
    answer = stage.ask(operation, stage.tokens[str(operation.role)])

    assert answer.status_code == RULES[operation.view].allowed, answer.body


@by_view(GUARDED)
def test_an_admin_of_another_project_sees_nothing_of_this_one(stage: Stage, operation: Operation) -> None:
    answer = stage.ask(operation, stage.tokens["audio"])

    assert answer.status_code == RULES[operation.view].outside, answer.body
    assert b"model-cat" not in answer.body
    assert b"vision" not in answer.body
