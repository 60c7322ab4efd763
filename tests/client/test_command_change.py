"""`modelreg edit`, `edit-model`, `rm` and `alias`."""

from pathlib import Path

import pytest
from modelreg import Model, StaleRevision

from tests.client.command_stage import Stage, model, stage


@pytest.fixture
def modelreg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    return stage(tmp_path, monkeypatch)


@pytest.fixture
def detector(modelreg: Stage) -> Model:
    return modelreg.registry.add(model(tags={"team": "vision", "stage": "trial"}, revision=7))


def test_edit_changes_what_is_named_and_nothing_else(modelreg, detector):
    ran = modelreg("edit", detector.id, "--score", "0", "--device", "GPU", "--if-revision", "3")

    assert (ran.exit_code, ran.lines) == (0, [detector.id])
    assert modelreg.arguments_of("update") == {
        "model_id": detector.id, "if_revision": 3, "score": 0.0, "target_device": "GPU",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "field"), [("score", "score"), ("device-type", "target_device_type"), ("project_name", "project_name")]
)
def test_a_field_is_cleared_by_the_name_of_its_option_or_of_the_api(modelreg, detector, name, field):
    modelreg("edit", detector.id, "--clear", name)

    assert modelreg.arguments_of("update")[field] is None


def test_a_field_is_not_set_and_cleared_at_once(modelreg, detector):
    assert modelreg("edit", detector.id, "--score", "1", "--clear", "score").exit_code == 2
    assert modelreg("edit", detector.id, "--tag", "a=b", "--clear", "tag").exit_code == 2


def test_tags_are_merged_at_the_revision_they_were_read_at(modelreg, detector):
    modelreg("edit", detector.id, "--tag", "stage=live", "--tag", "new=1", "--untag", "team")

    sent = modelreg.arguments_of("update")
    assert (sent["tags"], sent["if_revision"]) == ({"stage": "live", "new": "1"}, 7)


def test_an_edit_of_nothing_is_an_error_of_usage(modelreg, detector):
    ran = modelreg("edit", detector.id)

    assert (ran.exit_code, modelreg.registry.calls) == (2, [])


def test_a_stale_revision_is_a_conflict_that_says_what_to_do(modelreg, detector):
    modelreg.fail("update", StaleRevision("The model is at revision 8."))

    ran = modelreg("edit", detector.id, "--score", "1", "--if-revision", "7", "--json")

    assert ran.exit_code == 4
    assert '"code": "stale_revision"' in ran.stderr


def test_edit_takes_no_name_for_an_id(modelreg, detector):
    ran = modelreg("edit", "detector", "--tag", "a=b")

    assert ran.exit_code == 3


def test_what_all_versions_share_is_edited_by_name(modelreg):
    modelreg("edit-model", "shop.detector", "--description", "finds", "--tag", "a=b", "--untag", "c")

    assert modelreg.arguments_of("edit_registered_model") == {
        "name": "shop.detector", "description": "finds", "tags": {"a": "b", "c": None},
    }  # fmt: skip


def test_the_description_of_a_registered_model_is_cleared(modelreg):
    modelreg("edit-model", "detector", "--clear-description")

    assert modelreg.arguments_of("edit_registered_model") == {"name": "detector", "description": None}


def test_nothing_is_deleted_where_nobody_can_be_asked(modelreg, detector):
    ran = modelreg("rm", detector.id)

    assert (ran.exit_code, modelreg.registry.models) == (2, [detector])
    assert "--yes" in ran.stderr


def test_yes_deletes_without_asking_and_prints_the_ids(modelreg, detector):
    other = modelreg.registry.add(model(2))

    ran = modelreg("rm", detector.id, other.id, "--yes")

    assert (ran.lines, modelreg.registry.models) == ([detector.id, other.id], [])


@pytest.mark.parametrize(("answer", "is_left"), [("y\n", False), ("n\n", True), ("\n", True)])
def test_a_person_is_asked_and_told_what_would_go(modelreg, detector, answer, is_left):
    modelreg.show_terminal()

    ran = modelreg("rm", detector.id, stdin=answer)

    assert ran.exit_code == 0
    assert f"detector v1, id {detector.id}" in ran.stderr
    assert (modelreg.registry.models == [detector]) is is_left


def test_what_was_deleted_before_an_error_is_printed(modelreg, detector):
    ran = modelreg("rm", detector.id, "no-such-model-0001", "--yes")

    assert (ran.exit_code, ran.lines) == (3, [detector.id])
    assert "no-such-model-0001" in ran.stderr


def test_an_end_of_input_at_the_question_deletes_nothing(modelreg, detector):
    modelreg.show_terminal()

    ran = modelreg("rm", detector.id, stdin="")

    assert (ran.exit_code, modelreg.registry.models) == (130, [detector])


def test_aliases_are_set_listed_and_removed(modelreg, detector):
    assert modelreg("alias", "set", "detector", "champion", "1").stdout == ""
    assert modelreg("alias", "ls", "detector").stdout == "champion\t1\n"
    assert modelreg("alias", "ls", "detector", "--json").document == [{"alias": "champion", "number": 1}]
    assert modelreg("alias", "rm", "detector", "champion", "--json").document["aliases"] == {}
