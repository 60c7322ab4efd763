"""`/models/{id}/manifest`: what is in the artifact of a model, read from its directory in S3."""

import json
import re
from typing import Annotated

from chalice.app import Response
from pydantic import Field

from chalicelib.paging import next_link, page_token, position_of
from chalicelib.problems import answer_problem, problem_answer
from chalicelib.registry.access import Role
from chalicelib.registry.archives import ArchiveReport, describe_archive, inspect_file
from chalicelib.registry.models import File, ModelId, ModelVersion
from chalicelib.registry.uploads import ZIP
from chalicelib.surface import JSON, Answer, Shape, Surface, json_response, parsed
from chalicelib.surfaces.models import valid_id
from chalicelib.wiring import registry

MAX_LIMIT = 10_000
MAX_ANSWER_BYTES = 5_000_000  # of 6 MB
EXTRA_BYTES_PER_FILE = 64
INDEX = re.compile(r"[0-9]{1,6}")

manifest = Surface(__name__, answer_problem, {"model_id": Annotated[ModelId, Field(description="The id of a model.")]})


class ManifestFile(Shape):
    """A file in the archive."""

    path: str
    size: int = Field(description="Bytes, unpacked.")
    crc32: str | None = Field(description="Eight hexadecimal digits; null for a bare file.")


class ManifestOut(Shape):
    """What the artifact holds. Format, labels, category and precision are what it says itself."""

    id: str
    file_name: str
    media_type: str
    size: int = Field(description="Bytes of the artifact.")
    sha256: str | None
    sha256_checked_by: str | None
    format: str | None
    labels: list[str] | None
    category: str | None
    precision: list[str] | None
    file_count: int
    inflated_size: int = Field(description="Bytes of all files, unpacked.")
    files: list[ManifestFile]


class ManifestQuery(Shape):
    """Which of the files."""

    limit: int = Field(MAX_LIMIT, ge=1, le=MAX_LIMIT, description="files on a page, at most")
    page_token: str | None = Field(None, description="from the Link header of the page before")


class Asked(Shape):
    """What a page token is bound to."""

    key: str


@manifest.operation(
    "GET",
    "/models/{model_id}/manifest",
    query=ManifestQuery,
    role=Role.VIEWER,
    responses={
        200: Answer("What the artifact holds", {JSON: ManifestOut}, ("Link",)),
        400: problem_answer("Not the form of an id"),
        404: problem_answer("No such model"),
        422: problem_answer("A query parameter is unknown, repeated, empty or wrong"),
        503: problem_answer("Try again later", "Retry-After"),
    },
    curl='curl "$REGISTRY/models/$ID/manifest"',
)
def get_manifest(model_id: str) -> Response:
    """List the files in the artifact of a model

    With the detected format, and the metadata that the artifact carries itself. The archive is not downloaded for it.
    """
    given = manifest.query(ManifestQuery)
    query = parsed(ManifestQuery, given, "query")
    version = registry().version(valid_id(model_id), manifest.actor())
    asked = Asked(key=version.artifact.key)
    first = int(position_of(query.page_token, asked, INDEX)) if query.page_token else 0
    report = report_of(version.artifact)
    files = page_of(report, first, query.limit)
    headers = {}
    if first + len(files) < len(report.entries):
        token = page_token(str(first + len(files)), asked)
        headers["Link"] = next_link(f"/models/{model_id}/manifest", {**given, "page_token": token})
    return json_response(manifest_of(version, report, files).model_dump(mode="json"), 200, **headers)


def report_of(file: File) -> ArchiveReport:
    """What the stored artifact holds; it was checked when it was registered. What people say since is not asked."""
    with registry().blobs.opened(file.key, file.size) as content:
        return describe_archive(content) if file.media_type == ZIP else inspect_file(content, file.file_name)


def page_of(report: ArchiveReport, first: int, limit: int) -> list[ManifestFile]:
    """As many files as an answer may hold."""
    files: list[ManifestFile] = []
    size_bytes = 0
    for entry in report.entries[first : first + limit]:
        # Lambda sends it as JSON inside JSON.
        size_bytes += len(json.dumps(json.dumps(entry.path))) + EXTRA_BYTES_PER_FILE
        if size_bytes > MAX_ANSWER_BYTES:
            break
        crc32 = None if entry.crc32 is None else f"{entry.crc32:08x}"
        files.append(ManifestFile(path=entry.path, size=entry.size_bytes, crc32=crc32))
    return files


def manifest_of(version: ModelVersion, report: ArchiveReport, files: list[ManifestFile]) -> ManifestOut:
    file = version.artifact
    return ManifestOut(
        id=version.id,
        file_name=file.file_name,
        media_type=file.media_type,
        size=file.size,
        sha256=file.sha256,
        sha256_checked_by=file.sha256_checked_by,
        **report.model_dump(include={"format", "labels", "category", "precision"}),
        file_count=len(report.entries),
        inflated_size=report.size_bytes,
        files=files,
    )
