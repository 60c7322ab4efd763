"""What Geti sends: data within limits, packages in chunks, whole or not at all."""

import gzip
from collections.abc import Iterator
from contextlib import closing

import pytest

from chalicelib.geti.errors import GetiBusy, GetiError, GetiRefused, NotGeti
from chalicelib.geti.exchange import Limits, Request
from chalicelib.geti.transport import CHUNK_BYTES, Transport
from tests.geti_client import Time, package_of, received, transport_to
from tests.simulators.geti import GetiServer, World

INFO = Request("GET", "/api/v1/product_info")
MIB = 1024**2


@pytest.fixture
def geti() -> Iterator[GetiServer]:
    with GetiServer(World(), profile="2.10") as server:
        yield server


@pytest.fixture
def transport(geti: GetiServer) -> Iterator[Transport]:
    with closing(transport_to(geti)) as made:
        yield made


def test_data_has_a_limit(geti: GetiServer) -> None:
    with closing(transport_to(geti, limits=Limits(json_bytes=100))) as transport:
        with pytest.raises(GetiRefused, match="more than 100 bytes"):
            transport.json(INFO)


@pytest.mark.parametrize("body", [b"[" * 100_000, b"9" * 5000, b"\xff\xff", b"null"])
def test_hostile_data_is_no_data(transport: Transport, geti: GetiServer, body: bytes) -> None:
    geti.fail("product_info", status=200, body=body, headers={"Content-Type": "application/json"})

    with pytest.raises(NotGeti, match="JSON that cannot be read"):
        transport.json(INFO)


def test_an_encoding_that_was_not_asked_for_is_refused(transport: Transport, geti: GetiServer) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    geti.fail("product_info", status=200, body=gzip.compress(bytes(MIB)), headers=headers)

    with pytest.raises(GetiRefused, match="in the encoding gzip"):
        transport.json(INFO)


def test_a_package_comes_in_chunks_of_a_mebibyte(transport: Transport, geti: GetiServer) -> None:
    with transport.stream(package_of(geti, size=5 * MIB)) as stream:
        sizes = [len(chunk) for chunk in stream.chunks]

    assert sizes[:5] == [CHUNK_BYTES] * 5
    assert len(sizes) == 6
    assert sum(sizes) == stream.size == geti.downloads[0].size
    assert stream.file_name == "Deployment-Bottle caps.zip"


def test_a_package_is_fetched_as_it_is_used(transport: Transport, geti: GetiServer) -> None:
    with transport.stream(package_of(geti, size=64 * MIB)) as stream:
        next(stream.chunks)

    assert geti.downloads[0].sent < 32 * MIB


def test_who_stops_early_closes_the_connection(transport: Transport, geti: GetiServer) -> None:
    package = package_of(geti, size=64 * MIB)

    with transport.stream(package) as stream:
        next(stream.chunks)
    transport.json(INFO)

    assert [asked.connection for asked in geti.requests] == [1, 2]
    assert not geti.downloads[0].is_complete


def test_packages_in_chunks_of_http_come_whole(transport: Transport, geti: GetiServer) -> None:
    geti.is_chunked = True

    assert received(transport, package_of(geti, size=2 * MIB)) == geti.downloads[0].size

    geti.fail("deployment_package", "short", after_bytes=MIB)
    with pytest.raises(GetiBusy, match=r"broke off after \d+ bytes"):
        received(transport, package_of(geti, size=2 * MIB))


@pytest.mark.parametrize("how", ["short", "reset", "stall"])
def test_a_package_that_breaks_off_says_how_far_it_came(geti: GetiServer, how: str) -> None:
    package = package_of(geti, size=3 * MIB)
    geti.fail("deployment_package", how, after_bytes=2 * MIB)

    with closing(transport_to(geti, limits=Limits(package_read_seconds=0.1))) as transport:
        with pytest.raises(GetiBusy, match=r"(broke off|stood still) after \d+ of 315\d{4} bytes. It is tried again"):
            received(transport, package)

    assert len(geti.requests) == 1


def test_what_came_before_a_package_broke_off_was_handed_out_once(transport: Transport, geti: GetiServer) -> None:
    package = package_of(geti, size=3 * MIB)
    geti.fail("deployment_package", "short", after_bytes=2 * MIB)
    chunks: list[bytes] = []

    with transport.stream(package) as stream:
        with pytest.raises(GetiBusy, match=f"after {2 * MIB} of"):
            chunks.extend(stream.chunks)

    assert [len(chunk) for chunk in chunks] == [MIB, MIB]
    assert [asked.route for asked in geti.requests] == ["deployment_package"]


def test_a_package_that_takes_for_ever_is_given_up(geti: GetiServer) -> None:
    package = package_of(geti, size=4 * MIB)

    with closing(transport_to(geti, Time(step=1))) as transport:
        with transport.stream(package, seconds=20) as stream:
            with pytest.raises(GetiBusy, match="took too long altogether"):
                list(stream.chunks)


@pytest.mark.parametrize(("kind", "error"), [("text/html", NotGeti), ("application/json", GetiRefused)])
def test_a_page_instead_of_a_package_is_refused(
    transport: Transport, geti: GetiServer, kind: str, error: type[GetiError]
) -> None:
    geti.fail("deployment_package", status=200, body=b"<html>", headers={"Content-Type": kind})

    with pytest.raises(error, match=f"{kind}, where a file is expected"):
        received(transport, package_of(geti))


def test_an_error_of_who_uses_a_package_is_their_own(transport: Transport, geti: GetiServer) -> None:
    def use() -> None:
        with transport.stream(package_of(geti, size=8 * MIB)) as stream:
            next(stream.chunks)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        use()
    transport.json(INFO)

    assert transport.requests == 2


@pytest.mark.parametrize(
    ("stated", "name"),
    [
        ("attachment; filename=OpenVINO_model.zip", "OpenVINO_model.zip"),
        ('attachment; filename="Deployment-a/../b.zip"', "b.zip"),
        ("attachment; filename*=UTF-8''D%C3%A9ploiement.zip", "Déploiement.zip"),
        ('attachment; filename="caps \xf0\x9f\x8d\xbe.zip"', "caps 🍾.zip"),
        ("attachment", None),
        ("", None),
        (f"attachment; filename={'x' * 2000}.zip", "x" * 251 + ".zip"),
    ],
)
def test_a_package_is_called_as_geti_says_if_that_is_safe(
    transport: Transport, geti: GetiServer, stated: str, name: str | None
) -> None:
    geti.fail("deployment_package", status=200, body=b"PK", headers={"Content-Disposition": stated, "Content-Type": ""})

    with transport.stream(package_of(geti)) as stream:
        assert stream.file_name == name
