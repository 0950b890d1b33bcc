"""The pictures of a report on people whose labels nobody knows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..review.reading import class_names
from ..runs.results import Results
from ..words import in_order
from .style import COLOURS, HATCHES, MARKERS, WIDTH

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "PEOPLE",
    "SAMPLES",
    "SEEN",
    "draw_distances",
    "draw_recording",
    "draw_shares",
]

PEOPLE = 12
"""How many people are drawn or told one by one."""

SAMPLES = 300
"""Of a person, from which whole trials are drawn instead."""

SEEN = {"recorded": "as recorded", "normalised": "normalised"}
"""Columns of distances, and what they are called."""

_LETTERS = 90  # of a legend's names in one line, each with its mark
_NAMED = 6  # newcomers told apart in a picture of distances


def draw_shares(results: Results, methods: Sequence[str]) -> Figure:
    """Draw each person's class shares as a bar, a panel per method.

    Parameters
    ----------
    results : Results
    methods : sequence of str
        Those to draw, in order.
    """
    from matplotlib.figure import Figure

    people, classes = results.people(), class_names(results)
    names = list(people.index.unique("subject"))
    height = 0.26 * len(names) + 1.1
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    grid = figure.subplots(1, len(methods), squeeze=False, sharey=True)[0]
    for axes, method in zip(grid, methods, strict=True):
        shares = people.xs(method, level="method").loc[names]
        left = np.zeros(len(names))
        for number, name in enumerate(classes):
            widths = shares[f"share_{name}"].to_numpy(dtype=float)
            axes.barh(range(len(names)), widths, 0.78, left, **_look(number))
            left += widths
        for number in range(1, len(classes)):
            place = number / len(classes)
            axes.axvline(place, color="black", lw=0.9, ls=(0, (4, 3)))
        axes.set_title(method)
        axes.set_xlim(0, 1)
        axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        axes.set_xlabel("share predicted")
        axes.tick_params(axis="y", length=0)
    grid[0].set_yticks(range(len(names)), [_short(name) for name in names])
    grid[0].set_ylim(len(names) - 0.5, -0.5)
    grid[0].set_ylabel("subject")
    _name_classes(figure, classes)
    return figure


def draw_recording(
    table: pd.DataFrame, people: Sequence[Any], classes: Sequence[str], level: str
) -> Figure:
    """Draw the probability of every class along the recording, a panel per person.

    Parameters
    ----------
    table : DataFrame
        From :func:`~domainemo.review.tables.along_recording`; where it has a column
        ``changed``, rows that are True there are marked.
    people : sequence
        Those to draw, in order.
    classes : sequence of str
    level : str
        What a row is.
    """
    from matplotlib.figure import Figure

    abreast = 1 if len(people) < 4 else 2
    rows = -(-len(people) // abreast)
    figure = Figure(figsize=(WIDTH, 1.35 * rows + 0.6), layout="constrained")
    grid = figure.subplots(rows, abreast, squeeze=False, sharey=True)
    for axes, name in zip(grid.ravel(), people, strict=False):
        theirs = table[table["subject"] == name].reset_index(drop=True)
        _draw_person(axes, theirs, classes)
        axes.set_title(f"subject {_short(name)}")
    for axes in grid.ravel()[len(people) :]:
        axes.set_visible(False)
    for axes in grid[:, 0]:
        axes.set_ylabel("probability")
    for axes in grid.ravel()[max(len(people) - abreast, 0) : len(people)]:
        axes.set_xlabel(f"sessions, {level} after {level}")
    _name_classes(figure, classes)
    return figure


def _draw_person(axes: Axes, table: pd.DataFrame, classes: Sequence[str]) -> None:
    """Draw one person's probabilities, stacked, and where sessions and trials begin."""
    edges = np.arange(len(table) + 1)
    floor = np.zeros(len(table))
    for number, name in enumerate(classes):
        top = floor + table[f"p_{name}"].to_numpy(dtype=float)
        axes.fill_between(
            edges,
            np.append(floor, floor[-1]),
            np.append(top, top[-1]),
            step="post",
            **_look(number, linewidth=0),
        )
        floor = top
    begins = _begins(table, ["session", "trial"])
    if len(begins) < len(table):
        axes.vlines(begins, 0, 1, color="white", lw=0.6, alpha=0.8)
    sessions = _begins(table, ["session"])
    axes.vlines(sessions[1:], 0, 1, color="black", lw=1.2)
    if "changed" in table:
        places = np.flatnonzero(table["changed"].to_numpy(dtype=bool))
        axes.vlines(places + 0.5, 1.03, 1.1, color="black", lw=min(2, 160 / len(table)))
    _name_sessions(axes, table, sessions)
    axes.set_xlim(0, len(table))
    axes.set_ylim(0, 1.12)
    axes.set_yticks([0, 0.5, 1])


def _begins(table: pd.DataFrame, columns: list[str]) -> NDArray[np.int64]:
    """Return the rows at which any of these names changes, the first among them."""
    keys = table[columns].astype(str)
    return np.flatnonzero((keys != keys.shift()).any(axis=1))


def _name_sessions(axes: Axes, table: pd.DataFrame, begins: NDArray[np.int64]) -> None:
    """Write each session's name below its middle, as many as there is place for."""
    middles = (begins + np.append(begins[1:], len(table))) / 2
    step = -(-len(begins) // 6)
    width = min(16, 40 // len(begins[::step]))
    names = [_short(table["session"].iloc[place], width) for place in begins[::step]]
    axes.set_xticks(middles[::step], names)
    axes.tick_params(axis="x", length=0)


def draw_distances(distances: pd.DataFrame) -> Figure:
    """Draw each newcomer's distance to the source beside the source people's own.

    Parameters
    ----------
    distances : DataFrame
        From :func:`~domainemo.runs.distance.newcomers_distances`.
    """
    from matplotlib.figure import Figure

    modalities = list(dict.fromkeys(distances["modality"]))
    names = in_order(distances.loc[distances["newcomer"], "subject"])
    height = 0.62 * len(modalities) + 1.2
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    grid = figure.subplots(1, len(SEEN), sharey=True)
    for axes, (column, words) in zip(grid, SEEN.items(), strict=True):
        for row, modality in enumerate(modalities):
            here = distances[distances["modality"] == modality]
            _draw_row(axes, row, here.set_index("subject")[["newcomer", column]], names)
        axes.set_title(words)
        _set_scale(axes, distances[column].dropna())
        axes.set_xlabel("distance (standard deviations)")
        axes.grid(axis="x")
    grid[0].set_yticks(range(len(modalities)), [_short(name) for name in modalities])
    grid[0].set_ylim(len(modalities) - 0.5, -0.5)
    handles, labels = grid[0].get_legend_handles_labels()
    kept = dict(zip(labels, handles, strict=True))
    figure.legend(list(kept.values()), list(kept), loc="outside upper left", ncols=5)
    return figure


def _draw_row(
    axes: Axes, row: int, distances: pd.DataFrame, names: Sequence[Any]
) -> None:
    """Draw source people above the line of a modality, newcomers below it."""
    known = distances[~distances["newcomer"]].iloc[:, 1]
    new = distances[distances["newcomer"]].iloc[:, 1]
    heights = _spread(row - 0.17, len(known))
    grey: Any = {"fc": "none", "ec": "0.35", "lw": 0.8, "s": 20}
    axes.scatter(known, heights, label="source person", **grey)
    few = len(names) <= _NAMED
    for number, (name, height) in enumerate(
        zip(names, _spread(row + 0.17, len(names)), strict=True)
    ):
        place = number if few else 0
        axes.scatter(
            new[name],
            height,
            s=26,
            fc=COLOURS[place],
            marker=MARKERS[place],
            ec="black",
            lw=0.5,
            label=f"subject {_short(name)}" if few else "newcomer",
        )


def _spread(centre: float, number: int) -> NDArray[np.float64]:
    """Return heights around a centre, in a fixed pattern, so that dots stay apart."""
    return centre + 0.09 * (np.arange(number) % 5 - 2) / 2 * (number > 1)


def _set_scale(axes: Axes, values: pd.Series[float]) -> None:
    """Let many sizes of distances be seen side by side; else begin at nought."""
    if len(values) and values.min() > 0 and values.max() > 10 * values.median():
        axes.set_xscale("log")
    else:
        axes.set_xlim(0, None)


def _look(number: int, **others: Any) -> dict[str, Any]:
    """Return how a class's area looks; of many, colours recur in other patterns."""
    turn = number // len(COLOURS)
    look = {
        "facecolor": COLOURS[number % len(COLOURS)],
        "hatch": HATCHES[(number + turn) % len(HATCHES)],
        "edgecolor": "white",
        "linewidth": 0.5,
    }
    return {**look, **others}


def _name_classes(figure: Figure, classes: Sequence[str]) -> None:
    from matplotlib.patches import Patch

    patches = [Patch(**_look(number)) for number in range(len(classes))]
    names = [_short(name, 24) for name in classes]
    abreast = max(1, min(6, _LETTERS // (max(map(len, names)) + 6)))
    figure.legend(patches, names, loc="outside upper left", ncols=abreast)


def _short(name: Any, width: int = 16) -> str:
    """Return a name that fits, with its beginning and its end, which tell it apart."""
    text = str(name)
    if len(text) <= width:
        return text
    tail = width // 2
    return f"{text[: width - tail - 1]}\N{HORIZONTAL ELLIPSIS}{text[-tail:]}"
