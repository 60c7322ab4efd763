"""A bare client of the simulated Geti: what it sends and gets is what the tests say, without retries."""

import io
import zipfile
from typing import Any

import urllib3

from tests.simulators.geti import GetiServer, Model, Optimized


class Client:
    """Asks a simulator, with its token; connections are kept."""

    def __init__(self, geti: GetiServer, **pool: Any) -> None:
        self.geti = geti
        self.pool = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(10), **pool)
        world = geti.world
        self.workspace = f"/api/v1/organizations/{world.organization_id}/workspaces/{world.workspace_id}"

    def ask(self, method: str, path: str, **arguments: Any) -> urllib3.BaseHTTPResponse:
        headers = {"x-api-key": self.geti.token} | arguments.pop("headers", {})
        return self.pool.request(method, self.geti.url + path, headers=headers, **arguments)

    def get(self, path: str, **query: Any) -> Any:
        """The JSON of W/path, or of a path that begins with a slash."""
        answer = self.ask("GET", self.path(path), fields=query)
        assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json"), answer.data
        return answer.json()

    def path(self, path: str) -> str:
        return path if path.startswith("/") else f"{self.workspace}/{path}"

    def details(self, model: Model, model_id: str | None = None) -> Any:
        group = model.group
        return self.get(f"projects/{group.project.id}/model_groups/{group.id}/models/{model_id or model.id}")

    def deploy(self, *models: Optimized, **arguments: Any) -> urllib3.BaseHTTPResponse:
        project = models[0].model.group.project
        path = self.path(f"projects/{project.id}/deployment_package:download")
        return self.ask("POST", path, json={"package_type": "geti_sdk", "models": order(*models)}, **arguments)


def order(*models: Optimized) -> list[dict[str, str]]:
    return [{"model_id": model.id, "model_group_id": model.model.group.id} for model in models]


def zip_of(answer: urllib3.BaseHTTPResponse) -> zipfile.ZipFile:
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/zip"), answer.data
    archive = zipfile.ZipFile(io.BytesIO(answer.data))
    assert archive.testzip() is None
    return archive
