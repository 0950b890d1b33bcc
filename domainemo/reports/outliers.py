"""Values that lie far off: which they are, and axes that end before them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["outlying", "without_outliers"]

_FEW = 10  # values that have no usual range


def outlying(values: Any) -> NDArray[np.bool_]:
    """Return which values lie more than three interquartile ranges off the quartiles.

    Of fewer than ten, and where half of them are the same, none does.

    Parameters
    ----------
    values : array-like of float
        NaN is no outlier.
    """
    numbers = np.asarray(values, dtype=np.float64)
    known = numbers[np.isfinite(numbers)]
    if len(known) < _FEW:
        return np.zeros(numbers.shape, dtype=bool)
    first, third = np.quantile(known, [0.25, 0.75])
    reach = 3 * (third - first)
    if reach == 0:
        return np.zeros(numbers.shape, dtype=bool)
    outside: NDArray[np.bool_] = (numbers < first - reach) | (numbers > third + reach)
    return outside


def without_outliers(
    axes: Axes, axis: Literal["x", "y"], values: Any, kept: Any = ()
) -> None:
    """End an axis at the values that do not lie far off; name the others at its edge.

    One candidate that went astray would else press all others onto a line.

    Parameters
    ----------
    axes : Axes
        With everything drawn.
    axis : {"x", "y"}
    values : array-like of float
        What was drawn along it.
    kept : array-like of float
        What the axis reaches however far off it lies: what was chosen, references.
    """
    numbers, kept = (np.asarray(each, dtype=np.float64) for each in (values, kept))
    outside = outlying(numbers) & ~np.isin(numbers, kept)
    if not outside.any():
        return
    inside = np.append(numbers[~outside], kept)
    inside = inside[np.isfinite(inside)]
    margin = 0.08 * float(np.ptp(inside))
    low, high = float(inside.min()) - margin, float(inside.max()) + margin
    (axes.set_ylim if axis == "y" else axes.set_xlim)(low, high)
    for beyond, place, words in (
        (numbers[outside & (numbers < low)], 0.0, "below"),
        (numbers[outside & (numbers > high)], 1.0, "above"),
    ):
        if not len(beyond):
            continue
        ends = dict.fromkeys(f"{value:.3g}" for value in (beyond.min(), beyond.max()))
        axes.annotate(
            f"{len(beyond)} {words}, not shown: {' to '.join(ends)}",
            (0.5, place) if axis == "y" else (place, 0.5),
            (0, 3 - 6 * place) if axis == "y" else (3 - 6 * place, 0),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="center" if axis == "y" else "right" if place else "left",
            va="center" if axis == "x" else "top" if place else "bottom",
            rotation=90 if axis == "x" else 0,
            fontsize=7,
            color="0.25",
            bbox={"fc": "white", "ec": "none", "alpha": 0.8, "pad": 0.5},
            zorder=5,
        )
