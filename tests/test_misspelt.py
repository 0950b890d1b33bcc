"""Misspelt names are refused before anything heavy is imported, with the nearest."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from domainemo import ConfigurationError, DataError, Simulated, run
from domainemo.cli import names
from domainemo.errors import did_you_mean
from domainemo.registry import KINDS, entries, find, parameters
from domainemo.runs.experiment import experiment
from domainemo.runs.plan import plan
from domainemo.training.pairs import Random, Synchronous
from domainemo.training.pretrain import USED_SETTINGS
from domainemo.training.settings import Training
from domainemo.training.synchrony import SynchronyContrast

HEAVY = ("torch", "numpy", "pandas", "sklearn", "scipy", "optuna", "matplotlib", "mne")

# What is typed, and what is suggested.
MISSPELT = {
    "adpat": "adapt",
    "adapt --backbon r2gfanet": "--backbone",
    "adapt --backbone r2gfant": "'r2gfanet'",
    "adapt --backbone R2GFANet": "'r2gfanet'",
    "adapt --adapter uf_ama": "'uf-ama'",
    "adapt --adapter marginal+conditonal": "'conditional'",
    "adapt --adapter pytorch-adapt:DAN": "'pytorch-adapt:DANN'",
    "adapt --adapter pytorch-adapt:mcd+distillation": "'pytorch-adapt:MCD'",
    "adapt --adapter pytorch-adapt:ADDA": "trains a second network",
    "adapt --adapter pytorch-adapt:MCD --set adapter.wieght=1": "'weight'",
    "adapt --protocol cross-sesion": "'cross-session'",
    "adapt --validator sourc": "'source'",
    "adapt --normalisation sesion": "'session'",
    "adapt --normalisation Session": "'session'",
    "adapt --sampling sequence": "'sequences'",
    "adapt --controls majorty-class": "'majority-class'",
    "adapt --dataset SEED-IV": "'seed-iv'",
    "adapt --dataset seed_vii": "'seed-vii'",
    "adapt --dataset SEEDIV": "'seed-iv'",
    "adapt --target SEED-IV": "'seed-iv'",
    "tune --dataset SEED-IV": "'seed-iv'",
    "data download EEG_mat": "'eegmat'",
    "adapt --dataset my-studdy": "'my-study'",
    "adapt --dataset My-Study": "'my-study'",
    "adapt --dataset inner/my-studdy": "'inner/my-study'",
    "adapt --dataset empty": "no dataset.toml",
    "adapt --config r2gfanet-trial": "'r2gfanet-trials'",
    "adapt --config uf-ama-ablation": "`domainemo benchmark uf-ama-ablation`",
    "benchmark uf-ama-ablatoin": "'uf-ama-ablation'",
    "benchmark r2gfanet": "`domainemo adapt --config r2gfanet`",
    "benchmark physiosync-pretraining": "`domainemo pretrain --config",
    "adapt --config eegmat-uf-ama": "`--config uf-ama --dataset eegmat`",
    "adapt --config misspelt.toml": "'backbone'",
    "adapt --config option.toml": "'width'",
    "adapt --set wdth=3": "'backbone.width'",
    "adapt --set backbone.wdth=3": "'width'",
    "adapt --set backbne.width=3": "'backbone.width'",
    "adapt --set training.epohcs=3": "'epochs'",
    "adapt --set control.majorty-class.least=3": "'majority-class'",
    "adapt --set control.majority-class.least=3": "has no option 'least'",
    "adapt --set control.least=3": "expected control.NAME.least",
    "adapt --set data.subject=3": "'subjects'",
    "adapt --set protocol.sesion=1": "'session'",
    "adapt --adapter marginal+conditional --set adapter.marginal.wieght=1": "weight'",
    "adapt --sampling sequences --set sampling.lenght=3": "'length'",
    "adapt --seeds o,1": "expected whole numbers",
    "tune --adapter uf-ama --space adapter.marginl=0.1:1": "'marginal'",
    "tune --space wdth=1:2": "'backbone.width'",
    "tune --sampler tp": "'tpe'",
    "tune --pruner medin": "'median'",
    "tune --config study.toml": "'candidates'",
    "pretrain --pairs rndom": "'random'",
    "pretrain --set pairs.membrs=2": "'members'",
    "pretrain --set contrast.temprature=2": "'temperature'",
    "pretrain --set training.epoch=2": "'epochs'",
    "list adaptr": "adapter",
    "list seed-iv": "`domainemo show seed-iv`",
    "show SEED-IV": "'seed-iv'",
    "new adaptr mine": "adapter",
    "new adapter uf-ama": "already",
    "data chek simulated": "check",
    "data check SEED-Vii": "'seed-vii'",
    "report nowhere": "nowhere",
    "predict nowhere": "nowhere",
    "interpret nowhere": "nowhere",
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """Every answer, and what was imported for it: each asked in a fork of its own."""
    folder = tmp_path_factory.mktemp("names")
    for name in ("my-study", "inner/my-study"):
        (folder / name).mkdir(parents=True)
        (folder / name / "dataset.toml").touch()
    (folder / "empty").mkdir()
    (folder / "misspelt.toml").write_text('backbne = "r2gfanet"')
    (folder / "option.toml").write_text("[options]\nbackbone.wdth = 3")
    (folder / "study.toml").write_text("[study]\ncandidate = 3")
    # The first is answered in the process itself: the copies find what it read.
    script = f"""
import contextlib, io, json, os, sys
os.environ.update(COLUMNS="200", DOMAINEMO_DATA="")
from domainemo.cli import main

def answer(line):
    sys.argv = ["domainemo", *line.split(" ")]
    code, said = None, io.StringIO()
    with contextlib.redirect_stderr(said):
        try:
            main()
        except SystemExit as ended:
            code = ended.code
    heavy = sorted(set({HEAVY!r}) & set(sys.modules))
    words = " ".join(said.getvalue().split())
    return (json.dumps([line, code, words, heavy]) + "\\n").encode()

answer("adapt --backbone r2gfant")
for line in {list(MISSPELT)!r}:
    if child := os.fork():
        os.waitpid(child, 0)
        continue
    os.write(1, answer(line))
    os._exit(0)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=folder
    )
    assert not done.stderr, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return {line: (code, said, heavy) for line, code, said, heavy in rows}


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
@pytest.mark.parametrize("line", MISSPELT)
def test_a_misspelt_name_is_refused_at_once(line, answers):
    code, said, heavy = answers[line]
    assert code == 2, said
    assert MISSPELT[line] in said
    assert heavy == []


def test_the_nearest_name_is_found_whatever_its_capitals():
    known = ["seed", "seed-iv", "seed-v", "seed-vii"]
    assert did_you_mean("SEED-IV", known) == " Did you mean 'seed-iv'?"
    assert did_you_mean(" Seed_V ", known) == " Did you mean 'seed-v'?"
    assert did_you_mean("SEEDIV", known) == " Did you mean 'seed-iv'?"
    assert did_you_mean("quite different", known) == ""
    assert did_you_mean("x", []) == ""


# --------------------------------------------------- the text tells what the code does


@pytest.mark.parametrize("kind", KINDS)
def test_options_are_those_of_the_classes(kind):
    for entry in entries(kind):
        cls = find(kind, entry.name)
        assert names.options_of(kind, entry.name) == list(parameters(cls)), entry.name
        if entry.options is not None:
            assert list(entry.options) == list(parameters(cls))


def test_most_options_are_told_by_the_text():
    untold = [e.name for kind in KINDS for e in entries(kind) if e.options is None]
    assert len(untold) <= 2, untold


def test_options_beside_the_parts_are_those_of_their_classes():
    owners = names._owners({"pairs": "random"})
    for cls in (Synchronous, Random):
        assert owners["pairs"] == list(parameters(cls))
    assert owners["training"] == list(USED_SETTINGS)
    assert owners["contrast"] == list(parameters(SynchronyContrast))
    assert names._owners({})["training"] == list(Training.names())


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"folds": ("subjct 1",)}, "no fold 'subjct 1'. Did you mean 'subject 1'"),
        ({"modalities": ["EEG"]}, "no modality 'EEG'. Did you mean 'eeg'"),
        ({"exclude": ["11"]}, "no subject 11 to leave out. Did you mean '1'"),
        ({"folds": ["1"]}, "no fold '1'. Did you mean 'subject 1'"),
        (
            {"exclude_channels": ["eye/pupill"]},
            "no channel 'eye/pupill'.*Did you mean 'eye/pup",
        ),
        ({"exclude": ["1", "2", "3"]}, "with 1, 2, 3 left out, there is no subject"),
    ],
)
def test_names_of_the_recordings_are_suggested(changes, sentence):
    data = Simulated(subjects=3, sessions=1, trials=3, windows=(1, 2)).load()
    with pytest.raises(ConfigurationError, match=sentence):
        plan(data, experiment(backbone="concatenation-mlp", device="cpu", **changes))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("modalities", []),
        ("training", {"epochs": 1}),
        ("options", 5),
        ("options", {1: 2}),
        ("output", 5),
        ("executor", 5),
        ("on_progress", 5),
    ],
)
def test_values_of_another_kind_are_told(option, value):
    data = Simulated(subjects=3, sessions=1, trials=3, windows=(1, 2)).load()
    with pytest.raises(ConfigurationError, match=option):
        run(data, backbone="concatenation-mlp", device="cpu", **{option: value})


def test_what_holds_nothing_is_told():
    data = Simulated(subjects=3, sessions=1, trials=3, windows=(1, 2)).load()
    chosen = experiment(backbone="concatenation-mlp", device="cpu")
    signals = {name: array.copy() for name, array in data.inputs.signals.items()}
    for array in signals.values():
        array[(data.inputs.windows["subject"] == 2).to_numpy()] = np.nan
    empty = replace(data, inputs=replace(data.inputs, signals=signals))
    with pytest.raises(DataError, match=r"of subject 2; .*--exclude '2'"):
        plan(empty, chosen)
    eeg = data.inputs.modalities["eeg"]
    other = replace(eeg, channels=("ECG", *eeg.channels[1:]))
    modalities = {**data.inputs.modalities, "eeg": other}
    wrong = replace(data, inputs=replace(data.inputs, modalities=modalities))
    with pytest.raises(DataError, match="'ECG'"):
        plan(wrong, chosen)


@pytest.mark.parametrize(
    ("adapter", "options", "told"),
    [
        ("dann", {"adapter.branches": "ey"}, "no branch 'ey'. Did you mean 'eye'"),
        (
            "mcc+(confidence+distillation+dann)",
            {"adapter.dann.branches": ("fusion", "eg")},
            "no branch 'eg'. Did you mean 'eeg'",
        ),
        ("dann", {"adapter.branches": ()}, "DANN works on the branches"),
        ("dann", {"adapter.branches": ("eye", "eye")}, "'eye' is named twice"),
        ("uf-ama", {"adapter.marginal": -1.0}, "marginal is -1.0; expected at least 0"),
        ("pytorch-adapt:MCD", {"adapter.branches": "fusoin"}, "'fusion'"),
    ],
)
def test_a_branch_that_is_not_there_is_told_before_training(adapter, options, told):
    data = Simulated(subjects=2, sessions=1, trials=6).load()
    with pytest.raises(ConfigurationError) as caught:
        plan(data, experiment(adapter=adapter, options=options, device="cpu"))
    assert told in str(caught.value)


def test_a_fold_named_twice_is_told():
    with pytest.raises(ConfigurationError, match="expected each of them once"):
        experiment(folds=["subject 1", "subject 1"], device="cpu")
