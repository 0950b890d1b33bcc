"""What a release says of itself; copies of the repository that lack the links."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import domainemo

REPOSITORY = Path(__file__).parents[1]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]


def test_the_version_is_the_same_everywhere():
    citation = (REPOSITORY / "CITATION.cff").read_text()
    cited = re.search(r"^version: (.+)$", citation, re.MULTILINE)
    assert PROJECT["version"] == domainemo.__version__ == cited[1]


def test_the_lowest_set_is_the_floors_of_what_is_needed():
    """By hand: every `>=` of the project, but for the libraries of tests and site."""
    extras = PROJECT["optional-dependencies"]
    needed = [*PROJECT["dependencies"]]
    others = extras.keys() - {"test", "docs"}
    needed += [each for extra in others for each in extras[extra]]
    needed = [Requirement(each) for each in needed]
    lines = (REPOSITORY / "constraints-lowest.txt").read_text().splitlines()
    pinned = [Requirement(line) for line in lines if not line.startswith("#")]
    pinned = {each.name.lower(): str(each.specifier)[2:] for each in pinned}
    # What stands beside torch, and what an extra of psycopg brings.
    further = {"torchvision", "psycopg-binary"}
    assert pinned.keys() == {each.name.lower() for each in needed} | further
    for each in needed:
        version = pinned[each.name.lower()]
        floor = str(each.specifier).removeprefix(">=").removeprefix("==")
        assert version in each.specifier, each
        # Its first release for this Python may be a later one of the same series.
        assert version.split(".")[:2] == [*floor.split("."), "0"][:2], each


def test_hooks_are_lines_of_what_must_pass():
    hooks = (REPOSITORY / ".pre-commit-config.yaml").read_text()
    entries = re.findall(r"^ +entry: (.+)$", hooks, re.MULTILINE)
    assert len(entries) == 3
    assert {*entries} <= {*(REPOSITORY / ".ci/run").read_text().splitlines()}


@pytest.mark.parametrize(
    ("left", "found"), [("../adapters", "a file"), (None, "nothing")]
)
def test_a_copy_without_links_says_so(tmp_path, left, found):
    """Even where another copy is installed, whose folders would be taken."""
    package = tmp_path / "domainemo"
    package.mkdir()
    shutil.copy(REPOSITORY / "domainemo" / "__init__.py", package)
    if left:
        (package / "adapters").write_text(left)
    done = subprocess.run(
        [sys.executable, "-c", "import domainemo"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert f"{package / 'adapters'}: found {found} where a link" in done.stderr
    assert "`pip install -e .`" in done.stderr


def test_a_copy_with_folders_in_place_of_links_is_whole(tmp_path):
    package = tmp_path / "domainemo"
    package.mkdir()
    shutil.copy(REPOSITORY / "domainemo" / "__init__.py", package)
    for name in ("adapters", "protocols", "studies"):
        (package / name).mkdir()
        (package / name / "__init__.py").touch()
    subprocess.run(
        [sys.executable, "-c", "import domainemo, domainemo.studies"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        check=True,
    )
