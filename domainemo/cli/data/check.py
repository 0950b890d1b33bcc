"""``domainemo data check``: whether what lies on the disk is sound."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import typer

from ...errors import DataError
from ..options import Plugin
from ..stopping import interruptible
from ..terminal import echo_json
from .shared import (
    Jobs,
    Json,
    Name,
    Root,
    Sets,
    open_dataset,
    print_lines,
    progress,
    workers,
)

if TYPE_CHECKING:
    from ...core import Dataset
    from ...data.inspection.check import Check

__all__ = ["check"]

_FIRST = 4
"""How many recordings are named where there are more."""

_MOST_LINES = 8
"""Missing files are a line each up to so many."""


def check(
    dataset: Name,
    data_root: Root = None,
    set_: Sets = None,
    plugin: Plugin = None,
    jobs: Jobs = "auto",
    json: Json = False,
) -> None:
    """Read everything and report all that does not fit.

    Ends with 0 where everything that is there can be read, else with 3. Warnings are
    about what loads and looks wrong.
    """
    with interruptible("Nothing was written; the same command starts again."):
        count = workers(jobs)
        opened = open_dataset(dataset, data_root, set_, plugin)
        from ...data.inspection.check import check as inspect

        with progress() as tell:
            found = inspect(opened, jobs=count, on_read=tell)
        if json:
            echo_json(found.record())
        else:
            print_lines(list(_lines(found, opened)))
    if not found.usable:
        raise typer.Exit(DataError.exit_code)


def _lines(found: Check, dataset: Dataset) -> Iterator[str]:
    """Yield the report's paragraphs; the verdict comes last."""
    yield found.title
    yield from _contents(found, dataset)
    many = len(found.absent) > _MOST_LINES
    absent = ["; ".join(found.absent)] if many else found.absent
    yield from _section("Not there", absent, len(found.absent))
    yield from _section(
        "Corrected",
        [
            f"{each.note}: {_count(each.trials, 'trial')} in "
            f"{_count(len(each.recordings), 'recording')} "
            f"({_first(each.recordings)})"
            for each in found.corrections
        ],
    )
    yield from _section(
        "Warnings",
        [
            f"{each.text} ({_first(each.places)})" if each.places else each.text
            for each in found.warnings
        ],
    )
    yield from _section(
        "Problems",
        [
            f"{each.recording}: {each.message}" if each.recording else each.message
            for each in found.problems
        ],
    )
    yield ""
    yield found.verdict


def _contents(found: Check, dataset: Dataset) -> Iterator[str]:
    """Say which files there are and what was read of them."""
    if found.release:
        yield f"Release: {found.release}"
    if found.files:
        yield (
            f"Files: {found.files} ({_size(found.size)}), "
            f"{_count(found.recordings, 'recording')}"
        )
    elif found.trials:
        root = getattr(dataset, "root", None)
        made_up = "none; the recordings are made up"
        yield f"Files: {made_up if root is None else f'{root}, read as a whole'}"
    if found.trials:
        yield (
            f"Read: {_count(found.subjects, 'subject')}, "
            f"{_count(found.trials, 'trial')}, {_count(found.windows, 'window')}"
        )
        shares = (f"{name} {share:.1%}" for name, share in found.missing.items())
        yield f"Missing values: {', '.join(shares)}"


def _section(heading: str, items: Sequence[str], number: int = 0) -> list[str]:
    if not items:
        return []
    return ["", f"{heading} ({number or len(items)})", *(f"- {item}" for item in items)]


def _first(names: Sequence[str]) -> str:
    """Join the first names, and say how many more there are."""
    text = "; ".join(names[:_FIRST])
    more = len(names) - _FIRST
    return f"{text}; and {more} more" if more > 0 else text


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _size(size: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
