"""Two ways to a high number that means nothing, and the controls that catch them.

    python benchmarks/hollow.py OUTPUT [--page]

*Lengths.* Simulated people in whose recordings emotions do nothing at all: chance is
all that there is to reach. Where each clip has a length of its own, the same for
everyone, r2gfanet is given whole trials, or sequences of 4 windows; where lengths are
drawn for each person, the same.

*Clips.* Emotions act weakly, and clips leave a mark on everybody who sees them that has
nothing to do with their class, from none to a strong one. The same network is tested on
unseen people who see the clips of the others (cross-subject), and on unseen people and
unseen clips (leave-stimuli-out).

Five seeds: other people and other clips, and another random start. Every network is
that of the last epoch; nothing was chosen by a test label. Each cell is kept in
OUTPUT/cells.csv, and a second call goes on from there. `--page` writes the tables of
docs/hollow-numbers.md and its figure, and keeps the cells beside them.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pages import placed

import domainemo as de
from domainemo.errors import DomainemoWarning

SEEDS = range(5)
CHANCE = 1 / 3
NETWORK, DURATION, IDENTITY = "source only", "clip duration only", "clip identity"
DOCS = Path(__file__).parents[1] / "docs"
SMALL = {
    "backbone.width": 16,
    "backbone.heads": 2,
    "backbone.feedforward": 32,
    "backbone.fusion_width": 32,
    "backbone.partition": "6",
    "backbone.dropout": 0.1,
    "backbone.head_dropout": 0.1,
}
COLUMNS = ["part", "recordings", "how", "seed", "method", "accuracy"]
LENGTHS = {
    "own": "a length of its own for each clip",
    "drawn": "lengths drawn for each person",
}
MARKS = ("0.0", "1.0", "2.0")
SPLITS = {"cross-subject": "clips seen", "leave-stimuli-out": "clips unseen"}


def cells() -> Iterator[tuple[str, str, str, int]]:
    """Yield what is to be run: part, recordings, how it is tested, seed."""
    for seed in SEEDS:
        for recordings, how in product(LENGTHS, ("trials", "sequences")):
            yield "lengths", recordings, how, seed
        for recordings, how in product(MARKS, SPLITS):
            yield "clips", recordings, how, seed


def run(part: str, recordings: str, how: str, seed: int) -> de.Results:
    """Return the results of a cell."""
    return (
        _lengths(recordings, how, seed)
        if part == "lengths"
        else _clips(float(recordings), how, seed)
    )


def _lengths(recordings: str, how: str, seed: int) -> de.Results:
    """Train on ten people and test five."""
    data = de.Simulated(
        subjects=15,
        sessions=1,
        trials=15,
        windows=(2, 30),
        effect=0.0,
        stimulus_effect=0.0,
        subject_shift=0.3,
        missing=0.0,
        poor=0.0,
        length_reveals_class=recordings == "own",
        seed=seed,
    ).load()
    whole = how == "trials"
    length = {} if whole else {"sampling.length": 4}
    return _run(
        data,
        seed,
        controls="clip-duration-only",
        normalisation="none",
        protocol="cross-subject",
        options={"protocol.test": [11, 12, 13, 14, 15]} | length,
        sampling=how,
        training=de.Training(epochs=60 if whole else 12, learning_rate=3e-3),
    )


def _clips(mark: float, how: str, seed: int) -> de.Results:
    """Test two of six people on the clips of the others, or on others."""
    data = de.Simulated(
        subjects=6,
        sessions=1,
        trials=15,
        windows=(8, 8),
        effect=1.0,
        stimulus_effect=mark,
        missing=0.0,
        poor=0.0,
        seed=seed,
    ).load()
    people = [f"subject {person}" for person in (1, 2)]
    left = [f"{one}, stimuli {n} of 3" for one in people for n in (1, 2, 3)]
    return _run(
        data,
        seed,
        controls="clip-identity",
        protocol=how,
        folds=people if how == "cross-subject" else left,
        options={"sampling.length": 4, "protocol.unfit": "skip"},
        sampling="sequences",
        training=de.Training(epochs=25, learning_rate=3e-3),
    )


def _run(
    data: de.EmotionData, seed: int, *, options: Mapping[str, Any], **chosen: Any
) -> de.Results:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DomainemoWarning)
        return de.run(
            data,
            adapter="none",
            backbone="r2gfanet",
            modalities="eeg",
            seeds=[seed],
            device="cpu",
            options={**SMALL, **options},
            **chosen,
        )


def fill(output: Path) -> pd.DataFrame:
    """Run what is missing of the table; return it."""
    output.mkdir(parents=True, exist_ok=True)
    path = output / "cells.csv"
    if not path.is_file():
        path.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
    done = {tuple(row[:4]) for row in _read(path).to_numpy().tolist()}
    left = [cell for cell in cells() if cell not in done]
    with path.open("a", encoding="utf-8") as file:
        for number, cell in enumerate(left, 1):
            means = run(*cell).summary()["mean"]
            for method, accuracy in means.items():
                row = (*cell, method, f"{accuracy:.6f}")
                file.write(",".join(map(str, row)) + "\n")
            file.flush()
            print(
                f"[{number}/{len(left)}]", *cell, means.round(3).to_dict(), flush=True
            )
    return _read(path)


def _read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype={"recordings": str})


def tables(found: pd.DataFrame) -> dict[str, str]:
    """Return the page's tables as Markdown, by their marks."""
    lengths, clips = (_means(found, part) for part in ("lengths", "clips"))
    first = [
        "| recordings | samples | r2gfanet | clip duration only |",
        "|---|---|---|---|",
    ]
    for recordings, how in product(LENGTHS, ("trials", "sequences")):
        row = lengths.loc[(recordings, how)]
        samples = "whole trials" if how == "trials" else "sequences of 4 windows"
        shown = f"{row[NETWORK]} | {row[DURATION]}"
        first.append(f"| {LENGTHS[recordings]} | {samples} | {shown} |")
    heads = [
        f"{who}, {split}" for who in ("r2gfanet", IDENTITY) for split in SPLITS.values()
    ]
    second = [f"| clip's mark | {' | '.join(heads)} |", "|---|---|---|---|---|"]
    for mark in MARKS:
        row = [clips.loc[(mark, how)][m] for m in (NETWORK, IDENTITY) for how in SPLITS]
        second.append(f"| {mark} | {' | '.join(row)} |")
    return {"lengths": "\n".join(first), "clips": "\n".join(second)}


def _means(found: pd.DataFrame, part: str) -> pd.DataFrame:
    """Return mean and range over seeds, a column for each method."""
    rows = found[found["part"] == part]
    groups = rows.groupby(["recordings", "how", "method"])["accuracy"]
    shown = groups.agg(lambda x: f"{x.mean():.2f} ({x.min():.2f} to {x.max():.2f})")
    return shown.unstack("method")


def draw(found: pd.DataFrame) -> Figure:
    """Draw both: every seed a dot, the mean a line."""
    matplotlib.rcParams["svg.hashsalt"] = "hollow"
    figure = Figure(figsize=(8.2, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    names = [
        f"{samples}\n{kind}"
        for kind, samples in product(
            ("own lengths", "drawn lengths"), ("trials", "sequences")
        )
    ]
    places = list(product(LENGTHS, ("trials", "sequences")))
    _dots(left, found[found["part"] == "lengths"], places, (NETWORK, DURATION))
    left.set_xticks(range(len(places)), names, fontsize=7)
    left.set_title("no emotion at all; lengths", fontsize=9)
    left.set_ylabel("balanced accuracy (dashed: chance)", fontsize=8)
    places = list(product(MARKS, SPLITS))
    _dots(right, found[found["part"] == "clips"], places, (NETWORK, IDENTITY))
    names = [f"{SPLITS[how]}\nmark {float(mark):g}" for mark, how in places]
    right.set_xticks(range(len(places)), names, fontsize=6.5)
    right.set_title("clips that leave a mark", fontsize=9)
    return figure


def _dots(
    axes: Axes, found: pd.DataFrame, places: list[Any], methods: tuple[str, str]
) -> None:
    """Draw both methods beside each other at each place."""
    styles = zip(methods, (-0.13, 0.13), ("#0072b2", "#d55e00"), "oD", strict=True)
    for method, shift, colour, marker in styles:
        for place, (recordings, how) in enumerate(places):
            rows = found[(found["recordings"] == recordings) & (found["how"] == how)]
            values = rows["accuracy"][rows["method"] == method]
            x = place + shift
            axes.scatter(
                [x] * len(values),
                values,
                s=14,
                c=colour,
                marker=marker,
                alpha=0.5,
                lw=0,
                label=None if place else _called(method),
            )
            axes.hlines(values.mean(), x - 0.1, x + 0.1, color=colour, lw=2)
    axes.axhline(CHANCE, color="0.35", lw=0.9, ls=(0, (4, 3)))
    axes.set_ylim(0, 1.18)
    axes.set_yticks([tick / 5 for tick in range(6)])
    axes.legend(fontsize=7, loc="upper right", frameon=False)


def _called(method: str) -> str:
    return "r2gfanet" if method == NETWORK else method


def write_page(found: pd.DataFrame) -> None:
    """Put tables and figure into the documentation."""
    page = DOCS / "hollow-numbers.md"
    text = page.read_text(encoding="utf-8")
    for name, table in tables(found).items():
        text = placed(text, name, table)
    page.write_text(text, encoding="utf-8")
    found.to_csv(DOCS / "tables" / "hollow-numbers.csv", index=False)
    draw(found).savefig(DOCS / "hollow-numbers.svg", metadata={"Date": None})


def main() -> None:
    """Run what is missing, and print or write the page's tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--page", action="store_true")
    chosen = parser.parse_args()
    found = fill(chosen.output)
    for table in tables(found).values():
        print(f"\n{table}")
    if chosen.page:
        write_page(found)


if __name__ == "__main__":
    main()
