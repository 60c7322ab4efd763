"""What every Blobs does: the one in memory, on moto, and on the running emulator."""

import hashlib
import io

import pytest

from chalicelib.registry.errors import Unavailable
from chalicelib.registry.ports import Blobs

CONTENT = b"bytes" * 100
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def put(blobs: Blobs, key: str, content: bytes = CONTENT) -> str:
    digest = hashlib.sha256(content).hexdigest()
    return blobs.put(key, io.BytesIO(content), len(content), digest, "application/zip", "model-of-the-test")


def test_it_answers(blobs: Blobs) -> None:
    blobs.ping()


def test_a_key_is_written_once(blobs: Blobs, unique: str) -> None:
    put(blobs, f"artifacts/{unique}/m.zip")

    with pytest.raises(Unavailable):
        put(blobs, f"artifacts/{unique}/m.zip", b"other bytes")


def test_a_discarded_object_leaves_its_key_free(blobs: Blobs, unique: str) -> None:
    version_id = put(blobs, f"artifacts/{unique}/m.zip")

    blobs.discard(f"artifacts/{unique}/m.zip", version_id)

    put(blobs, f"artifacts/{unique}/m.zip")


def test_removing_what_is_not_there_is_no_error(blobs: Blobs, unique: str) -> None:
    blobs.remove(f"artifacts/{unique}/m.zip")
    blobs.discard(f"artifacts/{unique}/m.zip", "null")
