"""What screening believed while a finished run trained, and how often it was right."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .. import files
from ..core import FUSION, Rows
from ..runs.folder import (
    read_arrays,
)
from ..runs.record import SCREENING, load_record
from ..runs.results import Results
from ..training.batches import majority_label
from .reading import Recordings, TrainedNetwork

__all__ = ["screening"]


def screening(
    results: Results,
    trained: list[TrainedNetwork],
    recordings: Recordings | None = None,
) -> pd.DataFrame:
    """Return what screening believed over the epochs; empty where nothing screened.

    Parameters
    ----------
    results : Results
        Tell the labels of target samples that were tested.
    trained : list of TrainedNetwork
    recordings : Recordings, optional
        Tell the labels of those that were not.

    Returns
    -------
    DataFrame
        A row per ``method``, ``fold``, ``seed`` and ``epoch``: the share of target
        samples that the fusion learns from (``consistent``), that only branches of
        single modalities learn from (``taught``) and that nothing does
        (``dropped``); and after the fact the share of right pseudo-labels among the
        first two, ``consistent_precision`` and ``taught_precision``, NaN where there
        are none or labels are not known.
    """
    tables = [
        _screening(results, each, recordings)
        for each in trained
        if files.is_expected(each.folder / SCREENING)
    ]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _screening(
    results: Results, network: TrainedNetwork, recordings: Recordings | None
) -> pd.DataFrame:
    arrays = read_arrays(network.folder / SCREENING, "labels", "members")
    weights = {
        name.removeprefix("weights/"): values > 0
        for name, values in arrays.items()
        if name.startswith("weights/")
    }
    none = np.zeros_like(arrays["labels"], dtype=bool)
    consistent = weights.pop(FUSION, none)
    taught = np.any([none, *weights.values()], axis=0) & ~consistent
    table = {
        "method": network.method,
        "fold": network.fold,
        "seed": network.seed,
        "epoch": np.arange(len(none)) + 1,
        "consistent": consistent.mean(1),
        "taught": taught.mean(1),
        "dropped": (~consistent & ~taught).mean(1),
    }
    truth = _truth(results, network, arrays["members"], recordings)
    for name, believed in (("consistent", consistent), ("taught", taught)):
        right = believed & (arrays["labels"] == truth)
        with np.errstate(invalid="ignore"):
            precision = right.sum(1) / believed.sum(1)
        table[f"{name}_precision"] = np.nan if truth is None else precision
    return pd.DataFrame(table)


def _truth(
    results: Results,
    network: TrainedNetwork,
    members: Rows,
    recordings: Recordings | None,
) -> NDArray[np.int64] | None:
    """Return the true labels of target samples, or None where they are not known."""
    if not results.scored:
        return None
    if recordings is not None:
        return majority_label(members, recordings.data.labels)
    if not np.array_equal(members, load_record(network.folder).members):
        return None
    rows = results.predictions
    for key in ("method", "fold", "seed"):
        rows = rows[rows[key] == getattr(network, key)]
    return rows["label"].to_numpy()
