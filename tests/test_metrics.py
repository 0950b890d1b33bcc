"""Metrics: by hand, against slow loops and scikit-learn's own figures."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_metrics import slow_areas, slow_selective

from domainemo.runs.metrics import (
    LOWER,
    METRICS,
    SHOWN,
    auroc,
    by_chance,
    calibration_error,
    confidence_bins,
    log_loss,
    metrics,
    selective_accuracy,
)
from domainemo.runs.scorer import score_rows

quick = settings(max_examples=25, deadline=None, database=None)


def certain(predicted, classes=3):
    """Probabilities that put everything on the predicted class."""
    return np.eye(classes)[predicted]


@st.composite
def predictions(draw):
    """True classes, and random probabilities of up to four classes."""
    classes = draw(st.integers(2, 4))
    size = draw(st.integers(1, 25))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    labels = rng.integers(0, classes, size)
    return labels, rng.dirichlet(np.ones(classes), size)


def slowly(labels, probabilities):
    """Every metric from a confusion matrix filled one sample at a time."""
    classes = probabilities.shape[1]
    matrix = [[0] * classes for _ in range(classes)]
    for label, row in zip(labels, probabilities, strict=True):
        matrix[int(label)][max(range(classes), key=lambda c: row[c])] += 1
    total = len(labels)
    right = sum(matrix[c][c] for c in range(classes))
    recalls, scores, chance = [], [], 0.0
    for c in range(classes):
        true, said = sum(matrix[c]), sum(row[c] for row in matrix)
        chance += true * said / total**2
        if true:
            recalls.append(matrix[c][c] / true)
            scores.append(2 * matrix[c][c] / (true + said))
    agreement = right / total
    alone, nan = len(recalls) == 1, float("nan")
    return {
        "accuracy": agreement,
        "balanced_accuracy": nan if alone else sum(recalls) / len(recalls),
        "macro_f1": nan if alone else sum(scores) / len(scores),
        "kappa": nan if alone else (agreement - chance) / (1 - chance),
        "calibration_error": slow_calibration(labels, probabilities),
        "auroc": slow_areas(labels, probabilities),
        "log_loss": -sum(
            math.log(row[label])
            for label, row in zip(labels, probabilities, strict=True)
        )
        / total,
        "selective_accuracy": slow_selective(labels, probabilities),
    }


def slow_calibration(labels, probabilities):
    """Guo et al. (2017), equation 3, with bins (0, 0.1], (0.1, 0.2] ..."""
    confidence = probabilities.max(1)
    right = probabilities.argmax(1) == labels
    error = 0.0
    for m in range(10):
        inside = (confidence > m / 10) & (confidence <= (m + 1) / 10)
        if inside.any():
            gap = abs(right[inside].mean() - confidence[inside].mean())
            error += inside.sum() / len(labels) * gap
    return error


@quick
@given(predictions())
def test_against_a_confusion_matrix(drawn):
    found = metrics(*drawn)
    assert tuple(found) == METRICS
    expected = slowly(*drawn)
    for name in METRICS:
        value = pytest.approx(expected[name], abs=1e-9, nan_ok=True)
        assert found[name] == value, name


def test_what_is_shown_and_what_is_better_low_are_metrics():
    assert {*SHOWN, *LOWER} <= set(METRICS)
    labels, rng = np.array([0, 1, 2] * 20), np.random.default_rng(0)
    good = rng.dirichlet(np.ones(3), 60) + 3 * np.eye(3)[labels]
    bad = good[:, [1, 2, 0]]
    better, worse = (metrics(labels, p / p.sum(1, keepdims=True)) for p in (good, bad))
    for name in METRICS:
        assert (better[name] < worse[name]) == (name in LOWER), name


def test_by_hand():
    labels = np.array([0, 0, 0, 0, 1, 1])
    found = metrics(labels, certain([0, 0, 0, 1, 1, 0], 2))
    assert found["accuracy"] == pytest.approx(4 / 6)
    assert found["balanced_accuracy"] == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert found["macro_f1"] == pytest.approx((6 / 8 + 2 / 4) / 2)
    # Agreement 2/3, by chance 4/6 * 4/6 + 2/6 * 2/6 = 5/9: (6 - 5) / (9 - 5).
    assert found["kappa"] == pytest.approx(1 / 4)
    assert found["calibration_error"] == pytest.approx(1 - 4 / 6)


def test_against_scikit_learn_where_every_class_occurs():
    rng = np.random.default_rng(0)
    labels = np.concatenate([np.arange(4), rng.integers(0, 4, 60)])
    probabilities = rng.dirichlet(np.ones(4), 64)
    predicted = probabilities.argmax(1)
    found = metrics(labels, probabilities)
    reference = {
        "accuracy": sklearn.metrics.accuracy_score(labels, predicted),
        "balanced_accuracy": sklearn.metrics.balanced_accuracy_score(labels, predicted),
        "macro_f1": sklearn.metrics.f1_score(labels, predicted, average="macro"),
        "kappa": sklearn.metrics.cohen_kappa_score(labels, predicted),
        "auroc": sklearn.metrics.roc_auc_score(
            labels, probabilities, multi_class="ovr"
        ),
        "log_loss": sklearn.metrics.log_loss(labels, probabilities),
    }
    for name, value in reference.items():
        assert found[name] == pytest.approx(value)


def test_a_class_that_never_occurs_does_not_count():
    """Only classes 0 and 1 are true; class 2 is predicted once, wrongly."""
    found = metrics(np.array([0, 0, 1, 1]), certain([0, 2, 1, 1]))
    assert found["balanced_accuracy"] == pytest.approx((1 / 2 + 1) / 2)
    assert found["macro_f1"] == pytest.approx((2 / 3 + 1) / 2)


@pytest.mark.parametrize("predicted", [[1, 1, 1], [0, 1, 1], [0, 2, 0]])
def test_one_class_alone_has_no_score(predicted):
    """Whoever always says that class would be right: it means nothing."""
    found = metrics(np.array([1, 1, 1]), certain(predicted))
    for name in ("balanced_accuracy", "macro_f1", "kappa", "auroc"):
        assert np.isnan(found[name])
    assert found["accuracy"] == np.mean(np.array(predicted) == 1)


@quick
@given(predictions(), st.integers(0, 1000))
def test_the_order_of_samples_does_not_matter(drawn, seed):
    labels, probabilities = drawn
    order = np.random.default_rng(seed).permutation(len(labels))
    one, other = (
        metrics(labels, probabilities),
        metrics(labels[order], probabilities[order]),
    )
    assert one == pytest.approx(other, abs=1e-9, nan_ok=True)


# --------------------------------------------------------------------- of whole trials


def said_of(labels, probabilities, trials):
    """Predictions of windows of one person."""
    probabilities = np.array(probabilities)
    return pd.DataFrame(
        {
            "subject": 1,
            "session": 1,
            "trial": trials,
            "label": labels,
            "predicted": probabilities.argmax(1),
            "p_calm": probabilities[:, 0],
            "p_tense": probabilities[:, 1],
        }
    )


def by_level(predictions):
    levels = score_rows(predictions, "window", ["calm", "tense"])
    return {name: (samples, found) for name, samples, found in levels}


def test_a_trial_is_scored_by_the_mean_of_its_windows():
    """The first is tense by 0.6, and is; the second calm by 0.9, and is tense."""
    rows = [(0.6, 0.4), (0.2, 0.8), (0.9, 0.1)]
    found = by_level(said_of([1, 1, 1], rows, [1, 1, 2]))
    samples, trial = found["trial"]
    assert (samples, trial["accuracy"]) == (2, 0.5)
    assert trial["log_loss"] == pytest.approx(-(np.log(0.6) + np.log(0.1)) / 2)
    assert found["window"][0] == 3
    assert found["window"][1]["accuracy"] == pytest.approx(1 / 3)


def test_where_windows_are_divided_the_more_probable_class_has_the_trial():
    rows = [(0.6, 0.4), (0.1, 0.9), (0.9, 0.1)]
    found = by_level(said_of([1, 1, 0], rows, [1, 1, 2]))
    assert found["trial, majority"][1]["accuracy"] == 1


# ---------------------------------------------------------------------- calibration


@pytest.mark.parametrize("present", [(0, 1, 2), (0, 1), (1, 2), (0, 2)])
def test_chance_is_what_shuffled_answers_reach(present):
    """On average over 4,000 shuffles, whatever classes are answered and present."""
    generator = np.random.default_rng(len(present))
    labels = generator.permutation(np.repeat(present, [30, 10, 5][: len(present)]))
    predicted = generator.choice(3, p=[0.6, 0.3, 0.1], size=len(labels))
    reached = []
    for _ in range(4000):
        dealt = generator.permutation(predicted)
        reached.append(np.mean([(dealt[labels == c] == c).mean() for c in present]))
    error = 4 * np.std(reached) / np.sqrt(len(reached))
    assert by_chance(labels, predicted) == pytest.approx(np.mean(reached), abs=error)
    if len(present) == 3:
        assert by_chance(labels, predicted) == pytest.approx(1 / 3)


def test_chance_of_a_single_class_is_unknown_as_its_score_is():
    assert math.isnan(by_chance(np.zeros(3, int), np.array([0, 1, 0])))


def test_calibration_by_hand():
    probabilities = np.array([[0.95, 0.05], [0.92, 0.08], [0.65, 0.35], [0.45, 0.55]])
    labels = np.array([0, 1, 0, 1])
    # (0.9, 1]: 1 of 2 right, 0.935 sure; (0.6, 0.7]: 1, 0.65; (0.5, 0.6]: 1, 0.55.
    expected = 2 / 4 * 0.435 + 1 / 4 * 0.35 + 1 / 4 * 0.45
    assert calibration_error(labels, probabilities) == pytest.approx(expected)


def test_a_mean_is_in_the_bin_of_what_it_is_the_mean_of():
    for percent, windows in itertools.product(range(50, 101), range(2, 60)):
        confidence = np.array([percent / 100])
        mean = np.full(windows, percent / 100).cumsum()[-1:] / windows
        assert confidence_bins(mean) == confidence_bins(confidence)
        assert confidence_bins(confidence) == -(-percent // 10) - 1


@pytest.mark.parametrize("right", [0, 3, 10])
def test_calibration_of_a_constant_confidence_is_the_gap(right):
    probabilities = np.tile([0.75, 0.25], (10, 1))
    labels = np.array([0] * right + [1] * (10 - right))
    found = calibration_error(labels, probabilities)
    assert found == pytest.approx(abs(right / 10 - 0.75))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bins_are_closed_above(dtype):
    """0.6 belongs to (0.5, 0.6]: its two gaps there cancel in part."""
    probabilities = np.array([[0.6, 0.4], [0.55, 0.45]], dtype=dtype)
    found = calibration_error(np.array([0, 1]), probabilities)
    assert found == pytest.approx(abs(0.4 - 0.55) / 2, abs=1e-6)


def test_certainty_is_calibrated_where_it_is_right():
    assert calibration_error(np.array([0, 1, 2]), certain([0, 1, 2])) == 0
    assert calibration_error(np.array([0, 1, 2]), certain([1, 2, 0])) == 1


# ---------------------------------------------------------------- ranks and certainty


def test_a_certain_error_is_not_infinite():
    found = log_loss(np.array([0, 1]), np.array([[0.0, 1.0], [0.0, 1.0]], np.float32))
    assert found == pytest.approx(-np.log(1e-7) / 2)


def test_auroc_by_hand():
    """Of class 1 against the rest, 3 of 4 pairs are in order; of class 0 as well."""
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.5, 0.5], [0.2, 0.8]])
    assert auroc(np.array([0, 0, 1, 1]), probabilities) == pytest.approx(3 / 4)


def test_a_constant_answer_ranks_nothing():
    assert auroc(np.array([0, 1, 2]), np.full((3, 3), 1 / 3)) == 0.5
    # Nor does what rounding made of it.
    rounded = np.array([[0.5, 0.5], [0.5 - 1e-12, 0.5 + 1e-12]])
    assert auroc(np.array([0, 1]), rounded) == 0.5


def test_selective_accuracy_by_hand():
    sure = np.array([0.9, 0.8, 0.7, 0.6, 0.55])
    probabilities = np.stack([sure, 1 - sure], 1)
    assert selective_accuracy(np.array([0, 0, 1, 1, 0]), probabilities) == 2 / 3
    assert selective_accuracy(np.array([0, 0, 1, 1]), probabilities[:4]) == 1
    # All tie: any half of them, so that it is the accuracy.
    assert (
        selective_accuracy(np.array([0, 0, 0, 1]), np.tile([0.7, 0.3], (4, 1))) == 3 / 4
    )
    # So do those that differ by rounding alone.
    rounded = np.array([[0.6, 0.4], [0.6 + 1e-12, 0.4 - 1e-12]])
    assert selective_accuracy(np.array([0, 1]), rounded) == 0.5
