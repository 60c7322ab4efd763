"""What the doctor finds, one kind of damage after the other, and what it repairs or leaves alone."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from moto.backends import get_backend

from chalicelib.registry.doctor import Kind
from chalicelib.registry.models import Filters, ModelVersion, time_text
from chalicelib.registry.tracking import RunStatus
from chalicelib.registry.uploads import UploadState
from chalicelib.store.keys import (
    changed_key,
    claim_key,
    due_key,
    exact_name_key,
    exposed_name_key,
    listed_key,
    model_key,
    name_key,
    number_key,
    project_digest,
    registered_model_key,
    shard_key,
    shard_of,
    token_key,
    upload_key,
)
from chalicelib.store.schema import ClaimItem
from chalicelib.store.search_rows import MODELS_BY_NAME, VERSIONS_BY_CHANGE
from tests.conftest import ALICE, create_tables
from tests.store.conftest import Bench
from tests.store.doctor_stage import Item, Stage, Visit
from tests.store.tracking_stage import TrackingStage, metric

OTHER = {"S": "another-model-00000"}


@pytest.fixture(scope="module")
def stocked(moto: None) -> Callable[[], Stage]:
    get_backend("dynamodb").reset()
    create_tables()
    return Stage(Bench()).stock().keep()


@pytest.fixture
def stage(stocked: Callable[[], Stage], credentials: None) -> Stage:
    return stocked()


@dataclass
class Damage:
    """What was done, and what the doctor has to say of it: kinds of findings, on which subject, repairable or not.

    `row` is what stands in the wrong hands, and does not say whose it is: it is found from that side too.
    """

    do: Callable[[Stage], None]
    kinds: tuple[Kind, ...]
    subject: Callable[[Stage], str]
    is_safe: bool
    row: tuple[Kind, Callable[[Stage], str]] | None

    def findings(self, stage: Stage) -> list[tuple[str, str]]:
        found = [(kind.value, self.subject(stage)) for kind in self.kinds]
        return sorted([*found, (self.row[0].value, self.row[1](stage))] if self.row else found)


DAMAGES: dict[str, Damage] = {}


def damaged(
    *kinds: Kind,
    subject: Callable[[Stage], str],
    is_safe: bool = True,
    row: tuple[Kind, Callable[[Stage], str]] | None = None,
) -> Callable[..., Any]:
    """Registers a damage that makes one finding of each of these kinds, on this subject."""

    def register(do: Callable[[Stage], None]) -> Callable[[Stage], None]:
        DAMAGES[do.__name__] = Damage(do, kinds, subject, is_safe, row)
        return do

    return register


def first(stage: Stage) -> str:
    return model_key(stage.first.id)


def second(stage: Stage) -> str:
    return model_key(stage.second.id)


def placed(stage: Stage) -> str:
    return model_key(stage.placed.id)


def sent(stage: Stage) -> str:
    return model_key(stage.sent.id)


def cats(stage: Stage) -> str:
    return registered_model_key(stage.first.rm_id)


def dogs(stage: Stage) -> str:
    return registered_model_key(stage.placed.rm_id)


def small(stage: Stage) -> str:
    return upload_key(stage.small.id)


def token(stage: Stage) -> str:
    return token_key(stage.token.id)


def catalogue_row(stage: Stage) -> tuple[str, str]:
    return shard_key(shard_of(stage.second.id)), stage.second.position


def version_row(stage: Stage, version: ModelVersion | None = None) -> tuple[str, str]:
    version = version or stage.second
    return VERSIONS_BY_CHANGE, changed_key(version.last_changed_at, version.id)


def project_row(stage: Stage) -> tuple[str, str]:
    return f"PROJECT#{project_digest('p1', 'Project One')}", stage.placed.position


def claim_of(version: Any) -> str:
    return claim_key(version.rm_id, version)


def strange(pk: str, sk: str = "META") -> Callable[[Stage], str]:
    """The subject of a row that nobody should have."""
    return lambda _: pk if sk == "META" else f"{pk} / {sk}"


# --- Versions and their rows


@damaged(Kind.CATALOGUE_ROW, subject=second)
def a_catalogue_row_is_gone(stage: Stage) -> None:
    stage.remove(*catalogue_row(stage))


@damaged(Kind.CATALOGUE_ROW, subject=second)
def a_catalogue_row_is_as_it_was_before_there_were_exact_names(stage: Stage) -> None:
    stage.set(*catalogue_row(stage), exact_name=None)


@damaged(Kind.CATALOGUE_ROW, subject=second)
def a_catalogue_row_has_other_tags(stage: Stage) -> None:
    stage.set(*catalogue_row(stage), tags={"SS": ["a\x1f1"]})


@damaged(Kind.CATALOGUE_ROW, subject=second)
def a_catalogue_row_has_wrong_types(stage: Stage) -> None:
    stage.set(*catalogue_row(stage), name={"N": "3"}, tags={"M": {}}, more={"L": [{"NULL": True}]})


@damaged(Kind.PROJECT_ROW, subject=placed)
def a_project_row_is_gone(stage: Stage) -> None:
    stage.remove(*project_row(stage))


@damaged(Kind.PROJECT_ROW, subject=placed)
def a_project_row_is_out_of_date(stage: Stage) -> None:
    stage.set(*project_row(stage), version={"S": "v1"})


@damaged(Kind.VERSION_ROW, subject=second)
def a_row_by_last_change_is_gone(stage: Stage) -> None:
    stage.remove(*version_row(stage))


@damaged(Kind.VERSION_ROW, subject=placed)
def a_row_by_last_change_of_a_project_has_other_tags(stage: Stage) -> None:
    pk, sk = version_row(stage, stage.placed)
    stage.set(f"{pk}#{project_digest('p1', 'Project One')}", sk, tags={"SS": ["a"]})


@damaged(Kind.NUMBER_ROW, subject=second)
def a_number_row_says_another_stage(stage: Stage) -> None:
    stage.set(cats(stage), number_key(stage.second.number), stage={"S": "Production"})


@damaged(Kind.NUMBER_ROW, subject=sent)
def a_number_row_is_gone(stage: Stage) -> None:
    stage.remove(cats(stage), number_key(stage.sent.number))


@damaged(
    Kind.NUMBER_ROW,
    subject=sent,
    row=(Kind.STRAY_NUMBER_ROW, lambda stage: f"{cats(stage)} / {number_key(stage.sent.number)}"),
)
def a_number_row_leads_to_a_version_of_another_number(stage: Stage) -> None:
    stage.set(cats(stage), number_key(stage.sent.number), target={"S": stage.placed.id})


@damaged(Kind.CLAIM, subject=second)
def a_claim_is_gone(stage: Stage) -> None:
    stage.remove(claim_of(stage.second))


@damaged(Kind.CLAIM, subject=second)
def a_claim_names_an_upload_that_has_ended(stage: Stage) -> None:
    stage.set(claim_of(stage.second), upload={"S": "01ENDED"})


@damaged(Kind.COUNTER, subject=sent)
def a_counter_is_too_low(stage: Stage) -> None:
    stage.set(name_key(stage.first), counter={"N": str(stage.sent.number - 1)})


@damaged(Kind.CHAIN_BROKEN, Kind.REVISION, subject=second, is_safe=False)
def a_version_was_put_back_to_an_earlier_state(stage: Stage) -> None:
    stage.set(second(stage), seq={"N": "1"}, digest=stage.item(second(stage), "000000000001", "EventsTable")["digest"])


@damaged(Kind.REVISION, subject=second, is_safe=False)
def a_revision_is_not_that_of_the_newest_event(stage: Stage) -> None:
    edited = stage.second.model_copy(update={"revision": 7})
    stage.set(second(stage), record={"S": edited.model_dump_json()})


@damaged(Kind.ALIASES, subject=second, is_safe=False)
def a_version_lacks_an_alias_that_it_is_given(stage: Stage) -> None:
    edited = stage.second.model_copy(update={"aliases": ()})
    stage.set(second(stage), record={"S": edited.model_dump_json()})


@damaged(Kind.ALIASES, subject=placed, is_safe=False)
def a_version_has_an_alias_that_nobody_gave_it(stage: Stage) -> None:
    edited = stage.placed.model_copy(update={"aliases": ("champion",)})
    stage.set(placed(stage), record={"S": edited.model_dump_json()})


@damaged(Kind.ALIASES, subject=cats, is_safe=False)
def an_alias_names_a_number_that_no_version_has(stage: Stage) -> None:
    record = json.loads(stage.item(name_key(stage.first))["record"]["S"])
    record["aliases"]["lost"] = 99
    stage.set(name_key(stage.first), record={"S": json.dumps(record)})


@damaged(Kind.TWO_HOLDERS, subject=second, is_safe=False)
def a_number_was_given_twice(stage: Stage) -> None:
    edited = stage.second.model_copy(update={"number": 1, "aliases": ("stable",)})
    stage.remove(cats(stage), number_key(stage.second.number))
    stage.set(second(stage), record={"S": edited.model_dump_json()})
    stage.set(*version_row(stage), number={"N": "1"})
    record = json.loads(stage.item(name_key(stage.first))["record"]["S"])
    stage.set(name_key(stage.first), record={"S": json.dumps({**record, "aliases": {"stable": 1}})})


@damaged(Kind.TWO_HOLDERS, subject=second, is_safe=False)
def a_claim_was_given_twice(stage: Stage) -> None:
    # As the first: its label and its precisions.
    update = {"version": stage.first.version, "precision": stage.first.precision}
    edited = stage.second.model_copy(update=update)
    stage.remove(claim_of(stage.second))
    stage.set(second(stage), record={"S": edited.model_dump_json()})
    stage.set(*catalogue_row(stage), version={"S": edited.version}, precisions={"SS": list(edited.precision)})


@damaged(Kind.CLAIM, subject=second, is_safe=False, row=(Kind.STRAY_CLAIM, lambda stage: claim_of(stage.second)))
def a_claim_is_held_by_a_model_that_claims_something_else(stage: Stage) -> None:
    stage.set(claim_of(stage.second), holder={"S": stage.first.id})


@damaged(Kind.CLAIM, subject=second, row=(Kind.STRAY_CLAIM, lambda stage: claim_of(stage.second)))
def a_claim_is_held_by_a_model_that_was_deleted(stage: Stage) -> None:
    stage.set(claim_of(stage.second), holder={"S": stage.gone.id})


@damaged(Kind.CHAIN_BROKEN, subject=first, is_safe=False)
def a_version_names_another_event(stage: Stage) -> None:
    stage.set(first(stage), event_id={"S": "01OTHER"})


# --- Objects


@damaged(Kind.OBJECT_MISSING, subject=second, is_safe=False)
def an_object_is_gone(stage: Stage) -> None:
    del stage.bench.blobs.objects[stage.second.artifact.key]


@damaged(Kind.OBJECT_MISSING, subject=second, is_safe=False)
def a_record_names_an_object_outside_of_the_artifacts(stage: Stage) -> None:
    file = stage.second.artifact.model_copy(update={"key": "elsewhere/a.zip"})
    edited = stage.second.model_copy(update={"artifact": file})
    stage.set(second(stage), record={"S": edited.model_dump_json()})


@damaged(Kind.OBJECT_SIZE, subject=second, is_safe=False)
def an_object_has_another_size(stage: Stage) -> None:
    stage.bench.blobs.objects[stage.second.artifact.key] += b"more"


@damaged(Kind.OBJECT_CHECKSUM, subject=sent, is_safe=False)
def an_object_has_other_bytes(stage: Stage) -> None:
    key = stage.sent.artifact.key
    stage.bench.blobs.objects[key] = bytes(len(stage.bench.blobs.objects[key]))


@damaged(Kind.OBJECT_MARK, subject=second, is_safe=False)
def an_object_is_marked_as_that_of_another_model(stage: Stage) -> None:
    stage.bench.blobs.owners[stage.second.artifact.key] = OTHER["S"]


# --- Registered models


@damaged(Kind.NAME_POINTER, subject=cats)
def the_pointer_of_a_registered_model_is_gone(stage: Stage) -> None:
    stage.remove(cats(stage), "NAME")


@damaged(Kind.NAME_POINTER, subject=cats)
def the_pointer_of_a_registered_model_leads_to_another(stage: Stage) -> None:
    stage.set(cats(stage), "NAME", target={"S": name_key(stage.placed)})


@damaged(Kind.NAME_POINTER, subject=cats)
def the_pointer_of_a_registered_model_leads_nowhere(stage: Stage) -> None:
    stage.set(cats(stage), "NAME", target={"S": "x" * 3_000})


@damaged(Kind.NAMES_ROW, subject=cats)
def a_registered_model_is_not_listed(stage: Stage) -> None:
    stage.remove("NAMES", listed_key("cat", stage.first.rm_id))


@damaged(Kind.NAMES_ROW, subject=cats)
def the_row_of_a_registered_model_leads_to_another(stage: Stage) -> None:
    stage.set("NAMES", listed_key("cat", stage.first.rm_id), target={"S": name_key(stage.placed)})


@damaged(Kind.PROJECT_NAMES_ROW, subject=dogs)
def a_registered_model_is_not_listed_in_its_project(stage: Stage) -> None:
    names = f"NAMES#{project_digest('p1', 'Project One')}"
    stage.remove(names, listed_key("Project One.dog", stage.placed.rm_id))


@damaged(Kind.SEARCH_ROW, subject=cats)
def a_registered_model_is_not_found_by_its_name(stage: Stage) -> None:
    stage.remove(MODELS_BY_NAME, exact_name_key("cat", stage.first.rm_id))


@damaged(Kind.STRAY_SEARCH_ROW, subject=lambda stage: f"{MODELS_BY_NAME} / tac?{stage.first.rm_id}")
def a_registered_model_is_found_by_another_name_too(stage: Stage) -> None:
    row = stage.item(MODELS_BY_NAME, exact_name_key("cat", stage.first.rm_id))
    stage.put({**row, "sk": {"S": exact_name_key("tac", stage.first.rm_id)}})


@damaged(Kind.CLAIM, subject=cats)
def an_exposed_name_is_not_claimed(stage: Stage) -> None:
    stage.remove(exposed_name_key("cat"))


@damaged(Kind.CLAIM, subject=cats, row=(Kind.STRAY_CLAIM, lambda _: exposed_name_key("cat")))
def an_exposed_name_is_claimed_by_nobody_we_know(stage: Stage) -> None:
    stage.set(exposed_name_key("cat"), holder={"S": "01NOBODY"})


@damaged(Kind.CLAIM, subject=cats, is_safe=False, row=(Kind.STRAY_CLAIM, lambda _: exposed_name_key("cat")))
def an_exposed_name_is_claimed_by_another_registered_model(stage: Stage) -> None:
    stage.set(exposed_name_key("cat"), holder={"S": stage.placed.rm_id})


@damaged(Kind.REVISION, subject=cats, is_safe=False)
def the_revision_of_a_registered_model_is_not_that_of_its_newest_event(stage: Stage) -> None:
    record = json.loads(stage.item(name_key(stage.first))["record"]["S"])
    stage.set(name_key(stage.first), record={"S": json.dumps({**record, "revision": 9})})


# --- Uploads


@damaged(Kind.UPLOAD_ROW, subject=small)
def an_upload_is_not_in_the_list_of_the_sweep(stage: Stage) -> None:
    stage.remove("UPLOADS", due_key(stage.small))


@damaged(Kind.UPLOAD_ROW, subject=small)
def the_row_of_an_upload_leads_to_another(stage: Stage) -> None:
    stage.set("UPLOADS", due_key(stage.small), target={"S": upload_key(stage.large.id)})


@damaged(Kind.CLAIM, subject=small)
def an_upload_has_no_claim(stage: Stage) -> None:
    stage.remove(claim_key(stage.small.rm_id, stage.small.draft))


@damaged(Kind.CLAIM, subject=small)
def the_claim_of_an_upload_does_not_say_that_it_is_one(stage: Stage) -> None:
    stage.set(claim_key(stage.small.rm_id, stage.small.draft), upload=None)


@damaged(Kind.CLAIM, subject=small)
def the_claim_of_an_upload_is_held_by_nobody_we_know(stage: Stage) -> None:
    stage.set(claim_key(stage.small.rm_id, stage.small.draft), holder=OTHER)


@damaged(Kind.UPLOAD_HOLD, subject=small, is_safe=False)
def the_hold_of_an_upload_was_freed(stage: Stage) -> None:
    stage.set(model_key(stage.small.draft.id), upload=None, upload_key=None, deleted={"BOOL": True})


@damaged(Kind.UPLOAD_HOLD, subject=lambda stage: model_key(stage.small.draft.id), is_safe=False)
def the_hold_of_an_upload_names_another_object(stage: Stage) -> None:
    stage.set(model_key(stage.small.draft.id), upload_key={"S": "artifacts/other/a.zip"})


# --- Tokens


@damaged(Kind.TOKEN_ROW, subject=token)
def a_token_is_not_listed(stage: Stage) -> None:
    stage.remove("TOKENS", stage.token.id)


@damaged(Kind.TOKEN_ROW, subject=token)
def the_row_of_a_token_leads_to_another(stage: Stage) -> None:
    stage.set("TOKENS", stage.token.id, target={"S": token_key(stage.revoked.id)})


@damaged(Kind.CHAIN_BROKEN, subject=lambda stage: token_key(stage.revoked.id), is_safe=False)
def a_token_was_put_back_as_it_was_before_it_was_revoked(stage: Stage) -> None:
    # What somebody does who wants it to work again.
    head = stage.item(token_key(stage.revoked.id), "000000000001", "EventsTable")["digest"]
    record = stage.revoked.model_dump_json()
    stage.set(token_key(stage.revoked.id), record={"S": record}, seq={"N": "1"}, digest=head)


# --- Rows of nobody


@damaged(Kind.STRAY_CATALOGUE_ROW, subject=strange("CATALOG#1", "2026-01-01T00:00:00.000000Z#model-of-nobody-0"))
def a_catalogue_row_is_of_no_version(stage: Stage) -> None:
    row = stage.item(*catalogue_row(stage))
    position = {"S": "2026-01-01T00:00:00.000000Z#model-of-nobody-0"}
    stage.put({**row, "pk": {"S": "CATALOG#1"}, "sk": position})


@damaged(
    Kind.STRAY_CATALOGUE_ROW,
    subject=lambda stage: f"{catalogue_row(stage)[0]} / 2025-01-01T00:00:00.000000Z#{stage.second.id}",
)
def a_version_is_listed_at_another_time_too(stage: Stage) -> None:
    row = stage.item(*catalogue_row(stage))
    stage.put({**row, "sk": {"S": f"2025-01-01T00:00:00.000000Z#{stage.second.id}"}})


@damaged(Kind.STRAY_CATALOGUE_ROW, subject=lambda stage: f"{catalogue_row(stage)[0]} / {stage.gone.position}")
def a_version_that_was_deleted_is_listed(stage: Stage) -> None:
    stage.put({**stage.item(*catalogue_row(stage)), "sk": {"S": stage.gone.position}})


@damaged(Kind.STRAY_PROJECT_ROW, subject=lambda stage: f"PROJECT#other / {stage.placed.position}")
def a_version_is_listed_in_another_project_too(stage: Stage) -> None:
    stage.put({**stage.item(*project_row(stage)), "pk": {"S": "PROJECT#other"}})


@damaged(Kind.STRAY_VERSION_ROW, subject=lambda stage: f"{VERSIONS_BY_CHANGE} / 000000000000001#{stage.second.id}")
def a_version_is_listed_by_a_change_before_its_last(stage: Stage) -> None:
    stage.put({**stage.item(*version_row(stage)), "sk": {"S": f"000000000000001#{stage.second.id}"}})


@damaged(Kind.STRAY_NUMBER_ROW, subject=lambda stage: f"{cats(stage)} / V#0000000077")
def a_number_leads_to_a_version_of_another_one(stage: Stage) -> None:
    stage.pointer(cats(stage), number_key(77), stage.second.id)


@damaged(Kind.STRAY_NUMBER_ROW, subject=lambda stage: f"{cats(stage)} / V#0000000077")
def a_number_leads_to_nobody(stage: Stage) -> None:
    stage.put({"pk": {"S": cats(stage)}, "sk": {"S": number_key(77)}})


@damaged(Kind.STRAY_NUMBER_ROW, subject=strange("RM#nobody", "V#0000000001"))
def a_number_is_of_no_registered_model(stage: Stage) -> None:
    stage.pointer("RM#nobody", number_key(1), "model-of-nobody-0")


@damaged(Kind.STRAY_NAME_POINTER, subject=strange("RM#nobody", "NAME"))
def a_pointer_is_of_no_registered_model(stage: Stage) -> None:
    stage.pointer("RM#nobody", "NAME", name_key(stage.first))


@damaged(Kind.STRAY_NAMES_ROW, subject=strange("NAMES", "bird#nobody"))
def a_name_is_listed_that_no_registered_model_has(stage: Stage) -> None:
    stage.pointer("NAMES", "bird#nobody", "NAME#nobody")


@damaged(Kind.STRAY_NAMES_ROW, subject=lambda stage: f"NAMES / bird#{stage.first.rm_id}")
def a_registered_model_is_listed_under_another_name_too(stage: Stage) -> None:
    stage.pointer("NAMES", f"bird#{stage.first.rm_id}", name_key(stage.first))


@damaged(Kind.STRAY_PROJECT_NAMES_ROW, subject=lambda stage: f"NAMES#p2 / cat#{stage.first.rm_id}")
def a_registered_model_is_listed_in_another_project_too(stage: Stage) -> None:
    stage.pointer("NAMES#p2", f"cat#{stage.first.rm_id}", name_key(stage.first))


@damaged(Kind.STRAY_CLAIM, subject=strange("CLAIM#1"))
def a_claim_is_held_by_nobody_we_know(stage: Stage) -> None:
    stage.put({"pk": {"S": "CLAIM#1"}, "sk": {"S": "META"}, "holder": OTHER})


@damaged(Kind.STRAY_CLAIM, subject=lambda stage: claim_of(stage.gone))
def a_deleted_version_still_has_its_claim(stage: Stage) -> None:
    stage.put(ClaimItem(claim_of(stage.gone), "META", holder=stage.gone.id).serialize())


@damaged(Kind.STRAY_CLAIM, subject=strange("CLAIM#1"), is_safe=False)
def a_version_has_another_claim_too(stage: Stage) -> None:
    stage.put(ClaimItem("CLAIM#1", "META", holder=stage.first.id).serialize())


@damaged(Kind.STRAY_CLAIM, subject=strange("CLAIM#1"), is_safe=False)
def an_open_upload_has_another_claim_too(stage: Stage) -> None:
    stage.put(ClaimItem("CLAIM#1", "META", holder=stage.small.draft.id, upload=stage.small.id).serialize())


@damaged(Kind.STRAY_CLAIM, subject=strange("CLAIM#1"), is_safe=False)
def a_registered_model_has_another_exposed_name_too(stage: Stage) -> None:
    stage.put(ClaimItem("CLAIM#1", "META", holder=stage.first.rm_id).serialize())


@damaged(Kind.STRAY_UPLOAD_ROW, subject=strange("UPLOADS", "2026-01-03T00:00:00.000000Z#nobody"))
def the_sweep_is_told_of_no_upload(stage: Stage) -> None:
    stage.pointer("UPLOADS", "2026-01-03T00:00:00.000000Z#nobody", upload_key("nobody"))


@damaged(Kind.STRAY_UPLOAD_ROW, subject=lambda stage: f"UPLOADS / 9999-01-03T00:00:00.000000Z#{stage.small.id}")
def the_sweep_is_told_to_look_far_too_late(stage: Stage) -> None:
    stage.pointer("UPLOADS", f"9999-01-03T00:00:00.000000Z#{stage.small.id}", upload_key(stage.small.id))


@damaged(Kind.STRAY_TOKEN_ROW, subject=strange("TOKENS", "01NOBODY"))
def a_token_is_listed_that_is_not_there(stage: Stage) -> None:
    stage.pointer("TOKENS", "01NOBODY", token_key("01NOBODY"))


# --- Events


@damaged(Kind.CHAIN_BROKEN, subject=placed, is_safe=False)
def an_event_is_gone(stage: Stage) -> None:
    stage.remove(placed(stage), "000000000001", "EventsTable")


@damaged(Kind.CHAIN_BROKEN, subject=placed, is_safe=False)
def an_event_was_changed(stage: Stage) -> None:
    stage.set(placed(stage), "000000000001", "EventsTable", changes={"S": "{}"})


@damaged(Kind.CHAIN_BROKEN, subject=placed, is_safe=False)
def an_event_was_changed_with_its_digest(stage: Stage) -> None:
    item = stage.item(placed(stage), "000000000001", "EventsTable")
    forged = json.loads(item["actor"]["S"]) | {"name": "mallory"}
    stage.set(placed(stage), "000000000001", "EventsTable", actor={"S": json.dumps(forged)}, digest={"S": "0" * 64})


@damaged(Kind.CHAIN_BROKEN, subject=placed, is_safe=False)
def the_newest_event_is_gone(stage: Stage) -> None:
    stage.remove(placed(stage), "000000000002", "EventsTable")


@damaged(Kind.CHAIN_BROKEN, subject=placed, is_safe=False)
def an_event_was_added_that_no_record_names(stage: Stage) -> None:
    stage.put({**stage.item(placed(stage), "000000000002", "EventsTable"), "sk": {"S": "000000000003"}}, "EventsTable")


@damaged(Kind.CHAIN_BROKEN, subject=placed, is_safe=False)
def an_event_was_added_far_behind_the_newest(stage: Stage) -> None:
    stage.put({**stage.item(placed(stage), "000000000002", "EventsTable"), "sk": {"S": "what?"}}, "EventsTable")


@damaged(Kind.CHAIN_BROKEN, subject=placed, is_safe=False)
def an_event_was_added_before_the_first(stage: Stage) -> None:
    stage.put({**stage.item(placed(stage), "000000000001", "EventsTable"), "sk": {"S": "!"}}, "EventsTable")


@damaged(Kind.CHAIN_BROKEN, subject=placed, is_safe=False)
def an_event_cannot_be_read(stage: Stage) -> None:
    stage.put({"pk": {"S": placed(stage)}, "sk": {"S": "000000000001"}, "actor": {"N": "1"}}, "EventsTable")


@damaged(Kind.EVENTS_WITHOUT_HEAD, subject=strange("MODEL#nobody"), is_safe=False)
def there_are_events_of_nobody(stage: Stage) -> None:
    event = stage.item(placed(stage), "000000000001", "EventsTable")
    stage.put({**event, "pk": {"S": "MODEL#nobody"}, "sk": {"S": "000000000004"}}, "EventsTable")


@damaged(Kind.EVENTS_WITHOUT_HEAD, subject=strange("RM#nobody"), is_safe=False)
def there_are_events_of_no_registered_model(stage: Stage) -> None:
    stage.put({"pk": {"S": "RM#nobody"}, "sk": {"S": "000000000004"}}, "EventsTable")


@damaged(Kind.EVENTS_WITHOUT_HEAD, subject=token, is_safe=False)
def a_token_that_had_no_row_is_gone(stage: Stage) -> None:
    stage.remove("TOKENS", stage.token.id)
    stage.remove(token(stage))


# --- Other items


@damaged(Kind.UNKNOWN_ITEM, subject=strange("WHAT#1", "x"), is_safe=False)
def an_item_is_of_no_kind(stage: Stage) -> None:
    stage.put({"pk": {"S": "WHAT#1"}, "sk": {"S": "x"}})


@damaged(Kind.UNKNOWN_ITEM, subject=lambda stage: f"{cats(stage)} / other", is_safe=False)
def an_item_of_a_registered_model_is_of_no_kind(stage: Stage) -> None:
    stage.put({"pk": {"S": cats(stage)}, "sk": {"S": "other"}})


SAFE = [name for name, damage in DAMAGES.items() if damage.is_safe]
UNSAFE = [name for name, damage in DAMAGES.items() if not damage.is_safe]


def found(visit: Visit) -> list[tuple[str, str]]:
    return sorted((finding.kind.value, finding.subject) for finding in visit.findings)


def test_it_finds_nothing_where_nothing_is_wrong(stage: Stage):
    visit = stage.visit()

    assert visit.findings == []
    assert visit.count("items") == len(stage.items())
    assert visit.count("events") == len(stage.items("EventsTable"))
    assert (visit.count("objects"), visit.count("undecided"), stage.unexpected) == (4, 0, [])


@pytest.mark.parametrize("name", SAFE)
def test_it_names_what_is_wrong_and_repairs_what_is_safe(stage: Stage, name: str):
    damage, whole, trail = DAMAGES[name], normal(stage.items()), stage.items("EventsTable")
    damage.do(stage)
    before = stage.items()

    seen = stage.visit()
    assert stage.items() == before
    visit = stage.visit(repair=True)

    assert found(seen) == damage.findings(stage)
    assert all(one.safe and not one.repaired for one in seen.findings)
    # A row in the wrong hands is right again when whose it is was asked first.
    assert set(found(visit)) <= set(found(seen))
    assert len(visit.findings) >= len(damage.kinds)
    assert all(one.repaired for one in visit.findings)
    # As it was, when a doctor found nothing.
    assert normal(stage.items()) == whole
    assert stage.items("EventsTable") == trail
    assert stage.unexpected == []
    stage.bench.check()


@pytest.mark.parametrize("name", UNSAFE)
def test_it_names_what_is_wrong_and_leaves_what_is_not_safe(stage: Stage, name: str):
    damage = DAMAGES[name]
    damage.do(stage)
    before = (stage.items(), stage.items("EventsTable"))

    visit = stage.visit(repair=True)

    assert found(visit) == damage.findings(stage)
    assert all(one.what.endswith(one.kind.outcome) for one in visit.findings)
    assert not any(one.safe or one.repaired for one in visit.findings)
    assert (stage.items(), stage.items("EventsTable")) == before
    assert stage.unexpected == []


def normal(items: list[Item]) -> list[Item]:
    """As they can be compared: sets have no order."""
    return [{name: sorted(value["SS"]) if "SS" in value else value for name, value in item.items()} for item in items]


def test_every_kind_of_finding_is_tried():
    tried = {kind for damage in DAMAGES.values() for kind in damage.kinds}

    # These have tests of their own, below and, of what is kept of Geti and for MLflow, in files of their own.
    elsewhere = {Kind.DUE_ROW, Kind.STRAY_DUE_ROW, Kind.TREE, Kind.STRAY_TAGS}
    assert set(Kind) - tried - elsewhere == {Kind.UNREADABLE, Kind.UNJUDGED, Kind.REGISTERED_MODEL, Kind.STRAY_HOLD}


# --- Where one look is not enough


def test_a_number_that_an_alias_names_is_found_again_with_its_row(stage: Stage):
    stage.remove(cats(stage), number_key(stage.second.number))

    visit = stage.visit(repair=True)

    assert ("number_row", second(stage)) in found(visit)
    assert stage.visit().findings == []
    stage.bench.check()


def test_a_hold_of_an_upload_that_has_ended_is_freed(stage: Stage):
    stage.set(small(stage), state={"S": UploadState.EXPIRED.value})

    visit = stage.visit(repair=True)

    claim = claim_key(stage.small.rm_id, stage.small.draft)
    assert found(visit) == [("stray_claim", claim), ("stray_hold", model_key(stage.small.draft.id))]
    assert all(one.repaired for one in visit.findings)
    assert stage.visit().findings == []
    stage.bench.check()
    stage.bench.register("cat", "v4", project_id="p1", id=stage.small.draft.id)
    assert stage.visit().findings == []


def test_a_hold_of_an_upload_that_is_not_there_is_freed(stage: Stage):
    stage.remove(small(stage))

    visit = stage.visit(repair=True)

    assert set(visit.kinds) == {Kind.STRAY_CLAIM, Kind.STRAY_HOLD, Kind.STRAY_UPLOAD_ROW}
    assert all(one.repaired for one in visit.findings)
    assert stage.visit().findings == []
    stage.bench.check()


def test_a_row_that_the_sweep_has_moved_is_looked_for(stage: Stage):
    bench = stage.bench
    bench.clock.pass_by(hours=23)
    bench.send_parts(stage.large)
    bench.clock.pass_by(hours=2)
    bench.sweep()  # moves the row to the end that the upload has by now
    bench.clock.pass_by(hours=5)
    bench.send_parts(stage.large)  # and now it has a later one
    rows = [sk for pk, sk in stage.rows("UPLOADS") if sk.endswith(stage.large.id)]
    now = bench.catalog.uploads.get(stage.large.id)

    visit = stage.visit()

    assert rows
    assert time_text(stage.large.expires_at) < rows[0].partition("#")[0] < time_text(now.expires_at)
    assert visit.findings == []


def test_all_aliases_are_looked_at_however_many(stage: Stage):
    record = json.loads(stage.item(name_key(stage.first))["record"]["S"])
    record["aliases"] |= {f"a{number}": number for number in range(1_000, 1_120)}
    stage.set(name_key(stage.first), record={"S": json.dumps(record)})

    visit = stage.visit()

    assert visit.kinds == [Kind.ALIASES] * 120


# --- What was lost stays taken until it is brought back


def test_rows_of_a_version_that_was_lost_stay(stage: Stage):
    lost = stage.remove(second(stage))
    before = stage.items()

    visit = stage.visit(repair=True)

    assert found(visit) == sorted(
        [
            ("events_without_head", second(stage)),
            ("stray_catalogue_row", " / ".join(catalogue_row(stage))),
            ("stray_claim", claim_of(stage.second)),
            ("stray_number_row", f"{cats(stage)} / {number_key(stage.second.number)}"),
            ("stray_version_row", " / ".join(version_row(stage))),
        ]
    )
    assert not any(one.safe or one.repaired for one in visit.findings)
    assert stage.items() == before
    stage.put(lost)
    assert stage.visit().findings == []


def test_rows_of_a_registered_model_that_was_lost_stay(stage: Stage):
    lost = stage.remove(name_key(stage.first))
    before = stage.items()

    visit = stage.visit(repair=True)

    assert set(visit.kinds) == {
        Kind.EVENTS_WITHOUT_HEAD,
        Kind.REGISTERED_MODEL,
        Kind.STRAY_CLAIM,
        Kind.STRAY_NAME_POINTER,
        Kind.STRAY_NAMES_ROW,
        Kind.STRAY_SEARCH_ROW,
    }
    assert visit.kinds.count(Kind.REGISTERED_MODEL) == 3
    assert not any(one.safe or one.repaired for one in visit.findings)
    assert stage.items() == before
    stage.put(lost)
    assert stage.visit().findings == []


def test_a_version_in_another_registered_model_than_its_name_has_is_told(stage: Stage):
    stage.set(name_key(stage.first), rm_id={"S": "01OTHER"})
    record = json.loads(stage.item(name_key(stage.first))["record"]["S"])
    stage.set(name_key(stage.first), record={"S": json.dumps({**record, "rm_id": "01OTHER"})})

    visit = stage.visit()

    assert visit.kinds.count(Kind.REGISTERED_MODEL) == 3
    assert all(not one.safe for one in visit.findings if one.kind == Kind.REGISTERED_MODEL)


# --- Older data


def test_data_from_before_there_were_lists_of_projects_is_completed(stage: Stage):
    old = [*stage.rows("PROJECT#"), *stage.rows("NAMES#"), *stage.rows(VERSIONS_BY_CHANGE)]
    for pk, sk in old:
        stage.remove(pk, sk)
    for pk, sk in [*stage.rows("CATALOG#"), *stage.rows("NAMES")]:
        stage.set(pk, sk, exact_name=None)

    visit = stage.visit(repair=True)

    assert len(old) == 8
    rows_of_versions = {Kind.PROJECT_ROW, Kind.CATALOGUE_ROW, Kind.VERSION_ROW}
    assert set(visit.kinds) == {*rows_of_versions, Kind.PROJECT_NAMES_ROW, Kind.NAMES_ROW}
    assert all(one.repaired for one in visit.findings)
    assert stage.visit().findings == []
    versions = stage.bench.check()
    assert {version.id for version in stage.bench.catalog.search(Filters(), 100).versions} == {
        version.id for version in versions
    }


# --- Contents that nobody foresaw. Each nonsense in each attribute is tried without tables, in tests/unit.


# Apart, for a row is judged by its record: where that cannot be read, nothing is said of the row.
RECORDS: dict[str, Callable[[Stage], tuple[str, str]]] = {
    "a version": lambda stage: (second(stage), "META"),
    "a tombstone": lambda stage: (model_key(stage.gone.id), "META"),
    "a hold": lambda stage: (model_key(stage.small.draft.id), "META"),
    "a registered model": lambda stage: (name_key(stage.first), "META"),
    "an upload": lambda stage: (small(stage), "META"),
    "a token": lambda stage: (token(stage), "META"),
}
ROWS: dict[str, Callable[[Stage], tuple[str, str]]] = {
    "a pointer": lambda stage: (cats(stage), "NAME"),
    "a number": lambda stage: (cats(stage), number_key(2)),
    "a name": lambda stage: ("NAMES", listed_key("cat", stage.first.rm_id)),
    "a catalogue row": catalogue_row,
    "a row by last change": version_row,
    "a claim": lambda stage: (claim_of(stage.second), "META"),
    "a claim of an upload": lambda stage: (claim_key(stage.small.rm_id, stage.small.draft), "META"),
    "an exposed name": lambda stage: (exposed_name_key("cat"), "META"),
    "a row of an upload": lambda stage: ("UPLOADS", due_key(stage.small)),
    "a row of a token": lambda stage: ("TOKENS", stage.token.id),
}


@pytest.mark.parametrize("value", [None, {"M": {"S": {"S": "{"}}}], ids=["nothing", "maps"])
@pytest.mark.parametrize("damaged", [RECORDS, ROWS], ids=["records", "rows"])
def test_items_of_nonsense_are_findings_and_no_crash(
    stage: Stage, damaged: dict[str, Callable[[Stage], tuple[str, str]]], value: Item | None
):
    places = [place_of(stage) for place_of in damaged.values()]
    whole = [stage.item(pk, sk) for pk, sk in places]
    for (pk, sk), item in zip(places, whole, strict=True):
        stage.set(pk, sk, **dict.fromkeys(item.keys() - {"pk", "sk"}, value))

    visit = stage.visit(repair=True)

    assert len(visit.findings) >= len(damaged)
    assert Kind.UNJUDGED not in visit.kinds
    assert stage.unexpected == []
    for item in whole:
        stage.put(item)
    stage.visit(repair=True)
    assert stage.visit().findings == []
    stage.bench.check()


STRANGE_PLACES = [
    ("MODEL#strange", "META"),
    ("MODEL#model-number-one", "OTHER"),
    ("CATALOG#", "x"),
    ("CATALOG#9", "#"),
    ("CATALOG#1", "x" * 1_024),
    ("PROJECT#", "##"),
    ("RM#", "NAME"),
    ("RM#", "V#"),
    ("RM#x", "V#one"),
    ("NAMES#", "#"),
    ("NAMES", "x"),
    ("CLAIM#", "META"),
    ("UPLOADS", "#"),
    ("UPLOADS", "now"),
    ("TOKENS", "\x00"),
    ("UPLOAD#" + "x" * 2_000, "META"),
    ("NAME#", "META"),
    ("TOKEN#", "META"),
    ("\u202e", "\n"),
]


def test_items_at_strange_places_are_findings_and_no_crash(stage: Stage):
    before = stage.items()
    for pk, sk in STRANGE_PLACES:
        stage.put({"pk": {"S": pk}, "sk": {"S": sk}, "target": {"S": "x" * 3_000}, "holder": {"S": "x" * 3_000}})

    visit = stage.visit(repair=True)

    assert len(visit.findings) == len(STRANGE_PLACES)
    assert Kind.UNJUDGED not in visit.kinds
    assert all((one.subject + one.what).isprintable() for one in visit.findings)
    assert max(len(one.subject) + len(one.what) for one in visit.findings) < 2_000
    assert stage.unexpected == []
    kept = [item for item in stage.items() if (item["pk"]["S"], item["sk"]["S"]) not in STRANGE_PLACES]
    assert normal(kept) == normal(before)


def test_what_is_tracked_is_judged_by_its_trail(stage: Stage) -> None:
    tracking = TrackingStage()
    experiment = tracking.experiments.create("trial", {"a": "1"}, ALICE)
    run, model = tracking.run(experiment.id), tracking.logged(experiment.id)
    tracking.tracking.log_batch(run.id, ALICE, [metric(0.5)], [("depth", "3")], [("note", "good")])
    tracking.tracking.update_run(run.id, ALICE, RunStatus.FINISHED, 5)
    assert stage.visit().findings == []

    first = stage.item(run.subject, "000000000001", "EventsTable")
    stage.set(run.subject, seq={"N": "1"}, digest=first["digest"])
    stage.set(model.subject, record={"S": "{}"})
    stage.remove(experiment.subject, "000000000001", "EventsTable")
    visit = stage.visit(repair=True)

    assert {(finding.kind, finding.subject) for finding in visit.findings} == {
        (Kind.CHAIN_BROKEN, run.subject),
        (Kind.UNREADABLE, model.subject),
        (Kind.CHAIN_BROKEN, experiment.subject),
    }
    assert not any(finding.repaired for finding in visit.findings)
