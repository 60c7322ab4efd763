"""Register an artifact: announce, send, complete; interrupted at any point, go on from there.

The registry checks everything it can before a byte moves, and registers nothing before all bytes are stored. The
state file is written before the upload is announced, so that no crash leaves an upload that nobody remembers. A
failure that trying again cannot mend removes it, and drops the upload; all others, Ctrl-C included, keep both.
"""

import hashlib
import threading
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from modelreg.errors import (
    Conflict,
    InvalidInput,
    LocalError,
    NotARegistry,
    NotFound,
    RegistryError,
    SourceChanged,
    TooLarge,
    UploadClosed,
    UploadIncomplete,
)
from modelreg.http import segment
from modelreg.models import Begun, Model, PartTarget, PartTargets, Upload
from modelreg.parts import AlreadyStored, PartPipeline, Sender, UploadLost
from modelreg.resume import SentPart, StateFile, UploadState, digest_of, state_file
from modelreg.retry import Attempts
from modelreg.source import Source
from modelreg.transfer import Transfer

SINGLE_PUT_BYTES = 64 * 1024**2  # up to here the registry wants the SHA-256 first, and all bytes in one PUT
COMPLETE_READ_SECONDS = 120.0
IDEMPOTENCY_KEY = "Idempotency-Key"
GOAL_DIGITS = 8
_GOAL_FIELDS = ("name", "version", "project_id", "project_name", "precision")  # what tells versions apart
_FINAL = (InvalidInput, Conflict, UploadClosed, TooLarge, SourceChanged)


def publish(
    transfer: Transfer,
    source: Source,
    metadata: dict[str, Any],
    new_id: Callable[[], str] = lambda: str(uuid.uuid4()),
) -> Model:
    """The model, READY. metadata: the stated fields of POST /uploads; new_id is called if the id is not stated."""
    goal = digest_of({"url": transfer.api.url, **{field: metadata.get(field) for field in _GOAL_FIELDS}})
    with state_file(source.path, goal[:GOAL_DIGITS], transfer.patience.clock) as file:
        registration = _Registration(transfer, file, source, metadata, new_id)
        try:
            model = registration.run()
        except _FINAL as exc:
            registration.give_up(exc)
            raise
        except BaseException:
            registration.keep()
            raise
        file.remove()
        return model


class _Registration:
    """One artifact on its way."""

    def __init__(
        self,
        transfer: Transfer,
        file: StateFile,
        source: Source,
        metadata: dict[str, Any],
        new_id: Callable[[], str],
    ) -> None:
        self._transfer = transfer
        self._api = transfer.api
        self._new_id = new_id
        self._file = file
        self._source = source
        self._metadata = metadata
        self._identity = (self._api.url, digest_of(metadata), source.fingerprint)
        self._state: UploadState | None = None
        self._former_id: str | None = None

    def run(self) -> Model:
        left_behind = self._left_behind()
        if isinstance(left_behind, Model):
            return left_behind
        try:
            return self._sent(left_behind or self._begun())
        except (UploadLost, AlreadyStored):
            return self._after_loss()

    def give_up(self, error: RegistryError) -> None:
        """Drops upload and state, unless the refusal of an announced upload is not the registry's own."""
        is_final = isinstance(error, SourceChanged) or "code" in vars(error)  # which only the registry gives it
        if self._state and self._state.upload_id and not is_final:
            self.keep()
            return
        self.abort()
        self._file.remove()

    def keep(self) -> None:
        """Leaves all that is known to the next run."""
        if self._state:
            with suppress(LocalError):
                self._file.save(self._state)

    def abort(self) -> None:
        """Drops the upload, as far as that can be done now: the registry drops it later in any case."""
        if self._state and self._state.upload_id:
            with suppress(RegistryError):
                self._api.delete(f"/uploads/{segment(self._state.upload_id)}")

    def _left_behind(self) -> Upload | Model | None:
        """What an interrupted run got to: an upload to go on with, a model that was complete after all, or nothing."""
        self._state = self._file.load()
        if self._state is None:
            return None
        is_ours = self._state.is_for(*self._identity) and self._is_of_same_bytes(self._state)
        if is_ours and not self._state.upload_id:
            return None  # whether it was announced, announcing it again tells
        upload = self._status() if self._state.upload_id else None
        if is_ours and upload and upload.state == "COMPLETED":
            with suppress(NotFound):
                return self._api.answer(Model, "GET", f"/models/{segment(self._state.model_id)}")
        if upload and upload.state == "OPEN":
            if is_ours:
                return upload
            self.abort()
        self._forget()
        return None

    def _forget(self) -> None:
        """The next upload has a new id; should the old one still be open after all, it is known as ours."""
        self._former_id = self._state.model_id if self._state else None
        self._state = None

    def _is_of_same_bytes(self, state: UploadState) -> bool:
        """Whether the source is what was announced; of a large one that is seen while it is sent."""
        return state.sha256 in (None, self._small_sha256() or state.sha256)

    def _small_sha256(self) -> str | None:
        """SHA-256 of a source that is announced with it; None for a larger one."""
        return hashlib.sha256(self._body()).hexdigest() if self._source.size_bytes <= SINGLE_PUT_BYTES else None

    def _status(self) -> Upload | None:
        if self._state is None or not self._state.upload_id:
            return None
        try:
            return self._api.answer(Upload, "GET", f"/uploads/{segment(self._state.upload_id)}")
        except NotFound:
            return None

    def _after_loss(self) -> Model:
        """S3 lost the upload, or joined it without our hearing of it."""
        upload = self._status()
        if upload and upload.stored:
            with suppress(UploadLost, AlreadyStored):
                return self._completed(upload)
        self._transfer.progress.note("the upload is gone from S3: sending everything again")
        self.abort()
        self._forget()
        try:
            return self._sent(self._begun())
        except (UploadLost, AlreadyStored):
            raise UploadClosed("S3 lost the upload twice.", code=UploadClosed.code) from None

    def _begun(self) -> Upload:
        """A new upload, or the one an earlier run had announced without hearing of it."""
        was_announced = self._state is not None or "id" not in self._metadata
        state = self._state or self._new_state()
        self._state = state
        state.sha256 = self._small_sha256()
        self._file.save(state)
        attempts = Attempts(self._transfer.patience, self._transfer.patience.call_attempts)
        # One for this announcement and its repetitions; what becomes of it must not be the answer to a later one.
        headers = {IDEMPOTENCY_KEY: str(uuid.uuid4())}
        try:
            begun = self._api.answer(
                Begun, "POST", "/uploads", json=self._announcement(state), headers=headers, attempts=attempts
            )
        except Conflict as conflict:
            if conflict.upload_id and conflict.holder == state.former_id:
                with suppress(NotFound, UploadClosed):
                    self._api.delete(f"/uploads/{segment(conflict.upload_id)}")
                state.former_id = None
                return self._begun()
            is_own = conflict.holder == state.model_id and (was_announced or attempts.failures)
            if not is_own or not conflict.upload_id:
                raise
            state.upload_id = conflict.upload_id
            upload = self._api.answer(Upload, "GET", f"/uploads/{segment(conflict.upload_id)}")
        else:
            upload = Upload(**begun.model_dump(), state="OPEN", size=self._source.size_bytes)
        state.upload_id, state.part_size = upload.upload_id, upload.part_size
        self._file.save(state)
        return upload

    def _new_state(self) -> UploadState:
        base_url, metadata_digest, fingerprint = self._identity
        model_id = str(self._metadata.get("id") or self._new_id())
        return UploadState(
            base_url=base_url,
            metadata_digest=metadata_digest,
            fingerprint=fingerprint,
            model_id=model_id,
            former_id=self._former_id,
        )

    def _announcement(self, state: UploadState) -> dict[str, Any]:
        source = self._source
        announced = {
            "id": state.model_id,
            "file_name": source.file_name,
            "size": source.size_bytes,
            "media_type": source.media_type,
            "sha256": state.sha256,
        }
        return self._metadata | {name: value for name, value in announced.items() if value is not None}

    def _body(self) -> memoryview:
        """All of a small source."""
        body = bytearray(self._source.size_bytes)
        with self._source.open() as stream:
            stream.readinto(memoryview(body))
        return memoryview(body)

    def _sent(self, upload: Upload) -> Model:
        progress = self._transfer.progress
        total = self._source.size_bytes
        done = total if upload.stored else sum(part.size or 0 for part in upload.parts if part.digest)
        progress.start(self._source.file_name, total, done)
        try:
            if upload.stored:
                progress.note("resuming: all bytes are there")
            elif upload.method == "PUT":
                self._put(upload)
            else:
                self._send_parts(upload, self._stored_parts(upload))
            return self._completed(upload)
        finally:
            progress.finish()

    def _put(self, upload: Upload) -> None:
        if self._source.size_bytes > SINGLE_PUT_BYTES:
            raise NotARegistry("The registry wants a large artifact in a single PUT, which this client does not do.")

        def renew() -> PartTarget:
            now = self._status()
            if now is None:
                raise UploadLost
            if now.state not in ("OPEN", "COMPLETED"):
                raise UploadClosed(f"The upload has ended: it is {now.state}.", state=now.state, code=UploadClosed.code)
            if now.stored:
                raise AlreadyStored
            return _target(now)

        sender = Sender(self._transfer, threading.Event())
        with suppress(AlreadyStored):
            sender.send(self._source.file_name, self._body(), _target(upload), renew)

    def _stored_parts(self, upload: Upload) -> dict[int, SentPart]:
        stored = {part.number: SentPart(digest=part.digest, etag=part.etag) for part in upload.parts if part.digest}
        if stored:
            self._transfer.progress.note(f"resuming: {len(stored)} of {upload.part_count} parts are there")
        return stored

    def _send_parts(self, upload: Upload, stored: Mapping[int, SentPart]) -> None:
        """Sends what is not stored yet."""
        state = self._known_state()
        if not upload.part_size or upload.part_size <= 0:
            raise NotARegistry("The registry did not say how large a part is.")

        def ask(digests: Mapping[int, str], attempts: Attempts) -> Mapping[int, PartTarget]:
            return self._targets(upload.upload_id, digests, attempts)

        def record(number: int, part: SentPart) -> None:
            self._file.record(state, number, part)

        pipeline = PartPipeline(self._transfer, self._source, upload.part_size, stored=stored, ask=ask, record=record)
        state.sha256 = pipeline.run()
        self._file.save(state)

    def _targets(self, upload_id: str, digests: Mapping[int, str], attempts: Attempts) -> Mapping[int, PartTarget]:
        path = f"/uploads/{segment(upload_id)}/parts"
        body = {"digests": {str(number): digest for number, digest in digests.items()}}
        answer = self._api.answer(PartTargets, "POST", path, json=body, attempts=attempts)
        targets = {target.number: target for target in answer.parts}
        if not targets.keys() >= digests.keys():
            raise NotARegistry("The registry gave no URL for some of the parts.")
        return targets

    def _completed(self, upload: Upload) -> Model:
        """The model. Parts that the registry misses are sent again, once."""
        try:
            return self._complete(upload)
        except UploadIncomplete as incomplete:
            if upload.method == "PUT" or not incomplete.parts:
                raise
            self._transfer.progress.note(f"sending {len(incomplete.parts)} parts again: the registry misses them")
            parts = self._known_state().parts
            self._send_parts(upload, {number: parts[number] for number in parts.keys() - set(incomplete.parts)})
            return self._complete(upload)

    def _complete(self, upload: Upload) -> Model:
        state = self._known_state()
        body: dict[str, Any] = {}
        if upload.method != "PUT":
            body["parts"] = [{"number": number, **part.model_dump()} for number, part in sorted(state.parts.items())]
            body |= {"sha256": state.sha256} if state.sha256 else {}
        patience = self._transfer.patience
        return self._api.answer(
            Model,
            "POST",
            f"/uploads/{segment(upload.upload_id)}/complete",
            json=body,
            attempts=Attempts(patience, patience.attempts, deadline_seconds=patience.join_seconds),
            read_seconds=COMPLETE_READ_SECONDS,
        )

    def _known_state(self) -> UploadState:
        if self._state is None:
            raise AssertionError("nothing is sent before its state is known")
        return self._state


def _target(upload: Upload) -> PartTarget:
    if not upload.url:
        raise NotARegistry("The registry gave no URL to send the artifact to.")
    return PartTarget(number=1, url=upload.url, headers=upload.headers)
