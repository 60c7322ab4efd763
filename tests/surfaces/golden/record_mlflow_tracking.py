"""Record what MLflow's own server answers while it tracks, for tests/surfaces/test_mlflow_tracking.py.

Runs in an environment with MLflow and without this project, against a fresh server of it, and writes
mlflow_tracking.json beside it:

    .venv-mlflow/bin/mlflow server --backend-store-uri sqlite:////tmp/new.db --artifacts-destination /tmp/new
    .venv-mlflow/bin/python tests/surfaces/golden/record_mlflow_tracking.py http://127.0.0.1:5000

A step is a request with a name. What it answers can be captured, and stands in later requests, and in all answers, by
its name in braces; so do times, and names that MLflow makes up.
"""

import json
import sys
from pathlib import Path
from typing import Any

import mlflow
import requests

FOLDER = Path(__file__).parent
LONG = "x" * 9_000
TAGS = [{"key": "b", "value": "two"}, {"key": "a", "value": "one"}]
RUN, MODEL, TRIAL = {"run_id": "{run}"}, "logged-models/{model}", {"experiment_id": "{trial}"}
Step = tuple[str, str, str, dict[str, Any], dict[str, str]]


def get(step: str, path: str, /, **query: Any) -> Step:
    return (step, "GET", path, query, {})


def post(step: str, path: str, captured: dict[str, str] | None = None, /, **body: Any) -> Step:
    return (step, "POST", path, body, captured or {})


def patch(step: str, path: str, /, **body: Any) -> Step:
    return (step, "PATCH", path, body, {})


def metric(key: Any = "loss", value: Any = 0.5, timestamp: Any = 1_000, **more: Any) -> dict[str, Any]:
    return {"key": key, "value": value, "timestamp": timestamp, **more}


def logged(step: str, *metrics: dict[str, Any], **more: Any) -> Step:
    return post(step, "runs/log-batch", **RUN, metrics=list(metrics), **more)


EXPERIMENTS: list[Step] = [
    get("an experiment of no such name", "experiments/get-by-name", experiment_name="trial"),
    get("an experiment without a name", "experiments/get-by-name"),
    post("a new experiment", "experiments/create", {"trial": "experiment_id"}, name="trial", tags=TAGS),
    post("a name that is taken", "experiments/create", name="trial"),
    post("a name that everybody has", "experiments/create", name="Default"),
    post("an empty name", "experiments/create", name=""),
    post("a blank name", "experiments/create", name="  "),
    post("a long name", "experiments/create", name="x" * 501),
    post("no name", "experiments/create"),
    post("a name that is a number", "experiments/create", name=5),
    post("a tag with a bad key", "experiments/create", name="other", tags=[{"key": "a*b", "value": "one"}]),
    post("a long tag", "experiments/create", name="other", tags=[{"key": "a", "value": "x" * 20_001}]),
    get("the experiment by its name", "experiments/get-by-name", experiment_name="trial"),
    get("the experiment by its id", "experiments/get", **TRIAL),
    get("the first experiment", "experiments/get", experiment_id="0"),
    get("the first experiment by its name", "experiments/get-by-name", experiment_name="Default"),
    get("an experiment that is not there", "experiments/get", experiment_id="999"),
    get("no id of an experiment", "experiments/get"),
    post("a tag of the experiment", "experiments/set-experiment-tag", **TRIAL, key="c", value="three"),
    post("a tag without a key", "experiments/set-experiment-tag", **TRIAL, value="three"),
    post("a tag that is a path", "experiments/set-experiment-tag", **TRIAL, key="../c", value="three"),
    post("a long key", "experiments/set-experiment-tag", **TRIAL, key="k" * 251, value="three"),
    post("a tag of no experiment", "experiments/set-experiment-tag", experiment_id="999", key="c", value="three"),
    post("no tag any more", "experiments/delete-experiment-tag", **TRIAL, key="c"),
    post("no tag that was none", "experiments/delete-experiment-tag", **TRIAL, key="c"),
    post("another name", "experiments/update", **TRIAL, new_name="renamed"),
    post("no other name", "experiments/update", **TRIAL),
    get("the old name", "experiments/get-by-name", experiment_name="trial"),
    get("the new name", "experiments/get-by-name", experiment_name="renamed"),
    post("a second experiment", "experiments/create", {"second": "experiment_id"}, name="second"),
    post("deleted", "experiments/delete", experiment_id="{second}"),
    post("deleted again", "experiments/delete", experiment_id="{second}"),
    get("it is still told of", "experiments/get", experiment_id="{second}"),
    post("its name is taken", "experiments/create", name="second"),
    post("it cannot be renamed", "experiments/update", experiment_id="{second}", new_name="third"),
    post("it cannot be tagged", "experiments/set-experiment-tag", experiment_id="{second}", key="c", value="three"),
    post("there is no new run in it", "runs/create", experiment_id="{second}"),
    post("there is no new model in it", "logged-models", experiment_id="{second}"),
    post("all that are active", "experiments/search", max_results=10),
    post("all that are deleted", "experiments/search", max_results=10, view_type="DELETED_ONLY"),
    post("all there are", "experiments/search", max_results=10, view_type="ALL"),
    get("all there are, by GET", "experiments/search", max_results=10, view_type="ALL"),
    post("by name", "experiments/search", max_results=10, filter="name = 'renamed'"),
    post("by name, like", "experiments/search", max_results=10, filter="name ILIKE 'REN%'"),
    post("by tag", "experiments/search", max_results=10, filter="tags.a = 'one'"),
    post("by what there is not", "experiments/search", max_results=10, filter="shape = 'round'"),
    post("none at once", "experiments/search", max_results=0),
    post("too many at once", "experiments/search", max_results=50_001),
    post("restored", "experiments/restore", experiment_id="{second}"),
    post("restored again", "experiments/restore", experiment_id="{second}"),
]
RUNS: list[Step] = [
    post(
        "a new run", "runs/create", {"run": "run.info.run_id"},
        **TRIAL, user_id="ann", run_name="first", start_time=1_700_000_000_000, tags=TAGS,
    ),
    post("a run of no experiment", "runs/create", experiment_id="999"),
    post("a run of two names", "runs/create", **TRIAL, run_name="a", tags=[{"key": "mlflow.runName", "value": "b"}]),
    post("a run at no time", "runs/create", **TRIAL, start_time="soon"),
    post("a run of the first experiment", "runs/create", {"other": "run.info.run_id"}, experiment_id="0", run_name="o"),
    post("a run without an experiment", "runs/create", run_name="other"),
    get("the run", "runs/get", **RUN),
    get("the run by its old id", "runs/get", run_uuid="{run}"),
    get("no run", "runs/get"),
    get("a run that is not there", "runs/get", run_id="0" * 32),
    get("a run whose id is none", "runs/get", run_id="a/b c"),
    post("a parameter", "runs/log-parameter", **RUN, key="depth", value="three"),
    post("the parameter again", "runs/log-parameter", **RUN, key="depth", value="three"),
    post("the parameter with another value", "runs/log-parameter", **RUN, key="depth", value="four"),
    post("a parameter without a value", "runs/log-parameter", **RUN, key="empty"),
    post("a parameter without a key", "runs/log-parameter", **RUN, value="three"),
    post("a parameter that is a path", "runs/log-parameter", **RUN, key="/depth", value="three"),
    post("a parameter with a bad key", "runs/log-parameter", **RUN, key="a*b", value="three"),
    post("a parameter with a long key", "runs/log-parameter", **RUN, key="k" * 251, value="three"),
    post("a long parameter", "runs/log-parameter", run_id="{other}", key="long", value=LONG),
    post("a parameter that is a number", "runs/log-parameter", **RUN, key="number", value=3),
    post("a parameter of no run", "runs/log-parameter", run_id="0" * 32, key="depth", value="three"),
    post("a metric", "runs/log-metric", **RUN, **metric()),
    post("the metric again", "runs/log-metric", **RUN, **metric()),
    post("a metric later", "runs/log-metric", **RUN, **metric(value=0.25, timestamp=2_000, step=1)),
    post("a metric earlier", "runs/log-metric", **RUN, **metric(value=0.75, timestamp=3_000, step=-1)),
    post("a metric that is a text", "runs/log-metric", **RUN, **metric(value="much")),
    post("a metric that is a number in a text", "runs/log-metric", **RUN, **metric("text", value="0.5")),
    post("a metric that is no number", "runs/log-metric", **RUN, **metric("nan", value="NaN")),
    post("a metric that is infinite", "runs/log-metric", run_id="{other}", **metric("inf", value="Infinity")),
    post("a metric without a value", "runs/log-metric", **RUN, key="loss", timestamp=1_000),
    post("a metric without a time", "runs/log-metric", **RUN, key="loss", value=1),
    post("a metric before all time", "runs/log-metric", **RUN, **metric(timestamp=-1)),
    post("a metric with a bad key", "runs/log-metric", **RUN, **metric("a*b")),
    post("a metric with a long key", "runs/log-metric", **RUN, **metric("k" * 251)),
    post("a metric that is a path", "runs/log-metric", **RUN, **metric("a/../b")),
    get("its history", "metrics/get-history", **RUN, metric_key="loss"),
    get("a page of its history", "metrics/get-history", **RUN, metric_key="loss", max_results=2),
    get("a page of nothing", "metrics/get-history", **RUN, metric_key="loss", max_results=0),
    get("the history of nothing", "metrics/get-history", **RUN, metric_key="none"),
    get("the history of no metric", "metrics/get-history", **RUN),
    get("the history of no run", "metrics/get-history", run_id="0" * 32, metric_key="loss"),
    logged(
        "all at once", metric("acc", 0.5, 1), metric("acc", 0.5, 1), metric("acc", 0.75, 1),
        params=[{"key": "width", "value": "five"}],
        tags=[{"key": "c", "value": "three"}, {"key": "c", "value": "four"}],
    ),
    logged("nothing at once"),
    logged(
        "a parameter with another value at once",
        params=[{"key": "depth", "value": "nine"}, {"key": "new", "value": "one"}],
    ),
    logged("a parameter twice at once", params=[{"key": "new", "value": "one"}, {"key": "new", "value": "one"}]),
    logged("too many parameters at once", params=[{"key": f"p{n}", "value": "one"} for n in range(101)]),
    logged("too many tags at once", tags=[{"key": f"t{n}", "value": "one"} for n in range(101)]),
    logged("too many metrics at once", *[metric(f"m{n}") for n in range(1_001)]),
    logged(
        "too many of all at once", *[metric(f"m{n}") for n in range(999)],
        params=[{"key": "p", "value": "one"}], tags=[{"key": "t", "value": "one"}],
    ),
    logged("a metric with a bad key at once", metric(), metric("a*b")),
    logged("a metric without a key at once", {"value": 1, "timestamp": 1}),
    logged("a tag without a key at once", tags=[{"value": "one"}]),
    post("a tag", "runs/set-tag", **RUN, key="note", value="good"),
    post("a long tag of a run", "runs/set-tag", run_id="{other}", key="long", value=LONG),
    post("a tag with a bad key of a run", "runs/set-tag", **RUN, key="a*b", value="one"),
    post("another name by a tag", "runs/set-tag", **RUN, key="mlflow.runName", value="named"),
    post("no tag of a run any more", "runs/delete-tag", **RUN, key="note"),
    post("no tag of a run that was none", "runs/delete-tag", **RUN, key="note"),
    post("finished", "runs/update", **RUN, status="FINISHED", end_time=1_700_000_001_000),
    post("another name of the run", "runs/update", **RUN, run_name="last"),
    post("a status that is none", "runs/update", **RUN, status="DONE"),
    post("no run is finished", "runs/update", run_id="0" * 32, status="FINISHED"),
    get("the run as it is then", "runs/get", **RUN),
    get("the run with long values", "runs/get", run_id="{other}"),
    post("all runs", "runs/search", experiment_ids=["{trial}", "0"], max_results=1),
    post("no runs", "runs/search", experiment_ids=[]),
    post("runs of no experiment", "runs/search", experiment_ids=["999"]),
    post("runs by their name", "runs/search", experiment_ids=["{trial}"], filter="attributes.run_name = 'last'"),
    post("runs by a tag", "runs/search", experiment_ids=["{trial}"], filter="tags.a = 'one' and tags.b != 'one'"),
    post("runs by a parameter", "runs/search", experiment_ids=["{trial}"], filter="params.depth = 'three'"),
    post("runs by a metric", "runs/search", experiment_ids=["{trial}"], filter="metrics.loss < 0.3"),
    post("runs by another metric", "runs/search", experiment_ids=["{trial}"], filter="metrics.loss >= 0.3"),
    post("runs by what there is not", "runs/search", experiment_ids=["{trial}"], filter="shape.x = 'round'"),
    post(
        "the newest run", "runs/search",
        experiment_ids=["{trial}"], order_by=["attributes.start_time DESC"], max_results=1,
    ),
    post("too many runs at once", "runs/search", experiment_ids=["{trial}"], max_results=50_001),
    post("the run is deleted", "runs/delete", **RUN),
    post("the run is deleted again", "runs/delete", **RUN),
    get("the deleted run", "runs/get", **RUN),
    post("a parameter of a deleted run", "runs/log-parameter", **RUN, key="late", value="three"),
    post("a metric of a deleted run", "runs/log-metric", **RUN, **metric()),
    post("a tag of a deleted run", "runs/set-tag", **RUN, key="late", value="three"),
    post("a deleted run is finished", "runs/update", **RUN, status="FINISHED"),
    post("active runs", "runs/search", experiment_ids=["{trial}"]),
    post("deleted runs", "runs/search", experiment_ids=["{trial}"], run_view_type="DELETED_ONLY"),
    post("the run is restored", "runs/restore", **RUN),
    get("files of the run", "artifacts/list", **RUN),
    get("files above the run", "artifacts/list", **RUN, path="../x"),
]  # fmt: skip
INPUTS: list[Step] = [
    post(
        "inputs of a run", "runs/log-inputs", **RUN,
        datasets=[{
            "tags": [{"key": "mlflow.data.context", "value": "training"}],
            "dataset": {
                "name": "iris", "digest": "d1", "source_type": "local", "source": "{}", "schema": "[]", "profile": "{}",
            },
        }],
        models=[{"model_id": "{model}"}],
    ),
    post("a dataset without a name", "runs/log-inputs", **RUN, datasets=[{"dataset": {"digest": "d1"}}]),
    get("the run with its inputs", "runs/get", **RUN),
]  # fmt: skip
MODELS: list[Step] = [
    post(
        "a new model", "logged-models", {"model": "model.info.model_id"},
        **TRIAL, name="iris", model_type="agent", source_run_id="{run}",
        params=[{"key": "depth", "value": "three"}], tags=TAGS,
    ),
    post("a second model", "logged-models", {"bare": "model.info.model_id"}, **TRIAL, name="bare"),
    post("a model of no experiment", "logged-models", name="iris"),
    post("a model of an experiment that is not there", "logged-models", experiment_id="999", name="iris"),
    post("a model with a bad name", "logged-models", **TRIAL, name="a/b"),
    get("the model", MODEL),
    get("a model that is not there", "logged-models/m-" + "0" * 32),
    patch("no model is ready", "logged-models/m-" + "0" * 32, model_id="m-" + "0" * 32, status="LOGGED_MODEL_READY"),
    patch("ready", MODEL, model_id="{model}", status="LOGGED_MODEL_READY"),
    patch("ready without saying so", MODEL, model_id="{model}"),
    patch("tags of the model", f"{MODEL}/tags", tags=[{"key": "c", "value": "three"}]),
    patch("no tags of the model", f"{MODEL}/tags", tags=[]),
    ("a tag of the model is gone", "DELETE", f"{MODEL}/tags/c", {}, {}),
    ("a tag of the model is gone already", "DELETE", f"{MODEL}/tags/c", {}, {}),
    post("parameters of the model", f"{MODEL}/params", model_id="{model}", params=[{"key": "width", "value": "five"}]),
    post("a metric of the model", "runs/log-metric", **RUN, **metric("auc", model_id="{model}")),
    logged(
        "metrics of the model", metric("f1", model_id="{model}", step=1, dataset_name="iris", dataset_digest="d1"),
        metric("f1", 0.75, model_id="{model}", step=2),
    ),
    post("outputs of the run", "runs/outputs", **RUN, models=[{"model_id": "{model}", "step": 3}]),
    post("no outputs of the run", "runs/outputs", **RUN),
    get("the run with its outputs", "runs/get", **RUN),
    get("the model as it is then", MODEL),
    post("all models", "logged-models/search", experiment_ids=["{trial}"], max_results=10),
    post("models of nothing", "logged-models/search"),
    post("models by name", "logged-models/search", experiment_ids=["{trial}"], filter="name = 'iris'"),
    post("the newest model", "logged-models/search", experiment_ids=["{trial}"], max_results=1,
         order_by=[{"field_name": "creation_timestamp", "ascending": False}]),
    patch("a status of a model that is none", "logged-models/{bare}", model_id="{bare}", status="DONE"),
    ("the model is gone", "DELETE", "logged-models/{bare}", {}, {}),
    ("the model is gone already", "DELETE", "logged-models/{bare}", {}, {}),
    get("the model that is gone", "logged-models/{bare}"),
    post("all models that are left", "logged-models/search", experiment_ids=["{trial}"]),
    get("files of the model", f"{MODEL}/artifacts/directories"),
]  # fmt: skip
STEPS = [*EXPERIMENTS, *RUNS, *MODELS, *INPUTS]


def asked(url: str, step: Step, known: dict[str, str]) -> tuple[int, Any]:
    _, method, path, stated, captured = step
    filled = _filled(stated, known)
    sent = {"params": filled} if method == "GET" else {"json": filled}
    answer = requests.request(method, f"{url}/api/2.0/mlflow/{_filled(path, known)}", timeout=60, **sent)
    body = answer.json()
    for name, where in captured.items():
        found = body
        for part in where.split("."):
            found = found[part]
        known[name] = found
    return answer.status_code, body


def _filled(value: Any, known: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _filled(part, known) for key, part in value.items()}
    if isinstance(value, list):
        return [_filled(part, known) for part in value]
    if isinstance(value, str):
        for name, found in known.items():
            value = value.replace(f"{{{name}}}", found)
    return value


def main(url: str, target: Path = FOLDER / "mlflow_tracking.json") -> None:
    known: dict[str, str] = {}
    answers = [asked(url, step, known) for step in STEPS]
    lines = []
    for (name, method, path, stated, captured), (status, body) in zip(STEPS, answers, strict=True):
        step = {"name": name, "method": method, "path": path, "stated": stated, "captured": captured}
        lines.append(json.dumps({**step, "status": status, "body": body}, ensure_ascii=False))
    told = json.dumps({"mlflow": mlflow.__version__, "known": known})[:-1]
    target.write_text(f'{told}, "steps": [\n' + ",\n".join(lines) + "\n]}\n")


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:3]))
