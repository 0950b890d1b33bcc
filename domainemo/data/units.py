"""Whether all people were measured in one unit, told by the scale of their values.

A change of unit multiplies a value, and so its median and its spread alike, or, where
the value is a logarithm, shifts the median and leaves the spread. People differ too,
but not a hundredfold, and not in one leap between one group of them and the rest.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core import Inputs, Modality
from ..errors import DomainemoWarning
from .normalisation import Scale

__all__ = ["distances", "warn_of_distance", "warn_of_units"]

Array = NDArray[np.float64]

_RATIO = 100.0
"""Between neighbouring people, of a median and of a spread, for a change of unit."""

_SHIFT, _SPREADS = 4.0, 5.0
"""Between neighbouring people, of the median of a logarithm: absolute (a thousandfold
amplitude is 6.9 nat), and in spreads of a person's own; the latter of other values too
where nothing else is known."""

_ALIKE = 4.0
"""The most by which spreads differ where a logarithm is only shifted."""

_FEW_WINDOWS = 2
"""Up to which nothing is said of how far a recording varies."""

_MOST_WINDOWS = 200
"""Windows of a group that are looked at, evenly drawn."""

_LOGARITHMS = re.compile(r"\bnat\b|\bln\b|ln\(|ln_|\blog|db\b|entropy", re.IGNORECASE)


@dataclass(frozen=True)
class _Groups:
    """Medians and spreads of one measure, one of each per person and session."""

    names: list[str]
    medians: Array
    spreads: Array


def warn_of_units(inputs: Inputs) -> None:
    """Warn where people's values differ as if one had been measured in another unit.

    Parameters
    ----------
    inputs : Inputs

    Warns
    -----
    DomainemoWarning
        Naming the modality, the people on both sides, and both values.
    """
    windows = inputs.windows
    codes = windows.groupby(["subject", "session"], sort=False).ngroup().to_numpy()
    groups = [np.flatnonzero(codes == code) for code in range(codes.max() + 1)]
    if len(groups) < 2:
        return
    subjects, sessions = windows["subject"], windows["session"]
    several = len(groups) > subjects.nunique()
    drawn = {
        f"subject {subjects.iloc[rows[0]]}"
        + f", session {sessions.iloc[rows[0]]}" * several: _drawn(rows)
        for rows in groups
    }
    for name, modality in inputs.modalities.items():
        found: dict[str, list[str]] = {}
        for measure, columns in _measures(modality):
            scales = _scales(inputs.signals[name], drawn, columns)
            leaps = (_leap(scales, each) for each in _logarithmic(modality, measure))
            leap = next(filter(None, leaps), None)
            if leap:
                sides, low, high = leap
                of = f" of {measure}" * bool(measure)
                found.setdefault(sides, []).append(f"{low:.3g} and {high:.3g}{of}")
        for sides, values in found.items():
            warnings.warn(
                f"{inputs.name}, modality {name!r}: between {sides} values leap as "
                f"they do from one unit to another, such as from volts to microvolts: "
                f"the medians are {'; '.join(values)}. Bring all to one unit, or, if "
                f"they are in one, compare only what is normalised per subject.",
                DomainemoWarning,
                stacklevel=3,
            )


def warn_of_distance(inputs: Inputs, scales: Mapping[str, Scale], whose: str) -> None:
    """Warn where values are so far from those they are scaled by as in another unit.

    Parameters
    ----------
    inputs : Inputs
        As they are before they are normalised.
    scales : mapping of str to Scale
        Mean and deviation of the values that they are normalised by, per modality.
    whose : str
        Of whom these are.

    Warns
    -----
    DomainemoWarning
        Naming the modality, and typical values of both.
    """
    for told in distances(inputs, scales, whose):
        warnings.warn(told, DomainemoWarning, stacklevel=3)


def distances(inputs: Inputs, scales: Mapping[str, Scale], whose: str) -> list[str]:
    """Return what :func:`warn_of_distance` warns of, a sentence per modality."""
    told = []
    for name, modality in inputs.modalities.items():
        array = inputs.signals[name]
        there = array[np.isfinite(array).any(axis=(1, 2))].astype(np.float64)
        if name not in scales or not len(there):
            continue
        with warnings.catch_warnings():  # a value that is never there
            warnings.simplefilter("ignore", RuntimeWarning)
            middle, spread = np.nanmedian(there, axis=0), np.nanstd(there, axis=0)
        if len(there) <= _FEW_WINDOWS:
            spread[:] = np.nan
        found, looks = [], set()
        for measure, columns in _measures(modality):
            own = _typical(middle, spread, columns)
            other = _typical(scales[name].mean, scales[name].deviation, columns)
            far = [
                logarithm
                for logarithm in _logarithmic(modality, measure)
                if _is_far(own, other, logarithm)
            ]
            if far:
                of = f" of {measure}" * bool(measure)
                found.append(f"{own[0]:.3g} and {other[0]:.3g}{of}")
                looks.add(_plain_factor(own[0], other[0], far[-1], modality.unit))
        if found:
            one = next(iter(looks)) if len(looks) == 1 else ""
            told.append(
                f"{inputs.name}, modality {name!r}: values lie as far from {whose} as "
                f"they do in another unit, such as volts beside microvolts: typical "
                f"are {'; '.join(found)}{one}. Bring them to one unit."
            )
    return told


_UNITS: Mapping[int, str] = {3: "millivolts and microvolts", 6: "volts and microvolts"}
"""What is written by mistake, by the powers of ten that lie between."""


def _plain_factor(own: float, other: float, logarithm: bool, unit: str) -> str:
    """Return what lies between two typical values, where units may; else nothing.

    Which logarithm it is must be told by its unit.
    """
    if not logarithm:
        decades = abs(np.log10(abs(own)) - np.log10(abs(other)))
    elif re.search(r"\bnat\b|\bln", unit, re.IGNORECASE):
        decades = abs(own - other) / np.log(10)
    else:
        return ""
    of_squares = re.search(r"\^2|²", unit) is not None
    decades /= 1 + of_squares
    nearest = min(_UNITS, key=lambda each: abs(each - decades))
    if abs(nearest - decades) > 0.5:  # people themselves differ by less, mostly
        return ""
    squared = " squared" * of_squares
    return f", about a factor of 1e{nearest}{squared}, as between {_UNITS[nearest]}"


def _typical(
    middle: NDArray[Any], spread: NDArray[Any], columns: tuple[slice, slice]
) -> tuple[float, float]:
    """Return the median of what lies in the middle, and of how far it varies."""
    there = np.isfinite(middle[columns])
    if not there.any():
        return np.nan, np.nan
    typical, varying = (np.median(each[columns][there]) for each in (middle, spread))
    return float(typical), float(varying)


def _is_far(
    own: tuple[float, float], other: tuple[float, float], logarithm: bool
) -> bool:
    """Return whether a middle and a spread are of another unit than others'.

    Comparisons with a spread of NaN, which nobody knows, decide nothing. The ratio of
    two middles alone does not either, as others' may be next to zero.
    """
    (middle, spread), (mean, deviation) = own, other
    times, shift = spread / deviation, abs(middle - mean)
    beyond = shift >= _SPREADS * deviation
    if logarithm:
        alike = not (times > _ALIKE or times < 1 / _ALIKE)
        return shift >= _SHIFT and beyond and alike
    if not middle or not mean:
        return False
    varies = beyond if np.isnan(times) else times >= _RATIO
    larger = abs(middle) >= _RATIO * abs(mean) and varies
    smaller = abs(mean) >= _RATIO * abs(middle) and times <= 1 / _RATIO
    return larger or smaller


def _drawn(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    number = min(len(rows), _MOST_WINDOWS)
    return rows[np.linspace(0, len(rows) - 1, number).astype(np.int64)]


def _measures(modality: Modality) -> Iterator[tuple[str, tuple[slice, slice]]]:
    """Yield what has a unit of its own: all electrodes alike, else each value."""
    if modality.kind == "eeg":
        yield "", (slice(None), slice(None))
        return
    for i, channel in enumerate(modality.channels):
        for j, feature in enumerate(modality.features):
            name = channel if feature == "value" else f"{channel} {feature}"
            yield name, (slice(i, i + 1), slice(j, j + 1))


def _logarithmic(modality: Modality, measure: str) -> tuple[bool, ...]:
    """Return whether a measure is a logarithm; both where it may be one.

    Features of an EEG mostly are, if no unit is told.
    """
    if modality.kind == "eeg" and not modality.unit:
        return True, False
    # Units of several features stand beside one another; names then tell them apart.
    told = measure if "," in modality.unit else f"{measure} {modality.unit}"
    return (bool(_LOGARITHMS.search(told)),)


def _scales(
    array: NDArray[np.float32],
    groups: dict[str, NDArray[np.int64]],
    columns: tuple[slice, slice],
) -> _Groups:
    """Return each group's median and spread; groups that lost the sensor are left out.

    The median is over windows and columns, the spread (the median absolute deviation
    from a column's own median) too.
    """
    names, medians, spreads = [], [], []
    for name, rows in groups.items():
        values = array[rows][:, columns[0], columns[1]].reshape(len(rows), -1)
        values = values[:, np.isfinite(values).any(axis=0)].astype(np.float64)
        if values.size:
            own = np.nanmedian(values, axis=0)
            names.append(name)
            medians.append(np.median(own))
            spreads.append(np.nanmedian(np.abs(values - own)))
    return _Groups(names, np.array(medians), np.array(spreads))


def _leap(groups: _Groups, logarithm: bool) -> tuple[str, float, float] | None:
    """Return both sides of the widest gap, and their medians, if it is wide."""
    if len(groups.names) < 2:
        return None
    sizes = groups.medians if logarithm else np.abs(groups.medians)
    if not logarithm and (sizes.min() == 0 or groups.spreads.min() == 0):
        return None
    order = np.argsort(sizes, kind="stable")
    gaps = np.diff(sizes[order] if logarithm else np.log(sizes[order]))
    below, above = np.split(order, [int(gaps.argmax()) + 1])
    low, high = (float(np.median(groups.medians[side])) for side in (below, above))
    before, after = (float(np.median(groups.spreads[side])) for side in (below, above))
    if logarithm:
        least = max(_SHIFT, _SPREADS * float(np.median(groups.spreads)))
        alike = before <= _ALIKE * after and after <= _ALIKE * before
        far = alike and gaps.max() >= least
    else:
        far = gaps.max() >= np.log(_RATIO) and after >= _RATIO * before
    names = np.array(groups.names)
    sides = (_listed(names[np.sort(side)]) for side in (below, above))
    return (" and ".join(sides), low, high) if far else None


def _listed(names: NDArray[np.str_], most: int = 4) -> str:
    text = ", ".join(names[:most].tolist())
    return text if len(names) <= most else f"{text} ({len(names) - most} more)"
