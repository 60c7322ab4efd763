"""The dashboard and the alarms, against the metrics that are really emitted and the resources that are really there."""

import json
import re
from typing import Any

import pytest

from chalicelib import telemetry
from chalicelib.geti.states import Counts
from chalicelib.registry.access import Actor
from chalicelib.registry.checkpointing import Checkpointed
from chalicelib.registry.sweeping import Swept
from infra.local.overlay import Local, overlaid
from infra.localstack.deploy import for_localstack
from tests.log_lines import captured

Json = dict[str, Any]
# Name, and its dimensions; None stands for whatever value, as the name of the stack.
Metric = tuple[str, frozenset[tuple[str, str | None]]]

OURS = "ModelRegistry"
SEARCH = re.compile(r"SEARCH\('\{([\w/,]+)\} ([^']*)', '\w+', \d+\)")


@pytest.fixture(scope="session")
def widgets(template: Json) -> list[Json]:
    body = template["Resources"]["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]
    return list(json.loads(body)["widgets"])


@pytest.fixture
def emitted() -> set[Metric]:
    """What telemetry.py emits: a request of each kind, and what runs by itself."""
    with captured() as lines:
        for outcome in ("ok", *telemetry.DENIALS):
            telemetry.request_line(
                operation="get_model",
                method="GET",
                subject=None,
                actor=Actor(),
                outcome=outcome,
                status=200,
                latency_ms=1,
            )
        telemetry.sweep_line(Swept().model_dump(), [])
        telemetry.checkpoint_line(Checkpointed().model_dump())
        telemetry.sync_line(Counts().model_dump() | {"requests": 0, "geti_unauthorized": 0})
        telemetry.import_line({"imported": 0, "failed": 0, "existing": 0, "bytes": 0})
    return {metric for line in lines if "_aws" in line for metric in metrics_of(line)}


def metrics_of(line: Json) -> set[Metric]:
    [directive] = line["_aws"]["CloudWatchMetrics"]
    assert directive["Namespace"] == OURS
    sets = [{(name, None if name == "service" else line[name]) for name in names} for names in directive["Dimensions"]]
    return {(metric["Name"], frozenset(dimensions)) for metric in directive["Metrics"] for dimensions in sets}


def alarmed(template: Json) -> set[Metric]:
    found = set()
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::CloudWatch::Alarm":
            properties = resource["Properties"]
            queries = [
                query["MetricStat"]["Metric"] for query in properties.get("Metrics", []) if "MetricStat" in query
            ]
            for metric in [*queries, *([properties] if "Namespace" in properties else [])]:
                if metric["Namespace"] == OURS:
                    found.add((metric["MetricName"], dimensions_of(metric["Dimensions"])))
    return found


def dimensions_of(stated: list[Json]) -> frozenset[tuple[str, str | None]]:
    return frozenset((one["Name"], one["Value"] if isinstance(one["Value"], str) else None) for one in stated)


def drawn(widgets: list[Json]) -> list[list[str]]:
    """The metrics of all widgets, each with what `.` and `...` stand for in its place."""
    found: list[list[str]] = []
    for widget in widgets:
        before: list[str] = []
        for metric in widget["properties"].get("metrics", []):
            stated = [part for part in metric if isinstance(part, str)]
            if stated[:1] == ["..."]:
                stated = [*before[: len(before) - len(stated) + 1], *stated[1:]]
            before = [before[at] if part == "." else part for at, part in enumerate(stated)]
            found += [before] if before else []
    return found


def searched(widgets: list[Json]) -> list[tuple[list[str], dict[str, str]]]:
    """Every search for metrics: namespace and names of dimensions, and the values that are asked for."""
    found = []
    for widget in widgets:
        for metric in widget["properties"].get("metrics", []):
            if isinstance(metric[0], dict):
                scheme, terms = SEARCH.fullmatch(metric[0]["expression"]).groups()  # type: ignore[union-attr]
                found.append((scheme.split(","), dict(re.findall(r'(\w+)="([^"]*)"', terms))))
    return found


def test_every_metric_of_ours_that_has_an_alarm_is_emitted(template: Json, emitted: set[Metric]) -> None:
    assert alarmed(template)
    assert alarmed(template) <= emitted


def test_every_metric_of_ours_on_the_dashboard_is_emitted(widgets: list[Json], emitted: set[Metric]) -> None:
    named = set()
    for namespace, name, *dimensions in drawn(widgets):
        if namespace == OURS:
            pairs = zip(dimensions[::2], dimensions[1::2], strict=True)
            named.add((name, frozenset((key, None if "${" in value else value) for key, value in pairs)))

    assert named
    assert named <= emitted


def test_every_search_for_metrics_of_ours_finds_some(widgets: list[Json], emitted: set[Metric]) -> None:
    searches = [search for search in searched(widgets) if search[0][0] == OURS]

    assert searches
    for (_, *names), terms in searches:
        wanted = {(name, value) for name, value in terms.items() if "${" not in value and name != "MetricName"}
        assert any(
            name == terms["MetricName"] and {key for key, _ in dimensions} == set(names) and wanted <= dimensions
            for name, dimensions in emitted
        ), terms


def test_every_metric_that_names_no_stack_or_resource_of_it_would_mix_two_registries(widgets: list[Json]) -> None:
    assert [metric for metric in drawn(widgets) if not any("${" in part for part in metric)] == []
    assert [terms for _, terms in searched(widgets) if not any("${" in value for value in terms.values())] == []


@pytest.mark.parametrize("metric", ["Errors", "Throttles", "Duration"])
def test_every_function_is_on_the_dashboard(widgets: list[Json], functions: Json, metric: str) -> None:
    shown = {part[-1] for part in drawn(widgets) if part[:2] == ["AWS/Lambda", metric]}

    assert shown == {f"${{{name}}}" for name in functions}


def test_every_alarm_is_on_the_dashboard(widgets: list[Json], template: Json) -> None:
    [shown] = [widget["properties"]["alarms"] for widget in widgets if widget["type"] == "alarm"]
    alarms = [name for name, resource in template["Resources"].items() if resource["Type"] == "AWS::CloudWatch::Alarm"]

    assert sorted(shown) == sorted(f"${{{name}.Arn}}" for name in alarms)


def test_no_two_widgets_lie_on_each_other(widgets: list[Json]) -> None:
    places = [
        (x, y)
        for widget in widgets
        for x in range(widget["x"], widget["x"] + widget["width"])
        for y in range(widget["y"], widget["y"] + widget["height"])
    ]

    assert len(places) == len(set(places))
    assert max(x for x, _ in places) < 24


def test_what_the_dashboard_names_of_the_stack_is_in_it(template: Json) -> None:
    body = template["Resources"]["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]

    named = {name.partition(".")[0] for name in re.findall(r"\$\{([^}]+)\}", body)}

    assert {name for name in named if not name.startswith("AWS::")} <= template["Resources"].keys()


def test_locally_there_is_no_dashboard_because_alarms_that_it_names_are_left_out(template: Json) -> None:
    for local in (overlaid(template, Local(4566)), for_localstack(template)):
        assert "Dashboard" not in local["Resources"]
