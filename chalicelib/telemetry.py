"""Logs, metrics and traces, by Powertools; the audit log line.

The log is for operators and may be lost; the audit trail is the events table. Never logged: tokens, presigned URLs,
bodies, query values. The tracer is imported only where traces go somewhere.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import Metrics, MetricUnit

from chalicelib.registry.access import Actor
from chalicelib.registry.audit import Action, differences
from chalicelib.registry.service import Subject

MAX_LOGGED_CHARACTERS = 256


@cache
def log() -> Logger:
    return Logger(service="model-registry", use_rfc3339=True, utc=True)


@cache
def _metrics() -> Metrics:
    return Metrics(namespace="ModelRegistry", service="model-registry")


def trace_aws_calls() -> None:
    """Record every AWS call as an X-Ray subsegment from now on. Call it before clients are made."""
    from aws_lambda_powertools import Tracer

    Tracer(service="model-registry", patch_modules=["botocore"])


def request_line(
    *,
    operation: str,
    method: str,
    subject: str | None,
    actor: Actor,
    outcome: str,
    status: int,
    latency_ms: float,
) -> None:
    """One line for each request, and its metrics by operation and outcome."""
    log().info(
        "request",
        operation=operation,
        method=method,
        subject=subject,
        actor=actor.name,
        source_ip=actor.source_ip,
        request_id=actor.request_id,
        outcome=outcome,
        status=status,
        latency_ms=round(latency_ms, 1),
    )
    metrics = _metrics()
    metrics.add_dimension("operation", operation)
    metrics.add_dimension("outcome", outcome)
    metrics.add_metric("Requests", MetricUnit.Count, 1)
    metrics.add_metric("Latency", MetricUnit.Milliseconds, latency_ms)
    metrics.flush_metrics()


def audit_line(action: Action, before: Subject | None, after: Subject | None, by: Actor) -> None:
    """One line for each change: who changed what, from what, to what."""
    changed = differences(before, after)
    known = after or before
    log().info(
        "audit",
        action=action.value,
        subject=known.subject if known else None,
        actor=by.name,
        source_ip=by.source_ip,
        request_id=by.request_id,
        changes={name: [_short(old), _short(new)] for name, (old, new) in changed.items()},
    )


def sweep_line(counts: Mapping[str, int], unexpected: Sequence[Exception]) -> None:
    """What a sweep did: one line, and a metric for each count; a line for each error that is a bug."""
    for exc in unexpected:
        log().error("unexpected_error", exc_info=exc)
    log().info("sweep", extra=dict(counts))
    metrics = _metrics()
    metrics.add_dimension("operation", "sweep")
    for name, count in counts.items():
        metrics.add_metric("".join(part.title() for part in name.split("_")), MetricUnit.Count, count)
    metrics.flush_metrics()


def _short(value: Any) -> Any:
    """A value as it is, or the beginning of its text."""
    text = str(value)
    return value if len(text) <= MAX_LOGGED_CHARACTERS else f"{text[:MAX_LOGGED_CHARACTERS]}…"
