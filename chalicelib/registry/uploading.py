"""The life of an upload: opened before a byte moves, sent to S3 by its publisher, READY only when all of it is there.

An open upload holds the id and the claim of its model. Whatever ends it decides alone, by a condition on its state;
what is left of it in S3 then belongs to no one and is removed, at once or by the sweep.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from chalicelib.registry.archives import inspect_archive, inspect_file
from chalicelib.registry.audit import Action
from chalicelib.registry.errors import (
    NO_SUCH_UPLOAD,
    Conflict,
    InvalidArchive,
    InvalidInput,
    NotFound,
    OutcomeUnknown,
    RegistryError,
    Unavailable,
    UploadClosed,
    UploadIncomplete,
)
from chalicelib.registry.models import MAX_METADATA_BYTES, ZIP, File, ModelVersion, tags_size
from chalicelib.registry.repetition import is_own_work
from chalicelib.registry.service import base_name, completed, telling_no_hidden_upload
from chalicelib.registry.uploads import (
    EXPIRY,
    Upload,
    UploadState,
    checked_digests,
    composite_digest,
    expiry,
    planned_part_size,
)

if TYPE_CHECKING:
    from chalicelib.registry.access import Actor
    from chalicelib.registry.archives import ArchiveReport
    from chalicelib.registry.models import Draft
    from chalicelib.registry.ports import Blobs, Catalog, SignedRequest
    from chalicelib.registry.service import Announce
    from chalicelib.registry.uploads import (
        Part,
        StatedFile,
        StoredObject,
    )


@dataclass(frozen=True)
class UploadStatus:
    """An upload with what S3 has of it. `request` stores the whole object, while one PUT still has to."""

    upload: Upload
    is_stored: bool = False
    parts: Sequence[Part] = ()
    request: SignedRequest | None = None


class Uploading:
    """Opens, completes and ends uploads."""

    def __init__(
        self,
        catalog: Catalog,
        blobs: Blobs,
        clock: Callable[[], datetime],
        new_ulid: Callable[[], str],
        announce: Announce,
    ) -> None:
        self._uploads = catalog.uploads
        self._catalog = catalog
        self._blobs = blobs
        self._clock = clock
        self._new_ulid = new_ulid
        self._announce = announce

    def open(self, draft: Draft, file: StatedFile, by: Actor) -> Upload:
        """A new upload, after every check that needs no bytes; inside the caller's project, if access is limited.

        Repeated by the same request, it is the upload that this has opened already. Raises Forbidden, InvalidInput,
        Conflict and Unavailable.
        """
        draft = by.access.placed(draft)
        try:
            return self._open(draft, file, by)
        except Conflict as exc:
            if exc.upload_id and is_own_work(self._catalog, exc, draft, by):
                return self._uploads.get(exc.upload_id)
            raise

    def _open(self, draft: Draft, file: StatedFile, by: Actor) -> Upload:
        part_size = planned_part_size(file.size)
        if part_size is None and file.sha256 is None:
            raise InvalidInput("sha256", "State the sha256 of a file of up to 64 MiB: S3 checks its one PUT by it.")
        if tags_size(draft.tags) > MAX_METADATA_BYTES:
            raise InvalidInput("tags", f"{MAX_METADATA_BYTES} bytes of tags go with an upload; set more on the model.")
        at, name = self._clock(), base_name(file.file_name)
        if file.media_type != ZIP and name.lower().endswith(".zip"):
            raise InvalidInput("media_type", f"State {ZIP} for a file whose name ends in .zip, or send the bare model.")
        with telling_no_hidden_upload(self._catalog, by):
            placement = self._catalog.place(draft, at)
        upload = Upload(
            id=self._new_ulid(),
            draft=draft,
            rm_id=placement.rm_id,
            key=f"artifacts/{self._new_ulid()}/{name}",
            file_name=name,
            media_type=file.media_type,
            size=file.size,
            sha256=file.sha256,
            part_size=part_size,
            opened_at=at,
            expires_at=expiry(at, at),
        )
        if part_size:
            upload = upload.model_copy(update={"multipart_id": self._blobs.start_parts(upload)})
        try:
            with telling_no_hidden_upload(self._catalog, by):
                upload = self._uploads.open(upload, placement, by)
        except OutcomeUnknown:
            raise
        except RegistryError:
            self._remove_bytes(upload)
            raise
        self._announce(Action.UPLOAD_OPENED, None, upload, by)
        return upload

    def still_open(self, upload_id: str, by: Actor) -> Upload:
        """An upload that bytes can go to. Raises NotFound and UploadClosed."""
        upload = self._seen(upload_id, by)
        if upload.state == UploadState.COMPLETED:
            raise UploadClosed(upload.state, f"its model is {upload.draft.id}")
        self._require_open(upload)
        return upload

    def status(self, upload_id: str, by: Actor) -> UploadStatus:
        """What there is of an upload, in the registry and in S3. Raises NotFound and Unavailable."""
        upload = self._seen(upload_id, by)
        if upload.has_expired(self._clock()):
            return UploadStatus(upload.ended(UploadState.EXPIRED))
        if upload.state != UploadState.OPEN:
            return UploadStatus(upload, is_stored=upload.state == UploadState.COMPLETED)
        parts = self._blobs.parts(upload) if upload.part_size else None
        is_stored = parts is None and self._blobs.stored(upload.key) is not None
        request = None if is_stored or upload.part_size else self._blobs.put_request(upload)
        return UploadStatus(upload, is_stored, parts or (), request)

    def put_request(self, upload: Upload) -> SignedRequest | None:
        """Where the one PUT goes; None if the upload has parts."""
        return None if upload.part_size else self._blobs.put_request(upload)

    def part_requests(
        self, upload_id: str, digests: Mapping[int, str], by: Actor
    ) -> tuple[Upload, Sequence[tuple[int, SignedRequest]]]:
        """Where these parts go; it keeps the upload alive. Raises NotFound, UploadClosed and InvalidInput."""
        upload = self._uploads.renew(upload_id, by, self._clock())
        if not upload.part_size:
            raise InvalidInput("digests", "This upload has no parts: PUT the whole file to its url.")
        checked_digests(upload, digests)
        return upload, [
            (number, self._blobs.part_request(upload, number, digest)) for number, digest in digests.items()
        ]

    def complete(self, upload_id: str, parts: Sequence[Part], sha256: str | None, by: Actor) -> ModelVersion:
        """The model, READY; again the same, if it is already.

        Raises UploadIncomplete, after which the upload goes on; UploadClosed; InvalidInput, for an archive that may not
        be stored: the upload has failed then, and its bytes are gone; Conflict and Unavailable.
        """
        upload = self._seen(upload_id, by)
        if upload.state == UploadState.COMPLETED:
            return self._published(upload, by)
        if upload.state == UploadState.FAILED:
            # Its answer was lost, perhaps.
            raise InvalidArchive(upload.reason or "")
        self._require_open(upload)
        file = self._stored_file(upload, parts, sha256)
        draft = self._described(upload, by)
        now = max(self._clock(), upload.opened_at)
        version = ModelVersion(
            **dict(draft), rm_id=upload.rm_id, number=1, revision=1, published_at=now, updated_at=now, artifact=file
        )
        try:
            version = self._uploads.publish(upload, version, by)
        except UploadClosed as exc:
            if exc.state == UploadState.COMPLETED:
                return self._published(upload, by)
            with suppress(Unavailable):
                self.clear(upload_id)
            raise
        self._announce(Action.VERSION_REGISTERED, None, version, by)
        return version

    def abort(self, upload_id: str, by: Actor) -> None:
        """End an upload; nothing if it has ended without a model. Raises NotFound and UploadClosed."""
        ended = self._end(upload_id, UploadState.ABORTED, "by its publisher", by)
        if ended.state == UploadState.COMPLETED:
            raise UploadClosed(ended.state, "its model is registered; delete that")

    def clear(self, upload_id: str) -> Upload:
        """Expire an upload if it is due, and remove the bytes of one that ended without a model; as it is then.

        Raises NotFound, and Unavailable if bytes may be left.
        """
        upload = self._uploads.get(upload_id)
        if upload.has_expired(self._clock()):
            before, upload = self._uploads.expire(upload_id, self._clock())
            if upload is not before:
                self._announce(Action.UPLOAD_EXPIRED, before, upload, EXPIRY)
        if upload.state not in (UploadState.OPEN, UploadState.COMPLETED):
            self._remove_bytes(upload, quietly=False)
        return upload

    def _seen(self, upload_id: str, by: Actor) -> Upload:
        """Raises NotFound, also for what the caller may not see."""
        upload = self._uploads.get(upload_id)
        by.access.require_seen(upload.qualified_name, NO_SUCH_UPLOAD)
        return upload

    def _require_open(self, upload: Upload) -> None:
        if upload.has_expired(self._clock()):
            raise UploadClosed(UploadState.EXPIRED)
        if upload.state != UploadState.OPEN:
            raise UploadClosed(upload.state, upload.reason)

    def _published(self, upload: Upload, by: Actor) -> ModelVersion:
        version = self._catalog.version(upload.draft.id)
        by.access.require_seen(version.qualified_name)
        if version.file is None or version.file.key != upload.key:
            raise NotFound("The model of this upload was deleted.")
        return version

    def _stored_file(self, upload: Upload, parts: Sequence[Part], sha256: str | None) -> File:
        """The artifact, all of it in S3 and as it was stated. Raises UploadIncomplete and InvalidInput."""
        stated = (sha256 or upload.sha256 or "").lower() or None
        if upload.sha256 and stated != upload.sha256.lower():
            raise InvalidInput("sha256", f"The upload was opened for {upload.sha256}, not for {stated}.")
        digest = self._joined(upload, parts) if upload.part_size else None
        stored = self._blobs.stored(upload.key)
        if stored is None:
            raise self._missing(upload.id)
        self._check(upload, stored, digest)
        checked_by = "s3" if not upload.part_size else "publisher" if stated else None
        return File(
            key=upload.key,
            file_name=upload.file_name,
            media_type=upload.media_type,
            size=upload.size,
            sha256=stated,
            sha256_checked_by=checked_by,
            s3_digest=digest,
        )

    def _joined(self, upload: Upload, stated: Sequence[Part]) -> str:
        """The digest that the object of these parts has, which is made now unless it was before."""
        upload.checked_numbers(stated)
        checked_digests(upload, {part.number: part.digest for part in stated})
        there = self._blobs.parts(upload)
        if there is not None:
            upload.checked_parts(stated, there)
            self._blobs.join(upload, there)
        return composite_digest(stated)

    def _check(self, upload: Upload, stored: StoredObject, digest: str | None) -> None:
        if digest is None:
            meant = stored.digest == base64.b64encode(bytes.fromhex(upload.sha256 or "")).decode()
        else:
            meant = stored.digest == digest
        if not meant or stored.size != upload.size:
            raise UploadIncomplete("S3 holds other bytes than are stated: state every part as it was sent.", [])

    def _missing(self, upload_id: str) -> RegistryError:
        """Why there is no object. Nothing is done about it: another request may be joining the parts just now."""
        upload = self._uploads.get(upload_id)
        if upload.state != UploadState.OPEN:
            return UploadClosed(upload.state, upload.reason)
        if not upload.part_size:
            return UploadIncomplete("The file is not there: PUT it to the url of the upload, then complete it.", [])
        return UploadIncomplete(
            "S3 has neither the file nor its parts. Unless another request is completing the upload right now, abort it"
            " and start a new one.",
            range(1, upload.part_count + 1),
        )

    def _described(self, upload: Upload, by: Actor) -> Draft:
        """The draft with what the stored bytes say of themselves. What may not be stored ends the upload."""
        try:
            return completed(upload.draft, self._inspected(upload))
        except InvalidInput as exc:
            self._end(upload.id, UploadState.FAILED, str(exc), by)
            raise

    def _inspected(self, upload: Upload) -> ArchiveReport:
        with self._blobs.opened(upload.key, upload.size) as file:
            if upload.media_type == ZIP:
                return inspect_archive(file, declared_format=upload.draft.format)
            return inspect_file(file, upload.file_name, declared_format=upload.draft.format)

    def _end(self, upload_id: str, state: UploadState, reason: str, by: Actor) -> Upload:
        before, ended = self._uploads.end(upload_id, state, reason, by, self._clock())
        if ended.state == UploadState.COMPLETED:
            return ended
        if ended is not before:
            self._announce(Action(f"upload.{state.lower()}"), before, ended, by)
        self._remove_bytes(ended)
        return ended

    def _remove_bytes(self, upload: Upload, *, quietly: bool = True) -> None:
        """Remove what S3 has of an upload that ended without a model. What stays behind is swept."""
        with suppress(Unavailable) if quietly else nullcontext():
            if upload.part_size and upload.multipart_id:
                self._blobs.drop_parts(upload)
            if stored := self._blobs.stored(upload.key):
                self._blobs.discard(upload.key, stored.version_id)
