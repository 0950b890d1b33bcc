"""The pictures of a comparison: paired values, and mean ranks with what ties."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ..review.comparison import Compared, OnDataset
from ..statistics.intervals import bootstrap_interval
from ..statistics.ranks import Ranks
from ..words import count
from .style import COLOURS, WIDTH, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_paired", "draw_ranks", "figures"]


def figures(compared: Compared) -> dict[str, Callable[[], Figure]]:
    """Return what draws each figure, by its name.

    Parameters
    ----------
    compared : Compared
    """
    found: dict[str, Callable[[], Figure]] = {"paired": partial(draw_paired, compared)}
    for number, here in enumerate(compared.datasets, start=1):
        if here.ranks is not None:
            name = "ranks" if len(compared.datasets) == 1 else f"ranks-{number}"
            found[name] = partial(draw_ranks, here.ranks, here.name)
    return found


@styled
def draw_paired(compared: Compared) -> Figure:
    """Draw each subject as a line from method to method, and the means beside.

    Parameters
    ----------
    compared : Compared
    """
    from matplotlib.figure import Figure

    panels = compared.datasets
    figure = Figure(figsize=(WIDTH, 2.9 * len(panels)), layout="constrained")
    grid = figure.subplots(len(panels), squeeze=False)[:, 0]
    for axes, here in zip(grid, panels, strict=True):
        _draw_panel(axes, here)
        axes.set_ylabel(f"{compared.metric.replace('_', ' ')} per {here.level}")
        axes.set_title(f"{here.name}; {count(len(here.values), 'subject')}")
    return figure


def _draw_panel(axes: Axes, here: OnDataset) -> None:
    names = [str(name) for name in here.values]
    places = np.arange(len(names))
    for row in here.values.to_numpy(dtype=float):
        axes.plot(places, row, color="0.75", lw=0.8, marker="o", ms=2.5)
    for place, name in enumerate(names):
        values = here.values[name].to_numpy(dtype=float)
        low, high = bootstrap_interval(values)
        axes.plot([place, place], [low, high], color=COLOURS[0], lw=2)
        axes.plot(place, values.mean(), color=COLOURS[0], marker="D", ms=5)
    axes.set_xticks(places, names)
    if max(map(len, names)) > 80 // len(names):
        axes.tick_params(axis="x", labelrotation=20)
    axes.set_xlim(-0.4, len(names) - 0.6)
    axes.grid(axis="y")


def draw_ranks(ranks: Ranks, title: str) -> Figure:
    """Draw the critical-difference diagram of mean ranks (Demsar, 2006).

    Methods joined by a bar cannot be told apart.

    Parameters
    ----------
    ranks : Ranks
    title : str
    """
    from matplotlib.figure import Figure

    names, values = list(ranks.average.index), ranks.average.to_numpy(dtype=float)
    half = -(-len(names) // 2)
    depth = 0.5 * len(ranks.groups) + half + 1
    height = 0.9 + 0.22 * (depth + 2)
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots()
    axes.set_xlim(0.3, len(names) + 0.7)
    axes.set_ylim(-depth, 2.2)
    axes.axis("off")
    axes.set_title(f"{title}; mean rank over {ranks.subjects} subjects, 1 is best")
    _draw_scale(axes, len(names), ranks.critical_difference)
    for number, group in enumerate(ranks.groups):
        inside = ranks.average[group].to_numpy(dtype=float)
        ends = [inside.min() - 0.04, inside.max() + 0.04]
        axes.plot(ends, 2 * [-0.5 * (number + 1)], color=COLOURS[5], lw=3)
    below = 0.5 * len(ranks.groups) + 0.6
    for number, (name, value) in enumerate(zip(names, values, strict=True)):
        left = number < half
        place = -below - (number if left else len(names) - 1 - number)
        side = 0.95 if left else len(names) + 0.05
        axes.plot(
            [float(value), float(value), side], [0.0, place, place], color="0.3", lw=0.8
        )
        text = f" {name} ({value:.2f}) "
        axes.text(side, place, text, ha="right" if left else "left", va="center")
    return figure


def _draw_scale(axes: Axes, methods: int, critical: float) -> None:
    """Draw the axis of ranks, and how long a critical difference is."""
    axes.plot([1, methods], [0, 0], color="0.3", lw=1)
    for rank in range(1, methods + 1, -(-methods // 20)):
        axes.plot([rank, rank], [0, 0.2], color="0.3", lw=1)
        axes.text(rank, 0.35, str(rank), ha="center", va="bottom")
    end = min(1 + critical, methods)
    axes.plot([1, end], [1.7, 1.7], color="0.3", lw=1.5)
    said = "" if end == 1 + critical else ", more than there are ranks"
    axes.text(end + 0.05, 1.7, f"critical difference {critical:.2f}{said}", va="center")
