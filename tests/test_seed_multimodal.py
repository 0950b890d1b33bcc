"""SEED_Multimodal: the publisher's layout in full, and every way to misread it.

About 4 s on one core, a quarter of it to write and read all 36 sessions in full length.
"""

from __future__ import annotations

import pickle
import re
import shutil

import numpy as np
import pytest
from fixtures.seed_multimodal import (
    eeg_value,
    eye_value,
    python_2_pickle,
    write_seed_multimodal,
)

from domainemo.core import PROVENANCE
from domainemo.data.readers.seed_multimodal import SEEDMultimodal
from domainemo.errors import ConfigurationError, DataError
from domainemo.registry import find

# fmt: off
SECONDS = [235, 233, 206, 238, 185, 195, 237, 216, 265, 237, 235, 233, 235, 238, 206]
WINDOWS = [58, 58, 51, 59, 46, 48, 59, 54, 66, 59, 58, 58, 58, 59, 51]
LABELS = [2, 1, 0, 0, 1, 2, 0, 1, 2, 2, 1, 0, 1, 2, 0]
# fmt: on
SUBJECTS = [1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13, 14]
BANDS = ("delta", "theta", "alpha", "beta", "gamma")
EEG = "SEED_Multimodal/Chinese/02-EEG-DE-feature/eeg_used_4s"
EYE = "SEED_Multimodal/Chinese/04-Eye-tracking-feature/eye_tracking_feature"


def eeg_expected(subject, session, trial, windows):
    place = np.ogrid[1 : windows + 1, 1:63, 1:6]
    return eeg_value(subject, session, trial, *place)


def eye_expected(subject, session, trial):
    place = np.ogrid[1 : WINDOWS[trial - 1] + 1, 1:34]
    return eye_value(subject, session, trial, *place)


def read(root, **options):
    """Every trial of every recording, errors raised."""
    reader, trials = SEEDMultimodal(root, **options), {}
    for recording in reader.recordings():
        for trial in reader.read(recording):
            if isinstance(trial, DataError):
                raise trial
            trials[recording.subject, trial.session, trial.trial] = trial
    return trials


def stored(root, name="8_2"):
    """A session's files opened with nothing but NumPy and pickle."""
    with np.load(root / EEG / f"{name}.npz") as file:
        entries = dict(file)
    for part in ("train", "test"):
        entries[f"{part}_data"] = pickle.loads(entries[f"{part}_data"].item())
    eye = pickle.loads((root / EYE / name).read_bytes(), encoding="latin1")
    return entries, eye


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """Subject 8's session 2; not to be changed."""
    root = tmp_path_factory.mktemp("seed_multimodal")
    write_seed_multimodal(root, subjects=[8], sessions=[2], windows=(4, 1))
    return root


# ------------------------------------------------------------------ the full layout


def test_the_whole_data_set_comes_back(tmp_path):
    home = write_seed_multimodal(tmp_path)
    reader = SEEDMultimodal(tmp_path)
    assert reader.missing() == []
    assert len(reader.files()) == 72
    data = reader.load()
    shutil.rmtree(home)
    windows = data.inputs.windows
    assert tuple(windows.columns) == PROVENANCE
    assert len(data) == 36 * (499 + 343)
    assert data.classes == ("negative", "neutral", "positive")
    eeg, eye = data.inputs.signals["eeg"], data.inputs.signals["eye"]
    row = 0
    # 6, 7 and 15 have no eye movements; the others keep their numbers.
    for subject in SUBJECTS:
        for session in (1, 2, 3):
            for trial, count in enumerate(WINDOWS, 1):
                rows = slice(row, row + count)
                place = windows.iloc[rows]
                assert (place["subject"] == subject).all()
                assert (place["session"] == session).all()
                assert (place["trial"] == trial).all()
                assert (place["stimulus"] == trial).all()
                assert (data.labels[rows] == LABELS[trial - 1]).all()
                assert np.array_equal(place["start"], np.arange(count) * 4)
                values = eeg_expected(subject, session, trial, count)
                assert np.array_equal(eeg[rows], values)
                values = eye_expected(subject, session, trial)
                assert np.array_equal(eye[rows, :, 0], values)
                row += count
    assert row == len(data)


def test_channels_and_features_are_named():
    modalities = SEEDMultimodal(None).modalities()
    eeg, eye = modalities["eeg"], modalities["eye"]
    assert (len(eeg.channels), eeg.features, eeg.kind) == (62, BANDS, "eeg")
    assert (eeg.channels[:3], eeg.channels[-1]) == (("FP1", "FPZ", "FP2"), "CB2")
    assert eye.channels == tuple(f"measure_{n}" for n in range(1, 34))
    assert (eye.features, eye.kind) == (("value",), "eye")


def test_it_is_found_by_its_name():
    assert find("dataset", "seed-multimodal") is SEEDMultimodal
    assert SEEDMultimodal(None).title() == (
        "seed-multimodal (SEED_Multimodal, Chinese: EEG differential entropy and eye "
        "movements as released, 4 s windows)"
    )


def test_the_fixture_tells_neighbours_apart():
    """Without this, a mix-up could pass the tests unseen."""
    here = (3, 2, 5, 7, 11, 4)
    for axis in range(6):
        there = list(here)
        there[axis] += 1
        assert eeg_value(*here) != eeg_value(*there)
        if axis < 5:
            assert eye_value(*here[:5]) != eye_value(*there[:5])


def test_windows_of_one_second_put_the_eye_on_the_eeg_clock(one):
    # Each of the eye's windows stands in four rows, which splits must not tear apart.
    made = SEEDMultimodal(one, window=1.0).modalities()
    assert made["eye"].span == 4 and made["eeg"].span is None
    trials = read(one, window=1.0)
    assert list(trials) == [(8, 2, trial) for trial in range(1, 16)]
    for (_, _, number), trial in trials.items():
        seconds = SECONDS[number - 1]
        values = eeg_expected(8, 2, number, seconds)
        assert np.array_equal(trial.signals["eeg"], values)
        assert np.array_equal(trial.start, np.arange(seconds))
        assert trial.label == LABELS[number - 1]
        eye = eye_expected(8, 2, number)
        for second in range(seconds):
            row = trial.signals["eye"][second, :, 0]
            window = second // 4
            if window < len(eye):
                assert np.array_equal(row, eye[window])
            else:
                assert np.isnan(row).all()
        assert trial.notes == (
            "each 4 s eye window repeated for the EEG windows in it",
        )
    data = SEEDMultimodal(one, window=1.0).load()
    assert len(data) == 3394
    assert "eye window repeated for the EEG windows in it in 15 trials" in (
        data.inputs.name
    )


# --------------------------------------------------------------------------- traps


def test_trials_end_where_their_last_window_is_not_where_labels_change(one):
    """Trials 3 and 4 are both negative: the labels show no boundary between them.

    A known loader cuts them into 50 and 60 windows and no check of labels tells; only
    the values do, whose 51st window is still of trial 3.
    """
    entries, _ = stored(one)
    start = 58 + 58
    naive = [slice(start, start + 50), slice(start + 50, start + 110)]
    for rows in naive:
        assert (entries["train_label"][rows] == 0).all()
    assert naive[1].stop == start + 51 + 59
    trials = read(one)
    third, fourth = (trials[8, 2, trial].signals for trial in (3, 4))
    assert (len(third["eeg"]), len(fourth["eeg"])) == (51, 59)
    assert np.array_equal(third["eeg"][50], eeg_expected(8, 2, 3, 51)[50])
    assert np.array_equal(fourth["eeg"][0], eeg_expected(8, 2, 4, 59)[0])
    assert np.array_equal(third["eye"][50, :, 0], eye_expected(8, 2, 3)[50])
    delta = entries["train_data"]["delta"]
    first_of_naive_fourth = delta[naive[1]][0]
    assert np.array_equal(first_of_naive_fourth, third["eeg"][50, :, 0])


def test_bands_are_found_by_name_and_come_last(one):
    """The usual hstack is band by band, and a dictionary's order is none."""
    entries, _ = stored(one)
    values = eeg_expected(8, 2, 1, 58)
    bands = entries["train_data"]
    stacked = np.hstack([bands[band] for band in BANDS])[:58]
    assert not np.array_equal(stacked.reshape(58, 62, 5), values)
    in_file_order = np.stack(list(bands.values()), axis=-1)[:58]
    assert not np.array_equal(in_file_order, values)
    assert np.array_equal(read(one)[8, 2, 1].signals["eeg"], values)


def test_subjects_keep_their_numbers_and_are_ordered_as_numbers(tmp_path):
    write_seed_multimodal(tmp_path, subjects=[5, 8, 10], sessions=[3, 1])
    naive = sorted(path.name for path in (tmp_path / EEG).iterdir())
    assert naive[0] == "10_1.npz"  # which would be subject 1
    reader = SEEDMultimodal(tmp_path)
    found = [(each.subject, each.session) for each in reader.recordings()]
    assert found == [(5, 1), (5, 3), (8, 1), (8, 3), (10, 1), (10, 3)]
    for recording in reader.recordings():
        # The session is the name's, even where session 2 is not there.
        name = f"{recording.subject}_{recording.session}"
        assert recording.files["eeg"].name == f"{name}.npz"
        assert recording.files["eye"].name == name
    missing = reader.missing()
    assert missing[:5] == [
        *(f"subject {n}" for n in range(1, 5)),
        "subject 5, session 2",
    ]
    assert not {"subject 6", "subject 7", "subject 15"} & set(missing)


@pytest.mark.parametrize("dtype", ["f8", "i1", "i8"])
def test_labels_of_any_numeric_type_become_whole_numbers(tmp_path, dtype):
    write_seed_multimodal(tmp_path, subjects=[8], sessions=[2], label_dtype=dtype)
    if dtype == "f8":
        first = stored(tmp_path)[0]["train_label"][0]
        with pytest.raises(TypeError):
            ("negative", "neutral", "positive")[first]  # as a naive reader would
    trials = read(tmp_path)
    assert [trial.label for trial in trials.values()] == LABELS
    assert all(isinstance(trial.label, int) for trial in trials.values())


def test_a_measure_that_the_eye_tracker_lost_stays_lost(tmp_path):
    write_seed_multimodal(tmp_path, subjects=[8], sessions=[2], lost_columns=[17])
    for (_, _, number), trial in read(tmp_path).items():
        eye = trial.signals["eye"][:, :, 0]
        assert np.isnan(eye[:, 16]).all()
        others = np.delete(np.arange(33), 16)
        assert np.array_equal(eye[:, others], eye_expected(8, 2, number)[:, others])
        assert trial.notes == ("NaN among the eye's measures as released",)


# ------------------------------------------------------------- where the files lie


@pytest.mark.parametrize("above", ["", "SEED/"])
@pytest.mark.parametrize("root", ["", "SEED_Multimodal", "SEED_Multimodal/Chinese"])
def test_files_are_found_wherever_they_may_lie(tmp_path, above, root):
    for name in (f"{EEG}/1_1.npz", f"{EYE}/1_1"):
        path = tmp_path / f"{above}{name}"
        path.parent.mkdir(parents=True)
        path.touch()
    here = tmp_path / above / root if root else tmp_path
    (recording,) = SEEDMultimodal(here).recordings()
    assert (recording.subject, recording.session) == (1, 1)
    assert SEEDMultimodal(here).release() == (
        "SEED_Multimodal, eeg_used_4s and eye_tracking_feature"
    )


def test_folders_that_do_not_fit_are_named(tmp_path, one):
    with pytest.raises(DataError, match=r"^seed-multimodal: found no data root"):
        SEEDMultimodal(None).load()
    with pytest.raises(DataError, match=r"nowhere: found nothing here"):
        SEEDMultimodal(tmp_path / "nowhere").load()
    with pytest.raises(DataError, match=r"an empty folder.*eeg_used_4s"):
        SEEDMultimodal(tmp_path).load()
    (tmp_path / EEG).mkdir(parents=True)
    (tmp_path / EEG / "1_1.npz").touch()
    with pytest.raises(DataError, match=r"04-Eye-tracking-feature/eye_tracking_feat"):
        SEEDMultimodal(tmp_path).load()
    with pytest.raises(DataError, match=r"eeg_used_1s"):
        SEEDMultimodal(tmp_path, window=1.0).load()


@pytest.mark.parametrize("name", ["6_1", "15_2", "1_4", "01_1"])
def test_other_subjects_and_sessions_are_named(tmp_path, name):
    for path in (tmp_path / EEG / "1_1.npz", tmp_path / EYE / "1_1"):
        path.parent.mkdir(parents=True)
        path.touch()
    (tmp_path / EEG / f"{name}.npz").touch()
    with pytest.raises(DataError, match=r"found 0?\d+_\d\.npz; expected one file"):
        SEEDMultimodal(tmp_path).recordings()


@pytest.mark.parametrize("window", [2.0, 0, "4s"])
def test_windows_that_were_not_released_are_named(window):
    found = re.escape(repr(window))
    with pytest.raises(
        ConfigurationError, match=f"^seed-multimodal: .*window.*{found}"
    ):
        SEEDMultimodal(None, window=window)


# ----------------------------------------------------------------------- bad files


def rewrite(root, tmp_path, *, eeg=None, eye=None):
    """Copy the session with other entries, and return the errors of reading it."""
    entries, measures = stored(root)
    entries |= eeg or {}
    measures |= eye or {}
    for part in ("train", "test"):
        entries[f"{part}_data"] = np.array(pickle.dumps(entries[f"{part}_data"]))
    for folder in (EEG, EYE):
        (tmp_path / folder).mkdir(parents=True)
    np.savez(tmp_path / EEG / "8_2.npz", **entries)
    (tmp_path / EYE / "8_2").write_bytes(python_2_pickle(measures))
    reader = SEEDMultimodal(tmp_path)
    (recording,) = reader.recordings()
    read = reader.read(recording)
    errors = [str(each) for each in read if isinstance(each, DataError)]
    for error in errors:
        assert str(tmp_path) in error
        assert "expected" in error
    return len(read) - len(errors), errors


def test_another_label_is_named_and_the_other_trials_read(one, tmp_path):
    labels = stored(one)[0]["train_label"].copy()
    labels[58 + 57] = 2  # the last window of trial 2
    good, (error,) = rewrite(one, tmp_path, eeg={"train_label": labels})
    assert good == 14
    assert "8_2.npz, train_label, trial 2: found the label 2 in 1 of 58" in error
    assert "expected 1 (neutral) in all" in error


@pytest.mark.parametrize(
    ("file", "key", "value", "found"),
    [
        ("eeg", "test_label", np.zeros(342), "test_label: found 342 windows"),
        (
            "eeg",
            "train_data",
            {"delta": np.zeros((499, 62))},
            "theta: found nothing am",
        ),
        ("eeg", "train_data", [1, 2], "train_data: found a list"),
        (
            "eeg",
            "train_data",
            {band: np.zeros((498, 62)) for band in BANDS},
            "train_data, delta: found 498 windows; expected 499, the 4 s windows of "
            "trials 1 to 9",
        ),
        (
            "eeg",
            "train_data",
            {band: np.zeros((62, 499)) for band in BANDS},
            r"train_data, delta: found a float64 array of shape \(62, 499\)",
        ),
        ("eye", "test_data_eye", np.zeros((342, 33)), "test_data_eye: found 342 win"),
        ("eye", "train_data_eye", np.zeros((499, 31)), r"shape \(499, 31\); expected"),
        ("eye", "train_data_eye", "nothing", "train_data_eye: found a str"),
    ],
)
def test_entries_that_do_not_fit_are_named(one, tmp_path, file, key, value, found):
    _, errors = rewrite(one, tmp_path, **{file: {key: value}})
    assert len(errors) == 1
    assert re.search(found, errors[0])


def test_features_of_one_second_in_the_folder_of_four_are_named(tmp_path):
    home = write_seed_multimodal(tmp_path, subjects=[8], sessions=[2], windows=[1])
    above = home / "02-EEG-DE-feature"
    (above / "eeg_used_1s").rename(above / "eeg_used_4s")
    with pytest.raises(DataError, match="found 2010 windows; expected 499"):
        SEEDMultimodal(tmp_path).load()


@pytest.mark.parametrize("gone", ["eeg", "eye"])
def test_a_session_with_one_of_two_files_is_named(tmp_path, gone):
    write_seed_multimodal(tmp_path, subjects=[8], sessions=[1, 2])
    path = tmp_path / (f"{EEG}/8_2.npz" if gone == "eeg" else f"{EYE}/8_2")
    path.unlink()
    left = "eye" if gone == "eeg" else "eeg"
    reader = SEEDMultimodal(tmp_path)
    read = [reader.read(recording) for recording in reader.recordings()]
    assert len(read[0]) == 15
    (error,) = read[1]
    assert f"found the {left} file of subject 8, session 2 alone" in str(error)
    assert "Fetch the missing file" in str(error)


@pytest.mark.parametrize("name", [f"{EEG}/8_2.npz", f"{EYE}/8_2"])
def test_a_file_that_is_something_else_is_named(tmp_path, name):
    write_seed_multimodal(tmp_path, subjects=[8], sessions=[2])
    (tmp_path / name).write_bytes(b"<html>please log in</html>")
    with pytest.raises(DataError, match=re.escape(str(tmp_path / name))):
        SEEDMultimodal(tmp_path).load()
