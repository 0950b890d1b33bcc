"""What a training step costs, alone and as one of a population.

    python benchmarks/speed.py [--members 8] [--shape seed-iv] [--backbones ...]

Random recordings of the shape of a data set; source only and the adapter uf-ama on
every network. CPU time on one thread, medians over steps, optimiser included; a ratio
compares two figures of one run. The memory is what a step keeps for its gradients.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from domainemo.backbones.regions import ELECTRODES
from domainemo.core import Inputs, Modality
from domainemo.errors import DomainemoError
from domainemo.registry import entries
from domainemo.runs.experiment import Experiment, experiment
from domainemo.training.batches import LabelledSamples, sample
from domainemo.training.fit import Fitting
from domainemo.training.loop import Loop
from domainemo.training.model import Network
from domainemo.training.population import Member, Population
from domainemo.training.seeds import reproducible

BANDS = ("delta", "theta", "alpha", "beta", "gamma")
WINDOWS, CLASSES, DOMAINS = 4096, 4, 14
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Shape:
    """What is recorded: EEG, and something else."""

    channels: int
    features: int
    kind: str

    def modalities(self) -> dict[str, Modality]:
        """Return both modalities."""
        names = tuple(f"{self.kind}-{number}" for number in range(self.features))
        return {
            "eeg": Modality(ELECTRODES[: self.channels], BANDS, "eeg"),
            self.kind: Modality(names, ("value",), self.kind),
        }


SHAPES = {
    "seed-iv": Shape(62, 31, "eye"),
    "seed-v": Shape(62, 33, "eye"),
    "deap": Shape(32, 8, "physiology"),
}


def main() -> None:
    """Measure every network, and print a row for each as it is known."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, default=8)
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument("--shape", choices=SHAPES, default="seed-iv")
    names = [each.name for each in entries("backbone")]
    parser.add_argument("--backbones", nargs="+", choices=names, default=names)
    parser.add_argument("--adapters", nargs="+", default=["none", "uf-ama"])
    chosen = parser.parse_args()
    print(
        f"torch {torch.__version__}, {platform.processor()}, one thread, {chosen.shape}"
    )
    print(
        "| network | adapter | parameters | kept, MB | alone, ms | member, ms | ratio |"
    )
    print("|---|---|---|---|---|---|---|")
    for name in chosen.backbones:
        for adapter in chosen.adapters:
            with reproducible(threads=1):
                print(measured(name, adapter, chosen), flush=True)


def measured(name: str, adapter: str, chosen: argparse.Namespace) -> str:
    """Return a network's row."""
    try:
        shape = SHAPES[chosen.shape].modalities()
        made = experiment(backbone=name, adapter=adapter, device="cpu")
        alone = member(made, shape, 0)
    except DomainemoError as error:
        return f"| {name} | {adapter} | {error} |"
    count = sum(weight.numel() for weight in alone.loop.parts.parameters())
    single = time_alone(alone, chosen.steps)
    kept = kept_bytes(member(made, shape, 0)) / 2**20
    together = time_together(
        [member(made, shape, seed) for seed in range(chosen.members)], chosen.steps
    )
    row = f"| {name} | {adapter} | {count:,} | {kept:.1f} | {single:.1f} |"
    return f"{row} {together:.1f} | {single / together:.2f} |"


def member(made: Experiment, modalities: dict[str, Modality], seed: int) -> Member:
    """Return a training on recordings of noise, not begun."""
    torch.manual_seed(seed)
    backbone = made.build_backbone(modalities)
    model = Network(backbone, modalities, CLASSES)
    adapter = made.build_adapter(made.adapter)
    adapter.prepare(model.dims, CLASSES, DOMAINS)
    source, target = (
        sample(noise(modalities, seed), np.arange(WINDOWS), backbone.sampling, CPU)[0]
        for _ in range(2)
    )
    labels = torch.randint(CLASSES, (len(source),))
    domains = torch.arange(len(source)) % DOMAINS
    task = Fitting(
        model,
        adapter,
        LabelledSamples(source, labels, domains),
        target,
        validator=made.validator.build(),
        held_out=None,
        training=made.training,
        traced=None,
    )
    return Member(Loop(task, seed=seed))


def noise(modalities: dict[str, Modality], seed: int) -> Inputs:
    """Return recordings of one subject, trials of 16 windows."""
    generator = np.random.default_rng(seed)
    windows = pd.DataFrame(
        {"subject": 1, "session": 1, "trial": np.arange(WINDOWS) // 16}
    )
    windows = windows.assign(stimulus=windows["trial"], start=np.arange(WINDOWS) % 16.0)
    signals = {
        name: generator.standard_normal(
            (WINDOWS, len(each.channels), len(each.features)), dtype=np.float32
        )
        for name, each in modalities.items()
    }
    return Inputs(signals, windows, modalities)


def time_alone(alone: Member, steps: int) -> float:
    """Return the milliseconds of one training's step."""
    alone.begin_epoch()
    batches = iter(alone.batches)

    def step() -> None:
        here, there = next(batches)
        passed = alone.task.training.epochs / 2  # all that the adapter does counts
        alone.loop.take(partial(alone.task.losses, here=here, there=there), passed)

    return milliseconds(step, steps)


def time_together(members: list[Member], steps: int) -> float:
    """Return the milliseconds of a population's step, for each member."""
    for each in members:
        epochs = each.task.training.epochs
        # Half of training is over, as above.
        each.loop.history = [{"epoch": n} for n in range(1, epochs // 2 + 1)]
        each.begin_epoch()
    return milliseconds(Population(members).step, steps) / len(members)


def milliseconds(step: Callable[[], None], steps: int) -> float:
    """Return the CPU time of a step, the median of three runs of many."""
    took = []
    step()
    for _ in range(3):
        began = time.process_time()
        for _ in range(steps):
            step()
        took.append(1e3 * (time.process_time() - began) / steps)
    return float(np.median(took))


def kept_bytes(member: Member) -> int:
    """Return how much a step keeps for its gradients, by taking none of it.

    Parameters
    ----------
    member : Member
        Begun by no one; it is of no use afterwards.
    """
    found: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        found[storage.data_ptr()] = storage.nbytes()
        return tensor

    member.begin_epoch()
    task = member.task
    task.move_judge(1.0)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        shown = task.show(*member.batches[0], 1.0)
        judge = task.judge.outputs(shown.target) if shown.target[0] else None
        task.objective(shown, task.class_weights, 1.0, judge)
    weights = {
        each.untyped_storage().data_ptr() for each in member.loop.parts.parameters()
    }
    return sum(size for place, size in found.items() if place not in weights)


if __name__ == "__main__":
    main()
