"""`/models`: the published Model Registry REST API, as clients in the field speak it."""

import re
from datetime import UTC, datetime
from typing import Annotated, Literal

from chalice.app import Response
from pydantic import Field, TypeAdapter

from chalicelib.forms import MULTIPART, URLENCODED, problem
from chalicelib.idempotency import Made, RepeatHeaders, intent_of
from chalicelib.paging import next_link, page_token, position_of
from chalicelib.registry.access import Role
from chalicelib.registry.errors import InvalidInput, NotFound, RegistryError
from chalicelib.registry.models import PRECISIONS, Changes, Draft, Filters, ModelId, Tree
from chalicelib.registry.service import Parcel
from chalicelib.surface import (
    JSON,
    TEXT,
    Answer,
    ChangeHeaders,
    Detail,
    FieldProblems,
    Shape,
    Surface,
    json_response,
    parsed,
    text_response,
)
from chalicelib.surfaces.model_fields import (
    ChangeForm,
    ModelOut,
    RegistrationForm,
    as_date,
    content_of,
    parcel_of,
    require_known_keys,
    stated_fields,
)
from chalicelib.wiring import registry
from chalicelib.wiring_mlflow import packing

MAX_LIMIT = 1000
PACKED_AFTER_SECONDS = 5
MAX_ID_LENGTH = 128
ID_FORM = re.compile(r"[a-zA-Z0-9_-]{16,}")
POSITION = re.compile(r"[0-9TZ:.-]{27}#[a-zA-Z0-9_-]{16,128}")


class InvalidId(RegistryError):
    code = "invalid_id"


class NothingToChange(RegistryError):
    code = "nothing_to_change"


def answer_error(exc: RegistryError) -> Response:
    """An error as this API has always said it: some as plain text, the rest as JSON with a `detail`."""
    status = {
        "unsupported_precision": 400,
        "invalid_id": 400,
        "nothing_to_change": 400,
        "unauthenticated": 401,
        "forbidden": 403,
        "not_found": 404,
        "method_not_allowed": 405,
        "conflict": 409,
        "not_here": 409,
        "in_progress": 409,
        "stale_revision": 412,
        "too_large": 413,
        "unsupported_media_type": 415,
        "internal": 500,
        "unavailable": 503,
        "outcome_unknown": 503,
        "not_configured": 503,
    }.get(exc.code, 422)
    match exc.code:
        case "unsupported_keys" | "unsupported_file_type" | "unsupported_precision" | "not_found":
            return text_response(f"{exc}\n", status)
        case "conflict":
            return text_response(str(exc), status)
        case "nothing_to_change":
            return json_response({"status": "error", "message": str(exc)}, status)
        case "unprocessable":
            return json_response({"detail": getattr(exc, "details", str(exc))}, status)
    return json_response({"detail": str(exc)}, status)


class StatedError(Shape):
    """An error of a change that names nothing to change."""

    status: Literal["error"]
    message: str


class Completed(Shape):
    """A change was made."""

    status: Literal["completed"]


NOT_AN_ID = Answer("Not the form of an id", {JSON: Detail})
NO_SUCH_MODEL = Answer("No such model", {TEXT: str})
TAKEN = Answer("The id, or this name, version and precision in this project, is taken", {TEXT: str})
NOT_HERE = Answer("The bytes of this model are kept elsewhere: its file_url says where", {JSON: Detail})
TOO_LARGE = Answer("The form is too large", {JSON: Detail})
NO_FORM = Answer("The body is no form", {JSON: Detail})
BAD_QUERY = Answer("A query parameter is unknown, repeated, empty or wrong", {TEXT: str, JSON: FieldProblems})
TRY_AGAIN = Answer("Try again later", {JSON: Detail}, ("Retry-After",))
models = Surface(__name__, answer_error, {"model_id": Annotated[ModelId, Field(description="The id of a model.")]})


class ListQuery(Shape):
    """How `GET /models` may be asked. `tag.<key>=<value>` is accepted too, for any 20 keys."""

    name: str | None = Field(None, description="substring, any case")
    version: str | None = Field(None, description="exact")
    project_name: str | None = Field(None, description="substring, any case")
    category: str | None = Field(None, description="substring, any case")
    architecture: str | None = Field(None, description="substring, any case")
    precision: str | None = Field(None, description="substring, any case")
    origin: str | None = Field(None, description="equal, any case")
    format: str | None = Field(None, description="equal, any case")
    artifact: Literal["stored", "external"] = Field(
        "stored", description="stored: models whose bytes are here; external: those whose bytes are elsewhere"
    )
    limit: int = Field(MAX_LIMIT, ge=1, le=MAX_LIMIT, description="models on a page, at most")
    page_token: str | None = Field(None, description="from the Link header of the page before")


@models.operation(
    "GET",
    "/models",
    query=ListQuery,
    query_prefix="tag.",
    role=Role.VIEWER,
    responses={
        200: Answer("Models, newest published first", {JSON: list[ModelOut]}, ("Link",)),
        404: Answer("No model in the whole catalogue passes the filters", {TEXT: str}),
        422: BAD_QUERY,
        503: TRY_AGAIN,
    },
    curl='curl "$REGISTRY/models?name=detector&precision=fp16&limit=10"',
)
def list_models() -> Response:
    """List or search models

    All filters must hold. 404 means that filters were given and the whole catalogue holds no such model; a page may
    be empty and still announce another by its `Link` header.
    """
    given = models.query(ListQuery, prefix="tag.")
    tags = {name.removeprefix("tag."): value for name, value in given.items() if name.startswith("tag.")}
    query = parsed(ListQuery, {name: value for name, value in given.items() if not name.startswith("tag.")}, "query")
    filters = Filters(**query.model_dump(exclude={"limit", "page_token"}), tags=tags)
    after = position_of(query.page_token, filters, POSITION) if query.page_token else None
    page = registry().catalog.search(filters, query.limit, after, models.actor().access)
    if not page.versions and not page.after and not after and not filters.is_empty:
        raise NotFound("Model(s) not found.")
    body = TypeAdapter(list[ModelOut]).dump_json([ModelOut.of(version) for version in page.versions]).decode()
    headers: dict[str, str | list[str]] = {"Content-Type": "application/json"}
    if page.after:
        headers["Link"] = next_link("/models", {**given, "page_token": page_token(page.after, filters)})
    return Response(body, headers=headers)


@models.operation(
    "POST",
    "/models",
    body={MULTIPART: RegistrationForm},
    headers=RepeatHeaders,
    role=Role.PUBLISHER,
    responses={
        201: Answer("The id of the new model", {TEXT: str}),
        400: Answer("Unsupported precision", {TEXT: str}),
        409: Answer(
            f"{TAKEN.meaning}; or, as JSON, the request of this Idempotency-Key still runs",
            {TEXT: str, JSON: Detail},
            ("Retry-After",),
        ),
        413: TOO_LARGE,
        415: NO_FORM,
        422: Answer(
            "A field or the archive breaks a rule, or the Idempotency-Key came with another content",
            {TEXT: str, JSON: Detail | FieldProblems},
        ),
        503: TRY_AGAIN,
    },
    curl="""curl "$REGISTRY/models" -F "file=@model.zip;type=application/zip" -F name=detector -F version=v1 \\
  -F precision=fp16 -F 'labels=["cat", "dog"]' -F 'tags={"team": "vision"}'""",
)
def register_model() -> Response:
    """Register a model with its ZIP archive

    Nothing is stored unless the archive is sound, and no model is listed before all its bytes are stored.
    """
    form = models.form()
    require_known_keys(form, set(RegistrationForm.model_fields))
    stated = {name: value for name, value in stated_fields(form).items() if value is not None}
    intent = intent_of(models, lambda: content_of(form, stated))
    fields = {"id": intent.new_id(), "created_date": as_date(datetime.now(UTC)), **stated}
    problems = [] if "file" in form.files else [problem(["body", "file"], "Field required: a file part", "missing")]
    draft = parsed(Draft, fields, "body", problems)
    draft.check_limits()
    parcel = parcel_of(form)
    return intent.answer(lambda: registered(draft, parcel), again=id_answer)


def registered(draft: Draft, parcel: Parcel) -> Made:
    version = registry().register(draft, parcel, models.actor())
    return Made(version.id, id_answer(version.id))


def id_answer(model_id: str) -> Response:
    return text_response(model_id, 201)


@models.operation(
    "GET",
    "/models/{model_id}",
    role=Role.VIEWER,
    responses={
        200: Answer("The model", {JSON: ModelOut}, ("ETag",)),
        400: NOT_AN_ID,
        404: NO_SUCH_MODEL,
        503: TRY_AGAIN,
    },
    curl='curl "$REGISTRY/models/$ID"',
)
def get_model(model_id: str) -> Response:
    """Get one model"""
    version = registry().version(valid_id(model_id), models.actor())
    body = ModelOut.of(version).model_dump_json()
    return Response(body, headers={"Content-Type": "application/json", "ETag": f'"{version.revision}"'})


@models.operation(
    "PUT",
    "/models/{model_id}",
    body={MULTIPART: ChangeForm, URLENCODED: ChangeForm},
    headers=ChangeHeaders,
    role=Role.PUBLISHER,
    responses={
        200: Answer("Done", {JSON: Completed}, ("ETag",)),
        400: Answer(
            "No supported field, unsupported precision, or not the form of an id",
            {TEXT: str, JSON: StatedError | Detail},
        ),
        404: NO_SUCH_MODEL,
        409: TAKEN,
        412: Answer("If-Match names another revision than the current one", {JSON: Detail}),
        413: TOO_LARGE,
        415: NO_FORM,
        422: Answer("A field breaks a rule", {TEXT: str, JSON: Detail | FieldProblems}),
        503: TRY_AGAIN,
    },
    curl="""curl -X PUT "$REGISTRY/models/$ID" -F score=0.93 -F description='Trained on the March data'""",
)
def update_model(model_id: str) -> Response:
    """Change fields of a model

    Only the fields that are sent change; an empty value clears an optional one. With `If-Match: "<revision>"` the
    change is made only if nobody changed the model since.
    """
    form = models.form()
    changeable = set(ChangeForm.model_fields)
    if not changeable & {*form.fields, *form.files}:
        raise NothingToChange(
            "Invalid request. Check the request body and ensure at least 1 supported field is provided."
        )
    require_known_keys(form, changeable)
    fields = stated_fields(form)
    if "precision" in fields and fields["precision"] is None:
        raise InvalidInput("precision", f"precision must name at least one of {', '.join(PRECISIONS)}.")
    changes = parsed(Changes, fields, "body")
    version = registry().update(valid_id(model_id), changes, models.actor(), models.stated_revision())
    return json_response({"status": "completed"}, ETag=f'"{version.revision}"')


@models.operation(
    "DELETE",
    "/models/{model_id}",
    role=Role.ADMIN,
    responses={204: Answer("Deleted"), 400: NOT_AN_ID, 404: NO_SUCH_MODEL, 503: TRY_AGAIN},
    curl='curl -X DELETE "$REGISTRY/models/$ID"',
)
def delete_model(model_id: str) -> Response:
    """Delete a model and its artifact"""
    registry().delete(valid_id(model_id), models.actor())
    return Response("", status_code=204)


@models.operation(
    "GET",
    "/models/{model_id}/files",
    role=Role.VIEWER,
    responses={
        202: Answer("A directory of files is being packed as one archive: ask again", {TEXT: str}, ("Retry-After",)),
        307: Answer("Follow Location to the archive, byte for byte as registered", {TEXT: str}, ("Location",)),
        400: NOT_AN_ID,
        404: NO_SUCH_MODEL,
        409: NOT_HERE,
        503: TRY_AGAIN,
    },
    curl='curl -L -o model.zip "$REGISTRY/models/$ID/files"',
)
def download_model(model_id: str) -> Response:
    """Download the archive of a model

    The answer redirects to a URL that works for an hour at most; ask again rather than keep it. A directory of files,
    as MLflow's clients log them, is packed as one archive when it is first asked for, which may take a while: 202 says
    when to ask again.
    """
    version = registry().version(valid_id(model_id), models.actor())
    artifact = version.artifact_here()
    file = packing().archive(version.id, artifact) if isinstance(artifact, Tree) else artifact
    if file is None:
        again = str(PACKED_AFTER_SECONDS)
        return text_response(
            f"The files are being packed as one archive: ask again in {again} seconds.\n", 202, **{"Retry-After": again}
        )
    url = registry().blobs.download_url(file)
    return text_response("Follow the redirect to the archive (curl -L).\n", 307, Location=url)


def valid_id(model_id: str) -> str:
    """Raises InvalidId unless this has the form of an id, NotFound if it is longer than any (and than a key may be)."""
    if not ID_FORM.fullmatch(model_id):
        raise InvalidId("Invalid format for model ID.")
    if len(model_id) > MAX_ID_LENGTH:
        raise NotFound("Model not found.")
    return model_id
