"""Signs of harm: what can be said of a person's predictions without a label."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = [
    "CHANGED",
    "DECIMALS",
    "FACTS",
    "INSIDE",
    "SIGNS",
    "WHERE",
    "facts",
    "like_linear",
    "pairs",
    "signs",
]

Values = NDArray[np.float64]

CHANGED = "changed"
FACTS: Mapping[str, str] = {
    "linear": "agreement with logistic regression",
    "others": "agreement with the mean of all other adapters",
    "seeds": "agreement of two seeds",
    "trial": "agreement within a trial",
    "confidence": "mean confidence",
    "balance": "entropy of the mean prediction",
    "smallest": "share of the rarest class",
    "information": "mutual information",
}
"""Facts of predictions by the short name of each."""

WHERE = ("adapted", "source only", "rise")
SIGNS = [f"{fact}, {where}" for fact in FACTS for where in WHERE] + [CHANGED]
"""Each fact of the adapted network, of source only, and what the first has more."""

INSIDE: Mapping[str, str] = {
    "branches": "agreement of branches",
    "heads": "agreement of source subjects' classifiers",
    "typical": "share of typical windows",
    "stays": "share of windows that keep their class from half-way on",
}
"""What source only shows of a person from inside (`inside.py`), by its short name."""

DECIMALS = 9
WINDOW = ["subject", "session", "trial", "start"]


def signs(
    windows: pd.DataFrame,
    adapted: Values,
    source: Values,
    linear: Values,
    others: Values,
) -> pd.DataFrame:
    """Return every sign for every person, the mean over seeds.

    Low values are taken as signs of harm. That includes `changed`, which is minus the
    share of windows that the adapted network gives another class than source only.

    Parameters
    ----------
    windows : DataFrame
        Subject, session, trial and start, and nothing else: no label gets in.
    adapted, source, others : ndarray, shape (seeds, windows, classes)
        Probabilities of a network after adaptation, without it, and the mean of those
        of all other adapters.
    linear : ndarray, shape (windows, classes)
        Of logistic regression.

    Returns
    -------
    DataFrame
        A row for each subject, a column for each of `SIGNS`.

    Raises
    ------
    ValueError
        If `windows` holds more than it should.
    """
    if list(windows.columns) != WINDOW:
        raise ValueError(
            f"signs are made of windows' {', '.join(WINDOW)}, and nothing else; found "
            f"{', '.join(map(str, windows.columns))}"
        )
    after, before = (facts(windows, p, linear, others) for p in (adapted, source))
    found = {}
    for fact in FACTS:
        found[f"{fact}, adapted"] = after[fact]
        found[f"{fact}, source only"] = before[fact]
        found[f"{fact}, rise"] = after[fact] - before[fact]
    same = adapted.argmax(-1) == source.argmax(-1)
    found[CHANGED] = (same @ _shares(windows).T).mean(0) - 1
    people = pd.Index(np.unique(windows["subject"]), name="subject")
    # Equal shares are sums in another order, and "no less" must hold for them.
    return pd.DataFrame(found, index=people)[SIGNS].round(DECIMALS)


def facts(
    windows: pd.DataFrame, probabilities: Values, linear: Values, others: Values
) -> dict[str, Values]:
    """Return the facts of `FACTS` for every person, means over seeds.

    With p the probabilities of a window, H the entropy over the logarithm of the
    number of classes and E the mean over a person's windows: confidence is E max p,
    balance H(E p), mutual information H(E p) - E H(p). A trial's agreement is the share
    of its windows in its most frequent class. All are within [0, 1].

    Parameters
    ----------
    windows : DataFrame
        With subject, session and trial.
    probabilities, others : ndarray, shape (seeds, windows, classes)
    linear : ndarray, shape (windows, classes)

    Returns
    -------
    dict of str to ndarray, shape (people,)
    """
    shares = _shares(windows)
    classes = probabilities.argmax(-1)
    mean = shares @ probabilities
    balance = _entropy(mean)
    number = probabilities.shape[-1]
    taken = shares @ np.eye(number)[classes]
    two = [classes[a] == classes[b] for a, b in combinations(range(len(classes)), 2)]
    found = {
        "linear": like_linear(windows, probabilities, linear),
        "others": (classes == others.argmax(-1)) @ shares.T,
        "seeds": np.array(two or [np.ones(len(windows))]) @ shares.T,
        "trial": _within_trials(windows, classes) @ shares.T,
        "confidence": probabilities.max(-1) @ shares.T,
        "balance": balance,
        "smallest": taken.min(-1),
        "information": balance - _entropy(probabilities) @ shares.T,
    }
    return {name: values.mean(0) for name, values in found.items()}


def like_linear(windows: pd.DataFrame, probabilities: Values, linear: Values) -> Values:
    """Return the share of everybody's windows that are predicted as linearly.

    Parameters
    ----------
    windows : DataFrame
        With the subject.
    probabilities : ndarray, shape (seeds, windows, classes)
    linear : ndarray, shape (windows, classes)

    Returns
    -------
    ndarray, shape (seeds, people)
    """
    same = probabilities.argmax(-1) == linear.argmax(-1)
    found: Values = same @ _shares(windows).T
    return found


def _shares(windows: pd.DataFrame) -> Values:
    """Return what each window weighs in each person's mean, shape (people, windows)."""
    subjects = windows["subject"].to_numpy()
    own = subjects == np.unique(subjects)[:, None]
    found: Values = own / own.sum(1, keepdims=True)
    return found


def _entropy(probabilities: Values) -> Values:
    safe = np.clip(probabilities, 1e-12, 1)
    found: Values = -(safe * np.log(safe)).sum(-1) / np.log(probabilities.shape[-1])
    return found


def _within_trials(windows: pd.DataFrame, classes: NDArray[np.int64]) -> Values:
    """Return for each window the share of its trial's most frequent class."""
    keys = ["subject", "session", "trial"]
    trial = windows.groupby(keys, sort=False).ngroup().to_numpy()
    size, number = np.bincount(trial), classes.max() + 1
    places = trial * number + classes
    counts = [np.bincount(each, minlength=size.size * number) for each in places]
    most = np.stack(counts).reshape(len(classes), size.size, number).max(-1)
    found: Values = (most / size)[:, trial]
    return found


def pairs(
    values: Values, harmed: NDArray[np.bool_]
) -> tuple[tuple[Values, Values], tuple[Values, Values]]:
    """Return in how many pairs, one harmed, one not, the harmed has the lower value.

    Parameters
    ----------
    values, harmed : ndarray, shape (people, adapters)

    Returns
    -------
    tuple of two tuples of two ndarrays, shape (people, people)
        Over all pairs and over those of the same adapter: pairs won (half for a tie),
        and pairs there are; by the harmed person and the other one. Of the first, the
        diagonal has the pairs of the same person.
    """
    spared = ~harmed
    anyone = np.zeros((2, len(values), len(values)))
    for person, own in enumerate(harmed):
        low = values[person, own][:, None, None]
        won = (low < values) + 0.5 * (low == values)
        anyone[0, person] = (won * spared).sum((0, 2))
        anyone[1, person] = own.sum() * spared.sum(1)
    low, high = values.T[:, :, None], values.T[:, None, :]
    there = harmed.T[:, :, None] & spared.T[:, None, :]
    won = ((low < high) + 0.5 * (low == high)) * there
    same = (won.sum(0), there.sum(0).astype(float))
    return (anyone[0], anyone[1]), same
