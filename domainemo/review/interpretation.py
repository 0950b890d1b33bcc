"""What trained folds attend to and are joined by, and what they cannot do without.

Nothing here reads a label: classes are those that the network predicted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ..backbones.explanation import Connected, Explainable
from ..core import EmotionData, Fold, Inputs
from ..data.normalisation import normalise
from ..errors import ConfigurationError, DataError
from ..runs.calibration import restored
from ..runs.checks import choose_inputs, prepare
from ..runs.experiment import Experiment, method_name
from ..runs.folder import read_stored_config
from ..runs.folds import lay_out_folds
from ..runs.model import Model, find_all_trained, load_trained
from ..runs.record import load_record
from ..runs.seeds import source_seed
from ..training.batches import Samples, sample
from ..training.fit import predict
from ..training.seeds import reproducible, seed_torch

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Interpretation", "find_folds", "interpret"]

Array = NDArray[np.float64]

_BATCH = 32  # attention over whole trials is large
_SAME = 0.01  # a GPU's probabilities may differ by so much from a CPU's


@dataclass(frozen=True)
class Interpretation:
    """Attention and connectivity of trained folds, averaged over their test samples.

    Every table has the columns ``adapter``, ``fold``, ``seed`` and, where it is of test
    samples, ``subject``. Those of what the network does not have are empty.

    Attributes
    ----------
    regions : DataFrame
        A row per predicted class and brain region: ``attention``, the mean weight of
        the region, which sums to one over regions, of a network that attends to them;
        ``occlusion``, by how much the
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
    connectivity : DataFrame
        A row per graph and pair of regions, one twice for the edges within:
        ``weight``, the mean weight of the edges between them; ``learned``, by how much
        training has changed it, NaN where that began with a pre-training. It is the
        network's: of no class and no sample.
    connections : DataFrame
        A row per predicted class and pair of regions: ``occlusion``, by how much the
        probability of the predicted class falls where all edges between them are cut
        in every graph; ``samples``.
    electrodes : mapping of str to tuple of str
        The electrodes of each region.
    name : str
        Of the recordings.
    backbone : str
    """

    regions: pd.DataFrame
    moments: pd.DataFrame
    lags: pd.DataFrame
    connectivity: pd.DataFrame
    connections: pd.DataFrame
    electrodes: Mapping[str, tuple[str, ...]]
    name: str
    backbone: str

    def plot(self) -> Figure:
        """Draw a map of the scalp per predicted class, and how it differs from others.

        Of attention, or of occlusion where the network does not attend to regions.

        Returns
        -------
        matplotlib.figure.Figure
            A notebook shows it; ``savefig`` writes it to a file.
        """
        # What is drawn lies beyond the review; it is asked for as by anybody else.
        from .. import draw_regions

        attends = "attention" in self.regions
        return draw_regions(self, "attention" if attends else "occlusion")


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
        If none fits, the backbone offers neither attention over regions nor edges
        between them, or the run tested nobody in its labelled recordings.
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
    _interpretable(load_trained(found[0], experiment))
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
        electrodes = _interpretable(trained).electrodes
        made = _interpret_fold(trained, inputs, fold, _drawn(folder, inputs, fold))
        _check_same(folder, inputs, made.probabilities, record.probabilities)
        tables.append(tuple(_with_keys(each, keys) for each in made.tables))
    regions, moments, lags, connectivity, connections = (
        pd.concat(each, ignore_index=True) for each in zip(*tables, strict=True)
    )
    return Interpretation(
        regions,
        moments,
        lags,
        connectivity,
        connections,
        electrodes=electrodes,
        name=inputs.name,
        backbone=experiment.backbone.name,
    )


@dataclass(frozen=True)
class _FoldTables:
    """One fold's tables, and the probabilities of its samples' classes.

    The tables are of regions, moments, lags, connectivity and connections.
    """

    tables: tuple[pd.DataFrame, ...]
    probabilities: NDArray[np.float32]


def _drawn(folder: Path, inputs: Inputs, fold: Fold) -> int | None:
    """Return the seed of a fold's first weights; None where they were given."""
    if "init_from" in read_stored_config(folder.parents[3]):
        return None
    return source_seed(load_record(folder).facts["seed"], inputs.windows, fold)


def _interpret_fold(
    trained: Model, inputs: Inputs, fold: Fold, seed: int | None
) -> _FoldTables:
    """Interpret one trained fold, which began with a seed, on its test windows."""
    backbone = _interpretable(trained)
    samples, members, windows = _test_samples(trained, inputs, fold)
    there = _recorded(samples, backbone.eeg)
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
        found = {"occlusion": _occlusion(trained, samples, windows, probabilities)}
        temporal = _no_temporal()
        if isinstance(backbone, Explainable):
            spatial, temporal = _attention(backbone, samples, frame["subject"])
            found = {"attention": spatial, **found}
        joined = _NO_EDGES
        if isinstance(backbone, Connected):
            cuts = _cuts(backbone, trained, samples, probabilities)
            means = _mean_cuts(cuts[there], frame[there], backbone)
            joined = (_edges(trained, backbone, seed), means)
    rows = [
        frame.assign(region=region, **{name: of[:, k] for name, of in found.items()})
        for k, region in enumerate(backbone.electrodes)
    ]
    regions = _mean_regions(rows, list(found), there)
    return _FoldTables((regions, *temporal, *joined), probabilities)


def _recorded(samples: Samples, eeg: str) -> NDArray[np.bool_]:
    """Return which samples have EEG at all."""
    known = samples.present[eeg][samples.rows.clamp(min=0)] & (samples.rows >= 0)
    return known.any(1).numpy()


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
    rows: Sequence[pd.DataFrame], columns: Sequence[str], there: NDArray[np.bool_]
) -> pd.DataFrame:
    """Return means over the samples that have EEG, in the order of the regions."""
    keys = ["subject", "predicted", "region"]
    table = pd.concat([each[there] for each in rows], ignore_index=True)
    return table.groupby(keys, sort=False, as_index=False).agg(
        **{name: (name, "mean") for name in columns},
        samples=(columns[0], "size"),
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
    backbone = _interpretable(trained)
    signal, present = samples.signals[backbone.eeg], samples.present[backbone.eeg]
    groups = windows.groupby(["subject", "session"]).ngroup().to_numpy()
    means = torch.zeros_like(signal)
    for group in np.unique(groups):
        here = torch.from_numpy(groups == group) & present
        means[here] = signal[here].mean(0)
    channels = trained.modalities[backbone.eeg].channels
    falls = []
    for electrodes in backbone.electrodes.values():
        places = [channels.index(name) for name in electrodes]
        occluded = signal.clone()
        occluded[:, places] = means[:, places]
        without = replace(samples, signals={**samples.signals, backbone.eeg: occluded})
        falls.append(_fall(trained, without, probabilities))
    return np.stack(falls, 1)


def _fall(
    trained: Model, samples: Samples, probabilities: NDArray[np.float32]
) -> Array:
    """Return by how much each sample's predicted class is less probable now."""
    now = predict(trained.network, trained.adapter, samples, trained.temperature)
    each, chosen = np.arange(len(samples)), probabilities.argmax(1)
    fallen: Array = (probabilities - now)[each, chosen].astype(np.float64)
    return fallen


def _pairs(backbone: Connected) -> list[tuple[str, str]]:
    """Return each pair of regions once, and each region with itself."""
    return list(combinations_with_replacement(backbone.electrodes, 2))


def _edges(trained: Model, backbone: Connected, seed: int | None) -> pd.DataFrame:
    """Return a row per graph and pair of regions: as trained, less as drawn."""
    made, pairs = backbone.connectivity(), _pairs(backbone)
    upper = np.triu_indices(len(made.regions))
    before = {name: weights * np.nan for name, weights in made.weights.items()}
    if seed is not None:
        seed_torch(seed)
        fresh = trained.experiment.build_backbone(trained.modalities)
        assert isinstance(fresh, Connected)
        before = dict(fresh.connectivity().weights)
    tables = [
        pd.DataFrame(pairs, columns=["region", "other"]).assign(
            graph=graph,
            weight=weights.numpy()[upper],
            learned=(weights - before[graph]).numpy()[upper],
        )
        for graph, weights in made.weights.items()
    ]
    return pd.concat(tables, ignore_index=True)[list(_NO_EDGES[0])]


def _cuts(
    backbone: Connected,
    trained: Model,
    samples: Samples,
    probabilities: NDArray[np.float32],
) -> Array:
    """Return how far the predicted class falls without the edges of each pair.

    Returns
    -------
    ndarray of shape (samples, pairs)
    """
    falls = []
    for one, other in _pairs(backbone):
        with backbone.without_edges(one, other):
            falls.append(_fall(trained, samples, probabilities))
    return np.stack(falls, 1)


def _mean_cuts(falls: Array, frame: pd.DataFrame, backbone: Connected) -> pd.DataFrame:
    """Return means over samples, a row per subject, predicted class and pair."""
    keys = ["subject", "predicted"]
    pairs = pd.MultiIndex.from_tuples(_pairs(backbone), names=["region", "other"])
    wide = pd.DataFrame(falls, columns=pairs)
    grouped = wide.groupby([frame[key].to_numpy() for key in keys], sort=False)
    means = grouped.mean().rename_axis(keys)
    sizes = grouped.size().rename_axis(keys).reset_index(name="samples")
    rows = means.melt(value_name="occlusion", ignore_index=False).reset_index()
    return rows.merge(sizes, on=keys)[list(_NO_EDGES[1])]


_NO_EDGES = (
    pd.DataFrame(columns=["graph", "region", "other", "weight", "learned"]),
    pd.DataFrame(
        columns=["subject", "predicted", "region", "other", "occlusion", "samples"]
    ),
)


def _no_temporal() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the tables of a network that listens to nobody."""
    empty = _Temporal(0, 1)
    return empty.moments("", ""), empty.lags("", "", ())


def _attention(
    backbone: Explainable, samples: Samples, subjects: pd.Series[str]
) -> tuple[Array, tuple[pd.DataFrame, pd.DataFrame]]:
    """Return each sample's region weights, and temporal tables."""
    spatial = np.zeros((len(samples), len(backbone.electrodes)))
    time = samples.rows.shape[1]
    sums: dict[tuple[object, str], _Temporal] = {}
    for subject, index in _batches(subjects.to_numpy()):
        signals, masks = samples.batch(torch.from_numpy(index))
        explanation = backbone.explain(signals, masks)
        spatial[index] = explanation.spatial.numpy()
        eeg = masks[backbone.eeg].numpy()
        for name, weights in explanation.temporal.items():
            total = sums.setdefault(
                (subject, name), _Temporal(len(backbone.electrodes), time)
            )
            total.add(weights.mean(2).numpy(), eeg, masks[name].numpy())
    moments = [each.moments(*key) for key, each in sums.items()]
    lags = [each.lags(*key, tuple(backbone.electrodes)) for key, each in sums.items()]
    if not sums:
        return spatial, _no_temporal()
    return spatial, (
        pd.concat(moments, ignore_index=True),
        pd.concat(lags, ignore_index=True),
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


def _interpretable(trained: Model) -> Explainable | Connected:
    """Return the backbone; raise where it tells nothing of brain regions."""
    backbone = trained.network.backbone
    if not isinstance(backbone, Explainable | Connected):
        raise ConfigurationError(
            f"The backbone {trained.experiment.backbone.name!r} offers no attention "
            f"over brain regions and no edges between them; expected one with `eeg`, "
            f"`electrodes` and `explain`, such as r2gfanet, or `connectivity` and "
            f"`without_edges`, such as mmstg-net (see domainemo.backbones.explanation)."
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
