"""Logs, metrics and traces, by Powertools; the audit log line.

The log is for operators and may be lost; the audit trail is the events table. Never logged: tokens, presigned URLs,
bodies, query values. docs/logs.md tells of every line; what is written here is held to docs/log-lines.schema.json.
The tracer is imported only where traces go somewhere.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import Metrics, MetricUnit

from chalicelib.registry.audit import differences
from chalicelib.registry.errors import Forbidden, Unauthenticated
from chalicelib.settings import SettingsError, settings

if TYPE_CHECKING:
    from chalicelib.registry.access import Actor
    from chalicelib.registry.audit import Action
    from chalicelib.registry.doctor import Report
    from chalicelib.registry.errors import Unavailable
    from chalicelib.registry.service import Subject

MAX_LOGGED_CHARACTERS = 256
MAX_TRACEBACK_CHARACTERS = 16_000  # a line over 256 KB may arrive in pieces
DENIALS = (Unauthenticated.code, Forbidden.code)
# What must not be logged is not handed over; this is for texts that nobody foresaw, as those of errors of libraries.
_SECRETS = re.compile(
    r"\bmr_[0-9A-Za-z]{26}_[0-9A-Za-z]*"
    r"|\bgeti_pat_\w+"
    r"|\bX-Amz-(?:Signature|Security-Token|Credential)=[^&\s\"\\]*"
    r"|\b(?:Basic|Bearer) [\w+/=.~-]{16,}",
    re.IGNORECASE | re.ASCII,
)


@cache
def log() -> Logger:
    """Lines of JSON in ASCII: whatever a value holds, it can neither end its line nor command a terminal."""
    return Logger(level=_level(), use_rfc3339=True, utc=True, json_serializer=_serialized, serialize_stacktrace=False)


@cache
def _metrics() -> Metrics:
    return Metrics(namespace="ModelRegistry", service=log().service)


def _level() -> str:
    try:
        return settings().powertools_log_level
    except SettingsError:
        return "INFO"  # whoever asks for the settings next says in the log what is wrong with them


def _serialized(line: dict[str, Any]) -> str:
    if len(traceback := line.get("exception", "")) > MAX_TRACEBACK_CHARACTERS:
        half = MAX_TRACEBACK_CHARACTERS // 2
        line["exception"] = f"{traceback[:half]}…{traceback[-half:]}"
    text = json.dumps(line, default=str, separators=(",", ":"))
    if "\\ud" in text:
        # Half a surrogate pair, perhaps, which other readers take for no JSON: the line would be in no query.
        whole = json.dumps(line, default=str, ensure_ascii=False).encode(errors="replace")
        text = json.dumps(json.loads(whole), separators=(",", ":"))
    return _SECRETS.sub("[secret]", text)


def trace_aws_calls() -> None:
    """Record every AWS call as an X-Ray subsegment from now on. Call it before clients are made."""
    from aws_lambda_powertools import Tracer

    Tracer(patch_modules=["botocore"])


def request_line(
    *,
    operation: str,
    method: str,
    subject: str | None,
    actor: Actor,
    outcome: str,
    status: int,
    latency_ms: float,
    reason: str | None = None,
) -> None:
    """One line for each request, and its metrics by operation and outcome. `reason` is told of denials only."""
    line = {
        "operation": operation,
        "method": method,
        "subject": _short(subject),
        **_who(actor),
        "outcome": outcome,
        "reason": _short(reason) if outcome in DENIALS else None,
        "status": status,
        "latency_ms": round(latency_ms, 1),
    }
    log().info("request", extra=line)
    metrics = _metrics()
    metrics.add_dimension("operation", operation)
    metrics.add_dimension("outcome", outcome)
    if outcome in DENIALS:
        # Over all operations, since an alarm can only name one set of dimensions. Others are not counted twice: each
        # set is a metric that costs.
        metrics.add_dimensions(outcome=outcome, service=log().service)
    metrics.add_metric("Requests", MetricUnit.Count, 1)
    metrics.add_metric("Latency", MetricUnit.Milliseconds, latency_ms)
    metrics.flush_metrics()


def audit_line(action: Action, before: Subject | None, after: Subject | None, by: Actor) -> None:
    """One line for each change: who changed what, from what, to what."""
    changed = differences(before, after)
    known = after or before
    line = {
        "action": action.value,
        "subject": known.subject if known else None,
        **_who(by),
        "changes": {name: [_short(old), _short(new)] for name, (old, new) in changed.items()},
    }
    log().info("audit", extra=line)


def unavailable_line(exc: Unavailable, request_id: str) -> None:
    """One line for each 503, with what is behind it."""
    log().warning("unavailable", request_id=request_id, exc_info=exc)


def bug_line(exc: Exception, request_id: str | None = None) -> None:
    """One line for each error that nobody foresaw."""
    log().error("unexpected_error", request_id=request_id, exc_info=exc)


def leftover_line(event: str, what: str) -> None:
    """One line for what a request could not clean up, and a sweep will."""
    log().warning(event, what=_short(what))


def sweep_line(counts: Mapping[str, int], unexpected: Sequence[Exception]) -> None:
    """What a sweep did: one line, and a metric for each count; a line for each error that is a bug."""
    for exc in unexpected:
        bug_line(exc)
    _counted("sweep", counts)


def checkpoint_line(counts: Mapping[str, int]) -> None:
    """What a run that writes checkpoints did: one line, and a metric for each count."""
    _counted("checkpoint", counts)


def sync_line(counts: Mapping[str, int]) -> None:
    """What a run of the sync with Geti did: one line, and a metric for each count."""
    _counted("sync", counts)


def import_line(counts: Mapping[str, int]) -> None:
    """What an import from Geti came to: one line, and a metric for each count."""
    _counted("import", counts)


def chain_broken_line(subject: str, what: str) -> None:
    """One line for each subject whose events are not those that were written."""
    log().error("chain_broken", subject=_short(subject), what=_short(what))


def doctor_lines(report: Report, unexpected: Sequence[Exception]) -> None:
    """What a step of the doctor found and counted: a line for each finding, and one with metrics for all of it."""
    for exc in unexpected:
        bug_line(exc)
    for finding in report.findings:
        line = {"kind": finding.kind, "subject": _short(finding.subject), "what": _short(finding.what)}
        flags = {"is_safe": finding.safe, "is_repaired": finding.repaired}
        log().warning("doctor_finding", extra=line | flags)
    found, repaired = len(report.findings), sum(finding.repaired for finding in report.findings)
    totals = {"findings": found, "repaired": repaired, "is_finished": report.after is None}
    log().info("doctor", extra={"counts": dict(report.counts), **totals})
    metrics = _metrics()
    metrics.add_dimension("operation", "doctor")
    metrics.add_metric("Findings", MetricUnit.Count, found)
    metrics.add_metric("Repaired", MetricUnit.Count, repaired)
    metrics.flush_metrics()


def _counted(operation: str, counts: Mapping[str, int]) -> None:
    log().info(operation, extra=dict(counts))
    metrics = _metrics()
    metrics.add_dimension("operation", operation)
    for name, count in counts.items():
        unit = MetricUnit.Bytes if name == "bytes" else MetricUnit.Count
        metrics.add_metric("".join(part.title() for part in name.split("_")), unit, count)
    metrics.flush_metrics()


def _who(actor: Actor) -> dict[str, str | None]:
    """Who asked, as every line says it; what there is not is left out of the line."""
    return {
        "actor": _short(actor.name),
        "actor_kind": actor.kind,
        "token_id": actor.token_id,
        "role": actor.role,
        "idempotency": actor.idempotency,
        "request_id": actor.request_id,
        "source_ip": actor.source_ip,
        "user_agent": _short(actor.user_agent),
    }


def _short(value: Any) -> Any:
    """A value as it is, or the beginning of its text."""
    text = str(value)
    return value if len(text) <= MAX_LOGGED_CHARACTERS else f"{text[:MAX_LOGGED_CHARACTERS]}…"
