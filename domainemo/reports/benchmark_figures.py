"""The pictures of a benchmark's page: ranks, and what accuracy costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..benchmarks.findings import Group, Method, is_base
from ..statistics.ranks import Ranks, friedman
from .style import COLOURS, MARKERS, WIDTH

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["MOST", "called", "draw_cost", "rankings"]

MOST = 24
"""Methods that one diagram of ranks shows, where they are of several backbones."""

_NAMED = 12  # points with a name beside them


def called(method: Method) -> str:
    """Return what a method is called where there is one place for its name."""
    backbone, name = method
    return f"{name} on {backbone}" if backbone else name


# ---------------------------------------------------------------------------- ranks


def rankings(group: Group) -> dict[str, Ranks]:
    """Return the ranks of all methods; of many, those of each backbone and controls.

    None where there are fewer than three methods.

    Parameters
    ----------
    group : Group
    """
    parts = {"": group.methods}
    if len(group.methods) > MOST:
        backbones = dict.fromkeys(backbone for backbone, _ in group.methods if backbone)
        parts = {
            name: [each for each in group.methods if each[0] in ("", name)]
            for name in backbones
        }
    found = {}
    for name, methods in parts.items():
        table = group.scores[methods].copy()
        table.columns = pd.Index([called(each) for each in methods])
        if len(methods) > 2:
            found[name] = friedman(table)
    return found


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
