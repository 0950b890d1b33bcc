"""Identifiers from which the label can be read."""

import warnings

import numpy as np
import pytest

from domainemo import Simulated, from_arrays, join, write_table
from domainemo.data.table import Table
from domainemo.data.telling import one_to_one, spells
from domainemo.errors import DomainemoWarning
from domainemo.runs.pretraining import plan_pretraining, pretraining

LABELS = ["sad", "happy"] * 3


def made(**columns):
    """Two people who see three trials each, a window each."""
    given = {"trial": [1, 2, 3] * 2, "stimulus": [1, 2, 3, 4, 5, 6]} | columns
    return from_arrays(
        {"eye": np.arange(12.0).reshape(6, 2)},
        LABELS,
        subject=np.repeat([1, 2], 3),
        **given,
    )


@pytest.mark.parametrize(
    ("stimuli", "labels", "expected"),
    [
        ("aabb", "ssff", True),
        ("abab", "sfsf", True),
        ("abcd", "sfsf", False),
        ("aabb", "sfsf", False),
        ("aa", "ss", False),
        ("ss", "ss", True),
    ],
)
def test_a_stimulus_for_each_label(stimuli, labels, expected):
    assert one_to_one(stimuli, labels) == expected


@pytest.mark.parametrize(
    ("names", "labels", "expected"),
    [
        (["happy_01", "sad_07"], ["happy", "sad"], True),
        (["HAPPY/1", "clip-sad"], ["happy", "sad"], True),
        (["happyclip", "sadclip"], ["happy", "sad"], True),
        (["happy_01", "sea"], ["happy", "sad"], False),
        (["clip_1", "clip_2"], ["1", "2"], False),
        (["clip_a", "clip_b"], ["a", "b"], True),
        (["clipa", "clipb"], ["a", "b"], False),
        ([1, 2], ["1", "2"], False),
    ],
)
def test_names_that_spell_the_label(names, labels, expected):
    assert spells(names, labels) == expected


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"stimulus": LABELS}, r"stimulus \('sad'\) holds"),
        ({"stimulus": [8, 9] * 3}, "each class has one stimulus of its own"),
        (
            {"trial": ["sad_1", "happy_1", "sad_2", "happy_2", "sad_3", "happy_3"]},
            r"trial \('sad_1'\) holds",
        ),
        ({"session": [f"day {label}" for label in LABELS]}, "session .* holds"),
    ],
)
def test_what_tells_the_label_is_warned_of(columns, said, tmp_path):
    with pytest.warns(DomainemoWarning, match=said):
        data = made(**columns)
    write_table(data, tmp_path / "table")
    with pytest.warns(DomainemoWarning, match=said):
        Table(tmp_path / "table").load()
    assert Table(tmp_path / "table").load_inputs() is not None


def test_other_identifiers_are_no_alarm():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = made()
        made(stimulus=["sea", "storm", "sand", "fire", "ice", "sun"])
        join(data)


def test_pretraining_that_pairs_by_class_says_so():
    """Even where the trials' numbers, which nobody named, coincide with the class."""
    data = Simulated(subjects=3, trials=3, classes=3).load()
    chosen = pretraining(backbone="uf-ama", device="cpu")
    with pytest.warns(DomainemoWarning, match="pairs of the same class"):
        plan_pretraining(data, chosen)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plan_pretraining(data.inputs, chosen)
        plan_pretraining(Simulated(subjects=3, trials=6).load(), chosen)
