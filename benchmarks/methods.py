"""Every adapter beside source only and a linear model, on the same folds.

    python benchmarks/methods.py OUTPUT --data DATA [--jobs 2]

Leave one subject out on eegmat, esports and ssvep-exo (below DATA, see
``docs/datasets.md``): every registered adapter around three networks, and the controls
that look at the signals. All train alike: the library's defaults, as many epochs and
the last of them, z-scored per session, three seeds whose mean counts for a subject.

Each combination is a run of its own below OUTPUT and resumed from there. What is there
is printed as Markdown and written to OUTPUT/table.md: the mean over subjects, its 95 %
bootstrap interval, and the mean difference from source only and from the linear model
with Wilcoxon's signed-rank p, adjusted by Holm over all methods of a data set and a
network.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import domainemo as de
from domainemo.errors import ConfigurationError
from domainemo.processes import process_pool
from domainemo.registry import entries, find
from domainemo.statistics.intervals import bootstrap_interval
from domainemo.statistics.paired import compare

BACKBONES = ("concatenation-mlp", "r2gfanet", "uf-ama")
BASE, LINEAR = "source only", "logistic regression"

# Epochs of each data set: esports has fifteen times as many windows as the others.
EPOCHS = {"eegmat": 20, "esports": 5, "ssvep-exo": 20}
CHOICES: dict[str, dict[str, Any]] = {
    # Players 0 and 5 never wore the EEG.
    "esports": {"modalities": ("eeg", "eye"), "exclude": (0, 5)},
}


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--data", type=Path, default=os.environ.get("DOMAINEMO_DATA"))
    parser.add_argument("--datasets", nargs="+", choices=EPOCHS, default=list(EPOCHS))
    parser.add_argument("--backbones", nargs="+", default=list(BACKBONES))
    parser.add_argument("--adapters", nargs="+", help="in place of all")
    parser.add_argument("--epochs", type=int, help="in place of EPOCHS")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=2)
    return parser.parse_args()


def adapters() -> list[str]:
    """Return every registered adapter but none, and by that of source only."""
    return [
        entry.name
        for entry in entries("adapter", varieties=True)
        if entry.name != "none"
    ]


def controls() -> list[str]:
    """Return the controls that look at the signals."""
    names = [entry.name for entry in entries("control")]
    return [name for name in names if find("control", name)().sees_signals]


def by_subject(results: de.Results) -> pd.DataFrame:
    """Return the balanced accuracy of each method (columns) in each subject."""
    level = results.table["level"].iloc[0]
    rows = results.table[results.table["level"] == level]
    return rows.pivot_table(
        index="fold", columns="method", values="balanced_accuracy", sort=False
    )


def measured(
    dataset: str, backbone: str, chosen: argparse.Namespace
) -> Iterator[pd.DataFrame]:
    """Run what is missing; yield what each run found in every subject."""
    data = de.load(dataset, chosen.data)
    pool = process_pool(chosen.jobs) if chosen.jobs > 1 else nullcontext()
    with pool as executor:
        for name in ["none", *(chosen.adapters or adapters())]:
            try:
                results = de.run(
                    data,
                    backbone=backbone,
                    adapter=name,
                    seeds=chosen.seeds,
                    training=de.Training(epochs=chosen.epochs or EPOCHS[dataset]),
                    baselines=name == "none",
                    output=chosen.output / f"{dataset}-{backbone}" / name,
                    executor=executor,
                    device="cpu",
                    **({"controls": controls()} if name == "none" else {}),
                    **CHOICES.get(dataset, {}),
                )
            except ConfigurationError as error:
                print(f"left out: {dataset}, {backbone}, {name}: {error}", flush=True)
                continue
            print(f"done: {dataset}, {backbone}, {name}", file=sys.stderr, flush=True)
            yield by_subject(results)


def holm(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return p-values adjusted by Holm (1979); NaN stay so, and do not count."""
    order = np.argsort(p)
    left = int(np.isfinite(p).sum()) - np.arange(len(p))
    adjusted = np.full(len(p), np.nan)
    adjusted[order] = np.minimum(np.fmax.accumulate(p[order] * left), 1)
    return np.where(np.isfinite(p), adjusted, np.nan)


def rows(found: pd.DataFrame) -> Iterator[dict[str, str]]:
    """Yield what the table says of each method, the best first."""
    against = {
        base: [
            compare(found[each].to_numpy(), found[base].to_numpy()) for each in found
        ]
        for base in (BASE, LINEAR)
    }
    adjusted = {
        base: holm(
            np.array(
                [
                    np.nan if name == base else each.p
                    for name, each in zip(found, compared, strict=True)
                ]
            )
        )
        for base, compared in against.items()
    }
    for place in np.argsort(-found.mean().to_numpy(), kind="stable"):
        values = found.iloc[:, place].to_numpy()
        low, high = bootstrap_interval(values)
        row = {
            "method": str(found.columns[place]),
            "balanced accuracy": f"{values.mean():.3f}",
            "95 % interval": f"{low:.3f} to {high:.3f}",
        }
        for base, compared in against.items():
            p = adjusted[base][place]
            row[f"less {base}"] = (
                "-" if np.isnan(p) else f"{compared[place].difference:+.3f} (p {p:.2g})"
            )
        yield row


def main() -> None:
    """Run everything that is missing and print the tables."""
    chosen = arguments()
    text = ""
    for dataset in chosen.datasets:
        for backbone in chosen.backbones:
            found = pd.concat(measured(dataset, backbone, chosen), axis=1)
            table = list(rows(found))
            names = list(table[0])
            lines = [" | ".join(names), " | ".join("---" for _ in names)]
            lines += [" | ".join(row.values()) for row in table]
            text += (
                f"\n{dataset}, {backbone}: {len(found)} subjects, seeds "
                f"{', '.join(map(str, chosen.seeds))}, last of "
                f"{chosen.epochs or EPOCHS[dataset]} epochs\n\n"
            )
            text += "\n".join(f"| {line} |" for line in lines) + "\n"
            (chosen.output / "table.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
