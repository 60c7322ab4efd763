"""`/registered-models`: what all versions of one name in one project share: description, tags, aliases, the latest."""

import re
from collections.abc import Sequence
from typing import Annotated, Any

from chalice.app import Response
from pydantic import ConfigDict, Field, model_validator

from chalicelib.paging import fitting, next_link, page_token, position_of
from chalicelib.problems import answer_problem, problem_answer
from chalicelib.registry.access import Role
from chalicelib.registry.models import ModelVersion, time_text
from chalicelib.registry.registered_models import MAX_NUMBER, RegisteredModel, RegisteredModelChanges
from chalicelib.surface import JSON, Answer, ChangeHeaders, Shape, Surface, json_response, parsed
from chalicelib.surfaces.model_fields import ModelOut
from chalicelib.wiring import registry

MAX_NAME = 600  # a project's, a dot, a name's, and what tells two of the same apart
MAX_LIMIT, DEFAULT_LIMIT = 1000, 100
VERSIONS_READ = 100  # at once; the largest of them fit in an answer
LISTED, NUMBER = re.compile(r"[^\0]{1,1200}", re.DOTALL), re.compile(r"[1-9][0-9]{0,9}")

registered_models = Surface(__name__, answer_problem)
NO_SUCH_NAME = problem_answer("No registered model of this name")
TRY_AGAIN = problem_answer("Try again later", "Retry-After")


class RegisteredModelOut(Shape):
    """What the versions of one name share. Dates are UTC."""

    name: str = Field(description="Under which it is found; inside a project, with the project's name in front.")
    registered_model_id: str
    model_name: str
    project_id: str | None
    project_name: str | None
    description: str | None
    tags: dict[str, str]
    aliases: dict[str, int] = Field(description="The number of the version that each names.")
    revision: int = Field(description="Grows with each change of it; the ETag.")
    created_at: str
    updated_at: str
    latest: ModelOut | None = Field(None, description="The version with the highest number. Only asked for by name.")
    versions: list[ModelOut] | None = Field(None, description="Highest number first. Only asked for by name.")

    @classmethod
    def of(cls, model: RegisteredModel, **more: Any) -> "RegisteredModelOut":
        return cls(
            name=model.exposed_name,
            registered_model_id=model.rm_id,
            model_name=model.name,
            created_at=time_text(model.created_at),
            updated_at=time_text(model.updated_at),
            **model.model_dump(include={"project_id", "project_name", "description", "tags", "aliases", "revision"}),
            **more,
        )


class RegisteredModelsQuery(Shape):
    """How `GET /registered-models` may be asked. alias, number and version narrow the versions of one name."""

    name: str | None = Field(None, max_length=MAX_NAME, description="exact: one registered model, with its versions")
    alias: str | None = Field(None, max_length=255, description="only the version that this alias names")
    number: int | None = Field(None, ge=1, le=MAX_NUMBER, description="only the version of this number")
    version: str | None = Field(None, description="only versions of this label, exact")
    limit: int = Field(DEFAULT_LIMIT, ge=1, le=MAX_LIMIT, description="on a page, at most; of versions 100 at most")
    page_token: str | None = Field(None, description="from the Link header of the page before")

    @model_validator(mode="after")
    def _narrowed_once_and_by_name(self) -> "RegisteredModelsQuery":
        narrowed = [field for field in ("alias", "number", "version") if getattr(self, field) is not None]
        if narrowed and self.name is None:
            raise ValueError(f"{narrowed[0]} needs a name")
        if len(narrowed) > 1:
            raise ValueError("give one of alias, number and version")
        return self


class ChangedRegisteredModel(RegisteredModelChanges):
    """What changes; what is left out stays. A tag or an alias of null is taken away."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    name: Annotated[str, Field(min_length=1, max_length=MAX_NAME, description="Under which it is found.")]


@registered_models.operation(
    "GET",
    "/registered-models",
    query=RegisteredModelsQuery,
    role=Role.VIEWER,
    responses={
        200: Answer(
            "By name, one; else all, in order of their names",
            {JSON: RegisteredModelOut | list[RegisteredModelOut]},
            ("Link", "ETag"),
        ),
        404: NO_SUCH_NAME,
        422: problem_answer("A query parameter is unknown, repeated, empty or wrong"),
        503: TRY_AGAIN,
    },
    curl='curl "$REGISTRY/registered-models"',
)
def get_registered_models() -> Response:
    """List registered models, or get one by its name

    By name it has its versions, highest number first, and the latest. A page of versions of one label may be empty and
    still announce another by its `Link` header.
    """
    given = registered_models.query(RegisteredModelsQuery)
    query = parsed(RegisteredModelsQuery, given, "query")
    return one_by_name(query, given) if query.name is not None else all_of_them(query, given)


def all_of_them(query: RegisteredModelsQuery, given: dict[str, str]) -> Response:
    asked = RegisteredModelsQuery()
    after = position_of(query.page_token, asked, LISTED) if query.page_token else None
    found, go_on = registry().catalog.registered_models.page(query.limit, after, registered_models.actor().access)
    count = fitting([model for _, model in found])
    go_on = found[count - 1][0] if count < len(found) else go_on
    headers = {}
    if go_on:
        token = page_token(go_on, asked)
        headers["Link"] = next_link("/registered-models", {**given, "page_token": token})
    shown = [
        RegisteredModelOut.of(model).model_dump(mode="json", exclude={"latest", "versions"})
        for _, model in found[:count]
    ]
    return json_response(shown, 200, **headers)


def one_by_name(query: RegisteredModelsQuery, given: dict[str, str]) -> Response:
    asked = query.model_copy(update={"limit": DEFAULT_LIMIT, "page_token": None})
    below = int(position_of(query.page_token, asked, NUMBER)) if query.page_token else None
    model = registry().registered_model(query.name or "", registered_models.actor())
    versions, go_on = versions_of(model, query, below)
    shown = RegisteredModelOut.of(
        model, latest=latest_of(model), versions=[ModelOut.of(version) for version in versions]
    )
    headers = {"ETag": f'"{model.revision}"'}
    if go_on:
        headers["Link"] = next_link("/registered-models", {**given, "page_token": page_token(str(go_on), asked)})
    return json_response(shown.model_dump(mode="json"), 200, **headers)


def latest_of(model: RegisteredModel) -> ModelOut | None:
    newest = members_of(model, registry().catalog.registered_models.numbers(model.rm_id, 1))
    return ModelOut.of(newest[0]) if newest else None


def versions_of(
    model: RegisteredModel, query: RegisteredModelsQuery, below: int | None
) -> tuple[list[ModelVersion], int | None]:
    """A page of versions, and the number below which to go on, if there are more."""
    catalog = registry().catalog
    number = model.aliases.get(query.alias, 0) if query.alias is not None else query.number
    if number is not None:
        model_id = catalog.registered_models.numbered(model.rm_id, number)
        return members_of(model, [(number, model_id)] if model_id else []), None
    limit = min(query.limit, VERSIONS_READ)
    numbers = catalog.registered_models.numbers(model.rm_id, limit + 1, below)
    found = members_of(model, numbers[:limit])
    wanted = [version for version in found if query.version in (None, version.version)]
    count = fitting(wanted)
    if count < len(wanted):
        return wanted[:count], wanted[count - 1].number
    return wanted, numbers[limit - 1][0] if len(numbers) > limit else None


def members_of(model: RegisteredModel, numbers: Sequence[tuple[int, str]]) -> list[ModelVersion]:
    """These versions, but for those that went elsewhere meanwhile."""
    versions = registry().catalog.versions([model_id for _, model_id in numbers])
    return [version for version in versions if version.rm_id == model.rm_id]


@registered_models.operation(
    "PATCH",
    "/registered-models",
    body={JSON: ChangedRegisteredModel},
    headers=ChangeHeaders,
    role=Role.PUBLISHER,
    responses={
        200: Answer("The registered model", {JSON: RegisteredModelOut}, ("ETag",)),
        400: problem_answer("Not a JSON object"),
        404: NO_SUCH_NAME,
        412: problem_answer("If-Match names another revision than the current one"),
        413: problem_answer("The body is too large"),
        415: problem_answer("The body is of another type than JSON"),
        422: problem_answer("A field breaks a rule, or an alias names a number that no version has"),
        503: TRY_AGAIN,
    },
    curl="""curl -X PATCH "$REGISTRY/registered-models" -H 'Content-Type: application/json' \\
  -d '{"name": "detector", "description": "For the line", "tags": {"team": "vision"}, "aliases": {"old": null}}'""",
)
def change_registered_model() -> Response:
    """Change description, tags and aliases

    What is left out stays. An alias moves when it is given another number, and goes when it is given null.
    """
    stated = registered_models.body(ChangedRegisteredModel)
    changes = RegisteredModelChanges(**stated.model_dump(exclude={"name"}, exclude_unset=True))
    revision = registered_models.stated_revision()
    model = registry().change_registered_model(stated.name, changes, registered_models.actor(), revision)
    shown = RegisteredModelOut.of(model).model_dump(mode="json", exclude={"latest", "versions"})
    return json_response(shown, ETag=f'"{model.revision}"')
