"""Temperature scaling on held-out source people, who are not the target."""

import dataclasses

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

import domainemo as de
from domainemo.statistics.temperature import best_temperature
from domainemo.training.settings import Training

NETWORK = {"hidden": (12,), "width": 8, "fusion_width": 12}


def losses(logits, labels, temperature):
    """Return the mean loss in which every class counts alike, one sample at a time."""
    classes = np.unique(labels)
    total = 0.0
    for each in classes:
        mine = [
            -log_softmax(row / temperature)[each]
            for row, label in zip(logits, labels, strict=True)
            if label == each
        ]
        total += np.mean(mine)
    return total / len(classes)


@pytest.mark.parametrize("planted", [0.5, 1.0, 3.0])
def test_a_planted_temperature_is_found(planted):
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(20_000, 3))
    labels = np.array([generator.choice(3, p=row) for row in softmax(logits, axis=1)])
    assert best_temperature(logits * planted, labels) == pytest.approx(planted, rel=0.1)


def test_no_other_temperature_fits_better_where_classes_count_alike():
    generator = np.random.default_rng(1)
    labels = np.array([0] * 40 + [1] * 8 + [2] * 5)
    logits = generator.normal(size=(53, 4)) + 2 * np.eye(4)[labels]
    found = best_temperature(logits, labels)
    grid = np.exp(np.linspace(-2, 2, 41))
    best = losses(logits, labels, found)
    assert all(best <= losses(logits, labels, each) + 1e-6 for each in grid)


def test_a_temperature_is_at_least_a_twentieth_and_at_most_twenty():
    """Of predictions that are all right, or all wrong, none fits best."""
    logits = np.array([[0.5, 0.0], [0.0, 0.5]])
    assert best_temperature(logits, np.array([0, 1])) == pytest.approx(0.05, rel=0.02)
    assert best_temperature(logits, np.array([1, 0])) == pytest.approx(20, rel=0.02)


def test_perfect_predictions_have_a_finite_temperature():
    labels = np.arange(6) % 2
    assert 0.05 <= best_temperature(10 * np.eye(2)[labels], labels) < 1


@pytest.fixture(scope="module")
def data():
    return de.Simulated(subjects=4, sessions=1, trials=6, windows=(3, 4)).load()


def trained(data, output, temperature, validator="source"):
    return de.run(
        data,
        adapter="none",
        validator=validator,
        backbone="concatenation-mlp",
        training=Training(epochs=3, batch_size=8, temperature=temperature),
        options={f"backbone.{name}": value for name, value in NETWORK.items()},
        controls=[],
        folds=["subject 1"],
        device="cpu",
        output=output,
    )


def probabilities(results):
    table = results.predictions
    return table[[name for name in table if name.startswith("p_")]].to_numpy()


def test_a_run_divides_its_logits_and_says_so(data, tmp_path):
    plain = trained(data, tmp_path / "plain", "none")
    scaled = trained(data, tmp_path / "scaled", "held-out")
    # The validator holds the same people out in both, so that the network is the same.
    temperature = scaled.table["temperature"].iloc[0]
    assert temperature != pytest.approx(1, abs=0.01)
    expected = softmax(np.log(probabilities(plain)) / temperature, axis=1)
    np.testing.assert_allclose(probabilities(scaled), expected, rtol=1e-4, atol=1e-6)
    assert (plain.predictions["predicted"] == scaled.predictions["predicted"]).all()
    assert "temperature" not in plain.table
    assert "temperature" in scaled.how() and "temperature" not in plain.how()


def test_a_model_predicts_with_the_temperature_of_its_training(data, tmp_path):
    results = trained(data, tmp_path, "held-out")
    rows = np.flatnonzero(data.inputs.windows["subject"].astype(str) == "1")
    model = de.Model.load(tmp_path, fold="subject 1")
    found = model.predict(data.inputs.take(rows))
    names = [name for name in found if name.startswith("p_")]
    np.testing.assert_allclose(found[names], probabilities(results), atol=1e-6)


def test_people_are_held_out_where_the_validator_needs_none(data, tmp_path):
    results = trained(data, tmp_path, "held-out", validator="last")
    (record,) = tmp_path.glob("folds/*/*/*/history.csv")
    assert "held_out" in record.read_text().splitlines()[0]
    assert np.isfinite(results.table["temperature"]).all()


def test_the_target_s_labels_leave_no_trace(data, tmp_path):
    theirs = data.inputs.windows["subject"].astype(str).to_numpy() == "1"
    drawn = np.random.default_rng(0).permutation(data.labels[theirs])
    labels = data.labels.copy()
    labels[theirs] = drawn
    trials = data.inputs.windows["trial"].to_numpy()
    for trial in np.unique(trials[theirs]):  # one label a trial
        mine = theirs & (trials == trial)
        labels[mine] = labels[mine][0]
    assert (labels != data.labels).any()
    noisy = dataclasses.replace(data, labels=labels)
    first = trained(data, tmp_path / "true", "held-out")
    second = trained(noisy, tmp_path / "noise", "held-out")
    assert probabilities(first).tobytes() == probabilities(second).tobytes()
