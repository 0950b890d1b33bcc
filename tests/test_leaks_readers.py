"""Recordings of every data set hold no leak, and say what their windows are made of."""

from dataclasses import replace

import numpy as np
import pytest
from fixtures.every import FIXTURES

import domainemo as de
from domainemo.data.loading import load
from domainemo.errors import DomainemoError
from domainemo.protocols.cross_subject import CrossSubject
from domainemo.registry import find
from domainemo.runs.checks import canonical
from domainemo.runs.folds import folds_of
from domainemo.runs.leaks import find_leaks

SMOOTHED = ("seed", "seed-iv", "seed-vii")
"""Their published features look ahead within a trial, which `online` cannot bear."""


@pytest.mark.parametrize("name", [*FIXTURES, "simulated"])
def test_clean_recordings_of_every_data_set_raise_nothing(tmp_path, name):
    """As the reader describes them; the values, which in files made up for tests are
    numbers of their place, are noise."""
    if name == "simulated":
        inputs = de.Simulated(subjects=3, sessions=1, trials=6, windows=(4, 6)).load()
        inputs = inputs.inputs
    else:
        FIXTURES[name].write(tmp_path)
        options = FIXTURES[name].quick or FIXTURES[name].options
        inputs = load(name, tmp_path, cache=False, **options).inputs
        inputs = inputs.take(canonical(inputs))
        people = inputs.windows.groupby("subject")["trial"]
        few = people.rank(method="dense") <= 8
        inputs = inputs.take(np.flatnonzero(few))
        generator = np.random.default_rng(0)
        signals = {
            key: generator.standard_normal(array.shape).astype(np.float32)
            for key, array in inputs.signals.items()
        }
        inputs = replace(inputs, signals=signals)
    for options in ({}, {"held_out": 0.4}):
        protocol = CrossSubject(**options)
        assert find_leaks(protocol, inputs, folds_of(protocol, inputs)) == []
    for other in ("cross-session", "within-subject", "leave-stimuli-out", "online"):
        protocol = find("protocol", other)()
        try:
            folds = folds_of(protocol, inputs)
        except DomainemoError:
            continue  # too few sessions, trials or clips for it
        kinds = {leak.kind for leak in find_leaks(protocol, inputs, folds)}
        smoothed = other == "online" and name in SMOOTHED
        assert kinds == ({"smoothed-across-split"} if smoothed else set()), other


@pytest.mark.parametrize(
    ("name", "options", "span"),
    [
        ("seed-iv", {}, np.inf),
        ("seed-iv", {"smoothing": "moving-average"}, np.inf),
        ("seed-iv", {"smoothing": "moving-average", "source": "computed"}, 20.0),
        ("seed-iv", {"smoothing": "none", "source": "computed"}, None),
        ("seed", {"smoothing": "lds", "window": 4.0}, np.inf),
        ("seed-vii", {}, np.inf),
        ("seed-v", {}, None),
        ("ssvep-exo", {}, 2.0),
    ],
)
def test_readers_say_of_how_much_a_window_is_made(tmp_path, name, options, span):
    made = find("dataset", name)(tmp_path, **options)
    assert made.modalities()["eeg"].span == span
