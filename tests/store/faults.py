"""Makes AWS fail on demand, by botocore's own event hooks: before a call is sent, or after it was carried out."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import botocore.client
import pytest
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ReadTimeoutError,
)


class Crash(BaseException):
    """The process is gone: nothing of ours may catch this."""


@contextmanager
def watched_calls(before: Callable[[str, int], None], after: Callable[[str, int], None]) -> Iterator[list[str]]:
    """Run `before` and `after` around each AWS call with its name and number (from 0); the calls made so far."""
    calls: list[str] = []
    original = botocore.client.BaseClient._make_api_call

    def watched(self: Any, operation: str, arguments: Any) -> Any:
        number = len(calls)
        calls.append(operation)
        before(operation, number)
        answer = original(self, operation, arguments)
        after(operation, number)
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.client.BaseClient, "_make_api_call", watched)
        yield calls


@contextmanager
def one_call_at_a_time() -> Iterator[None]:
    """Threads may interleave between calls but not within one: moto copies its tables in a transaction."""
    lock = threading.Lock()
    original = botocore.client.BaseClient._make_api_call

    def locked(self: Any, operation: str, arguments: Any) -> Any:
        with lock:
            return original(self, operation, arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.client.BaseClient, "_make_api_call", locked)
        yield


def nothing(operation: str, number: int) -> None:
    pass


def throttled(operation: str) -> ClientError:
    return ClientError(
        {
            "Error": {"Code": "ProvisionedThroughputExceededException", "Message": "slow down"},
            "ResponseMetadata": {"HTTPStatusCode": 400},
        },
        operation,
    )


def conflicting(operation: str) -> ClientError:
    """What AWS says when another transaction has an item in hand; the emulators never do."""
    return ClientError(
        {
            "Error": {"Code": "TransactionCanceledException", "Message": "Transaction cancelled"},
            "CancellationReasons": [{"Code": "TransactionConflict", "Message": "Transaction is ongoing"}],
            "ResponseMetadata": {"HTTPStatusCode": 400},
        },
        operation,
    )


def internal_error(operation: str) -> ClientError:
    answer = {"Error": {"Code": "InternalServerError"}, "ResponseMetadata": {"HTTPStatusCode": 500}}
    return ClientError(answer, operation)


def slow_down(operation: str) -> ClientError:
    """How S3 throttles."""
    return ClientError({"Error": {"Code": "SlowDown"}, "ResponseMetadata": {"HTTPStatusCode": 503}}, operation)


def not_connected(_: str) -> EndpointConnectionError:
    return EndpointConnectionError(endpoint_url="http://127.0.0.1")


def not_connected_in_time(_: str) -> ConnectTimeoutError:
    return ConnectTimeoutError(endpoint_url="http://127.0.0.1")


def connection_lost(_: str) -> ConnectionClosedError:
    return ConnectionClosedError(endpoint_url="http://127.0.0.1")


def timed_out(_: str) -> ReadTimeoutError:
    return ReadTimeoutError(endpoint_url="http://127.0.0.1")
