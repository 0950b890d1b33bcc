"""EEGMAT: the published recordings, and files that do not fit."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fixtures.eegmat import EdfFile, write_eegmat

from domainemo.core import PROVENANCE
from domainemo.data.readers.eegmat import EEGMAT
from domainemo.errors import ConfigurationError, DataError

NAMES = "Fp1 Fp2 F3 F4 F7 F8 T3 T4 C3 C4 T5 T6 P3 P4 O1 O2 Fz Cz Pz"
ELECTRODES = NAMES.split()
BANDS = ("delta", "theta", "alpha", "beta", "gamma")


@pytest.fixture
def write(tmp_path):
    """Write both files of subject 0, the second one as given."""

    def write(task: EdfFile | bytes, folder: str = "") -> Path:
        home = tmp_path / folder
        home.mkdir(exist_ok=True)
        (home / "Subject00_1.edf").write_bytes(EdfFile(16, seed=1).bytes())
        data = task if isinstance(task, bytes) else task.bytes()
        (home / "Subject00_2.edf").write_bytes(data)
        return tmp_path

    return write


def contents(root):
    """Every file's bytes and time of writing (reading may change that of access)."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return [(path, path.read_bytes(), path.stat().st_mtime_ns) for path in files]


@pytest.mark.parametrize(
    "folder",
    ["", "eegmat_raw", "eegmat", "eeg-during-mental-arithmetic-tasks-1.0.0"],
)
def test_reads_files_wherever_they_may_lie_and_writes_none(write, folder):
    root = write(EdfFile(12), folder)
    before = contents(root)
    data = EEGMAT(root).load()
    assert contents(root) == before
    windows = data.inputs.windows
    assert tuple(windows.columns) == PROVENANCE
    assert windows["start"].tolist() == [0, 4, 8, 12, 0, 4, 8]
    assert windows["trial"].tolist() == data.labels.tolist() == [0] * 4 + [1] * 3
    assert windows["stimulus"].tolist() == [2] * 4 + [1] * 3
    assert set(windows["subject"]) == {0}
    assert set(windows["session"]) == {1}
    assert data.classes == ("rest", "arithmetic")
    eeg, ecg = data.inputs.modalities["eeg"], data.inputs.modalities["ecg"]
    assert (list(eeg.channels), eeg.features, eeg.kind) == (ELECTRODES, BANDS, "eeg")
    assert ecg.channels == ("heart_rate", "sdnn", "rmssd", "ln_sd")
    assert (ecg.features, ecg.kind) == (("value",), "physiology")
    assert "4 s windows, average reference" in data.inputs.name
    assert "1 subject" in data.inputs.name and "2 trials" in data.inputs.name


def test_values_come_back_in_microvolts_and_beats_per_minute(write):
    inputs = EEGMAT(write(EdfFile(12)), reference="linked-ears").load().inputs
    amplitude = (2000 + 500 * np.arange(19)) / 32767 * 1000
    expected = 0.5 * np.log(2 * np.pi * np.e * amplitude**2 / 2)
    alpha = inputs.signals["eeg"][:, :, BANDS.index("alpha")]
    inner = [1, 2, 5]
    np.testing.assert_allclose(alpha[inner], [expected] * 3, atol=0.01)
    heart = inputs.signals["ecg"][:, :, 0]
    np.testing.assert_allclose(heart[:, 0], 75, atol=0.2)
    np.testing.assert_allclose(heart[:, 1:3], 0, atol=3)


def test_the_average_reference_leaves_no_common_signal(write):
    eeg = EEGMAT(write(EdfFile(12))).load().inputs.signals["eeg"]
    amplitude = 500 * np.abs(np.arange(19) - 9) / 32767 * 1000
    away = np.flatnonzero(amplitude)
    expected = 0.5 * np.log(2 * np.pi * np.e * amplitude[away] ** 2 / 2)
    alpha = eeg[1, away, BANDS.index("alpha")]
    np.testing.assert_allclose(alpha, expected, atol=0.02)


@pytest.mark.parametrize("reference", ["average", "linked-ears"])
def test_an_electrode_that_is_off_is_lost(write, reference):
    root = write(EdfFile(12, off=4))
    eeg = EEGMAT(root, reference=reference).load().inputs.signals["eeg"]
    lost = np.zeros((7, 19), dtype=bool)
    lost[4:, 4] = True
    np.testing.assert_array_equal(np.isnan(eeg), lost[:, :, None].repeat(5, axis=2))


def test_padding_at_the_end_of_a_file_is_no_signal(write):
    data = EEGMAT(write(EdfFile(12, padding=5))).load()
    assert (data.labels == 1).sum() == 3
    whole = EEGMAT(write(EdfFile(12))).load()
    for name, signal in whole.inputs.signals.items():
        np.testing.assert_array_equal(data.inputs.signals[name], signal)


@pytest.mark.parametrize("window", [1.0, 2.5, 6.0])
def test_windows_of_any_length(write, window):
    data = EEGMAT(write(EdfFile(12)), window=window).load()
    task = data.inputs.windows["start"][data.labels == 1]
    np.testing.assert_allclose(task, np.arange(12 // window) * window)


def test_a_recording_is_a_subjects_two_files(tmp_path):
    reader = EEGMAT(write_eegmat(tmp_path, [11, 0, 35], rest=4, task=4))
    recordings = reader.recordings()
    assert [each.subject for each in recordings] == [0, 11, 35]
    assert {use: path.name for use, path in recordings[1].files.items()} == {
        "rest": "Subject11_1.edf",
        "arithmetic": "Subject11_2.edf",
    }
    assert len(reader.files()) == 6
    assert "1.0.0" in reader.release() and "3 of 36" in reader.release()
    absent = reader.missing()
    assert len(absent) == 33 and absent[0] == "subject 1" and absent[-1] == "subject 34"


def test_a_reader_can_be_sent_to_another_process():
    reader = EEGMAT("somewhere", window=2.0)
    assert vars(pickle.loads(pickle.dumps(reader))) == vars(reader)


def test_progress_is_told(tmp_path):
    told = []
    root = write_eegmat(tmp_path, [0, 7], rest=4, task=4)
    EEGMAT(root).load(on_read=lambda *progress: told.append(progress))
    assert told == [(1, 2, "subject 0"), (2, 2, "subject 7")]


def test_what_was_found_odd_is_noted(write):
    reader = EEGMAT(write(EdfFile(12, padding=2, off=3, beating=False)))
    rest, task = reader.read(reader.recordings()[0])
    assert rest.notes == ()
    assert task.notes == (
        "padding at the end cut off",
        "an electrode off",
        "heart beat lost",
    )


# ------------------------------------------------------------------------ bad input


BAD = {
    "cut off": (
        EdfFile().bytes()[:-1000],
        "found 256632 bytes, expected 257632.*cut off",
    ),
    "unfinished": (EdfFile(header={"records": "-1"}), "'number of records'.*-1"),
    "cut header": (EdfFile().bytes()[:3000], "3000 bytes, expected 5632"),
    "empty": (b"", "version field.*0 header bytes"),
    "no EDF": (b"subject;rate\n" * 100, "version field.*subject"),
    "damaged": (EdfFile(header={"signals": "ab"}), "'number of signals'.*'ab"),
    "huge": (EdfFile(header={"signals": "9e99"}), "'number of signals'.*9e99"),
    "longer": (EdfFile().bytes() + b"\0" * 10, "too long"),
    "no Pz": (
        EdfFile(labels=tuple(x for x in EdfFile().labels if x != "EEG Pz")),
        "not found EEG Pz",
    ),
    "more": (EdfFile(labels=(*EdfFile().labels, "EMG")), "found besides EMG"),
    "slower": (EdfFile(rate=250), "'EEG Fp1'.* 250 Hz, expected 500 Hz"),
    "one slower": (EdfFile(one_rate=100), "'EEG F4'.* 100 Hz, expected 500 Hz"),
    "short": (EdfFile(3), "found 3 s of signal.*4 s.*subject 0"),
    "dead": (EdfFile(scale=0), "constant value in every channel"),
    "no duration": (EdfFile(header={"duration": "0"}), "'record duration'"),
}


@pytest.mark.parametrize("case", BAD)
def test_files_that_do_not_fit_are_named(write, case):
    task, found = BAD[case]
    root = write(task)
    with pytest.raises(DataError, match=f"(?s)Subject00_2.edf.*({found})") as caught:
        EEGMAT(root).load()
    message = str(caught.value)
    assert "expected" in message
    assert "Download" in message or "Choose" in message
    assert "\n" not in message
    assert str(root) in message


def test_one_file_that_does_not_fit_leaves_the_other(write):
    reader = EEGMAT(write(b""))
    rest, task = reader.read(reader.recordings()[0])
    assert (rest.trial, rest.stimulus, len(rest.start)) == (0, 2, 4)
    assert isinstance(task, DataError) and "Subject00_2.edf" in str(task)


def test_a_file_that_cannot_be_opened_is_named(write):
    root = write(b"")
    (root / "Subject00_2.edf").unlink()
    (root / "Subject00_2.edf").mkdir()
    with pytest.raises(DataError, match=r"Subject00_2\.edf: found .*not be read"):
        EEGMAT(root).load()


def test_a_subject_with_one_recording_is_named(write):
    root = write(EdfFile())
    (root / "Subject07_2.edf").write_bytes(b"")
    (root / "Subject00_2.edf").unlink()
    with pytest.raises(DataError, match=r"Subject00_1.edf, Subject07_2.edf without"):
        EEGMAT(root).load()


def test_folders_that_do_not_fit_are_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere: found nothing here.*Download"):
        EEGMAT(tmp_path / "nowhere").load()
    with pytest.raises(DataError, match="an empty folder"):
        EEGMAT(tmp_path).load()
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"found only notes\.txt; expected SubjectNN_1"):
        EEGMAT(tmp_path).load()
    with pytest.raises(DataError, match=r"notes\.txt: found a file"):
        EEGMAT(tmp_path / "notes.txt").load()
    with pytest.raises(DataError, match="no data root"):
        EEGMAT(None).load()


def test_options_that_do_not_fit_are_named():
    with pytest.raises(ConfigurationError, match=r"window is 0; expected 0.5 to 60 s"):
        EEGMAT(None, window=0)
    with pytest.raises(ConfigurationError, match=r"'nose'.*'average', 'linked-ears'"):
        EEGMAT(None, reference="nose")


def test_the_reader_is_imported_without_mne():
    code = "import sys, domainemo.data.readers.eegmat; sys.exit('mne' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# -------------------------------------------------------------- the real recordings

DATA = Path(
    os.environ.get("DOMAINEMO_DATA")
    or Path(__file__).parents[1].parent / "shared" / "data"
)
needs_recordings = pytest.mark.skipif(
    not (DATA / "eegmat_raw" / "Subject00_1.edf").is_file(),
    reason="needs EEGMAT's EDF files; name their data root in DOMAINEMO_DATA",
)
needs_features = pytest.mark.skipif(
    not (DATA / "eegmat" / "features_4s.npz").is_file(),
    reason="needs the feature file eegmat/features_4s.npz of the data root",
)
SUBJECTS = (0, 2, 10)


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """Three subjects: a usual one, one without a heart beat at rest, the longest."""
    root = tmp_path_factory.mktemp("eegmat")
    for subject in SUBJECTS:
        for part in (1, 2):
            name = f"Subject{subject:02d}_{part}.edf"
            (root / name).symlink_to((DATA / "eegmat_raw" / name).resolve())
    return EEGMAT(root).load()


@pytest.fixture(scope="module")
def other(real):
    """The windows of `real` in the feature file that others made of the files."""
    file = np.load(DATA / "eegmat" / "features_4s.npz")
    keys = zip(file["subject"], file["y"], file["window"], strict=True)
    rows = {tuple(map(int, key)): row for row, key in enumerate(keys)}
    windows = real.inputs.windows
    order = [
        rows[subject, trial, int(start // 4)]
        for subject, trial, start in windows[["subject", "trial", "start"]].to_numpy()
    ]
    return file["eeg"][order], file["ecg"][order]


def away_from_ends(data, windows):
    """Whether at least so many windows of the trial lie before and after."""
    trial = data.inputs.windows.groupby(["subject", "trial"])
    before, after = trial.cumcount(), trial.cumcount(ascending=False)
    return ((before >= windows) & (after >= windows)).to_numpy()


@needs_recordings
def test_windows_of_the_real_recordings(real):
    windows = real.inputs.windows
    counts = windows.groupby(["subject", "stimulus"]).size().to_dict()
    # Of subject 10's 188 s, the last 1.5 s are padding: 46 windows, not 47.
    assert counts == {
        (0, 1): 15,
        (0, 2): 45,
        (2, 1): 15,
        (2, 2): 45,
        (10, 1): 15,
        (10, 2): 46,
    }
    assert np.isfinite(real.inputs.signals["eeg"]).all()


@needs_recordings
@needs_features
def test_entropy_is_that_of_the_feature_file(real, other):
    """Equal but at a recording's ends, where the other file filtered the padding."""
    eeg, (expected, _) = real.inputs.signals["eeg"], other
    for channel in range(19):
        for band in range(5):
            pair = eeg[:, channel, band], expected[:, channel, band]
            assert np.corrcoef(*pair)[0, 1] > 0.98
    inner = away_from_ends(real, windows=1)
    np.testing.assert_allclose(eeg[inner], expected[inner], atol=5e-3)


@needs_recordings
@needs_features
def test_heart_measures_are_close_to_the_feature_file(real, other):
    """Other detectors find the same beats; the amplitude is equal away from the ends.

    Subject 2's rest is left out: the other file gives a rate there that is none.
    """
    windows = real.inputs.windows
    heart, expected = real.inputs.signals["ecg"][:, :, 0], other[1]
    known = ~((windows["subject"] == 2) & (windows["trial"] == 0)).to_numpy()
    assert np.isfinite(heart[known]).all()
    gap = np.abs(heart - expected * [1, 1e3, 1e3, 1])[known]
    assert gap[:, 0].max() < 3
    assert np.mean(gap[:, 0] < 1) > 0.95
    assert np.median(gap[:, 1]) < 3
    assert np.median(gap[:, 2]) < 3
    inner = away_from_ends(real, windows=3) & known
    np.testing.assert_allclose(heart[inner, 3], expected[inner, 3], atol=1e-3)


@needs_recordings
def test_no_heart_rate_where_the_recording_shows_no_heart_beat(real):
    """At rest, subject 2's ECG is noise: no stretch of it resembles another."""
    windows = real.inputs.windows
    lost = ((windows["subject"] == 2) & (windows["trial"] == 0)).to_numpy()
    heart = real.inputs.signals["ecg"]
    assert np.isnan(heart[lost]).all()
    assert np.isfinite(heart[~lost]).all()
