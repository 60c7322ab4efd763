"""Logged models: what `log_model` makes, before a version is registered of it."""

from chalice.app import Response
from pydantic import Field

from chalicelib.registry.access import Role
from chalicelib.registry.tracking import Data, Lifecycle, LoggedModel, LoggedModelStatus
from chalicelib.registry.tracking_lists import Wanted
from chalicelib.surfaces.mlflow.measurements import PairAsked, pairs
from chalicelib.surfaces.mlflow.pages import PageAsked, check_count, check_order, page, position
from chalicelib.surfaces.mlflow.protocol import Asked, NotImplementedHere, Text, answered, mlflow
from chalicelib.surfaces.mlflow.tracked_entities import logged_model_message
from chalicelib.surfaces.mlflow.tracking import MAX_LISTED, MAX_RESULTS, experiments_of, listed
from chalicelib.wiring_mlflow import tracked_lists, tracking

ROOT = "2.0/mlflow/logged-models"
ORDERS = ("creation_timestamp DESC", "creation_time DESC", "creation_timestamp_ms DESC")


class CreateAsked(Asked):
    experiment_id: Text
    name: str = ""
    model_type: str = ""
    source_run_id: str = ""
    params: list[PairAsked] = []
    tags: list[PairAsked] = []


class GetAsked(Asked):
    allow_deleted: str = ""


class FinalizeAsked(Asked):
    status: LoggedModelStatus


class TagsAsked(Asked):
    tags: list[PairAsked] = []


class ParamsAsked(Asked):
    params: list[PairAsked] = []


class OrderAsked(Asked):
    field_name: str = ""
    ascending: bool = True
    dataset_name: str = ""


class SearchAsked(PageAsked):
    experiment_ids: list[str] = Field(min_length=1)
    filter: str = ""
    order_by: list[OrderAsked] = []
    datasets: list[dict[str, object]] = []
    max_results: int = MAX_LISTED


class ArtifactsAsked(Asked):
    artifact_directory_path: str = ""


def _shown(model: LoggedModel, data: Data) -> Response:
    return answered({"model": logged_model_message(model, data)})


@mlflow.call("POST", ROOT, Role.PUBLISHER)
def create_logged_model() -> Response:
    asked = mlflow.asked(CreateAsked)
    stated = (asked.name, asked.model_type, asked.source_run_id, pairs(asked.params), dict(pairs(asked.tags)))
    return _shown(*tracking().create_logged_model(asked.experiment_id, *stated, mlflow.actor()))


@mlflow.call("POST", f"{ROOT}/search", Role.VIEWER)
def search_logged_models() -> Response:
    asked = mlflow.asked(SearchAsked)
    if asked.datasets:
        raise NotImplementedHere("Logged models are not searched by datasets here: leave `datasets` away.")
    check_order([f"{one.field_name} {'ASC' if one.ascending else 'DESC'}" for one in asked.order_by], ORDERS)
    limit = min(check_count(asked.max_results or MAX_LISTED, MAX_RESULTS), MAX_LISTED)
    wanted = Wanted(asked.filter, (Lifecycle.ACTIVE,), limit, position(asked))
    found, go_on = tracked_lists().logged_models(experiments_of(asked.experiment_ids), wanted, mlflow.actor())
    told = [logged_model_message(model, data) for model, data in found]
    return answered({"models": told, "next_page_token": page(go_on)})


@mlflow.call("GET", f"{ROOT}/{{model_id}}", Role.VIEWER)
def get_logged_model(model_id: str) -> Response:
    allow_deleted = mlflow.asked(GetAsked).allow_deleted.lower() == "true"
    return _shown(*tracking().whole_logged_model(model_id, mlflow.actor(), allow_deleted))


@mlflow.call("PATCH", f"{ROOT}/{{model_id}}", Role.PUBLISHER)
def finalize_logged_model(model_id: str) -> Response:
    tracking().finalize(model_id, mlflow.asked(FinalizeAsked).status, mlflow.actor())
    return _shown(*tracking().whole_logged_model(model_id, mlflow.actor()))


@mlflow.call("DELETE", f"{ROOT}/{{model_id}}", Role.PUBLISHER)
def delete_logged_model(model_id: str) -> Response:
    tracking().delete_logged_model(model_id, mlflow.actor())
    return answered()


@mlflow.call("PATCH", f"{ROOT}/{{model_id}}/tags", Role.PUBLISHER)
def set_logged_model_tags(model_id: str) -> Response:
    tracking().tag_logged_model(model_id, dict(pairs(mlflow.asked(TagsAsked).tags)), mlflow.actor())
    return answered()


@mlflow.call("DELETE", f"{ROOT}/{{model_id}}/tags/{{key+}}", Role.PUBLISHER)
def delete_logged_model_tag(model_id: str, key: str) -> Response:
    tracking().untag_logged_model(model_id, key, mlflow.actor())
    return answered()


@mlflow.call("POST", f"{ROOT}/{{model_id}}/params", Role.PUBLISHER)
def log_logged_model_params(model_id: str) -> Response:
    tracking().log_model_params(model_id, pairs(mlflow.asked(ParamsAsked).params), mlflow.actor())
    return answered()


@mlflow.call("GET", f"{ROOT}/{{model_id}}/artifacts/directories", Role.VIEWER)
def list_logged_model_artifacts(model_id: str) -> Response:
    path = mlflow.asked(ArtifactsAsked).artifact_directory_path
    return listed(tracking().logged_model(model_id, mlflow.actor()).artifact_uri, path)
