"""Which method repairs which shift, as a matrix.

    python benchmarks/repairs.py OUTPUT [--jobs 2] [--only dann coral ...]

Simulated people who are much alike, of whom one is changed in one way at a time:
offset, scale, electrodes turned around the head, other shares of the classes, one
sensor that tells nothing, drift through the session. Every registered adapter, every
control that looks at the signals and every normalisation is trained on the others and
tested on that person, five times over: other people, other draws. Values are z-scored
by the source alone, so that nothing but the method can repair a shift.

Each cell is kept in OUTPUT/cells.csv, and a second call goes on from there; the table
and the figure are drawn from all that is there.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import as_completed
from contextlib import nullcontext
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matrix import draw_matrix, families
from numpy.typing import NDArray

import domainemo as de
from domainemo.data.simulator import CHANNELS, POSITIONS
from domainemo.errors import ConfigurationError, DomainemoWarning
from domainemo.processes import process_pool
from domainemo.registry import entries, find

SEEDS = range(5)
BASE = "source only"
# With normalisation layers, without which adversaries have nothing to hold them and
# some methods at test time nothing to change.
BACKBONE = {
    "backbone.hidden": (32,),
    "backbone.width": 16,
    "backbone.fusion_width": 32,
    "backbone.normalisation": "batch",
}
TRAINING = {"epochs": 30, "batch_size": 96, "learning_rate": 6e-3}

Values = NDArray[np.float32]


def recordings(shift: str, seed: int) -> de.EmotionData:
    """Return five people, the last of whom is changed."""
    data = de.Simulated(
        subjects=5,
        sessions=1,
        trials=12,
        windows=(6, 6),
        subject_shift=0.3,
        session_shift=0.3,
        poor=0.0,
        missing=0.0,
        seed=seed,
    ).load()
    subjects = data.inputs.windows["subject"].to_numpy()
    changed = subjects == subjects.max()
    if shift == "label share":
        return data.take(_rare(data, changed))
    signals = {}
    for name, values in data.inputs.signals.items():
        others = values[~changed]
        mean, deviation = others.mean(0), others.std(0)
        standard = (values[changed] - mean) / deviation
        new = SHIFTS[shift](standard, name, np.random.default_rng(seed))
        signals[name] = values.copy()
        signals[name][changed] = mean + deviation * new
    return replace(data, inputs=replace(data.inputs, signals=signals))


def _rare(data: de.EmotionData, changed: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the rows that are left if one person saw few clips but of one class."""
    trials = data.inputs.windows["trial"].to_numpy()
    kept = ~changed
    for label in np.unique(data.labels):
        own = np.unique(trials[changed & (data.labels == label)])
        left = own if label == 0 else own[:1]
        kept |= changed & np.isin(trials, left)
    return np.flatnonzero(kept)


def _offset(values: Values, name: str, draw: np.random.Generator) -> Values:
    return values + 1.5 * draw.standard_normal(values.shape[1:])


def _scale(values: Values, name: str, draw: np.random.Generator) -> Values:
    return values * np.exp(0.7 * draw.standard_normal(values.shape[1:]))


def _turned(values: Values, name: str, draw: np.random.Generator) -> Values:
    """Return what electrodes see that sit 40 degrees further around the head."""
    if name != "eeg":
        return values
    angle = np.deg2rad(40)
    turn = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    moved = POSITIONS @ np.array(turn)
    distance = np.linalg.norm(moved[:, None] - POSITIONS, axis=-1)
    near = np.exp(-((distance / 0.15) ** 2))
    assert len(near) == len(CHANNELS)
    found: Values = (near / near.sum(1, keepdims=True)) @ values
    return found


def _deaf(values: Values, name: str, draw: np.random.Generator) -> Values:
    """Return the eye tracker's windows in another order: they tell nothing."""
    return draw.permutation(values) if name == "eye" else values


def _drift(values: Values, name: str, draw: np.random.Generator) -> Values:
    """Return values that move by three deviations from the first to the last."""
    way = 3 * draw.choice([-1.0, 1.0], values.shape[1:])
    time = np.linspace(-0.5, 0.5, len(values))[:, None, None]
    return values + time * way


SHIFTS: Mapping[str, Any] = {
    "none": lambda values, name, draw: values,
    "offset": _offset,
    "scale": _scale,
    "rotation": _turned,
    "label share": None,  # rows are left out
    "bad sensor": _deaf,
    "drift": _drift,
}


def methods() -> list[tuple[str, str, dict[str, Any]]]:
    """Return every method's family, its name, and what is chosen for it; by family."""
    found: list[tuple[str, str, dict[str, Any]]] = []
    for entry in entries("normalisation"):
        if find("normalisation", entry.name)().by in ("session", "subject"):
            found.append(("normalisations", entry.name, {"normalisation": entry.name}))
    for name, family in families().items():
        if name != "none":
            found.append((family, name, {"adapter": name}))
    for entry in entries("control"):
        control = find("control", entry.name)()
        if control.sees_signals:
            found.append(("plain models", entry.name, {"controls": [entry.name]}))
    return [("", BASE, {"adapter": "none"}), *sorted(found, key=lambda each: each[0])]


def cell(chosen: Mapping[str, Any], shift: str, seed: int) -> float:
    """Return the balanced accuracy on the changed person; NaN where it is refused."""
    data = recordings(shift, seed)
    person = data.inputs.windows["subject"].max()
    control = chosen.get("controls")
    settings = {"adapter": "none", "normalisation": "source", **chosen}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DomainemoWarning)
            results = de.run(
                data,
                backbone="concatenation-mlp",
                options=BACKBONE,
                training=de.Training(**TRAINING),
                seeds=[seed],
                folds=[f"subject {person}"],
                baselines=bool(control),
                device="cpu",
                **settings,
            )
    except ConfigurationError:
        return float("nan")
    table = results.table
    name = control[0].replace("-", " ") if control else None
    rows = table[table["level"] == "window"]
    if name:
        rows = rows[rows["method"] == name]
    (found,) = rows["balanced_accuracy"]
    return float(found)


def main() -> None:
    """Fill in what is missing of the table, and draw it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--only", nargs="+")
    chosen = parser.parse_args()
    chosen.output.mkdir(parents=True, exist_ok=True)
    path = chosen.output / "cells.csv"
    known = methods()
    if chosen.only:
        known = [each for each in known if each[1] in (BASE, *chosen.only)]
    done = _read(path)
    there = {tuple(row) for row in done[["method", "shift", "seed"]].to_numpy()}
    left = [
        (name, how, shift, seed)
        for (_, name, how), shift, seed in product(known, SHIFTS, SEEDS)
        if (name, shift, seed) not in there
    ]
    several = chosen.jobs > 1
    pool = process_pool(chosen.jobs, script=True) if several else nullcontext()
    with pool as executor, path.open("a", encoding="utf-8") as file:
        for number, row in enumerate(_cells(left, executor), 1):
            file.write(",".join(map(str, row)) + "\n")
            file.flush()
            print(f"[{number}/{len(left)}] {row}", flush=True)
    table = _read(path)
    draw(table, {name: family for family, name, _ in known}, chosen.output)


def _read(path: Path) -> pd.DataFrame:
    columns = ["method", "shift", "seed", "balanced_accuracy"]
    if not path.is_file():
        path.write_text(",".join(columns) + "\n", encoding="utf-8")
    return pd.read_csv(path, keep_default_na=False).astype({"balanced_accuracy": float})


def _cells(left: list[Any], executor: Any) -> Iterator[tuple[str, str, int, float]]:
    if executor is None:
        for name, how, shift, seed in left:
            yield name, shift, seed, cell(how, shift, seed)
        return
    futures = {
        executor.submit(cell, how, shift, seed): (name, shift, seed)
        for name, how, shift, seed in left
    }
    for future in as_completed(futures):
        yield (*futures[future], future.result())


def differences(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return each method's mean gain over source only, and in how many seeds it won."""
    wide = table.pivot(
        index=["method", "seed"], columns="shift", values="balanced_accuracy"
    )[list(SHIFTS)]
    gain = wide - wide.loc[BASE].reindex(wide.index, level="seed")
    by_method = gain.groupby("method", sort=False)
    return by_method.mean(), by_method.agg(lambda each: (each > 0).sum())


def draw(table: pd.DataFrame, family: Mapping[str, str], output: Path) -> None:
    """Print the matrix as Markdown, and draw it."""
    gain, won = differences(table)
    base = table[table["method"] == BASE].groupby("shift")["balanced_accuracy"].mean()
    names = [name for name in family if name in gain.index and name != BASE]
    print("\n| |", " | ".join(SHIFTS), "|")
    print("|---|" + "---|" * len(SHIFTS))
    print(f"| {BASE} |", " | ".join(f"{base[each]:.3f}" for each in SHIFTS), "|")
    for name in names:
        row = " | ".join(f"{gain.loc[name, each]:+.3f}" for each in SHIFTS)
        print(f"| {name} | {row} |")
    heads = [f"{each}\n{100 * base[each]:.0f} %" for each in SHIFTS]
    always = won.loc[names, list(SHIFTS)].isin([0, len(SEEDS)]).to_numpy()
    points = 100 * gain.loc[names, list(SHIFTS)]
    draw_matrix(points, always, heads, family, output / "repairs.svg", limit=30)


if __name__ == "__main__":
    main()
