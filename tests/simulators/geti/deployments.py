"""The code deployments of Geti 2.10 and before: asked for, prepared by and by, then fetched."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tests.simulators.geti import packages
from tests.simulators.geti.answers import ANSWERS, Answer, Refusal, file_answer, missing
from tests.simulators.geti.faults import Asked
from tests.simulators.geti.lookups2 import find_project, ordered_models
from tests.simulators.geti.models import Optimized
from tests.simulators.geti.views2 import CREATOR, date
from tests.simulators.geti.world import Project

if TYPE_CHECKING:
    from tests.simulators.geti.server import GetiServer


@dataclass(frozen=True)
class Legacy:
    """How the life of a code deployment goes.

    polls: how often it is PREPARING when asked about. ends: DONE, FAILED (with `message`) or PREPARING, for ever.
    not_ready: how often the download answers 503. redirects: the download answers 307, to `location` or, if that is
    None, to the file service of this server.
    """

    polls: int = 1
    ends: str = "DONE"
    message: str = "Model could not be converted."
    not_ready: int = 0
    redirects: bool = False
    location: str | None = None


@dataclass(eq=False)
class Deployment:
    id: str
    project: Project = field(repr=False)
    models: list[Optimized]
    order: list[dict[str, Any]]
    created: datetime
    polls: int = 0
    refusals: int = 0

    def state(self, legacy: Legacy) -> str:
        return legacy.ends if self.polls > legacy.polls else "PREPARING"


def prepare(geti: "GetiServer", asked: Asked) -> Answer:
    project = find_project(geti, asked)
    models = ordered_models(project, asked.json if isinstance(asked.json, dict) else {})
    order = [{"model_id": one.id, "model_group_id": one.model.group.id} for one in models]
    deployment = Deployment(geti.world.new_id("deployment"), project, models, order, geti.world.tick())
    geti.deployments[deployment.id] = deployment
    return geti.show(_view(deployment, "PREPARING", ""))


def status(geti: "GetiServer", asked: Asked) -> Answer:
    deployment = _deployment(geti, asked)
    deployment.polls += 1
    state = deployment.state(geti.legacy)
    return geti.show(_view(deployment, state, geti.legacy.message if state == "FAILED" else ""))


def download(geti: "GetiServer", asked: Asked) -> Answer:
    deployment, legacy = _deployment(geti, asked), geti.legacy
    if deployment.state(legacy) != "DONE" or deployment.refusals < legacy.not_ready:
        deployment.refusals += 1
        raise Refusal(ANSWERS["not_ready"])
    if legacy.redirects:
        own = f"{geti.url}/api/v1/fileservice/{deployment.id}?X-Amz-Signature=presigned"
        return Answer(307, headers=(("Location", legacy.location or own),))
    return file_answer(packages.deployment(deployment.project, deployment.models))


def file_service(geti: "GetiServer", asked: Asked) -> Answer:
    """What a presigned URL leads to. The token has no business here."""
    if asked.has_token:
        geti.violations.append(f"{asked.method} {asked.path}: x-api-key was sent to the file service")
    deployment = geti.deployments.get(asked.params["path"])
    if deployment is None or asked.query.get("X-Amz-Signature") != "presigned":
        return Answer(403, b"<Error><Code>AccessDenied</Code></Error>", (("Content-Type", "application/xml"),))
    return file_answer(packages.deployment(deployment.project, deployment.models))


def _deployment(geti: "GetiServer", asked: Asked) -> Deployment:
    """It goes with its models."""
    project, deployment = find_project(geti, asked), geti.deployments.get(asked.params["deployment"])
    if deployment is None or deployment.project is not project or not _are_there(deployment):
        raise Refusal(missing("code_deployment_not_found"))
    return deployment


def _are_there(deployment: Deployment) -> bool:
    there = {one.id for base in deployment.project.models for one in base.optimized}
    return all(one.id in there for one in deployment.models)


def _view(deployment: Deployment, state: str, message: str) -> dict[str, Any]:
    progress = {"DONE": 100, "PREPARING": min(deployment.polls * 30, 90)}.get(state, 30)
    return {
        "id": deployment.id,
        "progress": progress,
        "state": state,
        "models": deployment.order,
        "creator_id": CREATOR,
        "creation_time": date(deployment.created),
        "message": message,
    }
