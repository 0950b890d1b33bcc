"""The checks of a normalisation."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .requirements import Check, require, require_options

__all__ = ["NORMALISATION"]

Array = NDArray[np.float32]


def _windows(seed: int = 0, windows: int = 40) -> Array:
    """Return windows of a sensor; two lost, single values missing, channels apart."""
    generator = np.random.default_rng(seed)
    offset, width = generator.normal(0, 20, (5, 3)), generator.uniform(0.1, 9, (5, 3))
    values = generator.normal(offset, width, (windows, 5, 3))
    values[[3, 11]] = np.nan
    values[generator.random(values.shape) < 0.05] = np.nan
    return values.astype(np.float32)


def hostile() -> Mapping[str, Array]:
    """Return what recordings hold sooner or later, by how it is called."""
    lost, constant, zero = _windows(), _windows(), _windows()
    lost[:, 2] = np.nan
    constant[:, 1, 0] = 7.5
    zero[:, 3] = 0
    return {
        "of windows with gaps": _windows(),
        "with a channel that is never there": lost,
        "with a value that never varies": constant,
        "with a channel that is all zero": zero,
        "of two windows": _windows()[:2],
        "of values in square volts": _windows() * np.float32(1e-13),
    }


def _learn(check: Check, seen: Array) -> dict[str, Array]:
    """Learn as a fold does, if there is anything to learn."""
    made = check.build()
    if made.by == "nothing":
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        learned = made.fit(seen)
    return {name: np.asarray(value, np.float32) for name, value in learned.items()}


def _apply(made: Any, values: Array, learned: Mapping[str, Array]) -> Array:
    found = np.asarray(made.apply(values, learned), np.float32)
    require(
        found.shape == values.shape,
        f"the shape {found.shape} of windows of shape {values.shape}",
    )
    return found


def _normalisation_options(check: Check) -> None:
    """Require keyword-only options with defaults, words, and whose windows teach it."""
    require_options(check.part, required=0)
    made = check.build()
    words, by = getattr(made, "words", None), getattr(made, "by", None)
    require(isinstance(words, str) and bool(words), f"the words {words!r}")
    ways = ("session", "subject", "source", "nothing")
    require(by in ways, f"by = {by!r}, which is none of {', '.join(ways)}")
    kinds = made.kinds
    named = isinstance(kinds, tuple) and all(isinstance(each, str) for each in kinds)
    require(kinds is None or named, f"kinds = {kinds!r}, which is no tuple of words")


def _normalisation_values(check: Check) -> None:
    """Require every value that is there to stay there, finite, in an array alike."""
    for where, values in hostile().items():
        found = _apply(check.build(), values, _learn(check, values))
        there = np.isfinite(values)
        lost = int((~np.isfinite(found[there])).sum())
        require(not lost, f"{lost} of {there.sum()} values not finite {where}")


def _normalisation_missing(check: Check) -> None:
    """Require a window that the sensor lost to stay NaN."""
    values = _windows()
    found = _apply(check.build(), values, _learn(check, values))
    made_up = int(np.isfinite(found[np.isnan(values).all(axis=(1, 2))]).sum())
    require(not made_up, f"{made_up} values in windows that were lost")


def _normalisation_alone(check: Check) -> None:
    """Require each window to be scaled by itself, whatever else it is handed with."""
    seen, later = _windows(), _windows(seed=1)
    learned = _learn(check, seen)
    together = _apply(check.build(), later, learned)
    for row in range(len(later)):
        one = _apply(check.build(), later[row : row + 1], learned)[0]
        same = np.allclose(one, together[row], rtol=1e-4, atol=1e-5, equal_nan=True)
        require(same, f"window {row} scaled otherwise among {len(later)}")


def _normalisation_learned(check: Check) -> None:
    """Require what `fit` returned to be all that a new object needs."""
    seen, later = _windows(), _windows(seed=1)
    made = check.build()
    learned = _learn(check, seen)
    if made.by != "nothing":
        made.fit(seen)
        made.fit(later)  # of another person, in between
    first = _apply(made, later, learned)
    second = _apply(check.build(), later, learned)
    require(
        np.array_equal(first, second, equal_nan=True),
        "another result of an object that had learned from other windows since",
    )


def _normalisation_leaves_inputs(check: Check) -> None:
    """Require the windows it is handed to be left as they were."""
    seen, before = _windows(), _windows()
    learned = _learn(check, seen)
    kept = {name: value.copy() for name, value in learned.items()}
    _apply(check.build(), seen, learned)
    require(np.array_equal(seen, before, equal_nan=True), "windows changed in place")
    for name, value in kept.items():
        same = np.array_equal(value, learned[name], equal_nan=True)
        require(same, f"{name!r}, which it had learned, changed in place")


NORMALISATION = {
    "options": _normalisation_options,
    "values": _normalisation_values,
    "missing": _normalisation_missing,
    "alone": _normalisation_alone,
    "learned": _normalisation_learned,
    "leaves_inputs": _normalisation_leaves_inputs,
}
