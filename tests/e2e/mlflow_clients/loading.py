"""Loads one model."""

import os
import sys
from typing import Any

import mlflow
import numpy as np
from cases import case, run


@case
def loaded() -> Any:
    model = mlflow.pyfunc.load_model(os.environ["MODEL_URI"])
    return [int(value) for value in model.predict(np.array([[0.0], [1.0], [2.0], [3.0]]))]


if __name__ == "__main__":
    sys.exit(run())
