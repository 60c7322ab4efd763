"""Writes that happen whole or not at all, and what to do when they do not happen.

`Transaction` names each of its conditions, so that a refusal says which rule refused. `Retry` repeats an operation
that lost a race or was throttled, with full jitter, until its time is up (AWS Architecture Blog, "Exponential
Backoff And Jitter").
"""

import random
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as NotConnected
from pynamodb.connection.base import Connection
from pynamodb.exceptions import PynamoDBException, TransactWriteError, UpdateError
from pynamodb.expressions.condition import Condition
from pynamodb.expressions.update import Action
from pynamodb.models import Model
from pynamodb.transactions import TransactWrite

from chalicelib.registry.errors import Unavailable

T = TypeVar("T")
RawItem = dict[str, dict[str, Any]]

# Answers that say "later": the request was right. SDKs do not retry TransactionConflict.
TRANSIENT = frozenset(
    {
        "InternalServerError",
        "ProvisionedThroughputExceeded",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "ServiceUnavailable",
        "ThrottlingError",
        "ThrottlingException",
        "TransactionConflict",
        "TransactionConflictException",
        "TransactionInProgressException",
    }
)


class Busy(Exception):
    """DynamoDB did not do it now; it may the next time."""


class Unanswered(Busy):
    """The answer was lost: DynamoDB may have done it, or may still."""


class LostRace(Exception):
    """Somebody changed what this operation had read; it has to read again."""


class Refused(Exception):
    """Conditions did not hold: the label of each, with the item that stood there, if one did."""

    def __init__(self, items: Mapping[str, RawItem | None]) -> None:
        super().__init__(", ".join(items))
        self.items = items


@contextmanager
def transient_errors_as_busy() -> Iterator[None]:
    """Throttling, conflicts and lost connections become Busy; everything else goes on as it is.

    botocore's ConnectionError (NotConnected) says that nothing was sent, its HTTPClientError that it may have been.
    """
    try:
        yield
    except (PynamoDBException, BotoCoreError, ClientError) as exc:
        cause = getattr(exc, "cause", exc)
        if isinstance(cause, HTTPClientError) or _error_code(cause) == "InternalServerError":
            raise Unanswered(type(cause).__name__) from exc
        if isinstance(cause, NotConnected) or _error_code(cause) in TRANSIENT:
            raise Busy(type(cause).__name__) from exc
        raise


def _error_code(exc: object) -> str | None:
    response = getattr(exc, "response", {})
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return "InternalServerError" if status >= 500 else response.get("Error", {}).get("Code")


class Transaction:
    """A DynamoDB transaction whose conditions have labels. Nothing is sent before `commit`.

    The items of one key may be touched once only. An unlabelled write has no condition.
    """

    def __init__(self, connection: Connection) -> None:
        # One token for each transaction: if a network delivers it twice, DynamoDB does it once.
        self._writes = TransactWrite(client_request_token=str(uuid.uuid4()), connection=connection)
        # DynamoDB gives its reasons by position; PynamoDB sends checks first, then deletes, puts and updates.
        self._checks: list[str] = []
        self._deletes: list[str] = []
        self._puts: list[str] = []
        self._updates: list[str] = []

    def check(self, label: str, item: type[Model], pk: str, sk: str, condition: Condition) -> None:
        self._checks.append(label)
        self._writes.condition_check(item, pk, sk, condition=condition)

    def delete(self, label: str, item: Model, condition: Condition | None = None) -> None:
        self._deletes.append(label)
        self._writes.delete(item, condition=condition)

    def put(self, label: str, item: Model, condition: Condition | None = None) -> None:
        self._puts.append(label)
        self._writes.save(item, condition=condition, return_values="ALL_OLD" if condition is not None else None)

    def update(self, label: str, item: Model, actions: Sequence[Action], condition: Condition) -> None:
        self._updates.append(label)
        self._writes.update(item, actions=list(actions), condition=condition)

    def commit(self) -> None:
        """Do it. Raises Refused if a condition failed, Busy if it may work later."""
        try:
            with transient_errors_as_busy(), self._writes:
                pass
        except TransactWriteError as exc:
            labels = [*self._checks, *self._deletes, *self._puts, *self._updates]
            reasons = dict(zip(labels, exc.cancellation_reasons, strict=False))
            refused = {
                label: reason.raw_item
                for label, reason in reasons.items()
                if reason and reason.code == "ConditionalCheckFailed"
            }
            if refused:
                raise Refused(refused) from exc
            if any(reason and reason.code in TRANSIENT for reason in reasons.values()):
                raise Busy("TransactionCanceled") from exc
            raise


def updated(item: Model, actions: Sequence[Action], condition: Condition) -> bool:
    """Whether the condition held: then the item is as it is now. One write alone. Raises Busy if it may work later."""
    try:
        with transient_errors_as_busy():
            item.update(list(actions), condition=condition)
    except UpdateError as exc:
        if exc.cause_response_code == "ConditionalCheckFailedException":
            return False
        raise
    return True


class Retry:
    """Repeats what lost a race or was throttled. The clock is an argument so that tests need no waiting."""

    def __init__(
        self,
        seconds: float = 10,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._seconds = seconds
        self._monotonic = monotonic
        self._sleep = sleep
        self._jitter = jitter

    def __call__(self, attempt: Callable[[int], T]) -> T:
        """The result of the first attempt that is neither Busy nor lost; attempts are numbered from 0.

        Raises Unavailable when the time is up.
        """
        deadline = self._monotonic() + self._seconds
        number = 0
        while True:
            try:
                return attempt(number)
            except (Busy, LostRace) as exc:
                delay = self._jitter(0, min(1.0, 0.02 * 2**number))
                if self._monotonic() + delay > deadline:
                    raise Unavailable("The registry is busy: nothing was changed, try again.") from exc
                self._sleep(delay)
                number += 1
