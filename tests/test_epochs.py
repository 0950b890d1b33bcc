"""Recordings out of MNE's epochs, and joined recordings."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from domainemo.core import EmotionData
from domainemo.data.epochs import from_epochs, join
from domainemo.data.signals.features import (
    band_power,
    differential_entropy,
    heart_measures,
)
from domainemo.errors import ConfigurationError, DataError

mne = pytest.importorskip("mne")

RATE = 100
BANDS = {"theta": (4.0, 8.0), "alpha": (8.0, 14.0)}
KINDS = {"Fz": "eeg", "Cz": "eeg", "Pz": "eeg"}


def signals(trials=4, kinds=KINDS, seconds=8.5, seed=0):
    """Values in MNE's units (V)."""
    generator = np.random.default_rng(seed)
    shape = (trials, len(kinds), round(seconds * RATE))
    return generator.normal(scale=2e-5, size=shape)


def make(values=None, kinds=KINDS, events=None, metadata=None, tmin=0.0):
    values = signals(kinds=kinds) if values is None else values
    events = [1, 2] * (len(values) // 2) if events is None else events
    samples = 1000 * np.arange(len(values))
    table = np.stack([samples, np.zeros(len(values)), events], axis=1).astype(int)
    return mne.EpochsArray(
        values,
        mne.create_info(list(kinds), RATE, list(kinds.values())),
        table,
        tmin=tmin,
        event_id={"calm": 1, "tense": 2},
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
    assert windows["stimulus"].tolist() == np.repeat(["calm", "tense"] * 2, 4).tolist()
    assert data.classes == ("calm", "tense")
    assert data.labels.tolist() == np.repeat([0, 1, 0, 1], 4).tolist()
    assert data.inputs.name == f"own epochs ({feature}, 2 s windows)"


def test_start_counts_from_the_event():
    data = from_epochs(make(tmin=-0.5), subject=1, bands=BANDS)
    assert data.inputs.windows["start"].tolist() == [-0.5, 3.5] * 4


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
            "clip": ["sea", "storm", "sea", "fire"],
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
    assert windows["stimulus"].tolist()[::2] == ["sea", "storm", "sea", "fire"]
    assert windows["trial"].tolist() == [1, 1, 2, 2, 3, 3, 4, 4]
    assert data.labels.tolist() == [0, 0, 1, 1, 1, 1, 0, 0]
    named = from_epochs(make(), subject="p1", stimulus=[1, 2, 1, 2], bands=BANDS)
    assert set(named.inputs.windows["subject"]) == {"p1"}
    assert named.inputs.windows["stimulus"].tolist() == [1, 1, 2, 2, 1, 1, 2, 2]


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
    data = from_epochs(epochs, subject=1, bands=BANDS)
    lost = np.isnan(data.inputs.signals["eeg"])
    np.testing.assert_array_equal(lost.all(axis=(0, 2)), [False, True, False])
    assert lost.sum() == lost[:, 1].size
    assert data.inputs.name == "own epochs (de, 4 s windows; Cz bad)"


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
        "feature='power'; expected one of 'de', 'psd'",
        error=ConfigurationError,
        feature="power",
    )
    fails(r"lab: found a ndarray; expected mne.Epochs", epochs=signals())
    fails("no epochs", epochs=make()[:0])
    fails("epochs of 8.5 s; expected at least one window of 10 s", window=10.0)
    fails("holds 0 samples", error=ConfigurationError, window=0.0)
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
    assert both.inputs.name == "lab (de, 4 s windows)"


def test_names_and_identifiers_are_kept_apart():
    both = join(person(10, name="one"), person("a", name="two"))
    assert both.inputs.name == "one (de, 4 s windows), two (de, 4 s windows)"
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
