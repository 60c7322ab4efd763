"""What an interrupted upload leaves behind, so that the next one goes on where it stopped.

A small file beside the artifact, or in the user's cache where that folder takes no file. Promises: it is whole at
every moment, readable by its owner only, and holds no token and no presigned URL; one process at a time has it.
Whatever is wrong with it, the worst that happens is that everything is sent again.
"""

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from modelreg.errors import LocalError
from modelreg.locks import NO_LINK, open_alone

SUFFIX = ".modelreg-upload"
SAVE_SECONDS = 1.0


class SentPart(BaseModel):
    """A part that S3 acknowledged; digest is its SHA-256 in base64."""

    digest: str
    etag: str


class UploadState(BaseModel):
    """An upload as far as it got. It is of use only for the same source, metadata and registry."""

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[1] = 1
    base_url: str
    metadata_digest: str
    fingerprint: str
    model_id: str
    former_id: str | None = None  # under which an upload of other bytes may still be open
    upload_id: str | None = None
    part_size: int | None = None
    sha256: str | None = None
    parts: dict[int, SentPart] = {}

    def is_for(self, base_url: str, metadata_digest: str, fingerprint: str) -> bool:
        return (base_url, metadata_digest, fingerprint) == (self.base_url, self.metadata_digest, self.fingerprint)


class StateFile:
    """Where the state is kept. Safe to use from several threads."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self.path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._saved_at = clock()
        self._is_closed = False

    def load(self) -> UploadState | None:
        """The state an earlier run left; None if there is none that can be read."""
        try:
            return UploadState.model_validate_json(self.path.read_bytes())
        except (OSError, ValidationError):
            return None

    def save(self, state: UploadState) -> None:
        """Raises LocalError."""
        with self._lock:
            try:
                write_whole(self.path, state.model_dump_json().encode())
            except OSError as exc:
                raise LocalError(f"{self.path} cannot be written: {exc.strerror or exc}.") from exc
            self._saved_at = self._clock()

    def record(self, state: UploadState, number: int, part: SentPart) -> None:
        """Notes a part as sent; on disk within about a second. A full disk costs the notes, not the upload."""
        with self._lock:
            state.parts[number] = part
            if self._is_closed or self._clock() - self._saved_at < SAVE_SECONDS:
                return
            with suppress(OSError):
                write_whole(self.path, state.model_dump_json().encode())
            self._saved_at = self._clock()

    def remove(self) -> None:
        self.close()
        with suppress(OSError):
            self.path.unlink()

    def close(self) -> None:
        """What a thread that was left behind in the network records after this is not written: others may have it."""
        with self._lock:
            self._is_closed = True


@contextmanager
def state_file(artifact: Path, goal: str, clock: Callable[[], float]) -> Iterator[StateFile]:
    """The state file of this artifact and goal, nobody else's meanwhile. Raises LocalError if another process has it.

    goal: a short hash of what it is to become, and where.
    """
    path = artifact.with_name(f".{artifact.name}.{goal}{SUFFIX}.json")
    lock = _open_lock(path)
    if lock is None:
        name = hashlib.sha256(os.fsencode(artifact)).hexdigest()[:32]
        path = cache_folder() / f".{name}.{goal}{SUFFIX}.json"
        lock = _open_lock(path)
    if lock is None:
        raise LocalError(
            f"Neither {artifact.parent} nor {path.parent} takes a file, so an upload could not be resumed.",
            hint="Make one of them writable; XDG_CACHE_HOME names another place than ~/.cache.",
        )
    file = StateFile(path, clock)
    try:
        yield file
    finally:
        file.close()
        with suppress(OSError):
            path.with_suffix(".lock").unlink()
        os.close(lock)


def _open_lock(path: Path) -> int | None:
    """The lock, held; None if no file can be made there. Raises LocalError if somebody holds it."""
    place = path.with_suffix(".lock")
    try:
        return open_alone(place, 0o600, f"Another process is uploading this artifact right now (it has {place}).")
    except OSError:
        return None


def write_whole(path: Path, content: bytes) -> None:
    """The file has either its old content or the new one, whatever happens."""
    temporary = path.with_name(f"{path.name}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | NO_LINK, 0o600)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise


def cache_folder() -> Path:
    """Ours in the user's cache, made if it can be."""
    stated = os.environ.get("XDG_CACHE_HOME", "")
    folder = (Path(stated) if stated.startswith("/") else Path.home() / ".cache") / "modelreg"
    with suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def digest_of(metadata: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(metadata, sort_keys=True).encode()).hexdigest()
