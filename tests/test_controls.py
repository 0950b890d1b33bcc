"""Controls: what can be predicted from next to nothing, against slow loops."""

import re
from collections import Counter
from typing import Annotated, ClassVar

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import domainemo as de
from domainemo import registry
from domainemo.choices import CONTROLS
from domainemo.cli.configuration import configure
from domainemo.protocols.cross_subject import CrossSubject
from domainemo.registry import find
from domainemo.runs.controls import control_probabilities
from domainemo.runs.experiment import experiment
from domainemo.studies.space import search_space
from domainemo.values import Bounds

NOTHING = np.empty((0, 0))
BLIND = [name for name in CONTROLS if not find("control", name).sees_signals]


NOBODY = np.empty(0, dtype=np.int64)


def blind(name, windows, source, labels, test):
    """Return what a control says that is shown no signal, and so no target."""
    control = find("control", name)()
    return control.predict(windows, source, labels, NOBODY, test, NOTHING)


def majority_class(*known):
    return blind("majority-class", *known)


def clip_duration(*known):
    return blind("clip-duration-only", *known)


quick = settings(max_examples=25, deadline=None, database=None)
TRIAL = ["subject", "session", "trial"]


@st.composite
def folds(draw):
    """Two to four subjects with trials of random lengths and labels; rows shuffled."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    subjects, trials = draw(st.integers(2, 4)), draw(st.integers(1, 6))
    rows, labels = [], []
    for subject in range(subjects):
        for trial in range(trials):
            length, label = int(rng.integers(1, 8)), int(rng.integers(0, 3))
            # Here and there windows were lost, and a trial lasts longer than they do.
            begins = np.sort(rng.choice(2 * length, length, replace=False))
            for begin in begins:
                rows.append((subject, 1, trial, trial, float(begin)))
                # Now and then a window is labelled apart from its trial.
                labels.append(label if rng.random() < 0.9 else int(rng.integers(0, 3)))
    order = rng.permutation(len(rows))
    windows = pd.DataFrame(rows, columns=[*TRIAL, "stimulus", "start"])
    windows = windows.iloc[order].reset_index(drop=True)
    labels = np.array(labels)[order]
    source = np.flatnonzero(windows["subject"] > 0)
    return windows, source, labels[source], np.flatnonzero(windows["subject"] == 0)


def commonest(values):
    counts = Counter(int(value) for value in values)
    return min(counts, key=lambda value: (-counts[value], value))


def slow_majority(windows, source, source_labels, test):
    return [commonest(source_labels)] * len(test)


def slow_duration(windows, source, source_labels, test):
    """One nearest neighbour on the length of trials; all at the distance vote."""
    known = []
    members = {}
    for row, label in zip(source, source_labels, strict=True):
        members.setdefault(tuple(windows[TRIAL].iloc[row]), []).append(label)
    for inside in members.values():
        known.append((len(inside), commonest(inside)))
    asked = Counter(tuple(windows[TRIAL].iloc[row]) for row in test)
    predicted = []
    for row in test:
        length = asked[tuple(windows[TRIAL].iloc[row])]
        nearest = min(abs(size - length) for size, _ in known)
        predicted.append(
            commonest([y for size, y in known if abs(size - length) == nearest])
        )
    return predicted


@quick
@given(folds())
def test_majority_class_against_a_loop(fold):
    assert majority_class(*fold).tolist() == slow_majority(*fold)


@quick
@given(folds())
def test_clip_duration_against_a_loop(fold):
    assert clip_duration(*fold).tolist() == slow_duration(*fold)


def test_clip_duration_is_perfect_where_the_length_tells_the_label():
    rows = [
        (subject, 1, trial, trial, float(place))
        for subject in (1, 2)
        for trial, length in ((1, 3), (2, 5), (3, 9))
        for place in range(length)
    ]
    windows = pd.DataFrame(rows, columns=[*TRIAL, "stimulus", "start"])
    labels = windows["trial"].to_numpy() - 1
    source = np.flatnonzero(windows["subject"] == 1)
    test = np.flatnonzero(windows["subject"] == 2)
    found = clip_duration(windows, source, labels[source], test)
    np.testing.assert_array_equal(found, labels[test])


def test_clip_duration_says_one_thing_per_trial():
    rng = np.random.default_rng(0)
    windows = pd.DataFrame(
        [
            (s, 1, t, t, float(p))
            for s in (1, 2)
            for t in range(5)
            for p in range(t + 1)
        ],
        columns=[*TRIAL, "stimulus", "start"],
    )
    source = np.flatnonzero(windows["subject"] == 1)
    test = np.flatnonzero(windows["subject"] == 2)
    found = clip_duration(windows, source, rng.integers(0, 3, len(source)), test)
    per_trial = pd.Series(found).groupby(windows["trial"].iloc[test].to_numpy())
    assert (per_trial.nunique() == 1).all()


@pytest.mark.parametrize("name", BLIND)
def test_controls_are_blind_to_the_clip(name):
    """Other names for the stimuli, other starts: the same predictions."""
    windows = pd.DataFrame(
        [
            (s, 1, t, t, float(p))
            for s in (1, 2)
            for t in range(4)
            for p in range(t + 2)
        ],
        columns=[*TRIAL, "stimulus", "start"],
    )
    source = np.flatnonzero(windows["subject"] == 1)
    test = np.flatnonzero(windows["subject"] == 2)
    labels = windows["trial"].to_numpy()[source] % 3
    other = windows.assign(stimulus=0, start=windows["start"] * 3 + 1)
    one = blind(name, windows, source, labels, test)
    two = blind(name, other, source, labels, test)
    np.testing.assert_array_equal(one, two)
    assert one.shape == test.shape


def test_clip_duration_knows_the_trial_where_it_is_divided_in_time():
    rows = [
        (subject, 1, trial, trial, float(place))
        for subject in (1, 2)
        for trial, length in ((1, 4), (2, 8), (3, 16))
        for place in range(length)
    ]
    windows = pd.DataFrame(rows, columns=[*TRIAL, "stimulus", "start"])
    labels = windows["trial"].to_numpy() - 1
    for fold in CrossSubject(held_out=0.5, unit="time").split(windows):
        found = clip_duration(windows, fold.source, labels[fold.source], fold.test)
        np.testing.assert_array_equal(found, labels[fold.test])


class Remembers(de.Control):
    """Predict how many folds it was asked about before."""

    words = "the number of folds before"
    asked: ClassVar[list] = []

    def predict(self, windows, source, labels, target, test, values):
        self.asked.append(len(test))
        return np.full(len(test), min(len(self.asked) - 1, 2))


def test_a_strangers_control_stands_beside_the_result_and_forgets_each_fold():
    data = de.Simulated(subjects=3, sessions=1, trials=3, windows=(2, 3)).load()
    results = de.run(
        data,
        backbone="concatenation-mlp",
        adapter="none",
        training=de.Training(epochs=1),
        controls=["majority-class", Remembers()],
        device="cpu",
    )
    assert results.controls == ["Remembers", "majority class"]
    theirs = results.predictions.query("method == 'Remembers'")
    assert theirs["fold"].nunique() == 3
    assert set(theirs["predicted"]) == {0}
    rows = results.table.query("method == 'Remembers'")
    assert set(rows["target_seen"]) == {"target not seen"}
    assert results.description["controls"] == ["Remembers", "majority-class"][::-1]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"controls": ["majorty-class"]}, "no control called 'majorty-class'. Did you"),
        ({"controls": ["majority-class"] * 2}, "expected each of them once"),
        ({"controls": "majority-class", "baselines": False}, "--no-baselines"),
    ],
)
def test_controls_that_cannot_be_run_are_told(changes, sentence):
    with pytest.raises(de.ConfigurationError, match=sentence):
        experiment(device="cpu", **changes)


@pytest.fixture
def own_controls():
    """Register two controls with options, for as long as a test runs."""

    @registry.register
    class AlwaysOne(de.Control):
        words = "always the same class"

        def __init__(self, *, which: Annotated[int, Bounds(0)] = 0, least: int = 1):
            self.which, self.least = which, least

        def predict(self, windows, source, labels, target, test, values):
            return np.full(len(test), self.which)

    @registry.register
    class AlwaysOther(AlwaysOne):
        words = "always the same class"

    return AlwaysOne


@pytest.mark.parametrize("by_class", [False, True])
def test_an_option_of_a_control_is_used_stored_and_told(own_controls, by_class):
    data = de.Simulated(subjects=2, sessions=1, trials=3, windows=(2, 3)).load()
    results = de.run(
        data,
        backbone="concatenation-mlp",
        adapter="none",
        training=de.Training(epochs=1),
        controls=[own_controls if by_class else "always-one", "always-other"],
        options={"control.always-one.which": 2},
        device="cpu",
    )
    found = results.predictions.groupby("method")["predicted"].unique()
    assert found["always one"] == [2] and found["always other"] == [0]
    options = results.description["options"]
    assert {k: v for k, v in options.items() if k.startswith("control.")} == {
        "control.always-one.least": 1,
        "control.always-one.which": 2,
        "control.always-other.least": 1,
        "control.always-other.which": 0,
    }
    assert (
        "control always-one (least 1, which 2); control always-other" in results.how()
    )


WRONG = {
    "which": "control.which names no control",
    "alwys-one.which": "no control called 'alwys-one'. Did you mean 'always-one'",
    "majority-class.which": "control 'majority-class' is not run; these are: always",
    "always-one.wich": "'always-one' has no option 'wich'. Did you mean 'which'",
}


@pytest.mark.parametrize("option", WRONG)
def test_an_option_that_no_control_has_is_refused(own_controls, option):
    chosen = {"controls": ["always-one", "always-other"], "device": "cpu"}
    with pytest.raises(de.ConfigurationError, match=re.escape(WRONG[option])):
        experiment(**chosen, options={f"control.{option}": 1})
    with pytest.raises(de.ConfigurationError, match=re.escape(WRONG[option])):
        configure(chosen, [f"control.{option}=1"], None)


def test_a_value_that_a_controls_option_cannot_have_is_refused(own_controls):
    sentence = "control 'always-one': which is -1; expected at least 0"
    with pytest.raises(de.ConfigurationError, match=sentence):
        configure({"controls": ["always-one"]}, ["control.always-one.which=-1"], None)
    with pytest.raises(de.ConfigurationError, match="given as an object"):
        experiment(controls=[own_controls()], options={"control.always-one.which": 1})
    with pytest.raises(de.ConfigurationError, match="these are: none"):
        experiment(baselines=False, options={"control.always-one.which": 1})


def test_a_file_sets_a_controls_option_and_the_command_line_another(
    own_controls, tmp_path
):
    file = tmp_path / "mine.toml"
    file.write_text(
        'controls = ["always-one"]\n[options.control.always-one]\nwhich = 2\n',
        encoding="utf-8",
    )

    def options(chosen=(), sets=()):
        made = configure(dict(chosen), sets, str(file)).experiment
        return [dict(each.options) for each in made.controls]

    assert options() == [{"which": 2}]
    assert options(sets=["control.always-one.which=1"]) == [{"which": 1}]
    assert options(sets=["least=5"]) == [{"which": 2, "least": 5}]
    assert options({"controls": ["always-other"]}) == [{}], "the file's went with it"
    with pytest.raises(
        de.ConfigurationError, match=r"control\.always-one\.least or contr"
    ):
        options({"controls": ["always-one", "always-other"]}, ["least=5"])


def test_a_controls_option_is_not_searched(own_controls):
    made = experiment(adapter="marginal", controls=["always-one"], device="cpu")
    ranges = {"control.always-one.which": {"low": 0, "high": 2}}
    with pytest.raises(de.ConfigurationError, match="a control stands beside what is"):
        search_space(made, ["adapter"], ranges, {})


def test_what_is_no_prediction_is_refused():
    class Wrong(de.Control):
        def predict(self, windows, source, labels, target, test, values):
            return np.zeros((len(test), 5))

    data = de.Simulated(subjects=2, sessions=1, trials=3, windows=(1, 2)).load()
    fold = next(CrossSubject().split(data.inputs.windows))
    labels = data.labels[fold.source]
    with pytest.raises(de.ConfigurationError, match=r"predict returned an array"):
        control_probabilities(
            Wrong(),
            data.inputs,
            "none",
            fold,
            fold.source,
            labels,
            fold.test[:, None],
            3,
        )


def test_a_control_says_of_a_sample_the_mean_over_its_windows_without_padding():
    class Numbered(de.Control):
        """Says one class of the first window, and another one of all others."""

        def predict(self, windows, source, labels, target, test, values):
            return (test != test.min()).astype(int)

    data = de.Simulated(subjects=2, sessions=1, trials=3, windows=(2, 3)).load()
    fold = next(CrossSubject().split(data.inputs.windows))
    one, other, *_, last = fold.test
    members = np.array([[one, -1, -1], [one, other, last], [other, last, -1]])
    known = fold, fold.source, data.labels[fold.source], members
    found = control_probabilities(Numbered(), data.inputs, "none", *known, 3)
    expected = [[1, 0, 0], [1 / 3, 2 / 3, 0], [0, 1, 0]]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_control_is_not_called_as_what_it_stands_beside():
    same = type("marginal", (Remembers,), {})
    with pytest.raises(de.ConfigurationError, match="Give it another name"):
        experiment(device="cpu", adapter="marginal", controls=[same()])


def test_no_control_at_all_is_a_choice_that_is_kept():
    assert experiment(device="cpu", controls=[]).describe()["controls"] == []
    assert "controls" not in experiment(device="cpu").describe()
    assert "controls" not in experiment(device="cpu", controls=None).describe()
    assert "controls" not in experiment(device="cpu", baselines=False).describe()
    assert experiment(device="cpu", baselines=False).trained[1:] == []


@pytest.mark.parametrize("value", [-1, 3])
def test_a_class_that_there_is_not_is_refused(value):
    class Beyond(de.Control):
        def predict(self, windows, source, labels, target, test, values):
            return np.full(len(test), value)

    data = de.Simulated(subjects=2, sessions=1, trials=3, windows=(1, 2)).load()
    fold = next(CrossSubject().split(data.inputs.windows))
    known = fold, fold.source, data.labels[fold.source], fold.test[:, None]
    with pytest.raises(de.ConfigurationError, match="number, 0 to 2"):
        control_probabilities(Beyond(), data.inputs, "none", *known, 3)


@pytest.mark.parametrize("missing", [0, 1, 2])
@pytest.mark.parametrize("name", [e.name for e in registry.entries("control")])
def test_a_class_that_the_source_lacks_is_not_predicted(name, missing):
    """Quadrants of ratings: not everybody has every class, the last one included."""
    data = de.Simulated(subjects=3, sessions=1, trials=6, windows=(2, 3)).load()
    fold = next(CrossSubject().split(data.inputs.windows))
    labels = data.labels[fold.source]
    labelled, labels = fold.source[labels != missing], labels[labels != missing]
    control = find("control", name)()
    if isinstance(control, de.Retraining):
        pytest.skip("it predicts by a network, which has a logit of each class")
    known = fold, labelled, labels, fold.test[:, None]
    found = control_probabilities(control, data.inputs, "none", *known, 3)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)
    assert not found[:, missing].any()
