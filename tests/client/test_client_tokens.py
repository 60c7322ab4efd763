"""Tokens, access and the trail in the SDK; how a token is spelled, and that it is shown nowhere."""

import json
import logging
import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest
from modelreg import (
    ConnectionFailed,
    Forbidden,
    IdempotencyKeyReused,
    InProgress,
    InvalidInput,
    NotARegistry,
    NotFound,
    Project,
    Registry,
    RegistryError,
    Unauthorized,
    Unavailable,
)
from modelreg.answers import error_of
from modelreg.errors import Sent
from modelreg.retry import Patience
from modelreg.times import moment_of, sent_moment
from modelreg.tokens import Minted, checked_form, id_of, is_whole, minted, without_secrets

from chalicelib.registry.tokens import digest_of, id_in, new_token_text
from tests.client.command_stage import SECRET, TOKEN
from tests.client.conftest import Waits
from tests.client.fake_registry import BASE, FakeRegistry, problem

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)


@pytest.fixture
def made(fake: FakeRegistry) -> dict[str, Any]:
    return fake.add_token(name="ci", role="publisher")


def refused_by(fake: FakeRegistry, patience: Patience, response: httpx.Response, **login: Any) -> RegistryError:
    """How a call ends that gets this answer."""
    fake.fail("GET", "/tokens", response)
    with Registry(**{"url": BASE, **login}, transport=fake.transport, patience=patience) as registry:
        with pytest.raises(RegistryError) as caught:
            list(registry.tokens())
    return caught.value


def test_a_new_token_is_spelled_as_the_service_spells_it() -> None:
    token = minted()

    assert id_in(token.text) == token.id
    assert digest_of(token.text) == token.digest
    assert is_whole(new_token_text(token.id))


def test_two_tokens_of_a_moment_differ_and_their_ids_are_in_order_of_time() -> None:
    assert minted(lambda: 1.0).text != minted(lambda: 1.0).text
    assert minted(lambda: 1.0).id < minted(lambda: 2.0).id


@pytest.mark.parametrize("bits", [lambda count: 0, lambda count: 2**count - 1])
def test_smallest_and_largest_secrets_have_the_same_width(bits: Callable[[int], int]) -> None:
    token = minted(lambda: 281_474_976_710.655, bits)

    assert (len(token.id), len(token.text)) == (26, 79)
    assert id_in(token.text) == token.id == id_of(token.text)


def test_a_minted_token_does_not_show_its_text() -> None:
    assert TOKEN not in repr(minted(lambda: 0.0, lambda bits: 2**bits // 3)) + str(Minted("id", TOKEN, "digest"))


@pytest.mark.parametrize(
    "damaged",
    [TOKEN[:-1], f"{TOKEN}x", TOKEN[1:], f"{TOKEN[:-1]}!", TOKEN.swapcase(), TOKEN[:40] + "0" + TOKEN[41:], "mr_", ""],
)
def test_a_damaged_token_is_refused_without_being_repeated(damaged: str) -> None:
    with pytest.raises(InvalidInput, match="not sent") as caught:
        checked_form(damaged)

    assert not damaged or damaged == "mr_" or damaged not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize("text", [SECRET.id, TOKEN, f" {TOKEN}\n", TOKEN[:-3], f"mr_{SECRET.id}"])
def test_the_id_of_a_token_is_found_in_any_part_of_it(text: str) -> None:
    assert id_of(text) == SECRET.id


@pytest.mark.parametrize(
    "text", ["", "ci", SECRET.id[1:], f"x{TOKEN}", "ghp_16C7e42F292c6912E7710c838347Ae178B4a", "٣" * 26]
)
def test_what_is_no_token_has_no_id_and_is_not_repeated(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        id_of(text)

    assert not text or text not in f"{caught.value} {caught.value.hint}"


def test_secrets_are_cut_out_of_texts_also_damaged_ones() -> None:
    text = f"Got unexpected arguments ({TOKEN} {TOKEN[:-9]})"

    assert without_secrets(text) == f"Got unexpected arguments (mr_{SECRET.id}_... mr_{SECRET.id}_...)"


def test_a_token_is_created_with_its_limits(registry: Registry, fake: FakeRegistry) -> None:
    end = datetime(2027, 1, 31, 1, tzinfo=timezone(timedelta(hours=1)))

    made = registry.create_token(
        "ci", "publisher", projects=[{"name": "vision"}, Project(id="p1", name="edge")], name_prefixes=["det"],
        expires_at=end,
    )  # fmt: skip

    assert json.loads(fake.requests[0].content) == {
        "name": "ci",
        "role": "publisher",
        "projects": [{"name": "vision"}, {"id": "p1", "name": "edge"}],
        "name_prefixes": ["det"],
        "expires_at": "2027-01-31T00:00:00.000000Z",
    }
    assert is_whole(made.token)
    assert made.expires_at == end
    assert made.created_at.tzinfo is UTC


def test_a_token_without_limits_is_sent_without_any(registry: Registry, fake: FakeRegistry) -> None:
    registry.create_token("root", "admin")

    assert json.loads(fake.requests[0].content) == {"name": "root", "role": "admin"}
    assert "idempotency-key" not in fake.requests[0].headers


def test_the_text_of_a_new_token_is_in_no_repr_and_no_dump(registry: Registry) -> None:
    made = registry.create_token("ci", "viewer")

    shown = f"{made!r} {made} {made.model_dump()} {made.model_dump_json()} {[made]}"

    assert made.token.startswith("mr_")
    assert made.token not in shown


@pytest.mark.parametrize(
    "arguments",
    [
        {"name": ""},
        {"expires_at": datetime(2027, 1, 1)},
        {"projects": ["vision"]},
        {"projects": [{"project_name": "vision"}]},
        {"projects": [Project()]},
    ],
)
def test_a_token_that_cannot_be_is_refused_before_any_request(
    registry: Registry, fake: FakeRegistry, arguments: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInput):
        registry.create_token(**{"name": "ci", "role": "viewer", **arguments})

    assert fake.requests == []


@pytest.mark.parametrize("fault", [httpx.ReadError("reset"), problem(503, "outcome_unknown"), problem(504, "x")])
def test_a_creation_whose_answer_was_lost_is_not_repeated_and_says_what_to_look_for(
    registry: Registry, fake: FakeRegistry, fault: Any
) -> None:
    fake.fail("POST", "/tokens", fault)

    with pytest.raises((ConnectionFailed, Unavailable)) as caught:
        registry.create_token("ci", "viewer")

    assert len(fake.calls("POST", "/tokens")) == 1
    assert "'ci'" in caught.value.hint
    assert "revoke" in caught.value.hint


def test_the_list_of_tokens_goes_through_all_pages(registry: Registry, fake: FakeRegistry) -> None:
    ids = [fake.add_token(name=f"t{number}")["id"] for number in range(5)]

    assert [token.id for token in registry.tokens()] == ids
    assert [token.id for token in registry.tokens(limit=3)] == ids[:3]
    assert len(fake.calls("GET", "/tokens")) == 3 + 2


def test_what_a_token_may_is_typed(registry: Registry, fake: FakeRegistry) -> None:
    told = fake.add_token(
        projects=[{"id": "p1", "name": None}], name_prefixes=["det"], last_used_at="2026-01-02T03:00:00Z"
    )

    token = registry.token(told["id"])

    assert token.projects == [Project(id="p1")]
    assert token.last_used_at == datetime(2026, 1, 2, 3, tzinfo=UTC)
    assert (token.expires_at, token.state) == (None, "active")


def test_a_state_is_the_registrys_whatever_the_clock_here_says(registry: Registry, fake: FakeRegistry) -> None:
    told = fake.add_token(state="active", expires_at="2001-01-01T00:00:00Z")

    assert registry.token(told["id"]).state == "active"


@pytest.mark.parametrize(
    "moment", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-01-02T03:04:05", "soon"]
)
def test_a_moment_that_is_none_is_no_answer_of_a_registry(registry: Registry, fake: FakeRegistry, moment: str) -> None:
    told = fake.add_token(expires_at=moment)

    with pytest.raises(NotARegistry, match="expires_at"):
        registry.token(told["id"])


def test_of_a_whole_token_only_the_id_is_sent(registry: Registry, fake: FakeRegistry, made: dict[str, Any]) -> None:
    whole = f"mr_{made['id']}_{TOKEN.rpartition('_')[2]}"

    registry.token(whole)
    registry.can(whole, "tokens")
    list(registry.events(actor=whole, subject=whole))
    registry.revoke_token(whole)

    assert not any(TOKEN[-20:] in f"{request.url} {request.content!r}" for request in fake.requests)
    assert {made["id"]} == {value for key in ("actor", "subject") for value in sent_query(fake, "/events")[key]}


def test_a_revocation_whose_answer_was_lost_is_done(
    registry: Registry, fake: FakeRegistry, made: dict[str, Any]
) -> None:
    fake.lose_answer("DELETE", made["id"])

    registry.revoke_token(made["id"])

    assert fake.tokens[made["id"]]["state"] == "revoked"


def test_a_token_that_is_not_there_is_not_found(registry: Registry) -> None:
    with pytest.raises(NotFound):
        registry.token(SECRET.id)
    with pytest.raises(NotFound):
        registry.revoke_token(SECRET.id)


def test_what_decides_is_told_for_a_model_or_a_name(
    registry: Registry, fake: FakeRegistry, made: dict[str, Any]
) -> None:
    decision = registry.can(made["id"], "update", "model-000000000001")
    registry.can(made["id"], "register", name="detector", project_id="p1", project_name="edge")

    assert (decision.allowed, decision.status, decision.rule) == (True, 200, "Role publisher covers update.")
    assert parse_qs(fake.requests[0].url.query.decode()) == {"action": ["update"], "model_id": ["model-000000000001"]}
    assert parse_qs(fake.requests[1].url.query.decode()) == {
        "action": ["register"], "name": ["detector"], "project_id": ["p1"], "project_name": ["edge"],
    }  # fmt: skip


def test_a_model_is_meant_by_its_id_or_its_name_not_both(registry: Registry, fake: FakeRegistry) -> None:
    with pytest.raises(InvalidInput, match="not both"):
        registry.can(SECRET.id, "read", "model-000000000001", name="detector")
    with pytest.raises(InvalidInput, match="not both"):
        registry.events("model-000000000001", subject="model-000000000001")

    assert fake.requests == []


def sent_query(fake: FakeRegistry, ending: str) -> dict[str, list[str]]:
    return parse_qs(fake.calls("GET", ending)[-1].url.query.decode())


def test_events_are_typed_and_go_through_all_pages(registry: Registry, fake: FakeRegistry) -> None:
    for number in range(1, 6):
        fake.add_event(seq=number, changes={"score": [0.5, None], "tags": [{"a": None}, {}]})

    events = list(registry.events())

    assert [event.seq for event in events] == [5, 4, 3, 2, 1]
    assert events[0].time == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert events[0].changes == {"score": (0.5, None), "tags": ({"a": None}, {})}
    assert (events[0].actor.name, events[0].actor.source_ip) == ("ci", None)


def test_an_event_in_json_is_what_the_server_said(registry: Registry, fake: FakeRegistry) -> None:
    told = fake.add_event(seq=1, about=[{"project_id": None, "project_name": "edge", "name": "detector"}])

    assert next(registry.events()).model_dump(mode="json") == told


def test_the_events_of_one_model_have_a_path_of_their_own(registry: Registry, fake: FakeRegistry) -> None:
    fake.add_event(seq=1, subject="MODEL#model-000000000001")
    fake.add_event(seq=1, subject="MODEL#model-000000000002")

    assert [event.subject for event in registry.events("model-000000000002", limit=5)] == ["MODEL#model-000000000002"]
    assert fake.requests[0].url.path.endswith("/models/model-000000000002/events")


def test_the_events_of_one_model_are_narrowed_further_among_all(registry: Registry, fake: FakeRegistry) -> None:
    list(registry.events("model-000000000001", since=NOW, action="version.updated", limit=7))

    assert sent_query(fake, "/events") == {
        "subject": ["MODEL#model-000000000001"], "since": ["2026-07-01T12:00:00.000000Z"],
        "action": ["version.updated"], "limit": ["7"],
    }  # fmt: skip


def test_a_time_without_zone_is_refused_before_any_request(registry: Registry, fake: FakeRegistry) -> None:
    with pytest.raises(InvalidInput, match="since has no time zone"):
        registry.events(since=datetime(2026, 1, 1))

    assert fake.requests == []


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2h", "2026-07-01T10:00:00.000000Z"),
        ("7d", "2026-06-24T12:00:00.000000Z"),
        (" 30m ", "2026-07-01T11:30:00.000000Z"),
        ("2026-01-31", "2026-01-31T00:00:00.000000Z"),
        ("2026-01-31T15:00:00+02:00", "2026-01-31T13:00:00.000000Z"),
        ("2026-01-31 15:00", "2026-01-31T15:00:00.000000Z"),
        ("0987-01-01", "0987-01-01T00:00:00.000000Z"),
    ],
)
def test_people_say_when_in_several_ways(text: str, moment: str) -> None:
    assert sent_moment("since", moment_of(text, NOW, sign=-1)) == moment


@pytest.mark.parametrize(
    "text", ["", "h", "-2h", "2y", "٣h", "999999999w", "31.1.2027", "2027-02-30", "0001-01-01T00:00+14:00"]
)
def test_what_is_no_time_is_refused_with_those_that_are(text: str) -> None:
    with pytest.raises(InvalidInput, match="no time") as caught:
        moment_of(text, NOW, sign=-1)

    assert "2h" in caught.value.hint


def test_a_length_of_time_can_lie_ahead() -> None:
    assert moment_of("30d", NOW, sign=1) == NOW + timedelta(days=30)


@pytest.mark.parametrize(
    ("login", "sent", "word"),
    [
        ({}, Sent.NOTHING, "No token was sent"),
        ({"token": TOKEN}, Sent.WHOLE, "expired"),
        ({"token": TOKEN[:-1]}, Sent.DAMAGED, "checksum"),
        ({"token": "of-a-gateway"}, Sent.WHOLE, "revoked"),
        ({"url": BASE.replace("//", f"//user:{TOKEN}@")}, Sent.WHOLE, "revoked"),
        ({"url": BASE.replace("//", f"//user:{TOKEN[:-1]}@")}, Sent.DAMAGED, "checksum"),
        ({"url": BASE.replace("//", f"//{TOKEN}@")}, Sent.WHOLE, "revoked"),
    ],
)
@pytest.mark.parametrize(
    "response",
    [
        problem(401, "unauthenticated", detail="The token X is expired."),
        httpx.Response(401, text="The token X is expired.\n"),
    ],
)
def test_who_is_not_let_in_hears_what_to_do(
    fake: FakeRegistry, patience: Patience, login: dict[str, Any], sent: Sent, word: str, response: httpx.Response
) -> None:
    error = refused_by(fake, patience, response, **login)

    assert isinstance(error, Unauthorized)
    assert (str(error), error.code, error.sent) == ("The token X is expired.", "unauthenticated", sent)
    assert word in error.hint
    assert "modelreg login" in error.hint


def test_who_may_not_hears_the_servers_words(fake: FakeRegistry, patience: Patience) -> None:
    words = "This needs a token of role admin; yours is of role viewer."

    error = refused_by(fake, patience, problem(403, "forbidden", detail=words))

    assert (type(error), str(error)) == (Forbidden, words)


def test_a_repetition_that_comes_too_soon_or_changed_has_errors_of_its_own() -> None:
    busy = problem(409, "in_progress")
    busy.headers["Retry-After"] = "2"

    soon, changed = error_of(busy), error_of(problem(422, "idempotency_key_reused"))

    assert isinstance(soon, InProgress)
    assert soon.retry_after_seconds == 2.0
    assert isinstance(changed, IdempotencyKeyReused)


@pytest.mark.parametrize(
    "login",
    [{"token": TOKEN}, {"url": BASE.replace("//", f"//user:{TOKEN}@")}, {"url": BASE.replace("//", f"//{TOKEN}@")}],
)
@pytest.mark.parametrize(
    "fault",
    [
        problem(401, "unauthenticated"), problem(403, "forbidden"), httpx.ReadError("reset"), httpx.ConnectError("no"),
        httpx.Response(200, text="<html>", headers={"Content-Type": "text/html"}), httpx.Response(200, json=[1]),
        httpx.Response(302, headers={"Location": "https://portal.test/"}),
    ],
    ids=str,
)  # fmt: skip
def test_a_token_is_in_no_error_log_or_traceback(
    fake: FakeRegistry, patience: Patience, caplog: pytest.LogCaptureFixture, login: dict[str, Any], fault: Any
) -> None:
    fake.fail("GET", "/tokens", *[fault] * 5)

    with (
        caplog.at_level(logging.DEBUG),
        Registry(**{"url": BASE, **login}, transport=fake.transport, patience=patience) as registry,
        pytest.raises(RegistryError) as caught,
    ):
        list(registry.tokens())

    error = caught.value
    assert error.__traceback__
    error.with_traceback(error.__traceback__.tb_next)  # without the frame of this test, which knows the token
    locals_too = traceback.TracebackException.from_exception(error, capture_locals=True)
    shown = [*locals_too.format(), caplog.text, repr(error), error.hint, repr(registry), repr(vars(error))]
    assert TOKEN[-20:] not in "".join(shown)


@pytest.mark.parametrize("url", ["https://a%0Ab@h", "https://gr%C3%BCn@h", "https://two%20words@h"])
def test_a_token_in_a_url_that_is_none_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(InvalidInput, match="characters that no token has") as caught:
        Registry(url)

    assert not any(word in str(caught.value) for word in ("grün", "words", "\n"))


@pytest.mark.parametrize("login", [{"token": TOKEN}, {"url": BASE.replace("//", f"//user:{TOKEN}@")}])
@pytest.mark.parametrize("storage", ["https://s3.test", BASE])
def test_s3_never_hears_of_the_token_even_at_the_registrys_own_address(
    patience: Patience, tmp_path: Any, login: dict[str, Any], storage: str
) -> None:
    heard: dict[str, httpx.Headers] = {}
    model = {"id": "model-000000000001", "name": "detector", "version": "v1", "size": 5, "file_url": "s3://b/a/m.bin"}

    def answer(request: httpx.Request) -> httpx.Response:
        heard[f"{request.url.host}{request.url.path}"] = request.headers
        if request.url.path.endswith("/files"):
            return httpx.Response(307, text="follow", headers={"Location": f"{storage}/object?X-Amz-Signature=1"})
        if request.url.path.endswith("/object"):
            return httpx.Response(206, content=b"bytes", headers={"Content-Range": "bytes 0-4/5"})
        return httpx.Response(200, json=model)

    transport = httpx.MockTransport(answer)
    with Registry(**{"url": BASE, **login}, transport=transport, patience=patience) as registry:
        registry.download("model-000000000001", tmp_path)

    with_token = [place for place, headers in heard.items() if "authorization" in headers]
    assert sorted(with_token) == [
        "registry.test/prod/api/models/model-000000000001",
        "registry.test/prod/api/models/model-000000000001/files",
    ]
    assert len(heard) == 3


def test_a_busy_registry_makes_one_token_only(registry: Registry, fake: FakeRegistry, waits: Waits) -> None:
    fake.fail("POST", "/tokens", problem(503, "unavailable"), None)

    registry.create_token("ci", "viewer")

    assert (len(fake.tokens), len(waits.seconds)) == (1, 1)
