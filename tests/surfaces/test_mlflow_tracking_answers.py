"""What a client is answered while it tracks, held to what MLflow's own server answers (golden/mlflow_tracking.json)."""

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.mlflow_calls import Answer, call
from tests.surfaces.conftest import Service

GOLDEN = Path(__file__).parent / "golden/mlflow_tracking.json"
TIMES = ("creation_time", "last_update_time", "creation_timestamp_ms", "last_updated_timestamp_ms")
# Of MLflow's answers: what only its own workspaces and error classes have, and tokens, which are anybody's own.
LEFT_OUT = ("workspace", "sqlstate", "error_class")
EXISTS, INVALID, ABSENT = "RESOURCE_ALREADY_EXISTS", "INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST"
# What is answered otherwise, and with what: status, the code of the error, and a part of the answer.
DIFFERENT = {
    # Without the words of a database.
    "a name that is taken": (400, EXISTS, "Experiment(name=trial) already exists."),
    "a name that everybody has": (400, EXISTS, "Experiment(name=Default) already exists."),
    "its name is taken": (400, EXISTS, "Experiment(name=second) already exists."),
    # It says which one, too.
    "files above the run": (400, INVALID, "Invalid path: '../x'"),
    # What is the caller's mistake is no fault of the server.
    "it cannot be renamed": (400, INVALID, "Cannot rename a non-active experiment."),
    "a run without an experiment": (200, None, '"experiment_id": "0"'),
    "the history of no run": (404, ABSENT, "not found"),
    # What is not understood is refused, not passed over.
    "a status that is none": (400, INVALID, "DONE"),
    "a status of a model that is none": (400, INVALID, "DONE"),
    # What can be compared here is less, and is told.
    "by what there is not": (400, INVALID, "What can be compared here"),
    "runs by what there is not": (400, INVALID, "What can be compared here"),
    # What is infinite stays so.
    "the run with long values": (200, None, '"value": "Infinity"'),
}


def test_answers_are_those_of_mlflow(service: Service) -> None:
    known: dict[str, str] = {}
    wrong = {}

    for step in golden()["steps"]:
        answer = asked(step, known)
        ours, theirs = told(answer.status, answer.body, known), told(step["status"], step["body"], golden()["known"])
        if step["name"] in DIFFERENT:
            status, code, part = DIFFERENT[step["name"]]
            assert (answer.status, answer.body.get("error_code")) == (status, code)
            assert part in json.dumps(answer.body)
        elif ours != theirs:
            wrong[step["name"]] = (ours, theirs)

    assert wrong == {}


def test_nothing_is_said_to_differ_that_does_not() -> None:
    assert DIFFERENT.keys() <= {step["name"] for step in golden()["steps"]}


@cache
def golden() -> dict[str, Any]:
    return dict(json.loads(GOLDEN.read_text()))


def asked(step: Mapping[str, Any], known: dict[str, str]) -> Answer:
    path, stated = filled(f"/api/2.0/mlflow/{step['path']}", known), filled(step["stated"], known)
    is_query = step["method"] == "GET"
    answer = call("GET", f"{path}?{urlencode(stated)}") if is_query else call(step["method"], path, stated)
    for name, where in step["captured"].items():
        found = answer.body
        for part in where.split("."):
            found = found[part]
        known[name] = found
    return answer


def filled(value: Any, known: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: filled(part, known) for key, part in value.items()}
    if isinstance(value, list):
        return [filled(part, known) for part in value]
    if isinstance(value, str):
        for name, found in known.items():
            value = value.replace(f"{{{name}}}", found)
    return value


def told(status: int, body: Any, known: Mapping[str, str]) -> Any:
    """An answer with names for what is another each time, and lists of tags and the like in order of their keys."""
    text = json.dumps(body)
    for name, found in sorted(known.items(), key=lambda item: -len(item[1])):
        text = re.sub(
            rf"(?:(?<=[\"/'=])|(?<=id )|(?<=experiment )|(?<=run )){found}(?=[\"/' ,.)])", f"{{{name}}}", text
        )
    return status, settled(json.loads(text))


def settled(value: Any) -> Any:
    if isinstance(value, list):
        parts = [settled(part) for part in value]
        name = next((name for name in ("key", "dataset") if all(name in part for part in parts)), None)
        return sorted(parts, key=lambda part: json.dumps(part[name], sort_keys=True)) if name else parts
    if not isinstance(value, dict):
        return value
    kept = {key: settled(part) for key, part in value.items() if key not in LEFT_OUT}
    kept |= {key: "{time}" for key in TIMES if key in kept}
    if "next_page_token" in kept:
        kept["next_page_token"] = "{token}"
    return kept
