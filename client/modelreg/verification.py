"""Verifies the audit trail: events from exports or from a registry, against each other and against checkpoints. Pure.

What was read has to be told too, or nothing could be said of what is not there: an export says from when to when it
goes, and how it ends (`Export`). A checkpoint says what was the newest event of each subject, and names the one before.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from modelreg.chains import Chains, Finding, canonical
from modelreg.times import rfc3339

EXPORT_FORMAT, CHECKPOINT_FORMAT = "model-registry-export/1", "model-registry-checkpoint/1"
# What happened shortly before the events were read may be missing: an index follows, and clocks differ.
LAG = timedelta(minutes=10)
EVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Export:
    """What an export says of itself: `since` is None where it begins with the very first event."""

    since: datetime | None
    until: datetime | None
    read_at: datetime

    @property
    def settled(self) -> datetime:
        """Before this, nothing is missing."""
        return min(self.until or EVER, self.read_at - LAG)

    def first_line(self, registry: str) -> str:
        times = {"since": self.since, "until": self.until, "read_at": self.read_at}
        told = {name: at and rfc3339(at) for name, at in times.items()}
        return canonical({"export": {"format": EXPORT_FORMAT, "registry": registry, **told}})

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> "Export":
        """Raises ValueError or KeyError for another format."""
        if content["format"] != EXPORT_FORMAT:
            raise ValueError(f"the format is {content['format']!r}")
        since, until, read_at = (
            datetime.fromisoformat(content[name]) if content[name] else None for name in ("since", "until", "read_at")
        )
        if read_at is None:
            raise ValueError("read_at is missing")
        return cls(since, until, read_at)


def last_line(count: int) -> str:
    return canonical({"end": {"events": count}})


@dataclass
class Report:
    """What was verified, and of each subject the first thing that is wrong."""

    events: int = 0
    subjects: int = 0
    since: datetime | None = None
    until: datetime | None = None
    is_from_start: bool = False
    checkpoints: list[str] = field(default_factory=list)
    heads_compared: int = 0
    heads_not_covered: int = 0
    findings: list[Finding] = field(default_factory=list)


class Verification:
    """Takes events from everywhere, then checkpoints, then says what is wrong."""

    def __init__(self) -> None:
        self._chains = Chains()
        self._report = Report()
        self._sources = 0
        self._settled: list[datetime] = []
        self._by_until: dict[datetime, tuple[str, str]] = {}
        self._named: list[tuple[str, datetime, str]] = []

    def read_events(self, events: Iterable[Mapping[str, Any]], *, since: datetime | None = None) -> None:
        """Events as they come from a registry, all that there are from a time on."""
        self._sources += 1
        self._covers(since is None, since, EVER)
        for event in events:
            self._add(event, "the registry")

    def read_export(self, name: str, lines: Iterable[str | bytes]) -> None:
        """A file: an export, or just events as the API answers them, one or a list of them a line.

        Of the latter it is not known how far back they go; they should go up to now.
        """
        self._sources += 1
        reader = _Reader(name, self._report.findings)
        for event in reader.events(lines):
            self._add(event, name)
        export = reader.export
        if export:
            self._covers(export.since is None, export.since, export.settled)
        else:
            self._covers(False, None, EVER)

    def compare(self, name: str, lines: Iterable[bytes], *, sha256: str | None = None) -> None:
        """A checkpoint, whose SHA-256 may be known. To be called once all events were read."""
        digest = hashlib.sha256()
        try:
            checkpoint = _Checkpoint(_hashed(lines, digest))
            covered = checkpoint.until <= max(self._settled, default=EVER)
            for subject, seq, known in checkpoint.heads():
                self._compare(name, subject, seq, known, covered)
        except (ValueError, KeyError, TypeError) as exc:
            self._note(Finding(name, 0, f"is no whole checkpoint: {exc}", "checkpoint"))
            return
        self._report.checkpoints.append(name)
        if sha256 is not None and digest.hexdigest() != sha256:
            self._note(Finding(name, 0, "is another file than the registry says", "checkpoint"))
        self._by_until[checkpoint.until] = (name, digest.hexdigest())
        if checkpoint.previous:
            self._named.append((name, *checkpoint.previous))

    def report(self) -> Report:
        """The outcome, in order: of files, of subjects, of checkpoints."""
        report = self._report
        report.events, report.subjects = self._chains.events, self._chains.subjects
        chains = self._chains.findings(report.is_from_start)
        report.findings = [*report.findings, *chains, *self._broken_checkpoints()]
        return report

    def _add(self, event: Mapping[str, Any], name: str) -> None:
        try:
            self._chains.add(event, self._sources)
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            subject = str(event.get("subject") or name)
            self._note(Finding(subject, 0, f"an event cannot be understood: {type(exc).__name__} {exc}", "file"))

    def _covers(self, is_from_start: bool, since: datetime | None, settled: datetime) -> None:
        report = self._report
        report.is_from_start |= is_from_start
        report.since = None if report.is_from_start else min((at for at in (report.since, since) if at), default=None)
        self._settled.append(settled)
        latest = max(self._settled)
        report.until = None if latest == EVER else latest

    def _compare(self, name: str, subject: str, seq: int, known: str, is_covered: bool) -> None:
        chain = self._chains.find(subject)
        link = chain.links.get(seq) if chain else None
        is_all_there = is_covered and (self._report.is_from_start or chain is not None)
        if chain and link:
            self._report.heads_compared += 1
            if link.digest != known:
                chain.note(seq, f"event {seq} is another one than checkpoint {name} says", "checkpoint")
        elif chain and chain.first == seq + 1:
            self._report.heads_compared += 1
            if chain.links[chain.first].prev != known:
                what = f"event {chain.first} does not follow event {seq} as checkpoint {name} says"
                chain.note(chain.first, what, "checkpoint")
        elif is_all_there and (chain is None or chain.last < seq):
            self._report.heads_compared += 1
            last = chain.last if chain else 0
            what = f"the events end with {last}" if last else "there is no event"
            self._chains[subject].note(last + 1, f"{what}, checkpoint {name} says {seq}", "checkpoint")
        else:
            self._report.heads_not_covered += 1

    def _broken_checkpoints(self) -> Iterator[Finding]:
        for name, until, sha256 in self._named:
            found = self._by_until.get(until)
            if found and found[1] != sha256:
                what = f"is another file than checkpoint {name} says, which was written after it"
                yield Finding(found[0], 0, what, "checkpoint")

    def _note(self, finding: Finding) -> None:
        self._report.findings.append(finding)


class _Reader:
    """The events of a file, line by line; notes what is wrong with the file."""

    def __init__(self, name: str, findings: list[Finding]) -> None:
        self.export: Export | None = None
        self._name = name
        self._findings = findings
        self._before: Mapping[str, Any] | None = None
        self._count = 0
        self._end: int | None = None
        self._is_in_order = True

    def events(self, lines: Iterable[str | bytes]) -> Iterator[Mapping[str, Any]]:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield from self._events_in(number, line)
        if self.export and self._end is None:
            self._note("has no end: it broke off, or was cut off")
        elif self._end not in (None, self._count):
            self._note(f"says that it has {self._end} events, and has {self._count}")

    def _events_in(self, number: int, line: str | bytes) -> Iterator[Mapping[str, Any]]:
        try:
            content = json.loads(line)
            if isinstance(content, dict) and content.keys() == {"export"} and number == 1:
                self.export = Export.of(content["export"])
                return
            if isinstance(content, dict) and content.keys() == {"end"} and self._end is None:
                self._end = int(content["end"]["events"])
                return
        except (ValueError, KeyError, TypeError, RecursionError) as exc:
            self._note(f"line {number} cannot be read: {exc}")
            return
        for event in content if isinstance(content, list) else [content]:
            if self._end is not None or not isinstance(event, dict):
                self._note(f"line {number} is no event, or stands behind the end")
                return
            self._count += 1
            self._check_order(number, event)
            yield event

    def _check_order(self, number: int, event: Mapping[str, Any]) -> None:
        """Newest first, as the registry lists them: by day and id, or those of one subject by number."""
        before, self._before = self._before, event
        if before is None or not self._is_in_order:
            return
        try:
            by_id = _position(before) > _position(event)
            self._is_in_order = by_id or (before["subject"] == event["subject"] and before["seq"] > event["seq"])
        except (KeyError, TypeError):
            return
        if not self._is_in_order:
            what = f"line {number} of {self._name} is not older than the line before: lines were moved or repeated"
            self._findings.append(Finding(str(event["subject"]), event["seq"], what, "file"))

    def _note(self, what: str) -> None:
        self._findings.append(Finding(self._name, 0, what, "file"))


class _Checkpoint:
    """The file of a checkpoint. Raises ValueError, KeyError or TypeError for one that is not whole."""

    def __init__(self, lines: Iterable[bytes]) -> None:
        self._lines = iter(lines)
        header = json.loads(next(self._lines, b""))
        if header["format"] != CHECKPOINT_FORMAT:
            raise ValueError(f"the format is {header['format']!r}")
        self.until = datetime.fromisoformat(header["until"])
        self.previous: tuple[datetime, str] | None = None
        if header["previous"]:
            self.previous = (_until_in(header["previous"]["key"]), header["previous"]["sha256"])

    def heads(self) -> Iterator[tuple[str, int, str]]:
        """Subject, number and digest of each newest event."""
        count = 0
        for line in self._lines:
            content = json.loads(line)
            if isinstance(content, dict):
                if content != {"subjects": count} or next(self._lines, None) is not None:
                    raise ValueError(f"it ends with {content}, after {count} subjects")
                return
            subject, seq, digest = content
            if not (isinstance(subject, str) and isinstance(seq, int) and isinstance(digest, str)):
                raise ValueError(f"line {count + 2} is no head")
            count += 1
            yield subject, seq, digest
        raise ValueError(f"it has no end, after {count} subjects")


def _position(event: Mapping[str, Any]) -> tuple[str, str]:
    return event["time"][:10], event["id"]


def _until_in(key: str) -> datetime:
    """What a checkpoint of this key covers: checkpoints/2026-01-31T0207Z.jsonl."""
    return datetime.strptime(key.rpartition("/")[2], "%Y-%m-%dT%H%MZ.jsonl").replace(tzinfo=UTC)


def _hashed(lines: Iterable[bytes], digest: Any) -> Iterator[bytes]:
    for line in lines:
        digest.update(line)
        yield line
