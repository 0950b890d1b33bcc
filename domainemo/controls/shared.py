"""What several controls compute: one scale, one linear model, one way to adapt."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..core import Control, Rows
from ..errors import ConfigurationError, DomainemoWarning

__all__ = [
    "MOST",
    "Adapting",
    "Features",
    "as_probabilities",
    "by_blocks",
    "commonest",
    "drawn",
    "linear_probabilities",
    "moved_to_front",
    "of_nearest",
    "standardise",
    "telling",
]

Features = NDArray[np.float64]

MOST = 1000
"""Windows of the source, and of the target, that what grows with their square takes."""

# The same for all data; of 1, 0.1, 0.01 and 0.001 the best on eegmat and within a half
# point of the best on simulated recordings (seed 1): a choice in the baseline's favour.
_INVERSE_PENALTY = 0.01

_TOGETHER = 1024  # windows that are moved at once
_VALUES = 1_000_000  # that are standardised at once


class Adapting(Control):
    """Bring source and target together, then learn the linear model on the source.

    Both are standardised by the source, whose mean stands for what is missing, as for
    `logistic-regression`, whose linear model it is: adaptation is all that differs.
    """

    sees_signals = True
    adapts = True

    @abstractmethod
    def adapt(
        self,
        source: Features,
        target: Features,
        tested: Features,
        labels: NDArray[np.int64],
        domains: NDArray[np.int64],
    ) -> tuple[Features, Features]:
        """Return source and tested windows in a space that both share.

        Parameters
        ----------
        source : ndarray of float, shape (source, features)
            May be overwritten.
        target, tested : ndarray of float, shape (windows, features)
            The same windows where the fold is transductive.
        labels, domains : ndarray of int, shape (source,)
            Classes of the source windows, and whose they are, from 0.
        """

    def predict(
        self,
        windows: pd.DataFrame,
        source: Rows,
        labels: NDArray[np.int64],
        target: Rows,
        test: Rows,
        values: Features,
    ) -> NDArray[Any]:
        """Return each window's probabilities."""
        if not len(target):
            raise ConfigurationError(
                f"The control {type(self).__name__} learns from unlabelled windows of "
                f"the target, and the fold shows it none. Leave it out (--controls), "
                f"or use a protocol that shows some."
            )
        rows = np.union1d(target, test)
        others = values[rows]
        domains = _domains(windows.iloc[source])
        train = moved_to_front(values, source)
        standardise(train, others)
        known = others[np.searchsorted(rows, target)]
        asked = others[np.searchsorted(rows, test)]
        return linear_probabilities(
            *self.adapt(train, known, asked, labels, domains), labels
        )


def linear_probabilities(
    train: Features, tested: Features, labels: NDArray[np.int64]
) -> Features:
    """Return the linear model's probabilities of tested windows.

    Classes weigh alike, however many windows they have.

    Parameters
    ----------
    train : ndarray of float, shape (source, features)
        Of a scale for which the penalty was chosen: a variance of about 1.
    tested : ndarray of float, shape (windows, features)
    labels : ndarray of int, shape (source,)
    """
    from sklearn import linear_model

    model = linear_model.LogisticRegression(
        C=_INVERSE_PENALTY, class_weight="balanced", max_iter=2000
    )
    with telling("The linear model", "Its last weights are used."):
        model.fit(train, labels)
    return as_probabilities(model, tested, labels)


def as_probabilities(
    model: Any, tested: Features, labels: NDArray[np.int64]
) -> Features:
    """Return a fitted classifier's probabilities, a column per class from 0.

    Parameters
    ----------
    model : classifier of scikit-learn
    tested : ndarray of float, shape (windows, features)
    labels : ndarray of int
        What it was fitted to.
    """
    probabilities = np.zeros((len(tested), labels.max() + 1))
    probabilities[:, model.classes_] = model.predict_proba(tested)
    return probabilities


def commonest(
    windows: pd.DataFrame,
    labels: NDArray[np.int64],
    columns: list[str],
    **further: NDArray[np.int64],
) -> pd.DataFrame:
    """Return the commonest label, the first of several, of windows that are alike.

    Parameters
    ----------
    windows : DataFrame
    labels : ndarray of int, shape (len(windows),)
    columns : list of str
        What alike windows share.
    **further : ndarray of int, shape (len(windows),)
        What they share besides, to be returned as well.

    Returns
    -------
    DataFrame
        A row for each group: `columns`, ``label``, and `further`.
    """
    rows = windows[columns].assign(label=labels, **further)
    how: dict[str, Any] = {"label": lambda found: np.bincount(found).argmax()}
    how |= dict.fromkeys(further, "first")
    return rows.groupby(columns, sort=True, as_index=False).agg(how)


def of_nearest(
    places: pd.Series[int], labels: pd.Series[int], asked: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the commonest label among those that are nearest to each place.

    Parameters
    ----------
    places, labels : Series of int
        Of what is known.
    asked : ndarray of int
    """
    known, classes = places.to_numpy(), labels.to_numpy()
    different, numbers = np.unique(asked, return_inverse=True)
    found = []
    for place in different:
        distance = np.abs(known - place)
        found.append(np.bincount(classes[distance == distance.min()]).argmax())
    return np.array(found, dtype=np.int64)[numbers]


def moved_to_front(features: Features, rows: Rows) -> Features:
    """Return some rows as the beginning of the array, whose other rows are lost."""
    if (np.diff(rows) <= 0).any():
        return features[rows]
    # No row is overwritten before it was moved, as none moves back.
    for start in range(0, len(rows), _TOGETHER):
        some = rows[start : start + _TOGETHER]
        features[start : start + len(some)] = features[some]
    return features[: len(rows)]


def standardise(train: Features, test: Features) -> None:
    """Standardise both by the first, in the precision of the recordings.

    What is missing becomes 0, the first one's mean.
    """
    from sklearn.preprocessing import StandardScaler

    width = train.shape[1]
    parts = min(-(-max(len(train), len(test)) * width // _VALUES), width)
    for columns in np.array_split(np.arange(width), max(parts, 1)):
        block = slice(columns[0], columns[-1] + 1)
        # A feature that the source lacks altogether stays NaN, and then counts as zero.
        with np.errstate(invalid="ignore", over="ignore"):
            scaler = StandardScaler().fit(train[:, block].astype(np.float32))
            for part in (train, test):
                values = scaler.transform(part[:, block].astype(np.float32))
                if np.isinf(values).any():  # where the source hardly varies
                    values = scaler.transform(part[:, block])
                part[:, block] = np.nan_to_num(values)


def by_blocks(
    features: Features, function: Callable[[Features], Features], out: Features
) -> Features:
    """Write a function of each row to `out`, some rows at once; return that.

    Parameters
    ----------
    features : ndarray of float, shape (windows, features)
    function : callable
        Of an array of rows, each by itself.
    out : ndarray of float, shape (windows, any)
        May be `features` itself.
    """
    for start in range(0, len(features), _TOGETHER):
        block = slice(start, start + _TOGETHER)
        out[block] = function(features[block])
    return out


def drawn(groups: NDArray[np.int64], most: int = MOST) -> Rows:
    """Return some rows, always the same: of every group the same share, at least one.

    Parameters
    ----------
    groups : ndarray of int
        Of what kind each row is.
    most : int
        About how many to return; all, where there are no more.
    """
    if len(groups) <= most:
        return np.arange(len(groups))
    order = np.random.default_rng(0).permutation(len(groups))
    found = []
    for group in np.unique(groups):
        theirs = order[groups[order] == group]
        found.append(theirs[: max(round(most * len(theirs) / len(groups)), 1)])
    return np.sort(np.concatenate(found))


@contextmanager
def telling(who: str, then: str) -> Iterator[None]:
    """Say in a sentence of ours that a solver stopped before it had converged.

    Parameters
    ----------
    who, then : str
        What did not converge, and what became of it.

    Warns
    -----
    DomainemoWarning
        Once, in place of the libraries' own; their other warnings stay as they are.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    stopped = [each for each in caught if "converge" in str(each.message)]
    for each in caught:
        if each not in stopped:
            warnings.warn_explicit(
                each.message, each.category, each.filename, each.lineno
            )
    if stopped:
        message = f"{who} had not converged when it reached its last step. {then}"
        warnings.warn(message, DomainemoWarning, stacklevel=3)


def _domains(windows: pd.DataFrame) -> NDArray[np.int64]:
    """Return the number of each window's subject; of one subject, of its sessions."""
    alone = windows["subject"].nunique() == 1
    column = "session" if alone else "subject"
    return pd.factorize(windows[column], sort=True)[0].astype(np.int64)
