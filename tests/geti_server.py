"""A Geti server in memory, behind the port that the registry asks it by: for tests of what is asked of it.

    server = GetiServer()
    server.add("p1", "Bottle caps", group("g1", "YOLOX-S", trained("b1", openvino("m1"))))

`server.failures` are errors by what is asked: `("groups", "p1")`, `("details", "m1")`, `("projects",)`. `server.asked`
is what was asked, in any order where it was asked at once. `server.is_flat`: as Geti 3, whose lists have all there is.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from chalicelib.geti.errors import GetiError, GetiGone
from chalicelib.geti.ports import Package
from chalicelib.geti.records import BaseModel, FinishedJob, Group, ModelDetails, OptimizedModel, Project, ServerInfo


def openvino(model_id: str, name: str = "YOLOX-S OpenVINO FP16", **fields: Any) -> OptimizedModel:
    """An optimized model that can be imported, unless its fields say otherwise; its parents are set by theirs."""
    return OptimizedModel(
        id=model_id, name=name, base_model_id="", group_id="", **{"version": 1, "precision": ("FP16",), **fields}
    )


def trained(model_id: str, *optimized: OptimizedModel, **fields: Any) -> BaseModel:
    """A trained version with its optimized models."""
    mine = tuple(one.model_copy(update={"base_model_id": model_id}) for one in optimized)
    known = {"name": "YOLOX-S", "version": 1, "summary": model_id, **fields}
    return BaseModel(id=model_id, group_id="", optimized=mine, **known)


def group(group_id: str, name: str, *models: BaseModel, **fields: Any) -> Group:
    mine = []
    for model in models:
        optimized = tuple(one.model_copy(update={"group_id": group_id}) for one in model.optimized or ())
        mine.append(model.model_copy(update={"group_id": group_id, "optimized": optimized}))
    return Group(id=group_id, name=name, models=tuple(mine), **fields)


class GetiServer:
    """Server (geti/ports.py)."""

    def __init__(self, is_flat: bool = False) -> None:
        self.info = ServerInfo(major=3 if is_flat else 2, version="3.2.0" if is_flat else "2.13.1")
        self.is_flat = is_flat
        self.failures: dict[tuple[str, ...], GetiError] = {}
        self.asked: list[tuple[str, ...]] = []
        self._projects: dict[str, Project] = {}
        self._groups: dict[str, tuple[Group, ...]] = {}
        self._lock = threading.Lock()

    def add(self, project_id: str, name: str, *groups: Group) -> None:
        self._projects[project_id] = Project(id=project_id, name=name, created_at="2026-01-01T09:00:00.000000+00:00")
        self._groups[project_id] = groups

    @property
    def requests(self) -> int:
        return len(self.asked)

    def projects(self) -> Sequence[Project]:
        self._ask("projects")
        return tuple(self._projects.values())

    def project(self, project_id: str) -> Project:
        self._ask("project", project_id)
        if project_id not in self._projects:
            raise GetiGone("There is no such project.", "project_not_found")
        return self._projects[project_id]

    def groups(self, project: Project) -> Sequence[Group]:
        self._ask("groups", project.id)
        return [one if self.is_flat else _without_optimized(one) for one in self._groups[project.id]]

    def details(self, project: Project, group_id: str, model_id: str) -> ModelDetails:
        """As some versions of Geti, it does not mind the group."""
        self._ask("details", model_id)
        for base in (base for one in self._groups[project.id] for base in one.models):
            optimized = base.optimized or ()
            if model_id == base.id or model_id in {one.id for one in optimized}:
                return ModelDetails(
                    base_model_id=base.id,
                    name=base.name,
                    architecture=base.name,
                    version=base.version,
                    group_id=group_id,
                    is_purged=base.is_purged,
                    optimized=optimized,
                )
        raise GetiGone("There is no such model.", "model_not_found")

    def finished_jobs(self, since: datetime) -> Sequence[FinishedJob]:
        return ()

    @contextmanager
    def package(self, project: Project, model: OptimizedModel) -> Iterator[Package]:
        raise GetiGone("There are no packages here.", "model_not_found")
        yield

    def _ask(self, *what: str) -> None:
        with self._lock:
            self.asked.append(what)
        if what in self.failures:
            raise self.failures[what]


def _without_optimized(listed: Group) -> Group:
    models = tuple(model.model_copy(update={"optimized": None}) for model in listed.models)
    return listed.model_copy(update={"models": models})
