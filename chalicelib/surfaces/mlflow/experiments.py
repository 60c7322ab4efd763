"""Experiments of MLflow's clients."""

from chalice.app import Response

from chalicelib.registry.access import Role
from chalicelib.registry.errors import InvalidInput, shown
from chalicelib.registry.tracking import Experiment
from chalicelib.registry.tracking_lists import Wanted
from chalicelib.surfaces.mlflow.pages import PageAsked, check_count, check_order, page, position, viewed
from chalicelib.surfaces.mlflow.protocol import Asked, Text, answered, mlflow
from chalicelib.surfaces.mlflow.registered_models import TagAsked
from chalicelib.surfaces.mlflow.tracked_entities import experiment_message
from chalicelib.wiring_mlflow import experiments, tracked_lists

ROOT = "2.0/mlflow/experiments"
MAX_RESULTS = 50_000
MAX_LISTED = 100  # of which a page tells at once
ORDERS = ("creation_time DESC", "attribute.creation_time DESC")


class ExperimentAsked(Asked):
    experiment_id: Text


class ByNameAsked(Asked):
    experiment_name: Text


class CreateAsked(Asked):
    name: Text
    artifact_location: str = ""
    tags: list[TagAsked] = []


class UpdateAsked(ExperimentAsked):
    new_name: Text


class DeleteTagAsked(ExperimentAsked):
    key: Text


class SetTagAsked(DeleteTagAsked):
    value: str = ""


class SearchAsked(PageAsked):
    max_results: int = 1_000
    view_type: str | int = "ACTIVE_ONLY"
    filter: str = ""
    order_by: list[str] = []


def _shown(experiment: Experiment) -> Response:
    return answered({"experiment": experiment_message(experiment, experiments().tags_of(experiment))})


@mlflow.call("GET", f"{ROOT}/get-by-name", Role.VIEWER)
def get_experiment_by_name() -> Response:
    return _shown(experiments().named(mlflow.asked(ByNameAsked).experiment_name, mlflow.actor()))


@mlflow.call("GET", f"{ROOT}/get", Role.VIEWER)
def get_experiment() -> Response:
    return _shown(experiments().one(mlflow.asked(ExperimentAsked).experiment_id, mlflow.actor()))


@mlflow.call("POST", f"{ROOT}/create", Role.PUBLISHER)
def create_experiment() -> Response:
    asked = mlflow.asked(CreateAsked)
    if asked.artifact_location:
        where = shown(asked.artifact_location)
        raise InvalidInput(
            "artifact_location", f"Artifacts are kept by this registry, not at {where}: leave artifact_location away."
        )
    made = experiments().create(asked.name, {tag.key: tag.value for tag in asked.tags}, mlflow.actor())
    return answered({"experiment_id": made.id})


@mlflow.call("POST", f"{ROOT}/search", Role.VIEWER)
def search_experiments() -> Response:
    asked = mlflow.asked(SearchAsked)
    check_order(asked.order_by, ORDERS)
    limit = min(check_count(asked.max_results, MAX_RESULTS), MAX_LISTED)
    wanted = Wanted(asked.filter, viewed(asked.view_type), limit, position(asked))
    found, go_on = tracked_lists().experiments(wanted, mlflow.actor())
    told = [experiment_message(one, data.tags) for one, data in found]
    return answered({"experiments": told, "next_page_token": page(go_on)})


mlflow.call("GET", f"{ROOT}/search", Role.VIEWER)(search_experiments)


@mlflow.call("POST", f"{ROOT}/update", Role.PUBLISHER)
def update_experiment() -> Response:
    asked = mlflow.asked(UpdateAsked)
    experiments().rename(asked.experiment_id, asked.new_name, mlflow.actor())
    return answered()


@mlflow.call("POST", f"{ROOT}/delete", Role.ADMIN)
def delete_experiment() -> Response:
    experiments().delete(mlflow.asked(ExperimentAsked).experiment_id, mlflow.actor())
    return answered()


@mlflow.call("POST", f"{ROOT}/restore", Role.ADMIN)
def restore_experiment() -> Response:
    experiments().restore(mlflow.asked(ExperimentAsked).experiment_id, mlflow.actor())
    return answered()


@mlflow.call("POST", f"{ROOT}/set-experiment-tag", Role.PUBLISHER)
def set_experiment_tag() -> Response:
    asked = mlflow.asked(SetTagAsked)
    experiments().tag(asked.experiment_id, asked.key, asked.value, mlflow.actor())
    return answered()


@mlflow.call("POST", f"{ROOT}/delete-experiment-tag", Role.PUBLISHER)
def delete_experiment_tag() -> Response:
    asked = mlflow.asked(DeleteTagAsked)
    experiments().untag(asked.experiment_id, asked.key, mlflow.actor())
    return answered()
