"""The command line: answers, errors, exit codes, interruption and resumption."""

from __future__ import annotations

import hashlib
import io
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
import warnings
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import domainemo as de
from domainemo import registry
from domainemo.cli import _say, app, main
from domainemo.cli.named import benchmarks, studies
from domainemo.errors import DomainemoWarning, show_notes
from domainemo.registry import KINDS, entries
from domainemo.runs.folder import locked

TINY = [
    "--adapter=uf-ama",
    "--set=data.subjects=3",
    "--set=data.sessions=2",
    "--set=data.trials=3",
    "--set=data.windows=[3, 4]",
    "--set=backbone.width=8",
    "--set=backbone.heads=2",
    "--epochs=3",
    "--jobs=1",
]


@pytest.fixture(scope="module", autouse=True)
def here():
    """The terminal's width, and no folder of data sets."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOMAINEMO_DATA", "")
        patch.setenv("COLUMNS", "200")
        yield


def domainemo(*arguments: object, cwd: Path, code: int = 0):
    """Run the command in this process, which has imported everything: much faster."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(cwd)
        patch.setattr(sys, "argv", ["domainemo", *map(str, arguments)])
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        with pytest.raises(SystemExit) as ended:
            main()
    said = SimpleNamespace(stdout=out.getvalue(), stderr=err.getvalue())
    assert (ended.value.code or 0) == code, said.stdout + said.stderr
    assert "Traceback" not in said.stderr
    return said


@pytest.fixture
def forget_plugins(monkeypatch):
    """Forget what plug-ins register, as the next process would not know it."""
    known = dict(registry._classes)

    def forget():
        monkeypatch.setattr(registry, "_classes", dict(known))
        for name in [each for each in sys.modules if each.startswith(registry._PLUGIN)]:
            del sys.modules[name]

    yield forget
    forget()


def digest(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def wait_until(holds, seconds=120) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def any_finished(folds: Path) -> bool:
    """A job's folder is renamed last: what is called partial is not finished."""
    records = folds.glob("*/*/*/record.json")
    return any(not path.parent.name.endswith(".partial") for path in records)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A finished run's folder."""
    folder = tmp_path_factory.mktemp("cli")
    done = domainemo("adapt", *TINY, "--output", "run", cwd=folder)
    (folder / "screen.txt").write_text(done.stdout)
    return folder / "run"


@pytest.mark.parametrize("command", [["--help"], ["list"], ["adapt", "--help"]])
def test_answers_without_heavy_imports(command, tmp_path):
    script = (
        "import sys\n"
        "from domainemo.cli import app\n"
        f"app({command!r}, standalone_mode=False)\n"
        "heavy = {'torch', 'sklearn', 'ot', 'pandas', 'matplotlib', 'optuna', 'mne', "
        "'scipy', 'numpy'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path
    )
    assert "HEAVY []" in done.stdout, done.stdout + done.stderr


def test_list_shows_every_kind(tmp_path):
    shown = domainemo("list", cwd=tmp_path).stdout
    for name in ("simulated", "cross-subject", "r2gfanet", "uf-ama-released", "source"):
        assert name in shown
    only = domainemo("list", "adapters", cwd=tmp_path).stdout
    assert "uf-ama" in only and "simulated" not in only
    only = domainemo("list", "studies", cwd=tmp_path).stdout
    assert "r2gfanet-trials" in only and "simulated" not in only


@pytest.mark.parametrize(
    ("words", "code"), [(["list", "backbones"], 0), (["show", "no-such-part"], 2)]
)
def test_the_module_is_the_command(words, code, tmp_path):
    command = [sys.executable, "-m", "domainemo", *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    script = domainemo(*words, cwd=tmp_path, code=code)
    assert done.returncode == code
    assert (done.stdout, done.stderr) == (script.stdout, script.stderr)


def test_list_takes_two_screens_at_most_and_shows_every_name(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = domainemo("list", cwd=tmp_path).stdout.splitlines()
    assert len(lines) <= 2 * 52 and max(map(len, lines)) <= 80
    files = {"study": studies(), "benchmark": benchmarks()}
    together = ("adapter", "validator", "control", *files)
    others = [line.split()[:2] for line in lines[1:] if not line.startswith(together)]
    kinds = [kind for kind in KINDS if kind not in together]
    parts = [[kind, entry.name] for kind in kinds for entry in entries(kind)]
    assert others == parts
    # These stand by family, several on a line.
    families = " ".join(line for line in lines if line.startswith(together))
    names = [entry.name for kind in together[:3] for entry in entries(kind)]
    for name in (*names, *studies(), *benchmarks()):
        assert re.search(rf"[ ,]{re.escape(name)}( \(default\))?(,|\s|$)", families)
    # One kind alone is told in full.
    shown = [
        domainemo("list", name, cwd=tmp_path) for name in ("studies", "benchmarks")
    ]
    told = " ".join(" ".join(done.stdout for done in shown).split())
    for path in [*studies().values(), *benchmarks().values()]:
        headline = path.read_text(encoding="utf-8").splitlines()[0]
        last = headline.removeprefix("# ").split()[-1]
        assert headline.endswith(".") and last in told and len(headline) < 88


def test_screen_says_how_and_shows_baselines(finished):
    screen = (finished.parent / "screen.txt").read_text()
    words = " ".join(screen.split())  # lines break anywhere
    for phrase in (
        "simulated",
        "transductive",
        "source only",
        "logistic regression",
        "majority class",
        "last of 3 epochs",
        "seed 0",
    ):
        assert phrase in words
    table = pd.read_csv(finished / "results.csv")
    first = table[(table["method"] == "uf-ama") & (table["level"] == "sequence")]
    for value in first["balanced_accuracy"]:
        assert f"{value:.3f}" in screen


def test_folder_reruns_itself(finished, tmp_path, two_processes, monkeypatch):
    """The stored configuration alone gives the same numbers in another folder."""
    opened = "domainemo.processes.process_pool"
    monkeypatch.setattr(opened, lambda workers: nullcontext(two_processes))
    domainemo("adapt", "--config", finished, "--jobs=2", "--output=again", cwd=tmp_path)
    again = tmp_path / "again"
    for name in ("predictions.csv", "config.toml"):
        assert (again / name).read_bytes() == (finished / name).read_bytes()
    before, after = digest(finished / "folds"), digest(again / "folds")
    weights = [name for name in before if name.endswith("model.safetensors")]
    assert len(weights) == 6
    assert {n: before[n] for n in weights} == {n: after[n] for n in weights}


def test_another_configuration_is_refused(finished):
    before = digest(finished)
    done = domainemo(
        "adapt", *TINY, "--seeds=1", "--output", finished, cwd=finished.parent, code=2
    )
    assert "seeds: there [0], now [1]" in " ".join(done.stderr.split())
    assert digest(finished) == before


def ties_down_its_recordings(study):
    return "dataset" in tomllib.loads(studies()[study].read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "study", [each for each in sorted(studies()) if not ties_down_its_recordings(each)]
)
def test_every_study_can_be_planned(study, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    # Two groups of two people, beside the one who is left out.
    command, subjects = "adapt", 3
    if study.endswith("-pretraining"):
        command, subjects = "pretrain", 5
    arguments = [command, "--config", study, "--dry-run"]
    app([*arguments, f"--set=data.subjects={subjects}"], standalone_mode=False)
    # The released protocol tests each of two sessions by itself.
    folds = 6 if study == "uf-ama-released" else subjects
    assert f"in {folds} folds" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_dry_run_writes_nothing(tmp_path):
    done = domainemo("adapt", *TINY, "--dry-run", cwd=tmp_path)
    assert "subject 3" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code", "phrases"),
    [
        (["--backbone=r2gfanett"], 2, ["backbone", "'r2gfanet'", "Did you mean"]),
        (["--adapter=uf-amma"], 2, ["adapter", "'uf-ama'"]),
        (["--protocol=cross-subjects"], 2, ["'cross-subject'"]),
        (["--dataset=simulate"], 2, ["'simulated'"]),
        (["--validator=sources"], 2, ["'source'"]),
        (["--normalisation=zscore"], 2, ["none, riemannian, session, source, subject"]),
        (["--sampling=trial"], 2, ["sequences, trials, windows"]),
        (["--set=widht=3"], 2, ["'backbone.width'"]),
        (["--adapter=uf-ama", "--set=adapter.marginl=3"], 2, ["'marginal'"]),
        (["--set=width"], 2, ["NAME=VALUE"]),
        (["--set=training=3"], 2, ["no option 'training'", "'training.clip'"]),
        (["--set=backbone.width=big"], 2, ["'big'", "int"]),
        (["--set=training.epochs=0"], 2, ["training.epochs is 0", "at least 1"]),
        (["--set=seed=1"], 2, ["protocol.seed", "data.seed"]),
        (["--modalities=eeg,ecg"], 2, ["'ecg'", "eeg, eye"]),
        (["--modalities=eye"], 2, ["kind 'eeg'", "--backbone concatenation-mlp"]),
        (["--seeds=x"], 2, ["--seeds", "'x'"]),
        (["--seeds=1,1"], 2, ["all different"]),
        (["--jobs=none"], 2, ["--jobs", "'none'"]),
        (["--device=abacus"], 2, ["'abacus'"]),
        (["--plugin=nowhere.py"], 2, ["nowhere.py", "no such file"]),
        (["--config=nowhere.toml"], 2, ["nowhere.toml"]),
        (["--dataset=eegmat"], 2, ["--data-root", "DOMAINEMO_DATA"]),
        (["--dataset=table", "--data-root=nowhere"], 3, ["nowhere"]),
        (["--set=data.subjects=1"], 3, ["found 1 subject", "at least 2"]),
        (["--protocol=cross-session", "--set=data.sessions=1"], 3, ["two sessions"]),
    ],
)
def test_bad_input_is_explained(arguments, code, phrases, tmp_path):
    said = domainemo("adapt", *arguments, cwd=tmp_path, code=code).stderr
    said = " ".join(said.split())
    for phrase in phrases:
        assert phrase in said
    assert list(tmp_path.iterdir()) == []


def broken(kind: str) -> de.EmotionData:
    """Recordings with one fault each."""
    subject = np.repeat([1, 2, 3], 8)
    trial = np.tile(np.repeat([1, 2], 4), 3)
    generator = np.random.default_rng(0)
    eye = generator.normal(size=(24, 3)).astype(np.float32)
    eeg = generator.normal(size=(24, 2, 5)).astype(np.float32)
    labels = trial - 1
    if kind == "one class":
        labels = np.where(subject == 2, 0, labels)
    if kind == "channel":
        eye[subject == 3, 1] = np.nan
    if kind == "one subject":
        subject = np.ones_like(subject)
        trial = np.repeat(np.arange(6), 4)
    return de.from_arrays(
        {"eeg": eeg, "eye": eye},
        labels,
        subject=subject,
        trial=trial,
        modalities={"eeg": ["Fz", "Cz"]},
        classes=("calm", "tense"),
        name="made to break",
    )


@pytest.mark.parametrize(
    ("kind", "phrases"),
    [
        ("one class", ["subject 2", "single class", "calm"]),
        ("channel", ["'eye'", "NaN in every window", "of subject 3"]),
        ("one subject", ["found 1 subject"]),
    ],
)
def test_bad_recordings_are_explained(kind, phrases, tmp_path):
    de.write_table(broken(kind), tmp_path / "table")
    arguments = ("adapt", "--dataset", "table", "--data-root=table")
    said = " ".join(domainemo(*arguments, cwd=tmp_path, code=3).stderr.split())
    for phrase in phrases:
        assert phrase in said
    assert [path.name for path in tmp_path.iterdir()] == ["table"]


def test_predict_equals_the_run(finished, tmp_path):
    """The trained fold, applied to the test subject's own table, predicts the same."""
    data = de.Simulated(subjects=3, sessions=2, trials=3, windows=(3, 4)).load()
    rows = np.flatnonzero(data.inputs.windows["subject"] == 2)
    de.write_table(data.take(rows).inputs, tmp_path / "new")
    chosen = ("--fold", "subject 2", "--adapter", "uf-ama", "--output", "found.csv")
    domainemo("predict", finished, "--dataset", "new", *chosen, cwd=tmp_path)
    found = pd.read_csv(tmp_path / "found.csv")
    known = pd.read_csv(finished / "predictions.csv")
    known = known[(known["method"] == "uf-ama") & (known["fold"] == "subject 2")]
    columns = [name for name in known if name.startswith("p_")]
    np.testing.assert_allclose(found[columns], known[columns], atol=1e-6)
    domainemo("predict", finished, "--dataset", "new", *chosen, cwd=tmp_path, code=2)
    said = domainemo("predict", finished, "--dataset", "new", cwd=tmp_path, code=2)
    assert "--fold 'subject 1'" in said.stderr.replace("\n", " ")


def test_a_single_window_is_predicted_by_another_scale(finished, tmp_path):
    data = de.Simulated(subjects=3, sessions=2, trials=3, windows=(3, 4)).load()
    rows = np.flatnonzero(data.inputs.windows["subject"] == 2)
    de.write_table(data.take(rows[:1]).inputs, tmp_path / "one")
    de.write_table(data.take(rows[6:]).inputs, tmp_path / "rest")

    def predicted(*options, code=0):
        chosen = ("--fold", "subject 2", "--adapter", "uf-ama", *options)
        return domainemo(
            "predict", finished, "--dataset", "one", *chosen, cwd=tmp_path, code=code
        )

    said = " ".join(predicted(code=3).stderr.split())
    assert "nothing is left" in said and "--normalise-by source" in said
    by_source = predicted("--normalise-by", "source").stdout
    by_rest = predicted("--normalise-by", "rest").stdout
    assert by_source.count("\n") == by_rest.count("\n") == 2 and by_source != by_rest
    assert predicted("--normalise-by", "rest/windows.csv").stdout == by_rest
    said = " ".join(predicted("--normalise-by", "sauce", code=2).stderr.split())
    assert "expected own, source or the table folder" in said
    (tmp_path / "baseline.csv").write_text("subject\n2\n")
    said = predicted("--normalise-by", "baseline.csv", code=2).stderr
    assert "found a file that is no table folder's" in " ".join(said.split())


def test_a_note_is_said_once(capsys):
    """As of every fold, though filters that were changed in between forget it."""
    with warnings.catch_warnings():
        show_notes(_say)
        for text in ("eye is missing", "eye is missing", "eeg is missing"):
            with warnings.catch_warnings():
                warnings.simplefilter("always")
                warnings.warn(text, DomainemoWarning, stacklevel=1)
    said = capsys.readouterr().err
    assert said == "Note: eye is missing\nNote: eeg is missing\n"


def test_interrupt_and_resume(finished, tmp_path):
    """Ctrl-C keeps finished folds, exits with 4, and the same command finishes."""
    command = [sys.executable, "-c", "from domainemo.cli import main; main()", "adapt"]
    process = subprocess.Popen(
        [*command, *TINY, "--jobs=2", "--output=run"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    folds = tmp_path / "run" / "folds"
    wait_until(lambda: any_finished(folds))
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 4, said
    assert "resumes" in said and "Traceback" not in said
    kept = digest(folds)
    domainemo("adapt", *TINY, "--output=run", cwd=tmp_path)
    run = tmp_path / "run"
    assert not list(run.glob(".work*"))
    assert (run / "predictions.csv").read_bytes() == (
        finished / "predictions.csv"
    ).read_bytes()
    after = digest(folds)
    done = [name for name in kept if ".partial" not in name]
    assert done
    assert {name: kept[name] for name in done} == {name: after[name] for name in done}


def children(process: subprocess.Popen) -> list[int]:
    tasks = Path("/proc", str(process.pid), "task", str(process.pid), "children")
    return [int(pid) for pid in tasks.read_text().split()]


@pytest.mark.campaign
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
def test_killed_with_all_its_workers_and_resumed(finished, tmp_path):
    """After kill -9 no worker goes on, and the rest ends with the same bits."""
    command = [sys.executable, "-c", "from domainemo.cli import main; main()", "adapt"]
    process = subprocess.Popen(
        [*command, *TINY, "--jobs=2", "--output=run"],
        cwd=tmp_path,
        stderr=subprocess.DEVNULL,
    )
    folds = tmp_path / "run" / "folds"
    wait_until(lambda: any_finished(folds))
    workers = children(process)
    assert len(workers) >= 2
    process.kill()
    process.wait()
    wait_until(lambda: not any(Path("/proc", str(pid)).exists() for pid in workers))
    domainemo("adapt", *TINY, "--output=run", cwd=tmp_path)
    again = (tmp_path / "run" / "predictions.csv").read_bytes()
    assert again == (finished / "predictions.csv").read_bytes()
    assert not list((tmp_path / "run").glob(".work*"))


@pytest.mark.campaign
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
def test_a_killed_worker_is_named_and_loses_nothing(tmp_path):
    tiny = [each for each in TINY if each not in ("--epochs=3", "--jobs=1")]
    arguments = ["adapt", *tiny, "--epochs=30", "--jobs=2"]
    command = [sys.executable, "-c", "from domainemo.cli import main; main()"]
    process = subprocess.Popen(
        [*command, *arguments, "--output=run"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    folds = tmp_path / "run" / "folds"
    wait_until(lambda: any_finished(folds))
    for pid in children(process):
        name = Path("/proc", str(pid), "cmdline").read_bytes()
        if b"spawn_main" in name:
            os.kill(pid, signal.SIGKILL)
            break
    said = " ".join(process.communicate(timeout=60)[1].split())
    assert process.returncode == 1, said
    assert "worker process died" in said and "Traceback" not in said, said
    kept = {n: d for n, d in digest(folds).items() if ".partial" not in n}
    assert kept
    domainemo(*arguments, "--output=run", cwd=tmp_path)
    after = digest(folds)
    assert {name: after[name] for name in kept} == kept


def test_two_processes_never_share_a_folder(finished):
    with locked(finished):
        done = domainemo(
            "adapt", *TINY, "--output", finished, cwd=finished.parent, code=2
        )
    assert "another process" in done.stderr


def test_an_edited_plugin_is_noticed(tmp_path, forget_plugins):
    """Folds of the old code and of the new never stand in one table."""
    code = """from domainemo import Adapter, register

@register
class Edited(Adapter):
    \"\"\"A constant.\"\"\"

    def forward(self, source, target):
        return {"mean": source.outputs.embeddings["fusion"].mean()}
"""
    (tmp_path / "mine.py").write_text(code, encoding="utf-8")
    arguments = ("adapt", *TINY[1:-2], "--epochs=1", "--jobs=1", "--plugin=mine.py")
    arguments += ("--adapter=edited", "--output=run")
    domainemo(*arguments, "--no-baselines", cwd=tmp_path)
    before = digest(tmp_path / "run")
    (tmp_path / "mine.py").write_text(code + "\n# other\n", encoding="utf-8")
    forget_plugins()
    done = domainemo(*arguments, "--no-baselines", cwd=tmp_path, code=2)
    assert "plugins" in done.stderr
    assert digest(tmp_path / "run") == before


def test_options_that_are_mappings_come_back_from_a_folder(tmp_path, forget_plugins):
    """As the labels of a recording's events do; a file may write them either way."""
    (tmp_path / "mine.py").write_text(
        '''from collections.abc import Mapping
import domainemo as de
from domainemo.core import Dataset

@de.register
class Filmed(Dataset):
    """Recordings with films by name."""

    def __init__(self, *, events: Mapping[str, str] | None = None):
        self.events = events

    def load(self):
        assert self.events == {"film A": "happy", "film.B": "sad"}, self.events
        return de.Simulated(subjects=2, sessions=1, trials=3, windows=(3, 4)).load()
''',
        encoding="utf-8",
    )
    named = ('--set=data.events={"film A"="happy", "film.B"="sad"}', "--dataset=filmed")
    quick = ("--backbone=concatenation-mlp", "--epochs=1", "--jobs=1", "--no-baselines")
    plugin = "--plugin=mine.py"
    domainemo("adapt", *named, *quick, plugin, "--output=run", cwd=tmp_path)
    again = ("--config=run", "--output=run", "--jobs=1", plugin)
    domainemo("adapt", *again, cwd=tmp_path)
    done = domainemo("report", "run", plugin, cwd=tmp_path)
    assert "could not be had" not in done.stdout + done.stderr
    (tmp_path / "own.toml").write_text(
        'dataset = "filmed"\n[options.data.events]\n"film A" = "happy"\n'
        '"film.B" = "sad"\n',
        encoding="utf-8",
    )
    domainemo("adapt", "--config=own.toml", *quick, plugin, "--dry-run", cwd=tmp_path)


def test_a_python_run_can_be_applied(tmp_path):
    """Predicting needs the trained fold, not the recordings' name."""
    data = de.Simulated(subjects=2, sessions=1, trials=3, windows=(3, 4)).load()
    options = {"backbone.width": 8, "backbone.heads": 2, "training.epochs": 1}
    chosen = {"adapter": "uf-ama", "options": options, "baselines": False}
    de.run(data, **chosen, output=tmp_path / "run")
    de.write_table(data.inputs, tmp_path / "new")
    chosen = ("--fold=subject 2", "--dataset=./new", "--output=found.csv")
    domainemo("predict", "run", *chosen, cwd=tmp_path)
    assert len(pd.read_csv(tmp_path / "found.csv")) == 6
    done = domainemo("adapt", "--config=run", cwd=tmp_path, code=2)
    assert "made from Python" in " ".join(done.stderr.split())


def test_the_readme_runs(capsys, monkeypatch):
    """The README's Python is what it says, and its commands are this package's."""
    # How long it trains is not what is tested.
    monkeypatch.setattr(de, "run", partial(de.run, training=de.Training(epochs=1)))
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    code = text.split("```python\n")[1].split("```")[0]
    exec(compile(code, "README.md", "exec"), {})
    shown = capsys.readouterr().out
    assert "source only" in shown and "simulated" in shown
    assert "&& pytest" in text and "&& domainemo adapt --protocol cross-subject" in text


def test_plugin_of_fifteen_lines(tmp_path, forget_plugins):
    """An adapter from a file outside the package, in worker processes too."""
    (tmp_path / "mine.py").write_text(
        """from domainemo import Adapter, register

@register
class MeanAlignment(Adapter):
    \"\"\"Squared distance between the domains' mean embeddings.\"\"\"

    def __init__(self, *, weight: float = 1.0, branches: tuple = ("fusion",)) -> None:
        super().__init__()
        self.weight, self.branches = weight, branches

    def forward(self, source, target):
        a, b = source.outputs.embeddings, target.outputs.embeddings
        gaps = [a[name].mean(-2) - b[name].mean(-2) for name in self.branches]
        return {"mean": self.weight * sum(gap.square().sum(-1) for gap in gaps)}
""",
        encoding="utf-8",
    )
    domainemo(
        "adapt",
        *[each for each in TINY if "--set" in each],
        "--epochs=1",
        "--fold=subject 2",
        "--no-baselines",
        "--plugin=mine.py",
        "--adapter=mean-alignment",
        "--set=weight=0.5",
        "--jobs=2",
        "--output=run",
        cwd=tmp_path,
    )
    config = tomllib.loads((tmp_path / "run" / "config.toml").read_text())
    assert config["options"]["adapter.weight"] == 0.5
    history = next((tmp_path / "run").glob("folds/*/*/mean-alignment/history.csv"))
    assert pd.read_csv(history)["mean"].gt(0).all()
    forget_plugins()
    assert "mean-alignment" not in domainemo("list", "adapter", cwd=tmp_path).stdout
    shown = domainemo("list", "adapter", "--plugin=mine.py", cwd=tmp_path).stdout
    assert "mean-alignment" in shown
