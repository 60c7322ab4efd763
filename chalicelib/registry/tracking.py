"""What is tracked while models are made: experiments, their runs, and the models that are logged. All frozen.

It is the minimum that MLflow's clients need to log and register models. An experiment may have a project, which its
runs and logged models have too. Parameters, tags, metrics, inputs and outputs are measurements: they are kept, but they
are no changes of the catalogue and have no events.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import NamedTuple, Protocol

from pydantic import ConfigDict

from chalicelib.registry.access import Actor, Project
from chalicelib.registry.models import Frozen, QualifiedName, time_text

DEFAULT_ID, DEFAULT_NAME = "0", "Default"
ID = re.compile(r"[A-Za-z0-9-]{1,64}")
LAST_TIME = 253_402_300_799_000  # of the year 9999


class Lifecycle(StrEnum):
    ACTIVE = "active"
    DELETED = "deleted"


class RunStatus(StrEnum):
    RUNNING = "RUNNING"
    SCHEDULED = "SCHEDULED"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    KILLED = "KILLED"


class LoggedModelStatus(StrEnum):
    PENDING = "LOGGED_MODEL_PENDING"
    READY = "LOGGED_MODEL_READY"
    UPLOAD_FAILED = "LOGGED_MODEL_UPLOAD_FAILED"


class _Tracked(Frozen):
    """What all of them have. Times are in milliseconds, as clients state them."""

    id: str
    name: str
    project_id: str | None = None
    project_name: str | None = None
    lifecycle: Lifecycle = Lifecycle.ACTIVE

    def _named(self, name: str) -> QualifiedName:
        return QualifiedName(project_id=self.project_id, project_name=self.project_name, name=name)


class Experiment(_Tracked):
    """A set of runs and logged models."""

    created_ms: int
    updated_ms: int

    @property
    def subject(self) -> str:
        """Whose trail it belongs to."""
        return f"EXP#{self.id}"

    @property
    def qualified_name(self) -> QualifiedName:
        """What access is limited by."""
        return self._named(self.name)


class _Made(_Tracked):
    """What is made in an experiment. `scope` is what limits of names apply to: see tracking_access.py."""

    experiment_id: str
    scope: str = ""

    @property
    def qualified_name(self) -> QualifiedName:
        return self._named(self.scope)

    @property
    def tree_id(self) -> str:
        return self.id


class Run(_Made):
    """One run of a training."""

    user_id: str = ""
    status: RunStatus = RunStatus.RUNNING
    start_ms: int
    end_ms: int | None = None

    @property
    def subject(self) -> str:
        return f"RUN#{self.id}"

    @property
    def artifact_uri(self) -> str:
        return f"mlflow-artifacts:/{self.experiment_id}/{self.id}/artifacts"


class LoggedModel(_Made):
    """A model that was logged, with a tree of files of its own."""

    model_type: str = ""
    source_run_id: str = ""
    status: LoggedModelStatus = LoggedModelStatus.PENDING
    created_ms: int
    updated_ms: int

    @property
    def subject(self) -> str:
        return f"LM#{self.id}"

    @property
    def artifact_uri(self) -> str:
        return f"mlflow-artifacts:/{self.experiment_id}/models/{self.id}/artifacts"


Tracked = Experiment | Run | LoggedModel
Decide = Callable[[Tracked], Tracked]


class Metric(Frozen):
    """One value of a metric. Of several the latest is that with the highest step, then time, then value."""

    model_config = ConfigDict(ser_json_inf_nan="strings")

    key: str
    value: float
    timestamp: int
    step: int = 0
    model_id: str | None = None
    run_id: str | None = None
    dataset_name: str | None = None
    dataset_digest: str | None = None


class Dataset(Frozen):
    """A set of data that went into a run: what it is, as a client described it, and what it was used for."""

    name: str
    digest: str
    source_type: str = ""
    source: str = ""
    data_schema: str | None = None
    profile: str | None = None
    tags: Mapping[str, str] = {}


class Data(Frozen):
    """What is known of a run or a logged model beside itself.

    `metrics` are the latest of each key; of a logged model of each key, run and dataset.
    """

    params: Mapping[str, str] = {}
    tags: Mapping[str, str] = {}
    metrics: Sequence[Metric] = ()
    datasets: Sequence[Dataset] = ()
    inputs: Sequence[str] = ()  # logged models
    outputs: Mapping[str, int] = {}  # logged models, and at which step


class Whole(NamedTuple):
    """Something that is tracked, with what is known of it. `position` is its place among its likes, newest first."""

    tracked: Tracked
    data: Data
    position: str = ""
    size_bytes: int = 0


class TrackingStore(Protocol):
    """Keeps all of it. Each change of an experiment, a run or a logged model has its event. Raises Unavailable.

    All reads see every write that was acknowledged before. Subjects are those of events.
    """

    def find(self, subject: str) -> Tracked | None:
        """None if there is none."""

    def whole(self, subject: str) -> Whole | None:
        """With what is known of it. Raises TooLarge if that is more than an answer may have."""

    def tags(self, subject: str) -> Mapping[str, str]:
        """Its tags alone, whether it is there itself or not."""

    def experiment_named(self, name: str) -> Experiment | None:
        """The experiment that has the name, deleted or not."""

    def experiments(self, projects: Sequence[Project] | None, before: str | None, limit: int) -> Sequence[Whole]:
        """Of these projects, or all, newest first, behind a position. Default is not among them."""

    def runs(
        self, experiment_ids: Sequence[str], projects: Sequence[Project] | None, before: str | None, limit: int
    ) -> Sequence[Whole]:
        """Of these experiments, likewise. Projects tell apart what is in Default alone."""

    def logged_models(
        self, experiment_ids: Sequence[str], projects: Sequence[Project] | None, before: str | None, limit: int
    ) -> Sequence[Whole]:
        """Of these experiments, likewise."""

    def add(self, made: Tracked, by: Actor, at: datetime, tags: Mapping[str, str], params: Mapping[str, str]) -> None:
        """Store a new one, with a tree for its files. Raises AlreadyExists for the taken name of an experiment."""

    def change(
        self, subject: str, by: Actor, at: datetime, decide: Decide, tags: Mapping[str, str]
    ) -> tuple[Tracked, Tracked]:
        """Have it be what `decide` makes of what it is, and set tags with it; as it was, and as it is.

        `decide` may be asked again, if others change it meanwhile. Raises NotFound, what `decide` raises, and
        AlreadyExists as `add`.
        """

    def set_tags(self, subject: str, tags: Mapping[str, str]) -> None:
        """Set tags."""

    def delete_tag(self, subject: str, key: str) -> bool:
        """Take a tag away; whether it was there."""

    def extend_tag(self, subject: str, key: str, extended: Callable[[str | None], str]) -> None:
        """Have a tag be what `extended` makes of its value; asked again if others change it meanwhile."""

    def log_params(self, subject: str, params: Mapping[str, str]) -> Mapping[str, str]:
        """Store all or none: a parameter never changes. Those that are there with other values, which are these."""

    def log_metrics(self, subject: str, metrics: Sequence[Metric]) -> None:
        """Store values of a run, each once."""

    def log_model_metrics(self, subject: str, metrics: Sequence[Metric]) -> None:
        """Store values of a logged model, of which the latest are kept."""

    def set_inputs(self, subject: str, datasets: Sequence[Dataset], model_ids: Sequence[str]) -> None:
        """Note what went into a run. Raises TooLarge."""

    def set_outputs(self, subject: str, outputs: Mapping[str, int]) -> None:
        """Note which models a run made, at which step."""

    def history(self, subject: str, key: str, limit: int, after: str | None) -> tuple[Sequence[Metric], str | None]:
        """All values of a metric of a run in order of time and step, behind a position, and where to go on.

        They may be fewer than `limit` and not the last.
        """


def in_milliseconds(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def position_of(tracked: Tracked) -> str:
    """Its place among its likes, as text that sorts by time, oldest first."""
    began = tracked.start_ms if isinstance(tracked, Run) else tracked.created_ms
    bounded = max(0, min(began, LAST_TIME))
    return f"{time_text(datetime.fromtimestamp(bounded / 1000, UTC))}#{tracked.id}"
