"""From the Authorization header to who asks; tokens are remembered for half a minute."""

import base64
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.authentication import MAX_REMEMBERED, REMEMBERED_SECONDS, Authentication
from chalicelib.registry.access import Access, Role
from chalicelib.registry.errors import Unauthenticated
from chalicelib.registry.tokens import StoredToken, Token, checksum_of, digest_of
from tests.conftest import Clock


def spelled(number: int, secret: str = "0") -> str:
    """A token that is the same in each run, for tests are named after it."""
    stem = f"mr_01{number:024d}_{secret:>043}"
    return stem + checksum_of(stem)


TEXT, OTHER_SECRET, UNKNOWN = spelled(1), spelled(1, "1"), spelled(9)


class Kept:
    """The tokens of a store that counts how often it is asked."""

    def __init__(self, *tokens: StoredToken) -> None:
        self.tokens = {kept.token.id: kept for kept in tokens}
        self.asked: list[str] = []
        self.noted: list[str] = []

    def find(self, token_id: str) -> StoredToken | None:
        self.asked.append(token_id)
        return self.tokens.get(token_id)

    def note_use(self, token_id: str, at: datetime) -> None:
        self.noted.append(token_id)
        self.tokens[token_id] = self.tokens[token_id].model_copy(update={"last_used_at": at})


def kept(text: str = TEXT, **fields: object) -> StoredToken:
    token = Token(
        **{
            "id": text[3:29],
            "name": "line 3",
            "access": Access(role=Role.VIEWER),
            "created_at": Clock().now,
            "created_by": "alice",
            **fields,
        }
    )
    return StoredToken(token=token, digest=digest_of(text))


class Stage:
    """An Authentication over some tokens, with a clock that is set on by hand."""

    def __init__(self, *tokens: StoredToken) -> None:
        self.clock = Clock()
        self.seconds = 0.0
        self.store = Kept(*tokens)
        self.authenticate = Authentication(self.store, self.clock, lambda: self.seconds)

    def pass_by(self, seconds: float) -> None:
        self.seconds += seconds
        self.clock.now += timedelta(seconds=seconds)


def basic(user: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


@pytest.mark.parametrize(
    "header",
    [
        f"Bearer {TEXT}",
        f"bearer  {TEXT} ",
        basic("any one", TEXT),
        basic("", TEXT),
        basic("jürgen", TEXT),
        f"Basic {base64.b64encode('jürgen:'.encode('latin-1') + TEXT.encode()).decode()}",
        f"basic {basic('x', TEXT)[6:]}",
    ],
)
def test_bearer_and_basic_carry_the_same_token(header: str) -> None:
    actor = Stage(kept()).authenticate(header)

    assert (actor.kind, actor.name, actor.token_id, actor.role) == ("token", "line 3", TEXT[3:29], Role.VIEWER)
    assert actor.access == Access(role=Role.VIEWER)


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (None, "This needs a token"),
        ("", "This needs a token"),
        (TEXT, "a scheme that is not known"),
        ("Digest x", "a scheme that is not known"),
        ("Bearer", "no token of this registry"),
        ("Bearer mr_x", "no token of this registry"),
        (f"Bearer {TEXT[:-1]}", "no token of this registry"),
        ("Basic !", "not base64"),
        ("Basic Ov8=", "not base64"),
        ("Basic /w==", "no token of this registry"),
        (f"Basic {base64.b64encode(TEXT.encode()).decode()}", "no token of this registry"),
        (basic(TEXT, ""), "no token of this registry"),
        (f"Bearer {OTHER_SECRET}", "not known here"),
        (f"Bearer {UNKNOWN}", "not known here"),
    ],
)
def test_what_is_wrong_with_the_credentials_is_said_but_not_repeated(header: str | None, said: str) -> None:
    with pytest.raises(Unauthenticated, match=said) as caught:
        Stage(kept()).authenticate(header)

    assert "mr_0" not in str(caught.value)


@given(st.text() | st.binary().map(lambda raw: f"Basic {base64.b64encode(raw).decode()}"))
def test_no_header_is_answered_with_anything_else(header: str) -> None:
    with pytest.raises(Unauthenticated):
        Stage(kept()).authenticate(header)


def test_a_revoked_or_expired_token_is_told_so() -> None:
    for fields, said in (({"revoked_at": Clock().now}, "is revoked"), ({"expires_at": Clock().now}, "is expired")):
        with pytest.raises(Unauthenticated, match=said):
            Stage(kept(**fields)).authenticate(f"Bearer {TEXT}")


def test_who_has_the_wrong_secret_does_not_learn_that_a_token_was_revoked() -> None:
    with pytest.raises(Unauthenticated, match="not known here"):
        Stage(kept(revoked_at=Clock().now)).authenticate(f"Bearer {OTHER_SECRET}")


def test_a_token_is_asked_for_once_in_half_a_minute_an_unknown_one_too() -> None:
    stage = Stage(kept())
    for _ in range(3):
        stage.authenticate(f"Bearer {TEXT}")
        with pytest.raises(Unauthenticated):
            stage.authenticate(f"Bearer {UNKNOWN}")

    assert sorted(stage.store.asked) == sorted([TEXT[3:29], UNKNOWN[3:29]])


def test_a_revoked_token_dies_when_it_is_forgotten() -> None:
    stage = Stage(kept())
    stage.authenticate(f"Bearer {TEXT}")
    stage.store.tokens[TEXT[3:29]] = kept(revoked_at=stage.clock.now)
    stage.pass_by(REMEMBERED_SECONDS)

    with pytest.raises(Unauthenticated, match="revoked"):
        stage.authenticate(f"Bearer {TEXT}")


def test_noting_a_use_does_not_make_it_remembered_longer() -> None:
    stage = Stage(kept())
    stage.authenticate(f"Bearer {TEXT}")
    stage.pass_by(REMEMBERED_SECONDS - 1)
    stage.store.tokens[TEXT[3:29]] = kept(revoked_at=stage.clock.now)
    stage.authenticate._remembered[TEXT[3:29]][1].__dict__["last_used_at"] = None
    stage.authenticate(f"Bearer {TEXT}")
    stage.pass_by(1)

    with pytest.raises(Unauthenticated, match="revoked"):
        stage.authenticate(f"Bearer {TEXT}")


def test_a_remembered_token_expires_on_time() -> None:
    stage = Stage(kept(expires_at=Clock().now + timedelta(seconds=10)))
    stage.authenticate(f"Bearer {TEXT}")
    stage.pass_by(10)

    with pytest.raises(Unauthenticated, match="expired"):
        stage.authenticate(f"Bearer {TEXT}")


def test_guessing_ids_does_not_fill_the_memory() -> None:
    stage = Stage()
    for number in range(MAX_REMEMBERED + 10):
        with pytest.raises(Unauthenticated):
            stage.authenticate(f"Bearer {spelled(number)}")

    assert len(stage.authenticate._remembered) == MAX_REMEMBERED


def test_a_use_is_noted_once_an_hour() -> None:
    stage = Stage(kept())
    for _ in range(100):
        stage.authenticate(f"Bearer {TEXT}")
        stage.pass_by(60)

    assert len(stage.store.noted) == 2
