"""``domainemo data check``: whether what lies on the disk is sound."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Self

import typer

from ...errors import ConfigurationError, DataError
from ...words import count, first_few
from ..completion import names_of
from ..options import Plugin, import_plugins, names
from ..stopping import interruptible
from ..terminal import echo_json
from .shared import (
    Jobs,
    Json,
    Name,
    Root,
    Sets,
    at_once,
    open_dataset,
    print_lines,
    progress,
)

if TYPE_CHECKING:
    from ...core import Dataset
    from ...data.inspection.check import Check
    from ...parts import Part
    from ...runs.leaks import Leak

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
    protocol: Annotated[
        str | None,
        typer.Option(
            help="Look for leaks in this protocol's folds as well; its options are "
            "--set protocol.NAME=VALUE.",
            autocompletion=names_of("protocol"),
        ),
    ] = None,
    waive: Annotated[
        str | None, typer.Option(help="Leaks to allow, by name; they are still told.")
    ] = None,
    jobs: Jobs = "auto",
    json: Json = False,
) -> None:
    """Read everything and report all that does not fit.

    Ends with 0 where everything that is there can be read and, with --protocol, no leak
    was found that is not waived; else with 3. Warnings are about what loads and looks
    wrong. Nothing is trained.
    """
    with interruptible("Nothing was written; the same command starts again."):
        together = at_once(jobs)
        waived = names(waive, "--waive") if waive else []
        chosen = _Protocol.of(protocol, set_, waived, plugin)
        others = [text for text in set_ or [] if not _of_protocol(text)]
        opened = open_dataset(dataset, data_root, others, plugin)
        from ...data.inspection.check import check as inspect

        with progress() as tell:
            found = inspect(opened, jobs=together, on_read=tell)
        if not json:
            print_lines(list(_lines(found, opened)))
        leaks = chosen.leaks(opened) if chosen and found.usable else []
        if json:
            told = {"leaks": [asdict(leak) for leak in leaks]} if chosen else {}
            echo_json(found.record() | told)
        elif chosen and found.usable:
            print_lines(list(_told(leaks, waived, chosen)))
    if not found.usable or any(leak.kind not in waived for leak in leaks):
        raise typer.Exit(DataError.exit_code)


@dataclass(frozen=True)
class _Protocol:
    """A protocol by whose folds recordings are looked at, before they are read."""

    part: Part

    @classmethod
    def of(
        cls,
        name: str | None,
        sets: Sequence[str] | None,
        waived: Sequence[str],
        plugins: Sequence[str] | None,
    ) -> Self | None:
        """Return the protocol that the command line names, if it does."""
        mine = [text for text in sets or [] if _of_protocol(text)]
        if name is None and not (mine or waived):
            return None
        from ...parts import part
        from ...runs.leaks import check_waived
        from ..configuration import parse_options

        check_waived(waived)
        if name is None:
            raise ConfigurationError(
                f"{'--set ' + mine[0] if mine else '--waive'} is about leaks, and no "
                f"protocol was named whose folds may have any; add --protocol, such as "
                f"--protocol cross-subject."
            )
        import_plugins(plugins)
        options = {
            key.removeprefix("protocol."): value
            for key, value in parse_options(mine, {"protocol": name}).items()
        }
        made = cls(part("protocol", name, options))
        made.part.build()
        return made

    def leaks(self, dataset: Dataset) -> list[Leak]:
        """Return the leaks in the folds, with those for which folds are refused."""
        from ...data.loading import load_inputs
        from ...runs.checks import ordered
        from ...runs.folds import folds_of
        from ...runs.leaks import find_leaks

        inputs = load_inputs(dataset)
        inputs = inputs.take(ordered(inputs))
        protocol = self.part.build()
        folds = folds_of(protocol, inputs)
        return find_leaks(protocol, inputs, folds)


def _of_protocol(text: str) -> bool:
    return text.startswith("protocol.")


def _told(
    leaks: Sequence[Leak], waived: Sequence[str], chosen: _Protocol
) -> Iterator[str]:
    """Yield the paragraphs on leaks."""
    yield from _section(
        "Leaks",
        [
            f"{leak.kind}{' (waived)' if leak.kind in waived else ''}: {leak.text}"
            for leak in leaks
        ],
    )
    yield ""
    found = count(len(leaks), "leak") if leaks else "no leak found"
    yield f"Under the protocol {chosen.part.name}: {found}."


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
            f"{each.note}: {count(each.trials, 'trial')} in "
            f"{count(len(each.recordings), 'recording')} "
            f"({first_few(each.recordings, _FIRST)})"
            for each in found.corrections
        ],
    )
    yield from _section(
        "Warnings",
        [
            f"{each.text} ({first_few(each.places, _FIRST)})"
            if each.places
            else each.text
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
            f"{count(found.recordings, 'recording')}"
        )
    elif found.trials:
        root = getattr(dataset, "root", None)
        made_up = "none; the recordings are made up"
        yield f"Files: {made_up if root is None else f'{root}, read as a whole'}"
    if found.trials:
        yield (
            f"Read: {count(found.subjects, 'subject')}, "
            f"{count(found.trials, 'trial')}, {count(found.windows, 'window')}"
        )
        shares = (f"{name} {share:.1%}" for name, share in found.missing.items())
        yield f"Missing values: {', '.join(shares)}"


def _section(heading: str, items: Sequence[str], number: int = 0) -> list[str]:
    if not items:
        return []
    return ["", f"{heading} ({number or len(items)})", *(f"- {item}" for item in items)]


def _size(size: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
