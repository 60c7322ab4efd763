"""A run of the sync: one at a time, resumable, with a report.

A run is begun by the schedule or by somebody's request. It holds a lease while it looks through Geti (looking.py), and
is finished when the imports that it queued have ended, which the last of them sees to. A run that was interrupted is
gone on with by the next one that is begun.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from chalicelib.geti.errors import GetiError, GetiUnauthorized
from chalicelib.geti.looking import MAX_OWED, Pass, look
from chalicelib.geti.marking import Marking
from chalicelib.geti.ports import LeaseLost, Server, SyncRunning, SyncStore, Work
from chalicelib.geti.records import FinishedJob
from chalicelib.geti.selection import Selection
from chalicelib.geti.states import Lease, Memory, Outcome, Run, RunStatus, Told
from chalicelib.geti.tally import Tally
from chalicelib.registry.access import Actor
from chalicelib.registry.errors import NotConfigured, Unavailable
from chalicelib.registry.service import Registry

LEASED_FOR = timedelta(seconds=1200)  # longer than the function may run: it never has to be renewed
FULL_EVERY = timedelta(hours=24)
LONGEST_JOB = timedelta(hours=24)  # jobs are found by when they were created
SAME_TIME = timedelta(minutes=10)  # jobs that ended so close to the last one may come to be listed after it
MAX_JOBS_SEEN = 1000
REFUSED_FOR = timedelta(hours=1)  # until a token that Geti refused is tried again

Finished = Callable[[Run], None]


class Syncing:
    """Begins runs, works on them, and tells of them. `finished` is told of each run that has ended.

    `report` of errors that are bugs; `token_digest` tells tokens apart without showing them.
    """

    def __init__(
        self,
        server: Server,
        store: SyncStore,
        work: Work,
        registry: Registry,
        selection: Selection,
        token_digest: Callable[[], str],
        clock: Callable[[], datetime],
        new_ulid: Callable[[], str],
        finished: Finished,
        report: Callable[[Exception], None],
    ) -> None:
        self._server = server
        self._store = store
        self._work = work
        self._registry = registry
        self._selection = selection
        self._token_digest = token_digest
        self._clock = clock
        self._new_ulid = new_ulid
        self._finished = finished
        self._report = report

    def ask(self, by: Actor, *, is_dry: bool, is_full: bool) -> Run:
        """Begin a run, or go on with one that was interrupted, elsewhere and soon; the run.

        Raises SyncRunning, and Unavailable, after which the next run that is begun goes on with it.
        """
        run = Run(
            id=self._new_ulid(), started_at=self._clock(), is_dry=is_dry, is_full=is_full, is_asked_for=True, by=by
        )
        begun = self._begun(run)
        if begun.id != run.id and (is_dry or begun.is_dry or (is_full and not begun.is_full)):
            raise SyncRunning("Another sync was interrupted, and goes on by itself: wait for its end.")
        self._work.start_sync(begun.id)
        return begun

    def status(self) -> RunStatus | None:
        """The run that is going on, or the last one."""
        return self._store.status(self._clock())

    def run(self, run_id: str | None, is_time_left: Callable[[], bool]) -> Run | None:
        """Work on this run, or on a new one; as it is then. None if another one is going on.

        Raises Unavailable, and whatever is a bug, after which the run can be gone on with at once.
        """
        at = self._clock()
        try:
            run_id = run_id or self._begun(Run(id=self._new_ulid(), started_at=at)).id
            lease, run, memory = self._store.lease(run_id, at, at + LEASED_FOR)
        except SyncRunning:
            return None
        try:
            run = self._worked_on(lease, run, memory, at, is_time_left)
        except LeaseLost:
            return None
        if done := self._store.finish(self._clock()):
            self._finished(done)
        return done or run

    def _begun(self, run: Run) -> Run:
        """Raises SyncRunning."""
        if over := self._store.give_up(run.started_at):
            self._finished(over)
        return self._store.begin(run, run.started_at)

    def _worked_on(self, lease: Lease, run: Run, memory: Memory, at: datetime, is_time_left: Callable[[], bool]) -> Run:
        if self._is_refused(run, memory, at):
            why = f"Geti refused this token at {memory.refused_at:%Y-%m-%d %H:%M} UTC; it is tried again after an hour"
            return self._ended(lease, run, memory, why, is_refused=True)
        is_full = run.is_full or memory.full_at is None or at - memory.full_at >= FULL_EVERY
        run = run.model_copy(update={"is_full": is_full})
        asked_before = self._server.requests
        work = self._pass(lease, run, memory, at, is_time_left)
        try:
            work.place = self._server.info.place
            work.changed, jobs = self._jobs(memory, at)
            run = self._counted(look(work, memory), asked_before)
        except GetiUnauthorized as exc:
            memory = memory.model_copy(update={"refused_token": self._token_digest(), "refused_at": at})
            return self._ended(lease, self._counted(work.told, asked_before), memory, str(exc), is_refused=True)
        except (GetiError, NotConfigured) as exc:
            return self._ended(lease, self._counted(work.told, asked_before), memory, str(exc))
        except LeaseLost:
            raise
        except Exception:
            # Whoever tries again shall not wait for the end of the lease.
            with suppress(LeaseLost, Unavailable):
                told = self._counted(work.whole, asked_before)
                self._store.release(lease, told, _remembered(memory, told, work, {}))
            raise
        self._store.release(lease, run, _remembered(memory, run, work, jobs))
        return run

    def _pass(self, lease: Lease, run: Run, memory: Memory, at: datetime, is_time_left: Callable[[], bool]) -> Pass:
        return Pass(
            server=self._server,
            store=self._store,
            work=self._work,
            marking=Marking(self._server, self._store, self._registry),
            selection=self._selection,
            at=at,
            lease=lease,
            run=run,
            tally=Tally(run),
            place="",
            changed=frozenset(),
            owed=frozenset(memory.owed),
            owing=set(),
            failed=set(memory.in_the_way) if run.position else set(),
            whole=run,
            began_behind=run.position or run.paused_in,
            is_time_left=is_time_left,
            report=self._report,
        )

    def _is_refused(self, run: Run, memory: Memory, at: datetime) -> bool:
        """Whether to leave Geti alone: nobody is there to see, and the token is the one that was refused lately."""
        if run.is_asked_for or memory.refused_at is None or at - memory.refused_at >= REFUSED_FOR:
            return False
        return self._token_digest() == memory.refused_token

    def _ended(self, lease: Lease, run: Run, memory: Memory, why: str, *, is_refused: bool = False) -> Run:
        """A run that could not go on, and will not."""
        failed = (Told(id="geti", why=why), *run.failed)
        counts = run.counts.model_copy(update={"failed": run.counts.failed + 1})
        ended = {"has_looked": True, "outcome": Outcome.FAILED, "failed": failed, "counts": counts}
        ended["is_refused"] = is_refused
        run = run.model_copy(update=ended)
        self._store.release(lease, run, memory)
        return run

    def _counted(self, run: Run, asked_before: int) -> Run:
        return run.model_copy(update={"requests": run.requests + self._server.requests - asked_before})

    def _jobs(self, memory: Memory, at: datetime) -> tuple[frozenset[str], Mapping[str, Any]]:
        """Projects in which a job ended that no run has seen, and what to remember of the jobs.

        They are a hint: where they cannot be told, the daily look at everything finds what they would have.
        """
        try:
            jobs = self._server.finished_jobs((memory.jobs_until or at) - LONGEST_JOB)
        except GetiUnauthorized:
            raise
        except GetiError:
            return frozenset(), {}
        news = [job for job in jobs if self._is_news(job, memory)]
        known = [memory.jobs_until] if memory.jobs_until else []
        # By Geti's clock, but never later than now: a wrong one would hide all that comes.
        until = max([*known, *(min(job.ended_at, at) for job in jobs)], default=None)
        seen = sorted(job.id for job in jobs if until and job.ended_at > until - SAME_TIME)[:MAX_JOBS_SEEN]
        told = {"jobs_until": until, "jobs_seen": tuple(seen)}
        return frozenset(job.project_id for job in news if job.project_id), told

    def _is_news(self, job: FinishedJob, memory: Memory) -> bool:
        if memory.jobs_until is None:
            return True
        return job.ended_at > memory.jobs_until - SAME_TIME and job.id not in memory.jobs_seen


def _remembered(memory: Memory, run: Run, work: Pass, jobs: Mapping[str, Any]) -> Memory:
    """What the run leaves to the next, which owes a look to what this one could not look at."""
    if run.is_dry:
        return memory
    owed = sorted(work.owing if run.has_looked else work.owing | work.owed)
    if not run.has_looked:
        return memory.model_copy(update={"owed": tuple(owed[:MAX_OWED])})
    # Jobs that ended while a run was interrupted may be of projects that were behind it: they stay news.
    told = dict(jobs) if work.is_uninterrupted else {}
    if run.is_full and len(owed) <= MAX_OWED:
        told["full_at"] = run.started_at
    told |= {
        "owed": tuple(owed[:MAX_OWED]),
        "in_the_way": tuple(sorted(work.failed)[:MAX_OWED]),
        "refused_token": None,
        "refused_at": None,
    }
    return memory.model_copy(update=told)
