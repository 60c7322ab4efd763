"""The only reader of the environment.

Everything is checked when it is first asked for, and an error names the variable. Nothing is read at import.
"""

import os
import re
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
)

BaseUrl = Annotated[str, StringConstraints(pattern=r"^https?://[^\s?#]+$"), AfterValidator(lambda url: url.rstrip("/"))]
# Texts separated by commas, blanks around them left out.
Listed = Annotated[tuple[str, ...], BeforeValidator(lambda text: _listed(text))]


def _listed(text: object) -> object:
    return tuple(part.strip() for part in text.split(",") if part.strip()) if isinstance(text, str) else text


class Settings(BaseModel):
    """What the operator decides. Each field is set by the variable of the same name in upper case."""

    model_config = ConfigDict(frozen=True)

    registry_table: str = Field(min_length=3, description="DynamoDB table of the catalogue.")
    events_table: str = Field(min_length=3, description="DynamoDB table of the audit trail.")
    artifact_bucket: str = Field(min_length=3, description="S3 bucket of the artifacts.")
    audit_bucket: str = Field(min_length=3, description="S3 bucket of the checkpoints of the audit trail.")
    s3_public_endpoint: BaseUrl | None = Field(
        None,
        description="Where clients reach S3 in presigned URLs; unset on AWS. Must not be the API's host and port.",
    )
    public_url: BaseUrl | None = Field(
        None,
        description="Base URL of the API in `Link` headers; without it they are relative to the request.",
    )
    download_url_seconds: int = Field(3600, ge=1, le=604_800, description="How long a presigned URL works, at most.")
    access: Literal["token", "open"] = Field(
        "token", description="Who may call: holders of a token, or, if `open`, everyone, for everything."
    )
    geti_host: str | None = Field(None, max_length=500, description="Intel Geti server: a host or its URL.")
    geti_token: SecretStr | None = Field(None, description="Personal access token of Geti; Geti 3 needs none.")
    geti_token_secret: str | None = Field(None, description="Name or ARN of the secret that holds the token.")
    geti_token_parameter: str | None = Field(None, description="Name of the SSM parameter that holds the token.")
    geti_organization_id: str | None = Field(None, description="Organization, unless the token says it.")
    geti_workspace_id: str | None = Field(None, description="Workspace; needed only where there are several.")
    geti_server_api_version: str | None = Field(None, description="Accepted for old set-ups; the server says it.")
    geti_server_ssl_verify: bool = Field(True, description="Whether Geti's certificate is checked.")
    geti_ca_bundle: str | None = Field(None, description="PEM file, or PEM text, of who signed that certificate.")
    geti_server_id: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9._:-]{1,128}$",
        description="What the server is called in the keys of its models; keep it when the host gets another name.",
    )
    geti_allow_legacy_deployments: bool = Field(False, description="Use code deployments where Geti has only those.")
    geti_strip_sample_image: bool = Field(False, description="Repack packages without Geti's sample image.")
    geti_concurrency: int = Field(2, ge=1, le=10, description="How many packages Geti is asked for at once.")
    geti_sync_projects: Listed = Field((), description="Ids or names of the projects to sync; none: all.")
    geti_sync_exclude_projects: Listed = Field((), description="Ids or names of projects that are not synced.")
    geti_sync_models: Literal["active", "latest", "all"] = Field(
        "latest", description="Which versions are synced: those active in Geti, the latest of each group, or all."
    )
    geti_sync_precisions: Listed = Field((), description="Precisions to sync, as INT8,FP16; none: all.")
    geti_sync_xai: Literal["include", "exclude", "only"] = Field(
        "include", description="Whether models with a head for explanations are synced."
    )
    geti_sync_min_score: float | None = Field(
        None, allow_inf_nan=False, description="Lowest score that is synced; then models without one are not."
    )
    import_queue_url: BaseUrl | None = Field(None, description="SQS queue of what is imported from Geti.")
    sync_function: str | None = Field(None, description="Lambda function that syncs.")
    errand_queue_url: BaseUrl | None = Field(
        None, description="SQS queue of what requests leave for later: packing, unpacking, removing, renaming."
    )
    powertools_trace_disabled: bool = Field(False, description="Turns X-Ray traces of AWS calls off.")
    powertools_log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = Field(
        "INFO", description="Lowest level that is logged; below INFO the line per request is missing."
    )

    @field_validator("public_url")
    @classmethod
    def _is_not_where_s3_is(cls, url: str | None, known: ValidationInfo) -> str | None:
        # Clients send Authorization on to the same host and port, and S3 refuses a presigned URL with it.
        s3 = known.data.get("s3_public_endpoint")
        if url and s3 and urlsplit(url).netloc == urlsplit(s3).netloc:
            raise ValueError("must have another host or port than S3_PUBLIC_ENDPOINT")
        return url

    @field_validator("geti_host")
    @classmethod
    def _is_https_or_here(cls, host: str | None) -> str | None:
        """The base URL: https unless told otherwise, which is allowed on this machine only, for a token goes there."""
        if host is None:
            return None
        if not re.fullmatch(r"(https?://)?([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?/?", host):
            raise ValueError("must be a host, host:port or https://host:port, without a path")
        url = host.rstrip("/") if "://" in host else f"https://{host.rstrip('/')}"
        place = urlsplit(url)
        if place.scheme == "http" and place.hostname not in ("localhost", "127.0.0.1", "::1"):
            raise ValueError("must be https: plain http would show the token to the network")
        _ = place.port  # raises ValueError for a port that is none
        return url

    @property
    def is_geti_configured(self) -> bool:
        """Whether there is a server to ask. Whether it wants a token, it tells itself: Geti 3 has none."""
        return self.geti_host is not None

    @property
    def geti_server(self) -> str:
        """The identity of the Geti server: its models keep it for ever."""
        return self.geti_server_id or re.sub(r"[\[\]]", "", urlsplit(self.geti_host or "").netloc.lower())


class SettingsError(Exception):
    """The environment cannot be used; the text names each variable and what it should be."""


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Settings from variables; an empty variable counts as unset. Raises SettingsError."""
    values = {name: environment.get(name.upper()) or None for name in Settings.model_fields}
    try:
        return Settings.model_validate({name: value for name, value in values.items() if value is not None})
    except ValidationError as exc:
        # The input is left out of the text: a setting may be a secret.
        problems = [f"{str(error['loc'][0]).upper()}: {error['msg']}" for error in exc.errors()]
        raise SettingsError("; ".join(problems)) from None


@cache
def settings() -> Settings:
    """The settings of this process, read once."""
    return read_settings(os.environ)
