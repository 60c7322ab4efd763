"""The pipeline of a multipart upload: hash and send in one pass.

    caller's thread      reads the source once, from front to end, hashes the whole, cuts parts
    one clerk            hashes each part, drops those that S3 has, asks for the URLs of all that wait, in one call
    `parallel` senders   PUT parts, each until it has arrived

The buffers are the bound: there are parallel + 2 of them, fewer of large parts, and a part that is read waits for a
free one. The first failure stops all threads; run raises it.
"""

import base64
import hashlib
import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from modelreg.errors import ConnectionFailed, Corrupt, Forbidden, RegistryError
from modelreg.models import PartTarget
from modelreg.progress import Progress
from modelreg.resume import SentPart
from modelreg.retry import Attempts, Pulse, Stopped
from modelreg.source import Source
from modelreg.storage import Outcome, StorageRefusal
from modelreg.transfer import MAX_RENEWALS, MAX_RESENDS, Transfer, join_soon

MAX_BATCH = 100
MAX_BUFFERED_BYTES = 512 * 1024**2  # or two parts, if they are larger

Ask = Callable[[Mapping[int, str], Attempts], Mapping[int, PartTarget]]
Record = Callable[[int, SentPart], None]


class UploadLost(Exception):
    """S3 does not know the upload any more."""


class AlreadyStored(Exception):
    """The object is there: an earlier PUT arrived, only its answer was lost."""


@dataclass(frozen=True)
class Part:
    """A part in memory. buffer is what has to be given back."""

    number: int
    buffer: bytearray
    size_bytes: int

    @property
    def view(self) -> memoryview:
        return memoryview(self.buffer)[: self.size_bytes]


class Sender:
    """Puts single bodies where a presigned URL says, until they have arrived."""

    def __init__(self, transfer: Transfer, stop: threading.Event) -> None:
        self._transfer = transfer
        self._stop = stop
        self._pulse = Pulse(transfer.patience)

    def attempts(self) -> Attempts:
        patience = self._transfer.patience
        return Attempts(patience, patience.attempts, stop=self._stop, pulse=self._pulse)

    def send(
        self, what: str, body: memoryview, target: PartTarget, renew: Callable[[], PartTarget], is_counted: bool = False
    ) -> str:
        """The ETag. is_counted: progress has heard of these bytes before.

        Raises UploadLost, AlreadyStored, ConnectionFailed, Corrupt, Forbidden, RegistryError.
        """
        attempts = self.attempts()
        meter = _Meter(self._transfer.progress, attempts, len(body) if is_counted else 0)
        renewals = resends = 0
        while True:
            meter.begin()
            try:
                etag = self._transfer.storage.put(target.url, target.headers, body, sent=meter, stop=self._stop)
            except StorageRefusal as refusal:
                renewals = renewals + 1 if refusal.outcome is Outcome.EXPIRED else 0
                resends += refusal.outcome is Outcome.OTHER_BYTES
                self._weigh(what, refusal, renewals, resends, attempts)
                if renewals:
                    target = renew()
            else:
                attempts.moved()
                meter(len(body))
                return etag

    def _weigh(self, what: str, refusal: StorageRefusal, renewals: int, resends: int, attempts: Attempts) -> None:
        """Returns if it shall be tried again."""
        outcome = refusal.outcome
        if outcome is Outcome.GONE:
            raise UploadLost
        if outcome is Outcome.EXISTS:
            raise AlreadyStored
        if outcome is Outcome.EXPIRED and renewals > MAX_RENEWALS:
            raise Forbidden(f"S3 refuses {what}, also with new URLs: {refusal.reason}.")
        if outcome is Outcome.OTHER_BYTES and resends > MAX_RESENDS:
            raise Corrupt(f"{what} arrives damaged, again and again: {refusal.reason}.")
        if outcome is Outcome.REFUSED:
            raise RegistryError(f"S3 refuses {what}: {refusal.reason}.")
        if outcome is not Outcome.EXPIRED:
            self._transfer.progress.note(f"sending {what} again: {refusal.reason}")
        if outcome is Outcome.TRANSIENT:
            failure = ConnectionFailed(f"{what} did not get through: {refusal.reason}.")
            attempts.failed(failure, refusal.retry_after_seconds)


class _Meter:
    """Tells progress about bytes as they leave, and about none twice, however often they are sent."""

    def __init__(self, progress: Progress, attempts: Attempts, counted: int) -> None:
        self._progress = progress
        self._attempts = attempts
        self._counted = counted
        self._last = 0

    def begin(self) -> None:
        self._last = 0

    def __call__(self, sent_bytes: int) -> None:
        if self._attempts.pulse:
            self._attempts.pulse.beat()
        if sent_bytes > self._counted:
            self._progress.advance(sent_bytes - self._counted)
            self._counted = sent_bytes


class PartPipeline:
    """Sends what is missing of a source, once. run may be called once."""

    def __init__(
        self,
        transfer: Transfer,
        source: Source,
        part_size: int,
        *,
        stored: Mapping[int, SentPart],
        ask: Ask,
        record: Record,
    ) -> None:
        self._transfer = transfer
        self._source = source
        self._part_size = part_size
        self._stored = stored
        self._ask = ask
        self._record = record
        self._stop = threading.Event()
        self._sender = Sender(transfer, self._stop)
        self._failure: BaseException | None = None
        self._failing = threading.Lock()
        self._free: queue.SimpleQueue[bytearray | None] = queue.SimpleQueue()
        self._read: queue.SimpleQueue[Part | None] = queue.SimpleQueue()
        self._ready: queue.SimpleQueue[tuple[Part, PartTarget, str] | None] = queue.SimpleQueue()

    def run(self) -> str:
        """SHA-256 of the whole, in hexadecimal, once every part has arrived.

        Raises what stopped it: SourceChanged, UploadLost, and the errors of Sender.send and of asking.
        """
        threads = [threading.Thread(target=self._guarded, args=(self._clerk,), name="modelreg-clerk", daemon=True)]
        for number in range(self._transfer.parallel):
            name = f"modelreg-sender-{number}"
            threads.append(threading.Thread(target=self._guarded, args=(self._senders_work,), name=name, daemon=True))
        for thread in threads:
            thread.start()
        try:
            sha256 = self._read_all()
            for thread in threads:
                thread.join()
        except BaseException as exc:
            self._fail(exc)
            join_soon(threads)
            raise self._failure or exc from None
        if self._failure:
            raise self._failure
        return sha256

    def _fail(self, failure: BaseException) -> None:
        """The first failure counts; everybody who waits is woken."""
        with self._failing:
            if self._failure is None and not isinstance(failure, Stopped):
                self._failure = failure
        self._stop.set()
        self._free.put(None)
        self._read.put(None)

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as exc:
            self._fail(exc)

    def _read_all(self) -> str:
        whole = hashlib.sha256()
        size_bytes = min(self._part_size, self._source.size_bytes)
        part_count = -(-self._source.size_bytes // self._part_size)
        affordable = max(2, MAX_BUFFERED_BYTES // size_bytes)
        for _ in range(min(self._transfer.parallel + 2, affordable, part_count)):
            self._free.put(bytearray(size_bytes))
        with self._source.open() as stream:
            for number in range(1, part_count + 1):
                buffer = self._free.get()
                if buffer is None or self._stop.is_set():
                    raise Stopped
                part = Part(number, buffer, stream.readinto(memoryview(buffer)))
                # The clerk hashes the part meanwhile, on another core.
                self._read.put(part)
                whole.update(part.view)
        self._read.put(None)
        return whole.hexdigest()

    def _clerk(self) -> None:
        try:
            while batch := self._waiting_parts():
                digests = {part.number: digest for part, digest in batch}
                targets = self._ask(digests, self._sender.attempts())
                for part, digest in batch:
                    self._ready.put((part, targets[part.number], digest))
        finally:
            for _ in range(self._transfer.parallel):
                self._ready.put(None)

    def _waiting_parts(self) -> list[tuple[Part, str]]:
        """All parts that wait for a URL, at least one; none at the end."""
        batch: list[tuple[Part, str]] = []
        while len(batch) < MAX_BATCH:
            try:
                part = self._read.get(block=not batch)
            except queue.Empty:
                break
            if part is None or self._stop.is_set():
                self._read.put(None)
                break
            digest = base64.b64encode(hashlib.sha256(part.view).digest()).decode()
            stored = self._stored.get(part.number)
            if stored and stored.digest == digest:
                self._record(part.number, stored)
                self._free.put(part.buffer)
            else:
                batch.append((part, digest))
        return batch

    def _senders_work(self) -> None:
        while (item := self._ready.get()) is not None:
            if self._stop.is_set():
                return
            part, target, digest = item
            self._send(part, target, digest)
            self._free.put(part.buffer)

    def _send(self, part: Part, target: PartTarget, digest: str) -> None:
        def renew() -> PartTarget:
            return self._ask({part.number: digest}, self._sender.attempts())[part.number]

        is_counted = part.number in self._stored
        etag = self._sender.send(f"part {part.number}", part.view, target, renew, is_counted)
        self._record(part.number, SentPart(digest=digest, etag=etag))
