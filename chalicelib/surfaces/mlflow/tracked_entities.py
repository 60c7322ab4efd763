"""Experiments, runs and logged models as MLflow's clients see them."""

from collections.abc import Mapping

from chalicelib.registry.tracking import Data, Dataset, Experiment, LoggedModel, Metric, Run
from chalicelib.surfaces.mlflow.entities import Message, tag_messages


def experiment_message(experiment: Experiment, tags: Mapping[str, str]) -> Message:
    return {
        "experiment_id": experiment.id,
        "name": experiment.name,
        "artifact_location": f"mlflow-artifacts:/{experiment.id}",
        "lifecycle_stage": experiment.lifecycle,
        "creation_time": experiment.created_ms,
        "last_update_time": experiment.updated_ms,
        "tags": tag_messages(tags),
    }


def info_message(run: Run) -> Message:
    return {
        "run_id": run.id,
        "run_uuid": run.id,
        "run_name": run.name,
        "experiment_id": run.experiment_id,
        "user_id": run.user_id,
        "status": run.status,
        "start_time": run.start_ms,
        "end_time": run.end_ms,
        "artifact_uri": run.artifact_uri,
        "lifecycle_stage": run.lifecycle,
    }


def run_message(run: Run, data: Data) -> Message:
    return {
        "info": info_message(run),
        "data": {
            "metrics": [metric_message(metric) for metric in data.metrics],
            "params": tag_messages(data.params),
            "tags": tag_messages(data.tags),
        },
        "inputs": {
            "dataset_inputs": [dataset_message(dataset) for dataset in data.datasets],
            "model_inputs": [{"model_id": model_id} for model_id in data.inputs],
        },
        "outputs": {"model_outputs": [{"model_id": id_, "step": step} for id_, step in sorted(data.outputs.items())]},
    }


def logged_model_message(model: LoggedModel, data: Data) -> Message:
    return {
        "info": {
            "model_id": model.id,
            "experiment_id": model.experiment_id,
            "name": model.name,
            "creation_timestamp_ms": model.created_ms,
            "last_updated_timestamp_ms": model.updated_ms,
            "artifact_uri": model.artifact_uri,
            "status": model.status,
            "model_type": model.model_type,
            "source_run_id": model.source_run_id,
            "tags": tag_messages(data.tags),
        },
        "data": {
            "params": tag_messages(data.params),
            "metrics": [metric_message(one) for one in sorted(data.metrics, key=lambda one: (one.key, one.step))],
        },
    }


def metric_message(metric: Metric) -> Message:
    return {**metric.model_dump(exclude_none=True), "value": _number(metric.value)}


def dataset_message(dataset: Dataset) -> Message:
    told = dataset.model_dump(include={"name", "digest", "source_type", "source", "profile"})
    return {"tags": tag_messages(dataset.tags), "dataset": {**told, "schema": dataset.data_schema}}


def _number(value: float) -> float | str:
    """A double in the JSON of protocol buffers, which has words for what JSON has none for."""
    if value != value:
        return "NaN"
    return {float("inf"): "Infinity", float("-inf"): "-Infinity"}.get(value, value)
