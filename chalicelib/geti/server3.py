"""Geti 3 as a Server. It has neither token, organization nor pages, and no groups: each model is a group of one.

Its models have no version: they are numbered here, by when their training ended, within their architecture. It makes a
package in its memory, so it is asked for one at a time.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from pydantic import JsonValue

from chalicelib.geti.errors import GetiBusy, GetiGone, GetiNoSuchRoute, GetiRefused, NotGeti
from chalicelib.geti.exchange import Request
from chalicelib.geti.fields import Fields, checked_id, each_once, objects
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

SPELLED = {"openvino": "OpenVINO", "onnx": "ONNX", "pytorch": "PyTorch"}
BEFORE_ALL = datetime.min.replace(tzinfo=UTC)


class Server3:
    """Geti 3.x."""

    def __init__(self, transport: Transport, info: ServerInfo) -> None:
        self.info = info
        self._transport = transport
        self._one_at_a_time = threading.Lock()

    @property
    def requests(self) -> int:
        return self._transport.requests

    def projects(self) -> Sequence[Project]:
        request = Request("GET", "/api/projects")
        return each_once(map(_project, objects(self._json(request), request, "all of it")))

    def project(self, project_id: str) -> Project:
        request = Request("GET", _path(project_id))
        return _project(Fields(self._json(request), request))

    def groups(self, project: Project) -> Sequence[Group]:
        active = self._active(project.id)
        return each_once(_group(fields, version, active) for fields, version in self._models(project.id))

    def details(self, project: Project, group_id: str, model_id: str) -> ModelDetails:
        # All of them are asked for, since the version comes from the others.
        for fields, version in self._models(project.id):
            if fields.id() == group_id:
                return _details(fields, version, model_id)
        request = Request("GET", f"{_path(project.id)}/models/{checked_id(group_id, 'The id of the model')}")
        Fields(self._json(request), request)
        raise GetiRefused(f"{request} is not trained, or its training failed: it has nothing to import.")

    def finished_jobs(self, since: datetime) -> Sequence[FinishedJob]:
        return ()

    @contextmanager
    def package(self, project: Project, model: OptimizedModel) -> Iterator[Package]:
        path = (
            f"{_path(project.id)}/models/{checked_id(model.base_model_id, 'The id of the model')}"
            f"/variants/{checked_id(model.id, 'The id of the variant')}/binary"
        )
        if not self._one_at_a_time.acquire(timeout=self._transport.limits.package_seconds):
            raise GetiBusy("Geti makes another package, one at a time. It is tried again later.")
        try:
            with self._transport.stream(Request("GET", path)) as stream:
                yield Package(stream.file_name or f"{model.id}.zip", stream.size, stream.chunks)
        finally:
            self._one_at_a_time.release()

    def _models(self, project_id: str) -> Sequence[tuple[Fields, int]]:
        """The models whose training succeeded, with their versions."""
        request = Request("GET", f"{_path(project_id)}/models")
        listed = objects(self._json(request), request, "all of it")
        trained = [one for one in listed if one.within("training_info").text("status") == "successful"]
        newest: dict[str | None, int] = {}
        numbered = []
        for fields in sorted(trained, key=lambda one: (_ended_at(one) or BEFORE_ALL, one.id())):
            architecture = fields.text("architecture")
            newest[architecture] = newest.get(architecture, 0) + 1
            numbered.append((fields, newest[architecture]))
        return numbered

    def _active(self, project_id: str) -> str | None:
        """The model that the project's pipeline uses."""
        request = Request("GET", f"{_path(project_id)}/pipeline")
        try:
            pipeline = Fields(self._json(request), request)
        except (GetiNoSuchRoute, GetiGone, NotGeti):
            # A route that it does not have is answered with the page of its user interface.
            return None
        return pipeline.text("model_id") or pipeline.within("model").text("id") or pipeline.text("model")

    def _json(self, request: Request) -> JsonValue:
        return self._transport.json(request)


def _path(project_id: str) -> str:
    return f"/api/projects/{checked_id(project_id, 'The id of the project')}"


def _project(fields: Fields) -> Project:
    kind = fields.within("task").text("task_type") or "unknown"
    return Project(
        id=fields.id(),
        name=fields.text("name") or fields.id(),
        created_at=fields.text("created_at"),
        tasks=(Task(id=fields.id(), title=kind.replace("_", " ").capitalize(), kind=kind),),
    )


def _group(fields: Fields, version: int, active: str | None) -> Group:
    model = BaseModel(
        id=fields.id(),
        name=_name(fields),
        version=version,
        group_id=fields.id(),
        created_at=_ended_at(fields),
        is_active=fields.id() == active,
        is_purged=fields.flag("files_deleted"),
        summary="",
        optimized=_optimized(fields, version),
    )
    # All that the listing says is in it.
    model = model.model_copy(update={"summary": model.model_dump_json()})
    return Group(id=model.id, name=model.name, models=(model,))


def _details(fields: Fields, version: int, asked_for: str) -> ModelDetails:
    """Raises GetiGone if it is not the model, and not one of its variants, that is asked for."""
    optimized = _optimized(fields, version)
    if asked_for not in (fields.id(), *(model.id for model in optimized)):
        raise GetiGone(f"The model {fields.id()} of Geti has no such variant (any more).", "variant_not_found")
    labels = fields.within("training_info").within("label_schema_revision").objects_if_any("labels")
    return ModelDetails(
        base_model_id=fields.id(),
        name=_name(fields),
        architecture=fields.text("architecture") or _name(fields),
        version=version,
        group_id=fields.id(),
        is_purged=fields.flag("files_deleted"),
        labels=tuple(label.text("name") or label.id() for label in labels),
        optimized=optimized,
    )


def _optimized(fields: Fields, version: int) -> tuple[OptimizedModel, ...]:
    return each_once(_optimized_model(variant, fields, version) for variant in fields.objects("variants"))


def _optimized_model(variant: Fields, model: Fields, version: int) -> OptimizedModel:
    kind, precision = variant.text("format") or "unknown", (variant.text("precision") or "").upper()
    return OptimizedModel(
        id=variant.id(),
        name=" ".join(filter(None, (_name(model), SPELLED.get(kind.lower(), kind), precision))),
        version=version,
        base_model_id=model.id(),
        group_id=model.id(),
        created_at=_ended_at(model),
        format=kind,
        precision=(precision,) if precision else (),
        optimization_type="POT" if precision == "INT8" else "MO",
        score=_score(variant),
        size=variant.count("weights_size"),
        files_deleted=model.flag("files_deleted") or variant.flag("files_deleted"),
    )


def _name(model: Fields) -> str:
    return model.text("name") or model.id()


def _ended_at(model: Fields) -> datetime | None:
    return model.within("training_info").time("end_time")


def _score(variant: Fields) -> float | None:
    """The first metric of the test; None: unknown."""
    tests = [test for test in variant.objects_if_any("evaluations") if test.text("subset") == "testing"]
    metrics = tests[0].objects_if_any("metrics") if tests else []
    return metrics[0].number("value") if metrics else None
