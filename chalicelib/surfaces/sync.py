"""`/sync` and `/imports`: how models come here from Geti by themselves, and what became of those asked for."""

from typing import TYPE_CHECKING, Annotated, Literal

from chalice.app import Response
from pydantic import ConfigDict, Field, Strict

from chalicelib.geti.fields import ID
from chalicelib.idempotency import Made, RepeatHeaders, intent_of
from chalicelib.problems import answer_problem, problem_answer
from chalicelib.registry.access import Role
from chalicelib.registry.errors import NO_SUCH_IMPORT, NotConfigured, NotFound
from chalicelib.registry.models import time_text
from chalicelib.settings import settings
from chalicelib.surface import JSON, Answer, Shape, Surface, json_response
from chalicelib.surfaces.geti_failures import geti_failures
from chalicelib.wiring import utc_now
from chalicelib.wiring_geti import geti_checks, imports, sync_store, syncing

if TYPE_CHECKING:
    from chalicelib.geti.states import RunStatus

MAX_TOLD = 100
UNKNOWN_IMPORT = problem_answer("No such import")
NOT_CONFIGURED = problem_answer("Geti is not configured: the settings are named; or try again later", "Retry-After")
ImportId = Annotated[str, Field(pattern=f"^{ID.pattern}$", description="The id of an import.")]
Flag = Annotated[bool, Strict()]

sync_and_imports = Surface(__name__, answer_problem, {"import_id": ImportId})


class WantedSync(Shape):
    """How to sync."""

    model_config = ConfigDict(extra="forbid", defer_build=True)

    dry_run: Flag = Field(False, description="Only find out what would be done: nothing is imported or marked.")
    full: Flag = Field(
        False, description="Look at every model anew, as is done once a day; and try what was given up once more."
    )


class StartedSync(Shape):
    """The run that was begun, or gone on with after it was interrupted."""

    run_id: str


class ToldModel(Shape):
    """A model, or a project, and why."""

    id: str
    why: str


class SyncCounts(Shape):
    """Models, by what became of them."""

    seen: int
    new: int
    imported: int
    skipped: int
    failed: int
    marked: int = Field(description="What was imported before and is said to be gone from Geti, or back.")


class SyncRun(Shape):
    """A run. Until it is finished, its counts are those so far. Times are UTC."""

    run_id: str
    started_at: str
    finished_at: str | None = Field(description="When the last of its imports had ended.")
    outcome: Literal["ok", "partial", "failed"] | None
    dry_run: bool
    full: bool
    counts: SyncCounts
    outstanding: int = Field(description="Imports that have not ended.")
    requests: int = Field(description="How many were sent to Geti.")
    skipped: list[ToldModel] = Field(max_length=MAX_TOLD, description="The first ones; the counts are exact.")
    failed: list[ToldModel] = Field(max_length=MAX_TOLD, description="The first ones; the counts are exact.")

    @classmethod
    def of(cls, status: "RunStatus") -> "SyncRun":
        run = status.run
        counts, failed = run.counts.model_dump(), run.failed
        if run.finished_at is None:
            counts["imported"] += status.imported
            counts["failed"] += status.failed
            failed += status.failures
        return cls(
            run_id=run.id,
            started_at=time_text(run.started_at),
            finished_at=run.finished_at and time_text(run.finished_at),
            outcome=run.outcome and run.outcome.value if run.finished_at else None,
            dry_run=run.is_dry,
            full=run.is_full,
            counts=SyncCounts(**counts),
            outstanding=status.outstanding if run.finished_at is None else 0,
            requests=run.requests,
            skipped=[ToldModel(id=told.id, why=told.why) for told in run.skipped[:MAX_TOLD]],
            failed=[ToldModel(id=told.id, why=told.why) for told in failed[:MAX_TOLD]],
        )


class SyncStatus(Shape):
    """What the sync does. `run` is there while one is going on, `last_run` once one has ended."""

    state: Literal["idle", "running"]
    last_run: SyncRun | None
    run: SyncRun | None

    @classmethod
    def of(cls, status: "RunStatus | None") -> "SyncStatus":
        if status is None:
            return cls(state="idle", last_run=None, run=None)
        run = SyncRun.of(status)
        if status.run.finished_at:
            return cls(state="idle", last_run=run, run=None)
        last = SyncRun.of(status.model_copy(update={"run": status.last})) if status.last else None
        return cls(state="running", last_run=last, run=run)


class ImportedModelOut(Shape):
    """A model of an import. `exists`: somebody else had registered it before."""

    id: str
    outcome: Literal["registered", "exists", "failed", "pending"]
    why: str | None = Field(description="Of what failed.")


class ImportOut(Shape):
    """What became of models that were asked for."""

    state: Literal["running", "done"]
    models: list[ImportedModelOut]


class CheckOut(Shape):
    """Something that must be right for models to come from Geti."""

    check: str = Field(description="Its name: settings, reach, token, workspace, projects, rights, selection, queue.")
    ok: bool
    found: str
    fix: str | None = Field(description="What to do about it, if it is not right.")


@sync_and_imports.operation(
    "POST",
    "/sync",
    body={JSON: WantedSync},
    headers=RepeatHeaders,
    role=Role.ADMIN,
    responses={
        202: Answer("It is begun", {JSON: StartedSync}, ("Location",)),
        400: problem_answer("Not a JSON object"),
        409: problem_answer("A run is going on; or the request of this Idempotency-Key still runs", "Retry-After"),
        413: problem_answer("The body is too large"),
        415: problem_answer("The body is of another type than JSON"),
        422: problem_answer("A field breaks a rule, or the Idempotency-Key came with another content"),
        502: problem_answer("Geti refuses the token of the registry, or what answers is no Geti server"),
        503: NOT_CONFIGURED,
    },
    curl="""curl "$REGISTRY/sync" -H 'Content-Type: application/json' -d '{"dry_run": true}'""",
)
def start_sync() -> Response:
    """Start a sync with Geti

    It begins by itself every 15 minutes, too. `GET /sync` tells how far it is and what became of it. For admins without
    limits.
    """
    sync_and_imports.actor().access.require_no_limits()
    stated = sync_and_imports.body(WantedSync)
    intent = intent_of(sync_and_imports, lambda: stated.model_dump(mode="json"))
    return intent.answer(lambda: begun(stated), again=started_answer)


def begun(stated: WantedSync) -> Made:
    with geti_failures(sync_and_imports.actor()):
        run = syncing().ask(sync_and_imports.actor(), is_dry=stated.dry_run, is_full=stated.full)
    return Made(run.id, started_answer(run.id))


def started_answer(run_id: str) -> Response:
    base = f"{settings().public_url}/" if settings().public_url else ""
    return json_response({"run_id": run_id}, 202, Location=f"{base}sync")


@sync_and_imports.operation(
    "GET",
    "/sync",
    role=Role.ADMIN,
    responses={200: Answer("The run, or the last one", {JSON: SyncStatus}), 503: NOT_CONFIGURED},
    curl='curl "$REGISTRY/sync"',
)
def get_sync() -> Response:
    """Tell what the sync does, and what the last run did

    A run is finished when the imports that it queued have ended. For admins without limits.
    """
    sync_and_imports.actor().access.require_no_limits()
    if not settings().is_geti_configured:
        raise NotConfigured("Geti is not configured: set GETI_HOST and GETI_TOKEN.")
    return json_response(SyncStatus.of(sync_store().status(utc_now())).model_dump(mode="json"))


@sync_and_imports.operation(
    "GET",
    "/sync/checks",
    role=Role.ADMIN,
    responses={200: Answer("Each check, in order", {JSON: list[CheckOut]}), 503: problem_answer("Try again later")},
    curl='curl "$REGISTRY/sync/checks"',
)
def check_geti() -> Response:
    """Check the connection to Geti

    From the settings to what would be imported; what fails says how to mend it. A check that needs one that failed is
    left out. For admins without limits.
    """
    sync_and_imports.actor().access.require_no_limits()
    return json_response([check.model_dump(mode="json") for check in geti_checks()])


@sync_and_imports.operation(
    "GET",
    "/imports/{import_id}",
    role=Role.VIEWER,
    responses={
        200: Answer("The import", {JSON: ImportOut}),
        404: UNKNOWN_IMPORT,
        503: problem_answer("Try again later", "Retry-After"),
    },
    curl='curl "$REGISTRY/imports/01K0Z3Q8D8M2V5X7B9C1F4H6J0"',
)
def get_import(import_id: str) -> Response:
    """Tell what became of models that were asked for

    An import is known for 7 days.
    """
    from chalicelib.geti.asking import seen_import, told_to

    if not ID.fullmatch(import_id):
        raise NotFound(NO_SUCH_IMPORT)
    by = sync_and_imports.actor()
    asked = told_to(seen_import(imports().get(import_id), by), by, utc_now())
    models = [ImportedModelOut(id=model.id, outcome=model.outcome, why=model.why) for model in asked.models]
    answer = ImportOut(state="done" if asked.is_done else "running", models=models)
    return json_response(answer.model_dump(mode="json"))
