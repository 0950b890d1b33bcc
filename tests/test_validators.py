"""The validators equal their formulas, and never select a broken model."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.metrics import balanced_accuracy_score
from torch.nn.functional import one_hot

import domainemo as de
from domainemo import registry
from domainemo.adapters.pytorch_adapt.library import load
from domainemo.core import FUSION, Outputs, Source, Target, Validator
from domainemo.errors import ConfigurationError
from domainemo.testing import FirstFold
from domainemo.validators.information_maximisation import InformationMaximisation
from domainemo.validators.last import LastEpoch
from domainemo.validators.shared import balanced_accuracy
from domainemo.validators.source import SourceAccuracy
from domainemo.validators.source_and_information import SourceAndInformation

VALIDATORS = {
    "last": LastEpoch,
    "source": SourceAccuracy,
    "information-maximisation": InformationMaximisation,
    "source-and-information": SourceAndInformation,
}


def outputs(logits: torch.Tensor) -> Outputs:
    return Outputs(embeddings={}, logits={FUSION: logits})


def make_target(logits: torch.Tensor, progress: float = 0.5) -> Target:
    return Target(outputs(logits), progress)


def make_source(logits: torch.Tensor, labels: torch.Tensor) -> Source:
    return Source(outputs(logits), labels, torch.zeros_like(labels))


def random_logits(seed: int, samples: int = 40, classes: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(samples, classes, generator=generator)


def written_information(logits: torch.Tensor) -> float:
    """Entropy of the mean prediction less the mean entropy, as written."""
    x = logits.detach().double().numpy()
    p = np.exp(x - x.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    mean = p.mean(0)
    return float(-(mean * np.log(mean)).sum() + (p * np.log(p)).sum(1).mean())


@st.composite
def predictions(draw):
    classes = draw(st.integers(2, 6))
    numbers = st.integers(0, classes - 1)
    shape = draw(st.integers(1, 50))
    pair = [draw(arrays.arrays(np.int64, shape, elements=numbers)) for _ in range(2)]
    return classes, *pair


@given(predictions())
@settings(deadline=None, max_examples=60)
def test_balanced_accuracy_is_that_of_scikit_learn(case):
    classes, labels, predicted = case
    logits = one_hot(torch.as_tensor(predicted), classes).float()
    with warnings.catch_warnings():
        # It remarks on predicted classes that do not occur, and on single classes.
        warnings.simplefilter("ignore", UserWarning)
        expected = balanced_accuracy_score(labels, predicted)
    found = balanced_accuracy(logits, torch.as_tensor(labels))
    assert float(found) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_information_is_the_written_formula_and_pytorch_adapts_value(seed, dtype):
    logits = random_logits(seed, classes=2 + seed).to(dtype).requires_grad_()
    found = InformationMaximisation()(None, None, make_target(logits))
    assert found == pytest.approx(written_information(logits), abs=1e-5)
    theirs = load("validators").IMValidator()(target_train={"logits": logits.double()})
    assert found == theirs  # to the last bit


def test_information_runs_from_zero_to_the_logarithm_of_the_classes():
    certain = 100 * one_hot(torch.arange(20) % 4).float()
    score = InformationMaximisation()
    assert score(None, None, make_target(certain)) == pytest.approx(
        math.log(4), abs=1e-6
    )
    collapsed = certain[:1].expand(20, 4)
    assert score(None, None, make_target(collapsed)) == pytest.approx(0, abs=1e-6)
    assert score(None, None, make_target(torch.zeros(20, 4))) == pytest.approx(
        0, abs=1e-6
    )


def test_information_prefers_a_confident_random_predictor_as_documented():
    labels = torch.arange(400) % 4
    good = 2 * one_hot(labels).float()
    shuffled = labels[torch.randperm(400, generator=torch.Generator().manual_seed(0))]
    random = 100 * one_hot(shuffled).float()
    information, both = InformationMaximisation(), SourceAndInformation()
    assert information(None, None, make_target(random)) > information(
        None, None, make_target(good)
    )
    of_random = both(None, make_source(random, labels), make_target(random))
    of_good = both(None, make_source(good, labels), make_target(good))
    assert of_random < of_good


def test_source_and_information_is_the_sum_it_says():
    labels = torch.arange(40) % 3
    source = make_source(random_logits(1), labels)
    target = make_target(random_logits(2))
    expected = SourceAccuracy()(None, source, target) + 0.5 * (
        InformationMaximisation()(None, None, target) / math.log(3)
    )
    assert SourceAndInformation()(None, source, target) == pytest.approx(expected)


def test_source_accuracy_looks_at_the_held_out_source_alone():
    source = make_source(random_logits(1), torch.arange(40) % 3)
    score = SourceAccuracy()
    first = score(None, source, make_target(random_logits(2)))
    assert first == score(None, source, make_target(random_logits(3), progress=1.0))
    assert first == float(balanced_accuracy(random_logits(1), source.labels))


def test_last_prefers_the_later_epoch():
    logits = random_logits(0)
    scores = [LastEpoch()(None, None, make_target(logits, i / 4)) for i in range(5)]
    assert scores == sorted(set(scores))


@pytest.mark.parametrize("name", VALIDATORS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_model_that_is_not_finite_is_never_selected(name, value):
    broken, sound = random_logits(0), random_logits(0)
    broken[3, 1] = value
    labels = torch.arange(40) % 3
    score = VALIDATORS[name]()
    assert score(None, make_source(sound, labels), make_target(broken)) == -math.inf
    assert score(None, make_source(broken, labels), make_target(sound)) == -math.inf


@pytest.mark.parametrize("name", VALIDATORS)
@pytest.mark.parametrize(
    "logits",
    [
        pytest.param(torch.zeros(0, 3), id="empty"),
        pytest.param(torch.zeros(1, 3), id="one sample"),
        pytest.param(torch.zeros(5, 1), id="a single class"),
        pytest.param(torch.tensor([[9.0, 0, 0]]).expand(8, 3), id="collapsed"),
        pytest.param(torch.tensor([[3e38, -3e38, 0]] * 4), id="huge"),
    ],
)
def test_undefined_cases_are_finite(name, logits):
    labels = torch.zeros(len(logits), dtype=torch.int64)
    score = VALIDATORS[name]()(None, make_source(logits, labels), make_target(logits))
    assert type(score) is float
    assert math.isfinite(score)


@pytest.mark.parametrize("cls", [SourceAccuracy, SourceAndInformation])
def test_a_missing_held_out_source_is_explained(cls):
    assert cls.held_out
    with pytest.raises(ConfigurationError, match="held out of training"):
        cls()(None, None, make_target(random_logits(0)))


@pytest.mark.parametrize("cls", [LastEpoch, InformationMaximisation])
def test_the_others_train_on_every_source_subject(cls):
    assert not cls.held_out
    assert math.isfinite(cls()(None, None, make_target(random_logits(0))))


class Compares(Validator):
    """How like the source the target is, in the fusion's embedding."""

    needs_training, held_out = True, True

    def __call__(self, training, held_out, target):
        assert not any(
            o.outputs.logits[FUSION].requires_grad for o in (training, target)
        )
        means = [
            each.outputs.embeddings[FUSION].mean(0)
            for each in (training, held_out, target)
        ]
        assert len(training.labels) == len(training.outputs.logits[FUSION])
        assert not set(training.domains.tolist()) & set(held_out.domains.tolist())
        return target.progress - float((means[0] - means[2]).abs().tanh().mean()) * 1e-6


class ComparesNot(Compares):
    """The same without a look at the source that trains."""

    needs_training = False

    def __call__(self, training, held_out, target):
        assert training is None
        return target.progress


def test_the_source_that_trains_is_shown_where_it_is_asked_for(tmp_path):
    """Beside what is held out, and without a trace in what is trained."""
    data = de.Simulated(subjects=4, sessions=1, trials=3, windows=(3, 5)).load()
    weights, scores = [], []
    for validator in (Compares(), ComparesNot()):
        output = tmp_path / type(validator).__name__
        de.run(
            data,
            protocol=FirstFold(registry.find("protocol", "cross-subject")()),
            adapter="marginal",
            validator=validator,
            options={"backbone.width": 8, "backbone.heads": 2},
            training=de.Training(epochs=2, batch_size=8),
            baselines=False,
            device="cpu",
            output=output,
        )
        (path,) = output.rglob("model.safetensors")
        weights.append(path.read_bytes())
        scores.append(pd.read_csv(path.with_name("history.csv"))["score"])
    assert weights[0] == weights[1]
    assert (scores[0] < scores[1]).all()


def test_the_page_tells_of_each_what_it_assumes_and_when_it_fails():
    page = Path(__file__).parents[1] / "docs" / "validators.md"
    rows = [
        [each.strip() for each in line.strip("|").split("|")]
        for line in page.read_text(encoding="utf-8").splitlines()
        if line.startswith("| `")
    ]
    told = {row[0].strip("`"): row for row in rows}
    assert set(told) == {each.name for each in registry.entries("validator")}
    for name, row in told.items():
        assert len(row) == 5 and all(row[place] for place in (1, 3, 4)), name


@pytest.mark.parametrize(("name", "cls"), VALIDATORS.items())
def test_each_is_found_by_its_name(name, cls):
    assert registry.find("validator", name) is cls
