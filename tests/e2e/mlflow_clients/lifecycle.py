"""The life of registered models, as MLflow's client leads it."""

import os
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from cases import case, failing, run
from mlflow import MlflowClient
from mlflow.models import infer_signature
from sklearn.linear_model import LogisticRegression

X, Y = np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([0, 0, 1, 1])
MODEL = LogisticRegression().fit(X, Y)
client = MlflowClient()
known: dict[str, Any] = {}


def predictions(uri: str) -> list[int]:
    return [int(value) for value in mlflow.pyfunc.load_model(uri).predict(X)]


def numbers(name: str) -> list[int]:
    return sorted(int(one.version) for one in client.search_model_versions(f"name = '{name}'"))


class Doubling(mlflow.pyfunc.PythonModel):
    def predict(self, context: Any, model_input: list[float], params: Any = None) -> list[float]:
        return [2 * value for value in model_input]


@case
def sklearn_without_a_run() -> Any:
    mlflow.set_experiment("first")
    info = mlflow.sklearn.log_model(
        MODEL, name="model", registered_model_name="iris", signature=infer_signature(X, Y), input_example=X
    )
    known["model_id"] = info.model_id
    return {
        "version": int(info.registered_model_version),
        "uri": info.model_uri,
        "predictions": predictions("models:/iris/1"),
        "by_logged_model": predictions(info.model_uri),
    }


@case
def sklearn_with_a_run() -> Any:
    with mlflow.start_run() as started:
        mlflow.log_param("depth", 3)
        mlflow.log_metric("loss", 0.5, step=1)
        mlflow.log_metric("loss", 0.25, step=2)
        mlflow.set_tag("stage", "try")
        mlflow.sklearn.log_model(MODEL, name="model", registered_model_name="iris")
    data = client.get_run(started.info.run_id).data
    version = client.get_model_version("iris", "2")
    known["run_id"] = started.info.run_id
    history = client.get_metric_history(started.info.run_id, "loss")
    return {
        "params": data.params,
        "metrics": data.metrics,
        "tag": data.tags["stage"],
        "history": [[one.step, one.value] for one in history],
        "is_of_the_run": version.run_id == started.info.run_id,
        "status": client.get_run(started.info.run_id).info.status,
        "predictions": predictions("models:/iris/2"),
    }


@case
def a_parameter_never_changes() -> Any:
    return failing(lambda: client.log_param(known["run_id"], "depth", 4))


@case
def pyfunc() -> Any:
    mlflow.pyfunc.log_model(name="doubling", python_model=Doubling(), registered_model_name="doubling")
    return mlflow.pyfunc.load_model("models:/doubling/latest").predict([1.0, 2.5])


@case
def onnx() -> Any:
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 1])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 1])
    two = helper.make_tensor("two", TensorProto.FLOAT, [1], [2.0])
    graph = helper.make_graph([helper.make_node("Mul", ["x", "two"], ["y"])], "doubling", [value], [result], [two])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    mlflow.onnx.log_model(model, name="onnx", registered_model_name="onnx", save_as_external_data=False)
    found = mlflow.pyfunc.load_model("models:/onnx/1").predict(np.array([[1.5]], dtype=np.float32))
    return float(next(iter(found.values()))[0][0])


@case
def files_of_a_run_are_registered_and_the_run_goes_on() -> Any:
    with tempfile.TemporaryDirectory() as folder, mlflow.start_run() as started:
        mlflow.sklearn.save_model(MODEL, f"{folder}/model")
        mlflow.log_artifacts(f"{folder}/model", artifact_path="kept/here")
        uri = f"runs:/{started.info.run_id}/kept/here"
        version = mlflow.register_model(uri, "of a run")
        mlflow.log_text("more", "notes/more.txt")
        sealed = failing(lambda: mlflow.log_text("changed", "kept/here/MLmodel"))
    return {
        "version": int(version.version),
        "predictions": predictions("models:/of a run/1"),
        "sealed": sealed,
        "notes": mlflow.artifacts.load_text(f"{started.info.artifact_uri}/notes/more.txt"),
        "listed": sorted(one.path for one in client.list_artifacts(started.info.run_id)),
    }


@case
def aliases_stages_and_latest() -> Any:
    client.set_registered_model_alias("iris", "champion", "1")
    client.transition_model_version_stage("iris", "1", "Production")
    client.transition_model_version_stage("iris", "2", "production", archive_existing_versions=True)
    return {
        "alias": predictions("models:/iris@champion"),
        "stage": client.get_latest_versions("iris", ["Production"])[0].version,
        "archived": client.get_model_version("iris", "1").current_stage,
        "by_stage": predictions("models:/iris/Production"),
        "latest": predictions("models:/iris/latest"),
        "aliases": client.get_registered_model("iris").aliases,
        "unknown": failing(lambda: client.get_model_version_by_alias("iris", "nope")),
        "reserved": failing(lambda: client.set_registered_model_alias("iris", "v1", "1")),
        "not_active": failing(
            lambda: client.transition_model_version_stage("iris", "1", "Archived", archive_existing_versions=True)
        ),
    }


@case
def tags_and_descriptions() -> Any:
    client.set_registered_model_tag("iris", "team", "plants")
    client.set_registered_model_tag("iris", "long", "x" * 100_000)
    client.set_model_version_tag("iris", "1", "checked", "yes")
    client.update_registered_model("iris", "Flowers.")
    client.update_model_version("iris", "1", "The first.")
    model, version = client.get_registered_model("iris"), client.get_model_version("iris", "1")
    client.delete_registered_model_tag("iris", "long")
    client.delete_model_version_tag("iris", "1", "absent")
    return {
        "tags": {key: len(value) for key, value in model.tags.items()},
        "description": model.description,
        "version_tags": version.tags,
        "version_description": version.description,
        "after": sorted(client.get_registered_model("iris").tags),
    }


@case
def a_copy_shares_its_files_and_outlives_the_original() -> Any:
    copied = client.copy_model_version("models:/of a run/1", "copied")
    client.delete_model_version("of a run", "1")
    return {"version": int(copied.version), "predictions": predictions("models:/copied/1")}


@case
def renamed_deleted_and_made_again() -> Any:
    client.rename_registered_model("copied", "renamed")
    gone = failing(lambda: client.get_registered_model("copied"))
    after = predictions("models:/renamed/1")
    client.delete_registered_model("renamed")
    absent = failing(lambda: client.get_registered_model("renamed"))
    client.create_registered_model("renamed")
    again = client.create_model_version("renamed", f"models:/{known['model_id']}", model_id=known["model_id"])
    return {"gone": gone, "predictions": after, "absent": absent, "again": int(again.version)}


@case
def searches() -> Any:
    for name, team in (("alpha", "plants"), ("Alphabet", "audio"), ("beta", "plants")):
        client.create_registered_model(name, tags={"team": team})

    def found(filter_string: str, **more: Any) -> list[str]:
        return [one.name for one in client.search_registered_models(filter_string, **more)]

    first = client.search_registered_models("tags.team = 'plants'", max_results=2, order_by=["name DESC"])
    rest = client.search_registered_models(
        "tags.team = 'plants'", max_results=2, order_by=["name DESC"], page_token=first.token
    )
    return {
        "equal": found("name = 'alpha'"),
        "not equal": found("tags.team = 'plants' AND name != 'alpha'"),
        "like": found("name LIKE 'al%'"),
        "ilike": found("name ILIKE 'AL%'"),
        "in": found("name IN ('alpha', 'beta', 'gone')"),
        "tag like": found("tag.`team` LIKE 'pla%' AND name LIKE '%ta'"),
        "pages": [[one.name for one in first], [one.name for one in rest], rest.token],
        "refused": failing(lambda: found("name = 'a' OR name = 'b'")),
        "too many": failing(lambda: client.search_registered_models(max_results=1001)),
        "versions": [
            [one.name, int(one.version)]
            for one in client.search_model_versions("name = 'iris' AND version_number >= 2")
        ],
        "of the run": [one.name for one in client.search_model_versions(f"run_id = '{known['run_id']}'")],
        "by tag": [one.version for one in client.search_model_versions("tags.checked = 'yes'")],
        "by source": len(client.search_model_versions(f"source_path = 'models:/{known['model_id']}'")),
    }


@case
def sixteen_at_once_get_numbers_without_a_gap() -> Any:
    client.create_registered_model("crowded")
    made: list[int] = []

    def create() -> None:
        own = MlflowClient()
        source = f"models:/{known['model_id']}"
        made.append(int(own.create_model_version("crowded", source, model_id=known["model_id"]).version))

    threads = [threading.Thread(target=create) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"answered": sorted(made), "there": numbers("crowded")}


@case
def prompts() -> Any:
    mlflow.genai.register_prompt(name="greeting", template="Hello {{name}}")
    return {
        "text": mlflow.genai.load_prompt("prompts:/greeting/1").format(name="Ada"),
        "is_listed_as_a_model": "greeting" in [one.name for one in client.search_registered_models()],
    }


@case
def odd_files() -> Any:
    with tempfile.TemporaryDirectory() as folder, mlflow.start_run() as started:
        root = Path(folder)
        (root / "deep/er").mkdir(parents=True)
        (root / "deep/er/größe 1.txt").write_text("grüße")
        (root / "empty").write_bytes(b"")
        mlflow.log_artifacts(folder, artifact_path="odd")
        mlflow.log_text("first", "odd/again.txt")
        mlflow.log_text("second", "odd/again.txt")
        local = Path(mlflow.artifacts.download_artifacts(f"runs:/{started.info.run_id}/odd"))
        return {str(one.relative_to(local)): one.read_text() for one in sorted(local.rglob("*")) if one.is_file()}


@case
def large_files() -> Any:
    """12 MiB, and as much as the environment says."""
    sizes = {}
    for mebibytes in (12, int(os.environ.get("LARGE_MIB", "600"))):
        with tempfile.TemporaryDirectory() as folder, mlflow.start_run() as started:
            path = Path(folder) / "weights.bin"
            with path.open("wb") as file:
                for number in range(mebibytes):
                    file.write(number.to_bytes(8, "little") * 131_072)
            mlflow.log_artifact(str(path))
            path.unlink()
            local = Path(
                mlflow.artifacts.download_artifacts(f"runs:/{started.info.run_id}/weights.bin", dst_path=folder)
            )
            with local.open("rb") as file:
                is_whole = all(file.read(2**20) == n.to_bytes(8, "little") * 131_072 for n in range(mebibytes))
                sizes[str(mebibytes)] = is_whole and not file.read(1)
    return sizes


@case
def what_is_not_there_is_said() -> Any:
    return {
        "webhook": failing(lambda: client.list_webhooks()),
        "run": failing(lambda: client.get_run("0" * 32)),
        "model": failing(lambda: client.get_registered_model("nobody")),
        "version": failing(lambda: client.get_model_version("iris", "99")),
        "local": failing(lambda: client.create_model_version("iris", "/etc/passwd")),
    }


if __name__ == "__main__":
    sys.exit(run())
