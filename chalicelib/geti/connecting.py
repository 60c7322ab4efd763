"""Finds out what answers, a Geti 2 or a Geti 3, and in which organization and workspace: host and token are enough."""

import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime

from chalicelib.geti.errors import GetiError, GetiGone, GetiMisconfigured, GetiNoSuchRoute, GetiRefused, NotGeti
from chalicelib.geti.exchange import Request
from chalicelib.geti.fields import Fields, checked_id
from chalicelib.geti.ports import Package, Server
from chalicelib.geti.records import FinishedJob, Group, ModelDetails, OptimizedModel, Project, ServerInfo
from chalicelib.geti.server2 import Server2
from chalicelib.geti.server3 import Server3
from chalicelib.geti.tokens import WHERE
from chalicelib.geti.transport import Transport
from chalicelib.registry.errors import shown

AFTER_ALL = datetime.max.replace(tzinfo=UTC)
# A server that is not there in this version says so in these ways.
IS_NOT_THIS = (NotGeti, GetiNoSuchRoute, GetiGone, GetiRefused)


def connect(transport: Transport, organization_id: str | None, workspace_id: str | None, allow_legacy: bool) -> Server:
    """The server that the transport leads to; nothing is asked before it is used.

    organization_id, workspace_id: None where the server tells (Geti 2). allow_legacy: see deployments.py.
    """
    return _Connection(transport, organization_id, workspace_id, allow_legacy)


class _Connection:
    """The server, found on first use, by whichever thread comes first. What fails is tried again by the next."""

    def __init__(
        self, transport: Transport, organization_id: str | None, workspace_id: str | None, allow_legacy: bool
    ) -> None:
        self._transport = transport
        self._organization_id, self._workspace_id = organization_id, workspace_id
        self._allow_legacy = allow_legacy
        self._lock = threading.Lock()
        self._found: Server | None = None

    @property
    def info(self) -> ServerInfo:
        return self._server().info

    @property
    def requests(self) -> int:
        return self._transport.requests

    def projects(self) -> Sequence[Project]:
        return self._server().projects()

    def project(self, project_id: str) -> Project:
        return self._server().project(project_id)

    def groups(self, project: Project) -> Sequence[Group]:
        return self._server().groups(project)

    def details(self, project: Project, group_id: str, model_id: str) -> ModelDetails:
        return self._server().details(project, group_id, model_id)

    def finished_jobs(self, since: datetime) -> Sequence[FinishedJob]:
        return self._server().finished_jobs(since)

    def package(self, project: Project, model: OptimizedModel) -> AbstractContextManager[Package]:
        return self._server().package(project, model)

    def _server(self) -> Server:
        with self._lock:
            if self._found is None:
                self._found = self._find()
            return self._found

    def _find(self) -> Server:
        try:
            version = _version_2(self._transport)
        except IS_NOT_THIS as exc:
            return Server3(self._transport, ServerInfo(major=3, version=_version_3(self._transport, exc)))
        if not self._transport.has_token:
            raise GetiMisconfigured(f"{self._transport.base_url} is Geti {version}, which wants a token: set {WHERE}.")
        organization_id = _set("GETI_ORGANIZATION_ID", self._organization_id) or _organization(self._transport)
        workspace_id = _set("GETI_WORKSPACE_ID", self._workspace_id) or _workspace(self._transport, organization_id)
        info = ServerInfo(major=2, version=version, organization_id=organization_id, workspace_id=workspace_id)
        return Server2(self._transport, info, self._allow_legacy)


def _version_2(transport: Transport) -> str:
    """The version of a Geti 2. Raises one of IS_NOT_THIS if it is none."""
    request = Request("GET", "/api/v1/product_info")
    fields = Fields(transport.json(request), request)
    version = fields.text("product-version")
    if version is None:
        raise fields.unexpected("product-version", "a text")
    return version


def _version_3(transport: Transport, not_2: GetiError) -> str:
    """The version of a Geti 3, which tells it only in its documentation. Raises NotGeti."""
    request = Request("GET", "/api/openapi.json")
    try:
        version = Fields(transport.json(request), request).within("info").text("version") or "no version"
    except IS_NOT_THIS as exc:
        raise NotGeti(f"{transport.base_url} is no Geti 2 and no Geti 3: {not_2}") from exc
    if not version.startswith("3."):
        raise NotGeti(f"{transport.base_url} is no Geti that is known: its documentation says {shown(version)}.")
    return version


def _set(name: str, value: str | None) -> str | None:
    """An id that the operator set. Raises GetiMisconfigured if it is none."""
    try:
        return checked_id(value, name) if value else None
    except GetiRefused as exc:
        raise GetiMisconfigured(str(exc)) from exc


def _organization(transport: Transport) -> str:
    """The organization of the token; the oldest one, if it has several."""
    request = Request("GET", "/api/v1/personal_access_tokens/organization")
    fields = Fields(transport.json(request), request)
    if fields.text("organizationId"):
        return fields.id("organizationId")
    organizations = fields.objects("organizations")
    if not organizations:
        raise GetiMisconfigured(f"The token is of no organization ({request}): set {WHERE} to another one.")
    oldest = min(organizations, key=lambda one: one.time("organizationCreatedAt") or AFTER_ALL)
    return oldest.id("organizationId")


def _workspace(transport: Transport, organization_id: str) -> str:
    """The only workspace. Raises GetiMisconfigured that lists them if there are several."""
    request = Request("GET", f"/api/v1/organizations/{organization_id}/workspaces")
    workspaces = Fields(transport.json(request), request).objects("workspaces")
    if not workspaces:
        raise GetiMisconfigured(f"The token's user sees no workspace of the organization {organization_id}.")
    if len(workspaces) > 1:
        known = ", ".join(f"{one.id()} ({shown(one.text('name') or 'no name')})" for one in workspaces)
        raise GetiMisconfigured(f"There are several workspaces: set GETI_WORKSPACE_ID to one of {known}.")
    return workspaces[0].id()
