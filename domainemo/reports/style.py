"""How every figure of a report looks, and how it is drawn into files."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np

from .. import files
from ..data.inspection import figures as shared
from ..data.inspection.figures import COLOURS, check_figure_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Arguments = ParamSpec("Arguments")

__all__ = [
    "COLOURS",
    "DIVERGING",
    "HATCHES",
    "LINES",
    "MARKERS",
    "SEQUENTIAL",
    "STYLE",
    "WIDTH",
    "render",
    "save",
    "styled",
]

STYLE: Any = {
    **shared.STYLE,
    "axes.axisbelow": True,
    "axes.edgecolor": "0.3",
    "axes.linewidth": 0.7,
    "grid.color": "0.9",
    "grid.linewidth": 0.6,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "lines.markersize": 4,
    "xtick.labelsize": 7.5,
    "xtick.major.width": 0.7,
    "ytick.labelsize": 7.5,
    "ytick.major.width": 0.7,
}
"""Settings of matplotlib under which :func:`render` and :func:`save` draw."""

WIDTH = 7.2
"""Inches: the width of a page's text."""

# Told apart in grey print as well: the first goes with the first colour, and so on.
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (8, 3)))
HATCHES = ("", "////", "..", "\\\\\\\\", "xx", "--", "||", "++")  # dots are heavy files

SEQUENTIAL = "YlGnBu"
"""A colour map that gets ever darker, also in grey print and to the colour-blind."""

DIVERGING = "PuOr_r"
"""A colour map from one hue over white to another."""

_DENSE = 2000
"""Marks on one set of axes from which they are drawn as one image."""

# Of a vector file only dense marks and maps are images.
_RESOLUTION = {".svg": 150, ".pdf": 300, ".png": 200}


def styled(draw: Callable[Arguments, Figure]) -> Callable[Arguments, Figure]:
    """Draw under :data:`STYLE` for whoever calls for a figure from outside as well."""

    @wraps(draw)
    def drawn(*args: Arguments.args, **options: Arguments.kwargs) -> Figure:
        with shared.drawing(STYLE):
            return draw(*args, **options)

    return drawn


def render(draw: Callable[[], Figure], *endings: str) -> tuple[bytes, ...]:
    """Draw a figure once and return it in each format; always the same bytes.

    Dense marks become an image inside a vector file, which else would be megabytes.

    Parameters
    ----------
    draw : callable
        Returns a figure that is no part of pyplot.
    *endings : {".svg", ".pdf", ".png"}
    """
    files = []
    with shared.drawing(STYLE):
        figure = draw()
        shared.show_names(figure)
        for axes in figure.axes:
            _rasterise_dense(axes)
        for ending in endings:
            files.append(shared.in_format(figure, ending, dpi=_RESOLUTION[ending]))
    return tuple(files)


def save(draw: Callable[[], Figure], *paths: Path) -> None:
    """Draw a figure into files; the same figure gives the same bytes.

    Parameters
    ----------
    draw : callable
        Returns a figure that is no part of pyplot.
    *paths : Path
        Each ends in ``.svg``, ``.pdf`` or ``.png``.

    Raises
    ------
    ConfigurationError
        If a file exists, or its name ends in none of these.
    """
    for path in paths:
        check_figure_file(path)
    drawn = render(draw, *(path.suffix.lower() for path in paths))
    for path, content in zip(paths, drawn, strict=True):
        files.write(path, content)


def _rasterise_dense(axes: Axes) -> None:
    """Have dots and cells drawn as an image where there are many."""
    from matplotlib.collections import PathCollection, QuadMesh

    marks: list[tuple[Any, int]] = []
    for artist in axes.collections:
        if isinstance(artist, PathCollection):
            marks.append((artist, np.shape(artist.get_offsets())[0]))
        elif isinstance(artist, QuadMesh):
            values = artist.get_array()
            marks.append((artist, 0 if values is None else values.size))
    # A line without markers is one path, however many points it has.
    marks.extend(
        (line, np.size(line.get_xdata()))
        for line in axes.lines
        if line.get_marker() not in (None, "None", "", " ")
    )
    if sum(count for _, count in marks) < _DENSE:
        return
    for artist, count in marks:
        if count > 20:  # a mean or a threshold stays sharp
            artist.set_rasterized(True)
