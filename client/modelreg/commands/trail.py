"""`events`: who changed what, and when. It changes nothing."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelreg import options
from modelreg.errors import NotFound
from modelreg.exits import Misused
from modelreg.options import given
from modelreg.output import Column, as_text
from modelreg.session import session
from modelreg.targets import MODEL_ID, find_by_name
from modelreg.times import moment_of, rfc3339, shown_moment

if TYPE_CHECKING:
    from modelreg.models import Event
    from modelreg.registry import Registry

MAX_SHOWN_CHARACTERS = 40  # of a value in a table


def _changes_text(event: "Event") -> str:
    """What a person wants to see: what became what. Where all is new, or gone, the action says it already."""
    sides = [*zip(*event.changes.values(), strict=True)]
    if any(all(value is None for value in side) for side in sides):
        return ""
    return "; ".join(f"{name}: {_short(old)} -> {_short(new)}" for name, (old, new) in event.changes.items())


def _short(value: Any) -> str:
    text = "none" if value is None else as_text(value)
    return text if len(text) <= MAX_SHOWN_CHARACTERS else f"{text[: MAX_SHOWN_CHARACTERS - 3]}..."


EVENT_COLUMNS = (
    Column("TIME", lambda event: rfc3339(event.time), lambda event: shown_moment(event.time)),
    Column("ACTION", lambda event: event.action),
    Column("SUBJECT", lambda event: event.subject),
    Column("BY", lambda event: event.actor.name),
    Column("TOKEN", lambda event: event.actor.token_id, may_go=True),
    Column("CHANGES", lambda event: event.changes, _changes_text),
)


# Longer than functions are here: Typer wants a parameter for each option.
def events(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL", help="Only of this model: NAME (its latest version), NAME:VERSION, NAME@ALIAS, or an id."
        ),
    ] = None,
    is_id: Annotated[bool, typer.Option("--id", help="MODEL is an id, not a name.")] = False,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="WHEN", help="Not before: 2h or 7d ago, or a date or time in UTC."),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="WHEN", help="Only before: 2h or 7d ago, or a date or time in UTC.")
    ] = None,
    actor: Annotated[
        str | None, typer.Option("--actor", metavar="ACTOR", help="Only by the token of this name or id.")
    ] = None,
    action: Annotated[
        str | None, typer.Option("--action", metavar="ACTION", help="Only this, such as version.updated.")
    ] = None,
    subject: Annotated[
        str | None,
        typer.Option("--subject", metavar="ID", help="Only of this id: of a model, a registered model or a token."),
    ] = None,
    limit: options.Limit = None,
    url: options.Url = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """List what was changed, by whom and when, newest first.

    Changes only: nothing is kept of what was read. The events of a model that was deleted are found by its id.
    """
    if target is not None and subject is not None:
        raise Misused("Both a MODEL and --subject are given.", "Leave one of them out.")
    now = datetime.now(UTC)
    filters = given(
        since=moment_of(since, now, sign=-1) if since is not None else None,
        until=moment_of(until, now, sign=-1) if until is not None else None,
        actor=actor,
        action=action,
        subject=subject,
        limit=limit,
    )
    with session(url, as_json, quiet) as (registry, output):
        model_id = _model_id(registry, target, is_id) if target is not None else None
        if not output.rows(EVENT_COLUMNS, registry.events(model_id, **filters)):
            output.say("nothing happened")


def _model_id(registry: "Registry", target: str, is_id: bool) -> str:
    """A name is looked for first, as `show` does; what is left is an id, perhaps of a model that is gone."""
    if is_id:
        return target
    try:
        return find_by_name(registry, target).id
    except NotFound:
        if not MODEL_ID.fullmatch(target):
            raise
        return target
