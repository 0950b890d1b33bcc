"""Copies of a sample for pre-training: scaled, and with noise."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["COPIES", "copied", "copies_of"]

COPIES = 6
"""How many copies there are, the sample as it was recorded among them."""

_RANGES = ((1.0, 1.0), (0.7, 0.8), (1.2, 1.3))
_DECIBELS = 5.0


def copied(
    values: Tensor, mask: Tensor, copies: Tensor, share: Tensor, noise: Tensor
) -> Tensor:
    r"""Return each sample of a modality as one of its copies.

    The augmentation of PhysioSync (IEEE TCSS 2025, doi 10.1109/TCSS.2025.3602913; code
    MSA-LMC/PhysioSync). Copies 0, 1 and 2 are :math:`\alpha x` with :math:`\alpha` = 1,
    from [0.7, 0.8] and from [1.2, 1.3]: one number for all channels. Copies 3, 4 and 5
    are these with normal noise :math:`n` at a ratio of 5 dB,

    .. math:: \alpha x + n \sqrt{10^{-5/10} \operatorname{var}(\alpha x)
              / \operatorname{var}(n)}

    with the variance of all values of the sample together.

    Parameters
    ----------
    values : Tensor of shape (batch, time, channels, features)
        Zero where the mask is False, and so is what is returned.
    mask : bool Tensor of shape (batch, time)
        Only what is there counts.
    copies : Tensor of int, shape (batch,)
        From 0 to 5.
    share : Tensor of shape (batch,)
        From 0 to 1: where in its range a factor lies.
    noise : Tensor of the shape of `values`
        Drawn from a standard normal distribution.

    Returns
    -------
    Tensor of shape (batch, time, channels, features)
        Of a sample that does not vary, without noise.
    """
    low, high = (
        torch.tensor(ends, dtype=values.dtype, device=values.device)[copies % 3]
        for ends in zip(*_RANGES, strict=True)
    )
    scaled = values * (low + share * (high - low))[:, None, None, None]
    seen = mask[..., None, None].expand_as(values)
    ratio = 10 ** (-_DECIBELS / 10) * _variance(scaled, seen)
    of_noise = _variance(noise, seen)
    gain = (ratio / torch.where(of_noise > 0, of_noise, 1.0)).sqrt() * (copies > 2)
    return scaled + torch.where(seen, noise, 0.0) * gain[:, None, None, None]


def copies_of(
    signals: dict[str, Tensor], masks: dict[str, Tensor], copies: Tensor
) -> dict[str, Tensor]:
    """Return a batch as copies, with factors and noise of each modality's own.

    They are drawn anew wherever a sample is shown. (PhysioSync's released code draws
    the six copies of each window once, and keeps them.)

    Parameters
    ----------
    signals, masks
        As a backbone takes them.
    copies : Tensor of int, shape (batch,)
        Of all modalities of a sample the same.
    """
    found = {}
    for name, values in signals.items():
        share = torch.rand(len(values), dtype=values.dtype, device=values.device)
        noise = torch.randn_like(values)
        found[name] = copied(values, masks[name], copies, share, noise)
    return found


def _variance(values: Tensor, seen: Tensor) -> Tensor:
    """Return the variance of what is seen of each sample (batch,); 0 of nothing."""
    count = seen.flatten(1).sum(-1).clamp(min=1)
    known = torch.where(seen, values, 0.0).flatten(1)
    mean = known.sum(-1) / count
    apart = torch.where(seen.flatten(1), known - mean[:, None], 0.0)
    return apart.square().sum(-1) / count
