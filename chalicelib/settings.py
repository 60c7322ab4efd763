"""The only reader of the environment.

Everything is checked when it is first asked for, and an error names the variable. Nothing is read at import.
"""

import os
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
)

BaseUrl = Annotated[str, StringConstraints(pattern=r"^https?://[^\s?#]+$"), AfterValidator(lambda url: url.rstrip("/"))]


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
