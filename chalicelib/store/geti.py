"""What is remembered of a Geti server on DynamoDB: the runs of its sync, its projects, and (imports.py) its models.

One item is the current run; whoever acts for it has its fence as a condition of every write. A new run takes its place
when it is finished, with a higher fence, and what one leaves to the next. The event of its end, on the trail of the
server, is of the same transaction.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

from pynamodb.exceptions import DoesNotExist
from pynamodb.expressions.condition import Condition
from pynamodb.expressions.update import Action as UpdateAction

from chalicelib.geti.ports import LeaseLost, SyncRunning
from chalicelib.geti.states import MAX_TOLD, Item, ItemState, Lease, Memory, ProjectState, Run, RunStatus, Told
from chalicelib.registry.audit import Action, Change, as_text
from chalicelib.registry.models import time_text
from chalicelib.store.commits import Commits, Prepared
from chalicelib.store.geti_items import (
    PROJECTS,
    FailedItem,
    ModelItem,
    ProjectItem,
    RunItem,
    failures_of_key,
    is_leased_by,
    is_unfinished,
    places_of,
    states_of,
)
from chalicelib.store.imports import Clock, DynamoModels
from chalicelib.store.keys import META
from chalicelib.store.schema import EventItem
from chalicelib.store.transactions import LostRace, Refused, Retry, Transaction, transient_errors_as_busy, updated

GIVEN_UP_AFTER = timedelta(minutes=40)  # an import takes 15 at most, and has three tries
MAX_TOLD_IN_EVENT = 20  # an event is kept for ever


class DynamoSync(DynamoModels):
    """SyncStore (geti/ports.py) of one server, on the two tables of schema.py, which have to be bound before."""

    def __init__(
        self,
        server_id: str,
        new_ulid: Callable[[], str],
        retry: Retry | None = None,
        clock: Clock = lambda: datetime.now(UTC),
    ) -> None:
        super().__init__(server_id, new_ulid, retry, clock)
        self._commits = Commits(self._retry)

    # Runs

    def begin(self, run: Run, at: datetime) -> Run:
        while True:
            if begun := self._retry(lambda _: self._begun(run, at)):
                return begun
            self.give_up(at)

    def give_up(self, at: datetime) -> Run | None:
        return self._finish(at, lambda last: _may_end(last) or _is_given_up(last, at))

    def lease(self, run_id: str, at: datetime, until: datetime) -> tuple[Lease, Run, Memory]:
        row, lessee = RunItem(self._pk, META), self._new_ulid()
        take = [RunItem.fence.add(1), RunItem.leased_until.set(time_text(until)), RunItem.lessee.set(lessee)]
        is_free = RunItem.leased_until.does_not_exist() | (RunItem.leased_until < time_text(at))

        def attempt(_: int) -> tuple[Lease, Run, Memory]:
            taken: RunItem | None = row if updated(row, take, is_unfinished(run_id) & is_free) else self._run()
            # One who has it is this one, if an answer was lost.
            if taken is None or taken.lessee != lessee:
                raise SyncRunning("A sync is going on, or this one has ended.")
            lease = Lease(server_id=self._server_id, run_id=run_id, fence=int(taken.fence))
            return lease, taken.run(), taken.last_memory()

        return self._retry(attempt)

    def save(self, lease: Lease, run: Run, memory: Memory) -> None:
        def attempt(_: int) -> None:
            if not updated(RunItem(self._pk, META), _kept(run, memory), is_leased_by(lease)):
                raise LeaseLost

        self._retry(attempt)

    def release(self, lease: Lease, run: Run, memory: Memory) -> None:
        heard = RunItem.progress_at.set(time_text(self._clock()))
        actions = [*_kept(run, memory), heard, RunItem.leased_until.remove()]

        def attempt(number: int) -> None:
            if updated(RunItem(self._pk, META), actions, is_leased_by(lease)):
                return
            now = self._run() if number else None
            # Nobody else lets go of it: this was done before, and the answer lost.
            if now is None or now.fence != lease.fence or now.leased_until is not None:
                raise LeaseLost

        self._retry(attempt)

    def finish(self, at: datetime) -> Run | None:
        return self._finish(at, _may_end)

    def status(self, at: datetime) -> RunStatus | None:
        def read(_: int) -> RunStatus | None:
            row = self._run()
            return self._status(row, at) if row else None

        return self._retry(read)

    # Projects and models

    def projects(self) -> Mapping[str, ProjectState]:
        def read(_: int) -> Mapping[str, ProjectState]:
            of_projects = ProjectItem.sk.startswith(PROJECTS)
            with transient_errors_as_busy():
                rows = [row.project() for row in ProjectItem.query(self._pk, of_projects, consistent_read=True)]
            return {project.id: project for project in rows}

        return self._retry(read)

    def save_project(self, lease: Lease, project: ProjectState) -> None:
        def write(tx: Transaction) -> None:
            tx.put("project", ProjectItem.of(self._server_id, project))
            tx.check("run", RunItem, self._pk, META, is_leased_by(lease))

        self._act(write)

    def queue(self, lease: Lease, item: Item) -> None:
        queued = item.model_copy(update={"state": ItemState.QUEUED})
        row = self._model_row(item)

        def write(tx: Transaction) -> None:
            actions = [*places_of(item), *states_of(queued), ModelItem.run_id.set(lease.run_id)]
            is_news = ModelItem.run_id.does_not_exist() | (ModelItem.run_id != lease.run_id)
            tx.update("model", row, actions, condition=is_news)
            waiting = [RunItem.outstanding.add(1), RunItem.progress_at.set(time_text(self._clock()))]
            tx.update("run", RunItem(self._pk, META), waiting, condition=is_leased_by(lease))
            self._put_due_row(tx, item)

        def write_later(tx: Transaction) -> None:
            actions = [ModelItem.due_at.set(time_text(item.due_at)) if item.due_at else ModelItem.due_at.remove()]
            tx.update("model", row, actions, condition=ModelItem.run_id == lease.run_id)
            tx.check("run", RunItem, self._pk, META, is_leased_by(lease))
            self._put_due_row(tx, item)

        # The run may wait for it already, and not any more a moment later.
        while not self._act(write) and not self._act(write_later):
            pass

    def mark(self, lease: Lease, item: Item) -> None:
        def write(tx: Transaction) -> None:
            actions = [ModelItem.origin_state.set(item.origin_state.value), ModelItem.misses.set(item.misses)]
            tx.update("model", self._model_row(item), actions, condition=ModelItem.pk.exists())
            tx.check("run", RunItem, self._pk, META, is_leased_by(lease))

        self._act(write)

    def _act(self, write: Callable[[Transaction], None]) -> bool:
        """Whether it was done as the run, which a condition called `run` makes sure of. Raises LeaseLost."""

        def attempt(_: int) -> bool:
            tx = Transaction(self._connection)
            write(tx)
            try:
                tx.commit()
            except Refused as exc:
                if "run" in exc.items:
                    raise LeaseLost from exc
                return False
            return True

        return self._retry(attempt)

    # How runs follow each other

    def _begun(self, run: Run, at: datetime) -> Run | None:
        """The run to be worked on; None if the last one has to be finished before. Raises SyncRunning."""
        last = self._run()
        if last is None:
            return self._put_run(run, at, None, RunItem.pk.does_not_exist())
        if last.run_id == run.id:
            return last.run()
        if last.finished_at:
            # Time does not go backwards on a trail, whoever's clock it is.
            run = run.model_copy(update={"started_at": max(run.started_at, last.run().finished_at or at)})
            return self._put_run(run, at, last, (RunItem.fence == last.fence) & RunItem.finished_at.exists())
        if last.is_leased(at):
            raise SyncRunning("A sync is going on: wait for its end.")
        if not last.has_looked:
            return last.run()
        if _may_end(last) or _is_given_up(last, at):
            return None
        raise SyncRunning("What a sync has queued is being imported: wait for its end.")

    def _put_run(self, run: Run, at: datetime, last: RunItem | None, condition: Condition) -> Run:
        tx = Transaction(self._connection)
        tx.put("run", RunItem.begun(self._server_id, run, at, last), condition=condition)
        try:
            tx.commit()
        except Refused as exc:
            raise LostRace("another run was begun") from exc
        return run

    def _finish(self, at: datetime, may_end: Callable[[RunItem], bool]) -> Run | None:
        """Finish the current run once, if it may end."""
        event_id = self._new_ulid()

        def attempt(_: int) -> Prepared[Run | None]:
            row = self._run()
            if row is None or row.finished_at or not may_end(row):
                return Prepared(None)
            return self._finishing(row, at, event_id)

        return self._commits.once(self._pk, event_id, attempt)

    def _finishing(self, row: RunItem, at: datetime, event_id: str) -> Prepared[Run | None]:
        run = self._status(row, at).finished(at)
        event = _change(run, run.finished_at or at, event_id).after(self._pk, row.head)
        as_read = (RunItem.fence == row.fence) & (RunItem.outstanding == row.outstanding)
        as_read = as_read & (RunItem.imported == row.imported) & (RunItem.failed == row.failed)
        actions = [
            RunItem.record.set(run.model_dump_json()),
            RunItem.finished_at.set(time_text(run.finished_at or at)),
            RunItem.outstanding.set(0),
            RunItem.leased_until.remove(),
            RunItem.seq.set(event.seq),
            RunItem.digest.set(event.digest),
        ]
        tx = Transaction(self._connection)
        tx.update("run", RunItem(self._pk, META), actions, condition=is_unfinished(run.id) & as_read)
        tx.put("event", EventItem.of(event), condition=EventItem.pk.does_not_exist())
        return Prepared(run, tx, event.seq)

    # Reads

    def _run(self) -> RunItem | None:
        with transient_errors_as_busy():
            try:
                return RunItem.get(self._pk, META, consistent_read=True)
            except DoesNotExist:
                return None

    def _status(self, row: RunItem, at: datetime) -> RunStatus:
        status = row.status(at)
        if not status.failed:
            return status
        of_run = FailedItem.sk.startswith(failures_of_key(row.run_id))
        with transient_errors_as_busy():
            rows = list(FailedItem.query(self._pk, of_run, limit=MAX_TOLD, consistent_read=True))
        return status.model_copy(update={"failures": tuple(Told(id=one.model_id, why=one.why) for one in rows)})


def _may_end(row: RunItem) -> bool:
    return bool(row.has_looked) and row.outstanding <= 0


def _is_given_up(row: RunItem, at: datetime) -> bool:
    """Whether nothing was heard of its imports for long, and nobody works on it."""
    is_silent = row.progress_at < time_text(at - GIVEN_UP_AFTER)
    return bool(row.has_looked) and is_silent and not row.is_leased(at)


def _kept(run: Run, memory: Memory) -> list[UpdateAction]:
    """What sets how far a run has come."""
    return [
        RunItem.record.set(run.model_dump_json()),
        RunItem.memory.set(memory.model_dump_json()),
        RunItem.has_looked.set(run.has_looked),
    ]


def _change(run: Run, at: datetime, event_id: str) -> Change:
    """That a run has ended, and how; about no model, so that only an admin without limits sees it."""
    short = {"skipped": run.skipped[:MAX_TOLD_IN_EVENT], "failed": run.failed[:MAX_TOLD_IN_EVENT]}
    told = run.model_copy(update=short).model_dump(
        mode="json", exclude_none=True, exclude={"position", "has_looked", "by"}
    )
    changes = as_text({name: (None, value) for name, value in told.items()})
    return Change(event_id=event_id, at=at, actor=run.by, action=Action.SYNC_FINISHED, changes=changes)
