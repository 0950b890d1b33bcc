"""Planted leaks are caught by name, waived by name, and clean recordings raise none."""

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import domainemo as de
from domainemo.core import Fold, Modality, Protocol
from domainemo.data.labels import settle
from domainemo.data.loading import load
from domainemo.errors import ConfigurationError, DataError
from domainemo.protocols.cross_subject import CrossSubject
from domainemo.runs.checks import canonical
from domainemo.runs.experiment import experiment
from domainemo.runs.folds import folds_of
from domainemo.runs.leaks import KINDS, check_leaks, find_leaks
from domainemo.runs.plan import plan

IN_TIME = {"protocol.held_out": 0.5, "protocol.unit": "time"}
BY_TRIAL = {"protocol.held_out": 0.5, "protocol.unfit": "skip"}
QUICK = {"backbone": "concatenation-mlp", "adapter": "none", "device": "cpu"}


def noise(subjects=3, sessions=2, trials=4, windows=6, channels=5, features=4, seed=0):
    """Independent values; the trials of a session in another order for each subject."""
    generator = np.random.default_rng(seed)
    place = np.indices((subjects, sessions, trials, windows)).reshape(4, -1)
    orders = [generator.permutation(trials) for _ in range(subjects * sessions)]
    shown = np.array(orders)[place[0] * sessions + place[1], place[2]]
    signals = generator.standard_normal((place.shape[1], channels, features))
    return de.from_arrays(
        {"eye": signals.astype(np.float32) + 3},
        shown % 2,
        subject=place[0] + 1,
        session=place[1] + 1,
        trial=place[2] + 1,
        stimulus=shown + 1,
        start=place[3] * 2.0,
        name="noise",
    )


def with_signals(data, signals, **described):
    modality = replace(data.inputs.modalities["eye"], **described)
    inputs = replace(
        data.inputs,
        signals={"eye": signals.astype(np.float32)},
        modalities={"eye": modality},
    )
    return replace(data, inputs=inputs)


def with_feature(data, values, feature=2, channel=3):
    signals = data.inputs.signals["eye"].copy()
    signals[:, channel, feature] = values
    return with_signals(data, signals)


def leaks(data, protocol=None, **options):
    protocol = protocol or CrossSubject(**options)
    inputs = data.inputs.take(canonical(data.inputs))
    return find_leaks(protocol, inputs, folds_of(protocol, inputs))


def kinds(data, protocol=None, **options):
    return [leak.kind for leak in leaks(data, protocol, **options)]


# ---------------------------------------------------------------------- the planted


def number_of_the_trial(data):
    return with_feature(data, data.inputs.windows["trial"])


def number_in_a_random_order(data):
    """Of the trial, in each session another one."""
    windows = data.inputs.windows
    codes = windows.groupby(["subject", "session", "trial"]).ngroup().to_numpy()
    return with_feature(
        data, np.random.default_rng(1).permutation(codes.max() + 1)[codes]
    )


def class_of_the_trial(data):
    return with_feature(data, data.labels * 2.0 - 1)


def clock(data):
    windows = data.inputs.windows
    seconds = windows["session"] * 1000 + windows["trial"] * 100 + windows["start"]
    return with_feature(data, seconds * 1.5 - 20)


def clock_backwards(data):
    windows = data.inputs.windows
    return with_feature(data, -(windows["trial"] * 100 + windows["start"]))


def code_of_the_stimulus(data):
    """Such as the loudness of the film: at each moment another one."""
    windows = data.inputs.windows
    return with_feature(
        data, np.sin(windows["stimulus"] * 7.3 + windows["start"] * 1.7)
    )


def scaled_copy(data):
    """The first trial of the first subject again, as one of the third."""
    signals = data.inputs.signals["eye"].copy()
    windows = data.inputs.windows
    one, other = (
        np.flatnonzero(
            (windows["subject"] == who)
            & (windows["session"] == 1)
            & (windows["trial"] == n)
        )
        for who, n in ((1, 1), (3, 2))
    )
    generator = np.random.default_rng(3)
    gain = generator.uniform(0.3, 40, signals.shape[1:])
    offset = generator.uniform(-50, 50, signals.shape[1:])
    signals[other] = signals[one] * gain + offset
    return with_signals(data, signals)


def smoothed(data):
    return with_signals(data, data.inputs.signals["eye"], span=np.inf)


def overlapping(data):
    return with_signals(data, data.inputs.signals["eye"], span=3.0)


def raw_windows_that_overlap(data):
    """Windows of 24 samples, each beginning at the middle of the one before."""
    generator = np.random.default_rng(5)
    windows = data.inputs.windows
    shape = data.inputs.signals["eye"].shape
    signals = np.empty((len(windows), shape[1], 24))
    for rows in windows.groupby(["subject", "session", "trial"]).indices.values():
        samples = generator.standard_normal((shape[1], 12 * len(rows) + 12))
        for place, row in enumerate(rows):
            signals[row] = samples[:, 12 * place : 12 * place + 24]
    return with_signals(data, signals, features=tuple(map(str, range(24))))


def scaled(columns, how="z"):
    def planted(data):
        signals = data.inputs.signals["eye"].astype(np.float64)
        windows = data.inputs.windows
        codes = windows.groupby(columns).ngroup() if columns else np.zeros(len(windows))
        for code in np.unique(codes):
            theirs = signals[codes == code]
            low, high = theirs.min(0), theirs.max(0)
            signals[codes == code] = (
                (theirs - theirs.mean(0)) / theirs.std(0)
                if how == "z"
                else (theirs - low) / (high - low)
            )
        return with_signals(data, signals)

    return planted


def label_that_changes_within_trials(data):
    """Split where it does, so that a neighbour in time is a trial of its own."""
    windows = data.inputs.windows
    labels = (windows["trial"] + (windows["start"] > 4)).to_numpy(np.int64) % 2
    return settle(replace(data, labels=labels), "split")


PLANTED = {
    "divided-trials": [
        (label_that_changes_within_trials, BY_TRIAL),
        (label_that_changes_within_trials, IN_TIME),
    ],
    "identifying-feature": [
        (number_of_the_trial, {}),
        (number_in_a_random_order, {}),
        (class_of_the_trial, {}),
        (clock, {}),
        (clock_backwards, {}),
        (code_of_the_stimulus, {}),
    ],
    "duplicate-recording": [(scaled_copy, {})],
    "smoothed-across-split": [
        (smoothed, IN_TIME),
        (scaled(["subject", "session"]), BY_TRIAL),
        (scaled(["subject"]), IN_TIME),
        (scaled([]), BY_TRIAL),
        (scaled(["subject", "session"], "range"), BY_TRIAL),
    ],
    "overlapping-windows": [
        (overlapping, IN_TIME),
        (raw_windows_that_overlap, IN_TIME),
    ],
}
CASES = [
    pytest.param(kind, plant, options, id=f"{kind}-{plant.__name__}-{number}")
    for kind, cases in PLANTED.items()
    for number, (plant, options) in enumerate(cases)
]


def of_protocol(options):
    return {key.removeprefix("protocol."): value for key, value in options.items()}


def test_every_kind_of_leak_is_planted():
    """Shared stimuli, and trials that nobody may waive, by protocols further below."""
    assert {*PLANTED, "shared-stimulus"} == {*KINDS}


@pytest.mark.parametrize(("kind", "plant", "options"), CASES)
def test_a_planted_leak_is_caught_by_name_and_waived_by_it(kind, plant, options):
    data = plant(noise())
    assert set(kinds(data, **of_protocol(options))) == {kind}
    with pytest.raises(DataError, match=f"{kind}: .*--waive {kind}"):
        plan(data, experiment(options=options, **QUICK))
    waived = plan(data, experiment(options=options, waive=[kind], **QUICK)).waived
    assert list(waived) == [kind] and waived[kind]


@pytest.mark.parametrize("options", [{}, BY_TRIAL, IN_TIME])
@pytest.mark.parametrize(
    "shape", [(3, 2, 4, 6), (2, 1, 3, 2), (4, 1, 12, 1), (2, 3, 5, 30)]
)
def test_noise_raises_nothing(options, shape):
    for seed in range(5):
        data = noise(*shape, seed=seed)
        if options == IN_TIME and shape[3] == 1:
            continue
        assert kinds(data, **of_protocol(options)) == []


def test_what_a_split_keeps_whole_is_no_leak():
    """Smoothing over the trial where trials stay whole, scaling where sessions do."""
    assert kinds(smoothed(noise()), **of_protocol(BY_TRIAL)) == []
    assert kinds(smoothed(noise())) == []
    assert kinds(overlapping(noise()), **of_protocol(BY_TRIAL)) == []
    by_trial = scaled(["subject", "session", "trial"])(noise(windows=12))
    assert kinds(by_trial, **of_protocol(BY_TRIAL)) == []
    assert kinds(by_trial, **of_protocol(IN_TIME)) == ["smoothed-across-split"]
    assert kinds(scaled(["subject"])(noise())) == []


def test_values_of_which_most_are_standardised_are_not_taken_to_be():
    """Some may have a mean of 0 and a deviation of 1 by nature; nearly all have not."""
    data = scaled(["subject", "session"])(noise())
    (told,) = kinds(data, **of_protocol(BY_TRIAL))
    signals = data.inputs.signals["eye"].copy()
    flat = signals.reshape(len(signals), -1)
    flat[:, : max(flat.shape[1] // 5, 1)] += 3.0
    assert told and kinds(with_signals(data, signals), **of_protocol(BY_TRIAL)) == []


def test_a_smoother_that_looks_ahead_is_none_of_windows_as_they_arrive():
    class AsTheyArrive(Films):
        """Trials are whole, and none of them may be known beforehand."""

        causal, disjoint = True, ()

    (leak,) = leaks(smoothed(noise()), AsTheyArrive())
    assert leak.kind == "smoothed-across-split" and "as they arrive" in leak.text
    assert kinds(noise(), AsTheyArrive()) == []


def test_windows_that_only_touch_do_not_overlap():
    for span, found in ((2.0, []), (2.001, ["overlapping-windows"])):
        data = with_signals(noise(), noise().inputs.signals["eye"], span=span)
        assert kinds(data, **of_protocol(IN_TIME)) == found


@settings(deadline=None, max_examples=25)
@given(
    span=st.floats(0.1, 12),
    starts=st.lists(st.integers(0, 40), min_size=2, max_size=8, unique=True),
    share=st.sampled_from([0.2, 0.5, 0.8]),
)
def test_overlap_is_what_every_pair_of_windows_says(span, starts, share):
    count, people = len(starts), 2
    start = np.tile(sorted(starts), people) / 2
    data = de.from_arrays(
        {"eye": np.random.default_rng(0).standard_normal((len(start), 2, 2))},
        np.tile(np.arange(count) % 2, people),
        subject=np.repeat([1, 2], count),
        trial=1,
        start=start,
    )
    data = with_signals(data, data.inputs.signals["eye"], span=span)
    protocol = CrossSubject(held_out=share, unit="time")
    try:
        folds = folds_of(protocol, data.inputs)
    except DataError:
        return  # nothing on one side
    expected = any(
        abs(start[i] - start[j]) < span - 1e-6
        for fold in folds
        for i in fold.target
        for j in fold.test
    )
    found = find_leaks(protocol, data.inputs, folds)
    assert [leak.kind for leak in found] == ["overlapping-windows"] * expected


# ------------------------------------------------------------- what is promised apart


class Films(Protocol):
    """Half of the subjects against the others, all of whom have seen the same films."""

    domain = "subject"
    disjoint = ("subject", "stimulus")

    def split(self, windows):
        """Yield a single fold."""
        first = np.flatnonzero(windows["subject"] == 1)
        rest = np.flatnonzero(windows["subject"] != 1)
        yield Fold("first", rest, first, first)


class UnseenFilms(Films):
    """The same with other films."""

    def split(self, windows):
        """Yield a single fold."""
        one = windows["subject"] == 1
        early = windows["stimulus"] <= 2
        test = np.flatnonzero(one & early)
        yield Fold("first", np.flatnonzero(~one & ~early), test, test)


def test_a_stimulus_that_the_protocol_forbids():
    (leak,) = leaks(noise(), Films())
    assert leak.kind == "shared-stimulus"
    assert "stimulus 1, 2, 3, 4" in leak.text and "'first'" in leak.text
    assert kinds(noise(), UnseenFilms()) == []


# ------------------------------------------------------------------------- which it is


def test_it_says_which_feature_of_which_channel():
    (leak,) = leaks(number_of_the_trial(noise()))
    assert "'feature-3' of 'channel-4'" in leak.text
    assert "throughout each trial" in leak.text
    (leak,) = leaks(clock(noise()))
    assert "'feature-3' of 'channel-4'" in leak.text and "counting on" in leak.text
    (leak,) = leaks(code_of_the_stimulus(noise()))
    assert "same moment of the same stimulus" in leak.text


def test_it_says_which_recordings_are_copies():
    (leak,) = leaks(scaled_copy(noise()))
    words = "subject 1, session 1, trial 1 and subject 3, session 1, trial 2"
    assert words in leak.text


def test_a_copy_among_those_who_train_is_no_leak_between_roles():
    data = scaled_copy(noise())

    class Second(Films):
        """Tests somebody else."""

        disjoint = ()

        def split(self, windows):
            """Yield a single fold."""
            two = np.flatnonzero(windows["subject"] == 2)
            yield Fold("second", np.flatnonzero(windows["subject"] != 2), two, two)

    assert kinds(data, Second()) == []


@pytest.mark.parametrize("together", [1, 3, 100])
def test_scaling_is_found_however_many_channels_are_looked_at_at_once(
    monkeypatch, together
):
    """One channel of forty was added later; a large file is looked at in parts."""
    data = noise(channels=40, features=1)
    signals = data.inputs.signals["eye"].copy()
    days = data.inputs.windows.groupby(["subject", "session"]).ngroup().to_numpy()
    for day in np.unique(days):
        part = signals[days == day, 1:]
        signals[days == day, 1:] = (part - part.mean(0)) / part.std(0)
    monkeypatch.setattr("domainemo.runs.leaks._SUMMED", together * 24)
    options = {name.removeprefix("protocol."): BY_TRIAL[name] for name in BY_TRIAL}
    found = kinds(with_signals(data, signals), **options)
    assert found == ["smoothed-across-split"]


def test_a_copy_that_chooses_the_epoch_is_found():
    class Chosen(Films):
        """One person is tested, another one's recordings choose the epoch."""

        disjoint = ()

        def split(self, windows):
            """Yield a single fold."""
            who = [np.flatnonzero(windows["subject"] == n) for n in (1, 2, 3)]
            yield Fold("third", who[1], who[2], who[2], validation=who[0])

    assert kinds(scaled_copy(noise()), Chosen()) == ["duplicate-recording"]


def test_lost_values_hide_no_leak_and_make_none():
    generator = np.random.default_rng(7)
    for plant, expected in (
        (lambda data: data, set()),
        (number_of_the_trial, {"identifying-feature"}),
        (clock, {"identifying-feature"}),
        (code_of_the_stimulus, {"identifying-feature"}),
        (scaled_copy, {"duplicate-recording"}),
    ):
        data = plant(noise())
        signals = data.inputs.signals["eye"].copy()
        lost = generator.random(len(signals)) < 0.1
        if plant is scaled_copy:  # the same in both of them
            lost = np.tile(np.arange(6) == 4, len(signals) // 6)
        signals[lost] = np.nan
        assert set(kinds(with_signals(data, signals))) == expected


def test_people_whose_sensor_was_lost_agree_with_nobody():
    """Values of one person at a moment are no code, though others have none there."""
    data = noise(subjects=2)
    signals = data.inputs.signals["eye"].copy()
    signals[(data.inputs.windows["subject"] == 1).to_numpy(), 1:] = np.nan
    assert kinds(with_signals(data, signals)) == []


def test_a_measure_of_more_than_the_trial_is_no_number():
    """A heart rate over 16 s stays the same through a trial of 12 s."""
    generator = np.random.default_rng(0)
    data = noise()
    codes = data.inputs.windows.groupby(["subject", "session", "trial"]).ngroup()
    rates = generator.standard_normal(codes.max() + 1)[codes]
    assert kinds(with_feature(data, rates)) == ["identifying-feature"]
    told = with_feature(data, rates)
    assert kinds(with_signals(told, told.inputs.signals["eye"], span=16.0)) == []


# ------------------------------------------------------------- what a window is made of


def test_the_span_is_kept_in_tables_and_joined(tmp_path):
    data = with_signals(noise(), noise().inputs.signals["eye"], span=np.inf)
    de.write_table(data, tmp_path / "table")
    again = load("table", tmp_path / "table")
    assert again.inputs.modalities == data.inputs.modalities
    other = noise(subjects=2)
    moved = other.inputs.windows.assign(subject=other.inputs.windows["subject"] + 10)
    other = replace(other, inputs=replace(other.inputs, windows=moved))
    assert de.join(other, data).inputs.modalities["eye"].span == np.inf


@pytest.mark.parametrize("span", [0, -1.0, float("nan"), True, "4 s"])
def test_a_span_that_is_no_time(span):
    with pytest.raises(DataError, match="Modality, span: found"):
        Modality(("a",), ("b",), "eye", span=span)


# ------------------------------------------------------------------ waived, and where


def test_a_waiver_stands_in_every_result(tmp_path):
    data = number_of_the_trial(noise(subjects=2, sessions=1))
    data = with_signals(data, data.inputs.signals["eye"], span=np.inf)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = de.run(
            data,
            output=tmp_path / "run",
            waive=["identifying-feature", "shared-stimulus"],
            options={"training.epochs": 1},
            **QUICK,
        )
    words = "'feature-3' of 'channel-4' is one and the same value throughout each trial"
    assert results.table["waived"].nunique() == 1
    for told in (
        results.table["waived"].iloc[0],
        (tmp_path / "run" / "how.txt").read_text(),
        results.how(),
    ):
        assert "identifying-feature (" in told and words in told
        assert "shared-stimulus (not found)" in told
    assert "eye (made of: eye of the whole trial);" in results.how()
    config = (tmp_path / "run" / "config.toml").read_text()
    assert "identifying-feature" in config


def test_without_a_waiver_nothing_is_said_of_it():
    planned = plan(noise(), experiment(**QUICK))
    assert planned.waived == {}
    assert "waive" not in experiment(**QUICK).describe()


@pytest.mark.parametrize(
    ("waive", "words"),
    [
        (["overlaping-windows"], "Did you mean 'overlapping-windows'"),
        (["everything"], "Expected some of overlapping-windows"),
        (["shared-trial"], "cannot be waived"),
        ("identifying-feature", "expected list of str"),
    ],
)
def test_waivers_of_no_leak(waive, words):
    with pytest.raises(ConfigurationError, match=words):
        experiment(waive=waive, **QUICK)


def test_another_leak_is_not_waived_with_it():
    data = number_of_the_trial(smoothed(noise()))
    data = with_signals(data, data.inputs.signals["eye"], span=np.inf)
    protocol = CrossSubject(**of_protocol(IN_TIME))
    folds = folds_of(protocol, data.inputs)
    with pytest.raises(
        DataError, match=r"found 1 leak,.*--waive smoothed-across-split"
    ):
        check_leaks(protocol, data.inputs, folds, ["identifying-feature"])
    assert set(check_leaks(protocol, data.inputs, folds, list(KINDS))) == set(KINDS)


def test_folds_that_share_a_trial_are_refused_whatever_is_waived():
    class Halves(Films):
        """Windows of one trial on both sides."""

        def split(self, windows):
            """Yield a single fold."""
            rows = np.arange(len(windows))
            yield Fold("halves", rows[::2], rows[1::2], rows[1::2])

    with pytest.raises(ConfigurationError, match=r"share a trial.*shared-trial"):
        folds_of(Halves(), noise().inputs)


# -------------------------------------------------------------------- the command line


@pytest.fixture
def table(tmp_path):
    de.write_table(number_of_the_trial(noise()), tmp_path / "numbered")
    de.write_table(noise(), tmp_path / "clean")
    return tmp_path


def check(command, *arguments):
    from typer.testing import CliRunner

    from domainemo.cli import app

    done = CliRunner().invoke(app, ["data", "check", command, *arguments])
    return done.exit_code, done.output


def test_data_check_tells_of_leaks_and_trains_nothing(table, monkeypatch):
    monkeypatch.setattr("domainemo.runs.job.run_jobs", None)
    numbered = str(table / "numbered")
    assert check(numbered)[0] == 0
    code, output = check(numbered, "--protocol", "cross-subject")
    assert code == 3 and "identifying-feature" in output and "1 leak" in output
    waive = ("--waive", "identifying-feature")
    code, output = check(numbered, "--protocol", "cross-subject", *waive)
    assert code == 0 and "identifying-feature (waived)" in output
    code, output = check(numbered, "--protocol", "cross-subject", "--json")
    assert code == 3
    assert [leak["kind"] for leak in json.loads(output)["leaks"]] == [
        "identifying-feature"
    ]
    clean = check(str(table / "clean"), "--protocol=cross-subject")
    assert clean[0] == 0 and "no leak found" in clean[1]
