"""``domainemo pretrain``: what people show in common, learnt without any label."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..choices import PretrainingChoices
from ..words import count
from . import options as use
from .stopping import interruptible

if TYPE_CHECKING:
    import pandas as pd

    from ..runs.pretraining import Pretraining, PretrainingPlan
    from .configuration import Configuration

__all__ = ["pretrain"]


@use.offering(PretrainingChoices, without=use.TARGET)
def pretrain(
    *,
    jobs: use.Jobs = "auto",
    executor: use.Where = None,
    output: use.Output = None,
    set_: use.Set = None,
    config: use.Config = None,
    cache: use.Cache = True,
    dry_run: use.DryRun = False,
    **said: Any,
) -> None:
    """Pre-train a backbone for every fold, on the fold's source alone, without labels.

    What different people show at the same moment of the same stimulus is drawn
    together. Then `domainemo adapt --init-from FOLDER`, with the same protocol,
    backbone and normalisation, starts from it. Ctrl-C keeps the finished folds; the
    same command resumes. `domainemo list samplings` and the like show every name, a
    plug-in's with --plugin.
    """
    from .configuration import configure_pretraining

    chosen, short = use.read(PretrainingChoices, said)
    sets = [*short, *(set_ or ())]
    with interruptible():
        use.check_executing(executor, jobs)
        _run(
            configure_pretraining(chosen, sets, config),
            output,
            jobs,
            executor,
            dry_run,
            cache,
        )


def _run(
    configuration: Configuration[Pretraining],
    output: Path | None,
    jobs: str,
    where: str | None,
    dry_run: bool,
    cache: bool,
) -> None:
    from ..runs.pretraining import plan_pretraining, run_pretraining
    from .screens import Progress

    data = use.recordings(configuration, cache)
    planned = plan_pretraining(data, configuration.experiment)
    folder = output or configuration.default_folder()
    if dry_run:
        _show_plan(planned, folder)
        return
    opened = use.executing(where, jobs, planned.chosen, len(planned.jobs(folder)))
    with opened as executor, Progress() as progress:
        table = run_pretraining(
            planned,
            folder,
            configuration.describe(),
            executor,
            progress.update,
            configuration.plugins,
        )
    _show_table(table, folder)


def _show_plan(planned: PretrainingPlan, folder: Path) -> None:
    """Print the folds, their sources and what can be paired in them."""
    from .console import Console, Table
    from .screens import show_memory

    console = Console()
    table = Table(title=planned.inputs.name)
    table.add_column("fold", no_wrap=True)
    for heading in ("source\nwindows", "moments\nshared"):
        table.add_column(heading, justify="right")
    for fold in planned.folds:
        table.add_row(fold.name, str(len(fold.source)), str(planned.moments(fold)))
    console.print(table)
    backbone = planned.chosen.build_backbone(planned.inputs.modalities)
    parameters = sum(p.numel() for p in backbone.parameters())
    jobs = planned.jobs(folder)
    console.say(
        f"{count(len(jobs), 'job')} in {count(len(planned.folds), 'fold')}, "
        f"{count(parameters, 'parameter')}; folder {folder}."
    )
    show_memory(console, planned.inputs, jobs)


def _show_table(results: pd.DataFrame, folder: Path) -> None:
    """Print how the loss came down, per fold and seed."""
    from .console import Console, Table

    console = Console()
    table = Table()
    table.add_column("fold", no_wrap=True)
    for heading in ("seed", "samples", "moments", "first loss", "last loss"):
        table.add_column(heading, justify="right")
    for row in results.to_dict("records"):
        table.add_row(
            *(str(row[key]) for key in ("fold", "seed", "samples", "moments")),
            *(f"{row[key]:.3f}" for key in ("first_loss", "last_loss")),
        )
    console.print(table)
    console.print()
    console.print((folder / "how.txt").read_text(encoding="utf-8").strip())
    console.say(
        f"Everything is in {folder}. Start from it with: domainemo adapt --init-from "
        f"{folder}, with the same protocol, backbone and normalisation."
    )
