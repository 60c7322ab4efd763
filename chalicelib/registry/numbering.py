"""Versions as clients of MLflow have them: registered under the next number, found by it, moved from stage to stage.

What was registered otherwise has a number too, and is found and changed here likewise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, NoReturn

from pydantic import ValidationError

from chalicelib.registry.audit import Action
from chalicelib.registry.errors import InvalidInput, NotFound, Unavailable
from chalicelib.registry.formats import MLFLOW
from chalicelib.registry.models import Changes, Metadata, ModelVersion, Tree

if TYPE_CHECKING:
    from chalicelib.registry.access import Actor
    from chalicelib.registry.models import Artifact, Lineage, Stage
    from chalicelib.registry.ports import Blobs, Catalog
    from chalicelib.registry.registered_models import RegisteredModel
    from chalicelib.registry.service import Announce

ACTIVE_STAGES: tuple[Stage, ...] = ("Staging", "Production")
STAGES: tuple[Stage | None, ...] = (None, "Staging", "Production", "Archived")
# What a copy does not take over: where it stands, and what whoever copies states anew.
OF_ITS_OWN = {"name", "version", "project_id", "project_name", "description", "tags"}


@dataclass(frozen=True)
class NewVersion:
    """What is to be registered.

    `changes` is the count of its tree at which the artifact was listed, None if that is sealed already; `relist` lists
    it again if it was written to meanwhile. `copied` is the version whose artifact this is, if it is a copy.
    """

    lineage: Lineage
    artifact: Artifact
    changes: int | None = None
    relist: Callable[[], tuple[Tree, int] | None] | None = None
    copied: ModelVersion | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    description: str | None = None

    def saying(self, tags: Mapping[str, str], description: str | None) -> NewVersion:
        """This with what is said of it."""
        return replace(self, tags=tags, description=description)

    def listed_again(self) -> NewVersion:
        """This with its tree as it is now. Raises InvalidInput if nothing is left, Unavailable if it cannot tell."""
        if self.relist is None:
            raise Unavailable("Files of this model are being written: try again when they are there.")
        if (listed := self.relist()) is None:
            raise InvalidInput("source", "There are no files at the source any more.")
        return replace(self, artifact=listed[0], changes=listed[1])


class Numbering:
    """Registers and changes versions by the numbers of their registered models, which the caller was found to see."""

    def __init__(
        self,
        catalog: Catalog,
        blobs: Blobs,
        clock: Callable[[], datetime],
        new_id: Callable[[], str],
        announce: Announce,
    ) -> None:
        self._catalog = catalog
        self._numbered = catalog.numbered
        self._blobs = blobs
        self._clock = clock
        self._new_id = new_id
        self._announce = announce

    def create(self, model: RegisteredModel, made: NewVersion, by: Actor) -> ModelVersion:
        """The next version. Raises NotFound if the registered model, or what is copied, has gone; InvalidInput."""
        version = self._numbered.add(model, self._version(model, made), made, by)
        self._announce(Action.VERSION_REGISTERED, None, version, by)
        return version

    def version(self, model: RegisteredModel, number: int, by: Actor) -> ModelVersion:
        """Raises NotFound."""
        return self._numbered.version(model.rm_id, number)

    def latest(self, model: RegisteredModel, stages: Sequence[Stage | None] | None) -> Sequence[ModelVersion]:
        """The newest version of each of these stages that has one, or of all; None is that of no stage."""
        stages = STAGES if stages is None else tuple(dict.fromkeys(stages))
        return self._numbered.newest([model], stages).get(model.rm_id, ())

    def latest_of(self, models: Sequence[RegisteredModel]) -> Mapping[str, Sequence[ModelVersion]]:
        """The newest version of each stage of each of these, by rm_id."""
        return self._numbered.newest(models, STAGES)

    def describe(self, model: RegisteredModel, number: int, description: str | None, by: Actor) -> ModelVersion:
        """Raises NotFound and InvalidInput."""
        at, changes = self._clock(), Changes(description=description or None)
        return self._changed(model, number, lambda now: now.edited(changes, at), by, at)

    def set_tag(self, model: RegisteredModel, number: int, key: str, value: str, by: Actor) -> None:
        """Raises NotFound, and InvalidInput for tags that are too large."""
        self._retag(model, number, lambda tags: {**tags, key: value}, by)

    def delete_tag(self, model: RegisteredModel, number: int, key: str, by: Actor) -> None:
        """Take a tag away, if it is there. Raises NotFound."""
        self._retag(model, number, lambda tags: {name: value for name, value in tags.items() if name != key}, by)

    def transition(
        self, model: RegisteredModel, number: int, stage: Stage | None, archive_existing: bool, by: Actor
    ) -> ModelVersion:
        """Put a version into a stage, or out of all; `archive_existing` puts the others that are in it to Archived.

        They go first, from the lowest number on, and the last of them with the version itself: whatever comes between,
        the stage has no two that this put there, and the same once more does what is left. Raises NotFound and
        InvalidInput.
        """
        if archive_existing and stage not in ACTIVE_STAGES:
            raise InvalidInput(
                "archive_existing_versions", f"Only versions in {' or '.join(ACTIVE_STAGES)} are archived."
            )
        changed = self._numbered.transition(model, number, stage, archive_existing, by, self._clock())
        for before, after in changed:
            self._announce(Action.VERSION_UPDATED, before, after, by)
        return changed[-1][1]

    def delete(self, model: RegisteredModel, number: int, by: Actor) -> None:
        """Remove a version with its aliases, then its bytes unless a copy has them. Raises NotFound."""
        model_id = self._numbered.version(model.rm_id, number).id
        removed, key = self._catalog.remove(model_id, by, self._clock(), of=model.rm_id)
        if key:
            self._blobs.remove(key)
        self._announce(Action.VERSION_DELETED, removed, None, by)

    def _retag(
        self, model: RegisteredModel, number: int, retagged: Callable[[Mapping[str, str]], dict[str, str]], by: Actor
    ) -> None:
        at = self._clock()
        self._changed(model, number, lambda now: now.edited(_tagged(retagged(now.tags)), at), by, at)

    def _changed(
        self,
        model: RegisteredModel,
        number: int,
        edit: Callable[[ModelVersion], ModelVersion],
        by: Actor,
        at: datetime,
    ) -> ModelVersion:
        def edited(now: ModelVersion) -> ModelVersion:
            # It may have moved since its number was looked up.
            return edit(now) if (now.rm_id, now.number) == (model.rm_id, number) else no_such_version(number)

        model_id = self._numbered.version(model.rm_id, number).id
        before, after = self._catalog.change(model_id, edited, by, at)
        if after.revision != before.revision:
            self._announce(Action.VERSION_UPDATED, before, after, by)
        return after

    def _version(self, model: RegisteredModel, made: NewVersion) -> ModelVersion:
        """As it will be, but for its number. Raises InvalidInput."""
        now = self._clock()
        told = made.copied.model_dump(include=set(Metadata.model_fields) - OF_ITS_OWN) if made.copied else {}
        if not made.copied:
            told = {"created_date": f"{now:%Y-%m-%d %H:%M:%S.%f} UTC"}
            told |= {"format": MLFLOW} if isinstance(made.artifact, Tree) else {}
        version = ModelVersion(
            **told,
            **model.qualified_name.model_dump(),
            version="unset",
            description=made.description or None,
            tags=_tagged(made.tags).tags,
            id=self._new_id(),
            rm_id=model.rm_id,
            number=1,
            revision=1,
            published_at=now,
            updated_at=now,
            artifact=made.artifact,
            lineage=made.lineage,
        )
        version.check_limits()
        return version


def _tagged(tags: Mapping[str, str]) -> Changes:
    """Raises InvalidInput for a key that is none."""
    try:
        return Changes(tags=dict(tags))
    except ValidationError as exc:
        error = exc.errors(include_url=False, include_input=False)[0]
        raise InvalidInput("tags", f"A key of a tag {error['msg'].removeprefix('Value error, ')}.") from exc


def no_such_version(number: int) -> NoReturn:
    raise NotFound(f"There is no version {number} of this registered model.")
