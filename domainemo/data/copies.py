"""Trials that are one recording, scaled anew: by another unit, gain or offset."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ..core import TRIAL, Inputs
from .summaries import starts_of

__all__ = ["scaled_copies"]

Float = NDArray[np.float64]

_SKETCHES = 4
_NEAR = 3e-2
"""By which sketches of copies differ at most; those of others, by about 1."""

_SAME = 1e-4
"""The mean squared difference of z-scores from which on trials are copies; of
independent signals it is 2. Rounding to float32 leaves far less."""

_FEWEST = 16
"""Values that must agree, beyond the two of each column that scaling makes agree."""

_FEWEST_DIFFERENT = 8


def scaled_copies(inputs: Inputs) -> list[list[int]]:
    """Find trials whose signals agree when each feature is z-scored over the trial.

    No two recordings of a body do. Trials of fewer than three windows tell nothing.

    Parameters
    ----------
    inputs : Inputs
        Each trial in one stretch.

    Returns
    -------
    list of list of int
        Groups of two or more trials, each by its first row.
    """
    starts = starts_of(inputs.windows, TRIAL)
    lengths = np.diff(starts, append=len(inputs))
    found: list[list[int]] = []
    for length in np.unique(lengths[lengths > 2]):
        firsts = starts[lengths == length]
        sketches = _sketches(inputs, firsts, int(length))
        found += _groups(inputs, firsts, int(length), sketches)
    return found


def _sketches(inputs: Inputs, firsts: NDArray[np.intp], length: int) -> Float:
    """Return a few numbers for each trial, near each other where z-scores are."""
    generator = np.random.default_rng(length)
    over_time = generator.standard_normal((_SKETCHES, length))
    columns = sum(array[0].size for array in inputs.signals.values())
    over_columns = generator.standard_normal((columns, _SKETCHES))
    scale = np.sqrt(length * columns)
    found = np.empty((len(firsts), _SKETCHES))
    for trial, first in enumerate(firsts):
        scores = _scores(inputs, first, length)
        found[trial] = ((over_time @ scores) * over_columns.T).sum(1) / scale
    return found


def _scores(inputs: Inputs, first: int, length: int) -> Float:
    """Return z-scores of a trial's windows, shape (windows, columns); 0 for none."""
    values = np.concatenate(
        [
            array[first : first + length].reshape(length, -1)
            for array in inputs.signals.values()
        ],
        axis=1,
        dtype=np.float64,
    )
    known = ~np.isnan(values)
    if known.all():
        values -= values.mean(0)
        spread = np.sqrt(np.square(values).mean(0))
    else:
        count = np.maximum(known.sum(0), 1)
        values -= np.where(known, values, 0).sum(0) / count
        values[~known] = 0
        spread = np.sqrt(np.square(values).sum(0) / count)
    scores: Float = np.zeros_like(values)
    np.divide(values, spread, out=scores, where=spread > 0)
    return scores


def _groups(
    inputs: Inputs, firsts: NDArray[np.intp], length: int, sketches: Float
) -> Iterator[list[int]]:
    """Yield the trials that are one recording, of trials of one length."""
    varies = sketches.any(axis=1)  # what never changes tells nothing
    firsts, sketches = firsts[varies], sketches[varies]
    order = np.argsort(sketches[:, 0], kind="stable")
    firsts, sketches = firsts[order], sketches[order]
    ends = np.searchsorted(sketches[:, 0], sketches[:, 0] + _NEAR)
    group: dict[int, list[int]] = {}
    for one, end in enumerate(ends):
        apart = np.abs(sketches[one + 1 : end] - sketches[one]).max(axis=1)
        for other in one + 1 + np.flatnonzero(apart < _NEAR):
            if other not in group and _same(
                inputs, (firsts[one], firsts[other]), length
            ):
                group.setdefault(one, [one]).append(int(other))
                group[int(other)] = group[one]
    for members in {id(each): each for each in group.values()}.values():
        yield sorted(int(firsts[member]) for member in members)


def _same(inputs: Inputs, firsts: tuple[int, int], length: int) -> bool:
    """Return whether two trials agree in more than scaling or chance explains."""
    one, other = (_scores(inputs, first, length) for first in firsts)
    varies = one.any(axis=0)
    if (length - 2) * varies.sum() < _FEWEST:
        return False
    if len(np.unique(one[:, varies].round(3))) < _FEWEST_DIFFERENT:
        return False
    return bool(np.square(one - other)[:, varies | other.any(axis=0)].mean() < _SAME)
