"""UF-AMA's training as it was released, and how much faster it is here.

    python benchmarks/released.py OUTPUT [--steps 15] [--turns 3]

The released network, losses and step are re-stated below from a description of the
code: which quantities a step computes, in which order and how often, with torch's own
layers. A test holds that its losses and gradients are those of `--config
uf-ama-released-seed-iv`, which is timed beside it, on noise in the shape of a fold of
SEED-IV. Every comparison takes turns in one run; medians of CPU time.

- A step.
- A step whose products are all by MKL, as on processors on which oneDNN is not known to
  be faster (`domainemo/backbones/products.py`).
- An epoch: a pass over the target, 26 steps, with the evaluation that follows it.
- All cores: the released code in one process, whose torch uses all, against one
  process of one thread for each core. Where several threads share an epoch its seconds
  are those of the first thread, which takes part in everything, without what it waits
  for the others: as if these were never late, which is in the released code's favour.
- The same by the clock, which is what a person waits; for a machine with nothing else
  to do.

Writes OUTPUT/released.csv, and goes on there with the rows that are missing.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from speed import SHAPES, begin, fill, member, seconds, take_step
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from domainemo.backbones import products
from domainemo.backbones.products import onednn_faster
from domainemo.choices import flatten
from domainemo.cli.named import read_configuration
from domainemo.processes import cores
from domainemo.runs.experiment import Experiment, experiment
from domainemo.training.population import Member
from domainemo.training.seeds import reproducible

CONFIGURATION = "uf-ama-released-seed-iv"
SHAPE = SHAPES["seed-iv"]
BATCH, CLASSES, LAYERS = 32, SHAPE.classes, 3
SHARES = (0.25, 0.25, 0.5)  # of EEG, eye movements and fusion
STEP, EPOCH, ALL_CORES = "step, one thread", "epoch, one thread", "epoch, all cores"
BY_PRODUCTS = "step, one thread, all products by MKL"
BY_CLOCK = "epoch, all cores, by the clock"
ROWS = (STEP, BY_PRODUCTS, EPOCH, ALL_CORES, BY_CLOCK)


class Encoder(nn.Module):
    """A Transformer over the channels of one modality."""

    def __init__(self, channels: int, features: int, layers: int, dropout: float):
        super().__init__()
        self.up = nn.Linear(features, 64)
        layer = nn.TransformerEncoderLayer(64, 2, 128, dropout, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, layers)
        self.down = nn.Linear(channels * 64, 64)

    def forward(self, signal: Tensor) -> tuple[Tensor, Tensor]:
        """Return the tokens, and one vector of all."""
        tokens = self.layers(self.up(signal))
        return tokens, self.down(tokens.flatten(1))


class Fusion(nn.Module):
    """Attention of each modality to the other, then one vector of both."""

    def __init__(self, channels: Sequence[int]):
        super().__init__()
        self.up = nn.ModuleList(nn.Linear(64, 128) for _ in channels)
        self.attend = nn.ModuleList(
            nn.MultiheadAttention(128, 2, batch_first=True) for _ in channels
        )
        self.down = nn.ModuleList(nn.Linear(n * 128, 128) for n in channels)

    def forward(self, tokens: Sequence[Tensor]) -> Tensor:
        """Return the fused vectors, shape (batch, 256)."""
        wide = [up(each) for up, each in zip(self.up, tokens, strict=True)]
        fused = []
        for own, other, attend, down in zip(
            wide, wide[::-1], self.attend, self.down, strict=True
        ):
            heard, _ = attend(own, other, other)
            fused.append(down((heard + own).flatten(1)))
        return torch.cat(fused, 1)


class Released(nn.Module):
    """The released network, and its training.

    Parameters
    ----------
    channels, features : pair of int
        Of EEG and eye movements.
    layers : int
    dropout, head_dropout : float
    """

    def __init__(
        self,
        channels: Sequence[int] = (SHAPE.channels, SHAPE.features),
        features: Sequence[int] = (5, 1),
        *,
        layers: int = LAYERS,
        dropout: float = 0.1,
        head_dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(
            Encoder(*each, layers, dropout)
            for each in zip(channels, features, strict=True)
        )
        self.fusion = Fusion(channels)
        self.heads = nn.ModuleList(
            nn.Sequential(
                nn.Linear(dim, hidden),
                nn.ReLU(),
                nn.Dropout(head_dropout),
                nn.Linear(hidden, CLASSES),
            )
            for dim, hidden in ((64, 32), (64, 32), (256, 64))
        )
        # The classifiers are not among what is trained, and keep their gradients.
        trained = [*self.encoders.parameters(), *self.fusion.parameters()]
        self.optimiser = torch.optim.Adam(trained, lr=5e-4)

    def embed(self, signals: Sequence[Tensor]) -> list[Tensor]:
        """Return the vectors of EEG, eye movements and fusion."""
        encoded = [e(each) for e, each in zip(self.encoders, signals, strict=True)]
        tokens, vectors = zip(*encoded, strict=True)
        return [*vectors, self.fusion(tokens)]

    def classify(self, vectors: Sequence[Tensor]) -> list[Tensor]:
        """Return the logits of the three classifiers."""
        return [head(each) for head, each in zip(self.heads, vectors, strict=True)]

    def losses(
        self,
        source: Sequence[Tensor],
        labels: Tensor,
        target: Sequence[Tensor],
        epoch: int,
    ) -> dict[str, Tensor]:
        """Return the weighted terms of a step.

        Parameters
        ----------
        source, target : pair of Tensor of shape (batch, channels, features)
        labels : Tensor of shape (batch, classes)
            One at the class.
        epoch : int
            From 0.
        """
        here, there = self.embed(source), self.embed(target)
        logits = self.classify(here)
        found = sum(
            share * functional.cross_entropy(each, labels)
            for share, each in zip(SHARES, logits, strict=True)
        )
        similar = sum(
            share * pairwise(each.softmax(1), labels)
            for share, each in zip(SHARES, logits, strict=True)
        )
        apart = sum(
            share * discrepancy(*both)
            for share, *both in zip(SHARES, here, there, strict=True)
        )
        # Confidences are of one pass through the classifiers, losses of another.
        sets = screened(*self.classify(there)[:2])
        eeg, eye, fused = self.classify(there)
        agreed, chosen, floor = sets["agreed"], sets["chosen"], sets["floor"]
        consistent = eeg.new_zeros(())
        if agreed.any():
            consistent = functional.cross_entropy(fused[agreed], chosen[agreed])
        taught = sum(
            distilled(logits, fused, chosen, sets[name], bool(floor))
            for name, logits in (("eeg", eye), ("eye", eeg))
        )
        return {
            "classification": found,
            "pairwise": similar,
            "marginal": marginal_weight(epoch) * apart,
            "consistency": consistency_weight(found.item()) * consistent,
            "distillation": 1e-5 * 0.5 * taught,
        }

    def step(
        self,
        source: Sequence[Tensor],
        labels: Tensor,
        target: Sequence[Tensor],
        epoch: int,
    ) -> None:
        """Take a training step."""
        total = sum(self.losses(source, labels, target, epoch).values())
        self.optimiser.zero_grad()
        total.backward()
        self.optimiser.step()

    def epoch(self, source: DataLoader, target: DataLoader, number: int) -> float:
        """Pass the target once, and return the accuracy on all of it."""
        self.train()
        for (*here, labels), (*there, _) in zip(source, target, strict=False):
            self.step(here, labels, there, number)
        self.eval()
        right = total = 0
        everything = DataLoader(target.dataset, BATCH)
        with torch.no_grad():
            for *signals, labels in everything:
                fused = self.classify(self.embed(signals))[-1]
                right += int((fused.argmax(1) == labels.argmax(1)).sum())
                total += len(labels)
        return right / total


def pairwise(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of pairs' cosines with whether their labels agree."""
    directions = probabilities / probabilities.norm(dim=1, keepdim=True)
    similar, same = directions @ directions.T, labels @ labels.T
    losses = -same * torch.log(similar + 1e-3)
    return (losses - (1 - same) * torch.log(1 - similar + 1e-3)).mean()


def discrepancy(source: Tensor, target: Tensor) -> Tensor:
    """Return the linear-time MMD from the kernels of all pairs, pair by pair."""
    points = torch.cat([source, target])
    n, shape = len(points), (len(points), *points.shape)
    first, second = points.unsqueeze(0).expand(shape), points.unsqueeze(1).expand(shape)
    distances = ((first - second) ** 2).sum(2) + 1e-5
    sigma = distances.detach().sum() / (n**2 - n)
    kernels = sum(torch.exp(-distances / (sigma * 2.0 ** (q - 2))) for q in range(5))
    batch = n // 2
    loss = points.new_zeros(())
    for here in range(batch):
        following = (here + 1) % batch
        loss = loss + kernels[here, following]
        loss = loss + kernels[here + batch, following + batch]
        loss = loss - kernels[here, following + batch]
        loss = loss - kernels[following, here + batch]
    return loss / batch


def screened(eeg: Tensor, eye: Tensor) -> dict[str, Tensor]:
    """Return who is confident: the upper half of both modalities' probabilities."""
    (sure, eeg_labels), (certain, eye_labels) = (
        each.softmax(1).max(1) for each in (eeg, eye)
    )
    pooled = torch.cat([sure, certain]).detach()
    highest = pooled.topk(len(sure))
    high = torch.zeros_like(pooled, dtype=torch.bool)
    high[highest.indices] = True
    eeg_high, eye_high = high.chunk(2)
    return {
        "agreed": eeg_high & eye_high & (eeg_labels == eye_labels),
        "eeg": eeg_high & ~eye_high,
        "eye": eye_high & ~eeg_high,
        "chosen": torch.where(eeg_high, eeg_labels, eye_labels),
        "floor": highest.values[-1] > 0.9,
    }


def distilled(
    logits: Tensor, fused: Tensor, labels: Tensor, taught: Tensor, floor: bool
) -> Tensor:
    """Return the loss of a modality on what the other, and the fusion, say."""
    agrees = fused[taught].argmax(1) == labels[taught]
    if not floor or len(agrees) < 3 or not agrees.any():
        return logits.new_zeros(())
    return functional.cross_entropy(logits[taught][agrees], labels[taught][agrees])


def marginal_weight(epoch: int) -> float:
    """Return the weight of the MMD."""
    if epoch <= 10:
        return 1.0
    if epoch <= 40:
        return 2 / (1 + math.exp(-10)) - 1.5
    return math.exp(-0.6 * epoch) if epoch <= 85 else 0.0


def consistency_weight(classification: float) -> float:
    """Return the weight of the consistency, by the loss of the source batch."""
    if classification <= 0.1:
        return 0.5
    return 0.2 if classification < 0.2 else 0.1


def released_fold() -> tuple[Released, DataLoader, DataLoader]:
    """Return the released training, source and target of a fold of SEED-IV."""
    torch.manual_seed(0)
    loaders = []
    for count in (SHAPE.source, SHAPE.windows):
        labels = torch.randint(CLASSES, (count,))
        one_hot = functional.one_hot(labels, CLASSES).float()
        signals = torch.randn(count, 62, 5), torch.randn(count, SHAPE.features, 1)
        data = TensorDataset(*signals, one_hot)
        loaders.append(DataLoader(data, BATCH, shuffle=True, drop_last=True))
    return Released(), *loaders


def released_experiment() -> Experiment:
    """Return the library's own setup of the released losses."""
    chosen = read_configuration(CONFIGURATION, {"dataset": "seed-iv"})
    return experiment(
        backbone=chosen["backbone"],
        adapter=chosen["adapter"],
        protocol=chosen["protocol"],
        options=flatten(chosen["options"]),
        device="cpu",
    )


def our_epoch(ours: Member) -> None:
    """Take an epoch, with what follows it."""
    with reproducible(threads=1):
        torch.manual_seed(ours.loop.seed)
        ours.loop.finish_epoch(ours.loop.train_epoch())


def our_step(ours: Member) -> None:
    """Take the next step of an epoch that is begun."""
    with reproducible(threads=1):
        take_step(ours)


def medians(actions: Sequence[Callable[[], object]], turns: int) -> list[float]:
    """Return the CPU seconds of several actions, which take turns."""
    took = [[seconds(each) for each in actions] for _ in range(turns)]
    return [float(each) for each in np.median(took, axis=0)]


def compared(
    rows: list[dict[str, Any]], steps: int, turns: int
) -> list[dict[str, Any]]:
    """Return the seconds of what a row names, as released and here.

    Parameters
    ----------
    rows : list of dict
        A single one.
    steps, turns : int
        How many steps, and epochs, are timed.
    """
    (row,) = rows
    if row["what"] in (ALL_CORES, BY_CLOCK):
        clock = row["what"] == BY_CLOCK
        took = np.median([all_cores(clock) for _ in range(turns)], axis=0)
    else:
        faster = onednn_faster() and row["what"] != BY_PRODUCTS
        products.onednn_faster = lambda: faster
        theirs, source, target = released_fold()
        ours = member(released_experiment(), SHAPE, 0)
        begin([ours], 0.0)
        batches = zip(source, target, strict=False)

        def their_step() -> None:
            (*here, labels), (*there, _) = next(batches)
            theirs.step(here, labels, there, 0)

        both = [their_step, partial(our_step, ours)]
        medians(both, 2)
        if row["what"] in (STEP, BY_PRODUCTS):
            took = medians(both, steps)
        else:
            epoch = partial(theirs.epoch, source, target, 0)
            took = medians([epoch, partial(our_epoch, ours)], turns)
    return [{**row, "released, s": took[0], "here, s": took[1]}]


def all_cores(clock: bool) -> tuple[float, float]:
    """Return the seconds for each epoch where all cores are at work."""
    number = cores()
    theirs = taken("released", processes=1, threads=number, clock=clock)
    ours = taken("here", processes=number, threads=1, clock=clock)
    return theirs, ours / number


def taken(what: str, *, processes: int, threads: int, clock: bool) -> float:
    """Return the seconds of an epoch that every process takes.

    Those of the clock, or of the first thread.
    """
    command = [sys.executable, __file__, "--child", what, "--threads", str(threads)]
    # A thread that waits sleeps, and takes no time of the processor.
    environment = {**os.environ, "OMP_WAIT_POLICY": "passive"}
    begun = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(processes)
    ]
    said = [each.communicate()[0] for each in begun]
    if any(each.returncode for each in begun):
        raise SystemExit(f"a process with {what} failed")
    found = [each.splitlines()[-1].split() for each in said]
    return float(np.mean([float(each[0 if clock else 1]) for each in found]))


def child(what: str) -> None:
    """Take a step and an epoch; print its seconds by the clock, and the thread's."""
    epoch: Callable[[], object]
    if what == "released":
        theirs, source, target = released_fold()
        (*here, labels), (*there, _) = next(zip(source, target, strict=False))
        theirs.step(here, labels, there, 0)
        epoch = partial(theirs.epoch, source, target, 0)
    else:
        ours = member(released_experiment(), SHAPE, 0)
        begin([ours], 0.0)
        our_step(ours)
        epoch = partial(our_epoch, ours)
    began, busy = time.perf_counter(), time.thread_time()
    epoch()
    print(time.perf_counter() - began, time.thread_time() - busy)


def main() -> None:
    """Measure what is missing, and print all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("output", type=Path, metavar="OUTPUT", nargs="?")
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=1, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    if chosen.child:
        child(chosen.child)
        return
    if chosen.output is None:
        parser.error("OUTPUT is missing: the folder of the table")
    wanted = [{"what": each, "batch": BATCH} for each in ROWS]
    measure = partial(compared, steps=chosen.steps, turns=chosen.turns)
    fill(chosen.output / "released.csv", wanted, measure)


if __name__ == "__main__":
    main()
