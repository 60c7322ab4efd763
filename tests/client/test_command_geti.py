"""`modelreg geti`: what is listed, what became of imports and runs, and what the exit code says."""

import json
import re
from pathlib import Path

import pytest
from modelreg import Check, Conflict, ImportedModel, InvalidInput, SyncStatus

from tests.client.command_stage import Stage, stage
from tests.client.geti_in_memory import geti_project, run

ESCAPE = re.compile("\x1b\\[[0-9;]*m")
WRONG = Check(check="reach", ok=False, found="No route.", fix="Check GETI_HOST.")


@pytest.fixture
def modelreg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    return stage(tmp_path, monkeypatch)


@pytest.fixture
def caps(modelreg: Stage) -> None:
    modelreg.registry.geti_projects = [geti_project("p1", "Bottle caps", "m1", "m2"), geti_project("p2", "Lids")]


def becomes(modelreg: Stage, **outcomes: str) -> None:
    modelreg.registry.import_outcomes = {
        one: ImportedModel(id=one, outcome=outcome, why="no archive" if outcome == "failed" else None)
        for one, outcome in outcomes.items()
    }


def test_projects_are_listed_with_how_many_models_they_have(modelreg, caps):
    ran = modelreg("geti", "projects")

    assert (ran.exit_code, ran.lines) == (
        0,
        [
            "p1\tBottle caps\t2026-01-01T09:00:00.000000+00:00\t2",
            "p2\tLids\t2026-01-01T09:00:00.000000+00:00\t0",
        ],
    )


def test_with_json_projects_are_as_the_api_has_them(modelreg, caps):
    ran = modelreg("geti", "projects", "--json")

    assert ran.document[0]["model_groups"][0]["model_versions"][0]["openvino_models"][1]["id"] == "m2"


def test_no_projects_are_explained(modelreg):
    ran = modelreg("geti", "projects")

    assert (ran.exit_code, ran.stdout) == (0, "")
    assert "no projects" in ran.stderr


@pytest.mark.parametrize("named", ["p1", "Bottle caps", "BOTTLE CAPS"])
def test_a_project_is_shown_by_its_id_or_name(modelreg, caps, named):
    ran = modelreg("geti", "show", named)

    assert ran.lines == [
        "m1\tYOLOX-S OpenVINO FP16\t2\tYOLOX-S\tg1",
        "m2\tYOLOX-S OpenVINO FP16\t2\tYOLOX-S\tg1",
    ]


def test_with_json_a_project_is_one_document(modelreg, caps):
    assert modelreg("geti", "show", "p2", "--json").document["name"] == "Lids"


def test_a_project_without_models_is_explained(modelreg, caps):
    ran = modelreg("geti", "show", "p2")

    assert (ran.exit_code, ran.stdout) == (0, "")
    assert "nothing can be imported" in ran.stderr


def test_a_project_that_is_not_there_is_not_found(modelreg, caps):
    ran = modelreg("geti", "show", "Cups")

    assert (ran.exit_code, ran.stdout) == (3, "")
    assert "There is no project 'Cups' in Geti." in ran.stderr
    assert "hint: `modelreg geti projects` lists them." in ran.stderr


def test_a_name_of_several_projects_is_not_guessed(modelreg, caps):
    modelreg.registry.geti_projects.append(geti_project("p3", "LIDS"))

    ran = modelreg("geti", "show", "lids")

    assert ran.exit_code == 3
    assert "p2, p3" in ran.stderr


def test_models_are_imported_and_what_became_of_each_is_printed(modelreg, caps):
    becomes(modelreg, m1="registered", m2="exists")

    ran = modelreg("geti", "import", "Bottle caps", "m1", "m2")

    assert (ran.exit_code, ran.lines) == (0, ["m1\tregistered\t", "m2\texists\t"])
    assert modelreg.arguments_of("import_models") == {"project": "p1", "models": ["m1", "m2"], "wait": True}


def test_a_model_that_fails_is_a_no(modelreg, caps):
    becomes(modelreg, m1="registered", m2="failed")

    ran = modelreg("geti", "import", "p1", "m1", "m2")

    assert (ran.exit_code, ran.lines) == (10, ["m1\tregistered\t", "m2\tfailed\tno archive"])


def test_an_import_that_is_not_waited_for_says_how_to_look_again(modelreg, caps):
    becomes(modelreg, m1="pending")

    ran = modelreg("geti", "import", "p1", "m1", "--no-wait")

    assert (ran.exit_code, ran.lines) == (0, ["m1\tpending\t"])
    assert "`modelreg geti status i1`" in ran.stderr
    assert modelreg.arguments_of("import_models")["wait"] is False


def test_with_json_an_import_is_one_document_with_its_id(modelreg, caps):
    becomes(modelreg, m1="registered")

    assert modelreg("geti", "import", "p1", "m1", "--json").document == {
        "id": "i1",
        "state": "done",
        "models": [{"id": "m1", "outcome": "registered", "why": None}],
    }


def test_what_cannot_be_imported_is_said_as_the_registry_says_it(modelreg, caps):
    modelreg.fail("import_models", InvalidInput("m1: it is not in OpenVINO format.", code="not_importable"))

    ran = modelreg("geti", "import", "p1", "m1")

    assert (ran.exit_code, ran.stdout) == (5, "")
    assert "it is not in OpenVINO format" in ran.stderr


def test_a_sync_that_is_started_prints_its_run(modelreg):
    ran = modelreg("geti", "sync", "--full")

    assert (ran.exit_code, ran.stdout) == (0, "r1\n")
    assert modelreg.arguments_of("start_sync") == {"dry_run": False, "full": True}


def test_a_sync_that_goes_on_is_a_conflict(modelreg):
    modelreg.fail("start_sync", Conflict("A sync is going on.", code="sync_running", hint="Look later."))

    ran = modelreg("geti", "sync")

    assert (ran.exit_code, ran.stdout) == (4, "")
    assert "hint: Look later." in ran.stderr


def test_a_sync_that_is_waited_for_is_told_of(modelreg):
    ran = modelreg("geti", "sync", "--dry-run", "--wait")

    told = dict(line.split("\t", 1) for line in ran.lines)
    assert ran.exit_code == 0
    assert told["run_id"] == "r1"
    assert (told["models_seen"], told["models_imported"], told["models_skipped"]) == ("3", "1", "2")
    assert told["why_skipped"] == "m3: it is not in OpenVINO format"


@pytest.mark.parametrize("outcome", ["partial", "failed"])
def test_a_sync_of_which_some_failed_is_a_no(modelreg, outcome):
    modelreg.registry.sync_run = run(outcome=outcome)

    ran = modelreg("geti", "sync", "--wait", "--json")

    assert (ran.exit_code, ran.document["outcome"]) == (10, outcome)


def test_the_status_is_that_of_the_run_that_goes_on(modelreg):
    running = run(finished_at=None, outcome=None, outstanding=4)
    modelreg.registry.sync_state = SyncStatus(state="running", run=running)

    told = dict(line.split("\t", 1) for line in modelreg("geti", "status").lines)

    assert (told["state"], told["outstanding"], told["outcome"]) == ("running", "4", "")


def test_the_status_before_the_first_run_says_so(modelreg):
    ran = modelreg("geti", "status")

    assert (ran.exit_code, ran.lines) == (0, ["state\tidle"])
    assert "there was no sync yet" in ran.stderr


def test_with_json_the_status_is_as_the_api_has_it(modelreg):
    modelreg.registry.sync_state = SyncStatus(state="idle", last_run=run())

    document = modelreg("geti", "status", "--json").document

    assert (document["state"], document["run"], document["last_run"]["run_id"]) == ("idle", None, "r1")
    assert document["last_run"]["started_at"] == "2026-01-02T03:04:05.000000Z"


def test_the_status_of_an_import_is_that_of_its_models(modelreg):
    becomes(modelreg, m1="registered", m2="failed")

    ran = modelreg("geti", "status", "i7")

    assert (ran.exit_code, ran.lines) == (10, ["m1\tregistered\t", "m2\tfailed\tno archive"])
    assert modelreg.arguments_of("import_status") == {"import_id": "i7"}


def test_the_doctor_checks_and_then_tries_a_sync_that_changes_nothing(modelreg):
    ran = modelreg("geti", "doctor")

    assert ran.exit_code == 0
    assert ran.lines == [
        "settings\tright\tGeti is at https://geti.test.\t",
        "dry run\tright\tA sync would import 1 of 3 models, skip 2 and mark 0; 0 failed.\t",
    ]
    assert modelreg.arguments_of("start_sync") == {"dry_run": True, "full": False}


def test_what_is_wrong_is_a_no_and_nothing_is_tried(modelreg):
    modelreg.registry.checks.append(WRONG)

    ran = modelreg("geti", "doctor")

    assert (ran.exit_code, ran.lines[-1]) == (10, "reach\twrong\tNo route.\tCheck GETI_HOST.")
    assert "start_sync" not in [method for method, _ in modelreg.registry.calls]


def test_a_sync_that_goes_on_is_not_disturbed_by_the_doctor(modelreg):
    modelreg.fail("start_sync", Conflict("A sync is going on.", code="sync_running"))

    ran = modelreg("geti", "doctor")

    assert (ran.exit_code, len(ran.lines)) == (0, 1)
    assert "a sync is going on" in ran.stderr


def test_a_try_that_fails_is_a_no(modelreg):
    failed = run(outcome="failed", failed=[{"id": "geti", "why": "refused"}], counts={"failed": 1})
    modelreg.registry.sync_run = failed

    ran = modelreg("geti", "doctor")

    assert ran.exit_code == 10
    assert "1 failed (geti: refused)" in ran.lines[-1]


def test_with_json_the_doctor_is_one_document(modelreg):
    ran = modelreg("geti", "doctor", "--json")

    assert [check["check"] for check in ran.document["checks"]] == ["settings"]
    assert ran.document["dry_run"]["counts"]["new"] == 1


def test_on_a_terminal_a_check_is_a_sentence_with_what_to_do(modelreg):
    modelreg.registry.checks = [WRONG]
    modelreg.show_terminal()

    ran = modelreg("geti", "doctor")

    assert ESCAPE.sub("", ran.stdout).splitlines() == ["reach: wrong: No route. Check GETI_HOST."]


def test_what_geti_says_commands_no_terminal(modelreg):
    modelreg.registry.geti_projects = [geti_project("p1", "a\tb\x1b[31m")]

    ran = modelreg("geti", "projects")

    assert ran.lines[0].split("\t")[1] == "a\\tb\\x1b[31m"
    assert json.loads(modelreg("geti", "projects", "--json").stdout)[0]["name"] == "a\tb\x1b[31m"
