"""`/uploads`: large files go straight to S3, by signed requests, and survive a broken connection.

Open an upload, send the bytes to where it says, complete it. Until then no reader sees the model; its id, name, version
and precision are held for it. An upload ends by itself 24 hours after its last activity, 7 days after its beginning.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from chalice.app import Response
from pydantic import BeforeValidator, ConfigDict, Field, Strict

from chalicelib.idempotency import Made, RepeatHeaders, intent_of
from chalicelib.problems import answer_problem, problem_answer
from chalicelib.registry.access import Role
from chalicelib.registry.errors import NO_SUCH_UPLOAD, InvalidInput, NotFound
from chalicelib.registry.models import PRECISIONS, ZIP, Draft, Metadata, ModelId, Tags, normal_precisions, time_text
from chalicelib.registry.ports import SignedRequest
from chalicelib.registry.uploading import UploadStatus
from chalicelib.registry.uploads import MAX_OBJECT_BYTES, MAX_PARTS, Part, StatedFile, Upload
from chalicelib.settings import settings
from chalicelib.surface import JSON, Answer, Shape, Surface, json_response
from chalicelib.surfaces.model_fields import ANY_CASE, ZIP_TYPES, ModelOut, as_date, described
from chalicelib.wiring import uploading

MAX_DIGESTS = 100
MAX_COMPLETION_BYTES = 4 * 1024**2  # of 10,000 parts
MEDIA_TYPE = r"^[a-zA-Z0-9][a-zA-Z0-9!#$&^_.+-]{0,62}/[a-zA-Z0-9][a-zA-Z0-9!#$&^_.+-]{0,62}$"
# In JSON 1.0 is an integer too; true and "1" are none.
Integer = Annotated[int, Strict(), BeforeValidator(lambda value: int(value) if is_integral(value) else value)]
Digest = Annotated[str, Field(pattern="^[A-Za-z0-9+/]{43}=$")]
Sha256 = Annotated[str, Field(pattern="^[0-9a-fA-F]{64}$")]
UPLOAD_ID = re.compile(r"[0-9A-Z]{26}")
UploadId = Annotated[str, Field(pattern=f"^{UPLOAD_ID.pattern}$", description="The id of an upload.")]

uploads = Surface(__name__, answer_problem, {"upload_id": UploadId})
UNKNOWN_UPLOAD = problem_answer("No such upload")
ENDED = problem_answer("The upload has ended; `state` says how")
TRY_AGAIN = problem_answer("Try again later", "Retry-After")
BAD_BODY = problem_answer("Not a JSON object")
TOO_LARGE = problem_answer("The body is too large")
NO_JSON = problem_answer("The body is of another type than JSON")
RUNNING = "the request of this Idempotency-Key still runs"
REUSED = "the Idempotency-Key came with another content"


def is_integral(value: object) -> bool:
    return isinstance(value, float) and value.is_integer()


def _as_json(schema: dict[str, Any]) -> None:
    one = {"type": "string", "pattern": f"^{ANY_CASE}$"}
    schema["properties"]["precision"] = {
        "anyOf": [{"type": "array", "items": one, "minItems": 1}, one, {"type": "null"}]
    }
    described(schema)


class NewUpload(Metadata):
    """A model, and the file that is about to be sent. null means unknown."""

    model_config = ConfigDict(json_schema_extra=_as_json)

    id: ModelId | None = None
    precision: list[str] | str | None = None  # type: ignore[assignment]
    tags: Tags | None = None  # type: ignore[assignment]
    file_name: str = Field(min_length=1, max_length=1024, description="Its last part names the object.")
    size: Integer = Field(ge=1, le=MAX_OBJECT_BYTES, description="Bytes of the file; 5 TiB at most.")
    sha256: Sha256 | None = Field(None, description="Of the file, in hexadecimal; required up to 64 MiB.")
    media_type: str = Field(
        ZIP, pattern=MEDIA_TYPE, description="application/zip, or another type for a single model file."
    )

    def draft(self, new_id: Callable[[], str]) -> Draft:
        """What is stated of the model; its id is new if none is. Raises UnsupportedPrecision."""
        stated = self.model_dump(include=set(Metadata.model_fields), exclude_unset=True)
        precision = [self.precision] if isinstance(self.precision, str) else self.precision
        stated.pop("precision", None)
        if self.tags is None:
            stated.pop("tags", None)
        if precision is not None:
            stated["precision"] = normal_precisions(precision)
            if not precision:
                raise InvalidInput("precision", f"precision must name at least one of {', '.join(PRECISIONS)}.")
        if stated.get("created_date") is None:
            stated["created_date"] = as_date(datetime.now(UTC))
        draft = Draft(**stated, id=self.id or new_id())
        draft.check_limits()
        return draft

    def file(self) -> StatedFile:
        media_type = self.media_type.lower()
        return StatedFile(
            file_name=self.file_name,
            size=self.size,
            sha256=self.sha256.lower() if self.sha256 else None,
            media_type=ZIP if media_type in ZIP_TYPES else media_type,
        )


class UploadOut(Shape):
    """Where the bytes go: one PUT to `url` with these headers, or parts, whose URLs are asked for by their digests."""

    upload_id: str
    model_id: str
    method: Literal["PUT", "MULTIPART"]
    url: str | None = Field(
        None, description="For PUT. A secret that works for an hour or as is configured; ask again rather than keep it."
    )
    headers: dict[str, str] | None = Field(None, description="For PUT: send exactly these.")
    part_size: int | None = Field(None, description="For MULTIPART: bytes of every part but the last.")
    part_count: int | None = None
    expires_at: str = Field(description="When the upload ends unless something happens to it.")

    @classmethod
    def of(cls, upload: Upload, request: SignedRequest | None) -> "UploadOut":
        return cls(**fields_of(upload), url=request and request.url, headers=request and dict(request.headers))


class StoredPart(Shape):
    """A part that S3 has. `digest` is the SHA-256 in base64."""

    number: int
    size: int
    etag: str
    digest: str


class UploadStatusOut(UploadOut):
    """An upload as it is now, for whoever goes on with it."""

    state: Literal["OPEN", "COMPLETED", "FAILED", "ABORTED", "EXPIRED"]
    size: int
    reason: str | None = Field(description="Why it ended.")
    stored: bool = Field(description="S3 has the whole file; if OPEN, only `complete` is missing.")
    parts: list[StoredPart] = Field(description="What S3 has of an OPEN upload.")

    @classmethod
    def of_status(cls, status: UploadStatus) -> "UploadStatusOut":
        upload, request = status.upload, status.request
        return cls(
            **fields_of(upload),
            url=request and request.url,
            headers=request and dict(request.headers),
            state=upload.state.value,
            size=upload.size,
            reason=upload.reason,
            stored=status.is_stored,
            parts=[StoredPart(**part.model_dump()) for part in status.parts],
        )


def valid_upload_id(upload_id: str) -> str:
    """Raises NotFound for what no upload is called; it may be longer than a key."""
    if not UPLOAD_ID.fullmatch(upload_id):
        raise NotFound(NO_SUCH_UPLOAD)
    return upload_id


def fields_of(upload: Upload) -> dict[str, Any]:
    return {
        "upload_id": upload.id,
        "model_id": upload.draft.id,
        "method": upload.method,
        "part_size": upload.part_size,
        "part_count": upload.part_count if upload.part_size else None,
        "expires_at": time_text(upload.expires_at),
    }


class WantedParts(Shape):
    """The digests of parts that are about to be sent."""

    model_config = ConfigDict(extra="forbid", defer_build=True)

    digests: dict[Annotated[str, Field(pattern="^[1-9][0-9]{0,4}$")], Digest] = Field(
        min_length=1,
        max_length=MAX_DIGESTS,
        json_schema_extra={"additionalProperties": False},
        description="By the number of the part, from 1: the SHA-256 of its bytes in base64.",
    )


class PartRequest(Shape):
    """Where one part goes: a PUT with exactly these headers. S3 refuses other bytes."""

    number: int
    url: str
    headers: dict[str, str]


class PartRequests(Shape):
    """Where the parts go, for an hour."""

    parts: list[PartRequest]
    expires_at: str


class SentPart(Shape):
    """A part as it was sent, with the ETag that S3 answered."""

    model_config = ConfigDict(extra="forbid", defer_build=True)

    number: Integer = Field(ge=1, le=MAX_PARTS)
    etag: str = Field(max_length=128)
    digest: Digest


class Completion(Shape):
    """Every part, as it was sent; empty after a single PUT."""

    model_config = ConfigDict(extra="forbid", defer_build=True)

    parts: list[SentPart] = Field([], max_length=MAX_PARTS)
    sha256: Sha256 | None = Field(None, description="Of the whole file, in hexadecimal.")


@uploads.operation(
    "POST",
    "/uploads",
    body={JSON: NewUpload},
    headers=RepeatHeaders,
    role=Role.PUBLISHER,
    responses={
        201: Answer("Where the bytes go", {JSON: UploadOut}, ("Location",)),
        400: problem_answer("Not a JSON object, or an unsupported precision"),
        409: problem_answer(
            "The id, or this name, version and precision in this project, is taken by `holder`. With an Idempotency-Key"
            f" also: {RUNNING}; or the upload that it opened has ended, and `state` says how",
            "Retry-After",
        ),
        413: TOO_LARGE,
        415: NO_JSON,
        422: problem_answer(f"A field breaks a rule, or {REUSED}"),
        503: TRY_AGAIN,
    },
    curl="""curl "$REGISTRY/uploads" -H 'Content-Type: application/json' \\
  -d "{\\"name\\": \\"large\\", \\"version\\": \\"v1\\", \\"file_name\\": \\"model.zip\\", \\"size\\": 4000000000}\"""",
)
def open_upload() -> Response:
    """Open an upload

    Every check of `POST /models` that needs no bytes is made now. One PUT carries a file of up to 64 MiB, parts carry a
    larger one.
    """
    stated = uploads.body(NewUpload)
    intent = intent_of(uploads, lambda: stated.model_dump(mode="json", exclude_unset=True))
    draft, file = stated.draft(intent.new_id), stated.file()
    return intent.answer(lambda: opened(draft, file), again=opened_before)


def opened(draft: Draft, file: StatedFile) -> Made:
    upload = uploading().open(draft, file, uploads.actor())
    return Made(upload.id, upload_answer(upload))


def opened_before(upload_id: str) -> Response:
    return upload_answer(uploading().still_open(upload_id, uploads.actor()))


def upload_answer(upload: Upload) -> Response:
    answer = UploadOut.of(upload, uploading().put_request(upload)).model_dump(mode="json", exclude_none=True)
    base = f"{settings().public_url}/" if settings().public_url else ""
    return json_response(answer, 201, Location=f"{base}uploads/{upload.id}")


@uploads.operation(
    "GET",
    "/uploads/{upload_id}",
    role=Role.PUBLISHER,
    responses={200: Answer("The upload", {JSON: UploadStatusOut}), 404: UNKNOWN_UPLOAD, 503: TRY_AGAIN},
    curl='curl "$REGISTRY/uploads/$UPLOAD"',
)
def get_upload(upload_id: str) -> Response:
    """Get an upload, with the parts that S3 has

    What a client needs to go on after it was interrupted. It is known until 30 days after its end.
    """
    status = uploading().status(valid_upload_id(upload_id), uploads.actor())
    return json_response(UploadStatusOut.of_status(status).model_dump(mode="json"))


@uploads.operation(
    "POST",
    "/uploads/{upload_id}/parts",
    body={JSON: WantedParts},
    headers=RepeatHeaders,
    role=Role.PUBLISHER,
    responses={
        200: Answer("Where the parts go", {JSON: PartRequests}),
        400: BAD_BODY,
        404: UNKNOWN_UPLOAD,
        409: problem_answer(f"{ENDED.meaning}. Or {RUNNING}", "Retry-After"),
        413: TOO_LARGE,
        415: NO_JSON,
        422: problem_answer(f"A part that the upload does not have, no SHA-256 in base64, or {REUSED}"),
        503: TRY_AGAIN,
    },
    curl="""curl "$REGISTRY/uploads/$UPLOAD/parts" -H 'Content-Type: application/json' \\
  -d '{"digests": {"1": "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="}}'""",
)
def sign_parts(upload_id: str) -> Response:
    """Get URLs for parts by their digests

    Each URL stores the part with this SHA-256 and no other bytes. Asking keeps the upload alive for another 24 hours.
    """
    wanted = uploads.body(WantedParts)
    intent = intent_of(uploads, lambda: wanted.model_dump(mode="json"))
    # Signing them another time is the same, with fresh URLs.
    return intent.answer(lambda: signed(upload_id, wanted))


def signed(upload_id: str, wanted: WantedParts) -> Made:
    digests = {int(number): digest for number, digest in wanted.digests.items()}
    upload, requests = uploading().part_requests(valid_upload_id(upload_id), digests, uploads.actor())
    parts = [PartRequest(number=number, url=one.url, headers=dict(one.headers)) for number, one in requests]
    answer = PartRequests(parts=parts, expires_at=fields_of(upload)["expires_at"])
    return Made(upload_id, json_response(answer.model_dump(mode="json")))


@uploads.operation(
    "POST",
    "/uploads/{upload_id}/complete",
    body={JSON: Completion},
    headers=RepeatHeaders,
    role=Role.PUBLISHER,
    responses={
        200: Answer("The model, READY", {JSON: ModelOut}, ("ETag",)),
        400: BAD_BODY,
        404: UNKNOWN_UPLOAD,
        409: problem_answer(
            f"The upload has ended, or what the archive says of its precision is taken by `holder`. Or {RUNNING}",
            "Retry-After",
        ),
        413: TOO_LARGE,
        415: NO_JSON,
        422: problem_answer(
            "Parts are missing: the upload goes on. Or the archive is refused: the upload has failed."
            f" Or {REUSED}: nothing was done"
        ),
        503: TRY_AGAIN,
    },
    curl="""curl -X POST "$REGISTRY/uploads/$UPLOAD/complete" -H 'Content-Type: application/json' -d '{}'""",
)
def complete_upload(upload_id: str) -> Response:
    """Complete an upload: the model becomes READY

    Sizes and digests are compared with what S3 has, the archive's directory is checked, then the model is there, all at
    once. Repeating it answers the same; after 502, 503 or 504 repeat it.
    """
    stated = uploads.body(Completion, MAX_COMPLETION_BYTES)
    intent = intent_of(uploads, lambda: stated.model_dump(mode="json"))
    # Completing it another time answers the model as it is then.
    return intent.answer(lambda: completed(upload_id, stated))


def completed(upload_id: str, stated: Completion) -> Made:
    parts = [Part(**part.model_dump()) for part in stated.parts]
    version = uploading().complete(valid_upload_id(upload_id), parts, stated.sha256, uploads.actor())
    headers: dict[str, str | list[str]] = {"Content-Type": JSON, "ETag": f'"{version.revision}"'}
    return Made(version.id, Response(ModelOut.of(version).model_dump_json(), headers=headers))


@uploads.operation(
    "DELETE",
    "/uploads/{upload_id}",
    role=Role.PUBLISHER,
    responses={204: Answer("It has ended without a model"), 404: UNKNOWN_UPLOAD, 409: ENDED, 503: TRY_AGAIN},
    curl='curl -X DELETE "$REGISTRY/uploads/$UPLOAD"',
)
def abort_upload(upload_id: str) -> Response:
    """Abort an upload

    What it held is free again and what S3 has of it is removed.
    """
    uploading().abort(valid_upload_id(upload_id), uploads.actor())
    return Response("", status_code=204)
