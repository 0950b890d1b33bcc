"""Features that tell which trial a window is of, found without looking at a label.

A number of the trial, a clock or a code of the stimulus among the features is as good
as a label wherever everybody watches the same clips. Each gives itself away: it stays
the same throughout every trial, it counts on and on through the session, or it is the
same for everybody at the same moment, bit for bit. What a body does is none of these.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import gammaln

from ..core import TRIAL, Inputs
from .summaries import Summary, starts_of

__all__ = ["Identifying", "identifying_features"]

_CHANCE = np.log(1e-6)
"""How improbable it must be, for all features together, that shuffled windows look
so."""

_LOOKED_AT = 64
"""Moments that are looked at first: nearly all features differ at once."""

_CONSTANT = "one and the same value throughout each trial"
_CLOCK = "counting on from window to window and from trial to trial"
_SHARED = "the same for everybody at the same moment of the same {of}, bit for bit"


class Identifying(NamedTuple):
    """A feature, and how it tells trials apart.

    Attributes
    ----------
    modality, channel, feature : str
    how : str
        A phrase.
    """

    modality: str
    channel: str
    feature: str
    how: str


def identifying_features(
    inputs: Inputs, name: str, summary: Summary, among: int | None = None
) -> list[Identifying]:
    """Find the features of a modality that tell trials apart.

    Parameters
    ----------
    inputs : Inputs
        In canonical order: each session, and in it each trial, in one stretch.
    name : str
        Of the modality.
    summary : Summary
        Of its trials.
    among : int, optional
        How many features are looked at in all, where these are some of them.
    """
    values = inputs.signals[name].reshape(len(inputs), -1)
    modality = inputs.modalities[name]
    limit = _CHANCE - np.log(among or values.shape[1])
    varies = np.fmin.reduce(summary.low) < np.fmax.reduce(summary.high)
    found: dict[int, list[str]] = {}
    places = _trials(inputs.windows)
    short = _made_of_the_same(inputs.windows, places, modality.span)
    for how, columns in (
        (_CONSTANT, _constant(places, values, summary, short, limit)),
        (_CLOCK, _clocks(places, values, summary, limit)),
        *_shared(inputs.windows, values, np.flatnonzero(varies), limit),
    ):
        for column in columns:
            found.setdefault(column, []).append(how)
    width = len(modality.features)
    return [
        Identifying(
            name,
            modality.channels[column // width],
            modality.features[column % width],
            " and ".join(hows),
        )
        for column, hows in sorted(found.items())
    ]


_Places = tuple[NDArray[np.intp], NDArray[np.intp]]
"""The trial of each window, and the session of each trial."""


def _trials(windows: pd.DataFrame) -> _Places:
    """Return the trial of each window, and the session of each trial."""
    starts = starts_of(windows, TRIAL)
    sessions = windows.groupby(["subject", "session"], sort=False).ngroup().to_numpy()
    trials = np.zeros(len(windows), dtype=np.intp)
    trials[starts[1:]] = 1
    return np.cumsum(trials), np.asarray(sessions[starts], dtype=np.intp)


def _made_of_the_same(
    windows: pd.DataFrame, places: _Places, span: float | None
) -> NDArray[np.bool_]:
    """Return which trials are so short that all windows are made of the same seconds.

    A heart rate over 16 s is the same in all windows of a trial of 6 s.
    """
    trials, sessions = places
    if span is None or np.isinf(span):
        return np.zeros(len(sessions), dtype=bool)
    start = windows["start"].to_numpy(np.float64)
    first = np.minimum.reduceat(start, np.flatnonzero(np.diff(trials, prepend=-1)))
    last = np.maximum.reduceat(start, np.flatnonzero(np.diff(trials, prepend=-1)))
    return np.asarray(last - first < span)


def _constant(
    places: _Places,
    values: NDArray[np.float32],
    summary: Summary,
    short: NDArray[np.bool_],
    limit: float,
) -> Iterator[int]:
    """Yield columns that never change within a trial, and do from trial to trial."""
    trials, sessions = places
    still = (summary.low == summary.high) | np.isnan(summary.low)
    still &= np.fmin.reduce(summary.low) < np.fmax.reduce(summary.high)
    rows = ~short[trials]
    groups, blocks = trials[rows], sessions[trials[rows]]
    # At best, each trial has a value of its own; with a window each, that is nothing.
    if _pure(groups.astype(np.float64), groups, blocks) >= limit:
        return
    for column in np.flatnonzero(still[~short].all(axis=0)):
        if _pure(values[rows, column], groups, blocks) < limit:
            yield int(column)


def _pure(
    values: NDArray[np.floating], groups: NDArray[np.intp], blocks: NDArray[np.intp]
) -> float:
    """Return the log of the chance that each group holds a single value.

    Of values that are shuffled within their block: how many ways there are to give
    each group one of its block's values, among all ways to arrange these.
    """
    there = ~np.isnan(values)
    values, groups, blocks = values[there], groups[there], blocks[there]
    chance = 0.0
    for block in np.unique(blocks):
        inside = blocks == block
        _, kinds, sizes = np.unique(
            values[inside], return_inverse=True, return_counts=True
        )
        _, firsts = np.unique(groups[inside], return_index=True)
        groups_of_kind = np.bincount(kinds[firsts], minlength=len(sizes))
        ways = gammaln(len(firsts) + 1) - gammaln(groups_of_kind + 1).sum()
        chance += ways - gammaln(inside.sum() + 1) + gammaln(sizes + 1).sum()
    return float(chance)


def _clocks(
    places: _Places,
    values: NDArray[np.float32],
    summary: Summary,
    limit: float,
) -> Iterator[int]:
    """Yield columns that rise, or fall, through every trial, and never come back."""
    trials, sessions = places
    candidates = np.ones(values.shape[1], dtype=bool)
    starts = np.flatnonzero(np.diff(sessions, prepend=-1))
    for theirs in np.split(np.arange(len(sessions)), starts[1:]):
        candidates &= _apart(summary.low[theirs], summary.high[theirs])
    within = np.flatnonzero(np.diff(trials) == 0)
    if _ordered(trials, sessions[trials]) >= limit:
        return
    for column in np.flatnonzero(candidates):
        each = values[:, column].astype(np.float64)
        steps = each[within + 1] - each[within]
        if not ((steps <= 0).any() and (steps >= 0).any()):
            known = ~np.isnan(each)
            theirs = trials[known]
            if _ordered(theirs, sessions[theirs]) < limit:
                yield int(column)


def _ordered(groups: NDArray[np.intp], blocks: NDArray[np.intp]) -> float:
    """Return the log of the chance that shuffled windows stand in order of time.

    In all trials upwards, or in all downwards, and no trial between another's windows.
    """
    _, windows = np.unique(blocks, return_counts=True)
    _, firsts = np.unique(groups, return_index=True)
    _, trials = np.unique(blocks[firsts], return_counts=True)
    chance = np.log(2) + gammaln(trials + 1).sum() - gammaln(windows + 1).sum()
    return float(chance)


def _apart(low: NDArray[np.float32], high: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return in which columns the trials' ranges have no value in common."""
    order = np.argsort(low, axis=0)  # NaN comes last
    low, high = (np.take_along_axis(each, order, axis=0) for each in (low, high))
    return np.asarray(((high[:-1] < low[1:]) | np.isnan(low[1:])).all(axis=0))


def _shared(
    windows: pd.DataFrame,
    values: NDArray[np.float32],
    columns: NDArray[np.intp],
    limit: float,
) -> Iterator[tuple[str, Sequence[int]]]:
    """Yield columns that are the same for everybody, and what they are a code of."""
    met: list[NDArray[Any]] = []
    there = np.asarray(~np.isnan(values).all(axis=1))
    for of, keys in (
        ("stimulus", ["stimulus", "start"]),
        ("trial", ["session", "trial", "start"]),
    ):
        codes = windows.groupby(keys, sort=False).ngroup().to_numpy()
        people = (
            windows.loc[there, "subject"].groupby(codes[there]).transform("nunique")
        )
        several = np.zeros(len(codes), dtype=bool)
        several[there] = people > 1
        if several.any() and not any(np.array_equal(codes, each) for each in met):
            rows = np.flatnonzero(several)
            rows = rows[np.argsort(codes[rows], kind="stable")]
            yield (
                _SHARED.format(of=of),
                _alike(values, columns, rows, codes[rows], limit),
            )
        met.append(codes)


def _alike(
    values: NDArray[np.float32],
    columns: NDArray[np.intp],
    rows: NDArray[Any],
    codes: NDArray[Any],
    limit: float,
) -> list[int]:
    """Return the columns that agree within each group of rows, and differ between."""
    starts = np.flatnonzero(np.diff(codes, prepend=-1))
    spread = np.unique(np.linspace(0, len(starts) - 1, _LOOKED_AT).astype(int))
    ends = np.append(starts[1:], len(rows))
    some = np.concatenate([np.arange(starts[i], ends[i]) for i in spread])
    columns = columns[_agree(values[rows[some]], codes[some])[columns]]
    found = []
    for column in columns:
        each = values[rows, column]
        known = ~np.isnan(each)
        each, theirs = each[known], codes[known]
        whole = np.zeros(len(each), dtype=np.intp)
        alike = _agree(each[:, None], theirs)[0]
        if alike and _pure(each, theirs, whole) < limit:
            found.append(int(column))
    return found


def _agree(values: NDArray[np.float32], codes: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which columns hold, in each group, its first value or none."""
    starts = np.flatnonzero(np.diff(codes, prepend=-1))
    lengths = np.diff(starts, append=len(codes))
    first = values[np.repeat(starts, lengths)]
    agree = (values == first) | np.isnan(values) | np.isnan(first)
    return np.asarray(agree.all(axis=0))
