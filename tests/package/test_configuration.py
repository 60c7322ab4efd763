"""docs/configuration.md against what it tells of: settings.py, the parameters of the template, the Makefile."""

import re
from typing import Any

import pytest

from chalicelib.settings import Settings
from tests.conftest import ROOT, template_resource

PAGE = (ROOT / "docs/configuration.md").read_text()
Row = tuple[str, str]


def table(heading: str) -> dict[str, Row]:
    """Default and meaning by name, from the table under a heading. An empty default stands as a dash."""
    section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S)
    assert section, f"no section {heading}"
    rows = re.findall(r"^\| `([^`]+)` \| (.*?) \| (.*) \|$", section[1], re.M)
    return {name: (default.strip("`"), meaning) for name, default, meaning in rows}


def default_of(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "—" if value in (None, "", ()) else str(value)


def test_the_page_tells_of_every_setting_and_of_no_other():
    told = table("Settings of the service")

    assert told == {
        name.upper(): (
            "required" if field.is_required() else default_of(field.default),
            field.description,
        )
        for name, field in Settings.model_fields.items()
    }


def test_the_page_tells_of_every_parameter_of_the_template_and_of_no_other(template):
    told = table("Parameters of the template")

    assert told == {
        name: (default_of(parameter["Default"]), " ".join(parameter["Description"].split()))
        for name, parameter in template["Parameters"].items()
    }


def test_the_template_sets_every_setting_that_has_no_default():
    required = {name.upper() for name, field in Settings.model_fields.items() if field.is_required()}

    assert required <= set(template_resource("APIHandler")["Environment"]["Variables"])


def test_every_variable_that_the_template_sets_is_on_the_page():
    variables = set(template_resource("APIHandler")["Environment"]["Variables"])

    assert variables <= set(re.findall(r"`([A-Z][A-Z0-9_]+)`", PAGE))


@pytest.mark.parametrize("source", ["Makefile", "infra/local/runner.py"])
def test_the_page_tells_of_every_variable_of_make(source):
    text = (ROOT / source).read_text()
    fixed = {"MAKEFILE_LIST", *re.findall(r"^([A-Z_]+) :=", text, re.M)}
    used = {*re.findall(r"\$\(([A-Z_]+)\)", text), *re.findall(r'environment\.get\("([A-Z_]+)"\)', text)}

    told = table("Variables of make")

    assert used - fixed <= set(told), f"{source} reads {used - fixed - set(told)}"


def test_the_page_tells_of_no_variable_that_make_does_not_read():
    read = (ROOT / "Makefile").read_text() + (ROOT / "infra/local/runner.py").read_text()

    assert [name for name in table("Variables of make") if not re.search(rf"\b{name}\b", read)] == []
