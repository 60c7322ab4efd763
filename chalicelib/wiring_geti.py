"""Composition root of all that has to do with Geti: its client, the sync, the imports, built on first use."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from chalicelib import telemetry
from chalicelib.registry.errors import NotConfigured
from chalicelib.settings import settings
from chalicelib.wiring import aws_client, new_ulid, registry, utc_now

if TYPE_CHECKING:
    from chalicelib.geti.asking import Asking
    from chalicelib.geti.checking import Check
    from chalicelib.geti.exchange import Limits
    from chalicelib.geti.ports import Server
    from chalicelib.geti.selection import Selection
    from chalicelib.geti.states import Run
    from chalicelib.geti.syncing import Syncing
    from chalicelib.geti.transport import Transport
    from chalicelib.store.geti import DynamoSync
    from chalicelib.store.imports import DynamoImports
    from chalicelib.store.work import SqsWork

GETI_KNOWN_SECONDS = 600  # until it is asked anew what answers there: it may have been updated
SYNC_RESERVE_MILLISECONDS = 90_000  # for the look at one more project, and for keeping how far it came


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
        return read_secret(aws_client("secretsmanager"), secret)
    if parameter := settings().geti_token_parameter:
        return read_parameter(aws_client("ssm"), parameter)
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
        sqs=lambda: aws_client("sqs"),
        functions=lambda: aws_client("lambda"),
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
