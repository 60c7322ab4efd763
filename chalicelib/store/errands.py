"""The queue of errands, on SQS."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.registry.errands import Errand
from chalicelib.registry.errors import NotConfigured, Unavailable


class Sqs(Protocol):
    """What is asked of boto3's client."""

    def send_message(self, *, QueueUrl: str, MessageBody: str) -> Mapping[str, Any]: ...  # noqa: N803


class SqsErrands:
    """Errands (registry/errands.py). The client is made on first use; a queue that is not set is missed only then."""

    def __init__(self, queue_url: str | None, sqs: Callable[[], Sqs]) -> None:
        self._queue_url = queue_url
        self._sqs = sqs

    def queue(self, errand: Errand) -> None:
        if not self._queue_url:
            raise NotConfigured("There is no queue for errands: set ERRAND_QUEUE_URL.")
        try:
            self._sqs().send_message(QueueUrl=self._queue_url, MessageBody=errand.model_dump_json())
        except (BotoCoreError, ClientError) as exc:
            raise Unavailable("What is left to do could not be queued: try again.") from exc
