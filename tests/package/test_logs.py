"""docs/logs.md against docs/log-lines.schema.json, and the schema against the code that logs."""

import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest

from chalicelib.geti import asking  # noqa: F401 - which is loaded late
from chalicelib.geti.errors import GetiBusy, GetiError, GetiGone, GetiMisconfigured
from chalicelib.geti.trying import Unfit, Unready
from chalicelib.registry.access import Actor, Role
from chalicelib.registry.audit import Action
from chalicelib.registry.checkpointing import Checkpointed
from chalicelib.registry.errors import RegistryError
from chalicelib.registry.sweeping import Swept
from chalicelib.routing import surfaces
from tests.conftest import ROOT
from tests.log_lines import FIELDS, LINES, SCHEMA

PAGE = (ROOT / "docs/logs.md").read_text()
QUERIES = dict(re.findall(r"^\*\*(.+?)\*\*\n\n```\n(.*?)```$", PAGE, re.M | re.S))
# What CloudWatch Logs Insights knows by itself; the rest of a query names fields of ours.
COMMANDS = {"fields", "filter", "stats", "sort", "limit", "display", "parse", "dedup"}
WORDS = {"and", "or", "not", "in", "like", "as", "by", "asc", "desc", "ispresent"}
FUNCTIONS = {"count", "count_distinct", "sum", "avg", "min", "max", "pct", "latest", "earliest", "bin"}
BUILT_IN = {"@timestamp", "@message", "@log", "@logStream"}
MAX_NAMED_VALUES = 6  # more of them are read better in the schema


def rows(heading: str) -> list[str]:
    section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S)
    assert section, f"no section {heading}"
    return re.findall(r"^\| `.*\|$", section[1], re.M)


def row_of(name: str) -> str:
    """A field as the page tells of it. A star marks the lines that leave it out where there is none."""
    field = FIELDS[name]
    lines = {line: "" if name in content["required"] else "*" for line, content in LINES.items() if uses(content, name)}
    messages = {line for line in LINES if not line.endswith("_metrics")}
    stars = set(lines.values())
    where = f"every{stars.pop()}" if lines.keys() >= messages and len(stars) == 1 else None
    where = where or ", ".join(f"{line}{star}" for line, star in lines.items() if line in messages)
    values = " or ".join(f"`{value}`" for value in field.get("enum", []))
    kind = values if 0 < len(field.get("enum", [])) <= MAX_NAMED_VALUES else field["type"]
    return f"| `{name}` | {where} | {kind} | {field['description']} | `{example_of(field)}` |"


def uses(line: dict[str, Any], name: str) -> bool:
    return line["properties"].get(name) == {"$ref": f"#/$defs/fields/{name}"}


def example_of(field: dict[str, Any]) -> str:
    [example] = field["examples"]
    return example if isinstance(example, str) else json.dumps(example)


def test_the_page_tells_of_every_line_and_of_no_other() -> None:
    told = [f"| `{name}` | {line['description']} |" for name, line in LINES.items()]

    assert rows("The lines") == told


def test_the_page_tells_of_every_field_and_of_no_other() -> None:
    assert rows("The fields") == [row_of(name) for name in FIELDS]


def test_the_page_tells_of_every_metric_and_of_no_other() -> None:
    named = {
        name
        for line in LINES.values()
        for name, value in line["properties"].items()
        if value == {"$ref": "#/$defs/values"}
    }

    assert {re.findall("`(.+?)`", row)[0] for row in rows("The metrics")} == named


def test_the_schema_is_one_and_its_examples_are_what_it_says() -> None:
    jsonschema_rs.meta.validate(SCHEMA)
    for name, field in FIELDS.items():
        assert jsonschema_rs.validator_for(field).is_valid(field["examples"][0]), name


def test_no_line_may_have_a_field_that_is_not_told_of() -> None:
    assert {line["additionalProperties"] for line in LINES.values()} == {False}
    assert {choice["$ref"].rpartition("/")[2] for choice in SCHEMA["oneOf"]} == LINES.keys()


def every(kind: type) -> Iterator[type]:
    for below in kind.__subclasses__():
        yield below
        yield from every(below)


def test_the_schema_knows_every_outcome_action_and_kind_of_actor() -> None:
    surfaces()  # with them, every class of errors is there
    codes = {kind.code for kind in [RegistryError, *every(RegistryError)] if kind.__module__.startswith("chalicelib")}  # type: ignore[attr-defined]
    codes -= {Unfit.code, Unready.code}  # of imports, which no request waits for
    # Those of Geti are told as they are, but for three that are told as errors of ours.
    codes |= {kind.code for kind in every(GetiError) if kind not in (GetiBusy, GetiGone, GetiMisconfigured)}  # type: ignore[attr-defined]

    assert set(FIELDS["outcome"]["enum"]) == codes | {"ok"}
    assert set(FIELDS["action"]["enum"]) == {action.value for action in Action}
    assert set(FIELDS["role"]["enum"]) == {role.value for role in Role}
    assert set(FIELDS["actor_kind"]["enum"]) == set(Actor.model_fields["kind"].annotation.__args__)  # type: ignore[union-attr]


@pytest.mark.parametrize(("line", "counts"), [("sweep", Swept), ("checkpoint", Checkpointed)])
def test_the_schema_knows_every_count_of_what_runs_by_itself(
    line: str, counts: type[Swept] | type[Checkpointed]
) -> None:
    told = {name for name in LINES[line]["properties"] if name not in LINES["unavailable"]["properties"]}

    assert told == set(counts.model_fields)


@pytest.mark.parametrize("question", QUERIES)
def test_a_query_names_only_fields_that_exist(question: str) -> None:
    query = re.sub(r'"[^"]*"|/[^/\n]*/', " ", QUERIES[question])
    named = set(re.findall(r"(?<![\w.@])[@a-zA-Z_][\w.]*", query))
    made = set(re.findall(r"\bas (\w+)", query))

    unknown = named - COMMANDS - WORDS - FUNCTIONS - BUILT_IN - made - FIELDS.keys() - {"message"}

    assert {name for name in unknown if not name.startswith("changes.")} == set()


@pytest.mark.parametrize("question", QUERIES)
def test_a_query_asks_one_kind_of_line_for_fields_and_values_that_it_has(question: str) -> None:
    query = QUERIES[question]
    kinds = re.findall(r'message = "(\w+)"', query)
    fields = set().union(*(LINES[kind]["properties"] for kind in kinds)) if kinds else FIELDS.keys() | {"message"}
    values = re.findall(r'(outcome|action|role|actor_kind) (?:=|in) (\[[^\]]+\]|"[^"]+")', query)

    words = re.findall(r"(?<![.\w])(?<!as )[a-z_]+", re.sub('"[^"]*"', "", query))
    assert {word for word in words if word in FIELDS} <= fields
    for field, listed in values:
        assert set(re.findall('"([^"]+)"', listed)) <= set(FIELDS[field]["enum"])


def test_the_page_answers_the_usual_questions() -> None:
    assert len(QUERIES) >= 8
