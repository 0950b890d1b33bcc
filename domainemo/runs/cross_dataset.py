"""Across data sets: one trains, another one is adapted to and tested."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np

from ..core import EmotionData, Inputs
from ..data.channels import without_the_same
from ..data.classes import share_classes
from ..data.given import expect_labelled
from ..data.labels import check_trials
from ..data.matching import channels_within_reach
from ..errors import DomainemoWarning
from ..words import count
from .beside import lay_beside
from .calibration import give_labels
from .checks import choose, ordered
from .experiment import Experiment
from .folds import chosen_folds, fit_folds, lay_out_folds
from .leaks import check_leaks
from .plan import Plan, build_network, held_out

__all__ = ["plan_cross_dataset"]


def plan_cross_dataset(
    source: EmotionData, target: EmotionData | Inputs, chosen: Experiment
) -> Plan:
    """Check two data sets against an experiment and lay out its folds.

    The target's labels are for the score, for calibration where some are given, and to
    leave out windows of classes that the source does not have.

    Parameters
    ----------
    source : EmotionData
        Everybody in it trains.
    target : EmotionData
        Each person in it is adapted to and tested.
    chosen : Experiment
        With the protocol `cross-dataset`.

    Raises
    ------
    ConfigurationError, DataError
        For anything that would fail later.

    Warns
    -----
    DomainemoWarning
        Of whatever one has and the other has not.
    """
    source = expect_labelled(source, "the source")
    target = expect_labelled(target, "the target")
    check_trials(target)
    # First, so that what is left out of them counts nobody who is left out.
    source = source.take(ordered(source.inputs, chosen.exclude))
    before = source.inputs.modalities
    source, task = choose(source, chosen, beside=target.inputs)
    theirs = without_the_same(target.inputs, before, source.inputs.modalities)
    target = replace(target, inputs=theirs)
    named = getattr(chosen.protocol.build(), "classes", None)
    source, target = share_classes(source, target, named)
    source = _with_shared_channels(source, target.inputs)
    made = lay_beside(source, target.inputs, replace(chosen, exclude=()))
    labels = np.append(made.source.labels, target.labels[made.target])
    data = EmotionData(made.inputs, labels, source.classes)
    folds = lay_out_folds(made.inputs, chosen, made.windows)
    folds, short = give_labels(data, chosen_folds(folds, chosen.folds), chosen)
    folds, unfit = fit_folds(data, folds, chosen)
    protocol, waive = chosen.protocol.build(), chosen.more["waive"]
    waived = check_leaks(protocol, made.inputs, folds, waive, made.shown)
    backbone = build_network(made.inputs, len(data.classes), chosen)
    planned = Plan(
        made.inputs,
        labels,
        data.classes,
        chosen,
        folds,
        backbone.sampling,
        short | unfit,
        shown=made.shown,
        target=made.target_name,
        waived=waived,
        task=task,
    )
    return held_out(planned)


def _with_shared_channels(source: EmotionData, target: Inputs) -> EmotionData:
    """Return the source without channels that the target lacks and cannot be given."""
    inputs = source.inputs
    signals, modalities = dict(inputs.signals), dict(inputs.modalities)
    notes = []
    for name, kept in channels_within_reach(target, inputs.modalities).items():
        channels = modalities[name].channels
        lost = [each for each in channels if each not in kept]
        if not lost:
            continue
        notes.append(f"{count(len(lost), 'channel')} of {name}")
        warnings.warn(
            f"{inputs.name}: left out of {name}, as {target.name} lacks them and they "
            f"cannot be interpolated: {', '.join(lost)}.",
            DomainemoWarning,
            stacklevel=4,
        )
        places = [channels.index(each) for each in kept]
        signals[name] = signals[name][:, places]
        modalities[name] = replace(modalities[name], channels=kept)
    if not notes:
        return source
    called = f"{inputs.name} (left out: {', '.join(notes)})"
    inputs = replace(inputs, signals=signals, modalities=modalities, name=called)
    return replace(source, inputs=inputs)
