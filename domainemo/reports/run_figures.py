"""The pictures of a run's report."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..core import FUSION
from ..review.chance import chances
from ..review.histories import loss_terms
from ..review.reading import baseline, class_names
from ..review.tables import calibration, confusion, subject_intervals
from ..runs.metrics import calibration_error
from ..runs.results import Results
from ..words import in_order
from .style import COLOURS, HATCHES, LINES, MARKERS, SEQUENTIAL, WIDTH, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "draw_calibration",
    "draw_confusion",
    "draw_embeddings",
    "draw_losses",
    "draw_methods",
    "draw_scores",
    "draw_screening",
    "draw_subjects",
]

_ABREAST = 16  # subjects in one row of bars
_NAMED = 10  # source domains named beside a picture
_CHANCE: Any = {"color": "0.35", "linewidth": 0.9, "linestyle": (0, (4, 3))}
_SCREENED = {
    "consistent": ("consistent: the fusion learns", COLOURS[0], ""),
    "taught": ("taught: one modality teaches another", COLOURS[1], "////"),
    "dropped": ("dropped: nothing learns", "0.85", ""),
}


# ---------------------------------------------------------------------------- scores


@styled
def draw_methods(results: Results) -> Figure:
    """Draw every method's mean and interval over subjects, and subjects as dots."""
    from matplotlib.figure import Figure

    summary, subjects = results.summary(), results.per_subject()
    figure = Figure(figsize=(WIDTH, 0.34 * len(summary) + 0.9), layout="constrained")
    axes = figure.subplots()
    for row, method in enumerate(summary.index):
        colour = COLOURS[0] if method == results.method else "0.45"
        values = subjects[method].to_numpy(dtype=float)
        # Dots of equal subjects lie beside each other, in a fixed pattern.
        spread = 0.16 * (np.arange(len(values)) % 5 - 2) / 2
        axes.scatter(values, row + spread, s=13, fc=colour, alpha=0.45, lw=0)
        found = summary.loc[method]
        mean = found["mean"]
        axes.plot([found["low"], found["high"]], [row, row], color="black", lw=1.6)
        axes.scatter(
            mean, row, s=42, marker="D", fc=colour, ec="black", lw=0.8, zorder=3
        )
        axes.annotate(
            f"{mean:.3f}",
            (1.01, row),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=8,
        )
    ends = np.arange(len(summary) + 1) - 0.5
    blind = chances(results).mean()[summary.index]
    axes.plot(np.repeat(blind, 2), np.repeat(ends, 2)[1:-1], **_CHANCE)
    axes.set_yticks(range(len(summary)), list(summary.index))
    axes.set_ylim(len(summary) - 0.5, -0.5)
    axes.set_xlim(min(0, *subjects.min()), 1)
    axes.set_xlabel("balanced accuracy (dashed: chance)")
    axes.grid(axis="x")
    return figure


def draw_subjects(results: Results, methods: Sequence[str]) -> Figure:
    """Draw each subject's balanced accuracy as bars, and the mean over subjects last.

    Parameters
    ----------
    results : Results
    methods : sequence of str
        Those to draw, in order.
    """
    from matplotlib.figure import Figure

    table, own = _heights(results, methods), chances(results)[results.method]
    blind = np.array([*own, own.mean()])
    names = [str(name) for name in results.per_subject().index]
    # The mean over subjects stands behind an empty place.
    places = [*range(len(names)), len(names) + 0.5]
    rows = -(-len(places) // (_ABREAST + 1))
    each = -(-len(places) // rows)
    figure = Figure(figsize=(WIDTH, 2.0 * rows + 0.5), layout="constrained")
    grid = figure.subplots(rows, squeeze=False)[:, 0]
    for row, axes in enumerate(grid):
        chosen = range(row * each, min((row + 1) * each, len(places)))
        for number, method in enumerate(methods):
            centres = np.array([places[c] for c in chosen])
            mine = table[table["method"] == method].iloc[list(chosen)]
            _draw_bars(axes, centres, mine, number, len(methods))
        across = [places[c] + side for c in chosen for side in (-0.5, 0.5)]
        axes.plot(across, np.repeat(blind[chosen], 2), **_CHANCE)
        labels = [*names, "mean"]
        axes.set_xticks([places[c] for c in chosen], [labels[c] for c in chosen])
        if max(len(labels[c]) for c in chosen) > 60 // len(chosen):
            axes.tick_params(axis="x", labelrotation=90)
        axes.set_xlim(places[chosen[0]] - 0.6, places[chosen[0]] + each)
        axes.set_ylim(0, 1.02)
        axes.tick_params(axis="x", length=0)
        axes.grid(axis="y")
        axes.set_ylabel("balanced accuracy")
    grid[-1].set_xlabel("subject")
    handles, labels = grid[0].get_legend_handles_labels()
    kept = dict(zip(labels, handles, strict=True))
    figure.legend(
        [kept[method] for method in methods],
        list(methods),
        loc="outside upper left",
        ncols=len(methods),
    )
    return figure


def _heights(results: Results, methods: Sequence[str]) -> pd.DataFrame:
    """Return value and interval of every subject, then of the mean, by method."""
    values, summary = results.per_subject(), results.summary()
    intervals = subject_intervals(results)
    parts = []
    for method in methods:
        ends = intervals[intervals["method"] == method].set_index("subject")
        ends = ends.loc[values.index]
        columns = {
            "value": [*values[method], summary["mean"][method]],
            "low": [*ends["low"], summary["low"][method]],
            "high": [*ends["high"], summary["high"][method]],
        }
        parts.append(pd.DataFrame({"method": method, **columns}))
    return pd.concat(parts, ignore_index=True)


def _draw_bars(
    axes: Axes,
    places: NDArray[np.float64],
    table: pd.DataFrame,
    number: int,
    methods: int,
) -> None:
    """Draw one method's bars, each with the line of its interval."""
    width = 0.8 / methods
    centres = places + (number - (methods - 1) / 2) * width
    axes.vlines(centres, table["low"], table["high"], color="black", lw=0.9, zorder=3)
    axes.bar(
        centres,
        table["value"],
        width,
        color=COLOURS[number],
        hatch=HATCHES[number],
        edgecolor="white",
        linewidth=0.5,
        label=table["method"].iloc[0],
    )


def draw_confusion(results: Results, methods: Sequence[str]) -> Figure:
    """Draw how often each true class is predicted as which, a panel per method."""
    from matplotlib.figure import Figure

    classes = class_names(results)
    height = max(0.42 * len(classes), 1.2) + 1.0
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    grid = figure.subplots(1, len(methods), squeeze=False, sharey=True)[0]
    for axes, method in zip(grid, methods, strict=True):
        rows = results.predictions[results.predictions["method"] == method]
        counts = confusion(rows, classes).to_numpy()
        shares = _row_shares(counts)
        image = axes.pcolormesh(
            shares,
            cmap=SEQUENTIAL,
            vmin=0,
            vmax=1,
            edgecolors="white",
            linewidth=0.8,
        )
        for row, column in np.ndindex(*shares.shape):
            share = shares[row, column]
            if np.isfinite(share):
                axes.text(
                    column + 0.5,
                    row + 0.5,
                    f"{share:.0%}\n{counts[row, column]}",
                    ha="center",
                    va="center",
                    fontsize=7,
                    color="white" if share > 0.55 else "black",
                )
        axes.set_title(method)
        axes.set_xlabel("predicted")
        axes.set_xticks(np.arange(len(classes)) + 0.5, classes)
        axes.set_yticks(np.arange(len(classes)) + 0.5, classes)
        if sum(map(len, classes)) > 70 // len(methods):
            axes.tick_params(axis="x", labelrotation=90)
        axes.tick_params(length=0)
        for side in axes.spines.values():
            side.set_visible(False)
    grid[0].invert_yaxis()
    grid[0].set_ylabel("true")
    bar = figure.colorbar(image, ax=list(grid), shrink=0.8, pad=0.01, aspect=18)
    bar.set_label("share of the true class", fontsize=7.5)
    bar.ax.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    bar.outline.set_visible(False)
    return figure


def _row_shares(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    totals = counts.sum(1, keepdims=True).astype(float)
    return counts / np.where(totals > 0, totals, np.nan)


def draw_calibration(results: Results, methods: Sequence[str]) -> Figure:
    """Draw how often predictions of each confidence are right, a panel per method."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
    grid = figure.subplots(
        2, len(methods), squeeze=False, sharex=True, sharey="row", height_ratios=[3, 1]
    )
    for number, method in enumerate(methods):
        above, below = grid[:, number]
        rows = results.predictions[results.predictions["method"] == method]
        error = calibration_error(
            rows["label"].to_numpy(), rows.filter(regex="^p_").to_numpy()
        )
        bins = calibration(rows)
        bins = bins[bins["samples"] > 0]
        centres = (bins["low"] + bins["high"]) / 2
        look: Any = {
            "width": 0.092,
            "color": COLOURS[number],
            "hatch": HATCHES[number],
            "edgecolor": "white",
            "linewidth": 0.5,
        }
        above.plot([0, 1], [0, 1], **_CHANCE)
        above.bar(centres, bins["accuracy"], **look)
        above.vlines(
            bins["confidence"], bins["accuracy"], bins["confidence"], color="black"
        )
        above.scatter(
            bins["confidence"], bins["accuracy"], s=16, fc="white", ec="black", zorder=3
        )
        above.set_title(f"{method}\nECE {error:.3f}")
        below.bar(centres, bins["samples"] / bins["samples"].sum(), **look)
        below.set_xlabel("confidence")
    grid[0, 0].set_ylabel("share right")
    grid[1, 0].set_ylabel("share of\nsamples")
    grid[0, 0].set_xlim(0, 1)
    grid[0, 0].set_ylim(0, 1.04)
    for axes in grid.flat:
        axes.grid(axis="y")
    return figure


# -------------------------------------------------------------------------- training


def draw_losses(results: Results, history: pd.DataFrame) -> Figure:
    """Draw every loss over the epochs: a panel per term, a line per branch.

    Lines are means over folds and seeds, bands their range. A grey line is source
    only's loss of the same name.

    Parameters
    ----------
    results : Results
    history : DataFrame
        From :func:`~domainemo.review.histories.histories`.
    """
    from matplotlib.figure import Figure

    other = baseline(results)
    mine = history[history["method"] == results.method]
    terms = loss_terms(results, history)
    named = {branch for columns in terms.values() for branch in columns} - {""}
    branches = [*sorted(named, key=lambda name: (name == FUSION, name)), ""]
    abreast = min(3, len(terms))
    rows = -(-len(terms) // abreast)
    figure = Figure(figsize=(WIDTH, 1.55 * rows + 0.6), layout="constrained")
    grid = figure.subplots(rows, abreast, squeeze=False, sharex=True).ravel()
    handles: dict[str, Any] = {}
    for axes, (term, columns) in zip(grid, terms.items(), strict=False):
        for branch, column in columns.items():
            line = _draw_mean(axes, mine, column, branches.index(branch))
            handles.setdefault(branch or "whole term", line)
        theirs = history[history["method"] == other]
        if term in theirs and theirs[term].notna().any():
            line = _draw_mean(axes, theirs, term, None)
            handles.setdefault(str(other), line)
        axes.set_title(term)
        low, high = min(0.0, axes.get_ylim()[0]), axes.get_ylim()[1]
        axes.set_ylim(low, high + 0.06 * (high - low))  # marks stay whole
        axes.grid()
    _finish_grid(grid, len(terms), abreast)
    order = [*(branch or "whole term" for branch in branches), str(other)]
    shown = [name for name in order if name in handles]
    figure.legend(
        [handles[name] for name in shown], shown, loc="outside upper left", ncols=6
    )
    return figure


def draw_scores(history: pd.DataFrame, kept: pd.Series[int], words: str) -> Figure:
    """Draw the validator's score over the epochs, and which epochs were kept.

    Parameters
    ----------
    history : DataFrame
        Of one method.
    kept : Series of int
        The epoch kept of each fold and seed.
    words : str
        What the score is.
    """
    from matplotlib.figure import Figure

    panels = {"score": words}
    if "held_out" in history and history["held_out"].notna().any():
        panels["held_out"] = "balanced accuracy on held-out source"
    figure = Figure(figsize=(WIDTH, 2.5), layout="constrained")
    grid = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (column, heading) in zip(grid, panels.items(), strict=True):
        _draw_mean(axes, history, column, 0)
        axes.set_title(heading)
        axes.set_xlabel("epoch")
        _whole_epochs(axes)
        axes.grid()
    epochs, often = np.unique(kept.to_numpy(dtype=int), return_counts=True)
    below = grid[0].get_xaxis_transform()
    grid[0].scatter(
        epochs,
        np.full(len(epochs), 0.03),
        s=14 + 10 * often,
        fc=COLOURS[1],
        marker="^",
        ec="black",
        lw=0.6,
        transform=below,
        zorder=4,
        label="epoch kept (larger: of more folds)",
    )
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside upper left")
    return figure


def draw_screening(table: pd.DataFrame) -> Figure:
    """Draw what screening made of the target over the epochs; right, how well.

    Parameters
    ----------
    table : DataFrame
        From :func:`~domainemo.review.screening.screening`, of one method.
    """
    from matplotlib.figure import Figure

    columns = {
        name: _SCREENED[name.removesuffix("_precision")]
        for name in ("consistent_precision", "taught_precision")
        if table[name].notna().any()
    }
    figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
    grid = figure.subplots(1, 2 if columns else 1, squeeze=False)[0]
    shares = table.groupby("epoch")[list(_SCREENED)].mean()
    edges = np.append(shares.index.to_numpy(), shares.index[-1] + 1) - 0.5
    floor = np.zeros(len(shares))
    for name, (words, colour, hatch) in _SCREENED.items():
        top = floor + shares[name].to_numpy()
        grid[0].fill_between(
            edges,
            np.append(floor, floor[-1]),
            np.append(top, top[-1]),
            step="post",
            facecolor=colour,
            hatch=hatch,
            edgecolor="white",
            linewidth=0,
            label=words,
        )
        floor = top
    grid[0].set_title("Target samples")
    grid[0].set_ylabel("share (mean over folds)")
    grid[0].set_ylim(0, 1)
    grid[0].set_xlim(edges[0], edges[-1])
    for number, (name, (words, _, _)) in enumerate(columns.items()):
        _draw_mean(grid[1], table, name, number, label=words.partition(":")[0])
        grid[1].set_title("Right pseudo-labels, after the fact")
        grid[1].set_ylim(0, 1.02)
        grid[1].grid()
    if columns:
        grid[1].legend(loc="best")
    for axes in grid:
        axes.set_xlabel("epoch")
        _whole_epochs(axes)
    figure.legend(
        *grid[0].get_legend_handles_labels(), loc="outside upper left", ncols=3
    )
    return figure


def _draw_mean(
    axes: Axes,
    table: pd.DataFrame,
    column: str,
    number: int | None,
    label: str | None = None,
) -> Any:
    """Draw a column's mean over folds and seeds, and its range; return the line."""
    found = table.groupby("epoch")[column].agg(["mean", "min", "max"])
    look: dict[str, Any] = {"color": "0.4", "linestyle": ":"}
    if number is not None:
        look = {
            "color": COLOURS[number % len(COLOURS)],
            "linestyle": LINES[number % len(LINES)],
            "marker": MARKERS[number % len(MARKERS)],
            "markevery": max(1, len(found) // 6),
        }
    axes.fill_between(
        found.index,
        found["min"],
        found["max"],
        color=look["color"],
        alpha=0.15,
        linewidth=0,
    )
    (line,) = axes.plot(found.index, found["mean"], label=label, **look)
    return line


def _finish_grid(grid: NDArray[Any], used: int, abreast: int) -> None:
    """Name the epochs below the lowest panels; hide the places left over."""
    for axes in grid[used:]:
        axes.set_visible(False)
    for axes in grid[max(used - abreast, 0) : used]:
        axes.set_xlabel("epoch")
        axes.tick_params(labelbottom=True)
        _whole_epochs(axes)


def _whole_epochs(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))


# ------------------------------------------------------------------------ embeddings


def draw_embeddings(panels: Mapping[str, pd.DataFrame], domain: str) -> Figure:
    """Draw samples in the plane of each network: by class, and by domain.

    Parameters
    ----------
    panels : mapping of str to DataFrame
        Heading and table, from :func:`~domainemo.review.embedding.embed`.
    domain : str
        What the protocol's domains are: ``"subject"`` or ``"session"``.
    """
    from matplotlib.figure import Figure

    # A narrow column beside each row holds its legend.
    figure = Figure(figsize=(WIDTH, 5.6), layout="constrained")
    grid = figure.subplots(
        2, len(panels) + 1, squeeze=False, width_ratios=[1] * len(panels) + [0.42]
    )
    for column, (heading, table) in enumerate(panels.items()):
        above, below = grid[:, column]
        _draw_by_class(above, table)
        _draw_by_domain(below, table, domain)
        above.set_title(heading)
        for axes in (above, below):
            axes.set_xticks([])
            axes.set_yticks([])
            first, second = table.attrs["explained"]
            axes.set_xlabel(f"component 1 ({first:.0%} of the variance)", fontsize=7)
            axes.set_ylabel(f"component 2 ({second:.0%})", fontsize=7)
    for row, words in enumerate(("class", domain)):
        handles: dict[str, Any] = {}
        for axes in grid[row, :-1]:
            found, names = axes.get_legend_handles_labels()
            handles |= dict(zip(names, found, strict=True))
        grid[row, -1].axis("off")
        grid[row, -1].legend(
            list(handles.values()),
            [textwrap.shorten(name, 24) for name in handles],
            loc="center left",
            title=f"by {words}",
            alignment="left",
            borderaxespad=0,
        )
    return figure


def _draw_by_class(axes: Axes, table: pd.DataFrame) -> None:
    """Draw the source as small open marks and the target as filled ones over them."""
    names = sorted(set(table["class"]))
    axes.scatter([], [], fc="none", ec="0.3", lw=0.7, s=9, label="open: source")
    axes.scatter([], [], fc="0.3", ec="black", lw=0.6, s=20, label="filled: target")
    for role in ("source", "target"):
        for number, name in enumerate(names):
            rows = table[(table["role"] == role) & (table["class"] == name)]
            colour = COLOURS[number % len(COLOURS)]
            look: dict[str, Any] = {"fc": "none", "ec": colour, "lw": 0.7, "s": 9}
            if role == "target":
                look = {"fc": colour, "ec": "black", "lw": 0.6, "s": 20, "zorder": 3}
            axes.scatter(
                rows["x"],
                rows["y"],
                marker=MARKERS[number % len(MARKERS)],
                label=name if role == "target" else None,
                **look,
            )


def _draw_by_domain(axes: Axes, table: pd.DataFrame, domain: str) -> None:
    """Draw each source domain in a colour and a mark of its own, the target black."""
    source = table[table["role"] == "source"]
    names = in_order(source["domain"])
    for number, name in enumerate(names):
        rows = source[source["domain"] == name]
        turn = number // len(COLOURS)
        axes.scatter(
            rows["x"],
            rows["y"],
            s=9,
            fc="none",
            # Black is the target's.
            ec=COLOURS[number % (len(COLOURS) - 1)],
            lw=0.7,
            marker=MARKERS[(number + turn) % len(MARKERS)],
            label=f"{domain} {name}" if number < _NAMED else None,
        )
    if len(names) > _NAMED:
        axes.plot([], [], " ", label=f"and {len(names) - _NAMED} more, not named")
    target = table[table["role"] == "target"]
    tested = textwrap.shorten(", ".join(map(str, pd.unique(target["domain"]))), 12)
    axes.scatter(
        target["x"],
        target["y"],
        s=14,
        color="black",
        marker="x",
        lw=0.8,
        label=f"{domain} {tested}, target",
        zorder=3,
    )
