"""Uploads on DynamoDB in memory, with objects in memory beside it: moto keeps no digests of objects."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from chalicelib.registry.errands import Errand
from chalicelib.registry.errors import Unavailable
from chalicelib.registry.keeping import Owners
from chalicelib.registry.models import ModelVersion
from chalicelib.registry.service import Registry
from chalicelib.registry.sweeping import Sweeper, Swept
from chalicelib.registry.uploading import Uploading
from chalicelib.registry.uploads import Part, StatedFile, Upload
from chalicelib.store.catalog import DynamoCatalog
from chalicelib.store.makings import DynamoMakings
from chalicelib.store.transactions import Retry
from chalicelib.store.trees import DynamoTrees
from tests.conftest import ALICE, ARCHIVE, Announced, Clock, draft, parcel, ulids
from tests.invariants import check_invariants
from tests.memory import MemoryBlobs, digest_of, etag_of

PART_BYTES = 16 * 1024**2
# Over one PUT's limit, so it goes in parts; no archive, since making one of this size takes long.
LARGE = b"\0" * (4 * PART_BYTES + 1)


class ShiftingClock(Clock):
    """A clock that can be set on."""

    def pass_by(self, **time: float) -> None:
        self.now += timedelta(**time)


@dataclass
class Errands:
    """A queue of errands that nobody works on; `is_down` makes it fail."""

    queued: list[Errand] = field(default_factory=list)
    is_down: bool = False

    def queue(self, errand: Errand) -> None:
        if self.is_down:
            raise Unavailable("The queue does not answer.")
        self.queued.append(errand)


@dataclass
class Bench:
    """The services on one set of stores, and a publisher's side of an upload."""

    clock: ShiftingClock = field(default_factory=ShiftingClock)
    blobs: MemoryBlobs = field(default_factory=MemoryBlobs)
    announced: Announced = field(default_factory=Announced)
    unexpected: list[Exception] = field(default_factory=list)
    errands: Errands = field(default_factory=Errands)

    def __post_init__(self) -> None:
        new_ulid = ulids()
        # Nobody waits in tests, and no jitter makes two runs differ.
        retry = Retry(sleep=lambda _: None, jitter=lambda low, high: 0)
        self.catalog = DynamoCatalog("RegistryTable", "EventsTable", new_ulid, retry)
        self.uploading = Uploading(self.catalog, self.blobs, self.clock, new_ulid, self.announced)
        self.registry = Registry(self.catalog, self.blobs, self.clock, new_ulid, self.announced)
        keeping = Owners(self.catalog, self.blobs, DynamoTrees(self.clock, retry), DynamoMakings(retry))
        self.sweeper = Sweeper(
            *(self.catalog, self.uploading, self.blobs, keeping),
            *(lambda: self.errands, self.clock, self.unexpected.append),
        )
        self.check: Callable[..., list[ModelVersion]] = partial(check_invariants, objects=self.blobs.objects)

    def open(self, name: str = "cat", version: str = "v1", content: bytes = ARCHIVE, **fields: Any) -> Upload:
        file = {"file_name": "model.zip", "size": len(content), "sha256": sha256_of(content)}
        file |= {key: fields.pop(key) for key in ("file_name", "media_type", "sha256") if key in fields}
        return self.uploading.open(draft(name, version, **fields), StatedFile(**file), ALICE)

    def open_large(self, name: str = "cat", version: str = "v1", **fields: Any) -> Upload:
        fields = {"file_name": "model.bin", "media_type": "application/octet-stream", **fields}
        return self.open(name, version, LARGE, **fields)

    def put(self, upload: Upload, content: bytes = ARCHIVE) -> int:
        request = self.uploading.put_request(upload)
        assert request
        return self.blobs.send(request, content)

    def send_parts(self, upload: Upload, content: bytes = LARGE, *, without: int = 0) -> list[Part]:
        """All parts but one, sent; as a publisher then states them."""
        assert upload.part_size
        size = upload.part_size
        pieces = {at // size + 1: content[at : at + size] for at in range(0, len(content), size)}
        pieces.pop(without, None)
        digests = {number: digest_of(piece) for number, piece in pieces.items()}
        for number, request in self.uploading.part_requests(upload.id, digests, ALICE)[1]:
            assert self.blobs.send(request, pieces[number]) == 200
        return [Part(number=number, etag=etag_of(piece), digest=digests[number]) for number, piece in pieces.items()]

    def complete(self, upload: Upload, parts: list[Part] | None = None, sha256: str | None = None) -> ModelVersion:
        return self.uploading.complete(upload.id, parts or [], sha256, ALICE)

    def publish(self, name: str = "cat", version: str = "v1", **fields: Any) -> ModelVersion:
        upload = self.open(name, version, **fields)
        assert self.put(upload) == 200
        return self.complete(upload)

    def register(self, name: str = "cat", version: str = "v1", **fields: Any) -> ModelVersion:
        return self.registry.register(draft(name, version, **fields), parcel(), ALICE)

    def sweep(self) -> Swept:
        return self.sweeper.sweep(lambda: True)

    def actions(self, model_id: str) -> list[str]:
        return [event.action.value for event in self.catalog.events(f"MODEL#{model_id}")[0]]


def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def bench(aws: None) -> Bench:
    return Bench()
