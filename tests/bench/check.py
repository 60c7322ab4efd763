"""What is counted, held to tests/bench/baseline.json: AWS calls and capacity of each request, what a container loads.

Counts do not depend on the machine. Whoever changes them says so, by `python -m tests.bench baseline calls cost`.
"""

import json
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.bench.containers import NO_XRAY, Kind, unpack
from tests.bench.operations import COMPARED, count_calls, record_compared
from tests.bench.timing import containers

BASELINE = Path(__file__).with_name("baseline.json")
# These may be a little more: Python's own versions differ by some modules, and a change that matters by more.
MODULES, FUNCTIONS = "modules after the first request", "Python functions called by a later one"
KIBIBYTES = "KiB zipped, without what Lambda's runtime has"
BOUNDS = (MODULES, FUNCTIONS, KIBIBYTES)
TOLERANCE = 1.05
WARM_UP = 5
SEEDED = Kind("registry, hashing seeded", "registry", {**NO_XRAY, "PYTHONHASHSEED": "0"})
RUNTIME_HAS = {"boto3", "botocore", "s3transfer", "urllib3", "dateutil", "python_dateutil", "six", "jmespath"}
Counted = Mapping[str, Mapping[str, Any]]


def counted(package: Path) -> Counted:
    """Everything that is compared: of each request by its title, and of the package."""
    found = {row.operation.title: row.summary for row in count_calls().rows}
    for title, loaded in _loaded(package):
        found[title] |= loaded
    return {**found, "package": {KIBIBYTES: _kibibytes(package)}}


def _loaded(package: Path) -> Iterator[tuple[str, Mapping[str, int]]]:
    """Modules after the first request to a container, and the Python functions that a later one calls."""
    exchanges = record_compared()
    with tempfile.TemporaryDirectory() as directory:
        unpack(package, Path(directory))
        for operation in COMPARED:
            with containers(Path(directory), exchanges[operation.title], counting=True) as new_container:
                with closing(new_container(SEEDED)) as container:
                    answers = [container.invoke(operation.event) for _ in range(WARM_UP)]
            functions = min(answer["functions"] for answer in answers[1:])
            yield operation.title, {MODULES: answers[0]["modules"], FUNCTIONS: functions}


def _kibibytes(package: Path) -> int:
    """Of the archives, without what Lambda's runtime has anyway."""
    size_bytes = 0
    for archive in ("deployment.zip", "layer-deployment.zip"):
        with zipfile.ZipFile(package / archive) as packed:
            size_bytes += sum(
                entry.compress_size
                for entry in packed.infolist()
                if not {part.partition("-")[0].removesuffix(".py") for part in Path(entry.filename).parts} & RUNTIME_HAS
            )
    return round(size_bytes / 1024)


def differences(now: Counted, baseline: Counted) -> list[str]:
    """What is not as it was, a line each; nothing if all is well."""
    found = []
    for title in dict.fromkeys([*baseline, *now]):
        is_now, was = now.get(title, {}), baseline.get(title, {})
        for name in dict.fromkeys([*was, *is_now]):
            value, before = is_now.get(name), was.get(name)
            is_bound = name in BOUNDS and value is not None and before is not None
            if value > before * TOLERANCE if is_bound else value != before:
                found.append(f"{title}: {name}: {value}, was {before}")
    return found


def write_baseline(now: Counted) -> None:
    BASELINE.write_text(json.dumps(now, indent=1) + "\n")


def read_baseline() -> Counted:
    return dict(json.loads(BASELINE.read_text()))
