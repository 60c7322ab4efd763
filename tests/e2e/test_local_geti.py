"""`make run` with Geti: when the sync runs, where the token is not, and what becomes of messages that wait."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.stack import Stack

TOKEN = "geti_pat_Q3J5c3RhbGxpbmUgbGF0dGljZQ"
# Nobody is there, and nobody is asked: the sync does not come while this is tested.
SERVER = {"GETI_HOST": "http://127.0.0.1:1", "GETI_SYNC_SCHEDULE": "rate(7 days)"}


@pytest.fixture(scope="module")
def with_geti(new_stack: Callable[[], Stack]) -> Stack:
    stack = new_stack()
    stack.start(GETI_TOKEN=TOKEN, **SERVER)
    return stack


def sync_rule(stack: Stack) -> tuple[str, str]:
    [rule] = [rule for rule in stack.aws("events").list_rules()["Rules"] if "SyncEvent" in rule["Name"]]
    return rule["ScheduleExpression"], rule["State"]


def queued(stack: Stack, queue: str) -> dict[str, int]:
    names = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesDelayed")
    told = stack.aws("sqs").get_queue_attributes(QueueUrl=stack.function(queue), AttributeNames=names)
    return {name.removeprefix("ApproximateNumberOf"): int(value) for name, value in told["Attributes"].items()}


def scheduled_event(**detail: Any) -> bytes:
    event = {"version": "0", "id": "1", "detail-type": "Scheduled Event", "source": "test", "account": "000000000000"}
    event |= {"time": "2026-01-02T03:04:05Z", "region": "us-east-1"}
    return json.dumps({**event, "resources": [], "detail": detail}).encode()


def test_without_a_server_the_sync_has_no_schedule_and_does_nothing_if_it_is_started(stack: Stack):
    answer = stack.aws("lambda").invoke(FunctionName=stack.function("Sync"), Payload=scheduled_event())

    with answer["Payload"] as body:
        outcome = json.loads(body.read())
    assert "FunctionError" not in answer, outcome
    assert sync_rule(stack) == ("rate(15 minutes)", "DISABLED")
    assert queued(stack, "ImportQueue") == {"Messages": 0, "MessagesDelayed": 0}


def test_with_a_server_the_sync_has_the_schedule_that_was_given(with_geti: Stack):
    assert sync_rule(with_geti) == ("rate(7 days)", "ENABLED")


def test_the_token_of_geti_is_in_no_file_and_shown_by_no_function(with_geti: Stack):
    functions = with_geti.aws("lambda").list_functions()["Functions"]

    assert functions
    assert TOKEN not in json.dumps(functions, default=str)
    assert files_with(TOKEN, with_geti.data_dir) == []


def files_with(text: str, directory: Path) -> list[Path]:
    files = [path for path in directory.rglob("*") if path.is_file()]
    assert any(path.name == "deployed-template.json" for path in files)
    return [path for path in files if text.encode() in path.read_bytes()]


def test_after_a_stop_a_message_still_waits_and_another_token_needs_no_deployment(with_geti: Stack):
    sqs, queue = with_geti.aws("sqs"), with_geti.function("ImportQueue")
    sqs.send_message(QueueUrl=queue, MessageBody="{}", DelaySeconds=900)

    with_geti.stop()
    left_by_the_stop = files_with(TOKEN, with_geti.data_dir)
    with_geti.start(GETI_TOKEN="geti_pat_another", **SERVER)

    assert "Deploying" not in with_geti.said
    assert left_by_the_stop == []
    assert queued(with_geti, "ImportQueue") == {"Messages": 0, "MessagesDelayed": 1}
    assert queued(with_geti, "ImportDeadLetters") == {"Messages": 0, "MessagesDelayed": 0}
