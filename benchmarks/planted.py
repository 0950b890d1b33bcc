"""Open recordings in which something is wrong, as tables: for benchmarks of harm.

    python benchmarks/planted.py DATA OUTPUT

OUTPUT receives a folder per recording and fault. ``shift``: everybody has three times
as many windows of one class as of each other one, the class another from person to
person. ``sensor``: of every third person one sensor measures nothing, but noise with
the mean and the deviation of what it measured: each of the sensors by turns.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import open_recordings
import pandas as pd
from numpy.typing import NDArray

import domainemo as de

SHARE = 3
"""How many windows of the commonest class there are for one of each other."""

EVERY = 3
"""Of so many people, one has a sensor that measures nothing."""


def eegmat(data: Path) -> de.EmotionData:
    """Return 36 people at rest and at mental arithmetic."""
    with np.load(data / "eegmat" / "features_4s.npz", allow_pickle=False) as stored:
        return open_recordings.eegmat(dict(stored))


def esports(data: Path) -> de.EmotionData:
    """Return the eight players who wore the EEG, with it and their eyes."""
    found = de.load("esports", data)
    worn = ~found.inputs.windows["subject"].astype(str).isin(["0", "5"])
    kept = found.take(np.flatnonzero(worn))
    names = ("eeg", "eye")
    inputs = replace(
        kept.inputs,
        signals={name: kept.inputs.signals[name] for name in names},
        modalities={name: kept.inputs.modalities[name] for name in names},
    )
    return replace(kept, inputs=inputs)


def ssvep(data: Path) -> de.EmotionData:
    """Return twelve people who look at a light that blinks."""
    return de.load("ssvep-exo", data)


RECORDINGS: Mapping[str, Callable[[Path], de.EmotionData]] = {
    "eegmat": eegmat,
    "esports": esports,
    "ssvep-exo": ssvep,
}


def shifted(data: de.EmotionData) -> de.EmotionData:
    """Return recordings in which each person's classes are three to one.

    Of the other classes the first windows are kept, trial by trial.
    """
    subjects = data.inputs.windows["subject"].to_numpy()
    kept = np.zeros(len(data), dtype=bool)
    for number, name in enumerate(pd.unique(subjects)):
        own = [
            np.flatnonzero((subjects == name) & (data.labels == label))
            for label in range(len(data.classes))
        ]
        often = number % len(own)
        fewest = min(len(rows) for rows in own)
        most = min(len(own[often]), SHARE * fewest)
        for label, rows in enumerate(own):
            kept[rows[: most if label == often else max(most // SHARE, 1)]] = True
    return data.take(np.flatnonzero(kept))


def spoiled(subjects: Sequence[object]) -> list[object]:
    """Return those people of whom a sensor measures nothing, in the order given."""
    return list(pd.unique(np.asarray(subjects)))[::EVERY]


def with_a_bad_sensor(data: de.EmotionData) -> de.EmotionData:
    """Return recordings in which every third person has a sensor of mere noise."""
    inputs = data.inputs
    subjects = inputs.windows["subject"].to_numpy()
    signals = {name: array.copy() for name, array in inputs.signals.items()}
    generator = np.random.default_rng(0)
    names = list(signals)
    for number, name in enumerate(spoiled(subjects)):
        bad, rows = signals[names[number % len(names)]], subjects == name
        bad[rows] = _noise(bad[rows], generator)
    return replace(data, inputs=replace(inputs, signals=signals))


def _noise(
    values: NDArray[np.float32], generator: np.random.Generator
) -> NDArray[np.float32]:
    """Return noise of each value's mean and deviation, missing where it is missing."""
    mean, deviation = np.nanmean(values, 0), np.nanstd(values, 0)
    noise = generator.standard_normal(values.shape) * deviation + mean
    found: NDArray[np.float32] = np.where(np.isnan(values), values, noise).astype("f4")
    return found


FAULTS: Mapping[str, Callable[[de.EmotionData], de.EmotionData]] = {
    "shift": shifted,
    "sensor": with_a_bad_sensor,
}


def main() -> None:
    """Write every folder that is not there yet."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("output", type=Path, metavar="OUTPUT")
    given = parser.parse_args()
    for name, load in RECORDINGS.items():
        for fault, change in FAULTS.items():
            folder = given.output / f"{name}-{fault}"
            if not folder.exists():
                de.write_table(change(load(given.data)), folder)
                print(folder)


if __name__ == "__main__":
    main()
