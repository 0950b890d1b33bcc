"""Codes for a missing value in the signals: named, and nothing else taken for one."""

import re
import warnings

import numpy as np
import pandas as pd
import pytest
from fixtures.notebook import Notebook

from domainemo import Modality, Simulated, from_arrays, write_table
from domainemo.core import Inputs
from domainemo.data.loading import load
from domainemo.data.sentinels import _ROWS, warn_of_sentinels
from domainemo.errors import DomainemoWarning

WINDOWS = 40


def inputs(values, channels=("skin", "pulse"), features=("value",)):
    values = np.asarray(values, np.float32)
    count = len(values)
    windows = pd.DataFrame(
        {
            "subject": np.repeat(["ann", "bob"], count // 2),
            "session": 1,
            "trial": 1,
            "stimulus": 1,
            "start": np.arange(float(count)),
        }
    )
    modality = Modality(tuple(channels), tuple(features), "physiology")
    return Inputs({"body": values}, windows, {"body": modality}, "lab")


def measured(seed=0, count=WINDOWS, channels=2, features=1):
    rng = np.random.default_rng(seed)
    return rng.normal(3, 0.5, (count, channels, features)).astype(np.float32)


def said(found):
    with pytest.warns(DomainemoWarning) as told:
        warn_of_sentinels(found)
    return [str(each.message) for each in told]


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        (-9999, "-9999"),
        (-999, "-999"),
        (9999, "9999"),
        (1e30, "1e+30"),
        (-1e10, "-1e+10"),
        (888, "888"),
        (-9999.9, "-9999.9"),
        (-(2.0**31), "-2.147484e+09"),
        (3.4028235e38, "3.402823e+38"),
    ],
)
def test_a_code_is_named_with_its_share_and_its_subjects(code, shown):
    values = measured()
    values[[22, 25, 31, 39], 1, 0] = code
    (told,) = said(inputs(values))
    assert told.startswith("lab, modality 'body', channel pulse: found the value ")
    assert re.search(rf"value {re.escape(shown)}, .* 10\.0% of the windows", told)
    assert "of subject bob." in told and "Replace it by NaN" in told


def test_every_code_of_a_channel_is_found_and_equal_places_are_told_together():
    values = measured(features=2)
    values[[1, 2, 30]] = -999
    values[[5, 6], 0, 0] = 1e30
    first, second = said(inputs(values, features=("mean", "slope")))
    assert "channels skin, pulse: found the value -999" in first
    assert "7.5% of the windows, of subjects ann, bob" in first
    assert "channel skin mean: found the value 1e+30" in second


def test_codes_far_apart_in_a_long_recording_are_one():
    values = measured(count=3 * _ROWS)
    values[[1, -1], 0, 0] = 9999
    (told,) = said(inputs(values))
    assert "of subjects ann, bob" in told


def test_a_channel_that_holds_nothing_else_is_named():
    values = measured()
    values[:, 0] = -9999
    (told,) = said(inputs(values))
    assert "channel skin" in told and "100.0%" in told


def harmless():
    values = measured()
    zero, rail, once, near, missing = (values.copy() for _ in range(5))
    zero[10:30, 0] = 0
    rail[10:30, 0] = 32767  # the ends of converters of 16, 12 and 24 bits
    rail[10:30, 1] = 4095
    rail[31:35, 1] = -(2.0**23)
    once[7, 1] = -9999
    near[:, 0, 0] = np.linspace(0, 1200, WINDOWS)
    near[10:13, 0, 0] = 999
    missing[10:30] = np.nan
    return {
        "nothing at all": values,
        "zeros": zero,
        "a saturated sensor": rail,
        "a single spike": once,
        "a value among others": near,
        "NaN": missing,
        "NaN throughout": np.full_like(values, np.nan),
        "large numbers": values * 1e12,
        "a constant": np.full_like(values, 5),
    }


@pytest.mark.parametrize("name", harmless())
def test_nothing_else_is_taken_for_a_code(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_sentinels(inputs(harmless()[name]))


def test_arrays_and_tables_are_looked_at(tmp_path):
    values = measured()
    values[[3, 4, 5], 0] = -9999
    given = {
        "subject": np.repeat(["ann", "bob"], WINDOWS // 2),
        "session": 1,
        "trial": np.repeat(np.arange(8), WINDOWS // 8),
    }
    labels = np.repeat(np.arange(8) % 2, WINDOWS // 8)
    described = {"body": Modality(("skin", "pulse"), ("value",), "physiology")}
    with pytest.warns(DomainemoWarning, match="found the value -9999"):
        data = from_arrays(
            {"body": values}, labels=labels, modalities=described, name="lab", **given
        )
    write_table(data, tmp_path / "kept")
    with pytest.warns(DomainemoWarning, match="found the value -9999"):
        load("table", tmp_path / "kept")


def test_what_a_reader_reads_is_looked_at(tmp_path):
    """None is told of the built-in ones' fixtures, as tests/test_readers shows."""
    for subject in (1, 2):
        (tmp_path / f"{subject}.txt").write_text("1 0 3 4 -9999\n1 1 5 -9999 4\n")
    with pytest.warns(DomainemoWarning, match=r"33\.3% of the windows") as told:
        Notebook(tmp_path).load()
    assert "channel Cz: found the value -9999" in str(told[0].message)


def test_a_simulation_has_none():
    warn_of_sentinels(Simulated(subjects=3, trials=3).load().inputs)
