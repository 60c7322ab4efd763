"""`/tokens`: who may use the registry, for what, and until when. For admins without limits."""

import re
from datetime import datetime
from typing import Annotated, Any, Literal

from chalice.app import Response
from pydantic import ConfigDict, Field, StringConstraints, model_validator

from chalicelib.idempotency import refuse_key
from chalicelib.paging import fitting, next_link, page_token, position_of
from chalicelib.problems import answer_problem, problem_answer
from chalicelib.registry.access import (
    MAX_NAME_PREFIXES,
    MAX_PROJECTS,
    Access,
    Deed,
    Project,
    Role,
)
from chalicelib.registry.models import ModelId, Name, QualifiedName, time_text
from chalicelib.registry.tokens import Token
from chalicelib.settings import settings
from chalicelib.surface import JSON, Answer, Shape, Surface, json_response, parsed
from chalicelib.surfaces.events import Time
from chalicelib.wiring import granting, registry, utc_now

MAX_LIMIT, DEFAULT_LIMIT = 1000, 100
TOKEN_ID = re.compile(r"[0-9A-Z]{26}")
NO_ID = "-"
UNKNOWN_TOKEN = problem_answer("No such token")
TRY_AGAIN = problem_answer("Try again later", "Retry-After")

tokens = Surface(
    __name__,
    answer_problem,
    {"token_id": Annotated[str, Field(pattern="^[0-9A-Z]{26}$", description="The id of a token, not the token.")]},
)


class ProjectShape(Shape):
    """A project as its models state it: exactly this id and this name; null where they state none."""

    model_config = ConfigDict(extra="forbid", defer_build=True)

    id: str | None = Field(None, max_length=256)
    name: str | None = Field(None, max_length=256)


class NewToken(Shape):
    """What a token shall allow. Without projects and prefixes it is not limited to any."""

    model_config = ConfigDict(extra="forbid", defer_build=True)

    name: Name = Field(description="Whose it is or what for; events and logs show it.")
    role: Role = Field(
        description="viewer: read; publisher: register, upload, change, set aliases too; admin: delete, too."
        " Tokens are managed by admins without limits."
    )
    projects: list[Project] | None = Field(
        None, min_length=1, max_length=MAX_PROJECTS, description="It sees, and registers in, only these."
    )
    name_prefixes: list[Name] | None = Field(
        None, min_length=1, max_length=MAX_NAME_PREFIXES, description="Only models whose names begin with one of these."
    )
    expires_at: Time | None = Field(None, description="RFC 3339, with a time zone; null: never.")

    def access(self) -> Access:
        return Access(
            role=self.role,
            projects=tuple(self.projects) if self.projects is not None else None,
            name_prefixes=tuple(self.name_prefixes) if self.name_prefixes is not None else None,
        )


class TokenOut(Shape):
    """A token, without what would let somebody use it. Times are UTC."""

    id: str
    name: str
    role: Role
    projects: list[ProjectShape] | None
    name_prefixes: list[str] | None
    state: Literal["active", "revoked", "expired"]
    created_at: str
    created_by: str
    expires_at: str | None
    revoked_at: str | None
    last_used_at: str | None = Field(description="To the hour, or a little earlier than that.")

    @classmethod
    def of(cls, token: Token, last_used_at: datetime | None = None, **more: Any) -> "TokenOut":
        access = token.access
        return cls(
            **token.model_dump(include={"id", "name", "created_by"}),
            role=access.role,
            projects=None
            if access.projects is None
            else [ProjectShape(**project.model_dump()) for project in access.projects],
            name_prefixes=None if access.name_prefixes is None else list(access.name_prefixes),
            state=token.state(utc_now()),
            created_at=time_text(token.created_at),
            expires_at=token.expires_at and time_text(token.expires_at),
            revoked_at=token.revoked_at and time_text(token.revoked_at),
            last_used_at=last_used_at and time_text(last_used_at),
            **more,
        )


class CreatedToken(TokenOut):
    """A new token. `token` is the token itself: it cannot be had again."""

    token: str


class TokensQuery(Shape):
    """Which page."""

    limit: int = Field(DEFAULT_LIMIT, ge=1, le=MAX_LIMIT, description="tokens on a page, at most")
    page_token: str | None = Field(None, description="from the Link header of the page before")


class AccessQuery(Shape):
    """What shall be done to what: a model by its id, or one of a name that need not exist."""

    action: Deed = Field(description="What shall be done.")
    model_id: ModelId | None = None
    name: Annotated[str, StringConstraints(max_length=256)] | None = None
    project_id: Annotated[str, StringConstraints(max_length=256)] | None = None
    project_name: Annotated[str, StringConstraints(max_length=256)] | None = None

    @model_validator(mode="after")
    def _is_about_one_model(self) -> "AccessQuery":
        if self.model_id is not None and self.name is not None:
            raise ValueError("give model_id or name, not both")
        if self.name is None and (self.project_id or self.project_name):
            raise ValueError("a project needs a name of a model in it")
        return self


class DecisionOut(Shape):
    """Whether it may be done, how a request for it is answered, and the rule that decides."""

    allowed: bool
    status: Literal[200, 401, 403, 404]
    rule: str


@tokens.operation(
    "POST",
    "/tokens",
    body={JSON: NewToken},
    role=Role.ADMIN,
    responses={
        201: Answer("The token, shown once", {JSON: CreatedToken}, ("Location",)),
        400: problem_answer("Not a JSON object"),
        413: problem_answer("The body is too large"),
        415: problem_answer("The body is of another type than JSON"),
        422: problem_answer("A field breaks a rule, or an Idempotency-Key was sent"),
        503: TRY_AGAIN,
    },
    curl="""curl "$REGISTRY/tokens" -H 'Content-Type: application/json' \\
  -d '{"name": "line 3", "role": "viewer", "projects": [{"name": "vision"}], "expires_at": "2030-01-01T00:00:00Z"}'""",
)
def create_token() -> Response:
    """Create a token

    It is answered once and kept nowhere: only its digest is stored. No `Idempotency-Key` is taken, since what was
    answered could not be answered again.
    """
    refuse_key(tokens, "a token cannot be shown again.")
    stated = tokens.body(NewToken)
    token, text = granting().create(stated.name, stated.access(), stated.expires_at, tokens.actor())
    base = f"{settings().public_url}/" if settings().public_url else ""
    body = CreatedToken(**TokenOut.of(token).model_dump(), token=text).model_dump(mode="json")
    return json_response(body, 201, Location=f"{base}tokens/{token.id}")


@tokens.operation(
    "GET",
    "/tokens",
    query=TokensQuery,
    role=Role.ADMIN,
    responses={
        200: Answer("Tokens, oldest first", {JSON: list[TokenOut]}, ("Link",)),
        422: problem_answer("A query parameter is unknown, repeated, empty or wrong"),
        503: TRY_AGAIN,
    },
    curl='curl "$REGISTRY/tokens"',
)
def list_tokens() -> Response:
    """List tokens, also those that no longer work"""
    tokens.actor().access.require_no_limits()
    given = tokens.query(TokensQuery)
    query, asked = parsed(TokensQuery, given, "query"), TokensQuery()
    after = position_of(query.page_token, asked, TOKEN_ID) if query.page_token else None
    found, go_on = registry().catalog.tokens.page(query.limit, after)
    count = fitting([kept.token for kept in found])
    go_on = found[count - 1].token.id if count < len(found) else go_on
    headers = {}
    if go_on:
        headers["Link"] = next_link("/tokens", {**given, "page_token": page_token(go_on, asked)})
    shown = [TokenOut.of(kept.token, kept.last_used_at).model_dump(mode="json") for kept in found[:count]]
    return json_response(shown, 200, **headers)


@tokens.operation(
    "GET",
    "/tokens/{token_id}",
    role=Role.ADMIN,
    responses={200: Answer("The token", {JSON: TokenOut}), 404: UNKNOWN_TOKEN, 503: TRY_AGAIN},
    curl='curl "$REGISTRY/tokens/$TOKEN_ID"',
)
def get_token(token_id: str) -> Response:
    """Get one token by its id"""
    kept = granting().kept(known_form(token_id), tokens.actor())
    return json_response(TokenOut.of(kept.token, kept.last_used_at).model_dump(mode="json"))


@tokens.operation(
    "DELETE",
    "/tokens/{token_id}",
    role=Role.ADMIN,
    responses={204: Answer("It is revoked"), 404: UNKNOWN_TOKEN, 503: TRY_AGAIN},
    curl='curl -X DELETE "$REGISTRY/tokens/$TOKEN_ID"',
)
def revoke_token(token_id: str) -> Response:
    """Revoke a token

    It ends for good, everywhere within a minute. It stays in the list, for events name it.
    """
    granting().revoke(known_form(token_id), tokens.actor())
    return Response("", status_code=204)


@tokens.operation(
    "GET",
    "/tokens/{token_id}/access",
    query=AccessQuery,
    role=Role.ADMIN,
    responses={
        200: Answer("Whether it may, and why", {JSON: DecisionOut}),
        404: UNKNOWN_TOKEN,
        422: problem_answer("A query parameter is unknown, repeated, empty or wrong"),
        503: TRY_AGAIN,
    },
    curl='curl "$REGISTRY/tokens/$TOKEN_ID/access?action=update&model_id=$ID"',
)
def explain_access(token_id: str) -> Response:
    """Explain whether a token may do something

    The rule that decides is told in words, and the status that a request of this token would be answered with.
    """
    query = parsed(AccessQuery, tokens.query(AccessQuery), "query")
    decision = granting().explain(known_form(token_id), query.action, lambda: named(query), tokens.actor())
    return json_response(decision.model_dump())


def known_form(token_id: str) -> str:
    """The id as it may be looked up: what has not the form of one is none, and may be too long for a key."""
    return token_id if TOKEN_ID.fullmatch(token_id) else NO_ID


def named(query: AccessQuery) -> QualifiedName | None:
    """What it is about. Raises NotFound for an id that no model has."""
    if query.model_id is not None:
        return registry().catalog.version(query.model_id).qualified_name
    if query.name is None:
        return None
    return QualifiedName(name=query.name, project_id=query.project_id, project_name=query.project_name)
