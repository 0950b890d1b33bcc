"""`--calibration`: labelled trials of the target, drawn without a look at the rest."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_calibration import Calibrated, left

import domainemo as de
from domainemo.core import EmotionData, Fold, Inputs, Modality
from domainemo.errors import ConfigurationError, DataError
from domainemo.protocols.cross_subject import CrossSubject
from domainemo.protocols.online import Online
from domainemo.review.reading import match_recordings
from domainemo.runs.calibration import calibrated, restored
from domainemo.runs.checks import canonical
from domainemo.runs.experiment import experiment
from domainemo.runs.plan import plan
from domainemo.testing import FirstFold
from domainemo.training.settings import Training

torch.set_num_threads(1)
CHOICES = {
    "adapter": "marginal",
    "backbone": "concatenation-mlp",
    "training": Training(epochs=1, batch_size=16),
    "device": "cpu",
    "baselines": False,
}


@pytest.fixture(scope="module")
def data():
    made = de.Simulated(subjects=3, sessions=1, trials=9, windows=(2, 4)).load()
    return made.take(canonical(made.inputs))


def recordings(subjects, labels, windows=2):
    """Make recordings of trials with these labels, the same for each subject."""
    rows = [
        (subject, 1, trial, f"clip {trial}", float(number), label)
        for subject in range(1, subjects + 1)
        for trial, label in enumerate(labels, 1)
        for number in range(windows)
    ]
    columns = ["subject", "session", "trial", "stimulus", "start", "label"]
    table = pd.DataFrame(rows, columns=columns)
    signals = np.random.default_rng(0).normal(size=(len(table), 2, 1))
    modality = Modality(("a", "b"), ("x",), "physiology")
    inputs = Inputs(
        {"skin": signals.astype(np.float32)},
        table.drop(columns="label"),
        {"skin": modality},
    )
    classes = ("calm", "glad", "sad")
    return EmotionData(inputs, table["label"].to_numpy(np.int64), classes)


def trials(data, rows):
    columns = data.inputs.windows.iloc[rows][["subject", "session", "trial"]]
    return set(columns.itertuples(index=False, name=None))


def relabelled(data, trial, label):
    """Give one trial another label."""
    subject, session, number = trial
    windows, labels = data.inputs.windows, data.labels.copy()
    theirs = (windows["subject"] == subject) & (windows["session"] == session)
    labels[(theirs & (windows["trial"] == number)).to_numpy()] = label
    return dataclasses.replace(data, labels=labels)


# --------------------------------------------------------------------------- the draw

LABELS = st.lists(st.integers(0, 2), min_size=9, max_size=14).filter(
    lambda labels: min(labels.count(each) for each in range(3)) >= 3
)
PROTOCOLS = {
    "transductive": CrossSubject(),
    "by trial": CrossSubject(held_out=0.3),
    "by time": CrossSubject(held_out=0.4, unit="time"),
}


@settings(max_examples=25, deadline=None)
@given(LABELS, st.integers(1, 2), st.integers(0, 99), st.sampled_from([*PROTOCOLS]))
def test_whole_trials_of_each_class_leave_target_and_test(labels, number, seed, kind):
    data = recordings(2, labels, windows=5)
    columns = data.inputs.windows[["subject", "session", "trial"]]
    place = list(columns.itertuples(index=False, name=None))
    for fold in PROTOCOLS[kind].split(data.inputs.windows):
        made, short = calibrated(data, [fold], number, seed)
        if short:
            assert kind == "by trial" or number == 2
            continue
        (new,) = made
        taken = trials(data, new.calibration)
        assert taken <= trials(data, fold.target)
        counts = [0, 0, 0]
        for subject, _, trial in taken:
            assert subject in data.inputs.windows["subject"].iloc[fold.test].unique()
            counts[labels[trial - 1]] += 1
        assert counts == [number] * 3
        np.testing.assert_array_equal(new.source, fold.source)
        for role in ("target", "test"):
            before, after = (set(each.parts[role]) for each in (fold, new))
            gone = {row for row in before if place[row] in taken}
            assert after == before - gone
        both = set(fold.target) | set(fold.test)
        assert both == {*new.calibration, *new.target, *new.test}


@settings(max_examples=25, deadline=None)
@given(LABELS, st.integers(1, 2), st.integers(0, 99), st.data())
def test_a_label_that_is_not_given_matters_only_where_it_would_be(
    labels, number, seed, drawn
):
    """A trial of another label, not taken before, is not noticed, or taken itself."""
    data = recordings(2, labels)
    fold = next(CrossSubject().split(data.inputs.windows))
    made, short = calibrated(data, [fold], number, seed)
    if short:
        return
    taken = trials(data, made[0].calibration)
    trial = drawn.draw(st.sampled_from(sorted(trials(data, made[0].test))))
    changed = relabelled(data, trial, drawn.draw(st.integers(0, 2)))
    again, _ = calibrated(changed, [fold], number, seed)
    if again:
        found = trials(data, again[0].calibration)
        assert found == taken or trial in found


def test_trials_after_the_last_taken_are_never_looked_at():
    """Of 60 trials a draw of one per class stops early: most labels are free."""
    data = recordings(2, [0, 1, 2] * 20)
    fold = next(CrossSubject().split(data.inputs.windows))
    (made,), _ = calibrated(data, [fold], 1, 0)
    taken = trials(data, made.calibration)
    free = []
    for trial in trials(data, made.test):
        draws = [
            calibrated(relabelled(data, trial, label), [fold], 1, 0)[0][0].calibration
            for label in range(3)
        ]
        if all(trials(data, each) == taken for each in draws):
            free.append(trial)
    # The chance that all three classes take more than 30 of 60 draws is below 1e-4.
    assert len(free) > 30
    windows = data.inputs.windows[["subject", "session", "trial"]]
    rows = pd.MultiIndex.from_frame(windows).isin(free)
    noise = np.random.default_rng(0).integers(3, size=rows.sum())
    labels = data.labels.copy()
    labels[rows] = noise
    other = dataclasses.replace(data, labels=labels)
    assert trials(data, calibrated(other, [fold], 1, 0)[0][0].calibration) == taken


def test_every_seed_and_fold_draws_for_itself():
    data = recordings(3, [0, 1, 2] * 8)
    folds = list(CrossSubject().split(data.inputs.windows))
    draws = {
        (seed, fold.name): frozenset(
            trial for _, _, trial in trials(data, fold.calibration)
        )
        for seed in range(4)
        for fold in calibrated(data, folds, 2, seed)[0]
    }
    assert len(set(draws.values())) == len(draws) == 12
    first, second = (calibrated(data, folds, 2, 0)[0] for _ in range(2))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.calibration, other.calibration)


def test_all_trials_of_a_class_are_equally_likely():
    data = recordings(2, [0, 1, 2] * 4)
    fold = next(CrossSubject().split(data.inputs.windows))
    counts = np.zeros(12)
    for seed in range(200):
        (made,), _ = calibrated(data, [fold], 1, seed)
        for _, _, trial in trials(data, made.calibration):
            counts[trial - 1] += 1
    # 50 expected each, with a binomial deviation of 6.
    assert np.abs(counts - 50).max() < 30


# ----------------------------------------------------------------------- the firewall


def with_free_noise(data, fold, number, seed=0):
    """Change as many labels of what is not given as leaves the draw what it is."""
    taken = trials(data, calibrated(data, [fold], number, seed)[0][0].calibration)
    generator, changed, count = np.random.default_rng(1), data, 0
    for trial in sorted(trials(data, fold.test) - taken):
        for label in generator.permutation(len(data.classes)):
            other = relabelled(changed, trial, label)
            made, _ = calibrated(other, [fold], number, seed)
            same = made and trials(data, made[0].calibration) == taken
            if same and (other.labels != changed.labels).any():
                changed, count = other, count + 1
                break
    return changed, count


@pytest.mark.parametrize("validator", ["last", "source-and-information"])
@pytest.mark.parametrize("held_out", [0.0, 0.35])
def test_the_given_labels_alone_reach_training(data, tmp_path, validator, held_out):
    protocol = CrossSubject(held_out=held_out)
    fold = next(protocol.split(data.inputs.windows))
    noisy, changed = with_free_noise(data, fold, 1)
    assert changed >= 3
    given = calibrated(data, [fold], 1, 0)[0][0].calibration
    labels = data.labels.copy()
    # Of one trial a class, the classes changed round.
    labels[given] = np.array([2, 0, 1])[labels[given]]
    others = dataclasses.replace(data, labels=labels)
    for name, each in (("true", data), ("noise", noisy), ("given", others)):
        choices = {"protocol": FirstFold(protocol), "validator": validator}
        de.run(each, calibration=1, output=tmp_path / name, **CHOICES | choices)
    true, noise, other = (left(tmp_path / name) for name in ("true", "noise", "given"))
    assert true == noise
    (weights,) = (name for name in true if name.endswith("model.safetensors"))
    assert true[weights] != other[weights]


# -------------------------------------------------------------------------- the results


def test_results_count_the_labels_by_class_and_test_none_of_them(data, tmp_path):
    results = de.run(data, calibration=2, output=tmp_path / "run", **CHOICES)
    planned = plan(data, experiment(calibration=2, **CHOICES))
    for fold in planned.folds:
        rows = results.table[results.table["fold"] == fold.name]
        words = f"6 trials (2 of each class), {len(fold.calibration)} windows"
        assert set(rows["calibration"]) == {words}
        tested = results.predictions[results.predictions["fold"] == fold.name]
        place = tested[["subject", "session", "trial"]].itertuples(index=False)
        assert set(map(tuple, place)) == trials(data, fold.test)
        assert not set(map(tuple, place)) & trials(data, fold.calibration)
    assert "6 trials (2 of each class)" in results.how()
    assert "calibration = 2" in (tmp_path / "run" / "config.toml").read_text()


def test_all_seeds_share_the_trials_of_the_first(data):
    seeds = plan(data, experiment(calibration=1, seeds=[3, 4], **CHOICES))
    first = plan(data, experiment(calibration=1, seeds=[3], **CHOICES))
    other = plan(data, experiment(calibration=1, seeds=[4], **CHOICES))
    drawn = [[f.calibration.tolist() for f in p.folds] for p in (seeds, first, other)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_run_goes_on_and_its_recordings_are_read_back_with_its_draw(data, tmp_path):
    output, chosen = tmp_path / "run", experiment(calibration=1, **CHOICES)
    whole = de.run(data, calibration=1, output=output, **CHOICES)
    before = left(output)
    shutil.rmtree(output / "folds" / "subject_2")
    again = de.run(data, calibration=1, output=output, **CHOICES)
    assert left(output) == before
    pd.testing.assert_frame_equal(whole.predictions, again.predictions)
    with pytest.raises(ConfigurationError, match="calibration: there 1, now 2"):
        de.run(data, calibration=2, output=output, **CHOICES)
    # Also where another seed stands first, as after a study's search.
    kept = match_recordings(output, data, chosen)
    for fold in plan(data, chosen).folds:
        assert_same(kept.folds[fold.name], fold)


def assert_same(one, other):
    for role, rows in one.parts.items():
        np.testing.assert_array_equal(rows, other.parts[role])


def test_without_it_nothing_says_so(data, tmp_path):
    results = de.run(data, calibration=0, output=tmp_path / "run", **CHOICES)
    assert "calibration" not in results.how()
    assert "calibration" not in results.table
    assert "calibration =" not in (tmp_path / "run" / "config.toml").read_text()
    for path in (tmp_path / "run").rglob("record.json"):
        assert "calibration" not in path.read_text()


def test_online_is_given_labels_of_the_past():
    data = recordings(2, [0, 1, 2] * 4)
    chosen = experiment(protocol=Online(steps=3), calibration=1, **CHOICES)
    planned = plan(data, chosen)
    assert len(planned.folds) == 4
    trial = data.inputs.windows["trial"].to_numpy()
    for fold in planned.folds:
        assert len(trials(data, fold.calibration)) == 3
        assert trial[fold.calibration].max() < trial[fold.test].min()


# ------------------------------------------------------------------------------ refused


@pytest.mark.parametrize(
    ("labels", "number", "said"),
    [
        ([0, 1, 2] * 3, 4, "9 trials to give labels of, with 3 of 'calm', 3 of 'glad'"),
        ([0, 1, 2, 0, 0, 0], 1, "is of the single class 'calm'"),
        ([0, 1, 2], 1, "no trial of its target is left"),
        ([0, 1, 1, 2, 2, 2], 2, "with 1 of 'calm', and 2 of each class are wanted"),
    ],
)
def test_too_few_trials_are_told_in_a_sentence(labels, number, said):
    data = recordings(2, labels)
    with pytest.raises(DataError, match=said) as error:
        plan(data, experiment(calibration=number, **CHOICES))
    assert "Give fewer labels (--calibration)" in str(error.value)
    assert "fold 'subject 1'" in str(error.value)


def test_folds_without_enough_are_skipped_and_named_where_told_so(data):
    whole = recordings(3, [0, 1, 2] * 3)
    keep = ~(
        (whole.inputs.windows["subject"] == 2) & (whole.inputs.windows["trial"] > 5)
    )
    short = whole.take(np.flatnonzero(keep))
    choices = CHOICES | {"options": {"protocol.unfit": "skip"}}
    planned = plan(short, experiment(calibration=2, **choices))
    assert [fold.name for fold in planned.folds] == ["subject 1", "subject 3"]
    assert "5 trials to give labels of" in planned.skipped["subject 2"]
    with pytest.raises(DataError, match="with 3 of 'calm'"):
        plan(short, experiment(calibration=9, **choices))


def test_what_cannot_be_given_is_refused(data):
    with pytest.raises(ConfigurationError, match="calibration is -1; expected at lea"):
        experiment(calibration=-1)
    with pytest.raises(ConfigurationError, match=r"calibration is 1\.5 of type float"):
        experiment(calibration=1.5)
    chosen = experiment(calibration=1, protocol=Calibrated(), **CHOICES)
    with pytest.raises(DataError, match="its protocol gives labels of the target by"):
        plan(data, chosen)
    with pytest.raises(ConfigurationError, match="of newcomers no label is known"):
        de.adapt(data, data.inputs, calibration=1, **CHOICES)


def test_a_record_of_other_trials_is_refused(data, tmp_path):
    fold = next(CrossSubject().split(data.inputs.windows))
    facts = {"calibration": [["1", "1", "99"]]}
    with pytest.raises(DataError, match="not all of this fold's target"):
        restored(fold, data.inputs.windows, facts, tmp_path)
    assert restored(fold, data.inputs.windows, {}, tmp_path) is fold
    assert isinstance(fold, Fold)
