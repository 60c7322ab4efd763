"""What Geti 2 shows of a world, as JSON."""

from datetime import datetime
from itertools import pairwise
from typing import Any

from tests.simulators.geti.models import Group, Job, Model, Optimized
from tests.simulators.geti.world import Label, Project, Task, World

CREATOR = "u1"
BASE_BYTES = 20_542_266


def date(when: datetime) -> str:
    """With microseconds and an offset, always."""
    return when.isoformat(timespec="microseconds")


def project_view(project: Project) -> dict[str, Any]:
    path = f"/api/v1/organizations/{project.world.organization_id}/workspaces/{project.workspace_id}"
    dataset = {"id": project.dataset_id, "name": "Dataset", "use_for_training": True}
    return {
        "id": project.id,
        "name": project.name,
        "creation_time": date(project.created),
        "creator_id": CREATOR,
        "pipeline": _pipeline(project),
        "datasets": [dataset | {"creation_time": date(project.created)}],
        "performance": _performance(project),
        "thumbnail": f"{path}/projects/{project.id}/thumbnail",
        "storage_info": {},
    }


def _pipeline(project: Project) -> dict[str, Any]:
    """The dataset, then the tasks, each of a chain after a crop."""
    tasks: list[dict[str, Any]] = [
        {"id": f"{project.dataset_id}"[:-1] + "f", "title": "Dataset", "task_type": "dataset"}
    ]
    for position, task in enumerate(project.tasks):
        if position:
            tasks.append({"id": f"{task.schema_id}"[:-1] + "c", "title": "Crop", "task_type": "crop"})
        tasks.append(_task_view(task))
    joints = [{"from": one["id"], "to": other["id"]} for one, other in pairwise(tasks)]
    return {"tasks": tasks, "connections": joints}


def _task_view(task: Task) -> dict[str, Any]:
    view = {"id": task.id, "title": task.title, "task_type": task.kind, "label_schema_id": task.schema_id}
    return view | {"labels": [label_view(label) for label in task.labels]}


def _performance(project: Project) -> dict[str, Any]:
    """That of the active models; null without one."""
    scores = {
        model.group.task.id: model.score for model in project.models if model.is_active and not model.raw_performance
    }
    known = [score for score in scores.values() if score is not None]
    return {
        "score": sum(known) / len(known) if known else None,
        "task_performances": [{"task_id": task.id, "score": _score(scores.get(task.id))} for task in project.tasks],
    }


def _score(value: float | None) -> dict[str, Any] | None:
    return None if value is None else {"value": value, "metric_type": "F-Measure"}


def label_view(label: Label) -> dict[str, Any]:
    return {
        "id": label.id,
        "name": label.name,
        "color": "#000000ff" if label.is_empty else "#00a5cfff",
        "hotkey": "",
        "group": label.group,
        "is_empty": label.is_empty,
        "is_anomalous": label.is_anomalous,
        "parent_id": None,
    }


def group_view(group: Group, *, with_lifecycle: bool = False) -> dict[str, Any]:
    view = {
        "id": group.id,
        "name": group.name,
        "model_template_id": group.template,
        "task_id": group.task.id,
        "learning_approach": group.learning_approach,
        "models": [_summary(model) for model in listed(group)],
    }
    return view | ({"lifecycle_stage": "active"} if with_lifecycle else {})


def listed(group: Group) -> list[Model]:
    """The versions that a listing has."""
    return [model for model in group.models if model.status == "SUCCESS"]


def _summary(model: Model) -> dict[str, Any]:
    return {
        "id": model.id,
        "name": model.group.name,
        "version": model.version,
        "creation_date": date(model.created),
        "active_model": model.is_active,
        "size": BASE_BYTES,
        "performance": model.performance,
        "label_schema_in_sync": model.is_label_schema_in_sync,
        "score_up_to_date": True,
        "purge_info": _purge_info(model),
        "lifecycle_stage": model.lifecycle_stage,
    }


def _purge_info(model: Model) -> dict[str, Any]:
    if model.purged_at is None:
        return {"is_purged": False, "purge_time": None, "user_uid": None}
    return {"is_purged": True, "purge_time": date(model.purged_at), "user_uid": CREATOR}


def details_view(model: Model, chosen: Model | Optimized) -> dict[str, Any]:
    """A trained version or, in the same shape, one of its optimized models."""
    previous = model.id if isinstance(chosen, Optimized) else _previous(model)
    copies = 2 if model.has_duplicates else 1
    return {
        "id": chosen.id,
        "name": model.group.name,
        "architecture": model.group.name,
        "version": model.version,
        "creation_date": date(chosen.created),
        "size": chosen.size if isinstance(chosen, Optimized) else BASE_BYTES,
        "total_disk_size": 93_000_000,
        "performance": chosen.performance,
        "label_schema_in_sync": model.is_label_schema_in_sync,
        "score_up_to_date": True,
        "precision": chosen.precision if isinstance(chosen, Optimized) else ["FP32"],
        **_HARDWARE,
        "training_framework": {"type": "otx", "version": "2.4.1"},
        "learning_approach": model.group.learning_approach,
        "lifecycle_stage": model.lifecycle_stage,
        "purge_info": _purge_info(model),
        "training_dataset_info": _dataset_info(model),
        "labels": [label_view(label) for label in model.labels],
        "previous_revision_id": previous,
        "previous_trained_revision_id": previous,
        "optimized_models": [optimized_view(one) for one in model.optimized] * copies,
    }


_HARDWARE = {"target_device": "CPU", "target_device_type": None, "latency": 0, "fps_throughput": 0}


def _previous(model: Model) -> str:
    """The version before, itself if it is the first."""
    before = [one for one in model.group.models if one.version < model.version]
    return before[-1].id if before else model.id


def _dataset_info(model: Model) -> dict[str, Any]:
    counts = {"n_samples": 40, "n_images": 40, "n_videos": 0, "n_frames": 0}
    dataset = {"dataset_storage_id": model.group.project.dataset_id, "dataset_revision_id": model.revision_id}
    return dataset | counts


def optimized_view(optimized: Optimized) -> dict[str, Any]:
    is_pot = optimized.kind == "POT"
    return {
        "id": optimized.id,
        "name": optimized.name,
        "version": optimized.model.version,
        "creation_date": date(optimized.created),
        "model_format": optimized.format,
        "precision": optimized.precision,
        "optimization_type": optimized.kind,
        "has_xai_head": optimized.has_xai_head,
        "model_status": optimized.status,
        "performance": optimized.performance,
        "size": optimized.size,
        **_HARDWARE,
        "optimization_objectives": {},
        "optimization_methods": [],
        "configurations": [{"name": "sample_size", "value": 300}] if is_pot else [],
        "lifecycle_stage": optimized.model.lifecycle_stage,
        "previous_revision_id": optimized.model.id,
        "previous_trained_revision_id": optimized.model.id,
    }


def job_view(job: Job) -> dict[str, Any]:
    is_over = job.state not in ("scheduled", "running")
    return {
        "id": job.id,
        "type": job.kind,
        "name": job.kind.replace("_", " ").capitalize(),
        "state": job.state,
        "author": CREATOR,
        "creation_time": date(job.created),
        "start_time": date(job.created),
        "end_time": date(job.ended) if is_over else None,
        "metadata": {"project": {"id": job.project_id, "name": job.project_name}},
        "steps": [],
    }


def workspaces_view(world: World) -> dict[str, Any]:
    names = world.workspaces.items()
    return {
        "workspaces": [
            {
                "id": workspace_id,
                "name": name,
                "organizationId": world.organization_id,
                "createdAt": "2026-01-01T00:00:00Z",
                "createdBy": CREATOR,
                "modifiedAt": None,
                "modifiedBy": "",
            }
            for workspace_id, name in names
        ],
        "totalCount": len(names),
        "totalMatchedCount": len(names),
        "nextPage": None,
    }


def algorithms_view(project: Project) -> dict[str, Any]:
    """One for each group's template: geti-sdk looks every model's up."""
    kinds = {group.template: (group.name, group.task.kind) for group in project.groups}
    return {"supported_algorithms": [_algorithm(template, *about) for template, about in kinds.items()]}


def _algorithm(template: str, name: str, task: str) -> dict[str, Any]:
    ratings = {"accuracy": 2, "training_time": 2, "inference_speed": 2}
    return {
        "model_manifest_id": template,
        "task": task,
        "name": name,
        "description": "d",
        "support_status": "active",
        "supported_gpus": {"intel": True, "nvidia": True},
        "stats": {"gigaflops": 33.5, "trainable_parameters": 9.0, "performance_ratings": ratings},
        "capabilities": {"xai": True, "tiling": True},
        "is_default_model": True,
        "performance_category": "balance",
    }
