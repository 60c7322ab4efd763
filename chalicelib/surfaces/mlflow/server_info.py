"""What a client of MLflow asks before its first file: whether it may send and fetch files by presigned URLs.

It asks without credentials, waits three seconds and takes every failure for a no. So this needs no token and no call
of AWS. The answer that all files go by presigned URLs is followed from MLflow 3.18 on.
"""

from chalice.app import Response
from pydantic import Field

from chalicelib.surface import JSON, Answer, Shape, json_response
from chalicelib.surfaces.mlflow.protocol import mlflow


class ServerInfo(Shape):
    """What the registry can do, in the words of MLflow."""

    store_type: str | None = Field(description="The kind of store; that of MLflow's own servers on databases.")
    workspaces_enabled: bool
    trace_archival_enabled: bool
    multipart_uploads_enabled: bool = Field(description="Files may be sent in parts, to presigned URLs.")
    multipart_downloads_enabled: bool = Field(description="Files may be fetched in ranges, from presigned URLs.")
    artifact_serving_enabled: bool
    presigned_upload_run_id_supported: bool
    presigned_upload_model_id_supported: bool
    model_artifact_presigned_downloads_supported: bool
    features_enabled: dict[str, bool]
    tracking_auth: str
    artifacts_presigned_only: bool = Field(description="Whether no file passes through the API, whatever its size.")


INFO = ServerInfo(
    store_type="SqlStore",
    workspaces_enabled=False,
    trace_archival_enabled=False,
    multipart_uploads_enabled=True,
    multipart_downloads_enabled=True,
    artifact_serving_enabled=True,
    presigned_upload_run_id_supported=False,
    presigned_upload_model_id_supported=False,
    model_artifact_presigned_downloads_supported=False,
    features_enabled={"gateway": False, "scheduled_issue_detection": False},
    tracking_auth="",
    artifacts_presigned_only=True,
)
WHAT_IT_CAN = {200: Answer("What it can do", {JSON: ServerInfo})}


@mlflow.operation(
    "GET",
    "/api/3.0/mlflow/server-info",
    role=None,
    responses=WHAT_IT_CAN,
    curl='curl "$REGISTRY/api/3.0/mlflow/server-info"',
)
def get_server_info() -> Response:
    """Tell a client of MLflow how files are sent

    It needs no token, as with MLflow's own servers.
    """
    return json_response(INFO.model_dump(mode="json"))


@mlflow.operation(
    "GET",
    "/ajax-api/3.0/mlflow/server-info",
    role=None,
    responses=WHAT_IT_CAN,
    curl='curl "$REGISTRY/ajax-api/3.0/mlflow/server-info"',
)
def get_server_info_for_pages() -> Response:
    """Tell a page of MLflow how files are sent"""
    return json_response(INFO.model_dump(mode="json"))
