"""One label a trial: what is refused, and what may be done where ratings change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..core import TRIAL, EmotionData
from ..errors import data_error
from ..values import check_value
from ..words import count, first_few, in_order
from .soundness import trials_in_words

__all__ = ["TrialLabel", "check_trials", "settle", "trials_that_change"]

TrialLabel = Literal["majority", "split"]
"""What may become of a trial in which the label changes."""

_SHOWN = 5


def trials_that_change(data: EmotionData) -> list[str]:
    """Return the trials in which the label changes from window to window, in words."""
    labelled = data.inputs.windows[TRIAL].assign(label=data.labels)
    counts = labelled.groupby(TRIAL, sort=True)["label"].nunique()
    return trials_in_words(counts.index[counts > 1])


def check_trials(data: EmotionData) -> None:
    """Refuse trials in which the label changes: a sample of theirs has no one label.

    Raises
    ------
    DataError
        Naming the trials and the two things that may be done.
    """
    found = trials_that_change(data)
    if not found:
        return
    of = data.inputs.windows[TRIAL].drop_duplicates()
    raise data_error(
        f"{data.inputs.name}, labels",
        f"labels that change within {len(found)} of {count(len(of), 'trial')} "
        f"({first_few(found, _SHOWN)})",
        "one label in every window of a trial",
        "Number the trials so that each has one label; or, where windows were rated "
        "one by one, choose what becomes of such a trial: label='majority' (its "
        "commonest label) or label='split' (a trial for each run of one label), in "
        "domainemo.from_arrays or, for a table, with --set data.label=majority.",
    )


def settle(data: EmotionData, label: TrialLabel | None) -> EmotionData:
    """Return recordings in which every trial has one label.

    Parameters
    ----------
    data : EmotionData
    label : {"majority", "split"} or None
        ``"majority"`` gives every window of a trial the commonest label among them,
        the first of the classes where two are equally common. ``"split"`` makes a
        trial of every run of windows of one label, and numbers the trials of each
        session anew, from 1, in their order. None leaves all as it is.

    Returns
    -------
    EmotionData
        The very same where no label changes within a trial. Else its name says what
        was done to how many trials.

    Raises
    ------
    ConfigurationError
        If the choice is not one of these.
    """
    if label is None:
        return data
    check_value(f"{data.inputs.name}: label", label, TrialLabel)
    found = trials_that_change(data)
    if not found:
        return data
    # Trials by text in the order of their numbers, in which they were recorded.
    place = {name: n for n, name in enumerate(in_order(data.inputs.windows["trial"]))}
    ranked = data.inputs.windows.assign(trial=data.inputs.windows["trial"].map(place))
    groups = ranked.groupby(TRIAL, sort=True).ngroup()
    trials = groups.to_numpy(dtype=np.int64)
    done = {"majority": "given their commonest label", "split": "split where it does"}
    note = f"{count(len(found), 'trial')} whose label changes {done[label]}"
    inputs = replace(data.inputs, name=f"{data.inputs.name} ({note})")
    if label == "majority":
        counts = np.zeros((trials.max() + 1, len(data.classes)), dtype=np.int64)
        np.add.at(counts, (trials, data.labels), 1)
        return replace(data, inputs=inputs, labels=counts.argmax(1)[trials])
    numbers = _runs(data, trials).astype(np.int64)
    windows = inputs.windows.assign(trial=numbers)
    divided = replace(inputs, windows=windows, labelled_trials=True)
    return replace(data, inputs=divided)


def _runs(data: EmotionData, trials: NDArray[Any]) -> NDArray[np.float64]:
    """Return each window's trial once every run of one label is a trial.

    Parameters
    ----------
    data : EmotionData
    trials : ndarray of int, shape (windows,)
        Number of each window's trial, in order of subject, session and trial.
    """
    windows = data.inputs.windows
    order = np.lexsort((windows["start"].to_numpy(), trials))
    begins = np.ones(len(order), dtype=bool)
    begins[1:] = np.diff(trials[order]) != 0
    begins[1:] |= np.diff(data.labels[order]) != 0
    runs = np.empty(len(order), dtype=np.int64)
    runs[order] = begins.cumsum()
    sessions = windows.groupby(["subject", "session"], sort=True).ngroup()
    return np.asarray(pd.Series(runs).groupby(sessions.to_numpy()).rank("dense"))
