"""docs/operations.md, where a program can tell: what the doctor finds."""

import re

from chalicelib.registry.doctor import Finding, Kind, Report
from tests.conftest import ROOT
from tests.log_lines import FIELDS

PAGE = (ROOT / "docs/operations.md").read_text()


def doctor_section() -> str:
    section = re.search(r"^## Is everything whole\? \(doctor\)\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S)
    assert section
    return section[1]


def test_the_page_tells_of_every_kind_of_finding_and_of_no_other() -> None:
    told = re.findall(r"^\| `.*\|$", doctor_section(), re.M)

    assert told == [f"| `{kind}` | {kind.meaning} | {kind.outcome} |" for kind in Kind]


def test_the_page_tells_the_fields_of_an_answer() -> None:
    assert re.findall(r'\{("findings".*?\})`', doctor_section())
    for name in (*Report.model_fields, *Finding.model_fields):
        assert f'"{name}"' in doctor_section()


def test_the_log_knows_every_kind_of_finding() -> None:
    assert FIELDS["kind"]["enum"] == [kind.value for kind in Kind]
