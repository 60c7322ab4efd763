"""Registers what another tracking server, or a bucket, has the files of."""

import sys
from typing import Any

import mlflow
import numpy as np
from cases import case, run
from mlflow import MlflowClient
from sklearn.linear_model import LogisticRegression

client = MlflowClient()


@case
def of_a_bucket() -> Any:
    client.create_registered_model("of a bucket")
    made = client.create_model_version("of a bucket", "s3://elsewhere/model")
    return {
        "version": made.version,
        "source": made.source,
        "uri": client.get_model_version_download_uri("of a bucket", made.version),
    }


@case
def of_another_tracking_server() -> Any:
    model = LogisticRegression().fit(np.array([[0.0], [1.0]]), [0, 1])
    info = mlflow.sklearn.log_model(model, name="model", registered_model_name="logged elsewhere")
    made = client.get_model_version("logged elsewhere", info.registered_model_version)
    return {"version": str(made.version), "status_message": made.status_message}


if __name__ == "__main__":
    sys.exit(run())
