"""Registered models and versions as MLflow's clients see them."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from chalicelib.paging import MAX_ANSWER_BYTES
from chalicelib.registry.models import ModelVersion, milliseconds
from chalicelib.registry.registered_models import RegisteredModel, shown_name, shown_source
from chalicelib.surfaces.mlflow.names import NO_STAGE

ELSEWHERE = "What its source names is not known here: only who has it can load this version."
Message = dict[str, Any]


def version_message(version: ModelVersion) -> Message:
    lineage = version.lineage
    return {
        "name": shown_name(version),
        "version": str(version.number),
        "creation_timestamp": milliseconds(version.published_at),
        "last_updated_timestamp": milliseconds(version.last_changed_at),
        "current_stage": version.stage or NO_STAGE,
        "description": version.description if lineage is None else version.description or "",
        "source": shown_source(version),
        "run_id": lineage.run_id or "" if lineage else None,
        "run_link": lineage.run_link or "" if lineage else None,
        "status": "READY",
        "status_message": None if lineage is None or lineage.is_resolved else ELSEWHERE,
        "tags": tag_messages(version.tags),
        "aliases": sorted(version.aliases),
    }


def model_message(model: RegisteredModel, latest: Sequence[ModelVersion]) -> Message:
    """`latest` are the newest versions of each stage, which come without their aliases, as from MLflow's server."""
    return {
        "name": model.exposed_name,
        "creation_timestamp": milliseconds(model.created_at),
        "last_updated_timestamp": milliseconds(model.last_changed_at),
        "description": model.description,
        "latest_versions": [{**version_message(version), "aliases": None} for version in latest],
        "tags": tag_messages(model.tags),
        "aliases": [{"alias": alias, "version": str(number)} for alias, number in sorted(model.aliases.items())],
    }


def fitting(models: Sequence[Message]) -> Sequence[Message]:
    """The first of these registered models that an answer has room for, one at least.

    One that is too large alone comes without its latest versions, so that others can be reached behind it.
    """
    size_bytes = 0
    for count, model in enumerate(models):
        size_bytes += len(json.dumps(json.dumps(model, ensure_ascii=False)))
        if size_bytes > MAX_ANSWER_BYTES:
            return models[:count] or [{**model, "latest_versions": None}]
    return models


def tag_messages(tags: Mapping[str, str]) -> list[Message]:
    return [{"key": key, "value": value} for key, value in sorted(tags.items())]
