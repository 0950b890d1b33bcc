"""Modality dropout: samples lose a modality in training, as sensors do in use."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..core import Batch

__all__ = ["drop_modalities", "without_one"]


def drop_modalities(
    batch: Batch, probability: float, generator: torch.Generator
) -> Batch:
    """Let each sample lose one of its modalities with a probability.

    A modality is lost for the whole sample, as after Neverova et al. (2016, ModDrop,
    IEEE TPAMI 38(8), doi 10.1109/TPAMI.2015.2461544), who draw for each modality
    separately; here one is drawn at most, so that a sample always keeps another.

    Parameters
    ----------
    batch : pair of dict
        Signals and masks, as :meth:`Samples.batch` returns them.
    probability : float
        Of a sample that has two modalities or more. 0 draws no random number.
    generator : torch.Generator
        On the CPU, so that all devices drop alike.

    Returns
    -------
    pair of dict
        New dictionaries of the same shapes; zero where a mask is False.
    """
    signals, masks = batch
    if probability == 0 or len(masks) < 2:
        return batch
    samples = next(iter(masks.values()))
    chance, choice = torch.rand(2, len(samples), generator=generator).to(samples.device)
    kept = without_one(masks, chance < probability, choice)
    # What a backbone finds where there is no signal is zero: the contract says so.
    seen = {
        name: torch.where(kept[name][..., None, None], values, 0.0)
        for name, values in signals.items()
    }
    return seen, kept


def without_one(
    masks: Mapping[str, Tensor], losing: Tensor, choice: Tensor
) -> dict[str, Tensor]:
    """Return masks without one modality of each losing sample, unless it is its last.

    Parameters
    ----------
    masks : mapping of str to bool Tensor of shape (..., batch, time)
    losing : bool Tensor of shape (..., batch)
        Which samples lose a modality.
    choice : Tensor of shape (..., batch)
        From 0 to below 1; divided evenly among the modalities that a sample has.

    Returns
    -------
    dict of str to bool Tensor of shape (..., batch, time)
    """
    there = torch.stack([mask.any(-1) for mask in masks.values()], -2)
    count = there.sum(-2)
    # Rounding may lift a choice just below 1 to the count itself.
    number = (choice * count).floor().minimum(count - 1)
    place = there.cumsum(-2) - 1
    lost = (
        there & (place == number[..., None, :]) & (losing & (count > 1))[..., None, :]
    )
    return {
        name: mask & ~lost[..., index, :, None]
        for index, (name, mask) in enumerate(masks.items())
    }
