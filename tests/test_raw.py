"""Continuous recordings cut by annotations, overlapping windows, samples, files."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest

import domainemo as de
from domainemo.cli import main
from domainemo.data.signals.features import (
    band_power,
    differential_entropy,
    heart_measures,
)
from domainemo.data.signals.physiology import signal_statistics
from domainemo.errors import ConfigurationError, DataError
from domainemo.protocols.cross_subject import CrossSubject
from domainemo.runs.checks import canonical
from domainemo.runs.folds import folds_of
from domainemo.runs.leaks import find_leaks

mne = pytest.importorskip("mne")

RATE = 100
BANDS = {"theta": (4.0, 8.0), "alpha": (8.0, 14.0)}
EEG = dict.fromkeys(["Fz", "Cz", "Pz"], "eeg")
# Onset, duration, description.
CLIPS = [(1.0, 4.5, "calm"), (7.0, 2.0, "tense"), (10.0, 7.0, "calm")]
OPTIONS = {"subject": 1, "bands": BANDS, "window": 2.0}


def make(clips=CLIPS, kinds=EEG, seconds=20, seed=0, rate=RATE, start=None, **extras):
    """A recording in MNE's units (V)."""
    generator = np.random.default_rng(seed)
    values = generator.normal(scale=2e-5, size=(len(kinds), seconds * rate))
    info = mne.create_info(list(kinds), rate, list(kinds.values()))
    raw = mne.io.RawArray(values, info, first_samp=start or 0, verbose="error")
    onsets, durations, texts = zip(*clips, strict=True)
    told = mne.Annotations(onsets, durations, texts, **extras)
    return raw.set_annotations(told, verbose="error")


def cut(raw, first, last):
    return 1e6 * raw.get_data()[:, round(first * RATE) : round(last * RATE)]


# ---------------------------------------------------------------------------- clips


def test_each_annotation_becomes_a_trial_of_its_own_length():
    raw = make()
    data = de.from_raw(raw, **OPTIONS)
    windows = data.inputs.windows
    assert windows["trial"].tolist() == [1, 1, 2, 3, 3, 3]
    assert windows["start"].tolist() == [0, 2, 0, 0, 2, 4]
    assert data.classes == ("calm", "tense")
    assert data.labels.tolist() == [0, 0, 1, 0, 0, 0]
    # Every clip filtered by itself: nothing outside it, such as a baseline, is used.
    expected = [
        differential_entropy(cut(raw, onset, onset + long), RATE, BANDS, 2.0)
        for onset, long, _ in CLIPS
    ]
    found = data.inputs.signals["eeg"]
    np.testing.assert_allclose(found, np.concatenate(expected), rtol=1e-5)
    # The description is the label, so it is no stimulus.
    assert windows["stimulus"].tolist() == windows["trial"].tolist()
    assert "as the events name the classes" in data.inputs.name


def test_a_film_has_one_number_whatever_else_a_file_has_marked():
    """Else a film that is left out would be trained on under another number."""
    films = ["calm/sea", "calm/sand", "tense/fire", "tense/fall"]
    shown = {name: name.partition("/")[0] for name in films}
    people = []
    for person, more in (("ann", []), ("bob", [(19.0, 0.5, "BAD blink")])):
        clips = [(1 + 4.5 * n, 4.0, name) for n, name in enumerate(films)]
        raw = make([*clips, *more])
        options = OPTIONS | {"subject": person}
        people.append(de.from_raw(raw, events=shown, **options))
    ann, bob = (each.inputs.windows["stimulus"].tolist() for each in people)
    assert ann == bob and len(set(ann)) == 4
    found = de.from_raw([make(clips), make([*clips, *more])], events=shown, **OPTIONS)
    assert found.inputs.windows["stimulus"].tolist() == ann + bob


def test_recordings_that_begin_late_are_cut_at_the_same_moments():
    late = make(start=1234)
    late.set_meas_date(1e9)
    told = mne.Annotations(*zip(*CLIPS, strict=True))
    told.onset += 12.34  # since the measurement's date
    late.set_annotations(
        mne.Annotations(
            told.onset,
            told.duration,
            told.description,
            orig_time=late.info["meas_date"],
        )
    )
    one, two = (de.from_raw(raw, **OPTIONS) for raw in (make(), late))
    np.testing.assert_array_equal(one.inputs.signals["eeg"], two.inputs.signals["eeg"])


@pytest.mark.parametrize("dated", [False, True])
@pytest.mark.parametrize("first", [0, 300])
def test_what_was_cropped_off_moves_no_clip(dated, first, tmp_path):
    """Against MNE's own epochs, which know where an annotation lies."""
    whole = make(start=first)
    if dated:
        whole.set_meas_date(1e9)
    whole.crop(0.5, 19.5)
    whole.save(tmp_path / "cropped_raw.fif", verbose="error")
    for raw in (whole, mne.io.read_raw(tmp_path / "cropped_raw.fif", verbose="error")):
        events, _ = mne.events_from_annotations(raw, verbose="error")
        epochs = mne.Epochs(
            raw, events, tmin=0, tmax=1.99, baseline=None, verbose="error"
        )
        data = de.from_raw(raw, subject=1, feature="raw", window=2.0)
        first_of_each = data.inputs.windows["start"] == 0
        found = data.inputs.signals["eeg"][first_of_each.to_numpy()]
        expected = 1e6 * epochs.get_data(verbose="error")
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)


def test_several_files_of_one_sitting_count_on_and_differ_in_spelling():
    loud = dict.fromkeys(["EEG FZ-REF", "CZ.", "Pz"], "eeg")
    raws = [make(), make(CLIPS[1:], loud, seed=1)]
    data = de.from_raw(raws, **OPTIONS)
    assert data.inputs.windows["trial"].tolist() == [1, 1, 2, 3, 3, 3, 4, 5, 5, 5]
    assert data.inputs.modalities["eeg"].channels == ("Fz", "Cz", "Pz")
    alone = de.from_raw(raws[1], **OPTIONS)
    assert alone.inputs.modalities["eeg"].channels == ("FZ", "CZ", "Pz")
    np.testing.assert_array_equal(
        data.inputs.signals["eeg"][6:], alone.inputs.signals["eeg"]
    )
    with pytest.raises(DataError, match=r"number 1 .*'eeg', channels: found Fz, Cz;"):
        de.from_raw([make(), make(kinds={"Fz": "eeg", "Cz": "eeg"})], **OPTIONS)


def test_descriptions_may_name_clips_and_a_mapping_their_labels():
    shown = [(1, 4, "sea"), (6, 4, "fire"), (11, 3, "sand"), (15, 4, "rest")]
    felt = {"sea": "calm", "sand": "calm", "fire": "tense"}
    data = de.from_raw(make(shown), events=felt, **OPTIONS)
    windows = data.inputs.windows
    assert windows["stimulus"].tolist() == ["sea", "sea", "fire", "fire", "sand"]
    assert [data.classes[it] for it in data.labels] == ["calm"] * 2 + ["tense"] * 2 + [
        "calm"
    ]
    assert "annotations left out: rest" in data.inputs.name
    # One description for each class is the label again, and shown nowhere.
    data = de.from_raw(make(), events={"calm": "good", "tense": "bad"}, **OPTIONS)
    windows = data.inputs.windows
    assert windows["stimulus"].tolist() == windows["trial"].tolist()
    listed = de.from_raw(make(), ["a", "b", "b"], stimulus=[7, 8, 9], **OPTIONS)
    assert listed.labels.tolist() == [0, 0, 1, 1, 1, 1]
    assert listed.inputs.windows["stimulus"].tolist() == [7, 7, 8, 9, 9, 9]


def test_columns_of_the_extras_may_be_named():
    if not hasattr(make().annotations, "extras"):
        pytest.skip("this MNE has no extras")
    extras = [
        {"felt": "good", "clip": "sea"},
        {"felt": "bad", "clip": "fire"},
        {"felt": "good", "clip": "sand"},
    ]
    data = de.from_raw(make(extras=extras), "felt", stimulus="clip", **OPTIONS)
    assert data.classes == ("bad", "good")
    assert data.inputs.windows["stimulus"].tolist()[1:4] == ["sea", "fire", "sand"]


@pytest.mark.parametrize(
    ("duration", "windows"), [(2.5, [1, 1, 1]), ("next", [3, 1, 4])]
)
def test_markers_without_a_duration_are_given_one(duration, windows):
    markers = [(1, 0, "calm"), (7.5, 0, "tense"), (10, 0, "calm"), (19, 0, "end")]
    data = de.from_raw(
        make(markers), events=["calm", "tense"], duration=duration, **OPTIONS
    )
    assert data.inputs.windows.groupby("trial").size().tolist() == windows


def test_what_is_annotated_as_bad_is_left_out_and_counted():
    raw = make([*CLIPS, (12.5, 0.1, "BAD_movement"), (1.5, 0, "EDGE boundary")])
    data = de.from_raw(raw, **OPTIONS)
    windows = data.inputs.windows
    assert windows["start"].tolist() == [2, 0, 0, 4]
    assert windows["trial"].tolist() == [1, 2, 3, 3]
    assert "2 windows annotated as bad left out" in data.inputs.name
    whole = de.from_raw(make(), **OPTIONS).inputs.signals["eeg"]
    np.testing.assert_array_equal(data.inputs.signals["eeg"], whole[[1, 2, 3, 5]])


def test_what_does_not_fit_is_told():
    def fails(match, raw=None, *given, error=DataError, **options):
        with pytest.raises(error, match=match):
            de.from_raw(make() if raw is None else raw, *given, **OPTIONS | options)

    fails("lab: found a list; expected a continuous", [[1]], name="lab")
    bare = make()
    bare.set_annotations(None)
    fails("no annotations.*mne.annotations_from_events", bare)
    fails(r"1 of 3 clips .* 'tense' from 7 to 9 s; expected at.*duration", window=4.0)
    nested = [*CLIPS, (0.5, 17, "run 1")]
    fails("clips that overlap: 'run 1' from 0.5 to 17.5 s, and 'calm'", make(nested))
    fails("'tens', which no annot.*mean 'tense'", events=["calm", "tens"])
    fails("expected one of 'tens'. Correct events. Did you mean", events=["tens"])
    fails("events is the text", error=ConfigurationError, events="calm")
    twice = {"events": {"calm": "a", "tense": "b"}, "labels": ["a", "b", "a"]}
    fails("labels were given, and others by", error=ConfigurationError, **twice)
    fails("duration is 'last'", error=ConfigurationError, duration="last")
    fails("resample is 0; expected a rate", error=ConfigurationError, resample=0)
    fails(r"shape \(2,\); expected one per clip, shape \(3,\)", None, ["a", "b"])
    right = r"raw.set_channel_types\({'ECG ECG': 'ecg'}\)"
    fails(right, make(kinds={"Fz": "eeg", "ECG ECG": "eeg"}))
    with pytest.raises(DataError, match=r"Cut it by its annotations with domainemo.fr"):
        de.from_epochs(make(), **OPTIONS)


# -------------------------------------------------------------------------- windows


def test_windows_may_overlap_and_say_how_long_they_are():
    kinds = {**EEG, "EOG1": "eog", "ECG": "ecg"}
    raw = make([(0, 9.3, "calm"), (10, 6, "tense")], kinds)
    data = de.from_raw(raw, step=0.5, **OPTIONS)
    windows = data.inputs.windows
    assert windows["start"].tolist()[:3] == [0, 0.5, 1.0]
    assert windows.groupby("trial").size().tolist() == [15, 9]
    values = cut(raw, 0, 9.3)
    # Each window is one of those that do not overlap, of a clip cut at its onset.
    for row in (0, 4, 8):
        np.testing.assert_allclose(
            data.inputs.signals["eog"][row],
            signal_statistics(values[3:4, 50 * row :], RATE, 2.0)[0],
            rtol=1e-4,
        )
    for function, feature in ((band_power, "psd"), (differential_entropy, "de")):
        found = de.from_raw(raw, step=0.5, feature=feature, **OPTIONS)
        whole = function(values[:3], RATE, BANDS, 2.0)
        np.testing.assert_allclose(found.inputs.signals["eeg"][:13:4], whole, rtol=1e-5)
    beats = heart_measures(values[4], RATE, 2.0, step=0.5)
    np.testing.assert_array_equal(beats[::4], heart_measures(values[4], RATE, 2.0))
    spans = {key: it.span for key, it in data.inputs.modalities.items()}
    assert spans == {"eeg": 2.0, "ecg": 16.0, "eog": 2.0}
    assert "2 s windows every 0.5 s" in data.inputs.name


def test_a_split_between_windows_that_overlap_is_found():
    def kinds(step):
        parts = [
            de.from_raw(
                make(seed=seed),
                step=step,
                **{**OPTIONS, "subject": seed, "name": "lab"},
            )
            for seed in (1, 2)
        ]
        inputs = de.join(*parts).inputs
        inputs = inputs.take(canonical(inputs))
        protocol = CrossSubject(held_out=0.5, unit="time")
        found = find_leaks(protocol, inputs, folds_of(protocol, inputs))
        return {leak.kind for leak in found}

    assert "overlapping-windows" not in kinds(None)
    assert "overlapping-windows" in kinds(1.0)


def test_no_window_lies_on_both_sides_of_the_event():
    epochs = mne.EpochsArray(
        np.random.default_rng(0).normal(scale=2e-5, size=(2, 3, 850)),
        mne.create_info(list(EEG), RATE, "eeg"),
        tmin=-4.2,
        verbose="error",
    )
    options = {**OPTIONS, "labels": ["a", "b"], "step": 0.5}
    data = de.from_epochs(epochs, before_event=True, **options)
    starts = data.inputs.windows["start"].to_numpy()[: len(data) // 2]
    assert starts.min() == -4.0
    assert not ((starts < 0) & (starts + 2.0 > 1e-9)).any()
    after = de.from_epochs(epochs, **options)
    assert after.inputs.windows["start"].min() == 0
    np.testing.assert_allclose(starts[starts >= 0], np.arange(0, 2.01, 0.5))


def test_clips_of_unequal_length_may_be_several_objects_of_epochs():
    def epochs(count, seconds, seed):
        values = np.random.default_rng(seed).normal(size=(count, 3, seconds * RATE))
        events = np.stack([np.arange(count), [0] * count, [1, 2][:count]], axis=1)
        return mne.EpochsArray(
            2e-5 * values,
            mne.create_info(list(EEG), RATE, "eeg"),
            events,
            event_id={"calm": 1, "tense": 2},
            verbose="error",
        )

    short, long = epochs(2, 4, 0), epochs(2, 7, 1)
    short.drop([0], verbose="error")
    data = de.from_epochs([short, long], **OPTIONS)
    windows = data.inputs.windows
    assert windows["trial"].tolist() == [2, 2, 3, 3, 3, 4, 4, 4]
    assert data.labels.tolist() == [1, 1, 0, 0, 0, 1, 1, 1]
    expected = [
        differential_entropy(1e6 * each, RATE, BANDS, 2.0)
        for each in (*short.get_data(), *long.get_data())
    ]
    np.testing.assert_allclose(
        data.inputs.signals["eeg"], np.concatenate(expected), rtol=1e-5
    )
    given = de.from_epochs([short, long], ["a", "b", "a"], **OPTIONS)
    assert given.labels.tolist() == [0, 0, 1, 1, 1, 0, 0, 0]


# -------------------------------------------------------------------------- samples


def test_windows_of_samples_are_the_recording_itself():
    kinds = {**EEG, "GSR": "gsr", "STI": "stim"}
    raw = make(kinds=kinds)
    data = de.from_raw(raw, feature="raw", step=0.5, **OPTIONS)
    eeg = data.inputs.modalities["eeg"]
    assert (eeg.unit, eeg.span, len(eeg.features)) == ("uV", 2.0, 200)
    assert eeg.features[:3] == ("0 ms", "10 ms", "20 ms")
    rows = data.inputs.windows
    for row, (trial, start) in enumerate(
        zip(rows["trial"], rows["start"], strict=True)
    ):
        onset = CLIPS[trial - 1][0] + start
        expected = cut(raw, onset, onset + 2)
        np.testing.assert_allclose(data.inputs.signals["eeg"][row], expected[:3], 1e-6)
        np.testing.assert_allclose(data.inputs.signals["gsr"][row], expected[3:4], 1e-6)
    assert "samples, 2 s windows every 0.5 s" in data.inputs.name
    assert "..., 1990 ms (200)" in data._repr_html_()


def test_a_sensor_that_is_off_has_no_samples():
    raw = make()
    raw._data[1, 700:900] = 3e-6
    found = de.from_raw(raw, feature="raw", **OPTIONS).inputs.signals["eeg"]
    lost = np.isnan(found).all(axis=2)
    assert np.argwhere(lost).tolist() == [[2, 1]]
    assert np.isnan(found).sum() == 200


def test_sampling_rates_are_never_mixed_up():
    fast = make(rate=200, seed=1)
    with pytest.raises(
        DataError, match=r"samples at 200 Hz; expected 100 Hz.*resample"
    ):
        de.from_raw([make(), fast], feature="raw", **OPTIONS)
    data = de.from_raw([make(), fast], feature="raw", resample=50.0, **OPTIONS)
    assert data.inputs.signals["eeg"].shape == (12, 3, 100)
    assert "resampled to 50 Hz" in data.inputs.name
    # Where they come from apart, the names of their samples tell them apart.
    one = de.from_raw(make(), feature="raw", **OPTIONS)
    half = de.from_raw(fast, feature="raw", **{**OPTIONS, "window": 1.0, "subject": 2})
    assert one.inputs.signals["eeg"].shape[2] == half.inputs.signals["eeg"].shape[2]
    with pytest.raises(DataError, match="features"):
        de.join(one, half)


# ---------------------------------------------------------------------------- files


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Two people; continuous files in two runs, and a file of epochs."""
    root = tmp_path_factory.mktemp("lab")
    kinds = {"EEG Fz-REF": "eeg", "Cz": "eeg", "Pz": "eeg", "VEOG": "eeg"}
    for person in ("ann", "bob"):
        (root / person).mkdir()
        for run in (2, 10):
            raw = make(kinds=kinds, seed=run + len(list(root.rglob("*.fif"))))
            raw.save(root / person / f"run{run}_raw.fif", verbose="error")
        (root / person / "notes.txt").write_text("tired")
    return root


def test_a_folder_of_files_is_converted_without_python(
    lab, tmp_path, monkeypatch, capsys
):
    words = f"domainemo data convert mne --data-root {lab} --output {tmp_path / 't'}"
    options = ["window=2", "step=1", 'events={calm="good",tense="bad"}']
    sets = [f"--set={each}" for each in options]
    monkeypatch.setattr(sys, "argv", [*words.split(), *sets])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert ended.value.code == 0, said.err
    assert "40 windows" in said.out
    data = de.Table(tmp_path / "t").load()
    windows = data.inputs.windows
    assert windows.groupby(["subject", "trial"]).size().tolist() == [3, 1, 6] * 4
    assert set(windows["subject"]) == {"ann", "bob"}
    assert data.classes == ("bad", "good")
    assert "VEOG taken for eog" in data.inputs.name
    assert data.inputs.modalities["eeg"].channels == ("Fz", "Cz", "Pz")
    assert data.inputs.modalities["eeg"].span == 2.0
    raws = [
        mne.io.read_raw(lab / "bob" / f"run{run}_raw.fif", verbose="error")
        .load_data(verbose="error")
        .drop_channels("VEOG")
        for run in (2, 10)
    ]
    expected = de.from_raw(raws, subject="bob", window=2.0, step=1.0)
    rows = (windows["subject"] == "bob").to_numpy()
    np.testing.assert_array_equal(
        data.inputs.signals["eeg"][rows], expected.inputs.signals["eeg"]
    )


def test_epochs_and_places_of_files_are_found_by_name(tmp_path):
    for seed, name in enumerate(("s1_day1", "s1_day2", "s2_day1")):
        epochs = mne.EpochsArray(
            np.random.default_rng(seed).normal(scale=2e-5, size=(4, 3, 450)),
            mne.create_info(list(EEG), RATE, "eeg"),
            np.array([[0, 0, 1], [1, 0, 2], [2, 0, 1], [3, 0, 3]]),
            event_id={"calm": 1, "tense": 2, "rest": 3},
            verbose="error",
        )
        epochs.save(tmp_path / f"{name}-epo.fif", verbose="error")
    data = de.load(
        "mne",
        tmp_path,
        files="{subject}_{session}-*",
        window=2.0,
        feature="raw",
        events=["calm", "tense"],
    )
    windows = data.inputs.windows
    places = windows[["subject", "session"]].drop_duplicates().to_numpy().tolist()
    assert places == [["s1", "day1"], ["s1", "day2"], ["s2", "day1"]]
    assert len(data) == 3 * 3 * 2
    np.testing.assert_allclose(
        data.inputs.signals["eeg"][14], 1e6 * epochs.get_data()[1, :, :200], 1e-6
    )
    copy = tmp_path / "s2_day2-epo.fif"
    copy.write_bytes((tmp_path / "s1_day1-epo.fif").read_bytes())
    with pytest.raises(DataError, match=r"s2_day2-epo.fif: found the same recording"):
        de.load("mne", tmp_path, files="{subject}_{session}-*")


def test_bands_may_be_named_or_told_by_their_edges():
    told, named, alone = (
        de.from_raw(make(), subject=1, window=2.0, bands=bands).inputs
        for bands in (BANDS, ["theta", "alpha"], "alpha")
    )
    for other, which in ((named, slice(None)), (alone, slice(1, None))):
        assert other.modalities["eeg"].features == tuple(BANDS)[which]
        expected = told.signals["eeg"][..., which]
        np.testing.assert_array_equal(other.signals["eeg"], expected)
    numpys = {name: np.array(edges, np.float32) for name, edges in BANDS.items()}
    other = de.from_raw(make(), subject=1, window=2.0, bands=numpys).inputs
    np.testing.assert_array_equal(other.signals["eeg"], told.signals["eeg"])
    with pytest.raises(ConfigurationError, match="band 'alpha' is 8; expected its low"):
        de.from_raw(make(), subject=1, bands={"alpha": 8})
    for bands in (None, 3, ["theta", ["alpha"]]):
        with pytest.raises(ConfigurationError, match=r"expected some of delta, theta"):
            de.from_raw(make(), subject=1, bands=bands)


@pytest.mark.parametrize("value", [np.nan, np.inf, 0, "2", True])
@pytest.mark.parametrize("key", ["window", "step"])
def test_lengths_that_are_none_are_refused(key, value):
    with pytest.raises(ConfigurationError, match=rf"{key} is .*; expected seconds"):
        de.from_raw(make(), **OPTIONS | {key: value})


def test_numbers_may_be_numpy_s():
    usual = de.from_raw(make(), duration=2, **OPTIONS)
    data = de.from_raw(make(), duration=np.int64(2), **OPTIONS | {"window": np.int8(2)})
    assert data.inputs.windows.equals(usual.inputs.windows)


@pytest.mark.parametrize("key", ["subject", "session"])
def test_nobody_s_recordings_are_refused(key):
    with pytest.raises(DataError, match=rf"{key}: found None; expected one"):
        de.from_raw(make(), **OPTIONS | {key: None})


def test_a_folder_that_may_not_be_read_is_told(lab, monkeypatch):
    """Its recordings would be missing without a word."""

    def walk(root, onerror):
        onerror(PermissionError(13, "Permission denied", str(lab / "bob")))
        return iter(())

    monkeypatch.setattr("os.walk", walk)
    with pytest.raises(DataError, match=r"bob: found what cannot be read"):
        de.load("mne", lab, window=2.0)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"files": "*"}, r"expected {subject} once"),
        ({"bands": ("mu",)}, r"bands=\('mu',\); expected some of delta"),
        ({"files": "{subject}/x*"}, "no file like '{subject}/x"),
        ({"labels": "felt"}, "run2_raw.*|label: found 'felt'"),
    ],
)
def test_a_folder_that_does_not_fit_is_told(lab, options, match):
    with pytest.raises((ConfigurationError, DataError), match=match):
        de.load("mne", lab, **{"window": 2.0, **options})


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "ann").mkdir()
    (tmp_path / "ann" / "one_raw.fif").write_bytes(b"nothing of the kind" * 99)
    with pytest.raises(DataError, match=r"one_raw.fif: found a file that MNE cannot r"):
        de.load("mne", tmp_path)


# ----------------------------------------------------------------------------- BIDS


def write_bids(root, subject, run, seed):
    """A run in BrainVision's format, by hand, with its events and channels."""
    folder = root / f"sub-{subject}" / "eeg"
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"sub-{subject}_task-film_run-{run}"
    values = np.random.default_rng(seed).normal(scale=20, size=(20 * RATE, 4))
    (folder / f"{stem}_eeg.eeg").write_bytes(values.astype("<f4").tobytes())
    names = ["Fz", "Cz", "Pz", "EOG"]
    channels = "\n".join(f"Ch{n}={it},,1,uV" for n, it in enumerate(names, 1))
    (folder / f"{stem}_eeg.vhdr").write_text(
        "Brain Vision Data Exchange Header File Version 1.0\n[Common Infos]\n"
        f"DataFile={stem}_eeg.eeg\nMarkerFile={stem}_eeg.vmrk\nDataFormat=BINARY\n"
        "DataOrientation=MULTIPLEXED\nNumberOfChannels=4\n"
        f"SamplingInterval={1_000_000 // RATE}\n[Binary Infos]\n"
        f"BinaryFormat=IEEE_FLOAT_32\n[Channel Infos]\n{channels}\n"
    )
    (folder / f"{stem}_eeg.vmrk").write_text(
        "Brain Vision Data Exchange Marker File, Version 1.0\n[Common Infos]\n"
        f"DataFile={stem}_eeg.eeg\n[Marker Infos]\nMk1=New Segment,,1,1,0\n"
    )
    (folder / f"{stem}_eeg.json").write_text(
        '{"TaskName": "film", "PowerLineFrequency": 50, "SamplingFrequency": 100,'
        ' "EEGReference": "A1", "SoftwareFilters": "n/a"}'
    )
    types = ["EEG", "EEG", "EEG", "EOG"]
    rows = [f"{n}\t{t}\tuV\tgood" for n, t in zip(names, types, strict=True)]
    (folder / f"{stem}_channels.tsv").write_text(
        "\n".join(["name\ttype\tunits\tstatus", *rows]) + "\n"
    )
    rows = ["1\t4.5\tfilm\tcalm\tsea", "7\t2\tfilm\ttense\tfire", "10\t7\trest\tn/a\tx"]
    head = "onset\tduration\ttrial_type\temotion\tstim_file"
    (folder / f"{stem}_events.tsv").write_text("\n".join([head, *rows]) + "\n")
    return values.T


def test_a_bids_folder_is_read(tmp_path):
    pytest.importorskip("mne_bids")
    (tmp_path / "dataset_description.json").write_text(
        '{"Name": "films", "BIDSVersion": "1.9.0"}'
    )
    (tmp_path / "participants.tsv").write_text("participant_id\nsub-01\nsub-02\n")
    runs = [(person, run) for person in ("01", "02") for run in (2, 10)]
    values = [write_bids(tmp_path, *each, seed) for seed, each in enumerate(runs)]
    options = {"events": ["film"], "stimulus": "stim_file", "window": 2.0}
    data = de.from_bids(tmp_path, "emotion", task="film", bands=BANDS, **options)
    windows = data.inputs.windows
    assert windows["trial"].tolist() == [1, 1, 2, 3, 3, 4] * 2
    assert windows["subject"].tolist() == ["01"] * 6 + ["02"] * 6
    assert windows["stimulus"].tolist() == ["sea", "sea", "fire"] * 4
    assert data.classes == ("calm", "tense")
    assert list(data.inputs.signals) == ["eeg", "eog"]
    last = differential_entropy(values[3][:3, 700:900], RATE, BANDS, 2.0)
    np.testing.assert_allclose(data.inputs.signals["eeg"][-1:], last, rtol=1e-4)
    again = de.load("bids", tmp_path, labels="emotion", bands=tuple(BANDS), **options)
    assert again.labels.tolist() == data.labels.tolist()
    with pytest.raises(DataError, match="EEG of the tasks film; expected some of the"):
        de.from_bids(tmp_path, task="rest")


def without_a_label(root, person, *films):
    """Turn a person's films into some of which nobody told the label."""
    for path in (root / f"sub-{person}").rglob("*_events.tsv"):
        told = path.read_text()
        for film in films:
            told = re.sub(rf"\t\w+\t{film}$", rf"\tn/a\t{film}", told, flags=re.M)
        path.write_text(told)


def test_clips_of_a_bids_folder_without_a_label_are_left_out(tmp_path):
    pytest.importorskip("mne_bids")
    (tmp_path / "dataset_description.json").write_text(
        '{"Name": "films", "BIDSVersion": "1.9.0"}'
    )
    for seed, person in enumerate(("01", "02")):
        write_bids(tmp_path, person, 1, seed)
    options = {"events": ["film"], "stimulus": "stim_file", "window": 2.0}
    whole = de.from_bids(tmp_path, "emotion", bands=BANDS, **options).inputs
    without_a_label(tmp_path, "01", "sea")
    data = de.from_bids(tmp_path, "emotion", bands=BANDS, **options)
    windows = data.inputs.windows
    assert windows["subject"].tolist() == ["01", "02", "02", "02"]
    assert windows["trial"].tolist() == [2, 1, 1, 2]  # clips keep their numbers
    assert [data.classes[n] for n in data.labels] == ["tense", "calm", "calm", "tense"]
    np.testing.assert_array_equal(data.inputs.signals["eeg"], whole.signals["eeg"][2:])
    assert "1 clips without a label left out" in data.inputs.name
    without_a_label(tmp_path, "01", "fire")
    without_a_label(tmp_path, "02", "fire", "sea")
    with pytest.raises(DataError, match="n/a for every clip in the column 'emotion'"):
        de.from_bids(tmp_path, "emotion", bands=BANDS, **options)


def test_without_its_library_a_bids_folder_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mne_bids", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'domainemo\[bids\]'"):
        de.from_bids(tmp_path)
