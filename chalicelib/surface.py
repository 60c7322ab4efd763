"""What every HTTP surface shares: parsing of bodies, forms and queries, errors to answers, who asks.

`Surface` is a Chalice Blueprint whose routes never leak an exception: errors of the domain are answered in the
surface's own dialect, anything else is logged whole and answered with a 500 that says nothing. Chalice's middleware
cannot do this, for it sees a view's exception only after Chalice has answered it.
"""

import inspect
import json
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import wraps
from types import MappingProxyType
from typing import Any, TypeVar

import pydantic_core
from chalice.app import Blueprint, Chalice, MultiDict, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from chalicelib import telemetry
from chalicelib.authentication import CHALLENGE
from chalicelib.forms import MAX_PROBLEMS, Form, Unprocessable, UnsupportedMediaType, form_of, problem
from chalicelib.registry.access import Actor, Role
from chalicelib.registry.errors import (
    InProgress,
    NotConfigured,
    RegistryError,
    TooLarge,
    Unauthenticated,
    Unavailable,
    shown,
)
from chalicelib.settings import settings
from chalicelib.wiring import authentication

MAX_PREFIXED_PARAMETERS = 20  # a DynamoDB expression may have 4 KB
MAX_JSON_BYTES = 1024**2
JSON, TEXT = "application/json", "text/plain"
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
# What an answer tells browsers and caches unless its view says otherwise; docs/security.md says why, and why no more.
PROTECTION = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Strict-Transport-Security": "max-age=31536000",
    "X-Content-Type-Options": "nosniff",
}

# Of the request that this thread answers.
_actor: ContextVar[Actor] = ContextVar("actor")
_operation: ContextVar[str] = ContextVar("operation")
_subject: ContextVar[str | None] = ContextVar("subject")

M = TypeVar("M", bound=BaseModel)
View = Callable[..., Response]
Dialect = Callable[[RegistryError], Response]


class UnsupportedKeys(RegistryError):
    code = "unsupported_keys"

    def __init__(self, kind: str, keys: list[str]) -> None:
        named = ", ".join(shown(key) for key in keys[:MAX_PROBLEMS])
        super().__init__(f"{kind}: {named}{', ...' if len(keys) > MAX_PROBLEMS else ''}")


class MethodNotAllowed(RegistryError):
    code = "method_not_allowed"

    def __init__(self, allowed: str) -> None:
        super().__init__(f"Method Not Allowed; allowed are: {allowed}")
        self.allowed = allowed


class MalformedBody(RegistryError):
    code = "malformed_body"


class Shape(BaseModel):
    """What a request or an answer looks like; built on first use, as the models of the domain are."""

    model_config = ConfigDict(defer_build=True)


class Detail(Shape):
    """An error, in words."""

    detail: str


class FieldProblem(Shape):
    """What is wrong with one field: where it is, in words, and as a code."""

    loc: list[str]
    msg: str
    type: str


class FieldProblems(Shape):
    """Every field that is missing or of the wrong type."""

    detail: list[FieldProblem]


class ChangeHeaders(Shape):
    """The precondition of a change."""

    if_match: str | None = Field(
        None,
        alias="If-Match",
        pattern=r'^(\*|"[0-9]{1,12}")$',
        description="The ETag as it was read; the change is made only while it is still that.",
    )


@dataclass(frozen=True)
class Answer:
    """One status that an operation may answer with: what it means, the type of its body by media type, its headers."""

    meaning: str
    content: Mapping[str, Any] = field(default_factory=dict)
    headers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Operation:
    """One way in, as the OpenAPI document tells it.

    `body` is the type of the request body by media type; what is a form carries its fields as text. `query` and
    `headers` name their parameters by alias; `query_prefix` begins those that have any name. `curl` is a command that
    works, with the base URL in `$REGISTRY` and the id of a model in `$ID`. `role` is the least that a caller needs, or
    None, where no token is asked for.
    """

    method: str
    path: str
    view: str
    summary: str
    description: str
    responses: Mapping[int, Answer]
    curl: str
    path_parameters: Mapping[str, Any]
    role: Role | None
    body: Mapping[str, Any] = field(default_factory=dict)
    query: type[BaseModel] | None = None
    query_prefix: str | None = None
    headers: type[BaseModel] | None = None


class Surface(Blueprint):
    """A set of routes that speak one dialect. `path_parameters` are the types of the variables in their paths."""

    def __init__(
        self, import_name: str, dialect: Dialect, path_parameters: Mapping[str, Any] = MappingProxyType({})
    ) -> None:
        super().__init__(import_name)
        self.name = import_name.rpartition(".")[2]
        self.about = (sys.modules[import_name].__doc__ or "").strip()
        self.operations: list[Operation] = []
        self._dialect = dialect
        self._path_parameters = path_parameters

    def operation(
        self,
        method: str,
        path: str,
        *,
        role: Role | None,
        responses: Mapping[int, Answer],
        curl: str,
        **documentation: Any,
    ) -> Callable[[View], View]:
        """Register a view, for callers of this role; None: for everyone.

        `responses` and the rest document it; its docstring is summary and description.
        """

        def register(view: View) -> View:
            summary, _, description = inspect.cleandoc(view.__doc__ or "").partition("\n")
            self.operations.append(
                Operation(
                    method,
                    path,
                    view.__name__,
                    summary,
                    description.strip(),
                    responses,
                    curl,
                    {name: self._path_parameters.get(name, str) for name in re.findall(r"{(\w+)}", path)},
                    role,
                    **documentation,
                )
            )
            self._route(path, [method], view, role)
            return view

        return register

    def everything_under(self, prefix: str, role: Role) -> Callable[[View], View]:
        """Register a view for every path and method under a prefix, for callers of this role at least.

        `rest_of_path` is the path behind the prefix.
        """

        def register(view: View) -> View:
            self._route(f"{prefix}/{{proxy+}}", list(METHODS), view, role)
            return view

        return register

    @property
    def rest_of_path(self) -> str:
        """Decoded; without a slash in front. A path of several slashes in a row arrives with one."""
        return str((self.current_request.uri_params or {}).get("proxy", ""))

    def catch_all(self, view: View) -> View:
        """Register a view for every path that no route has."""
        self._route("/{proxy+}", list(METHODS), view)
        return view

    def register(self, app: Chalice, options: dict[str, Any]) -> None:
        """Called by Chalice. Methods that a path has not are answered as such; the gateway would say 403."""
        for path in {operation.path for operation in self.operations}:
            allowed = [operation.method for operation in self.operations if operation.path == path]
            self._route(path, [method for method in METHODS if method not in allowed], _refusing(allowed))
        super().register(app, options)

    def _route(self, path: str, methods: list[str], view: View, role: Role | None = None) -> None:
        # Any content type, so that a wrong one is answered by us, in words, and not by Chalice.
        answering = self.route(path, methods=methods, name=f"{view.__name__} {path}", content_types=["*/*"])
        answering(self._answering(view, role))

    def actor(self) -> Actor:
        """Who asks, and what they may do."""
        return _actor.get()

    def doing(self, operation: str, subject: str | None) -> None:
        """Have the log call the request this, where one view answers several operations."""
        _operation.set(operation)
        _subject.set(subject)

    def acting(self, **more: Any) -> None:
        """Have this said, too, of who asks: in the log, and in the events of what they do."""
        _actor.set(self.actor().model_copy(update=more))

    def _admit(self, role: Role | None) -> None:
        """Find out who asks. Raises Unauthenticated and Forbidden, and Unavailable if the store cannot tell."""
        request: Request = self.current_request
        identity = request.context.get("identity") or {}
        asking = {
            "request_id": request_id(request),
            "source_ip": identity.get("sourceIp"),
            "user_agent": "".join(filter(str.isprintable, request.headers.get("user-agent") or ""))[:256] or None,
        }
        _actor.set(Actor(**asking))
        if role is not None and settings().access != "open":
            known = authentication()(request.headers.get("authorization"))
            _actor.set(known.model_copy(update=asking))
            known.access.require(role)

    def form(self) -> Form:
        """The submitted form. Raises TooLarge, UnsupportedMediaType, Unprocessable and InvalidInput."""
        return form_of(self._raw_body(), self.current_request.headers.get("content-type") or "")

    def body(self, model: type[M], max_bytes: int = MAX_JSON_BYTES) -> M:
        """The JSON object of the body as this model; an empty body is `{}`.

        Raises TooLarge, UnsupportedMediaType, MalformedBody and Unprocessable.
        """
        body, stated = self._raw_body(), self.current_request.headers.get("content-type") or ""
        if len(body) > max_bytes:
            raise TooLarge(f"A JSON body may have {max_bytes} bytes here, this one has {len(body)}.")
        if body and not re.fullmatch(r"application/([\w.-]+\+)?json", stated.partition(";")[0].strip().lower()):
            raise UnsupportedMediaType(f"The body is {shown(stated) or 'of no stated type'}; send {JSON}.")
        try:
            value = pydantic_core.from_json(body or b"{}", allow_inf_nan=False)
            json.dumps(value, allow_nan=False)  # a number beyond all floats became infinite
        except ValueError as exc:
            raise MalformedBody(f"The body is not JSON: {shown(str(exc))}.") from exc
        if not isinstance(value, dict):
            raise MalformedBody("The body must be a JSON object, {...}.")
        return parsed(model, value, "body")

    def stated_revision(self) -> int | None:
        """The revision in If-Match; None without the header or for `*`. Raises Unprocessable for no ETag of ours."""
        stated = self.current_request.headers.get("if-match")
        if stated in (None, "*"):
            return None
        if not (tag := re.fullmatch(r'"([0-9]{1,12})"', stated)):
            raise Unprocessable(
                [problem(["header", "If-Match"], 'expected the ETag as it was read: "3"', "value_error")]
            )
        return int(tag[1])

    def _raw_body(self) -> bytes:
        body = self.current_request.raw_body or b""
        return body.encode(errors="surrogatepass") if isinstance(body, str) else body

    def query(self, known: type[BaseModel], prefix: str | None = None) -> dict[str, str]:
        """The query parameters. Raises UnsupportedKeys and, for repeated or empty ones, Unprocessable."""
        parameters = self.current_request.query_params or MultiDict({})
        given = {name: parameters.getlist(name) for name in parameters}
        accepted = {info.alias or name for name, info in known.model_fields.items()}
        unknown = [
            name
            for name in given
            if name not in accepted and not (prefix and name.startswith(prefix) and not CONTROL.search(name))
        ]
        if unknown:
            raise UnsupportedKeys("Invalid query parameter(s)", unknown)
        problems = [
            problem(["query", name], "must be given once, with a value in UTF-8", "value_error")
            for name, values in given.items()
            if len(values) != 1 or not values[0] or not is_text(values[0])
        ]
        if prefix and sum(name.startswith(prefix) for name in given) > MAX_PREFIXED_PARAMETERS:
            problems.append(problem(["query", prefix], f"at most {MAX_PREFIXED_PARAMETERS} can be given", "too_many"))
        if problems:
            raise Unprocessable(problems)
        return {name: values[0] for name, values in given.items()}

    def _answering(self, view: View, role: Role | None) -> View:
        """The view with errors answered, the request logged and counted, and the headers that every answer has."""

        @wraps(view)
        def answer(**parameters: str) -> Response:
            started = time.perf_counter()
            request: Request = self.current_request
            outcome, reason = "ok", None
            self.doing(view.__name__, next(iter(parameters.values()), None))
            try:
                self._admit(role)
                response = view(**parameters)
            except RegistryError as exc:
                outcome, reason = exc.code, str(exc)
                response = self._dialect(exc)
                if isinstance(exc, Unauthenticated):
                    response.headers["WWW-Authenticate"] = CHALLENGE
                if isinstance(exc, MethodNotAllowed):
                    response.headers["Allow"] = exc.allowed
                if isinstance(exc, InProgress):
                    response.headers["Retry-After"] = str(exc.retry_after_seconds)
                if isinstance(exc, Unavailable) and not isinstance(exc, NotConfigured):
                    response.headers["Retry-After"] = str(exc.retry_after_seconds)
                    telemetry.unavailable_line(exc, request_id(request))
            except Exception as exc:
                # The last line of defence, for bugs: Chalice would answer with the exception's text.
                outcome = "internal"
                response = self._dialect(RegistryError("Internal server error."))
                telemetry.bug_line(exc, request_id(request))
            response.headers["X-Request-Id"] = request_id(request)
            for name, value in PROTECTION.items():
                response.headers.setdefault(name, value)
            telemetry.request_line(
                operation=_operation.get(),
                method=request.method,
                subject=_subject.get(),
                actor=self.actor(),
                outcome=outcome,
                reason=reason,
                status=response.status_code,
                latency_ms=(time.perf_counter() - started) * 1000,
            )
            return response

        return answer


def _refusing(allowed: list[str]) -> View:
    def method_not_allowed(**_: str) -> Response:
        raise MethodNotAllowed(", ".join(sorted(allowed)))

    return method_not_allowed


def is_text(text: str) -> bool:
    """Whether it can be stored and sent: bytes that were no UTF-8 may arrive as lone surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def request_id(request: Request) -> str:
    return str(request.context.get("requestId", "-"))


def parsed(model: type[M], values: Mapping[str, Any], location: str, problems: Sequence[dict[str, Any]] = ()) -> M:
    """The values as this model. Raises Unprocessable with every problem at once, those known before included."""
    try:
        result = model.model_validate(values)
    except ValidationError as exc:
        raise Unprocessable([*_problems_of(exc, location), *problems]) from exc
    if problems:
        raise Unprocessable(list(problems))
    return result


def _problems_of(exc: ValidationError, location: str) -> list[dict[str, Any]]:
    """The errors of a pydantic model as entries of Unprocessable; the input is not repeated."""
    return [
        problem([location, *map(str, error["loc"])], error["msg"].removeprefix("Value error, "), error["type"])
        for error in exc.errors(include_url=False, include_input=False, include_context=False)
    ]


def json_response(body: Any, status: int = 200, **headers: str) -> Response:
    return Response(
        json.dumps(body, ensure_ascii=False, separators=(",", ":")),
        status_code=status,
        headers={"Content-Type": "application/json", **headers},
    )


def text_response(body: str, status: int = 200, **headers: str) -> Response:
    return Response(body, status_code=status, headers={"Content-Type": "text/plain; charset=utf-8", **headers})
