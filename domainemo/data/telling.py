"""Identifiers that tell the label: what may be seen must not spell the answer.

Sampling, protocols and pre-training see where a window comes from. Where a trial is
called ``happy_01``, or each class has one stimulus, they see the label as well.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from typing import Any

from ..core import EmotionData
from ..errors import DomainemoWarning

__all__ = ["one_to_one", "spells", "stimulus_is_label", "warn_of_telling"]

_SHORTEST = 3
"""Letters from which on a class's name is looked for within words."""


def one_to_one(stimuli: Iterable[Any], labels: Iterable[Any]) -> bool:
    """Return whether each label has one stimulus, and each stimulus one label.

    Of a single stimulus nothing can be said but whether it is called as its label is.

    Parameters
    ----------
    stimuli, labels : iterable
        One of each per window, or per trial.
    """
    pairs = set(zip(map(str, stimuli), map(str, labels), strict=True))
    of_stimuli, of_labels = ({pair[side] for pair in pairs} for side in (0, 1))
    if len(pairs) == 1:
        return of_stimuli == of_labels
    return len(pairs) == len(of_stimuli) == len(of_labels)


def spells(identifiers: Iterable[Any], labels: Iterable[Any]) -> bool:
    """Return whether every identifier holds the name of its label.

    Parameters
    ----------
    identifiers : iterable
        Of trials, sessions or stimuli.
    labels : iterable of str
        The name of each one's class.
    """
    pairs = set(zip(identifiers, map(str, labels), strict=True))
    return bool(pairs) and all(_holds(value, label) for value, label in pairs)


def _holds(identifier: Any, label: str) -> bool:
    label = label.casefold()
    if not isinstance(identifier, str) or not label or label.isdigit():
        return False  # a number is called after many things
    text = identifier.casefold()
    words = re.split(r"[\W_]+", text)
    return label in words or (len(label) >= _SHORTEST and label in text)


def warn_of_telling(data: EmotionData) -> None:
    """Warn of identifiers from which the label can be read.

    The trial's number, where it stands for the stimulus, was not named by anybody and
    may coincide with the class.

    Warns
    -----
    DomainemoWarning
        Naming the columns.
    """
    windows = data.inputs.windows
    names = [data.classes[label] for label in data.labels.tolist()]
    spelled = {
        column: windows[column].iloc[0]
        for column in ("session", "trial", "stimulus")
        if spells(windows[column].tolist(), names)
    }
    if spelled:
        listed = " and ".join(f"the {each} ({it!r})" for each, it in spelled.items())
        _warn(
            f"{data.inputs.name}: {listed} holds the name of the class in every "
            f"window, so that whoever is shown where a window comes from is shown its "
            f"label. Number {'them' if len(spelled) > 1 else 'it'} instead."
        )
    named = (windows["stimulus"].astype(str) != windows["trial"].astype(str)).any()
    if "stimulus" not in spelled and named and stimulus_is_label(data):
        _warn(
            f"{data.inputs.name}: each class has one stimulus of its own, so that the "
            f"stimulus is the label: no stimulus can be left out, and pre-training on "
            f"moments of the same stimulus would pair by class. If it names the "
            f"emotion and not the clip, give the clip, or leave `stimulus` out."
        )


def stimulus_is_label(data: EmotionData) -> bool:
    """Return whether each of several classes has one stimulus of its own."""
    labels = data.labels.tolist()
    return len(set(labels)) > 1 and one_to_one(data.inputs.windows["stimulus"], labels)


def _warn(message: str) -> None:
    warnings.warn(message, DomainemoWarning, stacklevel=4)
