"""Which version a person means: `NAME`, `NAME:VERSION`, `NAME@ALIAS`, or an id.

Names, and versions too, may hold `:` and `@` themselves. So the text is read from the right: the last separator
splits first, then the one before it, and at last the whole text is a name. The first reading that exists is meant.
"""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from modelreg.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from modelreg.models import Model
    from modelreg.registry import Registry

MODEL_ID = re.compile(r"[a-zA-Z0-9_-]{16,128}")
RM_ID_SUFFIX = 8  # characters of the registered model's id that tell colliding exposed names apart


class Reading(NamedTuple):
    """One way to understand a target."""

    name: str
    version: str | None = None
    alias: str | None = None


def readings(target: str) -> Iterator[Reading]:
    """All ways to understand the target, the likeliest first."""
    for at in range(len(target) - 2, 0, -1):
        if target[at] == ":":
            yield Reading(target[:at], version=target[at + 1 :])
        elif target[at] == "@":
            yield Reading(target[:at], alias=target[at + 1 :])
    yield Reading(target)


def find_by_name(registry: "Registry", target: str, precision: str | None = None) -> "Model":
    """The model that is meant. Raises what the likeliest reading came to if none exists, Ambiguous if several fit."""
    likeliest: Exception | None = None
    for reading in readings(target):
        try:
            return registry.resolve(**reading._asdict(), precision=precision)
        except (NotFound, InvalidInput) as exc:
            # Of a reading that was not meant, the alias may be one that no alias can be: that is no mistake.
            likeliest = likeliest or exc
    raise likeliest or NotFound(f"There is no {target}.")


def find(registry: "Registry", target: str, *, is_id: bool, precision: str | None = None) -> "Model":
    """The model of this name or, where no name is so, of this id. For looking only: a name could pose as an id."""
    if is_id:
        return registry.get(target)
    try:
        return find_by_name(registry, target, precision)
    except NotFound as not_found:
        if not MODEL_ID.fullmatch(target):
            raise
        try:
            return registry.get(target)
        except NotFound:
            raise not_found from None


def registered_name(registry: "Registry", model: "Model") -> str:
    """The name under which the registered model of a version is known. Raises NotFound if it is gone."""
    project = model.project_name or model.project_id
    name = f"{project}.{model.name}" if project else model.name
    for candidate in (name, f"{name}~{(model.registered_model_id or '')[-RM_ID_SUFFIX:]}"):
        try:
            if registry.registered_model(candidate).registered_model_id == model.registered_model_id:
                return candidate
        except NotFound:
            continue
    for registered in registry.registered_models():
        if registered.registered_model_id == model.registered_model_id:
            return registered.name
    raise NotFound(f"The registered model of {model.id} is gone.")
