"""Who may do what: roles, what they are limited to, and the actor of a request. Pure.

A caller sees a model if its project and its name are within the caller's limits. What is not seen is not there: it is
answered as if it did not exist. What is seen, but needs a higher role to change, is refused in words.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Literal, Self, TypeVar

from pydantic import AfterValidator, Field, model_validator

from chalicelib.registry.errors import NO_SUCH_MODEL, Forbidden, NotFound
from chalicelib.registry.models import Draft, Frozen, Name, ProjectLabel, QualifiedName

T = TypeVar("T")
MAX_PROJECTS = 20  # a list asks each of them
MAX_NAME_PREFIXES = 20


class Role(StrEnum):
    """Each may do what the ones before may: read; register, upload, change, set aliases; delete, tokens, sync."""

    VIEWER = "viewer"
    PUBLISHER = "publisher"
    ADMIN = "admin"

    def covers(self, needed: "Role") -> bool:
        roles = list(Role)
        return roles.index(self) >= roles.index(needed)


class Project(Frozen):
    """A project as models state it: `id` and `name` together, each as it is or none."""

    id: ProjectLabel = None
    name: ProjectLabel = None

    @model_validator(mode="after")
    def _is_named(self) -> Self:
        if not (self.id or self.name):
            raise ValueError("give the name of the project, its id, or both, as its models state them")
        return self

    def holds(self, name: QualifiedName) -> bool:
        return (self.id, self.name) == (name.project_id, name.project_name)

    def __str__(self) -> str:
        """As a registration states it."""
        parts = {"project_id": self.id, "project_name": self.name}
        stated = [f"{key}={value}" for key, value in parts.items() if value]
        return " and ".join([*stated, *(f"no {key}" for key, value in parts.items() if not value)])

    def may_be_meant(self, name: QualifiedName) -> bool:
        """Whether the name states no project, or of this one a part, and no other."""
        return name.project_id in (None, self.id) and name.project_name in (None, self.name)


def _each_once(stated: tuple[T, ...]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(stated))


class Access(Frozen):
    """What a caller may do. No projects and no prefixes: everywhere."""

    role: Role = Role.ADMIN
    projects: Annotated[tuple[Project, ...], AfterValidator(_each_once)] | None = Field(
        None, min_length=1, max_length=MAX_PROJECTS
    )
    name_prefixes: Annotated[tuple[Name, ...], AfterValidator(_each_once)] | None = Field(
        None, min_length=1, max_length=MAX_NAME_PREFIXES
    )

    @property
    def is_limited(self) -> bool:
        return self.projects is not None or self.name_prefixes is not None

    @property
    def is_unlimited_admin(self) -> bool:
        """Whether it sees, and may do, all there is: tokens and what happens to them too."""
        return self.role == Role.ADMIN and not self.is_limited

    def sees(self, name: QualifiedName) -> bool:
        within = self.projects is None or any(project.holds(name) for project in self.projects)
        return within and (self.name_prefixes is None or name.name.startswith(self.name_prefixes))

    def sees_project(self, project_id: str | None, project_name: str | None) -> bool:
        """Whether what stands in this project, or in none, but has no name of a model, is within the limits."""
        where = QualifiedName(project_id=project_id, project_name=project_name, name="")
        return self.projects is None or any(project.holds(where) for project in self.projects)

    def require(self, role: Role) -> None:
        """Raises Forbidden, naming the role that is missing."""
        if not self.role.covers(role):
            raise Forbidden(f"This needs a token of role {role}; yours is of role {self.role}.")

    def require_no_limits(self) -> None:
        """Raises Forbidden for what only they may do who see everything: nothing else could limit it."""
        if self.is_limited:
            raise Forbidden("This needs a token without limits; yours is limited to projects or names.")

    def require_seen(self, name: QualifiedName, absent: str = NO_SUCH_MODEL) -> None:
        """Raises NotFound, in the words for what does not exist."""
        if not self.sees(name):
            raise NotFound(absent)

    def require_within(self, name: QualifiedName) -> None:
        """Raises Forbidden, saying what may be stated, unless a model may be put there."""
        if not self.sees(name):
            raise Forbidden(f"Your token is limited: state {self.limits}.")

    def home_of(self, name: QualifiedName) -> QualifiedName:
        """Where a model that is stated so goes: into the caller's project, if only one can be meant.

        Raises Forbidden, saying what to state.
        """
        meant = [project for project in self.projects or () if project.may_be_meant(name)]
        if len(meant) == 1:
            name = QualifiedName(project_id=meant[0].id, project_name=meant[0].name, name=name.name)
        self.require_within(name)
        return name

    def placed(self, draft: Draft) -> Draft:
        """The draft where it goes.

        Raises Forbidden, saying what to state, and InvalidInput if it is too large with its project.
        """
        home = self.home_of(draft.qualified_name)
        if home == draft.qualified_name:
            return draft
        placed = draft.model_copy(update=home.model_dump(include={"project_id", "project_name"}))
        placed.check_limits()
        return placed

    @property
    def limits(self) -> str:
        """What the models are that it sees, in words."""
        parts = []
        if self.projects is not None:
            parts.append(" or ".join(map(str, self.projects)))
        if self.name_prefixes is not None:
            prefixes = " or ".join(f'"{prefix}"' for prefix in self.name_prefixes)
            parts.append(f"a name that begins with {prefixes}")
        return ", and ".join(parts)


# Not validated: that would build its validator on import, for nothing in most processes.
EVERYWHERE = Access.model_construct()


class Deed(StrEnum):
    """What a caller may want to do."""

    READ = "read"
    REGISTER = "register"
    UPDATE = "update"
    ALIAS = "alias"
    DELETE = "delete"
    TOKENS = "tokens"
    SYNC = "sync"


NEEDED = {
    Deed.READ: Role.VIEWER,
    Deed.REGISTER: Role.PUBLISHER,
    Deed.UPDATE: Role.PUBLISHER,
    Deed.ALIAS: Role.PUBLISHER,
    Deed.DELETE: Role.ADMIN,
    Deed.TOKENS: Role.ADMIN,
    Deed.SYNC: Role.ADMIN,
}
NOT_OF_A_MODEL = (Deed.TOKENS, Deed.SYNC)


class Decision(Frozen):
    """Whether something may be done, how a request for it is answered, and the rule that decides."""

    allowed: bool
    status: Literal[200, 401, 403, 404]
    rule: str


def decision_on(access: Access, deed: Deed, about: Callable[[], QualifiedName | None]) -> Decision:
    """What becomes of a request. `about` finds the model, if one is meant, and raises NotFound; it is asked last."""
    try:
        return Decision(allowed=True, status=200, rule=_rule_for(access, deed, about))
    except NotFound as exc:
        return Decision(allowed=False, status=404, rule=str(exc))
    except Forbidden as exc:
        return Decision(allowed=False, status=403, rule=str(exc))


def _rule_for(access: Access, deed: Deed, about: Callable[[], QualifiedName | None]) -> str:
    """The rule by which it may be done. Raises Forbidden or NotFound, whose text is the rule by which it may not."""
    needed = NEEDED[deed]
    access.require(needed)
    if deed in NOT_OF_A_MODEL:
        access.require_no_limits()
        return f"{deed} needs an admin without limits, which it is."
    allowed = f"{deed} needs the role {needed}, and it is of role {access.role}"
    name = about()
    if not access.is_limited:
        return f"{allowed}; it is not limited to projects or names."
    if name is None:
        return f"{allowed}, within its limits: {access.limits}."
    if deed == Deed.REGISTER:
        name = access.home_of(name)
    access.require_seen(name, f"It does not see this model, for it is limited to {access.limits}.")
    return f"{allowed}; the model is within its limits: {access.limits}."


class Actor(Frozen):
    """Who asks, and what they may. Never carries a credential; `access` is not part of what is kept of it."""

    kind: Literal["anonymous", "system", "token"] = "anonymous"
    name: str = "anonymous"
    request_id: str | None = None
    source_ip: str | None = None
    user_agent: str | None = None
    # Left out where there is none, as in events from before there were tokens: their digests must stay.
    token_id: str | None = Field(None, exclude_if=lambda value: value is None)
    role: Role | None = Field(None, exclude_if=lambda value: value is None)
    idempotency: str | None = Field(None, exclude_if=lambda value: value is None)
    access: Access = Field(EVERYWHERE, exclude=True, repr=False)
