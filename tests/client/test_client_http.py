"""Answers and refusals of the registry, as typed answers and errors; and where credentials go."""

import base64
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
from modelreg import (
    Conflict,
    ConnectionFailed,
    Forbidden,
    InvalidArchive,
    InvalidInput,
    LocalError,
    NotARegistry,
    NotFound,
    Registry,
    RegistryError,
    StaleRevision,
    Throttled,
    TooLarge,
    Unauthorized,
    Unavailable,
    UploadClosed,
    UploadIncomplete,
)
from modelreg.answers import error_of
from modelreg.http import split_credentials
from modelreg.retry import Attempts, Patience, Pulse, retry_after_seconds
from modelreg.storage import Storage, StorageRefusal
from modelreg.transfer import JOIN_SECONDS, join_soon

from tests.client.conftest import Waits
from tests.client.fake_registry import BASE, FakeRegistry, problem

MODEL = {"id": "model-000000000001", "name": "detector", "version": "v1"}
HTML = {"Content-Type": "text/html; charset=utf-8"}
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def answering(patience: Patience) -> Callable[..., Registry]:
    """A registry that gives these answers in turn, the last one for ever."""

    def build(*answers: httpx.Response | Exception, url: str = BASE, token: str | None = None) -> Registry:
        left = list(answers)

        def handle(_: httpx.Request) -> httpx.Response:
            answer = left.pop(0) if len(left) > 1 else left[0]
            if isinstance(answer, Exception):
                raise answer
            return answer

        return Registry(url, token, transport=httpx.MockTransport(handle), patience=patience)

    return build


def refusal(response: httpx.Response) -> RegistryError:
    response.request = httpx.Request("GET", f"{BASE}/models?page_token=1")
    return error_of(response)


@pytest.mark.parametrize(
    ("response", "kind", "attributes"),
    [
        (problem(409, "conflict", holder="m", upload_id="u"), Conflict, {"holder": "m", "upload_id": "u"}),
        (problem(409, "upload_closed", state="EXPIRED"), UploadClosed, {"state": "EXPIRED"}),
        (problem(412, "stale_revision"), StaleRevision, {}),
        (problem(413, "too_large"), TooLarge, {}),
        (problem(422, "invalid_input", field="score"), InvalidInput, {"field": "score"}),
        (problem(400, "unsupported_precision"), InvalidInput, {"code": "unsupported_precision"}),
        (problem(422, "invalid_archive"), InvalidArchive, {}),
        (problem(422, "upload_incomplete", parts=[3, 4]), UploadIncomplete, {"parts": (3, 4)}),
        (problem(404, "not_found"), NotFound, {}),
        (problem(503, "outcome_unknown"), Unavailable, {"code": "outcome_unknown"}),
        (problem(500, "internal"), RegistryError, {"code": "internal"}),
        (problem(401, "unauthorized"), Unauthorized, {}),
        (problem(403, "forbidden"), Forbidden, {}),
        (httpx.Response(429, text="slow", headers={"Retry-After": "3"}), Throttled, {"retry_after_seconds": 3.0}),
        (httpx.Response(404, text="Model not found.\n"), NotFound, {}),
        (
            httpx.Response(409, text="The requested action could not be completed due to a conflict with model 'abc'."),
            Conflict,
            {"holder": "abc", "upload_id": None},
        ),
        (httpx.Response(403, json={"message": "Missing Authentication Token"}), NotARegistry, {}),
        (httpx.Response(404, json={"message": "Not Found"}), NotARegistry, {}),
        (httpx.Response(403, json={"message": "Forbidden"}), Forbidden, {}),
        (httpx.Response(404, text="<html>", headers=HTML), NotARegistry, {}),
        (httpx.Response(502, text="<html>", headers=HTML), Unavailable, {}),
        (httpx.Response(401, text="<html>", headers=HTML), Unauthorized, {}),
        (httpx.Response(413, text="<html>", headers=HTML), TooLarge, {}),
        (problem(422, "upload_incomplete", parts=5), UploadIncomplete, {"parts": ()}),
        (problem(409, "conflict", holder=1, upload_id=["a"]), Conflict, {"holder": None, "upload_id": None}),
        (problem(422, "invalid_input", field={}), InvalidInput, {"field": None}),
        (httpx.Response(422, json={"detail": [{"loc": None, "msg": "bad"}]}), InvalidInput, {}),
        (httpx.Response(422, json={"detail": "", "errors": 5}), InvalidInput, {}),
        (httpx.Response(503, headers={"Retry-After": b"\xb2"}), Unavailable, {"retry_after_seconds": None}),
        (httpx.Response(418, text="teapot"), InvalidInput, {}),
        (httpx.Response(400, content=b"[1]", headers=JSON), InvalidInput, {}),
        (httpx.Response(400, content=b"{", headers=JSON), InvalidInput, {}),
    ],
    ids=str,
)
def test_a_refusal_is_an_error_of_its_own(
    response: httpx.Response, kind: type[RegistryError], attributes: dict[str, Any]
) -> None:
    error = refusal(response)

    assert type(error) is kind
    assert {name: getattr(error, name) for name in attributes} == attributes
    assert error.hint


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"detail": "overview is not a valid JSON object."}, "overview is not a valid JSON object."),
        ({"detail": [{"loc": ["body", "name"], "msg": "must not be blank"}]}, "name: must not be blank"),
        (
            {"detail": "", "errors": [{"loc": ["body", "labels", 0], "msg": "bad"}, {"loc": ["body"], "msg": "worse"}]},
            "labels.0: bad; worse",
        ),
        ({"status": "error", "message": "Invalid request."}, "Invalid request."),
        ({}, "The registry answered 422 Unprocessable Entity."),
    ],
)
def test_an_error_says_what_the_server_said(body: dict[str, Any], text: str) -> None:
    assert str(refusal(httpx.Response(422, json=body))) == text


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, text="<html>log in</html>", headers=HTML),
        httpx.Response(200, json={"hello": "world"}),
        httpx.Response(200, json=[1]),
        httpx.Response(200, content=b""),
        httpx.Response(302, headers={"Location": "https://portal.test/login?next=secret"}),
    ],
    ids=["HTML", "another object", "a list", "nothing", "a redirect"],
)
def test_what_is_no_registry_is_named_without_credentials(
    answering: Callable[..., Registry], answer: httpx.Response
) -> None:
    registry = answering(answer, url="https://user:hidden@registry.test/prod/")

    with pytest.raises(NotARegistry, match=r"https://registry\.test/prod") as caught:
        registry.get("model-000000000001")

    assert "hidden" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_health_knows_a_registry(answering: Callable[..., Registry]) -> None:
    answering(httpx.Response(200, json={"status": "ok"})).health()

    with pytest.raises(NotARegistry):
        answering(httpx.Response(200, json={"status": "tired"})).health()


@pytest.mark.parametrize(
    ("url", "token", "base", "authorization"),
    [
        ("https://h/a/", "t", "https://h/a", "Bearer t"),
        ("https://h:8443", None, "https://h:8443", None),
        ("http://[::1]:80/x?y=1#z", None, "http://[::1]:80/x", None),
        ("https://u:p%40ss@h", None, "https://h", f"Basic {base64.b64encode(b'u:p@ss').decode()}"),
        ("https://u:p@h", "t", "https://h", "Bearer t"),
        ("https://tok@h", None, "https://h", "Bearer tok"),
    ],
)
def test_credentials_are_split_from_the_url(url: str, token: str | None, base: str, authorization: str | None) -> None:
    assert split_credentials(url, token) == (base, authorization)


@pytest.mark.parametrize("url", ["", "registry.test", "ftp://h", "https://", "https://h:port", "https://[::1"])
def test_a_url_that_is_none_is_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(InvalidInput, match="http") as caught:
        Registry(f"{url}", "secret")

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("token", ["two words", "grün", "a\nb"])
def test_a_token_that_is_none_is_refused_without_being_shown(token: str) -> None:
    with pytest.raises(InvalidInput, match="token") as caught:
        Registry(BASE, token)

    assert token not in str(caught.value)


def test_neither_token_nor_presigned_url_is_shown_or_logged(
    fake: FakeRegistry, registry: Registry, tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    fake.add_model(b"small", id="model-000000000001")

    with caplog.at_level(logging.DEBUG):
        registry.download("model-000000000001", tmp_path)

    assert "secret" not in caplog.text
    assert "secret" not in repr(registry)
    assert "secret" not in repr(registry._api)


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """The first line of each request that a proxy heard; it refuses them all."""
    heard: list[bytes] = []

    def serve(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection:
                    heard.append(connection.recv(65536).partition(b"\r\n")[0])
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        monkeypatch.setenv("HTTPS_PROXY", url)
        monkeypatch.setenv("HTTP_PROXY", url)
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        yield heard
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("https://s3.test/b/k?X-Amz-Credential=a%2Fb&X-Amz-Signature=secret", b"CONNECT s3.test:443 HTTP/1.1"),
        (
            "http://s3.test/b/k?X-Amz-Credential=a%2Fb&X-Amz-Signature=sign",
            b"GET http://s3.test/b/k?X-Amz-Credential=a%2Fb&X-Amz-Signature=sign HTTP/1.1",
        ),
    ],
)
def test_a_proxy_hears_no_more_of_a_presigned_url_than_it_must(proxy: list[bytes], url: str, line: bytes) -> None:
    storage = Storage(timeout_seconds=5, parallel=1)

    with pytest.raises(StorageRefusal), storage.get(url, 0, 1):
        pass
    storage.close()

    assert proxy == [line]


@pytest.mark.parametrize("name", ["httpx", "httpcore.http11", "httpcore.connection", "httpcore.proxy"])
def test_the_query_of_a_url_is_cut_from_every_line_of_the_log(name: str, caplog: pytest.LogCaptureFixture) -> None:
    url = "https://s3.test/b/k?X-Amz-Signature=secret"

    with caplog.at_level(logging.DEBUG):
        logging.getLogger(name).debug("headers %r of %s", [(b"Location", url.encode()), (b"ETag", b"1")], url)

    assert caplog.messages == [
        "headers [(b'Location', b'https://s3.test/b/k?...'), (b'ETag', b'1')] of https://s3.test/b/k?..."
    ]


def test_the_token_goes_to_the_registry(fake: FakeRegistry, registry: Registry) -> None:
    fake.add_model(b"small", id="model-000000000001")

    registry.get("model-000000000001")

    assert fake.requests[0].headers["authorization"] == "Bearer secret-token"
    assert fake.requests[0].url == f"{BASE}/models/model-000000000001"


@pytest.mark.parametrize("identifier", ["", ".", ".."])
def test_an_id_that_would_lead_elsewhere_is_refused(registry: Registry, identifier: str) -> None:
    with pytest.raises(InvalidInput):
        registry.get(identifier)


def test_an_id_stays_one_segment_of_the_path(fake: FakeRegistry, registry: Registry) -> None:
    with pytest.raises(NotFound):
        registry.get("../uploads?x#y")

    assert fake.requests[0].url.raw_path == b"/prod/api/models/..%2Fuploads%3Fx%23y"


def test_a_server_that_cannot_be_reached_is_named_after_a_few_tries(
    answering: Callable[..., Registry], waits: Waits
) -> None:
    registry = answering(httpx.ConnectError("Connection refused"))

    with pytest.raises(
        ConnectionFailed, match=r"https://registry\.test/prod/api cannot be reached: Connection refused"
    ):
        registry.get("model-000000000001")

    assert waits.seconds == [0.2, 0.4, 0.8, 1.6]


def test_a_server_that_is_busy_is_waited_for_as_it_asks(answering: Callable[..., Registry], waits: Waits) -> None:
    busy = httpx.Response(503, text="busy", headers={"Retry-After": "9"})

    model = answering(busy, busy, httpx.Response(200, json=MODEL)).get("model-000000000001")

    assert model.name == "detector"
    assert waits.seconds == [9.0, 9.0]


def test_what_the_operator_must_mend_is_not_tried_again(answering: Callable[..., Registry], waits: Waits) -> None:
    with pytest.raises(Unavailable, match="refused") as caught:
        answering(problem(503, "not_configured")).get("model-000000000001")

    assert caught.value.code == "not_configured"
    assert waits.seconds == []


def test_a_conditional_change_whose_answer_was_lost_is_not_repeated(
    answering: Callable[..., Registry], waits: Waits
) -> None:
    registry = answering(httpx.ReadError("reset"), httpx.Response(200, json=MODEL))

    with pytest.raises(ConnectionFailed):
        registry.update("model-000000000001", score=1, if_revision=3)

    assert waits.seconds == []


def test_a_conditional_change_that_was_not_begun_is_repeated(answering: Callable[..., Registry], waits: Waits) -> None:
    done, model = httpx.Response(200, json={"status": "completed"}), httpx.Response(200, json=MODEL)
    registry = answering(httpx.ConnectError("refused"), problem(503, "unavailable"), done, model)

    registry.update("model-000000000001", score=1, if_revision=3)

    assert len(waits.seconds) == 2


def test_a_deletion_whose_answer_was_lost_is_done(answering: Callable[..., Registry]) -> None:
    answering(httpx.ReadError("reset"), httpx.Response(404, text="Model not found.\n")).delete("model-000000000001")


def test_a_deletion_of_nothing_is_not_found(answering: Callable[..., Registry]) -> None:
    with pytest.raises(NotFound):
        answering(httpx.Response(404, text="Model not found.\n")).delete("model-000000000001")


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(301, headers={"Location": "https://elsewhere.test/"}),
        httpx.Response(200, text="<html>log in</html>", headers=HTML),
    ],
)
@pytest.mark.parametrize(
    "change",
    [
        lambda registry: registry.delete("model-000000000001"),
        lambda registry: registry.abort_upload("upload-1"),
        lambda registry: registry.update("model-000000000001", score=1),
    ],
)
def test_a_change_that_no_registry_confirmed_is_not_done(
    answering: Callable[..., Registry], change: Callable[[Registry], None], answer: httpx.Response
) -> None:
    with pytest.raises(NotARegistry):
        change(answering(answer, httpx.Response(200, json=MODEL)))


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None), ("", None), ("5", 5.0), ("soon", None), ("Wed, 21 Oct 2015 07:28:10 GMT", 10.0),
        ("Wed, 21 Oct 2015 07:27:00 GMT", 0.0),
    ],
)  # fmt: skip
def test_retry_after_is_read_in_both_its_forms(header: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(header, now=lambda: 1445412480.0) == seconds


def test_threads_that_hang_are_waited_for_together() -> None:
    waits = Waits()

    class Hanging(threading.Thread):
        def join(self, timeout: float | None = None) -> None:
            waits.seconds.append(timeout or 0.0)

    join_soon([Hanging(), Hanging(), Hanging()], waits.clock)

    assert waits.seconds == [JOIN_SECONDS, 0.0, 0.0]


def test_waits_have_full_jitter_and_a_cap() -> None:
    patience = Patience(jitter=lambda: 0.5)

    assert [patience.pause_seconds(failures) for failures in (1, 2, 3, 7, 8, 100)] == [0.1, 0.2, 0.4, 6.4, 10.0, 10.0]
    assert patience.pause_seconds(1, retry_after=100_000) == 120.0


def test_a_transfer_gives_up_when_nothing_gets_through_for_minutes(waits: Waits, patience: Patience) -> None:
    pulse = Pulse(patience)
    waits.seconds.append(1000.0)

    attempts = Attempts(patience, most=1000, pulse=pulse)
    with pytest.raises(ConnectionFailed):
        fail_for_ever(attempts)

    assert 300 < waits.clock() - 1000 < 330


def test_a_transfer_goes_on_as_long_as_another_part_gets_through(waits: Waits, patience: Patience) -> None:
    pulse = Pulse(patience)
    attempts = Attempts(patience, most=1000, pulse=pulse)

    for _ in range(100):
        attempts.failed(ConnectionFailed("no"))
        pulse.beat()

    assert waits.clock() > 1000


def fail_for_ever(attempts: Attempts) -> None:
    while True:
        attempts.failed(ConnectionFailed("no"))


def test_settings_that_no_network_has_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "nonsense://user:hidden@proxy")

    with pytest.raises(LocalError, match="set up") as caught:
        Registry(BASE)

    assert "HTTPS_PROXY" in caught.value.hint
    assert "hidden" not in str(caught.value)
