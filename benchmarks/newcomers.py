"""Each person as a newcomer without labels, compared with its own fold.

    python benchmarks/newcomers.py TABLE [TABLE ...]

TABLE is a table folder of labelled recordings, such as `benchmarks/open_recordings.py`
makes of eegmat, and `domainemo data convert` of esports. Each subject in turn is taken
out, loses its labels and its name, its rows are shuffled and its channels turned round;
it is adapted to, and compared bit for bit with that subject's fold of `cross-subject`,
which is without a sensor that this person lacks, as a newcomer's network then is.
Prints a line a subject, and ends with 1 where one differs.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np

import domainemo as de
from domainemo.data.table import Table
from domainemo.errors import DomainemoWarning

CHOICES = {"backbone": "uf-ama", "adapter": "uf-ama", "device": "cpu"}


def turned(inputs: de.Inputs) -> de.Inputs:
    """Return recordings of another name, rows shuffled and channels reversed."""
    rows = np.random.default_rng(0).permutation(len(inputs))
    signals = {name: array[:, ::-1] for name, array in inputs.signals.items()}
    modalities = {
        name: replace(modality, channels=modality.channels[::-1])
        for name, modality in inputs.modalities.items()
    }
    windows = inputs.windows.assign(subject="somebody")
    changed = {"signals": signals, "modalities": modalities, "windows": windows}
    return replace(inputs, **changed).take(rows)


def compare(data: de.EmotionData, epochs: int, only: list[str]) -> bool:
    """Compare every subject's predictions; return whether all are the same bits."""
    everything = {**CHOICES, "training": de.Training(epochs=epochs)}
    subjects = data.inputs.windows["subject"].to_numpy()
    same = True
    for subject in dict.fromkeys(subjects.tolist()):
        if only and str(subject) not in only:
            continue
        theirs = subjects == subject
        fold = f"subject {subject}"
        signals = data.inputs.signals.items()
        worn = [name for name, each in signals if np.isfinite(each[theirs]).any()]
        choices = {**everything, "modalities": worn}
        known = de.run(data, folds=[fold], **choices).predictions
        found = de.adapt(
            data.take(np.flatnonzero(~theirs)),
            turned(data.take(np.flatnonzero(theirs)).inputs),
            **choices,
        ).predictions
        columns = [name for name in found if name.startswith("p_")]
        place = ["method", "session", "trial", "start"]
        equal = np.array_equal(
            *(each.sort_values(place)[columns].to_numpy() for each in (known, found))
        )
        same &= equal
        words = "the same bits" if equal else "DIFFERENT"
        print(
            f"{data.inputs.name}, {fold}: {len(found)} predictions, {words}", flush=True
        )
    return same


def main() -> None:
    """Compare the subjects of every table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", nargs="+", type=Path)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--subjects", nargs="+", default=[])
    given = parser.parse_args()
    warnings.simplefilter("ignore", DomainemoWarning)
    found = [
        compare(Table(folder).load(), given.epochs, given.subjects)
        for folder in given.tables
    ]
    sys.exit(0 if all(found) else 1)


if __name__ == "__main__":
    main()
