"""Experiments, runs and logged models on DynamoDB: their items and keys.

| question | answered by |
|---|---|
| an experiment, a run, a logged model by its id; event head | `EXP#{id}`, `RUN#{id}`, `LM#{id}` / `META` |
| its parameters, its tags | likewise / `P#{key}`, `T#{key}` |
| the latest of each metric of a run; of a logged model by key, run and dataset | likewise / `L#{key}`; `L#{sha256}` |
| every value of a metric of a run, in order of time and step | `RUN#{id}` / `H#{sha256 of the key}#{..}` |
| the data and the models that went into a run; the models it made | `RUN#{id}` / `N#{sha256}`, `I#..`; `O#{id}` |
| the experiment of a name | `EXPERIMENT-NAME#{sha256}` / `META` |
| experiments, newest first; those of a project | `EXPERIMENTS`, `EXPERIMENTS#{sha256}` / `{time}#{id}` |
| the runs, and the logged models, of an experiment, newest first | `EXP#{id}` / `IN-RUN#..`, `IN-MODEL#{time}#{id}` |
| those in Default of a project | `EXP#0#{sha256}` / likewise |

All that is known of a run, but the values that a metric had before, stands from `I#` on: it is read by one query.
"""

import json
import struct
import zlib
from collections.abc import Sequence
from typing import Self

from pynamodb.attributes import BinaryAttribute, NumberAttribute, UnicodeAttribute

from chalicelib.registry.access import Project
from chalicelib.registry.audit import Event
from chalicelib.registry.models import Head
from chalicelib.registry.tracking import (
    DEFAULT_ID,
    Dataset,
    Experiment,
    LoggedModel,
    Metric,
    Run,
    Tracked,
    position_of,
)
from chalicelib.store.keys import META, project_digest, searched_key
from chalicelib.store.schema import PointerItem, RegistryItem

EXPERIMENT, RUN, LOGGED_MODEL, EXPERIMENT_NAME = "EXP#", "RUN#", "LM#", "EXPERIMENT-NAME#"
EXPERIMENTS, IN_RUNS, IN_MODELS = "EXPERIMENTS", "IN-RUN#", "IN-MODEL#"
PARAMS, TAGS, LATEST, HISTORY, DATASETS, INPUTS, OUTPUTS = "P#", "T#", "L#", "H#", "N#", "I#", "O#"
KINDS: dict[str, type[Experiment] | type[Run] | type[LoggedModel]] = {
    EXPERIMENT: Experiment,
    RUN: Run,
    LOGGED_MODEL: LoggedModel,
}
# Where what is known of something begins; in the partition of an experiment its runs are listed before it.
FIRST_KNOWN = {EXPERIMENT: META, RUN: INPUTS, LOGGED_MODEL: INPUTS}
OFFSET = 2**63  # has numbers below 0 sort, too


class TrackedItem(RegistryItem):
    """An experiment, a run or a logged model; `seq` and `digest` are those of its newest event."""

    record = UnicodeAttribute()
    seq = NumberAttribute()
    digest = UnicodeAttribute()

    @classmethod
    def of(cls, tracked: Tracked, event: Event) -> Self:
        record = tracked.model_dump_json()
        return cls(tracked.subject, META, record=record, seq=event.seq, digest=event.digest)

    def tracked(self) -> Tracked:
        return KINDS[kind_of(self.pk)].model_validate_json(self.record)

    @property
    def head(self) -> Head:
        return Head(seq=int(self.seq), digest=self.digest)


class LoggedItem(RegistryItem):
    """A parameter, a tag, or the step at which a run made a model."""

    value = UnicodeAttribute()


class MetricItem(RegistryItem):
    """A value of a metric: one of all (`H#`), or the latest (`L#`), whose `place` says how late it is."""

    record = UnicodeAttribute()
    place = UnicodeAttribute()

    @classmethod
    def of_history(cls, subject: str, metric: Metric) -> Self:
        sk = f"{history_key(metric.key)}{ordered(metric.timestamp)}#{ordered(metric.step)}#{_value_key(metric)}"
        return cls(subject, sk, record=metric.model_dump_json(exclude_none=True), place=place_of(metric))

    @classmethod
    def latest(cls, subject: str, metric: Metric) -> Self:
        """Of a run by its key alone; of a logged model also by the run and the dataset it was measured with."""
        known = metric.key
        if subject.startswith(LOGGED_MODEL):
            known = searched_key(json.dumps([metric.key, metric.run_id, metric.dataset_name, metric.dataset_digest]))
        record = metric.model_dump_json(exclude_none=True)
        return cls(subject, f"{LATEST}{known}", record=record, place=place_of(metric))

    def metric(self) -> Metric:
        return Metric.model_validate_json(self.record)


class DatasetItem(RegistryItem):
    """A set of data that went into a run, compressed: descriptions of many columns are long."""

    record = BinaryAttribute(legacy_encoding=False)

    @classmethod
    def of(cls, subject: str, dataset: Dataset) -> Self:
        name = searched_key(json.dumps([dataset.name, dataset.digest]))
        return cls(subject, f"{DATASETS}{name}", record=zlib.compress(dataset.model_dump_json().encode()))

    def dataset(self) -> Dataset:
        return Dataset.model_validate_json(zlib.decompress(self.record))


def kind_of(subject: str) -> str:
    """What the subjects of its likes begin with."""
    return subject.partition("#")[0] + "#"


def history_key(key: str) -> str:
    """What the values of a metric begin with."""
    return f"{HISTORY}{searched_key(key)[:32]}#"


def ordered(number: int) -> str:
    return f"{number + OFFSET:020d}"


def place_of(metric: Metric) -> str:
    """Sorts by step, then time, then value, as the latest is told; what is no number is before all that are."""
    return f"{ordered(metric.step)}#{ordered(metric.timestamp)}#{_value_key(metric)}"


def _value_key(metric: Metric) -> str:
    """Sorts as the value does."""
    value = metric.value + 0.0  # one zero of the two
    if value != value:
        return "0"
    bits = int.from_bytes(struct.pack(">d", value))
    return f"{bits ^ (2**63 if bits < 2**63 else 2**64 - 1):020d}"


def name_row(experiment: Experiment) -> PointerItem:
    """Where the experiment of a name is found."""
    return PointerItem(f"{EXPERIMENT_NAME}{searched_key(experiment.name)}", META, target=experiment.subject)


def list_rows(tracked: Tracked) -> list[PointerItem]:
    """Where it is listed: among all, and for who sees only its project apart from what others have."""
    at = position_of(tracked)
    if isinstance(tracked, Experiment):
        among, sk, has_others = EXPERIMENTS, at, True
    else:
        among = f"{EXPERIMENT}{tracked.experiment_id}"
        sk = f"{IN_RUNS if isinstance(tracked, Run) else IN_MODELS}{at}"
        has_others = tracked.experiment_id == DEFAULT_ID
    digest = project_digest(tracked.project_id, tracked.project_name)
    partitions = [among, *([f"{among}#{digest}"] if has_others and digest else [])]
    return [PointerItem(pk, sk, target=tracked.subject) for pk in partitions]


def experiments_keys(projects: Sequence[Project] | None) -> list[str]:
    """The partitions that list the experiments of these projects, or all."""
    return [EXPERIMENTS] if projects is None else _of_projects(EXPERIMENTS, projects)


def contents_keys(experiment_ids: Sequence[str], projects: Sequence[Project] | None) -> list[str]:
    """The partitions that list what is in these experiments; in Default what is of these projects."""
    keys: list[str] = []
    for experiment_id in dict.fromkeys(experiment_ids):
        pk = f"{EXPERIMENT}{experiment_id}"
        keys += [pk] if projects is None or experiment_id != DEFAULT_ID else _of_projects(pk, projects)
    return keys


def _of_projects(pk: str, projects: Sequence[Project]) -> list[str]:
    return [f"{pk}#{project_digest(project.id, project.name)}" for project in projects]
