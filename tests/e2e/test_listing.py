"""Lists and searches over 2,500 models: nothing lost, nothing twice, and never more than Lambda may answer."""

import itertools
import json
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests

from chalicelib.registry.access import Actor
from chalicelib.registry.audit import Action, Change
from chalicelib.registry.models import File, Head, ModelVersion
from chalicelib.store.keys import META, claim_key, model_key
from chalicelib.store.schema import ClaimItem, VersionItem
from chalicelib.store.version_rows import CatalogItem
from tests.conftest import ARCHIVE
from tests.e2e.strict_stack import Api, strictly_served, unique
from tests.stack import Stack

SEEDED = 2_500
DOOMED = 200  # of the seeded: what tests delete
LONG_AGO = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SYSTEM = Actor(kind="system", name="test")
Item = dict[str, Any]


@dataclass
class Catalogue:
    """An API over the seeded models. `stays` are those that no test deletes, newest first."""

    api: Api
    when_empty: tuple[requests.Response, requests.Response]
    stays: list[str]
    doomed: list[str]

    def one_doomed(self) -> str:
        """A model that the caller may delete: the newest of them."""
        return self.doomed.pop(0)


@pytest.fixture(scope="module")
def catalogue(new_stack: Callable[[], Stack]) -> Iterator[Catalogue]:
    stack = new_stack()
    stack.start()
    with strictly_served(stack) as api:
        when_empty = api.get("/models"), api.get("/models", params={"name": "detector"})
        versions = [seeded(number) for number in range(SEEDED)]
        store(stack, versions)
        ids = [version.id for version in sorted(versions, key=lambda version: version.position, reverse=True)]
        step = SEEDED // DOOMED
        doomed = ids[::step][:DOOMED]
        yield Catalogue(api, when_empty, [id_ for id_ in ids if id_ not in set(doomed)], doomed)
    stack.stop()


def seeded(number: int, **fields: Any) -> ModelVersion:
    """A version as it is stored. Three are published in the same millisecond."""
    at = LONG_AGO + timedelta(milliseconds=number // 3)
    model_id = str(uuid.UUID(int=uuid.uuid4().int, version=4))
    file = File(
        key=f"artifacts/{number:026d}/model.zip",
        file_name="model.zip",
        media_type="application/zip",
        size=len(ARCHIVE),
        sha256="0" * 64,
        sha256_checked_by="registry",
    )
    stated = {"name": f"seeded {number % 25}", "version": f"v{number}", "category": f"every {number % 10}", **fields}
    return ModelVersion(
        **stated,
        id=model_id,
        rm_id=f"{number % 25:026d}",
        number=number + 1,
        revision=1,
        published_at=at,
        updated_at=at,
        artifact=file,
    )


def items_of(version: ModelVersion) -> list[Item]:
    """A version as it stands in the registry table, with what its deletion asks for."""
    change = Change(
        event_id=f"{version.number:026d}",
        at=version.published_at,
        actor=SYSTEM,
        action=Action.VERSION_REGISTERED,
        changes="{}",
    )
    rows = [
        VersionItem.of(version, change.after(model_key(version.id), Head())),
        *CatalogItem.rows_of(version),
        ClaimItem(claim_key(version.rm_id, version), META, holder=version.id),
    ]
    return [row.serialize() for row in rows]


def store(stack: Stack, versions: Iterable[ModelVersion]) -> None:
    """Write the versions straight into the table, as the store would have left them."""
    write(stack, [{"PutRequest": {"Item": item}} for version in versions for item in items_of(version)])


def forget(stack: Stack, versions: Iterable[ModelVersion]) -> None:
    """Take back what `store` wrote."""
    keys = [{"pk": item["pk"], "sk": item["sk"]} for version in versions for item in items_of(version)]
    write(stack, [{"DeleteRequest": {"Key": key}} for key in keys])


def write(stack: Stack, changes: list[Item]) -> None:
    dynamodb, table = stack.aws("dynamodb"), stack.table
    batches = [changes[at : at + 25] for at in range(0, len(changes), 25)]
    with ThreadPoolExecutor(8) as writers:
        for answer in writers.map(lambda batch: dynamodb.batch_write_item(RequestItems={table: batch}), batches):
            assert not answer["UnprocessedItems"]


def pages(api: Api, **parameters: Any) -> Iterator[requests.Response]:
    """All pages, each found by the Link of the one before."""
    with requests.Session() as session:
        answer = session.get(f"{api.url}/models", params=parameters, timeout=60)
        yield answer
        while "next" in answer.links:
            answer = session.get(answer.links["next"]["url"], timeout=60)
            assert answer.status_code == 200, answer.text
            yield answer


def ids_in(answers: Iterable[requests.Response]) -> list[str]:
    return [model["id"] for answer in answers for model in answer.json()]


def test_an_empty_catalogue_lists_nothing_and_finds_nothing(catalogue: Catalogue):
    listed, searched = catalogue.when_empty

    assert (listed.status_code, listed.text, "Link" in listed.headers) == (200, "[]", False)
    assert (searched.status_code, searched.text) == (404, "Model(s) not found.\n")


@pytest.mark.parametrize("parameters", [{}, {"limit": 333}])
def test_the_pages_hold_every_model_once_newest_first(catalogue: Catalogue, parameters: dict[str, int]):
    answers = list(pages(catalogue.api, **parameters))

    limit = parameters.get("limit", 1000)
    found = ids_in(answers)
    stays = set(catalogue.stays)
    assert [id_ for id_ in found if id_ in stays] == catalogue.stays
    assert len(found) == len(set(found))
    assert all(len(answer.json()) <= limit for answer in answers)
    assert all(len(answer.json()) == limit for answer in answers[:-1])


@pytest.mark.parametrize("limit", [1, 7, 999])
def test_pages_of_any_size_begin_with_the_same_models(catalogue: Catalogue, limit: int):
    first = ids_in([catalogue.api.get("/models", params={"limit": 1000})])[:20]

    answers = list(itertools.islice(pages(catalogue.api, limit=limit), 4))

    found = ids_in(answers)
    assert found[:20] == first[: len(found)]
    assert len(found) == len(set(found))


def test_nothing_that_stays_is_lost_or_repeated_while_others_come_and_go(catalogue: Catalogue):
    api, name = catalogue.api, unique("new")

    def come_and_go(number: int) -> None:
        added = api.register(name=name, version=f"v{number}")
        assert api.delete(f"/models/{catalogue.one_doomed()}").status_code == 204
        if number % 3 == 0:
            assert api.delete(f"/models/{added}").status_code == 204

    found: list[str] = []
    with ThreadPoolExecutor(1) as writer:
        changes = []
        for answer in pages(api, limit=150):
            found += ids_in([answer])
            # It runs while the next page is read.
            changes.append(writer.submit(come_and_go, len(changes)))
        for change in changes:
            change.result()

    stays = set(catalogue.stays)
    assert [id_ for id_ in found if id_ in stays] == catalogue.stays
    assert len(found) == len(set(found))
    assert len(changes) > 15


def test_a_page_goes_on_although_the_model_it_ended_with_is_gone(catalogue: Catalogue):
    last_of_page = catalogue.one_doomed()
    everything = ids_in(pages(catalogue.api))
    at = everything.index(last_of_page) + 1

    answer = catalogue.api.get("/models", params={"limit": at})
    assert ids_in([answer])[-1] == last_of_page
    catalogue.api.delete(f"/models/{last_of_page}")
    following = requests.get(answer.links["next"]["url"], timeout=60)

    assert ids_in([following]) == everything[at : at + len(following.json())]


def test_writes_are_seen_by_the_next_read(catalogue: Catalogue):
    api = catalogue.api
    for _ in range(2):
        name, category = unique("fresh"), uuid.uuid4().hex

        model_id = api.register(name=name)
        assert ids_in([api.get("/models", params={"limit": 1})]) == [model_id]
        assert ids_in([api.get("/models", params={"name": name})]) == [model_id]
        api.put(f"/models/{model_id}", data={"category": category})
        assert ids_in([api.get("/models", params={"category": category})]) == [model_id]
        api.delete(f"/models/{model_id}")
        assert api.get("/models", params={"category": category}).status_code == 404
        assert model_id not in ids_in([api.get("/models", params={"limit": 3})])


def test_a_search_over_all_of_them_finds_the_one(catalogue: Catalogue):
    for model_id in catalogue.stays[:: len(catalogue.stays) // 5]:
        model = catalogue.api.model(model_id)
        found = pages(catalogue.api, name=model["name"], version=model["version"])

        assert ids_in(found) == [model_id]


def test_a_search_over_all_of_them_that_finds_nothing_says_so(catalogue: Catalogue):
    answer = catalogue.api.get("/models", params={"name": "seeded", "architecture": "none has one"})

    assert (answer.status_code, answer.text) == (404, "Model(s) not found.\n")


def test_a_filtered_search_is_paged_with_its_filters_and_limit(catalogue: Catalogue):
    answers = list(pages(catalogue.api, category="EVERY 7", name="seeded", limit=40))

    models = [model for answer in answers for model in answer.json()]
    stays = [model["id"] for model in models if model["id"] in set(catalogue.stays)]
    assert {model["category"] for model in models} == {"every 7"}
    assert all(len(answer.json()) <= 40 for answer in answers)
    assert len(stays) == len(set(stays)) > 200


def test_filters_keep_their_meaning_in_links(catalogue: Catalogue):
    name = unique("a&b=c% d+é#?/")
    ids = [catalogue.api.register(name=name, version=f"v{number}") for number in range(3)]

    assert ids_in(pages(catalogue.api, name=name, limit=1)) == ids[::-1]


@pytest.mark.parametrize("character", ["ü", "🦆", '"'], ids=["two-bytes", "four-bytes", "quotes"])
def test_no_page_of_fat_models_is_more_than_lambda_may_answer(catalogue: Catalogue, character: str):
    # As much metadata as a model may have; in an answer it is escaped once more, to up to three times its size.
    overview = {"text": character * (64_000 // len(json.dumps(character, ensure_ascii=False).encode()[1:-1]))}
    fat = [seeded(SEEDED + number, name="fat", overview=overview) for number in range(40)]
    fat[0].check_limits()
    store(catalogue.api.stack, fat)
    try:
        answers = list(pages(catalogue.api, name="fat"))
    finally:
        forget(catalogue.api.stack, fat)

    assert {answer.status_code for answer in answers} == {200}
    assert sorted(ids_in(answers)) == sorted(version.id for version in fat)
    assert len(answers) > 1 or character == '"'
