"""How an online run did over time: by step, and by the minutes since the start."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..core import TRIAL, Rows
from ..data.matching import step_of
from ..statistics.intervals import bootstrap_interval
from ..words import in_order
from .metrics import by_chance, metrics

__all__ = ["minutes_since_start", "over_time", "with_minutes"]

_MINUTES = "minutes"


def minutes_since_start(windows: pd.DataFrame) -> NDArray[np.float64]:
    """Return when each window starts, in minutes from the start of its session.

    Trials follow one another in natural order without a pause, as nobody keeps how long
    these were; each lasts until a window's step after its last window's start.

    Parameters
    ----------
    windows : DataFrame
        Of whole sessions.

    Returns
    -------
    ndarray of float, shape (windows,)
        NaN throughout where windows follow at no one step.
    """
    step = step_of(windows)
    if step is None:
        return np.full(len(windows), np.nan)
    place = {name: rank for rank, name in enumerate(in_order(windows["trial"]))}
    spans = windows.groupby(TRIAL)["start"].agg(["min", "max"]).reset_index()
    spans["lasts"] = spans["max"] - spans["min"] + step
    spans = spans.assign(rank=spans["trial"].map(place)).sort_values("rank")
    passed = spans.groupby(TRIAL[:2])["lasts"].cumsum() - spans["lasts"]
    begin = spans.assign(begin=passed - spans["min"])[[*TRIAL, "begin"]]
    found = windows[[*TRIAL, "start"]].merge(begin, "left", TRIAL)
    return (found["begin"] + found["start"]).to_numpy(np.float64) / 60


def with_minutes(
    predictions: pd.DataFrame, windows: pd.DataFrame, members: Rows
) -> pd.DataFrame:
    """Return predictions with the minute at which each sample starts.

    Parameters
    ----------
    predictions : DataFrame
        A row per sample.
    windows : DataFrame
        All windows, those that are only seen among them.
    members : ndarray of int, shape (samples, time)
        Windows of each sample.
    """
    return predictions.assign(**{_MINUTES: minutes_since_start(windows)[members[:, 0]]})


def over_time(predictions: pd.DataFrame) -> pd.DataFrame | None:
    """Return how each method did from step to step; None where folds are no steps.

    Parameters
    ----------
    predictions : DataFrame
        Of :attr:`Results.predictions`.

    Returns
    -------
    DataFrame
        A row per ``method`` and ``step``: the mean ``minutes`` since the start of the
        session at which what it tests begins; the ``subjects`` of whom it tests more
        than one class, their mean ``balanced_accuracy`` with its 95 % interval ``low``
        to ``high``, and what the same answers reach by ``chance``; and
        ``prequential``, with ``prequential_low`` and ``prequential_high``, that of all
        predictions up to this step together. Sessions of a subject count together,
        seeds are averaged.
    """
    if _MINUTES not in predictions:
        return None
    found = predictions["fold"].astype(str).str.extract(r"step (\d+)$")[0]
    if found.isna().any():
        return None
    steps = found.astype(int).to_numpy()
    rows = []
    for method in dict.fromkeys(predictions["method"]):
        own = (predictions["method"] == method).to_numpy()
        for step in np.unique(steps[own]):
            here, until = own & (steps == step), own & (steps <= step)
            together = _summary(predictions[until])
            rows.append(
                {"method": method, "step": int(step)}
                | {_MINUTES: _mean_minutes(predictions[here])}
                | _summary(predictions[here])
                | {
                    "prequential": together["balanced_accuracy"],
                    "prequential_low": together["low"],
                    "prequential_high": together["high"],
                }
            )
    return pd.DataFrame(rows)


def _mean_minutes(rows: pd.DataFrame) -> float:
    """Return the minute at which what is tested begins, the mean over sessions."""
    return float(rows.groupby(["subject", "session"])[_MINUTES].min().mean())


def _summary(rows: pd.DataFrame) -> dict[str, float]:
    """Return the mean over subjects of their balanced accuracy, and its interval."""
    columns = [name for name in map(str, rows) if name.startswith("p_")]
    scores: dict[object, list[tuple[float, float]]] = {}
    for (subject, _), theirs in rows.groupby(["subject", "seed"]):
        labels, told = theirs["label"].to_numpy(), theirs[columns].to_numpy()
        reached = metrics(labels, told)["balanced_accuracy"]
        blind = by_chance(labels, told.argmax(1))
        scores.setdefault(subject, []).append((reached, blind))
    means = np.array([np.mean(each, axis=0) for each in scores.values()])
    means = means[np.isfinite(means).all(1)]
    low, high = bootstrap_interval(means[:, 0])
    mean, blind = means.mean(0) if len(means) else (float("nan"), float("nan"))
    return {
        "subjects": len(means),
        "balanced_accuracy": float(mean),
        "low": low,
        "high": high,
        "chance": float(blind),
    }
