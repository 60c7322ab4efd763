"""What runs of MLflow's clients measure and note: parameters, metrics, tags, inputs and outputs."""

import json
from typing import Annotated, Any

from chalice.app import Response
from pydantic import Field

from chalicelib.registry.access import Role
from chalicelib.registry.errors import InvalidInput
from chalicelib.registry.tracking import Dataset, Metric
from chalicelib.surfaces.mlflow.pages import MEASURED, PageAsked, page, position
from chalicelib.surfaces.mlflow.protocol import Asked, Text, answered, mlflow
from chalicelib.surfaces.mlflow.tracked_entities import metric_message
from chalicelib.surfaces.mlflow.tracking import Integer, RunAsked
from chalicelib.wiring_mlflow import tracking

ROOT = "2.0/mlflow"
MAX_HISTORY = 25_000
MODEL_FIELDS = ("artifact_path", "flavors", "run_id", "utc_time_created")


class PairAsked(Asked):
    key: Text
    value: str = ""


class ParamAsked(PairAsked, RunAsked):
    """A parameter, or a tag, and of which run."""


class MetricAsked(Asked):
    key: Text
    value: float
    timestamp: Integer
    step: Integer = 0
    model_id: str = ""
    dataset_name: str = ""
    dataset_digest: str = ""

    def metric(self) -> Metric:
        stated = self.model_dump(include={"key", "value", "timestamp", "step"})
        more = {name: getattr(self, name) or None for name in ("model_id", "dataset_name", "dataset_digest")}
        return Metric(**stated, **more)


class RunMetricAsked(MetricAsked, RunAsked):
    """A metric, and of which run."""


class BatchAsked(RunAsked):
    metrics: list[MetricAsked] = []
    params: list[PairAsked] = []
    tags: list[PairAsked] = []


class DeleteTagAsked(RunAsked):
    key: Text


class DatasetAsked(Asked):
    name: str = ""
    digest: str = ""
    source_type: str = ""
    source: str = ""
    data_schema: str | None = Field(None, alias="schema")
    profile: str | None = None


class DatasetInputAsked(Asked):
    dataset: DatasetAsked
    tags: list[PairAsked] = []

    def described(self) -> Dataset:
        return Dataset(**self.dataset.model_dump(), tags=dict(pairs(self.tags)))


class ModelAsked(Asked):
    model_id: Text
    step: Integer = 0


class InputsAsked(RunAsked):
    datasets: list[DatasetInputAsked] = []
    models: list[ModelAsked] = []


class OutputsAsked(RunAsked):
    models: Annotated[list[ModelAsked], Field(min_length=1)]


class LogModelAsked(RunAsked):
    model_json: Text


class HistoryAsked(RunAsked, PageAsked):
    metric_key: Text
    max_results: int = MAX_HISTORY


def pairs(stated: list[PairAsked]) -> list[tuple[str, str]]:
    """Parameters or tags, as they are stated."""
    return [(pair.key, pair.value) for pair in stated]


@mlflow.call("POST", f"{ROOT}/runs/log-parameter", Role.PUBLISHER)
def log_parameter() -> Response:
    asked = mlflow.asked(ParamAsked)
    tracking().log_param(asked.run_id, asked.key, asked.value, mlflow.actor())
    return answered()


@mlflow.call("POST", f"{ROOT}/runs/log-metric", Role.PUBLISHER)
def log_metric() -> Response:
    asked = mlflow.asked(RunMetricAsked)
    tracking().log_metric(asked.run_id, asked.metric(), mlflow.actor())
    return answered()


@mlflow.call("POST", f"{ROOT}/runs/log-batch", Role.PUBLISHER)
def log_batch() -> Response:
    asked = mlflow.asked(BatchAsked)
    metrics = [metric.metric() for metric in asked.metrics]
    tracking().log_batch(asked.run_id, mlflow.actor(), metrics, pairs(asked.params), pairs(asked.tags))
    return answered()


@mlflow.call("POST", f"{ROOT}/runs/set-tag", Role.PUBLISHER)
def set_run_tag() -> Response:
    asked = mlflow.asked(ParamAsked)
    tracking().tag_run(asked.run_id, asked.key, asked.value, mlflow.actor())
    return answered()


@mlflow.call("POST", f"{ROOT}/runs/delete-tag", Role.PUBLISHER)
def delete_run_tag() -> Response:
    asked = mlflow.asked(DeleteTagAsked)
    tracking().untag_run(asked.run_id, asked.key, mlflow.actor())
    return answered()


@mlflow.call("POST", f"{ROOT}/runs/log-inputs", Role.PUBLISHER)
def log_inputs() -> Response:
    asked = mlflow.asked(InputsAsked)
    datasets, models = [one.described() for one in asked.datasets], [one.model_id for one in asked.models]
    tracking().note_inputs(asked.run_id, datasets, models, mlflow.actor())
    return answered()


@mlflow.call("POST", f"{ROOT}/runs/outputs", Role.PUBLISHER)
def log_outputs() -> Response:
    asked = mlflow.asked(OutputsAsked)
    tracking().note_outputs(asked.run_id, {one.model_id: one.step for one in asked.models}, mlflow.actor())
    return answered()


@mlflow.call("POST", f"{ROOT}/runs/log-model", Role.PUBLISHER)
def log_model() -> Response:
    """Of clients before MLflow 3."""
    asked = mlflow.asked(LogModelAsked)
    tracking().note_model(asked.run_id, _model_of(asked.model_json), mlflow.actor())
    return answered()


def _model_of(text: str) -> dict[str, Any]:
    """Raises InvalidInput."""
    try:
        model = json.loads(text)
    except (ValueError, RecursionError):
        model = None
    if not isinstance(model, dict):
        raise InvalidInput("model_json", "Malformed model info: it is not a JSON object.")
    if missing := [name for name in MODEL_FIELDS if name not in model]:
        raise InvalidInput("model_json", f"Model json is missing mandatory fields: {', '.join(missing)}")
    return model


@mlflow.call("GET", f"{ROOT}/metrics/get-history", Role.VIEWER)
def get_metric_history() -> Response:
    asked = mlflow.asked(HistoryAsked)
    if asked.max_results <= 0:
        raise InvalidInput(
            "max_results",
            f"Invalid value {asked.max_results} for parameter 'max_results' supplied. It must be a positive integer.",
        )
    limit, after = min(asked.max_results, MAX_HISTORY), position(asked, MEASURED)
    found, go_on = tracking().history(asked.run_id, asked.metric_key, limit, after, mlflow.actor())
    return answered({"metrics": [metric_message(metric) for metric in found], "next_page_token": page(go_on)})
