"""``domainemo adapt``: train and test an adapter on every fold of a protocol."""

from __future__ import annotations

import signal
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ConfigurationError

if TYPE_CHECKING:
    from ..evaluation.run import Plan
    from .configuration import Configuration

__all__ = ["adapt"]

Text = str | None

INTERRUPTED = 4
"""Exit code after Ctrl-C: not done, and resumable."""


def adapt(
    dataset: Annotated[
        Text,
        typer.Option(help="A data set's name, or the path of a table folder."),
    ] = None,
    data_root: Annotated[
        Text,
        typer.Option(
            help="Folder of the recordings; else the environment's DOMAINEMO_DATA."
        ),
    ] = None,
    protocol: Annotated[Text, typer.Option(help="Who trains, who is tested.")] = None,
    backbone: Annotated[Text, typer.Option(help="The fusion network.")] = None,
    adapter: Annotated[
        Text, typer.Option(help="The adapter; several joined by '+'.")
    ] = None,
    validator: Annotated[
        Text, typer.Option(help="What chooses the epoch, without target labels.")
    ] = None,
    normalisation: Annotated[
        Text, typer.Option(help="session, subject, source or none.")
    ] = None,
    sampling: Annotated[
        Text,
        typer.Option(help="windows, sequences or trials; else the backbone's own."),
    ] = None,
    modalities: Annotated[
        Text, typer.Option(help="Modalities to use, such as eeg,eye.")
    ] = None,
    exclude: Annotated[
        Text, typer.Option(help="Subjects to leave out altogether, such as 6,7,15.")
    ] = None,
    seeds: Annotated[Text, typer.Option(help="Seeds, such as 0,1,2.")] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Short for --set training.epochs=N.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Short for --set training.batch_size=N.")
    ] = None,
    device: Annotated[Text, typer.Option(help="auto, cpu, cuda, cuda:1.")] = None,
    jobs: Annotated[
        str, typer.Option(help="Folds trained at once, each in a process; or auto.")
    ] = "auto",
    output: Annotated[
        Path | None,
        typer.Option(help="The run's folder; by default one named by its contents."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="An option of any part: NAME=VALUE, may be repeated."
        ),
    ] = None,
    config: Annotated[
        Text,
        typer.Option(help="A TOML file, a run's folder, or the name of a study."),
    ] = None,
    plugin: Annotated[
        list[str] | None,
        typer.Option(help="A Python file that registers parts; may be repeated."),
    ] = None,
    cache: Annotated[
        bool, typer.Option(help="Keep what was read on disk for the next time.")
    ] = True,
    baselines: Annotated[
        bool | None, typer.Option(help="Run source only and the controls as well.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the folds and their sizes only.")
    ] = False,
) -> None:
    """Train and test an adapter on every fold of a protocol, beside its baselines.

    Ctrl-C keeps the finished folds; the same command resumes. `domainemo list` shows
    every name.
    """
    from .configuration import configure

    shortcuts = {"training.epochs": epochs, "training.batch_size": batch_size}
    sets = [f"{k}={v}" for k, v in shortcuts.items() if v is not None] + (set_ or [])
    chosen: dict[str, object] = {
        "dataset": dataset,
        "data_root": data_root,
        "protocol": protocol,
        "backbone": backbone,
        "adapter": adapter,
        "validator": validator,
        "normalisation": normalisation,
        "sampling": sampling,
        "modalities": modalities.split(",") if modalities else None,
        "exclude": exclude.split(",") if exclude else None,
        "seeds": _seeds(seeds),
        "device": device,
        "plugins": plugin or None,
        "baselines": baselines,
    }
    # A job scheduler's stop is answered like Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _run(configure(chosen, sets, config), output, jobs, dry_run, cache)
    except KeyboardInterrupt:
        typer.echo(
            "\nInterrupted. What is finished is kept; the same command resumes.",
            err=True,
        )
        raise typer.Exit(INTERRUPTED) from None


def _run(
    configuration: Configuration,
    output: Path | None,
    jobs: str,
    dry_run: bool,
    cache: bool,
) -> None:
    from ..data.loading import load
    from ..evaluation.execution import process_pool
    from ..evaluation.run import plan, run_plan
    from .configuration import load_dataset
    from .screens import Progress, Reading, show_plan, show_results

    reader = load_dataset(configuration.dataset, configuration.data_root)
    with Reading() as reading:
        data = load(reader, cache=cache, on_read=reading.update)
    planned = plan(data, configuration.experiment)
    folder = output or configuration.default_folder()
    if dry_run:
        show_plan(planned, folder)
        return
    workers = _workers(jobs, planned)
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


def _workers(jobs: str, planned: Plan) -> int:
    """Return how many processes train: a core each, and a single one on a GPU."""
    import os

    if jobs == "auto":
        if planned.experiment.device != "cpu":
            return 1
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
        wanted = (cores or os.cpu_count() or 1) // planned.experiment.training.threads
    elif jobs.isdigit() and int(jobs) > 0:
        wanted = int(jobs)
    else:
        raise ConfigurationError(
            f"--jobs is {jobs!r}; expected a number of processes, or auto."
        )
    total = len(planned.folds) * len(planned.experiment.seeds)
    return max(1, min(wanted, total * len(planned.experiment.trained)))


def _seeds(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(seed) for seed in text.replace(" ", ",").split(",") if seed]
    except ValueError:
        raise ConfigurationError(
            f"--seeds is {text!r}; expected whole numbers such as 0,1,2."
        ) from None
