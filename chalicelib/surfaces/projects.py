"""`/projects`: models of an Intel Geti server. Until one is configured, each answer says what to set."""

from chalice.app import Response

from chalicelib.registry.errors import NotConfigured
from chalicelib.surface import Surface
from chalicelib.surfaces.models import answer_error

projects = Surface(__name__, answer_error)
RESPONSES = {503: "Geti is not configured"}


@projects.operation("GET", "/projects", responses=RESPONSES)
def list_projects() -> Response:
    """List the projects of the Geti server"""
    raise not_configured()


@projects.operation("GET", "/projects/{project_id}", responses=RESPONSES)
def get_project(project_id: str) -> Response:
    """Get one project of the Geti server"""
    raise not_configured()


@projects.operation("POST", "/projects/{project_id}/geti-models/download", responses=RESPONSES)
def import_models(project_id: str) -> Response:
    """Register models of a Geti project"""
    raise not_configured()


def not_configured() -> NotConfigured:
    return NotConfigured("Geti is not configured: set GETI_HOST and GETI_TOKEN.")
