"""docs/geti.md against the code: what it says that is said, is said, and no reason to skip a model is missing."""

import ast
import re

import pytest

from chalicelib.geti import packages, selection
from chalicelib.settings import Settings
from tests.conftest import ROOT

PAGE = (ROOT / "docs/geti.md").read_text()
SOURCES = [
    *(ROOT / "chalicelib/geti").glob("*.py"),
    ROOT / "chalicelib/surfaces/projects.py",
    ROOT / "chalicelib/wiring_geti.py",
]
GAP = "..."


def texts_in(source: str) -> set[str]:
    """Every text in a module; what a format string puts in is a gap."""
    nodes = list(ast.walk(ast.parse(source)))
    parts = {part for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
    return {text for node in nodes if node not in parts and len(text := _text(node)) > len(GAP)}


def _text(node: ast.AST) -> str:
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(_text(part) if isinstance(part, ast.Constant) else GAP for part in parts)
    return ""


def said() -> list[str]:
    """The first cells of the tables of what is said, without the statuses and settings in them."""
    tables = re.findall(r"^\| (?:why|what is said) \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", PAGE, re.M)
    return [cell for table in tables for cell in re.findall(r"^\| `([^`]+)` \|", table, re.M)]


CODE = [re.sub(r"\s+", " ", text) for source in SOURCES for text in texts_in(source.read_text())]


@pytest.mark.parametrize("text", said())
def test_what_the_page_says_is_said_is_said(text: str) -> None:
    parts = [re.escape(part.strip(" :")) for part in text.split(GAP) if part.strip(" .:")]
    pattern = re.compile(".*".join(parts))

    assert any(pattern.search(told) for told in CODE)


def test_every_reason_to_skip_a_model_is_on_the_page() -> None:
    source = (ROOT / "chalicelib/geti/selection.py").read_text()
    reasons = {text for text in texts_in(source) if re.match(r"(it|its|Geti) ", text)}
    told = said()

    missing = [
        reason
        for reason in reasons
        if not any(re.fullmatch(".*".join(map(re.escape, row.split(GAP))), reason) for row in told)
    ]

    assert len(reasons) > 8
    assert missing == []
    assert selection.PURGED in told


def test_every_setting_of_geti_that_chooses_models_is_on_the_page() -> None:
    named = set(re.findall(r"`(GETI_[A-Z_]+)", PAGE))
    known = {name.upper() for name in Settings.model_fields if name.startswith("geti_")}

    assert named - known == {"GETI_SYNC_SCHEDULE"} & named
    assert {name for name in known if name.startswith("GETI_SYNC_")} <= named


def test_every_tag_is_on_the_page() -> None:
    source = (ROOT / "chalicelib/geti/packages.py").read_text()
    tags = {text for text in texts_in(source) if re.fullmatch(r"geti\.\w+", text)} | {packages.KEY_TAG}

    assert tags | {"geti.origin_state"} == set(re.findall(r"`(geti\.\w+)`", PAGE))
