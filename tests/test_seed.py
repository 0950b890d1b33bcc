"""SEED: the publisher's layout in full, and every way to misread it.

About 12 s on one core, a third of it to write and read all 45 sessions in full length.
"""

from __future__ import annotations

import pickle
import re
import shutil

import numpy as np
import pytest
from fixtures.seed import (
    DATES,
    seed_value,
    write_label,
    write_seed,
    write_seed_recording,
)
from scipy.io import loadmat, savemat

from domainemo.core import PROVENANCE
from domainemo.data.montage import SEED_BANDS, SEED_ELECTRODES
from domainemo.data.readers.seed import SEED
from domainemo.errors import ConfigurationError, DataError
from domainemo.registry import find

# fmt: off
SECONDS = [235, 233, 206, 238, 185, 195, 237, 216, 265, 237, 235, 233, 235, 238, 206]
LABELS = [2, 1, 0, 0, 1, 2, 0, 1, 2, 2, 1, 0, 1, 2, 0]
# fmt: on
_NAMES = (
    "FP1 FPZ FP2 AF3 AF4 F7 F5 F3 F1 FZ F2 F4 F6 F8 FT7 FC5 FC3 FC1 FCZ FC2 FC4 FC6 "
    "FT8 T7 C5 C3 C1 CZ C2 C4 C6 T8 TP7 CP5 CP3 CP1 CPZ CP2 CP4 CP6 TP8 P7 P5 P3 P1 PZ "
    "P2 P4 P6 P8 PO7 PO5 PO3 POZ PO4 PO6 PO8 CB1 O1 OZ O2 CB2"
)
ELECTRODES = _NAMES.split()


def expected(subject, session, trial, windows, kind="de_LDS"):
    """What a trial (windows, electrodes, bands) holds."""
    place = np.ogrid[1 : windows + 1, 1:63, 1:6]
    return seed_value(subject, session, trial, *place, kind=kind)


def read(root, **options):
    """Every trial of every recording, errors raised."""
    reader, trials = SEED(root, **options), {}
    for recording in reader.recordings():
        for trial in reader.read(recording):
            if isinstance(trial, DataError):
                raise trial
            trials[recording.subject, trial.session, trial.trial] = trial
    return trials


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """Subject 10's three sessions; not to be changed."""
    root = tmp_path_factory.mktemp("seed")
    write_seed(root, subjects=[10], kinds=["de_LDS", "psd_movingAve"])
    return root


# ------------------------------------------------------------------ the full layout


def test_the_whole_data_set_comes_back(tmp_path):
    home = write_seed(tmp_path, dtype="i2")
    reader = SEED(tmp_path)
    assert reader.missing() == []
    assert len(reader.files()) == 46
    data = reader.load()
    shutil.rmtree(home)
    windows = data.inputs.windows
    assert tuple(windows.columns) == PROVENANCE
    assert len(data) == 45 * 3394
    assert data.classes == ("negative", "neutral", "positive")
    assert np.bincount(data.labels).tolist() == [45 * n for n in (1120, 1104, 1170)]
    eeg = data.inputs.signals["eeg"]
    assert eeg.dtype == np.float32
    row = 0
    for subject in range(1, 16):
        for session in (1, 2, 3):
            for trial, seconds in enumerate(SECONDS, 1):
                rows = slice(row, row + seconds)
                place = windows.iloc[rows]
                assert (place["subject"] == subject).all()
                assert (place["session"] == session).all()
                assert (place["trial"] == trial).all()
                assert (place["stimulus"] == trial).all()
                assert (data.labels[rows] == LABELS[trial - 1]).all()
                assert np.array_equal(place["start"], np.arange(seconds))
                values = expected(subject, session, trial, seconds)
                assert np.array_equal(eeg[rows], values)
                row += seconds
    assert row == len(data)


def test_electrodes_and_bands_are_those_of_the_cap():
    assert list(SEED_ELECTRODES) == ELECTRODES
    edges = {
        "delta": (1, 4),
        "theta": (4, 8),
        "alpha": (8, 14),
        "beta": (14, 31),
        "gamma": (31, 50),
    }
    assert list(SEED_BANDS.items()) == list(edges.items())
    eeg = SEED(None).modalities()["eeg"]
    assert (list(eeg.channels), list(eeg.features)) == (ELECTRODES, list(edges))
    assert (eeg.kind, eeg.unit) == ("eeg", "")


def test_it_is_found_by_its_name():
    assert find("dataset", "seed") is SEED
    assert pickle.loads(pickle.dumps(SEED("x", feature="psd"))).feature == "psd"


def test_the_fixture_tells_neighbours_apart():
    """Without this, a mix-up could pass the tests unseen."""
    here = (3, 2, 5, 7, 11, 4)
    for axis in range(6):
        there = list(here)
        there[axis] += 1
        assert seed_value(*here) != seed_value(*there)
    assert seed_value(*here) != seed_value(*here, kind="de_movingAve")


# ------------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({}, "de_LDS"),
        ({"smoothing": "moving-average"}, "de_movingAve"),
        ({"feature": "psd"}, "psd_LDS"),
        ({"feature": "psd", "smoothing": "moving-average"}, "psd_movingAve"),
    ],
)
@pytest.mark.parametrize("window", [1, 4])
def test_each_released_feature_is_the_one_asked_for(tmp_path, options, kind, window):
    write_seed(
        tmp_path, subjects=[4], sessions=[2], window=window, kinds=[kind], dtype="i2"
    )
    trials = read(tmp_path, window=float(window), **options)
    assert list(trials) == [(4, 2, trial) for trial in range(1, 16)]
    for (_, _, number), trial in trials.items():
        windows = SECONDS[number - 1] // window
        values = expected(4, 2, number, windows, kind)
        assert np.array_equal(trial.signals["eeg"], values)
        assert np.array_equal(trial.start, np.arange(windows) * window)
        assert trial.notes == ()


def test_the_title_names_every_choice():
    assert SEED(None).title() == (
        "seed (SEED's EEG, differential entropy as released, 1 s windows, smoothed by "
        "LDS, which is not causal)"
    )
    options = {"feature": "psd", "smoothing": "moving-average", "source": "computed"}
    assert SEED(None, window=2.5, **options).title() == (
        "seed (SEED's EEG, power spectral density computed from Preprocessed_EEG, "
        "2.5 s windows, smoothed by centred moving average over 5 windows, which is "
        "not causal)"
    )
    title = SEED(None, smoothing="none", source="computed").title()
    assert title.endswith("1 s windows, not smoothed)")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"feature": "dasm"}, r"feature is 'dasm'.*; expected one of 'de', 'psd'"),
        ({"smoothing": "LDS"}, r"smoothing is 'LDS'.*; expected one of 'lds'"),
        (
            {"source": "raw"},
            r"source is 'raw'.*expected one of 'released', 'computed'",
        ),
        ({"smoothing": "none"}, r"'none' with source='released'.*source='computed'"),
        ({"window": 2.0}, r"window=2 with source='released'; expected 1 or 4 s"),
        ({"window": 0.2, "source": "computed"}, r"window=0.2.*expected 0.5 to 185"),
        ({"window": 200.0, "source": "computed"}, r"window=200 .*expected 0.5 to 185"),
        (
            {"window": 0.5, "source": "computed", "feature": "psd"},
            r"window=0.5 with feature='psd'; expected 1 to 185",
        ),
    ],
)
def test_options_that_do_not_fit_are_named(options, message):
    with pytest.raises(ConfigurationError, match=f"^seed: .*{message}"):
        SEED(None, **options)


# ------------------------------------------------------------- where the files lie


@pytest.mark.parametrize(
    ("folder", "root"),
    [
        ("SEED/SEED_EEG/ExtractedFeatures_1s", ""),
        ("SEED/SEED_EEG/ExtractedFeatures_1s", "SEED"),
        ("SEED/SEED_EEG/ExtractedFeatures_1s", "SEED/SEED_EEG"),
        ("SEED/SEED_EEG/ExtractedFeatures_1s", "SEED/SEED_EEG/ExtractedFeatures_1s"),
        ("SEED/SEED_EEG/ExtractedFeatures", ""),
        ("SEED/ExtractedFeatures", ""),
        ("ExtractedFeatures", ""),
        ("copied", "copied"),
    ],
)
def test_files_are_found_wherever_they_may_lie(tmp_path, folder, root):
    (tmp_path / folder).mkdir(parents=True)
    path = tmp_path / folder / "1_20131027.mat"
    path.touch()
    (recording,) = SEED(tmp_path / root).recordings()
    assert recording.files == {"eeg": path}
    assert SEED(tmp_path / root).release() == f"SEED, {path.parent.name}"


def test_one_folder_is_not_taken_for_another(tmp_path):
    home = tmp_path / "SEED/SEED_EEG/ExtractedFeatures_1s"
    home.mkdir(parents=True)
    (home / "1_20131027.mat").touch()
    for root in (tmp_path, home):
        with pytest.raises(DataError, match=r"ExtractedFeatures_4s.*Name the folder"):
            SEED(root, window=4.0).recordings()
        with pytest.raises(DataError, match="Preprocessed_EEG"):
            SEED(root, source="computed").recordings()


def test_folders_that_do_not_fit_are_named(tmp_path):
    with pytest.raises(DataError, match=r"^seed: found no data root"):
        SEED(None).load()
    with pytest.raises(DataError, match=r"nowhere: found nothing here; expected files"):
        SEED(tmp_path / "nowhere").load()
    with pytest.raises(DataError, match=r"found an empty folder.*SEED/SEED_EEG/Extrac"):
        SEED(tmp_path).load()
    (tmp_path / "readme.txt").touch()
    with pytest.raises(DataError, match=r"found only readme.txt"):
        SEED(tmp_path).load()
    with pytest.raises(DataError, match=r"readme.txt: found a file"):
        SEED(tmp_path / "readme.txt").load()


# ---------------------------------------------------------------- sessions by date


def names(root):
    """Subject, session and file name of each recording."""
    return [
        (each.subject, each.session, each.files["eeg"].name)
        for each in SEED(root).recordings()
    ]


def touch(root, *files):
    home = root / "ExtractedFeatures_1s"
    home.mkdir(exist_ok=True)
    for name in files:
        (home / name).touch()
    return home


def test_subjects_and_sessions_are_ordered_as_numbers_and_dates(tmp_path):
    """By name '10_' comes before '1_', and a folder lists its files in any order."""
    files = [f"{s}_{date}.mat" for s in DATES for date in DATES[s]]
    home = touch(tmp_path, *reversed(files))
    naive = sorted(p.name for p in home.iterdir())
    assert naive[0] == "10_20131130.mat"  # which would be subject 1, session 1
    assert names(tmp_path) == [
        (subject, session, f"{subject}_{DATES[subject][session - 1]}.mat")
        for subject in range(1, 16)
        for session in (1, 2, 3)
    ]


def test_suffixes_may_be_in_capitals(tmp_path):
    touch(tmp_path, "7_20131106.MAT", "7_20131030.mat")
    assert [name for *_, name in names(tmp_path)] == [
        "7_20131030.mat",
        "7_20131106.MAT",
    ]


def test_a_published_date_tells_the_session_where_files_are_missing(tmp_path):
    touch(tmp_path, "7_20131106.mat", "7_20131030.mat", "2_20140419.mat")
    # Counting the files of subject 7 would call them sessions 1 and 2.
    assert names(tmp_path) == [
        (2, 3, "2_20140419.mat"),
        (7, 2, "7_20131030.mat"),
        (7, 3, "7_20131106.mat"),
    ]
    missing = SEED(tmp_path).missing()
    assert missing[:3] == ["subject 1", "subject 2, session 1", "subject 2, session 2"]
    assert missing[6:9] == ["subject 6", "subject 7, session 1", "subject 8"]
    assert missing[-1] == "label.mat"
    assert len(missing) == 2 + 1 + 13 + 1


def test_three_other_dates_are_ordered_and_noted(tmp_path):
    dates = {10: (20150101, 20141231, 20151101)}
    write_seed(tmp_path, subjects=[10], dates=dates, dtype="i2")
    trials = read(tmp_path)
    # The fixture's session 2 has the earliest date.
    for session, written in ((1, 2), (2, 1), (3, 3)):
        trial = trials[10, session, 1]
        assert np.array_equal(trial.signals["eeg"], expected(10, written, 1, 235))
        assert any("session by the order of dates" in note for note in trial.notes)


@pytest.mark.parametrize(
    ("files", "found"),
    [
        (["1_20131027.mat", "1_20200101.mat"], "which session 1_20200101.mat is"),
        # The published session 2 would become session 1.
        (
            ["1_20131030.mat", "1_20131107.mat", "1_20200101.mat"],
            "which session 1_20131030.mat is",
        ),
        (["1_20131027.mat", "01_20131027.mat"], "three files of different dates"),
        (
            [f"1_{date}.mat" for date in (20131027, 20131030, 20131107, 20131108)],
            "three files of different dates.*one too many",
        ),
        (["16_20131027.mat"], "subject 16.*expected subjects 1 to 15"),
        (["0_20131027.mat"], "subject 0.*expected subjects 1 to 15"),
    ],
)
def test_dates_that_leave_a_session_open_are_errors(tmp_path, files, found):
    home = touch(tmp_path, *files)
    with pytest.raises(DataError, match=f"{re.escape(str(home))}.*{found}"):
        SEED(tmp_path).recordings()


# ---------------------------------------------------------- what is in the files


def test_trials_are_ordered_as_numbers(one, tmp_path):
    """'de_LDS10' sorts before 'de_LDS2', and variables may be in any order."""
    home = write_seed(tmp_path, subjects=[10], sessions=[1], shuffled=True)
    stored = loadmat(home / "10_20131130.mat")
    keys = [key for key in stored if not key.startswith("__")]
    second = expected(10, 1, 2, 233).transpose(1, 0, 2)
    by_name = sorted(key for key in keys if key.startswith("de_LDS"))[1]
    by_place = [key for key in keys if key.startswith("de_LDS")][1]
    for naive in (by_name, by_place, keys[12 + 1]):
        assert not np.array_equal(stored[naive], second)
    shuffled, plain = read(tmp_path), read(one)
    for trial in range(1, 16):
        values = expected(10, 1, trial, SECONDS[trial - 1])
        for trials in (shuffled, plain):
            assert np.array_equal(trials[10, 1, trial].signals["eeg"], values)


def test_electrodes_come_before_windows_on_disk(one):
    stored = loadmat(one / "SEED/SEED_EEG/ExtractedFeatures_1s/10_20131130.mat")
    naive = stored["de_LDS1"].reshape(235, 62, 5)
    assert not np.array_equal(naive, expected(10, 1, 1, 235))
    ours = read(one)[10, 1, 1].signals["eeg"]
    assert np.array_equal(ours, expected(10, 1, 1, 235))


@pytest.mark.parametrize("dtype", ["f8", "i1", "i2"])
def test_labels_of_any_numeric_type_are_the_published_ones(tmp_path, dtype):
    home = write_seed(tmp_path, subjects=[10], sessions=[3], dtype="i2")
    write_label(home, dtype=dtype)
    for (_, _, number), trial in read(tmp_path).items():
        assert trial.label == LABELS[number - 1]
        assert isinstance(trial.label, int)


def test_without_label_mat_the_published_labels_serve(tmp_path):
    write_seed(tmp_path, subjects=[10], sessions=[3], labels=False, dtype="i2")
    labels = [trial.label for trial in read(tmp_path).values()]
    assert labels == LABELS


@pytest.mark.parametrize(
    "label",
    [
        [1, 0, -1, -1, 0, 1, -1, 0, 1, 1, 0, -1, 0, 1, 1],
        [2, 1, 0, 0, 1, 2, 0, 1, 2, 2, 1, 0, 1, 2, 0],
        [1, 0, -1],
    ],
)
def test_other_labels_are_an_error(tmp_path, label):
    home = write_seed(tmp_path, subjects=[10], sessions=[3], dtype="i2")
    write_label(home, label)
    found = re.escape(str([float(each) for each in label]))
    with pytest.raises(DataError, match=rf"label\.mat, label: found {found}; expected"):
        SEED(tmp_path).load()


def damaged(one, tmp_path, **changes):
    """Subject 10's session 1 with other variables; None leaves one out."""
    source = one / "SEED/SEED_EEG/ExtractedFeatures_1s/10_20131130.mat"
    arrays = {k: v for k, v in loadmat(source).items() if not k.startswith("__")}
    arrays |= changes
    home = tmp_path / "ExtractedFeatures_1s"
    home.mkdir()
    path = home / "10_20131130.mat"
    savemat(path, {k: v for k, v in arrays.items() if v is not None})
    return path


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (None, "de_LDS3"),
        (np.zeros((62, 205, 5)), r"shape \(62, 205, 5\); expected \(62, 206, 5\)"),
        (np.zeros((206, 62, 5)), r"shape \(206, 62, 5\); expected \(62, 206, 5\)"),
        (np.zeros((62, 206)), r"shape \(62, 206\); expected \(62, 206, 5\)"),
        (np.full((62, 206, 5), np.inf), r"window 1, channel FP1, feature delta.*inf"),
    ],
)
def test_a_trial_that_does_not_fit_is_named_and_the_others_read(
    one, tmp_path, array, found
):
    path = damaged(one, tmp_path, de_LDS3=array)
    reader = SEED(tmp_path)
    (recording,) = reader.recordings()
    read = reader.read(recording)
    assert len(read) == 15
    (error,) = [each for each in read if isinstance(each, DataError)]
    assert read.index(error) == 2
    assert re.search(f"(?s){re.escape(str(path))}.*{found}", str(error))
    with pytest.raises(DataError, match=re.escape(str(path))):
        reader.load()


def test_features_of_another_window_are_named(tmp_path):
    """A folder that was renamed: the numbers of windows tell."""
    write_seed(tmp_path, subjects=[10], sessions=[1], window=4, folder="copied")
    with pytest.raises(
        DataError, match=r"de_LDS1.*\(62, 58, 5\); expected \(62, 235, 5\).*window"
    ):
        SEED(tmp_path / "copied").load()


def test_a_file_that_is_no_matlab_file_is_named(tmp_path):
    home = touch(tmp_path, "10_20131130.mat")
    (home / "10_20131130.mat").write_bytes(b"not found, please log in")
    with pytest.raises(DataError, match=r"10_20131130\.mat"):
        SEED(tmp_path).load()


# ------------------------------------------------------------------------ computed

RATE = 200
BANDS = {
    "delta": (1, 4),
    "theta": (4, 8),
    "alpha": (8, 14),
    "beta": (14, 31),
    "gamma": (31, 50),
}


def alpha_waves(seconds, extra=1, spike=1e6):
    """10 Hz, of another amplitude at each electrode, after a sample that is off."""
    time = np.arange(seconds * RATE) / RATE
    amplitude = 10 + np.arange(62)
    wave = amplitude[:, None] * np.sin(2 * np.pi * 10 * time)
    return np.concatenate([np.full((62, extra), spike), wave], axis=1)


def first_trial(root, **options):
    reader = SEED(root, source="computed", **options)
    (recording,) = reader.recordings()
    return next(reader.trials(recording))


@pytest.mark.parametrize("window", [1.0, 2.5])
def test_entropy_is_computed_without_the_first_sample(tmp_path, window):
    write_seed_recording(
        tmp_path, subject=10, session=2, trials={1: alpha_waves(235), 2: np.ones(1)}
    )
    trial = first_trial(tmp_path, window=window, smoothing="none")
    eeg = trial.signals["eeg"]
    assert eeg.shape == (235 // window, 62, 5)
    assert np.array_equal(trial.start, np.arange(235 // window) * window)
    assert (trial.session, trial.trial, trial.stimulus, trial.label) == (2, 1, 1, 2)
    variance = (10 + np.arange(62)) ** 2 / 2
    entropy = 0.5 * np.log(2 * np.pi * np.e * variance)
    # With the sample, which rings through the first seconds, they would be far off.
    alpha = eeg[:, :, 2]
    np.testing.assert_allclose(alpha[0], entropy, atol=0.1)
    np.testing.assert_allclose(alpha[5:-5], [entropy] * len(alpha[5:-5]), atol=0.02)
    assert SEED(None, source="computed").modalities()["eeg"].unit == "nat"


def test_power_is_computed_and_smoothed_within_the_trial(tmp_path):
    """Against a periodogram and a mean, taken slowly."""
    noise = np.random.default_rng(0).normal(scale=20, size=(62, 235 * RATE + 1))
    write_seed_recording(tmp_path, subject=10, session=2, trials={1: noise})
    trial = first_trial(tmp_path, feature="psd", window=2.0, smoothing="none")
    eeg = trial.signals["eeg"]
    taper = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    frequency = np.fft.rfftfreq(400, 1 / RATE)
    for window, channel in ((0, 0), (40, 17), (116, 61)):
        piece = noise[channel, 1:][window * 400 :][:400]
        spectrum = np.abs(np.fft.rfft((piece - piece.mean()) * taper)) ** 2
        density = 2 * spectrum / (RATE * np.sum(taper**2))
        for band, (low, high) in enumerate(BANDS.values()):
            inside = density[(frequency >= low) & (frequency < high)]
            np.testing.assert_allclose(
                eeg[window, channel, band], np.log(inside.mean()), rtol=1e-6
            )
    smooth = first_trial(
        tmp_path, feature="psd", window=2.0, smoothing="moving-average"
    ).signals["eeg"]
    np.testing.assert_allclose(smooth[50], eeg[48:53].mean(axis=0))
    np.testing.assert_allclose(smooth[0], eeg[:3].mean(axis=0))
    lds = first_trial(tmp_path, feature="psd", window=2.0).signals["eeg"]
    assert lds.shape == eeg.shape
    np.testing.assert_allclose(lds.mean(axis=0), eeg.mean(axis=0), atol=0.2)
    assert (np.diff(lds, axis=0).std(axis=0) < 0.2 * eeg.std(axis=0)).all()


def test_trials_are_read_by_their_number_whatever_the_prefix(tmp_path):
    """'x_eeg10' comes before 'x_eeg2' by name."""
    silence = {n: np.zeros((62, SECONDS[n - 1] * RATE + 1)) for n in (10, 2)}
    rising = np.arange(235 * RATE + 1, dtype=float)
    rising = np.random.default_rng(0).normal(size=(62, 1)) * np.sin(rising**2)
    path = write_seed_recording(
        tmp_path, subject=3, session=3, trials={**silence, 1: rising}
    )
    reader = SEED(tmp_path, source="computed", smoothing="none", window=185.0)
    (recording,) = reader.recordings()
    assert recording.session == 3
    trials = reader.read(recording)
    good = [each for each in trials if not isinstance(each, DataError)]
    assert [each.trial for each in good] == [1, 2, 10]
    # A sensor that holds one value is lost.
    assert [np.isnan(each.signals["eeg"]).all() for each in good] == [
        False,
        True,
        True,
    ]
    assert f"{path}, trial 3: found no variable of this trial" in str(trials[2])
    assert "<initials>_eeg3" in str(trials[2])


@pytest.mark.parametrize("extra", [0, 1])
def test_a_recording_without_the_extra_sample_keeps_all_of_them(tmp_path, extra):
    signal = alpha_waves(235, extra=extra)
    write_seed_recording(tmp_path, subject=3, session=3, trials={1: signal})
    trial = first_trial(tmp_path, smoothing="none", window=5.0)
    assert trial.signals["eeg"].shape == (47, 62, 5)
    assert len(trial.notes) == 1 - extra


@pytest.mark.parametrize(
    ("signal", "found"),
    [
        (np.zeros((62, 46800)), r"\(62, 46800\); expected \(62, 47001\)"),
        (np.zeros((62, 47002)), r"\(62, 47002\); expected \(62, 47001\)"),
        (np.zeros((47001, 62)), r"\(47001, 62\); expected \(62, 47001\)"),
        (np.full((62, 47001), np.nan), "NaN or infinity in 47,001 samples"),
    ],
)
def test_recordings_that_do_not_fit_are_named(tmp_path, signal, found):
    path = write_seed_recording(tmp_path, subject=3, session=3, trials={1: signal})
    error = first_trial(tmp_path)
    assert isinstance(error, DataError)
    assert re.match(rf"{re.escape(str(path))}, \w+_eeg1: found .*{found}", str(error))


def test_two_recordings_of_one_trial_are_named(tmp_path):
    path = write_seed_recording(tmp_path, subject=3, session=3, trials={1: np.ones(3)})
    savemat(path, {"a_eeg1": np.ones(3), "b_eeg1": np.ones(3)})
    error = first_trial(tmp_path)
    assert isinstance(error, DataError)
    assert "found the variables a_eeg1, b_eeg1" in str(error)
