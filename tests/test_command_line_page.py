"""The page on the command line: its commands run, and it names all that there are."""

import re
import shlex
import sys
from pathlib import Path

import pytest
import typer

from domainemo import registry
from domainemo.cli import health, main
from domainemo.cli.commands import app

PAGE = (Path(__file__).parents[1] / "docs" / "command-line.md").read_text("utf-8")
COMMAND = re.compile(r"^    domainemo (.*)$", re.MULTILINE)
TINY = "--set=data.subjects=3 --set=data.sessions=1 --set=data.trials=3 --epochs=1"


def test_its_commands_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recordings").mkdir()
    # Every library is imported by the tests of `doctor`; and a run is a small one.
    monkeypatch.setattr(health, "_libraries", lambda: ())
    for line in COMMAND.findall(PAGE):
        words = shlex.split(line)
        if words == ["--install-completion"]:  # which would change the user's shell
            continue
        if words[0] == "adapt" and "--help" not in words:
            words += ["--dry-run", *TINY.split()]
        with pytest.raises(SystemExit) as ended:
            monkeypatch.setattr(sys, "argv", ["domainemo", *words])
            main()
        assert not ended.value.code, line
    assert (tmp_path / "test_mean_pull.py").is_file()
    for key in [key for key in registry._classes if key[1] == "mean-pull"]:
        sys.modules.pop(registry._classes.pop(key).__module__)


def test_it_names_every_command():
    told = set(re.findall(r"`([a-z]+)`", PAGE.split("Exit codes")[0]))
    group = typer.main.get_group(app)
    assert set(group.commands) - {"data"} <= told
    assert {*group.commands["data"].commands} <= {"check", *told}
    text = " ".join(PAGE.split())
    assert "--install-completion" in text and "DOMAINEMO_DATA" in text
