"""eSports Sensors: every window in its place, both targets, files that do not fit.

Takes 5 s, of which 3 s are for the development recordings where they are there.
"""

import os
import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from fixtures.esports import write_esports

from domainemo.core import PROVENANCE
from domainemo.data.readers.esports import Esports
from domainemo.errors import ConfigurationError, DataError
from domainemo.registry import find

DATA = Path(
    os.environ.get("DOMAINEMO_DATA")
    or Path(__file__).parents[1].parent / "shared" / "data"
)
FILE = "esports_mm/windows_10s.npz"
needs_recordings = pytest.mark.skipif(
    not (DATA / FILE).is_file(),
    reason=f"needs {FILE}; name its data root in DOMAINEMO_DATA",
)
ARRAYS = {"eeg": "eeg", "eye": "eye", "physiology": "phys", "behaviour": "beh"}
STARTS = [0, 10, 20, 30]


def assert_each_window_is_its_row(data, raw, label):
    """Look each window up in the file by its place, one by one."""
    at = {
        tuple(map(int, place)): row
        for row, place in enumerate(
            zip(raw["subject"], raw["day"], raw["match"], raw["t0"], strict=True)
        )
    }
    described = data.inputs.modalities
    for i, window in enumerate(data.inputs.windows.itertuples(index=False)):
        row = at[window.subject, window.session, window.trial, int(window.start)]
        assert window.stimulus == raw["match"][row]
        assert data.classes[data.labels[i]] == label(row)
        for name, key in ARRAYS.items():
            found = data.inputs.signals[name][i]
            if name != "eeg":
                np.testing.assert_array_equal(found[:, 0], raw[key][row])
    for column, name in enumerate(raw["eeg_names"].tolist()):
        statistic, channel, band = re.split("[:/]", name)
        electrode = described["eeg"].channels.index(channel)
        feature = described["eeg"].features.index(f"{statistic}_{band}")
        places = data.inputs.windows[["subject", "session", "trial", "start"]]
        rows = [at[tuple(map(int, place))] for place in places.to_numpy()]
        np.testing.assert_array_equal(
            data.inputs.signals["eeg"][:, electrode, feature], raw["eeg"][rows, column]
        )
    for name, key in list(ARRAYS.items())[1:]:
        assert described[name].channels == tuple(raw[f"{key}_names"].tolist())
        assert (described[name].features, described[name].kind) == (("value",), name)


def opponents(raw):
    return lambda row: ("bots", "humans")[raw["y_opponents"][row]]


@pytest.mark.parametrize("folder", ["", "esports_mm"])
def test_every_window_is_in_its_place(tmp_path, folder):
    raw = write_esports(tmp_path / folder)
    data = Esports(tmp_path).load()
    assert_each_window_is_its_row(data, raw, opponents(raw))
    windows = data.inputs.windows
    assert tuple(windows.columns) == PROVENANCE
    assert windows["subject"].tolist() == [0] * 16 + [5] * 16
    assert windows["session"].tolist() == ([0] * 8 + [1] * 8) * 2
    assert windows["trial"].tolist() == np.repeat([0, 1, 2, 3] * 2, 4).tolist()
    assert windows["start"].tolist() == STARTS * 8
    assert data.labels.tolist() == np.repeat([0, 1, 0, 1] * 2, 4).tolist()
    eeg = data.inputs.modalities["eeg"]
    assert eeg.channels == ("AF3", "T7", "Pz", "T8", "AF4") and eeg.kind == "eeg"
    assert eeg.features[:2] == ("logP_mean_theta", "logP_mean_alpha")
    assert eeg.features[9] == "logP_std_gamma" and len(eeg.features) == 10
    assert np.isnan(data.inputs.signals["eeg"][16:]).all()
    assert np.isfinite(data.inputs.signals["eeg"][:16]).all()


def test_reported_load_is_another_target(tmp_path):
    raw = write_esports(tmp_path)
    reader = Esports(tmp_path, target="load")
    data = reader.load()
    assert data.classes == ("1", "2", "3", "4", "5")
    assert_each_window_is_its_row(data, raw, lambda row: str(raw["mental_load"][row]))
    trials = data.inputs.windows[["subject", "trial"]].drop_duplicates()
    # Player 5 reported on match 1 alone.
    assert trials.to_numpy().tolist() == [[0, 0], [0, 1], [0, 2], [0, 3], [5, 1]]
    assert "load" in data.inputs.name and "load" not in Esports(tmp_path).title()


def test_columns_are_found_by_their_names(tmp_path):
    raw = write_esports(tmp_path / "one")
    rng = np.random.default_rng(0)
    changes = {}
    for key in ("eeg", "eye", "phys", "beh"):
        order = rng.permutation(raw[key].shape[1])
        changes[key] = raw[key][:, order]
        changes[f"{key}_names"] = raw[f"{key}_names"][order]
    write_esports(tmp_path / "other", **changes)
    one, other = Esports(tmp_path / "one").load(), Esports(tmp_path / "other").load()
    for name, signal in one.inputs.signals.items():
        np.testing.assert_array_equal(signal, other.inputs.signals[name])


def test_what_it_says_of_itself(tmp_path):
    write_esports(tmp_path)
    reader = Esports(tmp_path)
    assert find("dataset", "esports") is Esports
    assert [each.subject for each in reader.recordings()] == [0, 5]
    assert reader.files() == [tmp_path / "windows_10s.npz"]
    assert "2 of 10 players" in reader.release()
    assert reader.missing()[0] == "subject 1" and len(reader.missing()) == 8
    assert "10 s windows, opponents" in reader.title()
    assert reader.home.startswith("https://github.com/smerdov/")


def test_a_file_that_changes_is_read_again(tmp_path):
    raw = write_esports(tmp_path)
    before = Esports(tmp_path).load()
    write_esports(tmp_path, eye=raw["eye"] + 1)
    os.utime(tmp_path / "windows_10s.npz", ns=(1, 1))
    after = Esports(tmp_path).load()
    np.testing.assert_allclose(
        after.inputs.signals["eye"], before.inputs.signals["eye"] + 1, rtol=1e-6
    )


def test_a_reader_can_be_sent_to_another_process(tmp_path):
    write_esports(tmp_path)
    reader = Esports(tmp_path, target="load")
    sent = pickle.loads(pickle.dumps(reader))
    assert vars(sent) == vars(reader)


# ------------------------------------------------------------------------ bad input

ROWS = 32
TIMES = np.tile(np.repeat(STARTS, 2), 4)


def edited(array, at, value):
    array = np.array(array)
    array[at] = value
    return array


BAD = {
    "no array": ({"beh": None}, "'beh'"),
    "pickled": ({"eye": np.zeros((ROWS, 5), dtype=object)}, "eye"),
    "short": ({"t0": TIMES[:-1]}, r"'t0': found .*\(31,\); expected .*32 windows"),
    "no number": ({"t0": TIMES / 10}, r"'t0': found .*float64"),
    "one subject": ({"subject": np.int16(1)}, "whole number for each of the 1 windows"),
    "columns": ({"eye": np.zeros((ROWS, 4))}, r"'eye': found .*\(32, 4\).*\(32, 5\)"),
    "words": ({"eye": np.full((ROWS, 5), "a")}, "'eye': found an array of <U1"),
    "a name": (
        {"beh_names": np.array(["log_mouse_mean", "log_mouse_std", "clicks", "kys"])},
        r"'beh_names': found 4 names, without clicks_mean, keys_mean, with clicks, kys",
    ),
    "name twice": (
        {"beh_names": np.array(["keys_mean"] * 4)},
        "'beh_names': found 4 names, without log_mouse_mean",
    ),
    "third class": (
        {"y_opponents": edited(np.zeros(ROWS, int), 5, 2)},
        "'y_opponents': found 2 in row 5",
    ),
    "load 0": (
        {"mental_load": edited(np.ones(ROWS, int), 3, 0)},
        "'mental_load': found 0 in row 3",
    ),
    "start twice": (
        {"t0": edited(TIMES, 2, 0)},
        "subject 5, session 1, trial 2: found two windows that start at 0 s",
    ),
    "two labels": (
        {"y_opponents": edited(np.zeros(ROWS, int), 1, 1)},
        "subject 0, session 1, trial 2: found the label 0 and the label 1",
    ),
    "infinite": ({"eye": edited(np.zeros((ROWS, 5)), (3, 2), np.inf)}, "pupil_mean"),
}


@pytest.mark.parametrize("case", BAD)
def test_files_that_do_not_fit_are_named(tmp_path, case):
    changes, found = BAD[case]
    write_esports(tmp_path, **changes)
    with pytest.raises(DataError, match=found) as caught:
        Esports(tmp_path).load()
    message = str(caught.value)
    assert str(tmp_path / "windows_10s.npz") in message
    assert "expected" in message and "\n" not in message


def test_other_trials_can_still_be_read(tmp_path):
    write_esports(tmp_path, t0=edited(TIMES, 2, 0))
    reader = Esports(tmp_path)
    read = reader.read(reader.recordings()[1])
    assert [isinstance(trial, DataError) for trial in read] == [
        False,
        False,
        True,
        False,
    ]


def test_a_damaged_file_is_named(tmp_path):
    write_esports(tmp_path)
    path = tmp_path / "windows_10s.npz"
    for content in (b"", b"subject;eeg\n", path.read_bytes()[:-300]):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"windows_10s\.npz"):
            Esports(tmp_path).load()


def test_folders_that_do_not_fit_are_named(tmp_path):
    with pytest.raises(DataError, match=r"no such file.*windows_10s\.npz.*smerdov"):
        Esports(tmp_path).load()
    with pytest.raises(DataError, match="nowhere: found no folder"):
        Esports(tmp_path / "nowhere").load()
    with pytest.raises(DataError, match="no data root"):
        Esports(None).load()


def test_options_that_do_not_fit_are_named():
    with pytest.raises(ConfigurationError, match=r"'event'.*'opponents', 'load'"):
        Esports(None, target="event")


# -------------------------------------------------------------- the real recordings


@needs_recordings
def test_the_real_recordings(tmp_path):
    shutil.copy(DATA / FILE, tmp_path)
    with np.load(DATA / FILE) as file:
        raw = dict(file)
    data = Esports(tmp_path).load()
    assert len(data) == len(raw["subject"]) == 14920
    assert_each_window_is_its_row(data, raw, opponents(raw))
    # The README of the file: 110 player-matches, EEG in 34 of them.
    assert Esports(tmp_path).missing() == []
    trials = data.inputs.windows.groupby(["subject", "session", "trial"])
    assert trials.ngroups == 110
    present = ~np.isnan(data.inputs.signals["eeg"]).all((1, 2))
    worn = data.inputs.windows.assign(eeg=present).groupby(["subject", "trial"])["eeg"]
    assert worn.any().sum() == 34


@needs_recordings
def test_the_load_of_the_real_recordings():
    with np.load(DATA / FILE) as file:
        load = file["mental_load"]
    data = Esports(DATA, target="load").load()
    expected = [(load == value).sum() for value in range(1, 6)]
    assert np.bincount(data.labels).tolist() == expected
