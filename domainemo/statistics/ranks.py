"""Three or more methods on the same subjects: ranks, and which differ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..errors import ConfigurationError
from .intervals import FEWEST
from .ties import tied

__all__ = ["Ranks", "friedman"]


@dataclass(frozen=True)
class Ranks:
    """What Friedman's test found (Demsar, 2006).

    Attributes
    ----------
    average : Series
        The mean rank of each method over subjects, the best one (lowest) first; tied
        methods share the mean of their ranks.
    statistic, p : float
        Of Friedman's test, corrected for ties; NaN with fewer than five subjects.
    critical_difference : float
        Mean ranks further apart than this differ (Nemenyi's test).
    groups : list of list of str
        The largest groups of methods that cannot be told apart; a method that differs
        from every other is in none.
    subjects : int
    """

    average: pd.Series[float]
    statistic: float
    p: float
    critical_difference: float
    groups: list[list[str]]
    subjects: int


def friedman(table: pd.DataFrame, *, level: float = 0.95, lower: bool = False) -> Ranks:
    """Rank methods within each subject, and test whether any differs.

    Parameters
    ----------
    table : DataFrame
        A row per subject and a column per method, without NaN.
    level : float
        1 less the error rate of all pairs together.
    lower : bool
        Whether a lower value is a better one.

    Raises
    ------
    ConfigurationError
        With fewer than three methods, or where a value is missing.
    """
    from scipy.stats import friedmanchisquare, studentized_range

    subjects, methods = table.shape
    if methods < 3 or table.isna().to_numpy().any():
        raise ConfigurationError(
            f"Found {methods} methods and {int(table.isna().sum().sum())} missing "
            f"values; ranks need three methods or more, each with all subjects."
        )
    table = tied(table)
    ranks = table.rank(axis=1, ascending=lower)
    average = ranks.mean().sort_values(kind="stable")
    if subjects < FEWEST:
        statistic, p = float("nan"), float("nan")
    elif (ranks.nunique(axis=1) == 1).all():  # nothing differs anywhere
        statistic, p = 0.0, 1.0
    else:
        statistic, p = friedmanchisquare(*table.to_numpy().T)
    spread = studentized_range.ppf(level, methods, np.inf) / np.sqrt(2)
    critical = float(spread * np.sqrt(methods * (methods + 1) / (6 * subjects)))
    groups = _groups(average, critical)
    return Ranks(average, float(statistic), float(p), critical, groups, subjects)


def _groups(average: pd.Series[float], critical: float) -> list[list[str]]:
    """Return the largest runs of two or more methods within a critical difference."""
    names, values = [str(name) for name in average.index], average.to_numpy()
    found: list[list[str]] = []
    reached = 0
    for start in range(len(values)):
        end = int(np.searchsorted(values, values[start] + critical, side="right"))
        if end - start > 1 and end > reached:
            found.append(names[start:end])
            reached = end
    return found
