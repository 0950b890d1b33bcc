"""The checks of a control that is the run's own training, with one thing changed."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..core import TRIAL, Normalisation, Retraining
from ..normalisations.z_score import BySession
from .control import CLASSES, provenance
from .requirements import Check, require, require_options

__all__ = ["RETRAINING"]


@cache
def _known() -> tuple[pd.DataFrame, NDArray[np.int64]]:
    """Return windows and their labels, one label in each trial."""
    windows = provenance()
    return windows, windows["trial"].to_numpy(dtype=np.int64) % CLASSES


def _relabel(control: Retraining, seed: int = 0) -> NDArray[np.int64]:
    windows, labels = _known()
    generator = np.random.default_rng(seed)
    return np.asarray(control.relabel(windows.copy(), labels.copy(), generator))


def _retraining_options(check: Check) -> None:
    """Require keyword-only options with defaults, and words."""
    require_options(check.part, required=0)
    words = getattr(check.build(), "words", None)
    require(isinstance(words, str) and bool(words), f"the words {words!r}")


def _retraining_changes(check: Check) -> None:
    """Require that labels or normalisation are changed."""
    control, usual = check.build(), BySession()
    scaled = control.renormalise(usual)
    require(isinstance(scaled, Normalisation), f"{scaled!r} in place of normalisation")
    same = np.array_equal(_relabel(control), _known()[1]) and scaled is usual
    require(not same, "neither other labels nor another normalisation")
    require(usual.by == "session", "the run's own normalisation changed")


def _retraining_labels(check: Check) -> None:
    """Require a class for each window, the same in all windows of a trial."""
    found, (windows, labels) = _relabel(check.build()), _known()
    whole = found.shape == labels.shape and found.dtype.kind in "iu"
    require(whole, f"labels of shape {found.shape} and type {found.dtype}")
    inside = 0 <= found.min() <= found.max() < CLASSES
    require(bool(inside), f"classes from {found.min()} to {found.max()}")
    trials = windows.groupby(TRIAL).ngroup()
    several = pd.Series(found).groupby(trials.to_numpy()).nunique().max()
    require(several == 1, f"{several} labels in the windows of one trial")


def _retraining_repeats(check: Check) -> None:
    """Require the same labels of the same generator, whatever came before."""
    control = check.build()
    first = _relabel(control)
    _relabel(control, seed=1)
    require(np.array_equal(_relabel(control), first), "other labels after a fold")
    new = _relabel(check.build())
    require(np.array_equal(new, first), "other labels of a new object")


def _retraining_leaves_inputs(check: Check) -> None:
    """Require windows and labels to be left as they were."""
    windows, labels = _known()
    given = windows.copy(), labels.copy()
    check.build().relabel(*given, np.random.default_rng(0))
    require(given[0].equals(windows), "the windows table changed")
    require(np.array_equal(given[1], labels), "labels changed in place")


RETRAINING = {
    "options": _retraining_options,
    "changes": _retraining_changes,
    "labels": _retraining_labels,
    "repeats": _retraining_repeats,
    "leaves_inputs": _retraining_leaves_inputs,
}
