"""Trees on AWS in memory, and a client's side of a file that comes in parts."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import requests

from chalicelib.registry.errands import Errand
from chalicelib.registry.keeping import Owners
from chalicelib.registry.making import Making
from chalicelib.registry.models import Tree
from chalicelib.registry.packing import Packing
from chalicelib.registry.planting import Planting, StatedPart
from chalicelib.registry.service import Registry
from chalicelib.registry.trees import TreeFile, TreePlace
from chalicelib.registry.unpacking import Unpacking
from chalicelib.store.makings import DynamoMakings
from chalicelib.store.schema import RegistryItem
from chalicelib.store.transactions import Retry, Transaction
from chalicelib.store.tree_items import seal
from chalicelib.store.trees import DynamoTrees
from tests.conftest import ALICE, Clock

TREE = "m-0123456789abcdef0123456789abcdef"


@dataclass
class Queue:
    """Errands that wait until somebody runs them."""

    errands: list[Errand] = field(default_factory=list)

    def queue(self, errand: Errand) -> None:
        self.errands.append(errand)


class TreeStage:
    """The services around trees. While somebody waits, `meanwhile` happens."""

    def __init__(self, registry: Registry, clock: Clock) -> None:
        self.registry = registry
        self.clock = clock
        self.blobs: Any = registry.blobs
        # Nobody waits in tests, and no jitter makes two runs differ.
        retry = Retry(sleep=lambda _: None, jitter=lambda low, high: 0)
        self.trees = DynamoTrees(clock, retry)
        self.makings = DynamoMakings(retry)
        self.queue = Queue()
        self.waited = 0.0
        self.meanwhile: Callable[[], None] = lambda: None
        making = Making(self.makings, lambda: self.queue, clock, lambda: self.waited, self._sleep)
        new_ulid = registry._new_ulid
        self.packing = Packing(registry.catalog, registry.blobs, self.trees, making, clock, new_ulid)
        stores = (registry.catalog, registry.blobs, self.trees, making)
        self.unpacking = Unpacking(*stores, lambda: self.queue, clock, new_ulid)
        self.planting = Planting(registry, self.trees, self.blobs, self.unpacking, new_ulid)
        self.keeping = Owners(registry.catalog, registry.blobs, self.trees, self.makings)
        self.trees.created(TREE, None, None)

    def _sleep(self, seconds: float) -> None:
        self.waited += seconds
        self.meanwhile()

    def begin(self, path: str, *contents: bytes) -> tuple[str, list[StatedPart]]:
        """Begin a file and send its parts; what completes it."""
        upload, urls = self.planting.begin(TreePlace(TREE, path), max(1, len(contents)), ALICE)
        parts = []
        for number, (url, content) in enumerate(zip(urls, contents or (b"",), strict=True), 1):
            answer = requests.put(url, data=content, timeout=5)
            parts.append(StatedPart(number=number, etag=answer.headers["ETag"]))
        return upload.id, parts

    def complete(self, path: str, upload_id: str, parts: list[StatedPart]) -> None:
        self.planting.complete(TreePlace(TREE, path), upload_id, parts, ALICE)

    def write(self, path: str, content: bytes = b"x") -> None:
        self.planting.put(TreePlace(TREE, path), content, ALICE)

    def seal(self, prefix: str = "") -> Tree:
        """As a registration does it."""
        found = self.trees.listed(TREE, prefix)
        assert found
        self.commit_seal(*found)
        return found[0]

    def commit_seal(self, tree: Tree, changes: int) -> None:
        tx = Transaction(RegistryItem._get_connection().connection)
        seal(tx, tree, changes)
        tx.commit()

    def content(self, path: str) -> bytes:
        file = self.trees.file(TREE, path)
        assert file
        return self.content_of(file)

    def content_of(self, file: TreeFile) -> bytes:
        return bytes(self.blobs.opened(file.key, file.size).read())

    def objects(self) -> dict[str, int]:
        listed = self.blobs._client().list_objects_v2(Bucket="artifacts").get("Contents", [])
        return {entry["Key"]: entry["Size"] for entry in listed}

    def uploads_in_s3(self) -> int:
        return len(self.blobs._client().list_multipart_uploads(Bucket="artifacts").get("Uploads", []))

    def pass_by(self, **time: float) -> None:
        self.clock.now += timedelta(**time)
