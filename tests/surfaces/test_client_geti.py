"""The Python client's calls about Geti against the service itself: both sides mean the same."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import httpx
import pytest
from modelreg import Conflict, InvalidInput, NotFound, Registry, Unavailable
from modelreg.retry import Patience

from chalicelib.geti.errors import GetiUnauthorized
from chalicelib.geti.states import ImportedModel
from chalicelib.wiring_geti import imports, sync_store
from tests.surfaces.conftest import Service
from tests.surfaces.geti import FP16, INT8, ONNX, VISION, YOLOX, GetiStage


@pytest.fixture
def opened(service: Service) -> Iterator[Callable[[Callable[[], None]], Registry]]:
    """A client of the service, and what happens while it waits."""
    registries: list[Registry] = []

    def answer(request: httpx.Request) -> httpx.Response:
        path, headers = request.url.raw_path.decode(), dict(request.headers)
        told = service.request(request.method, path, headers=headers, data=request.read())
        return httpx.Response(told.status_code, headers=told.headers, content=told.body)

    def build(meanwhile: Callable[[], None] = lambda: None) -> Registry:
        patience = Patience(wait=lambda _stop, _seconds: meanwhile(), jitter=lambda: 0.0)
        registries.append(Registry("http://registry.test", transport=httpx.MockTransport(answer), patience=patience))
        return registries[-1]

    yield build
    for registry in registries:
        registry.close()


@pytest.fixture
def registry(geti: GetiStage, opened: Callable[[], Registry]) -> Registry:
    return opened()


def test_what_is_listed_can_be_imported(registry: Registry) -> None:
    vision = next(project for project in registry.projects() if project.name == "vision")

    done = registry.import_models(vision, [model.id for model in vision.importable()])

    assert [(model.id, model.outcome) for model in done.models] == [(FP16, "registered"), (INT8, "registered")]
    assert registry.import_status(done.id) == done


def test_an_import_is_followed_beyond_its_request(geti: GetiStage, opened: Callable[..., Registry]) -> None:
    geti.waits(FP16)

    def end() -> None:
        [(order, _)] = geti.work.orders
        imports().settle(order.import_id or "", ImportedModel(id=FP16, outcome="failed", why="no archive"))

    done = opened(end).import_models(VISION, [(FP16, YOLOX)])

    assert [(model.outcome, model.why) for model in done.models] == [("failed", "no archive")]


def test_refusals_are_what_they_are(geti: GetiStage, service: Service, registry: Registry) -> None:
    with pytest.raises(InvalidInput, match="it is not in OpenVINO format"):
        registry.import_models(VISION, [(ONNX, YOLOX)])
    with pytest.raises(NotFound, match="Project or model id not found"):
        registry.import_models("other", [(FP16, YOLOX)])
    service.register(id=FP16)
    with pytest.raises(Conflict) as taken:
        registry.import_models(VISION, [FP16])
    geti.server.failures["projects",] = GetiUnauthorized("401")
    with pytest.raises(Unavailable, match="Geti refuses the token") as refused:
        registry.projects()

    assert taken.value.holder == FP16
    assert refused.value.code == "geti_unauthorized"


def test_a_sync_is_followed_to_its_end(geti: GetiStage, opened: Callable[..., Registry]) -> None:
    def end() -> None:
        now = datetime.now(UTC)
        lease, run, memory = sync_store().lease(run_id, now, now)
        sync_store().release(lease, run.model_copy(update={"has_looked": True}), memory)
        sync_store().finish(now)

    registry = opened(end)
    assert registry.sync_status().state == "idle"
    run_id = registry.start_sync(full=True)

    run = registry.wait_for_sync(run_id)

    assert (run.outcome, run.full, run.counts.seen) == ("ok", True, 0)
    assert registry.sync_status().last_run == run


def test_checks_are_told(registry: Registry) -> None:
    assert [check.check for check in registry.geti_checks() if not check.ok] == ["queue"]
