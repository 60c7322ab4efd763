"""What may be tracked: keys, values, names and how many at once, as MLflow has it, in its words. Pure.

A value of a parameter, or of a tag of a run, that is too long is cut, as MLflow's servers do unless they are told
otherwise; of an experiment it is refused.
"""

import json
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence

from chalicelib.registry.errors import InvalidInput, shown
from chalicelib.registry.tracking import ID, Dataset, Metric

MAX_KEY, MAX_PARAM, MAX_TAG, MAX_EXPERIMENT_TAG, MAX_NAME = 250, 6_000, 8_000, 20_000, 500
MAX_RUN_NAME = MAX_TAG  # it is a tag, too
MAX_ENTITIES, MAX_PARAMS_OR_TAGS = 1_000, 100
MAX_DATASET_NAME, MAX_DATASET_DIGEST = 500, 36
MAX_REFERENCES = 1_000  # to models, of one request
NOT_IN_MODEL_NAMES = ("/", ":", ".", "%", '"', "'")
KEY = re.compile(r"[/\w.\- :]*")


def checked_key(key: str, path: str = "key", what: str = "key") -> str:
    """The key of a parameter, a tag or a metric. Raises InvalidInput."""
    problem = None
    if not KEY.fullmatch(key):
        problem = (
            "Names may only contain alphanumerics, underscores (_), dashes (-), periods (.), spaces ( ), colon(:) and"
            " slashes (/)."
        )
    elif (normal := posixpath.normpath(key)) != key or normal == "." or normal.startswith(("..", "/")):
        problem = (
            "Names may be treated as files in certain cases, and must not resolve to other names when treated as such."
            f" This name would resolve to {normal[:MAX_KEY]!r}"
        )
    if problem:
        told = json.dumps(key[:MAX_KEY], ensure_ascii=False)
        raise InvalidInput(path, f"Invalid value {told} for parameter '{path}' supplied: {problem}")
    return _short_enough(key, MAX_KEY, what)


def checked_params(params: Mapping[str, str], path: str = "params") -> Mapping[str, str]:
    """Parameters, as they are kept. Raises InvalidInput."""
    return {
        checked_key(key, _path(path, at, "key"), "Param key"): value[:MAX_PARAM]
        for at, (key, value) in enumerate(params.items())
    }


def checked_tags(tags: Mapping[str, str], path: str = "tags") -> Mapping[str, str]:
    """Tags of a run or a logged model, as they are kept. Raises InvalidInput."""
    return {
        checked_key(key, where := _path(path, at, "key"), where): value[:MAX_TAG]
        for at, (key, value) in enumerate(tags.items())
    }


def checked_experiment_tags(tags: Mapping[str, str]) -> Mapping[str, str]:
    """Raises InvalidInput."""
    return {checked_key(key): _short_enough(value, MAX_EXPERIMENT_TAG, "value") for key, value in tags.items()}


def checked_metrics(metrics: Sequence[Metric]) -> Sequence[Metric]:
    """Raises InvalidInput."""
    for at, metric in enumerate(metrics):
        path = "" if len(metrics) == 1 else f"metrics[{at}]."
        checked_key(metric.key, f"{path}name", "Metric name")
        if metric.timestamp < 0:
            raise InvalidInput(
                "timestamp",
                f"Invalid value {metric.timestamp} for parameter '{path}timestamp' supplied: metric '{metric.key}'"
                f" (value={metric.value}). Timestamp must be a nonnegative long (64-bit integer) ",
            )
        if metric.model_id is not None and not ID.fullmatch(metric.model_id):
            raise InvalidInput("model_id", f"Logged model with ID '{shown(metric.model_id)}' not found.")
        _short_enough(metric.dataset_name or "", MAX_DATASET_NAME, "dataset_name")
        _short_enough(metric.dataset_digest or "", MAX_DATASET_DIGEST, "dataset_digest")
    return metrics


def check_batch(metrics: Sequence[Metric], params: Sequence[object], tags: Sequence[object]) -> None:
    """Whether these are not too many for one request. Raises InvalidInput."""
    for what, count, limit in (
        ("metrics", len(metrics), MAX_ENTITIES),
        ("params", len(params), MAX_PARAMS_OR_TAGS),
        ("tags", len(tags), MAX_PARAMS_OR_TAGS),
        ("metrics, params, and tags", len(metrics) + len(params) + len(tags), MAX_ENTITIES),
    ):
        if count > limit:
            raise InvalidInput(
                "batch",
                f"A batch logging request can contain at most {limit} {what}. Got {count} {what}."
                f" Please split up {what} across multiple requests and try again.",
            )


def each_once(stated: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Parameters by their keys. Raises InvalidInput if one is stated twice."""
    keys = [key for key, _ in stated]
    if twice := [key for at, key in enumerate(keys) if key in keys[:at]]:
        told = [shown(key) for key in twice[:MAX_PARAMS_OR_TAGS]]
        raise InvalidInput(
            "params",
            f"Duplicate parameter keys have been submitted: {told}. Please ensure the request contains only one param"
            " value per param key.",
        )
    return dict(stated)


def checked_experiment_name(name: str) -> str:
    """Raises InvalidInput."""
    if not name.strip():
        raise InvalidInput("name", f"Invalid experiment name: '{shown(name)}'")
    return _short_enough(name, MAX_NAME, "name")


def checked_run_name(name: str) -> str:
    """Raises InvalidInput."""
    return _short_enough(name, MAX_RUN_NAME, "run_name")


def checked_model_name(name: str) -> str:
    """Of a logged model; empty if it is to be made up. Raises InvalidInput."""
    if any(character in name for character in NOT_IN_MODEL_NAMES):
        raise InvalidInput(
            "name",
            f"Invalid model name ({shown(name)!r}) provided. Model name must be a non-empty string and cannot contain"
            f" the following characters: {NOT_IN_MODEL_NAMES}",
        )
    return _short_enough(name, MAX_NAME, "name")


def checked_label(text: str, what: str) -> str:
    """What says something in a word: a type, a user, the id of a run. Raises InvalidInput."""
    return _short_enough(text, MAX_NAME, what)


def checked_references(model_ids: Iterable[str]) -> Sequence[str]:
    """The ids of logged models that a run names, each once; whether they are there is not looked at.

    Raises InvalidInput.
    """
    named = list(dict.fromkeys(model_ids))
    if len(named) > MAX_REFERENCES:
        raise InvalidInput("models", f"At most {MAX_REFERENCES:,} models can be named at once, got {len(named):,}.")
    for model_id in named:
        if not ID.fullmatch(model_id):
            raise InvalidInput("model_id", f"'{shown(model_id)}' is no id of a logged model.")
    return named


def checked_datasets(datasets: Sequence[Dataset]) -> Sequence[Dataset]:
    """Raises InvalidInput."""
    if len(datasets) > MAX_REFERENCES:
        raise InvalidInput("datasets", f"At most {MAX_REFERENCES:,} datasets can be logged at once.")
    for one in datasets:
        _short_enough(one.name, MAX_DATASET_NAME, "name")
        _short_enough(one.digest, MAX_DATASET_DIGEST, "digest")
    return datasets


def _path(path: str, at: int, last: str) -> str:
    """Where a value stands in a request; without a path the request has only one."""
    return f"{path}[{at}].{last}" if path else last


def _short_enough(text: str, limit: int, what: str) -> str:
    if len(text) > limit:
        raise InvalidInput(what, f"'{what}' exceeds the maximum length of {limit} characters")
    return text
