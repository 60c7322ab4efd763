"""What must hold of the stored state at any moment, whoever did whatever, wherever it stopped."""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import boto3
from boto3.dynamodb.types import TypeDeserializer

from chalicelib.registry.audit import Event, verify_chain
from chalicelib.registry.models import Draft, Head, Metadata, ModelVersion
from chalicelib.registry.registered_models import RegisteredModel
from chalicelib.registry.uploads import Upload, UploadState
from chalicelib.store.held_items import held_key
from chalicelib.store.keys import (
    claim_key,
    exposed_name_key,
    listed_key,
    name_key,
    number_key,
    project_digest,
    project_names_key,
    registered_model_key,
)
from chalicelib.store.model_records import change_rows, tag_rows
from chalicelib.store.schema import TAGS, EventItem, NameItem, UploadItem
from chalicelib.store.search_rows import MODELS_BY_NAME, VERSIONS_BY_CHANGE, ModelRow
from chalicelib.store.spilling import piece_key, unpacked
from chalicelib.store.version_rows import listed_rows, number_row

Items = dict[tuple[str, str], dict[str, Any]]


def check_invariants(
    registry_table: str = "RegistryTable",
    events_table: str = "EventsTable",
    bucket: str = "artifacts",
    orphans: int = 0,
    objects: Mapping[str, bytes] | None = None,
) -> list[ModelVersion]:
    """Read everything and compare it with itself; the versions there are.

    `orphans`: how many objects without a record are excused, as a crash leaves them. `objects`: what there is, if it is
    not in a bucket.
    """
    dynamodb, s3 = boto3.client("dynamodb"), boto3.client("s3")
    items, raw = _scan(dynamodb, registry_table)
    versions = [
        _version(raw, items, pk) for (pk, _), item in items.items() if pk.startswith("MODEL#") and "record" in item
    ]
    _check_tags(items)
    uploads = [_upload(raw[key]) for key in items if key[0].startswith("UPLOAD#")]
    is_open = [upload for upload in uploads if upload.state == UploadState.OPEN]
    _check_rows(items, raw, versions, is_open)
    _check_uploads(items, is_open, versions)
    _check_registered_models(items, [*versions, *(upload.draft for upload in is_open)])
    _check_aliases(items, versions)
    _check_held(items, versions)
    _check_chains(items, _scan(dynamodb, events_table))
    objects = _objects(s3, bucket) if objects is None else objects
    _check_objects(objects, versions, orphans, {upload.key for upload in is_open})
    return versions


def _scan(dynamodb: Any, table: str) -> tuple[Items, Items]:
    pages = dynamodb.get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
    raw = {(item["pk"]["S"], item["sk"]["S"]): item for page in pages for item in page["Items"]}
    plain = TypeDeserializer()
    return {key: {name: plain.deserialize(value) for name, value in item.items()} for key, item in raw.items()}, raw


def _version(raw: Items, items: Items, pk: str) -> ModelVersion:
    """With the tags beside it."""
    item = items[pk, "META"]
    version = ModelVersion.model_validate_json(item["record"])
    if "tag_pieces" not in item:
        return version
    pieces = [raw[pk, piece_key(number)] for number in range(int(item["tag_pieces"]))]
    assert {piece["seq"]["N"] for piece in pieces} == {str(item["tags_seq"])}
    return version.model_copy(update={"tags": unpacked([piece["content"]["B"] for piece in pieces])})


def _check_tags(items: Items) -> None:
    """Every piece of tags is named by its record."""
    pieces = {key for key in items if key[1].startswith(TAGS)}
    counts = {pk: int(item.get("tag_pieces", 0)) for (pk, sk), item in items.items() if sk == "META"}
    assert pieces == {(pk, piece_key(number)) for pk, count in counts.items() for number in range(count)}


def _upload(raw: dict[str, Any]) -> Upload:
    return UploadItem.from_raw_data(raw).stored_upload()


def _check_uploads(items: Items, is_open: list[Upload], versions: list[ModelVersion]) -> None:
    """Every open upload holds its id, and nothing else does; none holds what a version has."""
    holds = {item["upload"]: pk for (pk, _), item in items.items() if pk.startswith("MODEL#") and "upload" in item}
    assert holds == {upload.id: f"MODEL#{upload.draft.id}" for upload in is_open}
    rows = {sk.partition("#")[2] for pk, sk in items if pk == "UPLOADS"}
    assert {upload.id for upload in is_open} <= rows, "an open upload that the sweeper does not know"
    assert not {upload.key for upload in is_open} & {version.file.key for version in versions if version.file}


def _check_aliases(items: Items, versions: list[ModelVersion]) -> None:
    """Each alias names a version of its registered model, which says so too."""
    named = {
        (item["rm_id"], alias, number)
        for (pk, _), item in items.items()
        if pk.startswith("NAME#")
        for alias, number in json.loads(item["record"])["aliases"].items()
    }
    assert named == {(v.rm_id, alias, v.number) for v in versions for alias in v.aliases}


def _check_rows(items: Items, raw: Items, versions: list[ModelVersion], is_open: list[Upload]) -> None:
    """Each version has its catalogue row, claim and number, and nothing else has one."""
    rows = {row.pk + row.sk: _unordered(row.serialize()) for version in versions for row in listed_rows(version)}
    listing = ("CATALOG#", "PROJECT#", "EXTERNAL", VERSIONS_BY_CHANGE)
    assert {pk + sk: _unordered(item) for (pk, sk), item in raw.items() if pk.startswith(listing)} == rows
    claims = {claim_key(version.rm_id, version): version.id for version in versions}
    claims |= {claim_key(upload.rm_id, upload.draft): upload.draft.id for upload in is_open}
    assert len(claims) == len(versions) + len(is_open), "two versions hold one claim"
    names = [NameItem.from_raw_data(item).inline_model() for (pk, _), item in raw.items() if pk.startswith("NAME#")]
    claims |= {exposed_name_key(name.exposed_name): name.rm_id for name in names}
    assert {pk: item["holder"] for (pk, _), item in items.items() if pk.startswith("CLAIM#")} == claims
    assert {pk for (pk, _), item in items.items() if pk.startswith("CLAIM#") and "upload" in item} == {
        claim_key(upload.rm_id, upload.draft) for upload in is_open
    }
    listed = {
        (key, listed_key(name.exposed_name, name.rm_id), name_key(_metadata(name)))
        for name in names
        for key in names_keys(name)
        if not name.is_prompt
    }
    assert {(pk, sk, item["target"]) for (pk, sk), item in items.items() if pk.startswith("NAMES")} == listed
    _check_search_rows(items, raw, names)
    numbers = {(registered_model_key(v.rm_id), number_key(v.number)): number_row(v).serialize() for v in versions}
    assert {key: item for key, item in raw.items() if key[1].startswith("V#")} == numbers
    assert len(numbers) == len(versions), "two versions have one number"


def _check_search_rows(items: Items, raw: Items, names: list[RegisteredModel]) -> None:
    """Each registered model is found by name exactly, and has a row for its last change and for each of its tags."""
    exact = {
        row.pk + row.sk: _unordered(row.serialize()) for name in names for row in ModelRow.rows_of(name, name_key(name))
    }
    assert {pk + sk: _unordered(item) for (pk, sk), item in raw.items() if pk.startswith(MODELS_BY_NAME)} == exact
    for name in names:
        hints = [*change_rows(name, name.rm_id, name_key(name), name.last_changed_at), *tag_rows(name, name_key(name))]
        assert all((row.pk, row.sk) in items for row in hints), "a registered model that a search does not find"


def _unordered(item: dict[str, Any]) -> dict[str, Any]:
    """An item whose sets have no order."""
    return {name: set(value["SS"]) if "SS" in value else value for name, value in item.items()}


def names_keys(model: RegisteredModel) -> list[str]:
    digest = project_digest(model.project_id, model.project_name)
    return ["NAMES", *([project_names_key(digest)] if digest else [])]


def _metadata(model: RegisteredModel) -> Metadata:
    return Metadata(name=model.name, version="any", project_id=model.project_id, project_name=model.project_name)


def _check_registered_models(items: Items, versions: Sequence[ModelVersion | Draft]) -> None:
    names = {pk: item for (pk, _), item in items.items() if pk.startswith("NAME#")}
    pointers = {pk: item["target"] for (pk, sk), item in items.items() if sk == "NAME" and "target" in item}
    assert pointers == {registered_model_key(item["rm_id"]): pk for pk, item in names.items()}
    for name in names.values():
        assert json.loads(name["record"])["revision"] == name["seq"]
    for version in versions:
        name = names[name_key(version)]
        if not isinstance(version, ModelVersion):
            continue
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
    heads = {
        pk: Head(seq=item["seq"], digest=item["digest"])
        for (pk, _), item in items.items()
        if item.keys() >= {"seq", "digest"}
    }
    for pk in [pk for pk in heads if pk.startswith("NAME#")]:
        heads[registered_model_key(items[pk, "META"]["rm_id"])] = heads.pop(pk)
    assert chains.keys() == heads.keys()
    for subject, chain in chains.items():
        verify_chain(chain, heads[subject])
        assert len({event.event_id for event in chain}) == len(chain), "one operation was done twice"
        assert sorted(chain, key=lambda event: (event.at, event.seq)) == chain, "time went backwards"


def _objects(s3: Any, bucket: str) -> dict[str, bytes]:
    keys = [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]
    return {key: s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


def _check_held(items: Items, versions: list[ModelVersion]) -> None:
    """What several versions have is counted, and is as long as one of them has it."""
    holders = Counter(version.file.key for version in versions if version.file)
    counted = {item["key"]: item["count"] for (pk, _), item in items.items() if pk.startswith("HELD#")}
    assert {held_key(key) for key in counted} == {pk for pk, _ in items if pk.startswith("HELD#")}
    assert {key: holders[key] for key in counted} == counted
    assert all(count == 1 for key, count in holders.items() if key not in counted), "two records share an object"


def _check_objects(
    objects: Mapping[str, bytes], versions: list[ModelVersion], orphans: int, expected: set[str]
) -> None:
    """The bytes of every version are there, and no others but those of open uploads."""
    files = [version.file for version in versions if version.file]
    named = {file.key for file in files}
    assert named <= objects.keys(), "a record without its bytes"
    nameless = objects.keys() - named - expected
    assert len(nameless) <= orphans, f"objects without a record: {nameless}"
    for file in files:
        content = objects[file.key]
        assert len(content) == file.size
        assert file.sha256 in (None, hashlib.sha256(content).hexdigest())
