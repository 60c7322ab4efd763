"""What a request to Geti 2 is about: found in the world, or refused as Geti does."""

from typing import TYPE_CHECKING, Any

from tests.simulators.geti.answers import ANSWERS, Refusal, bad_request, missing
from tests.simulators.geti.faults import Asked
from tests.simulators.geti.models import Group, Optimized
from tests.simulators.geti.world import Project

if TYPE_CHECKING:
    from tests.simulators.geti.server import GetiServer


def visible(geti: "GetiServer", asked: Asked) -> list[Project]:
    workspace_id = asked.params["ws"]
    return [one for one in geti.world.projects if one.workspace_id == workspace_id and not one.is_hidden]


def find_project(geti: "GetiServer", asked: Asked) -> Project:
    for one in visible(geti, asked):
        if one.id == asked.params["project"]:
            return one
    raise Refusal(missing("project_not_found"))


def find_group(geti: "GetiServer", asked: Asked) -> Group:
    for one in find_project(geti, asked).groups:
        if one.id == asked.params["group"]:
            return one
    raise Refusal(missing("model_storage_not_found"))


def find_optimized(where: Project, optimized_id: str) -> Optimized | None:
    return next((one for base in where.models for one in base.optimized if one.id == optimized_id), None)


def number(asked: Asked, name: str, default: int, least: int, most: int | None = None) -> int:
    given = asked.query.get(name, str(default))
    value = int(given) if given.lstrip("-").isdecimal() else least - 1
    if value < least or (most is not None and value > most):
        bounds = f"Must be greater than or equal to {least}" + (f" and less than or equal to {most}." if most else ".")
        raise Refusal(bad_request({name: [bounds]}))
    return value


def choice(asked: Asked, name: str, default: str, choices: dict[str, Any]) -> Any:
    given = asked.query.get(name, default)
    if given.lower() not in choices:
        raise Refusal(bad_request({name: [f"Must be one of: {', '.join(choices)}."]}))
    return choices[given.lower()]


def ordered_models(where: Project, content: dict[str, Any]) -> list[Optimized]:
    """The optimized models that a deployment is asked for. Raises Refusal if one cannot be deployed."""
    ordered = content.get("models")
    if not isinstance(ordered, list) or not ordered or not all(isinstance(one, dict) for one in ordered):
        raise Refusal(bad_request({"models": ["Shorter than minimum length 1."]}))
    return [_deployable(where, one) for one in ordered]


def _deployable(where: Project, order: dict[str, Any]) -> Optimized:
    group = next((group for group in where.groups if group.id == order.get("model_group_id")), None)
    if group is None:
        raise Refusal(missing("model_storage_not_found"))
    if any(base.id == order.get("model_id") for base in group.models):
        raise Refusal(ANSWERS["incompatible_model_format"])
    chosen = find_optimized(where, str(order.get("model_id")))
    if chosen is None or chosen.model.group is not group:
        raise Refusal(missing("model_not_found"))
    if chosen.format != "OpenVINO":
        raise Refusal(ANSWERS["incompatible_model_format"])
    if not chosen.has_files:
        raise Refusal(missing("exportable_code_not_found"))
    return chosen
