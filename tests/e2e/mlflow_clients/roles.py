"""MLflow's client with the tokens of an admin, a publisher, a viewer and a publisher of one project, and with none."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mlflow
import numpy as np
from cases import case, failing, run
from mlflow import MlflowClient
from sklearn.linear_model import LogisticRegression

ROWS = np.array([[0.0], [1.0], [2.0], [3.0]])
NAME = os.environ["NAME"]
TOKENS = {name: os.environ[name] for name in ("ADMIN", "PUBLISHER", "VIEWER", "VISION")}


@contextmanager
def caller(**variables: str) -> Iterator[None]:
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            del os.environ[name]


def having(name: str) -> Any:
    return caller(MLFLOW_TRACKING_TOKEN=TOKENS[name])


def logging_in_as(name: str) -> Any:
    return caller(MLFLOW_TRACKING_USERNAME="anyone", MLFLOW_TRACKING_PASSWORD=TOKENS[name])


def log(name: str) -> Any:
    model = LogisticRegression().fit(ROWS, [0, 0, 1, 1])
    with mlflow.start_run():
        info = mlflow.sklearn.log_model(model, name="model", registered_model_name=name, serialization_format="pickle")
    return int(info.registered_model_version)


@case
def publisher() -> Any:
    with having("PUBLISHER"):
        version = log(NAME)
        MlflowClient().set_registered_model_alias(NAME, "champion", str(version))
        return version, failing(lambda: MlflowClient().delete_registered_model(NAME))


@case
def viewer() -> Any:
    with logging_in_as("VIEWER"):
        model = mlflow.pyfunc.load_model(f"models:/{NAME}@champion")
        predictions = [int(value) for value in model.predict(ROWS)]
        return (
            predictions,
            failing(lambda: MlflowClient().set_registered_model_tag(NAME, "a", "b")),
            failing(lambda: mlflow.create_experiment("of a viewer")),
        )


@case
def of_a_project() -> Any:
    """Its own model of the same name, which nobody mixes up with the other."""
    with having("VISION"):
        log(NAME)
        own = mlflow.pyfunc.load_model(f"models:/{NAME}/1").metadata.run_id
        seen = [model.name for model in MlflowClient().search_registered_models()]
        runs = len(mlflow.search_runs(["0"], output_format="list"))
    with having("VIEWER"):
        other = mlflow.pyfunc.load_model(f"models:/{NAME}/1").metadata.run_id
    return own != other, seen, runs


@case
def nobody() -> Any:
    with caller(MLFLOW_TRACKING_TOKEN="mr_of_nobody"):
        return failing(MlflowClient().search_registered_models), failing(lambda: mlflow.create_experiment("of nobody"))


@case
def admin() -> Any:
    with logging_in_as("ADMIN"):
        MlflowClient().delete_registered_model(NAME)
        return failing(lambda: MlflowClient().get_registered_model(NAME))


run()
