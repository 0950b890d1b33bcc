"""Weighted joint transport: how much each source domain carries is learned."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from domainemo.core import Source, Target
from domainemo.registry import register

from .exact import exact_plan
from .joint import JointTransport

__all__ = ["WeightedJDOT", "domain_masses"]

_ABSENT = -1e9


@register(name="weighted-jdot")
class WeightedJDOT(JointTransport):
    r"""Joint transport from several sources, with a learned weight per domain (WJDOT).

    .. math:: L = \min_\alpha \min_{P \in \Pi(a(\alpha), b)} \langle P, C \rangle, \quad
              a_i(\alpha) = \alpha_{d(i)} / n_{d(i)}

    with the costs :math:`C` of `JointTransport`, the source domain :math:`d(i)` of
    sample :math:`i`, of which the batch has :math:`n_{d(i)}`, and weights
    :math:`\alpha` of the domains that sum to one (Turrisi et al., 2022). Domains that
    are near to the target, in embeddings and in what their labels say of it, come to
    carry more.

    From the paper it differs in that

    - the embeddings learn too, as in DeepJDOT; there they are fixed beforehand, and
      the classifier alone learns from the target;
    - the weights are a softmax of parameters that train with the network, by the
      optimal cost's gradient; there they take projected steps on the simplex;
    - a step sees one batch, in which the domains that are absent have no weight;
    - the network also learns the labels of all domains alike: the weights are those of
      the transport alone.

    Its solver is combinatorial and runs on the CPU, so the loss does not vectorise
    over folds.

    Parameters
    ----------
    weight, label_weight, branches, schedule
        See `JointTransport`.
    """

    vectorises = False

    scores: nn.Parameter

    def prepare(self, dims: Mapping[str, int], classes: int, domains: int) -> None:
        """Start with equal weights."""
        self.scores = nn.Parameter(torch.zeros(domains))

    def forward(self, source: Source, target: Target) -> dict[str, Tensor]:
        """Return what the optimal plan costs in embeddings and in labels."""
        problem = self.problem(source, target)
        mass = domain_masses(self.scores, source.domains, problem.source_mass)
        plan, potential = exact_plan(problem.costs, mass, problem.target_mass)
        # Of value zero: the optimal cost grows with each mass as its potential says.
        # It counts once, for the plan sums to one.
        growth = ((mass - mass.detach()) * potential).sum(-1)
        problem = problem._replace(embeddings=problem.embeddings + growth)
        return self.losses(problem, plan, target)


def domain_masses(scores: Tensor, domains: Tensor, weights: Tensor) -> Tensor:
    r"""Return masses such that each domain has its share, and its samples alike.

    .. math:: a_i = w_i \frac{e^{s_{d(i)}} / \sum_{j: d(j) = d(i)} w_j}
              {\sum_{d: w_d > 0} e^{s_d}}

    Parameters
    ----------
    scores : Tensor of shape (domains,)
        Logarithms of the domains' shares, but for a constant.
    domains : Tensor of int, shape (..., batch)
    weights : Tensor of shape (..., batch)

    Returns
    -------
    Tensor of shape (..., batch)
        Sums to one, or is zero where no sample has weight.
    """
    members = functional.one_hot(domains, len(scores)).to(weights) * weights[..., None]
    sizes = members.sum(-2)
    absent = sizes <= 0
    shares = scores.masked_fill(absent, _ABSENT).softmax(-1) * ~absent
    return (members * (shares / sizes.clamp(min=1e-12))[..., None, :]).sum(-1)
