"""SEED-V: the whole layout read back, and what makes other loaders go wrong.

Three people are read whole, and all people's files found by their names.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
from fixtures.seed_v import WINDOWS, eeg_values, eye_values, write_seed_v, write_trials

from domainemo.data.readers.seed_v import SEEDV
from domainemo.errors import ConfigurationError, DataError

NAMES = """FP1 FPZ FP2 AF3 AF4 F7 F5 F3 F1 FZ F2 F4 F6 F8 FT7 FC5 FC3 FC1 FCZ FC2 FC4
FC6 FT8 T7 C5 C3 C1 CZ C2 C4 C6 T8 TP7 CP5 CP3 CP1 CPZ CP2 CP4 CP6 TP8 P7 P5 P3 P1 PZ
P2 P4 P6 P8 PO7 PO5 PO3 POZ PO4 PO6 PO8 CB1 O1 OZ O2 CB2"""
CAP = NAMES.split()
LABELS = [
    *[4, 1, 3, 2, 0, 4, 1, 3, 2, 0, 4, 1, 3, 2, 0],
    *[2, 1, 3, 0, 4, 4, 0, 3, 2, 1, 3, 4, 1, 2, 0],
    *[2, 1, 3, 0, 4, 4, 0, 3, 2, 1, 3, 4, 1, 2, 0],
]
COUNTS = [
    *[18, 24, 59, 46, 36, 64, 74, 17, 66, 35, 43, 43, 58, 60, 38],
    *[59, 47, 16, 31, 32, 14, 60, 57, 30, 24, 46, 29, 23, 54, 19],
    *[72, 16, 41, 22, 13, 59, 21, 18, 57, 71, 55, 29, 51, 32, 44],
]
PER_CLASS = {
    1: [109, 141, 172, 134, 125],
    2: [110, 94, 143, 119, 75],
    3: [87, 138, 161, 114, 101],
}
"""Windows of each class by session, as counted from the published times."""

EEG = "EEG_DE_features"
EYE = "Eye_movement_features"


def stored(path: Path, entry: str = "data") -> dict:
    with np.load(path) as file:
        return pickle.loads(file[entry][()])


def change(path: Path, data: dict | None = None, label: dict | None = None) -> None:
    """Replace trials of a file; those that are None are left out."""
    held = {**stored(path), **(data or {})}
    labels = {**stored(path, "label"), **(label or {})}
    write_trials(
        path,
        {key: value for key, value in held.items() if value is not None},
        {key: value for key, value in labels.items() if value is not None},
    )


def read_one(home: Path):
    reader = SEEDV(home)
    return reader.read(reader.recordings()[0])


def only_error(home: Path, key: int) -> str:
    """Return the message of the one trial that cannot be read."""
    read = read_one(home)
    errors = {n: each for n, each in enumerate(read) if isinstance(each, DataError)}
    assert list(errors) == [key]
    assert len(read) == 45
    return str(errors[key])


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    return write_seed_v(tmp_path_factory.mktemp("first"), subjects=[1])


@pytest.fixture
def one(first, tmp_path):
    """Subject 1: a folder to spoil."""
    return copytree(first, tmp_path / "SEED-V")


# ------------------------------------------------------------------- the whole of it


def test_every_published_file_is_known_by_its_name(tmp_path):
    for folder in (EEG, EYE):
        (tmp_path / folder).mkdir()
        for subject in range(1, 17):
            (tmp_path / folder / f"{subject}_123.npz").touch()
    reader = SEEDV(tmp_path)
    assert [each.subject for each in reader.recordings()] == list(range(1, 17))
    assert reader.missing() == []


def test_whole_people_come_back_exactly(tmp_path):
    people = (1, 9, 16)
    write_seed_v(tmp_path, subjects=people)
    reader = SEEDV(tmp_path)
    data = reader.load()
    eeg, eye = data.inputs.signals["eeg"], data.inputs.signals["eye"]
    windows = data.inputs.windows
    assert WINDOWS == COUNTS
    assert eeg.shape == (3 * 1823, 62, 5)
    assert eye.shape == (3 * 1823, 33, 1)
    row = 0
    for subject in people:
        for key, count in enumerate(COUNTS):
            rows = slice(row, row + count)
            assert np.array_equal(eeg[rows], eeg_values(subject, key))
            values = eye_values(subject, key)
            assert np.array_equal(eye[rows, :, 0], values, equal_nan=True)
            here = windows.iloc[rows]
            place = here[["subject", "session", "trial", "stimulus"]].to_numpy()
            expected = [subject, key // 15 + 1, key % 15 + 1, key + 1]
            assert (place == expected).all()
            assert here["start"].tolist() == [4.0 * w for w in range(count)]
            assert set(data.labels[rows]) == {LABELS[key]}
            row += count
    assert row == len(windows)
    assert data.classes == ("disgust", "fear", "sad", "neutral", "happy")
    for session, expected in PER_CLASS.items():
        rows = windows["session"] == session
        counts = np.bincount(data.labels[rows], minlength=5)
        assert counts.tolist() == [3 * count for count in expected]
    assert "3 subjects, 135 trials" in data.inputs.name


def test_a_value_is_where_the_formula_puts_it(one):
    """Written out once, so that reader and fixture cannot be wrong together."""
    signals = read_one(one)[1].signals
    # Trial 2 follows the 18 windows of trial 1.
    assert signals["eeg"][5, 17, 3] == ((18 + 5) * 62 + 17) * 5 + 3 + 1
    assert signals["eye"][2, 12, 0] == (18 + 2) * 33 + 12 + 1
    assert (
        stored(one / EEG / "1_123.npz")[1][5, 17 * 5 + 3] == (signals["eeg"][5, 17, 3])
    )


def test_modalities_and_title_say_what_is_known(one):
    reader = SEEDV(one)
    modalities = reader.modalities()
    assert list(modalities["eeg"].channels) == CAP
    assert modalities["eeg"].features == ("delta", "theta", "alpha", "beta", "gamma")
    eye = modalities["eye"]
    assert (eye.features, eye.kind) == (("value",), "eye")
    assert eye.channels == tuple(f"measure_{n}" for n in range(1, 34))
    assert reader.title() == (
        "seed-v (released differential entropy, its smoothing undocumented, 4 s "
        "windows, EEG and eye movements)"
    )
    assert reader.release() == (
        "SEED-V, EEG_DE_features and Eye_movement_features; 1 of the 16 released "
        "subjects"
    )
    assert pickle.loads(pickle.dumps(reader)).files() == reader.files()


def test_the_eeg_alone_needs_no_eye_folder(tmp_path):
    home = write_seed_v(tmp_path, subjects=[3], eye=False)
    with pytest.raises(DataError, match=r"no folder Eye_movement.*data\.eye=false"):
        SEEDV(home).load()
    assert len(SEEDV(home).missing()) == 15 + 1
    data = SEEDV(home, eye=False).load()
    assert set(data.inputs.signals) == {"eeg"}
    assert len(data) == 1823
    assert SEEDV(home, eye=False).title().endswith("EEG alone)")


# ------------------------------------------- traps: a naive loader fails, ours does not


def test_trap_the_columns_are_electrode_by_electrode(one):
    held = stored(one / EEG / "1_123.npz")[0]
    naive = held.reshape(-1, 5, 62).transpose(0, 2, 1)
    expected = eeg_values(1, 0)
    assert naive.shape == expected.shape
    assert (naive != expected).any()
    assert np.array_equal(read_one(one)[0].signals["eeg"], expected)


def test_trap_keys_are_numbers_not_text(one):
    held = stored(one / EEG / "1_123.npz")
    assert "0" not in held
    naive = [LABELS[int(key)] for key in sorted(map(str, held))]
    assert naive != LABELS
    assert [trial.label for trial in read_one(one)] == LABELS


@pytest.mark.parametrize("key", [str, np.int64, np.int32])
def test_keys_of_other_types_are_read_alike(tmp_path, key):
    home = write_seed_v(tmp_path, subjects=[2], key=key)
    read = read_one(home)
    assert [trial.stimulus for trial in read] == list(range(1, 46))
    assert np.array_equal(read[9].signals["eeg"], eeg_values(2, 9))
    assert np.array_equal(
        read[10].signals["eye"][:, :, 0], eye_values(2, 10), equal_nan=True
    )


def test_keys_in_any_order_are_read_alike(one):
    path = one / EEG / "1_123.npz"
    backward = dict(reversed(stored(path).items()))
    write_trials(path, backward)
    naive = next(iter(stored(path).values()))
    assert not np.array_equal(naive.reshape(-1, 62, 5), eeg_values(1, 0))
    assert np.array_equal(read_one(one)[0].signals["eeg"], eeg_values(1, 0))


def test_trap_subjects_sorted_as_text(tmp_path):
    home = write_seed_v(tmp_path, subjects=(1, 2, 10))
    naive = [path.name for path in sorted((home / EEG).glob("[0-9]*.npz"))]
    assert naive[0] == "10_123.npz"
    read = SEEDV(home).recordings()
    assert [each.subject for each in read] == [1, 2, 10]
    assert read[1].files["eeg"] == home / EEG / "2_123.npz"
    assert read[1].files["eye"] == home / EYE / "2_123.npz"


def test_trap_eye_and_eeg_of_different_lengths(tmp_path):
    more = {(1, 1): 1, (1, 2): -2, (1, 40): -1, (1, 44): 2}
    home = write_seed_v(tmp_path, subjects=[1], eye_more=more)
    data = SEEDV(home).load()
    # Every value tells its window: that of the EEG must be that of the eye.
    of_eeg = (data.inputs.signals["eeg"][:, 0, 0] - 1) // 310
    of_eye = (data.inputs.signals["eye"][:, 0, 0] - 1) // 33
    assert np.array_equal(of_eeg, of_eye)
    counts = data.inputs.windows.groupby("stimulus").size()
    expected = np.array(COUNTS)
    expected[[2, 40]] -= [2, 1]
    assert counts.tolist() == expected.tolist()
    for note in (
        "eye cut by 1 window to the length of the EEG in 1 trial",
        "eye cut by 2 windows to the length of the EEG in 1 trial",
        "EEG cut by 2 windows to the length of the eye in 1 trial",
        "EEG cut by 1 window to the length of the eye in 1 trial",
    ):
        assert note in data.inputs.name
    held = stored(home / EYE / "1_123.npz")
    naive = np.concatenate([held[key] for key in range(45)])[:1823, 0]
    assert len(naive) == 1823
    assert ((naive - 1) // 33 != np.arange(1823)).any()


def test_eye_and_eeg_that_are_not_of_one_trial(tmp_path):
    home = write_seed_v(tmp_path, subjects=[1], eye_more={(1, 20): 3})
    message = only_error(home, 20)
    assert "key 'data', trial 20: found 17 windows of eye measures and 14" in message


def test_trap_what_the_tracker_lost_stays_lost(one):
    eye = SEEDV(one).load().inputs.signals["eye"][:, :, 0]
    expected = np.concatenate([eye_values(1, key) for key in range(45)])
    assert np.isfinite(np.nan_to_num(expected)).all()
    assert np.isnan(expected).any(axis=0).nonzero()[0].tolist() == [18, 19]
    assert np.array_equal(np.isnan(eye), np.isnan(expected))


# ------------------------------------------------------------------------- labels


@pytest.mark.parametrize("folder", [EEG, EYE])
def test_labels_other_than_published_are_named(one, folder):
    path = one / folder / "1_123.npz"
    change(path, label={17: np.full(16, 4.0)})
    message = only_error(one, 17)
    assert message.startswith(f"{path}, key 'label', trial 17: found the label 4; ")
    assert "expected 3 (neutral) in every window" in message


@pytest.mark.parametrize("folder", [EEG, EYE])
def test_labels_that_change_in_a_trial_are_named(one, folder):
    mixed = np.full(16, 3.0)
    mixed[-1] = 2
    change(one / folder / "1_123.npz", label={17: mixed})
    assert "trial 17: found the label 2, 3; expected 3" in only_error(one, 17)


@pytest.mark.parametrize("folder", [EEG, EYE])
def test_labels_of_another_length_are_named(one, folder):
    change(one / folder / "1_123.npz", label={17: np.full(15, 3)})
    message = only_error(one, 17)
    assert "shape (15,); expected 16 numbers, one for each window" in message


def test_labels_may_be_whole_numbers_or_a_column(one):
    change(one / EEG / "1_123.npz", label={17: np.full((16, 1), 3, np.uint8)})
    assert read_one(one)[17].label == 3


def test_trials_in_another_order_are_caught_by_the_labels(one):
    """A file whose trials are numbered in the order of their names as text."""
    for folder in (EEG, EYE):
        path = one / folder / "1_123.npz"
        order = sorted(range(45), key=str)
        data, labels = stored(path), stored(path, "label")
        write_trials(
            path,
            {new: data[old] for new, old in enumerate(order)},
            {new: labels[old] for new, old in enumerate(order)},
        )
    with pytest.raises(DataError, match=r"trial 2: found the label 4; expected 3"):
        SEEDV(one).load()


# ----------------------------------------------------------------- what does not fit


def test_a_length_other_than_published_is_named(one):
    for folder in (EEG, EYE):
        path = one / folder / "1_123.npz"
        short = stored(path)[17][:15]
        change(path, data={17: short}, label={17: np.full(15, 3)})
    message = only_error(one, 17)
    assert f"{one / EEG}" in message
    assert "trial 17: found 15 windows; expected 16, the clip's length" in message


@pytest.mark.parametrize("folder", [EEG, EYE])
@pytest.mark.parametrize(
    ("value", "found"),
    [
        (np.zeros((16, 309)), r"shape \(16, 309\)"),
        (np.zeros(16 * 310), r"shape \(4960,\)"),
        (np.full((16, 310), "x"), r"of <U1 of shape"),
        ("text", "type str"),
        ([[1.0], [1.0, 2.0]], "type list"),
    ],
)
def test_arrays_that_do_not_fit_are_named(one, folder, value, found):
    path = one / folder / "1_123.npz"
    labels = stored(path, "label")
    write_trials(path, {**stored(path), 17: value}, labels)
    with pytest.raises(
        DataError, match=rf"{folder}.*key 'data', trial 17: found .*{found}.*\(windows"
    ):
        SEEDV(one).load()


def test_infinity_is_named(one):
    spoilt = eeg_values(1, 17).reshape(16, 310)
    spoilt[3, 4 * 5 + 2] = np.inf
    change(one / EEG / "1_123.npz", data={17: spoilt})
    assert "window 4, channel AF4, feature alpha" in only_error(one, 17)


def test_keys_that_are_not_0_to_44_are_named(one):
    path = one / EEG / "1_123.npz"
    data, labels = stored(path), stored(path, "label")
    for keys in (range(1, 46), range(44), [*range(45), "extra"], [*range(44), "-1"]):
        named = dict(zip(keys, [*data.values(), data[0]], strict=False))
        write_trials(path, named, labels, key=lambda key: key)
        with pytest.raises(
            DataError, match=r"1_123\.npz, key 'data': found 4\d keys: .*0 to 44"
        ):
            SEEDV(one).load()
    twice = {**data, "7": data[7]}
    write_trials(path, twice, labels, key=lambda key: key)
    with pytest.raises(DataError, match=r"key 'data': found 46 keys"):
        SEEDV(one).load()
    np.savez(path, data=pickle.dumps([1, 2]), label=pickle.dumps(labels))
    with pytest.raises(DataError, match=r"key 'data': found an object of type list"):
        SEEDV(one).load()


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 cut off", b"\x80\x03}q\0."])
def test_files_that_are_none_are_named(one, data):
    (one / EYE / "1_123.npz").write_bytes(data)
    with pytest.raises(DataError, match=r"Eye_movement_features/1_123\.npz"):
        SEEDV(one).load()


def test_an_archive_without_labels_is_named(one):
    path = one / EEG / "1_123.npz"
    np.savez(path, data=pickle.dumps(stored(path)))
    with pytest.raises(DataError, match=r"1_123\.npz, key 'label'"):
        SEEDV(one).load()


@pytest.mark.parametrize("name", ["SEED-V", "SEED_V", "seedv", "Seed V"])
def test_the_folder_is_found_under_its_names(tmp_path, name):
    home = write_seed_v(tmp_path, subjects=[4], folder=name)
    for other in ("SEED", "SEED-IV", "SEED-VII"):
        (tmp_path / other / EEG).mkdir(parents=True)
    for root in (tmp_path, home):
        assert [path.parent.parent for path in SEEDV(root).files()] == [home] * 2


def test_folders_that_do_not_fit_are_named(tmp_path):
    with pytest.raises(DataError, match=r"no data root.*EEG_DE_features.*seed-v"):
        SEEDV(None).load()
    with pytest.raises(DataError, match=r"nowhere: found nothing here"):
        SEEDV(tmp_path / "nowhere").load()
    with pytest.raises(DataError, match=r"none of EEG_DE_features/, SEED-V/EEG_DE_fe"):
        SEEDV(tmp_path).load()
    (tmp_path / "SEED-V" / EEG).mkdir(parents=True)
    with pytest.raises(DataError, match=r"EEG_DE_features: found no file of a subject"):
        SEEDV(tmp_path, eye=False).load()


def test_subjects_that_there_are_not_or_twice(one):
    """Of the 20 subjects that others speak of, 16 are released."""
    path = one / EEG / "1_123.npz"
    extra = path.with_name("17_123.npz")
    extra.write_bytes(b"")
    with pytest.raises(DataError, match=r"17_123\.npz: found subject 17.*1 to 16"):
        SEEDV(one).recordings()
    extra.rename(path.with_name("1_2.npz"))
    with pytest.raises(DataError, match=r"two of subject 1: 1_123\.npz and 1_2\.npz"):
        SEEDV(one).recordings()


def test_what_is_missing_is_listed(one):
    missing = SEEDV(one).missing()
    assert missing == [f"subject {number}" for number in range(2, 17)]
    (one / EYE / "1_123.npz").unlink()
    with pytest.raises(DataError, match=r"found no file of subject 1, whose.*eye=f"):
        SEEDV(one).recordings()
    assert len(SEEDV(one, eye=False).missing()) == 15


def test_options_that_do_not_fit_are_named():
    with pytest.raises(ConfigurationError, match=r"^seed-v: eye is 'no' of type str"):
        SEEDV(None, eye="no")
