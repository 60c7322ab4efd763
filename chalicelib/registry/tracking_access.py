"""Whose the things are that are tracked: who sees them, and where those go that a caller makes. Pure.

An experiment has the project of who makes it, if that is limited to one, or the one that its tag `registry.project`
names; its runs and logged models are in the same project. Limits of names apply to the name of the experiment: who is
limited to `edge-` sees experiments that are called so, and what was made in them under such a name (`scope`).

The experiment Default is everybody's and has neither. What is made in it has the project of its maker, and as its scope
what the maker is limited to; so nobody sees what others made there who are not limited alike.
"""

from collections.abc import Mapping, Sequence

from pydantic import ValidationError

from chalicelib.registry.access import Access, Project
from chalicelib.registry.errors import Forbidden, InvalidInput, shown
from chalicelib.registry.tracking import DEFAULT_ID, Experiment, Tracked

PROJECT_TAG = "registry.project"
Home = dict[str, str | None]  # project_id and project_name


def sees(access: Access, tracked: Tracked) -> bool:
    """Whether it is within the limits of a caller; everybody sees Default."""
    return is_default(tracked) or access.sees(tracked.qualified_name)


def is_default(tracked: Tracked) -> bool:
    return isinstance(tracked, Experiment) and tracked.id == DEFAULT_ID


def home_of(access: Access, tags: Mapping[str, str]) -> Home:
    """The project of what a caller makes with these tags. Raises Forbidden, saying what to state, and InvalidInput."""
    stated = tags.get(PROJECT_TAG) or None
    if access.projects is None:
        return _project(stated)
    meant = [one for one in access.projects if stated in (None, one.name, one.id)]
    if len(meant) != 1:
        raise Forbidden(f"Your token is limited: state the tag {PROJECT_TAG}, as {_named(access.projects)}.")
    return {"project_id": meant[0].id, "project_name": meant[0].name}


def place_in(experiment: Experiment, access: Access, tags: Mapping[str, str]) -> dict[str, str | None]:
    """Project and scope of what a caller makes in an experiment. Raises as `home_of`."""
    if is_default(experiment):
        return {**home_of(access, tags), "scope": _scope(access)}
    home = {"project_id": experiment.project_id, "project_name": experiment.project_name}
    return {**home, "scope": experiment.name}


def _scope(access: Access) -> str:
    """What those who are limited alike may see."""
    prefixes = access.name_prefixes or ("",)
    if len(prefixes) > 1:
        told = " or ".join(f'"{prefix}"' for prefix in prefixes)
        raise Forbidden(f"Your token is limited: use an experiment whose name begins with {told}.")
    return prefixes[0]


def _project(stated: str | None) -> Home:
    try:
        return {"project_id": None, "project_name": Project(name=stated).name if stated else None}
    except ValidationError as exc:
        raise InvalidInput("tags", f"'{shown(stated or '')}' is no name of a project.") from exc


def _named(projects: Sequence[Project]) -> str:
    return " or ".join(str(one.name or one.id) for one in projects)
