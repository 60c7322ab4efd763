"""What a Geti server holds, in one form for all its versions: frozen, lenient in what it is made from.

A group holds what one architecture was trained to, version by version; each base model was optimized to several
models, which are what can be imported. Geti 3 has no groups: there each model (revision) is a group of one.
"""

from datetime import datetime
from enum import StrEnum

from pydantic import JsonValue

from chalicelib.registry.models import Frozen

OPENVINO = "openvino"


class Task(Frozen):
    """A task of a project that can be trained. Several are a chain, in this order."""

    id: str
    title: str
    kind: str


class Project(Frozen):
    """A project. `tasks` are those that can be trained."""

    id: str
    name: str
    created_at: str | None = None
    tasks: tuple[Task, ...] = ()

    def task(self, task_id: str | None) -> Task | None:
        """The task of this id, or the only one there is."""
        only = self.tasks[0] if len(self.tasks) == 1 else None
        return next((task for task in self.tasks if task.id == task_id), only)


class OptimizedModel(Frozen):
    """What can be imported, if its format is OpenVINO, it has SUCCESS, and its files are there.

    `base_model_id` is that of the trained version it was made of. `precision` is as Geti spells it; empty while the
    model is not there yet. `score` None: unknown.
    """

    id: str
    name: str
    version: int
    base_model_id: str
    group_id: str
    created_at: datetime | None = None
    format: str = OPENVINO
    precision: tuple[str, ...] = ()
    optimization_type: str | None = None
    has_xai_head: bool = False
    status: str = "SUCCESS"
    score: float | None = None
    size: int | None = None
    target_device: str | None = None
    target_device_type: str | None = None
    files_deleted: bool = False

    @property
    def is_openvino(self) -> bool:
        return self.format.lower() == OPENVINO

    @property
    def is_unfinished(self) -> bool:
        """Whether it may become something that can be imported: it has to be looked at again."""
        return self.status.upper() in ("NOT_READY", "TRAINED_NO_STATS") or (self.is_success and not self.precision)

    @property
    def is_success(self) -> bool:
        return self.status.upper() == "SUCCESS"


class BaseModel(Frozen):
    """A trained version, as a listing tells of it. `summary` is all that the listing says: it changes if this does.

    `optimized` are its optimized models where the listing has them (Geti 3); None: ask for the details.
    """

    id: str
    name: str
    version: int
    group_id: str
    created_at: datetime | None = None
    is_active: bool = False
    is_purged: bool = False
    summary: str
    optimized: tuple[OptimizedModel, ...] | None = None


class Group(Frozen):
    """What one architecture was trained to. `is_importable`: not visual prompting, which no package can be made of."""

    id: str
    name: str
    task_id: str | None = None
    is_importable: bool = True
    models: tuple[BaseModel, ...] = ()

    @property
    def newest(self) -> BaseModel | None:
        """The version trained last of those whose files are there."""
        there = [model for model in self.models if not model.is_purged]
        return max(there, key=lambda model: (model.version, model.id)) if there else None


class ModelDetails(Frozen):
    """A trained version with its optimized models. `labels` are those it was trained with, empty ones left out."""

    base_model_id: str
    name: str
    architecture: str
    version: int
    group_id: str
    is_purged: bool = False
    training_framework: str | None = None
    labels: tuple[str | dict[str, JsonValue], ...] = ()
    optimized: tuple[OptimizedModel, ...] = ()

    def optimized_model(self, model_id: str) -> OptimizedModel | None:
        return next((model for model in self.optimized if model.id == model_id), None)


class FinishedJob(Frozen):
    """A job that ended, and may have changed a project under an unchanged listing."""

    id: str
    kind: str
    project_id: str | None
    ended_at: datetime


class ServerInfo(Frozen):
    """What answers. `major` is 2 or 3; `version` what it says of itself. organization and workspace: of 2.x, else -."""

    major: int
    version: str
    organization_id: str = "-"
    workspace_id: str = "-"

    @property
    def place(self) -> str:
        """The workspace, of its organization."""
        return f"{self.organization_id}:{self.workspace_id}"


class OriginState(StrEnum):
    """What became of an imported model in Geti, as far as it can be told."""

    PRESENT = "present"
    DELETED = "deleted"
    UNREACHABLE = "unreachable"


def external_key(server_id: str, info: ServerInfo, project_id: str, model_id: str) -> str:
    """What identifies a model among all of all servers."""
    return f"geti:{server_id}:{info.place}:{project_id}:{model_id}"
