"""What the doctor finds: its vocabulary, what it is asked and what it answers. Pure.

A finding is something in the stored state that no operation leaves behind. It is safe where the records themselves say
what is right, so that a repair can neither lose data nor change what a record says. `store/doctor` looks for them.
"""

from enum import StrEnum

from pydantic import Field, StrictBool

from chalicelib.registry.models import Frozen

MAX_AFTER_CHARACTERS = 100_000
MAX_WORDS = 300


class Kind(StrEnum):
    """All that can be found: its code, what it means, and what becomes of it. docs/operations.md tells the same."""

    meaning: str
    outcome: str

    def __new__(cls, code: str, meaning: str, outcome: str) -> "Kind":
        kind = str.__new__(cls, code)
        kind._value_, kind.meaning, kind.outcome = code, meaning, outcome
        return kind

    UNREADABLE = (
        "unreadable",
        "An item lacks what it must have, holds what cannot be read, or stands under the key of another.",
        "Stays: bring the item back as it was from a restored copy of the table.",
    )
    UNKNOWN_ITEM = (
        "unknown_item",
        "An item is of no kind that the registry keeps.",
        "Stays: whoever put it there should take it away.",
    )
    UNJUDGED = (
        "unjudged",
        "The doctor failed at an item.",
        "Stays: the doctor's log says how it failed.",
    )
    OBJECT_MISSING = (
        "object_missing",
        "A version's object is not in S3.",
        "Stays: remove the delete marker of the object in S3, or delete the model.",
    )
    OBJECT_SIZE = (
        "object_size",
        "A version's object in S3 has another size than was registered.",
        "Stays: bring the right version of the object back in S3, or delete the model.",
    )
    OBJECT_CHECKSUM = (
        "object_checksum",
        "A version's object in S3 has another SHA-256 than was registered.",
        "Stays: bring the right version of the object back in S3, or delete the model.",
    )
    OBJECT_MARK = (
        "object_mark",
        "A version's object in S3 is marked as another model's, and not counted as shared: the sweep may remove it.",
        "Stays: copy the object over itself with the metadata `model-id` of its model.",
    )
    TREE = (
        "tree",
        "The files of a version are no tree that is there, or one that may still be changed.",
        "Stays: bring the item of the tree back from a restored copy of the table.",
    )
    REVISION = (
        "revision",
        "The revision in a record is not the number of its newest event.",
        "Stays: bring the item back as it was from a restored copy of the table.",
    )
    CHAIN_BROKEN = (
        "chain_broken",
        "The events of a subject are not whole, or do not end where its record says.",
        "Stays: the trail was changed; compare it with a checkpoint or a restored copy of the events table.",
    )
    EVENTS_WITHOUT_HEAD = (
        "events_without_head",
        "A subject has events, but no item that names the newest: its record was lost.",
        "Stays: bring the item back from a restored copy of the table.",
    )
    REGISTERED_MODEL = (
        "registered_model",
        "A version, or an open upload, belongs to a registered model that is not there under its name.",
        "Stays: bring the item of the registered model back from a restored copy of the table.",
    )
    ALIASES = (
        "aliases",
        "A registered model and a version do not name the same aliases, or an alias names a number without a version.",
        "Stays: set the alias again, or take it away, with `PATCH /registered-models`.",
    )
    TWO_HOLDERS = (
        "two_holders",
        "Two records say that they have what only one can have: a claim, a number, an id or a name.",
        "Stays: decide which one is right, and change or delete the other.",
    )
    COUNTER = (
        "counter",
        "The counter of a registered model is below the number of one of its versions.",
        "Raised to that number.",
    )
    CLAIM = (
        "claim",
        "A version, an open upload or a registered model has not the claim that it needs.",
        "Put, unless somebody else stands in it who has a record, is being uploaded or was lost.",
    )
    CATALOGUE_ROW = (
        "catalogue_row",
        "A version is not in the catalogue, or not as it is.",
        "Put from the version.",
    )
    PROJECT_ROW = (
        "project_row",
        "A version is not in the catalogue of its project, or not as it is.",
        "Put from the version.",
    )
    VERSION_ROW = (
        "version_row",
        "A version is not in the list by last change, or not as it is.",
        "Put from the version.",
    )
    NUMBER_ROW = (
        "number_row",
        "A version is not found by its number.",
        "Put from the version, unless a record that cannot be read stands there.",
    )
    NAME_POINTER = (
        "name_pointer",
        "A registered model is not found by its id.",
        "Put from the registered model.",
    )
    NAMES_ROW = (
        "names_row",
        "A registered model is not in the list of all.",
        "Put from the registered model.",
    )
    PROJECT_NAMES_ROW = (
        "project_names_row",
        "A registered model is not in the list of its project.",
        "Put from the registered model.",
    )
    SEARCH_ROW = (
        "search_row",
        "A registered model is not found by a search of MLflow's clients: by name, by a tag or by its last change.",
        "Put from the registered model.",
    )
    UPLOAD_HOLD = (
        "upload_hold",
        "An open upload does not hold the id of its model.",
        "Stays: abort the upload, or bring the item of the model back from a restored copy of the table.",
    )
    UPLOAD_ROW = (
        "upload_row",
        "An open upload is not in the list that the sweep reads, or not as it is.",
        "Put from the upload.",
    )
    TOKEN_ROW = (
        "token_row",
        "An API token is not in the list of tokens.",
        "Put from the token.",
    )
    DUE_ROW = (
        "due_row",
        "A model of Geti that is to be tried again is not in the list of what is due, or not as it is.",
        "Put from the model.",
    )
    STRAY_CATALOGUE_ROW = (
        "stray_catalogue_row",
        "A row of the catalogue is of no version, or no longer where its version stands.",
        "Removed, unless the version was lost.",
    )
    STRAY_PROJECT_ROW = (
        "stray_project_row",
        "A row in the catalogue of a project is of no version, or no longer where its version stands.",
        "Removed, unless the version was lost.",
    )
    STRAY_SEARCH_ROW = (
        "stray_search_row",
        "A row by which a registered model is found by name is of none, or no longer what its name is.",
        "Removed, unless the registered model was lost.",
    )
    STRAY_VERSION_ROW = (
        "stray_version_row",
        "A row in the list by last change is of no version, or no longer where its version stands.",
        "Removed, unless the version was lost.",
    )
    STRAY_TAGS = (
        "stray_tags",
        "A part of the tags of a version is there that the version does not name.",
        "Removed, unless the version was lost.",
    )
    STRAY_NUMBER_ROW = (
        "stray_number_row",
        "A number leads to a version that is not there, or that has another one.",
        "Removed, unless the version was lost.",
    )
    STRAY_CLAIM = (
        "stray_claim",
        "A claim is held by somebody who does not need it.",
        "Freed, unless its holder has a record, is being uploaded or was lost.",
    )
    STRAY_NAME_POINTER = (
        "stray_name_pointer",
        "An id leads to a registered model that is not there.",
        "Removed, unless the registered model was lost.",
    )
    STRAY_NAMES_ROW = (
        "stray_names_row",
        "A row in the list of registered models is of none, or no longer where its own stands.",
        "Removed, unless the registered model was lost.",
    )
    STRAY_PROJECT_NAMES_ROW = (
        "stray_project_names_row",
        "A row in the list of the registered models of a project is of none, or no longer where its own stands.",
        "Removed, unless the registered model was lost.",
    )
    STRAY_HOLD = (
        "stray_hold",
        "The id of a model is held by an upload that is not open.",
        "Freed, as at the end of an upload.",
    )
    STRAY_UPLOAD_ROW = (
        "stray_upload_row",
        "A row of the list that the sweep reads is of no upload, or later than its upload ends.",
        "Removed.",
    )
    STRAY_TOKEN_ROW = (
        "stray_token_row",
        "A row in the list of API tokens is of none.",
        "Removed, unless the token was lost.",
    )
    STRAY_DUE_ROW = (
        "stray_due_row",
        "A row in the list of what is due is of no model of Geti.",
        "Removed.",
    )


class Finding(Frozen):
    """One thing that is wrong. `safe`: it may be repaired; `repaired`: it was, just now."""

    kind: Kind
    subject: str
    what: str
    repaired: bool
    safe: bool


class Order(Frozen):
    """What the doctor is asked to do. `after` is the position that the step before answered; None begins anew."""

    repair: StrictBool = False
    after: str | None = Field(None, max_length=MAX_AFTER_CHARACTERS)


class Report(Frozen):
    """What a step found and counted. `after` is where the next one goes on; None says that all was looked at."""

    findings: tuple[Finding, ...]
    counts: dict[str, int]
    after: str | None


def in_words(text: str) -> str:
    """What may hold anything, printable and short; the longest keys that the registry makes are whole."""
    plain = "".join(character if character.isprintable() else "?" for character in text[:MAX_WORDS])
    return plain if len(text) <= MAX_WORDS else f"{plain}..."
