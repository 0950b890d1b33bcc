"""One person in volts beside another in microvolts; and people who merely differ."""

import os
import re
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domainemo import Inputs, Modality, Simulated, from_arrays, write_table
from domainemo.data.loading import load
from domainemo.data.normalisation import scales_of
from domainemo.data.table import Table
from domainemo.data.units import warn_of_distance, warn_of_units
from domainemo.errors import DomainemoWarning

REPOSITORY = Path(__file__).parents[1]
DATA = Path(os.environ.get("DOMAINEMO_DATA", REPOSITORY.parent / "shared" / "data"))
quick = settings(max_examples=15, deadline=None, database=None)

LINEAR = Modality(("gsr", "pulse"), ("mean",), "physiology")
HEART = Modality(("ECG",), ("heart_rate", "ln_sd"), "physiology", "bpm, ln(mV)")
ENTROPY = Modality(("Fz", "Cz"), ("alpha", "beta"), "eeg", "nat")
MEASURES = Modality(tuple(f"measure-{n}" for n in range(1, 31)), ("value",), "eye")
POWER = Modality(("Fz", "Cz"), ("alpha", "beta"), "eeg")


def recordings(modality, seed=0, people=4, spread=0.5):
    """People with an offset and a gain of their own, thirty windows each."""
    rng = np.random.default_rng(seed)
    shape = len(modality.channels), len(modality.features)
    subjects = np.repeat(np.arange(people), 30)
    own = rng.normal(0, spread, (people, *shape))[subjects]
    values = own + rng.normal(0, 0.4, (len(subjects), *shape))
    windows = pd.DataFrame(
        {
            "subject": subjects,
            "session": 1,
            "trial": 1,
            "stimulus": 1,
            "start": np.tile(np.arange(30.0), people),
        }
    )
    array = values if modality in (ENTROPY, HEART) else np.exp(values)
    return Inputs({"m": array.astype(np.float32)}, windows, {"m": modality}, "lab")


def other_unit(inputs, subjects, change, columns=(slice(None), slice(None))):
    array = inputs.signals["m"].copy()
    rows = np.isin(inputs.windows["subject"], subjects)
    part = array[rows]
    part[:, columns[0], columns[1]] = change(part[:, columns[0], columns[1]])
    array[rows] = part
    return replace(inputs, signals={"m": array})


def said(inputs):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_units(inputs)
    return [str(each.message) for each in caught]


@quick
@given(
    st.sampled_from([LINEAR, HEART, ENTROPY, POWER]),
    st.integers(0, 10_000),
    st.integers(2, 6),
)
def test_people_who_differ_are_no_alarm(modality, seed, people):
    assert said(recordings(modality, seed, people)) == []


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("factor", [1e6, 1e-6])
@pytest.mark.parametrize("subjects", [[0], [3], [0, 1], [1, 2, 3]])
def test_another_unit_is_found_whoever_has_it(factor, subjects, seed):
    linear = recordings(LINEAR, seed)
    (message,) = said(other_unit(linear, subjects, lambda x: x * factor))
    assert " of gsr mean; " in message and " of pulse mean. " in message
    power = recordings(POWER, seed)
    assert len(said(other_unit(power, subjects, lambda x: x * factor))) == 1
    entropy = recordings(ENTROPY, seed)
    shift = np.log(factor)
    (message,) = said(other_unit(entropy, subjects, lambda x: x + shift))
    others = [n for n in range(4) if n not in subjects]
    low, high = (subjects, others) if factor < 1 else (others, subjects)
    one, two = (", ".join(f"subject {n}" for n in side) for side in (low, high))
    assert f"between {one} and {two} values leap" in message


def test_both_values_are_told():
    entropy = recordings(ENTROPY, spread=0.0)
    changed = other_unit(entropy, [2], lambda x: x + np.float32(13.8))
    (message,) = said(changed)
    assert message.startswith("lab, modality 'm': between subject 0, ")
    here = np.median(changed.signals["m"][60:90])
    values = re.search(r"the medians are (\S+) and (\S+)\. ", message)
    low, high = map(float, values.groups())
    assert high == pytest.approx(here, abs=0.2) and abs(low) < 0.3


def test_one_measure_of_a_modality_may_be_in_another_unit():
    heart = recordings(HEART)
    of_amplitude = (slice(None), slice(1, 2))
    changed = other_unit(heart, [1], lambda x: x + np.log(1000), of_amplitude)
    (message,) = said(changed)
    assert message.count(" of ") == 1 and " of ECG ln_sd. " in message
    linear = recordings(LINEAR)
    changed = other_unit(linear, [1], lambda x: x / 1e6, (slice(0, 1), slice(None)))
    (message,) = said(changed)
    assert message.count(" of ") == 1 and " of gsr mean. " in message


def test_sessions_of_one_person_are_compared():
    linear = recordings(LINEAR, people=2)
    windows = linear.windows.assign(session=linear.windows["subject"] + 1, subject="a")
    changed = other_unit(linear, [1], lambda x: x * 1e6)
    (message,) = said(replace(changed, windows=windows))
    assert "between subject a, session 1 and subject a, session 2 " in message


def test_a_sensor_that_is_lost_is_no_other_unit():
    entropy = recordings(ENTROPY)
    lost = other_unit(entropy, [1], lambda x: np.full_like(x, np.nan))
    assert said(lost) == []
    zero = other_unit(recordings(LINEAR), [1], lambda x: 0 * x)
    assert said(zero) == []


def test_arrays_and_tables_are_looked_at(tmp_path):
    inputs = other_unit(recordings(ENTROPY), [0], lambda x: x - np.float32(13.8))
    options = {key: inputs.windows[key] for key in ("subject", "trial", "start")}
    with pytest.warns(DomainemoWarning, match="'m': between subject 0 and"):
        from_arrays(inputs.signals, None, modalities=inputs.modalities, **options)
    write_table(inputs, tmp_path / "table")
    with pytest.warns(DomainemoWarning, match="'m': between subject 0 and"):
        Table(tmp_path / "table").load_inputs()


@pytest.mark.parametrize("seed", [0, 1])
def test_simulated_people_are_no_alarm(seed):
    assert said(Simulated(subjects=5, trials=6, seed=seed).load().inputs) == []


@pytest.mark.parametrize("name", ["esports", "ssvep-exo"])
@pytest.mark.skipif(not DATA.is_dir(), reason="development recordings not found")
def test_real_people_are_no_alarm(name):
    assert said(load(name, DATA, cache=False, jobs=1).inputs) == []


# ------------------------------------------- a recording beside those it is scaled by


@pytest.mark.parametrize("modality", [LINEAR, ENTROPY, POWER])
@pytest.mark.parametrize("times", [1e-6, 1e-3, 1e3, 1e6])
@pytest.mark.parametrize("windows", [1, 2, 30])
def test_a_recording_in_another_unit_than_its_scale_is_told(modality, times, windows):
    """Of a window or two, smaller linear values tell nothing: they may be near zero."""
    source = recordings(modality)
    scales = scales_of(source, np.arange(len(source)))
    new = recordings(modality, seed=1, people=1).take(np.arange(windows))
    shifted = modality is ENTROPY
    change = (lambda x: x + np.log(times)) if shifted else (lambda x: x * times)
    new = other_unit(new, [0], change)
    if not shifted and times < 1 and windows < 3:
        return
    told = r"the source's as .* in another unit.*typical are"
    if windows == 30:
        told += rf".* factor of 1e{round(abs(np.log10(times)))}, as between"
    with pytest.warns(DomainemoWarning, match=told):
        warn_of_distance(new, scales, "the source's")


@quick
@given(st.integers(0, 10**6), st.integers(1, 30), st.floats(0.1, 1.0))
def test_a_person_who_merely_differs_from_the_source_is_not(seed, windows, spread):
    for modality in (LINEAR, HEART, ENTROPY, POWER):
        source = recordings(modality, spread=spread)
        scales = scales_of(source, np.arange(len(source)))
        new = recordings(modality, seed, people=1, spread=spread)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warn_of_distance(new.take(np.arange(windows)), scales, "the source's")


@quick
@given(st.integers(0, 10**6), st.integers(1, 2), st.integers(2, 30))
def test_a_window_beside_a_mean_of_next_to_nothing_is_no_alarm(seed, windows, people):
    """Measures that were made to have a mean of 0: all others are far larger."""
    source = recordings(MEASURES, people=people)
    values = source.signals["m"].astype(np.float64)
    values = (values - values.mean(0)) / values.std(0)
    source = replace(source, signals={"m": values.astype(np.float32)})
    scales = scales_of(source, np.arange(len(source)))
    drawn = np.random.default_rng(seed).normal(size=(windows, 30, 1))
    new = source.take(np.arange(windows))
    new = replace(new, signals={"m": drawn.astype(np.float32)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_distance(new, scales, "the source's")
    new = other_unit(new, [0], lambda x: x * 1e6)
    with pytest.warns(DomainemoWarning, match=r"another unit.* of measure-1[ ;,.]"):
        warn_of_distance(new, scales, "the source's")
