"""Whom pseudo-labels harm, and what of UF-AMA helps: the tables of `docs/harm.md`.

    python benchmarks/harm.py OUTPUT [--data DATA] [--only planted eegmat esports]

Simulated people with four sensors, of which one tells nothing and one is wrong in half
of them, over five seeds; and where DATA is given real people: `eegmat/features_4s.npz`
(EEG and ECG) and `esports_mm/windows_10s.npz` (eyes, skin, heart and muscles as sensors
of their own). Every run is kept below OUTPUT and resumed from there; the tables are
printed as Markdown. One thread, networks small enough for a laptop.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import open_recordings
import pandas as pd

import domainemo as de
from domainemo.adapters.composite import Composite
from domainemo.adapters.conditional import Conditional
from domainemo.adapters.consistency import Consistency
from domainemo.adapters.distillation import Distillation
from domainemo.adapters.marginal import Marginal
from domainemo.adapters.pairwise import PairwiseSimilarity
from domainemo.data.readers.esports import EYE, PHYSIOLOGY
from domainemo.screens.confidence import Screening
from domainemo.statistics.paired import wilcoxon
from domainemo.statistics.ties import gap_between

SEEDS = range(5)
RARE = 3  # clips of the planted case's rarer class; of the other there are six
BACKBONE = {
    "backbone.hidden": (32,),
    "backbone.width": 16,
    "backbone.fusion_width": 32,
}
ALIGNED = {"adapter.consistency": 0.0, "adapter.distillation": 0.0}
ALONE = dict.fromkeys(
    (
        "adapter.marginal",
        "adapter.conditional",
        "adapter.consistency",
        "adapter.distillation",
        "adapter.pairwise",
    ),
    0.0,
)


def former() -> Composite:
    """Return the preset as it was: judged by the network that its labels teach."""
    screen = Screening(judge="current", teachers=1, own_opinion=0.0)
    return Composite(
        terms={
            "marginal": Marginal(schedule="delayed"),
            "conditional": Conditional(schedule="delayed"),
            "consistency": Consistency(weight=0.5, schedule="delayed", screen=screen),
            "distillation": Distillation(weight=0.5, schedule="delayed", screen=screen),
            "pairwise": PairwiseSimilarity(weight=0.1),
        },
        screen=screen,
    )


# What is compared: an adapter and its options.
METHODS: Mapping[str, tuple[Any, Mapping[str, float]]] = {
    "source only": ("none", {}),
    "former preset": (former, {}),
    "uf-ama": ("uf-ama", {}),
    "alignment and pairs": ("uf-ama", ALIGNED),
    "all terms, mended": (
        "uf-ama",
        {"adapter.consistency": 0.5, "adapter.distillation": 0.5},
    ),
    "without distillation, mended": (
        "uf-ama",
        {"adapter.consistency": 0.5, "adapter.distillation": 0.0},
    ),
    "without consistency, mended": (
        "uf-ama",
        {"adapter.consistency": 0.0, "adapter.distillation": 0.5},
    ),
    "marginal alone": ("uf-ama", {**ALONE, "adapter.marginal": 1.0}),
    "conditional alone": ("uf-ama", {**ALONE, "adapter.conditional": 1.0}),
    "consistency alone": ("uf-ama", {**ALONE, "adapter.consistency": 0.5}),
    "distillation alone": ("uf-ama", {**ALONE, "adapter.distillation": 0.5}),
}
# On real people, which take longer.
ON_PEOPLE = tuple(METHODS)[:4]


def planted(seed: int) -> de.EmotionData:
    """Return people with four sensors, one without use and one wrong in half of them.

    Of nine clips three are of the rarer class, a share as in esports.
    """
    data = de.Simulated(
        subjects=8,
        sessions=1,
        trials=12,
        windows=(6, 8),
        classes=2,
        effect=1.5,
        peripherals=True,
        misled=0.5,
        seed=seed,
    ).load()
    clips = data.inputs.windows["stimulus"].to_numpy()
    left_out = np.unique(clips[data.labels == 0])[RARE:]
    return data.take(np.flatnonzero(~np.isin(clips, left_out)))


def eegmat(data: Path) -> de.EmotionData:
    """Return single windows of 36 people at rest and at mental arithmetic."""
    with np.load(data / "eegmat" / "features_4s.npz", allow_pickle=False) as stored:
        return open_recordings.eegmat(dict(stored))


def esports(data: Path) -> de.EmotionData:
    """Return every second window of ten players: eyes, skin, heart and muscles.

    Windows that two or more of the four sensors lost are left out.
    """
    path = data / "esports_mm" / "windows_10s.npz"
    with np.load(path, allow_pickle=False) as file:
        stored = dict(file)
    columns = {
        "eye": (stored["eye"], EYE),
        **{
            name: (
                stored["phys"][:, [column.startswith(start) for column in PHYSIOLOGY]],
                tuple(column for column in PHYSIOLOGY if column.startswith(start)),
            )
            for name, start in {"skin": "gsr", "heart": "hr", "muscle": "emg"}.items()
        },
    }
    seen = [np.isfinite(values).all(1) for values, _ in columns.values()]
    kept = np.flatnonzero(np.sum(seen, axis=0) >= 3)[::2]
    match = stored["match"][kept]
    return de.from_arrays(
        {
            name: np.where(there[:, None], values, np.nan)[kept].astype(np.float32)
            for (name, (values, _)), there in zip(columns.items(), seen, strict=True)
        },
        stored["y_opponents"][kept].astype(np.int64),
        subject=stored["subject"][kept],
        session=stored["day"][kept],
        trial=match,
        stimulus=match,
        start=stored["t0"][kept].astype(float),
        classes=("bots", "humans"),
        modalities={
            name: de.Modality(
                names, ("value",), "eye" if name == "eye" else "physiology"
            )
            for name, (_, names) in columns.items()
        },
        name="esports (eyes, skin, heart, muscles; every second 10-s window)",
    )


def scores(
    data: de.EmotionData, method: str, folder: Path, training: de.Training
) -> pd.Series:
    """Return each person's balanced accuracy; from `folder` where it is there."""
    adapter, options = METHODS[method]
    made = adapter if isinstance(adapter, str) else adapter()
    results = de.run(
        data,
        backbone="concatenation-mlp",
        adapter=made,
        options={**BACKBONE, **options},
        baselines=False,
        training=training,
        output=folder / method.replace(",", "").replace(" ", "-"),
    )
    print(f"done: {folder.name}, {method}", file=sys.stderr, flush=True)
    return results.per_subject().iloc[:, 0]


def rows(found: Mapping[str, pd.Series]) -> Iterator[str]:
    """Yield a table: means, and differences from source only, paired over people."""
    yield "| method | mean | less source only | p | worst | lose more than .05 |"
    yield "|---|---|---|---|---|---|"
    for method, values in found.items():
        gaps = gap_between(values, found["source only"])
        p = wilcoxon(gaps.to_numpy())
        yield (
            f"| {method} | {values.mean():.3f} | {gaps.mean():+.3f} | {p:.2g} | "
            f"{gaps.min():+.2f} | {(gaps < -0.05).sum()} of {len(gaps)} |"
        )


def main() -> None:
    """Run what is missing and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--data", type=Path, help="folder of the real recordings")
    parser.add_argument("--only", nargs="+", choices=("planted", "esports", "eegmat"))
    chosen = parser.parse_args()
    only = chosen.only or ("planted", *(("esports", "eegmat") if chosen.data else ()))
    if "planted" in only:
        training = de.Training(epochs=8, learning_rate=2e-3)
        found = {
            method: pd.concat(
                [
                    scores(planted(seed), method, chosen.output / f"{seed}", training)
                    for seed in SEEDS
                ],
                keys=SEEDS,
            )
            for method in METHODS
        }
        print(f"\nplanted, {len(SEEDS)} seeds\n", *rows(found), sep="\n", flush=True)
    for name, epochs in {"esports": 4, "eegmat": 8}.items():
        if name not in only:
            continue
        data = {"esports": esports, "eegmat": eegmat}[name](chosen.data)
        training = de.Training(epochs=epochs, batch_size=64)
        people = {
            method: scores(data, method, chosen.output / name, training)
            for method in ON_PEOPLE
        }
        print(f"\n{data.inputs.name}\n", *rows(people), sep="\n", flush=True)


if __name__ == "__main__":
    main()
