"""The checks of a sampling."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ..core import PROVENANCE, TRIAL, Rows, Sampling
from .requirements import Check, require, require_options

__all__ = ["SAMPLING"]


def _windows(lengths: tuple[int, ...] = (1, 2, 9, 5, 12)) -> pd.DataFrame:
    """Return the provenance of trials of some lengths, of two subjects."""
    rows = [
        (subject, 1, trial, f"clip {trial}", 4.0 * number)
        for subject in (1, 2)
        for trial, length in enumerate(lengths)
        for number in range(length)
    ]
    return pd.DataFrame(rows, columns=list(PROVENANCE))


def _samples(sampling: Sampling, windows: pd.DataFrame) -> Rows:
    """Return the windows of each sample, whose form is checked."""
    rows = np.asarray(sampling.rows(windows))
    require(
        rows.ndim == 2 and rows.dtype.kind == "i",
        f"an array of shape {rows.shape} and type {rows.dtype}, not whole numbers of "
        f"shape (samples, time)",
    )
    require(len(rows) > 0, f"no sample of {len(windows)} windows")
    inside = rows.min() >= -1 and rows.max() < len(windows)
    require(bool(inside), f"rows from {rows.min()} to {rows.max()}")
    return rows


def _sampling_options(check: Check) -> None:
    """Require keyword-only options with defaults, and what one sample is."""
    require_options(check.part, required=0)
    level = getattr(check.build(), "level", None)
    levels = ("window", "sequence", "trial")
    require(level in levels, f"the level {level!r}, none of {', '.join(levels)}")


def _sampling_padding(check: Check) -> None:
    """Require windows first in every sample, none of them twice, then -1."""
    for row in _samples(check.build(), _windows()):
        kept = row[row >= 0]
        require(bool(row[0] >= 0), "a sample that begins with padding")
        require(bool((row[: len(kept)] >= 0).all()), "padding amid a sample")
        require(len(set(kept.tolist())) == len(kept), "a window twice in a sample")


def _sampling_trials(check: Check) -> None:
    """Require samples of one trial each, in order of time, and one of every trial."""
    windows, seen = _windows(), set()
    for row in _samples(check.build(), windows):
        part = windows.iloc[row[row >= 0]]
        trials = set(part[TRIAL].itertuples(index=False, name=None))
        require(len(trials) == 1, f"a sample of {len(trials)} trials")
        require(part["start"].is_monotonic_increasing, "windows out of their order")
        seen |= trials
    number = len(windows[TRIAL].drop_duplicates())
    require(len(seen) == number, f"samples of {len(seen)} of {number} trials")


def _sampling_order(check: Check) -> None:
    """Require the same samples whatever the order of rows, and the table left alone."""
    windows = _windows()
    shuffled = windows.sample(frac=1, random_state=0).reset_index(drop=True)
    expected = _provenance(check.build(), windows)
    for table, where in ((windows, "the second time"), (shuffled, "of shuffled rows")):
        before = table.copy(deep=True)
        found = _provenance(check.build(), table)
        require(found == expected, f"other samples {where}")
        require(table.equals(before), "the windows table changed")


def _provenance(sampling: Sampling, windows: pd.DataFrame) -> set[object]:
    keys = list(windows.itertuples(index=False, name=None))
    return {
        tuple(keys[each] for each in row if each >= 0)
        for row in _samples(sampling, windows)
    }


def _sampling_single(check: Check) -> None:
    """Require one window, and one trial, to make at least one sample."""
    for lengths in ((1,), (7,)):
        _samples(check.build(), _windows(lengths).query("subject == 1"))


SAMPLING = {
    "options": _sampling_options,
    "padding": _sampling_padding,
    "trials": _sampling_trials,
    "row_order": _sampling_order,
    "single": _sampling_single,
}
