"""What the registry answers about an Intel Geti server: its projects, imports from it, and the sync with it."""

from collections.abc import Sequence
from typing import Literal

from modelreg.models import Answer, Moment


class GetiModel(Answer):
    """A model that can be imported."""

    id: str
    name: str


class GetiVersion(Answer):
    """A trained version, with those of its models that can be imported."""

    id: str
    name: str
    version: int
    openvino_models: list[GetiModel] = []


class GetiGroup(Answer):
    """What one architecture was trained to."""

    id: str
    name: str
    model_versions: list[GetiVersion] = []


class Importable(Answer):
    """A model that can be imported, and where it is. version: that of its training."""

    id: str
    name: str
    version: int
    group_id: str
    group_name: str


class GetiProject(Answer):
    id: str
    name: str
    creation_time: str | None = None
    model_groups: list[GetiGroup] = []

    def importable(self) -> Sequence[Importable]:
        """All models of the project that can be imported, as one list."""
        return [
            Importable(id=model.id, name=model.name, version=version.version, group_id=group.id, group_name=group.name)
            for group in self.model_groups
            for version in group.model_versions
            for model in version.openvino_models
        ]


class ImportedModel(Answer):
    """What became of a model that was asked for; why: of one that failed. exists: somebody else had registered it."""

    id: str
    outcome: Literal["registered", "exists", "failed", "pending"]
    why: str | None = None


class Import(Answer):
    """A request to import models, with what became of each."""

    id: str = ""
    state: Literal["running", "done"]
    models: list[ImportedModel] = []

    @property
    def failed(self) -> Sequence[ImportedModel]:
        return [model for model in self.models if model.outcome == "failed"]


class StartedSync(Answer):
    run_id: str


class ToldModel(Answer):
    """A model, or a project, and why it was left out or failed."""

    id: str
    why: str


class SyncCounts(Answer):
    """Models, by what became of them; marked: said to be gone from Geti, or back."""

    seen: int = 0
    new: int = 0
    imported: int = 0
    skipped: int = 0
    failed: int = 0
    marked: int = 0


class SyncRun(Answer):
    """A run of the sync. Of skipped and failed the first ones are named; the counts are exact.

    outcome: ok, partial or failed, once it is finished. outstanding: imports that have not ended.
    """

    run_id: str
    started_at: Moment
    finished_at: Moment | None = None
    outcome: str | None = None
    dry_run: bool = False
    full: bool = False
    counts: SyncCounts = SyncCounts()
    outstanding: int = 0
    requests: int = 0
    skipped: list[ToldModel] = []
    failed: list[ToldModel] = []


class SyncStatus(Answer):
    """What the sync does: `run` while one is going on, `last_run` while none is, and after the first."""

    state: Literal["idle", "running"]
    run: SyncRun | None = None
    last_run: SyncRun | None = None


class Check(Answer):
    """Something that must be right for models to come from Geti; fix: what to do where it is not."""

    check: str
    ok: bool
    found: str
    fix: str | None = None
