"""The published systems, unadapted and with UF-AMA, on the same folds.

    python benchmarks/systems.py OUTPUT --data DATA

Leave one subject out, on simulated recordings, on eegmat and on esports (both below
DATA, see ``docs/datasets.md``). Every network trains alike: the library's defaults, one
sampling (sequences of five windows), as many epochs and the last of them, z-scored per
session. So the table compares networks, and is no reproduction of a paper's figure.
Runs are kept below OUTPUT and resumed from there; the table is printed as Markdown and
written to OUTPUT/table.md.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pandas as pd

import domainemo as de
from domainemo.processes import process_pool

SYSTEMS = ("uf-ama", "r2gfanet", "mmstg-net", "physiosync")
"""Backbones of the published systems."""

METHODS = ("source only", "uf-ama")

EPOCHS = {"simulated": 20, "eegmat": 20, "esports": 5}
"""Of each data set: esports has fifteen times as many windows as the others."""


def simulated(_: Path | None) -> tuple[de.EmotionData, dict]:
    """Return simulated recordings, few enough for two cores."""
    return de.load("simulated", subjects=6, sessions=1), {}


def eegmat(data: Path | None) -> tuple[de.EmotionData, dict]:
    """Return rest and arithmetic: EEG and heart."""
    return de.load("eegmat", data), {}


def esports(data: Path | None) -> tuple[de.EmotionData, dict]:
    """Return matches against bots or humans; players 0 and 5 never wore the EEG."""
    choices = {"modalities": ("eeg", "eye"), "exclude": (0, 5)}
    return de.load("esports", data), choices


DATASETS: dict[str, Callable[[Path | None], tuple[de.EmotionData, dict]]] = {
    "simulated": simulated,
    "eegmat": eegmat,
    "esports": esports,
}


def trained(
    name: str, data: Path | None, options: argparse.Namespace
) -> Iterator[tuple[str, de.Results]]:
    """Yield each system and its results."""
    recordings, choices = DATASETS[name](data)
    pool = process_pool(options.jobs) if options.jobs > 1 else nullcontext()
    with pool as executor:
        for system in options.systems:
            results = de.run(
                recordings,
                backbone=system,
                adapter="uf-ama",
                seeds=options.seeds,
                sampling="sequences",
                training=de.Training(epochs=options.epochs or EPOCHS[name]),
                options={"sampling.length": 5},
                output=options.output / f"{name}-{system}",
                executor=executor,
                device="cpu",
                **choices,
            )
            print(f"done: {name}, {system}", file=sys.stderr, flush=True)
            yield system, results


def rows(
    name: str, system: str, results: de.Results, *, controls: bool
) -> Iterator[dict[str, object]]:
    """Yield what the table says of a run."""
    summary = results.summary()
    table = results.table
    for method, found in summary.iterrows():
        network = method in METHODS
        if not (network or controls):
            continue
        theirs = table[table["method"] == method]
        parameters = theirs["parameters"].dropna()
        seconds = theirs.drop_duplicates(["fold", "seed"])["seconds"].mean()
        yield {
            "recordings": name,
            "backbone": system if network else "-",
            "method": method,
            "balanced accuracy": f"{found['mean']:.3f}",
            "95 % interval": f"{found['low']:.3f} to {found['high']:.3f}",
            "parameters": f"{int(parameters.iloc[0]):,}" if len(parameters) else "-",
            "seconds per fold": "-" if pd.isna(seconds) else f"{seconds:.1f}",
        }


def gap(name: str, system: str, results: de.Results) -> Iterator[str]:
    """Yield the sentence on what UF-AMA adds to a network, subject by subject."""
    found = results.comparison()
    if found is not None:
        yield (
            f"- {name}, {system}: UF-AMA less source only {found.difference:+.3f} "
            f"[{found.low:+.3f}, {found.high:+.3f}], Wilcoxon p = {found.p:.3g}."
        )


def main() -> None:
    """Run everything that is missing and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--data", type=Path, default=os.environ.get("DOMAINEMO_DATA"))
    parser.add_argument("--datasets", nargs="+", choices=DATASETS, default=[*DATASETS])
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS))
    parser.add_argument("--epochs", type=int, help="in place of EPOCHS")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    found: list[dict[str, object]] = []
    gaps: list[str] = []
    for name in options.datasets:
        for number, (system, results) in enumerate(
            trained(name, options.data, options)
        ):
            found += rows(name, system, results, controls=number == 0)
            gaps += gap(name, system, results)
    names = list(found[0])
    lines = [" | ".join(names), " | ".join("---" for _ in names)]
    lines += [" | ".join(str(row[name]) for name in names) for row in found]
    text = "\n".join([*(f"| {line} |" for line in lines), "", *gaps])
    (options.output / "table.md").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
