"""`/projects`: the published API to the letter, what each failure of Geti is answered with, and what limits hide."""

import json
from typing import Any

import pytest
from chalice.test import HTTPResponse

from chalicelib.geti.errors import (
    GetiBusy,
    GetiError,
    GetiForbidden,
    GetiMisconfigured,
    GetiNoSuchRoute,
    GetiRefused,
    GetiUnauthorized,
    NotGeti,
)
from chalicelib.geti.ports import Imports
from chalicelib.geti.states import Import
from chalicelib.registry.access import Access, Actor, Project, Role
from chalicelib.registry.errors import Unavailable
from chalicelib.settings import settings
from chalicelib.wiring import granting
from chalicelib.wiring_geti import imports
from tests.surfaces.conftest import Json, Service
from tests.surfaces.geti import AUDIO, FP16, INT8, ONNX, VISION, VOICE, WHISPER, YOLOX, GetiStage

NOTE = "Note: Only OpenVINO optimized active models are supported at this time.\n"
NOT_THERE = b"Project or model id not found. No model(s) registered.\n"
TEXT, JSON = "text/plain; charset=utf-8", "application/json"
KEY = "8e03978e-40d5-43dd-bc93-6894a57f9324"


def ask(
    service: Service, *model_ids: str, project: str = VISION, group: str = YOLOX, token: str = "", **headers: str
) -> HTTPResponse:
    models = [{"id": one, "group_id": group} for one in model_ids]
    return post(service, {"models": models}, project, token, **headers)


def post(service: Service, body: Any, project: str = VISION, token: str = "", **headers: str) -> HTTPResponse:
    sent = {
        "Content-Type": JSON,
        **_bearer(token),
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    data = body if isinstance(body, str) else json.dumps(body)
    return service.request("POST", f"/projects/{project}/geti-models/download", sent, data=data)


def get(service: Service, path: str, token: str = "") -> HTTPResponse:
    return service.request("GET", path, _bearer(token))


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}


def the_import(answer: HTTPResponse) -> str:
    """The path of what Location leads to, from where it was answered."""
    assert answer.headers["Location"].startswith("../../../imports/")
    return str(answer.headers["Location"]).removeprefix("../../..")


def told(answer: HTTPResponse) -> tuple[int, str, str]:
    return answer.status_code, answer.headers["Content-Type"], answer.body.decode()


def test_projects_are_listed_as_the_published_api_has_them(geti: GetiStage, service: Service) -> None:
    answer = get(service, "/projects")

    assert answer.status_code == 200
    vision, audio = answer.json_body
    assert audio["name"] == "audio"
    assert vision == {
        "id": VISION,
        "name": "vision",
        "creation_time": "2026-01-01T09:00:00.000000+00:00",
        "model_groups": [
            {
                "id": YOLOX,
                "name": "YOLOX-S",
                "model_versions": [
                    {
                        "id": "65dc000000000000000000b1",
                        "name": "YOLOX-S",
                        "version": 1,
                        "openvino_models": [
                            {"id": FP16, "name": "YOLOX-S OpenVINO FP16"},
                            {"id": INT8, "name": "YOLOX-S OpenVINO INT8"},
                        ],
                    }
                ],
            }
        ],
    }
    assert get(service, f"/projects/{VISION}").json_body == vision


@pytest.mark.parametrize("project_id", ["other", "x" * 129, "%2e%2e", "a%20b"])
def test_a_project_that_is_not_there_is_answered_in_words(geti: GetiStage, service: Service, project_id: str) -> None:
    answer = get(service, f"/projects/{project_id}")

    assert told(answer) == (404, TEXT, "Project not found\n")


def test_models_are_registered_while_the_caller_waits(geti: GetiStage, service: Service) -> None:
    answer = ask(service, FP16, INT8)

    assert told(answer) == (201, TEXT, f"Model(s): {FP16}, {INT8} registered.\n{NOTE}")
    assert get(service, the_import(answer)).json_body == {
        "state": "done",
        "models": [{"id": one, "outcome": "registered", "why": None} for one in (FP16, INT8)],
    }


def test_a_model_that_is_named_twice_is_imported_once(geti: GetiStage, service: Service) -> None:
    answer = ask(service, FP16, FP16)

    assert told(answer) == (201, TEXT, f"Model(s): {FP16} registered.\n{NOTE}")
    assert len(geti.work.orders) == 1


def test_what_has_not_ended_after_20_seconds_goes_on(geti: GetiStage, service: Service) -> None:
    geti.waits(FP16)

    answer = ask(service, FP16, INT8)

    path = the_import(answer)
    assert told(answer) == (
        202,
        TEXT,
        f"Model(s): {FP16} are being registered.\n{NOTE}"
        f"GET {path} tells what becomes of them.\nModel(s): {INT8} registered.\n",
    )
    assert 15 <= len(geti.slept) <= 20  # a look each second of the watch
    assert get(service, path).json_body["state"] == "running"


@pytest.mark.parametrize(
    ("why", "said"),
    [
        ("its package is not a ZIP archive.", "its package is not a ZIP archive."),
        ("it is not ready", "it is not ready."),
        ("Its package has no end. Was it cut short?", "Its package has no end. Was it cut short?"),
    ],
)
def test_if_all_fail_it_is_said_why(geti: GetiStage, service: Service, why: str, said: str) -> None:
    geti.fails(FP16, why)

    answer = ask(service, FP16)

    assert told(answer) == (403, TEXT, f"Model(s): {FP16} can not be registered.\n{NOTE}{FP16}: {said}\n")


def test_if_some_fail_it_is_said_which_and_why(geti: GetiStage, service: Service) -> None:
    geti.fails(INT8, "Geti says\nno")

    answer = ask(service, FP16, INT8)

    assert told(answer) == (
        201,
        TEXT,
        f"Model(s): {FP16} registered.\n{NOTE}Model(s): {INT8} can not be registered.\n{INT8}: Geti says no.\n",
    )


def test_what_cannot_be_imported_is_refused_with_why(geti: GetiStage, service: Service) -> None:
    answer = ask(service, FP16, ONNX)

    expected = f"Model(s): {ONNX} can not be registered.\n{NOTE}{ONNX}: it is not in OpenVINO format.\n"
    assert told(answer) == (403, TEXT, expected)
    assert geti.work.orders == []


def test_what_is_registered_already_is_a_conflict(geti: GetiStage, service: Service) -> None:
    service.register(id=FP16)
    service.register(id=INT8, version="v2")

    answer = ask(service, FP16, INT8)

    assert told(answer) == (
        409,
        TEXT,
        f"Model(s): {FP16}, {INT8} is already registered. No model(s) registered.\n"
        "Tip: Delete the previously mentioned model(s) or remove the id(s) from the request body then try again.\n",
    )
    assert geti.work.orders == []


@pytest.mark.parametrize(
    "wanted",
    [
        {"project": "65dc0000000000000000ffff"},
        {"project": "a%2Fb"},
        {"group": WHISPER},
        {"project": AUDIO},
    ],
    ids=["no such project", "no id", "another group", "another project"],
)
def test_what_is_not_there_is_answered_in_words(geti: GetiStage, service: Service, wanted: dict[str, str]) -> None:
    answer = ask(service, FP16, **wanted)

    assert (answer.status_code, answer.body) == (404, NOT_THERE)


@pytest.mark.parametrize(
    ("body", "loc"),
    [
        ({}, ["body", "models"]),
        ({"models": []}, ["body", "models"]),
        ({"models": [{"id": FP16}]}, ["body", "models", "0", "group_id"]),
        ({"models": [{"id": "../x", "group_id": YOLOX}]}, ["body", "models", "0", "id"]),
        ({"models": [{"id": FP16, "group_id": "x" * 129}]}, ["body", "models", "0", "group_id"]),
        ({"models": [{"id": str(number), "group_id": YOLOX} for number in range(51)]}, ["body", "models"]),
        ({"models": [{"id": FP16, "group_id": YOLOX}, {"id": FP16, "group_id": "b"}]}, ["body", "models", FP16]),
        ("{", ["body"]),
        ("[]", ["body"]),
    ],
)
def test_a_body_that_is_wrong_is_answered_field_by_field(
    geti: GetiStage, service: Service, body: Any, loc: list[str]
) -> None:
    answer = post(service, body)

    assert (answer.status_code, answer.headers["Content-Type"]) == (422, JSON)
    [problem] = answer.json_body["detail"]
    assert problem["loc"] == loc
    assert geti.server.asked == []


def test_fields_that_are_not_known_are_passed_over(geti: GetiStage, service: Service) -> None:
    answer = post(service, {"models": [{"id": FP16, "group_id": YOLOX, "name": "x"}], "more": True})

    assert answer.status_code == 201


def test_location_is_built_from_the_public_url(
    geti: GetiStage, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUBLIC_URL", "https://registry.example/api")
    settings.cache_clear()

    location = ask(service, FP16).headers["Location"]

    assert location.startswith("https://registry.example/api/imports/")


# What Geti did, the status, and a part of what is said to everybody.
FAILURES: list[tuple[GetiError, int, str]] = [
    (GetiUnauthorized("said by Geti"), 502, "Geti refuses the token of the registry"),
    (NotGeti("said by Geti"), 502, "What answers at GETI_HOST is no Geti server"),
    (GetiForbidden("said by Geti"), 502, "the user of its token needs a role"),
    (GetiNoSuchRoute("said by Geti"), 502, "Geti did not do what it was asked for"),
    (GetiRefused("said by Geti"), 502, "Geti did not do what it was asked for"),
    (GetiMisconfigured("said by Geti"), 503, "The connection to Geti is not set up as it must be"),
    (GetiBusy("said by Geti", 70), 503, "out of reach, busy, or too slow"),
]


@pytest.mark.parametrize(("failure", "status", "said"), FAILURES, ids=lambda value: getattr(value, "code", None))
def test_a_failure_of_geti_is_told_as_what_it_is(
    geti: GetiStage, service: Service, failure: GetiError, status: int, said: str
) -> None:
    geti.server.failures = {("projects",): failure, ("project", VISION): failure}

    answers = [get(service, "/projects"), get(service, f"/projects/{VISION}"), ask(service, FP16)]

    for answer in answers:
        assert (answer.status_code, answer.headers["Content-Type"]) == (status, JSON)
        assert said in answer.json_body["detail"]
        assert "said by Geti" in answer.json_body["detail"]
        assert answer.headers.get("Retry-After") == ("70" if isinstance(failure, GetiBusy) else None)


@pytest.mark.parametrize("access", ["token"])
def test_who_is_limited_is_not_told_what_geti_said(geti: GetiStage, service: Service) -> None:
    geti.server.failures["project", VISION] = GetiBusy("said by Geti")
    token = limited(Project(id=VISION, name="vision"))

    detail = get(service, f"/projects/{VISION}", token).json_body["detail"]

    assert "out of reach" in detail
    assert "said by Geti" not in detail


@pytest.mark.parametrize("path", ["/projects", f"/projects/{VISION}"])
def test_without_a_server_it_is_said_what_to_set(service: Service, path: str) -> None:
    answers = [get(service, path), ask(service, FP16)]

    for answer in answers:
        assert (answer.status_code, answer.headers["Content-Type"]) == (503, JSON)
        assert answer.json_body == {
            "detail": "Geti is not configured: set GETI_HOST and GETI_TOKEN.",
            "code": "not_configured",
        }


def test_a_list_that_no_answer_can_hold_is_an_error(
    geti: GetiStage, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chalicelib.surfaces.projects.MAX_ANSWER_BYTES", 100)

    answer = get(service, "/projects")

    assert (answer.status_code, "ask for one" in answer.json_body["detail"]) == (503, True)


def test_if_the_queue_is_away_nothing_is_begun(geti: GetiStage, service: Service) -> None:
    geti.work.is_down = True

    assert ask(service, FP16).status_code == 503


def test_if_the_outcome_cannot_be_read_it_is_said_that_it_is_begun(
    geti: GetiStage, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_away(_: Imports, import_id: str) -> Import:
        raise Unavailable("The table does not answer.")

    with monkeypatch.context() as patched:
        patched.setattr(type(imports()), "get", is_away)
        answer = ask(service, FP16)

    assert answer.status_code == 202
    assert get(service, the_import(answer)).json_body["state"] == "done"


def test_a_request_that_is_repeated_with_its_key_is_the_same_import(geti: GetiStage, service: Service) -> None:
    first = ask(service, FP16, Idempotency_Key=KEY)
    service.register(id=FP16)

    again, other = ask(service, FP16, Idempotency_Key=KEY), ask(service, INT8, Idempotency_Key=KEY)

    assert told(again) == told(first)
    assert again.headers["Location"] == first.headers["Location"]
    assert len(geti.work.orders) == 1
    assert (other.status_code, other.headers["Content-Type"]) == (422, JSON)


def test_a_repetition_tells_what_became_of_it_meanwhile(geti: GetiStage, service: Service) -> None:
    geti.waits(FP16)
    first = ask(service, FP16, Idempotency_Key=KEY)
    [(order, _)] = geti.work.orders
    del geti.work.outcomes[FP16]
    geti.work.queue(order)

    again = ask(service, FP16, Idempotency_Key=KEY)

    assert (first.status_code, again.status_code) == (202, 201)
    assert again.headers["Location"] == first.headers["Location"]


def limited(*projects: Project, prefixes: tuple[str, ...] | None = None, role: Role = Role.PUBLISHER) -> str:
    access = Access(role=role, projects=projects or None, name_prefixes=prefixes)
    return granting().create("limited", access, None, Actor())[1]


class Stage:
    """Two callers of one project each, one of a name, and one that is not limited."""

    def __init__(self, service: Service) -> None:
        self.vision = limited(Project(id=VISION, name="vision"))
        self.audio = limited(Project(id=AUDIO, name="audio"))
        self.int8 = limited(prefixes=("YOLOX-S OpenVINO INT8",))
        self.everyone = granting().create("everyone", Access(), None, Actor())[1]


@pytest.fixture
def callers(geti: GetiStage, service: Service) -> Stage:
    return Stage(service)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Has the server forget all but one project."""

    def leave(geti: GetiStage, project_id: str) -> None:
        for other in {VISION, AUDIO} - {project_id}:
            del geti.server._projects[other], geti.server._groups[other]

    return leave


@pytest.mark.parametrize("access", ["token"])
def test_what_is_hidden_in_geti_changes_no_answer(
    geti: GetiStage, service: Service, callers: Stage, alone: Any
) -> None:
    def answers() -> list[Any]:
        asked = [
            get(service, "/projects", callers.audio),
            get(service, f"/projects/{VISION}", callers.audio),
            get(service, f"/projects/{AUDIO}", callers.audio),
            ask(service, FP16, token=callers.audio),
            ask(service, ONNX, token=callers.audio),
            ask(service, FP16, project=AUDIO, token=callers.audio),
            ask(service, VOICE, project=AUDIO, group=WHISPER, token=callers.audio),
        ]
        return [(answer.status_code, answer.body) for answer in asked]

    crowded = answers()
    alone(geti, AUDIO)

    assert crowded == answers()
    assert [status for status, _ in crowded] == [200, 404, 200, 404, 404, 404, 201]
    assert b"vision" not in b"".join(body for _, body in crowded)


@pytest.mark.parametrize("access", ["token"])
def test_a_caller_of_names_sees_and_imports_only_models_of_such_names(
    geti: GetiStage, service: Service, callers: Stage
) -> None:
    [project] = get(service, "/projects", callers.int8).json_body
    [version] = project["model_groups"][0]["model_versions"]
    hidden, seen = ask(service, FP16, token=callers.int8), ask(service, INT8, token=callers.int8)

    assert [one["id"] for one in version["openvino_models"]] == [INT8]
    assert get(service, f"/projects/{AUDIO}", callers.int8).body == b"Project not found\n"
    assert (hidden.status_code, hidden.body) == (404, NOT_THERE)
    assert seen.status_code == 201


@pytest.mark.parametrize("access", ["token"])
def test_an_import_is_seen_by_who_sees_its_project(geti: GetiStage, service: Service, callers: Stage) -> None:
    theirs = the_import(ask(service, FP16, token=callers.vision))
    mine = the_import(ask(service, INT8, token=callers.int8))
    viewer = limited(Project(id=VISION, name="vision"), role=Role.VIEWER)

    def statuses(token: str) -> list[int]:
        return [get(service, path, token).status_code for path in (theirs, mine)]

    assert statuses(callers.everyone) == statuses(callers.vision) == statuses(viewer) == [200, 200]
    assert statuses(callers.audio) == [404, 404]
    assert statuses(callers.int8) == [404, 200]
    hidden, absent = (get(service, path, callers.audio).body for path in (theirs, "/imports/other"))
    assert _without_id(hidden) == _without_id(absent)


def _without_id(body: bytes) -> Json:
    return dict(json.loads(body))


@pytest.mark.parametrize("access", ["token"])
def test_an_order_says_who_asked_and_carries_no_credential(geti: GetiStage, service: Service, callers: Stage) -> None:
    ask(service, FP16, token=callers.vision)

    [(order, _)] = geti.work.orders
    assert (order.by.name, order.by.role) == ("limited", Role.PUBLISHER)
    assert callers.vision.rpartition("_")[0].rpartition("_")[2] in (order.by.token_id or "")
    assert callers.vision not in order.model_dump_json()
