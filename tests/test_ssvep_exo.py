"""SSVEP exoskeleton: every window in its place, what the authors left out, bad files.

Takes 3 s, of which 1 s is for the development recordings where they are there.
"""

import os
from pathlib import Path

import numpy as np
import pytest
from fixtures.ssvep_exo import write_ssvep_exo

from domainemo.core import PROVENANCE, Modality
from domainemo.data.readers.ssvep_exo import SSVEPExo
from domainemo.errors import ConfigurationError, DataError
from domainemo.registry import find

DATA = Path(
    os.environ.get("DOMAINEMO_DATA")
    or Path(__file__).parents[1].parent / "shared" / "data"
)
FILE = "ssvep_exo/features.npz"
needs_recordings = pytest.mark.skipif(
    not (DATA / FILE).is_file(),
    reason=f"needs {FILE}; name its data root in DOMAINEMO_DATA",
)
CHANNELS = ("Oz", "O1", "O2", "PO3", "POz", "PO7", "PO8", "PO4")


def assert_each_window_is_its_row(data, raw):
    """Look each window up in the file by its place, one by one."""
    columns = ("subject", "session", "trial", "window_start")
    places = zip(*(raw[key].tolist() for key in columns), strict=True)
    at = {place: row for row, place in enumerate(places)}
    for i, window in enumerate(data.inputs.windows.itertuples(index=False)):
        row = at[window.subject, window.session, window.trial, int(window.start)]
        name = str(raw["class_names"][raw["y"][row]])
        assert data.classes[data.labels[i]] == name
        # A number, in the order of the names: no name of a class among the inputs.
        assert window.stimulus == 1 + sorted(data.classes).index(name)
        np.testing.assert_array_equal(data.inputs.signals["eeg"][i], raw["X"][row])


@pytest.mark.parametrize("folder", ["", "ssvep_exo"])
def test_every_window_is_in_its_place(tmp_path, folder):
    raw = write_ssvep_exo(tmp_path / folder)
    data = SSVEPExo(tmp_path).load()
    assert_each_window_is_its_row(data, raw)
    windows = data.inputs.windows
    assert tuple(windows.columns) == PROVENANCE
    assert windows["subject"].tolist() == [1] * 24 + [12] * 12
    assert windows["session"].tolist() == [0] * 12 + [1] * 12 + [0] * 12
    assert windows["trial"].tolist() == np.repeat(range(12), 3).tolist()
    assert windows["start"].tolist() == [1, 2, 3] * 12
    assert data.classes == ("rest", "13Hz", "21Hz", "17Hz")
    assert data.labels.tolist() == np.repeat([0, 1, 2, 3] * 3, 3).tolist()
    eeg = data.inputs.modalities["eeg"]
    assert (eeg.channels, eeg.kind, len(eeg.features)) == (CHANNELS, "eeg", 10)
    assert isinstance(eeg, Modality) and eeg.features[6] == "DE_4-8Hz"


def test_what_the_authors_left_out_is_read_on_demand(tmp_path):
    raw = write_ssvep_exo(tmp_path)
    reader = SSVEPExo(tmp_path, include_excluded=True)
    data = reader.load()
    assert len(data) == 48
    assert_each_window_is_its_row(data, raw)
    noted = [
        (recording.subject, trial.session)
        for recording in reader.recordings()
        for trial in reader.read(recording)
        if trial.notes == ("left out by the authors",)
    ]
    assert noted == [(12, 1)] * 4
    assert "all recordings" in data.inputs.name
    assert "all recordings" not in SSVEPExo(tmp_path).title()


def test_a_subject_of_whom_all_was_left_out_is_none(tmp_path):
    raw = write_ssvep_exo(tmp_path)
    write_ssvep_exo(tmp_path, excluded_by_authors=raw["subject"] == 12)
    assert [each.subject for each in SSVEPExo(tmp_path).recordings()] == [1]
    write_ssvep_exo(tmp_path, excluded_by_authors=raw["subject"] > 0)
    with pytest.raises(DataError, match="no trial at all"):
        SSVEPExo(tmp_path).load()


def test_names_say_where_everything_is(tmp_path):
    """Another order of classes, electrodes and features makes no difference."""
    raw = write_ssvep_exo(tmp_path / "one")
    rng = np.random.default_rng(1)
    classes, channels, features = map(rng.permutation, (4, 8, 10))
    write_ssvep_exo(
        tmp_path / "other",
        X=raw["X"][:, channels][:, :, features],
        channels=raw["channels"][channels],
        feature_names=raw["feature_names"][features],
        class_names=raw["class_names"][classes],
        y=np.array([classes.tolist().index(label) for label in raw["y"]]),
    )
    one, other = SSVEPExo(tmp_path / "one").load(), SSVEPExo(tmp_path / "other").load()
    np.testing.assert_array_equal(one.labels, other.labels)
    assert one.inputs.windows.equals(other.inputs.windows)
    np.testing.assert_array_equal(
        one.inputs.signals["eeg"], other.inputs.signals["eeg"]
    )


def test_what_it_says_of_itself(tmp_path):
    write_ssvep_exo(tmp_path)
    reader = SSVEPExo(tmp_path)
    assert find("dataset", "ssvep-exo") is SSVEPExo
    assert reader.files() == [tmp_path / "features.npz"]
    assert "2 of 12 subjects" in reader.release()
    assert reader.missing() == [f"subject {n}" for n in range(2, 12)]
    assert "2 s windows" in reader.title()
    assert reader.home.startswith("https://github.com/sylvchev/")


BAD = {
    "no array": ({"X": None}, "'X'"),
    "whole numbers": ({"excluded_by_authors": np.zeros(48, int)}, "found an array of"),
    "fifth class": ({"y": np.full(48, 4)}, "'y': found 4 in row 0"),
    "another class": (
        {"class_names": np.array(["rest", "13Hz", "21Hz", "19Hz"])},
        "'class_names': found 4 names, without 17Hz, with 19Hz",
    ),
    "seven electrodes": ({"X": np.zeros((48, 7, 10))}, r"\(48, 7, 10\); .*\(48, 8, 10"),
    "no windows": ({"subject": np.zeros((0,), int)}, "0 windows"),
}


@pytest.mark.parametrize("case", BAD)
def test_files_that_do_not_fit_are_named(tmp_path, case):
    changes, found = BAD[case]
    write_ssvep_exo(tmp_path, **changes)
    with pytest.raises(DataError, match=found) as caught:
        SSVEPExo(tmp_path).load()
    assert str(tmp_path / "features.npz") in str(caught.value)
    assert "expected" in str(caught.value)


def test_folders_and_options_that_do_not_fit_are_named(tmp_path):
    with pytest.raises(DataError, match=r"no such file.*features\.npz.*sylvchev"):
        SSVEPExo(tmp_path).load()
    with pytest.raises(DataError, match="no data root"):
        SSVEPExo(None).load()
    with pytest.raises(ConfigurationError, match=r"include_excluded is 'no' .*true"):
        SSVEPExo(None, include_excluded="no")


@needs_recordings
def test_the_real_recordings():
    with np.load(DATA / FILE) as file:
        raw = dict(file)
    data = SSVEPExo(DATA).load()
    # The README: 32 recordings of 32 trials of 3 windows, 5 of them excluded.
    assert len(data) == (32 - 5) * 32 * 3
    assert_each_window_is_its_row(data, raw)
    assert data.inputs.windows.groupby(["subject", "session"]).ngroups == 27
    assert data.inputs.windows.groupby(["subject", "session", "trial"]).ngroups == 864
    assert np.bincount(data.labels).tolist() == [27 * 8 * 3] * 4
    everything = SSVEPExo(DATA, include_excluded=True).load()
    assert len(everything) == 32 * 32 * 3
    assert "left out by the authors in 160 trials" in everything.inputs.name
