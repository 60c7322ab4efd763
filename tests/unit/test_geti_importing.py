"""The import of one model, on ports in memory: what is registered, who is told, and what becomes of what fails."""

import hashlib
import io
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from chalicelib.geti.errors import (
    GetiBusy,
    GetiError,
    GetiForbidden,
    GetiGone,
    GetiMisconfigured,
    GetiNoSuchRoute,
    GetiRefused,
    GetiUnauthorized,
    NotGeti,
)
from chalicelib.geti.importing import MAX_WAITS, Imported
from chalicelib.geti.records import BaseModel, OptimizedModel
from chalicelib.geti.states import SYNC, Item, ItemState, Outcome
from chalicelib.registry.audit import Action
from chalicelib.registry.errors import Conflict, NotConfigured, OutcomeUnknown, RegistryError, Unavailable
from chalicelib.registry.models import Changes
from tests.conftest import ALICE as SOMEBODY
from tests.conftest import draft, parcel
from tests.geti_importing import ALICE, M1, M2, M3, ImportStage
from tests.geti_stage import CHUNK_BYTES, PACKAGE, group, openvino, package, trained
from tests.hostile_archives import Raw, raw_zip

NO_TIME = timedelta(seconds=1)


@pytest.fixture
def stage() -> ImportStage:
    return ImportStage()


def is_about(left: timedelta, meant: timedelta) -> bool:
    return abs(left - meant) < NO_TIME


# What goes well.


def test_a_model_of_the_sync_is_registered_and_its_run_ends(stage: ImportStage) -> None:
    outcome = stage.run(stage.synced(M1))

    assert outcome == Imported(imported=1, bytes=len(PACKAGE))
    version = stage.version()
    assert (version.name, version.version, version.project_name, version.labels) == (
        "YOLOX-S 1",
        "1",
        "Bottle caps",
        ("cap",),
    )
    assert version.tags["geti.key"] == f"geti:geti.test:-:-:p1:{M1}"
    file = version.artifact
    assert stage.blobs.objects == {file.key: PACKAGE}
    assert stage.blobs.owners[file.key] == M1
    assert (file.size, file.sha256) == (len(PACKAGE), hashlib.sha256(PACKAGE).hexdigest())
    assert (file.file_name, file.sha256_checked_by) == ("Deployment-Bottle caps.zip", "registry")
    item = stage.item()
    assert (item.state, item.attempts, item.why, item.due_at) == (ItemState.IMPORTED, 0, None, None)
    assert [(run.outcome, run.counts.imported) for run in stage.finished] == [(Outcome.OK, 1)]
    assert stage.is_idle


def test_a_run_ends_with_the_last_of_its_imports(stage: ImportStage) -> None:
    stage.run(stage.synced(M1, M2))
    assert stage.finished == []

    stage.run(stage.order(M2))

    assert [run.counts.imported for run in stage.finished] == [2]


def test_the_sync_acts_by_itself_and_a_request_for_whoever_asked(stage: ImportStage) -> None:
    stage.run(stage.synced(M1))
    order = stage.asked(M2)

    assert stage.run(order) == Imported(imported=1, bytes=len(PACKAGE))

    assert stage.outcome(order).outcome == "registered"
    announced = [(line[0], line[2].id, line[3].name) for line in stage.announced.lines]
    assert announced == [(Action.VERSION_REGISTERED, M1, SYNC.name), (Action.VERSION_REGISTERED, M2, "alice")]
    assert stage.item(M2).base_model_id == "b1"


def test_a_message_that_comes_twice_is_one_model(stage: ImportStage) -> None:
    order = stage.synced(M1)
    stage.run(order)

    assert stage.run(order) is None

    assert list(stage.blobs.objects.values()) == [PACKAGE]
    assert stage.geti.asked.count(("package", M1)) == 1
    assert len(stage.finished) == 1
    assert stage.is_idle


def test_a_request_that_comes_twice_keeps_its_first_outcome(stage: ImportStage) -> None:
    order = stage.asked(M1)
    stage.run(order)

    assert stage.run(order) is None

    assert stage.outcome(order).outcome == "registered"


def test_two_requests_for_one_model_are_told_that_it_was_registered_and_that_it_is_there(stage: ImportStage) -> None:
    first, second = stage.asked(M1), stage.asked(M1, by=ALICE.model_copy(update={"request_id": "r-2"}))
    stage.run(first)

    assert stage.run(second) == Imported(existing=1)

    assert [stage.outcome(order).outcome for order in (first, second)] == ["registered", "exists"]
    assert stage.geti.asked.count(("package", M1)) == 1


def test_a_request_that_was_forgotten_is_carried_out_all_the_same(stage: ImportStage) -> None:
    assert stage.run(stage.order(M1, import_id="01FORGOTTEN")) == Imported(imported=1, bytes=len(PACKAGE))


def test_two_workers_at_once_make_one_model(stage: ImportStage) -> None:
    order = stage.synced(M1)
    workers = [stage.importing for _ in range(4)]

    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(lambda one: one.run(order, lambda: 900.0), workers))
    stage.work_off()

    assert [one for one in outcomes if one] == [Imported(imported=1, bytes=len(PACKAGE))]
    assert list(stage.versions) == [M1]
    assert len(stage.blobs.objects) == 1
    assert len(stage.finished) == 1
    assert stage.is_idle


def test_a_package_is_inspected_in_a_few_reads(stage: ImportStage) -> None:
    weights = bytes(range(256)) * 4096 * 10  # over 8 MiB, so it is not read whole
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        with zipfile.ZipFile(io.BytesIO(PACKAGE)) as original:
            for name in original.namelist():
                archive.writestr(name, weights if name.endswith(".bin") else original.read(name))
    stage.geti.sends[M1] = buffer.getvalue()

    stage.run(stage.synced(M1))

    assert list(stage.versions) == [M1]
    assert stage.blobs.reads <= 4


def test_what_is_registered_by_a_model_of_geti_3_is_the_same(stage: ImportStage) -> None:
    flat = ImportStage(is_flat=True)

    flat.run(flat.synced(M1))

    assert flat.version().tags["geti.version"] == "3.2.0"
    assert flat.version().labels == ("cap",)


# Names.


def test_the_second_group_with_a_name_gets_another_one(stage: ImportStage) -> None:
    twins = [
        group(one, "YOLOX-S", trained(f"b-{one}", openvino(model))) for one, model in (("g1", M1), ("g2-00beef", M2))
    ]
    stage.geti.add("p1", "Bottle caps", *twins)

    stage.run(stage.asked(M1, group_id="g1"))
    stage.run(stage.asked(M2, group_id="g2-00beef"))
    stage.catalog.remove(M1, SOMEBODY, stage.clock())
    stage.run(stage.asked(M1, group_id="g1"))

    assert stage.version(M1).name == "YOLOX-S OpenVINO FP16"
    assert stage.version(M2).name == "YOLOX-S OpenVINO FP16 (00beef)"


def test_versions_of_one_group_are_versions_of_one_model(stage: ImportStage) -> None:
    bases = [trained("b1", openvino(M1, version=1)), trained("b2", openvino(M2, version=2), version=2)]
    stage.geti.add("p1", "Bottle caps", group("g1-c0ffee", "YOLOX-S", *bases))

    for one in (M1, M2):
        stage.run(stage.asked(one))

    assert stage.version(M1).rm_id == stage.version(M2).rm_id
    assert [stage.version(one).number for one in (M1, M2)] == [1, 2]


# What is there already.


def test_another_model_under_its_id_stays_and_this_one_is_given_up(stage: ImportStage) -> None:
    other = stage.registry.register(draft("mine", id=M1), parcel(), SOMEBODY)
    order = stage.asked(M1)

    assert stage.run(order) == Imported(failed=1)

    told = stage.outcome(order)
    assert told.outcome == "failed"
    assert told.why == stage.item().why
    assert "Another model is registered under its id" in (told.why or "")
    assert stage.item().state == ItemState.PARKED
    assert stage.version() == other
    assert ("package", M1) not in stage.geti.asked


def test_what_was_deleted_here_is_imported_again_only_if_it_is_asked_for(stage: ImportStage) -> None:
    order = stage.synced(M1)
    stage.run(order)
    stage.registry.delete(M1, SOMEBODY)

    assert stage.run(order) is None
    assert stage.versions == {}

    again = stage.asked(M1)
    stage.run(again)
    assert stage.outcome(again).outcome == "registered"
    assert list(stage.versions) == [M1]


def test_a_name_version_and_precision_that_another_has_is_a_reason_to_give_up_before_a_byte_moves(
    stage: ImportStage,
) -> None:
    stage.run(stage.synced(M1))
    taken = stage.version().model_copy(update={"id": "a-model-of-mine-0", "tags": {}})
    stage.registry.delete(M1, SOMEBODY)
    stage.registry.register(draft(**taken.model_dump(include=set(draft().model_dump()))), parcel(), SOMEBODY)
    order = stage.asked(M1)

    stage.run(order)

    assert "a-model-of-mine-0" in (stage.outcome(order).why or "")
    assert stage.item().state == ItemState.PARKED
    assert stage.geti.asked.count(("package", M1)) == 1
    assert list(stage.versions) == ["a-model-of-mine-0"]


def test_an_id_that_an_upload_holds_is_tried_again_later(stage: ImportStage, monkeypatch: pytest.MonkeyPatch) -> None:
    def held(*_: object) -> None:
        raise Conflict(M1, upload_id="01UPLOAD")

    monkeypatch.setattr(stage.catalog, "place", held)

    stage.run(stage.synced(M1))

    assert stage.item().state == ItemState.FAILED
    assert "An upload that is not complete yet" in (stage.item().why or "")


def test_what_a_twin_registered_in_between_is_taken_for_what_it_is(
    stage: ImportStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that was held up for longer than it held the model."""
    place = stage.catalog.place

    def overtaken(*args: Any) -> Any:
        monkeypatch.setattr(stage.catalog, "place", place)
        stage.pass_by(seconds=1100)
        stage.run(order)
        return place(*args)

    order = stage.synced(M1)
    monkeypatch.setattr(stage.catalog, "place", overtaken)

    assert stage.run(order) == Imported(imported=1)

    assert len(stage.blobs.objects) == 1
    assert [run.counts.imported for run in stage.finished] == [1]


# Turns.


def test_no_more_packages_are_asked_for_at_once_than_there_are_slots() -> None:
    stage = ImportStage(slots=1)
    order = stage.synced(M1, M2)
    inner: list[Imported | None] = []

    def slow() -> Iterator[bytes]:
        inner.append(stage.run(stage.order(M2)))
        yield PACKAGE

    stage.geti.sends[M1] = slow
    stage.run(order)

    assert inner == [None]
    assert [(one.model_id, one.waits, delay) for one, delay in stage.work.orders] == [(M2, 1, 5)]
    stage.work_off()
    assert set(stage.versions) == {M1, M2}


def test_of_geti_3_one_package_is_asked_for_at_a_time() -> None:
    stage = ImportStage(is_flat=True, slots=5)
    assert stage.store.take_slot(5, "another", stage.clock(), stage.clock() + timedelta(minutes=1)) == 0

    stage.run(stage.synced(M1))

    assert [delay for _, delay in stage.work.orders] == [5]


def test_a_model_that_another_worker_has_is_left_to_it(stage: ImportStage) -> None:
    order = stage.synced(M1)
    stage.store.claim(order, "b1", "another", stage.clock(), stage.clock() + timedelta(seconds=20))

    assert stage.run(order) is None

    assert [(one.waits, one.tries, delay) for one, delay in stage.work.orders] == [(1, 0, 15)]
    assert stage.work_off() == [15, 15]
    assert list(stage.versions) == [M1]
    assert stage.is_idle


@pytest.mark.parametrize(("waits", "delay"), [(0, 5), (3, 10), (40, 102), (200, 300)])
def test_who_waited_often_in_vain_waits_longer(stage: ImportStage, waits: int, delay: int) -> None:
    for number in range(2):
        stage.store.take_slot(2, f"other-{number}", stage.clock.now, stage.clock.now + timedelta(minutes=15))

    stage.run(stage.asked(M1).model_copy(update={"waits": waits}))

    assert [found for _, found in stage.work.orders] == [delay]


def test_a_worker_that_died_has_a_model_and_a_slot_for_less_than_20_minutes(stage: ImportStage) -> None:
    stage = ImportStage(slots=1)
    order = stage.synced(M1)
    at = stage.clock()
    stage.store.take_slot(1, "dead", at, at + timedelta(seconds=1000))
    stage.store.claim(order, "b1", "dead", at, at + timedelta(seconds=1000))
    stage.run(order)
    assert list(stage.versions) == []

    stage.pass_by(seconds=1001)
    stage.work_off()

    assert list(stage.versions) == [M1]


@pytest.mark.parametrize("is_held", [False, True], ids=["no slot", "held"])
def test_whose_turn_never_comes_is_given_up(is_held: bool) -> None:
    stage = ImportStage(slots=1)
    stage.synced(M1)
    order = stage.asked(M1).model_copy(update={"waits": MAX_WAITS})
    at = stage.clock()
    if is_held:
        stage.store.claim(order, "b1", "another", at, at + timedelta(minutes=9))
    else:
        stage.store.take_slot(1, "another", at, at + timedelta(minutes=9))

    assert stage.run(order) == Imported(failed=1)

    assert "turn did not come" in (stage.outcome(order).why or "")
    assert stage.work.orders == []
    if not is_held:
        assert (stage.item().state, stage.item().attempts) == (ItemState.FAILED, 0)
        assert is_about(stage.due_in(at), timedelta(hours=1))
        assert [run.counts.failed for run in stage.finished] == [1]


def test_what_was_imported_meanwhile_stays_so_though_a_late_message_is_given_up() -> None:
    stage = ImportStage(slots=1)
    order = stage.synced(M1)
    stage.run(order)
    stage.store.take_slot(1, "another", stage.clock(), stage.clock() + timedelta(minutes=9))

    assert stage.run(order.model_copy(update={"waits": MAX_WAITS})) is None
    asked = stage.asked(M1).model_copy(update={"waits": MAX_WAITS})
    assert stage.run(asked) == Imported(failed=1)

    assert stage.item().state == ItemState.IMPORTED
    assert stage.outcome(asked).outcome == "failed"


def test_an_order_for_another_server_fails_and_asks_nothing(stage: ImportStage) -> None:
    order = stage.asked(M1).model_copy(update={"server_id": "geti.before"})

    assert stage.run(order) == Imported(failed=1)

    assert stage.outcome(order).why == (
        "The registry is connected to another Geti server now: ask for the model there."
    )
    assert (stage.geti.asked, stage.store.kept) == ([], {})


# What fails, and may work later.

ASKED = [("project", "p1"), ("groups", "p1"), ("details", M1), ("package", M1)]


@pytest.mark.parametrize("asked", ASKED, ids=lambda asked: asked[0])
def test_a_geti_that_is_busy_is_tried_three_times_and_then_later(stage: ImportStage, asked: tuple[str, ...]) -> None:
    stage.geti.failures[asked] = GetiBusy("Geti throttles.")
    order = stage.synced(M1)

    assert stage.run(order) == Imported(failed=1)
    assert stage.item().state == ItemState.QUEUED
    assert stage.is_idle
    at = stage.clock()
    assert stage.work_off() == [30, 120]

    item = stage.item()
    assert (item.state, item.attempts, item.why) == (ItemState.FAILED, 1, "Geti throttles.")
    assert is_about(stage.due_in(at), timedelta(hours=1, seconds=150))
    assert [(run.outcome, run.counts.failed, run.failed[0].why) for run in stage.finished] == [
        (Outcome.PARTIAL, 1, "Geti throttles.")
    ]
    assert (stage.blobs.objects, stage.is_idle) == ({}, True)


def test_what_works_the_second_time_is_imported(stage: ImportStage) -> None:
    stage.geti.sends[M1] = [PACKAGE[:500], GetiBusy("It broke off.")]
    stage.run(stage.synced(M1))
    del stage.geti.sends[M1]

    assert stage.work_off() == [30]

    assert stage.blobs.objects == {stage.version().artifact.key: PACKAGE}
    assert [run.counts.imported for run in stage.finished] == [1]


def test_what_fails_again_and_again_is_tried_after_1_2_4_and_8_hours_and_then_given_up(stage: ImportStage) -> None:
    stage.geti.failures["project", "p1"] = GetiForbidden("Not for the user of this token.")
    waits = []
    for _ in range(4):
        order = stage.synced(M1)
        at = stage.clock()
        stage.run(order)
        assert stage.item().state == ItemState.FAILED
        waits.append(round(stage.due_in(at) / timedelta(hours=1), 3))

    stage.run(stage.synced(M1))

    assert waits == [1, 2, 4, 8]
    item = stage.item()
    assert (item.state, item.attempts, item.due_at) == (ItemState.PARKED, 5, None)


@pytest.mark.parametrize(
    ("exc", "delays"),
    [
        (GetiBusy("Wait.", retry_after_seconds=60.4), [60, 120]),
        (GetiBusy("Wait.", retry_after_seconds=7200), [900, 900]),
        (GetiBusy("Its disk is full.", is_lasting=True), []),
    ],
    ids=["a while", "long", "not over within minutes"],
)
def test_geti_is_given_the_time_that_it_asks_for(stage: ImportStage, exc: GetiBusy, delays: list[int]) -> None:
    stage.geti.failures["package", M1] = exc

    stage.run(stage.synced(M1))

    assert stage.work_off() == delays
    assert stage.item().attempts == 1


@pytest.mark.parametrize(
    "exc",
    [
        GetiUnauthorized("Expired."),
        GetiMisconfigured("No such workspace."),
        NotGeti("A login."),
        NotConfigured("No token."),
    ],
    ids=lambda exc: type(exc).__name__,
)
def test_what_an_operator_has_to_mend_is_tried_every_hour(stage: ImportStage, exc: Exception) -> None:
    for _ in range(7):
        stage.geti.failures["project", "p1"] = exc  # type: ignore[assignment]
        order = stage.synced(M1)
        at = stage.clock()
        stage.run(order)
        assert (stage.item().state, stage.item().attempts) == (ItemState.FAILED, 0)
        assert is_about(stage.due_in(at), timedelta(hours=1))
    assert stage.work.orders == []

    stage.geti.failures.clear()
    stage.run(stage.synced(M1))

    assert stage.item().state == ItemState.IMPORTED


# What fails, and would again.


@pytest.mark.parametrize(
    "exc", [GetiGone("It is gone.", "model_not_found"), GetiRefused("No.")], ids=["gone", "refused"]
)
@pytest.mark.parametrize("asked", ASKED, ids=lambda asked: asked[0])
def test_what_would_end_the_same_is_given_up_at_once(
    stage: ImportStage, asked: tuple[str, ...], exc: GetiError
) -> None:
    stage.geti.failures[asked] = exc
    stage.run(stage.synced(M1))

    item = stage.item()
    assert (item.state, item.attempts, item.due_at, item.why) == (ItemState.PARKED, 1, None, str(exc))
    assert (stage.work.orders, stage.blobs.objects, stage.is_idle) == ([], {}, True)


def test_a_geti_without_a_way_to_packages_may_get_one(stage: ImportStage) -> None:
    stage.geti.failures["package", M1] = GetiNoSuchRoute("There is no way.")

    stage.run(stage.synced(M1))

    assert stage.item().state == ItemState.FAILED


def replaced(stage: ImportStage, model: OptimizedModel | None = None, base: dict[str, Any] | None = None, **of: Any):
    version: BaseModel = trained("b1", *([model] if model else []), **(base or {}))
    stage.geti.add("p1", "Bottle caps", group(of.pop("group_id", "g1-c0ffee"), "YOLOX-S", version, **of))


UNFIT = {
    "no OpenVINO": ({"format": "ONNX"}, "not in OpenVINO format"),
    "failed": ({"status": "FAILED"}, "Geti says that it is FAILED"),
    "deleted": ({"files_deleted": True}, "its files were deleted in Geti"),
    "odd precision": ({"precision": ("FP4",)}, "its precision FP4"),
}


@pytest.mark.parametrize(("fields", "why"), UNFIT.values(), ids=UNFIT)
def test_a_model_that_cannot_be_imported_is_given_up(stage: ImportStage, fields: dict[str, Any], why: str) -> None:
    order = stage.synced(M1)
    replaced(stage, openvino(M1, **fields))

    stage.run(order)

    assert stage.item().state == ItemState.PARKED
    assert why in (stage.item().why or "")
    assert ("package", M1) not in stage.geti.asked


def test_a_model_that_geti_is_not_done_with_is_tried_later(stage: ImportStage) -> None:
    order = stage.synced(M1)
    replaced(stage, openvino(M1, status="NOT_READY", precision=()))

    stage.run(order)

    assert stage.item().state == ItemState.FAILED
    assert "cannot be imported yet: Geti is not done with it" in (stage.item().why or "")


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"base": {"is_purged": True}}, "its files were deleted"),
        ({"is_importable": False}, "visual prompting"),
        ({"group_id": "g2"}, "does not list the group"),
    ],
    ids=["purged", "visual prompting", "another group"],
)
def test_a_version_that_cannot_be_imported_is_given_up(stage: ImportStage, fields: dict[str, Any], why: str) -> None:
    order = stage.synced(M1)
    replaced(stage, openvino(M1), **fields)

    stage.run(order)

    assert stage.item().state == ItemState.PARKED
    assert why in (stage.item().why or "")


def test_a_model_that_is_asked_for_in_a_group_that_is_not_its_own_is_not_there(stage: ImportStage) -> None:
    groups = [stage.usual_group(), group("g2", "SSD", trained("b2", openvino(M3)))]
    stage.geti.add("p1", "Bottle caps", *groups)
    order = stage.asked(M1, group_id="g2")

    stage.run(order)

    assert "does not list this model in its group" in (stage.outcome(order).why or "")


def test_a_trained_version_is_not_what_can_be_imported(stage: ImportStage) -> None:
    order = stage.asked("b1")

    assert stage.run(order) == Imported(failed=1)

    assert "does not list this model" in (stage.outcome(order).why or "")


def test_of_a_model_that_nobody_knows_only_who_asked_is_told(stage: ImportStage) -> None:
    stage.geti.failures["details", M1] = GetiBusy("Geti throttles.")
    order = stage.asked(M1)
    stage.run(order)

    assert stage.outcome(order).outcome == "pending"
    assert stage.work_off() == [30, 120]

    assert (stage.outcome(order).outcome, stage.outcome(order).why) == ("failed", "Geti throttles.")
    assert stage.store.kept == {}


# Packages.

XML = Raw(name=b"model/model.xml", data=b"<net/>")
BIN = Raw(name=b"model/model.bin", data=b"weights")
HOSTILE = {
    "nothing": (b"", "it is empty"),
    "no archive": (b"This is not a ZIP archive.\n" * 9, "not a whole ZIP archive"),
    "cut short": (PACKAGE[: len(PACKAGE) // 2], "not a whole ZIP archive"),
    "leads out": (raw_zip(XML, BIN, Raw(name=b"../x", data=b"x")), "'..'"),
    "bomb": (raw_zip(XML, BIN, Raw(name=b"zeros.bin", data=bytes(32 * 1024**2), method=8)), "decompression bomb"),
    "no weights": (raw_zip(XML, Raw(name=b"config.json", data=b"{}")), "no OpenVINO model"),
    "no graph": (raw_zip(BIN), "no OpenVINO model"),
    "another format": (raw_zip(Raw(name=b"model.onnx", data=b"onnx")), "ONNX"),
    "damaged": (raw_zip(XML, BIN).replace(b"weights", b"weighty"), "damaged"),
}


@pytest.mark.parametrize(("sent", "why"), HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("strips", [False, True], ids=["as it is", "repacked"])
def test_of_a_package_that_may_not_be_stored_nothing_stays(sent: bytes, why: str, strips: bool) -> None:
    stage = ImportStage(strips_sample_image=strips)
    stage.geti.sends[M1] = sent
    order = stage.synced(M1)

    assert stage.run(order) == Imported(failed=1, bytes=len(sent))

    assert (stage.blobs.objects, stage.versions) == ({}, {})
    item = stage.item()
    assert item.state == ItemState.PARKED
    assert (item.why or "").startswith("Geti sent a package that may not be stored: ")
    assert why in (item.why or "")
    assert stage.is_idle
    assert stage.bugs == []


@pytest.mark.parametrize("passed", [0, 1, 3])
def test_an_import_ends_before_its_function_does(stage: ImportStage, passed: int) -> None:
    stage.geti.sends[M1] = package(weights=hashlib.shake_256(b"weights").digest(5 * CHUNK_BYTES))
    left = iter([*[900.0] * passed, *[59.0] * 9])

    outcome = stage.run(stage.synced(M1), lambda: next(left))

    assert outcome == Imported(failed=1, bytes=passed * CHUNK_BYTES)
    assert (stage.blobs.objects, stage.versions, stage.is_idle) == ({}, {}, True)
    assert [delay for _, delay in stage.work.orders] == [30]
    stage.work_off()
    assert list(stage.versions) == [M1]


# The sample image.


def test_the_sample_image_is_left_out_if_that_is_wanted() -> None:
    stage = ImportStage(strips_sample_image=True)

    stage.run(stage.synced(M1))

    version = stage.version()
    [content] = stage.blobs.objects.values()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert "sample_image.jpg" not in archive.namelist()
        assert len(archive.namelist()) == 5
    assert version.tags["geti.repacked"] == "without sample image"
    assert (version.artifact.size, version.artifact.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert stage.blobs.objects == {version.artifact.key: content}


def test_a_package_without_one_stays_as_it_is() -> None:
    stage = ImportStage(strips_sample_image=True)
    stage.geti.sends[M1] = sent = raw_zip(XML, BIN)

    stage.run(stage.synced(M1))

    assert list(stage.blobs.objects.values()) == [sent]
    assert "geti.repacked" not in stage.version().tags


def test_nothing_stays_of_a_package_that_could_not_be_repacked_in_time() -> None:
    stage = ImportStage(strips_sample_image=True)
    left = iter([900.0, *[59.0] * 9])

    stage.run(stage.synced(M1), lambda: next(left))

    assert stage.blobs.objects == {}
    assert [delay for _, delay in stage.work.orders] == [30]


def test_labels_make_room_for_what_the_package_adds() -> None:
    stage = ImportStage(strips_sample_image=True)
    stage.geti.labels["b1"] = tuple(f"label-{number:04}" for number in range(4900))

    stage.run(stage.synced(M1))

    version = stage.version()
    version.check_limits()
    assert (version.labels, version.tags["geti.repacked"]) == (None, "without sample image")


# The registry's own failures.


def test_blobs_that_are_away_are_tried_again(stage: ImportStage) -> None:
    stage.blobs.is_down = True
    stage.run(stage.synced(M1))
    stage.blobs.is_down = False

    assert stage.work_off() == [30]

    assert list(stage.versions) == [M1]


def test_a_record_of_which_nobody_knows_whether_it_is_there_is_found_the_next_time(
    stage: ImportStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = stage.catalog.add

    def lost(*args: Any) -> None:
        monkeypatch.undo()
        add(*args)
        raise OutcomeUnknown("The answer was lost.")

    monkeypatch.setattr(stage.catalog, "add", lost)
    order = stage.asked(M1)
    assert stage.run(order) == Imported(failed=1, bytes=len(PACKAGE))

    stage.work_off()

    assert stage.outcome(order).outcome == "registered"
    assert stage.blobs.objects == {stage.version().artifact.key: PACKAGE}
    assert stage.geti.asked.count(("package", M1)) == 1


def test_tables_that_are_away_put_an_order_off(stage: ImportStage) -> None:
    order = stage.synced(M1)
    stage.store.is_down = True

    assert stage.run(order) is None

    assert [(one.waits, one.tries, delay) for one, delay in stage.work.orders] == [(1, 0, 120)]
    stage.store.is_down = False
    stage.work_off()
    assert list(stage.versions) == [M1]


def test_what_is_registered_when_the_tables_go_away_is_settled_when_they_are_back(
    stage: ImportStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = stage.asked(M1)

    def away(*_: object) -> None:
        monkeypatch.undo()
        stage.store.is_down = True
        raise Unavailable("The table does not answer.")

    monkeypatch.setattr(stage.store, "settle", away)
    assert stage.run(order) is None
    assert stage.outcome(order).outcome == "pending"
    stage.store.is_down = False

    stage.work_off()

    assert stage.outcome(order).outcome == "registered"
    assert stage.is_idle
    assert len(stage.blobs.objects) == 1


def test_what_is_imported_again_after_it_was_deleted_is_told_so_although_its_worker_could_not_tell(
    stage: ImportStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.run(stage.synced(M1))
    stage.registry.delete(M1, SOMEBODY)
    order = stage.asked(M1)

    def not_now(*_: object) -> None:
        monkeypatch.undo()
        raise Unavailable("The table does not answer.")

    monkeypatch.setattr(stage.store, "settle", not_now)
    stage.run(order)

    # The model is not held meanwhile.
    assert stage.work_off() == [120]
    assert stage.outcome(order).outcome == "registered"


def test_an_order_that_cannot_be_put_back_has_to_come_again(stage: ImportStage) -> None:
    order = stage.synced(M1)
    stage.store.is_down = stage.work.is_down = True

    with pytest.raises(Unavailable):
        stage.run(order)

    stage.store.is_down = False
    stage.run(order)
    assert list(stage.versions) == [M1]


def test_what_cannot_be_queued_again_has_failed_for_now(stage: ImportStage) -> None:
    stage.geti.failures["package", M1] = GetiBusy("Geti throttles.")
    stage.work.is_down = True

    stage.run(stage.synced(M1))

    assert (stage.item().state, stage.item().attempts) == (ItemState.FAILED, 1)


@pytest.mark.parametrize("is_known", [True, False])
def test_a_bug_is_reported_and_tells_who_waits_nothing_of_itself(
    stage: ImportStage, monkeypatch: pytest.MonkeyPatch, is_known: bool
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("a secret")

    monkeypatch.setattr(stage.geti, "project", broken)
    if is_known:
        stage.synced(M1)
    order = stage.asked(M1)

    assert stage.run(order) == Imported(failed=1)

    assert [repr(bug) for bug in stage.bugs] == ["KeyError('a secret')"]
    assert stage.outcome(order).why == (
        "The registry failed at it by an error of its own (KeyError); its log says more."
    )
    if is_known:
        assert stage.item().state == ItemState.FAILED


def test_a_reason_is_no_longer_than_can_be_read(stage: ImportStage) -> None:
    stage.geti.failures["project", "p1"] = GetiRefused("x" * 5000)

    stage.run(stage.synced(M1))

    assert len(stage.item().why or "") == 1000


def test_the_tags_of_an_imported_model_may_be_changed_but_not_lost(stage: ImportStage) -> None:
    stage.run(stage.synced(M1))
    stage.registry.update(M1, Changes(tags={**stage.version().tags, "mine": "yes"}), SOMEBODY)
    order = stage.asked(M1)
    stage.run(order)
    assert stage.outcome(order).outcome == "exists"

    stage.registry.update(M1, Changes(tags={"mine": "yes"}), SOMEBODY)
    order = stage.asked(M1)
    stage.run(order)

    assert stage.outcome(order).outcome == "failed"
    assert list(stage.versions) == [M1]


def test_the_errors_of_the_registry_are_final_unless_they_say_otherwise(stage: ImportStage) -> None:
    stage.geti.failures["project", "p1"] = RegistryError("It may not be.")  # type: ignore[assignment]

    stage.run(stage.synced(M1))

    assert stage.item() == Item(
        project_id="p1",
        group_id="g1-c0ffee",
        base_model_id="b1",
        model_id=M1,
        state=ItemState.PARKED,
        attempts=1,
        why="It may not be.",
    )
