"""Log lines and metrics: every one as docs/log-lines.schema.json tells, whatever is in it, and no secret among them."""

import json
from typing import Any

import pytest

from chalicelib import telemetry
from chalicelib.registry.access import Actor, Role
from chalicelib.registry.audit import Action
from chalicelib.registry.errors import Unavailable
from chalicelib.registry.sweeping import Swept
from tests.conftest import draft
from tests.log_lines import Line, captured

TOKEN_ID = "01K9ZZB2M3N4P5Q6R7S8T9V0WX"
SECRET = f"mr_{TOKEN_ID}_{'s3cReT' * 8}A"
CI = Actor(
    kind="token",
    name="ci",
    request_id="r-1",
    source_ip="192.0.2.1",
    user_agent="curl/8",
    token_id=TOKEN_ID,
    role=Role.PUBLISHER,
    idempotency="9f86d081",
)
HOSTILE = [
    'x"}\n{"message":"audit","action":"token.created","actor":"root"}',
    "\r\n2026-01-01 forged line",
    "\x1b[2J\x1b]0;title\x07\x9b31m",
    "\u2028\u2029\x85\x0b\x0c",
    "\u202egpj.exe\u200b\ufeff",
    "\ud800\udfff\x00\x7f",
    "}}}]]]\\\\\"'",
    "模型 modèle 🤖",
    "%s %d {0} {name}",
    "x" * 1_000_000,
    "🤖" * 300,
]


def request_line(**fields: Any) -> None:
    line = {"operation": "get_model", "method": "GET", "subject": "model-1", "actor": CI}
    telemetry.request_line(**line | {"outcome": "ok", "status": 200, "latency_ms": 1.26} | fields)


def logged(message: str, lines: list[Line]) -> Line:
    [line] = [line for line in lines if line.get("message") == message]
    return line


def test_the_line_of_a_request_says_who_asked_for_what_and_how_it_ended() -> None:
    with captured() as lines:
        request_line()

    line = logged("request", lines)
    assert {name: line[name] for name in ("operation", "method", "subject", "outcome", "status", "latency_ms")} == {
        "operation": "get_model",
        "method": "GET",
        "subject": "model-1",
        "outcome": "ok",
        "status": 200,
        "latency_ms": 1.3,
    }
    assert (line["actor"], line["actor_kind"], line["token_id"], line["role"]) == ("ci", "token", TOKEN_ID, "publisher")
    assert (line["source_ip"], line["user_agent"], line["request_id"]) == ("192.0.2.1", "curl/8", "r-1")
    assert line["idempotency"] == "9f86d081"


def test_what_there_is_not_is_left_out() -> None:
    with captured() as lines:
        request_line(actor=Actor(), subject=None)

    assert not logged("request", lines).keys() & {"subject", "token_id", "role", "user_agent", "idempotency", "reason"}


@pytest.mark.parametrize("outcome", ["unauthenticated", "forbidden"])
def test_a_denial_says_why(outcome: str) -> None:
    with captured() as lines:
        request_line(outcome=outcome, status=403, reason="This needs a token of role admin.")

    assert logged("request", lines)["reason"] == "This needs a token of role admin."


def test_another_error_is_told_by_its_code_alone_because_its_text_may_repeat_what_was_sent() -> None:
    with captured() as lines:
        request_line(outcome="invalid_input", status=422, reason="bf99 is not a supported precision.")

    assert "reason" not in logged("request", lines)


def test_the_line_of_a_change_says_who_changed_what_from_what_to_what() -> None:
    before = draft(score=0.5)

    with captured() as lines:
        telemetry.audit_line(Action.VERSION_UPDATED, _Version(before), _Version(draft(score=0.75)), CI)  # type: ignore[arg-type]

    line = logged("audit", lines)
    assert (line["action"], line["subject"], line["changes"]) == ("version.updated", before.id, {"score": [0.5, 0.75]})
    assert (line["actor"], line["token_id"], line["role"], line["user_agent"]) == (
        "ci",
        TOKEN_ID,
        "publisher",
        "curl/8",
    )


class _Version:
    """A draft that has a trail."""

    def __init__(self, stated: Any) -> None:
        self._stated = stated
        self.subject = stated.id

    def model_dump(self, **how: Any) -> dict[str, Any]:
        return dict(self._stated.model_dump(**how))


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:12]))
def test_no_value_can_end_its_line_or_make_another(text: str) -> None:
    actor = CI.model_copy(update={"name": text, "user_agent": text})

    with captured() as lines:
        request_line(subject=text, actor=actor, outcome="forbidden", reason=text)
        telemetry.audit_line(Action.VERSION_UPDATED, None, _Version(draft(description=text)), actor)  # type: ignore[arg-type]
        telemetry.leftover_line("object_left_behind", text)
        telemetry.bug_line(ValueError(text), "r-1")
        telemetry.unavailable_line(Unavailable(text), "r-1")

    assert max(len(json.dumps(line)) for line in lines) < 256_000  # CloudWatch takes no longer line in one piece
    messages = [line.get("message", "metrics") for line in lines]
    assert messages == ["request", "metrics", "audit", "object_left_behind", "unexpected_error", "unavailable"]


@pytest.mark.parametrize("text", [text for text in HOSTILE if len(text) <= 256], ids=lambda text: ascii(text[:12]))
def test_a_value_of_256_characters_is_logged_as_it_is_but_for_what_is_no_text(text: str) -> None:
    with captured() as lines:
        request_line(subject=text)

    assert logged("request", lines)["subject"] == text.encode(errors="replace").decode()


def test_a_longer_value_is_logged_by_its_beginning() -> None:
    with captured() as lines:
        request_line(subject="x" * 257, actor=CI.model_copy(update={"user_agent": "u" * 5000}))

    line = logged("request", lines)
    assert line["subject"] == "x" * 256 + "…"
    assert len(line["user_agent"]) == 257


@pytest.mark.parametrize(
    "text",
    [
        SECRET,
        f"Bearer {SECRET}",
        f"Authorization: bearer {SECRET[:60]}",
        "Basic dXNlcjpteS1zZWNyZXQtdG9rZW4=",
        "https://b.s3.amazonaws.com/k?X-Amz-Security-Token=s3cReT&X-Amz-Credential=s3cReT&X-Amz-Signature=s3cReT&x=1",
        "x-amz-signature=s3cReT",
        "GETI_TOKEN=geti_pat_s3cReTs3cReTs3cReTs3cReTs3cReTs3cReTs3c_abcdef",
    ],
)
def test_a_secret_that_got_into_a_text_does_not_get_into_the_log(text: str) -> None:
    with captured() as lines:
        request_line(subject=text, outcome="unauthenticated", reason=text, actor=CI.model_copy(update={"name": text}))
        telemetry.bug_line(ValueError(text))

    written = json.dumps(lines)
    assert "s3cReT" not in written
    assert "dXNlcjpteS1z" not in written
    assert "[secret]" in written


@pytest.mark.parametrize("text", ["Basic detector", "Bearer of news", "mr_smith", TOKEN_ID, "a normal name"])
def test_what_only_resembles_a_secret_is_logged(text: str) -> None:
    with captured() as lines:
        request_line(subject=text)

    assert logged("request", lines)["subject"] == text


def test_a_request_is_counted_and_timed_by_operation_and_outcome() -> None:
    with captured() as lines:
        request_line()

    assert dimensions_of(lines[1]) == [{"operation", "outcome", "service"}]
    assert (lines[1]["operation"], lines[1]["outcome"], lines[1]["Requests"]) == ("get_model", "ok", [1.0])


@pytest.mark.parametrize("outcome", telemetry.DENIALS)
def test_a_denial_is_counted_over_all_operations_too(outcome: str) -> None:
    with captured() as lines:
        request_line(outcome=outcome)
        request_line()

    assert dimensions_of(lines[1]) == [{"operation", "outcome", "service"}, {"outcome", "service"}]
    assert dimensions_of(lines[3]) == [{"operation", "outcome", "service"}]


def test_a_sweep_has_a_line_a_metric_for_each_count_and_a_line_for_each_bug() -> None:
    with captured() as lines:
        telemetry.sweep_line(Swept(failed=2).model_dump(), [KeyError("x"), ValueError("y")])

    assert [line.get("message") for line in lines] == ["unexpected_error", "unexpected_error", "sweep", None]
    assert (logged("sweep", lines)["failed"], lines[-1]["Failed"]) == (2, [2.0])


def dimensions_of(metrics: Line) -> list[set[str]]:
    [directive] = metrics["_aws"]["CloudWatchMetrics"]
    return [set(names) for names in directive["Dimensions"]]
