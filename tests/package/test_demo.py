"""The demos, which `make test` does not run: what they import is there where they run."""

import ast
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.simulators.geti import VALID_TOKEN

# Of the group `demo` in pyproject.toml, and what they bring along. In .venv-demo there is nothing else.
INSTALLED = {"numpy", "openvino", "requests"}


@pytest.mark.parametrize("path", sorted((ROOT / "demo").glob("*.py")), ids=lambda path: path.stem)
def test_a_demo_imports_what_is_installed_for_it_and_the_simulated_geti(path) -> None:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}

    ours = {name for name in names if name.split(".")[0] in ("demo", "tests")}

    assert {name.split(".")[0] for name in names - ours} <= sys.stdlib_module_names | INSTALLED
    assert {name for name in ours if name.startswith("tests")} <= {"tests.simulators.geti"}


def test_the_page_has_the_token_of_the_simulated_geti() -> None:
    assert f"export GETI_TOKEN={VALID_TOKEN} " in (ROOT / "docs/demo.md").read_text()


def test_the_simulated_geti_needs_nothing_that_is_installed() -> None:
    # -S: without what is installed; -I: without what the environment and the directory add.
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import tests.simulators.geti"

    run = subprocess.run([sys.executable, "-ISc", code], capture_output=True, text=True, check=False)

    assert run.stderr == ""
    assert run.returncode == 0
