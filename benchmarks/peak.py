"""Which share of the processor's arithmetic a training step makes use of.

    python benchmarks/peak.py OUTPUT [--backbones ...] [--steps 5]

A step of every network with the adapter uf-ama, half-way through training, in the shape
of SEED-IV; of the network uf-ama also with three layers and the released losses, here
and as the released code takes it (`released.py`). Torch counts the operations of a
step's matrix products. Bytes are those of all tensors that operations read and write,
as if nothing stayed in a cache. The peak is that of a product of two matrices of 2048
rows, by the faster of torch's libraries (`domainemo/backbones/products.py`), beside
that of `torch.mm`, and the bandwidth that of a copy of 256 MB, taken in turn with the
steps. One thread, medians of CPU time.

Writes OUTPUT/peak.csv, and goes on there with the rows that are missing;
OUTPUT/environment.json is what a run notes of the machine.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from released import CONFIGURATION, released_experiment, released_fold
from speed import SHAPES, SOURCE, begin, fill, member, seconds, take_step
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

import domainemo as de
from domainemo.backbones.products import product
from domainemo.registry import entries
from domainemo.runs.experiment import experiment
from domainemo.training.seeds import reproducible

RELEASED = "as released"
ROWS, MEGABYTES = 2048, 256


class Traffic(TorchDispatchMode):
    """Adds up the bytes of the tensors that operations read and write.

    Attributes
    ----------
    bytes : int
    """

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Carry out an operation, and count it unless it is a mere view."""
        found = func(*args, **(kwargs or {}))
        if not func.is_view:
            for each in tree_leaves((args, kwargs, found)):
                if isinstance(each, Tensor):
                    size = each.numel() * each.element_size()
                    self.bytes += min(size, each.untyped_storage().nbytes())
        return found


def step_of(backbone: str, adapter: str) -> Callable[[], object]:
    """Return what takes a step half-way through training."""
    if backbone == RELEASED:
        theirs, *loaders = released_fold()
        (*here, labels), (*there, _) = next(zip(*loaders, strict=False))
        return partial(theirs.step, here, labels, there, 0)
    if adapter == CONFIGURATION:
        made = released_experiment()
    else:
        made = experiment(backbone=backbone, adapter=adapter, device="cpu")
    one = member(made, SHAPES["seed-iv"], 0, SOURCE)
    begin([one], 0.0 if adapter == CONFIGURATION else 0.5)
    return partial(take_step, one)


def achieved(rows: list[dict[str, Any]], steps: int) -> list[dict[str, Any]]:
    """Return what a step computes and moves, in which time, and what the machine can.

    Parameters
    ----------
    rows : list of dict
        Each has a ``backbone`` and an ``adapter``.
    steps : int
    """
    left, right = torch.randn(ROWS, ROWS), torch.randn(ROWS, ROWS)
    long = torch.zeros(MEGABYTES * 2**18)
    copied = torch.empty_like(long)
    return [
        {**row, **_achieved(step_of(row["backbone"], row["adapter"]), steps, actions)}
        for row in rows
        for actions in [
            (
                partial(product, left, right),
                partial(torch.mm, left, right),
                partial(copied.copy_, long),
            )
        ]
    ]


def _achieved(
    step: Callable[[], object], steps: int, known: tuple[Callable[[], object], ...]
) -> dict[str, float]:
    actions = (step, *known)
    for each in actions:
        each()
    took = np.median(
        [[seconds(each) for each in actions] for _ in range(steps)], axis=0
    )
    operations, traffic = FlopCounterMode(display=False), Traffic()
    with operations, traffic:
        step()
    count = operations.get_total_flops()
    return {
        "GFLOP": count / 1e9,
        "moved, MB": traffic.bytes / 2**20,
        "step, ms": 1e3 * took[0],
        "GFLOP/s": count / took[0] / 1e9,
        "peak, GFLOP/s": 2 * ROWS**3 / took[1] / 1e9,
        "torch.mm, GFLOP/s": 2 * ROWS**3 / took[2] / 1e9,
        "bandwidth, GB/s": 2 * MEGABYTES * 2**20 / took[3] / 1e9,
    }


def note_environment(output: Path) -> None:
    """Keep what a run notes of the machine."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        data = de.Simulated(subjects=2, sessions=1, trials=3, windows=(2, 2)).load()
        de.run(data, backbone="concatenation-mlp", adapter="none", baselines=False,
               options={"training.epochs": 1}, output=run)  # fmt: skip
        output.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(run / "environment.json", output / "environment.json")


def main() -> None:
    """Measure what is missing, and print all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    names = [each.name for each in entries("backbone")]
    parser.add_argument("output", type=Path, metavar="OUTPUT")
    parser.add_argument("--backbones", nargs="+", choices=names, default=names)
    parser.add_argument("--steps", type=int, default=5)
    chosen = parser.parse_args()
    note_environment(chosen.output)
    wanted = [{"backbone": name, "adapter": "uf-ama"} for name in chosen.backbones]
    if "uf-ama" in chosen.backbones:
        wanted += [
            {"backbone": name, "adapter": CONFIGURATION}
            for name in ("uf-ama", RELEASED)
        ]
    with reproducible(threads=1):
        fill(chosen.output / "peak.csv", wanted, partial(achieved, steps=chosen.steps))


if __name__ == "__main__":
    main()
