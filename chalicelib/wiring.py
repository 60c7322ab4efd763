"""Composition root: settings -> clients -> Registry, built on first use, once per container."""

from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING

from ulid import ULID

from chalicelib import telemetry
from chalicelib.registry.service import Registry
from chalicelib.settings import settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@cache
def registry() -> Registry:
    """The Registry of this process, on DynamoDB and S3."""
    if not settings().powertools_trace_disabled:
        telemetry.trace_aws_calls()
    from chalicelib.store.blobs import S3Blobs
    from chalicelib.store.catalog import DynamoCatalog

    return Registry(
        catalog=DynamoCatalog(settings().registry_table, settings().events_table, new_ulid),
        blobs=S3Blobs(
            bucket=settings().artifact_bucket,
            client=s3_client,
            signer=s3_signer,
            url_seconds=settings().download_url_seconds,
            report=lambda event, what: telemetry.log().warning(event, what=what),
        ),
        clock=lambda: datetime.now(UTC),
        new_ulid=new_ulid,
        announce=telemetry.audit_line,
    )


def new_ulid() -> str:
    return str(ULID())


@cache
def s3_client() -> "S3Client":
    """S3 as this process reaches it."""
    return _s3(None)


@cache
def s3_signer() -> "S3Client":
    """S3 as clients reach it: what it signs names that host. It makes no calls."""
    endpoint = settings().s3_public_endpoint
    return _s3(endpoint) if endpoint else s3_client()


def _s3(endpoint: str | None) -> "S3Client":
    import boto3
    from botocore.config import Config

    config = Config(
        signature_version="s3v4",
        connect_timeout=2,
        read_timeout=5,
        retries={"mode": "standard", "total_max_attempts": 2},
    )
    return boto3.client("s3", endpoint_url=endpoint, config=config)
