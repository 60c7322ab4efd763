"""`python -m tests.bench [registry] [mlflow]`: count, compare, print tables and write them into docs/performance.md.

Without arguments both: what requests of the registry cost, and MLflow's calls beside MLflow's own server.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from infra.package import packaged
from tests.bench.mlflow_rates import compare_rates
from tests.bench.operations import count_calls
from tests.bench.report import (
    MLFLOW_BEGIN,
    MLFLOW_END,
    PAGE,
    calls_table,
    rates_table,
    timing_table,
    transfers_table,
    upload_calls_table,
    write_page,
)
from tests.bench.timing import Repetitions, compare
from tests.bench.transfers import compare_transfers, count_upload_calls, running_stack
from tests.mlflow.server import running_server


def main() -> None:
    say("Packaging ...")
    package = packaged()
    parts = {"registry": measure_registry, "mlflow": measure_mlflow}
    for name in sys.argv[1:] or parts:
        parts[name](package)
    say(f"Written to {PAGE}.")


def measure_registry(package: Path) -> None:
    say("Counting AWS calls, with AWS in memory (half a minute) ...")
    counts = count_calls()
    say("Comparing CPU and cold start with a bare function (a minute) ...")
    repetitions = Repetitions()
    comparisons = compare(package, counts.item, repetitions)
    with running_stack(package) as stack:
        say("Counting the AWS calls of uploads ...")
        steps = count_upload_calls(stack)
        say("Moving 1 GiB there and back beside boto3 (some minutes) ...")
        transfers = compare_transfers(stack)
    tables = [
        calls_table(counts),
        timing_table(comparisons, repetitions),
        upload_calls_table(steps),
        transfers_table(transfers),
    ]
    text = "\n\n".join(tables)
    print(text)
    write_page(text)


def measure_mlflow(package: Path) -> None:
    with TemporaryDirectory() as folder, running_server(Path(folder)) as url, running_stack(package) as stack:
        text = rates_table(compare_rates(stack, url, say))
    print(text)
    write_page(text, MLFLOW_BEGIN, MLFLOW_END)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
