"""What time leaves behind: uploads that nobody finished, and objects that no record names.

A run is bounded, goes on where the one before stopped, and may be repeated or run twice at once. An object is removed
only if those for whom it was written, as its mark says (marks.py), name another one or none: the mark is ours, and
keys are never used again, so what is unnamed two days after it was written stays unnamed.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from chalicelib.registry.errors import NotFound, Unavailable
from chalicelib.registry.models import Frozen
from chalicelib.registry.uploads import UploadState

if TYPE_CHECKING:
    from chalicelib.registry.errands import Errands
    from chalicelib.registry.keeping import Keeping
    from chalicelib.registry.ports import Blobs, Catalog
    from chalicelib.registry.uploading import Uploading

ORPHAN_AGE = timedelta(hours=48)
MAX_UPLOADS = 1_000  # in one run; objects get the rest of its time
MAX_OBJECTS = 5_000
PAGE = 200


class Swept(Frozen):
    """What a run did, by counts. `unmarked`: objects that do not say whose they are, and stay."""

    uploads_seen: int = 0
    uploads_expired: int = 0
    uploads_cleared: int = 0
    objects_seen: int = 0
    objects_removed: int = 0
    unmarked: int = 0
    errands_repeated: int = 0
    failed: int = 0
    is_finished: bool = True


class Sweeper:
    """Sweeps within a time: `is_time_left` says whether to go on. `report` is told of errors that are bugs."""

    def __init__(
        self,
        catalog: Catalog,
        uploading: Uploading,
        blobs: Blobs,
        keeping: Keeping,
        errands: Callable[[], Errands],
        clock: Callable[[], datetime],
        report: Callable[[Exception], None],
    ) -> None:
        self._report = report
        self._uploads = catalog.uploads
        self._models = catalog.registered_models
        self._errands = errands
        self._uploading = uploading
        self._keeping = keeping
        self._blobs = blobs
        self._clock = clock

    def sweep(self, is_time_left: Callable[[], bool]) -> Swept:
        """One run. Raises Unavailable if the store cannot be read at all."""
        counts = dict.fromkeys(Swept.model_fields, 0)
        self._repeat_errands(counts)
        finished = self._sweep_uploads(counts, is_time_left) and self._sweep_objects(counts, is_time_left)
        return Swept(**{**counts, "is_finished": finished})

    def _repeat_errands(self, counts: dict[str, int]) -> None:
        """Ask once more for what was left for later, in case that it was lost; twice does no harm."""
        for errand in self._models.pending():
            self._try(lambda errand=errand: self._errands().queue(errand), counts)  # type: ignore[misc]
            counts["errands_repeated"] += 1

    def _sweep_uploads(self, counts: dict[str, int], is_time_left: Callable[[], bool]) -> bool:
        after = None
        while counts["uploads_seen"] < MAX_UPLOADS:
            rows = self._uploads.due(self._clock(), PAGE, after)
            for after in rows:
                if not is_time_left():
                    return False
                counts["uploads_seen"] += 1
                self._try(lambda row=after: self._settle(row, counts), counts)  # type: ignore[misc]
            if len(rows) < PAGE:
                return True
        return False

    def _try(self, step: Callable[[], None], counts: dict[str, int]) -> None:
        """Do one step, and go on though it failed: what fails every time must not stop what is behind it for ever."""
        try:
            step()
        except Exception as exc:
            counts["failed"] += 1
            if not isinstance(exc, Unavailable):
                self._report(exc)

    def _settle(self, row: str, counts: dict[str, int]) -> None:
        """Do what an upload in this row needs, then drop the row, or have it come back when it may be due again."""
        try:
            upload = self._uploading.clear(row.partition("#")[2])
        except NotFound:
            self._uploads.forget(row)
            return
        counts["uploads_expired"] += upload.state == UploadState.EXPIRED
        counts["uploads_cleared"] += upload.state in (UploadState.FAILED, UploadState.ABORTED)
        self._uploads.forget(row, upload.expires_at if upload.state == UploadState.OPEN else None)

    def _sweep_objects(self, counts: dict[str, int], is_time_left: Callable[[], bool]) -> bool:
        while counts["objects_seen"] < MAX_OBJECTS:
            after = self._uploads.sweep_position()
            keys, go_on = self._blobs.written_before(self._clock() - ORPHAN_AGE, PAGE, after)
            for key in keys:
                if not is_time_left():
                    self._uploads.sweep_on(after)
                    return False
                counts["objects_seen"] += 1
                self._try(lambda key=key: self._remove_if_orphaned(key, counts), counts)  # type: ignore[misc]
                after = key
            # Keys begin with their time: behind a page of young ones come only younger ones.
            self._uploads.sweep_on(go_on if go_on and keys else "")
            if not go_on or not keys:
                return True
        return False

    def _remove_if_orphaned(self, key: str, counts: dict[str, int]) -> None:
        stored = self._blobs.stored(key)
        if stored is None:
            return
        if stored.model_id is None:
            counts["unmarked"] += 1
        elif not self._keeping.keeps(key, stored.model_id):
            self._blobs.remove(key)
            counts["objects_removed"] += 1
