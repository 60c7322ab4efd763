"""Which fields there are, and what a caller's values become on the wire: JSON, a form, or an error. Pure."""

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from modelreg.errors import InvalidInput
from modelreg.models import Project

FILTERS = frozenset({"name", "version", "project_name", "category", "architecture", "precision", "origin", "format"})
CHANGEABLE = frozenset(
    {
        "name", "version", "project_id", "project_name", "precision", "format", "target_device", "target_device_type",
        "category", "architecture", "score", "overview", "optimization_capabilities", "labels", "origin",
        "created_date", "description", "tags",
    }
)  # fmt: skip
METADATA = CHANGEABLE | {"id"}


def check_names(given: Iterable[str], known: frozenset[str], what: str) -> None:
    """Raises InvalidInput, saying which there are, for a name that is not known."""
    unknown = sorted(set(given) - known)
    if unknown:
        hint = f"There are: {', '.join(sorted(known))}."
        raise InvalidInput(f"There is no {what} {', '.join(unknown)}.", field=unknown[0], hint=hint)


def stated(name: str) -> str:
    """The name. Raises InvalidInput if there is none."""
    if not name:
        raise InvalidInput("The name is empty.", field="name")
    return name


def named_project(project: Project | Mapping[str, str]) -> dict[str, str]:
    """A project as it is sent: what is stated of its id and name. Raises InvalidInput."""
    if isinstance(project, Project):
        project = {key: value for key, value in project.model_dump().items() if value is not None}
    if not isinstance(project, Mapping) or not project or project.keys() - {"id", "name"}:
        raise InvalidInput('A project is {"id": ..., "name": ...}, one of them or both.', field="projects")
    return dict(project)


def as_json(field: str, value: Any) -> Any:
    """A value as JSON carries it. Raises InvalidInput."""
    if isinstance(value, set | frozenset):
        value = sorted(value)
    try:
        return json.loads(json.dumps(value, allow_nan=False, ensure_ascii=False).encode())
    except (TypeError, ValueError, RecursionError):
        raise InvalidInput(f"{field} cannot be sent as JSON.", field=field) from None


def form_text(field: str, value: Any) -> str:
    """A value as a form carries it."""
    if value is None and field in ("name", "version"):
        raise InvalidInput(f"{field} cannot be cleared.", field=field)
    if value is None:
        return ""
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidInput(f"{field} must be finite.", field=field)
    plain = as_json(field, value)
    if isinstance(plain, str):
        return plain
    if field == "precision" and isinstance(plain, list):
        return ",".join(map(str, plain))
    return json.dumps(plain)
