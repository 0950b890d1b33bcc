"""SEED-VII: the whole layout read back, and what makes other loaders go wrong.

Three people are read whole, and all people's files found by their names.
"""

from __future__ import annotations

import pickle
from itertools import islice
from pathlib import Path
from shutil import copytree, rmtree

import numpy as np
import pytest
from fixtures.seed_vii import (
    eeg_values,
    eye_values,
    raw_values,
    windows,
    write_seed_vii,
)
from scipy.io import loadmat, savemat

from domainemo.data.readers.seed_vii import SEEDVII
from domainemo.errors import ConfigurationError, DataError

NAMES = """FP1 FPZ FP2 AF3 AF4 F7 F5 F3 F1 FZ F2 F4 F6 F8 FT7 FC5 FC3 FC1 FCZ FC2 FC4
FC6 FT8 T7 C5 C3 C1 CZ C2 C4 C6 T8 TP7 CP5 CP3 CP1 CPZ CP2 CP4 CP6 TP8 P7 P5 P3 P1 PZ
P2 P4 P6 P8 PO7 PO5 PO3 POZ PO4 PO6 PO8 CB1 O1 OZ O2 CB2"""
CAP = NAMES.split()
BANDS = ("delta", "theta", "alpha", "beta", "gamma")
CLASSES = ("disgust", "fear", "sad", "neutral", "happy", "anger", "surprise")
TEN = [
    "happy neutral disgust sad anger anger sad disgust neutral happy",
    "anger sad fear neutral surprise surprise neutral fear sad anger",
    "happy surprise disgust fear anger anger fear disgust surprise happy",
    "disgust sad fear surprise happy happy surprise fear sad disgust",
]
SHOWN = [emotion for ten in TEN for emotion in ten.split() * 2]
"""What each of the 80 clips is to evoke: every session shows its ten twice."""

EEG, EYE, RAW = "EEG_features", "EYE_features", "EEG_preprocessed"


def change(path: Path, **arrays) -> None:
    """Replace arrays of a file; those that are None are left out."""
    held = {k: v for k, v in loadmat(path).items() if not k.startswith("__")}
    held.update(arrays)
    kept = {key: array for key, array in held.items() if array is not None}
    savemat(path, kept, do_compression=True)


def read_one(home: Path, **options):
    reader = SEEDVII(home, **options)
    return reader.read(reader.recordings()[0])


def errors(home: Path, **options) -> dict[int, str]:
    """Return the messages of the trials that cannot be read, by number."""
    read = read_one(home, **options)
    return {n: str(each) for n, each in enumerate(read, 1) if type(each) is DataError}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Subjects 1, 2 and, with every array, 10; the tests here do not write to it."""
    root = tmp_path_factory.mktemp("small")
    write_seed_vii(root, subjects=[10], arrays=("psd", "de", "de_LDS"))
    return write_seed_vii(root, subjects=(1, 2))


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    return write_seed_vii(tmp_path_factory.mktemp("first"), subjects=[1])


@pytest.fixture
def one(first, tmp_path):
    """Subject 1: a folder to spoil."""
    return copytree(first, tmp_path / "SEED-VII")


# ------------------------------------------------------------------- the whole of it


def test_every_published_file_is_known_by_its_name(tmp_path):
    for folder in (EEG, EYE):
        (tmp_path / folder).mkdir()
        for subject in range(1, 21):
            (tmp_path / folder / f"{subject}.mat").touch()
    reader = SEEDVII(tmp_path)
    assert [each.subject for each in reader.recordings()] == list(range(1, 21))
    assert reader.missing() == []


def test_whole_people_come_back_exactly(tmp_path):
    people = (1, 12, 20)
    write_seed_vii(tmp_path, subjects=people)
    reader = SEEDVII(tmp_path)
    data = reader.load()
    eeg, eye = data.inputs.signals["eeg"], data.inputs.signals["eye"]
    table = data.inputs.windows
    assert data.classes == CLASSES
    row = 0
    for subject in people:
        for number in range(1, 81):
            # In two trials, the eye has a window less; the EEG is cut to it.
            values = eye_values(subject, number)
            count = windows(subject, number) - (number in (12, 71))
            assert len(values) == count
            rows = slice(row, row + count)
            assert np.array_equal(eeg[rows], eeg_values(subject, number)[:count])
            assert np.array_equal(eye[rows, :, 0], values)
            here = table.iloc[rows]
            place = here[["subject", "session", "trial", "stimulus"]].to_numpy()
            session, trial = (number - 1) // 20 + 1, (number - 1) % 20 + 1
            assert (place == [subject, session, trial, number]).all()
            assert here["start"].tolist() == [4.0 * w for w in range(count)]
            assert {CLASSES[n] for n in data.labels[rows]} == {SHOWN[number - 1]}
            row += count
    assert row == len(table)
    assert eye.shape == (row, 33, 1)
    assert "3 subjects, 240 trials" in data.inputs.name
    assert "EEG cut by 1 window to the length of the eye in 6 trials" in (
        data.inputs.name
    )


def test_there_are_twelve_clips_an_emotion_and_eight_neutral(first):
    labels = [trial.label for trial in read_one(first)]
    assert np.bincount(labels).tolist() == [12, 12, 12, 8, 12, 12, 12]


def test_a_value_is_where_the_formula_puts_it(first):
    """Written out once, so that reader and fixture cannot be wrong together."""
    signals = read_one(first)[1].signals
    # Trial 2 follows the 43 windows of trial 1.
    assert signals["eeg"][6, 17, 3] == ((43 + 6) * 62 + 17) * 5 + 3 - 11_000_000
    assert signals["eye"][6, 12, 0] == (43 + 6) * 33 + 12 + 1
    stored = loadmat(first / EEG / "1.mat")["de_LDS_2"]
    assert stored[6, 3, 17] == signals["eeg"][6, 17, 3]
    assert loadmat(first / EYE / "1.mat")["2"][6, 12] == signals["eye"][6, 12, 0]


@pytest.mark.parametrize(
    ("options", "array"),
    [
        ({}, "de_LDS"),
        ({"smoothing": "none"}, "de"),
        ({"feature": "psd", "smoothing": "none"}, "psd"),
    ],
)
def test_each_released_feature_is_read(small, options, array):
    reader = SEEDVII(small, **options)
    read = reader.read(reader.recordings()[2])[10]
    assert np.array_equal(read.signals["eeg"], eeg_values(10, 11, array))


def test_modalities_have_their_names(small):
    modalities = SEEDVII(small).modalities()
    eeg, eye = modalities["eeg"], modalities["eye"]
    assert (list(eeg.channels), eeg.features, eeg.kind) == (CAP, BANDS, "eeg")
    assert (eye.features, eye.kind, len(eye.channels)) == (("value",), "eye", 33)
    assert [eye.channels[i] for i in (0, 7, 10, 15, 19, 20, 23, 24, 27, 28, 32)] == [
        "pupil_left_de_0.05-0.2Hz",
        "pupil_right_de_0.6-1Hz",
        "pupil_right_mean",
        "dispersion_y_mean",
        "saccade_duration_std",
        "saccade_amplitude_mean",
        "blink_duration_std",
        "blink_frequency",
        "fixation_dispersion_max",
        "fixation_dispersion_total",
        "saccade_latency_average",
    ]


def test_the_title_names_every_choice(small):
    assert SEEDVII(small).title() == (
        "seed-vii (released differential entropy, smoothed by a linear dynamic system, "
        "which is not causal, 4 s windows, EEG and eye movements with the measures "
        "that are constant in a clip, pupils corrected for luminance by all subjects "
        "of a clip, the test subject included (transductive))"
    )
    assert "movements without the measures" in (
        SEEDVII(small, clip_statistics=False).title()
    )
    computed = SEEDVII(small, source="computed", smoothing="none", window=2, eye=False)
    assert computed.title() == (
        "seed-vii (differential entropy computed from EEG_preprocessed, zero-phase "
        "filters that are not causal, not smoothed, 2 s windows, EEG alone)"
    )
    assert pickle.loads(pickle.dumps(computed)).title() == computed.title()
    assert SEEDVII(small).release() == (
        "SEED-VII, EEG_features and EYE_features; 3 of the 20 released subjects"
    )


def test_the_eeg_alone_needs_no_eye_folder(one):
    rmtree(one / EYE)
    with pytest.raises(DataError, match=r"no folder EYE_features/.*data\.eye=false"):
        SEEDVII(one).load()
    assert SEEDVII(one).missing()[:2] == ["EYE_features/1.mat", "subject 2"]
    data = SEEDVII(one, eye=False).load()
    assert set(data.inputs.signals) == {"eeg"}
    assert len(data) == sum(windows(1, number) for number in range(1, 81))


# ------------------------------------------- traps: a naive loader fails, ours does not


def test_trap_the_bands_come_before_the_electrodes(first):
    stored = loadmat(first / EEG / "1.mat")["de_LDS_1"]
    expected = eeg_values(1, 1)
    naive = stored.reshape(-1, 62, 5)
    assert naive.shape == expected.shape
    assert (naive != expected).any()
    assert np.array_equal(read_one(first)[0].signals["eeg"], expected)


def test_trap_trials_sorted_as_text(first):
    held = loadmat(first / EYE / "1.mat")
    naive = [SHOWN[int(key) - 1] for key in sorted(k for k in held if k.isdigit())]
    assert naive != SHOWN
    assert [CLASSES[trial.label] for trial in read_one(first)] == SHOWN


def test_trap_keys_of_two_styles(first):
    eeg, eye = loadmat(first / EEG / "1.mat"), loadmat(first / EYE / "1.mat")
    assert "de_LDS_1" in eeg
    for naive in ("de_LDS1", "1", "eye_1"):
        assert not (naive in eeg and naive in eye)
    assert "eye_1" not in eye
    # By position, as many loaders do, an array of another trial or feature is taken.
    arrays = [key for key in eeg if not key.startswith("__")]
    assert arrays[1] != "de_LDS_2"
    assert len(read_one(first)) == 80


def test_trap_subjects_sorted_as_text(small):
    naive = [path.name for path in sorted((small / EEG).glob("[0-9]*.mat"))]
    assert naive[1] == "10.mat"
    read = SEEDVII(small).recordings()
    assert [each.subject for each in read] == [1, 2, 10]
    assert read[1].files == {"eeg": small / EEG / "2.mat", "eye": small / EYE / "2.mat"}


def test_trap_trials_of_one_clip_differ_by_a_window(small):
    lengths = {1: [], 2: []}
    for recording in SEEDVII(small).recordings()[:2]:
        read = SEEDVII(small).read(recording)
        lengths[recording.subject] = [len(trial.start) for trial in read]
    naive = np.subtract(lengths[1], lengths[2])
    assert (np.flatnonzero(naive) + 1).tolist() == [5, 33, 80]


def test_trap_eye_and_eeg_of_different_lengths(tmp_path):
    more = {(2, 1): 1, (2, 2): -2, (2, 60): 2}
    home = write_seed_vii(tmp_path, subjects=[2], eye_more=more)
    data = SEEDVII(home).load()
    # Every value tells its window: that of the EEG must be that of the eye.
    of_eeg = (data.inputs.signals["eeg"][:, 0, 0] + 11_000_000) // 310
    of_eye = (data.inputs.signals["eye"][:, 0, 0] - 1) // 33
    assert np.array_equal(of_eeg, of_eye)
    for note in (
        "EEG cut by 1 window to the length of the eye in 2 trials",
        "EEG cut by 2 windows to the length of the eye in 1 trial",
        "eye cut by 1 window to the length of the EEG in 1 trial",
        "eye cut by 2 windows to the length of the EEG in 1 trial",
    ):
        assert note in data.inputs.name
    held = loadmat(home / EYE / "2.mat")
    naive = np.concatenate([held[str(number)] for number in range(1, 81)])[:, 0]
    count = min(len(naive), sum(windows(2, number) for number in range(1, 81)))
    assert ((naive[:count] - 1) // 33 != 3500 + np.arange(count)).any()


def test_eye_and_eeg_that_are_not_of_one_trial(one):
    change(one / EYE / "1.mat", **{"4": eye_values(1, 4, more=-3)})
    found = errors(one)
    assert list(found) == [4]
    assert "1.mat, key '4': found 50 windows of eye measures and 53 of EEG" in found[4]


def test_trap_clip_statistics_tell_the_trial(first):
    """One window of a clip gives its every other window away, but not without them."""
    whole = [trial.signals["eye"][:, :, 0] for trial in read_one(first)]
    fingerprints = {tuple(eye[0, 24:]): n for n, eye in enumerate(whole)}
    told = [
        fingerprints.get(tuple(row), -1) == n
        for n, eye in enumerate(whole)
        for row in eye[:, 24:]
    ]
    assert all(told)
    reader = SEEDVII(first, clip_statistics=False)
    read = reader.read(reader.recordings()[0])
    assert len(reader.modalities()["eye"].channels) == 24
    assert not any("clip" in name for name in reader.modalities()["eye"].channels)
    for trial, eye in zip(read, whole, strict=True):
        assert np.array_equal(trial.signals["eye"][:, :, 0], eye[:, :24])
        assert len(np.unique(trial.signals["eye"][:, :22, 0], axis=0)) == len(eye)


def test_what_the_tracker_lost_was_lost_by_the_publisher(first):
    """Zeros stay what they are, and NaN in a copy without them stays NaN."""
    eye = read_one(first)[0].signals["eye"][:, :, 0]
    assert (eye[5::6, 22:24] == 0).all()
    assert np.isfinite(eye).all()


def test_nan_stays_nan(one):
    eye = eye_values(1, 3)
    eye[4, 12] = np.nan
    change(one / EYE / "1.mat", **{"3": eye})
    read = read_one(one)[2].signals["eye"][:, :, 0]
    assert np.array_equal(read, eye, equal_nan=True)


# --------------------------------------------------------------- from preprocessed EEG


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    root = tmp_path_factory.mktemp("raw")
    return write_seed_vii(root, subjects=[2], raw_trials=(1, 2))


def computed(home: Path, number: int, **options):
    reader = SEEDVII(home, source="computed", **options)
    trials = reader.trials(reader.recordings()[0])
    return next(islice(trials, number - 1, None))


def test_entropy_of_a_sine_is_that_of_the_formula(raw):
    read = computed(raw, 1, smoothing="none")
    amplitude = 1000 + 100 * np.arange(62) + 10
    entropy = 0.5 * np.log(2 * np.pi * np.e * amplitude**2 / 2)
    eeg = read.signals["eeg"]
    assert eeg.shape == (windows(2, 1), 62, 5) == (43, 62, 5)
    # Away from the ends, where a filter has its transient.
    beta = eeg[2:-2, :, BANDS.index("beta")]
    np.testing.assert_allclose(beta, np.tile(entropy, (39, 1)), atol=0.01)
    assert (eeg[2:-2, :, [0, 1, 2, 4]] < beta[:, :, None] - 2).all()
    assert np.array_equal(read.signals["eye"][:, :, 0], eye_values(2, 1))


@pytest.mark.parametrize(("window", "count"), [(1.0, 172), (2.5, 68), (20, 8)])
def test_windows_of_any_length_without_the_eye(raw, window, count):
    read = computed(raw, 1, smoothing="none", window=window, eye=False)
    assert read.signals["eeg"].shape == (count, 62, 5)
    assert read.start.tolist() == [window * w for w in range(count)]


def test_power_is_computed_and_smoothed(raw):
    power = computed(raw, 1, feature="psd", smoothing="none").signals["eeg"]
    assert (power.argmax(axis=2) == BANDS.index("beta")).all()
    rough = computed(raw, 1, smoothing="none").signals["eeg"]
    smooth = computed(raw, 1, smoothing="lds").signals["eeg"]
    assert smooth.shape == rough.shape
    assert (smooth.std(axis=0) < rough.std(axis=0)).all()


def test_preprocessed_trials_that_do_not_fit_are_named(one):
    wave = raw_values(1).astype(float)
    lost = wave.copy()
    lost[3, 100:103] = np.inf
    arrays = {"1": lost, "2": wave[:, :3999], "3": wave[:10], "4": wave[0]}
    (one / RAW).mkdir()
    savemat(one / RAW / "1.mat", arrays)
    found = errors(one, source="computed")
    assert len(found) == 80
    assert "key '1': found NaN or infinity in 3 of 34400 samples" in found[1]
    assert "key '2': found 19.995 s; expected 20 to 804 s at 200 Hz" in found[2]
    assert "key '3': found an array of shape (10, 34400)" in found[3]
    assert "key '4': found an array of shape (1, 34400)" in found[4]
    assert "'5'" in found[5]


# ------------------------------------------------------------------- files and folders


@pytest.mark.parametrize("name", ["SEED-VII", "SEED_VII", "seedvii", "Seed VII"])
def test_the_folder_is_found_under_its_names(tmp_path, name):
    home = tmp_path / name
    for folder in (EEG, EYE):
        (home / folder).mkdir(parents=True)
        (home / folder / "7.mat").write_bytes(b"")
    for other in ("SEED", "SEED-V"):
        (tmp_path / other / EEG).mkdir(parents=True)
    for root in (tmp_path, home):
        files = SEEDVII(root).files()
        assert files == [home / EEG / "7.mat", home / EYE / "7.mat"]


def test_folders_that_do_not_fit_are_named(tmp_path):
    with pytest.raises(DataError, match=r"no data root.*EEG_features.*seed-vii"):
        SEEDVII(None).load()
    with pytest.raises(DataError, match=r"nowhere: found nothing here"):
        SEEDVII(tmp_path / "nowhere").load()
    with pytest.raises(DataError, match=r"none of EEG_features/, SEED-VII/EEG_f"):
        SEEDVII(tmp_path).load()
    with pytest.raises(DataError, match=r"none of EEG_preprocessed/, SEED-VII/EEG_pre"):
        SEEDVII(tmp_path, source="computed").load()
    (tmp_path / "SEED-VII" / EEG).mkdir(parents=True)
    with pytest.raises(DataError, match=r"EEG_features: found no file of a subject"):
        SEEDVII(tmp_path, eye=False).load()


def test_subjects_that_there_are_not_or_twice(one):
    extra = one / EYE / "21.mat"
    extra.write_bytes(b"")
    with pytest.raises(DataError, match=r"21\.mat: found subject 21.*1 to 20"):
        SEEDVII(one).recordings()
    extra.rename(one / EYE / "01.mat")
    with pytest.raises(DataError, match=r"two of subject 1: 01\.mat and 1\.mat"):
        SEEDVII(one).recordings()
    assert len(SEEDVII(one, eye=False).recordings()) == 1


def test_what_is_missing_is_listed(one):
    missing = SEEDVII(one).missing()
    assert missing == [f"subject {number}" for number in range(2, 21)]
    (one / EYE / "1.mat").unlink()
    with pytest.raises(DataError, match=r"EYE_features: found no file of subject 1,"):
        SEEDVII(one).recordings()


def test_arrays_that_do_not_fit_are_named(one):
    path = one / EEG / "1.mat"
    spoilt = loadmat(path)["de_LDS_8"].copy()
    spoilt[3, 2, 4] = -np.inf
    change(
        path,
        de_LDS_2=eeg_values(1, 2),
        de_LDS_3=np.zeros((4, 5, 62)),
        de_LDS_4=np.zeros((201, 5, 62)),
        de_LDS_5=None,
        de_LDS_8=spoilt,
    )
    change(one / EYE / "1.mat", **{"9": eye_values(1, 9).T, "10": None})
    found = errors(one)
    assert list(found) == [2, 3, 4, 5, 8, 9, 10]
    shape = eeg_values(1, 2).shape
    assert (
        f"'de_LDS_2': found an array of shape {shape}; expected (windows, 5"
        in (found[2])
    )
    assert "'de_LDS_3': found 4 windows; expected 5 to 200 of 4 s" in found[3]
    assert "'de_LDS_4': found 201 windows" in found[4]
    assert "de_LDS_5" in found[5]
    assert "window 4, channel AF4, feature alpha" in found[8]
    assert f"{one / EYE / '1.mat'}, key '9': found an array of shape (33," in found[9]
    assert "'10'" in found[10]


@pytest.mark.parametrize("data", [b"", b"MATLAB 5.0 MAT-file, not", b"\x89HDF\r\n\x1a"])
def test_files_that_are_none_are_named(one, data):
    (one / EYE / "1.mat").write_bytes(data)
    with pytest.raises(DataError, match=r"EYE_features/1\.mat"):
        SEEDVII(one).load()


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"feature": "asm"}, "feature is 'asm'.*; expected one of 'de', 'psd'"),
        (
            {"smoothing": "moving-average"},
            "smoothing is 'moving-average'.*'lds'",
        ),
        ({"source": "raw"}, "source is 'raw'.*'released', 'computed'"),
        ({"eye": None}, "eye is None of type NoneType; expected bool"),
        ({"clip_statistics": 0}, "clip_statistics is 0 of type int; expected bool"),
        (
            {"feature": "psd"},
            "found feature='psd' with smoothing='lds'.*'none'",
        ),
        ({"window": 1}, "found window=1 with source='released'; expected 4"),
        (
            {"window": 1, "source": "computed"},
            "found window=1 with eye=True",
        ),
        (
            {"window": 21, "source": "computed", "eye": False},
            "window is 21; expected 0.5",
        ),
    ],
)
def test_options_that_do_not_fit_are_named(options, found):
    with pytest.raises(ConfigurationError, match=f"^seed-vii: {found}"):
        SEEDVII(None, **options)
