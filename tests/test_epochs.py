"""Recordings out of MNE's epochs, and joined recordings."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from domainemo.core import EmotionData
from domainemo.data.epochs import from_epochs
from domainemo.data.joining import join
from domainemo.data.montage import standard_montage
from domainemo.data.signals.features import (
    band_power,
    differential_entropy,
    heart_measures,
)
from domainemo.data.table import from_arrays
from domainemo.errors import ConfigurationError, DataError, DomainemoWarning

mne = pytest.importorskip("mne")

RATE = 100
NUMBERED = "stimuli numbered as the trials, as the events name the classes"
BANDS = {"theta": (4.0, 8.0), "alpha": (8.0, 14.0)}
KINDS = {"Fz": "eeg", "Cz": "eeg", "Pz": "eeg"}


def signals(trials=4, kinds=KINDS, seconds=8.5, seed=0):
    """Values in MNE's units (V)."""
    generator = np.random.default_rng(seed)
    shape = (trials, len(kinds), round(seconds * RATE))
    return generator.normal(scale=2e-5, size=shape)


def make(
    values=None,
    kinds=KINDS,
    events=None,
    metadata=None,
    tmin=0.0,
    event_id=None,
):
    values = signals(kinds=kinds) if values is None else values
    events = [1, 2] * (len(values) // 2) if events is None else events
    samples = 1000 * np.arange(len(values))
    table = np.stack([samples, np.zeros(len(values)), events], axis=1).astype(int)
    return mne.EpochsArray(
        values,
        mne.create_info(list(kinds), RATE, list(kinds.values())),
        table,
        tmin=tmin,
        event_id=event_id or {"calm": 1, "tense": 2},
        metadata=metadata,
        verbose="error",
    )


# ---------------------------------------------------------------------- from_epochs


@pytest.mark.parametrize(
    ("feature", "extract"), [("de", differential_entropy), ("psd", band_power)]
)
def test_each_epoch_becomes_a_trial_of_windows_in_microvolts(feature, extract):
    values = signals()
    data = from_epochs(
        make(values), subject=7, feature=feature, bands=BANDS, window=2.0
    )
    assert isinstance(data, EmotionData)
    eeg = data.inputs.modalities["eeg"]
    assert (eeg.channels, eeg.kind) == (("Fz", "Cz", "Pz"), "eeg")
    assert eeg.features == ("theta", "alpha")
    assert eeg.unit == {"de": "nat", "psd": "ln(uV^2/Hz)"}[feature]
    expected = [extract(1e6 * epoch, RATE, BANDS, 2.0) for epoch in values]
    found = data.inputs.signals["eeg"]
    np.testing.assert_allclose(found, np.concatenate(expected), rtol=1e-5)
    windows = data.inputs.windows
    assert windows["trial"].tolist() == np.repeat([1, 2, 3, 4], 4).tolist()
    assert windows["start"].tolist() == [0.0, 2.0, 4.0, 6.0] * 4
    assert windows["subject"].tolist() == [7] * 16
    assert windows["session"].tolist() == [1] * 16
    assert windows["stimulus"].tolist() == windows["trial"].tolist()
    assert data.classes == ("calm", "tense")
    assert data.labels.tolist() == np.repeat([0, 1, 0, 1], 4).tolist()
    assert data.inputs.name == f"own epochs ({feature}, 2 s windows; {NUMBERED})"


@pytest.mark.parametrize(
    ("tmin", "kept", "left_out", "starts"),
    [
        (-0.5, False, "0.5 s", [0.0, 4.0]),
        (-4.2, False, "4.2 s", [0.0]),
        (-4.2, True, "0.2 s", [-4.0, 0.0]),
        (-8.0, True, None, [-8.0, -4.0]),
        (1.0, False, None, [1.0, 5.0]),
    ],
)
def test_what_precedes_the_event_does_not_get_its_label(tmin, kept, left_out, starts):
    """Not by default, and no window ever lies on both sides of the event."""
    values = signals()
    epochs = make(values, tmin=tmin)
    data = from_epochs(epochs, subject=1, bands=BANDS, before_event=kept)
    assert data.inputs.windows["start"].tolist() == starts * 4
    first = round((starts[0] - tmin) * RATE)
    expected = differential_entropy(1e6 * values[2, :, first:], RATE, BANDS)
    rows = slice(2 * len(starts), 3 * len(starts))
    np.testing.assert_allclose(
        data.inputs.signals["eeg"][rows], expected, rtol=1e-4, atol=1e-4
    )
    said = f"{left_out} before the event left out" in data.inputs.name
    assert said == (left_out is not None)
    assert epochs.tmin == pytest.approx(tmin)


def test_epochs_before_the_event_alone_are_refused():
    with pytest.raises(DataError, match=r"-10 to -1.51 s, all.*before_event=True"):
        from_epochs(make(tmin=-10.0), subject=1, bands=BANDS)
    with pytest.raises(DataError, match=r"epochs of 2.5 s; expected at least one"):
        from_epochs(make(tmin=-6.0), subject=1, bands=BANDS)


def test_labels_may_be_given_epoch_by_epoch():
    options = {"subject": 1, "bands": BANDS}
    by_name = from_epochs(make(), ["b", "a", "a", "b"], **options)
    assert by_name.classes == ("a", "b")
    assert by_name.labels.tolist() == [1, 1, 0, 0, 0, 0, 1, 1]
    by_number = from_epochs(
        make(), np.array([2, 0, 1, 2]), classes=["low", "mid", "high"], **options
    )
    assert by_number.classes == ("low", "mid", "high")
    assert by_number.labels.tolist() == [2, 2, 0, 0, 1, 1, 2, 2]


def test_columns_of_the_metadata_may_be_named():
    metadata = pd.DataFrame(
        {
            "person": ["p1", "p1", "p2", "p2"],
            "visit": [1, 2, 1, 1],
            "clip": ["sea", "storm", "sand", "fire"],
            "felt": ["calm", "tense", "tense", "calm"],
        }
    )
    data = from_epochs(
        make(metadata=metadata),
        "felt",
        subject="person",
        session="visit",
        stimulus="clip",
        bands=BANDS,
    )
    windows = data.inputs.windows
    assert windows["subject"].tolist() == ["p1"] * 4 + ["p2"] * 4
    assert windows["session"].tolist() == [1, 1, 2, 2, 1, 1, 1, 1]
    assert windows["stimulus"].tolist()[::2] == ["sea", "storm", "sand", "fire"]
    assert windows["trial"].tolist() == [1, 1, 2, 2, 3, 3, 4, 4]
    assert data.labels.tolist() == [0, 0, 1, 1, 1, 1, 0, 0]
    named = from_epochs(make(), subject="p1", stimulus=[1, 2, 3, 2], bands=BANDS)
    assert set(named.inputs.windows["subject"]) == {"p1"}
    assert named.inputs.windows["stimulus"].tolist() == [1, 1, 2, 2, 3, 3, 2, 2]


def test_dropped_epochs_leave_the_others_their_numbers():
    values = signals()
    epochs = make(values).drop([1], verbose="error")
    data = from_epochs(epochs, subject=1, bands=BANDS)
    assert data.inputs.windows["trial"].tolist() == [1, 1, 3, 3, 4, 4]
    whole = from_epochs(make(values), subject=1, bands=BANDS)
    rows = np.array([0, 1, 4, 5, 6, 7])
    np.testing.assert_array_equal(
        data.inputs.signals["eeg"], whole.inputs.signals["eeg"][rows]
    )
    assert data.labels.tolist() == whole.labels[rows].tolist()


def test_epochs_not_yet_loaded_are_read_and_left_as_they_are():
    values = np.concatenate(list(signals()), axis=1)
    values[0, 900] = 1.0
    raw = mne.io.RawArray(
        values, mne.create_info(list(KINDS), RATE, "eeg"), verbose="error"
    )
    events = np.array([[850 * i, 0, 1 + i % 2] for i in range(4)])
    epochs = mne.Epochs(
        raw,
        events,
        {"calm": 1, "tense": 2},
        tmin=0,
        tmax=8.49,
        baseline=None,
        reject={"eeg": 0.5},
        verbose="error",
    )
    data = from_epochs(epochs, ["a", "b", "c"], subject=1, bands=BANDS)
    assert data.inputs.windows["trial"].tolist() == [1, 1, 3, 3, 4, 4]
    assert not epochs.preload
    whole = from_epochs(make(signals()), subject=1, bands=BANDS)
    np.testing.assert_allclose(
        data.inputs.signals["eeg"][2:], whole.inputs.signals["eeg"][4:], rtol=1e-5
    )


def test_the_epochs_are_not_changed():
    epochs = make()
    before = epochs.get_data(copy=True)
    from_epochs(epochs, subject=1, bands=BANDS)
    np.testing.assert_array_equal(epochs.get_data(copy=False), before)


def test_bad_channels_are_lost_and_named():
    values = signals()
    values[1, 1, 5] = np.nan
    epochs = make(values)
    epochs.info["bads"] = ["Cz"]
    data = from_epochs(epochs, subject=1, bands=BANDS, bads="nan")
    lost = np.isnan(data.inputs.signals["eeg"])
    np.testing.assert_array_equal(lost.all(axis=(0, 2)), [False, True, False])
    assert lost.sum() == lost[:, 1].size
    assert data.inputs.name == f"own epochs (de, 4 s windows; Cz bad; {NUMBERED})"


def test_other_channels_become_modalities_of_their_own():
    kinds = {
        "STI": "stim",
        "GSR": "gsr",
        "ECG": "ecg",
        "Fz": "eeg",
        "EOG1": "eog",
        "EOG2": "eog",
        "rating": "misc",
    }
    values = signals(kinds=kinds, seconds=20)
    beat = (np.arange(2000) / RATE) % 0.8 - 0.4
    values[:, 2] = 1e-3 * np.exp(-0.5 * (beat / 0.02) ** 2) + 0.01 * values[:, 2]
    values[:, 1] = 5e-6 + 1e-7 * np.arange(2000) / RATE
    data = from_epochs(make(values, kinds), subject=1, bands=BANDS)
    assert list(data.inputs.signals) == ["eeg", "ecg", "eog", "gsr"]
    heart = data.inputs.modalities["ecg"]
    assert heart.channels == ("ECG",)
    assert heart.features == ("heart_rate", "sdnn", "rmssd", "ln_sd")
    expected = [heart_measures(1e3 * epoch[2], RATE) for epoch in values]
    np.testing.assert_allclose(
        data.inputs.signals["ecg"][:, 0], np.concatenate(expected), rtol=1e-5
    )
    np.testing.assert_allclose(data.inputs.signals["ecg"][:, 0, 0], 75, atol=0.5)
    skin = data.inputs.modalities["gsr"]
    assert (skin.features, skin.unit) == (("mean", "deviation", "slope"), "uS")
    level, _, slope = data.inputs.signals["gsr"][1, 0]
    assert level == pytest.approx(5 + 0.1 * (6 - 0.005))
    assert slope == pytest.approx(0.1)
    eyes = data.inputs.signals["eog"]
    assert data.inputs.modalities["eog"].channels == ("EOG1", "EOG2")
    assert eyes[3, 1, 0] == pytest.approx(
        1e6 * values[0, 5, 1200:1600].mean(), rel=1e-4
    )
    assert data.inputs.name.endswith("; STI left out; rating left out)")


def test_lost_gaze_is_lost_and_no_error():
    kinds = {"Fz": "eeg", "x": "eyegaze", "pupil": "pupil"}
    values = signals(kinds=kinds)
    values[0, 1, 100:420] = np.nan
    data = from_epochs(make(values, kinds), subject=1, bands=BANDS)
    assert data.inputs.modalities["eyegaze"].kind == "eye"
    lost = np.isnan(data.inputs.signals["eyegaze"]).all(axis=(1, 2))
    assert lost.tolist() == [True] + [False] * 7


def test_epochs_that_do_not_fit_are_named():
    def fails(match, *given, epochs=None, error=DataError, **options):
        options = {"subject": 1, "bands": BANDS, "name": "lab"} | options
        with pytest.raises(error, match=match):
            from_epochs(make() if epochs is None else epochs, *given, **options)

    metadata = pd.DataFrame({"felt": ["a", None, "b", "a"], "person": list("xxyy")})
    described = make(metadata=metadata)
    fails(
        "feature is 'power' of type str; expected one of 'de', 'psd'",
        error=ConfigurationError,
        feature="power",
    )
    fails(r"lab: found a ndarray; expected mne.Epochs", epochs=signals())
    fails("no epochs", epochs=make()[:0])
    fails("epochs of 8.5 s; expected at least one window of 10 s", window=10.0)
    fails("holds 0 samples", error=ConfigurationError, window=1e-3)
    fails(r"lab, label: found values of shape \(3,\); expected one per", [1, 2, 3])
    fails("lab, label: found 'happy'.*there is none", "happy")
    fails("'flet'.*Did you mean 'felt'", "flet", epochs=described)
    fails(r"column 'felt', epoch 1 \(counted from 0\)", "felt", epochs=described)
    fails("'persn'.*Did you mean 'person'", epochs=described, subject="persn")
    fails(r"lab, subject: found values of shape \(2,\)", subject=[1, 2])
    fails("unknown class 'calm'", classes=["low", "high"])
    broken = signals()
    broken[2, 1, 7] = np.nan
    fails(r"lab, epoch 2 \(counted from 0\), channel 'Cz'", epochs=make(broken))
    fails("lab, channel types: found stim", epochs=make(kinds={"S": "stim"}))
    kinds = {"Fz": "eeg", "ECG": "ecg"}
    short = make(signals(kinds=kinds, seconds=4), kinds)
    fails("lab, ECG: found epochs of 4 s; expected at least 5 s", epochs=short)


def test_mne_is_imported_only_where_it_is_needed():
    code = "import sys, domainemo.data.epochs; sys.exit('mne' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ------------------------------------------------------------- electrodes and others


def test_electrodes_are_called_by_their_names():
    kinds = dict.fromkeys(["EEG Fz-REF", "EEG Cz", "Pz."], "eeg")
    values = signals()
    data = from_epochs(make(values, kinds), subject=1, bands=BANDS)
    assert data.inputs.modalities["eeg"].channels == ("Fz", "Cz", "Pz")
    assert "EEG Fz-REF and 2 more called by the electrode, Fz" in data.inputs.name
    plain = from_epochs(make(values), subject=1, bands=BANDS)
    np.testing.assert_array_equal(
        data.inputs.signals["eeg"], plain.inputs.signals["eeg"]
    )
    twice = make(kinds=dict.fromkeys(["EEG Fz", "Fz-A1"], "eeg"))
    with pytest.raises(DataError, match="'EEG Fz', 'Fz-A1', which are the same"):
        from_epochs(twice, subject=1, bands=BANDS)


def test_other_sensors_typed_as_eeg_are_refused_all_at_once():
    names = ["EEG Fp1", "EEG A2-A1", "ECG ECG", "hEOG", "EMG chin", "Status"]
    with pytest.raises(DataError) as caught:
        from_epochs(make(kinds=dict.fromkeys(names, "eeg")), subject=1, bands=BANDS)
    message = str(caught.value)
    assert "5 of 6 that are no electrodes" in message and "'EEG Fp1'" not in message
    types = {
        "EEG A2-A1": "misc",
        "ECG ECG": "ecg",
        "hEOG": "eog",
        "EMG chin": "emg",
        "Status": "stim",
    }
    assert f"epochs.set_channel_types({types})" in message
    # What the message says is what helps.
    names.remove("ECG ECG")
    epochs = make(kinds=dict.fromkeys(names, "eeg"))
    del types["ECG ECG"]
    epochs.set_channel_types(types, on_unit_change="ignore", verbose="error")
    data = from_epochs(epochs, subject=1, bands=BANDS)
    assert list(data.inputs.signals) == ["eeg", "emg", "eog"]
    assert data.inputs.modalities["eeg"].channels == ("Fp1",)


def test_names_that_say_nothing_are_listed():
    epochs = make(kinds=dict.fromkeys(["Cz", "E17", "E18"], "eeg"))
    with pytest.warns(DomainemoWarning, match="2 of 3 channels.*'E17', 'E18'"):
        from_epochs(epochs, subject=1, bands=BANDS)


# -------------------------------------------------------------------------- stimuli


def test_inputs_do_not_hold_the_label_where_events_name_it():
    named = from_epochs(make(), subject=1, bands=BANDS)
    given = from_epochs(make(), ["b", "a", "b", "a"], subject=1, bands=BANDS)
    for data in (named, given):
        assert data.inputs.windows["stimulus"].tolist() == [1, 1, 2, 2, 3, 3, 4, 4]
        assert NUMBERED in data.inputs.name
    # Events that are no function of the label are what was shown.
    clips = from_epochs(make(), ["a", "a", "b", "a"], subject=1, bands=BANDS)
    assert clips.inputs.windows["stimulus"].tolist()[::2] == ["calm", "tense"] * 2


def test_events_that_hold_the_class_in_their_names_are_numbered():
    names = {"calm/sea": 3, "calm/sand": 4, "tense/fire": 5, "tense/fall": 6}
    epochs = make(events=[3, 5, 4, 6], event_id=names)
    labels = ["calm", "tense", "calm", "tense"]
    data = from_epochs(epochs, labels, subject=1, bands=BANDS)
    assert data.inputs.windows["stimulus"].nunique() == 4
    assert "stimuli numbered by the events' names" in data.inputs.name


def test_a_stimulus_has_one_number_however_events_are_counted():
    """Each file has codes of its own, where MNE made them of its annotations."""
    shown, seen = ["calm/sea", "tense/fire", "calm/sand", "tense/fall"], []
    for person, codes in enumerate([(1, 2, 3, 4), (2, 4, 5, 3)]):
        names = dict(zip(shown, codes, strict=True))
        epochs = make(events=list(codes), event_id=names)
        labels = [name.partition("/")[0] for name in shown]
        data = from_epochs(epochs, labels, subject=person, bands=BANDS)
        seen.append(data.inputs.windows["stimulus"].tolist())
    assert seen[0] == seen[1]


def test_a_stimulus_that_is_the_label_is_warned_of():
    with pytest.warns(DomainemoWarning, match="each class has one stimulus of its own"):
        from_epochs(make(), subject=1, stimulus=[8, 9, 8, 9], bands=BANDS)
    words = ["calm_1", "tense_1", "calm_2", "tense_2"]
    with pytest.warns(DomainemoWarning, match="the stimulus \\('calm_1'\\) holds"):
        from_epochs(make(), subject=1, stimulus=words, bands=BANDS)


# ---------------------------------------------------------------------- bad channels

CAP = dict.fromkeys(["Fp1", "Fp2", "F3", "F4", "Cz", "P3", "P4", "O1", "O2"], "eeg")


def test_bad_electrodes_are_interpolated_from_the_others():
    """A field that varies smoothly over the head is found again."""
    generator = np.random.default_rng(0)
    places = standard_montage().get_positions()["ch_pos"]
    places = np.array([places[name] for name in CAP])
    weights = generator.normal(size=(4, 3, round(8.5 * RATE)))
    values = 1e-4 * (1 + np.einsum("cx,txs->tcs", 10 * places, weights))
    whole = make(values, CAP)
    broken = values.copy()
    broken[:, 4] = np.nan
    epochs = make(broken, CAP)
    epochs.info["bads"] = ["Cz"]
    options = {"subject": 1, "bands": BANDS}
    found = from_epochs(epochs, **options)
    expected = from_epochs(whole, **options)
    assert found.inputs.modalities == expected.inputs.modalities
    assert "Cz bad, interpolated" in found.inputs.name
    one, other = found.inputs.signals["eeg"], expected.inputs.signals["eeg"]
    np.testing.assert_array_equal(np.delete(one, 4, 1), np.delete(other, 4, 1))
    assert np.abs(one[:, 4] - other[:, 4]).max() < 0.7  # a factor of two in amplitude
    assert epochs.info["bads"] == ["Cz"] and np.isnan(epochs.get_data()[:, 4]).all()


def test_what_cannot_be_interpolated_is_refused_with_the_choices():
    kinds = {**CAP, "EOG1": "eog", "EOG2": "eog"}
    options = {"subject": 1, "bands": BANDS}
    epochs = make(kinds=kinds)
    epochs.info["bads"] = ["EOG1"]
    with pytest.raises(DataError, match=r"'EOG1', which cannot.*bads='drop'.*'nan'"):
        from_epochs(epochs, **options)
    dropped = from_epochs(epochs, bads="drop", **options)
    assert dropped.inputs.modalities["eog"].channels == ("EOG2",)
    assert "EOG1 bad, left out" in dropped.inputs.name
    epochs.info["bads"] = ["EOG1", "EOG2"]  # the sensor is lost: no channel of it alone
    lost = from_epochs(epochs, **options).inputs
    assert np.isnan(lost.signals["eog"]).all()
    assert "EOG1 bad; EOG2 bad;" in lost.name
    few = make()
    few.info["bads"] = ["Cz"]
    with pytest.raises(DataError, match=r"'Cz', which cannot.*at least 4 good ones"):
        from_epochs(few, **options)
    with pytest.raises(ConfigurationError, match="bads is 'skip'"):
        from_epochs(few, bads="skip", **options)


# ----------------------------------------------------------------------------- join


def person(subject, seed=0, **options):
    return from_epochs(
        make(signals(seed=seed)),
        subject=subject,
        **{"bands": BANDS, "name": "lab", **options},
    )


def test_joined_recordings_hold_what_each_held_in_order():
    late, early = person(2, seed=2), person(1, seed=1)
    both = join(late, early)
    assert both.inputs.windows["subject"].tolist() == [1] * 8 + [2] * 8
    for subject, part in ((1, early), (2, late)):
        rows = np.flatnonzero(both.inputs.windows["subject"] == subject)
        again = both.take(rows)
        pd.testing.assert_frame_equal(again.inputs.windows, part.inputs.windows)
        np.testing.assert_array_equal(again.labels, part.labels)
        np.testing.assert_array_equal(
            again.inputs.signals["eeg"], part.inputs.signals["eeg"]
        )
    assert both.classes == ("calm", "tense")
    assert both.inputs.name == f"lab (de, 4 s windows; {NUMBERED})"


def test_names_and_identifiers_are_kept_apart():
    both = join(person(10, name="one"), person("a", name="two"))
    words = f"(de, 4 s windows; {NUMBERED})"
    assert both.inputs.name == f"one {words}, two {words}"
    assert set(both.inputs.windows["subject"]) == {"10", "a"}
    alone = join(person(3))
    pd.testing.assert_frame_equal(alone.inputs.windows, person(3).inputs.windows)


def test_recordings_that_differ_are_not_joined():
    def fails(other, match):
        with pytest.raises(DataError, match=match):
            join(person(1), other)

    fails(person(1), "two windows with subject 1, session 1, trial 1, start 0.0")
    fails(person(2, classes=["tense", "calm"]), "classes: found tense, calm; expected")
    fails(person(2, feature="psd"), r"'eeg', unit: found ln\(uV\^2/Hz\); expected nat")
    fails(person(2, bands={"theta": (4, 8)}), "features: found theta; expected theta,")
    renamed = person(2)
    eeg = dataclasses.replace(
        renamed.inputs.modalities["eeg"], channels=("Cz", "Fz", "Pz")
    )
    inputs = dataclasses.replace(renamed.inputs, modalities={"eeg": eeg})
    other = dataclasses.replace(renamed, inputs=inputs)
    fails(other, "channels: found Cz, Fz, Pz; expected Fz, Cz, Pz")
    kinds = {"Fz": "eeg", "EOG": "eog"}
    more = from_epochs(make(kinds=kinds), subject=2, bands=BANDS)
    fails(more, "modalities: found eeg, eog; expected eeg")
    with pytest.raises(DataError, match="join: found no recordings"):
        join()


def test_the_advice_keeps_a_person_one_person():
    with pytest.raises(DataError) as caught:
        join(person(1), person(1))
    assert "number_trials=True" in str(caught.value)
    assert "own subject" not in str(caught.value)


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        ([0, 1, 2], [0, 4, 8], "every 1 s, 4 s"),
        ([0], [0, 4, 8], None),  # of one alone nobody can tell
        ([0, 1, 2], [0, 2, 3], None),  # one was lost
    ],
)
def test_windows_of_several_lengths_are_told(recwarn, first, second, told):
    parts = [
        from_arrays(
            {"eye": np.random.default_rng(0).normal(size=(6, 2))},
            subject=who,
            trial=np.repeat([1, 2], 3) if len(starts) == 3 else np.arange(6),
            start=np.tile(starts, 6 // len(starts)),
            labels=np.tile([0, 1], 3) if len(starts) == 1 else np.repeat([0, 1], 3),
        )
        for who, starts in (("ann", first), ("bob", second))
    ]
    recwarn.clear()
    assert len(join(*parts).labels) == 12
    said = [str(each.message) for each in recwarn]
    assert [told in each for each in said] == ([True] if told else []), said


def test_recordings_of_one_sitting_are_joined_with_trials_numbered_on():
    """Clips of different length are in objects of their own, each counted from 1."""
    short = from_epochs(make(signals(2, seconds=4.5)), subject=1, bands=BANDS)
    long = from_epochs(make(signals(4, seed=1)), subject=1, bands=BANDS)
    other = person(2)
    data = join(short, other, long, number_trials=True)
    windows = data.inputs.windows
    theirs = windows[windows["subject"] == 1]
    assert theirs["trial"].tolist() == [1, 2, 3, 3, 4, 4, 5, 5, 6, 6]
    assert theirs["stimulus"].tolist() == theirs["trial"].tolist()
    rows = np.flatnonzero((windows["subject"] == 1) & (windows["trial"] > 2))
    np.testing.assert_array_equal(
        data.inputs.signals["eeg"][rows], long.inputs.signals["eeg"]
    )
    assert windows["trial"][windows["subject"] == 2].unique().tolist() == [1, 2, 3, 4]
    clips = [
        from_epochs(make(), subject=1, stimulus=shown, bands=BANDS)
        for shown in (["sea", "fire", "sand", "fall"], ["ice", "sea", "sun", "rain"])
    ]
    named = join(*clips, number_trials=True).inputs.windows
    assert named["stimulus"].tolist()[::2] == [
        *("sea", "fire", "sand", "fall"),
        *("ice", "sea", "sun", "rain"),
    ]


def test_trials_may_be_given():
    options = {"subject": 1, "bands": BANDS}
    one = from_epochs(make(), trial=[11, 12, 13, 14], **options)
    assert one.inputs.windows["trial"].tolist()[::2] == [11, 12, 13, 14]
    metadata = pd.DataFrame({"place": [4, 3, 2, 1]})
    two = from_epochs(make(metadata=metadata), trial="place", **options)
    assert join(one, two).inputs.windows["trial"].nunique() == 8
    with pytest.raises(
        DataError, match=r"epoch 2 .*a second subject 1, session 1, tri"
    ):
        from_epochs(make(), trial=[1, 2, 1, 3], **options)


def test_what_not_all_have_is_left_out_for_everybody_on_request():
    kinds = {"Fz": "eeg", "Pz": "eeg", "Cz": "eeg", "EOG": "eog"}
    bad = make(kinds=kinds)
    bad.info["bads"] = ["Pz"]
    one = from_epochs(bad, subject=1, bands=BANDS, bads="nan", name="lab")
    two = person(2)
    data = join(one, two, common=True)
    assert data.inputs.modalities["eeg"].channels == ("Fz", "Cz")
    assert list(data.inputs.signals) == ["eeg"]
    assert data.inputs.name.endswith("(left out: eeg Pz, eog)")
    found = data.inputs.signals["eeg"]
    np.testing.assert_array_equal(found[:8], one.inputs.signals["eeg"][:, [0, 2]])
    np.testing.assert_array_equal(found[8:], two.inputs.signals["eeg"][:, [0, 1]])
    with pytest.raises(DataError, match="no channel that all"):
        join(person(1), renamed(person(2), ("C3", "C4", "O1")), common=True)


def renamed(data, channels):
    eeg = dataclasses.replace(data.inputs.modalities["eeg"], channels=channels)
    inputs = dataclasses.replace(data.inputs, modalities={"eeg": eeg})
    return dataclasses.replace(data, inputs=inputs)


def test_a_channel_that_training_would_refuse_is_told_at_once():
    bad = make()
    bad.info["bads"] = ["Cz"]
    lost = from_epochs(bad, subject=2, bands=BANDS, bads="nan", name="lab")
    with pytest.warns(DomainemoWarning, match=r"eeg Cz \(subject 2\).*common=True"):
        join(person(1), lost)


def test_volts_beside_microvolts_are_told():
    epochs = make(1e6 * signals(seed=3))
    volts = from_epochs(epochs, subject=3, bands=BANDS, name="lab")
    with pytest.warns(
        DomainemoWarning, match="between subject 1, subject 2 and subject 3 "
    ):
        join(person(1), person(2, seed=2), volts)
