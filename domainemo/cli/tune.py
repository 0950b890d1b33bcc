"""``domainemo tune``: search loss weights and other options, without target labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import ConfigurationError
from . import options as use
from .stopping import interruptible

if TYPE_CHECKING:
    from .configuration import StudyConfiguration

__all__ = ["tune"]


def tune(
    dataset: use.Dataset = None,
    data_root: use.DataRoot = None,
    protocol: use.Protocol = None,
    backbone: use.Backbone = None,
    adapter: use.Adapter = None,
    validator: Annotated[
        use.Text,
        typer.Option(help="What compares candidates, without target labels."),
    ] = None,
    normalisation: use.Normalisation = None,
    sampling: use.Sampling = None,
    modalities: use.Modalities = None,
    exclude: use.Exclude = None,
    seeds: use.Seeds = None,
    epochs: use.Epochs = None,
    batch_size: use.BatchSize = None,
    device: use.Device = None,
    candidates: Annotated[
        int | None, typer.Option(help="Configurations to try, the study's total.")
    ] = None,
    search: Annotated[
        use.Text,
        typer.Option(help="Whose spaces: adapter, backbone, training."),
    ] = None,
    space: Annotated[
        list[str] | None,
        typer.Option(
            help="A range: NAME=LOW:HIGH, NAME=LOW:HIGH:log, NAME=a,b,c, or NAME=off; "
            "may be repeated."
        ),
    ] = None,
    sampler: Annotated[
        use.Text, typer.Option(help="tpe, cma-es, random or gaussian-process.")
    ] = None,
    pruner: Annotated[
        use.Text, typer.Option(help="median, hyperband, wilcoxon or none.")
    ] = None,
    objectives: Annotated[
        use.Text,
        typer.Option(help="validator, then source_accuracy, seconds or parameters."),
    ] = None,
    select: Annotated[
        use.Text,
        typer.Option(help="global-source: one choice; per-fold: one for each."),
    ] = None,
    development: Annotated[
        use.Text,
        typer.Option(help="How many subjects choose, or which, such as 1,5,9."),
    ] = None,
    study_seed: Annotated[
        int | None, typer.Option(help="Seed of the sampler, and of who chooses.")
    ] = None,
    final_seeds: Annotated[
        use.Text, typer.Option(help="Seeds of the final runs; else three fresh ones.")
    ] = None,
    final: Annotated[
        bool, typer.Option(help="Run what was chosen, and the defaults, at the end.")
    ] = True,
    workers: Annotated[
        str, typer.Option(help="Candidates tried at once, each in a process; or auto.")
    ] = "auto",
    minutes: Annotated[
        float | None, typer.Option(help="Begin no candidate after this time.")
    ] = None,
    storage: Annotated[
        use.Text,
        typer.Option(
            help="sqlite, journal, or a database that machines share, such as "
            "postgresql+psycopg://host/name."
        ),
    ] = None,
    name: Annotated[use.Text, typer.Option(help="The study's, in its storage.")] = None,
    output: use.Output = None,
    set_: use.Set = None,
    config: use.Config = None,
    plugin: use.Plugin = None,
    cache: use.Cache = True,
    dry_run: use.DryRun = False,
) -> None:
    """Search loss weights and other options, without target labels; test the choice.

    Ctrl-C keeps what is finished; the same command resumes. An option that --set or a
    configuration sets is not searched, unless a --space names it.
    """
    from .configuration import configure_study

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
    }
    settings: dict[str, object] = {
        "candidates": candidates,
        "search": use.names(search, "--search"),
        "sampler": sampler,
        "pruner": pruner,
        "objectives": use.names(objectives, "--objectives"),
        "select": select,
        "development": _subjects(development),
        "seed": study_seed,
        "final_seeds": use.seeds(final_seeds, "--final-seeds"),
        "name": name,
        "storage": storage,
    }
    sets = use.with_shortcuts(set_, epochs, batch_size)
    with interruptible():
        configuration = configure_study(chosen, sets, config, settings, _spaces(space))
        _run(configuration, output, workers, minutes, final, dry_run, cache)


def _run(
    configuration: StudyConfiguration,
    output: Path | None,
    workers: str,
    minutes: float | None,
    final: bool,
    dry_run: bool,
    cache: bool,
) -> None:
    from ..studies.plan import plan_study
    from ..studies.space import search_space
    from ..studies.study import Effort, run_study
    from .studies import Searching, show_findings, show_study_plan

    base, settings = configuration.base, configuration.settings
    space = search_space(
        base.experiment, settings.search, configuration.ranges, base.given
    )
    planned = plan_study(use.recordings(base, cache), space, settings)
    folder = output or configuration.default_folder()
    if dry_run:
        show_study_plan(planned, folder)
        return
    described = base.describe()
    data = {k: v for k, v in described["options"].items() if k.startswith("data.")}
    places = {"dataset": described["dataset"], "options": data}
    places |= {k: described[k] for k in ("data_root", "plugins") if k in described}
    with Searching() as searching:
        effort = Effort(
            storage=configuration.storage,
            workers=use.workers(
                workers, base.experiment, settings.candidates, "--workers"
            ),
            minutes=minutes,
            final=final,
            plugins=base.plugins,
            on_search=searching.update,
            on_train=searching.train,
        )
        name = configuration.name or folder.name
        findings = run_study(planned, folder, places, name, effort)
    show_findings(findings)


def _subjects(text: str | None) -> int | list[str] | None:
    """Read how many subjects choose, or which."""
    if text is None:
        return None
    number = use.whole_number(text)
    return use.names(text, "--development") if number is None else number


def _spaces(texts: Sequence[str] | None) -> Mapping[str, Any]:
    """Read ``--space`` options."""
    found = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not equals or not name or not value:
            raise _no_range(text)
        if name in found:
            raise ConfigurationError(f"--space {name} is given twice; give it once.")
        found[name] = _range(text, value)
    return found


def _range(text: str, value: str) -> Any:
    from .configuration import read_value

    if value == "off":
        return False
    if ":" not in value:
        return {"choices": [read_value(each) for each in value.split(",")]}
    low, high, *rest = value.split(":")
    ends = [read_value(low), read_value(high)]
    if len(rest) > 1 or not all(type(each) in (int, float) for each in ends):
        raise _no_range(text)
    found: dict[str, Any] = {"low": ends[0], "high": ends[1]}
    if rest == ["log"]:
        # A logarithmic range of whole numbers is rarely meant to have steps of one.
        return {key: float(each) for key, each in found.items()} | {"log": True}
    step = read_value(rest[0]) if rest else None
    if rest and type(step) not in (int, float):
        raise _no_range(text)
    return found | ({"step": step} if rest else {})


def _no_range(text: str) -> ConfigurationError:
    return ConfigurationError(
        f"--space {text!r}: expected NAME=LOW:HIGH, NAME=LOW:HIGH:log, "
        f"NAME=LOW:HIGH:STEP, NAME=a,b,c or NAME=off, such as "
        f"adapter.marginal=0.01:1:log."
    )
