"""What the README shows of its first command is what the command says."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


@pytest.mark.campaign
def test_the_first_command_says_what_the_readme_shows(tmp_path):
    """To the last figure: eight folds of twenty epochs, three times over."""
    text = README.read_text(encoding="utf-8")
    _, command = re.search(r"^    (pip .*) && (domainemo .*)$", text, re.M).groups()
    section = text.split("## What the first command shows\n")[1].split("\nThe rec")[0]
    shown = [line[4:] for line in section.splitlines() if line.strip()]
    program, *arguments = shlex.split(command)
    said = subprocess.run(
        [sys.executable, "-c", "from domainemo.cli import main; main()", *arguments],
        cwd=tmp_path,
        env={"COLUMNS": "100", "CUDA_VISIBLE_DEVICES": "", "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    lines = [line.rstrip() for line in said.splitlines() if line.strip()]
    assert program == "domainemo"
    assert lines[:-1] == shown
    assert lines[-1].startswith("Everything is in runs/")
