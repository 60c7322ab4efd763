"""Which surface answers which path.

Importing all surfaces took a third of a cold start. So a container imports one when the first request comes for a path
of its own. Whoever looks through all routes, as Chalice does to package them, finds all.
"""

from collections.abc import Iterator, MutableMapping
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, cast

from chalice.app import Chalice
from chalice.app import RouteEntry as Route

if TYPE_CHECKING:
    from chalicelib.surface import Surface

# In the order of the documentation: the module of a surface, its name there, and its paths.
SURFACES = {
    "models:models": ("/models", "/models/{model_id}", "/models/{model_id}/files"),
    "manifest:manifest": ("/models/{model_id}/manifest",),
    "registered_models:registered_models": ("/registered-models",),
    "uploads:uploads": (
        "/uploads",
        "/uploads/{upload_id}",
        "/uploads/{upload_id}/parts",
        "/uploads/{upload_id}/complete",
    ),
    "projects:projects": ("/projects", "/projects/{project_id}", "/projects/{project_id}/geti-models/download"),
    "sync:sync_and_imports": ("/sync", "/sync/checks", "/imports/{import_id}"),
    "events:events": ("/events", "/models/{model_id}/events", "/checkpoints"),
    "tokens:tokens": ("/tokens", "/tokens/{token_id}", "/tokens/{token_id}/access"),
    "mlflow.server_info:mlflow": (
        "/api/{proxy+}",
        "/ajax-api/{proxy+}",
        "/api/3.0/mlflow/server-info",
        "/ajax-api/3.0/mlflow/server-info",
    ),
    "health:health": ("/health", "/{proxy+}"),
    "documentation:documentation": ("/openapi.json", "/docs"),
}


@cache
def surface(name: str) -> "Surface":
    """The surface that SURFACES names so."""
    module, _, attribute = name.partition(":")
    return cast("Surface", getattr(import_module(f"chalicelib.surfaces.{module}"), attribute))


def surfaces() -> list["Surface"]:
    return [surface(name) for name in SURFACES]


class Routes(MutableMapping[str, dict[str, Route]]):
    """Chalice's table: the routes of each path by method. A surface is registered when a path of it is looked up."""

    def __init__(self, app: Chalice) -> None:
        self._app = app
        self._surface_of = {path: name for name, paths in SURFACES.items() for path in paths}
        self._waiting = set(SURFACES)
        self._known: dict[str, dict[str, Route]] = {}

    def __getitem__(self, path: str) -> dict[str, Route]:
        self._register(self._surface_of.get(path))
        return self._known.setdefault(path, {})

    def __contains__(self, path: object) -> bool:
        return path in self._surface_of

    def __setitem__(self, path: str, routes: dict[str, Route]) -> None:
        self._known[path] = routes

    def __delitem__(self, path: str) -> None:
        del self._known[path]

    def __iter__(self) -> Iterator[str]:
        self._register_all()
        return iter(self._known)

    def __len__(self) -> int:
        self._register_all()
        return len(self._known)

    def _register_all(self) -> None:
        for name in SURFACES:
            self._register(name)

    def _register(self, name: str | None) -> None:
        if name in self._waiting:
            self._waiting.remove(name)  # first, for Chalice looks up each path that it adds
            self._app.register_blueprint(surface(name))
