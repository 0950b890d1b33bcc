"""How often intervals cover, and tests cry wolf, with 8, 15 and 36 subjects.

Simulated subjects, whose true mean is known: ``python benchmarks/coverage.py``. Of two
methods that do not differ, each subject is scored on 24 trials a method, so that
differences are coarse and often zero, as they are in recordings; ``normal`` are
normal differences, ``skewed`` are lognormal ones less their mean, which differ by
nothing on average but are not symmetric.
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from domainemo.statistics.intervals import bootstrap_interval
from domainemo.statistics.paired import sign_flip, wilcoxon
from domainemo.statistics.several import holm

SUBJECTS = (8, 15, 36)
KINDS = ("trials", "normal", "skewed")
METHODS = 3  # each compared with the reference, and corrected together


def drawn(
    kind: str, subjects: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Return differences from a reference, of methods that are as good as it.

    Parameters
    ----------
    kind : {"trials", "normal", "skewed"}
    subjects : int
    generator : numpy Generator

    Returns
    -------
    ndarray of float, shape (methods, subjects)
        Whose true mean is 0.
    """
    if kind == "trials":
        ability = generator.beta(6, 4, size=subjects)
        right = generator.binomial(24, ability, size=(METHODS + 1, subjects)) / 24
        return np.asarray(right[1:] - right[0])
    if kind == "normal":
        scores = generator.normal(size=(METHODS + 1, subjects))
        return np.asarray(0.05 * (scores[1:] - scores[0]))
    skewed = generator.lognormal(0, 1, size=(METHODS, subjects)) - np.exp(0.5)
    return np.asarray(0.05 * skewed)


def simulate(
    kind: str, subjects: int, repetitions: int, seed: int = 0
) -> dict[str, float]:
    """Return the share of repetitions in which intervals cover and tests err.

    Parameters
    ----------
    kind : {"trials", "normal", "skewed"}
    subjects, repetitions, seed : int

    Returns
    -------
    dict of str to float
        ``covered`` by the 95 % interval; ``wilcoxon``, ``permutation``: p below 0.05
        for the first method; ``holm``: for any of three, after correction.
    """
    generator = np.random.default_rng([seed, subjects, KINDS.index(kind)])
    found = np.zeros((repetitions, 4))
    for row in found:
        gaps = drawn(kind, subjects, generator)
        low, high = bootstrap_interval(gaps[0])
        ps = [wilcoxon(gap) for gap in gaps]
        row[:] = (
            low <= 0 <= high,
            ps[0] < 0.05,
            sign_flip(gaps[0]) < 0.05,
            holm(ps).min() < 0.05,
        )
    names = ("covered", "wilcoxon", "permutation", "holm")
    return dict(zip(names, found.mean(0).tolist(), strict=True))


def main() -> None:
    """Print the table of docs/comparing.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    rows = [
        {"differences": kind, "subjects": subjects}
        | simulate(kind, subjects, chosen.repetitions, chosen.seed)
        for kind in KINDS
        for subjects in SUBJECTS
    ]
    table = pd.DataFrame(rows)
    print("| " + " | ".join(table) + " |")
    print("|" + " --- |" * table.shape[1])
    for row in table.to_dict("records"):
        cells = [f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values()]
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
