"""Whom the client of Geti trusts with its token, and with what it is told: tokens, redirects, TLS."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from chalicelib.geti.errors import GetiMisconfigured, GetiRefused, GetiUnauthorized, NotGeti
from chalicelib.geti.exchange import Request
from chalicelib.geti.transport import Tls, Transport
from tests.geti_client import Time, Tokens, package_of, received, transport_to
from tests.simulators.geti import VALID_TOKEN, Certificate, GetiServer, World, make_certificate, token_of

INFO = Request("GET", "/api/v1/product_info")
OTHER_TOKEN = token_of(b"\1" * 32)


@pytest.fixture
def geti() -> Iterator[GetiServer]:
    with GetiServer(World(), profile="2.10") as server:
        yield server


@pytest.fixture
def transport(geti: GetiServer) -> Iterator[Transport]:
    with closing(transport_to(geti)) as made:
        yield made


# The token.


def test_a_token_that_was_replaced_is_read_anew_and_used(geti: GetiServer) -> None:
    time = Time()
    tokens = Tokens([VALID_TOKEN, OTHER_TOKEN])
    geti.token = OTHER_TOKEN

    with closing(transport_to(geti, time, tokens)) as transport:
        transport.json(INFO)
        transport.json(INFO)

    assert tokens.renewals == 1
    assert [asked.status for asked in geti.requests] == [401, 200, 200]
    assert not time.slept


def test_a_request_that_changes_something_is_sent_again_with_the_new_token(geti: GetiServer) -> None:
    prepare = replace(package_of(geti), is_read=False)
    geti.token = OTHER_TOKEN

    with closing(transport_to(geti, token=Tokens([VALID_TOKEN, OTHER_TOKEN]))) as transport:
        assert received(transport, prepare)

    assert [asked.status for asked in geti.requests] == [401, 200]


@pytest.mark.parametrize(("texts", "requests"), [([OTHER_TOKEN], 1), ([OTHER_TOKEN, token_of(bytes(32))], 2)])
def test_a_token_that_is_refused_is_read_anew_once(geti: GetiServer, texts: list[str | None], requests: int) -> None:
    tokens = Tokens(texts)

    with closing(transport_to(geti, token=tokens)) as transport:
        with pytest.raises(GetiUnauthorized):
            transport.json(INFO)

    assert tokens.renewals == 1
    assert len(geti.requests) == requests


@pytest.mark.parametrize("text", ["geti_pat", "hunter2", f'"{VALID_TOKEN}"', VALID_TOKEN[9:]])
def test_what_is_no_token_is_not_sent_and_not_shown(geti: GetiServer, text: str) -> None:
    with closing(transport_to(geti, token=lambda _: text)) as transport:
        with pytest.raises(GetiMisconfigured, match="not a Geti personal access token: expected geti_pat_") as raised:
            transport.json(INFO)

    assert text not in str(raised.value).replace("geti_pat_...", "")
    assert not geti.requests


@pytest.mark.parametrize("text", [VALID_TOKEN[:-1], VALID_TOKEN[:20], VALID_TOKEN + "\nx: y", VALID_TOKEN * 2])
def test_a_token_that_was_cut_off_is_not_sent_and_told_from_another_secret(geti: GetiServer, text: str) -> None:
    with closing(transport_to(geti, token=lambda _: text)) as transport:
        with pytest.raises(GetiMisconfigured, match="not a whole Geti personal access token: expected 59") as raised:
            transport.json(INFO)

    assert text not in str(raised.value)
    assert not geti.requests


def test_a_token_with_a_mistake_is_not_sent(geti: GetiServer) -> None:
    mistaken = VALID_TOKEN.replace("AuLt", "AuLT")

    with closing(transport_to(geti, token=lambda _: mistaken)) as transport:
        with pytest.raises(GetiMisconfigured, match="its checksum differs"):
            transport.json(INFO)

    assert not geti.requests


def test_a_token_that_cannot_be_read_holds_no_connection(geti: GetiServer) -> None:
    def unreadable(is_anew: bool) -> str:
        if is_anew:
            raise ZeroDivisionError
        return OTHER_TOKEN

    with closing(transport_to(geti, token=unreadable)) as transport:
        for _ in range(20):
            with pytest.raises(ZeroDivisionError):
                transport.json(INFO)

    assert len(geti.requests) == 20


def test_blanks_around_a_token_are_left_out(geti: GetiServer) -> None:
    with closing(transport_to(geti, token=lambda _: f" {VALID_TOKEN}\n")) as transport:
        transport.json(INFO)

    assert geti.requests[0].status == 200


def test_a_server_that_wants_a_token_that_nobody_set_is_told(geti: GetiServer) -> None:
    with closing(transport_to(geti, token=lambda _: None)) as transport:
        with pytest.raises(GetiMisconfigured, match=r"it wants a token. Set GETI_TOKEN"):
            transport.json(INFO)

    assert not geti.requests[0].has_token


def test_the_token_is_in_no_error_no_log_line_and_no_text(
    transport: Transport, geti: GetiServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    geti.fail("product_info", status=422, body={"message": f"no use for {VALID_TOKEN}, sorry"}, times=1)

    with pytest.raises(GetiRefused, match=r"no use for geti_pat_..., sorry") as raised:
        transport.json(INFO)
    transport.json(INFO)

    said = "".join((str(raised.value), repr(raised.value), repr(transport), caplog.text))
    assert VALID_TOKEN not in said
    assert VALID_TOKEN[9:52] not in said


# Redirects.


def moved(geti: GetiServer, location: str) -> Request:
    geti.fail("product_info", status=307, body=b"", headers={"Location": location}, times=1)
    return replace(INFO, may_redirect=True)


@pytest.mark.parametrize("location", ["/health?secret=presigned", "{url}/health?secret=presigned"])
def test_a_redirect_on_the_same_host_is_followed_without_the_token(
    transport: Transport, geti: GetiServer, caplog: pytest.LogCaptureFixture, location: str
) -> None:
    caplog.set_level(logging.DEBUG)
    request = moved(geti, location.format(url=geti.url))

    with pytest.raises(NotGeti, match="HTML") as raised:  # no API there
        transport.json(request)

    assert [asked.target for asked in geti.requests] == ["/api/v1/product_info", "/health?secret=presigned"]
    assert [asked.has_token for asked in geti.requests] == [True, False]
    assert "presigned" not in str(raised.value) + caplog.text


@pytest.mark.parametrize(
    "location",
    [
        "https://geti.example/api",
        "//geti.example/api",
        "http://127.0.0.1:9/api",
        "https://{host}/api",
        "http://127.0.0.1@geti.example/api",
        "ftp://{host}/x",
        "http://[::1",
        "http://127.0.0.1:port/",
        "",
    ],
)
def test_a_redirect_elsewhere_is_refused(transport: Transport, geti: GetiServer, location: str) -> None:
    request = moved(geti, location.format(host=geti.url.removeprefix("http://")))

    with pytest.raises(GetiRefused, match=f"was redirected, but not to a place on {geti.url}"):
        transport.json(request)

    assert len(geti.requests) == 1


@pytest.mark.parametrize("status", [401, 403])
def test_a_redirect_to_what_has_expired_is_asked_for_anew(transport: Transport, geti: GetiServer, status: int) -> None:
    request = moved(geti, "/health")
    geti.fail("unknown", status=status, body=b"<Error/>", headers={"Content-Type": "application/xml"})

    transport.json(request)

    assert [asked.path for asked in geti.requests] == [INFO.path, "/health", INFO.path]


def test_a_second_redirect_is_not_followed(transport: Transport, geti: GetiServer) -> None:
    request = moved(geti, "/health")
    geti.fail("unknown", status=302, body=b"", headers={"Location": "/"})

    with pytest.raises(NotGeti, match="Redirects are not followed"):
        transport.json(request)

    assert len(geti.requests) == 2


def test_other_redirects_are_not_followed(transport: Transport, geti: GetiServer) -> None:
    moved(geti, "/health")

    with pytest.raises(NotGeti, match=r"307. Redirects are not followed"):
        transport.json(INFO)

    assert len(geti.requests) == 1


# TLS.


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    return make_certificate(tmp_path)


@pytest.fixture
def secure(certificate: Certificate) -> Iterator[GetiServer]:
    with GetiServer(World(), tls=certificate) as server:
        yield server


@pytest.mark.parametrize("is_text", [False, True], ids=["file", "text"])
def test_who_signed_the_certificate_is_a_file_or_its_text(
    secure: GetiServer, certificate: Certificate, is_text: bool
) -> None:
    bundle = certificate.authority.read_text() if is_text else str(certificate.authority)

    with closing(transport_to(secure, tls=Tls(ca_bundle=bundle))) as transport:
        transport.json(INFO)
        size = received(transport, package_of(secure, size=3 * 1024**2))

    assert size == secure.downloads[0].size
    assert {asked.connection for asked in secure.requests} == {1}


def test_a_certificate_of_an_unknown_signer_is_not_trusted(secure: GetiServer) -> None:
    time = Time()

    with closing(transport_to(secure, time)) as transport:
        with pytest.raises(GetiMisconfigured, match=r"is not trusted: .*[.] Set GETI_CA_BUNDLE to the certificate"):
            transport.json(INFO)

    assert not secure.requests
    assert not time.slept


def test_a_certificate_of_another_name_is_not_trusted(tmp_path: Path) -> None:
    other = make_certificate(tmp_path, ("geti.example",))

    with GetiServer(World(), tls=other) as geti:
        with closing(transport_to(geti, tls=Tls(ca_bundle=str(other.authority)))) as transport:
            with pytest.raises(GetiMisconfigured, match=r"made out to another name: .*127.0.0.1.*Set GETI_HOST"):
                transport.json(INFO)

    assert not geti.requests


def test_a_certificate_that_has_expired_is_not_trusted(tmp_path: Path) -> None:
    old = make_certificate(tmp_path, valid=(datetime(2020, 1, 1, tzinfo=UTC), datetime(2020, 1, 2, tzinfo=UTC)))

    with GetiServer(World(), tls=old) as geti:
        with closing(transport_to(geti, tls=Tls(ca_bundle=str(old.authority)))) as transport:
            with pytest.raises(GetiMisconfigured, match="has expired: give Geti a new one"):
                transport.json(INFO)


def test_the_certificate_is_not_checked_only_if_the_operator_says_so(secure: GetiServer) -> None:
    with warnings.catch_warnings(record=True) as warned:
        with closing(transport_to(secure, tls=Tls(verify=False))) as transport:
            transport.json(INFO)
            transport.json(INFO)

    assert len(secure.requests) == 2
    assert not warned


def test_a_bundle_may_have_remarks_in_any_language(secure: GetiServer, certificate: Certificate) -> None:
    bundle = f"# Société Générale d'Automatisation\n{certificate.authority.read_text()}"

    with closing(transport_to(secure, tls=Tls(ca_bundle=bundle))) as transport:
        transport.json(INFO)


@pytest.mark.parametrize(
    ("bundle", "text"),
    [
        ("/nowhere/ca.pem", "GETI_CA_BUNDLE: /nowhere/ca.pem is no readable PEM file"),
        (__file__, "GETI_CA_BUNDLE: .* is no readable PEM file"),
        ("-----BEGIN CERTIFICATE-----\nhello\n-----END CERTIFICATE-----", "GETI_CA_BUNDLE: its text is no"),
    ],
)
def test_what_is_no_bundle_of_certificates_is_told(secure: GetiServer, bundle: str, text: str) -> None:
    with closing(transport_to(secure, tls=Tls(ca_bundle=bundle))) as transport:
        with pytest.raises(GetiMisconfigured, match=text):
            transport.json(INFO)


def test_a_server_without_tls_is_told_from_one_with(geti: GetiServer) -> None:
    url = geti.url.replace("http://", "https://")

    with closing(transport_to(geti, url=url)) as transport:
        with pytest.raises(GetiMisconfigured, match="does not speak TLS"):
            transport.json(INFO)
