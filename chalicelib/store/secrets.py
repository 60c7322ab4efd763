"""Reads the token of Geti where an operator keeps it. No error repeats anything of a value."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.registry.errors import NotConfigured, Unavailable
from chalicelib.store.transactions import TRANSIENT

SECRET_SETTING, PARAMETER_SETTING = "GETI_TOKEN_SECRET", "GETI_TOKEN_PARAMETER"
KEYS = ("token", "GETI_TOKEN")
LATER = TRANSIENT | {"InternalServiceError", "Throttling", "TooManyRequestsException"}


class SecretsManager(Protocol):
    """What is asked of boto3's client."""

    def get_secret_value(self, *, SecretId: str) -> Mapping[str, Any]: ...  # noqa: N803


class Parameters(Protocol):
    """What is asked of boto3's client of SSM."""

    def get_parameter(self, *, Name: str, WithDecryption: bool) -> Mapping[str, Any]: ...  # noqa: N803


def read_secret(client: SecretsManager, secret_id: str) -> str:
    """The token that a secret of Secrets Manager holds: as text, or as a value of a JSON object.

    Of an object with several keys it is that of `token` or `GETI_TOKEN`. Raises NotConfigured and Unavailable.
    """
    with _errors_explained(SECRET_SETTING, "secret"):
        text = client.get_secret_value(SecretId=secret_id).get("SecretString")
    return _token(_value(text), SECRET_SETTING)


def read_parameter(client: Parameters, name: str) -> str:
    """The token that a parameter of SSM holds, as text. Raises NotConfigured and Unavailable."""
    with _errors_explained(PARAMETER_SETTING, "parameter"):
        text = client.get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"]
    return _token(text, PARAMETER_SETTING)


def _value(text: object) -> object:
    """What a secret holds; None if it does not say which of several it is."""
    try:
        content = json.loads(text) if isinstance(text, str) else None
    except ValueError:
        return text
    if not isinstance(content, dict):
        return text
    named = [content[key] for key in KEYS if key in content]
    return next(iter(named or content.values()), None) if named or len(content) == 1 else None


def _token(value: object, setting: str) -> str:
    token = value.strip() if isinstance(value, str) else ""
    if not token:
        raise NotConfigured(
            f"What {setting} names holds no token: store it as text"
            + (", or in a JSON object under the key token." if setting == SECRET_SETTING else ".")
        )
    return token


@contextmanager
def _errors_explained(setting: str, what: str) -> Iterator[None]:
    try:
        yield
    except ClientError as exc:
        code, status = exc.response["Error"].get("Code", ""), exc.response.get("ResponseMetadata", {})
        if code in LATER or status.get("HTTPStatusCode", 0) >= 500:
            raise Unavailable(f"The {what} that {setting} names cannot be read now: try again.") from exc
        raise NotConfigured(
            f"The {what} that {setting} names cannot be read ({code}): check its name, its region, and that the"
            " functions may read and decrypt it."
        ) from exc
    except BotoCoreError as exc:
        raise Unavailable(
            f"The {what} that {setting} names cannot be read now ({type(exc).__name__}): try again."
        ) from exc
