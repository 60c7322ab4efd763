"""From what Geti says of a model to what the registry registers. Pure.

Names are made to fit: Geti lets them be empty, long, and hold control characters. The tags lead back to Geti.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from chalicelib.geti.marking import KEY_TAG
from chalicelib.geti.records import BaseModel, Group, ModelDetails, OptimizedModel, Project, ServerInfo, external_key
from chalicelib.registry.errors import InvalidInput, shown
from chalicelib.registry.formats import OPENVINO
from chalicelib.registry.models import MODEL_ID, Draft, QualifiedName, normal_precisions

ORIGIN = "Geti"
REPACKED_TAG, REPACKED = "geti.repacked", "without sample image"
CHAIN = " > "
MAX_CHARACTERS = 256  # of a name or a label
SUFFIX_CHARACTERS = 6
ROOM = "x" * 2048
_CONTROL = re.compile("[\0-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Found:
    """A model as it was found in Geti, with what it belongs to; `server_id` and `info` say where."""

    server_id: str
    info: ServerInfo
    project: Project
    group: Group
    base: BaseModel
    details: ModelDetails
    model: OptimizedModel

    @property
    def key(self) -> str:
        """What identifies it among all of all servers."""
        return external_key(self.server_id, self.info, self.project.id, self.model.id)

    @property
    def name(self) -> str:
        """What it is called, if nothing else is."""
        return _name(self.model.name, self.model.id)

    @property
    def other_name(self) -> str:
        """What it is called if another group has the name."""
        suffix = f" ({self.group.id[-SUFFIX_CHARACTERS:]})"
        return f"{self.name[: MAX_CHARACTERS - len(suffix)]}{suffix}"


def draft_of(found: Found, name: str) -> Draft:
    """What to register, under this name. Raises InvalidInput, whose text says what stands in the way."""
    model, details = found.model, found.details
    if not re.fullmatch(MODEL_ID, model.id):
        raise InvalidInput("id", f"Geti's id {shown(model.id)} cannot be that of a model here.")
    framework = details.training_framework
    draft = Draft(
        id=model.id,
        name=name,
        version=str(model.version),
        project_id=found.project.id,
        project_name=_name(found.project.name, found.project.id),
        precision=normal_precisions(list(model.precision)),
        format=OPENVINO,
        target_device=_label(model.target_device) or "CPU",
        target_device_type=_label(model.target_device_type),
        category=_label(_category(found)),
        architecture=_label(details.architecture),
        score=model.score if model.score is not None and math.isfinite(model.score) else None,
        overview={"training_framework": framework} if framework else None,
        labels=details.labels or None,
        origin=ORIGIN,
        created_date=_date_text(model.created_at),
        tags=_tags(found),
    )
    return _within_limits(draft)


def qualified_name(project: Project, name: str, model_id: str) -> QualifiedName:
    """What a model of Geti is called when it is registered, unless another group has the name."""
    return QualifiedName(
        project_id=project.id, project_name=_name(project.name, project.id), name=_name(name, model_id)
    )


def is_of(tags: Mapping[str, str], server_id: str, project_id: str, model_id: str) -> bool:
    """Whether a version has come from this place, by its tags. Geti need not be asked for that."""
    # In a key, only the id of the server may have colons.
    parts = tags.get(KEY_TAG, "").rsplit(":", 4)
    return (parts[0], *parts[3:]) == (f"geti:{server_id}", project_id, model_id)


def _tags(found: Found) -> dict[str, str]:
    tags = {
        KEY_TAG: found.key,
        "geti.project_id": found.project.id,
        "geti.group_id": found.group.id,
        "geti.group_name": _name(found.group.name, found.group.id),
        "geti.base_model_id": found.details.base_model_id,
        "geti.optimization_type": _label(found.model.optimization_type),
        "geti.has_xai_head": _flag(found.model.has_xai_head),
        "geti.version": _label(found.info.version),
        "geti.active": _flag(found.base.is_active),
        "geti.task_chain": _label(_chain(found.project)) if len(found.project.tasks) > 1 else None,
    }
    return {name: value for name, value in tags.items() if value is not None}


def _category(found: Found) -> str:
    """The kind of the task that it was trained for; of all tasks, if that cannot be told."""
    task = found.project.task(found.group.task_id)
    return task.kind if task else _chain(found.project)


def _chain(project: Project) -> str:
    return CHAIN.join(task.kind for task in project.tasks)


def _within_limits(draft: Draft) -> Draft:
    """Without the labels, if they leave no room for what the package may add."""
    try:
        draft.model_copy(update={"description": ROOM}).check_limits()
    except InvalidInput:
        draft = draft.model_copy(update={"labels": None})
        draft.check_limits()
    return draft


def _name(text: str, otherwise: str) -> str:
    """A name as the registry takes it; the other one if nothing of this can be seen."""
    name = _fitting(text)
    return name if any(character.isprintable() and not character.isspace() for character in name) else otherwise


def _label(text: str | None) -> str | None:
    return _fitting(text or "") or None


def _fitting(text: str) -> str:
    return _CONTROL.sub("", text).encode(errors="replace").decode()[:MAX_CHARACTERS]


def _flag(value: bool) -> str:
    return "true" if value else "false"


def _date_text(at: datetime | None) -> str | None:
    """As the registry writes times for people and old clients."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f} UTC" if at else None
