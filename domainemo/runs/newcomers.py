"""Newcomers: recordings without labels, laid beside those that have some."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..choices import RunChoices, choosing
from ..core import PROVENANCE, EmotionData, Inputs, spelling
from ..data.given import expect_inputs, expect_labelled
from ..data.labels import check_trials
from ..data.matching import match, step_of
from ..data.normalisation import check_enough, scales_of
from ..errors import ConfigurationError, DomainemoWarning, data_error
from .checks import check_modalities, check_signals, folds_of, select_modalities
from .execution import Monitor, check_call
from .experiment import Experiment, experiment
from .leaks import check_leaks
from .plan import Plan, build_network, chosen_folds, ordered
from .results import Results
from .run import check_output, described, run_plan

__all__ = ["adapt", "check_source", "plan_newcomers"]

_NOBODY_KNOWS = -1
"""In place of a label, where there is none."""


@choosing
def adapt(
    source: EmotionData,
    target: EmotionData | Inputs,
    *,
    output: str | Path | None = None,
    executor: Executor | None = None,
    on_progress: Callable[[Monitor], None] | None = None,
    **choices: Unpack[RunChoices],
) -> Results:
    """Train on labelled recordings and adapt to people whose labels nobody knows.

    Parameters
    ----------
    source : EmotionData
        Everybody in it trains.
    target : EmotionData or Inputs
        Whom to adapt to: each person in it by itself. Its labels are not used, if it
        has any. Modalities, channels and features are found by name.
    **choices
        See `domainemo.choices.RunChoices`.
    output : path, optional
        The run's folder. Where it holds part of this very run, the rest is run.
    executor : concurrent.futures.Executor, optional
        Where people are adapted to; here and one by one by default.
    on_progress : callable, optional
        Called now and then with the state of all jobs.

    Returns
    -------
    Results
        Predictions, and what can be said of them without any label.

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
    """
    choices.setdefault("protocol", "newcomers")
    chosen = experiment(**choices)
    place = check_output(output)
    check_call(executor, on_progress)
    planned = plan_newcomers(source, target, chosen)
    names = f"{source.inputs.name}; {planned.target}"
    with place as folder:
        return run_plan(
            planned,
            Path(folder),
            described(names, chosen),
            executor,
            on_progress,
            chosen.plugins,
        )


def plan_newcomers(
    source: EmotionData, target: EmotionData | Inputs, chosen: Experiment
) -> Plan:
    """Check both recordings against an experiment and lay out its folds.

    Of the target, the labels are left behind here, if it has any. Its subjects,
    sessions, trials and stimuli are its own, whatever they are called.

    Parameters
    ----------
    source : EmotionData
        Everybody in it trains.
    target : EmotionData or Inputs
        Whom to adapt to.
    chosen : Experiment
        With the protocol `newcomers`.

    Raises
    ------
    ConfigurationError, DataError
        For anything that would fail later.

    Warns
    -----
    DomainemoWarning
        Of whatever the target lacks or has besides, and of labels in it.
    """
    _check_choices(chosen)
    source = expect_labelled(source, "the labelled recordings")
    if isinstance(target, EmotionData):
        warnings.warn(
            f"{target.inputs.name}: the labels of the newcomers were left behind and "
            f"are not used. To score a method on them, put them into the labelled "
            f"recordings and use the protocol cross-subject.",
            DomainemoWarning,
            stacklevel=2,
        )
    inputs = select_modalities(source.inputs, chosen.modalities, chosen.exclude)
    deselected = set(source.inputs.modalities) - set(inputs.modalities)
    source = replace(source, inputs=inputs).take(ordered(inputs, chosen.exclude))
    theirs = expect_inputs(target, "the newcomers")
    theirs = _fitted(_without(theirs, deselected), source.inputs)
    inputs = select_modalities(source.inputs, tuple(theirs.modalities))
    source = replace(source, inputs=inputs)
    theirs = theirs.take(ordered(theirs))
    check_source(source, chosen)
    _check_newcomers(theirs, chosen)
    joined, shown = _side_by_side(source.inputs, theirs)
    new = np.arange(len(joined)) >= len(source)
    folds = folds_of(chosen.protocol.build(), joined, shown.assign(new=new))
    folds = chosen_folds(folds, chosen.folds)
    protocol, waive = chosen.protocol.build(), chosen.more["waive"]
    waived = check_leaks(protocol, joined, folds, waive, shown)
    unknown = np.full(len(theirs), _NOBODY_KNOWS)
    classes = source.classes
    backbone = build_network(joined, len(classes), chosen)
    return Plan(
        joined,
        np.append(source.labels, unknown),
        classes,
        chosen,
        folds,
        backbone.sampling,
        shown=shown,
        target=theirs.name,
        waived=waived,
    )


def _check_choices(chosen: Experiment) -> None:
    """Refuse choices that nobody can make for people without labels."""
    name = chosen.protocol.name
    if name != "newcomers":
        raise ConfigurationError(
            f"The protocol is {name!r}; expected 'newcomers', as the people to adapt "
            f"to were given apart and have no labels to be scored by. Leave "
            f"--protocol out, or the target."
        )
    if chosen.validator is None:
        raise ConfigurationError(
            "The validator is 'oracle', which chooses by the target's labels; of "
            "newcomers there are none. Choose another one, such as --validator last."
        )
    if chosen.init_from is not None:
        raise ConfigurationError(
            f"init_from is {chosen.init_from.folder!r}; a pre-training belongs to the "
            f"folds that it was made for, and newcomers are in none. Leave it out."
        )


def check_source(source: EmotionData, chosen: Experiment) -> None:
    """Refuse labelled recordings that nothing can be learnt from."""
    check_trials(source)
    check_modalities(source.inputs)
    check_signals(source.inputs)
    there = np.unique(source.labels)
    if len(there) < 2:
        raise data_error(
            f"{source.inputs.name}, labels",
            f"the single class {source.classes[there[0]]!r}",
            "at least two classes to tell apart",
            "Give recordings of others, too.",
        )
    _check_enough(source.inputs, chosen)


def _check_newcomers(inputs: Inputs, chosen: Experiment) -> None:
    """Refuse newcomers of whom nothing is there, or nothing is left."""
    check_modalities(inputs)
    check_signals(inputs, "Interpolate it, or leave it out for all (--exclude).")
    _check_enough(inputs, chosen)


def _check_enough(inputs: Inputs, chosen: Experiment) -> None:
    check_enough(
        inputs,
        chosen.build_normalisation().by,
        [np.ones(len(inputs), dtype=bool)],
        remedy="Bring a longer recording, or choose another normalisation "
        "(--normalisation subject or source).",
    )


def _without(inputs: Inputs, deselected: set[str]) -> Inputs:
    """Return recordings without modalities that nobody wants of the source either."""
    out = set(map(spelling, deselected))
    left = [name for name in inputs.modalities if spelling(name) not in out]
    return select_modalities(inputs, tuple(left))


def _fitted(target: Inputs, source: Inputs) -> Inputs:
    """Return the newcomers' recordings in the form of the source's.

    Without the modalities that they lack: what has not been recorded of anybody whom it
    is to serve is not trained on.
    """
    found = match(
        target,
        source.modalities,
        wanted_of=source.name,
        step=step_of(source.windows),
        scales=scales_of(source, np.arange(len(source))),
    )
    for sentence in (*found.warnings, *found.notes):
        warnings.warn(sentence, DomainemoWarning, stacklevel=3)
    there = [n for n, a in found.inputs.signals.items() if not np.isnan(a).all()]
    return select_modalities(found.inputs, tuple(there))


def _side_by_side(source: Inputs, target: Inputs) -> tuple[Inputs, pd.DataFrame]:
    """Return both as one, and its provenance as tables say it.

    The target stands behind. Inside, its names are replaced by others of the source's
    kind in the same order, none of which the source has: the same number, or the same
    word, does not make the same person.
    """
    apart = {
        column: _apart(source.windows[column], target.windows[column])
        for column in PROVENANCE[:-1]
    }
    tables = source.windows, target.windows.assign(**apart)
    joined = Inputs(
        {
            name: np.concatenate([array, target.signals[name]])
            for name, array in source.signals.items()
        },
        pd.concat(tables, ignore_index=True),
        source.modalities,
        source.name,
    )
    shown = pd.concat([source.windows, target.windows], ignore_index=True)
    return joined, shown


def _apart(known: pd.Series[Any], given: pd.Series[Any]) -> NDArray[Any]:
    """Return names of the same order for `given`, of the kind of `known`, all new."""
    codes = pd.factorize(given, sort=True)[0]
    if known.dtype.kind in "iu":
        last = int(known.max())
        room = last + len(codes) < np.iinfo(np.int64).max
        first = last + 1 if room else int(known.min()) - len(codes) - 1
        return np.asarray(first + codes, dtype=np.int64)
    taken = set(known.astype(str).str.casefold())
    word = "new"
    while any(name.startswith(word) for name in taken):
        word += "-new"
    return np.array([f"{word} {code:09d}" for code in codes], dtype=object)
