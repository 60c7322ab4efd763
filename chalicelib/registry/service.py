"""The operations that hold a rule: bytes first and record last, one event for each change.

Plain reads go from a surface straight to the catalog.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, BinaryIO

from chalicelib.registry.audit import Action
from chalicelib.registry.errors import (
    NO_SUCH_NAME,
    Conflict,
    InvalidArchive,
    InvalidInput,
    NotFound,
    OutcomeUnknown,
    RegistryError,
)
from chalicelib.registry.models import ZIP, File, ModelVersion
from chalicelib.registry.repetition import is_own_work

if TYPE_CHECKING:
    from chalicelib.registry.access import Actor
    from chalicelib.registry.archives import ArchiveReport
    from chalicelib.registry.models import Changes, Draft, Placement
    from chalicelib.registry.ports import Blobs, Catalog
    from chalicelib.registry.registered_models import RegisteredModel, RegisteredModelChanges
    from chalicelib.registry.tokens import Token
    from chalicelib.registry.tracking import Tracked
    from chalicelib.registry.uploads import Upload

    Subject = ModelVersion | RegisteredModel | Upload | Token | Tracked
    Announce = Callable[[Action, Subject | None, Subject | None, Actor], None]

MAX_FILE_NAME_BYTES = 255


@dataclass(frozen=True)
class Parcel:
    """A ZIP archive on its way in: its bytes, and what the sender says of them."""

    body: BinaryIO
    file_name: str
    stated_sha256: str | None = None


class Registry:
    """Registers, changes and removes model versions."""

    def __init__(
        self,
        catalog: Catalog,
        blobs: Blobs,
        clock: Callable[[], datetime],
        new_ulid: Callable[[], str],
        announce: Announce,
    ) -> None:
        self.catalog = catalog
        self.blobs = blobs
        self._clock = clock
        self._new_ulid = new_ulid
        self._announce = announce

    def version(self, model_id: str, by: Actor) -> ModelVersion:
        """One version. Raises NotFound, also for what the caller may not see."""
        version = self.catalog.version(model_id)
        by.access.require_seen(version.qualified_name)
        return version

    def register(self, draft: Draft, parcel: Parcel, by: Actor) -> ModelVersion:
        """Check the archive, store its bytes, then its record; inside the caller's project, if access is limited.

        What the archive says of itself fills in what the draft leaves open. Raises Forbidden, InvalidInput,
        InvalidArchive, Conflict and Unavailable; then no record exists and the bytes are gone again. After
        OutcomeUnknown both may be. Repeated by the same request, it is the version that this has registered already.
        """
        draft = by.access.placed(draft)
        try:
            return self._register(draft, parcel, by)
        except Conflict as exc:
            if is_own_work(self.catalog, exc, draft, by):
                with suppress(NotFound):
                    return self.catalog.version(draft.id)
            raise

    def register_stored(
        self, draft: Draft, file: File, version_id: str, report: ArchiveReport, by: Actor
    ) -> ModelVersion:
        """As register, of an archive that is stored already, as this version of its object, and was inspected.

        Its bytes are this one's: if it is refused, whatever the reason, they are gone.
        """
        with self._discarding(file, version_id):
            draft = completed(by.access.placed(draft), report)
            placement = self._placement(draft, by)
        return self._add(draft, placement, file, version_id, by)

    def new_key(self, file_name: str) -> str:
        """A key that no object has had, for a file of this name."""
        return f"artifacts/{self._new_ulid()}/{base_name(file_name)}"

    def _register(self, draft: Draft, parcel: Parcel, by: Actor) -> ModelVersion:
        from chalicelib.registry.archives import inspect_archive  # a container that only reads does without

        size, sha256 = _measure(parcel)
        report = inspect_archive(parcel.body, declared_format=draft.format)
        draft = completed(draft, report)
        placement = self._placement(draft, by)
        file = File(
            key=self.new_key(parcel.file_name),
            file_name=base_name(parcel.file_name),
            media_type=ZIP,
            size=size,
            sha256=sha256,
            sha256_checked_by="registry",
        )
        parcel.body.seek(0)
        version_id = self.blobs.put(file.key, parcel.body, size, sha256, file.media_type, draft.id)
        return self._add(draft, placement, file, version_id, by)

    def _placement(self, draft: Draft, by: Actor) -> Placement:
        with telling_no_hidden_upload(self.catalog, by):
            return self.catalog.place(draft, self._clock())

    def _add(self, draft: Draft, placement: Placement, file: File, version_id: str, by: Actor) -> ModelVersion:
        """The record, last of all."""
        version = self._version(draft, placement, file)
        with self._discarding(file, version_id), telling_no_hidden_upload(self.catalog, by):
            version = self.catalog.add(version, placement, by)
        self._announce(Action.VERSION_REGISTERED, None, version, by)
        return version

    @contextmanager
    def _discarding(self, file: File, version_id: str) -> Iterator[None]:
        """Remove the bytes of what is refused."""
        try:
            yield
        except OutcomeUnknown:
            # There may be a record now: its bytes stay, and are swept later if there is none.
            raise
        except RegistryError:
            self.blobs.discard(file.key, version_id)
            raise

    def update(self, model_id: str, changes: Changes, by: Actor, if_revision: int | None = None) -> ModelVersion:
        """Replace fields; the version as it is then.

        Raises NotFound, Forbidden, Conflict, StaleRevision and InvalidInput.
        """
        at = self._clock()

        def edit(now: ModelVersion) -> ModelVersion:
            edited = now.edited(changes, at)
            by.access.require_within(edited.qualified_name)
            return edited

        with telling_no_hidden_upload(self.catalog, by):
            before, after = self.catalog.change(model_id, edit, by, at, if_revision)
        if after.revision != before.revision:
            self._announce(Action.VERSION_UPDATED, before, after, by)
        return after

    def delete(self, model_id: str, by: Actor) -> ModelVersion:
        """Remove the record and its claim, then the bytes unless a copy has them; what was removed. Raises NotFound."""
        removed, key = self.catalog.remove(model_id, by, self._clock())
        if key:
            self.blobs.remove(key)
        self._announce(Action.VERSION_DELETED, removed, None, by)
        return removed

    def registered_model(self, exposed_name: str, by: Actor) -> RegisteredModel:
        """One registered model. Raises NotFound, also for what the caller may not see."""
        model = self.catalog.registered_models.named(exposed_name)
        by.access.require_seen(model.qualified_name, NO_SUCH_NAME)
        return model

    def change_registered_model(
        self, exposed_name: str, changes: RegisteredModelChanges, by: Actor, if_revision: int | None = None
    ) -> RegisteredModel:
        """Change what all versions share; as it is then. Raises NotFound, StaleRevision and InvalidInput."""
        at = self._clock()
        before, after = self.catalog.registered_models.change(
            exposed_name, lambda now: now.edited(changes, at), by, at, if_revision
        )
        if after.revision != before.revision:
            self._announce(Action.REGISTERED_MODEL_UPDATED, before, after, by)
        return after

    def _version(self, draft: Draft, placement: Placement, file: File) -> ModelVersion:
        now = self._clock()
        return ModelVersion(
            **dict(draft),
            rm_id=placement.rm_id,
            number=placement.number,
            revision=placement.head.seq + 1,
            published_at=now,
            updated_at=now,
            artifact=file,
        )


@contextmanager
def telling_no_hidden_upload(catalog: Catalog, by: Actor) -> Iterator[None]:
    """A conflict names the upload that holds an id only to who may see it."""
    try:
        yield
    except Conflict as exc:
        if exc.upload_id and by.access.is_limited and not _is_seen(catalog, exc.upload_id, by):
            raise Conflict(exc.holder) from None
        raise


def _is_seen(catalog: Catalog, upload_id: str, by: Actor) -> bool:
    with suppress(NotFound):
        return by.access.sees(catalog.uploads.get(upload_id).qualified_name)
    return False


def base_name(stated: str) -> str:
    """A file name that is safe in a key and in a header: no path, no control characters, at most 255 bytes."""
    name = re.split(r"[/\\]", stated)[-1]
    name = "".join(c for c in name if c.isprintable()).strip(" .") or "model.zip"
    stem, dot, suffix = name.rpartition(".")
    while len(name.encode()) > MAX_FILE_NAME_BYTES:
        stem = stem[:-1] if stem else ""
        suffix = suffix if stem else suffix[:-1]
        name = f"{stem}{dot}{suffix}"
    return name


def _measure(parcel: Parcel) -> tuple[int, str]:
    """Size in bytes and SHA-256 of the body. Raises InvalidArchive if empty, InvalidInput if not as stated."""
    parcel.body.seek(0)
    digest = hashlib.file_digest(parcel.body, "sha256").hexdigest()  # type: ignore[arg-type]
    size = parcel.body.seek(0, io.SEEK_END)
    if not size:
        raise InvalidArchive("The file is empty; a ZIP archive is expected.")
    if parcel.stated_sha256 is not None and parcel.stated_sha256.lower() != digest:
        raise InvalidInput("sha256", f"The file's SHA-256 is {digest}, not the stated {parcel.stated_sha256}.")
    return size, digest


def completed(draft: Draft, report: ArchiveReport) -> Draft:
    """The draft with what the archive says, where the publisher said nothing. Raises InvalidInput."""
    found = {
        "format": report.format,
        "labels": report.labels,
        "category": report.category,
        "precision": report.precision,
    }
    told = draft.model_copy(
        update={
            field: value
            for field, value in found.items()
            if value and (field not in draft.model_fields_set or getattr(draft, field) is None)
        }
    )
    try:
        told.check_limits()
    except InvalidInput:
        # What the archive says must not make the publisher's own words too many.
        told = told.model_copy(update={"labels": draft.labels})
        told.check_limits()
    return told
