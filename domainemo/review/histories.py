"""What a finished run recorded while it trained: loss terms by epoch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ..core import FUSION
from ..runs.folder import (
    read_csv,
)
from ..runs.record import HISTORY
from ..runs.results import Results
from .reading import TrainedNetwork

__all__ = ["histories", "loss_terms"]

_NO_LOSS = ("method", "fold", "seed", "epoch", "score", "held_out")


def histories(trained: list[TrainedNetwork]) -> pd.DataFrame:
    """Return a row per network and epoch: every loss term, and scores.

    Parameters
    ----------
    trained : list of TrainedNetwork
    """
    tables = []
    for each in trained:
        table = read_csv(each.folder / HISTORY)
        table = table.replace([np.inf, -np.inf], np.nan)
        keys: dict[str, Any] = {"method": each.method, "fold": each.fold}
        tables.append(table.assign(**keys, seed=each.seed))
    return pd.concat(tables, ignore_index=True)


def loss_terms(results: Results, history: pd.DataFrame) -> dict[str, dict[str, str]]:
    """Return the columns that hold the adapter's losses, by term and by branch.

    An adapter that stands alone names its losses by branch; the term is then called
    as the adapter. A loss of no branch has the branch ``""``.

    Parameters
    ----------
    results : Results
    history : DataFrame
        From :func:`histories`.
    """
    branches = {FUSION, *str(results.table["modalities"].iloc[0]).split(", ")}
    mine = history[history["method"] == results.method]
    terms: dict[str, dict[str, str]] = {}
    for column in map(str, mine):
        if column in _NO_LOSS or mine[column].isna().all():
            continue
        term, _, branch = column.rpartition(".")
        if branch not in branches:
            term, branch = column, ""
        term = term or str(results.description["adapter"])
        terms.setdefault(term, {})[branch] = column
    return terms
