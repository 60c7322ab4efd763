"""The README's first model, typed as it stands there."""

import re
import subprocess
from pathlib import Path

from tests.package.test_docs import ROOT
from tests.stack import Stack


def test_a_first_model_in_five_lines(stack: Stack, tmp_path: Path) -> None:
    page = (ROOT / "README.md").read_text()
    section = page.split("## A first model")[1]
    lines = re.search(r"```\n(.*?)```", section, re.DOTALL)
    assert lines
    commands = re.sub(r"^URL=.*$", f"URL={stack.url}", lines[1], count=1, flags=re.MULTILINE)

    run = subprocess.run(
        ["bash", "-euc", commands], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )

    assert run.returncode == 0, run.stderr
    assert '"name":"tiny"' in run.stdout
    assert '"format":"OpenVINO"' in run.stdout
    assert run.stdout.rstrip().endswith("the same bytes")
