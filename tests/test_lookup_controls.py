"""Controls that look a class up: by chance, number, place or clip, against loops."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import domainemo as de
from domainemo.choices import CONTROLS
from domainemo.cli.configuration import configure
from domainemo.registry import entries, find
from domainemo.runs.experiment import experiment
from domainemo.testing import check

NOBODY = np.empty(0, dtype=np.int64)
TRIAL = ["subject", "session", "trial"]
NEW = [
    "stratified-chance",
    "trial-index-only",
    "order-in-session",
    "clip-identity",
    "labels-shuffled",
    "target-statistics-withheld",
]
quick = settings(max_examples=25, deadline=None, database=None)


def predict(name, windows, source, labels, test, values=None, **options):
    values = np.empty((len(windows), 0)) if values is None else values.copy()
    control = find("control", name)(**options)
    return control.predict(windows, source, labels, NOBODY, test, values)


@st.composite
def folds(draw):
    """Two to four subjects, one or two sessions, trials with gaps; rows shuffled."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    names = draw(st.sampled_from(["number", "text"]))
    rows, labels = [], []
    for subject in range(draw(st.integers(2, 4))):
        for session in range(draw(st.integers(1, 2))):
            for trial in rng.permutation(15)[: draw(st.integers(1, 5))]:
                label = int(rng.integers(0, 3))
                called = int(trial) if names == "number" else f"film {trial}"
                for place in range(int(rng.integers(1, 4))):
                    clip = int(rng.integers(0, 4))
                    rows.append((subject, session, called, clip, float(place)))
                    labels.append(label)
    order = rng.permutation(len(rows))
    windows = pd.DataFrame(rows, columns=[*TRIAL, "stimulus", "start"])
    windows = windows.iloc[order].reset_index(drop=True)
    labels = np.array(labels)[order]
    source = np.flatnonzero(windows["subject"] > 0)
    return windows, source, labels[source], np.flatnonzero(windows["subject"] == 0)


def commonest(values):
    counts = Counter(int(value) for value in values)
    return min(counts, key=lambda value: (-counts[value], value))


def number_of(trial):
    return int(float(str(trial).removeprefix("film ")))


@quick
@given(folds())
def test_trial_index_against_a_loop(fold):
    windows, source, labels, test = fold
    expected = []
    for row in test:
        own = windows.iloc[row]
        known = [(windows.iloc[r], y) for r, y in zip(source, labels, strict=True)]
        same = [(w, y) for w, y in known if w["trial"] == own["trial"]]
        session = [y for w, y in same if w["session"] == own["session"]]
        expected.append(commonest(session or [y for _, y in same] or labels))
    assert predict("trial-index-only", *fold).tolist() == expected


@quick
@given(folds())
def test_order_in_session_against_a_loop(fold):
    windows, source, labels, test = fold

    def place(row):
        own = windows.iloc[row]
        inside = windows[
            (windows["subject"] == own["subject"])
            & (windows["session"] == own["session"])
        ]
        return sorted({number_of(t) for t in inside["trial"]}).index(
            number_of(own["trial"])
        )

    trials = {}
    for row, label in zip(source, labels, strict=True):
        trials[tuple(windows[TRIAL].iloc[row])] = (place(row), label)
    expected = []
    for row in test:
        gap = {key: abs(at - place(row)) for key, (at, _) in trials.items()}
        nearest = [key for key in trials if gap[key] == min(gap.values())]
        expected.append(commonest(trials[key][1] for key in nearest))
    assert predict("order-in-session", *fold).tolist() == expected


@quick
@given(folds(), st.integers(0, 100))
def test_clip_identity_against_a_loop(fold, seed):
    windows, source, labels, test = fold
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(len(windows), 4)).astype(np.float32).astype(float)
    if len(source) > 3:
        values[source[::3], 1] = np.nan
    known = values[source]
    mean, deviation = np.nanmean(known, 0), np.nanstd(known, 0)
    scaled = np.nan_to_num((values - mean) / np.where(deviation > 0, deviation, 1))
    clips = windows["stimulus"].to_numpy()
    means, classes = {}, {}
    for clip in sorted(set(clips[source])):
        inside = clips[source] == clip
        means[clip] = scaled[source][inside].mean(0)
        classes[clip] = commonest(labels[inside])
    expected = [
        classes[min(means, key=lambda c: np.sum((scaled[row] - means[c]) ** 2))]
        for row in test
    ]
    found = predict("clip-identity", *fold, values=values)
    assert np.asarray(found).tolist() == expected


@quick
@given(folds(), st.integers(0, 100))
def test_one_draw_serves_a_trial_in_every_fold(fold, seed):
    windows, source, labels, test = fold
    found = predict("stratified-chance", *fold, seed=seed)
    trials = windows.iloc[test].groupby(TRIAL).ngroup().to_numpy()
    assert (pd.Series(found).groupby(trials).nunique() == 1).all()
    assert set(found) <= set(labels)
    some = predict("stratified-chance", windows, source, labels, test[::2], seed=seed)
    assert np.array_equal(some, found[::2])


def test_chance_draws_classes_by_their_shares():
    """6000 trials of one window; the shares lie within five standard errors."""
    windows = pd.DataFrame(
        {"subject": 1, "session": 1, "trial": range(6100), "stimulus": 0, "start": 0.0}
    )
    source, test = np.arange(100), np.arange(100, 6100)
    labels = np.repeat([0, 2, 3], [50, 30, 20])
    found = predict("stratified-chance", windows, source, labels, test)
    shares = np.bincount(found, minlength=4) / len(found)
    error = np.sqrt(0.25 / len(found))
    np.testing.assert_allclose(shares, [0.5, 0, 0.3, 0.2], atol=5 * error)
    other = predict("stratified-chance", windows, source, labels, test, seed=1)
    # Two independent draws agree as often as their shares say.
    agree = 0.5**2 + 0.3**2 + 0.2**2
    assert abs((found == other).mean() - agree) < 5 * error


@pytest.mark.parametrize("name", NEW)
def test_the_shipped_checks_pass(name):
    check(find("control", name))


# ----------------------------------------------------------------------- which are run

OURS = [entry.name for entry in entries("control")]


def chosen(controls, **others):
    return [
        each.name
        for each in experiment(device="cpu", controls=controls, **others).controls
    ]


def test_all_are_those_of_this_package_that_can_be_run():
    assert set(NEW) < set(OURS) and set(CONTROLS) < set(OURS)
    assert chosen("all") == OURS
    # Nothing of the target is in such a normalisation, so that nothing can be withheld.
    left = [name for name in OURS if name != "target-statistics-withheld"]
    assert chosen("all", normalisation="source") == left
    assert chosen(["all"], normalisation="none") == left


def test_none_leaves_source_only():
    made = experiment(device="cpu", controls="none")
    assert made.describe()["controls"] == []
    assert [each.name for each in made.trained] == [made.adapter.name, "none"]


def test_all_stands_for_the_others_and_is_stored_by_name():
    class Own(de.Control):
        words = "the first class"

        def predict(self, windows, source, labels, target, test, values):
            return np.zeros(len(test), dtype=int)

    assert chosen([Own(), "all", "majority-class"])[0] == "Own"
    assert sorted(chosen("all,majority-class")) == sorted(OURS)
    stored = experiment(device="cpu", controls="all").describe()["controls"]
    assert stored == OURS
    assert experiment(device="cpu", controls=stored).describe()["controls"] == OURS


def test_the_command_line_has_the_words_too():
    for words, expected in ((["all"], OURS), (["none"], [])):
        made = configure({"controls": words}, [], None).experiment
        assert [each.name for each in made.controls] == expected
    made = configure({"controls": ["all"]}, ["control.stratified-chance.seed=3"], None)
    options = {each.name: dict(each.options) for each in made.experiment.controls}
    assert options["stratified-chance"] == {"seed": 3}


@pytest.mark.parametrize(
    ("choices", "sentence"),
    [
        ({"controls": "none,majority-class"}, "'none' stands alone"),
        ({"controls": "all", "baselines": False}, "--no-baselines"),
        (
            {"controls": "target-statistics-withheld", "normalisation": "source"},
            "would be the run itself, whose values are z-scored by the source alone",
        ),
        ({"controls": "al"}, "no control called 'al'"),
    ],
)
def test_what_cannot_be_chosen_is_told(choices, sentence):
    with pytest.raises(de.ConfigurationError, match=sentence):
        experiment(device="cpu", **choices)
