"""What can be said of predictions without any label: shares, confidence, change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from ..core import TRIAL
from .experiment import SOURCE_ONLY

__all__ = ["describe_rows", "trial_predictions", "with_changes"]

_KEYS = ["fold", "seed", "subject"]


def trial_predictions(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return a row per trial: the mean of its samples' probabilities.

    Parameters
    ----------
    predictions : DataFrame
        A row per sample, with the columns ``p_CLASS``; of several methods, folds or
        seeds where it has such columns.
    """
    keys = [name for name in ("method", "fold", "seed") if name in predictions]
    columns = [name for name in map(str, predictions) if name.startswith("p_")]
    trials = predictions.groupby([*keys, *TRIAL], sort=False, dropna=False)
    averaged = trials[columns].mean()
    predicted = averaged.to_numpy().argmax(1)
    classes = np.array([name.removeprefix("p_") for name in columns])
    said = averaged.assign(samples=trials.size(), predicted=classes[predicted])
    return said[["samples", "predicted", *columns]].reset_index()


def describe_rows(
    predictions: pd.DataFrame, level: str, classes: Sequence[str]
) -> Iterator[tuple[str, int, dict[str, float]]]:
    """Yield level, number of samples and what they look like: per sample, per trial.

    Parameters
    ----------
    predictions : DataFrame
        Of one person, one fold and one seed.
    level : str
        What one row is.
    classes : sequence of str
    """
    levels = {level: predictions}
    if level != "trial":
        levels["trial"] = trial_predictions(predictions)
    for name, rows in levels.items():
        probabilities = rows[[f"p_{each}" for each in classes]].to_numpy()
        shares = np.bincount(probabilities.argmax(1), minlength=len(classes))
        said = {
            f"share_{each}": share / len(rows)
            for each, share in zip(classes, shares, strict=True)
        }
        yield name, len(rows), said | {"confidence": probabilities.max(1).mean()}


def with_changes(table: pd.DataFrame, predictions: pd.DataFrame) -> pd.DataFrame:
    """Return a table with the share of predictions that source only makes otherwise.

    Parameters
    ----------
    table : DataFrame
        A row per method, fold, seed, person and level.
    predictions : DataFrame
        Of all of them, per sample.
    """
    sample = next(name for name in table["level"])  # a person's samples stand first
    levels = {sample: predictions}
    levels.setdefault("trial", trial_predictions(predictions))
    found = [_changes(rows).assign(level=level) for level, rows in levels.items()]
    changed = table.merge(pd.concat(found), "left", [*_KEYS, "method", "level"])
    columns = list(table)
    columns.insert(columns.index("confidence") + 1, "changed")
    return changed[columns]


def _changes(rows: pd.DataFrame) -> pd.DataFrame:
    """Return a row per method, fold, seed and person: the share of changed rows."""
    place = [*_KEYS, *(each for each in (*TRIAL, "start") if each in rows)]
    place = list(dict.fromkeys(place))
    plain = rows[rows["method"] == SOURCE_ONLY][[*place, "predicted"]]
    both = rows.merge(plain, "inner", place, suffixes=("", "_plain"))
    both["changed"] = both["predicted"] != both["predicted_plain"]
    groups = both.groupby(["method", *_KEYS], sort=False)
    return groups["changed"].mean().reset_index()
