"""Experiments: how they come, change and go. Names are unique over all, also those that a caller does not see.

Deleting hides: a deleted experiment keeps its name and all that is in it, which is not touched, and can be restored.
"""

from collections.abc import Callable, Mapping

from chalicelib.registry.access import Actor
from chalicelib.registry.errors import AlreadyExists, InvalidInput, NotFound
from chalicelib.registry.tracked_things import TrackedThings, absent
from chalicelib.registry.tracking import DEFAULT_ID, DEFAULT_NAME, Data, Experiment, Lifecycle, in_milliseconds
from chalicelib.registry.tracking_access import home_of, is_default, sees
from chalicelib.registry.tracking_lists import default_experiment
from chalicelib.registry.tracking_rules import checked_experiment_name, checked_experiment_tags, checked_key


class Experiments:
    """The experiments, for who may. Raises NotFound for what the caller may not see."""

    def __init__(self, things: TrackedThings, new_number: Callable[[], str]) -> None:
        self._things = things
        self._store = things.store
        self._new_number = new_number

    def one(self, experiment_id: str, by: Actor) -> Experiment:
        """One experiment, deleted or not; Default is always there. Raises NotFound."""
        if experiment_id == DEFAULT_ID:
            return default_experiment()
        return self._things.seen(Experiment, experiment_id, by)

    def named(self, name: str, by: Actor) -> Experiment:
        """Likewise."""
        if name == DEFAULT_NAME:
            return default_experiment()
        found = self._store.experiment_named(name)
        if found is None or not sees(by.access, found):
            raise NotFound(f"Could not find experiment with name '{name}'")
        return found

    def tags_of(self, experiment: Experiment) -> Mapping[str, str]:
        """What was said of it."""
        return self._store.tags(experiment.subject)

    def create(self, name: str, tags: Mapping[str, str], by: Actor) -> Experiment:
        """Raises AlreadyExists, also if who has the name may not be seen, Forbidden and InvalidInput."""
        checked_experiment_name(name)
        tags = checked_experiment_tags(tags)
        now = self._things.clock()
        milliseconds = in_milliseconds(now)
        made = Experiment(
            id=self._new_number(),
            name=name,
            created_ms=milliseconds,
            updated_ms=milliseconds,
            **home_of(by.access, tags),
        )
        by.access.require_within(made.qualified_name)
        if name == DEFAULT_NAME:
            raise AlreadyExists(f"Experiment(name={name}) already exists.")
        try:
            self._things.add(made, Data(tags=tags), by, now)
        except AlreadyExists as exc:
            raise self._taken(name, by) from exc
        return made

    def rename(self, experiment_id: str, name: str, by: Actor) -> None:
        """Raises NotFound, AlreadyExists, Forbidden and InvalidInput."""
        checked_experiment_name(name)
        before = self._own(experiment_id, by)
        by.access.require_within(before.model_copy(update={"name": name}).qualified_name)
        if name == DEFAULT_NAME:
            raise AlreadyExists(f"Experiment(name={name}) already exists.")

        def renamed(one: Experiment) -> Experiment:
            if one.lifecycle != Lifecycle.ACTIVE:
                raise InvalidInput("experiment_id", "Cannot rename a non-active experiment.")
            return one.model_copy(update={"name": name})

        try:
            self._things.change(before, renamed, by)
        except AlreadyExists as exc:
            raise self._taken(name, by) from exc

    def delete(self, experiment_id: str, by: Actor) -> None:
        """Raises NotFound, also if it is deleted."""
        self._move(experiment_id, Lifecycle.ACTIVE, Lifecycle.DELETED, by)

    def restore(self, experiment_id: str, by: Actor) -> None:
        """Raises NotFound, also if it is not deleted."""
        self._move(experiment_id, Lifecycle.DELETED, Lifecycle.ACTIVE, by)

    def tag(self, experiment_id: str, key: str, value: str, by: Actor) -> None:
        """Raises NotFound, Forbidden and InvalidInput. The project of an experiment never changes by its tag."""
        tags = checked_experiment_tags({key: value})
        self._store.set_tags(self._to_tag(experiment_id, by).subject, tags)

    def untag(self, experiment_id: str, key: str, by: Actor) -> None:
        """Raises NotFound, also for a tag that is not there, and Forbidden."""
        experiment = self._to_tag(experiment_id, by)
        if not self._store.delete_tag(experiment.subject, checked_key(key)):
            raise NotFound(f"No tag with name: {key} in experiment with id {experiment_id}")

    def one_to_fill(self, experiment_id: str, by: Actor) -> Experiment:
        """Where something may be made. Raises NotFound and InvalidInput."""
        experiment = self.one(experiment_id or DEFAULT_ID, by)
        if experiment.lifecycle != Lifecycle.ACTIVE:
            raise InvalidInput(
                "experiment_id",
                f"The experiment {experiment_id} must be in the 'active' state. Current state is deleted.",
            )
        return experiment

    def _own(self, experiment_id: str, by: Actor) -> Experiment:
        experiment = self.one(experiment_id, by)
        if is_default(experiment):
            raise InvalidInput("experiment_id", "The experiment Default is everybody's: it stays as it is.")
        return experiment

    def _to_tag(self, experiment_id: str, by: Actor) -> Experiment:
        """Tags of Default are told to everybody, so only who sees everything sets them."""
        experiment = self.one_to_fill(experiment_id, by)
        if is_default(experiment):
            by.access.require_no_limits()
        return experiment

    def _move(self, experiment_id: str, before: Lifecycle, after: Lifecycle, by: Actor) -> None:
        def moved(one: Experiment) -> Experiment:
            if one.lifecycle != before:
                raise absent(Experiment, experiment_id)
            return one.model_copy(update={"lifecycle": after})

        self._things.change(self._own(experiment_id, by), moved, by)

    def _taken(self, name: str, by: Actor) -> AlreadyExists:
        holder = self._store.experiment_named(name)
        is_seen = holder is None or sees(by.access, holder)
        advice = "" if is_seen else " It is not for you to see: take another name."
        return AlreadyExists(f"Experiment(name={name}) already exists.{advice}")
