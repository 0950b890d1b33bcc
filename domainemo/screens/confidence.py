"""Confidence-aware screening: which target samples to believe, who learns from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from ..core import FUSION, Outputs, Pseudo, Screen, Source, Target
from ..errors import ConfigurationError
from ..registry import register
from ..statistics.temperature import best_temperature
from ..values import Bounds
from .neighbours import with_neighbours
from .typicality import Typicality

__all__ = ["Judge", "Rule", "Screening", "Share", "confident"]

Rule = Literal["pooled", "calibrated", "balanced", "absolute"]
Judge = Literal["untaught", "mean-teacher", "current", "released"]
Share = Annotated[float, Bounds(0, 1, words="a number from 0 to 1")]
_ByBranch = Mapping[str, Tensor]


@register(name="confidence")
class Screening(Screen):
    r"""UF-AMA's screening by the confidence of each modality's own branch.

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

    Sensors are poor at times, and a branch is no less confident of a poor sample: some
    options ask for more than confidence. All are off by default; ``docs/screening.md``
    says when each of them fails.

    Parameters
    ----------
    rule : {"pooled", "calibrated", "balanced", "absolute"}
        What "confident" means: in the top `share` of all branches' confidences
        pooled (as released); in the top `share` of the branch's own, so that an
        overconfident branch does not crowd out the other; in the top `share` of what
        the branch gives the same class, so that no class crowds out another (Zou, Yu,
        Kumar and Wang, class-balanced self-training, ECCV 2018); or above `threshold`.
    share : float
        Share of the batch that counts as confident, for the three relative rules.
    threshold : float
        Probability above which a branch is confident, for ``absolute``.
    teaching_floor : float
        No branch teaches in a batch whose least confident "confident" probability
        is not above this (the released code: 0.9).
    judge : {"untaught", "mean-teacher", "current", "released"}
        Whose opinions count: the network's when training had come to `judged_from`,
        its moving average from then on (Tarvainen and Valpola, NIPS 2017), the
        network's own in a pass without dropout, or in training itself.
    judged_from : float
        Progress of training, from 0 to 1, at which an ``untaught`` judge, or a
        ``mean-teacher``, is set aside.
    judge_momentum : float
        What share of itself a ``mean-teacher`` keeps in every step.
    teachers : int
        Confident branches that must agree before any other is taught, beyond two
        modalities; of two, one may teach the other.
    own_opinion : float
        A branch, the fusion among them, learns a label only where the judge's own
        branch gives it at least this many times the probability of chance.
    contradiction : float
        A branch, the fusion among them, learns no label but its own where the judge's
        branch gives another one more than this probability:
        :math:`\max_k p_{ik} > t` and :math:`\arg\max_k p_{ik} \ne y_i`. 1 allows all;
        so does what is not below 1 less `own_opinion` times chance, which says it too.
    temperature : {"none", "held-out"}
        ``held-out`` divides each branch's logits by the temperature that fits source
        domains which are kept from training for this (see `best_temperature`), so that
        confidences of several branches mean the same.
    typicality : float
        A branch neither teaches nor learns a sample whose embedding is further from
        all source classes than all but this share of the source's own, see
        `Typicality`. 0 asks for nothing.
    neighbours : float
        How far what a branch says of a sample is the mean over the samples of its
        trial in the batch, see `with_neighbours`. From 0, not at all, to 1.
    labels : {"hard", "soft"}
        What is learned: the class, or the mean over confident branches of the judge's
        probabilities, :math:`q_i = \sum_b h_{bi} p_{bi} / \sum_b h_{bi}` where
        :math:`h_{bi}` says that a branch is confident.

    Raises
    ------
    ConfigurationError
        If an option asks what the judge makes of the source, and the judge is the
        network in training.
    """

    def __init__(
        self,
        *,
        rule: Rule = "pooled",
        share: Share = 0.5,
        threshold: Share = 0.9,
        teaching_floor: Share = 0.0,
        judge: Judge = "untaught",
        judged_from: Share = 0.6,
        judge_momentum: Annotated[float, Bounds(0, below=1)] = 0.99,
        teachers: Annotated[int, Bounds(least=1)] = 2,
        own_opinion: Annotated[float, Bounds(least=0)] = 1.0,
        contradiction: Share = 1.0,
        temperature: Literal["none", "held-out"] = "none",
        typicality: Share = 0.0,
        neighbours: Share = 0.0,
        labels: Literal["hard", "soft"] = "hard",
    ) -> None:
        super().__init__()
        self.rule, self.share, self.threshold = rule, share, threshold
        self.teaching_floor, self.judge = teaching_floor, judge
        apart = judge in ("untaught", "mean-teacher")
        self.judged_from = judged_from if apart else None
        self.judge_momentum = judge_momentum if judge == "mean-teacher" else None
        self.teachers, self.own_opinion = teachers, own_opinion
        self.contradiction, self.typicality = contradiction, typicality
        self.neighbours, self.labels = neighbours, labels
        self.needs_teacher, self.needs_trials = judge == "current", neighbours > 0
        self.temperature = temperature
        self.needs_training, self.held_out = typicality > 0, temperature == "held-out"
        self.known, self._scaled = nn.ModuleDict(), list[str]()
        if not apart and (self.needs_training or self.held_out):
            option = "typicality" if self.needs_training else "temperature"
            raise ConfigurationError(
                f"The screen has the option {option}, which needs what the judge makes "
                f"of the source, and the judge {judge!r}, which is the network as it "
                f"trains; expected the judge 'untaught' or 'mean-teacher'. Set one of "
                f"these, or leave {option} out."
            )

    def prepare(self, dims: Mapping[str, int], classes: int) -> None:
        """Make room for what is learned of the source."""
        if self.needs_training:
            made = {name: Typicality(dim, classes) for name, dim in dims.items()}
            self.known = nn.ModuleDict(made)
        self._scaled = list(dims) if self.held_out else []
        for name in self._scaled:
            self.register_buffer(_scale(name), torch.ones(()), persistent=False)

    def learn(self, training: Source | None, held_out: Source | None) -> None:
        """Learn what is typical, and how far each branch is to be believed."""
        for name, known in self.known.items():
            assert training is not None and isinstance(known, Typicality)
            seen = training.outputs.weight(name) > 0
            embeddings = training.outputs.embeddings[name][seen]
            known.learn(embeddings, training.labels[seen], self.typicality)
        if not self.held_out:
            return
        if held_out is None:
            raise ConfigurationError(
                "The screen has temperature 'held-out', and no source domain was kept "
                "from training; expected some. Hand them to `learn`, or leave the "
                "option out."
            )
        for name in self._scaled:
            seen = held_out.outputs.weight(name) > 0
            if seen.any():
                logits = held_out.outputs.logits[name][seen].cpu().numpy()
                labels = held_out.labels[seen].cpu().numpy()
                self.get_buffer(_scale(name)).fill_(best_temperature(logits, labels))

    def forward(self, target: Target) -> Pseudo:
        """Return the label of the most confident branch, and who learns from it."""
        judge = self.judging(target)
        outputs = judge or target.outputs
        typical = self._typical(outputs)
        beliefs = self._beliefs(outputs, typical, target.trials)
        modalities = outputs.modalities or (FUSION,)
        opinions = torch.stack([beliefs[name] for name in modalities], dim=-3)
        seen = [(outputs.weight(name) > 0) & typical[name] for name in modalities]
        confidences, labels = opinions.max(-1)
        confidences = torch.where(torch.stack(seen, dim=-2), confidences, -1.0)
        high = confident(
            confidences,
            rule=self.rule,
            share=self.share,
            threshold=self.threshold,
            labels=labels,
        )
        ranked = torch.where(high, confidences, -1.0)
        chosen = torch.take_along_dim(
            labels, ranked.argmax(-2, keepdim=True), dim=-2
        ).squeeze(-2)
        agree = ((labels == chosen.unsqueeze(-2)) | ~high).all(-2) & high.any(-2)
        agree = agree & (judge is not None)
        least = torch.where(high, confidences, torch.inf).amin((-2, -1))
        floor = (least > self.teaching_floor).unsqueeze(-1)
        learning = self._learning(modalities, high, agree, floor)
        weights = {
            name: (learns & typical[name] & self._inclined(beliefs[name], chosen)).to(
                confidences.dtype
            )
            for name, learns in learning.items()
        }
        shares = _shares(opinions, high, chosen) if self.labels == "soft" else None
        return Pseudo(chosen, weights, shares)

    def judging(self, target: Target) -> Outputs | None:
        """Return what the judge makes of the batch; None before there is one."""
        if self.judged_from is not None:
            return target.judge
        return (self.judge == "current" and target.teacher) or target.outputs

    def _learning(
        self, modalities: tuple[str, ...], high: Tensor, agree: Tensor, floor: Tensor
    ) -> _ByBranch:
        """Return who could learn which sample, as far as confidence goes."""
        sure, teaching = high.sum(-2), agree & floor
        if len(modalities) > 2:
            teaching = teaching & (sure >= self.teachers)
        taught = {
            name: teaching & ~high[..., index, :]
            for index, name in enumerate(modalities)
        }
        return {**taught, FUSION: agree & (sure >= min(2, len(modalities)))}

    def _typical(self, outputs: Outputs) -> _ByBranch:
        """Return which samples each branch finds typical."""
        if not self.needs_training:
            every = torch.ones_like(outputs.logits[FUSION][..., 0], dtype=torch.bool)
            return dict.fromkeys(outputs.logits, every)
        if not len(self.known):
            raise ConfigurationError(
                "The screen has the option typicality, and was never told how wide the "
                "network's embeddings are. Call its `prepare` first, and its `learn`."
            )
        return {
            name: known(outputs.embeddings[name]) for name, known in self.known.items()
        }

    def _beliefs(
        self, outputs: Outputs, typical: _ByBranch, trials: Tensor | None
    ) -> _ByBranch:
        """Return every branch's probabilities, scaled and with the neighbours'."""
        logits = {name: each.detach() for name, each in outputs.logits.items()}
        for name in self._scaled:
            logits[name] = logits[name] / self.get_buffer(_scale(name))
        found = {name: each.softmax(-1) for name, each in logits.items()}
        if not self.neighbours:
            return found
        if trials is None:
            raise ConfigurationError(
                "The screen has the option neighbours, and nothing tells which samples "
                "are of the same trial; expected `Target.trials`. Hand them over, or "
                "leave neighbours at 0."
            )
        good = {name: (outputs.weight(name) > 0) & typical[name] for name in found}
        return {
            name: with_neighbours(each, good[name], trials, self.neighbours)
            for name, each in found.items()
        }

    def _inclined(self, beliefs: Tensor, chosen: Tensor) -> Tensor:
        """Return where a branch's own opinion does not forbid the label."""
        own = torch.take_along_dim(beliefs, chosen.unsqueeze(-1), dim=-1).squeeze(-1)
        likely = own * beliefs.shape[-1] >= self.own_opinion
        confidence, label = beliefs.max(-1)
        return likely & ((label == chosen) | (confidence <= self.contradiction))


def confident(
    confidences: Tensor,
    *,
    rule: Rule,
    share: float,
    threshold: float,
    labels: Tensor | None = None,
) -> Tensor:
    """Return which branch is confident of which sample.

    Parameters
    ----------
    confidences : Tensor of shape (..., modalities, batch)
        Largest probability of each branch; -1 where its sensor lost the sample.
    rule, share, threshold
        See :class:`Screening`.
    labels : Tensor of int, shape (..., modalities, batch), optional
        The classes that they are of, for the rule ``balanced``.

    Returns
    -------
    Tensor of bool, shape (..., modalities, batch)
    """
    present = confidences >= 0
    if rule == "absolute":
        return present & (confidences > threshold)
    if rule == "balanced":
        assert labels is not None
        return _confident_by_class(confidences, labels, share) & present
    pool = confidences.flatten(-2) if rule == "pooled" else confidences
    order = pool.argsort(dim=-1, descending=True, stable=True)
    rank = order.argsort(dim=-1)
    count = (pool >= 0).sum(-1, keepdim=True) * share
    return (rank < count.round()).reshape(confidences.shape) & present


def _confident_by_class(confidences: Tensor, labels: Tensor, share: float) -> Tensor:
    """Return which are in the top share of those of the same branch and class."""
    place = torch.arange(confidences.shape[-1], device=confidences.device)
    own, other = confidences.unsqueeze(-1), confidences.unsqueeze(-2)
    before = (other > own) | ((other == own) & (place < place.unsqueeze(-1)))
    alike = (labels.unsqueeze(-1) == labels.unsqueeze(-2)) & (other >= 0)
    rank = (alike & before).sum(-1)
    return rank < (alike.sum(-1) * share).round()


def _shares(opinions: Tensor, high: Tensor, chosen: Tensor) -> Tensor:
    """Return the mean opinion of confident branches; of none, the label alone."""
    votes = high.unsqueeze(-1).to(opinions.dtype)
    count = votes.sum(-3)
    mean = (votes * opinions).sum(-3) / count.clamp(min=1.0)
    classes = torch.arange(opinions.shape[-1], device=opinions.device)
    alone = (chosen.unsqueeze(-1) == classes).to(opinions.dtype)
    return torch.where(count > 0, mean, alone)


def _scale(branch: str) -> str:
    return f"temperature_{branch}"
