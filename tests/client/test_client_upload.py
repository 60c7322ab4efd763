"""Uploads: one pass, every kind of failure, and going on after an interruption at any point."""

import hashlib
import json
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from modelreg import (
    Conflict,
    ConnectionFailed,
    Corrupt,
    Forbidden,
    InProgress,
    InvalidArchive,
    InvalidInput,
    LocalError,
    Registry,
    RegistryError,
    SourceChanged,
    Unavailable,
    UploadClosed,
    UploadIncomplete,
)
from modelreg.locks import open_alone
from modelreg.resume import SentPart, UploadState, digest_of, state_file
from modelreg.retry import Patience
from modelreg.source import Source

from tests.client.conftest import Waits, Watched
from tests.client.fake_registry import BASE, FakeRegistry, FakeUpload, problem, s3_error

LOST = httpx.ReadError("connection reset")


def register(registry: Registry, path: Path, **more: object) -> object:
    return registry.register(path, name="detector", version="v1", **more)  # type: ignore[arg-type]


def state_of(path: Path) -> Path:
    """Where an upload by register() to the registry at BASE is remembered."""
    metadata = {"name": "detector", "version": "v1", "project_id": None, "project_name": None, "precision": None}
    return path.with_name(f".{path.name}.{digest_of({'url': BASE, **metadata})[:8]}.modelreg-upload.json")


def still_running() -> httpx.Response:
    answer = problem(409, "in_progress")
    answer.headers["Retry-After"] = "1"
    return answer


def left_beside(path: Path) -> list[str]:
    return sorted(item.name for item in path.parent.iterdir() if item != path)


def interrupt(fake: FakeRegistry, registry: Registry, artifact: Path, *, after_parts: int = 3) -> None:
    """Leaves an upload of which some parts have arrived, as Ctrl-C does."""

    def fault(request: httpx.Request) -> httpx.Response | None:
        if request.method == "PUT" and sum(len(upload.parts) for upload in fake.uploads.values()) >= after_parts:
            raise KeyboardInterrupt
        return None

    fake.faults.append(fault)
    with pytest.raises(KeyboardInterrupt):
        register(registry, artifact)
    fake.faults.remove(fault)
    fake.requests.clear()


def test_a_file_of_many_parts_arrives_whole(
    fake: FakeRegistry, registry: Registry, artifact: Path, watched: Watched
) -> None:
    model = register(registry, artifact, progress=watched, precision=["fp16"], tags={"team": "vision"}, score=None)

    upload = fake.uploads["upload-0"]
    content = artifact.read_bytes()
    assert fake.contents[model.id] == content  # type: ignore[attr-defined]
    assert len(upload.parts) == 6
    assert {key: upload.announced[key] for key in ("name", "version", "precision", "tags", "file_name", "size")} == {
        "name": "detector", "version": "v1", "precision": ["fp16"], "tags": {"team": "vision"},
        "file_name": "weights.onnx", "size": len(content),
    }  # fmt: skip
    assert "score" not in upload.announced
    completed = json.loads(fake.calls("POST", "/complete")[0].content)
    assert completed["sha256"] == hashlib.sha256(content).hexdigest()
    assert [part["number"] for part in completed["parts"]] == [1, 2, 3, 4, 5, 6]
    assert watched.started == [("weights.onnx", len(content), 0)]
    assert (watched.advanced_bytes, watched.finished) == (len(content), 1)
    assert left_beside(artifact) == []


def test_a_small_artifact_is_one_put(fake: FakeRegistry, registry: Registry, artifact: Path, watched: Watched) -> None:
    fake.single_limit = 10_000

    model = register(registry, artifact, progress=watched)

    assert fake.contents[model.id] == artifact.read_bytes()  # type: ignore[attr-defined]
    assert fake.uploads["upload-0"].announced["sha256"] == hashlib.sha256(artifact.read_bytes()).hexdigest()
    assert len(fake.calls("PUT", "")) == 1
    assert watched.advanced_bytes == artifact.stat().st_size


def test_a_directory_arrives_as_a_zip(fake: FakeRegistry, registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "model.bin").write_bytes(b"1" * 4000)

    model = registry.upload(tmp_path / "m", name="detector", version="v1")

    assert fake.uploads["upload-0"].announced["file_name"] == "m.zip"
    assert fake.contents[model.id].startswith(b"PK\x03\x04")


def test_urls_are_asked_for_in_batches(patience: Patience, artifact: Path) -> None:
    fake = FakeRegistry(part_size=100)
    gate = threading.Event()

    def slow_first(request: httpx.Request) -> httpx.Response | None:
        if request.url.path.endswith("/parts"):
            gate.wait(0.005)
        return None

    fake.faults.append(slow_first)
    with Registry(BASE, transport=fake.transport, patience=patience, parallel=3) as registry:
        register(registry, artifact)

    batches = [len(json.loads(request.content)["digests"]) for request in fake.calls("POST", "/parts")]
    assert sum(batches) == 54
    assert max(batches) <= 5, "parallel + 2 parts are in memory at most"
    assert len(batches) < 54


@pytest.mark.parametrize(
    "failure",
    [
        LOST,
        httpx.ConnectTimeout("slow"),
        s3_error(503, "SlowDown"),
        s3_error(500, "InternalError"),
        s3_error(400, "RequestTimeout"),
        s3_error(408, "RequestTimeout"),
        s3_error(429, "TooManyRequests"),
        s3_error(400, "BadDigest"),
    ],
    ids=str,
)
def test_a_part_that_fails_is_sent_again_and_counted_once(
    fake: FakeRegistry, registry: Registry, artifact: Path, watched: Watched, failure: httpx.Response | Exception
) -> None:
    fake.fail("PUT", "/3", failure)

    model = register(registry, artifact, progress=watched)

    assert fake.contents[model.id] == artifact.read_bytes()  # type: ignore[attr-defined]
    assert len(fake.calls("PUT", "/3")) == 2
    assert watched.advanced_bytes == artifact.stat().st_size
    assert any("part 3 again" in note for note in watched.notes)


def test_waits_grow_and_the_server_may_ask_for_longer_ones(
    fake: FakeRegistry, registry: Registry, artifact: Path, waits: Waits
) -> None:
    slow = s3_error(503, "SlowDown", **{"Retry-After": "7"})
    fake.fail("PUT", "/3", LOST, LOST, slow, LOST)

    register(registry, artifact)

    assert waits.seconds == [0.2, 0.4, 7.0, 1.6]


def test_a_part_that_never_gets_through_ends_the_upload_and_can_be_resumed(
    fake: FakeRegistry, registry: Registry, artifact: Path
) -> None:
    fake.fail("PUT", "/3", *[LOST] * 10)

    with pytest.raises(ConnectionFailed, match="part 3"):
        register(registry, artifact)
    assert len(fake.calls("PUT", "/3")) == 10
    fake.requests.clear()
    register(registry, artifact)

    assert len(fake.calls("POST", "/uploads")) == 0
    assert len(fake.calls("PUT", "/3")) == 1


def test_an_expired_url_is_renewed(fake: FakeRegistry, registry: Registry, artifact: Path, waits: Waits) -> None:
    def expire(request: httpx.Request) -> httpx.Response | None:
        if request.url.path.endswith("/4"):
            fake.faults.remove(expire)
            fake.valid_signature += 1
        return None

    fake.faults.append(expire)

    model = register(registry, artifact)

    assert fake.contents[model.id] == artifact.read_bytes()  # type: ignore[attr-defined]
    assert waits.seconds == []


def test_an_expired_url_of_a_single_put_is_renewed(fake: FakeRegistry, registry: Registry, artifact: Path) -> None:
    fake.single_limit = 10_000
    fake.fail("PUT", "", s3_error(403, "AccessDenied"), s3_error(400, "ExpiredToken"))

    model = register(registry, artifact)

    assert fake.contents[model.id] == artifact.read_bytes()  # type: ignore[attr-defined]


def test_s3_that_refuses_every_url_ends_the_upload(fake: FakeRegistry, registry: Registry, artifact: Path) -> None:
    fake.fail("PUT", "/2", *[s3_error(403, "SignatureDoesNotMatch")] * 9)

    with pytest.raises(Forbidden, match="SignatureDoesNotMatch") as caught:
        register(registry, artifact)

    assert len(fake.calls("PUT", "/2")) == 4
    assert "secret" not in f"{caught.value!r}{caught.value.hint}"


def test_bytes_that_arrive_damaged_again_and_again_end_the_upload(
    fake: FakeRegistry, registry: Registry, artifact: Path
) -> None:
    fake.fail("PUT", "/2", *[s3_error(400, "XAmzContentChecksumMismatch")] * 9)

    with pytest.raises(Corrupt, match="part 2"):
        register(registry, artifact)

    assert len(fake.calls("PUT", "/2")) == 3


def test_a_lost_answer_to_a_single_put_is_no_failure(fake: FakeRegistry, registry: Registry, artifact: Path) -> None:
    fake.single_limit = 10_000
    fake.lose_answer("PUT", "")

    model = register(registry, artifact)

    assert fake.contents[model.id] == artifact.read_bytes()  # type: ignore[attr-defined]


@pytest.mark.parametrize("knows_keys", [True, False], ids=["registry knows keys", "older registry"])
@pytest.mark.parametrize("single_limit", [0, 10_000])
def test_a_lost_answer_to_the_announcement_is_found_again(
    fake: FakeRegistry, registry: Registry, artifact: Path, single_limit: int, knows_keys: bool
) -> None:
    fake.single_limit, fake.knows_keys = single_limit, knows_keys
    fake.lose_answer("POST", "/uploads")

    model = register(registry, artifact, id="my-own-model-0001")

    assert model.id == "my-own-model-0001"  # type: ignore[attr-defined]
    assert len(fake.uploads) == 1


def test_an_announcement_and_its_repetitions_have_one_key_that_no_other_has(
    fake: FakeRegistry, registry: Registry, artifact: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.onnx"
    other.write_bytes(b"other" * 1000)
    fake.fail("POST", "/uploads", LOST, problem(503, "outcome_unknown"), httpx.Response(502), httpx.Response(504))

    register(registry, artifact)
    registry.register(other, name="other", version="v1")

    keys = [request.headers["idempotency-key"] for request in fake.calls("POST", "/uploads")]
    assert len(keys) == 6
    assert len(set(keys[:5])) == 1
    assert keys[5] not in keys[:5]


def test_an_announcement_that_still_runs_is_waited_for(
    fake: FakeRegistry, registry: Registry, artifact: Path, waits: Waits
) -> None:
    fake.lose_answer("POST", "/uploads")
    fake.fail("POST", "/uploads", *[still_running() for _ in range(6)])

    model = register(registry, artifact)

    assert fake.contents[model.id] == artifact.read_bytes()  # type: ignore[attr-defined]
    assert len(fake.uploads) == 1
    assert len(waits.seconds) == 7
    assert all(seconds >= 1 for seconds in waits.seconds[1:])


def test_an_announcement_that_runs_longer_than_any_can_is_given_up_and_can_be_resumed(
    fake: FakeRegistry, registry: Registry, artifact: Path, waits: Waits
) -> None:
    fake.fail("POST", "/uploads", *[still_running() for _ in range(100)])

    with pytest.raises(InProgress):
        register(registry, artifact)

    assert 40 < sum(waits.seconds) < 80
    assert state_of(artifact).exists()


def test_a_run_after_an_interruption_announces_with_a_key_of_its_own(
    fake: FakeRegistry, registry: Registry, artifact: Path
) -> None:
    fake.fail("POST", "/uploads", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        register(registry, artifact)

    register(registry, artifact)

    first, second = (request.headers["idempotency-key"] for request in fake.calls("POST", "/uploads"))
    assert first != second


def test_somebody_elses_upload_under_the_same_id_is_not_taken_over(
    fake: FakeRegistry, registry: Registry, artifact: Path
) -> None:
    fake.fail("POST", "/uploads", problem(409, "conflict", holder="my-own-model-0001", upload_id="theirs"))

    with pytest.raises(Conflict) as caught:
        register(registry, artifact, id="my-own-model-0001")

    assert caught.value.upload_id == "theirs"
    assert "theirs" in caught.value.hint


@pytest.mark.parametrize("failure", [LOST, problem(503, "unavailable"), problem(503, "outcome_unknown")], ids=str)
@pytest.mark.parametrize("ending", ["/uploads", "/parts", "/complete"])
def test_calls_of_the_registry_are_repeated(
    fake: FakeRegistry, registry: Registry, artifact: Path, ending: str, failure: httpx.Response | Exception
) -> None:
    fake.fail("POST", ending, failure, failure)

    model = register(registry, artifact)

    assert fake.contents[model.id] == artifact.read_bytes()  # type: ignore[attr-defined]


def test_completing_is_repeated_for_minutes_while_s3_joins_the_parts(
    fake: FakeRegistry, registry: Registry, artifact: Path, waits: Waits
) -> None:
    fake.fail("POST", "/complete", *[httpx.Response(504, text="late")] * 20)

    register(registry, artifact)

    assert 60 < sum(waits.seconds) < 600


def test_completing_is_given_up_in_the_end_and_can_be_resumed(
    fake: FakeRegistry, registry: Registry, artifact: Path, waits: Waits
) -> None:
    fake.fail("POST", "/complete", *[httpx.Response(504, text="late")] * 200)

    with pytest.raises(Unavailable):
        register(registry, artifact)

    assert 600 < sum(waits.seconds) < 700
    assert state_of(artifact).exists()


def test_parts_that_the_registry_misses_are_sent_again_once(
    fake: FakeRegistry, registry: Registry, artifact: Path
) -> None:
    def lose_parts(request: httpx.Request) -> httpx.Response | None:
        if request.url.path.endswith("/complete"):
            fake.faults.remove(lose_parts)
            del fake.uploads["upload-0"].parts[2]
            del fake.uploads["upload-0"].parts[5]
        return None

    fake.faults.append(lose_parts)

    register(registry, artifact)

    sent = sorted(request.url.path.split("/")[-1] for request in fake.calls("PUT", ""))
    assert sent == ["1", "2", "2", "3", "4", "5", "5", "6"]


def test_parts_that_are_missed_twice_end_the_upload(fake: FakeRegistry, registry: Registry, artifact: Path) -> None:
    fake.fail("POST", "/complete", *[problem(422, "upload_incomplete", parts=[2])] * 2)

    with pytest.raises(UploadIncomplete) as caught:
        register(registry, artifact)

    assert caught.value.parts == (2,)


def test_a_refused_archive_is_final(fake: FakeRegistry, registry: Registry, artifact: Path) -> None:
    fake.fail("POST", "/complete", problem(422, "invalid_archive", detail="It is no ZIP."))

    with pytest.raises(InvalidArchive, match=r"It is no ZIP\."):
        register(registry, artifact)

    assert left_beside(artifact) == []


def test_a_refused_announcement_leaves_nothing_and_sends_nothing(
    fake: FakeRegistry, registry: Registry, artifact: Path
) -> None:
    fake.fail("POST", "/uploads", problem(409, "conflict", holder="other-model-00001"))

    with pytest.raises(Conflict) as caught:
        register(registry, artifact)

    assert caught.value.holder == "other-model-00001"
    assert left_beside(artifact) == []
    assert len(fake.requests) == 1


def test_a_source_that_changes_while_it_is_sent_registers_nothing(
    fake: FakeRegistry, registry: Registry, artifact: Path
) -> None:
    def change(request: httpx.Request) -> httpx.Response | None:
        if request.url.path.endswith("/uploads"):
            os.utime(artifact, ns=(1, 1))
        return None

    fake.faults.append(change)

    with pytest.raises(SourceChanged):
        register(registry, artifact)

    assert fake.uploads["upload-0"].state == "ABORTED"
    assert fake.models == {}
    assert left_beside(artifact) == []


def test_an_unknown_field_is_refused_before_any_request(fake: FakeRegistry, registry: Registry, artifact: Path) -> None:
    with pytest.raises(InvalidInput, match="colour") as caught:
        register(registry, artifact, colour="red")

    assert "precision" in caught.value.hint
    assert fake.requests == []


def test_an_interrupted_upload_sends_only_what_is_missing(
    fake: FakeRegistry, registry: Registry, artifact: Path, watched: Watched
) -> None:
    interrupt(fake, registry, artifact)
    there = sorted(fake.uploads["upload-0"].parts)

    model = register(registry, artifact, progress=watched)

    assert fake.contents[model.id] == artifact.read_bytes()  # type: ignore[attr-defined]
    sent = {int(request.url.path.split("/")[-1]) for request in fake.calls("PUT", "")}
    assert sent == {1, 2, 3, 4, 5, 6} - set(there)
    assert watched.notes == [f"resuming: {len(there)} of 6 parts are there"]
    (_, total, done) = watched.started[0]
    assert done + watched.advanced_bytes == total
    completed = json.loads(fake.calls("POST", "/complete")[0].content)
    assert completed["sha256"] == hashlib.sha256(artifact.read_bytes()).hexdigest()
    assert left_beside(artifact) == []


def test_the_state_file_holds_no_secret_and_is_for_its_owner_only(
    fake: FakeRegistry, registry: Registry, artifact: Path
) -> None:
    interrupt(fake, registry, artifact)

    text = state_of(artifact).read_text()
    assert "secret" not in text
    assert "s3.test" not in text
    assert state_of(artifact).stat().st_mode & 0o777 == 0o600
    assert left_beside(artifact) == [state_of(artifact).name]


def test_threads_end_when_the_user_breaks_off(fake: FakeRegistry, registry: Registry, artifact: Path) -> None:
    interrupt(fake, registry, artifact)

    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("modelreg")] == []


@pytest.mark.parametrize("moment", ["before the announcement", "after it", "after the last part", "after completing"])
def test_a_crash_at_any_moment_is_recovered_from(
    fake: FakeRegistry, registry: Registry, artifact: Path, moment: str
) -> None:
    ending = {"before the announcement": "/uploads", "after it": "/uploads"}.get(moment, "/complete")
    dies = threading.Event()

    def crash(request: httpx.Request) -> httpx.Response | None:
        if request.method == "POST" and request.url.path.endswith(ending) and not dies.is_set():
            dies.set()
            if moment.startswith("after") and moment != "after the last part":
                fake._dispatch(request)
            raise KeyboardInterrupt
        return None

    fake.faults.append(crash)
    with pytest.raises(KeyboardInterrupt):
        register(registry, artifact)
    fake.requests.clear()

    model = register(registry, artifact)

    assert fake.contents[model.id] == artifact.read_bytes()  # type: ignore[attr-defined]
    assert len(fake.models) == 1
    assert len(fake.uploads) == 1
    if ending == "/complete":
        assert fake.calls("PUT", "") == []
    assert left_beside(artifact) == []


def test_an_upload_that_s3_joined_already_is_completed_at_once(
    fake: FakeRegistry, registry: Registry, artifact: Path
) -> None:
    fake.fail("POST", "/complete", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        register(registry, artifact)
    upload = fake.uploads["upload-0"]
    upload.content = artifact.read_bytes()
    upload.parts.clear()
    fake.requests.clear()

    register(registry, artifact)

    assert [request.method for request in fake.requests] == ["GET", "POST"]


@pytest.mark.parametrize("change", ["description", "source"])
def test_the_state_of_something_else_is_dropped_and_its_upload_aborted(
    fake: FakeRegistry, registry: Registry, artifact: Path, change: str
) -> None:
    interrupt(fake, registry, artifact)
    if change == "source":
        artifact.write_bytes(b"other" * 1000)

    register(registry, artifact, **({"description": "another"} if change == "description" else {}))

    assert fake.uploads["upload-0"].state == "ABORTED"
    assert fake.uploads["upload-1"].state == "COMPLETED"


def test_another_version_leaves_an_interrupted_upload_to_be_resumed(
    fake: FakeRegistry, registry: Registry, artifact: Path
) -> None:
    interrupt(fake, registry, artifact)

    registry.register(artifact, name="detector", version="v2")
    assert fake.uploads["upload-0"].state == "OPEN"
    register(registry, artifact)

    assert fake.uploads["upload-0"].state == "COMPLETED"
    assert left_beside(artifact) == []


def test_another_registry_leaves_an_interrupted_upload_to_be_resumed(
    fake: FakeRegistry, registry: Registry, artifact: Path, patience: Patience
) -> None:
    interrupt(fake, registry, artifact)
    other = FakeRegistry()

    with Registry("https://other.test/prod/api", transport=other.transport, patience=patience) as elsewhere:
        register(elsewhere, artifact)

    assert other.requests[0].method == "POST"
    assert left_beside(artifact) == [state_of(artifact).name]


def test_an_upload_whose_announcement_was_lost_does_not_block_what_changed_since(
    fake: FakeRegistry, registry: Registry, artifact: Path
) -> None:
    def crash(request: httpx.Request) -> httpx.Response | None:
        if request.url.path.endswith("/uploads"):
            fake._dispatch(request)
            raise KeyboardInterrupt
        return None

    fake.faults.append(crash)
    with pytest.raises(KeyboardInterrupt):
        register(registry, artifact)
    fake.faults.clear()
    artifact.write_bytes(b"other" * 1000)

    model = register(registry, artifact)

    assert fake.contents[model.id] == b"other" * 1000  # type: ignore[attr-defined]
    assert fake.uploads["upload-0"].state == "ABORTED"
    assert left_beside(artifact) == []


@pytest.mark.parametrize("state", ["EXPIRED", "FAILED", "ABORTED", "unknown"])
def test_an_upload_that_is_closed_is_begun_anew(
    fake: FakeRegistry, registry: Registry, artifact: Path, state: str
) -> None:
    interrupt(fake, registry, artifact)
    if state == "unknown":
        fake.uploads.clear()
    else:
        fake.uploads["upload-0"].state = state

    model = register(registry, artifact)

    assert fake.contents[model.id] == artifact.read_bytes()  # type: ignore[attr-defined]


def test_an_upload_that_s3_lost_is_begun_anew_once(
    fake: FakeRegistry, registry: Registry, artifact: Path, watched: Watched
) -> None:
    fake.fail("PUT", "upload-0/4", s3_error(404, "NoSuchUpload"))

    model = register(registry, artifact, progress=watched)

    assert fake.contents[model.id] == artifact.read_bytes()  # type: ignore[attr-defined]
    assert fake.uploads["upload-0"].state == "ABORTED"


@pytest.fixture
def single(patience: Patience) -> FakeRegistry:
    """A registry that wants the artifact in one PUT."""
    return FakeRegistry(single_limit=10**9)


@pytest.fixture
def singly(single: FakeRegistry, patience: Patience) -> Iterator[Registry]:
    with Registry(BASE, transport=single.transport, patience=patience) as registry:
        yield registry


@pytest.mark.parametrize("moment", ["announced", "stored", "completed"])
def test_other_bytes_than_on_disk_are_never_registered(
    single: FakeRegistry, singly: Registry, artifact: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    monkeypatch.setattr(Source, "fingerprint", "the same")  # as where times are coarse

    def fault(request: httpx.Request) -> httpx.Response | None:
        is_complete = request.url.path.endswith("/complete")
        if is_complete and moment == "completed":
            single._dispatch(request)
        if is_complete or (request.method == "PUT" and moment == "announced"):
            raise KeyboardInterrupt
        return None

    single.faults.append(fault)
    with pytest.raises(KeyboardInterrupt):
        register(singly, artifact)
    single.faults.clear()
    artifact.write_bytes(b"B" * artifact.stat().st_size)

    model = register(singly, artifact)

    assert single.contents[model.id] == artifact.read_bytes()  # type: ignore[attr-defined]
    assert left_beside(artifact) == []


def test_a_refusal_without_a_code_of_the_registry_does_not_cost_what_was_sent(
    fake: FakeRegistry, registry: Registry, artifact: Path
) -> None:
    fake.fail("POST", "/complete", httpx.Response(400, text="Bad Request"))
    with pytest.raises(InvalidInput):
        register(registry, artifact)
    fake.requests.clear()

    register(registry, artifact)

    assert fake.calls("PUT", "") == []
    assert len(fake.uploads) == 1
    assert left_beside(artifact) == []


def test_an_upload_that_is_refused_for_good_does_not_block_the_next(
    fake: FakeRegistry, registry: Registry, artifact: Path
) -> None:
    fake.fail("POST", "/complete", problem(409, "conflict", holder="model-of-another"))

    with pytest.raises(Conflict):
        register(registry, artifact)

    assert fake.uploads["upload-0"].state == "ABORTED"
    assert left_beside(artifact) == []


@pytest.mark.parametrize("ended", [None, "ABORTED"])
def test_a_put_that_arrived_unheard_until_its_url_expired_is_completed_or_said_to_be_closed(
    single: FakeRegistry, singly: Registry, artifact: Path, ended: str | None
) -> None:
    single.lose_answer("PUT", "/upload-0")
    single.fail("PUT", "/upload-0", s3_error(403, "AccessDenied"))
    upload_of = single._status

    def status(upload_id: str) -> httpx.Response:
        told = json.loads(upload_of(upload_id).content)
        return httpx.Response(200, json={**told, "url": None, "headers": None, "state": ended or told["state"]})

    single._status = status  # type: ignore[method-assign]

    if ended:
        with pytest.raises(UploadClosed) as caught:
            register(singly, artifact)
        assert caught.value.state == ended
    else:
        model = register(singly, artifact)
        assert single.contents[model.id] == artifact.read_bytes()  # type: ignore[attr-defined]


def test_an_upload_that_is_lost_while_missing_parts_are_sent_is_begun_anew(
    fake: FakeRegistry, registry: Registry, artifact: Path
) -> None:
    def complete(upload: FakeUpload, body: dict[str, Any]) -> httpx.Response:
        if upload.id == "upload-0":
            upload.content = artifact.read_bytes()
            return problem(422, "upload_incomplete", parts=[1, 2])
        return completed(upload, body)

    def fault(request: httpx.Request) -> httpx.Response | None:
        is_gone = fake.uploads and fake.uploads["upload-0"].content is not None
        return s3_error(404, "NoSuchUpload") if is_gone and "/part/upload-0/" in request.url.path else None

    completed = fake._complete
    fake._complete = complete  # type: ignore[method-assign]
    fake.faults.append(fault)

    model = register(registry, artifact)

    assert fake.contents[model.id] == artifact.read_bytes()  # type: ignore[attr-defined]
    assert fake.uploads["upload-0"].state == "ABORTED"


@pytest.mark.parametrize("ending", ["/3", "/upload-0"])
def test_a_put_that_is_answered_without_an_etag_is_sent_again(
    fake: FakeRegistry, registry: Registry, artifact: Path, waits: Waits, ending: str
) -> None:
    fake.single_limit = 0 if ending == "/3" else 10**9
    fake.fail("PUT", ending, httpx.Response(200))

    model = register(registry, artifact)

    assert fake.contents[model.id] == artifact.read_bytes()  # type: ignore[attr-defined]
    assert len(waits.seconds) == 1


def test_headers_that_cannot_be_sent_end_the_upload_in_our_words(
    fake: FakeRegistry, registry: Registry, artifact: Path
) -> None:
    target = {"number": 1, "url": "https://s3.test/part", "headers": {"x-amz-meta": "\u20ac"}}
    fake.fail("POST", "/parts", httpx.Response(200, json={"parts": [{**target, "number": n} for n in range(1, 7)]}))

    with pytest.raises(RegistryError, match="S3 refuses"):
        register(registry, artifact)


@pytest.mark.parametrize(("most", "count"), [(10**9, 6), (3500, 3), (1, 2)])
def test_large_parts_take_no_more_memory_than_small_ones(
    registry: Registry, artifact: Path, monkeypatch: pytest.MonkeyPatch, most: int, count: int
) -> None:
    made: list[int] = []

    class Counted(bytearray):
        def __init__(self, size: int) -> None:
            made.append(size)
            super().__init__(size)

    monkeypatch.setattr("modelreg.parts.MAX_BUFFERED_BYTES", most)
    monkeypatch.setattr("modelreg.parts.bytearray", Counted, raising=False)

    register(registry, artifact)

    assert made == [1000] * count


def test_a_link_that_somebody_laid_is_not_written_through(registry: Registry, artifact: Path) -> None:
    victim = artifact.with_name("victim")
    victim.write_bytes(b"keep me")
    for ending in (".json.tmp", ".lock"):
        link = state_of(artifact).with_name(state_of(artifact).name.removesuffix(".json") + ending)
        link.symlink_to(victim)
        with suppress(LocalError):
            register(registry, artifact)
        link.unlink(missing_ok=True)

    assert victim.read_bytes() == b"keep me"


def test_a_damaged_state_file_costs_nothing_but_a_new_start(
    fake: FakeRegistry, registry: Registry, artifact: Path
) -> None:
    state_of(artifact).write_bytes(b"{ damaged")

    model = register(registry, artifact)

    assert fake.contents[model.id] == artifact.read_bytes()  # type: ignore[attr-defined]


def test_a_second_process_is_told_that_the_artifact_is_being_uploaded(
    fake: FakeRegistry, registry: Registry, artifact: Path
) -> None:
    other = open_alone(state_of(artifact).with_suffix(".lock"), 0o600, "busy")

    try:
        with pytest.raises(LocalError, match="Another process is uploading"):
            register(registry, artifact)
    finally:
        os.close(other)

    assert fake.requests == []


def test_a_folder_that_takes_no_file_has_its_state_in_the_cache(
    fake: FakeRegistry, registry: Registry, artifact: Path, cache_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse_beside(path: Path, mode: int, busy: str) -> int:
        if path.parent == artifact.parent:
            raise PermissionError
        return open_alone(path, mode, busy)

    monkeypatch.setattr("modelreg.resume.open_alone", refuse_beside)
    interrupt(fake, registry, artifact)

    assert left_beside(artifact) == []
    assert len(list((cache_home / "modelreg").glob("*.json"))) == 1
    register(registry, artifact)
    assert len(fake.uploads) == 1
    assert list((cache_home / "modelreg").iterdir()) == []


def test_what_a_thread_records_too_late_is_not_written(artifact: Path, waits: Waits) -> None:
    state = UploadState(base_url="u", metadata_digest="m", fingerprint="f", model_id="i")
    with state_file(artifact, "0123abcd", waits.clock) as file:
        file.save(state)
        file.remove()

    waits.seconds.append(10.0)
    file.record(state, 1, SentPart(digest="d", etag="e"))

    assert left_beside(artifact) == []
