"""How many cases each test runs, and what became of them."""

import os
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings

from tests.surfaces.conftest import access, document, service  # noqa: F401

SMALL = 1_200
CASES = int(os.environ.get("FUZZ_CASES") or SMALL)
# Parser: what became of each case.
TALLY: dict[str, Counter[str]] = {}


def fuzzed(share: float) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A test that runs this share of all cases. A small run is the same each time, a large one another."""
    return settings(
        max_examples=max(int(CASES * share), 10),
        deadline=None,
        derandomize=CASES <= SMALL,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )


def tally(parser: str, outcome: str) -> None:
    TALLY.setdefault(parser, Counter())[outcome] += 1


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if CASES > SMALL:
        terminalreporter.section("cases by parser")
        for parser, outcomes in TALLY.items():
            told = ", ".join(f"{outcome} {count:,}" for outcome, count in outcomes.most_common(12))
            terminalreporter.write_line(f"{parser:16} {outcomes.total():7,}   {told}")
        terminalreporter.write_line(f"{'in all':16} {sum(outcomes.total() for outcomes in TALLY.values()):7,}")
