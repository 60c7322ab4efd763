"""`modelreg import mlflow`: a server of MLflow's own, with all that years leave in it, and this registry after it."""

import hashlib
import os
import signal
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest
import requests
from modelreg import Registry

from infra.package import ROOT
from tests.e2e.strict_stack import Api
from tests.e2e.test_mlflow_client import PYTHON, RIGHT, found, ran
from tests.mlflow.conftest import mlflow_server

__all__ = ["mlflow_server"]

MODELREG = "from modelreg.cli import main; main()"
DETECTOR, ODD, PROMPT = "detector", "étage 50% o'clock", "greeting"
TOO_LONG_SECONDS = 300
# Of what a first run that is killed behind the first version leaves to the second.
REST = [
    *[[DETECTOR, "", "updated"], [PROMPT, "1", "imported"], [PROMPT, "", "imported"]],
    *[[ODD, "1", "imported"], [ODD, "2", "failed"], [ODD, "3", "waiting"], [ODD, "", "imported"]],
]


class Command:
    """`modelreg import mlflow`, where MLflow is installed."""

    def __init__(self, source: str, project: str, url: str, folder: Path) -> None:
        self._arguments = [source, "--project", project, "--url", url]
        self._folder = folder

    def begin(self, *arguments: str) -> "subprocess.Popen[str]":
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self._folder),
            "TMPDIR": str(self._folder),
            "PYTHONPATH": str(ROOT / "client"),
            # Of the source, which is not to be asked with what is sent here, nor the other way round.
            "MLFLOW_TRACKING_TOKEN": "of-the-source",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        return subprocess.Popen(
            [str(PYTHON), "-c", MODELREG, "import", "mlflow", *self._arguments, *arguments],
            cwd=self._folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> tuple[int, list[list[str]], str]:
        """Exit code, rows and what was said."""
        with self.begin(*arguments) as process:
            data, said = process.communicate(timeout=TOO_LONG_SECONDS)
        assert "Traceback" not in said
        return process.returncode, [line.split("\t") for line in data.splitlines()], said


@pytest.fixture(scope="module")
def legacy(mlflow_server: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The server's URL, once it is filled."""
    found(ran("legacy.py", mlflow_server, tmp_path_factory.mktemp("legacy")), "fill")
    return mlflow_server


def told(rows: list[list[str]]) -> list[list[str]]:
    return [row[:3] for row in rows]


def asked(url: str, path: str, **query: str) -> Any:
    answer = requests.get(f"{url}/api/2.0/mlflow/{path}", params=query, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()


def versions(url: str, name: str) -> dict[str, Any]:
    answer = asked(url, "model-versions/search", filter=f'name = "{name}"')
    return {one["version"]: one for one in answer.get("model_versions", [])}


def test_what_is_in_mlflow_comes_whole_and_what_breaks_off_goes_on(legacy: str, api: Api, tmp_path: Path):
    command = Command(legacy, "moved", api.url, tmp_path)

    code, rows, _ = command.run("--dry-run")
    assert code == 0
    assert {tuple(row[2:3]) for row in rows} == {("planned",)}
    assert versions(api.url, f"moved.{DETECTOR}") == {}

    # Killed in the middle: what is here by then is whole, and the rest comes next time.
    with command.begin() as process:
        assert process.stdout
        assert process.stdout.readline().startswith(f"{DETECTOR}\t1\timported")
        process.send_signal(signal.SIGKILL)
    code, rows, said = command.run()
    assert code == 10
    assert [row[:2] for row in rows[:3]] == [[DETECTOR, "1"], [DETECTOR, "3"], [DETECTOR, "5"]]
    assert rows[0][2] == "here"
    assert told(rows)[3:] == REST
    failed = next(row for row in rows if row[2] == "failed")
    assert "s3://bucket-that-is-gone/model" in failed[3]
    assert "1 failed" in said
    assert "1 waiting" in said

    _check_detector(legacy, api, tmp_path)
    loaded = found(ran("loading.py", api.url, tmp_path, MODEL_URI=f"models:/moved.{DETECTOR}/1"), "loaded")
    assert loaded == RIGHT

    # What cannot be read can be left where it is; what changed there comes, too; all else stays as it is.
    requests.post(
        f"{legacy}/api/2.0/mlflow/model-versions/set-tag",
        json={"name": DETECTOR, "version": "5", "key": "accuracy", "value": "0.9"},
        timeout=60,
    )
    code, rows, _ = command.run("--keep-addresses")
    assert code == 0
    assert told(rows) == [
        *[[DETECTOR, "1", "here"], [DETECTOR, "3", "here"], [DETECTOR, "5", "updated"], [DETECTOR, "", "here"]],
        *[[PROMPT, "1", "here"], [PROMPT, "", "here"]],
        *[[ODD, "1", "here"], [ODD, "2", "imported"], [ODD, "3", "imported"], [ODD, "", "here"]],
    ]
    odd = versions(api.url, f"moved.{ODD}")
    assert {number: one["source"].startswith("s3://bucket-that") for number, one in odd.items()} == {
        "1": False,
        "2": True,
        "3": False,
    }


def _check_detector(legacy: str, api: Api, tmp_path: Path) -> None:
    there, here = versions(legacy, DETECTOR), versions(api.url, f"moved.{DETECTOR}")
    assert here.keys() == there.keys() == {"1", "3", "5"}
    for number, one in there.items():
        tags = {tag["key"]: tag["value"] for tag in one.get("tags", [])}
        here_tags = {tag["key"]: tag["value"] for tag in here[number]["tags"]}
        assert here_tags == tags | {"registry.imported_from": f"models:/{DETECTOR}/{number}"}
        assert here[number].get("description", "") == one.get("description", "")
        assert here[number]["current_stage"] == one["current_stage"]
    model = asked(api.url, "registered-models/get", name=f"moved.{DETECTOR}")["registered_model"]
    assert model["description"] == "finds bottle caps"
    assert {alias["alias"]: alias["version"] for alias in model["aliases"]} == {"champion": "3", "next": "5"}
    assert {"key": "team", "value": "vision"} in model["tags"]

    with Registry(api.url) as registry:
        [fifth] = [one for one in registry.search(name=DETECTOR) if one.number == 5]
        pulled = registry.download(fifth.id, tmp_path / "fifth.zip")
    with zipfile.ZipFile(pulled) as files:
        digests = {
            entry.filename.removeprefix("model/"): hashlib.sha256(files.read(entry)).hexdigest()
            for entry in files.infolist()
            if not entry.is_dir()
        }
    expected = {"weights.bin": bytes([5]) * 100_000, "a folder/é +1%.txt": b"5", "empty": b""}
    assert digests == {name: hashlib.sha256(content).hexdigest() for name, content in expected.items()}


def test_another_models_name_is_refused_and_nothing_is_mixed(legacy: str, api: Api, tmp_path: Path):
    api.post_model({"name": DETECTOR, "version": "v1", "project_name": "taken"}).raise_for_status()

    code, rows, _ = Command(legacy, "taken", api.url, tmp_path).run(DETECTOR)

    assert code == 10
    assert told(rows) == [[DETECTOR, "", "failed"]]
    assert "there is a registered model 'taken.detector' here already, not from MLflow" in rows[0][3]
    assert versions(api.url, f"taken.{DETECTOR}").keys() == {"1"}


def test_a_source_that_is_none_is_told_of(api: Api, legacy: str, tmp_path: Path):
    code, _, said = Command("http://user:secret@127.0.0.1:9", "none", api.url, tmp_path).run()
    assert code == 7
    assert "MLflow cannot be read at http://127.0.0.1:9" in said
    assert "secret" not in said

    code, _, said = Command(legacy, "none", api.url, tmp_path).run("no-such-model")
    assert code == 3
    assert "There is no registered model 'no-such-model'" in said
