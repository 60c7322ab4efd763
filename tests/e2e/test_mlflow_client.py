"""MLflow's own client, unmodified, against the whole service behind the strict proxies.

The scripts in mlflow_clients/ run in .venv-mlflow; each answers for many cases, since starting MLflow takes seconds.
"""

import io
import json
import os
import subprocess
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import requests
from modelreg import Registry

from infra.package import ROOT
from tests.e2e.strict_stack import Api

PYTHON = ROOT / ".venv-mlflow/bin/python"
CLIENTS = Path(__file__).parent / "mlflow_clients"
TOO_LONG_SECONDS = 500
RIGHT = [0, 0, 1, 1]
Results = Mapping[str, Any]


def ran(script: str, url: str, folder: Path, **variables: str) -> Results:
    """What each case of a script came to."""
    # MLflow leaves behind what it makes for the time being.
    places = {"HOME": str(folder), "TMPDIR": str(folder)}
    environment = {"PATH": os.environ["PATH"], **places, "MLFLOW_TRACKING_URI": url, **variables}
    process = subprocess.run(
        [str(PYTHON), str(CLIENTS / script)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=TOO_LONG_SECONDS,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    return dict(json.loads(process.stdout.splitlines()[-1]))


@pytest.fixture(scope="module")
def lifecycle(api: Api, tmp_path_factory: pytest.TempPathFactory) -> Results:
    return ran("lifecycle.py", api.url, tmp_path_factory.mktemp("lifecycle"), LARGE_MIB="600")


def found(results: Results, name: str) -> Any:
    assert "found" in results[name], results[name].get("error")
    return results[name]["found"]


def test_a_model_is_logged_registered_and_loaded_without_a_run(lifecycle: Results) -> None:
    assert found(lifecycle, "sklearn_without_a_run") | {"uri": ""} == {
        "version": 1,
        "uri": "",
        "predictions": RIGHT,
        "by_logged_model": RIGHT,
    }


def test_a_model_is_logged_registered_and_loaded_with_a_run(lifecycle: Results) -> None:
    assert found(lifecycle, "sklearn_with_a_run") == {
        "params": {"depth": "3"},
        "metrics": {"loss": 0.25},
        "tag": "try",
        "history": [[1, 0.5], [2, 0.25]],
        "is_of_the_run": True,
        "status": "FINISHED",
        "predictions": RIGHT,
    }


def test_a_parameter_of_a_run_never_changes(lifecycle: Results) -> None:
    refused = found(lifecycle, "a_parameter_never_changes")

    assert refused["code"] == "INVALID_PARAMETER_VALUE"
    assert "Changing param values is not allowed" in refused["message"]


def test_other_flavors_of_models_work_too(lifecycle: Results) -> None:
    assert found(lifecycle, "pyfunc") == [2.0, 5.0]
    assert found(lifecycle, "onnx") == 3.0


def test_files_of_a_run_are_registered_and_the_run_goes_on(lifecycle: Results) -> None:
    case = found(lifecycle, "files_of_a_run_are_registered_and_the_run_goes_on")

    assert (case["version"], case["predictions"], case["notes"]) == (1, RIGHT, "more")
    assert case["listed"] == ["kept", "notes"]
    assert "never changes" in case["sealed"]["message"]


def test_aliases_stages_and_latest_lead_to_versions(lifecycle: Results) -> None:
    case = found(lifecycle, "aliases_stages_and_latest")

    assert [case[how] for how in ("alias", "by_stage", "latest")] == [RIGHT] * 3
    assert (case["stage"], case["archived"], case["aliases"]) == ("2", "Archived", {"champion": "1"})
    refused = {name: case[name]["code"] for name in ("unknown", "reserved", "not_active")}
    assert refused == dict.fromkeys(refused, "INVALID_PARAMETER_VALUE")


def test_tags_and_descriptions_are_kept(lifecycle: Results) -> None:
    assert found(lifecycle, "tags_and_descriptions") == {
        "tags": {"long": 100_000, "team": 6},
        "description": "Flowers.",
        "version_tags": {"checked": "yes"},
        "version_description": "The first.",
        "after": ["team"],
    }


def test_a_copy_outlives_the_original(lifecycle: Results) -> None:
    assert found(lifecycle, "a_copy_shares_its_files_and_outlives_the_original") == {
        "version": 1,
        "predictions": RIGHT,
    }


def test_a_name_is_free_again_after_renaming_and_deleting(lifecycle: Results) -> None:
    case = found(lifecycle, "renamed_deleted_and_made_again")

    assert (case["predictions"], case["again"]) == (RIGHT, 1)
    assert [case[which]["code"] for which in ("gone", "absent")] == ["RESOURCE_DOES_NOT_EXIST"] * 2


def test_searches_find_what_the_filters_say(lifecycle: Results) -> None:
    case = found(lifecycle, "searches")

    assert case | {"refused": "", "too many": ""} == {
        "equal": ["alpha"],
        "not equal": ["beta", "iris"],
        "like": ["alpha"],
        "ilike": ["Alphabet", "alpha"],
        "in": ["alpha", "beta"],
        "tag like": ["beta"],
        "pages": [["iris", "beta"], ["alpha"], ""],
        "refused": "",
        "too many": "",
        "versions": [["iris", 2]],
        "of the run": ["iris"],
        "by tag": ["1"],
        "by source": 2,
    }
    assert [case[which]["code"] for which in ("refused", "too many")] == ["INVALID_PARAMETER_VALUE"] * 2


def test_sixteen_clients_at_once_get_numbers_without_a_gap(lifecycle: Results) -> None:
    numbers = list(range(1, 17))

    assert found(lifecycle, "sixteen_at_once_get_numbers_without_a_gap") == {"answered": numbers, "there": numbers}


def test_prompts_are_kept_and_are_no_models(lifecycle: Results) -> None:
    assert found(lifecycle, "prompts") == {"text": "Hello Ada", "is_listed_as_a_model": False}


def test_files_of_any_name_come_back(lifecycle: Results) -> None:
    assert found(lifecycle, "odd_files") == {"again.txt": "second", "deep/er/größe 1.txt": "grüße", "empty": ""}


def test_large_files_come_back_whole(lifecycle: Results) -> None:
    assert found(lifecycle, "large_files") == {"12": True, "600": True}


def test_what_is_not_there_is_said_in_the_clients_words(lifecycle: Results) -> None:
    case = found(lifecycle, "what_is_not_there_is_said")

    assert {name: one["code"] for name, one in case.items()} == {
        "webhook": "NOT_IMPLEMENTED",
        "run": "RESOURCE_DOES_NOT_EXIST",
        "model": "RESOURCE_DOES_NOT_EXIST",
        "version": "RESOURCE_DOES_NOT_EXIST",
        "local": "INVALID_PARAMETER_VALUE",
    }


def test_a_model_that_mlflow_logged_is_pulled_by_other_clients(lifecycle: Results, api: Api, tmp_path: Path) -> None:
    assert found(lifecycle, "sklearn_with_a_run")
    [model] = [one for one in api.found(name="iris", version="1") if one["name"] == "iris"]

    # As the field clients do: a request that follows redirects, and the type of the last answer.
    answer = requests.get(f"{api.url}/models/{model['id']}/files", timeout=60)
    with Registry(api.url) as registry:
        pulled = registry.download(model["id"], tmp_path / "model.zip")

    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/zip")
    names = zipfile.ZipFile(io.BytesIO(answer.content)).namelist()
    assert names[0] == "model/"
    assert "model/MLmodel" in names
    assert Path(str(pulled)).read_bytes() == answer.content
    manifest = api.get(f"/models/{model['id']}/manifest").json()
    assert "MLmodel" in [one["path"] for one in manifest["files"]]
    assert model["format"] == "MLflow"


def test_a_model_that_curl_registered_is_loaded_by_mlflow(lifecycle: Results, api: Api, tmp_path: Path) -> None:
    [model] = [one for one in api.found(name="iris", version="1") if one["name"] == "iris"]
    archive = requests.get(f"{api.url}/models/{model['id']}/files", timeout=60).content
    api.register(archive, name="by curl")
    body = {"name": "by curl", "aliases": {"champion": 1}}
    assert api.request("PATCH", "/registered-models", json=body).status_code == 200

    results = ran("loading.py", api.url, tmp_path, MODEL_URI="models:/by curl@champion")

    assert found(results, "loaded") == RIGHT


def test_a_registry_without_tracking_takes_what_lies_elsewhere(api: Api, tmp_path: Path) -> None:
    results = ran("elsewhere.py", f"sqlite:///{tmp_path}/tracking.db", tmp_path, MLFLOW_REGISTRY_URI=api.url)

    assert found(results, "of_a_bucket") == {
        "version": "1",
        "source": "s3://elsewhere/model",
        "uri": "s3://elsewhere/model",
    }
    logged = found(results, "of_another_tracking_server")
    assert logged["version"] == "1"
    assert "not known here" in logged["status_message"]
    listed = api.get("/models", params={"name": "of a bucket"})
    assert listed.status_code == 404
    [hidden, *_] = api.get("/models", params={"name": "of a bucket", "artifact": "external"}).json()
    assert api.get(f"/models/{hidden['id']}/files").status_code == 409
