"""Ratings become classes; what lies exactly at the threshold is no matter of chance."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from domainemo.data.readers.deap import DEAP
from domainemo.data.readers.shared.ratings import RatingClasses
from domainemo.errors import ConfigurationError

SCALES = ("valence", "arousal", "dominance", "liking")


def rule(target="valence", threshold=5.0, ties="high"):
    return RatingClasses(target, threshold, ties)


def rated(valence, arousal=1.0):
    return {"valence": valence, "arousal": arousal, "dominance": 1.0, "liking": 1.0}


@pytest.mark.parametrize(
    ("ties", "expected"),
    [
        ("high", [0, 0, 1, 1, 1]),
        ("low", [0, 0, 0, 1, 1]),
        ("drop", [0, 0, None, 1, 1]),
    ],
)
def test_a_rating_at_the_threshold_goes_where_the_option_says(ties, expected):
    ratings = [1.0, 4.99, 5.0, 5.01, 9.0]
    assert [rule(ties=ties).label(rated(each)) for each in ratings] == expected


def test_every_scale_is_its_own_target():
    ratings = {"valence": 2.0, "arousal": 8.0, "dominance": 3.0, "liking": 7.0}
    labels = [rule(target=scale).label(ratings) for scale in SCALES]
    assert labels == [0, 1, 0, 1]
    assert rule(target="liking").classes == ("low liking", "high liking")


def test_quadrants_are_two_binary_digits():
    quadrant = rule("quadrant")
    assert quadrant.classes == ("LVLA", "LVHA", "HVLA", "HVHA")
    for valence, arousal in itertools.product((1.0, 4.9, 5.0, 9.0), repeat=2):
        name = f"{'HL'[valence < 5]}V{'HL'[arousal < 5]}A"
        assert quadrant.classes[quadrant.label(rated(valence, arousal))] == name


def test_a_quadrant_is_dropped_if_either_rating_is_a_tie():
    quadrant = rule("quadrant", ties="drop")
    assert quadrant.label(rated(5.0, 9.0)) is None
    assert quadrant.label(rated(9.0, 5.0)) is None
    assert quadrant.label(rated(9.0, 9.0)) == 3


def physiosync_quadrant(valence, arousal):
    """PhysioSync's released rule: 0 HAHV, 1 HALV, 2 LAHV, 3 LALV; the last one wins."""
    label = None
    if arousal >= 5 and valence >= 5:
        label = 0
    if arousal >= 5 and valence < 5:
        label = 1
    if arousal < 5 and valence >= 5:
        label = 2
    if arousal <= 5 and valence <= 5:
        label = 3
    return ("HVHA", "LVHA", "HVLA", "LVLA")[label]


def test_ties_are_not_overwritten_as_by_physiosync():
    quadrant, binary = rule("quadrant"), (rule("valence"), rule("arousal"))
    differing = []
    for valence, arousal in itertools.product((2.0, 5.0, 8.0), repeat=2):
        ratings = rated(valence, arousal)
        label = quadrant.label(ratings)
        # The four classes agree with the two binary targets, tie or not.
        assert label == 2 * binary[0].label(ratings) + binary[1].label(ratings)
        if quadrant.classes[label] != physiosync_quadrant(valence, arousal):
            differing.append((valence, arousal))
    assert differing == [(2.0, 5.0), (5.0, 2.0), (5.0, 5.0)]


def test_on_whole_numbers_the_tie_decides_which_class_is_larger():
    ratings = np.repeat([1, 2, 3, 4, 5], [10, 20, 40, 20, 10])

    def high(ties):
        labels = [rule(threshold=3.0, ties=ties).label(rated(r)) for r in ratings]
        return labels.count(1), labels.count(0), labels.count(None)

    assert high("high") == (70, 30, 0)
    assert high("low") == (30, 70, 0)
    assert high("drop") == (30, 30, 40)


def test_the_rule_is_said_in_words():
    assert rule().describe() == "valence high from 5 up"
    assert "low at it and below" in rule(ties="low").describe()
    text = rule("quadrant", threshold=4.5, ties="drop").describe()
    assert text == (
        "valence and arousal high above 4.5, low below, trials rated exactly 4.5 left "
        "out"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"target": "joy"},
            r"deap: target is 'joy' .*; expected one of 'valence'.*'quad",
        ),
        ({"ties": "both"}, r"ties is 'both' .*; expected one of 'high', 'low', 'drop'"),
        ({"threshold": 9.0}, r"threshold is 9.0; expected a number between 1 and 9"),
        ({"threshold": float("nan")}, "threshold is nan"),
    ],
)
def test_options_that_do_not_fit_are_named(options, message):
    with pytest.raises(ConfigurationError, match=message):
        DEAP(None, **options)
