"""What figures of an interpretation share: heat maps, their scale and the caption."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..review.interpretation import Interpretation
from ..runs.experiment import method_name
from ..words import count

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["heat_map", "write_caption", "write_scale"]


def heat_map(
    axes: Axes, table: pd.DataFrame, colours: str, limits: tuple[float, float]
) -> Any:
    """Draw a table as rectangles, the first row on top; return the image.

    Parameters
    ----------
    axes : Axes
    table : DataFrame
        Its index and columns name rows and columns.
    colours : str
        A colour map.
    limits : tuple of float
        The values at its ends.
    """
    image = axes.pcolormesh(
        table.to_numpy(),
        cmap=colours,
        vmin=limits[0],
        vmax=limits[1],
        edgecolors="white",
        linewidth=0.3 if max(table.shape) <= 40 else 0,
    )
    for axis, names in ((axes.xaxis, table.columns), (axes.yaxis, table.index)):
        every = -(-len(names) // 20)
        axis.set_ticks(np.arange(0, len(names), every) + 0.5, list(names[::every]))
    axes.invert_yaxis()
    axes.tick_params(length=0, labelsize=7)
    for side in axes.spines.values():
        side.set_visible(False)
    return image


def write_scale(
    row: Sequence[Axes], image: Any, words: str, least: float | None = None
) -> None:
    """Draw the scale of an image beside the axes that share it, in words.

    Parameters
    ----------
    row : sequence of Axes
    image : ScalarMappable
    words : str
    least : float, optional
        What no value goes below; the scale ends there.
    """
    figure = row[0].get_figure()
    assert figure is not None
    bar = figure.colorbar(image, ax=list(row), shrink=0.8, pad=0.01, aspect=18)
    bar.set_label("\n".join(textwrap.wrap(words, 26)), fontsize=7)
    bar.outline.set_visible(False)
    if least is not None:
        bar.ax.set_ylim(bottom=max(least, bar.ax.get_ylim()[0]))


def write_caption(figure: Figure, heading: str, interpretation: Interpretation) -> None:
    """Say below the figure what it was made from."""
    table = interpretation.regions
    facts = [
        f"{heading} of {interpretation.backbone}",
        f"adapter {', '.join(map(method_name, dict.fromkeys(table['adapter'])))}",
        f"{count(table['fold'].nunique(), 'fold')}, "
        f"{count(table['subject'].nunique(), 'test subject')}",
        "mean over subjects; classes as predicted, no label read",
        interpretation.name,
    ]
    text = textwrap.fill("; ".join(facts), 130)
    figure.supxlabel(text, x=0.01, ha="left", fontsize=6.5, color="0.35")
