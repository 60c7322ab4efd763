"""What the import and the sync ask of the outside: of a Geti server, of the tables, of the queue.

server2.py and server3.py answer with Geti, store/geti.py with DynamoDB, store/work.py with SQS and Lambda.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from chalicelib.geti.records import FinishedJob, Group, ModelDetails, OptimizedModel, Project, ServerInfo
from chalicelib.geti.states import Import, ImportedModel, Item, Lease, Memory, Order, ProjectState, Run, RunStatus
from chalicelib.registry.errors import RegistryError


@dataclass(frozen=True)
class Package:
    """A package on its way from Geti: its bytes, once, and what Geti says of them. `size` None: it does not say."""

    file_name: str
    size: int | None
    chunks: Iterator[bytes]


class Server(Protocol):
    """A Geti server of whatever version, as its token's user sees it. Everything raises GetiError (errors.py).

    An answer is complete or an error: never a part of a list, never an empty one for what could not be read.
    """

    @property
    def info(self) -> ServerInfo:
        """What answers there."""

    @property
    def requests(self) -> int:
        """How many requests were sent so far."""

    def projects(self) -> Sequence[Project]:
        """Every project that the user may see, each once."""

    def project(self, project_id: str) -> Project:
        """Raises GetiGone."""

    def groups(self, project: Project) -> Sequence[Group]:
        """All groups with their trained versions."""

    def details(self, project: Project, group_id: str, model_id: str) -> ModelDetails:
        """A trained version, by its id or that of one of its optimized models. Raises GetiGone."""

    def finished_jobs(self, since: datetime) -> Sequence[FinishedJob]:
        """Jobs created from this time on that ended; none where Geti does not tell of jobs."""

    def package(self, project: Project, model: OptimizedModel) -> AbstractContextManager[Package]:
        """What Geti deploys of an optimized model: a ZIP. Its chunks raise GetiBusy if it breaks off."""


class SyncRunning(RegistryError):
    """A run is going on: wait for its end."""

    code = "sync_running"


class LeaseLost(Exception):
    """Another run has taken over: stop, and write nothing more."""


class SyncStore(Protocol):
    """What is remembered of one Geti server. Raises Unavailable; what takes a lease raises LeaseLost, and then nothing
    was written."""

    def begin(self, run: Run, at: datetime) -> Run:
        """Begin this run, or go on with one that stopped half-way: the run to be worked on.

        Raises SyncRunning while somebody holds the lease of another run, or its imports still end. A run is over that
        nothing was heard of for long (importing.py says how long an import may take): it is finished first, what is
        outstanding counted as failed.
        """

    def give_up(self, at: datetime) -> Run | None:
        """Finish a run that is over although nobody finished it, or of which nothing was heard for long; that run."""

    def lease(self, run_id: str, at: datetime, until: datetime) -> tuple[Lease, Run, Memory]:
        """The right to work on this run. Raises SyncRunning if somebody has it, or it is not the current run."""

    def save(self, lease: Lease, run: Run, memory: Memory) -> None:
        """Keep how far the run has come."""

    def release(self, lease: Lease, run: Run, memory: Memory) -> None:
        """Keep how far the run has come, and let go of it."""

    def finish(self, at: datetime) -> Run | None:
        """The run with its final counts, if it has looked, nothing is outstanding and it was not finished before.

        Finished once, with its event (`sync.finished`). None otherwise.
        """

    def status(self, at: datetime) -> RunStatus | None:
        """The current run, or the last one; None before the first."""

    def projects(self) -> Mapping[str, ProjectState]:
        """All projects that were ever looked at, by id."""

    def save_project(self, lease: Lease, project: ProjectState) -> None:
        """Keep what was seen of a project."""

    def items(self, project_id: str) -> Sequence[Item]:
        """All items of a project."""

    def item(self, project_id: str, model_id: str) -> Item | None:
        """One item."""

    def queue(self, lease: Lease, item: Item) -> None:
        """Keep an item as queued, or queued again, for the run of the lease, which waits for one more.

        It is due at `due_at`, in case the queue loses it. An item that the run waits for already is only due later.
        """

    def mark(self, lease: Lease, item: Item) -> None:
        """Keep `origin_state` and `misses` of an item."""

    def due(self, at: datetime, limit: int) -> Sequence[Item]:
        """Items that are due at this time, the longest overdue first."""

    # Of the imports, which run beside the sync and hold no lease.

    def claim(self, order: Order, base_model_id: str, holder: str, at: datetime, until: datetime) -> Item | None:
        """The item of an order, made if there is none, held by this worker until then; None if another one holds it."""

    def settle(self, item: Item, holder: str, order: Order, outcome: ImportedModel) -> None:
        """Keep the item as it is now (its state, attempts, why, due_at), let go of it, and tell who waits.

        The run that waits for the item counts it, and waits no more: as imported if the outcome is `registered` or
        `exists`, as failed otherwise. The request that waits (`order.import_id`) gets the outcome, unless it has one.
        All of it or nothing; nothing if `holder` does not hold the item any more.
        """

    def let_go(self, item: Item, holder: str) -> None:
        """Let go of an item without an outcome: it is tried again."""

    def take_slot(self, slots: int, holder: str, at: datetime, until: datetime) -> int | None:
        """One of so many slots, held until then; None if all are taken."""

    def free_slot(self, slot: int, holder: str) -> None:
        """Give it back. Never raises for a failing store: it becomes free by itself."""

    def owner_of_name(self, project_id: str, name: str, group_id: str) -> str:
        """The group that has this model name in a project: whichever asked first, for ever."""


class Imports(Protocol):
    """The requests to import. Raises Unavailable."""

    def add(self, asked: Import, ttl: datetime) -> None:
        """Store a new request; it is forgotten at `ttl`."""

    def get(self, import_id: str) -> Import:
        """A request with the outcomes so far. Raises NotFound."""

    def settle(self, import_id: str, outcome: ImportedModel) -> None:
        """Keep the outcome of a model, unless it has one already."""


class Work(Protocol):
    """What other functions do. Raises Unavailable if it could not be asked for."""

    def queue(self, order: Order, delay_seconds: int = 0) -> None:
        """Have a model imported, not before the delay."""

    def start_sync(self, run_id: str) -> None:
        """Have a run worked on, now, by another function."""
