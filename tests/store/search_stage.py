"""Registered models and versions put straight into the table, with the rows that searches read; and searches."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from hashlib import sha256
from typing import Any

from chalicelib.registry.access import EVERYWHERE, Access, Actor
from chalicelib.registry.models import External, Lineage, ModelVersion
from chalicelib.registry.registered_models import RegisteredModel
from chalicelib.registry.searching import Searching
from chalicelib.store.catalog import DynamoCatalog
from chalicelib.store.keys import META, exposed_name_key, name_key, registered_model_key
from chalicelib.store.model_records import rows_of
from chalicelib.store.model_search import DynamoModelSearch
from chalicelib.store.schema import (
    ClaimItem,
    NameItem,
    PointerItem,
    RegistryItem,
    SpillingItem,
    VersionItem,
    is_inline,
    record_of,
)
from chalicelib.store.spilling import TagsItem, packed, piece_key
from chalicelib.store.transactions import Retry
from chalicelib.store.version_rows import listed_rows, number_row
from tests.conftest import ulids
from tests.mlflow_world import at

Found = tuple[Sequence[Any], str | None]
MAX_PAGES = 2_000


class Shelf:
    """What is searched. Nobody waits in it, and no clock runs."""

    def __init__(self) -> None:
        self.retry = Retry(sleep=lambda _: None, jitter=lambda low, high: 0)
        self.catalog = DynamoCatalog("RegistryTable", "EventsTable", ulids(), self.retry)
        self.searching = self.searching_at(lambda: 0)

    def searching_at(self, monotonic: Callable[[], float]) -> Searching:
        numbers = self.catalog.registered_models.numbers
        return Searching(DynamoModelSearch(numbers, self.catalog.versions, self.retry, monotonic))

    def models(
        self,
        filter_: str = "",
        order_by: Sequence[str] = (),
        limit: int = 1_000,
        token: str | None = None,
        within: Access = EVERYWHERE,
    ) -> Found:
        return self.searching.models(filter_, order_by, limit, token, Actor(access=within))

    def versions(
        self,
        filter_: str = "",
        order_by: Sequence[str] = (),
        limit: int = 1_000,
        token: str | None = None,
        within: Access = EVERYWHERE,
    ) -> Found:
        return self.searching.versions(filter_, order_by, limit, token, Actor(access=within))

    def all_models(self, *asked: Any, limit: int = 1_000, within: Access = EVERYWHERE) -> list[RegisteredModel]:
        """On all pages."""
        return [one for page in pages(partial(self.models, *asked, limit=limit, within=within)) for one in page]

    def all_versions(self, *asked: Any, limit: int = 1_000, within: Access = EVERYWHERE) -> list[ModelVersion]:
        return [one for page in pages(partial(self.versions, *asked, limit=limit, within=within)) for one in page]


def pages(search: Callable[..., Found]) -> Iterator[Sequence[Any]]:
    token = None
    for _ in range(MAX_PAGES):
        page, token = search(token=token)
        yield page
        if token is None:
            return
    raise AssertionError("a search without end")


def registered_model(name: str, changed: int = 1_000, **fields: Any) -> RegisteredModel:
    project = fields.get("project_name")
    fields.setdefault("exposed_name", f"{project}.{name}" if project else name)
    fields.setdefault("rm_id", f"01{sha256(fields['exposed_name'].encode()).hexdigest()[:24].upper()}")
    return RegisteredModel(name=name, revision=1, created_at=at(changed), updated_at=at(changed), **fields)


def version_of(model: RegisteredModel, number: int, changed: int = 1_000, **fields: Any) -> ModelVersion:
    created: datetime = at(fields.pop("created", changed))
    fields.setdefault("lineage", Lineage(source=f"s3://elsewhere/{number}"))
    fields.setdefault("id", f"version-{model.rm_id[-20:]}-{number:06}")
    return ModelVersion(
        rm_id=model.rm_id,
        **model.qualified_name.model_dump(),
        number=number,
        version=str(number),
        revision=1,
        published_at=created,
        updated_at=created,
        changed_at=at(changed),
        artifact=External(uri="s3://elsewhere"),
        **fields,
    )


def shelve(models: Sequence[RegisteredModel], versions: Sequence[ModelVersion] = ()) -> None:
    items: list[RegistryItem] = []
    for model in models:
        key = name_key(model)
        counter = max((one.number for one in versions if one.rm_id == model.rm_id), default=0)
        item = NameItem(key, META, rm_id=model.rm_id, record=record_of(model), counter=counter, seq=1, digest="0" * 64)
        claim = ClaimItem(exposed_name_key(model.exposed_name), META, holder=model.rm_id, target=key)
        pointer = PointerItem(registered_model_key(model.rm_id), "NAME", target=key)
        items += [item, claim, pointer, *rows_of(model, key), *spilled(item, model.tags)]
    for version in versions:
        item = VersionItem(f"MODEL#{version.id}", META, seq=1, digest="0" * 64, event_id="0")
        item.record = record_of(version)
        items += [item, number_row(version), *listed_rows(version), *spilled(item, version.tags)]
    put(items)


def spilled(item: SpillingItem, tags: Mapping[str, str]) -> list[RegistryItem]:
    """The tags that are beside a record, which then says so."""
    pieces = [] if is_inline(tags) else packed(tags)
    if pieces:
        item.tag_pieces, item.tags_seq = len(pieces), item.seq
    return [TagsItem(item.pk, piece_key(n), seq=item.seq, content=content) for n, content in enumerate(pieces)]


def put(items: Sequence[RegistryItem]) -> None:
    with RegistryItem.batch_write() as batch:
        for item in items:
            batch.save(item)


def drop(items: Sequence[RegistryItem]) -> None:
    with RegistryItem.batch_write() as batch:
        for item in items:
            batch.delete(item)
