"""Whom to adapt to, given apart: people without labels, or another data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import Unpack

from ..choices import RunChoices, choosing
from ..core import EmotionData, Inputs
from ..data.classes import written
from ..errors import ConfigurationError
from .at_once import Jobs, running
from .cross_dataset import plan_cross_dataset
from .execution import Monitor, check_call
from .experiment import Experiment, experiment
from .newcomers import plan_newcomers
from .plan import Plan
from .results import Results
from .run import check_output, described, run_plan

__all__ = ["adapt", "plan_target"]


@choosing
def adapt(
    source: EmotionData,
    target: EmotionData | Inputs,
    *,
    target_classes: Mapping[str, str | Sequence[str]] | None = None,
    output: str | Path | None = None,
    jobs: Jobs = 1,
    executor: Executor | None = None,
    on_progress: Callable[[Monitor], None] | None = None,
    **choices: Unpack[RunChoices],
) -> Results:
    """Train on labelled recordings and adapt to other people, given apart.

    Parameters
    ----------
    source : EmotionData
        Everybody in it trains.
    target : EmotionData or Inputs
        Whom to adapt to: each person in it by itself. Modalities, channels and features
        are found by name. Its labels are not used, if it has any; with the protocol
        ``"cross-dataset"`` it needs some, and is scored by them.
    **choices
        See `domainemo.choices.RunChoices`.
    target_classes : mapping of str to str or sequence of str, optional
        Of the protocol ``"cross-dataset"``: what classes of the source are called in
        the target, such as ``{"positive": "happy", "negative": ["sad", "fear"]}``.
        Those of one name are the same by themselves.
    output : path, optional
        The run's folder. Where it holds part of this very run, the rest is run.
    jobs : int or "auto"
        How many people are adapted to at once, each in a process of this machine.
    executor : concurrent.futures.Executor, optional
        Where they are instead, such as :func:`domainemo.cluster`'s.
    on_progress : callable, optional
        Called now and then with the state of all jobs.

    Returns
    -------
    Results
        Predictions, and what can be said of them without any label, or the scores.

    Raises
    ------
    ConfigurationError, DataError
        Before anything is trained.
    RunError
        If a training fails; the finished ones are kept in `output`.

    Examples
    --------
    >>> found = adapt(labelled, unlabelled, backbone="uf-ama")
    >>> found.predictions
    >>> adapt(seed, deap, protocol="cross-dataset",
    ...       target_classes={"positive": "high"})
    """
    choices.setdefault("protocol", "newcomers")
    if target_classes is not None:
        given = choices.get("options") or {}
        choices["options"] = {**given, "protocol.classes": written(target_classes)}
    chosen = experiment(**choices)
    place = check_output(output)
    check_call(executor, on_progress, jobs)
    planned = plan_target(source, target, chosen)
    description = described(f"{source.inputs.name}; {planned.target}", chosen)
    most = len(planned.jobs(Path()))
    with place as folder, running(executor, jobs, chosen, most) as pool:
        results = run_plan(
            planned, Path(folder), description, pool, on_progress, chosen.plugins
        )
    return replace(results, folder=None if output is None else Path(output))


def plan_target(
    source: EmotionData, target: EmotionData | Inputs, chosen: Experiment
) -> Plan:
    """Check both recordings against an experiment and lay out its folds.

    Parameters
    ----------
    source : EmotionData
        Everybody in it trains.
    target : EmotionData or Inputs
        Whom to adapt to. Its labels are for the score alone, where the protocol has
        one, and else left behind.
    chosen : Experiment
        With a protocol for recordings that are given apart.

    Raises
    ------
    ConfigurationError, DataError
        For anything that would fail later.
    """
    protocol = chosen.protocol.build()
    if not protocol.takes_target:
        raise ConfigurationError(
            f"The protocol is {chosen.protocol.name!r}, and a target was given apart; "
            f"expected 'newcomers', for people without labels, or 'cross-dataset', "
            f"which scores by theirs. Name one of these (--protocol), or leave the "
            f"target out."
        )
    if chosen.init_from is not None:
        raise ConfigurationError(
            f"init_from is {chosen.init_from.folder!r}; a pre-training belongs to the "
            f"folds that it was made for, and a target that is given apart is in none. "
            f"Leave it out."
        )
    make = plan_cross_dataset if protocol.scored else plan_newcomers
    return make(source, target, chosen)
