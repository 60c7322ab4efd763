"""`modelreg import mlflow` where it cannot begin; tests/e2e/test_import_mlflow.py has what it does."""

from pathlib import Path

import pytest

from tests.client.command_stage import Stage, stage


@pytest.fixture
def modelreg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    return stage(tmp_path, monkeypatch)


def test_without_mlflows_library_it_says_how_to_get_it(modelreg):
    ran = modelreg("import", "mlflow", "http://127.0.0.1:9")

    assert ran.exit_code == 8
    assert "MLflow's library is not installed here." in ran.stderr
    assert "pip install 'mlflow>=3.18'" in ran.stderr
