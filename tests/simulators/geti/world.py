"""What a simulated Geti holds: projects, groups, trained versions, optimized models, jobs.

All of it may change while a server answers from it: whoever changes it or reads it holds `World.lock`, which every
method here does by itself. Ids and dates follow from the seed and the order of the calls.
"""

import hashlib
import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from tests.simulators.geti.models import Group, Job, Model
from tests.simulators.geti.packing import Packing

ORGANIZATION_ID = "2f1c6c1e-58a4-4a4d-9d07-5b0d7f2f9a11"
# As in ids of MongoDB, whose first four bytes are a time: they sort by kind here, then by age.
PREFIXES = {"project": "64a", "task": "64a1", "dataset": "64a2", "schema": "64a3", "revision": "64a4", "group": "64b"}
PREFIXES |= {"model": "64c", "optimized": "64d", "label": "64e", "deployment": "64f", "job": "650"}


class World:
    """`profile` says which kind of ids it has: a world of Geti 3 is World("3")."""

    def __init__(
        self,
        profile: str = "2.13",
        *,
        seed: int = 0,
        workspaces: Sequence[str] = ("Default Workspace",),
        start: datetime = datetime(2026, 1, 1, 9, tzinfo=UTC),
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        self.profile = profile
        self.major = int(profile.partition(".")[0])
        self.seed = seed
        self.lock = threading.RLock()
        self.now = start  # of the next thing that happens; one minute passes between two
        self.clock = clock  # instead of `now`
        self.packing = Packing()  # of what is optimized from now on
        self.projects: list[Project] = []
        self.jobs: list[Job] = []
        self.organization_id = ORGANIZATION_ID
        self.workspaces = {self._uuid("workspace", number): name for number, name in enumerate(workspaces)}
        self._counts: dict[str, int] = {}

    @property
    def workspace_id(self) -> str:
        """The first, or only, one."""
        return next(iter(self.workspaces))

    def project(
        self,
        name: str = "Bottle caps",
        task: str = "detection",
        labels: Sequence[str] = ("cap",),
        *,
        tasks: Sequence[str] = (),
        workspace_id: str | None = None,
        has_media: bool = True,
        is_hidden: bool = False,
    ) -> "Project":
        """A new project. `tasks`: several, a chain, instead of `task`."""
        with self.lock:
            project = Project(
                world=self,
                id=self.new_id("project"),
                name=name,
                created=self.tick(),
                workspace_id=workspace_id or self.workspace_id,
                dataset_id=self.new_id("dataset"),
                has_media=has_media,
                is_hidden=is_hidden,
            )
            project.tasks = [Task.new(self, kind, labels) for kind in tasks or (task,)]
            self.projects.append(project)
            return project

    def populate(self, projects: int, groups: int = 1, versions: int = 1) -> "list[Project]":
        """So many projects, each with so many groups of so many versions, the last one active in each project."""
        with self.lock:
            made = [self.project(f"Project {number:03d}") for number in range(1, projects + 1)]
            for project in made:
                trained = [
                    group.train(score=round(0.5 + version / 100, 2))
                    for group in [project.group(f"Architecture {number}") for number in range(1, groups + 1)]
                    for version in range(1, versions + 1)
                ]
                for model in trained[-1:]:
                    model.activate()
            return made

    def job(
        self,
        project: "Project",
        kind: str = "train",
        state: str = "finished",
        created: datetime | None = None,
        ended: datetime | None = None,
    ) -> Job:
        """A job, which changes nothing by itself."""
        with self.lock:
            created = created or self.tick()
            ended = ended or created + timedelta(seconds=30)
            job = Job(self.new_id("job"), kind, state, created, ended, project.id, project.name)
            self.jobs.append(job)
            return job

    def find_project(self, project_id: str) -> "Project | None":
        return next((project for project in self.projects if project.id == project_id), None)

    def new_id(self, kind: str) -> str:
        """The next id of a kind: 24 hexadecimal digits in Geti 2, a UUID in Geti 3."""
        number = self._counts[kind] = self._counts.get(kind, 0) + 1
        if self.major == 3:
            return self._uuid(kind, number)
        prefix = f"{PREFIXES[kind]:0<4}{self.seed:04x}"
        return f"{prefix}{number:0{24 - len(prefix)}x}"

    def tick(self) -> datetime:
        """The time of what happens now."""
        if self.clock:
            return self.clock()
        self.now += timedelta(minutes=1)
        return self.now

    def _uuid(self, kind: str, number: int) -> str:
        digest = hashlib.sha256(f"{self.seed}/{kind}/{number}".encode()).digest()
        return str(uuid.UUID(bytes=digest[:16], version=4))


@dataclass(frozen=True)
class Label:
    id: str
    name: str
    group: str
    is_empty: bool = False
    is_anomalous: bool = False


@dataclass(eq=False)
class Task:
    id: str
    kind: str
    schema_id: str
    labels: list[Label]

    @classmethod
    def new(cls, world: World, kind: str, names: Sequence[str]) -> "Task":
        task = cls(world.new_id("task"), kind, world.new_id("schema"), [])
        if kind.startswith("anomaly"):
            names = ("Normal", "Anomalous")
        for name in names:
            task.add_label(world, name)
        if kind in ("detection", "rotated_detection", "segmentation", "instance_segmentation") and world.major == 2:
            task.labels.append(Label(world.new_id("label"), "No object", "No object", is_empty=True))
        return task

    @property
    def title(self) -> str:
        return self.kind.replace("_", " ").capitalize()

    def add_label(self, world: World, name: str) -> None:
        is_anomalous = self.kind.startswith("anomaly") and name == "Anomalous"
        self.labels.insert(
            len([label for label in self.labels if not label.is_empty]),
            Label(world.new_id("label"), name, f"{self.title} labels", is_anomalous=is_anomalous),
        )


@dataclass(eq=False)
class Project:
    """`has_media` False: Geti 2 has nothing to deploy then. `is_hidden`: not there yet, or not for the token's user."""

    world: World = field(repr=False)
    id: str
    name: str
    created: datetime
    workspace_id: str
    dataset_id: str
    has_media: bool = True
    is_hidden: bool = False
    tasks: list[Task] = field(default_factory=list, repr=False)
    groups: list[Group] = field(default_factory=list, repr=False)

    def group(
        self,
        name: str = "YOLOX-S",
        task: int = 0,
        *,
        learning_approach: str = "fully_supervised",
        template: str | None = None,
    ) -> Group:
        """A new group; `task` is the index of its task. Without a trained version nobody sees it."""
        with self.world.lock:
            template = template or f"Object_Detection_{name.replace(' ', '_').replace('-', '_')}"
            group_id = self.world.new_id("group")
            group = Group(self, group_id, name, self.tasks[task], template, learning_approach)
            self.groups.append(group)
            return group

    @property
    def models(self) -> list[Model]:
        """All trained versions, group by group."""
        return [model for group in self.groups for model in group.models]

    @property
    def active_model(self) -> Model | None:
        return next((model for model in self.models if model.is_active), None)

    def add_label(self, name: str, task: int = 0) -> None:
        """A new label: what was trained before is not in sync any more."""
        with self.world.lock:
            self.tasks[task].add_label(self.world, name)
            for model in self.models:
                if model.group.task is self.tasks[task]:
                    model.is_label_schema_in_sync = False

    def rename(self, name: str) -> None:
        with self.world.lock:
            self.name = name

    def delete(self) -> None:
        with self.world.lock:
            self.world.projects.remove(self)
