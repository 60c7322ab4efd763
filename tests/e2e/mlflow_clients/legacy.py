"""Fills a server of MLflow's with what years leave: numbers that are gone, stages, aliases, prompts, lost files."""

import tempfile
from pathlib import Path
from typing import Any

import mlflow
from cases import case, run
from mlflow import MlflowClient
from sklearn.linear_model import LogisticRegression

DETECTOR, ODD = "detector", "étage 50% o'clock"


def register(client: MlflowClient, name: str, files: dict[str, bytes], **more: Any) -> None:
    """A version of these files, which a run has logged."""
    made = client.create_run("0")
    with tempfile.TemporaryDirectory() as folder:
        for path, content in files.items():
            file = Path(folder, path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        client.log_artifacts(made.info.run_id, folder, "model")
    client.create_model_version(name, f"{made.info.artifact_uri}/model", made.info.run_id, **more)


@case
def fill() -> Any:
    client = MlflowClient()
    model = LogisticRegression().fit([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1])
    with mlflow.start_run():
        info = mlflow.sklearn.log_model(model, name="model", serialization_format="pickle")
    client.create_registered_model(DETECTOR, {"team": "vision"}, "finds bottle caps")
    client.create_model_version(DETECTOR, f"models:/{info.model_id}", model_id=info.model_id, description="the first")
    for number in (2, 3, 4, 5):
        files = {
            "weights.bin": bytes([number]) * 100_000,
            "a folder/é +1%.txt": b"%d" % number,
            "empty": b"",
        }
        register(client, DETECTOR, files, tags={"accuracy": f"0.{number}", "note": "é" * 300})
    client.delete_model_version(DETECTOR, "2")
    client.delete_model_version(DETECTOR, "4")
    client.transition_model_version_stage(DETECTOR, "3", "Production")
    client.set_registered_model_alias(DETECTOR, "champion", "3")
    client.set_registered_model_alias(DETECTOR, "next", "5")

    client.create_registered_model(ODD)
    register(client, ODD, {"only.txt": b"one"})
    client.create_model_version(ODD, "s3://bucket-that-is-gone/model")
    register(client, ODD, {"only.txt": b"three"})

    client.register_prompt("greeting", "Hello {{name}}", commit_message="polite", tags={"language": "en"})
    return info.model_id


run()
