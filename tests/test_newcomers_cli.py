"""`adapt --target`, `train` and `predict --adapt`: from two folders to predictions."""

import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import domainemo as de
from domainemo.cli import main
from domainemo.data.table import Table

SMALL = ["--backbone=uf-ama", "--set=backbone.width=8", "--epochs=1", "--jobs=1"]
ALONE = ["--adapter=none", "--controls=majority-class"]
PAGE = Path(__file__).parents[1] / "docs" / "new-person.md"


@pytest.fixture
def domainemo(monkeypatch, capsys, tmp_path):
    """Run a command in this process; demand its exit code, return what it said."""
    monkeypatch.setenv("DOMAINEMO_DATA", "")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)

    def run(*arguments, code=0):
        monkeypatch.setattr(sys, "argv", ["domainemo", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        assert (ended.value.code or 0) == code, said.out + said.err
        return said.out if code == 0 else " ".join(said.err.split())

    return run


@pytest.fixture(scope="module")
def data():
    return de.load("simulated", subjects=4, sessions=1, trials=3, windows=[3, 4])


@pytest.fixture
def folders(data, tmp_path):
    """Everybody but number 3 with labels; number 3 without, and with garbage ones."""
    new = data.inputs.windows["subject"].to_numpy() == 3
    de.write_table(data.take(np.flatnonzero(~new)), tmp_path / "labelled")
    theirs = data.take(np.flatnonzero(new))
    de.write_table(theirs.inputs, tmp_path / "new")
    de.write_table(theirs, tmp_path / "garbage")
    table = tmp_path / "garbage" / "windows.csv"
    lines = table.read_text(encoding="utf-8").splitlines()
    spoilt = [re.sub(r"[^,]*$", "\N{SNOWMAN} \x07 n/a", each) for each in lines[1:]]
    table.write_text("\n".join([lines[0], *spoilt]) + "\n", encoding="utf-8")
    return tmp_path


def predictions(folder):
    return (folder / "predictions.csv").read_bytes()


def test_it_predicts_as_the_fold_of_the_protocol(domainemo, data, folders):
    said = domainemo(
        "adapt", "--dataset=labelled", "--target=new", "--output=run", *SMALL
    )
    assert "No label of the target exists" in said
    assert "Subject 3 lies farther from the source" in said
    assert "balanced accuracy" not in said
    de.write_table(data, folders / "all")
    domainemo("adapt", "--dataset=all", "--fold=subject 3", "--output=known", *SMALL)
    new, known = (
        pd.read_csv(folders / each / "predictions.csv") for each in ("run", "known")
    )
    columns = [name for name in new if name.startswith("p_")]
    pd.testing.assert_frame_equal(new[columns], known[columns])
    names = {path.name for path in (folders / "run").glob("*.csv")}
    assert names == {"results.csv", "predictions.csv", "trials.csv", "distances.csv"}


def test_labels_of_the_target_are_never_opened(domainemo, folders):
    """Not even looked at: their column may hold anything."""
    for target in ("new", "garbage"):
        domainemo(
            "adapt",
            "--dataset=labelled",
            f"--target={target}",
            f"--output=to-{target}",
            *SMALL,
            *ALONE,
        )
    assert predictions(folders / "to-new") == predictions(folders / "to-garbage")


def test_the_same_command_resumes_and_its_folder_runs_it_again(domainemo, folders):
    again = ["adapt", "--dataset=labelled", "--target=new", "--output=run", *SMALL]
    domainemo(*again, *ALONE)
    before = predictions(folders / "run")
    weights = next((folders / "run").rglob("model.safetensors"))
    made = weights.stat().st_mtime_ns
    domainemo(*again, *ALONE)
    assert weights.stat().st_mtime_ns == made
    domainemo("adapt", "--config=run", "--output=copy", "--jobs=1")
    assert predictions(folders / "copy") == before


def test_a_data_set_by_name_has_options_of_its_own(domainemo, folders):
    said = domainemo(
        "adapt",
        "--dataset=simulated",
        "--target=simulated",
        *(f"--set=data.{each}" for each in ("subjects=3", "sessions=1", "trials=3")),
        *(f"--set=target.{each}" for each in ("subjects=2", "sessions=1", "seed=5")),
        "--set=target.trials=3",
        "--target-together",
        "--dry-run",
        *SMALL,
    )
    assert "newcomers" in said and "simulated-to-simulated" in said
    refused = domainemo("adapt", "--set=target.subjects=2", code=2)
    assert "target.subjects" in refused


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["--target=new", "--protocol=cross-subject"], "expected 'newcomers'"),
        (["--protocol=newcomers"], "Name them with --target|adapt --target"),
        (["--protocol=everyone"], "domainemo train"),
        (["--target=nwe"], "Did you mean 'new'"),
        (["--target=labelled"], "bit for bit"),
        (["--target=new", "--validator=oracle"], "of newcomers there are none"),
    ],
)
def test_what_does_not_go_together_is_told(domainemo, folders, arguments, fragment):
    code = 3 if "bit" in fragment else 2
    said = domainemo("adapt", "--dataset=labelled", *SMALL, *arguments, code=code)
    assert re.search(fragment, said), said


def test_other_commands_have_no_target(domainemo, folders):
    for command in ("tune", "pretrain", "train"):
        assert "target" in domainemo(command, "--target=new", code=2)
    (folders / "some.toml").write_text('target = "new"\n', encoding="utf-8")
    for command in ("tune", "pretrain", "train"):
        said = domainemo(command, "--config=some.toml", code=2)
        assert "it sets 'target'" in said and "domainemo adapt" in said


# ----------------------------------------------------------------- one model for all


def test_train_then_predict(domainemo, folders):
    said = domainemo("train", "--dataset=labelled", "--output=model", *SMALL[:3])
    assert "Nobody was tested" in said and "domainemo predict model" in said
    plain = domainemo("predict", "model", "--dataset=new")
    assert domainemo("predict", "model", "--dataset=garbage") == plain
    options = ["--adapt=tent", "--set=adapter.epochs=3"]
    changed = domainemo("predict", "model", "--dataset=new", *options)
    assert changed != plain and changed.splitlines()[0] == plain.splitlines()[0]
    source, target = (
        de.load("table", folders / "labelled"),
        Table(folders / "new").load_inputs(),
    )
    model = de.train(
        source,
        backbone="uf-ama",
        options={"backbone.width": 8, "training.epochs": 1},
        device="cpu",
    )
    assert model.predict(target).to_csv(index=False) == plain


def test_train_takes_what_a_file_says_of_the_network_alone(domainemo, folders):
    (folders / "some.toml").write_text(
        'protocol = "cross-session"\nbackbone = "uf-ama"\nadapter = "uf-ama"\n'
        'controls = ["majority-class"]\n[options]\nbackbone.width = 8\n'
        "training.epochs = 1\nprotocol.held_out = 0.3\n",
        encoding="utf-8",
    )
    domainemo("train", "--dataset=labelled", "--config=some.toml", "--output=model")
    config = (folders / "model" / "config.toml").read_text(encoding="utf-8")
    assert 'protocol = "everyone"' in config
    assert "protocol.held_out" not in config
    assert 'adapter = "uf-ama"' in config and '"backbone.width" = 8' in config
    assert "controls" not in config


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["--adapt=uf-ama"], "needs the source beside the recording"),
        (["--adapt=tnet"], "Did you mean 'tent'"),
        (["--adapt=adabn"], "no layer of batch normalisation"),
        (["--set=adapter.epochs=3"], "adapter.epochs"),
        (["--adapt=tent", "--set=adapter.epochs=0"], "epochs"),
    ],
)
def test_what_cannot_adapt_a_model_is_told(domainemo, folders, arguments, fragment):
    domainemo("train", "--dataset=labelled", "--output=model", *SMALL[:3])
    said = domainemo("predict", "model", "--dataset=new", *arguments, code=2)
    assert fragment in said


def test_the_page_runs_as_it_stands(domainemo, folders, tmp_path, monkeypatch):
    """Its code, and its commands, with few recordings and a single epoch."""
    text = PAGE.read_text(encoding="utf-8")
    made, python = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    for name in ("labelled", "new"):
        (tmp_path / name).rename(tmp_path / f"other-{name}")
    assert made.count("sessions=1") == 1
    exec(made.replace("sessions=1", "sessions=1, trials=3, windows=[3, 4]"), {})
    commands = re.findall(r"^    domainemo (.*)$", text, re.MULTILINE)
    assert len(commands) == 4
    for command in commands:
        arguments = command.split()
        if arguments[0] != "predict":
            arguments += ["--epochs=1", "--set=backbone.width=8"]
        if arguments[0] == "adapt":
            arguments += ["--jobs=1"]
        domainemo(*arguments)
    assert (tmp_path / "predictions.csv").exists()
    small = {"backbone.width": 8, "training.epochs": 1}
    short = f'backbone="uf-ama", options={small}'
    monkeypatch.setattr("builtins.print", lambda *each: None)
    exec(
        python.replace('backbone="uf-ama"', short)
        .replace('output="model"', 'output="other"')
        .replace('load("model")', 'load("other")'),
        {},
    )
