"""What the command line writes: the one place where text goes out.

Names come from files, so nothing is written as it is: see :func:`printable`.
"""

from __future__ import annotations

import json
from typing import Any

import typer

from ..errors import printable

__all__ = ["echo", "echo_json"]


def echo(text: str, *, err: bool = False, lines: bool = False) -> None:
    """Write a line.

    Parameters
    ----------
    text : str
    err : bool
        Whether to standard error.
    lines : bool
        Whether it is several lines; else a name in it cannot make it more than one.
    """
    typer.echo(printable(text, keep="\n" if lines else ""), err=err)


def echo_json(record: Any) -> None:
    """Write JSON, for scripts."""
    # Of what a terminal obeys, JSON leaves this alone.
    text = json.dumps(record, indent=2).replace("\x7f", "\\u007f")
    echo(text, lines=True)
