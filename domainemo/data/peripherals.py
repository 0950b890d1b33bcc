"""Two further simulated sensors: one that tells nothing, one that misleads in some.

They plant the case in which pseudo-labels harm: a sensor whose slow drift a network
learns by heart, and one that is trusted because it is right in most people, and shows
the wrong emotion in the others. ``docs/simulator.md`` has the equations.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ..core import Modality

__all__ = ["PERIPHERALS", "misleading", "reaction", "uninformative"]

Array = NDArray[np.float64]

_MEASURES = 8
_DRIFT, _WITHIN = 2.0, 0.2  # the uninformative sensor, between and within trials
_REACTION, _OWN = 1.5, 0.75  # the misleading sensor: what people share, and each own

PERIPHERALS: Mapping[str, Modality] = {
    name: Modality(
        channels=tuple(f"{name}_{number + 1}" for number in range(_MEASURES)),
        features=("value",),
        kind="physiology",
        unit="standard units",
    )
    for name in ("uninformative", "misleading")
}
"""The two sensors' measures."""


def uninformative(trials: int, windows: int, stream: np.random.Generator) -> Array:
    """Return a drift that says which trial it is, and nothing of its emotion.

    Parameters
    ----------
    trials, windows : int
    stream : numpy.random.Generator

    Returns
    -------
    ndarray of shape (trials, windows, measures, 1)
    """
    between = stream.standard_normal((trials, 1, _MEASURES, 1))
    within = stream.standard_normal((trials, windows, _MEASURES, 1))
    return _DRIFT * between + _WITHIN * within


def reaction(classes: int, stream: np.random.Generator) -> Array:
    """Return what each class does to the misleading sensor in those it serves well.

    Returns
    -------
    ndarray of shape (classes, measures, 1), as a difference from the classes' mean
    """
    drawn = stream.standard_normal((classes, _MEASURES, 1))
    centred: Array = _REACTION * (drawn - drawn.mean(axis=0))
    return centred


def misleading(
    shared: Array,
    labels: NDArray[np.int64],
    windows: int,
    *,
    misled: bool,
    person: np.random.Generator,
    stream: np.random.Generator,
) -> Array:
    """Return a sensor that shows the emotion, or in the misled the next class's.

    Parameters
    ----------
    shared : ndarray of shape (classes, measures, 1)
        See :func:`reaction`.
    labels : ndarray of int, shape (trials,)
    windows : int
    misled : bool
    person, stream : numpy.random.Generator
        Random numbers of the subject, and of the session.

    Returns
    -------
    ndarray of shape (trials, windows, measures, 1)
    """
    own = person.standard_normal(shared.shape)
    shown = (labels + 1) % len(shared) if misled else labels
    evoked = shared[shown] + _OWN * (own - own.mean(axis=0))[labels]
    drift = 0.5 * stream.standard_normal((len(labels), 1, _MEASURES, 1))
    noise = stream.standard_normal((len(labels), windows, _MEASURES, 1))
    found: Array = evoked[:, None] + drift + noise
    return found
