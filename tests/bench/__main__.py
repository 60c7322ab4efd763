"""`python -m tests.bench`: count, compare, print the tables and write them into docs/performance.md."""

import sys

from infra.package import packaged
from tests.bench.operations import count_calls
from tests.bench.report import PAGE, calls_table, timing_table, write_page
from tests.bench.timing import Repetitions, compare


def main() -> None:
    say("Counting AWS calls, with AWS in memory (half a minute) ...")
    counts = count_calls()
    say("Packaging ...")
    package = packaged()
    say("Comparing CPU and cold start with a bare function (a minute) ...")
    repetitions = Repetitions()
    comparisons = compare(package, counts.item, repetitions)
    text = f"{calls_table(counts)}\n\n{timing_table(comparisons, repetitions)}"
    print(text)
    write_page(text)
    say(f"Written to {PAGE}.")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
