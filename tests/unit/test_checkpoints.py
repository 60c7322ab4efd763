"""Checkpoints without AWS: the file, how heads move on, and runs that are late, cut short, repeated or met by lies."""

import hashlib
import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.registry import checkpointing
from chalicelib.registry.audit import BrokenChain
from chalicelib.registry.checkpointing import Checkpointed, Checkpointing
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
from chalicelib.registry.models import Head, time_text

MORNING = datetime(2026, 1, 10, 3, tzinfo=UTC)
SUBJECT = "MODEL#0123456789abcdef"


def digest_of(*content: object) -> str:
    return hashlib.sha256(repr(content).encode()).hexdigest()


def chain(length: int, subject: str = SUBJECT, at: datetime = MORNING) -> list[Link]:
    links, prev = [], "0" * 64
    for seq in range(1, length + 1):
        digest = digest_of(subject, seq, prev)
        links.append(Link(subject, seq, prev, digest, time_text(at)))
        prev = digest
    return links


def head_at(links: Sequence[Link], seq: int) -> Head:
    return Head(seq=seq, digest=links[seq - 1].digest) if seq else Head()


# --- Heads -------------------------------------------------------------------------------------------------------


@given(length=st.integers(0, 8), known=st.integers(0, 8), first=st.integers(1, 9), data=st.data())
def test_a_head_moves_to_the_last_link_wherever_the_links_begin_and_in_whatever_order_they_come(
    length, known, first, data
):
    links = chain(length)
    known, first = min(known, length), min(first, known + 1)
    seen = links[first - 1 :]

    moved = followed(head_at(links, known), data.draw(st.permutations(seen)))

    assert moved == (head_at(links, length) if seen else head_at(links, known))


def test_a_link_that_is_missing_is_named():
    links = chain(5)

    with pytest.raises(BrokenChain, match="event 4 is missing, event 5 follows"):
        followed(head_at(links, 2), [links[2], links[4]])


def test_links_that_end_before_the_head_are_reported():
    links = chain(5)

    with pytest.raises(BrokenChain, match="event 3 is the last one, the checkpoint before says 5"):
        followed(head_at(links, 5), links[:3])


def test_another_event_under_the_number_of_the_head_is_reported():
    links = chain(3)

    with pytest.raises(BrokenChain, match="event 3 is another one"):
        followed(Head(seq=3, digest=digest_of("before")), links)


def test_a_chain_that_was_written_anew_does_not_follow_the_head():
    links = chain(3)

    with pytest.raises(BrokenChain, match="event 3 does not follow event 2 as it was written"):
        followed(Head(seq=2, digest=digest_of("before")), links[2:])


# --- The file ----------------------------------------------------------------------------------------------------

HEADER = Header(until=MORNING, written_at=MORNING, previous=Previous(key="checkpoints/x", sha256="0" * 64))
SUBJECTS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), min_size=1, max_size=8)


@given(heads=st.dictionaries(SUBJECTS, st.integers(1, 10**9), max_size=5))
def test_a_file_is_read_back_as_it_was_written(heads):
    written = [(subject, Head(seq=seq, digest=digest_of(seq))) for subject, seq in sorted(heads.items())]

    lines = list(lines_of(HEADER, written))

    assert list(heads_in(lines)) == written
    assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in lines)


def test_the_file_is_as_it_is_told():
    lines = list(lines_of(HEADER, [(SUBJECT, Head(seq=3, digest="a" * 64))]))

    assert lines == [
        b'{"format":"model-registry-checkpoint/1","until":"2026-01-10T03:00:00.000000Z",'
        b'"written_at":"2026-01-10T03:00:00.000000Z","previous":{"key":"checkpoints/x","sha256":"'
        + b"0" * 64
        + b'"}}\n',
        b'["MODEL#0123456789abcdef",3,"' + b"a" * 64 + b'"]\n',
        b'{"subjects":1}\n',
    ]


@pytest.mark.parametrize(
    "damage",
    [
        lambda lines: lines[:-1],
        lambda lines: lines[1:],
        lambda lines: [],
        lambda lines: [lines[0], *lines[2:]],
        lambda lines: [*lines, lines[1]],
        lambda lines: [lines[0].replace(b"/1", b"/2"), *lines[1:]],
        lambda lines: [lines[0], b"[1]\n", *lines[1:]],
    ],
)
def test_a_file_that_is_not_whole_is_refused(damage):
    lines = list(lines_of(HEADER, [(SUBJECT, Head(seq=3, digest="a" * 64)), ("RM#1", Head(seq=1, digest="b" * 64))]))

    with pytest.raises(ValueError):
        list(heads_in(damage(lines)))


def test_what_is_settled_is_ten_minutes_old_and_a_whole_minute():
    assert settled(datetime(2026, 1, 10, 2, 17, 44, 5, tzinfo=UTC)) == datetime(2026, 1, 10, 2, 7, tzinfo=UTC)
    assert key_of(MORNING) == "checkpoints/2026-01-10T0300Z.jsonl"


# --- Runs --------------------------------------------------------------------------------------------------------


@dataclass
class World:
    """A trail and a bucket in memory. `late` subjects are not in the index yet; `table` is what the table has."""

    now: datetime = MORNING
    table: dict[str, list[Link]] = field(default_factory=lambda: defaultdict(list))
    late: set[str] = field(default_factory=set)
    files: dict[str, tuple[Checkpoint, bytes]] = field(default_factory=dict)
    broken: list[tuple[str, str]] = field(default_factory=list)
    days_read: list[str] = field(default_factory=list)
    looked_up: list[tuple[str, int]] = field(default_factory=list)

    def happen(self, subject: str = SUBJECT, count: int = 1) -> None:
        for _ in range(count):
            before = self.table[subject]
            prev = before[-1].digest if before else "0" * 64
            seq = len(before) + 1
            before.append(Link(subject, seq, prev, digest_of(subject, seq, prev), time_text(self.now)))

    def pass_by(self, **time: float) -> None:
        self.now += timedelta(**time)

    def run(self, is_time_left: Any = lambda: True) -> Checkpointed:
        run = Checkpointing(self, self, lambda: self.now, lambda *what: self.broken.append(what))  # type: ignore[arg-type]
        return run.run(is_time_left)

    @property
    def heads(self) -> dict[str, int]:
        """Of the newest checkpoint."""
        content = self.files[max(self.files)][1]
        return {subject: head.seq for subject, head in heads_in(content.splitlines(keepends=True))}

    # Trail

    def links(self, day: str) -> Iterator[Link]:
        self.days_read.append(day)
        found = [link for links in self.table.values() for link in links if link.at.startswith(day)]
        return iter(sorted((link for link in found if link.subject not in self.late), key=lambda link: link.digest))

    def links_of(self, subject: str, first: int) -> list[Link]:
        self.looked_up.append((subject, first))
        return [link for link in self.table[subject] if link.seq >= first]

    # Checkpoints

    def add(self, checkpoint: Checkpoint, content: BinaryIO) -> bool:
        if checkpoint.key in self.files:
            return False
        self.files[checkpoint.key] = (checkpoint, content.read())
        return True

    def newest(self, until: datetime) -> Checkpoint | None:
        found = [known for known, _ in self.files.values() if known.until <= until]
        return max(found, key=lambda known: known.until, default=None)

    def lines(self, key: str) -> Iterator[bytes]:
        return iter(self.files[key][1].splitlines(keepends=True))


@pytest.fixture
def world() -> World:
    return World()


def test_the_first_run_reads_everything_and_names_no_other(world):
    world.happen(count=3)
    world.happen("RM#1")
    world.pass_by(hours=1)

    done = world.run()

    assert done == Checkpointed(checkpoints_written=1, events_seen=4, subjects_moved=2, subjects=2)
    assert world.heads == {SUBJECT: 3, "RM#1": 1}
    assert world.days_read[0] == "2025-12-31"
    [(checkpoint, content)] = world.files.values()
    assert Header.model_validate_json(content.splitlines()[0]).previous is None
    assert checkpoint.sha256 == hashlib.sha256(content).hexdigest()
    assert checkpoint.until == MORNING + timedelta(minutes=50)


def test_the_next_run_reads_only_what_happened_since_and_keeps_what_did_not_change(world):
    world.happen(count=2)
    world.happen("RM#1")
    world.pass_by(days=1)
    world.run()
    world.days_read.clear()
    world.happen()
    world.pass_by(days=1)

    done = world.run()

    assert world.days_read == ["2026-01-11", "2026-01-12"]
    assert (done.events_seen, done.subjects_moved, done.subjects) == (1, 1, 2)
    assert world.heads == {SUBJECT: 3, "RM#1": 1}
    assert world.looked_up == []


def test_each_checkpoint_names_the_one_before(world):
    for _ in range(3):
        world.happen()
        world.pass_by(days=1)
        world.run()

    files = [world.files[key] for key in sorted(world.files)]
    named = [Header.model_validate_json(content.splitlines()[0]).previous for _, content in files]
    assert named == [None, *(Previous(key=known.key, sha256=known.sha256) for known, _ in files[:-1])]


def test_a_day_without_events_is_still_covered(world):
    world.happen()
    world.pass_by(days=1)
    world.run()
    world.pass_by(days=1)

    assert world.run() == Checkpointed(checkpoints_written=1, subjects=1)
    assert world.heads == {SUBJECT: 1}


def test_what_is_not_settled_is_left_to_the_next_run(world):
    world.happen()
    world.pass_by(minutes=9)
    world.happen("RM#1")

    world.run()
    assert world.heads == {}
    world.pass_by(minutes=2)
    world.run()

    assert world.heads == {SUBJECT: 1}


def test_a_run_that_is_repeated_in_the_same_minute_does_nothing(world):
    world.happen()
    world.pass_by(hours=1)
    world.run()

    assert world.run() == Checkpointed()
    assert len(world.files) == 1


def test_of_two_runs_at_once_one_writes_and_the_other_has_nothing_to_add(world):
    world.happen()
    world.pass_by(hours=1)
    outcomes = []
    add = world.add

    def other_first(checkpoint: Checkpoint, content: BinaryIO) -> bool:
        world.add = add  # type: ignore[method-assign]
        outcomes.append(world.run())
        return add(checkpoint, content)

    world.add = other_first  # type: ignore[method-assign]
    outcomes.append(world.run())

    assert [done.checkpoints_written for done in outcomes] == [1, 0]
    assert (len(world.files), world.heads, world.broken) == (1, {SUBJECT: 1}, [])


def test_what_is_no_checkpoint_under_the_key_of_one_ends_the_run_and_not_the_next(world):
    world.happen()
    world.pass_by(hours=1)
    add = world.add
    world.add = lambda *_: False  # type: ignore[method-assign]

    assert world.run() == Checkpointed(events_seen=1, subjects_moved=1, subjects=1, is_finished=False)
    world.add = add  # type: ignore[method-assign]
    world.pass_by(minutes=1)
    assert world.run().checkpoints_written == 1


def test_a_run_whose_time_is_up_stores_whole_days_and_the_next_goes_on_there(world):
    for _ in range(4):
        world.happen()
        world.pass_by(days=1)
    looks = itertools.count()

    # Looked at once a day, as soon as there is an event.
    done = world.run(lambda: next(looks) < 2)

    assert (done.is_finished, done.checkpoints_written, world.heads) == (False, 1, {SUBJECT: 2})
    assert max(world.files) == "checkpoints/2026-01-12T0000Z.jsonl"
    assert world.run().is_finished
    assert world.heads == {SUBJECT: 4}


def test_a_run_that_gets_nowhere_says_so_and_writes_nothing(world):
    world.happen()
    world.pass_by(days=1)
    world.run()
    world.happen()
    world.pass_by(hours=1)

    assert world.run(lambda: False) == Checkpointed(is_finished=False)
    assert len(world.files) == 1


@pytest.mark.parametrize("most", [1, 2, 5])
def test_more_events_than_are_held_at_once_make_several_checkpoints_in_one_run(world, monkeypatch, most):
    monkeypatch.setattr(checkpointing, "MAX_EVENTS", most)
    for _ in range(5):
        world.happen(count=2)
        world.pass_by(days=1)

    done = world.run()

    assert done.is_finished
    assert done.checkpoints_written > 1
    assert (world.heads, world.broken) == ({SUBJECT: 10}, [])


def test_an_index_that_is_behind_is_not_taken_for_a_broken_chain(world):
    world.happen()
    world.happen("RM#1")
    world.pass_by(days=1)
    world.run()
    world.happen(count=3)
    world.table[SUBJECT][1:2], hidden = [], world.table[SUBJECT][1]
    links_of = world.links_of
    world.links_of = lambda subject, first: sorted([*links_of(subject, first), hidden], key=lambda link: link.seq)  # type: ignore[method-assign]
    world.pass_by(days=1)

    done = world.run()

    assert (done.chains_broken, world.heads) == (0, {SUBJECT: 4, "RM#1": 1})


def test_a_subject_that_the_index_shows_late_is_found_by_the_next_run(world):
    world.late.add(SUBJECT)
    world.happen()
    world.pass_by(days=1)
    world.run()
    assert world.heads == {}
    world.late.clear()
    world.happen()
    world.pass_by(days=1)

    world.run()

    assert (world.heads, world.broken) == ({SUBJECT: 2}, [])


TAMPERED = {
    "the newest is dropped": (lambda links: links[:-1], "event 3 is the last one, the checkpoint before says 4"),
    "one is dropped": (lambda links: [*links[:2], links[3]], "event 3 is missing, event 4 follows"),
    "all are dropped": (lambda links: [], None),
    "the newest is another": (
        lambda links: [*links[:-1], links[-1]._replace(digest=digest_of("other"))],
        "event 4 is another one than the checkpoint before says",
    ),
    "one is another": (
        lambda links: [links[0], links[1]._replace(digest=digest_of("other")), *links[2:]],
        "event 3 does not follow event 2 as it was written",
    ),
    "all are written anew": (
        lambda links: [
            link._replace(prev=prev, digest=digest_of("new", link.seq))
            for link, prev in zip(links, ["0" * 64, *(digest_of("new", link.seq) for link in links)], strict=False)
        ],
        "event 4 is another one than the checkpoint before says",
    ),
}


@pytest.mark.parametrize(("tamper", "what"), TAMPERED.values(), ids=TAMPERED)
def test_what_is_changed_behind_a_checkpoint_is_reported_and_the_older_head_kept(world, tamper, what):
    world.happen("MODEL#untouched-000001")
    world.happen(count=4)
    world.pass_by(minutes=30)
    world.run()
    world.table[SUBJECT] = tamper(world.table[SUBJECT])
    world.happen("MODEL#untouched-000001")
    world.pass_by(minutes=30)

    done = world.run()

    # What is gone altogether shows when the trail is compared with the checkpoint: there is nothing left to read here.
    assert world.broken == ([(SUBJECT, what)] if what else [])
    assert done.chains_broken == len(world.broken)
    assert world.heads == {SUBJECT: 4, "MODEL#untouched-000001": 2}
    assert [line for content in world.files.values() for line in content[1].splitlines() if b"cdef" in line] == [
        f'["{SUBJECT}",4,"{chain(4)[-1].digest}"]'.encode()
    ] * 2


def test_a_chain_that_goes_on_from_something_else_is_reported_every_day_it_goes_on(world):
    world.happen(count=2)
    world.pass_by(days=1)
    world.run()
    world.table[SUBJECT] = [link._replace(digest=digest_of("new", link.seq)) for link in world.table[SUBJECT]]

    for _ in range(2):
        world.happen()
        world.pass_by(days=1)
        assert world.run().chains_broken == 1

    assert world.heads == {SUBJECT: 2}
    assert {what for _, what in world.broken} == {"event 2 is another one than the checkpoint before says"}


def test_a_subject_whose_chain_has_no_beginning_has_no_head(world):
    world.happen(count=2)
    del world.table[SUBJECT][0]
    world.pass_by(days=1)

    done = world.run()

    assert (done.chains_broken, world.heads) == (1, {})
    assert world.broken == [(SUBJECT, "event 1 is missing, event 2 follows")]


def test_a_checkpoint_that_is_not_what_was_stored_is_not_built_upon(world):
    world.happen()
    world.pass_by(days=1)
    world.run()
    known, content = world.files[max(world.files)]
    world.files[known.key] = (known, content.replace(b",1,", b",2,"))
    world.pass_by(days=1)

    with pytest.raises(ValueError, match=r"checkpoints/2026-01-11T0250Z.jsonl has the SHA-256"):
        world.run()
    assert len(world.files) == 1
