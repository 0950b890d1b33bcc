"""Figures of an interpretation: regions on the scalp, attention over time."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..backbones.graphs import electrode_positions
from ..backbones.regions import ELECTRODES
from ..review.interpretation import Interpretation
from ..words import count
from .connectivity import draw_connections, draw_connectivity
from .heat_maps import heat_map, write_caption, write_scale
from .style import DIVERGING, SEQUENTIAL, WIDTH, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["class_means", "draw_cross_modal", "draw_regions", "figures"]

Array = NDArray[np.float64]

_NAMED = 3  # regions named under each map
_RING = ("FPZ", "T7", "OZ", "T8")
_EDGE = 0.82  # radius of the ring through these, where the head's is 1
_PALE = 0.05  # deviations from even attention that stay pale, whatever the largest is

_WORDS = {
    "attention": ("Attention", "attention (1 = even)", "{} {:.2f}"),
    "occlusion": (
        "Occlusion",
        "fall of the predicted class's probability (points)",
        "{} {:.1f}",
    ),
}


def figures(interpretation: Interpretation) -> dict[str, Callable[[], Figure]]:
    """Return how to draw each figure that there is, by the stem of its file's name."""
    found: dict[str, Callable[[], Figure]] = {
        column: lambda column=column: draw_regions(interpretation, column)  # type: ignore[misc]
        for column in _WORDS
        if column in interpretation.regions
    }
    if len(interpretation.moments):
        found["cross_modal"] = lambda: draw_cross_modal(interpretation)
    if len(interpretation.connectivity):
        found["connectivity"] = lambda: draw_connectivity(interpretation)
        found["connections"] = lambda: draw_connections(interpretation)
    return found


def class_means(table: pd.DataFrame, column: str = "attention") -> pd.DataFrame:
    """Return the mean over subjects; a row per predicted class, a column per region.

    Every subject weighs the same, in however many folds, seeds and samples it is.

    Parameters
    ----------
    table : DataFrame
        :attr:`Interpretation.regions`.
    column : {"attention", "occlusion"}
    """
    keys = ["subject", "predicted", "region"]
    weighted = table.assign(total=table[column] * table["samples"])
    sums = weighted.groupby(keys, sort=False)[["total", "samples"]].sum()
    means = (sums["total"] / sums["samples"]).groupby(keys[1:], sort=False).mean()
    order = list(dict.fromkeys(table["region"]))
    return means.unstack("region").sort_index()[order]


@styled
def draw_regions(interpretation: Interpretation, column: str = "attention") -> Figure:
    """Draw a map per predicted class, and its difference to the mean over classes.

    Attention is given as a multiple of even attention, which is one over the number of
    regions: 1 at all electrodes of a region, however many it has, means that it is
    heard like any other.

    Parameters
    ----------
    interpretation : Interpretation
    column : {"attention", "occlusion"}
        Occlusion is shown as it is at each of the region's electrodes, in points.
    """
    from matplotlib.figure import Figure

    means, scale = class_means(interpretation.regions, column), 100
    if column == "attention":
        scale = means.shape[1]
    means = scale * means
    shown = _on_electrodes(means, interpretation.electrodes)
    values, places = shown.to_numpy(), _flat_places(list(shown.columns))
    heading, words, unit = _WORDS[column]
    rows, abreast = (2 if len(means) > 1 else 1), len(means)
    size = min((WIDTH - 0.9) / abreast, 2.0)
    height = rows * (size + 0.25) + 1.0
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    grid = figure.subplots(rows, abreast, squeeze=False)
    colours, limits = _scale(values, column)
    _row_of_maps(grid[0], values, places, colours, limits, words)
    for axes, name in zip(grid[0], means.index, strict=True):
        number = _counted(interpretation.regions, str(name))
        axes.set_title(f"predicted {name}\n{number}", loc="center", fontsize=7.5)
        _name_regions(axes, means.loc[name], size, unit)
    if rows == 2:
        gaps = values - values.mean(0)
        top = float(np.abs(gaps).max()) or 1.0
        words = "difference to the mean over classes"
        _row_of_maps(grid[1], gaps, places, DIVERGING, (-top, top), words)
    write_caption(figure, heading, interpretation)
    return figure


def _scale(values: Array, column: str) -> tuple[str, tuple[float, float]]:
    """Return the colours of a map and the values at their ends."""
    if column != "attention":
        return SEQUENTIAL, (min(0.0, float(values.min())), float(values.max()))
    reach = max(float(np.abs(values - 1).max()), 2 * _PALE)
    return DIVERGING, (1 - reach, 1 + reach)


def _counted(table: pd.DataFrame, predicted: str) -> str:
    """Return in words how many samples, of how many subjects, a class's map is of."""
    rows = table[table["predicted"].astype(str) == predicted]
    first = rows[rows["region"] == rows["region"].iloc[0]]
    keys = [name for name in ("adapter", "fold", "seed") if name in first]
    runs = first[keys].drop_duplicates().shape[0]
    number, subjects = int(first["samples"].sum()), first["subject"].nunique()
    return f"n = {number}, {count(runs, 'network')}, {count(subjects, 'subject')}"


def draw_cross_modal(interpretation: Interpretation) -> Figure:
    """Draw how regions listen to each companion: window by window, and by lag.

    Attention is given as a multiple of even attention: 1 means that every window that
    the companion recorded is heard alike.
    """
    from matplotlib.figure import Figure

    companions = list(dict.fromkeys(interpretation.moments["companion"]))
    regions = list(interpretation.electrodes)
    height = max(0.16 * len(regions) + 0.75, 2.4)
    figure = Figure(
        figsize=(WIDTH, height * len(companions) + 0.4), layout="constrained"
    )
    grid = figure.subplots(
        len(companions), 2, squeeze=False, width_ratios=[1, 1.35], sharey=False
    )
    for (left, right), companion in zip(grid, companions, strict=True):
        moments, lags = (
            _mean_ratio(table[table["companion"] == companion], rows, columns)
            for table, rows, columns in (
                (interpretation.moments, "eeg_window", "companion_window"),
                (interpretation.lags, "region", "lag"),
            )
        )
        lags = lags.loc[[region for region in regions if region in lags.index]]
        reach = max(
            float(np.nanmax(np.abs(each.to_numpy() - 1))) for each in (moments, lags)
        )
        reach = max(reach, 2 * _PALE)
        for axes, table in ((left, moments), (right, lags)):
            image = heat_map(axes, table, DIVERGING, (1 - reach, 1 + reach))
        left.set_title("Window by window (mean over regions)")
        left.set_xlabel(f"{companion} window")
        left.set_ylabel("EEG window")
        right.set_title("By region")
        right.set_xlabel(f"windows by which {companion} is later than the EEG")
        write_scale([left, right], image, "attention (1 = even)")
    write_caption(figure, "Cross-modal attention", interpretation)
    return figure


def _row_of_maps(
    row: Sequence[Axes],
    values: Array,
    places: Array,
    colours: str,
    limits: tuple[float, float],
    words: str,
) -> None:
    """Draw a map on each of the axes, and their common scale beside them."""
    for axes, each in zip(row, values, strict=True):
        image = _topomap(axes, each, places, colours, limits)
    # Colours are symmetric about even attention, which cannot be negative.
    write_scale(row, image, words, 0.0 if words == _WORDS["attention"][1] else None)


def _on_electrodes(
    means: pd.DataFrame, electrodes: Mapping[str, tuple[str, ...]]
) -> pd.DataFrame:
    """Return a column per electrode: its region's value."""
    columns = {
        name: means[region]
        for region, members in electrodes.items()
        if region in means
        for name in members
    }
    return pd.DataFrame(columns)


def _flat_places(names: Sequence[str]) -> Array:
    """Return where electrodes lie on a flat head of radius 1: right, front.

    The projection keeps the angle from the vertex, seen from the centre of the sphere
    that fits the 62 electrodes of the partitions best.
    """
    cap = electrode_positions(ELECTRODES)
    system = np.hstack([2 * cap, np.ones((len(cap), 1))])
    centre = np.linalg.lstsq(system, (cap**2).sum(1), rcond=None)[0][:3]
    ring = _angles(electrode_positions(_RING) - centre)[0].mean()
    angle, around = _angles(electrode_positions(names) - centre)
    radius = _EDGE * angle / ring
    return np.stack([radius * np.cos(around), radius * np.sin(around)], 1)


def _angles(places: Array) -> tuple[Array, Array]:
    """Return angles from the vertex, and around it."""
    right, front, up = places.T
    return np.arctan2(np.hypot(right, front), up), np.arctan2(front, right)


def _topomap(
    axes: Axes,
    values: Array,
    places: Array,
    colours: str,
    limits: tuple[float, float],
) -> Any:
    """Draw one map and return its image."""
    from mne.viz import plot_topomap

    # MNE refuses two electrodes at one place, as CB1 and PO9 are here.
    _, first = np.unique(places.round(3), axis=0, return_index=True)
    kept = np.sort(first)
    image, _ = plot_topomap(
        values[kept],
        places[kept],
        axes=axes,
        show=False,
        cmap=colours,
        vlim=limits,
        sphere=(0.0, 0.0, 0.0, 1.0),
        contours=4,
        sensors=False,
        extrapolate="head",
    )
    right, front = places[kept].T
    axes.scatter(right, front, s=2, color="black", linewidths=0)
    return image


def _name_regions(axes: Axes, values: pd.Series[float], size: float, unit: str) -> None:
    """Name the regions of the highest values under a map."""
    highest = values.sort_values(ascending=False)[:_NAMED]
    lines = [
        textwrap.shorten(unit.format(region, value), int(17 * size), placeholder="...")
        for region, value in highest.items()
    ]
    axes.text(
        0.5,
        -0.02,
        "\n".join(lines),
        transform=axes.transAxes,
        ha="center",
        va="top",
        fontsize=6.5 if size > 1.2 else 6,
    )


def _mean_ratio(table: pd.DataFrame, rows: str, columns: str) -> pd.DataFrame:
    """Return the mean ratio over folds and subjects, weighted by pairs."""
    weighted = table.assign(total=table["ratio"] * table["pairs"])
    sums = weighted.groupby([rows, columns], sort=False)[["total", "pairs"]].sum()
    ratio = (sums["total"] / sums["pairs"]).unstack(columns)
    return ratio.sort_index(axis=1).sort_index(axis=0)
