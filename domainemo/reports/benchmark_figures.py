"""The pictures of a benchmark's page: ranks, and what accuracy costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..benchmark.findings import Group, Method, is_base
from ..statistics.ranks import friedman
from .style import COLOURS, MARKERS, WIDTH

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["MOST", "called", "draw_cost", "draw_ranks"]

MOST = 24
"""Methods that a diagram of ranks shows at most."""

_NAMED = 12  # points with a name beside them


def called(method: Method) -> str:
    """Return what a method is called where there is one place for its name."""
    backbone, name = method
    return f"{name} on {backbone}" if backbone else name


# ---------------------------------------------------------------------------- ranks


def draw_ranks(group: Group) -> Figure:
    """Draw the mean ranks of methods, and bars over those that cannot be told apart."""
    from matplotlib.figure import Figure

    named = group.scores.copy()
    named.columns = pd.Index([called(each) for each in group.methods])
    found = friedman(named)
    average = found.average.iloc[:MOST]
    groups = [
        (average[own[0]], average[own[-1]])
        for names in found.groups
        if len(own := [name for name in names if name in average.index]) > 1
    ]
    half = -(-len(average) // 2)
    bars = 0.3 * len(groups)
    depth = bars + 0.9 * half + 0.6
    figure = Figure(figsize=(WIDTH, 0.9 + 0.24 * depth), layout="constrained")
    axes = figure.subplots()
    low, high = np.floor(average.min()), np.ceil(average.max())
    _draw_axis(axes, low, high, found.critical_difference)
    for row, (first, last) in enumerate(groups):
        height = -0.45 - 0.3 * row
        axes.plot([first - 0.03, last + 0.03], [height] * 2, color="black", lw=3.2)
    for place, (name, rank) in enumerate(average.items()):
        left = place < half
        row = place if left else len(average) - 1 - place
        side = low if left else high
        height = -bars - 0.9 * (row + 1)
        axes.plot([rank, rank, side], [0, height, height], color="0.3", lw=0.8)
        axes.annotate(
            f"{name} ({rank:.2f})",
            (side, height),
            xytext=(-4 if left else 4, 0),
            textcoords="offset points",
            ha="right" if left else "left",
            va="center",
            fontsize=7.5,
        )
    axes.set_ylim(-depth, 1.6)
    return figure


def _draw_axis(axes: Axes, low: float, high: float, critical: float) -> None:
    """Draw the ranks as a scale, with the critical difference above it."""
    axes.axis("off")
    axes.plot([low, high], [0, 0], color="black", lw=1)
    step = max(1, round((high - low) / 8))
    for rank in np.arange(low, high + 0.5, step):
        axes.plot([rank, rank], [0, 0.18], color="black", lw=1)
        axes.text(rank, 0.3, f"{rank:.0f}", ha="center", va="bottom", fontsize=7.5)
    width = min(critical, high - low)
    cut = " (wider than the scale)" if critical > high - low else ""
    axes.plot([low, low + width], [1.15, 1.15], color=COLOURS[0], lw=1.6)
    axes.text(
        low + width / 2,
        1.25,
        f"critical difference {critical:.2f}{cut}",
        ha="center",
        va="bottom",
        fontsize=7.5,
    )


# ----------------------------------------------------------------------------- cost


def draw_cost(group: Group) -> Figure:
    """Draw each trained network's accuracy against the seconds of its training."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    table = group.table
    done = table[table["balanced_accuracy"].notna()]
    trained = done[done["backbone"] != ""]
    figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
    axes = figure.subplots()
    for number, (backbone, rows) in enumerate(trained.groupby("backbone", sort=False)):
        _draw_network(axes, rows, str(backbone), number)
    controls = done[done["backbone"] == ""]
    if len(controls):
        best = controls.sort_values("balanced_accuracy").iloc[-1]
        axes.axhline(best["balanced_accuracy"], color="0.35", lw=0.9, ls=(0, (4, 3)))
        axes.annotate(
            best["method"],
            (1.01, best["balanced_accuracy"]),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=7.5,
        )
    for _, row in trained.head(_NAMED).iterrows():
        axes.annotate(
            row["method"],
            (max(row["seconds"], _LEAST), row["balanced_accuracy"]),
            xytext=(5, 4),
            textcoords="offset points",
            fontsize=7,
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.set_xlabel("seconds of a training")
    axes.set_ylabel("balanced accuracy")
    axes.grid()
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3)
    return figure


_LEAST = 0.01  # seconds are kept to two digits


def _draw_network(axes: Axes, rows: Any, backbone: str, number: int) -> None:
    """Draw the methods of one backbone; source only is hollow."""
    seconds = rows["seconds"].clip(lower=_LEAST)
    values = rows["balanced_accuracy"]
    colour = COLOURS[number % len(COLOURS)]
    axes.vlines(seconds, rows["low"], rows["high"], color=colour, lw=0.8, alpha=0.5)
    base = np.array([is_base((backbone, name)) for name in rows["method"]])
    marker = MARKERS[number % len(MARKERS)]
    size = rows["parameters"].iloc[0]
    axes.scatter(
        seconds[~base],
        values[~base],
        s=28,
        marker=marker,
        fc=colour,
        ec=colour,
        label=f"{backbone} ({int(size):,} parameters; hollow: source only)",
    )
    axes.scatter(
        seconds[base], values[base], s=28, marker=marker, fc="white", ec=colour
    )
