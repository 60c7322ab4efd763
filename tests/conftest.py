"""What all tests share: a fixed clock, ids in order, archives, and AWS in memory with the tables of the template."""

import io
import itertools
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from moto import mock_aws
from moto.backends import get_backend

from chalicelib import settings, wiring, wiring_geti, wiring_mlflow
from chalicelib.registry.access import Actor
from chalicelib.registry.audit import Action
from chalicelib.registry.models import Draft, ModelVersion
from chalicelib.registry.service import Parcel, Registry
from chalicelib.store.blobs import S3Blobs
from chalicelib.store.catalog import DynamoCatalog
from tests.quick_moto import have_quick_transactions

pytest_plugins = ["tests.stack"]

ROOT = Path(__file__).parent.parent
ALICE = Actor(name="alice", request_id="r-1", source_ip="192.0.2.1")
BOB = Actor(name="bob")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The whole service first: its files take longest, and the short ones then fill what is left of two processes."""
    items.sort(key=lambda item: "e2e" not in item.path.parts)


def forget_what_was_made() -> None:
    """As a new container: settings, clients and services are made when they are asked for."""
    for module in (settings, wiring, wiring_geti, wiring_mlflow):
        for made in vars(module).values():
            if hasattr(made, "cache_clear"):
                made.cache_clear()


CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
}


class Clock:
    """Time that passes only between two looks at it: one millisecond each."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(milliseconds=1)
        return self.now


def ulids() -> Callable[[], str]:
    """ULIDs that count from 1."""
    numbers = itertools.count(1)
    return lambda: f"01{next(numbers):024d}"


def zip_of(**files: bytes | str) -> bytes:
    """A ZIP archive; a double underscore in a name stands for a dot."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name.replace("__", ".")), content)
    return buffer.getvalue()


ARCHIVE = zip_of(model__txt="weights")


def draft(name: str = "detector", version: str = "v1", **fields: Any) -> Draft:
    fields.setdefault("id", f"model-{name}-{version}".replace(" ", "-").ljust(16, "0"))
    return Draft(name=name, version=version, **fields)


def parcel(content: bytes = ARCHIVE, file_name: str = "model.zip") -> Parcel:
    return Parcel(io.BytesIO(content), file_name)


@dataclass
class Announced:
    """The changes that were announced for the audit log."""

    lines: list[tuple[Action, ModelVersion | None, ModelVersion | None, Actor]] = field(default_factory=list)

    def __call__(self, *line: Any) -> None:
        self.lines.append(line)


class _TemplateLoader(yaml.SafeLoader):
    """Reads CloudFormation's short tags as their plain values."""


_TemplateLoader.add_multi_constructor(
    "!",
    lambda loader, _, node: (
        loader.construct_scalar(node)
        if isinstance(node, yaml.ScalarNode)
        else loader.construct_sequence(node)
        if isinstance(node, yaml.SequenceNode)
        else loader.construct_mapping(node)
    ),
)


@cache
def _template() -> dict[str, Any]:
    return yaml.load((ROOT / "infra/resources.yaml").read_text(), _TemplateLoader)


def template_resource(name: str) -> dict[str, Any]:
    """The properties of a resource in infra/resources.yaml."""
    return _template()["Resources"][name]["Properties"]


def create_tables() -> None:
    """The tables of the template, in whatever AWS is at hand."""
    dynamodb = boto3.client("dynamodb")
    kept = ("AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes", "BillingMode")
    for name in ("RegistryTable", "EventsTable"):
        properties = template_resource(name)
        dynamodb.create_table(TableName=name, **{key: properties[key] for key in kept if key in properties})


def create_stores() -> None:
    """The tables and the buckets."""
    create_tables()
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket="artifacts")
    s3.put_bucket_versioning(Bucket="artifacts", VersioningConfiguration={"Status": "Enabled"})
    create_audit_bucket()


def create_audit_bucket() -> None:
    """The bucket of the checkpoints, locked as in the template."""
    lock = dict(template_resource("AuditBucket")["ObjectLockConfiguration"])
    lock["Rule"] = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 365}}
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket="audit", ObjectLockEnabledForBucket=True)
    s3.put_object_lock_configuration(Bucket="audit", ObjectLockConfiguration=lock)


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials that no AWS knows."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)


@pytest.fixture(scope="module")
def moto() -> Iterator[None]:
    """AWS in memory. Setting it up costs more than most tests, so a module shares it."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        have_quick_transactions(patch)
        with mock_aws():
            yield


@pytest.fixture
def aws(moto: None, credentials: None) -> None:
    """AWS in memory, with our tables and bucket and nothing in them."""
    for service in ("dynamodb", "s3"):
        get_backend(service).reset()
    create_stores()


@pytest.fixture
def announced() -> Announced:
    return Announced()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def registry(aws: None, announced: Announced, clock: Clock) -> Registry:
    """The registry on moto, with a fixed clock and ids in order."""
    new_ulid = ulids()
    s3 = boto3.client("s3")
    return Registry(
        catalog=DynamoCatalog("RegistryTable", "EventsTable", new_ulid),
        blobs=S3Blobs("artifacts", lambda: s3, lambda: s3, 3600, lambda *_: None),
        clock=clock,
        new_ulid=new_ulid,
        announce=announced,
    )
