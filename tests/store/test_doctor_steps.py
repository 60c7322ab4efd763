"""How the doctor goes on: in steps, beside others who write, beside another doctor, and when AWS fails."""

import itertools
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
from botocore.exceptions import ClientError

from chalicelib.registry.doctor import Kind, Order
from chalicelib.registry.errors import InvalidInput, RegistryError, Unavailable
from chalicelib.registry.models import Changes
from chalicelib.registry.uploads import StoredObject
from chalicelib.store.doctor import examining, steps
from chalicelib.store.doctor.steps import Limits
from chalicelib.store.doctor.tables import Rows, Tables
from chalicelib.store.keys import claim_key, due_key, model_key, name_key, number_key, shard_key, shard_of
from tests.conftest import ALICE
from tests.store.conftest import Bench
from tests.store.doctor_stage import ONE_BY_ONE, Stage
from tests.store.faults import (
    conflicting,
    connection_lost,
    not_connected,
    nothing,
    one_call_at_a_time,
    throttled,
    watched_calls,
)

Fault = Callable[[str], Exception]


@pytest.fixture
def stage(bench: Bench) -> Stage:
    return Stage(bench).stock()


def hurt(stage: Stage) -> None:
    """A damage of many kinds, repairable or not, in both tables and in S3."""
    stage.remove(shard_key(shard_of(stage.second.id)), stage.second.position)
    stage.remove(claim_key(stage.first.rm_id, stage.first))
    stage.pointer("RM#nobody", number_key(1), "model-of-nobody-0")
    stage.pointer("NAMES", "bird#nobody", "NAME#nobody")
    stage.remove("TOKENS", stage.token.id)
    stage.put({"pk": {"S": "WHAT#1"}, "sk": {"S": "x"}})
    stage.remove(model_key(stage.placed.id), "000000000001", "EventsTable")
    stage.put({"pk": {"S": "MODEL#nobody"}, "sk": {"S": "000000000004"}}, "EventsTable")
    del stage.bench.blobs.objects[stage.sent.artifact.key]


# --- Steps


@pytest.mark.parametrize("repair", [False, True])
def test_small_steps_find_what_one_step_finds(stage: Stage, repair: bool):
    hurt(stage)
    whole = stage.visit()

    visit = stage.visit(repair, ONE_BY_ONE, every_chunk=True)

    assert len(whole.reports) == 1
    assert len(visit.reports) > 80
    assert sorted((one.kind, one.subject, one.what) for one in visit.findings) == sorted(
        (one.kind, one.subject, one.what) for one in whole.findings
    )
    # Rows that were put again behind its back are looked at too.
    assert {what: visit.count(what) for what in whole.reports[0].counts} == whole.reports[0].counts or repair
    assert {one.repaired for one in visit.findings if one.safe} == {repair}


def test_a_step_begins_where_the_one_before_ended_whatever_happened_in_between(stage: Stage):
    doctor, after = stage.doctor(ONE_BY_ONE), None
    seen = 0
    for number in itertools.count():
        report = doctor.step(Order(after=after), lambda: False)
        assert report.findings == ()
        seen += report.counts["items"]
        after = report.after
        if after is None:
            break
        with suppress(RegistryError):
            stage.bench.register("cat", f"v{number % 9}", id=f"model-in-between-{number % 7}")
        with suppress(RegistryError):
            stage.bench.registry.delete(f"model-in-between-{number % 5}", ALICE)

    assert seen >= 58


def test_a_long_chain_is_followed_in_pieces_though_it_grows(stage: Stage):
    for number in range(30):
        stage.bench.registry.update(stage.placed.id, Changes(score=float(number)), ALICE)
    limits = Limits(items=100, chain_events=4, threads=1)
    doctor, after, events = stage.doctor(limits), None, 0
    for number in itertools.count():
        report = doctor.step(Order(after=after), lambda: False)
        assert report.findings == ()
        events += report.counts["events"]
        after = report.after
        if after is None:
            break
        if number < 3:
            stage.bench.registry.update(stage.placed.id, Changes(score=0.25 + number), ALICE)

    assert events == len(stage.items("EventsTable"))


@pytest.mark.parametrize("seq", [1, 4, 5, 17, 32])
def test_a_long_chain_that_is_broken_somewhere_is_found(stage: Stage, seq: int):
    for number in range(30):
        stage.bench.registry.update(stage.placed.id, Changes(score=float(number)), ALICE)
    stage.set(model_key(stage.placed.id), f"{seq:012d}", "EventsTable", at={"S": "2026-01-01T00:00:00.000000Z"})

    visit = stage.visit(limits=Limits(chain_events=4, threads=1))

    assert [(one.kind, one.subject) for one in visit.findings] == [(Kind.CHAIN_BROKEN, model_key(stage.placed.id))]
    assert f"event {seq:012d} is not what its digest says" in visit.findings[0].what


def test_a_step_ends_when_its_time_is_up(stage: Stage):
    doctor = stage.doctor(Limits(items=1, threads=1))
    ticks = itertools.count(step=steps.STEP_SECONDS / 4)
    doctor._monotonic = lambda: float(next(ticks))

    report = doctor.step(Order(), lambda: True)

    assert 3 <= report.counts["items"] <= 5
    assert report.after


def test_a_step_ends_when_it_has_found_enough(stage: Stage, monkeypatch):
    monkeypatch.setattr(steps, "MAX_FINDINGS", 3)
    for number in range(8):
        stage.pointer("NAMES", f"bird#nobody-{number}", "NAME#nobody")

    visit = stage.visit(limits=Limits(items=1, threads=1))

    assert [len(report.findings) for report in visit.reports] == [3, 3, 2]


@pytest.mark.parametrize("after", ["", "nonsense", "bm9uc2Vuc2U=", "eyJ0YWJsZSI6ICJvdGhlciJ9", "é", "x" * 1_000])
def test_a_position_that_no_step_answered_is_refused(stage: Stage, after: str):
    with pytest.raises(InvalidInput, match="begin anew"):
        stage.doctor().step(Order(after=after), lambda: True)


# --- Failures


FAULTS: list[Fault] = [throttled, conflicting, not_connected, connection_lost]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("is_done", [False, True], ids=["before", "after"])
def test_what_aws_fails_at_for_a_moment_is_done_again(stage: Stage, fault: Fault, is_done: bool):
    hurt(stage)
    expected = [(one.kind, one.subject, one.safe) for one in stage.visit().findings]

    def fail(operation: str, number: int) -> None:
        if number % 7 == 3 and (fault is not conflicting or operation.startswith("Transact")):
            raise fault(operation)

    with watched_calls(nothing if is_done else fail, fail if is_done else nothing):
        visit = stage.visit(repair=True)

    told = [(one.kind, one.subject, one.repaired) for one in visit.findings]
    # Moto does not know that it was asked for the same before, as DynamoDB does by the token of the request.
    assert set(told) <= set(expected) if is_done else told == expected
    assert stage.unexpected == []
    assert all(not one.safe for one in stage.visit().findings)


def test_a_store_that_is_away_is_told_at_the_first_step_only(stage: Stage):
    doctor = stage.doctor(Limits(items=1, threads=1))
    time = itertools.count()
    doctor._tables._retry._monotonic = lambda: float(next(time))
    away_from = 40

    def fail(operation: str, number: int) -> None:
        if number >= away_from:
            raise not_connected(operation)

    with watched_calls(fail, nothing):
        report = doctor.step(Order(), lambda: True)
        with pytest.raises(Unavailable):
            doctor.step(Order(after=report.after), lambda: True)

    assert report.counts["items"] > 5
    assert report.after
    rest = doctor.step(Order(after=report.after), lambda: True)
    assert report.counts["items"] + rest.counts["items"] == len(stage.items())


def test_what_the_doctor_itself_fails_at_does_not_hide_the_rest(stage: Stage, monkeypatch):
    hurt(stage)
    kinds = stage.visit().kinds
    stored = stage.bench.blobs.stored

    def refused(key: str):
        if key == stage.second.artifact.key:
            raise ClientError({"Error": {"Code": "403", "Message": "secret"}}, "HeadObject")
        return stored(key)

    monkeypatch.setattr(stage.bench.blobs, "stored", refused)

    visit = stage.visit()

    assert sorted(visit.kinds) == sorted([*(kind for kind in kinds if kind != Kind.CATALOGUE_ROW), Kind.UNJUDGED])
    assert [type(exc) for exc in stage.unexpected] == [ClientError]
    assert "secret" not in repr(visit.findings)


# --- Beside others


def others(stage: Stage) -> list[Callable[[random.Random], object]]:
    """What others may do at any moment."""
    bench = stage.bench
    names, versions = ["cat", "dog", "owl"], ["v1", "v2", "v3"]
    ids = [f"model-number-{number:04d}" for number in range(4)]
    uploads: list[str] = []
    tokens: list[str] = []

    def fields(dice: random.Random) -> dict[str, str | None]:
        return {"id": dice.choice(ids), "project_id": dice.choice([None, "p1"])}

    def open_upload(dice: random.Random) -> None:
        upload = bench.open(dice.choice(names), dice.choice(versions), **fields(dice))
        uploads.append(upload.id)
        if dice.random() < 0.7:
            bench.put(upload)

    def alias(dice: random.Random) -> None:
        stage.alias(dice.choice(names), **{dice.choice(["champion", "old"]): dice.choice([None, 1, 2, 3])})

    def make_token(dice: random.Random) -> None:
        tokens.append(stage.granting.create("ci", ALICE.access, None, ALICE)[0].id)

    return [
        lambda dice: bench.register(dice.choice(names), dice.choice(versions), **fields(dice)),
        lambda dice: bench.registry.update(dice.choice(ids), Changes(score=dice.random()), ALICE),
        lambda dice: bench.registry.update(dice.choice(ids), Changes(version=dice.choice(versions)), ALICE),
        lambda dice: bench.registry.update(dice.choice(ids), Changes(name=dice.choice(names)), ALICE),
        lambda dice: bench.registry.update(dice.choice(ids), Changes(project_id=dice.choice([None, "p1"])), ALICE),
        lambda dice: bench.registry.delete(dice.choice(ids), ALICE),
        alias,
        alias,
        open_upload,
        lambda dice: bench.complete(bench.catalog.uploads.get(dice.choice(uploads or ["none"]))),
        lambda dice: bench.uploading.abort(dice.choice(uploads or ["none"]), ALICE),
        make_token,
        lambda dice: stage.granting.revoke(dice.choice(tokens or ["none"]), ALICE),
        lambda dice: (bench.clock.pass_by(hours=dice.choice([1, 13, 25])), bench.sweep()),
    ]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("repair", [False, True])
def test_it_finds_nothing_whatever_others_do_between_any_two_of_its_calls(bench: Bench, seed: int, repair: bool):
    stage, dice = Stage(bench), random.Random(seed)
    operations = others(stage)
    is_inside = False

    def act(_operation: str, _number: int) -> None:
        nonlocal is_inside
        if is_inside or dice.random() < 0.3:
            return
        is_inside = True
        try:
            with suppress(RegistryError):
                dice.choice(operations)(dice)
        finally:
            is_inside = False

    for _ in range(40):
        with suppress(RegistryError):
            dice.choice(operations)(dice)

    with watched_calls(act, nothing), asked_among(bench, act):
        visits = [stage.visit(repair, Limits(items=3, subjects=3, chain_events=2, threads=1)) for _ in range(2)]

    assert [finding for visit in visits for finding in visit.findings] == []
    assert sum(visit.count("items") for visit in visits) > 50
    assert stage.unexpected == []
    bench.check(orphans=100)


@contextmanager
def asked_among(bench: Bench, act: Callable[[str, int], None]) -> Iterator[None]:
    """Have others act before and after each question to S3 too, which is in memory here."""
    stored = bench.blobs.stored

    def asked(key: str) -> StoredObject | None:
        act("HeadObject", 0)
        found = stored(key)
        act("HeadObject", 0)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench.blobs, "stored", asked)
        yield


@pytest.mark.parametrize("repair", [False, True])
def test_it_finds_nothing_while_others_write_in_threads(stage: Stage, repair: bool):
    stop, failures, findings = threading.Event(), [], []

    def write(seed: int) -> None:
        dice, operations = random.Random(seed), others(stage)
        for _ in range(40):
            with suppress(RegistryError):
                dice.choice(operations)(dice)

    def look() -> None:
        while not stop.is_set():
            findings.extend(stage.visit(repair, Limits(threads=2)).findings)

    def guarded(run: Callable[..., None], *arguments: int) -> threading.Thread:
        def target() -> None:
            try:
                run(*arguments)
            except BaseException as exc:
                failures.append(exc)

        return threading.Thread(target=target)

    writers, doctors = [guarded(write, seed) for seed in range(3)], [guarded(look), guarded(look)]
    with one_call_at_a_time():
        for thread in writers + doctors:
            thread.start()
        for thread in writers:
            thread.join()
        stop.set()
        for thread in doctors:
            thread.join()

    assert failures == []
    assert findings == []
    assert stage.unexpected == []
    stage.bench.check(orphans=100)


def test_two_doctors_at_once_do_no_harm(stage: Stage):
    whole = stage.items()
    before = {one.subject for one in stage.visit().findings}
    for pk, sk in list(stage.rows("CATALOG#")) + list(stage.rows("NAMES")) + list(stage.rows("PROJECT#")):
        stage.remove(pk, sk)
    stage.pointer("NAMES", "bird#nobody", "NAME#nobody")
    stage.remove(claim_key(stage.first.rm_id, stage.first))
    stage.set(name_key(stage.first), counter={"N": "0"})
    visits, failures = [], []

    def repair() -> None:
        try:
            visits.append(stage.visit(repair=True, limits=Limits(items=5, threads=2)))
        except BaseException as exc:
            failures.append(exc)

    doctors = [threading.Thread(target=repair) for _ in range(3)]
    with one_call_at_a_time():
        for thread in doctors:
            thread.start()
        for thread in doctors:
            thread.join()

    assert (before, failures) == (set(), [])
    repaired = [(one.kind, one.subject) for visit in visits for one in visit.findings if one.repaired]
    assert len(repaired) == len(set(repaired))
    assert not [one for visit in visits for one in visit.findings if not one.repaired]
    assert stage.visit().findings == []
    assert len(stage.items()) == len(whole)
    stage.bench.check()


REPAIRS: dict[str, tuple[Callable[[Stage], None], Callable[[Stage], object]]] = {
    "a row of a version that was deleted": (
        lambda stage: stage.remove(shard_key(shard_of(stage.second.id)), stage.second.position) and None,
        lambda stage: stage.bench.registry.delete(stage.second.id, ALICE),
    ),
    "a claim of a version that was changed": (
        lambda stage: stage.remove(claim_key(stage.placed.rm_id, stage.placed)) and None,
        lambda stage: stage.bench.registry.update(stage.placed.id, Changes(score=0.75), ALICE),
    ),
    "a claim that was freed and taken": (
        lambda stage: stage.put(
            {
                "pk": {"S": claim_key(stage.first.rm_id, stage.first.model_copy(update={"version": "v7"}))},
                "sk": {"S": "META"},
                "holder": {"S": "model-in-between-0"},
            }
        ),
        lambda stage: stage.bench.register("cat", "v9", id="model-in-between-0"),
    ),
    "a counter that was counted on": (
        lambda stage: stage.set(name_key(stage.first), counter={"N": "2"}),
        lambda stage: stage.set(name_key(stage.first), counter={"N": "50"}),
    ),
}


@pytest.mark.parametrize("name", REPAIRS)
def test_what_changes_between_look_and_repair_is_not_repaired_as_it_was(stage: Stage, name: str):
    damage, meanwhile = REPAIRS[name]
    damage(stage)
    is_done = False

    def act(operation: str, _number: int) -> None:
        nonlocal is_done
        if operation == "TransactWriteItems" and not is_done:
            is_done = True
            meanwhile(stage)

    with watched_calls(act, nothing):
        visit = stage.visit(repair=True)

    assert is_done
    assert all(one.repaired or not one.safe for one in visit.findings)
    assert all(not one.safe for one in stage.visit().findings)
    if name == "a row of a version that was deleted":
        assert (shard_key(shard_of(stage.second.id)), stage.second.position) not in list(stage.rows("CATALOG#"))
        assert visit.findings == []
    if name == "a counter that was counted on":
        assert stage.item(name_key(stage.first))["counter"] == {"N": "50"}


def test_a_version_that_is_deleted_while_s3_is_asked_is_no_finding(stage: Stage, monkeypatch):
    stored = stage.bench.blobs.stored

    def too_late(key: str) -> StoredObject | None:
        if key == stage.second.artifact.key and key in stage.bench.blobs.objects:
            stage.bench.registry.delete(stage.second.id, ALICE)
        return stored(key)

    monkeypatch.setattr(stage.bench.blobs, "stored", too_late)

    visit = stage.visit()

    assert visit.findings == []
    assert visit.count("objects") == 4
    assert stage.second.artifact.key not in stage.bench.blobs.objects


def test_an_upload_that_ends_while_its_row_is_looked_for_is_no_finding(stage: Stage, monkeypatch):
    upload_id, looked = stage.small.id, Tables.has_upload_row
    stage.remove("UPLOADS", due_key(stage.small))  # as if the sweep had just dropped it

    def too_late(self: Tables, upload: str, first: str, last: str) -> bool:
        stage.bench.uploading.abort(upload_id, ALICE)
        return looked(self, upload, first, last)

    monkeypatch.setattr(Tables, "has_upload_row", too_late)

    assert stage.visit().findings == []


def test_an_event_that_is_appended_while_the_trail_is_read_is_no_finding(stage: Stage):
    seconds = itertools.count()

    def change(operation: str, _number: int) -> None:
        if operation == "Query":
            stage.bench.registry.update(stage.placed.id, Changes(score=float(next(seconds))), ALICE)

    with watched_calls(change, nothing):
        visit = stage.visit()

    assert visit.findings == []
    assert next(seconds) > 10


def test_a_trail_that_was_read_half_is_read_again(stage: Stage, monkeypatch):
    read, is_first = Tables.events, True

    def half(self: Tables, subject: str, behind: str | None, limit: int) -> Rows:
        nonlocal is_first
        rows = read(self, subject, behind, limit)
        if subject == model_key(stage.placed.id) and is_first:
            is_first = False
            return rows._replace(items=rows.items[:-1])
        return rows

    monkeypatch.setattr(Tables, "events", half)

    assert stage.visit().findings == []
    assert not is_first


def test_who_changes_all_the_time_is_in_use_and_no_finding(stage: Stage, monkeypatch: pytest.MonkeyPatch):
    # The AWS in memory takes a quarter of the items in a transaction that DynamoDB takes.
    monkeypatch.setattr(examining, "MAX_LOOKS", 4)
    number = itertools.count(100)
    is_inside = False

    def act(operation: str, _number: int) -> None:
        nonlocal is_inside
        if operation == "TransactGetItems" and not is_inside:
            is_inside = True
            stage.bench.registry.update(stage.placed.id, Changes(description=f"No. {next(number)}"), ALICE)
            is_inside = False

    with watched_calls(act, nothing):
        visit = stage.visit(repair=True)

    assert visit.findings == []
    assert visit.count("undecided") >= 1
