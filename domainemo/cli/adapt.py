"""``domainemo adapt``: train and test an adapter on every fold of a protocol."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..choices import RunChoices
from ..errors import ConfigurationError
from ..registry import entries
from . import options as use
from .stopping import interruptible

if TYPE_CHECKING:
    from ..runs.experiment import Experiment
    from .configuration import Configuration

__all__ = ["adapt"]


@use.offering(RunChoices)
def adapt(
    *,
    jobs: use.Jobs = "auto",
    executor: use.Where = None,
    output: use.Output = None,
    set_: use.Set = None,
    config: use.Config = None,
    cache: use.Cache = True,
    dry_run: use.DryRun = False,
    target_together: Annotated[
        bool, typer.Option("--target-together", help="Adapt to all newcomers at once.")
    ] = False,
    target_classes: Annotated[
        str | None,
        typer.Option(
            "--target-classes",
            help="What classes are called in a cross-dataset's target: "
            "positive=happy,negative=sad+fear.",
        ),
    ] = None,
    **said: Any,
) -> None:
    """Train and test an adapter on every fold of a protocol, beside its baselines.

    With --target, train on everybody in --dataset and adapt to the people of another
    data set or table folder, each by itself: people whose labels nobody knows, or, with
    --protocol cross-dataset, people who are tested.

    Ctrl-C keeps the finished folds; the same command resumes. `domainemo list
    samplings` and the like show every name, a plug-in's with --plugin.
    """
    from .configuration import configure

    chosen, short = use.read(RunChoices, said)
    sets = [*short, *(set_ or ())]
    if config is None:
        _check_target(chosen, target_together, target_classes)
    if target_together:
        sets.append("protocol.together=true")
    if target_classes is not None:
        sets.append(f"protocol.classes={target_classes}")
    if chosen["baselines"] is False and chosen["controls"] is None:
        chosen["controls"] = []  # also where the file names some
    with interruptible():
        use.check_executing(executor, jobs)
        _run(configure(chosen, sets, config), output, jobs, executor, dry_run, cache)


def _check_target(
    chosen: Mapping[str, Any], together: bool, classes: str | None
) -> None:
    """Refuse what is said of a target where there is none, or of another protocol."""
    protocol, other = chosen["protocol"], "cross-dataset"
    ours = {e.name for e in entries("protocol") if e.origin.startswith("domainemo.")}
    if classes is not None and (protocol is None or protocol in ours - {other}):
        raise ConfigurationError(
            f"--target-classes says what classes are called in another data set; "
            f"expected --protocol {other} with it, found "
            f"{'no --protocol' if protocol is None else protocol}."
        )
    if together and chosen["target"] is None:
        raise ConfigurationError(
            "--target-together is of the people that --target names; found no --target."
        )


def _run(
    configuration: Configuration[Experiment],
    output: Path | None,
    jobs: str,
    where: str | None,
    dry_run: bool,
    cache: bool,
) -> None:
    from ..runs.plan import plan
    from ..runs.run import run_plan
    from ..runs.target import plan_target
    from .screens import Progress, show_plan, show_results

    data, chosen = use.recordings(configuration, cache), configuration.experiment
    target = use.newcomers(configuration, cache)
    if target is None:
        planned = plan(data, chosen)
    else:
        planned = plan_target(data, target, chosen)
    folder = output or configuration.default_folder()
    if dry_run:
        show_plan(planned, folder)
        return
    count = len(planned.jobs(folder))
    opened = use.executing(where, jobs, planned.experiment, count)
    with opened as executor, Progress() as progress:
        results = run_plan(
            planned,
            folder,
            configuration.describe(),
            executor,
            progress.update,
            configuration.plugins,
        )
    show_results(results, folder)
