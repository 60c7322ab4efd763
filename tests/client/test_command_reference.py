"""docs/command.md against the command itself, in both directions."""

import re
from collections.abc import Iterator
from typing import Any

import typer.main
from modelreg import cli, exits

from tests.conftest import ROOT

PAGE = (ROOT / "docs/command.md").read_text()
HELP = "Show this message and exit."  # Typer adds it to every command; the page says so once


def commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, f"{path} {name}")


def parameters(command: Any) -> dict[str, str]:
    """Help by name, as a row of the page has them."""
    rows = {}
    for parameter in command.params:
        if parameter.help == HELP:
            continue
        if parameter.param_type_name == "argument":
            name = parameter.metavar if parameter.required else f"[{parameter.metavar}]"
        else:
            name = ", ".join(sorted(parameter.opts, key=len))
            if parameter.metavar:
                name += f" {parameter.metavar}"
            if parameter.required:
                name += " (required)"
        rows[name] = parameter.help
    return rows


def in_code() -> dict[str, tuple[str, dict[str, str]]]:
    tree = commands(typer.main.get_command(cli.app), "modelreg")
    return {path: (" ".join((command.help or "").split()), parameters(command)) for path, command in tree}


def on_page() -> dict[str, tuple[str, dict[str, str]]]:
    sections = re.findall(r"^## `(modelreg[^`]*)`\n\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S)
    return {path: (_words(text), _rows(text)) for path, text in sections}


def _words(section: str) -> str:
    """What a section says before its table or examples."""
    return " ".join(re.split(r"^(?:\||```)", section, maxsplit=1, flags=re.M)[0].split())


def _rows(section: str) -> dict[str, str]:
    return dict(re.findall(r"^\| `([^`]+)` \| (.*) \|$", section, re.M))


def test_every_command_is_on_the_page_and_no_other():
    assert list(on_page()) == list(in_code())


def test_every_command_is_described_as_its_help_does():
    assert {path: words for path, (words, _) in on_page().items()} == {
        path: words for path, (words, _) in in_code().items()
    }


def test_every_option_is_on_the_page_with_the_text_of_its_help_and_no_other():
    assert {path: rows for path, (_, rows) in on_page().items()} == {
        path: rows for path, (_, rows) in in_code().items()
    }


def test_every_exit_code_is_on_the_page_and_no_other():
    told = re.findall(r"^\| (\d+) \| (.*) \|$", PAGE, re.M)

    assert told == [(str(row.code), row.meaning) for row in exits.EXITS]


def test_every_exit_code_is_in_the_help():
    told = re.findall(r"^ +(\d+)  (.*)$", exits.epilog(), re.M)

    assert told == [(str(row.code), row.meaning) for row in exits.EXITS]


def test_every_variable_that_is_read_is_on_the_page():
    sources = "\n".join(path.read_text() for path in (ROOT / "client/modelreg").rglob("*.py"))

    assert set(re.findall(r"MODELREG_[A-Z]+", sources)) <= set(re.findall(r"`(MODELREG_[A-Z]+)`", PAGE))
