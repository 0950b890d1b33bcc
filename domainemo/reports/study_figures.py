"""The pictures of a study's report."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..runs.results import Results
from ..studies.findings import SOURCE_ONLY_CANDIDATE, Findings
from .outliers import outlying, without_outliers
from .study_numbers import (
    FEW,
    Agreement,
    Importances,
    Option,
    best_so_far,
    comparable,
    complete,
    lower_is_better,
    objectives,
    projected,
    smooth,
    source_only_scores,
)
from .style import COLOURS, DIVERGING, SEQUENTIAL, WIDTH

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

__all__ = [
    "MOST_PANELS",
    "draw_agreement",
    "draw_contour",
    "draw_cost",
    "draw_final",
    "draw_folds",
    "draw_history",
    "draw_importances",
    "draw_parallel",
    "draw_pareto",
    "draw_slices",
]

Array = NDArray[np.floating[Any]]

MOST_PANELS = 24
"""Studies, one a fold, that are drawn beside each other."""

_BLUE, _ORANGE, _GREEN, _PINK, _SKY, _RED = COLOURS[:6]

_MARKS: Mapping[str, dict[str, Any]] = {
    "complete": {"marker": "o", "s": 20, "fc": _BLUE, "ec": "white", "lw": 0.4},
    "pruned": {"marker": "v", "s": 20, "fc": "white", "ec": _ORANGE, "lw": 1},
    "failed": {"marker": "x", "s": 22, "color": _RED, "lw": 1.2},
    "running": {"marker": "s", "s": 16, "fc": "white", "ec": _SKY, "lw": 1},
    "defaults": {"marker": "D", "s": 34, "fc": _PINK, "ec": "black", "lw": 0.7},
    "source only": {"marker": "P", "s": 48, "fc": _SKY, "ec": "black", "lw": 0.7},
    "chosen": {"marker": "*", "s": 120, "fc": _GREEN, "ec": "black", "lw": 0.7},
    "best in hindsight": {
        "marker": "o",
        "s": 110,
        "fc": "none",
        "ec": "black",
        "lw": 1.2,
        "linestyle": "--",
    },
}
_STATES: Mapping[str, tuple[str, str]] = {
    "complete": (_BLUE, ""),
    "pruned": (_ORANGE, "////"),
    "failed": (_RED, "xxxx"),
    "running": (_SKY, "...."),
}


# ---------------------------------------------------------------------------- search


def draw_history(findings: Findings) -> Figure:
    """Draw every candidate's score in order, and the best so far; a panel per study."""
    figure, panels = _panels(list(findings.studies)[:MOST_PANELS], 2.9)
    reference = source_only_scores(findings)
    for study, axes in panels.items():
        table = findings.candidates[findings.candidates["study"] == study]
        scores = findings.scores[findings.scores["study"] == study]
        heights = _draw_states(axes, table, scores)
        best = best_so_far(table)
        axes.step(best.index, best, where="post", color="black", label="best so far")
        default = table.loc[table["default"].astype(bool), "value"].dropna()
        if len(default):
            axes.axhline(default.iloc[0], color=_PINK, ls="--", label="defaults")
        if pd.notna(reference.get(study)):
            axes.axhline(reference[study], color="0.45", ls=":", label="source only")
        _mark_chosen(axes, findings, study, table.set_index("candidate")["value"])
        chosen = heights.index.isin(_numbers_chosen(findings, study))
        kept = [*heights[chosen], *default[:1], reference.get(study, math.nan)]
        without_outliers(axes, "y", heights, kept)
        _whole_numbers(axes)
    _label_panels(figure, panels, "candidate", _score_words(findings))
    _legend(figure)
    return figure


def _draw_states(
    axes: Axes, table: pd.DataFrame, scores: pd.DataFrame
) -> pd.Series[float]:
    """Draw complete candidates at their score, the others at what is known of them.

    Returns the scores, NaN where nothing is known.
    """
    values = table["value"].astype(float).set_axis(table["candidate"])
    values = values.fillna(projected(table, scores).reindex(values.index))
    for state in ("complete", "pruned", "failed", "running"):
        numbers = table.loc[table["state"] == state, "candidate"]
        if not len(numbers):
            continue
        known = values.loc[numbers].dropna()
        _mark(axes, known.index, known, state)
        unknown = numbers[~numbers.isin(known.index)]
        # Without any score there is no height to draw at: along the lower edge.
        heights = np.full(len(unknown), 0.02)
        transform = axes.get_xaxis_transform()
        _mark(axes, unknown, heights, state, transform=transform, clip_on=False)
    return values


def draw_pareto(findings: Findings, second: str) -> Figure:
    """Draw complete candidates by two objectives, and those that none beats.

    Parameters
    ----------
    findings : Findings
    second : str
        The other objective's name.
    """
    figure, panels = _panels(list(findings.studies)[:MOST_PANELS], 3.2)
    reached = objectives(findings)
    table = findings.candidates
    defaults = table.loc[table["default"].astype(bool), "candidate"]
    for study, axes in panels.items():
        table = reached[reached["study"] == study].set_index("candidate")
        front = table[table["front"]].sort_values(second)
        rest = table.drop(front.index)
        _mark(axes, rest[second], rest["value"], "complete")
        if reached.shape[1] == 5:  # with a third objective it is no line
            # Up to the next one, a candidate of the front is the best there is.
            style = "post" if lower_is_better(findings, second) else "pre"
            axes.plot(
                front[second],
                front["value"],
                "k-",
                drawstyle=f"steps-{style}",
                lw=0.8,
                zorder=2,
            )
        axes.scatter(
            front[second],
            front["value"],
            s=38,
            fc=_ORANGE,
            ec="black",
            lw=0.7,
            zorder=3.3,
            label="Pareto front",
        )
        default = table[table.index.isin(defaults)]
        _mark(axes, default[second], default["value"], "defaults")
        _mark_chosen(axes, findings, study, table["value"], table[second])
        if len(panels) == 1:
            for number, row in front.iterrows():
                place = (row[second], row["value"])
                axes.annotate(
                    str(number), place, (5, 4), textcoords="offset points", fontsize=7
                )
        kept = table[table.index.isin([*defaults, *_numbers_chosen(findings, study)])]
        without_outliers(axes, "x", table[second], kept[second])
        without_outliers(axes, "y", table["value"], kept["value"])
        _grid(axes, "both")
    _label_panels(figure, panels, second, _score_words(findings))
    _legend(figure)
    return figure


def draw_importances(found: Importances) -> Figure:
    """Draw each option's share as a bar; of several studies, their mean and each."""
    figure = _figure(0.75 + 0.26 * len(found.shares))
    axes = figure.subplots()
    rows = np.arange(len(found.shares))
    axes.barh(rows, 100 * found.mean, height=0.68, color=_BLUE, alpha=0.85)
    several = found.shares.shape[1] > 1
    for row, shares in zip(rows, found.shares.to_numpy(), strict=True):
        if several:
            axes.scatter(100 * shares, row + _spread(len(shares)), s=9, color="black")
        else:
            axes.annotate(
                f"{100 * shares[0]:.0f} %",
                (100 * float(shares[0]), float(row)),
                (4, 0),
                textcoords="offset points",
                va="center",
                fontsize=7.5,
            )
    axes.set_yticks(rows, found.shares.index)
    axes.invert_yaxis()
    axes.set_xlabel(
        "share of what the options explain (%)"
        + ("; bar: mean over folds, dot: a fold's study" if several else "")
    )
    axes.set_xlim(0, min(1.1 * 100 * float(found.shares.to_numpy().max()) + 3, 105))
    axes.tick_params(axis="y", length=0)
    return figure


def draw_slices(findings: Findings, options: Sequence[Option]) -> Figure:
    """Draw the score of complete candidates along each option."""
    columns = min(len(options), 3)
    rows = -(-len(options) // columns)
    figure = _figure(2.05 * rows + 0.5)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    values, table = comparable(findings), complete(findings)
    for axes, option in zip(grid.flat, options, strict=False):
        _draw_slice(axes, option, values, table, findings)
    kept = values[_is_chosen(table, findings) | table["default"].astype(bool)]
    without_outliers(grid[0, 0], "y", values, kept)  # the others share its axis
    for axes in grid.flat[len(options) :]:
        axes.set_visible(False)
    figure.supylabel(_comparable_words(findings), fontsize=8)
    _legend(figure)
    return figure


def _draw_slice(
    axes: Axes,
    option: Option,
    values: pd.Series[float],
    table: pd.DataFrame,
    findings: Findings,
) -> None:
    places = pd.Series(option.place(table[option.name]), table.index)
    drawn = places.notna()
    usual = drawn & ~outlying(values)  # one that went astray bends no mean
    if option.numeric and usual.sum() >= FEW:
        at = np.linspace(0, 1, 101)
        line = smooth(
            places[usual].to_numpy()[:, None], values[usual].to_numpy(), at[:, None]
        )
        axes.plot(at, line, color="0.55", lw=2, zorder=1, label="mean nearby")
    elif not option.numeric:
        for place, theirs in values[drawn].groupby(places[drawn]):
            reach = 0.3 / max(len(option.choices) - 1, 1)
            ends = [float(place) - reach, float(place) + reach]
            mean = theirs[usual.loc[theirs.index]].mean()
            axes.plot(ends, [mean] * 2, color="0.55", lw=2, zorder=1)
            # Side by side in their order, for many have the same choice.
            places[theirs.index] = float(place) + 1.6 * reach * _spread(len(theirs))
    _mark(axes, places[drawn], values[drawn], "complete", alpha=0.8)
    default = drawn & table["default"].astype(bool)
    _mark(axes, places[default], values[default], "defaults")
    chosen = drawn & _is_chosen(table, findings)
    _mark(axes, places[chosen], values[chosen], "chosen")
    axes.set_title(option.name, fontsize=8)
    _ticks(axes.xaxis, option)
    side = 0.05 if option.numeric else 0.45 / max(len(option.choices) - 1, 1)
    axes.set_xlim(-side, 1 + side)
    _grid(axes, "y")


def draw_contour(findings: Findings, first: Option, second: Option) -> Figure:
    """Draw the mean score of nearby candidates over two numeric options."""
    figure = _figure(3.9)
    axes = figure.subplots()
    values, table = comparable(findings), complete(findings)
    places = np.stack([each.place(table[each.name]) for each in (first, second)], 1)
    drawn = np.flatnonzero(~np.isnan(places).any(1))
    values, table, places = values.iloc[drawn], table.iloc[drawn], places[drawn]
    side = np.linspace(0, 1, 61)
    at = np.stack(np.meshgrid(side, side), -1)
    usual = ~outlying(values)
    surface = smooth(
        places[usual], values.to_numpy()[usual], at.reshape(-1, 2), width=0.15
    )
    colours, (low, high) = _shades(), _limits(values)
    axes.contourf(
        side,
        side,
        np.ma.masked_invalid(surface.reshape(at.shape[:2])),
        levels=np.linspace(low, high, 13),
        cmap=colours,
        extend="both",
    )
    points = axes.scatter(
        places[:, 0],
        places[:, 1],
        c=values,
        s=34,
        cmap=colours,
        vmin=low,
        vmax=high,
        ec="black",
        lw=0.7,
        zorder=3,
        label="complete",
    )
    for rows, kind in (
        (places[table["default"].astype(bool)], "defaults"),
        (places[_is_chosen(table, findings)], "chosen"),
    ):
        _mark(axes, rows[:, 0], rows[:, 1], kind)
    _ticks(axes.xaxis, first)
    _ticks(axes.yaxis, second)
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel(first.name)
    axes.set_ylabel(second.name)
    figure.colorbar(points, ax=axes, label=_comparable_words(findings), pad=0.02)
    _legend(figure)
    return figure


def draw_parallel(findings: Findings, options: Sequence[Option]) -> Figure:
    """Draw each complete candidate as a line through its options to its score."""
    figure = _figure(3.6)
    axes = figure.subplots()
    values, table = comparable(findings), complete(findings)
    low, high = _limits(values)
    places = [option.place(table[option.name]) for option in options]
    scores = np.clip((values.to_numpy() - low) / (high - low), 0, 1)
    heights = np.stack([*places, scores], 1)
    across = np.arange(heights.shape[1])
    colours = _shades()
    chosen = _is_chosen(table, findings).to_numpy()
    default = table["default"].astype(bool).to_numpy()
    for row in np.argsort(heights[:, -1], kind="stable"):  # the best on top
        axes.plot(across, heights[row], color=colours(heights[row, -1]), lw=1, zorder=2)
    for rows, colour, style, width, words in (
        (default, _PINK, "--", 1.8, "defaults"),
        (chosen, "black", "-", 2.2 if chosen.sum() == 1 else 1.3, "chosen"),
    ):
        if rows.any():
            lines = axes.plot(
                across, heights[rows].T, color=colour, ls=style, lw=width, zorder=3
            )
            lines[0].set_label(words)
    scored = Option("score", low, high, log=False)
    for place, option in enumerate([*options, scored]):
        axes.axvline(place, color="0.3", lw=0.8, zorder=1)
        for tick, words in _tick_places(option, 4):
            axes.plot([place - 0.03, place], [tick, tick], color="0.3", lw=0.7)
            axes.annotate(
                words,
                (place, tick),
                (-5, 0),
                textcoords="offset points",
                ha="right",
                va="center",
                fontsize=7,
                bbox={"fc": "white", "ec": "none", "alpha": 0.75, "pad": 0.4},
                zorder=4,
            )
    names = [option.name.replace(".", ".\n").replace("_", "_\n") for option in options]
    axes.set_xticks(across, [*names, "score"], fontsize=7)
    axes.set_xlim(-0.45, len(across) - 0.8)
    axes.set_ylim(-0.04, 1.04)
    axes.set_yticks([])
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    _legend(figure)
    return figure


def draw_folds(findings: Findings) -> Figure:
    """Draw each candidate's score in each fold, less the fold's median candidate."""
    wide = _fold_scores(findings)
    gaps = wide - _fold_medians(findings).reindex(wide.columns)
    rows, columns = gaps.shape
    figure = _figure(float(np.clip(0.155 * rows, 0.9, 9.0)) + 1.15)
    axes = figure.subplots()
    usual = gaps.to_numpy()[~outlying(gaps)]
    reach = float(np.nanquantile(np.abs(usual), 0.98)) or 1.0
    axes.set_facecolor("0.88")  # what was never trained
    image = axes.pcolormesh(
        np.ma.masked_invalid(gaps.to_numpy()),
        cmap=DIVERGING,
        vmin=-reach,
        vmax=reach,
        edgecolors="white",
        linewidth=0.5 if rows * columns <= 1500 else 0,
    )
    _box_chosen(axes, gaps, findings)
    axes.set_xticks(np.arange(columns) + 0.5, [str(fold) for fold in gaps.columns])
    if columns * max(len(str(fold)) for fold in gaps.columns) > 70:
        axes.tick_params(axis="x", labelrotation=90)
    every = max(-(-rows // 55), 1)
    names = [_row_name(number, findings) for number in gaps.index]
    axes.set_yticks(np.arange(0, rows, every) + 0.5, names[::every], fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("fold")
    axes.set_ylabel("candidate")
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    figure.colorbar(
        image,
        ax=axes,
        label="score less\nthe fold's median",
        pad=0.02,
        extend="both",
        shrink=min(1.0, 2.2 / (0.155 * rows + 0.5)) if rows > 14 else 1.0,
    )
    return figure


def _fold_scores(findings: Findings) -> pd.DataFrame:
    """Return scores, a row per candidate and a column per fold.

    The best candidate comes first, those that were not completed and source only last.
    Of several studies, one a fold, rows stay in their order: a number is then another
    configuration in each.
    """
    wide = findings.scores.pivot_table(
        "score", index="candidate", columns="fold", sort=False
    )
    wide = wide[list(dict.fromkeys(findings.scores["fold"]))].sort_index()
    if len(findings.studies) == 1:
        values = complete(findings).set_index("candidate")["value"]
        order = values.reindex(wide.index).sort_values(
            ascending=False, kind="stable", na_position="last"
        )
        wide = wide.loc[order.index]
    last = [number for number in wide.index if number == SOURCE_ONLY_CANDIDATE]
    return pd.concat([wide.drop(index=last), wide.loc[last]])


def _fold_medians(findings: Findings) -> pd.Series[float]:
    """Return each fold's median over complete candidates; over all where none is.

    Candidates that were pruned stand in some folds only, which would look harder.
    """
    scores = findings.scores[findings.scores["candidate"] != SOURCE_ONLY_CANDIDATE]
    keys = pd.MultiIndex.from_frame(scores[["study", "candidate"]])
    done = complete(findings).set_index(["study", "candidate"]).index
    by_candidate = ["fold", "candidate"]
    medians, others = (
        part.groupby(by_candidate)["score"].mean().groupby("fold").median()
        for part in (scores[keys.isin(done)], scores)
    )
    return medians.reindex(others.index).fillna(others)


def _row_name(number: int, findings: Findings) -> str:
    if number == SOURCE_ONLY_CANDIDATE:
        return "source only"
    table = findings.candidates
    default = table.loc[table["default"].astype(bool), "candidate"]
    if len(default) and (default == number).all():
        return f"defaults  {number}"
    return str(number)


def _box_chosen(axes: Axes, table: pd.DataFrame, findings: Findings) -> None:
    """Frame what was chosen: a row, or of several studies a cell in each column."""
    from matplotlib.patches import Rectangle

    for choice in findings.choices:
        if choice.candidate not in table.index:
            continue
        row = list(table.index).index(choice.candidate)
        column, width = 0, table.shape[1]
        if choice.fold is not None and choice.fold in table:
            column, width = list(table.columns).index(choice.fold), 1
        frame = Rectangle((column, row), width, 1, fill=False, ec="black", lw=1.6)
        frame.set_clip_on(False)
        axes.add_patch(frame)


# -------------------------------------------------------------------- after the search


def draw_agreement(found: Agreement, by: str = "validator's score") -> Figure:
    """Draw candidates by what they were chosen by and by true accuracy."""
    figure = _figure(3.4)
    axes = figure.subplots()
    table = found.table
    several = table["study"].nunique() > 1
    columns = ["value", "true_accuracy"]
    if several:
        medians = found.candidates.groupby("study")[columns].median()
        table = table.assign(
            **table[columns] - medians.loc[table["study"]].set_axis(table.index)
        )
    reference = table["candidate"] == SOURCE_ONLY_CANDIDATE
    best = table.loc[found.best.index]
    for rows, kind in (
        (table[~reference], "complete"),
        (table[reference], "source only"),
        (table[table["default"]], "defaults"),
        (best, "best in hindsight"),
        (table[table["chosen"]], "chosen"),
    ):
        _mark(axes, rows["value"], rows["true_accuracy"], kind)
    kept = table[table["chosen"] | table["default"] | reference]
    without_outliers(axes, "x", table["value"], kept["value"])
    kept = pd.concat([kept, best])
    without_outliers(axes, "y", table["true_accuracy"], kept["true_accuracy"])
    less = ", less the fold's median" if several else ""
    axes.set_xlabel(f"{by}{less}")
    axes.set_ylabel(f"balanced accuracy on the targets,\nafter the fact{less}")
    _grid(axes, "both")
    _legend(figure)
    return figure


def draw_cost(findings: Findings) -> Figure:
    """Draw what each candidate took, in the order of their beginning."""
    timed = findings.candidates[findings.candidates["seconds"].notna()]
    timed = timed.sort_values(["began", "study", "candidate"], na_position="last")
    took = timed["seconds"].astype(float)
    unit, words = _time_unit(float(took[~outlying(took)].max()))
    seconds = took.to_numpy() / unit
    figure = _figure(2.4)
    axes = figure.subplots()
    several = timed["study"].nunique() > 1
    places = np.arange(len(timed)) if several else timed["candidate"].to_numpy()
    states = timed["state"].to_numpy()
    for state, (colour, hatch) in _STATES.items():
        here = states == state
        if here.any():
            axes.bar(
                places[here],
                seconds[here],
                width=0.8,
                color=colour,
                hatch=hatch,
                ec="white",
                lw=0.4 if len(timed) <= 150 else 0,
                label=state,
            )
    if (states == "complete").any():
        middle = float(np.median(seconds[states == "complete"]))
        axes.axhline(middle, color="black", ls="--", lw=1, label="median, complete")
    axes.set_xlabel("candidates in the order they began" if several else "candidate")
    axes.set_xlim(-0.7, max(places.max(), 9) + 0.7)
    axes.set_ylabel(words)
    _whole_numbers(axes)
    if outlying(seconds).any():
        without_outliers(axes, "y", seconds)
        axes.set_ylim(bottom=0)
    _legend(figure)
    return figure


def draw_final(results: Results) -> Figure:
    """Draw each method's balanced accuracy: every subject, the mean, its interval."""
    subjects, summary = results.per_subject(), results.summary()
    figure = _figure(0.36 * len(summary) + 0.75)
    axes = figure.subplots()
    for row, method in enumerate(summary.index):
        values = subjects[method].dropna().sort_values().to_numpy()
        axes.scatter(
            values, row + 0.5 * _spread(len(values)), s=11, fc="none", ec=_BLUE, lw=0.7
        )
        mean, low, high = summary.loc[method, ["mean", "low", "high"]]
        if not np.isnan(low):
            axes.plot([low, high], [row, row], color="black", lw=2, zorder=3)
        axes.scatter(mean, row, s=36, marker="D", color="black", zorder=3)
    axes.set_yticks(range(len(summary)), [textwrap.fill(m, 28) for m in summary.index])
    axes.set_ylim(len(summary) - 0.5, -0.5)
    axes.set_xlabel(
        "balanced accuracy; circle: a subject; diamond, line: mean and 95 % interval"
    )
    _grid(axes, "x")
    return figure


# ---------------------------------------------------------------------------- drawing


def _figure(height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH, height), layout="constrained")


def _panels(studies: Sequence[str], height: float) -> tuple[Figure, dict[str, Axes]]:
    """Return a panel per study: one across the page, or small ones side by side."""
    if len(studies) == 1:
        figure = _figure(height)
        return figure, {studies[0]: figure.subplots()}
    columns = min(len(studies), 4)
    rows = -(-len(studies) // columns)
    figure = _figure(1.55 * rows + 0.7)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True)
    for axes in grid.flat[len(studies) :]:
        axes.set_visible(False)
    # A column's lowest panel has the ticks, also where the last row is not full.
    for axes in grid[-2, len(studies) - columns * rows :] if rows > 1 else ():
        if len(studies) % columns:
            axes.xaxis.set_tick_params(labelbottom=True)
    return figure, dict(zip(studies, grid.flat, strict=False))


def _label_panels(
    figure: Figure, panels: Mapping[str, Axes], across: str, up: str
) -> None:
    if len(panels) == 1:
        (axes,) = panels.values()
        axes.set_xlabel(across)
        axes.set_ylabel(up)
        return
    for study, axes in panels.items():
        axes.set_title(study, fontsize=8)
        axes.tick_params(labelsize=7)
    figure.supxlabel(across, fontsize=8)
    figure.supylabel(up, fontsize=8)


def _mark(axes: Axes, x: Any, y: Any, kind: str, **more: Any) -> None:
    """Draw candidates of one kind, in that kind's mark."""
    if not len(x):
        return
    look = {**_MARKS[kind], **more}
    if len(x) > 8 and look["s"] > 30:  # one of each fold's study: they would overlap
        look["s"] *= 0.45
    order = list(_MARKS).index(kind) / 10 + 3
    axes.scatter(x, y, label=kind, zorder=order, **look)


def _mark_chosen(
    axes: Axes,
    findings: Findings,
    study: str,
    values: pd.Series[float],
    across: pd.Series[float] | None = None,
) -> None:
    """Mark what a study chose, where that is one of its candidates."""
    for choice in findings.choices:
        if (choice.fold or "") == study and choice.candidate in values.index:
            number = choice.candidate
            x = number if across is None else across[number]
            _mark(axes, [x], [values[number]], "chosen")


def _numbers_chosen(findings: Findings, study: str) -> list[int]:
    """Return the candidates that a study chose."""
    return [
        choice.candidate for choice in findings.choices if (choice.fold or "") == study
    ]


def _is_chosen(table: pd.DataFrame, findings: Findings) -> pd.Series[bool]:
    chosen = {(choice.fold or "", choice.candidate) for choice in findings.choices}
    keys = zip(table["study"], table["candidate"], strict=True)
    return pd.Series([key in chosen for key in keys], table.index, dtype=bool)


def _legend(figure: Figure) -> None:
    """Put one legend above all panels, every mark once."""
    found: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, words in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(words, handle)
    if found:
        figure.legend(
            found.values(),
            found.keys(),
            loc="outside upper left",
            ncols=min(len(found), 7),
            columnspacing=1.2,
            handletextpad=0.5,
            handlelength=1.7,
        )


def _shades() -> Colormap:
    """Return the sequential map without its palest colours, which white swallows."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    return ListedColormap(colormaps[SEQUENTIAL](np.linspace(0.22, 1, 256)))


def _limits(values: pd.Series[float]) -> tuple[float, float]:
    """Return the ends of a scale, which no outlier sets."""
    inside = values[~outlying(values)]
    low, high = float(inside.min()), float(inside.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _spread(count: int) -> Array:
    """Return offsets from -0.3 to 0.3 that keep equal values apart."""
    # Steps of the golden section leave no two neighbours close to each other.
    return 0.6 * ((np.arange(1, count + 1) * 0.618034) % 1 - 0.5)


def _ticks(axis: Any, option: Option) -> None:
    places, words = zip(*_tick_places(option, 5), strict=True)
    if sum(len(text) for text in words) > 26:
        words = tuple(textwrap.fill(text, 10) for text in words)
    axis.set_ticks(places, words, fontsize=7)


def _tick_places(option: Option, most: int) -> list[tuple[float, str]]:
    """Return places along an option's range and what stands there, in words."""
    from matplotlib.ticker import LogLocator, MaxNLocator

    if not option.numeric:
        last = max(len(option.choices) - 1, 1)
        return [(k / last, str(choice)) for k, choice in enumerate(option.choices)]
    if option.log and option.high / option.low >= 50:
        ticks = LogLocator(numticks=most).tick_values(option.low, option.high)
    else:
        ticks = MaxNLocator(most - 1).tick_values(option.low, option.high)
    edge = 1e-9 * (option.high - option.low)
    inside = [t for t in ticks if option.low - edge <= t <= option.high + edge]
    shown = inside if len(inside) > 1 else [option.low, option.high]
    return [
        (float(option.place(pd.Series([tick]))[0]), f"{tick:.3g}") for tick in shown
    ]


def _whole_numbers(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
    _grid(axes, "y")


def _grid(axes: Axes, axis: Literal["both", "x", "y"]) -> None:
    """Draw a grid at as many ticks whatever the size: a page is laid out only once."""
    axes.locator_params(axis=axis, nbins=6)
    axes.grid(axis=axis)


def _time_unit(seconds: float) -> tuple[float, str]:
    if seconds >= 2 * 3600:
        return 3600.0, "hours"
    return (60.0, "minutes") if seconds >= 120 else (1.0, "seconds")


def _score_words(findings: Findings) -> str:
    name = findings.description.get("validator", "validator")
    return f"validator's score\n({name})"


def _comparable_words(findings: Findings) -> str:
    if len(findings.studies) < 2:
        return _score_words(findings)
    return "validator's score,\nless the fold's median"
