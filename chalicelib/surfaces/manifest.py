"""`/models/{id}/manifest`: what is in the artifact of a model, read from its directory in S3."""

import json
import re
from collections.abc import Sequence
from typing import Annotated

from chalice.app import Response
from pydantic import Field

from chalicelib.paging import next_link, page_token, position_of
from chalicelib.problems import answer_problem, problem_answer
from chalicelib.registry.access import Role
from chalicelib.registry.archives import ArchiveReport, describe_archive, inspect_file
from chalicelib.registry.models import ZIP, File, ModelId, ModelVersion, Tree
from chalicelib.registry.trees import TreeFile, relative
from chalicelib.surface import JSON, Answer, Shape, Surface, json_response, parsed
from chalicelib.surfaces.models import valid_id
from chalicelib.wiring import registry
from chalicelib.wiring_mlflow import trees

MAX_LIMIT = 10_000
MAX_ANSWER_BYTES = 5_000_000  # of 6 MB
EXTRA_BYTES_PER_FILE = 64
INDEX = re.compile(r"[0-9]{1,6}")

manifest = Surface(__name__, answer_problem, {"model_id": Annotated[ModelId, Field(description="The id of a model.")]})


class ManifestFile(Shape):
    """A file in the archive."""

    path: str
    size: int = Field(description="Bytes, unpacked.")
    crc32: str | None = Field(description="Eight hexadecimal digits; null for a file that is in no archive.")


class ManifestOut(Shape):
    """What the artifact holds. Format, labels, category and precision are what it says itself."""

    id: str
    file_name: str | None = Field(description="Null for a directory of files, which is packed when it is asked for.")
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
        409: problem_answer("The bytes of this model are kept elsewhere"),
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
    artifact = version.artifact_here()
    asked = Asked(key=artifact.digest if isinstance(artifact, Tree) else artifact.key)
    first = int(position_of(query.page_token, asked, INDEX)) if query.page_token else 0
    told = manifest_of_tree(version, artifact) if isinstance(artifact, Tree) else manifest_of_file(version.id, artifact)
    files = page_of(told.files, first, query.limit)
    headers = {}
    if first + len(files) < told.file_count:
        token = page_token(str(first + len(files)), asked)
        headers["Link"] = next_link(f"/models/{model_id}/manifest", {**given, "page_token": token})
    return json_response(told.model_copy(update={"files": files}).model_dump(mode="json"), 200, **headers)


def report_of(file: File) -> ArchiveReport:
    """What the stored artifact holds; it was checked when it was registered. What people say since is not asked."""
    with registry().blobs.opened(file.key, file.size) as content:
        return describe_archive(content) if file.media_type == ZIP else inspect_file(content, file.file_name)


def page_of(all_files: Sequence[ManifestFile], first: int, limit: int) -> list[ManifestFile]:
    """As many files as an answer may hold."""
    files: list[ManifestFile] = []
    size_bytes = 0
    for file in all_files[first : first + limit]:
        # Lambda sends it as JSON inside JSON.
        size_bytes += len(json.dumps(json.dumps(file.path))) + EXTRA_BYTES_PER_FILE
        if size_bytes > MAX_ANSWER_BYTES:
            break
        files.append(file)
    return files


def manifest_of_file(model_id: str, file: File) -> ManifestOut:
    """What the archive, or the bare file, says; with all its files."""
    report = report_of(file)
    return ManifestOut(
        id=model_id,
        file_name=file.file_name,
        media_type=file.media_type,
        size=file.size,
        sha256=file.sha256,
        sha256_checked_by=file.sha256_checked_by,
        **report.model_dump(include={"format", "labels", "category", "precision"}),
        file_count=len(report.entries),
        inflated_size=report.size_bytes,
        files=[
            ManifestFile(
                path=entry.path,
                size=entry.size_bytes,
                crc32=None if entry.crc32 is None else f"{entry.crc32:08x}",
            )
            for entry in report.entries
        ],
    )


def manifest_of_tree(version: ModelVersion, tree: Tree) -> ManifestOut:
    """What a directory holds; with all its files. None of them is opened."""

    def listed(file: TreeFile) -> ManifestFile:
        return ManifestFile(path=relative(file.path, tree.prefix), size=file.size, crc32=None)

    return ManifestOut(
        id=version.id,
        file_name=None,
        media_type=ZIP,
        size=tree.size,
        sha256=None,
        sha256_checked_by=None,
        format=version.format,
        labels=None,
        category=None,
        precision=None,
        file_count=tree.file_count,
        inflated_size=tree.size,
        files=[listed(file) for file in trees().files(tree.tree_id, tree.prefix)],
    )
