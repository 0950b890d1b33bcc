"""What the command line shows of a study: its plan, its progress, what it found."""

from __future__ import annotations

import math
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from rich.progress import TaskID

from ..words import but_for_calibration, count, in_order
from .console import Console, Table
from .screens import Pace, bars, show_memory, show_summary
from .screens import Progress as Training

if TYPE_CHECKING:
    from ..runs.execution import Monitor
    from ..studies.findings import Choice, Findings
    from ..studies.plan import StudyPlan
    from ..studies.search import Progress

__all__ = ["Searching", "show_findings", "show_study_plan"]


class Searching:
    """One bar for all candidates, with the best score so far; then the final runs."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self.bars = bars(self.console, "best")
        self.task: TaskID | None = None
        self.told, self.pace = -1, Pace()
        self.monitor: Monitor | None = None
        self.training: Training | None = None

    def __enter__(self) -> Searching:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bars.stop()
        self._end_training()

    def train(self, monitor: Monitor) -> None:
        """Show how far a final run is; a terminal bears one set of bars at a time."""
        if monitor is not self.monitor:
            self.bars.stop()
            self._end_training()
            self.monitor, self.training = monitor, Training()
            self.training.__enter__()
        if self.training is not None:
            self.training.update(monitor)

    def _end_training(self) -> None:
        if self.training is not None:
            self.training.__exit__(None, None, None)
            self.training = None

    def update(self, progress: Progress) -> None:
        """Show how many candidates are tried; a line each without a terminal."""
        best = "" if math.isnan(progress.best) else f"best {progress.best:.3f}"
        left = self.pace.left(progress.finished, progress.total)
        if not self.console.is_terminal:
            if progress.finished > self.told:
                self.told = progress.finished
                said = f"[{progress.finished}/{progress.total}] candidates {best}"
                self.console.say("; ".join(filter(None, (said.rstrip(), left))))
            return
        if self.task is None:
            self.bars.start()
            self.task = self.bars.add_task(
                "candidates", total=progress.total, best=best
            )
        said = " ".join(filter(None, (best, left)))
        self.bars.update(self.task, completed=progress.finished, best=said)
        if progress.finished >= progress.total:
            self.bars.stop()


def show_study_plan(planned: StudyPlan, folder: Path) -> None:
    """Print what is searched, who chooses, and who is tested."""
    console = Console()
    settings, experiment = planned.settings, planned.experiment
    table = Table()
    for heading in ("option", "range", "begins at"):
        table.add_column(heading)
    begins = planned.space.defaults()
    for option, words in planned.space.describe().items():
        table.add_row(option, words, str(begins.get(option, "outside")))
    console.print(table)
    tested = "; ".join(fold.name for fold in planned.tested.folds)
    folds = sum(len(each.folds) for each in planned.choosing.values())
    alone = experiment.adapter.name != "none"  # source only is trained as well
    trainings = folds * len(experiment.seeds) * (settings.candidates + alone)
    if settings.select == "per-fold":
        who = f"Each of {count(folds, 'fold')} chooses for itself, without its "
        who += f"target's labels{but_for_calibration(planned.calibrated)}."
    else:
        chosen = settings.development
        names = in_order(chosen) if isinstance(chosen, tuple) else []
        verbs = "chooses and is" if len(names) == 1 else "choose and are"
        who = f"{count(len(names), 'subject')} {verbs} not tested: "
        who += f"{', '.join(names)}."
    console.print()
    console.say(
        f"{who} Tested: {tested}. {count(settings.candidates, 'candidate')} by "
        f"{settings.sampler}{' and source only' * alone}, at most "
        f"{count(trainings, 'training')}; folder {folder}."
    )
    jobs = [job for key in planned.choosing for job in planned.jobs(key)]
    show_memory(console, planned.inputs, jobs)


def show_findings(findings: Findings) -> None:
    """Print what was chosen, what it was worth, and what to type next."""
    from ..reports.study_words import by_comparison
    from ..studies.findings import outcomes

    console = Console()
    states = outcomes(findings.candidates).value_counts()
    counts = ", ".join(f"{count} {state}" for state, count in states.items())
    console.say(f"Candidates: {counts}.")
    if not findings.choices:
        console.say("No candidate is complete yet, so nothing was chosen.")
        return
    for choice in findings.choices:
        console.say(_chosen(choice))
    if told := by_comparison(findings).strip():
        console.say(told)
    if findings.final is not None:
        console.print()
        show_summary(findings.final, console)
    for line in (
        "",
        *dict.fromkeys(choice.command for choice in findings.choices),
        f"domainemo report {findings.folder}",
    ):
        console.say(line, soft_wrap=True)


def _chosen(choice: Choice) -> str:
    """Return what was chosen, and by which number: where it stands, not its score."""
    where = "" if choice.fold is None else f"{choice.fold}: "
    highest = choice.standing.get(choice.candidate, choice.value)
    if choice.candidate < 0 and [*choice.standing] == [choice.candidate]:
        return (
            f"{where}No candidate predicts every class and held-out source subjects "
            f"better than by chance: do not adapt."
        )
    if choice.candidate < 0:
        return f"{where}Source only was chosen ({highest:.3f}): do not adapt."
    options = ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in choice.options.items()
    )
    return f"{where}Candidate {choice.candidate} was chosen ({highest:.3f}): {options}."
