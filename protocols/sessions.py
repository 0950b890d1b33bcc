"""Sessions together, apart, or one of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from domainemo.core import Rows
from domainemo.errors import DataError
from domainemo.words import in_order

__all__ = ["by_session"]


def by_session(
    windows: pd.DataFrame, session: str | int, protocol: str
) -> Iterator[tuple[str, Rows]]:
    """Yield the windows that belong together, and what ends the names of their folds.

    Parameters
    ----------
    windows : DataFrame
        Provenance of all windows.
    session : str or int
        ``"pooled"``, ``"each"``, or the name of the one session to use.
    protocol : str
        As errors call it.

    Raises
    ------
    DataError
        If there is no such session.
    """
    sessions = windows["session"]
    if session == "pooled":
        yield "", np.arange(len(windows))
        return
    names = in_order(sessions)
    if session != "each":
        names = [name for name in names if str(name) == str(session)]
        if not names:
            known = ", ".join(map(str, in_order(sessions)))
            raise DataError(
                f"{protocol}: found no session {session!r}; expected "
                f"'pooled', 'each' or one of {known}."
            )
    for name in names:
        yield f", session {name}", np.flatnonzero(sessions == name)
