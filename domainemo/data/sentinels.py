"""Numbers that stand for a missing value, such as -9999, which training believes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..core import Inputs, Modality
from ..errors import DomainemoWarning
from .normalisation import let_go
from .soundness import listed

__all__ = ["sentinels", "warn_of_sentinels"]

_NINES = [float(digit * length) for digit in "789" for length in range(3, 8)]
_TENS = [10.0**power for power in range(10, 39)]
_OTHERS = [999.9, 9999.9, 999.99, 9999.99, 2.0**31, float(np.finfo(np.float32).max)]
_CODES = np.array(
    [sign * code for code in (*_NINES, *_TENS, *_OTHERS) for sign in (1, -1)],
    np.float32,
)
"""What programs write for a missing value. Zeros, and the ends of an amplifier's range,
are measurements."""

_SMALLEST = float(np.abs(_CODES).min())

_TIMES = 2.0
"""How far a code lies from all other values of its channel, in ranges of these."""

_ROWS = 1024  # that are looked at together


@dataclass(frozen=True)
class _Found:
    """A code in one modality: the columns, and in which windows of any of them."""

    code: float
    columns: NDArray[np.bool_]  # channels, features
    rows: NDArray[np.int64]


def warn_of_sentinels(inputs: Inputs) -> None:
    """Warn where a number that programs write for a missing value is in the signals.

    Parameters
    ----------
    inputs : Inputs

    Warns
    -----
    DomainemoWarning
        What :func:`sentinels` says.
    """
    for text in sentinels(inputs):
        warnings.warn(text, DomainemoWarning, stacklevel=3)


def sentinels(inputs: Inputs) -> Iterator[str]:
    """Yield what is to be said of each code for a missing value in the signals.

    It is there at least twice, and far from all other values of its channel. Named are
    the modality, the channels, the value, its share, and the subjects.

    Parameters
    ----------
    inputs : Inputs
    """
    for name, modality in inputs.modalities.items():
        array = inputs.signals[name]
        for found in _codes_in(array):
            subjects = inputs.windows["subject"].iloc[found.rows].astype(str).unique()
            place = _places(modality, found.columns)
            yield (
                f"{inputs.name}, modality {name!r}, {place}: found the value "
                f"{found.code:.7g}, far from all others, in "
                f"{len(found.rows) / len(array):.1%} of the windows, of "
                f"subject{'s' * (len(subjects) > 1)} {listed(subjects.tolist())}. It "
                f"looks like a code for a missing value, and is taken for a "
                f"measurement. Replace it by NaN, which means that a value is missing."
            )


def _places(modality: Modality, columns: NDArray[np.bool_]) -> str:
    """Return the channels' names, with the feature where only some have the value."""
    names = []
    for channel, features in zip(modality.channels, columns, strict=True):
        whole = [channel] if features.all() else []
        parts = zip(modality.features, features, strict=True)
        names += whole or [f"{channel} {feature}" for feature, has in parts if has]
    return f"channel{'s' * (len(names) > 1)} {listed(names)}"


def _codes_in(array: NDArray[np.float32]) -> Iterator[_Found]:
    """Yield the codes in the signals of a modality that are far from all else."""
    hits = [_hits(start, part) for start, part in _parts(array)]
    places = np.concatenate([place for place, _ in hits], axis=1)
    values = np.concatenate([value for _, value in hits])
    if len(values) < 2:
        return
    low, high = _ranges(array)
    for code in np.unique(values):
        rows, *columns = places[:, values == code]
        counts = np.zeros(array.shape[1:], np.int64)
        np.add.at(counts, tuple(columns), 1)
        with np.errstate(invalid="ignore", over="ignore"):
            distance = np.maximum(low - code, code - high)
            # Where there is nothing else, nothing speaks for the value.
            far = (distance > _TIMES * (high - low)) | np.isnan(low)
        chosen = (counts > 1) & far
        if chosen.any():
            kept = chosen[tuple(columns)]
            yield _Found(float(code), chosen, np.unique(rows[kept]))


def _parts(array: NDArray[np.float32]) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield some windows at a time, and let go of those of a mapped file."""
    for start in range(0, len(array), _ROWS):
        yield start, array[start : start + _ROWS]
        let_go(array)


def _hits(
    start: int, part: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return where codes are, as (3, hits), and which."""
    places = np.stack(np.nonzero(np.abs(part) >= _SMALLEST))
    values = part[tuple(places)]
    known = np.isin(values, _CODES)
    return places[:, known] + np.array([[start], [0], [0]]), values[known]


def _ranges(
    array: NDArray[np.float32],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the ends of what each column holds besides codes; NaN of nothing."""
    low, high = np.full((2, *array.shape[1:]), np.nan)
    for _, part in _parts(array):
        rest = np.where(np.isin(part, _CODES), np.nan, part)
        low = np.fmin(low, np.fmin.reduce(rest))
        high = np.fmax(high, np.fmax.reduce(rest))
    return low, high
