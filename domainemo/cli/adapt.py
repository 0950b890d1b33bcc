"""``domainemo adapt``: train and test an adapter on every fold of a protocol."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options as use
from .stopping import interruptible

if TYPE_CHECKING:
    from ..runs.experiment import Experiment
    from .configuration import Configuration

__all__ = ["adapt"]


def adapt(
    dataset: use.Dataset = None,
    data_root: use.DataRoot = None,
    protocol: use.Protocol = None,
    backbone: use.Backbone = None,
    adapter: use.Adapter = None,
    validator: Annotated[
        use.Text,
        typer.Option(help="What chooses the epoch, without target labels."),
    ] = None,
    normalisation: use.Normalisation = None,
    sampling: use.Sampling = None,
    modalities: use.Modalities = None,
    exclude: use.Exclude = None,
    seeds: use.Seeds = None,
    epochs: use.Epochs = None,
    batch_size: use.BatchSize = None,
    device: use.Device = None,
    jobs: use.Jobs = "auto",
    init_from: Annotated[
        Path | None,
        typer.Option(help="Start from the folder of a `domainemo pretrain`."),
    ] = None,
    fold: Annotated[
        list[str] | None,
        typer.Option(help="Run this fold only, by its name; may be repeated."),
    ] = None,
    output: use.Output = None,
    set_: use.Set = None,
    config: use.Config = None,
    plugin: use.Plugin = None,
    cache: use.Cache = True,
    baselines: Annotated[
        bool | None, typer.Option(help="Run source only and the controls as well.")
    ] = None,
    controls: Annotated[
        use.Text,
        typer.Option(help="The controls to run, such as majority-class; else three."),
    ] = None,
    dry_run: use.DryRun = False,
) -> None:
    """Train and test an adapter on every fold of a protocol, beside its baselines.

    Ctrl-C keeps the finished folds; the same command resumes. `domainemo list` shows
    every name.
    """
    from .configuration import configure

    chosen: dict[str, object] = {
        "dataset": dataset,
        "data_root": data_root,
        "protocol": protocol,
        "backbone": backbone,
        "adapter": adapter,
        "validator": validator,
        "normalisation": normalisation,
        "sampling": sampling,
        "modalities": use.names(modalities, "--modalities"),
        "exclude": use.names(exclude, "--exclude"),
        "seeds": use.seeds(seeds),
        "device": device,
        "plugins": plugin or None,
        "baselines": baselines,
        "init_from": str(init_from) if init_from else None,
        "folds": fold or None,
        "controls": use.names(controls, "--controls"),
    }
    sets = use.with_shortcuts(set_, epochs, batch_size)
    with interruptible():
        _run(configure(chosen, sets, config), output, jobs, dry_run, cache)


def _run(
    configuration: Configuration[Experiment],
    output: Path | None,
    jobs: str,
    dry_run: bool,
    cache: bool,
) -> None:
    from ..processes import process_pool
    from ..runs.run import plan, run_plan
    from .screens import Progress, show_plan, show_results

    planned = plan(use.recordings(configuration, cache), configuration.experiment)
    folder = output or configuration.default_folder()
    if dry_run:
        show_plan(planned, folder)
        return
    workers = use.workers(jobs, planned.experiment, len(planned.jobs(folder)))
    pool = process_pool(workers) if workers > 1 else nullcontext()
    with Progress() as progress, pool as executor:
        results = run_plan(
            planned,
            folder,
            configuration.describe(),
            executor,
            progress.update,
            configuration.plugins,
        )
    show_results(results, folder)
