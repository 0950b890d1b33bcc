"""Smoothing of features over the windows of one trial.

Emotions change slowly, features flicker. Both smoothers but the causal one use later
windows as well: what they return of a window cannot be had while the trial still runs.
Each call sees one trial, so that nothing leaks from one into the next.

A window that the sensor lost stays lost (NaN): the others are estimated without it,
and nothing is made up in its place.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ConfigurationError, DataError

__all__ = ["linear_dynamic_system", "moving_average"]

Array = NDArray[np.float64]

_TRANSITION_VARIANCE = 0.001
_OBSERVATION_VARIANCE = 1.0
_INITIAL_VARIANCE = 0.1


def moving_average(features: NDArray[Any], span: int) -> Array:
    """Return the mean over the `span` windows centred on each window.

    At the trial's ends the mean is over the windows that are there.

    Parameters
    ----------
    features : ndarray of shape (windows, ...)
        Of one trial; NaN where the sensor lost the window.
    span : int
        An odd number of windows; 1 changes nothing.

    Returns
    -------
    ndarray of shape (windows, ...)
        NaN where the features are, and nowhere else.

    Raises
    ------
    ConfigurationError
        If the span is not an odd number above 0.
    DataError
        If there is no axis of windows, or infinity among the values.
    """
    if isinstance(span, bool) or span != int(span) or span < 1 or span % 2 == 0:
        raise ConfigurationError(
            f"Moving average: found span={span!r}; expected an odd number of windows, "
            f"1 or more, as the average is centred on a window."
        )
    flat, shape = _flat(features)
    seen = ~np.isnan(flat)
    values = np.where(seen, flat, 0.0)
    total, count = np.zeros_like(flat), np.zeros_like(flat)
    half = min(int(span) // 2, len(flat) - 1)
    # Adding shifted copies is exact where a running sum would gather rounding errors.
    for shift in range(-half, half + 1):
        to = slice(max(-shift, 0), len(flat) - max(shift, 0))
        of = slice(max(shift, 0), len(flat) - max(-shift, 0))
        total[to] += values[of]
        count[to] += seen[of]
    mean = np.where(seen, total / np.maximum(count, 1), np.nan)
    return mean.reshape(shape)


def linear_dynamic_system(features: NDArray[Any], *, causal: bool = False) -> Array:
    """Smooth each feature as a random walk that is observed with noise.

    This is the linear dynamic system of the SEED data sets with the constants of
    SEED-VII's published code: the state keeps its value from window to window but for
    a variance of 0.001, an observation adds a variance of 1, and the first state has
    the trial's mean and a variance of 0.1. Each feature of each channel is smoothed by
    itself, by a Kalman filter and the Rauch-Tung-Striebel smoother.

    Parameters
    ----------
    features : ndarray of shape (windows, ...)
        Of one trial; NaN where the sensor lost the window, which is then predicted
        from its neighbours but not returned. The constants suit features that vary by
        about 1, as differential entropy does.
    causal : bool
        Run the Kalman filter only, forward, from the first observation instead of the
        trial's mean, so that no window depends on a later one.

    Returns
    -------
    ndarray of shape (windows, ...)
        The expected state; NaN where the features are, and nowhere else.

    Raises
    ------
    DataError
        If there is no axis of windows, or infinity among the values.
    """
    flat, shape = _flat(features)
    seen = ~np.isnan(flat)
    start = _first(flat, seen) if causal else _mean(flat, seen)
    # Variances do not depend on the values: one column serves all where none is lost.
    observed = seen[:, :1] if seen.all() else seen
    means, variances = _kalman_filter(np.where(seen, flat, 0.0), observed, start)
    if not causal:
        _smooth_backward(means, variances)
    return np.where(seen, means, np.nan).reshape(shape)


def _kalman_filter(
    values: Array, observed: NDArray[np.bool_], start: Array
) -> tuple[Array, Array]:
    """Return the states' means and variances given the windows up to each one."""
    means, variances = np.empty_like(values), np.empty(observed.shape)
    mean = start
    variance = np.full(observed.shape[1], _INITIAL_VARIANCE)
    for time, value in enumerate(values):
        if time > 0:
            variance = variance + _TRANSITION_VARIANCE
        gain = variance / (variance + _OBSERVATION_VARIANCE) * observed[time]
        mean = mean + gain * (value - mean)
        variance = (1 - gain) * variance
        means[time], variances[time] = mean, variance
    return means, variances


def _smooth_backward(means: Array, variances: Array) -> None:
    """Turn filtered means into means given the whole trial, in place."""
    for time in range(len(means) - 2, -1, -1):
        gain = variances[time] / (variances[time] + _TRANSITION_VARIANCE)
        means[time] += gain * (means[time + 1] - means[time])


def _mean(flat: Array, seen: NDArray[np.bool_]) -> Array:
    total = np.where(seen, flat, 0.0).sum(axis=0)
    mean: Array = total / np.maximum(seen.sum(axis=0), 1)
    return mean


def _first(flat: Array, seen: NDArray[np.bool_]) -> Array:
    first = flat[seen.argmax(axis=0), np.arange(flat.shape[1])]
    return np.where(np.isnan(first), 0.0, first)


def _flat(features: NDArray[Any]) -> tuple[Array, tuple[int, ...]]:
    """Return the features with shape (windows, everything else), and their shape."""
    array = np.asarray(features, dtype=np.float64)
    if array.ndim == 0 or len(array) == 0:
        raise DataError(
            f"Smoothing: found an array of shape {array.shape}, expected (windows, "
            f"...) with at least one window. Give the features of one trial."
        )
    if np.isinf(array).any():
        raise DataError(
            f"Smoothing: found infinity in {int(np.isinf(array).sum())} values, "
            f"expected finite ones, or NaN where the sensor lost the window. Replace "
            f"them."
        )
    return array.reshape(len(array), -1), array.shape
