"""Runs of MLflow's clients: how they come, change and go, how they are found, and what files they have."""

from typing import Annotated

from chalice.app import Response
from pydantic import AliasChoices, Field

from chalicelib.registry.access import Role
from chalicelib.registry.errors import InvalidInput
from chalicelib.registry.tracking import Data, Run, RunStatus
from chalicelib.registry.tracking_lists import Wanted
from chalicelib.registry.trees import place_of
from chalicelib.surfaces.mlflow.pages import PageAsked, check_count, check_order, page, position, viewed
from chalicelib.surfaces.mlflow.protocol import Asked, Text, answered, mlflow
from chalicelib.surfaces.mlflow.registered_models import TagAsked
from chalicelib.surfaces.mlflow.tracked_entities import info_message, run_message
from chalicelib.wiring_mlflow import planting, tracked_lists, tracking

ROOT = "2.0/mlflow"
MAX_RESULTS = 50_000
MAX_LISTED = 100  # of which a page tells at once
MAX_EXPERIMENTS = 20  # of which runs or logged models are searched at once
ORDERS = ("start_time DESC", "attributes.start_time DESC", "attribute.start_time DESC")
Integer = Annotated[int, Field(ge=-(2**63), lt=2**63)]


class RunAsked(Asked):
    run_id: Text = Field(validation_alias=AliasChoices("run_id", "run_uuid"))


class CreateAsked(Asked):
    experiment_id: str = ""
    user_id: str = ""
    run_name: str = ""
    start_time: Integer = 0
    tags: list[TagAsked] = []


class UpdateAsked(RunAsked):
    status: RunStatus | None = None
    end_time: Integer | None = None
    run_name: str = ""


class SearchAsked(PageAsked):
    experiment_ids: list[str] = []
    filter: str = ""
    order_by: list[str] = []
    run_view_type: str | int = "ACTIVE_ONLY"
    max_results: Annotated[int, Field(le=MAX_RESULTS)] = 1_000


class ArtifactsAsked(RunAsked):
    path: str = ""


@mlflow.call("POST", f"{ROOT}/runs/create", Role.PUBLISHER)
def create_run() -> Response:
    asked = mlflow.asked(CreateAsked)
    tags = {tag.key: tag.value for tag in asked.tags}
    run, data = tracking().create_run(
        asked.experiment_id, asked.run_name, asked.user_id, asked.start_time, tags, mlflow.actor()
    )
    return answered({"run": {**run_message(run, data), "outputs": None}})


def _shown(run: Run, data: Data) -> Response:
    return answered({"run": run_message(run, data)})


@mlflow.call("GET", f"{ROOT}/runs/get", Role.VIEWER)
def get_run() -> Response:
    return _shown(*tracking().whole_run(mlflow.asked(RunAsked).run_id, mlflow.actor()))


@mlflow.call("POST", f"{ROOT}/runs/update", Role.PUBLISHER)
def update_run() -> Response:
    asked = mlflow.asked(UpdateAsked)
    run = tracking().update_run(asked.run_id, mlflow.actor(), asked.status, asked.end_time, asked.run_name)
    return answered({"run_info": info_message(run)})


@mlflow.call("POST", f"{ROOT}/runs/delete", Role.PUBLISHER)
def delete_run() -> Response:
    tracking().delete_run(mlflow.asked(RunAsked).run_id, mlflow.actor())
    return answered()


@mlflow.call("POST", f"{ROOT}/runs/restore", Role.PUBLISHER)
def restore_run() -> Response:
    tracking().restore_run(mlflow.asked(RunAsked).run_id, mlflow.actor())
    return answered()


@mlflow.call("POST", f"{ROOT}/runs/search", Role.VIEWER)
def search_runs() -> Response:
    asked = mlflow.asked(SearchAsked)
    check_order(asked.order_by, ORDERS)
    limit = min(check_count(asked.max_results, MAX_RESULTS), MAX_LISTED)
    wanted = Wanted(asked.filter, viewed(asked.run_view_type), limit, position(asked))
    found, go_on = tracked_lists().runs(experiments_of(asked.experiment_ids), wanted, mlflow.actor())
    return answered({"runs": [run_message(run, data) for run, data in found], "next_page_token": page(go_on)})


def experiments_of(stated: list[str]) -> list[str]:
    """Raises InvalidInput if these are more than can be searched at once."""
    if len(stated) > MAX_EXPERIMENTS:
        raise InvalidInput(
            "experiment_ids",
            f"At most {MAX_EXPERIMENTS} experiments can be searched at once, got {len(stated)}: ask for them in parts.",
        )
    return stated


@mlflow.call("GET", f"{ROOT}/artifacts/list", Role.VIEWER)
def list_run_artifacts() -> Response:
    asked = mlflow.asked(ArtifactsAsked)
    return listed(tracking().run(asked.run_id, mlflow.actor()).artifact_uri, asked.path)


def listed(artifact_uri: str, path: str) -> Response:
    """What is in a directory of a run or a logged model. Raises InvalidInput."""
    path = path.strip("/")
    place = place_of("/".join(part for part in (artifact_uri.partition(":/")[2], path) if part))
    found = planting().entries(place, mlflow.actor())
    files = [
        {"path": f"{path}/{one.name}" if path else one.name, "is_dir": one.is_directory, "file_size": one.size}
        for one in found
    ]
    return answered({"root_uri": artifact_uri, "files": files})
