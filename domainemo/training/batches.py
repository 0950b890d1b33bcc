"""Samples as tensors held in memory, and the batches drawn from them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..core import TRIAL, Inputs, Rows, Sampling
from ..places import called, contract_error

__all__ = [
    "LabelledSamples",
    "Samples",
    "epoch_batches",
    "majority_label",
    "sample",
    "sample_labelled",
    "samples_of",
    "steps_of",
]

_TOGETHER = 1024


@dataclass(frozen=True)
class Samples:
    """Unlabelled samples of one domain or several.

    Attributes
    ----------
    signals : dict of str to Tensor of shape (windows, channels, features)
        Not all of them need be a sample's; what stands where the sensor lost the
        window has no meaning.
    present : dict of str to bool Tensor of shape (windows,)
    rows : Tensor of int, shape (samples, time)
        Windows of each sample, -1 where padded.
    trials : Tensor of int, shape (windows,)
        The number of each window's trial.
    """

    signals: dict[str, Tensor]
    present: dict[str, Tensor]
    rows: Tensor
    trials: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, index: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return signals of shape (batch, time, channels, features), and masks."""
        rows = self.rows[index]
        real = rows >= 0
        rows = rows.clamp(min=0)
        masks = {name: present[rows] & real for name, present in self.present.items()}
        signals = {
            name: values[rows].masked_fill_(~masks[name][..., None, None], 0.0)
            for name, values in self.signals.items()
        }
        return signals, masks

    @property
    def recorded(self) -> Tensor:
        """The numbers of those of which some sensor recorded something, in order."""
        there = torch.stack(list(self.present.values())).any(0)
        real = self.rows >= 0
        return (there[self.rows.clamp(min=0)] & real).any(-1).nonzero()[:, 0]

    def same_trial(self, index: Tensor) -> Tensor:
        """Return for each sample the place of the first one here of its trial.

        A trial's own number could tell its place in the session, and by that its clip.
        """
        trials = self.trials[self.rows[index].amax(-1)]
        order = trials.argsort(stable=True)
        return order[torch.searchsorted(trials[order], trials)]


@dataclass(frozen=True)
class LabelledSamples:
    """Samples of the source: with labels of shape (samples,), and domain numbers."""

    samples: Samples
    labels: Tensor
    domains: Tensor

    def __len__(self) -> int:
        return len(self.samples)


def sample(
    inputs: Inputs, rows: Rows, sampling: Sampling, device: torch.device
) -> tuple[Samples, Rows]:
    """Turn the windows at `rows` into samples.

    Parameters
    ----------
    inputs : Inputs
        Normalised; NaN where the sensor lost the window.
    rows : ndarray of int
        The windows to use; no sample reaches beyond them.
    sampling : Sampling
    device : torch.device

    Returns
    -------
    samples : Samples
    members : ndarray of int, shape (samples, time)
        The windows of `inputs` in each sample, -1 where padded.
    """
    windows = inputs.windows.iloc[rows].reset_index(drop=True)
    local = np.empty((0, 1), np.int64)
    if len(rows):
        local = samples_of(sampling, windows)
    members = np.where(local >= 0, rows[local], -1)
    if device.type != "cpu":
        # Its memory is small: it is given the windows that are used.
        inputs, numbers = inputs.take(rows), local
    else:
        numbers = members
    signals, present = {}, {}
    for name, array in inputs.signals.items():
        array = array if array.flags.writeable else np.array(array)
        signals[name] = torch.from_numpy(array).to(device, torch.float32)
        present[name] = _finite(signals[name])
    groups = inputs.windows.groupby(TRIAL, sort=False)["trial"]
    trials = groups.ngroup().to_numpy(copy=True)
    of_samples = (torch.from_numpy(each).to(device) for each in (numbers, trials))
    return Samples(signals, present, *of_samples), members


def sample_labelled(
    inputs: Inputs,
    rows: Rows,
    labels: NDArray[np.int64],
    domains: NDArray[np.int64],
    sampling: Sampling,
    device: torch.device,
) -> LabelledSamples:
    """Turn the windows at `rows` into samples, each with its label and its domain.

    Parameters
    ----------
    inputs, rows, sampling, device
        See :func:`sample`.
    labels : ndarray of int, shape (windows,)
        Of the windows at `rows`; of others, nothing is looked at.
    domains : ndarray of int, shape (windows,)
        The number of every window's domain.
    """
    samples, members = sample(inputs, rows, sampling, device)
    return LabelledSamples(
        samples,
        torch.from_numpy(majority_label(members, labels)).to(device),
        torch.from_numpy(domains[members[:, 0]]).to(device),
    )


def samples_of(sampling: Sampling, windows: pd.DataFrame) -> Rows:
    """Return a sampling's rows; refuse samples that are none, or of two trials.

    Parameters
    ----------
    sampling : Sampling
    windows : DataFrame
        Provenance, numbered from 0.

    Raises
    ------
    ConfigurationError
    """
    local = sampling.rows(windows)
    whole = isinstance(local, np.ndarray) and local.dtype.kind in "iu"
    wrong = ""
    if not whole or local.ndim != 2:
        wrong = f"{called(local)}, no whole numbers of shape (samples, time)"
    elif not len(local) or (local.max(1) < 0).any():
        wrong = "no sample, or one without a window"
    elif local.min() < -1 or local.max() >= len(windows):
        wrong = f"numbers beyond the {len(windows)} windows"
    else:
        trials = windows.groupby(TRIAL)["trial"].ngroup().to_numpy()
        first = np.where(local >= 0, trials[local], len(trials)).min(1)
        if ((local >= 0) & (trials[local] != first[:, None])).any():
            wrong = "a sample of two trials, whose labels may differ"
    if wrong:
        expected = "window numbers, -1 where padded, each sample within one trial"
        raise contract_error(sampling, "rows", wrong, expected)
    return local


def _finite(values: Tensor) -> Tensor:
    """Return which windows are finite throughout, some at a time."""
    parts = torch.split(values, _TOGETHER)
    return torch.cat([torch.isfinite(part).flatten(1).all(1) for part in parts])


def majority_label(members: Rows, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the commonest label of each sample's windows; ties go to the lowest.

    Parameters
    ----------
    members : ndarray of int, shape (samples, time)
        Window numbers, -1 where padded.
    labels : ndarray of int, shape (windows,)
    """
    classes = int(labels.max(initial=0)) + 1
    counts = np.zeros((len(members), classes), dtype=np.int64)
    sample_number, place = np.nonzero(members >= 0)
    np.add.at(counts, (sample_number, labels[members[sample_number, place]]), 1)
    return np.asarray(counts.argmax(1), dtype=np.int64)


def epoch_batches(
    source: int,
    target: int,
    batch_size: int,
    generator: torch.Generator,
    groups: Tensor | None = None,
    epoch: Literal["source", "target"] | int = "source",
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield one epoch of sample numbers: source and target batches of equal size.

    Each domain is passed in random order as often as it takes, by default the source
    once.

    Parameters
    ----------
    source, target : int
        Number of samples. Without a target, its batches are empty.
    batch_size : int
        Lowered to `source` where that is less.
    generator : torch.Generator
    groups : Tensor of int, shape (source,), optional
        The group of every source sample. A batch then shows all groups equally often,
        give or take one, in as many steps as without; a group is passed as often as it
        takes, in random order.
    epoch : {"source", "target"} or int
        See :func:`steps_of`.
    """
    size = min(batch_size, source)
    steps = steps_of(epoch, source, target, size)
    if groups is None:
        order = _passes(torch.arange(source), steps * size, generator)
    else:
        order = _balanced(groups, steps, size, generator)
    others = torch.arange(target)
    if target:
        others = _passes(others, steps * size, generator)
    for step in range(steps):
        here = slice(step * size, (step + 1) * size)
        yield order[here], others[here]


def steps_of(
    epoch: Literal["source", "target"] | int, source: int, target: int, size: int
) -> int:
    """Return how many steps an epoch has.

    Parameters
    ----------
    epoch : {"source", "target"} or int
        One pass over that domain, an incomplete last batch left out, but never the
        only one; or so many steps.
    source, target : int
        Number of samples.
    size : int
        Of a batch.
    """
    if isinstance(epoch, int):
        return epoch
    return max((source if epoch == "source" else target) // size, 1)


def _balanced(
    groups: Tensor, steps: int, size: int, generator: torch.Generator
) -> Tensor:
    """Return the sample numbers of an epoch, from every group by turns."""
    shown = torch.nonzero(groups.bincount()).flatten()
    samples = [torch.nonzero(groups == each).flatten() for each in shown]
    turns = -(-steps * size // len(samples))
    columns = [_passes(theirs, turns, generator) for theirs in samples]
    # The same turn throughout: any samples in a row are even. Then no more in a row.
    turn = torch.randperm(len(samples), generator=generator)
    drawn = torch.stack(columns, dim=1)[:, turn].flatten()[: steps * size]
    shuffled = torch.rand(steps, size, generator=generator).argsort(1)
    return drawn.view(steps, size).gather(1, shuffled).flatten()


def _passes(samples: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return `count` of some samples, passed in random order as often as it takes."""
    passes = -(-count // len(samples))
    orders = [torch.randperm(len(samples), generator=generator) for _ in range(passes)]
    return samples[torch.cat(orders)[:count]]
