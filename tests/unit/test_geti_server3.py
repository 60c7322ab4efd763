"""Geti 3 behind the port Server, against a simulated server on the loopback."""

import io
import threading
import zipfile
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import pytest

from chalicelib.geti.connecting import connect
from chalicelib.geti.errors import GetiBusy, GetiGone, GetiNoSuchRoute, GetiRefused
from chalicelib.geti.exchange import Limits
from chalicelib.geti.ports import Server
from chalicelib.geti.records import BaseModel, OptimizedModel
from chalicelib.geti.records import Project as Seen
from chalicelib.geti.transport import Transport
from tests.geti_client import transport_to
from tests.simulators.geti import GetiServer, Project, World


@pytest.fixture
def geti() -> Iterator[GetiServer]:
    with GetiServer(World("3")) as server:
        yield server


@pytest.fixture
def transport(geti: GetiServer) -> Iterator[Transport]:
    with closing(transport_to(geti, token=lambda _: None, limits=Limits(package_seconds=0.2))) as made:
        yield made


@pytest.fixture
def server(transport: Transport) -> Server:
    return connect(transport, None, None, allow_legacy=False)


@pytest.fixture
def project(geti: GetiServer) -> Project:
    return geti.world.project()


def seen(project: Project) -> Seen:
    return Seen(id=project.id, name=project.name)


def versions(server: Server, project: Project) -> dict[str, BaseModel]:
    """The trained versions by id; each is a group of one."""
    groups = server.groups(seen(project))
    assert all((group.id, len(group.models)) == (group.models[0].id, 1) for group in groups)
    return {group.id: group.models[0] for group in groups}


def test_projects_have_one_task(server: Server, geti: GetiServer) -> None:
    first = geti.world.project("Bottle caps")
    second = geti.world.project("Bottle caps", task="instance_segmentation")

    told = server.projects()

    assert [(one.id, one.name) for one in told] == [(first.id, "Bottle caps"), (second.id, "Bottle caps")]
    assert told[0].created_at == "2026-01-01T09:01:00Z"
    assert [(one.tasks[0].kind, one.task(None)) for one in told] == [
        ("detection", told[0].tasks[0]),
        ("instance_segmentation", told[1].tasks[0]),
    ]
    assert server.project(second.id) == told[1]
    assert server.requests == len(geti.requests)


def test_many_projects_come_at_once(server: Server, geti: GetiServer) -> None:
    geti.world.populate(projects=250)

    assert len(server.projects()) == 250
    assert geti.counts["projects"] == 1


def test_a_project_that_is_not_there_is_gone(server: Server, project: Project) -> None:
    project.delete()

    with pytest.raises(GetiGone, match="not found"):
        server.project(project.id)
    with pytest.raises(GetiGone):
        server.groups(seen(project))


def test_an_id_that_is_no_uuid_is_refused(server: Server) -> None:
    with pytest.raises(GetiRefused, match="400"):
        server.project("p1")


def test_models_are_numbered_by_when_their_training_ended(server: Server, project: Project) -> None:
    yolox, atss = project.group("YOLOX-S"), project.group("ATSS")
    made = [yolox.train(), atss.train(), yolox.train(status="FAILED"), yolox.train(), yolox.train(status="NOT_READY")]
    project.groups.reverse()  # the listing is in another order

    found = versions(server, project)

    assert {one.id: found[one.id].version for one in (made[0], made[1], made[3])} == {
        made[0].id: 1,
        made[1].id: 1,
        made[3].id: 2,
    }
    assert len(found) == 3


def test_models_that_ended_together_are_numbered_by_their_ids(server: Server, geti: GetiServer) -> None:
    trained = {"status": "successful", "end_time": "2026-01-02T10:00:00Z"}
    listing = [{"id": one, "architecture": "a", "training_info": trained, "variants": []} for one in ("m2", "m1")]
    geti.fail("models", status=200, body=listing)

    groups = server.groups(Seen(id="00000000-0000-4000-8000-000000000000", name="x"))

    assert [(group.id, group.models[0].version) for group in groups] == [("m1", 1), ("m2", 2)]


def test_a_variant_is_an_optimized_model(server: Server, project: Project) -> None:
    model = project.group("YOLOX-S").train(score=0.62, optimized=("FP16", "INT8", "ONNX FP32"))

    fp16, int8, onnx = versions(server, project)[model.id].optimized or ()

    assert fp16 == OptimizedModel(
        id=model["FP16"].id,
        name=f"YOLOX-S ({model.id[:8]}) OpenVINO FP16",
        version=1,
        base_model_id=model.id,
        group_id=model.id,
        created_at=model.created,
        precision=("FP16",),
        optimization_type="MO",
        score=0.62,
        size=10_300_000,
    )
    assert (int8.precision, int8.optimization_type) == (("INT8",), "POT")
    assert (onnx.name.removeprefix(f"YOLOX-S ({model.id[:8]}) "), onnx.is_openvino) == ("ONNX FP32", False)
    assert fp16.is_success
    assert not fp16.is_unfinished


@pytest.mark.parametrize("form", ["model", "model_id"])
def test_the_model_of_the_pipeline_is_active(server: Server, geti: GetiServer, project: Project, form: str) -> None:
    group = project.group()
    first, second = group.train(), group.train(active=True)
    geti.pipeline_form = form

    found = versions(server, project)

    assert (found[first.id].is_active, found[second.id].is_active) == (False, True)
    assert geti.counts["pipeline"] == 1


@pytest.mark.parametrize("how", ["html", 404, "not_found"])
def test_without_a_pipeline_no_model_is_active(
    server: Server, geti: GetiServer, project: Project, how: int | str
) -> None:
    model = project.group().train(active=True)
    geti.fail("pipeline", how)

    assert not versions(server, project)[model.id].is_active


def test_a_pipeline_that_cannot_be_asked_now_is_an_error(server: Server, geti: GetiServer, project: Project) -> None:
    geti.fail("pipeline", 503)

    with pytest.raises(GetiBusy):
        server.groups(seen(project))


def test_deleted_files_are_told(server: Server, geti: GetiServer, project: Project) -> None:
    model = project.group().train(purged=True)

    told = versions(server, project)[model.id]

    assert told.is_purged
    assert all(one.files_deleted for one in told.optimized or ())


@pytest.mark.parametrize("change", ["activate", "purge", "optimize"])
def test_the_summary_changes_with_what_the_listing_says(
    server: Server, geti: GetiServer, project: Project, change: str
) -> None:
    model = project.group().train()
    before = versions(server, project)[model.id].summary
    geti.noise = False
    assert versions(server, project)[model.id].summary == before

    {"activate": model.activate, "purge": model.purge, "optimize": lambda: model.optimize("INT8")}[change]()

    assert versions(server, project)[model.id].summary != before


def test_details_are_those_of_the_listing_with_the_labels(server: Server, project: Project) -> None:
    group = project.group("YOLOX-S")
    group.train()
    model = group.train()

    details = server.details(seen(project), model.id, model.id)

    assert details.optimized == versions(server, project)[model.id].optimized
    assert (details.base_model_id, details.group_id, details.version) == (model.id, model.id, 2)
    assert details.architecture == "object-detection-yolox-s"
    assert details.labels == ("cap",)
    assert server.details(seen(project), model.id, model["FP16"].id) == details


def test_details_of_what_is_not_there_are_gone(server: Server, project: Project) -> None:
    group = project.group()
    gone, there, unfinished = group.train(), group.train(), group.train(status="NOT_READY")
    gone.delete()

    with pytest.raises(GetiGone, match="not found"):
        server.details(seen(project), gone.id, gone.id)
    with pytest.raises(GetiGone, match="no such variant"):
        server.details(seen(project), there.id, gone["FP16"].id)
    with pytest.raises(GetiRefused, match="not trained, or its training failed"):
        server.details(seen(project), unfinished.id, unfinished.id)


@pytest.mark.parametrize(
    ("evaluations", "score"),
    [
        ([], None),
        (None, None),
        ([{"subset": "training", "metrics": [{"name": "mAP", "value": 0.9}]}], None),
        ([{"subset": "testing", "metrics": []}], None),
        ([{"subset": "validation", "metrics": []}, {"subset": "testing", "metrics": [{"value": 0.5}]}], 0.5),
        ([{"subset": "testing", "metrics": [{"value": None}]}], None),
    ],
)
def test_a_score_that_is_not_known_is_not_zero(
    server: Server, geti: GetiServer, evaluations: Any, score: float | None
) -> None:
    variant = {"id": "v1", "format": "openvino", "precision": "fp16", "evaluations": evaluations}
    listing = [{"id": "m1", "training_info": {"status": "successful"}, "variants": [variant]}]
    geti.fail("models", status=200, body=listing)

    (group,) = server.groups(Seen(id="00000000-0000-4000-8000-000000000000", name="x"))

    assert [one.score for one in group.models[0].optimized or ()] == [score]


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({}, "all of it is not a list"),
        ([7], r"all of it\[0\] is not an object"),
        ([{"id": "m1", "training_info": {"status": "successful"}}], r"all of it\[0\].variants is not a list"),
        ([{"training_info": {"status": "successful"}, "variants": []}], "None, which is no id"),
    ],
)
def test_a_listing_that_is_not_as_it_should_be_is_an_error_that_says_where(
    server: Server, geti: GetiServer, body: Any, place: str
) -> None:
    geti.fail("models", status=200, body=body)

    with pytest.raises(GetiRefused, match=place):
        server.groups(Seen(id="00000000-0000-4000-8000-000000000000", name="x"))


def test_geti_3_does_not_tell_of_jobs(server: Server, geti: GetiServer) -> None:
    assert server.finished_jobs(datetime(2026, 1, 1, tzinfo=UTC)) == ()


def test_a_package_is_that_of_the_variant(server: Server, project: Project) -> None:
    model = project.group().train()
    wanted = server.details(seen(project), model.id, model.id).optimized[0]

    with server.package(seen(project), wanted) as package:
        content = b"".join(package.chunks)

    assert package.file_name == f"model-{model.id[:8]}-openvino-fp16.zip"
    assert package.size == len(content)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert {"model.xml", "model.bin"} <= set(archive.namelist())


def test_a_package_whose_files_were_deleted_is_gone(server: Server, project: Project) -> None:
    model = project.group().train()
    wanted = server.details(seen(project), model.id, model.id).optimized[0]
    model.purge()

    with pytest.raises(GetiGone, match="have been deleted"):
        server.package(seen(project), wanted).__enter__()


def test_one_package_is_asked_for_at_a_time(server: Server, geti: GetiServer, project: Project) -> None:
    model = project.group().train()
    wanted = server.details(seen(project), model.id, model.id).optimized[0]
    at_once: list[int] = []

    def fetch() -> None:
        with server.package(seen(project), wanted) as package:
            at_once.append(sum(map(len, package.chunks)))

    threads = [threading.Thread(target=fetch) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(at_once) == 4
    assert geti.most_downloads_at_once == 1


def test_who_waits_too_long_for_their_turn_comes_later(server: Server, geti: GetiServer, project: Project) -> None:
    model = project.group().train()
    wanted = server.details(seen(project), model.id, model.id).optimized[0]

    with server.package(seen(project), wanted):
        with pytest.raises(GetiBusy, match="one at a time"):
            server.package(seen(project), wanted).__enter__()
    with server.package(seen(project), wanted) as package:
        assert sum(map(len, package.chunks))


def test_a_route_that_is_not_there_is_told(server: Server, geti: GetiServer, project: Project) -> None:
    model = project.group().train()
    wanted = server.details(seen(project), model.id, model.id).optimized[0]
    geti.fail("binary", status=405, body={"detail": "Method Not Allowed"})

    with pytest.raises(GetiNoSuchRoute):
        server.package(seen(project), wanted).__enter__()
