"""`/projects`: models of an Intel Geti server. Until one is configured, each answer says what to set."""

from chalice.app import Response

from chalicelib.registry.access import Role
from chalicelib.registry.errors import NotConfigured
from chalicelib.surface import JSON, Answer, Detail, Surface
from chalicelib.surfaces.models import answer_error

projects = Surface(__name__, answer_error)
RESPONSES = {503: Answer("Geti is not configured", {JSON: Detail})}


@projects.operation("GET", "/projects", role=Role.VIEWER, responses=RESPONSES, curl='curl "$REGISTRY/projects"')
def list_projects() -> Response:
    """List the projects of the Geti server"""
    raise not_configured()


@projects.operation(
    "GET",
    "/projects/{project_id}",
    role=Role.VIEWER,
    responses=RESPONSES,
    curl='curl "$REGISTRY/projects/65dc4c6e0f9c2a8d6f1b7a31"',
)
def get_project(project_id: str) -> Response:
    """Get one project of the Geti server"""
    raise not_configured()


@projects.operation(
    "POST",
    "/projects/{project_id}/geti-models/download",
    role=Role.PUBLISHER,
    responses=RESPONSES,
    curl='curl -X POST "$REGISTRY/projects/65dc4c6e0f9c2a8d6f1b7a31/geti-models/download"',
)
def import_models(project_id: str) -> Response:
    """Register models of a Geti project"""
    raise not_configured()


def not_configured() -> NotConfigured:
    return NotConfigured("Geti is not configured: set GETI_HOST and GETI_TOKEN.")
