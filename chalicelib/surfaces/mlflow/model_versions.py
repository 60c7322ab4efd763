"""Versions of registered models, for MLflow's clients."""

from typing import Annotated

from chalice.app import Response
from pydantic import StrictBool

from chalicelib.registry.access import Role
from chalicelib.registry.models import ModelVersion
from chalicelib.registry.registered_models import RegisteredModel, offered_at
from chalicelib.surfaces.mlflow.entities import version_message
from chalicelib.surfaces.mlflow.names import asked_key, stage_of, valid_key, valid_name, valid_value
from chalicelib.surfaces.mlflow.protocol import Asked, Count, InvalidParameter, Text, answered, at_most, mlflow
from chalicelib.surfaces.mlflow.registered_models import SearchAsked, TagAsked, is_prompt, named, numbered, tags_of
from chalicelib.surfaces.mlflow.sources import Source, new_version, prompt_version
from chalicelib.wiring_mlflow import numbering, searching

ROOT = "2.0/mlflow/model-versions"
DEFAULT_LISTED, MAX_LISTED = 10_000, 200_000
ACTIVE = ("staging", "production")


class CreateAsked(Asked):
    name: Text
    source: Text
    run_id: str | None = None
    tags: list[TagAsked] = []
    run_link: str = ""
    description: str = ""
    model_id: str | None = None


class VersionAsked(Asked):
    name: Text
    version: Text


class UriAsked(Asked):
    name: str = ""
    version: str = ""


class UpdateAsked(VersionAsked):
    description: str = ""


class TransitionAsked(VersionAsked):
    stage: Text
    archive_existing_versions: StrictBool = False


class VersionsAsked(SearchAsked):
    max_results: Annotated[Count, at_most(MAX_LISTED)] = DEFAULT_LISTED


class SetTagAsked(VersionAsked):
    key: Text
    value: str = ""


class DeleteTagAsked(VersionAsked):
    key: Text


def found(asked: VersionAsked) -> tuple[RegisteredModel, ModelVersion]:
    """The version that is meant, and what it belongs to. Raises InvalidParameter and NotFound."""
    return numbered(asked.name, asked.version)


@mlflow.call("POST", f"{ROOT}/create", Role.PUBLISHER)
def create_model_version() -> Response:
    asked, by = mlflow.asked(CreateAsked), mlflow.actor()
    source = Source(asked.source, asked.run_id, asked.model_id, asked.run_link)
    is_of_a_prompt = is_prompt({tag.key: tag.value for tag in asked.tags})
    made = prompt_version(source) if is_of_a_prompt else new_version(source, by)
    valid_name(asked.name)
    tags = tags_of(asked.tags)
    version = numbering().create(named(asked.name), made.saying(tags, asked.description), by)
    return answered({"model_version": version_message(version)})


@mlflow.call("PATCH", f"{ROOT}/update", Role.PUBLISHER)
def update_model_version() -> Response:
    asked = mlflow.asked(UpdateAsked)
    model, version = found(asked)
    version = numbering().describe(model, version.number, asked.description, mlflow.actor())
    return answered({"model_version": version_message(version)})


@mlflow.call("POST", f"{ROOT}/transition-stage", Role.PUBLISHER)
def transition_model_version_stage() -> Response:
    asked = mlflow.asked(TransitionAsked)
    stage = stage_of(asked.stage)
    if asked.archive_existing_versions and asked.stage.lower() not in ACTIVE:
        raise InvalidParameter(
            "Model version transition cannot archive existing model versions because"
            f" '{asked.stage}' is not an Active stage. Valid stages are ['Staging', 'Production']"
        )
    model, version = found(asked)
    archives = asked.archive_existing_versions
    version = numbering().transition(model, version.number, stage, archives, mlflow.actor())
    return answered({"model_version": version_message(version)})


@mlflow.call("DELETE", f"{ROOT}/delete", Role.ADMIN)
def delete_model_version() -> Response:
    model, version = found(mlflow.asked(VersionAsked))
    numbering().delete(model, version.number, mlflow.actor())
    return answered()


@mlflow.call("GET", f"{ROOT}/get", Role.VIEWER)
def get_model_version() -> Response:
    return answered({"model_version": version_message(found(mlflow.asked(VersionAsked))[1])})


@mlflow.call("GET", f"{ROOT}/search", Role.VIEWER)
def search_model_versions() -> Response:
    asked = mlflow.asked(VersionsAsked)
    versions, token = searching().versions(
        asked.filter, asked.order_by, asked.max_results, asked.page_token or None, mlflow.actor()
    )
    messages = [{**version_message(one), "aliases": None} for one in versions]
    return answered({"model_versions": messages, "next_page_token": token})


@mlflow.call("GET", f"{ROOT}/get-download-uri", Role.VIEWER)
def get_model_version_download_uri() -> Response:
    asked = mlflow.asked(UriAsked)
    return answered({"artifact_uri": offered_at(numbered(asked.name, asked.version)[1])})


@mlflow.call("POST", f"{ROOT}/set-tag", Role.PUBLISHER)
def set_model_version_tag() -> Response:
    asked = mlflow.asked(SetTagAsked)
    valid_key(asked.key)
    valid_value(asked.value)
    model, version = found(asked)
    numbering().set_tag(model, version.number, asked.key, asked.value, mlflow.actor())
    return answered()


@mlflow.call("DELETE", f"{ROOT}/delete-tag", Role.PUBLISHER)
def delete_model_version_tag() -> Response:
    asked = mlflow.asked(DeleteTagAsked)
    asked_key(asked.key)
    model, version = found(asked)
    numbering().delete_tag(model, version.number, asked.key, mlflow.actor())
    return answered()
