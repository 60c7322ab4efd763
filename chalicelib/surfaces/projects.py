"""`/projects`: what an Intel Geti server holds that can be imported, and the import, as the published API has it."""

from collections.abc import Mapping, Sequence
from time import monotonic, sleep
from typing import TYPE_CHECKING, Annotated

from chalice.app import Response
from pydantic import Field

from chalicelib.forms import Unprocessable, problem
from chalicelib.geti.fields import ID
from chalicelib.idempotency import Made, RepeatHeaders, intent_of
from chalicelib.problems import STATUSES
from chalicelib.registry.access import Role
from chalicelib.registry.errors import RegistryError, Unavailable
from chalicelib.settings import settings
from chalicelib.surface import JSON, TEXT, Answer, Detail, FieldProblems, Shape, Surface, json_response, text_response
from chalicelib.surfaces.geti_failures import GetiFailed, geti_failures
from chalicelib.surfaces.models import answer_error
from chalicelib.wiring import utc_now
from chalicelib.wiring_geti import asking, imports

if TYPE_CHECKING:
    from chalicelib.geti.asking import Wanted
    from chalicelib.geti.states import Import

MAX_MODELS = 50
WATCH_SECONDS = 20
ANSWER_SECONDS = 26  # from the beginning of the request: the gateway gives up after 29
MAX_ANSWER_BYTES = 5_000_000  # of 6 MB
NOTE = "Note: Only OpenVINO optimized active models are supported at this time."
TIP = "Tip: Delete the previously mentioned model(s) or remove the id(s) from the request body then try again."


def answer_project_error(exc: RegistryError) -> Response:
    """An error as this API has always said it, and those of Geti, which it had not."""
    match exc.code:
        case "not_importable":
            return text_response(outcome_text("", (), (), getattr(exc, "whys", {})), 403)
        case "already_registered":
            return text_response(as_lines(f"Model(s): {exc} is already registered. No model(s) registered.", TIP), 409)
        case "malformed_body":
            return json_response({"detail": [problem(["body"], str(exc), "json_invalid")]}, 422)
    if isinstance(exc, GetiFailed | Unavailable):
        return json_response({"detail": str(exc), "code": exc.code}, STATUSES[exc.code][0])
    return answer_error(exc)


GetiId = Annotated[str, Field(pattern=f"^{ID.pattern}$")]
projects = Surface(
    __name__,
    answer_project_error,
    {"project_id": Annotated[str, Field(pattern=f"^{ID.pattern}$", description="The id of a project in Geti.")]},
)


class GetiError(Shape):
    """What is wrong with Geti, or the way to it, in words and as a code."""

    detail: str
    code: str


AT_FAULT = Answer("Geti refuses the token of the registry, or what answers is no Geti server", {JSON: GetiError})
NOT_NOW = Answer(
    "Geti is busy or out of reach, or it is not set up: then it is said what to set",
    {JSON: GetiError},
    ("Retry-After",),
)


class GetiModel(Shape):
    """A model that can be imported: in OpenVINO format, finished, its files there."""

    id: str
    name: str


class GetiVersion(Shape):
    """A trained version; without models that can be imported the list is empty."""

    id: str
    name: str
    version: int
    openvino_models: list[GetiModel]


class GetiGroup(Shape):
    """What one architecture was trained to. In Geti 3 each trained model is a group of one."""

    id: str
    name: str
    model_versions: list[GetiVersion]


class GetiProject(Shape):
    """A project of Geti."""

    id: str
    name: str
    creation_time: str | None
    model_groups: list[GetiGroup]


class WantedModel(Shape):
    """A model by its id and that of its group, as `GET /projects` lists them."""

    id: GetiId
    group_id: GetiId


class WantedModels(Shape):
    """What to import. A model that is named twice is imported once."""

    models: list[WantedModel] = Field(min_length=1, max_length=MAX_MODELS)

    def each_once(self) -> "list[Wanted]":
        """Raises Unprocessable if a model is said to be in several groups."""
        from chalicelib.geti.asking import Wanted

        wanted = list(dict.fromkeys(Wanted(one.id, one.group_id) for one in self.models))
        ids = [one.model_id for one in wanted]
        problems = [
            problem(["body", "models", one], "named with several groups, expected one", "value_error")
            for one in dict.fromkeys(ids)
            if ids.count(one) > 1
        ]
        if problems:
            raise Unprocessable(problems)
        return wanted


@projects.operation(
    "GET",
    "/projects",
    role=Role.VIEWER,
    responses={
        200: Answer("All projects that the registry and the caller see", {JSON: list[GetiProject]}),
        502: AT_FAULT,
        503: NOT_NOW,
    },
    curl='curl "$REGISTRY/projects"',
)
def list_projects() -> Response:
    """List the projects of the Geti server, with what can be imported

    Geti is asked now; what it cannot tell is an error, never a shorter list, but for projects that it does not let the
    token's user read. Where that takes too long, ask for one.
    """
    with geti_failures(projects.actor()):
        found = asking().projects(projects.actor())
    answer = json_response([project.model_dump(mode="json") for project in found])
    if len(answer.body.encode()) > MAX_ANSWER_BYTES:
        raise Unavailable("All projects are more than one answer can hold: ask for one, GET /projects/{project_id}.")
    return answer


@projects.operation(
    "GET",
    "/projects/{project_id}",
    role=Role.VIEWER,
    responses={
        200: Answer("The project", {JSON: GetiProject}),
        404: Answer("No such project", {TEXT: str}),
        502: AT_FAULT,
        503: NOT_NOW,
    },
    curl='curl "$REGISTRY/projects/65dc4c6e0f9c2a8d6f1b7a31"',
)
def get_project(project_id: str) -> Response:
    """Get one project of the Geti server"""
    with geti_failures(projects.actor()):
        found = asking().project(project_id, projects.actor())
    return json_response(found.model_dump(mode="json"))


@projects.operation(
    "POST",
    "/projects/{project_id}/geti-models/download",
    body={JSON: WantedModels},
    headers=RepeatHeaders,
    role=Role.PUBLISHER,
    responses={
        201: Answer("Which models are registered, and why others are not", {TEXT: str}, ("Location",)),
        202: Answer("They are being registered; Location tells of it", {TEXT: str}, ("Location",)),
        403: Answer("Which models cannot be registered, and why; or the token may not", {TEXT: str, JSON: Detail}),
        404: Answer("The project or one of the models is not there; nothing is registered", {TEXT: str}),
        409: Answer(
            "Which models are registered already; then none is registered. Or, as JSON, the request of this"
            " Idempotency-Key still runs",
            {TEXT: str, JSON: Detail},
            ("Retry-After",),
        ),
        413: Answer("The body is too large", {JSON: Detail}),
        415: Answer("The body is of another type than JSON", {JSON: Detail}),
        422: Answer(
            "A field is missing or wrong, or the Idempotency-Key came with another content",
            {JSON: Detail | FieldProblems},
        ),
        502: AT_FAULT,
        503: NOT_NOW,
    },
    curl="""curl "$REGISTRY/projects/65dc4c6e0f9c2a8d6f1b7a31/geti-models/download" \\
  -H 'Content-Type: application/json' \\
  -d '{"models": [{"id": "65dc4c6e0f9c2a8d6f1b7a41", "group_id": "65dc4c6e0f9c2a8d6f1b7a51"}]}'""",
)
def import_models(project_id: str) -> Response:
    """Register models of a Geti project

    Each is fetched from Geti by another function. What has not ended after 20 seconds goes on, and
    `GET /imports/{import_id}` tells of it. Any model that `GET /projects` lists can be imported, active or not.
    """
    started = monotonic()
    stated = projects.body(WantedModels)
    wanted = stated.each_once()
    intent = intent_of(projects, lambda: stated.model_dump(mode="json"))
    import_id = intent.new_id() if intent.digest else None

    def begun() -> Made:
        with geti_failures(projects.actor()):
            asked = asking().ask(project_id, wanted, projects.actor(), import_id)
        try:
            return Made(asked.id, answer_of(watched(asked.id, started)))
        except Unavailable:
            # It is begun all the same.
            return Made(asked.id, answer_of(asked))

    return intent.answer(begun, again=lambda asked_id: answer_of(watched(asked_id, started)))


def watched(import_id: str, started: float) -> "Import":
    """What becomes of an import while its caller waits."""
    from chalicelib.geti.asking import watch

    seconds = min(WATCH_SECONDS, ANSWER_SECONDS - (monotonic() - started))
    return watch(imports(), import_id, seconds, sleep, monotonic)


def answer_of(asked: "Import") -> Response:
    from chalicelib.geti.asking import told_to

    asked = told_to(asked, projects.actor(), utc_now())
    pending = [model.id for model in asked.models if model.outcome == "pending"]
    registered = [model.id for model in asked.models if model.outcome in ("registered", "exists")]
    whys = {model.id: model.why or "it is not known why" for model in asked.models if model.outcome == "failed"}
    text = outcome_text(asked.id, pending, registered, whys)
    if not pending and not registered:
        return text_response(text, 403)
    base = f"{settings().public_url}/" if settings().public_url else "../../../"
    return text_response(text, 202 if pending else 201, Location=f"{base}imports/{asked.id}")


def outcome_text(import_id: str, pending: Sequence[str], registered: Sequence[str], whys: Mapping[str, str]) -> str:
    """What became of models, by their ids: two lines as this API has always said it, and what else there is to say."""
    told = {"are being registered": pending, "registered": registered, "can not be registered": list(whys)}
    first, *others = (f"Model(s): {', '.join(ids)} {what}." for what, ids in told.items() if ids)
    where = [f"GET /imports/{import_id} tells what becomes of them."] if pending else []
    return as_lines(first, NOTE, *where, *others, *(f"{one}: {_as_sentence(why)}" for one, why in whys.items()))


def _as_sentence(text: str) -> str:
    return text if text.endswith((".", "?")) else f"{text}."


def as_lines(*lines: str) -> str:
    """A text of these lines, each of which is one, whatever is in it."""
    return "".join(f"{''.join(one if one.isprintable() else ' ' for one in line)}\n" for line in lines)
