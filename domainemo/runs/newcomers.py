"""Newcomers: recordings without labels, laid beside those that have some."""

from __future__ import annotations

import warnings

import numpy as np

from ..core import EmotionData, Inputs
from ..data.channels import without_the_same
from ..data.given import expect_inputs, expect_labelled
from ..errors import ConfigurationError, DomainemoWarning
from .beside import lay_beside
from .calibration import check_use, trials_per_class
from .checks import choose
from .experiment import Experiment
from .folds import chosen_folds, folds_of
from .leaks import check_leaks
from .plan import Plan, build_network, held_out

__all__ = ["plan_newcomers"]

_NOBODY_KNOWS = -1
"""In place of a label, where there is none."""

_OF_SOURCE = "which newcomers lack, so that all of their windows are there"


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
            f"are not used. To score a method on them, use the protocol cross-dataset, "
            f"or put them into the labelled recordings and use cross-subject.",
            DomainemoWarning,
            stacklevel=3,
        )
    theirs = expect_inputs(target, "the newcomers")
    before = source.inputs.modalities
    source, task = choose(source, chosen, whose=_OF_SOURCE, beside=theirs)
    theirs = without_the_same(theirs, before, source.inputs.modalities)
    made = lay_beside(source, theirs, chosen)
    folds = folds_of(chosen.protocol.build(), made.inputs, made.windows)
    folds = chosen_folds(folds, chosen.folds)
    protocol, waive = chosen.protocol.build(), chosen.more["waive"]
    waived = check_leaks(protocol, made.inputs, folds, waive, made.shown)
    unknown = np.full(len(made.target), _NOBODY_KNOWS)
    classes = source.classes
    backbone = build_network(made.inputs, len(classes), chosen)
    planned = Plan(
        made.inputs,
        np.append(made.source.labels, unknown),
        classes,
        chosen,
        folds,
        backbone.sampling,
        shown=made.shown,
        target=made.target_name,
        waived=waived,
        task=task,
    )
    return held_out(planned)


def _check_choices(chosen: Experiment) -> None:
    """Refuse choices that nobody can make for people without labels."""
    if chosen.validator is None:
        raise ConfigurationError(
            "The validator is 'oracle', which chooses by the target's labels; of "
            "newcomers there are none. Choose another one, such as --validator last."
        )
    if given := trials_per_class(chosen):
        raise ConfigurationError(
            f"calibration is {given}, and of newcomers no label is known that could be "
            f"given; expected 0. Where some are known, use the protocol cross-dataset, "
            f"or put these people into the labelled recordings."
        )
    check_use(chosen, ())
