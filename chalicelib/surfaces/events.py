"""`/events` and `/checkpoints`: what was changed, by whom and when, and what proves it."""

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import pydantic_core
from chalice.app import Response
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    model_validator,
)

from chalicelib.paging import next_link, page_token, position_of
from chalicelib.problems import answer_problem, problem_answer
from chalicelib.registry.access import Role
from chalicelib.registry.audit import Action
from chalicelib.registry.checkpoints import Checkpoint
from chalicelib.registry.errors import NO_SUCH_MODEL, NotFound
from chalicelib.registry.models import ModelId, time_text
from chalicelib.registry.trail import BEGINNING, Entry, TrailFilters, TrailPage, subjects_of
from chalicelib.surface import JSON, Answer, Shape, Surface, json_response, parsed
from chalicelib.surfaces.models import valid_id
from chalicelib.wiring import checkpoints, registry, utc_now

MAX_LIMIT, DEFAULT_LIMIT = 1000, 100
MAX_CHECKPOINTS, DEFAULT_CHECKPOINTS = 100, 30  # S3 is asked for each
UNREADABLE = "unreadable"
MAX_UNREADABLE_CHARACTERS = 1_000
RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
SUBJECT = r"^([a-zA-Z0-9_-]{1,128}|[A-Z]{1,16}#[a-zA-Z0-9._:-]{1,128})$"
# Positions, of the three kinds of lists.
NUMBER = re.compile(r"[0-9]{1,12}~?")
SUBJECT_AND_NUMBER = re.compile(r"[A-Z]{1,16}#[a-zA-Z0-9._:-]{1,128}#[0-9]{1,12}~?")
DAY_AND_ID = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}#[0-9A-Za-z~]{1,64}")
CHECKPOINT = re.compile(r"checkpoints/[0-9T-]{15}Z\.jsonl")

events = Surface(__name__, answer_problem, {"model_id": Annotated[ModelId, Field(description="The id of a model.")]})
BAD_QUERY = problem_answer("A query parameter is unknown, repeated, empty or wrong")
TRY_AGAIN = problem_answer("Try again later", "Retry-After")


def _is_rfc_3339(text: object) -> object:
    if not isinstance(text, str) or not RFC_3339.fullmatch(text):
        raise ValueError("must be a time with its zone, such as 2026-01-31T12:00:00Z; a plus is sent as %2B")
    return text


def _in_utc(at: datetime) -> datetime:
    try:
        return at.astimezone(UTC)
    except OverflowError:
        raise ValueError("is too far away") from None


Time = Annotated[AwareDatetime, BeforeValidator(_is_rfc_3339), AfterValidator(_in_utc)]


class ActorOut(Shape):
    """Who did it. `kind` is anonymous, system or token."""

    model_config = ConfigDict(extra="allow", defer_build=True)  # whatever it is, the digest covers it

    kind: str
    name: str
    request_id: str | None = None
    source_ip: str | None = None
    user_agent: str | None = None
    token_id: str | None = None
    role: str | None = None
    idempotency: str | None = Field(None, description="A digest of the Idempotency-Key, if one was sent.")


class NameOut(Shape):
    """A name of the subject, before or after."""

    model_config = ConfigDict(extra="allow", defer_build=True)

    project_id: str | None = None
    project_name: str | None = None
    name: str


class EventOut(Shape):
    """One change of one subject. `seq`, `prev` and `digest` make the events of a subject a chain."""

    id: str = Field(description="A ULID.")
    time: str = Field(description="UTC, to the microsecond.")
    action: str
    subject: str = Field(description="`MODEL#`, `RM#` (a registered model), `TOKEN#` or `GETI#` (a server), and an id.")
    seq: int = Field(description="Counts the events of the subject, from 1.")
    actor: ActorOut
    changes: dict[str, list[Any]] = Field(description="By field: its value before and after, null for none.")
    about: list[NameOut] = Field(description="Who does not see all of these names does not see the event.")
    prev: str = Field(description="The digest of the event before, of the same subject; zeros for the first.")
    digest: str = Field(description="SHA-256 of the event in its canonical form, in hexadecimal.")

    @classmethod
    def of(cls, entry: Entry) -> "EventOut":
        return cls(
            **entry.model_dump(include={"action", "subject", "seq", "prev", "digest"}),
            id=entry.event_id,
            time=entry.at,
            actor=actor_of(entry),
            changes=changes_of(entry),
            about=about_of(entry),
        )


class CheckpointOut(Shape):
    """A file with the newest event of every subject at a time, which cannot be changed while it is locked."""

    key: str
    written_at: str
    until: str = Field(description="All that happened before is covered.")
    subjects: int
    sha256: str = Field(description="Of the file, in hexadecimal.")
    retained_until: str | None = Field(description="Until then S3 neither replaces nor removes it.")
    url: str = Field(description="Serves the file for a limited time.")

    @classmethod
    def of(cls, checkpoint: Checkpoint, url: str) -> "CheckpointOut":
        locked = checkpoint.retained_until
        return cls(
            **checkpoint.model_dump(include={"key", "subjects", "sha256"}),
            written_at=time_text(checkpoint.written_at),
            until=time_text(checkpoint.until),
            retained_until=time_text(locked) if locked else None,
            url=url,
        )


class ModelEventsQuery(Shape):
    """Which page."""

    limit: int = Field(DEFAULT_LIMIT, ge=1, le=MAX_LIMIT, description="events on a page, at most")
    page_token: str | None = Field(None, description="from the Link header of the page before")


class EventsQuery(ModelEventsQuery):
    """Which events; all must hold."""

    since: Time | None = Field(None, description="from this time on, with its zone")
    until: Time | None = Field(None, description="before this time, with its zone")
    actor: Annotated[str, StringConstraints(max_length=256)] | None = Field(
        None, description="exact: the id of a token, or the name of an actor"
    )
    action: Action | None = Field(None, description="what was done")
    subject: Annotated[str, StringConstraints(pattern=SUBJECT)] | None = Field(
        None, description="the id of a model, registered model or token, alone or as events state it (`MODEL#id`)"
    )

    @model_validator(mode="after")
    def _begins_before_it_ends(self) -> "EventsQuery":
        if self.since and self.until and self.since >= self.until:
            raise ValueError("since must be before until")
        return self

    @property
    def filters(self) -> TrailFilters:
        # No event is older, and text of years below 1000 would not sort.
        since, until = (max(at, BEGINNING) if at else None for at in (self.since, self.until))
        return TrailFilters(since=since, until=until, actor=self.actor, action=self.action)


class CheckpointsQuery(Shape):
    """Which page."""

    limit: int = Field(DEFAULT_CHECKPOINTS, ge=1, le=MAX_CHECKPOINTS, description="checkpoints on a page, at most")
    page_token: str | None = Field(None, description="from the Link header of the page before")


class AskedModel(Shape):
    """What a page token of a model's events is bound to."""

    model_id: str


@events.operation(
    "GET",
    "/models/{model_id}/events",
    query=ModelEventsQuery,
    role=Role.VIEWER,
    responses={
        200: Answer("Events, newest first", {JSON: list[EventOut]}, ("Link",)),
        400: problem_answer("Not the form of an id"),
        404: problem_answer("Nothing that you may see ever happened to a model of this id"),
        422: BAD_QUERY,
        503: TRY_AGAIN,
    },
    curl='curl "$REGISTRY/models/$ID/events"',
)
def list_model_events(model_id: str) -> Response:
    """List what happened to a model

    Also to one that was deleted, and to all that had this id. Every change that was answered before is there.
    """
    given = events.query(ModelEventsQuery)
    query, asked = parsed(ModelEventsQuery, given, "query"), AskedModel(model_id=valid_id(model_id))
    after = position_of(query.page_token, asked, NUMBER) if query.page_token else None
    access = events.actor().access
    page = registry().catalog.trail.of_subject(f"MODEL#{model_id}", TrailFilters(), query.limit, after, access)
    if not page.entries and not page.after and not after:
        raise NotFound(NO_SUCH_MODEL)
    return _answer(page, f"/models/{model_id}/events", given, asked)


@events.operation(
    "GET",
    "/events",
    query=EventsQuery,
    role=Role.VIEWER,
    responses={200: Answer("Events, newest first", {JSON: list[EventOut]}, ("Link",)), 422: BAD_QUERY, 503: TRY_AGAIN},
    curl='curl "$REGISTRY/events?action=version.registered&limit=20"',
)
def list_events() -> Response:
    """List what happened

    Changes only: nothing is kept of what was read. A page may be short, or empty, and still announce another by its
    `Link` header.

    Across subjects the order is that of days and, within a day, of ids. What was changed within the last second or so
    may be missing yet; with `subject`, every change that was answered before is there.

    A token that is limited to projects sees what happened within each of them. That a model was moved from one of its
    projects to another, it sees only under the id of the model.
    """
    given = events.query(EventsQuery)
    query = parsed(EventsQuery, given, "query")
    asked = query.model_copy(update={"limit": DEFAULT_LIMIT, "page_token": None})
    page = _of_subject(query, asked) if query.subject else _across(query, asked)
    return _answer(page, "/events", given, asked)


@events.operation(
    "GET",
    "/checkpoints",
    query=CheckpointsQuery,
    role=Role.ADMIN,
    responses={
        200: Answer("Checkpoints, newest first", {JSON: list[CheckpointOut]}, ("Link",)),
        422: BAD_QUERY,
        503: TRY_AGAIN,
    },
    curl='curl "$REGISTRY/checkpoints"',
)
def list_checkpoints() -> Response:
    """List the checkpoints of the trail

    One is written every day: it says which event was the newest of each subject, and S3 keeps it as it is until
    `retained_until`. `modelreg audit verify` compares the trail with them. For admins without limits.
    """
    access = events.actor().access
    access.require_no_limits()
    given = events.query(CheckpointsQuery)
    query, asked = parsed(CheckpointsQuery, given, "query"), CheckpointsQuery()
    after = position_of(query.page_token, asked, CHECKPOINT) if query.page_token else None
    found = checkpoints().page(utc_now(), query.limit + 1, after)
    headers = {}
    if len(found) > query.limit:
        token = page_token(found[query.limit - 1].key, asked)
        headers["Link"] = next_link("/checkpoints", {**given, "page_token": token})
    shown = [CheckpointOut.of(one, checkpoints().download_url(one.key)) for one in found[: query.limit]]
    return json_response([one.model_dump(mode="json") for one in shown], 200, **headers)


def _across(query: EventsQuery, asked: EventsQuery) -> TrailPage:
    after = position_of(query.page_token, asked, DAY_AND_ID) if query.page_token else None
    return registry().catalog.trail.across(query.filters, utc_now(), query.limit, after, events.actor().access)


def _of_subject(query: EventsQuery, asked: EventsQuery) -> TrailPage:
    """The events of the first subject that is meant and of which the caller sees any."""
    subjects, after = subjects_of(query.subject or ""), None
    if query.page_token:
        subject, _, after = position_of(query.page_token, asked, SUBJECT_AND_NUMBER).rpartition("#")
        subjects = [subject] if subject in subjects else []
    for subject in subjects:
        page = registry().catalog.trail.of_subject(subject, query.filters, query.limit, after, events.actor().access)
        if page.entries or page.after:
            return TrailPage(entries=page.entries, after=f"{subject}#{page.after}" if page.after else None)
    return TrailPage(entries=(), after=None)


def _answer(page: TrailPage, path: str, given: dict[str, str], asked: Shape) -> Response:
    headers = {}
    if page.after:
        headers["Link"] = next_link(path, {**given, "page_token": page_token(page.after, asked)})
    return json_response([EventOut.of(entry).model_dump(mode="json") for entry in page.entries], 200, **headers)


# What somebody made unreadable is shown as such; its digest is wrong then, and the trail goes on.


def actor_of(entry: Entry) -> ActorOut:
    try:
        return ActorOut.model_validate(_json(entry.actor))
    except ValueError:
        return ActorOut(kind=UNREADABLE, name=entry.actor[:MAX_UNREADABLE_CHARACTERS])


def changes_of(entry: Entry) -> dict[str, list[Any]]:
    try:
        return TypeAdapter(dict[str, Annotated[list[Any], Field(min_length=2, max_length=2)]]).validate_python(
            _json(entry.changes)
        )
    except ValueError:
        return {UNREADABLE: [None, entry.changes[:MAX_UNREADABLE_CHARACTERS]]}


def about_of(entry: Entry) -> Sequence[NameOut]:
    try:
        return TypeAdapter(list[NameOut]).validate_python(_json(entry.about or "[]"))
    except ValueError:
        return []


def _json(text: str) -> Any:
    """Raises ValueError for what could not be answered as JSON."""
    value = pydantic_core.from_json(text, allow_inf_nan=False)
    json.dumps(value, allow_nan=False)  # a number beyond all floats became infinite
    return value
