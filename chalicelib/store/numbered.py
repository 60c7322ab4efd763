"""Versions by their numbers on DynamoDB: the next one, the newest of each stage, from stage to stage.

The next number is taken in the transaction of its version. Who loses that race reserves one first, so that crowds do
not lose for ever, and keeps it until its version is stored: numbers have no gaps but where somebody gave up, or where
a version of another number has the number as its label.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from pynamodb.exceptions import DoesNotExist

from chalicelib.registry.audit import Action, Change
from chalicelib.registry.errors import NO_SUCH_MODEL, NotFound
from chalicelib.registry.models import Head, ModelVersion
from chalicelib.registry.numbering import no_such_version
from chalicelib.registry.registered_models import numbered
from chalicelib.store.commits import Prepared
from chalicelib.store.held_items import hold
from chalicelib.store.keys import META, claim_key, model_key, number_key, registered_model_key
from chalicelib.store.model_records import item_of, touch
from chalicelib.store.schema import ClaimItem, NameItem, NumberItem, VersionItem, is_at, is_unused
from chalicelib.store.transactions import LostRace, Transaction, transient_errors_as_busy
from chalicelib.store.tree_items import seal
from chalicelib.store.version_records import put_version, version_of
from chalicelib.store.version_rows import enlist, number_row

if TYPE_CHECKING:
    from pynamodb.connection.base import Connection

    from chalicelib.registry.access import Actor
    from chalicelib.registry.models import Stage
    from chalicelib.registry.numbering import NewVersion
    from chalicelib.registry.registered_models import RegisteredModel
    from chalicelib.store.commits import Commits
    from chalicelib.store.placing import Placing
    from chalicelib.store.registered_models import DynamoRegisteredModels
    from chalicelib.store.transactions import Refused, Retry

THREADS = 8  # that look for the newest versions of a page
MAX_SKIPPED = 20  # taken labels in a row, at one attempt
MAX_ARCHIVED = 8  # in one transaction, which may have 100 items, of which each takes up to nine
Changed = tuple[ModelVersion, ModelVersion]


class DynamoNumbered:
    """Numbered (registry/ports.py) on the two tables of schema.py."""

    def __init__(
        self,
        connection: Connection,
        placing: Placing,
        registered_models: DynamoRegisteredModels,
        commits: Commits,
        retry: Retry,
        new_ulid: Callable[[], str],
    ) -> None:
        self._connection = connection
        self._placing = placing
        self._registered_models = registered_models
        self._commits = commits
        self._retry = retry
        self._new_ulid = new_ulid
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="newest")

    def add(self, model: RegisteredModel, version: ModelVersion, made: NewVersion, by: Actor) -> ModelVersion:
        event_id = self._new_ulid()
        adding = Adding(self._connection, self._placing, self._registered_models, version, made)
        return self._commits.once(
            model_key(version.id),
            event_id,
            lambda number: adding.attempt(model, by, event_id, is_contended=number > 0),
            adding.hear,
        )

    def version(self, rm_id: str, number: int) -> ModelVersion:
        return self._retry(lambda _: version_of(self._item(rm_id, number)))

    def newest(
        self, models: Sequence[RegisteredModel], stages: Sequence[Stage | None]
    ) -> Mapping[str, Sequence[ModelVersion]]:
        return self._retry(lambda _: self._newest(models, stages))

    def transition(
        self,
        model: RegisteredModel,
        number: int,
        stage: Stage | None,
        archive_existing: bool,
        by: Actor,
        at: datetime,
    ) -> Sequence[Changed]:
        step = Transition(model.rm_id, number, stage, archive_existing)
        changed: list[Changed] = []
        is_done = False
        while not is_done:
            more, is_done = self._go_on(step, by, at)
            changed += more
        return changed

    def _go_on(self, step: Transition, by: Actor, at: datetime) -> tuple[Sequence[Changed], bool]:
        """What one transaction changed of it, and whether that was all."""
        event_id = self._new_ulid()

        def attempt(_: int) -> Prepared[tuple[Sequence[Changed], bool]]:
            # The registered model first: whatever comes to a stage, or leaves it, from now on is noticed.
            name = item_of(step.rm_id)
            target = self._item(step.rm_id, step.number)
            others = self._others(name, step)
            items = [self._item(step.rm_id, number) for number in others[:MAX_ARCHIVED]]
            moving: list[tuple[VersionItem, Stage | None]] = [(item, "Archived") for item in items]
            is_last = len(others) <= MAX_ARCHIVED
            if is_last:
                moving.append((target, step.stage))
            return self._moving(name, moving, is_last, by, at, event_id)

        return self._commits.once(registered_model_key(step.rm_id), event_id, attempt)

    # Reads

    def _item(self, rm_id: str, number: int) -> VersionItem:
        with transient_errors_as_busy():
            try:
                pointer = NumberItem.get(registered_model_key(rm_id), number_key(number), consistent_read=True)
                item = VersionItem.get(model_key(pointer.target), META, consistent_read=True)
            except DoesNotExist:
                no_such_version(number)
        if not item.record:
            no_such_version(number)
        version = item.inline_version()
        if (version.rm_id, version.number) != (rm_id, number):
            raise LostRace("the version has moved meanwhile")
        return item

    def _newest(
        self, models: Sequence[RegisteredModel], stages: Sequence[Stage | None]
    ) -> Mapping[str, Sequence[ModelVersion]]:
        """Two reads of many items at once: what the registered models say is so, unless something has moved since."""
        wanted = [
            (model, stage, number)
            for model in models
            for stage in stages
            if (number := model.staged.get(stage) if stage else model.highest_number)
        ]
        rows = self._number_rows([(model.rm_id, number) for model, _, number in wanted])
        found: dict[tuple[str, Stage | None], NumberItem | None] = {}
        for model, stage, number in wanted:
            row = rows.get((model.rm_id, number))
            found[model.rm_id, stage] = row if row and row.stage == stage else None
        # Where the newest version of all is in a stage, nothing says which the newest without one is.
        found |= self._newest_rows([place for place, row in found.items() if row is None])
        return self._versions_in([(row.target, stage) for (_, stage), row in found.items() if row])

    def _number_rows(self, numbers: Sequence[tuple[str, int]]) -> dict[tuple[str, int], NumberItem]:
        keys = [(registered_model_key(rm_id), number_key(number)) for rm_id, number in dict.fromkeys(numbers)]
        with transient_errors_as_busy():
            found = {(row.pk, row.sk): row for row in NumberItem.batch_get(keys, consistent_read=True)}
        return {place: found[key] for place, key in zip(dict.fromkeys(numbers), keys, strict=True) if key in found}

    def _newest_rows(
        self, places: Sequence[tuple[str, Stage | None]]
    ) -> dict[tuple[str, Stage | None], NumberItem | None]:
        """What each registered model has newest in a stage: a Query for each, several at once."""

        def newest(place: tuple[str, Stage | None]) -> int | None:
            return next(iter(self._registered_models.numbers_in(*place)), None)

        numbers = list(self._threads.map(newest, places) if len(places) > 1 else map(newest, places))
        there = {place: number for place, number in zip(places, numbers, strict=True) if number}
        rows = self._number_rows([(rm_id, number) for (rm_id, _), number in there.items()])
        return {place: rows.get((place[0], number)) for place, number in there.items()}

    def _versions_in(self, ids: Sequence[tuple[str, Stage | None]]) -> Mapping[str, Sequence[ModelVersion]]:
        with transient_errors_as_busy():
            keys = [(model_key(model_id), META) for model_id, _ in ids]
            items = {item.pk: item for item in VersionItem.batch_get(keys, consistent_read=True)}
        found: dict[str, list[ModelVersion]] = {}
        for model_id, stage in ids:
            item = items.get(model_key(model_id))
            if item is None or not item.record:
                raise LostRace("the version has gone meanwhile")
            version = version_of(item)
            if version.stage != stage:
                raise LostRace("the version has moved meanwhile")
            found.setdefault(version.rm_id, []).append(version)
        return found

    def _others(self, name: NameItem, step: Transition) -> list[int]:
        """What is to be archived, lowest first: the newest is the last to leave a stage."""
        if not step.archives_others or step.stage not in name.inline_model().staged:
            return []
        found = self._registered_models.numbers_in(step.rm_id, step.stage)
        return sorted(number for number in found if number != step.number)

    # Writes

    def _moving(
        self,
        name: NameItem,
        moving: Sequence[tuple[VersionItem, Stage | None]],
        is_last: bool,
        by: Actor,
        at: datetime,
        event_id: str,
    ) -> Prepared[tuple[Sequence[Changed], bool]]:
        """Versions into other stages, and what their registered model says of those, which orders all such changes."""
        before = [version_of(item) for item, _ in moving]
        after = [version.staged(stage, at) for version, (_, stage) in zip(before, moving, strict=True)]
        tx = Transaction(self._connection)
        event = self._registered_models.restage(tx, name, before, after, by, at, event_id)
        for (item, _), was, version in zip(moving, before, after, strict=True):
            change = Change.between(Action.VERSION_UPDATED, was, version, by, version.updated_at, self._new_ulid())
            its_event = change.after(model_key(version.id), item.head)
            put_version(tx, f"version {version.number}", version, its_event, is_at(item.head), (item, was))
            tx.put(f"number {version.number}", number_row(version))
            enlist(tx, version, was)
        return Prepared((list(zip(before, after, strict=True)), is_last), tx, event.seq)


@dataclass(frozen=True)
class Transition:
    """What is asked for."""

    rm_id: str
    number: int
    stage: Stage | None
    archives_others: bool


class Adding:
    """One version on its way to the next number, over as many attempts as it takes."""

    def __init__(
        self,
        connection: Connection,
        placing: Placing,
        registered_models: DynamoRegisteredModels,
        version: ModelVersion,
        made: NewVersion,
    ) -> None:
        self._connection = connection
        self._placing = placing
        self._registered_models = registered_models
        self._version = version
        self._made = made
        self._reserved: int | None = None

    def attempt(self, model: RegisteredModel, by: Actor, event_id: str, is_contended: bool) -> Prepared[ModelVersion]:
        name = item_of(model.rm_id, model)
        now = name.inline_model()
        if is_contended and self._reserved is None:
            self._reserved = self._reserve(now)
        number = self._reserved or int(name.counter) + 1
        version = numbered(self._version, now, number).model_copy(update={"artifact": self._made.artifact})
        at = version.published_at
        event = Change.between(Action.VERSION_REGISTERED, None, version, by, at, event_id).after(
            model_key(version.id), Head()
        )
        tx = Transaction(self._connection)
        put_version(tx, "id", version, event, is_unused(Head()))
        enlist(tx, version)
        claim = ClaimItem(claim_key(version.rm_id, version), META, holder=version.id)
        tx.put("label", claim, condition=ClaimItem.pk.does_not_exist())
        self._placing.number(tx, version, number)
        self._take(tx, name, version, number)
        self._take_artifact(tx)
        return Prepared(version, tx, event.seq)

    def hear(self, refused: Refused) -> None:
        """Mind why an attempt was refused. Raises what another one would not mend."""
        if "tree" in refused.items:
            self._made = self._made.listed_again()
        if "source" in refused.items and self._made.copied:
            self._made = replace(self._made, copied=_source_of(self._made.copied))
        if "label" in refused.items:
            self._reserved = None

    def _reserve(self, model: RegisteredModel) -> int:
        """The next number that is nobody's label."""
        for _ in range(MAX_SKIPPED):
            version = numbered(self._version, model, 1)
            number = self._placing.reserve(version, model.rm_id)
            if not _is_claimed(claim_key(model.rm_id, numbered(self._version, model, number))):
                return number
        raise LostRace("the next numbers are labels of other versions")

    def _take(self, tx: Transaction, name: NameItem, version: ModelVersion, number: int) -> None:
        at, changed_at = version.published_at, name.inline_model().last_changed_at
        if self._reserved is None:
            is_next = NameItem.counter == number - 1
            touch(tx, version, version.rm_id, at, changed_at, is_next, number)
        else:
            touch(tx, version, version.rm_id, at)

    def _take_artifact(self, tx: Transaction) -> None:
        """Have the bytes stay as they are while this version has them."""
        made = self._made
        if made.artifact.kind == "tree" and made.changes is not None:
            seal(tx, made.artifact, made.changes)
        if made.artifact.kind == "file":
            if made.copied is None:
                raise ValueError("an object belongs to the version that it was stored for, and to copies of that")
            hold(tx, made.artifact, made.copied)


def _is_claimed(key: str) -> bool:
    with transient_errors_as_busy():
        try:
            ClaimItem.get(key, META, consistent_read=True)
        except DoesNotExist:
            return False
    return True


def _source_of(copied: ModelVersion) -> ModelVersion:
    """What is copied, as it is now. Raises NotFound if it has gone."""
    with transient_errors_as_busy():
        try:
            item = VersionItem.get(model_key(copied.id), META, consistent_read=True)
        except DoesNotExist as exc:
            raise NotFound(NO_SUCH_MODEL) from exc
    version = item.inline_version() if item.record else None
    if version is None or version.artifact != copied.artifact:
        raise NotFound(NO_SUCH_MODEL)
    return version
