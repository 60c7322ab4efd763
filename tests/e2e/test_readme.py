"""What the pages tell people to type, typed as it stands there."""

import os
import re
import subprocess
from pathlib import Path

from tests.package.test_docs import ROOT
from tests.stack import Stack


def typed(page: str, heading: str, stack: Stack, folder: Path) -> subprocess.CompletedProcess[str]:
    """What the commands of a section print, with another base URL and this checkout's environment."""
    section = (ROOT / page).read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    commands = "".join(re.findall(r"```\n(.*?)```", section, re.DOTALL))
    commands = re.sub(r"^URL=.*$", f"URL={stack.url}", commands, count=1, flags=re.MULTILINE)
    # The pages are typed in the checkout.
    commands = commands.replace('"$PWD/.venv/bin:', f'"{ROOT}/.venv/bin:')
    run = subprocess.run(
        ["bash", "-euc", commands],
        cwd=folder,
        env={**os.environ, "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run


def test_a_first_model(stack: Stack, tmp_path: Path) -> None:
    said = typed("README.md", "A first model", stack, tmp_path).stdout

    assert '"name":"tiny"' in said
    assert '"format":"OpenVINO"' in said
    assert "the same bytes\n" in said
    folder = tmp_path / said.rstrip().splitlines()[-1]
    assert (folder / "model.bin").read_bytes() == bytes(64)


def test_an_upload_by_hand(stack: Stack, tmp_path: Path) -> None:
    said = typed("docs/large-models.md", "How it works", stack, tmp_path).stdout

    assert '"name":"by hand"' in said
    assert '"status":"READY"' in said
