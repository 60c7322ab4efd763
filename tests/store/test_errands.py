"""Errands in the queue, and what they are to do."""

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from chalicelib import wiring_mlflow
from chalicelib.registry.errands import Errand, ErrandKind
from chalicelib.registry.errors import NotConfigured, Unavailable
from chalicelib.store.errands import SqsErrands

ERRAND = Errand(kind=ErrandKind.PACK, subject="model-detector-v1")
QUEUE = "https://sqs.example/errands"


class Sqs:
    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.sent: list[dict[str, Any]] = []

    def send_message(self, **message: Any) -> dict[str, Any]:
        if self.error:
            raise self.error
        self.sent.append(message)
        return {}


def test_an_errand_is_a_message_that_says_what_to_do_for_whom() -> None:
    sqs = Sqs()

    SqsErrands(QUEUE, lambda: sqs).queue(ERRAND)

    [message] = sqs.sent
    assert message["QueueUrl"] == QUEUE
    assert json.loads(message["MessageBody"]) == {"kind": "pack", "subject": "model-detector-v1"}


@pytest.mark.parametrize(
    "error",
    [
        EndpointConnectionError(endpoint_url="http://127.0.0.1"),
        ClientError({"Error": {"Code": "AWS.SimpleQueueService.NonExistentQueue"}}, "SendMessage"),
    ],
)
def test_a_queue_that_does_not_take_it_is_unavailable(error: Exception) -> None:
    with pytest.raises(Unavailable, match="try again"):
        SqsErrands(QUEUE, lambda: Sqs(error)).queue(ERRAND)


def test_a_queue_that_is_not_set_is_named() -> None:
    with pytest.raises(NotConfigured, match="ERRAND_QUEUE_URL"):
        SqsErrands(None, lambda: Sqs()).queue(ERRAND)


@pytest.mark.parametrize("kind", ErrandKind)
def test_every_kind_of_errand_is_done_by_somebody(kind: ErrandKind, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    doer = type(
        "Doer",
        (),
        {
            "pack": lambda _, subject, left: done.append(f"packed {subject}"),
            "unpack": lambda _, subject, left: done.append(f"unpacked {subject}"),
            "run": lambda _, errand, left: done.append(f"tidied {errand.subject}"),
        },
    )()
    for name in ("packing", "unpacking", "tidying"):
        monkeypatch.setattr(wiring_mlflow, name, lambda: doer)

    wiring_mlflow.run_errand(Errand(kind=kind, subject="x").model_dump_json(), lambda: 900_000)

    assert done == [{"pack": "packed x", "unpack": "unpacked x"}.get(kind, "tidied x")]
