"""The checks of a control."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..core import PROVENANCE, Control
from .requirements import Check, require, require_options

__all__ = ["CLASSES", "CONTROL", "provenance"]

CLASSES = 3
_VALUES = 6


def provenance() -> pd.DataFrame:
    """Return the provenance of three subjects, who see the same clips."""
    rows = [
        (subject, 1, trial, f"clip {trial}", 4.0 * number)
        for subject in (1, 2, 3)
        for trial in range(6)
        for number in range(3 + trial)
    ]
    return pd.DataFrame(rows, columns=list(PROVENANCE))


def _labels() -> NDArray[np.int64]:
    return provenance()["trial"].to_numpy(dtype=np.int64) % CLASSES


def _rows(subject: int) -> tuple[NDArray[np.int64], ...]:
    """Return the windows of the others; and of one subject, a third for each of three.

    To be seen, to be tested, and neither.
    """
    own = provenance()["subject"].to_numpy() == subject
    theirs = np.flatnonzero(own)
    return np.flatnonzero(~own), *(theirs[first::3] for first in range(3))


def _values(control: Control) -> NDArray[np.float64]:
    """Return values that tell the class, some of them lost; none for the blind."""
    if not control.sees_signals:
        return np.empty((len(provenance()), 0))
    generator = np.random.default_rng(0)
    values = generator.normal(size=(len(provenance()), _VALUES))
    values[np.arange(len(values)), _labels()] += 2
    values[::7] = np.nan
    return values


def _predict(
    control: Control,
    subject: int = 1,
    *,
    test: NDArray[np.int64] | None = None,
    values: NDArray[np.float64] | None = None,
    transductive: bool = False,
) -> NDArray[Any]:
    """Predict windows of one subject, as a probability of every class."""
    source, target, own, _ = _rows(subject)
    test = own if test is None else test
    target = test if transductive else target
    target = target if control.adapts else target[:0]
    values = _values(control) if values is None else values
    labels = _labels()[source]
    found = np.asarray(
        control.predict(provenance(), source, labels, target, test, values.copy())
    )
    if found.ndim == 1 and found.dtype.kind in "iu":
        inside = found.min() >= 0 and found.max() < CLASSES
        require(bool(inside), f"classes from {found.min()} to {found.max()}")
        found = np.eye(CLASSES)[found]
    require(
        found.shape == (len(test), CLASSES),
        f"an array of shape {found.shape} and type {found.dtype} for {len(test)} "
        f"windows and {CLASSES} classes",
    )
    return found


def _control_options(check: Check) -> None:
    """Require keyword-only options with defaults, words, and signals to adapt to."""
    require_options(check.part, required=0)
    control = check.build()
    words = getattr(control, "words", None)
    require(isinstance(words, str) and bool(words), f"the words {words!r}")
    able = control.sees_signals or not control.adapts
    require(able, "adapts = True without sees_signals = True")


def _control_predictions(check: Check) -> None:
    """Require a class, or a probability of every class, for each test window."""
    for transductive in (True, False):
        found = _predict(check.build(), transductive=transductive)
        fit = np.isfinite(found).all() and (found >= 0).all()
        require(bool(fit), "probabilities that are negative or not finite")
        sums = found.sum(1)
        one = np.allclose(sums, 1, atol=1e-4)
        require(bool(one), f"probabilities that add up to {sums.max():.3g}")


def _control_alone(check: Check) -> None:
    """Require each test window to be predicted by itself."""
    whole, test = _predict(check.build()), _rows(1)[2]
    some = _predict(check.build(), test=test[::2])
    require(np.allclose(some, whole[::2]), "other predictions of every second window")
    values = _values(check.build())
    values[test[1::2]] = 50
    other = _predict(check.build(), values=values)
    same = np.allclose(other[::2], whole[::2])
    require(same, "other predictions where the values of other test windows changed")


def _control_unseen(check: Check) -> None:
    """Require values of windows to be left alone that are not handed over.

    Of the target, these are all but the tested ones, unless it says that it adapts.
    """
    control, (_, target, _, neither) = check.build(), _rows(1)
    values = _values(control)
    values[neither if control.adapts else np.append(target, neither)] = 50
    same = np.allclose(_predict(control, values=values), _predict(check.build()))
    require(same, "other predictions where values changed that it was not handed")


def _control_forgets(check: Check) -> None:
    """Require nothing of one fold to be remembered in the next."""
    control = check.build()
    first = _predict(control)
    _predict(control, subject=2)
    require(np.array_equal(_predict(control), first), "other predictions after a fold")
    new = _predict(check.build())
    require(np.array_equal(new, first), "other predictions of a new object")


def _control_leaves_inputs(check: Check) -> None:
    """Require windows and labels to be left as they were."""
    control, (source, target, test, _) = check.build(), _rows(1)
    target = target if control.adapts else target[:0]
    windows, labels = provenance(), _labels()[source]
    control.predict(windows, source, labels, target, test, _values(control))
    require(windows.equals(provenance()), "the windows table changed")
    require(np.array_equal(labels, _labels()[source]), "labels changed in place")
    same = map(np.array_equal, (source, test), _rows(1)[::2])
    require(all(same), "row numbers changed in place")


CONTROL = {
    "options": _control_options,
    "predictions": _control_predictions,
    "alone": _control_alone,
    "unseen": _control_unseen,
    "forgets": _control_forgets,
    "leaves_inputs": _control_leaves_inputs,
}
