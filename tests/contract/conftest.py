"""The ports, in each implementation: in memory, on moto, and on the running emulator."""

import itertools
from collections.abc import Iterator

import boto3
import pytest

from chalicelib.registry.ports import Blobs, Catalog
from chalicelib.store.blobs import S3Blobs
from chalicelib.store.catalog import DynamoCatalog
from chalicelib.wiring import new_ulid
from tests.conftest import create_stores
from tests.memory import MemoryBlobs, MemoryCatalog

_tests = itertools.count()


@pytest.fixture
def unique() -> str:
    """Text that no other test uses, for stores that outlive a test."""
    return f"test{next(_tests):04}"


@pytest.fixture(scope="module")
def moto_stores(moto: None) -> None:
    """One set of tables for all tests of a module."""
    create_stores()


@pytest.fixture(params=["memory", "moto", "emulator"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, str, str] | None]:
    """Names of tables and bucket in the AWS at hand; None for memory."""
    match request.param:
        case "memory":
            yield None
        case "moto":
            request.getfixturevalue("moto_stores")
            request.getfixturevalue("credentials")
            yield "RegistryTable", "EventsTable", "artifacts"
        case "emulator":
            stack = request.getfixturevalue("stack")
            for name, value in stack.environment.items():
                monkeypatch.setenv(name, value)
            yield stack.table, stack.events_table, stack.bucket


@pytest.fixture
def catalog(place: tuple[str, str, str] | None) -> Catalog:
    return DynamoCatalog(place[0], place[1], new_ulid) if place else MemoryCatalog(new_ulid)


@pytest.fixture
def blobs(place: tuple[str, str, str] | None) -> Iterator[Blobs]:
    if place is None:
        yield MemoryBlobs()
        return
    # A session of its own, since the default one keeps the credentials it met first.
    s3 = boto3.Session().client("s3")
    yield S3Blobs(place[2], lambda: s3, lambda: s3, 60, lambda *_: None)
    s3.close()
