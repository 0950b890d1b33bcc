"""The pages that show how to add a part: written to a file, checked and run."""

import re
import shlex
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import domainemo as de
from domainemo import registry
from domainemo.cli import main
from domainemo.cli.configuration import stored_experiment
from domainemo.parts import part
from domainemo.runs.model import find_trained, load_trained

DOCS = Path(__file__).parents[1] / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
COMMAND = re.compile(r"^    domainemo (.*)$", re.MULTILINE)
NAMES = {
    "adapter": "mean-alignment",
    "backbone": "average",
    "sampling": "ends",
    "normalisation": "robust",
    "control": "same-clip",
    "screen": "agreement",
    "protocol": "halves",
    "validator": "margin",
}
TINY = [
    "--set=data.subjects=3",
    "--set=data.sessions=1",
    "--set=data.trials=6",
    "--set=data.windows=[3, 5]",
    "--backbone=concatenation-mlp",
    "--epochs=1",
    "--jobs=1",
    "--output=run",
]


def page(kind):
    return (DOCS / f"new-{kind}.md").read_text(encoding="utf-8")


def blocks(kind):
    return BLOCK.findall(page(kind))


def commands(kind):
    return COMMAND.findall(page(kind))


@pytest.fixture
def own_registry():
    """Forget what a test registers, and import its files anew."""
    for kind in registry.KINDS:  # what is built in stays imported
        for entry in registry.entries(kind):
            registry.find(kind, entry.name)
    yield
    for name in [each for each in sys.modules if each.startswith(registry._PLUGIN)]:
        del sys.modules[name]


@pytest.fixture
def folder(tmp_path, monkeypatch, capsys, own_registry):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("DOMAINEMO_DATA", "")
    return tmp_path


def domainemo(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["domainemo", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code


@contextmanager
def alone(folder, file, monkeypatch):
    """Import from a folder, and forget it: each command imports its plug-ins itself."""
    with monkeypatch.context() as here:
        here.setattr(registry, "_classes", dict(registry._classes))
        here.syspath_prepend(folder)
        yield
        here.delitem(sys.modules, Path(file).stem)


@pytest.mark.parametrize("kind", NAMES)
def test_the_page_runs_as_it_stands(kind, folder, monkeypatch, capsys):
    source, checking, *_ = blocks(kind)
    file = re.search(r"^`(\w+\.py)`", page(kind), re.MULTILINE)[1]
    (folder / file).write_text(source, encoding="utf-8")
    with alone(folder, file, monkeypatch):
        exec(compile(checking, kind, "exec"), {})
    listing, adapt = map(shlex.split, commands(kind))
    domainemo(monkeypatch, *listing)
    name = NAMES[kind]
    assert name in capsys.readouterr().out
    # What the page names holds; the tests' own backbone is a small one.
    tiny = [each for each in TINY if kind != "backbone" or "backbone" not in each]
    domainemo(monkeypatch, *adapt, *tiny)
    table = pd.read_csv(folder / "run" / "results.csv")
    words = {
        "sampling": "ends (length 2)",
        "normalisation": "by median and interquartile range per subject",
        "control": "same clip",
        "protocol": "halves",
        "validator": "margin",
        "adapter": "mean-alignment",
        "backbone": "average",
    }
    column = {"adapter": "method", "control": "method", "validator": "selection"}.get(
        kind, kind
    )
    assert kind == "screen" or words[kind] in set(table[column])
    stored = (folder / "run" / "config.toml").read_text(encoding="utf-8")
    assert name in stored and file in stored
    if kind == "control":
        told = (folder / "run" / "how.txt").read_text(encoding="utf-8")
        assert '"control.same-clip.least" = 3' in stored
        assert "control same-clip (least 3)" in told
    assert len(page(kind).splitlines()) <= 60


def test_an_adapter_that_predicts_is_written_checked_and_run(folder, monkeypatch):
    text = (DOCS / "predicting-adapter.md").read_text(encoding="utf-8")
    source, checking, settling = BLOCK.findall(text)
    whole = f"{source}\n{settling}"
    (folder / "subject_heads.py").write_text(whole, encoding="utf-8")
    with alone(folder, "subject_heads.py", monkeypatch):
        exec(compile(checking, "predicting-adapter", "exec"), {})
    (command,) = COMMAND.findall(text)
    domainemo(monkeypatch, *shlex.split(command), *TINY)
    table = pd.read_csv(folder / "run" / "results.csv")
    assert "subject-heads" in set(table["method"])
    assert len(text.splitlines()) <= 80  # two ways, a page


def test_a_plugin_is_run_and_tested_as_its_page_says(folder, monkeypatch, capsys):
    text = (DOCS / "plug-ins.md").read_text(encoding="utf-8")
    (folder / "mean_alignment.py").write_text(blocks("adapter")[0], encoding="utf-8")
    with alone(folder, "mean_alignment.py", monkeypatch):
        space: dict = {}
        exec(compile(BLOCK.findall(text)[0], "plug-ins", "exec"), space)
        (mark,) = space["test_contract"].pytestmark
        names, each = mark.args
        assert names == "check" and {"firewall", "vectorises"} <= {c.name for c in each}
        space["test_contract"](next(c for c in each if c.name == "vectorises"))
    listing, adapt = map(shlex.split, COMMAND.findall(text))
    domainemo(monkeypatch, *listing)
    assert "mean-alignment" in capsys.readouterr().out
    domainemo(monkeypatch, *adapt, *TINY)
    assert len(text.splitlines()) <= 60


def test_what_a_normalisation_learned_serves_predict(folder, monkeypatch):
    """The medians and ranges of the source, computed here again."""
    (folder / "robust.py").write_text(blocks("normalisation")[0], encoding="utf-8")
    adapt = shlex.split(commands("normalisation")[1])
    domainemo(monkeypatch, *adapt, *TINY)
    run = folder / "run"
    place = find_trained(run, fold="subject 1", adapter="none")
    trained = load_trained(place, stored_experiment(run))
    data = de.Simulated(subjects=3, sessions=1, trials=6, windows=(3, 5)).load()
    subjects = data.inputs.windows["subject"].astype(str).to_numpy()
    source = np.flatnonzero(subjects != "1")
    for name, array in data.inputs.signals.items():
        low, middle, high = np.nanquantile(array[source], (0.25, 0.5, 0.75), axis=0)
        np.testing.assert_allclose(trained.learned[name]["middle"], middle, rtol=1e-5)
        np.testing.assert_allclose(
            trained.learned[name]["range"], high - low, rtol=1e-5
        )
    own = data.inputs.take(np.flatnonzero(subjects == "1"))
    found = trained.predict(own, "source")
    scaled = {
        name: (array - trained.learned[name]["middle"]) / trained.learned[name]["range"]
        for name, array in own.signals.items()
    }
    plain = replace(trained.experiment, normalisation=part("normalisation", "none"))
    unscaled = replace(trained, experiment=plain, raw_scales={})
    expected = unscaled.predict(replace(own, signals=scaled))
    pd.testing.assert_frame_equal(found, expected)
