"""What a training step and a whole fold cost, alone and as one of a population.

    python benchmarks/speed.py OUTPUT [--shapes seed-iv ...] [--backbones ...]
                               [--adapters none uf-ama] [--members 1 8 45] [--all]

Recordings of noise in the shapes of data sets, one session of everybody; CPU time on
one thread, optimiser included. A step is the mean over three points of training, after
a sixth, a half and five sixths of it, as adapters do more as training goes on: at each,
the median of several, which alone and populations take by turns. A fold, of which one
person is left out, is 20 epochs of as many steps as the shape has, and what follows
each epoch, measured once. The memory is what a step half-way keeps for its gradients.

Writes OUTPUT/speed.csv, and goes on there with the rows that are missing. By default
three small networks alone and in populations of eight; `--all` takes every network at
every shape.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from domainemo.backbones.regions import ELECTRODES
from domainemo.core import Inputs, Modality
from domainemo.files import write
from domainemo.processes import cores
from domainemo.registry import entries
from domainemo.runs.experiment import Experiment, experiment
from domainemo.runs.memory import kept_by
from domainemo.training.batches import LabelledSamples, sample
from domainemo.training.fit import Fitting
from domainemo.training.freed import freed_memory_kept
from domainemo.training.loop import Loop
from domainemo.training.model import Network
from domainemo.training.population import Member, Population
from domainemo.training.seeds import reproducible

BANDS = ("delta", "theta", "alpha", "beta", "gamma")
SOURCE = 4096  # windows; more would change how many steps there are, and no step
POINTS = (1 / 6, 1 / 2, 5 / 6)
SMALL = ["concatenation-mlp", "dgcnn", "maet"]
CPU = torch.device("cpu")


class Shape(NamedTuple):
    """What is recorded of how many people: EEG in five bands, and something else."""

    people: int
    windows: int
    classes: int
    channels: int
    features: int
    kind: str = "eye"

    @property
    def source(self) -> int:
        """How many windows train where one person is left out."""
        return (self.people - 1) * self.windows

    def modalities(self) -> dict[str, Modality]:
        """Return both modalities."""
        names = tuple(f"{self.kind}-{number}" for number in range(self.features))
        return {
            "eeg": Modality(ELECTRODES[: self.channels], BANDS, "eeg"),
            self.kind: Modality(names, ("value",), self.kind),
        }


SHAPES = {
    "seed-iv": Shape(15, 851, 4, 62, 31),
    "seed-v": Shape(16, 681, 5, 62, 33),
    "deap": Shape(32, 600, 2, 32, 8, "physiology"),
}
"""Windows of 4 s; of SEED-IV and SEED-V those of the first session."""


def main() -> None:
    """Measure what is missing, and print all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    names = [each.name for each in entries("backbone")]
    parser.add_argument("output", type=Path, metavar="OUTPUT")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["seed-iv"])
    parser.add_argument("--backbones", nargs="+", choices=names, default=SMALL)
    parser.add_argument("--adapters", nargs="+", default=["none", "uf-ama"])
    parser.add_argument("--members", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--steps", type=int, default=5, help="at each point")
    parser.add_argument("--all", action="store_true")
    chosen = parser.parse_args()
    if chosen.all:
        chosen.shapes, chosen.backbones = list(SHAPES), names
    print(f"torch {torch.__version__}, {cores()} cores, one thread")
    wanted = [
        {"shape": shape, "backbone": name, "adapter": adapter, "members": count}
        for name, adapter, shape in product(
            chosen.backbones, chosen.adapters, chosen.shapes
        )
        for count in chosen.members
    ]
    # As programs train; alone, networks neither gain nor lose by it.
    with reproducible(threads=1), freed_memory_kept():
        fill(chosen.output / "speed.csv", wanted, partial(costs, steps=chosen.steps))


def fill(
    path: Path,
    wanted: Iterable[Mapping[str, Any]],
    measure: Callable[[list[dict[str, Any]]], list[dict[str, Any]]],
) -> pd.DataFrame:
    """Measure the rows that a table lacks, and print it.

    Parameters
    ----------
    path : Path
        Of the table, which is written whenever something was measured.
    wanted : iterable of mapping
        What tells each row; the last entry is what is measured in one go.
    measure : callable
        Is given rows that are alike but for their last entry, and returns them with
        what was measured.
    """
    table = pd.read_csv(path) if path.exists() else pd.DataFrame()
    rows = table.to_dict("records")
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for each in wanted:
        if not any(each.items() <= row.items() for row in rows):
            groups.setdefault(tuple(each.values())[:-1], []).append(dict(each))
    for group in groups.values():
        found = measure(group)
        rows += found
        write(path, pd.DataFrame(rows).to_csv(index=False))
        print(pd.DataFrame(found).to_string(index=False, float_format="%.4g"))
    return pd.DataFrame(rows)


def costs(rows: list[dict[str, Any]], steps: int) -> list[dict[str, Any]]:
    """Return what a network costs at a shape, alone and in populations.

    Parameters
    ----------
    rows : list of dict
        Alike but for their ``members``.
    steps : int
        How many are timed at each point of training; of a population, as many as make
        up for as many alone, and three at least.
    """
    first = rows[0]
    shape = SHAPES[first["shape"]]
    made = experiment(
        backbone=first["backbone"], adapter=first["adapter"], device="cpu"
    )
    several = {
        row["members"]: [
            member(made, shape, seed, SOURCE) for seed in range(row["members"])
        ]
        for row in rows
    }
    took = step_times(several, steps)
    one = member(made, shape, 0, SOURCE)
    begin([one], 1 / 2)
    after = evaluation(one)
    count = len(one.batches) * shape.source / SOURCE
    kept = kept_bytes(one) / 2**20
    epochs = made.training.epochs
    return [
        {
            **row,
            "parameters": sum(p.numel() for p in one.loop.parts.parameters()),
            "kept, MB": kept,
            "step, ms": 1e3 * took[row["members"]],
            "fold, min": epochs * (count * took[row["members"]] + after) / 60,
        }
        for row in rows
    ]


def member(
    made: Experiment,
    shape: Shape,
    seed: int,
    source: int | None = None,
    device: torch.device = CPU,
) -> Member:
    """Return a training on recordings of noise, not begun.

    Parameters
    ----------
    made : Experiment
    shape : Shape
    seed : int
    source : int, optional
        Windows that train, by default as many as the shape has.
    device : torch.device
    """
    torch.manual_seed(seed)
    modalities = shape.modalities()
    backbone = made.build_backbone(modalities)
    model = Network(backbone, modalities, shape.classes)
    adapter = made.build_adapter(made.adapter)
    adapter.prepare(model.dims, shape.classes, shape.people - 1)
    here, there = (
        sample(noise(modalities, seed, n), np.arange(n), backbone.sampling, device)[0]
        for n in (source or shape.source, shape.windows)
    )
    labels = torch.randint(shape.classes, (len(here),))
    domains = torch.arange(len(here)) % (shape.people - 1)
    task = Fitting(
        model.to(device),
        adapter.to(device),
        LabelledSamples(here, labels.to(device), domains.to(device)),
        there,
        validator=made.validator.build(),
        held_out=None,
        training=made.training,
        traced=None,
    )
    return Member(Loop(task, seed=seed))


def noise(modalities: Mapping[str, Modality], seed: int, count: int) -> Inputs:
    """Return so many windows of one subject, in trials of 16."""
    generator = np.random.default_rng(seed)
    trial = np.arange(count) // 16
    windows = pd.DataFrame({"subject": 1, "session": 1, "trial": trial})
    windows = windows.assign(stimulus=trial, start=np.arange(count) % 16.0)
    signals = {
        name: generator.standard_normal(
            (count, len(each.channels), len(each.features)), dtype=np.float32
        )
        for name, each in modalities.items()
    }
    return Inputs(signals, windows, modalities)


def begin(members: list[Member], progress: float) -> None:
    """Begin an epoch when so much of training is over."""
    for each in members:
        done = int(progress * each.task.training.epochs)
        each.loop.history = [{"epoch": n + 1} for n in range(done)]
        each.begin_epoch()


def take_step(alone: Member) -> None:
    """Take the next step of a training that is begun."""
    here, there = alone.batches[alone.number % len(alone.batches)]
    step = partial(alone.task.step, here=here, there=there)
    alone.loop.take(step, alone.passed)
    alone.number += 1


def step_times(several: Mapping[int, list[Member]], steps: int) -> dict[int, float]:
    """Return the CPU seconds of a step for each member, by how many train together."""
    takes: dict[int, Callable[[], object]] = {}
    for count, members in several.items():
        if count == 1:
            takes[count] = partial(take_step, *members)
            continue
        begin(members, 0.0)
        stack = Population(members)
        stack.probe()
        takes[count] = stack.step
    task = next(iter(several.values()))[0].task
    points = POINTS if task.adapter.needs_target else POINTS[:1]  # else all are alike
    means = dict.fromkeys(several, 0.0)
    for point in points:
        took: dict[int, list[float]] = {count: [] for count in several}
        for members in several.values():
            begin(members, point)
        for turn in range(1 + max(3, steps)):  # the first is not counted
            for count, take in takes.items():
                if turn <= max(3, steps // count):
                    took[count].append(seconds(take) / count)
        for count, each in took.items():
            means[count] += float(np.median(each[1:])) / len(points)
    return means


def seconds(action: Callable[[], object]) -> float:
    """Return the CPU seconds that something takes."""
    began = time.process_time()
    action()
    return time.process_time() - began


def evaluation(one: Member) -> float:
    """Return the CPU seconds of what follows an epoch."""
    follow = partial(one.task.after_epoch, one.loop.epoch)
    follow()
    return seconds(follow)


def kept_bytes(one: Member) -> int:
    """Return how much a step keeps for its gradients, by taking none of it.

    Parameters
    ----------
    one : Member
        Begun; it is of no use afterwards.
    """
    one.begin_epoch()
    task = one.task
    task.move_judge(1.0)

    def step() -> dict[str, Tensor]:
        shown = task.show(*one.batches[0], 1.0)
        judge = task.judge.outputs(shown.target) if shown.target[0] else None
        return task.objective(shown, task.class_weights, 1.0, judge)

    return kept_by(step, one.loop.parts)


if __name__ == "__main__":
    main()
