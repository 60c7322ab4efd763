"""Experiments, runs and logged models, as who may sees and changes them: what the rules of all of them share. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar, cast

from chalicelib.registry.audit import Action
from chalicelib.registry.errors import NotFound
from chalicelib.registry.tracking import (
    ID,
    Experiment,
    LoggedModel,
    Run,
    in_milliseconds,
)
from chalicelib.registry.tracking_access import sees

if TYPE_CHECKING:
    from chalicelib.registry.access import Actor
    from chalicelib.registry.service import Announce
    from chalicelib.registry.tracking import (
        Data,
        Tracked,
        TrackingStore,
    )

T = TypeVar("T", Experiment, Run, LoggedModel)
SUBJECTS: Mapping[type[Tracked], str] = {Experiment: "EXP#", Run: "RUN#", LoggedModel: "LM#"}
CREATED: Mapping[type[Tracked], Action] = {
    Experiment: Action.EXPERIMENT_CREATED,
    Run: Action.RUN_CREATED,
    LoggedModel: Action.LOGGED_MODEL_CREATED,
}
CHANGED: Mapping[type[Tracked], Action] = {
    Experiment: Action.EXPERIMENT_UPDATED,
    Run: Action.RUN_UPDATED,
    LoggedModel: Action.LOGGED_MODEL_UPDATED,
}


class TrackedThings:
    """What is not there, and what the caller may not see, is NotFound in the same words."""

    def __init__(self, store: TrackingStore, clock: Callable[[], datetime], announce: Announce) -> None:
        self.store = store
        self.clock = clock
        self._announce = announce

    def seen(self, kind: type[T], stated: str, by: Actor) -> T:
        """The one of this id, deleted or not. Raises NotFound."""
        found = self.store.find(f"{SUBJECTS[kind]}{stated}") if ID.fullmatch(stated) else None
        if found is None or not sees(by.access, found):
            raise absent(kind, stated)
        return cast(T, found)

    def seen_whole(self, kind: type[T], stated: str, by: Actor) -> tuple[T, Data]:
        """With what is known of it. Raises NotFound, and TooLarge."""
        found = self.store.whole(f"{SUBJECTS[kind]}{stated}") if ID.fullmatch(stated) else None
        if found is None or not sees(by.access, found.tracked):
            raise absent(kind, stated)
        return cast(T, found.tracked), found.data

    def add(self, made: Tracked, data: Data, by: Actor, at: datetime) -> None:
        """Keep what is new, with its tags and parameters. Raises AlreadyExists."""
        self.store.add(made, by, at, data.tags, data.params)
        self._announce(CREATED[type(made)], None, made, by)

    def change(self, before: T, decide: Callable[[T], T], by: Actor, tags: Mapping[str, str] | None = None) -> T:
        """Have it be what `decide` makes of it, and set tags with it; as it is then.

        What stays as it is has no event. Raises what `decide` raises, NotFound and AlreadyExists.
        """
        at = self.clock()

        def decided(one: Tracked) -> Tracked:
            now = cast(T, one)
            then = decide(now)
            if then == now or isinstance(then, Run):
                return then
            return then.model_copy(update={"updated_ms": in_milliseconds(at)})

        was, now = self.store.change(before.subject, by, at, decided, tags or {})
        if was != now:
            self._announce(CHANGED[type(before)], was, now, by)
        return cast(T, now)


def absent(kind: type[Tracked], stated: str) -> NotFound:
    """In MLflow's words."""
    if kind is Experiment:
        return NotFound(f"No Experiment with id={stated} exists")
    return NotFound(f"Run with id={stated} not found" if kind is Run else f"Logged model with ID '{stated}' not found.")
