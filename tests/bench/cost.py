"""What a month costs on AWS, computed from counted calls and capacity and from published prices.

Pure: measurements in, dollars out. What is assumed stands here and on the page, and nothing is rounded before the end.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

DAYS, HOURS = 30, 730
GIB = 1024**3
PRICES_OF = "us-east-1, on demand, without free tiers, as of November 2026"
MILLION = 1_000_000
# Dollars.
API_REQUEST = 3.50 / MILLION
LAMBDA_REQUEST, LAMBDA_GB_SECOND = 0.20 / MILLION, 0.000_016_666_7
READ_UNIT, WRITE_UNIT = 0.125 / MILLION, 0.625 / MILLION
TABLE_GB_MONTH, RECOVERY_GB_MONTH = 0.25, 0.20
S3_PUT, S3_GET = 0.005 / 1000, 0.0004 / 1000
LOG_GB, TRACE, METRIC_MONTH, ALARM_MONTH, DASHBOARD_MONTH = 0.50, 5 / MILLION, 0.30, 0.10, 3.00
# The smallest machine that MLflow's server and PostgreSQL run on: t4g.small, 20 GB of gp3, a public IPv4 address.
MACHINE_HOUR, DISK_GB_MONTH, ADDRESS_HOUR = 0.0168, 0.08, 0.005
# The smallest that survives its disk: the database in RDS (db.t4g.micro, 20 GB), and a load balancer in front.
DATABASE_HOUR, DATABASE_GB_MONTH, BALANCER_HOUR = 0.016, 0.115, 0.0225
DISK_GB = 20

# Assumed.
READS = {"get": 0.7, "presign a download": 0.2, "list, page of 100": 0.1}
WRITE = "register, next version"
MEMORY_GB = 1.0
BASE_SECONDS, SECONDS_A_CALL = 0.020, 0.010  # of a request; not measured on AWS
LOG_BYTES = 2048  # of a request: its line, and its metrics
TRACED = 0.05
SERIES = 20  # of metrics, that a registry in use has
SCHEDULED_SECONDS = 4 * 24 * DAYS * 1.0 + 24 * DAYS * 2.0 + DAYS * 60.0  # syncs, sweeps, checkpoints
YEARS = 1  # that metadata is kept


@dataclass(frozen=True)
class Team:
    """How much a team registers and reads in a day."""

    models: int
    reads: int


TEAMS = (Team(10, 100), Team(1_000, 10_000), Team(100_000, 1_000_000))
Counts = Mapping[str, Mapping[str, Any]]


def bill(team: Team, counts: Counts, alarms: int) -> dict[str, float]:
    """Dollars a month, by item. `counts` is what `python -m tests.bench calls` has counted."""
    monthly = {WRITE: team.models * DAYS, **{title: team.reads * DAYS * share for title, share in READS.items()}}
    requests = sum(monthly.values())

    def total(amount: str) -> float:
        return sum(number * float(counts[title][amount]) for title, number in monthly.items())

    calls = {title: [name for name in counts[title]["calls"].split(", ") if name] for title in monthly}
    seconds = sum(number * (BASE_SECONDS + SECONDS_A_CALL * len(calls[title])) for title, number in monthly.items())
    puts = sum(number * calls[title].count("PutObject") for title, number in monthly.items())
    kept_gb = team.models * 365 * YEARS * float(counts[WRITE]["write units"]) / 2 * 1024 / GIB
    return {
        "API Gateway": requests * API_REQUEST,
        "Lambda": requests * LAMBDA_REQUEST + (seconds + SCHEDULED_SECONDS) * MEMORY_GB * LAMBDA_GB_SECOND,
        # Each request looks its token up, as if no container remembered any.
        "DynamoDB, reads": (total("read units") + requests) * READ_UNIT,
        "DynamoDB, writes": total("write units") * WRITE_UNIT,
        "DynamoDB, a year of metadata and its recovery": kept_gb * (TABLE_GB_MONTH + RECOVERY_GB_MONTH),
        "S3, requests": puts * S3_PUT + monthly["presign a download"] * S3_GET,
        "Logs, metrics, traces": requests * (LOG_BYTES / GIB * LOG_GB + TRACED * TRACE) + SERIES * METRIC_MONTH,
        "Alarms and dashboard": alarms * ALARM_MONTH + DASHBOARD_MONTH,
    }


def alternatives() -> dict[str, float]:
    """Dollars a month of the smallest machines that are always on, whatever they are asked."""
    machine = HOURS * (MACHINE_HOUR + ADDRESS_HOUR) + DISK_GB * DISK_GB_MONTH
    return {
        "one t4g.small with everything on it": machine,
        "the same with RDS and a load balancer": machine
        + HOURS * (DATABASE_HOUR + BALANCER_HOUR)
        + DISK_GB * DATABASE_GB_MONTH,
    }
