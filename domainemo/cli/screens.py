"""What the command line shows: folds, progress and results."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress import Progress as Bars

from ..words import count, duration, signed
from .console import Console, Table

if TYPE_CHECKING:
    from ..core import Inputs
    from ..runs.execution import JobState, Monitor
    from ..runs.job import Work
    from ..runs.plan import Plan
    from ..runs.results import Results

__all__ = [
    "Pace",
    "Progress",
    "Reading",
    "bars",
    "show_memory",
    "show_plan",
    "show_results",
    "show_summary",
]


_SILENCE = 60.0
"""Seconds after which something is said where there is no terminal."""

_ABREAST = 6
"""As many methods as fit beside each other."""


def bars(console: Console, said: str) -> Bars:
    """Return progress bars, which show only where there is a terminal.

    Parameters
    ----------
    console : Console
    said : str
        The field of a task that stands beside its bar.
    """
    return Bars(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(f"{{task.fields[{said}]}}", markup=False),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    )


class Pace:
    """How long work still takes, as fast as it has gone until now.

    Parameters
    ----------
    clock : callable
        Returns seconds since any moment.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.began: tuple[float, float] | None = None

    def left(self, done: float, total: float) -> str:
        """Return in words how long the rest takes; "" as long as nothing was done.

        Parameters
        ----------
        done, total : float
            Of any unit. What is done at the first call is not counted, as an earlier
            run may have done it.
        """
        now = self.clock()
        if self.began is None:
            self.began = now, done
        start, before = self.began
        if done <= before or done >= total:
            return ""
        seconds = (now - start) * (total - done) / (done - before)
        return f"about {duration(seconds)} left"


class Progress:
    """One bar for all jobs and one for each that is running.

    Without a terminal there is a line for each job that ends, and one a minute.

    Parameters
    ----------
    clock : callable
        Returns seconds since any moment.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.console = Console(stderr=True)
        self.bars = bars(self.console, "loss")
        self.tasks: dict[str, TaskID] = {}
        self.told: set[str] = set()
        self.clock, self.pace, self.spoke = clock, Pace(clock), clock()

    def __enter__(self) -> Progress:
        self.bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bars.stop()

    def update(self, monitor: Monitor) -> None:
        """Show how far all jobs are."""
        ended = [state.finished or state.failed for state in monitor.jobs]
        done = sum(ended)
        # A job that an earlier run had finished says nothing of this one's pace.
        own = [
            1.0 if over else state.epoch / max(monitor.epochs, 1)
            for state, over in zip(monitor.jobs, ended, strict=True)
            if not state.resumed
        ]
        left = self.pace.left(sum(own), len(own))
        self._set("all jobs", done, len(monitor.jobs), left)
        place = f"[{done}/{len(monitor.jobs)}]"
        for state, over in zip(monitor.jobs, ended, strict=True):
            if over:
                self._remove(state.name)
                self._tell(state, place, left)
            elif state.epoch:
                loss = "" if np.isnan(state.loss) else f"loss {state.loss:.3f}"
                self._set(state.name, state.epoch, monitor.epochs, loss)
                epoch = f"{state.name}: epoch {state.epoch} of {monitor.epochs}"
                self._tell_in_between(_joined(f"{place} {epoch}", loss, left))

    def _set(self, name: str, completed: int, total: int, loss: str) -> None:
        if name not in self.tasks:
            self.tasks[name] = self.bars.add_task(name, total=total, loss=loss)
        self.bars.update(self.tasks[name], completed=completed, loss=loss)

    def _remove(self, name: str) -> None:
        if name in self.tasks:
            self.bars.remove_task(self.tasks.pop(name))

    def _tell(self, state: JobState, place: str, left: str) -> None:
        """Say a line per job where there is no terminal to draw bars on."""
        if self.console.is_terminal or state.name in self.told:
            return
        self.told.add(state.name)
        how = "failed" if state.failed else "kept" if state.resumed else "done"
        self.console.say(_joined(f"{place} {state.name}: {how}", left))
        self.spoke = self.clock()

    def _tell_in_between(self, line: str) -> None:
        """Say how far a job is where nothing was said for a minute."""
        if not self.console.is_terminal and self.clock() - self.spoke >= _SILENCE:
            self.console.say(line)
            self.spoke = self.clock()


def _joined(*parts: str) -> str:
    return "; ".join(part for part in parts if part)


class Reading:
    """One bar for the recordings that are read; nothing where they are mapped."""

    def __init__(self, verb: str = "reading") -> None:
        self.bars = bars(Console(stderr=True), "recording")
        self.verb = verb
        self.task: TaskID | None = None

    def __enter__(self) -> Reading:
        self.bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bars.stop()

    def update(self, done: int, total: int, recording: str) -> None:
        """Show how many recordings are read, of how many, and which was the last."""
        if self.task is None:
            self.task = self.bars.add_task(self.verb, total=total, recording="")
        self.bars.update(self.task, completed=done, recording=recording)


def show_plan(planned: Plan, folder: Path) -> None:
    """Print the folds and their sizes."""
    from ..core import OPTIONAL
    from ..runs.plan import missing_share, subjects_without_fold
    from ..training.batches import samples_of

    console = Console()
    windows = planned.inputs.windows
    backbone = planned.experiment.build_backbone(planned.inputs.modalities)
    level = planned.sampling.level
    table = Table(title=planned.inputs.name)
    table.add_column("fold", no_wrap=True)
    given = [n for n in OPTIONAL if any(len(f.parts[n]) for f in planned.folds)]
    roles = ("source", "target", "test", *given)
    for role in roles:
        table.add_column(f"{role}\nwindows", justify="right")
        if level != "window":
            table.add_column(f"{role}\n{level}s", justify="right")
    table.add_column("access", no_wrap=True)
    for fold in planned.folds:
        sizes = []
        for rows in (fold.parts[role] for role in roles):
            sizes.append(str(len(rows)))
            if level != "window":
                part = windows.iloc[rows].reset_index(drop=True)
                sizes.append(str(len(samples_of(planned.sampling, part))))
        table.add_row(fold.name, *sizes, fold.access)
    console.print(table)
    parameters = sum(p.numel() for p in backbone.parameters())
    missing = ", ".join(
        f"{name} {share:.1%}" for name, share in missing_share(planned.inputs).items()
    )
    jobs = planned.jobs(folder)
    console.say(
        f"{count(len(jobs), 'job')} in {count(len(planned.folds), 'fold')}, "
        f"{count(parameters, 'parameter')}; windows lost: {missing}; folder {folder}."
    )
    show_memory(console, planned.inputs, jobs)
    for name, why in planned.skipped.items():
        console.print(f"Skipped: {name}, as {why}.")
    # Of a target that is given apart, everybody is tested, and nobody else.
    alone = planned.scored and not planned.target
    left_out = subjects_without_fold(planned) if alone else []
    if left_out:
        which = "subject" if len(left_out) == 1 else "subjects"
        console.say(f"No fold tests the {which} {', '.join(map(str, left_out))}.")


def show_memory(console: Console, inputs: Inputs, jobs: Sequence[Work[Any]]) -> None:
    """Print what one job takes at most, beside the recordings."""
    from ..runs.memory import available_memory, megabytes, memory_needed

    size = sum(array.nbytes for array in inputs.signals.values())
    free = available_memory()
    console.say(
        f"{megabytes(size)} of recordings; a job takes up to about "
        f"{megabytes(memory_needed(inputs, jobs))} more, and its network's own memory"
        + ("." if free is None else f"; {megabytes(free)} are free.")
    )


def show_results(results: Results, folder: Path) -> None:
    """Print a table per fold, the summary beside its baselines, and how it was done."""
    console = Console()
    if not results.scored:
        _show_newcomers(results, folder, console)
        return
    folds = results.per_fold()
    shown = results.methods
    if len(shown) > _ABREAST:  # all of them stand in the summary
        shown = [name for name in shown if name not in results.controls]
    folds = folds[shown]
    table = Table()
    table.add_column("balanced accuracy")
    for method in shown:
        table.add_column(method, justify="right")
    for name, row in folds.iterrows():
        table.add_row(str(name), *(f"{value:.3f}" for value in row))
    console.print(table)
    console.print()
    _show_over_time(results, console)
    show_summary(results, console)
    console.print()
    kept = replace(results, folder=folder)
    for line in (*verdicts(kept), results.how(), f"Everything is in {folder}."):
        console.say(line)


def _show_over_time(results: Results, console: Console) -> None:
    """Print how each method did from step to step, of an online run."""
    found = results.over_time()
    if found is None:
        return
    table = Table()
    for heading in ("step", "minutes", "method", "balanced accuracy", "95 % interval"):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    table.add_column("up to here", justify="right")
    ranked = found.sort_values("step", kind="stable").to_dict("records")
    for row in ranked:
        own = "bold" if row["method"] == results.method else None
        numbers = [row[name] for name in ("balanced_accuracy", "prequential")]
        mean, until = ("-" if np.isnan(each) else f"{each:.3f}" for each in numbers)
        known = not np.isnan(row["low"])
        interval = f"{row['low']:.3f} to {row['high']:.3f}" if known else "-"
        when = "-" if np.isnan(row["minutes"]) else f"{row['minutes']:.1f}"
        cells = str(row["step"]), when, str(row["method"]), mean, interval, until
        table.add_row(*cells, style=own)
    console.print(table)
    console.say(
        "Minutes of recording since the session's start. Up to here: all predictions "
        "so far together, each made by what came before it."
    )
    console.print()


def _show_newcomers(results: Results, folder: Path, console: Console) -> None:
    """Print what can be said of people whose labels nobody knows."""
    from ..runs.distance import distance_sentences

    people = results.people()
    shares = [name for name in map(str, people) if name.startswith("share_")]
    table = Table()
    table.add_column("share of", no_wrap=True)
    table.add_column("method", no_wrap=True)
    headings = [name.removeprefix("share_") for name in shares]
    for heading in (*headings, "confidence", "changed"):
        table.add_column(heading, justify="right")
    shown: set[object] = set()
    for row in people.reset_index().to_dict("records"):
        subject, method = row["subject"], str(row["method"])
        who = "" if subject in shown else f"subject {subject}"
        shown.add(subject)
        values = [float(row[name]) for name in (*shares, "confidence", "changed")]
        cells = ["-" if np.isnan(value) else f"{value:.3f}" for value in values]
        style = "bold" if method == results.method else None
        table.add_row(who, method, *cells, style=style)
    console.print(table)
    console.print()
    lines = [] if results.distances is None else distance_sentences(results.distances)
    judged = results.validators()
    for name, choice in judged["chooses"].items() if len(judged) else ():
        lines.append(f"The validator {name} would choose {choice}.")
    console.say(
        "Changed: the share that source only predicts otherwise. Confidence is the "
        "network's own, and no accuracy."
    )
    for line in (*lines, results.how(), f"Everything is in {folder}."):
        console.say(line)


def show_summary(results: Results, console: Console) -> None:
    """Print a row per method: mean, deviation, interval."""
    summary = Table()
    summary.add_column("method")
    for heading in ("mean", "deviation", "95 % interval", "per trial"):
        summary.add_column(heading, justify="right")
    for key, found in results.summary().to_dict("index").items():
        summary.add_row(
            str(key),
            *_cells(found),
            style="bold" if key == results.method else None,
        )
    console.print(summary)


def _cells(row: Mapping[Hashable, float]) -> tuple[str, ...]:
    known = not np.isnan(row["low"])
    return (
        f"{row['mean']:.3f}",
        "-" if np.isnan(row["deviation"]) else f"{row['deviation']:.3f}",
        f"{row['low']:.3f} to {row['high']:.3f}" if known else "-",
        f"{row['trial']:.3f}",
    )


def verdicts(results: Results) -> list[str]:
    """Return in words what the baselines say of the result."""
    from ..reports.run_words import (
        beside_the_best_control,
        collapsed,
        idle,
        leaks,
        length_alone,
    )

    lines = [f"{results.method} stands {beside_the_best_control(results)}."]
    found = results.comparison()
    if found is not None:
        p = "" if np.isnan(found.p) else f", Wilcoxon p = {found.p:.3g}"
        interval = ""
        if not np.isnan(found.low):
            interval = f" [{signed(found.low, 3)}, {signed(found.high, 3)}]"
        lines.append(
            f"{results.method} less source only: {signed(found.difference, 3)}"
            f"{interval}{p}, {count(found.subjects, 'subject')}."
        )
    for cautions in (length_alone, idle, collapsed, leaks):
        lines += cautions(results)
    return lines
