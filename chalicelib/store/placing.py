"""Where a version may stand: what is taken, and the items that make a place one's own.

A place is an id, a number and a claim within a registered model, which is made with its first version. Reads look a
moment ahead so that most refusals cost no write; the conditions of the items decide. What an expired upload still
holds is freed on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from pynamodb.exceptions import DoesNotExist, UpdateError

from chalicelib.registry import audit
from chalicelib.registry.audit import Action, Change
from chalicelib.registry.errors import Conflict
from chalicelib.registry.models import Head, Placement
from chalicelib.registry.registered_models import RegisteredModel, exposed_name
from chalicelib.registry.uploads import UploadState
from chalicelib.store.keys import (
    META,
    claim_key,
    exposed_name_key,
    model_key,
    name_key,
    number_key,
    registered_model_key,
)
from chalicelib.store.model_records import put_model, touch
from chalicelib.store.schema import (
    ClaimItem,
    NameItem,
    NumberItem,
    PointerItem,
    RegistryItem,
    VersionItem,
)
from chalicelib.store.transactions import LostRace, transient_errors_as_busy
from chalicelib.store.version_rows import number_row

if TYPE_CHECKING:
    from pynamodb.connection.base import Connection

    from chalicelib.registry.access import Actor
    from chalicelib.registry.audit import Event
    from chalicelib.registry.models import Draft, Metadata, ModelVersion
    from chalicelib.registry.uploads import Upload
    from chalicelib.store.transactions import Transaction

SUFFIX_CHARACTERS = 8


class Placing:
    """`expire` ends an upload if it has expired at a time, and gives it as it was and as it is then."""

    def __init__(
        self,
        connection: Connection,
        new_ulid: Callable[[], str],
        expire: Callable[[str, datetime], tuple[Upload, Upload]],
    ) -> None:
        self._connection = connection
        self._new_ulid = new_ulid
        self._expire = expire

    # Reads

    def place(self, draft: Draft | ModelVersion, at: datetime) -> Placement:
        """Two reads: the registered model with whatever has the id; then the claim. Raises Conflict."""
        keys = [(model_key(draft.id), META), (name_key(draft), META)]
        with transient_errors_as_busy():
            found = {item.pk: item for item in read_items(keys)}
        held, name = found.get(keys[0][0]), found.get(keys[1][0])
        head = self._free_head(draft.id, held, at) if isinstance(held, VersionItem) else Head()
        if not isinstance(name, NameItem):
            return self._new_registered_model(draft, head)
        self.require_free(claim_key(name.rm_id, draft), at)
        number = int(name.counter) + 1
        return within(name, number, head)

    def place_again(self, draft: Draft | ModelVersion, at: datetime) -> Placement:
        """A placement after a lost race, which may have been for the exposed name."""
        placement = self.place(draft, at)
        return self._with_a_free_name(placement) if placement.is_new_registered_model else placement

    def target(self, version: ModelVersion, at: datetime, is_contended: bool) -> Placement:
        """Where a version moves to when its name or project changes; one read, more when contended."""
        with transient_errors_as_busy():
            try:
                name = NameItem.get(name_key(version), META, consistent_read=True)
            except DoesNotExist:
                placement = self._new_registered_model(version, Head())
                return self._with_a_free_name(placement) if is_contended else placement
        if is_contended:
            self.require_free(claim_key(name.rm_id, version), at)
        number = self.reserve(version, name.rm_id) if is_contended else int(name.counter) + 1
        return within(name, number, Head())

    def require_free(self, claim: str, at: datetime, unless_holder: str | None = None) -> None:
        """Raises Conflict with the holder, unless its upload has expired."""
        with transient_errors_as_busy():
            try:
                item = ClaimItem.get(claim, META, consistent_read=True)
            except DoesNotExist:
                return
        if item.holder == unless_holder:
            return
        if not item.upload or self._is_open(item.upload, at):
            raise Conflict(item.holder, item.upload)

    def reserve(self, metadata: Metadata, rm_id: str) -> int:
        """Take the next number for good; it stays a gap if it is not used."""
        name = NameItem(name_key(metadata), META)
        try:
            with transient_errors_as_busy():
                name.update([NameItem.counter.add(1)], condition=NameItem.rm_id == rm_id)
        except UpdateError as exc:
            if exc.cause_response_code == "ConditionalCheckFailedException":
                raise LostRace("the registered model is not there any more") from exc
            raise
        return int(name.counter)

    def _free_head(self, model_id: str, held: VersionItem, at: datetime) -> Head:
        """The newest event of an id that is not in use. Raises Conflict, or LostRace when it just became free."""
        if held.upload:
            if self._is_open(held.upload, at):
                raise Conflict(model_id, held.upload)
            raise LostRace("an upload that held the id has expired")
        if not held.deleted:
            raise Conflict(model_id)
        return held.head

    def _is_open(self, upload_id: str, at: datetime) -> bool:
        return self._expire(upload_id, at)[1].state == UploadState.OPEN

    def _new_registered_model(self, metadata: Metadata, head: Head) -> Placement:
        return Placement(
            rm_id=self._new_ulid(),
            number=1,
            is_new_registered_model=True,
            head=head,
            exposed_name=exposed_name(metadata),
        )

    def _with_a_free_name(self, placement: Placement) -> Placement:
        wanted = placement.exposed_name or ""
        with transient_errors_as_busy():
            try:
                ClaimItem.get(exposed_name_key(wanted), META, consistent_read=True)
            except DoesNotExist:
                return placement
        # The random end of a ULID, for its beginning is the time.
        return placement.model_copy(update={"exposed_name": f"{wanted}~{placement.rm_id[-SUFFIX_CHARACTERS:]}"})

    # Writes

    def enter(
        self,
        tx: Transaction,
        version: ModelVersion,
        placement: Placement,
        by: Actor,
        at: datetime,
        is_reserved: bool,
    ) -> None:
        """Give a version its claim and number in a registered model, which is created if it is new."""
        claim = ClaimItem(claim_key(placement.rm_id, version), META, holder=version.id)
        tx.put("claim", claim, condition=ClaimItem.pk.does_not_exist())
        self.number(tx, version, placement.number)
        if placement.is_new_registered_model:
            self.create(tx, version, placement, by, at, counter=1)
        elif is_reserved:
            touch(tx, version, placement.rm_id, at)
        else:
            self.count(tx, version, placement, at)

    def number(self, tx: Transaction, version: ModelVersion, number: int) -> None:
        row = number_row(version.model_copy(update={"number": number}))
        tx.put("number", row, condition=NumberItem.pk.does_not_exist())

    def count(self, tx: Transaction, version: ModelVersion, placement: Placement, at: datetime) -> None:
        """Take the number of a placement, if it still is the next."""
        is_next = NameItem.counter == placement.number - 1
        touch(tx, version, placement.rm_id, at, placement.changed_at, is_next, placement.number)

    def create(
        self, tx: Transaction, metadata: Metadata, placement: Placement, by: Actor, at: datetime, counter: int
    ) -> None:
        """A registered model with its event, found by its project and name, by its id and by its exposed name."""
        model = RegisteredModel(
            rm_id=placement.rm_id,
            name=metadata.name,
            project_id=metadata.project_id,
            project_name=metadata.project_name,
            exposed_name=placement.exposed_name or exposed_name(metadata),
            revision=1,
            created_at=at,
            updated_at=at,
        )
        put_model(tx, model, counter, self._created(model, by, at))

    def _created(self, model: RegisteredModel, by: Actor, at: datetime) -> Event:
        stated = model.model_dump(include={"name", "project_id", "project_name"}, exclude_none=True)
        change = Change(
            event_id=self._new_ulid(),
            at=at,
            actor=by,
            action=Action.REGISTERED_MODEL_CREATED,
            changes=audit.as_text({field: (None, value) for field, value in stated.items() if value}),
            about=(model.qualified_name,),
        )
        return change.after(registered_model_key(model.rm_id), Head())

    def leave(self, tx: Transaction, version: ModelVersion) -> None:
        """Take a version out of its registered model: its number stays used, its claim becomes free."""
        tx.delete("old number", PointerItem(registered_model_key(version.rm_id), number_key(version.number)))
        self.release_claim(tx, version.rm_id, version)

    def release_claim(self, tx: Transaction, rm_id: str, metadata: Draft | ModelVersion) -> None:
        claim = ClaimItem(claim_key(rm_id, metadata), META)
        tx.delete("old claim", claim, condition=ClaimItem.holder == metadata.id)


def within(name: NameItem, number: int, head: Head) -> Placement:
    """A place in a registered model that there is."""
    model = name.inline_model()
    return Placement(
        rm_id=name.rm_id,
        number=number,
        is_new_registered_model=False,
        head=head,
        exposed_name=model.exposed_name,
        changed_at=model.last_changed_at,
    )


def read_items(keys: Sequence[tuple[str, str]]) -> list[RegistryItem]:
    """Versions (or tombstones) and registered models, as far as they exist, in one consistent read."""
    table = RegistryItem._get_connection()
    wanted = [{"pk": pk, "sk": sk} for pk, sk in keys]
    answer = table.batch_get_item(wanted, consistent_read=True)  # type: ignore[arg-type] # PynamoDB wants Sequence[str]
    items = answer["Responses"].get(table.table_name, [])
    if answer.get("UnprocessedKeys"):
        raise LostRace("a part of the read was throttled")
    return [(VersionItem if item["pk"]["S"].startswith("MODEL#") else NameItem).from_raw_data(item) for item in items]
