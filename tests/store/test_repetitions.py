"""A request with an Idempotency-Key is cut off anywhere, or repeated while it runs: its work is done once and known."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import boto3
import pytest

from chalicelib.registry.access import Actor
from chalicelib.registry.errors import Conflict, OutcomeUnknown, RegistryError
from chalicelib.registry.models import Changes
from chalicelib.registry.repetition import Outcome, id_for, request_digest
from chalicelib.registry.uploads import StatedFile
from chalicelib.store.outcomes import DynamoOutcomes
from tests.conftest import ALICE, ARCHIVE, BOB, draft, parcel
from tests.store.conftest import Bench, sha256_of
from tests.store.faults import Crash, connection_lost, nothing, throttled, watched_calls
from tests.store.test_outcomes import Left, rows

KEY = ("anonymous", "POST", "/models", "k-1")
CONTENT = {"fields": {"name": "cat", "version": "v1"}}
DIGEST = request_digest(KEY, CONTENT)


@dataclass
class Caller:
    """Somebody who sends one request, again and again, to services that may die."""

    bench: Bench
    outcomes: DynamoOutcomes
    key: tuple[str, ...] = KEY
    content: dict[str, Any] | None = None

    @property
    def digest(self) -> str:
        return request_digest(self.key, self.content or CONTENT)

    @property
    def actor(self) -> Actor:
        return ALICE.model_copy(update={"idempotency": self.digest})

    def register(self, **fields: Any) -> str:
        stated = draft("cat", "v1", **{"id": id_for(self.digest), **fields})
        return self._once(lambda: self.bench.registry.register(stated, parcel(), self.actor).id)

    def open(self, size: int = len(ARCHIVE)) -> str:
        stated = draft("cat", "v1", id=id_for(self.digest))
        file = StatedFile(file_name="model.zip", size=size, sha256=sha256_of(ARCHIVE))
        return self._once(lambda: self.bench.uploading.open(stated, file, self.actor).id)

    def open_large(self) -> str:
        return self.open(65 * 1024**2)

    def _once(self, work: Callable[[], str]) -> str:
        def run() -> Outcome:
            try:
                return Outcome(status=201, id=work())
            except Conflict as exc:
                return Outcome.of_conflict(exc)

        outcome = self.outcomes.once(self.key, self.content or CONTENT, run, Left())
        if outcome.conflict:
            raise outcome.conflict
        return outcome.id or ""


@pytest.fixture
def caller(bench: Bench) -> Caller:
    ticks = itertools.count()
    # Time that passes by looking at it: nobody waits, and whoever tries for ever gives up.
    bench.catalog._retry._monotonic = lambda: float(next(ticks))
    return Caller(bench, DynamoOutcomes(lambda *_: None, bench.catalog._retry))


def time_is_over() -> None:
    """Whatever ran has ended by now, if not by itself."""
    for row in rows():
        if row["pk"]["S"].startswith("IDEMPOTENCY#"):
            item = row | {"in_progress_expiration": {"N": "0"}}
            boto3.client("dynamodb").put_item(TableName="RegistryTable", Item=item)


def crash_at(call: int) -> Callable[[str, int], None]:
    def crash(_: str, number: int) -> None:
        if number == call:
            raise Crash

    return crash


# The row, two reads at most, the transaction, the row.
CALLS = {Caller.register: 4, Caller.open: 4, Caller.open_large: 4}
CUTS = [(request, call) for request, count in CALLS.items() for call in range(count)]


@pytest.mark.parametrize(("request_", "count"), CALLS.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_a_key_costs_two_calls(caller: Caller, request_: Callable[[Caller], str], count: int) -> None:
    with watched_calls(nothing, nothing) as calls:
        request_(caller)

    assert (calls[0], len(calls), calls[-1]) == ("PutItem", count, "UpdateItem")


@pytest.mark.parametrize("is_done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("request_", "call"), CUTS, ids=lambda value: getattr(value, "__name__", str(value)))
def test_a_request_that_was_cut_off_anywhere_is_done_once_when_it_is_repeated(
    caller: Caller, request_: Callable[[Caller], str], call: int, is_done: bool
) -> None:
    crash = crash_at(call)
    with watched_calls(nothing if is_done else crash, crash if is_done else nothing), pytest.raises(Crash):
        request_(caller)
    time_is_over()

    made = request_(caller)

    assert request_(caller) == made
    versions = caller.bench.check(orphans=1)
    model_id = id_for(DIGEST)
    if request_ is Caller.register:
        assert [version.id for version in versions] == [made] == [model_id]
        assert caller.bench.actions(model_id) == ["version.registered"]
    else:
        assert caller.bench.catalog.uploads.get(made).draft.id == model_id
        assert caller.bench.actions(model_id) == ["upload.opened"]


@pytest.mark.parametrize("request_", CALLS, ids=lambda value: value.__name__)
def test_an_unknown_outcome_is_known_when_the_request_is_repeated(
    caller: Caller, request_: Callable[[Caller], str]
) -> None:
    def lose(name: str, _: int) -> None:
        if name == "TransactWriteItems":
            raise connection_lost(name)

    def look(name: str, _: int) -> None:
        if name == "GetItem":
            raise throttled(name)

    with watched_calls(look, lose), pytest.raises(OutcomeUnknown):
        request_(caller)

    made = request_(caller)

    assert request_(caller) == made
    caller.bench.check()
    assert len(caller.bench.actions(id_for(DIGEST))) == 1


@pytest.mark.parametrize("request_", CALLS, ids=lambda value: value.__name__)
def test_the_same_request_twice_at_once_is_done_once(caller: Caller, request_: Callable[[Caller], str]) -> None:
    """As after a killed function whose transaction is carried out late, in the middle of the repetition."""
    other = Caller(caller.bench, caller.outcomes)
    made: list[str] = []

    def late(name: str, _: int) -> None:
        if name == "TransactWriteItems" and not made:
            made.append("")
            time_is_over()
            made.append(request_(other))

    with watched_calls(late, nothing):
        answered = request_(caller)

    assert answered == made[1]
    caller.bench.check()
    assert len(caller.bench.actions(id_for(DIGEST))) == 1


def cut_off_after_its_commit(caller: Caller, **fields: Any) -> str:
    """Register, without the outcome being noted; the id."""
    with watched_calls(crash_at(3), nothing), pytest.raises(Crash):
        caller.register(**fields)
    time_is_over()
    [version] = caller.bench.check()
    return version.id


def test_a_model_that_was_renamed_meanwhile_is_not_registered_again(caller: Caller) -> None:
    model_id = cut_off_after_its_commit(caller)
    caller.bench.registry.update(model_id, Changes(name="dog", version="v7"), BOB)

    assert caller.register() == model_id
    assert len(caller.bench.check()) == 1


def test_a_model_that_was_changed_many_times_meanwhile_is_known(caller: Caller) -> None:
    model_id = cut_off_after_its_commit(caller)
    for number in range(25):
        caller.bench.registry.update(model_id, Changes(score=float(number)), BOB)

    assert caller.register() == model_id


def test_a_model_that_was_deleted_meanwhile_is_registered_anew(caller: Caller) -> None:
    model_id = cut_off_after_its_commit(caller)
    caller.bench.registry.delete(model_id, BOB)

    assert caller.register() == model_id
    assert caller.bench.actions(model_id) == ["version.registered", "version.deleted", "version.registered"]


def test_an_id_that_the_caller_stated_is_known_as_its_own_work(caller: Caller) -> None:
    cut_off_after_its_commit(caller, id="my-own-model-0001")

    assert caller.register(id="my-own-model-0001") == "my-own-model-0001"


def test_a_model_of_somebody_else_stays_a_conflict(caller: Caller) -> None:
    theirs = caller.bench.registry.register(draft("cat", "v1", id="my-own-model-0001"), parcel(), BOB)

    for _ in range(2):
        with pytest.raises(Conflict) as caught:
            caller.register(id="my-own-model-0001")

        assert caught.value.holder == theirs.id


def test_a_model_of_another_id_is_not_asked_who_made_it(caller: Caller) -> None:
    caller.bench.register("cat", "v1")

    with watched_calls(nothing, nothing) as calls, pytest.raises(Conflict):
        caller.register()

    assert calls == ["PutItem", "BatchGetItem", "GetItem", "UpdateItem"]


def test_an_id_that_somebody_took_over_meanwhile_is_a_conflict(caller: Caller) -> None:
    model_id = cut_off_after_its_commit(caller)
    caller.bench.registry.delete(model_id, BOB)
    caller.bench.registry.register(draft("owl", "v1", id=model_id), parcel(), BOB)

    with pytest.raises(Conflict):
        caller.register()


def test_another_content_under_a_key_that_was_cut_off_is_not_answered_with_the_first_ones_model(
    caller: Caller,
) -> None:
    model_id = cut_off_after_its_commit(caller)
    other = Caller(caller.bench, caller.outcomes, content={"fields": {"name": "cat", "version": "v1", "score": "1"}})

    with pytest.raises(Conflict) as caught:
        other.register(score=1.0)

    assert caught.value.holder == model_id


def test_the_trail_says_by_which_request_it_was_done(caller: Caller) -> None:
    caller.register()

    events, _ = caller.bench.catalog.events(f"MODEL#{id_for(DIGEST)}")

    assert [event.actor.idempotency for event in events] == [DIGEST]


def test_an_upload_of_somebody_else_stays_a_conflict_that_names_it(caller: Caller) -> None:
    theirs = caller.bench.open("cat", "v1", id=id_for(DIGEST))

    with pytest.raises(Conflict) as caught:
        caller.open()

    assert caught.value.upload_id == theirs.id


def test_a_failure_is_not_remembered(caller: Caller) -> None:

    def fail(name: str, _: int) -> None:
        if name == "TransactWriteItems":
            raise throttled(name)

    with watched_calls(fail, nothing), pytest.raises(RegistryError):
        caller.register()

    assert caller.register() == id_for(DIGEST)
    caller.bench.check()
