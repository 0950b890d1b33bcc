"""What the README shows of its first command is what the command says, and draws."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import domainemo as de
from domainemo.reports.style import save

README = Path(__file__).parents[1] / "README.md"


def marks(path):
    """Return where a figure in SVG has its dots and ticks, in their order."""
    places = re.findall(r'<use [^>]*x="([\d.]+)" y="([\d.]+)"', path.read_text("utf-8"))
    return np.asarray(places, dtype=float)


@pytest.mark.campaign
def test_the_first_command_says_and_draws_what_the_readme_shows(tmp_path):
    """To the last figure: eight folds of twenty epochs, three times over.

    The lines shown follow one another in what is said, to its end; those before them
    are a table with a row for each person, which the README says it leaves out.
    """
    text = README.read_text(encoding="utf-8")
    _, command = re.search(r"^    (pip .*) && (domainemo .*)$", text, re.M).groups()
    section = text.split("after a line for each person:\n")[1].split("\nThe rec")[0]
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
    *lines, last = [line.rstrip() for line in said.splitlines() if line.strip()]
    assert program == "domainemo" and len(shown) > 10
    assert lines[-len(shown) :] == shown
    heads, people = lines[: -len(shown) - 8], lines[-len(shown) - 8 : -len(shown)]
    # Names of methods may take two lines.
    assert 1 <= len(heads) <= 2 and any(line.startswith("balanced") for line in heads)
    assert [line.split("  ")[0] for line in people] == [
        f"subject {number}" for number in range(1, 9)
    ]
    assert last.startswith("Everything is in runs/")

    (figure,) = re.findall(r"\]\((docs/first-run\.svg)\)", text)
    (run,) = (tmp_path / "runs").iterdir()
    save(lambda: de.Results.load(run).plot(), tmp_path / "drawn.svg")
    drawn = marks(tmp_path / "drawn.svg")
    assert len(drawn) > 5 * 8  # five methods, eight people
    np.testing.assert_allclose(drawn, marks(README.parent / figure), atol=0.5)
