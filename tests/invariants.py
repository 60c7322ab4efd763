"""What must hold of the stored state at any moment, whoever did whatever, wherever it stopped."""

import hashlib
from collections import defaultdict
from typing import Any

import boto3
from boto3.dynamodb.types import TypeDeserializer

from chalicelib.registry.audit import Event, verify_chain
from chalicelib.registry.models import Head, ModelVersion
from chalicelib.store.schema import (
    CatalogItem,
    EventItem,
    claim_key,
    name_key,
    number_key,
    registered_model_key,
)

Items = dict[tuple[str, str], dict[str, Any]]


def check_invariants(
    registry_table: str = "RegistryTable",
    events_table: str = "EventsTable",
    bucket: str = "artifacts",
    orphans: int = 0,
) -> list[ModelVersion]:
    """Read everything and compare it with itself; the versions there are.

    `orphans`: how many objects without a record are excused, as a crash leaves them.
    """
    dynamodb, s3 = boto3.client("dynamodb"), boto3.client("s3")
    items, raw = _scan(dynamodb, registry_table)
    versions = [
        ModelVersion.model_validate_json(item["record"])
        for (pk, _), item in items.items()
        if pk.startswith("MODEL#") and not item.get("deleted")
    ]
    _check_rows(items, raw, versions)
    _check_registered_models(items, versions)
    _check_chains(items, _scan(dynamodb, events_table))
    _check_objects(s3, bucket, versions, orphans)
    return versions


def _scan(dynamodb: Any, table: str) -> tuple[Items, Items]:
    pages = dynamodb.get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
    raw = {(item["pk"]["S"], item["sk"]["S"]): item for page in pages for item in page["Items"]}
    plain = TypeDeserializer()
    return {key: {name: plain.deserialize(value) for name, value in item.items()} for key, item in raw.items()}, raw


def _check_rows(items: Items, raw: Items, versions: list[ModelVersion]) -> None:
    """Each version has its catalogue row, claim and number, and nothing else has one."""
    rows = {CatalogItem.of(version).pk + version.position: CatalogItem.of(version).serialize() for version in versions}
    assert {pk + sk: item for (pk, sk), item in raw.items() if pk.startswith("CATALOG#")} == rows
    claims = {claim_key(version.rm_id, version): version.id for version in versions}
    assert {pk: item["holder"] for (pk, _), item in items.items() if pk.startswith("CLAIM#")} == claims
    assert len(claims) == len(versions), "two versions hold one claim"
    numbers = {(registered_model_key(v.rm_id), number_key(v.number)): v.id for v in versions}
    assert {key: item["target"] for key, item in items.items() if key[1].startswith("V#")} == numbers
    assert len(numbers) == len(versions), "two versions have one number"


def _check_registered_models(items: Items, versions: list[ModelVersion]) -> None:
    names = {pk: item for (pk, _), item in items.items() if pk.startswith("NAME#")}
    pointers = {pk: item["target"] for (pk, sk), item in items.items() if sk == "NAME"}
    assert pointers == {registered_model_key(item["rm_id"]): pk for pk, item in names.items()}
    for version in versions:
        name = names[name_key(version)]
        assert name["rm_id"] == version.rm_id
        assert name["counter"] >= version.number
        assert items[f"MODEL#{version.id}", "META"]["seq"] == version.revision


def _check_chains(items: Items, events: tuple[Items, Items]) -> None:
    """Every event is in a whole chain that ends at the head of its subject."""
    stored, raw = events
    chains: dict[str, list[Event]] = defaultdict(list)
    for key in sorted(stored):
        item = EventItem()
        item.deserialize(raw[key])
        assert item.event().digest == item.digest
        chains[key[0]].append(item.event())
    heads = {pk: Head(seq=item["seq"], digest=item["digest"]) for (pk, _), item in items.items() if "seq" in item}
    for pk in [pk for pk in heads if pk.startswith("NAME#")]:
        heads[registered_model_key(items[pk, "META"]["rm_id"])] = heads.pop(pk)
    assert chains.keys() == heads.keys()
    for subject, chain in chains.items():
        verify_chain(chain, heads[subject])
        assert len({event.event_id for event in chain}) == len(chain), "one operation was done twice"
        assert sorted(chain, key=lambda event: (event.at, event.seq)) == chain, "time went backwards"


def _check_objects(s3: Any, bucket: str, versions: list[ModelVersion], orphans: int) -> None:
    """The bytes of every version are there, and no others."""
    keys = {entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket).get("Contents", [])}
    named = {version.artifact.key for version in versions}
    assert named <= keys, "a record without its bytes"
    assert len(keys - named) <= orphans, f"objects without a record: {keys - named}"
    assert len(named) == len(versions), "two records share an object"
    for version in versions:
        content = s3.get_object(Bucket=bucket, Key=version.artifact.key)["Body"].read()
        assert len(content) == version.artifact.size
        assert hashlib.sha256(content).hexdigest() == version.artifact.sha256
