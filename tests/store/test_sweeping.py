"""What the sweep removes, and what it must never touch."""

import itertools
import threading
from datetime import timedelta

import pytest

from chalicelib.registry.errors import NotFound, RegistryError, Unavailable
from chalicelib.registry.uploads import UploadState
from tests.conftest import ALICE
from tests.store.conftest import Bench
from tests.store.faults import Crash, nothing, one_call_at_a_time, watched_calls


def rows(bench: Bench) -> list[str]:
    return list(bench.catalog.uploads.due(bench.clock() + timedelta(days=30), 100))


def test_it_expires_abandoned_uploads_and_removes_what_they_left(bench: Bench):
    small, large, in_use = bench.open("a"), bench.open_large("b"), bench.open_large("c")
    bench.put(small)
    bench.send_parts(large)
    bench.clock.pass_by(hours=23)
    bench.send_parts(in_use)
    bench.clock.pass_by(hours=2)

    swept = bench.sweep()

    assert (swept.uploads_seen, swept.uploads_expired, swept.failed, swept.is_finished) == (3, 2, 0, True)
    assert bench.blobs.objects == {}
    assert list(bench.blobs.in_parts) == [in_use.multipart_id]
    assert [row.partition("#")[2] for row in rows(bench)] == [in_use.id]
    assert bench.actions(small.draft.id) == ["upload.opened", "upload.expired"]
    [_, expired] = bench.catalog.events(f"MODEL#{small.draft.id}")[0]
    assert (expired.actor.kind, expired.actor.name) == ("system", "expiry")
    bench.check()
    bench.register(id=small.draft.id)


def test_it_leaves_what_is_in_use_until_it_has_expired(bench: Bench):
    upload = bench.open_large()
    parts = bench.send_parts(upload)
    bench.clock.pass_by(hours=23)
    parts = bench.send_parts(upload)
    bench.clock.pass_by(hours=20)
    bench.sweep()
    bench.sweep()

    bench.complete(upload, parts)

    assert bench.sweep().uploads_seen == 0
    bench.clock.pass_by(days=8)
    assert bench.sweep().objects_removed == 0
    assert rows(bench) == []
    bench.check()


def test_it_clears_what_an_ended_upload_could_not_remove_itself(bench: Bench):
    upload = bench.open_large()
    bench.send_parts(upload)
    bench.blobs.is_down = True
    bench.uploading.abort(upload.id, ALICE)
    bench.clock.pass_by(hours=25)
    with pytest.raises(Unavailable):
        bench.sweep()
    bench.blobs.is_down = False

    swept = bench.sweep()

    assert swept.uploads_cleared == 1
    assert bench.blobs.in_parts == {}
    assert rows(bench) == []


def test_it_removes_objects_that_no_record_names_after_two_days(bench: Bench):
    version = bench.register("kept")
    upload = bench.open("open")
    bench.put(upload)

    def crash(operation: str, _: int) -> None:
        if operation == "TransactWriteItems":
            raise Crash

    with watched_calls(crash, nothing), pytest.raises(Crash):
        bench.register("lost")
    bench.blobs.written_at = bench.clock.now
    bench.clock.pass_by(hours=23)
    assert bench.sweep().objects_seen == 0
    bench.uploading.abort(upload.id, ALICE)
    bench.clock.pass_by(hours=26)

    swept = bench.sweep()

    assert (swept.objects_seen, swept.objects_removed) == (2, 1)
    assert list(bench.blobs.objects) == [version.artifact.key]


def test_it_leaves_the_object_of_an_open_upload_however_old(bench: Bench):
    upload = bench.open_large()
    parts = bench.send_parts(upload)
    bench.blobs.join(upload, parts)
    bench.blobs.written_at -= timedelta(days=30)

    assert bench.sweep().objects_removed == 0
    bench.complete(upload, parts)
    assert bench.sweep().objects_removed == 0
    bench.check()


def test_it_leaves_objects_that_do_not_say_whose_they_are(bench: Bench):
    bench.blobs.objects["artifacts/01/unknown.zip"] = b"?"
    bench.clock.pass_by(days=2)

    assert (bench.sweep().unmarked, list(bench.blobs.objects)) == (1, ["artifacts/01/unknown.zip"])


def test_it_removes_what_came_after_the_upload_had_ended(bench: Bench):
    """A URL works for an hour, whatever becomes of its upload."""
    upload = bench.open()
    request = bench.uploading.put_request(upload)
    bench.uploading.abort(upload.id, ALICE)
    assert request
    assert bench.blobs.send(request, b"") == 400
    bench.blobs.objects[upload.key], bench.blobs.owners[upload.key] = b"late", upload.draft.id
    other = bench.publish("other", id=upload.draft.id)
    bench.clock.pass_by(days=1)

    bench.sweep()

    assert list(bench.blobs.objects) == [other.artifact.key]


def test_a_run_stops_when_its_time_is_up_and_the_next_goes_on(bench: Bench, monkeypatch):
    monkeypatch.setattr("chalicelib.registry.sweeping.PAGE", 2)
    for number in range(5):
        bench.blobs.objects[f"artifacts/{number}/m.zip"] = b"orphan"
        bench.blobs.owners[f"artifacts/{number}/m.zip"] = f"model-without-record-{number}"
        bench.open(f"abandoned {number}")
    bench.clock.pass_by(days=3)

    runs = []
    while not runs or not runs[-1].is_finished:
        steps = itertools.count()
        runs.append(bench.sweeper.sweep(lambda: next(steps) < 3))  # noqa: B023 - called before the next round
        assert len(runs) < 20

    assert len(runs) > 2
    assert sum(run.uploads_expired for run in runs) == 5
    assert sum(run.objects_removed for run in runs) == 5
    assert bench.blobs.objects == {}
    bench.check()


def test_a_run_is_bounded(bench: Bench, monkeypatch):
    monkeypatch.setattr("chalicelib.registry.sweeping.PAGE", 2)
    monkeypatch.setattr("chalicelib.registry.sweeping.MAX_UPLOADS", 4)
    for number in range(6):
        bench.open(f"abandoned {number}")
    bench.clock.pass_by(days=3)

    first, second = bench.sweep(), bench.sweep()

    assert (first.uploads_seen, first.is_finished) == (4, False)
    assert (second.uploads_seen, second.is_finished) == (2, True)


def test_one_object_that_fails_does_not_stop_the_others(bench: Bench, monkeypatch):
    for number in range(3):
        bench.blobs.objects[f"artifacts/{number}/m.zip"] = b"orphan"
        bench.blobs.owners[f"artifacts/{number}/m.zip"] = f"model-without-record-{number}"
    bench.clock.pass_by(days=2)
    stored = bench.blobs.stored

    def failing(key: str):
        if "/1/" in key:
            raise Unavailable("away")
        return stored(key)

    monkeypatch.setattr(bench.blobs, "stored", failing)

    assert (bench.sweep().failed, list(bench.blobs.objects)) == (1, ["artifacts/1/m.zip"])


def test_what_fails_every_time_does_not_stop_what_is_behind_it(bench: Bench, monkeypatch):
    poisoned, other = bench.open("a"), bench.open("b")
    bench.clock.pass_by(days=3)
    clear = bench.uploading.clear

    def failing(upload_id: str):
        if upload_id == poisoned.id:
            raise ValueError("a record that cannot be read")
        return clear(upload_id)

    monkeypatch.setattr(bench.uploading, "clear", failing)

    swept = bench.sweep()

    assert (swept.failed, swept.uploads_expired) == (1, 1)
    assert [str(exc) for exc in bench.unexpected] == ["a record that cannot be read"]
    assert bench.catalog.uploads.get(other.id).state == UploadState.EXPIRED
    assert [line[0].value for line in bench.announced.lines[2:]] == ["upload.expired"]


def test_it_may_run_twice_at_once_among_publishers_and_never_removes_what_a_record_names(bench: Bench):
    """Each object is old enough from the beginning, and each upload near its end: only records protect them."""
    bench.blobs.written_at -= timedelta(days=30)
    stop, failures = threading.Event(), []

    def publish(worker: int) -> None:
        for round_ in range(6):
            upload = bench.open(f"model {worker}", f"v{round_}", id=f"model-{worker}-{round_}-000000")
            if round_ % 3 == 1:
                bench.clock.pass_by(hours=13)
            bench.put(upload)
            try:
                version = bench.complete(upload)
                if round_ % 3 == 2:
                    bench.registry.delete(version.id, ALICE)
            except (RegistryError, NotFound):
                continue

    def sweep() -> None:
        while not stop.is_set():
            bench.sweep()

    def guarded(run, *arguments) -> threading.Thread:
        def target() -> None:
            try:
                run(*arguments)
            except BaseException as exc:
                failures.append(exc)

        return threading.Thread(target=target)

    sweepers = [guarded(sweep) for _ in range(2)]
    publishers = [guarded(publish, worker) for worker in range(4)]
    with one_call_at_a_time():
        for thread in sweepers + publishers:
            thread.start()
        for thread in publishers:
            thread.join()
        stop.set()
        for thread in sweepers:
            thread.join()

    assert failures == []
    assert len(bench.check(orphans=100)) >= 4
    bench.clock.pass_by(days=10)
    while not bench.sweep().is_finished:
        pass
    bench.check()


@pytest.mark.parametrize("state", [UploadState.ABORTED, UploadState.COMPLETED])
def test_rows_of_ended_uploads_go(bench: Bench, state):
    upload = bench.open()
    bench.put(upload)
    if state == UploadState.COMPLETED:
        bench.complete(upload)
    else:
        bench.uploading.abort(upload.id, ALICE)
    bench.clock.pass_by(days=2)

    bench.sweep()

    assert rows(bench) == []
    assert bench.catalog.uploads.get(upload.id).state == state
