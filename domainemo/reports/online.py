"""The part of a run's report on time: how accuracy went from step to step."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pandas as pd

from ..runs.results import Results
from .page import Figure, Section, Table
from .style import COLOURS, MARKERS, WIDTH

if TYPE_CHECKING:
    import matplotlib.figure

__all__ = ["over_time_section"]


def over_time_section(results: Results) -> Section | None:
    """Return accuracy over minutes; None of a run that is not online."""
    table = results.over_time()
    if table is None:
        return None
    return Section(
        "Over time",
        [
            Figure(
                "online",
                partial(_draw, results, table),
                "Balanced accuracy of each step, by the minutes of recording since the "
                "session's start at which it begins: every prediction was made by what "
                "came before. Bands are 95 % intervals over subjects (none with fewer "
                "than five), the dashed line is chance. The first part of a session is "
                "seen and not tested.",
            ),
            Table(
                table.set_index("method"),
                "Each step, and in `prequential` all predictions up to it together.",
            ),
        ],
    )


def _draw(results: Results, table: pd.DataFrame) -> matplotlib.figure.Figure:
    from matplotlib.figure import Figure as Drawing

    figure = Drawing(figsize=(WIDTH, 3.2), layout="constrained")
    axes = figure.subplots()
    known = bool(table["minutes"].notna().all())
    across = "minutes" if known else "step"
    for number, method in enumerate(dict.fromkeys(table["method"])):
        rows = table[table["method"] == method]
        colour = COLOURS[number % len(COLOURS)]
        place, mean, low, high = (
            rows[name].to_numpy(dtype=float)
            for name in (across, "balanced_accuracy", "low", "high")
        )
        mark = MARKERS[number % len(MARKERS)]
        axes.plot(place, mean, marker=mark, color=colour, label=str(method))
        axes.fill_between(place, low, high, color=colour, alpha=0.15, lw=0)
    own = table[table["method"] == results.method]
    axes.plot(own[across], own["chance"], color="0.4", ls="--", lw=0.8)
    axes.set_xlabel("minutes since the start (dashed: chance)" if known else "step")
    axes.set_ylabel("balanced accuracy")
    axes.set_ylim(0, 1)
    axes.legend()
    return figure
