"""What is trained in a project: groups of versions, what they are optimized to, and the jobs that did it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from tests.simulators.geti.packing import Packing

if TYPE_CHECKING:
    from tests.simulators.geti.world import Label, Project, Task, World

STANDARD = {2: ("FP16+XAI", "FP32", "FP16", "ONNX FP32"), 3: ("FP16", "ONNX FP32", "PyTorch FP32")}
NOMINAL_BYTES = {"FP32": 20_600_000, "FP16": 10_300_000, "INT8": 5_400_000, "INT4": 2_900_000}


@dataclass(eq=False)
class Group:
    """An architecture, and what was trained of it."""

    project: "Project" = field(repr=False)
    id: str
    name: str
    task: "Task" = field(repr=False)
    template: str
    learning_approach: str
    models: "list[Model]" = field(default_factory=list, repr=False)
    last_version: int = 0

    @property
    def world(self) -> "World":
        return self.project.world

    def train(
        self,
        score: float | None = 0.81,
        *,
        active: bool = False,
        optimized: Iterable[str] | None = None,
        purged: bool = False,
        label_schema_in_sync: bool = True,
        performance: dict[str, Any] | None = None,
        status: str = "SUCCESS",
        duplicates: bool = False,
        labels: "Sequence[Label] | None" = None,
    ) -> "Model":
        """A new trained version, with a finished job.

        optimized: what it is optimized to at once, each as `Model.optimize` takes it.
        performance: raw, instead of that of the score. duplicates: its details list each optimized model twice.
        status: anything but SUCCESS is not listed (Geti 2), or as not or badly ended (Geti 3).
        """
        with self.world.lock:
            self.last_version += 1
            model = Model(
                group=self,
                id=self.world.new_id("model"),
                version=self.last_version,
                created=self.world.tick(),
                score=score,
                raw_performance=performance,
                status=status,
                is_label_schema_in_sync=label_schema_in_sync,
                has_duplicates=duplicates,
                labels=tuple(self.task.labels if labels is None else labels),
                revision_id=self.world.new_id("revision"),
            )
            self.models.append(model)
            for spec in STANDARD[self.world.major] if optimized is None else optimized:
                model.optimize(spec, job=False)
            if active:
                model.activate()
            if purged:
                model.purge()
            self.world.job(self.project, "train", created=model.created)
            return model

    def delete(self) -> None:
        with self.world.lock:
            self.project.groups.remove(self)


@dataclass(eq=False)
class Model:
    """A trained version, a base model. model["FP16+XAI"] is the optimized model of this specification."""

    group: Group = field(repr=False)
    id: str
    version: int
    created: datetime
    revision_id: str
    score: float | None
    raw_performance: dict[str, Any] | None = None
    status: str = "SUCCESS"
    is_active: bool = False
    is_label_schema_in_sync: bool = True
    purged_at: datetime | None = None
    has_duplicates: bool = False
    labels: "tuple[Label, ...]" = ()
    optimized: "list[Optimized]" = field(default_factory=list, repr=False)
    lifecycle_stage: str = "active"

    @property
    def world(self) -> "World":
        return self.group.world

    @property
    def performance(self) -> dict[str, Any]:
        return {"score": self.score} if self.raw_performance is None else self.raw_performance

    def __getitem__(self, spec: str) -> "Optimized":
        return next(one for one in self.optimized if one.spec == spec)

    def optimize(
        self,
        spec: str,
        status: str = "SUCCESS",
        *,
        job: bool = True,
        score: float | None = None,
        performance: dict[str, Any] | None = None,
    ) -> "Optimized":
        """A new optimized model, with a finished job, under a summary that stays as it is.

        spec: the precision, with `+XAI` after it or `ONNX ` before it: INT8, FP16+XAI, ONNX FP32.
        """
        with self.world.lock:
            if performance is None:
                performance = self.performance if score is None else {"score": score}
            created = self.world.tick() if job else self.created + timedelta(seconds=3 * len(self.optimized) + 3)
            optimized = Optimized(
                self, self.world.new_id("optimized"), spec, created, status, performance, self.world.packing
            )
            self.optimized.append(optimized)
            if job:
                kind = "optimize_pot" if optimized.kind == "POT" else "optimize"
                self.world.job(self.group.project, kind, created=created)
            return optimized

    def activate(self) -> None:
        """The active one of its task, instead of whatever was."""
        with self.world.lock:
            for model in self.group.project.models:
                if model.group.task is self.group.task:
                    model.is_active = model is self

    def deactivate(self) -> None:
        with self.world.lock:
            self.is_active = False

    def purge(self) -> None:
        """Its files go, its record stays."""
        with self.world.lock:
            self.purged_at = self.world.tick()

    def delete(self) -> None:
        with self.world.lock:
            self.group.models.remove(self)

    def pack(self, **packing: Any) -> "Model":
        """Have all packages of its optimized models made otherwise: see Packing."""
        for optimized in self.optimized:
            optimized.pack(**packing)
        return self


@dataclass(eq=False)
class Optimized:
    """What can be deployed if it is OpenVINO; a variant in Geti 3."""

    model: Model = field(repr=False)
    id: str
    spec: str
    created: datetime
    status: str
    performance: dict[str, Any]
    packing: Packing
    size: int = 0
    is_purged: bool = False

    def __post_init__(self) -> None:
        self.size = self.packing.size or NOMINAL_BYTES[self.planned_precision]

    @property
    def planned_precision(self) -> str:
        return self.spec.removesuffix("+XAI").split()[-1]

    @property
    def precision(self) -> list[str]:
        return [] if self.status in ("NOT_READY", "FAILED") else [self.planned_precision]

    @property
    def format(self) -> str:
        return self.spec.split()[0] if " " in self.spec else "OpenVINO"

    @property
    def kind(self) -> str:
        """As `optimization_type` says it."""
        return "ONNX" if self.format == "ONNX" else "POT" if self.planned_precision.startswith("INT") else "MO"

    @property
    def has_xai_head(self) -> bool:
        return self.spec.endswith("+XAI")

    @property
    def name(self) -> str:
        head = " with XAI head" if self.has_xai_head else ""
        return f"{self.model.group.name} {self.format} {self.planned_precision}{head}"

    @property
    def has_files(self) -> bool:
        is_done = self.status in ("SUCCESS", "TRAINED_NO_STATS", "NOT_IMPROVED")
        return is_done and not self.is_purged and self.model.purged_at is None

    def finish(self, status: str = "SUCCESS") -> None:
        """What was not ready is, or has failed; its job ends."""
        with self.model.world.lock:
            self.status = status
            self.model.world.job(self.model.group.project, "optimize_pot")

    def purge(self) -> None:
        """Its files go, its record stays."""
        with self.model.world.lock:
            self.is_purged = True

    def delete(self) -> None:
        with self.model.world.lock:
            self.model.optimized.remove(self)

    def pack(self, **packing: Any) -> "Optimized":
        """Have its package made otherwise: see Packing."""
        with self.model.world.lock:
            self.packing = Packing(**packing)
            self.size = self.packing.size or self.size
        return self


@dataclass(frozen=True)
class Job:
    id: str
    kind: str
    state: str
    created: datetime
    ended: datetime
    project_id: str
    project_name: str
