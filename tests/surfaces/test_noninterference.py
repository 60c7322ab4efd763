"""Whoever sees one project is answered the same, to the byte, whether or not there is anything in another.

Two worlds run the same history of one project; in one of them another project, and models without any, live beside it.
"""

import itertools
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from moto.backends import get_backend

from chalicelib import wiring
from chalicelib.registry.access import Access, Actor, Project
from chalicelib.wiring import granting
from tests.conftest import ARCHIVE, create_stores
from tests.surfaces.conftest import Service

SEEN, HIDDEN, NONE = "vision", "audio", ""
START = datetime(2026, 3, 1, tzinfo=UTC)
JSON = {"Content-Type": "application/json"}
ZIP = {"file": ("m.zip", ARCHIVE, "application/zip")}
TOLD = ("Link", "ETag", "Location", "Retry-After", "Content-Type")


@dataclass(frozen=True)
class Step:
    """Something that a project's own admin does."""

    project: str
    deed: str
    name: str
    version: str
    number: int

    @property
    def model_id(self) -> str:
        return f"{self.project or 'none'}-{self.name}-{self.number}".ljust(20, "0")


def steps(projects: list[str]) -> st.SearchStrategy[Step]:
    return st.builds(
        Step,
        project=st.sampled_from(projects),
        deed=st.sampled_from(["register", "register", "update", "rename", "delete", "alias", "upload", "abort"]),
        name=st.sampled_from(["cat", "cat", "dog"]),
        version=st.sampled_from(["v1", "v2"]),
        number=st.integers(1, 3),
    )


class World:
    """The service with nothing in it, times and ids that depend on a step alone."""

    def __init__(self, service: Service) -> None:
        for backend in ("dynamodb", "s3"):
            get_backend(backend).reset()
        create_stores()
        for maker in (wiring.registry, wiring.uploading, wiring.granting, wiring.authentication):
            maker.cache_clear()
        self._service = service
        self._uploads: dict[str, str] = {}
        self.at(0, SEEN)
        self.tokens = {name: self._token(name) for name in (SEEN, HIDDEN)} | {NONE: self._token(NONE)}

    def at(self, step: int, project: str) -> None:
        ticks, ids = itertools.count(), itertools.count()
        wiring.utc_now.now = lambda: START + timedelta(minutes=step, milliseconds=next(ticks))  # type: ignore[attr-defined]
        kind = {SEEN: "A", HIDDEN: "B", NONE: "C"}[project]
        wiring.new_ulid.next = lambda: f"01{kind}{step:08d}{next(ids):015d}"  # type: ignore[attr-defined]

    def _token(self, project: str) -> str:
        limits = Access(projects=(Project(name=project),)) if project else Access()
        self.at(0, project)
        return granting().create(project or "everyone", limits, None, Actor())[1]

    def ask(self, project: str, method: str, path: str, headers: dict[str, str] | None = None, **sent: Any) -> Any:
        headers = {**(headers or {}), "Authorization": f"Bearer {self.tokens[project]}"}
        answer = self._service.request(method, path, headers, **sent)
        told = {name: value for name, value in answer.headers.items() if name in TOLD}
        return answer.status_code, _without_signatures(told), _without_signatures(answer.body.decode())

    def do(self, number: int, step: Step) -> Any:
        self.at(number, step.project)
        fields = {"name": step.name, "version": step.version, "created_date": "2026-03-01 00:00:00 UTC"}
        if step.project == NONE:
            fields |= {"origin": "elsewhere"}
        exposed = f"{step.project}.{step.name}" if step.project else step.name
        match step.deed:
            case "register":
                return self._send(step, "POST", "/models", data={"id": step.model_id, **fields}, files=ZIP)
            case "update":
                return self._send(step, "PUT", f"/models/{step.model_id}", data={"version": step.version, "score": "1"})
            case "rename":
                return self._send(step, "PUT", f"/models/{step.model_id}", data={"name": "bird"})
            case "delete":
                return self._send(step, "DELETE", f"/models/{step.model_id}")
            case "alias":
                body = json.dumps({"name": exposed, "aliases": {"best": step.number}})
                return self._send(step, "PATCH", "/registered-models", headers=JSON, data=body)
            case "upload":
                body = json.dumps({"id": step.model_id, **fields, "file_name": "m.zip", "size": 9, "sha256": "0" * 64})
                answer = self._send(step, "POST", "/uploads", headers=JSON, data=body)
                if answer[0] == 201:
                    self._uploads[step.model_id] = json.loads(answer[2])["upload_id"]
                return answer
        return self._send(step, "DELETE", f"/uploads/{self._uploads.get(step.model_id, '01')}")

    def _send(self, step: Step, *request: str, **sent: Any) -> Any:
        return self.ask(step.project, *request, **sent)

    def questions(self) -> Iterator[Any]:
        """All that can be asked of a registry, by who sees one project."""
        for first in (
            "/models?limit=1",
            "/models",
            "/models?name=c&limit=2",
            "/models?version=v1&precision=fp32&limit=1",
            "/models?origin=elsewhere",
            "/registered-models?limit=1",
            "/events?limit=2&since=2026-03-01T00:00:00Z&until=2026-03-02T00:00:00Z",
            "/events?action=version.registered&since=2026-03-01T00:00:00Z&until=2026-03-02T00:00:00Z",
        ):
            yield from self._pages(first)
        for name in (f"{SEEN}.cat", f"{SEEN}.bird", f"{HIDDEN}.cat", "cat"):
            yield from self._pages(f"/registered-models?name={name}&limit=1")
        for project, name, number in itertools.product((SEEN, HIDDEN, NONE), ("cat", "dog"), (1, 2, 3)):
            model_id = Step(project, "", name, "", number).model_id
            for path in ("", "/manifest", "/files", "/events"):
                yield path, self.ask(SEEN, "GET", f"/models/{model_id}{path}")
            yield self.ask(SEEN, "GET", f"/events?subject={model_id}")
        for upload_id in self._uploads.values():
            if upload_id.startswith("01A"):
                yield self.ask(SEEN, "GET", f"/uploads/{upload_id}")
        yield from self._attempts()

    def _attempts(self) -> Iterator[Any]:
        """What may be tried on what is not seen."""
        stale = {"If-Match": '"99"'}
        for project in (HIDDEN, NONE):
            path = f"/models/{Step(project, '', 'cat', '', 1).model_id}"
            yield self.ask(SEEN, "PUT", path, data={"score": "2"})
            yield self.ask(SEEN, "PUT", path, headers=stale, data={"score": "2"})
            yield self.ask(SEEN, "DELETE", path)
            name = f"{project}.cat" if project else "cat"
            for headers in ({}, stale):
                body = json.dumps({"name": name, "description": "x"})
                yield self.ask(SEEN, "PATCH", "/registered-models", headers={**JSON, **headers}, data=body)
            for narrowed in ("alias=best", "number=1", "version=v1"):
                yield self.ask(SEEN, "GET", f"/registered-models?name={name}&{narrowed}")

    def _pages(self, path: str) -> Iterator[Any]:
        for _ in range(50):
            answer = self.ask(SEEN, "GET", path)
            yield path, answer
            if "Link" not in answer[1]:
                return
            path = path.partition("?")[0] + "?" + answer[1]["Link"].partition("?")[2].partition(">")[0]
        raise AssertionError("a list without end")


def _without_signatures(told: Any) -> Any:
    """URLs are signed for a time that is not the test's."""
    return json.loads(re.sub(r"[?&]X-Amz-[^\"\\&\s]*", "", json.dumps(told)))


@pytest.fixture
def access() -> str:
    return "token"


@pytest.fixture
def controlled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time and ids of the service come from the world."""

    def utc_now() -> datetime:
        return utc_now.now()  # type: ignore[attr-defined, no-any-return]

    def new_ulid() -> str:
        return new_ulid.next()  # type: ignore[attr-defined, no-any-return]

    for made in (utc_now, new_ulid):
        monkeypatch.setattr(wiring, made.__name__, made)


@pytest.fixture
def new_world(controlled: None, service: Service) -> Callable[[], World]:
    return lambda: World(service)


@settings(
    max_examples=5,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(history=st.lists(steps([SEEN, SEEN, HIDDEN, HIDDEN, NONE]), min_size=6, max_size=16))
def test_what_is_hidden_changes_no_answer(new_world: Callable[[], World], history: list[Step]) -> None:
    numbered = list(enumerate(history, 1))
    alone = new_world()
    answers = [alone.do(number, step) for number, step in numbered if step.project == SEEN]
    alone.at(len(history) + 1, SEEN)
    told = list(alone.questions())

    crowded = new_world()
    same = [(step.project, crowded.do(number, step)) for number, step in numbered]
    crowded.at(len(history) + 1, SEEN)

    assert [answer for project, answer in same if project == SEEN] == answers
    assert list(crowded.questions()) == told


def test_an_id_of_a_hidden_project_is_a_conflict_that_tells_the_callers_own_id_only(
    new_world: Callable[[], World],
) -> None:
    world = new_world()
    taken = Step(HIDDEN, "upload", "cat", "v1", 1)
    world.do(1, taken)
    form = {"id": taken.model_id, "name": "cat", "version": "v1"}

    status, _, text = world.ask(SEEN, "POST", "/models", data=form, files=ZIP)
    body = json.dumps({**form, "file_name": "m.zip", "size": 9, "sha256": "0" * 64})
    as_upload = world.ask(SEEN, "POST", "/uploads", headers=JSON, data=body)

    assert (status, as_upload[0]) == (409, 409)
    assert text == f"The requested action could not be completed due to a conflict with model '{taken.model_id}'."
    assert json.loads(as_upload[2])["holder"] == taken.model_id
    assert "upload_id" not in json.loads(as_upload[2])


def test_the_life_of_an_id_in_a_hidden_project_is_not_told_to_its_next_owner(new_world: Callable[[], World]) -> None:
    world = new_world()
    step = Step(HIDDEN, "register", "cat", "v1", 1)
    world.do(1, step)
    world.at(2, HIDDEN)
    world.ask(HIDDEN, "DELETE", f"/models/{step.model_id}")
    world.at(3, SEEN)
    world.ask(SEEN, "POST", "/models", data={"id": step.model_id, "name": "cat", "version": "v1"}, files=ZIP)

    status, _, body = world.ask(SEEN, "GET", f"/models/{step.model_id}/events")

    assert status == 200
    assert [event["action"] for event in json.loads(body)] == ["version.registered"]
    assert f'"{HIDDEN}"' not in body
