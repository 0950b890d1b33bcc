"""Temporal agreement: a sample's opinion counts with those of its trial."""

from __future__ import annotations

from torch import Tensor

__all__ = ["with_neighbours"]


def with_neighbours(
    probabilities: Tensor, believable: Tensor, trials: Tensor, share: float
) -> Tensor:
    r"""Return probabilities mixed with the mean over the same trial in the batch.

    .. math:: \tilde p_i = (1 - \lambda) \, p_i + \lambda \,
              \frac{\sum_{j \in T(i)} v_j p_j}{\sum_{j \in T(i)} v_j}

    with the samples :math:`T(i)` of the same trial, itself among them, of which
    :math:`v_j` says whether they can be believed at all. One that has none such stays
    as it is. A trial has one label, so that neighbours which differ make each other
    doubtful.

    Parameters
    ----------
    probabilities : Tensor of shape (..., batch, classes)
    believable : Tensor of bool, shape (..., batch)
    trials : Tensor of int, shape (..., batch)
        Equal for samples of the same trial.
    share : float
        The :math:`\lambda`, from 0 to 1.
    """
    same = trials.unsqueeze(-1) == trials.unsqueeze(-2)
    votes = (same & believable.unsqueeze(-2)).to(probabilities.dtype)
    count = votes.sum(-1, keepdim=True)
    mean = (votes @ probabilities) / count.clamp(min=1.0)
    mixed = probabilities.lerp(mean, share)
    return mixed.where(count > 0, probabilities)
