"""In what our answers differ from those of MLflow's own server, each with the reason. All else must be equal.

`docs/mlflow.md` tells those that a user may notice.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.mlflow.pair import TIMES, Answer, Ask

CLEAR = (400, 404, 405)
Is = Callable[[Ask, Answer, Answer], bool]


@dataclass(frozen=True)
class Difference:
    """One way to differ. `is_this` gets the request, their answer and ours."""

    reason: str
    is_this: Is

    def __str__(self) -> str:
        return self.reason


def same_error(theirs: Answer, ours: Answer) -> bool:
    """Whether only the words differ."""
    return (theirs.status, theirs.code) == (ours.status, ours.code)


def said(answer: Answer, *parts: str) -> bool:
    return any(part in answer.message for part in parts)


def stated_texts(value: Any) -> list[Any]:
    """The keys and values of all tags that are stated."""
    tags = value if isinstance(value, list) else []
    return [part for tag in tags for part in (tag.values() if isinstance(tag, dict) else [tag])]


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_times(part) for name, part in value.items() if not TIMES.fullmatch(name)}
    return [without_times(part) for part in value] if isinstance(value, list) else value


def without_flags(value: Any) -> Any:
    return (
        {name: part for name, part in value.items() if name != "status_message"} if isinstance(value, dict) else value
    )


def is_the_same_but_for_times(ask: Ask, theirs: Answer, ours: Answer) -> bool:
    return theirs.status == ours.status == 200 and without_times(theirs.body) == without_times(ours.body)


def changes_nothing(ask: Ask) -> bool:
    is_same_name = ask.path.endswith("/rename") and ask.stated.get("name") == ask.stated.get("new_name")
    return is_same_name or ask.path.endswith("/update")


def source(ask: Ask) -> str:
    stated = ask.stated.get("source", "")
    return stated if isinstance(stated, str) and ask.path.endswith("model-versions/create") else ""


DIFFERENCES = [
    Difference(
        "Faults of theirs, answered with 500, are clear errors here",
        lambda ask, theirs, ours: theirs.status == 500 and ours.status in CLEAR and ours.code != "",
    ),
    Difference(
        "What is no path or method of theirs is a page for people there, and an error of the protocol here",
        lambda ask, theirs, ours: (
            theirs.status == ours.status and ours.code == "ENDPOINT_NOT_FOUND" and not theirs.code
        ),
    ),
    Difference(
        "A max_results below 1 finds nothing there, and has a token that leads nowhere; here it is refused",
        lambda ask, theirs, ours: theirs.status == 200 and said(ours, "It must be a positive integer"),
    ),
    Difference(
        "Page tokens are of another form, so another thing may be wrong with them",
        lambda ask, theirs, ours: same_error(theirs, ours) and said(theirs, "page token") and said(ours, "page token"),
    ),
    Difference(
        "A page token of theirs is none of ours",
        lambda ask, theirs, ours: ask.stated.get("page_token") == "eyJvZmZzZXQiOiAxfQ==" and said(ours, "page token"),
    ),
    Difference(
        "Their error ends with what their database said",
        lambda ask, theirs, ours: same_error(theirs, ours) and theirs.message.startswith(f"{ours.message} Error: "),
    ),
    Difference(
        "They tell the keys that are valid in no certain order",
        lambda ask, theirs, ours: (
            same_error(theirs, ours)
            and said(theirs, "Valid keys are")
            and sorted(theirs.message.replace("'", "")) == sorted(ours.message.replace("'", ""))
        ),
    ),
    Difference(
        "A body that is no JSON object states nothing there; here it is refused as such",
        lambda ask, theirs, ours: ask.raw is not None and ours.code == "BAD_REQUEST",
    ),
    Difference(
        "Tags that are no texts lose what they say there, or their keys; here they are refused",
        lambda ask, theirs, ours: (
            (
                any(not isinstance(text, str) for text in stated_texts(ask.stated.get("tags")))
                or any(not isinstance(tag, dict) for tag in ask.stated.get("tags") or [])
            )
            and ours.code == "INVALID_PARAMETER_VALUE"
        ),
    ),
    Difference(
        "A field that we do not know of may be stated twice",
        lambda ask, theirs, ours: said(theirs, "Request specifies both 'deployment_job_id'"),
    ),
    Difference(
        "Names and keys of tags have at most 256 characters, no control characters, and are not blank",
        lambda ask, theirs, ours: (
            theirs.status == 200
            and said(ours, "must not be blank", "must not contain control characters", "at most 256 characters")
        ),
    ),
    Difference(
        "What changes nothing is no change: no time is that of it",
        lambda ask, theirs, ours: changes_nothing(ask) and is_the_same_but_for_times(ask, theirs, ours),
    ),
    Difference(
        "Their server refuses what is at other hosts, for it would go there; ours never does, and takes it",
        lambda ask, theirs, ours: said(theirs, "addresses a host other than"),
    ),
    Difference(
        "A version that is known elsewhere only says so",
        lambda ask, theirs, ours: (
            theirs.status == ours.status == 200
            and "status_message" in ours.body.get("model_version", {})
            and theirs.body["model_version"] == without_flags(ours.body["model_version"])
        ),
    ),
    Difference(
        "A logged model that is not known is a fault there, or an error; here it is taken to be known elsewhere",
        lambda ask, theirs, ours: (
            bool(ask.stated.get("model_id")) and theirs.status in (404, 500) and ours.status == 200
        ),
    ),
    Difference(
        "Local paths of Windows are local paths",
        lambda ask, theirs, ours: source(ask)[1:2] == ":" and said(ours, "To use a local path"),
    ),
]


def difference(ask: Ask, theirs: Answer, ours: Answer) -> Difference | None:
    """The known way in which these answers differ."""
    return next((one for one in DIFFERENCES if one.is_this(ask, theirs, ours)), None)
