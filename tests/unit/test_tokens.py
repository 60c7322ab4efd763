"""How a token is spelled, and when it counts."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.registry.access import Access, Role
from chalicelib.registry.tokens import BASE_62, Token, checksum_of, digest_of, id_in, is_text_of, new_token_text
from tests.conftest import ulids

AT = datetime(2026, 1, 2, tzinfo=UTC)
ID = ulids()()
STEM = f"mr_{ID}_{'0aZ' * 14}9"
TEXT = STEM + checksum_of(STEM)  # the same in each run, for tests are named after it


def test_a_token_tells_its_id_and_no_two_are_alike() -> None:
    made = [new_token_text(ID) for _ in range(3)]

    assert {id_in(text) for text in made} == {ID}
    assert {len(text) for text in made} == {len("mr_") + 26 + 1 + 43 + 6}
    assert len(set(made)) == 3


def test_the_checksum_is_the_crc_32_of_all_before_it_in_base_62() -> None:
    # CRC-32 of "mr_" is 0x5993D670.
    digits = [1, 39, 43, 52, 48, 8]

    assert checksum_of("mr_") == "".join(BASE_62[digit] for digit in digits)


@given(at=st.integers(3, len(TEXT) - 1), character=st.sampled_from(BASE_62))
def test_a_mistyped_character_is_told_without_a_look_into_the_store(at: int, character: str) -> None:
    mistyped = TEXT[:at] + character + TEXT[at + 1 :]

    assert mistyped == TEXT or id_in(mistyped) is None


@pytest.mark.parametrize("text", ["", "mr_", TEXT[:-1], TEXT + "0", f" {TEXT}", f"{TEXT}\n", TEXT.lower(), "ü" * 79])
def test_anything_else_is_no_token(text: str) -> None:
    assert id_in(text) is None


def test_a_digest_is_of_one_token() -> None:
    assert is_text_of(TEXT, digest_of(TEXT))
    assert not is_text_of(new_token_text(ID), digest_of(TEXT))


def test_a_token_counts_until_it_is_revoked_or_expires() -> None:
    token = Token(id=ID, name="x", access=Access(), created_at=AT, created_by="y", expires_at=AT + timedelta(days=1))

    assert token.state(AT) == "active"
    assert token.state(AT + timedelta(days=1)) == "expired"
    assert token.model_copy(update={"revoked_at": AT}).state(AT + timedelta(days=2)) == "revoked"


def test_only_an_admin_without_limits_can_make_others() -> None:
    def token(access: Access) -> Token:
        return Token(id=ID, name="x", access=access, created_at=AT, created_by="y")

    assert token(Access()).access.is_unlimited_admin
    assert not token(Access(role=Role.PUBLISHER)).access.is_unlimited_admin
    assert not token(Access(name_prefixes=("a",))).access.is_unlimited_admin
