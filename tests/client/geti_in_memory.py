"""What the command needs of modelreg.Registry about Geti, without a network."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from modelreg import (
    Check,
    GetiGroup,
    GetiModel,
    GetiProject,
    GetiVersion,
    Import,
    ImportedModel,
    NotFound,
    SyncCounts,
    SyncRun,
    SyncStatus,
)

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def geti_project(project_id: str = "p1", name: str = "Bottle caps", *model_ids: str) -> GetiProject:
    models = [GetiModel(id=one, name="YOLOX-S OpenVINO FP16") for one in model_ids]
    version = GetiVersion(id="b2", name="YOLOX-S", version=2, openvino_models=models)
    return GetiProject(
        id=project_id,
        name=name,
        creation_time="2026-01-01T09:00:00.000000+00:00",
        model_groups=[GetiGroup(id="g1", name="YOLOX-S", model_versions=[version])],
    )


def run(**fields: Any) -> SyncRun:
    known = {
        "run_id": "r1",
        "started_at": AT,
        "finished_at": AT,
        "outcome": "ok",
        "counts": SyncCounts(seen=3, new=1, imported=1, skipped=2),
        "requests": 7,
        "skipped": [{"id": "m3", "why": "it is not in OpenVINO format"}],
    }
    return SyncRun(**{**known, **fields})


class GetiInMemory:
    """Answers what it is set to; a test sets what it needs."""

    def __init__(self) -> None:
        self.geti_projects: list[GetiProject] = []
        self.import_outcomes: dict[str, ImportedModel] = {}
        self.sync_state = SyncStatus(state="idle")
        self.sync_run = run()
        self.checks = [Check(check="settings", ok=True, found="Geti is at https://geti.test.")]

    def _called(self, method: str, **arguments: Any) -> None:
        raise NotImplementedError

    def projects(self) -> list[GetiProject]:
        self._called("projects")
        return self.geti_projects

    def project(self, project_id: str) -> GetiProject:
        self._called("project", project_id=project_id)
        found = next((known for known in self.geti_projects if known.id == project_id), None)
        if found is None:
            raise NotFound("Project not found")
        return found

    def import_models(self, project: GetiProject, models: Iterable[str], *, wait: bool = True) -> Import:
        self._called("import_models", project=project.id, models=list(models), wait=wait)
        return self.import_status("i1")

    def import_status(self, import_id: str) -> Import:
        self._called("import_status", import_id=import_id)
        models = list(self.import_outcomes.values())
        is_running = any(model.outcome == "pending" for model in models)
        return Import(id=import_id, state="running" if is_running else "done", models=models)

    def start_sync(self, *, dry_run: bool = False, full: bool = False) -> str:
        self._called("start_sync", dry_run=dry_run, full=full)
        return "r1"

    def wait_for_sync(self, run_id: str) -> SyncRun:
        self._called("wait_for_sync", run_id=run_id)
        return self.sync_run

    def sync_status(self) -> SyncStatus:
        self._called("sync_status")
        return self.sync_state

    def geti_checks(self) -> list[Check]:
        self._called("geti_checks")
        return self.checks
