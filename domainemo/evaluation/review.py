"""A finished run, read from its folder: the tables that its report shows.

Target labels meet predictions here once more, after everything is chosen and final;
what rests on them is known after the fact and chooses nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from .. import files
from ..core import FUSION, EmotionData, Fold, Rows
from ..data.given import expect_labelled
from ..data.normalisation import normalise
from ..errors import ConfigurationError, DataError, RunError
from ..training.batches import Samples, majority_label, sample
from ..training.fit import derive_seed, reproducible
from ..training.model import Model
from .checks import select_modalities
from .experiment import SOURCE_ONLY, Experiment
from .folder import (
    ENVIRONMENT,
    check_job,
    fingerprint,
    job_folder,
    read_arrays,
    read_csv,
    read_json,
    read_stored_config,
    read_tables,
)
from .job import FACTS, HISTORY, RECORDED, SCREENING, load_record
from .predict import load_trained
from .results import Results
from .run import prepare

__all__ = [
    "Network",
    "Recordings",
    "baseline",
    "calibration",
    "class_names",
    "confusion",
    "embed",
    "histories",
    "loss_terms",
    "match_recordings",
    "networks",
    "read_results",
    "screening",
    "subject_intervals",
    "typical_fold",
]

Array = NDArray[np.float64]

_RESAMPLES = 2_000
_FEWEST_TRIALS = 5
_BINS = 10  # as in metrics.calibration_error
_EMBEDDED = 600  # samples of the source, and as many of the target, in a picture
_BATCH = 128
_NO_LOSS = ("method", "fold", "seed", "epoch", "score", "held_out")


# -------------------------------------------------------------------- what there is


def read_results(folder: Path) -> Results:
    """Read the tables of a finished run.

    Raises
    ------
    ConfigurationError
        If the folder is no run's, or the run is not finished.
    RunError
        If one of its trainings diverged.
    """
    description = read_stored_config(folder)
    path = folder / "results.parquet"
    if not files.is_expected(path):
        raise ConfigurationError(
            f"{folder}: found no results.parquet, so this run is not finished; run the "
            f"same `domainemo adapt` again, which resumes it."
        )
    table, predictions = read_tables(folder)
    _check_finite(folder, predictions)
    return Results(table, predictions, description, str(table["method"].iloc[0]))


def _check_finite(folder: Path, predictions: pd.DataFrame) -> None:
    """Refuse a run of an earlier version whose training diverged in silence."""
    columns = [name for name in predictions if str(name).startswith("p_")]
    bad = predictions[~np.isfinite(predictions[columns]).all(axis=1)]
    if len(bad):
        first = bad.iloc[0]
        raise RunError(
            f"{folder / 'predictions.parquet'}: the predictions of {first['method']} "
            f"in {first['fold']} are not all finite, so that its training diverged and "
            f"its figures mean nothing. Run it again, into a new folder."
        )


def class_names(results: Results) -> list[str]:
    """Return the names of the classes, in order."""
    columns = map(str, results.predictions.columns)
    return [name.removeprefix("p_") for name in columns if name.startswith("p_")]


def baseline(results: Results) -> str | None:
    """Return the name of source only, or None where it was not run beside the rest."""
    found = [name for name in results.methods if name.startswith(SOURCE_ONLY)]
    return found[0] if found and found[0] != results.method else None


@dataclass(frozen=True)
class Network:
    """One trained network of a run.

    Attributes
    ----------
    method, fold : str
        As in the run's tables.
    seed : int
    folder : Path
        What its training left.
    """

    method: str
    fold: str
    seed: int
    folder: Path


def networks(folder: Path, results: Results) -> list[Network]:
    """Return every trained network of a run: the adapter's, and source only.

    Raises
    ------
    DataError
        If one is missing, damaged, or was put where another belongs.
    """
    methods = {results.method: str(results.description["adapter"])}
    other = baseline(results)
    if other is not None:
        methods[other] = "none"
    found = [
        Network(method, fold, seed, job_folder(folder, fold, seed, adapter))
        for method, adapter in methods.items()
        for fold in dict.fromkeys(results.table["fold"])
        for seed in results.description["seeds"]
    ]
    for each in found:
        check_job(folder, each.folder, read_json(each.folder / FACTS, **RECORDED))
    return found


@dataclass(frozen=True)
class Recordings:
    """The recordings of a run as it saw them, with their labels.

    Attributes
    ----------
    data : EmotionData
        In canonical order, with the run's modalities and subjects only.
    folds : mapping of str to Fold
    experiment : Experiment
    """

    data: EmotionData
    folds: Mapping[str, Fold]
    experiment: Experiment


def match_recordings(
    folder: Path, data: EmotionData, experiment: Experiment
) -> Recordings:
    """Put recordings as the run saw them.

    Raises
    ------
    DataError
        If they are not those of the run, to the last value and label.
    """
    data = expect_labelled(data, "the recordings")
    rows, folds = prepare(data.inputs, experiment)
    chosen = experiment.modalities, experiment.exclude
    inputs = select_modalities(data.inputs, *chosen)
    data = replace(data, inputs=inputs).take(rows)
    environment = read_json(folder / ENVIRONMENT, recordings=str)
    if environment["recordings"] != fingerprint(data):
        raise DataError(
            f"{folder}: {data.inputs.name} are not, to the last value and label, the "
            f"recordings of this run. Name the folder of those with --data-root."
        )
    return Recordings(data, {fold.name: fold for fold in folds}, experiment)


# ----------------------------------------------------------------- from predictions


def confusion(rows: pd.DataFrame, classes: list[str]) -> pd.DataFrame:
    """Count test samples: a row per true class, a column per predicted one.

    Parameters
    ----------
    rows : DataFrame
        Of :attr:`Results.predictions`.
    classes : list of str
    """
    counts = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(counts, (rows["label"].to_numpy(), rows["predicted"].to_numpy()), 1)
    return pd.DataFrame(
        counts,
        index=pd.Index(classes, name="true"),
        columns=pd.Index(classes, name="predicted"),
    )


def calibration(rows: pd.DataFrame) -> pd.DataFrame:
    """Return how often predictions of each confidence are right.

    Parameters
    ----------
    rows : DataFrame
        Of :attr:`Results.predictions`.

    Returns
    -------
    DataFrame
        A row per bin of confidence, above ``low`` and up to ``high``: ``samples``,
        their mean ``confidence`` and their ``accuracy``; NaN in an empty bin.
    """
    probabilities = rows.filter(regex="^p_").to_numpy()
    confidence = probabilities.max(1)
    right = probabilities.argmax(1) == rows["label"].to_numpy()
    bins = np.clip(np.ceil(confidence * _BINS).astype(int) - 1, 0, _BINS - 1)
    samples = np.bincount(bins, minlength=_BINS)
    sums = (np.bincount(bins, each, _BINS) for each in (confidence, right))
    with np.errstate(invalid="ignore"):
        means = [each / samples for each in sums]
    low = np.arange(_BINS) / _BINS
    return pd.DataFrame(
        {
            "low": low,
            "high": low + 1 / _BINS,
            "samples": samples,
            "confidence": means[0],
            "accuracy": means[1],
        }
    )


def subject_intervals(results: Results) -> pd.DataFrame:
    """Return how far each subject's balanced accuracy depends on the trials there were.

    Trials are resampled, since the samples of one are not independent: within each
    fold, all seeds of a trial together.

    Returns
    -------
    DataFrame
        A row per ``method`` and ``subject``: ``low`` and ``high`` of the 95 %
        percentile bootstrap interval; NaN with fewer than five trials in a fold.
    """
    classes = len(class_names(results))
    keys = ["method", "subject"]
    rows = []
    for (method, subject), theirs in results.predictions.groupby(keys, sort=False):
        generator = np.random.default_rng(0)  # folds are drawn one after the other
        draws = [
            _resampled(part, classes, generator) for _, part in theirs.groupby("fold")
        ]
        low, high = np.quantile(np.mean(draws, axis=0), [0.025, 0.975])
        rows.append({"method": method, "subject": subject, "low": low, "high": high})
    return pd.DataFrame(rows)


def _resampled(
    rows: pd.DataFrame, classes: int, generator: np.random.Generator
) -> Array:
    """Return the balanced accuracy of resampled trials; shape (resamples,)."""
    trials = rows.groupby(["session", "trial"]).ngroup().to_numpy()
    count = int(trials.max()) + 1
    if count < _FEWEST_TRIALS:
        return np.full(_RESAMPLES, np.nan)
    counts = np.zeros((count, classes, classes))
    labels, predicted = rows["label"].to_numpy(), rows["predicted"].to_numpy()
    np.add.at(counts, (trials, labels, predicted), 1)
    often = generator.multinomial(count, np.full(count, 1 / count), size=_RESAMPLES)
    drawn = np.tensordot(often.astype(float), counts, 1)
    present = drawn.sum(2)
    recall = np.einsum("bcc->bc", drawn) / np.where(present > 0, present, 1)
    return np.asarray(recall.sum(1) / (present > 0).sum(1))


def typical_fold(results: Results) -> str:
    """Return the fold of the median gain over source only; else of median accuracy."""
    values = results.per_fold()
    other = baseline(results)
    gain = values[results.method] - (0 if other is None else values[other])
    ranked = gain.sort_values(kind="stable")
    return str(ranked.index[(len(ranked) - 1) // 2])


# --------------------------------------------------------------------- from training


def histories(trained: list[Network]) -> pd.DataFrame:
    """Return a row per network and epoch: every loss term, and scores.

    Parameters
    ----------
    trained : list of Network
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


def screening(
    results: Results, trained: list[Network], recordings: Recordings | None = None
) -> pd.DataFrame:
    """Return what screening believed over the epochs; empty where nothing screened.

    Parameters
    ----------
    results : Results
        Tell the labels of target samples that were tested.
    trained : list of Network
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
    results: Results, network: Network, recordings: Recordings | None
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
    results: Results, network: Network, members: Rows, recordings: Recordings | None
) -> NDArray[np.int64] | None:
    """Return the true labels of target samples, or None where they are not known."""
    if recordings is not None:
        return majority_label(members, recordings.data.labels)
    if not np.array_equal(members, load_record(network.folder).members):
        return None
    rows = results.predictions
    for key in ("method", "fold", "seed"):
        rows = rows[rows[key] == getattr(network, key)]
    return rows["label"].to_numpy()


# -------------------------------------------------------------------- from recordings


def embed(network: Network, recordings: Recordings) -> pd.DataFrame:
    """Return where samples of the source and the target lie in the fusion's embedding.

    The plane is that of the two largest principal components of the samples shown,
    source and target together. Of many samples some are drawn, by a fixed seed.

    Parameters
    ----------
    network : Network
    recordings : Recordings

    Returns
    -------
    DataFrame
        A row per sample: ``x``, ``y``, ``role`` (source or target, the tested
        samples), ``class`` (its true one) and ``domain``, the protocol's. The shares
        of the variance along x and y are ``attrs["explained"]``.
    """
    trained = load_trained(network.folder, recordings.experiment)
    fold, data = recordings.folds[network.fold], recordings.data
    used = np.unique(np.concatenate([fold.source, fold.target, fold.test]))
    source, target, test = (
        np.searchsorted(used, rows) for rows in (fold.source, fold.target, fold.test)
    )
    method = recordings.experiment.normalisation
    inputs, _ = normalise(data.inputs.take(used), method, source=source, target=target)
    sampling = trained.model.backbone.sampling
    domain = recordings.experiment.protocol.build().domain
    tables, places = [], []
    for role, rows in (("source", source), ("target", test)):
        samples, members = sample(inputs, rows, sampling, torch.device("cpu"))
        drawn = _drawn(len(members), role)
        members = np.where(members >= 0, used[members], -1)[drawn]
        with reproducible(recordings.experiment.training.threads):
            places.append(_embeddings(trained.model, samples, drawn))
        windows = data.inputs.windows.iloc[members[:, 0]]
        names = np.array(data.classes)[majority_label(members, data.labels)]
        columns = {"role": role, "class": names, "domain": windows[domain].to_numpy()}
        tables.append(pd.DataFrame(columns))
    plane, explained = principal_plane(np.concatenate(places))
    table = pd.concat(tables, ignore_index=True)
    table = table.assign(x=plane[:, 0], y=plane[:, 1])
    table.attrs["explained"] = explained
    return table


def _drawn(samples: int, role: str) -> NDArray[np.int64]:
    """Return the samples to show, in order."""
    generator = np.random.default_rng(derive_seed("embedding", role))
    return np.sort(generator.permutation(samples)[:_EMBEDDED])


def _embeddings(model: Model, samples: Samples, drawn: NDArray[np.int64]) -> Array:
    """Return the fusion's embeddings of some samples; shape (samples, dim)."""
    with torch.no_grad():
        parts = [
            model(*samples.batch(chunk)).embeddings[FUSION]
            for chunk in torch.split(torch.from_numpy(drawn), _BATCH)
        ]
    return torch.cat(parts).double().numpy()


def principal_plane(points: Array) -> tuple[Array, tuple[float, float]]:
    """Return points in the plane of their two largest principal components.

    Parameters
    ----------
    points : ndarray of float, shape (points, dim)

    Returns
    -------
    plane : ndarray of float, shape (points, 2)
        Each axis so directed that its point farthest from zero is positive.
    explained : tuple of float
        The share of the variance along each axis.
    """
    centred = points - points.mean(0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    plane = np.zeros((len(points), 2))
    kept = min(2, len(sizes))
    plane[:, :kept] = (left * sizes)[:, :kept]
    farthest = plane[np.abs(plane).argmax(0), [0, 1]]
    plane *= np.where(farthest < 0, -1, 1)
    shares = np.zeros(2)
    if sizes.any():
        shares[:kept] = (sizes**2 / (sizes**2).sum())[:kept]
    return plane, (float(shares[0]), float(shares[1]))
