"""Whether attention, or occlusion, finds the brain regions that carry the classes.

Run `python benchmarks/interpretation.py`. It takes simulated recordings without any
effect of emotion, adds one at a single brain region, trains r2gfanet on all subjects
but one, and ranks the planted region among the 16 by the attention it receives and by
what its occlusion costs; so for several regions and every subject. The same is done
with the simulator's own effects, whose size in each region is known.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import domainemo as de
from domainemo.backbones.regions import regions
from domainemo.core import EmotionData
from domainemo.processes import cores, process_pool
from domainemo.review.interpretation import find_folds, interpret
from domainemo.runs.experiment import experiment

MEASURES = ["attention", "occlusion"]
PLANTED = {"effect": 0.0, "stimulus_effect": 0.0, "classes": 2, "trials": 12}
REGIONS = (  # of 2, 2, 3, 3, 5 and 6 electrodes
    "left parietal,right frontal,occipital,left parieto-occipital,central,left temporal"
)
UNIT = 0.2  # nat: what the simulator calls 1
BANDS = slice(2, 4)  # alpha and beta


def main() -> None:
    """Run the benchmark and print its tables."""
    chosen = arguments()
    pool = process_pool(chosen.jobs) if chosen.jobs > 1 else nullcontext()
    with pool as executor:
        planted_regions(chosen, executor)
        simulated_effects(chosen, executor)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subjects", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--regions", default=REGIONS, help="names, or all")
    parser.add_argument("--size", type=float, default=1.5, help="of the planted effect")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=cores())
    return parser.parse_args()


def planted_regions(chosen: argparse.Namespace, executor: Any) -> None:
    """Plant the effect in each region in turn; print the region's ranks."""
    bare = de.Simulated(subjects=chosen.subjects, seed=chosen.seed, **PLANTED).load()
    parts = regions(bare.inputs.modalities["eeg"].channels)
    rows = []
    wanted = list(parts) if chosen.regions == "all" else chosen.regions.split(",")
    for region in wanted:
        data = plant(bare, [region], chosen.size)
        table, accuracy = measured(data, chosen, executor)
        print(f"{region}: accuracy {accuracy:.2f}", flush=True)
        for fold, values in table.groupby("fold"):
            ranks = values.set_index("region")[MEASURES].rank(ascending=False)
            shares = values.set_index("region").loc[region, MEASURES]
            rows.append(
                {"region": region, "electrodes": len(parts[region]), "fold": fold}
                | {f"rank by {name}": ranks.loc[region, name] for name in MEASURES}
                | {"attention": shares["attention"], "accuracy": accuracy}
            )
    found = pd.DataFrame(rows)
    ranks = [f"rank by {name}" for name in MEASURES]
    columns = ["electrodes", "accuracy", "attention", *ranks]
    print(found.groupby("region", sort=False)[columns].mean().round(2).to_string())
    for name in ranks:
        first = (found[name] == 1).mean()
        print(f"{name}: mean {found[name].mean():.2f} (chance 8.5), first {first:.0%}")
    table, _ = measured(bare, chosen, executor)
    shares = table.groupby("region")["attention"].mean()
    print(f"without an effect, attention is {shares.min():.3f} to {shares.max():.3f}")


def simulated_effects(chosen: argparse.Namespace, executor: Any) -> None:
    """Correlate the simulator's own effects by region with both measures."""
    simulated = de.Simulated(subjects=chosen.subjects, seed=chosen.seed)
    data = simulated.load()
    parts = regions(data.inputs.modalities["eeg"].channels)
    truth = region_truth(simulated, parts)
    size = pd.Series({name: len(each) for name, each in parts.items()})
    print(f"\n{data.inputs.name}: rank correlation with the effects' power by region")
    print(f"number of electrodes: {size.corr(truth, method='spearman'):.2f}")
    none = de.Simulated(
        subjects=chosen.subjects, seed=chosen.seed, effect=0, stimulus_effect=0
    )
    for words, recordings in (("", data), (", trained without effects", none.load())):
        table, accuracy = measured(recordings, chosen, executor)
        for name in MEASURES:
            each = [
                values.set_index("region")[name].corr(truth, method="spearman")
                for _, values in table.groupby("fold")
            ]
            print(
                f"{name}{words}: mean {np.mean(each):.2f}, {min(each):.2f} to "
                f"{max(each):.2f}; accuracy {accuracy:.2f}",
                flush=True,
            )


def plant(data: EmotionData, places: Sequence[str], size: float) -> EmotionData:
    """Raise alpha and beta in some regions for one class, lower them for the other."""
    eeg = np.array(data.inputs.signals["eeg"])
    parts = regions(data.inputs.modalities["eeg"].channels)
    electrodes = [each for place in places for each in parts[place]]
    sign = np.where(data.labels == 1, 1, -1).astype(np.float32)[:, None, None]
    for each in electrodes:
        eeg[:, each : each + 1, BANDS] += UNIT * size * sign
    signals = {**data.inputs.signals, "eeg": eeg}
    return replace(data, inputs=replace(data.inputs, signals=signals))


def measured(
    data: EmotionData, chosen: argparse.Namespace, executor: Any
) -> tuple[pd.DataFrame, float]:
    """Train on all subjects but one; return both measures by fold, and accuracy."""
    choices: dict[str, Any] = {
        "backbone": "r2gfanet",
        "adapter": "none",
        "baselines": False,
        "device": "cpu",
        "seeds": [chosen.seed],
        "training": de.Training(epochs=chosen.epochs),
        "options": {"backbone.width": chosen.width},
    }
    with tempfile.TemporaryDirectory() as folder:
        results = de.run(data, **choices, output=folder, executor=executor)
        made_by = experiment(**choices)
        made = interpret(find_folds(Path(folder), made_by), made_by, data.inputs)
    accuracy = float(results.summary()["mean"].iloc[0])
    weighted = made.regions.copy()
    weighted[MEASURES] = weighted[MEASURES].mul(weighted["samples"], axis=0)
    sums = weighted.groupby(["fold", "region"])[[*MEASURES, "samples"]].sum()
    return sums[MEASURES].div(sums["samples"], axis=0).reset_index(), accuracy


def region_truth(
    simulated: de.Simulated, parts: Mapping[str, Sequence[int]]
) -> pd.Series[float]:
    """Return the power of what emotions do in each region."""
    power = simulated.truth()["eeg"] ** 2
    return pd.Series(
        {name: float(power[:, list(each)].sum()) for name, each in parts.items()}
    )


if __name__ == "__main__":
    main()
