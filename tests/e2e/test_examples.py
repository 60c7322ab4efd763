"""The commands on the docs page, typed as they stand there."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import requests

from tests.conftest import ARCHIVE
from tests.stack import Stack

# Until a Geti server is configured they answer 503, and nothing was imported; nobody sends the 4 GB of the upload.
OTHERWISE = dict.fromkeys(["list_projects", "get_project", "import_models", "start_sync", "get_sync"], "503")
OTHERWISE |= {"get_import": "404", "complete_upload": "422"}


@pytest.fixture
def commands(stack: Stack) -> dict[str, str]:
    """The command of each operation."""
    document = requests.get(f"{stack.url}/openapi.json", timeout=30).json()
    return {
        operation["operationId"]: operation["x-codeSamples"][0]["source"]
        for methods in document["paths"].values()
        for operation in methods.values()
    }


def typed(command: str, status: Path, **variables: str) -> str:
    """What a command prints in a shell; the status of its answer goes to a file."""
    shown = command.replace("curl ", "curl -s -w '%{stderr}%{http_code}' ", 1)
    with status.open("w") as errors:
        run = subprocess.run(
            ["bash", "-c", shown], cwd=status.parent, env=os.environ | variables, stdout=subprocess.PIPE, stderr=errors
        )
    assert run.returncode == 0, command
    return run.stdout.decode()


def test_every_example_works_as_it_stands(stack, commands, tmp_path):
    (tmp_path / "model.zip").write_bytes(ARCHIVE)
    status = tmp_path / "status"
    variables = {"REGISTRY": stack.url}
    variables["ID"] = typed(commands.pop("register_model"), status, **variables)
    assert status.read_text() == "201"
    # Deleting comes last, for the others need the model.
    last = [commands.pop("abort_upload"), commands.pop("delete_model"), commands.pop("revoke_token")]
    variables["TOKEN_ID"] = json.loads(typed(commands.pop("create_token"), status, **variables))["id"]
    assert status.read_text() == "201"
    variables["UPLOAD"] = json.loads(typed(commands.pop("open_upload"), status, **variables))["upload_id"]
    assert status.read_text() == "201"

    for name, command in commands.items():
        typed(command, status, **variables)
        assert status.read_text() == OTHERWISE.get(name, "200"), command
    for command in last:
        typed(command, status, **variables)
        assert status.read_text() == "204"

    assert (tmp_path / "model.zip").read_bytes() == ARCHIVE
