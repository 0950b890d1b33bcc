"""The page on given labels, time and other data runs as it stands."""

import re
import sys
from pathlib import Path

import pandas as pd
import pytest

from domainemo.cli import main

PAGE = Path(__file__).parents[1] / "docs" / "other-protocols.md"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
COMMAND = re.compile(r"^    domainemo (.*)$", re.MULTILINE)
SMALL = ["--backbone=concatenation-mlp", "--epochs=1", "--jobs=1", "--adapter=none"]
DATA = ["--set=data.subjects=2", "--set=data.sessions=1"]
DATA += ["--set=data.trials=9", "--set=data.windows=[2, 3]"]


@pytest.mark.filterwarnings("ignore::domainemo.errors.DomainemoWarning")
def test_the_page_runs_as_it_stands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOMAINEMO_DATA", "")
    page = PAGE.read_text(encoding="utf-8")
    data, python = (
        each.replace("sessions=1", "sessions=1, trials=6, windows=[2, 3]")
        for each in BLOCK.findall(page)
    )
    names = {}
    exec(data, names)
    given, online, across = COMMAND.findall(page)
    found = {}
    for name, command in (("given", given), ("online", online), ("across", across)):
        own = [] if "--dataset" in command else DATA
        output = [f"--output={name}", "--controls=majority-class"]
        monkeypatch.setattr(
            sys, "argv", ["domainemo", *command.split(), *SMALL, *own, *output]
        )
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        assert not ended.value.code, said.err
        found[name] = " ".join(said.out.split())
        assert (tmp_path / name / "results.csv").exists()
    assert "6 trials (2 of each class)" in found["given"]
    assert "Up to here: all predictions so far together" in found["online"]
    steps = pd.read_csv(tmp_path / "online" / "online.csv")
    assert set(steps["step"]) == {2, 3, 4, 5}
    for _, rows in steps.groupby("method"):
        assert rows["minutes"].is_monotonic_increasing and rows["minutes"].min() > 0
    assert "sad as negative, happy as positive" in found["across"]
    small = python.replace('"cross-dataset",', '"cross-dataset", **small,')
    names["small"] = {
        "backbone": "concatenation-mlp",
        "options": {"training.epochs": 1},
        "baselines": False,
        "device": "cpu",
    }
    exec(small, names)
    assert "sad as negative" in capsys.readouterr().out
