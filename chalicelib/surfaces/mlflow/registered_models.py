"""Registered models, their tags and aliases, for MLflow's clients."""

from typing import Annotated

from chalice.app import Response

from chalicelib.registry.access import Role
from chalicelib.registry.errors import AlreadyExists, NotFound
from chalicelib.registry.models import ModelVersion
from chalicelib.registry.registered_models import MAX_NUMBER, RegisteredModel
from chalicelib.surfaces.mlflow.entities import fitting, model_message, version_message
from chalicelib.surfaces.mlflow.names import (
    asked_key,
    number_of,
    stage_of,
    valid_alias,
    valid_key,
    valid_name,
    valid_value,
)
from chalicelib.surfaces.mlflow.protocol import Asked, Count, InvalidParameter, Text, answered, at_most, mlflow
from chalicelib.wiring_mlflow import curating, numbering, searching

ROOT = "2.0/mlflow/registered-models"
DEFAULT_LISTED, MAX_LISTED = 100, 1_000
LATEST = "latest"


class TagAsked(Asked):
    key: str = ""
    value: str = ""


class NameAsked(Asked):
    name: Text


class CreateAsked(NameAsked):
    tags: list[TagAsked] = []
    description: str = ""


class RenameAsked(NameAsked):
    new_name: Text


class UpdateAsked(NameAsked):
    description: str = ""


class SearchAsked(Asked):
    filter: str = ""
    max_results: Annotated[Count, at_most(MAX_LISTED)] = DEFAULT_LISTED
    order_by: list[str] = []
    page_token: str = ""


class LatestAsked(NameAsked):
    stages: list[str] = []


class SetTagAsked(NameAsked):
    key: Text
    value: str = ""


class DeleteTagAsked(NameAsked):
    key: Text


class AliasAsked(NameAsked):
    alias: Text


class SetAliasAsked(AliasAsked):
    version: Text


def named(name: str) -> RegisteredModel:
    """The registered model of this name. Raises InvalidParameter, and NotFound in MLflow's words."""
    valid_name(name)
    try:
        return curating().resolve(name, mlflow.actor())
    except NotFound as exc:
        raise NotFound(f"Registered Model with name={name} not found") from exc


def numbered(name: str, stated: str) -> tuple[RegisteredModel, ModelVersion]:
    """The version that is meant, and what it belongs to. Raises InvalidParameter, and NotFound in MLflow's words."""
    valid_name(name)
    number = number_of(stated)
    absent = NotFound(f"Model Version (name={name}, version={number}) not found")
    if not 0 < number <= MAX_NUMBER:
        raise absent
    try:
        model = named(name)
        return model, numbering().version(model, number, mlflow.actor())
    except NotFound as exc:
        raise absent from exc


def aliased(model: RegisteredModel, alias: str, name: str) -> ModelVersion:
    """The version that an alias names; `latest` is the newest. Raises InvalidParameter and NotFound."""
    if alias.lower() == LATEST:
        found = numbering().latest(model, None)
        if not found:
            raise NotFound(f"Latest version not found for model {name}.")
        return max(found, key=lambda version: version.number)
    if alias not in model.aliases:
        raise InvalidParameter(f"Registered model alias {alias} not found.")
    return numbering().version(model, model.aliases[alias], mlflow.actor())


def tags_of(stated: list[TagAsked]) -> dict[str, str]:
    return {valid_key(tag.key): valid_value(tag.value) for tag in stated}


def _shown(model: RegisteredModel) -> Response:
    latest = numbering().latest(model, None)
    return answered({"registered_model": model_message(model, latest)})


@mlflow.call("POST", f"{ROOT}/create", Role.PUBLISHER)
def create_registered_model() -> Response:
    asked = mlflow.asked(CreateAsked)
    valid_name(asked.name)
    tags = tags_of(asked.tags)
    try:
        model = curating().create(asked.name, tags, asked.description, mlflow.actor())
    except AlreadyExists as exc:
        raise AlreadyExists(_taken(asked.name, is_prompt(tags))) from exc
    return answered({"registered_model": model_message(model, [])})


def is_prompt(tags: dict[str, str]) -> bool:
    return tags.get("mlflow.prompt.is_prompt", "").lower() == "true"


def _taken(name: str, is_for_a_prompt: bool) -> str:
    """In MLflow's words; what stands there may be hidden from the caller, who then learns only that."""
    new = "Prompt" if is_for_a_prompt else "Registered Model"
    try:
        old = "Prompt" if curating().resolve(name, mlflow.actor()).is_prompt else "Registered Model"
    except NotFound:
        old = new
    if old == new:
        return f"{new} (name={name}) already exists."
    return (
        f"Tried to create a {new.lower()} with name {name!r}, but the name is already taken by a {old.lower()}."
        " MLflow does not allow creating a model and a prompt with the same name."
    )


@mlflow.call("POST", f"{ROOT}/rename", Role.PUBLISHER)
def rename_registered_model() -> Response:
    asked = mlflow.asked(RenameAsked)
    valid_name(asked.new_name, "new_name")
    model = named(asked.name)
    try:
        return _shown(curating().rename(model.exposed_name, asked.new_name, mlflow.actor()))
    except AlreadyExists as exc:
        raise AlreadyExists(f"Registered Model (name={asked.new_name}) already exists.") from exc


@mlflow.call("PATCH", f"{ROOT}/update", Role.PUBLISHER)
def update_registered_model() -> Response:
    asked = mlflow.asked(UpdateAsked)
    model = named(asked.name)
    return _shown(curating().describe(model.exposed_name, asked.description, mlflow.actor()))


@mlflow.call("DELETE", f"{ROOT}/delete", Role.ADMIN)
def delete_registered_model() -> Response:
    model = named(mlflow.asked(NameAsked).name)
    curating().delete(model.exposed_name, mlflow.actor())
    return answered()


@mlflow.call("GET", f"{ROOT}/get", Role.VIEWER)
def get_registered_model() -> Response:
    return _shown(named(mlflow.asked(NameAsked).name))


@mlflow.call("GET", f"{ROOT}/search", Role.VIEWER)
def search_registered_models() -> Response:
    asked, by = mlflow.asked(SearchAsked), mlflow.actor()
    found, token = searching().models(asked.filter, asked.order_by, asked.max_results, asked.page_token or None, by)
    latest = numbering().latest_of(found)
    messages = fitting([model_message(model, latest.get(model.rm_id, ())) for model in found])
    if len(messages) < len(found):
        token = searching().token_behind(found[len(messages) - 1], asked.filter, asked.order_by, by)
    return answered({"registered_models": messages, "next_page_token": token})


@mlflow.call("POST", f"{ROOT}/get-latest-versions", Role.VIEWER)
def get_latest_versions() -> Response:
    asked = mlflow.asked(LatestAsked)
    model = named(asked.name)
    stages = [stage_of(stage) for stage in asked.stages] or None
    found = numbering().latest(model, stages)
    return answered({"model_versions": [version_message(version) for version in found]})


mlflow.call("GET", f"{ROOT}/get-latest-versions", Role.VIEWER)(get_latest_versions)


@mlflow.call("POST", f"{ROOT}/set-tag", Role.PUBLISHER)
def set_registered_model_tag() -> Response:
    asked = mlflow.asked(SetTagAsked)
    valid_key(asked.key)
    valid_value(asked.value)
    curating().set_tag(named(asked.name).exposed_name, asked.key, asked.value, mlflow.actor())
    return answered()


@mlflow.call("DELETE", f"{ROOT}/delete-tag", Role.PUBLISHER)
def delete_registered_model_tag() -> Response:
    asked = mlflow.asked(DeleteTagAsked)
    asked_key(asked.key)
    curating().delete_tag(named(asked.name).exposed_name, asked.key, mlflow.actor())
    return answered()


@mlflow.call("POST", f"{ROOT}/alias", Role.PUBLISHER)
def set_registered_model_alias() -> Response:
    asked = mlflow.asked(SetAliasAsked)
    valid_name(asked.name)
    valid_alias(asked.alias, is_set=True)
    model, version = numbered(asked.name, asked.version)
    curating().set_alias(model.exposed_name, asked.alias, version.number, mlflow.actor())
    return answered()


@mlflow.call("DELETE", f"{ROOT}/alias", Role.PUBLISHER)
def delete_registered_model_alias() -> Response:
    asked = mlflow.asked(AliasAsked)
    valid_alias(asked.alias)
    curating().delete_alias(named(asked.name).exposed_name, asked.alias, mlflow.actor())
    return answered()


@mlflow.call("GET", f"{ROOT}/alias", Role.VIEWER)
def get_model_version_by_alias() -> Response:
    asked = mlflow.asked(AliasAsked)
    valid_alias(asked.alias)
    return answered({"model_version": version_message(aliased(named(asked.name), asked.alias, asked.name))})
