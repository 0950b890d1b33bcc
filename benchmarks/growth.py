"""How the time of training grows: with folds, subjects, windows, channels, members.

    python benchmarks/growth.py OUTPUT [--backbones ...] [--turns 3]

Noise of five people, 96 windows each, 16 electrodes and eight eye measures, with the
adapter uf-ama; of these one number at a time is changed. An epoch of whole trainings on
one thread, from their first batch to what follows the epoch: CPU time, the median of
several turns, in which the sizes follow each other. Folds train one after the other,
members as one program.

Writes OUTPUT/growth.csv, and goes on there with the rows that are missing.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from speed import Shape, fill, member, seconds

from domainemo.runs.experiment import experiment
from domainemo.training.population import Member, train_together
from domainemo.training.seeds import reproducible

BASE = Shape(people=5, windows=96, classes=3, channels=16, features=8)
SIZES = {
    "folds": (1, 2, 4),
    "subjects": (2, 4, 8),  # of the source
    "windows": (48, 96, 192, 384),  # of each of them
    "channels": (8, 16, 32, 62),
    "members": (2, 4, 8, 16),
}


def shape_of(what: str, size: int) -> Shape:
    """Return what is recorded where one number is changed."""
    if what == "subjects":
        return BASE._replace(people=size + 1)
    return BASE._replace(**{what: size}) if what in BASE._fields else BASE


def growth(rows: list[dict[str, Any]], turns: int) -> list[dict[str, Any]]:
    """Return the seconds of every size.

    Parameters
    ----------
    rows : list of dict
        Alike but for their ``size``.
    turns : int
    """
    name, what = rows[0]["backbone"], rows[0]["what"]
    options = {"training.epochs": 1}
    made = experiment(backbone=name, adapter="uf-ama", device="cpu", options=options)
    took: dict[int, list[float]] = {row["size"]: [] for row in rows}
    for _ in range(1 + turns):  # the first is not counted
        for size, found in took.items():
            count = size if what in ("folds", "members") else 1
            begun = [member(made, shape_of(what, size), n) for n in range(count)]
            train = train_together if what == "members" else one_by_one
            found.append(seconds(partial(train, begun)))
    return [{**row, "seconds": float(np.median(took[row["size"]][1:]))} for row in rows]


def one_by_one(members: list[Member]) -> None:
    """Train each member alone."""
    for each in members:
        each.loop.run()


def main() -> None:
    """Measure what is missing, and print all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("output", type=Path, metavar="OUTPUT")
    default = ["concatenation-mlp", "dgcnn", "uf-ama"]
    parser.add_argument("--backbones", nargs="+", default=default)
    parser.add_argument("--turns", type=int, default=3)
    chosen = parser.parse_args()
    wanted = [
        {"backbone": name, "what": what, "size": size}
        for name in chosen.backbones
        for what, sizes in SIZES.items()
        for size in sizes
    ]
    measure = partial(growth, turns=chosen.turns)
    with reproducible(threads=1):
        fill(chosen.output / "growth.csv", wanted, measure)


if __name__ == "__main__":
    main()
