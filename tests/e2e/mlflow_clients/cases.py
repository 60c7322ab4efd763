"""What every script here does: run cases with MLflow's own client, and say as JSON what each came to.

The scripts run in an environment with MLflow and without this project. A case returns what it found; its test judges.
"""

import json
import os
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import Any

os.environ.setdefault("MLFLOW_ENABLE_ASYNC_LOGGING", "false")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
warnings.filterwarnings("ignore")

Case = Callable[[], Any]
CASES: dict[str, Case] = {}


def case(function: Case) -> Case:
    CASES[function.__name__] = function
    return function


def failing(function: Callable[[], Any]) -> dict[str, Any]:
    """What the client raised: its code and text."""
    try:
        found = function()
    except Exception as exc:
        return {"code": getattr(exc, "error_code", type(exc).__name__), "message": str(exc)}
    return {"code": None, "message": repr(found)}


def run() -> None:
    """Every case, in order; the last line of standard output is the results."""
    results = {}
    for name, function in CASES.items():
        try:
            results[name] = {"found": function()}
        except BaseException:
            results[name] = {"error": traceback.format_exc()}
    sys.stdout.flush()
    print(json.dumps(results), flush=True)
