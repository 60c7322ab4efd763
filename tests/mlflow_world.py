"""The registered models and versions that MLflow was asked about, as the domain has them, and what it answered."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from chalicelib.registry.models import External, Lineage, ModelVersion
from chalicelib.registry.registered_models import RegisteredModel

GOLDEN = Path(__file__).parent / "unit/golden/mlflow_searches.json"
START = datetime(1970, 1, 1, tzinfo=UTC)


@cache
def golden() -> dict[str, Any]:
    return dict(json.loads(GOLDEN.read_text()))


@cache
def models() -> Sequence[RegisteredModel]:
    return [
        RegisteredModel(
            rm_id=f"rm-{number}",
            name=one["name"],
            exposed_name=one["name"],
            tags=one["tags"],
            revision=1,
            created_at=at(one["changed"]),
            updated_at=at(one["changed"]),
        )
        for number, one in enumerate(golden()["models"])
    ]


@cache
def versions() -> Sequence[ModelVersion]:
    return [
        ModelVersion(
            id=f"version-{number:010}",
            rm_id=f"rm-of-{one['name']}",
            name=one["name"],
            version=str(one["version"]),
            number=one["version"],
            tags=one["tags"],
            revision=1,
            published_at=at(one["created"]),
            updated_at=at(one["created"]),
            changed_at=at(one["changed"]),
            artifact=External(uri=one["source"]),
            lineage=Lineage(source=one["source"], run_id=one["run_id"] or None),
        )
        for number, one in enumerate(golden()["versions"])
    ]


def at(milliseconds: int) -> datetime:
    return START + timedelta(milliseconds=milliseconds)


def told(found: Sequence[RegisteredModel] | Sequence[ModelVersion]) -> list[Any]:
    """As the golden file has them."""
    return [one.exposed_name if isinstance(one, RegisteredModel) else [one.name, one.number] for one in found]
