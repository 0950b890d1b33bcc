"""Metrics by slow obvious loops, for several tests."""

import numpy as np

__all__ = ["slow_areas", "slow_selective"]


def slow_areas(labels, probabilities):
    """Of every pair of one of the class and another: how often it ranks higher."""
    areas, rows = [], list(zip(labels, np.round(probabilities, 9), strict=True))
    for c in set(labels):
        inside = [row[c] for label, row in rows if label == c]
        outside = [row[c] for label, row in rows if label != c]
        if outside:
            wins = [(a > b) + (a == b) / 2 for a in inside for b in outside]
            areas.append(sum(wins) / len(wins))
    return sum(areas) / len(areas) if areas else float("nan")


def slow_selective(labels, probabilities):
    """Over the more confident half; of those that tie at its end, some share."""
    half = -(-len(labels) // 2)
    rows = [
        (round(float(max(row)), 9), int(np.argmax(row)) == label)
        for label, row in zip(labels, probabilities, strict=True)
    ]
    last = sorted((sure for sure, _ in rows), reverse=True)[half - 1]
    above = [ok for sure, ok in rows if sure > last]
    tied = [ok for sure, ok in rows if sure == last]
    return (sum(above) + (half - len(above)) * sum(tied) / len(tied)) / half
