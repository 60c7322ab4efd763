"""API tokens on DynamoDB: made and ended with their events, the first one once, whoever else tries."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import boto3
import pytest

from chalicelib.registry.access import Access, Actor, Project, Role
from chalicelib.registry.audit import Action, verify_chain
from chalicelib.registry.errors import Forbidden, InvalidInput, NotFound
from chalicelib.registry.granting import BOOTSTRAP, Granting
from chalicelib.registry.tokens import digest_of, new_token_text
from chalicelib.store.catalog import DynamoCatalog
from chalicelib.store.transactions import Retry
from tests.conftest import ALICE, Announced, Clock, ulids
from tests.store.faults import one_call_at_a_time

LIMITED = Access(role=Role.PUBLISHER, projects=(Project(id="65dc", name="vision"),), name_prefixes=("edge-",))


class Stage:
    """Who gives out tokens, on one set of stores."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.announced = Announced()
        self.new_ulid = ulids()
        retry = Retry(sleep=lambda _: None, jitter=lambda low, high: 0)
        self.catalog = DynamoCatalog("RegistryTable", "EventsTable", self.new_ulid, retry)
        self.granting = Granting(self.catalog, self.clock, self.new_ulid, self.announced)

    def actions(self, token_id: str) -> list[Action]:
        events, head = self.catalog.events(f"TOKEN#{token_id}")
        verify_chain(events, head)
        return [event.action for event in events]


@pytest.fixture
def stage(aws: None) -> Stage:
    return Stage()


def test_a_token_is_found_as_it_was_made(stage: Stage) -> None:
    expires_at = stage.clock.now + timedelta(days=30)

    token, text = stage.granting.create("line 3", LIMITED, expires_at, ALICE)

    kept = stage.catalog.tokens.find(token.id)
    assert kept
    assert kept.token == token
    assert (token.access, token.expires_at, token.created_by) == (LIMITED, expires_at, "alice")
    assert kept.digest == digest_of(text)


def test_neither_the_tables_nor_the_announcement_hold_a_token(stage: Stage) -> None:
    _, text = stage.granting.create("line 3", LIMITED, None, ALICE)

    tables = [boto3.client("dynamodb").scan(TableName=name)["Items"] for name in ("RegistryTable", "EventsTable")]

    assert text[30:] not in repr(tables) + repr(stage.announced.lines)
    assert digest_of(text) in repr(tables[0])
    assert digest_of(text) not in repr(tables[1])


def test_a_token_is_revoked_once_and_says_so_ever_after(stage: Stage) -> None:
    token, _ = stage.granting.create("line 3", LIMITED, None, ALICE)

    for _ in range(2):
        stage.granting.revoke(token.id, ALICE)

    kept = stage.catalog.tokens.find(token.id)
    assert kept
    assert kept.token.state(stage.clock()) == "revoked"
    assert stage.actions(token.id) == [Action.TOKEN_CREATED, Action.TOKEN_REVOKED]
    assert [action for action, *_ in stage.announced.lines] == [Action.TOKEN_CREATED, Action.TOKEN_REVOKED]


def test_of_many_that_revoke_at_once_one_does(stage: Stage) -> None:
    token, _ = stage.granting.create("line 3", LIMITED, None, ALICE)

    with one_call_at_a_time(), ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: stage.granting.revoke(token.id, ALICE), range(8)))

    assert stage.actions(token.id) == [Action.TOKEN_CREATED, Action.TOKEN_REVOKED]


def test_an_unknown_token_cannot_be_revoked(stage: Stage) -> None:
    with pytest.raises(NotFound):
        stage.granting.revoke("0" * 26, ALICE)


def test_a_token_that_has_expired_is_not_made(stage: Stage) -> None:
    with pytest.raises(InvalidInput, match="in the future"):
        stage.granting.create("line 3", LIMITED, stage.clock.now, ALICE)


def test_who_is_limited_gives_out_no_token(stage: Stage) -> None:
    limited = Actor(access=Access(role=Role.ADMIN, projects=(Project(name="vision"),)))

    for attempt in (
        lambda: stage.granting.create("x", Access(), None, limited),
        lambda: stage.granting.revoke("0" * 26, limited),
    ):
        with pytest.raises(Forbidden, match="without limits"):
            attempt()

    assert stage.catalog.tokens.page(10) == ([], None)


def test_tokens_are_listed_in_pages_in_order_of_their_making(stage: Stage) -> None:
    made = [stage.granting.create(f"token {number}", LIMITED, None, ALICE)[0] for number in range(5)]

    first, after = stage.catalog.tokens.page(3)
    rest, end = stage.catalog.tokens.page(3, after)

    assert [kept.token for kept in [*first, *rest]] == made
    assert end is None


def test_a_use_is_noted_at_most_hourly_and_changes_nothing_else(stage: Stage) -> None:
    token, _ = stage.granting.create("line 3", LIMITED, None, ALICE)
    start = stage.clock.now
    for minutes in (0, 59, 61):
        stage.catalog.tokens.note_use(token.id, start + timedelta(minutes=minutes))

    kept = stage.catalog.tokens.find(token.id)

    assert kept
    assert kept.last_used_at == start + timedelta(minutes=61)
    assert kept.token == token
    assert stage.actions(token.id) == [Action.TOKEN_CREATED]


def test_a_use_that_cannot_be_noted_fails_nobody(stage: Stage) -> None:
    stage.catalog.tokens.note_use("0" * 26, stage.clock.now)

    assert stage.catalog.tokens.find("0" * 26) is None


def first_token(stage: Stage) -> tuple[str, str]:
    text = new_token_text(stage.new_ulid())
    return text[3:29], digest_of(text)


def test_the_first_admin_is_made_from_a_digest(stage: Stage) -> None:
    token_id, digest = first_token(stage)

    token = stage.granting.bootstrap(token_id, "ops", digest)

    kept = stage.catalog.tokens.find(token_id)
    assert kept
    assert kept.token == token
    assert kept.digest == digest
    assert token.access.is_unlimited_admin
    events, _ = stage.catalog.events(f"TOKEN#{token_id}")
    assert [event.actor.name for event in events] == [BOOTSTRAP.name]


def test_a_repetition_of_the_first_is_the_same(stage: Stage) -> None:
    token_id, digest = first_token(stage)

    first, second = (stage.granting.bootstrap(token_id, "ops", digest) for _ in range(2))

    assert first == second
    assert stage.actions(token_id) == [Action.TOKEN_CREATED]


@pytest.mark.parametrize("end", ["revoked", "viewer"])
def test_a_repetition_that_would_give_nothing_is_not_called_made(stage: Stage, end: str) -> None:
    if end == "viewer":
        viewer, text = stage.granting.create("line 3", Access(role=Role.VIEWER), None, ALICE)
        token_id, digest = viewer.id, digest_of(text)
    else:
        token_id, digest = first_token(stage)
        stage.granting.bootstrap(token_id, "ops", digest)
        stage.granting.revoke(token_id, ALICE)

    with pytest.raises(Forbidden, match="the id is taken"):
        stage.granting.bootstrap(token_id, "ops", digest)


def test_there_is_no_second_first_admin(stage: Stage) -> None:
    stage.granting.bootstrap(*(lambda made: (made[0], "ops", made[1]))(first_token(stage)))
    token_id, digest = first_token(stage)

    with pytest.raises(Forbidden, match="There is an admin already"):
        stage.granting.bootstrap(token_id, "intruder", digest)

    assert stage.catalog.tokens.find(token_id) is None


def test_an_id_that_is_taken_is_not_taken_over(stage: Stage) -> None:
    viewer, _ = stage.granting.create("line 3", Access(role=Role.VIEWER), None, ALICE)

    with pytest.raises(Forbidden):
        stage.granting.bootstrap(viewer.id, "ops", digest_of("another"))

    kept = stage.catalog.tokens.find(viewer.id)
    assert kept
    assert kept.token == viewer


@pytest.mark.parametrize("access", [Access(role=Role.PUBLISHER), Access(projects=(Project(name="vision"),))])
def test_tokens_that_can_make_none_do_not_stand_in_the_way(stage: Stage, access: Access) -> None:
    stage.granting.create("x", access, None, ALICE)
    token_id, digest = first_token(stage)

    assert stage.granting.bootstrap(token_id, "ops", digest).access.is_unlimited_admin


def test_there_is_a_way_back_when_all_admins_are_gone(stage: Stage) -> None:
    token_id, digest = first_token(stage)
    stage.granting.bootstrap(token_id, "ops", digest)
    stage.granting.revoke(token_id, ALICE)
    token_id, digest = first_token(stage)

    assert stage.granting.bootstrap(token_id, "ops", digest).id == token_id


def test_there_is_a_way_back_when_the_only_admin_has_lost_the_token(stage: Stage) -> None:
    token_id, digest = first_token(stage)
    stage.granting.bootstrap(token_id, "ops", digest)
    # By hand, as docs/security.md says.
    key = {"pk": {"S": f"TOKEN#{token_id}"}, "sk": {"S": "META"}}
    boto3.client("dynamodb").delete_item(TableName="RegistryTable", Key=key)
    another_id, digest = first_token(stage)

    assert stage.granting.bootstrap(another_id, "ops", digest).id == another_id


def test_of_many_first_admins_at_once_there_is_one(stage: Stage) -> None:
    made = [first_token(stage) for _ in range(8)]

    def bootstrap(one: tuple[str, str]) -> bool:
        try:
            return bool(stage.granting.bootstrap(one[0], "ops", one[1]))
        except Forbidden:
            return False

    with one_call_at_a_time(), ThreadPoolExecutor(8) as threads:
        outcomes = list(threads.map(bootstrap, made))

    assert sum(outcomes) == 1
    assert len(stage.catalog.tokens.page(10)[0]) == 1
