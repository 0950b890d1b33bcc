"""Rich's console and tables, for names that come from files.

Neither markup nor the names of emoji mean anything here, and what a terminal would obey
is spelled out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console as RichConsole
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table as RichTable

from ..errors import printable

__all__ = ["Console", "Table"]


class Console(RichConsole):
    """Writes text as it may be shown.

    Parameters
    ----------
    stderr : bool
        Whether to standard error.
    highlight : bool
        Whether numbers are coloured.
    """

    def __init__(self, *, stderr: bool = False, highlight: bool = True) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=highlight)

    def say(self, text: str, **options: Any) -> None:
        """Write a sentence, which no name in it can end."""
        self.print(printable(text), highlight=False, **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Yield what is written; everything that rich draws comes through here."""
        for text, style, control in super().render(renderable, options):
            shown = text if control else printable(text, keep="\n")
            yield Segment(shown, style, control)


class Table(RichTable):
    """A table without lines, whose cells are one line each.

    Parameters
    ----------
    title : str, optional
    collapse_padding : bool
        Whether columns stand closer.
    """

    def __init__(
        self, title: str | None = None, *, collapse_padding: bool = False
    ) -> None:
        super().__init__(
            title=None if title is None else printable(title),
            box=None,
            pad_edge=False,
            collapse_padding=collapse_padding,
        )

    def add_row(self, *cells: RenderableType | None, **options: Any) -> None:
        """Add a row; a cell is text or what rich can draw."""
        shown = (printable(cell) if isinstance(cell, str) else cell for cell in cells)
        super().add_row(*shown, **options)
