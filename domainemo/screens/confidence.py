"""Confidence-aware screening: which target samples to believe, who learns from them."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from torch import Tensor

from ..core import FUSION, Outputs, Pseudo, Screen, Target
from ..registry import register
from ..values import Bounds

__all__ = ["Judge", "Rule", "Screening", "confident"]

Rule = Literal["pooled", "calibrated", "absolute"]
Judge = Literal["untaught", "current", "released"]
Share = Annotated[float, Bounds(0, 1, words="a number from 0 to 1")]


@register(name="confidence")
class Screening(Screen):
    """UF-AMA's screening by the confidence of each modality's own branch.

    Where every modality is confident and all agree, the fusion learns from the
    common label. Where only one of two is confident, it teaches the other. Where
    none is, or the confident ones disagree, the sample is dropped. With more than
    two modalities, `teachers` confident ones that agree suffice, and every branch
    that is not confident is taught.

    Labels are given by a judge. Were it the network in training, taught branches
    would come to agree because they were taught, and their agreement would let the
    fusion learn: a label that is wrong for a person would prove itself right. So by
    default the judge is the network as it was before it learned from any label of
    this screen, and nothing is believed until it is there.

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
    judge : {"untaught", "current", "released"}
        Whose opinions count: the network's when training had come to `judged_from`,
        the network's own in a pass without dropout, or in training itself.
    judged_from : float
        Progress of training, from 0 to 1, at which an ``untaught`` judge is set aside.
    teachers : int
        Confident branches that must agree before any other is taught, beyond two
        modalities; of two, one may teach the other.
    own_opinion : float
        A branch, the fusion among them, learns a label only where the judge's own
        branch gives it at least this many times the probability of chance.
    """

    def __init__(
        self,
        *,
        rule: Rule = "pooled",
        share: Share = 0.5,
        threshold: Share = 0.9,
        teaching_floor: float = 0.0,
        judge: Judge = "untaught",
        judged_from: Share = 0.6,
        teachers: int = 2,
        own_opinion: float = 1.0,
    ) -> None:
        super().__init__()
        self.rule, self.share, self.threshold = rule, share, threshold
        self.teaching_floor, self.judge = teaching_floor, judge
        self.judged_from = judged_from if judge == "untaught" else None
        self.teachers, self.own_opinion = teachers, own_opinion
        self.needs_teacher = judge == "current"

    def forward(self, target: Target) -> Pseudo:
        """Return the label of the most confident branch, and who learns from it."""
        judge = self.judging(target)
        outputs = judge or target.outputs
        modalities, confidences, labels = _opinions(outputs)
        high = confident(
            confidences, rule=self.rule, share=self.share, threshold=self.threshold
        )
        ranked = torch.where(high, confidences, -1.0)
        chosen = torch.take_along_dim(
            labels, ranked.argmax(-2, keepdim=True), dim=-2
        ).squeeze(-2)
        agree = ((labels == chosen.unsqueeze(-2)) | ~high).all(-2) & high.any(-2)
        agree = agree & (judge is not None)
        sure = high.sum(-2)
        least = torch.where(high, confidences, torch.inf).amin((-2, -1))
        teaching = agree & (least > self.teaching_floor).unsqueeze(-1)
        if len(modalities) > 2:
            teaching = teaching & (sure >= self.teachers)
        learning = {
            name: teaching & ~high[..., index, :]
            for index, name in enumerate(modalities)
        }
        learning[FUSION] = agree & (sure >= min(2, len(modalities)))
        weights = {
            name: (learns & self._inclined(outputs.logits[name], chosen)).to(
                confidences.dtype
            )
            for name, learns in learning.items()
        }
        return Pseudo(labels=chosen, weights=weights)

    def judging(self, target: Target) -> Outputs | None:
        """Return what the judge makes of the batch; None before there is one."""
        if self.judge == "untaught":
            return target.judge
        return (self.judge == "current" and target.teacher) or target.outputs

    def _inclined(self, logits: Tensor, chosen: Tensor) -> Tensor:
        """Return where a branch gives the label enough probability of its own."""
        probabilities = logits.detach().softmax(-1)
        own = torch.take_along_dim(probabilities, chosen.unsqueeze(-1), dim=-1)
        return own.squeeze(-1) * logits.shape[-1] >= self.own_opinion


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


def _opinions(outputs: Outputs) -> tuple[tuple[str, ...], Tensor, Tensor]:
    modalities = outputs.modalities or (FUSION,)
    probabilities = torch.stack(
        [outputs.logits[name].detach().softmax(-1) for name in modalities], dim=-3
    )
    confidences, labels = probabilities.max(-1)
    seen = torch.stack([outputs.weight(name) for name in modalities], dim=-2) > 0
    return modalities, torch.where(seen, confidences, -1.0), labels
