"""`python -m tests.bench`: count, compare, print the tables and write them into docs/performance.md."""

import sys

from infra.package import packaged
from tests.bench.operations import count_calls
from tests.bench.report import PAGE, calls_table, timing_table, transfers_table, upload_calls_table, write_page
from tests.bench.timing import Repetitions, compare
from tests.bench.transfers import compare_transfers, count_upload_calls, running_stack


def main() -> None:
    say("Counting AWS calls, with AWS in memory (half a minute) ...")
    counts = count_calls()
    say("Packaging ...")
    package = packaged()
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
    say(f"Written to {PAGE}.")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
