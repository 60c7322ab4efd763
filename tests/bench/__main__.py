"""`python -m tests.bench [PART ...]`: count, compare, print tables and write them into docs/performance.md.

Without arguments all parts. `check` compares what is counted with tests/bench/baseline.json, which `baseline` writes.
"""

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from infra.package import ROOT, packaged
from tests.bench.check import counted, differences, read_baseline, write_baseline
from tests.bench.crowd import measure_crowd
from tests.bench.mlflow_rates import compare_rates
from tests.bench.operations import count_calls, record_compared
from tests.bench.report import (
    calls_table,
    cost_table,
    crowd_table,
    keep,
    kept,
    rates_table,
    scale_table,
    timing_table,
    transfers_table,
    upload_calls_table,
    write_page,
)
from tests.bench.scale import measure_scale
from tests.bench.timing import Repetitions, compare
from tests.bench.transfers import compare_transfers, count_upload_calls, running_stack
from tests.mlflow.server import running_server

MLFLOW_PYTHON = ROOT / ".venv-mlflow/bin/python"  # where Matplotlib is


def main() -> None:
    say("Packaging ...")
    package = packaged()
    asked = sys.argv[1:] or list(PARTS)
    if asked == ["check"]:
        check(package)
        return
    for name in asked:
        if name == "baseline":
            write_baseline(counted(package))
        else:
            text = PARTS[name](package)
            print(text)
            write_page(name, text)
            say(f"Written: {name}.")


def check(package: Path) -> None:
    """Ends the program with 1 if what is counted is not what it was."""
    if found := differences(counted(package), read_baseline()):
        sys.exit("\n".join([*found, "If that is meant: .venv/bin/python -m tests.bench baseline calls cost"]))


def measure_calls(_: Path) -> str:
    say("Counting AWS calls, with AWS in memory ...")
    counts = count_calls()
    keep("calls", {row.operation.title: row.summary for row in counts.rows})
    return calls_table(counts)


def measure_floor(package: Path) -> str:
    say("Comparing CPU and cold start with a bare function (some minutes) ...")
    repetitions = Repetitions()
    return timing_table(compare(package, record_compared(), repetitions), repetitions)


def measure_growth(_: Path) -> str:
    scaled = list(measure_scale(say))
    keep("scale", [one.summary for one in scaled])
    subprocess.run([MLFLOW_PYTHON, Path(__file__).with_name("plots.py")], check=True)
    return scale_table(scaled)


def measure_uploads(package: Path) -> str:
    with running_stack(package) as stack:
        say("Counting the AWS calls of uploads ...")
        steps = count_upload_calls(stack)
        say("Moving 1 GiB there and back beside boto3 (some minutes) ...")
        transfers = compare_transfers(stack)
    return f"{upload_calls_table(steps)}\n\n{transfers_table(transfers)}"


def measure_peers(package: Path) -> str:
    with TemporaryDirectory() as folder, running_server(Path(folder)) as url, running_stack(package) as stack:
        return rates_table(compare_rates(stack, url, say))


def measure_many(package: Path) -> str:
    with running_stack(package) as stack:
        return crowd_table(measure_crowd(stack, say))


def compute_cost(package: Path) -> str:
    template = json.loads((package / "template.json").read_text())
    alarms = sum(one["Type"] == "AWS::CloudWatch::Alarm" for one in template["Resources"].values())
    return cost_table(kept()["calls"], alarms)


PARTS = {
    "calls": measure_calls,
    "floor": measure_floor,
    "scale": measure_growth,
    "uploads": measure_uploads,
    "peers": measure_peers,
    "crowd": measure_many,
    "cost": compute_cost,
}


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
