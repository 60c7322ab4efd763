"""MLflow's protocol: its paths, its requests and answers, its errors. The other modules of this package answer them.

Every path is one `Call`. They are not routes of the gateway, which may have few: two routes take all that comes.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from chalice.app import Response
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from chalicelib.registry.access import Role
from chalicelib.registry.errors import RegistryError, shown
from chalicelib.surface import MethodNotAllowed, Surface, json_response

MAX_BODY_BYTES = 4 * 1024**2
PREFIXES = ("/api", "/ajax-api")
# What the OpenAPI document says of all this.
ABOUT = """MLflow's REST API, so that its clients work here unmodified: below `/api/` and `/ajax-api/`.

Its calls are those of MLflow 3.18 and are not told here one by one: docs/mlflow.md says which there are.
"""
SEE = "See the API docs for more information about request parameters."
# code of ours: MLflow's, with its status. Anything else is a value that breaks a rule.
ERRORS = {
    "malformed_body": ("BAD_REQUEST", 400),
    "unauthenticated": ("UNAUTHENTICATED", 401),
    "forbidden": ("PERMISSION_DENIED", 403),
    "not_found": ("RESOURCE_DOES_NOT_EXIST", 404),
    "no_such_endpoint": ("ENDPOINT_NOT_FOUND", 404),
    "method_not_allowed": ("ENDPOINT_NOT_FOUND", 405),
    "exists": ("RESOURCE_ALREADY_EXISTS", 400),
    "conflict": ("RESOURCE_CONFLICT", 409),
    "in_progress": ("TEMPORARILY_UNAVAILABLE", 503),
    "too_large": ("INVALID_PARAMETER_VALUE", 413),
    "internal": ("INTERNAL_ERROR", 500),
    "not_implemented": ("NOT_IMPLEMENTED", 501),
    "unavailable": ("TEMPORARILY_UNAVAILABLE", 503),
    "outcome_unknown": ("TEMPORARILY_UNAVAILABLE", 503),
    "not_configured": ("TEMPORARILY_UNAVAILABLE", 503),
}
# What MLflow's server has, and this one has not: what a path behind /api/ begins with, and what it is about.
NOT_HERE = {
    r"2\.0/mlflow/webhooks": "webhooks yet",
    r"[23]\.0/mlflow/(traces|genai|review-queues|label-schemas)": "traces",
    r"[23]\.0/mlflow/(assessments|scorers|issues|datasets|evaluation-datasets)": "evaluations",
    r"[23]\.0/mlflow/(gateway|secrets|endpoints|model-definitions|prompt-optimization|budget)": "gateway",
    r"2\.0/mlflow/logged-models/": "such operation on logged models",
    r"2\.0/mlflow/(runs|experiments|metrics)/": "such operation of MLflow's tracking, of which it has the minimum",
    r"[23]\.0/mlflow/(users|permissions|workspaces|roles)": "users of MLflow's: it has tokens (docs/access.md)",
    r"3\.0/mlflow/": "such endpoint of MLflow's version 3",
}
M = TypeVar("M", bound=BaseModel)
Answerer = Callable[..., Response]


class NoSuchEndpoint(RegistryError):
    code = "no_such_endpoint"


class NotImplementedHere(RegistryError):
    code = "not_implemented"


class InvalidParameter(RegistryError):
    code = "invalid_parameter"


class Asked(BaseModel):
    """What a request states. What we do not know of is left alone, as MLflow's servers do; null states nothing."""

    model_config = ConfigDict(defer_build=True, extra="ignore")

    @model_validator(mode="before")
    @classmethod
    def _without_null(cls, stated: Any) -> Any:
        if not isinstance(stated, Mapping):
            return stated
        return {name: value for name, value in stated.items() if value is not None}


@dataclass(frozen=True)
class Call:
    """One way in: `path` is that behind `/api/`, with `{name}` for a part of it, `{name+}` for all the rest.

    `role` is the least that a caller needs.
    """

    method: str
    path: str
    role: Role
    answer: Answerer

    @property
    def name(self) -> str:
        return self.answer.__name__

    def matches(self, path: str) -> Mapping[str, str] | None:
        """The parts of this path that have names; None if it is another."""
        pattern = re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", re.sub(r"{(\w+)\+}", r"(?P<\1>.+)", self.path))
        found = re.fullmatch(pattern, path, re.DOTALL)
        return found.groupdict() if found else None


def answer_error(exc: RegistryError) -> Response:
    """An error as MLflow's server says it; its client acts on `error_code`."""
    code, status = ERRORS.get(exc.code, ("INVALID_PARAMETER_VALUE", 400))
    return json_response({"error_code": code, "message": str(exc)}, status)


class Mlflow(Surface):
    """Answers whatever a client of MLflow asks."""

    def __init__(self) -> None:
        super().__init__(__name__, answer_error)
        self.name, self.about = "mlflow", ABOUT.strip()
        self.calls: list[Call] = []

    def call(self, method: str, path: str, role: Role) -> Callable[[Answerer], Answerer]:
        """Have a function answer a path; it gets the named parts of it."""

        def register(answer: Answerer) -> Answerer:
            self.calls.append(Call(method, path, role, answer))
            return answer

        return register

    def asked(self, shape: type[M]) -> M:
        """What the request states: the JSON body, or the query of a GET, with repeated parameters as lists."""
        try:
            return shape.model_validate(self._stated(shape))
        except ValidationError as exc:
            raise InvalidParameter(f"{_in_words(exc)} {SEE}") from exc

    def _stated(self, shape: type[BaseModel]) -> Mapping[str, Any]:
        if self.current_request.method != "GET":
            return _in_their_names(dict(self.body(AnyObject, MAX_BODY_BYTES).model_extra or {}), shape)
        query = self.current_request.query_params
        given = {name: values for name in query if (values := query.getlist(name))} if query else {}
        lists = {name for name, field in shape.model_fields.items() if "list" in str(field.annotation).lower()}
        return {name: values if name in lists else values[0] for name, values in given.items()}

    def dispatch(self) -> Response:
        """Raises NoSuchEndpoint, MethodNotAllowed and NotImplementedHere, and whatever the call raises."""
        # Here, not above: the modules of the calls would make every cold start longer, whoever asks.
        from chalicelib.surfaces.mlflow import routes  # noqa: F401

        path, method = self.rest_of_path, self.current_request.method
        there = [(call, parts) for call in self.calls if (parts := call.matches(path)) is not None]
        for call, parts in there:
            if call.method == method:
                self.doing(call.name, None)
                self.actor().access.require(call.role)
                return call.answer(**parts)
        if there:
            raise MethodNotAllowed(", ".join(sorted({call.method for call, _ in there})))
        if what := next((what for part, what in NOT_HERE.items() if re.match(part, path)), None):
            raise NotImplementedHere(f"This registry has no {what}; docs/mlflow.md says what there is.")
        raise NoSuchEndpoint(
            f"There is nothing at {method} /api/{shown(path)} here; docs/mlflow.md says what there is."
        )


def _in_their_names(stated: Mapping[str, Any], shape: type[BaseModel]) -> Mapping[str, Any]:
    """What is stated, by the names of the shape: JSON may spell them without underscores, unless they must be there.

    Raises InvalidParameter for what is stated under both names.
    """
    found = dict(stated)
    for name, field in shape.model_fields.items():
        spelled = re.sub("_([a-z])", lambda letter: letter[1].upper(), name)
        if spelled == name or spelled not in stated:
            continue
        if name in stated:
            raise InvalidParameter(f"Request specifies both '{name}' and '{spelled}'; provide only one of them.")
        if not field.is_required():
            found[name] = found.pop(spelled)
    return found


def _in_words(exc: ValidationError) -> str:
    """The first thing that is wrong, as MLflow's server says it."""
    error = exc.errors(include_url=False)[0]
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"]).lstrip(".")
    if error["type"] in ("missing", "empty") or error["input"] is None:
        return f"Missing value for required parameter '{field}'."
    if error["type"] == "value_error":
        return f"Invalid value for parameter '{field}': {error['msg'].removeprefix('Value error, ')}."
    value = shown(json.dumps(error["input"], sort_keys=True, separators=(",", ":"), default=str))
    kind = type(error["input"]).__name__
    return f"Invalid value {value} for parameter '{field}' supplied:  Hint: Value was of type '{kind}'."


def _not_empty(text: str) -> str:
    if not text:
        raise PydanticCustomError("empty", "must not be empty")
    return text


Text = Annotated[str, AfterValidator(_not_empty)]  # a text that must be stated


def _whole(value: Any) -> Any:
    """A number as MLflow's servers read it: a float is one too if it is whole, and so is a text that says one."""
    if isinstance(value, bool) or (isinstance(value, str) and not re.fullmatch(r"[+-]?\d+", value)):
        raise PydanticCustomError("no_number", "must be a number")
    return int(value) if isinstance(value, str) else value


def at_most(limit: int) -> AfterValidator:
    """Refuse more, as one refuses what is of the wrong type."""

    def checked(value: int) -> int:
        if value > limit:
            raise PydanticCustomError("too_many", "must be less")
        return value

    return AfterValidator(checked)


Count = Annotated[int, BeforeValidator(_whole)]


class AnyObject(BaseModel):
    """A JSON object of any content."""

    model_config = ConfigDict(extra="allow")


def answered(body: Any = None) -> Response:
    """A message of MLflow's protocol: what is not set is left out."""
    return json_response(_without_unset(body or {}))


def _without_unset(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_unset(part) for key, part in value.items() if part is not None and part != []}
    if isinstance(value, list | tuple):
        return [_without_unset(part) for part in value]
    return value


mlflow = Mlflow()


def mlflow_call() -> Response:
    return mlflow.dispatch()


for _prefix in PREFIXES:
    mlflow.everything_under(_prefix, Role.VIEWER)(mlflow_call)
