"""What the versions of one name share: how changes merge, and which aliases there may be."""

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from chalicelib.registry.errors import InvalidInput
from chalicelib.registry.registered_models import RegisteredModel, RegisteredModelChanges, exposed_name
from tests.conftest import draft

NOW = datetime(2026, 1, 2, tzinfo=UTC)
MODEL = RegisteredModel(
    rm_id="01",
    name="cat",
    exposed_name="cat",
    description="Finds cats",
    tags={"team": "vision", "stage": "trial"},
    aliases={"champion": 3, "old": 1, "best": 3},
    revision=4,
    created_at=NOW,
    updated_at=NOW,
)


def test_a_change_merges_and_none_takes_away():
    changes = RegisteredModelChanges(tags={"stage": None, "cost": "low"}, aliases={"champion": 4, "old": None})

    edited = MODEL.edited(changes, NOW + timedelta(hours=1))

    assert edited.tags == {"team": "vision", "cost": "low"}
    assert edited.aliases == {"champion": 4, "best": 3}
    assert (edited.description, edited.revision, edited.updated_at) == ("Finds cats", 5, NOW + timedelta(hours=1))


@pytest.mark.parametrize("description", [None, ""])
def test_a_description_is_cleared_only_when_it_is_stated(description):
    assert MODEL.edited(RegisteredModelChanges(description=description), NOW).description is None
    assert MODEL.edited(RegisteredModelChanges(tags={"a": "b"}), NOW).description == "Finds cats"


@pytest.mark.parametrize(
    "changes",
    [
        RegisteredModelChanges(),
        RegisteredModelChanges(tags={"team": "vision", "unknown": None}),
        RegisteredModelChanges(aliases={"champion": 3, "unknown": None}),
    ],
)
def test_a_change_that_changes_nothing_is_none(changes):
    assert MODEL.edited(changes, NOW) is MODEL


def test_time_does_not_go_backwards():
    assert MODEL.edited(RegisteredModelChanges(tags={"a": "b"}), NOW - timedelta(days=1)).updated_at == NOW


def test_a_version_that_goes_takes_its_aliases_along():
    assert MODEL.without_aliases_of(3, NOW).aliases == {"old": 1}
    assert MODEL.without_aliases_of(2, NOW) is MODEL
    assert MODEL.aliases_of(3) == ("best", "champion")


@pytest.mark.parametrize("alias", ["latest", "Latest", "v1", "V23", "", "a b", "a.b", "a/b", "a\n", "x" * 256])
def test_some_aliases_cannot_be(alias):
    with pytest.raises(ValidationError):
        RegisteredModelChanges(aliases={alias: 1})


@pytest.mark.parametrize("alias", ["champion", "v", "v1a", "été", "最新", "a-b_c", "latest2", "x" * 255])
def test_others_can(alias):
    assert RegisteredModelChanges(aliases={alias: 1}).aliases == {alias: 1}


def test_all_of_it_together_is_limited():
    with pytest.raises(InvalidInput, match="65536 bytes"):
        MODEL.edited(RegisteredModelChanges(description="x" * 66_000), NOW)
    with pytest.raises(InvalidInput, match="1,000,000 bytes"):
        MODEL.edited(RegisteredModelChanges(tags={f"k{number}": "x" * 100_000 for number in range(11)}), NOW)


@pytest.mark.parametrize(
    ("fields", "shown"),
    [({}, "cat"), ({"project_name": "p", "project_id": "1"}, "p.cat"), ({"project_id": "1"}, "1.cat")],
)
def test_it_is_shown_with_its_project_in_front(fields, shown):
    assert exposed_name(draft("cat", **fields)) == shown
