"""Confidence-aware screening: which target samples to believe, who learns from them."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from domainemo.core import FUSION, Outputs, Pseudo, Screen, Target
from domainemo.errors import ConfigurationError

from .branches import one_of

__all__ = ["Rule", "Screening", "confident", "pseudo_of"]

Rule = Literal["pooled", "calibrated", "absolute"]
_RULES: tuple[Rule, ...] = ("pooled", "calibrated", "absolute")


class Screening(Screen):
    """UF-AMA's screening by the confidence of each modality's own branch.

    Where every modality is confident and all agree, the fusion learns from the
    common label. Where only one of two is confident, it teaches the other. Where
    none is, or the confident ones disagree, the sample is dropped. With more than
    two modalities, two confident ones that agree suffice, and every branch that is
    not confident is taught.

    Parameters
    ----------
    rule : {"pooled", "calibrated", "absolute"}
        What "confident" means: in the top `share` of all branches' confidences
        pooled (as released); in the top `share` of the branch's own, so that an
        overconfident branch does not crowd out the other; or above `threshold`.
    share : float
        Share of the batch that counts as confident, for the two relative rules.
    threshold : float
        Probability above which a branch is confident, for ``absolute``.
    teaching_floor : float
        No branch teaches in a batch whose least confident "confident" probability
        is not above this (the released code: 0.9).
    teacher : bool
        Judge by the pass without dropout; the released code does not.
    """

    def __init__(
        self,
        *,
        rule: Rule = "pooled",
        share: float = 0.5,
        threshold: float = 0.9,
        teaching_floor: float = 0.0,
        teacher: bool = True,
    ) -> None:
        super().__init__()
        one_of("screening", "rule", rule, _RULES)
        for name, value in (("share", share), ("threshold", threshold)):
            if not 0 <= value <= 1:
                raise ConfigurationError(
                    f"screening: {name} is {value}; expected a number from 0 to 1."
                )
        self.rule, self.share, self.threshold = rule, share, threshold
        self.teaching_floor, self.teacher = teaching_floor, teacher
        self.needs_teacher = teacher

    def forward(self, target: Target) -> Pseudo:
        """Return the label of the most confident branch, and who learns from it."""
        outputs = target.teacher if self.teacher else target.outputs
        modalities, confidences, labels = _opinions(outputs or target.outputs)
        high = confident(
            confidences, rule=self.rule, share=self.share, threshold=self.threshold
        )
        ranked = torch.where(high, confidences, -1.0)
        chosen = torch.take_along_dim(
            labels, ranked.argmax(-2, keepdim=True), dim=-2
        ).squeeze(-2)
        agree = ((labels == chosen.unsqueeze(-2)) | ~high).all(-2) & high.any(-2)
        enough = high.sum(-2) >= min(2, len(modalities))
        least = torch.where(high, confidences, torch.inf).amin((-2, -1))
        teaching = agree & (least > self.teaching_floor).unsqueeze(-1)
        weights = {
            name: (teaching & ~high[..., index, :]).to(confidences.dtype)
            for index, name in enumerate(modalities)
        }
        weights[FUSION] = (agree & enough).to(confidences.dtype)
        return Pseudo(labels=chosen, weights=weights)


def confident(
    confidences: Tensor, *, rule: Rule, share: float, threshold: float
) -> Tensor:
    """Return which branch is confident of which sample.

    Parameters
    ----------
    confidences : Tensor of shape (..., modalities, batch)
        Largest probability of each branch; -1 where its sensor lost the sample.
    rule, share, threshold
        See :class:`Screening`.

    Returns
    -------
    Tensor of bool, shape (..., modalities, batch)
    """
    present = confidences >= 0
    if rule == "absolute":
        return present & (confidences > threshold)
    pool = confidences.flatten(-2) if rule == "pooled" else confidences
    order = pool.argsort(dim=-1, descending=True, stable=True)
    rank = order.argsort(dim=-1)
    count = (pool >= 0).sum(-1, keepdim=True) * share
    return (rank < count.round()).reshape(confidences.shape) & present


def pseudo_of(target: Target, screen: Screen) -> Pseudo:
    """Return what the surrounding composite believes, or else what `screen` does."""
    return target.pseudo if target.pseudo is not None else screen(target)


def _opinions(outputs: Outputs) -> tuple[tuple[str, ...], Tensor, Tensor]:
    modalities = outputs.modalities or (FUSION,)
    probabilities = torch.stack(
        [outputs.logits[name].detach().softmax(-1) for name in modalities], dim=-3
    )
    confidences, labels = probabilities.max(-1)
    seen = torch.stack([outputs.weight(name) for name in modalities], dim=-2) > 0
    return modalities, torch.where(seen, confidences, -1.0), labels
