"""A matrix of points gained and lost, as a figure; for the benchmarks that have one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from domainemo.registry import entries

__all__ = ["draw_matrix", "families"]


def families() -> dict[str, str]:
    """Return the family of every registered adapter, by its name: its folder's."""
    found = {}
    for entry in entries("adapter"):
        place = entry.origin.removeprefix("domainemo.adapters.").split(".")
        family = place[0] if len(place) > 1 else "uf-ama and relatives"
        found[entry.name] = family.replace("_", " ")
    return found


def draw_matrix(
    points: pd.DataFrame,
    bold: NDArray[np.bool_],
    heads: Sequence[str],
    family: Mapping[str, str],
    path: Path,
    *,
    limit: float,
) -> None:
    """Draw points by colour and number, with a picture for the eye alone beside it.

    Parameters
    ----------
    points : DataFrame
        A row per method, those of a family together; NaN where there is none.
    bold : ndarray of bool
        Of the same shape: what is more than chance.
    heads : sequence of str
        Above each column.
    family : mapping
        Of each method, for the lines between them.
    path : Path
        Of the SVG; the PNG beside it has its name.
    limit : float
        Points at which the colour is full.
    """
    matplotlib.rcParams["svg.hashsalt"] = path.stem
    figure = Figure(figsize=(8.8, 1.6 + 0.19 * len(points)), layout="constrained")
    axes = figure.add_subplot()
    values = points.to_numpy()
    axes.imshow(values, cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        text = "n/a" if np.isnan(value) else f"{round(value) or 0:+d}"
        axes.text(
            column,
            row,
            text,
            ha="center",
            va="center",
            fontsize=6.5,
            color="white" if abs(value) > 2 * limit / 3 else "black",
            fontweight="bold" if bold[row, column] and text != "+0" else None,
        )
    axes.set_xticks(range(len(heads)), heads, fontsize=7)
    axes.xaxis.tick_top()
    axes.set_yticks(range(len(points)), points.index.to_list(), fontsize=6.5)
    _by_family(axes, [family[name] for name in points.index])
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    figure.savefig(path, metadata={"Date": None})
    figure.savefig(path.with_suffix(".png"), dpi=150)


def _by_family(axes: Axes, named: Sequence[str]) -> None:
    """Draw a line between families, and their names on the right."""
    for row in range(1, len(named)):
        if named[row] != named[row - 1]:
            axes.axhline(row - 0.5, color="black", linewidth=0.8)
    right = axes.secondary_yaxis("right")
    groups = pd.Series(range(len(named)), index=named)
    middle = groups.groupby(level=0, sort=False).mean().drop("", errors="ignore")
    right.set_yticks(middle.to_list(), middle.index.to_list(), fontsize=7)
    right.tick_params(length=0)
