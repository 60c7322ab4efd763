"""Somebody who can write to the tables tampers with the trail in every way: each is found, and it is said by what.

By the chain: the events themselves, as anybody reads them through the API, contradict each other. By the head: the
record of the subject names another newest event. By a checkpoint: what was stored under a lock names another one.
"""

import io
import json
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import boto3
import pytest
from modelreg.chains import Finding
from modelreg.verification import Report, Verification

from chalicelib.registry.audit import BrokenChain, Event, verify_chain
from chalicelib.registry.checkpointing import Checkpointing
from chalicelib.registry.models import Changes
from chalicelib.registry.trail import TrailFilters
from chalicelib.wiring import checkpoints, registry, utc_now
from tests.conftest import ALICE
from tests.store.trail_stage import drop, key_of, overwrite, stored
from tests.surfaces.conftest import ID, Service

SUBJECT = f"MODEL#{ID}"
BYSTANDER = "model-of-a-bystander"
LENGTH = 4


class Stage:
    """A registry in which a model was changed a few times, and a checkpoint knows of it."""

    def __init__(self, service: Service) -> None:
        self._service = service
        service.register(project_name="vision")
        for score in (0.1, 0.2, 0.3):
            registry().update(ID, Changes(score=score), ALICE)
        service.register(id=BYSTANDER, name="bystander")
        self.chain: Sequence[Event] = registry().catalog.events(SUBJECT)[0]
        assert len(self.chain) == LENGTH
        self.checkpoint()

    def checkpoint(self) -> list[tuple[str, str]]:
        """Write one that covers all; what the function reports meanwhile."""
        broken: list[tuple[str, str]] = []
        later = utc_now()

        def clock() -> datetime:
            return later + timedelta(minutes=12 + len(self._keys()))

        Checkpointing(registry().catalog.trail, checkpoints(), clock, lambda *what: broken.append(what)).run(
            lambda: True
        )
        return broken

    def _keys(self) -> list[str]:
        return [one["Key"] for one in boto3.client("s3").list_objects_v2(Bucket="audit").get("Contents", [])]

    def documents(self) -> list[dict[str, Any]]:
        """The whole trail, as the API tells it."""
        found, path = [], "/events?limit=1000"
        while path:
            answer = self._service.request("GET", path)
            assert answer.status_code == 200
            found += answer.json_body
            link = answer.headers.get("Link")
            path = f"/events{link.partition('<')[2].partition('>')[0]}" if link else ""
        return found

    def verified(self, with_checkpoint: bool) -> Report:
        verification = Verification()
        verification.read_events(self.documents())
        for key in self._keys()[:1] if with_checkpoint else []:
            verification.compare("c", list(checkpoints().lines(key)))
        return verification.report()

    def head_agrees(self) -> bool:
        """Whether the events of the subject end where its record says."""
        try:
            verify_chain(*registry().catalog.events(SUBJECT))
        except BrokenChain:
            return False
        return True

    def rewrite(self, change: Callable[[Event], Event], first: int = 1) -> None:
        """Write the chain anew from an event on, with digests that are right."""
        prev = self.chain[first - 2].digest if first > 1 else "0" * 64
        for event in self.chain[first - 1 :]:
            event = change(event).model_copy(update={"prev": prev})
            prev = event.digest
            overwrite(event, changes=event.changes, prev=event.prev, digest=event.digest, action=event.action.value)

    def set_head(self, seq: int, digest: str) -> None:
        key = {"pk": {"S": SUBJECT}, "sk": {"S": "META"}}
        boto3.client("dynamodb").update_item(
            TableName="RegistryTable",
            Key=key,
            UpdateExpression="SET #seq = :seq, #digest = :digest",
            ExpressionAttributeNames={"#seq": "seq", "#digest": "digest"},
            ExpressionAttributeValues={":seq": {"N": str(seq)}, ":digest": {"S": digest}},
        )


@pytest.fixture
def stage(service: Service, monkeypatch: pytest.MonkeyPatch) -> Stage:
    # A trail of two days, or most of the time would go to empty ones.
    for module in ("store.trail", "store.checkpoints", "registry.checkpointing"):
        monkeypatch.setattr(f"chalicelib.{module}.BEGINNING", utc_now() - timedelta(days=2))
    return Stage(service)


def found(stage: Stage, with_checkpoint: bool = True) -> list[tuple[str, int, str]]:
    return [(one.subject, one.seq, one.by) for one in stage.verified(with_checkpoint).findings]


def test_a_trail_with_which_nobody_tampered_is_whole(stage):
    report = stage.verified(with_checkpoint=True)

    assert report.findings == []
    assert report.heads_compared == report.subjects == 4
    assert stage.head_agrees()
    assert stage.checkpoint() == []


# --- By the chain ------------------------------------------------------------------------------------------------

EDITED = {
    "event_id": "01K9ZZB2M3N4P5Q6R7S8T9V0WX",
    "at": "2026-01-02T03:04:05.000000Z",
    "action": "version.deleted",
    "actor": '{"kind":"anonymous","name":"mallory","request_id":null,"source_ip":null,"user_agent":null}',
    "changes": '{"score":[0.5,0.9]}',
    "about": '[{"project_id": null, "project_name": "other", "name": "detector"}]',
    "prev": "f" * 64,
    "digest": "f" * 64,
}


@pytest.mark.parametrize("seq", [1, 2, LENGTH])
@pytest.mark.parametrize(
    ("attribute", "value"), [*EDITED.items(), *((name, None) for name in EDITED if name != "event_id")]
)
def test_a_field_that_was_edited_or_taken_away_is_found_by_the_chain(stage, attribute, value, seq):
    overwrite(stage.chain[seq - 1], **{attribute: value})

    assert (SUBJECT, seq, "chain") in found(stage, with_checkpoint=False)


def test_every_attribute_of_an_event_is_edited_here_but_keys_and_what_indexes_need(stage):
    assert stored(stage.chain[0]).keys() - EDITED.keys() == {"pk", "sk", "day", "project_day"}


@pytest.mark.parametrize("seq", [1, 2, LENGTH - 1])
def test_an_event_that_was_dropped_is_found_by_the_chain(stage, seq):
    drop(stage.chain[seq - 1])

    assert stage.verified(with_checkpoint=False).findings == [
        Finding(SUBJECT, seq, f"event {seq} is missing, event {seq + 1} follows", "chain")
    ]


@pytest.mark.parametrize("hidden", [{"day": "1999-01-01"}, {"day": None}, {"event_id": None}])
def test_an_event_that_was_hidden_from_the_index_is_found_by_the_chain(stage, hidden):
    overwrite(stage.chain[1], **hidden)

    assert found(stage, with_checkpoint=False) == [(SUBJECT, 2, "chain")]
    # Read by its subject, which takes no index, it is there.
    by_subject = registry().catalog.trail.of_subject(SUBJECT, TrailFilters(), 10)
    assert [entry.seq for entry in by_subject.entries] == [4, 3, 2, 1]


@pytest.mark.parametrize("seq", [1, 2, LENGTH - 1])
def test_an_event_with_a_right_digest_is_found_by_the_one_after_it(stage, seq):
    event = stage.chain[seq - 1].model_copy(update={"changes": "{}"})
    overwrite(event, changes="{}", digest=event.digest)

    assert found(stage, with_checkpoint=False) == [(SUBJECT, seq + 1, "chain")]


def test_events_that_changed_places_are_found_by_the_chain(stage):
    one, other = (stored(stage.chain[seq]) for seq in (1, 2))
    for item, place in ((one, other), (other, one)):
        moved = {**item, "pk": place["pk"], "sk": place["sk"]}
        boto3.client("dynamodb").put_item(TableName="EventsTable", Item=moved)

    assert found(stage, with_checkpoint=False) == [(SUBJECT, 2, "chain")]


def test_an_event_that_was_moved_to_another_subject_is_found_by_both_chains(stage):
    item = stored(stage.chain[1])
    drop(stage.chain[1])
    moved = {**item, "pk": {"S": f"MODEL#{BYSTANDER}"}}
    boto3.client("dynamodb").put_item(TableName="EventsTable", Item=moved)

    assert found(stage, with_checkpoint=False) == [(SUBJECT, 2, "chain"), (f"MODEL#{BYSTANDER}", 2, "chain")]


# --- By the head -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3])
def test_an_end_that_was_cut_off_is_found_by_the_head_and_by_a_checkpoint_but_not_by_the_chain(stage, count):
    for event in stage.chain[-count:]:
        drop(event)

    assert found(stage, with_checkpoint=False) == []
    assert not stage.head_agrees()
    assert found(stage) == [(SUBJECT, LENGTH + 1 - count, "checkpoint")]


def test_the_newest_event_with_a_right_digest_is_found_by_the_head_and_by_a_checkpoint(stage):
    event = stage.chain[-1].model_copy(update={"changes": "{}"})
    overwrite(event, changes="{}", digest=event.digest)

    assert found(stage, with_checkpoint=False) == []
    assert not stage.head_agrees()
    assert found(stage) == [(SUBJECT, LENGTH, "checkpoint")]


def test_an_event_that_was_made_up_at_the_end_is_found_by_the_head(stage):
    last = stage.chain[-1]
    made_up = last.model_copy(update={"seq": last.seq + 1, "prev": last.digest})
    item = {**stored(last), **key_of(made_up), "prev": {"S": made_up.prev}, "digest": {"S": made_up.digest}}
    boto3.client("dynamodb").put_item(TableName="EventsTable", Item=item)

    # All events up to the head are read, and so the one behind it is not: nobody's record names it.
    events, head = registry().catalog.events(SUBJECT)
    assert head.seq == LENGTH
    assert made_up not in events
    assert found(stage) == []


@pytest.mark.parametrize(("seq", "digest"), [(LENGTH - 1, None), (LENGTH, "f" * 64), (LENGTH + 1, "f" * 64)])
def test_a_head_that_was_forged_is_found_by_the_events(stage, seq, digest):
    stage.set_head(seq, digest or "e" * 64)

    assert not stage.head_agrees()


# --- By a checkpoint ---------------------------------------------------------------------------------------------


def test_an_end_that_was_cut_off_along_with_the_head_is_found_by_a_checkpoint_only(stage):
    drop(stage.chain[-1])
    stage.set_head(LENGTH - 1, stage.chain[-2].digest)

    assert stage.head_agrees()
    assert found(stage, with_checkpoint=False) == []
    assert found(stage) == [(SUBJECT, LENGTH, "checkpoint")]


def test_a_chain_that_was_written_anew_as_a_whole_is_found_by_a_checkpoint_only(stage):
    stage.rewrite(lambda event: event.model_copy(update={"changes": "{}"}))
    stage.set_head(LENGTH, registry().catalog.events(SUBJECT)[0][-1].digest)

    assert stage.head_agrees()
    assert found(stage, with_checkpoint=False) == []
    assert stage.verified(with_checkpoint=True).findings == [
        Finding(SUBJECT, LENGTH, f"event {LENGTH} is another one than checkpoint c says", "checkpoint")
    ]


def test_a_chain_that_was_written_anew_and_went_on_is_found_by_the_checkpoint_from_before(stage):
    stage.rewrite(lambda event: event.model_copy(update={"changes": "{}"}), first=2)
    stage.set_head(LENGTH, registry().catalog.events(SUBJECT)[0][-1].digest)
    registry().update(ID, Changes(score=0.9), ALICE)

    assert stage.head_agrees()
    assert found(stage) == [(SUBJECT, LENGTH, "checkpoint")]


def test_a_subject_that_was_dropped_altogether_is_found_by_a_checkpoint_only(stage):
    for event in stage.chain:
        drop(event)
    boto3.client("dynamodb").delete_item(TableName="RegistryTable", Key={"pk": {"S": SUBJECT}, "sk": {"S": "META"}})

    assert found(stage, with_checkpoint=False) == []
    assert found(stage) == [(SUBJECT, 1, "checkpoint")]


@pytest.mark.parametrize(
    "tamper",
    [
        lambda stage: drop(stage.chain[-1]),
        lambda stage: drop(stage.chain[1]),
        lambda stage: stage.rewrite(lambda event: event.model_copy(update={"changes": "{}"})),
        lambda stage: overwrite(stage.chain[-1], digest="f" * 64),
    ],
    ids=["cut off", "dropped", "written anew", "another digest"],
)
def test_who_writes_the_next_checkpoint_reports_it_and_keeps_the_older_head(stage, tamper):
    tamper(stage)

    broken = stage.checkpoint()

    assert [subject for subject, _ in broken] == [SUBJECT]
    newest = checkpoints().page(utc_now() + timedelta(days=1), 1)[0]
    heads = {line[0]: line[1:] for line in map(json.loads, checkpoints().lines(newest.key)) if len(line) == 3}
    assert heads[SUBJECT] == [LENGTH, stage.chain[-1].digest]


def test_a_checkpoint_cannot_be_replaced_by_who_writes_them(stage):
    known = checkpoints().page(utc_now() + timedelta(days=1), 1)[0]

    assert not checkpoints().add(known, io.BytesIO(b"another"))
    assert found(stage) == []
