"""Every call of MLflow's API: importing this module has `mlflow` answer them."""

from chalicelib.surfaces.mlflow import (
    artifacts,
    experiments,
    logged_models,
    measurements,
    model_versions,
    registered_models,
    server_info,
    tracking,
)
from chalicelib.surfaces.mlflow.protocol import mlflow

__all__ = [
    "artifacts",
    "experiments",
    "logged_models",
    "measurements",
    "mlflow",
    "model_versions",
    "registered_models",
    "server_info",
    "tracking",
]
