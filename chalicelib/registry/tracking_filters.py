"""What experiments, runs and logged models are searched by: comparisons, all of which must hold. Pure.

    attributes.status = 'FINISHED' and metrics.loss < 0.3 and params.`a b` LIKE 'x%'

It is the part of MLflow's filters that people use most. What is not understood is refused, and the text says what is.
"""

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from chalicelib.registry.errors import InvalidInput, shown
from chalicelib.registry.filters import is_like
from chalicelib.registry.tracking import Experiment, LoggedModel, Run, Whole

MAX_FILTER, MAX_CLAUSES = 10_000, 50
ENTITIES = {
    **dict.fromkeys(("metric", "metrics"), "metrics"),
    **dict.fromkeys(("param", "params", "parameter", "parameters"), "params"),
    **dict.fromkeys(("tag", "tags"), "tags"),
    **dict.fromkeys(("attribute", "attributes", "attr", "run"), "attributes"),
}
CLAUSE = re.compile(
    r"""\s*(?:(?P<entity>\w+)\s*\.\s*)?(?P<key>`[^`]+`|"[^"]+"|[\w.\-/]+)
    \s*(?P<comparator>!=|<>|<=|>=|=|<|>|(?:I?LIKE)\b)
    \s*(?:'(?P<single>[^']*)'|"(?P<double>[^"]*)"|(?P<number>[+-]?\d+(?:\.\d*)?(?:e[+-]?\d+)?(?!\w)))\s*""",
    re.VERBOSE | re.IGNORECASE,
)
AND = re.compile(r"AND\b", re.IGNORECASE)
NUMBERS: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
TEXTS: Mapping[str, Callable[[str, str], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<>": operator.ne,
    "LIKE": is_like,
    "ILIKE": lambda text, pattern: is_like(text, pattern, is_any_case=True),
}
Attributes = Mapping[str, Callable[[Any], str | int | None]]
EXPERIMENT_ATTRIBUTES: Attributes = {
    "name": lambda one: one.name,
    "experiment_id": lambda one: one.id,
    "creation_time": lambda one: one.created_ms,
    "last_update_time": lambda one: one.updated_ms,
}
RUN_ATTRIBUTES: Attributes = {
    "run_id": lambda one: one.id,
    "run_name": lambda one: one.name,
    "status": lambda one: one.status.value,
    "user_id": lambda one: one.user_id,
    "artifact_uri": lambda one: one.artifact_uri,
    "start_time": lambda one: one.start_ms,
    "end_time": lambda one: one.end_ms,
}
MODEL_ATTRIBUTES: Attributes = {
    "name": lambda one: one.name,
    "model_id": lambda one: one.id,
    "model_type": lambda one: one.model_type,
    "status": lambda one: one.status.value.removeprefix("LOGGED_MODEL_"),
    "source_run_id": lambda one: one.source_run_id,
    "creation_timestamp": lambda one: one.created_ms,
    "last_updated_timestamp": lambda one: one.updated_ms,
}
ATTRIBUTES: Mapping[type[Experiment] | type[Run] | type[LoggedModel], Attributes] = {
    Experiment: EXPERIMENT_ATTRIBUTES,
    Run: RUN_ATTRIBUTES,
    LoggedModel: MODEL_ATTRIBUTES,
}
IN_NUMBERS = (
    *("creation_time", "last_update_time"),
    *("start_time", "end_time"),
    *("creation_timestamp", "last_updated_timestamp"),
)


class Clause(NamedTuple):
    """One comparison."""

    entity: str
    key: str
    compare: Callable[[Any, Any], bool]
    value: str | float


def clauses_of(text: str, kind: type[Experiment] | type[Run] | type[LoggedModel]) -> tuple[Clause, ...]:
    """Comparisons of experiments, of runs or of logged models. Raises InvalidInput, saying what there is."""
    if len(text) > MAX_FILTER:
        raise InvalidInput("filter", f"A filter may have {MAX_FILTER:,} characters, this one has {len(text):,}.")
    clauses: list[Clause] = []
    at = 0
    while at < len(text.rstrip()):
        if clauses and not (joining := AND.match(text, at)):
            raise _not_understood(text[at:], kind)
        at = joining.end() if clauses and joining else at
        if not (found := CLAUSE.match(text, at)):
            raise _not_understood(text[at:], kind)
        clauses.append(_clause(found, kind))
        at = found.end()
    if len(clauses) > MAX_CLAUSES:
        raise InvalidInput("filter", f"A filter may have {MAX_CLAUSES} comparisons, this one has {len(clauses)}.")
    return tuple(clauses)


def holds(clause: Clause, whole: Whole) -> bool:
    """Whether something compares so; what it does not have does not, whatever the comparison."""
    value: str | float | None
    match clause.entity:
        case "metrics":
            value = next((metric.value for metric in whole.data.metrics if metric.key == clause.key), None)
        case "params":
            value = whole.data.params.get(clause.key)
        case "tags":
            value = whole.data.tags.get(clause.key)
        case _:
            value = ATTRIBUTES[type(whole.tracked)][clause.key](whole.tracked)
    return value is not None and clause.compare(value, clause.value)


def _clause(found: re.Match[str], kind: type[Experiment] | type[Run] | type[LoggedModel]) -> Clause:
    stated, key, comparator = found["entity"], found["key"].strip('`"'), found["comparator"].upper()
    entity = ENTITIES.get(stated.lower()) if stated else "attributes"
    is_of_experiments = kind is Experiment and entity in ("metrics", "params")
    if entity is None or is_of_experiments or (entity == "attributes" and key not in ATTRIBUTES[kind]):
        raise _not_understood(found[0].strip(), kind)
    is_number = entity == "metrics" or (entity == "attributes" and key in IN_NUMBERS)
    comparators: Mapping[str, Callable[[Any, Any], bool]] = NUMBERS if is_number else TEXTS
    text = found["single"] if found["single"] is not None else found["double"]
    if comparator not in comparators or (text is None) != is_number:
        raise _not_understood(found[0].strip(), kind)
    return Clause(entity, key, comparators[comparator], float(found["number"]) if text is None else text)


def _not_understood(text: str, kind: type[Experiment] | type[Run] | type[LoggedModel]) -> InvalidInput:
    attributes = ", ".join(f"attributes.{name}" for name in ATTRIBUTES[kind])
    more = "tags.key" if kind is Experiment else "params.key, tags.key and metrics.key"
    return InvalidInput(
        "filter",
        f"Invalid clause(s) in filter string: '{shown(text)}'. What can be compared here, joined by AND: {attributes},"
        f" {more}; texts in quotes by =, !=, LIKE and ILIKE, numbers by =, !=, <, <=, > and >=.",
    )
