"""How a request is told from others, what is kept of what it came to, and an intent without a key."""

import re
import uuid

import pytest
from chalice.app import Response

from chalicelib.idempotency import KEY, Intent, Made
from chalicelib.registry.audit import Action, Change, begun_by
from chalicelib.registry.errors import Conflict, InProgress, KeyReused
from chalicelib.registry.models import Head
from chalicelib.registry.repetition import Outcome, id_for, request_digest
from tests.conftest import ALICE, BOB, Clock

CALL = ("anonymous", "POST", "/models", "k-1")


def test_a_digest_is_that_of_the_key_and_of_the_content():
    first = request_digest(CALL, {"name": "cat", "version": "v1"})

    assert first == request_digest(CALL, {"version": "v1", "name": "cat"})
    assert first != request_digest((*CALL[:3], "k-2"), {"name": "cat", "version": "v1"})
    assert first != request_digest(CALL, {"name": "cat", "version": "v2"})
    assert re.fullmatch("[0-9a-f]{32}", first)


def test_an_id_of_a_digest_is_a_uuid4_in_form_and_the_same_each_time():
    digest = request_digest(CALL, {})

    assert id_for(digest) == id_for(digest) != id_for(request_digest(CALL, {"name": "cat"}))
    assert uuid.UUID(id_for(digest)).version == 4


def test_an_outcome_is_kept_as_status_and_ids_and_comes_back_whole():
    made = Outcome(status=201, id="model-cat-v10000")
    met = Outcome.of_conflict(Conflict("model-dog-v10000"))

    assert made.model_dump(exclude_none=True) == {"status": 201, "id": "model-cat-v10000"}
    assert met.model_dump(exclude_none=True) == {"status": 409, "code": "conflict", "holder": "model-dog-v10000"}
    assert made.conflict is None
    assert met.conflict
    assert (met.conflict.holder, met.conflict.upload_id) == ("model-dog-v10000", None)


def test_errors_about_a_key_say_what_would_be_right():
    assert "repeat it" in str(InProgress())
    assert InProgress().retry_after_seconds > 0
    assert "take a new key" in str(KeyReused())


@pytest.mark.parametrize("stated", ["k", "k" * 255, "8e03978e-40d5-43dd-bc93-6894a57f9324", '"quoted"'])
def test_a_visible_word_is_a_key(stated):
    assert re.fullmatch(KEY, stated)


@pytest.mark.parametrize(
    "stated", ["", "k" * 256, " k", "k ", "a b", "k\n", "\nk", "k\r\nX-Evil: 1", "k\0", "k\x7f", "ü"]
)
def test_anything_else_is_none(stated):
    assert not re.fullmatch(KEY, stated)


def test_an_intent_without_a_key_is_another_one_each_time():
    intent, answers = Intent(), []

    def do() -> Made:
        answers.append(Response(str(len(answers))))
        return Made("id", answers[-1])

    assert [intent.answer(do), intent.answer(do)] == answers
    assert intent.digest is None
    assert intent.new_id() != intent.new_id()


@pytest.mark.parametrize(
    ("actions", "expected"),
    [
        ([], None),
        ([Action.VERSION_REGISTERED], ALICE),
        ([Action.UPLOAD_OPENED], ALICE),
        ([Action.VERSION_REGISTERED, Action.VERSION_UPDATED], ALICE),
        ([Action.VERSION_REGISTERED, Action.VERSION_DELETED], None),
        ([Action.UPLOAD_OPENED, Action.UPLOAD_ABORTED], None),
        ([Action.UPLOAD_OPENED, Action.UPLOAD_EXPIRED], None),
        ([Action.UPLOAD_OPENED, Action.UPLOAD_FAILED], None),
        ([Action.VERSION_REGISTERED, Action.VERSION_DELETED, Action.UPLOAD_OPENED], BOB),
        ([Action.UPLOAD_OPENED, Action.VERSION_REGISTERED], BOB),
    ],
)
def test_who_began_a_life_is_told_by_its_events(actions, expected):
    actors = [ALICE, BOB, BOB]
    changes = [
        Change(event_id=str(number), at=Clock()(), actor=actors[number], action=action, changes="{}")
        for number, action in enumerate(actions)
    ]
    events = [change.after("MODEL#m", Head()) for change in changes]

    assert begun_by(reversed(events)) == expected
