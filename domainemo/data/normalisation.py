"""Normalisation as a named choice, and what it needs to see for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..core import Inputs, Rows
from ..errors import ConfigurationError, DataError, data_error

__all__ = [
    "NORMALISATIONS",
    "Normalisation",
    "Scale",
    "check_visible",
    "describe",
    "normalise",
]

Normalisation = Literal["session", "subject", "source", "none"]

NORMALISATIONS: Mapping[str, str] = {
    "session": "z-scored per subject and session (the target by its own windows)",
    "subject": "z-scored per subject (by all its visible windows)",
    "source": "z-scored by the source alone",
    "none": "not normalised",
}
"""The choices, and the words with which results describe them."""

_GROUPS: Mapping[str, list[str]] = {
    "session": ["subject", "session"],
    "subject": ["subject"],
}


@dataclass(frozen=True)
class Scale:
    """Mean and standard deviation of one modality, shape (channels, features)."""

    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]


def describe(method: str) -> str:
    """Return the words for `method`; raise where there is none of that name."""
    if method not in NORMALISATIONS:
        raise ConfigurationError(
            f"There is no normalisation called {method!r}; expected one of "
            f"{', '.join(NORMALISATIONS)}."
        )
    return NORMALISATIONS[method]


def normalise(
    inputs: Inputs,
    method: str,
    *,
    source: Rows,
    target: Rows,
    stored: Mapping[str, Scale] | None = None,
) -> tuple[Inputs, dict[str, Scale]]:
    """Normalise all windows by what a fold allows to be seen.

    Statistics come from the windows at `source` and `target` only: a held-out part of
    the target is scaled by the part that may be seen. Single missing values are then
    set to the source's mean; a window that is missing altogether stays NaN, and so
    does one for which nothing could be seen of its sensor.

    Parameters
    ----------
    inputs : Inputs
    method : {"session", "subject", "source", "none"}
    source, target : ndarray of int
        Windows whose signals may be seen; `target` serves ``session`` and
        ``subject`` only.
    stored : mapping of str to Scale, optional
        The source's scale from an earlier call, for recordings without a source.

    Returns
    -------
    inputs : Inputs
        The same windows, normalised.
    scales : dict of str to Scale
        The source's scale after the first step, per modality.

    Raises
    ------
    DataError
        If a group of windows has none that may be seen, or a value lies so far from
        those that may be that float32 cannot hold its distance.
    """
    describe(method)
    visible = np.zeros(len(inputs), dtype=bool)
    visible[source] = visible[target] = True
    scales, signals = {}, {}
    for name, array in inputs.signals.items():
        if method in _GROUPS:
            codes = _group_codes(inputs.name, inputs.windows, _GROUPS[method], visible)
            array = _standardise_groups(array, codes, visible)
            _check_finite(inputs, name, array)
        scale = stored[name] if stored else _scale(array[source])
        if method == "source":
            array = _standardise(array, scale)
            _check_finite(inputs, name, array)
        fill = np.zeros_like(scale.mean) if method == "source" else scale.mean
        signals[name] = _fill_single(array, fill)
        scales[name] = scale
    return replace(inputs, signals=signals), scales


def check_visible(
    recordings: str, windows: pd.DataFrame, method: str, visible: NDArray[np.bool_]
) -> None:
    """Raise :class:`DataError` if a group of windows has no visible one."""
    if method in _GROUPS:
        _group_codes(recordings, windows, _GROUPS[method], visible)


def _group_codes(
    recordings: str,
    windows: pd.DataFrame,
    columns: list[str],
    visible: NDArray[np.bool_],
) -> NDArray[np.int64]:
    groups = windows.groupby(columns, sort=True)
    codes = groups.ngroup().to_numpy(dtype=np.int64)
    unseen = set(codes) - set(codes[visible])
    if unseen:
        name = list(groups.indices)[min(unseen)]
        raise DataError(
            f"{recordings}: normalisation per {' and '.join(columns)} has no window "
            f"to learn from for {name}: all of them are held out. Use a coarser "
            f"normalisation (subject, source), or hold out less."
        )
    return np.asarray(codes, dtype=np.int64)


def _standardise_groups(
    array: NDArray[np.float32], codes: NDArray[np.int64], visible: NDArray[np.bool_]
) -> NDArray[np.float32]:
    result = np.empty_like(array)
    for code in np.unique(codes):
        group = codes == code
        seen = array[group & visible]
        scale = _scale(seen)
        result[group] = _standardise(array[group], scale)
        if np.isnan(seen).all():
            result[group] = np.nan
    return result


def _standardise(array: NDArray[np.float32], scale: Scale) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        found = (array - scale.mean) / scale.deviation
        if np.isinf(found).any():  # a difference of huge values, not of their quotient
            wide = array.astype(np.float64) - scale.mean
            found = (wide / scale.deviation).astype(np.float32)
    return np.asarray(found, dtype=np.float32)


def _check_finite(inputs: Inputs, name: str, array: NDArray[np.float32]) -> None:
    """Refuse what would otherwise be taken for a window that the sensor lost."""
    infinite = np.isinf(array)
    if infinite.any():
        window, channel, _ = np.argwhere(infinite)[0]
        subject = inputs.windows["subject"].iloc[window]
        found = inputs.signals[name][window, channel]
        raise data_error(
            f"{inputs.name}, modality {name!r}, channel "
            f"{inputs.modalities[name].channels[channel]!r} of subject {subject}",
            f"the value {found[np.isinf(array[window, channel])][0]:.3g}, too far from "
            f"those that normalisation may see",
            "values that vary alike in all windows",
            "Correct it, or write NaN where the sensor lost the window.",
        )


def _scale(array: NDArray[np.float32]) -> Scale:
    """Return the scale of (windows, channels, features), NaN left out.

    A value that never varies is left unscaled, one that is never there is 0.
    """
    finite = np.isfinite(array)
    count = np.maximum(finite.sum(0), 1)
    values = np.where(finite, array, 0).astype(np.float64)
    mean = values.sum(0) / count
    spread = np.where(finite, values - mean, 0)
    deviation = np.sqrt(np.square(spread).sum(0) / count)
    least = np.maximum(1e-6 * np.abs(mean), np.finfo(np.float32).tiny)
    deviation[deviation <= least] = 1
    return Scale(mean.astype(np.float32), deviation.astype(np.float32))


def _fill_single(
    array: NDArray[np.float32], fill: NDArray[np.float32]
) -> NDArray[np.float32]:
    seen = np.isfinite(array).any(axis=(1, 2), keepdims=True)
    return np.where(np.isnan(array) & seen, fill, array).astype(np.float32)
