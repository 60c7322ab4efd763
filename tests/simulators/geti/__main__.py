"""Runs the simulator by hand: `python -m tests.simulators.geti`. What is asked is told on stderr."""

import argparse
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count, cycle
from pathlib import Path

from tests.simulators.geti import VALID_TOKEN, Asked, GetiServer, World, make_certificate
from tests.simulators.geti.server import VERSIONS

PROJECTS = (
    ("Bottle caps", "detection", ("cap", "no cap")),
    ("Loading dock", "instance_segmentation", ("pallet", "truck")),
    ("Scratches on glass", "classification", ("good", "scratched")),
)


def main() -> None:
    wanted = _arguments()
    # By hand the dates are those of the clock: a client asks for what is new since yesterday.
    world = World(wanted.profile, seed=wanted.seed, clock=lambda: datetime.now(UTC))
    if wanted.ir:
        world.packing = replace(world.packing, ir=wanted.ir)
    _fill(world, wanted.projects)
    certificate = make_certificate(wanted.tls) if wanted.tls else None
    with GetiServer(world, token=wanted.token, tls=certificate, port=wanted.port, on_answer=_tell) as geti:
        print(f"GETI {geti.url}\nTOKEN {geti.token}", flush=True)
        if certificate:
            print(f"CA {certificate.authority}", flush=True)
        try:
            _train(world, wanted.every)
        except KeyboardInterrupt:
            print(f"{sum(geti.counts.values())} requests, {len(geti.downloads)} downloads.", file=sys.stderr)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulators.geti", description="A simulated Geti server.")
    parser.add_argument("--port", type=int, default=7000, help="0: any that is free")
    parser.add_argument("--profile", choices=list(VERSIONS), default="2.13")
    parser.add_argument("--projects", type=int, default=len(PROJECTS))
    parser.add_argument("--token", default=VALID_TOKEN, help="the only one that is valid")
    parser.add_argument("--tls", type=Path, metavar="DIR", help="speak https, with a certificate made in this folder")
    parser.add_argument("--every", type=float, metavar="SECONDS", help="train a new model that often")
    parser.add_argument("--ir", type=Path, metavar="DIR", help="pack the model.xml and model.bin of this folder")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def _fill(world: World, projects: int) -> None:
    for number in range(projects):
        name, task, labels = PROJECTS[number % len(PROJECTS)]
        again = number // len(PROJECTS)
        project = world.project(f"{name} {again + 1}" if again else name, task, labels)
        project.group("YOLOX-S").train(score=0.81, active=True)


def _train(world: World, every: float | None) -> None:
    """A new version in one project after the other and, a turn later, its INT8; for ever."""
    never = threading.Event()
    if not every or not world.projects:
        never.wait()
    for number, project in zip(count(1), cycle(world.projects), strict=False):
        never.wait(every)
        model = project.groups[0].train(score=round(0.81 + (number % 15) / 100, 2), active=True)
        print(f"trained {project.name}, version {model.version}", file=sys.stderr)
        never.wait(every)
        print(f"optimized {model.optimize('INT8').name}, version {model.version}", file=sys.stderr)


def _tell(asked: Asked) -> None:
    print(f"{asked.status or '---'} {asked.method} {asked.target}", file=sys.stderr)


if __name__ == "__main__":
    main()
