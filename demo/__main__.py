"""`make demo`: a trained network is converted, registered, found, downloaded and run. Each step says what it does.

The version is named after the time, so that the demo can be repeated; at the end it is deleted unless KEEP is set.
"""

import hashlib
import os
import shutil
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import requests

from demo.network import converted, sounds, speech_probabilities, trained_network, unzipped, zipped
from demo.server import ROOT, NoRegistryError, running_registry

PROJECT = "demo"
# 16 bits of weights instead of 32 change a probability by less, where it rises and falls.
TOLERANCE = 0.05
# The archive stays, so that the commands shown can be repeated.
DIRECTORY = ROOT / "build" / "demo"
_TIMEOUT_SECONDS = 60


class DemoFailedError(Exception):
    """Something is not as it should be; the text says what."""


def main(environment: Mapping[str, str]) -> int:
    """Run the demo; the exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    python = environment.get("REGISTRY_PYTHON") or sys.executable
    try:
        with running_registry(environment.get("URL"), python) as url:
            tour(url, new_directory(), is_kept=bool(environment.get("KEEP")))
    except (DemoFailedError, NoRegistryError, requests.RequestException) as exc:
        print(f"The demo failed: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def new_directory() -> Path:
    """Where the demo puts its files, empty."""
    shutil.rmtree(DIRECTORY, ignore_errors=True)
    DIRECTORY.mkdir(parents=True)
    return DIRECTORY


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


def download(url: str, model_id: str, sent: Path, directory: Path) -> Path:
    step("Download it, through the redirect to S3")
    command(f'curl -L -o downloaded.zip "{url}/models/{model_id}/files"')
    answer = call("GET", f"{url}/models/{model_id}/files", 200)
    for hop in answer.history:
        # What follows the path is a signature, and as good as a password.
        target = urlsplit(hop.headers["Location"])
        tell(f"{hop.status_code} to {target.scheme}://{target.netloc}{target.path}?...")
    received = directory / "downloaded.zip"
    received.write_bytes(answer.content)
    sha256 = hashlib.sha256(answer.content).hexdigest()
    tell(f"{answer.status_code}, {answer.headers['Content-Type']}, {len(answer.content):,} bytes, SHA-256 {sha256}")
    require(len(answer.history) == 1, "There should be one redirect.")
    require(answer.headers["Content-Type"] == "application/zip", "The type should be application/zip.")
    require(answer.content == sent.read_bytes(), "The bytes should be those that were registered.")
    require(
        sha256 == call("GET", f"{url}/models/{model_id}", 200).json()["sha256"], "The SHA-256 should be the record's."
    )
    tell("the same bytes as registered, and the SHA-256 of the record")
    return received


def infer(original: Path, downloaded: Path, directory: Path) -> None:
    step("Run what was downloaded, beside the network it was made from")
    ir = unzipped(downloaded, directory / "downloaded")
    heard = {}
    for name, sound in sounds().items():
        ours, theirs = speech_probabilities(ir, sound), speech_probabilities(original, sound)
        heard[name] = ours.max()
        tell(f"{name:<17} speech at most {ours.max():.3f}, of the original {theirs.max():.3f}")
        require(abs(ours - theirs).max() < TOLERANCE, "Both should hear the same.")
    require(heard["ah ee oo ah"] > 0.5 > heard["silence"], "A voice should be told from silence.")


def remove(url: str, model_id: str) -> None:
    step("Delete it again (KEEP=1 keeps it)")
    command(f'curl -X DELETE "{url}/models/{model_id}"')
    call("DELETE", f"{url}/models/{model_id}", 204)
    call("GET", f"{url}/models/{model_id}", 404)
    tell("204, and 404 to whoever asks for it now")


def call(method: str, url: str, expected: int, **request: Any) -> requests.Response:
    """The answer. Raises DemoFailedError if its status is not the expected one."""
    answer = requests.request(method, url, timeout=_TIMEOUT_SECONDS, **request)
    require(
        answer.status_code == expected,
        f"{method} {url} answered {answer.status_code} instead of {expected}: {answer.text[:500]}",
    )
    return answer


def shown(path: Path) -> Path:
    """A path as somebody types it who stands where the Makefile is."""
    return path.relative_to(ROOT)


def require(is_so: bool, otherwise: str) -> None:
    if not is_so:
        raise DemoFailedError(otherwise)


def step(title: str) -> None:
    print(f"\n{title}", flush=True)


def command(text: str) -> None:
    print(f"  $ {text}", flush=True)


def tell(text: str) -> None:
    print(f"  {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main(os.environ))
