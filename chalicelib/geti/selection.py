"""Which models of Geti the sync takes, and why it leaves the others. Pure."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Literal

from chalicelib.geti.records import BaseModel, Group, OptimizedModel, Project
from chalicelib.registry.models import PRECISIONS, Frozen

PURGED = "its files were deleted in Geti"
NOT_OPENVINO = "it is not in OpenVINO format"


class Selection(Frozen):
    """What an operator wants synced. Empty: no limit.

    projects, excluded_projects: ids, or names in any case. models: the versions active in Geti, the latest of each
    group, or all. min_score: models whose score is unknown are left out then.
    """

    projects: tuple[str, ...] = ()
    excluded_projects: tuple[str, ...] = ()
    models: Literal["active", "latest", "all"] = "latest"
    precisions: tuple[str, ...] = ()
    xai: Literal["include", "exclude", "only"] = "include"
    min_score: float | None = None

    @property
    def digest(self) -> str:
        """Of the rules: what was left out by others has to be looked at again."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]

    def takes_project(self, project: Project) -> bool:
        if _is_among(project, self.excluded_projects):
            return False
        return not self.projects or _is_among(project, self.projects)

    def versions(self, group: Group) -> Iterator[tuple[BaseModel, str | None]]:
        """Each trained version, and why its models are left out, if they are: that needs no details."""
        for model in group.models:
            yield model, self._why_not_version(group, model)

    def _why_not_version(self, group: Group, model: BaseModel) -> str | None:
        if not group.is_importable:
            return "it was made by visual prompting, which Geti makes no package of"
        if model.is_purged:
            return PURGED
        if self.models == "active" and not model.is_active:
            return "it is not active in Geti (GETI_SYNC_MODELS=active)"
        if self.models == "latest" and model != group.newest:
            return "it is not the latest of its group (GETI_SYNC_MODELS=latest)"
        return None

    def why_not(self, model: OptimizedModel) -> str | None:
        """Why a model of a version that is taken is left out; None if it is taken."""
        if reason := why_not_importable(model):
            return reason
        wanted = {precision.lower() for precision in self.precisions}
        if wanted and not wanted & {precision.lower() for precision in model.precision}:
            return f"its precision is {', '.join(model.precision)} (GETI_SYNC_PRECISIONS={','.join(self.precisions)})"
        if self.xai != "include" and model.has_xai_head != (self.xai == "only"):
            return f"it has {'an' if model.has_xai_head else 'no'} XAI head (GETI_SYNC_XAI={self.xai})"
        if self.min_score is not None and (model.score is None or model.score < self.min_score):
            known = "unknown" if model.score is None else f"{model.score:g}"
            return f"its score is {known} (GETI_SYNC_MIN_SCORE={self.min_score:g})"
        return None


def why_not_importable(model: OptimizedModel) -> str | None:
    """Why a model cannot be imported by anyone; None if it can."""
    if not model.is_openvino:
        return NOT_OPENVINO
    if model.files_deleted:
        return PURGED
    if model.is_unfinished:
        return "Geti is not done with it; it is looked at again"
    if not model.is_success:
        return f"Geti says that it is {model.status}"
    if unknown := [precision for precision in model.precision if precision.lower() not in PRECISIONS]:
        return f"its precision {', '.join(unknown)} is not one that the registry knows"
    return None


def _is_among(project: Project, named: Sequence[str]) -> bool:
    return project.id in named or project.name.casefold() in {name.casefold() for name in named}
