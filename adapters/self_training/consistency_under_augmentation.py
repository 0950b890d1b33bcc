"""Consistency under augmentation: a changed recording keeps its confident label."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import torch
from torch import Tensor

from domainemo.adapters.alignment import Alignment, Weight
from domainemo.adapters.branches import Branches, Schedule, cross_entropy
from domainemo.core import Batch, Source, Target
from domainemo.errors import ConfigurationError
from domainemo.registry import register
from domainemo.values import Bounds

if TYPE_CHECKING:
    import optuna

__all__ = ["ConsistencyUnderAugmentation", "perturbed"]


@register
class ConsistencyUnderAugmentation(Alignment):
    r"""Confident labels that survive noise, lost channels and other gains (FixMatch).

    .. math:: L = \frac{\sum_i v_i \, \mathrm{CE}(\tilde p_i, \hat y_i)}{\sum_i v_i},
              \qquad v_i = [\max_k q_{ik} \ge t]

    for each branch, with the label :math:`\hat y_i` of its prediction :math:`q_i` in a
    pass without dropout, and the prediction :math:`\tilde p_i` of the target batch
    `perturbed` (Sohn, Berthelot, Li, Zhang, Carlini, Cubuk, Kurakin, Zhang and Raffel,
    NeurIPS 2020).

    Differs from the paper: features are perturbed, no images; the weak augmentation is
    none; and the mean is over the samples that are confident, not over all.

    Parameters
    ----------
    weight, branches, schedule
        See `Alignment`.
    threshold : float
        Probability from which a label is learned, t.
    noise, channel_dropout, scaling : float
        See `perturbed`; 0 leaves one out.
    """

    needs_teacher = True

    def __init__(
        self,
        *,
        weight: Weight = 1.0,
        branches: Branches = "all",
        schedule: Schedule = "delayed",
        threshold: Annotated[float, Bounds(0, 1)] = 0.95,
        noise: Annotated[float, Bounds(least=0)] = 0.2,
        channel_dropout: Annotated[float, Bounds(0, below=1)] = 0.2,
        scaling: Annotated[float, Bounds(least=0)] = 0.2,
    ) -> None:
        super().__init__(weight=weight, branches=branches, schedule=schedule)
        self.threshold, self.noise = threshold, noise
        self.channel_dropout, self.scaling = channel_dropout, scaling

    def augment(
        self, signals: Mapping[str, Tensor], masks: Mapping[str, Tensor]
    ) -> Batch:
        """Return the batch perturbed, with the same masks."""
        changed = {
            name: perturbed(
                values,
                masks[name],
                noise=self.noise,
                channel_dropout=self.channel_dropout,
                scaling=self.scaling,
            )
            for name, values in signals.items()
        }
        return changed, dict(masks)

    def discrepancy(self, source: Source, target: Target, branch: str) -> Tensor:
        """Return the cross-entropy of the changed batch with the confident labels."""
        changed = target.augmented
        if changed is None:
            raise ConfigurationError(
                "consistency-under-augmentation was handed a target without "
                "`augmented`; expected what the network makes of the batch as its "
                "`augment` changes it. Fill it in, as training does."
            )
        teacher = target.teacher or target.outputs
        confidence, labels = teacher.logits[branch].detach().softmax(-1).max(-1)
        sure = confidence >= self.threshold
        weights = sure * teacher.weight(branch) * changed.weight(branch)
        return cross_entropy(changed.logits[branch], labels, weights)

    @classmethod
    def space(cls, trial: optuna.Trial) -> dict[str, Any]:
        """Draw the weight, the threshold and how much is changed."""
        return {
            **super().space(trial),
            "threshold": trial.suggest_float("threshold", 0.6, 0.99),
            "noise": trial.suggest_float("noise", 0, 0.5),
            "channel_dropout": trial.suggest_float("channel_dropout", 0, 0.5),
            "scaling": trial.suggest_float("scaling", 0, 0.5),
        }


def perturbed(
    values: Tensor,
    mask: Tensor,
    *,
    noise: float,
    channel_dropout: float,
    scaling: float,
) -> Tensor:
    """Return signals as another amplifier, skin or cap might have given them.

    Parameters
    ----------
    values : Tensor of shape (batch, time, channels, features)
    mask : bool Tensor of shape (batch, time)
        False where there is no signal; what becomes of that has no meaning.
    noise : float
        Standard deviation of normal noise on every value, relative to that of the
        channel's feature over the windows of the batch.
    channel_dropout : float
        Probability that a channel of a sample becomes zero throughout; not all do.
    scaling : float
        Standard deviation of the logarithm of the factor that multiplies a feature in
        all channels and windows of a sample.

    Returns
    -------
    Tensor of shape (batch, time, channels, features)
    """
    spread = _spread(values, mask)
    changed = values + noise * spread * torch.randn_like(values)
    gain = torch.randn_like(values[:, :1, :1]).mul(scaling).exp()
    chance = torch.rand_like(values[:, :1, :, :1])
    kept = chance >= channel_dropout
    kept = kept | ~kept.any(-2, keepdim=True)
    return changed * gain * kept


def _spread(values: Tensor, mask: Tensor) -> Tensor:
    """Return the standard deviation of each value over the windows there are."""
    there = mask[..., None, None].to(values.dtype)
    count = there.sum().clamp(min=1)
    mean = (values * there).sum((0, 1)) / count
    return (((values - mean) * there).square().sum((0, 1)) / count).sqrt()
