"""What is not finite ends with a sentence, wherever it arises; no number is made."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import domainemo
from domainemo import Adapter, DataError, Modality, Simulated, Training, Validator
from domainemo.backbones.concatenation import Concatenation
from domainemo.controls.logistic_regression import LogisticRegression
from domainemo.core import Fold
from domainemo.data.normalisation import normalise
from domainemo.errors import RunError
from domainemo.runs.checks import check_signals
from domainemo.runs.controls import control_probabilities
from domainemo.runs.metrics import metrics
from domainemo.runs.record import load_record
from domainemo.runs.results import Results
from domainemo.training.divergence import Divergence
from domainemo.training.synchrony import SynchronyContrast

EPOCHS = 3


class Late(Adapter):
    """Finite to the last step, whose value or gradient is not."""

    def __init__(self, *, value=False):
        super().__init__()
        self.value = value

    def forward(self, source, target):
        embedding = source.outputs.embeddings["fusion"]
        if target.progress < 0.85:
            return {"late": 0 * embedding.sum()}
        if self.value:
            return {"late": embedding.sum() / 0}
        # A root of zero: the value is 0, its slope infinite, and 0 x infinity is NaN.
        return {"late": (0 * embedding).abs().sum().sqrt()}


class Never(Validator):
    """Scores nothing."""

    def __init__(self, *, score=math.nan):
        self.score = score

    def __call__(self, training, held_out, target):
        return self.score


@pytest.fixture(scope="module")
def data():
    made = Simulated(subjects=3, sessions=1, trials=3, windows=(2, 3), missing=0.0)
    return made.load()


def run(data, output=None, **changes):
    chosen = {
        "backbone": "concatenation-mlp",
        "adapter": "none",
        "baselines": False,
        "training": Training(epochs=EPOCHS, batch_size=4),
        "sampling": "windows",
        "folds": ("subject 1",),
        "device": "cpu",
        **changes,
    }
    return domainemo.run(data, output=output, **chosen)


def finished(folder):
    return [
        path
        for path in folder.glob("folds/*/*/*/record.json")
        if ".partial" not in path.parent.name
    ]


# -------------------------------------------------------------------------- training


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (True, r"in epoch 3: late is not finite from step \d of \d on"),
        (False, r"in epoch 3: \d+ of \d+ weights, such as .*, are not finite after"),
    ],
)
def test_a_last_step_that_diverges_is_a_failed_fold(data, tmp_path, value, sentence):
    with pytest.raises(RunError, match=f"Training diverged {sentence}") as raised:
        run(data, tmp_path / "run", adapter=Late(value=value))
    message = str(raised.value)
    assert "1 of 1 job failed, so" in message and "nothing to score" in message
    assert "the others" not in message
    assert "subject 1, late" in message.lower()
    assert "Lower training.learning_rate (now 0.001)" in message
    assert finished(tmp_path / "run") == []
    assert not (tmp_path / "run" / "results.csv").exists()


def test_the_others_are_kept_where_one_diverges(data, tmp_path):
    with pytest.raises(RunError, match="1 of 3 jobs failed"):
        run(data, tmp_path / "run", adapter=Late(), baselines=True)
    assert len(finished(tmp_path / "run")) == 2


def watch(network=None, beside=None):
    training = Training(learning_rate=0.25)
    network, beside = network or nn.Linear(2, 2), beside or nn.Linear(1, 1)
    return Divergence("Training", network, beside, training), network, beside


def step(**losses):
    found = {name: torch.tensor(value) for name, value in losses.items()}
    return {**found, "total": torch.stack(list(found.values())).sum()}


def test_means_are_those_of_a_slow_loop():
    steps = [step(a=0.1 * k, b=1.0 / (k + 1)) for k in range(7)]
    found = watch()[0].means(1, steps)
    assert list(found) == ["a", "b", "total"]
    assert found["a"] == pytest.approx(np.mean([0.1 * k for k in range(7)]))
    assert found["total"] == pytest.approx(found["a"] + found["b"])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 2, 4])
def test_the_first_bad_step_and_its_terms_are_named(value, place):
    steps = [step(a=1.0, b=1.0) for _ in range(5)]
    steps[place] = step(a=1.0, b=value)
    steps[-1] = steps[-1] if place == 4 else step(a=value, b=value)
    with pytest.raises(RunError) as raised:
        watch()[0].means(6, steps)
    said = f"diverged in epoch 6: b is not finite from step {place + 1} of 5 on."
    assert said in str(raised.value)
    assert "now 0.25" in str(raised.value)


def test_a_sum_beyond_the_range_is_no_mean():
    with pytest.raises(RunError, match="the sum of all losses is not finite"):
        watch()[0].means(1, [step(a=3e38), step(a=3e38)])


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("where", ["network", "beside", "buffer"])
def test_weights_are_looked_at_after_the_last_step(where, value):
    divergence, network, beside = watch(nn.BatchNorm1d(3))
    tensor = {
        "network": network.weight,
        "beside": beside.bias,
        "buffer": network.running_var,
    }[where]
    steps = [step(small=1.0, large=-5.0)]
    divergence.means(1, steps)
    tensor.data[0] = value
    with pytest.raises(RunError) as raised:
        divergence.means(2, steps)
    name = {"network": "weight", "beside": "Linear.bias", "buffer": "running_var"}
    assert f"1 of 6 weights, such as {name[where]}, are not" in str(raised.value)
    assert "the largest, large, was -5" in str(raised.value)


def test_a_mask_may_be_infinite_from_the_start():
    network = nn.Linear(1, 1)
    network.register_buffer("mask", torch.tensor([0.0, -math.inf]))
    watch(network)[0].means(1, [step(a=1.0)])


def test_an_output_that_is_not_finite_is_no_epoch_to_keep(data, tmp_path, monkeypatch):
    """The weights are; the last epoch would have been left out, and called the last."""
    forward = Concatenation.forward

    def overflows(self, signals, masks):
        found = forward(self, signals, masks)
        scale = 1 if self.training else 1e38
        return {name: scale * (scale * value) for name, value in found.items()}

    monkeypatch.setattr(Concatenation, "forward", overflows)
    with pytest.raises(RunError, match="epoch 1: the network's output is not finite"):
        run(data, tmp_path / "run")
    assert finished(tmp_path / "run") == []


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_validator_that_never_scores_chooses_nothing(data, tmp_path, score):
    sentence = "validator Never gave no finite score after any of 3 epochs"
    with pytest.raises(RunError, match=sentence):
        run(data, tmp_path / "run", validator=Never(score=score))
    assert finished(tmp_path / "run") == []


def test_pretraining_that_diverges_in_its_last_step_fails(data, tmp_path, monkeypatch):
    forward, calls = SynchronyContrast.forward, []

    def late(self, first, second, **others):
        losses = forward(self, first, second, **others)
        calls.append(1)
        (value,) = list(first.values())[:1]
        if len(calls) == last:
            losses["late"] = (0 * value).abs().sum().sqrt()
        return losses

    monkeypatch.setattr(SynchronyContrast, "forward", late)
    chosen = {
        "backbone": "concatenation-mlp",
        "sampling": "windows",
        "training": Training(epochs=2, batch_size=4),
        "device": "cpu",
        "options": {"pairs.members": 1},
    }
    last = 0
    table = domainemo.pretrain(data, output=tmp_path / "whole", **chosen)
    assert len(table) == 3
    assert len(calls) % 3 == 0
    last, total = len(calls) // 3, len(calls)
    calls.clear()
    with pytest.raises(RunError, match=r"Pre-training diverged in epoch 2: .* weights"):
        domainemo.pretrain(data, output=tmp_path / "late", **chosen)
    assert len(calls) == total
    assert not list((tmp_path / "late").glob("pretraining.*"))


# --------------------------------------------------------- predictions and numbers


def test_no_prediction_is_scored_that_is_not_finite():
    probabilities = np.full((4, 3), 1 / 3)
    probabilities[2, 1] = np.nan
    with pytest.raises(RunError, match="not all finite"):
        metrics(np.array([0, 1, 2, 0]), probabilities)


def test_a_run_that_diverged_in_silence_is_not_read(data, tmp_path):
    """As folders of earlier versions hold them."""
    folder = tmp_path / "run"
    run(data, folder)
    (record,) = finished(folder)
    path = record.parent / "predictions.npz"
    for listed in folder.rglob("files.json"):
        listed.unlink()
    with np.load(path) as file:
        arrays = dict(file)
    arrays["probabilities"][:] = np.nan
    np.savez(path, **arrays)
    with pytest.raises(RunError, match=r"predictions\.npz: its probabilities are not"):
        load_record(record.parent)
    table = pd.read_parquet(folder / "predictions.parquet")
    columns = [name for name in table if name.startswith("p_")]
    table.loc[1, columns] = np.nan
    table.to_parquet(folder / "predictions.parquet")
    with pytest.raises(RunError, match="of source only in subject 1 are not all"):
        Results.load(folder)


# ------------------------------------------------------------------------ huge values


def extreme(data, value, name="eeg"):
    """The same recordings with one huge value in each of two windows."""
    signals = {key: array.copy() for key, array in data.inputs.signals.items()}
    subject = data.inputs.windows["subject"].to_numpy()
    first, second = np.flatnonzero(subject == 2)[:2]
    signals[name][first, 1, 0], signals[name][second, 1, 0] = value, -value
    return replace(data, inputs=replace(data.inputs, signals=signals))


@pytest.mark.parametrize("value", [3.4e38, 1e37])
@pytest.mark.parametrize("name", ["eeg", "eye"])
def test_huge_values_are_refused_by_name(data, value, name):
    inputs = extreme(data, value, name).inputs
    channel = inputs.modalities[name].channels[1]
    with pytest.raises(DataError) as raised:
        check_signals(inputs)
    message = str(raised.value)
    for part in (f"modality {name!r}", f"channel {channel!r}", "of subject 2", "e+3"):
        assert part in message
    assert "write NaN" in message
    with pytest.raises(DataError, match="usually stand for missing"):
        run(replace(data, inputs=inputs))


@pytest.mark.parametrize("method", ["session", "subject", "source"])
@pytest.mark.parametrize("value", [1e20, 1e36, 3.4e38])
def test_a_huge_value_is_not_a_lost_sensor(data, method, value):
    inputs = extreme(data, value).inputs
    rows = np.arange(len(inputs))
    found, _ = normalise(inputs, method, source=rows, target=rows)
    assert np.isfinite(found.signals["eeg"]).all()
    theirs = np.flatnonzero(inputs.windows["subject"] == 2)
    group = rows if method == "source" else theirs
    column = inputs.signals["eeg"][group, 1, 0].astype(np.float64)
    expected = (column - column.mean()) / column.std()
    np.testing.assert_allclose(
        found.signals["eeg"][group, 1, 0], expected, rtol=1e-4, atol=1e-5
    )


def test_a_value_too_far_from_all_that_may_be_seen_is_named(data):
    """Of a sensor that hardly varied, in a window that was held out."""
    signals = {key: array.copy() for key, array in data.inputs.signals.items()}
    theirs = np.flatnonzero(data.inputs.windows["subject"] == 2)
    signals["eye"][:, 3] = 1e-35 * np.arange(len(data))[:, None]
    signals["eye"][theirs[-1], 3] = 1e5
    inputs = replace(data.inputs, signals=signals)
    seen = np.setdiff1d(np.arange(len(data)), theirs[-1:])
    channel = inputs.modalities["eye"].channels[3]
    for method in ("session", "source"):
        with pytest.raises(DataError) as raised:
            normalise(inputs, method, source=seen, target=seen)
        assert f"channel {channel!r} of subject 2: found the value 1e+05" in str(
            raised.value
        )


def test_the_linear_model_takes_huge_values_for_what_they_are(data):
    """Where the source hardly varies, float32 cannot hold the target's distance."""
    labels = np.array([0, 1] * 4)
    far = [1e36, -1e36, 1e36, -1e36]
    values = [*np.where(labels == 1, 1e-5, -1e-5).tolist(), *far]
    taken = data.inputs.take(np.arange(12))
    normalised = replace(
        taken,
        signals={"eeg": np.float32(values)[:, None, None]},
        modalities={"eeg": Modality(("A",), ("value",), "physiology")},
    )
    fold = Fold("f", np.arange(8), np.arange(8, 12), np.arange(8, 12))
    members = np.arange(8, 12)[:, None]
    found = control_probabilities(
        LogisticRegression(), normalised, "none", fold, fold.source, labels, members, 2
    )
    assert np.isfinite(found).all()
    assert found.argmax(1).tolist() == [1, 0, 1, 0]
