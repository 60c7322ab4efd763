"""Writes checkpoints: the heads of the one before, moved on by what happened since. Never by reading all subjects.

A run may end early, be repeated, or meet another one: each checkpoint is whole, covers what it says, and the next run
goes on behind the newest. A head only moves on along its chain; where the events say otherwise, the older head is kept
and reported, for as long as they do.
"""

import hashlib
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from heapq import merge
from itertools import groupby
from operator import itemgetter
from typing import BinaryIO

from chalicelib.registry.audit import BrokenChain
from chalicelib.registry.checkpoints import (
    Checkpoint,
    Header,
    Link,
    Previous,
    followed,
    heads_in,
    key_of,
    lines_of,
    settled,
)
from chalicelib.registry.models import Frozen, Head, time_text
from chalicelib.registry.ports import Checkpoints, Trail
from chalicelib.registry.trail import BEGINNING, days_back

OVERLAP = timedelta(hours=1)  # read again, at least, in case the index was later than ever seen
MAX_EVENTS = 500_000  # in memory at once, about 300 bytes each; the same run goes on with the next checkpoint
LOOKS_AT_TIME_EVERY = 1_000

Links = Mapping[str, Sequence[Link]]
Report = Callable[[str, str], None]


class Checkpointed(Frozen):
    """What a run did, by counts. `subjects` are those of the newest checkpoint, 0 if none was written."""

    checkpoints_written: int = 0
    events_seen: int = 0
    subjects_moved: int = 0
    subjects: int = 0
    chains_broken: int = 0
    is_finished: bool = True


class Checkpointing:
    """Writes checkpoints within a time. `report` is told of each subject whose chain is broken, and how."""

    def __init__(self, trail: Trail, checkpoints: Checkpoints, clock: Callable[[], datetime], report: Report) -> None:
        self._trail = trail
        self._checkpoints = checkpoints
        self._clock = clock
        self._report = report

    def run(self, is_time_left: Callable[[], bool]) -> Checkpointed:
        """Checkpoints up to now, as far as the time suffices. Raises Unavailable, and ValueError for a damaged one."""
        until = settled(self._clock())
        done, before = Checkpointed(), self._checkpoints.newest(until)
        while before is None or before.until < until:
            step = Step(self._trail, before, until)
            if not step.read(is_time_left):
                return done.model_copy(update={"is_finished": False})
            done = self._write(step, done)
            before = self._checkpoints.newest(until)
            if before == step.before:
                # Something that is no checkpoint stands under its key. The key of a later run is another one.
                return done.model_copy(update={"is_finished": False})
        return done

    def _write(self, step: "Step", done: Checkpointed) -> Checkpointed:
        before, written_at = step.before, self._clock()
        previous = Previous(key=before.key, sha256=before.sha256) if before else None
        header = Header(until=step.reached, written_at=written_at, previous=previous)
        broken: list[str] = []

        def report(subject: str, what: str) -> None:
            broken.append(subject)
            self._report(subject, what)

        with tempfile.TemporaryFile() as file:
            heads = step.heads(self._lines_of(before), report)
            digest, count = _write_lines(file, lines_of(header, heads))
            checkpoint = Checkpoint(
                key=key_of(step.reached), until=step.reached, written_at=written_at, subjects=count, sha256=digest
            )
            # If another run was quicker, its checkpoint of the same minute is as good.
            is_new = self._checkpoints.add(checkpoint, file)
        return Checkpointed(
            checkpoints_written=done.checkpoints_written + is_new,
            events_seen=done.events_seen + step.events,
            subjects_moved=done.subjects_moved + len(step.links),
            subjects=count,
            chains_broken=done.chains_broken + len(broken),
        )

    def _lines_of(self, before: Checkpoint | None) -> Iterator[bytes]:
        """The lines of a stored checkpoint. Raises ValueError behind the last one if it is not what was stored."""
        if before is None:
            return
        digest = hashlib.sha256()
        for line in self._checkpoints.lines(before.key):
            digest.update(line)
            yield line
        if digest.hexdigest() != before.sha256:
            raise ValueError(f"{before.key} has the SHA-256 {digest.hexdigest()}, not {before.sha256}")


class Step:
    """From one checkpoint to the next: what happened in between, at most as much as may be held at once."""

    def __init__(self, trail: Trail, before: Checkpoint | None, until: datetime) -> None:
        self.before = before
        self.reached = until
        self.links: dict[str, list[Link]] = defaultdict(list)
        self.events = 0
        self._trail = trail
        self._begun = before.until if before else BEGINNING
        self._until = until

    def read(self, is_time_left: Callable[[], bool]) -> bool:
        """Read on from the checkpoint before, by whole days. Whether it got anywhere."""
        for day in reversed(days_back(self._begun - OVERLAP, self._until)):
            start = datetime.fromisoformat(day).replace(tzinfo=UTC)
            is_enough = self.events >= MAX_EVENTS and start > self._begun
            links = None if is_enough else self._links(day, is_time_left)
            if links is None:
                self.reached = start
                return start > self._begun
            for link in links:
                self.links[link.subject].append(link)
            self.events += len(links)
        return True

    def _links(self, day: str, is_time_left: Callable[[], bool]) -> Sequence[Link] | None:
        """What happened on a day, as far as it is settled; None if the time is up."""
        end, links = time_text(self._until), []
        for count, link in enumerate(self._trail.links(day)):
            if count % LOOKS_AT_TIME_EVERY == 0 and not is_time_left():
                return None
            if link.at < end:
                links.append(link)
        return links

    def heads(self, lines: Iterable[bytes], report: Report) -> Iterator[tuple[str, Head]]:
        """All heads, in order of subject."""
        before = heads_in(lines) if self.before else iter(())
        moved = ((subject, Head()) for subject in sorted(self.links))
        for subject, found in groupby(merge(before, moved, key=itemgetter(0)), key=itemgetter(0)):
            # Of a subject that is in both, the head from before comes first.
            head = self._followed(subject, next(found)[1], report)
            if head.seq:
                yield subject, head

    def _followed(self, subject: str, head: Head, report: Report) -> Head:
        links = self.links.get(subject, ())
        try:
            return followed(head, links)
        except BrokenChain:
            # An index may be behind: the table itself decides.
            first, end = max(1, min(head.seq, *(link.seq for link in links))), time_text(self.reached)
            links = [link for link in self._trail.links_of(subject, first) if link.at < end]
        try:
            if not links:
                raise BrokenChain(f"no event is left from event {first} on")
            return followed(head, links)
        except BrokenChain as exc:
            report(subject, str(exc))
            return head


def _write_lines(file: BinaryIO, lines: Iterable[bytes]) -> tuple[str, int]:
    """SHA-256 of what was written, and how many lines stand between the first and the last."""
    digest, count = hashlib.sha256(), 0
    for count, line in enumerate(lines, -1):  # noqa: B007 (the count is the answer)
        digest.update(line)
        file.write(line)
    file.seek(0)
    return digest.hexdigest(), count
