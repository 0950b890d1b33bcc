"""What a network loses with a sensor, and what modality dropout gives back.

Run `python benchmarks/missing_modality.py OUTPUT`. On simulated recordings without gaps
it trains each backbone on the source alone, with and without modality dropout, one
subject left out at a time. The trained folds then predict the subject left out, with a
growing share of windows in which the eye tracker, or the EEG, is missing. It prints
balanced accuracies and draws them; the runs, the table and the figure are in OUTPUT,
and a second call reads the runs that are there.
"""

from __future__ import annotations

import argparse
import time
import warnings
from contextlib import nullcontext
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import domainemo as de
from domainemo.cli.configuration import stored_experiment
from domainemo.data.inspection.figures import COLOURS
from domainemo.errors import ConfigurationError, DomainemoWarning
from domainemo.processes import cores, process_pool
from domainemo.runs.metrics import metrics
from domainemo.runs.model import find_trained, load_trained
from domainemo.statistics.intervals import bootstrap_interval
from domainemo.statistics.paired import compare

# Epochs for about as many steps each: a sample is a sequence of windows, or a window.
EPOCHS = {"r2gfanet": 30, "uf-ama": 5, "concatenation-mlp": 10}
OPTIONS = {"uf-ama": {"backbone.width": 16}}
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
DROPOUTS = (0.0, 0.3)
LOST = {"eye": "eye movements", "eeg": "EEG"}


def main() -> None:
    """Run the benchmark, print its tables and draw its figure."""
    chosen = arguments()
    began = time.monotonic()
    data = de.Simulated(
        subjects=chosen.subjects,
        sessions=1,
        trials=chosen.trials,
        windows=(8, 8),
        missing=0.0,
        seed=chosen.data_seed,
    ).load()
    pool = process_pool(chosen.jobs) if chosen.jobs > 1 else nullcontext()
    with pool as executor:
        parts = [
            measure(data, backbone, chosen, executor) for backbone in chosen.backbones
        ]
    table = pd.concat(parts, ignore_index=True)
    table.to_csv(chosen.output / "missing-modality.csv", index=False)
    draw(table, chosen.output / "missing-modality.svg")
    print(f"{data.inputs.name}; seeds {chosen.seeds}; last of {EPOCHS} epochs")
    print(f"{time.monotonic() - began:.0f} s\n")
    show(table)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--backbones", nargs="+", choices=EPOCHS, default=list(EPOCHS))
    parser.add_argument("--subjects", type=int, default=10)
    parser.add_argument("--trials", type=int, default=15)
    parser.add_argument("--data-seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--jobs", type=int, default=cores())
    return parser.parse_args()


# ---------------------------------------------------------------------- measurements


def measure(
    data: de.EmotionData, backbone: str, chosen: argparse.Namespace, executor: Any
) -> pd.DataFrame:
    """Return a row per training, lost modality, share, subject and seed."""
    rows = []
    for dropout in DROPOUTS:
        run = train(data, backbone, dropout, None, chosen, executor)
        found = test(data, run, tuple(LOST), SHARES, chosen.seeds)
        rows.append(found.assign(training=f"dropout {dropout}"))
        print(f"{backbone}, dropout {dropout}", flush=True)
    for lost in LOST:
        kept = tuple(name for name in data.inputs.modalities if name != lost)
        try:
            run = train(data, backbone, 0.0, kept, chosen, executor)
        except ConfigurationError:
            continue  # this backbone needs what is lost
        found = test(data, run, (lost,), (1.0,), chosen.seeds)
        rows.append(found.assign(training="without it from the start"))
    return pd.concat(rows, ignore_index=True).assign(backbone=backbone)


def train(
    data: de.EmotionData,
    backbone: str,
    dropout: float,
    modalities: tuple[str, ...] | None,
    chosen: argparse.Namespace,
    executor: Any,
) -> Path:
    """Train every fold on its source alone; return the run's folder."""
    seen = "-".join(modalities or data.inputs.modalities)
    output: Path = chosen.output / f"{backbone}-{seen}-{dropout}"
    de.run(
        data,
        backbone=backbone,
        adapter="none",
        modalities=modalities,
        baselines=False,
        seeds=chosen.seeds,
        training=de.Training(epochs=EPOCHS[backbone], modality_dropout=dropout),
        options=OPTIONS.get(backbone),
        device="cpu",
        output=output,
        executor=executor,
    )
    return output


def test(
    data: de.EmotionData,
    run: Path,
    modalities: tuple[str, ...],
    shares: tuple[float, ...],
    seeds: list[int],
) -> pd.DataFrame:
    """Predict each subject left out with shares of a modality's windows missing."""
    subjects = data.inputs.windows["subject"].to_numpy()
    rows = []
    for seed, subject in product(seeds, np.unique(subjects)):
        folder = find_trained(run, fold=f"subject {subject}", seed=seed)
        trained = load_trained(folder, stored_experiment(run))
        theirs = data.take(np.flatnonzero(subjects == subject))
        for lost, share in product(modalities, shares):
            with warnings.catch_warnings():
                # That the modality is missing altogether is what is asked for.
                warnings.simplefilter("ignore", DomainemoWarning)
                inputs = without(theirs.inputs, lost, share, int(subject))
                predicted = trained.predict(inputs)
            keys = {"lost": lost, "share": share, "subject": subject, "seed": seed}
            value = balanced_accuracy(theirs, predicted)
            rows.append({**keys, "balanced_accuracy": value})
    return pd.DataFrame(rows)


def without(inputs: de.Inputs, lost: str, share: float, seed: int) -> de.Inputs:
    """Return recordings without a modality in windows drawn at random.

    The same windows are drawn for every network; a larger share holds the smaller
    one's windows.
    """
    order = np.random.default_rng(seed).permutation(len(inputs))
    array = inputs.signals[lost].copy()
    array[order[: round(share * len(order))]] = np.nan
    return replace(inputs, signals={**inputs.signals, lost: array})


def balanced_accuracy(data: de.EmotionData, predicted: pd.DataFrame) -> float:
    """Score predictions per sample; a simulated trial has one label."""
    place = ["session", "trial"]
    truth = data.inputs.windows[place].assign(label=data.labels).drop_duplicates()
    labels = predicted[place].merge(truth, on=place, how="left")["label"].to_numpy()
    columns = [f"p_{name}" for name in data.classes]
    return metrics(labels, predicted[columns].to_numpy())["balanced_accuracy"]


# ----------------------------------------------------------------------- tables, figure


def per_subject(table: pd.DataFrame, **wanted: Any) -> pd.Series:
    """Return the balanced accuracy of each subject, averaged over seeds."""
    keep = np.logical_and.reduce([table[key] == value for key, value in wanted.items()])
    return table[keep].groupby("subject")["balanced_accuracy"].mean()


def show(table: pd.DataFrame) -> None:
    """Print means over subjects with their intervals, and paired differences."""
    for (backbone, lost), found in table.groupby(["backbone", "lost"], sort=False):
        print(f"{backbone}, {LOST[lost]} missing in the target's windows")
        for share in SHARES:
            plain, dropped = (
                per_subject(found, share=share, training=f"dropout {dropout}")
                for dropout in DROPOUTS
            )
            gap = compare(dropped.to_numpy(), plain.to_numpy())
            print(
                f"  {share:4.0%}: {words(plain)} | {words(dropped)} | "
                f"{gap.difference:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}], "
                f"Wilcoxon p = {gap.p:.2g}"
            )
        alone = per_subject(found, training="without it from the start")
        if len(alone):
            print(f"  trained without it from the start: {words(alone)}")


def words(values: pd.Series) -> str:
    """Return mean and interval."""
    low, high = bootstrap_interval(values.to_numpy())
    return f"{values.mean():.3f} [{low:.3f}, {high:.3f}]"


def draw(table: pd.DataFrame, path: Path) -> None:
    """Draw balanced accuracy against the share missing."""
    style = {
        "font.size": 8,
        "axes.titlesize": 8,
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "svg.fonttype": "none",
        "svg.hashsalt": "domainemo",
    }
    backbones = list(dict.fromkeys(table["backbone"]))
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(2.6 * len(backbones) + 1.2, 4.8), layout="constrained")
        grid = figure.subplots(
            len(LOST), len(backbones), sharex=True, sharey=True, squeeze=False
        )
        for line, lost in zip(grid, LOST, strict=True):
            for axes, backbone in zip(line, backbones, strict=True):
                keep = (table["backbone"] == backbone) & (table["lost"] == lost)
                draw_panel(axes, table[keep])
                axes.set_title(f"{backbone}: {LOST[lost]} missing")
        figure.supxlabel("Share of the target's windows without the modality", size=8)
        figure.supylabel("Balanced accuracy (mean, 95 % interval)", size=8)
        handles, labels = grid[0][0].get_legend_handles_labels()
        figure.legend(
            handles, labels, loc="outside upper center", ncols=4, frameon=False
        )
        figure.savefig(path, metadata={"Date": None})


def draw_panel(axes: Axes, table: pd.DataFrame) -> None:
    """Draw one backbone that loses one modality."""
    for shift, dropout, marker, colour in (
        (-0.01, DROPOUTS[0], "o", COLOURS[0]),
        (0.01, DROPOUTS[1], "s", COLOURS[5]),
    ):
        found = [
            per_subject(table, share=share, training=f"dropout {dropout}").to_numpy()
            for share in SHARES
        ]
        means = np.array([values.mean() for values in found])
        low, high = np.array([bootstrap_interval(values) for values in found]).T
        axes.errorbar(
            np.array(SHARES) + shift,
            means,
            yerr=[means - low, high - means],
            color=colour,
            marker=marker,
            markersize=4,
            linewidth=1.2,
            capsize=2,
            label=f"modality dropout {dropout:g}",
        )
    alone = per_subject(table, training="without it from the start")
    if len(alone):
        axes.axhline(
            alone.mean(),
            color=COLOURS[2],
            linestyle="--",
            linewidth=1.2,
            label="trained without the modality",
        )
    axes.axhline(1 / 3, color="0.5", linestyle=":", linewidth=1, label="chance")
    axes.set_xticks(SHARES, [f"{share:.0%}" for share in SHARES])
    axes.set_ylim(0.3, 0.95)
    axes.set_yticks(np.arange(3, 10) / 10)
    axes.grid(axis="y", color="0.92", linewidth=0.6)
    axes.set_axisbelow(True)


if __name__ == "__main__":
    main()
