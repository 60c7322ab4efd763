"""Checkpoints in a bucket with a lock, as the template makes it, and what writes them, on AWS in memory."""

import hashlib
import io
import json
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from chalicelib.registry.checkpointing import Checkpointed, Checkpointing
from chalicelib.registry.checkpoints import Checkpoint, key_of
from chalicelib.registry.errors import Unavailable
from chalicelib.registry.models import Changes
from chalicelib.store.checkpoints import S3Checkpoints
from tests.conftest import ALICE
from tests.store.conftest import Bench
from tests.store.faults import not_connected, nothing, slow_down, watched_calls
from tests.store.trail_stage import drop, overwrite

NOON = datetime(2026, 3, 5, 12, tzinfo=UTC)


@pytest.fixture
def checkpoints(aws: None) -> S3Checkpoints:
    s3 = boto3.client("s3")
    return S3Checkpoints("audit", lambda: s3, lambda: s3, 3600)


def checkpoint(until: datetime, content: bytes = b"x\n") -> tuple[Checkpoint, io.BytesIO]:
    digest = hashlib.sha256(content).hexdigest()
    known = Checkpoint(key=key_of(until), until=until, written_at=until, subjects=7, sha256=digest)
    return known, io.BytesIO(content)


def test_a_checkpoint_is_found_as_it_was_stored_and_is_locked(checkpoints):
    known, content = checkpoint(NOON)

    assert checkpoints.add(known, content)

    found = checkpoints.newest(NOON)
    assert found.model_copy(update={"retained_until": None}) == known
    assert timedelta(days=364) < found.retained_until - datetime.now(UTC) <= timedelta(days=365)
    assert list(checkpoints.lines(known.key)) == [b"x\n"]


def test_nobody_removes_a_checkpoint_that_is_locked(checkpoints):
    known, content = checkpoint(NOON)
    checkpoints.add(known, content)
    s3 = boto3.client("s3")
    [version] = s3.list_object_versions(Bucket="audit")["Versions"]

    for bypass in ({}, {"BypassGovernanceRetention": True}):
        with pytest.raises(ClientError, match="AccessDenied"):
            s3.delete_object(Bucket="audit", Key=known.key, VersionId=version["VersionId"], **bypass)


def test_of_two_checkpoints_of_one_minute_the_first_stays(checkpoints):
    checkpoints.add(*checkpoint(NOON, b"first\n"))

    assert not checkpoints.add(*checkpoint(NOON, b"second\n"))

    assert list(checkpoints.lines(key_of(NOON))) == [b"first\n"]


def test_s3_refuses_other_bytes_than_were_announced(checkpoints):
    known, _ = checkpoint(NOON)
    sent: list[dict[str, Any]] = []
    client = boto3.client("s3")
    client.meta.events.register("before-call.s3.PutObject", lambda params, **_: sent.append(params["headers"]))
    S3Checkpoints("audit", lambda: client, lambda: client, 3600).add(known, io.BytesIO(b"x\n"))

    # AWS in memory does not compare them; that they are sent is all that can be seen here.
    assert sent[0]["x-amz-checksum-sha256"]
    assert sent[0]["If-None-Match"] == "*"


def test_they_are_listed_newest_first_over_months_and_years(checkpoints):
    times = [NOON + timedelta(days=days) for days in (-62, -3, -2, 0, 27, 330, 500)]
    for until in times:
        checkpoints.add(*checkpoint(until))

    found = [known.until for known in checkpoints.page(NOON + timedelta(days=600), 10)]
    assert found == times[::-1]


def test_a_page_goes_on_behind_a_key_and_stops_where_it_is_told(checkpoints):
    times = [NOON + timedelta(days=days) for days in range(5)]
    for until in times:
        checkpoints.add(*checkpoint(until))

    first = checkpoints.page(times[3], 2)
    second = checkpoints.page(times[3], 10, first[-1].key)

    assert [known.until for known in first] == [times[3], times[2]]
    assert [known.until for known in second] == [times[1], times[0]]


def test_the_newest_one_covers_no_more_than_is_asked(checkpoints):
    for days in (0, 1, 9_000):
        checkpoints.add(*checkpoint(NOON + timedelta(days=days)))

    assert checkpoints.newest(NOON + timedelta(days=30)).until == NOON + timedelta(days=1)
    assert checkpoints.newest(NOON - timedelta(days=30)) is None


def test_what_nobody_of_us_put_there_is_not_taken_for_a_checkpoint(checkpoints):
    checkpoints.add(*checkpoint(NOON))
    s3 = boto3.client("s3")
    for key in ("checkpoints/2026-03-05T1300Z.jsonl", "checkpoints/2026-03-05.txt", "2026-03-05T1300Z.jsonl"):
        s3.put_object(Bucket="audit", Key=key, Body=b"x", Metadata={"sha256": "none"})

    assert [known.until for known in checkpoints.page(NOON + timedelta(days=1), 10)] == [NOON]


def test_a_month_is_asked_for_at_once(checkpoints):
    for days in range(4):
        checkpoints.add(*checkpoint(NOON + timedelta(days=days)))

    with watched_calls(nothing, nothing) as calls:
        checkpoints.newest(NOON + timedelta(days=4))

    assert calls == ["ListObjectsV2", "HeadObject"]


@pytest.mark.parametrize("fault", [slow_down, not_connected])
def test_a_bucket_that_does_not_answer_is_unavailable(checkpoints, fault):
    known, content = checkpoint(NOON)
    checkpoints.add(known, content)

    def fail(operation: str, _: int) -> None:
        raise fault(operation)

    for attempt in (
        lambda: checkpoints.newest(NOON),
        lambda: checkpoints.add(known, content),
        lambda: list(checkpoints.lines(known.key)),
    ):
        with watched_calls(fail, nothing), pytest.raises(Unavailable):
            attempt()


def test_a_url_serves_the_file_under_its_own_name(checkpoints):
    url = checkpoints.download_url("checkpoints/2026-03-05T1200Z.jsonl")

    assert "audit" in url
    assert "2026-03-05T1200Z.jsonl%22" in url


# --- The function, on a registry in which things happen ----------------------------------------------------------


class Stage:
    """A registry with a past, and what writes checkpoints of it."""

    def __init__(self, bench: Bench, checkpoints: S3Checkpoints) -> None:
        self.bench = bench
        self.checkpoints = checkpoints
        self.broken: list[tuple[str, str]] = []

    def run(self) -> Checkpointed:
        clock = self.bench.clock
        trail = self.bench.catalog.trail
        return Checkpointing(trail, self.checkpoints, clock, lambda *what: self.broken.append(what)).run(lambda: True)

    @property
    def heads(self) -> dict[str, tuple[int, str]]:
        """Of the newest checkpoint."""
        newest = self.checkpoints.newest(self.bench.clock())
        lines = [json.loads(line) for line in self.checkpoints.lines(newest.key)]
        return {subject: (seq, digest) for subject, seq, digest in lines[1:-1]}

    @property
    def stored_heads(self) -> dict[str, tuple[int, str]]:
        """Of every subject, by its events."""
        found: dict[str, list[tuple[int, str]]] = defaultdict(list)
        for item in boto3.client("dynamodb").scan(TableName="EventsTable")["Items"]:
            found[item["pk"]["S"]].append((int(item["sk"]["S"]), item["digest"]["S"]))
        return {subject: max(heads) for subject, heads in found.items()}


@pytest.fixture
def stage(bench: Bench, checkpoints: S3Checkpoints) -> Stage:
    return Stage(bench, checkpoints)


def test_a_checkpoint_has_the_head_of_every_subject(stage):
    bench = stage.bench
    kept, gone = bench.register("cat"), bench.publish("dog", project_name="vision")
    bench.clock.pass_by(days=3)
    bench.registry.update(kept.id, Changes(score=0.5), ALICE)
    bench.registry.delete(gone.id, ALICE)
    bench.clock.pass_by(minutes=11)

    done = stage.run()

    assert stage.heads == stage.stored_heads
    assert (done.subjects, done.checkpoints_written, stage.broken) == (4, 1, [])


def test_the_calls_of_a_run_follow_what_happened_and_not_how_much_there_is(stage):
    bench = stage.bench

    def calls_of_a_day() -> list[str]:
        bench.register("cat", f"v{bench.clock.now:%d}")
        bench.clock.pass_by(days=1)
        with watched_calls(nothing, nothing) as calls:
            stage.run()
        return calls

    calls_of_a_day()
    few = calls_of_a_day()
    for number in range(40):
        bench.register(f"model {number}")
    bench.clock.pass_by(days=1)
    stage.run()

    many = calls_of_a_day()

    assert many == few
    assert stage.heads == stage.stored_heads


def test_an_event_that_is_changed_with_a_right_digest_is_reported(stage):
    bench = stage.bench
    version = bench.register("cat")
    bench.clock.pass_by(minutes=11)
    stage.run()
    [event] = bench.catalog.events(f"MODEL#{version.id}")[0]
    forged = event.model_copy(update={"changes": "{}"})

    overwrite(event, changes="{}", digest=forged.digest)
    bench.clock.pass_by(minutes=11)
    done = stage.run()

    assert done.chains_broken == 1
    assert stage.broken == [(event.subject, "event 1 is another one than the checkpoint before says")]
    assert stage.heads[event.subject] == (1, event.digest)


def test_an_event_that_is_dropped_is_reported(stage):
    bench = stage.bench
    version = bench.register("cat")
    bench.registry.update(version.id, Changes(score=0.5), ALICE)
    bench.clock.pass_by(minutes=11)
    stage.run()

    drop(bench.catalog.events(f"MODEL#{version.id}")[0][-1])
    bench.clock.pass_by(minutes=11)
    stage.run()

    assert stage.broken == [(f"MODEL#{version.id}", "event 1 is the last one, the checkpoint before says 2")]
