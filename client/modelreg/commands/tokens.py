"""`token` and `can`: who may do what. The text of a token is printed once, when it is made; all else takes its id."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from modelreg import exits, options
from modelreg.errors import LocalError, NotFound, RegistryError
from modelreg.exits import Misused
from modelreg.options import given
from modelreg.output import Column, Output, drop_output, safe
from modelreg.session import session
from modelreg.times import length_of, moment_of, rfc3339, shown_moment
from modelreg.tokens import PREFIX, id_of
from modelreg.transfer_display import duration_text

if TYPE_CHECKING:
    from modelreg.models import NewToken, Project
    from modelreg.registry import Registry

NEVER = "never"
BEARABLE_SKEW_SECONDS = 300


def _project_text(project: "Project") -> str:
    if project.name and project.id:
        return f"{project.name} ({project.id})"
    return project.name or f"({project.id})"


def _moment_text(moment: datetime | None) -> str:
    return rfc3339(moment) if moment else ""


TOKEN_COLUMNS = (
    Column("ID", lambda token: token.id),
    Column("NAME", lambda token: token.name),
    Column("ROLE", lambda token: token.role),
    Column("STATE", lambda token: token.state),
    Column("PROJECTS", lambda token: [_project_text(project) for project in token.projects or []]),
    Column("PREFIXES", lambda token: token.name_prefixes),
    Column("CREATED", lambda token: _moment_text(token.created_at), lambda token: shown_moment(token.created_at), True),
    Column("EXPIRES", lambda token: _moment_text(token.expires_at), lambda token: shown_moment(token.expires_at)),
    Column("USED", lambda token: _moment_text(token.last_used_at), lambda token: shown_moment(token.last_used_at)),
)

TokenId = Annotated[str, typer.Argument(metavar="ID", help="The id of the token, as `token ls` tells it.")]
Role = Annotated[
    Literal["viewer", "publisher", "admin"],
    typer.Option(
        "--role",
        metavar="ROLE",
        help="viewer: reads; publisher: also registers and changes; admin: also deletes and makes tokens.",
    ),
]


# Longer than functions are here, as others below: Typer wants a parameter for each option.
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose it is, or what for: the trail shows it.")],
    role: Role,
    project: Annotated[
        list[str] | None,
        typer.Option("--project", metavar="NAME", help="Only in the project of this name; may be repeated."),
    ] = None,
    project_id: Annotated[
        list[str] | None,
        typer.Option(
            "--project-id",
            metavar="ID[=NAME]",
            help="Only in the project of this id, with its name if its models have one; may be repeated.",
        ),
    ] = None,
    prefix: Annotated[
        list[str] | None,
        typer.Option("--prefix", metavar="TEXT", help="Only models whose names begin so; may be repeated."),
    ] = None,
    expires: Annotated[
        str, typer.Option("--expires", metavar="WHEN", help="When it ends: 30d, a date or time in UTC, or never.")
    ] = NEVER,
    url: options.Url = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Create a token, and print it: this once.

    It can be limited to projects and to names, and it should have no more than its job needs. It needs an admin token
    without limits.
    """
    now = datetime.now(UTC)
    limits = given(
        projects=[{"name": known} for known in project or []] + [_identified(text) for text in project_id or []],
        name_prefixes=prefix,
        expires_at=None if expires == NEVER else moment_of(expires, now, sign=1),
    )
    with session(url, as_json, quiet) as (registry, output):
        made = registry.create_token(name, role, **limits)
        _hand_over(registry, output, made)
        end = f"expires {shown_moment(made.expires_at)} UTC" if made.expires_at else "does not expire"
        output.say(f"token {made.id} of {made.name}, {made.role}, {end}; it is not shown again")
        if length_of(expires) is not None:
            _warn_of_skew(output, (now - made.created_at).total_seconds())


def _identified(text: str) -> dict[str, str]:
    identifier, equals, name = text.partition("=")
    if not identifier or (equals and not name):
        raise typer.BadParameter(f"{text!r} is not ID or ID=NAME.", param_hint="--project-id")
    return given(id=identifier, name=name or None)


def _hand_over(registry: "Registry", output: Output, made: "NewToken") -> None:
    """Prints the token. One that nobody got is revoked: its text cannot be had again."""
    try:
        output.hand_over(made.token, {"token": made.token, **made.model_dump(mode="json")})
    except OSError:
        drop_output()
        try:
            registry.revoke_token(made.id)
        except RegistryError as exc:
            hint = f"It could not be revoked either ({exc}): `modelreg token revoke {made.id}`."
            raise LocalError("The new token could not be printed, and nobody knows it.", hint=hint) from None
        hint = "Make room, or let something read the output; then create it again."
        raise LocalError("The new token could not be printed, so it was revoked.", hint=hint) from None


def _warn_of_skew(output: Output, ahead_seconds: float) -> None:
    """How long a token lasts was counted by the clock here, and is judged by the registry's."""
    if abs(ahead_seconds) > BEARABLE_SKEW_SECONDS:
        which, when = ("ahead of", "later") if ahead_seconds > 0 else ("behind", "earlier")
        skew = duration_text(abs(ahead_seconds))
        output.say(f"this machine's clock is {skew} {which} the registry's, so the token ends that much {when}")


def list_tokens(
    limit: options.Limit = None,
    url: options.Url = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """List all tokens, also those that were revoked or have expired; of none the text."""
    with session(url, as_json, quiet) as (registry, output):
        output.rows(TOKEN_COLUMNS, registry.tokens(limit=limit))


def show(
    token_id: TokenId,
    url: options.Url = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Show what a token allows, and what is known of it."""
    with session(url, as_json, quiet) as (registry, output), _token_of(token_id, output) as known_id:
        output.fields(registry.token(known_id).model_dump(mode="json"))


def revoke(
    token_id: TokenId,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    url: options.Url = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """End a token for good, and print its id.

    It stops working within a minute. What it registered stays, and so does its trail.
    """
    if not yes and not sys.stdin.isatty():
        raise Misused("Nobody can be asked here.", "Say --yes to revoke without a question.")
    with session(url, as_json, quiet) as (registry, output), _token_of(token_id, output) as known_id:
        if not yes:
            token = registry.token(known_id)
            used = f"last used {shown_moment(token.last_used_at)} UTC" if token.last_used_at else "never used"
            output.ask_about(f"{token.name}, {token.role}, {token.state}, {used}, id {token.id}")
            if not typer.confirm("Revoke for good?", err=True):
                output.say("nothing was revoked")
                raise typer.Exit(0)
        registry.revoke_token(known_id)
        output.line(known_id, {"id": known_id})


@contextmanager
def _token_of(text: str, output: Output) -> Iterator[str]:
    """The id of the token that an argument means, and words for a token that is not there."""
    known_id = id_of(text)
    if text.startswith(PREFIX):
        output.say(
            f"only the id of this token is used. The shell keeps the rest in its history: the id would do, {known_id}"
        )
    try:
        yield known_id
    except NotFound as exc:
        raise NotFound(str(exc), code=exc.code, hint="`modelreg token ls` shows which tokens there are.") from None


def can(
    token_id: Annotated[
        str,
        typer.Argument(
            metavar="TOKEN", help="The id of a token, or a token, of which only the id is used and nothing else sent."
        ),
    ],
    action: Annotated[
        Literal["read", "register", "update", "alias", "delete", "tokens", "sync"],
        typer.Argument(metavar="ACTION", help="read, register, update, alias, delete, tokens or sync."),
    ],
    model_id: Annotated[str | None, typer.Argument(metavar="MODEL", help="The id of the model it is about.")] = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="A model's name instead, which need not exist yet.")
    ] = None,
    project: options.Project = None,
    project_id: options.ProjectId = None,
    url: options.Url = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Tell whether a token may do something, and why.

    Prints `allowed` or `refused` and the rule that decides; refused, it ends with exit code 10. It needs an admin
    token without limits.
    """
    if model_id is not None and (name, project, project_id) != (None, None, None):
        raise Misused("Both a MODEL and a name or project are given.", "Leave one of them out.")
    stated = given(name=name, project_name=project, project_id=project_id)
    with session(url, as_json, quiet) as (registry, output), _token_of(token_id, output) as known_id:
        decision = registry.can(known_id, action, model_id, **stated)
        verdict = "allowed" if decision.allowed else "refused"
        try:
            output.document(decision.model_dump(mode="json"))
            if not as_json:
                output.pair(verdict, safe(decision.rule), decision.rule)
        except BrokenPipeError:
            drop_output()  # nobody reads the rule, but the exit code still answers
        if not decision.allowed:
            raise typer.Exit(exits.NO)
