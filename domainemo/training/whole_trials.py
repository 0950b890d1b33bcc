"""What a network makes of whole trials: its mean opinion of their samples."""

from __future__ import annotations

import torch
from torch import Tensor

from ..core import Outputs

__all__ = ["of_whole_trials"]


def of_whole_trials(outputs: Outputs, trials: Tensor) -> dict[str, Tensor]:
    """Return for every sample the mean probabilities of all samples of its trial.

    Parameters
    ----------
    outputs : Outputs
        Of all samples, without dropout.
    trials : Tensor of int, shape (samples,)
        Equal for samples of the same trial.

    Returns
    -------
    dict of str to Tensor of shape (samples, classes)
        By branch, without the samples that its sensor lost; alike for all classes where
        none is left of a trial.
    """
    codes = trials.unique(return_inverse=True)[1]
    return {
        branch: _means(logits.softmax(-1), outputs.weight(branch), codes)
        for branch, logits in outputs.logits.items()
    }


def _means(probabilities: Tensor, weights: Tensor, codes: Tensor) -> Tensor:
    """Return every sample's trial's weighted mean."""
    # Of a target without samples, no trial.
    number, classes = (
        int(codes.amax(0)) + 1 if len(codes) else 0,
        probabilities.shape[-1],
    )
    counted = torch.cat([probabilities * weights[:, None], weights[:, None]], -1)
    sums = counted.new_zeros(number, classes + 1).index_add(0, codes, counted)
    mean = sums[:, :classes] / sums[:, classes:].clamp(min=1.0)
    found: Tensor = torch.where(sums[:, classes:] > 0, mean, 1 / classes)[codes]
    return found
