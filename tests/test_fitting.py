"""A network is fitted: which epoch is kept, and what it and its validator are shown."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from fitted import fit

from domainemo.adapters.none import SourceOnly
from domainemo.backbones.concatenation import Concatenation
from domainemo.core import FUSION, Inputs, Modality, Validator
from domainemo.samplings.windows import Windows
from domainemo.training import fit as fitting
from domainemo.training import loop
from domainemo.training.batches import LabelledSamples, sample
from domainemo.training.model import Network
from domainemo.training.objective import Objective
from domainemo.training.settings import Training

torch.set_num_threads(1)
MODALITIES = {"eeg": Modality(("FZ", "CZ", "PZ", "OZ"), tuple("abcde"), "eeg")}
SAMPLES = 36


@pytest.fixture(scope="module")
def source():
    """Two people of eighteen windows, and unequal classes."""
    windows = pd.DataFrame({"trial": range(SAMPLES), "subject": 1, "session": 1})
    windows = windows.assign(stimulus=1, start=0.0)
    shape = (SAMPLES, 4, 5)
    signals = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    inputs = Inputs({"eeg": signals}, windows, MODALITIES)
    samples, _ = sample(inputs, np.arange(SAMPLES), Windows(), torch.device("cpu"))
    labels = torch.tensor([0] * 26 + [1] * 10)
    return LabelledSamples(samples, labels, torch.tensor([0] * 18 + [1] * 18))


def network():
    torch.manual_seed(0)
    backbone = Concatenation(MODALITIES, hidden=(4,), width=4, fusion_width=4)
    return Network(backbone, MODALITIES, 2)


def train(source, validator, *, model=None, **settings):
    """Three epochs of four steps."""
    return fit(
        network() if model is None else model,
        SourceOnly(),
        source,
        source.samples,
        validator=validator,
        held_out=None,
        training=Training(epochs=3, batch_size=8, **settings),
        seed=5,
    )


def prepared(source, adapter):
    """A training before its first step."""
    return fitting.Fitting(
        network(),
        adapter,
        source,
        source.samples,
        validator=Alike(),
        held_out=None,
        training=Training(epochs=1, batch_size=8),
        traced=None,
    )


class Alike(Validator):
    """Says the same of every network."""

    def __call__(self, training, held_out, target):
        return 0.5


class Rounded(Validator):
    """Says the same, but for rounding, and a little less every time."""

    def __call__(self, training, held_out, target):
        return 0.5 - 1e-15 * target.progress


class Second(Validator):
    """By itself it would take the last of three epochs; compared, the second."""

    compares = True

    def __call__(self, training, held_out, target):
        return target.progress

    def evidence(self, training, held_out, target):
        return [target.progress]

    def compare(self, found):
        return [7.0 - abs(progress - 2 / 3) for (progress,) in found]


class Undecided(Second):
    """Compared, all are the same to it."""

    def compare(self, found):
        return [7.0] * len(found)


class Remembering(Validator):
    """Remembers what it is handed."""

    def __init__(self):
        self.handed = []

    def __call__(self, training, held_out, target):
        self.handed.append((training, held_out, target))
        return 0.0


# --------------------------------------------------------------------- the best epoch


@pytest.mark.parametrize("validator", [Alike(), Rounded(), Undecided()])
def test_of_epochs_that_are_alike_the_last_is_kept(source, validator):
    model = network()
    fitted = train(source, validator, model=model)
    last = network()
    train(source, Remembering(), model=last)
    assert fitted.epoch == 3
    for name, value in model.state_dict().items():
        assert torch.equal(value, last.state_dict()[name])


def test_of_epochs_that_are_compared_the_best_is_kept_with_its_own_score(source):
    fitted = train(source, Second())
    assert fitted.epoch == 2
    # Its own score, not what it is by comparison.
    assert fitted.score == fitted.history[1]["score"] == pytest.approx(2 / 3)
    assert fitted.evidence == [pytest.approx(2 / 3)]


# ------------------------------------------------------------------ what is handed over


def test_a_validator_is_told_the_progress_at_the_end_of_each_epoch(source):
    validator = Remembering()
    train(source, validator)
    told = [target.progress for *_, target in validator.handed]
    assert told == pytest.approx([1 / 3, 2 / 3, 1])


def test_a_validator_is_shown_no_source_that_it_did_not_ask_for(source):
    validator = Remembering()
    given = network(), SourceOnly(), source, source, source.samples
    fitting.scores(*given, {"remembering": validator})
    ((training, held_out, _),) = validator.handed
    assert training is None and held_out is None


def test_a_step_is_told_how_much_of_training_has_passed(source, monkeypatch):
    told, plain = [], Objective.forward

    def telling(self, shown, weights, progress, judge):
        told.append(progress)
        return plain(self, shown, weights, progress, judge)

    monkeypatch.setattr(Objective, "forward", telling)
    train(source, Alike())
    assert told == pytest.approx([step / 12 for step in range(12)])


class Late(SourceOnly):
    """Shown the target from some moment on."""

    needs_target = True

    def __init__(self, begins):
        super().__init__()
        self.moment = begins

    @property
    def begins(self):
        return self.moment


@pytest.mark.parametrize("begins", [0.0, 0.5])
def test_an_adapter_is_shown_the_target_from_the_moment_it_begins(source, begins):
    task = prepared(source, Late(begins))
    assert task.needs_target(begins) and not task.needs_target(begins - 1e-9)


def test_a_step_is_shown_every_sample_with_its_own_label_and_domain(source):
    task = prepared(source, SourceOnly())
    task.batches()
    here = torch.arange(SAMPLES).flip(0)
    shown = task.show(here, here, 0.0)
    assert torch.equal(shown.labels, source.labels[here])
    assert torch.equal(shown.domains, source.domains[here])
    assert torch.equal(shown.source[0]["eeg"], source.samples.batch(here)[0]["eeg"])


def test_every_epoch_is_drawn_anew(source, monkeypatch):
    drawn, plain = [], fitting.epoch_batches

    def recording(*given):
        batches = list(plain(*given))
        drawn.append(torch.cat([here for here, _ in batches]))
        return batches

    monkeypatch.setattr(fitting, "epoch_batches", recording)
    train(source, Alike())
    assert len({tuple(each.tolist()) for each in drawn}) == 3


# ---------------------------------------------------------------------- what is trained


def test_heads_that_are_frozen_stay_as_they_were_and_the_rest_is_trained(source):
    model, before = network(), network().state_dict()
    train(source, Alike(), model=model, freeze_heads=True)
    changed = {n for n, v in model.state_dict().items() if not v.equal(before[n])}
    assert changed
    assert not any(name.startswith("heads.") for name in changed)


def test_gradients_are_clipped_to_the_norm_that_is_set(source, monkeypatch):
    norms, plain = [], torch.nn.utils.clip_grad_norm_

    def clipping(weights, most):
        weights = list(weights)
        plain(weights, most)
        squares = [w.grad.square().sum() for w in weights if w.grad is not None]
        norms.append(float(torch.stack(squares).sum().sqrt()))

    monkeypatch.setattr(loop.nn.utils, "clip_grad_norm_", clipping)
    train(source, Alike(), clip=1e-3)
    assert len(norms) == 12
    assert norms == pytest.approx([1e-3] * 12, rel=0.01)


# ------------------------------------------------------------------ what is made of it


class Reversed(SourceOnly):
    """Predicts the least likely class."""

    def predict(self, outputs):
        return -outputs.logits[FUSION]


def test_a_source_is_scored_by_what_the_adapter_predicts(source):
    model = network()
    expected = -fitting._evaluate(model, source.samples).logits[FUSION]
    shown = fitting._shown(model, Reversed(), source)
    assert torch.equal(shown.outputs.logits[FUSION], expected)


def test_a_target_is_shown_shuffled_and_can_be_put_back(source):
    model = network()
    seen, order = fitting._seen(model, source.samples, 1.0)
    expected = fitting._evaluate(model, source.samples).logits[FUSION]
    found = seen.outputs.logits[FUSION]
    assert not torch.allclose(found, expected)
    torch.testing.assert_close(found[order], expected)


def test_each_sample_is_mixed_with_the_one_opposite_of_the_shuffled_target(source):
    model = network()
    found = fitting._mixed(model, SourceOnly(), source.samples, 0.7).logits[FUSION]
    shuffled, _ = fitting._shuffled(source.samples)
    signals, masks = shuffled.batch(torch.arange(SAMPLES))
    opposite = signals["eeg"].flip(0)
    with torch.no_grad():
        expected = model({"eeg": 0.7 * signals["eeg"] + 0.3 * opposite}, masks)
    torch.testing.assert_close(found, expected.logits[FUSION])


def test_a_loss_that_did_not_count_yet_was_zero():
    rows = fitting._rectangular([{"a": 1.0}, {"a": 2.0, "b": 3.0}])
    assert rows == [{"a": 1.0, "b": 0.0}, {"a": 2.0, "b": 3.0}]
