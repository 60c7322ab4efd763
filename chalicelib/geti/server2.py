"""Geti 2 as a Server: its projects, groups, models and jobs, in one workspace of one organization.

deployments.py has its packages. Traps of this version: `next_page` is set on the last page too, scores have three
forms, an optimized model asked for by its id answers as if it were a trained version.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from itertools import pairwise

from chalicelib.geti.deployments import Deployments
from chalicelib.geti.errors import GetiBusy, GetiForbidden, GetiGone, GetiNoSuchRoute, GetiRefused, NotGeti
from chalicelib.geti.exchange import Request
from chalicelib.geti.fields import Fields, checked_id, each_once
from chalicelib.geti.ports import Package
from chalicelib.geti.records import (
    BaseModel,
    FinishedJob,
    Group,
    ModelDetails,
    OptimizedModel,
    Project,
    ServerInfo,
    Task,
)
from chalicelib.geti.transport import Transport

PAGE = 100  # the most that Geti gives at once
MAX_PAGES = 1000
NOT_TRAINED = ("dataset", "crop")
# What the listing says of a trained version, but for what changes by itself or is not known yet.
SUMMARY = (
    "id",
    "name",
    "version",
    "creation_date",
    "active_model",
    "performance.score",
    "performance.global_score",
    "performance.local_score",
    "label_schema_in_sync",
    "purge_info.is_purged",
    "lifecycle_stage",
)


class Server2:
    """A workspace of Geti 2.x, as the token's user sees it."""

    def __init__(self, transport: Transport, info: ServerInfo, allow_legacy: bool) -> None:
        self.info = info
        self._transport = transport
        self._workspace = f"/api/v1/organizations/{info.organization_id}/workspaces/{info.workspace_id}"
        self._deployments = Deployments(transport, self._workspace, allow_legacy)

    @property
    def requests(self) -> int:
        return self._transport.requests

    def projects(self) -> Sequence[Project]:
        """Whoever deletes a project meanwhile moves the others: the list is read again then, once."""
        for _ in range(2):
            projects, counts = self._all_projects()
            if len(projects) >= counts[-1] and all(now >= before for before, now in pairwise(counts)):
                return projects
        raise GetiBusy(
            f"Geti's list of projects has {counts[-1]}, but {len(projects)} came, twice: it changes while it is read."
            " It is tried again later."
        )

    def _all_projects(self) -> tuple[Sequence[Project], Sequence[int]]:
        """The projects, and how many there were as each page came."""
        projects: list[Project] = []
        counts: list[int] = []
        for _ in range(MAX_PAGES):
            page = self._get("projects", {**_page(len(projects)), "sort_by": "creation_date", "sort_direction": "asc"})
            listed = page.objects("projects")
            counts.append(page.integer("project_counts"))
            projects += map(_project, listed)
            if not listed or len(projects) >= counts[-1]:
                return each_once(projects), counts
        raise GetiRefused(f"Geti's list of projects does not end after {MAX_PAGES} pages.")

    def project(self, project_id: str) -> Project:
        return _project(self._get(f"projects/{checked_id(project_id, 'The id of the project')}"))

    def groups(self, project: Project) -> Sequence[Group]:
        answer = self._get(f"projects/{checked_id(project.id, 'The id of the project')}/model_groups")
        return each_once(map(_group, answer.objects("model_groups")))

    def details(self, project: Project, group_id: str, model_id: str) -> ModelDetails:
        where = (
            f"projects/{checked_id(project.id, 'The id of the project')}"
            f"/model_groups/{checked_id(group_id, 'The id of the group')}"
            f"/models/{checked_id(model_id, 'The id of the model')}"
        )
        return _details(self._get(where), group_id, model_id)

    def finished_jobs(self, since: datetime) -> Sequence[FinishedJob]:
        try:
            return self._all_finished_jobs(since)
        except (GetiNoSuchRoute, GetiForbidden, GetiGone, NotGeti):
            # Jobs are another service of Geti's, and only a hint; whether there is a Geti, others find out.
            return ()

    def _all_finished_jobs(self, since: datetime) -> Sequence[FinishedJob]:
        jobs: list[FinishedJob] = []
        query = {"sort_by": "creation_date", "sort_direction": "asc", "creation_time_from": since.isoformat()}
        for _ in range(MAX_PAGES):
            page = self._get("jobs", {"state": "finished", **_page(len(jobs)), **query})
            listed = page.objects("jobs")
            jobs += map(_job, listed)
            count = page.within("jobs_count").count("n_finished_jobs")
            if len(listed) < PAGE if count is None else not listed or len(jobs) >= count:
                return each_once(jobs)
        raise GetiRefused(f"Geti's list of jobs does not end after {MAX_PAGES} pages.")

    def package(self, project: Project, model: OptimizedModel) -> AbstractContextManager[Package]:
        return self._deployments.package(checked_id(project.id, "The id of the project"), model)

    def _get(self, path: str, query: dict[str, str | int] | None = None) -> Fields:
        request = Request("GET", f"{self._workspace}/{path}", query)
        return Fields(self._transport.json(request), request)


def _page(skip: int) -> dict[str, str | int]:
    return {"limit": PAGE, "skip": skip}


def _project(fields: Fields) -> Project:
    tasks = [
        Task(id=task.id(), title=task.text("title") or "", kind=task.text("task_type") or "unknown")
        for task in fields.within("pipeline").objects("tasks")
        if task.text("task_type") not in NOT_TRAINED
    ]
    return Project(
        id=fields.id(),
        name=fields.text("name") or fields.id(),
        created_at=fields.text("creation_time"),
        tasks=tuple(tasks),
    )


def _group(fields: Fields) -> Group:
    group_id, name = fields.id(), fields.text("name") or fields.id()
    return Group(
        id=group_id,
        name=name,
        task_id=fields.text("task_id"),
        is_importable=fields.text("learning_approach") != "one_shot",
        models=each_once(_base_model(model, group_id, name) for model in fields.objects("models")),
    )


def _base_model(fields: Fields, group_id: str, group_name: str) -> BaseModel:
    return BaseModel(
        id=fields.id(),
        name=fields.text("name") or group_name,
        version=fields.integer("version"),
        group_id=group_id,
        created_at=fields.time("creation_date"),
        is_active=fields.flag("active_model"),
        is_purged=_is_purged(fields),
        summary=fields.excerpt(SUMMARY),
    )


def _details(fields: Fields, group_id: str, model_id: str) -> ModelDetails:
    optimized = fields.objects("optimized_models")
    # Of an optimized model, the answer is that of the version it was made of, but for the fields at its top.
    asked_for = next((one for one in optimized if one.id() == model_id), None)
    base_model_id = asked_for.id("previous_revision_id") if asked_for else fields.id()
    framework = fields.within("training_framework")
    name = fields.text("name") or base_model_id
    is_purged = _is_purged(fields)
    return ModelDetails(
        base_model_id=base_model_id,
        name=name,
        architecture=fields.text("architecture") or name,
        version=fields.integer("version"),
        group_id=group_id,
        is_purged=is_purged,
        training_framework=" ".join(filter(None, (framework.text("type"), framework.text("version")))) or None,
        labels=tuple(
            label.text("name") or label.id() for label in fields.objects_if_any("labels") if not label.flag("is_empty")
        ),
        optimized=each_once(_optimized_model(one, group_id, base_model_id, is_purged) for one in optimized),
    )


def _optimized_model(fields: Fields, group_id: str, base_model_id: str, is_purged: bool) -> OptimizedModel:
    return OptimizedModel(
        id=fields.id(),
        name=fields.text("name") or fields.id(),
        version=fields.integer("version"),
        base_model_id=base_model_id,
        group_id=group_id,
        created_at=fields.time("creation_date"),
        format=fields.text("model_format") or "unknown",
        precision=fields.texts("precision"),
        optimization_type=fields.text("optimization_type"),
        has_xai_head=fields.flag("has_xai_head"),
        status=fields.text("model_status") or "SUCCESS",
        score=_score(fields.within("performance")),
        size=fields.count("size"),
        target_device=fields.text("target_device"),
        target_device_type=fields.text("target_device_type"),
        files_deleted=is_purged or _is_purged(fields),
    )


def _score(performance: Fields) -> float | None:
    """Anomaly projects of older versions have a global score instead. None: unknown, which is not 0."""
    score = performance.number("score")
    return performance.number("global_score") if score is None else score


def _is_purged(fields: Fields) -> bool:
    return fields.within("purge_info").flag("is_purged")


def _job(fields: Fields) -> FinishedJob:
    ended_at = fields.time("end_time") or fields.time("creation_time")
    if ended_at is None:
        raise fields.unexpected("end_time", "a time")
    return FinishedJob(
        id=fields.id(),
        kind=fields.text("type") or "unknown",
        project_id=fields.within("metadata").within("project").text("id"),
        ended_at=ended_at,
    )
