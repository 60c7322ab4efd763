"""The pages about the client are true where a program can tell: methods, errors, and the commands people copy."""

import re
import shlex
from inspect import getmembers, isclass, isfunction

import modelreg
import pytest
import typer.main
from modelreg import Registry, RegistryError, cli

from tests.conftest import ROOT

PAGES = sorted([ROOT / "README.md", ROOT / "client/README.md", *(ROOT / "docs").glob("*.md")])
CLIENT = (ROOT / "docs/client.md").read_text()


def copied() -> list[tuple[str, str]]:
    """Every command line of ours in a block of code, with its page."""
    blocks = [(page.name, block) for page in PAGES for block in re.findall(r"```\w*\n(.*?)```", page.read_text(), re.S)]
    return [
        (page, line[1])
        for page, block in blocks
        for line in re.finditer(r"^[ \t]*(?:model=\$\()?(modelreg .*)$", block.replace("\\\n", " "), re.M)
    ]


@pytest.mark.parametrize(("page", "line"), copied())
def test_a_command_that_a_page_shows_has_these_options(page: str, line: str):
    command = typer.main.get_command(cli.app)
    words = shlex.split(re.split(r" \| |#|\)$", line)[0])[1:]
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    known = {option for parameter in command.params for option in parameter.opts}

    assert {word.partition("=")[0] for word in words if word.startswith("--")} <= known | {"--help"}


def test_every_method_of_the_client_is_on_its_page_and_no_other():
    methods = {name for name, _ in getmembers(Registry, isfunction) if not name.startswith("_")}

    told = set(re.findall(r"`(\w+)\(", CLIENT)) | {"upload"}

    assert methods - {"close"} <= told
    assert told <= methods | {"Registry", "start", "advance", "note", "finish"}


def test_every_error_of_the_client_is_on_its_page():
    public = [getattr(modelreg, name) for name in modelreg.__all__]
    errors = {one.__name__ for one in public if isclass(one) and issubclass(one, RegistryError)}

    assert errors <= set(re.findall(r"`(\w+)`", CLIENT))
