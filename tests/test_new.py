"""`domainemo new`: what it writes passes the shipped checks, and nothing is lost."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from domainemo import registry
from domainemo.cli import main
from domainemo.registry import KINDS

# A name whose class would be called otherwise, and is registered by name.
NAMES = {kind: f"own-{kind}" for kind in KINDS} | {"adapter": "own-m3sda-2"}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder with a part of every kind."""
    folder = tmp_path_factory.mktemp("new")
    for kind, name in NAMES.items():
        domainemo("new", kind, name, "--folder", str(folder))
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def domainemo(*words):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["domainemo", *words])
        with pytest.raises(SystemExit) as ended:
            main()
    return ended.value.code or 0


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_passes_the_checks(kind, written, monkeypatch):
    monkeypatch.syspath_prepend(written)
    name = NAMES[kind]
    test = importlib.import_module(f"test_{name.replace('-', '_')}")
    (mark,) = test.test_contract.pytestmark
    assert mark.args[0] == "check" and len(mark.args[1]) > 3
    for each in mark.args[1]:
        test.test_contract(each)
    cls = mark.args[1][0].part
    assert cls.registered_name == name and cls.__module__ == name.replace("-", "_")
    del registry._classes[kind, name]
    del sys.modules[cls.__module__], sys.modules[test.__name__]


def test_what_is_written_is_clean(written):
    """By the rules of this repository, names that are as long as these given."""
    ruff = [sys.executable, "-m", "ruff"]
    configuration = f"--config={Path(__file__).parents[1] / 'pyproject.toml'}"
    for words in (["check", "--ignore=D103,D101"], ["format", "--check"]):
        done = subprocess.run(
            [*ruff, *words, configuration, "--no-cache", str(written)],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_it_says_what_to_run_next(here, capsys, monkeypatch):
    assert domainemo("new", "validators", "own-margin") == 0
    said = capsys.readouterr().out
    assert "    python -m pytest test_own_margin.py\n" in said
    use = "    domainemo adapt --validator own-margin --plugin own_margin.py\n"
    assert use in said
    assert domainemo("show", "own-margin", "--plugin", "own_margin.py") == 0
    assert "own-margin: a validator" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("adapter", "Mean_Alignment"), "such as 'mean-alignment'"),
        (("adapter", "2d"), "such as 'd'"),
        (("adapter", "-"), "such as 'mean-alignment'"),
        (("adapter", "../evil"), "such as 'evil'"),
        (("adapter", "dann"), "There is an adapter called 'dann' already"),
        (("adapter", "pytorch-adapt:MCD"), "cannot be the name"),
        (("validator", "oracle"), "stands for something else"),
        (("control", "all"), "stands for something else"),
        (("protocol", "random"), "which the file would hide"),
        (("protocol", "class"), "which the file would hide"),
        (("adapter", "adapter"), "something that its file uses"),
        (("adapter", "none-"), "such as 'none'"),
        (("study", "mine"), "a TOML file"),
        (("adaptor", "mine"), "Did you mean 'adapter'"),
    ],
)
def test_a_name_that_does_not_do_is_refused(words, expected, here, capsys):
    assert domainemo("new", *words) == 2
    assert expected in " ".join(capsys.readouterr().err.split())
    assert not os.listdir(here)


@pytest.mark.parametrize("there", ["own_idea.py", "test_own_idea.py"])
def test_nothing_is_overwritten(there, here, capsys):
    (here / there).write_text("mine", encoding="utf-8")
    assert domainemo("new", "adapter", "own-idea") == 2
    assert f"{there}: this exists" in capsys.readouterr().err
    assert os.listdir(here) == [there]
    assert (here / there).read_text(encoding="utf-8") == "mine"
