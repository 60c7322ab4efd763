"""The tables of `make bench`, as Markdown: printed, and written into docs/performance.md between two markers."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.bench.operations import CATALOGUE_SIZE, Counted, Counts
from tests.bench.timing import Comparison, Repetitions, Spread

PAGE = Path(__file__).resolve().parents[2] / "docs" / "performance.md"
BEGIN, END = "<!-- `make bench` writes from here -->", "<!-- to here -->"


def calls_table(counts: Counts) -> str:
    """What each request calls, and what DynamoDB charges for it."""
    rows = [
        (
            row.operation.title,
            str(len(row.calls)),
            f"{row.operation.budget}, {_met(len(row.calls) <= row.operation.budget)}",
            f"{sum(call.read_units for call in row.calls):,g}",
            f"{sum(call.write_units for call in row.calls):,g}",
            _named(row),
        )
        for row in counts.rows
    ]
    about = (
        f"A model's item has {counts.item_bytes:,} bytes; the catalogue holds {CATALOGUE_SIZE:,} models where it is "
        "listed or searched."
    )
    header = ("request", "calls", "budget", "read units", "write units", "which calls")
    return f"{about}\n\n{_table(header, rows)}"


def timing_table(comparisons: Iterable[Comparison], repetitions: Repetitions) -> str:
    """What the registry takes beside a bare function."""
    rows = [
        (
            one.measure,
            one.kind.title,
            _milliseconds(one.bare),
            _milliseconds(one.registry),
            f"{one.ratio:.2f}",
            f"{one.budget}, {_met(one.ratio <= one.budget)}",
        )
        for one in comparisons
    ]
    about = (
        f"`GET /models/{{id}}`: medians of {repetitions.warm} warm requests and of {repetitions.cold} cold starts, in "
        "milliseconds, with their quartiles. Only the ratios mean something elsewhere."
    )
    header = ("measure", "function", "bare", "registry", "ratio", "budget")
    return f"{about}\n\n{_table(header, rows)}"


def write_page(text: str) -> None:
    """Replace what stands between the markers."""
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _named(row: Counted) -> str:
    counted = Counter(call.name for call in row.calls)
    return ", ".join(f"{count} {name}" for name, count in counted.items()) or "none"


def _met(is_met: bool) -> str:
    return "met" if is_met else "**missed**"


def _milliseconds(spread: Spread) -> str:
    low, median, high = (f"{1000 * seconds:.3g}" for seconds in (spread.low, spread.median, spread.high))
    return f"{median} ({low}–{high})"
