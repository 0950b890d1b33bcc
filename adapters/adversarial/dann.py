"""DANN: a discriminator tells the domains apart, the features hide them from it."""

from __future__ import annotations

from torch import Tensor, nn

from domainemo.core import Source, Target
from domainemo.registry import register

from .discriminator import Adversarial, domain_loss, perceptron
from .reversal import reverse

__all__ = ["DANN"]


@register(name="dann")
class DANN(Adversarial):
    r"""Features from which no discriminator tells the domain: adversarial (DANN).

    .. math:: \min_D L(D), \quad \max_f \lambda L(D), \quad L(D) = -\frac12
              \left(\mathbb E_s \log D(f_s) + \mathbb E_t \log(1 - D(f_t))\right)

    in one step by gradient reversal, with :math:`\lambda = w (2 / (1 + e^{-10p}) - 1)`
    at the progress p of training (Ganin et al., Domain-adversarial training of neural
    networks, JMLR 2016). Source subjects are one domain. The paper also anneals the
    learning rate, which is the trainer's affair here.

    Where the domains lie far apart, the discriminator is soon always right, and its
    reversed gradient vanishes: normalise per subject first, or see `DomainConfusion`.

    Parameters
    ----------
    weight, branches, schedule, width
        See `discriminator.Adversarial`.
    """

    def adversary(self, dim: int, classes: int) -> nn.Module:
        """Return a discriminator."""
        return perceptron(dim, self.width, 1)

    def forward(self, source: Source, target: Target) -> dict[str, Tensor]:
        """Return the discriminator's loss on each branch."""
        losses = {}
        for branch, strength in self.strengths(target).items():
            discriminator = self.adversaries[branch]
            domains = (source.outputs, target.outputs)
            seen = [reverse(each.embeddings[branch], strength) for each in domains]
            losses[branch] = domain_loss(
                *(discriminator(features).squeeze(-1) for features in seen),
                *(each.weight(branch) for each in domains),
            )
        return losses
