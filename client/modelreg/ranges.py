"""Receive ranges of an object in S3, each until it is whole.

Promises: what is written was asked for, byte for byte. An answer is believed only if it names the range and the size
of the object; a broken one is gone on with where it broke.
"""

import re
import threading
from collections.abc import Callable, Iterator

import httpx

from modelreg.errors import ConnectionFailed, Corrupt, Forbidden, NotARegistry, RegistryError, Unavailable
from modelreg.http import Api, segment
from modelreg.retry import Attempts, Pulse, Stopped, retry_after_seconds
from modelreg.storage import Outcome, StorageRefusal
from modelreg.transfer import MAX_RENEWALS, Transfer

_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,20})-([0-9]{1,20})/([0-9]{1,20})")
Write = Callable[[bytes, int], None]


class Link:
    """The presigned URL of an artifact, asked for once by all threads, and again when it has expired."""

    def __init__(self, api: Api, model_id: str) -> None:
        self._api = api
        self._path = f"/models/{segment(model_id)}/files"
        self._lock = threading.Lock()
        self._url: str | None = None

    @property
    def url(self) -> str:
        with self._lock:
            if self._url is None:
                self._url = self._asked()
            return self._url

    def renew(self, expired: str) -> None:
        """Drops the URL, unless another thread did so already."""
        with self._lock:
            if self._url == expired:
                self._url = None

    def _asked(self) -> str:
        response = self._answer()
        location: str = response.headers.get("location", "")
        if response.status_code not in (302, 303, 307) or not location.startswith(("http://", "https://")):
            raise NotARegistry(f"{self._api.url}{self._path} did not say where the artifact is.")
        return location

    def _answer(self) -> httpx.Response:
        """Where it is; while the registry is packing it as one archive, asked again."""
        packing = Attempts(self._api.patience, 0, deadline_seconds=self._api.patience.packing_seconds)
        while True:
            response = self._api.request("GET", self._path, may_redirect=True)
            if response.status_code != 202:
                return response
            pause = retry_after_seconds(response.headers.get("retry-after"))
            packing.failed(Unavailable("The registry still packs the files of this model: try again later."), pause)


class RangeReceiver:
    """Receives ranges of one object of size_bytes. write puts bytes to their place, from several threads at once."""

    def __init__(self, transfer: Transfer, link: Link, size_bytes: int, stop: threading.Event, write: Write) -> None:
        self._transfer = transfer
        self._link = link
        self._size_bytes = size_bytes
        self._stop = stop
        self._write = write
        self._pulse = Pulse(transfer.patience)

    def receive(self, at: int, end: int) -> None:
        """Returns once the bytes from at up to, not including, end are written.

        Goes on where a broken connection stopped, with a new URL where the old one expired. Raises Corrupt for bytes
        that were not asked for, Forbidden, ConnectionFailed, and whatever write raises.
        """
        patience = self._transfer.patience
        attempts = Attempts(patience, patience.attempts, stop=self._stop, pulse=self._pulse)
        renewals = 0
        while at < end:
            url = self._link.url
            try:
                for count in self._receive(url, at, end):
                    at += count
                    renewals = 0
                    attempts.moved()
            except StorageRefusal as refusal:
                if refusal.outcome in (Outcome.EXPIRED, Outcome.GONE) and renewals < MAX_RENEWALS:
                    renewals += 1
                    self._link.renew(url)
                    continue
                self._weigh(refusal, attempts)

    def _weigh(self, refusal: StorageRefusal, attempts: Attempts) -> None:
        """Returns if it shall be tried again."""
        if refusal.outcome is Outcome.EXPIRED:
            raise Forbidden(f"S3 refuses the download, also with new URLs: {refusal.reason}.")
        if refusal.outcome is not Outcome.TRANSIENT:
            raise RegistryError(f"S3 refuses the download: {refusal.reason}.")
        self._transfer.progress.note(f"asking again: {refusal.reason}")
        failure = ConnectionFailed(f"The download does not get through: {refusal.reason}.")
        attempts.failed(failure, refusal.retry_after_seconds)

    def _receive(self, url: str, at: int, end: int) -> Iterator[int]:
        """Writes what arrives to its place; yields how much, piece by piece. Raises Stopped when told to stop."""
        with self._transfer.storage.get(url, at, end) as response:
            self._check_range(response, at, end)
            for piece in response.iter_bytes():
                if self._stop.is_set():
                    raise Stopped
                if len(piece) > end - at:
                    raise Corrupt("More bytes came than were asked for.")
                self._write(piece, at)
                at += len(piece)
                self._transfer.progress.advance(len(piece))
                yield len(piece)
        if at < end:
            raise StorageRefusal(Outcome.TRANSIENT, "the answer was cut short")

    def _check_range(self, response: httpx.Response, at: int, end: int) -> None:
        if response.headers.get("content-encoding", "identity") not in ("identity", "aws-chunked"):
            raise Corrupt("The artifact comes packed otherwise than it is stored: something on the way changes it.")
        if response.status_code == 200:
            if (at, end) != (0, self._size_bytes):
                raise Corrupt("A range was asked for, but everything was sent: something on the way knows no ranges.")
            length = response.headers.get("content-length")
            if length is not None and length != str(self._size_bytes):
                raise Corrupt(f"The artifact has {length} bytes, but the registry says {self._size_bytes}.")
            return
        found = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
        if not found or tuple(map(int, found.groups())) != (at, end - 1, self._size_bytes):
            raise Corrupt(
                f"Bytes {at} to {end - 1} of {self._size_bytes} were asked for, but"
                f" {response.headers.get('content-range', 'no range')} came."
            )
