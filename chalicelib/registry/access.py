"""Who may do what: roles, what they are limited to, and the actor of a request. Pure.

A caller sees a model if its project and its name are within the caller's limits. What is not seen is not there: it is
answered as if it did not exist. What is seen, but needs a higher role to change, is refused in words.
"""

from enum import StrEnum
from typing import Literal, Self

from pydantic import Field, model_validator

from chalicelib.registry.errors import Forbidden, NotFound, shown
from chalicelib.registry.models import Draft, Frozen, Label, Name, QualifiedName

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

    id: Label | None = None
    name: Label | None = None

    @model_validator(mode="after")
    def _is_named(self) -> Self:
        if not (self.id or self.name):
            raise ValueError("give the name of the project, its id, or both, as its models state them")
        return self

    def holds(self, name: QualifiedName) -> bool:
        return (self.id, self.name) == (name.project_id or None, name.project_name or None)

    def __str__(self) -> str:
        return " ".join(f"{key}={shown(value)}" for key, value in self._fields.items())

    @property
    def _fields(self) -> dict[str, str]:
        """As a registration states it."""
        stated = {"project_id": self.id, "project_name": self.name}
        return {key: value for key, value in stated.items() if value}

    def completes(self, draft: Draft) -> bool:
        """Whether this is the project, as far as the draft says one."""
        return all((getattr(draft, key) or None) in (None, self._fields.get(key)) for key in self._fields) and not (
            (draft.project_id and not self.id) or (draft.project_name and not self.name)
        )

    def of(self, draft: Draft) -> Draft:
        """The draft inside this project."""
        return draft.model_copy(update=self._fields)


class Access(Frozen):
    """What a caller may do. No projects and no prefixes: everywhere."""

    role: Role = Role.ADMIN
    projects: tuple[Project, ...] | None = Field(None, min_length=1, max_length=MAX_PROJECTS)
    name_prefixes: tuple[Name, ...] | None = Field(None, min_length=1, max_length=MAX_NAME_PREFIXES)

    @property
    def is_limited(self) -> bool:
        return self.projects is not None or self.name_prefixes is not None

    def sees(self, name: QualifiedName) -> bool:
        within = self.projects is None or any(project.holds(name) for project in self.projects)
        return within and (self.name_prefixes is None or name.name.startswith(self.name_prefixes))

    def require(self, role: Role) -> None:
        """Raises Forbidden, naming the role that is missing."""
        if not self.role.covers(role):
            raise Forbidden(f"This needs a token of role {role}; yours is of role {self.role}.")

    def require_seen(self, name: QualifiedName, what: str = "Model") -> None:
        """Raises NotFound as if it did not exist."""
        if not self.sees(name):
            raise NotFound(f"{what} not found.")

    def require_within(self, name: QualifiedName) -> None:
        """Raises Forbidden, saying what may be stated, unless a model may be put there."""
        if not self.sees(name):
            raise Forbidden(self._hint())

    def placed(self, draft: Draft) -> Draft:
        """The draft inside the caller's project, if only one can be meant. Raises Forbidden, saying what to state."""
        candidates = [project for project in self.projects or () if project.completes(draft)]
        if len(candidates) == 1:
            draft = candidates[0].of(draft)
        self.require_within(draft.qualified_name)
        return draft

    def _hint(self) -> str:
        parts = []
        if self.projects is not None:
            parts.append(f"state {' or '.join(map(str, self.projects))}")
        if self.name_prefixes is not None:
            prefixes = " or ".join(f'"{shown(prefix)}"' for prefix in self.name_prefixes)
            parts.append(f"begin the name with {prefixes}")
        return f"Your token is limited: {', and '.join(parts)}."


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
    access: Access = Field(Access(), exclude=True, repr=False)
