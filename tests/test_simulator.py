"""The simulator: what each knob promises, against an estimate that knows no knob."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from domainemo.core import PROVENANCE, EmotionData
from domainemo.data.simulator import (
    BANDS,
    CHANNELS,
    EYE_MEASURES,
    POSITIONS,
    Simulated,
)
from domainemo.errors import ConfigurationError
from domainemo.registry import entries, find

CALM = {"poor": 0.0, "missing": 0.0, "subject_shift": 0.0, "session_shift": 0.0}
SILENT = CALM | {"effect": 0.0, "stimulus_effect": 0.0}
STILL = {"noise": 0.0, "poor": 0.0, "missing": 0.0}


def signal(data: EmotionData, name: str) -> NDArray[np.float64]:
    return data.inputs.signals[name].astype(float).reshape(len(data), -1)


def standardised(data: EmotionData) -> NDArray[np.float64]:
    """Both modalities, z-scored per subject and session, 0 where lost."""
    values = np.concatenate([signal(data, "eeg"), signal(data, "eye")], axis=1)
    table = data.inputs.windows
    for rows in table.groupby(["subject", "session"]).indices.values():
        mean, spread = np.nanmean(values[rows], 0), np.nanstd(values[rows], 0)
        values[rows] = (values[rows] - mean) / spread
    return np.nan_to_num(values)


def centroid_accuracy(
    values: NDArray[np.float64],
    labels: NDArray[np.int64],
    train: NDArray[np.bool_],
    test: NDArray[np.bool_],
) -> float:
    """Balanced accuracy of the nearest class mean."""
    names = np.unique(labels)
    means = np.stack([values[train & (labels == k)].mean(0) for k in names])
    distance = ((values[test][:, None] - means) ** 2).sum(-1)
    right = names[distance.argmin(1)] == labels[test]
    return float(np.mean([right[labels[test] == k].mean() for k in names]))


def unseen_subjects(data: EmotionData) -> float:
    subject = data.inputs.windows["subject"].to_numpy()
    values = standardised(data)
    scores = [
        centroid_accuracy(values, data.labels, subject != k, subject == k)
        for k in np.unique(subject)
    ]
    return float(np.mean(scores))


def unseen_clips(data: EmotionData, folds: int) -> float:
    """The same, testing on clips that nobody in training has seen; class-balanced."""
    table = data.inputs.windows.assign(label=data.labels)
    clips = table.groupby("stimulus")["label"].first()
    fold = clips.groupby(clips).cumcount() % folds
    held = table["stimulus"].map(fold).to_numpy()
    subject = table["subject"].to_numpy()
    values = standardised(data)
    scores = [
        centroid_accuracy(
            values,
            data.labels,
            (held != part) & (subject != who),
            (held == part) & (subject == who),
        )
        for part in range(folds)
        for who in np.unique(subject)
    ]
    return float(np.mean(scores))


def assert_same(first: EmotionData, second: EmotionData) -> None:
    for name, values in first.inputs.signals.items():
        np.testing.assert_array_equal(values, second.inputs.signals[name])
    pd.testing.assert_frame_equal(first.inputs.windows, second.inputs.windows)
    np.testing.assert_array_equal(first.labels, second.labels)


# --------------------------------------------------------------- shapes and names


@pytest.fixture(scope="module")
def default() -> EmotionData:
    return Simulated().load()


def test_layout(default: EmotionData) -> None:
    inputs = default.inputs
    assert len(CHANNELS) == len(set(CHANNELS)) == 62
    assert len(EYE_MEASURES) == len(set(EYE_MEASURES)) == 33
    assert inputs.modalities["eeg"].channels == CHANNELS
    assert inputs.modalities["eeg"].features == BANDS
    assert inputs.modalities["eye"].channels == EYE_MEASURES
    assert {name: m.kind for name, m in inputs.modalities.items()} == {
        "eeg": "eeg",
        "eye": "eye",
    }
    assert all(values.dtype == np.float32 for values in inputs.signals.values())
    assert default.classes == ("negative", "neutral", "positive")
    assert inputs.name == (
        "simulated (seed 0: 8 subjects x 2 sessions x 12 trials, 3 classes)"
    )


def test_windows_are_sorted_and_complete(default: EmotionData) -> None:
    table = default.inputs.windows
    assert tuple(table.columns) == PROVENANCE
    ordered = table.sort_values(list(PROVENANCE), ignore_index=True)
    pd.testing.assert_frame_equal(table, ordered)
    lengths = table.groupby(["subject", "session", "trial"]).size()
    assert len(lengths) == 8 * 2 * 12
    assert lengths.min() == 8
    assert lengths.max() == 14
    steps = table.groupby(["subject", "session", "trial"])["start"].diff().dropna()
    assert (steps == 4.0).all()


def test_every_clip_has_one_class_and_classes_are_balanced(
    default: EmotionData,
) -> None:
    table = default.inputs.windows.assign(label=default.labels)
    assert (table.groupby("stimulus")["label"].nunique() == 1).all()
    assert (table.groupby("stimulus")["label"].first().value_counts() == 4).all()


@pytest.mark.parametrize("classes", range(2, 8))
def test_classes(classes: int) -> None:
    simulated = Simulated(subjects=1, sessions=1, classes=classes)
    data = simulated.load()
    assert len(data.classes) == len(set(data.classes)) == classes
    assert set(data.labels) == set(range(classes))
    # No two emotions look the same, to either sensor.
    for effect in simulated.truth().values():
        gaps = np.abs(effect[:, None] - effect).sum(axis=(-2, -1))
        assert (gaps[~np.eye(classes, dtype=bool)] > 1).all()


def test_eye_measures_keep_their_physical_scales(default: EmotionData) -> None:
    values = default.inputs.signals["eye"][..., 0]
    entropy = np.array(["_de_" in name for name in EYE_MEASURES])
    assert np.nanmin(values[:, ~entropy]) > 0
    typical = dict(zip(EYE_MEASURES, np.nanmedian(values, axis=0), strict=True))
    assert 3 < typical["pupil_left_mean"] < 4  # mm
    assert 200 < typical["fixation_duration_mean"] < 400  # ms
    assert 0.1 < typical["blink_frequency"] < 0.6  # Hz
    longest = values[:, EYE_MEASURES.index("fixation_duration_max")]
    assert np.nanmax(longest) < 4000  # a window has 4 s


def test_electrodes_are_mirrored_and_apart() -> None:
    place = dict(zip(CHANNELS, POSITIONS, strict=True))
    for name, (right, front) in place.items():
        number = name.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXY")
        if number == "Z":
            assert right == 0
        else:
            odd = int(number) % 2 == 1
            assert (right < 0) == odd
            twin = name.removesuffix(number) + str(int(number) + (1 if odd else -1))
            np.testing.assert_allclose(place[twin], (-right, front), atol=1e-12)
    np.testing.assert_allclose(place["T8"], (1, 0), atol=1e-12)
    np.testing.assert_allclose(place["FPZ"], (0, 1), atol=1e-12)
    gaps = np.linalg.norm(POSITIONS[:, None] - POSITIONS, axis=-1)
    assert gaps[~np.eye(62, dtype=bool)].min() > 0.12


def test_is_registered_and_keeps_its_options() -> None:
    assert find("dataset", "simulated") is Simulated
    entry = next(e for e in entries("dataset") if e.name == "simulated")
    assert entry.summary == Simulated.__doc__.split("\n")[0]  # type: ignore[union-attr]
    options = inspect.signature(Simulated).parameters
    for name, option in options.items():
        assert option.kind is inspect.Parameter.KEYWORD_ONLY
        assert getattr(Simulated(), name) == option.default
        assert f"{name} : " in str(Simulated.__doc__)


def test_name_tells_which_knobs_were_turned() -> None:
    name = Simulated(subjects=1, effect=0, windows=[8, 14], seed=5).load().inputs.name
    assert name == (
        "simulated (seed 5: 1 subject x 2 sessions x 12 trials, 3 classes, effect=0)"
    )


# --------------------------------------------------------------------- randomness


def test_same_seed_same_bits(default: EmotionData) -> None:
    assert_same(default, Simulated().load())
    other = Simulated(seed=1).load()
    assert len(other) != len(default) or not np.array_equal(
        other.inputs.signals["eeg"], default.inputs.signals["eeg"]
    )


@pytest.mark.parametrize("repeat", [True, False])
def test_more_subjects_or_sessions_leave_the_first_as_they_were(repeat: bool) -> None:
    few = Simulated(subjects=2, sessions=1, repeat_stimuli=repeat).load()
    many = Simulated(subjects=3, sessions=3, repeat_stimuli=repeat).load()
    table = many.inputs.windows
    rows = np.flatnonzero((table["subject"] <= 2) & (table["session"] == 1))
    assert_same(few, many.take(rows))


@pytest.mark.parametrize(
    "knob", ["noise", "stimulus_effect", "synchrony", "artefact", "effect", "poor"]
)
def test_turning_a_knob_scales_but_does_not_reshuffle(knob: str) -> None:
    base = {"subjects": 1, "missing": 0.0, "poor": 0.2}
    off, half, full = (
        signal(Simulated(**(base | {knob: value})).load(), "eeg")
        for value in (0.0, 0.1, 0.2)
    )
    if knob == "poor":  # windows that were poor stay so, and stay the same
        changed = np.any(off != half, axis=1)
        assert 0 < changed.sum() < np.any(off != full, axis=1).sum()
        np.testing.assert_array_equal(half[changed], full[changed])
    else:
        assert np.abs(full - off).max() > 1e-3
        np.testing.assert_allclose(full - half, half - off, atol=1e-4)


# -------------------------------------------------------------- what windows carry


def test_nothing_to_learn_without_effects() -> None:
    data = Simulated(effect=0.0, stimulus_effect=0.0, trials=24).load()
    assert unseen_subjects(data) == pytest.approx(1 / 3, abs=0.05)
    assert unseen_clips(data, 4) == pytest.approx(1 / 3, abs=0.05)


def test_clips_alone_fool_unseen_subjects_but_not_unseen_clips() -> None:
    data = Simulated(
        subjects=4, sessions=1, effect=0.0, stimulus_effect=1.0, trials=60
    ).load()
    assert unseen_subjects(data) > 0.41
    assert unseen_clips(data, 10) == pytest.approx(1 / 3, abs=0.07)


def test_default_is_neither_hopeless_nor_easy(default: EmotionData) -> None:
    assert 0.5 < unseen_subjects(default) < 0.8
    assert unseen_clips(default, 4) < unseen_subjects(default)


def test_class_effect_is_where_the_truth_says() -> None:
    simulated = Simulated(subjects=30, noise=0.5, stimulus_effect=0.0, **CALM)
    data = simulated.load()
    seen = (signal(data, "eeg") - signal(data, "eeg").mean(0)) / 0.2
    found = np.stack([seen[data.labels == k].mean(0) for k in range(3)])
    found -= found.mean(0)
    truth = simulated.truth()["eeg"].reshape(3, -1)
    acts = np.abs(truth).max(0) > 0
    assert 0.1 < acts.mean() < 0.6
    np.testing.assert_allclose(found[:, ~acts], 0, atol=0.1)
    assert np.corrcoef(found[:, acts].ravel(), truth[:, acts].ravel())[0, 1] > 0.99


def test_truth_of_the_eyes_and_its_scale() -> None:
    simulated = Simulated(subjects=30, stimulus_effect=0.0, **CALM)
    data = simulated.load()
    values = signal(data, "eye")
    entropy = np.array(["_de_" in name for name in EYE_MEASURES])
    values[:, ~entropy] = np.log(values[:, ~entropy])
    found = np.stack([values[data.labels == k].mean(0) for k in range(3)])
    truth = simulated.truth()["eye"][..., 0]
    acts = np.abs(truth).max(0) > 0
    for measure in np.flatnonzero(acts):
        together = np.corrcoef(found[:, measure], truth[:, measure])[0, 1]
        assert together > 0.9, EYE_MEASURES[measure]
    np.testing.assert_allclose(Simulated(effect=0).truth()["eye"], 0)


def test_truth_has_the_known_neuroscience() -> None:
    truth = Simulated().truth()
    negative, neutral, positive = truth["eeg"]

    def at(effect: NDArray[np.float64], channel: str, band: str) -> float:
        return float(effect[CHANNELS.index(channel), BANDS.index(band)])

    assert at(positive, "F4", "alpha") > 0 > at(positive, "F3", "alpha")
    assert at(negative, "F3", "alpha") > 0 > at(negative, "F4", "alpha")
    for side in ("T7", "T8"):
        assert at(positive, side, "gamma") > max(
            at(negative, side, "gamma"), at(neutral, side, "gamma")
        )
    assert at(neutral, "POZ", "alpha") > 0 > at(positive, "POZ", "alpha")
    assert at(negative, "PZ", "delta") > 0
    pupil = truth["eye"][:, EYE_MEASURES.index("pupil_left_mean"), 0]
    assert pupil[1] < min(pupil[0], pupil[2])


# ------------------------------------------------------------------ domains, noise


def moments(data: EmotionData, subject: int) -> pd.DataFrame:
    """A subject's EEG per moment of a clip, less the clip's mean."""
    rows = (data.inputs.windows["subject"] == subject).to_numpy()
    place = data.inputs.windows.loc[rows, ["stimulus", "start"]]
    index = pd.MultiIndex.from_frame(place)
    values = pd.DataFrame(signal(data, "eeg")[rows], index=index)
    return values - values.groupby("stimulus").transform("mean")


def test_synchrony_is_shared_in_time_by_everyone_who_sees_the_clip() -> None:
    def shared(synchrony: float, shift: int = 0) -> float:
        options = {"sessions": 1, "trials": 24, "windows": (12, 12), "subjects": 2}
        data = Simulated(**options, **STILL, synchrony=synchrony).load()
        one, two = (moments(data, subject).to_numpy() for subject in (1, 2))
        two = np.roll(two.reshape(24, 12, -1), shift, axis=0).reshape(one.shape)
        return float((one * two).sum() / np.sqrt((one**2).sum() * (two**2).sum()))

    assert shared(1.0) > 0.5
    assert abs(shared(1.0, shift=1)) < 0.1  # other clips have courses of their own


def test_synchrony_leaves_the_mean_of_a_clip_over_time() -> None:
    options = {"subjects": 1, "sessions": 1, "trials": 3, "windows": (1000, 1000)}
    constant, waxing = (
        Simulated(**options, **STILL, synchrony=value).load() for value in (0.0, 0.5)
    )
    clips = constant.inputs.windows["stimulus"].to_numpy()
    before, after = signal(constant, "eeg"), signal(waxing, "eeg")
    assert np.ptp(before[clips == 1], axis=0).max() == 0
    assert np.ptp(after[clips == 1], axis=0).max() > 0.2
    for clip in np.unique(clips):
        gap = (after - before)[clips == clip].mean(0)
        assert np.abs(gap).max() < 0.05


def test_without_shifts_everyone_is_alike() -> None:
    data = Simulated(strength_spread=0.0, **(CALM | STILL)).load()
    for name in ("eeg", "eye"):
        by_clip = pd.DataFrame(signal(data, name)).groupby(
            data.inputs.windows["stimulus"]
        )
        assert by_clip.std().to_numpy().max() < 1e-3


def test_subject_shift_sets_subjects_apart_beyond_offset_and_gain() -> None:
    def agreement(shift: float) -> float:
        data = Simulated(subject_shift=shift, noise=0.3, poor=0.0, missing=0.0).load()
        subject = data.inputs.windows["subject"].to_numpy()
        values = standardised(data)[:, : 62 * 5]
        means = [
            values[(subject == s) & (data.labels == 0)].mean(0)
            for s in np.unique(subject)
        ]
        return float(np.corrcoef(means)[np.triu_indices(len(means), 1)].mean())

    assert agreement(0.0) > 0.8
    assert agreement(0.0) > agreement(0.3) > agreement(1.0)
    assert agreement(1.0) < 0.6


def test_sessions_differ_less_than_subjects() -> None:
    data = Simulated(**STILL, effect=0.0, stimulus_effect=0.0).load()
    means = (
        pd.DataFrame(signal(data, "eeg"))
        .groupby([data.inputs.windows["subject"], data.inputs.windows["session"]])
        .mean()
        .to_numpy()
        .reshape(8, 2, -1)
    )
    within = means.std(axis=1).mean()
    between = means.mean(axis=1).std(axis=0).mean()
    assert 0 < within < between / 2


@pytest.mark.parametrize("autocorrelation", [0.0, 0.6, 0.9])
def test_autocorrelation_of_the_noise(autocorrelation: float) -> None:
    data = Simulated(
        subjects=4, windows=(40, 40), autocorrelation=autocorrelation, **SILENT
    ).load()
    values = signal(data, "eeg").reshape(-1, 40, 62 * 5)
    values -= values.mean(axis=(0, 1))
    here, next_ = values[:, :-1].ravel(), values[:, 1:].ravel()
    assert np.corrcoef(here, next_)[0, 1] == pytest.approx(autocorrelation, abs=0.03)
    assert values.std() == pytest.approx(0.2, rel=0.05)


def test_noise_is_shared_by_neighbours() -> None:
    data = Simulated(subjects=4, autocorrelation=0.0, **SILENT).load()
    values = data.inputs.signals["eeg"]
    together = np.corrcoef(values[:, :, 2].T)
    f3, f1, o2 = (CHANNELS.index(name) for name in ("F3", "F1", "O2"))
    assert together[f3, f1] > 0.5
    assert abs(together[f3, o2]) < 0.15
    bands = np.corrcoef(values[:, f3].T)
    assert bands[0, 1] > 0.25 > bands[0, 4]


# ------------------------------------------------------------------------- quality


def test_share_of_lost_windows() -> None:
    data = Simulated(subjects=20, missing=0.05).load()
    lost = {name: np.isnan(values) for name, values in data.inputs.signals.items()}
    whole = {name: where.all(axis=(1, 2)) for name, where in lost.items()}
    bound = 4 * math.sqrt(0.05 * 0.95 / len(data))
    for name, where in lost.items():
        np.testing.assert_array_equal(where.any(axis=(1, 2)), whole[name])
        assert whole[name].mean() == pytest.approx(0.05, abs=bound)
    assert not (whole["eeg"] & whole["eye"]).any()
    none = Simulated(missing=0.0).load()
    assert not any(np.isnan(v).any() for v in none.inputs.signals.values())


def test_poor_windows_come_in_runs_and_lose_the_emotion() -> None:
    options = {"subjects": 20, "missing": 0.0, "noise": 0.0}
    clean = Simulated(poor=0.0, **options).load()
    data = Simulated(poor=0.2, **options).load()
    table = data.inputs.windows
    poor = {
        name: (signal(data, name) != signal(clean, name)).any(axis=1)
        for name in ("eeg", "eye")
    }
    assert not (poor["eeg"] & poor["eye"]).any()
    for where in poor.values():
        assert where.mean() == pytest.approx(0.2, abs=0.03)
        next_ = (
            pd.Series(where)
            .groupby([table["subject"], table["session"], table["trial"]])
            .shift(-1)
        )
        assert next_[where].dropna().mean() > 0.4  # 0.2 if they came one by one
    bare = Simulated(poor=0.2, effect=0.0, stimulus_effect=0.0, **options).load()
    for name, where in poor.items():
        np.testing.assert_array_equal(
            signal(data, name)[where], signal(bare, name)[where]
        )


def test_muscle_artefacts_are_fast_and_at_the_rim() -> None:
    options = SILENT | {"noise": 0.0, "poor": 0.3, "subjects": 4}
    values = Simulated(**options).load().inputs.signals["eeg"]
    rise = values.mean(axis=0) - Simulated(
        **(options | {"poor": 0.0})
    ).load().inputs.signals["eeg"].mean(axis=0)
    gamma, delta = rise[:, 4], rise[:, 0]
    assert gamma[CHANNELS.index("T7")] > 0.1 > abs(gamma[CHANNELS.index("CZ")])
    assert gamma[CHANNELS.index("T7")] > 3 * delta[CHANNELS.index("T7")]


# ----------------------------------------------------------------- clips and lengths


def duration_only(data: EmotionData) -> float:
    """Accuracy over trials of the class most often of this length in other people."""
    table = data.inputs.windows.assign(label=data.labels)
    trials = (
        table.groupby(["subject", "session", "trial"])
        .agg(length=("start", "size"), label=("label", "first"))
        .reset_index()
    )
    half = trials["subject"] <= trials["subject"].max() // 2
    usual = trials[half].groupby("length")["label"].agg(lambda x: x.mode()[0])
    guess = trials[~half]["length"].map(usual)
    return float((guess == trials[~half]["label"]).mean())


def test_trial_lengths_tell_the_class_only_on_request() -> None:
    unknown = Simulated(subjects=60, sessions=1).load()
    assert duration_only(unknown) == pytest.approx(1 / 3, abs=0.07)
    assert duration_only(Simulated(length_reveals_class=True).load()) > 0.55


@pytest.mark.parametrize("repeat", [True, False])
def test_clips_of_the_sessions(repeat: bool) -> None:
    data = Simulated(subjects=2, repeat_stimuli=repeat, **STILL).load()
    clips = data.inputs.windows.groupby("session")["stimulus"].unique()
    shared = set(clips[1]) & set(clips[2])
    assert len(shared) == (12 if repeat else 0)
    table = data.inputs.windows
    clip_of = table.groupby(["session", "trial"])["stimulus"].nunique()
    assert (clip_of == 1).all()


# ------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"subjects": 0}, r"subjects is 0; expected a whole number from 1"),
        ({"sessions": 1.5}, r"sessions is 1.5 .*a whole number"),
        ({"trials": 2}, r"found trials=2; expected a whole number from 3 up"),
        ({"classes": 8}, r"classes is 8; expected 2 to 7"),
        ({"classes": "3"}, r"classes is '3' of type str; expected int"),
        ({"windows": (9, 8)}, r"found windows=\(9, 8\); expected the shortest"),
        ({"windows": 8}, r"windows is 8 .*default \(8, 14\)"),
        ({"windows": (0, 8)}, r"windows is \(0, 8\); expected a whole number from 1"),
        ({"effect": -1}, r"effect is -1; expected a number from 0 up"),
        ({"noise": math.nan}, r"noise is nan .*a finite number"),
        ({"artefact": math.inf}, r"artefact is inf .*a finite number"),
        ({"subject_shift": "1"}, r"subject_shift is '1' .*a finite number"),
        ({"poor": 0.6}, r"poor is 0.6; expected a share between 0 and 0.5"),
        ({"missing": -0.1}, r"missing is -0.1; expected a share"),
        ({"autocorrelation": 1}, r"autocorrelation is 1; expected a correlation"),
        ({"seed": -1}, r"seed is -1; expected a whole number from 0"),
        ({"repeat_stimuli": "no"}, r"repeat_stimuli is 'no' .*expected bool"),
        (
            {"length_reveals_class": True, "windows": (9, 9)},
            r"found length_reveals_class=True with windows=\(9, 9\)",
        ),
    ],
)
def test_options_out_of_range(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Simulated(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [
        {"subjects": 1, "sessions": 1, "trials": 3, "windows": (1, 1)},
        {"poor": 0.5, "missing": 0.5, "subjects": 1},
        {"classes": np.int64(3), "subjects": np.int64(2)},
    ],
)
def test_corners_of_the_range(options: dict[str, object]) -> None:
    data = Simulated(**options).load()  # type: ignore[arg-type]
    for values in data.inputs.signals.values():
        assert np.isfinite(values[~np.isnan(values)]).all()


def test_peripherals_leave_the_other_sensors_as_they_were(default: EmotionData) -> None:
    data = Simulated(peripherals=True).load()
    assert set(data.inputs.signals) - set(default.inputs.signals) == {
        "uninformative",
        "misleading",
    }
    assert np.array_equal(data.labels, default.labels)
    for name, values in default.inputs.signals.items():
        assert np.array_equal(data.inputs.signals[name], values, equal_nan=True)
    assert data.inputs.name != default.inputs.name


def test_one_peripheral_misleads_and_the_other_tells_nothing() -> None:
    """By distances from the truth, which the misled show for another class."""
    options = {"subjects": 12, "classes": 3, "trials": 12, "sessions": 1}
    for misled, right in ((0.0, 0), (1.0, 1)):
        simulated = Simulated(**options, peripherals=True, misled=misled)
        data, truth = simulated.load(), simulated.truth()
        means = truth["misleading"].reshape(3, -1)
        values = signal(data, "misleading")
        values -= values.mean(0)
        nearest = ((values[:, None] - means) ** 2).sum(-1).argmin(1)
        assert np.mean(nearest == (data.labels + right) % 3) > 0.7
    assert not truth["uninformative"].any()
    drift = signal(data, "uninformative")
    groups = data.inputs.windows.groupby(["subject", "trial"]).ngroup().to_numpy()
    trials = np.stack([drift[groups == k].mean(0) for k in np.unique(groups)])
    within = np.concatenate(
        [drift[groups == k] - drift[groups == k].mean(0) for k in np.unique(groups)]
    )
    assert trials.std() == pytest.approx(2, rel=0.1)
    assert within.std() == pytest.approx(0.2, rel=0.1)
    labels = np.array([data.labels[groups == k][0] for k in np.unique(groups)])
    for label in range(3):  # as near to the mean of all as chance has it
        gap = trials[labels == label].mean(0) - trials.mean(0)
        assert np.abs(gap).max() < 4 * 2 / np.sqrt((labels == label).sum())


def test_some_people_are_misled_and_the_same_ones_at_every_length() -> None:
    options = {"classes": 2, "sessions": 1, "peripherals": True}
    some = Simulated(subjects=30, **options)
    data, means = some.load(), some.truth()["misleading"].reshape(2, -1)
    values = signal(data, "misleading")
    nearest = ((values[:, None] - means) ** 2).sum(-1).argmin(1)
    subjects = data.inputs.windows["subject"].to_numpy()
    wrong = [
        np.mean((nearest != data.labels)[subjects == k]) > 0.5
        for k in np.unique(subjects)
    ]
    assert 0.2 < np.mean(wrong) < 0.6
    fewer = Simulated(subjects=3, **options).load()
    there = signal(fewer, "misleading")
    assert np.array_equal(there, values[: len(there)])
