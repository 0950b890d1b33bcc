"""Slips of parts of one's own: refused before anything trains, or harmless."""

import functools
import importlib
import sys

import numpy as np
import pytest
import torch
from torch import nn

import domainemo as de
from domainemo.adapters.composite import Composite
from domainemo.adapters.distillation import Distillation
from domainemo.backbones.concatenation import Concatenation
from domainemo.controls.logistic_regression import LogisticRegression

torch.set_num_threads(1)
MINE = '''
import domainemo as de
from domainemo.backbones.concatenation import Concatenation


@de.register
class Mine(Concatenation):
    """A network of one's own."""

    def __init__(self, modalities):
        super().__init__(modalities, width=4)
'''
QUICK = {"epochs": 1, "baselines": False, "adapter": "none", "device": "cpu"}


@pytest.fixture(scope="module")
def data():
    return de.Simulated(subjects=2, sessions=1, trials=6, windows=(3, 3)).load()


class Small(Concatenation):
    """A small network."""

    by_position = True

    def __init__(self, modalities):
        super().__init__(modalities, hidden=(), width=4, fusion_width=6)


class InPlace(Small):
    """It scales what others are handed, too."""

    def forward(self, signals, masks):
        for name in signals:
            signals[name] *= 2.0
        return super().forward(signals, masks)


class Double(Small):
    """Its weights are of another precision."""

    def __init__(self, modalities):
        super().__init__(modalities)
        self.double()


class OneMore(Small):
    """Its classifiers have a logit too many."""

    def head(self, branch, dim, classes):
        return nn.Linear(dim, classes + 1)


class Shared(Small):
    """Two layers have one weight, and two branches one classifier."""

    def __init__(self, modalities):
        super().__init__(modalities)
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
        self.second.weight = self.first.weight
        self.classifier = nn.Linear(4, 3)

    def forward(self, signals, masks):
        found = super().forward(signals, masks)
        return {**found, "fusion": self.second(self.first(found["fusion"]))}

    def head(self, branch, dim, classes):
        return super().head(branch, dim, classes) if dim == 6 else self.classifier


class Known(LogisticRegression):
    """It tells probabilities of the classes that it met, and of no other."""

    def predict(self, windows, source, labels, target, test, values):
        return np.full((len(test), 2), 0.5)


class Listed(Small):
    """It has a layer in a plain list, which is neither trained nor kept."""

    def __init__(self, modalities):
        super().__init__(modalities)
        self.more = [nn.Linear(6, 6)]

    def forward(self, signals, masks):
        found = super().forward(signals, masks)
        return {**found, "fusion": 3 * self.more[0](found["fusion"])}


class Drifts(Small):
    """It predicts by a mean that no buffer holds."""

    mean = 0.0

    def forward(self, signals, masks):
        found = super().forward(signals, masks)
        if self.training:
            self.mean = 0.9 * self.mean + found["fusion"].detach().mean(0)
        return {**found, "fusion": found["fusion"] - self.mean}


class Forgets(Small):
    """It predicts by a buffer that is not kept."""

    def __init__(self, modalities):
        super().__init__(modalities)
        self.register_buffer("mean", torch.zeros(6), persistent=False)

    def forward(self, signals, masks):
        found = super().forward(signals, masks)
        if self.training:
            self.mean.copy_(found["fusion"].detach().mean(0))
        return {**found, "fusion": found["fusion"] - self.mean}


class Loses(de.Normalisation):
    """It makes nothing of values below the mean, where it meant to take roots."""

    by = "session"
    words = "away from the mean of each session, upwards"

    def fit(self, values):
        return {"mean": np.nanmean(values, axis=0)}

    def apply(self, values, learned):
        away = values - learned["mean"]
        return np.where(away < 0, np.float32("nan"), away)


class Astray(de.Screen):
    """It believes in a class that there is not."""

    def forward(self, target):
        labels = target.outputs.logits["fusion"].argmax(-1)
        whole = torch.ones(labels.shape)
        return de.Pseudo(self.labels(labels), self.weights(whole, target))

    def labels(self, labels):
        return torch.where(labels == 2, 3, labels + 1)

    def weights(self, whole, target):
        return dict.fromkeys(target.outputs.logits, whole)


class Counts(Astray):
    """It weighs samples by a number, where a share is meant."""

    def labels(self, labels):
        return labels

    def weights(self, whole, target):
        weights = super().weights(whole, target)
        return {**weights, "fusion": 2 * whole}


class Optional(Small):
    """It has an option that may be None, and is not by default."""

    def __init__(self, modalities, *, scale: float | None = 3.0):
        super().__init__(modalities)


@pytest.mark.parametrize("cls", [Listed, Drifts, Forgets])
def test_a_network_that_would_be_read_otherwise_is_refused(data, cls):
    de.register(cls)
    told = f"{cls.__name__} predicts by something that its weights and buffers do not"
    with pytest.raises(de.DomainemoError, match=told):
        de.run(data, backbone=cls, **QUICK)


def test_none_is_refused_where_no_file_could_hold_it(data):
    de.register(Optional)
    with pytest.raises(de.ConfigurationError, match=r"scale is None, .*default 3\.0"):
        de.run(data, backbone=Optional, options={"backbone.scale": None}, **QUICK)


@pytest.mark.parametrize(
    ("cls", "told"),
    [
        (InPlace, "changes the signals 'e.*' in place.*not x .= 1"),
        (Double, "has the weights .* in torch.float64; expected torch.float32"),
        (OneMore, r"shape \(2, 4\).*expected a logit of each of 3 classes"),
    ],
)
def test_what_no_training_could_mend_is_refused(data, cls, told, tmp_path):
    de.register(cls)
    with pytest.raises(de.ConfigurationError, match=told):
        de.run(data, backbone=cls, output=tmp_path / "run", **QUICK)
    assert not list(tmp_path.glob("run/folds/*/*/*"))


def test_numbers_that_a_normalisation_loses_are_no_lost_sensor(data):
    de.register(Loses)
    told = r"Loses\.apply returned NaN in a window of which nothing is missing"
    with pytest.raises(de.DomainemoError, match=told):
        de.run(data, backbone="concatenation-mlp", normalisation=Loses, **QUICK)


@pytest.mark.parametrize(
    ("cls", "told"),
    [
        (Astray, "returned the label 3; expected one of the 3 classes, 0 to 2"),
        (Counts, "returned the weight 2 of 'fusion'; expected weights from 0 to 1"),
    ],
)
def test_a_screen_tells_of_classes_and_shares(data, cls, told):
    de.register(cls)
    adapter = Composite(terms={"distillation": Distillation()}, screen=cls())
    with pytest.raises(de.DomainemoError, match=told):
        de.run(data, backbone="concatenation-mlp", **{**QUICK, "adapter": adapter})


def test_shared_weights_are_kept_and_read_again(data, tmp_path):
    de.register(Shared)
    found = de.run(data, backbone=Shared, output=tmp_path / "run", **QUICK).predictions
    one = data.take(np.flatnonzero(data.inputs.windows["subject"] == 1))
    again = de.predict(tmp_path / "run", one, fold="subject 1")
    own = found[found["fold"] == "subject 1"]
    columns = [f"p_{name}" for name in data.classes]
    np.testing.assert_allclose(again[columns], own[columns], atol=1e-6)


def test_a_control_tells_of_every_class(data):
    de.register(Known)
    with pytest.raises(de.DomainemoError, match="probabilities of all 3 classes"):
        de.run(data, controls=[Known], **{**QUICK, "baselines": True})


def test_old_weights_in_new_code_are_told(data, tmp_path, monkeypatch, recwarn):
    (tmp_path / "mine_once.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    mine = importlib.import_module("mine_once")
    run = tmp_path / "run"
    de.run(data, backbone=mine.Mine, output=run, **QUICK)
    recwarn.clear()
    de.predict(run, data, fold="subject 1")
    assert not [each for each in recwarn if "other code" in str(each.message)]
    (tmp_path / "mine_once.py").write_text(f"{MINE}        self.dropout = 0.5\n")
    monkeypatch.delitem(sys.modules, "mine_once")
    importlib.invalidate_caches()
    importlib.import_module("mine_once")
    with pytest.warns(de.DomainemoWarning, match="trained with other code"):
        de.predict(run, data, fold="subject 1")


class Far(de.Adapter):
    """It aligns by whatever it is given."""

    def __init__(self, by):
        super().__init__()
        self.by = by

    def forward(self, source, target):
        gap = source.outputs.embeddings["fusion"] - target.outputs.embeddings["fusion"]
        by = self.by if callable(self.by) else lambda values: values * sum(self.by)
        return {"gap": by(gap.mean(-2)).square().sum(-1)}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda values: values, lambda values: 9 * values),
        (torch.tensor([1.0, 2.0]), torch.tensor([9.0, 2.0])),
        (np.arange(2000.0), np.arange(2000.0)[::-1] + 1),
        (functools.partial(torch.mul, other=2), functools.partial(torch.mul, other=3)),
        (nn.Linear(6, 6), nn.Linear(6, 6)),
        (torch.sin, torch.cos),
    ],
)
def test_a_folder_knows_what_an_object_holds(data, tmp_path, one, other):
    chosen = {**QUICK, "backbone": "concatenation-mlp", "output": tmp_path / "run"}
    small = {"backbone.width": 4, "backbone.fusion_width": 6, "backbone.hidden": ()}
    for _ in range(2):
        de.run(data, **{**chosen, "adapter": Far(one)}, options=small)
    with pytest.raises(de.ConfigurationError, match="adapter"):
        de.run(data, **{**chosen, "adapter": Far(other)}, options=small)
