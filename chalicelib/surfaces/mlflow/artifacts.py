"""MLflow's artifact service: files go to S3 and come from there, by presigned URLs; only small ones pass through here.

A path begins with what a run, a logged model or a version gives as its artifact URI; `place_of` says what it names.
"""

import posixpath
import re
from typing import Annotated

from chalice.app import Response
from pydantic import Field

from chalicelib.registry.access import Role
from chalicelib.registry.errors import InvalidInput, TooLarge, shown
from chalicelib.registry.planting import StatedPart
from chalicelib.registry.trees import place_of
from chalicelib.surface import json_response, text_response
from chalicelib.surfaces.mlflow.protocol import Asked, answered, mlflow
from chalicelib.wiring_mlflow import planting

ROOT = "2.0/mlflow-artifacts"
MAX_PUT_BYTES = 4_500_000  # 6 MB of a Lambda event, in which bytes are base64
NOT_WHOLE = "\ufffd"  # what a gateway puts in the place of bytes that are no text


class ListAsked(Asked):
    path: str = ""


class CreateAsked(Asked):
    path: str
    num_parts: int = 0


class PartAsked(Asked):
    part_number: int
    etag: str = ""


class CompleteAsked(Asked):
    path: str
    upload_id: Annotated[str, Field(max_length=64)] = ""
    parts: list[PartAsked] = []


class AbortAsked(Asked):
    path: str
    upload_id: Annotated[str, Field(max_length=64)] = ""


@mlflow.call("GET", f"{ROOT}/artifacts", Role.VIEWER)
def list_artifacts() -> Response:
    """What is in a directory. Names are those in it, not paths, as with MLflow's own server."""
    found = planting().entries(place_of(mlflow.asked(ListAsked).path), mlflow.actor())
    files = [
        {"path": entry.name, "is_dir": entry.is_directory, "file_size": None if entry.is_directory else entry.size}
        for entry in found
    ]
    return answered({"files": files})


@mlflow.call("GET", f"{ROOT}/artifacts/{{path+}}", Role.VIEWER)
def download_artifact(path: str) -> Response:
    file = planting().file(place_of(path), mlflow.actor())
    return text_response("Follow the redirect to the file.\n", 307, Location=planting().url(file))


@mlflow.call("GET", f"{ROOT}/presigned/{{path+}}", Role.VIEWER)
def get_presigned_download_url(path: str) -> Response:
    file = planting().file(place_of(path), mlflow.actor())
    return json_response({"url": planting().url(file), "headers": {}, "file_size": file.size})


@mlflow.call("PUT", f"{ROOT}/artifacts/{{path+}}", Role.PUBLISHER)
def upload_artifact(path: str) -> Response:
    """A small file of a client that does not know of presigned URLs. Raises TooLarge and InvalidInput."""
    planting().put(place_of(path), _body(path), mlflow.actor())
    return answered()


@mlflow.call("DELETE", f"{ROOT}/artifacts/{{path+}}", Role.PUBLISHER)
def delete_artifacts(path: str) -> Response:
    planting().remove(place_of(path), mlflow.actor())
    return answered()


@mlflow.call("POST", f"{ROOT}/mpu/create/{{directory+}}", Role.PUBLISHER)
def create_multipart_upload(directory: str) -> Response:
    asked = mlflow.asked(CreateAsked)
    upload, urls = planting().begin(place_of(_file_in(directory, asked.path)), asked.num_parts, mlflow.actor())
    credentials = [{"url": url, "part_number": number, "headers": {}} for number, url in enumerate(urls, 1)]
    return json_response({"upload_id": upload.id, "credentials": credentials})


@mlflow.call("POST", f"{ROOT}/mpu/complete/{{directory+}}", Role.PUBLISHER)
def complete_multipart_upload(directory: str) -> Response:
    asked = mlflow.asked(CompleteAsked)
    parts = [StatedPart(number=part.part_number, etag=part.etag) for part in asked.parts]
    planting().complete(place_of(_file_in(directory, asked.path)), asked.upload_id, parts, mlflow.actor())
    return answered()


@mlflow.call("POST", f"{ROOT}/mpu/abort/{{directory+}}", Role.PUBLISHER)
def abort_multipart_upload(directory: str) -> Response:
    asked = mlflow.asked(AbortAsked)
    planting().abort(place_of(_file_in(directory, asked.path)), asked.upload_id, mlflow.actor())
    return answered()


def _file_in(directory: str, stated: str) -> str:
    """The file in this directory. Clients before 3.18 state where it is on their disk: its name is what counts."""
    name = re.split(r"[/\\]", stated)[-1]
    if name in ("", ".", ".."):
        raise InvalidInput("path", f"Invalid path: '{shown(stated)}' names no file.")
    return posixpath.join(directory.rstrip("/"), name)


def _body(path: str) -> bytes:
    """The bytes of a file, if they came as they were. Raises TooLarge and InvalidInput."""
    name = shown(posixpath.basename(path))
    advice = "MLflow 3.18 and later send every file to S3 by themselves, of any size: update the client"
    came = mlflow.current_request.raw_body or b""
    body = came.encode() if isinstance(came, str) else came
    is_text = not mlflow.current_request._is_base64_encoded
    if len(body) > MAX_PUT_BYTES:
        raise TooLarge(
            f"'{name}' has {len(body):,} bytes, and at most {MAX_PUT_BYTES:,} can pass through here. {advice}; or set"
            " MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD=true and MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE=1 where it runs."
        )
    if is_text and NOT_WHOLE in body.decode(errors="replace"):
        raise InvalidInput(
            "path",
            f"'{name}' came as a text that it is not, and some of its bytes are lost: send it with the content type"
            f" application/octet-stream. {advice}.",
        )
    return body
