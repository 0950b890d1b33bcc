"""How far a person's recordings lie from other people's, with theirs as the scale."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..core import Inputs, Rows
from ..data.normalisation import normalise
from ..words import in_order, listed
from .plan import Plan

__all__ = [
    "distance_sentences",
    "distance_to_others",
    "farther_than",
    "newcomers_distances",
]

_LEVELS = np.linspace(0.05, 0.95, 19)

_SEEN = {"recorded": "as recorded", "normalised": "normalised"}

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
    deviations of a known person's own values; the mean over features. Of both, the 5th
    to the 95th percentile are compared, by steps of five: a few outliers change
    nothing. A half says that values are shifted by half of a typical person's
    deviation; where they are stretched by half of it, it is about .36.

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


def farther_than(distances: pd.DataFrame) -> pd.DataFrame:
    """Return of how many source people each newcomer lies farther from the source.

    Parameters
    ----------
    distances : DataFrame
        From :func:`newcomers_distances`.

    Returns
    -------
    DataFrame
        A row per newcomer, in natural order, and modality: ``subject``, ``modality``;
        and of each of ``recorded`` and ``normalised`` the distance, how many source
        people it exceeds (``recorded_exceeds``) and of how many (``recorded_of``), both
        0 where there is nothing to compare.
    """
    new = distances["newcomer"].to_numpy(dtype=bool)
    found = distances.loc[~new, ["modality", *_SEEN]]
    table = distances.loc[new, ["subject", "modality", *_SEEN]]
    turns = {name: turn for turn, name in enumerate(in_order(table["subject"]))}
    order = np.argsort(table["subject"].map(turns), kind="stable")
    table = table.iloc[order].reset_index(drop=True)
    for column in _SEEN:
        counts = []
        for modality, own in zip(table["modality"], table[column], strict=True):
            theirs = found.loc[found["modality"] == modality, column].dropna()
            exceeded = int((theirs < own).sum())
            counts.append((exceeded, 0 if np.isnan(own) else len(theirs)))
        table[[f"{column}_exceeds", f"{column}_of"]] = counts
    return table


def distance_sentences(distances: pd.DataFrame) -> list[str]:
    """Return a sentence per newcomer: how far from the source, measured by its people.

    Parameters
    ----------
    distances : DataFrame
        From :func:`newcomers_distances`.
    """
    table = farther_than(distances)
    return [
        _sentence(f"Subject {name}", rows)
        for name, rows in table.groupby("subject", sort=False)
    ]


def _sentence(who: str, rows: pd.DataFrame) -> str:
    said, lost = [], []
    for row in rows.to_dict("records"):
        ranks = {
            words: f"{row[f'{column}_exceeds']} of {row[f'{column}_of']}"
            for column, words in _SEEN.items()
            if row[f"{column}_of"]
        }
        if not ranks:
            lost.append(str(row["modality"]))
            continue
        words, rank = next(iter(ranks.items()))
        parts = [f"{rank} source people {words}"]
        parts += [f"{rank} {words}" for words, rank in list(ranks.items())[1:]]
        said.append(f"in {row['modality']}, than {' and '.join(parts)}")
    text = f"{who} lies farther from the source, {'; '.join(said)}." if said else ""
    if not lost:
        return text
    nothing = f"{who} cannot be compared with the source people in {listed(lost)}."
    return f"{text} {nothing}".strip()


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
