"""Composition root: settings -> clients -> Registry, built on first use, once per container."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache, lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from ulid import ULID

from chalicelib import telemetry
from chalicelib.authentication import Authentication
from chalicelib.registry.errors import Forbidden, NotConfigured
from chalicelib.registry.granting import FirstToken, Granting
from chalicelib.registry.service import Registry
from chalicelib.registry.sweeping import Sweeper
from chalicelib.registry.uploading import Uploading
from chalicelib.settings import settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from chalicelib.geti.asking import Asking
    from chalicelib.geti.checking import Check
    from chalicelib.geti.exchange import Limits
    from chalicelib.geti.ports import Server
    from chalicelib.geti.selection import Selection
    from chalicelib.geti.states import Run
    from chalicelib.geti.syncing import Syncing
    from chalicelib.geti.transport import Transport
    from chalicelib.store.checkpoints import S3Checkpoints
    from chalicelib.store.geti import DynamoSync
    from chalicelib.store.imports import DynamoImports
    from chalicelib.store.outcomes import DynamoOutcomes
    from chalicelib.store.work import SqsWork

JOIN_SECONDS = 16  # the gateway gives up after 29, and there is more to do
PATIENT_READ_SECONDS = 60  # of which the caller waits JOIN_SECONDS
SWEEP_RESERVE_MILLISECONDS = 15_000  # the last step may wait ten seconds for DynamoDB
DOCTOR_RESERVE_MILLISECONDS = 60_000  # each item of the last chunk may wait ten seconds for DynamoDB
CHECKPOINT_RESERVE_MILLISECONDS = 300_000  # for all that is written once the events are read
GETI_KNOWN_SECONDS = 600  # until it is asked anew what answers there: it may have been updated
SYNC_RESERVE_MILLISECONDS = 90_000  # for the look at one more project, and for keeping how far it came


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
            report=telemetry.leftover_line,
            patient=s3_patient_client,
            join_seconds=JOIN_SECONDS,
        ),
        clock=utc_now,
        new_ulid=new_ulid,
        announce=telemetry.audit_line,
    )


@cache
def authentication() -> Authentication:
    """Knows who asks."""
    return Authentication(registry().catalog.tokens, utc_now)


@cache
def granting() -> Granting:
    """The tokens of this process, on the same stores."""
    return Granting(registry().catalog, utc_now, new_ulid, telemetry.audit_line)


@cache
def uploading() -> Uploading:
    """The uploads of this process, on the same stores."""
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
    stores = registry()
    unexpected: list[Exception] = []
    sweeper = Sweeper(stores.catalog, uploading(), stores.blobs, utc_now, unexpected.append)
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


def geti() -> "Server":
    """The Geti server. Raises NotConfigured; everything it is asked raises GetiError."""
    return _geti(int(utc_now().timestamp()) // GETI_KNOWN_SECONDS)


@lru_cache(maxsize=1)
def _geti(_window: int) -> "Server":
    if not settings().is_geti_configured:
        raise NotConfigured("Geti is not configured: set GETI_HOST and GETI_TOKEN.")
    from chalicelib.geti.exchange import Limits

    return _behind(_way_to_geti(Limits()))


def _way_to_geti(limits: "Limits") -> "Transport":
    from chalicelib.geti.transport import Tls, Transport

    known = settings()
    tls = Tls(verify=known.geti_server_ssl_verify, ca_bundle=known.geti_ca_bundle)
    return Transport(known.geti_host or "", geti_token, tls, limits=limits)


def _behind(transport: "Transport") -> "Server":
    from chalicelib.geti.connecting import connect

    known = settings()
    return connect(transport, known.geti_organization_id, known.geti_workspace_id, known.geti_allow_legacy_deployments)


def geti_token(is_anew: bool = False) -> str | None:
    """The token of Geti, read where it is kept when it is first needed, and anew if that is asked. None: there is none.

    Raises NotConfigured and Unavailable.
    """
    known = settings()
    if known.geti_token:
        return known.geti_token.get_secret_value()
    if is_anew:
        _kept_geti_token.cache_clear()
    return _kept_geti_token()


@cache
def _kept_geti_token() -> str | None:
    from chalicelib.store.secrets import read_parameter, read_secret

    if secret := settings().geti_token_secret:
        return read_secret(_aws("secretsmanager"), secret)
    if parameter := settings().geti_token_parameter:
        return read_parameter(_aws("ssm"), parameter)
    return None


@cache
def sync_store() -> "DynamoSync":
    """What is remembered of the Geti server."""
    registry()  # connects to the tables
    from chalicelib.store.geti import DynamoSync

    return DynamoSync(settings().geti_server, new_ulid)


@cache
def imports() -> "DynamoImports":
    """The requests to import models of Geti."""
    registry()  # connects to the tables
    from chalicelib.store.imports import DynamoImports

    return DynamoImports()


@cache
def work() -> "SqsWork":
    """What other functions are asked to do."""
    from chalicelib.store.work import SqsWork

    return SqsWork(
        queue_url=settings().import_queue_url,
        function=settings().sync_function,
        sqs=lambda: _aws("sqs"),
        functions=lambda: _aws("lambda"),
        clock=utc_now,
        new_ulid=new_ulid,
    )


def asking() -> "Asking":
    """What callers ask of Geti. Raises NotConfigured and GetiError."""
    from chalicelib.geti.asking import Asking

    return Asking(geti(), settings().geti_server, registry().catalog, imports(), work(), utc_now, new_ulid)


def geti_checks() -> "Sequence[Check]":
    """Whether models can come from Geti, and what is in the way. It is asked anew, and not for long."""
    from chalicelib.geti.checking import Checking, Setup
    from chalicelib.geti.exchange import Limits, Request

    known = settings()
    named = ("geti_token", "geti_token_secret", "geti_token_parameter")
    setup = Setup(
        host=known.geti_host,
        token_from=next((name.upper() for name in named if getattr(known, name)), None),
        is_verified=known.geti_server_ssl_verify,
        has_own_ca=known.geti_ca_bundle is not None,
        has_queue=known.import_queue_url is not None,
        has_sync_function=known.sync_function is not None,
    )
    transport = _way_to_geti(Limits(connect_seconds=3, read_seconds=6, call_seconds=8))
    product = Request("GET", "/api/v1/product_info")
    try:
        return Checking(setup, geti_token, lambda: transport.json(product), _behind(transport), _selection()).checks()
    finally:
        transport.close()


def syncing() -> "Syncing":
    """The sync with Geti. Raises NotConfigured."""
    from chalicelib.geti.syncing import Syncing

    return Syncing(
        geti(),
        sync_store(),
        work(),
        registry(),
        _selection(),
        lambda: sha256((geti_token(is_anew=True) or "").encode()).hexdigest()[:16],
        utc_now,
        new_ulid,
        _tell_of_run,
        telemetry.bug_line,
    )


def _selection() -> "Selection":
    from chalicelib.geti.selection import Selection

    known = settings()
    return Selection(
        projects=known.geti_sync_projects,
        excluded_projects=known.geti_sync_exclude_projects,
        models=known.geti_sync_models,
        precisions=known.geti_sync_precisions,
        xai=known.geti_sync_xai,
        min_score=known.geti_sync_min_score,
    )


def _tell_of_run(run: "Run") -> None:
    counts = run.counts.model_dump() | {"requests": run.requests, "geti_unauthorized": int(run.is_refused)}
    telemetry.sync_line(counts)


def synced(detail: Mapping[str, Any], remaining_milliseconds: Callable[[], int]) -> dict[str, Any]:
    """What the sync did: a run that was asked for, or the next one; it ends before the time of its function does."""
    if not settings().is_geti_configured:
        return {"outcome": "not configured"}
    run = syncing().run(detail.get("run_id"), lambda: remaining_milliseconds() > SYNC_RESERVE_MILLISECONDS)
    if run is None:
        return {"outcome": "another run is going on"}
    return run.model_dump(mode="json", exclude={"skipped", "failed"})


def imported(body: str, remaining_milliseconds: Callable[[], int]) -> None:
    """A model is imported from Geti as a message of the queue orders; it ends before the time of its function does."""
    if not settings().is_geti_configured:
        return
    from chalicelib.geti.importing import Importing, Options
    from chalicelib.geti.states import Order

    known = settings()
    options = Options(
        server_id=known.geti_server, slots=known.geti_concurrency, strips_sample_image=known.geti_strip_sample_image
    )
    importing = Importing(
        geti(),
        sync_store(),
        imports(),
        work(),
        registry(),
        options,
        utc_now,
        new_ulid,
        _tell_of_run,
        telemetry.bug_line,
    )
    outcome = importing.run(Order.model_validate_json(body), lambda: remaining_milliseconds() / 1000)
    if outcome:
        telemetry.import_line(outcome.model_dump())


def utc_now() -> datetime:
    return datetime.now(UTC)


def new_ulid() -> str:
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
def _aws(service: str) -> Any:
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
