"""A run's report: its tables against slow computations, its words, its sections."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import scipy
import torch

import domainemo as de
from domainemo.cli import main
from domainemo.cli.screens import verdicts
from domainemo.errors import ConfigurationError, DataError
from domainemo.protocols.cross_subject import CrossSubject
from domainemo.reports import run_figures as figures
from domainemo.reports import run_sections
from domainemo.reports import run_words as words
from domainemo.reports.run import write_run_report
from domainemo.reports.run_sections import training_seconds
from domainemo.reports.style import render
from domainemo.review.embedding import embed, principal_plane
from domainemo.review.histories import histories, loss_terms
from domainemo.review.reading import TrainedNetwork, match_recordings, networks
from domainemo.review.screening import pooled, screening
from domainemo.review.sides import sides
from domainemo.review.tables import (
    calibration,
    confusion,
    recall_by_class,
    subject_intervals,
    typical_fold,
)
from domainemo.runs.experiment import experiment
from domainemo.runs.metrics import calibration_error, metrics
from domainemo.runs.results import Results
from domainemo.statistics.paired import compare

torch.set_num_threads(1)
TINY = {"backbone.width": 8, "backbone.heads": 2}
CLASSES = ["calm", "glad", "sad"]
DRAWN = b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"/>'


@pytest.fixture(scope="module")
def data():
    return de.Simulated(
        subjects=3, sessions=2, trials=4, windows=(3, 4), classes=2
    ).load()


def choices(**others):
    chosen = {"adapter": "uf-ama", "options": TINY, "device": "cpu"}
    return chosen | {"training": de.Training(epochs=2, batch_size=8)} | others


@pytest.fixture(scope="module")
def folder(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "run"
    de.run(data, **choices(), output=folder)
    return folder


@pytest.fixture
def fast(monkeypatch):
    """Draw every picture, and write none."""

    def drawn(draw, *endings):
        draw()
        return tuple(DRAWN for _ in endings)

    monkeypatch.setattr("domainemo.reports.page.render", drawn)


def some_predictions(seed=0, count=200) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet([0.7] * 3, size=count)
    table = pd.DataFrame(probabilities, columns=[f"p_{name}" for name in CLASSES])
    return table.assign(
        label=generator.integers(3, size=count), predicted=probabilities.argmax(1)
    )


def some_results(**accuracies) -> Results:
    """Return results in which every method has the given accuracy per subject."""
    rows = [
        {
            "method": method.replace("_", " "),
            "fold": f"subject {number + 1}",
            "seed": 0,
            "subject": number + 1,
            "level": level,
            "balanced_accuracy": value,
            "dataset": "made up",
            "sampling": "windows",
            "modalities": "eeg, eye",
            "selection": "last",
            "backbone": "a network" if method in ("adapter", "source_only") else "",
        }
        for method, values in accuracies.items()
        for number, value in enumerate(values)
        for level in ("window", "trial")
    ]
    description = {"adapter": "adapter", "validator": "last", "seeds": [0]}
    columns = ["label", *(f"p_{name}" for name in CLASSES)]
    predictions = pd.DataFrame(columns=columns)
    return Results(pd.DataFrame(rows), predictions, description, "adapter")


# ------------------------------------------------------------------------ predictions


def test_confusion_counts_every_sample():
    rows = some_predictions()
    counts = confusion(rows, CLASSES)
    for true in range(3):
        for predicted in range(3):
            here = (rows["label"] == true) & (rows["predicted"] == predicted)
            assert counts.iloc[true, predicted] == here.sum()
    recall = np.diag(counts) / counts.sum(axis=1)
    probabilities = rows.filter(like="p_").to_numpy()
    found = metrics(rows["label"].to_numpy(), probabilities)["balanced_accuracy"]
    assert recall.mean() == pytest.approx(found)


def test_recall_by_class_averages_to_balanced_accuracy(folder):
    results = Results.load(folder)
    found = recall_by_class(results)
    assert list(found.columns) == ["negative", "positive"]
    means = results.summary()["mean"]
    np.testing.assert_allclose(found.mean(axis=1), means[found.index])
    rows = results.predictions.query("method == 'uf-ama' and label == 1")
    by_subject = [
        np.mean([predicted == 1 for predicted in theirs["predicted"]])
        for _, theirs in rows.groupby("subject")
    ]
    assert found.loc["uf-ama", "positive"] == pytest.approx(np.mean(by_subject))


def test_recall_is_averaged_over_folds_before_it_is_over_people():
    """Somebody who is tested in three folds counts as much as one who is in one."""
    rows = [(1, fold, 0, int(fold == "a")) for fold in "abc"] + [(2, "d", 0, 0)]
    columns = ["subject", "fold", "label", "predicted"]
    table = pd.DataFrame(rows, columns=columns).assign(method="adapter", seed=0)
    table = table.assign(**{f"p_{name}": 0.0 for name in CLASSES})
    found = recall_by_class(replace(some_results(adapter=[0.5]), predictions=table))
    assert found.loc["adapter", "calm"] == pytest.approx((2 / 3 + 1) / 2)


def test_calibration_agrees_with_the_error_and_with_a_slow_loop():
    rows = some_predictions(count=300)
    bins = calibration(rows)
    gaps = bins["samples"] * (bins["accuracy"] - bins["confidence"]).abs()
    probabilities = rows.filter(like="p_").to_numpy()
    expected = calibration_error(rows["label"].to_numpy(), probabilities)
    assert gaps.sum() / bins["samples"].sum() == pytest.approx(expected)
    for row in bins.itertuples():
        inside = [
            (max(p), int(np.argmax(p) == label))
            for p, label in zip(probabilities, rows["label"], strict=True)
            if row.low < max(p) <= row.high
        ]
        assert row.samples == len(inside)
        if inside:
            assert [row.confidence, row.accuracy] == pytest.approx(
                np.mean(inside, axis=0)
            )
        else:
            assert np.isnan(row.accuracy)


def trials(hits, *, windows=1, fold="one", seed=0) -> pd.DataFrame:
    """Return the predictions of trials of one class, right where `hits` says so."""
    hits = np.repeat(np.asarray(hits), windows)
    return pd.DataFrame(
        {
            "method": "adapter",
            "subject": 1,
            "session": 1,
            "trial": np.arange(len(hits)) // windows,
            "fold": fold,
            "seed": seed,
            "label": 0,
            "predicted": np.where(hits, 0, 1),
            **{f"p_{name}": 0.0 for name in CLASSES},
        }
    )


def interval(*tables) -> tuple[float, float]:
    results = some_results(adapter=[0.5])
    results = replace(results, predictions=pd.concat(tables, ignore_index=True))
    found = subject_intervals(results)
    assert len(found) == 1
    return found["low"].item(), found["high"].item()


def test_a_subject_s_interval_is_of_its_trials():
    half = [True, False] * 20
    # The mean of 40 coins: of 95 %, from 14 to 26 of them.
    assert interval(trials(half)) == pytest.approx((0.35, 0.65), abs=0.01)
    # Windows of a trial are no new coins, nor are seeds; folds are.
    assert interval(trials(half, windows=7)) == interval(trials(half))
    assert interval(trials(half), trials(half, seed=1)) == interval(trials(half))
    two = interval(trials(half), trials(half[::-1], fold="two"))
    assert two == pytest.approx((0.39, 0.61), abs=0.035)
    assert interval(trials([True] * 9)) == (1, 1)
    assert np.isnan(interval(trials([True] * 4))).all()
    assert interval(trials([True] * 5)) == (1, 1)


def test_the_typical_fold_is_that_of_the_median_gain():
    results = some_results(adapter=[0.5, 0.9, 0.7], source_only=[0.4, 0.4, 0.9])
    assert typical_fold(results) == "subject 1"
    assert typical_fold(some_results(adapter=[0.5, 0.9, 0.7])) == "subject 3"
    # Of four it is the lower of the two in the middle.
    assert typical_fold(some_results(adapter=[0.5, 0.9, 0.7, 0.6])) == "subject 4"


def test_the_time_of_training_is_that_of_every_method():
    results = some_results(adapter=[0.5, 0.9], source_only=[0.4, 0.4])
    seconds = results.table["method"].map({"adapter": 3.0, "source only": 2.0})
    timed = replace(results, table=results.table.assign(seconds=seconds))
    assert training_seconds(timed) == 2 * 3 + 2 * 2


# ---------------------------------------------------------------------------- training


def test_losses_are_sorted_by_term_and_branch():
    results = some_results(adapter=[0.5])
    columns = ["epoch", "classification", "marginal.eeg", "a.b.fusion", "plain", "eye"]
    columns += ["total", "score", "held_out", "method", "fold", "seed", "unused"]
    history = pd.DataFrame([[1.0] * len(columns)], columns=columns)
    history = history.assign(method="adapter", unused=np.nan)
    assert loss_terms(results, history) == {
        "classification": {"": "classification"},
        "marginal": {"eeg": "marginal.eeg"},
        "a.b": {"fusion": "a.b.fusion"},
        "plain": {"": "plain"},
        "adapter": {"eye": "eye"},
        "total": {"": "total"},
    }


def test_screening_agrees_with_a_slow_loop(folder):
    results = Results.load(folder)
    trained = networks(folder, results)
    table = screening(results, trained)
    assert set(table["method"]) == {"uf-ama"} and len(table) == 3 * 2
    labels = pd.read_csv(folder / "predictions.csv")
    everywhere = {"consistent": [], "taught": [], "contradicted": [], "own": []}
    for network in trained[:3]:
        with np.load(network.folder / "screening.npz") as file:
            arrays = dict(file)
        rows = labels[(labels["method"] == "uf-ama") & (labels["fold"] == network.fold)]
        for epoch in range(2):
            names = ("consistent", "taught", "contradicted", "own")
            kinds, right = [], {name: [] for name in names}
            for sample, truth in enumerate(rows["label"]):
                weight = {
                    name: arrays[f"weights/{name}"][epoch, sample]
                    for name in ("eeg", "eye", "fusion")
                }
                kind = "dropped"
                if weight["fusion"]:
                    kind = "consistent"
                elif weight["eeg"] or weight["eye"]:
                    kind = "taught"
                kinds.append(kind)
                label = arrays["labels"][epoch, sample]
                if kind != "dropped":
                    right[kind].append(label == truth)
                for branch in ("eeg", "eye"):
                    own = arrays[f"opinions/{branch}"][epoch, sample]
                    if weight[branch] and own != label:
                        right["contradicted"].append(label == truth)
                        right["own"].append(own == truth)
            found = table.query("fold == @network.fold and epoch == @epoch + 1").iloc[0]
            for kind in ("consistent", "taught", "dropped"):
                assert found[kind] == pytest.approx(np.mean(np.array(kinds) == kind))
            for kind, hits in right.items():
                expected = np.mean(hits) if hits else np.nan
                assert found[f"{kind}_precision"] == pytest.approx(
                    expected, nan_ok=True
                )
                if kind != "own":
                    assert found[f"{kind}_count"] == len(hits)
                everywhere[kind] += hits if epoch == 1 else []
    last = table[table["epoch"] == 2]
    for kind, hits in everywhere.items():
        precision, number = pooled(last, kind)
        assert number == len(hits)
        expected = np.mean(hits) if hits else np.nan
        assert precision == pytest.approx(expected, nan_ok=True)
    assert everywhere["taught"]


def test_precision_is_pooled_sample_by_sample():
    table = pd.DataFrame(
        {
            "taught_count": [3, 0, 1, 8],
            "taught_precision": [1 / 3, np.nan, 1.0, np.nan],
            "contradicted_count": [0, 0, 0, 0],
            "own_precision": np.nan,
        }
    )
    assert pooled(table, "taught") == (pytest.approx(2 / 4), 4)
    precision, number = pooled(table, "own")
    assert np.isnan(precision) and number == 0


def test_who_learns_by_the_fusion_and_by_itself_counts_once(tmp_path):
    """As of three modalities: two agree, and the third is taught as well."""
    np.savez(
        tmp_path / "screening.npz",
        labels=[[0, 1, 1, 0]],
        members=[[0], [1], [2], [3]],
        **{"weights/fusion": [[1, 1, 0, 0]], "weights/eeg": [[1, 0, 1, 0]]},
        **{"opinions/fusion": [[0, 1, 1, 0]], "opinions/eeg": [[1, 1, 0, 1]]},
    )
    network = TrainedNetwork("adapter", "subject 1", 0, tmp_path)
    recordings = SimpleNamespace(data=SimpleNamespace(labels=np.array([0, 1, 0, 1])))
    found = screening(some_results(adapter=[0.5]), [network], recordings).iloc[0]
    shares = found[["consistent", "taught", "dropped"]]
    assert shares.tolist() == [0.5, 0.25, 0.25]
    counts = found[["consistent_count", "taught_count", "contradicted_count"]]
    assert counts.tolist() == [2, 1, 2]
    precisions = [found[f"{n}_precision"] for n in ("consistent", "taught", "own")]
    assert precisions == [1.0, 0.0, 0.5]


def test_what_is_said_of_screening_is_of_the_last_epoch(monkeypatch):
    rows = [
        {"fold": fold, "epoch": epoch, "consistent": share, "taught": 0.1}
        | {"dropped": 0.9 - share, "consistent_count": 4, "consistent_precision": right}
        | dict.fromkeys(("taught_count", "contradicted_count"), 0)
        | dict.fromkeys(("taught_precision", "own_precision"), np.nan)
        | {"contradicted_precision": np.nan}
        for fold in ("a", "b")
        for epoch, share, right in ((1, 0.2, 0.25), (2, 0.6, 0.75))
    ]
    monkeypatch.setattr(run_sections, "believed", lambda *_: pd.DataFrame(rows))
    run = SimpleNamespace(
        results=some_results(adapter=[0.5]),
        method="adapter",
        networks=lambda method: [],
        recordings=None,
        left_out=[],
    )
    text, _, note = run_sections.screening(run).blocks
    assert "learn from 60% of" in text and "dropped 30%" in text
    assert "right for 75% where modalities agreed (n = 8)" in note.text


def test_precision_of_untested_samples_takes_the_recordings(data, tmp_path):
    chosen = choices(protocol=CrossSubject(held_out=0.5), baselines=False)
    de.run(data, **chosen, output=tmp_path / "run")
    results = Results.load(tmp_path / "run")
    trained = networks(tmp_path / "run", results)
    blind = screening(results, trained)
    precisions = [name for name in blind if name.endswith("_precision")]
    assert blind[precisions].isna().all(axis=None)
    recordings = match_recordings(tmp_path / "run", data, experiment(**chosen))
    seen = screening(results, trained, recordings)
    assert seen[precisions].notna().any(axis=None)
    pd.testing.assert_frame_equal(
        seen.drop(columns=precisions), blind.drop(columns=precisions)
    )


# -------------------------------------------------------------------------- embeddings


def test_the_plane_is_that_of_the_principal_components():
    from sklearn.decomposition import PCA

    points = np.random.default_rng(0).normal(size=(50, 6)) * [5, 3, 1, 1, 1, 1] + 7
    plane, explained = principal_plane(points)
    known = PCA(2).fit(points)
    expected = known.transform(points)
    assert np.allclose(np.abs(plane), np.abs(expected))
    assert explained == pytest.approx(tuple(known.explained_variance_ratio_))
    again, _ = principal_plane(-points)
    assert np.allclose(plane, again)  # as they are turned so that the farthest is plus
    line, shares = principal_plane(np.arange(4.0)[:, None])
    assert (line[:, 1] == 0).all() and shares == (1, 0)
    flat, shares = principal_plane(np.ones((3, 2)))
    assert (flat == 0).all() and shares == (0, 0)


def test_embedded_samples_are_those_of_the_fold(folder, data):
    recordings = match_recordings(folder, data, experiment(**choices()))
    results = Results.load(folder)
    network = networks(folder, results)[1]
    table = embed(network, recordings)
    assert network.fold == "subject 2"
    assert set(table[table["role"] == "source"]["domain"]) == {1, 3}
    target = table[table["role"] == "target"]
    rows = results.predictions
    rows = rows[(rows["method"] == "uf-ama") & (rows["fold"] == "subject 2")]
    assert list(target["class"]) == [data.classes[k] for k in rows["label"]]
    assert set(target["domain"]) == {2}
    assert sum(table.attrs["explained"]) <= 1 + 1e-9
    # What the network is surest of lies apart in its own embedding.
    assert table[["x", "y"]].std().min() > 0
    pd.testing.assert_frame_equal(table, embed(network, recordings))


def test_other_recordings_are_refused(folder, data):
    labels = data.labels.copy()
    labels[0] = 1 - labels[0]
    with pytest.raises(DataError, match=r"not, to the last value.*--data-root"):
        match_recordings(folder, replace(data, labels=labels), experiment(**choices()))


# ------------------------------------------------------------------------------- words


def said(results) -> str:
    found = results.comparison()
    return " ".join(
        [
            words.what_was_reached(results),
            words.difference(results, found),
            words.who_gained(results),
        ]
    )


def test_words_say_who_gained_and_what_the_test_says():
    source = np.linspace(0.4, 0.6, 8)
    gain = np.array([0.1, 0.11, 0.12, 0.13, 0.14, 0.15, 0.16, 0.17])
    text = said(some_results(adapter=source + gain, source_only=source))
    assert "accuracy of 0.635 per window, the mean over 8 subjects (95 % " in text
    assert "chance is 0.333" in text and "Source only reached 0.500" in text
    assert "difference is +13.5 points" in text
    # All eight gain: two of the 256 orders of signs are as far from even.
    assert "over 8 subjects, p = 0.008). The adapter was better" in text
    assert "8 of 8 subjects gained (most: subject 8, +17.0 points)." in text
    assert "lost" not in text


def test_words_do_not_claim_what_is_not_shown():
    source = np.full(7, 0.5)
    gap = np.array([0.1, -0.1, 0.05, -0.06, 0, 0.02, -0.03])
    text = said(some_results(adapter=source + gap, source_only=source))
    assert "no difference that these subjects can show" in text
    assert "3 of 7 subjects gained" in text
    assert "3 of 7 subjects lost (most: subject 2, \N{MINUS SIGN}10.0 points)" in text
    assert "1 of 7 subjects did not change." in text


def test_no_hint_is_given_to_the_side_that_the_test_speaks_against():
    """Eleven of twelve lose a little, one gains much: mean and ranks part."""
    source = np.full(12, 0.5)
    gap = np.array([-0.01 - 0.001 * k for k in range(11)] + [0.4])
    assert gap.mean() > 0
    _, p = scipy.stats.wilcoxon(gap, alternative="less")
    assert p < 0.025
    text = said(some_results(adapter=source + gap, source_only=source))
    assert (
        "Interval and test disagree: the mean says better, the interval holds zero, "
        "the test says worse. That is no hint either way." in text
    )
    text = said(some_results(adapter=source - gap, source_only=source))
    assert "says worse, the interval holds zero, the test says better" in text
    # Nineteen of twenty lose a little, and the last gains less than they lose.
    gap = np.array([-0.02 - 0.0001 * k for k in range(19)] + [0.3])
    text = said(some_results(adapter=0.5 + gap, source_only=np.full(20, 0.5)))
    assert (
        "the mean says worse, the interval holds zero, the test says worse. That is a "
        "hint that the adapter was worse, not a finding." in text
    )


@pytest.mark.parametrize("sign", [1, -1])
def test_interval_and_test_may_each_be_sure_of_the_other_side(sign):
    """Sixty lose a little and ten gain much: an interval is of the mean, not ranks."""
    gap = sign * np.array([-0.001 - 1e-5 * k for k in range(60)] + [0.3] * 10)
    found = sides(compare(0.4 + gap, np.full(70, 0.4)))
    assert (found.mean, found.interval, found.test) == (sign, sign, -sign)
    assert not found.shown and not found.silent and not found.hinted


@pytest.mark.parametrize(("subjects", "least"), [(3, "0.25"), (5, "0.0625")])
def test_few_subjects_cannot_show_a_difference(subjects, least):
    source = np.full(subjects, 0.5)
    results = some_results(adapter=source + 0.2, source_only=source)
    text = said(results)
    assert "better" not in text and "worse" not in text
    assert ("too few for an interval" in text) == (subjects < 5)
    assert f"cannot go below p = {least}" in words.too_few(subjects)
    assert "One subject says nothing" in words.too_few(1)


def test_simpler_methods_that_do_as_well_are_named():
    beaten = some_results(adapter=[0.5] * 6, logistic_regression=[0.4] * 6)
    assert words.cautions(beaten) == []
    hollow = {"logistic_regression": [0.6] * 6, "clip_duration_only": [0.5] * 6}
    results = some_results(adapter=[0.5] * 6, **hollow)
    (text,) = words.cautions(results)
    assert "(logistic regression 0.600, clip duration only 0.500)" in text
    # The first sentence says so by itself.
    first = words.what_was_reached(results)
    lost = "below the 0.600 of logistic regression, the best of 2 controls (\u221210.0"
    assert lost in first
    won = "above the 0.400 of logistic regression (+10.0 points"
    assert won in words.what_was_reached(beaten)
    near = some_results(adapter=[0.5] * 6, logistic_regression=[0.4, 0.58] * 3)
    assert "which may be nothing" in words.what_was_reached(near)
    alone = some_results(adapter=[0.5] * 6)
    assert alone.comparison() is None
    assert "cannot tell what the adapter adds" in words.why_not_compared(alone)
    assert "no control beside it" in words.what_was_reached(alone)


def test_length_is_set_against_the_chance_of_the_classes_that_people_have():
    """Of two classes, .5 is nothing; of three it would be something."""
    results = some_results(adapter=[0.6] * 6, clip_duration_only=[0.5] * 6)
    results = replace(results, table=results.table.assign(sampling="trials"))
    (text,) = words.length_alone(results)
    assert "length alone reaches 0.500" in text
    assert text in words.cautions(results) and text in verdicts(results)
    rows = [
        {"method": method, "fold": f"subject {subject}", "seed": 0}
        | {"subject": subject, "label": label, "predicted": predicted}
        for method in ("adapter", "clip duration only")
        for subject in range(1, 7)
        # The first person has all of the classes.
        for label in ((0, 1, 2) if subject == 1 else (0, 2))
        for predicted in (0, 2)
    ]
    columns = {f"p_{name}": 1 / 3 for name in CLASSES} | {"session": 1, "trial": 1}
    told = replace(results, predictions=pd.DataFrame(rows).assign(**columns))
    assert words.length_alone(told) == []
    blind = (1 / 3 + 5 * 1 / 2) / 6
    assert f"chance is {blind:.3f}" in words.what_was_reached(told)
    (axes,) = figures.draw_methods(told).axes
    dashed = [line for line in axes.get_lines() if line.is_dashed()]
    np.testing.assert_allclose(dashed[0].get_xdata(), blind)
    (axes,) = figures.draw_subjects(told, ["adapter"]).axes
    (dashed,) = [line for line in axes.get_lines() if line.is_dashed()]
    expected = np.repeat([1 / 3, *[0.5] * 5, blind], 2)
    np.testing.assert_allclose(dashed.get_ydata(), expected)


def test_a_network_that_answers_with_one_class_is_told():
    """Where the fold has several: in one of three of the adapter's trainings here."""
    results = some_results(adapter=[0.5] * 6, source_only=[0.5] * 6)
    folds = {  # labels, and what the adapter and source only predict of them
        "a": ([0, 1, 1], [1, 1, 1], [0, 1, 0]),
        "b": ([0, 1, 1], [1, 0, 1], [0, 1, 0]),
        "c": ([0, 1, 1], [1, 0, 0], [0, 1, 0]),
        "d": ([1, 1, 1], [1, 1, 1], [1, 1, 1]),
    }
    methods = (results.method, "source only")
    rows = [
        {"method": method, "fold": fold, "seed": 0, "label": label, "predicted": said}
        for fold, (labels, *both) in folds.items()
        for method, predicted in zip(methods, both, strict=True)
        for label, said in zip(labels, predicted, strict=True)
    ]
    (text,) = words.collapsed(replace(results, predictions=pd.DataFrame(rows)))
    assert f"{results.method} predicts a single class in 1 of 3 trainings" in text


# ----------------------------------------------------------------------------- figures


def test_figures_show_what_they_are_of(folder):
    results = Results.load(folder)
    history = histories(networks(folder, results))
    methods = ["uf-ama", "source only"]
    drawn = {
        "confusion": lambda: figures.draw_confusion(results, methods),
        "calibration": lambda: figures.draw_calibration(results, methods),
        "losses": lambda: figures.draw_losses(results, history),
    }
    texts = {name: render(draw, ".svg")[0].decode() for name, draw in drawn.items()}
    for phrase in ("negative", "positive", "predicted", *methods):
        assert phrase in texts["confusion"]
    rows = results.predictions[results.predictions["method"] == "uf-ama"]
    error = calibration_error(
        rows["label"].to_numpy(), rows.filter(like="p_").to_numpy()
    )
    assert f"ECE {error:.3f}" in texts["calibration"]
    terms = ("classification", "marginal", "conditional", "consistency", "total")
    for phrase in (*terms, "distillation", "pairwise", "fusion", "source only"):
        assert phrase in texts["losses"]


def test_many_subjects_and_a_gap_in_the_screen_can_be_drawn():
    generator = np.random.default_rng(0)
    results = some_results(
        adapter=generator.random(40), source_only=generator.random(40)
    )
    tables = [
        trials(generator.random(6) < 0.5).assign(subject=subject, method=method)
        for subject in range(1, 41)
        for method in ("adapter", "source only")
    ]
    results = replace(results, predictions=pd.concat(tables, ignore_index=True))
    figure = figures.draw_subjects(results, ["adapter", "source only"])
    assert len(figure.axes) == 3
    # Every subject and the mean, by both methods.
    assert sum(len(axes.patches) for axes in figure.axes) == 2 * 41
    screened = pd.DataFrame(
        {
            "epoch": [1, 2, 3],
            "consistent": [0.1, 0.0, 0.5],
            "taught": [0.4, 0.2, 0.0],
            "dropped": [0.5, 0.8, 0.5],
            "consistent_precision": [1.0, np.nan, 0.5],
            "taught_precision": np.nan,
        }
    )
    shares, precision = figures.draw_screening(screened).axes
    assert len(shares.collections) == 3
    (line,) = precision.lines
    assert np.isnan(line.get_ydata()[1])


# ------------------------------------------------------------------------------- page


def page_of(written) -> str:
    return " ".join(written[0].read_text().split())


SECTIONS = (
    "Results",
    "Subject by subject",
    "Controls",
    "Confusion of classes",
    "Calibration",
    "Learning curves",
    "Screening over time",
    "Embeddings",
    "Attention to brain regions",
    "How the numbers were obtained",
    "For a paper",
)


def headings(text):
    """Return the page's headings, and how each is followed up to the next one."""
    parts = re.split(r"<h2[^>]*>(?:<a[^>]*>)?([^<]*)(?:</a>)?</h2>", text)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_the_whole_report(folder, data, tmp_path, fast):
    recordings = match_recordings(folder, data, experiment(**choices()))
    told = []
    written = write_run_report(
        folder, tmp_path / "a.html", recordings=recordings, on_network=told.append
    )
    text = page_of(written)
    assert [name for name in headings(text) if name != "Contents"] == list(SECTIONS)
    assert (folder / "how.txt").read_text().split(";")[0] in text
    assert "p = 0.25" in text and "After the fact" in text
    names = {path.name for path in written}
    assert {"embeddings.svg", "attention.pdf", "screening.svg", "controls.csv"} <= names
    assert len(told) == 2 + 3
    table = pd.read_csv(tmp_path / "a" / "results.csv").set_index("method")
    expected = Results.load(folder).summary()["mean"]
    assert np.allclose(table["mean"], expected[table.index])


@pytest.mark.parametrize(
    ("chosen", "there", "lacks"),
    [
        (
            {"adapter": "none", "seeds": (0, 1)},
            "This is source only",
            "no screen of the adapter",
        ),
        (
            {"validator": "oracle", "seeds": (0, 1)},
            "ORACLE: the epoch was chosen by the target",
            "embeddings",
        ),
        (
            {
                "modalities": ["eeg"],
                "baselines": False,
                "validator": "source",
                "protocol": "cross-session",
                "exclude": ["3"],
            },
            "the highest score of its own fold",
            "controls, which were not run",
        ),
    ],
)
def test_a_report_of_less(data, tmp_path, fast, chosen, there, lacks):
    # Folders far down, as a run may be in any.
    folder = tmp_path / "deep" / "down" / "run"
    short = {"training": de.Training(epochs=1, batch_size=8)}
    small = {"backbone": "concatenation-mlp", "options": {}}
    de.run(data, **choices(**short, **small, **chosen), output=folder)
    written = write_run_report(folder, missing="nobody had them")
    assert written[0] == folder / "report.html"
    text = page_of(written)
    assert there in text
    lack = headings(text)["What this report lacks"].lower()
    assert lacks in lack and "nobody had them" in lack
    assert "Embeddings" not in headings(text)
    if "cross-session" in chosen.values():
        assert "over the 2 folds of one subject could not go below p = 0.5" in text


@pytest.mark.parametrize(
    ("adapter", "said"),
    [
        (
            "canonical-correlation",
            r"losses \(source, target\) were zero in every epoch",
        ),
        ("whole-trials", "training ended before it was to begin"),
        ("marginal", ""),
        ("none", ""),
    ],
)
def test_an_adapter_that_had_nothing_to_teach_is_said(adapter, said, tmp_path):
    """One modality has no pair, and the one step of one epoch is before the half."""
    options = {"adapter.schedule": "constant"} if adapter == "marginal" else {}
    data = de.Simulated(subjects=2, sessions=1, trials=3, windows=(2, 2)).load()
    de.run(
        data,
        adapter=adapter,
        backbone="concatenation-mlp",
        modalities="eye",
        epochs=1,
        baselines=False,
        device="cpu",
        options=options,
        output=tmp_path,
    )
    found = words.idle(de.Results.load(tmp_path))
    assert len(found) == bool(said)
    assert not said or re.search(said, found[0])


@pytest.mark.parametrize(
    ("adapter", "first"), [("whole-trials", 3), ("uf-ama", 2), ("none", 1)]
)
def test_a_network_of_an_epoch_before_its_adapter_began_is_said(
    adapter, first, tmp_path
):
    """Of four epochs: half of them, a third, and of source only none."""
    data = de.Simulated(subjects=2, sessions=1, trials=3, windows=(2, 2)).load()
    results = de.run(
        data,
        adapter=adapter,
        backbone="concatenation-mlp",
        epochs=4,
        baselines=False,
        device="cpu",
        output=tmp_path,
    )
    (rows,) = np.where(results.table["fold"] == results.table["fold"].iloc[0])
    for epoch in range(1, 5):
        results.table["epoch"] = 4
        results.table.iloc[rows, results.table.columns.get_loc("epoch")] = epoch
        found = words.idle(results)
        assert len(found) == (epoch < first)
        said = f"1 of 2 networks of {adapter} had not begun to adapt"
        assert not found or said in found[0]


def test_an_unfinished_run_is_refused(folder, tmp_path):
    (tmp_path / "config.toml").write_text((folder / "config.toml").read_text())
    with pytest.raises(ConfigurationError, match="not finished"):
        write_run_report(tmp_path)


# ----------------------------------------------------------------------------- command


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    """Return a function that runs the command here: exit code, all that it said."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["domainemo", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), " ".join((said.out + said.err).split())

    return run


TINY_RUN = [
    "--set=data.subjects=2",
    "--set=data.classes=2",
    "--set=data.sessions=1",
    "--set=data.trials=3",
    "--set=data.windows=[3, 4]",
    "--backbone=concatenation-mlp",
    "--adapter=marginal",
    "--epochs=1",
    "--jobs=1",
]


def test_the_command(call, tmp_path, fast):
    assert call("adapt", *TINY_RUN, "--output", "run")[0] == 0
    code, text = call("report", "run")
    assert code == 0 and "run/report.html is the report" in text
    page = (tmp_path / "run" / "report.html").read_text()
    assert "<svg" in page and "Embeddings" in headings(page)
    assert "concatenation-mlp does not offer" in page
    code, text = call("report", "run", "--no-recordings", "--output=other.html")
    assert code == 0 and (tmp_path / "other" / "losses.pdf").exists()
    assert "left out by --no-recordings" in (tmp_path / "other.html").read_text()
    # The run resumes as if nothing had happened.
    assert call("adapt", *TINY_RUN, "--output", "run")[0] == 0


def test_the_command_says_what_it_lacks(call, folder, tmp_path, fast):
    code, text = call("report", folder, "--output=x.html")
    assert code == 0 and "Note: the recordings of this run could not be had" in text
    assert "made from Python" in (tmp_path / "x.html").read_text()
    code, text = call("report", folder, "--output=x.html", f"--data-root={tmp_path}")
    assert code == 2 and "made from Python" in text


def test_a_page_replaces_nothing_beside_it(call, folder):
    """Its figures and tables would go where a thesis is, or into the run itself."""
    Path("thesis").mkdir()
    Path("thesis", "results.csv").write_text("mine")
    before = (folder / "results.csv").read_bytes()
    for page in ("thesis.html", f"{folder}.html", f"{folder}.HTML"):
        code, text = call("report", folder, "--no-recordings", f"--output={page}")
        assert code == 2 and "other files are there already" in text
        assert not Path(page).exists()
    assert Path("thesis", "results.csv").read_text() == "mine"
    assert (folder / "results.csv").read_bytes() == before
    for _ in range(2):  # what a report wrote, another one replaces
        code, _ = call("report", folder, "--no-recordings", "--output=new.HTML")
        assert code == 0 and Path("new.HTML").is_file()


def test_the_command_tells_a_study_and_refuses_the_rest(call, tmp_path, monkeypatch):
    code, text = call("report", "nothing")
    assert code == 2 and "found no config.toml" in text
    Path("paper.html").write_text("mine")
    code, text = call("report", "run", "--no-recordings", "--output=paper.html")
    assert code == 2 and "was not overwritten" in text
    assert Path("paper.html").read_text() == "mine"
    code, text = call("report", "nothing", "--output=report.pdf")
    assert code == 2 and "found the ending '.pdf'" in text
    (tmp_path / "pre").mkdir()
    (tmp_path / "pre" / "config.toml").write_text('pairs = "synchronous"')
    code, text = call("report", "pre")
    assert code == 2 and "pre-training" in text
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "config.toml").write_text("[study]\ntrials = 3")
    asked = []

    def write_study_report(folder, output, storage):
        asked.append((folder, output))
        return [output]

    made = SimpleNamespace(write_study_report=write_study_report)
    monkeypatch.setitem(sys.modules, "domainemo.reports.study", made)
    code, text = call("report", "study")
    assert code == 0 and "study/report.html is the report" in text
    assert asked == [(Path("study"), Path("study/report.html"))]


def test_the_page_holds_its_numbers_for_programs(folder, tmp_path, fast):
    written = write_run_report(folder, tmp_path / "a.html")
    page = written[0].read_text()
    start = page.index('type="application/json"')
    held = json.loads(page[page.index(">", start) + 1 : page.index("</script>", start)])
    results = Results.load(folder)
    assert held["comparison"]["subjects"] == 3
    assert held["configuration"]["adapter"] == "uf-ama"
    assert held["how"] == results.how()
