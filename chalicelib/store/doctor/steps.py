"""Goes through both tables in steps that end in time, and tells where the next one goes on.

First the registry table, each item with its counterparts and its trail; then the events, for subjects that no item
knows. A step is some chunks; within a chunk items are examined at once, in threads, since most of the time is waiting.
"""

import base64
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

from pydantic import Field

from chalicelib.registry.doctor import Finding, Order, Report
from chalicelib.registry.errors import InvalidInput, Unavailable
from chalicelib.registry.models import Frozen
from chalicelib.registry.ports import Blobs
from chalicelib.store.doctor.examining import COUNTS, ChainPosition, Examined, Examiner, unjudged
from chalicelib.store.doctor.tables import Tables, Where
from chalicelib.store.doctor.views import Key
from chalicelib.store.transactions import RawItem, Retry

# Well below the 60 s after which AWS's command and SDKs take a silent function for a lost one.
STEP_SECONDS = 40
MAX_FINDINGS = 500  # a function may answer 6 MB
THREADS = 8


class Limits(Frozen):
    """How much is looked at at once. Tests make it less."""

    items: int = Field(32, ge=1)
    subjects: int = Field(200, ge=1)
    chain_events: int = Field(500, ge=1)
    threads: int = Field(THREADS, ge=1)


class Position(Frozen):
    """Where to go on: behind this item of this table, when these chains are followed to their ends."""

    table: Literal["registry", "events"] = "registry"
    after: Where | None = None
    chains: tuple[ChainPosition, ...] = ()

    def as_text(self) -> str:
        return base64.urlsafe_b64encode(self.model_dump_json().encode()).decode()

    @classmethod
    def of(cls, text: str) -> "Position":
        """Raises InvalidInput."""
        try:
            return cls.model_validate_json(base64.b64decode(text, "-_", validate=True))
        except ValueError as exc:
            raise InvalidInput("after", "after is not a position that a step answered; begin anew with null.") from exc


class Doctor:
    """`report` is told of errors that are bugs."""

    def __init__(
        self,
        blobs: Blobs,
        report: Callable[[Exception], None],
        retry: Retry | None = None,
        limits: Limits | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tables = Tables(retry or Retry())
        self._blobs = blobs
        self._report = report
        self._limits = limits or Limits()
        self._monotonic = monotonic

    def step(self, order: Order, is_time_left: Callable[[], bool]) -> Report:
        """Look at the next part of everything, one chunk at least. Raises InvalidInput, or Unavailable at the first."""
        begin = Position.of(order.after) if order.after is not None else Position()
        position: Position | None = begin
        examiner = Examiner(self._tables, self._blobs, order.repair, self._limits.chain_events)
        findings: list[Finding] = []
        counts = dict.fromkeys(COUNTS, 0)
        ends_at = self._monotonic() + STEP_SECONDS
        with ThreadPoolExecutor(self._limits.threads, thread_name_prefix="doctor") as threads:
            round_ = Round(self._tables, examiner, threads, self._limits, self._report)
            while position:
                try:
                    position, examined = round_.advance(position)
                except Unavailable:
                    if position == begin:
                        raise
                    break
                for one in examined:
                    findings += one.findings
                    one.add_to(counts)
                if len(findings) >= MAX_FINDINGS or self._monotonic() > ends_at or not is_time_left():
                    break
        return Report(findings=tuple(findings), counts=counts, after=position.as_text() if position else None)


class Round:
    """Looks at one chunk after the other."""

    def __init__(
        self,
        tables: Tables,
        examiner: Examiner,
        threads: ThreadPoolExecutor,
        limits: Limits,
        report: Callable[[Exception], None],
    ) -> None:
        self._tables = tables
        self._examiner = examiner
        self._threads = threads
        self._limits = limits
        self._report = report

    def advance(self, position: Position) -> tuple[Position | None, list[Examined]]:
        """Look at the next chunk; where the next one begins, and what came of it. Raises Unavailable."""
        if position.chains:
            examined = list(self._threads.map(self._follow, position.chains))
            left = tuple(one.chain for one in examined if one.chain)
            return position.model_copy(update={"chains": left}), examined
        if position.table == "registry":
            return self._next_items(position.after)
        return self._next_subjects(position.after)

    def _next_items(self, after: Where | None) -> tuple[Position, list[Examined]]:
        rows = self._tables.scan("registry", after, self._limits.items)
        examined = list(self._threads.map(self._examine, rows.items))
        chains = tuple(one.chain for one in examined if one.chain)
        if rows.after:
            return Position(after=rows.after, chains=chains), examined
        return Position(table="events", chains=chains), examined

    def _next_subjects(self, after: Where | None) -> tuple[Position | None, list[Examined]]:
        rows = self._tables.scan("events", after, self._limits.subjects, ["pk", "sk"])
        subjects = {raw["pk"]["S"]: raw for raw in reversed(rows.items) if not after or raw["pk"]["S"] != after[0]}
        examined = list(self._threads.map(self._examine_subject, subjects.values()))
        return Position(table="events", after=rows.after) if rows.after else None, examined

    # What fails every time must not hide what is behind it for ever.

    def _examine(self, raw: RawItem) -> Examined:
        key = Key("registry", raw["pk"]["S"], raw["sk"]["S"])
        return self._guarded(key, lambda: self._examiner.examine(key, raw))

    def _examine_subject(self, raw: RawItem) -> Examined:
        key = Key("events", raw["pk"]["S"], raw["sk"]["S"])
        return self._guarded(key, lambda: self._examiner.examine_subject(key, raw))

    def _follow(self, position: ChainPosition) -> Examined:
        key = Key("registry", position.pk, "META")
        return self._guarded(key, lambda: self._examiner.follow_on(position))

    def _guarded(self, key: Key, examine: Callable[[], Examined]) -> Examined:
        try:
            return examine()
        except Unavailable:
            raise
        except Exception as exc:
            self._report(exc)
            return Examined([unjudged(key, exc)], {"items": 1})
