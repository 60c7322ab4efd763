"""The pages are true where a program can tell."""

import re
from pathlib import Path

import pytest

from chalicelib.store import schema

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "infra").rglob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())

    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]

    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_make_target_that_a_page_names_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    named = set(re.findall(r"(?:`|^)make ([a-z-]+)", page.read_text(), re.MULTILINE))

    assert named <= targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    named = re.findall(r"`((?:chalicelib|infra|tests|docs)/[\w./-]+\.\w+)", page.read_text())

    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_tables_page_has_the_tables_of_the_schema() -> None:
    rows = [line for line in (schema.__doc__ or "").splitlines() if line.startswith("|")]
    page = (ROOT / "docs/tables.md").read_text().splitlines()

    assert len(rows) > 6
    assert [row for row in rows if row not in page] == []
