"""`audit verify` and `audit export`: the trail, proved and kept. They change nothing."""

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from modelreg import options
from modelreg.errors import BrokenTrail, LocalError
from modelreg.exits import Misused
from modelreg.output import Output
from modelreg.session import session
from modelreg.times import moment_of, rfc3339

if TYPE_CHECKING:
    from modelreg.registry import Registry
    from modelreg.verification import Report, Verification

PROGRESS_EVERY = 10_000
Lines = Iterable[bytes]


def verify(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="FILE", help="Exports to verify; without one, the registry itself.")
    ] = None,
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option("--checkpoint", metavar="FILE", help="Compare with this checkpoint; may be repeated."),
    ] = None,
    online: Annotated[
        bool, typer.Option("--online", help="Compare with the newest checkpoints that the registry keeps.")
    ] = False,
    newest: Annotated[
        int | None, typer.Option("--newest", metavar="N", min=1, help="With --online: with so many of them; else one.")
    ] = None,
    url: options.Url = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Prove that the audit trail is as it was written.

    Every digest is made again, and every chain followed. Of each subject that is not whole, the first wrong event is
    named; the exit code is 11 then. Without a checkpoint, neither an end that was cut off nor a chain that was written
    anew as a whole can be seen. Reading a registry needs a token without limits; --online needs that of an admin.
    """
    from modelreg.verification import Verification

    if newest and not online:
        raise Misused("--newest is given without --online.", "Add --online, or leave it out.")
    output, verification = Output(as_json=as_json, quiet=quiet), Verification()
    stored: list[tuple[str, bytes, str]] = []
    if online or not files:
        with session(url, as_json, quiet) as (registry, output):
            # Before the events are read, so that all they know of is there by then.
            stored = _stored_checkpoints(registry, newest or 1) if online else []
            if not files:
                verification.read_events(_counted(registry.event_documents(), output))
    for path in files or []:
        with _opened(path) as lines:
            verification.read_export(str(path), lines)
    for path in checkpoint or []:
        with _opened(path) as lines:
            verification.compare(path.name, lines)
    for name, content, sha256 in stored:
        verification.compare(name, content.splitlines(keepends=True), sha256=sha256)
    _tell(verification, output)


def export(
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="WHEN", help="Not before: 2h or 7d ago, or a date or time in UTC."),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="WHEN", help="Only before: 2h or 7d ago, or a date or time in UTC.")
    ] = None,
    target: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="A new file; else standard output.")
    ] = None,
    url: options.Url = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Write the audit trail to a file, as JSON Lines, newest first.

    The first line says from when to when it goes, the last one how many events there are; in between each line is an
    event as the API tells it. `modelreg audit verify FILE` takes it, now or in years.
    """
    from modelreg.chains import canonical
    from modelreg.verification import Export, last_line

    now = datetime.now(UTC)
    header = Export(
        since=moment_of(since, now, sign=-1) if since else None,
        until=moment_of(until, now, sign=-1) if until else None,
        read_at=now,
    )
    with session(url, as_json, quiet) as (registry, output), _written(target, output) as file:
        print(header.first_line(registry.url), file=file)
        count = 0
        documents = registry.event_documents(since=header.since, until=header.until)
        for count, document in enumerate(_counted(documents, output), 1):  # noqa: B007 (the count is the answer)
            print(canonical(document), file=file)
        print(last_line(count), file=file, flush=True)
        output.say(f"{_counts(count, 'event')}{f' in {target}' if target else ''}")


def _stored_checkpoints(registry: "Registry", newest: int) -> list[tuple[str, bytes, str]]:
    found = [(one.key, registry.read_checkpoint(one), one.sha256) for one in registry.checkpoints(limit=newest)]
    if not found:
        raise LocalError(
            "The registry has no checkpoint yet.", hint="One is written every day; verify without --online until then."
        )
    return found


def _counted(events: Iterable[dict[str, Any]], output: Output) -> Iterator[dict[str, Any]]:
    for count, event in enumerate(events, 1):
        yield event
        if count % PROGRESS_EVERY == 0:
            output.say(f"{_counts(count, 'event')}, back to {event.get('time')}")


@contextmanager
def _opened(path: Path) -> Iterator[Lines]:
    """The lines of a file. Raises LocalError."""
    try:
        with path.open("rb") as file:
            yield file
    except OSError as exc:
        raise LocalError(f"{path} cannot be read: {exc.strerror}.", hint="Check the path and its permissions.") from exc


@contextmanager
def _written(target: Path | None, output: Output) -> Iterator[TextIO]:
    """A file that is there under its name once it is whole, and only its owner can read. Raises LocalError."""
    if target is None:
        yield output.data
        return
    if target.exists():
        raise LocalError(f"{target} is there already.", hint="Choose another name: an export is never replaced.")
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(target)
        except BaseException:
            with suppress(OSError):
                Path(temporary).unlink()
            raise
    except OSError as exc:
        raise LocalError(f"{target} cannot be written: {exc.strerror}.") from exc


def _tell(verification: "Verification", output: Output) -> None:
    report = verification.report()
    output.document(_document(report))
    if not output.as_json:
        output.lines(((one.subject, one.seq, one.by, one.what), {}) for one in report.findings)
    if report.findings:
        first, *others = report.findings
        more = f" (and {len(others)} more)" if others else ""
        raise BrokenTrail(f"{first}{more}.")
    output.say(_summary(report))


def _summary(report: "Report") -> str:
    events = f"{_counts(report.events, 'event')} of {_counts(report.subjects, 'subject')}: as they were written"
    if not report.checkpoints:
        return f"{events}; compared with no checkpoint, so an end that was cut off would not show"
    heads = f"{_counts(report.heads_compared, 'head')} of {_counts(len(report.checkpoints), 'checkpoint')} compared"
    beyond = f", {report.heads_not_covered} of other times left out" if report.heads_not_covered else ""
    return f"{events}; {heads}{beyond}"


def _counts(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _document(report: "Report") -> dict[str, Any]:
    return {
        "events": report.events,
        "subjects": report.subjects,
        "since": rfc3339(report.since) if report.since else None,
        "until": rfc3339(report.until) if report.until else None,
        "is_from_start": report.is_from_start,
        "checkpoints": report.checkpoints,
        "heads_compared": report.heads_compared,
        "heads_not_covered": report.heads_not_covered,
        "broken": [finding._asdict() for finding in report.findings],
    }
