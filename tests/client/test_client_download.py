"""Downloads: nothing under the final name but the whole, verified artifact, whatever happens on the way."""

import errno
import hashlib
import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from modelreg import ConnectionFailed, Corrupt, Forbidden, InvalidInput, LocalError, NotARegistry, NotFound, Registry
from modelreg.download import base_name
from modelreg.locks import open_alone

from tests.client.conftest import Waits, Watched
from tests.client.fake_registry import FakeRegistry, s3_error

CONTENT = bytes(range(256)) * 40
LOST = httpx.ReadError("connection reset")


@pytest.fixture(autouse=True)
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten ranges and a bit."""
    monkeypatch.setattr("modelreg.download.RANGE_BYTES", 1000)
    monkeypatch.setattr("modelreg.download.HASH_BYTES", 300)


@pytest.fixture
def model_id(fake: FakeRegistry) -> str:
    return str(fake.add_model(CONTENT)["id"])


def names_in(folder: Path) -> list[str]:
    return sorted(item.name for item in folder.iterdir())


def partial_of(target: Path, model_id: str) -> Path:
    return target.with_name(f".{target.name}.{model_id[:8]}.modelreg-part")


def ranges_asked(fake: FakeRegistry) -> list[str]:
    return [request.headers["range"] for request in fake.requests if request.url.host == "s3.test"]


def interrupt(fake: FakeRegistry, registry: Registry, model_id: str, target: Path) -> None:
    """Leaves a download of which some ranges have arrived."""
    fake.faults.append(
        lambda request: s3_error(400, "InvalidRequest") if len(ranges_asked(fake)) > 5 and _is_s3(request) else None
    )
    with pytest.raises(Exception, match="InvalidRequest"):
        registry.download(model_id, target)
    fake.faults.clear()
    fake.requests.clear()


def _is_s3(request: httpx.Request) -> bool:
    return request.url.host == "s3.test"


def test_an_artifact_arrives_whole_under_its_own_name(
    registry: Registry, model_id: str, tmp_path: Path, watched: Watched
) -> None:
    path = registry.download(model_id, tmp_path, progress=watched)

    assert path == tmp_path / "model.zip"
    assert path.read_bytes() == CONTENT
    assert names_in(tmp_path) == ["model.zip"]
    assert watched.started == [("model.zip", len(CONTENT), 0)]
    assert (watched.advanced_bytes, watched.notes, watched.finished) == (len(CONTENT), [], 1)


def test_it_arrives_under_the_name_the_caller_chose(registry: Registry, model_id: str, tmp_path: Path) -> None:
    path = registry.download(model_id, tmp_path / "deeper" / "chosen.zip")

    assert path == tmp_path / "deeper" / "chosen.zip"
    assert path.read_bytes() == CONTENT


def test_a_target_that_ends_in_a_slash_is_a_folder(registry: Registry, model_id: str, tmp_path: Path) -> None:
    assert registry.download(model_id, f"{tmp_path}/new/") == tmp_path / "new" / "model.zip"


def test_a_small_artifact_is_one_request(fake: FakeRegistry, registry: Registry, tmp_path: Path) -> None:
    model_id = fake.add_model(b"small")["id"]

    path = registry.download(model_id, tmp_path)

    assert path.read_bytes() == b"small"
    assert ranges_asked(fake) == ["bytes=0-4"]


@pytest.mark.parametrize(
    "failure", [LOST, httpx.ReadTimeout("slow"), s3_error(503, "SlowDown"), s3_error(500, "InternalError")], ids=str
)
def test_a_range_that_fails_is_asked_for_again(
    fake: FakeRegistry, registry: Registry, model_id: str, tmp_path: Path, failure: Any, watched: Watched
) -> None:
    fake.fail("GET", f"/objects/{model_id}", None, failure, failure)

    path = registry.download(model_id, tmp_path, progress=watched)

    assert path.read_bytes() == CONTENT
    assert watched.advanced_bytes == len(CONTENT)


class Breaking(httpx.SyncByteStream):
    """A body whose connection breaks after some bytes."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def __iter__(self) -> Any:
        yield self._content
        raise LOST


def test_a_broken_answer_is_gone_on_with_where_it_broke(
    fake: FakeRegistry, registry: Registry, tmp_path: Path, waits: Waits
) -> None:
    model_id = fake.add_model(CONTENT[:900])["id"]
    headers = {"Content-Range": "bytes 0-899/900"}
    fake.fail("GET", f"/objects/{model_id}", httpx.Response(206, headers=headers, stream=Breaking(CONTENT[:333])))

    path = registry.download(model_id, tmp_path)

    assert path.read_bytes() == CONTENT[:900]
    assert ranges_asked(fake) == ["bytes=0-899", "bytes=333-899"]


def test_an_answer_that_is_cut_short_is_not_taken_for_the_whole(
    fake: FakeRegistry, registry: Registry, tmp_path: Path
) -> None:
    model_id = fake.add_model(CONTENT[:900])["id"]
    headers = {"Content-Range": "bytes 0-899/900"}
    fake.fail("GET", f"/objects/{model_id}", httpx.Response(206, headers=headers, content=CONTENT[:333]))

    assert registry.download(model_id, tmp_path).read_bytes() == CONTENT[:900]


def test_a_range_that_never_gets_through_ends_the_download(
    fake: FakeRegistry, registry: Registry, tmp_path: Path, waits: Waits
) -> None:
    model_id = fake.add_model(b"small")["id"]
    fake.fail("GET", f"/objects/{model_id}", *[LOST] * 10)

    with pytest.raises(ConnectionFailed, match="does not get through"):
        registry.download(model_id, tmp_path)

    assert len(waits.seconds) == 9
    assert names_in(tmp_path) == []


def test_an_expired_url_is_renewed(fake: FakeRegistry, registry: Registry, model_id: str, tmp_path: Path) -> None:
    def expire(request: httpx.Request) -> None:
        if len(ranges_asked(fake)) == 4:
            fake.valid_signature = 2

    fake.faults.append(expire)

    assert registry.download(model_id, tmp_path).read_bytes() == CONTENT
    assert len(fake.calls("GET", "/files")) == 2


def test_s3_that_refuses_every_url_ends_the_download(fake: FakeRegistry, registry: Registry, tmp_path: Path) -> None:
    model_id = fake.add_model(b"small")["id"]
    fake.fail("GET", f"/objects/{model_id}", *[s3_error(403, "AccessDenied")] * 9)

    with pytest.raises(Forbidden, match="AccessDenied") as caught:
        registry.download(model_id, tmp_path)

    assert "secret" not in f"{caught.value!r}"
    assert len(ranges_asked(fake)) == 4


def test_other_bytes_than_registered_are_thrown_away(
    fake: FakeRegistry, registry: Registry, model_id: str, tmp_path: Path
) -> None:
    fake.contents[model_id] = CONTENT[:-1] + b"?"

    with pytest.raises(Corrupt, match="SHA-256"):
        registry.download(model_id, tmp_path)

    assert names_in(tmp_path) == []


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, content=CONTENT),
        httpx.Response(206, content=CONTENT[:1000]),
        httpx.Response(206, content=CONTENT[:1000], headers={"Content-Range": "bytes 1-1000/10240"}),
        httpx.Response(206, content=CONTENT[:1000], headers={"Content-Range": "bytes 0-999/99999"}),
        httpx.Response(206, content=CONTENT[:2000], headers={"Content-Range": "bytes 0-999/10240"}),
    ],
    ids=["everything", "no range", "another range", "of another size", "too much"],
)
def test_an_answer_to_another_question_is_not_written(
    fake: FakeRegistry, registry: Registry, model_id: str, tmp_path: Path, answer: httpx.Response
) -> None:
    fake.faults.append(
        lambda request: answer if _is_s3(request) and request.headers["range"] == "bytes=0-999" else None
    )

    with pytest.raises(Corrupt):
        registry.download(model_id, tmp_path)

    assert names_in(tmp_path) == []


def test_the_whole_may_be_sent_where_the_whole_was_asked_for(
    fake: FakeRegistry, registry: Registry, tmp_path: Path
) -> None:
    model_id = fake.add_model(b"small")["id"]
    fake.fail("GET", f"/objects/{model_id}", httpx.Response(200, content=b"small"))

    assert registry.download(model_id, tmp_path).read_bytes() == b"small"


def test_an_interrupted_download_fetches_only_what_is_missing(
    fake: FakeRegistry, registry: Registry, model_id: str, tmp_path: Path, watched: Watched
) -> None:
    interrupt(fake, registry, model_id, tmp_path / "model.zip")
    assert len(names_in(tmp_path)) == 2

    path = registry.download(model_id, tmp_path, progress=watched)

    assert path.read_bytes() == CONTENT
    assert 0 < len(ranges_asked(fake)) < 11
    (_, total, done) = watched.started[0]
    assert done > 0
    assert done + watched.advanced_bytes == total
    assert watched.notes[0].startswith("resuming: ")
    assert names_in(tmp_path) == ["model.zip"]


def test_the_sidecar_holds_no_secret(fake: FakeRegistry, registry: Registry, model_id: str, tmp_path: Path) -> None:
    target = tmp_path / "model.zip"
    interrupt(fake, registry, model_id, target)

    sidecar = partial_of(target, model_id).with_name(f"{partial_of(target, model_id).name}.json")

    assert "secret" not in sidecar.read_text()
    assert "s3.test" not in sidecar.read_text()


@pytest.mark.parametrize("damage", ["sidecar", "bytes", "cut", "other bytes registered"])
def test_what_was_left_is_checked(
    fake: FakeRegistry, registry: Registry, model_id: str, tmp_path: Path, damage: str
) -> None:
    target = tmp_path / "model.zip"
    interrupt(fake, registry, model_id, target)
    partial = partial_of(target, model_id)
    if damage == "sidecar":
        partial.with_name(f"{partial.name}.json").write_text("{")
    elif damage == "bytes":
        partial.write_bytes(b"?" * partial.stat().st_size)
    elif damage == "cut":
        partial.write_bytes(b"")
    else:
        fake.contents[model_id] = CONTENT[::-1]
        fake.models[model_id]["sha256"] = hashlib.sha256(CONTENT[::-1]).hexdigest()

    if damage == "bytes":
        with pytest.raises(Corrupt):
            registry.download(model_id, target)

    assert registry.download(model_id, target).read_bytes() == fake.contents[model_id]


def test_an_existing_file_is_not_overwritten_unasked(
    fake: FakeRegistry, registry: Registry, model_id: str, tmp_path: Path
) -> None:
    (tmp_path / "model.zip").write_bytes(b"mine")

    with pytest.raises(LocalError, match="exists already") as caught:
        registry.download(model_id, tmp_path)

    assert "overwrite" in caught.value.hint
    assert (tmp_path / "model.zip").read_bytes() == b"mine"
    assert ranges_asked(fake) == []


@pytest.mark.parametrize("has_links", [True, False])
@pytest.mark.parametrize("content", [b"mine", CONTENT])
def test_a_file_that_appears_meanwhile_is_not_overwritten_unasked(
    registry: Registry, model_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, has_links: bool
) -> None:
    class Meddling(Watched):
        def start(self, label: str, total_bytes: int, done_bytes: int) -> None:
            (tmp_path / "model.zip").write_bytes(content)

    def refuse(_from: Path, _to: Path) -> None:
        raise PermissionError(errno.EPERM, "no links here")

    if not has_links:
        monkeypatch.setattr(os, "link", refuse)

    if content == CONTENT:
        registry.download(model_id, tmp_path, progress=Meddling())
        assert names_in(tmp_path) == ["model.zip"]
    else:
        with pytest.raises(LocalError, match="exists already"):
            registry.download(model_id, tmp_path, progress=Meddling())
    assert (tmp_path / "model.zip").read_bytes() == content


def test_a_file_system_without_links_takes_a_download_too(
    registry: Registry, model_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_from: Path, _to: Path) -> None:
        raise PermissionError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)

    assert registry.download(model_id, tmp_path).read_bytes() == CONTENT
    assert names_in(tmp_path) == ["model.zip"]


def test_a_finished_file_stays_whole_whatever_becomes_of_its_other_name(
    fake: FakeRegistry, registry: Registry, model_id: str, tmp_path: Path
) -> None:
    target = tmp_path / "model.zip"
    finished = tmp_path / "moved.zip"
    finished.write_bytes(b"whole")
    os.link(finished, partial_of(target, model_id))

    registry.download(model_id, target)

    assert (finished.read_bytes(), target.read_bytes()) == (b"whole", CONTENT)


def test_the_sidecar_vouches_only_for_what_is_on_disk(
    fake: FakeRegistry, registry: Registry, model_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    monkeypatch.setattr("modelreg.download._flush", lambda _descriptor: done.append("flushed"))
    monkeypatch.setattr("modelreg.download.write_whole", lambda _path, _content: done.append("noted"))

    interrupt(fake, registry, model_id, tmp_path / "model.zip")

    assert done == ["flushed", "noted"] * (len(done) // 2) != []


def test_without_a_stated_sha256_nothing_is_resumed(
    fake: FakeRegistry, registry: Registry, tmp_path: Path, watched: Watched
) -> None:
    model_id = fake.add_model(CONTENT, sha256=None)["id"]

    interrupt(fake, registry, model_id, tmp_path / "model.zip")

    assert names_in(tmp_path) == []


def test_an_existing_file_is_overwritten_when_asked(registry: Registry, model_id: str, tmp_path: Path) -> None:
    (tmp_path / "model.zip").write_bytes(b"mine")

    assert registry.download(model_id, tmp_path, overwrite=True).read_bytes() == CONTENT


def test_the_same_artifact_is_not_fetched_twice(
    fake: FakeRegistry, registry: Registry, model_id: str, tmp_path: Path
) -> None:
    (tmp_path / "model.zip").write_bytes(CONTENT)

    registry.download(model_id, tmp_path)

    assert ranges_asked(fake) == []


class Usage(NamedTuple):
    free: int


def test_a_disk_without_room_is_noticed_before_anything_is_fetched(
    fake: FakeRegistry, registry: Registry, model_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(free=100))

    with pytest.raises(LocalError, match="room for 100 bytes"):
        registry.download(model_id, tmp_path)

    assert names_in(tmp_path) == []
    assert ranges_asked(fake) == []


def test_a_disk_that_fills_up_leaves_no_file_under_the_final_name(
    registry: Registry, model_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("modelreg.download.os.pwrite", full)

    with pytest.raises(LocalError, match="No space left") as caught:
        registry.download(model_id, tmp_path)

    assert "Make room" in caught.value.hint
    assert names_in(tmp_path) == []


def test_a_second_process_is_told_that_the_artifact_is_being_fetched(
    registry: Registry, model_id: str, tmp_path: Path
) -> None:
    target = tmp_path / "model.zip"
    other = open_alone(partial_of(target, model_id), 0o600, "busy")

    try:
        with pytest.raises(LocalError, match="Another process is fetching"):
            registry.download(model_id, target)
    finally:
        os.close(other)


def test_without_a_stated_sha256_only_the_size_is_checked(
    fake: FakeRegistry, registry: Registry, tmp_path: Path, watched: Watched
) -> None:
    model_id = fake.add_model(CONTENT, sha256=None)["id"]

    assert registry.download(model_id, tmp_path, progress=watched).read_bytes() == CONTENT
    assert watched.notes == ["the publisher stated no SHA-256: only the size was checked"]


def test_a_name_from_the_server_stays_in_the_folder(fake: FakeRegistry, registry: Registry, tmp_path: Path) -> None:
    model_id = fake.add_model(b"small", file_url="s3://bucket/..\\..\\evil\n.zip")["id"]

    assert registry.download(model_id, tmp_path) == tmp_path / "evil.zip"


def test_without_a_file_url_the_name_is_the_one_s3_gives(
    fake: FakeRegistry, registry: Registry, tmp_path: Path
) -> None:
    model_id = fake.add_model(b"small", file_url=None)["id"]
    headers = {"Content-Range": "bytes 0-0/5", "Content-Disposition": "attachment; filename*=UTF-8''gr%C3%BCn.zip"}
    fake.fail("GET", f"/objects/{model_id}", httpx.Response(206, content=b"s", headers=headers))

    assert registry.download(model_id, tmp_path) == tmp_path / "grün.zip"


@pytest.mark.parametrize("path", ["", "a/", "a/..", ".", "/", "\\", "a/\n"])
def test_a_path_without_a_name_gives_none(path: str) -> None:
    assert base_name(path) is None


def test_an_empty_target_is_not_the_current_directory(registry: Registry, model_id: str) -> None:
    with pytest.raises(InvalidInput, match="empty"):
        registry.download(model_id, "")


def test_a_link_that_somebody_laid_is_not_written_through(registry: Registry, model_id: str, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"keep me")
    partial_of(tmp_path / "model.zip", model_id).symlink_to(victim)

    with pytest.raises(LocalError):
        registry.download(model_id, tmp_path / "model.zip")

    assert victim.read_bytes() == b"keep me"


@pytest.mark.parametrize("end", ["", "/"])
def test_a_target_that_cannot_be_looked_at_is_an_error_of_this_machine(
    registry: Registry, model_id: str, tmp_path: Path, end: str
) -> None:
    with pytest.raises(LocalError):
        registry.download(model_id, f"{tmp_path}/{'x' * 300}{end}")


@pytest.mark.parametrize("value", ["bytes \u0661-2/3", f"bytes 0-1/{'9' * 5000}"])
def test_an_odd_range_is_refused_in_our_words(
    fake: FakeRegistry, registry: Registry, model_id: str, tmp_path: Path, value: str
) -> None:
    fake.fail("GET", f"/objects/{model_id}", httpx.Response(206, headers={"Content-Range": value.encode()}))

    with pytest.raises(Corrupt):
        registry.download(model_id, tmp_path)


def test_an_unknown_model_is_not_found(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        registry.download("unknown-model-0001", tmp_path)


def test_an_answer_that_points_nowhere_is_no_registry(
    fake: FakeRegistry, registry: Registry, model_id: str, tmp_path: Path
) -> None:
    fake.fail("GET", "/files", httpx.Response(200, text="hello"))

    with pytest.raises(NotARegistry):
        registry.download(model_id, tmp_path)


def test_a_directory_in_the_way_is_named(registry: Registry, model_id: str, tmp_path: Path) -> None:
    (tmp_path / "model.zip").mkdir()

    with pytest.raises(LocalError, match="is a directory"):
        registry.download(model_id, tmp_path)


def test_a_directory_of_files_is_waited_for_while_it_is_packed(
    fake: FakeRegistry, registry: Registry, waits: Waits, tmp_path: Path
) -> None:
    # Its size is that of the files, not that of the archive which is made of them.
    model = fake.add_model(CONTENT, size=7, sha256=None, file_url=None)
    packing = [httpx.Response(202, headers={"Retry-After": "5"}, text="ask again") for _ in range(3)]
    fake.fail("GET", "/files", *packing)

    path = registry.download(str(model["id"]), tmp_path)

    assert path.read_bytes() == CONTENT
    assert waits.seconds == [5.0, 5.0, 5.0]
