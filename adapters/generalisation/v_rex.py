"""V-REx: the classification should be as hard in every source domain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from domainemo.adapters.alignment import Weight
from domainemo.adapters.branches import Branches, Schedule
from domainemo.adapters.domains import BetweenDomains, mean_over_present, risks
from domainemo.core import Source, Target
from domainemo.registry import register

if TYPE_CHECKING:
    import optuna

__all__ = ["VREx", "risk_variance"]


@register(name="v-rex")
class VREx(BetweenDomains):
    r"""Equal risks in all source domains, by their variance (V-REx), without a target.

    Risk extrapolation (Krueger, Caballero, Jacobsen, Zhang, Binas, Zhang, Le Priol and
    Courville, ICML 2021): the trainer's classification loss stands for the sum of the
    domains' risks, and this adds their variance, see `risk_variance`:

    .. math:: L = \frac1N \sum_{e=1}^{N} (R_e - \bar R)^2

    A domain's risk is that of its samples in the batch. With few of each, most of the
    variance is of the samples and not of the domains: take ``training.balance =
    "domains"`` and a larger ``training.batch_size``.

    Parameters
    ----------
    weight, branches
        See `Alignment`. The paper goes up to 10000; gradients are clipped here
        (``training.clip``), so that much more than 100 drowns the classification.
    schedule : {"delayed", "ramp", "constant", "released"}
        See `branches.schedule_factor`. The paper, too, lets the network learn to
        classify first.
    """

    needs_target = False

    def __init__(
        self,
        *,
        weight: Weight = 1.0,
        branches: Branches = "all",
        schedule: Schedule = "delayed",
    ) -> None:
        super().__init__(weight=weight, branches=branches, schedule=schedule)

    def discrepancy(self, source: Source, target: Target, branch: str) -> Tensor:
        """Return the variance of risks."""
        logits, belonging = source.outputs.logits[branch], self.members(source, branch)
        return risk_variance(logits, source.labels, belonging)

    @classmethod
    def space(cls, trial: optuna.Trial) -> dict[str, Any]:
        """Draw the weight."""
        return {"weight": trial.suggest_float("weight", 0.1, 100, log=True)}


def risk_variance(logits: Tensor, labels: Tensor, belonging: Tensor) -> Tensor:
    r"""Return the variance over domains of the mean cross-entropy.

    .. math:: \frac1N \sum_e \Big(R_e - \frac1N \sum_{e'} R_{e'}\Big)^2

    over the N domains that the batch shows (Krueger et al., 2021, equation 8).

    Parameters
    ----------
    logits : Tensor of shape (..., batch, classes)
    labels : Tensor of int, shape (..., batch)
    belonging : Tensor of shape (..., domains, batch)
        Weights of the samples by domain, see `domains.members`.

    Returns
    -------
    Tensor of shape (...)
        Zero of fewer than two domains.
    """
    each = risks(logits, labels, belonging)
    mean = mean_over_present(each, belonging).unsqueeze(-1)
    return mean_over_present((each - mean).square(), belonging)
