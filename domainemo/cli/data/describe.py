"""``domainemo data describe``: how much there is, of which classes, how long."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...choices import NetworkChoices, choices_of
from ..options import Plugin, Text, names
from ..stopping import interruptible
from ..terminal import echo, echo_json
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
    from ...data.inspection.description import ClassSummary, Description
    from ..console import Table

__all__ = ["describe"]

_HELP = choices_of(NetworkChoices)
_HERE = "as any command would that is given the same"

_MOST_SUBJECTS = 40
"""Subjects are listed one by one up to so many."""


def describe(
    dataset: Name,
    data_root: Root = None,
    set_: Sets = None,
    plugin: Plugin = None,
    figure: Annotated[
        Path | None,
        typer.Option(help="Draw it too, into an .svg, .pdf or .png file."),
    ] = None,
    channels: Annotated[Text, typer.Option(help=_HELP["channels"].help)] = None,
    exclude_channels: Annotated[
        Text, typer.Option(help=_HELP["exclude_channels"].help)
    ] = None,
    classes: Annotated[Text, typer.Option(help=_HELP["classes"].help)] = None,
    merge: Annotated[Text, typer.Option(help=_HELP["merge"].help)] = None,
    jobs: Jobs = "auto",
    json: Json = False,
) -> None:
    """Count subjects, trials, classes, gaps; draw them.

    Prints windows and trials of each class, how long trials last, what is missing by
    modality, and each subject where there are not more than 40.
    """
    with interruptible("The same command starts again."):
        from ...data.task import choose_classes, merges

        groups = merges(merge) if merge else []
        asked = channels, exclude_channels, classes
        options = "--channels", "--exclude-channels", "--classes"
        wanted, unwanted, kept = map(_names, asked, options)
        opened = open_dataset(dataset, data_root, set_, plugin)
        from ...data.channels import choose_channels
        from ...data.inspection.description import describe as describe_recordings
        from ...data.inspection.figures import check_figure_file, save
        from ...data.loading import load

        if figure is not None:
            check_figure_file(figure)
        count = at_once(jobs)
        with progress() as tell:
            loaded = load(opened, jobs=count, on_read=tell)
        loaded, task = choose_classes(loaded, kept, groups, whose=_HERE)
        inputs, sensors = choose_channels(loaded.inputs, wanted, unwanted or ())
        told = [text for text in (sensors, task) if text]
        if told:
            inputs = replace(inputs, name=f"{inputs.name}; {'; '.join(told)}")
        described = describe_recordings(replace(loaded, inputs=inputs))
        if json:
            echo_json(described.record())
        else:
            _show(described)
        if figure is not None:
            save(described, figure)
            echo(f"The figure is in {figure}.", err=json)


def _names(text: str | None, option: str) -> list[str] | None:
    return None if text is None else names(text, option)


def _show(described: Description) -> None:
    from ..console import Console

    print_lines([described.name, "", _counts(described), ""])
    console = Console(highlight=False)
    for table in _tables(described):
        console.print(table)
        console.print()
    print_lines(described.remarks)


def _counts(described: Description) -> str:
    people = len(described.subjects)
    step = "unknown" if described.step is None else f"{described.step:g} s"
    return (
        f"Subjects: {people:,}; sessions: {described.sessions:,}; trials: "
        f"{described.trials:,}; windows: {described.windows:,}; window step: {step}"
    )


def _tables(described: Description) -> list[Table]:
    """Return a table each of classes, modalities and, where not too many, subjects."""
    classes = _table(
        "class", "windows", "", "trials", "", "mean (s)", "min (s)", "max (s)"
    )
    for each in described.classes:
        classes.add_row(*_class_row(each, described))
    modalities = _table(
        "modality", "channels", "features", "windows lost", "values missing"
    )
    for sensor in described.modalities:
        modalities.add_row(
            sensor.name,
            str(sensor.channels),
            str(sensor.features),
            f"{sensor.lost:.1%}",
            f"{sensor.missing:.1%}",
        )
    if len(described.subjects) > _MOST_SUBJECTS:
        return [classes, modalities]
    subjects = _table(
        "subject",
        "sessions",
        "trials",
        "windows",
        *(each.name for each in described.classes),
        *(f"{sensor.name}\nmissing" for sensor in described.modalities),
    )
    for person in described.subjects:
        counts = (person.sessions, person.trials, person.windows, *person.classes)
        shares = (f"{share:.1%}" for share in person.missing)
        subjects.add_row(person.subject, *map(str, counts), *shares)
    return [classes, modalities, subjects]


def _class_row(each: ClassSummary, described: Description) -> list[str]:
    lengths = ["-", "-", "-"]
    if each.duration is not None:
        seconds = each.duration
        ends = (seconds.mean, seconds.shortest, seconds.longest)
        lengths = [f"{number:.1f}" for number in ends]
    return [
        each.name,
        str(each.windows),
        f"{each.windows / described.windows:.1%}",
        str(each.trials),
        f"{each.trials / described.trials:.1%}",
        *lengths,
    ]


def _table(first: str, *others: str) -> Table:
    from ..console import Table

    table = Table(collapse_padding=True)
    table.add_column(first, no_wrap=True)
    for heading in others:
        table.add_column(heading, justify="right", overflow="fold")
    return table
