"""Work for other functions: orders in the queue of imports; the function that syncs, which is called to work now."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.geti.states import Order
from chalicelib.registry.errors import NotConfigured, Unavailable
from chalicelib.registry.models import time_text

MAX_DELAY_SECONDS = 900  # of SQS


class Sqs(Protocol):
    """What is asked of boto3's client."""

    def send_message(self, *, QueueUrl: str, MessageBody: str, DelaySeconds: int) -> Mapping[str, Any]: ...  # noqa: N803


class Functions(Protocol):
    """What is asked of boto3's client of Lambda."""

    @property
    def meta(self) -> Any: ...

    def invoke(self, *, FunctionName: str, InvocationType: str, Payload: bytes) -> Mapping[str, Any]: ...  # noqa: N803


class SqsWork:
    """Work (geti/ports.py). Clients are made on first use; what is not set is missed only then."""

    def __init__(
        self,
        queue_url: str | None,
        function: str | None,
        sqs: Callable[[], Sqs],
        functions: Callable[[], Functions],
        clock: Callable[[], datetime],
        new_ulid: Callable[[], str],
    ) -> None:
        self._queue_url = queue_url
        self._function = function
        self._sqs = sqs
        self._functions = functions
        self._clock = clock
        self._new_ulid = new_ulid

    def queue(self, order: Order, delay_seconds: int = 0) -> None:
        if not self._queue_url:
            raise NotConfigured("There is no queue for imports: set IMPORT_QUEUE_URL.")
        with _errors_as_unavailable("The import could not be queued: try again."):
            self._sqs().send_message(
                QueueUrl=self._queue_url,
                MessageBody=order.model_dump_json(exclude_none=True),
                DelaySeconds=min(delay_seconds, MAX_DELAY_SECONDS),
            )

    def start_sync(self, run_id: str) -> None:
        if not self._function:
            raise NotConfigured("There is no function that syncs: set SYNC_FUNCTION.")
        with _errors_as_unavailable("The sync could not be started: the next one that is asked for goes on with it."):
            functions = self._functions()
            event = self._event(run_id, self._function, functions.meta.region_name)
            functions.invoke(FunctionName=self._function, InvocationType="Event", Payload=json.dumps(event).encode())

    def _event(self, run_id: str, function: str, region: str) -> Mapping[str, Any]:
        """As EventBridge sends them, which is what the function gets from its schedule."""
        parts = function.split(":")
        return {
            "version": "0",
            "id": self._new_ulid(),
            "detail-type": "Sync asked for",
            "source": "model-registry",
            "account": parts[4] if function.startswith("arn:") else "",
            "time": time_text(self._clock()),
            "region": region,
            "resources": [],
            "detail": {"run_id": run_id},
        }


@contextmanager
def _errors_as_unavailable(message: str) -> Iterator[None]:
    try:
        yield
    except (BotoCoreError, ClientError) as exc:
        raise Unavailable(message) from exc
