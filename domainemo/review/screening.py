"""What screening believed while a finished run trained, and how often it was right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .. import files
from ..core import FUSION, Rows
from ..runs.folder import read_arrays
from ..runs.record import SCREENING, load_record
from ..runs.results import Results
from ..training.batches import majority_label
from .reading import Recordings, TrainedNetwork

__all__ = ["pooled", "screening"]


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
        (``dropped``), after all gates. ``contradicted`` are taught by branch: how
        many times, for each sample, a modality learns a label that the judge's own
        branch did not give. ``NAME_count`` is how many there are of the first two and
        of these, and ``NAME_precision``, after the fact, the share of right labels
        among them; ``own_precision`` is that of the opinions contradicted. They are
        NaN where there are none, or labels are not known, or a run of an earlier
        version recorded no opinions.
    """
    tables = [
        _screening(results, each, recordings)
        for each in trained
        if files.is_expected(each.folder / SCREENING)
    ]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def pooled(table: pd.DataFrame, name: str) -> tuple[float, int]:
    """Return the precision over all rows, each sample counting alike, and of how many.

    Parameters
    ----------
    table : DataFrame
        From :func:`screening`.
    name : {"consistent", "taught", "contradicted", "own"}

    Returns
    -------
    precision : float
        NaN where nothing is known.
    count : int
    """
    counts = table[f"{'contradicted' if name == 'own' else name}_count"]
    known = table[f"{name}_precision"].notna() & (counts > 0)
    number = int(counts[known].sum())
    if not number:
        return float("nan"), 0
    right = (table[f"{name}_precision"] * counts)[known].sum()
    return float(right / number), number


def _screening(
    results: Results, network: TrainedNetwork, recordings: Recordings | None
) -> pd.DataFrame:
    arrays = read_arrays(network.folder / SCREENING, "labels", "members")
    labels = arrays["labels"]
    weights = {name: each > 0 for name, each in _by_branch(arrays, "weights").items()}
    opinions = _by_branch(arrays, "opinions")
    none = np.zeros_like(labels, dtype=bool)
    consistent = weights.pop(FUSION, none)
    learned = np.any([none, *weights.values()], axis=0) & ~consistent
    # By modality, side by side; what was not recorded is taken for no contradiction.
    own = np.concatenate(
        [labels[:, :0], *(opinions.get(name, labels) for name in weights)], axis=1
    )
    given = np.tile(labels, len(weights))
    against = np.concatenate([none[:, :0], *weights.values()], axis=1) & (own != given)
    truth = _truth(results, network, arrays["members"], recordings)
    table: dict[str, Any] = {
        "method": network.method,
        "fold": network.fold,
        "seed": network.seed,
        "epoch": np.arange(len(none)) + 1,
        "consistent": consistent.mean(1),
        "taught": learned.mean(1),
        "dropped": (~consistent & ~learned).mean(1),
        "consistent_count": consistent.sum(1),
        "taught_count": learned.sum(1),
        "contradicted_count": against.sum(1),
    }
    for name, which, labelled in (
        ("consistent", consistent, labels),
        ("taught", learned, labels),
        ("contradicted", against, given),
        ("own", against, own),
    ):
        table[f"{name}_precision"] = np.nan
        if truth is not None:
            right = which & (
                labelled == np.tile(truth, which.shape[1] // max(len(truth), 1))
            )
            with np.errstate(invalid="ignore"):
                table[f"{name}_precision"] = right.sum(1) / which.sum(1)
    return pd.DataFrame(table)


def _by_branch(
    arrays: Mapping[str, NDArray[Any]], what: str
) -> dict[str, NDArray[Any]]:
    """Return the arrays ``WHAT/BRANCH`` by branch."""
    return {
        name.removeprefix(f"{what}/"): values
        for name, values in arrays.items()
        if name.startswith(f"{what}/")
    }


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
