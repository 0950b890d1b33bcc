"""Self-training by whole trials: what is doubtful in a window is clearer over many."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from torch import Tensor

from domainemo.adapters.alignment import Alignment, Weight
from domainemo.adapters.branches import Branches, cross_entropies
from domainemo.core import FUSION, Source, Target
from domainemo.registry import register
from domainemo.values import Bounds

if TYPE_CHECKING:
    import optuna

__all__ = ["Trust", "WholeTrials", "trusted"]

Trust = Literal["margin", "square", "all"]


@register
class WholeTrials(Alignment):
    r"""The network learns of each window what it said of the window's whole trial.

    .. math:: L = \frac{1}{n} \sum_i t_i \, \mathrm{CE}(p_i, \hat y_i), \qquad
              \hat y_i = \arg\max_k \bar q_{ik}, \qquad
              \bar q_i = \frac{1}{|T(i)|} \sum_{j \in T(i)} q_j

    on each branch, over the n samples of the target's batch that its sensor did not
    lose, with the fusion's probabilities :math:`q` of the network as it was when
    training had come to `judged_from`, and all samples :math:`T(i)` of the target that
    are of i's trial. How far a trial is trusted, :math:`t_i`, is by default the margin
    :math:`(K \max_k \bar q_{ik} - 1) / (K - 1)` over chance among K classes: what a
    trial does not tell is not learned.

    A trial has one label in every data set that this library reads, and a network's
    errors in single windows cancel in part over a trial. That is all the method knows;
    where trials have no one label, or errors are alike throughout a trial, it has
    nothing to gain, and of a trial that is a single sample it learns nothing. Trials
    are provenance: no label is looked at. What is predicted afterwards is a window by
    itself.

    It is this library's own; the judge is that of ``docs/harm.md``, which has learned
    from none of its own labels. ``docs/whole-trials.md`` has what it is worth.

    Parameters
    ----------
    weight, branches
        See `Alignment`.
    judged_from : float
        The progress of training, from 0 to 1, at which trials are judged, once. Before,
        nothing is learned of them.
    trust : {"margin", "square", "all"}
        By the margin; by its square, so that what is doubtful is hardly learned; or
        every trial alike, :math:`t_i = 1`.
    """

    needs_whole_trials = True

    def __init__(
        self,
        *,
        weight: Weight = 2.0,
        branches: Branches = "all",
        judged_from: Annotated[float, Bounds(0, 1)] = 0.5,
        trust: Trust = "margin",
    ) -> None:
        super().__init__(weight=weight, branches=branches, schedule="constant")
        self.judged_from, self.trust = judged_from, trust

    def discrepancy(self, source: Source, target: Target, branch: str) -> Tensor:
        """Return the cross-entropy with the trials' labels; zero before they are there.

        Parameters
        ----------
        source, target, branch
            As for an `Alignment`.
        """
        logits, there = target.outputs.logits[branch], target.outputs.weight(branch)
        if target.whole_trials is None:
            return (logits * 0.0).sum((-1, -2))
        labels, trust = trusted(target.whole_trials[FUSION], self.trust)
        errors = cross_entropies(logits, labels) * trust.to(logits.dtype) * there
        return errors.sum(-1) / there.sum(-1).clamp(min=1.0)

    @property
    def begins(self) -> float:
        """Where the judge is set aside."""
        assert self.judged_from is not None
        return self.judged_from

    @classmethod
    def space(cls, trial: optuna.Trial) -> dict[str, Any]:
        """Draw the weight, and how far trials are trusted."""
        ways = ["margin", "square", "all"]
        drawn = trial.suggest_categorical("trust", ways)
        return {**super().space(trial), "trust": drawn}


def trusted(trials: Tensor, trust: Trust) -> tuple[Tensor, Tensor]:
    """Return the label of every sample's trial, and how far it is trusted.

    Parameters
    ----------
    trials : Tensor of shape (..., batch, classes)
        Mean probabilities of each sample's trial.
    trust
        See :class:`WholeTrials`.

    Returns
    -------
    labels : Tensor of int, shape (..., batch)
    trust : Tensor of shape (..., batch)
        From 0 to 1.
    """
    most, labels = trials.max(-1)
    if trust == "all":
        return labels, torch.ones_like(most)
    classes = trials.shape[-1]
    margin = ((most * classes - 1) / max(classes - 1, 1)).clamp(min=0.0)
    return labels, margin.square() if trust == "square" else margin
