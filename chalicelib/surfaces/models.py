"""`/models`: the published Model Registry REST API, as clients in the field speak it."""

import ast
import io
import re
import uuid
import warnings
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import pydantic_core
from chalice.app import Response
from pydantic import BaseModel, Field, TypeAdapter

from chalicelib.registry.errors import InvalidInput, NotFound, RegistryError
from chalicelib.registry.models import Changes, Draft, Filters, JsonObject, ModelVersion, normal_precisions
from chalicelib.registry.service import Parcel
from chalicelib.settings import settings
from chalicelib.surface import (
    Form,
    Surface,
    Unprocessable,
    UnsupportedKeys,
    json_response,
    page_token,
    parsed,
    position_of,
    problem,
    text_response,
)
from chalicelib.wiring import registry

ZIP_TYPES = (
    "application/zip",
    "application/x-zip",
    "application/x-zip-compressed",
    "application/zip-compressed",
    "multipart/x-zip",
)
MAX_LIMIT = 1000
ID_FORM = re.compile(r"[a-zA-Z0-9_-]{16,}")


class InvalidId(RegistryError):
    code = "invalid_id"


class UnsupportedFileType(RegistryError):
    code = "unsupported_file_type"


class NothingToChange(RegistryError):
    code = "nothing_to_change"


def answer_error(exc: RegistryError) -> Response:
    """An error as this API has always said it: some as plain text, the rest as JSON with a `detail`."""
    status = {
        "unsupported_precision": 400,
        "invalid_id": 400,
        "nothing_to_change": 400,
        "not_found": 404,
        "conflict": 409,
        "stale_revision": 412,
        "too_large": 413,
        "unsupported_media_type": 415,
        "unavailable": 503,
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


models = Surface(__name__, answer_error)


class ModelOut(BaseModel):
    """A model version as clients see it; what is unknown is null. Dates are UTC."""

    id: str
    name: str
    version: str
    number: int
    status: str
    target_device: str | None
    precision: list[str]
    size: int = Field(description="bytes")
    format: str | None
    origin: str | None
    file_url: str = Field(description="Where the artifact is kept; not a download link.")
    project_id: str | None
    project_name: str | None
    category: str | None
    target_device_type: str | None
    score: float | None
    overview: JsonObject | None
    optimization_capabilities: JsonObject | None
    labels: list[str | JsonObject] | None
    architecture: str | None
    created_date: str | None
    last_updated_date: str
    description: str | None
    tags: dict[str, str]
    aliases: list[str]
    registered_model_id: str
    revision: int
    sha256: str
    sha256_checked_by: str = Field(description="Who computed sha256 over the stored bytes.")

    @classmethod
    def of(cls, version: ModelVersion) -> "ModelOut":
        file = version.artifact
        return cls(
            **version.model_dump(exclude={"rm_id", "artifact", "published_at", "updated_at"}),
            size=file.size,
            file_url=f"s3://{settings().artifact_bucket}/{file.key}",
            sha256=file.sha256,
            sha256_checked_by=file.sha256_checked_by,
            last_updated_date=as_date(version.updated_at),
            registered_model_id=version.rm_id,
            aliases=[],
        )


class ListQuery(BaseModel):
    """How `GET /models` may be asked. `tag.<key>=<value>` is accepted too, for any key."""

    name: str | None = Field(None, description="substring, any case")
    version: str | None = Field(None, description="exact")
    project_name: str | None = Field(None, description="substring, any case")
    category: str | None = Field(None, description="substring, any case")
    architecture: str | None = Field(None, description="substring, any case")
    precision: str | None = Field(None, description="substring, any case")
    origin: str | None = Field(None, description="equal, any case")
    format: str | None = Field(None, description="equal, any case")
    limit: int = Field(MAX_LIMIT, ge=1, le=MAX_LIMIT, description="models on a page, at most")
    page_token: str | None = Field(None, description="from the Link header of the page before")


@models.operation(
    "GET",
    "/models",
    query=ListQuery,
    answer=list[ModelOut],
    responses={200: "Models, newest first; more are announced by a Link header", 404: "None", 422: "Bad query"},
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
    after = position_of(query.page_token, filters) if query.page_token else None
    page = registry().catalog.search(filters, query.limit, after)
    if not page.versions and not page.after and not after and not filters.is_empty:
        raise NotFound("Model(s) not found.")
    body = TypeAdapter(list[ModelOut]).dump_json([ModelOut.of(version) for version in page.versions]).decode()
    headers: dict[str, str | list[str]] = {"Content-Type": "application/json"}
    if page.after:
        following = urlencode({**given, "page_token": page_token(page.after, filters)})
        base = f"{settings().public_url}/models" if settings().public_url else ""
        headers["Link"] = f'<{base}?{following}>; rel="next"'
    return Response(body, headers=headers)


@models.operation(
    "POST",
    "/models",
    body=Draft,
    answer=str,
    responses={
        201: "The id of the new model",
        400: "Unsupported precision",
        409: "The id, or this name, version and precision in this project, is taken",
        413: "The form is too large",
        415: "The body is no form",
        422: "A field or the archive breaks a rule",
        503: "Try again later",
    },
)
def register_model() -> Response:
    """Register a model with its ZIP archive

    Nothing is stored unless the archive is sound, and no model is listed before all its bytes are stored.
    """
    form = models.form()
    require_known_keys(form, {*Draft.model_fields, "file", "sha256"})
    fields = {name: value for name, value in stated_fields(form).items() if value is not None}
    fields.setdefault("id", str(uuid.uuid4()))
    fields.setdefault("created_date", as_date(datetime.now(UTC)))
    problems = [] if "file" in form.files else [problem(["body", "file"], "Field required: a file part", "missing")]
    draft = parsed(Draft, fields, "body", problems)
    draft.check_size()
    version = registry().register(draft, parcel_of(form), models.actor())
    return text_response(version.id, 201)


@models.operation(
    "GET",
    "/models/{model_id}",
    answer=ModelOut,
    responses={200: "The model", 400: "Not the form of an id", 404: "No such model"},
)
def get_model(model_id: str) -> Response:
    """Get one model"""
    version = registry().catalog.version(valid_id(model_id))
    body = ModelOut.of(version).model_dump_json()
    return Response(body, headers={"Content-Type": "application/json", "ETag": f'"{version.revision}"'})


@models.operation(
    "PUT",
    "/models/{model_id}",
    body=Changes,
    answer=dict[str, str],
    responses={
        200: "Done",
        400: "No supported field, unsupported precision, or not the form of an id",
        404: "No such model",
        409: "This name, version and precision in this project is taken",
        412: "If-Match names another revision",
        413: "The form is too large",
        415: "The body is no form",
        422: "A field breaks a rule",
        503: "Try again later",
    },
)
def update_model(model_id: str) -> Response:
    """Change fields of a model

    Only the fields that are sent change; an empty value clears an optional one. With `If-Match: "<revision>"` the
    change is made only if nobody changed the model since.
    """
    form = models.form()
    changeable = set(Changes.model_fields)
    if not changeable & {*form.fields, *form.files}:
        raise NothingToChange(
            "Invalid request. Check the request body and ensure at least 1 supported field is provided."
        )
    require_known_keys(form, changeable)
    changes = parsed(Changes, stated_fields(form), "body")
    version = registry().update(valid_id(model_id), changes, models.actor(), stated_revision())
    return json_response({"status": "completed"}, ETag=f'"{version.revision}"')


@models.operation(
    "DELETE",
    "/models/{model_id}",
    responses={204: "Deleted", 400: "Not the form of an id", 404: "No such model", 503: "Try again later"},
)
def delete_model(model_id: str) -> Response:
    """Delete a model and its artifact"""
    registry().delete(valid_id(model_id), models.actor())
    return Response("", status_code=204)


@models.operation(
    "GET",
    "/models/{model_id}/files",
    answer=str,
    responses={
        307: "Follow Location to the archive, byte for byte as registered",
        400: "Not the form of an id",
        404: "No such model",
    },
)
def download_model(model_id: str) -> Response:
    """Download the archive of a model

    The answer redirects to a URL that works for an hour at most; ask again rather than keep it.
    """
    version = registry().catalog.version(valid_id(model_id))
    url = registry().blobs.download_url(version.artifact)
    return text_response("Follow the redirect to the archive (curl -L).\n", 307, Location=url)


def valid_id(model_id: str) -> str:
    """Raises InvalidId unless this may be the id of a model."""
    if not ID_FORM.fullmatch(model_id):
        raise InvalidId("Invalid format for model ID.")
    return model_id


def stated_revision() -> int | None:
    """The revision in If-Match; None without the header or for `*`. Raises Unprocessable if it is no ETag of ours."""
    stated = models.current_request.headers.get("if-match")
    if stated in (None, "*"):
        return None
    if not (tag := re.fullmatch(r'"(\d{1,12})"', stated)):
        raise Unprocessable([problem(["header", "If-Match"], 'expected the ETag of the model, as "3"', "value_error")])
    return int(tag[1])


def require_known_keys(form: Form, known: set[str]) -> None:
    unknown = [key for key in {**form.fields, **form.files} if key not in known]
    if unknown:
        raise UnsupportedKeys("Unsupported key(s) found", unknown)
    text_files = [name for name in form.files if name != "file"]
    if text_files:
        raise Unprocessable(
            [problem(["body", name], "expected a text field, not a file", "text") for name in text_files]
        )


def stated_fields(form: Form) -> dict[str, Any]:
    """The text fields, parsed; None where the value is empty. name and version stay as they are."""
    fields: dict[str, Any] = {}
    for name in form.fields:
        if name == "precision":
            fields[name] = stated_precisions(form.fields[name])
        elif name != "sha256" and name != "file":
            text = form.single(name) or ""
            fields[name] = text if name in ("name", "version") else parsed_field(name, text)
    return fields


def parsed_field(name: str, text: str) -> Any:
    """One field that may be cleared: JSON where it is JSON."""
    if name == "tags":
        return parsed_json_object(name, text or "{}")
    if not text:
        return None
    if name in ("overview", "optimization_capabilities"):
        return parsed_json_object(name, text)
    return parsed_labels(text) if name == "labels" else text


def stated_precisions(values: list[str]) -> tuple[str, ...] | None:
    """Given once or more, each one precision or several with commas or as a list. Raises UnsupportedPrecision."""
    stated = [part.strip(" \t'\"") for value in values for part in value.strip().strip("[]").split(",")]
    return normal_precisions([part for part in stated if part]) or None


def parsed_json_object(name: str, text: str) -> dict[str, Any]:
    try:
        value = pydantic_core.from_json(text, allow_inf_nan=False)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise InvalidInput(name, f"{name} is not a valid JSON object.")
    return value


def parsed_labels(text: str) -> list[Any]:
    """A JSON list or a Python list literal of strings or objects. It is read as data, never evaluated."""
    try:
        value = pydantic_core.from_json(text, allow_inf_nan=False)
    except ValueError:
        value = python_literal(text)
    if not isinstance(value, list) or not all(isinstance(label, str | dict) for label in value):
        raise InvalidInput("labels", "labels is not a valid list.")
    return value


def python_literal(text: str) -> Any:
    """The value of a Python literal, None if it is none."""
    try:
        with warnings.catch_warnings(action="ignore"):
            return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None


def parcel_of(form: Form) -> Parcel:
    """The uploaded file. Raises UnsupportedFileType and InvalidInput."""
    part, sha256 = form.files["file"], form.single("sha256")
    media_type = part.content_type.partition(";")[0].strip().lower()
    if media_type not in ZIP_TYPES:
        raise UnsupportedFileType(f"Unsupported file type found: {media_type}")
    if sha256 and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise InvalidInput("sha256", "sha256 is not 64 hexadecimal digits.")
    return Parcel(io.BytesIO(part.raw), part.filename, stated_sha256=sha256 or None)


def as_date(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S.%f} UTC"
