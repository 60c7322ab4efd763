"""Many clients at once: one wins what only one may have, nobody loses what was acknowledged, nothing is left over."""

import json
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest
import requests

from chalicelib.registry.access import Actor
from chalicelib.registry.audit import Action, Event, verify_chain
from chalicelib.registry.models import Head
from tests.conftest import ARCHIVE, zip_of
from tests.e2e.strict_stack import Api, unique

T = TypeVar("T")


@pytest.fixture(autouse=True, scope="module")
def warm_functions(api: Api) -> None:
    """As many functions as will run at once, started. On a busy machine that takes longer than the gateway waits."""

    def start(_: int) -> None:
        assert requests.get(f"{api.stack.url}/health?deep=true", timeout=300).status_code == 200

    at_once(api.gateway.lanes, start)


def at_once(count: int, act: Callable[[int], T]) -> list[T]:
    """What each of so many clients gets that act at the same moment."""
    with ThreadPoolExecutor(count) as clients:
        return list(clients.map(act, range(count)))


def statuses(answers: list[requests.Response]) -> Counter[int]:
    return Counter(answer.status_code for answer in answers)


def events_of(api: Api, model_id: str) -> list[Event]:
    """The events of a model, in order, as they stand in the table."""
    pages = (
        api.stack.aws("dynamodb")
        .get_paginator("query")
        .paginate(
            TableName=api.stack.events_table,
            KeyConditionExpression="pk = :subject",
            ExpressionAttributeValues={":subject": {"S": f"MODEL#{model_id}"}},
            ConsistentRead=True,
        )
    )
    return [
        Event(
            subject=item["pk"]["S"],
            seq=int(item["sk"]["S"]),
            action=Action(item["action"]["S"]),
            actor=Actor.model_validate_json(item["actor"]["S"]),
            about=json.loads(item["about"]["S"]),
            **{name: item[name]["S"] for name in ("prev", "event_id", "at", "changes")},
        )
        for page in pages
        for item in page["Items"]
    ]


def head_of(api: Api, model_id: str) -> Head:
    """The newest event of a model, as the model itself says."""
    key = {"pk": {"S": f"MODEL#{model_id}"}, "sk": {"S": "META"}}
    item = api.stack.aws("dynamodb").get_item(TableName=api.stack.table, Key=key, ConsistentRead=True)["Item"]
    return Head(seq=int(item["seq"]["N"]), digest=item["digest"]["S"])


def objects_named(api: Api, file_name: str) -> list[str]:
    """The keys of all object versions and delete markers with this file name."""
    pages = api.stack.aws("s3").get_paginator("list_object_versions").paginate(Bucket=api.stack.bucket)
    return [
        entry["Key"]
        for page in pages
        for entry in page.get("Versions", []) + page.get("DeleteMarkers", [])
        if entry["Key"].endswith(f"/{file_name}")
    ]


def test_more_clients_than_the_emulator_has_threads_are_all_served(api: Api) -> None:
    answers = at_once(96, lambda _: requests.get(f"{api.stack.url}/health?deep=true", timeout=300))

    assert statuses(answers) == {200: 96}


def test_of_32_clients_that_register_the_same_model_one_wins(api: Api):
    name = unique("race")
    file_name = f"{name}.zip"

    answers = at_once(32, lambda _: api.post_model({"name": name}, file_name=file_name))

    assert statuses(answers) == {201: 1, 409: 31}
    (winner,) = [answer.text for answer in answers if answer.status_code == 201]
    assert {answer.text for answer in answers if answer.status_code == 409} == {conflict_with(winner)}
    assert [model["id"] for model in api.found(name=name)] == [winner]
    assert objects_named(api, file_name) == [api.model(winner)["file_url"].split("/", 3)[3]]
    assert [event.action for event in events_of(api, winner)] == [Action.VERSION_REGISTERED]


def test_of_32_clients_that_register_under_the_same_id_one_wins_with_its_own_bytes(api: Api):
    model_id = unique("same-id").replace(" ", "-")
    archives = [zip_of(weights__txt=f"weights of client {number}") for number in range(32)]
    file_name = f"{model_id}.zip"

    answers = at_once(32, lambda n: api.post_model({"id": model_id}, archives[n], file_name))

    assert statuses(answers) == {201: 1, 409: 31}
    (winner,) = [number for number, answer in enumerate(answers) if answer.status_code == 201]
    assert api.get(f"/models/{model_id}/files", allow_redirects=True).content == archives[winner]
    assert len(objects_named(api, file_name)) == 1
    assert len(events_of(api, model_id)) == 1


def test_32_versions_of_one_new_name_all_get_numbers_of_their_own(api: Api):
    name = unique("crowd")

    answers = at_once(32, lambda number: api.post_model({"name": name, "version": f"v{number}"}))

    assert statuses(answers) == {201: 32}
    models = api.found(name=name)
    assert {model["id"] for model in models} == {answer.text for answer in answers}
    assert len({model["number"] for model in models}) == 32
    assert len({model["registered_model_id"] for model in models}) == 1


def test_models_that_race_for_a_claim_learn_who_holds_it(api: Api):
    name = unique("claim")
    ids = [unique("claimant").replace(" ", "-") for _ in range(8)]

    answers = at_once(8, lambda number: api.post_model({"name": name, "id": ids[number]}))

    assert statuses(answers) == {201: 1, 409: 7}
    (holder,) = [answer.text for answer in answers if answer.status_code == 201]
    assert {answer.text for answer in answers if answer.status_code == 409} == {conflict_with(holder)}


def test_no_change_of_16_at_once_is_lost(api: Api):
    model_id = api.register(tags="{}")
    fields = ["category", "architecture", "origin", "target_device"]

    answers = at_once(16, lambda n: api.put(f"/models/{model_id}", data={fields[n % 4]: f"change {n}"}))

    assert statuses(answers) == {200: 16}
    model = api.model(model_id)
    assert model["revision"] == 17
    assert {model[field].split()[0] for field in fields} == {"change"}
    assert {int(model[field].split()[1]) % 4 for field in fields} == {0, 1, 2, 3}
    assert sorted(int(answer.headers["ETag"].strip('"')) for answer in answers) == list(range(2, 18))


def test_the_events_of_16_changes_at_once_are_one_chain(api: Api):
    model_id = api.register()

    answers = at_once(16, lambda number: api.put(f"/models/{model_id}", data={"category": f"change {number}"}))

    events = events_of(api, model_id)
    verify_chain(events, head_of(api, model_id))
    assert statuses(answers) == {200: 16}
    assert [event.seq for event in events] == list(range(1, 18))


def test_the_chain_of_32_changes_at_once_has_exactly_the_winners(api: Api):
    model_id = api.register()

    def change(number: int) -> requests.Response:
        headers = {"If-Match": '"1"'} if number % 2 else {}
        return api.put(f"/models/{model_id}", data={"category": f"change {number}"}, headers=headers)

    answers = at_once(32, change)

    winners = {f"change {number}" for number, answer in enumerate(answers) if answer.status_code == 200}
    events = events_of(api, model_id)
    verify_chain(events, head_of(api, model_id))
    made = [json.loads(event.changes)["category"][1] for event in events[1:]]
    assert set(statuses(answers)) == {200, 412}
    assert sorted(made) == sorted(winners)
    assert len(winners) >= 16


def test_of_changes_with_the_same_precondition_one_is_made(api: Api):
    model_id = api.register()

    answers = at_once(
        8, lambda n: api.put(f"/models/{model_id}", data={"category": f"c{n}"}, headers={"If-Match": '"1"'})
    )

    assert statuses(answers) == {200: 1, 412: 7}
    assert api.model(model_id)["revision"] == 2


def test_of_16_deletions_at_once_one_is_made(api: Api):
    model_id = api.register()

    answers = at_once(16, lambda _: api.delete(f"/models/{model_id}"))

    assert statuses(answers) == {204: 1, 404: 15}
    assert [event.action for event in events_of(api, model_id)][1:] == [Action.VERSION_DELETED]
    verify_chain(events_of(api, model_id), head_of(api, model_id))


@pytest.mark.parametrize("rounds", [3])
def test_registering_deleting_and_changing_one_name_at_once_leaves_what_somebody_was_told(api: Api, rounds: int):
    name = unique("mixed")

    def act(number: int) -> list[str]:
        """Ids that this client registered and did not delete."""
        kept = []
        for _ in range(rounds):
            answer = api.post_model({"name": name})
            assert answer.status_code in (201, 409)
            if answer.status_code == 201 and number % 2:
                assert api.put(f"/models/{answer.text}", data={"category": "kept"}).status_code == 200
                kept.append(answer.text)
            elif answer.status_code == 201:
                assert api.delete(f"/models/{answer.text}").status_code == 204
        return kept

    kept = [model_id for ids in at_once(8, act) for model_id in ids]

    assert [model["id"] for model in api.found(name=name)] == kept
    for model_id in kept:
        assert api.get(f"/models/{model_id}/files", allow_redirects=True).content == ARCHIVE
        verify_chain(events_of(api, model_id), head_of(api, model_id))


def conflict_with(model_id: str) -> str:
    return f"The requested action could not be completed due to a conflict with model '{model_id}'."
