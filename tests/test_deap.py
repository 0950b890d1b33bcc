"""DEAP as published: values, clocks and ratings; what other loaders get wrong."""

from __future__ import annotations

import os
import pickle
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from fixtures.deap import deap_ratings, deap_signals, python2_pickle, write_deap
from scipy import signal

from domainemo.data.readers.deap import DEAP
from domainemo.errors import ConfigurationError, DataError

NAMES = (
    "Fp1 AF3 F3 F7 FC5 FC1 C3 T7 CP5 CP1 P3 P7 PO3 O1 Oz Pz Fp2 AF4 Fz F4 F8 FC6 FC2 "
    "Cz C4 T8 CP6 CP2 P4 P8 PO4 O2"
)
RATE, BASELINE = 128, 384


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """All 32 subjects, 413 MB; removed afterwards."""
    root = tmp_path_factory.mktemp("deap")
    yield write_deap(root)
    shutil.rmtree(root)


def write(root, data=None, ratings=None, subject=1):
    """Write one subject's file of what is given; return the root."""
    data = np.zeros((40, 40, 8064), dtype=np.int8) if data is None else data
    ratings = deap_ratings(subject) if ratings is None else ratings
    content = python2_pickle({"labels": ratings, "data": data})
    root.mkdir(exist_ok=True)
    (root / f"s{subject:02d}.dat").write_bytes(content)
    return root


def first(reader, count=1):
    """Return a reader's first trials, none of which may be an error."""
    found = reader.trials(reader.recordings()[0])
    trials = [next(found) for _ in range(count)]
    for trial in trials:
        if isinstance(trial, DataError):
            raise trial
    return trials


# ---------------------------------------------------------------- the whole data set


def test_all_32_subjects_sample_by_sample(root):
    reader = DEAP(root, feature="raw", window=60.0, baseline="none")
    seen = []
    for recording, trials in reader.read_all(reader.recordings()):
        subject = recording.subject
        data, ratings = deap_signals(subject), deap_ratings(subject)
        seen.append(subject)
        assert [trial.trial for trial in trials] == list(range(1, 41))
        assert [trial.stimulus for trial in trials] == list(range(1, 41))
        assert {trial.session for trial in trials} == {1}
        assert [trial.label for trial in trials] == (ratings[:, 0] >= 5).tolist()
        for number, trial in enumerate(trials):
            assert trial.start.tolist() == [0]
            found = np.concatenate([trial.signals[n][0] for n in ("eeg", "peripheral")])
            assert np.array_equal(found, data[number, :, BASELINE:])
    assert seen == list(range(1, 33))
    assert reader.missing() == []
    assert reader.release() == "preprocessed for Python, 32 of 32 subjects"


def test_channels_have_their_names_and_two_subjects_load(root, tmp_path):
    for subject in (3, 10):
        path = root / "data_preprocessed_python" / f"s{subject:02d}.dat"
        (tmp_path / path.name).symlink_to(path)
    reader = DEAP(tmp_path, feature="psd", window=20.0, peripheral_channels=("GSR",))
    data = reader.load()
    eeg, peripheral = (data.inputs.modalities[n] for n in ("eeg", "peripheral"))
    assert " ".join(eeg.channels) == NAMES
    assert eeg.features == ("theta", "alpha", "beta", "gamma")
    assert (eeg.kind, peripheral.kind) == ("eeg", "physiology")
    assert peripheral.channels == (
        "GSR_level",
        "GSR_slope",
        "GSR_phasic_deviation",
        "GSR_responses",
    )
    windows = data.inputs.windows
    assert windows["subject"].tolist() == [3] * 120 + [10] * 120
    assert windows["trial"].tolist() == [t for t in range(1, 41) for _ in "abc"] * 2
    assert windows["start"].tolist() == [0, 20, 40] * 80
    high = np.concatenate([deap_ratings(s)[:, 0] >= 5 for s in (3, 10)])
    assert data.labels.tolist() == np.repeat(high, 3).tolist()
    assert data.classes == ("low valence", "high valence")
    assert len(reader.missing()) == 30
    assert reader.missing()[0] == "subject 1 (s01.dat)"
    assert "normalise per subject" in data.inputs.name


# ------------------------------------------------------------ traps of other loaders


def test_subjects_are_numbered_by_name_not_by_the_listing(root, monkeypatch):
    """PhysioSync and others take the order in which the folder is listed."""
    home = root / "data_preprocessed_python"
    listing = [f"s{number:02d}.dat" for number in (10, 2, 32, 1, 5)]
    monkeypatch.setattr(Path, "iterdir", lambda self: iter([self / n for n in listing]))
    monkeypatch.setattr(os, "listdir", lambda path: listing)
    naive = {n: home / name for n, name in enumerate(os.listdir(home), 1)}
    reader = DEAP(home)
    ours = {each.subject: each.files["eeg"] for each in reader.recordings()}
    expected = {number: home / f"s{number:02d}.dat" for number in (1, 2, 5, 10, 32)}
    assert ours == expected
    assert list(ours) == sorted(expected)
    assert naive[1] != expected[1]


def test_trials_come_before_channels(root):
    """40 of each: the shape does not tell a loader that swaps them."""
    data = deap_signals(1)
    swapped = data.transpose(1, 0, 2)
    assert swapped.shape == data.shape
    [trial] = first(DEAP(root, feature="raw", baseline="none"))
    found = trial.signals["eeg"].swapaxes(0, 1).reshape(32, -1)
    assert np.array_equal(found, data[0, :32, BASELINE:])
    assert not np.array_equal(found, swapped[0, :32, BASELINE:])


def test_every_window_is_there_once(root):
    """PhysioSync's ``windows()`` drops the last one and has the first one twice."""
    [trial] = first(DEAP(root, feature="raw", baseline="none", window=5.0))
    signals = deap_signals(1)[0, :32, BASELINE:]

    def physiosync(length):
        begin, segments = 0, [signals[:, :length]]
        while begin + length < signals.shape[1]:
            segments.append(signals[:, begin : begin + length])
            begin += length
        return np.stack(segments)

    found, naive = trial.signals["eeg"], physiosync(640)
    assert len(found) == len(naive) == 12
    assert np.array_equal(np.concatenate(list(found), axis=1), signals)
    assert np.array_equal(naive[0], naive[1])
    assert not any(np.array_equal(a, b) for a, b in pairwise(found))


@pytest.mark.parametrize("window", [1.0, 2.5, 5.0])
def test_the_baselines_mean_second_is_that_of_the_same_trial(root, window):
    """By a slow loop; PhysioSync's index for DREAMER mixes the trials' baselines."""
    options = {"feature": "raw", "window": window}
    trials = first(DEAP(root, baseline="signal", **options), 3)
    same = first(DEAP(root, baseline="features", **options), 3)
    data = deap_signals(1).astype(float)
    for number, trial in enumerate(trials):
        expected = data[number, :, BASELINE:].copy()
        second = sum(data[number, :, 128 * k : 128 * k + 128] for k in range(3)) / 3
        for k in range(60):
            expected[:, 128 * k : 128 * k + 128] -= second
        count = int(60 // window)
        found = np.concatenate(
            [trial.signals[n] for n in ("eeg", "peripheral")], axis=1
        )
        for k in range(count):
            begin = round(k * window * RATE)
            piece = expected[:, begin : begin + round(window * RATE)]
            np.testing.assert_allclose(found[k], piece, atol=1e-4)
        for name in ("eeg", "peripheral"):
            assert np.array_equal(trial.signals[name], same[number].signals[name])


def test_pickles_of_python_2_are_read_as_they_are(root):
    path = root / "data_preprocessed_python" / "s01.dat"
    with path.open("rb") as file, pytest.raises(UnicodeDecodeError):
        pickle.load(file)
    with path.open("rb") as file:
        assert set(pickle.load(file, encoding="latin1")) == {"data", "labels"}


@pytest.mark.parametrize("ties", ["high", "low", "drop"])
def test_ratings_of_exactly_5_follow_the_option(root, ties):
    reader = DEAP(root, feature="raw", window=60.0, ties=ties, peripheral=False)
    trials = list(reader.trials(reader.recordings()[0]))
    valence = deap_ratings(1)[:, 0]
    assert (valence == 5).sum() == 5
    kept = np.flatnonzero((valence != 5) | (ties != "drop"))
    high = valence >= 5 if ties == "high" else valence > 5
    assert [trial.trial for trial in trials] == (kept + 1).tolist()
    assert [trial.label for trial in trials] == high[kept].tolist()
    # A loader that compares the other way differs in these trials alone.
    assert np.array_equal((valence >= 5) != (valence > 5), valence == 5)
    assert ("exactly 5 left out" in reader.title()) == (ties == "drop")


@pytest.mark.parametrize(("target", "column"), [("arousal", 1), ("liking", 3)])
def test_each_target_has_its_own_column(root, target, column):
    reader = DEAP(root, target=target, feature="raw", window=60.0, peripheral=False)
    labels = [trial.label for trial in first(reader, 40)]
    assert labels == (deap_ratings(1)[:, column] >= 5).tolist()
    assert reader.classes == (f"low {target}", f"high {target}")


# --------------------------------------------------------------------------- features


def slow_entropy(trial, low, high, begin, samples):
    """Differential entropy of one stretch of one channel's whole 63 s."""
    sections = signal.butter(4, [low, high], "bandpass", fs=RATE, output="sos")
    filtered = signal.sosfiltfilt(sections, trial, padlen=round(3 * RATE / low))
    variance = np.var(filtered[begin : begin + samples])
    return 0.5 * np.log(2 * np.pi * np.e * variance)


@pytest.mark.parametrize("window", [1.0, 4.0, 7.0, 60.0])
def test_entropy_of_windows_that_begin_with_the_video(root, window):
    """The 3 s before it are the filter's run-in, whether windows divide them or not."""
    options = {"window": window, "baseline": "none", "peripheral": False}
    [trial] = first(DEAP(root, **options))
    samples = int(window * RATE)
    assert trial.start.tolist() == [k * window for k in range(int(60 // window))]
    data = deap_signals(1)[0].astype(float)
    edges = [(4, 8), (8, 14), (14, 31), (31, 45)]
    for channel in (0, 31):
        expected = [
            [
                slow_entropy(data[channel], *edge, BASELINE + k * samples, samples)
                for edge in edges
            ]
            for k in range(len(trial.start))
        ]
        found = trial.signals["eeg"][:, channel]
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.fixture(scope="module")
def waves(tmp_path_factory):
    """Alpha waves; amplitudes of video and baseline differ by trial and channel."""
    root = tmp_path_factory.mktemp("waves")
    time = np.arange(8064) / RATE
    trial, channel = np.ogrid[:40, :32]
    before, after = 20.0 + 2 * trial + 0 * channel, 30.0 + trial + 3 * channel
    data = np.zeros((40, 40, 8064), dtype=np.float32)
    for k in range(40):
        gain = np.where(time < 3, before[k][:, None], after[k][:, None])
        data[k, :32] = gain * np.sin(2 * np.pi * 10 * time)
    random = np.random.default_rng(0)
    data[:, 32:36] = random.normal(0, 1, (40, 4, 8064)) * np.where(time < 3, 2, 10)
    beyond = np.maximum(time - 3, 0)
    # Ohm: each of 6 responses is a steep fall, and a slow return.
    data[:, 36] = 5000 + 100 * ((beyond % 10) / 10) * (time >= 3)
    data[:, 37] = 50 * np.sin(2 * np.pi * 0.25 * time)
    data[:, 38] = np.exp(-((((time * 1.2) % 1 - 0.4) / 0.1) ** 2))
    data[:, 39] = 30 + 0.01 * beyond
    yield write(root, data), before, after
    shutil.rmtree(root)


def test_entropy_less_that_of_the_same_trials_baseline(waves):
    root, before, after = waves
    reader = DEAP(root, peripheral=False, window=2.0, bands=("alpha",))
    trials = first(reader, 6)
    for number, trial in enumerate(trials):
        expected = np.log(after[number] / before[number])
        found = trial.signals["eeg"][2:-2, :, 0]
        # The baseline's last of three seconds sees the change of amplitude.
        np.testing.assert_allclose(found, [expected] * len(found), atol=0.1)
        mixed = np.log(after[number] / before[number + 5])
        assert np.abs(found - mixed).min() > 0.15
        drift = found - expected
        assert np.ptp(drift, axis=0).max() < 1e-3


def test_power_less_that_of_the_baseline(waves):
    root, before, after = waves
    reader = DEAP(root, peripheral=False, feature="psd", bands=("alpha",))
    [trial] = first(reader)
    expected = 2 * np.log(after[0] / before[0])
    found = trial.signals["eeg"][:, :, 0]
    np.testing.assert_allclose(found, [expected] * 60, atol=1e-4)


def test_a_baseline_subtracted_from_the_signal_comes_before_the_features(waves):
    root, before, after = waves
    reader = DEAP(root, peripheral=False, baseline="signal", bands=("alpha",))
    [trial] = first(reader)
    # Whole waves fit into a second, so that the mean second is such a wave as well.
    amplitude = after[0] - before[0]
    expected = 0.5 * np.log(np.pi * np.e * amplitude**2)
    found = trial.signals["eeg"][2:-2, :, 0]
    np.testing.assert_allclose(found, [expected] * 56, atol=1e-2)


@pytest.mark.parametrize("baseline", ["features", "none"])
def test_peripheral_measures(waves, baseline):
    root, *_ = waves
    reader = DEAP(root, window=4.0, baseline=baseline)
    [trial] = first(reader)
    names = reader.modalities()["peripheral"].channels
    found = dict(zip(names, trial.signals["peripheral"][:, :, 0].T, strict=True))
    less = baseline == "features"
    for muscle in ("hEOG", "vEOG", "zEMG", "tEMG"):
        expected = np.log(10 / 2) if less else np.log(10)
        np.testing.assert_allclose(found[f"{muscle}_ln_sd"], expected, atol=0.25)
    level = found["GSR_level"] + (5000 if less else 0)
    mean = [
        5000 + 10 * np.mean((np.arange(s, s + 4, 1 / RATE)) % 10) for s in trial.start
    ]
    np.testing.assert_allclose(level, mean, rtol=1e-5, atol=1e-2)
    # In a window without a fall the resistance rises by 10 ohm a second.
    np.testing.assert_allclose(found["GSR_slope"][[0, 1, 3]], 10, rtol=1e-3)
    inner = found["GSR_responses"][3:-3]
    assert ((inner > 3) & (inner < 9)).all()
    np.testing.assert_allclose(found["respiration_breathing_rate"], 15, atol=0.5)
    np.testing.assert_allclose(found["plethysmograph_heart_rate"], 72, atol=0.5)
    temperature = found["temperature_mean"] + (30 if less else 0)
    np.testing.assert_allclose(temperature, 30 + 0.01 * (trial.start + 2), atol=1e-3)
    np.testing.assert_allclose(found["temperature_slope"], 0.01, rtol=1e-2)


def test_chosen_channels_come_in_the_chosen_order(root):
    chosen = ("temperature", "hEOG")
    options = {"feature": "raw", "baseline": "none", "peripheral_channels": chosen}
    reader = DEAP(root, **options)
    [trial] = first(reader)
    assert reader.modalities()["peripheral"].channels == chosen
    found = trial.signals["peripheral"].swapaxes(0, 1).reshape(2, -1)
    assert np.array_equal(found, deap_signals(1)[0, [39, 32], BASELINE:])


def test_dead_sensors_are_lost_and_no_rhythm_is_guessed(tmp_path):
    reader = DEAP(write(tmp_path), window=10.0)
    [trial] = first(reader)
    assert np.isnan(trial.signals["eeg"]).all()
    names = reader.modalities()["peripheral"].channels
    lost = np.isnan(trial.signals["peripheral"][:, :, 0]).all(axis=0)
    kept = [name for name, gone in zip(names, lost, strict=True) if not gone]
    assert kept == ["temperature_mean", "temperature_slope"]


# -------------------------------------------------------------------------- bad input


def changed(key, value):
    content = {
        "data": np.zeros((40, 40, 8064), dtype=np.int8),
        "labels": np.full((40, 4), 3.0),
    }
    content[key] = value
    return pickle.dumps(content, protocol=2)


class Command:
    def __reduce__(self):
        return os.system, ("true",)


BAD = {
    "another length": (
        lambda: changed("data", np.zeros((40, 40, 7680), dtype=np.int8)),
        r"key 'data'.*\(40, 40, 7680\).*expected.*\(40, 40, 8064\)",
    ),
    "another number of trials": (
        lambda: changed("labels", np.full((39, 4), 3.0)),
        r"key 'labels'.*\(39, 4\).*expected.*\(40, 4\)",
    ),
    "complex numbers": (
        lambda: changed("labels", np.full((40, 4), 3.0 + 1j)),
        "key 'labels'.*complex128.*expected real numbers",
    ),
    "no labels": (
        lambda: pickle.dumps({"data": np.zeros(3)}, protocol=2),
        "key 'data'.*shape",
    ),
    "a list": (lambda: pickle.dumps([1, 2], protocol=2), "type list.*dictionary"),
    "cut off": (lambda: changed("x", 1)[:5000], "end of the data at byte 5000"),
    "a program": (lambda: changed("x", Command()), "asks for 'posix.system'"),
    "empty": (lambda: b"", "end of the data at byte 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_files_that_do_not_fit_are_named(tmp_path, case):
    make, found = BAD[case]
    (tmp_path / "s01.dat").write_bytes(make())
    with pytest.raises(DataError, match=f"s01.dat.*({found})") as caught:
        DEAP(tmp_path).load()
    message = str(caught.value)
    assert "expected" in message
    assert "\n" not in message


def test_one_bad_trial_leaves_the_others(tmp_path):
    data = np.ones((40, 40, 8064), dtype=np.float32)
    data[2, 5, 100] = np.nan
    ratings = deap_ratings(1)
    ratings[7, 1] = 0
    root = write(tmp_path, data, ratings)
    reader = DEAP(root, feature="raw", window=60.0)
    read = reader.read(reader.recordings()[0])
    errors = {n: str(e) for n, e in enumerate(read, 1) if isinstance(e, DataError)}
    assert len(read) == 40
    assert set(errors) == {3, 8}
    assert "s01.dat, trial 3" in errors[3]
    assert "FC1" in errors[3]
    assert "trial 8, rating of arousal: found 0; expected a number 1 to 9" in errors[8]


def test_folders_that_do_not_fit_are_named(tmp_path):
    with pytest.raises(DataError, match="no data root"):
        DEAP(None).load()
    with pytest.raises(DataError, match="nowhere: found nothing here"):
        DEAP(tmp_path / "nowhere").load()
    with pytest.raises(
        DataError, match=r"found an empty folder; expected s01\.dat to s32"
    ):
        DEAP(tmp_path).load()
    (tmp_path / "s01.mat").write_bytes(b"")
    with pytest.raises(DataError, match=r"only s01.mat, which is another release"):
        DEAP(tmp_path).load()
    with pytest.raises(DataError, match=r"s01.mat: found a file here"):
        DEAP(tmp_path / "s01.mat").load()
    (tmp_path / "s33.dat").write_bytes(b"")
    with pytest.raises(DataError, match=r"s33\.dat: found subject 33"):
        DEAP(tmp_path).load()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"feature": "wavelet"},
            r"deap: feature is 'wavelet' of type str; expected one of 'de'",
        ),
        ({"window": 0.1}, "deap: found window=0.1; expected 0.5 to 60 s"),
        ({"window": True}, "window is True of type bool"),
        (
            {"bands": ("delta",)},
            "found bands=.*expected some of theta, alpha, beta, gam",
        ),
        ({"bands": ()}, "bands="),
        ({"bands": ("beta", "beta")}, "each once"),
        (
            {"baseline": "subtract"},
            "baseline is 'subtract'.*'features', 'signal', 'no",
        ),
        ({"peripheral_channels": ()}, "set peripheral=False"),
        ({"peripheral_channels": ("ECG",)}, "expected some of hEOG, vEOG"),
        ({"target": "fun"}, "target is 'fun' .*expected one of 'valence'"),
        ({"ties": "up"}, "ties is 'up' .*expected one of 'high'"),
        ({"threshold": 0.0}, "threshold is 0.0; expected a number between 1 and 9"),
    ],
)
def test_options_that_do_not_fit_are_named(options, message):
    with pytest.raises(ConfigurationError, match=message):
        DEAP(None, **options)


def test_the_title_names_every_choice():
    title = DEAP(None, window=7.0, baseline="none", ties="low").title()
    for part in (
        "valence high above 5, low at it",
        "windows of 7 s",
        "baseline not used",
    ):
        assert part in title
    assert "last 4 s of each trial dropped" in title
    assert "not causal" in title
    plain = DEAP(None, feature="raw", peripheral=False).title()
    assert "GSR" not in plain
    assert "less the mean second of the 3 s" in plain
