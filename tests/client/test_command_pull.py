"""`modelreg pull`: what is named, what is written, and what is left alone."""

import zipfile
from pathlib import Path

import pytest
from modelreg import Corrupt

from tests.client.command_stage import Stage, model, stage, zip_of

FILES = {"model.xml": b"<net/>", "weights/model.bin": b"weights"}


@pytest.fixture
def modelreg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    return stage(tmp_path, monkeypatch)


@pytest.fixture
def detector(modelreg: Stage):
    return modelreg.registry.add(model(), zip_of(FILES))


def test_pull_writes_one_file_and_prints_its_path(modelreg, detector, tmp_path):
    ran = modelreg("pull", "detector", tmp_path / "models")

    path = tmp_path / "models/model.zip"
    assert (ran.exit_code, ran.lines) == (0, [str(path)])
    assert path.read_bytes() == zip_of(FILES)


def test_a_file_that_is_there_already_is_up_to_date(modelreg, detector, tmp_path):
    modelreg("pull", "detector", tmp_path)

    ran = modelreg("pull", "detector", tmp_path)

    assert (ran.exit_code, ran.lines) == (0, [str(tmp_path / "model.zip")])
    assert ran.stderr == "up to date\n"
    assert modelreg.registry.downloads == 1


def test_another_file_stays_unless_force_is_given(modelreg, detector, tmp_path):
    (tmp_path / "model.zip").write_bytes(b"mine")

    refused = modelreg("pull", "detector", tmp_path)
    forced = modelreg("pull", "detector", tmp_path, "--force")

    assert (refused.exit_code, refused.stdout, forced.exit_code) == (8, "", 0)
    assert "--force" in refused.stderr
    assert (tmp_path / "model.zip").read_bytes() == zip_of(FILES)


def test_pull_by_id_asks_for_no_name(modelreg, detector, tmp_path):
    ran = modelreg("pull", "--id", detector.id, tmp_path)

    assert ran.exit_code == 0
    assert "resolve" not in [method for method, _ in modelreg.registry.calls]


def test_pull_takes_an_id_for_a_name_unless_told_otherwise(modelreg, detector, tmp_path):
    assert modelreg("pull", detector.id, tmp_path).exit_code == 3


def test_the_precision_chooses(modelreg, detector, tmp_path):
    modelreg("pull", "detector:v1", tmp_path, "--precision", "int8")

    assert modelreg.arguments_of("resolve")["precision"] == "int8"


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("a:b", "a:b"),
        ("a:b", "a:b:v1"),
        ("a:b", "a:b@champion"),
        ("a@b", "a@b"),
        ("a@b", "a@b:v1"),
        ("user@host: x y", "user@host: x y"),
        (":v1", ":v1"),
        ("v1:", "v1:"),
    ],
)
def test_names_may_hold_the_separators(modelreg, tmp_path, name, target):
    found = modelreg.registry.add(model(name=name))
    modelreg.registry.alias_numbers["champion"] = 1

    ran = modelreg("pull", target, tmp_path, "--json")

    assert ran.exit_code == 0
    assert ran.document["model"]["id"] == found.id


def test_what_is_not_found_is_told_of_the_likeliest_reading(modelreg, detector, tmp_path):
    ran = modelreg("pull", "detector:v9", tmp_path)

    assert ran.exit_code == 3
    assert "modelreg: detector has no such version. Its versions: v1 (fp16)." in ran.stderr


def test_extract_unpacks_into_name_and_version(modelreg, detector, tmp_path):
    ran = modelreg("pull", "detector", tmp_path, "--extract")

    folder = tmp_path / "detector/v1"
    assert (ran.exit_code, ran.lines) == (0, [str(folder)])
    assert {path: (folder / path).read_bytes() for path in FILES} == FILES
    assert [path.name for path in (tmp_path / "detector").iterdir()] == ["v1"]


def test_extracted_files_that_are_there_already_are_up_to_date(modelreg, detector, tmp_path):
    modelreg("pull", "detector", tmp_path, "--extract")

    ran = modelreg("pull", "detector", tmp_path, "--extract")

    assert (ran.exit_code, ran.stderr) == (0, "up to date\n")
    assert modelreg.registry.downloads == 1


@pytest.mark.parametrize("content", [b"weightz", b"short", None])
def test_extracted_files_that_were_changed_are_replaced_by_force_only(modelreg, detector, tmp_path, content):
    modelreg("pull", "detector", tmp_path, "--extract")
    changed = tmp_path / "detector/v1/weights/model.bin"
    changed.unlink()
    if content is not None:
        changed.write_bytes(content)

    refused = modelreg("pull", "detector", tmp_path, "--extract")
    forced = modelreg("pull", "detector", tmp_path, "--extract", "--force")

    assert (refused.exit_code, forced.exit_code) == (8, 0)
    assert changed.read_bytes() == b"weights"
    assert [path.name for path in (tmp_path / "detector").iterdir()] == ["v1"]


def test_a_single_file_is_extracted_as_itself(modelreg, tmp_path):
    modelreg.registry.add(model(), b"onnx", "model.onnx")

    first = modelreg("pull", "detector", tmp_path, "--extract")
    again = modelreg("pull", "detector", tmp_path, "--extract")

    assert (first.exit_code, again.stderr) == (0, "up to date\n")
    assert (tmp_path / "detector/v1/model.onnx").read_bytes() == b"onnx"


def test_a_name_that_would_lead_out_of_the_folder_does_not(modelreg, tmp_path):
    modelreg.registry.add(model(name="../../outside", version=".."), zip_of(FILES))

    ran = modelreg("pull", "../../outside", tmp_path / "models", "--extract")

    assert ran.lines == [str(tmp_path / "models/%2E.%2F..%2Foutside/%2E.")]
    assert [path.name for path in tmp_path.iterdir() if path.name != "home"] == ["models"]


def test_an_archive_with_a_path_that_leads_out_is_not_unpacked(modelreg, tmp_path):
    modelreg.registry.add(model(), zip_of({"../evil": b"1"}))

    ran = modelreg("pull", "detector", tmp_path / "models", "--extract")

    assert ran.exit_code == 5
    assert list((tmp_path / "models/detector").iterdir()) == []
    assert not (tmp_path / "models/evil").exists()


def test_an_archive_that_is_damaged_leaves_what_was_there(modelreg, detector, tmp_path):
    modelreg("pull", "detector", tmp_path, "--extract")
    content = zip_of({"model.bin": b"other weights"})
    modelreg.registry.models.clear()
    modelreg.registry.add(model(), content)
    modelreg.registry.content[detector.id] = content.replace(b"other", b"OTHER")

    ran = modelreg("pull", "detector", tmp_path, "--extract", "--force")

    assert ran.exit_code == 9
    assert (tmp_path / "detector/v1/weights/model.bin").read_bytes() == b"weights"


def test_an_interrupted_unpacking_keeps_the_download(modelreg, detector, tmp_path, monkeypatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("modelreg.unpack.write_new", interrupt)
        interrupted = modelreg("pull", "detector", tmp_path, "--extract")
    again = modelreg("pull", "detector", tmp_path, "--extract")

    assert (interrupted.exit_code, again.exit_code, modelreg.registry.downloads) == (130, 0, 1)
    assert [path.name for path in (tmp_path / "detector").iterdir()] == ["v1"]


def test_what_a_killed_pull_left_is_tidied_up(modelreg, detector, tmp_path):
    modelreg("pull", "detector", tmp_path, "--extract")
    (tmp_path / f"detector/.{detector.id}.pulled").write_bytes(b"left")
    (tmp_path / f"detector/.{detector.id}.old").mkdir()

    modelreg("pull", "detector", tmp_path, "--extract")

    assert [path.name for path in (tmp_path / "detector").iterdir()] == ["v1"]


def test_two_pulls_do_not_work_in_the_same_folder_at_once(modelreg, detector, tmp_path):
    from modelreg.commands.fetch import _alone

    with _alone(tmp_path / "detector"):
        ran = modelreg("pull", "detector", tmp_path, "--extract")

    assert ran.exit_code == 8
    assert "Another process is pulling" in ran.stderr


def test_bytes_that_differ_from_what_was_sent_have_an_exit_code_of_their_own(modelreg, detector, tmp_path):
    modelreg.fail("download", Corrupt("What arrived is something else."))

    assert modelreg("pull", "detector", tmp_path).exit_code == 9


def test_an_interrupted_pull_says_that_the_same_command_goes_on(modelreg, detector, tmp_path):
    modelreg.fail("download", KeyboardInterrupt())

    ran = modelreg("pull", "detector", tmp_path)

    assert ran.exit_code == 130
    assert "it goes on where it stopped" in ran.stderr


def test_a_folder_that_cannot_be_written_is_a_local_problem(modelreg, detector, tmp_path):
    (tmp_path / "models").write_text("a file")

    ran = modelreg("pull", "detector", tmp_path / "models", "--extract")

    assert ran.exit_code == 8
    assert str(tmp_path / "models") in ran.stderr


def test_the_archive_stays_a_zip_that_others_can_read(modelreg, detector, tmp_path):
    modelreg("pull", "detector", tmp_path)

    with zipfile.ZipFile(tmp_path / "model.zip") as archive:
        assert archive.testzip() is None
