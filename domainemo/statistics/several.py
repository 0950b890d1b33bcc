"""Several comparisons at once: Holm's correction, and Stouffer's combination."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigurationError
from .paired import Comparison

__all__ = ["Combined", "holm", "stouffer"]


def holm(p_values: Sequence[float]) -> NDArray[np.float64]:
    """Return p-values corrected for their number, step by step (Holm, 1979).

    Parameters
    ----------
    p_values : sequence of float
        Of one family of tests. A NaN is no test: it stays, and is not counted.
    """
    values = np.asarray(p_values, dtype=float)
    corrected = np.full(len(values), np.nan)
    there = np.flatnonzero(~np.isnan(values))
    order = there[np.argsort(values[there], kind="stable")]
    steps = np.arange(len(order), 0, -1) * values[order]
    corrected[order] = np.minimum(1, np.maximum.accumulate(steps))
    return corrected


@dataclass(frozen=True)
class Combined:
    """The same comparison on several data sets, taken together.

    Attributes
    ----------
    z : float
        Positive where the first method is better.
    p : float
        Two-sided.
    datasets : int
        How many were combined.
    """

    z: float
    p: float
    datasets: int


def stouffer(comparisons: Sequence[Comparison]) -> Combined:
    """Combine a comparison over data sets, weighted by the root of their subjects.

    Each signed-rank test becomes one-sided, in the direction in which its ranks point
    (half of its two-sided p, or one less that half), so that data sets that disagree
    cancel out. Data sets must share no subject.

    Parameters
    ----------
    comparisons : sequence of Comparison
        One per data set, of five subjects or more.

    Raises
    ------
    ConfigurationError
        If one had too few subjects for a test.
    """
    from scipy.stats import combine_pvalues, norm

    if not comparisons or any(np.isnan(each.p) for each in comparisons):
        raise ConfigurationError(
            "Found a data set without a p-value; combining needs, of each, a "
            "comparison over five subjects or more."
        )
    one_sided = [
        each.p / 2 if each.rank_biserial.value > 0 else 1 - each.p / 2
        for each in comparisons
    ]
    z = float(
        combine_pvalues(
            one_sided,
            method="stouffer",
            weights=[np.sqrt(each.subjects) for each in comparisons],
        ).statistic
    )
    return Combined(z, float(2 * norm.sf(abs(z))), len(comparisons))
