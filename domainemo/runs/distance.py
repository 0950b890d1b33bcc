"""How far a person's recordings lie from other people's, with theirs as the scale."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..core import Inputs, Rows
from ..data.normalisation import normalise
from .plan import Plan

__all__ = ["distance_to_others", "newcomers_distances"]

_LEVELS = np.linspace(0.05, 0.95, 19)

Array = NDArray[np.float64]


def newcomers_distances(planned: Plan) -> pd.DataFrame:
    """Return a row per person and modality: how far each lies from the source.

    Parameters
    ----------
    planned : Plan
        Of newcomers.

    Returns
    -------
    DataFrame
        ``subject``, ``newcomer`` (bool), ``modality``; and, each from
        :func:`distance_to_others`, ``recorded`` (values as they are) and ``normalised``
        (as a network sees them).
    """
    source = planned.folds[0].source
    target = np.unique(np.concatenate([fold.target for fold in planned.folds]))
    method = planned.experiment.build_normalisation()
    normalised, _ = normalise(planned.inputs, method, source=source, target=target)
    subjects = planned.windows["subject"].to_numpy()
    sources, newcomers = (_people(subjects, part) for part in (source, target))
    people, known = [*sources, *newcomers], len(sources)
    table = []
    for modality in planned.inputs.modalities:
        found = [
            _of_modality(inputs, modality, [rows for _, rows in people], known)
            for inputs in (planned.inputs, normalised)
        ]
        for place, (name, _) in enumerate(people):
            recorded, scaled = (each[place] for each in found)
            table.append((name, place >= known, modality, recorded, scaled))
    columns = ["subject", "newcomer", "modality", "recorded", "normalised"]
    return pd.DataFrame(table, columns=columns)


def distance_to_others(people: Sequence[Array], known: int) -> Array:
    """Return each person's distance to the known ones, oneself left out.

    Per feature, the Wasserstein distance between a person's values and the barycentre
    of the others', which in one dimension is the mean of their quantiles, in standard
    deviations of a known person's own values; the mean over features. A half says that
    values are shifted, or stretched, by half of a typical person's deviation.

    Parameters
    ----------
    people : sequence of ndarray of shape (windows, features)
        The known ones first; NaN where a value is missing.
    known : int
        How many of them there are.

    Returns
    -------
    ndarray of float, shape (people,)
        NaN for a person who lacks every feature, or where nobody else is known.
    """
    with warnings.catch_warnings():  # of a feature that somebody never has
        warnings.simplefilter("ignore", RuntimeWarning)
        quantiles = np.stack([np.nanquantile(each, _LEVELS, axis=0) for each in people])
        spread = np.nanmean(
            [np.nanstd(each, axis=0) for each in people[:known]], axis=0
        )
        found = []
        for place, own in enumerate(quantiles):
            others = np.arange(known) != place
            centre = np.nanmean(quantiles[:known][others], axis=0)
            apart = np.nanmean(np.abs(own - centre), axis=0) / spread
            found.append(np.nanmean(apart[np.isfinite(apart)]))
    return np.array(found)


def _of_modality(
    inputs: Inputs, modality: str, people: Sequence[Rows], known: int
) -> Array:
    array = inputs.signals[modality].reshape(len(inputs), -1)
    return distance_to_others(
        [array[rows].astype(np.float64) for rows in people], known
    )


def _people(subjects: NDArray[np.object_], rows: Rows) -> list[tuple[object, Rows]]:
    """Return the people of some windows, in order, and whose each is."""
    theirs = subjects[rows]
    return [(name, rows[theirs == name]) for name in pd.unique(theirs)]
