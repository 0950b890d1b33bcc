"""``domainemo train``: one final model of everybody, for whoever comes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..choices import TrainChoices
from . import options as use
from .stopping import interruptible

__all__ = ["train"]


@use.offering(TrainChoices, without=use.TARGET)
def train(
    *,
    output: use.Output = None,
    set_: use.Set = None,
    config: use.Config = None,
    cache: use.Cache = True,
    **said: Any,
) -> None:
    """Train one final model on all recordings; `domainemo predict` applies it.

    Nobody is tested: `domainemo adapt` says what such a model is worth on people it has
    not seen. Ctrl-C keeps a checkpoint; the same command resumes. `domainemo list
    samplings` and the like show every name, a plug-in's with --plugin.
    """
    from .configuration import configure_training

    chosen, short = use.read(TrainChoices, said)
    sets = [*short, *(set_ or ())]
    with interruptible():
        _run(configure_training(chosen, sets, config), output, cache)


def _run(configuration: Any, output: Path | None, cache: bool) -> None:
    from ..runs.everyone import plan_everyone, train_plan
    from .console import Console
    from .screens import Progress

    planned = plan_everyone(
        use.recordings(configuration, cache), configuration.experiment
    )
    folder = output or configuration.default_folder()
    with Progress() as progress:
        train_plan(
            planned,
            folder,
            configuration.describe(),
            None,
            progress.update,
            configuration.plugins,
        )
    console = Console()
    console.print((folder / "how.txt").read_text(encoding="utf-8").strip())
    console.say(
        f"The model is in {folder}. Apply it with: domainemo predict {folder} "
        f"--dataset FOLDER."
    )
