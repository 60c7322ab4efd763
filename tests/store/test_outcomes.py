"""Outcomes of requests with an Idempotency-Key on DynamoDB in memory: who runs, who waits, and what is kept."""

import itertools
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from chalicelib.registry.errors import (
    Conflict,
    InProgress,
    InvalidInput,
    KeyReused,
    OutcomeUnknown,
    RegistryError,
    Unavailable,
)
from chalicelib.registry.repetition import Outcome
from chalicelib.store.outcomes import DynamoOutcomes
from chalicelib.store.schema import bind
from chalicelib.store.transactions import Retry
from tests.store.faults import (
    Crash,
    connection_lost,
    not_connected,
    nothing,
    one_call_at_a_time,
    throttled,
    timed_out,
    watched_calls,
)

KEY = ("anonymous", "POST", "/models", "k-1")
CONTENT = {"fields": {"name": "cat"}, "files": {"file": ["m.zip", "0" * 64]}}
MADE = Outcome(status=201, id="model-cat-v10000")
DAY = 24 * 60 * 60


@dataclass(frozen=True)
class Left:
    """How long a function has; less than nothing stands for one that is over by the time somebody looks."""

    milliseconds: int = 29_000

    def get_remaining_time_in_millis(self) -> int:
        return self.milliseconds


@dataclass
class Work:
    """What a request does, how often it did it, and what it came to each time."""

    results: list[Outcome | BaseException] = field(default_factory=lambda: [MADE])
    runs: int = 0

    def __call__(self) -> Outcome:
        result = self.results[min(self.runs, len(self.results) - 1)]
        self.runs += 1
        if isinstance(result, BaseException):
            raise result
        return result


@dataclass
class Requests:
    """Requests of one key and content unless told otherwise."""

    outcomes: DynamoOutcomes
    reported: list[tuple[str, str]]

    def __call__(
        self,
        work: Callable[[], Outcome],
        key: tuple[str, ...] = KEY,
        content: Mapping[str, Any] = CONTENT,
        left: int = 29_000,
    ) -> Outcome:
        return self.outcomes.once(key, content, work, Left(left))


@pytest.fixture
def requests(aws: None) -> Requests:
    bind("RegistryTable", "EventsTable")
    reported: list[tuple[str, str]] = []
    ticks = itertools.count()
    # Time that passes by looking at it: nobody waits, and whoever tries for ever gives up.
    retry = Retry(seconds=20, monotonic=lambda: float(next(ticks)), sleep=lambda _: None, jitter=lambda low, high: 0)
    return Requests(DynamoOutcomes(lambda event, what: reported.append((event, what)), retry), reported)


def rows() -> list[dict[str, Any]]:
    return list(boto3.client("dynamodb").scan(TableName="RegistryTable")["Items"])


def set_row(**times: int) -> None:
    """Change the times of the one row, as their passing would."""
    [row] = rows()
    values = {name: {"N": str(value)} for name, value in times.items()}
    boto3.client("dynamodb").put_item(TableName="RegistryTable", Item=row | values)


def failing(operation: str, fault: Callable[[str], Exception], times: int = 1_000) -> Callable[[str, int], None]:
    """Makes the next calls of an operation fail, so many of them."""
    left = [times]

    def hook(name: str, _: int) -> None:
        if name == operation and left[0]:
            left[0] -= 1
            raise fault(name)

    return hook


def denied(operation: str) -> ClientError:
    answer = {"Error": {"Code": "AccessDeniedException"}, "ResponseMetadata": {"HTTPStatusCode": 400}}
    return ClientError(answer, operation)


def test_what_was_done_is_not_done_again_but_told_again(requests: Requests) -> None:
    work = Work()

    first, second = requests(work), requests(work)

    assert first == second == MADE
    assert work.runs == 1


def test_a_conflict_is_an_outcome_with_its_holder_and_upload(requests: Requests) -> None:
    met = Outcome.of_conflict(Conflict("model-dog-v10000", "01K0000000000000000000000A"))
    requests(Work([met]))

    again = requests(Work([MADE]))

    assert again == met
    assert again.conflict
    assert (again.conflict.holder, again.conflict.upload_id) == ("model-dog-v10000", "01K0000000000000000000000A")


def test_a_key_with_another_content_is_refused_whether_the_first_is_done_or_runs(requests: Requests) -> None:
    other = {"fields": {"name": "dog"}}

    def meanwhile() -> Outcome:
        with pytest.raises(KeyReused):
            requests(Work(), content=other)
        return MADE

    requests(meanwhile)
    work = Work()
    with pytest.raises(KeyReused):
        requests(work, content=other)

    assert work.runs == 0
    assert requests(Work()) == MADE


@pytest.mark.parametrize("place", range(4), ids=["token", "method", "path", "key"])
def test_requests_that_differ_in_anything_have_nothing_to_do_with_each_other(requests: Requests, place: int) -> None:
    requests(Work())
    other = Outcome(status=201, id="model-dog-v10000")
    key = tuple("other" if number == place else part for number, part in enumerate(KEY))

    assert requests(Work([other]), key=key, content={"other": 1}) == other
    assert len(rows()) == 2


def test_parts_of_a_key_that_run_together_are_told_apart(requests: Requests) -> None:
    requests(Work(), key=("a", "POST", "/models", "b,c"))
    work = Work()

    requests(work, key=("a", "POST", "/models,b", "c"), content={"other": 1})

    assert work.runs == 1


def test_of_two_at_once_one_runs_and_the_other_is_told_so_and_then_the_same(requests: Requests) -> None:
    told: list[Outcome | RegistryError] = []
    runs, is_running, may_end = Work(), threading.Event(), threading.Event()

    def slow() -> Outcome:
        is_running.set()
        assert may_end.wait(10)
        return runs()

    with one_call_at_a_time():
        first = threading.Thread(target=lambda: told.append(requests(slow)))
        first.start()
        assert is_running.wait(10)
        with pytest.raises(InProgress):
            requests(runs)
        may_end.set()
        first.join(10)
        told.append(requests(runs))

    assert told == [MADE, MADE]
    assert runs.runs == 1


def test_of_many_at_once_exactly_one_runs(requests: Requests) -> None:
    work, told = Work(), []
    barrier = threading.Barrier(8)

    def ask() -> None:
        barrier.wait(10)
        try:
            told.append(requests(work).id)
        except InProgress as exc:
            told.append(exc.code)

    with one_call_at_a_time():
        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)

    assert work.runs == 1
    assert len(told) == 8
    assert set(told) <= {MADE.id, "in_progress"}
    assert MADE.id in told


def test_a_function_that_was_killed_holds_its_key_until_its_time_is_over(requests: Requests) -> None:
    with pytest.raises(Crash):
        requests(Work([Crash()]))
    work = Work()

    with pytest.raises(InProgress):
        requests(work)
    set_row(in_progress_expiration=0)

    assert requests(work) == MADE
    assert work.runs == 1


def test_a_row_says_until_when_its_function_may_run(requests: Requests) -> None:
    with pytest.raises(Crash):
        requests(Work([Crash()]), left=-60_000)

    assert requests(Work()) == MADE


def test_after_a_day_a_key_is_free_again_even_if_its_row_is_still_there(requests: Requests) -> None:
    requests(Work())
    work = Work([Outcome(status=201, id="model-dog-v10000")])
    set_row(ttl=1)

    later = requests(work, content={"other": 1})

    assert later.id == "model-dog-v10000"
    assert len(rows()) == 1


@pytest.mark.parametrize(
    "failure",
    [InvalidInput("file", "no"), Unavailable("later"), OutcomeUnknown("who knows"), ZeroDivisionError()],
    ids=lambda failure: type(failure).__name__,
)
def test_what_failed_is_forgotten_and_done_anew(requests: Requests, failure: Exception) -> None:
    work = Work([failure, MADE])
    with pytest.raises(type(failure)) as caught:
        requests(work)

    assert caught.value is failure
    assert rows() == []
    assert requests(work) == MADE


def test_nothing_is_stored_but_digests_times_status_ids_and_a_code(requests: Requests) -> None:
    secret = "a-secret-in-the-content"
    key = ("01K0000000000000000000TKN0", "POST", "/models", "a-secret-key")
    requests(Work(), key=key, content={"fields": {"name": secret}})

    [row] = rows()

    assert row.keys() == {"pk", "sk", "ttl", "status", "in_progress_expiration", "validation", "data"}
    assert row["pk"]["S"].removeprefix("IDEMPOTENCY#").isalnum()
    assert (row["sk"]["S"], row["status"]["S"]) == ("META", "COMPLETED")
    assert len(row["pk"]["S"]) == len("IDEMPOTENCY#") + 64
    assert len(row["validation"]["S"]) == 64
    assert json.loads(row["data"]["S"]) == {"status": 201, "id": "model-cat-v10000"}
    started = int(row["in_progress_expiration"]["N"]) / 1000 - 29
    assert 0 <= int(row["ttl"]["N"]) - started - DAY + 1 < 60


def test_a_request_costs_two_calls_and_a_repetition_one(requests: Requests) -> None:
    with watched_calls(nothing, nothing) as first:
        requests(Work())
    with watched_calls(nothing, nothing) as second:
        requests(Work())

    assert (first, second) == (["PutItem", "UpdateItem"], ["PutItem"])


@pytest.mark.parametrize("fault", [throttled, not_connected, timed_out, connection_lost], ids=lambda f: f.__name__)
def test_a_table_that_does_not_answer_is_told_and_nothing_is_done(
    requests: Requests, fault: Callable[[str], Exception]
) -> None:
    work = Work()

    with watched_calls(failing("PutItem", fault), nothing), pytest.raises(Unavailable) as caught:
        requests(work)

    assert caught.value.retry_after_seconds > 0
    assert work.runs == 0
    assert requests(work) == MADE


@pytest.mark.parametrize("operation", ["PutItem", "UpdateItem"])
def test_a_table_that_is_slow_for_a_moment_is_asked_again(requests: Requests, operation: str) -> None:
    work = Work()

    with watched_calls(failing(operation, throttled, times=2), nothing):
        first = requests(work)

    assert first == requests(work) == MADE
    assert work.runs == 1
    assert requests.reported == []


@pytest.mark.parametrize("fault", [timed_out, connection_lost], ids=lambda fault: fault.__name__)
@pytest.mark.parametrize("operation", ["PutItem", "UpdateItem"])
def test_a_lost_answer_of_the_table_does_nothing_twice(
    requests: Requests, operation: str, fault: Callable[[str], Exception]
) -> None:
    work = Work()

    with watched_calls(nothing, failing(operation, fault, times=1)):
        first = requests(work)

    assert first == requests(work) == MADE
    assert work.runs == 1


def test_a_row_of_somebody_else_is_not_taken_for_ones_own_after_a_lost_answer(requests: Requests) -> None:
    with pytest.raises(Crash):
        requests(Work([Crash()]), left=60_000)
    work = Work()

    with watched_calls(failing("PutItem", connection_lost, times=1), nothing) as calls, pytest.raises(InProgress):
        requests(work)

    assert calls == ["PutItem", "PutItem"]
    assert work.runs == 0


@pytest.mark.parametrize("fault", [throttled, denied], ids=lambda fault: fault.__name__)
def test_what_was_done_is_told_although_it_cannot_be_noted(
    requests: Requests, fault: Callable[[str], Exception]
) -> None:
    work = Work()

    with watched_calls(failing("UpdateItem", fault), nothing):
        told = requests(work)

    assert told == MADE
    [(event, what)] = requests.reported
    assert event == "outcome_not_remembered"
    assert what.startswith("POST /models: ")
    assert "k-1" not in what
    with pytest.raises(InProgress):
        requests(work)


def test_why_it_failed_is_told_although_its_row_cannot_be_removed(requests: Requests) -> None:
    work = Work([InvalidInput("file", "no archive"), MADE])

    with watched_calls(failing("DeleteItem", throttled), nothing), pytest.raises(InvalidInput, match="no archive"):
        requests(work)

    set_row(in_progress_expiration=0)
    assert requests(work) == MADE


def test_a_role_that_may_not_write_the_table_is_a_bug_and_not_an_outage(requests: Requests) -> None:
    work = Work()

    with watched_calls(failing("PutItem", denied), nothing), pytest.raises(ClientError):
        requests(work)

    assert work.runs == 0
