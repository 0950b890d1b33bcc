"""Train on everybody: one final model, for whoever comes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

from .. import files
from ..choices import TrainChoices, choosing, complete
from ..core import EmotionData
from ..data.given import expect_labelled
from ..errors import ConfigurationError
from ..training.fit import no_target
from ..training.settings import epoch_in_words
from ..words import count
from .beside import check_source
from .checks import choose, ordered, select_modalities
from .execution import Monitor, check_call
from .experiment import Experiment, experiment
from .how import how_trained, told_of_task
from .job import Job
from .model import Model, load_trained
from .plan import Plan, build_network, held_out
from .record import Record, load_record
from .run import check_output, described, trained

__all__ = ["final_experiment", "plan_everyone", "train", "train_plan"]


@choosing
def train(
    source: EmotionData,
    *,
    output: str | Path | None = None,
    executor: Executor | None = None,
    on_progress: Callable[[Monitor], None] | None = None,
    **choices: Unpack[TrainChoices],
) -> Model:
    """Train one final model on everybody, for whoever comes.

    Parameters
    ----------
    source : EmotionData
    **choices
        See `domainemo.choices.TrainChoices`.
    output : path, optional
        The model's folder, for :meth:`Model.load`. Where it holds an unfinished
        training of this very model, it goes on.
    executor : concurrent.futures.Executor, optional
        Where it is trained; here by default.
    on_progress : callable, optional
        Called now and then with how far it is.

    Returns
    -------
    Model

    Raises
    ------
    ConfigurationError, DataError
        Before anything is trained.
    RunError
        If the training fails.

    Examples
    --------
    >>> model = train(labelled, backbone="uf-ama", output="model")
    >>> model.predict(unlabelled)
    """
    chosen = final_experiment(**choices)
    place = check_output(output)
    check_call(executor, on_progress)
    planned = plan_everyone(source, chosen)
    with place as folder:
        return train_plan(
            planned,
            Path(folder),
            described(source.inputs.name, chosen),
            executor,
            on_progress,
            chosen.plugins,
        )


def final_experiment(**choices: Unpack[TrainChoices]) -> Experiment:
    """Make the experiment of a final model, of names, classes or objects.

    Raises
    ------
    ConfigurationError
        For a name, an option or a value that does not fit.
    """
    given = complete(TrainChoices, choices)
    return experiment(**given, protocol="everyone", baselines=False)


def plan_everyone(source: EmotionData, chosen: Experiment) -> Plan:
    """Check recordings against an experiment that trains on all of them.

    Parameters
    ----------
    source : EmotionData
    chosen : Experiment
        From `final_experiment`.

    Raises
    ------
    ConfigurationError, DataError
        For anything that would fail later, such as an adapter that needs a target.
    """
    source = expect_labelled(source, "the recordings")
    _check_choices(chosen)
    source, task = choose(source, chosen, whose="which nobody has of whoever comes")
    inputs = select_modalities(source.inputs, chosen.modalities)
    rows = ordered(inputs, chosen.exclude)
    # Nobody is a target here: where a trial ends tells of labels that are known.
    inputs = replace(inputs, labelled_trials=False)
    data = EmotionData(inputs, source.labels, source.classes).take(rows)
    check_source(data, chosen)
    folds = list(chosen.protocol.build().split(data.inputs.windows.copy()))
    backbone = build_network(data.inputs, len(data.classes), chosen)
    made = data.inputs, data.labels, data.classes
    return held_out(Plan(*made, chosen, folds, backbone.sampling, task=task))


def _check_choices(chosen: Experiment) -> None:
    """Refuse what needs a target, and more than one model."""
    chosen.build_adapter(chosen.adapter)
    if chosen.training.epoch == "target":
        raise no_target()
    validator = None if chosen.validator is None else chosen.validator.build()
    if validator is None or validator.sees_target:
        raise ConfigurationError(
            f"The epoch is to be chosen by {chosen.selection!r}, which looks at a "
            f"target, and here is none; expected one that does not, such as "
            f"--validator last or source."
        )
    if len(chosen.seeds) > 1:
        raise ConfigurationError(
            f"The seeds are {', '.join(map(str, chosen.seeds))}; expected one, as this "
            f"makes one model. Train again into another folder for each."
        )


def train_plan(
    planned: Plan,
    folder: Path,
    description: Mapping[str, Any],
    executor: Executor | None = None,
    on_progress: Callable[[Monitor], None] | None = None,
    plugins: Sequence[str] = (),
) -> Model:
    """Train what is planned in a folder, and read it from there.

    Parameters
    ----------
    planned, folder, description, executor, on_progress, plugins
        As for :func:`~domainemo.runs.run.run_plan`.
    """
    with trained(planned, folder, description, executor, on_progress, plugins) as jobs:
        (job,) = jobs
        place = Path(job.folder)
        how = _how(planned, job, load_record(place))
        files.write_recorded(folder / "how.txt", f"{how}\n")
        return load_trained(place, planned.experiment)


def _how(planned: Plan, job: Job, record: Record) -> str:
    """Return one line that says how the model came about."""
    said, facts = how_trained(planned, job, record), record.facts
    training = planned.experiment.training
    length = f"{training.epochs}{epoch_in_words(training.epoch)}"
    people, windows = planned.windows["subject"].nunique(), len(planned.inputs)
    score = facts["held_out"]
    tested = "Nobody was tested."
    if score is not None:
        tested = (
            f"Balanced accuracy {score:.3f} on people held out to choose the epoch, "
            f"which is no test: it was the highest of all epochs."
        )
    return (
        f"{said['dataset']}, {said['modalities']}; {told_of_task(said)}"
        f"{said['method']} on "
        f"{said['backbone']}, trained on {count(people, 'subject')} "
        f"({count(windows, 'window')}); {said['normalisation']}; {said['sampling']}; "
        f"epoch {facts['epoch']} of {length}, chosen by "
        f"{said['selection']}; seed {job.seed}; domainemo {said['version']}. {tested}"
    )
