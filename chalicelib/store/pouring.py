"""Stores an object while its bytes come: in parts, each sent while the next one is read, so that two are in memory.

S3 checks the SHA-256 of each part; that of the whole is computed on the way. What is no larger than a part is one PUT.
Whatever goes wrong, the parts are dropped; what cannot be dropped now, the bucket drops after days.
"""

import hashlib
import io
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

from chalicelib.registry.errors import RegistryError, TooLarge, Unavailable, UploadIncomplete
from chalicelib.registry.ports import Poured
from chalicelib.registry.uploads import MAX_PARTS, PART_BYTES, Part, composite_digest
from chalicelib.store.blobs import S3Blobs

NOT_STORED = "The artifact could not be stored: nothing was registered, try again."


class Source:
    """Bytes that come in chunks of any sizes, and are taken in pieces; what was taken is measured."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = memoryview(b"")
        self._whole = hashlib.sha256()
        self.size = 0

    @property
    def sha256(self) -> str:
        return self._whole.hexdigest()

    def take(self, count: int) -> bytes:
        """The next bytes, fewer only at the end."""
        piece = io.BytesIO()  # which gives its bytes away without a copy
        while (left := count - piece.tell()) and not self.is_empty():
            taken = self._rest[:left]
            self._whole.update(taken)
            piece.write(taken)
            self._rest = self._rest[len(taken) :]
        self.size += piece.tell()
        return piece.getvalue()

    def is_empty(self) -> bool:
        """Whether all was taken; to know, the next chunk is read."""
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return True
            self._rest = memoryview(chunk)
        return False


class Pouring:
    """Stores one object, marked with the model it is for. Clients of S3 have to be made before: threads use them."""

    def __init__(
        self,
        blobs: S3Blobs,
        key: str,
        media_type: str,
        model_id: str,
        report: Callable[[str, str], None],
        part_bytes: int = PART_BYTES,
        max_parts: int = MAX_PARTS,
    ) -> None:
        self._blobs = blobs
        self._key = key
        self._media_type = media_type
        self._model_id = model_id
        self._report = report
        self._part_bytes = part_bytes
        self._max_parts = max_parts

    def poured(self, chunks: Iterable[bytes]) -> Poured:
        source = Source(chunks)
        piece = source.take(self._part_bytes)
        if not source.is_empty():
            begun = [piece]
            del piece  # whoever takes it out of the list is then the last one who holds it
            return self._in_parts(begun, source)
        body, size, sha256 = io.BytesIO(piece), source.size, source.sha256
        version_id = self._blobs.put(self._key, body, size, sha256, self._media_type, self._model_id)
        return Poured(size, sha256, None, version_id)

    def _in_parts(self, begun: list[bytes], source: Source) -> Poured:
        multipart_id = self._blobs.begin(self._key, self._media_type, self._model_id)
        try:
            parts = self._sent(multipart_id, begun, source)
            return self._joined(multipart_id, parts, source)
        except Exception:
            self._drop(multipart_id)
            raise

    def _sent(self, multipart_id: str, begun: list[bytes], source: Source) -> list[Part]:
        parts: list[Part] = []
        under_way: Future[Part] | None = None
        # At its end it waits for the part that is under way: what comes behind an abort would stay.
        with ThreadPoolExecutor(1, "pouring") as sender:
            while begun or not source.is_empty():
                piece = begun.pop() if begun else source.take(self._part_bytes)
                if under_way:
                    parts.append(under_way.result())
                if len(parts) == self._max_parts:
                    raise TooLarge(f"It is larger than {self._max_parts * self._part_bytes:,} bytes.")
                under_way = sender.submit(self._blobs.send_part, self._key, multipart_id, len(parts) + 1, piece)
            if under_way:
                parts.append(under_way.result())
        return parts

    def _joined(self, multipart_id: str, parts: list[Part], source: Source) -> Poured:
        failure: RegistryError | None = None
        try:
            self._blobs.join_parts(self._key, multipart_id, parts)
        except (UploadIncomplete, Unavailable) as exc:
            failure = exc
        digest = composite_digest(parts)
        # It may have been there before, or have been joined by a call whose answer was lost: what is there tells.
        stored = self._blobs.stored(self._key)
        if stored is None or stored.model_id != self._model_id or not _is_same(stored.digest, digest):
            raise Unavailable(NOT_STORED) from failure
        return Poured(source.size, source.sha256, digest, stored.version_id)

    def _drop(self, multipart_id: str) -> None:
        try:
            self._blobs.drop(self._key, multipart_id)
        except Exception as exc:
            # What went wrong before is what the caller is told.
            self._report("object_left_behind", f"{self._key}: {type(exc).__name__}")


def _is_same(stored: str | None, meant: str) -> bool:
    """By the digest alone: not every emulator of S3 puts the number of parts behind it."""
    return stored is not None and stored.partition("-")[0] == meant.partition("-")[0]
