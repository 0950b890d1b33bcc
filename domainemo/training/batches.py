"""Samples as tensors held in memory, and the batches drawn from them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..core import Inputs, Rows, Sampling

__all__ = ["LabelledSamples", "Samples", "epoch_batches", "majority_label", "sample"]


@dataclass(frozen=True)
class Samples:
    """Unlabelled samples of one domain or several.

    Attributes
    ----------
    signals : dict of str to Tensor of shape (windows, channels, features)
        Zero where the sensor lost the window.
    present : dict of str to bool Tensor of shape (windows,)
    rows : Tensor of int, shape (samples, time)
        Windows of each sample, -1 where padded.
    """

    signals: dict[str, Tensor]
    present: dict[str, Tensor]
    rows: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, index: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return signals of shape (batch, time, channels, features), and masks."""
        rows = self.rows[index]
        real = rows >= 0
        rows = rows.clamp(min=0)
        masks = {name: present[rows] & real for name, present in self.present.items()}
        signals = {
            name: values[rows] * masks[name][..., None, None]
            for name, values in self.signals.items()
        }
        return signals, masks


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
    part = inputs.take(rows)
    local = sampling.rows(part.windows)
    signals, present = {}, {}
    for name, array in part.signals.items():
        seen = np.asarray(np.isfinite(array).all(axis=(1, 2)))
        values = np.where(seen[:, None, None], array, 0)
        signals[name] = torch.from_numpy(values.astype(np.float32)).to(device)
        present[name] = torch.from_numpy(seen).to(device)
    samples = Samples(signals, present, torch.from_numpy(local).to(device))
    return samples, np.where(local >= 0, rows[local], -1)


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
    source: int, target: int, batch_size: int, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield one epoch of sample numbers: source and target batches of equal size.

    The source is passed once in random order, an incomplete last batch left out; the
    target is passed as often as it takes.

    Parameters
    ----------
    source, target : int
        Number of samples.
    batch_size : int
        Lowered to `source` where that is less.
    generator : torch.Generator
    """
    size = min(batch_size, source)
    steps = source // size
    order = torch.randperm(source, generator=generator)
    passes = -(-steps * size // target)
    others = torch.cat(
        [torch.randperm(target, generator=generator) for _ in range(passes)]
    )
    for step in range(steps):
        here = slice(step * size, (step + 1) * size)
        yield order[here], others[here]
