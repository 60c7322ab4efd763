"""The uploads on DynamoDB: what an open one holds, and how it ends.

An open upload holds its id (`VersionItem.hold`) and its claim. It ends once: state, expiry and the hold are conditions
of every transaction that ends it. Its row in `UPLOADS` outlives it until nothing of it is left in S3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from pynamodb.exceptions import DoesNotExist, UpdateError

from chalicelib.registry.audit import Action, Change
from chalicelib.registry.errors import NO_SUCH_UPLOAD, NotFound, UploadClosed
from chalicelib.registry.models import time_text
from chalicelib.registry.registered_models import renamed_as
from chalicelib.registry.uploads import EXPIRY, UploadState
from chalicelib.store.commits import Prepared
from chalicelib.store.keys import META, SWEEP, UPLOADS, claim_key, due_key, model_key, name_key, upload_key
from chalicelib.store.model_records import item_of, touch
from chalicelib.store.placing import read_items, within
from chalicelib.store.schema import (
    ClaimItem,
    EventItem,
    NameItem,
    PointerItem,
    SweepItem,
    UploadItem,
    VersionItem,
    is_at,
    is_unused,
)
from chalicelib.store.transactions import LostRace, Transaction, transient_errors_as_busy
from chalicelib.store.version_records import put_version
from chalicelib.store.version_rows import enlist

if TYPE_CHECKING:
    from pynamodb.connection.base import Connection
    from pynamodb.expressions.condition import Condition

    from chalicelib.registry.access import Actor
    from chalicelib.registry.audit import Event
    from chalicelib.registry.models import Head, ModelVersion, Placement
    from chalicelib.registry.uploads import Upload
    from chalicelib.store.commits import Commits
    from chalicelib.store.placing import Placing
    from chalicelib.store.transactions import Retry

REMEMBERED = timedelta(days=30)  # how long an upload can be asked for after its end
ENDINGS = {
    UploadState.FAILED: Action.UPLOAD_FAILED,
    UploadState.ABORTED: Action.UPLOAD_ABORTED,
    UploadState.EXPIRED: Action.UPLOAD_EXPIRED,
}


class DynamoUploads:
    """Uploads (registry/ports.py) on the two tables of schema.py."""

    def __init__(
        self,
        connection: Connection,
        placing: Placing,
        commits: Commits,
        retry: Retry,
        new_ulid: Callable[[], str],
    ) -> None:
        self._connection = connection
        self._placing = placing
        self._commits = commits
        self._retry = retry
        self._new_ulid = new_ulid

    def get(self, upload_id: str) -> Upload:
        return self._retry(lambda _: self._upload(upload_id))

    def open(self, upload: Upload, placement: Placement, by: Actor) -> Upload:
        event_id = self._new_ulid()

        def attempt(number: int) -> Prepared[Upload]:
            where = self._placing.place_again(upload.draft, upload.opened_at) if number else placement
            return self._opening(upload.model_copy(update={"rm_id": where.rm_id}), where, by, event_id)

        return self._commits.once(model_key(upload.draft.id), event_id, attempt)

    def renew(self, upload_id: str, by: Actor, at: datetime) -> Upload:
        def renew(_: int) -> Upload:
            upload = self._open_upload(upload_id, at, by)
            renewed = upload.renewed(at)
            item = UploadItem(upload_key(upload_id), META)
            try:
                with transient_errors_as_busy():
                    item.update([UploadItem.expires_at.set(time_text(renewed.expires_at))], condition=_is_open(at))
            except UpdateError as exc:
                if exc.cause_response_code == "ConditionalCheckFailedException":
                    raise LostRace("the upload has ended") from exc
                raise
            return renewed

        return self._retry(renew)

    def publish(self, upload: Upload, version: ModelVersion, by: Actor) -> ModelVersion:
        event_id = self._new_ulid()

        def attempt(number: int) -> Prepared[ModelVersion]:
            is_contended = number > 0
            now = self._open_upload(upload.id, version.published_at, by) if is_contended else upload
            return self._publishing(now, version, by, event_id, is_contended)

        return self._commits.once(model_key(version.id), event_id, attempt)

    def end(self, upload_id: str, state: UploadState, reason: str, by: Actor, at: datetime) -> tuple[Upload, Upload]:
        event_id = self._new_ulid()
        as_read = self.get(upload_id)
        by.access.require_seen(as_read.qualified_name, NO_SUCH_UPLOAD)

        def attempt(number: int) -> Prepared[tuple[Upload, Upload]]:
            upload = self._upload(upload_id) if number else as_read
            if upload.state != UploadState.OPEN or (state == UploadState.EXPIRED and not upload.has_expired(at)):
                return Prepared((upload, upload))
            return self._ending(upload, upload.ended(state, reason), by, at, event_id)

        return self._commits.once(model_key(as_read.draft.id), event_id, attempt)

    def expire(self, upload_id: str, at: datetime) -> tuple[Upload, Upload]:
        return self.end(upload_id, UploadState.EXPIRED, "nothing happened to it for too long", EXPIRY, at)

    def due(self, at: datetime, limit: int, after: str | None = None) -> Sequence[str]:
        def read(_: int) -> Sequence[str]:
            # `!` sorts behind nothing, `~` behind every id.
            within = PointerItem.sk.between(f"{after}!" if after else " ", f"{time_text(at)}~")
            with transient_errors_as_busy():
                return [item.sk for item in PointerItem.query(UPLOADS, within, limit=limit, consistent_read=True)]

        return self._retry(read)

    def forget(self, row: str, later: datetime | None = None) -> None:
        upload_id = row.partition("#")[2]

        def move(_: int) -> None:
            tx = Transaction(self._connection)
            tx.delete("row", PointerItem(UPLOADS, row))
            if later and (moved := f"{time_text(later)}#{upload_id}") != row:
                tx.put("moved", PointerItem(UPLOADS, moved, target=upload_key(upload_id)))
            tx.commit()

        self._retry(move)

    def sweep_position(self) -> str:
        def read(_: int) -> str:
            with transient_errors_as_busy():
                try:
                    return SweepItem.get(SWEEP, META, consistent_read=True).after
                except DoesNotExist:
                    return ""

        return self._retry(read)

    def sweep_on(self, after: str) -> None:
        def write(_: int) -> None:
            with transient_errors_as_busy():
                SweepItem(SWEEP, META, after=after).save()

        self._retry(write)

    # Reads

    def _upload(self, upload_id: str) -> Upload:
        with transient_errors_as_busy():
            try:
                return UploadItem.get(upload_key(upload_id), META, consistent_read=True).stored_upload()
            except DoesNotExist as exc:
                raise NotFound(NO_SUCH_UPLOAD) from exc

    def _open_upload(self, upload_id: str, at: datetime, by: Actor) -> Upload:
        """Raises UploadClosed unless it is open at this time."""
        upload = self._upload(upload_id)
        by.access.require_seen(upload.qualified_name, NO_SUCH_UPLOAD)
        if upload.has_expired(at):
            raise UploadClosed(UploadState.EXPIRED, f"on {time_text(upload.expires_at)}")
        if upload.state != UploadState.OPEN:
            raise UploadClosed(upload.state, upload.reason)
        return upload

    # Writes

    def _opening(self, upload: Upload, placement: Placement, by: Actor, event_id: str) -> Prepared[Upload]:
        draft, at = upload.draft, upload.opened_at
        event = _event(Action.UPLOAD_OPENED, None, upload, placement.head, by, at, event_id)
        tx = Transaction(self._connection)
        tx.put("id", VersionItem.hold(upload, event), condition=is_unused(placement.head))
        claim = ClaimItem(claim_key(placement.rm_id, draft), META, holder=draft.id, upload=upload.id)
        tx.put("claim", claim, condition=ClaimItem.pk.does_not_exist())
        tx.put("upload", UploadItem.of(upload), condition=UploadItem.pk.does_not_exist())
        tx.put("row", PointerItem(UPLOADS, due_key(upload), target=upload_key(upload.id)))
        tx.put("event", EventItem.of(event), condition=EventItem.pk.does_not_exist())
        if placement.is_new_registered_model:
            self._placing.create(tx, draft, placement, by, at, counter=0)
        else:
            tx.check("name", NameItem, name_key(draft), META, condition=NameItem.rm_id == placement.rm_id)
        return Prepared(upload, tx, event.seq)

    def _publishing(
        self, upload: Upload, version: ModelVersion, by: Actor, event_id: str, is_contended: bool
    ) -> Prepared[ModelVersion]:
        """The version in place of the hold. Its precisions may be other than were claimed: the archive told them."""
        held, name = self._held(upload)
        head, at = held.head, version.published_at
        version = renamed_as(version, name.inline_model())
        placement = within(name, int(name.counter) + 1, head)
        if is_contended:
            placement = placement.model_copy(update={"number": self._placing.reserve(version, upload.rm_id)})
        version = version.placed(placement)
        change = Change.between(Action.VERSION_REGISTERED, None, version, by, at, event_id)
        event = change.after(model_key(version.id), head)
        tx = Transaction(self._connection)
        put_version(tx, "record", version, event, is_at(head) & (VersionItem.upload == upload.id))
        enlist(tx, version)
        self._claim(tx, upload, version, at, is_contended)
        self._placing.number(tx, version, placement.number)
        if is_contended:
            touch(tx, version, upload.rm_id, at)
        else:
            self._placing.count(tx, version, placement, at)
        done = upload.ended(UploadState.COMPLETED)
        tx.put("upload", UploadItem.of(done, at + REMEMBERED), condition=_is_open(at))
        return Prepared(version, tx, event.seq)

    def _claim(self, tx: Transaction, upload: Upload, version: ModelVersion, at: datetime, is_contended: bool) -> None:
        held, wanted = claim_key(upload.rm_id, upload.draft), claim_key(upload.rm_id, version)
        claim = ClaimItem(wanted, META, holder=version.id)
        if wanted == held:
            tx.put("claim", claim, condition=(ClaimItem.holder == version.id) & (ClaimItem.upload == upload.id))
            return
        if is_contended:
            self._placing.require_free(wanted, at)
        tx.delete("held claim", ClaimItem(held, META), condition=ClaimItem.upload == upload.id)
        tx.put("claim", claim, condition=ClaimItem.pk.does_not_exist())

    def _held(self, upload: Upload) -> tuple[VersionItem, NameItem]:
        """The hold of an upload, and its registered model, wherever that is by now. Raises UploadClosed without it."""
        keys = [(model_key(upload.draft.id), META), (name_key(upload.draft), META)]
        with transient_errors_as_busy():
            found = {item.pk: item for item in read_items(keys)}
        held, name = found.get(keys[0][0]), found.get(keys[1][0])
        if not isinstance(held, VersionItem) or held.upload != upload.id:
            raise LostRace("the upload has ended")
        if isinstance(name, NameItem) and name.rm_id == upload.rm_id:
            return held, name
        try:
            return held, item_of(upload.rm_id)
        except NotFound as exc:
            raise UploadClosed("without its registered model", "that was deleted meanwhile") from exc

    def _ending(
        self, upload: Upload, ended: Upload, by: Actor, at: datetime, event_id: str
    ) -> Prepared[tuple[Upload, Upload]]:
        with transient_errors_as_busy():
            held = VersionItem.get(model_key(upload.draft.id), META, consistent_read=True)
        if held.upload != upload.id:
            raise LostRace("the upload has ended")
        at = max(at, upload.opened_at)
        event = _event(ENDINGS[ended.state], upload, ended, held.head, by, at, event_id)
        tx = Transaction(self._connection)
        tx.put("hold", VersionItem.tombstone(upload.draft.id, event), condition=is_at(held.head))
        claim = ClaimItem(claim_key(upload.rm_id, upload.draft), META)
        tx.delete("held claim", claim, condition=ClaimItem.upload == upload.id)
        condition = _has_expired(at) if ended.state == UploadState.EXPIRED else _is_open()
        tx.put("upload", UploadItem.of(ended, at + REMEMBERED), condition=condition)
        tx.put("event", EventItem.of(event), condition=EventItem.pk.does_not_exist())
        return Prepared((upload, ended), tx, event.seq)


def _is_open(at: datetime | None = None) -> Condition:
    """The upload has not ended; nor has it expired at this time, if one is given."""
    condition: Condition = UploadItem.state == UploadState.OPEN.value
    return condition & (UploadItem.expires_at >= time_text(at)) if at else condition


def _has_expired(at: datetime) -> Condition:
    condition: Condition = (UploadItem.state == UploadState.OPEN.value) & (UploadItem.expires_at < time_text(at))
    return condition


def _event(
    action: Action, before: Upload | None, after: Upload, head: Head, by: Actor, at: datetime, event_id: str
) -> Event:
    return Change.between(action, before, after, by, at, event_id).after(model_key(after.draft.id), head)
