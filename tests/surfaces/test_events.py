"""`/events`, `/models/{id}/events` and `/checkpoints` over HTTP."""

import base64
import hashlib
import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import boto3
import pytest
import rfc8785

from chalicelib.geti.states import Run
from chalicelib.registry.access import EVERYWHERE, Access, Actor, Project, Role
from chalicelib.registry.checkpoints import Checkpoint, key_of
from chalicelib.store.geti import DynamoSync
from chalicelib.wiring import checkpoints, granting, new_ulid, registry
from tests.conftest import ARCHIVE
from tests.store.trail_stage import DAY_ONE, Past, named, overwrite
from tests.surfaces.conftest import ID, Service

VISION = (Project(name="vision"),)
OTHER = "model-of-another-project"
SINCE = f"since={datetime.now(UTC) - timedelta(days=2):%Y-%m-%dT%H:%M:%SZ}"  # so that few days are asked for


@pytest.fixture
def access() -> str:
    return "token"


class Caller:
    """Somebody with a token."""

    def __init__(self, service: Service, access: Access = EVERYWHERE, name: str = "root") -> None:
        self._service = service
        token, text = granting().create(name, access, None, Actor())
        self.id, self._headers = token.id, {"Authorization": f"Bearer {text}"}

    def __call__(self, method: str, path: str, **sent: Any) -> Any:
        return self._service.request(method, path, self._headers, **sent)

    def get(self, path: str) -> list[dict[str, Any]]:
        answer = self("GET", path)
        assert answer.status_code == 200, answer.body
        return list(answer.json_body)

    def pages(self, path: str) -> list[list[dict[str, Any]]]:
        """All pages, by their links, which are relative to the request."""
        found, query = [], path.partition("?")[2]
        while query is not None:
            answer = self("GET", f"{path.partition('?')[0]}?{query}")
            assert answer.status_code == 200, answer.body
            found.append(answer.json_body)
            link = answer.headers.get("Link")
            query = link.partition("?")[2].partition(">")[0] if link else None
        return found

    def register(self, model_id: str = ID, **fields: str) -> None:
        fields = {"id": model_id, "name": "detector", "version": "v1", **fields}
        answer = self("POST", "/models", data=fields, files={"file": ("m.zip", ARCHIVE, "application/zip")})
        assert answer.status_code == 201, answer.body


@pytest.fixture
def root(service: Service) -> Caller:
    return Caller(service)


@pytest.fixture
def viewer(service: Service, root: Caller) -> Caller:
    """Sees one project."""
    return Caller(service, Access(role=Role.VIEWER, projects=VISION), "viewer")


def canonical_digest(event: dict[str, Any]) -> str:
    """As the documentation of the digest tells it."""
    actor = {
        name: value
        for name, value in event["actor"].items()
        if value is not None or name not in ("token_id", "role", "idempotency")
    }
    changes = json.dumps(event["changes"], ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    content = {name: event[name] for name in ("subject", "seq", "prev", "action")}
    content |= {"event_id": event["id"], "at": event["time"], "actor": actor, "changes": changes}
    content |= {"about": event["about"]} if event["about"] else {}
    return hashlib.sha256(rfc8785.dumps(content)).hexdigest()


# --- One model ---------------------------------------------------------------------------------------------------


def test_what_happened_to_a_model_is_told_newest_first(root):
    root.register(project_name="vision")
    root("PUT", f"/models/{ID}", data={"score": "0.5"})
    root("DELETE", f"/models/{ID}")

    found = root.get(f"/models/{ID}/events")

    assert [event["action"] for event in found] == ["version.deleted", "version.updated", "version.registered"]
    updated = found[1]
    assert updated["subject"] == f"MODEL#{ID}"
    assert updated["seq"] == 2
    assert updated["changes"]["score"] == [0.0, 0.5]
    assert updated["actor"]["name"] == "root"
    assert updated["actor"]["token_id"] == root.id
    assert updated["actor"]["role"] == "admin"
    assert updated["about"] == [{"project_id": None, "project_name": "vision", "name": "detector"}]
    assert datetime.fromisoformat(updated["time"]).tzinfo is not None


def test_the_digests_can_be_made_again_from_what_is_told(root):
    root.register(overview='{"x": [1, 1.0, 1e30, "\u20ac\\u0007"]}', description='"語"\u2028\n')
    root("PUT", f"/models/{ID}", data={"score": "0.1", "labels": '["a", {"b": null}]'})

    found = root.get(f"/events?{SINCE}")

    assert len(found) == 4
    assert [canonical_digest(event) for event in found] == [event["digest"] for event in found]


def test_the_chain_of_a_model_is_told_whole(root):
    root.register()
    root("PUT", f"/models/{ID}", data={"score": "0.5"})

    newest, oldest = root.get(f"/models/{ID}/events")

    assert newest["prev"] == oldest["digest"]
    assert oldest["prev"] == "0" * 64


@pytest.mark.parametrize(("model_id", "status"), [("unknown-model-0000", 404), ("short", 400), ("x" * 200, 404)])
def test_a_model_that_never_was_has_no_events(root, model_id, status):
    assert root("GET", f"/models/{model_id}/events").status_code == status


def test_the_events_of_a_model_come_in_pages(root):
    root.register()
    for score in ("0.1", "0.2", "0.3"):
        root("PUT", f"/models/{ID}", data={"score": score})

    found = root.pages(f"/models/{ID}/events?limit=2")

    assert [[event["seq"] for event in page] for page in found] == [[4, 3], [2, 1]]


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "page_token=x", "since=2026-01-01T00:00:00Z"])
def test_a_model_is_asked_for_by_page_only(root, query):
    root.register()

    assert root("GET", f"/models/{ID}/events?{query}").status_code == 422


def test_a_page_token_is_good_for_what_it_was_made_for_only(root):
    for model_id in (ID, OTHER):
        root.register(model_id, name=model_id)
        root("PUT", f"/models/{model_id}", data={"score": "0.1"})
    token = root("GET", f"/models/{ID}/events?limit=1").headers["Link"].partition("?")[2].partition(">")[0]

    assert root("GET", f"/models/{ID}/events?{token}").status_code == 200
    assert root("GET", f"/models/{OTHER}/events?{token}").status_code == 422
    assert root("GET", f"/events?{token}").status_code == 422


# --- All subjects ------------------------------------------------------------------------------------------------


def test_everything_is_told_newest_first_in_pages(root):
    root.register()
    for score in ("0.1", "0.2", "0.3"):
        root("PUT", f"/models/{ID}", data={"score": score})

    pages = root.pages(f"/events?{SINCE}&limit=2")

    actions = [event["action"] for page in pages for event in page]
    assert actions[:3] == ["version.updated"] * 3
    assert sorted(actions[3:]) == ["registered_model.created", "token.created", "version.registered"]
    assert [len(page) for page in pages] == [2, 2, 2]


@pytest.mark.parametrize("form", ["{id}", "MODEL#{id}"])
def test_one_subject_is_found_by_its_id_or_as_events_state_it(root, form):
    root.register()
    root("PUT", f"/models/{ID}", data={"score": "0.5"})

    found = root.pages(f"/events?limit=1&subject={quote(form.format(id=ID))}")

    assert [[event["seq"] for event in page] for page in found] == [[2], [1]]


def test_a_registered_model_and_a_token_are_found_by_their_ids(root):
    root.register()
    rm_id = root("GET", f"/models/{ID}").json_body["registered_model_id"]

    assert [event["action"] for event in root.get(f"/events?subject={rm_id}")] == ["registered_model.created"]
    assert [event["action"] for event in root.get(f"/events?subject={root.id}")] == ["token.created"]


def test_nobody_hides_a_token_behind_a_model_of_its_id(root):
    root.register(root.id)

    assert [event["subject"] for event in root.get(f"/events?subject={root.id}")] == [f"TOKEN#{root.id}"]
    assert [event["subject"] for event in root.get(f"/events?subject=MODEL%23{root.id}")] == [f"MODEL#{root.id}"]


def test_a_subject_that_never_was_has_no_events(root):
    assert root.get("/events?subject=unknown-model-0000") == []
    assert root.get("/events?subject=GETI%23unknown") == []


def test_what_the_sync_of_a_geti_server_did_is_told_to_who_sees_all(root, viewer):
    store, now = DynamoSync("geti.example.com:443", new_ulid), datetime.now(UTC)
    for name in ("01RUN1", "01RUN2"):
        store.begin(Run(id=name, started_at=now), now)
        lease, run, memory = store.lease(name, now, now + timedelta(hours=1))
        store.release(lease, run.model_copy(update={"has_looked": True}), memory)
        store.finish(now)
    subject = quote("GETI#geti.example.com:443")

    pages = root.pages(f"/events?limit=1&subject={subject}")

    assert [[event["changes"]["id"] for event in page] for page in pages] == [[[None, "01RUN2"]], [[None, "01RUN1"]]]
    assert [canonical_digest(page[0]) for page in pages] == [page[0]["digest"] for page in pages]
    assert len(root.get(f"/events?{SINCE}&action=sync.finished")) == 2
    assert viewer.get(f"/events?subject={subject}") == []
    assert viewer.get(f"/events?{SINCE}&action=sync.finished") == []


def test_filters_narrow_what_is_told(root):
    root.register()
    root("PUT", f"/models/{ID}", data={"score": "0.5"})
    registered = root.get(f"/models/{ID}/events")[-1]

    def actions(query: str) -> list[str]:
        return sorted(event["action"] for event in root.get(f"/events?{SINCE}&{query}"))

    assert actions("action=version.updated") == ["version.updated"]
    assert actions("actor=root") == ["registered_model.created", "version.registered", "version.updated"]
    assert actions(f"actor={root.id}") == actions("actor=root")
    assert actions("actor=roo") == []
    assert actions(f"subject={ID}&action=version.registered") == ["version.registered"]
    assert "version.registered" not in actions(f"until={registered['time']}")


@pytest.mark.parametrize(
    "query",
    [
        "since=yesterday",
        "since=2026-01-01",
        "since=2026-01-01T00:00:00",
        "since=1767225600",
        "since=2026-01-01T00:00:00+01:00",  # a plus that was not encoded is a blank
        "until=2026-13-01T00:00:00Z",
        "until=0001-01-01T00:00:00%2B14:00",
        "since=2026-02-01T00:00:00Z&until=2026-02-01T00:00:00Z",
        "action=version.exploded",
        "action=",
        "subject=a/b",
        "subject=geti.example.com",  # alone it could only be a model, which has no such id
        "subject=" + "x" * 129,
        "actor=" + "x" * 257,
        "limit=0",
        "limit=1001",
        "page_token=x",
        "unknown=x",
        "action=version.updated&action=version.deleted",
    ],
)
def test_wrong_input_is_refused_in_words(root, query):
    answer = root("GET", f"/events?{query}")

    assert answer.status_code == 422
    assert answer.json_body["detail"]


@pytest.mark.parametrize(
    "query",
    [
        "since=2026-01-01T00:00:00%2B01:00",
        "since=0900-01-01T00:00:00Z&until=9000-01-01T00:00:00.123456Z",
        "until=0900-01-01T00:00:00Z",
        "subject=unknown-model-0000&until=0900-01-01T00:00:00Z",
    ],
)
def test_every_time_with_a_zone_is_understood(root, query):
    assert root("GET", f"/events?{query}").status_code == 200


@pytest.mark.parametrize("position", ["2026-99-99#~", "2099-01-01#01K9ZZB2M3N4P5Q6R7S8T9V0WX", "0000-00-00#~"])
def test_a_position_that_somebody_made_up_does_no_harm(root, position):
    asked = f"/events?{SINCE}&limit=1"
    link = root("GET", f"{asked}").headers.get("Link") or root.register() or root("GET", asked).headers["Link"]
    token = link.partition("page_token=")[2].partition(">")[0]
    content = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    made_up = base64.urlsafe_b64encode(json.dumps([position, content[1]]).encode()).decode().rstrip("=")

    assert root("GET", f"{asked}&page_token={made_up}").status_code == 200


# --- Who sees what -----------------------------------------------------------------------------------------------


def test_a_limited_token_sees_what_happened_within_its_project(root, viewer):
    root.register(project_name="vision")
    root.register(OTHER, project_name="secret")
    root.register("model-without-project")

    found = viewer.get(f"/events?{SINCE}")

    assert {event["subject"].partition("#")[0] for event in found} == {"MODEL", "RM"}
    assert {event["about"][0]["project_name"] for event in found} == {"vision"}
    assert viewer.get(f"/events?subject={viewer.id}") == []


def test_what_a_token_does_not_see_is_answered_as_if_it_never_was(root, viewer):
    root.register(OTHER, project_name="secret")

    hidden, absent = (viewer("GET", f"/models/{one}/events") for one in (OTHER, "model-that-never-was"))

    assert (hidden.status_code, hidden.body) == (absent.status_code, absent.body)
    assert viewer.get(f"/events?subject={OTHER}") == []


def test_an_id_that_another_project_uses_again_shows_its_own_time_only(root, viewer):
    root.register(project_name="vision")
    root("DELETE", f"/models/{ID}")
    root.register(project_name="secret")

    assert [event["seq"] for event in viewer.get(f"/models/{ID}/events")] == [2, 1]
    assert [event["seq"] for event in root.get(f"/models/{ID}/events")] == [3, 2, 1]


def test_answers_do_not_change_with_what_is_not_seen(root, viewer):
    for number in range(5):
        root.register(f"model-of-vision-{number:04}", version=f"v{number}", project_name="vision")

    def told() -> list[tuple[bytes, str | None]]:
        answers = [viewer("GET", f"/events?{SINCE}&limit={limit}") for limit in (1, 4, 10, 11)]
        return [(answer.body, answer.headers.get("Link")) for answer in answers]

    before = told()
    for number in range(7):
        root.register(f"model-of-others-{number:04}", name=f"n{number}", project_name="secret")

    assert told() == before


# --- Large and broken --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["語" * 60_000, '"' * 100_000, "\x07" * 40_000], ids=["wide", "quotes", "control"])
def test_an_answer_stays_below_what_lambda_may_send(root, text):
    past = Past(registry().catalog.trail)
    for number in range(40):
        past.happen(
            f"MODEL#{ID}", DAY_ONE + timedelta(minutes=number), named("x"), changes=json.dumps({"d": [None, text]})
        )

    seen, path = [], f"/models/{ID}/events?limit=1000"
    while path:
        answer = root("GET", path)
        envelope = {"statusCode": 200, "headers": dict(answer.headers), "body": answer.body.decode()}
        assert len(json.dumps(envelope, ensure_ascii=False).encode()) < 6 * 1024**2
        seen += [event["seq"] for event in answer.json_body]
        link = answer.headers.get("Link")
        path = f"/models/{ID}/events{link.partition('<')[2].partition('>')[0]}" if link else None

    assert seen == list(range(40, 0, -1))


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("actor", "no JSON"),
        ("actor", "[]"),
        ("actor", None),
        ("changes", "{"),
        ("changes", '{"score": 1}'),
        ("changes", '{"score": [0, NaN]}'),
        ("changes", '{"score": [0, 1e999]}'),
        ("about", "no JSON"),
        ("about", '{"name": 5}'),
        ("action", "of.another-release"),
        ("at", ""),
    ],
)
def test_an_event_that_somebody_made_unreadable_is_shown_and_its_digest_is_wrong(root, attribute, value):
    root.register()
    [event] = registry().catalog.events(f"MODEL#{ID}")[0]
    overwrite(event, **{attribute: value})

    [told] = root.get(f"/models/{ID}/events")

    assert told["seq"] == 1
    assert told["digest"] == event.digest != canonical_digest(told)


# --- Checkpoints -------------------------------------------------------------------------------------------------


def add_checkpoint(days_ago: int) -> Checkpoint:
    until = (datetime.now(UTC) - timedelta(days=days_ago)).replace(second=0, microsecond=0)
    content = f"{until}\n".encode()
    digest = hashlib.sha256(content).hexdigest()
    known = Checkpoint(key=key_of(until), until=until, written_at=until, subjects=3, sha256=digest)
    assert checkpoints().add(known, io.BytesIO(content))
    return known


def test_checkpoints_are_listed_newest_first_with_a_url_for_each(root):
    older, newer = add_checkpoint(1), add_checkpoint(0)

    answer = root("GET", "/checkpoints")

    first, second = answer.json_body
    assert [first["key"], second["key"]] == [newer.key, older.key]
    assert (first["sha256"], first["subjects"]) == (newer.sha256, 3)
    assert first["until"] == f"{newer.until:%Y-%m-%dT%H:%M:%S.%fZ}"
    assert datetime.fromisoformat(first["retained_until"]) > datetime.now(UTC) + timedelta(days=364)
    assert newer.key.rpartition("/")[2] in first["url"]
    assert "X-Amz-Signature" in first["url"]
    stored = boto3.client("s3").get_object(Bucket="audit", Key=first["key"])["Body"].read()
    assert hashlib.sha256(stored).hexdigest() == first["sha256"]


def test_checkpoints_come_in_pages(root):
    known = [add_checkpoint(days) for days in range(5)]

    found = root.pages("/checkpoints?limit=2")

    assert [one["key"] for page in found for one in page] == [one.key for one in known]
    assert [len(page) for page in found] == [2, 2, 1]


def test_without_a_checkpoint_the_list_is_empty(root):
    assert root.get("/checkpoints") == []


@pytest.mark.parametrize(
    "access_given",
    [Access(role=Role.PUBLISHER), Access(projects=VISION), Access(name_prefixes=("detector",))],
    ids=["publisher", "projects", "names"],
)
def test_checkpoints_are_for_admins_without_limits(service, root, access_given):
    caller = Caller(service, access_given, "other")

    assert caller("GET", "/checkpoints").status_code == 403


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "page_token=x", "unknown=x"])
def test_wrong_input_for_checkpoints_is_refused(root, query):
    assert root("GET", f"/checkpoints?{query}").status_code == 422
