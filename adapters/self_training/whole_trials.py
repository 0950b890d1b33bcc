"""Self-training by whole trials: what is doubtful in a window is clearer over many."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from torch import Tensor

from domainemo.adapters.alignment import Alignment, Weight
from domainemo.adapters.branches import Branches, soft_cross_entropies
from domainemo.core import FUSION, Source, Target
from domainemo.registry import register
from domainemo.values import Bounds

if TYPE_CHECKING:
    import optuna

__all__ = ["Trust", "WholeTrials", "margins", "sharpened"]

Trust = Literal["margin", "all"]

_TINY = 1e-12


@register
class WholeTrials(Alignment):
    r"""The network learns of each window what it said of the window's whole trial.

    .. math:: L = -\frac{1}{n} \sum_i t_i \sum_k \hat q_{ik} \log p_{ik}, \qquad
              \hat q_{ik} = \frac{\bar q_{ik}^{1/T}}{\sum_c \bar q_{ic}^{1/T}}, \qquad
              \bar q_i = \frac{1}{|T(i)|} \sum_{j \in T(i)} q_j

    on each branch, over the n samples of the target's batch that its sensor did not
    lose, with the fusion's probabilities :math:`q` of the network as it was when
    training had come to `judged_from`, and all samples :math:`T(i)` of the target that
    are of i's trial. How far a trial is trusted, :math:`t_i`, is by default the margin
    :math:`(K \max_k \bar q_{ik} - 1) / (K - 1)` over chance among K classes: what a
    trial does not tell is not learned.

    A mean over windows that disagree is less sure than it is right. Sharpened by the
    temperature T (Berthelot et al., MixMatch, NeurIPS 2019, eq. 7), it is about as sure
    as right with T = 1/2, on all recordings of ``docs/whole-trials.md``, so that what a
    window is taught of a trial is as doubtful as the trial was.

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
    temperature : float
        1 teaches the mean as it is, less than 1 a surer one, 0 the likeliest class.
    trust : {"margin", "all"}
        By the margin, or every trial of several samples alike, :math:`t_i = 1`.
    """

    needs_whole_trials = True

    def __init__(
        self,
        *,
        weight: Weight = 4.0,
        branches: Branches = "all",
        judged_from: Annotated[float, Bounds(0, 1)] = 0.5,
        temperature: Annotated[float, Bounds(0)] = 0.5,
        trust: Trust = "margin",
    ) -> None:
        super().__init__(weight=weight, branches=branches, schedule="constant")
        self.judged_from, self.temperature = judged_from, temperature
        self.trust = trust

    def discrepancy(self, source: Source, target: Target, branch: str) -> Tensor:
        """Return the cross-entropy with what trials tell; zero before they are there.

        Parameters
        ----------
        source, target, branch
            As for an `Alignment`.
        """
        logits, weights = target.outputs.logits[branch], target.outputs.weight(branch)
        if target.whole_trials is None:
            return (logits * 0.0).sum((-1, -2))
        trials = target.whole_trials[FUSION].to(logits.dtype)
        errors = soft_cross_entropies(logits, sharpened(trials, self.temperature))
        trusted = trials.sum(-1) > 0  # there were others to ask
        if self.trust == "margin":
            trusted = margins(trials)
        errors = errors * trusted
        return (errors * weights).sum(-1) / weights.sum(-1).clamp(min=1.0)

    @property
    def begins(self) -> float:
        """Where the judge is set aside."""
        assert self.judged_from is not None
        return self.judged_from

    @classmethod
    def space(cls, trial: optuna.Trial) -> dict[str, Any]:
        """Draw the weight, and how sure the labels are."""
        drawn = trial.suggest_float("temperature", 0.25, 1.0, log=True)
        return {**super().space(trial), "temperature": drawn}


def sharpened(shares: Tensor, temperature: float | Tensor) -> Tensor:
    """Return shares that are surer of the likeliest class, or, above 1, less sure.

    Parameters
    ----------
    shares : Tensor of shape (..., classes)
    temperature : float
        0 gives the first of the likeliest classes all. Or a Tensor above 0, of shape
        ().
    """
    if isinstance(temperature, Tensor) or temperature:
        return (shares.clamp(min=_TINY).log() / temperature).softmax(-1)
    places = torch.arange(shares.shape[-1], device=shares.device)
    return (places == shares.argmax(-1, keepdim=True)).to(shares.dtype)


def margins(shares: Tensor) -> Tensor:
    """Return by how much the likeliest class is above chance, from 0 to 1.

    Parameters
    ----------
    shares : Tensor of shape (..., classes)
    """
    classes = shares.shape[-1]
    return ((shares.amax(-1) * classes - 1) / max(classes - 1, 1)).clamp(min=0.0)
