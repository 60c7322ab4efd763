"""The life of registered models, apart from their versions: they are made, described, renamed and deleted.

They are found by their exposed names. Who may see one project only may leave its name away.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from chalicelib.registry.audit import Action
from chalicelib.registry.errands import Errand, ErrandKind
from chalicelib.registry.errors import NO_SUCH_NAME, InvalidInput, NotFound, RegistryError
from chalicelib.registry.models import Name, QualifiedName
from chalicelib.registry.registered_models import Alias, RegisteredModel, RegisteredModelChanges, exposed_name

if TYPE_CHECKING:
    from chalicelib.registry.access import Access, Actor
    from chalicelib.registry.errands import Errands
    from chalicelib.registry.ports import Catalog
    from chalicelib.registry.service import Announce, Registry
    from chalicelib.registry.tidying import Tidying

PROJECT_TAG = "registry.project"
SECONDS_AT_ONCE = 5


class Curating:
    """Makes, changes and removes registered models."""

    def __init__(
        self,
        registry: Registry,
        tidying: Tidying,
        errands: Callable[[], Errands],
        clock: Callable[[], datetime],
        new_ulid: Callable[[], str],
        announce: Announce,
    ) -> None:
        self._registry = registry
        self._catalog: Catalog = registry.catalog
        self._models = registry.catalog.registered_models
        self._tidying = tidying
        self._errands = errands
        self._clock = clock
        self._new_ulid = new_ulid
        self._announce = announce

    def resolve(self, name: str, by: Actor) -> RegisteredModel:
        """The registered model of this name, for this caller. Raises NotFound, also for what it may not see."""
        prefix = prefix_of(by.access)
        with suppress(NotFound):
            return self._registry.registered_model(name, by)
        if prefix is None:
            raise NotFound(NO_SUCH_NAME)
        return self._registry.registered_model(f"{prefix}{name}", by)

    def create(self, name: str, tags: Mapping[str, str], description: str | None, by: Actor) -> RegisteredModel:
        """A new one, without versions, in the caller's project or that of its tag `registry.project`.

        Raises AlreadyExists, Forbidden, and InvalidInput for what breaks a limit.
        """
        now = self._clock()
        home = self._home(name, tags, by)
        changes = changes_of(description=description or None, tags=dict(tags))
        model = RegisteredModel(
            rm_id=self._new_ulid(),
            **home.model_dump(),
            exposed_name=exposed_name(home),
            description=changes.description,
            tags={key: value for key, value in changes.tags.items() if value is not None},
            revision=1,
            created_at=now,
            updated_at=now,
        )
        model.check_limits()
        self._models.add(model, by)
        self._announce(Action.REGISTERED_MODEL_CREATED, None, model, by)
        return model

    def describe(self, name: str, description: str | None, by: Actor) -> RegisteredModel:
        """Raises NotFound and InvalidInput, as all that follow do."""
        return self._change(name, changes_of(description=description or None), by)

    def set_tag(self, name: str, key: str, value: str, by: Actor) -> None:
        self._change(name, changes_of(tags={key: value}), by)

    def delete_tag(self, name: str, key: str, by: Actor) -> None:
        """Take a tag away, if it is there."""
        self._change(name, changes_of(tags={key: None}), by)

    def set_alias(self, name: str, alias: str, number: int, by: Actor) -> None:
        """Have an alias name a version. Raises InvalidInput for a number that no version has."""
        checked(Alias, alias, "alias")
        self._change(name, changes_of(aliases={alias: number}), by)

    def delete_alias(self, name: str, alias: str, by: Actor) -> None:
        """Take an alias away, if it is there."""
        model = self.resolve(name, by)
        if alias in model.aliases:
            self._change(name, changes_of(aliases={alias: None}), by)

    def rename(self, name: str, new_name: str, by: Actor) -> RegisteredModel:
        """Give one another name in its project. Raises AlreadyExists, NotFound, Forbidden and InvalidInput."""
        model = self.resolve(name, by)
        bare = checked(Name, self._bare(new_name, model), "new_name")
        by.access.require_within(model.qualified_name.model_copy(update={"name": bare}))
        before, after = self._models.rename(model.rm_id, bare, by, self._clock())
        if after.revision != before.revision:
            self._announce(Action.REGISTERED_MODEL_UPDATED, before, after, by)
            self._leave_to_errand(ErrandKind.RENAME_VERSIONS, model.rm_id)
        return after

    def delete(self, name: str, by: Actor) -> None:
        """Free the name, then remove the versions; of many the last ones a little later. Raises NotFound."""
        model = self.resolve(name, by)
        removed = self._models.remove(model.rm_id, by, self._clock())
        self._announce(Action.REGISTERED_MODEL_DELETED, removed, None, by)
        self._leave_to_errand(ErrandKind.REMOVE_VERSIONS, model.rm_id)

    def _leave_to_errand(self, kind: ErrandKind, rm_id: str) -> None:
        """Do as much of it as a caller can wait for; whatever fails here, a sweep makes up for."""
        started = self._clock()
        errand = Errand(kind=kind, subject=rm_id)
        with suppress(RegistryError):
            self._tidying.run(errand, lambda: (self._clock() - started).total_seconds() < SECONDS_AT_ONCE)

    def _change(self, name: str, changes: RegisteredModelChanges, by: Actor) -> RegisteredModel:
        model = self.resolve(name, by)
        return self._registry.change_registered_model(model.exposed_name, changes, by)

    def _home(self, name: str, tags: Mapping[str, str], by: Actor) -> QualifiedName:
        prefix, project = prefix_of(by.access), tags.get(PROJECT_TAG) or None
        if prefix and name.startswith(prefix):
            name = name[len(prefix) :]
        if project and not prefix and name.startswith(f"{project}."):
            name = name[len(project) + 1 :]
        stated = QualifiedName(project_name=checked(Name, project, PROJECT_TAG) if project else None, name=name)
        return by.access.home_of(stated.model_copy(update={"name": checked(Name, name, "name")}))

    def _bare(self, name: str, model: RegisteredModel) -> str:
        """The name without the project that the registered model is in."""
        project = model.project_name or model.project_id
        return name.removeprefix(f"{project}.") if project else name


def prefix_of(access: Access) -> str | None:
    """What the caller may leave away of names: its project's, if it sees one only."""
    if access.projects is None or len(access.projects) != 1:
        return None
    project = access.projects[0]
    return f"{project.name or project.id}."


def changes_of(**stated: object) -> RegisteredModelChanges:
    """Raises InvalidInput."""
    try:
        return RegisteredModelChanges.model_validate(stated)
    except ValidationError as exc:
        raise _invalid(exc, "") from exc


def checked(kind: object, value: str, field: str) -> str:
    """A value of this kind. Raises InvalidInput."""
    try:
        return str(TypeAdapter(kind).validate_python(value))
    except ValidationError as exc:
        raise _invalid(exc, field) from exc


def _invalid(exc: ValidationError, field: str) -> InvalidInput:
    error = exc.errors(include_url=False, include_input=False)[0]
    where = field or ".".join(str(part) for part in error["loc"] if part != "[key]")
    return InvalidInput(where, f"{where}: {error['msg'].removeprefix('Value error, ')}.")
