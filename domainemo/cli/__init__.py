"""The command line: what surrounds a command; the commands are in their own files."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any

from ..errors import DomainemoError, printable, show_notes
from ..places import naming_parts, unforeseen
from .plugins import COMMAND
from .stopping import answered

__all__ = ["app", "main"]


def __getattr__(name: str) -> Any:
    """Import the commands when they are first used: Ctrl-C is answered before."""
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .commands import app

    return app


def main() -> None:
    """Run the command line; explain errors in a paragraph and an exit code.

    0 done, 1 some jobs failed, 2 configuration, 3 data, 4 interrupted and resumable;
    143 and 129 likewise, by SIGTERM and by a terminal that was closed. With
    ``DOMAINEMO_TRACEBACK`` set, how it came to an error stands before the paragraph.
    """
    try:
        with warnings.catch_warnings(), answered(), naming_parts():
            show_notes(_say)
            from .commands import app

            app()
    except DomainemoError as error:
        if os.environ.get("DOMAINEMO_TRACEBACK"):
            _show_traceback(error)
        _say(f"Error: {error}")
        sys.exit(error.exit_code)
    except OSError as error:
        _say(f"Error: {unforeseen(error)}")
        sys.exit(2)
    except Exception as error:
        if os.environ.get("DOMAINEMO_TRACEBACK"):
            raise
        _say(f"Error: {unforeseen(error)}")
        sys.exit(1)


def _show_traceback(error: DomainemoError) -> None:
    """Show where an error arose, that of other processes and of its causes included."""
    import traceback

    lines = "".join(traceback.format_exception(error))
    sys.stderr.write(printable(lines, keep="\n"))


def _say(text: str) -> None:
    """Write paragraphs, wrapped; a command keeps its line, for it is to be pasted."""
    import textwrap

    paragraphs = [
        line
        if line.startswith(COMMAND)
        else textwrap.fill(
            line,
            88,
            subsequent_indent="  " if line[:2] == "- " else "",
            break_long_words=False,
            break_on_hyphens=False,
        )
        for line in printable(text, keep="\n").split("\n")
    ]
    sys.stderr.write("\n".join(paragraphs) + "\n")
