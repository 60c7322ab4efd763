"""`modelreg ls`, `show`, `search` and `manifest`."""

import json
import re
from pathlib import Path

import pytest
from modelreg import Model, Unavailable

from tests.client.command_stage import Stage, model, stage, zip_of

ESCAPE = re.compile("\x1b\\[[0-9;]*m")


@pytest.fixture
def modelreg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    return stage(tmp_path, monkeypatch)


@pytest.fixture
def three(modelreg: Stage) -> list[Model]:
    return [modelreg.registry.add(model(number)) for number in (1, 2, 3)]


def test_a_list_is_tab_separated_where_nobody_watches(modelreg, three):
    ran = modelreg("ls")

    assert ran.lines[0].split("\t") == [
        three[0].id, "detector", "v1", "1", "fp16", "ONNX", "7", "", "2026-01-02 03:04:05.000000 UTC",
    ]  # fmt: skip
    assert (len(ran.lines), ran.stderr) == (3, "")


def test_a_list_is_a_json_array_with_the_fields_of_the_api(modelreg, three):
    assert modelreg("ls", "--json").document == [known.model_dump(mode="json") for known in three]


def test_an_empty_list_is_an_empty_json_array(modelreg):
    assert modelreg("ls", "--json").document == []


def test_rows_are_printed_as_they_arrive(modelreg, three, monkeypatch):
    def broken(**_: object):
        yield from three
        raise Unavailable("The registry is busy.")

    monkeypatch.setattr(modelreg.registry, "list", broken)

    plain, as_json = modelreg("ls"), modelreg("ls", "--json")

    assert (plain.exit_code, len(plain.lines)) == (7, 3)
    with pytest.raises(json.JSONDecodeError):  # so that nobody takes half a list for the whole
        _ = as_json.document


def test_a_terminal_gets_a_table_with_headings_and_sizes_for_people(modelreg, three):
    modelreg.show_terminal()

    ran = modelreg("ls")

    assert "ID" in ran.lines[0]
    assert "SIZE" in ran.lines[0]
    assert "7 B" in ran.lines[1]
    assert "2026-01-02 03:04" not in ran.stdout


def test_a_narrow_terminal_does_without_some_columns_but_cuts_nothing_off(modelreg, three):
    modelreg.show_terminal()
    modelreg.environment["COLUMNS"] = "60"

    ran = modelreg("ls", "--limit", "1")

    assert "CREATED" not in ran.stdout
    assert max(len(ESCAPE.sub("", line)) for line in ran.lines) <= 60
    assert "…" not in ran.stdout


def test_colour_is_off_where_no_color_is_set(modelreg, three):
    modelreg.show_terminal()

    coloured = modelreg("ls")
    modelreg.environment["NO_COLOR"] = "1"
    modelreg.environment["TERM"] = "dumb"
    plain = modelreg("ls")

    assert "\x1b[" in coloured.stdout
    assert "\x1b" not in plain.stdout


@pytest.mark.parametrize("arguments", [("ls",), ("show", "evil"), ("search",), ("ls", "--json"), ("manifest", "evil")])
@pytest.mark.parametrize("on_terminal", [True, False])
def test_what_the_server_sends_never_reaches_a_terminal_raw(modelreg, arguments, on_terminal):
    evil = "\x1b[2J\x9b31m\x7f\t\n\u202e"
    modelreg.registry.add(
        model(name="evil", version=evil, description=evil, precision=[evil], tags={evil: evil}, format=evil),
        zip_of({"\x9b\u202e": b""}),
    )
    if on_terminal:
        modelreg.show_terminal()
        modelreg.environment["NO_COLOR"] = "1"

    ran = modelreg(*arguments)

    assert ran.exit_code == 0
    assert not set(ran.stdout.replace("\x1b[1m", "").replace("\x1b[0m", "")) & set("\x1b\x9b\x7f\u202e")
    assert not set(ran.stderr) & set("\x1b\x9b\x7f\u202e")


def test_the_versions_of_a_registered_model_are_listed_newest_first(modelreg, three):
    modelreg.registry.add(model(4, name="other"))

    assert [line.split("\t")[2] for line in modelreg("ls", "detector").lines] == ["v3", "v2", "v1"]
    assert len(modelreg("ls", "detector", "--limit", "1").lines) == 1


def test_registered_models_are_listed_by_name(modelreg, three):
    modelreg.registry.alias_numbers = {"champion": 2}

    assert modelreg("ls", "--names").stdout == "detector\tchampion=2\t\n"


def test_names_and_a_name_do_not_go_together(modelreg):
    assert modelreg("ls", "detector", "--names").exit_code == 2


def test_search_hands_every_filter_on(modelreg, three):
    modelreg(
        *("search", "--name", "det", "--version", "v1", "--project", "p", "--category", "c", "--architecture", "a"),
        *("--precision", "fp", "--origin", "o", "--format", "f", "--tag", "team=vision", "--limit", "5"),
    )

    assert modelreg.arguments_of("search") == {
        "limit": 5, "tags": {"team": "vision"}, "name": "det", "version": "v1", "project_name": "p", "category": "c",
        "architecture": "a", "precision": "fp", "origin": "o", "format": "f",
    }  # fmt: skip


def test_a_search_that_finds_nothing_says_so_and_is_no_error(modelreg):
    ran = modelreg("search", "--name", "nothing")

    assert (ran.exit_code, ran.stdout, ran.stderr) == (0, "", "nothing found\n")


def test_show_prints_a_field_a_line(modelreg, three):
    lines = modelreg("show", "detector:v2").lines

    assert f"id\t{three[1].id}" in lines
    assert "description\t" in lines


def test_show_spares_a_terminal_what_has_no_value(modelreg, three):
    modelreg.show_terminal()

    assert "description" not in modelreg("show", "detector").stdout


def test_show_finds_an_id_where_no_name_is_so(modelreg, three):
    ran = modelreg("show", three[0].id, "--json")

    assert ran.document["id"] == three[0].id


def test_a_name_wins_over_an_id_that_is_spelled_like_it(modelreg, three):
    named = modelreg.registry.add(model(9, name=three[0].id))

    assert modelreg("show", three[0].id, "--json").document["id"] == named.id
    assert modelreg("show", "--id", three[0].id, "--json").document["id"] == three[0].id


def test_show_tells_of_a_registered_model_without_its_versions(modelreg, three):
    document = modelreg("show", "detector", "--model", "--json").document

    assert document["registered_model_id"] == "01ARZ3NDEKTSV4RRFFQ69G5FAV"
    assert "versions" not in document


def test_a_manifest_lists_the_files_and_talks_of_the_rest(modelreg):
    modelreg.registry.add(model(), zip_of({"model.xml": b"<net/>"}))

    ran = modelreg("manifest", "detector")

    assert ran.lines[0].startswith("model.xml\t6\t")
    assert ran.stderr.startswith("model.zip, ")


def test_a_manifest_as_json_is_one_document(modelreg):
    modelreg.registry.add(model(), zip_of({"model.xml": b"<net/>"}))

    document = modelreg("manifest", "detector", "--json").document

    assert (document["file_count"], document["files"][0]["path"]) == (1, "model.xml")
