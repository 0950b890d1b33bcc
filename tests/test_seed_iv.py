"""SEED-IV: the whole layout read back, and what makes other loaders go wrong.

All sessions of three people are read, and all people's files found by their names.
"""

from __future__ import annotations

import pickle
from itertools import islice, product
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
from fixtures.seed_iv import (
    DATES,
    WINDOWS,
    eeg_values,
    eye_values,
    raw_values,
    write_seed_iv,
)
from scipy.io import loadmat, savemat

from domainemo.data.readers.seed_iv import SEEDIV
from domainemo.errors import ConfigurationError, DataError

NAMES = """FP1 FPZ FP2 AF3 AF4 F7 F5 F3 F1 FZ F2 F4 F6 F8 FT7 FC5 FC3 FC1 FCZ FC2 FC4
FC6 FT8 T7 C5 C3 C1 CZ C2 C4 C6 T8 TP7 CP5 CP3 CP1 CPZ CP2 CP4 CP6 TP8 P7 P5 P3 P1 PZ
P2 P4 P6 P8 PO7 PO5 PO3 POZ PO4 PO6 PO8 CB1 O1 OZ O2 CB2"""
CAP = NAMES.split()
BANDS = ("delta", "theta", "alpha", "beta", "gamma")
LABELS = {
    1: [1, 2, 3, 0, 2, 0, 0, 1, 0, 1, 2, 1, 1, 1, 2, 3, 2, 2, 3, 3, 0, 3, 0, 3],
    2: [2, 1, 3, 0, 0, 2, 0, 2, 3, 3, 2, 3, 2, 0, 1, 1, 2, 1, 0, 3, 0, 1, 3, 1],
    3: [1, 2, 2, 1, 3, 3, 3, 1, 1, 2, 1, 0, 2, 3, 3, 0, 2, 3, 0, 0, 2, 0, 1, 0],
}
NEUTRAL_SAD_FEAR_HAPPY = {
    1: [217, 259, 182, 193],
    2: [232, 196, 270, 134],
    3: [229, 228, 163, 202],
}
"""Windows of each class by session, as counted from the published files."""

FEATURES = "eeg_feature_smooth"
EYES = "eye_feature_smooth"


def change(path: Path, **arrays) -> None:
    """Replace arrays of a file; those that are None are left out."""
    held = {k: v for k, v in loadmat(path).items() if not k.startswith("__")}
    held.update(arrays)
    kept = {key: array for key, array in held.items() if array is not None}
    savemat(path, kept, do_compression=True)


def trial(reader: SEEDIV, session: int, number: int, subject: int = 1):
    """Return one trial, or the error in its place."""
    recording = next(
        each
        for each in reader.recordings()
        if (each.subject, each.session) == (subject, session)
    )
    return reader.read(recording)[number - 1]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Subjects 1, 2 and, with every array, 10; the tests here do not write to it."""
    arrays = ("de_movingAve", "de_LDS", "psd_movingAve", "psd_LDS")
    root = tmp_path_factory.mktemp("small")
    write_seed_iv(root, subjects=[10], sessions=(1, 3), arrays=arrays)
    return write_seed_iv(root, subjects=(1, 2), sessions=(1, 3))


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    root = tmp_path_factory.mktemp("first")
    return write_seed_iv(root, subjects=[1], sessions=[1])


@pytest.fixture
def one(first, tmp_path):
    """Subject 1, session 1: a folder to spoil."""
    return copytree(first, tmp_path / "SEED-IV")


# ------------------------------------------------------------------- the whole of it


def test_every_published_file_is_known_by_its_name(tmp_path):
    for session, dates in DATES.items():
        for subject, date in enumerate(dates, 1):
            for folder in (FEATURES, EYES):
                path = tmp_path / folder / str(session) / f"{subject}_{date}.mat"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
    reader = SEEDIV(tmp_path)
    found = {(each.subject, each.session) for each in reader.recordings()}
    assert found == set(product(range(1, 16), (1, 2, 3)))
    assert reader.missing() == []
    assert reader.release().endswith("all 45 files are named as published")


def test_whole_people_come_back_exactly(tmp_path):
    people = (1, 8, 15)
    write_seed_iv(tmp_path, subjects=people)
    reader = SEEDIV(tmp_path)
    data = reader.load()
    eeg, eye = data.inputs.signals["eeg"], data.inputs.signals["eye"]
    windows = data.inputs.windows
    assert eeg.shape == (3 * (851 + 832 + 822), 62, 5)
    assert eye.shape == (3 * (851 + 832 + 822), 31, 1)
    row = 0
    for subject in people:
        for session in (1, 2, 3):
            for number, count in enumerate(WINDOWS[session], 1):
                rows = slice(row, row + count)
                values = eeg_values(subject, session, number)
                assert np.array_equal(eeg[rows], values)
                values = eye_values(subject, session, number)
                assert np.array_equal(eye[rows, :, 0], values, equal_nan=True)
                here = windows.iloc[rows]
                place = here[["subject", "session", "trial", "stimulus"]].to_numpy()
                clip = 24 * (session - 1) + number
                assert (place == [subject, session, number, clip]).all()
                assert here["start"].tolist() == [4.0 * w for w in range(count)]
                assert set(data.labels[rows]) == {LABELS[session][number - 1]}
                row += count
    assert row == len(windows)
    assert data.classes == ("neutral", "sad", "fear", "happy")
    for session, expected in NEUTRAL_SAD_FEAR_HAPPY.items():
        rows = windows["session"] == session
        counts = np.bincount(data.labels[rows], minlength=4)
        assert counts.tolist() == [3 * count for count in expected]
    assert "3 subjects, 216 trials" in data.inputs.name


def test_a_value_is_where_the_formula_puts_it(small):
    """Written out once, so that reader and fixture cannot be wrong together."""
    signals = trial(SEEDIV(small), session=1, number=2, subject=1).signals
    # Trial 2 follows the 42 windows of trial 1.
    assert signals["eeg"][5, 17, 3] == ((42 + 5) * 62 + 17) * 5 + 3 + 1
    assert signals["eye"][3, 12, 0] == (42 + 3) * 31 + 12 + 1
    stored = loadmat(next(small.glob(f"{FEATURES}/1/1_*.mat")))["de_LDS2"]
    assert stored[17, 5, 3] == signals["eeg"][5, 17, 3]
    stored = loadmat(next(small.glob(f"{EYES}/1/1_*.mat")))["eye_2"]
    assert stored[12, 3] == signals["eye"][3, 12, 0]


def test_modalities_have_their_names(small):
    modalities = SEEDIV(small).modalities()
    assert (list(modalities["eeg"].channels), modalities["eeg"].features) == (
        CAP,
        BANDS,
    )
    assert modalities["eeg"].kind == "eeg"
    eye = modalities["eye"]
    assert (eye.features, eye.kind, len(eye.channels)) == (("value",), "eye", 31)
    assert [eye.channels[i] for i in (0, 3, 11, 12, 16, 22, 24, 30)] == [
        "pupil_x_mean",
        "pupil_y_std",
        "pupil_y_de_0.6-1Hz",
        "dispersion_x_mean",
        "fixation_duration_mean",
        "blink_frequency",
        "fixation_duration_max",
        "saccade_latency_average",
    ]


@pytest.mark.parametrize("feature", ["de", "psd"])
@pytest.mark.parametrize(
    ("smoothing", "key"), [("lds", "LDS"), ("moving-average", "movingAve")]
)
def test_each_released_feature_is_read(small, feature, smoothing, key):
    reader = SEEDIV(small, feature=feature, smoothing=smoothing)
    expected = eeg_values(10, 3, 11, f"{feature}_{key}")
    assert np.array_equal(trial(reader, 3, 11, 10).signals["eeg"], expected)


def test_the_title_names_every_choice(small):
    assert SEEDIV(small).title() == (
        "seed-iv (released differential entropy, smoothed by a linear dynamic system, "
        "which is not causal, 4 s windows, EEG and eye movements)"
    )
    computed = SEEDIV(
        small, feature="psd", smoothing="none", source="computed", window=2, eye=False
    )
    assert computed.title() == (
        "seed-iv (power spectral density computed from eeg_raw_data, not smoothed, 2 s "
        "windows, EEG alone)"
    )


def test_the_eeg_alone_needs_no_eye_folder(tmp_path):
    home = write_seed_iv(tmp_path, subjects=[3], sessions=[2], eye=False)
    with pytest.raises(DataError, match=r"no folder eye_feature_smooth/.*data\.eye=f"):
        SEEDIV(home).load()
    missing = SEEDIV(home).missing()
    # Subject 3's files but one; of all others none is there.
    assert len([name for name in missing if "/3_" in name]) == len(missing) - 14 == 5
    data = SEEDIV(home, eye=False).load()
    assert set(data.inputs.signals) == {"eeg"}
    assert len(data) == 832


def test_a_reader_can_be_sent_to_another_process(small):
    reader = pickle.loads(pickle.dumps(SEEDIV(small)))
    assert reader.title() == SEEDIV(small).title()
    assert reader.files() == SEEDIV(small).files()


# ------------------------------------------- traps: a naive loader fails, ours does not


def read_in_naive_order(home: Path) -> np.ndarray:
    """Class of each window of subject 1, session 1, by a loader that sorts the keys."""
    held = loadmat(next(home.glob(f"{FEATURES}/1/1_*.mat")))
    keys = sorted(key for key in held if key.startswith("de_LDS"))
    counts = [held[key].shape[1] for key in keys]
    return np.repeat(LABELS[1], counts)


def test_trap_trials_sorted_as_text(one):
    data = SEEDIV(one).load()
    naive = read_in_naive_order(one)
    assert len(naive) == len(data.labels)
    assert (naive != data.labels).any()
    assert np.array_equal(data.labels, np.repeat(LABELS[1], WINDOWS[1]))


def test_trap_subjects_sorted_as_text(small):
    files = sorted(small.glob(f"{FEATURES}/1/[0-9]*.mat"))
    naive = {subject: path.name for subject, path in enumerate(files, 1)}
    assert naive[2].startswith("2_") is False
    read = SEEDIV(small).recordings()
    assert [(each.subject, each.session) for each in read] == [
        *[(1, 1), (1, 3), (2, 1), (2, 3), (10, 1), (10, 3)]
    ]
    for each in read:
        number = f"{each.subject}_{DATES[each.session][each.subject - 1]}.mat"
        assert {path.name for path in each.files.values()} == {number}


def test_trap_sessions_sorted_by_date(tmp_path):
    home = write_seed_iv(tmp_path, subjects=[1], sessions=(1, 3))
    # A copy whose dates are those of the copying: session 3 came first.
    for folder in (FEATURES, EYES):
        next(home.glob(f"{folder}/1/1_*.mat")).rename(
            home / folder / "1" / "1_20240302.mat"
        )
        next(home.glob(f"{folder}/3/1_*.mat")).rename(
            home / folder / "3" / "1_20240301.mat"
        )
    naive = sorted(home.glob(f"{FEATURES}/*/1_*.mat"), key=lambda path: path.name)
    assert loadmat(naive[0])["de_LDS1"][0, 0, 0] == eeg_values(1, 3, 1)[0, 0, 0]
    reader = SEEDIV(home)
    for session in (1, 3):
        signals = trial(reader, session, 1).signals
        assert np.array_equal(signals["eeg"], eeg_values(1, session, 1))
    assert "2 of 2 files are not named as published: 1/1_20240302.mat" in (
        reader.release()
    )


def test_trap_axes_of_the_features(one):
    stored = loadmat(next(one.glob(f"{FEATURES}/1/1_*.mat")))["de_LDS1"]
    naive = stored.reshape(-1, 62, 5)
    assert naive.shape == eeg_values(1, 1, 1).shape
    assert (naive != eeg_values(1, 1, 1)).any()
    read = trial(SEEDIV(one), 1, 1).signals["eeg"]
    assert np.array_equal(read, eeg_values(1, 1, 1))


def test_trap_the_eye_is_transposed(one):
    stored = loadmat(next(one.glob(f"{EYES}/1/1_*.mat")))["eye_1"]
    expected = eye_values(1, 1, 1)
    naive = stored.reshape(-1, 31)
    assert naive.shape == expected.shape
    assert not np.array_equal(naive, expected, equal_nan=True)
    read = trial(SEEDIV(one), 1, 1).signals["eye"][:, :, 0]
    assert np.array_equal(read, expected, equal_nan=True)
    change(next(one.glob(f"{EYES}/1/1_*.mat")), eye_1=stored.T)
    error = trial(SEEDIV(one), 1, 1)
    assert isinstance(error, DataError)
    assert "'eye_1': found an array of shape (42, 31); expected (31, windows)" in (
        str(error)
    )


def test_trap_keys_of_two_styles(one):
    eeg = loadmat(next(one.glob(f"{FEATURES}/1/1_*.mat")))
    eye = loadmat(next(one.glob(f"{EYES}/1/1_*.mat")))
    for naive in ("de_LDS{}", "de_LDS_{}"):
        assert not (naive.format(1) in eeg and naive.format(1) in eye)
    assert "eye_1" in eye
    assert "eye1" not in eye
    assert len(SEEDIV(one).load()) == 851


def test_trap_eye_and_eeg_of_different_lengths(tmp_path):
    more = {(1, 1, 2): 1, (1, 1, 3): -2, (1, 1, 9): 1, (1, 1, 24): -1}
    home = write_seed_iv(tmp_path, subjects=[1], sessions=[1], eye_more=more)
    data = SEEDIV(home).load()
    eeg, eye = data.inputs.signals["eeg"], data.inputs.signals["eye"][:, :, 0]
    # Every value tells its window: that of the EEG must be that of the eye.
    of_eeg = (eeg[:, 0, 0] - 1) // 310
    of_eye = (eye[:, 0] - 1) // 31
    assert np.array_equal(of_eeg, of_eye)
    counts = data.inputs.windows.groupby("trial").size()
    expected = np.array(WINDOWS[1])
    expected[[2, 23]] -= [2, 1]
    assert counts.tolist() == expected.tolist()
    for note in (
        "eye cut by 1 window to the length of the EEG in 2 trials",
        "EEG cut by 2 windows to the length of the eye in 1 trial",
        "EEG cut by 1 window to the length of the eye in 1 trial",
    ):
        assert note in data.inputs.name
    path = next(home.glob(f"{EYES}/1/1_*.mat"))
    held = loadmat(path)
    joined = np.concatenate([held[f"eye_{n}"] for n in range(1, 25)], axis=1)[0]
    naive = np.min([len(joined), 851])
    eeg_of_all = np.arange(851)
    assert ((joined[:naive] - 1) // 31 != eeg_of_all[:naive]).any()


def test_eye_and_eeg_that_are_not_of_one_trial(tmp_path):
    home = write_seed_iv(tmp_path, subjects=[1], sessions=[1], eye_more={(1, 1, 4): 3})
    read = SEEDIV(home).read(SEEDIV(home).recordings()[0])
    errors = {n: each for n, each in enumerate(read, 1) if isinstance(each, DataError)}
    assert list(errors) == [4]
    assert "key 'eye_4': found 35 windows of eye measures and 32 of EEG" in (
        str(errors[4])
    )


def test_trap_what_the_tracker_lost_stays_lost(one):
    eye = SEEDIV(one).load().inputs.signals["eye"][:, :, 0]
    expected = np.concatenate([eye_values(1, 1, n) for n in range(1, 25)])
    naive = np.nan_to_num(expected)
    assert np.isfinite(naive).all()
    assert np.isnan(expected).any(axis=0).nonzero()[0].tolist() == [22, 28, 29, 30]
    assert np.array_equal(np.isnan(eye), np.isnan(expected))


# ------------------------------------------------------------------- from the raw EEG


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    root = tmp_path_factory.mktemp("raw")
    return write_seed_iv(root, subjects=[2], sessions=[1], raw_trials=[2])


def computed(home: Path, number: int, **options):
    reader = SEEDIV(home, source="computed", **options)
    recording = reader.recordings()[0]
    return next(islice(reader.trials(recording), number - 1, None))


def test_entropy_of_a_sine_is_that_of_the_formula(raw):
    read = computed(raw, 2, smoothing="none")
    amplitude = 1000 + 100 * np.arange(62) + 10 * 2
    entropy = 0.5 * np.log(2 * np.pi * np.e * amplitude**2 / 2)
    assert read.signals["eeg"].shape == (23, 62, 5)
    # Away from the ends, where a filter has its transient.
    alpha = read.signals["eeg"][2:-2, :, 2]
    np.testing.assert_allclose(alpha, np.tile(entropy, (19, 1)), atol=0.01)
    assert (read.signals["eeg"][2:-2, :, [0, 1, 3, 4]] < alpha[:, :, None] - 2).all()
    expected = eye_values(2, 1, 2)
    assert np.array_equal(read.signals["eye"][:, :, 0], expected, equal_nan=True)


@pytest.mark.parametrize(("window", "count"), [(1.0, 92), (2.5, 36), (8, 11)])
def test_windows_of_any_length_without_the_eye(raw, window, count):
    read = computed(raw, 2, smoothing="none", window=window, eye=False)
    assert read.signals["eeg"].shape == (count, 62, 5)
    assert read.start.tolist() == [window * w for w in range(count)]


def test_computed_features_are_smoothed(raw):
    rough = computed(raw, 2, smoothing="none").signals["eeg"]
    averaged = computed(raw, 2, smoothing="moving-average").signals["eeg"]
    slow = [rough[max(w - 2, 0) : w + 3].mean(axis=0) for w in range(len(rough))]
    np.testing.assert_allclose(averaged, slow)
    smooth = computed(raw, 2, smoothing="lds").signals["eeg"]
    assert smooth.shape == rough.shape == (23, 62, 5)
    assert (smooth.std(axis=0) < rough.std(axis=0)).all()


def test_power_of_a_sine_is_in_its_band(raw):
    power = computed(raw, 2, feature="psd", smoothing="none").signals["eeg"]
    assert (power.argmax(axis=2) == BANDS.index("alpha")).all()
    # Power goes with the square of the amplitude.
    amplitude = 1000 + 100 * np.arange(62) + 10 * 2
    gain = power[:, :, 2] - power[:, :1, 2]
    expected = np.tile(2 * np.log(amplitude / amplitude[0]), (23, 1))
    np.testing.assert_allclose(gain, expected, atol=0.01)


def change_raw(home: Path, **arrays) -> SEEDIV:
    change(next(home.glob("eeg_raw_data/1/*.mat")), **arrays)
    return SEEDIV(home, source="computed", smoothing="none")


def test_raw_trials_that_do_not_fit_are_named(tmp_path):
    home = write_seed_iv(tmp_path, subjects=[1], sessions=[1], raw_trials=(2,))
    wave = raw_values(2).astype(float)
    lost = wave.copy()
    lost[3, 100:103] = np.nan
    reader = change_raw(
        home, aa_eeg1=lost, aa_eeg2=lost, aa_eeg3=wave[:, :9000], aa_eeg4=wave[:10]
    )
    recording = reader.recordings()[0]
    found = [str(each) for each in islice(reader.trials(recording), 4)]
    # Trial 1 has the length of trial 2.
    assert "'aa_eeg1': found 92.005 s; expected 160 to 180 s at 200 Hz" in found[0]
    assert "'aa_eeg2': found NaN or infinity in 3 of 18401 samples" in found[1]
    assert "'aa_eeg3': found 45 s; expected 188 to 208 s" in found[2]
    assert "shape (10, 18401); expected (62, samples)" in found[3]
    reader = change_raw(home, bb_eeg1=wave)
    with pytest.raises(DataError, match=r"two arrays of trial 1: aa_eeg1 and bb_eeg1"):
        reader.load()
    reader = change_raw(home, bb_eeg1=None, aa_eeg1=None)
    with pytest.raises(DataError, match=r"of the trials 2, 3, .*<initials>_eeg24"):
        reader.load()


# ------------------------------------------------------------------- files and folders


@pytest.mark.parametrize("name", ["SEED-IV", "SEED_IV", "seed-iv", "SEEDIV", "Seed IV"])
def test_the_folder_is_found_under_its_names(tmp_path, name):
    home = write_seed_iv(tmp_path, subjects=[4], sessions=[2], folder=name)
    (tmp_path / "SEED-V").mkdir()
    (tmp_path / "SEED").mkdir()
    for root in (tmp_path, home, str(home)):
        files = SEEDIV(root).files()
        assert [path.parent.parent.parent for path in files] == [home] * 2


def test_the_folder_is_found_inside_itself(tmp_path):
    """Archives often unpack into a folder of their own name."""
    home = write_seed_iv(tmp_path, subjects=[4], sessions=[2], folder="SEED-IV/SEED_IV")
    assert len(SEEDIV(tmp_path).recordings()) == 1
    write_seed_iv(tmp_path, subjects=[4], sessions=[2], folder="SEED-IV")
    assert home.is_dir()
    with pytest.raises(
        DataError, match=r"in SEED-IV/ and SEED-IV/SEED_IV/.*one of them"
    ):
        SEEDIV(tmp_path).recordings()


def test_folders_that_do_not_fit_are_named(tmp_path):
    with pytest.raises(DataError, match=r"no data root.*eeg_feature_smooth.*sjtu"):
        SEEDIV(None).load()
    with pytest.raises(DataError, match=r"nowhere: found nothing here"):
        SEEDIV(tmp_path / "nowhere").load()
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"notes\.txt: found a file here"):
        SEEDIV(tmp_path / "notes.txt").load()
    with pytest.raises(
        DataError,
        match=r"none of eeg_feature_smooth/, SEED-IV/eeg_feature_smooth/ \(only notes",
    ):
        SEEDIV(tmp_path).load()
    (tmp_path / "SEED_IV" / FEATURES).mkdir(parents=True)
    with pytest.raises(DataError, match=r"no files of subjects.*an empty folder.*1, 2"):
        SEEDIV(tmp_path).load()


def test_renamed_files_are_read_by_the_number(one):
    for folder in (FEATURES, EYES):
        next(one.glob(f"{folder}/1/1_*.mat")).rename(one / folder / "1" / "01.mat")
    data = SEEDIV(one).load()
    assert set(data.inputs.windows["subject"]) == {1}
    assert "1/01.mat (published: 1_20160518.mat)" in SEEDIV(one).release()


def test_two_files_of_a_subject_leave_open_which(one):
    path = next(one.glob(f"{FEATURES}/1/1_*.mat"))
    path.with_name("1_20160518 (1).mat").write_bytes(path.read_bytes())
    with pytest.raises(
        DataError,
        match=r"feature_smooth/1: found two of subject 1: 1_20160518 \(1\)\.mat and 1_",
    ):
        SEEDIV(one).recordings()


def test_a_subject_that_there_is_not(one):
    (one / FEATURES / "1" / "16_20160101.mat").write_bytes(b"")
    with pytest.raises(
        DataError, match=r"16_20160101\.mat: found subject 16.*1 to 15.*Rename"
    ):
        SEEDIV(one).recordings()


def test_an_eye_file_that_is_missing(one):
    next(one.glob(f"{EYES}/1/1_*.mat")).unlink()
    with pytest.raises(
        DataError, match=r"eye_feature_smooth/1: found no file of subject 1.*eye=false"
    ):
        SEEDIV(one).load()
    assert len(SEEDIV(one, eye=False).load()) == 851


def test_what_is_missing_is_listed(small):
    missing = SEEDIV(small).missing()
    # Session 2 of the three that are there, twelve subjects altogether.
    assert len(missing) == 3 * 2 + 12
    assert "eye_feature_smooth/2/1_20161125.mat" in missing
    assert [name for name in missing if "/" not in name][:2] == [
        "subject 3",
        "subject 4",
    ]
    assert "eye_feature_smooth/3/10_20151023.mat" not in missing
    assert len(SEEDIV(small, eye=False).missing()) == 3 + 12


def test_arrays_that_do_not_fit_are_named(one):
    path = next(one.glob(f"{FEATURES}/1/1_*.mat"))
    held = loadmat(path)
    change(path, de_LDS2=held["de_LDS3"], de_LDS5=None, de_LDS7=held["de_LDS7"][:, :0])
    spoilt = held["de_LDS8"].copy()
    spoilt[4, 3, 2] = np.inf
    change(path, de_LDS8=spoilt)
    read = SEEDIV(one).read(SEEDIV(one).recordings()[0])
    errors = {
        n: str(each) for n, each in enumerate(read, 1) if isinstance(each, DataError)
    }
    assert list(errors) == [2, 5, 7, 8]
    assert all(str(path) in message for message in errors.values())
    assert (
        "'de_LDS2': found an array of shape (62, 49, 5); expected (62, 23, 5)"
        in (errors[2])
    )
    assert "de_LDS5" in errors[5]
    assert "window 4, channel AF4, feature alpha" in errors[8]


@pytest.mark.parametrize("data", [b"", b"MATLAB 5.0 MAT-file, not", b"\x89HDF\r\n\x1a"])
def test_files_that_are_none_are_named(one, data):
    path = next(one.glob(f"{FEATURES}/1/1_*.mat"))
    path.write_bytes(data)
    with pytest.raises(DataError, match="1_20160518"):
        SEEDIV(one).load()


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"feature": "dasm"}, "feature is 'dasm'.*; expected one of 'de', 'psd'"),
        ({"smoothing": "kalman"}, "smoothing is 'kalman'.*'lds', 'moving-average'"),
        (
            {"smoothing": "none"},
            "found smoothing='none' with source='released'",
        ),
        ({"source": "raw"}, "source is 'raw'.*'released', 'computed'"),
        ({"eye": 1}, "eye is 1 of type int; expected bool, true or false"),
        ({"window": 1}, "found window=1 with source='released'; expected 4"),
        (
            {"window": 1, "source": "computed"},
            "found window=1 with eye=True",
        ),
        (
            {"window": 0.1, "source": "computed", "eye": False},
            "window is 0.1; expected 0.5 to",
        ),
        ({"window": "4"}, "window is '4'"),
        ({"window": float("nan")}, "window is nan"),
    ],
)
def test_options_that_do_not_fit_are_named(options, found):
    with pytest.raises(ConfigurationError, match=f"^seed-iv: {found}"):
        SEEDIV(None, **options)
