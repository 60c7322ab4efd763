"""The import on DynamoDB and S3 in memory: what an import costs, and what is stored whenever its worker dies."""

import io
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime

import boto3
import pytest

from chalicelib.geti.importing import Imported
from chalicelib.geti.states import ItemState, Order, Outcome
from chalicelib.registry.keeping import Owners
from chalicelib.registry.sweeping import Sweeper
from chalicelib.registry.uploading import Uploading
from chalicelib.registry.uploads import PART_BYTES
from chalicelib.store.blobs import S3Blobs
from chalicelib.store.catalog import DynamoCatalog
from chalicelib.store.geti import DynamoSync
from chalicelib.store.imports import DynamoImports
from chalicelib.store.makings import DynamoMakings
from chalicelib.store.transactions import Retry
from chalicelib.store.trees import DynamoTrees
from tests.geti_importing import M1, SERVER, ImportStage
from tests.geti_stage import PACKAGE, group, model_id, openvino, package, trained
from tests.invariants import check_invariants
from tests.store.conftest import Errands
from tests.store.faults import Crash, nothing, watched_calls

CALLS = 17  # of one import; more would be noticed here


class StoredStage(ImportStage):
    """The stage on what the registry really stands on."""

    def __init__(self) -> None:
        super().__init__()
        retry = Retry(sleep=lambda _: None, jitter=lambda low, high: 0)
        self.s3 = boto3.client("s3")
        self.catalog = DynamoCatalog("RegistryTable", "EventsTable", self.new_ulid, retry)  # type: ignore[assignment]
        self.blobs = S3Blobs("artifacts", lambda: self.s3, lambda: self.s3, 60, lambda *_: None)  # type: ignore[assignment]
        self.store = DynamoSync(SERVER, self.new_ulid, retry, self.clock)  # type: ignore[assignment]
        self.imports = DynamoImports(retry)  # type: ignore[assignment]

    def sweep(self) -> None:
        uploading = Uploading(self.catalog, self.blobs, self.clock, self.new_ulid, self.announced)
        long_after = datetime(2100, 1, 1, tzinfo=UTC)
        keeping = Owners(self.catalog, self.blobs, DynamoTrees(lambda: long_after), DynamoMakings())
        sweeper = Sweeper(
            *(self.catalog, uploading, self.blobs, keeping, Errands, lambda: long_after, self.bugs.append)
        )
        sweeper.sweep(lambda: True)


@pytest.fixture
def stage(aws: None) -> Iterator[StoredStage]:
    stage = StoredStage()
    yield stage
    stage.s3.close()


def test_an_import_is_stored_whole_and_ends_its_run(stage: StoredStage) -> None:
    order = stage.synced(M1)

    with watched_calls(nothing, nothing) as calls:
        assert stage.run(order) == Imported(imported=1, bytes=len(PACKAGE))

    [version] = check_invariants()
    assert version == stage.version()
    item = stage.store.item("p1", M1)
    assert item
    assert (item.state, item.due_at) == (ItemState.IMPORTED, None)
    assert [(run.outcome, run.counts.imported) for run in stage.finished] == [(Outcome.OK, 1)]
    assert len(calls) <= CALLS, calls


def test_a_request_is_told_and_a_message_that_comes_twice_changes_nothing(stage: StoredStage) -> None:
    order = stage.asked(M1)

    stage.run(order)
    assert stage.run(order) is None

    assert stage.outcome(order).outcome == "registered"
    assert len(check_invariants()) == 1


def test_a_large_package_is_stored_in_parts_and_inspected_there(stage: StoredStage) -> None:
    weights = bytes(range(256)) * (PART_BYTES // 256)
    files = {f"deployment/Detection/model/more{number}.bin": weights[number:] for number in range(2)}
    stage.geti.sends[M1] = sent = _stored_zip(files)

    with watched_calls(nothing, nothing) as calls:
        stage.run(stage.synced(M1))

    [version] = check_invariants()
    assert version.artifact.size == len(sent) > 2 * PART_BYTES
    assert (version.artifact.s3_digest or "").endswith("-3")
    assert calls.count("GetObject") <= 6


def _stored_zip(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO(package())
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def test_a_worker_that_dies_behind_any_call_leaves_a_whole_state_and_the_next_one_ends_it(stage: StoredStage) -> None:
    """One model after the other, each with a worker that dies one call later."""
    has_died, steps = True, 0
    while has_died:
        steps += 1
        one = model_id(steps)
        bases = trained(f"b{steps}", openvino(one, version=steps), version=steps)
        stage.geti.add("p1", "Bottle caps", group("g1-c0ffee", "YOLOX-S", bases))
        order = stage.synced(one, base=f"b{steps}")

        has_died = dies(stage, order, steps)
        stage.pass_by(minutes=90)
        stage.run(order)

        item = stage.store.item("p1", one)
        assert item
        assert item.state == ItemState.IMPORTED
        assert stage.version(one).number == steps
        run = stage.store.status(stage.clock())
        assert run
        assert (run.run.outcome, run.run.counts.imported) == (Outcome.OK, 1)

    assert CALLS - 3 < steps <= CALLS + 2
    assert len(check_invariants(orphans=CALLS)) == steps
    stage.sweep()
    assert len(check_invariants()) == steps
    assert stage.bugs == []


def dies(stage: StoredStage, order: Order, step: int) -> bool:
    """Whether its worker died after this call, or was done before."""

    def crash(_: str, number: int) -> None:
        if number >= step - 1:
            raise Crash

    with watched_calls(nothing, crash), suppress(Crash):
        stage.run(order)
        return False
    return True
