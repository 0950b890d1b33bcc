"""A finished run, read from its folder: its tables, networks and recordings.

Target labels meet predictions here once more, after everything is chosen and final;
what rests on them is known after the fact and chooses nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from .. import files
from ..core import EmotionData, Fold
from ..data.given import expect_labelled
from ..errors import ConfigurationError, DataError
from ..runs.calibration import restored
from ..runs.checks import choose, prepare
from ..runs.experiment import SOURCE_ONLY, Experiment
from ..runs.folder import (
    ENVIRONMENT,
    check_job,
    fingerprint,
    job_folder,
    read_json,
)
from ..runs.folds import lay_out_folds
from ..runs.record import FACTS, RECORDED
from ..runs.results import Results

__all__ = [
    "TrainedNetwork",
    "Recordings",
    "baseline",
    "class_names",
    "match_recordings",
    "networks",
]


def class_names(results: Results) -> list[str]:
    """Return the names of the classes, in order."""
    columns = map(str, results.predictions.columns)
    return [name.removeprefix("p_") for name in columns if name.startswith("p_")]


def baseline(results: Results) -> str | None:
    """Return the name of source only, or None where it was not run beside the rest."""
    found = [name for name in results.methods if name.startswith(SOURCE_ONLY)]
    return found[0] if found and found[0] != results.method else None


@dataclass(frozen=True)
class TrainedNetwork:
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


def networks(folder: Path, results: Results) -> list[TrainedNetwork]:
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
        TrainedNetwork(method, fold, seed, job_folder(folder, fold, seed, adapter))
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
    ConfigurationError
        If the run's target was given apart.
    """
    if experiment.protocol.build().takes_target:
        raise ConfigurationError(
            f"{folder}: its target was given apart, and is not read again here; "
            f"expected a run whose recordings are all of one data set."
        )
    data = expect_labelled(data, "the recordings")
    data, _ = choose(data, experiment)
    inputs, rows = prepare(data.inputs, experiment)
    folds = lay_out_folds(inputs, experiment)
    data = replace(data, inputs=inputs, labels=data.labels[rows])
    environment = read_json(folder / ENVIRONMENT, recordings=str)
    if environment["recordings"] != fingerprint(data.inputs, data.labels, data.classes):
        raise DataError(
            f"{folder}: {data.inputs.name} are not, to the last value and label, the "
            f"recordings of this run. Name the folder of those with --data-root."
        )
    found = {fold.name: fold for fold in folds}
    for name, fold in found.items():
        place = job_folder(folder, name, experiment.seeds[0], experiment.adapter.name)
        if files.is_expected(place / FACTS):  # else the fold was not run
            facts = read_json(place / FACTS)
            found[name] = restored(fold, data.inputs.windows, facts, place)
    return Recordings(data, found, experiment)
