"""A server of MLflow's own for all tests of a process, and ours."""

from collections.abc import Iterator

import pytest

from tests.mlflow.server import running_server
from tests.surfaces.conftest import access, document, service

__all__ = ["access", "document", "service"]


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its URL."""
    with running_server(tmp_path_factory.mktemp("mlflow-server")) as url:
        yield url
