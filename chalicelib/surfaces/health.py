"""`/health`, and answers for whatever is not there, in the dialect of its prefix."""

from typing import Literal

from chalice.app import Response
from pydantic import Field

from chalicelib.problems import problem_response
from chalicelib.registry.errors import Unavailable, shown
from chalicelib.surface import JSON, Answer, Shape, Surface, json_response, parsed
from chalicelib.surfaces.models import BAD_QUERY, answer_error
from chalicelib.wiring import registry

health = Surface(__name__, answer_error)
REST_PREFIXES = ("health", "models", "projects")


class HealthQuery(Shape):
    deep: bool = Field(False, description="Ask the table and the bucket too.")


class Health(Shape):
    """The registry works."""

    status: Literal["ok"]


class Outage(Shape):
    """What the registry cannot reach."""

    status: Literal["unavailable"]
    down: list[Literal["table", "bucket"]]


@health.operation(
    "GET",
    "/health",
    query=HealthQuery,
    role=None,
    responses={
        200: Answer("It works", {JSON: Health}),
        422: BAD_QUERY,
        503: Answer("What is down", {JSON: Outage}, ("Retry-After",)),
    },
    curl='curl "$REGISTRY/health?deep=true"',
)
def get_health() -> Response:
    """Tell whether the registry works"""
    query = parsed(HealthQuery, health.query(HealthQuery), "query")
    down = what_is_down() if query.deep else []
    if down:
        return json_response({"status": "unavailable", "down": down}, 503, **{"Retry-After": "5"})
    return json_response({"status": "ok"})


def what_is_down() -> list[str]:
    down = []
    for name, store in (("table", registry().catalog), ("bucket", registry().blobs)):
        try:
            store.ping()
        except Unavailable:
            down.append(name)
    return down


@health.catch_all
def unknown_route() -> Response:
    """Anything that is not there"""
    path = (health.current_request.uri_params or {}).get("proxy", "")
    message = f"There is nothing at /{shown(path)}; see /docs for what there is."
    if path.split("/")[0] in REST_PREFIXES:
        return json_response({"detail": "Not Found"}, 404)
    return problem_response(404, "Not Found", "not_found", message)
