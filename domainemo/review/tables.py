"""What the predictions of a finished run add up to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..core import TRIAL
from ..runs.metrics import BINS, confidence_bins
from ..runs.results import Results
from ..statistics.ties import tied
from ..words import in_order
from .reading import baseline, class_names

__all__ = [
    "agreement",
    "along_recording",
    "calibration",
    "confusion",
    "recall_by_class",
    "subject_intervals",
    "typical_fold",
]

Array = NDArray[np.float64]

_RESAMPLES = 2_000
_FEWEST_TRIALS = 5


def confusion(rows: pd.DataFrame, classes: list[str]) -> pd.DataFrame:
    """Count test samples: a row per true class, a column per predicted one.

    Parameters
    ----------
    rows : DataFrame
        Of :attr:`Results.predictions`.
    classes : list of str
    """
    counts = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(counts, (rows["label"].to_numpy(), rows["predicted"].to_numpy()), 1)
    return pd.DataFrame(
        counts,
        index=pd.Index(classes, name="true"),
        columns=pd.Index(classes, name="predicted"),
    )


def recall_by_class(results: Results) -> pd.DataFrame:
    """Return how many of each class's samples are predicted as it.

    The mean over subjects of the mean over a subject's folds and seeds: averaged over
    classes this is balanced accuracy, where every class is everywhere.

    Parameters
    ----------
    results : Results

    Returns
    -------
    DataFrame
        A row per method, a column per class; NaN where nobody has the class.
    """
    rows = results.predictions
    right = (rows["predicted"] == rows["label"]).astype(float)
    keys = ["method", "label", "subject", "fold", "seed"]
    means = right.groupby([rows[key] for key in keys]).mean()
    for level in (keys[:3], keys[:2]):
        means = means.groupby(level).mean()
    classes = class_names(results)
    table = means.unstack("label").reindex(results.methods, columns=range(len(classes)))
    return table.set_axis(classes, axis=1).rename_axis("method")


def calibration(rows: pd.DataFrame) -> pd.DataFrame:
    """Return how often predictions of each confidence are right.

    Parameters
    ----------
    rows : DataFrame
        Of :attr:`Results.predictions`.

    Returns
    -------
    DataFrame
        A row per bin of confidence, above ``low`` and up to ``high``: ``samples``,
        their mean ``confidence`` and their ``accuracy``; NaN in an empty bin.
    """
    probabilities = rows.filter(regex="^p_").to_numpy()
    confidence = probabilities.max(1)
    right = probabilities.argmax(1) == rows["label"].to_numpy()
    bins = confidence_bins(confidence)
    samples = np.bincount(bins, minlength=BINS)
    sums = (np.bincount(bins, each, BINS) for each in (confidence, right))
    with np.errstate(invalid="ignore"):
        means = [each / samples for each in sums]
    low = np.arange(BINS) / BINS
    return pd.DataFrame(
        {
            "low": low,
            "high": low + 1 / BINS,
            "samples": samples,
            "confidence": means[0],
            "accuracy": means[1],
        }
    )


def subject_intervals(results: Results) -> pd.DataFrame:
    """Return how far each subject's balanced accuracy depends on the trials there were.

    Trials are resampled, since the samples of one are not independent: within each
    fold, all seeds of a trial together.

    Returns
    -------
    DataFrame
        A row per ``method`` and ``subject``: ``low`` and ``high`` of the 95 %
        percentile bootstrap interval; NaN with fewer than five trials in a fold.
    """
    classes = len(class_names(results))
    keys = ["method", "subject"]
    rows = []
    for (method, subject), theirs in results.predictions.groupby(keys, sort=False):
        generator = np.random.default_rng(0)  # folds are drawn one after the other
        draws = [
            _resampled(part, classes, generator) for _, part in theirs.groupby("fold")
        ]
        low, high = np.quantile(np.mean(draws, axis=0), [0.025, 0.975])
        rows.append({"method": method, "subject": subject, "low": low, "high": high})
    return pd.DataFrame(rows)


def _resampled(
    rows: pd.DataFrame, classes: int, generator: np.random.Generator
) -> Array:
    """Return the balanced accuracy of resampled trials; shape (resamples,)."""
    trials = rows.groupby(["session", "trial"]).ngroup().to_numpy()
    count = int(trials.max()) + 1
    if count < _FEWEST_TRIALS:
        return np.full(_RESAMPLES, np.nan)
    counts = np.zeros((count, classes, classes))
    labels, predicted = rows["label"].to_numpy(), rows["predicted"].to_numpy()
    np.add.at(counts, (trials, labels, predicted), 1)
    often = generator.multinomial(count, np.full(count, 1 / count), size=_RESAMPLES)
    drawn = np.tensordot(often.astype(float), counts, 1)
    present = drawn.sum(2)
    recall = np.einsum("bcc->bc", drawn) / np.where(present > 0, present, 1)
    return np.asarray(recall.sum(1) / (present > 0).sum(1))


def typical_fold(results: Results) -> str:
    """Return the fold of the median gain over source only; else of median accuracy."""
    values = results.per_fold()
    other = baseline(results)
    gain = values[results.method] - (0 if other is None else values[other])
    ranked = tied(gain).sort_values(kind="stable")
    return str(ranked.index[(len(ranked) - 1) // 2])


def agreement(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return on which share of samples each pair of methods predicts the same class.

    Parameters
    ----------
    predictions : DataFrame
        Of :attr:`Results.predictions`; two methods are compared on the seeds that both
        were run with.
    """
    place = ["fold", "seed", *TRIAL, "start"]
    codes, _ = pd.factorize(predictions["predicted"])
    wide = predictions.assign(code=codes).pivot(
        index=place, columns="method", values="code"
    )
    methods = list(dict.fromkeys(predictions["method"]))
    values = wide[methods].to_numpy(dtype=float)
    shares = np.full((len(methods), len(methods)), np.nan)
    for i, j in np.ndindex(*shares.shape):
        both = np.isfinite(values[:, i]) & np.isfinite(values[:, j])
        if both.any():
            shares[i, j] = (values[both, i] == values[both, j]).mean()
    return pd.DataFrame(shares, index=pd.Index(methods, name="method"), columns=methods)


def along_recording(
    results: Results, method: str, *, trials: bool = False
) -> pd.DataFrame:
    """Return what a method predicts of each person, in the order of the recording.

    Parameters
    ----------
    results : Results
    method : str
    trials : bool
        Whether a row is a whole trial, the mean of its samples.

    Returns
    -------
    DataFrame
        A row per sample or trial: its place, the ``samples`` in it, the ``predicted``
        class and ``p_CLASS``, the mean of all seeds' probabilities.
    """
    place = [*TRIAL, *([] if trials else ["start"])]
    rows = results.predictions[results.predictions["method"] == method]
    classes = class_names(results)
    columns = [f"p_{name}" for name in classes]
    groups = rows.groupby(place, sort=False, dropna=False)
    table = groups[columns].mean().reset_index()
    predicted = np.array(classes)[table[columns].to_numpy().argmax(1)]
    samples = groups.size().to_numpy() // rows["seed"].nunique()
    table.insert(len(place), "samples", samples)
    table.insert(len(place) + 1, "predicted", predicted)
    keys = [table[name].map(_places(table[name])) for name in place]
    return table.iloc[np.lexsort(keys[::-1])].reset_index(drop=True)


def _places(names: pd.Series[Any]) -> dict[Any, Any]:
    """Return where each name stands among all: numbers by size, words naturally."""
    numbers = pd.api.types.is_numeric_dtype(names)
    ordered = sorted(set(names)) if numbers else in_order(names)
    return {name: place for place, name in enumerate(ordered)}
