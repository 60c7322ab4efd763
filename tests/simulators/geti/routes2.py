"""How Geti 2 answers: in profile 2.10 with the code deployments of old (deployments.py), in 2.13 without."""

from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from tests.simulators.geti import deployments, packages
from tests.simulators.geti.answers import (
    ANSWERS,
    Answer,
    Refusal,
    bad_request,
    file_answer,
    html_answer,
    missing,
    no_endpoint,
)
from tests.simulators.geti.faults import Asked
from tests.simulators.geti.lookups2 import (
    choice,
    find_group,
    find_optimized,
    find_project,
    number,
    ordered_models,
    visible,
)
from tests.simulators.geti.models import Job, Model, Optimized
from tests.simulators.geti.routing import route
from tests.simulators.geti.tokens import PREFIX, is_well_formed
from tests.simulators.geti.views2 import (
    algorithms_view,
    details_view,
    group_view,
    job_view,
    listed,
    project_view,
    workspaces_view,
)

if TYPE_CHECKING:
    from tests.simulators.geti.server import GetiServer

MAX_LIMIT = 100
OPEN = {"fileservice"}  # presigned: whoever has the URL
TRUTHS = {"true": True, "false": False}


def authorize(geti: "GetiServer", asked: Asked, token: str | None) -> None:
    """Raises Refusal unless this token may be here."""
    if asked.route in OPEN or not asked.path.startswith("/api/"):
        return
    if token is not None and not token.startswith(PREFIX):
        raise Refusal(ANSWERS["bad_token"])
    if token is None or token != geti.token or not is_well_formed(token):
        raise Refusal(ANSWERS["unauthorized"])
    if geti.is_token_expired:
        raise Refusal(ANSWERS["expired"])
    if asked.params.get("org", geti.world.organization_id) != geti.world.organization_id:
        raise Refusal(ANSWERS["unauthorized"])
    if asked.params.get("ws", geti.world.workspace_id) not in geti.world.workspaces:
        raise Refusal(missing("workspace_not_found"))


def unknown(geti: "GetiServer", asked: Asked) -> Answer:
    """What answers where there is no route: under /api/ an error, elsewhere the web application."""
    if asked.path.startswith("/api/") or asked.method != "GET":
        return no_endpoint(geti.url + asked.target)
    return html_answer()


def product_info(geti: "GetiServer", _asked: Asked) -> Answer:
    info = {
        "product-version": geti.version,
        "build-version": f"{geti.version}-release-20260115093000",
        "smtp-defined": "True",
        "intel-email": "",
        "grafana_enabled": False,
        "environment": "on-prem",
        "gpu-provider": "intel",
    }
    return geti.show(info)


def token_organization(geti: "GetiServer", _asked: Asked) -> Answer:
    organization_id = geti.world.organization_id
    if geti.organization_form == "single":
        return geti.show({"organizationId": organization_id})
    later = {"organizationId": "00000000-0000-4000-8000-000000000000", "organizationCreatedAt": "2025-06-01T00:00:00Z"}
    mine = {"organizationId": organization_id, "organizationCreatedAt": "2025-01-01T00:00:00Z"}
    return geti.show({"organizations": [later, mine]})


def workspaces(geti: "GetiServer", _asked: Asked) -> Answer:
    return geti.show(workspaces_view(geti.world))


def balance(geti: "GetiServer", _asked: Asked) -> Answer:
    return geti.show({"incoming": 0, "available": 0, "blocked": 0})


def projects(geti: "GetiServer", asked: Asked) -> Answer:
    limit, skip = number(asked, "limit", 10, 1, MAX_LIMIT), number(asked, "skip", 0, 0)
    sort_by = choice(asked, "sort_by", "creation_date", {"name": "name", "creation_date": "created"})
    is_reversed = choice(asked, "sort_direction", "dsc", {"asc": False, "dsc": True})
    choice(asked, "with_size", "false", TRUTHS)
    name = asked.query.get("name", "")
    seen = [project for project in visible(geti, asked) if name in project.name]
    seen.sort(key=lambda project: getattr(project, sort_by), reverse=is_reversed)
    page = seen[skip : skip + limit]
    following = {**asked.query, "limit": limit, "skip": skip + limit}
    content = {
        "projects": [project_view(project) for project in page],
        # Of every page that holds something, be it the last.
        "next_page": f"{asked.path}?{urlencode(following)}" if page else "",
        "project_counts": len(seen),
        "project_page_count": len(page),
    }
    return geti.show(content)


def project(geti: "GetiServer", asked: Asked) -> Answer:
    return geti.show(project_view(find_project(geti, asked)))


def supported_algorithms(geti: "GetiServer", asked: Asked) -> Answer:
    return geti.show(algorithms_view(find_project(geti, asked)))


def model_groups(geti: "GetiServer", asked: Asked) -> Answer:
    task_id, with_lifecycle = asked.query.get("task_id"), asked.query.get("include_lifecycle_stage") == "true"
    groups = [
        group
        for group in find_project(geti, asked).groups
        if listed(group) and (task_id is None or group.task.id == task_id)
    ]
    return geti.show({"model_groups": [group_view(group, with_lifecycle=with_lifecycle) for group in groups]})


def model_group(geti: "GetiServer", asked: Asked) -> Answer:
    group = find_group(geti, asked)
    return geti.show(group_view(group, with_lifecycle=asked.query.get("include_lifecycle_stage") == "true"))


def model(geti: "GetiServer", asked: Asked) -> Answer:
    for base in listed(find_group(geti, asked)):
        candidates: list[Model | Optimized] = [base, *base.optimized]
        for one in candidates:
            if one.id == asked.params["model"]:
                return geti.show(details_view(base, one))
    raise Refusal(missing("model_not_found"))


def export(geti: "GetiServer", asked: Asked) -> Answer:
    """Of an optimized model, whichever base model the path names."""
    model_only = choice(asked, "model_only", "false", TRUTHS)
    find_group(geti, asked)
    chosen = find_optimized(find_project(geti, asked), asked.params["optimized"])
    if chosen is None:
        raise Refusal(missing("model_not_found"))
    if chosen.model.purged_at:
        raise Refusal(ANSWERS["model_purging_not_possible"])
    if not chosen.has_files:
        raise Refusal(missing("model_not_found"))
    return file_answer(packages.export(chosen, model_only=model_only, is_old=geti.profile == "2.10"))


def export_base(geti: "GetiServer", asked: Asked) -> Answer:
    base = next((one for one in listed(find_group(geti, asked)) if one.id == asked.params["model"]), None)
    if base is None:
        raise Refusal(missing("model_not_found"))
    if base.purged_at:
        raise Refusal(ANSWERS["model_purging_not_possible"])
    return file_answer(packages.base_export(base))


def deployment_package(geti: "GetiServer", asked: Asked) -> Answer:
    content = asked.json
    if not isinstance(content, dict) or "package_type" not in content:
        raise Refusal(ANSWERS["validation"])
    make = {"geti_sdk": packages.deployment, "ovms": packages.ovms}.get(content["package_type"])
    if make is None:
        raise Refusal(bad_request({"package_type": ["Must be one of: geti_sdk, ovms."]}))
    where = find_project(geti, asked)
    chosen = ordered_models(where, content)
    if not where.has_media:
        raise Refusal(ANSWERS["no_content"])
    return file_answer(make(where, chosen))


def jobs(geti: "GetiServer", asked: Asked) -> Answer:
    limit, skip = number(asked, "limit", 10, 1, MAX_LIMIT), number(asked, "skip", 0, 0)
    choice(asked, "sort_by", "creation_date", dict.fromkeys(("creation_date", "creation_time", "name", "start_time")))
    is_reversed = choice(asked, "sort_direction", "dsc", {"asc": False, "dsc": True})
    wanted = [job for job in geti.world.jobs if _is_wanted(job, asked)]
    wanted.sort(key=lambda job: job.created, reverse=is_reversed)
    state = asked.query.get("state")
    shown = [job for job in wanted if state in (None, job.state)]
    counts = {
        f"n_{state}_jobs": sum(job.state == state for job in wanted)
        for state in ("scheduled", "running", "finished", "failed", "cancelled")
    }
    return geti.show({"jobs": [job_view(job) for job in shown[skip : skip + limit]], "jobs_count": counts})


def _is_wanted(job: Job, asked: Asked) -> bool:
    since, until = (_date(asked, f"creation_time_{end}") for end in ("from", "to"))
    return (
        asked.query.get("project_id") in (None, job.project_id)
        and asked.query.get("job_type") in (None, job.kind)
        and (since is None or job.created >= since)
        and (until is None or job.created <= until)
    )


def _date(asked: Asked, name: str) -> datetime | None:
    given = asked.query.get(name)
    try:
        when = datetime.fromisoformat(given) if given else None
    except ValueError:
        when = datetime.min
    if when is not None and when.tzinfo is None:
        raise Refusal(bad_request({name: ["Not a valid datetime with an offset."]}))
    return when


ORGANIZATION = "/api/v1/organizations/{org}"
WORKSPACE = ORGANIZATION + "/workspaces/{ws}"
PROJECT = WORKSPACE + "/projects/{project}"
GROUP = PROJECT + "/model_groups/{group}"
ROUTES = (
    route("product_info", "GET", "/api/v1/product_info", product_info),
    route("token_organization", "GET", "/api/v1/personal_access_tokens/organization", token_organization),
    route("workspaces", "GET", ORGANIZATION + "/workspaces", workspaces),
    route("balance", "GET", ORGANIZATION + "/balance", balance),
    route("projects", "GET", WORKSPACE + "/projects", projects),
    route("project", "GET", PROJECT, project),
    route("supported_algorithms", "GET", PROJECT + "/supported_algorithms", supported_algorithms),
    route("model_groups", "GET", PROJECT + "/model_groups", model_groups),
    route("model_group", "GET", GROUP, model_group),
    route("model", "GET", GROUP + "/models/{model}", model),
    route("export", "GET", GROUP + "/models/{model}/optimized_models/{optimized}/export", export),
    route("export_base", "GET", GROUP + "/models/{model}/export", export_base),
    route("deployment_package", "POST", PROJECT + "/deployment_package:download", deployment_package),
    route("jobs", "GET", WORKSPACE + "/jobs", jobs),
    route("code_deployments_prepare", "POST", PROJECT + "/code_deployments:prepare", deployments.prepare, "2.10"),
    route("code_deployment", "GET", PROJECT + "/code_deployments/{deployment}", deployments.status, "2.10"),
    route(
        "code_deployment_download",
        "GET",
        PROJECT + "/code_deployments/{deployment}/download",
        deployments.download,
        "2.10",
    ),
    route("fileservice", "GET", "/api/v1/fileservice/{path}", deployments.file_service),
)
