"""Domain confusion: the features make a discriminator answer fifty-fifty."""

from __future__ import annotations

from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from domainemo.adapters.branches import weighted_mean
from domainemo.core import Source, Target
from domainemo.registry import register

from .discriminator import Adversarial, domain_loss, perceptron

__all__ = ["DomainConfusion", "confusion_loss"]


@register(name="domain-confusion")
class DomainConfusion(Adversarial):
    r"""Features of which a discriminator thinks fifty-fifty: domain confusion.

    The discriminator D learns to tell the domains apart, on features without gradient;
    the features learn to have it answer uniformly, D being held fixed (Tzeng, Hoffman,
    Darrell and Saenko, Simultaneous deep transfer across domains and tasks, ICCV 2015):

    .. math:: \min_f \; -\frac12 \sum_{k \in \{s, t\}}
              \mathbb E_k \frac{\log D(f_k) + \log(1 - D(f_k))}{2}

    Unlike a reversed gradient, this one does not vanish where D is certain and right;
    its optimum is a D in doubt, not one that errs. D has hidden layers here, and is one
    linear layer in the paper, which takes both steps in turn; its soft labels, which
    need labels of the target, are left out.

    Parameters
    ----------
    weight, branches, schedule, width
        See `discriminator.Adversarial`; `weight` and `schedule` are the confusion's.
    """

    def adversary(self, dim: int, classes: int) -> nn.Module:
        """Return a discriminator."""
        return perceptron(dim, self.width, 1)

    def forward(self, source: Source, target: Target) -> dict[str, Tensor]:
        """Return the discriminator's loss and the confusion's on each branch."""
        losses = {}
        for branch, strength in self.strengths(target).items():
            discriminator = self.adversaries[branch]
            fixed = {k: v.detach() for k, v in discriminator.named_parameters()}
            domains = (source.outputs, target.outputs)
            features = [each.embeddings[branch] for each in domains]
            weights = [each.weight(branch) for each in domains]
            told = [discriminator(each.detach()).squeeze(-1) for each in features]
            losses[f"discriminator.{branch}"] = domain_loss(*told, *weights)
            told = [
                functional_call(discriminator, fixed, (each,)).squeeze(-1)
                for each in features
            ]
            confusion = confusion_loss(*told, *weights)
            losses[f"confusion.{branch}"] = strength * confusion
        return losses


def confusion_loss(
    source: Tensor, target: Tensor, source_weights: Tensor, target_weights: Tensor
) -> Tensor:
    """Return the cross-entropy between fifty-fifty and what a discriminator says.

    Parameters
    ----------
    source, target : Tensor of shape (..., batch)
        The discriminator's logits of being from the source.
    source_weights, target_weights : Tensor of shape (..., batch)

    Returns
    -------
    Tensor of shape (...)
        Log 2 at its least; zero where either domain has no weight.
    """
    means = [
        weighted_mean(functional.softplus(-told) + functional.softplus(told), weights)
        for told, weights in ((source, source_weights), (target, target_weights))
    ]
    both = (source_weights.sum(-1) > 0) & (target_weights.sum(-1) > 0)
    return (means[0] + means[1]) / 4 * both
