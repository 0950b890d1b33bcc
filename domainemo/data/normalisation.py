"""Normalisation by what a fold allows to be seen, and whether that is enough."""

from __future__ import annotations

import mmap
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..core import Inputs, Normalisation, Rows
from ..errors import ConfigurationError, DataError, DomainemoWarning, data_error
from ..places import called, contract_error
from ..registry import find
from ..words import count, first_few
from .soundness import listed

__all__ = [
    "Learned",
    "Scale",
    "check_enough",
    "check_visible",
    "learned_of",
    "let_go",
    "normalise",
    "scale_of",
    "scales_of",
]

_FEW = 3
"""Windows up to which a group's mean and deviation say next to nothing of it."""

_ALL_BUT_EQUAL = 1e-6
"""The share of a value by which it must vary to be more than rounding."""

_GROUPS: Mapping[str, list[str]] = {
    "session": ["subject", "session"],
    "subject": ["subject"],
    "source": [],
    "nothing": [],
}
"""The columns by which windows are scaled on their own, for each way to learn."""

Learned = Mapping[str, NDArray[np.float32]]
"""What a normalisation has learned of one modality, by name."""

_TOGETHER = 1 << 19
"""Values that are looked at at once."""


@dataclass(frozen=True)
class Scale:
    """Mean and standard deviation of one modality, shape (channels, features)."""

    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]


def normalise(
    inputs: Inputs,
    method: str | Normalisation,
    *,
    source: Rows,
    target: Rows,
    by: str | None = None,
    stored: Mapping[str, Scale] | None = None,
    learned: Mapping[str, Learned] | None = None,
    out: Mapping[str, NDArray[Any]] | None = None,
) -> tuple[Inputs, dict[str, Scale]]:
    """Normalise all windows by what a fold allows to be seen.

    What is learned comes from the windows at `source` and `target` only: a held-out
    part of the target is scaled by the part that may be seen. Single missing values are
    then set to the source's mean; a window that is missing altogether stays NaN, and so
    does one for which nothing could be seen of its sensor.

    Parameters
    ----------
    inputs : Inputs
    method : str or Normalisation
    source, target : ndarray of int
        Windows whose signals may be seen; `target` serves what is learned by session
        or subject only.
    by : {"session", "subject", "source", "nothing"}, optional
        Whose windows are learned from; the method's own way by default.
    stored : mapping of str to Scale, optional
        The source's scale from an earlier call, for recordings without a source.
    learned : mapping of str to mapping, optional
        What was learned from the source, for recordings without one.
    out : mapping of str to ndarray, optional
        Arrays of the signals' shapes to write to, of any precision.

    Returns
    -------
    inputs : Inputs
        The same windows, normalised.
    scales : dict of str to Scale
        The source's scale, per modality: of the normalised values where windows are
        scaled by session or subject, else of the values as they are.

    Raises
    ------
    DataError
        If a group of windows has none that may be seen, or a value lies so far from
        those that may be that float32 cannot hold its distance.
    """
    if isinstance(method, str):
        method = find("normalisation", method)()
    assert isinstance(method, Normalisation)
    visible = np.zeros(len(inputs), dtype=bool)
    visible[source] = visible[target] = True
    scales, signals = {}, {}
    for name, array in inputs.signals.items():
        result = np.empty(array.shape, np.float32) if out is None else out[name]
        everything = np.arange(len(array))
        own = _of_kind(method, inputs.modalities[name].kind)
        way = (by or method.by) if own is method else own.by
        if columns := _columns(way):
            codes = _group_codes(inputs.name, inputs.windows, columns, visible)
            _apply_by_group(own, array, codes, visible, result)
            scale = stored[name] if stored else scale_of(result, source)
            fill = scale.mean
        else:
            scale = stored[name] if stored else scale_of(array, source)
            known = learned[name] if learned else {}
            if way == "source" and not known:
                known = _learn(own, array, source)
            _apply(own, known, array, everything, result)
            fill = _applied(own, scale.mean[None], known)[0]
        for rows in _batches(everything, result):
            if way != "nothing":
                _check_finite(inputs, name, rows, result[rows])
            result[rows] = _filled(result[rows], fill)
        signals[name], scales[name] = result, scale
    return replace(inputs, signals=signals), scales


def learned_of(inputs: Inputs, method: Normalisation, rows: Rows) -> dict[str, Learned]:
    """Return what a normalisation learns from the values at `rows`, per modality."""
    found: dict[str, Learned] = {}
    for name, array in inputs.signals.items():
        own = _of_kind(method, inputs.modalities[name].kind)
        found[name] = {} if own.by == "nothing" else _learn(own, array, rows)
    return found


def _of_kind(method: Normalisation, kind: str) -> Normalisation:
    """Return what scales a kind of sensor: the method, or one that leaves it alone."""
    if method.kinds is None or kind in method.kinds:
        return method
    left: Normalisation = find("normalisation", "none")()
    return left


def _columns(by: str) -> list[str]:
    if by not in _GROUPS:
        raise ConfigurationError(
            f"A normalisation learns by {by!r}; expected one of {', '.join(_GROUPS)}. "
            f"Correct `by` in its class."
        )
    return _GROUPS[by]


def check_visible(
    recordings: str, windows: pd.DataFrame, by: str, visible: NDArray[np.bool_]
) -> None:
    """Raise :class:`DataError` if a group of windows has no visible one."""
    if columns := _columns(by):
        _group_codes(recordings, windows, columns, visible)


def check_enough(
    inputs: Inputs,
    by: str,
    visible: Iterable[NDArray[np.bool_]],
    *,
    remedy: str,
) -> None:
    """Refuse groups of which normalisation leaves nothing; warn where it leaves little.

    One window, scaled by itself, is zero throughout, and so is a value that is the same
    in all windows. Of two or three windows hardly more is left than their order.

    Parameters
    ----------
    inputs : Inputs
    by : {"session", "subject", "source", "nothing"}
        Whose windows a normalisation learns from.
    visible : iterable of bool ndarray of shape (windows,)
        Which windows may be seen, one array per fold.
    remedy : str
        What to do about it, a sentence; ``{others}`` in it becomes the ways to
        normalise that would change something.

    Raises
    ------
    DataError
        If a group has values, and not one of them varies.

    Warns
    -----
    DomainemoWarning
        Naming groups of few windows, and values that do not vary, with their numbers.
    """
    columns = _columns(by)
    if not columns:
        return
    found = _shortages(inputs, columns, visible)
    nothing, few, constant = (first_few([*each], 6) for each in found)
    of_nothing, of_few, of_constant = (
        remedy.format(others=_others(inputs, by, {*each.values()})) for each in found
    )
    where = f"{inputs.name}, normalised per {' and '.join(columns)}"
    if nothing:
        raise DataError(
            f"{where}: nothing is left of {nothing}, because scaled by itself "
            f"what does not vary is zero throughout, whatever it was; expected "
            f"several windows that differ. {of_nothing}"
        )
    if few:
        _warn(
            f"{where}: mean and deviation come from {_FEW} windows or fewer for "
            f"{few}, so that little is left but their order. {of_few}"
        )
    if constant:
        _warn(
            f"{where}: values that are the same in all windows become zero, whatever "
            f"they were, for {constant}. {of_constant}"
        )


def _shortages(
    inputs: Inputs, columns: list[str], visible: Iterable[NDArray[np.bool_]]
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return groups of which nothing is left, of few windows, with constant values.

    In words, and of whom each is.
    """
    nothing: dict[str, Any] = {}
    few: dict[str, Any] = {}
    constant: dict[str, Any] = {}
    codes = inputs.windows.groupby(columns, sort=True).ngroup().to_numpy()
    groups = [np.flatnonzero(codes == code) for code in range(codes.max() + 1)]
    done = set()
    for mask in visible:
        for code, rows in enumerate(groups):
            seen = rows[mask[rows]]
            key = code, mask[rows].tobytes()
            if key in done or not len(seen):
                continue
            done.add(key)  # folds mostly see the same of a group
            name = ", ".join(
                f"{column} {inputs.windows[column].iloc[rows[0]]}" for column in columns
            )
            subject = inputs.windows["subject"].iloc[rows[0]]
            left = {each: _left(a[seen]) for each, a in inputs.signals.items()}
            there = {each: number for each, (number, _, _) in left.items() if number}
            if there and not any(varying for _, varying, _ in left.values()):
                nothing[f"{name}: {count(len(seen), 'window')}"] = subject
                continue
            for each, number in there.items():
                same, values = left[each][2], inputs.signals[each][0].size
                if number <= _FEW:
                    few[f"{name}: {count(number, 'window')} of {each}"] = subject
                elif same.any():
                    channels = np.array(inputs.modalities[each].channels)[same.any(1)]
                    constant[
                        f"{name}: {same.sum()} of {values} values of {each} "
                        f"({listed(channels.tolist())})"
                    ] = subject
    return nothing, few, constant


def _others(inputs: Inputs, by: str, subjects: set[Any]) -> str:
    """Return how else to normalise these subjects: by all their sessions, if several.

    Parameters
    ----------
    inputs : Inputs
    by : str
        As it is.
    subjects : set
    """
    theirs = inputs.windows[inputs.windows["subject"].isin(subjects)]
    several = theirs.groupby("subject")["session"].nunique().gt(1).any()
    wider = by == "session" and several
    return f"--normalisation {'subject or source' if wider else 'source'}"


def _left(array: NDArray[np.float32]) -> tuple[int, int, NDArray[np.bool_]]:
    """Return in how many windows a sensor is there, how many values vary, which not."""
    there = int(np.isfinite(array).any(axis=(1, 2)).sum())
    low, high = np.fmin.reduce(array, axis=0), np.fmax.reduce(array, axis=0)
    known = np.isfinite(low) & np.isfinite(high)
    least = _ALL_BUT_EQUAL * np.maximum(np.abs(low), np.abs(high))
    varying = known & (high.astype(np.float64) - low > least)
    return there, int(varying.sum()), known & ~varying


def _warn(message: str) -> None:
    warnings.warn(message, DomainemoWarning, stacklevel=3)


def scales_of(inputs: Inputs, rows: Rows) -> dict[str, Scale]:
    """Return the scale of the values as they are at `rows`, per modality."""
    return {name: scale_of(array, rows) for name, array in inputs.signals.items()}


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


def _apply_by_group(
    method: Normalisation,
    array: NDArray[np.float32],
    codes: NDArray[np.int64],
    visible: NDArray[np.bool_],
    result: NDArray[Any],
) -> None:
    """Scale every group of windows by those of its own that may be seen."""
    for code in np.unique(codes):
        group = codes == code
        seen = np.flatnonzero(group & visible)
        if all(np.isnan(array[rows]).all() for rows in _batches(seen, array)):
            result[group] = np.nan
            continue
        learned = _learn(method, array, seen)
        _apply(method, learned, array, np.flatnonzero(group), result)


def _learn(method: Normalisation, array: NDArray[np.float32], rows: Rows) -> Learned:
    """Return what is learned from some windows, and from no others."""
    with warnings.catch_warnings():
        # As NumPy does of a value that is missing in all windows.
        warnings.simplefilter("ignore", RuntimeWarning)
        found = method.fit(array[rows])
    expected = "arrays of numbers by name: a dict"
    if not isinstance(found, Mapping):
        raise contract_error(method, "fit", called(found), expected)
    try:
        return {str(k): np.asarray(value, np.float32) for k, value in found.items()}
    except (TypeError, ValueError) as error:
        wrong = f"a dict of what is no array of numbers ({error})"
        raise contract_error(method, "fit", wrong, expected) from error


def _apply(
    method: Normalisation,
    learned: Learned,
    array: NDArray[np.float32],
    rows: Rows,
    result: NDArray[Any],
) -> None:
    with np.errstate(over="ignore"):  # told later, with the place of the value
        for some in _batches(rows, array):
            result[some] = _applied(method, array[some], learned)


def _applied(
    method: Normalisation, values: NDArray[np.float32], learned: Learned
) -> NDArray[Any]:
    given = method.apply(values, learned)
    found = np.asarray(given)
    if found.shape != values.shape or found.dtype.kind not in "fiub":
        expected = f"an array of numbers of the windows' shape, {values.shape}"
        raise contract_error(method, "apply", called(given), expected)
    whole = ~np.isnan(values).any(axis=(1, 2))
    if np.isnan(found[whole]).any():
        # It would be taken for what the sensor lost, and filled or left out.
        lost = "NaN in a window of which nothing is missing"
        raise contract_error(method, "apply", lost, "a number for each of its values")
    return found


def _check_finite(
    inputs: Inputs, name: str, rows: Rows, values: NDArray[np.float32]
) -> None:
    """Refuse what would otherwise be taken for a window that the sensor lost."""
    infinite = np.isinf(values)
    if infinite.any():
        window, channel, feature = np.argwhere(infinite)[0]
        subject = inputs.windows["subject"].iloc[rows[window]]
        found = inputs.signals[name][rows[window], channel, feature]
        raise data_error(
            f"{inputs.name}, modality {name!r}, channel "
            f"{inputs.modalities[name].channels[channel]!r} of subject {subject}",
            f"the value {found:.3g}, too far from those that normalisation may see",
            "values that vary alike in all windows",
            "Correct it, or write NaN where the sensor lost the window.",
        )


def scale_of(array: NDArray[np.float32], rows: Rows) -> Scale:
    """Return the scale of the windows of one modality at `rows`, NaN left out.

    A value that never varies is left unscaled, one that is never there is 0.
    """

    def total(values: Callable[[NDArray[np.float32]], NDArray[Any]]) -> NDArray[Any]:
        """Add up over the windows, with the bits of a sum over all at once."""
        found: NDArray[Any] | None = None
        for batch in _batches(rows, array):
            part = values(array[batch])
            before = [] if found is None else [found[None]]
            found = np.concatenate([*before, part]).sum(0)
        assert found is not None
        return found

    def known(part: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.where(np.isfinite(part), part, 0).astype(np.float64)

    def spread(part: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.square(np.where(np.isfinite(part), known(part) - mean, 0))

    count = np.maximum(total(np.isfinite), 1)
    mean = total(known) / count
    deviation = np.sqrt(total(spread) / count)
    least = np.maximum(_ALL_BUT_EQUAL * np.abs(mean), np.finfo(np.float32).tiny)
    deviation[deviation <= least] = 1
    return Scale(mean.astype(np.float32), deviation.astype(np.float32))


def _filled(
    array: NDArray[np.float32], fill: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Fill single missing values; by 0 where nobody of the source has one."""
    fill = np.where(np.isfinite(fill), fill, np.float32(0))
    seen = np.isfinite(array).any(axis=(1, 2), keepdims=True)
    return np.where(np.isnan(array) & seen, fill, array)


def _batches(rows: Rows, array: NDArray[Any]) -> Iterator[Rows]:
    """Yield rows by so few that copies of them are small; at least one batch.

    A single value per window comes in one batch, as NumPy adds up what lies side by
    side in an order of its own.
    """
    width = array[0].size if len(array) else 1
    size = len(rows) if width == 1 else max(_TOGETHER // width, 1)
    for start in range(0, max(len(rows), 1), max(size, 1)):
        yield rows[start : start + size]
        let_go(array)


def let_go(array: NDArray[Any]) -> None:
    """Let the system forget what was read of a mapped file; it is read again at need.

    Its pages count as this process's memory as long as nobody else wants them.
    """
    mapped = getattr(array, "_mmap", None)
    only_read = getattr(array, "mode", None) == "r"
    if mapped is not None and only_read and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)
