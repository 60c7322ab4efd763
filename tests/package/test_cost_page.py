"""docs/cost.md says what the counts come to, and nobody wrote a number of it by hand."""

import json

import pytest

from infra.package import ROOT
from tests.bench.cost import Team, alternatives, bill
from tests.bench.report import cost_table

COUNTS = json.loads((ROOT / "docs/measurements.json").read_text())["calls"]


def test_the_page_is_computed_from_what_was_counted(template) -> None:
    alarms = sum(one["Type"] == "AWS::CloudWatch::Alarm" for one in template["Resources"].values())

    assert cost_table(COUNTS, alarms) in (ROOT / "docs/cost.md").read_text()


def test_what_was_counted_is_the_baseline() -> None:
    baseline = json.loads((ROOT / "tests/bench/baseline.json").read_text())

    assert {title: {name: baseline[title][name] for name in counts} for title, counts in COUNTS.items()} == COUNTS


def test_who_does_nothing_pays_for_what_watches_and_what_is_scheduled() -> None:
    idle = bill(Team(0, 0), COUNTS, alarms=31)

    assert {item for item, dollars in idle.items() if dollars} == {
        "Lambda",
        "Logs, metrics, traces",
        "Alarms and dashboard",
    }


@pytest.mark.parametrize("item", ["API Gateway", "DynamoDB, reads", "DynamoDB, writes", "S3, requests"])
def test_what_is_paid_by_use_grows_with_it(item: str) -> None:
    small, large = (bill(Team(models, 10 * models), COUNTS, alarms=0)[item] for models in (1, 1000))

    assert large == pytest.approx(1000 * small)


def test_a_request_costs_what_its_units_do() -> None:
    only_reads = bill(Team(0, 1_000_000), COUNTS, alarms=0)

    # 0.7 gets and 0.2 presigned downloads of one unit, 0.1 lists of so many; each with a token's unit.
    units = 0.9 + 0.1 * COUNTS["list, page of 100"]["read units"] + 1
    assert only_reads["DynamoDB, reads"] == pytest.approx(30 * units * 0.125)


def test_the_machines_cost_the_same_for_all() -> None:
    assert alternatives()["one t4g.small with everything on it"] == pytest.approx(730 * 0.0218 + 1.6)
