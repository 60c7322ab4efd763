"""A server of MLflow's own, as it comes, with a database of its own."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from infra.package import ROOT
from tests.stack import free_port

PROGRAM = ROOT / ".venv-mlflow/bin/mlflow"
TOO_LONG_SECONDS = 120


@contextmanager
def running_server(folder: Path) -> Iterator[str]:
    """Its URL. It has SQLite, one worker, and does no jobs."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    options = ["--backend-store-uri", f"sqlite:///{folder}/db", "--artifacts-destination", str(folder / "artifacts")]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [str(PROGRAM), "server", *options, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"],
            cwd=folder,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(folder),
                "TMPDIR": str(folder),
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            },
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        _wait_for(url, process)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGTERM)  # its workers are processes of their own
        process.wait(timeout=30)


def _wait_for(url: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + TOO_LONG_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, "MLflow's server ended; its log is beside its database"
        try:
            if requests.get(f"{url}/health", timeout=5).ok:
                return
        except requests.ConnectionError:
            time.sleep(0.1)
    raise AssertionError("MLflow's server does not answer")
