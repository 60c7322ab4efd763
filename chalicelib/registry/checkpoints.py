"""Checkpoints: what the newest event of every subject was at a time. Pure: the file, and how heads move on.

A checkpoint is kept where it cannot be changed. Since each event carries the digest of the one before, a head in it
stands for the whole chain up to there: whoever rewrites that later, however well, no longer has this digest.

The file is JSON Lines, sorted by subject, so that two of them are merged without holding either:

    {"format": "model-registry-checkpoint/1", "until": ..., "written_at": ..., "previous": {"key", "sha256"} or null}
    ["MODEL#...", 3, "digest of event 3"]
    {"subjects": 1}
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple

from pydantic import Field

from chalicelib.registry.audit import BrokenChain
from chalicelib.registry.models import Frozen, Head, time_text

PREFIX = "checkpoints/"
# An operation commits up to 30 s after the time of its event, and an index follows the table a little later.
LAG = timedelta(minutes=10)


class Link(NamedTuple):
    """What of an event makes the chain."""

    subject: str
    seq: int
    prev: str
    digest: str
    at: str


class Previous(Frozen):
    """The checkpoint before, so that they are a chain themselves."""

    key: str
    sha256: str


class Header(Frozen):
    """The first line. Every event before `until` is covered."""

    format: Literal["model-registry-checkpoint/1"] = "model-registry-checkpoint/1"
    until: datetime
    written_at: datetime
    previous: Previous | None

    def line(self) -> bytes:
        known = {"until": time_text(self.until), "written_at": time_text(self.written_at)}
        return _line({**self.model_dump(mode="json"), **known})


class Checkpoint(Frozen):
    """A checkpoint that is stored; sha256 is that of the whole file. Without a lock there is no `retained_until`."""

    key: str
    until: datetime
    written_at: datetime
    subjects: int
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    retained_until: datetime | None = None


def settled(now: datetime) -> datetime:
    """The minute before which nothing happens any more, and all that happened is seen."""
    return (now - LAG).replace(second=0, microsecond=0)


def key_of(until: datetime) -> str:
    """One checkpoint for a minute: of two writers one is refused, and has nothing to add."""
    return f"{PREFIX}{until.astimezone(UTC):%Y-%m-%dT%H%MZ}.jsonl"


def lines_of(header: Header, heads: Iterable[tuple[str, Head]]) -> Iterator[bytes]:
    """The file, line by line, of heads in order of subject."""
    yield header.line()
    count = 0
    for subject, head in heads:
        count += 1
        yield _line([subject, head.seq, head.digest])
    yield _line({"subjects": count})


def heads_in(lines: Iterable[bytes]) -> Iterator[tuple[str, Head]]:
    """The heads of a file. Raises ValueError if it is not whole, or of another format."""
    rest = iter(lines)
    Header.model_validate_json(next(rest, b""))
    count = 0
    for line in rest:
        content = json.loads(line)
        if isinstance(content, dict):
            if content != {"subjects": count} or next(rest, None) is not None:
                raise ValueError(f"a checkpoint ends with {content}, after {count} subjects")
            return
        count += 1
        subject, seq, digest = content
        yield subject, Head(seq=seq, digest=digest)
    raise ValueError(f"a checkpoint has no end, after {count} subjects")


def followed(head: Head, links: Sequence[Link]) -> Head:
    """The head that these links lead to from this one; they may begin before it. Raises BrokenChain."""
    ordered = sorted(links, key=lambda link: link.seq)
    now = head
    if ordered and ordered[0].seq <= head.seq:
        now = Head(seq=ordered[0].seq - 1, digest=ordered[0].prev)
    for link in ordered:
        if link.seq != now.seq + 1:
            raise BrokenChain(f"event {now.seq + 1} is missing, event {link.seq} follows")
        if link.prev != now.digest:
            raise BrokenChain(f"event {link.seq} does not follow event {now.seq} as it was written")
        now = Head(seq=link.seq, digest=link.digest)
        if now.seq == head.seq and now != head:
            raise BrokenChain(f"event {now.seq} is another one than the checkpoint before says")
    if now.seq < head.seq:
        raise BrokenChain(f"event {now.seq} is the last one, the checkpoint before says {head.seq}")
    return now


def _line(content: object) -> bytes:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
