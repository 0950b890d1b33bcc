"""DREAMER as published: two clocks, ratings, and what other loaders get wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fixtures.dreamer import (
    cells,
    dreamer_heart_rate,
    dreamer_ratings,
    dreamer_signals,
    dreamer_struct,
    write_dreamer,
    write_struct,
)
from scipy import signal
from scipy.io import loadmat

from domainemo.data.readers import dreamer
from domainemo.data.readers.dreamer import DREAMER
from domainemo.errors import ConfigurationError, DataError

NAMES = "AF3 F7 F3 FC5 T7 P7 O1 O2 P8 T8 FC6 F4 F8 AF4"
RAW = {"feature": "raw", "baseline": "none", "crop": "all"}


def joined(windows):
    """Return (windows, channels, samples) as (samples, channels)."""
    return windows.swapaxes(1, 2).reshape(-1, windows.shape[1])


def first(reader, count=1):
    """Return a reader's first trials, none of which may be an error."""
    found = reader.trials(reader.recordings()[0])
    trials = [next(found) for _ in range(count)]
    for trial in trials:
        if isinstance(trial, DataError):
            raise trial
    return trials


def with_signals(root, **changes):
    """Write one subject whose first trial holds what is given, such as ``EEG_stimuli``.

    The other trials are short.
    """
    struct = dreamer_struct((1,), seconds=3, baseline_seconds=2)
    for name, array in changes.items():
        modality, part = name.split("_")
        struct["Data"][0, 0][modality][part][0, 0] = array
    return write_struct(root, struct)


def naive_struct(root):
    """The file as SciPy reads it, down to the one subject's struct."""
    return loadmat(root / "DREAMER.mat")["DREAMER"][0, 0]["Data"][0, 0]


def naive_cell(person, modality, part, trial):
    return person[modality][0, 0][part][0, 0][trial, 0]


# ---------------------------------------------------------------- the whole data set


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """All 23 subjects, with clips of 3 to 5 s."""
    root = tmp_path_factory.mktemp("dreamer")
    return write_dreamer(root, seconds=3, baseline_seconds=2)


@pytest.mark.parametrize("jobs", [1, 2])
def test_all_23_subjects_sample_by_sample(whole, monkeypatch, jobs):
    opened, told = [], []
    open_mat = dreamer.open_mat
    monkeypatch.setattr(
        dreamer, "open_mat", lambda path: (opened.append(path), open_mat(path))[1]
    )
    reader = DREAMER(whole, **RAW)
    data = reader.load(jobs=jobs, on_read=lambda *each: told.append(each))
    assert opened == [whole / "DREAMER.mat"]  # once, not once per subject
    assert told[-1] == (23, 23, "subject 23")
    windows = data.inputs.windows
    counts = [3, 4, 5] * 6
    subject, trial = (
        np.repeat(np.arange(1, 24), 72),
        np.repeat(np.arange(1, 19), counts),
    )
    assert windows["subject"].tolist() == subject.tolist()
    assert windows["trial"].tolist() == np.tile(trial, 23).tolist()
    assert windows["stimulus"].tolist() == windows["trial"].tolist()
    assert set(windows["session"]) == {1}
    start = np.concatenate([np.arange(n) for n in counts])
    assert windows["start"].tolist() == np.tile(start, 23).tolist()
    for number in range(1, 24):
        valence = dreamer_ratings(number)[:, 0]
        found = data.labels[subject == number]
        assert found.tolist() == np.repeat(valence >= 3, counts).tolist()
        for each in (1, 9, 18):
            signals = dreamer_signals(number, each, 3, 2)
            rows = ((windows["subject"] == number) & (windows["trial"] == each)).values
            for name in ("EEG", "ECG"):
                array = joined(data.inputs.signals[name.lower()][rows])
                expected = signals[name]["stimuli"].astype(np.float32)
                assert np.array_equal(array, expected)


def test_channels_and_what_the_file_says_of_itself(whole):
    reader = DREAMER(whole)
    assert reader.files() == [whole / "DREAMER.mat"]
    assert reader.release() == "DREAMER.mat, version 1.0.2, 23 subjects"
    assert reader.missing() == []
    eeg, ecg = reader.modalities()["eeg"], reader.modalities()["ecg"]
    assert " ".join(eeg.channels) == NAMES
    assert (eeg.features, eeg.kind) == (("theta", "alpha", "beta"), "eeg")
    assert ecg.channels == ("heart_rate", "sdnn", "rmssd", "ln_sd")
    assert set(DREAMER(whole, ecg=False).modalities()) == {"eeg"}


def test_a_subject_can_be_read_again_after_all_were(whole):
    reader = DREAMER(whole, **RAW)
    recordings = reader.recordings()
    whole_set = [trials for _, trials in reader.read_all(recordings)]
    again = reader.read(recordings[6])
    assert len(again) == 18
    for one, other in zip(again, whole_set[6], strict=True):
        assert np.array_equal(one.signals["eeg"], other.signals["eeg"])


def test_fewer_subjects_are_missing_not_wrong(tmp_path):
    reader = DREAMER(write_dreamer(tmp_path / "DREAMER", subjects=(1,)).parent)
    assert [each.subject for each in reader.recordings()] == [1]
    assert reader.missing()[0] == "subject 2"
    assert len(reader.missing()) == 22


# ------------------------------------------------------------ traps of other loaders


@pytest.fixture(scope="module")
def clocks(tmp_path_factory):
    """A clip of 40.5 s whose samples tell their own time, in seconds."""
    root = tmp_path_factory.mktemp("clocks")
    eeg = np.repeat(np.arange(5184)[:, None] / 128, 14, axis=1)
    ecg = np.repeat(np.arange(10368)[:, None] / 256, 2, axis=1)
    return with_signals(root, EEG_stimuli=eeg, ECG_stimuli=ecg)


@pytest.mark.parametrize(
    ("crop", "begin", "windows"), [("last", 20.5, 10), ("first", 0, 10), ("all", 0, 20)]
)
def test_ecg_is_indexed_at_twice_the_eegs_rate(clocks, crop, begin, windows):
    options = {"feature": "raw", "baseline": "none", "window": 2.0}
    [trial] = first(DREAMER(clocks, crop=crop, seconds=20, **options))
    assert trial.start.tolist() == [begin + 2 * k for k in range(windows)]
    for name in ("eeg", "ecg"):
        assert trial.signals[name][:, 0, 0].tolist() == trial.start.tolist()
        assert joined(trial.signals[name])[:, 0].max() < begin + 2 * windows
    assert trial.signals["eeg"].shape == (windows, 14, 256)
    assert trial.signals["ecg"].shape == (windows, 2, 512)
    # A loader that uses the EEG's index looks at another time, and at half of it.
    ecg = naive_cell(naive_struct(clocks), "ECG", "stimuli", 0)
    at = round(begin * 128)
    naive = ecg[at : at + 256 * windows, 0].reshape(windows, 256)
    assert naive[-1, 0] != trial.signals["ecg"][-1, 0, 0]


def beating(rate, seconds):
    """An ECG of (samples, 2) at `rate` beats a minute."""
    time = np.arange(round(seconds * 256)) / 256
    away = (time + 0.2) % (60 / rate) - 30 / rate
    random = np.random.default_rng(0)
    noise = random.normal(0, 2, (len(time), 2))
    return 2048 + 500 * np.exp(-0.5 * (away / 0.012) ** 2)[:, None] + noise


def test_heart_measures_are_of_the_same_time_as_the_eeg(tmp_path):
    """60 bpm for 60 s, then 90: an index into the EEG would stay in the first part."""
    ecg = np.concatenate([beating(60, 60), beating(90, 60)])
    eeg = np.random.default_rng(0).normal(4100, 10, (15360, 14))
    root = with_signals(tmp_path, EEG_stimuli=eeg, ECG_stimuli=ecg)
    for window in (1.0, 4.0, 7.0):
        [trial] = first(DREAMER(root, seconds=40, window=window, baseline="none"))
        assert trial.start[0] == 80
        assert len(trial.start) == 40 // window
        np.testing.assert_allclose(trial.signals["ecg"][:, 0, 0], 90, atol=0.5)
    [trial] = first(DREAMER(root, crop="all", window=4.0, baseline="none"))
    rate = trial.signals["ecg"][:, 0, 0]
    np.testing.assert_allclose(rate[:13], 60, atol=0.5)
    np.testing.assert_allclose(rate[17:], 90, atol=0.5)


def test_each_trial_has_its_own_heart_rate(tmp_path):
    root = write_dreamer(tmp_path, subjects=(1, 2), seconds=20, baseline_seconds=2)
    for lead in (1, 2):
        data = DREAMER(root, window=20.0, ecg_lead=lead, bands=("beta",)).load
        # The baseline is shorter than a window of 20 s.
        with pytest.raises(DataError, match=r"trial 1: found 2 s of the baseline"):
            data()
        options = {"window": 20.0, "ecg_lead": lead, "baseline": "none"}
        data = DREAMER(root, **options).load()
        windows = data.inputs.windows
        expected = [
            dreamer_heart_rate(subject, trial)
            for subject, trial in windows[["subject", "trial"]].to_numpy()
        ]
        assert len(expected) == 36
        rate = data.inputs.signals["ecg"][:, 0, 0]
        np.testing.assert_allclose(rate, expected, atol=0.5)
    assert "ECG lead 2" in data.inputs.name


def test_ecg_is_ecg_not_eeg(whole):
    """PhysioSync overwrites it with the EEG's first two channels."""
    [trial] = first(DREAMER(whole, **RAW))
    person = naive_struct(whole)
    eeg = naive_cell(person, "EEG", "stimuli", 0)
    ecg = naive_cell(person, "ECG", "stimuli", 0)
    found = joined(trial.signals["ecg"])
    physiosync = eeg[:, :2]
    for lead in range(2):
        assert np.array_equal(found[:, lead], ecg[:, lead])
        same_time = found[::2, lead]
        assert abs(np.corrcoef(same_time, physiosync[:, lead])[0, 1]) < 0.3


def test_every_window_is_there_once(whole):
    """PhysioSync's ``windows()`` drops the last one and has the first one twice."""
    [trial] = first(DREAMER(whole, **RAW))
    eeg = naive_cell(naive_struct(whole), "EEG", "stimuli", 0)

    def physiosync(length):
        begin, segments = 0, [eeg[:length]]
        while begin + length < len(eeg):
            segments.append(eeg[begin : begin + length])
            begin += length
        return np.stack(segments)

    naive = physiosync(128)
    assert len(naive) == len(trial.start) == 3
    assert np.array_equal(naive[0], naive[1])
    assert np.array_equal(joined(trial.signals["eeg"]), eeg.astype(np.float32))


def test_the_baseline_is_that_of_the_same_trial(whole):
    """PhysioSync's index ``k * i - 1`` takes other trials', and adds up without end."""
    trials = first(DREAMER(whole, feature="raw", crop="all"), 4)
    person = naive_struct(whole)
    for number, trial in enumerate(trials):
        for name, rate in (("EEG", 128), ("ECG", 256)):
            clip = naive_cell(person, name, "stimuli", number)
            before = naive_cell(person, name, "baseline", number)
            second = (before[:rate] + before[rate : 2 * rate]) / 2
            expected = clip.copy()
            for k in range(len(clip) // rate):
                expected[rate * k : rate * k + rate] -= second
            found = joined(trial.signals[name.lower()])
            np.testing.assert_allclose(found, expected, atol=1e-3)


def alpha(amplitude, seconds):
    time = np.arange(round(seconds * 128)) / 128
    return 4100 + amplitude * np.sin(2 * np.pi * 10 * time)[:, None] * np.ones(14)


@pytest.mark.parametrize(("feature", "factor"), [("de", 1), ("psd", 2)])
def test_features_less_the_mean_of_the_same_trials_baseline(tmp_path, feature, factor):
    """Closed form: the logarithm of the ratio of amplitudes, whatever the offset."""
    struct = dreamer_struct((1,), seconds=3, baseline_seconds=2)
    ecg = struct["Data"][0, 0]["ECG"]
    for trial in range(4):
        struct["Data"][0, 0]["EEG"]["stimuli"][trial, 0] = alpha(40 + trial, 30)
        struct["Data"][0, 0]["EEG"]["baseline"][trial, 0] = alpha(10 + 4 * trial, 61)
        ecg["stimuli"][trial, 0] = beating(70, 30)
        ecg["baseline"][trial, 0] = beating(70, 61)
    root = write_struct(tmp_path, struct)
    reader = DREAMER(root, feature=feature, bands=("alpha",), seconds=20, window=2.0)
    for number, trial in enumerate(first(reader, 4)):
        expected = factor * np.log((40 + number) / (10 + 4 * number))
        inner = trial.signals["eeg"][:-1, :, 0]
        np.testing.assert_allclose(inner, np.full((9, 14), expected), atol=0.02)
        assert trial.notes == ()


@pytest.mark.parametrize(
    ("window", "crop"), [(1.0, "last"), (4.0, "last"), (7.0, "all")]
)
def test_entropy_is_that_of_the_whole_clip_filtered(tmp_path, window, crop):
    random = np.random.default_rng(3)
    eeg = random.normal(4100, 10, (30 * 128 + 37, 14))
    ecg = beating(70, 31)[: 2 * len(eeg)]
    root = with_signals(tmp_path, EEG_stimuli=eeg, ECG_stimuli=ecg)
    options = {"baseline": "none", "crop": crop, "seconds": 16.0, "window": window}
    [trial] = first(DREAMER(root, **options))
    begin = len(eeg) - 16 * 128 if crop == "last" else 0
    samples = int(128 * window)
    sections = signal.butter(4, [8, 14], "bandpass", fs=128, output="sos")
    filtered = signal.sosfiltfilt(sections, eeg[:, 5], padlen=48)
    count = (len(eeg) - begin) // samples
    pieces = filtered[begin : begin + count * samples].reshape(count, samples)
    expected = 0.5 * np.log(2 * np.pi * np.e * pieces.var(axis=1))
    np.testing.assert_allclose(trial.signals["eeg"][:, 5, 1], expected, atol=1e-5)
    np.testing.assert_allclose(trial.start, begin / 128 + window * np.arange(count))


# ---------------------------------------------------------------------------- ratings


@pytest.mark.parametrize("ties", ["high", "low", "drop"])
def test_ratings_of_3_decide_which_class_is_larger(whole, ties):
    reader = DREAMER(whole, ties=ties, target="arousal", **RAW)
    trials = reader.read(reader.recordings()[4])
    arousal = dreamer_ratings(5)[:, 1]
    assert (arousal == 3).sum() >= 2
    kept = [n for n in range(18) if arousal[n] != 3 or ties != "drop"]
    high = arousal >= 3 if ties == "high" else arousal > 3
    assert [trial.trial for trial in trials] == [n + 1 for n in kept]
    assert [trial.label for trial in trials] == high[kept].tolist()


def test_quadrants(whole):
    reader = DREAMER(whole, target="quadrant", **RAW)
    names = [reader.classes[t.label] for t in reader.read(reader.recordings()[0])]
    expected = [
        f"{'LH'[int(valence >= 3)]}V{'LH'[int(arousal >= 3)]}A"
        for valence, arousal, _ in dreamer_ratings(1)
    ]
    assert names == expected
    assert set(names) == {"LVLA", "LVHA", "HVLA", "HVHA"}


# ------------------------------------------------------------- corrected, or refused


def test_electrodes_in_another_order_are_put_right(tmp_path):
    struct = dreamer_struct((1,), seconds=3, baseline_seconds=2)
    order = np.random.default_rng(1).permutation(14)
    names = NAMES.split()
    struct["EEG_Electrodes"] = cells([names[k] for k in order], (1, 14))
    eeg = struct["Data"][0, 0]["EEG"]
    for part in ("stimuli", "baseline"):
        for trial in range(18):
            eeg[part][trial, 0] = eeg[part][trial, 0][:, order]
    [trial] = first(DREAMER(write_struct(tmp_path, struct), **RAW))
    expected = dreamer_signals(1, 1, 3, 2)["EEG"]["stimuli"]
    assert np.array_equal(joined(trial.signals["eeg"]), expected.astype(np.float32))
    assert "electrodes put into the usual order" in trial.notes


@pytest.mark.parametrize(("eeg", "ecg"), [(0, -100), (0, 200), (-90, 0)])
def test_a_fraction_of_a_second_more_is_cut_and_noted(tmp_path, eeg, ecg):
    signals = dreamer_signals(1, 1, 5, 2)
    changes = {
        "EEG_stimuli": signals["EEG"]["stimuli"][: 640 + eeg],
        "ECG_stimuli": np.resize(signals["ECG"]["stimuli"], (1280 + ecg, 2)),
    }
    root = with_signals(tmp_path, **changes)
    [trial] = first(DREAMER(root, window=0.5, **RAW))
    shorter = min(640 + eeg, (1280 + ecg) // 2)
    assert len(trial.start) == shorter // 64
    assert "EEG and ECG cut to the shorter" in trial.notes
    [trial] = first(
        DREAMER(root, feature="raw", baseline="none", seconds=2, window=0.5)
    )
    begin = shorter - 256
    assert trial.start[0] == begin / 128
    for name, per in (("EEG", 1), ("ECG", 2)):
        expected = changes[f"{name}_stimuli"][per * begin : per * shorter]
        found = joined(trial.signals[name.lower()])
        assert np.array_equal(found, expected.astype(np.float32))


def test_short_clips_are_used_whole_and_noted(whole):
    [trial] = first(DREAMER(whole, seconds=60))
    assert len(trial.start) == 3
    assert trial.notes == (
        "baseline of other than 61 s",
        "clip shorter than 60 s used whole",
    )


def test_one_bad_trial_leaves_the_others(tmp_path):
    struct = dreamer_struct((1,), seconds=3, baseline_seconds=2)
    person = struct["Data"][0, 0]
    person["EEG"]["stimuli"][1, 0] = person["EEG"]["stimuli"][1, 0].T
    person["ECG"]["stimuli"][3, 0][5] = np.nan
    person["ECG"]["stimuli"][5, 0] = person["ECG"]["stimuli"][5, 0][::2]
    person["ScoreArousal"][7] = 2.5
    person["EEG"]["baseline"][9, 0] = np.zeros((3, 14))
    reader = DREAMER(write_struct(tmp_path, struct))
    read = reader.read(reader.recordings()[0])
    errors = {n: str(e) for n, e in enumerate(read, 1) if isinstance(e, DataError)}
    assert len(read) == 18
    assert set(errors) == {2, 4, 6, 8, 10}
    assert all(f"subject 1, trial {n}" in text for n, text in errors.items())
    assert "EEG.stimuli: found an array of shape (14, 512)" in errors[2]
    assert "expected real numbers of shape (samples, 14)" in errors[2]
    assert "ECG.stimuli: found NaN or infinity in 1 of" in errors[4]
    assert "found 5 s of EEG at 128 Hz and 2.5 s of ECG at 256 Hz" in errors[6]
    assert "ScoreArousal: found 2.5; expected 1, 2, 3, 4 or 5" in errors[8]
    assert "s of the baseline; expected at least 1 s" in errors[10]


def changed(**fields):
    struct = dreamer_struct((1,), seconds=1, baseline_seconds=1)
    struct.update(fields)
    return {name: value for name, value in struct.items() if value is not None}


def of_person(**fields):
    struct = changed()
    struct["Data"][0, 0].update(fields)
    return struct


BAD = {
    "sampling rate": (
        lambda: changed(EEG_SamplingRate=256.0),
        "EEG_SamplingRate: found 256.*expected 128",
    ),
    "ECG rate": (
        lambda: changed(ECG_SamplingRate=128.0),
        "ECG_SamplingRate: found 128.*expected 256",
    ),
    "subjects": (
        lambda: changed(noOfSubjects=23.0),
        "noOfSubjects: found 23.*expected 1",
    ),
    "electrodes": (
        lambda: changed(EEG_Electrodes=cells([*NAMES.split()[:13], "Cz"], (1, 14))),
        "EEG_Electrodes: found AF3, .*Cz; expected the 14 of the headset",
    ),
    "one electrode twice": (
        lambda: changed(EEG_Electrodes=cells([*NAMES.split()[:13], "AF3"], (1, 14))),
        "EEG_Electrodes",
    ),
    "no data": (
        lambda: changed(Data=None),
        "found only the fields.*expected a field Data",
    ),
    "data of another kind": (
        lambda: changed(Data=cells([1.0], (1, 1))),
        "subject 1: found a value of type float; expected a struct",
    ),
    "no ratings": (
        lambda: of_person(ScoreValence=np.ones((17, 1))),
        r"subject 1, field ScoreValence: found an array of shape \(17,\)",
    ),
    "17 clips": (
        lambda: of_person(EEG={"stimuli": cells(range(17), (17, 1)), "baseline": 1.0}),
        "field EEG.stimuli: found 17 cells; expected 18",
    ),
    "no ECG": (lambda: of_person(ECG=1.0), "field ECG: found a value of type float"),
}


@pytest.mark.parametrize("case", BAD)
def test_files_that_do_not_fit_are_named(tmp_path, case):
    make, found = BAD[case]
    with pytest.raises(DataError, match=f"DREAMER.mat.*{found}") as caught:
        DREAMER(write_struct(tmp_path, make())).load()
    assert "\n" not in str(caught.value)
    assert "Fetch DREAMER.mat again" in str(caught.value)


def test_damaged_files_are_named(whole, tmp_path):
    content = (whole / "DREAMER.mat").read_bytes()
    for damaged in (b"", content[: len(content) // 2], b"\x89HDF" + content):
        (tmp_path / "DREAMER.mat").write_bytes(damaged)
        with pytest.raises(DataError, match=r"DREAMER\.mat.*expected"):
            DREAMER(tmp_path).load()


def test_a_file_that_vanishes_is_a_problem_of_each_recording(whole, tmp_path):
    (tmp_path / "DREAMER.mat").write_bytes((whole / "DREAMER.mat").read_bytes())
    reader = DREAMER(tmp_path, **RAW)
    recordings = reader.recordings()[:2]
    (tmp_path / "DREAMER.mat").unlink()
    for _, [error] in reader.read_all(recordings):
        assert "DREAMER.mat: found no file to read" in str(error)


def test_folders_that_do_not_fit_are_named(tmp_path):
    with pytest.raises(DataError, match="no data root"):
        DREAMER(None).load()
    with pytest.raises(DataError, match="nowhere: found nothing here"):
        DREAMER(tmp_path / "nowhere").load()
    with pytest.raises(DataError, match=r"empty folder; expected .*DREAMER\.mat"):
        DREAMER(tmp_path).load()
    Path(tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"found only notes\.txt"):
        DREAMER(tmp_path).load()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"crop": "middle"},
            "dreamer: crop is 'middle' .*expected one of 'last', 'fi",
        ),
        (
            {"baseline": "signal"},
            "baseline is 'signal' .*; expected one of 'features', 'none'",
        ),
        ({"seconds": 0.5}, "seconds=0.5; expected at least one window of 1 s"),
        ({"seconds": float("nan")}, "seconds is nan"),
        ({"ecg_lead": 3}, "ecg_lead is 3 .*; expected one of 1, 2"),
        ({"bands": ("delta",), "window": 0.5}, "window=0.5; expected 1 to 60 s"),
        ({"target": "liking"}, "target is 'liking'"),
        ({"threshold": 5}, "threshold is 5; expected a number between 1 and 5"),
        ({"feature": "asm"}, "feature is 'asm'"),
    ],
)
def test_options_that_do_not_fit_are_named(options, message):
    with pytest.raises(ConfigurationError, match=message):
        DREAMER(None, **options)


def test_the_title_names_every_choice():
    title = DREAMER(
        None, crop="first", seconds=30, ties="drop", target="quadrant"
    ).title()
    for part in (
        "valence and arousal high above 3, low below, trials rated exactly 3 left out",
        "theta, alpha, beta in windows of 1 s",
        "first 30 s",
        "EEG less the mean features of the baseline",
        "heart measures of ECG lead 1",
    ):
        assert part in title
    assert "whole clips" in DREAMER(None, crop="all").title()
