"""How a package is got out of Geti 2: the ways there are, in the order in which they are tried.

deployment package   made while one waits; empty (204) for a project whose media are gone
export               of one optimized model, with less beside it
code deployment      only in old versions, and only if the operator allows it: Geti makes it in a job
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain, repeat

from pydantic import JsonValue

from chalicelib.geti.errors import GetiBusy, GetiNoSuchRoute, GetiRefused
from chalicelib.geti.exchange import Request, Stream
from chalicelib.geti.fields import Fields, checked_id
from chalicelib.geti.ports import Package
from chalicelib.geti.records import OptimizedModel
from chalicelib.geti.transport import Transport
from chalicelib.registry.errors import shown

POLL_SECONDS = (2, 3, 5, 8, 15)  # the last one again and again
MAX_JOB_SECONDS = 600
MAX_SECONDS = 720  # for the job and the download together; a function has 900
Way = Callable[[ExitStack, str, OptimizedModel], Stream | None]


class Deployments:
    """Gets packages. A way that this version of Geti did not have is only tried again after all others."""

    def __init__(self, transport: Transport, workspace: str, allow_legacy: bool) -> None:
        self._transport = transport
        self._workspace = workspace
        self._allow_legacy = allow_legacy
        self._ways: list[Way] = [self._deployment_package, self._export]
        self._ways += [self._code_deployment] if allow_legacy else []
        self._missing: set[Way] = set()

    @contextmanager
    def package(self, project_id: str, model: OptimizedModel) -> Iterator[Package]:
        """Raises GetiNoSuchRoute if there is no way."""
        with ExitStack() as stack:
            stream = self._opened(stack, project_id, model)
            yield Package(stream.file_name or f"{model.id}.zip", stream.size, stream.chunks)

    def _opened(self, stack: ExitStack, project_id: str, model: OptimizedModel) -> Stream:
        # Geti may have been upgraded meanwhile: then it has those, and not any more what it had.
        for way in sorted(self._ways, key=self._missing.__contains__):
            try:
                stream = way(stack, project_id, model)
            except GetiNoSuchRoute:
                self._missing.add(way)
                continue
            self._missing.discard(way)
            if stream is not None:
                return stream
        hint = "" if self._allow_legacy else " If it is an old one, set GETI_ALLOW_LEGACY_DEPLOYMENTS=true."
        raise GetiNoSuchRoute(f"This Geti has no way to get a package out of it that is known.{hint}")

    def _deployment_package(self, stack: ExitStack, project_id: str, model: OptimizedModel) -> Stream | None:
        body: JsonValue = {"package_type": "geti_sdk", "models": _models(model)}
        # It makes nothing that stays: it may be sent again.
        path = f"{self._workspace}/projects/{project_id}/deployment_package:download"
        stream = stack.enter_context(self._transport.stream(Request("POST", path, body=body)))
        if stream.status == 204:
            stack.close()
            return None
        return stream

    def _export(self, stack: ExitStack, project_id: str, model: OptimizedModel) -> Stream | None:
        path = (
            f"{self._workspace}/projects/{project_id}/model_groups/{_checked(model.group_id)}"
            f"/models/{_checked(model.base_model_id)}/optimized_models/{_checked(model.id)}/export"
        )
        return stack.enter_context(self._transport.stream(Request("GET", path, {"model_only": "false"})))

    def _code_deployment(self, stack: ExitStack, project_id: str, model: OptimizedModel) -> Stream | None:
        began = self._transport.monotonic()
        path = f"{self._workspace}/projects/{project_id}/code_deployments"
        # Not a read: each time it begins a job of Geti's.
        prepare = Request("POST", f"{path}:prepare", body={"models": _models(model)}, is_read=False)
        job = Fields(self._transport.json(prepare), prepare)
        path = f"{path}/{job.id('id')}"
        self._wait(job, Request("GET", path), began)
        left = MAX_SECONDS - (self._transport.monotonic() - began)
        download = Request("GET", f"{path}/download", may_redirect=True)
        return stack.enter_context(self._transport.stream(download, left))

    def _wait(self, job: Fields, look: Request, began: float) -> None:
        """Wait until Geti is done with it. Raises GetiRefused if it failed, GetiBusy if it takes too long."""
        for pause in chain(POLL_SECONDS, repeat(POLL_SECONDS[-1])):
            state = job.text("state") or ""
            if state == "DONE":
                return
            if state == "FAILED":
                said = shown(job.text("message") or "it does not say why")
                raise GetiRefused(f"Geti could not make the code deployment ({look}): {said}")
            if self._transport.monotonic() - began + pause > MAX_JOB_SECONDS:
                raise GetiBusy(
                    f"Geti did not make the code deployment in {MAX_JOB_SECONDS // 60} minutes ({look} says"
                    f" {shown(state)}). A new one is made later."
                )
            self._transport.sleep(pause)
            job = Fields(self._transport.json(look), look)


def _models(model: OptimizedModel) -> JsonValue:
    return [{"model_id": _checked(model.id), "model_group_id": _checked(model.group_id)}]


def _checked(text: str) -> str:
    return checked_id(text, "The id")
