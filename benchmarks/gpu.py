"""What all folds cost on a GPU as one program, one by one, and as released.

    python benchmarks/gpu.py OUTPUT [--device cuda] [--members 45] [--steps 20]
                             [--backbones uf-ama ...] [--shape seed-iv]

A leave-one-subject-out of SEED-IV's three sessions is 45 trainings. A step of the
network uf-ama with three layers and the released losses, as the released code takes it
(`released.py`), here alone, and here of so many trainings as one program; and of other
networks with the adapter uf-ama, half-way through training, alone and together. Seconds
of the clock, from when the device has nothing to do until it has nothing left to do;
medians of steps that take turns.

Operations of matrix products are counted by torch, bytes as if nothing stayed in a
cache (`peak.py`); their limits are a product of two large matrices and a copy of a
large array on the same device, in float32.

Writes OUTPUT/gpu.csv, and prints it. Some minutes on a GPU. On a CPU, where it says
what `speed.py` says, take few members.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from peak import Traffic
from released import CONFIGURATION, released_experiment, released_fold
from speed import SHAPES, SOURCE, Shape, begin, member, take_step
from torch.utils.flop_counter import FlopCounterMode

from domainemo.backbones.products import product
from domainemo.files import write
from domainemo.registry import entries
from domainemo.runs.experiment import experiment
from domainemo.training.population import Member, Population
from domainemo.training.seeds import reproducible

Action = Callable[[], object]
FOLDS = 45
NETWORKS = ("uf-ama", "r2gfanet", "concatenation-mlp", "dgcnn")


def main() -> None:
    """Measure, and print all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    names = [each.name for each in entries("backbone")]
    parser.add_argument("output", type=Path, metavar="OUTPUT")
    parser.add_argument("--device", type=torch.device, default=torch.device("cuda"))
    parser.add_argument("--members", type=int, default=FOLDS)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--backbones", nargs="+", choices=names, default=NETWORKS)
    parser.add_argument("--shape", choices=SHAPES, default="seed-iv")
    chosen = parser.parse_args()
    if chosen.device.type == "cuda" and not torch.cuda.is_available():
        sys.exit("torch sees no GPU here; expected one, or --device cpu --members 4.")
    with reproducible(threads=1):
        table = measured(
            SHAPES[chosen.shape],
            chosen.backbones,
            chosen.members,
            chosen.device,
            chosen.steps,
        )
    write(chosen.output / "gpu.csv", table.to_csv(index=False))
    print(table.to_string(index=False, float_format="%.4g"))


def measured(
    shape: Shape,
    backbones: Sequence[str],
    members: int,
    device: torch.device,
    steps: int,
    source: int = SOURCE,
) -> pd.DataFrame:
    """Return what a step costs for each training, and how much of the limits it uses.

    Parameters
    ----------
    shape : Shape
    backbones : sequence of str
    members : int
        How many trainings are one program.
    device : torch.device
    steps : int
        How many are timed.
    source : int
        Windows that train.
    """
    adapted = [(name, "uf-ama") for name in backbones]
    if "uf-ama" in backbones:
        adapted.insert(0, ("uf-ama", CONFIGURATION))
    found = []
    for network, adapter in adapted:
        ways = _ways(network, adapter, shape, members, device, source)
        took = _seconds([action for _, action in ways.values()], device, steps)
        for (how, (count, action)), each in zip(ways.items(), took, strict=True):
            operations, moved = _counted(action)
            found.append(
                {
                    "network": network,
                    "adapter": adapter,
                    "how": how,
                    "trainings": count,
                    "step, ms": 1e3 * each / count,
                    "GFLOP/s": operations / each / 1e9,
                    "GB/s": moved / each / 1e9,
                }
            )
    table = pd.DataFrame(found)
    arithmetic, bandwidth = _limits(device)
    table["of the arithmetic, %"] = 100 * table["GFLOP/s"] / arithmetic
    table["of the memory, %"] = 100 * table["GB/s"] / bandwidth
    slowest = table.groupby(["network", "adapter"])["step, ms"].transform("first")
    table.insert(5, "times as fast as the first", slowest / table["step, ms"])
    return table


def _ways(
    network: str,
    adapter: str,
    shape: Shape,
    members: int,
    device: torch.device,
    source: int,
) -> dict[str, tuple[int, Action]]:
    """Return how many trainings take a step at once, and what takes it."""
    ways: dict[str, tuple[int, Action]] = {}
    if adapter == CONFIGURATION:
        made, progress = released_experiment(), 0.0
        theirs, *loaders = released_fold()
        theirs.to(device)
        (*here, labels), (*there, _) = next(zip(*loaders, strict=False))
        here, there = ([each.to(device) for each in both] for both in (here, there))
        step = partial(theirs.step, here, labels.to(device), there, 0)
        ways["as released"] = 1, step
    else:
        made, progress = experiment(backbone=network, adapter=adapter), 0.5
    one, *several = (
        member(made, shape, seed, source, device) for seed in range(1 + members)
    )
    for each in ([one], several):
        begin(each, progress)
    ways["alone"] = 1, _first_again([one], partial(take_step, one))
    ways["together"] = members, _first_again(several, Population(several).step)
    return ways


def _first_again(members: Sequence[Member], step: Action) -> Action:
    """Return what takes the epoch's first step, over and over: no epoch ends by it."""

    def take() -> None:
        for each in members:
            each.number = 0
        step()

    return take


def _seconds(
    actions: Sequence[Action], device: torch.device, times: int
) -> list[float]:
    """Return the seconds of actions that take turns; the first three do not count."""
    took = [[_clock(each, device) for each in actions] for _ in range(3 + times)]
    return [float(each) for each in np.median(took[3:], axis=0)]


def _clock(action: Action, device: torch.device) -> float:
    """Return the seconds until the device has nothing left to do."""
    _wait(device)
    began = time.perf_counter()
    action()
    _wait(device)
    return time.perf_counter() - began


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _counted(action: Action) -> tuple[int, int]:
    """Return the operations of matrix products, and the bytes, of an action."""
    counter, traffic = FlopCounterMode(display=False), Traffic()
    with counter, traffic:
        action()
    return counter.get_total_flops(), traffic.bytes


def _limits(device: torch.device) -> tuple[float, float]:
    """Return the GFLOP/s of a matrix product, and the GB/s of a copy."""
    rows = 8192 if device.type == "cuda" else 2048
    left, right = torch.randn(2, rows, rows, device=device)
    long = torch.zeros(2**26, device=device)
    copied = torch.empty_like(long)
    multiply = partial(product, left, right)
    multiplied, moved = _seconds([multiply, partial(copied.copy_, long)], device, 5)
    return 2 * rows**3 / multiplied / 1e9, 2 * long.nbytes / moved / 1e9


if __name__ == "__main__":
    main()
