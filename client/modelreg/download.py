"""Fetch an artifact: ranges in parallel, verified, and under its name only when whole.

Bytes go to a temporary file beside the target; a small sidecar lists the ranges that are there, so that an interrupted
download goes on. The SHA-256 is computed in order while ranges arrive, from what is still in the page cache. Nothing
appears under the final name before it is verified and on disk.
"""

import errno
import hashlib
import math
import os
import re
import shutil
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import unquote

from pydantic import BaseModel, ConfigDict, ValidationError

from modelreg.errors import ConnectionFailed, Corrupt, LocalError, NotARegistry
from modelreg.locks import open_alone
from modelreg.models import Model
from modelreg.ranges import Link, RangeReceiver
from modelreg.resume import write_whole
from modelreg.retry import Stopped
from modelreg.storage import Storage, StorageRefusal
from modelreg.transfer import Transfer, join_soon

RANGE_BYTES, LARGE_RANGE_BYTES = 8 * 1024**2, 16 * 1024**2
LARGE_BYTES = 1024**3
HASH_BYTES = 1024**2
SAVE_SECONDS = 5.0  # each time, what arrived meanwhile is flushed to the disk
_flush = getattr(os, "fdatasync", os.fsync)
_NAME_STAR = re.compile(r"filename\*=UTF-8''([^;\s]+)", re.IGNORECASE)
_SIZE = re.compile(r"/(\d{1,18})$")
_UNSAFE = re.compile("[\0-\x1f\x7f-\x9f]")


class FetchedRanges(BaseModel):
    """What a partial download holds. It is of use only for the same bytes."""

    model_config = ConfigDict(extra="forbid")

    model_id: str
    sha256: str | None
    size_bytes: int
    range_bytes: int
    finished: list[int] = []


def fetch(transfer: Transfer, model: Model, target: Path, *, is_folder: bool, overwrite: bool) -> Path:
    """Where the artifact now is. target: the folder to put it into, under its own name, or the file itself.

    is_folder: whether target is a folder even if there is none yet.
    """
    if not model.size or model.size < 0:
        raise NotARegistry(f"The registry gave no size for model {model.id}.")
    link = Link(transfer.api, model.id)
    size_bytes = model.size if model.file_url or model.sha256 else _size_in_answer(transfer.storage, link)
    with _local(target):
        is_folder = is_folder or target.is_dir()
    place = target / (file_name(model) or _name_in_answer(transfer.storage, model, link)) if is_folder else target
    if _is_there(place, model, overwrite):
        return place
    with _local(place):
        place.parent.mkdir(parents=True, exist_ok=True)
    _Fetch(transfer, model, size_bytes, link, place, overwrite=overwrite).run()
    return place


class _Fetch:
    """One artifact on its way."""

    def __init__(
        self, transfer: Transfer, model: Model, size_bytes: int, link: Link, place: Path, *, overwrite: bool
    ) -> None:
        self._transfer = transfer
        self._patience = transfer.patience
        self._progress = transfer.progress
        self._model = model
        self._size_bytes = size_bytes
        self._place = place
        self._overwrite = overwrite
        self._partial = place.with_name(_partial_name(place.name, model.id))
        self._sidecar = self._partial.with_name(f"{self._partial.name}.json")
        self._ranges = FetchedRanges(
            model_id=model.id,
            sha256=model.sha256,
            size_bytes=size_bytes,
            range_bytes=RANGE_BYTES if size_bytes < LARGE_BYTES else LARGE_RANGE_BYTES,
        )
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self._saving = threading.Lock()
        self._waiting: deque[int] = deque()
        self._finished: set[int] = set()
        self._failure: BaseException | None = None
        self._saved_at = -math.inf  # so that the first range that is there is noted at once
        self._descriptor = -1
        self._receiver = RangeReceiver(transfer, link, size_bytes, self._stop, self._write)

    def run(self) -> None:
        """Raises what stopped it; the partial file stays if it is of use to the next run."""
        with _local(self._place):
            self._descriptor = self._open()
        try:
            self._fetch()
        except BaseException as exc:
            is_of_use = bool(self._finished and self._model.sha256) and not isinstance(exc, Corrupt)
            self._leave(is_of_use=is_of_use)
            raise
        finally:
            os.close(self._descriptor)

    def _open(self) -> int:
        busy = f"Another process is fetching {self._place} right now (it has {self._partial})."
        descriptor = open_alone(self._partial, 0o666, busy)
        if os.fstat(descriptor).st_nlink > 1:
            # It got its final name, under which it stays as it is, and the process ended before this one was removed.
            self._partial.unlink()
            os.close(descriptor)
            descriptor = open_alone(self._partial, 0o666, busy)
        return descriptor

    def _fetch(self) -> None:
        self._resume()
        count = self._count
        done = sum(self._length(index) for index in self._finished)
        self._check_room(done)
        self._waiting.extend(index for index in range(count) if index not in self._finished)
        self._progress.start(self._place.name, self._size_bytes, done)
        try:
            if self._finished:
                self._progress.note(f"resuming: {len(self._finished)} of {count} ranges are there")
            with self._workers():
                sha256 = self._hash_in_order(count)
            self._verify(sha256)
            with _local(self._place):
                os.fsync(self._descriptor)
                self._put_in_place()
                self._sidecar.unlink(missing_ok=True)
                _sync_folder(self._place.parent)
        finally:
            self._progress.finish()

    def _put_in_place(self) -> None:
        """Raises LocalError if something else got the name meanwhile and must stay."""
        if self._overwrite:
            self._partial.replace(self._place)
            return
        try:
            os.link(self._partial, self._place)
        except OSError:  # it exists, or the file system has no links
            if not _is_there(self._place, self._model, overwrite=False):
                self._partial.replace(self._place)
                return
        self._partial.unlink()

    def _resume(self) -> None:
        """Takes over what an interrupted run of the same download left; else begins with an empty file."""
        try:
            left = FetchedRanges.model_validate_json(self._sidecar.read_bytes())
        except (OSError, ValidationError):
            left = None
        size = os.fstat(self._descriptor).st_size
        if left and left.sha256 and left.model_copy(update={"finished": []}) == self._ranges:
            count = self._count
            self._finished = {index for index in left.finished if 0 <= index < count and self._end(index) <= size}
        if not self._finished:
            os.ftruncate(self._descriptor, 0)

    def _check_room(self, done_bytes: int) -> None:
        with _local(self._place):
            free = shutil.disk_usage(self._place.parent).free
        needed = self._size_bytes - done_bytes
        if free < needed:
            raise LocalError(
                f"{self._place.parent} has room for {free:,} bytes, but {needed:,} are needed.", hint="Make room."
            )

    @property
    def _count(self) -> int:
        return -(-self._size_bytes // self._ranges.range_bytes)

    def _length(self, index: int) -> int:
        return self._end(index) - index * self._ranges.range_bytes

    def _end(self, index: int) -> int:
        return min((index + 1) * self._ranges.range_bytes, self._size_bytes)

    @contextmanager
    def _workers(self) -> Iterator[None]:
        """Threads that fetch all waiting ranges; none is left behind the block."""
        count = min(self._transfer.parallel, len(self._waiting))
        threads = [
            threading.Thread(target=self._work, name=f"modelreg-receiver-{number}", daemon=True)
            for number in range(count)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        except BaseException:
            self._stop.set()
            join_soon(threads)
            raise
        for thread in threads:
            thread.join()

    def _work(self) -> None:
        try:
            while not self._stop.is_set():
                try:
                    index = self._waiting.popleft()
                except IndexError:
                    return
                self._receiver.receive(index * self._ranges.range_bytes, self._end(index))
                self._finish(index)
        except BaseException as exc:
            self._stop.set()
            with self._changed:
                if self._failure is None and not isinstance(exc, Stopped):
                    self._failure = exc
                self._changed.notify_all()

    def _finish(self, index: int) -> None:
        with self._changed:
            self._finished.add(index)
            self._changed.notify_all()
            now = self._patience.clock()
            is_due = bool(self._model.sha256) and now - self._saved_at >= SAVE_SECONDS and not self._stop.is_set()
            if is_due:
                self._saved_at = now
        if is_due:
            self._save()

    def _hash_in_order(self, count: int) -> str:
        """SHA-256 of the whole file, each range hashed as soon as it and all before it are there."""
        digest = hashlib.sha256()
        for index in range(count):
            with self._changed:
                while index not in self._finished and self._failure is None:
                    self._changed.wait()
                if self._failure:
                    raise self._failure
            if self._model.sha256:
                self._hash_range(digest, index)
        return digest.hexdigest()

    def _hash_range(self, digest: "hashlib._Hash", index: int) -> None:
        at, end = index * self._ranges.range_bytes, self._end(index)
        while at < end:
            with _local(self._partial):
                piece = os.pread(self._descriptor, min(HASH_BYTES, end - at), at)
            if not piece:
                raise Corrupt(f"{self._partial} was cut short by somebody else.")
            digest.update(piece)
            at += len(piece)

    def _write(self, piece: bytes, at: int) -> None:
        view = memoryview(piece)
        with _local(self._partial):
            while view:
                count = os.pwrite(self._descriptor, view, at)
                view, at = view[count:], at + count

    def _verify(self, sha256: str) -> None:
        if not self._model.sha256:
            self._progress.note("the publisher stated no SHA-256: only the size was checked")
        elif sha256 != self._model.sha256.lower():
            raise Corrupt(
                f"What arrived has SHA-256 {sha256}, but the model's is {self._model.sha256}: it was thrown away."
            )

    def _leave(self, *, is_of_use: bool) -> None:
        if is_of_use:
            self._save()
            return
        for path in (self._sidecar, self._partial):
            with suppress(OSError):
                path.unlink()

    def _save(self) -> None:
        """Notes what is there, once it is on disk: after a power cut the notes must not say more than is true."""
        with self._saving, suppress(OSError):
            with self._changed:
                self._ranges.finished = sorted(self._finished)
            _flush(self._descriptor)
            write_whole(self._sidecar, self._ranges.model_dump_json().encode())


def _name_in_answer(storage: Storage, model: Model, link: Link) -> str:
    """The name under which S3 would hand the artifact to a browser."""
    try:
        with storage.get(link.url, 0, 1) as response:
            found = _NAME_STAR.search(response.headers.get("content-disposition", ""))
    except StorageRefusal:
        found = None
    return (base_name(unquote(found[1])) if found else None) or base_name(f"{model.id}.bin") or "artifact.bin"


def _size_in_answer(storage: Storage, link: Link) -> int:
    """Bytes of the archive that the registry made of a directory of files: what it says itself is the sum of these."""
    try:
        with storage.get(link.url, 0, 1) as response:
            found = _SIZE.search(response.headers.get("content-range", ""))
    except StorageRefusal as refusal:
        raise ConnectionFailed(f"The archive of this model cannot be had: {refusal.reason}.") from None
    if not found:
        raise NotARegistry("The archive of this model came without its size.")
    return int(found[1])


def file_name(model: Model) -> str | None:
    """The artifact's own name; None if the registry does not tell it."""
    return base_name(model.file_url or "")


def base_name(path: str) -> str | None:
    """A name that stays in its folder, from a path that may be hostile; None if there is none in it."""
    name = _UNSAFE.sub("", re.split(r"[/\\]", path)[-1]).strip()
    return name if name not in ("", ".", "..") else None


def _partial_name(name: str, model_id: str) -> str:
    short = name if len(name.encode()) <= 180 else hashlib.sha256(name.encode()).hexdigest()[:32]
    prefix = re.sub(r"[^A-Za-z0-9_-]", "_", model_id[:8])
    return f".{short}.{prefix}.modelreg-part"


def _is_there(place: Path, model: Model, overwrite: bool) -> bool:
    """Whether the very same artifact is there already. Raises LocalError if something else is and must stay."""
    with _local(place):
        if place.is_dir():
            raise LocalError(f"{place} is a directory.", hint="Name a file, or the directory to put it into.")
        if not place.exists():
            return False
        if model.sha256 and place.stat().st_size == model.size:
            with place.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() == model.sha256.lower():
                    return True
    if not overwrite:
        raise LocalError(f"{place} exists already.", hint="Remove it, or pass overwrite=True.")
    return False


@contextmanager
def _local(place: Path) -> Iterator[None]:
    """What the operating system refuses, in our words."""
    try:
        yield
    except OSError as exc:
        full = exc.errno in (errno.ENOSPC, errno.EDQUOT)
        hint = "Make room, then try again: what has arrived is kept." if full else None
        raise LocalError(f"{place} cannot be written: {exc.strerror or exc}.", hint=hint) from exc


def _sync_folder(folder: Path) -> None:
    """The new name survives a power cut, where folders can be synced."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
