"""docs/security.md, where a program can tell: the headers, the limits and the tests that it names."""

import ast
import re

from chalicelib.forms import MAX_FIELDS, MAX_FORM_BYTES
from chalicelib.registry.archives import MAX_INFLATED_BYTES, MAX_RATIO
from chalicelib.registry.models import MAX_METADATA_BYTES, MAX_NESTING
from chalicelib.registry.zip_reader import MAX_ENTRIES
from chalicelib.surface import MAX_JSON_BYTES, PROTECTION
from chalicelib.surfaces.uploads import MAX_COMPLETION_BYTES
from tests.conftest import ROOT

PAGE = (ROOT / "docs/security.md").read_text()


def test_the_page_tells_of_every_header_that_protects_and_of_no_other() -> None:
    told = dict(re.findall(r"^\| `([A-Z][\w-]+)` \| `([^`]+)` \|", PAGE, re.M))

    assert told == PROTECTION


def test_the_page_tells_the_limits_that_are_kept() -> None:
    for limit in (
        f"{MAX_FORM_BYTES / 1e6} MB for a form",
        f"{MAX_JSON_BYTES // 1024**2} MiB for JSON",
        f"{MAX_COMPLETION_BYTES // 1024**2} MiB for a completion",
        f"{MAX_FIELDS} fields",
        f"{MAX_METADATA_BYTES // 1024} KiB of metadata",
        f"{MAX_NESTING} levels",
        f"{MAX_ENTRIES:,} entries",
        f"{MAX_INFLATED_BYTES // 1024**3} GiB",
        f"{MAX_RATIO} times",
    ):
        assert limit in PAGE


def test_every_test_that_is_named_tests_something() -> None:
    named = set(re.findall(r"`(tests/[\w/]+\.py)`", PAGE))

    assert len(named) > 15
    for name in named:
        functions = [
            node for node in ast.walk(ast.parse((ROOT / name).read_text())) if isinstance(node, ast.FunctionDef)
        ]
        assert any(function.name.startswith("test_") for function in functions), name
