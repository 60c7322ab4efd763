"""The digest chains of the audit trail, checked. Pure: nothing is asked of a registry, and no clock is read.

Every event of a subject carries the digest of the one before, so whoever changes, drops or moves an event breaks the
chain at a place that can be named. What no chain shows is an end that was cut off, or a chain that was written anew as
a whole: a checkpoint does, which knows the digest of an event and thereby of all before it.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

BEFORE_THE_FIRST = "0" * 64
# What an actor has only sometimes is left out where there is none: so the digests of older events stay.
OPTIONAL_OF_ACTOR = ("token_id", "role", "idempotency")
By = Literal["chain", "checkpoint", "file"]


class Finding(NamedTuple):
    """Something that is not as it was written: `seq` is the number of the event, 0 where no event is meant.

    by: what shows it, the chain itself, a checkpoint, or the file that holds the events.
    """

    subject: str
    seq: int
    what: str
    by: By

    def __str__(self) -> str:
        return f"{self.subject}: {self.what}"


class Link(NamedTuple):
    """What of an event makes the chain, and the source it was read from."""

    prev: str
    digest: str
    source: int


def digest_of(event: Mapping[str, Any]) -> str:
    """The digest of an event, as the API tells it, made again from all that it says. Raises ValueError or KeyError.

    It is the SHA-256 of the canonical JSON (RFC 8785) of the event; of these values, whose only number is an integer
    and whose names are ASCII, Python's own is the same.
    """
    actor = {
        name: value for name, value in event["actor"].items() if value is not None or name not in OPTIONAL_OF_ACTOR
    }
    content = {
        "subject": event["subject"],
        "seq": event["seq"],
        "prev": event["prev"],
        "event_id": event["id"],
        "at": event["time"],
        "action": event["action"],
        "actor": actor,
        "changes": canonical(event["changes"]),
    }
    if event["about"]:
        content["about"] = event["about"]
    return hashlib.sha256(canonical(content).encode()).hexdigest()


def canonical(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)


class Chain:
    """The events of one subject, by number, as far as they were read; they may come in any order."""

    def __init__(self, subject: str) -> None:
        self.links: dict[int, Link] = {}
        self._subject = subject
        self._found: list[Finding] = []

    @property
    def first(self) -> int:
        return min(self.links, default=0)

    @property
    def last(self) -> int:
        return max(self.links, default=0)

    def add(self, event: Mapping[str, Any], source: int) -> None:
        """Note an event. Raises ValueError or KeyError if it is none."""
        seq, link = event["seq"], Link(event["prev"], event["digest"], source)
        if not isinstance(seq, int) or isinstance(seq, bool) or seq < 1 or not isinstance(link.digest, str):
            raise ValueError(f"seq is {seq!r}")
        if digest_of(event) != link.digest:
            self.note(seq, f"event {seq} is not what it was: its content and its digest differ", "chain")
        known = self.links.setdefault(seq, link)
        if known is not link and (known.digest != link.digest or known.source == source):
            what = "is there twice" if known.digest == link.digest else "is there in two versions"
            self.note(seq, f"event {seq} {what}", "chain")

    def note(self, seq: int, what: str, by: By) -> None:
        self._found.append(Finding(self._subject, seq, what, by))

    def finding(self, is_from_start: bool) -> Finding | None:
        """The first thing that is wrong; is_from_start: the events were to be read from the very first one on."""
        found = [*self._found, *self._breaks(is_from_start)]
        return min(found, key=lambda finding: finding.seq, default=None)

    def _breaks(self, is_from_start: bool) -> Iterable[Finding]:
        before = 0 if is_from_start else self.first - 1
        digest = BEFORE_THE_FIRST if before == 0 else None
        for seq in sorted(self.links):
            link = self.links[seq]
            if seq != before + 1:
                missing = f"event {before + 1} is" if seq == before + 2 else f"events {before + 1} to {seq - 1} are"
                yield Finding(self._subject, before + 1, f"{missing} missing, event {seq} follows", "chain")
                return
            if digest is not None and link.prev != digest:
                what = f"does not follow event {before} as it was written" if before else "does not begin a chain"
                yield Finding(self._subject, seq, f"event {seq} {what}", "chain")
                return
            before, digest = seq, link.digest


class Chains:
    """The chains of all subjects."""

    def __init__(self) -> None:
        self._chains: dict[str, Chain] = {}
        self.events = 0

    @property
    def subjects(self) -> int:
        """Of how many there are events."""
        return sum(1 for chain in self._chains.values() if chain.links)

    def find(self, subject: str) -> Chain | None:
        """That of a subject, if there is one."""
        return self._chains.get(subject)

    def __getitem__(self, subject: str) -> Chain:
        """That of a subject; an empty one, if nothing was read of it."""
        if subject not in self._chains:
            self._chains[subject] = Chain(subject)
        return self._chains[subject]

    def add(self, event: Mapping[str, Any], source: int) -> None:
        """Note an event. Raises ValueError or KeyError if it is none."""
        subject = event["subject"]
        if not isinstance(subject, str):
            raise ValueError("subject is no text")
        self[subject].add(event, source)
        self.events += 1

    def findings(self, is_from_start: bool) -> list[Finding]:
        """Of each subject the first thing that is wrong, in order of subject."""
        found = (self._chains[subject].finding(is_from_start) for subject in sorted(self._chains))
        return [finding for finding in found if finding]
