"""Names, numbers, tags, aliases and stages as MLflow has them: what it refuses, and in which words."""

import json
import posixpath
import re
from typing import get_args

from chalicelib.registry.models import MAX_TAG_CHARACTERS, Stage
from chalicelib.surfaces.mlflow.protocol import InvalidParameter

MAX_TAG_KEY, MAX_ALIAS = 250, 255
NO_STAGE = "None"
STAGES: dict[str, Stage | None] = {"none": None, **{stage.lower(): stage for stage in get_args(Stage)}}
KEY = re.compile(r"[/\w.\- :]*")


def valid_name(name: str, parameter: str = "name") -> str:
    """The name of a registered model. Raises InvalidParameter."""
    if not name.strip():
        raise InvalidParameter(f"Missing value for required parameter '{parameter}'.")
    if "/" in name or ":" in name:
        raise InvalidParameter(f"Invalid model name '{name}'. Names cannot contain '/' or ':'.")
    if _resolves_elsewhere(name):
        raise InvalidParameter(_not_a_path("name", name))
    return name


def number_of(version: str) -> int:
    """The number of a version, which there may not be. Raises InvalidParameter."""
    try:
        return int(version)
    except ValueError:
        raise InvalidParameter(f"Parameter 'version' must be an integer, got '{version}'.") from None


def valid_key(key: str) -> str:
    """The key of a tag to be set. Raises InvalidParameter."""
    if len(asked_key(key)) > MAX_TAG_KEY:
        raise InvalidParameter(f"'key' exceeds the maximum length of {MAX_TAG_KEY} characters")
    return key


def asked_key(key: str) -> str:
    """The key of a tag that is there or not. Raises InvalidParameter."""
    if not KEY.fullmatch(key):
        raise InvalidParameter(
            f"Invalid value {json.dumps(key)} for parameter 'key' supplied: Names may only contain alphanumerics,"
            " underscores (_), dashes (-), periods (.), spaces ( ), colon(:) and slashes (/)."
        )
    if _resolves_elsewhere(key):
        raise InvalidParameter(_not_a_path("key", key))
    return key


def valid_value(value: str) -> str:
    """The value of a tag. Raises InvalidParameter."""
    if len(value) > MAX_TAG_CHARACTERS:
        raise InvalidParameter(f"'value' exceeds the maximum length of {MAX_TAG_CHARACTERS} characters")
    return value


def valid_alias(alias: str, is_set: bool = False) -> str:
    """An alias, which may be set or only asked for. Raises InvalidParameter."""
    if not re.fullmatch(r"[\w-]*", alias):
        allowed = "Names may only contain alphanumerics, underscores (_), and dashes (-)."
        raise InvalidParameter(f"Invalid alias name: '{alias}'. {allowed}")
    if len(alias) > MAX_ALIAS:
        raise InvalidParameter(f"'Registered model alias name' exceeds the maximum length of {MAX_ALIAS} characters")
    if is_set and alias.lower() == "latest":
        raise InvalidParameter("'latest' alias name (case insensitive) is reserved.")
    if is_set and re.fullmatch(r"v\d+", alias, re.IGNORECASE):
        raise InvalidParameter(f"Version alias name '{alias}' is reserved.")
    return alias


def stage_of(stated: str) -> Stage | None:
    """Raises InvalidParameter for what is no stage."""
    if stated.lower() not in STAGES:
        known = ", ".join([NO_STAGE, *get_args(Stage)])
        raise InvalidParameter(f"Invalid Model Version stage: {stated}. Value must be one of {known}.")
    return STAGES[stated.lower()]


def _resolves_elsewhere(name: str) -> bool:
    """Whether it would be another name if it were a path."""
    normal = posixpath.normpath(name)
    return normal != name or normal == "." or normal.startswith(("..", "/"))


def _not_a_path(parameter: str, name: str) -> str:
    return (
        f"Invalid value {json.dumps(name)} for parameter '{parameter}' supplied: Names may be treated as files in"
        " certain cases, and must not resolve to other names when treated as such. This name would resolve to"
        f" {posixpath.normpath(name)!r}"
    )
