"""What trained folds attend to on their test windows, and what they cannot do without.

Nothing here reads a label: classes are those that the network predicted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ..backbones.explanation import Explainable
from ..core import EmotionData, Fold, Inputs
from ..data.normalisation import normalise
from ..errors import ConfigurationError, DataError
from ..runs.calibration import restored
from ..runs.checks import choose_inputs, prepare
from ..runs.experiment import Experiment, method_name
from ..runs.folds import lay_out_folds
from ..runs.model import Model, find_all_trained, load_trained
from ..runs.record import load_record
from ..training.batches import Samples, sample
from ..training.fit import predict
from ..training.seeds import reproducible

__all__ = ["Interpretation", "find_folds", "interpret"]

Array = NDArray[np.float64]

_BATCH = 32  # attention over whole trials is large
_LAGS = ["subject", "companion", "region", "lag", "attention", "ratio", "pairs"]
_SAME = 0.01  # a GPU's probabilities may differ by so much from a CPU's


@dataclass(frozen=True)
class Interpretation:
    """Attention of trained folds, averaged over their test samples.

    Every table has the columns ``adapter``, ``fold``, ``seed`` and ``subject``.

    Attributes
    ----------
    regions : DataFrame
        A row per predicted class and brain region: ``attention``, the mean weight of
        the region, which sums to one over regions; ``occlusion``, by how much the
        probability of the predicted class falls where the region's electrodes show
        their mean over the session; ``samples``, how many the means are over. Samples
        without EEG are left out.
    moments : DataFrame
        A row per companion and pair of windows: ``eeg_window`` listens to
        ``companion_window``, counted from 1 within a sample. ``attention`` is the mean
        weight over regions, heads and samples, ``ratio`` how many times even attention
        it is, ``pairs`` in how many samples both windows were recorded.
    lags : DataFrame
        A row per companion, region and ``lag``, the companion's window less the EEG's:
        a positive one is later. ``attention``, ``ratio`` and ``pairs`` as above.
    electrodes : mapping of str to tuple of str
        The electrodes of each region.
    name : str
        Of the recordings.
    backbone : str
    """

    regions: pd.DataFrame
    moments: pd.DataFrame
    lags: pd.DataFrame
    electrodes: Mapping[str, tuple[str, ...]]
    name: str
    backbone: str


def find_folds(
    run: Path,
    experiment: Experiment,
    *,
    fold: str | None = None,
    adapter: str | None = None,
    seed: int | None = None,
) -> list[Path]:
    """Return the folders of trained folds that can be interpreted.

    Parameters
    ----------
    run : Path
        A run's folder.
    experiment : Experiment
        Of that run.
    fold : str, optional
        All by default.
    adapter : str, optional
        The run's own by default; ``"none"`` is source only.
    seed : int, optional
        All by default.

    Raises
    ------
    ConfigurationError
        If none fits, the backbone offers no attention over regions, or the run tested
        nobody in its labelled recordings.
    """
    protocol = experiment.protocol.build()
    if protocol.takes_target or not protocol.scored:
        raise ConfigurationError(
            f"{run}: its protocol, {experiment.protocol.name!r}, tests nobody in the "
            f"labelled recordings, and no others are read again here; expected a run "
            f"that does, such as one of cross-subject. `domainemo predict` applies the "
            f"networks of this one."
        )
    chosen = adapter or experiment.adapter.name
    found = find_all_trained(run, fold=fold, adapter=chosen, seed=seed)
    _explainable(load_trained(found[0], experiment))
    return found


def interpret(
    folders: Sequence[Path],
    experiment: Experiment,
    recordings: EmotionData | Inputs,
    on_fold: Callable[[str], None] | None = None,
) -> Interpretation:
    """Interpret trained folds on the windows they were tested on.

    Parameters
    ----------
    folders : sequence of Path
        From :func:`find_folds`.
    experiment : Experiment
        Of the run they belong to.
    recordings : EmotionData or Inputs
        The run's. Labels are looked at where the run chose classes, and only to leave
        out the same windows.
    on_fold : callable, optional
        Called with each fold's name before it is interpreted.

    Raises
    ------
    DataError
        If these are not the recordings that the folds were tested on.
    """
    inputs, _ = choose_inputs(recordings, experiment)
    inputs, _ = prepare(inputs, experiment)
    by_name = {fold.name: fold for fold in lay_out_folds(inputs, experiment)}
    tables: list[tuple[pd.DataFrame, ...]] = []
    electrodes: Mapping[str, tuple[str, ...]] = {}
    for folder in folders:
        record = load_record(folder)
        keys = {key: record.facts[key] for key in ("adapter", "fold", "seed")}
        if on_fold is not None:
            on_fold(
                f"{keys['fold']}, {method_name(keys['adapter'])}, seed {keys['seed']}"
            )
        fold = by_name.get(keys["fold"])
        if fold is None:
            raise _other_recordings(folder, inputs)
        fold = restored(fold, inputs.windows, record.facts, folder)
        trained = load_trained(folder, experiment)
        electrodes = _explainable(trained).electrodes
        made = _interpret_fold(trained, inputs, fold)
        _check_same(folder, inputs, made.probabilities, record.probabilities)
        tables.append(
            tuple(_with_keys(each, keys) for each in (made.regions, *made.temporal))
        )
    regions, moments, lags = (
        pd.concat(each, ignore_index=True) for each in zip(*tables, strict=True)
    )
    return Interpretation(
        regions, moments, lags, electrodes, inputs.name, experiment.backbone.name
    )


@dataclass(frozen=True)
class _FoldTables:
    """One fold's tables, and the probabilities of its samples' classes."""

    regions: pd.DataFrame
    temporal: tuple[pd.DataFrame, pd.DataFrame]
    probabilities: NDArray[np.float32]


def _interpret_fold(trained: Model, inputs: Inputs, fold: Fold) -> _FoldTables:
    """Interpret one trained fold on its test windows."""
    backbone = _explainable(trained)
    samples, members, windows = _test_samples(trained, inputs, fold)
    with reproducible(trained.experiment.training.threads):
        probabilities = predict(
            trained.network, trained.adapter, samples, trained.temperature
        )
        frame = pd.DataFrame(
            {
                "subject": windows["subject"].to_numpy()[members[:, 0]],
                "predicted": np.array(trained.classes)[probabilities.argmax(1)],
            }
        )
        falls = _occlusion(trained, samples, windows, probabilities)
        spatial, there, temporal = _attention(trained, samples, frame["subject"])
    rows = [
        frame.assign(region=region, attention=spatial[:, k], occlusion=falls[:, k])
        for k, region in enumerate(backbone.electrodes)
    ]
    return _FoldTables(_mean_regions(rows, there), temporal, probabilities)


def _test_samples(
    trained: Model, inputs: Inputs, fold: Fold
) -> tuple[Samples, NDArray[np.int64], pd.DataFrame]:
    """Return the test samples as the fold saw them, their windows, and the table."""
    inputs, fold = inputs.take(fold.used), fold.renumbered(fold.used)
    method = trained.experiment.build_normalisation()
    normalised, _ = normalise(inputs, method, source=fold.source, target=fold.seen)
    part = normalised.take(fold.test)
    sampling = trained.network.backbone.sampling
    everything = np.arange(len(part))
    samples, members = sample(part, everything, sampling, torch.device("cpu"))
    return samples, members, part.windows


def _mean_regions(
    rows: Sequence[pd.DataFrame], there: NDArray[np.bool_]
) -> pd.DataFrame:
    """Return means over the samples that have EEG, in the order of the regions."""
    keys = ["subject", "predicted", "region"]
    table = pd.concat([each[there] for each in rows], ignore_index=True)
    return table.groupby(keys, sort=False, as_index=False).agg(
        attention=("attention", "mean"),
        occlusion=("occlusion", "mean"),
        samples=("attention", "size"),
    )


def _occlusion(
    trained: Model,
    samples: Samples,
    windows: pd.DataFrame,
    probabilities: NDArray[np.float32],
) -> Array:
    """Return how far the predicted class falls without each region.

    A region's electrodes are set to their mean over the session's test windows: the
    level stays, what varies goes.

    Returns
    -------
    ndarray of shape (samples, regions)
    """
    backbone = _explainable(trained)
    signal, present = samples.signals[backbone.eeg], samples.present[backbone.eeg]
    groups = windows.groupby(["subject", "session"]).ngroup().to_numpy()
    means = torch.zeros_like(signal)
    for group in np.unique(groups):
        here = torch.from_numpy(groups == group) & present
        means[here] = signal[here].mean(0)
    channels = trained.modalities[backbone.eeg].channels
    chosen = probabilities.argmax(1)
    each = np.arange(len(samples))
    falls = []
    for electrodes in backbone.electrodes.values():
        places = [channels.index(name) for name in electrodes]
        occluded = signal.clone()
        occluded[:, places] = means[:, places]
        without = replace(samples, signals={**samples.signals, backbone.eeg: occluded})
        fallen = predict(trained.network, trained.adapter, without, trained.temperature)
        falls.append(probabilities[each, chosen] - fallen[each, chosen])
    return np.stack(falls, 1).astype(np.float64)


def _attention(
    trained: Model, samples: Samples, subjects: pd.Series[str]
) -> tuple[Array, NDArray[np.bool_], tuple[pd.DataFrame, pd.DataFrame]]:
    """Return each sample's region weights, whether it has EEG, and temporal tables."""
    backbone = _explainable(trained)
    spatial = np.zeros((len(samples), len(backbone.electrodes)))
    there = np.zeros(len(samples), dtype=bool)
    time = samples.rows.shape[1]
    sums: dict[tuple[object, str], _Temporal] = {}
    for subject, index in _batches(subjects.to_numpy()):
        signals, masks = samples.batch(torch.from_numpy(index))
        explanation = backbone.explain(signals, masks)
        spatial[index] = explanation.spatial.numpy()
        eeg = masks[backbone.eeg].numpy()
        there[index] = eeg.any(1)
        for name, weights in explanation.temporal.items():
            total = sums.setdefault(
                (subject, name), _Temporal(len(backbone.electrodes), time)
            )
            total.add(weights.mean(2).numpy(), eeg, masks[name].numpy())
    moments = [each.moments(*key) for key, each in sums.items()]
    lags = [each.lags(*key, tuple(backbone.electrodes)) for key, each in sums.items()]
    empty = _Temporal(0, 1)
    return (
        spatial,
        there,
        (
            pd.concat(moments or [empty.moments("", "")], ignore_index=True),
            pd.concat(lags or [empty.lags("", "", ())], ignore_index=True),
        ),
    )


def _batches(
    subjects: NDArray[np.object_],
) -> Iterator[tuple[object, NDArray[np.int64]]]:
    """Yield each subject with the numbers of some of its samples."""
    for subject in pd.unique(subjects):
        theirs = np.flatnonzero(subjects == subject)
        for start in range(0, len(theirs), _BATCH):
            yield subject, theirs[start : start + _BATCH]


class _Temporal:
    """Sums of one companion's attention weights over pairs of windows.

    Parameters
    ----------
    regions, time : int
    """

    def __init__(self, regions: int, time: int) -> None:
        self.weights = np.zeros((regions, time, time))
        self.ratios = np.zeros((regions, time, time))
        self.pairs = np.zeros((time, time), dtype=np.int64)

    def add(
        self, weights: Array, eeg: NDArray[np.bool_], companion: NDArray[np.bool_]
    ) -> None:
        """Add weights (batch, regions, time, time) under masks (batch, time)."""
        both = eeg[:, :, None] & companion[:, None]
        # Even attention is one over the windows that the companion recorded.
        recorded = companion.sum(1)[:, None, None, None]
        self.weights += (weights * both[:, None]).sum(0)
        self.ratios += (weights * both[:, None] * recorded).sum(0)
        self.pairs += both.sum(0)

    def moments(self, subject: object, companion: str) -> pd.DataFrame:
        """Return a row per pair of windows that was ever recorded."""
        eeg, other = np.nonzero(self.pairs)
        pairs = self.pairs[eeg, other]
        regions = max(len(self.weights), 1)
        return pd.DataFrame(
            {
                "subject": [subject] * len(eeg),
                "companion": companion,
                "eeg_window": eeg + 1,
                "companion_window": other + 1,
                "attention": self.weights.sum(0)[eeg, other] / pairs / regions,
                "ratio": self.ratios.sum(0)[eeg, other] / pairs / regions,
                "pairs": pairs,
            }
        )

    def lags(
        self, subject: object, companion: str, regions: Sequence[str]
    ) -> pd.DataFrame:
        """Return a row per region and lag that was ever recorded."""
        time = len(self.pairs)
        lag = np.subtract.outer(np.arange(time), np.arange(time)).T.ravel()

        def by_lag(values: NDArray[Any]) -> Array:
            summed = np.bincount(lag + time - 1, values.ravel(), 2 * time - 1)
            return summed.astype(np.float64)

        pairs = by_lag(self.pairs)
        found = np.flatnonzero(pairs)
        rows = [
            pd.DataFrame(
                {
                    "subject": [subject] * len(found),
                    "companion": companion,
                    "region": region,
                    "lag": found - time + 1,
                    "attention": by_lag(self.weights[k])[found] / pairs[found],
                    "ratio": by_lag(self.ratios[k])[found] / pairs[found],
                    "pairs": pairs[found].astype(np.int64),
                }
            )
            for k, region in enumerate(regions)
        ]
        columns = [
            "subject",
            "companion",
            "region",
            "lag",
            "attention",
            "ratio",
            "pairs",
        ]
        return pd.concat(rows) if rows else pd.DataFrame(columns=columns)


def _explainable(trained: Model) -> Explainable:
    """Return the backbone; raise where it offers no attention over regions."""
    backbone = trained.network.backbone
    if not isinstance(backbone, Explainable):
        raise ConfigurationError(
            f"The backbone {trained.experiment.backbone.name!r} offers no attention "
            f"over brain regions; expected one with `eeg`, `electrodes` and `explain`, "
            f"such as r2gfanet (see domainemo.backbones.explanation)."
        )
    return backbone


def _with_keys(table: pd.DataFrame, keys: Mapping[str, Any]) -> pd.DataFrame:
    columns = list(table.columns)
    return table.assign(**keys)[[*keys, *columns]]


def _check_same(
    folder: Path,
    inputs: Inputs,
    found: NDArray[np.float32],
    stored: NDArray[np.float32],
) -> None:
    """Refuse recordings on which the model predicts other than it did in its test."""
    same = found.shape == stored.shape and np.abs(found - stored).max() < _SAME
    if not same:
        raise _other_recordings(folder, inputs)


def _other_recordings(folder: Path, inputs: Inputs) -> DataError:
    return DataError(
        f"{folder}: on {inputs.name} this fold does not predict what it predicted in "
        f"its test, so these are not the recordings that it was tested on. Give those "
        f"of the run."
    )
