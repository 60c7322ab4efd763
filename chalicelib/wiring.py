"""Composition root: settings -> clients -> Registry, built on first use, once per container.

wiring_geti.py is its other part: what only the connection to Geti needs.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from chalicelib import telemetry
from chalicelib.authentication import Authentication
from chalicelib.registry.errors import Forbidden
from chalicelib.registry.service import Registry
from chalicelib.settings import settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from chalicelib.registry.granting import Granting
    from chalicelib.registry.uploading import Uploading
    from chalicelib.store.blobs import S3Blobs
    from chalicelib.store.checkpoints import S3Checkpoints
    from chalicelib.store.outcomes import DynamoOutcomes

JOIN_SECONDS = 16  # the gateway gives up after 29, and there is more to do
PATIENT_READ_SECONDS = 60  # of which the caller waits JOIN_SECONDS
SWEEP_RESERVE_MILLISECONDS = 15_000  # the last step may wait ten seconds for DynamoDB
DOCTOR_RESERVE_MILLISECONDS = 60_000  # each item of the last chunk may wait ten seconds for DynamoDB
CHECKPOINT_RESERVE_MILLISECONDS = 300_000  # for all that is written once the events are read


@cache
def registry() -> Registry:
    """The Registry of this process, on DynamoDB and S3."""
    if not settings().powertools_trace_disabled:
        telemetry.trace_aws_calls()
    from chalicelib.store.catalog import DynamoCatalog

    return Registry(
        catalog=DynamoCatalog(settings().registry_table, settings().events_table, new_ulid),
        blobs=blobs(),
        clock=utc_now,
        new_ulid=new_ulid,
        announce=telemetry.audit_line,
    )


@cache
def blobs() -> "S3Blobs":
    """The objects of this process."""
    from chalicelib.store.blobs import S3Blobs

    return S3Blobs(
        bucket=settings().artifact_bucket,
        client=s3_client,
        signer=s3_signer,
        url_seconds=settings().download_url_seconds,
        report=telemetry.leftover_line,
        patient=s3_patient_client,
        join_seconds=JOIN_SECONDS,
    )


@cache
def authentication() -> Authentication:
    """Knows who asks."""
    return Authentication(registry().catalog.tokens, utc_now)


@cache
def granting() -> "Granting":
    """The tokens of this process, on the same stores."""
    from chalicelib.registry.granting import Granting

    return Granting(registry().catalog, utc_now, new_ulid, telemetry.audit_line)


@cache
def uploading() -> "Uploading":
    """The uploads of this process, on the same stores."""
    from chalicelib.registry.uploading import Uploading

    stores = registry()
    return Uploading(stores.catalog, stores.blobs, utc_now, new_ulid, telemetry.audit_line)


@cache
def outcomes() -> "DynamoOutcomes":
    """What requests with an Idempotency-Key came to. Made for the first of them: others shall not wait for it."""
    registry()  # connects to the table
    from chalicelib.store.outcomes import DynamoOutcomes

    return DynamoOutcomes(telemetry.leftover_line)


def bootstrapped(event: Mapping[str, Any]) -> dict[str, str]:
    """The first admin's token is stored, by its digest, or it is refused and why. Only IAM lets somebody ask."""
    from chalicelib.registry.granting import FirstToken

    try:
        asked = FirstToken.model_validate(event)
    except ValidationError:
        reason = "Send id (26 of 0-9 and A-Z), name, and digest (SHA-256 of the token, in lower-case hexadecimal)."
        return {"outcome": "refused", "reason": reason}
    try:
        token = granting().bootstrap(asked.id, asked.name, asked.digest)
    except Forbidden as exc:
        return {"outcome": "refused", "reason": str(exc)}
    return {"outcome": "created", "id": token.id, "name": token.name}


def swept(remaining_milliseconds: Callable[[], int]) -> dict[str, int]:
    """What the scheduled sweep did; it ends before the time of its function does."""
    from chalicelib.registry.sweeping import Sweeper
    from chalicelib.wiring_mlflow import errands, keeping

    stores = registry()
    unexpected: list[Exception] = []
    sweeper = Sweeper(stores.catalog, uploading(), stores.blobs, keeping(), errands, utc_now, unexpected.append)
    counts = sweeper.sweep(lambda: remaining_milliseconds() > SWEEP_RESERVE_MILLISECONDS).model_dump()
    telemetry.sweep_line(counts, unexpected)
    if unexpected:
        # After all else is done, so that the alarm rings and nothing waits behind what failed.
        raise unexpected[0]
    return counts


@cache
def checkpoints() -> "S3Checkpoints":
    """The checkpoints of the trail."""
    from chalicelib.store.checkpoints import S3Checkpoints

    return S3Checkpoints(settings().audit_bucket, s3_client, s3_signer, settings().download_url_seconds)


def checkpointed(remaining_milliseconds: Callable[[], int]) -> dict[str, int]:
    """What the run did that writes checkpoints; it ends before the time of its function does."""
    from chalicelib.registry.checkpointing import Checkpointing

    trail = registry().catalog.trail
    run = Checkpointing(trail, checkpoints(), utc_now, telemetry.chain_broken_line)
    counts = run.run(lambda: remaining_milliseconds() > CHECKPOINT_RESERVE_MILLISECONDS).model_dump()
    telemetry.checkpoint_line(counts)
    return counts


def examined(event: Mapping[str, Any], remaining_milliseconds: Callable[[], int]) -> dict[str, Any]:
    """What a step of the doctor found; it ends before the time of its function does. Only IAM lets somebody ask."""
    from chalicelib.registry.doctor import Order

    order = Order.model_validate(event)
    blobs = registry().blobs  # connects to the tables too
    s3_client()  # now, for boto3 makes none safely in several threads at once
    from chalicelib.store.doctor.steps import Doctor

    unexpected: list[Exception] = []
    report = Doctor(blobs, unexpected.append).step(
        order, lambda: remaining_milliseconds() > DOCTOR_RESERVE_MILLISECONDS
    )
    telemetry.doctor_lines(report, unexpected)
    return report.model_dump(mode="json")


def utc_now() -> datetime:
    return datetime.now(UTC)


def new_ulid() -> str:
    from ulid import ULID  # it looks up its own version, which takes longer than all that a read needs of ours

    return str(ULID())


@cache
def s3_client() -> "S3Client":
    """S3 as this process reaches it."""
    return _s3(None)


@cache
def s3_patient_client() -> "S3Client":
    """For the one call that S3 may take long for: joining thousands of parts."""
    return _s3(None, read_seconds=PATIENT_READ_SECONDS, attempts=1)


@cache
def s3_signer() -> "S3Client":
    """S3 as clients reach it: what it signs names that host. It makes no calls."""
    endpoint = settings().s3_public_endpoint
    return _s3(endpoint) if endpoint else s3_client()


@cache
def aws_client(service: str) -> Any:
    """A client of a service that few requests need."""
    import boto3
    from botocore.config import Config

    config = Config(connect_timeout=2, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 3})
    return boto3.client(service, config=config)  # type: ignore[call-overload]


def _s3(endpoint: str | None, read_seconds: int = 5, attempts: int = 2) -> "S3Client":
    import boto3
    from botocore.config import Config

    config = Config(
        signature_version="s3v4",
        connect_timeout=2,
        read_timeout=read_seconds,
        retries={"mode": "standard", "total_max_attempts": attempts},
    )
    return boto3.client("s3", endpoint_url=endpoint, config=config)
