"""`make geti-demo`: what a simulated Geti server trains arrives in the registry by itself, byte for byte.

Geti is simulated (tests/simulators/geti), the network that it sends is real: the one of demo/network.py.
"""

import itertools
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests

from demo.network import converted, trained_network
from demo.proof import download, infer
from demo.server import given_registry, started_registry
from demo.telling import DemoFailedError, call, command, exit_code, new_directory, require, shown, step, tell
from tests.simulators.geti import GetiServer, Model, Optimized, Packing, World

PROJECTS = ("Intercom", "Night desk")
# Always the same: the registry may still know it from the demo before.
WORKSPACES = {"9d1a6c1e-58a4-4a4d-9d07-5b0d7f2f9a11": "Default Workspace"}
# Where a registry that is there already has to look for Geti.
USUAL_PORT = 7000
SCHEDULE = "rate(1 minute)"
# The schedule, and time for the imports.
PATIENCE_SECONDS = 180
POLL_SECONDS = 0.5
TELL_EVERY_SECONDS = 15


def main(environment: Mapping[str, str]) -> None:
    """Run the demo. Raises DemoFailedError, NoRegistryError and OSError."""
    python, url = environment.get("REGISTRY_PYTHON") or sys.executable, environment.get("URL")
    is_kept, directory, network = bool(environment.get("KEEP")), new_directory("geti-demo"), trained_network()
    with simulated_geti(ir_of(converted(network, directory)), USUAL_PORT if url else 0) as geti:
        with connected_registry(geti, url, python) as registry:
            check(registry, geti)
            tour(registry, geti, network.path, directory)
            if is_kept:
                play(registry, geti)
            elif url:
                remove(registry, geti)


def ir_of(xml: Path) -> Path:
    """The folder of an IR, its files called as Geti calls them."""
    for suffix in (".xml", ".bin"):
        xml.with_suffix(suffix).rename(xml.with_name(f"model{suffix}"))
    return xml.parent


@contextmanager
def simulated_geti(ir: Path, port: int) -> Iterator[GetiServer]:
    """A Geti that has trained a model in each project, and sends this IR as every one of them.

    Raises DemoFailedError if the port is not free.
    """
    step("Start a simulated Geti, which has trained a network in each of its projects")
    # Other ids each time: what was deleted in the registry does not come back.
    world = World(seed=int(time.time()) % 2**16, clock=lambda: datetime.now(UTC))
    world.packing, world.workspaces = Packing(ir=ir), dict(WORKSPACES)
    for name in PROJECTS:
        world.project(name, "classification", ["speech", "no speech"]).group("Silero VAD").train(0.91, active=True)
    try:
        server = GetiServer(world, port=port)
    except OSError as exc:
        raise DemoFailedError(f"The simulated Geti cannot have port {port}: {exc.strerror}.") from exc
    with server as geti:
        tell(f"Geti {geti.version} at {geti.url}")
        for model in (model for project in world.projects for model in project.models):
            tell(described(model))
        yield geti


def described(model: Model) -> str:
    names = ", ".join(one.name for one in model.optimized)
    return f"project {model.group.project.name}, version {model.version}: {names}"


@contextmanager
def connected_registry(geti: GetiServer, url: str | None, python: str) -> Iterator[str]:
    """The base URL of a registry that gets its models from there."""
    step("Serve the registry, and tell it where Geti is" if not url else "Take the registry that runs")
    if url:
        yield given_registry(url)
        return
    command(f"{run_command(geti)}      # GETI_TOKEN is in the environment")
    settings = {"GETI_HOST": geti.url, "GETI_TOKEN": geti.token, "GETI_SYNC_SCHEDULE": SCHEDULE}
    with started_registry(python, **settings) as registry:
        tell(f"READY {registry}")
        yield registry


def run_command(geti: GetiServer) -> str:
    return f'make run GETI_HOST={geti.url} GETI_SYNC_SCHEDULE="{SCHEDULE}"'


def check(url: str, geti: GetiServer) -> None:
    """Raises DemoFailedError if models could not come, or would not from this Geti."""
    step("Check the way to Geti, as `modelreg geti doctor` does")
    command(f'curl "{url}/sync/checks"')
    advice = f"Start the registry with GETI_TOKEN={geti.token} in the environment and {run_command(geti)}"
    for one in call("GET", f"{url}/sync/checks", 200).json():
        tell(f"{'right' if one['ok'] else 'wrong'}  {one['check']:<10} {one['found']}")
        require(one["ok"], f"{one['fix']} {advice}")
    require(geti.counts["product_info"] > 0, f"It looks for another Geti. {advice}")


def tour(url: str, geti: GetiServer, original: Path, directory: Path) -> None:
    """All steps, in order. Raises DemoFailedError at the first that goes wrong."""
    step("Sync now; by itself, the registry does so every minute here, else every 15")
    run_id = started_sync(url)
    await_arrivals(url, importable(geti))
    report(url, run_id)

    step(f"Train another version in Geti, and wait for the schedule, {SCHEDULE}")
    model = geti.world.projects[0].groups[0].train(0.94, active=True)
    tell(described(model))
    tell("nobody asks for it; it should be here within a minute and a half")
    [first, *_] = await_arrivals(url, importable(geti, model))

    show(url, first)
    sent = package_of(geti, first, directory)
    infer(original, download(url, first.id, sent, directory), directory)


def importable(geti: GetiServer, *models: Model) -> list[Optimized]:
    """What should come of these trained versions, or of all that there are."""
    trained = models or [model for project in geti.world.projects for model in project.models]
    return [one for model in trained for one in model.optimized if one.format == "OpenVINO"]


def started_sync(url: str) -> str:
    """The id of the run that was asked for, once none is going on that was not."""
    command(f"curl \"{url}/sync\" -H 'Content-Type: application/json' -d '{{}}'")
    for _ in polls():
        answer = requests.post(f"{url}/sync", json={}, timeout=60)
        if answer.status_code != 409:
            break
    require(answer.status_code == 202, f"POST {url}/sync answered {answer.status_code}: {answer.text[:500]}")
    run_id: str = answer.json()["run_id"]
    tell(f"202, the run is {run_id}")
    return run_id


def polls() -> Iterator[float]:
    """The seconds since the beginning, now and again, until patience ends. Then it raises DemoFailedError."""
    began = time.monotonic()
    while (seconds := time.monotonic() - began) < PATIENCE_SECONDS:
        yield seconds
        time.sleep(POLL_SECONDS)
    raise DemoFailedError(
        f"It did not happen within {PATIENCE_SECONDS} s. `modelreg geti status` tells what the last sync did; the"
        f" schedule has to be {SCHEDULE}."
    )


def await_arrivals(url: str, expected: list[Optimized]) -> list[Optimized]:
    """These models, in the order in which they arrived. Raises DemoFailedError if that takes too long."""
    arrived: list[Optimized] = []
    told = 0.0
    for seconds in polls():
        for one in expected:
            if one not in arrived and (found := model_of(url, one.id)):
                arrived.append(one)
                told = seconds
                tell(
                    f"after {seconds:3.0f} s: {found['project_name']}, {found['name']} {found['version']},"
                    f" {found['size']:,} bytes, {found['id']}"
                )
        if len(arrived) == len(expected):
            break
        if seconds - told > TELL_EVERY_SECONDS:
            told = seconds
            require_no_failure(url)
            tell(f"after {seconds:3.0f} s: waiting ...")
    return arrived


def require_no_failure(url: str) -> None:
    run = call("GET", f"{url}/sync", 200).json()["last_run"]
    require(run is None or run["outcome"] != "failed", f"The last sync failed: {run and run['failed']}")


def model_of(url: str, model_id: str) -> dict[str, Any] | None:
    answer = requests.get(f"{url}/models/{model_id}", timeout=60)
    return dict(answer.json()) if answer.status_code == 200 else None


def report(url: str, run_id: str) -> None:
    """What the run says of itself, once it has ended."""
    command(f'curl "{url}/sync"')
    for _ in polls():
        status = call("GET", f"{url}/sync", 200).json()
        if status["state"] == "idle":
            break
    run = status["last_run"]
    tell(f"{run['outcome']}: {', '.join(f'{name} {count}' for name, count in run['counts'].items())}")
    for why, told in itertools.groupby(run["skipped"], lambda one: one["why"]):
        tell(f"skipped {len(list(told))}: {why}")
    is_same = run["run_id"] == run_id
    require(not is_same or run["outcome"] == "ok", f"Some of it failed: {run['failed']}")


def show(url: str, model: Optimized) -> None:
    step("Who registered it, and what is known of it")
    command(f'curl "{url}/models/{model.id}/events"')
    [event] = call("GET", f"{url}/models/{model.id}/events", 200).json()
    tell(f"{event['time']}  {event['action']} by {event['actor']['name']}")
    require(event["actor"]["name"] == "geti-sync", "The sync should have registered it.")
    command(f'curl "{url}/models/{model.id}"')
    record = call("GET", f"{url}/models/{model.id}", 200).json()
    for name in ("name", "version", "project_name", "precision", "category", "labels", "score", "created_date"):
        tell(f"{name:<12} {record[name]}")
    for name, value in record["tags"].items():
        tell(f"{name:<23} {value}")


def package_of(geti: GetiServer, model: Optimized, directory: Path) -> Path:
    """What Geti itself sends of a model, asked for as the registry asks."""
    step("Ask Geti for its package, to compare")
    group, world = model.model.group, geti.world
    place = f"organizations/{world.organization_id}/workspaces/{group.project.workspace_id}/projects/{group.project.id}"
    url, sent = f"{geti.url}/api/v1/{place}/deployment_package:download", directory / "geti.zip"
    body = {"package_type": "geti_sdk", "models": [{"model_id": model.id, "model_group_id": group.id}]}
    headers = "-H \"x-api-key: $GETI_TOKEN\" -H 'Content-Type: application/json'"
    command(f"curl -o {shown(sent)} \"{url}\" \\\n    {headers} \\\n    -d '{json.dumps(body)}'")
    answer = call("POST", url, 200, json=body, headers={"x-api-key": geti.token})
    sent.write_bytes(answer.content)
    tell(f"{answer.headers['Content-Disposition']}, {len(answer.content):,} bytes")
    return sent


def play(url: str, geti: GetiServer) -> None:
    """Leave all running until Ctrl-C, which raises KeyboardInterrupt here and is no failure."""
    step("All stays as it is: Ctrl-C stops it, Enter trains another version in Geti")
    command(f"export MODELREG_URL={url}")
    for words in ("geti projects", "geti status", "geti sync --wait", "ls"):
        command(f".venv/bin/modelreg {words}")
    try:
        for _, project in zip(sys.stdin, itertools.cycle(geti.world.projects), strict=False):
            tell(described(project.groups[0].train(0.95, active=True)))
        signal.pause()
    except KeyboardInterrupt:
        print(flush=True)


def remove(url: str, geti: GetiServer) -> None:
    step("Delete the models again (KEEP=1 keeps them)")
    for one in importable(geti):
        command(f'curl -X DELETE "{url}/models/{one.id}"')
        call("DELETE", f"{url}/models/{one.id}", 204)


if __name__ == "__main__":
    sys.exit(exit_code(lambda: main(os.environ)))
