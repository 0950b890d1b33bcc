"""Mean teacher: the network agrees with the moving average of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from torch import Tensor

from domainemo.adapters.alignment import Alignment, Weight
from domainemo.adapters.branches import Branches, Schedule, weighted_mean
from domainemo.core import Source, Target
from domainemo.registry import register
from domainemo.values import Bounds

if TYPE_CHECKING:
    import optuna

__all__ = ["MeanTeacher", "disagreement"]


@register
class MeanTeacher(Alignment):
    r"""Agreement on the target with the network's moving average: mean teacher.

    .. math:: L = \frac{\sum_i v_i \frac1K \sum_k (p_{ik} - \tilde p_{ik})^2}
                       {\sum_i v_i}, \qquad
              v_i = [\max_k \tilde p_{ik} \ge t]

    for each branch, with the predictions :math:`\tilde p_i` of a teacher whose weights
    become :math:`m \tilde\theta + (1 - m) \theta` in every step (Tarvainen and Valpola,
    NIPS 2017); with a threshold t it is self-ensembling for domain adaptation (French,
    Mackiewicz and Fisher, ICLR 2018, t = 0.968).

    Differs from the papers: the teacher begins at `judged_from`, as a copy of a network
    that has learned the source, rather than with random weights; it predicts without
    dropout; no noise is added to either input, though `ConsistencyUnderAugmentation`
    may be joined; and the prediction is the network's, not the teacher's.

    Parameters
    ----------
    weight, branches, schedule
        See `Alignment`; the second paper's weight is 3.
    judge_momentum : float
        What share of itself the teacher keeps in every step, m.
    judged_from : float
        Progress of training, from 0 to 1, at which the teacher begins.
    threshold : float
        Probability from which the teacher's prediction is learned, t; 0 learns all.
    """

    def __init__(
        self,
        *,
        weight: Weight = 3.0,
        branches: Branches = "all",
        schedule: Schedule = "delayed",
        judge_momentum: Annotated[float, Bounds(0, below=1)] = 0.99,
        judged_from: Annotated[float, Bounds(0, 1)] = 0.3,
        threshold: Annotated[float, Bounds(0, 1)] = 0.0,
    ) -> None:
        super().__init__(weight=weight, branches=branches, schedule=schedule)
        self.judge_momentum, self.judged_from = judge_momentum, judged_from
        self.threshold = threshold

    def discrepancy(self, source: Source, target: Target, branch: str) -> Tensor:
        """Return the disagreement with the teacher; zero before there is one."""
        outputs, teacher = target.outputs, target.judge
        logits = outputs.logits[branch]
        if teacher is None:
            return logits.new_zeros(logits.shape[:-2])
        opinion = teacher.logits[branch].detach()
        sure = opinion.softmax(-1).amax(-1) >= self.threshold
        weights = sure * outputs.weight(branch) * teacher.weight(branch)
        return disagreement(logits, opinion, weights)

    @classmethod
    def space(cls, trial: optuna.Trial) -> dict[str, Any]:
        """Draw the weight and the teacher's momentum."""
        return {
            "weight": trial.suggest_float("weight", 0.1, 100, log=True),
            "judge_momentum": trial.suggest_float("judge_momentum", 0.9, 0.999),
        }


def disagreement(logits: Tensor, opinion: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean squared difference of probabilities.

    Parameters
    ----------
    logits, opinion : Tensor of shape (..., batch, classes)
    weights : Tensor of shape (..., batch)

    Returns
    -------
    Tensor of shape (...)
    """
    squares = (logits.softmax(-1) - opinion.softmax(-1)).square()
    return weighted_mean(squares.mean(-1), weights)
