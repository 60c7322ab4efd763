"""The parsers by themselves: each reads what it is given or refuses it with the error that is documented."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

import httpx
from hypothesis import given
from hypothesis import strategies as st
from modelreg.answers import next_query

from chalicelib import telemetry
from chalicelib.authentication import Authentication
from chalicelib.forms import Unprocessable, form_of
from chalicelib.paging import position_of
from chalicelib.registry.access import Access, Actor
from chalicelib.registry.archives import ArchiveReport
from chalicelib.registry.errors import InvalidArchive, RegistryError, Unauthenticated
from chalicelib.registry.models import Draft
from chalicelib.registry.openvino import read_ir
from chalicelib.registry.tokens import StoredToken, Token, digest_of
from chalicelib.surface import parsed
from chalicelib.surfaces.model_fields import RegistrationForm, parcel_of, require_known_keys, stated_fields
from chalicelib.surfaces.models import POSITION
from tests.fuzz.conftest import fuzzed, tally
from tests.fuzz.strategies import (
    GOOD_TOKEN,
    KNOWN_ID,
    KNOWN_UPLOAD,
    SEARCHES,
    authorizations,
    form_bodies,
    link_headers,
    page_tokens,
    texts,
)
from tests.log_lines import captured
from tests.unit.test_archives_fuzz import SEEDS, XML, inspected, mutated

T = TypeVar("T")
E = TypeVar("E", bound=RegistryError)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def result_of(parse: Callable[[], T], documented: type[E]) -> T | E:
    """What was read, or the documented error, whose text can be shown anywhere; any other error fails the test."""
    try:
        return parse()
    except documented as exc:
        error = exc
    assert str(error).isprintable()
    return error


def drafted(body: bytes, content_type: str) -> Draft:
    form = form_of(body, content_type)
    require_known_keys(form, set(RegistrationForm.model_fields))
    fields = {name: value for name, value in stated_fields(form).items() if value is not None}
    draft = parsed(Draft, {"id": KNOWN_ID, **fields}, "body")
    draft.check_limits()
    if "file" in form.files:
        parcel_of(form)
    return draft


@fuzzed(0.24)
@given(form_bodies)
def test_a_form_is_read_or_refused(sent):
    draft = result_of(lambda: drafted(*sent), RegistryError)

    tally("forms", draft.code if isinstance(draft, RegistryError) else "read")
    # What was read can be stored and sent.
    assert isinstance(draft, RegistryError) or Draft.model_validate_json(draft.model_dump_json()) == draft


class KnownTokens:
    """The one token there is."""

    stored = StoredToken(
        token=Token(id=KNOWN_UPLOAD, name="ci", access=Access(), created_at=NOW, created_by="admin"),
        digest=digest_of(GOOD_TOKEN),
        last_used_at=NOW,
    )

    def find(self, token_id: str) -> StoredToken | None:
        return self.stored if token_id == KNOWN_UPLOAD else None


@fuzzed(0.22)
@given(authorizations)
def test_a_header_is_that_of_the_token_or_refused(header):
    authentication = Authentication(KnownTokens(), lambda: NOW, lambda: 0.0)  # type: ignore[arg-type]

    actor = result_of(lambda: authentication(header), Unauthenticated)

    tally("Authorization", "refused" if isinstance(actor, Unauthenticated) else "accepted")
    if isinstance(actor, Unauthenticated):
        assert GOOD_TOKEN[-49:] not in str(actor)
    else:
        assert actor.token_id == KNOWN_UPLOAD
        assert GOOD_TOKEN in header or header.lower().startswith("basic")


@fuzzed(0.12)
@given(page_tokens(), st.sampled_from(SEARCHES[:2]))
def test_a_page_token_is_a_position_of_this_search_or_refused(token, asked):
    position = result_of(lambda: position_of(token, asked, POSITION), Unprocessable)

    tally("page tokens", "refused" if isinstance(position, Unprocessable) else "accepted")
    assert isinstance(position, Unprocessable) or POSITION.fullmatch(position)


@fuzzed(0.10)
@given(mutated(SEEDS[:3]) | mutated(SEEDS) | st.binary(max_size=300))
def test_an_archive_is_reported_or_refused(data):
    outcome = inspected(data)

    tally("archives", "reported" if isinstance(outcome, ArchiveReport) else "refused")
    assert isinstance(outcome, ArchiveReport) or outcome.isprintable()


@fuzzed(0.05)
@given(mutated([XML, XML.decode().encode("utf-16")]), st.integers(1, 200))
def test_an_ir_is_read_or_refused(xml, piece_bytes):
    pieces = [xml[at : at + piece_bytes] for at in range(0, len(xml), piece_bytes)]

    outcome = result_of(lambda: read_ir("model.xml", pieces), InvalidArchive)

    tally("XML", "refused" if isinstance(outcome, InvalidArchive) else "read")


@fuzzed(0.05)
@given(link_headers)
def test_a_link_header_leads_to_a_page_or_nowhere(header):
    answer = httpx.Response(200, headers=[(b"link", header.encode(errors="replace"))])

    query = next_query(answer)

    tally("Link", "a page" if query else "nowhere")
    assert query is None or all(isinstance(value, str) for value in query.values())


@fuzzed(0.05)
@given(texts, texts, texts)
def test_a_line_of_the_log_is_one_line(name, agent, subject):
    actor = Actor(kind="token", name=name, user_agent=agent, token_id=KNOWN_UPLOAD)

    with captured() as lines:
        telemetry.request_line(
            operation="get_model",
            method="GET",
            subject=subject,
            actor=actor,
            outcome="forbidden",
            status=403,
            latency_ms=1,
            reason=name,
        )
        telemetry.bug_line(ValueError(subject))

    tally("log lines", "one line each")
    assert [line.get("message") for line in lines] == ["request", None, "unexpected_error"]


def test_the_form_that_others_are_made_of_is_read():
    body = b'--b\r\nContent-Disposition: form-data; name="name"\r\n\r\ndetector\r\n'
    body += b'--b\r\nContent-Disposition: form-data; name="version"\r\n\r\nv1\r\n--b--\r\n'

    draft = drafted(body, "multipart/form-data; boundary=b")

    assert (draft.name, draft.version) == ("detector", "v1")
