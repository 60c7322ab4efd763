"""What a caller asks of Geti: which projects there are, and that models of one be imported.

Everything is narrowed to what the caller sees of the registry, as if the models were registered already. An answer is
complete, within ASK_SECONDS, or it is an error.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import NamedTuple

from chalicelib.geti.at_once import AtOnce
from chalicelib.geti.errors import GetiForbidden, GetiGone
from chalicelib.geti.fields import ID
from chalicelib.geti.packages import qualified_name
from chalicelib.geti.ports import Imports, Server, Work
from chalicelib.geti.records import BaseModel, Group, OptimizedModel, Project
from chalicelib.geti.selection import Selection
from chalicelib.geti.states import Import, ImportedModel, Order
from chalicelib.registry.access import Access, Actor
from chalicelib.registry.errors import NO_SUCH_IMPORT, NotFound, RegistryError, Unavailable
from chalicelib.registry.models import Frozen
from chalicelib.registry.ports import Catalog

ASK_SECONDS = 24  # the gateway gives up after 29
KEPT = timedelta(days=7)
GIVEN_UP_AFTER = timedelta(hours=24)
NOT_HEARD_OF = "nothing was heard of it for a day; ask for it again"
NOT_TOLD = "it could not be imported; a token without limits is told why"
WATCH_EVERY_SECONDS = 0.5
NO_SUCH_PROJECT = "Project not found"
NOT_THERE = "Project or model id not found. No model(s) registered."
ADVICE = "Ask for one project, GET /projects/{project_id}, or try again."
TRAINED_VERSION = "it is a trained version: name one of its OpenVINO models"
NOT_QUEUED = "it could not be put into the queue; ask for it again"
ANY_VERSION = Selection(models="all")  # what can be imported by whoever asks for it


class ListedModel(Frozen):
    """A model that can be imported."""

    id: str
    name: str


class ListedVersion(Frozen):
    """A trained version with those of its models that can be imported."""

    id: str
    name: str
    version: int
    openvino_models: tuple[ListedModel, ...]


class ListedGroup(Frozen):
    """What one architecture was trained to."""

    id: str
    name: str
    model_versions: tuple[ListedVersion, ...]


class ListedProject(Frozen):
    """A project with all that can be imported of it."""

    id: str
    name: str
    creation_time: str | None
    model_groups: tuple[ListedGroup, ...]


class Wanted(NamedTuple):
    """A model by its id and that of its group, as a caller names it."""

    model_id: str
    group_id: str


class NotImportable(RegistryError):
    """These models cannot be imported; `whys` says why, by id."""

    code = "not_importable"

    def __init__(self, whys: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{model_id}: {why}" for model_id, why in whys.items()))
        self.whys = whys


class AlreadyRegistered(RegistryError):
    """These models are registered already, under these ids."""

    code = "already_registered"

    def __init__(self, ids: Sequence[str]) -> None:
        super().__init__(", ".join(ids))
        self.ids = ids


class _Found(NamedTuple):
    """A model that is there: what it is called, and why it cannot be imported, if so."""

    name: str
    why_not: str | None


class Asking:
    """Asks a Geti server on behalf of a caller. Made for one request after the other, not for several at once."""

    def __init__(
        self,
        server: Server,
        server_id: str,
        catalog: Catalog,
        imports: Imports,
        work: Work,
        clock: Callable[[], datetime],
        new_ulid: Callable[[], str],
        seconds: float = ASK_SECONDS,
    ) -> None:
        self._server = server
        self._server_id = server_id
        self._catalog = catalog
        self._imports = imports
        self._work = work
        self._clock = clock
        self._new_ulid = new_ulid
        self._seconds = seconds

    def projects(self, by: Actor) -> Sequence[ListedProject]:
        """All projects that the caller sees, in Geti's order. Raises GetiError."""
        if not _may_see_any(by.access):
            return ()
        at_once = AtOnce(self._seconds, ADVICE)
        listed = at_once.one(self._server.projects)
        seen = [project for project in listed if sees_project(by.access, project)]
        groups = zip(seen, at_once.each(self._groups, seen), strict=True)
        return self._listed([(project, of_it) for project, of_it in groups if of_it is not None], by, at_once)

    def project(self, project_id: str, by: Actor) -> ListedProject:
        """One project. Raises NotFound, also for what the caller does not see, and GetiError."""
        at_once = AtOnce(self._seconds, ADVICE)
        project = self._seen_project(project_id, by, at_once, NO_SUCH_PROJECT)
        try:
            groups = at_once.one(lambda: self._server.groups(project))
        except GetiGone as exc:
            raise NotFound(NO_SUCH_PROJECT) from exc
        found = self._listed([(project, groups)], by, at_once)
        if not found:
            raise NotFound(NO_SUCH_PROJECT)
        return found[0]

    def ask(self, project_id: str, wanted: Sequence[Wanted], by: Actor, import_id: str | None = None) -> Import:
        """Have models imported: all of them, or none and an error. `import_id`: of the same request, if it is repeated.

        Raises NotFound if the project or a model is not there, or not for the caller to see; NotImportable,
        AlreadyRegistered, GetiError, Unavailable.
        """
        begun = self._begun(import_id, by) if import_id else None
        if begun is None:
            project = self._checked(project_id, wanted, by)
            begun = Import(
                id=import_id or self._new_ulid(),
                project_id=project.id,
                project_name=project.name,
                asked_at=self._clock(),
                asked_by=by.token_id,
                models=tuple(ImportedModel(id=one.model_id) for one in wanted),
            )
            self._imports.add(begun, begun.asked_at + KEPT)
        # Again if it is repeated: the first try may have ended before all of them were queued.
        pending = {model.id for model in begun.models if model.outcome == "pending"}
        self._queue(begun, [one for one in wanted if one.model_id in pending], by)
        return begun

    def _begun(self, import_id: str, by: Actor) -> Import | None:
        with suppress(NotFound):
            return seen_import(self._imports.get(import_id), by)
        return None

    def _queue(self, asked: Import, wanted: Iterable[Wanted], by: Actor) -> None:
        """Raises Unavailable if none could be queued; of some, that is their outcome."""
        left_over, queued, failure = [], 0, None
        for model_id, group_id in wanted:
            order = Order(
                server_id=self._server_id,
                project_id=asked.project_id,
                group_id=group_id,
                model_id=model_id,
                import_id=asked.id,
                by=by,
            )
            try:
                self._work.queue(order)
                queued += 1
            except Unavailable as exc:
                left_over.append(model_id)
                failure = exc
        if failure and not queued:
            raise failure
        for model_id in left_over:
            self._imports.settle(asked.id, ImportedModel(id=model_id, outcome="failed", why=NOT_QUEUED))

    def _checked(self, project_id: str, wanted: Sequence[Wanted], by: Actor) -> Project:
        """The project, if all of these can be imported of it."""
        at_once = AtOnce(self._seconds, ADVICE)
        project = self._seen_project(project_id, by, at_once, NOT_THERE)
        try:
            listed = at_once.one(lambda: self._server.groups(project))
        except GetiGone as exc:
            raise NotFound(NOT_THERE) from exc
        groups = {group.id: group for group in listed}
        found = at_once.each(lambda one: self._found(project, groups.get(one.group_id), one.model_id), wanted)
        whys: dict[str, str] = {}
        for one, model in zip(wanted, found, strict=True):
            if model is None or not by.access.sees(qualified_name(project, model.name, one.model_id)):
                raise NotFound(NOT_THERE)
            if model.why_not:
                whys[one.model_id] = model.why_not
        if whys:
            raise NotImportable(whys)
        if there := self._catalog.versions([one.model_id for one in wanted]):
            raise AlreadyRegistered([version.id for version in there])
        return project

    def _found(self, project: Project, group: Group | None, model_id: str) -> _Found | None:
        """A model of a group; None if it is not there."""
        if group is None:
            return None
        for base, why_not in ANY_VERSION.versions(group):
            if base.id == model_id:
                return _Found(base.name, why_not or TRAINED_VERSION)
            for model in base.optimized or ():
                if model.id == model_id:
                    return _Found(model.name, why_not or ANY_VERSION.why_not(model))
        if all(base.optimized is not None for base in group.models):
            return None
        return self._found_by_details(project, group, model_id)

    def _found_by_details(self, project: Project, group: Group, model_id: str) -> _Found | None:
        try:
            details = self._server.details(project, group.id, model_id)
        except GetiGone:
            return None
        # Not every version of Geti compares the group in the path with that of the model.
        whys = {base.id: why_not for base, why_not in ANY_VERSION.versions(group)}
        model = details.optimized_model(model_id)
        if model is None or details.base_model_id not in whys:
            return None
        return _Found(model.name, whys[details.base_model_id] or ANY_VERSION.why_not(model))

    def _seen_project(self, project_id: str, by: Actor, at_once: AtOnce, absent: str) -> Project:
        """Raises NotFound. What the caller's limits do not name, or no project is called, is not even asked for."""
        limits = by.access.projects
        if not ID.fullmatch(project_id) or (limits is not None and project_id not in {limit.id for limit in limits}):
            raise NotFound(absent)
        try:
            project = at_once.one(lambda: self._server.project(project_id))
        except GetiGone as exc:
            raise NotFound(absent) from exc
        if not sees_project(by.access, project):
            raise NotFound(absent)
        return project

    def _listed(
        self, there: Sequence[tuple[Project, Sequence[Group]]], by: Actor, at_once: AtOnce
    ) -> Sequence[ListedProject]:
        """These projects with all in them that the caller sees; versions that are gone meanwhile left out."""
        versions = [
            _Version(project, group, base, why_not)
            for project, of_it in there
            for group in of_it
            for base, why_not in ANY_VERSION.versions(group)
        ]
        models = at_once.each(self._importable, versions)
        by_version = {
            (one.project.id, one.group.id, one.base.id): of_it for one, of_it in zip(versions, models, strict=True)
        }
        listed = [_listed_project(project, of_it, by_version, by.access) for project, of_it in there]
        return [project for project in listed if project is not None]

    def _groups(self, project: Project) -> Sequence[Group] | None:
        """None for a project that went away, or that Geti lists and then does not let its user read."""
        with suppress(GetiGone, GetiForbidden):
            return self._server.groups(project)
        return None

    def _importable(self, version: "_Version") -> Sequence[OptimizedModel] | None:
        """Its models that can be imported; None if it went away."""
        if version.why_not:
            return ()
        models = version.base.optimized
        if models is None:
            try:
                models = self._server.details(version.project, version.group.id, version.base.id).optimized
            except GetiGone:
                return None
        return [model for model in models if ANY_VERSION.why_not(model) is None]


class _Version(NamedTuple):
    project: Project
    group: Group
    base: BaseModel
    why_not: str | None


def _listed_project(
    project: Project,
    groups: Sequence[Group],
    models: Mapping[tuple[str, str, str], Sequence[OptimizedModel] | None],
    access: Access,
) -> ListedProject | None:
    """The project as the caller sees it. Who sees models by their names sees nothing but what holds such a model."""
    is_by_name = access.name_prefixes is not None

    def versions(group: Group) -> Iterable[ListedVersion]:
        for base in group.models:
            importable = models[project.id, group.id, base.id]
            if importable is None:
                continue
            seen = tuple(
                ListedModel(id=model.id, name=model.name)
                for model in importable
                if access.sees(qualified_name(project, model.name, model.id))
            )
            if seen or not is_by_name:
                yield ListedVersion(id=base.id, name=base.name, version=base.version, openvino_models=seen)

    listed = [ListedGroup(id=group.id, name=group.name, model_versions=tuple(versions(group))) for group in groups]
    seen = tuple(group for group in listed if group.model_versions or not is_by_name)
    if is_by_name and not seen:
        return None
    return ListedProject(id=project.id, name=project.name, creation_time=project.created_at, model_groups=seen)


def watch(
    imports: Imports,
    import_id: str,
    seconds: float,
    sleep: Callable[[float], None] = time.sleep,
    monotonic: Callable[[], float] = time.monotonic,
) -> Import:
    """A request once all its models have an outcome, or as it is after this time."""
    until = monotonic() + seconds
    while True:
        asked = imports.get(import_id)
        left = until - monotonic()
        if asked.is_done or left <= 0:
            return asked
        sleep(min(WATCH_EVERY_SECONDS, left))


def seen_import(asked: Import, by: Actor) -> Import:
    """Raises NotFound, in the words for what does not exist, unless the caller sees its project.

    Who is limited to names of models sees their own requests only, for these do not keep the names.
    """
    is_theirs = by.access.name_prefixes is None or by.token_id == asked.asked_by
    if not is_theirs or not sees_project(by.access, Project(id=asked.project_id, name=asked.project_name)):
        raise NotFound(NO_SUCH_IMPORT)
    return asked


def told_to(asked: Import, by: Actor, at: datetime) -> Import:
    """The request as its caller may see it: who is limited is not told what Geti said, which may name other projects.

    What nothing was heard of for long, has failed.
    """

    def told(model: ImportedModel) -> ImportedModel:
        if model.outcome == "pending" and at - asked.asked_at > GIVEN_UP_AFTER:
            model = ImportedModel(id=model.id, outcome="failed", why=NOT_HEARD_OF)
        return model.model_copy(update={"why": NOT_TOLD}) if model.why and by.access.is_limited else model

    return asked.model_copy(update={"models": tuple(map(told, asked.models))})


def sees_project(access: Access, project: Project) -> bool:
    """Whether models of this project may be seen, if their names may."""
    return access.projects is None or any(limit.holds(qualified_name(project, "", "")) for limit in access.projects)


def _may_see_any(access: Access) -> bool:
    """Whether any project of Geti can be meant: each has an id and a name."""
    return access.projects is None or any(limit.id and limit.name for limit in access.projects)
