"""How Geti 3 answers: no organizations, no token, no pages; the web application where there is no route."""

import uuid
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from tests.simulators.geti import packages
from tests.simulators.geti.answers import Answer, Refusal, detail, file_answer, html_answer
from tests.simulators.geti.faults import Asked
from tests.simulators.geti.models import Model, Optimized
from tests.simulators.geti.routing import route
from tests.simulators.geti.world import Project

if TYPE_CHECKING:
    from tests.simulators.geti.server import GetiServer

TRAINING = timedelta(hours=1)
STATUSES = {"SUCCESS": "successful", "FAILED": "failed", "NOT_READY": "in_progress", "NOT_STARTED": "not_started"}


def authorize(_geti: "GetiServer", _asked: Asked, _token: str | None) -> None:
    """Nobody is asked who they are."""


def unknown(_geti: "GetiServer", asked: Asked) -> Answer:
    return html_answer() if asked.method == "GET" else detail("Method Not Allowed", 405)


def health(geti: "GetiServer", _asked: Asked) -> Answer:
    return geti.show({"status": "ok"})


def openapi(geti: "GetiServer", _asked: Asked) -> Answer:
    return geti.show({"openapi": "3.1.0", "info": {"title": "Geti", "version": geti.version}, "paths": {}})


def projects(geti: "GetiServer", _asked: Asked) -> Answer:
    return geti.show([_project_view(geti, one) for one in geti.world.projects if not one.is_hidden])


def project(geti: "GetiServer", asked: Asked) -> Answer:
    return geti.show(_project_view(geti, _project(geti, asked)))


def models(geti: "GetiServer", asked: Asked) -> Answer:
    return geti.show([_model_view(one) for one in _project(geti, asked).models])


def model(geti: "GetiServer", asked: Asked) -> Answer:
    return geti.show(_model_view(_model(geti, asked)))


def binary(geti: "GetiServer", asked: Asked) -> Answer:
    base, variant_id = _model(geti, asked), _uuid(asked, "variant")
    for one in base.optimized:
        if one.id == variant_id and one.has_files:
            return file_answer(packages.binary(one))
        if one.id == variant_id:
            raise Refusal(detail(f"The files of model variant {variant_id} have been deleted.", 404))
    raise Refusal(detail(f"Model variant with ID {variant_id} not found.", 404))


def pipeline(geti: "GetiServer", asked: Asked) -> Answer:
    where = _project(geti, asked)
    active = where.active_model
    view: dict[str, Any] = {"project_id": where.id, "status": "running" if geti.is_running and active else "idle"}
    if geti.pipeline_form == "model_id":
        view["model_id"] = active.id if active else None
    else:
        view["model"] = {"id": active.id, "name": _name(active)} if active else None
    return geti.show(view | {"source": None, "sink": None, "data_collection_policies": []})


def _project_view(geti: "GetiServer", where: Project) -> dict[str, Any]:
    task = where.tasks[0]
    labels = [{"id": label.id, "name": label.name, "color": "#FF5733", "hotkey": None} for label in task.labels]
    return {
        "id": where.id,
        "name": where.name,
        "active_pipeline": geti.is_running and where.active_model is not None,
        "created_at": _date(where.created),
        "task": {"task_type": task.kind, "exclusive_labels": True, "labels": labels},
    }


def _model_view(model: Model) -> dict[str, Any]:
    is_over = model.status in ("SUCCESS", "FAILED")
    labels = [{"id": label.id, "name": label.name} for label in model.labels]
    training = {
        "status": STATUSES.get(model.status, "successful"),
        "start_time": _date(model.created - TRAINING),
        "end_time": _date(model.created) if is_over else None,
        "dataset_revision_id": model.revision_id,
        "label_schema_revision": {"labels": labels},
        "device": None,
    }
    return {
        "id": model.id,
        "name": _name(model),
        "architecture": model.group.template.lower().replace("_", "-"),
        "parent_revision": None,
        "training_info": training,
        "variants": [_variant_view(one) for one in model.optimized if one.status == model.status == "SUCCESS"],
        "files_deleted": model.purged_at is not None,
        "size": 93_000_000,
    }


def _variant_view(variant: Optimized) -> dict[str, Any]:
    score = variant.performance.get("score")
    metrics = [] if score is None else [{"name": "mAP", "value": score}]
    evaluation = {"dataset_revision_id": variant.model.revision_id, "subset": "testing", "metrics": metrics}
    return {
        "id": variant.id,
        "format": variant.format.lower(),
        "precision": variant.planned_precision.lower(),
        "weights_size": variant.size,
        "evaluations": [evaluation] if metrics else [],
        "quantization_info": {"sample_size": 300} if variant.kind == "POT" else None,
        "files_deleted": not variant.has_files,
        "optimal_confidence_threshold": 0.5,
    }


def _name(model: Model) -> str:
    return f"{model.group.name} ({model.id[:8]})"


def _date(when: datetime) -> str:
    return when.isoformat(timespec="seconds").replace("+00:00", "Z")


def _project(geti: "GetiServer", asked: Asked) -> Project:
    project_id = _uuid(asked, "project")
    found = geti.world.find_project(project_id)
    if found is None or found.is_hidden:
        raise Refusal(detail(f"Project with ID {project_id} not found.", 404))
    return found


def _model(geti: "GetiServer", asked: Asked) -> Model:
    model_id = _uuid(asked, "model")
    for one in _project(geti, asked).models:
        if one.id == model_id:
            return one
    raise Refusal(detail(f"Model with ID {model_id} not found.", 404))


def _uuid(asked: Asked, name: str) -> str:
    given = asked.params[name]
    try:
        return str(uuid.UUID(given))
    except ValueError:
        raise Refusal(detail(f"Invalid {name} ID: {given}", 400)) from None


PROJECT = "/api/projects/{project}"
MODEL = PROJECT + "/models/{model}"
ROUTES = (
    route("health", "GET", "/health", health),
    route("openapi", "GET", "/api/openapi.json", openapi),
    route("projects", "GET", "/api/projects", projects),
    route("project", "GET", PROJECT, project),
    route("models", "GET", PROJECT + "/models", models),
    route("model", "GET", MODEL, model),
    route("binary", "GET", MODEL + "/variants/{variant}/binary", binary),
    route("pipeline", "GET", PROJECT + "/pipeline", pipeline),
)
