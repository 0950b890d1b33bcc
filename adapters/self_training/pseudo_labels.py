"""Pseudo-labels: the network learns the labels of which it is confident."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import torch
from torch import Tensor
from torch.nn import functional

from domainemo.adapters.alignment import Alignment, Weight
from domainemo.adapters.branches import (
    Branches,
    Schedule,
    cross_entropy,
    weighted_mean,
)
from domainemo.core import FUSION, Outputs, Source, Target
from domainemo.registry import register
from domainemo.values import Bounds

if TYPE_CHECKING:
    import optuna

__all__ = ["PseudoLabels", "class_thresholds"]

_TINY = 1e-12


@register
class PseudoLabels(Alignment):
    r"""Pseudo-labels of the target, with a threshold per class (curriculum, FlexMatch).

    .. math:: L = \frac{\sum_i v_i \, \mathrm{CE}(p_i, \hat y_i)}{\sum_i v_i}, \qquad
              v_i = [\max_k q_{ik} > T_{\hat y_i}]

    for each branch, with the label :math:`\hat y_i` that the fusion gives in a pass
    without dropout, :math:`q_i`. The threshold of a class is the lower, the less of it
    the network has learned: the class's share :math:`\sigma_c` of the target that is
    predicted above the full threshold :math:`\tau`, see `class_thresholds` (Zhang,
    Wang, Hou, Wu, Wang, Okumura and Shinozaki, NeurIPS 2021). Without the curriculum,
    :math:`T_c = \tau` (Lee, ICML workshop 2013).

    Differs from FlexMatch: there is no strong augmentation (see
    `ConsistencyUnderAugmentation`); the shares are moving averages over batches, where
    the paper remembers every sample's last label; and the weight is zero in the first
    third of training, as thresholds begin at zero.

    Parameters
    ----------
    weight, branches, schedule
        See `Alignment`.
    threshold : float
        Probability :math:`\tau` above which a label is confident.
    curriculum : bool
        Whether classes have thresholds of their own.
    momentum : float
        What share of itself a moving average keeps in every step.
    """

    needs_teacher = True
    learned: Tensor

    def __init__(
        self,
        *,
        weight: Weight = 1.0,
        branches: Branches = "all",
        schedule: Schedule = "delayed",
        threshold: Annotated[float, Bounds(0, 1)] = 0.95,
        curriculum: bool = True,
        momentum: Annotated[float, Bounds(0, below=1)] = 0.9,
    ) -> None:
        super().__init__(weight=weight, branches=branches, schedule=schedule)
        self.threshold, self.curriculum = threshold, curriculum
        self.momentum = momentum

    def prepare(self, dims: Mapping[str, int], classes: int, domains: int) -> None:
        """Begin with nothing learned of any class."""
        self.register_buffer("learned", torch.zeros(classes))

    def forward(self, source: Source, target: Target) -> dict[str, Tensor]:
        """Return one loss per branch; move the thresholds of the next step."""
        losses = super().forward(source, target)
        if self.training:
            self._learn(_teacher(target))
        return losses

    def discrepancy(self, source: Source, target: Target, branch: str) -> Tensor:
        """Return the cross-entropy with the labels that are believed."""
        teacher = _teacher(target)
        confidence, labels = teacher.logits[FUSION].detach().softmax(-1).max(-1)
        thresholds = self._thresholds().to(confidence.dtype)
        believed = confidence > thresholds[labels]
        outputs = target.outputs
        weights = believed * teacher.weight(FUSION) * outputs.weight(branch)
        return cross_entropy(outputs.logits[branch], labels, weights)

    def _thresholds(self) -> Tensor:
        if self.curriculum:
            return class_thresholds(self.learned, self.threshold)
        return torch.full_like(self.learned, self.threshold)

    @torch.no_grad()
    def _learn(self, teacher: Outputs) -> None:
        confidence, labels = teacher.logits[FUSION].softmax(-1).max(-1)
        members = functional.one_hot(labels, len(self.learned))
        sure = members * (confidence > self.threshold).unsqueeze(-1)
        shares = weighted_mean(sure.mT.to(confidence), teacher.weight(FUSION))
        self.learned.lerp_(shares.to(self.learned), 1 - self.momentum)

    @classmethod
    def space(cls, trial: optuna.Trial) -> dict[str, Any]:
        """Draw the weight and the threshold."""
        drawn = trial.suggest_float("threshold", 0.6, 0.99)
        return {**super().space(trial), "threshold": drawn}


def class_thresholds(learned: Tensor, threshold: float) -> Tensor:
    r"""Return the threshold of each class.

    .. math:: T_c = \tau \, \frac{\beta_c}{2 - \beta_c}, \qquad \beta_c =
              \frac{\sigma_c}{\max(\max_k \sigma_k, \; 1 - \sum_k \sigma_k)}

    which is zero while nothing is learned, and :math:`\tau` for the class that is
    learned best once most of the target is.

    Parameters
    ----------
    learned : Tensor of shape (..., classes)
        Share :math:`\sigma_c` of the target that is confidently of each class.
    threshold : float
        The full threshold :math:`\tau`.

    Returns
    -------
    Tensor of shape (..., classes)
    """
    unused = 1 - learned.sum(-1, keepdim=True)
    most = learned.amax(-1, keepdim=True).maximum(unused)
    status = learned / most.clamp(min=_TINY)
    return threshold * status / (2 - status)


def _teacher(target: Target) -> Outputs:
    return target.teacher or target.outputs
