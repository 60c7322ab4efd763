"""The tables of `make bench`, as Markdown: printed, and written into docs/performance.md between two markers."""

import json
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.bench.containers import BARE, LIBRARIES, REGISTRY, TRACED
from tests.bench.cost import PRICES_OF, TEAMS, alternatives, bill
from tests.bench.crowd import Served
from tests.bench.mlflow_rates import CLIENTS, REQUESTS_A_CLIENT, ROUNDS, Rates
from tests.bench.operations import CATALOGUE_SIZE, Counted, Counts
from tests.bench.scale import FEWEST_ROUNDS, Scaled
from tests.bench.scale import ROUNDS as SCALE_ROUNDS
from tests.bench.timing import Comparison, Repetitions, Spread
from tests.bench.transfers import DOWNLOAD_ROUNDS, FILE_BYTES, TARGET_RATIO, UPLOAD_ROUNDS, Transfers, UploadStep

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = (DOCS / "performance.md", DOCS / "cost.md")
MEASUREMENTS = DOCS / "measurements.json"  # what plots and costs are made of


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
    """What the registry takes beside a bare function, and beside one that imports the same libraries."""
    rows = [
        (
            one.operation.title,
            one.measure,
            _milliseconds(one.spreads[BARE]),
            f"{one.ratio(LIBRARIES):.2f}",
            _milliseconds(one.spreads[REGISTRY]),
            f"{one.ratio(REGISTRY):.2f}",
            f"{one.ratio(TRACED):.2f}",
            f"{one.budget}, {_met(one.ratio(TRACED) <= one.budget)}",
        )
        for one in comparisons
    ]
    about = (
        f"Medians of {repetitions.warm} warm requests and of {repetitions.cold} cold starts, in milliseconds of the"
        " processor, with their quartiles, and their ratios to the bare function. Only the ratios mean something"
        " elsewhere."
    )
    header = (
        *("request", "measure", "bare", "libraries imported, ratio", "registry", "ratio", "ratio with X-Ray tracing"),
        "budget",
    )
    return f"{about}\n\n{_table(header, rows)}"


def scale_table(scaled: Sequence[Scaled]) -> str:
    """What requests cost as the catalogue grows."""
    first: dict[str, Scaled] = {}
    for one in scaled:
        first.setdefault(one.title, one)
    rows = [
        (
            one.title,
            f"{one.size:,}",
            str(len(one.calls)),
            f"{one.read_units:,g}",
            _milliseconds(Spread.of(one.seconds)),
            f"{one.median / first[one.title].median:.2f}",
            f"{one.ratio:.2f}",
        )
        for title in first
        for one in scaled
        if one.title == title
    ]
    about = (
        f"Medians of {FEWEST_ROUNDS} to {SCALE_ROUNDS} requests, in milliseconds, with their quartiles; their ratio to"
        " the smallest size, and to a function that makes the same calls with boto3. The store in memory reads the"
        " whole partition for each Query."
    )
    header = ("request", "models, or versions", "calls", "read units", "registry", "to the smallest", "to boto3")
    return f"{about}\n\n{_table(header, rows)}"


def transfers_table(transfers: Transfers) -> str:
    """Ours beside boto3's."""
    rows = [
        (
            one.title,
            _speed(one.client),
            _speed(one.boto3),
            f"{statistics.median(one.ratios):.2f} ({min(one.ratios):.2f}–{max(one.ratios):.2f})",
            f"{TARGET_RATIO}, {_met(statistics.median(one.ratios) >= TARGET_RATIO)}",
        )
        for one in transfers.directions
    ]
    about = (
        f"{FILE_BYTES / 1024**3:g} GiB, {UPLOAD_ROUNDS} rounds up and {DOWNLOAD_ROUNDS} down, in turn, to and from the"
        " emulator's S3: MiB/s (median), and the ratio round by round (median, lowest to highest). The client hashes"
        " all bytes, and has the registry check the result; boto3 does neither."
    )
    first_byte, hashing = 1000 * transfers.first_byte_seconds, 1000 * transfers.hashing_seconds
    first = (
        f"The first byte leaves {first_byte:.0f} ms after the reading begins; hashing the whole file first would take"
        f" {hashing:,.0f} ms, {hashing / first_byte:.0f} times as long."
    )
    header = ("direction", "client", "boto3", "ratio", "target")
    return f"{about}\n\n{_table(header, rows)}\n\n{first}"


def upload_calls_table(steps: Iterable[UploadStep]) -> str:
    """What each request of an upload calls and costs."""
    rows = [
        (
            step.title,
            str(len(step.calls)),
            f"{sum(call.read_units for call in step.calls):,g}",
            f"{sum(call.write_units for call in step.calls):,g}",
            ", ".join(f"{count} {name}" for name, count in Counter(call.name for call in step.calls).items()),
        )
        for step in steps
    ]
    header = ("request", "calls", "read units", "write units", "which calls")
    return f"The bytes themselves go to S3 without the registry.\n\n{_table(header, rows)}"


def _speed(seconds: Sequence[float]) -> str:
    return f"{FILE_BYTES / 1024**2 / statistics.median(seconds):.0f}"


def rates_table(rates: Iterable[Rates]) -> str:
    """MLflow's calls, answered by its own server and by the registry."""
    rows = [
        (
            f"{one.size:,}",
            one.operation.title,
            _half_and_most(one.theirs),
            _half_and_most(one.ours),
            _half_and_most(one.idle),
            _met(one.is_quick),
            f"{one.their_rate:.0f}",
            f"{one.our_rate:.0f}",
            f"{one.ratio:.2f}",
            f"{one.operation.ratio}, {_met(one.ratio >= one.operation.ratio)}",
        )
        for one in rates
    ]
    about = (
        f"One client: {ROUNDS} requests to each in turn, milliseconds (p50 / p99); the target is MLflow's p50 and that"
        f" of the idle function added. {CLIENTS} clients: requests per second of {CLIENTS * REQUESTS_A_CLIENT}, and"
        " the ratio."
    )
    header = (
        *("registered models", "call", "MLflow", "registry", "idle function", "target"),
        *("MLflow, 8 clients", "registry, 8 clients", "ratio", "target"),
    )
    return f"{about}\n\n{_table(header, rows)}"


def _half_and_most(seconds: Sequence[float]) -> str:
    hundredths = statistics.quantiles(seconds, n=100, method="inclusive")
    return f"{1000 * hundredths[49]:.1f} / {1000 * hundredths[98]:.1f}"


def crowd_table(phases: Iterable[Served]) -> str:
    """Many clients at once."""
    rows = [
        (
            one.title,
            f"{one.elapsed:.0f}",
            kind,
            f"{len(seconds):,}",
            f"{len(seconds) / one.elapsed:.1f}",
            _half_and_most(seconds),
            str(len(one.errors)),
            f"{len(one.lost)} of {len(one.written):,}",
        )
        for one in phases
        for kind, seconds in (("reads", one.reads), ("writes", one.writes), ("uploads", one.uploads))
        if seconds
    ]
    header = (
        *("clients", "seconds", "requests", "answered", "a second", "milliseconds, p50 / p99"),
        *("errors", "acknowledged and lost"),
    )
    return _table(header, rows)


def cost_table(counts: Mapping[str, Any], alarms: int) -> str:
    """What a month costs three teams, item by item, beside machines that are always on."""
    bills = [bill(team, counts, alarms) for team in TEAMS]
    always_on = alternatives()
    rows = [(item, *(_dollars(one[item]) for one in bills)) for item in bills[0]]
    rows.append(("**the registry, together**", *(f"**{_dollars(sum(one.values()))}**" for one in bills)))
    rows += [(name, *(_dollars(price) for _ in bills)) for name, price in always_on.items()]
    header = ("dollars a month", *(f"{team.models:,} models, {team.reads:,} reads a day" for team in TEAMS))
    return f"Prices: {PRICES_OF}.\n\n{_table(header, rows)}"


def _dollars(amount: float) -> str:
    return f"{amount:,.2f}"


def keep(part: str, measured: Any) -> None:
    """Have a part's measurements at hand for the pages that are made of them."""
    MEASUREMENTS.write_text(json.dumps({**kept(), part: measured}, indent=1, sort_keys=True) + "\n")


def kept() -> dict[str, Any]:
    """What was measured last, by part."""
    return dict(json.loads(MEASUREMENTS.read_text())) if MEASUREMENTS.exists() else {}


def write_page(part: str, text: str) -> None:
    """Replace what stands between the two markers of a part, on the page that has them."""
    begin, end = f"<!-- {part}: `make bench` writes from here -->", f"<!-- {part}: to here -->"
    for page in PAGES:
        before, _, rest = page.read_text().partition(begin)
        _, found, after = rest.partition(end)
        if found:
            page.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}")
            return
    raise ValueError(f"No page has a place for {part}.")


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _named(row: Counted) -> str:
    counted = Counter(call.name for call in row.calls)
    return ", ".join(f"{count} {name}" for name, count in counted.items()) or "none"


def _met(is_met: bool) -> str:
    return "met" if is_met else "**missed**"


def _milliseconds(spread: Spread) -> str:
    low, median, high = (_of_three_digits(1000 * seconds) for seconds in (spread.low, spread.median, spread.high))
    return f"{median} ({low}–{high})"


def _of_three_digits(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"
