"""`make bench-check` notices what it is there for."""

import pytest

from tests.bench.check import FUNCTIONS, KIBIBYTES, MODULES, differences

BASELINE = {
    "get": {"calls": "GetItem", "read units": 1, "write units": 0, MODULES: 500, FUNCTIONS: 2000},
    "package": {KIBIBYTES: 7000},
}


def changed(title: str, **values: object) -> dict[str, dict[str, object]]:
    return {**BASELINE, title: {**BASELINE[title], **values}}


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (changed("get", calls="GetItem, Query"), "get: calls: GetItem, Query, was GetItem"),
        (changed("get", calls=""), "get: calls: , was GetItem"),
        (changed("get", **{"read units": 2}), "get: read units: 2, was 1"),
        (changed("get", **{MODULES: 526}), f"get: {MODULES}: 526, was 500"),
        (changed("package", **{KIBIBYTES: 8000}), f"package: {KIBIBYTES}: 8000, was 7000"),
        ({**BASELINE, "put": {"calls": ""}}, "put: calls: , was None"),
        ({"get": BASELINE["get"]}, f"package: {KIBIBYTES}: None, was 7000"),
    ],
)
def test_what_costs_more_or_otherwise_is_named(now: dict[str, dict[str, object]], said: str) -> None:
    assert differences(now, BASELINE) == [said]


def test_a_little_more_and_any_less_of_what_is_bounded_is_well() -> None:
    assert differences(changed("get", **{MODULES: 525, FUNCTIONS: 1000}), BASELINE) == []
