"""`modelreg push` and `modelreg uploads abort`."""

from pathlib import Path

import pytest
from modelreg import Conflict, InvalidArchive, NotFound

from tests.client.command_stage import Stage, model, stage

IR = """<net name="n" version="11"><layers><layer id="0" type="Const">
<data element_type="f16" shape="8" offset="0" size="16"/></layer></layers>
<rt_info><model_info><labels value="cat dog"/><task_type value="detection"/></model_info></rt_info></net>"""


@pytest.fixture
def modelreg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    return stage(tmp_path, monkeypatch)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "model.zip"
    path.write_bytes(b"PK")
    return path


@pytest.fixture
def ir(tmp_path: Path) -> Path:
    folder = tmp_path / "exported"
    folder.mkdir()
    (folder / "model.xml").write_text(IR)
    (folder / "model.bin").write_bytes(bytes(16))
    return folder


def test_push_prints_nothing_but_the_id_on_standard_output(modelreg, archive):
    ran = modelreg("push", archive, "--name", "detector", "--version", "v1")

    assert (ran.exit_code, ran.lines) == (0, [modelreg.registry.models[0].id])
    assert "registered detector v1 as number 1" in ran.stderr


def test_push_prints_the_model_as_json_if_asked_to(modelreg, archive):
    ran = modelreg("push", archive, "--name", "detector", "--version", "v1", "--json", "--quiet")

    assert ran.document == modelreg.registry.models[0].model_dump(mode="json")
    assert ran.stderr == ""


def test_every_option_of_push_becomes_the_field_of_the_api(modelreg, archive, tmp_path):
    overview = tmp_path / "overview.json"
    overview.write_text('{"map": 0.5}')

    ran = modelreg(
        *("push", archive, "--name", "detector", "--version", "v1", "--project", "p", "--project-id", "p1"),
        *("--precision", "fp16", "--precision", "int8", "--format", "ONNX", "--device", "GPU", "--device-type", "edge"),
        *("--category", "detection", "--architecture", "YOLOX", "--score", "0", "--description", "d"),
        *("--label", "cat", "--label", "dog", "--tag", "team=vision", "--tag", "expr=a=b", "--overview", overview),
        *("--capabilities", overview, "--origin", "lab", "--id", "detector-0123456789", "--created-date", "2026-01-02"),
    )

    assert ran.exit_code == 0
    assert modelreg.arguments_of("register") == {
        "path": archive, "name": "detector", "version": "v1", "project_name": "p", "project_id": "p1",
        "precision": ["fp16", "int8"], "format": "ONNX", "target_device": "GPU", "target_device_type": "edge",
        "category": "detection", "architecture": "YOLOX", "score": 0.0, "description": "d", "labels": ["cat", "dog"],
        "tags": {"team": "vision", "expr": "a=b"}, "overview": {"map": 0.5}, "optimization_capabilities": {"map": 0.5},
        "origin": "lab", "id": "detector-0123456789", "created_date": "2026-01-02",
    }  # fmt: skip


def test_a_folder_with_an_ir_fills_in_what_it_tells_and_push_says_so(modelreg, ir):
    ran = modelreg("push", ir, "--name", "detector", "--version", "v1")

    sent = modelreg.arguments_of("register")
    assert {name: sent[name] for name in ("format", "precision", "labels", "category")} == {
        "format": "OpenVINO",
        "precision": ["fp16"],
        "labels": ["cat", "dog"],
        "category": "detection",
    }
    assert (
        "read from the OpenVINO IR: format OpenVINO; precision fp16; labels cat, dog; category detection" in ran.stderr
    )


def test_what_is_given_wins_over_what_the_ir_tells(modelreg, ir):
    modelreg("push", ir, "--name", "detector", "--version", "v1", "--label", "person", "--precision", "int8")

    sent = modelreg.arguments_of("register")
    assert (sent["labels"], sent["precision"], sent["category"]) == (["person"], ["int8"], "detection")


def test_the_alias_points_at_the_new_version(modelreg, archive):
    ran = modelreg("push", archive, "--name", "detector", "--version", "v1", "--alias", "champion")

    assert ran.exit_code == 0
    assert modelreg.arguments_of("set_alias") == {"name": "detector", "alias": "champion", "number": 1}


def test_inside_a_project_the_alias_is_set_under_the_exposed_name(modelreg, archive):
    modelreg("push", archive, "--name", "detector", "--version", "v1", "--project", "shop", "--alias", "champion")

    assert modelreg.arguments_of("set_alias")["name"] == "shop.detector"


def test_an_alias_that_fails_leaves_the_id_and_says_how_to_set_it(modelreg, archive):
    modelreg.fail("set_alias", Conflict("Somebody was faster."))

    ran = modelreg("push", archive, "--name", "detector", "--version", "v1", "--alias", "champion")

    assert (ran.exit_code, ran.lines) == (4, [modelreg.registry.models[0].id])
    assert "modelreg alias set NAME champion 1" in ran.stderr


def test_a_conflict_with_an_unfinished_upload_tells_how_to_drop_it(modelreg, archive):
    modelreg.fail("register", Conflict("Taken.", holder="x", upload_id="01UPLOAD"))

    ran = modelreg("push", archive, "--name", "detector", "--version", "v1")

    assert (ran.exit_code, ran.stdout) == (4, "")
    assert "modelreg uploads abort 01UPLOAD" in ran.stderr


def test_a_refused_archive_ends_with_the_servers_words(modelreg, archive):
    modelreg.fail("register", InvalidArchive("An entry is encrypted."))

    ran = modelreg("push", archive, "--name", "detector", "--version", "v1")

    assert ran.exit_code == 5
    assert ran.stderr.splitlines()[-2] == "modelreg: An entry is encrypted."
    assert ran.stderr.splitlines()[-1].startswith("hint: ")


def test_an_interrupted_push_says_that_the_same_command_goes_on(modelreg, archive):
    modelreg.fail("register", KeyboardInterrupt())

    ran = modelreg("push", archive, "--name", "detector", "--version", "v1")

    assert (ran.exit_code, ran.stdout) == (130, "")
    assert "Type the same command again: it goes on where it stopped." in ran.stderr


@pytest.mark.parametrize(
    ("option", "value"), [("--tag", "no-equals"), ("--tag", "=value"), ("--score", "high"), ("--nonsense", "1")]
)
def test_options_that_cannot_be_understood_are_errors_of_usage(modelreg, archive, option, value):
    ran = modelreg("push", archive, "--name", "detector", "--version", "v1", option, value)

    assert (ran.exit_code, ran.stdout) == (2, "")
    assert ran.stderr.splitlines()[-1] == "hint: `modelreg push --help` shows how."


@pytest.mark.parametrize(("content", "code"), [("[1]", 5), ("{", 5), ("[" * 100_000, 5), (None, 8)])
def test_an_overview_that_is_no_object_is_refused_before_anything_is_sent(modelreg, archive, tmp_path, content, code):
    overview = tmp_path / "overview.json"
    if content is not None:
        overview.write_text(content)

    ran = modelreg("push", archive, "--name", "detector", "--version", "v1", "--overview", overview)

    assert ran.exit_code == code
    assert "overview.json" in ran.stderr
    assert modelreg.registry.calls == []


def test_dropping_an_upload_prints_nothing_but_talk(modelreg):
    ran = modelreg("uploads", "abort", "01UPLOAD")

    assert (ran.exit_code, ran.stdout) == (0, "")
    assert modelreg.arguments_of("abort_upload") == {"upload_id": "01UPLOAD"}


def test_dropping_an_upload_that_is_not_there_is_not_found(modelreg):
    modelreg.fail("abort_upload", NotFound("No such upload."))

    assert modelreg("uploads", "abort", "01UPLOAD").exit_code == 3


def test_a_name_that_collides_is_found_by_the_id_of_its_registered_model(modelreg):
    from modelreg.targets import registered_name

    modelreg.registry.add(model(registered_model_id="01OTHER"))
    known = modelreg.registry.add(model(2, name="detector~Q69G5FAV", registered_model_id="01ARZ3NDEKTSV4RRFFQ69G5FAV"))

    assert registered_name(modelreg.registry, known.model_copy(update={"name": "elsewhere"})) == "detector"
