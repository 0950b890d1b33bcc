"""The checks of a protocol."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from ..core import OPTIONAL, PROVENANCE, TRIAL, Protocol
from ..errors import DataError
from ..words import count
from .requirements import Check, Suite, require, require_options

__all__ = ["PROTOCOL"]


def _is_scored(check: Check) -> bool:
    return bool(getattr(check.part, "scored", True))


def _is_told_who_is_new(check: Check) -> bool:
    return not _is_scored(check) or bool(getattr(check.part, "takes_target", False))


def _windows(
    check: Check, subjects: int = 3, sessions: int = 2, trials: int = 4
) -> pd.DataFrame:
    """Return the provenance of five windows a trial; all subjects see each clip.

    A protocol that scores nobody, or whose target is given apart, is told who is new:
    the last one.
    """
    rows = [
        (subject, session, trial, f"clip {trial}", 4.0 * number)
        for subject in range(1, subjects + 1)
        for session in range(1, sessions + 1)
        for trial in range(1, trials + 1)
        for number in range(5)
    ]
    table = pd.DataFrame(rows, columns=list(PROVENANCE))
    new = {"new": table["subject"] == subjects}
    return table.assign(**new if _is_told_who_is_new(check) else {})


def _trials(windows: pd.DataFrame, rows: Any) -> set[Any]:
    part = windows.iloc[rows][TRIAL]
    return set(part.itertuples(index=False, name=None))


def _protocol_options(check: Check) -> None:
    """Require keyword-only options with defaults, and a domain."""
    require_options(check.part, required=0)
    domain = getattr(check.build(), "domain", None)
    require(domain in PROVENANCE, f"the domain {domain!r}")


def _protocol_folds(check: Check) -> None:
    """Require folds of distinct names, none empty, with rows that exist."""
    windows = _windows(check)
    folds = list(check.build().split(windows))
    names = [fold.name for fold in folds]
    require(len(folds) > 0, "no fold")
    require(len(set(names)) == len(names), f"the names {', '.join(names)}")
    for fold in folds:
        for role in ("source", "target", "test"):
            rows = np.asarray(getattr(fold, role))
            where = f"in the {role} of the fold {fold.name!r}"
            if role != "source" and not _is_scored(check) and not rows.size:
                continue  # it adapts to nobody
            require(rows.ndim == 1 and rows.size > 0, f"no rows {where}")
            require(rows.dtype.kind == "i", f"rows of type {rows.dtype} {where}")
            require(np.unique(rows).size == rows.size, f"a row twice {where}")
            inside = rows.min() >= 0 and rows.max() < len(windows)
            require(bool(inside), f"a row beyond the table {where}")


def _protocol_disjoint(check: Check) -> None:
    """Require no trial of the target or the test part in the source."""
    windows = _windows(check)
    for fold in check.build().split(windows):
        for role in ("target", "test"):
            shared = _trials(windows, fold.source) & _trials(
                windows, getattr(fold, role)
            )
            require(
                not shared,
                f"{len(shared)} trials of the {role} in the source of {fold.name!r}",
            )


def _protocol_calibration(check: Check) -> None:
    """Require no trial of calibration or validation in another part of the fold."""
    windows = _windows(check)
    for fold in check.build().split(windows):
        for apart, role in product(OPTIONAL, fold.parts):
            if apart == role:
                continue
            given = _trials(windows, fold.parts[apart])
            shared = given & _trials(windows, fold.parts[role])
            require(
                not shared,
                f"{count(len(shared), 'trial')} of {apart} in the {role} of "
                f"{fold.name!r}",
            )


def _protocol_access(check: Check) -> None:
    """Require a test part that is the target, or disjoint from it."""
    for fold in check.build().split(_windows(check)):
        if not len(fold.test):
            continue
        shared = np.intersect1d(fold.target, fold.test)
        whole = set(fold.target.tolist()) == set(fold.test.tolist())
        require(
            shared.size == 0 or whole,
            f"{shared.size} of {len(fold.test)} test windows in the target of "
            f"{fold.name!r}",
        )
        expected = "transductive" if whole else "inductive"
        require(fold.access == expected, f"{fold.name!r} called {fold.access}")


def _protocol_provenance(check: Check) -> None:
    """Require provenance to be all that a split needs, and left as it was."""
    windows = _windows(check)
    before = windows.copy(deep=True)
    list(check.build().split(windows))
    require(windows.equals(before), "the windows table changed")


def _protocol_order(check: Check) -> None:
    """Require the same folds whatever the order of rows."""
    windows = _windows(check)
    shuffled = windows.sample(frac=1, random_state=0).reset_index(drop=True)
    expected = _membership(check.build(), windows)
    for table, where in ((windows, "the second time"), (shuffled, "of shuffled rows")):
        found = _membership(check.build(), table)
        require(list(found) == list(expected), f"folds {', '.join(found)} {where}")
        for name, members in expected.items():
            require(found[name] == members, f"other windows in {name!r} {where}")


def _membership(protocol: Protocol, windows: pd.DataFrame) -> dict[str, Any]:
    def keys(rows: Any) -> set[Any]:
        return set(windows.iloc[rows].itertuples(index=False, name=None))

    return {
        fold.name: {part: keys(rows) for part, rows in fold.parts.items()}
        for fold in protocol.split(windows)
    }


def _protocol_refusal(check: Check) -> None:
    """Require recordings of one trial to be refused with a DataError."""
    if not _is_scored(check):
        return  # it asks nothing of them
    try:
        folds = list(check.build().split(_windows(check, 1, 1, 1)))
    except DataError:
        return
    require(False, f"{count(len(folds), 'fold')} and no error")


PROTOCOL: Suite = {
    "options": _protocol_options,
    "folds": _protocol_folds,
    "disjoint": _protocol_disjoint,
    "calibration": _protocol_calibration,
    "access": _protocol_access,
    "provenance_only": _protocol_provenance,
    "row_order": _protocol_order,
    "refusal": _protocol_refusal,
}
