"""What a network shows of a person from inside, before it was adapted to anybody.

    domainemo benchmark benchmarks/methods.toml --data-root DATA --output OUTPUT
    python benchmarks/inside.py OUTPUT INSIDE [--data-root DATA]

Trains source only of OUTPUT once more, as its `benchmark.toml` says, with a validator
that keeps what the network makes of source and target after every epoch: no label of
the target is among it. Writes the signs of `INSIDE` in `signs.py` for each data set,
network and person, the mean over seeds, to INSIDE/inside.csv; beside them, the share of
windows given another class than in OUTPUT (`unlike`), and the largest difference of a
probability (`apart`). A second call goes on with the data sets and networks that are
missing.
"""

from __future__ import annotations

import argparse
import pickle
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from signs import INSIDE, WINDOW
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from domainemo.benchmarks.cells import Cell
from domainemo.cli.benchmarking import loading
from domainemo.cli.grid import read_grid
from domainemo.core import (
    FUSION,
    EmotionData,
    Inputs,
    Outputs,
    Source,
    Target,
    Validator,
)
from domainemo.files import write
from domainemo.parts import part
from domainemo.runs.plan import Plan, plan
from domainemo.runs.run import described, run_plan
from domainemo.screens.typicality import Typicality

FAR = 0.05  # share of the source's windows that are as far as what is not typical


class Recorder(Validator):
    """Takes the last epoch, and keeps what all of them made of source and target.

    Parameters
    ----------
    folder : str
        Receives a file for each epoch; in order of their names.
    """

    needs_training = True

    def __init__(self, *, folder: str = "") -> None:
        self.folder = folder

    def __call__(
        self, training: Source | None, held_out: Source | None, target: Target
    ) -> float:
        """Return how far training has come."""
        path = Path(self.folder) / f"{target.progress:.6f}.pkl"
        path.write_bytes(pickle.dumps((training, target.outputs)))
        return target.progress


def inside(
    people: NDArray[np.int64] | Sequence[object],
    training: Source,
    half: Outputs,
    last: Outputs,
) -> pd.DataFrame:
    """Return the signs of `INSIDE` for every person; low values are taken as harm.

    Parameters
    ----------
    people : sequence, length windows
        Whose each of the target's windows is.
    training : Source
        All that was learned from, as the trained network shows it.
    half, last : Outputs
        Of the target's windows, half-way through training and at its end.

    Returns
    -------
    DataFrame
        A row for each person.
    """
    embeddings = last.embeddings[FUSION]
    same = half.logits[FUSION].argmax(-1) == last.logits[FUSION].argmax(-1)
    found = {
        "branches": branches_agree(last),
        "heads": heads_agree(training, embeddings),
        "typical": typical(training, embeddings),
        "stays": same,
    }
    values = pd.DataFrame({name: found[name].double().numpy() for name in INSIDE})
    return values.groupby(pd.Index(people, name="person")).mean()


def branches_agree(outputs: Outputs) -> Tensor:
    """Return where every modality that is present is classified as the fusion is.

    Parameters
    ----------
    outputs : Outputs

    Returns
    -------
    Tensor of bool, shape (windows,)
        True where no modality is present.
    """
    fused = outputs.logits[FUSION].argmax(-1)
    agree = torch.ones_like(fused, dtype=torch.bool)
    for branch in outputs.modalities:
        lost = outputs.weight(branch) == 0
        agree &= lost | (outputs.logits[branch].argmax(-1) == fused)
    return agree


def heads_agree(training: Source, embeddings: Tensor) -> Tensor:
    """Return which share of pairs of source subjects' classifiers says the same.

    One logistic regression for each source subject with several classes, which count
    alike, on the fusion's embeddings, standardised by the whole source.

    Parameters
    ----------
    training : Source
    embeddings : Tensor of shape (windows, dim)

    Returns
    -------
    Tensor of shape (windows,)
        1 where there are no two classifiers.
    """
    source = training.outputs.embeddings[FUSION].double().numpy()
    labels, domains = training.labels.numpy(), training.domains.numpy()
    scaler = StandardScaler().fit(source)
    known, shown = (scaler.transform(each) for each in (source, embeddings.double()))
    answers = []
    for domain in np.unique(domains):
        own = domains == domain
        if len(np.unique(labels[own])) > 1:
            head = LogisticRegression(class_weight="balanced", max_iter=1000)
            answers.append(head.fit(known[own], labels[own]).predict(shown))
    number = len(answers)
    if number < 2:
        return torch.ones(len(embeddings))
    counts = (np.stack(answers)[..., None] == np.unique(labels)).sum(0)
    alike = (counts * (counts - 1)).sum(-1) / (number * (number - 1))
    return torch.from_numpy(alike)


def typical(training: Source, embeddings: Tensor) -> Tensor:
    """Return which windows are no further from a class than 95 % of the source's.

    The distance is that of :class:`~domainemo.screens.typicality.Typicality`.

    Parameters
    ----------
    training : Source
    embeddings : Tensor of shape (windows, dim)
        Of the fusion.

    Returns
    -------
    Tensor of bool, shape (windows,)
    """
    known = training.outputs.embeddings[FUSION]
    classes = training.outputs.logits[FUSION].shape[-1]
    screen = Typicality(known.shape[-1], classes)
    screen.learn(known, training.labels, FAR)
    found: Tensor = screen(embeddings)
    return found


def once(planned: Plan) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Train a plan's only fold with its only seed.

    Returns
    -------
    signs : DataFrame
        A row for each person of the fold.
    predicted : DataFrame
        Provenance and probabilities of each window.
    """
    with tempfile.TemporaryDirectory() as folder:
        recorder = part("validator", Recorder(folder=folder))
        chosen = replace(planned.experiment, validator=recorder, baselines=False)
        planned = replace(planned, experiment=chosen)
        words = described(planned.inputs.name, chosen)
        table = run_plan(planned, Path(folder) / "run", words).predictions
        seen = [
            pickle.loads(path.read_bytes())
            for path in sorted(Path(folder).glob("*.pkl"))
        ]
    probabilities = [name for name in table.columns if name.startswith("p_")]
    predicted = table[[*WINDOW, *probabilities]].reset_index(drop=True)
    # Targets are shown in this order, without what no sensor recorded.
    order = torch.randperm(len(table), generator=torch.Generator().manual_seed(0))
    shown = predicted.iloc[order[recorded(planned.inputs, predicted)[order]]]
    (_, half), (training, last) = seen[(len(seen) - 1) // 2], seen[-1]
    again = last.logits[FUSION].softmax(-1).numpy()
    assert np.allclose(again, shown[probabilities], atol=1e-5)
    return inside(shown["subject"].to_numpy(), training, half, last), predicted


def recorded(inputs: Inputs, windows: pd.DataFrame) -> Tensor:
    """Return of which of these windows some sensor recorded something; bool."""
    there = [
        ~np.isnan(each.reshape(len(each), -1)).all(1)
        for each in inputs.signals.values()
    ]
    known = inputs.windows[WINDOW].assign(there=np.any(there, 0))
    found = windows[WINDOW].merge(known, on=WINDOW, how="left", validate="1:1")
    return torch.tensor(found["there"].tolist())


def compared(own: pd.DataFrame, kept: pd.DataFrame) -> pd.DataFrame:
    """Return how far each person's predictions are from those that were kept.

    Parameters
    ----------
    own, kept : DataFrame
        Provenance and probabilities of windows, of `kept` perhaps of more.

    Returns
    -------
    DataFrame
        Of each person, `unlike` and `apart`.

    Raises
    ------
    SystemExit
        If windows were not kept.
    """
    both = own.merge(kept, on=WINDOW, how="left", suffixes=("", " kept"))
    names = [name for name in own.columns if name.startswith("p_")]
    now, then = both[names].to_numpy(), both[[f"{n} kept" for n in names]].to_numpy()
    if len(both) != len(own) or np.isnan(then).any():
        raise SystemExit("the predictions that were kept are of other windows")
    found = pd.DataFrame(
        {
            "unlike": now.argmax(1) != then.argmax(1),
            "apart": np.abs(now - then).max(1),
        }
    )
    by = found.groupby(both["subject"].rename("person"))
    return by.agg({"unlike": "mean", "apart": "max"})


def study(cell: Cell, data: EmotionData, output: Path) -> pd.DataFrame:
    """Return everybody's signs at one data set and network, the mean over seeds.

    Parameters
    ----------
    cell : Cell
        Of source only.
    data : EmotionData
    output : Path
        Of the benchmark, with what was predicted before.
    """
    kept = pd.read_parquet(
        cell.folder(output) / "predictions.parquet",
        filters=[("method", "==", "source only")],
    )
    planned = plan(data, cell.experiment)
    parts = []
    for seed, fold in product(cell.experiment.seeds, planned.folds):
        chosen = replace(cell.experiment, seeds=(seed,))
        signs, own = once(replace(planned, experiment=chosen, folds=[fold]))
        before = kept.loc[kept["seed"] == seed, own.columns]
        parts.append(signs.join(compared(own, before)))
    people = pd.concat(parts).groupby(level="person")
    means = people.mean().assign(apart=people["apart"].max())
    means.insert(0, "backbone", cell.backbone)
    means.insert(0, "dataset", cell.dataset)
    return means.reset_index()


def main() -> None:
    """Train what is missing, and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("output", type=Path, help="of `domainemo benchmark`")
    parser.add_argument("inside", type=Path, help="folder of the table")
    parser.add_argument("--data-root", help="folder of the recordings")
    chosen = parser.parse_args()
    said = {"data_root": chosen.data_root}
    grid = read_grid(str(chosen.output / "benchmark.toml"), said)
    load = loading(grid, cache=True)
    parts = []
    for cell in (each for each in grid.cells() if each.adapter == "none"):
        path = chosen.inside / "cells" / cell.dataset / f"{cell.backbone}.csv"
        if not path.exists():
            found = study(cell, load(cell.dataset), chosen.output)
            write(path, found.to_csv(index=False))
        parts.append(pd.read_csv(path))
        print(f"{cell.dataset}, {cell.backbone}", flush=True)
    table = pd.concat(parts, ignore_index=True)
    write(chosen.inside / "inside.csv", table.to_csv(index=False))
    print(table.drop(columns="person").groupby(["dataset", "backbone"]).mean())


if __name__ == "__main__":
    main()
