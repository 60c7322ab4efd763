"""The life of an upload, from every beginning to every end. After each step the stored state is whole."""

import threading

import pytest

from chalicelib.registry.errors import (
    Conflict,
    InvalidArchive,
    InvalidInput,
    NotFound,
    Unavailable,
    UploadClosed,
    UploadIncomplete,
)
from chalicelib.registry.models import Changes, Filters
from chalicelib.registry.registered_models import RegisteredModelChanges
from chalicelib.registry.uploads import UploadState
from tests.conftest import ALICE, ARCHIVE, zip_of
from tests.store.conftest import LARGE, Bench, sha256_of
from tests.store.faults import one_call_at_a_time

IR = zip_of(
    model__xml='<net version="11"><rt_info><model_info><labels value="cat dog"/></model_info></rt_info></net>',
    model__bin=b"weights",
)


def test_a_small_file_is_ready_once_it_is_completed(bench: Bench):
    upload = bench.open(tags={"team": "vision"})
    bench.check()
    assert bench.put(upload) == 200

    version = bench.complete(upload)

    assert bench.check() == [version]
    assert (version.number, version.status, version.tags) == (1, "READY", {"team": "vision"})
    assert (version.artifact.sha256, version.artifact.sha256_checked_by) == (sha256_of(ARCHIVE), "s3")
    assert bench.actions(version.id) == ["upload.opened", "version.registered"]
    assert version.revision == 2


def test_a_large_file_is_ready_once_all_parts_are_joined(bench: Bench):
    upload = bench.open_large(sha256=None)
    parts = bench.send_parts(upload)

    version = bench.complete(upload, parts, sha256_of(LARGE))

    assert bench.check() == [version]
    assert (version.artifact.sha256, version.artifact.sha256_checked_by) == (sha256_of(LARGE), "publisher")
    assert version.artifact.s3_digest == bench.blobs.composites[upload.key]


def test_a_publisher_of_parts_need_not_state_the_digest_of_the_whole(bench: Bench):
    upload = bench.open_large(sha256=None)

    version = bench.complete(upload, bench.send_parts(upload))

    assert (version.artifact.sha256, version.artifact.sha256_checked_by) == (None, None)


def test_no_reader_sees_an_open_upload(bench: Bench):
    upload = bench.open()
    bench.put(upload)

    with pytest.raises(NotFound):
        bench.catalog.version(upload.draft.id)
    assert bench.catalog.search(Filters(), 10).versions == ()
    with pytest.raises(NotFound):
        bench.registry.update(upload.draft.id, Changes(score=1), ALICE)
    with pytest.raises(NotFound):
        bench.registry.delete(upload.draft.id, ALICE)


@pytest.mark.parametrize("again", ["open", "register"])
def test_an_open_upload_holds_its_id(bench: Bench, again):
    upload = bench.open("cat")

    with pytest.raises(Conflict) as refused:
        getattr(bench, again)("dog", id=upload.draft.id)

    assert (refused.value.holder, refused.value.upload_id) == (upload.draft.id, upload.id)
    bench.check()


@pytest.mark.parametrize("again", ["open", "register"])
def test_an_open_upload_holds_its_claim(bench: Bench, again):
    upload = bench.open("cat", "v1")

    with pytest.raises(Conflict) as refused:
        getattr(bench, again)("cat", "v1", id="another-id-000000")

    assert (refused.value.holder, refused.value.upload_id) == (upload.draft.id, upload.id)
    bench.check()


def test_a_version_cannot_be_relabelled_to_what_an_open_upload_holds(bench: Bench):
    version = bench.register("cat", "v1")
    upload = bench.open("cat", "v2")

    with pytest.raises(Conflict) as refused:
        bench.registry.update(version.id, Changes(version="v2"), ALICE)

    assert refused.value.upload_id == upload.id
    bench.check()


def test_a_version_holds_its_claim_against_uploads(bench: Bench):
    version = bench.register("cat", "v1")

    with pytest.raises(Conflict) as refused:
        bench.open("cat", "v1", id="another-id-000000")

    assert (refused.value.holder, refused.value.upload_id) == (version.id, None)


def test_a_refused_upload_leaves_nothing_in_s3(bench: Bench):
    bench.open_large("cat", "v1")

    with pytest.raises(Conflict):
        bench.open_large("cat", "v1", id="another-id-000000")

    assert len(bench.blobs.in_parts) == 1


def test_numbers_are_given_in_the_order_of_completion(bench: Bench):
    first, second = bench.open("cat", "v1"), bench.open("cat", "v2")
    bench.put(first)
    bench.put(second)

    assert bench.complete(second).number == 1
    assert bench.register("cat", "v3").number == 2
    assert bench.complete(first).number == 3
    bench.check()


def test_completing_twice_answers_the_same_model(bench: Bench):
    upload = bench.open_large()
    parts = bench.send_parts(upload)

    assert bench.complete(upload, parts) == bench.complete(upload, parts) == bench.complete(upload)
    assert bench.actions(upload.draft.id).count("version.registered") == 1


def test_the_model_of_a_completed_upload_may_be_gone(bench: Bench):
    upload = bench.open()
    bench.put(upload)
    bench.complete(upload)
    bench.registry.delete(upload.draft.id, ALICE)

    with pytest.raises(NotFound):
        bench.complete(upload)
    bench.register("dog", id=upload.draft.id)
    with pytest.raises(NotFound):
        bench.complete(upload)


def test_of_many_that_complete_at_once_all_get_the_same_model(bench: Bench):
    upload = bench.open_large()
    parts = bench.send_parts(upload)
    answers, together = [], threading.Barrier(8)

    def complete():
        together.wait()
        answers.append(bench.complete(upload, parts))

    with one_call_at_a_time():
        crowd = [threading.Thread(target=complete) for _ in range(8)]
        for thread in crowd:
            thread.start()
        for thread in crowd:
            thread.join()

    assert len(answers) == 8
    assert bench.check() == [answers[0]]
    assert {answer.revision for answer in answers} == {2}


def test_an_upload_without_its_file_goes_on(bench: Bench):
    upload = bench.open()

    with pytest.raises(UploadIncomplete, match="PUT it"):
        bench.complete(upload)

    bench.put(upload)
    bench.complete(upload)


def test_an_upload_with_a_missing_part_goes_on(bench: Bench):
    upload = bench.open_large()
    parts = bench.send_parts(upload, without=3)
    with pytest.raises(UploadIncomplete) as refused:
        bench.complete(upload, parts)
    assert refused.value.parts == [3]
    with pytest.raises(UploadIncomplete) as refused:
        bench.complete(upload, [*parts, parts[0].model_copy(update={"number": 3})])
    assert refused.value.parts == [3]

    parts = bench.send_parts(upload)

    bench.complete(upload, parts)
    bench.check()


def test_a_foreign_part_is_refused(bench: Bench):
    upload = bench.open_large()
    parts = bench.send_parts(upload)

    with pytest.raises(UploadIncomplete, match="no part 6"):
        bench.complete(upload, [*parts, parts[0].model_copy(update={"number": 6})])


def test_s3_refuses_a_part_of_other_bytes(bench: Bench):
    upload = bench.open_large()
    digests = {1: "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="}
    [(_, request)] = bench.uploading.part_requests(upload.id, digests, ALICE)[1]

    assert bench.blobs.send(request, b"other") == 400


@pytest.mark.parametrize("digests", [{6: "x"}, {0: "x"}, {1: "no digest"}, {1: ""}, {1: "YWJj"}])
def test_urls_are_made_for_digests_of_planned_parts_only(bench: Bench, digests):
    with pytest.raises(InvalidInput):
        bench.uploading.part_requests(bench.open_large().id, digests, ALICE)


def test_a_stated_digest_of_the_whole_must_stay_the_same(bench: Bench):
    upload = bench.open_large()
    parts = bench.send_parts(upload)

    with pytest.raises(InvalidInput, match="opened for"):
        bench.complete(upload, parts, "0" * 64)

    bench.complete(upload, parts, sha256_of(LARGE).upper())


def test_a_small_file_needs_its_digest(bench: Bench):
    with pytest.raises(InvalidInput, match="sha256"):
        bench.open(sha256=None)


def test_an_archive_that_may_not_be_stored_ends_the_upload(bench: Bench):
    upload = bench.open(content=b"no archive")
    bench.put(upload, b"no archive")

    with pytest.raises(InvalidArchive):
        bench.complete(upload)

    assert bench.blobs.objects == {}
    assert bench.check() == []
    assert bench.uploading.status(upload.id, ALICE).upload.state == UploadState.FAILED
    with pytest.raises(InvalidArchive, match="not a whole ZIP"):
        bench.complete(upload)
    # Id and claim are free at once.
    bench.publish(id=upload.draft.id)
    assert bench.actions(upload.draft.id) == [
        "upload.opened",
        "upload.failed",
        "upload.opened",
        "version.registered",
    ]


@pytest.mark.parametrize("name", ["model.ZIP", "model.zip.", "model.zip ", "model.zip\u200b", "a/model.zip"])
def test_a_zip_cannot_pass_as_a_bare_file(bench: Bench, name: str):
    with pytest.raises(InvalidInput, match="application/zip"):
        bench.open(media_type="application/octet-stream", file_name=name)


def test_what_the_archive_says_fills_in_what_was_not_stated(bench: Bench):
    upload = bench.open(content=IR)
    bench.put(upload, IR)

    version = bench.complete(upload)

    assert (version.format, version.labels) == ("OpenVINO", ("cat", "dog"))


def test_an_aborted_upload_frees_what_it_held(bench: Bench):
    upload = bench.open_large()
    parts = bench.send_parts(upload)

    bench.uploading.abort(upload.id, ALICE)
    bench.uploading.abort(upload.id, ALICE)

    assert bench.blobs.in_parts == {}
    with pytest.raises(UploadClosed, match="ABORTED"):
        bench.complete(upload, parts)
    with pytest.raises(UploadClosed, match="ABORTED"):
        bench.send_parts(upload)
    assert bench.check() == []
    bench.register(id=upload.draft.id)
    assert bench.actions(upload.draft.id) == ["upload.opened", "upload.aborted", "version.registered"]


def test_a_completed_upload_cannot_be_aborted(bench: Bench):
    upload = bench.open()
    bench.put(upload)
    version = bench.complete(upload)

    with pytest.raises(UploadClosed, match="delete that"):
        bench.uploading.abort(upload.id, ALICE)

    assert bench.check() == [version]


@pytest.mark.parametrize("step", ["parts", "join", "stored", "opened"])
def test_an_abort_in_the_middle_of_the_completion_wins(bench: Bench, monkeypatch, step):
    upload = bench.open_large()
    parts = bench.send_parts(upload)
    original = getattr(bench.blobs, step)

    def do_and_abort(*arguments):
        answer = original(*arguments)
        monkeypatch.setattr(bench.blobs, step, original)
        bench.uploading.abort(upload.id, ALICE)
        return answer

    monkeypatch.setattr(bench.blobs, step, do_and_abort)
    with pytest.raises((UploadClosed, Unavailable)):
        bench.complete(upload, parts)
    with pytest.raises(UploadClosed, match="ABORTED"):
        bench.complete(upload, parts)

    assert bench.check() == []
    assert bench.blobs.objects == {}


def test_an_expired_upload_cannot_go_on(bench: Bench):
    upload = bench.open_large()
    parts = bench.send_parts(upload)
    bench.clock.pass_by(hours=24, seconds=1)

    with pytest.raises(UploadClosed, match="EXPIRED"):
        bench.complete(upload, parts)
    with pytest.raises(UploadClosed, match="EXPIRED"):
        bench.send_parts(upload)
    assert bench.uploading.status(upload.id, ALICE).upload.state == UploadState.EXPIRED
    bench.check()


def test_an_upload_that_expires_while_it_is_completed_is_not_published(bench: Bench, monkeypatch):
    upload = bench.open_large()
    parts = bench.send_parts(upload)
    join = bench.blobs.join

    def join_slowly(*arguments):
        join(*arguments)
        bench.clock.pass_by(hours=25)

    monkeypatch.setattr(bench.blobs, "join", join_slowly)
    with pytest.raises(UploadClosed, match="EXPIRED"):
        bench.complete(upload, parts)

    assert bench.check() == []


def test_activity_renews_an_upload_but_not_for_ever(bench: Bench):
    upload = bench.open_large()
    for _ in range(6):
        bench.clock.pass_by(hours=23)
        bench.send_parts(upload)
    bench.clock.pass_by(hours=23)
    parts = bench.send_parts(upload)
    assert len(parts) == 5
    bench.clock.pass_by(hours=8)

    with pytest.raises(UploadClosed, match="EXPIRED"):
        bench.complete(upload, parts)


@pytest.mark.parametrize("take", ["id", "claim"])
@pytest.mark.parametrize("again", ["open", "register"])
def test_what_an_expired_upload_holds_is_free_for_the_next(bench: Bench, again, take):
    upload = bench.open("cat", "v1")
    bench.clock.pass_by(hours=25)

    if take == "id":
        getattr(bench, again)("dog", id=upload.draft.id)
    else:
        getattr(bench, again)("cat", "v1", id="another-id-000000")

    bench.check()
    assert bench.catalog.uploads.get(upload.id).state == UploadState.EXPIRED
    assert bench.actions(upload.draft.id)[:2] == ["upload.opened", "upload.expired"]


def test_a_version_may_take_the_label_that_an_expired_upload_held(bench: Bench):
    version = bench.register("cat", "v1")
    bench.open("cat", "v2")
    bench.clock.pass_by(hours=25)

    assert bench.registry.update(version.id, Changes(version="v2"), ALICE).version == "v2"
    bench.check()


def test_a_version_may_move_to_where_an_expired_upload_held_its_place(bench: Bench):
    version = bench.register("cat", "v1")
    bench.open("dog", "v1")
    bench.clock.pass_by(hours=25)

    assert bench.registry.update(version.id, Changes(name="dog"), ALICE).name == "dog"
    bench.check()


def test_an_upload_whose_object_was_joined_before_can_be_completed(bench: Bench):
    """The process was killed after S3 had joined the parts."""
    upload = bench.open_large()
    parts = bench.send_parts(upload)
    bench.blobs.join(upload, parts)
    status = bench.uploading.status(upload.id, ALICE)
    assert (status.is_stored, status.parts) == (True, ())
    with pytest.raises(UploadIncomplete, match="other bytes"):
        bench.complete(upload, [part.model_copy(update={"digest": parts[-1].digest}) for part in parts])

    assert bench.complete(upload, parts).artifact.key == upload.key


def test_a_digest_that_is_none_is_refused_in_words(bench: Bench):
    upload = bench.open_large()
    parts = bench.send_parts(upload)
    bench.blobs.join(upload, parts)

    with pytest.raises(InvalidInput, match="SHA-256"):
        bench.complete(upload, [part.model_copy(update={"digest": "a"}) for part in parts])


def test_s3_is_told_the_etags_that_it_gave(bench: Bench, monkeypatch):
    upload = bench.open_large()
    parts = bench.send_parts(upload)
    told = []
    monkeypatch.setattr(bench.blobs, "join", lambda _, joined: told.extend(part.etag for part in joined))

    with pytest.raises(UploadIncomplete):
        bench.complete(upload, [part.model_copy(update={"etag": part.etag.strip('"')}) for part in parts])

    assert told == [part.etag for part in parts]


def test_an_end_is_announced_once(bench: Bench):
    upload = bench.open()
    for _ in range(2):
        bench.uploading.abort(upload.id, ALICE)

    assert [line[0].value for line in bench.announced.lines] == ["upload.opened", "upload.aborted"]


def test_an_upload_whose_parts_s3_has_lost_is_left_to_its_publisher(bench: Bench):
    upload = bench.open_large()
    parts = bench.send_parts(upload)
    bench.blobs.in_parts.clear()

    with pytest.raises(UploadIncomplete, match="neither the file nor its parts") as refused:
        bench.complete(upload, parts)

    assert list(refused.value.parts) == [1, 2, 3, 4, 5]
    bench.uploading.abort(upload.id, ALICE)
    bench.open_large()


def test_an_upload_survives_an_outage_of_s3(bench: Bench):
    upload = bench.open_large()
    parts = bench.send_parts(upload)
    bench.blobs.is_down = True
    for attempt in (lambda: bench.complete(upload, parts), lambda: bench.uploading.status(upload.id, ALICE)):
        with pytest.raises(Unavailable):
            attempt()

    bench.blobs.is_down = False

    bench.complete(upload, parts)
    bench.check()


def test_what_s3_has_is_told_to_whoever_goes_on(bench: Bench):
    upload = bench.open_large()
    bench.send_parts(upload, without=2)

    status = bench.uploading.status(upload.id, ALICE)

    assert [part.number for part in status.parts] == [1, 3, 4, 5]
    assert not status.is_stored


def test_an_unknown_upload_is_not_found(bench: Bench):
    for attempt in (
        lambda: bench.uploading.status("01", ALICE),
        lambda: bench.uploading.complete("01", [], None, ALICE),
        lambda: bench.uploading.abort("01", ALICE),
        lambda: bench.uploading.part_requests("01", {}, ALICE),
    ):
        with pytest.raises(NotFound):
            attempt()


@pytest.mark.parametrize("leave", ["delete", "move"])
def test_a_version_of_many_aliases_can_go(bench: Bench, leave: str):
    version = bench.register("cat", "v1")
    for first in (0, 20):
        aliases = {f"alias-{number}": 1 for number in range(first, first + 20)}
        bench.registry.change_registered_model("cat", RegisteredModelChanges(aliases=aliases), ALICE)

    if leave == "delete":
        bench.registry.delete(version.id, ALICE)
    else:
        bench.registry.update(version.id, Changes(name="dog"), ALICE)

    assert bench.catalog.registered_models.named("cat").aliases == {}
    bench.check()


def test_a_precision_that_the_archive_tells_must_be_free_too(bench: Bench):
    half = zip_of(
        model__xml='<net name="tiny" version="11"><rt_info><conversion_parameters/></rt_info>'
        '<layers><layer id="0" name="w" type="Const"><data element_type="f16" shape="9" offset="0" size="18"/>'
        '<output><port id="0" precision="FP16"/></output></layer></layers></net>',
        model__bin=b"w" * 18,
    )
    upload = bench.open("cat", "v1", half)
    bench.put(upload, half)
    version = bench.complete(upload)
    bench.check()
    if version.precision == ("fp32",):
        pytest.fail("the archive of this test tells no precision")
    other = bench.open("cat", "v1", half, id="another-id-000000")
    bench.put(other, half)

    with pytest.raises(Conflict) as refused:
        bench.complete(other)

    assert refused.value.holder == version.id
    bench.check()
