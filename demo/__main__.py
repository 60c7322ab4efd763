"""`make demo`: a trained network is converted, registered, found, downloaded and run. Each step says what it does.

The version is named after the time, so that the demo can be repeated; at the end it is deleted unless KEEP is set.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from demo.network import converted, trained_network, zipped
from demo.proof import download, infer
from demo.server import running_registry
from demo.telling import call, command, exit_code, new_directory, require, shown, step, tell

PROJECT = "demo"


def main(environment: Mapping[str, str]) -> None:
    """Run the demo. Raises DemoFailedError, NoRegistryError and OSError."""
    python = environment.get("REGISTRY_PYTHON") or sys.executable
    with running_registry(environment.get("URL"), python) as url:
        tour(url, new_directory("demo"), is_kept=bool(environment.get("KEEP")))


def tour(url: str, directory: Path, *, is_kept: bool) -> None:
    """All steps, in order. Raises DemoFailedError at the first that goes wrong."""
    network = trained_network()
    step("Take a trained network")
    tell(f"{network.path.name} of {network.name} {network.version}, {network.path.stat().st_size:,} bytes")

    step("Convert it to OpenVINO IR with weights of 16 bits, and zip it")
    archive = zipped(converted(network, directory))
    for path in sorted(directory.iterdir()):
        tell(f"{shown(path)}, {path.stat().st_size:,} bytes")

    fields = {
        "name": network.name,
        "version": f"{network.version}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}",
        "project_name": PROJECT,
        "description": "Tells how likely somebody speaks in 32 ms of sound.",
    }
    with registered(url, archive, fields, is_kept=is_kept) as model_id:
        show(url, model_id)
        find(url, model_id, fields)
        downloaded = download(url, model_id, archive, directory)
        infer(network.path, downloaded, directory)


@contextmanager
def registered(url: str, archive: Path, fields: dict[str, str], *, is_kept: bool) -> Iterator[str]:
    """Register the archive; the id. At the end, even of a failure, the model is deleted unless it is kept."""
    step("Register it")
    form = "".join(f" \\\n    -F '{name}={value}'" for name, value in fields.items())
    command(f'curl "{url}/models" -F "file=@{shown(archive)};type=application/zip"{form}')
    with archive.open("rb") as body:
        answer = call(
            "POST", f"{url}/models", 201, data=fields, files={"file": (archive.name, body, "application/zip")}
        )
    model_id = answer.text
    tell(f"201, the id is {model_id}")
    try:
        yield model_id
    finally:
        if is_kept:
            step("Keep it")
            tell(f"{url}/models/{model_id}")
        else:
            remove(url, model_id)


def show(url: str, model_id: str) -> None:
    step("Read it back; format, precision, category and labels were found in the archive")
    command(f'curl "{url}/models/{model_id}"')
    model = call("GET", f"{url}/models/{model_id}", 200).json()
    for name in ("name", "version", "number", "format", "precision", "category", "labels", "size", "sha256"):
        tell(f"{name:<10} {model[name]}")
    require(model["precision"] == ["fp16"], "The precision should be fp16.")
    require(model["category"] == "speech_detection", "The category should be speech_detection.")


def find(url: str, model_id: str, fields: dict[str, str]) -> None:
    step("List the newest models")
    newest = listed(url, limit="3")
    for model in newest:
        tell(f"{model['id']}  {model['name']} {model['version']}")
    require(newest[0]["id"] == model_id, "The model should be the newest.")

    step("Find it by part of its name, its exact version and its precision")
    found = listed(url, name="SILERO", version=fields["version"], precision="fp16")
    tell(f"{len(found)} found: {found[0]['id']}")
    require([model["id"] for model in found] == [model_id], "Exactly this model should be found.")


def listed(url: str, **query: str) -> list[dict[str, Any]]:
    """What the registry lists for this query. Raises DemoFailedError if that is nothing."""
    command(f'curl "{url}/models?{urlencode(query)}"')
    models: list[dict[str, Any]] = call("GET", f"{url}/models", 200, params=query).json()
    return models


def remove(url: str, model_id: str) -> None:
    step("Delete it again (KEEP=1 keeps it)")
    command(f'curl -X DELETE "{url}/models/{model_id}"')
    call("DELETE", f"{url}/models/{model_id}", 204)
    call("GET", f"{url}/models/{model_id}", 404)
    tell("204, and 404 to whoever asks for it now")


if __name__ == "__main__":
    sys.exit(exit_code(lambda: main(os.environ)))
