"""``domainemo compare``: finished runs, or the methods of one, subject by subject."""

from __future__ import annotations

import math
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..words import count, signed
from .data.shared import Json
from .names import check_new_folder, check_run
from .stopping import interruptible
from .terminal import echo, echo_json

if TYPE_CHECKING:
    from ..review.comparison import Compared, OnDataset
    from ..statistics.effects import Effect
    from .console import Console

__all__ = ["compare"]

_FORMATS = (".svg", ".pdf")


def compare(
    runs: Annotated[
        list[Path], typer.Argument(help="Folders of finished `adapt`; one is enough.")
    ],
    metric: Annotated[
        str,
        typer.Option(
            help="What is compared: accuracy, balanced_accuracy, macro_f1, kappa, "
            "calibration_error, auroc, log_loss or selective_accuracy."
        ),
    ] = "balanced_accuracy",
    level: Annotated[
        str | None,
        typer.Option(
            help="window, sequence, trial or 'trial, majority'; else what the runs "
            "predict."
        ),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="Compare this method of each run; may be repeated. Else all of one "
            "run, and of several each one's own."
        ),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(help="What the others are compared with; else the first's own."),
    ] = None,
    rope: Annotated[
        float, typer.Option(help="Differences of up to this are practically none.")
    ] = 0.02,
    output: Annotated[
        Path | None, typer.Option(help="A new folder for tables and figures.")
    ] = None,
    json: Json = False,
) -> None:
    """Compare finished runs over the subjects they share.

    Each subject is averaged over seeds; differences are to the reference. Runs of
    other recordings, folds or protocols are refused; of several data sets, each is
    compared by itself, and then all together.
    """
    from ..files import doubted

    for run in runs:
        check_run(run)
    if output is not None:
        check_new_folder(output)
    from ..review.comparison import compare as compare_runs
    from ..review.conclusions import conclusions

    with interruptible(), ExitStack() as stack:
        for run in runs:
            stack.enter_context(doubted(run))
        found = compare_runs(
            *runs,
            metric=metric,
            level=level,
            methods=method,
            reference=reference,
            rope=rope,
        )
        if output is not None:
            _write(output, found)
    if json:
        echo_json({**found.record(), "conclusions": conclusions(found)})
    else:
        _show(found)
    if output is not None:
        echo(f"Tables and figures are in {output}.", err=json)


def _write(folder: Path, found: Compared) -> None:
    import pandas as pd

    from ..files import write
    from ..reports.comparison_figures import figures
    from ..reports.style import save
    from ..review.conclusions import conclusions

    subjects = pd.concat(
        {each.name: each.values for each in found.datasets}, names=["dataset"]
    )
    write(folder / "comparison.csv", found.table().to_csv(index=False))
    write(folder / "subjects.csv", subjects.to_csv())
    notes = [note for each in found.datasets for note in each.notes]
    write(folder / "conclusions.txt", "\n".join([*conclusions(found), *notes, ""]))
    for name, draw in figures(found).items():
        save(draw, *(folder / f"{name}{ending}" for ending in _FORMATS))


def _show(found: Compared) -> None:
    from ..review.conclusions import conclusions
    from .console import Console

    console = Console()
    for each in found.datasets:
        metric = found.metric.replace("_", " ")
        console.say(
            f"{each.name}: {metric} per {each.level}, "
            f"{count(len(each.values), 'subject')}"
        )
        _show_means(each, console)
        _show_differences(each, found.reference, console)
        _show_effects(each, found.rope, console)
        if each.dropped:
            console.say(f"Left out, without a score: {', '.join(each.dropped)}.")
        if each.ranks is not None and not math.isnan(each.ranks.p):
            tied = "; ".join(", ".join(group) for group in each.ranks.groups) or "none"
            console.say(
                f"Friedman's test: {each.ranks.statistic:.2f}, p = {each.ranks.p:.3g}. "
                f"Mean ranks further apart than "
                f"{each.ranks.critical_difference:.2f} differ (Nemenyi); not told "
                f"apart: {tied}."
            )
        for note in each.notes:
            console.say(f"Note: {note}")
        console.print()
    for line in conclusions(found):
        console.say(line)


def _show_means(each: OnDataset, console: Console) -> None:
    from ..statistics.intervals import bootstrap_interval

    headings = ["method", "mean", "95 % interval"]
    ranks = each.ranks
    rows = []
    for name in map(str, each.values):
        values = each.values[name].to_numpy(dtype=float)
        row = [name, f"{values.mean():.3f}", _interval(*bootstrap_interval(values))]
        rows.append(row + ([] if ranks is None else [f"{ranks.average[name]:.2f}"]))
    _print(console, headings + ([] if ranks is None else ["mean rank"]), rows)


def _show_differences(each: OnDataset, reference: str, console: Console) -> None:
    headings = [f"less {reference}", "difference", "95 % interval"]
    headings += ["Wilcoxon p", "permutation p", "Holm p"]
    rows = []
    for name, found in each.differences.items():
        ps = (found.p, found.permutation, each.corrected[name])
        shown = ["-" if math.isnan(p) else f"{p:.3g}" for p in ps]
        interval = _interval(found.low, found.high, "+")
        rows.append([name, signed(found.difference, 3), interval, *shown])
    _print(console, headings, rows)


def _show_effects(each: OnDataset, rope: float, console: Console) -> None:
    headings = ["effect", "d_z", "rank-biserial", "P(worse)"]
    headings += [f"P(±{rope:g})", "P(better)"]
    rows = []
    for name, found in each.differences.items():
        chances = (found.chances.worse, found.chances.equal, found.chances.better)
        shown = ["-" if math.isnan(p) else f"{p:.2f}" for p in chances]
        effects = [_effect(e) for e in (found.standardised, found.rank_biserial)]
        rows.append([name, *effects, *shown])
    _print(console, headings, rows)


def _interval(low: float, high: float, sign: str = "") -> str:
    return "-" if math.isnan(low) else f"[{low:{sign}.3f}, {high:{sign}.3f}]"


def _effect(found: Effect) -> str:
    if math.isnan(found.value):
        return "-"
    if math.isnan(found.low):
        return signed(found.value, 2)
    value, low, high = (signed(v, 2) for v in (found.value, found.low, found.high))
    return f"{value} [{low}, {high}]"


def _print(console: Console, headings: list[str], rows: list[list[str]]) -> None:
    from .console import Table

    table = Table()
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row)
    console.print(table)
    console.print()
