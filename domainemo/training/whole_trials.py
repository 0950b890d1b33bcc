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
        The place of the first sample of its trial.

    Returns
    -------
    dict of str to Tensor of shape (samples, classes)
        By branch, without the samples that its sensor lost; zero for all classes where
        fewer than two are left of a trial: alone, a sample would be taught what is said
        of it.
    """
    return {
        branch: _means(logits.softmax(-1), outputs.weight(branch), trials)
        for branch, logits in outputs.logits.items()
    }


def _means(probabilities: Tensor, weights: Tensor, trials: Tensor) -> Tensor:
    """Return the weighted mean of every sample's trial."""
    sums, counts = (
        torch.zeros_like(each).index_add(0, trials, each)[trials]
        for each in (probabilities * weights.unsqueeze(-1), weights)
    )
    counts = counts.unsqueeze(-1)
    return torch.where(counts > 1, sums / counts.clamp(min=1.0), 0.0)
