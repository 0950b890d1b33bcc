"""What networks predicted in a benchmark, of every window; and, apart from it, labels.

For the benchmarks that ask what could be known of a person without labels: what
:func:`read` returns was read without the column of labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow.parquet as parquet
from numpy.typing import NDArray

__all__ = [
    "LINEAR",
    "SOURCE",
    "Place",
    "balanced_accuracy",
    "calibration_errors",
    "labels_of",
    "read",
]

Values = NDArray[np.float64]

SOURCE, LINEAR = "source only", "logistic regression"
WINDOW = ["subject", "session", "trial", "start"]
_BINS = 10


@dataclass(frozen=True)
class Place:
    """What one network, around which all adapters were put, predicted of a data set.

    Parameters
    ----------
    dataset, backbone : str
    windows : DataFrame
        Subject, session, trial and start of each window of all test people, sorted.
    predicted : mapping of str to ndarray, shape (seeds, windows, classes)
        Probabilities by method, source only among them.
    linear : ndarray, shape (windows, classes)
        Those of logistic regression.
    """

    dataset: str
    backbone: str
    windows: pd.DataFrame
    predicted: Mapping[str, Values]
    linear: Values


def read(
    output: Path, *, called: Literal["method", "entry"] = "method"
) -> Iterator[Place]:
    """Yield what was predicted at each place of a benchmark, without labels.

    Parameters
    ----------
    output : Path
        Of ``domainemo benchmark``, with a `cross-subject` study of each data set.
    called : {"method", "entry"}
        How adapters are called: as their predictions say, or as the benchmark's file
        does, where one adapter is there with several options.

    Raises
    ------
    SystemExit
        If there is nothing to read, or two methods predicted different windows.
    """
    folders = sorted(output.glob("cells/*/cross-subject"))
    if not folders:
        raise SystemExit(f"no cells/DATASET/cross-subject below {output}")
    for folder in folders:
        linear = _linear(folder)
        for network in sorted(path for path in folder.iterdir() if path.is_dir()):
            yield _place(network, linear, called == "entry")


def _place(network: Path, linear: tuple[pd.DataFrame, Values], by_entry: bool) -> Place:
    predicted = {}
    windows, probabilities = linear
    for path in sorted(network.glob("*/predictions.parquet")):
        base = path.parent.name == "none"
        name, own, values = _cell(path, SOURCE if base else None)
        if not own.equals(windows):
            raise SystemExit(f"{path}: not the windows of {LINEAR}")
        predicted[path.parent.name if by_entry and not base else name] = values
    dataset, _, backbone = network.parts[-3:]
    if SOURCE not in predicted:
        raise SystemExit(f"no {SOURCE} below {network}")
    return Place(dataset, backbone, windows, predicted, probabilities[0])


def _linear(folder: Path) -> tuple[pd.DataFrame, Values]:
    """Return windows and predictions of logistic regression, alike for all networks."""
    for path in sorted(folder.glob("*/none/predictions.parquet")):
        methods = parquet.read_table(path, columns=["method"])["method"]
        if LINEAR in methods.unique().to_pylist():
            return _cell(path, LINEAR)[1:]
    raise SystemExit(f"no predictions of {LINEAR} below {folder}")


def _cell(path: Path, method: str | None) -> tuple[str, pd.DataFrame, Values]:
    """Return a method, its windows and its probabilities: all that is read of a file.

    Without a method, that of the file's only one.
    """
    classes = [n for n in parquet.read_schema(path).names if n.startswith("p_")]
    table = parquet.read_table(
        path,
        columns=["method", "seed", *WINDOW, *classes],
        filters=[("method", "==", method)] if method else None,
    ).to_pandas()
    (name,) = table["method"].unique()
    table = table.sort_values(["seed", *WINDOW], kind="stable", ignore_index=True)
    seeds = table["seed"].nunique()
    values = table[classes].to_numpy(np.float64).reshape(seeds, -1, len(classes))
    windows = table.loc[: values.shape[1] - 1, WINDOW]
    repeated = pd.concat([windows] * seeds, ignore_index=True)
    if not table[WINDOW].equals(repeated):
        raise SystemExit(f"{path}: seeds of other windows, or a window twice")
    return str(name), windows, values


def labels_of(output: Path, dataset: str, windows: pd.DataFrame) -> NDArray[np.int64]:
    """Return the labels of windows, to score what was predicted without them.

    Parameters
    ----------
    output : Path
    dataset : str
    windows : DataFrame
        Of a place.
    """
    folder = output / "cells" / dataset / "cross-subject"
    path = min(folder.glob("*/none/predictions.parquet"))
    table = parquet.read_table(
        path, columns=[*WINDOW, "label"], filters=[("method", "==", SOURCE)]
    ).to_pandas()
    known = table.drop_duplicates().set_index(WINDOW)["label"]
    return known.loc[pd.MultiIndex.from_frame(windows)].to_numpy(np.int64)


def balanced_accuracy(
    predicted: NDArray[np.int64], labels: NDArray[np.int64], people: NDArray[np.int64]
) -> Values:
    """Return each person's mean over classes of the share that is recognised.

    Parameters
    ----------
    predicted : ndarray of int, shape (..., windows)
    labels : ndarray of int, shape (windows,)
    people : ndarray of int, shape (windows,)
        From 0.

    Returns
    -------
    ndarray, shape (..., people)
    """
    counts = np.zeros((people.max() + 1, labels.max() + 1))
    np.add.at(counts, (people, labels), 1)
    weight = 1 / (counts[people, labels] * (counts > 0).sum(1)[people])
    shares = (people == np.arange(people.max() + 1)[:, None]) * weight
    found: Values = (predicted == labels) @ shares.T
    return found


def calibration_errors(
    probabilities: Values, labels: NDArray[np.int64], people: NDArray[np.int64]
) -> Values:
    """Return each person's expected calibration error in ten equal bins.

    Parameters
    ----------
    probabilities : ndarray, shape (seeds, windows, classes)
    labels, people : ndarray of int, shape (windows,)

    Returns
    -------
    ndarray, shape (seeds, people)
    """
    confidence = probabilities.max(-1)
    gaps = confidence - (probabilities.argmax(-1) == labels)
    bins = np.clip(np.ceil(confidence * _BINS).astype(int) - 1, 0, _BINS - 1)
    number = people.max() + 1
    sums = [
        np.bincount(people * _BINS + place, gap, number * _BINS)
        for place, gap in zip(bins, gaps, strict=True)
    ]
    by_bin = np.abs(np.stack(sums)).reshape(len(sums), number, _BINS).sum(-1)
    found: Values = by_bin / np.bincount(people)
    return found
