"""What requests with an Idempotency-Key came to: Powertools' idempotency utility on the registry table.

Who runs is decided by a condition on one item, whose times are judged there, not by its deletion: it is free when it is
not there, a day old, or of a run that the end of its Lambda function has cut off. This module is imported for the
first such request only.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from aws_lambda_powertools.utilities.idempotency import (
    DynamoDBPersistenceLayer,
    IdempotencyConfig,
    idempotent_function,
)
from aws_lambda_powertools.utilities.idempotency.exceptions import (
    IdempotencyAlreadyInProgressError,
    IdempotencyInconsistentStateError,
    IdempotencyItemAlreadyExistsError,
    IdempotencyPersistenceLayerError,
    IdempotencyValidationError,
)
from aws_lambda_powertools.utilities.idempotency.persistence.datarecord import DataRecord
from aws_lambda_powertools.utilities.idempotency.serialization.custom_dict import CustomDictSerializer

from chalicelib.registry.errors import InProgress, KeyReused, Unavailable
from chalicelib.registry.repetition import Deadline, Outcome
from chalicelib.store.keys import META
from chalicelib.store.schema import RegistryItem
from chalicelib.store.transactions import Retry, transient_errors_as_busy

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext
    from mypy_boto3_dynamodb import DynamoDBClient

REMEMBERED_SECONDS = 24 * 60 * 60
PREFIX = "IDEMPOTENCY"
RETRY_SECONDS = 3  # beside the ten that the request itself may take of the gateway's 29
REPORT = "outcome_not_remembered"


class DynamoOutcomes:
    """The outcomes in the table that the registry's items are bound to, over the same connections."""

    def __init__(self, report: Callable[[str, str], None], retry: Retry | None = None) -> None:
        table = RegistryItem._get_connection()
        client = cast("DynamoDBClient", table.connection.client)
        self._rows = _Rows(table.table_name, client, retry or Retry(RETRY_SECONDS))
        self._report = report

    def once(
        self,
        key: Sequence[str],
        content: Mapping[str, Any],
        run: Callable[[], Outcome],
        deadline: Deadline | None,
    ) -> Outcome:
        """What `run` came to, now or within the last day: for one key it is called once, unless it raised.

        key: who asks, method, path, and the key as it was sent. deadline: that of this run. Raises InProgress while
        another run goes on, KeyReused if the key came with other content, Unavailable if the table cannot tell; then
        it was not called.
        """
        ended: list[Outcome | Exception] = []

        def running(*, asked: Mapping[str, Any]) -> Outcome:
            try:
                ended.append(run())
            except Exception as exc:
                ended.append(exc)
                raise
            return cast(Outcome, ended[0])

        try:
            return self._idempotent(running, deadline)(asked={"key": list(key), "content": content})
        except IdempotencyAlreadyInProgressError as exc:
            raise InProgress from exc
        except IdempotencyValidationError as exc:
            raise KeyReused from exc
        except IdempotencyInconsistentStateError as exc:
            raise Unavailable("The outcome of this request changes too fast: try again.") from exc
        except IdempotencyPersistenceLayerError as exc:
            failure = exc.__cause__ or exc
        if not ended:
            raise failure
        self._report(REPORT, f"{key[1]} {key[2]}: {_first_cause(failure)}")
        return _told(ended[0])

    def _idempotent(self, running: Callable[..., Outcome], deadline: Deadline | None) -> Callable[..., Outcome]:
        config = IdempotencyConfig(
            event_key_jmespath="key",
            payload_validation_jmespath="content",
            expires_after_seconds=REMEMBERED_SECONDS,
            hash_function="sha256",
            lambda_context=cast("LambdaContext", deadline),
        )
        serializer = CustomDictSerializer(
            to_dict=lambda outcome: outcome.model_dump(exclude_none=True), from_dict=Outcome.model_validate
        )
        once: Callable[..., Outcome] = idempotent_function(
            running,
            data_keyword_argument="asked",
            persistence_store=self._rows,
            config=config,
            output_serializer=serializer,
            key_prefix=PREFIX,
        )
        return once


def _first_cause(exc: BaseException) -> BaseException:
    return _first_cause(exc.__cause__) if exc.__cause__ else exc


def _told(ended: Outcome | Exception) -> Outcome:
    """What was done is told, although it is not remembered: repeated, it is known by its events."""
    if isinstance(ended, Exception):
        raise ended
    return ended


class _Rows(DynamoDBPersistenceLayer):
    """Powertools' items, each in a partition of its own; what DynamoDB did not do at once is tried again."""

    def __init__(self, table_name: str, client: "DynamoDBClient", retry: Retry) -> None:
        super().__init__(table_name, key_attr="pk", expiry_attr="ttl", boto3_client=client)
        self._retry = retry

    def _get_key(self, idempotency_key: str) -> dict[str, Any]:
        # Not Powertools' own composite key: that puts all requests into one partition.
        return {"pk": {"S": idempotency_key}, "sk": {"S": META}}

    def _get_record(self, idempotency_key: str) -> DataRecord:
        return cast(DataRecord, self._patiently(super()._get_record, idempotency_key))

    def _put_record(self, data_record: DataRecord) -> None:
        def put(number: int) -> None:
            try:
                with transient_errors_as_busy():
                    super(_Rows, self)._put_record(data_record)
            except IdempotencyItemAlreadyExistsError as exc:
                # An attempt before this one may have been done although its answer was lost.
                if not (number and _is_same(exc.old_data_record, data_record)):
                    raise

        self._retry(put)

    def _update_record(self, data_record: DataRecord) -> None:
        self._patiently(super()._update_record, data_record)

    def _delete_record(self, data_record: DataRecord) -> None:
        self._patiently(super()._delete_record, data_record)

    def _patiently(self, call: Callable[[Any], Any], argument: Any) -> Any:
        def attempt(_: int) -> Any:
            with transient_errors_as_busy():
                return call(argument)

        return self._retry(attempt)


def _is_same(there: DataRecord | None, ours: DataRecord) -> bool:
    return there is not None and (there.status, there.payload_hash, there.in_progress_expiry_timestamp) == (
        ours.status,
        ours.payload_hash,
        ours.in_progress_expiry_timestamp,
    )
