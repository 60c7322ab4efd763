"""One look through the projects of a Geti server: what is new is queued, what is gone is found out.

Cheap when nothing happened: the list of projects, the groups of each, the list of finished jobs. A trained version is
only asked about if its entry in the listing, or the rules, are not those it was looked at by; if a job that ended may
have changed its project; or if everything is looked at anew.

Nothing is concluded from an error, or from a list that is not complete. What fails is that project's alone: it is told,
and the next run takes it last, so that others come first.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timedelta

from chalicelib.geti.errors import (
    GetiBusy,
    GetiError,
    GetiForbidden,
    GetiGone,
    GetiMisconfigured,
    GetiUnauthorized,
    NotGeti,
)
from chalicelib.geti.marking import Marking
from chalicelib.geti.ports import LeaseLost, Server, SyncStore, Work
from chalicelib.geti.records import BaseModel, Group, OptimizedModel, OriginState, Project
from chalicelib.geti.selection import Selection
from chalicelib.geti.states import Item, ItemState, Lease, Looked, Memory, Order, ProjectState, Run
from chalicelib.geti.tally import Tally
from chalicelib.registry.errors import InvalidInput, Unavailable

# When an order may have been lost: not before the lease of a run is over that was interrupted before it sent it. While
# imports go on, no other run begins, so that what only waits is not sent twice.
LOST_AFTER = timedelta(seconds=1200)
DUE_AT_ONCE = 100
SAVED_EVERY = 25  # projects without any news; with news, after each
BUSY_IN_A_ROW = 3  # projects; then Geti is down
MAX_OWED = 1000  # ids


@dataclass
class Pass:
    """What a run works with, in a workspace (`place`).

    `changed` are projects that may have changed under an unchanged listing, `owed` those that were owed a look before;
    `owing` are those that this run did not look at though it had to, `failed` those at which it failed. `whole` is the
    run as it was between two projects. `report` is told of errors that are bugs.
    """

    server: Server
    store: SyncStore
    work: Work
    marking: Marking
    selection: Selection
    at: datetime
    lease: Lease
    run: Run
    tally: Tally
    place: str
    changed: Set[str]
    owed: Set[str]
    owing: set[str]
    failed: set[str]
    whole: Run
    began_behind: str
    is_time_left: Callable[[], bool]
    report: Callable[[Exception], None]

    @property
    def is_uninterrupted(self) -> bool:
        """Whether this is all of the run."""
        return not self.began_behind

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
                try:
                    self.marking.carry_out(self.lease, item, finding.item)
                except InvalidInput as exc:
                    self.tally.fail(item.model_id, f"it could not be marked as {finding.item.origin_state}: {exc}")
            self.tally.count("marked", finding.item.origin_state != item.origin_state)
            if finding.error:
                raise finding.error
        return tuple(sorted(in_question))

    def fails_at(self, project_id: str) -> None:
        """The next run has to look at it in whole, but last."""
        self.owing.add(project_id)
        self.failed.add(project_id)

    def keep(self, before: ProjectState | None, after: ProjectState) -> bool:
        """Remember what was seen of a project; whether that is news."""
        if after != before and not self.run.is_dry:
            self.store.save_project(self.lease, after)
        return after != before


def look(work: Pass, memory: Memory) -> Run:
    """The run after its look, or, not marked so, after as much of it as there was time for.

    Raises GetiUnauthorized and GetiMisconfigured, for which the run is over; `work.told` is what was done until then.
    """
    if not work.run.position and not work.run.is_dry:
        _queue_what_is_due(work)
    listed, known = {project.id: project for project in work.server.projects()}, work.store.projects()
    # Those that were in the way last come last, each group in order of ids; the position is a place in this order.
    in_the_way = frozenset(memory.in_the_way)
    places = sorted((f"{int(one in in_the_way)}#{one}", one) for one in listed.keys() | known.keys())
    places = [(place, one) for place, one in places if place > work.run.position]
    busy = 0
    for count, (place, project_id) in enumerate(places, 1):
        if not work.is_time_left():
            return work.told
        outcome = _at_project(work, project_id, listed, known)
        if outcome == "paused":
            return work.told
        busy = busy + 1 if outcome == "busy" else 0
        if busy == BUSY_IN_A_ROW:
            _break_off(work, [one for _, one in places[count:]])
            break
        work.run = work.run.model_copy(update={"position": place, "paused_in": "", "versions_done": 0})
        work.whole = work.told
        if outcome == "news" or count % SAVED_EVERY == 0:
            work.store.save(work.lease, work.whole, memory)
    return work.told.model_copy(update={"has_looked": True})


def _break_off(work: Pass, left: Sequence[str]) -> None:
    """Leave the other projects to the next run, which begins with them."""
    work.owing |= {one for one in left if work.run.is_full or one in work.changed | work.owed}
    work.tally.fail("geti", f"Geti does not answer any more: {len(left)} more projects were not looked at in this run")


def _queue_what_is_due(work: Pass) -> None:
    """Try again what failed a while ago, and what the queue has lost."""
    while work.is_time_left():
        due = work.store.due(work.at, DUE_AT_ONCE)
        for item in due:
            work.queue(item)
        if len(due) < DUE_AT_ONCE:
            return


def _at_project(work: Pass, project_id: str, listed: Mapping[str, Project], known: Mapping[str, ProjectState]) -> str:
    """What came of it: "news", "nothing" new, "busy" if Geti was, or "paused" if time is up."""
    try:
        return _looked_at(work, listed.get(project_id), known.get(project_id))
    except GetiUnauthorized:
        raise
    except GetiForbidden as exc:
        work.tally.fail(project_id, f"the token's user may not read this project: {exc}")
        return "news"
    except GetiGone:
        work.tally.fail(project_id, "the project went away while it was looked at; the next run sees to it")
        return "news"
    except GetiError as exc:
        if isinstance(exc, GetiMisconfigured) and not isinstance(exc, NotGeti):
            raise
        work.tally.fail(project_id, str(exc))
        work.fails_at(project_id)
        return "busy" if isinstance(exc, GetiBusy | NotGeti) else "news"
    except (LeaseLost, Unavailable):
        raise
    except Exception as exc:
        # A bug at one project shall not keep the others waiting for ever.
        work.report(exc)
        work.tally.fail(project_id, "the registry failed at it; its log says how")
        work.fails_at(project_id)
        return "news"


def _looked_at(work: Pass, project: Project | None, before: ProjectState | None) -> str:
    if project is None:
        return "news" if before and _at_missing_project(work, before) else "nothing"
    if not work.selection.takes_project(project):
        work.tally.skip(project.id, "its project is not selected (GETI_SYNC_PROJECTS, GETI_SYNC_EXCLUDE_PROJECTS)")
        return "nothing"
    return Visit(work, project, before).go()


def _at_missing_project(work: Pass, before: ProjectState) -> bool:
    """The complete list of projects does not have it. Whether that is news; of another workspace it is none."""
    if before.place != work.place or not (before.looked or before.missing or work.run.is_full):
        return False
    gone = Project(id=before.id, name=before.name)
    missing = work.find_missing(gone, work.store.items(before.id), frozenset())
    after = ProjectState(id=before.id, name=before.name, place=before.place, missing=missing)
    return work.keep(before, after) or bool(missing)


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

    def go(self) -> str:
        """Look, and keep what was seen; "news" if anything was to be done, "nothing", or "paused" if time is up."""
        work = self._work
        groups = work.server.groups(self._project)
        versions = [(group, *version) for group in groups for version in work.selection.versions(group)]
        done = work.run.versions_done if work.run.paused_in == self._project.id else 0
        for number, (group, model, why_not) in enumerate(versions):
            if number < done:
                self._looked |= {model.id: self._known[model.id]} if model.id in self._known else {}
                continue
            if number > done and not work.is_time_left():
                self._keep({**self._known, **self._looked}, self._before.missing if self._before else ())
                work.run = work.run.model_copy(update={"paused_in": self._project.id, "versions_done": number})
                return "paused"
            self._at_version(group, model, why_not)
        missing = self._find_missing({model.id for group in groups for model in group.models})
        looked = {base: known for base, known in self._looked.items() if base not in missing}
        return "news" if self._keep(looked, missing) or self._has_queued else "nothing"

    def _keep(self, looked: Mapping[str, Looked], missing: tuple[str, ...]) -> bool:
        project = self._project
        after = ProjectState(id=project.id, name=project.name, place=self._work.place, looked=looked, missing=missing)
        return self._work.keep(self._before, after)

    def _at_version(self, group: Group, model: BaseModel, why_not: str | None) -> None:
        work, before = self._work, self._known.get(model.id)
        digest = _digest(work.selection.digest, why_not or "", model.summary)
        may_have_changed = not why_not and self._project.id in work.changed | work.owed
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
