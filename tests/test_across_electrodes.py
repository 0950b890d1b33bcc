"""EEG scaled across its electrodes at each sample: against a slow loop."""

import numpy as np
import pytest

from domainemo import Simulated
from domainemo.data.normalisation import learned_of, normalise
from domainemo.normalisations.across_electrodes import AcrossElectrodes
from domainemo.normalisations.z_score import BySession
from domainemo.testing import check


@pytest.fixture(scope="module")
def inputs():
    made = Simulated(subjects=2, sessions=1, trials=3, windows=(3, 4), missing=0.2)
    inputs = made.load().inputs
    inputs.signals["eeg"][0, 3] = np.nan
    inputs.signals["eye"][0, 2] = np.nan
    return inputs


@pytest.fixture(scope="module")
def rows(inputs):
    first = inputs.windows["subject"].to_numpy() == 1
    return np.flatnonzero(first), np.flatnonzero(~first)


def test_electrodes_are_scaled_among_themselves_and_other_sensors_not_at_all(
    inputs, rows
):
    """Against a slow loop over windows and samples."""
    source, target = rows
    found, _ = normalise(inputs, "across-electrodes", source=source, target=target)
    before, after = inputs.signals["eeg"], found.signals["eeg"]
    for window, values in enumerate(before):
        for sample in range(values.shape[1]):
            known = [float(x) for x in values[:, sample] if np.isfinite(x)]
            if not known:
                continue
            mean = sum(known) / len(known)
            deviation = (sum((x - mean) ** 2 for x in known) / len(known)) ** 0.5
            for channel, value in enumerate(values[:, sample]):
                if np.isfinite(value):
                    expected = (value - mean) / deviation
                    assert after[window, channel, sample] == pytest.approx(
                        expected, rel=1e-4, abs=1e-5
                    )
    others = [name for name in inputs.signals if name != "eeg"]
    assert others
    for name in others:
        there = np.isfinite(inputs.signals[name])
        assert np.array_equal(
            found.signals[name][there], inputs.signals[name][there]
        ), name


def test_nothing_is_learned_across_electrodes(inputs, rows):
    source, target = rows
    method = AcrossElectrodes()
    known = learned_of(inputs, method, source)
    assert known == {name: {} for name in inputs.signals}
    found, scales = normalise(inputs, method, source=source, target=target)
    # As a finished model is shown recordings without a source.
    again, _ = normalise(
        inputs,
        method,
        source=source[:0],
        target=target,
        stored=scales,
        learned=known,
    )
    for name, values in found.signals.items():
        assert np.array_equal(values, again.signals[name], equal_nan=True)


def test_electrodes_that_agree_are_zero():
    values = np.full((3, 4, 2), 0.1, np.float32)
    values[1, 1:] = np.nan
    values[2] = np.nan
    found = AcrossElectrodes().apply(values, {})
    assert not found[0].any() and not found[1, 0].any()
    assert np.isnan(found[1, 1:]).all() and np.isnan(found[2]).all()


def test_a_normalisation_may_be_of_some_sensors_only(inputs, rows):
    class OfEyes(BySession):
        """Z-score of the eyes."""

        kinds = ("eye",)

    source, target = rows
    found, _ = normalise(inputs, OfEyes(), source=source, target=target)
    every, none = (
        normalise(inputs, name, source=source, target=target)[0]
        for name in ("session", "none")
    )
    for name, modality in inputs.modalities.items():
        expected = every if modality.kind == "eye" else none
        assert np.array_equal(
            found.signals[name], expected.signals[name], equal_nan=True
        )
        learned = learned_of(inputs, OfEyes(), source)[name]
        assert bool(learned) == (modality.kind == "eye")


def test_the_shipped_checks_pass():
    check(AcrossElectrodes)
