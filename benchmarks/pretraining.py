"""What pre-training is worth where few trials have labels, on simulated recordings.

Run `python benchmarks/pretraining.py`. It pre-trains a backbone per fold with
synchronous and with random pairs, fine-tunes from both and from a random start with a
share of the source's labelled trials, and prints the balanced accuracy on the subject
left out. Everything is kept in a folder, and a second call reads what is there.
"""

from __future__ import annotations

import argparse
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pandas as pd

import domainemo as de
from domainemo.processes import cores, process_pool

STARTS = ("random start", "random pairs", "synchronous pairs")
SHARES = (0.05, 0.1, 0.25, 1.0)
SMALL = {"backbone.short_width": 16, "backbone.long_width": 32, "backbone.blocks": 1}


def main() -> None:
    """Run the benchmark and print its tables."""
    chosen = arguments()
    began = time.monotonic()
    data = de.Simulated(
        subjects=chosen.subjects,
        sessions=1,
        trials=chosen.trials,
        windows=(12, 12),
        synchrony=chosen.synchrony,
        seed=chosen.data_seed,
    ).load()
    pool = process_pool(chosen.jobs) if chosen.jobs > 1 else nullcontext()
    with pool as executor:
        table = measure(data, chosen, executor)
    print(f"\n{data.inputs.name}; {chosen.backbone}; seeds {chosen.seeds}")
    print(f"{chosen.pretraining_epochs} epochs, then {chosen.epochs}; ", end="")
    print(f"{time.monotonic() - began:.0f} s\n")
    show(table)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="physiosync")
    parser.add_argument("--subjects", type=int, default=8)
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--synchrony", type=float, default=1.0)
    parser.add_argument("--data-seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--shares", type=float, nargs="+", default=list(SHARES))
    parser.add_argument("--pretraining-epochs", type=int, default=15)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--members", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=cores())
    parser.add_argument("--output", type=Path, default=Path("runs/pretraining"))
    return parser.parse_args()


def measure(
    data: de.EmotionData, chosen: argparse.Namespace, executor: Any
) -> pd.DataFrame:
    """Return a row per start, share, subject and seed."""
    common = {
        "backbone": chosen.backbone,
        "seeds": chosen.seeds,
        "device": "cpu",
        "executor": executor,
    }
    small = SMALL if chosen.backbone == "physiosync" else {}
    folders = {}
    for pairs in ("random", "synchronous"):
        folders[f"{pairs} pairs"] = chosen.output / pairs
        table = de.pretrain(
            data,
            pairs=pairs,
            training=de.Training(epochs=chosen.pretraining_epochs),
            output=chosen.output / pairs,
            options=small | {"pairs.members": chosen.members},
            **common,
        )
        first, last = table[["first_loss", "last_loss"]].mean()
        print(f"{pairs} pairs: mean loss from {first:.1f} to {last:.1f}", flush=True)
    rows = []
    for share in chosen.shares:
        for start in STARTS:
            results = de.run(
                data,
                adapter="none",
                baselines=False,
                training=de.Training(
                    epochs=chosen.epochs, batch_size=16, label_share=share
                ),
                init_from=folders.get(start),
                options=small,
                output=chosen.output / f"{start} {share}".replace(" ", "-"),
                **common,
            )
            level = results.table["level"] == results.level
            rows.append(results.table[level].assign(start=start, share=share))
    return pd.concat(rows, ignore_index=True)


def show(table: pd.DataFrame) -> None:
    """Print means over subjects, and paired differences with their intervals."""
    from domainemo.statistics.paired import compare

    wide = table.pivot_table(
        "balanced_accuracy", index=["share", "subject"], columns="start"
    )
    for share, found in wide.groupby("share"):
        means = ", ".join(f"{start} {found[start].mean():.3f}" for start in STARTS)
        print(f"{share:4.0%} of the labels: {means}")
        for other in STARTS[:2]:
            one, two = (found[name].to_numpy() for name in (STARTS[2], other))
            gap = compare(one, two)
            print(
                f"      less {other}: {gap.difference:+.3f} "
                f"[{gap.low:+.3f}, {gap.high:+.3f}], Wilcoxon p = {gap.p:.3g}"
            )


if __name__ == "__main__":
    main()
