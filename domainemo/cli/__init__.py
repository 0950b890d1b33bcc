"""The command line: one command a file."""

from __future__ import annotations

import os
import sys
import warnings
from typing import TextIO

import typer

from ..errors import DomainemoError, DomainemoWarning, printable
from .adapt import adapt
from .data import app as data
from .interpret import interpret
from .listing import list_parts
from .plugins import COMMAND
from .predict import predict
from .pretrain import pretrain
from .report import report
from .terminal import echo
from .tune import tune

__all__ = ["app", "main"]

app = typer.Typer(
    name="domainemo",
    help="Cross-domain adaptation for multimodal emotion recognition.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("adapt")(adapt)
app.command("interpret")(interpret)
app.command("list")(list_parts)
app.command("predict")(predict)
app.command("pretrain")(pretrain)
app.command("tune")(tune)
app.command("report")(report)
app.add_typer(data, name="data")


@app.callback(invoke_without_command=True)
def _version(
    version: bool = typer.Option(False, "--version", help="Print the version."),
) -> None:
    if version:
        from .. import __version__

        echo(f"domainemo {__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command line; explain errors in a paragraph and an exit code.

    0 done, 1 some jobs failed, 2 configuration, 3 data, 4 interrupted and resumable.
    """
    try:
        with warnings.catch_warnings():
            _show_notes()
            app()
    except DomainemoError as error:
        _say(f"Error: {error}")
        sys.exit(error.exit_code)
    except OSError as error:
        _say(
            f"Error: {error.filename or 'a file'}: {error.strerror or error}. Check "
            f"that the path is right, that it may be written to, and that the disk is "
            f"not full."
        )
        sys.exit(2)
    except Exception as error:
        if os.environ.get("DOMAINEMO_TRACEBACK"):
            raise
        _say(
            f"Error: {type(error).__name__}: {error}. domainemo did not foresee this; "
            f"set DOMAINEMO_TRACEBACK=1 to see where it happened, and please report it."
        )
        sys.exit(1)


def _show_notes() -> None:
    """Show the warnings of this library as sentences, without a place in the code."""
    show = warnings.showwarning

    def note(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, DomainemoWarning):
            _say(f"Note: {message}")
        else:
            show(message, category, filename, lineno, file, line)

    warnings.showwarning = note


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
