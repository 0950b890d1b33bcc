"""``domainemo tune``: search loss weights and other options, without target labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import ConfigurationError
from ..studies.settings import StudySettings, TuningChoices
from . import options as use
from .stopping import interruptible

if TYPE_CHECKING:
    from .configuration import StudyConfiguration

__all__ = ["tune"]


@use.offering(TuningChoices, without=["init_from", *use.TARGET])
def tune(
    *,
    final: Annotated[
        bool, typer.Option(help="Run what was chosen, and the defaults, at the end.")
    ] = True,
    jobs: Annotated[
        str, typer.Option(help="Candidates tried at once, each in a process; or auto.")
    ] = "auto",
    executor: use.Where = None,
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
    cache: use.Cache = True,
    dry_run: use.DryRun = False,
    **said: Any,
) -> None:
    """Search loss weights and other options, without target labels; test the choice.

    Ctrl-C keeps what is finished; the same command resumes. An option that --set or a
    configuration sets is not searched, unless a --space names it. `domainemo list
    samplings` and the like show every name, a plug-in's with --plugin.
    """
    from .configuration import configure_study

    chosen, short = use.read(TuningChoices, said)
    spaces = _spaces(chosen.pop("space"))
    settings = {key: chosen.pop(key) for key in [*StudySettings().describe()]}
    settings |= {"name": name, "storage": storage}
    sets = [*short, *(set_ or ())]
    with interruptible():
        use.check_executing(executor, jobs)
        configuration = configure_study(chosen, sets, config, settings, spaces)
        _run(configuration, output, jobs, executor, minutes, final, dry_run, cache)


def _run(
    configuration: StudyConfiguration,
    output: Path | None,
    jobs: str,
    where: str | None,
    minutes: float | None,
    final: bool,
    dry_run: bool,
    cache: bool,
) -> None:
    from ..studies.plan import plan_study
    from ..studies.space import search_space
    from ..studies.study import Effort, name_in, run_study
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
    given = jobs, base.experiment, settings.candidates
    opened = use.executing(where, *given) if where else nullcontext()
    with opened as executor, Searching() as searching:
        count = getattr(executor, "_max_workers", None)
        effort = Effort(
            storage=configuration.storage,
            jobs=count or use.at_once(*given),
            minutes=minutes,
            final=final,
            plugins=base.plugins,
            on_search=searching.update,
            on_train=searching.train,
            executor=executor,
        )
        name = configuration.name or name_in(folder) or folder.name
        findings = run_study(planned, folder, places, name, effort)
    show_findings(findings)


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
        f"adapter.weight=0.1:10:log."
    )
