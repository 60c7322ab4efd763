"""What the registry remembers of a Geti server: runs of the sync, projects, models, imports that were asked for.

`store/geti.py` keeps these; the rules are in syncing.py and importing.py.
"""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator

from chalicelib.geti.records import OriginState
from chalicelib.registry.access import Actor
from chalicelib.registry.models import Frozen, QualifiedName

MAX_WHY_BYTES = 400
MAX_TOLD = 100  # models that a report names; its counts are exact
# Who acts when nobody asked.
SYNC = Actor(kind="system", name="geti-sync")


def _short(text: str) -> str:
    """The beginning of a text: a report stands in one item of the table, which may have 400 KB."""
    return text.encode()[:MAX_WHY_BYTES].decode(errors="ignore")


class Told(Frozen):
    """One model (or project) of a report, and why, as far as there is room."""

    id: str
    why: Annotated[str, AfterValidator(_short)]


class Counts(Frozen):
    """What a run did with models: those it saw, those it had not seen before, and what became of them."""

    seen: int = 0
    new: int = 0
    imported: int = 0
    skipped: int = 0
    failed: int = 0
    marked: int = 0


class Outcome(StrEnum):
    """How a run ended: all done; some of it failed, or was not seen; nothing could be done."""

    OK = "ok"
    PARTIAL = "partial"
    FAILED = "failed"


class Run(Frozen):
    """A run of the sync: first it looks through the projects, from `position` on, and queues; then imports end.

    `position` is the place of the project that was done last (looking.py says in which order they are taken); of the
    next one, `paused_in`, so many trained versions are done too. `counts` are those of the looking; what becomes of the
    imports is counted apart until the run ends. `requests` were sent to Geti; `is_refused`: which did not accept the
    token. `by`: who asked for it, the sync itself if nobody did.
    """

    id: str
    started_at: datetime
    finished_at: datetime | None = None
    outcome: Outcome | None = None
    is_dry: bool = False
    is_full: bool = False
    is_asked_for: bool = False
    by: Actor = SYNC
    position: str = ""
    paused_in: str = ""
    versions_done: int = 0
    has_looked: bool = False
    counts: Counts = Counts()
    skipped: tuple[Told, ...] = ()
    failed: tuple[Told, ...] = ()
    requests: int = 0
    is_refused: bool = False

    @property
    def subject(self) -> str:
        """Whose trail it belongs to."""
        return self.id

    @property
    def qualified_name(self) -> QualifiedName | None:
        """Of no model: only an admin without limits sees it."""
        return None


class Memory(Frozen):
    """What one run leaves to the next.

    jobs_until and jobs_seen: the end of the job that ended last, and the ids of those that ended shortly before it.
    owed: projects that have to be looked at in whole, since the run that had to do so could not. in_the_way: those at
    which it failed, which are looked at last.
    refused_token: a digest of the token that Geti refused at refused_at.
    """

    full_at: datetime | None = None
    jobs_until: datetime | None = None
    jobs_seen: tuple[str, ...] = ()
    owed: tuple[str, ...] = ()
    in_the_way: tuple[str, ...] = ()
    refused_token: str | None = None
    refused_at: datetime | None = None


class Lease(Frozen):
    """The right to act as the run; whoever takes it next has a higher fence, and this one's writes fail then."""

    server_id: str
    run_id: str
    fence: int


class RunStatus(Frozen):
    """A run with what became of its imports so far. `outstanding` have no outcome yet; `failures` are capped.

    `last`: the run before it.
    """

    run: Run
    last: Run | None = None
    is_leased: bool
    outstanding: int = 0
    imported: int = 0
    failed: int = 0
    failures: tuple[Told, ...] = ()

    def finished(self, at: datetime) -> Run:
        """The run as it ends now, with its final counts. What is outstanding then has failed."""
        run = self.run
        gone: tuple[Told, ...] = ()
        if self.outstanding:
            why = f"no more was heard of {self.outstanding} imports; what becomes of them is not counted"
            gone = (Told(id="imports", why=why),)
        counts = run.counts.model_copy(
            update={"imported": self.imported, "failed": run.counts.failed + self.failed + self.outstanding}
        )
        usual = Outcome.PARTIAL if counts.failed else Outcome.OK
        return run.model_copy(
            update={
                "finished_at": max(at, run.started_at),
                "outcome": run.outcome if run.outcome in (Outcome.PARTIAL, Outcome.FAILED) else usual,
                "counts": counts,
                "failed": (*run.failed, *gone, *self.failures)[:MAX_TOLD],
            }
        )


class Looked(Frozen):
    """A trained version as it was looked at last: a digest of what was seen and by which rules, and of how many models.

    Both are of what is final: a version with models that Geti is not done with is not remembered.
    """

    digest: str
    models: int


class ProjectState(Frozen):
    """A project as it was looked at last. A version that is not in `looked`, or by another digest, is looked at again.

    `place`: the workspace that it is in, of whatever organization; elsewhere it is no wonder that it is missing.
    `missing`: trained versions that hold imported models and were not in the last complete listing.
    """

    id: str
    name: str
    place: str = ""
    looked: Mapping[str, Looked] = {}
    missing: tuple[str, ...] = ()


class ItemState(StrEnum):
    """What is being done about a model: waits in the queue, is there, failed and is tried again, is given up."""

    QUEUED = "queued"
    IMPORTED = "imported"
    FAILED = "failed"
    PARKED = "parked"


class Item(Frozen):
    """A model of Geti that the registry imports or has imported; its id there is that of the registered version.

    `due_at`: when to try again, or to look whether the queue lost it; None when nothing is to be done. `run_id`: the
    run that waits for it. `misses`: complete listings in a row that did not have it.
    """

    project_id: str
    group_id: str
    base_model_id: str
    model_id: str
    state: ItemState = ItemState.QUEUED
    attempts: int = 0
    why: str | None = None
    due_at: datetime | None = None
    run_id: str | None = None
    origin_state: OriginState = OriginState.PRESENT
    misses: int = 0


class Order(Frozen):
    """A message of the queue: import this model.

    `tries` counts the ones that failed in a row, `waits` how often it had to wait for its turn. `import_id`: the
    request that waits for the outcome; `by`: who asked, the sync itself if nobody did.
    """

    server_id: str
    project_id: str
    group_id: str
    model_id: str
    import_id: str | None = None
    by: Actor = SYNC
    tries: int = 0
    waits: int = 0


class ImportedModel(Frozen):
    """What became of one model of a request. `why`: of what failed."""

    id: str
    outcome: Literal["pending", "registered", "exists", "failed"] = "pending"
    why: str | None = None


class Import(Frozen):
    """A request to import models of a project, with an outcome for each. `asked_by`: the id of the token that asked."""

    id: str
    project_id: str
    project_name: str
    asked_at: datetime
    asked_by: str | None = None
    models: tuple[ImportedModel, ...]

    @property
    def is_done(self) -> bool:
        return all(model.outcome != "pending" for model in self.models)
