"""Experiments, runs and logged models on DynamoDB: how they come and change, and what is said of them.

Each change of one is a transaction with its event. What is measured is written beside it, without: a value that is
written twice is the same item.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial

from pynamodb.connection.base import Connection
from pynamodb.exceptions import DeleteError, DoesNotExist, PutError
from pynamodb.expressions.condition import Condition

from chalicelib.registry.access import Actor
from chalicelib.registry.audit import Action, Change
from chalicelib.registry.errors import AlreadyExists, NotFound, TooLarge
from chalicelib.registry.models import Head
from chalicelib.registry.tracking import Dataset, Decide, Experiment, Tracked
from chalicelib.store.batches import put_all
from chalicelib.store.commits import Commits, Prepared
from chalicelib.store.keys import META
from chalicelib.store.schema import EventItem, PointerItem, RegistryItem
from chalicelib.store.tracked_reads import TrackedReads
from chalicelib.store.tracking_items import (
    EXPERIMENT,
    INPUTS,
    LOGGED_MODEL,
    OUTPUTS,
    PARAMS,
    RUN,
    TAGS,
    DatasetItem,
    LoggedItem,
    TrackedItem,
    kind_of,
    list_rows,
    name_row,
)
from chalicelib.store.tracking_metrics import Metrics
from chalicelib.store.transactions import LostRace, Refused, Retry, Transaction, transient_errors_as_busy
from chalicelib.store.tree_items import TreeItem, tree_key

CREATED = {EXPERIMENT: Action.EXPERIMENT_CREATED, RUN: Action.RUN_CREATED, LOGGED_MODEL: Action.LOGGED_MODEL_CREATED}
CHANGED = {EXPERIMENT: Action.EXPERIMENT_UPDATED, RUN: Action.RUN_UPDATED, LOGGED_MODEL: Action.LOGGED_MODEL_UPDATED}
THREADS = 8
IN_TRANSACTION = 40  # tags and parameters beside the rest: more are written before
MAX_IN_TRANSACTION = 100
MAX_DATASET_BYTES = 300_000  # of an item, compressed


class DynamoTracking:
    """TrackingStore (registry/tracking.py)."""

    def __init__(self, new_ulid: Callable[[], str], retry: Retry | None = None) -> None:
        self._connection: Connection = RegistryItem._get_connection().connection
        self._new_ulid = new_ulid
        self._retry = retry or Retry()
        self._commits = Commits(self._retry)
        threads = ThreadPoolExecutor(THREADS, thread_name_prefix="tracking")
        self._put = partial(put_all, retry=self._retry, threads=threads)
        reads, metrics = TrackedReads(self._retry, threads), Metrics(self._retry, self._put, threads)
        self.find, self.whole, self.tags = reads.find, reads.whole, reads.tags
        self.experiment_named, self.experiments = reads.experiment_named, reads.experiments
        self.runs, self.logged_models = reads.runs, reads.logged_models
        self.log_metrics, self.log_model_metrics = metrics.log, metrics.log_of_model
        self.history = metrics.history

    def add(self, made: Tracked, by: Actor, at: datetime, tags: Mapping[str, str], params: Mapping[str, str]) -> None:
        event_id = self._new_ulid()
        change = Change.between(CREATED[kind_of(made.subject)], None, made, by, at, event_id)
        event = change.after(made.subject, Head())
        beside = [*_logged(made.subject, TAGS, tags), *_logged(made.subject, PARAMS, params)]
        # Nobody sees them before it is there itself.
        self._put(beside[IN_TRANSACTION:])

        def attempt(_: int) -> Prepared[None]:
            tx = Transaction(self._connection)
            tx.put("meta", TrackedItem.of(made, event), condition=TrackedItem.pk.does_not_exist())
            for row in list_rows(made):
                tx.put("row", row)
            if isinstance(made, Experiment):
                tx.put("experiment name", name_row(made), condition=PointerItem.pk.does_not_exist())
            else:
                tree = TreeItem(tree_key(made.tree_id), META, changes=0)
                tree.project_id, tree.project_name = made.project_id, made.project_name
                tx.put("tree", tree)
            for item in beside[:IN_TRANSACTION]:
                tx.put("beside", item)
            tx.put("event", EventItem.of(event), condition=EventItem.pk.does_not_exist())
            return Prepared(None, tx, event.seq)

        self._commits.once(made.subject, event_id, attempt, _refused_if_taken)

    def change(
        self, subject: str, by: Actor, at: datetime, decide: Decide, tags: Mapping[str, str]
    ) -> tuple[Tracked, Tracked]:
        event_id = self._new_ulid()

        def attempt(_: int) -> Prepared[tuple[Tracked, Tracked]]:
            item = self._item(subject)
            before = item.tracked()
            after = decide(before)
            beside = _logged(subject, TAGS, tags)
            if after == before:
                self._put(beside)
                return Prepared((before, before))
            event = Change.between(CHANGED[kind_of(subject)], before, after, by, at, event_id).after(subject, item.head)
            tx = Transaction(self._connection)
            tx.put("meta", TrackedItem.of(after, event), condition=TrackedItem.seq == item.head.seq)
            if isinstance(before, Experiment) and isinstance(after, Experiment) and before.name != after.name:
                tx.put("experiment name", name_row(after), condition=PointerItem.pk.does_not_exist())
                tx.delete("old name", name_row(before))
            for tag in beside:
                tx.put("tag", tag)
            tx.put("event", EventItem.of(event), condition=EventItem.pk.does_not_exist())
            return Prepared((before, after), tx, event.seq)

        return self._commits.once(subject, event_id, attempt, _refused_if_taken)

    def set_tags(self, subject: str, tags: Mapping[str, str]) -> None:
        self._put(_logged(subject, TAGS, tags))

    def delete_tag(self, subject: str, key: str) -> bool:
        item = LoggedItem(subject, f"{TAGS}{key}")

        def delete(number: int) -> bool:
            try:
                with transient_errors_as_busy():
                    item.delete(condition=LoggedItem.pk.exists())
            except DeleteError as exc:
                if exc.cause_response_code != "ConditionalCheckFailedException":
                    raise
                # An attempt whose answer was lost may have done it.
                return number > 0
            return True

        return self._retry(delete)

    def extend_tag(self, subject: str, key: str, extended: Callable[[str | None], str]) -> None:
        def extend(_: int) -> None:
            had = self._value(subject, f"{TAGS}{key}")
            is_that: Condition = LoggedItem.pk.does_not_exist() if had is None else LoggedItem.value == had
            item = LoggedItem(subject, f"{TAGS}{key}", value=extended(had))
            try:
                with transient_errors_as_busy():
                    item.save(condition=is_that)
            except PutError as exc:
                if exc.cause_response_code != "ConditionalCheckFailedException":
                    raise
                raise LostRace(key) from exc

        self._retry(extend)

    def log_params(self, subject: str, params: Mapping[str, str]) -> Mapping[str, str]:
        def log(_: int) -> Mapping[str, str]:
            tx = Transaction(self._connection)
            for item in _logged(subject, PARAMS, params):
                is_that: Condition = LoggedItem.pk.does_not_exist() | (LoggedItem.value == item.value)
                tx.put(item.sk.removeprefix(PARAMS), item, condition=is_that)
            try:
                tx.commit()
            except Refused as exc:
                return {key: str((raw or {})["value"]["S"]) for key, raw in exc.items.items()}
            return {}

        return self._retry(log) if params else {}

    def set_inputs(self, subject: str, datasets: Sequence[Dataset], model_ids: Sequence[str]) -> None:
        items = [DatasetItem.of(subject, dataset) for dataset in datasets]
        if any(len(item.record) > MAX_DATASET_BYTES for item in items):
            raise TooLarge(f"A dataset may be described in {MAX_DATASET_BYTES:,} bytes, compressed: profile it less.")
        self._put([*items, *_logged(subject, INPUTS, dict.fromkeys(model_ids, ""))])

    def set_outputs(self, subject: str, outputs: Mapping[str, int]) -> None:
        self._put(_logged(subject, OUTPUTS, {model_id: str(step) for model_id, step in outputs.items()}))

    def _item(self, subject: str) -> TrackedItem:
        with transient_errors_as_busy():
            try:
                return TrackedItem.get(subject, META, consistent_read=True)
            except DoesNotExist as exc:
                raise NotFound(f"{subject} is not there any more.") from exc

    def _value(self, pk: str, sk: str) -> str | None:
        with transient_errors_as_busy():
            try:
                return LoggedItem.get(pk, sk, consistent_read=True).value
            except DoesNotExist:
                return None


def _logged(subject: str, prefix: str, values: Mapping[str, str]) -> list[LoggedItem]:
    return [LoggedItem(subject, f"{prefix}{key}", value=value) for key, value in values.items()]


def _refused_if_taken(refused: Refused) -> None:
    if "experiment name" in refused.items:
        raise AlreadyExists("An experiment of this name exists.")
