"""The figure of a description: classes by subject, trial lengths, missing values."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ConfigurationError, DomainemoWarning, printable
from ...files import write
from .check import MUCH_MISSING
from .description import Description

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "COLOURS",
    "METADATA",
    "STYLE",
    "check_figure_file",
    "draw",
    "drawing",
    "in_format",
    "save",
    "show_names",
]

COLOURS = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#F0E442",
    "#000000",
)
"""Okabe and Ito's colours, which colour-blind people tell apart.

Source: Okabe M, Ito K (2008), Color universal design, https://jfly.uni-koeln.de/color/.
"""

# A second round of the colours is told apart by its pattern.
_PATTERNS = ("", "////", "....")

STYLE: Any = {
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "hatch.linewidth": 0.6,
    "pdf.fonttype": 42,  # letters stay letters
    "svg.fonttype": "none",
    "svg.hashsalt": "domainemo",  # else the same figure has other identifiers each time
}
"""Settings of matplotlib that all figures have."""

METADATA: dict[str, dict[str, None]] = {
    ".svg": {"Date": None},
    ".pdf": {"CreationDate": None},
    ".png": {"Software": None},
}
"""By a file's ending, what is left out: it would make files of one figure differ."""

_MORE_LETTERS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",  # as its collection of fonts is known to matplotlib
    "Noto Sans SC",
    "Source Han Sans SC",
    "Microsoft YaHei",
    "SimHei",
    "PingFang SC",
    "Hiragino Sans GB",
    "WenQuanYi Zen Hei",
    "Arial Unicode MS",
)
"""Fonts of which some have letters that matplotlib's own lacks, Chinese ones first."""

_WIDTH = 7.2
"""Inches: the width of a page's text."""


def check_figure_file(path: Path) -> None:
    """Refuse a file that cannot be drawn, before anything is read for it.

    Raises
    ------
    ConfigurationError
        If the file exists, or its name ends in none of the formats.
    """
    if path.suffix.lower() not in METADATA:
        raise ConfigurationError(
            f"{path}: found the ending {path.suffix!r}; expected one of "
            f"{', '.join(METADATA)}, which chooses the figure's format."
        )
    if path.exists():
        raise ConfigurationError(
            f"{path}: this file exists and was not overwritten; name another one."
        )


def save(description: Description, path: Path) -> None:
    """Draw a description into a file; the same description gives the same bytes.

    Parameters
    ----------
    description : Description
    path : Path
        Ends in ``.svg``, ``.pdf`` or ``.png``.

    Raises
    ------
    ConfigurationError
        If the file exists, or its name ends in none of these.
    """
    check_figure_file(path)
    with drawing(STYLE):
        figure = draw(description)
        show_names(figure)
        content = in_format(figure, path.suffix.lower(), dpi=200)
    write(path, content)


def in_format(figure: Figure, ending: str, *, dpi: float) -> bytes:
    """Return a figure as a file has it.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    ending : {".svg", ".pdf", ".png"}
    dpi : float

    Warns
    -----
    DomainemoWarning
        If no font that is installed has some letters. SVG keeps them as letters, for
        which whoever opens it has a font.
    """
    content = BytesIO()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        figure.savefig(content, format=ending[1:], dpi=dpi, metadata=METADATA[ending])
    boxes = [each for each in caught if "missing from font" in str(each.message)]
    if boxes and ending != ".svg":
        warnings.warn(
            f"No font here has all letters of the names, so that boxes stand for some "
            f"in figures that are {ending[1:].upper()}; SVG keeps the letters. Install "
            f"a font of theirs, such as Noto Sans CJK, and draw again.",
            DomainemoWarning,
            stacklevel=2,
        )
    for each in caught:
        if each not in boxes:
            warnings.warn_explicit(
                each.message, each.category, each.filename, each.lineno
            )
    return content.getvalue()


@contextmanager
def drawing(style: Mapping[str, Any]) -> Iterator[None]:
    """Draw under some settings; letters that a font lacks come from the next one."""
    import matplotlib
    from matplotlib import font_manager

    there = set(font_manager.get_font_names())
    more = [name for name in _MORE_LETTERS if name in there]
    settings: Any = dict(style)
    if more:
        settings["font.family"] = ["sans-serif", *more]
    with matplotlib.rc_context(settings):
        yield


def show_names(figure: Figure) -> None:
    """Have names show as they are: no formulas, and nothing that cannot be seen.

    To be called once, before a figure is drawn into files. Nothing here writes formulas
    of its own but the axes of logarithms, which make theirs as they are drawn.
    """
    from matplotlib.text import Text
    from matplotlib.ticker import FixedFormatter, FuncFormatter

    def shown(name: object) -> str:
        return printable(str(name), keep="\n").replace("$", r"\$")

    for text in figure.findobj(Text):
        text.set_text(shown(text.get_text()))
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            formatter = axis.get_major_formatter()
            if isinstance(formatter, FixedFormatter):
                formatter.seq = [shown(text) for text in formatter.seq]
            elif isinstance(formatter, FuncFormatter):
                name = formatter.func
                formatter.func = partial(_shown_at, name, shown)


def _shown_at(
    name: Callable[..., object], shown: Callable[[object], str], *place: Any
) -> str:
    return shown(name(*place))


def draw(description: Description) -> Figure:
    """Draw class balance by subject, trial lengths and, where there are any, gaps."""
    from matplotlib.figure import Figure

    gaps = any(modality.missing for modality in description.modalities)
    # Rows stay apart for any number of subjects; a page is the limit.
    above = float(np.clip(0.17 * len(description.subjects), 1.2, 20))
    below = max(0.3 * len(description.classes), 0.9)
    figure = Figure(figsize=(_WIDTH, above + below + 2.2), layout="constrained")
    grid = figure.add_gridspec(
        2,
        2,
        height_ratios=[above, below],
        width_ratios=[6, 1.2 + 0.7 * len(description.modalities)],
    )
    _draw_balance(figure.add_subplot(grid[0, 0] if gaps else grid[0, :]), description)
    if gaps:
        _draw_gaps(figure.add_subplot(grid[0, 1]), description)
    _draw_durations(figure.add_subplot(grid[1, :]), description)
    name = textwrap.fill(description.name, 145)
    figure.supxlabel(name, x=0.01, ha="left", fontsize=6.5, color="0.35")
    return figure


def _draw_balance(axes: Axes, description: Description) -> None:
    """Draw each subject's windows as a bar, a piece per class."""
    subjects = description.subjects
    counts = np.array([subject.classes for subject in subjects])
    ends = counts.cumsum(axis=1)
    for number, each in enumerate(description.classes):
        axes.barh(
            np.arange(len(subjects)),
            counts[:, number],
            left=ends[:, number] - counts[:, number],
            height=0.8,
            color=COLOURS[number % len(COLOURS)],
            hatch=_PATTERNS[number // len(COLOURS) % len(_PATTERNS)],
            edgecolor="white",
            linewidth=0.4,
            label=each.name,
        )
    axes.set_title("Windows of each class")
    axes.set_xlabel("windows")
    axes.set_xlim(0, ends[:, -1].max() * 1.01)
    _name_subjects(axes, description)
    axes.set_ylabel("subject")
    figure = axes.get_figure()
    assert figure is not None
    figure.legend(
        *axes.get_legend_handles_labels(),
        loc="outside upper left",
        ncols=min(len(description.classes), 5),
        frameon=False,
        handlelength=1.2,
        columnspacing=1.5,
    )


def _draw_gaps(axes: Axes, description: Description) -> None:
    """Draw the share of missing values, a row per subject, a column per modality."""
    shares = 100 * np.array([subject.missing for subject in description.subjects])
    top = max(float(shares.max()), 100 * MUCH_MISSING)  # a few per cent stay pale
    # Drawn as rectangles: an image would be blurred, or cut, by some viewers.
    axes.pcolormesh(
        shares, cmap="Blues", vmin=0, vmax=top, edgecolors="white", linewidth=0.6
    )
    axes.set_title("Missing values (%)")
    names = [modality.name for modality in description.modalities]
    axes.set_xticks(np.arange(len(names)) + 0.5, names)
    if len(names) > 3 or max(map(len, names)) > 6:
        axes.tick_params(axis="x", labelrotation=90)
    _name_subjects(axes, description, offset=0.5)
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    if len(shares) > 60:
        return
    for row, column in np.ndindex(*shares.shape):
        share = float(shares[row, column])
        axes.text(
            column + 0.5,
            row + 0.5,
            _percent(share),
            ha="center",
            va="center",
            fontsize=6.5,
            color="white" if share > 0.6 * top else "black",
        )


def _draw_durations(axes: Axes, description: Description) -> None:
    """Draw each length of trials as a dot as large as it is frequent, a row a class."""
    frequent = 1
    for seconds in filter(None, description.durations):
        frequent = max(frequent, int(_lengths(seconds)[1].max()))
    for row, seconds in enumerate(description.durations):
        if not seconds:
            continue
        lengths, trials = _lengths(seconds)
        colour = COLOURS[row % len(COLOURS)]
        area = 14 + 90 * (trials - 1) / frequent
        axes.scatter(
            lengths, np.full(len(lengths), row), area, colour, ec="0.25", lw=0.4
        )
        mean = float(np.mean(seconds))
        axes.plot([mean, mean], [row - 0.4, row + 0.4], color="black", linewidth=1.6)
    axes.set_title("Length of trials (larger dot: more trials; line: mean)")
    axes.set_xlabel("seconds")
    names = [each.name for each in description.classes]
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="x", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)


def _lengths(
    seconds: Sequence[float],
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the different lengths, to a tenth of a second, and how often each is."""
    lengths, counts = np.unique(np.round(seconds, 1), return_counts=True)
    return lengths, counts


def _name_subjects(axes: Axes, description: Description, offset: float = 0) -> None:
    """Put subjects on the upright axis, first on top; not more than fit."""
    names = [subject.subject for subject in description.subjects]
    every = -(-len(names) // 110)  # rounded up
    rows = np.arange(0, len(names), every)
    axes.set_yticks(rows + offset, names[::every])
    axes.set_ylim(len(names) - 0.5 + offset, -0.5 + offset)


def _percent(share: float) -> str:
    """Return a percentage that is never rounded to nothing, nor to everything."""
    if share == 0:
        return "0"
    if share < 1:
        return "<1"
    if 99 < share < 100:
        return ">99"
    return f"{share:.0f}"
