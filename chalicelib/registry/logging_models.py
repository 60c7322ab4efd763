"""What clients of MLflow do while they make models: the rules of runs and logged models.

Whose they are is told in tracking_access.py. Deleting hides: everything stays, and runs can be restored. The state of
something is looked at in the same write that changes it; measurements are written beside it, so a few may come to a run
that is deleted at that moment.
"""

import json
from collections.abc import Callable, Mapping, Sequence

from chalicelib.registry.access import Actor
from chalicelib.registry.errors import InvalidInput, NotFound
from chalicelib.registry.experiments import Experiments
from chalicelib.registry.tracked_things import TrackedThings, absent
from chalicelib.registry.tracking import (
    Data,
    Dataset,
    Lifecycle,
    LoggedModel,
    LoggedModelStatus,
    Metric,
    Run,
    RunStatus,
    in_milliseconds,
)
from chalicelib.registry.tracking_access import place_in
from chalicelib.registry.tracking_rules import (
    MAX_TAG,
    check_batch,
    checked_datasets,
    checked_key,
    checked_label,
    checked_metrics,
    checked_model_name,
    checked_params,
    checked_references,
    checked_run_name,
    checked_tags,
    each_once,
)

RUN_NAME_TAG, MODELS_TAG = "mlflow.runName", "mlflow.log-model.history"
NOT_OF_RUNS = {"model_id": None, "dataset_name": None, "dataset_digest": None}  # of metrics
Pairs = Sequence[tuple[str, str]]


class Tracking:
    """Runs and logged models, for who may. Raises NotFound for what the caller may not see."""

    def __init__(self, things: TrackedThings, experiments: Experiments, new_hex: Callable[[], str]) -> None:
        self._things = things
        self._store = things.store
        self._experiments = experiments
        self._new_hex = new_hex

    # Runs

    def run(self, run_id: str, by: Actor) -> Run:
        """One run, deleted or not. Raises NotFound."""
        return self._things.seen(Run, run_id, by)

    def whole_run(self, run_id: str, by: Actor) -> tuple[Run, Data]:
        """With what it measured. Raises NotFound, and TooLarge."""
        return self._things.seen_whole(Run, run_id, by)

    def create_run(
        self, experiment_id: str, name: str, user_id: str, start_ms: int, tags: Mapping[str, str], by: Actor
    ) -> tuple[Run, Data]:
        """Raises NotFound, Forbidden and InvalidInput."""
        tags = checked_tags(tags)
        stated = tags.get(RUN_NAME_TAG)
        if name and stated and name != stated:
            raise InvalidInput(
                "run_name",
                "Both 'run_name' argument and 'mlflow.runName' tag are specified, but with different values"
                f" (run_name='{name}', mlflow.runName='{stated}').",
            )
        experiment = self._experiments.one_to_fill(experiment_id, by)
        run_id = self._new_hex()
        name = checked_run_name(name or stated or f"run-{run_id[:8]}")
        made = Run(
            id=run_id,
            name=name,
            experiment_id=experiment.id,
            user_id=checked_label(user_id, "user_id"),
            start_ms=start_ms,
            **place_in(experiment, by.access, tags),
        )
        data = Data(tags={**tags, RUN_NAME_TAG: name})
        self._things.add(made, data, by, self._things.clock())
        return made, data

    def update_run(
        self, run_id: str, by: Actor, status: RunStatus | None = None, end_ms: int | None = None, name: str = ""
    ) -> Run:
        """Raises NotFound, and InvalidInput if it is deleted."""
        fields: dict[str, object] = {"status": status, "end_ms": end_ms, "name": checked_run_name(name) or None}
        stated = {key: value for key, value in fields.items() if value is not None}
        tags = {RUN_NAME_TAG: name} if name else {}
        return self._things.change(self.run(run_id, by), lambda run: _active(run).model_copy(update=stated), by, tags)

    def delete_run(self, run_id: str, by: Actor) -> None:
        """Raises NotFound."""
        self._things.change(
            self.run(run_id, by), lambda run: run.model_copy(update={"lifecycle": Lifecycle.DELETED}), by
        )

    def restore_run(self, run_id: str, by: Actor) -> None:
        """Raises NotFound."""
        self._things.change(
            self.run(run_id, by), lambda run: run.model_copy(update={"lifecycle": Lifecycle.ACTIVE}), by
        )

    def log_param(self, run_id: str, key: str, value: str, by: Actor) -> None:
        """Raises NotFound, and InvalidInput, also if it has another value."""
        run, params = _active(self.run(run_id, by)), checked_params({key: value}, "")
        for key, had in self._store.log_params(run.subject, params).items():
            raise InvalidInput(
                "value",
                f"Changing param values is not allowed. Param with key='{key}' was already logged with value='{had}'"
                f" for run ID='{run_id}'. Attempted logging new value '{params[key]}'.",
            )

    def log_metric(self, run_id: str, metric: Metric, by: Actor) -> None:
        """Raises NotFound and InvalidInput."""
        self.log_batch(run_id, by, metrics=[metric])

    def log_batch(
        self, run_id: str, by: Actor, metrics: Sequence[Metric] = (), params: Pairs = (), tags: Pairs = ()
    ) -> None:
        """Note what a run measures. Raises NotFound and InvalidInput: then nothing of it is noted."""
        checked_metrics(metrics)
        check_batch(metrics, params, tags)
        valid_params, valid_tags = checked_params(each_once(params)), checked_tags(dict(tags))
        run = _active(self.run(run_id, by))
        named = dict.fromkeys(metric.model_id for metric in metrics if metric.model_id)
        models = [self.logged_model(model_id, by) for model_id in named]
        self._log_params(run, valid_params, f"run ID='{run_id}'")
        self._store.log_metrics(run.subject, [metric.model_copy(update=NOT_OF_RUNS) for metric in metrics])
        for model in models:
            its = [one.model_copy(update={"run_id": run_id}) for one in metrics if one.model_id == model.id]
            self._store.log_model_metrics(model.subject, its)
        self._set_tags(run, valid_tags, by)

    def tag_run(self, run_id: str, key: str, value: str, by: Actor) -> None:
        """Raises NotFound and InvalidInput."""
        self._set_tags(_active(self.run(run_id, by)), checked_tags({key: value}, ""), by)

    def untag_run(self, run_id: str, key: str, by: Actor) -> None:
        """Raises NotFound, also for a tag that is not there, and InvalidInput."""
        run = _active(self.run(run_id, by))
        if not self._store.delete_tag(run.subject, checked_key(key)):
            raise NotFound(f"No tag with name: {key} in run with id {run_id}")

    def note_inputs(self, run_id: str, datasets: Sequence[Dataset], model_ids: Sequence[str], by: Actor) -> None:
        """Note what went into a run. Raises NotFound, InvalidInput and TooLarge."""
        checked_datasets(datasets)
        self._store.set_inputs(_active(self.run(run_id, by)).subject, datasets, checked_references(model_ids))

    def note_outputs(self, run_id: str, outputs: Mapping[str, int], by: Actor) -> None:
        """Note which models a run made. Raises NotFound and InvalidInput."""
        checked_references(outputs)
        self._store.set_outputs(_active(self.run(run_id, by)).subject, outputs)

    def note_model(self, run_id: str, model: Mapping[str, object], by: Actor) -> None:
        """Add to the list of models that clients before MLflow 3 keep in a tag; the oldest go if it is too long.

        Raises NotFound and InvalidInput.
        """

        def extended(value: str | None) -> str:
            try:
                had = json.loads(value or "[]")
            except ValueError:
                had = []
            models = [*(had if isinstance(had, list) else []), dict(model)]
            while len(text := json.dumps(models)) > MAX_TAG and models:
                models = models[1:]
            return text

        self._store.extend_tag(_active(self.run(run_id, by)).subject, MODELS_TAG, extended)

    def history(
        self, run_id: str, key: str, limit: int, after: str | None, by: Actor
    ) -> tuple[Sequence[Metric], str | None]:
        """Values of a metric, oldest first, and where to go on. Raises NotFound."""
        return self._store.history(self.run(run_id, by).subject, key, limit, after)

    # Logged models

    def logged_model(self, model_id: str, by: Actor) -> LoggedModel:
        """One that is not deleted. Raises NotFound."""
        return _undeleted(self._things.seen(LoggedModel, model_id, by))

    def whole_logged_model(self, model_id: str, by: Actor, allow_deleted: bool = False) -> tuple[LoggedModel, Data]:
        """With what was measured of it. Raises NotFound, and TooLarge."""
        model, data = self._things.seen_whole(LoggedModel, model_id, by)
        return (model if allow_deleted else _undeleted(model)), data

    def create_logged_model(
        self,
        experiment_id: str,
        name: str,
        model_type: str,
        source_run_id: str,
        params: Pairs,
        tags: Mapping[str, str],
        by: Actor,
    ) -> tuple[LoggedModel, Data]:
        """Raises NotFound, Forbidden and InvalidInput."""
        checked_model_name(name)
        data = Data(params=checked_params(each_once(params)), tags=checked_tags(tags))
        experiment = self._experiments.one_to_fill(experiment_id, by)
        at, model_id = self._things.clock(), f"m-{self._new_hex()}"
        made = LoggedModel(
            id=model_id,
            name=name or f"model-{model_id[2:10]}",
            experiment_id=experiment.id,
            model_type=checked_label(model_type, "model_type"),
            source_run_id=checked_label(source_run_id, "source_run_id"),
            created_ms=in_milliseconds(at),
            updated_ms=in_milliseconds(at),
            **place_in(experiment, by.access, data.tags),
        )
        self._things.add(made, data, by, at)
        return made, data

    def finalize(self, model_id: str, status: LoggedModelStatus, by: Actor) -> None:
        """Raises NotFound."""
        self._things.change(
            self.logged_model(model_id, by), lambda model: _undeleted(model).model_copy(update={"status": status}), by
        )

    def delete_logged_model(self, model_id: str, by: Actor) -> None:
        """Versions that were registered of it stay. Raises NotFound."""
        before = self._things.seen(LoggedModel, model_id, by)
        self._things.change(before, lambda model: model.model_copy(update={"lifecycle": Lifecycle.DELETED}), by)

    def tag_logged_model(self, model_id: str, tags: Mapping[str, str], by: Actor) -> None:
        """Raises NotFound and InvalidInput."""
        valid = checked_tags(tags)
        self._store.set_tags(self.logged_model(model_id, by).subject, valid)

    def untag_logged_model(self, model_id: str, key: str, by: Actor) -> None:
        """Raises NotFound, also for a tag that is not there, and InvalidInput."""
        if not self._store.delete_tag(self.logged_model(model_id, by).subject, checked_key(key)):
            raise NotFound(f"No tag with key {key!r} found for model with ID {model_id!r}.")

    def log_model_params(self, model_id: str, params: Pairs, by: Actor) -> None:
        """Raises NotFound and InvalidInput: then none of these is noted."""
        valid = checked_params(each_once(params))
        check_batch((), params, ())
        self._log_params(self.logged_model(model_id, by), valid, f"model ID='{model_id}'")

    # Rules

    def _set_tags(self, run: Run, tags: Mapping[str, str], by: Actor) -> None:
        """The name of a run is a tag too: both are changed together."""
        others = {key: value for key, value in tags.items() if key != RUN_NAME_TAG}
        self._store.set_tags(run.subject, others)
        if name := tags.get(RUN_NAME_TAG):
            renamed = {RUN_NAME_TAG: name}
            self._things.change(run, lambda one: _active(one).model_copy(update={"name": name}), by, renamed)

    def _log_params(self, tracked: Run | LoggedModel, params: Mapping[str, str], of: str) -> None:
        if clashes := self._store.log_params(tracked.subject, params):
            told = [{"key": key, "old_value": had, "new_value": params[key]} for key, had in clashes.items()]
            raise InvalidInput(
                "params", f"Changing param values is not allowed. Params were already logged='{told}' for {of}."
            )


def _active(run: Run) -> Run:
    """Raises InvalidInput if it is deleted."""
    if run.lifecycle != Lifecycle.ACTIVE:
        raise InvalidInput("run_id", f"The run {run.id} must be in the 'active' state. Current state is deleted.")
    return run


def _undeleted(model: LoggedModel) -> LoggedModel:
    if model.lifecycle != Lifecycle.ACTIVE:
        raise absent(LoggedModel, model.id)
    return model
