"""Figures of edges between brain regions: as they are, and what each class loses."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
import pandas as pd

from ..review.interpretation import Interpretation
from .heat_maps import heat_map, write_caption, write_scale
from .style import DIVERGING, SEQUENTIAL, WIDTH

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["connection_means", "draw_connections", "draw_connectivity"]

_NAMES = 1.75  # inches for the regions' names


def connection_means(table: pd.DataFrame) -> pd.DataFrame:
    """Return the mean over subjects, each of which weighs the same.

    Parameters
    ----------
    table : DataFrame
        :attr:`Interpretation.connections`.

    Returns
    -------
    DataFrame
        A row per predicted class, a column per pair of regions.
    """
    keys = ["subject", "predicted", "region", "other"]
    weighted = table.assign(total=table["occlusion"] * table["samples"])
    sums = weighted.groupby(keys, sort=False)[["total", "samples"]].sum()
    means = (sums["total"] / sums["samples"]).groupby(keys[1:], sort=False).mean()
    return means.unstack(["region", "other"]).sort_index()


def draw_connectivity(interpretation: Interpretation) -> Figure:
    """Draw each graph as a matrix of regions: what training has changed of its edges.

    Where that is not known the edges are drawn as they are.

    Parameters
    ----------
    interpretation : Interpretation
    """
    table = interpretation.connectivity
    known = bool(table["learned"].notna().all())
    column, words = "weight", "mean weight of the edges"
    if known:
        column, words = "learned", "mean weight of the edges, less as first drawn"
    matrices = {}
    for graph in dict.fromkeys(table["graph"]):
        own = table[table["graph"] == graph]
        means = own.groupby(["region", "other"], sort=False)[column].mean()
        matrices[f"Graph of {graph}"] = _matrix(means, interpretation)
    top = max(float(np.abs(each.to_numpy()).max()) for each in matrices.values()) or 1.0
    colours, limits = (DIVERGING, (-top, top)) if known else (SEQUENTIAL, (0.0, top))
    figure = _matrices(matrices, colours, limits, words)
    write_caption(figure, "Edges between regions", interpretation)
    return figure


def draw_connections(interpretation: Interpretation) -> Figure:
    """Draw a matrix of regions per predicted class: what it loses without the edges.

    Parameters
    ----------
    interpretation : Interpretation
    """
    means = 100 * connection_means(interpretation.connections)
    matrices = {
        f"predicted {name}": _matrix(means.loc[name], interpretation)
        for name in means.index
    }
    reach = float(np.abs(means.to_numpy()).max()) or 1.0
    words = "fall of the predicted class's probability without the edges (points)"
    figure = _matrices(matrices, DIVERGING, (-reach, reach), words)
    write_caption(figure, "Edges cut between regions", interpretation)
    return figure


def _matrix(values: pd.Series[float], interpretation: Interpretation) -> pd.DataFrame:
    """Return a symmetric table of what is told once for each pair."""
    regions = list(interpretation.electrodes)
    table = pd.DataFrame(np.nan, regions, regions)
    for pair, value in values.items():
        one, other = cast(tuple[str, str], pair)
        table.loc[one, other] = table.loc[other, one] = value
    return table


def _matrices(
    matrices: dict[str, pd.DataFrame],
    colours: str,
    limits: tuple[float, float],
    words: str,
) -> Figure:
    """Draw matrices side by side, two to a row, on one scale."""
    from matplotlib.figure import Figure

    columns = min(len(matrices), 2)
    rows = -(-len(matrices) // columns)
    size = (WIDTH - _NAMES - 1.1) / 2
    height = rows * (size + 0.3) + _NAMES * rows + 0.2
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for number, axes in enumerate(grid.ravel()):
        if number >= len(matrices):
            axes.set_visible(False)
            continue
        name, table = list(matrices.items())[number]
        image = heat_map(axes, table, colours, limits)
        axes.set_title(name)
        axes.set_aspect("equal")
        axes.tick_params(axis="x", rotation=90)
        if number % columns:
            axes.set_yticklabels([])
    write_scale([axes for axes in grid.ravel() if axes.get_visible()], image, words)
    return figure
