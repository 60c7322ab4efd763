"""A Geti server in memory that has packages, labels and jobs too, and that changes between two looks: for tests of the
import and of the sync.

    server = GetiStage()
    server.add("p1", "Bottle caps", group("g1", "YOLOX-S", trained("b1", openvino(M1))))  # again: as it is then
    server.remove("p1")
    server.jobs.append(finished("j1", "p1", at))
    server.labels["b1"] = ("cap",)
    server.sends[M1] = b"no archive"                           # the package, instead of a right one
    server.sends[M1] = [PACKAGE[:100], GetiBusy("cut off")]    # or its chunks; an error is raised when it is its turn
    server.failures["package", M1] = GetiBusy("throttled")     # of whatever is asked, as in geti_server.py

Ids of models have to be of the registry's form: `model_id(1)`. `server.open_packages` counts those not closed.
"""

import io
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from chalicelib.geti.errors import GetiGone
from chalicelib.geti.ports import Package
from chalicelib.geti.records import FinishedJob, Group, ModelDetails, OptimizedModel, Project, Task
from tests.geti_server import GetiServer, group, openvino, trained

__all__ = ["PACKAGE", "GetiStage", "Task", "finished", "group", "model_id", "openvino", "package", "trained"]

DETECTION = Task(id="t1", title="Detection", kind="detection")
IR = b'<?xml version="1.0"?>\n<net name="caps" version="11"><layers /></net>\n'
CHUNK_BYTES = 64 * 1024
Sent = bytes | Sequence[bytes | Exception] | Callable[[], Iterator[bytes]]


def model_id(number: int) -> str:
    """As Geti 2 numbers its models."""
    return f"64d{number:021d}"


def package(weights: bytes = bytes(range(256)), **others: bytes) -> bytes:
    """What Geti 2 deploys; a double underscore in the name of another file stands for a dot."""
    files = {
        "deployment/project.json": b'{"name": "Bottle caps"}',
        "deployment/Detection/model/model.xml": IR,
        "deployment/Detection/model/model.bin": weights,
        "deployment/Detection/model/config.json": b"{}",
        "sample_image.jpg": b"\xff\xd8\xff\xe0 pixels",
        "README.md": b"# Exportable code\n" * 20,
        **{name.replace("__", "."): content for name, content in others.items()},
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, (2026, 1, 2, 3, 4, 6)), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


PACKAGE = package()


def finished(job_id: str, project_id: str | None, ended_at: datetime, kind: str = "train") -> FinishedJob:
    return FinishedJob(id=job_id, kind=kind, project_id=project_id, ended_at=ended_at)


class GetiStage(GetiServer):
    """Server (geti/ports.py)."""

    def __init__(self, is_flat: bool = False) -> None:
        super().__init__(is_flat)
        self.jobs: list[FinishedJob] = []
        self.labels: dict[str, tuple[str, ...]] = {}
        self.sends: dict[str, Sent] = {}
        self.open_packages = 0

    def add(self, project_id: str, name: str, *groups: Group, tasks: tuple[Task, ...] = (DETECTION,)) -> None:
        """Put a project there, or another in its place."""
        super().add(project_id, name, *groups)
        self._projects[project_id] = self._projects[project_id].model_copy(update={"tasks": tasks})

    def remove(self, project_id: str) -> None:
        del self._projects[project_id], self._groups[project_id]

    def groups(self, project: Project) -> Sequence[Group]:
        self._require(project)
        return super().groups(project)

    def details(self, project: Project, group_id: str, model_id: str) -> ModelDetails:
        self._require(project)
        found = super().details(project, group_id, model_id)
        labels = self.labels.get(found.base_model_id, ("cap",))
        return found.model_copy(update={"labels": labels, "training_framework": "otx 2.4.1"})

    def finished_jobs(self, since: datetime) -> Sequence[FinishedJob]:
        self._ask("finished_jobs")
        return tuple(self.jobs)

    @contextmanager
    def package(self, project: Project, model: OptimizedModel) -> Iterator[Package]:
        self._ask("package", model.id)
        sent = self.sends.get(model.id, PACKAGE)
        size = len(sent) if isinstance(sent, bytes) else None
        self.open_packages += 1
        try:
            yield Package(f"Deployment-{project.name}.zip", size, _chunks(sent))
        finally:
            self.open_packages -= 1

    def _require(self, project: Project) -> None:
        if project.id not in self._projects:
            raise GetiGone("There is no such project.", "project_not_found")


def _chunks(sent: Sent) -> Iterator[bytes]:
    if callable(sent):
        yield from sent()
    elif isinstance(sent, bytes):
        yield from (sent[at : at + CHUNK_BYTES] for at in range(0, len(sent), CHUNK_BYTES))
    else:
        for part in sent:
            if isinstance(part, Exception):
                raise part
            yield part
