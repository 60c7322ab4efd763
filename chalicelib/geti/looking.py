"""One look through the projects of a Geti server: what is new is queued, what is gone is found out.

Cheap when nothing happened: the list of projects, the groups of each, the list of finished jobs. A trained version is
only asked about if its entry in the listing, or the rules, are not those it was looked at by; if a job that ended may
have changed its project; or if everything is looked at anew.

Nothing is concluded from an error, or from a list that is not complete.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timedelta

from chalicelib.geti.errors import GetiBusy, GetiError, GetiForbidden, GetiGone, GetiMisconfigured, GetiUnauthorized
from chalicelib.geti.marking import Marking
from chalicelib.geti.ports import Server, SyncStore, Work
from chalicelib.geti.records import BaseModel, Group, OptimizedModel, OriginState, Project
from chalicelib.geti.selection import Selection
from chalicelib.geti.states import Item, ItemState, Lease, Looked, Memory, Order, ProjectState, Run
from chalicelib.geti.tally import Tally

# When an order may have been lost: not before the lease of a run is over that was interrupted before it sent it. While
# imports go on, no other run begins, so that what only waits is not sent twice.
LOST_AFTER = timedelta(seconds=1200)
DUE_AT_ONCE = 100
SAVED_EVERY = 25  # projects without any news; with news, after each
BUSY_IN_A_ROW = 3  # projects; then Geti is down
ENDING = (GetiUnauthorized, GetiMisconfigured)  # what ends a run: the next project would fare no better


@dataclass
class Pass:
    """What a run works with. `changed` are projects that may have changed under an unchanged listing."""

    server: Server
    store: SyncStore
    work: Work
    marking: Marking
    selection: Selection
    at: datetime
    lease: Lease
    run: Run
    tally: Tally
    changed: Set[str]

    @property
    def told(self) -> Run:
        """The run with all that was counted so far."""
        return self.tally.on(self.run)

    def queue(self, item: Item) -> None:
        """Have an item imported; this run waits for it."""
        queued = {"state": ItemState.QUEUED, "due_at": self.at + LOST_AFTER, "run_id": self.run.id}
        self.store.queue(self.lease, item.model_copy(update=queued))
        # After it is kept: if this is the last thing that happens, it is due some time, and queued again.
        where = item.model_dump(include={"project_id", "group_id", "model_id"})
        self.work.queue(Order(server_id=self.lease.server_id, **where))

    def find_missing(self, project: Project, items: Sequence[Item], present: Set[str]) -> tuple[str, ...]:
        """Note what of these items is not there any more, or is again; the trained versions still in question."""
        in_question = set()
        for item in items:
            if item.state != ItemState.IMPORTED:
                continue
            finding = self.marking.finding(project, item, item.model_id in present, is_thorough=self.run.is_full)
            if finding.is_in_question:
                in_question.add(item.base_model_id)
            if finding.item != item and not self.run.is_dry:
                self.marking.carry_out(self.lease, item, finding.item)
            self.tally.count("marked", finding.item.origin_state != item.origin_state)
            if finding.error:
                raise finding.error
        return tuple(sorted(in_question))

    def keep(self, before: ProjectState | None, after: ProjectState) -> bool:
        """Remember what was seen of a project; whether that is news."""
        if after != before and not self.run.is_dry:
            self.store.save_project(self.lease, after)
        return after != before


def look(work: Pass, memory: Memory, is_time_left: Callable[[], bool]) -> Run:
    """The run after its look, or, not marked so, after as much of it as there was time for.

    Raises GetiUnauthorized and GetiMisconfigured, for which the run is over; `work.told` is what was done until then.
    """
    if not work.run.position and not work.run.is_dry:
        _queue_what_is_due(work, is_time_left)
    listed, known = {project.id: project for project in work.server.projects()}, work.store.projects()
    ids = sorted(project_id for project_id in listed.keys() | known.keys() if project_id > work.run.position)
    busy = 0
    for count, project_id in enumerate(ids, 1):
        if not is_time_left():
            return work.told
        outcome = _at_project(work, project_id, listed.get(project_id), known.get(project_id))
        busy = busy + 1 if outcome == "busy" else 0
        if busy == BUSY_IN_A_ROW:
            work.tally.fail(
                project_id, "Geti does not answer any more: the projects behind this one were not looked at"
            )
            break
        work.run = work.run.model_copy(update={"position": project_id})
        if outcome == "news" or count % SAVED_EVERY == 0:
            work.store.save(work.lease, work.told, memory)
    return work.told.model_copy(update={"has_looked": True})


def _queue_what_is_due(work: Pass, is_time_left: Callable[[], bool]) -> None:
    """Try again what failed a while ago, and what the queue has lost."""
    while is_time_left():
        due = work.store.due(work.at, DUE_AT_ONCE)
        for item in due:
            work.queue(item)
        if len(due) < DUE_AT_ONCE:
            return


def _at_project(work: Pass, project_id: str, project: Project | None, before: ProjectState | None) -> str:
    """What came of it: "news", "nothing" new, or "busy" if Geti was."""
    try:
        if project is None:
            return "news" if before and _at_missing_project(work, before) else "nothing"
        if not work.selection.takes_project(project):
            work.tally.skip(project.id, "its project is not selected (GETI_SYNC_PROJECTS, GETI_SYNC_EXCLUDE_PROJECTS)")
            return "nothing"
        return "news" if Visit(work, project, before).has_news() else "nothing"
    except ENDING:
        raise
    except GetiGone:
        work.tally.fail(project_id, "the project went away while it was looked at; the next run sees to it")
    except GetiForbidden as exc:
        work.tally.fail(project_id, f"the token's user may not read this project: {exc}")
    except GetiError as exc:
        work.tally.fail(project_id, str(exc))
        return "busy" if isinstance(exc, GetiBusy) else "news"
    return "news"


def _at_missing_project(work: Pass, before: ProjectState) -> bool:
    """The complete list of projects does not have it. Whether that is news."""
    if not (before.looked or before.missing or work.run.is_full):
        return False
    gone = Project(id=before.id, name=before.name)
    missing = work.find_missing(gone, work.store.items(before.id), frozenset())
    return work.keep(before, ProjectState(id=before.id, name=before.name, missing=missing)) or bool(missing)


class Visit:
    """The look at one project that is listed."""

    def __init__(self, work: Pass, project: Project, before: ProjectState | None) -> None:
        self._work = work
        self._project = project
        self._before = before
        self._known = before.looked if before else {}
        self._looked: dict[str, Looked] = {}
        self._absent: set[str] = set()  # models that their trained version does not list any more
        self._has_queued = False
        self._read: Mapping[str, Item] | None = None

    def has_news(self) -> bool:
        """Look, and keep what was seen; whether anything was to be done."""
        groups = self._work.server.groups(self._project)
        for group in groups:
            for model, why_not in self._work.selection.versions(group):
                self._at_version(group, model, why_not)
        missing = self._find_missing({model.id for group in groups for model in group.models})
        looked = {base: known for base, known in self._looked.items() if base not in missing}
        after = ProjectState(id=self._project.id, name=self._project.name, looked=looked, missing=missing)
        return self._work.keep(self._before, after) or self._has_queued

    def _at_version(self, group: Group, model: BaseModel, why_not: str | None) -> None:
        work, before = self._work, self._known.get(model.id)
        digest = _digest(work.selection.digest, why_not or "", model.summary)
        may_have_changed = not why_not and self._project.id in work.changed
        if before and before.digest == digest and not may_have_changed and not work.run.is_full:
            work.tally.count("seen", before.models)
            self._looked[model.id] = before
        elif why_not:
            work.tally.count("seen")
            work.tally.skip(model.id, why_not)
            self._looked[model.id] = Looked(digest=digest, models=1)
        else:
            self._look_into(group, model, digest)

    def _look_into(self, group: Group, model: BaseModel, digest: str) -> None:
        try:
            optimized = self._optimized(group, model)
        except GetiGone:
            self._work.tally.fail(model.id, "it went away while it was looked at; the next run sees to it")
            return
        self._work.tally.count("seen", len(optimized))
        for one in optimized:
            self._at_model(one)
        of_this = {item.model_id for item in self._items.values() if item.base_model_id == model.id}
        self._absent |= of_this - {one.id for one in optimized}
        if not any(one.is_openvino and one.is_unfinished for one in optimized):
            self._looked[model.id] = Looked(digest=digest, models=len(optimized))

    def _optimized(self, group: Group, model: BaseModel) -> Sequence[OptimizedModel]:
        if model.optimized is not None:
            return model.optimized
        return self._work.server.details(self._project, group.id, model.id).optimized

    def _at_model(self, model: OptimizedModel) -> None:
        work, item = self._work, self._items.get(model.id)
        if why_not := work.selection.why_not(model):
            work.tally.skip(model.id, why_not)
        elif item is None:
            work.tally.count("new")
            self._queue(_item(self._project, model))
        elif item.state in (ItemState.FAILED, ItemState.PARKED):
            self._again(item)
        elif item.state == ItemState.QUEUED and item.run_id == work.run.id:
            # By this run, before it was interrupted: its message may be missing.
            work.tally.count("new", not item.attempts)
            self._queue(item)

    def _again(self, item: Item) -> None:
        """What failed before is queued again if it is time."""
        work = self._work
        if item.state == ItemState.PARKED and not (work.run.is_full and work.run.is_asked_for):
            work.tally.skip(item.model_id, f"given up: {item.why} A full sync that is asked for tries again.")
        elif item.state == ItemState.FAILED and item.due_at and item.due_at > work.at:
            work.tally.skip(item.model_id, f"tried again after {item.due_at:%Y-%m-%d %H:%M} UTC: {item.why}")
        else:
            self._queue(item.model_copy(update={"attempts": 0 if item.state == ItemState.PARKED else item.attempts}))

    def _queue(self, item: Item) -> None:
        if not self._work.run.is_dry:
            self._work.queue(item)
            self._has_queued = True

    @property
    def _items(self) -> Mapping[str, Item]:
        """What is known of the project's models; read if something changed."""
        if self._read is None:
            self._read = {item.model_id: item for item in self._work.store.items(self._project.id)}
        return self._read

    def _find_missing(self, listed: Set[str]) -> tuple[str, ...]:
        was_missing = self._before.missing if self._before else ()
        # What comes back is looked into anew, so that its items are read by now.
        is_back = any(item.misses or item.origin_state != OriginState.PRESENT for item in (self._read or {}).values())
        if not (self._known.keys() - listed or self._absent or was_missing or is_back or self._work.run.is_full):
            return ()
        items = tuple(self._items.values())
        present = {item.model_id for item in items if item.base_model_id in listed} - self._absent
        return self._work.find_missing(self._project, items, present)


def _item(project: Project, model: OptimizedModel) -> Item:
    return Item(project_id=project.id, group_id=model.group_id, base_model_id=model.base_model_id, model_id=model.id)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
