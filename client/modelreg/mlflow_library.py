"""MLflow's own library, with which another registry and this one are talked to in one process.

The library reads credentials and most of its settings from the environment, also while it works: each call is made with
those of the side that it is for.
"""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from modelreg.errors import InvalidInput, LocalError

PAGE = 1000
# What credentials are read from. Those that are set are the other registry's, and are sent nowhere else.
CREDENTIALS = [
    f"MLFLOW_TRACKING_{name}"
    for name in (
        *("USERNAME", "PASSWORD", "TOKEN", "AUTH", "AWS_SIGV4"),
        *("INSECURE_TLS", "CLIENT_CERT_PATH", "SERVER_CERT_PATH"),
    )
]
QUIET = {
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "5",
}
NO_LIBRARY = "MLflow's library is not installed here."
HOW_TO_INSTALL = "Type `pip install 'mlflow>=3.18'` where modelreg is installed, or install modelreg where MLflow is."


class Side:
    """One of the two: its registry, what is tracked there, and its files.

    Raises LocalError where the library is not installed.
    """

    def __init__(self, uri: str, user_and_password: tuple[str, str] | None = None) -> None:
        """user_and_password: if not those that the environment has."""
        os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
        try:
            from mlflow import MlflowClient, artifacts
            from mlflow.tracking._model_registry.client import ModelRegistryClient
        except ImportError as exc:
            raise LocalError(NO_LIBRARY, hint=HOW_TO_INSTALL) from exc
        logging.getLogger("mlflow").setLevel(logging.ERROR)
        self._variables: dict[str, str | None] = {"MLFLOW_TRACKING_URI": uri, "MLFLOW_REGISTRY_URI": None}
        if user_and_password:
            self._variables |= dict.fromkeys(CREDENTIALS)
            user, password = user_and_password
            self._variables |= {"MLFLOW_TRACKING_USERNAME": user, "MLFLOW_TRACKING_PASSWORD": password}
        self.registry: Any = _Calls(ModelRegistryClient(uri, uri), self._variables)
        self.tracking: Any = _Calls(MlflowClient(uri, uri), self._variables)
        self._files: Any = _Calls(artifacts, self._variables)
        self._uri = uri

    def download(self, uri: str, folder: Path) -> Path:
        """The files at an address of this side, in a new folder."""
        folder.mkdir()
        return Path(self._files.download_artifacts(artifact_uri=uri, dst_path=str(folder), tracking_uri=self._uri))


class _Calls:
    """Functions of the library, each of which is called in an environment of its own."""

    def __init__(self, functions: Any, variables: Mapping[str, str | None]) -> None:
        self._functions, self._variables = functions, variables

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._functions, name)

        def called(*args: Any, **options: Any) -> Any:
            with environment(**self._variables):
                return call(*args, **options)

        return called


@contextmanager
def environment(**variables: str | None) -> Iterator[None]:
    """With these variables set, or unset, for as long: MLflow's library reads most of its settings there."""
    before = {name: os.environ.get(name) for name in variables}
    try:
        _set(variables)
        yield
    finally:
        _set(before)


def _set(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def all_of(search: Any, filter_string: str | None = None) -> list[Any]:
    """What is on all pages of a search."""
    options: dict[str, Any] = {"max_results": PAGE} | ({"filter_string": filter_string} if filter_string else {})
    found: list[Any] = []
    while True:
        page = search(**options)
        found += page
        if not page.token:
            return found
        options["page_token"] = page.token


def quoted(name: str) -> str:
    """As a value of a filter. Raises InvalidInput for what cannot be one."""
    quotes = [quote for quote in "'\"" if quote not in name]
    if not quotes:
        raise InvalidInput(f"MLflow cannot search for {name!r}, which has quotes of both kinds.")
    return f"{quotes[0]}{name}{quotes[0]}"
